//! Files that are removed, and that they stay away: a power cut may bring one back until its folder's names are synced.

use crate::disk::{DiskError, DiskErrorKind, Reply};

/// The files of one folder that are removed.
#[derive(Debug)]
pub(crate) struct Removals {
    /// How many are under way.
    under_way: u32,
    /// Some may be back after a power cut.
    unsure: bool,
    /// The folder's names are being synced.
    asked: bool,
    /// One couldn't be removed, or may be back.
    failed: bool,
}

/// How far removals are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gone {
    /// Some are under way.
    Wait,
    /// The folder's names are to be synced: [`Removals::are_gone`] takes what became of that.
    Ask,
    /// What was removed stays away.
    Sure,
    /// Something is there until the next start, at least.
    No,
}

/// Nobody knows of what was removed before.
impl Default for Removals {
    fn default() -> Self {
        Removals { under_way: 0, unsure: true, asked: false, failed: false }
    }
}

impl Removals {
    /// Notes that a file is removed; `heard` if [`Removals::was_removed`] takes what became of it.
    pub(crate) fn begun(&mut self, heard: bool) {
        self.under_way += u32::from(heard);
        self.unsure = true;
    }

    /// Takes what became of a removal.
    pub(crate) fn was_removed(&mut self, result: &Result<Reply, DiskError>) {
        self.under_way -= 1;
        let gone = result.as_ref().err().is_none_or(|error| error.kind == DiskErrorKind::NotFound);
        self.failed |= !gone;
    }

    /// Takes whether the names of the folder are durable.
    pub(crate) fn are_gone(&mut self, result: &Result<Reply, DiskError>) {
        self.asked = false;
        self.failed |= result.is_err();
    }

    /// Notes that something stays that should be gone.
    pub(crate) fn fails(&mut self) {
        self.failed = true;
    }

    /// Returns whether something stays that should be gone.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// Tells how far they are; after [`Gone::Ask`] they count on the names being synced.
    pub(crate) fn settle(&mut self) -> Gone {
        if self.failed {
            return Gone::No;
        }
        if self.under_way > 0 || self.asked {
            return Gone::Wait;
        }
        self.asked = std::mem::take(&mut self.unsure);
        if self.asked { Gone::Ask } else { Gone::Sure }
    }
}
