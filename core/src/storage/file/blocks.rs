//! The machine: what is asked of it, and where completions go. How bytes become durable is in `durable.rs`, how they are read
//! in `reads.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::block::index::{Index, Stamp};
use super::super::block::key::Keys;
use super::super::block::mark::NO_TIME;
use super::super::block::{Header, Record, RecordError};
use super::super::{Position, Ranges};
use super::api::{Config, Event, Failure, StoreDisk};
use super::durable::{Pace, Point, Stage};
use super::manifest::{Known, Settings};
use super::mend::Mend;
use super::pieces::Pieces;
use super::reads::{Reads, Wanted};
use super::recovery::Recovery;
use super::removal::Removal;
use super::rewrite::Rewrites;
use super::scrub::{Scrub, Scrubbed};
use super::space::Space;
use super::tail::{Tail, codec};
use crate::disk::{DiskError, FileId, FilePath, Reply, Request};
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::storage::removals::Removals;
use crate::time::{Instant, WallTime};

/// A block that is durable as a whole.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) known: Known,
    pub(super) stamp: Stamp,
    /// Its file, if it was opened for reading.
    pub(super) file: Option<FileId>,
}

/// What a request was for.
#[derive(Debug)]
pub(super) enum Work {
    Recover,
    Ignored,
    /// A file that is removed.
    Remove,
    /// The folder's names, for those of them that are gone.
    Gone,
    /// The front tail's file.
    OpenTail,
    /// The front tail's bytes.
    Write,
    Sync,
    SyncDirectory,
    /// The front tail, to another file.
    Mend,
    Manifest,
    /// A block's file, which had been written anew so often.
    OpenRead {
        block: u32,
        file: FileId,
        rewrites: u32,
    },
    Read(Wanted),
    /// The index file of a block, or (`true`) the block itself because that one is no good.
    Index {
        block: u32,
        whole: bool,
        rewrites: u32,
    },
    /// A piece of a block whose index is wanted.
    Pieces {
        block: u32,
    },
    /// A step of writing a block anew.
    Rewrite,
    /// The index file of a block, written.
    IndexFile {
        block: u32,
    },
    /// A block that is looked over.
    Scrub(Scrubbed),
}

/// The block files of one stream.
#[derive(Debug)]
pub struct BlockFiles {
    pub(super) config: Config,
    pub(super) keys: Keys,
    pub(super) rng: Rng,
    recovery: Option<Box<Recovery>>,
    pub(super) failed: bool,
    /// Recovery found a file that isn't sealed with the newest key, or of which nothing is known.
    pub(super) unsealed: bool,
    /// Blocks that are durable, by number, which is their order.
    pub(super) closed: BTreeMap<u32, Closed>,
    /// Blocks that aren't, oldest first. The last takes what is appended; the first is the only one that is written.
    pub(super) tails: VecDeque<Tail>,
    pub(super) work: BTreeMap<u64, Work>,
    next_tag: u64,
    /// The files that were opened and not closed, recovery's own apart.
    open: BTreeSet<FileId>,
    pub(super) stage: Stage,
    /// The oldest tail's sync failed.
    pub(super) mend: Option<Mend>,
    /// How many writes there were.
    pub(super) writes: u64,
    pub(super) pace: Pace,
    /// Somebody waits for everything through here to be durable.
    pub(super) wanted: Point,
    /// Everything through here is durable, and in the manifest.
    pub(super) recorded: Point,
    next_number: u32,
    /// Whether an entry is half applied: no mark may be written that says what is.
    pub(super) held: bool,
    pub(super) applied: Position,
    pub(super) covered: Position,
    /// What is below isn't in the stream any more.
    pub(super) floor: u64,
    /// When the newest message was stored.
    last_time: i64,
    pub(super) generation: u64,
    pub(super) settings: Settings,
    /// Where blocks before one were cut off, which the manifest may say when that one is durable.
    pub(super) cuts: Vec<(u32, u64)>,
    /// Blocks to be removed, each once everything through here is durable.
    pub(super) dropping: BTreeMap<u32, Point>,
    /// Those of them that the manifest which is written now has no more.
    pub(super) ripe: Vec<u32>,
    pub(super) reads: Reads,
    /// Blocks that have no index file: what is in memory is all that says what was there, should more of them rot.
    pub(super) bare: BTreeSet<u32>,
    /// Blocks that are read for their indexes, and can't be read as a whole.
    pub(super) pieces: BTreeMap<u32, Pieces>,
    pub(super) rewrites: Rewrites,
    pub(super) removals: Removals,
    pub(super) scrub: Scrub,
    pub(super) space: Space,
    pub(super) events: VecDeque<Event>,
}

