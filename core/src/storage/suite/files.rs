//! A stream in files, on a disk in memory.

use crate::disk::instant::InstantDisk;
use crate::disk::{Completion, DiskError, DiskErrorKind, DiskQueue, FilePath, Request, Submission, Token};
use crate::rng::Rng;
use crate::storage::block::key::Keys;
use crate::storage::change::{Change, Outcome};
use crate::storage::file::store::{FileStore, FileStoreConfig, StoreEvent, Wait};
use crate::storage::file::{Config, Fetch};
use crate::storage::ledger::Ledger;
use crate::storage::volume::{Applied, Committed, Store, StoreDisk, Tag};
use crate::storage::{Cipher, Compression, Lookup, Message, OwnerId, Position, StoreConfig};
use crate::time::Instant;

pub(super) const OWNER: OwnerId = OwnerId(0x5017e);

/// How a stream is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Restart {
    /// After all of it was made durable.
    Clean,
    /// With what the disk happened to have, and the rest in the journal.
    Killed,
    /// With the index files gone.
    WithoutIndexes,
    /// With nothing but the blocks.
    BlocksAlone,
}

/// A stream in files, all entries that it was given, and the disk.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) disk: InstantDisk,
    queue: DiskQueue<Tag>,
    store: FileStore,
    config: FileStoreConfig,
    pub(super) keys: Keys,
    rng: Rng,
    restart: Option<Restart>,
    pub(super) entries: Vec<Change>,
    /// After so many writes more, each fails, and how.
    pub(super) fail_after: Option<(usize, DiskErrorKind)>,
    applied: usize,
    covered: Position,
    pub(super) events: Vec<StoreEvent>,
}

impl Files {
    pub(super) fn new(stream: &StoreConfig, codec: (Cipher, Compression), restart: Option<Restart>) -> Self {
        let stream = StoreConfig { compression: codec.1, ..stream.clone() };
        let files = Config {
            directory: FilePath::new("streams/S").unwrap(),
            owner: OWNER,
            block_size: 512,
            compression: codec.1,
            first_sequence: stream.first_sequence,
            cache: 2000,
            behind: 2000,
        };
        let config = FileStoreConfig { files, stream, index_budget: 300 };
        let mut keys = Keys::none(OWNER);
        if codec.0 != Cipher::None {
            keys.add(1, codec.0, b"server key");
        }
        let (mut queue, mut rng) = (DiskQueue::default(), Rng::from_u64(1));
        let store = FileStore::open(
            config.clone(),
            keys.clone(),
            rng.child(),
            &mut StoreDisk::new(&mut queue, OWNER),
        );
        let mut files = Files {
            disk: InstantDisk::default(),
            queue,
            store,
            config,
            keys,
            rng,
            restart,
            entries: Vec::new(),
            fail_after: None,
            applied: 0,
            covered: Position(0),
            events: Vec::new(),
        };
        files.settle();
        assert!(files.store.is_ready());
        files
    }

    /// Lets the disk answer one request; `false` if there is none.
    fn step(&mut self) -> bool {
        let Some(submission) = self.queue.poll() else { return false };
        let completion = match self.failure(&submission.request) {
            Some(error) => Completion { token: submission.token, result: Err(error) },
            None => self.disk.execute(submission),
        };
        if let Some((Tag::Store(_, tag), result)) = self.queue.complete(completion) {
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            self.store.handle_disk(tag, result, Instant::ZERO, &mut disk);
        }
        self.listen();
        self.catch_up();
        true
    }

    /// Lets time pass: so many deadlines come, if there are as many.
    pub(super) fn wait(&mut self, deadlines: usize) {
        for _ in 0..deadlines {
            let Some(due) = self.store.poll_timeout() else { return };
            self.store.handle_timeout(due, &mut StoreDisk::new(&mut self.queue, OWNER));
            self.settle();
        }
    }

    /// Returns how a request fails, if it does.
    fn failure(&mut self, request: &Request) -> Option<DiskError> {
        let writes =
            !matches!(request, Request::Read { .. } | Request::ReadFile { .. } | Request::Close { .. });
        let (left, kind) = self.fail_after.as_mut().filter(|_| writes)?;
        if *left > 0 {
            *left -= 1;
            return None;
        }
        let path = self.config.files.directory.to_string();
        Some(DiskError { kind: *kind, path, message: "no".to_owned() })
    }

    /// Commits an entry, applied or not.
    pub(super) fn commit(&mut self, change: Change) {
        self.entries.push(change);
        self.catch_up();
        self.settle();
    }

    fn settle(&mut self) {
        while self.step() {}
    }

    fn listen(&mut self) {
        self.covered = self.covered.max(self.store.covered());
        self.events.extend(std::iter::from_fn(|| self.store.poll_event()));
    }

