//! Giving back what nobody needs: blocks without messages, the bytes of removed ones, memory of indexes; and, when somebody asks for
//! it, writing blocks anew that aren't sealed with the newest key.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::super::super::block::index::Index;
use super::super::super::ledger::{BlockInfo, Emptied, Filter};
use super::super::super::{Missing, Ranges};
use super::super::api::StoreDisk;
use super::super::convert::Conversion;
use super::{FileStore, StoreEvent};
use crate::planted::{self, Bug};

/// A block isn't written anew for less than this many bytes.
const WORTH: u64 = 64 << 10;

/// How many bytes indexes take at most that stay in memory whatever the budget is: those of blocks that have no index file.
pub(super) const KEPT: usize = 64 << 20;

/// What is to be done.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Blocks that messages were removed of.
    touched: BTreeSet<u32>,
    /// Blocks that are empty and whose tombstones have to be looked at.
    empty: VecDeque<u32>,
    /// Blocks and ranges of sequences that were found to be damaged while the store was in use.
    damaged: VecDeque<(u32, u64, u64)>,
    /// Blocks without messages that have damage: they stay until what is lost in them would have been removed anyway.
    spoiled: Vec<Emptied>,
    /// Blocks that aren't sealed with the newest key are to be written anew.
    converts: bool,
    /// Those of them that weren't begun with, the oldest last; `None` until recovery has found them.
    old_keys: Option<Vec<u32>>,
    /// Blocks whose indexes are in memory, the head's apart, oldest first, and how many bytes they took then.
    loaded: VecDeque<(u32, usize)>,
    loaded_bytes: usize,
    /// Those that stay there, and what they took when that was found.
    kept: BTreeMap<u32, usize>,
    /// Somebody waits for an index, and may need those that were loaded for the same question.
    asking: bool,
}

impl Upkeep {
    pub(super) fn touched(&mut self, block: u32) {
        self.touched.insert(block);
    }

    pub(super) fn found_damage(&mut self, block: u32, sequences: Option<(u64, u64)>) {
        self.damaged.extend(sequences.map(|(first, last)| (block, first, last)));
    }

    /// Notes that everything from `next` on was cut off: those sequences are others' now.
    pub(super) fn cut(&mut self, next: u64) {
        let cut = !planted::bug(Bug::StoreSpoiledUncut);
        for spoiled in self.spoiled.iter_mut().filter(|_| cut) {
            spoiled.end = spoiled.end.min(next.max(spoiled.first));
        }
    }

    /// Notes whether the last question or entry has to wait for an index.
    pub(super) fn asked(&mut self, waits: bool) {
        self.asking = waits;
    }

    fn forget_loaded(&mut self, block: u32) {
        self.kept.remove(&block);
        let Some(at) = self.loaded.iter().position(|(loaded, _)| *loaded == block) else { return };
        let bytes = self.loaded.remove(at).map_or(0, |(_, bytes)| bytes);
        self.loaded_bytes -= bytes;
    }

    /// Lets an index stay in memory, if there is room for it.
    fn keep(&mut self, block: u32, bytes: usize) -> bool {
        let keeps = self.kept.values().sum::<usize>() + bytes <= KEPT;
        if keeps {
            self.kept.insert(block, bytes);
        }
        keeps
    }
}

/// Tells whether a block of `len` bytes is worth writing anew: by what its messages count for, or, because they may take much
/// less than that when they are compressed, by how many of them are gone.
fn is_sparse(info: &BlockInfo, len: u64, worth: u64) -> bool {
    let by_bytes = info.bytes < len / 2 && len - info.bytes > worth;
    let freed = len.saturating_mul(info.removed) / (info.removed + info.messages).max(1);
    info.removed > 0 && (by_bytes || info.removed > info.messages && freed > worth)
}

