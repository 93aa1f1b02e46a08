//! When a shard that has nothing to do stays awake for a moment.
//!
//! To sleep and be woken costs both sides: the shard some tens of microseconds of processor time, the client that waits for an
//! answer the same in latency, more in a virtual machine, whose processors give themselves back to the host when they have
//! nothing to do. Who publishes one message at a time sends the next sooner than that. So a shard whose last waits were short
//! waits awake, and looks at its sockets meanwhile, as kernels do before they halt a processor (`haltpoll` in Linux).
//!
//! What it may cost is bounded twice. A wait takes [`LIMIT`] awake at most, which is about what sleeping would have cost (the
//! bound of ski rental: never more than twice the best). And a shard that waits awake in vain more than every fourth time
//! stops, for longer each time: a server with messages now and then sleeps.
//!
//! A machine without IO: it is told the time.

use std::time::Duration;

use natrix_core::time::Instant;

/// The longest wait awake.
const LIMIT: Duration = Duration::from_micros(60);
/// A wait asleep that would have been shorter than [`LIMIT`] awake, as neither side would have had to be woken.
const PROMISING: Duration = Duration::from_micros(150);
/// How many of the last sixteen waits must be short.
const ENOUGH: u32 = 12;
/// Waits asleep after waiting awake has failed, at least and at most.
const PAUSE: (u32, u32) = (64, 65_536);
/// Short waits in a row, about, after which earlier failures are forgotten.
const PROVED: u32 = 256;

/// Decides whether the next wait is awake, by the last sixteen.
#[derive(Debug)]
pub(crate) struct BusyPoll {
    /// Since when there has been nothing to do.
    idle_since: Option<Instant>,
    /// Waits are awake.
    awake: bool,
    /// A bit for each of the last waits, the newest lowest: it was short.
    short: u16,
    /// Short waits since waiting awake began.
    proved: u32,
    /// Waits left until the next attempt.
    pause: u32,
    /// How many there are after the next failure.
    next_pause: u32,
}

impl Default for BusyPoll {
    fn default() -> Self {
        BusyPoll { idle_since: None, awake: false, short: 0, proved: 0, pause: 0, next_pause: PAUSE.0 }
    }
}

impl BusyPoll {
    /// There is nothing to do at `now`: returns whether to look again at once. Called again and again while that is so.
    pub(crate) fn waits_awake(&mut self, now: Instant) -> bool {
        let since = *self.idle_since.get_or_insert(now);
        self.awake && now - since < LIMIT
    }

    /// Tells whether a wait has begun and not ended.
    pub(crate) fn is_waiting(&self) -> bool {
        self.idle_since.is_some()
    }

    /// Something came at `now`.
    pub(crate) fn ends(&mut self, now: Instant) {
        let Some(since) = self.idle_since.take() else { return };
        let waited = now - since;
        if self.awake {
            self.note(waited < LIMIT);
            self.proved += u32::from(self.short & 1);
            if self.short.count_ones() < ENOUGH {
                self.fall_asleep();
            }
        } else if self.pause > 0 {
            self.pause -= 1;
        } else {
            self.note(waited < PROMISING);
            if self.short.count_ones() >= ENOUGH {
                (self.awake, self.short, self.proved) = (true, u16::MAX, 0);
            }
        }
    }

    fn note(&mut self, short: bool) {
        self.short = self.short << 1 | u16::from(short);
    }

    fn fall_asleep(&mut self) {
        if self.proved >= PROVED {
            self.next_pause = PAUSE.0;
        }
        (self.awake, self.short) = (false, 0);
        self.pause = self.next_pause;
        self.next_pause = (self.next_pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets `waits` of one length pass, in microseconds; returns how many of them were awake, in part at least, and for how long in all.
    fn pass(poll: &mut BusyPoll, now: &mut Instant, micros: u64, waits: u32) -> (u32, Duration) {
        let (mut awake, mut spent) = (0, Duration::ZERO);
        for _ in 0..waits {
            let begin = *now;
            let was_awake = poll.waits_awake(begin);
            awake += u32::from(was_awake);
            *now = begin + Duration::from_micros(micros);
            if was_awake {
                assert_eq!(poll.waits_awake(*now), micros < 60, "no longer than the limit");
                spent += Duration::from_micros(micros).min(LIMIT);
            }
            poll.ends(*now);
        }
        (awake, spent)
    }

    fn begin() -> (BusyPoll, Instant) {
        (BusyPoll::default(), Instant::from_nanos(1))
    }

    #[test]
    fn a_client_that_sends_its_next_message_soon_is_waited_for_awake() {
        let (mut poll, mut now) = begin();
        assert_eq!(pass(&mut poll, &mut now, 90, 12).0, 0, "asleep, until that was so often enough");
        assert_eq!(pass(&mut poll, &mut now, 20, 10_000).0, 10_000);
    }

    #[test]
    fn messages_now_and_then_are_waited_for_asleep() {
        let (mut poll, mut now) = begin();
        assert_eq!(pass(&mut poll, &mut now, 151, 10_000).0, 0);
    }

    #[test]
    fn waits_a_little_too_long_cost_little() {
        let (mut poll, mut now) = begin();
        let (awake, spent) = pass(&mut poll, &mut now, 100, 100_000);
        // An attempt is five waits in vain, and eleven fit: between them are 64, 128, ... 32,768 waits.
        assert_eq!((awake, spent), (55, 55 * LIMIT));
    }

    #[test]
    fn some_long_waits_among_short_ones_change_nothing() {
        let (mut poll, mut now) = begin();
        pass(&mut poll, &mut now, 20, 12);
        for _ in 0..100 {
            assert_eq!(pass(&mut poll, &mut now, 20, 6).0, 6);
            assert_eq!(pass(&mut poll, &mut now, 1_000_000, 1).0, 1);
        }
    }

    #[test]
    fn what_went_well_for_long_is_tried_again_soon() {
        let (mut poll, mut now) = begin();
        pass(&mut poll, &mut now, 100, 1_000);
        // The failures of before make for a long pause, and then no more.
        assert!(pass(&mut poll, &mut now, 20, 1_000 + PROVED).0 > PROVED);
        pass(&mut poll, &mut now, 1_000, 5);
        assert!(!poll.waits_awake(now));
        poll.ends(now);
        let waits = (0..).take_while(|_| pass(&mut poll, &mut now, 20, 1).0 == 0).count();
        assert_eq!(waits, PAUSE.0 as usize + 12 - 1, "the shortest pause, of which one is over");
    }
}
