//! How far a consumer is: what was delivered, what of it is acknowledged, what waits to be delivered again.
//!
//! This is the working state, which runs ahead of the journal. [`Changes`] remembers what no entry says yet.
//!
//! # Invariants
//!
//! - `ack_floor <= delivered`, in both kinds of sequence; what is pending lies between the two.
//! - The floor is below every pending message: it moves when the lowest one is settled, or when an acknowledgement of all
//!   settles everything below. What was delivered as often as it may be doesn't move it, but the next acknowledgement may pass it.
//! - What waits to be delivered again is pending. A pending message waits, or has a deadline, or (without ack wait) neither.
//! - [`Progress::state`] is what the entries lead to, once [`Progress::take_delta`] has nothing more to say.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::planted::{Bug, bug};
use crate::storage::consumer::{ConsumerState, Delta, Pending, SequencePair};
use crate::time::{Instant, WallTime};

/// A message that was delivered and is not acknowledged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    /// The consumer's sequence of its first delivery.
    pub(super) sequence: u64,
    /// When the wait for its acknowledgement began.
    pub(super) time: WallTime,
    /// When that wait ends; [`Instant::MAX`] for never, and while it waits to be delivered again.
    deadline: Instant,
    /// Its place among those that wait to be delivered again; zero if it doesn't.
    ticket: u64,
    /// Whether an entry has it.
    known: bool,
    /// Whether it is in [`Changes::touched`].
    dirty: bool,
}

impl Record {
    fn new(sequence: u64, time: WallTime) -> Self {
        let deadline = Instant::MAX;
        Record { sequence, time, deadline, ticket: 0, known: false, dirty: false }
    }
}

/// What no entry says yet.
#[derive(Clone, Debug, Default)]
struct Changes {
    /// Whether anything changed.
    any: bool,
    /// What became pending or has another time; some of it may be settled since.
    touched: Vec<u64>,
    /// What entries have as pending and was settled.
    settled: Vec<u64>,
    /// Whose count of deliveries changed.
    counts: BTreeSet<u64>,
    /// Whether the next entry has to say everything.
    all: bool,
}

/// How far a consumer is.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    delivered: SequencePair,
    ack_floor: SequencePair,
    last_only_through: u64,
    pending: BTreeMap<u64, Record>,
    redelivered: BTreeMap<u64, u64>,
    /// What waits to be delivered again, in its order.
    queue: BTreeMap<u64, u64>,
    next_ticket: u64,
    /// Deadlines; one that isn't its message's any more means nothing.
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    changes: Changes,
    /// The last delivery that the entry before has.
    written: u64,
}

impl Progress {
    /// Takes up what entries led to. Deadlines are [`Progress::touch`]'s to set.
    pub(super) fn recover(state: &ConsumerState) -> Self {
        let pending = state.pending.iter().map(|(stream, pending)| {
            let Pending { sequence, time } = *pending;
            (*stream, Record { known: true, ..Record::new(sequence, time) })
        });
        Progress {
            delivered: state.delivered,
            ack_floor: state.ack_floor,
            last_only_through: state.last_only_through,
            pending: pending.collect(),
            redelivered: state.redelivered.clone(),
            written: state.delivered.consumer,
            ..Progress::default()
        }
    }

    /// Starts behind the message `stream`, whatever was before. The next entry says everything.
    pub(super) fn restart_after(&mut self, stream: u64) {
        let at = SequencePair { consumer: 0, stream };
        let next_ticket = self.next_ticket;
        *self = Progress { delivered: at, ack_floor: at, next_ticket, ..Progress::default() };
        self.say_everything();
    }

    /// Makes the next entry say everything.
    pub(super) fn say_everything(&mut self) {
        self.changes = Changes { any: true, all: true, ..Changes::default() };
        for record in self.pending.values_mut() {
            (record.known, record.dirty) = (true, false);
        }
    }

    pub(super) fn delivered(&self) -> SequencePair {
        self.delivered
    }

