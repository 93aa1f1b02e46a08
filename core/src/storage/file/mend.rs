//! A block whose sync failed is written to another file, which takes its place.
//!
//! After a failed sync the disk may have dropped what it should have kept, and says of a later one that it is done: what a read
//! returns may be in memory only. But the bytes that come back can be known: every record has its checksum, its place and its
//! sequence, and the last mark says how far they go. So the block is read, walked, and where it is what was written, written as a
//! whole to another file, which is synced and then has its name ([`Request::Replace`]). Nothing else is written meanwhile; what
//! comes waits in memory, and the journal has it.
//!
//! Where it isn't what was written, or the disk goes on refusing, it is tried again, later each time, and given up after a while:
//! the next start cuts the block where it is good, and has the rest from the journal.

use super::super::SPACE_RETRY;
use super::super::block::walk::{At, Visitor, walk};
use super::super::block::{Context, Record};
use super::api::{Event, StoreDisk};
use super::blocks::{BlockFiles, Work, block_path};
use super::durable::{Stage, Target};
use crate::disk::{DiskError, DiskErrorKind, FileId, OpenMode, Reply, Request};
use crate::planted::{self, Bug};
use crate::time::Instant;

/// How often it is tried where the disk has space.
const TRIES: u32 = 8;

/// How far a block is on its way to another file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What is being written is waited for, or the time to try again.
    Waiting,
    Reading,
    Replacing,
    Opening(FileId),
}

/// The oldest tail on its way to another file.
#[derive(Debug)]
pub(super) struct Mend {
    /// What was to be durable.
    target: Target,
    step: Step,
    tries: u32,
    due: Option<Instant>,
}

impl BlockFiles {
    /// The oldest tail, or its name, can't be synced.
    pub(super) fn sync_failed(&mut self, error: DiskError, disk: &mut impl StoreDisk) {
        let helps = matches!(error.kind, DiskErrorKind::SyncFailed | DiskErrorKind::Io);
        let (Stage::Syncing(target) | Stage::Naming(target)) = self.stage else {
            return self.fail(error.into());
        };
        if !helps || planted::bug(Bug::StoreFailsWhenFull) {
            return self.fail(error.into());
        }
        self.events.push_back(Event::Refused(error));
        if planted::bug(Bug::StoreSyncsAgain) {
            self.stage = Stage::Idle;
            return self.go_on(disk);
        }
        self.stage = Stage::Mending;
        self.mend = Some(Mend { target, step: Step::Waiting, tries: 0, due: None });
        self.mend_on(disk);
    }

    /// Begins to read the block, when nothing is being written to it and it is time.
    pub(super) fn mend_on(&mut self, disk: &mut impl StoreDisk) {
        let (Some(mend), Some(front)) = (&mut self.mend, self.tails.front()) else { return };
        if mend.step != Step::Waiting || mend.due.is_some() || front.writing.is_some() {
            return;
        }
        mend.step = Step::Reading;
        let path = block_path(&self.config.directory, front.place.block());
        let limit = front.start as usize;
        self.submit(Work::Mend, Request::ReadFile { path, limit }, disk);
    }

    /// Returns when a block is tried again.
    pub(super) fn mend_due(&self) -> Option<Instant> {
        self.mend.as_ref().and_then(|mend| mend.due).filter(|_| !self.failed)
    }

    /// Tries again, if it is time.
    pub(super) fn mend_again(&mut self, now: Instant, disk: &mut impl StoreDisk) {
        if self.mend.as_mut().is_some_and(|mend| mend.due.take_if(|due| *due <= now).is_some()) {
            self.mend_on(disk);
        }
    }

    pub(super) fn mend_step(
        &mut self,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut impl StoreDisk,
    ) {
        let (Some(mend), Some(front)) = (&self.mend, self.tails.front()) else { return };
        let path = block_path(&self.config.directory, front.place.block());
        let (step, request) = match (mend.step, result) {
            (Step::Reading, Ok(Reply::Read(bytes))) if self.is_as_written(&bytes) => {
                (Step::Replacing, Request::Replace { path, data: vec![bytes] })
            }
            (Step::Replacing, Ok(_)) => {
                let file = disk.file();
                (Step::Opening(file), Request::Open { file, path, mode: OpenMode::ReadWrite })
            }
            (Step::Opening(file), Ok(_)) => return self.mended(file, disk),
            (_, Ok(_)) => {
                let (kind, path) = (DiskErrorKind::Io, path.to_string());
                let message = "what was written before a sync failed doesn't come back".to_owned();
                return self.not_mended(DiskError { kind, path, message }, now);
            }
            (_, Err(error)) => return self.not_mended(error, now),
        };
        if let Some(mend) = &mut self.mend {
            mend.step = step;
        }
        self.submit(Work::Mend, request, disk);
    }

    fn not_mended(&mut self, error: DiskError, now: Instant) {
        let Some(mend) = &mut self.mend else { return };
        // Space takes as long as it takes.
        mend.tries += u32::from(error.kind != DiskErrorKind::Full);
        if mend.tries >= TRIES {
            return self.fail(error.into());
        }
        (mend.step, mend.due) = (Step::Waiting, Some(now + SPACE_RETRY * (1 << mend.tries)));
    }

    /// All of the block is durable, with its name, in another file.
    fn mended(&mut self, file: FileId, disk: &mut impl StoreDisk) {
        let (Some(mend), Some(front)) = (self.mend.take(), self.tails.front_mut()) else { return };
        (front.synced, front.named) = (front.start, true);
        let old = front.file.replace(file);
        self.retire_file(old, disk);
        self.record(mend.target, disk);
    }

    /// Returns whether bytes are all that was written of the oldest tail.
    fn is_as_written(&self, bytes: &[u8]) -> bool {
        struct Nobody;
        impl Visitor for Nobody {
            fn message(&mut self, _: At, _: &Record<'_>) {}
            fn deleted(&mut self, _: u64, _: u64) {}
            fn skipped(&mut self, _: u64, _: u64) {}
        }
        let Some(front) = self.tails.front().filter(|front| front.start as usize == bytes.len()) else {
            return false;
        };
        let hint = Context { next_sequence: front.first_sequence, base_time: 0 };
        let walked = walk(bytes, front.place, hint, front.start, &self.keys, &mut Nobody);
        walked.is_ok_and(|walked| {
            let whole = walked.header.is_some() && walked.damage.is_empty() && walked.end == front.start;
            let mark = walked.mark.map(|mark| (mark.applied, mark.next_sequence));
            whole && mark == Some((front.marked, front.marked_sequences.0)) && walked.mark_end == front.start
        })
    }
}
