//! Reading: from memory what the disk doesn't have yet, from chunks that were read before, from files.
//!
//! A read from a file takes more than it was asked for where the one before was for a message not far in front: who reads one
//! after the other wants the next. Chunks and the last
//! opened frame are kept within a budget, oldest out first. Few files are kept open.
//!
//! A block may be written anew at any time, and then its messages stand elsewhere. Who has its old file open reads on in that. A
//! file that was opened while the new one took its place may be either, and is opened again; who waited for it is told that
//! the message can't be read there, and [`FileStore`](super::store::FileStore) asks again where it stands now.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::Message;
use super::super::block::frame::FRAME_TARGET;
use super::super::block::index::{Builder, Index, Stamp, split_place};
use super::super::block::key::Keys;
use super::super::block::scan::{Item, Scan, frame_at};
use super::super::block::walk::walk;
use super::super::block::{Context, Place, Record, RecordError};
use super::super::ledger::Location;
use super::api::{Event, Failure, Fetch, ReadError, ReadId, StoreDisk};
use super::blocks::{BlockFiles, Closed, Work, block_path, index_path};
use super::pieces::is_unreadable;
use super::tail::Held;
use crate::disk::{DiskError, DiskErrorKind, FileId, OpenMode, Reply, Request};
use crate::planted::{self, Bug};
use crate::time::WallTime;

/// How much is read at once, in bytes.
const CHUNK: usize = 64 << 10;
/// How much is read at least for who reads here and there.
const PAGE: usize = 4 << 10;
/// How many files of blocks are kept open for reading.
const OPEN_FILES: usize = 4;
/// What a record takes beside what it counts for, at most.
const OVERHEAD: usize = 64;

/// A read that is under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    id: ReadId,
    location: Location,
    /// How often the block had been written anew when the message stood there.
    rewrites: u32,
    file: Option<FileId>,
    /// Where the good bytes end.
    end: u32,
    /// No more than the message is read: what stands behind it can't be.
    alone: bool,
    /// What comes behind it will be wanted next.
    ahead: bool,
}

/// Bytes of a block.
#[derive(Clone, Debug)]
struct Chunk {
    block: u32,
    start: u32,
    bytes: Bytes,
}

/// A frame that was opened.
#[derive(Debug)]
struct Opened {
    block: u32,
    offset: u32,
    first: Context,
    records: Vec<u8>,
}

/// A block that is to be opened.
#[derive(Debug, Default)]
struct Opening {
    waiting: Vec<Wanted>,
    /// It is being opened; otherwise it is when it is written anew.
    under_way: bool,
}

/// What is kept for reading.
#[derive(Debug, Default)]
pub(super) struct Reads {
    next: u64,
    budget: usize,
    kept: usize,
    chunks: VecDeque<Chunk>,
    /// The memory of the last that was dropped, empty.
    room: Vec<u8>,
    frame: Option<Opened>,
    /// The block and offset of the message that was read last.
    last: (u32, u32),
    /// Reads that wait for their block to be opened.
    opening: BTreeMap<u32, Opening>,
    /// Blocks whose indexes are wanted when they are written anew.
    indexes: BTreeSet<u32>,
    /// Blocks whose files are open, oldest first.
    open: VecDeque<u32>,
    /// How many reads each file has to answer.
    busy: BTreeMap<FileId, u32>,
    /// Files to be closed when they have none.
    retired: Vec<FileId>,
}

impl Reads {
    pub(super) fn new(budget: usize) -> Self {
        Reads { budget, ..Reads::default() }
    }

    /// Keeps bytes of a block.
    pub(super) fn keep(&mut self, block: u32, start: u32, bytes: Bytes) {
        if bytes.len() > self.budget {
            return;
        }
        self.kept += bytes.len();
        self.chunks.push_back(Chunk { block, start, bytes });
        while self.kept > self.budget {
            let Some(chunk) = self.chunks.pop_front() else { break };
            self.kept -= chunk.bytes.len();
            if let Ok(mut bytes) = chunk.bytes.try_into_mut() {
                bytes.clear();
                self.room = bytes.into();
            }
        }
    }

    /// Returns memory for so many bytes: what was written and is no longer kept is used again.
    pub(super) fn room(&mut self, len: usize) -> Vec<u8> {
        match (len..=2 * len).contains(&self.room.capacity()) {
            true => std::mem::take(&mut self.room),
            false => Vec::with_capacity(len),
        }
    }

