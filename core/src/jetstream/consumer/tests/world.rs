//! A consumer with all that an engine has: a stream in memory, a journal, clients who listen.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;

use crate::config::parse_duration;
use crate::jetstream::api::consumer_config::{
    AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy, ReplayPolicy,
};
use crate::jetstream::consumer::{Consumer, Event, Purge, Setup, Step};
use crate::jetstream::context::{Answer, Context, Interest, Messages, Outgoing};
use crate::rng::Rng;
use crate::storage::consumer::{ConsumerEntry, ConsumerSettings, ConsumerState, ConsumerStore};
use crate::storage::ledger::{Filter, Ledger};
use crate::storage::memory::{MemoryStore, NewMessage};
use crate::storage::{Lookup, Message, OwnerId, Position, Retention, StoreConfig};
use crate::subject::matches_literal;
use crate::time::{Duration, Instant, Now, WallTime};

/// The messages of a stream in memory, some of which have to be waited for.
pub(super) struct Stream {
    pub(super) store: MemoryStore,
    /// Makes questions wait, once in so many times.
    pub(super) waits: Option<(Rng, u64)>,
}

impl Stream {
    fn has_to_wait(&mut self) -> bool {
        self.waits.as_mut().is_some_and(|(rng, one_in)| rng.chance(1, *one_in))
    }
}

impl Messages for Stream {
    fn ask<T>(&mut self, mut question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T> {
        match self.has_to_wait() {
            true => Answer::Wait,
            false => Answer::Ready(self.store.ask(&mut question)),
        }
    }

    fn load(&mut self, sequence: u64) -> Answer<Option<Message>> {
        match self.has_to_wait() {
            true => Answer::Wait,
            false => Answer::Ready(self.store.load(sequence)),
        }
    }
}

/// Who listens to what: patterns, some of them of queue groups.
#[derive(Clone, Default)]
pub(super) struct Listeners(pub(super) Vec<(String, String)>);

impl Interest for Listeners {
    fn has_interest(&self, subject: &[u8]) -> bool {
        self.0.iter().any(|(pattern, _)| matches_literal(subject, pattern.as_bytes()))
    }

