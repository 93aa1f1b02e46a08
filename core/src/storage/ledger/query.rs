//! Questions to a ledger: the next message, the last of a subject, how many are pending.

use super::subjects::{Subject, SubjectId};
use super::{Filter, Ledger, LedgerError};
use crate::storage::{DeleteRange, Lookup, SimpleState};
use crate::subject::{has_wildcard, matches_literal};
use crate::time::WallTime;

/// Messages that are looked at one by one before the subjects are asked instead.
const NEARBY: usize = 64;

impl Filter<'_> {
    fn is_everything(&self) -> bool {
        matches!(self, Filter::All | Filter::Subject(b"" | b">"))
    }

    /// Returns the subject, if the filter is just one.
    fn literal(&self) -> Option<&[u8]> {
        match *self {
            Filter::Subject(subject) if !has_wildcard(subject) => Some(subject),
            _ => None,
        }
    }

    fn matches(&self, subject: &[u8]) -> bool {
        match self {
            Filter::All => true,
            Filter::Subject(filter) => self.is_everything() || matches_literal(subject, filter),
            Filter::Any(list) => list.has_interest(subject),
        }
    }
}

impl Ledger {
    /// Returns the sequence of the first message at or behind `from` that `filter` matches.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded for the answer; so for all questions here.
    pub fn next(&mut self, filter: Filter<'_>, from: u64) -> Lookup<Option<u64>> {
        if filter.is_everything() {
            return self.next_message(from);
        }
        if let Some(literal) = filter.literal() {
            let Some(id) = self.subjects.find(literal) else { return Ok(None) };
            return self.next_of(id, from);
        }
        // Where much matches, the next is near. Where little does, the few subjects know.
        let mut at = from;
        for _ in 0..NEARBY {
            let Some(sequence) = self.next_message(at)? else { return Ok(None) };
            if self.subject_of(sequence)?.is_some_and(|subject| filter.matches(subject)) {
                return Ok(Some(sequence));
            }
            at = sequence + 1;
        }
        let mut ids = Vec::new();
        self.visit_ids(filter, |id, subject| {
            if subject.last >= at {
                ids.push((subject.first, id));
            }
        });
        // Those that begin first; the others can't be nearer than where they begin.
        ids.sort_unstable();
        let mut nearest: Option<u64> = None;
        for (first, id) in ids {
            if nearest.is_some_and(|nearest| first >= nearest) {
                break;
            }
            let next = self.next_of(id, at)?;
            nearest = nearest.into_iter().chain(next).min();
        }
        Ok(nearest)
    }

