//! How many of something may happen in a second, and how many were turned away.
//!
//! Windows begin with the first that comes after the last one's end, as in the reference, so that a burst at any
//! moment is let in whole.
//!
//! Source: nats-server `server/rate_counter.go`; `server/server.go`, `logRejectedTLSConns`.

use crate::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);

/// Lets a number through in each window of a second.
#[derive(Clone, Debug)]
pub(crate) struct Throttle {
    limit: u32,
    let_in: u32,
    window_ends: Option<Instant>,
    turned_away: u64,
    report_at: Option<Instant>,
}

impl Throttle {
    /// Lets `limit` through each second, at least one.
    pub(crate) fn new(limit: u32) -> Self {
        Throttle { limit: limit.max(1), let_in: 0, window_ends: None, turned_away: 0, report_at: None }
    }

    /// Tells whether one more may pass.
    pub(crate) fn allow(&mut self, now: Instant) -> bool {
        if self.window_ends.is_none_or(|end| end < now) {
            self.window_ends = Some(now + WINDOW);
            self.let_in = 0;
        }
        if self.let_in < self.limit {
            self.let_in += 1;
            return true;
        }
        self.turned_away += 1;
        self.report_at.get_or_insert(now + WINDOW);
        false
    }

    /// Returns when to say how many were turned away.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.report_at
    }

    /// Returns how many were turned away since it was last said, once it is time to.
    pub(crate) fn report(&mut self, now: Instant) -> Option<u64> {
        self.report_at.take_if(|due| *due <= now).map(|_| std::mem::take(&mut self.turned_away))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Instant {
        Instant::from_nanos(milliseconds * 1_000_000)
    }

    #[test]
    fn a_window_lets_its_number_in_and_the_rest_is_counted_once() {
        let mut throttle = Throttle::new(3);
        let times = [500, 500, 600, 700, 1500, 1501, 1502];
        let allowed: Vec<bool> = times.iter().map(|time| throttle.allow(at(*time))).collect();
        assert_eq!(allowed, [true, true, true, false, false, true, true]);
        assert_eq!(throttle.poll_timeout(), Some(at(1700)));
        assert_eq!(throttle.report(at(1699)), None);
        assert_eq!(throttle.report(at(1700)), Some(2));
        assert_eq!((throttle.report(at(9000)), throttle.poll_timeout()), (None, None));
    }
}
