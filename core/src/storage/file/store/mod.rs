//! A stream in files: a [`Ledger`] over [`BlockFiles`].
//!
//! ```text
//! mod.rs       what is asked: opening, questions, reads
//! apply.rs     entries: what changes the ledger and is written behind
//! upkeep.rs    blocks that are empty, sparse, or sealed with an old key; indexes that take too much memory
//! ```
//!
//! # Invariants
//!
//! - The ledger is what the entries through `applied` make of an empty one, whatever is in memory, on disk or rewritten.
//! - No mark is written while an entry is half applied.
//! - Every message of the ledger is in a block at its location; every sequence that a block has and the ledger doesn't is
//!   below the floor, in a tombstone of that block or a newer one, or cut off.

mod apply;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::block::RecordError;
use super::super::block::index::Index;
use super::super::block::key::Keys;
#[cfg(doc)]
use super::super::change::Change;
use super::super::change::Outcome;
use super::super::ledger::{Filter, Found, Ledger, Location, Rebuild, Removed};
use super::super::volume::{Applied, Committed, Store, StoreDisk as VolumeDisk};
use super::super::{Lookup, Message, Missing, Position, Ranges, StoreConfig, StreamState};
use super::api::{Config, Event, Fetch, ReadError, ReadId, StoreDisk};
use super::blocks::BlockFiles;
use super::removal::Removal;
use super::scrub::ScrubPace;
use crate::disk::{DiskError, Reply};
use crate::planted::{self, Bug};
use crate::rng::{HashKeys, Rng};
use crate::time::Instant;
use apply::Applying;
use upkeep::{KEPT, Upkeep};

/// What a file store is made with.
#[derive(Clone, Debug)]
pub struct FileStoreConfig {
    /// The block files.
    pub files: Config,
    /// The settings of a stream that is new. One that isn't has those that the last [`Change::Configure`] gave it.
    pub stream: StoreConfig,
    /// How many bytes indexes of blocks may take in memory, the newest block's apart. One question may take more
    /// while it is answered.
    pub index_budget: usize,
}

/// What a file store tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// Recovery is done: entries are taken, questions answered.
    Ready,
    /// The entry at this position was applied.
    Applied(Position, Outcome),
    /// A message was removed. What is purged as a whole is told by its entry's outcome alone.
    Removed(Removed),
    /// An index is in memory: what waited for it is to be asked again.
    Loaded {
        /// The number of the block.
        block: u32,
    },
    /// What [`FileStore::load`] left pending.
    Read(ReadId, Result<Message, ReadError>),
    /// What the files have to tell an operator.
    Files(Event),
}

/// Why a question isn't answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Recovery is under way; [`StoreEvent::Ready`] ends it.
    Recovery,
    /// The index of a block is being loaded; [`StoreEvent::Loaded`] says when to ask again.
    Index(u32),
    /// The store has failed.
    Failed,
}

/// What recovery has put together so far.
#[derive(Debug, Default)]
struct Recovering {
    rebuild: Option<Rebuild>,
    /// What is damaged in the block that comes next, and how many bytes of it are.
    damaged: Ranges,
    damaged_bytes: u64,
}

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
struct Reading {
    /// What it is called to whoever asked.
    asked: ReadId,
    location: Location,
    /// How often the block had been written anew when the message was found there.
    rewrites: Option<u32>,
}

/// A stream in files.
#[derive(Debug)]
pub struct FileStore {
    config: FileStoreConfig,
    files: BlockFiles,
    recovering: Option<Box<Recovering>>,
    /// Empty until recovery is done.
    ledger: Ledger,
    applying: Applying,
    upkeep: Upkeep,
    /// Indexes that are being loaded.
    loading: BTreeSet<u32>,
    /// Reads that wait for the disk, by what they are called there.
    reads: BTreeMap<ReadId, Reading>,
    /// Reads whose messages stand elsewhere now, as soon as it is known where.
    moved: Vec<Reading>,
    events: VecDeque<StoreEvent>,
}

impl FileStore {
    /// Opens what is in the folder, or begins there. `rng` is seeded anew at each start.
    pub fn open(config: FileStoreConfig, keys: Keys, rng: Rng, disk: &mut impl StoreDisk) -> Self {
        FileStore {
            files: BlockFiles::open(config.files.clone(), keys, rng, disk),
            ledger: Ledger::new(super::super::StorageKind::File, config.stream.clone()),
            config,
            recovering: Some(Box::default()),
            applying: Applying::default(),
            upkeep: Upkeep::default(),
            loading: BTreeSet::new(),
            reads: BTreeMap::new(),
            moved: Vec::new(),
            events: VecDeque::new(),
        }
    }