    pub(super) fn ack_floor(&self) -> SequencePair {
        self.ack_floor
    }

    /// Says up to where only the last message of each subject is delivered.
    pub(super) fn set_last_only_through(&mut self, stream: u64) {
        self.changes.any |= self.last_only_through != stream;
        self.last_only_through = stream;
    }

    pub(super) fn pending(&self) -> &BTreeMap<u64, Record> {
        &self.pending
    }

    pub(super) fn redelivered(&self) -> &BTreeMap<u64, u64> {
        &self.redelivered
    }

    /// Returns how often a message was delivered again.
    pub(super) fn count(&self, stream: u64) -> u64 {
        self.redelivered.get(&stream).copied().unwrap_or(0)
    }

    /// Returns how often a pending message was delivered.
    pub(super) fn deliveries(&self, stream: u64) -> u64 {
        self.count(stream) + 1
    }

    /// Notes a delivery, and returns its sequence. It is pending if it has to be acknowledged.
    pub(super) fn deliver(&mut self, stream: u64, again: bool, time: WallTime, acknowledged: bool) -> u64 {
        self.delivered.consumer += 1;
        self.delivered.stream = self.delivered.stream.max(stream);
        self.changes.any = true;
        if again {
            *self.redelivered.entry(stream).or_default() += 1;
            self.changes.counts.insert(stream);
        }
        if acknowledged {
            let sequence = self.delivered.consumer;
            self.pending.entry(stream).or_insert(Record::new(sequence, time));
        } else {
            self.ack_floor = self.delivered;
        }
        self.delivered.consumer
    }

    /// Lets the wait for an acknowledgement begin at `time` and end at `deadline`.
    pub(super) fn touch(&mut self, stream: u64, time: WallTime, deadline: Instant) {
        let Some(record) = self.pending.get_mut(&stream) else { return };
        if record.time != time || !record.known {
            record.time = time;
            self.changes.any = true;
            if !record.dirty {
                record.dirty = true;
                self.changes.touched.push(stream);
            }
        }
        self.set_deadline(stream, deadline);
        if self.changes.touched.len() > 2 * self.pending.len() + 1024 {
            let pending = &self.pending;
            let mut touched = std::mem::take(&mut self.changes.touched);
            touched.retain(|stream| pending.get(stream).is_some_and(|record| record.dirty));
            touched.sort_unstable();
            touched.dedup();
            self.changes.touched = touched;
        }
    }

    /// Lets the wait for an acknowledgement end at `deadline`; the message doesn't wait to be delivered again any more.
    pub(super) fn set_deadline(&mut self, stream: u64, deadline: Instant) {
        let Some(record) = self.pending.get_mut(&stream) else { return };
        if record.ticket != 0 {
            self.queue.remove(&record.ticket);
            record.ticket = 0;
        }
        record.deadline = deadline;
        if deadline == Instant::MAX {
            return;
        }
        self.deadlines.push(Reverse((deadline, stream)));
        if self.deadlines.len() > 2 * self.pending.len() + 1024 {
            let live = self.pending.iter().filter(|(_, record)| record.deadline != Instant::MAX);
            self.deadlines = live.map(|(stream, record)| Reverse((record.deadline, *stream))).collect();
        }
    }

    /// Lets a pending message wait to be delivered again, behind those that do.
    pub(super) fn queue(&mut self, stream: u64) {
        let Some(record) = self.pending.get_mut(&stream) else { return };
        record.deadline = Instant::MAX;
        if record.ticket == 0 {
            self.next_ticket += 1;
            record.ticket = self.next_ticket;
            self.queue.insert(record.ticket, stream);
        }
    }

    /// Returns the message that is to be delivered again next.
    pub(super) fn queued(&self) -> Option<u64> {
        self.queue.first_key_value().map(|(_, stream)| *stream)
    }

    /// Returns how many messages wait to be delivered again.
    pub(super) fn queue_len(&self) -> usize {
        self.queue.len()
    }

