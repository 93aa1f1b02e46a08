//! Messages whose time is over: which of them go, where a marker is left, and when to look again.
//!
//! The ledger says what is due; removing it is a change like any other, proposed with its sequences, so that every replica
//! removes the same. One proposal is in flight at a time: what is due stays due until it is applied, so nothing is lost
//! with a proposal, and nothing is proposed twice.

use bytes::Bytes;

use super::super::context::{Answer, Context, Messages};
use super::super::marker::{delete_marker, is_delete_marker};
use super::Stream;
use super::flight::Flight;
use super::publish::{Plan, Rollup, Stop, ask};
use crate::storage::change::Change;
use crate::storage::ledger::Due;
use crate::time::{Duration, Instant, Now, WallTime};

/// How many messages go in one change.
const BATCH: usize = 512;

/// A wall clock that jumps is noticed after this long.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// When to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Now: the ledger says what is due, or when.
    Now,
    /// When the clock says so, or never.
    At(Option<Instant>),
    /// When what is in flight is applied.
    Applied,
}

impl Stream {
    /// Notes that a message was stored: with an age limit it is due some time, and nothing may have been before; with a time
    /// to live of its own it may be due before everything else.
    pub(super) fn note_stored(&mut self, has_ttl: bool) {
        let sooner = self.look == Look::At(None) || (has_ttl && matches!(self.look, Look::At(_)));
        if sooner && self.settings.expires() {
            self.look = Look::Now;
        }
    }

    /// Looks for what is due, and proposes its removal.
    pub(super) fn expire<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
    ) -> Result<(), Stop> {
        match self.look {
            Look::Now => {}
            // From here on it's the disk that is waited for, should it have to be, and not the clock.
            Look::At(Some(at)) if at <= context.now.instant => self.look = Look::Now,
            _ => return Ok(()),
        }
        if !self.settings.expires() {
            self.look = Look::At(None);
            return Ok(());
        }
        let now = context.now.wall;
        let due = ask(messages, |ledger| ledger.due(now, BATCH))?;
        if due == Due::default() {
            let next = ask(messages, |ledger| ledger.next_due())?;
            self.look = Look::At(next.map(|next| instant_of(next, context.now)));
            return Ok(());
        }
        let (gone, markers) = self.sort_due(messages, due)?;
        self.look = Look::Applied;
        if !gone.is_empty() {
            let change = Change::Expire { sequences: gone.clone() };
            self.propose(Flight::Expire(gone), change);
        }
        for subject in markers {
            self.propose_marker(subject, now);
        }
        if self.head.is_empty() {
            // What is due is held back by nothing that is in flight: it can't be, but must not be the end of it either.
            self.look = Look::At(Some(context.now.instant + LONGEST_SLEEP));
        }
        Ok(())
    }

    /// Tells markers, which go, from messages that a marker takes the place of. Both are left alone for which something is
    /// in flight: what is due is asked again when that is applied.
    fn sort_due(&mut self, messages: &mut impl Messages, due: Due) -> Result<(Vec<u64>, Vec<Bytes>), Stop> {
        let mut gone = due.expired;
        gone.retain(|sequence| !self.head.is_leaving(*sequence));
        let mut markers = Vec::new();
        for sequence in due.last {
            if self.head.is_leaving(sequence) {
                continue;
            }
            let Answer::Ready(message) = messages.load(sequence) else { return Err(Stop::Disk) };
            match message {
                Some(message) if self.head.has_pending(&message.subject) => {}
                Some(message) if !is_delete_marker(&message.headers) => markers.push(message.subject),
                // One that can't be read any more can't be replaced either.
                _ => gone.push(sequence),
            }
        }
        gone.sort_unstable();
        Ok((gone, markers))
    }

    fn propose_marker(&mut self, subject: Bytes, now: WallTime) {
        let marker = delete_marker(subject, self.settings.store.subject_delete_marker_ttl, now);
        let plan = Plan {
            subject: marker.subject,
            headers: marker.headers,
            ttl: marker.ttl,
            rollup: Some(Rollup::Subject),
            ..Plan::default()
        };
        self.carry_out(now, plan, Bytes::new(), Bytes::new());
    }
}

/// Returns when the monotonic clock will be where the wall clock is to be.
pub(super) fn instant_of(wall: WallTime, now: Now) -> Instant {
    now.instant + wall.since(now.wall).min(LONGEST_SLEEP)
}
