//! Removing a stream's folder, in bounded steps, from wherever the last attempt got to.
//!
//! Nothing in the folder says how far that is: it is listed, what is there is removed, and it is listed again until nothing is
//! there. So a removal that a crash cut short is begun again with the folder's path alone ([`Removal::begin`]), by whoever
//! knows that its owner is forgotten. It comes after the entry that forgets the owner is committed, never before.
//!
//! # Invariants
//!
//! - Nothing is removed while a request of the store is under way: it might make a file anew.
//! - At most [`AT_ONCE`] requests are under way.
//! - [`RemovalEvent::Removed`] comes when no power cut brings the folder's name back.

use std::collections::{BTreeSet, VecDeque};

use super::super::Position;
use super::super::volume::{Applied, Committed, Store, StoreDisk as VolumeDisk};
use super::api::StoreDisk;
use crate::disk::{DiskError, DiskErrorKind, FileId, FilePath, Reply, Request};
use crate::planted::{self, Bug};
use crate::time::Instant;

/// How many files are removed at once.
const AT_ONCE: usize = 8;
/// How often a folder is emptied again that wasn't empty when it was to be removed.
const MOST_REFUSED: u32 = 100;

/// The first tag of a removal's own requests: a store's are below.
const TAGS: u64 = 1 << 63;

/// What a removal tells, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemovalEvent {
    /// The folder is gone for good.
    Removed,
    /// The disk failed; what is left is removed by another attempt.
    Failed(DiskError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Requests of the store are under way.
    Settling,
    List,
    Remove,
    /// Names in the folder, so that none is back without it.
    SyncFolder,
    RemoveFolder,
    SyncParent,
    Done,
}

/// Removes a folder with all that is in it.
#[derive(Debug)]
pub struct Removal {
    /// The folders on the way to the one that is emptied now, the one to be removed first.
    folders: Vec<FilePath>,
    step: Step,
    /// The tags of the store's requests that are under way.
    settling: BTreeSet<u64>,
    /// The files that it had open.
    open: BTreeSet<FileId>,
    names: VecDeque<FilePath>,
    under_way: usize,
    next_tag: u64,
    /// How often a folder could not be removed.
    refused: u32,
    event: Option<RemovalEvent>,
}

impl Removal {
    /// Begins to remove a folder that nobody uses.
    pub fn begin(folder: FilePath, disk: &mut impl StoreDisk) -> Self {
        Self::after(folder, BTreeSet::new(), BTreeSet::new(), disk)
    }

    /// Begins when the requests with these tags are done, and closes these files first.
    pub(super) fn after(
        folder: FilePath,
        settling: BTreeSet<u64>,
        open: BTreeSet<FileId>,
        disk: &mut impl StoreDisk,
    ) -> Self {
        let mut removal = Removal {
            folders: vec![folder],
            step: Step::Settling,
            settling,
            open,
            names: VecDeque::new(),
            under_way: 0,
            next_tag: TAGS,
            refused: 0,
            event: None,
        };
        removal.settled(disk);
        removal
    }

    /// Returns whether nothing more is to come.
    pub fn is_done(&self) -> bool {
        self.step == Step::Done
    }

    /// Takes what became of a request, the store's that are left included.
    pub fn handle_disk(&mut self, tag: u64, result: Result<Reply, DiskError>, disk: &mut impl StoreDisk) {
        if tag < TAGS {
            self.settling.remove(&tag);
            return self.settled(disk);
        }
        self.under_way -= 1;
        match result {
            Err(error) if error.kind == DiskErrorKind::NotFound => self.took(&[], disk),
            // Somebody has put a file there since it was found empty.
            Err(_) if self.step == Step::RemoveFolder && self.refused < MOST_REFUSED => {
                self.refused += 1;
                self.list(disk);
            }
            Err(error) => self.end(RemovalEvent::Failed(error)),
            Ok(Reply::Listed(entries)) => {
                let entries: Vec<_> =
                    entries.into_iter().map(|entry| (entry.name, entry.directory)).collect();
                self.took(&entries, disk);
            }
            Ok(_) => self.took(&[], disk),
        }
    }

    fn settled(&mut self, disk: &mut impl StoreDisk) {
        let early = planted::bug(Bug::StoreRemovalTooEarly);
        if self.step != Step::Settling || !self.settling.is_empty() && !early {
            return;
        }
        for file in std::mem::take(&mut self.open) {
            // Tag zero is nobody's.
            disk.submit(0, Request::Close { file });
        }
        self.list(disk);
    }

    /// Goes on when the requests of a step are answered; `entries` are what a list found.
    fn took(&mut self, entries: &[(String, bool)], disk: &mut impl StoreDisk) {
        let Some(folder) = self.folders.last().cloned() else { return };
        match self.step {
            Step::List if entries.is_empty() => {
                self.step = Step::SyncFolder;
                self.submit(Request::SyncDirectory { path: folder }, disk);
            }
            Step::List => {
                if let Some((inner, _)) = entries.iter().find(|(_, directory)| *directory) {
                    // Emptied and removed first; this one is listed again then.
                    self.folders.push(folder.join(inner));
                    return self.list(disk);
                }
                self.names = entries.iter().map(|(name, _)| folder.join(name)).collect();
                self.step = Step::Remove;
                self.remove(disk);
            }
            Step::Remove => self.remove(disk),
            Step::SyncFolder => {
                self.step = Step::RemoveFolder;
                self.submit(Request::Remove { path: folder }, disk);
            }
            Step::RemoveFolder => {
                self.folders.pop();
                match self.folders.is_empty() {
                    true => {
                        self.folders.push(folder.parent());
                        self.step = Step::SyncParent;
                        self.submit(Request::SyncDirectory { path: folder.parent() }, disk);
                    }
                    false => self.list(disk),
                }
            }
            Step::SyncParent => self.end(RemovalEvent::Removed),
            Step::Settling | Step::Done => {}
        }
    }

    fn remove(&mut self, disk: &mut impl StoreDisk) {
        while self.under_way < AT_ONCE
            && let Some(path) = self.names.pop_front()
        {
            self.submit(Request::Remove { path }, disk);
        }
        if self.under_way == 0 {
            self.list(disk);
        }
    }

    fn list(&mut self, disk: &mut impl StoreDisk) {
        if let Some(path) = self.folders.last().cloned() {
            self.step = Step::List;
            self.submit(Request::List { path }, disk);
        }
    }

    fn submit(&mut self, request: Request, disk: &mut impl StoreDisk) {
        self.next_tag += 1;
        self.under_way += 1;
        disk.submit(self.next_tag, request);
    }

    fn end(&mut self, event: RemovalEvent) {
        if self.step != Step::Done {
            self.step = Step::Done;
            self.event = Some(event);
        }
    }
}

/// In a volume a removal takes the place of the store that was forgotten, under the same owner.
impl Store for Removal {
    type Event = RemovalEvent;

    fn apply(&mut self, _: &Committed, _: Instant, _: &mut VolumeDisk<'_>) -> Applied {
        Applied::Done
    }

    fn cover(&mut self, _: Position, _: Instant, _: &mut VolumeDisk<'_>) {}

    fn covered(&self) -> Position {
        Position::default()
    }

    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        _: Instant,
        disk: &mut VolumeDisk<'_>,
    ) {
        Removal::handle_disk(self, tag, result, disk);
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut VolumeDisk<'_>) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<RemovalEvent> {
        self.event.take()
    }
}
