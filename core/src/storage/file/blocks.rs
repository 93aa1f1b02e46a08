//! The machine: append, write behind, cover, roll over, read.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::block::index::{Index, Slot, Stamp};
use super::super::block::key::Keys;
use super::super::block::scan::{Item, Scan};
use super::super::block::{Context, Header, Place, Record, RecordError};
use super::super::{Message, Position};
use super::api::{Config, Event, Failure, Fetch, ReadError, ReadId, StoreDisk};
use super::recovery::Recovery;
use super::tail::{Held, Tail, codec};
use crate::disk::{DiskError, FileId, FilePath, OpenMode, Reply, Request};
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::time::WallTime;

/// A block that is closed.
#[derive(Clone, Debug)]
pub(super) struct Closed {
    pub(super) index: Index,
    pub(super) file: Option<FileId>,
}

/// What a request was for.
#[derive(Debug)]
enum Work {
    Recover,
    Ignored,
    /// The tail's file.
    OpenTail {
        block: u32,
    },
    Write {
        block: u32,
    },
    Sync {
        block: u32,
        len: u32,
    },
    SyncDirectory,
    OpenRead {
        block: u32,
    },
    Read {
        id: ReadId,
        block: u32,
        sequence: u64,
        slot: Slot,
    },
}

/// The way of a write to durability: one at a time, all bytes that were written before it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cover {
    Idle,
    /// For the write that is under way.
    Waiting,
    /// For the write of what it covers.
    Writing(Position),
    Syncing(Position),
    /// The file's name.
    Naming(Position),
}

/// The block files of one stream.
#[derive(Debug)]
pub struct BlockFiles {
    config: Config,
    keys: Keys,
    rng: Rng,
    recovery: Option<Box<Recovery>>,
    failed: bool,
    closed: BTreeMap<u32, Closed>,
    /// A block that is long enough and becomes durable; nothing of the tail is written before it is.
    closing: Option<(Tail, Position)>,
    tail: Option<Tail>,
    work: BTreeMap<u64, Work>,
    next_tag: u64,
    next_read: u64,
    /// Reads that wait for their block to be opened.
    opening: BTreeMap<u32, Vec<(ReadId, u64, Slot)>>,
    cover: Cover,
    cover_again: bool,
    applied: Position,
    covered: Position,
    events: VecDeque<Event>,
}

impl BlockFiles {
    /// Opens what is in the folder, or begins there. `rng` is seeded anew at each start: it draws nonces.
    pub fn open(config: Config, keys: Keys, rng: Rng, disk: &mut impl StoreDisk) -> Self {
        let mut files = BlockFiles {
            recovery: Some(Box::new(Recovery::new(config.directory.clone(), config.owner))),
            config,
            keys,
            rng,
            failed: false,
            closed: BTreeMap::new(),
            closing: None,
            tail: None,
            work: BTreeMap::new(),
            next_tag: 0,
            next_read: 0,
            opening: BTreeMap::new(),
            cover: Cover::Idle,
            cover_again: false,
            applied: Position::default(),
            covered: Position::default(),
            events: VecDeque::new(),
        };
        let path = files.config.directory.clone();
        files.submit(Work::Recover, Request::CreateDirectory { path }, disk);
        files
    }

    /// Returns whether entries are taken.
    pub fn is_ready(&self) -> bool {
        self.recovery.is_none() && !self.failed
    }

    /// Returns the sequence behind the last that was ever here.
    pub fn next_sequence(&self) -> u64 {
        self.tail.as_ref().map_or(self.config.first_sequence, Tail::next_sequence)
    }

    /// Returns through which position everything is durable here.
    pub fn covered(&self) -> Position {
        self.covered
    }

    /// Returns the position through which entries are applied.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// Returns the blocks' numbers, oldest first.
    pub fn blocks(&self) -> Vec<u32> {
        self.closed.keys().copied().chain(self.tails().rev().map(|tail| tail.place.block())).collect()
    }

