//! Gets the next segment ready ahead of time: its file, its space and its name, all durable before it is written to.
//!
//! One segment is always prepared, so that a full disk is met while there is still room for what is under way, and so
//! that starting a segment costs nothing but the header that goes with its first batch.
//!
//! Invariant: a number is used for one file only, also when preparing it failed, so that no two segments of one number
//! can ever be found.

use super::Ticket;
use super::segment::file_name;
use crate::disk::{DiskError, DiskErrorKind, DiskQueue, FileId, FilePath, OpenMode, Reply, Request};
use crate::storage::SPACE_RETRY;
use crate::time::Instant;

/// A file that no segment that counts stands in.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    pub file: FileId,
    pub path: FilePath,
    /// How much space it has, at least, in bytes.
    pub size: u32,
}

/// A segment that can be written to.
#[derive(Clone, Debug)]
pub(super) struct Prepared {
    pub number: u64,
    pub file: FileId,
    pub path: FilePath,
    /// How much space it has, in bytes.
    pub size: u32,
}

/// What a preparation waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Open,
    Preallocate,
    Rename,
    SyncDirectory,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waits(Step),
    /// No space; tried again then.
    Full(Instant),
    Ready,
}

/// What came of a step.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Nothing to tell.
    None,
    /// There is no space; it goes on trying.
    Full,
    /// It failed again and again.
    Failed(DiskError),
}

/// Prepares one segment at a time.
#[derive(Debug)]
pub(super) struct Preparer {
    directory: FilePath,
    /// How long the next is to be, in bytes.
    size: u32,
    /// How long the file is by now that is prepared.
    has: u32,
    state: State,
    next_number: u64,
    number: u64,
    file: FileId,
    path: FilePath,
    failures: u32,
}

/// How often another file is tried after a failure.
const ATTEMPTS: u32 = 3;

impl Preparer {
    /// Makes one for segments of `size` bytes at first, numbered from `next_number`.
    pub(super) fn new(directory: FilePath, size: u32, next_number: u64) -> Self {
        let path = directory.clone();
        let (state, file) = (State::Idle, FileId(0));
        Preparer { directory, size, has: 0, state, next_number, number: 0, file, path, failures: 0 }
    }

    /// Returns how long the next segment is to be.
    pub(super) fn size(&self) -> u32 {
        self.size
    }

    /// Says how long the next segments are to be, in bytes.
    pub(super) fn set_size(&mut self, size: u32) {
        self.size = size;
    }

    /// Returns whether nothing is prepared or being prepared.
    pub(super) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Returns whether it waits for space.
    pub(super) fn is_full(&self) -> bool {
        matches!(self.state, State::Full(_))
    }

    /// Starts on the next segment, in the file of `spare` or a new one.
    pub(super) fn start<O: From<Ticket>>(&mut self, spare: Option<Spare>, disk: &mut DiskQueue<O>) {
        debug_assert!(self.is_idle(), "one at a time");
        self.number = self.next_number;
        self.next_number += 1;
        self.path = self.directory.join(&file_name(self.number));
        let step = match spare {
            Some(spare) => {
                (self.file, self.has) = (spare.file, spare.size);
                let to = self.path.clone();
                self.submit(Step::Rename, Request::Rename { from: spare.path, to }, disk)
            }
            None => {
                (self.file, self.has) = (disk.file(), 0);
                let (file, path) = (self.file, self.path.clone());
                self.submit(Step::Open, Request::Open { file, path, mode: OpenMode::CreateNew }, disk)
            }
        };
        self.state = step;
    }

    fn submit<O: From<Ticket>>(&self, step: Step, request: Request, disk: &mut DiskQueue<O>) -> State {
        disk.submit(Ticket::prepare(step).into(), request);
        State::Waits(step)
    }

    /// Takes what became of a step.
    pub(super) fn handle_disk<O: From<Ticket>>(
        &mut self,
        now: Instant,
        step: Step,
        result: Result<Reply, DiskError>,
        disk: &mut DiskQueue<O>,
    ) -> Outcome {
        debug_assert_eq!(self.state, State::Waits(step), "one step at a time");
        match (step, result) {
            (Step::Open, Ok(_)) => self.state = self.preallocate(disk),
            (Step::Rename, Ok(_)) if self.has < self.size => self.state = self.preallocate(disk),
            (Step::Preallocate | Step::Rename, Ok(_)) => {
                self.has = self.has.max(self.size);
                let path = self.directory.clone();
                self.state = self.submit(Step::SyncDirectory, Request::SyncDirectory { path }, disk);
            }
            (Step::SyncDirectory, Ok(_)) => {
                self.failures = 0;
                self.state = State::Ready;
            }
            (Step::Preallocate, Err(error)) if error.kind == DiskErrorKind::Full => {
                self.state = State::Full(now + SPACE_RETRY);
                return Outcome::Full;
            }
            (_, Err(error)) => return self.give_up_file(step, error, disk),
        }
        Outcome::None
    }

    /// Leaves the file and its number for good and takes a new one: after a failure nothing is known of them.
    fn give_up_file<O: From<Ticket>>(
        &mut self,
        step: Step,
        error: DiskError,
        disk: &mut DiskQueue<O>,
    ) -> Outcome {
        self.failures += 1;
        if step != Step::Open {
            disk.submit(Ticket::ignored().into(), Request::Close { file: self.file });
        }
        self.state = State::Idle;
        if self.failures >= ATTEMPTS {
            return Outcome::Failed(error);
        }
        self.start(None, disk);
        Outcome::None
    }

    fn preallocate<O: From<Ticket>>(&self, disk: &mut DiskQueue<O>) -> State {
        self.submit(
            Step::Preallocate,
            Request::Preallocate { file: self.file, len: u64::from(self.size) },
            disk,
        )
    }

    /// Tries again if it is time.
    pub(super) fn handle_timeout<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) {
        if matches!(self.state, State::Full(due) if due <= now) {
            self.state = self.preallocate(disk);
        }
    }

    /// Returns when it wants to try again.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Full(due) => Some(due),
            _ => None,
        }
    }

    /// Takes the prepared segment, if it is ready.
    pub(super) fn take(&mut self) -> Option<Prepared> {
        if self.state != State::Ready {
            return None;
        }
        self.state = State::Idle;
        Some(Prepared { number: self.number, file: self.file, path: self.path.clone(), size: self.has })
    }
}