    fn has_subscriber(&self, subject: &[u8], group: &[u8]) -> bool {
        let mut listeners = self.0.iter();
        listeners.any(|(pattern, queue)| queue.as_bytes() == group && pattern.as_bytes() == subject)
    }
}

/// A consumer and its world.
pub(super) struct World {
    pub(super) stream: Stream,
    pub(super) listeners: Listeners,
    pub(super) consumer: Consumer,
    /// What recovery would find.
    pub(super) durable: ConsumerStore,
    /// Entries that are proposed and not durable.
    pub(super) journal: Vec<(Position, ConsumerEntry)>,
    pub(super) position: u64,
    pub(super) now: Now,
    pub(super) rng: Rng,
    pub(super) out: Vec<Outgoing>,
    pub(super) events: Vec<Event>,
    /// Where the last delivery of each message is acknowledged.
    pub(super) replies: BTreeMap<u64, Bytes>,
    /// Whether entries are durable as soon as they are proposed.
    pub(super) commits: bool,
    /// Whether nothing can be proposed.
    pub(super) refuses: bool,
    /// Where the last question of flow control is answered.
    pub(super) question: String,
    retention: Retention,
    keeps_entries: bool,
}

pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn seconds(seconds: i64) -> WallTime {
    WallTime::from_unix_nanos(seconds * SECOND as i64)
}

fn duration(text: &str) -> Duration {
    Duration::from_nanos(parse_duration(text).unwrap().unsigned_abs())
}

/// Reads settings: `name=value` words over what a client would send, after defaults.
pub(super) fn configure(config: &mut ConsumerConfig, words: &str) {
    for word in words.split_whitespace() {
        let (name, value) = word.split_once('=').unwrap_or((word, ""));
        let number = || value.parse::<i64>().unwrap_or_else(|_| panic!("{word}"));
        match name {
            "durable" => config.durable = "C".to_owned(),
            "push" => config.deliver_subject = value.to_owned(),
            "group" => config.deliver_group = value.to_owned(),
            "ack" => {
                config.ack_policy = match value {
                    "none" => AckPolicy::None,
                    "all" => AckPolicy::All,
                    "flow" => AckPolicy::FlowControl,
                    _ => AckPolicy::Explicit,
                }
            }
            "deliver" => {
                config.deliver_policy = match value {
                    "all" => DeliverPolicy::All,
                    "last" => DeliverPolicy::Last,
                    "new" => DeliverPolicy::New,
                    "time" => DeliverPolicy::ByStartTime,
                    "per_subject" => DeliverPolicy::LastPerSubject,
                    _ => panic!("{word}"),
                }
            }
            "start" => {
                config.deliver_policy = DeliverPolicy::ByStartSequence;
                config.start_sequence = number().unsigned_abs();
            }
            "start_time" => {
                config.deliver_policy = DeliverPolicy::ByStartTime;
                config.start_time = Some(seconds(number()));
            }
            "wait" => config.ack_wait = duration(value),
            "backoff" => config.backoff = value.split(',').map(duration).collect(),
            "max_deliver" => config.max_deliver = number(),
            "max_pending" => config.max_ack_pending = number(),
            "max_waiting" => config.max_waiting = number(),
            "max_batch" => config.max_request_batch = number(),
            "max_bytes" => config.max_request_max_bytes = number(),
            "max_expires" => config.max_request_expires = duration(value),
            "filter" => config.filter_subjects = value.split(',').map(str::to_owned).collect(),
            "heartbeat" => config.heartbeat = duration(value),
            "flow_control" => config.flow_control = true,
            "headers_only" => config.headers_only = true,
            "original" => config.replay_policy = ReplayPolicy::Original,
            "rate" => config.rate_limit = number().unsigned_abs(),
            "sample" => config.sample_frequency = value.to_owned(),
            "threshold" => config.inactive_threshold = duration(value),
            "pause" => config.pause_until = (!value.is_empty()).then(|| seconds(number())),
            "priority" => {
                config.priority_policy = match value {
                    "overflow" => PriorityPolicy::Overflow,
                    "pinned" => PriorityPolicy::PinnedClient,
                    _ => PriorityPolicy::Prioritized,
                };
                config.priority_groups = vec!["g".to_owned()];
                config.pinned_ttl = Duration::from_secs(10);
            }
            _ => panic!("{word}"),
        }
    }
}

/// What a consumer is told to be if nothing else is said: explicit, durable, 30 seconds.
pub(super) fn usual() -> ConsumerConfig {
    ConsumerConfig {
        durable: "C".to_owned(),
        name: "C".to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_deliver: -1,
        max_waiting: 512,
        max_ack_pending: 1000,
        ..ConsumerConfig::default()
    }
}

macro_rules! context {
    ($world:expr) => {
        crate::jetstream::context::Context {
            now: $world.now,
            rng: &mut $world.rng,
            interest: &$world.listeners,
            out: &mut $world.out,
        }
    };
}
pub(super) use context;

impl World {
    /// Makes a consumer of a stream that has `stored` already.
    pub(super) fn new(
        config: ConsumerConfig,
        retention: Retention,
        keeps_entries: bool,
        stored: &[&str],
    ) -> Self {
        let now = Now { instant: Instant::from_nanos(SECOND), wall: seconds(1000) };
        let mut rng = Rng::from_u64(7);
        let patterns = ["r.>", "push.x", "push.y"].map(|pattern| (pattern.to_owned(), String::new()));
        let listeners = Listeners(patterns.to_vec());
        let mut out = Vec::new();
        let settings = settings(&config);
        let mut context = Context { now, rng: &mut rng, interest: &listeners, out: &mut out };
        let consumer = Consumer::new(setup(retention, keeps_entries), config, &mut context);
        let store = MemoryStore::new(StoreConfig::default());
        let mut world = World {
            stream: Stream { store, waits: None },
            listeners,
            consumer,
            durable: ConsumerStore::new(OwnerId(1), settings),
            journal: Vec::new(),
            position: 0,
            now,
            rng,
            out,
            events: Vec::new(),
            replies: BTreeMap::new(),
            commits: true,
            refuses: false,
            question: String::new(),
            retention,
            keeps_entries,
        };
        stored.iter().for_each(|subject| {
            world.put(subject);
        });
        world
    }

