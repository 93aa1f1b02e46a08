//! From a folder to the blocks that are in it: index files where they are good, blocks where not, and the newest block's
//! bytes always.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::block::index::{Builder, Index, Stamp};
use super::super::block::key::Keys;
use super::super::block::walk::{WalkError, Walked, walk};
use super::super::block::{Context, Place};
use super::super::{OwnerId, Position};
use super::api::{Event, Failure, StoreDisk};
use super::blocks::{Closed, block_path, index_path};
use super::tail::Tail;
use crate::disk::{DiskError, Entry, FileId, FilePath, OpenMode, Reply, Request};

/// The longest index file that is read, in bytes.
const INDEX_LIMIT: usize = 256 << 20;

#[derive(Debug)]
enum Step {
    Create,
    List,
    /// A closed block's file.
    Open,
    /// Its last four bytes.
    TailBytes,
    Index,
    Block,
    OpenNewest,
    CutNewest,
    SyncNewest,
    RemoveNewest,
}

/// What recovery is about to do.
#[derive(Debug)]
pub(super) struct Recovery {
    directory: FilePath,
    owner: OwnerId,
    step: Step,
    /// Numbers and lengths of the blocks to come, ascending.
    blocks: VecDeque<(u32, u64)>,
    indexes: Vec<u32>,
    file: Option<FileId>,
    stamp: Stamp,
    found: Found,
    resumed: Option<(Place, Builder, u64, Context, u32)>,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) closed: BTreeMap<u32, Closed>,
    pub(super) tail: Option<Tail>,
    pub(super) applied: Position,
    pub(super) next_sequence: u64,
    pub(super) next_number: u32,
}

impl Recovery {
    pub(super) fn new(directory: FilePath, owner: OwnerId) -> Self {
        Recovery {
            directory,
            owner,
            step: Step::Create,
            blocks: VecDeque::new(),
            indexes: Vec::new(),
            file: None,
            stamp: Stamp::default(),
            found: Found { next_number: 1, ..Found::default() },
            resumed: None,
        }
    }

    pub(super) fn finish(self) -> Found {
        self.found
    }

