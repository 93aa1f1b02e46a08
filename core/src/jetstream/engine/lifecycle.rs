//! Streams coming and going: from a request to the catalogue, from there to files and subscriptions, and back.
//!
//! A stream in files exists when the catalogue durably says so. Only then are its files made, and only when these are there does
//! it take messages, and is its creator answered: so there is no moment at which a stored message belongs to a stream that a
//! crash would take away. A stream in memory is there at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::assets::{Backing, Phase, StreamAssets};
use super::requests::{Asked, Task};
use super::said::{EngineId, Order, Said, Standing};
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Owned, Service, Ticketed};
use crate::jetstream::api::advisory::Action;
use crate::jetstream::api::consumer_config::ConsumerRequest;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::read::unmarshal;
use crate::jetstream::api::stream_config::{StreamConfig, StreamRequest};
use crate::jetstream::api::write::to_json;
use crate::jetstream::catalogue::{CatalogueEntry, ConsumerEntry, LockedEntry, StreamEntry};
use crate::jetstream::context::{Answer, Messages};
use crate::jetstream::stream::{Request, Settings, Stream, Wanting};
use crate::planted::{self, Bug};
use crate::storage::journal::Refused;
use crate::storage::memory::MemoryStore;
use crate::storage::{Cipher, OwnerId, Position, Retention, StorageKind};
use crate::subject::SubjectList;
use crate::time::{Now, WallTime};

/// The requests that are made most about a stream, which reach its shard without a way round; `?` is its name.
const STRAIGHT: [&str; 8] = [
    "$JS.API.STREAM.INFO.?",
    "$JS.API.STREAM.PURGE.?",
    "$JS.API.STREAM.MSG.*.?",
    "$JS.API.CONSUMER.CREATE.?",
    "$JS.API.CONSUMER.CREATE.?.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.?.*",
    "$JS.API.CONSUMER.INFO.?.*",
    "$JS.API.CONSUMER.DELETE.?.*",
];

/// What is done when the catalogue durably has a change.
#[derive(Debug)]
pub(super) enum Recorded {
    /// A stream is in it.
    StreamCreated(OwnerId, Order),
    /// A consumer is in it.
    ConsumerCreated(OwnerId),
    /// A consumer isn't in it any more.
    ConsumerDeleted(OwnerId, Option<Asked>),
    /// A stream has something to do.
    Task(OwnerId, Box<Task>),
    /// A stream that was restored is in it.
    StreamRestored(OwnerId),
    /// A stream isn't in it any more.
    StreamDeleted(Vec<OwnerId>, Order, Option<Asked>),
    /// What nothing names is in it as such.
    Strays,
    /// An order is carried out.
    Settled(Order, Standing),
}

impl JetStream {
    /// Makes a stream whose settings are checked. `asked` is answered when it takes messages.
    pub(super) fn create_stream(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        order: Order,
        config: Arc<StreamConfig>,
        asked: Asked,
    ) -> Result<(), ApiError> {
        let (owner, account) = (self.new_owner(), order.account);
        let created = now.wall;
        let there = Standing::There(Arc::clone(&config));
        if config.storage == StorageKind::Memory {
            let key = self.add_stream(account, owner, created, config);
            self.streams[key].creator = Some(asked);
            self.settle(now, exchange, order, there);
            self.start_stream(now, exchange, key);
            return Ok(());
        }
        if planted::bug(Bug::JsStreamBeforeCatalogue) {
            let key = self.add_stream(account, owner, created, config);
            self.streams[key].creator = Some(asked);
            self.settle(now, exchange, order, there);
            self.open_files(key);
            return Ok(());
        }
        let position = self.record_stream(account, owner, created, &config)?;
        let key = self.add_stream(account, owner, created, config);
        let stream = &mut self.streams[key];
        (stream.creator, stream.phase) = (Some(asked), Phase::Recording(position));
        self.recorded.push_back((position, Recorded::StreamCreated(owner, order)));
        Ok(())
    }

    /// Tells the home engine of an order when the catalogue durably has what came of it.
    pub(super) fn settle_when_recorded(&mut self, position: Position, order: Order, standing: Standing) {
        self.recorded.push_back((position, Recorded::Settled(order, standing)));
    }

    /// Tells the catalogue of a stream, or of its new settings.
    pub(super) fn record_stream(
        &mut self,
        account: u32,
        owner: OwnerId,
        created: WallTime,
        config: &StreamConfig,
    ) -> Result<Position, ApiError> {
        let account = self.accounts[account as usize].name.to_string();
        let config = Bytes::from(to_json(config));
        self.record(&CatalogueEntry::Stream(StreamEntry { owner, account, config, created }))
    }

