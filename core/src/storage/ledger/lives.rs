//! The messages that have a time to live of their own.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::collections::TimeHashWheel;
use crate::time::{Duration, WallTime};

/// The time to live, in seconds, of a message that outlives its stream's age limit.
///
/// Source: nats-server `server/stream.go`, `getMessageTTL`: `Nats-TTL: never`.
pub const NEVER_EXPIRES: u64 = u64::MAX;

/// When messages are due that have a time to live of their own.
///
/// The wheel alone wouldn't do: a sequence that is cut off is used again, and its deadline must go with it.
/// Invariant: the wheel has the deadlines in `deadlines` while it is armed, and none while it isn't.
#[derive(Clone, Debug, Default)]
pub(super) struct Lives {
    /// `None` for ever.
    deadlines: BTreeMap<u64, Option<WallTime>>,
    wheel: TimeHashWheel,
    armed: bool,
}

impl Lives {
    pub(super) fn new(armed: bool) -> Self {
        Lives { armed, ..Lives::default() }
    }

    /// Notes the time to live of a message; zero for none.
    pub(super) fn add(&mut self, sequence: u64, time: WallTime, ttl: u64) {
        if ttl == 0 {
            return;
        }
        let deadline = (ttl != NEVER_EXPIRES).then(|| time + Duration::from_secs(ttl));
        self.deadlines.insert(sequence, deadline);
        if let (Some(deadline), true) = (deadline, self.armed) {
            self.wheel.add(sequence, deadline);
        }
    }

    pub(super) fn remove(&mut self, sequence: u64) {
        if let Some(Some(deadline)) = self.deadlines.remove(&sequence)
            && self.armed
        {
            let _ = self.wheel.remove(sequence, deadline);
        }
    }

    pub(super) fn remove_all(&mut self, sequences: Range<u64>) {
        while let Some(sequence) =
            self.deadlines.range(sequences.clone()).next().map(|(sequence, _)| *sequence)
        {
            self.remove(sequence);
        }
    }

    /// Says whether deadlines count.
    pub(super) fn arm(&mut self, armed: bool) {
        if self.armed == armed {
            return;
        }
        self.armed = armed;
        self.wheel = TimeHashWheel::default();
        if armed {
            for (sequence, deadline) in &self.deadlines {
                deadline.iter().for_each(|deadline| self.wheel.add(*sequence, *deadline));
            }
        }
    }

    /// Tells whether a message outlives the stream's age limit.
    pub(super) fn for_ever(&self, sequence: u64) -> bool {
        matches!(self.deadlines.get(&sequence), Some(None))
    }

    /// Appends up to `max` sequences that are due at `now`. They stay due until they are removed.
    pub(super) fn due(&mut self, now: WallTime, max: usize, due: &mut Vec<u64>) {
        let from = due.len();
        self.wheel.expire(now, |deadline| {
            due.push(deadline.sequence);
            false
        });
        // The lowest first: what comes later in a subject isn't the last of it while something before it is there.
        due[from..].sort_unstable();
        due.truncate(from.saturating_add(max));
    }

    /// Returns when the next is due at the earliest.
    pub(super) fn next(&self) -> Option<WallTime> {
        self.wheel.next(WallTime::from_unix_nanos(i64::MAX))
    }
}