    /// Returns the sequence of the last message at or before `from` that `filter` matches.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn previous(&mut self, filter: Filter<'_>, from: u64) -> Lookup<Option<u64>> {
        if filter.is_everything() {
            return self.previous_message(from);
        }
        if let Some(literal) = filter.literal() {
            let Some(id) = self.subjects.find(literal) else { return Ok(None) };
            return self.previous_of(id, from);
        }
        let mut at = from;
        for _ in 0..NEARBY {
            let Some(sequence) = self.previous_message(at)? else { return Ok(None) };
            if self.subject_of(sequence)?.is_some_and(|subject| filter.matches(subject)) {
                return Ok(Some(sequence));
            }
            at = sequence - 1;
        }
        let mut ids = Vec::new();
        self.visit_ids(filter, |id, subject| {
            if subject.first <= at {
                ids.push((std::cmp::Reverse(subject.last), id));
            }
        });
        ids.sort_unstable();
        let mut nearest: Option<u64> = None;
        for (last, id) in ids {
            if nearest.is_some_and(|nearest| last.0 <= nearest) {
                break;
            }
            let previous = self.previous_of(id, at)?;
            nearest = nearest.into_iter().chain(previous).max();
        }
        Ok(nearest)
    }

    /// Returns the sequence of the last message of `subject`, which has no wildcards.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn last_of_subject(&mut self, subject: &[u8]) -> Lookup<Option<u64>> {
        self.subjects.find(subject).map(|id| self.last_of(id)).transpose()
    }

    /// Returns the first sequence whose message is not older than `time`; one behind the last sequence if all are.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn sequence_from_time(&self, time: WallTime) -> Lookup<u64> {
        let none = self.last_sequence + 1;
        // The block is found by its first message, the message within by halves; empty slots belong to the one behind.
        let (mut low, mut high) = (self.first_sequence, none);
        while low < high {
            let middle = low + (high - low) / 2;
            let Some(sequence) = self.next_message(middle)?.filter(|sequence| *sequence < high) else {
                high = middle;
                continue;
            };
            let older = self.locate(sequence)?.is_some_and(|location| location.time < time);
            if older {
                low = sequence + 1;
            } else {
                high = middle;
            }
        }
        Ok(self.next_message(low)?.unwrap_or(none))
    }

    /// Returns what `filter` matches at or behind `from`, in numbers.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn filtered_state(&mut self, filter: Filter<'_>, from: u64) -> Lookup<SimpleState> {
        let from = from.max(self.first_sequence);
        let (messages, _) = self.pending(filter, from, false)?;
        if messages == 0 {
            return Ok(SimpleState::default());
        }
        let first = self.next(filter, from)?.unwrap_or(from);
        let last = self.previous(filter, self.last_sequence)?.unwrap_or(first);
        Ok(SimpleState { messages, first, last })
    }

    /// Returns every subject that `filter` matches, in order, with its messages in numbers.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn subject_states(&mut self, filter: Filter<'_>) -> Lookup<Vec<(Box<[u8]>, SimpleState)>> {
        let mut ids = Vec::new();
        self.visit_ids(filter, |id, _| ids.push(id));
        let mut states = Vec::with_capacity(ids.len());
        for id in ids {
            let (first, last) = (self.first_of(id)?, self.last_of(id)?);
            let subject = self.subjects.get(id);
            states.push((subject.name.clone(), SimpleState { messages: subject.messages, first, last }));
        }
        Ok(states)
    }

    /// Returns every subject that `filter` matches, in order, with how many messages it has.
    pub fn subject_totals(&self, filter: Filter<'_>) -> Vec<(Box<[u8]>, u64)> {
        let mut totals = Vec::new();
        self.visit_subjects(filter, |name, subject| totals.push((name.into(), subject.messages)));
        totals
    }

    /// Returns the last sequence of each subject that `filter` matches and that is at or below `max_sequence` (zero for no
    /// bound), in order.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`]; inside, [`LedgerError::TooManyResults`] for more than `max_allowed` (zero for any number).
    pub fn last_sequences(
        &mut self,
        filter: Filter<'_>,
        max_sequence: u64,
        max_allowed: usize,
    ) -> Lookup<Result<Vec<u64>, LedgerError>> {
        let bound = if max_sequence == 0 { self.last_sequence } else { max_sequence };
        let mut ids = Vec::new();
        self.visit_ids(filter, |id, _| ids.push(id));
        let mut found = Vec::new();
        for id in ids {
            let last = self.last_of(id)?;
            let last = if last <= bound { Some(last) } else { self.previous_of(id, bound)? };
            found.extend(last);
            if max_allowed > 0 && found.len() > max_allowed {
                return Ok(Err(LedgerError::TooManyResults));
            }
        }
        found.sort_unstable();
        Ok(Ok(found))
    }

    /// Returns how many messages at or behind `from` `filter` matches (or how many subjects have their last message there),
    /// and through which sequence that holds.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn pending(&mut self, filter: Filter<'_>, from: u64, last_per_subject: bool) -> Lookup<(u64, u64)> {
        let through = self.last_sequence;
        if self.messages == 0 || from > through {
            return Ok((0, through));
        }
        if filter.is_everything() && !last_per_subject {
            return Ok((self.messages_from(from)?, through));
        }
        let mut ids = Vec::new();
        self.visit_ids(filter, |id, subject| {
            if subject.last >= from {
                ids.push(id);
            }
        });
        let mut total = 0;
        for id in ids {
            total += match last_per_subject {
                true => u64::from(self.last_of(id)? >= from),
                false => self.count_of(id, from)?,
            };
        }
        Ok((total, through))
    }

    /// Returns the runs of sequences from the first message to the last that have none.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn deleted(&self) -> Lookup<Vec<DeleteRange>> {
        let mut ranges = Vec::new();
        let mut expected = self.first_sequence;
        let mut gap = |first: u64, end: u64| {
            if end > first {
                ranges.push(DeleteRange { first, count: end - first });
            }
        };
        while let Some(sequence) = self.next_message(expected)? {
            gap(expected, sequence);
            expected = sequence + 1;
            // Over what is whole, without asking for each.
            if let Some(at) = self.block_of(expected)
                && self.blocks[at].messages == self.blocks[at].len
            {
                expected = self.blocks[at].end();
            }
        }
        gap(expected, self.last_sequence + 1);
        Ok(ranges)
    }

    /// Calls `with` for each subject that `filter` matches, in order.
    pub(super) fn visit_subjects(&self, filter: Filter<'_>, mut with: impl FnMut(&[u8], &Subject)) {
        self.visit_ids(filter, |_, subject| with(&subject.name, subject));
    }

    fn visit_ids(&self, filter: Filter<'_>, mut with: impl FnMut(SubjectId, &Subject)) {
        let ids = self.subjects.ids();
        let mut with = |_: &[u8], id: &SubjectId| {
            with(*id, self.subjects.get(*id));
            true
        };
        match filter {
            Filter::All | Filter::Subject(b"" | b">") => ids.visit(&mut with),
            Filter::Subject(filter) => ids.matches_until(filter, &mut with),
            Filter::Any(list) => ids.intersect_interest(list, &mut with),
        };
    }

    /// Returns the first message at or behind `from`.
    pub(super) fn next_message(&self, from: u64) -> Lookup<Option<u64>> {
        let from = from.max(self.first_sequence);
        let start = self.blocks.partition_point(|block| block.end() <= from);
        for at in start..self.blocks.len() {
            let block = &self.blocks[at];
            if block.messages == 0 {
                continue;
            }
            let begin = from.saturating_sub(block.first) as usize;
            if block.messages == block.len {
                return Ok(Some(block.first + begin as u64));
            }
            let slots = &self.index(at)?.slots[begin..];
            if let Some(found) = slots.iter().position(|slot| slot.subject().is_some()) {
                return Ok(Some(block.first + (begin + found) as u64));
            }
        }
        Ok(None)
    }

    /// Returns the last message at or before `from`.
    pub(super) fn previous_message(&self, from: u64) -> Lookup<Option<u64>> {
        let end = self.blocks.partition_point(|block| block.first <= from);
        for at in (0..end).rev() {
            let block = &self.blocks[at];
            if block.messages == 0 {
                continue;
            }
            let len = block.len.min(from + 1 - block.first) as usize;
            let slots = &self.index(at)?.slots[..len];
            if let Some(found) = slots.iter().rposition(|slot| slot.subject().is_some()) {
                return Ok(Some(block.first + found as u64));
            }
        }
        Ok(None)
    }

    /// Returns how many messages are at or behind `from`: whole blocks by their counts, the one that it cuts by its slots.
    fn messages_from(&self, from: u64) -> Lookup<u64> {
        let mut total = 0;
        for (at, block) in self.blocks.iter().enumerate().rev() {
            if block.first >= from {
                total += block.messages;
            } else if block.end() > from {
                let slots = &self.index(at)?.slots[(from - block.first) as usize..];
                total += slots.iter().filter(|slot| slot.subject().is_some()).count() as u64;
            } else {
                break;
            }
        }
        Ok(total)
    }

    /// Returns the first message of a subject, and remembers it.
    pub(super) fn first_of(&mut self, id: SubjectId) -> Lookup<u64> {
        let Subject { first, first_is_exact, .. } = *self.subjects.get(id);
        if first_is_exact {
            return Ok(first);
        }
        let found = self.search(id, first)?.unwrap_or(first);
        let subject = self.subjects.get_mut(id);
        (subject.first, subject.first_is_exact) = (found, true);
        Ok(found)
    }

    /// Returns the last message of a subject, and remembers it.
    fn last_of(&mut self, id: SubjectId) -> Lookup<u64> {
        let Subject { last, last_is_exact, .. } = *self.subjects.get(id);
        if last_is_exact {
            return Ok(last);
        }
        let found = self.search_back(id, last)?.unwrap_or(last);
        let subject = self.subjects.get_mut(id);
        (subject.last, subject.last_is_exact) = (found, true);
        Ok(found)
    }

    fn next_of(&mut self, id: SubjectId, from: u64) -> Lookup<Option<u64>> {
        let first = self.first_of(id)?;
        if from <= first {
            return Ok(Some(first));
        }
        match from > self.subjects.get(id).last {
            true => Ok(None),
            false => self.search(id, from),
        }
    }

    fn previous_of(&mut self, id: SubjectId, from: u64) -> Lookup<Option<u64>> {
        let last = self.last_of(id)?;
        if from >= last {
            return Ok(Some(last));
        }
        match from < self.subjects.get(id).first {
            true => Ok(None),
            false => self.search_back(id, from),
        }
    }

    /// Looks for the next message of a subject through the blocks, each of which knows the slots of each subject.
    fn search(&mut self, id: SubjectId, from: u64) -> Lookup<Option<u64>> {
        let start = self.blocks.partition_point(|block| block.end() <= from);
        for at in start..self.blocks.len() {
            let first = self.blocks[at].first;
            let slots = self.index_mut(at)?.of_subject(id);
            let begin = slots.partition_point(|slot| first + u64::from(*slot) < from);
            if let Some(slot) = slots.get(begin) {
                return Ok(Some(first + u64::from(*slot)));
            }
        }
        Ok(None)
    }

    fn search_back(&mut self, id: SubjectId, from: u64) -> Lookup<Option<u64>> {
        let end = self.blocks.partition_point(|block| block.first <= from);
        for at in (0..end).rev() {
            let first = self.blocks[at].first;
            let slots = self.index_mut(at)?.of_subject(id);
            let behind = slots.partition_point(|slot| first + u64::from(*slot) <= from);
            if let Some(slot) = slots[..behind].last() {
                return Ok(Some(first + u64::from(*slot)));
            }
        }
        Ok(None)
    }

    /// Returns how many messages of a subject are at or behind `from`, counted from the nearer end.
    fn count_of(&mut self, id: SubjectId, from: u64) -> Lookup<u64> {
        let Subject { messages, first, last, .. } = *self.subjects.get(id);
        if from <= first {
            return Ok(messages);
        }
        let (head, tail) = (self.block_near(first), self.block_near(last));
        let cut = self.block_near(from);
        let from_the_front = cut.saturating_sub(head) < tail.saturating_sub(cut);
        let mut count = 0;
        let range = if from_the_front { head..=cut } else { cut..=tail };
        for at in range {
            let Some(block) = self.blocks.get(at) else { break };
            let block_first = block.first;
            let slots = self.index_mut(at)?.of_subject(id);
            let below = slots.partition_point(|slot| block_first + u64::from(*slot) < from);
            count += if from_the_front { below } else { slots.len() - below } as u64;
        }
        Ok(if from_the_front { messages - count } else { count })
    }

    /// Returns the place of the block that has `sequence`, or of the one behind it.
    fn block_near(&self, sequence: u64) -> usize {
        self.blocks.partition_point(|block| block.end() <= sequence)
    }
}
