//! What holds a consumer back though somebody waits: its rate limit, the pace at which messages were stored, a pause.

use super::Consumer;
use crate::jetstream::api::consumer_config::{ConsumerConfig, ReplayPolicy};
use crate::time::{Duration, Instant, Now, WallTime};

/// Delays of replay that are shorter are none.
const SHORTEST: Duration = Duration::from_millis(1);

/// How fast a consumer delivers.
#[derive(Clone, Debug)]
pub(super) struct Pacing {
    /// The rate limit, if there is one.
    rate: Option<Rate>,
    /// The replay, while it goes on.
    replay: Option<Replay>,
    /// Until when nothing is delivered.
    until: Option<Instant>,
    /// When the pause ends, as far as one can know.
    pause_ends: Option<Instant>,
}

/// A leaky bucket: it is full when messages were sent for as long as the largest one takes.
#[derive(Clone, Copy, Debug)]
struct Rate {
    bytes_per_second: u64,
    burst: Duration,
    /// When all that was sent would have been sent at an even pace.
    sent_until: Instant,
}

impl Rate {
    fn time_of(bytes_per_second: u64, bytes: u64) -> Duration {
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bytes_per_second.max(1));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// Returns when a message may be sent: at once if it fits in what is left of the burst.
    fn allows_at(&self, bytes: u64) -> Instant {
        // A message larger than the burst waits for an empty bucket. In the reference it waits for ever.
        let cost = Self::time_of(self.bytes_per_second, bytes).min(self.burst);
        let spare = self.burst - cost;
        Instant::from_nanos(self.sent_until.as_nanos().saturating_sub(spare.as_nanos() as u64))
    }
}

/// A replay at the pace at which messages were stored.
#[derive(Clone, Copy, Debug, Default)]
struct Replay {
    /// The last message when it began; zero before it is known.
    through: u64,
    /// When the message that was delivered last was stored, and when it was delivered.
    last: Option<(WallTime, Instant)>,
}

impl Pacing {
    pub(super) fn new(config: &ConsumerConfig, largest_message: u64, now: Now) -> Self {
        let replay = (config.replay_policy == ReplayPolicy::Original).then(Replay::default);
        let mut pacing = Pacing { rate: None, replay, until: None, pause_ends: None };
        pacing.configure(config, largest_message, now);
        pacing
    }

    pub(super) fn configure(&mut self, config: &ConsumerConfig, largest_message: u64, now: Now) {
        let bytes_per_second = config.rate_limit / 8;
        self.rate = (config.rate_limit > 0).then(|| Rate {
            bytes_per_second,
            burst: Rate::time_of(bytes_per_second, largest_message.max(1)),
            sent_until: self.rate.map_or(now.instant, |rate| rate.sent_until),
        });
        self.pause(config.pause_until, now);
        self.until = None;
    }

    fn pause(&mut self, until: Option<WallTime>, now: Now) {
        let pauses = until.filter(|until| *until > now.wall);
        self.pause_ends = pauses.map(|until| now.instant + until.since(now.wall));
    }

    /// Tells whether nothing is delivered now, however much there is.
    pub(super) fn is_paused(&self) -> bool {
        self.pause_ends.is_some()
    }

    /// Tells whether the next message waits for its time.
    pub(super) fn holds_back(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    /// Tells whether the last message that a replay goes to has to be found out.
    pub(super) fn wants_last_sequence(&self) -> bool {
        self.replay.is_some_and(|replay| replay.through == 0)
    }

    /// Says which message is the last one of a replay.
    pub(super) fn set_last_sequence(&mut self, last: u64) {
        match &mut self.replay {
            Some(replay) if last > 0 => replay.through = last,
            _ => self.replay = None,
        }
    }

    /// Ends a replay that has caught up.
    pub(super) fn caught_up(&mut self, next: u64) {
        self.replay.take_if(|replay| replay.through > 0 && next > replay.through);
    }

    /// Tells whether a message may be delivered now. If not, [`Pacing::poll_timeout`] says when it may.
    pub(super) fn allows(&mut self, stored: WallTime, bytes: u64, now: Instant) -> bool {
        let replayed = self.replay.and_then(|replay| replay.last).and_then(|(last, delivered)| {
            let gap = stored.since(last);
            (gap > SHORTEST).then(|| delivered + gap)
        });
        let rated = self.rate.map(|rate| rate.allows_at(bytes));
        self.until = replayed.into_iter().chain(rated).max().filter(|until| *until > now);
        self.until.is_none()
    }

    /// Notes that a message was delivered, perhaps again.
    pub(super) fn delivered(&mut self, stored: WallTime, bytes: u64, again: bool, now: Instant) {
        if let Some(replay) = self.replay.as_mut().filter(|_| !again) {
            replay.last = Some((stored, now));
        }
        if let Some(rate) = &mut self.rate {
            rate.sent_until = rate.sent_until.max(now) + Rate::time_of(rate.bytes_per_second, bytes);
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.until.into_iter().chain(self.pause_ends).min()
    }
}

impl Consumer {
    /// Goes on when the time has come.
    pub(super) fn tend_pacing(&mut self, ctx: &mut super::Context<'_, impl super::Interest>) {
        let now = ctx.now;
        if self.pacing.until.take_if(|until| *until <= now.instant).is_some() {
            self.wake();
        }
        if self.pacing.pause_ends.is_some_and(|ends| ends <= now.instant) {
            // The wall clock may have gone back meanwhile.
            self.pacing.pause(self.config.pause_until, now);
            if !self.pacing.is_paused() {
                self.advise_pause(ctx);
                self.wake();
            }
        }
    }
}
