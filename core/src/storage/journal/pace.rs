//! How long segments get: as short as does no harm.
//!
//! What is short takes little of a disk, is soon read, and is written again while the operating system has it in memory. But each
//! segment has its price: nothing is written until the last is synced and the header of the next is, and its owners make what is in
//! it durable elsewhere. So times are taken, and segments grow where that price is felt.

use super::Config;
use crate::time::{Duration, Instant};

/// The part of the time of a segment that may be spent waiting for it to begin.
const MOST_WAITING: u32 = 8;
/// The part at which it may be half as long.
const LEAST_WAITING: u32 = 32;
/// What is full sooner is too short: owners have so long to cover what is in it.
const SHORT: Duration = Duration::from_millis(40);

/// When the segment that is written to began, and how long everything waited for it.
#[derive(Debug, Default)]
pub(super) struct Pace {
    began: Option<Instant>,
    waited: Duration,
    /// Since when the next is waited for.
    waits: Option<Instant>,
}

impl Pace {
    /// Takes note that the next segment is wanted, and returns since when.
    pub(super) fn wants_next(&mut self, now: Instant) -> Instant {
        *self.waits.get_or_insert(now)
    }

    /// Takes note that the first batch of a segment is there.
    pub(super) fn begins(&mut self, now: Instant) {
        self.waited = self.waits.take().map_or(Duration::ZERO, |since| now.since(since));
        self.began = Some(now);
    }

    /// Returns how long the next segments are to be, if those before were to have `size` bytes and `segments` count.
    pub(super) fn next_size(&self, config: &Config, size: u32, segments: usize, now: Instant) -> u32 {
        let usual = config.usual_segment.clamp(config.first_segment(), config.segment_size);
        if size < usual {
            return size.saturating_mul(2).min(usual);
        }
        let took = self.began.map(|began| now.since(began));
        // One that is full, and one that is just being let go.
        let many = segments > config.min_segments + 1;
        let felt = took.is_some_and(|took| took < SHORT || self.waited * MOST_WAITING > took);
        let unfelt = took.is_some_and(|took| took > SHORT * 4 && self.waited * LEAST_WAITING < took);
        match (many || felt, unfelt && segments <= config.min_segments) {
            (true, _) => size.saturating_mul(2).min(config.segment_size),
            (false, true) => (size / 2).max(usual),
            (false, false) => size,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FilePath;

    const MIB: u32 = 1 << 20;

    /// Returns the length of the next segment after one of `size` that was waited for and filled in so many milliseconds.
    fn next(size: u32, segments: usize, waited: u64, took: u64) -> u32 {
        let config = Config { segment_size: 16 * MIB, ..Config::new(FilePath::root()) };
        let at = |millis| Instant::ZERO + Duration::from_millis(1000 + millis);
        let mut pace = Pace::default();
        pace.wants_next(at(0));
        pace.wants_next(at(waited));
        pace.begins(at(waited));
        pace.next_size(&config, size, segments, at(waited + took))
    }

    #[test]
    fn a_segment_grows_to_the_usual_length_and_on_where_that_costs() {
        assert_eq!(next(MIB / 4, 1, 0, 5000), MIB / 2);
        assert_eq!(next(MIB * 3 / 2, 9, 0, 5000), 2 * MIB);
        assert_eq!(next(2 * MIB, 2, 10, 100), 2 * MIB);
        assert_eq!(next(2 * MIB, 2, 13, 100), 4 * MIB, "an eighth was waiting");
        assert_eq!(next(2 * MIB, 2, 0, 39), 4 * MIB, "it was full at once");
        assert_eq!(next(2 * MIB, 4, 0, 5000), 4 * MIB, "owners don't keep up");
        assert_eq!(next(16 * MIB, 9, 90, 10), 16 * MIB);
    }

    #[test]
    fn it_shrinks_where_that_costs_nothing() {
        assert_eq!(next(8 * MIB, 2, 5, 200), 4 * MIB);
        assert_eq!(next(8 * MIB, 2, 7, 200), 8 * MIB);
        assert_eq!(next(8 * MIB, 3, 5, 200), 8 * MIB);
        assert_eq!(next(8 * MIB, 2, 0, 150), 8 * MIB);
        assert_eq!(next(3 * MIB, 2, 0, 5000), 2 * MIB);
        assert_eq!(
            Pace::default().next_size(&Config::new(FilePath::root()), MIB * 4, 2, Instant::ZERO),
            MIB * 4
        );
    }
}
