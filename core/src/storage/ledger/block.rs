//! The index of sequences that are stored together: where each message is, in 20 bytes.
//!
//! Invariants:
//! - slots are in the order of their sequences, which `runs` give; a gap begins a new run;
//! - a removed slot keeps its subject and time, so that what was sorted by them stays sorted, until the index is packed;
//! - `order` has the slots below `ordered` that lived when it was made, by subject and then by sequence.

use super::subjects::SubjectId;
use crate::collections::SequenceSet;
use crate::time::WallTime;

/// The size of a slot whose message was removed.
const REMOVED: u32 = u32::MAX;
/// Fewer slots than this are not packed.
const SMALL: usize = 64;

/// What is known of one message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) offset: u32,
    pub(super) size: u32,
    pub(super) subject: SubjectId,
    /// The time in two halves, so that a slot is 20 bytes.
    time: [u32; 2],
}

impl Slot {
    /// The most bytes that a message may count for.
    pub(super) const MOST_BYTES: u64 = REMOVED as u64 - 1;

    pub(super) fn new(offset: u32, size: u32, subject: SubjectId, time: WallTime) -> Self {
        let time = time.as_unix_nanos() as u64;
        Slot { offset, size, subject, time: [time as u32, (time >> 32) as u32] }
    }

    pub(super) fn lives(&self) -> bool {
        self.size != REMOVED
    }

    pub(super) fn time(&self) -> WallTime {
        WallTime::from_unix_nanos((u64::from(self.time[1]) << 32 | u64::from(self.time[0])) as i64)
    }
}

/// Sequences without gaps.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    /// The place of its first slot.
    start: u32,
}

/// The slots of a block, and, once somebody looked for a subject in it, their order by subject.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockIndex {
    runs: Vec<Run>,
    slots: Vec<Slot>,
    living: usize,
    order: Vec<u32>,
    ordered: usize,
    /// How many slots in `order` were removed since.
    removed: usize,
}

