//! What a backup says, as entries of a stream that nobody sees yet.

use bytes::Bytes;

use super::{Restore, Stage};
use crate::delivery::Exchange;
use crate::jetstream::api::backup::{BackupConsumer, BackupState};
use crate::jetstream::api::consumer_config::{ConsumerConfig, ConsumerRequest};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::{self, check_reservation};
use crate::jetstream::backup::{Item, MAX_SEQUENCE, RestoredMessage};
use crate::jetstream::context::{Answer, Messages};
use crate::jetstream::engine::said::Admission;
use crate::jetstream::engine::turns::Turn;
use crate::jetstream::engine::view::{Reads, View};
use crate::jetstream::engine::{JetStream, Owned};
use crate::jetstream::stream::{Settings, scheduling_of};
use crate::planted::{self, Bug};
use crate::storage::change::{Change, NewMessage, Outcome};
use crate::storage::consumer::{ConsumerEntry, ConsumerState};
use crate::storage::file::store::StoreEvent;
use crate::storage::journal::Refused;
use crate::storage::ledger::NEVER_EXPIRES;
use crate::storage::memory::MemoryStore;
use crate::storage::{OwnerId, Scheduling, StorageKind};
use crate::time::{Duration, Now, WallTime};

/// No message was delivered more often.
const MAX_DELIVERIES: u64 = 1 << 31;

/// Where the messages are put.
#[derive(Debug)]
pub(super) enum Staged {
    /// There is no place for them yet, or none any more.
    Nothing,
    Memory(Box<MemoryStore>),
    /// In the volume, under the restore's owner.
    File(Reads),
}

/// A consumer of the stream to be.
#[derive(Debug)]
pub(super) struct RestoredConsumer {
    pub(super) owner: OwnerId,
    pub(super) name: String,
    pub(super) config: ConsumerConfig,
    pub(super) state: ConsumerState,
    /// Whether it is kept in files.
    pub(super) kept: bool,
}

/// What is to be proposed.
#[derive(Debug)]
pub(super) enum Proposal {
    Stream(Change),
    /// The state of a consumer, by its place.
    Consumer(usize),
}

fn failed(text: impl std::fmt::Display) -> ApiError {
    ErrorKind::StreamRestore.with(text)
}

impl JetStream {
    /// Takes what a backup says.
    pub(super) fn restored_item(&mut self, now: Now, key: usize, item: Item) -> Result<(), ApiError> {
        match item {
            Item::State(state) => self.stage_stream(key, state),
            Item::Consumer(name, consumer) => self.stage_consumer(now, key, name, *consumer),
            Item::Message(message) => {
                self.stage_message(now, key, message);
                Ok(())
            }
            Item::End => self.stage_end(now, key),
        }
    }

    /// Makes a place for the messages.
    fn stage_stream(&mut self, key: usize, state: BackupState) -> Result<(), ApiError> {
        let adding = |error: ApiError| failed(format_args!("error adding stream: {error}"));
        let Restore { account, owner, config, admission, .. } = &self.restores[key];
        let (account, owner, config) = (*account, *owner, config.clone());
        let Admission { reserved, refused } = admission.clone();
        if state.first_sequence > MAX_SEQUENCE || state.last_sequence > MAX_SEQUENCE {
            return Err(failed("error in state.json: no stream has as many messages"));
        }
        let limits = self.limits_of(account);
        let bytes = i64::try_from(state.bytes).unwrap_or(i64::MAX).max(config.max_bytes);
        check_reservation(&config, bytes, &limits, reserved)?;
        self.check_room(account, config.storage, state.bytes)?;
        if let Some(error) = refused {
            return Err(adding(error));
        }
        let settings = Settings::new(&config, &self.domain).map_err(failed)?;
        let first = state.first_sequence;
        let (staged, begins) = match config.storage {
            StorageKind::Memory => {
                (Staged::Memory(Box::new(MemoryStore::new(settings.store().clone()))), config.first_sequence)
            }
            StorageKind::File => {
                self.owners.insert(owner, Owned::Restore(key));
                self.stores.open_stream(owner, settings.store());
                (Staged::File(Reads::default()), config.first_sequence)
            }
        };
        if planted::bug(Bug::JsRestoredInPart) {
            let _ = self.record_restored_stream(key);
        }
        let restore = &mut self.restores[key];
        (restore.staged, restore.state) = (staged, state);
        restore.last = begins.max(1) - 1;
        if first > begins.max(1) {
            restore.todo.push_back(Proposal::Stream(Change::Compact { sequence: first }));
            restore.last = first - 1;
        }
        Ok(())
    }

