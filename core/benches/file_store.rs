//! A stream in files over a disk in memory: what the code costs on one core, without the disk and without syncs.
//!
//! `cargo bench -p natrix-core --bench file_store` prints the median of some runs of each figure, in processor time.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use natrix_core::disk::instant::InstantDisk;
use natrix_core::disk::{DiskQueue, FilePath};
use natrix_core::rng::Rng;
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::change::{Change, NewMessage};
use natrix_core::storage::file::store::{FileStore, FileStoreConfig, Wait};
use natrix_core::storage::file::{Config, Fetch};
use natrix_core::storage::ledger::{Filter, Ledger};
use natrix_core::storage::volume::{Applied, Committed, Store, StoreDisk, Tag};
use natrix_core::storage::{Compression, Lookup, OwnerId, Position, StoreConfig};
use natrix_core::time::{Instant, WallTime};
use rustix::time::{ClockId, clock_gettime};

const OWNER: OwnerId = OwnerId(7);
const MILLION: u64 = 1_000_000;

struct World {
    disk: InstantDisk,
    queue: DiskQueue<Tag>,
    store: FileStore,
    position: u64,
}

fn config() -> FileStoreConfig {
    let files = Config {
        directory: FilePath::new("streams/S").expect("a path"),
        owner: OWNER,
        block_size: 8 << 20,
        compression: Compression::None,
        first_sequence: 1,
        cache: 1 << 20,
        behind: usize::MAX,
    };
    FileStoreConfig { files, stream: StoreConfig::default(), index_budget: 64 << 20 }
}

fn open(disk: InstantDisk, config: FileStoreConfig) -> World {
    let mut queue = DiskQueue::default();
    let store =
        FileStore::open(config, Keys::none(OWNER), Rng::from_u64(1), &mut StoreDisk::new(&mut queue, OWNER));
    let mut world = World { disk, queue, store, position: 0 };
    world.settle();
    assert!(world.store.is_ready());
    world
}

impl World {
    fn settle(&mut self) {
        while let Some(submission) = self.queue.poll() {
            let Some((Tag::Store(_, tag), result)) = self.queue.complete(self.disk.execute(submission))
            else {
                continue;
            };
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            self.store.handle_disk(tag, result, Instant::ZERO, &mut disk);
        }
        while self.store.poll_event().is_some() {}
    }

    fn apply(&mut self, change: &Change) {
        self.position += 1;
        let (kind, payload) = change.encode();
        let entry = Committed { position: Position(self.position), kind, payload, gaps: false };
        let mut disk = StoreDisk::new(&mut self.queue, OWNER);
        assert_eq!(self.store.apply(&entry, Instant::ZERO, &mut disk), Applied::Done);
    }

    fn filled(count: u64, subjects: u64) -> World {
        let mut world = open(InstantDisk::default(), config());
        for at in 0..count {
            world.apply(&message(at, subjects));
            if at % 64 == 0 {
                world.settle();
            }
        }
        world.store.cover(Position(u64::MAX), Instant::ZERO, &mut StoreDisk::new(&mut world.queue, OWNER));
        world.settle();
        world
    }

    fn load(&mut self, sequence: u64) -> usize {
        loop {
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            match self.store.load(sequence, &mut disk) {
                Ok(Some(Fetch::Ready(Ok(message)))) => return message.payload.len(),
                // It is in memory when it is asked for again.
                Ok(Some(Fetch::Pending(_))) | Err(Wait::Index(_)) => self.settle(),
                other => panic!("{other:?}"),
            }
        }
    }

    fn ask<T>(&mut self, question: impl Fn(&mut Ledger) -> Lookup<T>) -> T {
        loop {
            match self.store.ask(&question, &mut StoreDisk::new(&mut self.queue, OWNER)) {
                Ok(answer) => return answer,
                Err(_) => self.settle(),
            }
        }
    }
}

fn message(at: u64, subjects: u64) -> Change {
    Change::Store(NewMessage {
        time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + at as i64 * 1000),
        subject: Bytes::from(format!("orders.{}", at % subjects)),
        payload: Bytes::from_static(&[b'x'; 128]),
        checked: true,
        ..NewMessage::default()
    })
}

fn median(runs: usize, mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..runs).map(|_| run()).collect();
    times.sort_unstable();
    times[runs / 2]
}

