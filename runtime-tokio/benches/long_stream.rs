//! A stream of a hundred million small messages on a real disk: how long it takes to open and read, and in how much memory.
//!
//! `cargo bench -p natrix-runtime-tokio --bench long_stream [-- FOLDER [MESSAGES]]` fills a stream, then opens it in a process
//! of its own and prints what that process has taken of memory at most after each step. The pages that the system keeps of files
//! are no part of that.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

use bytes::Bytes;
use natrix_core::disk::{Completion, DiskQueue, FilePath};
use natrix_core::rng::Rng;
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::change::{Change, NewMessage};
use natrix_core::storage::file::store::{FileStore, FileStoreConfig, StoreEvent};
use natrix_core::storage::file::{Config, Fetch};
use natrix_core::storage::ledger::{Filter, Ledger};
use natrix_core::storage::volume::{Applied, Committed, Store, StoreDisk, Tag};
use natrix_core::storage::{Compression, Lookup, OwnerId, Position, StoreConfig};
use natrix_core::time::WallTime;
use natrix_runtime_tokio::disk::RealDisk;

const OWNER: OwnerId = OwnerId(7);
const SUBJECTS: u64 = 1000;
const NOW: natrix_core::time::Instant = natrix_core::time::Instant::ZERO;

struct World {
    disk: RealDisk,
    completions: Receiver<Completion>,
    queue: DiskQueue<Tag>,
    store: FileStore,
    under_way: usize,
}

impl World {
    /// Opens the stream as a server does: with its caches.
    fn open(folder: &Path) -> World {
        let (sender, completions) = channel();
        // The bench may be over.
        let completed = move |completion| drop(sender.send(completion));
        let disk = RealDisk::open(folder, 2, completed).expect("a folder to write to");
        let files = Config {
            directory: FilePath::root().join("stream"),
            owner: OWNER,
            block_size: 8 << 20,
            compression: Compression::None,
            first_sequence: 1,
            cache: 1 << 20,
            behind: usize::MAX,
        };
        let config = FileStoreConfig { files, stream: StoreConfig::default(), index_budget: 8 << 20 };
        let (keys, rng, mut queue) = (Keys::none(OWNER), Rng::from_u64(1), DiskQueue::default());
        let store = FileStore::open(config, keys, rng, &mut StoreDisk::new(&mut queue, OWNER));
        let mut world = World { disk, completions, queue, store, under_way: 0 };
        while !world.store.is_ready() {
            world.go_on(0);
        }
        world
    }

    /// Hands over what is asked of the disk, and waits until at most `most` requests are under way, for one at least if there is any.
    fn go_on(&mut self, most: usize) {
        loop {
            while let Some(submission) = self.queue.poll() {
                self.under_way += 1;
                self.disk.submit(submission);
            }
            while self.store.poll_event().is_some_and(|event| !matches!(event, StoreEvent::Ready)) {}
            if self.under_way <= most {
                return;
            }
            let completion = self.completions.recv().expect("the disk works");
            self.under_way -= 1;
            if let Some((Tag::Store(_, tag), result)) = self.queue.complete(completion) {
                self.store.handle_disk(tag, result, NOW, &mut StoreDisk::new(&mut self.queue, OWNER));
            }
        }
    }

    fn fill(&mut self, count: u64) {
        for at in 1..=count {
            let (kind, payload) = message(at).encode();
            let entry = Committed { position: Position(at), kind, payload, gaps: false };
            let applied = self.store.apply(&entry, NOW, &mut StoreDisk::new(&mut self.queue, OWNER));
            assert_eq!(applied, Applied::Done);
            if at % 1000 == 0 {
                self.go_on(16);
            }
            // As the journal asks for it when it wants its segments back.
            if at % 2_000_000 == 0 || at == count {
                self.store.cover(Position(at), NOW, &mut StoreDisk::new(&mut self.queue, OWNER));
                self.go_on(0);
            }
        }
    }

    fn ask<T>(&mut self, question: impl Fn(&mut Ledger) -> Lookup<T>) -> T {
        loop {
            match self.store.ask(&question, &mut StoreDisk::new(&mut self.queue, OWNER)) {
                Ok(answer) => return answer,
                Err(_) => self.go_on(0),
            }
        }
    }

    fn load(&mut self, sequence: u64) -> usize {
        loop {
            match self.store.load(sequence, &mut StoreDisk::new(&mut self.queue, OWNER)) {
                Ok(Some(Fetch::Ready(message))) => return message.expect("it is whole").payload.len(),
                // It is in memory when it is asked for again.
                Ok(Some(Fetch::Pending(_))) | Err(_) => self.go_on(0),
                Ok(None) => panic!("{sequence} isn't there"),
            }
        }
    }
}

fn message(at: u64) -> Change {
    Change::Store(NewMessage {
        time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + at as i64 * 1000),
        subject: Bytes::from(format!("sensors.{}", at % SUBJECTS)),
        payload: Bytes::from_static(b"21.5 degrees"),
        checked: true,
        ..NewMessage::default()
    })
}

/// Returns how much memory this process has had at most, and has now, in megabytes.
fn memory() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim_matches(|c: char| !c.is_ascii_digit()).parse::<u64>().unwrap_or_default() / 1024
    };
    (of("VmHWM:"), of("VmRSS:"))
}

/// Does one step and says what it took.
fn step<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    let ((most, now), took) = (memory(), begun.elapsed());
    println!("{what}: {took:.2?}, {now} MB now, {most} MB at most");
    done
}

fn open_and_read(folder: &Path, count: u64) {
    step("before", || ());
    let mut world = step("opened from the indexes", || World::open(folder));
    assert_eq!(world.ask(|ledger| Ok(ledger.messages())), count);
    let some = count.min(5_000_000);
    let read = |world: &mut World, from: u64| (from..from + some).map(|at| world.load(at)).sum::<usize>();
    step(&format!("{some} read from the first on"), || read(&mut world, 1));
    step(&format!("{some} read from the middle on"), || read(&mut world, (count - some) / 2 + 1));
    let mut rng = Rng::from_u64(5);
    step("1,000 read anywhere", || {
        for _ in 0..1000 {
            let sequence = 1 + rng.below(count);
            world.load(sequence);
        }
    });
    step("the last of each of 1,000 subjects", || {
        for at in 0..SUBJECTS {
            let subject = format!("sensors.{at}");
            let last = world.ask(|ledger| ledger.last_of_subject(subject.as_bytes()));
            world.load(last.expect("it has some"));
        }
    });
    let pending = step("how many are pending of one subject, from the start", || {
        world.ask(|ledger| ledger.pending(Filter::Subject(b"sensors.7"), 1, false))
    });
    println!("{pending:?}");
}

fn size(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn main() {
    let mut words = std::env::args().skip(1).filter(|word| !word.starts_with("--"));
    let parent = words.next().map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let count = words.next().map_or(100_000_000, |word| word.parse().expect("a number of messages"));
    if words.next().is_some_and(|word| word == "open") {
        return open_and_read(&parent, count);
    }
    let folder = tempfile::tempdir_in(&parent).expect("a folder to write to");
    step(&format!("{count} written"), || World::open(folder.path()).fill(count));
    println!("{} MB on disk", size(&folder.path().join("stream")) >> 20);
    let own = std::env::current_exe().expect("this program");
    let mut opening = std::process::Command::new(own);
    opening.arg(folder.path()).arg(count.to_string()).arg("open");
    assert!(opening.status().expect("it starts").success());
}