    /// Notes that a message is read, and returns whether it stands not far behind the one before.
    fn goes_on(&mut self, block: u32, offset: u32) -> bool {
        let (before, from) = std::mem::replace(&mut self.last, (block, offset));
        before == block && offset > from && (offset - from) as usize <= CHUNK
    }

    /// Notes that the file of a block is open.
    pub(super) fn note_open(&mut self, block: u32) {
        self.open.push_back(block);
    }

    /// Forgets the bytes of a block.
    pub(super) fn forget(&mut self, block: u32) {
        self.chunks.retain(|chunk| chunk.block != block);
        self.kept = self.chunks.iter().map(|chunk| chunk.bytes.len()).sum();
        self.frame = self.frame.take().filter(|frame| frame.block != block);
    }

    /// Returns the chunk that has `offset`, from there on; the newest first.
    fn chunk(&self, block: u32, offset: u32) -> Option<&[u8]> {
        self.chunks.iter().rev().filter(|chunk| chunk.block == block).find_map(|chunk| {
            let at = offset.checked_sub(chunk.start)? as usize;
            chunk.bytes.get(at..).filter(|bytes| !bytes.is_empty())
        })
    }
}

impl BlockFiles {
    /// Names a read.
    pub(super) fn next_read(&mut self) -> ReadId {
        self.reads.next += 1;
        ReadId(self.reads.next)
    }

    /// Returns how often a block was written anew, if it is there.
    pub(super) fn rewrites(&self, block: u32) -> Option<u32> {
        let closed = self.closed.get(&block).map(|closed| closed.known.rewrites);
        closed.or_else(|| self.index(block).map(|_| 0))
    }

    /// Reads a message.
    pub fn read(&mut self, location: &Location, disk: &mut impl StoreDisk) -> Fetch {
        let (offset, framed) = split_place(location.offset);
        let (block, place) = (location.block, Place::new(self.config.owner, location.block));
        let ahead = self.reads.goes_on(block, offset);
        let tail = self.tails.iter().find(|tail| tail.place.block() == block);
        if let Some(held) = tail.and_then(|tail| tail.read(offset, framed)) {
            let result = match held {
                Held::Bytes(bytes) => decode(bytes, &place, location, &self.keys, &mut self.reads.frame),
                Held::Open(records, first) => find(records, &place, first, location),
            };
            return Fetch::Ready(told(result, location));
        }
        if framed
            && let Some(frame) = &self.reads.frame
            && (frame.block, frame.offset) == (block, offset)
        {
            return Fetch::Ready(told(find(&frame.records, &place, frame.first, location), location));
        }
        if let Some(bytes) = self.reads.chunk(block, offset) {
            let mut frame = None;
            let result = decode(bytes, &place, location, &self.keys, &mut frame);
            self.reads.frame = frame.or(self.reads.frame.take());
            // A chunk may end within the record: then, and if it is bad, it is read again.
            if result.is_ok() {
                return Fetch::Ready(told(result, location));
            }
        }
        let written = tail.map(|tail| (tail.file, tail.written()));
        let (id, location, rewrites) =
            (self.next_read(), *location, self.rewrites(block).unwrap_or_default());
        let wanted = Wanted { id, location, rewrites, file: None, end: u32::MAX, alone: false, ahead };
        match written {
            Some((Some(file), end)) => self.submit_read(Wanted { end, ..wanted }, file, disk),
            // What isn't in memory was written.
            Some((None, _)) => self.cannot_read(&wanted),
            None => self.read_closed(wanted, disk),
        }
        Fetch::Pending(id)
    }

    /// Loads the index of a block that is durable; [`Event::Index`] has it, or [`Event::NoIndex`] says that the block is gone.
    pub fn load_index(&mut self, block: u32, disk: &mut impl StoreDisk) {
        if let Some(closed) = self.closed.get(&block) {
            let (path, rewrites) = (index_path(&self.config.directory, block), closed.known.rewrites);
            let work = Work::Index { block, whole: false, rewrites };
            self.submit(work, Request::ReadFile { path, limit: usize::MAX }, disk);
        } else if let Some(index) = self.index(block) {
            let index = Box::new(index.clone());
            self.events.push_back(Event::Index { number: block, index });
        } else {
            self.events.push_back(Event::NoIndex { number: block });
        }
    }