impl BlockFiles {
    /// Opens what is in the folder, or begins there. `rng` is seeded anew at each start: it draws nonces.
    pub fn open(config: Config, keys: Keys, rng: Rng, disk: &mut impl StoreDisk) -> Self {
        let (recovery, request) = Recovery::begin(config.directory.clone(), config.owner);
        let mut files = BlockFiles {
            recovery: Some(Box::new(recovery)),
            reads: Reads::new(config.cache),
            config,
            keys,
            rng,
            failed: false,
            unsealed: false,
            closed: BTreeMap::new(),
            tails: VecDeque::new(),
            work: BTreeMap::new(),
            next_tag: 0,
            open: BTreeSet::new(),
            stage: Stage::Idle,
            mend: None,
            writes: 0,
            pace: Pace::default(),
            wanted: Point::default(),
            recorded: Point::default(),
            next_number: 1,
            held: false,
            applied: Position::default(),
            covered: Position::default(),
            floor: 0,
            last_time: NO_TIME,
            generation: 0,
            settings: Settings::default(),
            cuts: Vec::new(),
            dropping: BTreeMap::new(),
            ripe: Vec::new(),
            bare: BTreeSet::new(),
            pieces: BTreeMap::new(),
            rewrites: Rewrites::default(),
            removals: Removals::default(),
            scrub: Scrub::default(),
            space: Space::default(),
            events: VecDeque::new(),
        };
        files.submit(Work::Recover, request, disk);
        files
    }

    /// Returns whether entries are taken.
    pub fn is_ready(&self) -> bool {
        self.recovery.is_none() && !self.failed
    }

    /// Returns whether it gave up.
    pub fn is_failed(&self) -> bool {
        self.failed
    }

    /// Returns the sequence behind the last that was ever here.
    pub fn next_sequence(&self) -> u64 {
        self.tails.back().map_or(self.config.first_sequence, Tail::next_sequence)
    }

    /// Returns through which position everything is durable here.
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// Returns the position through which entries are applied.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// Returns the stream's settings as of what is applied; `None` if there never were any.
    pub fn settings(&self) -> Option<Bytes> {
        self.settings.at(self.applied)
    }

    /// Returns the number of the block that takes what is appended.
    ///
    /// # Panics
    ///
    /// If it isn't ready; so for all that changes something.
    pub fn head(&self) -> u32 {
        self.tails.back().expect("there is a head when ready").place.block()
    }

    /// Returns the blocks' numbers, oldest first.
    pub fn blocks(&self) -> Vec<u32> {
        self.closed.keys().copied().chain(self.tails.iter().map(|tail| tail.place.block())).collect()
    }