    /// Takes the answer to the last request and returns the next, `None` when all is done.
    pub(super) fn step(
        &mut self,
        result: Result<Reply, DiskError>,
        keys: &Keys,
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Result<Option<Request>, Failure> {
        match (&self.step, result) {
            (Step::Create, result) => {
                result?;
                self.step = Step::List;
                Ok(Some(Request::List { path: self.directory.clone() }))
            }
            (Step::List, result) => {
                if let Reply::Listed(entries) = result? {
                    self.listed(&entries, events);
                }
                Ok(self.next_block(disk))
            }
            (Step::Open, result) => {
                result?;
                let len = self.blocks.front().map_or(0, |(_, len)| *len);
                self.stamp.len = u32::try_from(len).unwrap_or(u32::MAX);
                self.step = Step::TailBytes;
                let file = self.file.expect("it was opened");
                Ok(Some(Request::Read { file, offset: len.saturating_sub(4), len: 4 }))
            }
            (Step::TailBytes, result) => {
                let tail = match result {
                    Ok(Reply::Read(bytes)) => bytes.first_chunk().map(|tail| u32::from_le_bytes(*tail)),
                    // An unreadable end is the block's own matter; it is met when the block is read.
                    _ => None,
                };
                let Some((number, _)) = self.blocks.front().copied() else { return Ok(None) };
                match tail.filter(|_| self.indexes.binary_search(&number).is_ok()) {
                    Some(tail) => {
                        self.stamp.tail = tail;
                        self.step = Step::Index;
                        let path = index_path(&self.directory, number);
                        Ok(Some(Request::ReadFile { path, limit: INDEX_LIMIT }))
                    }
                    None => Ok(Some(self.read_block())),
                }
            }
            (Step::Index, result) => {
                let Some((number, _)) = self.blocks.front().copied() else { return Ok(None) };
                let place = Place::new(self.owner, number);
                let index = match result {
                    Ok(Reply::Read(bytes)) => Index::decode(&bytes, &place, self.stamp, keys).ok(),
                    _ => None,
                };
                match index {
                    Some(index) => {
                        self.took(number, index, events);
                        Ok(self.next_block(disk))
                    }
                    None => Ok(Some(self.read_block())),
                }
            }
            (Step::Block, result) => {
                let bytes = match result? {
                    Reply::Read(bytes) => bytes,
                    _ => Bytes::new(),
                };
                self.walked(&bytes, keys, disk, events)
            }
            (Step::OpenNewest, result) => {
                result?;
                let (Some(file), Some((.., end))) = (self.file, &self.resumed) else { return Ok(None) };
                self.step = Step::CutNewest;
                Ok(Some(Request::Truncate { file, len: u64::from(*end) }))
            }
            (Step::CutNewest, result) => {
                result?;
                let Some(file) = self.file else { return Ok(None) };
                self.step = Step::SyncNewest;
                Ok(Some(Request::Sync { file }))
            }
            (Step::SyncNewest, result) => {
                result?;
                if let Some((place, builder, first, context, end)) = self.resumed.take() {
                    let mut tail = Tail::resume(place, builder, first, context, end);
                    (tail.file, tail.open) = (self.file, true);
                    self.found.tail = Some(tail);
                }
                Ok(None)
            }
            (Step::RemoveNewest, result) => {
                result?;
                Ok(None)
            }
        }
    }

    fn listed(&mut self, entries: &[Entry], events: &mut VecDeque<Event>) {
        for entry in entries {
            let number = entry.name.split_once('.').filter(|(name, _)| name.len() == 8);
            let number = number.and_then(|(name, kind)| Some((u32::from_str_radix(name, 16).ok()?, kind)));
            match number {
                Some((number, "blk")) if number > 0 && !entry.directory => {
                    self.blocks.push_back((number, entry.len));
                }
                Some((number, "idx")) if !entry.directory => self.indexes.push(number),
                _ => events.push_back(Event::Foreign { path: self.directory.join(&entry.name).to_string() }),
            }
        }
        self.blocks.make_contiguous().sort_unstable();
        self.indexes.sort_unstable();
        // A newest file without a byte was created while the block before it became durable, which may not have come to
        // its end: that one is the newest then, and may be torn. The empty file is used when its turn comes.
        self.blocks.pop_back_if(|(_, len)| *len == 0);
        self.found.next_number = self.blocks.back().map_or(1, |(number, _)| number + 1);
    }

    /// Asks for the next block, the newest last.
    fn next_block(&mut self, disk: &mut impl StoreDisk) -> Option<Request> {
        let (number, _) = *self.blocks.front()?;
        if self.blocks.len() == 1 {
            return Some(self.read_block());
        }
        let file = disk.file();
        self.file = Some(file);
        self.step = Step::Open;
        Some(Request::Open { file, path: block_path(&self.directory, number), mode: OpenMode::Read })
    }

    fn read_block(&mut self) -> Request {
        let (number, len) = self.blocks.front().copied().unwrap_or_default();
        self.step = Step::Block;
        let limit = usize::try_from(len).unwrap_or(usize::MAX).min(u32::MAX as usize);
        Request::ReadFile { path: block_path(&self.directory, number), limit }
    }

    /// Takes a block whose contents are known.
    fn took(&mut self, number: u32, index: Index, events: &mut VecDeque<Event>) {
        self.blocks.pop_front();
        self.lost_before(number, index.first_sequence, events);
        self.found.applied = self.found.applied.max(index.applied);
        self.found.next_sequence = self.found.next_sequence.max(index.next_sequence);
        self.found.closed.insert(number, Closed { index, file: self.file.take() });
        events.push_back(Event::Block { number });
    }

    /// Tells what is missing between the blocks before and block `number`, which starts with `first`: a block that isn't
    /// there, or the end of one.
    fn lost_before(&self, number: u32, first: u64, events: &mut VecDeque<Event>) {
        let expected = self.found.next_sequence.max(1);
        if number > 1 && first > expected {
            events.push_back(Event::Lost { first: expected, last: first - 1 });
        }
    }

    fn walked(
        &mut self,
        bytes: &[u8],
        keys: &Keys,
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Result<Option<Request>, Failure> {
        let Some((number, _)) = self.blocks.front().copied() else { return Ok(None) };
        let newest = self.blocks.len() == 1;
        let place = Place::new(self.owner, number);
        let path = block_path(&self.directory, number);
        let hint = Context { next_sequence: self.found.next_sequence.max(1), base_time: 0 };
        let synced = if newest { 0 } else { bytes.len() as u32 };
        let mut builder = Builder::default();
        let walked = match walk(bytes, place, hint, synced, keys, &mut builder) {
            Ok(walked) => walked,
            Err(WalkError::Foreign { .. }) => {
                events.push_back(Event::Foreign { path: path.to_string() });
                self.blocks.pop_front();
                return Ok(self.next_block(disk));
            }
            Err(error) => return Err(Failure::Block { path: path.to_string(), error }),
        };
        if !newest {
            let stamp = Stamp::of(bytes);
            self.tell(number, &walked, events);
            let first = walked.header.map_or(hint.next_sequence, |header| header.first_sequence);
            let index = builder.finish(stamp, first, walked.context.next_sequence, walked.applied);
            self.took(number, index, events);
            return Ok(self.next_block(disk));
        }
        self.newest(bytes, &walked, number, hint, keys, disk, events)
    }

    /// Cuts the newest block behind its last good mark, to go on there.
    #[allow(clippy::too_many_arguments, reason = "the end of one long step")]
    fn newest(
        &mut self,
        bytes: &[u8],
        walked: &Walked,
        number: u32,
        hint: Context,
        keys: &Keys,
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Result<Option<Request>, Failure> {
        let (place, path) = (Place::new(self.owner, number), block_path(&self.directory, number));
        let len = bytes.len() as u32;
        let Some(mark) = walked.mark else {
            // No mark was ever synced in it, so nothing in it was ever reported as durable.
            if len > 0 {
                events.push_back(Event::TornTail { number, bytes: len });
            }
            self.found.next_number = number;
            self.step = Step::RemoveNewest;
            return Ok(Some(Request::Remove { path }));
        };
        let end = walked.mark_end;
        let mut builder = Builder::default();
        let cut = &bytes[..end as usize];
        let walked = walk(cut, place, hint, end, keys, &mut builder)
            .map_err(|error| Failure::Block { path: path.to_string(), error })?;
        self.tell(number, &walked, events);
        if end < len {
            events.push_back(Event::TornTail { number, bytes: len - end });
        }
        let first = walked.header.map_or(hint.next_sequence, |header| header.first_sequence);
        self.lost_before(number, first, events);
        self.found.applied = self.found.applied.max(walked.applied);
        self.blocks.pop_front();
        events.push_back(Event::Block { number });
        self.resumed = Some((place, builder, first, mark.context(), end));
        let file = disk.file();
        self.file = Some(file);
        self.step = Step::OpenNewest;
        Ok(Some(Request::Open { file, path, mode: OpenMode::ReadWrite }))
    }

    fn tell(&self, number: u32, walked: &Walked, events: &mut VecDeque<Event>) {
        for damage in &walked.damage {
            events.push_back(Event::Damaged { number, damage: *damage });
        }
    }
}
