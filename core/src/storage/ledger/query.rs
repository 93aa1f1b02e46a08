//! Questions to a ledger: the next message, the last of a subject, how many are pending.

use super::subjects::{Subject, SubjectId};
use super::{Filter, Ledger, LedgerError, SubjectPage};
use crate::storage::{DeleteRange, Lookup, SimpleState};
use crate::subject::{has_wildcard, matches_literal};
use crate::time::WallTime;

/// Messages that are looked at one by one before the subjects are asked instead.
const NEARBY: usize = 64;

/// How many subjects are followed one by one where there are more blocks than a few: above, all messages are looked at.
const FEW: usize = 16;

impl Filter<'_> {
    pub(super) fn is_everything(&self) -> bool {
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
            match self.next_matching(filter, at) {
                Ok(Some((sequence, true))) => return Ok(Some(sequence)),
                Ok(Some((sequence, false))) => at = sequence + 1,
                Ok(None) => return Ok(None),
                // A few subjects are asked before an index is loaded that may have nothing of them.
                Err(_) if self.subjects.len() <= NEARBY => break,
                Err(missing) => return Err(missing),
            }
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

    /// Returns the first message at or behind `from`, and whether `filter` matches it.
    fn next_matching(&self, filter: Filter<'_>, from: u64) -> Lookup<Option<(u64, bool)>> {
        let Some(sequence) = self.next_message(from)? else { return Ok(None) };
        let matches = self.subject_of(sequence)?.is_some_and(|subject| filter.matches(subject));
        Ok(Some((sequence, matches)))
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
            let Some(before) = sequence.checked_sub(1) else { return Ok(None) };
            at = before;
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
        // Blocks know their newest message: only the one that has it is looked into.
        let Some(at) = self.blocks.iter().position(|block| block.messages > 0 && block.newest >= time) else {
            return Ok(self.last_sequence + 1);
        };
        let from = self.index(at)?.since(time).unwrap_or(self.blocks[at].end);
        Ok(self.next_message(from)?.unwrap_or(self.last_sequence + 1))
    }

    /// Returns what `filter` matches at or behind `from`, in numbers.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::next`].
    pub fn filtered_state(&mut self, filter: Filter<'_>, from: u64) -> Lookup<SimpleState> {
        let from = from.max(self.first_sequence);
        let (messages, _) = self.pending(filter, from, false)?;
        match messages {
            // As the reference has it, where nothing is left of a stream.
            0 if self.messages == 0 && filter.is_everything() => {
                let (first, last) = (self.first_sequence, self.last_sequence);
                return Ok(SimpleState { messages: 0, first, last });
            }
            0 => return Ok(SimpleState::default()),
            _ => {}
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

    /// Returns how many subjects `filter` matches, and up to `limit` of them behind the first `offset`, in order, with how many
    /// messages they have.
    pub fn subject_page(&self, filter: Filter<'_>, offset: usize, limit: usize) -> SubjectPage {
        let mut page = SubjectPage::default();
        self.visit_subjects(filter, |name, subject| {
            if page.total >= offset && page.subjects.len() < limit {
                page.subjects.push((name.into(), subject.messages));
            }
            page.total += 1;
        });
        page
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
        let mut whole = 0;
        self.visit_ids(filter, |id, subject| {
            if subject.first >= from && !last_per_subject {
                whole += subject.messages;
            } else if subject.last >= from {
                ids.push(id);
            }
        });
        if ids.len() > FEW && !last_per_subject {
            return Ok((whole + self.count_many(&ids, from)?, through));
        }
        let mut total = whole;
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
                && self.blocks[at].is_full()
            {
                expected = self.blocks[at].end;
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

    /// Returns which subjects `filter` matches, by their ids; `None` where they are better followed one by one.
    pub(super) fn wanted(&self, filter: Filter<'_>) -> Option<Vec<bool>> {
        if filter.is_everything() || filter.literal().is_some() {
            return None;
        }
        let mut wanted = vec![false; self.subjects.bound()];
        self.visit_ids(filter, |id, _| wanted[id as usize] = true);
        Some(wanted)
    }

    /// Returns the first message at or behind `from` that is wanted.
    pub(super) fn next_wanted(
        &mut self,
        filter: Filter<'_>,
        wanted: &Option<Vec<bool>>,
        from: u64,
    ) -> Lookup<Option<u64>> {
        let Some(wanted) = wanted else { return self.next(filter, from) };
        for at in self.block_near(from)..self.blocks.len() {
            if let Some(sequence) = self.index(at)?.next_where(from, |id| wanted[id as usize]) {
                return Ok(Some(sequence));
            }
        }
        Ok(None)
    }

    /// Returns how many messages of many subjects are at or behind `from`: one look at each message of the nearer end.
    fn count_many(&self, ids: &[SubjectId], from: u64) -> Lookup<u64> {
        let mut wanted = vec![false; self.subjects.bound()];
        let (mut all, mut first, mut last) = (0, u64::MAX, 0);
        for id in ids {
            wanted[*id as usize] = true;
            let subject = self.subjects.get(*id);
            all += subject.messages;
            (first, last) = (first.min(subject.first), last.max(subject.last));
        }
        let (head, cut, tail) = (self.block_near(first), self.block_near(from), self.block_near(last));
        let from_the_front = cut.saturating_sub(head) < tail.saturating_sub(cut);
        let (blocks, begin, end) =
            if from_the_front { (head..=cut, 0, from) } else { (cut..=tail, from, u64::MAX) };
        let mut count = 0;
        for at in blocks.filter(|at| *at < self.blocks.len()) {
            count += self.index(at)?.count_where(begin, end, |id| wanted[id as usize]);
        }
        Ok(if from_the_front { all - count } else { count })
    }

    /// Returns the first message at or behind `from`.
    pub(super) fn next_message(&self, from: u64) -> Lookup<Option<u64>> {
        let from = from.max(self.first_sequence);
        for at in self.block_near(from)..self.blocks.len() {
            let block = &self.blocks[at];
            if block.messages == 0 {
                continue;
            }
            if block.is_full() {
                return Ok(Some(block.first.max(from)));
            }
            if let Some((sequence, _)) = self.index(at)?.next(from) {
                return Ok(Some(sequence));
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
            if block.is_full() {
                return Ok(Some((block.end - 1).min(from)));
            }
            if let Some((sequence, _)) = self.index(at)?.previous(from) {
                return Ok(Some(sequence));
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
            } else if block.end > from {
                total += match block.is_full() {
                    true => block.end - from,
                    false => self.index(at)?.count_where(from, u64::MAX, |_| true),
                };
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
        for at in self.block_near(from)..self.blocks.len() {
            if let Some(found) = self.index_mut(at)?.next_of(id, from) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn search_back(&mut self, id: SubjectId, from: u64) -> Lookup<Option<u64>> {
        let end = self.blocks.partition_point(|block| block.first <= from);
        for at in (0..end).rev() {
            if let Some(found) = self.index_mut(at)?.previous_of(id, from) {
                return Ok(Some(found));
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
        let (blocks, begin, end) =
            if from_the_front { (head..=cut, 0, from) } else { (cut..=tail, from, u64::MAX) };
        let mut count = 0;
        let all = self.blocks.len();
        for at in blocks.filter(|at| *at < all) {
            count += self.index_mut(at)?.count_of(id, begin, end);
        }
        Ok(if from_the_front { messages - count } else { count })
    }

    /// Returns the place of the block that has `sequence`, or of the one behind it.
    fn block_near(&self, sequence: u64) -> usize {
        self.blocks.partition_point(|block| block.end <= sequence)
    }
}
