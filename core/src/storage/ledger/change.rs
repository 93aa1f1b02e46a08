//! What changes a ledger: appending, skipping, removing, purging, and taking indexes out and back.

use super::block::Slot;
use super::{Append, Filter, Ledger, LedgerError, Removed};
use crate::planted::{self, Bug};
use crate::storage::{DeleteRange, Lookup, Ranges, StorageKind};
use crate::time::WallTime;

impl Ledger {
    /// Appends a message to the head, and returns its sequence. Limits are another matter: see [`Ledger::settle`].
    ///
    /// # Errors
    ///
    /// [`LedgerError`]; nothing changes.
    ///
    /// # Panics
    ///
    /// If no block was started.
    pub fn append(&mut self, message: &Append<'_>) -> Result<u64, LedgerError> {
        let sequence = self.admit(message.sequence, message.size)?;
        let subject = self.subjects.appended(message.subject, sequence);
        let block = self.blocks.back_mut().expect("a block was started");
        let index = block.index.as_mut().expect("the head is never evicted");
        index.push(sequence, Slot::new(message.offset, message.size as u32, subject, message.time));
        block.end = sequence + 1;
        block.messages += 1;
        block.bytes += message.size;
        block.newest = block.newest.max(message.time);
        if self.messages == 0 {
            self.first_sequence = sequence;
        }
        self.messages += 1;
        self.bytes += message.size;
        self.last_sequence = sequence;
        self.last_time = Some(message.time);
        self.lives.add(sequence, message.time, message.ttl);
        self.schedules.appended(subject, sequence, message.scheduling);
        Ok(sequence)
    }

    /// Returns the sequence that a message of `size` bytes gets, which has to get `sequence` (zero for the next).
    ///
    /// # Errors
    ///
    /// [`LedgerError`], as for [`Ledger::append`].
    pub fn admit(&self, sequence: u64, size: u64) -> Result<u64, LedgerError> {
        let next = self.next_sequence()?;
        match (sequence, size) {
            (_, size) if size > Slot::MOST_BYTES => Err(LedgerError::TooLarge),
            (0, _) => Ok(next),
            (sequence, _) if sequence == next => Ok(next),
            _ => Err(LedgerError::SequenceMismatch),
        }
    }

    /// Uses `count` sequences up from `sequence` on (zero for the next), without messages. The time of the last message stays,
    /// if there was one, unless they are for messages that nobody wanted.
    ///
    /// # Errors
    ///
    /// [`LedgerError::SequenceMismatch`] if `sequence` isn't the next, [`LedgerError::Exhausted`] if there aren't as many;
    /// nothing changes.
    pub fn skip(
        &mut self,
        sequence: u64,
        count: u64,
        time: WallTime,
        unwanted: bool,
    ) -> Result<(), LedgerError> {
        let next = self.next_sequence()?;
        if sequence != 0 && sequence != next {
            return Err(LedgerError::SequenceMismatch);
        }
        let last = self.last_sequence.checked_add(count).filter(|last| *last < u64::MAX);
        self.last_sequence = last.ok_or(LedgerError::Exhausted)?;
        match unwanted {
            true => self.last_time = Some(time),
            false => drop(self.last_time.get_or_insert(time)),
        }
        if self.messages == 0 {
            self.first_sequence = self.last_sequence + 1;
        }
        self.move_empty_head();
        Ok(())
    }

    /// Removes the message `sequence`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded; nothing is changed then.
    pub fn remove(&mut self, sequence: u64) -> Lookup<Option<Removed>> {
        let Some(at) = self.block_of(sequence) else { return Ok(None) };
        let Some(slot) = self.index(at)?.get(sequence).copied() else { return Ok(None) };
        // Where the next first message is has to be known before anything changes.
        let first_sequence = match sequence == self.first_sequence && self.messages > 1 {
            true => self.next_message(sequence + 1)?.unwrap_or(self.last_sequence + 1),
            false if self.messages == 1 => self.last_sequence + 1,
            false => self.first_sequence,
        };
        let location = Self::location(&self.blocks[at], sequence, slot);
        self.index_mut(at)?.take(sequence);
        let block = &mut self.blocks[at];
        block.messages -= 1;
        block.bytes -= u64::from(slot.size);
        if self.kind == StorageKind::File {
            block.removed.insert(sequence);
        }
        self.messages -= 1;
        self.bytes -= u64::from(slot.size);
        self.lives.remove(sequence);
        self.schedules.remove(sequence);
        let subject = self.subjects.get(slot.subject).name.clone();
        self.subjects.removed(slot.subject, sequence);
        self.first_sequence = first_sequence;
        self.drop_if_empty(at);
        let was_last_of_subject = self.subjects.find(&subject).is_none();
        Ok(Some(Removed { location, subject, was_last_of_subject }))
    }

    /// Removes all messages below `sequence`; the first sequence is then at least that. Zero purges everything.
    ///
    /// `removed` is told of each message, unless all are gone: that takes no look at any, and no time.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded; what was removed stays removed, and the next call goes on.
    pub fn compact(&mut self, sequence: u64, mut removed: impl FnMut(Removed)) -> Lookup<u64> {
        let sequence = if sequence == 0 { self.last_sequence + 1 } else { sequence };
        if sequence < self.first_sequence {
            self.forget_lost_below(sequence);
            return Ok(0);
        }
        if sequence > self.last_sequence {
            return Ok(self.clear(sequence));
        }
        let mut count = 0;
        while self.messages > 0 && self.first_sequence < sequence {
            if let Some(message) = self.remove(self.first_sequence)? {
                removed(message);
                count += 1;
            }
        }
        self.forget_lost_below(sequence);
        Ok(count)
    }

