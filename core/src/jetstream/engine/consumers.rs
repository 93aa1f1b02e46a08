//! Consumers coming and going, and what is under way for each.
//!
//! A durable consumer's settings are in the catalogue, its progress in the journal under an owner of its own; it works when
//! both are there and its stream runs. One in memory, or of a stream in memory, is there at once and ends with the process.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::assets::{Backing, Listeners, Phase};
use super::lifecycle::Recorded;
use super::requests::{Asked, Task};
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Owned, Service};
use crate::ids::short_hash;
use crate::jetstream::api::advisory::Action;
use crate::jetstream::api::consumer_config::{AckPolicy, ConsumerConfig};
use crate::jetstream::api::error::ApiError;
use crate::jetstream::api::response::ConsumerInfo;
use crate::jetstream::api::write::to_json;
use crate::jetstream::catalogue::{CatalogueEntry, ConsumerEntry};
use crate::jetstream::consumer::{Consumer, Event, Setup};
use crate::jetstream::context::{Answer, Context};
use crate::jetstream::stream::Wanting;
use crate::planted::{self, Bug};
use crate::storage::consumer::{ConsumerState, KeptConsumer, Known};
use crate::storage::kept::Kept;
use crate::storage::{OwnerId, Position, Ranges, Retention};
use crate::time::{Instant, Now, WallTime};

use super::asset::Asset;

/// A consumer.
#[derive(Debug)]
pub(super) struct ConsumerAssets {
    pub(super) stream: usize,
    pub(super) account: u32,
    pub(super) owner: OwnerId,
    pub(super) name: String,
    pub(super) created: WallTime,
    /// As it was asked for and checked; the machine's while there is one.
    pub(super) config: ConsumerConfig,
    /// Whether it is in the catalogue and the journal.
    pub(super) kept: bool,
    pub(super) phase: Phase,
    pub(super) machine: Option<Box<Consumer>>,
    /// Whether it was made since the start: there is nothing to be known of it.
    pub(super) fresh: bool,
    pub(super) services: Vec<u32>,
    /// Who made it, until he is told.
    pub(super) creator: Option<Asked>,
    /// Who asked for the same meanwhile.
    pub(super) also: Vec<Asked>,
    /// What it was before it delivered anything, which is what its creator is told.
    pub(super) born: Option<Box<ConsumerInfo>>,
    /// The state that it is restored with, until it works; of one that is kept the journal has it.
    pub(super) restored: Option<Box<ConsumerState>>,
    /// Whether it knows where it starts.
    pub(super) started: bool,
    /// Whether it waits for the disk.
    pub(super) waits: bool,
    pub(super) queued: bool,
    pub(super) deadline: Option<Instant>,
}

impl JetStream {
    /// Makes a consumer whose settings are checked and whose name is free. `asked` is answered when it works.
    pub(super) fn create_consumer(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: usize,
        name: String,
        config: ConsumerConfig,
        asked: Asked,
    ) -> Result<(), ApiError> {
        let owner = self.new_owner();
        let kept = matches!(self.streams[stream].backing, Backing::File(_)) && !config.memory_storage;
        let key = self.add_consumer(stream, owner, name, now.wall, config, kept);
        self.consumers[key].creator = Some(asked);
        if !kept {
            self.start_consumer(now, exchange, key);
            return Ok(());
        }
        match self.record_consumer(key) {
            Ok(position) => {
                self.consumers[key].phase = Phase::Recording(position);
                self.recorded.push_back((position, Recorded::ConsumerCreated(owner)));
                Ok(())
            }
            Err(error) => {
                self.drop_consumer(exchange, key);
                Err(error)
            }
        }
    }

    /// Tells the catalogue of a consumer, or of its new settings.
    pub(super) fn record_consumer(&mut self, key: usize) -> Result<Position, ApiError> {
        let consumer = &self.consumers[key];
        let entry = ConsumerEntry {
            owner: consumer.owner,
            stream: self.streams[consumer.stream].owner,
            name: consumer.name.clone(),
            config: request_of(&consumer.config),
            created: consumer.created,
        };
        self.record(&CatalogueEntry::Consumer(entry))
    }

    /// Adds a consumer to the tables.
    pub(super) fn add_consumer(
        &mut self,
        stream: usize,
        owner: OwnerId,
        name: String,
        created: WallTime,
        config: ConsumerConfig,
        kept: bool,
    ) -> usize {
        let account = self.streams[stream].account;
        let key = self.consumers.insert(ConsumerAssets {
            stream,
            account,
            owner,
            name: name.clone(),
            created,
            config,
            kept,
            phase: Phase::Opening,
            machine: None,
            fresh: false,
            services: Vec::new(),
            creator: None,
            also: Vec::new(),
            born: None,
            restored: None,
            started: false,
            waits: false,
            queued: false,
            deadline: None,
        });
        self.streams[stream].consumers.insert(name, key);
        self.owners.insert(owner, Owned::Consumer(key));
        key
    }

