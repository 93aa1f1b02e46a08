//! A stream over a store in memory, and a journal that commits when the test says so.

mod expiry;
mod model;
mod reads;
mod refusals;
mod retention;
mod script;

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::api::stream_config::{Republish, StreamConfig, SubjectTransformConfig};
use super::super::context::{Answer, Context, Interest, Messages, Outgoing};
use super::{Budget, DirectGet, Event, Incoming, Progress, Request, Settings, Stream, Ticket, scheduling_of};
use crate::rng::Rng;
use crate::storage::change::{Change, Outcome, StoreError};
use crate::storage::journal::Refused;
use crate::storage::ledger::Ledger;
use crate::storage::memory::MemoryStore;
use crate::storage::{Discard, LimitError, Lookup, Message, OwnerId, Retention, Scheduling, StorageKind};
use crate::time::{Duration, Instant, Now, WallTime};

/// A store whose disk may be slow.
pub(super) struct Slow {
    pub(super) store: MemoryStore,
    /// Whether everything has to wait.
    pub(super) waits: bool,
    /// Whether a message has to wait when it is read for the first time.
    pub(super) cold: bool,
    /// What was read.
    pub(super) warm: BTreeSet<u64>,
}

impl Slow {
    pub(super) fn new(store: MemoryStore) -> Self {
        Slow { store, waits: false, cold: false, warm: BTreeSet::new() }
    }
}

impl Messages for Slow {
    fn ask<T>(&mut self, mut question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T> {
        if self.waits { Answer::Wait } else { Answer::Ready(self.store.ask(|ledger| question(ledger))) }
    }

    fn load(&mut self, sequence: u64) -> Answer<Option<Message>> {
        if self.waits || (self.cold && self.warm.insert(sequence)) {
            return Answer::Wait;
        }
        Answer::Ready(self.store.load(sequence))
    }
}

/// When every test begins.
pub(super) const BEGIN: WallTime = WallTime::from_unix_nanos(1_700_000_000_000_000_000);

pub(super) struct Nobody;

impl Interest for Nobody {
    fn has_interest(&self, _: &[u8]) -> bool {
        false
    }

    fn has_subscriber(&self, _: &[u8], _: &[u8]) -> bool {
        false
    }
}

/// A stream, its store, and the journal between them.
pub(super) struct World {
    pub(super) stream: Stream,
    pub(super) disk: Slow,
    /// What the journal has and hasn't committed.
    pub(super) journal: VecDeque<Change>,
    pub(super) out: Vec<Outgoing>,
    pub(super) now: Now,
    rng: Rng,
    /// Why the journal takes nothing, if it doesn't.
    pub(super) refuses: Option<Refused>,
    /// Whether it takes nothing for now.
    pub(super) busy: bool,
    /// How many bytes the account may store.
    pub(super) budget: u64,
    /// Whether it takes one more before it refuses one.
    pub(super) take_one: bool,
    /// Reads that are under way.
    pub(super) gets: Vec<DirectGet>,
}

impl World {
    pub(super) fn new(config: &StreamConfig) -> Self {
        let settings = Settings::new(config, "").unwrap();
        let store = match config.storage {
            StorageKind::File => MemoryStore::counting_as_file(settings.store().clone()),
            StorageKind::Memory => MemoryStore::new(settings.store().clone()),
        };
        let now = Now { instant: Instant::ZERO, wall: BEGIN };
        Self::over(settings, Slow::new(store), now)
    }

    fn over(settings: Settings, disk: Slow, now: Now) -> Self {
        let mut rng = Rng::from_u64(7);
        let last = disk.store.state().last_sequence;
        let stream = Stream::new(settings, last, &mut rng);
        let (journal, out) = (VecDeque::new(), Vec::new());
        World {
            stream,
            disk,
            journal,
            out,
            now,
            rng,
            refuses: None,
            busy: false,
            budget: u64::MAX,
            take_one: false,
            gets: Vec::new(),
        }
    }

    /// Starts again with what was committed.
    pub(super) fn restart(mut self) -> Self {
        let state = self.disk.store.state();
        let found = (state.first_sequence..=state.last_sequence).rev().filter_map(|sequence| {
            let message = self.disk.store.load(sequence)?;
            match scheduling_of(&message.headers, message.time) {
                Scheduling::Schedule { due } => Some((sequence, due)),
                _ => None,
            }
        });
        let found: Vec<_> = found.collect();
        self.disk.store.ask(|ledger| {
            ledger.recover_schedules(found.into_iter());
            Ok(())
        });
        let mut world = Self::over(self.stream.settings().clone(), self.disk, self.now);
        world.advance();
        world
    }

    pub(super) fn publish(&mut self, subject: &str, reply: &str, block: &[u8], payload: &str) {
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let headers = Bytes::copy_from_slice(block);
        let message =
            Incoming { subject: bytes(subject), reply: bytes(reply), headers, payload: bytes(payload) };
        self.with(|stream, context, disk| stream.publish(context, disk, message));
    }

    pub(super) fn request(&mut self, ticket: u64, request: Request) {
        self.stream.request(Ticket(ticket), request);
        self.propose();
    }

    /// Lets the journal commit the oldest `count` changes, as a volume does: all are applied, then all are told.
    pub(super) fn commit(&mut self, count: usize) {
        self.propose();
        let count = count.min(self.journal.len());
        let changes: Vec<Change> = self.journal.drain(..count).collect();
        let outcomes: Vec<Outcome> =
            changes.into_iter().map(|change| self.disk.store.apply(change)).collect();
        for outcome in outcomes {
            assert!(!matches!(outcome, Outcome::Refused(_)), "what was let in was refused: {outcome:?}");
            self.stream.applied(&mut self.out, outcome);
        }
        self.account();
        self.advance();
    }

