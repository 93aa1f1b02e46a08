//! One consumer of a stream.
//!
//! ```text
//! progress  delivered, ack floor, pending, redelivered: the working state, and what no entry says of it yet
//! entries   what is written down, when, and what waits for it
//! cursor    what comes next in the stream, and how much is left
//! deliver   one message to whoever is to get it
//! ack       what clients say about messages
//! pull      pull requests: taken, expired, ended
//! waiting   the order in which pull requests take turns
//! priority  groups: who of the waiting comes first, and who is pinned
//! push      interest, flow control and heartbeats of a push consumer
//! pacing    rate limit, replay as it was stored, pause
//! removal   what is gone from the stream; a new start
//! timers    what is due
//! advisory  what is published about it
//! info      what is told about it
//! ```
//!
//! A [`Consumer`] owns no store, subscription or timer. Whoever does (the engine) calls it with a [`Context`] when something
//! happened, then [`Consumer::advance`] while [`Consumer::needs_advance`], and drains [`Consumer::poll_entry`] and
//! [`Consumer::poll_event`]; [`Consumer::poll_timeout`] says when [`Consumer::handle_timeout`] is due.
//!
//! # Where its entries live, and what a crash can cost
//!
//! Entries go into the shard's journal under the consumer's own [`OwnerId`](crate::storage::OwnerId), between those of all
//! others: a sync serves every consumer of the shard. They are applied by a
//! [`ConsumerStore`](crate::storage::consumer::ConsumerStore), whose state [`Consumer::recover`] takes up. The machine runs
//! ahead: deliveries and acknowledgements change its working state at once, and what changed is written as one
//! [`Delta`](crate::storage::consumer::Delta) at most every [`FLUSH_INTERVAL`], so that a thousand consumers write ten
//! thousand small entries a second however much they deliver. An entry is due at once when somebody waits for it: a client
//! for the answer to an acknowledgement, or the stream for the leave to remove what was acknowledged.
//!
//! A crash loses at most what was not written: those messages are delivered again (never lost), some with too low a count
//! of deliveries. Neither an answer nor a removal was based on it.
//!
//! # Invariants
//!
//! - The ack floor never passes a message that is pending.
//! - With a limit of pending messages, no message is delivered for the first time at the limit.
//! - A message that has to be acknowledged is not delivered again before its wait is over, unless it is asked for.
//!
//! # Cost
//!
//! A consumer that is told of a stored message does constant work; only one that somebody waits at is advanced. A delivery
//! costs a question to the ledger, one message loaded, and logarithms of what is pending and what waits. What is left is
//! counted once, and again after purges.

mod ack;
mod advisory;
mod cursor;
mod deliver;
mod entries;
mod info;
mod pacing;
mod priority;
mod progress;
mod pull;
mod push;
mod removal;
mod status;
mod timers;
mod waiting;

use std::collections::VecDeque;

use bytes::Bytes;
use cursor::{Cursor, Filters};
pub use deliver::Step;
use entries::Entries;
pub use entries::FLUSH_INTERVAL;
use pacing::Pacing;
use progress::Progress;
use pull::Pull;
use push::Push;
pub use removal::{Purge, ResetError};

use super::api::consumer_config::{AckPolicy, ConsumerConfig};
use super::context::{Context, Interest};
use crate::planted::{Bug, bug};
use crate::rng::Rng;
use crate::storage::Retention;
use crate::storage::consumer::ConsumerState;
use crate::time::{Duration, Instant, Now, WallTime};

/// What a consumer is besides its settings.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The account, for advisories.
    pub account: String,
    /// The stream.
    pub stream: String,
    /// The consumer.
    pub name: String,
    /// The JetStream domain; empty for none.
    pub domain: String,
    /// When it was made.
    pub created: WallTime,
    /// How long its stream keeps messages: whether it is told of what is acknowledged.
    pub retention: Retention,
    /// How large a message of the stream can be: what a rate limit lets pass at once, in bytes.
    pub largest_message: u64,
    /// Whether its state is written down. Without, everything counts as written at once.
    pub keeps_entries: bool,
}

