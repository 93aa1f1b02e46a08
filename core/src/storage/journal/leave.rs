//! Leaving every segment that there is, because what stands in them is not to stand there any longer: in plain text, or sealed with
//! an older key.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::{Journal, Phase, Purpose, Ticket};
use crate::disk::{DiskError, DiskQueue, Reply, Request};
use crate::storage::OwnerId;
use crate::storage::removals::{Gone, Removals};

/// What is to be left, and who can't help with it.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Segments below this number are let go as soon as their owners have what is in them elsewhere.
    below: u64,
    /// Owners that nobody can ask to cover: their entries are copied, as they are.
    absent: BTreeSet<OwnerId>,
    /// The files that are removed and may have something of it.
    removals: Removals,
    /// They are gone for good, and nothing else of it is left.
    left: bool,
}

impl Leaving {
    /// Returns for what a file is removed; `reuse` if files of earlier lives have nothing that is to be left.
    pub(super) fn removes(&mut self, reuse: bool) -> Ticket {
        if reuse || self.left {
            return Ticket::ignored();
        }
        self.removals.begun(true);
        Ticket(Purpose::Remove)
    }

    /// Notes that something that is to be left stays for this life.
    pub(super) fn stays(&mut self) {
        self.removals.fails();
    }

    /// Returns whether a segment is to be left.
    pub(super) fn leaves(&self, number: u64) -> bool {
        number < self.below
    }

    /// Returns whether nobody can ask this owner to cover.
    pub(super) fn is_absent(&self, owner: OwnerId) -> bool {
        self.absent.contains(&owner)
    }
}

impl Journal {
    /// Has everything that recovery found leave the journal, into the files of those whose it is; whoever is asked to cover has to
    /// write his files anew for it.
    pub(super) fn leave_behind(&mut self) {
        let Some(newest) = self.segments.chain().back().filter(|_| self.phase == Phase::Running) else {
            return;
        };
        self.leaving.below = newest.number + 1;
        self.writer.start_afresh();
        self.write_something();
    }

    /// Returns whether nothing is left of what the journal had when it was opened to leave it ([`Config::reuse`](super::Config::reuse)), nor
    /// comes back after a power cut.
    pub fn has_left(&self) -> bool {
        self.leaving.left
    }

    /// Returns whether something of it stays, until the next start at least.
    pub fn cannot_leave(&self) -> bool {
        self.leaving.removals.has_failed()
    }

    /// Takes what became of a file that was removed.
    pub(super) fn was_removed(&mut self, result: &Result<Reply, DiskError>) {
        self.leaving.removals.was_removed(result);
    }

    /// Takes whether files that were removed are durably gone.
    pub(super) fn are_gone(&mut self, result: &Result<Reply, DiskError>) {
        self.leaving.removals.are_gone(result);
    }

    /// Makes it durable that the files are gone that are left.
    fn make_sure<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        let front = self.segments.chain().front();
        let stands = front.is_none_or(|segment| self.leaving.leaves(segment.number));
        if self.leaving.below == 0 || stands || self.leaving.left {
            return;
        }
        match self.leaving.removals.settle() {
            Gone::Sure => self.leaving.left = true,
            Gone::Ask => {
                let path = self.config.directory.clone();
                disk.submit(Ticket(Purpose::Gone).into(), Request::SyncDirectory { path });
            }
            Gone::Wait | Gone::No => {}
        }
    }

    /// Notes that nobody can ask this owner to cover: what it has is copied, however much it is.
    pub fn cannot_cover(&mut self, owner: OwnerId) {
        self.leaving.absent.insert(owner);
    }

    /// Says on disk which segments don't count any more, if nobody else has something to write.
    pub(super) fn let_go_of_left<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        self.make_sure(disk);
        let front = self.segments.chain().front().map(|segment| segment.number);
        let stays = front.is_none_or(|number| !self.leaving.leaves(number));
        if !stays && front.is_some_and(|number| number < self.segments.oldest()) {
            self.write_something();
        }
    }

    /// Writes a batch without entries, unless another is on its way: it says what one with entries does.
    pub(super) fn write_something(&mut self) {
        if self.writer.is_quiet() && self.filling.is_empty() {
            let first = self.filling.next();
            self.enqueue(Batch { first, ..Batch::default() });
        }
    }
}