impl BlockIndex {
    pub(super) fn living(&self) -> usize {
        self.living
    }

    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
            + self.runs.capacity() * size_of::<Run>()
            + self.order.capacity() * size_of::<u32>()
    }

    /// Returns the messages, each with its sequence, in order.
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, &Slot)> + '_ {
        let sequence = |(at, slot)| (self.sequence(at), slot);
        self.slots.iter().enumerate().filter(|(_, slot)| slot.lives()).map(sequence)
    }

    /// Returns the message `sequence`.
    pub(super) fn get(&self, sequence: u64) -> Option<&Slot> {
        self.find(sequence).map(|at| &self.slots[at]).filter(|slot| slot.lives())
    }

    /// Puts a message behind all others.
    pub(super) fn push(&mut self, sequence: u64, slot: Slot) {
        let start = self.slots.len() as u32;
        let goes_on =
            self.runs.last().is_some_and(|run| run.first + u64::from(start - run.start) == sequence);
        if !goes_on {
            self.runs.push(Run { first: sequence, start });
        }
        self.slots.push(slot);
        self.living += 1;
    }

    /// Removes the message `sequence`.
    pub(super) fn take(&mut self, sequence: u64) -> Option<Slot> {
        let at = self.find(sequence)?;
        let slot = self.slots[at];
        if !slot.lives() {
            return None;
        }
        self.slots[at].size = REMOVED;
        self.living -= 1;
        self.removed += usize::from(at < self.ordered);
        // A few messages may live long among many that don't: keep what it takes to find them, and no more.
        if self.slots.len() >= SMALL && self.living * 4 < self.slots.len() {
            self.pack();
        }
        Some(slot)
    }

    /// Forgets that there was anything behind `sequence`; no message may be.
    pub(super) fn cut(&mut self, sequence: u64) {
        let len = self.lower(sequence.saturating_add(1));
        self.slots.truncate(len);
        self.runs.retain(|run| (run.start as usize) < len);
        (self.order, self.ordered, self.removed) = (Vec::new(), 0, 0);
    }

    /// Gives back the room that it kept to grow.
    pub(super) fn close(&mut self) {
        self.slots.shrink_to_fit();
        self.runs.shrink_to_fit();
    }

    /// Returns the first message at or behind `from`.
    pub(super) fn next(&self, from: u64) -> Option<(u64, &Slot)> {
        let begin = self.lower(from);
        let found = self.slots[begin..].iter().position(Slot::lives)? + begin;
        Some((self.sequence(found), &self.slots[found]))
    }

    /// Returns the last message at or before `from`.
    pub(super) fn previous(&self, from: u64) -> Option<(u64, &Slot)> {
        let end = self.lower(from.saturating_add(1));
        let found = self.slots[..end].iter().rposition(Slot::lives)?;
        Some((self.sequence(found), &self.slots[found]))
    }

    /// Returns the first message at or behind `from` whose subject is `wanted`.
    pub(super) fn next_where(&self, from: u64, wanted: impl Fn(SubjectId) -> bool) -> Option<u64> {
        let begin = self.lower(from);
        let hit = |slot: &Slot| slot.lives() && wanted(slot.subject);
        self.slots[begin..].iter().position(hit).map(|at| self.sequence(begin + at))
    }

    /// Returns how many messages from `from` on and below `end` have a subject that is `wanted`.
    pub(super) fn count_where(&self, from: u64, end: u64, wanted: impl Fn(SubjectId) -> bool) -> u64 {
        let (begin, end) = (self.lower(from), self.lower(end));
        if begin >= end {
            return 0;
        }
        self.slots[begin..end].iter().filter(|slot| slot.lives() && wanted(slot.subject)).count() as u64
    }

    /// Returns the sequence of the first slot, removed or not, that isn't older than `time`; slots are by time.
    pub(super) fn since(&self, time: WallTime) -> Option<u64> {
        let at = self.slots.partition_point(|slot| slot.time() < time);
        (at < self.slots.len()).then(|| self.sequence(at))
    }

    /// Returns the first message of a subject at or behind `from`.
    pub(super) fn next_of(&mut self, subject: SubjectId, from: u64) -> Option<u64> {
        self.sort();
        let lower = self.lower(from);
        let begin = self.in_order(subject, lower);
        let sorted = self.order[begin..].iter().map(|at| *at as usize);
        let mut sorted = sorted.take_while(|at| self.slots[*at].subject == subject);
        let mut unsorted = self.ordered.max(lower)..self.slots.len();
        let lives = |at: &usize| self.slots[*at].lives();
        let found = sorted
            .find(lives)
            .or_else(|| unsorted.find(|at| lives(at) && self.slots[*at].subject == subject))?;
        Some(self.sequence(found))
    }

    /// Returns the last message of a subject at or before `from`.
    pub(super) fn previous_of(&mut self, subject: SubjectId, from: u64) -> Option<u64> {
        self.sort();
        let end = self.lower(from.saturating_add(1));
        let behind = self.in_order(subject, end);
        let mut unsorted = (self.ordered..end.max(self.ordered)).rev();
        let lives = |at: &usize| self.slots[*at].lives();
        let sorted = self.order[..behind].iter().rev().map(|at| *at as usize);
        let mut sorted = sorted.take_while(|at| self.slots[*at].subject == subject);
        let found = unsorted
            .find(|at| lives(at) && self.slots[*at].subject == subject)
            .or_else(|| sorted.find(lives))?;
        Some(self.sequence(found))
    }

    /// Returns how many messages of a subject are from `from` on and below `end`.
    pub(super) fn count_of(&mut self, subject: SubjectId, from: u64, end: u64) -> u64 {
        self.sort();
        let (lower, upper) = (self.lower(from), self.lower(end));
        if lower >= upper {
            return 0;
        }
        let sorted = &self.order[self.in_order(subject, lower)..self.in_order(subject, upper)];
        let sorted = match self.removed {
            0 => sorted.len(),
            _ => sorted.iter().filter(|at| self.slots[**at as usize].lives()).count(),
        };
        let unsorted = &self.slots[self.ordered.max(lower).min(upper)..upper];
        (sorted + unsorted.iter().filter(|slot| slot.lives() && slot.subject == subject).count()) as u64
    }

    /// Returns where in `order` the slots of `subject` from the place `at` on begin.
    fn in_order(&self, subject: SubjectId, at: usize) -> usize {
        self.order
            .partition_point(|slot| (self.slots[*slot as usize].subject, *slot as usize) < (subject, at))
    }

    /// Brings `order` up to date, as far as it takes to look at few slots that aren't in it. What is sorted already is one
    /// run to the sort, so that this merges.
    fn sort(&mut self) {
        let unsorted = self.slots.len() - self.ordered;
        let stale = self.removed * 8 > self.order.len();
        if !stale && unsorted * unsorted <= self.slots.len().max(SMALL * SMALL) {
            return;
        }
        let (slots, order) = (&self.slots, &mut self.order);
        order.retain(|at| slots[*at as usize].lives());
        order.extend((self.ordered..slots.len()).filter(|at| slots[*at].lives()).map(|at| at as u32));
        order.sort_by_key(|at| (slots[*at as usize].subject, *at));
        (self.ordered, self.removed) = (self.slots.len(), 0);
    }

    /// Drops the slots that were removed.
    fn pack(&mut self) {
        let mut packed = BlockIndex::default();
        self.iter().for_each(|(sequence, slot)| packed.push(sequence, *slot));
        *self = packed;
    }

    fn sequence(&self, at: usize) -> u64 {
        let run = self.runs[self.runs.partition_point(|run| run.start as usize <= at) - 1];
        run.first + (at - run.start as usize) as u64
    }

    fn find(&self, sequence: u64) -> Option<usize> {
        let at = self.lower(sequence);
        (at < self.slots.len() && self.sequence(at) == sequence).then_some(at)
    }

    /// Returns the place of the first slot at or behind `sequence`.
    fn lower(&self, sequence: u64) -> usize {
        let behind = self.runs.partition_point(|run| run.first <= sequence);
        let Some(run) = behind.checked_sub(1).map(|at| self.runs[at]) else { return 0 };
        let end = self.runs.get(behind).map_or(self.slots.len(), |next| next.start as usize);
        usize::try_from(sequence - run.first).map_or(end, |at| end.min(at.saturating_add(run.start as usize)))
    }
}

/// A block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub(super) number: u32,
    /// No message in it is before this sequence.
    pub(super) first: u64,
    /// All messages in it are before this sequence.
    pub(super) end: u64,
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// No message in it is newer.
    pub(super) newest: WallTime,
    /// What was removed of it: its file still has these, and its index when it is loaded again.
    pub(super) removed: SequenceSet,
    /// `None` while it is not in memory.
    pub(super) index: Option<BlockIndex>,
}

impl Block {
    pub(super) fn new(number: u32, first: u64) -> Self {
        let newest = WallTime::from_unix_nanos(i64::MIN);
        let index = Some(BlockIndex::default());
        let removed = SequenceSet::default();
        Block { number, first, end: first, messages: 0, bytes: 0, newest, removed, index }
    }

    /// Returns what is to be known of it when it is forgotten.
    pub(super) fn emptied(&self) -> super::Emptied {
        super::Emptied { number: self.number, first: self.first, end: self.end }
    }

    /// Tells whether every sequence in it is a message.
    pub(super) fn is_full(&self) -> bool {
        self.messages == self.end - self.first
    }
}