    /// Lets the store refuse the oldest change, which it never does, and apply the others.
    pub(super) fn disagree(&mut self) {
        let mut outcomes = Vec::new();
        for (at, change) in self.journal.drain(..).enumerate() {
            outcomes.push(match at {
                0 => Outcome::Refused(StoreError::Limit(LimitError::TooLarge)),
                _ => self.disk.store.apply(change),
            });
        }
        outcomes.into_iter().for_each(|outcome| self.stream.applied(&mut self.out, outcome));
        self.advance();
    }

    /// Tells the stream what its account has left.
    pub(super) fn account(&mut self) {
        let account_left = self.budget.saturating_sub(self.disk.store.state().bytes);
        self.stream.set_budget(Budget { server_exceeded: false, account_left });
    }

    /// Commits until nothing is in flight and nothing waits.
    pub(super) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.advance();
            if self.journal.is_empty() {
                return;
            }
            self.commit(usize::MAX);
        }
        panic!("the stream never comes to rest");
    }

    pub(super) fn advance(&mut self) {
        for _ in 0..10_000 {
            if !self.with(Stream::advance) {
                return;
            }
        }
        panic!("the stream always has more to do");
    }

    pub(super) fn sleep(&mut self, duration: Duration) {
        self.now = Now { instant: self.now.instant + duration, wall: self.now.wall + duration };
        if self.stream.poll_timeout().is_some_and(|due| due <= self.now.instant) {
            self.advance();
        }
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Stream, &mut Context<'_, Nobody>, &mut Slow) -> T) -> T {
        let mut context =
            Context { now: self.now, rng: &mut self.rng, interest: &Nobody, out: &mut self.out };
        let result = act(&mut self.stream, &mut context, &mut self.disk);
        self.propose();
        result
    }

    pub(super) fn direct(&mut self, get: &mut DirectGet) -> Progress {
        self.with(|_, context, disk| get.step(context, disk, b"S"))
    }

    pub(super) fn propose(&mut self) {
        while let Some(change) = self.stream.poll_change() {
            if self.busy {
                return self.stream.unpoll(change);
            }
            match self.refuses.take_if(|why| *why == Refused::Busy).or(self.refuses) {
                Some(why) => self.stream.refused(&mut self.out, why),
                None => self.journal.push_back(change),
            }
            if std::mem::take(&mut self.take_one) {
                self.refuses = Some(Refused::Busy);
            }
        }
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.stream.poll_event()).collect()
    }

    /// Returns what the stream holds, a message a line.
    pub(super) fn content(&mut self) -> String {
        let state = self.disk.store.state();
        let mut text = format!("{} in {}..{}", state.messages, state.first_sequence, state.last_sequence);
        for sequence in state.first_sequence..=state.last_sequence {
            if let Some(message) = self.disk.store.load(sequence) {
                let (subject, payload) = (&message.subject, &message.payload);
                let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                text += &format!("\n{sequence} {} {}", text_of(subject), text_of(payload));
            }
        }
        text
    }
}

/// Makes a header block of `Key=Value` words.
pub(super) fn block(words: &[&str]) -> Vec<u8> {
    let mut block = Vec::new();
    for (key, value) in words.iter().filter_map(|word| word.split_once('=')) {
        crate::protocol::headers::add(&mut block, key.as_bytes(), value.replace('_', " ").as_bytes());
    }
    block
}

/// Makes the settings of a stream `S` of `name=value` words.
pub(super) fn config(words: &[&str]) -> StreamConfig {
    let mut config = StreamConfig {
        name: "S".into(),
        storage: StorageKind::Memory,
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        duplicate_window: Duration::from_secs(120),
        ..StreamConfig::default()
    };
    for word in words {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse().unwrap();
        let seconds = || Duration::from_secs(value.parse().unwrap());
        match name {
            "messages" => config.max_messages = number(),
            "bytes" => config.max_bytes = number(),
            "per-subject" => config.max_messages_per_subject = number(),
            "size" => config.max_message_size = value.parse().unwrap(),
            "age" => config.max_age = seconds(),
            "window" => config.duplicate_window = seconds(),
            "marker" => config.subject_delete_marker_ttl = seconds(),
            "first" => config.first_sequence = value.parse().unwrap(),
            "new" => config.discard = Discard::New,
            "new-per-subject" => config.discard_new_per_subject = true,
            "interest" => config.retention = Retention::Interest,
            "queue" => config.retention = Retention::WorkQueue,
            "file" => config.storage = StorageKind::File,
            "no-ack" => config.no_ack = true,
            "sealed" => config.sealed = true,
            "deny-delete" => config.deny_delete = true,
            "deny-purge" => config.deny_purge = true,
            "rollup" => config.allow_rollup = true,
            "ttl" => config.allow_message_ttl = true,
            "subjects" => config.subjects = value.split(',').map(str::to_owned).collect(),
            "schedules" => {
                (config.allow_message_schedules, config.allow_rollup) = (true, true);
                config.subjects = vec![">".into()];
            }
            "transform" => {
                let (source, destination) = value.split_once(':').unwrap();
                let (source, destination) = (source.into(), destination.into());
                config.subject_transform = Some(SubjectTransformConfig { source, destination });
            }
            "republish" | "republish-headers" => {
                let (source, destination) = value.split_once(':').unwrap();
                let headers_only = name == "republish-headers";
                let (source, destination) = (source.into(), destination.into());
                config.republish = Some(Republish { source, destination, headers_only });
            }
            other => panic!("no setting {other}"),
        }
    }
    config
}

/// Makes the name of a consumer.
pub(super) fn consumer(name: &str) -> OwnerId {
    OwnerId(name.bytes().fold(0, |sum, byte| sum << 8 | u64::from(byte)))
}