/// What a consumer tells its engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It needs this message no more, durably: the stream may remove it, if no other consumer does.
    Acknowledged {
        /// The stream's sequence.
        sequence: u64,
    },
    /// Nobody has used it for as long as it may be unused: it is to be deleted.
    Expired,
}

/// Who gets messages.
#[derive(Debug)]
enum Mode {
    Pull(Box<Pull>),
    Push(Box<Push>),
}

/// One consumer of a stream.
#[derive(Debug)]
pub struct Consumer {
    setup: Box<Setup>,
    config: Box<ConsumerConfig>,
    filters: Filters,
    progress: Progress,
    cursor: Cursor,
    entries: Entries,
    mode: Mode,
    pacing: Pacing,
    /// Whether it knows where it starts.
    started: bool,
    /// It starts where it did when it was made.
    start_again: bool,
    /// From which message on pending ones are looked for in the stream, as some may be gone.
    recheck: Option<u64>,
    /// Whether there is nothing to do until something happens.
    idle: bool,
    /// What percentage of acknowledgements is published.
    sampled: u64,
    last_delivery: Option<WallTime>,
    last_ack: Option<WallTime>,
    /// How long it may be unused, with what is added so that not all go at once; zero for any time.
    threshold: Duration,
    /// When it was used last.
    active_at: Instant,
    /// When it is looked whether it is used.
    inactive_at: Option<Instant>,
    events: VecDeque<Event>,
    /// Where a request that has all its messages is told that more would have fit, with what it didn't get.
    completed: Option<(Bytes, i64, i64)>,
    /// Where subjects are put together.
    scratch: Vec<u8>,
}

impl Consumer {
    /// Makes a new consumer. It finds out where it starts when it is advanced for the first time; its first entry says so.
    pub fn new(setup: Setup, config: ConsumerConfig, ctx: &mut Context<'_, impl Interest>) -> Self {
        Self::make(setup, config, &ConsumerState::default(), false, ctx)
    }

    /// Takes up what the entries of a consumer led to. Whoever waited before is gone; what is pending has waited since it
    /// was delivered.
    pub fn recover(
        setup: Setup,
        config: ConsumerConfig,
        state: &ConsumerState,
        ctx: &mut Context<'_, impl Interest>,
    ) -> Self {
        let mut consumer = Self::make(setup, config, state, true, ctx);
        consumer.recheck = Some(0);
        consumer.set_deadlines(ctx.now);
        consumer
    }

    /// Goes on where it is known how far the consumer was at least, or not even that (`None`): what it may not have is delivered
    /// again, and its first entry says everything. Without a floor it starts where it did when it was made.
    pub fn resume(
        setup: Setup,
        config: ConsumerConfig,
        floor: Option<&ConsumerState>,
        ctx: &mut Context<'_, impl Interest>,
    ) -> Self {
        let Some(floor) = floor else {
            let mut consumer = Self::new(setup, config, ctx);
            consumer.start_again = !bug(Bug::ConsumerLossSkips);
            return consumer;
        };
        let mut consumer = Self::recover(setup, config, floor, ctx);
        consumer.progress.say_everything();
        consumer.finish(ctx);
        consumer
    }

    fn make(
        setup: Setup,
        config: ConsumerConfig,
        state: &ConsumerState,
        started: bool,
        ctx: &mut Context<'_, impl Interest>,
    ) -> Self {
        let now = ctx.now;
        let mode = match config.is_push() {
            true => Mode::Push(Box::new(Push::new(&config, ctx.interest, now.instant))),
            false => Mode::Pull(Box::default()),
        };
        let mut consumer = Consumer {
            filters: Filters::of(&config, ctx.rng),
            progress: Progress::recover(state),
            cursor: match bug(Bug::ConsumerRecoversFromFloor) {
                true => Cursor::behind(state.ack_floor.stream, 0),
                false => Cursor::behind(state.delivered.stream, state.last_only_through),
            },
            entries: Entries::new(setup.keeps_entries && !bug(Bug::JsConsumerNotWritten)),
            mode,
            pacing: Pacing::new(&config, setup.largest_message, now),
            started,
            start_again: false,
            recheck: None,
            idle: false,
            sampled: sampled(&config),
            last_delivery: None,
            last_ack: None,
            threshold: Duration::ZERO,
            active_at: now.instant,
            inactive_at: None,
            events: VecDeque::new(),
            completed: None,
            scratch: Vec::new(),
            setup: Box::new(setup),
            config: Box::new(config),
        };
        consumer.set_threshold(ctx.rng);
        consumer.watch_activity(now.instant);
        consumer
    }