/// The processor time of this thread: others may have the machine meanwhile.
fn clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn timed<T>(act: impl FnOnce() -> T) -> Duration {
    let start = clock();
    black_box(act());
    clock() - start
}

fn rate(what: &str, count: u64, took: Duration) {
    let each = took.as_nanos() as f64 / count as f64;
    println!("{what}: {:.2} million a second, {each:.0} ns each", 1000.0 / each);
}

fn writing() {
    let changes: Vec<Change> = (0..300_000).map(|at| message(at, 1)).collect();
    let took = median(5, || {
        let mut world = open(InstantDisk::default(), config());
        timed(|| {
            for (at, change) in changes.iter().enumerate() {
                world.apply(change);
                if at % 64 == 0 {
                    world.settle();
                }
            }
            world.settle();
        })
    });
    rate("store, 128 bytes, one subject (entry made, read, applied, written behind)", 300_000, took);
}

fn reading() {
    let mut world = World::filled(MILLION, 100_000);
    let took = median(5, || timed(|| (1..=MILLION).map(|sequence| world.load(sequence)).sum::<usize>()));
    rate("load, one after the other", MILLION, took);
    world.load(500_000);
    let took = median(5, || timed(|| (0..100_000).map(|_| world.load(500_100)).sum::<usize>()));
    rate("load by sequence, in memory", 100_000, took);
    let blocks: u64 = world
        .ask(|ledger| Ok(ledger.blocks().filter(|block| block.loaded).map(|block| block.messages).sum()));
    println!("index in memory: {:.1} bytes a message", world.store.index_memory() as f64 / blocks as f64);
    let disk: usize = world.disk.paths().filter_map(|path| Some(world.disk.content(path)?.len())).sum();
    println!("on disk with indexes and manifest: {:.1} bytes a message", disk as f64 / MILLION as f64);
    let blocks = world.disk.paths().filter(|path| path.name().ends_with(".blk"));
    let bytes: usize = blocks.filter_map(|path| Some(world.disk.content(path)?.len())).sum();
    println!("blocks alone: {:.1} bytes a message", bytes as f64 / MILLION as f64);

    let mut at = 0;
    let took = median(5, || {
        timed(|| {
            for _ in 0..10_000 {
                at = (at + 7919) % 100_000;
                let subject = format!("orders.{at}");
                black_box(world.ask(|ledger| ledger.last_of_subject(subject.as_bytes())));
            }
        })
    });
    rate("last message of one of 100,000 subjects", 10_000, took);
    let took = median(5, || {
        timed(|| world.ask(|ledger| ledger.pending(Filter::Subject(b"orders.77"), 500_000, false)))
    });
    println!("pending of one subject from the middle of a million: {took:?}");
    let took =
        median(5, || timed(|| world.ask(|ledger| ledger.pending(Filter::Subject(b"orders.*"), 1, false))));
    println!("pending of all 100,000 subjects by wildcard, from the start: {took:?}");
    let took = median(3, || {
        timed(|| world.ask(|ledger| ledger.pending(Filter::Subject(b"orders.*"), 500_000, false)))
    });
    println!("the same from the middle: {took:?}");
    opening(world, "100,000 subjects");
    opening(World::filled(MILLION, 1), "one subject");
}

/// Opens what is on the disk of `world`, as often as it takes.
fn reopened(world: &mut World, runs: usize) -> Duration {
    median(runs, || {
        let disk = std::mem::take(&mut world.disk);
        let start = clock();
        let mut again = open(disk, config());
        let took = clock() - start;
        world.disk = std::mem::take(&mut again.disk);
        world.disk.restart();
        took
    })
}

fn opening(mut world: World, subjects: &str) {
    let took = reopened(&mut world, 5);
    println!("opening a stream of a million messages of {subjects} from its indexes: {took:?}");
    let paths: Vec<FilePath> =
        world.disk.paths().filter(|path| path.name().ends_with(".idx")).cloned().collect();
    for path in &paths {
        if let Some(content) = world.disk.content_mut(path) {
            content.clear();
        }
    }
    let bytes: usize = world.disk.paths().filter_map(|path| Some(world.disk.content(path)?.len())).sum();
    let took = reopened(&mut world, 3);
    let rate = bytes as f64 / took.as_secs_f64() / 1e6;
    println!("the same from its blocks: {took:?}, {rate:.0} MB a second");
}

fn main() {
    writing();
    reading();
}
