//! What is written down of a consumer, when, and what waits for it.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use super::progress::Progress;
use super::{Consumer, Event};
use crate::jetstream::context::{Context, Interest, Outgoing};
use crate::planted::{Bug, bug};
use crate::storage::Position;
use crate::storage::consumer::ConsumerEntry;
use crate::time::{Duration, Instant};

/// How long a change that nobody waits for stays unwritten.
pub const FLUSH_INTERVAL: Duration = Duration::from_millis(100);

/// How long nothing is proposed after a proposal was refused.
const RETRY: Duration = Duration::from_millis(250);

/// What waits for an entry.
#[derive(Clone, Debug, Default)]
struct Waiters {
    /// Where it is answered that an acknowledgement is durable.
    answers: Vec<Bytes>,
    /// What the stream may remove then.
    acknowledged: Vec<u64>,
    /// Whether somebody waits to hear where the consumer starts.
    start: bool,
}

impl Waiters {
    fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.acknowledged.is_empty() && !self.start
    }

    /// Adds those who wait for a later entry too.
    fn extend(&mut self, later: Waiters) {
        self.answers.extend(later.answers);
        self.acknowledged.extend(later.acknowledged);
        self.start |= later.start;
    }
}

/// An entry that was handed out.
#[derive(Clone, Debug)]
struct Flight {
    /// Its position, once it is proposed.
    position: Option<Position>,
    waiters: Waiters,
}

/// The entries of a consumer.
#[derive(Clone, Debug)]
pub(super) struct Entries {
    /// Whether there are any.
    kept: bool,
    /// What waits for the next one.
    waiters: Waiters,
    flights: VecDeque<Flight>,
    /// What is acknowledged and the stream doesn't know yet.
    settling: BTreeSet<u64>,
    /// Whether it is not durable yet where the consumer starts.
    starting: bool,
    /// When the next one is due.
    due: Option<Instant>,
    /// Until when nothing is proposed, after a refusal.
    not_before: Instant,
}

impl Entries {
    pub(super) fn new(kept: bool) -> Self {
        let (waiters, flights, settling) = (Waiters::default(), VecDeque::new(), BTreeSet::new());
        let (starting, due) = (false, None);
        Entries { kept, waiters, flights, settling, starting, due, not_before: Instant::ZERO }
    }

    /// Answers to `reply` once what was changed so far is durable.
    pub(super) fn answer(&mut self, reply: Bytes) {
        self.waiters.answers.push(reply);
    }

    /// Tells the stream once it is durable that the message `sequence` is acknowledged.
    pub(super) fn acknowledged(&mut self, sequence: u64) {
        if self.settling.insert(sequence) {
            self.waiters.acknowledged.push(sequence);
        }
    }

    /// Tells whether a message is acknowledged, but not durably.
    pub(super) fn is_settling(&self, sequence: u64) -> bool {
        self.settling.contains(&sequence)
    }

    /// Notes that the consumer starts where no entry says: one is due now.
    pub(super) fn start(&mut self) {
        (self.starting, self.waiters.start) = (true, true);
    }

    /// Tells whether it is not durable yet where the consumer starts.
    pub(super) fn is_starting(&self) -> bool {
        self.starting
    }

    /// Returns when an entry is due.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Looks at what changed: says when the next entry is due, and tells those who wait where nothing has to be written.
    pub(super) fn settle(
        &mut self,
        progress: &mut Progress,
        now: Instant,
        out: &mut Vec<Outgoing>,
        events: &mut VecDeque<Event>,
    ) {
        if !self.kept {
            progress.take_delta();
        }
        if bug(Bug::ConsumerAnswersEarly) {
            let waiters = std::mem::take(&mut self.waiters);
            self.tell(waiters, out, events);
        }
        let waits = !self.waiters.is_empty();
        if progress.is_changed() {
            let due = if waits { now } else { now + FLUSH_INTERVAL };
            let due = due.max(self.not_before);
            self.due = Some(self.due.map_or(due, |old| old.min(due)));
            return;
        }
        self.due = None;
        if !waits {
            return;
        }
        // What they wait for is in an entry already.
        let waiters = std::mem::take(&mut self.waiters);
        match self.flights.back_mut() {
            None => self.tell(waiters, out, events),
            Some(flight) => flight.waiters.extend(waiters),
        }
    }

    fn tell(&mut self, waiters: Waiters, out: &mut Vec<Outgoing>, events: &mut VecDeque<Event>) {
        out.extend(waiters.answers.into_iter().map(|to| Outgoing { to, ..Outgoing::default() }));
        self.starting &= !waiters.start;
        for sequence in waiters.acknowledged {
            self.settling.remove(&sequence);
            events.push_back(Event::Acknowledged { sequence });
        }
    }
}

impl Consumer {
    /// Returns the entry that is due, if one is. It is proposed at once, and [`Consumer::proposed`] or
    /// [`Consumer::refused`] is called before anything else.
    pub fn poll_entry(&mut self, now: Instant) -> Option<ConsumerEntry> {
        self.entries.due.filter(|due| *due <= now)?;
        self.entries.due = None;
        let entry = match self.progress.has_to_say_everything() {
            true => {
                self.progress.take_delta()?;
                ConsumerEntry::Replace(self.progress.state())
            }
            false => ConsumerEntry::Delta(Box::new(self.progress.take_delta()?)),
        };
        let waiters = std::mem::take(&mut self.entries.waiters);
        self.entries.flights.push_back(Flight { position: None, waiters });
        Some(entry)
    }

    /// Notes the position of the entry that was handed out last.
    pub fn proposed(&mut self, position: Position) {
        if let Some(flight) = self.entries.flights.back_mut() {
            flight.position = Some(position);
        }
    }

    /// Notes that the entry that was handed out last can't be proposed now. One that says everything is due in a while.
    pub fn refused(&mut self, now: Instant) {
        if let Some(Flight { mut waiters, .. }) = self.entries.flights.pop_back() {
            waiters.extend(std::mem::take(&mut self.entries.waiters));
            self.entries.waiters = waiters;
        }
        self.progress.say_everything();
        self.entries.not_before = now + RETRY;
        self.entries.due = Some(self.entries.not_before);
    }

    /// Notes that its entries through this position are durable and applied: those who waited for it are told.
    pub fn committed(&mut self, through: Position, ctx: &mut Context<'_, impl Interest>) {
        let durable = |flight: &mut Flight| flight.position.is_some_and(|position| position <= through);
        while let Some(flight) = self.entries.flights.pop_front_if(durable) {
            self.entries.tell(flight.waiters, ctx.out, &mut self.events);
        }
        self.finish(ctx);
    }
}