    /// Returns what a block holds.
    pub fn index(&self, block: u32) -> Option<&Index> {
        if let Some(tail) = self.tails().find(|tail| tail.place.block() == block) {
            return Some(tail.builder.index());
        }
        self.closed.get(&block).map(|closed| &closed.index)
    }

    /// Adds a message, in memory; sequences ascend.
    ///
    /// # Errors
    ///
    /// [`RecordError::TooLarge`].
    ///
    /// # Panics
    ///
    /// If it isn't ready.
    pub fn append(&mut self, record: &Record<'_>) -> Result<(), RecordError> {
        let tail = self.tail.as_mut().expect("appended to when ready");
        tail.append(record, self.applied, codec(&self.keys, self.config.compression), &mut self.rng)
    }

    /// Says that ranges of sequences are gone, ascending, both ends included.
    pub fn deleted(&mut self, ranges: &[(u64, u64)]) {
        let tail = self.tail.as_mut().expect("appended to when ready");
        tail.deleted(ranges, codec(&self.keys, self.config.compression), &mut self.rng);
    }

    /// Says that sequences never have messages.
    pub fn skipped(&mut self, first: u64, count: u64) {
        let tail = self.tail.as_mut().expect("appended to when ready");
        tail.skipped(first, count, codec(&self.keys, self.config.compression), &mut self.rng);
    }

    /// Says that all of the entry at `position` was appended.
    pub fn set_applied(&mut self, position: Position) {
        self.applied = self.applied.max(position);
    }

    /// Writes behind what there is, and closes the block if it is long enough. Call it between entries.
    pub fn advance(&mut self, disk: &mut impl StoreDisk) {
        let Some(tail) = &self.tail else { return };
        if self.failed || self.closing.is_some() {
            return;
        }
        if tail.len() >= self.config.block_size && tail.open && self.cover == Cover::Idle {
            self.close(disk);
        } else {
            self.write(disk);
        }
    }

    /// Makes everything that is applied durable; [`Event::Covered`] says when.
    pub fn cover(&mut self, disk: &mut impl StoreDisk) {
        let open = self.tail.as_ref().is_some_and(|tail| tail.open);
        if self.failed || self.tail.is_none() {
            return;
        }
        if self.cover != Cover::Idle || self.closing.is_some() || !open {
            self.cover_again = true;
            return;
        }
        self.cover = Cover::Waiting;
        self.go_on(disk);
    }

    /// The blocks that are still written, newest first.
    fn tails(&self) -> impl DoubleEndedIterator<Item = &Tail> {
        self.tail.iter().chain(self.closing.iter().map(|(tail, _)| tail))
    }

    /// The block that is to become durable next.
    fn oldest(&mut self) -> Option<&mut Tail> {
        match &mut self.closing {
            Some((tail, _)) => Some(tail),
            None => self.tail.as_mut(),
        }
    }

