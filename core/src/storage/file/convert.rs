//! How far a stream's files are sealed with the newest key, and that what wasn't is gone for good.

use super::api::StoreDisk;
use super::blocks::{BlockFiles, Work};
use crate::disk::Request;
use crate::storage::removals::Gone;

/// How far files are sealed with the newest key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conversion {
    /// Some are to be written anew, or removed.
    UnderWay,
    /// All of them are.
    Done,
    /// Some stay as they are until the next start, at least: they are damaged, or the disk refused something.
    Kept,
}

impl BlockFiles {
    /// Sees to it that what was removed stays away after a power cut, and tells whether it does.
    pub(super) fn make_sure(&mut self, disk: &mut impl StoreDisk) -> Conversion {
        match self.removals.settle() {
            Gone::Sure => return Conversion::Done,
            Gone::No => return Conversion::Kept,
            Gone::Wait => {}
            Gone::Ask => {
                let path = self.config.directory.clone();
                self.submit(Work::Gone, Request::SyncDirectory { path }, disk);
            }
        }
        Conversion::UnderWay
    }

    /// Notes that there is a file of which nothing is known.
    pub(super) fn found_stranger(&mut self) {
        self.removals.fails();
    }

    /// Returns whether all files that recovery found are sealed with the newest key.
    pub(super) fn is_found_sealed(&self) -> bool {
        !self.unsealed && self.old_keys().next().is_none()
    }

    /// Tells how far blocks are sealed with the newest key; `idle` if none is waiting to be written anew.
    pub(super) fn conversion(&self, idle: bool) -> Conversion {
        let mut left = self.old_keys().peekable();
        if left.peek().is_none() {
            return Conversion::Done;
        }
        let goes = |block: u32| self.dropping.contains_key(&block);
        let waits = !idle || self.is_rewriting();
        match self.failed || !waits && left.all(|block| !goes(block)) {
            true => Conversion::Kept,
            false => Conversion::UnderWay,
        }
    }
}
