//! Writing the member's file, when the journal wants its segments back.
//!
//! What is in the file and still holds stays: entries that are new, a cut, a new front are appended, with a mark behind them.
//! When more than half of the file is dead, it is written anew. So an entry that lives long is written to files about
//! twice, whatever the length of the log, and one that is compacted before the journal asks is never written again.

use bytes::Bytes;

use super::file::{FRAME_ENTRIES, Frames};
use super::record::{Data, Item, Stamp};
use super::{AGAIN, IGNORED, LogStore, OPENED, Phase, StoreEvent, WRITTEN};
use crate::disk::{DiskError, FileId, OpenMode, Reply, Request};
use crate::planted::{Bug, bug};
use crate::raft::log::Place;
use crate::storage::Position;
use crate::storage::volume::StoreDisk;
use crate::time::Instant;

/// A file shorter than this is never worth to be written anew, in bytes.
const SMALL: u64 = 64 << 10;

/// What the file has.
#[derive(Clone, Copy, Debug)]
struct Image {
    generation: u64,
    len: u64,
    base: Place,
    /// The index of its last entry.
    last: u64,
    snapshot: Option<Place>,
}

#[derive(Debug)]
struct Writing {
    image: Image,
    position: Position,
    /// What is to be appended, and where, once the file is open.
    queued: Option<(u64, Vec<Bytes>)>,
}

/// How far the file is.
#[derive(Debug, Default)]
pub(super) struct Cover {
    /// What it has; `None` if it has to be written anew.
    image: Option<Image>,
    writing: Option<Writing>,
    handle: Option<FileId>,
    /// It is to be written once more.
    again: bool,
    /// A failure is behind: it is tried again then.
    pub again_at: Option<Instant>,
    /// Through which position it has everything.
    pub durable: Option<Position>,
    /// Through which position the journal wants it to.
    pub wanted: Position,
}

impl LogStore {
    /// The journal asks once: where the file was written in the middle of a record's pieces, it is written again behind them.
    pub(super) fn cover_what_is_wanted(&mut self) {
        let written = self.cover.writing.as_ref().map(|writing| writing.position);
        let has = written.max(self.cover.durable).unwrap_or_default();
        let due = has < self.cover.wanted && self.cover.wanted <= self.position;
        if due && self.cover.again_at.is_none() {
            self.cover.again_at = Some(Instant::ZERO);
        }
    }

    /// Writes the file, or notes that it is to be written again.
    pub(super) fn write_file(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        if self.cover.writing.is_some() || self.cover.again_at.is_some() {
            self.cover.again = true;
            return;
        }
        if !matches!(self.phase, Phase::Running) {
            self.cover.again_at = Some(now + AGAIN);
            return;
        }
        self.cover.again = false;
        let live = self.live();
        let kept = self.cover.image.filter(|image| image.len < SMALL.max(2 * live));
        let image = kept.unwrap_or(Image {
            generation: self.replay.number,
            len: 0,
            base: Place::default(),
            last: 0,
            snapshot: None,
        });
        let mut frames = Frames::new(self.owner, image.generation, image.len);
        let stamp = Stamp { number: self.replay.number, state: self.replay.state };
        self.put_changes(image, kept.is_none(), &stamp, &mut frames);
        let identity = self.replay.identity(self.replay.said);
        frames.push(&stamp, &Item::Mark(identity, self.position));
        let written = Image {
            generation: image.generation,
            len: frames.offset(),
            base: identity.base,
            last: identity.last.index,
            snapshot: identity.snapshot,
        };
        self.replay.settled();
        let mut writing = Writing { image: written, position: self.position, queued: None };
        match (kept, self.cover.handle) {
            (None, handle) => {
                if let Some(file) = handle {
                    disk.submit(IGNORED, Request::Close { file });
                    self.cover.handle = None;
                }
                disk.submit(WRITTEN, Request::Replace { path: self.path(), data: frames.out });
            }
            (Some(image), Some(file)) => {
                let (offset, data) = (image.len, frames.out);
                disk.submit(WRITTEN, Request::Write { file, offset, data, sync: true });
            }
            (Some(image), None) => {
                let file = disk.file();
                self.cover.handle = Some(file);
                writing.queued = Some((image.len, frames.out));
                let (path, mode) = (self.path(), OpenMode::ReadWrite);
                disk.submit(OPENED, Request::Open { file, path, mode });
            }
        }
        if bug(Bug::RaftStoreCoveredBeforeSync) {
            self.cover.durable = Some(self.position);
            self.events.push_back(StoreEvent::FileWritten);
        }
        self.cover.writing = Some(writing);
    }

