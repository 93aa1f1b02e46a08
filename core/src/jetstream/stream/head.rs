//! The appended head: what the stream will be once all that was proposed is applied.
//!
//! Applying is deterministic and in order, so the head's last sequence is known, and so are the last sequences of the
//! subjects that something is on its way for. How many messages and bytes there will be is known from above: what
//! removals on their way will take is left to the store. A decision that the bound allows is made at once; one that it
//! doesn't waits until what is on its way is applied, and is made by the ledger alone. So many publishes are in flight at
//! once, and none is decided otherwise than if each had been applied before the next.
//!
//! Subjects are looked up only where something asks for them: the table of those in flight is made when the first
//! question comes, and is dropped when nothing is in flight.

use std::collections::VecDeque;

use bytes::Bytes;

use super::flight::{Effect, Flight, Storing};
use super::settings::Settings;
use crate::collections::SequenceSet;
use crate::rng::{HashKeys, HashMap};
use crate::storage::ledger::{Filter, Ledger};
use crate::storage::{Lookup, StoreConfig};
use crate::subject::{has_wildcard, matches_literal};

/// What is in flight for one subject.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    messages: u64,
    last: u64,
    /// How many rollups of it.
    rollups: u64,
    /// How many messages since the newest rollup, that one included.
    since_rollup: u64,
}

/// What the head is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// This.
    Exactly(T),
    /// It shows when what is in flight is applied.
    Later,
}

/// How many messages a subject has at the head.
#[derive(Clone, Copy, Debug)]
pub(super) struct SubjectCount {
    /// That many, or fewer.
    pub(super) at_most: u64,
    /// Whether it is that many.
    pub(super) exact: bool,
}

/// What was proposed and isn't applied yet, oldest first, and what it will make of the stream.
#[derive(Debug)]
pub(super) struct Head {
    keys: HashKeys,
    /// The last sequence that is used at the head.
    last: u64,
    flights: VecDeque<Flight>,
    added: Effect,
    /// How many flights remove messages that the bounds don't count.
    removals: usize,
    /// How many of these may remove any message.
    broad: usize,
    /// How many messages in flight push out another of their subject.
    replacing: usize,
    /// Messages whose removal, each by its sequence, is in flight. They were there when it was proposed, so the first such
    /// removal of a message takes it, and another is for nothing.
    leaving: SequenceSet,
    subjects: Option<HashMap<Bytes, Pending>>,
}

impl Head {
    pub(super) fn new(keys: HashKeys, last: u64) -> Self {
        Head {
            keys,
            last,
            flights: VecDeque::new(),
            added: Effect::default(),
            removals: 0,
            broad: 0,
            replacing: 0,
            leaving: SequenceSet::default(),
            subjects: None,
        }
    }

    /// Returns the last sequence.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    /// Tells whether the message that is to get this sequence is still in flight.
    pub(super) fn is_pending(&self, sequence: u64) -> bool {
        let mut stored = self.flights.iter().filter_map(|flight| match flight {
            Flight::Store(storing) => Some(storing.sequence),
            // It is answered when its rollup is done.
            Flight::Rollup { stored, .. } => stored.as_ref().map(|storing| storing.sequence),
            _ => None,
        });
        stored.next().is_some_and(|first| first <= sequence)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.flights.len()
    }

    /// Tells whether a removal of this message is in flight.
    pub(super) fn is_leaving(&self, sequence: u64) -> bool {
        self.leaving.contains(sequence)
    }

    /// Returns the message whose rollups are the newest flights, if they are.
    pub(super) fn newest_storing_mut(&mut self) -> Option<&mut Storing> {
        self.flights.iter_mut().rev().find_map(|flight| match flight {
            Flight::Store(storing) | Flight::Rollup { stored: Some(storing), .. } => Some(storing),
            _ => None,
        })
    }

    pub(super) fn oldest_mut(&mut self) -> Option<&mut Flight> {
        self.flights.front_mut()
    }

    /// Begins anew behind `last`, with nothing in flight.
    pub(super) fn restart(&mut self, last: u64) {
        *self = Head::new(self.keys.clone(), last);
    }