    /// Returns its settings.
    pub fn config(&self) -> &ConsumerConfig {
        &self.config
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.setup.name
    }

    /// Tells whether it is known, durably, where it starts. Until it is, its creation (or its new start) is not answered: a
    /// consumer that delivers only what is new would lose what was stored before a crash.
    pub fn has_started(&self) -> bool {
        self.started && !self.entries.is_starting()
    }

    /// Tells whether [`Consumer::advance`] has something to do.
    pub fn needs_advance(&self) -> bool {
        !self.idle
    }

    /// Returns its state, as its entries lead to it once all are written.
    pub fn state(&self) -> ConsumerState {
        self.progress.state()
    }

    /// Returns the next event, oldest first; drain to `None` after every call.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Tells whether it wants messages of this subject.
    pub fn wants(&self, subject: &[u8]) -> bool {
        self.filters.matches(subject)
    }

    /// Tells whether clients acknowledge by subject: whether `$JS.ACK` is listened to for it.
    pub fn takes_acknowledgements(&self) -> bool {
        !matches!(self.config.ack_policy, AckPolicy::None | AckPolicy::FlowControl)
    }

    /// Tells whether the message `sequence` of this subject still has to be delivered or acknowledged: whether a stream that
    /// keeps messages by interest keeps it for this consumer. One that was delivered too often is kept as well.
    ///
    /// Source: nats-server `server/consumer.go`, `needAck`.
    pub fn needs(&self, sequence: u64, subject: &[u8]) -> bool {
        if !self.filters.matches(subject) {
            return false;
        }
        let pending = || self.progress.pending().contains_key(&sequence);
        let open = sequence > self.progress.ack_floor().stream
            && match self.config.ack_policy {
                AckPolicy::Explicit => sequence >= self.cursor.next() || pending(),
                AckPolicy::None | AckPolicy::All | AckPolicy::FlowControl => true,
            };
        open || self.progress.redelivered().contains_key(&sequence) || self.entries.is_settling(sequence)
    }

    /// Notes that a wanted message was stored, and returns whether that is something to advance for. Called for each such
    /// message in order, after the ledger has it.
    pub fn stored(&mut self, sequence: u64) -> bool {
        self.cursor.stored(sequence);
        if self.has_demand() {
            self.idle = false;
        }
        !self.idle
    }

    /// Notes that interest in its deliver subject appeared or went.
    pub fn interest_changed(&mut self, ctx: &mut Context<'_, impl Interest>) {
        let Mode::Push(push) = &mut self.mode else { return };
        let was_active = push.is_active();
        let is_active = push.look(&self.config, ctx.interest);
        if is_active && !was_active {
            self.wake();
        }
        if is_active {
            self.inactive_at = None;
        } else if self.inactive_at.is_none() {
            self.active_at = ctx.now.instant;
            self.watch_activity(ctx.now.instant);
        }
    }

    /// Takes other settings, which were checked to be ones that it can take.
    pub fn configure(&mut self, config: ConsumerConfig, ctx: &mut Context<'_, impl Interest>) {
        let now = ctx.now;
        let old = std::mem::replace(&mut *self.config, config);
        let new = &*self.config;
        self.sampled = sampled(new);
        self.pacing.configure(new, self.setup.largest_message, now);
        if let Mode::Push(push) = &mut self.mode
            && old.deliver_subject != new.deliver_subject
        {
            push.redirect(new, ctx.interest);
            self.expire_all(ctx);
        }
        let new = &*self.config;
        if !old.filters().eq(new.filters()) {
            self.filters = Filters::of(new, ctx.rng);
            self.cursor.recount();
        }
        if old.inactive_threshold != new.inactive_threshold || old.is_durable() != new.is_durable() {
            self.set_threshold(ctx.rng);
            self.active_at = now.instant;
            self.inactive_at = None;
            self.watch_activity(now.instant);
        }
        if old.ack_wait != self.config.ack_wait || old.backoff != self.config.backoff {
            self.set_deadlines(now);
        }
        if old.pause_until != self.config.pause_until {
            self.advise_pause(ctx);
        }
        self.wake();
        self.finish(ctx);
    }

