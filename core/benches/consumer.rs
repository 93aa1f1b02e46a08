//! What a consumer costs: a fetch of 500 with explicit acknowledgements, and ten thousand consumers that hear of a message.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::jetstream::api::consumer_config::{AckPolicy, ConsumerConfig};
use natrix_core::jetstream::consumer::{Consumer, Setup};
use natrix_core::jetstream::context::{Answer, Context, Interest, Messages, Outgoing};
use natrix_core::rng::Rng;
use natrix_core::storage::ledger::Ledger;
use natrix_core::storage::memory::{MemoryStore, NewMessage};
use natrix_core::storage::{Lookup, Message, Position, Retention, StoreConfig};
use natrix_core::time::{Duration, Instant, Now, WallTime};

struct Stream(MemoryStore);

impl Messages for Stream {
    fn ask<T>(&mut self, mut question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T> {
        Answer::Ready(self.0.ask(&mut question))
    }

    fn load(&mut self, sequence: u64) -> Answer<Option<Message>> {
        Answer::Ready(self.0.load(sequence))
    }
}

struct Everybody;

impl Interest for Everybody {
    fn has_interest(&self, subject: &[u8]) -> bool {
        !subject.starts_with(b"$JS")
    }

    fn has_subscriber(&self, subject: &[u8], _: &[u8]) -> bool {
        self.has_interest(subject)
    }
}

fn now(nanos: u64) -> Now {
    Now { instant: Instant::from_nanos(nanos), wall: WallTime::from_unix_nanos(nanos as i64) }
}

fn stream(count: u64) -> Stream {
    let mut store = MemoryStore::new(StoreConfig::default());
    for at in 0..count {
        let message = NewMessage {
            time: WallTime::from_unix_nanos(at as i64),
            subject: Bytes::from_static(b"orders.new"),
            payload: Bytes::from_static(&[b'x'; 128]),
            ..NewMessage::default()
        };
        store.store(message).expect("there is no limit");
    }
    Stream(store)
}

fn consumer(rng: &mut Rng, out: &mut Vec<Outgoing>, filter: &str) -> Consumer {
    let setup = Setup {
        account: "A".to_owned(),
        stream: "ORDERS".to_owned(),
        name: "worker".to_owned(),
        domain: String::new(),
        created: WallTime::default(),
        retention: Retention::Limits,
        largest_message: 1 << 20,
        keeps_entries: true,
    };
    let config = ConsumerConfig {
        durable: "worker".to_owned(),
        ack_policy: AckPolicy::Explicit,
        ack_wait: Duration::from_secs(30),
        max_deliver: -1,
        max_waiting: 512,
        max_ack_pending: 1000,
        filter_subject: filter.to_owned(),
        ..ConsumerConfig::default()
    };
    Consumer::new(setup, config, &mut Context { now: now(1), rng, interest: &Everybody, out })
}

/// Fetches 500 messages and acknowledges each, over and over; an entry is written every 100 milliseconds of its time.
fn fetches(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch of 500 messages of 128 bytes with explicit acknowledgements");
    group.throughput(Throughput::Elements(500));
    for (name, filter) in [("without a filter", ""), ("with a filter", "orders.*")] {
        group.bench_function(name, |b| {
            let mut stream = stream(1_000_000);
            let (mut rng, mut out) = (Rng::from_u64(1), Vec::new());
            let mut consumer = consumer(&mut rng, &mut out, filter);
            let (mut time, mut position, reply) = (1, 0, Bytes::from_static(b"_INBOX.abc.1"));
            b.iter(|| {
                time += 500_000;
                let mut ctx = Context { now: now(time), rng: &mut rng, interest: &Everybody, out: &mut out };
                if consumer.state().delivered.stream + 500 > 1_000_000 {
                    let _ = consumer.reset(1, &mut ctx, &mut stream);
                }
                consumer.next_request(&reply, b"", b"500", &mut ctx);
                while consumer.needs_advance() {
                    consumer.advance(&mut ctx, &mut stream);
                }
                let delivered = std::mem::take(ctx.out);
                for message in &delivered {
                    consumer.acknowledgement(&message.reply, &Bytes::new(), b"+ACK", &mut ctx);
                }
                while let Some(entry) = consumer.poll_entry(now(time).instant) {
                    position += 1;
                    drop(entry);
                    consumer.proposed(Position(position));
                    consumer.committed(Position(position), &mut ctx);
                }
                delivered.len()
            });
        });
    }
    group.finish();
}

/// Tells ten thousand consumers of each message; nobody waits at any of them.
fn idle_consumers(c: &mut Criterion) {
    let mut stream = stream(1000);
    let (mut rng, mut out) = (Rng::from_u64(1), Vec::new());
    let mut consumers: Vec<Consumer> =
        (0..10_000).map(|_| consumer(&mut rng, &mut out, "orders.*")).collect();
    let mut ctx = Context { now: now(2), rng: &mut rng, interest: &Everybody, out: &mut out };
    for consumer in &mut consumers {
        while consumer.needs_advance() {
            consumer.advance(&mut ctx, &mut stream);
        }
    }
    let mut sequence = 1000;
    c.bench_function("10,000 idle consumers hear of a message", |b| {
        b.iter(|| {
            sequence += 1;
            consumers.iter_mut().filter_map(|consumer| consumer.stored(sequence).then_some(())).count()
        });
    });
    println!("a Consumer takes {} bytes beside what it points to", size_of::<Consumer>());
}

criterion_group!(benches, fetches, idle_consumers);
criterion_main!(benches);
