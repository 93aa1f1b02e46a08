//! What a stream may hold: what is refused, what has to go, and what is due to go.

use std::collections::BTreeMap;

use super::subjects::SubjectId;
use super::{Due, Filter, Ledger, Removed};
use crate::storage::{Discard, LimitError, Lookup, StoreConfig};
use crate::time::{Duration, WallTime};

impl Ledger {
    /// Tells whether a message may be stored: it may not where the policy is to refuse it and the stream is full. A rollup
    /// may pass the limit of its subject, whose messages it replaces.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded for the answer.
    pub fn check(&mut self, subject: &[u8], size: u64, rollup: bool) -> Lookup<Result<(), LimitError>> {
        if self.config.discard != Discard::New {
            return Ok(Ok(()));
        }
        let per_subject = self.config.max_messages_per_subject;
        let found = self.subjects.find(subject);
        // A subject at its limit gives up its oldest message for the new one.
        let replaces = found.filter(|id| per_subject > 0 && self.subjects.get(*id).messages >= per_subject);
        if replaces.is_some() && self.config.discard_new_per_subject && !rollup {
            return Ok(Err(LimitError::MessagesPerSubject));
        }
        let StoreConfig { max_messages, max_bytes, .. } = self.config;
        if max_messages > 0 && self.messages >= max_messages && replaces.is_none() {
            return Ok(Err(LimitError::Messages));
        }
        if max_bytes > 0 && self.bytes.saturating_add(size) > max_bytes {
            let Some(id) = replaces else { return Ok(Err(LimitError::Bytes)) };
            let first = self.first_of(id)?;
            let freed = self.locate(first)?.map_or(0, |location| u64::from(location.size));
            if freed < size {
                return Ok(Err(LimitError::Bytes));
            }
        }
        Ok(Ok(()))
    }

    /// Removes what the limits no longer allow: of the subject that was appended to last, then of the stream.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded; what was removed stays removed, and the next
    /// call goes on. Nothing else may be changed before that.
    pub fn settle(&mut self, subject: &[u8], mut removed: impl FnMut(Removed)) -> Lookup<()> {
        let per_subject = self.config.max_messages_per_subject;
        while per_subject > 0
            && let Some(id) = self.subjects.find(subject)
            && self.subjects.get(id).messages > per_subject
        {
            let first = self.first_of(id)?;
            self.remove(first)?.into_iter().for_each(&mut removed);
        }
        if self.config.discard == Discard::Old {
            let StoreConfig { max_messages, max_bytes, .. } = self.config;
            while (max_messages > 0 && self.messages > max_messages)
                || (max_bytes > 0 && self.bytes > max_bytes)
            {
                self.remove(self.first_sequence)?.into_iter().for_each(&mut removed);
                self.forget_lost_below(self.first_sequence);
            }
        }
        Ok(())
    }

    /// Takes other settings, and removes what they no longer allow.
    ///
    /// # Errors
    ///
    /// As for [`Ledger::settle`]; ask again with the same settings.
    pub fn configure(&mut self, config: StoreConfig, mut removed: impl FnMut(Removed)) -> Lookup<()> {
        self.config = config;
        self.lives.arm(self.config.allow_message_ttl);
        // The stream's limits first, as the reference does; and so that it doesn't matter where it has to be asked again.
        self.settle(b"", &mut removed)?;
        let most = self.config.max_messages_per_subject;
        let mut over = Vec::new();
        self.subjects.ids().visit(|name, id| {
            if most > 0 && self.subjects.get(*id).messages > most {
                over.push(name.to_vec());
            }
            true
        });
        over.iter().try_for_each(|name| self.settle(name, &mut removed))
    }

    /// Returns up to `max` sequences whose time is over at `now`, by the stream's age limit or by their own time to live.
    /// Nothing is removed: expiry is an entry, so that every replica removes the same. What is due stays due until it is
    /// removed, so that a proposal that is lost is made again; who proposes asks again when it was answered.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded for the answer.
    pub fn due(&mut self, now: WallTime, max: usize) -> Lookup<Due> {
        let mut due: Vec<u64> = Vec::new();
        if !self.config.max_age.is_zero() {
            let mut from = self.first_sequence;
            while due.len() < max
                && let Some(sequence) = self.next_message(from)?
                && let Some(location) = self.locate(sequence)?
                && location.time + self.config.max_age <= now
            {
                if !self.lives.for_ever(sequence) {
                    due.push(sequence);
                }
                from = sequence + 1;
            }
        }
        self.lives.due(now, max, &mut due);
        due.sort_unstable();
        due.dedup();
        if self.config.subject_delete_marker_ttl < Duration::from_secs(1) {
            return Ok(Due { expired: due, last: Vec::new() });
        }
        self.without_last(due)
    }

    /// Takes out of what is due the messages behind which nothing is left of their subjects.
    fn without_last(&self, due: Vec<u64>) -> Lookup<Due> {
        let mut counts: BTreeMap<SubjectId, u64> = BTreeMap::new();
        let mut sorted = Due::default();
        for sequence in due {
            let Some(subject) = self.subject_id_of(sequence)? else { continue };
            let count = counts.entry(subject).or_default();
            *count += 1;
            match *count == self.subjects.get(subject).messages {
                true => sorted.last.push(sequence),
                false => sorted.expired.push(sequence),
            }
        }
        Ok(sorted)
    }

    /// Returns when something may be due next; `None` if nothing will be.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if an index has to be loaded for the answer.
    pub fn next_due(&self) -> Lookup<Option<WallTime>> {
        let own = self.lives.next();
        if self.config.max_age.is_zero() {
            return Ok(own);
        }
        let mut from = self.first_sequence;
        while let Some(sequence) = self.next_message(from)? {
            if !self.lives.for_ever(sequence) {
                let location = self.locate(sequence)?;
                let first = location.map(|location| location.time + self.config.max_age);
                return Ok(own.into_iter().chain(first).min());
            }
            from = sequence + 1;
        }
        Ok(own)
    }

    /// Returns how many messages `filter` matches, without looking at any.
    pub fn total(&self, filter: Filter<'_>) -> u64 {
        let mut total = 0;
        self.visit_subjects(filter, |_, subject| total += subject.messages);
        total
    }
}
