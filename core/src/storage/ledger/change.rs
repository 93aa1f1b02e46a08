//! What changes a ledger: appending, skipping, removing, purging, and taking indexes out and back.

use super::block::{Block, BlockIndex, Slot};
use super::{Append, Filter, Ledger, LedgerError, Removed};
use crate::storage::{DeleteRange, Lookup};
use crate::time::{Duration, WallTime};

/// The index of a block while it is out of memory; only [`Ledger::restore`] can use it.
#[derive(Clone, Debug)]
pub struct EvictedIndex(BlockIndex);

impl Ledger {
    /// Appends a message, and returns its sequence. Limits are another matter: see [`Ledger::settle`].
    ///
    /// # Errors
    ///
    /// [`LedgerError::SequenceMismatch`] if it has to get a sequence that isn't the next; nothing changes.
    pub fn append(&mut self, message: &Append<'_>) -> Result<u64, LedgerError> {
        let sequence = self.last_sequence + 1;
        if message.sequence != 0 && message.sequence != sequence {
            return Err(LedgerError::SequenceMismatch);
        }
        let size = u32::try_from(message.size).map_err(|_| LedgerError::TooLarge)?;
        self.head();
        let subject = self.subjects.appended(message.subject, sequence);
        let block = self.blocks.back_mut().expect("there is a head");
        let index = block.index.as_mut().expect("the head is never evicted");
        index.push(Slot::new(message.offset, size, subject, message.time));
        block.len += 1;
        block.messages += 1;
        if self.messages == 0 {
            self.first_sequence = sequence;
        }
        self.messages += 1;
        self.bytes += message.size;
        self.last_sequence = sequence;
        self.last_time = Some(message.time);
        if message.ttl > 0 && self.config.allow_message_ttl {
            self.ttl.add(sequence, message.time + Duration::from_secs(message.ttl));
        }
        Ok(sequence)
    }

    /// Uses `count` sequences up from `sequence` on (zero for the next), without messages.
    ///
    /// # Errors
    ///
    /// [`LedgerError::SequenceMismatch`] if `sequence` isn't the next; nothing changes.
    pub fn skip(&mut self, sequence: u64, count: u64, time: WallTime) -> Result<(), LedgerError> {
        if sequence != 0 && sequence != self.last_sequence + 1 {
            return Err(LedgerError::SequenceMismatch);
        }
        self.last_sequence += count;
        self.last_time.get_or_insert(time);
        if self.messages == 0 {
            self.first_sequence = self.last_sequence + 1;
            self.blocks.clear();
        } else if count > Self::LONGEST_GAP {
            self.start_block();
        } else if let Some(block) = self.blocks.back_mut()
            && let Some(index) = &mut block.index
        {
            (0..count).for_each(|_| index.push(Slot::EMPTY));
            block.len += count;
        }
        Ok(())
    }

