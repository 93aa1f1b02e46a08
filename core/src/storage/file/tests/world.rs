//! A store, a disk that crashes, a journal that never loses an entry that isn't covered, and the same stream in memory.

use super::crash_disk::CrashDisk;
use crate::disk::{Completion, DiskQueue, FilePath, Request, Submission};
use crate::rng::Rng;
use crate::storage::block::key::Keys;
use crate::storage::change::Change;
use crate::storage::file::store::{FileStore, FileStoreConfig, StoreEvent, Wait};
use crate::storage::file::{Config, Event, Failure, Fetch, ReadError, RemovalEvent};
use crate::storage::ledger::{Filter, Ledger};
use crate::storage::memory::MemoryStore;
use crate::storage::volume::{Applied, Committed, Store, StoreDisk, Tag};
use crate::storage::{Cipher, Compression, Lookup, Message, OwnerId, Position, StoreConfig};
use crate::time::Instant;

pub(super) const OWNER: OwnerId = OwnerId(0x5ee1);

pub(super) fn keys(cipher: Cipher, server_key: &[u8]) -> Keys {
    let mut keys = Keys::none(OWNER);
    if cipher != Cipher::None {
        keys.add(1, cipher, server_key);
    }
    keys
}

/// How often something is tried before it is held to wait for ever.
const PATIENCE: usize = 100_000;

pub(super) struct World {
    pub(super) disk: CrashDisk,
    pub(super) queue: DiskQueue<Tag>,
    pub(super) store: FileStore,
    pub(super) config: FileStoreConfig,
    pub(super) keys: Keys,
    pub(super) dice: Rng,
    /// All entries that were ever committed; the one at place `n` has the position `n + 1`.
    pub(super) entries: Vec<Change>,
    /// The places of those that the journal has lost.
    pub(super) missing: Vec<usize>,
    /// How many of them the store has applied.
    pub(super) applied: usize,
    /// The highest position that was told to be covered.
    pub(super) covered: Position,
    pub(super) events: Vec<StoreEvent>,
    outstanding: Vec<Submission>,
    /// Whether the disk takes its time over index files.
    pub(super) holds_indexes: bool,
    /// Whether what the disk has done is heard of later than it is done.
    pub(super) late: bool,
    unheard: Vec<Completion>,
}

impl World {
    pub(super) fn new(codec: (Cipher, Compression), stream: StoreConfig, seed: u64) -> Self {
        let files = Config {
            directory: FilePath::new("streams/S").unwrap(),
            owner: OWNER,
            block_size: 4096,
            compression: codec.1,
            first_sequence: stream.first_sequence,
            cache: 20_000,
            behind: 10_000,
        };
        let config = FileStoreConfig { files, stream, index_budget: 600 };
        let (mut queue, mut dice) = (DiskQueue::default(), Rng::from_u64(seed));
        let keys = keys(codec.0, b"server key");
        let mut disk = StoreDisk::new(&mut queue, OWNER);
        let store = FileStore::open(config.clone(), keys.clone(), dice.child(), &mut disk);
        let mut world = World {
            disk: CrashDisk::default(),
            queue,
            store,
            config,
            keys,
            dice,
            entries: Vec::new(),
            missing: Vec::new(),
            applied: 0,
            covered: Position(0),
            events: Vec::new(),
            outstanding: Vec::new(),
            holds_indexes: false,
            late: false,
            unheard: Vec::new(),
        };
        world.settle();
        assert!(world.store.is_ready(), "{:?}", world.events);
        world
    }

    /// Lets the disk answer that many requests, in any order.
    pub(super) fn pump(&mut self, most: usize) -> usize {
        for done in 0..most {
            self.outstanding.extend(std::iter::from_fn(|| self.queue.poll()));
            let Some(completion) = self.next_completion() else {
                match self.ready().is_empty() && self.unheard.is_empty() {
                    true => return done,
                    false => continue,
                }
            };
            let Some((Tag::Store(_, tag), result)) = self.queue.complete(completion) else { continue };
            self.store.handle_disk(tag, result, Instant::ZERO, &mut StoreDisk::new(&mut self.queue, OWNER));
            self.apply();
            self.listen();
        }
        most
    }

