//! What a stream in memory costs: storing, reading back, and questions by subject over a million messages.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use natrix_core::storage::StoreConfig;
use natrix_core::storage::ledger::Filter;
use natrix_core::storage::memory::{MemoryStore, NewMessage};
use natrix_core::time::WallTime;

fn message(at: u64, subjects: u64) -> NewMessage {
    NewMessage {
        time: WallTime::from_unix_nanos(at as i64),
        subject: Bytes::from(format!("orders.{}", at % subjects)),
        payload: Bytes::from_static(&[b'x'; 128]),
        checked: true,
        ..NewMessage::default()
    }
}

fn filled(count: u64, subjects: u64) -> MemoryStore {
    let mut store = MemoryStore::new(StoreConfig::default());
    for at in 0..count {
        store.store(message(at, subjects)).expect("there is no limit");
    }
    store
}

fn stores(c: &mut Criterion) {
    let messages: Vec<NewMessage> = (0..100_000).map(|at| message(at, 1)).collect();
    c.bench_function("store 100,000 messages of 128 bytes", |b| {
        b.iter_batched(
            || (MemoryStore::new(StoreConfig::default()), messages.clone()),
            |(mut store, messages)| {
                for message in messages {
                    store.store(message).expect("there is no limit");
                }
                store
            },
            BatchSize::LargeInput,
        );
    });
    let mut store = filled(1_000_000, 100_000);
    let mut at = 0;
    c.bench_function("load one of a million by its sequence", |b| {
        b.iter(|| {
            at = (at + 7_919) % 1_000_000;
            store.load(black_box(at + 1)).map(|message| message.sequence)
        });
    });
    c.bench_function("the last of one of 100,000 subjects", |b| {
        b.iter(|| {
            store.load_last(Filter::Subject(black_box(b"orders.77777"))).map(|message| message.sequence)
        });
    });
    c.bench_function("how many of a million are pending by a wildcard, from the start", |b| {
        b.iter(|| store.pending(Filter::Subject(black_box(b"orders.7*")), 1, false));
    });
    c.bench_function("how many of a million are pending, from the middle", |b| {
        b.iter(|| store.pending(Filter::All, black_box(500_000), false));
    });
    c.bench_function("how many of ten of one subject are pending, from the middle", |b| {
        b.iter(|| store.pending(Filter::Subject(black_box(b"orders.77777")), 500_000, false));
    });
}

criterion_group!(benches, stores);
criterion_main!(benches);