    /// Removes all that the stream has on disk, once what is under way is done. To be called when the entry that forgets it is
    /// committed; the completions of the store's requests go to the removal from now on.
    pub fn destroy(self, disk: &mut impl StoreDisk) -> Removal {
        self.files.destroy(disk)
    }

    /// Sets how fast blocks are read in the background, to find damage; `None`, as at the beginning, for not at all. What is
    /// found is told as recovery tells it; what is lost is removed from the ledger, in memory, and stays on disk as it is.
    pub fn set_scrub(&mut self, pace: Option<ScrubPace>, now: Instant) {
        self.files.set_scrub(pace, now);
    }

    /// Returns whether entries are taken.
    pub fn is_ready(&self) -> bool {
        self.recovering.is_none() && !self.files.is_failed()
    }

    /// Returns the files.
    pub fn files(&self) -> &BlockFiles {
        &self.files
    }

    /// Returns the bytes of memory that indexes take.
    pub fn index_memory(&self) -> usize {
        self.ledger.index_memory()
    }

    /// Returns the bytes that blocks take, and those that the messages in them count for.
    pub fn utilisation(&self) -> (u64, u64) {
        let blocks = self.files.blocks();
        let stored = blocks.iter().filter_map(|block| self.files.block_len(*block)).map(u64::from).sum();
        (stored, self.ledger.blocks().map(|block| block.bytes).sum())
    }

    /// Puts a question to the ledger.
    ///
    /// # Errors
    ///
    /// [`Wait`]: ask again then. The question has changed nothing.
    pub fn ask<T>(
        &mut self,
        mut question: impl FnMut(&mut Ledger) -> Lookup<T>,
        disk: &mut impl StoreDisk,
    ) -> Result<T, Wait> {
        match (self.files.is_failed(), &self.recovering) {
            (true, _) => return Err(Wait::Failed),
            (_, Some(_)) => return Err(Wait::Recovery),
            _ => {}
        }
        loop {
            let answer = question(&mut self.ledger);
            self.upkeep.asked(answer.is_err());
            let missing = match answer {
                Ok(answer) => return Ok(answer),
                Err(missing) => missing,
            };
            if self.wait_for(missing, disk) {
                return Err(Wait::Index(missing.block));
            }
        }
    }

    /// Returns the stream in numbers.
    ///
    /// # Errors
    ///
    /// [`Wait`].
    pub fn state(&mut self, disk: &mut impl StoreDisk) -> Result<StreamState, Wait> {
        self.ask(|ledger| ledger.state(), disk)
    }

    /// Reads the message `sequence`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Wait`].
    pub fn load(&mut self, sequence: u64, disk: &mut impl StoreDisk) -> Result<Option<Fetch>, Wait> {
        let location = self.ask(|ledger| ledger.locate(sequence), disk)?;
        Ok(location.map(|location| self.read(&location, disk)))
    }

    /// Reads the first message at or behind `from` that `filter` matches; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Wait`].
    pub fn load_next(
        &mut self,
        filter: Filter<'_>,
        from: u64,
        disk: &mut impl StoreDisk,
    ) -> Result<Option<Fetch>, Wait> {
        let location = self.ask(
            |ledger| match ledger.next(filter, from)? {
                Some(sequence) => ledger.locate(sequence),
                None => Ok(None),
            },
            disk,
        )?;
        Ok(location.map(|location| self.read(&location, disk)))
    }

    /// Reads the last message that `filter` matches; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Wait`].
    pub fn load_last(
        &mut self,
        filter: Filter<'_>,
        disk: &mut impl StoreDisk,
    ) -> Result<Option<Fetch>, Wait> {
        let location = self.ask(
            |ledger| match ledger.previous(filter, u64::MAX)? {
                Some(sequence) => ledger.locate(sequence),
                None => Ok(None),
            },
            disk,
        )?;
        Ok(location.map(|location| self.read(&location, disk)))
    }