    pub(super) fn record(&mut self, entry: &CatalogueEntry) -> Result<Position, ApiError> {
        self.stores.record(entry).map_err(|refused| match refused {
            Refused::Full => ErrorKind::InsufficientResources.error(),
            other => ErrorKind::StreamStoreFailed.with(other),
        })
    }

    /// Opens the streams and consumers of the catalogue, before the journal is read.
    pub(super) fn open_catalogue(&mut self, now: Now, exchange: &mut Exchange) {
        self.listens = true;
        let Some(catalogue) = self.stores.catalogue() else { return };
        let streams: Vec<(StreamEntry, Option<u32>)> =
            catalogue.streams().map(|entry| (entry.clone(), catalogue.sealed_before(entry.owner))).collect();
        let consumers: Vec<ConsumerEntry> = catalogue.consumers().cloned().collect();
        let locked: Vec<LockedEntry> = catalogue.locked().cloned().collect();
        self.report_locked(&locked);
        let mut opened = Vec::new();
        for (entry, before) in streams {
            let account = self.accounts.iter().position(|account| *account.name == *entry.account);
            let request = unmarshal::<StreamRequest>(&entry.config);
            let (Some(account), Ok(request)) = (account, request) else {
                let text = format!(
                    "JetStream stream {:016x} of account {:?} can't be opened: the account isn't configured, or a later version made it",
                    entry.owner.0, entry.account
                );
                self.notices.push_back(Notice::Error(text));
                continue;
            };
            let name = &request.config.name;
            if self.accounts[account].streams.contains_key(name) {
                // Made while another key was given, when nobody could know of the first.
                let text = format!(
                    "JetStream stream '{} > {name}' is there twice: {:016x} is left as it is; delete the other one, then restart",
                    entry.account, entry.owner.0
                );
                self.notices.push_back(Notice::Error(text));
                continue;
            }
            let name = format!("'{} > {name}'", entry.account);
            self.notices.extend(before.map(|epoch| {
                Notice::Info(match (epoch, self.stores.cipher()) {
                    (0, _) => format!("  Encrypting stream {name}"),
                    (_, Cipher::Aes256Gcm) => format!("  Converting to AES-GCM for stream {name}"),
                    _ => format!("  Converting to ChaCha20-Poly1305 for stream {name}"),
                })
            }));
            let config = Arc::new(request.config);
            opened.push((account as u32, Arc::clone(&config)));
            let key = self.add_stream(account as u32, entry.owner, entry.created, config);
            self.open_files(key);
            self.listen_for_stream(exchange, key);
        }
        for entry in consumers {
            let Some(&Owned::Stream(stream)) = self.owners.get(&entry.stream) else { continue };
            let Ok(request) = unmarshal::<ConsumerRequest>(&entry.config) else {
                let text =
                    format!("JetStream consumer {:?} can't be opened: a later version made it", entry.name);
                self.notices.push_back(Notice::Error(text));
                continue;
            };
            let config = request.config;
            self.stores.open_consumer(entry.owner, config.settings(), false);
            let key = self.add_consumer(stream, entry.owner, entry.name, entry.created, config, true);
            self.listen_for_consumer(exchange, key);
        }
        self.stores.all_opened();
        // Behind the subjects that they are reached by.
        if self.says_opened_early() {
            let said = Said::Opened { from: self.id, streams: opened };
            self.say(now, exchange, EngineId::HOME, said);
        }
    }

    /// Tells whether the home engine hears which streams there are before the journal is read. One that has none is soon
    /// ready; clients wait for that, and find a server that is well.
    pub(super) fn says_opened_early(&self) -> bool {
        self.id == EngineId::HOME || !self.streams.is_empty()
    }

    /// Tells of what no given key opens, in the reference's words: they are not there, and stay on disk as they are.
    fn report_locked(&mut self, locked: &[LockedEntry]) {
        let reason = match self.stores.cipher() {
            Cipher::None => "encryption not enabled",
            _ => "unable to recover keys",
        };
        let alone = |entry: &&LockedEntry| {
            entry.stream.is_none_or(|stream| locked.iter().all(|other| other.owner != stream))
        };
        for entry in locked.iter().filter(alone) {
            let what = if entry.stream.is_some() { "consumer" } else { "stream" };
            let text = format!("  Error decrypting our {what} metafile: {reason}");
            self.notices.push_back(Notice::Warning(text));
            let text = format!(
                "JetStream {what} {:016x} is left as it is; give the key that it was sealed with",
                entry.owner.0
            );
            self.notices.push_back(Notice::Warning(text));
        }
    }

