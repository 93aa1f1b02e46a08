//! A journal on its disk, and the way from a crashed disk to what a recovery says.

use natrix_core::disk::{DiskQueue, Submission, Token};
use natrix_core::rng::Rng;
use natrix_core::storage::journal::{Config, Journal, Ticket};
use natrix_core::storage::{OwnerId, Position};
use natrix_core::time::Instant;
use natrix_runtime_sim::disk::SimDisk;

use super::model::{Model, Outcome};
use crate::storage::report::{Promise, Violation};

/// A journal on its disk.
#[derive(Debug)]
pub(super) struct Line {
    pub disk: SimDisk,
    pub journal: Journal,
    pub now: Instant,
    queue: DiskQueue<Ticket>,
}

/// At which operation of a recovery to stop, and on which side of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub operation: u64,
    pub done: bool,
}

impl Line {
    /// Opens the journal that is on `disk`, or a new one.
    pub(super) fn open(
        config: Config,
        rng: Rng,
        disk: SimDisk,
        now: Instant,
        covered: impl Iterator<Item = (OwnerId, Position)>,
    ) -> Line {
        let mut queue = DiskQueue::default();
        let mut journal = Journal::open(config, rng, &mut queue);
        covered.for_each(|(owner, through)| journal.covered(owner, through));
        Line { disk, journal, now, queue }
    }

    /// Hands the disk what the journal wants of it.
    pub(super) fn submit(&mut self, mut see: impl FnMut(&Submission)) {
        while let Some(submission) = self.queue.poll() {
            see(&submission);
            self.disk.submit(self.now, submission);
        }
    }

    /// Hands the journal the next completion; returns which it was and whether it went well.
    pub(super) fn complete(&mut self) -> Option<(Token, bool)> {
        let completion = self.disk.poll_completion(self.now)?;
        let seen = (completion.token, completion.result.is_ok());
        if let Some((ticket, result)) = self.queue.complete(completion) {
            self.journal.handle_disk(self.now, ticket, result, &mut self.queue);
        }
        Some(seen)
    }

    pub(super) fn advance(&mut self) {
        self.journal.advance(self.now, &mut self.queue);
    }

    /// Goes to the time at which the disk or the journal has something to do; `None` if neither ever has. Returns whether
    /// it is the disk.
    pub(super) fn next(&mut self) -> Option<bool> {
        let (disk, journal) = (self.disk.poll_timeout(), self.journal.poll_timeout());
        let due = disk.into_iter().chain(journal).min()?;
        self.now = self.now.max(due);
        Some(disk == Some(due))
    }

    /// Recovers, until the journal is ready or has failed, or to `stop`.
    pub(super) fn recover(
        &mut self,
        model: &Model,
        harmed: bool,
        stop: Option<Stop>,
    ) -> Result<Outcome, Violation> {
        /// More than any recovery of so little takes.
        const PATIENCE: u64 = 20_000;
        let mut outcome = Outcome::default();
        let begun = self.disk.operations();
        for _ in 0..PATIENCE {
            self.advance();
            let mut heard = false;
            while let Some(event) = self.journal.poll_event() {
                outcome.hear(event, model, harmed)?;
                heard = true;
            }
            if heard && outcome.next.is_none() && outcome.failed.is_none() {
                // Recovery goes on when what it told was taken.
                continue;
            }
            self.submit(|_| {});
            let over = outcome.failed.is_some() || (outcome.next.is_some() && stop.is_none());
            if over {
                return Ok(outcome);
            }
            match self.next() {
                None if outcome.next.is_some() => return Ok(outcome),
                None => break,
                Some(false) => continue,
                Some(true) => {}
            }
            if let Some(stop) = stop
                && self.disk.operations() - begun >= stop.operation
            {
                if stop.done {
                    self.disk.take_effect(self.now);
                }
                return Ok(outcome);
            }
            self.complete();
        }
        Err(Violation::new(Promise::Stuck, format!("recovery doesn't end; so far {outcome:?}")))
    }
}