    /// Loads the index of a block whose bytes may have been those of before it was written anew, or of after: at once, or when it is.
    pub(super) fn load_index_again(&mut self, block: u32, disk: &mut impl StoreDisk) {
        match self.rewrites.replacing() == Some(block) {
            true => drop(self.reads.indexes.insert(block)),
            false => self.load_index(block, disk),
        }
    }

    /// Returns whether the bytes that were asked for when a block had been written anew so often may not be those of now.
    pub(super) fn may_have_moved(&self, block: u32, rewrites: u32) -> bool {
        self.rewrites(block) != Some(rewrites) || self.rewrites.replacing() == Some(block)
    }

    /// Gives up because a block isn't what it was any more.
    pub(super) fn fail_damaged(&mut self, block: u32) {
        let path = block_path(&self.config.directory, block).to_string();
        self.fail(Failure::Damaged { path });
    }

    pub(super) fn index_read(
        &mut self,
        (block, whole, rewrites): (u32, bool, u32),
        result: Result<Reply, DiskError>,
        disk: &mut impl StoreDisk,
    ) {
        let Some(closed) = self.closed.get(&block) else {
            return self.events.push_back(Event::NoIndex { number: block });
        };
        if whole && self.may_have_moved(block, rewrites) && !planted::bug(Bug::StoreReadsKeepPlaces) {
            return self.load_index_again(block, disk);
        }
        if whole && is_unreadable(&result) {
            return self.walk_in_pieces(block, disk);
        }
        let place = Place::new(self.config.owner, block);
        let bytes = if let Ok(Reply::Read(bytes)) = result { bytes } else { Bytes::new() };
        let path = block_path(&self.config.directory, block);
        if !whole {
            // It says which bytes it is of.
            if let Ok(index) = Index::decode(&bytes, &place, closed.stamp, &self.keys) {
                self.events.push_back(Event::Index { number: block, index: Box::new(index) });
                return;
            }
            let (limit, rewrites) = (closed.known.len as usize, closed.known.rewrites);
            let work = Work::Index { block, whole: true, rewrites };
            return self.submit(work, Request::ReadFile { path, limit }, disk);
        }
        self.walk_for_index(block, &bytes);
    }

    /// Tells the index of a block that is made from its bytes.
    pub(super) fn walk_for_index(&mut self, block: u32, bytes: &[u8]) {
        let Some(closed) = self.closed.get(&block) else { return };
        match self.walk_closed(block, closed, bytes) {
            Some(index) => self.events.push_back(Event::Index { number: block, index: Box::new(index) }),
            None => self.fail_damaged(block),
        }
    }

    /// Makes an index from the bytes of a block. What was damaged when it was recovered is missing in it, as it was then.
    fn walk_closed(&self, block: u32, closed: &Closed, bytes: &[u8]) -> Option<Index> {
        let place = Place::new(self.config.owner, block);
        let mut builder = Builder::new(&place);
        let hint = Context { next_sequence: closed.known.first, base_time: 0 };
        let walked = walk(bytes, place, hint, bytes.len() as u32, &self.keys, &mut builder).ok()?;
        let next = walked.context.next_sequence;
        Some(builder.finish(Stamp::of(bytes), closed.known.first, next, walked.applied))
    }

    fn read_closed(&mut self, wanted: Wanted, disk: &mut impl StoreDisk) {
        let block = wanted.location.block;
        let Some(closed) = self.closed.get(&block) else { return self.cannot_read(&wanted) };
        match closed.file {
            Some(file) => self.submit_read(Wanted { end: closed.known.len, ..wanted }, file, disk),
            None => {
                self.reads.opening.entry(block).or_default().waiting.push(wanted);
                self.open_to_read(block, disk);
            }
        }
    }

    /// Opens a block for those who wait, unless it is being opened, or written anew.
    fn open_to_read(&mut self, block: u32, disk: &mut impl StoreDisk) {
        let replacing = self.rewrites.replacing() == Some(block);
        let (Some(opening), Some(closed)) = (self.reads.opening.get_mut(&block), self.closed.get(&block))
        else {
            return;
        };
        if !replacing && !std::mem::replace(&mut opening.under_way, true) {
            let (file, rewrites) = (disk.file(), closed.known.rewrites);
            let path = block_path(&self.config.directory, block);
            let request = Request::Open { file, path, mode: OpenMode::Read };
            self.submit(Work::OpenRead { block, file, rewrites }, request, disk);
        }
    }

