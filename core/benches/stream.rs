//! What a stream's machine costs for each message: deciding at the head, proposing, acknowledging. The store is the dullest
//! there can be for it (in memory), and its part is measured by itself.

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::jetstream::api::stream_config::StreamConfig;
use natrix_core::jetstream::context::{Answer, Context, Interest, Messages, Outgoing};
use natrix_core::jetstream::stream::{Incoming, Settings, Stream, Wanting};
use natrix_core::protocol::headers;
use natrix_core::rng::Rng;
use natrix_core::storage::change::{Change, Outcome};
use natrix_core::storage::ledger::Ledger;
use natrix_core::storage::memory::MemoryStore;
use natrix_core::storage::{Discard, Lookup, Message, OwnerId, Retention, StorageKind};
use natrix_core::time::{Duration, Now};

/// Messages in flight.
const COUNT: usize = 1000;

struct Store(MemoryStore);

impl Messages for Store {
    fn ask<T>(&mut self, question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T> {
        Answer::Ready(self.0.ask(question))
    }

    fn load(&mut self, sequence: u64) -> Answer<Option<Message>> {
        Answer::Ready(self.0.load(sequence).cloned())
    }
}

struct Nobody;

impl Interest for Nobody {
    fn has_interest(&self, _: &[u8]) -> bool {
        false
    }
}

struct World {
    stream: Stream,
    store: Store,
    rng: Rng,
    out: Vec<Outgoing>,
    now: Now,
}

impl World {
    fn new(config: StreamConfig) -> Self {
        let config = StreamConfig { name: "S".into(), storage: StorageKind::Memory, ..config };
        let settings = Settings::new(&config, "").expect("it has no transform");
        let store = Store(MemoryStore::new(settings.store().clone()));
        let mut rng = Rng::from_u64(1);
        let stream = Stream::new(settings, 0, &mut rng);
        World { stream, store, rng, out: Vec::with_capacity(2 * COUNT), now: Now::default() }
    }

    fn publish(&mut self, messages: Vec<Incoming>) -> Vec<Change> {
        let mut changes = Vec::with_capacity(COUNT);
        for message in messages {
            let (interest, out) = (&Nobody, &mut self.out);
            let mut context = Context { now: self.now, rng: &mut self.rng, interest, out };
            self.stream.publish(&mut context, &mut self.store, message);
            changes.extend(std::iter::from_fn(|| self.stream.poll_change()));
        }
        changes
    }

    fn apply(&mut self, changes: Vec<Change>) -> Vec<Outcome> {
        changes.into_iter().map(|change| self.store.0.apply(change)).collect()
    }

    fn applied(&mut self, outcomes: Vec<Outcome>) {
        outcomes.into_iter().for_each(|outcome| self.stream.applied(&mut self.out, outcome));
        let (interest, out) = (&Nobody, &mut self.out);
        let mut context = Context { now: self.now, rng: &mut self.rng, interest, out };
        while self.stream.advance(&mut context, &mut self.store) {}
        while self.stream.poll_event().is_some() {}
    }
}

fn messages(subjects: usize, header: impl Fn(usize) -> Option<(&'static str, String)>) -> Vec<Incoming> {
    let make = |at: usize| {
        let mut block = Vec::new();
        if let Some((key, value)) = header(at) {
            headers::add(&mut block, key.as_bytes(), value.as_bytes());
        }
        Incoming {
            subject: Bytes::from(format!("orders.{}", at % subjects)),
            reply: Bytes::from_static(b"_INBOX.abcdefghijklmnop.1"),
            headers: Bytes::from(block),
            payload: Bytes::from_static(&[b'x'; 128]),
        }
    };
    (0..COUNT).map(make).collect()
}

fn limits() -> StreamConfig {
    StreamConfig {
        max_messages: -1,
        max_bytes: -1,
        max_messages_per_subject: -1,
        max_message_size: -1,
        ..StreamConfig::default()
    }
}

fn publishes(c: &mut Criterion) {
    let key_value = StreamConfig { max_messages_per_subject: 1, discard: Discard::New, ..limits() };
    let full = StreamConfig { max_bytes: 1 << 30, ..key_value.clone() };
    let window = StreamConfig { duplicate_window: Duration::from_secs(120), ..limits() };
    let none = |_| None;
    let id = |at: usize| Some(("Nats-Msg-Id", format!("order-{at:032}")));
    let expect = |_: usize| Some(("Nats-Expected-Last-Subject-Sequence", "0".to_owned()));
    let cases = [
        ("plain", limits(), messages(1, none)),
        ("with message ids", window, messages(1, id)),
        ("expecting a last sequence by subject", limits(), messages(COUNT, expect)),
        ("a key each, one message a key", key_value, messages(COUNT, none)),
        ("the same with a limit of bytes", full, messages(COUNT, none)),
    ];
    let mut group = c.benchmark_group("1,000 in flight");
    group.throughput(Throughput::Elements(COUNT as u64));
    for (name, config, messages) in cases {
        let ready = || (World::new(config.clone()), messages.clone());
        group.bench_function(format!("{name}: propose"), |b| {
            b.iter_batched(
                ready,
                |(mut world, messages)| (world.publish(messages), world),
                BatchSize::LargeInput,
            );
        });
        let applied = || {
            let (mut world, messages) = ready();
            let changes = world.publish(messages);
            let outcomes = world.apply(changes);
            (world, outcomes)
        };
        group.bench_function(format!("{name}: acknowledge"), |b| {
            b.iter_batched(
                applied,
                |(mut world, outcomes)| {
                    world.applied(outcomes);
                    world
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

fn retention(c: &mut Criterion) {
    let mut group = c.benchmark_group("who has what");
    for consumers in [1_u64, 100] {
        let ready = || {
            let mut world = World::new(StreamConfig { retention: Retention::Interest, ..limits() });
            (0..consumers).for_each(|id| world.stream.set_consumer(OwnerId(id), Wanting::default()));
            let changes = world.publish(messages(1, |_| None));
            let outcomes = world.apply(changes);
            world.applied(outcomes);
            world
        };
        group.throughput(Throughput::Elements(COUNT as u64 * consumers));
        group.bench_function(format!("{consumers} consumers acknowledge 1,000 messages each"), |b| {
            b.iter_batched(
                ready,
                |mut world| {
                    for sequence in 1..=COUNT as u64 {
                        (0..consumers).for_each(|id| world.stream.acknowledged(OwnerId(id), sequence));
                    }
                    world.applied(Vec::new());
                    world
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, publishes, retention);
criterion_main!(benches);
