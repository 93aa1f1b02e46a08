//! What a stream holds, without its bytes.
//!
//! A [`Ledger`] is a deterministic machine without IO: it knows of each message its subject, time, size and place, and
//! decides what limits, purges and removals take away. [`MemoryStore`](super::memory::MemoryStore) keeps the bytes beside
//! it; a file store puts them into blocks.
//!
//! The index of a block may be dropped and put back ([`Ledger::evict`], [`Ledger::restore`]), and a whole ledger is made
//! from the indexes of block files ([`Rebuild`]). A question that needs one that isn't there answers [`Missing`] and
//! is asked again; a change that does has changed nothing, or, where it takes many messages away, as much as it could,
//! and goes on when it is asked again.
//!
//! Invariants:
//! - blocks are in the order of their sequences and don't overlap; the last one, the head, takes what is appended and is
//!   never evicted; any other has a message;
//! - messages, bytes and the counts of blocks and subjects are those of the slots that live;
//! - `first_sequence` is the first message's, or one behind the last sequence ever used;
//! - a subject's `first` is at or before its first message and its `last` at or behind its last.

mod block;
mod change;
mod limits;
mod lives;
mod query;
mod rebuild;
mod schedules;
mod subjects;

use std::collections::VecDeque;

use block::{Block, Slot};
use lives::Lives;
pub use lives::NEVER_EXPIRES;
pub use rebuild::{Found, Rebuild};
pub use schedules::DueSchedule;
use schedules::Schedules;
use subjects::{SubjectId, Subjects};

use super::{Lookup, LostData, Missing, Ranges, Scheduling, StorageKind, StoreConfig, StreamState};
use crate::subject::SubjectList;
use crate::time::WallTime;

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    /// Its sequence.
    pub sequence: u64,
    /// The block that it is in.
    pub block: u32,
    /// What its owner gave it when it was appended: an offset in the block.
    pub offset: u32,
    /// What it counts for in bytes.
    pub size: u32,
    /// When it was stored.
    pub time: WallTime,
}

/// A message to be appended.
#[derive(Clone, Copy, Debug)]
pub struct Append<'a> {
    /// The sequence that it has to get; zero for the next, whichever that is.
    pub sequence: u64,
    /// When it was stored.
    pub time: WallTime,
    /// Its subject.
    pub subject: &'a [u8],
    /// What it counts for in bytes ([`StorageKind::message_size`]).
    pub size: u64,
    /// Where its owner puts it.
    pub offset: u32,
    /// How many seconds it lives; zero for no limit of its own, [`NEVER_EXPIRES`] for ever.
    pub ttl: u64,
    /// What it is to the schedules.
    pub scheduling: Scheduling,
}

/// A message that was taken away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removed {
    /// Where it was.
    pub location: Location,
    /// Its subject.
    pub subject: Box<[u8]>,
    /// Whether its subject has no message any more.
    pub was_last_of_subject: bool,
}

/// What is due to go, by the stream's age limit or by times to live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Messages to be removed, in order.
    pub expired: Vec<u64>,
    /// Where the stream leaves markers: the last messages of their subjects, in order. Unless it is a marker itself, such a
    /// message is to be replaced by one (`jetstream::marker`).
    pub last: Vec<u64>,
}

/// A block in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Its number.
    pub number: u32,
    /// No message in it is before this sequence.
    pub first: u64,
    /// All messages in it are before this sequence.
    pub end: u64,
    /// How many messages it has.
    pub messages: u64,
    /// What they count for in bytes.
    pub bytes: u64,
    /// How many messages were removed of it, whose bytes it may still have.
    pub removed: u64,
    /// Whether its index is in memory.
    pub loaded: bool,
}

/// A block without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emptied {
    /// Its number.
    pub number: u32,
    /// No message in it was before this sequence.
    pub first: u64,
    /// All messages in it were before this sequence.
    pub end: u64,
}

/// Which subjects a question is about.
#[derive(Clone, Copy, Debug)]
pub enum Filter<'a> {
    /// All of them.
    All,
    /// Those that a subject, perhaps with wildcards, matches.
    Subject(&'a [u8]),
    /// Those that any of several does.
    Any(&'a SubjectList<()>),
}

/// Some of the subjects that a filter matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectPage {
    /// How many it matches in all.
    pub total: usize,
    /// These, with how many messages each has.
    pub subjects: Vec<(Box<[u8]>, u64)>,
}