    pub(super) fn opened(
        &mut self,
        (block, file, rewrites): (u32, FileId, u32),
        result: Result<Reply, DiskError>,
        disk: &mut impl StoreDisk,
    ) {
        let moved = self.may_have_moved(block, rewrites) && !planted::bug(Bug::StoreReadsKeepPlaces);
        if let Some(opening) = self.reads.opening.get_mut(&block).filter(|_| moved) {
            opening.under_way = false;
            if result.is_ok() {
                self.submit(Work::Ignored, Request::Close { file }, disk);
            }
            return match self.closed.contains_key(&block) {
                true => self.open_to_read(block, disk),
                false => self.stop_opening(block),
            };
        }
        let waiting = self.reads.opening.remove(&block).map(|opening| opening.waiting).unwrap_or_default();
        if let Err(error) = result {
            let failed = waiting.iter().map(|wanted| Event::Read(wanted.id, Err(error.clone().into())));
            return self.events.extend(failed);
        }
        let Some(closed) = self.closed.get_mut(&block) else {
            self.submit(Work::Ignored, Request::Close { file }, disk);
            return waiting.iter().for_each(|wanted| self.cannot_read(wanted));
        };
        closed.file = Some(file);
        let (end, rewrites) = (closed.known.len, closed.known.rewrites);
        self.reads.note_open(block);
        for wanted in waiting {
            match wanted.rewrites == rewrites {
                true => self.submit_read(Wanted { end, ..wanted }, file, disk),
                // It stands elsewhere now.
                false => self.cannot_read(&wanted),
            }
        }
        self.close_files(disk);
    }

    /// Answers those who wait for a block to be opened.
    fn stop_opening(&mut self, block: u32) {
        let waiting = self.reads.opening.remove(&block).map(|opening| opening.waiting).unwrap_or_default();
        waiting.iter().for_each(|wanted| self.cannot_read(wanted));
    }

    /// Answers those who wait for a block to be written anew, which it won't.
    pub(super) fn stop_waiting(&mut self) {
        let idle = self.reads.opening.iter().filter(|(_, opening)| !opening.under_way);
        for block in idle.map(|(block, _)| *block).collect::<Vec<_>>() {
            self.stop_opening(block);
        }
    }

    /// A block is written anew: forgets what is kept of it, and reads on in what it is now.
    pub(super) fn has_moved(&mut self, block: u32, file: Option<FileId>, disk: &mut impl StoreDisk) {
        self.forget_reads(block, file, disk);
        self.open_to_read(block, disk);
        if self.reads.indexes.remove(&block) {
            self.load_index(block, disk);
        }
    }

    /// Tells that a message can't be read where it was said to stand.
    fn cannot_read(&mut self, wanted: &Wanted) {
        let result = told(Err(RecordError::Malformed), &wanted.location);
        self.events.push_back(Event::Read(wanted.id, result));
    }

    fn submit_read(&mut self, wanted: Wanted, file: FileId, disk: &mut impl StoreDisk) {
        let (offset, framed) = split_place(wanted.location.offset);
        // No frame is longer than this: it has one message, or no more than the target.
        let frame = if framed { FRAME_TARGET + 256 } else { 0 };
        let chunk = match wanted {
            Wanted { alone: true, .. } => 0,
            Wanted { ahead: true, .. } => CHUNK,
            Wanted { .. } => PAGE,
        };
        let len = (wanted.location.size as usize + frame + OVERHEAD).max(chunk);
        let len = len.min(wanted.end.saturating_sub(offset) as usize);
        *self.reads.busy.entry(file).or_default() += 1;
        let work = Work::Read(Wanted { file: Some(file), ..wanted });
        self.submit(work, Request::Read { file, offset: u64::from(offset), len }, disk);
    }