    /// Removes what `filter` matches: below `below` (zero for no bound), but for the last `keep` of them. `removed` is
    /// told as for [`Ledger::compact`].
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
        if filter.is_everything() && (below > 1 || keep == 0) {
            return self.compact(below, removed);
        }
        let all = self.filtered_state(filter, 1)?;
        let Some(most) = all.messages.checked_sub(keep).filter(|most| *most > 0) else { return Ok(0) };
        let last = if below > 0 { below - 1 } else { all.last };
        let (mut count, mut from) = (0, all.first);
        let wanted = self.wanted(filter);
        while count < most
            && let Some(sequence) =
                self.next_wanted(filter, &wanted, from)?.filter(|sequence| *sequence <= last)
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
        if sequence == 0 {
            let messages = self.messages;
            let mut emptied = std::mem::take(&mut self.emptied);
            emptied.extend(self.blocks.iter().map(super::Block::emptied));
            *self = Ledger { emptied, ..Ledger::new(self.kind, self.config.clone()) };
            return Ok(messages);
        }
        let kept_time = self.locate(sequence)?.map(|location| location.time);
        let mut count = 0;
        while let Some(last) = self.previous_message(self.last_sequence)?.filter(|last| *last > sequence) {
            if let Some(message) = self.remove(last)? {
                removed(message);
                count += 1;
            }
            self.last_sequence = last - 1;
        }
        self.last_sequence = sequence.min(self.last_sequence);
        self.last_time = kept_time.or(self.last_time);
        self.lost.remove_above(self.last_sequence);
        self.lives.remove_all(self.last_sequence + 1..u64::MAX);
        self.schedules.remove_above(self.last_sequence);
        if self.messages == 0 {
            self.first_sequence = self.last_sequence + 1;
        }
        let end = self.last_sequence + 1;
        while self.blocks.back().is_some_and(|block| block.messages == 0) {
            self.emptied.extend(self.blocks.pop_back().map(|block| block.emptied()));
        }
        let cut = !planted::bug(Bug::StoreSpoiledUncut);
        for emptied in self.emptied.iter_mut().filter(|_| cut) {
            emptied.end = emptied.end.min(end.max(emptied.first));
        }
        if let Some(block) = self.blocks.back_mut().filter(|block| block.end > end) {
            block.end = end;
            block.index.iter_mut().for_each(|index| index.cut(end - 1));
            // These sequences are used again, for other messages.
            while let Some(cut) = block.removed.last().filter(|last| *last >= end) {
                block.removed.remove(cut);
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

    /// Drops the index of a block; `false` for the head, and for one that isn't in memory.
    pub fn evict(&mut self, number: u32) -> bool {
        let at = self.blocks.iter().position(|block| block.number == number);
        let at = at.filter(|at| at + 1 < self.blocks.len());
        at.is_some_and(|at| self.blocks[at].index.take().is_some())
    }

    /// Notes sequences whose messages were damaged, and how many bytes of files they took.
    pub fn note_lost(&mut self, lost: &Ranges, bytes: u64) {
        lost.iter().for_each(|(first, last)| self.lost.insert(first, last));
        self.lost_bytes = self.lost_bytes.saturating_add(bytes);
    }

    /// Returns whether anything from `first` to before `end` was lost.
    pub fn has_lost(&self, first: u64, end: u64) -> bool {
        end > first && self.lost.within(first, end - 1).next().is_some()
    }

    /// Forgets what was lost below `sequence`: the limits would have taken it away by now.
    pub(crate) fn forget_lost_below(&mut self, sequence: u64) {
        self.lost.remove_below(sequence);
        if self.lost.is_empty() {
            self.lost_bytes = 0;
        }
    }

    fn next_sequence(&self) -> Result<u64, LedgerError> {
        let next = self.last_sequence + 1;
        if next == u64::MAX { Err(LedgerError::Exhausted) } else { Ok(next) }
    }

    /// Removes everything, and goes on with `next`; returns how many messages there were.
    fn clear(&mut self, next: u64) -> u64 {
        let messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        self.first_sequence = next;
        self.last_sequence = next - 1;
        self.subjects.clear();
        self.lives.remove_all(0..u64::MAX);
        self.schedules = super::Schedules::default();
        self.forget_lost_below(next);
        if let Some(head) = self.blocks.pop_back() {
            self.emptied.extend(self.blocks.drain(..).map(|block| block.emptied()));
            // Its file still has what it had.
            let mut removed = head.removed;
            if self.kind == StorageKind::File {
                let living = head.index.iter().flat_map(|index| index.iter().map(|(sequence, _)| sequence));
                removed.extend(living);
            }
            self.blocks.push_back(super::Block { removed, ..super::Block::new(head.number, next) });
        }
        messages
    }

    /// Forgets a block in which there is nothing any more, but for the head.
    pub(super) fn drop_if_empty(&mut self, at: usize) {
        if at + 1 < self.blocks.len() && self.blocks[at].messages == 0 {
            self.emptied.extend(self.blocks.remove(at).map(|block| block.emptied()));
        } else {
            self.move_empty_head();
        }
    }

    /// Lets an empty head begin where the next message will be.
    fn move_empty_head(&mut self) {
        let next = self.last_sequence + 1;
        if let Some(head) = self.blocks.back_mut().filter(|head| head.messages == 0) {
            (head.first, head.end) = (next, next);
            head.index = Some(super::block::BlockIndex::default());
        }
    }
}