    /// Notes that its stream keeps messages in another way: whether it is told of what is acknowledged from now on.
    pub fn set_retention(&mut self, retention: Retention) {
        self.setup.retention = retention;
    }

    /// Tells all who wait that the consumer is gone.
    pub fn deleted(&mut self, ctx: &mut Context<'_, impl Interest>) {
        self.release(ctx, |_| status::status(409, "Consumer Deleted"));
    }

    /// Tells all who wait that the server goes away.
    pub fn shut_down(&mut self, ctx: &mut Context<'_, impl Interest>) {
        self.release(ctx, |request| {
            status::with_pending(409, "Server Shutdown", request.wanted, request.bytes)
        });
    }

    /// Lets [`Consumer::advance`] look for work again.
    fn wake(&mut self) {
        self.idle = false;
    }

    /// Tells whether somebody is there to get a message.
    fn has_demand(&self) -> bool {
        match &self.mode {
            Mode::Pull(pull) => !pull.waiting.is_empty(),
            Mode::Push(push) => push.is_ready(),
        }
    }

    /// Tells whether as much is pending as may be.
    fn is_full(&self) -> bool {
        let most = u64::try_from(self.config.max_ack_pending).unwrap_or(0);
        let most = most + u64::from(most > 0 && bug(Bug::ConsumerOnePendingTooMany));
        most > 0 && self.config.ack_policy != AckPolicy::None && self.progress.pending().len() as u64 >= most
    }

    /// Returns how long an acknowledgement of a message is waited for; `None` for any time.
    fn ack_wait(&self, sequence: u64) -> Option<Duration> {
        let wait = match self.config.backoff.as_slice() {
            [] => self.config.ack_wait,
            backoff => {
                let again = usize::try_from(self.progress.count(sequence)).unwrap_or(usize::MAX);
                backoff[again.min(backoff.len() - 1)]
            }
        };
        let wait = if bug(Bug::ConsumerRedeliversEarly) { wait / 2 } else { wait };
        Some(wait).filter(|wait| !wait.is_zero())
    }

    /// Sets the deadlines of all that is pending and doesn't wait to be delivered again.
    fn set_deadlines(&mut self, now: Now) {
        let waiting: Vec<(u64, WallTime)> = self.progress.waiting_for_ack().collect();
        for (sequence, time) in waiting {
            let deadline = self.ack_wait(sequence).map_or(Instant::MAX, |wait| deadline(now, time + wait));
            self.progress.set_deadline(sequence, deadline);
        }
    }

    /// What every call that may have changed the state ends with.
    fn finish(&mut self, ctx: &mut Context<'_, impl Interest>) {
        self.entries.settle(&mut self.progress, ctx.now.instant, ctx.out, &mut self.events);
    }
}

/// Returns when a wall time comes, as far as one can know.
fn deadline(now: Now, time: WallTime) -> Instant {
    now.instant + time.since(now.wall)
}

/// Returns how many of a hundred acknowledgements are published.
fn sampled(config: &ConsumerConfig) -> u64 {
    config.sample_frequency.trim_end_matches('%').parse().unwrap_or(0)
}

/// Publishes a header block without anything else.
fn send_status(out: &mut Vec<super::context::Outgoing>, to: &Bytes, headers: Bytes) {
    out.push(super::context::Outgoing { to: to.clone(), headers, ..Default::default() });
}

/// Draws what is added to a time, so that not everything happens at once: from 100 ms to a second.
fn spread(rng: &mut Rng) -> Duration {
    Duration::from_millis(100 + rng.below(900))
}

#[cfg(test)]
mod tests;
