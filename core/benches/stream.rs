//! What a stream's machine costs for each message on one core: deciding at the head, proposing, acknowledging. Its store keeps
//! nothing here, so that the store's own cost isn't in the figures, and each round is like the first.
//!
//! `cargo bench -p natrix-core --bench stream` prints the median of some rounds, in processor time, and allocations.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use natrix_core::jetstream::api::stream_config::StreamConfig;
use natrix_core::jetstream::context::{Answer, Context, Interest, Messages, Outgoing};
use natrix_core::jetstream::stream::{Incoming, Settings, Stream, Wanting};
use natrix_core::protocol::headers;
use natrix_core::rng::Rng;
use natrix_core::storage::change::{NewMessage, Outcome};
use natrix_core::storage::ledger::Ledger;
use natrix_core::storage::memory::MemoryStore;
use natrix_core::storage::{Discard, Lookup, Message, OwnerId, Retention, StorageKind};
use natrix_core::time::Now;
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 401;
/// Messages in flight.
const COUNT: usize = 1000;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

// SAFETY: every call is passed on as it is; the counter is a plain number of the thread, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Store(MemoryStore);

impl Messages for Store {
    fn ask<T>(&mut self, question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T> {
        Answer::Ready(self.0.ask(question))
    }

    fn load(&mut self, sequence: u64) -> Answer<Option<Message>> {
        Answer::Ready(self.0.load(sequence))
    }
}

struct Nobody;

impl Interest for Nobody {
    fn has_interest(&self, _: &[u8]) -> bool {
        false
    }

    fn has_subscriber(&self, _: &[u8], _: &[u8]) -> bool {
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
        let config = StreamConfig { name: "ORDERS".into(), storage: StorageKind::Memory, ..config };
        let settings = Settings::new(&config, "").expect("it has no transform");
        let store = Store(MemoryStore::new(settings.store().clone()));
        let mut rng = Rng::from_u64(1);
        let stream = Stream::new(settings, 0, &mut rng);
        World { stream, store, rng, out: Vec::new(), now: Now::default() }
    }

    /// Publishes, takes what is proposed, and says that it was stored.
    fn round(&mut self, messages: Vec<Incoming>) {
        let first = self.stream.last_sequence() + 1;
        let mut changes = 0;
        for message in messages {
            let (interest, out) = (&Nobody, &mut self.out);
            let mut context = Context { now: self.now, rng: &mut self.rng, interest, out };
            self.stream.publish(&mut context, &mut self.store, message);
            while let Some(change) = self.stream.poll_change() {
                black_box(change);
                changes += 1;
            }
        }
        (first..)
            .take(changes)
            .for_each(|sequence| self.stream.applied(&mut self.out, Outcome::Stored(sequence)));
        self.advance();
        while self.stream.poll_event().is_some() {}
        assert_eq!(self.out.len(), COUNT);
        self.out.clear();
    }

    fn advance(&mut self) {
        let (interest, out) = (&Nobody, &mut self.out);
        let mut context = Context { now: self.now, rng: &mut self.rng, interest, out };
        while self.stream.advance(&mut context, &mut self.store) {}
    }
}

fn processor_time() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Prints the median of what rounds took, for each of `each` things, and the allocations of the cheapest round.
fn report(name: &str, each: usize, mut round: impl FnMut() -> (Duration, u64)) {
    let mut spent = Vec::with_capacity(ROUNDS);
    let mut allocations = u64::MAX;
    for _ in 0..ROUNDS {
        let (took, allocated) = round();
        spent.push(took);
        allocations = allocations.min(allocated);
    }
    spent.sort_unstable();
    let nanos = spent[ROUNDS / 2].as_nanos() as f64 / each as f64;
    println!("{name:<60} {nanos:>7.0} ns {:>7.3} allocations", allocations as f64 / each as f64);
}

fn measured(act: impl FnOnce()) -> (Duration, u64) {
    let (start, allocated) = (processor_time(), ALLOCATIONS.get());
    act();
    (processor_time() - start, ALLOCATIONS.get() - allocated)
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

fn publishes() {
    let window = StreamConfig { duplicate_window: Duration::from_secs(120), ..limits() };
    let key_value = StreamConfig { max_messages_per_subject: 1, discard: Discard::New, ..window.clone() };
    let full = StreamConfig { max_bytes: 1 << 30, ..key_value.clone() };
    let none = |_| None;
    let id = |at: usize| Some(("Nats-Msg-Id", format!("{at:036}")));
    let expect = |_| Some(("Nats-Expected-Last-Subject-Sequence", "0".to_owned()));
    for (name, config, messages) in [
        ("published and acknowledged, 1,000 in flight", window.clone(), messages(1, none)),
        ("the same with a message id", window, messages(1, id)),
        ("the same expecting a last sequence of the subject", limits(), messages(COUNT, expect)),
        ("a key each, one message a key", key_value, messages(COUNT, none)),
        ("the same with a limit of bytes", full, messages(COUNT, none)),
    ] {
        let mut world = World::new(config);
        report(name, COUNT, || {
            let messages = messages.clone();
            world.now.wall = world.now.wall + Duration::from_secs(120);
            measured(|| world.round(messages))
        });
    }
}

/// Each consumer acknowledges each message, which then may go: its removal is proposed.
fn acknowledgements(consumers: u64) {
    let config = StreamConfig { retention: Retention::Interest, ..limits() };
    let name = format!("acknowledged by one of {consumers} consumers");
    report(&name, COUNT * consumers as usize, || {
        let mut world = World::new(config.clone());
        (0..consumers).for_each(|id| world.stream.set_consumer(OwnerId(id), Wanting::default()));
        for _ in 0..COUNT {
            let subject = Bytes::from_static(b"orders");
            world.store.0.store(NewMessage { subject, ..NewMessage::default() }).expect("there is no limit");
        }
        measured(|| {
            for sequence in 1..=COUNT as u64 {
                (0..consumers).for_each(|id| world.stream.acknowledged(OwnerId(id), sequence));
                if sequence % 100 == 0 {
                    world.advance();
                }
            }
            while let Some(change) = world.stream.poll_change() {
                black_box(change);
            }
        })
    });
}

fn main() {
    publishes();
    [1, 100].into_iter().for_each(acknowledgements);
}