    fn read(&mut self, location: &Location, disk: &mut impl StoreDisk) -> Fetch {
        let (location, rewrites) = (*location, self.files.rewrites(location.block));
        if self.is_moving(location.block) {
            let asked = self.files.next_read();
            self.moved.push(Reading { asked, location, rewrites });
            return Fetch::Pending(asked);
        }
        let fetch = self.files.read(&location, disk);
        if let Fetch::Pending(asked) = fetch {
            self.reads.insert(asked, Reading { asked, location, rewrites });
        }
        fetch
    }

    /// Returns whether a block was written anew, and the ledger doesn't know it yet.
    fn is_moving(&self, block: u32) -> bool {
        self.applying.rewritten.as_ref().is_some_and(|(number, _)| *number == block)
    }

    /// Has an index loaded, and returns whether it takes a wait: a block that isn't durable yet has it at hand.
    fn wait_for(&mut self, missing: Missing, disk: &mut impl StoreDisk) -> bool {
        if self.loading.insert(missing.block) {
            self.files.load_index(missing.block, disk);
            self.drain(disk);
        }
        self.loading.contains(&missing.block) || self.files.is_failed()
    }

    /// Takes what the files tell.
    fn drain(&mut self, disk: &mut impl StoreDisk) {
        while let Some(event) = self.files.poll_event() {
            match event {
                Event::Covered(_) => {}
                Event::Read(id, result) => self.was_read(id, result, disk),
                Event::Index { number, index } => {
                    self.loading.remove(&number);
                    if !self.took_tombstones(number, &index, disk) && self.ledger.has_block(number) {
                        if self.ledger.restore(number, &index) {
                            self.note_loaded(number);
                        } else {
                            self.files.fail_damaged(number);
                        }
                    }
                    self.events.push_back(StoreEvent::Loaded { block: number });
                    self.read_moved(disk);
                }
                Event::NoIndex { number } => {
                    self.loading.remove(&number);
                    self.events.push_back(StoreEvent::Loaded { block: number });
                    self.read_moved(disk);
                }
                Event::Rewritten { number, index } => match self.applying.erasing {
                    // The message that was erased has to be removed first.
                    Some(block) if block == number => self.applying.rewritten = Some((number, index)),
                    _ => self.rewritten(number, &index),
                },
                Event::Ready(ready) => {
                    let recovering = self.recovering.take().map(|recovering| *recovering).unwrap_or_default();
                    let rebuild = recovering.rebuild.unwrap_or_else(|| {
                        let settings = self.files.settings().as_ref().and_then(StoreConfig::decode);
                        let config = settings.unwrap_or_else(|| self.config.stream.clone());
                        let keys = HashKeys::of(self.config.files.owner.0);
                        Rebuild::new(config, ready.floor, ready.next_sequence, keys)
                    });
                    self.ledger = rebuild.finish(ready.last_time);
                    self.applying = Applying::default();
                    self.files.set_floor(self.ledger.floor());
                    let loaded: Vec<u32> =
                        self.ledger.blocks().filter(|info| info.loaded).map(|info| info.number).collect();
                    let head = self.ledger.head();
                    for block in loaded.into_iter().filter(|block| Some(*block) != head) {
                        self.note_loaded(block);
                    }
                    self.follow_head();
                    self.events.push_back(StoreEvent::Ready);
                    self.keep_up(disk);
                }
                Event::Damaged { number, damage } if self.recovering.is_none() => {
                    self.upkeep.found_damage(number, damage.sequences);
                    self.events.push_back(StoreEvent::Files(Event::Damaged { number, damage }));
                }
                Event::Failed(failure) => {
                    self.events.push_back(StoreEvent::Files(Event::Failed(failure)));
                    self.read_moved(disk);
                }
                event => self.recovering(event),
            }
        }
    }