    /// The catalogue durably has a consumer.
    pub(super) fn consumer_recorded(&mut self, now: Now, exchange: &mut Exchange, owner: OwnerId) {
        let Some(&Owned::Consumer(key)) = self.owners.get(&owner) else { return };
        let settings = self.consumers[key].config.settings();
        self.consumers[key].fresh = true;
        self.stores.open_consumer(owner, settings, true);
        self.start_consumer(now, exchange, key);
    }

    /// Lets a consumer work, if its stream runs and its state is read.
    pub(super) fn start_consumer(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(stream) = self.streams.get_mut(consumer.stream) else { return };
        if consumer.machine.is_some() || consumer.phase == Phase::Failed || stream.phase != Phase::Running {
            return;
        }
        let known = match consumer.kept {
            true => match self.stores.consumer_state(consumer.owner) {
                // One of before the start, of which there should be something.
                Some(Known::Nothing) if !consumer.fresh => Known::Lost,
                Some(known) => known,
                None => return,
            },
            false => consumer.restored.take().map_or(Known::Nothing, |state| Known::Whole(*state)),
        };
        let setup = Setup {
            account: self.accounts[consumer.account as usize].name.to_string(),
            stream: stream.config.name.clone(),
            name: consumer.name.clone(),
            domain: self.domain.clone(),
            created: consumer.created,
            retention: stream.config.retention,
            largest_message: match u64::try_from(stream.config.max_message_size) {
                Ok(size) if size > 0 => size,
                _ => self.max_payload,
            },
            keeps_entries: consumer.kept,
        };
        let listeners = Listeners { exchange, account: consumer.account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let config = consumer.config.clone();
        let machine = match &known {
            Known::Nothing => Consumer::new(setup, config, &mut context),
            Known::Whole(state) => Consumer::recover(setup, config, state, &mut context),
            Known::Floor(floor) => Consumer::resume(setup, config, Some(floor), &mut context),
            Known::Lost => Consumer::resume(setup, config, None, &mut context),
        };
        if let Known::Floor(_) = known {
            let text = format!(
                "JetStream consumer {:?} of stream {:?}: not all that it had is known: what it may not have is delivered again",
                consumer.name, stream.config.name
            );
            self.notices.push_back(Notice::Warning(text));
        }
        let state = match known {
            Known::Whole(state) | Known::Floor(state) => Some(state),
            Known::Nothing | Known::Lost => None,
        };
        if stream.config.retention != Retention::Limits
            && let Some(machine_of_stream) = &mut stream.machine
        {
            machine_of_stream.set_consumer(consumer.owner, wanting(&consumer.config, state.as_ref()));
        }
        consumer.machine = Some(Box::new(machine));
        consumer.phase = Phase::Running;
        let (recovered, of_stream) = (state.is_some(), consumer.stream);
        let held = stream.machine.as_ref().is_some_and(|machine| machine.is_held());
        if recovered || held {
            self.check_orphans(of_stream);
        }
        if self.consumers[key].services.is_empty() {
            self.listen_for_consumer(exchange, key);
        }
        self.note_birth(now, exchange, key);
        self.line_up(Turn::Consumer(key));
        self.consumer_follow_up(now, exchange, key);
        if self.streams.get(of_stream).is_some_and(|stream| !stream.tasks.is_empty()) {
            // Somebody may have asked for it.
            self.line_up(Turn::Stream(of_stream));
        }
        self.take_held(now, exchange, of_stream);
    }

    /// Notes what a consumer is before it delivers anything: clients know by its creator's answer how much is to come.
    fn note_birth(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let consumer = &mut self.consumers[key];
        let (Some(machine), true) = (&mut consumer.machine, consumer.creator.is_some()) else { return };
        let Some((_, mut view)) = self.streams[consumer.stream].parts(&mut self.stores) else { return };
        let listeners = Listeners { exchange, account: consumer.account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        if let Answer::Ready(info) = machine.info(&mut context, &mut view) {
            consumer.born = Some(Box::new(info));
        }
    }

    /// Subscribes what a consumer is reached by, and enters what it wants of its stream.
    pub(super) fn listen_for_consumer(&mut self, exchange: &mut Exchange, key: usize) {
        let Some(consumer) = self.consumers.get(key) else { return };
        let Some(stream) = self.streams.get_mut(consumer.stream) else { return };
        let (stream_name, name, account) = (&stream.config.name, &consumer.name, consumer.account);
        let mut subjects = Vec::new();
        if !matches!(consumer.config.ack_policy, AckPolicy::None | AckPolicy::FlowControl) {
            subjects.push((format!("$JS.ACK.{stream_name}.{name}.>"), Service::Ack(key)));
            // The second form, with the domain and the account: what says another's is meant for another server.
            let domain = if self.domain.is_empty() { "_" } else { &self.domain };
            let account = short_hash(&self.accounts[account as usize].name);
            subjects.push((format!("$JS.ACK.{domain}.{account}.{stream_name}.{name}.>"), Service::Ack(key)));
        }
        match consumer.config.is_push() {
            true if consumer.config.flow_control => {
                subjects.push((format!("$JS.FC.{stream_name}.{name}.*"), Service::FlowControl(key)));
            }
            _ => {}
        }
        // A push consumer answers that it is one.
        subjects.push((format!("$JS.API.CONSUMER.MSG.NEXT.{stream_name}.{name}"), Service::Next(key)));
        if consumer.config.is_push() {
            let subject = consumer.config.deliver_subject.as_bytes().into();
            self.pushing.entry((account, subject)).or_default().push(key);
            exchange.watch_interest(account, true);
        }
        for filter in filters(&consumer.config) {
            let _ = stream.wanted.insert(filter.as_bytes(), key);
        }
        for (subject, service) in subjects {
            if let Ok(number) = exchange.serve(account, subject.as_bytes()) {
                self.services.insert(number, service);
                self.consumers[key].services.push(number);
            }
        }
    }

    /// Takes other settings, which are checked; returns with which position the catalogue has them, if it is to have them.
    pub(super) fn update_consumer(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        config: ConsumerConfig,
    ) -> Result<Option<Position>, ApiError> {
        let consumer = &mut self.consumers[key];
        let before = std::mem::replace(&mut consumer.config, config);
        let mut recorded = None;
        if consumer.kept {
            match self.record_consumer(key) {
                Ok(position) => recorded = Some(position),
                Err(error) => {
                    self.consumers[key].config = before;
                    return Err(error);
                }
            }
        }
        self.stop_listening(exchange, key, &before);
        let consumer = &mut self.consumers[key];
        let listeners = Listeners { exchange, account: consumer.account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        if let Some(machine) = &mut consumer.machine {
            machine.configure(consumer.config.clone(), &mut context);
        }
        self.listen_for_consumer(exchange, key);
        self.tell_retention(key);
        self.line_up(Turn::Consumer(key));
        self.consumer_follow_up(now, exchange, key);
        Ok(recorded)
    }

    /// Push consumers whose subscribers came or went hear of it.
    pub(super) fn hear_interest(&mut self, now: Now, exchange: &mut Exchange, changed: &[(u32, Box<[u8]>)]) {
        for change in changed {
            let (account, subject) = (change.0, &change.1);
            self.snapshots_hear_interest(now, exchange, account, subject);
            for key in self.pushing.get(change).cloned().unwrap_or_default() {
                let Some(consumer) = self.consumers.get_mut(key) else { continue };
                let Some(machine) = &mut consumer.machine else { continue };
                let listeners = Listeners { exchange, account };
                let mut context =
                    Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
                machine.interest_changed(&mut context);
                self.consumer_follow_up(now, exchange, key);
            }
        }
    }

    /// What a consumer has can't be known, before the next start at least; nobody is to wait for it any longer. One that works
    /// already, and whose file can't be written, knows it, and so does the journal: that one goes on.
    pub(super) fn consumer_unknown(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let consumer = &mut self.consumers[key];
        if consumer.machine.is_none() {
            consumer.phase = Phase::Failed;
            let (stream, config) = (consumer.stream, consumer.config.clone());
            // Who asks it for messages is told that nobody answers.
            self.stop_listening(exchange, key, &config);
            self.check_orphans(stream);
            self.run_tasks(now, exchange, stream);
            // It isn't answered any more, but what waits behind it is.
            self.take_held(now, exchange, stream);
        }
    }

    /// Tells a stream that keeps messages by interest what a consumer wants and has now. Of one that isn't known it is
    /// everything: the next start may find how far it is, and what went meanwhile would be lost to it.
    pub(super) fn tell_retention(&mut self, key: usize) {
        let consumer = &self.consumers[key];
        let Some(stream) = self.streams.get_mut(consumer.stream) else { return };
        let state = consumer.machine.as_ref().map(|machine| machine.state());
        if stream.config.retention != Retention::Limits
            && (state.is_some() || consumer.phase == Phase::Failed)
            && let Some(of_stream) = &mut stream.machine
        {
            of_stream.set_consumer(consumer.owner, wanting(&consumer.config, state.as_ref()));
            self.line_up(Turn::Stream(consumer.stream));
        }
    }

    /// A stream's retention may be another now: its consumers tell from now on what they have, or no more.
    pub(super) fn retention_changed(&mut self, key: usize) {
        let retention = self.streams[key].config.retention;
        let keys: Vec<usize> = self.streams[key].consumers.values().copied().collect();
        for key in keys {
            if let Some(machine) = &mut self.consumers[key].machine {
                machine.set_retention(retention);
            }
            self.tell_retention(key);
        }
    }

    fn stop_listening(&mut self, exchange: &mut Exchange, key: usize, config: &ConsumerConfig) {
        let consumer = &mut self.consumers[key];
        let subject: (u32, Box<[u8]>) = (consumer.account, config.deliver_subject.as_bytes().into());
        if config.is_push()
            && let Some(keys) = self.pushing.get_mut(&subject)
            && keys.contains(&key)
        {
            keys.retain(|other| *other != key);
            if keys.is_empty() {
                self.pushing.remove(&subject);
            }
            exchange.watch_interest(subject.0, false);
        }
        for service in consumer.services.drain(..) {
            exchange.serve_no_more(service);
            self.services.remove(&service);
        }
        if let Some(stream) = self.streams.get_mut(consumer.stream) {
            for filter in filters(config) {
                let _ = stream.wanted.remove(filter.as_bytes(), &key);
            }
        }
    }

    /// Takes a consumer out. `asked` is answered when that is durable.
    pub(super) fn delete_consumer(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        asked: Option<Asked>,
    ) -> Result<(), ApiError> {
        let (owner, kept) = (self.consumers[key].owner, self.consumers[key].kept);
        let position = match kept {
            true => Some(self.record(&CatalogueEntry::Forget(owner))?),
            false => None,
        };
        self.say_goodbye(now, exchange, key);
        let stream = self.consumers[key].stream;
        self.drop_consumer(exchange, key);
        if let Some(stream) = self.streams.get_mut(stream)
            && let Some(machine) = &mut stream.machine
        {
            machine.remove_consumer(owner);
        }
        self.line_up(Turn::Stream(stream));
        match (position, asked) {
            (Some(position), asked) => {
                self.recorded.push_back((position, Recorded::ConsumerDeleted(owner, asked)));
            }
            (None, Some(asked)) => self.answer_deleted(now, exchange, &asked),
            (None, None) => {}
        }
        Ok(())
    }

    /// Tells who waits at a consumer that it is gone.
    pub(super) fn say_goodbye(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let account = self.consumers[key].account;
        let listeners = Listeners { exchange, account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        if let Some(machine) = &mut self.consumers[key].machine {
            machine.deleted(&mut context);
        }
        self.publish_out(now, exchange, account);
        let consumer = &self.consumers[key];
        let names = (self.streams[consumer.stream].config.name.clone(), consumer.name.clone());
        self.advise_consumer(now, exchange, account, (&names.0, &names.1), Action::Delete);
    }

    /// Takes a consumer out of the tables.
    pub(super) fn drop_consumer(&mut self, exchange: &mut Exchange, key: usize) {
        let config = self.consumers[key].config.clone();
        self.stop_listening(exchange, key, &config);
        let consumer = self.consumers.remove(key);
        self.owners.remove(&consumer.owner);
        if let Some(deadline) = consumer.deadline {
            self.deadlines.remove(&(deadline, Turn::Consumer(key)));
        }
        if let Some(stream) = self.streams.get_mut(consumer.stream) {
            stream.consumers.remove(&consumer.name);
        }
    }

    /// Proposes what a consumer wants written, and passes on what it says: to be called when it was called.
    pub(super) fn consumer_follow_up(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let first = self.consumers.iter().find(|(_, consumer)| consumer.kept).map(|(_, first)| first.owner);
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(machine) = consumer.machine.as_deref_mut() else { return };
        let (account, owner, stream) = (consumer.account, consumer.owner, consumer.stream);
        let writes_for = first.filter(|_| planted::bug(Bug::JsEntriesOfAnother)).unwrap_or(owner);
        while let Some(entry) = machine.poll_entry(now.instant) {
            let mut bytes = Vec::with_capacity(64);
            let kind = entry.encode(&mut bytes);
            match self.stores.propose(writes_for, kind, vec![Bytes::from(bytes)]) {
                Ok(position) => machine.proposed(position),
                Err(_) => machine.refused(now.instant),
            }
        }
        let (mut expired, mut freed) = (false, false);
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Acknowledged { sequence } => {
                    if let Some(stream) = self.streams.get_mut(stream)
                        && let Some(of_stream) = &mut stream.machine
                    {
                        of_stream.acknowledged(owner, sequence);
                    }
                    freed = true;
                }
                Event::Expired => expired = true,
            }
        }
        let (deadline, started) = (machine.poll_timeout(), machine.has_started());
        // One that waits for the disk is put in line when the disk has said something. Before that nothing would come of its
        // turns, of which there would be no end: what the disk says is only heard when nobody has a turn any more.
        let more = machine.needs_advance() && !consumer.waits;
        if deadline != consumer.deadline {
            if let Some(old) = std::mem::replace(&mut consumer.deadline, deadline) {
                self.deadlines.remove(&(old, Turn::Consumer(key)));
            }
            self.deadlines.extend(deadline.map(|deadline| (deadline, Turn::Consumer(key))));
        }
        let first = started && !std::mem::replace(&mut consumer.started, started);
        let creator = if started { consumer.creator.take() } else { None };
        let also = if started { std::mem::take(&mut consumer.also) } else { Vec::new() };
        self.publish_out(now, exchange, account);
        if first {
            // Only now is it known from where on it wants anything.
            self.tell_retention(key);
        }
        if let Some(asked) = creator {
            let names = (self.streams[stream].config.name.clone(), self.consumers[key].name.clone());
            self.advise_consumer(now, exchange, account, (&names.0, &names.1), Action::Create);
            match self.consumers[key].born.take() {
                Some(info) => self.answer_consumer_created(now, exchange, &asked, *info),
                None => self.do_task(now, exchange, stream, Task::ConsumerCreated(asked, owner)),
            }
        }
        for asked in also {
            self.do_task(now, exchange, stream, Task::ConsumerCreated(asked, owner));
        }
        if freed {
            self.line_up(Turn::Stream(stream));
        }
        if more {
            self.line_up(Turn::Consumer(key));
        }
        if expired && self.delete_consumer(now, exchange, key, None).is_err() {
            // It is found unused again.
            self.line_up(Turn::Consumer(key));
        }
    }
}

impl super::stores::Stores {
    /// Returns what is known of a consumer that the catalogue has: `None` while it is being read.
    pub(super) fn consumer_state(&mut self, owner: OwnerId) -> Option<Known> {
        if !self.is_ready() {
            return None;
        }
        let volume = self.volume()?;
        if !volume.is_settled(owner) {
            return None;
        }
        match volume.store(owner)? {
            Asset::Consumer(kept) => state_of(kept),
            Asset::Stream(_) | Asset::Removal(_) => None,
        }
    }
}

fn state_of(kept: &Kept<KeptConsumer>) -> Option<Known> {
    kept.is_ready().then(|| kept.state().known())
}

/// Returns the settings of a consumer as the request that makes one of them, which is read again at the next start.
pub(super) fn request_of(config: &ConsumerConfig) -> Bytes {
    let mut json = b"{\"config\":".to_vec();
    json.extend_from_slice(&to_json(config));
    json.push(b'}');
    json.into()
}

/// Returns what a consumer wants of its stream: everything, if it doesn't say.
fn filters(config: &ConsumerConfig) -> impl Iterator<Item = &str> {
    let all = config.filters().next().is_none().then_some(">");
    all.into_iter().chain(config.filters())
}

/// Returns what a consumer wants, and what of it it has.
fn wanting(config: &ConsumerConfig, state: Option<&ConsumerState>) -> Wanting {
    let filters = config.filters().map(|filter| Bytes::copy_from_slice(filter.as_bytes())).collect();
    let Some(state) = state else { return Wanting { filters, ..Wanting::default() } };
    // What was delivered too often is neither pending nor acknowledged: it stays for somebody to look at.
    let open: BTreeSet<u64> = state.pending.keys().chain(state.redelivered.keys()).copied().collect();
    let floor = open.first().map_or(state.ack_floor.stream, |first| state.ack_floor.stream.min(first - 1));
    let mut acknowledged = Ranges::default();
    let mut from = floor + 1;
    for sequence in open {
        if sequence > from {
            acknowledged.insert(from, sequence - 1);
        }
        from = from.max(sequence + 1);
    }
    if state.delivered.stream >= from {
        acknowledged.insert(from, state.delivered.stream);
    }
    Wanting { filters, floor, acknowledged }
}