impl FileStore {
    /// Does what is due. Never in the middle of an entry.
    pub(super) fn keep_up(&mut self, disk: &mut impl StoreDisk) {
        if !self.is_ready() || self.files.is_held() {
            return;
        }
        self.give_up_damaged(disk);
        let ledger = &self.ledger;
        let free = |emptied: &mut Emptied| !ledger.has_lost(emptied.first, emptied.end);
        let mut emptied: Vec<Emptied> = self.upkeep.spoiled.extract_if(.., free).collect();
        emptied.extend(std::iter::from_fn(|| self.ledger.poll_emptied()));
        for emptied in emptied {
            let block = emptied.number;
            if self.ledger.has_lost(emptied.first, emptied.end) && !planted::bug(Bug::StoreDamageRemoved) {
                // What is left of it is all that there is.
                self.upkeep.forget_loaded(block);
                self.upkeep.spoiled.push(emptied);
                continue;
            }
            self.upkeep.touched.remove(&block);
            self.upkeep.forget_loaded(block);
            // What says so message by message may be in a block that goes before this one does. Sequences that were cut
            // off are used again and not spoken of.
            let last = emptied.end.saturating_sub(1).min(self.ledger.last_sequence());
            if emptied.first <= last {
                self.files.deleted(emptied.first, last);
            }
            if self.files.has_block(block) {
                self.upkeep.empty.push_back(block);
            }
        }
        while let Some(block) = self.upkeep.empty.front().copied() {
            // What it says is gone may still be in older blocks.
            let matters = self.ledger.blocks().any(|other| other.number != block && other.removed > 0)
                || !self.upkeep.spoiled.is_empty();
            if matters && let Some(gone) = self.files.tombstones(block) {
                self.drop_block(block, &gone, disk);
            } else if matters {
                if self.loading.insert(block) {
                    self.files.load_index(block, disk);
                }
                break;
            } else {
                self.drop_block(block, &Ranges::default(), disk);
            }
            self.upkeep.empty.pop_front();
        }
        self.rewrite_sparse(disk);
        self.evict();
    }

    /// Takes what was found to be damaged out of the ledger: it is lost, as if recovery had found it so. No tombstone says that
    /// it is gone.
    fn give_up_damaged(&mut self, disk: &mut impl StoreDisk) {
        while let Some((block, from, last)) = self.upkeep.damaged.front().copied() {
            // What it has that was cut off stands in newer blocks now, or something else does under its sequence.
            let by_sequence = planted::bug(Bug::StoreDamageBySequence);
            let own = self.ledger.blocks().find(|info| info.number == block).filter(|_| !by_sequence);
            let range = own.map(|info| (info.first.max(from), info.end.min(last.saturating_add(1))));
            let range = range.or(by_sequence.then_some((from, last.saturating_add(1))));
            let next = match range.filter(|(first, end)| first < end) {
                Some((first, end)) => self.ledger.next(Filter::All, first).and_then(|next| match next {
                    Some(sequence) if sequence < end => self.ledger.remove(sequence),
                    _ => Ok(None),
                }),
                None => Ok(None),
            };
            self.upkeep.asked(next.is_err());
            match next {
                Ok(Some(removed)) => {
                    let (sequence, mut lost) = (removed.location.sequence, Ranges::default());
                    lost.insert(sequence, sequence);
                    self.ledger.note_lost(&lost, u64::from(removed.location.size));
                    self.events.push_back(StoreEvent::Removed(removed));
                    if let Some((_, from, _)) = self.upkeep.damaged.front_mut() {
                        *from = sequence + 1;
                    }
                }
                // Without its index file nothing else says what was there.
                Ok(None) if self.is_evicted(block) => {
                    if self.wait_for(Missing { block }, disk) {
                        return;
                    }
                }
                Ok(None) => {
                    self.upkeep.damaged.pop_front();
                    if self.upkeep.damaged.front().is_none_or(|(next, ..)| *next != block) {
                        self.files.remove_index(block, disk);
                    }
                }
                Err(missing) if self.wait_for(missing, disk) => return,
                Err(_) => {}
            }
        }
    }

    fn is_evicted(&self, block: u32) -> bool {
        self.ledger.blocks().any(|info| info.number == block && !info.loaded)
    }

    /// Takes the index of an empty block, if it is one that is waited for.
    pub(super) fn took_tombstones(&mut self, block: u32, index: &Index, disk: &mut impl StoreDisk) -> bool {
        if self.upkeep.empty.front() != Some(&block) {
            return false;
        }
        self.upkeep.empty.pop_front();
        let mut gone = Ranges::default();
        index.deleted().iter().for_each(|(first, last)| gone.insert(*first, *last));
        self.drop_block(block, &gone, disk);
        true
    }