    /// The places of the requests that the disk may do next.
    fn ready(&self) -> Vec<usize> {
        let held = |request: &Request| {
            self.holds_indexes
                && matches!(request, Request::Replace { path, .. } if path.name().ends_with(".idx"))
        };
        let ready = |(at, submission): (usize, &Submission)| (!held(&submission.request)).then_some(at);
        self.outstanding.iter().enumerate().filter_map(ready).collect()
    }

    /// Lets the disk do one thing, or tell what it did.
    fn next_completion(&mut self) -> Option<Completion> {
        let ready = self.ready();
        let all = ready.len() + self.unheard.len();
        let at = (all > 0).then(|| self.dice.below(all as u64) as usize)?;
        if let Some(at) = at.checked_sub(ready.len()) {
            return Some(self.unheard.swap_remove(at));
        }
        let completion = self.disk.execute(self.outstanding.swap_remove(ready[at]));
        if self.late {
            self.unheard.push(completion);
            return None;
        }
        Some(completion)
    }

    pub(super) fn settle(&mut self) {
        assert!(self.pump(PATIENCE) < PATIENCE, "it never comes to rest: {:?}", self.outstanding);
    }

    pub(super) fn listen(&mut self) {
        assert!(self.store.covered() >= self.covered, "what was covered stays covered");
        self.covered = self.store.covered();
        self.events.extend(std::iter::from_fn(|| self.store.poll_event()));
    }

    /// Applies what is committed, as far as the store can.
    fn apply(&mut self) {
        while let Some(change) = self.entries.get(self.applied) {
            if self.missing.contains(&self.applied) {
                self.applied += 1;
                continue;
            }
            let (kind, payload) = change.encode();
            let position = Position(self.applied as u64 + 1);
            let entry = Committed { position, kind, payload, gaps: !self.missing.is_empty() };
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            if self.store.apply(&entry, Instant::ZERO, &mut disk) == Applied::Pending {
                break;
            }
            self.applied += 1;
        }
    }

    pub(super) fn commit(&mut self, change: Change) {
        self.entries.push(change);
        self.apply();
        self.listen();
    }

    pub(super) fn cover(&mut self) {
        let mut disk = StoreDisk::new(&mut self.queue, OWNER);
        self.store.cover(Position(u64::MAX), Instant::ZERO, &mut disk);
        self.listen();
    }

    /// Starts again with what the disk has, within so many answers of it. Entries that were covered are in no journal any more.
    pub(super) fn restart_within(&mut self, most: usize) {
        self.disk.restart();
        self.queue = DiskQueue::default();
        self.outstanding.clear();
        self.unheard.clear();
        self.events.clear();
        let rng = self.dice.child();
        let mut disk = StoreDisk::new(&mut self.queue, OWNER);
        self.store = FileStore::open(self.config.clone(), self.keys.clone(), rng, &mut disk);
        self.store.convert(&mut disk);
        // Those are recycled: if the store hasn't them, nobody has.
        self.applied = self.covered.0 as usize;
        self.covered = Position(0);
        self.pump(most);
    }

    /// Destroys the store, within so many answers of the disk. Returns the disk, and whether it is done.
    pub(super) fn destroy(self, most: usize) -> (CrashDisk, bool) {
        let World { mut disk, mut queue, store, mut outstanding, mut dice, .. } = self;
        let mut removal = store.destroy(&mut StoreDisk::new(&mut queue, OWNER));
        for _ in 0..most {
            outstanding.extend(std::iter::from_fn(|| queue.poll()));
            if outstanding.is_empty() {
                break;
            }
            let at = dice.below(outstanding.len() as u64) as usize;
            let completion = disk.execute(outstanding.swap_remove(at));
            let Some((Tag::Store(_, tag), result)) = queue.complete(completion) else { continue };
            removal.handle_disk(tag, result, &mut StoreDisk::new(&mut queue, OWNER));
        }
        let removed = removal.poll_event() == Some(RemovalEvent::Removed);
        assert_eq!(removed, removal.is_done());
        (disk, removed)
    }

