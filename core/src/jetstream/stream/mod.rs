//! One stream: what may be stored in it, what goes, who has what, and what it answers. It stores nothing itself.
//!
//! ```text
//! settings     what of a stream's settings counts here, worked out once
//! conditions   what the headers of a message ask
//! publish      may this message be stored, and as what
//! head         what the stream will be when all that was proposed is applied
//! flight       what was proposed
//! dedup        message ids within their window
//! answer       acknowledgements, errors, what is published again
//! requests     removing, purging, other settings
//! expiry       what is due to go, and the markers it leaves
//! retention    which messages every consumer has
//! schedule     messages that are due to be published
//! get          which message is meant
//! direct       messages sent as they are to who asked
//! info         what a stream says of itself
//! recovery     what is learnt from the messages after a start
//! ```
//!
//! A change is *proposed* ([`Stream::poll_change`]), made durable and applied by its store, and answered only then
//! ([`Stream::applied`]). Many are on their way at once, so everything is decided for the stream as it will be behind
//! them. Nothing that a stream knows has to be stored for it but its messages: last sequences are the store's, message ids
//! are read from the messages of the window, who has what is the consumers' to tell.
//!
//! # Invariants
//!
//! - Changes are applied in the order in which they were proposed; messages and requests are decided in the order in which
//!   they came: one that has to wait holds up those behind it.
//! - A message gets the sequence that was foreseen for it. A change that was let in is not refused when it is applied.
//! - Nothing is acknowledged before it is applied, and what can't be applied is answered with an error.

mod answer;
mod conditions;
mod dedup;
mod direct;
mod expiry;
mod flight;
mod get;
mod head;
mod info;
mod publish;
mod recovery;
mod requests;
mod retention;
mod schedule;
mod settings;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
pub(super) use conditions::time_to_live;
pub use direct::{DirectGet, Progress};
pub use flight::Ticket;
pub use get::{Start, Which, get};
pub use info::info;
pub use publish::Incoming;
pub use requests::Request;
pub use retention::Wanting;
pub(super) use schedule::scheduling_of;
pub use settings::Settings;

use super::api::error::{ApiError, ErrorKind};
use super::context::{Context, Messages, Outgoing};
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::storage::change::{Change, Outcome};
use crate::storage::journal::Refused;
use crate::storage::{OwnerId, Retention as Policy};
use crate::time::Instant;
use dedup::Dedup;
use expiry::{Look, instant_of};
use flight::{Flight, Storing};
use head::Head;
use publish::Stop;
use recovery::Recovering;
use retention::Retention;
use schedule::Schedules;

/// What a stream may still take up, as its account and its server have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Whether the server has no room left for any stream of this kind of storage.
    pub server_exceeded: bool,
    /// How many bytes the account may still store, of what is applied.
    pub account_left: u64,
}

/// How much may wait to be decided; beyond it publishers are told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inbound {
    /// How many messages.
    pub messages: usize,
    /// How many bytes.
    pub bytes: usize,
}

impl Default for Inbound {
    /// Source: nats-server `server/stream.go`, `streamDefaultMaxQueueMsgs` and `streamDefaultMaxQueueBytes`.
    fn default() -> Self {
        Inbound { messages: 10_000, bytes: 128 << 20 }
    }
}

/// What a stream tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message was stored: consumers may want it.
    Stored {
        /// Its sequence.
        sequence: u64,
        /// Its subject.
        subject: Bytes,
    },
    /// Messages were purged, by request or by a message that replaces them: consumers move on.
    Purged {
        /// Whose subject this matches, perhaps with wildcards; empty for all.
        subject: Bytes,
        /// How many.
        removed: u64,
    },
    /// A request is done, or is not going to be.
    Done {
        /// Which.
        ticket: Ticket,
        /// How many messages it removed, or what its answer says.
        result: Result<u64, ApiError>,
    },
}