    /// Drops a block that has no messages, and says again what it said was gone elsewhere. Its space is worth a cover.
    fn drop_block(&mut self, block: u32, gone: &Ranges, disk: &mut impl StoreDisk) {
        let mut stored = self.ledger.still_stored(gone, block);
        for spoiled in self.upkeep.spoiled.iter().filter(|spoiled| spoiled.number != block) {
            let last = spoiled.end.saturating_sub(1);
            gone.within(spoiled.first, last).for_each(|(first, last)| stored.insert(first, last));
        }
        for (first, last) in stored.iter() {
            if !planted::bug(Bug::StoreTombstonesDropped) {
                self.files.deleted(first, last);
            }
        }
        self.files.drop_block(block);
        self.files.go_on(disk);
    }

    /// Writes the sparsest of the blocks that were touched anew, or one with an old key; one at a time.
    fn rewrite_sparse(&mut self, disk: &mut impl StoreDisk) {
        // Who erases a message has waited long enough.
        if self.files.is_rewriting() || self.applying.erases() {
            return;
        }
        if self.upkeep.converts && self.upkeep.old_keys.is_none() {
            let mut blocks: Vec<u32> = self.files.old_keys().collect();
            blocks.sort_unstable_by_key(|block| std::cmp::Reverse(*block));
            self.upkeep.old_keys = Some(blocks);
        }
        let (head, worth) = (self.files.head(), self.worth());
        let FileStore { ledger, files, upkeep, .. } = self;
        let mut found = None;
        // Those that aren't sparse yet are looked at when they are touched again; the newest when it is closed.
        upkeep.touched.retain(|block| {
            if *block == head || found.is_some() {
                return true;
            }
            let Some(len) = files.closed_len(*block).map(u64::from) else { return files.has_block(*block) };
            let info = ledger.blocks().find(|info| info.number == *block);
            found = info.filter(|info| is_sparse(info, len, worth)).map(|info| info.number);
            false
        });
        while found.is_none()
            && let Some(block) = upkeep.old_keys.as_mut().and_then(Vec::pop)
        {
            found = Some(block).filter(|block| ledger.has_block(*block));
        }
        let Some(block) = found else { return };
        let without = ledger.removed_of(block);
        files.rewrite(block, without, disk);
    }

    /// Returns whether recovery found nothing that isn't sealed with the newest key; `None` while it goes on. One that failed has told
    /// so, and is looked at when it works again.
    pub fn is_found_sealed(&self) -> Option<bool> {
        if self.files.is_failed() {
            return Some(true);
        }
        self.is_ready().then(|| self.files.is_found_sealed())
    }

    /// Has the blocks that aren't sealed with the newest key written anew, one after the other, and sees to it that what was
    /// removed is gone for good. To be called again until it says how that ended; each completion may bring it further.
    pub fn convert(&mut self, disk: &mut impl StoreDisk) -> Conversion {
        if self.files.is_failed() {
            return Conversion::Kept;
        }
        self.upkeep.converts = true;
        if !self.is_ready() {
            return Conversion::UnderWay;
        }
        if self.upkeep.old_keys.is_none() {
            self.keep_up(disk);
            self.drain(disk);
        }
        let idle = self.upkeep.old_keys.as_ref().is_some_and(Vec::is_empty) && self.upkeep.empty.is_empty();
        match self.files.conversion(idle) {
            Conversion::Done => self.files.make_sure(disk),
            other => other,
        }
    }

    fn worth(&self) -> u64 {
        WORTH.min(u64::from(self.config.files.block_size) / 8)
    }

    /// Notes that the index of a block other than the head is in memory.
    pub(super) fn note_loaded(&mut self, block: u32) {
        let bytes = self.ledger.index_memory_of(block);
        self.upkeep.loaded.push_back((block, bytes));
        self.upkeep.loaded_bytes += bytes;
    }

    /// Drops the indexes that were loaded first, down to the budget, but for those of blocks that have no index file; unless one is being loaded: what waits for it may need
    /// the others too. Nor while a message is erased: its block's index on disk is without it before the ledger is.
    fn evict(&mut self) {
        while !self.upkeep.asking
            && self.applying.erasing.is_none()
            && self.loading.is_empty()
            && self.upkeep.loaded_bytes > self.config.index_budget
            && let Some((block, bytes)) = self.upkeep.loaded.pop_front()
        {
            self.upkeep.loaded_bytes -= bytes;
            if !self.files.is_bare(block) || !self.upkeep.keep(block, bytes) {
                self.ledger.evict(block);
            }
        }
    }
}