/// Why a change can't be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// A message was to get a sequence that isn't the next.
    #[error("expected sequence does not match store")]
    SequenceMismatch,
    /// More subjects match than the caller wants to hear of.
    #[error("too many matching results for request")]
    TooManyResults,
    /// A message is longer than 4 GiB.
    #[error("message too large")]
    TooLarge,
    /// All 2^64 sequences are used.
    #[error("no sequences left")]
    Exhausted,
}

/// The messages of a stream, without their bytes.
#[derive(Clone, Debug)]
pub struct Ledger {
    kind: StorageKind,
    config: StoreConfig,
    blocks: VecDeque<Block>,
    /// Blocks that were forgotten.
    emptied: VecDeque<Emptied>,
    subjects: Subjects,
    messages: u64,
    bytes: u64,
    first_sequence: u64,
    last_sequence: u64,
    last_time: Option<WallTime>,
    lives: Lives,
    schedules: Schedules,
    lost: Ranges,
    lost_bytes: u64,
}

impl Ledger {
    /// Makes the ledger of an empty stream. It has no head: see [`Ledger::start_block`].
    pub fn new(kind: StorageKind, config: StoreConfig) -> Self {
        let last_sequence = config.first_sequence.saturating_sub(1);
        let lives = Lives::new(config.allow_message_ttl);
        Ledger {
            kind,
            config,
            blocks: VecDeque::new(),
            emptied: VecDeque::new(),
            subjects: Subjects::default(),
            messages: 0,
            bytes: 0,
            first_sequence: last_sequence + 1,
            last_sequence,
            last_time: None,
            lives,
            schedules: Schedules::default(),
            lost: Ranges::default(),
            lost_bytes: 0,
        }
    }

    /// Returns the settings.
    pub fn config(&self) -> &StoreConfig {
        &self.config
    }

    /// Returns where messages are kept, by which they are counted.
    pub fn kind(&self) -> StorageKind {
        self.kind
    }

    /// Returns the last sequence that was ever used; zero if none was.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// Returns when the newest message was stored, whether it is still there or not; `None` if there was none.
    pub fn last_time(&self) -> Option<WallTime> {
        self.last_time
    }

    /// Returns how many messages there are.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// Returns what the messages count for in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns what the messages from `sequence` on count for in bytes, at most: those before it in its block are counted too.
    pub fn bytes_from(&self, sequence: u64) -> u64 {
        let behind = self.blocks.iter().rev().take_while(|block| block.end > sequence);
        behind.map(|block| block.bytes).sum()
    }

    /// Returns the stream in numbers.
    ///
    /// # Errors
    ///
    /// [`Missing`] if the first message's time has to be looked up.
    pub fn state(&self) -> Lookup<StreamState> {
        let first_time = match self.messages {
            0 => None,
            _ => self.locate(self.first_sequence)?.map(|location| location.time),
        };
        let span = self.last_sequence.saturating_add(1).saturating_sub(self.first_sequence);
        Ok(StreamState {
            messages: self.messages,
            bytes: self.bytes,
            first_sequence: self.first_sequence,
            first_time,
            last_sequence: self.last_sequence,
            last_time: self.last_time,
            subjects: self.subjects.len() as u64,
            deleted: span - self.messages,
            consumers: 0,
            lost: LostData { ranges: self.lost.iter().collect(), bytes: self.lost_bytes },
        })
    }

    /// Returns the first sequence: the first message's, or the one that the next message gets.
    pub fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    /// Returns the sequence below which nothing is, nor is missed: what was lost before the first message and not purged since
    /// is still to be told.
    pub fn floor(&self) -> u64 {
        self.lost.iter().next().map_or(self.first_sequence, |(first, _)| first.min(self.first_sequence))
    }