    /// Adds a stream to the tables. It takes nothing yet.
    pub(super) fn add_stream(
        &mut self,
        account: u32,
        owner: OwnerId,
        created: WallTime,
        config: Arc<StreamConfig>,
    ) -> usize {
        let backing = match config.storage {
            StorageKind::File => Backing::File(super::view::Reads::default()),
            StorageKind::Memory => {
                // What the settings say of a store is worked out once more when it runs, and can't fail then.
                let settings = Settings::new(&config, &self.domain).map(|settings| settings.store().clone());
                Backing::Memory(Box::new(MemoryStore::new(settings.unwrap_or_default())))
            }
        };
        let name = config.name.clone();
        let key = self.streams.insert(StreamAssets {
            account,
            owner,
            created,
            config,
            phase: Phase::Opening,
            machine: None,
            backing,
            removed: Vec::new(),
            live_from: None,
            last_proposed: Position::default(),
            last_applied: Position::default(),
            services: Vec::new(),
            creator: None,
            tasks: VecDeque::new(),
            held: VecDeque::new(),
            changes: Vec::new(),
            consumers: std::collections::BTreeMap::new(),
            wanted: SubjectList::new(self.rng.hash_keys()),
            bytes: 0,
            queued: false,
            deadline: None,
        });
        self.accounts[account as usize].streams.insert(name, key);
        self.owners.insert(owner, Owned::Stream(key));
        key
    }

    fn open_files(&mut self, key: usize) {
        let stream = &mut self.streams[key];
        stream.phase = Phase::Opening;
        match Settings::new(&stream.config, &self.domain) {
            Ok(settings) => self.stores.open_stream(stream.owner, settings.store()),
            Err(error) => {
                stream.phase = Phase::Failed;
                let text = format!("JetStream stream {:?} can't be opened: {error}", stream.config.name);
                self.notices.push_back(Notice::Error(text));
            }
        }
    }

    /// Changes of the catalogue through `position` are durable.
    pub(super) fn recorded(&mut self, now: Now, exchange: &mut Exchange, position: Position) {
        self.last_recorded = position;
        self.wake_restores();
        while let Some((_, recorded)) = self.recorded.pop_front_if(|(at, _)| *at <= position) {
            match recorded {
                Recorded::StreamCreated(owner, order) => {
                    if let Some(&Owned::Stream(key)) = self.owners.get(&owner) {
                        let config = Arc::clone(&self.streams[key].config);
                        self.open_files(key);
                        self.settle(now, exchange, order, Standing::There(config));
                    }
                }
                Recorded::Settled(order, standing) => self.settle(now, exchange, order, standing),
                Recorded::Strays => self.stores.note_strays(now.instant),
                Recorded::ConsumerCreated(owner) => self.consumer_recorded(now, exchange, owner),
                Recorded::ConsumerDeleted(owner, asked) => {
                    self.remove_files(owner);
                    if let Some(asked) = asked {
                        self.answer_deleted(now, exchange, &asked);
                    }
                }
                Recorded::Task(owner, task) => {
                    if let Some(&Owned::Stream(key)) = self.owners.get(&owner) {
                        self.do_task(now, exchange, key, *task);
                    }
                }
                Recorded::StreamRestored(owner) => {
                    if let Some(&Owned::Restore(key)) = self.owners.get(&owner) {
                        self.stream_restored(now, exchange, key);
                    }
                }
                Recorded::StreamDeleted(owners, order, asked) => {
                    owners.into_iter().for_each(|owner| self.remove_files(owner));
                    self.settle(now, exchange, order, Standing::Gone);
                    if let Some(asked) = asked {
                        self.answer_deleted(now, exchange, &asked);
                    }
                }
            }
        }
    }

