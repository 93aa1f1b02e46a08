//! Time as core sees it: two plain numbers that somebody hands in.
//!
//! [`Instant`] is monotonic and starts at zero when the node starts; deadlines are made of it. [`WallTime`]
//! is what is stored or shown; it may jump. [`Now`] carries both into every `handle` call. In simulation each
//! node has clocks of its own, skewed, drifting and jumping, so nothing may assume that the two agree.

use std::ops::{Add, AddAssign, Sub};
pub use std::time::Duration;

/// A point on a node's monotonic clock, in nanoseconds since the node started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The moment at which the node started.
    pub const ZERO: Instant = Instant(0);
    /// Later than every deadline.
    pub const MAX: Instant = Instant(u64::MAX);

    /// Makes the instant `nanos` nanoseconds after the node's start.
    pub const fn from_nanos(nanos: u64) -> Self {
        Instant(nanos)
    }

    /// Returns the nanoseconds since the node's start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Returns how long after `earlier` this is, zero if it is before.
    pub const fn since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Saturates at [`Instant::MAX`]: a deadline that far away never comes.
impl Add<Duration> for Instant {
    type Output = Instant;

    fn add(self, rhs: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(rhs.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, rhs: Duration) {
        *self = *self + rhs;
    }
}

/// The time from `rhs` to `self`, zero if `rhs` is later.
impl Sub for Instant {
    type Output = Duration;

    fn sub(self, rhs: Instant) -> Duration {
        self.since(rhs)
    }
}

/// A point on a node's wall clock, in nanoseconds since 1970-01-01T00:00:00Z; negative before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WallTime(i64);

impl WallTime {
    /// Makes the wall time `nanos` nanoseconds after the Unix epoch.
    pub const fn from_unix_nanos(nanos: i64) -> Self {
        WallTime(nanos)
    }

    /// Returns the nanoseconds since the Unix epoch.
    pub const fn as_unix_nanos(self) -> i64 {
        self.0
    }

    /// Returns how long after `earlier` this is, zero if it is before.
    pub fn since(self, earlier: WallTime) -> Duration {
        Duration::from_nanos(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl Add<Duration> for WallTime {
    type Output = WallTime;

    fn add(self, rhs: Duration) -> WallTime {
        WallTime(self.0.saturating_add(i64::try_from(rhs.as_nanos()).unwrap_or(i64::MAX)))
    }
}

/// RFC 3339 in UTC with as many digits of the second as it takes, as the reference's JSON shows times.
impl std::fmt::Display for WallTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_nanosecond(i128::from(self.0)) {
            Ok(timestamp) => write!(f, "{timestamp}"),
            Err(_) => f.write_str("0001-01-01T00:00:00Z"),
        }
    }
}

/// What both clocks of a node say at the moment of a `handle` call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// The monotonic clock.
    pub instant: Instant,
    /// The wall clock.
    pub wall: WallTime,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_saturate_at_both_ends() {
        let late = Instant::from_nanos(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(1), Instant::MAX);
        assert_eq!(Instant::ZERO - late, Duration::ZERO);
        assert_eq!(late - Instant::ZERO, Duration::from_nanos(u64::MAX - 1));
    }

    #[test]
    fn wall_time_is_shown_as_the_reference_shows_it() {
        assert_eq!(WallTime::from_unix_nanos(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(
            WallTime::from_unix_nanos(1_700_000_000_123_456_000).to_string(),
            "2023-11-14T22:13:20.123456Z"
        );
    }
}
