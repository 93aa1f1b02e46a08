//! A ledger from what block files have: at start-up all of it, later one index at a time.

use hashbrown::HashTable;

use super::block::{Block, BlockIndex, Slot};
use super::subjects::SubjectId;
use super::{Ledger, StoreConfig};
use crate::planted::{self, Bug};
use crate::rng::HashKeys;
use crate::storage::block::index::Index;
use crate::storage::{Ranges, StorageKind};
use crate::time::WallTime;

/// Puts a ledger together, from the newest block to the oldest: what a block says is gone can only be in itself or in
/// an older one, so each index is looked at once and may be dropped then.
#[derive(Debug)]
pub struct Rebuild {
    ledger: Ledger,
    /// The id of each subject, by its hash: faster than the tree, which is made at the end.
    ids: HashTable<SubjectId>,
    keys: HashKeys,
    /// What the blocks so far say is gone.
    gone: Ranges,
    /// What is lost, and how many bytes it took.
    lost: Ranges,
    lost_bytes: u64,
    /// Sequences from here on belong to newer blocks: an older block may have others of them that were cut off.
    bound: u64,
    floor: u64,
}

/// A block as recovery found it.
#[derive(Debug)]
pub struct Found<'a> {
    /// Its number.
    pub number: u32,
    /// The sequence after the last of the block before.
    pub first: u64,
    /// Sequences from here on aren't its own: they were cut off.
    pub end: u64,
    /// What is in it.
    pub index: &'a Index,
    /// Sequences that were in it and can't be read any more.
    pub damaged: &'a Ranges,
    /// How many bytes they took.
    pub damaged_bytes: u64,
}

impl Rebuild {
    /// Begins. `floor` is the first sequence that isn't purged, `next` the one that the next message gets; `keys` are for
    /// hashing subjects.
    pub fn new(config: StoreConfig, floor: u64, next: u64, keys: HashKeys) -> Self {
        let mut ledger = Ledger::new(StorageKind::File, config);
        ledger.last_sequence = next.max(1) - 1;
        let (ids, gone, lost) = (HashTable::new(), Ranges::default(), Ranges::default());
        Rebuild { ledger, ids, keys, gone, lost, lost_bytes: 0, bound: next.max(1), floor }
    }

    /// Takes a range of sequences that no file has, and that stood behind the block that is taken next. What an older block says
    /// is gone was another message of that sequence, which was cut off.
    pub fn lost(&mut self, first: u64, last: u64) {
        let mut lost = Ranges::default();
        lost.insert(first, last);
        self.lose(lost, 0);
    }

    /// Notes a loss, as far as the blocks so far don't say that it was gone anyway.
    fn lose(&mut self, mut lost: Ranges, bytes: u64) {
        lost.subtract(&self.gone);
        if !lost.is_empty() {
            lost.iter().for_each(|(first, last)| self.lost.insert(first, last));
            self.lost_bytes = self.lost_bytes.saturating_add(bytes);
        }
    }

    /// Takes the next older block, the head first. Its index stays in memory; [`Rebuild::evict`] drops it.
    pub fn block(&mut self, found: &Found<'_>) {
        for (first, last) in found.index.deleted() {
            self.gone.insert(*first, *last);
        }
        let first = found.first.min(self.bound);
        let end = found.end.min(self.bound);
        // What was cut off is no loss: its sequences may have other messages now.
        let mut damaged = found.damaged.clone();
        damaged.remove_above(end.saturating_sub(1));
        self.lose(damaged, found.damaged_bytes);
        let Rebuild { ledger, ids: known_ids, keys, .. } = self;
        let mut block = Block::new(found.number, first);
        let mut index = BlockIndex::default();
        let mut ids = vec![None; found.index.subjects()];
        let mut guess = 0;
        for (sequence, slot) in found.index.iter().take_while(|(sequence, _)| *sequence < end) {
            block.end = sequence + 1;
            if planted::bug(Bug::StoreTimeOfOthers) {
                ledger.last_time = ledger.last_time.max(Some(WallTime::from_unix_nanos(slot.time)));
            }
            if sequence < self.floor || self.gone.contains(sequence) {
                block.removed.insert(sequence);
                continue;
            }
            let name = found.index.subject(slot.subject).unwrap_or_default();
            let known = &mut ids[slot.subject as usize];
            let subject = *known.get_or_insert_with(|| {
                let found = ledger.subjects.found(name, guess, known_ids, keys);
                guess = found.wrapping_add(1);
                found
            });
            ledger.subjects.recovered(subject, sequence);
            let time = WallTime::from_unix_nanos(slot.time);
            index.push(sequence, Slot::new(slot.place(), slot.size, subject, time));
            block.messages += 1;
            block.bytes += u64::from(slot.size);
            block.newest = block.newest.max(time);
        }
        for (sequence, ttl) in found.index.ttls() {
            if let Some(slot) = index.get(*sequence) {
                ledger.lives.add(*sequence, slot.time(), *ttl);
            }
        }
        // The newest first: of one subject's, the others were replaced.
        for (sequence, due) in found.index.schedules().iter().rev() {
            if let Some(slot) = index.get(*sequence) {
                ledger.schedules.found(slot.subject, *sequence, WallTime::from_unix_nanos(*due));
            }
        }
        self.bound = first;
        ledger.messages += block.messages;
        ledger.bytes += block.bytes;
        block.index = Some(index);
        let is_head = ledger.blocks.is_empty();
        if block.messages > 0 || is_head {
            ledger.blocks.push_front(block);
        } else {
            ledger.emptied.push_back(super::Emptied { number: found.number, first, end });
        }
    }

