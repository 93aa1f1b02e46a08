//! A power cut at a chosen request of the disk.

use std::collections::BTreeSet;

use crate::disk::instant::InstantDisk;
use crate::disk::{Request, Submission};
use crate::rng::Rng;

/// How long the disk has power, and what it did meanwhile.
pub(super) struct Power {
    left: usize,
    before: InstantDisk,
    done: Vec<Submission>,
    /// Names that were removed may be back.
    names: bool,
}

impl Power {
    /// Gives the disk, which is this now, power for so many requests.
    pub(super) fn lasting(disk: &InstantDisk, requests: usize) -> Self {
        Power { left: requests, before: disk.clone(), done: Vec::new(), names: false }
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
        self.cut_but(|_| true)
    }

    /// Returns the disk as it is afterwards, with a choice of what wasn't synced: what was written, and what was removed.
    pub(super) fn cut_somehow(self, dice: &mut Rng) -> InstantDisk {
        Power { names: true, ..self }.cut_but(|_| dice.chance(1, 2))
    }

    fn cut_but(self, mut loses: impl FnMut(&Request) -> bool) -> InstantDisk {
        let (mut disk, mut synced, mut lost) = (self.before, BTreeSet::new(), BTreeSet::new());
        let mut named = BTreeSet::new();
        for (at, submission) in self.done.iter().enumerate().rev() {
            let request = &submission.request;
            let unsure = match request {
                Request::Sync { file } => {
                    synced.insert(*file);
                    false
                }
                Request::SyncDirectory { path } => {
                    named.insert(path.clone());
                    false
                }
                Request::Write { file, sync: false, .. } => !synced.contains(file),
                // A name that is there again is no harm to those tests that don't ask for it.
                Request::Remove { path } => !named.contains(&path.parent()) && self.names,
                _ => false,
            };
            if unsure && loses(request) {
                lost.insert(at);
            }
        }
        let kept = self.done.into_iter().enumerate().filter(|(at, _)| !lost.contains(at));
        kept.for_each(|(_, submission)| drop(disk.execute(submission)));
        disk.restart();
        disk
    }
}