    fn stage_consumer(
        &mut self,
        now: Now,
        key: usize,
        name: String,
        consumer: BackupConsumer,
    ) -> Result<(), ApiError> {
        let BackupConsumer { config, state } = consumer;
        let config = config.ok_or_else(|| failed(format_args!("consumer {name:?} is missing config")))?;
        let state = state.ok_or_else(|| failed(format_args!("consumer {name:?} is missing state")))?;
        let config = self
            .check_restored_consumer(key, &name, config)
            .map_err(|error| failed(format_args!("failed to add consumer {name:?}: {error}")))?;
        let state = checked_state(state, now.wall)
            .map_err(|error| failed(format_args!("failed to set consumer {name:?} state: {error}")))?;
        let owner = self.new_owner();
        let restore = &mut self.restores[key];
        let kept = restore.config.storage == StorageKind::File && !config.memory_storage;
        restore.todo.push_back(Proposal::Consumer(restore.consumers.len()));
        restore.consumers.push(RestoredConsumer { owner, name, config, state, kept });
        Ok(())
    }

    /// Checks a consumer as if it were created, but for that it need not be listened to.
    fn check_restored_consumer(
        &self,
        key: usize,
        name: &str,
        config: ConsumerConfig,
    ) -> Result<ConsumerConfig, ApiError> {
        let restore = &self.restores[key];
        let names = [&config.name, &config.durable];
        if names.iter().any(|said| !said.is_empty() && **said != name) {
            return Err(ErrorKind::ConsumerDurableNameNotMatchSubject.error());
        }
        if config.replicas > 1 {
            return Err(ErrorKind::StreamReplicasNotSupported.error());
        }
        let account = self.limits_of(restore.account);
        let request = ConsumerRequest { config, ..ConsumerRequest::default() };
        let mut config = request.check(&restore.config, &self.limits, &account)?;
        config.check_new_name(name)?;
        if restore.consumers.iter().any(|other| other.name == name) {
            return Err(ErrorKind::ConsumerAlreadyExists.error());
        }
        let others = restore.consumers.iter().map(|other| &other.config);
        let others: Vec<&ConsumerConfig> = others.filter(|other| !other.direct && !other.sourcing).collect();
        let most = limits::max_consumers(&restore.config, &self.limits, &account);
        if most.is_some_and(|most| others.len() as u64 >= most) && !config.direct {
            return Err(ErrorKind::MaximumConsumersLimit.error());
        }
        config.check_work_queue(&restore.config, others.into_iter())?;
        config.fill_inactive_threshold();
        Ok(config)
    }

    fn stage_message(&mut self, now: Now, key: usize, message: RestoredMessage) {
        let restore = &mut self.restores[key];
        let RestoredMessage { sequence, time, subject, headers, payload, ttl } = message;
        restore.skip_to(sequence - 1, now.wall);
        let lives = (ttl > 0 && ttl != NEVER_EXPIRES).then(|| Duration::from_secs(ttl));
        if lives.is_some_and(|lives| now.wall.since(time) > lives) {
            // It would go at once; its sequence is used.
            return restore.skip_to(sequence, now.wall);
        }
        let ttl = if restore.config.allow_message_ttl { ttl } else { 0 };
        let scheduling = match restore.config.allow_message_schedules {
            true => scheduling_of(&headers, time),
            false => Scheduling::None,
        };
        let message = NewMessage {
            sequence,
            time,
            subject,
            headers,
            payload,
            ttl,
            scheduling,
            ..NewMessage::default()
        };
        restore.todo.push_back(Proposal::Stream(Change::Store(message)));
        restore.last = sequence;
    }

    fn stage_end(&mut self, now: Now, key: usize) -> Result<(), ApiError> {
        let restore = &mut self.restores[key];
        restore.skip_to(restore.state.last_sequence, now.wall);
        let settings = Settings::new(&restore.config, &self.domain).map_err(failed)?;
        // Behind it, whatever was proposed is durable.
        let configure = Change::Configure(Box::new(settings.store().clone()));
        restore.todo.push_back(Proposal::Stream(configure));
        restore.stage = Stage::Whole;
        Ok(())
    }

    /// Proposes an entry. Returns `false`, and keeps it, if it can't be taken now.
    pub(super) fn propose_restored(&mut self, key: usize, proposal: Proposal) -> Result<bool, ApiError> {
        let restore = &mut self.restores[key];
        let owner = restore.owner;
        let (owner, kind, payload) = match (&proposal, &mut restore.staged) {
            (Proposal::Consumer(at), _) => {
                let consumer = &restore.consumers[*at];
                if !consumer.kept {
                    return Ok(true);
                }
                let mut bytes = Vec::new();
                let kind = ConsumerEntry::Replace(consumer.state.clone()).encode(&mut bytes);
                (consumer.owner, kind, vec![Bytes::from(bytes)].into())
            }
            (Proposal::Stream(change), Staged::Memory(store)) => {
                let outcome = store.apply(change.clone());
                while store.poll_removed().is_some() {}
                return check_outcome(outcome).map(|()| true);
            }
            (Proposal::Stream(change), Staged::File(_)) => {
                if !self.stores.is_settled(owner) {
                    restore.todo.push_front(proposal);
                    return Ok(false);
                }
                let (kind, payload) = change.encode();
                (owner, kind, payload)
            }
            (Proposal::Stream(_), Staged::Nothing) => return Ok(true),
        };
        if let Proposal::Consumer(at) = proposal {
            let settings = restore.consumers[at].config.settings();
            if !self.stores.has(owner) {
                self.stores.open_consumer(owner, settings, true);
            }
        }
        match self.stores.propose(owner, kind, payload) {
            Ok(position) => {
                if matches!(proposal, Proposal::Stream(_)) {
                    restore.proposed = position;
                }
                Ok(true)
            }
            Err(Refused::Busy | Refused::NotReady) => {
                restore.todo.push_front(proposal);
                Ok(false)
            }
            Err(Refused::Full) => Err(ErrorKind::StorageResourcesExceeded.error()),
            Err(refused) => Err(failed(refused)),
        }
    }