/// The id of the last message.
#[derive(Debug)]
enum LastId {
    /// As the last message has it, which hasn't been read.
    Unknown,
    /// This; empty if it has none.
    Is(Vec<u8>),
}

/// What waits to be decided.
#[derive(Debug)]
enum Waiting {
    Publish(Incoming),
    Request(Ticket, Request),
}

/// A stream; see the module.
#[derive(Debug)]
pub struct Stream {
    settings: Box<Settings>,
    budget: Budget,
    inbound: Inbound,
    head: Head,
    /// The last sequence that is known to be applied.
    settled: u64,
    dedup: Dedup,
    recovering: Option<Recovering>,
    last_id: LastId,
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    changes: VecDeque<Change>,
    /// Whether the journal is busy: nothing more is decided before it has taken what was proposed.
    stalled: bool,
    /// Who sent again what is still in flight, by its sequence.
    duplicates: BTreeMap<u64, Vec<Bytes>>,
    look: Look,
    schedules: Schedules,
    dedup_due: Option<Instant>,
    retention: Retention,
    /// Whether some consumers aren't known yet, so that nobody can say who wants a message.
    held: bool,
    answers: answer::Answers,
    failed: Option<ApiError>,
    events: VecDeque<Event>,
}

/// How many things one call deals with.
const STEPS: usize = 256;

impl Stream {
    /// Makes the machine of a stream whose store has used sequences through `last`. [`Stream::advance`] is due at once.
    pub fn new(settings: Settings, last: u64, rng: &mut Rng) -> Self {
        Stream {
            recovering: Recovering::new(&settings, last),
            settings: Box::new(settings),
            budget: Budget { server_exceeded: false, account_left: u64::MAX },
            inbound: Inbound::default(),
            head: Head::new(rng.hash_keys(), last),
            settled: last,
            dedup: Dedup::new(rng.hash_keys()),
            last_id: LastId::Unknown,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            changes: VecDeque::new(),
            stalled: false,
            duplicates: BTreeMap::new(),
            look: Look::Now,
            schedules: Schedules::default(),
            dedup_due: None,
            retention: Retention::new(rng.hash_keys()),
            held: false,
            answers: answer::Answers::default(),
            failed: None,
            events: VecDeque::new(),
        }
    }

    /// Returns the settings at the head: those of a change that is on its way, if there is one.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Returns the last sequence of the head.
    pub fn last_sequence(&self) -> u64 {
        self.head.last()
    }

    /// Returns how many changes are proposed and not applied.
    pub fn in_flight(&self) -> usize {
        self.head.len()
    }

    /// Says how much the stream may still take up.
    pub fn set_budget(&mut self, budget: Budget) {
        self.budget = budget;
    }

    /// Says how much may wait to be decided.
    pub fn set_inbound(&mut self, inbound: Inbound) {
        self.inbound = inbound;
    }