    pub(super) fn restart(&mut self) {
        self.restart_within(usize::MAX);
    }

    /// The stream as its entries make it, in memory.
    pub(super) fn model(&self, entries: usize) -> MemoryStore {
        let mut config = self.config.stream.clone();
        config.first_sequence = self.config.files.first_sequence;
        let mut model = MemoryStore::counting_as_file(config);
        for change in &self.entries[..entries] {
            model.apply(change.clone());
        }
        model
    }

    /// Asks until nothing is missing.
    pub(super) fn ask<T>(&mut self, question: impl Fn(&mut Ledger) -> Lookup<T>) -> T {
        for _ in 0..PATIENCE {
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            match self.store.ask(&question, &mut disk) {
                Ok(answer) => return answer,
                Err(Wait::Failed) => panic!("{:?}", self.events),
                Err(_) => assert!(self.pump(1) > 0, "nothing is under way"),
            }
        }
        panic!("it asks for ever");
    }

    pub(super) fn load(&mut self, sequence: u64) -> Option<Result<Message, ReadError>> {
        let fetch = loop {
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            match self.store.load(sequence, &mut disk) {
                Ok(fetch) => break fetch?,
                Err(Wait::Failed) => panic!("{:?}", self.events),
                Err(_) => assert!(self.pump(1) > 0, "nothing is under way"),
            }
        };
        match fetch {
            Fetch::Ready(result) => Some(result),
            Fetch::Pending(id) => loop {
                let answer = self.events.iter().find_map(|event| match event {
                    StoreEvent::Read(read, result) if *read == id => Some(result.clone()),
                    _ => None,
                });
                if answer.is_some() {
                    break answer;
                }
                assert!(self.pump(1) > 0, "nothing is under way");
            },
        }
    }

    /// What is here is what its entries make of it, to the message.
    pub(super) fn check(&mut self) {
        let mut model = self.model(self.applied);
        let state = self.ask(|ledger| ledger.state());
        assert_eq!(state, model.state());
        assert_eq!(self.ask(|ledger| ledger.deleted()), model.deleted());
        let all = |ledger: &mut Ledger| ledger.subject_states(Filter::All);
        assert_eq!(self.ask(all), model.subject_states(Filter::All));
        for sequence in state.first_sequence.saturating_sub(3)..=state.last_sequence + 1 {
            let expected = model.load(sequence).map(Ok);
            assert_eq!(self.load(sequence), expected, "message {sequence}");
        }
        let from = self.dice.below(state.last_sequence + 2);
        for filter in [&b"a"[..], b">", b"a.*", b"*.x"] {
            let filter = Filter::Subject(filter);
            assert_eq!(
                self.ask(|ledger| ledger.pending(filter, from, false)),
                model.pending(filter, from, false)
            );
            let next = self.ask(|ledger| ledger.next(filter, from));
            assert_eq!(next, model.load_next(filter, from).map(|message| message.sequence));
            let lasts = self.ask(|ledger| ledger.last_sequences(filter, from, 0));
            assert_eq!(lasts, model.last_sequences(filter, from, 0));
        }
        let time = crate::time::WallTime::from_unix_nanos(
            1_700_000_000_000_000_000 + self.dice.below(600) as i64 * 1_000_000_000,
        );
        assert_eq!(self.ask(|ledger| ledger.sequence_from_time(time)), model.sequence_from_time(time));
    }

    /// The sequences that the store says are lost.
    pub(super) fn lost(&mut self) -> Vec<(u64, u64)> {
        self.ask(|ledger| ledger.state()).lost.ranges
    }

    pub(super) fn failure(&self) -> Option<&Failure> {
        self.events.iter().find_map(|event| match event {
            StoreEvent::Files(Event::Failed(failure)) => Some(failure),
            _ => None,
        })
    }

    pub(super) fn path(&self, name: &str) -> FilePath {
        self.config.files.directory.join(name)
    }
}