    pub(super) fn was_read(
        &mut self,
        wanted: Wanted,
        result: Result<Reply, DiskError>,
        disk: &mut impl StoreDisk,
    ) {
        let location = wanted.location;
        let place = Place::new(self.config.owner, location.block);
        let mut frame = None;
        let decoded = match &result {
            Ok(Reply::Read(bytes)) => decode(bytes, &place, &location, &self.keys, &mut frame),
            _ => Err(RecordError::Malformed),
        };
        // A sector behind the message may be what can't be read, and what makes no sense may have been read wrong.
        let unreadable = result.as_ref().is_err_and(|error| error.kind == DiskErrorKind::Io);
        let senseless = result.is_ok() && decoded.is_err();
        let again = wanted.file.filter(|_| (unreadable || senseless) && !wanted.alone);
        if let Some(file) = again {
            self.submit_read(Wanted { alone: true, ..wanted }, file, disk);
        }
        if let Some(file) = wanted.file {
            let busy = self.reads.busy.get_mut(&file).map(|busy| {
                *busy -= 1;
                *busy
            });
            if busy == Some(0) {
                self.reads.busy.remove(&file);
                if self.reads.retired.contains(&file) {
                    self.reads.retired.retain(|retired| *retired != file);
                    self.submit(Work::Ignored, Request::Close { file }, disk);
                }
            }
        }
        if again.is_some() {
            return;
        }
        let (offset, _) = split_place(location.offset);
        let answer = match result {
            Err(error) => Err(error.into()),
            Ok(reply) => {
                let bytes = if let Reply::Read(bytes) = reply { bytes } else { Bytes::new() };
                // What isn't of the file as it is now may be of no use to others.
                let current =
                    self.closed.get(&location.block).is_some_and(|closed| closed.file == wanted.file)
                        || self.tails.iter().any(|tail| tail.place.block() == location.block);
                if decoded.is_ok() && current {
                    self.reads.keep(location.block, offset, bytes);
                    self.reads.frame = frame.or(self.reads.frame.take());
                }
                told(decoded, &location)
            }
        };
        self.events.push_back(Event::Read(wanted.id, answer));
    }

    /// Closes the files that were opened first, if there are too many.
    pub(super) fn close_files(&mut self, disk: &mut impl StoreDisk) {
        while self.reads.open.len() > OPEN_FILES {
            let Some(block) = self.reads.open.pop_front() else { break };
            let file = self.closed.get_mut(&block).and_then(|closed| closed.file.take());
            self.retire_file(file, disk);
        }
    }

    /// Forgets what is kept of a block.
    pub(super) fn forget_reads(&mut self, block: u32, file: Option<FileId>, disk: &mut impl StoreDisk) {
        self.reads.forget(block);
        self.reads.open.retain(|open| *open != block);
        self.retire_file(file, disk);
    }

    pub(super) fn retire_file(&mut self, file: Option<FileId>, disk: &mut impl StoreDisk) {
        let Some(file) = file else { return };
        if self.reads.busy.contains_key(&file) {
            self.reads.retired.push(file);
        } else {
            self.submit(Work::Ignored, Request::Close { file }, disk);
        }
    }
}

fn told(result: Result<Message, RecordError>, location: &Location) -> Result<Message, ReadError> {
    let (block, sequence) = (location.block, location.sequence);
    result.map_err(|error| ReadError::Record { block, sequence, error })
}

/// Reads the message at `location` from the block's bytes at its offset. A frame that was opened for it is left in `kept`.
fn decode(
    bytes: &[u8],
    place: &Place,
    location: &Location,
    keys: &Keys,
    kept: &mut Option<Opened>,
) -> Result<Message, RecordError> {
    let (offset, framed) = split_place(location.offset);
    if !framed {
        let time = location.time.as_unix_nanos();
        return Record::decode(bytes, place, offset, location.sequence, time).map(|record| message(&record));
    }
    let frame = frame_at(bytes, place, offset).ok_or(RecordError::Checksum)?;
    let records = frame.open(place, offset, keys).map_err(|_| RecordError::Checksum)?;
    let result = find(&records, place, frame.context(), location);
    *kept = Some(Opened { block: location.block, offset, first: frame.context(), records });
    result
}

/// Finds a message among the records of a frame.
fn find(records: &[u8], place: &Place, first: Context, location: &Location) -> Result<Message, RecordError> {
    let mut scan = Scan::new(records, *place, 0, first);
    while let Some(found) = scan.next() {
        if let Item::Message(record) = found.item
            && record.sequence == location.sequence
            && record.time == location.time.as_unix_nanos()
        {
            return Ok(message(&record));
        }
    }
    Err(RecordError::Checksum)
}

/// One allocation for all that a message has.
fn message(record: &Record<'_>) -> Message {
    let (subject, headers) = (record.subject.len(), record.headers.len());
    let mut all = Vec::with_capacity(subject + headers + record.payload.len());
    all.extend_from_slice(record.subject);
    all.extend_from_slice(record.headers);
    all.extend_from_slice(record.payload);
    let mut rest = Bytes::from(all);
    Message {
        sequence: record.sequence,
        time: WallTime::from_unix_nanos(record.time),
        subject: rest.split_to(subject),
        headers: rest.split_to(headers),
        payload: rest,
    }
}
