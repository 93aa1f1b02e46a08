//! What is gone from the stream, and a new start.

use super::advisory::Delivery;
use super::{Consumer, Step};
use crate::jetstream::api::consumer_config::DeliverPolicy;
use crate::jetstream::context::{Answer, Context, Interest, Messages};
use crate::planted::{Bug, bug};
use crate::subject::{is_subset_match, subjects_collide};
use crate::time::WallTime;

/// How many pending messages one step looks for in the stream.
const STEP_PENDING: usize = 256;

/// What was purged of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Purge<'a> {
    /// The subjects; empty for all.
    pub subject: &'a [u8],
    /// The first sequence of the stream, afterwards.
    pub first: u64,
    /// The last sequence of the stream.
    pub last: u64,
    /// The first message of these subjects that was kept.
    pub first_of_subject: Option<u64>,
}

/// Why a consumer can't start where it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetError {
    /// Its settings say that it starts later.
    #[error("below start seq")]
    BelowStartSequence,
    /// Its settings say that it starts later.
    #[error("below start time")]
    BelowStartTime,
    /// It starts at a sequence of its own choice.
    #[error("not allowed")]
    NotAllowed,
}

impl Consumer {
    /// Notes that a message that it wants was removed from the stream. Called for each in order, after the ledger removed it.
    pub fn removed(&mut self, sequence: u64, ctx: &mut Context<'_, impl Interest>) {
        self.cursor.removed(sequence);
        match self.progress.pending().contains_key(&sequence) {
            true => self.lose(sequence, true, ctx),
            // What was given up is as good as acknowledged when it goes.
            false if self.progress.forget(sequence) => self.last_ack = Some(ctx.now.wall),
            false => {}
        }
        self.finish(ctx);
    }

    /// Notes that much was removed at once. In place of [`Consumer::removed`] for each; called for every consumer.
    ///
    /// Source: nats-server `server/consumer.go`, `purge`; `server/stream.go`, `purgeLocked`.
    ///
    /// Differs: a consumer of several filters skips what was purged only if all of them are; in the reference one is enough,
    /// and messages of the others are never delivered.
    pub fn purged(&mut self, purge: &Purge<'_>, ctx: &mut Context<'_, impl Interest>) {
        let touched = |filter: &str| subjects_collide(filter.as_bytes(), purge.subject);
        let has_filters = self.config.filters().next().is_some();
        if has_filters && !purge.subject.is_empty() && !self.config.filters().any(touched) {
            return;
        }
        let covered = |filter: &str| is_subset_match(filter.as_bytes(), purge.subject);
        let covers = has_filters && self.config.filters().all(covered);
        let first = match covers && !purge.subject.is_empty() {
            true => purge.first_of_subject.unwrap_or(purge.last + 1),
            false => purge.first,
        };
        if self.started {
            self.cursor.purged(first);
            if self.progress.ack_floor().stream + 1 < first {
                if !self.progress.skip_through(first - 1).is_empty() {
                    self.last_ack = Some(ctx.now.wall);
                }
                if self.progress.pending().is_empty() {
                    self.progress.skip_through(self.cursor.next() - 1);
                }
            }
            self.progress.set_last_only_through(self.cursor.last_only_through());
            if !bug(Bug::ConsumerKeepsPurged) {
                self.recheck = Some(0);
            }
        }
        self.wake();
        self.finish(ctx);
    }

    /// Looks for messages that are gone and aren't acknowledged, some at a time.
    pub(super) fn check_pending(&mut self, now: WallTime, messages: &mut impl Messages) -> Step {
        let Some(mut from) = self.recheck else { return Step::Idle };
        for _ in 0..STEP_PENDING {
            let Some(sequence) = self.progress.next_open(from) else {
                self.recheck = None;
                return Step::Idle;
            };
            let Answer::Ready(there) = messages.ask(|ledger| ledger.locate(sequence)) else {
                return Step::Wait;
            };
            if there.is_none() {
                // As good as acknowledged, also for those who ask when something was acknowledged last.
                if self.progress.settle(sequence).is_some() {
                    self.last_ack = Some(now);
                }
                self.progress.forget(sequence);
            }
            from = sequence + 1;
            self.recheck = Some(from);
        }
        Step::More
    }

    /// Stops waiting for an acknowledgement of a message that is gone.
    pub(super) fn lose(&mut self, sequence: u64, advise: bool, ctx: &mut Context<'_, impl Interest>) {
        let deliveries = self.progress.count(sequence).max(1);
        let was_full = self.is_full();
        let record = self.progress.settle(sequence);
        self.progress.forget(sequence);
        if record.is_some() {
            // As good as acknowledged.
            self.last_ack = Some(ctx.now.wall);
        }
        if let Some(record) = record.filter(|_| advise) {
            let reason = "Unacknowledged message was deleted";
            let delivery =
                Delivery { stream_sequence: sequence, consumer_sequence: record.sequence, deliveries };
            self.advise_terminated(delivery, reason, ctx);
        }
        if was_full {
            self.wake();
        }
    }

    /// Starts anew at the message `sequence`, or for zero behind the ack floor; returns where. What was delivered and not
    /// acknowledged is forgotten. It is durable when [`Consumer::has_started`] says so again.
    ///
    /// Source: nats-server `server/consumer.go`, `resetStartingSeq`.
    pub fn reset(
        &mut self,
        sequence: u64,
        ctx: &mut Context<'_, impl Interest>,
        messages: &mut impl Messages,
    ) -> Answer<Result<u64, ResetError>> {
        let next = match (sequence, self.config.deliver_policy) {
            (0, _) => self.progress.ack_floor().stream + 1,
            (_, DeliverPolicy::All) => sequence,
            (_, DeliverPolicy::ByStartSequence) if sequence < self.config.start_sequence => {
                return Answer::Ready(Err(ResetError::BelowStartSequence));
            }
            (_, DeliverPolicy::ByStartSequence) => sequence,
            (_, DeliverPolicy::ByStartTime) => {
                let time = self.config.start_time.unwrap_or_default();
                let Answer::Ready(first) = messages.ask(|ledger| ledger.sequence_from_time(time)) else {
                    return Answer::Wait;
                };
                if sequence < first {
                    return Answer::Ready(Err(ResetError::BelowStartTime));
                }
                sequence
            }
            _ => return Answer::Ready(Err(ResetError::NotAllowed)),
        };
        self.progress.restart_after(next - 1);
        self.cursor = super::Cursor::behind(next - 1, 0);
        (self.last_delivery, self.last_ack) = (None, None);
        self.entries.start();
        self.wake();
        self.finish(ctx);
        Answer::Ready(Ok(next))
    }
}