    /// Removes the message `sequence`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded; nothing is changed then.
    pub fn remove(&mut self, sequence: u64) -> Lookup<Option<Removed>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        let first = self.blocks[at].first;
        let slot = self.index(at)?.slots[(sequence - first) as usize];
        let Some(id) = slot.subject() else { return Ok(None) };
        // Where the next first message is has to be known before anything changes.
        let next = match sequence == self.first_sequence {
            true if self.messages > 1 => self.next_message(sequence + 1)?,
            true => Some(self.last_sequence + 1),
            false => Some(self.first_sequence),
        };
        let location = Self::location(&self.blocks[at], sequence, slot);
        self.index_mut(at)?.take((sequence - first) as usize);
        self.blocks[at].messages -= 1;
        self.messages -= 1;
        self.bytes -= u64::from(slot.size);
        let subject = self.subjects.get(id).name.clone();
        self.subjects.removed(id, sequence);
        self.first_sequence = next.unwrap_or(self.last_sequence + 1);
        self.drop_empty_front();
        let was_last_of_subject = self.subjects.find(&subject).is_none();
        Ok(Some(Removed { location, subject, was_last_of_subject }))
    }

    /// Removes all messages below `sequence`; the first sequence is then at least that. Zero purges everything.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded; what was removed stays removed, and the next
    /// call goes on.
    pub fn compact(&mut self, sequence: u64, mut removed: impl FnMut(Removed)) -> Lookup<u64> {
        let mut count = 0;
        let sequence = if sequence == 0 { self.last_sequence + 1 } else { sequence };
        if sequence < self.first_sequence {
            return Ok(0);
        }
        while self.messages > 0 && self.first_sequence < sequence {
            if let Some(message) = self.remove(self.first_sequence)? {
                removed(message);
                count += 1;
            }
        }
        if sequence > self.last_sequence {
            self.first_sequence = sequence;
            self.last_sequence = sequence - 1;
            self.blocks.clear();
        }
        Ok(count)
    }

    /// Removes what `filter` matches: below `below` (zero for no bound), but for the last `keep` of them.
    ///
    /// Source: nats-server `server/memstore.go`, `PurgeEx`: one is a bound below which nothing is.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::compact`].
    pub fn purge(
        &mut self,
        filter: Filter<'_>,
        below: u64,
        keep: u64,
        mut removed: impl FnMut(Removed),
    ) -> Lookup<u64> {
        if below == 1 {
            return Ok(0);
        }
        if matches!(filter, Filter::All | Filter::Subject(b"" | b">")) && (below > 1 || keep == 0) {
            return self.compact(below, removed);
        }
        let all = self.filtered_state(filter, 1)?;
        let Some(most) = all.messages.checked_sub(keep).filter(|most| *most > 0) else { return Ok(0) };
        let last = if below > 0 { below - 1 } else { all.last };
        let (mut count, mut from) = (0, all.first);
        while count < most
            && let Some(sequence) = self.next(filter, from)?.filter(|sequence| *sequence <= last)
        {
            if let Some(message) = self.remove(sequence)? {
                removed(message);
                count += 1;
            }
            from = sequence + 1;
        }
        Ok(count)
    }

    /// Removes all behind `sequence`, as if it had never been. Zero forgets everything, the sequences too.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::compact`].
    pub fn truncate(&mut self, sequence: u64, mut removed: impl FnMut(Removed)) -> Lookup<u64> {
        let kept_time = self.locate(sequence)?.map(|location| location.time);
        let mut count = 0;
        while let Some(last) = self.previous_message(self.last_sequence)?.filter(|last| *last > sequence) {
            if let Some(message) = self.remove(last)? {
                removed(message);
                count += 1;
            }
            self.last_sequence = last - 1;
        }
        if sequence == 0 {
            *self = Ledger::new(self.kind, self.config.clone());
            return Ok(count);
        }
        self.last_sequence = sequence.min(self.last_sequence);
        self.last_time = kept_time.or(self.last_time);
        if self.messages == 0 {
            self.first_sequence = self.last_sequence + 1;
        }
        while self.blocks.back().is_some_and(|block| block.first > self.last_sequence) {
            self.blocks.pop_back();
        }
        let end = self.last_sequence + 1;
        if let Some(block) = self.blocks.back_mut()
            && block.end() > end
        {
            block.len = end - block.first;
            if let Some(index) = &mut block.index {
                index.slots.truncate(block.len as usize);
            }
        }
        Ok(count)
    }

    /// Removes what a leader says is deleted, as far as it is here.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::compact`].
    pub fn sync_deleted(&mut self, deleted: &[DeleteRange], mut removed: impl FnMut(Removed)) -> Lookup<u64> {
        let mut count = 0;
        for range in deleted {
            let end = range.first.saturating_add(range.count);
            let mut from = range.first;
            while let Some(sequence) = self.next_message(from)?.filter(|sequence| *sequence < end) {
                if let Some(message) = self.remove(sequence)? {
                    removed(message);
                    count += 1;
                }
                from = sequence + 1;
            }
        }
        Ok(count)
    }

    /// Drops the index of a block, and returns it; `None` for the head, and for one that isn't here.
    pub fn evict(&mut self, number: u32) -> Option<EvictedIndex> {
        let at = self.blocks.iter().position(|block| block.number == number)?;
        if at + 1 == self.blocks.len() {
            return None;
        }
        self.blocks[at].index.take().map(EvictedIndex)
    }

    /// Puts the index of a block back.
    pub fn restore(&mut self, number: u32, index: EvictedIndex) {
        if let Some(block) = self.blocks.iter_mut().find(|block| block.number == number) {
            block.index = Some(index.0);
        }
    }

    /// Forgets blocks in which there is nothing any more, but for the head.
    fn drop_empty_front(&mut self) {
        while self.blocks.len() > 1 && self.blocks.front().is_some_and(|block: &Block| block.messages == 0) {
            self.blocks.pop_front();
        }
    }
}