    /// Lets a stream take messages, if its store is there with all that the journal has of it.
    pub(super) fn start_stream(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.phase != Phase::Opening {
            return;
        }
        let is_file = matches!(stream.backing, Backing::File(_));
        if is_file && !self.stores.is_settled(stream.owner) {
            return;
        }
        let Ok(settings) = Settings::new(&stream.config, &self.domain) else { return };
        let Some(mut view) = stream.view(&mut self.stores) else { return };
        let asked = view.ask(|ledger| Ok((ledger.last_sequence(), ledger.config().clone())));
        let Answer::Ready((last, there)) = asked else { return };
        let align = there != *settings.store();
        let mut machine = Stream::new(settings.clone(), last, &mut self.rng);
        machine.set_inbound(self.inbound);
        if !stream.consumers.is_empty() {
            machine.hold();
        }
        stream.machine = Some(Box::new(machine));
        stream.phase = Phase::Running;
        self.keep_for_strays(key);
        let stream = &mut self.streams[key];
        if stream.services.is_empty() {
            self.listen_for_stream(exchange, key);
        }
        if align {
            self.change_stream(now, exchange, key, Request::Configure(Box::new(settings)), Ticketed::Align);
        }
        let stream = &mut self.streams[key];
        if let (Some(machine), changes) = (&mut stream.machine, std::mem::take(&mut stream.changes)) {
            changes.into_iter().for_each(|(ticket, request)| machine.request(ticket, request));
        }
        let creator = stream.creator.take();
        let created = creator.is_some();
        stream.tasks.extend(creator.map(Task::Created));
        let (account, name) = (stream.account, stream.config.name.clone());
        if created && planted::bug(Bug::JsStreamBeforeCatalogue) {
            let (owner, created, config) = (stream.owner, stream.created, stream.config.clone());
            let _ = self.record_stream(account, owner, created, &config);
        }
        if created {
            self.advise_stream(now, exchange, account, &name, Action::Create);
        }
        let stream = &mut self.streams[key];
        let consumers: Vec<usize> = stream.consumers.values().copied().collect();
        for consumer in consumers {
            self.start_consumer(now, exchange, consumer);
        }
        self.check_orphans(key);
        self.follow_up(now, exchange, key);
        self.run_tasks(now, exchange, key);
        self.take_held(now, exchange, key);
        self.line_up(Turn::Stream(key));
    }

    /// Has a stream that keeps messages by interest keep everything, where there may be a consumer of it that nobody knows any more.
    pub(super) fn keep_for_strays(&mut self, key: usize) {
        let Some(stray) = self.strays.first().copied() else { return };
        let stream = &mut self.streams[key];
        if let (Some(machine), None, Retention::Interest) =
            (&mut stream.machine, &stream.creator, stream.config.retention)
        {
            machine.set_consumer(stray, Wanting::default());
        }
    }

    /// Subscribes what a stream stores, and its direct gets.
    fn listen_for_stream(&mut self, exchange: &mut Exchange, key: usize) {
        let (account, subjects) = (self.streams[key].account, self.streams[key].config.subjects.clone());
        for subject in subjects {
            self.serve_stream(exchange, key, account, subject.as_bytes(), Service::Stream(key));
        }
        self.serve_direct(exchange, key);
        self.serve_requests(exchange, key);
    }

    /// Listens for requests about a stream, which the home engine would have to pass on.
    fn serve_requests(&mut self, exchange: &mut Exchange, key: usize) {
        // On one shard there is nothing straighter, and whoever listens to a request besides would answer it, too.
        if self.id == EngineId::HOME || exchange.shards() == 1 {
            return;
        }
        let (account, name) = (self.streams[key].account, self.streams[key].config.name.clone());
        for subject in STRAIGHT {
            let subject = subject.replace('?', &name);
            if let Ok(number) = exchange.serve_shared(account, subject.as_bytes()) {
                self.services.insert(number, Service::Api);
                self.streams[key].services.push(number);
            }
        }
    }

    /// Looks, once all consumers of a stream are known after a start, for messages that a crash left behind between their
    /// last acknowledgement and their removal.
    pub(super) fn check_orphans(&mut self, key: usize) {
        let Some(stream) = self.streams.get(key) else { return };
        let phase = |key: &usize| self.consumers.get(*key).map(|consumer| consumer.phase);
        // One that is being made wants what comes behind it.
        if stream.machine.is_none() || stream.consumers.values().any(|key| phase(key) == Some(Phase::Opening))
        {
            return;
        }
        // One whose state can't be read isn't waited for, but nor does anything go that it may want.
        let unknown = stream.consumers.values().copied().filter(|key| phase(key) == Some(Phase::Failed));
        for consumer in unknown.collect::<Vec<_>>() {
            self.tell_retention(consumer);
        }
        if let Some(machine) = self.streams.get_mut(key).and_then(|stream| stream.machine.as_mut()) {
            machine.check_orphans();
            self.line_up(Turn::Stream(key));
        }
    }

    /// Listens for direct gets, if the stream allows them.
    fn serve_direct(&mut self, exchange: &mut Exchange, key: usize) {
        let stream = &self.streams[key];
        if !stream.config.allow_direct {
            return;
        }
        let (account, name) = (stream.account, stream.config.name.clone());
        for subject in [format!("$JS.API.DIRECT.GET.{name}"), format!("$JS.API.DIRECT.GET.{name}.>")] {
            self.serve_stream(exchange, key, account, subject.as_bytes(), Service::Direct(key));
        }
    }