    /// Notes that a pending message needs nothing more, and moves the floor. Its count of deliveries stays.
    pub(super) fn settle(&mut self, stream: u64) -> Option<Record> {
        let record = self.remove(stream)?;
        match self.pending.first_key_value() {
            None => self.ack_floor = self.delivered,
            // It was the lowest one: everything below the next is settled too.
            Some((next, first)) if *next > stream => {
                self.ack_floor.consumer = self.ack_floor.consumer.max(first.sequence - 1);
                self.ack_floor.stream = self.ack_floor.stream.max(next - 1);
            }
            Some(_) if bug(Bug::ConsumerFloorPassesPending) => self.ack_floor = self.delivered,
            Some(_) => {}
        }
        Some(record)
    }

    /// Notes that a message was delivered as often as it may be, `count` times: it isn't pending any more. Nobody acknowledged
    /// it, so the floor stays; until it is acknowledged or gone it is delivered again and not pending, as nothing else is.
    pub(super) fn exhaust(&mut self, stream: u64, count: u64) {
        if self.remove(stream).is_some() {
            self.set_count(stream, count);
        }
    }

    /// Returns the lowest message from `from` on that was delivered and is not acknowledged.
    pub(super) fn next_open(&self, from: u64) -> Option<u64> {
        let pending = self.pending.range(from..).next().map(|(stream, _)| *stream);
        let again = self.redelivered.range(from..).next().map(|(stream, _)| *stream);
        pending.into_iter().chain(again).min()
    }

    /// Notes that `at` was acknowledged for all before it; returns what was pending of it, in order.
    pub(super) fn settle_through(&mut self, at: SequencePair) -> Vec<u64> {
        let settled = self.remove_through(at.stream);
        // What the acknowledgement says may be a later delivery's, or forged: the floor stays below what is pending.
        match self.pending.first_key_value() {
            None => self.raise_floor(self.delivered),
            Some((_, first)) => {
                let consumer = at.consumer.min(first.sequence - 1);
                self.raise_floor(SequencePair { consumer, stream: at.stream });
            }
        }
        settled
    }

    /// Skips everything up to the message `stream`, which is gone; returns what was pending of it.
    pub(super) fn skip_through(&mut self, stream: u64) -> Vec<u64> {
        let below = |(_, record): (&u64, &Record)| record.sequence;
        let highest = self.pending.range(..=stream).map(below).max().unwrap_or(0);
        let gone = self.remove_through(stream);
        self.changes.any = true;
        self.delivered.stream = self.delivered.stream.max(stream);
        match self.pending.is_empty() {
            true => self.ack_floor = self.delivered,
            false => self.raise_floor(SequencePair { consumer: highest, stream }),
        }
        gone
    }

    /// Forgets all about the messages up to `stream`; returns what was pending of them, in order. The floor is the caller's.
    fn remove_through(&mut self, stream: u64) -> Vec<u64> {
        let pending: Vec<u64> = self.pending.range(..=stream).map(|(stream, _)| *stream).collect();
        for stream in &pending {
            self.remove(*stream);
        }
        let again: Vec<u64> = self.redelivered.range(..=stream).map(|(stream, _)| *stream).collect();
        for stream in again {
            self.forget(stream);
        }
        pending
    }

    /// Forgets how often a message was delivered; returns whether it was delivered again.
    pub(super) fn forget(&mut self, stream: u64) -> bool {
        let again = self.redelivered.remove(&stream).is_some();
        if again {
            self.changes.any = true;
            self.changes.counts.insert(stream);
        }
        again
    }

    /// Says how often a message was delivered again.
    fn set_count(&mut self, stream: u64, count: u64) {
        if self.redelivered.insert(stream, count) != Some(count) {
            self.changes.any = true;
            self.changes.counts.insert(stream);
        }
    }