    /// Takes what recovery tells.
    fn recovering(&mut self, event: Event) {
        let Some(recovering) = &mut self.recovering else {
            return self.events.push_back(StoreEvent::Files(event));
        };
        match &event {
            Event::Begun(ready, settings) => {
                let settings = settings.as_ref().and_then(StoreConfig::decode);
                let config = settings.unwrap_or_else(|| self.config.stream.clone());
                self.files.set_compression(config.compression);
                let keys = HashKeys::of(self.config.files.owner.0);
                recovering.rebuild = Some(Rebuild::new(config, ready.floor, ready.next_sequence, keys));
                return;
            }
            Event::Block(block) => {
                let damaged = std::mem::take(&mut recovering.damaged);
                let damaged_bytes = std::mem::take(&mut recovering.damaged_bytes);
                if let Some(rebuild) = &mut recovering.rebuild {
                    let found = Found {
                        number: block.number,
                        first: block.first,
                        end: block.end,
                        index: &block.index,
                        damaged: &damaged,
                        damaged_bytes,
                    };
                    rebuild.block(&found);
                    let keeps = block.bare && rebuild.index_memory() <= self.config.index_budget + KEPT;
                    let keeps = keeps && !planted::bug(Bug::StoreBareEvicted);
                    if rebuild.index_memory() > self.config.index_budget && !keeps {
                        rebuild.evict();
                    }
                }
                return;
            }
            Event::Lost { first, last } => {
                recovering.rebuild.iter_mut().for_each(|rebuild| rebuild.lost(*first, *last));
            }
            Event::Damaged { damage, .. } => {
                if let Some((first, last)) = damage.sequences {
                    recovering.damaged.insert(first, last);
                    recovering.damaged_bytes += u64::from(damage.len);
                }
            }
            _ => {}
        }
        self.events.push_back(StoreEvent::Files(event));
    }

    fn was_read(&mut self, id: ReadId, result: Result<Message, ReadError>, disk: &mut impl StoreDisk) {
        let Some(reading) = self.reads.remove(&id) else { return };
        // The block may have been written anew meanwhile: then the message is elsewhere now.
        if result.is_err()
            && self.files.rewrites(reading.location.block) != reading.rewrites
            && !planted::bug(Bug::StoreReadsKeepPlaces)
        {
            self.moved.push(reading);
            return self.read_moved(disk);
        }
        self.events.push_back(StoreEvent::Read(reading.asked, result));
    }

    /// Reads what stands elsewhere now, where the ledger says so. To be called when an index came, or an entry was applied.
    pub(super) fn read_moved(&mut self, disk: &mut impl StoreDisk) {
        for reading in std::mem::take(&mut self.moved) {
            let Reading { asked, location, .. } = reading;
            if self.is_moving(location.block) && !self.files.is_failed() {
                self.moved.push(reading);
                continue;
            }
            // It may have been removed, and its sequence used again.
            let found = match self.ask(|ledger| ledger.locate(location.sequence), disk) {
                Ok(found) => found.filter(|found| found.time == location.time),
                Err(Wait::Index(_) | Wait::Recovery) => {
                    self.moved.push(reading);
                    continue;
                }
                Err(Wait::Failed) => None,
            };
            let Some(location) = found else {
                let (block, sequence) = (location.block, location.sequence);
                let error = ReadError::Record { block, sequence, error: RecordError::Malformed };
                self.events.push_back(StoreEvent::Read(asked, Err(error)));
                continue;
            };
            let rewrites = self.files.rewrites(location.block);
            match self.files.read(&location, disk) {
                Fetch::Pending(id) => drop(self.reads.insert(id, Reading { asked, location, rewrites })),
                Fetch::Ready(result) => self.events.push_back(StoreEvent::Read(asked, result)),
            }
        }
    }

    fn rewritten(&mut self, block: u32, index: &Index) {
        if !self.ledger.rewritten(block, index) {
            self.files.fail_damaged(block);
        }
    }

    /// Lets the ledger's head be the files'.
    fn follow_head(&mut self) {
        let head = self.files.head();
        let before = self.ledger.head();
        if before != Some(head) {
            self.ledger.start_block(head);
            if let Some(block) = before.filter(|block| self.ledger.has_block(*block)) {
                self.note_loaded(block);
            }
        }
    }
}

impl Store for FileStore {
    type Event = StoreEvent;

    fn apply(&mut self, entry: &Committed, _now: Instant, disk: &mut VolumeDisk<'_>) -> Applied {
        self.apply_entry(entry, disk)
    }

    fn cover(&mut self, _through: Position, _now: Instant, disk: &mut VolumeDisk<'_>) {
        self.files.cover(disk);
        self.drain(disk);
    }

    fn covered(&self) -> Position {
        self.files.covered()
    }

    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut VolumeDisk<'_>,
    ) {
        self.files.handle_disk(tag, result, now, disk);
        self.drain(disk);
        self.keep_up(disk);
    }

    fn handle_timeout(&mut self, now: Instant, disk: &mut VolumeDisk<'_>) {
        self.files.ask_again(now, disk);
        self.files.scrub(now, disk);
        self.drain(disk);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.files.scrub_due().into_iter().chain(self.files.ask_again_due()).min()
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }

    fn has_failed(&self) -> bool {
        self.files.is_failed()
    }
}
