//! The journal alone, over a disk that takes everything at once: what an entry costs before the disk does.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::disk::instant::InstantDisk;
use natrix_core::disk::{DiskQueue, FilePath};
use natrix_core::rng::Rng;
use natrix_core::storage::journal::{Config, Event, Journal, Ticket};
use natrix_core::storage::{OwnerId, Position};
use natrix_core::time::Instant;

struct Bench {
    journal: Journal,
    queue: DiskQueue<Ticket>,
    disk: InstantDisk,
}

impl Bench {
    fn new() -> Self {
        let mut queue = DiskQueue::default();
        let config = Config { segment_size: 16 << 20, ..Config::new(FilePath::root().join("journal")) };
        let journal = Journal::open(config, Rng::from_u64(1), &mut queue);
        let mut bench = Bench { journal, queue, disk: InstantDisk::default() };
        bench.run();
        bench
    }

    fn run(&mut self) {
        self.journal.advance(Instant::ZERO, &mut self.queue);
        while let Some(submission) = self.queue.poll() {
            let completion = self.disk.execute(submission);
            if let Some((ticket, result)) = self.queue.complete(completion) {
                self.journal.handle_disk(Instant::ZERO, ticket, result, &mut self.queue);
            }
            while let Some(event) = self.journal.poll_event() {
                if let Event::PleaseCover { owner, through } = event {
                    self.journal.covered(owner, through);
                }
            }
        }
    }
}

fn appends(c: &mut Criterion) {
    const ENTRIES: u64 = 1000;
    let mut group = c.benchmark_group("journal");
    group.throughput(Throughput::Elements(ENTRIES)).sample_size(30);
    for (name, owners, length) in [
        ("one owner, 128 B, 1000 in flight", 1, 128),
        ("one owner, 1 KiB, 1000 in flight", 1, 1024),
        ("10,000 owners, 128 B, 1000 in flight", 10_000, 128),
    ] {
        let mut bench = Bench::new();
        let payload = [Bytes::from(vec![7; length])];
        let mut last = Position(0);
        group.bench_function(name, |b| {
            b.iter(|| {
                for _ in 0..ENTRIES {
                    let owner = OwnerId(last.0 % owners);
                    last = bench.journal.append(owner, 1, &payload).expect("there is room");
                }
                bench.run();
            });
        });
    }
    group.throughput(Throughput::Elements(1));
    let mut bench = Bench::new();
    let payload = [Bytes::from(vec![7; 128])];
    group.bench_function("one owner, 128 B, 1 in flight", |b| {
        b.iter(|| {
            bench.journal.append(OwnerId(1), 1, &payload).expect("there is room");
            bench.run();
        });
    });
    group.finish();
}

criterion_group!(benches, appends);
criterion_main!(benches);
