//! Blocks: records in, records out, index files. No disk: what the code itself costs, on one core.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::rng::Rng;
use natrix_core::storage::block::index::{Builder, Index, Stamp};
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::block::walk::{At, Visitor, walk};
use natrix_core::storage::block::{Context, HEADER_LEN, Mark, Place, Record};
use natrix_core::storage::{OwnerId, Position};
use std::hint::black_box;

const MESSAGES: u64 = 50_000;
const OWNER: OwnerId = OwnerId(7);

fn record(sequence: u64) -> Record<'static> {
    Record {
        sequence,
        time: 1000 + sequence as i64 * 100,
        subject: b"orders.1",
        headers: b"",
        payload: &[7; 128],
        ttl: 0,
        due: None,
        erased: false,
    }
}

/// A block without a header, and where its messages are.
fn block() -> (Vec<u8>, Builder) {
    let place = Place::new(OWNER, 1);
    let mut out = vec![0; HEADER_LEN];
    Mark { next_sequence: 1, ..Mark::default() }.encode(&mut out, &place, HEADER_LEN as u32);
    let mut context = Context { next_sequence: 1, base_time: 0 };
    let mut builder = Builder::new(&Place::new(OWNER, 1));
    for sequence in 1..=MESSAGES {
        let record = record(sequence);
        let offset = out.len() as u32;
        let len = record.encode(&mut out, &place, offset, &mut context).expect("small");
        builder.add(At { offset, len, framed: false }, &record);
    }
    (out, builder)
}

struct Count(u64);

impl Visitor for Count {
    fn message(&mut self, _: At, record: &Record<'_>) {
        self.0 += record.payload.len() as u64;
    }
    fn deleted(&mut self, _: u64, _: u64) {}
    fn skipped(&mut self, _: u64, _: u64) {}
}

fn blocks(criterion: &mut Criterion) {
    let (place, keys) = (Place::new(OWNER, 1), Keys::none(OWNER));
    let (bytes, builder) = block();
    println!(
        "bytes on disk for a message of 128 with a subject of 8: {:.1}",
        bytes.len() as f64 / MESSAGES as f64
    );
    let mut group = criterion.benchmark_group("block");
    group.throughput(Throughput::Elements(MESSAGES));
    group.bench_function("append and index 128 B", |bench| {
        bench.iter_batched_ref(
            block_buffer,
            |out| {
                let mut context = Context { next_sequence: 1, base_time: 0 };
                let mut builder = Builder::new(&Place::new(OWNER, 1));
                for sequence in 1..=MESSAGES {
                    let record = record(sequence);
                    let offset = out.len() as u32;
                    let len = record.encode(out, &place, offset, &mut context).expect("small");
                    builder.add(At { offset, len, framed: false }, &record);
                }
                builder.index().len()
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("walk and verify 128 B", |bench| {
        bench.iter(|| {
            let mut count = Count(0);
            walk(&bytes, place, Context::default(), 0, &keys, &mut count).expect("ours");
            assert_eq!(count.0, MESSAGES * 128);
        });
    });
    let index = builder.finish(Stamp::of(&bytes), 1, MESSAGES + 1, Position(1));
    let file = index.encode(&place, &keys, &mut Rng::from_u64(1));
    println!("index bytes for a message: {:.1}", file.len() as f64 / MESSAGES as f64);
    group.bench_function("index decode", |bench| {
        bench.iter(|| Index::decode(black_box(&file), &place, index.stamp, &keys).expect("good").len());
    });
    group.throughput(Throughput::Elements(1));
    let mut rng = Rng::from_u64(2);
    group.bench_function("load by sequence, cached", |bench| {
        bench.iter(|| {
            let sequence = 1 + rng.below(MESSAGES);
            let slot = index.slot(sequence).expect("it is there");
            let from = &bytes[slot.offset() as usize..];
            Record::decode(from, &place, slot.offset(), sequence, slot.time).expect("good").payload.len()
        });
    });
    group.finish();
}

fn block_buffer() -> Vec<u8> {
    let mut out = Vec::with_capacity(160 * MESSAGES as usize);
    out.resize(HEADER_LEN, 0);
    out
}

criterion_group!(benches, blocks);
criterion_main!(benches);
