//! A power cut at a chosen request of the disk.

use std::collections::BTreeSet;

use crate::disk::instant::InstantDisk;
use crate::disk::{Request, Submission};

/// How long the disk has power, and what it did meanwhile.
pub(super) struct Power {
    left: usize,
    before: InstantDisk,
    done: Vec<Submission>,
}

impl Power {
    /// Gives the disk, which is this now, power for so many requests.
    pub(super) fn lasting(disk: &InstantDisk, requests: usize) -> Self {
        Power { left: requests, before: disk.clone(), done: Vec::new() }
    }

    /// Tells whether the disk still does this.
    pub(super) fn lasts(&mut self, submission: &Submission) -> bool {
        let lasts = self.left > 0;
        if lasts {
            self.left -= 1;
            let Submission { token, request } = submission;
            self.done.push(Submission { token: *token, request: request.clone() });
        }
        lasts
    }

    /// Returns how many requests the disk has done.
    pub(super) fn requests(&self) -> usize {
        self.done.len()
    }

    /// Returns the disk as it is afterwards: without what was written and not synced.
    pub(super) fn cut(self) -> InstantDisk {
        let (mut disk, mut synced, mut lost) = (self.before, BTreeSet::new(), BTreeSet::new());
        for (at, submission) in self.done.iter().enumerate().rev() {
            match &submission.request {
                Request::Sync { file } => drop(synced.insert(*file)),
                Request::Write { file, sync: false, .. } if !synced.contains(file) => drop(lost.insert(at)),
                _ => {}
            }
        }
        let kept = self.done.into_iter().enumerate().filter(|(at, _)| !lost.contains(at));
        kept.for_each(|(_, submission)| drop(disk.execute(submission)));
        disk.restart();
        disk
    }
}