    /// Returns where the message `sequence` is, if there is one.
    ///
    /// # Errors
    ///
    /// [`Missing`] if its block's index has to be loaded.
    pub fn locate(&self, sequence: u64) -> Lookup<Option<Location>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        let slot = self.index(at)?.get(sequence);
        Ok(slot.map(|slot| Self::location(&self.blocks[at], sequence, *slot)))
    }

    /// Returns the subject of the message `sequence`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Missing`] if its block's index has to be loaded.
    pub fn subject_of(&self, sequence: u64) -> Lookup<Option<&[u8]>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        let slot = self.index(at)?.get(sequence);
        Ok(slot.map(|slot| &*self.subjects.get(slot.subject).name))
    }

    fn subject_id_of(&self, sequence: u64) -> Lookup<Option<SubjectId>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        Ok(self.index(at)?.get(sequence).map(|slot| slot.subject))
    }

    /// Returns the number of the head; `None` if no block was started yet.
    pub fn head(&self) -> Option<u32> {
        self.blocks.back().map(|block| block.number)
    }

    /// Starts a block, which takes what is appended from now on. Its number is the caller's choice, used once.
    pub fn start_block(&mut self, number: u32) {
        if let Some(head) = self.blocks.back_mut() {
            head.index.iter_mut().for_each(block::BlockIndex::close);
        }
        self.blocks.push_back(Block::new(number, self.last_sequence.saturating_add(1)));
        if let Some(at) = self.blocks.len().checked_sub(2) {
            self.drop_if_empty(at);
        }
    }

    /// Returns the blocks, in order.
    pub fn blocks(&self) -> impl ExactSizeIterator<Item = BlockInfo> + '_ {
        self.blocks.iter().map(|block| BlockInfo {
            number: block.number,
            first: block.first,
            end: block.end,
            messages: block.messages,
            bytes: block.bytes,
            removed: block.removed.len() as u64,
            loaded: block.index.is_some(),
        })
    }

    /// Returns whether it has a block.
    pub fn has_block(&self, number: u32) -> bool {
        self.blocks.iter().any(|block| block.number == number)
    }

    /// Returns what was removed of a block, whose bytes it may still have.
    pub fn removed_of(&self, number: u32) -> Ranges {
        let mut ranges = Ranges::default();
        if let Some(block) = self.blocks.iter().find(|block| block.number == number) {
            block.removed.ranges().for_each(|(first, last)| ranges.insert(first, last));
        }
        ranges
    }

    /// Returns the bytes that the index of a block takes in memory.
    pub fn index_memory_of(&self, number: u32) -> usize {
        let index =
            self.blocks.iter().find(|block| block.number == number).and_then(|block| block.index.as_ref());
        index.map_or(0, block::BlockIndex::memory)
    }

    /// Returns the next block that was forgotten because it has no messages any more.
    pub fn poll_emptied(&mut self) -> Option<Emptied> {
        self.emptied.pop_front()
    }

    /// Returns those of the given sequences that a block other than `but` still has the bytes of, although they are removed.
    pub fn still_stored(&self, ranges: &Ranges, but: u32) -> Ranges {
        let mut found = Ranges::default();
        for block in self.blocks.iter().filter(|block| block.number != but && !block.removed.is_empty()) {
            for (first, last) in block.removed.ranges() {
                ranges.within(first, last).for_each(|(first, last)| found.insert(first, last));
            }
        }
        found
    }

    /// Returns the bytes that the indexes in memory take, subjects apart.
    pub fn index_memory(&self) -> usize {
        let indexes = self.blocks.iter().filter_map(|block| block.index.as_ref());
        indexes.map(block::BlockIndex::memory).sum()
    }

    fn location(block: &Block, sequence: u64, slot: Slot) -> Location {
        Location { sequence, block: block.number, offset: slot.offset, size: slot.size, time: slot.time() }
    }

    /// Returns the place of the block that has `sequence`.
    fn block_of(&self, sequence: u64) -> Option<usize> {
        let behind = self.blocks.partition_point(|block| block.first <= sequence);
        let at = behind.checked_sub(1)?;
        (sequence < self.blocks[at].end).then_some(at)
    }

    fn index(&self, at: usize) -> Lookup<&block::BlockIndex> {
        let block = &self.blocks[at];
        block.index.as_ref().ok_or(Missing { block: block.number })
    }

    fn index_mut(&mut self, at: usize) -> Lookup<&mut block::BlockIndex> {
        let block = &mut self.blocks[at];
        block.index.as_mut().ok_or(Missing { block: block.number })
    }
}

#[cfg(test)]
mod tests;
