//! What a leader knows of one other member, and how much it may send it.
//!
//! Invariants: `matched < next`; `matched` falls only when the member says that it lost something. A *probe* waits for
//! its answer, or the next heartbeat, before another is sent; a *pipeline* has several messages under way, bounded in
//! number and in bytes; a *snapshot* is sent while the log doesn't go back as far as the member needs.

use std::collections::VecDeque;

use crate::time::Instant;

/// How a member is being sent what it lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Where the logs agree is not known yet.
    Probe {
        /// A probe is under way, with entries through this index.
        waiting: Option<u64>,
    },
    /// Entries follow each other without waiting.
    Pipeline,
    /// A snapshot is on its way.
    Snapshot(Transfer),
}

/// A snapshot on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// What it stands for.
    pub(super) index: u64,
    /// How many bytes the member has.
    pub(super) acked: u64,
    /// How many bytes were sent.
    pub(super) sent: u64,
    /// What `acked` was at the last heartbeat; no progress since means that something was lost.
    pub(super) seen: u64,
    /// How many bytes the member said last that it has: fewer if it began again, or if the answer is an old one.
    pub(super) said: u64,
}

/// What a leader knows of one other member.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// Through where its durable log is the leader's.
    pub(super) matched: u64,
    /// What to send next.
    pub(super) next: u64,
    /// How.
    pub(super) mode: Mode,
    /// When it was heard last in this term.
    pub(super) heard: Option<Instant>,
    /// The latest of the leader's rounds that it answered.
    pub(super) round: u64,
    /// The commit index that it was last told.
    pub(super) told: u64,
    /// The last round of which it said that it sleeps since.
    pub(super) asleep: u64,
    in_flight: VecDeque<(u64, usize)>,
    bytes: usize,
}

/// How much may be under way to one member.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