    /// Returns whether there is a block that is durable as a whole.
    pub fn has_closed_blocks(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Returns whether a block is there, and is to stay.
    pub fn has_block(&self, block: u32) -> bool {
        let here = self.closed.contains_key(&block) || self.index(block).is_some();
        here && !self.dropping.contains_key(&block)
    }

    /// Returns whether a block has no index file.
    pub(super) fn is_bare(&self, block: u32) -> bool {
        self.bare.contains(&block) && !planted::bug(Bug::StoreBareEvicted)
    }

    /// Returns how long a block that is durable as a whole is, in bytes.
    pub fn closed_len(&self, block: u32) -> Option<u32> {
        self.closed.get(&block).map(|closed| closed.known.len)
    }

    /// Returns whether an entry is half applied.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Sets how frames are compressed from now on.
    pub fn set_compression(&mut self, compression: super::super::Compression) {
        self.config.compression = compression;
    }

    /// Returns how long a block is, in bytes; what is still in memory included.
    pub fn block_len(&self, block: u32) -> Option<u32> {
        let tail = self.tails.iter().find(|tail| tail.place.block() == block).map(Tail::len);
        tail.or_else(|| self.closed.get(&block).map(|closed| closed.known.len))
    }

    /// Returns what a block that isn't durable yet holds; the others' indexes are in files.
    pub fn index(&self, block: u32) -> Option<&Index> {
        self.tails.iter().find(|tail| tail.place.block() == block).map(|tail| tail.builder.index())
    }

    /// Returns what a block that isn't durable yet says is gone, or will say.
    pub fn tombstones(&self, block: u32) -> Option<Ranges> {
        let tail = self.tails.iter().find(|tail| tail.place.block() == block)?;
        let mut gone = tail.unsaid().clone();
        tail.builder.index().deleted().iter().for_each(|(first, last)| gone.insert(*first, *last));
        Some(gone)
    }

    /// Adds a message, in memory, and returns where it is ([`Slot::place`](super::super::block::index::Slot::place)).
    /// Sequences ascend.
    ///
    /// # Errors
    ///
    /// [`RecordError::TooLarge`].
    pub fn append(&mut self, record: &Record<'_>) -> Result<u32, RecordError> {
        let tail = self.tails.back_mut().expect("there is a head when ready");
        let at = tail.append(record, codec(&self.keys, self.config.compression), &mut self.rng)?;
        Ok(at.place())
    }

    /// Says that a range of sequences is gone, both ends included.
    pub fn deleted(&mut self, first: u64, last: u64) {
        self.tails.back_mut().expect("there is a head when ready").deleted(first, last);
    }

    /// Says that sequences never have messages.
    pub fn skipped(&mut self, first: u64, count: u64) {
        let tail = self.tails.back_mut().expect("there is a head when ready");
        tail.skipped(first, count, codec(&self.keys, self.config.compression), &mut self.rng);
    }

    /// Says when the newest message was stored, whether it is still there or not.
    pub fn set_last_time(&mut self, time: Option<WallTime>) {
        self.last_time = time.map_or(NO_TIME, WallTime::as_unix_nanos);
        if let Some(tail) = self.tails.back_mut() {
            tail.stream_time = self.last_time;
        }
    }

    /// Says that everything below `floor` is gone.
    pub fn set_floor(&mut self, floor: u64) {
        self.floor = floor;
    }

    /// Says that everything from `next` on is gone and that the sequences there are used again.
    pub fn truncate(&mut self, next: u64) {
        if let Some(tail) = self.tails.back_mut() {
            tail.close(self.applied, self.floor);
        }
        self.floor = self.floor.min(next);
        self.begin(next, 0);
        self.cuts.push((self.head(), next));
    }

    /// Says that nothing of a block is needed any more. Its files are removed when all that was said so far is durable.
    pub fn drop_block(&mut self, block: u32) {
        // The manifest that is written now, if one is, still has it.
        let after = self.want_record();
        let at_once = planted::bug(Bug::StoreDropBeforeRecord);
        self.dropping.insert(block, if at_once { Point::default() } else { after });
    }

    /// Says whether an entry is half applied.
    pub fn set_held(&mut self, held: bool) {
        self.held = held;
    }

    /// Says that all of the entry at `position` was appended.
    pub fn set_applied(&mut self, position: Position) {
        self.applied = self.applied.max(position);
        let codec = codec(&self.keys, self.config.compression);
        if let Some(tail) = self.tails.back_mut() {
            tail.end_entry(self.applied, self.floor, codec, &mut self.rng);
        }
    }

    /// Writes behind what there is, if it is enough to be worth it, and closes the block if it is long enough. Call it
    /// between entries.
    pub fn advance(&mut self, disk: &mut impl StoreDisk) {
        if self.failed {
            return;
        }
        if self.tails.back().is_some_and(|tail| tail.len() >= self.config.block_size) {
            self.close_head();
        }
        self.go_on(disk);
    }

    /// Returns whether so much waits for blocks to be synced that nothing is to be appended. The disk is at it then, as the
    /// oldest of them is closed.
    pub(super) fn is_behind(&self) -> bool {
        let waits = |tail: &Tail| (tail.len() - tail.written()) as usize;
        self.tails.len() > 1 && self.tails.iter().map(waits).sum::<usize>() > self.config.behind
    }

    /// Makes everything that is applied durable; [`Event::Covered`] says when.
    pub fn cover(&mut self, disk: &mut impl StoreDisk) {
        self.want_all();
        self.go_on(disk);
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes what became of a request.
    pub fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut impl StoreDisk,
    ) {
        let Some(work) = self.work.remove(&tag) else { return };
        let Some((work, result)) = self.settle_refused(tag, work, result, now, disk) else { return };
        match (work, result) {
            (Work::Ignored, _) => {}
            (Work::Remove, result) => self.removals.was_removed(&result),
            (Work::Gone, result) => self.removals.are_gone(&result),
            (Work::Recover, result) => self.recover(result, disk),
            (Work::OpenRead { block, file, rewrites }, result) => {
                self.opened((block, file, rewrites), result, disk);
            }
            (Work::Read(wanted), result) => self.was_read(wanted, result, disk),
            (Work::Index { block, whole, rewrites }, result) => {
                self.index_read((block, whole, rewrites), result, disk);
            }
            (Work::Pieces { block }, result) => self.took_piece(block, result, disk),
            (Work::Rewrite, result) => self.rewrite_step(result, disk),
            (Work::IndexFile { block }, result) => {
                self.bare.extend(result.is_err().then_some(block));
                self.rewrite_next(disk);
            }
            (Work::Scrub(wanted), result) => self.was_scrubbed(wanted, result, disk),
            (Work::Sync | Work::SyncDirectory, Err(error)) => self.sync_failed(error, disk),
            (Work::Mend, result) => self.mend_step(result, now, disk),
            (_, Err(error)) => self.fail(error.into()),
            (work, Ok(reply)) => self.durable_step(&work, &reply, disk),
        }
    }

    /// Begins to remove the folder, when what is under way is done. Nothing in it is needed any more.
    pub(super) fn destroy(mut self, disk: &mut impl StoreDisk) -> Removal {
        self.open.extend(self.recovery.as_ref().and_then(|recovery| recovery.open_file()));
        Removal::after(self.config.directory, self.work.into_keys().collect(), self.open, disk)
    }

    /// Closes the head and begins the next block, which is written when this one is durable.
    pub(super) fn close_head(&mut self) {
        let Some(tail) = self.tails.back_mut() else { return };
        tail.close(self.applied, self.floor);
        let (next_sequence, base_time) = (tail.next_sequence(), tail.last_time());
        self.begin(next_sequence, base_time);
    }

    /// Begins a block.
    fn begin(&mut self, first_sequence: u64, base_time: i64) {
        let number = self.next_number;
        self.next_number += 1;
        let tail = self.tails.back().map(|tail| tail.place.block());
        let header = Header {
            owner: self.config.owner,
            block: number,
            cipher: self.keys.cipher(),
            compression: self.config.compression,
            first_sequence,
            base_time,
            key_epoch: self.keys.epoch(),
            rewrites: 0,
            previous: tail.or(self.closed.keys().next_back().copied()).unwrap_or_default(),
        };
        self.tails.push_back(Tail::create(&header, self.last_time).in_pieces(self.config.block_size));
    }

    /// Writes the index file of a block. It is but a cache: nobody is told if that fails.
    pub(super) fn write_index(&mut self, block: u32, index: Vec<u8>, disk: &mut impl StoreDisk) {
        let path = index_path(&self.config.directory, block);
        let data = vec![Bytes::from(index)];
        self.bare.remove(&block);
        self.submit(Work::IndexFile { block }, Request::Replace { path, data }, disk);
    }

    /// Returns whether the index file of a block is being written.
    pub(super) fn writes_index(&self, block: u32) -> bool {
        self.work.values().any(|work| matches!(work, Work::IndexFile { block: other } if *other == block))
    }

    pub(super) fn submit(&mut self, work: Work, request: Request, disk: &mut impl StoreDisk) {
        match &request {
            Request::Open { file, .. } if !matches!(work, Work::Recover) => drop(self.open.insert(*file)),
            Request::Close { file } => drop(self.open.remove(file)),
            Request::Remove { .. } => self.removals.begun(matches!(work, Work::Remove)),
            _ => {}
        }
        self.next_tag += 1;
        self.space.asked(self.next_tag, &work, &request);
        self.work.insert(self.next_tag, work);
        disk.submit(self.next_tag, request);
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        if !std::mem::replace(&mut self.failed, true) {
            self.recovery = None;
            self.stop_waiting();
            self.events.push_back(Event::Failed(failure));
        }
    }

    fn recover(&mut self, result: Result<Reply, DiskError>, disk: &mut impl StoreDisk) {
        let Some(mut recovery) = self.recovery.take() else { return };
        let next = recovery.step(result, (&self.keys, &mut self.rng), disk, &mut self.events);
        if let Some((block, index)) = recovery.take_index() {
            self.write_index(block, index, disk);
        }
        match next {
            Err(failure) => self.fail(failure),
            Ok(Some(request)) => {
                self.recovery = Some(recovery);
                self.submit(Work::Recover, request, disk);
            }
            Ok(None) => {
                let found = recovery.finish(self.config.first_sequence);
                self.applied = found.ready.applied;
                self.covered = found.covered;
                self.next_number = found.next_number;
                self.floor = found.ready.floor;
                self.last_time = found.ready.last_time.map_or(NO_TIME, WallTime::as_unix_nanos);
                self.generation = found.generation;
                self.settings = found.settings.applied_through(self.applied);
                (self.closed, self.bare) = (found.closed, found.bare);
                self.open.extend(found.tail.as_ref().and_then(|tail| tail.file));
                let block_size = self.config.block_size;
                self.tails.extend(found.tail.map(|tail| tail.in_pieces(block_size)));
                if self.tails.is_empty() {
                    self.begin(found.ready.next_sequence, 0);
                } else if found.ready.next_sequence > self.next_sequence()
                    || self.tails.iter().any(|tail| tail.epoch != self.keys.epoch())
                {
                    // The newest block is older than it was, and what it had is not to be used again; or there is a new
                    // key, and no block has two.
                    self.tails.iter_mut().for_each(|tail| tail.close(self.applied, self.floor));
                    self.begin(found.ready.next_sequence, 0);
                }
                for path in found.leftovers {
                    self.submit(Work::Remove, Request::Remove { path }, disk);
                }
                if found.strangers {
                    self.found_stranger();
                }
                self.unsealed = found.strangers || found.unsealed;
                for (number, damage) in found.damaged {
                    self.scrub.tell(number, &damage);
                }
                self.events.push_back(Event::Ready(found.ready));
            }
        }
    }
}

pub(super) fn block_path(directory: &FilePath, number: u32) -> FilePath {
    directory.join(&format!("{number:08x}.blk"))
}

pub(super) fn index_path(directory: &FilePath, number: u32) -> FilePath {
    directory.join(&format!("{number:08x}.idx"))
}

pub(super) fn manifest_path(directory: &FilePath) -> FilePath {
    directory.join(MANIFEST)
}

/// The name of the manifest.
pub(super) const MANIFEST: &str = "stream.manifest";
