//! What is due, and when.

use super::{Consumer, Mode, spread};
use crate::jetstream::context::{Context, Interest};
use crate::planted::{Bug, bug};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

/// How many deadlines of one kind one call acts on.
const STEP_DEADLINES: usize = 512;

/// How long a consumer that isn't durable may be unused, if nothing is said.
const DEFAULT_THRESHOLD: Duration = Duration::from_secs(5);

impl Consumer {
    /// Returns when [`Consumer::handle_timeout`] or [`Consumer::poll_entry`] is due.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let mode = match &self.mode {
            Mode::Pull(pull) => {
                pull.waiting.poll_timeout().into_iter().chain(pull.pin.as_ref().map(|pin| pin.expires)).min()
            }
            Mode::Push(push) => push.poll_timeout(),
        };
        let all = [
            self.progress.next_deadline(),
            self.entries.poll_timeout(),
            self.pacing.poll_timeout(),
            self.inactive_at,
            mode,
        ];
        all.into_iter().flatten().min()
    }

    /// Acts on what is due; too early a call does nothing. Many deadlines take several calls.
    pub fn handle_timeout(&mut self, ctx: &mut Context<'_, impl Interest>) {
        self.tend_pacing(ctx);
        for _ in 0..STEP_DEADLINES {
            let Some(sequence) = self.progress.expire(ctx.now.instant) else { break };
            if !bug(Bug::ConsumerNeverRedelivers) {
                self.deliver_again(sequence, ctx);
            }
        }
        self.tend_waiting(STEP_DEADLINES, ctx);
        self.tend_pin(ctx);
        self.tend_push(ctx);
        self.tend_activity(ctx);
        self.finish(ctx);
    }

    /// Lets everything that is pending be delivered again at once.
    pub(super) fn expire_all(&mut self, ctx: &mut Context<'_, impl Interest>) {
        let waiting: Vec<u64> = self.progress.waiting_for_ack().map(|(sequence, _)| sequence).collect();
        for sequence in waiting {
            self.deliver_again(sequence, ctx);
        }
    }

    /// Draws how long it may be unused. Pull consumers get up to a second more, so that not all go at once.
    pub(super) fn set_threshold(&mut self, rng: &mut Rng) {
        let said = self.config.inactive_threshold;
        self.threshold = match (said.is_zero(), self.config.is_durable(), self.config.is_push()) {
            (true, true, _) => Duration::ZERO,
            (true, false, _) => DEFAULT_THRESHOLD + spread(rng),
            (false, _, true) => said,
            (false, _, false) => said + spread(rng),
        };
    }

    /// Sees to it that it is looked whether it is used, if that matters.
    pub(super) fn watch_activity(&mut self, now: Instant) {
        let unused = match &self.mode {
            Mode::Pull(_) => true,
            Mode::Push(push) => !push.is_active(),
        };
        if unused && !self.threshold.is_zero() {
            self.inactive_at = Some(now + self.threshold);
        }
    }

    /// Looks whether it is used, and says so if it isn't.
    fn tend_activity(&mut self, ctx: &mut Context<'_, impl Interest>) {
        let now = ctx.now.instant;
        if self.inactive_at.take_if(|at| *at <= now).is_none() {
            return;
        }
        let last = match &mut self.mode {
            Mode::Push(push) if push.is_active() => return,
            Mode::Push(_) => self.active_at,
            Mode::Pull(_) if now - self.active_at < self.threshold => self.active_at,
            Mode::Pull(pull) => {
                pull.drop_without_interest(ctx);
                // Where as much is pending as may be, those that take only what is there wait for an acknowledgement: long
                // enough by now.
                pull.end_those_that_do_not_wait(ctx);
                if !pull.waiting.is_empty() {
                    self.active_at = now;
                }
                // Somebody may be at work without a word, until the last wait for an acknowledgement ends.
                self.active_at.max(self.progress.last_deadline().unwrap_or(Instant::ZERO))
            }
        };
        let unused_at = last + self.threshold;
        if unused_at <= now {
            self.events.push_back(super::Event::Expired);
        }
        // If it can't be deleted now, it is unused again after a while.
        self.inactive_at = Some(if unused_at <= now { now + self.threshold } else { unused_at });
    }
}