    /// Listens for what a stream's new settings say.
    pub(super) fn resubscribe(&mut self, exchange: &mut Exchange, key: usize, config: &StreamConfig) {
        let stream = &mut self.streams[key];
        if stream.config.subjects == config.subjects && stream.config.allow_direct == config.allow_direct {
            return;
        }
        let (account, old) = (stream.account, std::mem::take(&mut stream.services));
        Arc::make_mut(&mut stream.config).allow_direct = config.allow_direct;
        if stream.phase == Phase::Running {
            for subject in &config.subjects {
                self.serve_stream(exchange, key, account, subject.as_bytes(), Service::Stream(key));
            }
            self.serve_direct(exchange, key);
            self.serve_requests(exchange, key);
        }
        for service in old {
            exchange.serve_no_more(service);
            self.services.remove(&service);
        }
    }

    fn serve_stream(
        &mut self,
        exchange: &mut Exchange,
        key: usize,
        account: u32,
        subject: &[u8],
        service: Service,
    ) {
        // Its settings were checked: it is a subject.
        let number = match service {
            // What is stored is copied.
            Service::Stream(_) => exchange.serve_passing(account, subject),
            _ => exchange.serve(account, subject),
        };
        if let Ok(number) = number {
            self.services.insert(number, service);
            self.streams[key].services.push(number);
        }
    }

    /// Takes a stream out. `asked` is answered when that is durable.
    pub(super) fn delete_stream(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        order: Order,
        asked: Option<Asked>,
    ) -> Result<(), ApiError> {
        let stream = &self.streams[key];
        let (owner, durable) = (stream.owner, stream.config.storage == StorageKind::File);
        let durable = durable && !planted::bug(Bug::JsDeletedComesBack);
        let position = match durable {
            true => Some(self.record(&CatalogueEntry::Forget(owner))?),
            false => None,
        };
        let mut owners = self.remove_stream(now, exchange, key);
        owners.push(owner);
        match position {
            Some(position) => {
                self.recorded.push_back((position, Recorded::StreamDeleted(owners, order, asked)));
            }
            None => {
                self.settle(now, exchange, order, Standing::Gone);
                if let Some(asked) = asked {
                    self.answer_deleted(now, exchange, &asked);
                }
            }
        }
        Ok(())
    }

    /// Takes a stream with its consumers out of the tables, and returns those consumers' owners that the journal knows.
    fn remove_stream(&mut self, now: Now, exchange: &mut Exchange, key: usize) -> Vec<OwnerId> {
        let consumers: Vec<usize> = self.streams[key].consumers.values().copied().collect();
        let mut owners = Vec::new();
        for consumer in consumers {
            if self.consumers[consumer].kept {
                owners.push(self.consumers[consumer].owner);
            }
            self.say_goodbye(now, exchange, consumer);
            self.drop_consumer(exchange, consumer);
        }
        let mut stream = self.streams.remove(key);
        let (kind, bytes) = (stream.config.storage, stream.bytes);
        for used in [&mut self.used, &mut self.accounts[stream.account as usize].used] {
            *used.of_mut(kind) = used.of(kind).saturating_sub(bytes);
        }
        for service in stream.services.drain(..) {
            exchange.serve_no_more(service);
            self.services.remove(&service);
        }
        self.accounts[stream.account as usize].streams.remove(&stream.config.name);
        self.owners.remove(&stream.owner);
        if let Some(deadline) = stream.deadline {
            self.deadlines.remove(&(deadline, Turn::Stream(key)));
        }
        if let Some(machine) = &mut stream.machine {
            machine.fail(&mut self.out, ErrorKind::StreamNotFound.error());
        }
        self.publish_out(now, exchange, stream.account);
        self.tell_used(exchange, stream.account, 0);
        self.advise_stream(now, exchange, stream.account, &stream.config.name, Action::Delete);
        owners
    }

    /// Removes what the journal and the folders have of a stream or a consumer that the catalogue durably hasn't.
    ///
    /// Should the journal not take it now, the next start finds entries of nobody, and does.
    fn remove_files(&mut self, owner: OwnerId) {
        self.stores.remove(owner);
    }

    pub(super) fn new_owner(&mut self) -> OwnerId {
        loop {
            // The lowest numbers are for what isn't a stream or consumer.
            let owner = OwnerId(self.rng.next_u64() | 1 << 32);
            if !self.owners.contains_key(&owner) {
                return owner;
            }
        }
    }
}