    /// Reads a message.
    pub fn read(&mut self, sequence: u64, disk: &mut impl StoreDisk) -> Fetch {
        let held = self.tails().find_map(|tail| Some((tail, tail.builder.index().slot(sequence).copied()?)));
        if let Some((tail, slot)) = held {
            let (block, file) = (tail.place.block(), tail.file);
            let held = tail.read(slot.offset(), slot.framed()).map(|held| match held {
                Held::Bytes(bytes) => decode(bytes, &tail.place, sequence, &slot, &self.keys),
                Held::Open(records, first) => find(records, &tail.place, first, sequence, &slot),
            });
            return match held {
                Some(result) => Fetch::Ready(read_result(result, block, sequence)),
                None => self.fetch(block, file, sequence, slot, disk),
            };
        }
        let found =
            self.closed.iter().rev().find_map(|(block, closed)| {
                closed.index.slot(sequence).map(|slot| (*block, closed.file, *slot))
            });
        match found {
            Some((block, file, slot)) => self.fetch(block, file, sequence, slot, disk),
            None => Fetch::None,
        }
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes what became of a request.
    pub fn handle_disk(&mut self, tag: u64, result: Result<Reply, DiskError>, disk: &mut impl StoreDisk) {
        let Some(work) = self.work.remove(&tag) else { return };
        match (work, result) {
            (Work::Ignored, _) => {}
            (Work::Recover, result) => self.recover(result, disk),
            (Work::OpenRead { block }, Ok(_)) => self.opened(block, disk),
            (Work::OpenRead { block }, Err(error)) => {
                if let Some(closed) = self.closed.get_mut(&block) {
                    closed.file = None;
                }
                for (id, _, _) in self.opening.remove(&block).unwrap_or_default() {
                    self.events.push_back(Event::Read(id, Err(error.clone().into())));
                }
            }
            (Work::Read { id, .. }, Err(error)) => self.events.push_back(Event::Read(id, Err(error.into()))),
            (Work::Read { id, block, sequence, slot }, Ok(reply)) => {
                let bytes = if let Reply::Read(bytes) = reply { bytes } else { Bytes::new() };
                let place = Place::new(self.config.owner, block);
                let result = decode(&bytes, &place, sequence, &slot, &self.keys);
                self.events.push_back(Event::Read(id, read_result(result, block, sequence)));
            }
            (_, Err(error)) => self.fail(error.into()),
            (Work::OpenTail { block }, Ok(_)) => {
                if let Some(tail) = self.tail.as_mut().filter(|tail| tail.place.block() == block) {
                    tail.open = true;
                }
                self.settle(disk);
            }
            (Work::Write { block }, Ok(_)) => {
                if let Some(tail) = self.oldest().filter(|tail| tail.place.block() == block) {
                    tail.writing.pop_front();
                }
                self.go_on(disk);
            }
            (Work::Sync { block, len }, Ok(_)) => {
                let mut named = false;
                if let Some(tail) = self.oldest().filter(|tail| tail.place.block() == block) {
                    tail.synced = tail.synced.max(len);
                    named = tail.named;
                }
                if let Cover::Syncing(position) = self.cover {
                    self.cover = Cover::Naming(position);
                    let path = self.config.directory.clone();
                    match named {
                        true => self.durable(position, disk),
                        false => self.submit(Work::SyncDirectory, Request::SyncDirectory { path }, disk),
                    }
                }
            }
            (Work::SyncDirectory, Ok(_)) => {
                if let Some(tail) = self.oldest() {
                    tail.named = true;
                }
                if let Cover::Naming(position) = self.cover {
                    self.durable(position, disk);
                }
            }
        }
    }

    /// Goes on with covering, as far as it can.
    fn go_on(&mut self, disk: &mut impl StoreDisk) {
        let applied = self.closing.as_ref().map_or(self.applied, |(_, applied)| *applied);
        let Some(tail) = self.oldest().filter(|tail| tail.writing.is_empty()) else { return };
        let (block, len, file) = (tail.place.block(), tail.start, tail.file.expect("it is open"));
        let fresh = tail.is_fresh();
        match self.cover {
            Cover::Waiting if fresh => {
                self.cover = Cover::Writing(applied);
                self.write(disk);
            }
            Cover::Waiting | Cover::Writing(_) => {
                let position = if let Cover::Writing(position) = self.cover { position } else { applied };
                if planted::bug(Bug::CoveredBeforeSync) {
                    self.cover = Cover::Naming(position);
                    self.durable(position, disk);
                    return;
                }
                self.cover = Cover::Syncing(position);
                self.submit(Work::Sync { block, len }, Request::Sync { file }, disk);
            }
            _ => {}
        }
    }

    /// Everything through `position` is durable.
    fn durable(&mut self, position: Position, disk: &mut impl StoreDisk) {
        self.cover = Cover::Idle;
        if position > self.covered {
            self.covered = position;
            self.events.push_back(Event::Covered(position));
        }
        if let Some((tail, applied)) = self.closing.take() {
            let (number, file) = (tail.place.block(), tail.file);
            let stamp = Stamp { len: tail.start, tail: tail.last_four };
            let (place, next_sequence) = (tail.place, tail.next_sequence());
            let index = tail.builder.finish(stamp, tail.first_sequence, next_sequence, applied);
            let data = vec![Bytes::from(index.encode(&place, &self.keys, &mut self.rng))];
            let path = index_path(&self.config.directory, number);
            self.submit(Work::Ignored, Request::Replace { path, data }, disk);
            self.closed.insert(number, Closed { index, file });
        }
        self.settle(disk);
    }

    /// Does what had to wait.
    fn settle(&mut self, disk: &mut impl StoreDisk) {
        if std::mem::take(&mut self.cover_again) {
            self.cover(disk);
        } else {
            self.advance(disk);
        }
    }

    fn write(&mut self, disk: &mut impl StoreDisk) {
        let applied = self.closing.as_ref().map_or(self.applied, |(_, applied)| *applied);
        let tail = match &mut self.closing {
            Some((tail, _)) => tail,
            None => match &mut self.tail {
                Some(tail) => tail,
                None => return,
            },
        };
        // One at a time: what comes meanwhile makes the next one larger.
        let Some(file) = tail.file.filter(|_| tail.open && tail.writing.is_empty()) else { return };
        let codec = codec(&self.keys, self.config.compression);
        let Some((offset, bytes)) = tail.take(applied, codec, &mut self.rng) else { return };
        let block = tail.place.block();
        let request = Request::Write { file, offset: u64::from(offset), data: vec![bytes], sync: false };
        self.submit(Work::Write { block }, request, disk);
    }

    /// Closes the tail and begins the next block, which is written when this one is durable.
    fn close(&mut self, disk: &mut impl StoreDisk) {
        let Some(tail) = self.tail.take() else { return };
        let (number, next_sequence, base_time) = (tail.place.block(), tail.next_sequence(), tail.last_time());
        self.closing = Some((tail, self.applied));
        self.begin(number + 1, next_sequence, base_time, disk);
        self.cover = Cover::Waiting;
        self.go_on(disk);
    }

    /// Begins a block.
    fn begin(&mut self, number: u32, first_sequence: u64, base_time: i64, disk: &mut impl StoreDisk) {
        let header = Header {
            owner: self.config.owner,
            block: number,
            cipher: self.keys.cipher(),
            compression: self.config.compression,
            first_sequence,
            base_time,
            key_epoch: self.keys.epoch(),
        };
        let mut tail = Tail::create(&header, self.applied);
        let file = disk.file();
        tail.file = Some(file);
        self.tail = Some(tail);
        let path = block_path(&self.config.directory, number);
        self.submit(
            Work::OpenTail { block: number },
            Request::Open { file, path, mode: OpenMode::Create },
            disk,
        );
    }

    fn fetch(
        &mut self,
        block: u32,
        file: Option<FileId>,
        sequence: u64,
        slot: Slot,
        disk: &mut impl StoreDisk,
    ) -> Fetch {
        self.next_read += 1;
        let id = ReadId(self.next_read);
        let waits = self.opening.contains_key(&block);
        match file.filter(|_| !waits) {
            Some(file) => self.submit_read(id, block, file, sequence, slot, disk),
            None => {
                self.opening.entry(block).or_default().push((id, sequence, slot));
                if !waits && let Some(closed) = self.closed.get_mut(&block) {
                    let file = disk.file();
                    closed.file = Some(file);
                    let path = block_path(&self.config.directory, block);
                    self.submit(
                        Work::OpenRead { block },
                        Request::Open { file, path, mode: OpenMode::Read },
                        disk,
                    );
                }
            }
        }
        Fetch::Pending(id)
    }

    fn opened(&mut self, block: u32, disk: &mut impl StoreDisk) {
        let Some(file) = self.closed.get(&block).and_then(|closed| closed.file) else { return };
        for (id, sequence, slot) in self.opening.remove(&block).unwrap_or_default() {
            self.submit_read(id, block, file, sequence, slot, disk);
        }
    }

    fn submit_read(
        &mut self,
        id: ReadId,
        block: u32,
        file: FileId,
        sequence: u64,
        slot: Slot,
        disk: &mut impl StoreDisk,
    ) {
        // No frame is longer than this: it has one message, or no more than the target.
        let frame = if slot.framed() { super::super::block::frame::FRAME_TARGET } else { 0 };
        let len = slot.size as usize + frame + 256;
        let request = Request::Read { file, offset: u64::from(slot.offset()), len };
        self.submit(Work::Read { id, block, sequence, slot }, request, disk);
    }

    fn submit(&mut self, work: Work, request: Request, disk: &mut impl StoreDisk) {
        self.next_tag += 1;
        self.work.insert(self.next_tag, work);
        disk.submit(self.next_tag, request);
    }

    fn fail(&mut self, failure: Failure) {
        if !std::mem::replace(&mut self.failed, true) {
            self.recovery = None;
            self.events.push_back(Event::Failed(failure));
        }
    }

    fn recover(&mut self, result: Result<Reply, DiskError>, disk: &mut impl StoreDisk) {
        let Some(mut recovery) = self.recovery.take() else { return };
        match recovery.step(result, &self.keys, disk, &mut self.events) {
            Err(failure) => self.fail(failure),
            Ok(Some(request)) => {
                self.recovery = Some(recovery);
                self.submit(Work::Recover, request, disk);
            }
            Ok(None) => {
                let found = recovery.finish();
                self.applied = found.applied;
                self.covered = found.applied;
                self.closed = found.closed;
                match found.tail {
                    Some(tail) => self.tail = Some(tail),
                    None => {
                        let next = found.next_sequence.max(self.config.first_sequence).max(1);
                        self.begin(found.next_number, next, 0, disk);
                    }
                }
                self.events.push_back(Event::Ready { applied: self.applied });
            }
        }
    }
}

pub(super) fn block_path(directory: &FilePath, number: u32) -> FilePath {
    directory.join(&format!("{number:08x}.blk"))
}

pub(super) fn index_path(directory: &FilePath, number: u32) -> FilePath {
    directory.join(&format!("{number:08x}.idx"))
}

fn read_result(
    result: Result<Message, RecordError>,
    block: u32,
    sequence: u64,
) -> Result<Message, ReadError> {
    result.map_err(|error| ReadError::Record { block, sequence, error })
}

/// Reads the message at `slot` from the block's bytes at its offset.
fn decode(
    bytes: &[u8],
    place: &Place,
    sequence: u64,
    slot: &Slot,
    keys: &Keys,
) -> Result<Message, RecordError> {
    if !slot.framed() {
        return Record::decode(bytes, place, slot.offset(), sequence, slot.time)
            .map(|record| message(&record));
    }
    let frame =
        super::super::block::scan::frame_at(bytes, place, slot.offset()).ok_or(RecordError::Checksum)?;
    let records = frame.open(place, slot.offset(), keys).map_err(|_| RecordError::Checksum)?;
    find(&records, place, frame.context(), sequence, slot)
}

/// Finds a message among the records of a frame.
fn find(
    records: &[u8],
    place: &Place,
    first: Context,
    sequence: u64,
    slot: &Slot,
) -> Result<Message, RecordError> {
    let mut scan = Scan::new(records, *place, 0, first);
    while let Some(found) = scan.next() {
        if let Item::Message(record) = found.item
            && record.sequence == sequence
            && record.time == slot.time
        {
            return Ok(message(&record));
        }
    }
    Err(RecordError::Checksum)
}

fn message(record: &Record<'_>) -> Message {
    Message {
        sequence: record.sequence,
        time: WallTime::from_unix_nanos(record.time),
        subject: Bytes::copy_from_slice(record.subject),
        headers: Bytes::copy_from_slice(record.headers),
        payload: Bytes::copy_from_slice(record.payload),
    }
}
