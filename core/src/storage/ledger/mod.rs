//! What a stream holds, without its bytes.
//!
//! A [`Ledger`] is a deterministic machine without IO: it knows of each message its subject, time, size and place, and
//! decides what limits, purges and removals take away. [`MemoryStore`](super::memory::MemoryStore) keeps the bytes beside
//! it; a file store puts them into blocks.
//!
//! The index of a block may be dropped and put back ([`Ledger::evict`], [`Ledger::restore`]). A question that needs one that
//! isn't there answers [`Missing`] and is asked again; a change that does has changed nothing, or, where it
//! takes many messages away, as much as it could, and goes on when it is asked again.
//!
//! Invariants:
//! - blocks are in the order of their sequences and don't overlap; the last one takes what is appended;
//! - messages, bytes and the counts of blocks and subjects are those of the slots with a subject;
//! - `first_sequence` is the first message's, or one behind the last sequence ever used;
//! - a subject's `first` is at or before its first message and its `last` at or behind its last.

mod block;
mod change;
mod limits;
mod query;
mod subjects;

use std::collections::VecDeque;

use block::{Block, Slot};
use subjects::Subjects;

use super::{Lookup, Missing, StorageKind, StoreConfig, StreamState};
use crate::collections::TimeHashWheel;
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
    /// How many seconds it lives; zero for no limit of its own.
    pub ttl: u64,
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
}

/// The messages of a stream, without their bytes.
#[derive(Clone, Debug)]
pub struct Ledger {
    kind: StorageKind,
    config: StoreConfig,
    blocks: VecDeque<Block>,
    next_block: u32,
    subjects: Subjects,
    messages: u64,
    bytes: u64,
    first_sequence: u64,
    last_sequence: u64,
    last_time: Option<WallTime>,
    ttl: TimeHashWheel,
}

impl Ledger {
    /// The longest run of skipped sequences that is kept as empty slots; a longer one starts a new block.
    const LONGEST_GAP: u64 = 256;

    /// Makes the ledger of an empty stream.
    pub fn new(kind: StorageKind, config: StoreConfig) -> Self {
        let last_sequence = config.first_sequence.saturating_sub(1);
        Ledger {
            kind,
            config,
            blocks: VecDeque::new(),
            next_block: 1,
            subjects: Subjects::default(),
            messages: 0,
            bytes: 0,
            first_sequence: last_sequence + 1,
            last_sequence,
            last_time: None,
            ttl: TimeHashWheel::default(),
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

    /// Returns how many messages there are.
    pub fn messages(&self) -> u64 {
        self.messages
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
        let span = (self.last_sequence + 1).saturating_sub(self.first_sequence);
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
            lost: super::LostData::default(),
        })
    }

    /// Returns where the message `sequence` is, if there is one.
    ///
    /// # Errors
    ///
    /// [`Missing`] if its block's index has to be loaded.
    pub fn locate(&self, sequence: u64) -> Lookup<Option<Location>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        let block = &self.blocks[at];
        let slot = self.index(at)?.slots[(sequence - block.first) as usize];
        Ok(slot.subject().map(|_| Self::location(block, sequence, slot)))
    }

    /// Returns the subject of the message `sequence`, if there is one.
    ///
    /// # Errors
    ///
    /// [`Missing`] if its block's index has to be loaded.
    pub fn subject_of(&self, sequence: u64) -> Lookup<Option<&[u8]>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        let slot = self.index(at)?.slots[(sequence - self.blocks[at].first) as usize];
        Ok(slot.subject().map(|id| &*self.subjects.get(id).name))
    }

    /// Returns the number of the block that takes what is appended, making one if there is none that can.
    pub fn head(&mut self) -> u32 {
        match self.blocks.back() {
            // Behind a cut the last sequence may lie further on than the last slot.
            Some(block) if block.end() == self.last_sequence + 1 => block.number,
            _ => self.start_block(),
        }
    }

    /// Starts a new block, and returns its number.
    pub fn start_block(&mut self) -> u32 {
        let number = self.next_block;
        self.next_block += 1;
        self.blocks.push_back(Block::new(number, self.last_sequence + 1));
        number
    }

    /// Returns the numbers of the blocks, with how many messages and sequences each has, in order.
    pub fn blocks(&self) -> impl Iterator<Item = (u32, u64, u64)> + '_ {
        self.blocks.iter().map(|block| (block.number, block.messages, block.len))
    }

    /// Returns the bytes that the indexes in memory take, subjects apart.
    pub fn index_memory(&self) -> usize {
        let indexes = self.blocks.iter().filter_map(|block| block.index.as_ref());
        indexes.map(|index| index.slots.capacity() * size_of::<Slot>()).sum()
    }

    fn location(block: &Block, sequence: u64, slot: Slot) -> Location {
        Location { sequence, block: block.number, offset: slot.offset, size: slot.size, time: slot.time() }
    }

    /// Returns the place of the block that has `sequence`.
    fn block_of(&self, sequence: u64) -> Option<usize> {
        let behind = self.blocks.partition_point(|block| block.first <= sequence);
        let at = behind.checked_sub(1)?;
        (sequence < self.blocks[at].end()).then_some(at)
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
