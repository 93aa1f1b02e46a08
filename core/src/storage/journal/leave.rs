//! Leaving every segment that there is, because what stands in them is not to stand there any longer: in plain text, or sealed with
//! an older key.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::{Journal, Phase};
use crate::storage::OwnerId;

/// What is to be left, and who can't help with it.
#[derive(Debug, Default)]
pub(super) struct Leaving {
    /// Segments below this number are let go as soon as their owners have what is in them elsewhere.
    below: u64,
    /// Owners that nobody can ask to cover: their entries are copied, as they are.
    absent: BTreeSet<OwnerId>,
}

impl Leaving {
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
    /// Has everything that the journal holds now leave it, into the files of those whose it is; whoever is asked to cover has to
    /// write his files anew for it.
    pub fn leave_behind(&mut self) {
        let Some(newest) = self.segments.chain().back().filter(|_| self.phase == Phase::Running) else {
            return;
        };
        self.leaving.below = newest.number + 1;
        self.writer.start_afresh();
        self.write_something();
    }

    /// Returns whether nothing is left of what [`Journal::leave_behind`] was called for.
    pub fn has_left(&self) -> bool {
        self.segments.chain().front().is_none_or(|segment| !self.leaving.leaves(segment.number))
    }

    /// Notes that nobody can ask this owner to cover: what it has is copied, however much it is.
    pub fn cannot_cover(&mut self, owner: OwnerId) {
        self.leaving.absent.insert(owner);
    }

    /// Says on disk which segments don't count any more, if nobody else has something to write.
    pub(super) fn let_go_of_left(&mut self) {
        let front = self.segments.chain().front().map(|segment| segment.number);
        let stays = front.is_none_or(|number| !self.leaving.leaves(number));
        if !stays && front.is_some_and(|number| number < self.segments.oldest()) {
            self.write_something();
        }
    }

    fn write_something(&mut self) {
        if self.writer.is_quiet() && self.filling.is_empty() {
            let first = self.filling.next();
            self.enqueue(Batch { first, ..Batch::default() });
        }
    }
}