    /// Takes a message that was published to one of the stream's subjects.
    pub fn publish<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
        mut message: Incoming,
    ) {
        if let Some(error) = self.failed.clone() {
            return self.answer_error(context.out, message.reply, &error);
        }
        publish::forget_status(&mut message);
        if self.waiting.is_empty() && !self.stalled {
            let Some(back) = self.try_publish(context, messages, message) else { return };
            message = back;
        }
        let bytes = self.waiting_bytes + message.size();
        if self.waiting.len() >= self.inbound.messages || bytes > self.inbound.bytes {
            return self.answer_too_many(context.out, message.reply);
        }
        self.waiting_bytes = bytes;
        self.waiting.push_back(Waiting::Publish(message));
    }

    /// Takes a request that changes the stream. It has its turn behind the messages that came before it.
    pub fn request(&mut self, ticket: Ticket, request: Request) {
        match &self.failed {
            Some(error) => self.events.push_back(Event::Done { ticket, result: Err(error.clone()) }),
            None if self.waiting.is_empty() && !self.stalled => self.carry_out_request(ticket, request),
            None => self.waiting.push_back(Waiting::Request(ticket, request)),
        }
    }

    /// Returns the next change to be proposed, oldest first. They are to be applied in this order.
    pub fn poll_change(&mut self) -> Option<Change> {
        let change = self.changes.pop_front();
        self.stalled &= change.is_some();
        change
    }

    /// Takes back the change that was polled last, for later: the journal is busy. It is polled again, as the next one. Until
    /// then messages wait, and as many as may.
    pub fn unpoll(&mut self, change: Change) {
        self.changes.push_front(change);
        self.stalled = true;
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Stream::advance`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let look = if let Look::At(at) = self.look { at } else { None };
        look.into_iter().chain(self.dedup_due).chain(self.schedules.due()).min()
    }

    /// Returns whether there is something to look at now: [`Stream::advance`] is due.
    pub fn is_due(&self) -> bool {
        self.look == Look::Now || self.schedules.is_due()
    }

    /// Takes what came of the oldest change that was proposed. To be called for each that the store has applied, before
    /// anything else is asked of the stream; then [`Stream::advance`].
    pub fn applied(&mut self, out: &mut Vec<Outgoing>, outcome: Outcome) {
        let Some(flight) = self.head.pop() else { return };
        if !matches!(outcome, Outcome::Refused(_)) {
            self.settled = self.settled.max(flight.effect().last);
        }
        if self.look == Look::Applied {
            self.look = Look::Now;
        }
        match flight {
            Flight::Store(storing) => self.applied_store(out, storing, outcome),
            Flight::Rollup { subject, stored, .. } => {
                self.purged(subject, outcome);
                stored.into_iter().for_each(|storing| self.finish_store(out, storing));
            }
            Flight::Remove(ticket, [sequence]) => {
                let result = match removed(outcome) {
                    Ok(0) => Err(ErrorKind::SequenceNotFound.with(sequence)),
                    result => result,
                };
                self.events.push_back(Event::Done { ticket, result });
            }
            Flight::Expire(_) => {}
            Flight::Purge(ticket, subject, _) => {
                self.purged(subject, outcome);
                let done = ticket.map(|ticket| Event::Done { ticket, result: removed(outcome) });
                self.events.extend(done);
            }
            Flight::Configure(ticket, before) => {
                self.look = Look::Now;
                self.schedules.look();
                if self.settings.retains_by_interest() && !before.retains_by_interest() {
                    self.retention.sweep(0);
                }
                self.events.push_back(Event::Done { ticket, result: removed(outcome) });
            }
        }
    }

    fn applied_store(&mut self, out: &mut Vec<Outgoing>, mut storing: Storing, outcome: Outcome) {
        if let Outcome::Refused(error) = outcome {
            // The store and the head disagree, which they never do; who sent it is told, and the head begins anew.
            let error = ErrorKind::StreamStoreFailed.with(error);
            self.dedup.take_back(storing.sequence);
            storing.failed = Some(Box::new(error));
            storing.republishing = None;
        } else if !storing.unwanted {
            let (sequence, subject) = (storing.sequence, storing.subject.clone());
            self.events.push_back(Event::Stored { sequence, subject });
            self.note_stored(storing.has_ttl);
            self.schedules.note_stored(&storing);
        }
        self.finish_store(out, storing);
    }

    /// Answers a message once everything that belongs to it is applied.
    fn finish_store(&mut self, out: &mut Vec<Outgoing>, storing: Storing) {
        match self.head.oldest_mut() {
            Some(Flight::Rollup { stored, .. }) if storing.failed.is_none() => *stored = Some(storing),
            _ => self.answer_stored(out, storing),
        }
    }

    fn purged(&mut self, subject: Bytes, outcome: Outcome) {
        if let Outcome::Removed(removed) = outcome
            && removed > 0
        {
            self.look = if self.look == Look::At(None) { Look::Now } else { self.look };
            self.events.push_back(Event::Purged { subject, removed });
        }
    }

    /// Takes back the change that was polled last, which the journal hasn't taken, and all behind it.
    pub fn refused(&mut self, out: &mut Vec<Outgoing>, why: Refused) {
        let error = match why {
            Refused::Full => ErrorKind::InsufficientResources.error(),
            Refused::Busy => ErrorKind::StreamTooManyRequests.error(),
            Refused::NotReady => ErrorKind::ClusterNotAvailable.error(),
            Refused::TooLarge => ErrorKind::StreamStoreFailed.with(crate::storage::LimitError::TooLarge),
            Refused::Failed => ErrorKind::StreamStoreFailed.with(why),
        };
        self.take_back(out, self.changes.len() + 1, &error);
    }

    /// Ends it: the journal or the store has failed. What is in flight or waits is answered with `error`, and so is all
    /// that comes.
    pub fn fail(&mut self, out: &mut Vec<Outgoing>, error: ApiError) {
        self.take_back(out, usize::MAX, &error);
        for waiting in std::mem::take(&mut self.waiting) {
            match waiting {
                Waiting::Publish(message) => self.answer_error(out, message.reply, &error),
                Waiting::Request(ticket, _) => {
                    self.events.push_back(Event::Done { ticket, result: Err(error.clone()) });
                }
            }
        }
        (self.waiting_bytes, self.failed) = (0, Some(error));
    }

    fn take_back(&mut self, out: &mut Vec<Outgoing>, count: usize, error: &ApiError) {
        self.changes.clear();
        self.stalled = false;
        let mut taken = self.head.take_back(count, self.settled);
        self.last_id = LastId::Unknown;
        let last = self.head.last();
        let before = self.head.newest_storing_mut();
        self.schedules.take_back(last, taken.first(), before.as_deref());
        // A message that stays without its rollup isn't what was asked for.
        if matches!(taken.first(), Some(Flight::Rollup { .. }))
            && let Some(storing) = before
        {
            storing.failed = Some(Box::new(error.clone()));
        }
        self.dedup.take_back(self.head.last() + 1);
        // The newest settings first, so that the oldest of those before stay.
        for flight in taken.iter_mut().rev() {
            if let Flight::Configure(_, before) = flight {
                std::mem::swap(&mut self.settings, before);
            }
        }
        for flight in taken {
            match flight {
                Flight::Store(storing) | Flight::Rollup { stored: Some(storing), .. } => {
                    let failed = (!planted::bug(Bug::JsRefusalAcknowledged)).then(|| Box::new(error.clone()));
                    self.answer_stored(out, Storing { failed, republishing: None, ..storing });
                }
                Flight::Rollup { stored: None, .. } | Flight::Purge(None, ..) => {}
                Flight::Expire(sequences) => {
                    if self.settings.retains_by_interest() {
                        self.retention.sweep(sequences.first().copied().unwrap_or(0));
                    }
                }
                Flight::Remove(ticket, _)
                | Flight::Purge(Some(ticket), ..)
                | Flight::Configure(ticket, _) => {
                    self.events.push_back(Event::Done { ticket, result: Err(error.clone()) });
                }
            }
        }
        self.look = if self.look == Look::Applied { Look::Now } else { self.look };
    }

    /// Goes on with what waited, a bounded step: to be called after changes were applied, when the disk has said
    /// something, and at [`Stream::poll_timeout`]. Returns whether there is more to do at once.
    pub fn advance<I>(&mut self, context: &mut Context<'_, I>, messages: &mut impl Messages) -> bool {
        if self.failed.is_some() {
            return false;
        }
        self.realign();
        let mut more = self.recover(context.now, messages);
        more |= self.decide_waiting(context, messages);
        more |= self.retain(messages);
        more |= self.run_schedules(context, messages);
        // What is due is asked again when the disk has said something, or what was proposed is applied.
        let _ = self.expire(context, messages);
        self.forget_ids(context);
        more
    }

    /// Begins the head anew where the store is, should the store have refused what was foreseen.
    fn realign(&mut self) {
        if self.head.is_empty() && self.head.last() != self.settled {
            self.head.restart(self.settled);
            self.last_id = LastId::Unknown;
        }
    }

    fn decide_waiting<I>(&mut self, context: &mut Context<'_, I>, messages: &mut impl Messages) -> bool {
        for _ in 0..STEPS {
            if self.stalled {
                return false;
            }
            match self.waiting.pop_front() {
                Some(Waiting::Publish(message)) => {
                    let size = message.size();
                    if let Some(back) = self.try_publish(context, messages, message) {
                        self.waiting.push_front(Waiting::Publish(back));
                        return false;
                    }
                    self.waiting_bytes -= size;
                }
                Some(Waiting::Request(ticket, request)) => self.carry_out_request(ticket, request),
                None => return false,
            }
        }
        true
    }

    fn retain(&mut self, messages: &mut impl Messages) -> bool {
        if self.held || !self.settings.retains_by_interest() || !self.retention.has_work() {
            return false;
        }
        let queue = self.settings.store.retention == Policy::WorkQueue;
        let head = &self.head;
        let went = self.retention.step(messages, queue, |sequence| head.is_leaving(sequence), STEPS);
        let ready = self.retention.take_ready();
        if !ready.is_empty() {
            let change = Change::Expire { sequences: ready.clone() };
            self.propose(Flight::Expire(ready), change);
        }
        !matches!(went, Err(Stop::Disk)) && self.retention.has_work()
    }

    fn forget_ids<I>(&mut self, context: &mut Context<'_, I>) {
        let window = self.settings.duplicate_window;
        self.dedup.forget_old(context.now.wall, window, STEPS);
        self.dedup_due = self.dedup.next(window).map(|next| instant_of(next, context.now));
    }

    /// Adds a consumer of a stream whose messages go by interest, or tells what it wants and has now.
    pub fn set_consumer(&mut self, consumer: OwnerId, wanting: Wanting) {
        self.retention.set(consumer, wanting);
    }

    /// Forgets a consumer. What it alone wanted goes with it, but for a work queue's.
    pub fn remove_consumer(&mut self, consumer: OwnerId) {
        let Some(floor) = self.retention.remove(consumer) else { return };
        if self.settings.store.retention != Policy::Interest {
            return;
        }
        match self.retention.is_empty() {
            true => self.purge(None, Bytes::new(), 0, 0),
            false => self.retention.sweep(floor + 1),
        }
    }

    /// Keeps what is there, and lets what is published wait, until all consumers are told after a start: one that isn't known
    /// yet may want what the others have.
    pub fn hold(&mut self) {
        self.held = self.settings.retains_by_interest();
    }

    /// Tells whether it waits for its consumers.
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// Looks for messages that nobody needs any more: to be called when all consumers are told after a start.
    pub fn check_orphans(&mut self) {
        self.held = false;
        if self.settings.retains_by_interest() && !planted::bug(Bug::JsOrphansStay) {
            self.retention.sweep(0);
        }
    }

    /// Takes that a consumer has a message for good; [`Stream::advance`] is due then, so for all that consumers do.
    pub fn acknowledged(&mut self, consumer: OwnerId, sequence: u64) {
        if self.settings.retains_by_interest() {
            self.retention.acknowledged(consumer, sequence);
        }
    }

    /// Takes that a consumer has everything through a sequence.
    pub fn acknowledged_through(&mut self, consumer: OwnerId, sequence: u64) {
        if self.settings.retains_by_interest() {
            self.retention.acknowledged_through(consumer, sequence);
        }
    }

    fn propose(&mut self, flight: Flight, change: Change) {
        self.head.push(flight);
        self.changes.push_back(change);
    }
}

fn removed(outcome: Outcome) -> Result<u64, ApiError> {
    match outcome {
        Outcome::Removed(removed) => Ok(removed),
        Outcome::Stored(_) => Ok(0),
        Outcome::Refused(error) => Err(ErrorKind::StreamGeneral.with(error)),
    }
}