    /// Returns when the first wait for an acknowledgement ends.
    pub(super) fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(Reverse((deadline, stream))) = self.deadlines.peek() {
            if self.pending.get(stream).is_some_and(|record| record.deadline == *deadline) {
                return Some(*deadline);
            }
            self.deadlines.pop();
        }
        None
    }

    /// Returns a message whose wait for an acknowledgement has ended, if there is one. It has no deadline any more.
    pub(super) fn expire(&mut self, now: Instant) -> Option<u64> {
        self.next_deadline().filter(|deadline| *deadline <= now)?;
        let Reverse((_, stream)) = self.deadlines.pop()?;
        self.pending.get_mut(&stream)?.deadline = Instant::MAX;
        Some(stream)
    }

    /// Returns what doesn't wait to be delivered again, with the time that its wait for an acknowledgement began.
    pub(super) fn waiting_for_ack(&self) -> impl Iterator<Item = (u64, WallTime)> + '_ {
        let waiting = self.pending.iter().filter(|(_, record)| record.ticket == 0);
        waiting.map(|(stream, record)| (*stream, record.time))
    }

    /// Returns the highest deadline.
    pub(super) fn last_deadline(&self) -> Option<Instant> {
        self.pending.values().map(|record| record.deadline).filter(|deadline| *deadline < Instant::MAX).max()
    }

    /// Tells whether an entry is due for what changed.
    pub(super) fn is_changed(&self) -> bool {
        self.changes.any
    }

    /// Tells whether the next entry has to say everything.
    pub(super) fn has_to_say_everything(&self) -> bool {
        self.changes.all
    }

    /// Returns what changed since the last call; `None` if nothing did.
    pub(super) fn take_delta(&mut self) -> Option<Delta> {
        if !std::mem::take(&mut self.changes.any) {
            return None;
        }
        let Changes { mut touched, mut settled, counts, .. } = std::mem::take(&mut self.changes);
        let mut delta = Delta {
            delivered: self.delivered,
            ack_floor: self.ack_floor,
            last_only_through: self.last_only_through,
            after: Some(std::mem::replace(&mut self.written, self.delivered.consumer)),
            ..Delta::default()
        };
        touched.sort_unstable();
        for stream in touched {
            let Some(record) = self.pending.get_mut(&stream).filter(|record| record.dirty) else { continue };
            (record.known, record.dirty) = (true, false);
            if bug(Bug::ConsumerEntryLacksPending) {
                continue;
            }
            delta.pending.push((stream, Pending { sequence: record.sequence, time: record.time }));
        }
        // What is at or below the floor isn't pending: that needs no saying.
        settled.retain(|stream| *stream > self.ack_floor.stream);
        settled.sort_unstable();
        settled.dedup();
        if !bug(Bug::ConsumerEntryLacksSettled) {
            delta.settled = settled;
        }
        for stream in counts {
            if bug(Bug::ConsumerEntryLacksCounts) {
                continue;
            }
            match self.redelivered.get(&stream) {
                Some(count) => delta.redelivered.push((stream, *count)),
                None => delta.forgotten.push(stream),
            }
        }
        Some(delta)
    }

    /// Returns the state, as entries lead to it.
    pub(super) fn state(&self) -> ConsumerState {
        let pending = self.pending.iter();
        ConsumerState {
            delivered: self.delivered,
            ack_floor: self.ack_floor,
            pending: pending
                .map(|(stream, Record { sequence, time, .. })| {
                    (*stream, Pending { sequence: *sequence, time: *time })
                })
                .collect(),
            redelivered: self.redelivered.clone(),
            last_only_through: self.last_only_through,
        }
    }

    fn raise_floor(&mut self, to: SequencePair) {
        self.changes.any = true;
        self.ack_floor.consumer = self.ack_floor.consumer.max(to.consumer);
        self.ack_floor.stream = self.ack_floor.stream.max(to.stream);
    }

    /// Takes a message from what is pending; the floor is the caller's.
    fn remove(&mut self, stream: u64) -> Option<Record> {
        let record = self.pending.remove(&stream)?;
        self.changes.any = true;
        self.queue.remove(&record.ticket);
        if record.known {
            self.changes.settled.push(stream);
        }
        Some(record)
    }
}