    /// Returns about how many bytes a file with what lives has.
    fn live(&self) -> u64 {
        let snapshot = match self.replay.snapshot.as_ref().map(|snapshot| &snapshot.data) {
            Some(Data::Here(data)) => data.len(),
            _ => 0,
        };
        // The head of a frame is shared by many entries if they are short.
        (self.replay.bytes + self.replay.entries.len() * 8 + snapshot) as u64
    }

    /// Appends what the file doesn't have.
    fn put_changes(&self, image: Image, anew: bool, stamp: &Stamp, frames: &mut Frames) {
        let replay = &self.replay;
        if let Some(snapshot) = &replay.snapshot
            && Some(snapshot.place) != image.snapshot
        {
            frames.push(stamp, &Item::Snapshot(snapshot.clone()));
        }
        let cut = if bug(Bug::RaftStoreCutNotCovered) { u64::MAX } else { replay.cut_from };
        let mut has = image.last.min(cut.saturating_sub(1));
        if anew || replay.begun_anew || replay.base.index > has {
            frames.push(stamp, &Item::Reset { base: replay.base });
            has = replay.base.index;
        } else {
            if has < image.last {
                frames.push(stamp, &Item::Truncate { from: cut });
            }
            if replay.base.index > image.base.index {
                frames.push(stamp, &Item::Compact { base: replay.base });
            }
        }
        let skip = has.saturating_sub(replay.base.index) as usize;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in replay.entries.iter().skip(skip) {
            let len = entry.entry.data.len();
            if !entries.is_empty() && bytes + len > FRAME_ENTRIES {
                frames.push(stamp, &Item::Append(std::mem::take(&mut entries)));
                bytes = 0;
            }
            bytes += len + 8;
            entries.push(entry.clone());
        }
        if !entries.is_empty() {
            frames.push(stamp, &Item::Append(entries));
        }
    }

    pub(super) fn file_opened(
        &mut self,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    ) {
        let queued = self.cover.writing.as_mut().and_then(|writing| writing.queued.take());
        match (result, queued, self.cover.handle) {
            (Ok(_), Some((offset, data)), Some(file)) => {
                disk.submit(WRITTEN, Request::Write { file, offset, data, sync: true });
            }
            (Err(error), ..) => {
                self.cover.handle = None;
                self.file_failed(error, now, disk);
            }
            _ => {}
        }
    }

    pub(super) fn file_written(
        &mut self,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    ) {
        match (result, self.cover.writing.take()) {
            (Ok(_), Some(writing)) => {
                self.cover.image = Some(writing.image);
                self.cover.durable = Some(writing.position);
                self.events.push_back(StoreEvent::FileWritten);
                if self.cover.again {
                    self.write_file(now, disk);
                }
            }
            (Err(error), _) => self.file_failed(error, now, disk),
            (Ok(_), None) => {}
        }
    }

    /// What the file has isn't known any more: it is written anew, some time later.
    fn file_failed(&mut self, error: DiskError, now: Instant, disk: &mut StoreDisk<'_>) {
        if let Some(file) = self.cover.handle.take() {
            disk.submit(IGNORED, Request::Close { file });
        }
        self.cover.writing = None;
        self.cover.image = None;
        self.cover.again_at = Some(now + AGAIN);
        self.events.push_back(StoreEvent::Failed(error));
    }
}
