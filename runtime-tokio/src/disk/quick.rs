//! Which writes are made on the thread that asks for them.
//!
//! A write that isn't synced goes to memory, and takes a fraction of what it takes to wake another thread and to be woken by it. It
//! may still have to wait: for a disk that is behind with what it was given before, for a page that is just being written. Nothing
//! says so beforehand on every file system, so time is taken: after a write that took long the disk's threads make all of them for
//! a while, each time longer.

use std::time::Duration;

use bytes::Bytes;
use natrix_core::disk::Request;

/// The longest of them, in bytes: copying that many takes some tens of microseconds.
const LONGEST: usize = 256 << 10;
/// What counts as having waited. Less may be somebody else's turn on the core.
const LONG: Duration = Duration::from_millis(10);
/// How long the first pause is, and the longest.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Says which writes are quick, and for how long none is. Times count from when the caller began.
#[derive(Debug)]
pub(super) struct Quick {
    /// How long the next pause is.
    pause: Duration,
    /// Until when the last one is, or was.
    paused: Duration,
}

impl Default for Quick {
    fn default() -> Self {
        Quick { pause: PAUSE.0, paused: Duration::ZERO }
    }
}

impl Quick {
    /// Returns whether a request may be carried out by who asks for it.
    pub(super) fn takes(&self, request: &Request, now: Duration) -> bool {
        let Request::Write { data, sync: false, .. } = request else { return false };
        now >= self.paused && data.iter().map(Bytes::len).sum::<usize>() <= LONGEST
    }

    /// Takes note of a write that began at `began` and is done `now`.
    pub(super) fn took(&mut self, began: Duration, now: Duration) {
        if now.saturating_sub(began) < LONG {
            return;
        }
        // It went well for long.
        if now > self.paused + PAUSE.1 {
            self.pause = PAUSE.0;
        }
        self.paused = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE.1);
    }
}

#[cfg(test)]
mod tests {
    use natrix_core::disk::FileId;

    use super::*;

    fn write(len: usize, sync: bool) -> Request {
        let data = vec![Bytes::from(vec![0; len - 1]), Bytes::from_static(b"x")];
        Request::Write { file: FileId(1), offset: 0, data, sync }
    }

    const fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_waits_for_nothing_is_quick() {
        let quick = Quick::default();
        assert!(quick.takes(&write(LONGEST, false), at(0)));
        assert!(!quick.takes(&write(LONGEST + 1, false), at(0)));
        assert!(!quick.takes(&write(1, true), at(0)));
        assert!(!quick.takes(&Request::Sync { file: FileId(1) }, at(0)));
    }

    #[test]
    fn a_long_write_makes_a_pause_and_another_a_longer_one() {
        let (mut quick, short) = (Quick::default(), write(1, false));
        quick.took(at(0), at(9));
        assert!(quick.takes(&short, at(9)));
        let mut now = at(20);
        for pause in [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000] {
            quick.took(now - LONG, now);
            assert!(!quick.takes(&short, now + at(pause - 1)), "{pause}");
            now += at(pause);
            assert!(quick.takes(&short, now), "{pause}");
        }
        now += PAUSE.1 + LONG;
        quick.took(now - LONG, now);
        assert!(quick.takes(&short, now + PAUSE.0), "that was long ago");
    }
}
