//! What many stores on one shard cost the disk: the requests that reach it, by kind, when messages come for one store or
//! another, a few while each sync runs.
//!
//! `cargo bench -p natrix-core --bench many_stores` prints them for each number of stores: those that wait for the medium (synced
//! writes, syncs, replaced files, synced folders) must not grow with it.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use natrix_core::disk::instant::InstantDisk;
use natrix_core::disk::{FilePath, Request};
use natrix_core::rng::Rng;
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::change::{Change, NewMessage};
use natrix_core::storage::file::Config as Files;
use natrix_core::storage::file::store::{FileStore, FileStoreConfig};
use natrix_core::storage::journal::Config;
use natrix_core::storage::volume::{Store, Volume};
use natrix_core::storage::{Compression, OwnerId, StoreConfig};
use natrix_core::time::{Instant, WallTime};
use rustix::time::{ClockId, clock_gettime};

/// How many messages come in all, and while one sync runs.
const MESSAGES: u64 = 200_000;
const AT_ONCE: u64 = 10;

struct World {
    volume: Volume<FileStore>,
    disk: InstantDisk,
    now: Instant,
    requests: BTreeMap<&'static str, u64>,
}

impl World {
    fn open(stores: u64) -> World {
        // As a server has it, but segments of a quarter: they are used again and again here.
        let config = Config { segment_size: 4 << 20, ..Config::new(FilePath::root().join("journal")) };
        let mut rng = Rng::from_u64(1);
        let mut volume = Volume::open(config, rng.child(), []);
        for owner in (1..=stores).map(OwnerId) {
            let files = Files {
                directory: FilePath::root().join("streams").join(&format!("{:016x}", owner.0)),
                owner,
                block_size: 8 << 20,
                compression: Compression::None,
                first_sequence: 1,
                cache: 1 << 20,
                behind: usize::MAX,
            };
            let config = FileStoreConfig { files, stream: StoreConfig::default(), index_budget: 8 << 20 };
            let rng = rng.child();
            volume.add_with(owner, |disk| FileStore::open(config, Keys::none(owner), rng, disk));
        }
        let (disk, now, requests) = (InstantDisk::default(), Instant::ZERO, BTreeMap::new());
        let mut world = World { volume, disk, now, requests };
        world.settle();
        world
    }

    /// Lets the disk do what it is asked for, until nobody wants more of it now.
    fn settle(&mut self) {
        self.now += Duration::from_micros(200);
        self.volume.advance(self.now);
        while let Some(submission) = self.volume.poll_disk() {
            let kind = match &submission.request {
                Request::Write { sync: true, .. } => "synced writes",
                Request::Write { .. } => "plain writes",
                Request::Sync { .. } => "syncs",
                Request::Replace { .. } => "files replaced",
                Request::SyncDirectory { .. } => "folders synced",
                Request::Read { .. } | Request::ReadFile { .. } => "reads",
                _ => "others",
            };
            *self.requests.entry(kind).or_default() += 1;
            self.volume.handle_disk(self.now, self.disk.execute(submission));
        }
        while self.volume.poll_event().is_some() {}
    }
}

fn message(at: u64) -> Change {
    Change::Store(NewMessage {
        time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + at as i64 * 1000),
        subject: Bytes::from_static(b"orders.eu"),
        payload: Bytes::from_static(&[b'x'; 128]),
        checked: true,
        ..NewMessage::default()
    })
}

/// The processor time of this thread: others may have the machine meanwhile.
fn clock() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn run(stores: u64) {
    let mut world = World::open(stores);
    let mut rng = Rng::from_u64(2);
    // Each has a block already, as streams have that are not of today.
    for owner in (1..=stores).map(OwnerId) {
        let (kind, payload) = message(0).encode();
        world.volume.propose(owner, kind, payload).expect("there is room");
        if owner.0 % 100 == 0 {
            world.settle();
        }
    }
    world.settle();
    world.requests.clear();
    let begun = clock();
    for at in 0..MESSAGES {
        let (kind, payload) = message(at).encode();
        world.volume.propose(OwnerId(1 + rng.below(stores)), kind, payload).expect("there is room");
        if at % AT_ONCE == AT_ONCE - 1 {
            world.settle();
        }
    }
    let took = clock() - begun;
    let medium = ["synced writes", "syncs", "files replaced", "folders synced"];
    let waits: u64 = medium.iter().filter_map(|kind| world.requests.get(kind)).sum();
    let each = took.as_nanos() as u64 / MESSAGES;
    println!("{stores} stores: {waits} that wait for the medium, {each} ns a message; {:?}", world.requests);
    let has_all =
        (1..=stores).all(|owner| world.volume.store(OwnerId(owner)).is_some_and(FileStore::is_ready));
    assert!(has_all && !world.volume.store(OwnerId(1)).is_some_and(Store::has_failed));
}

fn main() {
    println!("{MESSAGES} messages of 128 bytes, {AT_ONCE} while each sync runs");
    for stores in [1, 100, 1_000, 10_000] {
        run(stores);
    }
}
