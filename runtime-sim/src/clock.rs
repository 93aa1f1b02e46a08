//! A node's clocks: what it believes the time to be, from what it is.
//!
//! The monotonic clock starts at zero with the process and runs fast or slow by a few parts in a million; the wall
//! clock is off by a constant besides, and jumps. Neither ever sees [`SimTime`].

use natrix_core::time::{Instant, Now, WallTime};

use crate::queue::SimTime;

/// The wall time at [`SimTime`] zero on a node without skew: 2026-01-01T00:00:00Z.
pub const EPOCH_WALL_NS: i64 = 1_767_225_600_000_000_000;

/// The clocks of one node.
#[derive(Clone, Debug)]
pub struct NodeClock {
    /// From where on the present rate holds.
    since: SimTime,
    /// What the monotonic clock showed then.
    monotonic: u64,
    /// How much faster than true time the node's oscillator runs, in parts per million.
    drift_ppm: i64,
    /// Wall time minus (true) time since the epoch, in nanoseconds.
    skew_ns: i64,
}

impl NodeClock {
    /// Starts the clocks of a process at `now`.
    pub fn started(now: SimTime, drift_ppm: i64, skew_ns: i64) -> Self {
        NodeClock { since: now, monotonic: 0, drift_ppm, skew_ns }
    }

    /// Returns what both clocks show.
    pub fn now(&self, time: SimTime) -> Now {
        let wall = EPOCH_WALL_NS.saturating_add_unsigned(time.0).saturating_add(self.skew_ns);
        Now { instant: Instant::from_nanos(self.monotonic_at(time)), wall: WallTime::from_unix_nanos(wall) }
    }

    /// Returns the first moment at which the monotonic clock shows `deadline` or later.
    pub fn when(&self, deadline: Instant) -> SimTime {
        let missing = i128::from(deadline.as_nanos()) - i128::from(self.monotonic);
        if missing <= 0 {
            return self.since;
        }
        let rate = 1_000_000 + i128::from(self.drift_ppm);
        // Two nanoseconds pay for the rounding of both divisions.
        let elapsed = missing * 1_000_000 / rate + 2;
        u64::try_from(elapsed).map_or(SimTime::MAX, |elapsed| self.since + elapsed)
    }

    /// Changes the rate from now on.
    pub fn set_drift(&mut self, time: SimTime, drift_ppm: i64) {
        (self.monotonic, self.since) = (self.monotonic_at(time), time);
        self.drift_ppm = drift_ppm;
    }

    /// Moves the wall clock, forwards or backwards.
    pub fn jump_wall(&mut self, by_ns: i64) {
        self.skew_ns = self.skew_ns.saturating_add(by_ns);
    }

    fn monotonic_at(&self, time: SimTime) -> u64 {
        let elapsed = time - self.since;
        if self.drift_ppm == 0 {
            return self.monotonic.saturating_add(elapsed);
        }
        // Split so that nothing overflows within the centuries that 64 bits of nanoseconds last.
        let whole = (elapsed / 1_000_000) as i64 * self.drift_ppm;
        let rest = (elapsed % 1_000_000) as i64 * self.drift_ppm / 1_000_000;
        self.monotonic.saturating_add(elapsed).saturating_add_signed(whole + rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::SECOND;

    #[test]
    fn a_fast_clock_gains_and_a_slow_one_loses() {
        let at =
            |ppm| NodeClock::started(SimTime(5), ppm, 0).now(SimTime(5) + 1000 * SECOND).instant.as_nanos();
        assert_eq!(at(0), 1000 * SECOND);
        assert_eq!(at(200), 1000 * SECOND + SECOND / 5);
        assert_eq!(at(-200), 1000 * SECOND - SECOND / 5);
    }

    #[test]
    fn a_deadline_is_reached_when_the_clock_says_so_and_not_long_after() {
        for ppm in [-50_000, -113, 0, 1, 7, 100_000] {
            let mut clock = NodeClock::started(SimTime(17), ppm, 0);
            clock.set_drift(SimTime(99_991), ppm / 2);
            for deadline in [1, 99_992, 1_234_567, 55 * SECOND + 1].map(Instant::from_nanos) {
                let when = clock.when(deadline);
                assert!(clock.now(when).instant >= deadline, "{ppm} {deadline:?}");
                assert!(
                    when.0 <= 99_991 || clock.now(SimTime(when.0 - 4)).instant < deadline,
                    "{ppm} {deadline:?}"
                );
            }
        }
    }

    #[test]
    fn the_wall_clock_jumps_and_the_monotonic_one_does_not() {
        let mut clock = NodeClock::started(SimTime(0), 0, -7);
        let before = clock.now(SimTime(100));
        clock.jump_wall(-1_000_000);
        let after = clock.now(SimTime(100));
        assert_eq!(before.instant, after.instant);
        assert_eq!(before.wall.as_unix_nanos() - after.wall.as_unix_nanos(), 1_000_000);
        assert_eq!(before.wall.as_unix_nanos(), EPOCH_WALL_NS + 93);
    }
}
