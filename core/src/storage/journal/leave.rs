//! Leaving every segment that there is, because what stands in them is not to stand there any longer: in plain text, or sealed with
//! an older key.
//!
//! Whether there is such a thing each file says of itself ([`SegmentHeader::sealed`](super::segment::SegmentHeader::sealed)), and it is
//! looked at whenever a journal is opened: one file that was put back is enough. It says so only if everything that is ever written to it
//! is sealed: where an entry that isn't has to be copied, as nobody has it elsewhere, that goes to a file which doesn't.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::recovery::Found;
use super::{Journal, Phase, Purpose, Seal, Ticket};
use crate::disk::{DiskError, DiskQueue, Reply, Request};
use crate::planted::{self, Bug};
use crate::storage::OwnerId;
use crate::storage::removals::{Gone, Removals};
use crate::storage::vault;
use crate::storage::volume::SEALED;

/// What is to be left, and who can't help with it.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// There is something to be left.
    wanted: bool,
    /// With which epoch all is sealed in the segments that are begun from now on; zero if not all may be.
    sealed: u32,
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
    /// Looks at the files that were found, those apart of which it isn't known whether they were ever begun and that don't count.
    pub(super) fn look_at<'a>(&mut self, seal: Option<&Seal>, files: impl IntoIterator<Item = &'a Found>) {
        let Some(seal) = seal else { return };
        let mut files = files.into_iter();
        self.wanted = match planted::bug(Bug::JournalSealOfNewest) {
            true => files.last().is_some_and(|found| found.sealed != Some(seal.epoch)),
            false => files.any(|found| found.sealed != Some(seal.epoch)),
        };
        // What recovery writes again is of those files.
        self.sealed = if self.wanted { 0 } else { seal.epoch };
    }

    /// Returns whether there is something to be left.
    pub(super) fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Returns with which epoch all is sealed in a segment that is begun now; zero if not all may be.
    pub(super) fn sealed(&self) -> u32 {
        self.sealed
    }

    /// Returns for what a file is removed.
    pub(super) fn removes(&mut self) -> Ticket {
        if !self.wanted || self.left {
            return Ticket::ignored();
        }
        self.removals.begun(true);
        Ticket(Purpose::Remove)
    }

    /// Notes that an entry is copied out of a segment that is to be left. One that isn't sealed as it is to be goes to no file that says
    /// so of itself, and the next start leaves that, too. Returns whether another has to be begun for it.
    pub(super) fn copies(&mut self, seal: Option<&Seal>, kind: u8, payload: &[u8]) -> bool {
        let Some(seal) = seal else { return false };
        let epoch = vault::epoch_of(payload).filter(|_| kind & SEALED != 0).unwrap_or_default();
        if epoch != 0 && !seal.older.contains(&epoch) {
            return false;
        }
        // Nobody has it elsewhere, and it isn't to be lost.
        self.removals.fails();
        let vouched = !planted::bug(Bug::JournalCopiesVouched) && self.sealed != 0;
        if vouched {
            self.sealed = 0;
        }
        vouched
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
        self.leaving.sealed = self.config.seal.as_ref().map_or(0, |seal| seal.epoch);
        self.writer.start_afresh();
        self.write_something();
    }

    /// Returns whether something was found that isn't sealed as it is to be ([`Config::seal`](super::Config::seal)); not before
    /// recovery is done. It may be gone by now.
    pub fn found_unsealed(&self) -> bool {
        self.leaving.wanted
    }

    /// Returns whether nothing is left of it, nor comes back after a power cut.
    pub fn has_left(&self) -> bool {
        self.phase == Phase::Running && (self.leaving.left || !self.leaving.wanted)
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