    /// Notes what was proposed.
    pub(super) fn push(&mut self, flight: Flight) {
        let effect = flight.effect();
        self.last = self.last.max(effect.last);
        self.count(&effect, 1);
        for sequence in flight.leaving() {
            self.leaving.insert(*sequence);
        }
        if let Some(subjects) = &mut self.subjects {
            note(subjects, &flight);
        }
        self.flights.push_back(flight);
    }

    /// Returns the oldest flight, which was applied.
    pub(super) fn pop(&mut self) -> Option<Flight> {
        let flight = self.flights.pop_front()?;
        self.count(&flight.effect(), -1);
        for sequence in flight.leaving() {
            self.leaving.remove(*sequence);
        }
        if self.flights.is_empty() {
            self.subjects = None;
        } else if let Some(subjects) = &mut self.subjects
            && let Some(subject) = flight.subject()
            && let Some(pending) = subjects.get_mut(subject)
        {
            pending.messages -= u64::from(flight.stores());
            pending.rollups -= u64::from(flight.rolls_up());
            if pending.messages == 0 && pending.rollups == 0 {
                subjects.remove(subject);
            }
        }
        Some(flight)
    }

    /// Takes back the newest `count` flights, which won't be applied. `last` is the ledger's last sequence.
    pub(super) fn take_back(&mut self, count: usize, last: u64) -> Vec<Flight> {
        let keep = self.flights.len().saturating_sub(count);
        let taken: Vec<Flight> = self.flights.split_off(keep).into();
        taken.iter().for_each(|flight| self.count(&flight.effect(), -1));
        self.leaving = SequenceSet::default();
        for sequence in self.flights.iter().flat_map(Flight::leaving) {
            self.leaving.insert(*sequence);
        }
        self.subjects = None;
        self.last = self.flights.iter().map(|flight| flight.effect().last).fold(last, u64::max);
        taken
    }

    fn count(&mut self, effect: &Effect, sign: isize) {
        let apply =
            |value: &mut usize, flag: bool| *value = value.wrapping_add_signed(sign * isize::from(flag));
        apply(&mut self.removals, effect.removes);
        apply(&mut self.broad, effect.broad);
        apply(&mut self.replacing, effect.replaces);
        let sign = sign as i64;
        self.added.messages = self.added.messages.wrapping_add_signed(sign * effect.messages as i64);
        self.added.bytes = self.added.bytes.wrapping_add_signed(sign * effect.bytes as i64);
    }

    /// Returns how many messages there are at the head, at most.
    pub(super) fn messages(&self, ledger: &Ledger) -> u64 {
        ledger.messages() + self.added.messages
    }

    /// Returns how many bytes there are at the head, at most.
    pub(super) fn bytes(&self, ledger: &Ledger) -> u64 {
        ledger.bytes() + self.added.bytes
    }

    /// Returns the bytes that what is in flight adds, at most.
    pub(super) fn added_bytes(&self) -> u64 {
        self.added.bytes
    }

    /// Tells whether the count of messages is exact.
    pub(super) fn knows_messages(&self) -> bool {
        self.removals == 0
    }

    /// Tells whether the count of bytes is exact.
    pub(super) fn knows_bytes(&self) -> bool {
        self.removals == 0 && self.replacing == 0
    }

    /// Returns how many messages a subject has at the head. `settings` say what a stored message pushes out.
    pub(super) fn count_of(
        &mut self,
        subject: &[u8],
        ledger: &Ledger,
        settings: &StoreConfig,
    ) -> SubjectCount {
        let stored = ledger.total(Filter::Subject(subject));
        if self.flights.is_empty() {
            return SubjectCount { at_most: stored, exact: true };
        }
        let exact = self.broad == 0 && self.leaving.is_empty();
        let most = match settings.max_messages_per_subject {
            0 => u64::MAX,
            most => most,
        };
        let pending = self.subjects().get(subject).copied().unwrap_or_default();
        let all = if pending.rollups > 0 { pending.since_rollup } else { stored + pending.messages };
        SubjectCount { at_most: all.min(most), exact }
    }