    /// Stores a message, and returns its sequence.
    pub(super) fn put(&mut self, subject: &str) -> u64 {
        let message = NewMessage {
            time: self.now.wall,
            subject: Bytes::copy_from_slice(subject.as_bytes()),
            payload: Bytes::from_static(b"payload"),
            ..NewMessage::default()
        };
        self.stream.store.store(message).unwrap()
    }

    /// Stores a message and tells the consumer.
    pub(super) fn store(&mut self, subject: &str) {
        let sequence = self.put(subject);
        if self.consumer.wants(subject.as_bytes()) {
            self.consumer.stored(sequence);
        }
    }

    /// Removes a message and tells the consumer.
    pub(super) fn remove(&mut self, sequence: u64) {
        let subject = self.stream.store.subject_of(sequence).map(<[u8]>::to_vec);
        if self.stream.store.remove(sequence) && self.consumer.wants(&subject.unwrap_or_default()) {
            self.consumer.removed(sequence, &mut context!(self));
        }
    }

    /// Removes what a filter matches, below a sequence, but for the last `keep`.
    pub(super) fn purge(&mut self, subject: &str, below: u64, keep: u64) {
        let filter = if subject.is_empty() { Filter::All } else { Filter::Subject(subject.as_bytes()) };
        self.stream.store.purge(filter, below, keep);
        let (first, last) =
            self.stream.store.ask(|ledger| Ok((ledger.first_sequence(), ledger.last_sequence())));
        let first_of_subject = self.stream.store.ask(|ledger| ledger.next(filter, first));
        let purge = Purge { subject: subject.as_bytes(), first, last, first_of_subject };
        self.consumer.purged(&purge, &mut context!(self));
    }

    /// Takes a pull request.
    pub(super) fn pull(&mut self, reply: &str, body: &str) {
        let reply = Bytes::copy_from_slice(reply.as_bytes());
        self.consumer.next_request(&reply, b"", body.as_bytes(), &mut context!(self));
    }

    /// Acknowledges the last delivery of a message.
    pub(super) fn ack(&mut self, sequence: u64, reply: &str, payload: &str) {
        let Some(subject) = self.replies.get(&sequence).cloned() else { return };
        let reply = Bytes::copy_from_slice(reply.as_bytes());
        self.consumer.acknowledgement(&subject, &reply, payload.as_bytes(), &mut context!(self));
    }

    /// Does what an engine does after each call: advances, proposes, commits, listens.
    pub(super) fn settle(&mut self) {
        loop {
            let mut step = Step::Idle;
            while self.consumer.needs_advance() {
                step = self.consumer.advance(&mut context!(self), &mut self.stream);
            }
            assert_eq!(step, Step::Idle);
            self.propose();
            if self.commits {
                self.commit(usize::MAX);
            }
            self.drain();
            if !self.consumer.needs_advance() {
                return;
            }
        }
    }

    pub(super) fn propose(&mut self) {
        while let Some(entry) = self.consumer.poll_entry(self.now.instant) {
            if self.refuses {
                self.consumer.refused(self.now.instant);
                return;
            }
            self.position += 1;
            // What is written is what is read.
            let mut bytes = Vec::new();
            let kind = entry.encode(&mut bytes);
            let entry = ConsumerEntry::decode(kind, &bytes).unwrap();
            self.journal.push((Position(self.position), entry));
            self.consumer.proposed(Position(self.position));
        }
    }