impl Progress {
    /// Starts with a guess: the member has everything before `next`.
    pub(super) fn new(next: u64) -> Self {
        Progress {
            matched: 0,
            next,
            mode: Mode::Probe { waiting: None },
            heard: None,
            round: 0,
            told: 0,
            asleep: 0,
            in_flight: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Returns whether it has everything through `last`, and was told that `commit` is committed.
    pub(super) fn is_settled(&self, last: u64, commit: u64) -> bool {
        self.mode == Mode::Pipeline
            && self.matched == last
            && self.told >= commit
            && self.in_flight.is_empty()
    }

    /// Returns whether entries may be sent now.
    pub(super) fn may_send(&self, window: Window) -> bool {
        match self.mode {
            Mode::Probe { waiting } => waiting.is_none(),
            Mode::Pipeline => self.in_flight.len() < window.messages && self.bytes < window.bytes,
            Mode::Snapshot(_) => false,
        }
    }

    /// Notes that entries through `last` were sent, or none.
    pub(super) fn sent(&mut self, last: u64, bytes: usize) {
        match &mut self.mode {
            Mode::Probe { waiting } => *waiting = Some(last),
            Mode::Pipeline if last < self.next => {}
            Mode::Pipeline => {
                self.next = last + 1;
                self.in_flight.push_back((last, bytes));
                self.bytes += bytes;
            }
            Mode::Snapshot(_) => {}
        }
    }

    /// Notes that the member has everything through `index`; returns whether that is news.
    pub(super) fn acknowledged(&mut self, index: u64) -> bool {
        while let Some((last, bytes)) = self.in_flight.front().copied().filter(|(last, _)| *last <= index) {
            debug_assert!(last <= index);
            self.in_flight.pop_front();
            self.bytes -= bytes;
        }
        let news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(self.matched + 1);
        match self.mode {
            // A member that took nothing of the probe is full, or has not synced it yet: it is not sent more before the
            // next heartbeat.
            Mode::Probe { waiting } if news || waiting.is_none_or(|last| last <= self.matched) => {
                self.next = self.matched + 1;
                self.mode = Mode::Pipeline;
            }
            Mode::Snapshot(transfer) if self.matched >= transfer.index => self.mode = Mode::Pipeline,
            _ => {}
        }
        news
    }

    /// Notes that the member refused what stands behind `rejected` and asks for `wanted`; returns whether that counts,
    /// or answers something that is settled by now.
    pub(super) fn refused(&mut self, rejected: u64, wanted: u64) -> bool {
        let next = wanted.min(rejected).max(self.matched + 1);
        let counts = match self.mode {
            // The same probe again can wait for the heartbeat, or doubled answers would multiply.
            Mode::Probe { .. } => rejected + 1 == self.next && next < self.next,
            // What it asks for it has got since, or else this is not an old answer.
            Mode::Pipeline => rejected >= self.matched && rejected < self.next && wanted > self.matched,
            Mode::Snapshot(_) => false,
        };
        if counts {
            self.probe(next);
        }
        counts
    }

    /// Starts to look for where the logs agree, from `next` on.
    pub(super) fn probe(&mut self, next: u64) {
        self.next = next.max(1);
        self.mode = Mode::Probe { waiting: None };
        self.in_flight.clear();
        self.bytes = 0;
    }

    /// Forgets what the member had acknowledged: it says that it may have lost it.
    pub(super) fn lost(&mut self, next: u64) {
        self.matched = 0;
        self.probe(next);
    }

    /// Starts to send the snapshot that stands for `index`.
    pub(super) fn transfer(&mut self, index: u64) {
        self.in_flight.clear();
        self.bytes = 0;
        self.mode = Mode::Snapshot(Transfer { index, acked: 0, sent: 0, seen: 0, said: 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Window = Window { messages: 2, bytes: 100 };

    #[test]
    fn a_probe_waits_and_a_pipeline_is_bounded() {
        let mut progress = Progress::new(5);
        assert!(progress.may_send(WINDOW));
        progress.sent(5, 10);
        assert!(!progress.may_send(WINDOW), "one probe at a time");
        assert!(progress.acknowledged(5));
        assert_eq!((progress.matched, progress.next), (5, 6));
        progress.sent(6, 10);
        progress.sent(7, 10);
        assert!(!progress.may_send(WINDOW), "two messages are the most");
        assert!(progress.acknowledged(6) && progress.may_send(WINDOW));
        progress.sent(8, 200);
        progress.acknowledged(7);
        assert!(!progress.may_send(WINDOW), "the bytes count too");
        assert!(!progress.acknowledged(3), "old news");
        assert_eq!((progress.matched, progress.next), (7, 9));
    }

    #[test]
    fn a_full_member_is_not_sent_more() {
        let mut progress = Progress::new(5);
        progress.sent(9, 10);
        assert!(progress.acknowledged(4) && progress.may_send(WINDOW), "the logs agree");
        progress.probe(5);
        progress.sent(9, 10);
        assert!(!progress.acknowledged(4) && !progress.may_send(WINDOW), "nothing of the probe was taken");
        assert!(progress.acknowledged(7) && progress.may_send(WINDOW));
    }

    #[test]
    fn a_refusal_counts_once() {
        let mut progress = Progress::new(9);
        assert!(progress.refused(8, 4));
        assert_eq!(progress.next, 4);
        assert!(!progress.refused(8, 2), "the answer to a probe that is settled");
        progress.acknowledged(3);
        progress.sent(4, 1);
        assert!(!progress.refused(3, 3), "it has that by now");
        progress.sent(5, 1);
        progress.sent(7, 1);
        assert!(progress.refused(5, 4), "a message was lost on the way");
        assert_eq!((progress.next, &progress.mode), (4, &Mode::Probe { waiting: None }));
        assert!(!progress.refused(7, 4));
    }

    #[test]
    fn what_was_acknowledged_falls_only_when_it_was_lost() {
        let mut progress = Progress::new(1);
        progress.acknowledged(9);
        assert!(!progress.refused(3, 1));
        progress.sent(10, 1);
        assert!(!progress.refused(9, 2));
        assert_eq!((progress.matched, progress.next), (9, 11));
        progress.lost(2);
        assert_eq!((progress.matched, progress.next), (0, 2));
    }
}