    /// The store of a staged stream tells something.
    pub(in super::super) fn hear_staged(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        event: StoreEvent,
    ) {
        let Some(restore) = self.restores.get_mut(key) else { return };
        let heard = match event {
            StoreEvent::Applied(position, outcome) => {
                restore.applied = position;
                check_outcome(outcome)
            }
            StoreEvent::Files(crate::storage::file::Event::Failed(failure)) => {
                Err(ErrorKind::StreamStoreFailed.with(failure))
            }
            _ => Ok(()),
        };
        if let Err(error) = heard {
            self.fail_restore(now, exchange, key, error);
        }
        self.line_up(Turn::Restore(key));
    }

    /// Counts what is staged to what its account and the server have.
    pub(super) fn note_staged(&mut self, exchange: &mut Exchange, key: usize) -> Result<(), ApiError> {
        let restore = &mut self.restores[key];
        let (account, kind, before) = (restore.account, restore.config.storage, restore.bytes);
        let mut view = match &mut restore.staged {
            Staged::Nothing => return Ok(()),
            Staged::Memory(store) => View::Memory(store),
            Staged::File(reads) => match self.stores.volume() {
                Some(volume) => View::File { volume, owner: restore.owner, reads },
                None => return Ok(()),
            },
        };
        let Answer::Ready(bytes) = view.ask(|ledger| Ok(ledger.bytes())) else { return Ok(()) };
        restore.bytes = bytes;
        for used in [&mut self.used, &mut self.accounts[account as usize].used] {
            *used.of_mut(kind) = used.of(kind).wrapping_add(bytes).wrapping_sub(before);
        }
        let left = self.left(account);
        self.tell_used(exchange, account, left.of(kind));
        self.check_room(account, kind, 0)
    }

    /// Checks that an account and the server have room for so many bytes more.
    fn check_room(&self, account: u32, kind: StorageKind, more: u64) -> Result<(), ApiError> {
        let assets = &self.accounts[account as usize];
        let of_account = assets.limits.and_then(|limits| match kind {
            StorageKind::Memory => limits.max_memory,
            StorageKind::File => limits.max_store,
        });
        let of_server = if kind == StorageKind::Memory { self.max_memory } else { self.max_store };
        let fits =
            |used: u64, limit: Option<u64>| limit.is_none_or(|limit| used.saturating_add(more) <= limit);
        let used = assets.used.of(kind).saturating_add(assets.elsewhere.of(kind));
        let used_of_all = self.used.of(kind).saturating_add(self.elsewhere.of(kind));
        match fits(used, of_account) && fits(used_of_all, of_server) {
            true => Ok(()),
            false if kind == StorageKind::Memory => Err(ErrorKind::MemoryResourcesExceeded.error()),
            false => Err(ErrorKind::StorageResourcesExceeded.error()),
        }
    }
}

impl Restore {
    /// Uses sequences up that have no messages.
    fn skip_to(&mut self, last: u64, time: WallTime) {
        if last > self.last {
            let count = last - self.last;
            let skip = Change::Skip { sequence: 0, count, time, unwanted: false };
            self.todo.push_back(Proposal::Stream(skip));
            self.last = last;
        }
    }
}

fn check_outcome(outcome: Outcome) -> Result<(), ApiError> {
    match outcome {
        Outcome::Stored(_) | Outcome::Removed(_) => Ok(()),
        Outcome::Refused(error) => Err(failed(format_args!("failed to store message: {error}"))),
    }
}

/// Checks what a backup says of a consumer, and that nothing in it is out of this world.
fn checked_state(mut state: ConsumerState, now: WallTime) -> Result<ConsumerState, String> {
    state.check().map_err(|error| error.to_string())?;
    let highest = [state.delivered.consumer, state.delivered.stream, state.last_only_through];
    let deliveries = state.pending.values().map(|pending| pending.sequence);
    if highest.into_iter().chain(deliveries).any(|sequence| sequence > MAX_SEQUENCE)
        || state.redelivered.values().any(|count| *count > MAX_DELIVERIES)
    {
        return Err("no consumer has delivered as much".to_owned());
    }
    for pending in state.pending.values_mut() {
        // One that was delivered in the future would never be delivered again.
        pending.time = pending.time.clamp(WallTime::from_unix_nanos(0), now);
    }
    Ok(state)
}