    /// Tells whether anything is in flight for a subject.
    pub(super) fn has_pending(&mut self, subject: &[u8]) -> bool {
        !self.flights.is_empty() && self.subjects().contains_key(subject)
    }

    /// Returns the last sequence of what `filter` matches, a subject with or without wildcards: zero if there is none.
    ///
    /// # Errors
    ///
    /// [`Missing`](crate::storage::Missing) if the ledger has to load an index for the answer.
    pub(super) fn last_of(
        &mut self,
        filter: &[u8],
        ledger: &mut Ledger,
        settings: &Settings,
    ) -> Lookup<Known<u64>> {
        let pending = if self.flights.is_empty() { 0 } else { self.last_pending(filter) };
        let stored = match pending {
            0 if has_wildcard(filter) => ledger.previous(Filter::Subject(filter), u64::MAX - 1)?,
            0 => ledger.last_of_subject(filter)?,
            _ => None,
        };
        let last = stored.unwrap_or(pending);
        if self.flights.is_empty() || last == 0 {
            return Ok(Known::Exactly(last));
        }
        if self.broad > 0 || self.leaving.contains(last) || self.is_emptied(filter) {
            return Ok(Known::Later);
        }
        Ok(if self.survives(last, ledger, settings)? { Known::Exactly(last) } else { Known::Later })
    }

    /// Tells whether a message is still there at the head, for all that its limits push out on the way.
    fn survives(&self, sequence: u64, ledger: &mut Ledger, settings: &Settings) -> Lookup<bool> {
        let StoreConfig { max_messages, max_bytes, .. } = settings.store;
        if !settings.evicts() {
            return Ok(true);
        }
        let over = max_bytes > 0 && self.bytes(ledger) > max_bytes;
        if over && ledger.bytes_from(sequence) + self.added.bytes > max_bytes {
            return Ok(false);
        }
        if max_messages == 0 || self.messages(ledger) <= max_messages {
            return Ok(true);
        }
        let (behind, _) = ledger.pending(Filter::All, sequence, false)?;
        Ok(behind + self.added.messages <= max_messages)
    }

    /// Tells whether a subject that `filter` matches is emptied by what is in flight, and nothing comes behind that.
    fn is_emptied(&mut self, filter: &[u8]) -> bool {
        let emptied = |pending: &Pending| pending.rollups > 0 && pending.since_rollup == 0;
        let subjects = self.subjects();
        if !has_wildcard(filter) {
            return subjects.get(filter).is_some_and(emptied);
        }
        subjects.iter().any(|(subject, pending)| emptied(pending) && matches_literal(subject, filter))
    }

    fn last_pending(&mut self, filter: &[u8]) -> u64 {
        let subjects = self.subjects();
        // Of a message that is stored, and whose rollup is still in flight, the ledger knows.
        let last = |pending: &Pending| if pending.messages > 0 { pending.last } else { 0 };
        if !has_wildcard(filter) {
            return subjects.get(filter).map_or(0, last);
        }
        // In whatever order: the highest is the highest.
        let matching = subjects.iter().filter(|(subject, _)| matches_literal(subject, filter));
        matching.map(|(_, pending)| last(pending)).max().unwrap_or(0)
    }

    fn subjects(&mut self) -> &HashMap<Bytes, Pending> {
        let flights = &self.flights;
        let keys = &self.keys;
        self.subjects.get_or_insert_with(|| {
            let mut subjects = HashMap::with_hasher(keys.clone());
            flights.iter().for_each(|flight| note(&mut subjects, flight));
            subjects
        })
    }
}

/// Notes a flight behind those that are noted.
fn note(subjects: &mut HashMap<Bytes, Pending>, flight: &Flight) {
    let Some(subject) = flight.subject() else { return };
    let pending = subjects.entry(subject.clone()).or_default();
    if flight.stores() {
        pending.messages += 1;
        pending.since_rollup += 1;
        pending.last = flight.effect().last;
    }
    if flight.rolls_up() {
        pending.rollups += 1;
        pending.since_rollup = flight.keeps();
    }
}