    /// Makes the oldest entries durable.
    pub(super) fn commit(&mut self, count: usize) {
        let count = count.min(self.journal.len());
        for (position, entry) in self.journal.drain(..count) {
            self.durable.apply(position, entry).unwrap();
            assert_eq!(self.durable.state().check(), Ok(()));
            self.consumer.committed(position, &mut context!(self));
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.consumer.poll_event() {
            self.events.push(event);
        }
        for message in &self.out {
            if message.reply.starts_with(b"$JS.ACK") {
                let sequence = std::str::from_utf8(&message.reply).unwrap().split('.').nth(5).unwrap();
                self.replies.insert(sequence.parse().unwrap(), message.reply.clone());
            } else if message.reply.starts_with(b"$JS.FC") {
                self.question = String::from_utf8(message.reply.to_vec()).unwrap();
            }
        }
    }

    /// Lets time pass, and acts on what becomes due.
    pub(super) fn tick(&mut self, by: Duration) {
        let end = self.now.instant + by;
        while let Some(due) = self.consumer.poll_timeout().filter(|due| *due <= end) {
            let step = due - self.now.instant;
            self.now.instant += step;
            self.now.wall = self.now.wall + step;
            self.consumer.handle_timeout(&mut context!(self));
            self.settle();
        }
        let step = end - self.now.instant;
        self.now.instant += step;
        self.now.wall = self.now.wall + step;
    }

    /// Loses all that isn't durable, and takes up the rest.
    pub(super) fn crash(&mut self) {
        self.journal.clear();
        self.out.clear();
        self.events.clear();
        let config = self.consumer.config().clone();
        let state: ConsumerState = self.durable.state().clone();
        let setup = setup(self.retention, self.keeps_entries);
        self.consumer = match self.durable.has_state() {
            true => Consumer::recover(setup, config, &state, &mut context!(self)),
            false => Consumer::new(setup, config, &mut context!(self)),
        };
    }
}

pub(super) fn settings(config: &ConsumerConfig) -> ConsumerSettings {
    let max_deliver = u64::try_from(config.max_deliver).unwrap_or(0);
    ConsumerSettings { ack_policy: config.ack_policy, max_deliver }
}

fn setup(retention: Retention, keeps_entries: bool) -> Setup {
    Setup {
        account: "A".to_owned(),
        stream: "S".to_owned(),
        name: "C".to_owned(),
        domain: String::new(),
        created: seconds(0),
        retention,
        largest_message: 1000,
        keeps_entries,
    }
}

/// Shows a message that was published.
pub(super) fn show(message: &Outgoing, out: &mut String) {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).replace("\r\n", "|");
    let _ = write!(out, "  {}:", text(&message.to));
    if !message.subject.is_empty() {
        let _ = write!(out, " {}", text(&message.subject));
    }
    if let Some(tokens) = text(&message.reply).strip_prefix("$JS.ACK.S.C.") {
        let tokens: Vec<&str> = tokens.split('.').collect();
        let [count, stream, consumer, _, left] = tokens[..] else { panic!("{tokens:?}") };
        let _ = write!(out, " #{stream} as {consumer}, {left} left");
        if count != "1" {
            let _ = write!(out, ", time {count}");
        }
    } else if !message.reply.is_empty() {
        let _ = write!(out, " reply {}", text(&message.reply));
    }
    if !message.headers.is_empty() {
        let headers = text(&message.headers);
        let _ = write!(out, " [{}]", headers.trim_start_matches("NATS/1.0").trim_matches('|').trim());
    }
    if message.payload != "payload" {
        let _ = write!(out, " {:?}", text(&message.payload));
    }
    out.push('\n');
}