    /// Drops the index of the block that was taken last, unless it is the head's.
    pub fn evict(&mut self) {
        if let (2.., Some(block)) = (self.ledger.blocks.len(), self.ledger.blocks.front_mut()) {
            block.index = None;
        }
    }

    /// Returns the bytes that the indexes in memory take.
    pub fn index_memory(&self) -> usize {
        self.ledger.index_memory()
    }

    /// Returns the ledger. `last_time` is when the newest message was stored, `None` if there was none: blocks don't say that, as
    /// they may have messages of before the stream was emptied.
    pub fn finish(self, last_time: Option<WallTime>) -> Ledger {
        let Rebuild { mut ledger, mut lost, lost_bytes, floor, .. } = self;
        ledger.last_time = match planted::bug(Bug::StoreTimeOfOthers) {
            true => last_time.or(ledger.last_time),
            false => last_time,
        };
        if planted::bug(Bug::StoreLossHidden) {
            lost.subtract(&self.gone);
        }
        ledger.subjects.plant();
        lost.remove_below(floor);
        lost.remove_above(ledger.last_sequence);
        if !lost.is_empty() {
            ledger.note_lost(&lost, lost_bytes);
        }
        let first = ledger.blocks.iter().find_map(|block| {
            let index = block.index.as_ref();
            (block.messages > 0).then(|| index.and_then(|index| index.next(0)).map(|(sequence, _)| sequence))
        });
        // The oldest block may be out of memory: its first message was seen when it was taken.
        ledger.first_sequence = match first {
            None => ledger.last_sequence + 1,
            Some(Some(sequence)) => sequence,
            Some(None) => ledger.subjects.lowest().unwrap_or(ledger.last_sequence + 1),
        };
        ledger
    }
}

impl Ledger {
    /// Puts the index of a block back, as its file has it; `false` if that isn't what it was, and isn't used.
    #[must_use]
    pub fn restore(&mut self, number: u32, index: &Index) -> bool {
        let Some(block) = self.blocks.iter_mut().find(|block| block.number == number) else { return true };
        if block.index.is_some() {
            return true;
        }
        let mut restored = BlockIndex::default();
        let mut ids = vec![None; index.subjects()];
        for (sequence, slot) in index.iter().take_while(|(sequence, _)| *sequence < block.end) {
            if block.removed.contains(sequence) {
                continue;
            }
            let known = &mut ids[slot.subject as usize];
            if known.is_none() {
                *known = self.subjects.find(index.subject(slot.subject).unwrap_or_default());
            }
            // A subject that isn't known has no message: the file isn't what it was.
            let Some(subject) = *known else { continue };
            let time = WallTime::from_unix_nanos(slot.time);
            restored.push(sequence, Slot::new(slot.place(), slot.size, subject, time));
        }
        if restored.living() as u64 != block.messages {
            return false;
        }
        restored.close();
        block.index = Some(restored);
        true
    }

    /// Notes that the bytes of what was removed of a block are gone from its file: it was written anew. `false` if something
    /// else is gone too.
    #[must_use]
    pub fn rewritten(&mut self, number: u32, index: &Index) -> bool {
        let Some(block) = self.blocks.iter_mut().find(|block| block.number == number) else { return true };
        // What was removed while it was written is still in it.
        let removed = std::mem::take(&mut block.removed);
        let still = index.iter().map(|(sequence, _)| sequence).filter(|sequence| removed.contains(*sequence));
        block.removed = still.collect();
        if block.index.take().is_none() {
            return true;
        }
        self.restore(number, index)
    }
}