    /// Applies what is committed, as far as the store can.
    fn catch_up(&mut self) {
        while let Some(change) = self.entries.get(self.applied) {
            let (kind, payload) = change.encode();
            let entry = Committed { position: Position(self.applied as u64 + 1), kind, payload, gaps: false };
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            if self.store.apply(&entry, Instant::ZERO, &mut disk) == Applied::Pending {
                break;
            }
            self.applied += 1;
            self.listen();
        }
    }

    /// Applies an entry of any kind.
    pub(super) fn apply_raw(&mut self, kind: u8, payload: bytes::Bytes) {
        let entry = Committed {
            position: Position(self.applied as u64 + 1),
            kind,
            payload: vec![payload].into(),
            gaps: false,
        };
        let mut disk = StoreDisk::new(&mut self.queue, OWNER);
        assert_eq!(self.store.apply(&entry, Instant::ZERO, &mut disk), Applied::Pending);
        self.listen();
    }

    /// Asks for everything to be made durable.
    pub(super) fn try_to_cover(&mut self) {
        self.store.cover(Position(u64::MAX), Instant::ZERO, &mut StoreDisk::new(&mut self.queue, OWNER));
        self.settle();
    }

    /// Makes everything durable in the store's own files.
    pub(super) fn cover(&mut self) {
        self.try_to_cover();
        assert_eq!(self.covered, Position(self.entries.len() as u64));
    }

    /// Ends the process and starts again.
    pub(super) fn start_again(&mut self, how: Restart) {
        if how != Restart::Killed {
            self.cover();
        }
        let gone = |path: &&FilePath| match how {
            Restart::Clean | Restart::Killed => false,
            Restart::WithoutIndexes => path.name().ends_with(".idx"),
            Restart::BlocksAlone => !path.name().ends_with(".blk"),
        };
        for path in self.disk.paths().filter(gone).cloned().collect::<Vec<_>>() {
            let submission = Submission { token: Token(0), request: Request::Remove { path } };
            self.disk.execute(submission).result.unwrap();
        }
        self.open_again();
        assert!(self.store.is_ready(), "{:?}", self.events);
    }

    /// Starts again with what the disk has.
    pub(super) fn open_again(&mut self) {
        self.disk.restart();
        self.queue = DiskQueue::default();
        self.events.clear();
        let mut disk = StoreDisk::new(&mut self.queue, OWNER);
        self.store = FileStore::open(self.config.clone(), self.keys.clone(), self.rng.child(), &mut disk);
        self.store.convert(&mut disk);
        self.applied = self.covered.0 as usize;
        self.settle();
    }

    pub(super) fn files(&self) -> &FileStore {
        &self.store
    }

    /// How many bytes the files have whose names end so.
    pub(super) fn bytes_of(&self, end: &str) -> usize {
        let files = self.disk.paths().filter(|path| path.name().ends_with(end));
        files.map(|path| self.disk.content(path).map_or(0, <[u8]>::len)).sum()
    }

    /// How many blocks there are on the disk.
    pub(super) fn blocks(&self) -> usize {
        self.disk.paths().filter(|path| path.name().ends_with(".blk")).count()
    }
}

impl super::Stream for Files {
    fn apply(&mut self, change: Change) -> Outcome {
        let position = Position(self.entries.len() as u64 + 1);
        self.entries.push(change);
        self.catch_up();
        self.settle();
        let outcome = self.events.iter().rev().find_map(|event| match event {
            StoreEvent::Applied(at, outcome) if *at == position => Some(*outcome),
            _ => None,
        });
        outcome.unwrap_or_else(|| panic!("it is never applied: {:?}", self.events))
    }

    fn ask<T>(&mut self, question: impl Fn(&mut Ledger) -> Lookup<T>) -> T {
        loop {
            match self.store.ask(&question, &mut StoreDisk::new(&mut self.queue, OWNER)) {
                Ok(answer) => return answer,
                Err(Wait::Index(_)) => assert!(self.step(), "nothing is under way"),
                Err(wait) => panic!("{wait:?}"),
            }
        }
    }

    fn load(&mut self, sequence: u64) -> Option<Message> {
        let fetch = loop {
            match self.store.load(sequence, &mut StoreDisk::new(&mut self.queue, OWNER)) {
                Ok(fetch) => break fetch?,
                Err(Wait::Index(_)) => assert!(self.step(), "nothing is under way"),
                Err(wait) => panic!("{wait:?}"),
            }
        };
        let result = match fetch {
            Fetch::Ready(result) => result,
            Fetch::Pending(id) => loop {
                let answer = self.events.iter().find_map(|event| match event {
                    StoreEvent::Read(read, result) if *read == id => Some(result.clone()),
                    _ => None,
                });
                if let Some(answer) = answer {
                    break answer;
                }
                assert!(self.step(), "nothing is under way");
            },
        };
        Some(result.unwrap())
    }

    fn rest(&mut self, asked: bool) {
        match self.restart {
            Some(how) => self.start_again(how),
            None if asked => self.start_again(Restart::Clean),
            None => {}
        }
    }
}
