//! From a folder to the blocks that are in it: the manifest, then the newest block's bytes, then the others, newest first:
//! their index files where they are good, the blocks where not.
//!
//! Newest first, because a block says what is gone in older ones: who builds a ledger looks at each index once.

mod counts;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::block::index::{Builder, Index, Stamp};
use super::super::block::key::Keys;
use super::super::block::mark::NO_TIME;
use super::super::block::walk::{Damage, WalkError, Walked, walk};
use super::super::block::{Context, Header, Place};
use super::super::{OwnerId, Position};
use super::api::{Event, Failure, Ready, RecoveredBlock, StoreDisk};
use super::blocks::{Closed, MANIFEST, block_path, index_path, manifest_path};
use super::manifest::{Known, Manifest, Settings};
use super::pieces::{Pieces, is_unreadable};
use super::tail::{Resume, Tail};
use crate::disk::{DiskError, DiskErrorKind, Entry, FileId, FilePath, OpenMode, Reply, Request};
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::time::WallTime;

/// How often a file is read at most before what makes no sense in it is taken for what it has. Two reads that agree are enough.
const READS: u32 = 4;
/// The longest index file or manifest that is read, in bytes.
const FILE_LIMIT: usize = 256 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    List,
    Create,
    /// The folder's name, and those of the folders that it is in.
    NameFolder,
    Manifest,
    Newest,
    OpenNewest,
    CutNewest,
    /// What of it isn't known to be durable.
    WriteNewest,
    SyncNewest,
    NameNewest,
    /// A closed block's file.
    Open,
    /// Its last four bytes.
    TailBytes,
    Index,
    Block,
    /// A block that can't be read as a whole, the newest or not.
    OpenPieces(bool),
    Pieces(bool),
}

/// What recovery is about to do.
#[derive(Debug)]
pub(super) struct Recovery {
    directory: FilePath,
    owner: OwnerId,
    step: Step,
    /// The folder whose names are made durable.
    naming: FilePath,
    entries: Vec<Entry>,
    manifest: Option<Manifest>,
    /// Numbers and lengths of the blocks to come, ascending: the newest is taken first.
    blocks: Vec<(u32, u64)>,
    /// The numbers of all of them.
    listed: Vec<u32>,
    indexes: Vec<u32>,
    file: Option<FileId>,
    pieces: Option<Pieces>,
    /// How often what is being read was read, and what that was if it made no sense.
    reads: u32,
    doubted: Option<Bytes>,
    stamp: Stamp,
    resumed: Option<Resume>,
    /// Where what of the newest block isn't known to be durable begins, and that.
    unsynced: (u32, Bytes),
    /// The first sequence of the block before this one in the order of recovery, which is the next newer one.
    bound: u64,
    /// The index file of the block that was read last, if that had none.
    index: Option<(u32, Vec<u8>)>,
    found: Found,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) closed: BTreeMap<u32, Closed>,
    pub(super) tail: Option<Tail>,
    pub(super) ready: Ready,
    pub(super) covered: Position,
    pub(super) generation: u64,
    pub(super) settings: Settings,
    pub(super) next_number: u32,
    /// What was bad, by block.
    pub(super) damaged: Vec<(u32, Damage)>,
    /// Blocks without an index file.
    pub(super) bare: BTreeSet<u32>,
    /// Files that nothing needs: of blocks that were dropped or replaced.
    pub(super) leftovers: Vec<FilePath>,
    /// There are files that are no part of the stream, and stay.
    pub(super) strangers: bool,
    /// There is an index file that isn't sealed with the newest key.
    pub(super) unsealed: bool,
}

type Next = Result<Option<Request>, Failure>;

impl Recovery {
    /// Returns it with its first request.
    pub(super) fn begin(directory: FilePath, owner: OwnerId) -> (Self, Request) {
        let request = Request::List { path: directory.clone() };
        let recovery = Recovery {
            naming: directory.clone(),
            directory,
            owner,
            step: Step::List,
            entries: Vec::new(),
            manifest: None,
            blocks: Vec::new(),
            listed: Vec::new(),
            indexes: Vec::new(),
            file: None,
            pieces: None,
            reads: 0,
            doubted: None,
            stamp: Stamp::default(),
            resumed: None,
            unsynced: (0, Bytes::new()),
            bound: u64::MAX,
            index: None,
            found: Found::default(),
        };
        (recovery, request)
    }

    /// Returns the file that is open.
    pub(super) fn open_file(&self) -> Option<FileId> {
        self.file
    }

    /// Returns what was found. `first_sequence` is that of a stream that is new.
    pub(super) fn finish(self, first_sequence: u64) -> Found {
        let mut found = self.found;
        let ready = &mut found.ready;
        ready.next_sequence = ready.next_sequence.max(1);
        if found.closed.is_empty() && found.tail.is_none() && self.manifest.is_none() {
            ready.next_sequence = first_sequence.max(1);
            ready.floor = ready.next_sequence;
        }
        let tail = found.tail.as_ref().map(|tail| tail.place.block());
        found.strangers |= self.listed.iter().any(|number| {
            let used = found.closed.contains_key(number) || tail == Some(*number);
            !used && !found.leftovers.contains(&block_path(&self.directory, *number))
        });
        found
    }

    /// Takes the answer to the last request and returns the next, `None` when all is done.
    pub(super) fn step(
        &mut self,
        result: Result<Reply, DiskError>,
        (keys, rng): (&Keys, &mut Rng),
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Next {
        match self.step {
            Step::List => match result {
                Err(error) if error.kind == DiskErrorKind::NotFound => {
                    self.step = Step::Create;
                    Ok(Some(Request::CreateDirectory { path: self.directory.clone() }))
                }
                Ok(Reply::Listed(entries)) => {
                    // A manifest was only ever written into a folder whose name was durable.
                    let known = entries.iter().any(|entry| entry.name == MANIFEST);
                    self.entries = entries;
                    Ok(if known { Some(self.read_manifest()) } else { Some(self.name_folder()) })
                }
                other => other.map(|_| None).map_err(Failure::from),
            },
            Step::Create => {
                result?;
                Ok(Some(self.name_folder()))
            }
            Step::NameFolder => {
                result?;
                let done = self.naming == FilePath::root();
                Ok(Some(if done { self.read_manifest() } else { self.name_folder() }))
            }
            Step::Manifest => {
                if let Some(again) = self.took_manifest(result, events)? {
                    return Ok(Some(again));
                }
                self.listed(events);
                Ok(self.newest_or_next(disk, events))
            }
            Step::Newest | Step::Block if is_unreadable(&result) => {
                Ok(Some(self.open_pieces(result, disk, events)))
            }
            Step::Newest => {
                let bytes = read(result?);
                self.newest(&bytes, keys, disk, events)
            }
            Step::OpenNewest => {
                result?;
                let (Some(file), Some(resumed)) = (self.file, &self.resumed) else { return Ok(None) };
                self.step = Step::CutNewest;
                Ok(Some(Request::Truncate { file, len: u64::from(resumed.stamp.len) }))
            }
            Step::CutNewest => {
                result?;
                let Some(file) = self.file else { return Ok(None) };
                // What was read may be in memory only, and so may its name. If a sync failed in a life before, no sync brings it
                // to the disk: it has to be written.
                let (offset, bytes) = std::mem::take(&mut self.unsynced);
                if bytes.is_empty() || planted::bug(Bug::StoreSyncsAgain) {
                    self.step = Step::SyncNewest;
                    return Ok(Some(Request::Sync { file }));
                }
                self.step = Step::WriteNewest;
                let (offset, data) = (u64::from(offset), vec![bytes]);
                Ok(Some(Request::Write { file, offset, data, sync: true }))
            }
            Step::WriteNewest => {
                result?;
                let Some(file) = self.file else { return Ok(None) };
                self.step = Step::SyncNewest;
                Ok(Some(Request::Sync { file }))
            }
            Step::SyncNewest => {
                result?;
                self.step = Step::NameNewest;
                Ok(Some(Request::SyncDirectory { path: self.directory.clone() }))
            }
            Step::NameNewest => {
                result?;
                if let Some(resumed) = self.resumed.take() {
                    let mut tail = Tail::resume(resumed);
                    (tail.file, tail.open) = (self.file.take(), true);
                    self.found.tail = Some(tail);
                }
                Ok(self.next_block(disk, events))
            }
            Step::Open => {
                result?;
                let len = self.blocks.last().map_or(0, |(_, len)| *len);
                self.stamp.len = u32::try_from(len).unwrap_or(u32::MAX);
                self.step = Step::TailBytes;
                let file = self.file.expect("it was opened");
                Ok(Some(Request::Read { file, offset: len.saturating_sub(4), len: 4 }))
            }
            Step::TailBytes => Ok(Some(self.took_tail_bytes(result, disk))),
            Step::Index => {
                let Some((number, _)) = self.blocks.last().copied() else { return Ok(None) };
                let place = Place::new(self.owner, number);
                let index = match result {
                    Ok(Reply::Read(bytes)) => {
                        let epoch = Index::epoch_of(&bytes);
                        self.found.unsealed |= epoch.is_some_and(|epoch| epoch != keys.epoch());
                        // One from before its block had another key may fit: it goes.
                        let fits = epoch == self.known(number).map(|known| known.epoch);
                        Index::decode(&bytes, &place, self.stamp, keys).ok().filter(|_| fits)
                    }
                    _ => None,
                };
                match index {
                    Some(index) => {
                        self.took(number, index, None, false, events);
                        Ok(self.next_block(disk, events))
                    }
                    None => Ok(Some(self.read_block(Step::Block))),
                }
            }
            Step::Block => {
                let bytes = read(result?);
                self.walked(&bytes, (keys, rng), disk, events)
            }
            Step::OpenPieces(newest) => {
                result?;
                self.step = Step::Pieces(newest);
                Ok(self.pieces.as_ref().and_then(Pieces::next))
            }
            Step::Pieces(newest) => {
                let Some(mut pieces) = self.pieces.take() else { return Ok(None) };
                pieces.took(result);
                if let Some(request) = pieces.next() {
                    self.pieces = Some(pieces);
                    return Ok(Some(request));
                }
                self.file = None;
                disk.submit(0, Request::Close { file: pieces.file });
                let bytes = pieces.into_bytes();
                if newest {
                    return self.newest(&bytes, keys, disk, events);
                }
                self.walked(&bytes, (keys, rng), disk, events)
            }
        }
    }

    /// Returns the index file that is to be written, and of which block it is.
    pub(super) fn take_index(&mut self) -> Option<(u32, Vec<u8>)> {
        self.index.take()
    }

    /// Makes the names of the folder durable, then those of the one that it is in, up to the disk's own.
    fn name_folder(&mut self) -> Request {
        if self.step == Step::NameFolder {
            self.naming = self.naming.parent();
        }
        self.step = Step::NameFolder;
        Request::SyncDirectory { path: self.naming.clone() }
    }

    fn read_manifest(&mut self) -> Request {
        self.step = Step::Manifest;
        Request::ReadFile { path: manifest_path(&self.directory), limit: FILE_LIMIT }
    }

    fn begun(&self, events: &mut VecDeque<Event>) {
        let settings = self.found.settings.at(self.found.ready.applied);
        events.push_back(Event::Begun(self.found.ready, settings));
    }

    /// Asks for the newest block. One that the manifest knows and that isn't there any more is lost.
    fn newest_or_next(&mut self, disk: &mut impl StoreDisk, events: &mut VecDeque<Event>) -> Option<Request> {
        let newest = self.blocks.last().map_or(0, |(number, _)| *number);
        let last =
            self.manifest.as_ref().and_then(|manifest| manifest.blocks.last()).map(|known| known.number);
        if let (Some(manifest), Some(true)) = (&self.manifest, last.map(|last| last > newest)) {
            // It is never written again: the next begins behind it.
            self.found.ready = Ready {
                applied: manifest.covered,
                floor: manifest.floor,
                next_sequence: manifest.next_sequence,
                last_time: stored(manifest.last_time),
            };
            self.bound = manifest.next_sequence;
            self.begun(events);
            return self.next_block(disk, events);
        }
        if self.blocks.is_empty() {
            return None;
        }
        Some(self.read_block(Step::Newest))
    }

    /// Asks for the next older block.
    fn next_block(&mut self, disk: &mut impl StoreDisk, events: &mut VecDeque<Event>) -> Option<Request> {
        let Some((number, _)) = self.blocks.last().copied() else {
            self.lost_between(0, 0, events);
            return None;
        };
        let file = disk.file();
        self.file = Some(file);
        self.step = Step::Open;
        Some(Request::Open { file, path: block_path(&self.directory, number), mode: OpenMode::Read })
    }

    /// Opens a block to be read in pieces, as it can't be read as a whole.
    fn open_pieces(
        &mut self,
        result: Result<Reply, DiskError>,
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Request {
        let (number, len) = self.blocks.last().copied().unwrap_or_default();
        if let (Err(error), 0) = (result, self.reads) {
            events.push_back(Event::Unreadable { number, error });
        }
        self.step = Step::OpenPieces(self.step == Step::Newest);
        let (file, len) = (disk.file(), usize::try_from(len).unwrap_or(usize::MAX).min(u32::MAX as usize));
        (self.file, self.pieces) = (Some(file), Some(Pieces::new(file, len)));
        Request::Open { file, path: block_path(&self.directory, number), mode: OpenMode::Read }
    }

    fn read_block(&mut self, step: Step) -> Request {
        let (number, len) = self.blocks.last().copied().unwrap_or_default();
        self.step = step;
        let limit = usize::try_from(len).unwrap_or(usize::MAX).min(u32::MAX as usize);
        Request::ReadFile { path: block_path(&self.directory, number), limit }
    }

    /// Returns whether a file is to be read again, as what was read of it makes no sense: a read may go wrong once.
    pub(super) fn is_doubtful(&mut self, makes_sense: bool, bytes: &Bytes) -> bool {
        self.reads += 1;
        let sure = makes_sense || self.reads == READS || self.doubted.as_ref() == Some(bytes);
        if sure || planted::bug(Bug::StoreRecoveryReadOnce) {
            (self.reads, self.doubted) = (0, None);
            return false;
        }
        self.doubted = Some(bytes.clone());
        true
    }

    fn took_tail_bytes(&mut self, result: Result<Reply, DiskError>, disk: &mut impl StoreDisk) -> Request {
        let tail = match result {
            Ok(Reply::Read(bytes)) => bytes.first_chunk().map(|tail| u32::from_le_bytes(*tail)),
            // An unreadable end is the block's own matter; it is met when the block is read.
            _ => None,
        };
        if let Some(file) = self.file.take() {
            disk.submit(0, Request::Close { file });
        }
        let number = self.blocks.last().map_or(0, |(number, _)| *number);
        // Of another length it is newer than the manifest, or older: its header says.
        // Without a manifest its header is to be seen: which block it continues, no index says.
        let same = self.known(number).is_some_and(|known| known.len == self.stamp.len);
        match tail.filter(|_| same && self.indexes.binary_search(&number).is_ok()) {
            Some(tail) => {
                self.stamp.tail = tail;
                self.step = Step::Index;
                Request::ReadFile { path: index_path(&self.directory, number), limit: FILE_LIMIT }
            }
            None => self.read_block(Step::Block),
        }
    }

    /// Takes a block whose contents are known.
    fn took(
        &mut self,
        number: u32,
        index: Index,
        header: Option<Header>,
        bare: bool,
        events: &mut VecDeque<Event>,
    ) {
        self.blocks.pop();
        self.found.bare.extend(bare.then_some(number));
        self.leave_out_given_up(header);
        let known = self.known(number);
        let newest_known = self.manifest.as_ref().and_then(|manifest| manifest.blocks.last());
        // The manifest says where a block was cut off; of its newest it only says how far it had come.
        let cut = known.filter(|known| newest_known.is_none_or(|newest| newest.number != known.number));
        let end = self.bound.min(cut.map_or(u64::MAX, |known| known.end));
        self.lost_between(number, index.next_sequence, events);
        let first = index.first_sequence;
        self.bound = self.bound.min(first);
        let known = Known {
            number,
            first,
            end: end.min(index.next_sequence),
            len: index.stamp.len,
            rewrites: header.map(|header| header.rewrites).or(known.map(|known| known.rewrites)).unwrap_or(0),
            epoch: header.map(|header| header.key_epoch).or(known.map(|known| known.epoch)).unwrap_or(0),
        };
        self.found.closed.insert(number, Closed { known, stamp: index.stamp, file: None });
        events.push_back(Event::Block(Box::new(RecoveredBlock { number, first, end, index, bare })));
    }

    fn walk(
        &self,
        number: u32,
        bytes: &[u8],
        synced: u32,
        keys: &Keys,
    ) -> Result<(Walked, Builder), WalkError> {
        let hint = Context { next_sequence: self.known(number).map_or(1, |known| known.first), base_time: 0 };
        let mut builder = Builder::new(&Place::new(self.owner, number));
        let walked = walk(bytes, Place::new(self.owner, number), hint, synced, keys, &mut builder)?;
        Ok((walked, builder))
    }

    /// Takes the bytes of a block that is closed.
    fn walked(
        &mut self,
        bytes: &Bytes,
        (keys, rng): (&Keys, &mut Rng),
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Next {
        let Some((number, _)) = self.blocks.last().copied() else { return Ok(None) };
        let path = block_path(&self.directory, number).to_string();
        let walked = self.walk(number, bytes, bytes.len() as u32, keys);
        if self.is_doubtful(walked.as_ref().is_ok_and(|(walked, _)| walked.damage.is_empty()), bytes) {
            return Ok(Some(self.read_block(Step::Block)));
        }
        let (walked, builder) = match walked {
            Ok(walked) => walked,
            Err(WalkError::Foreign { .. }) => {
                events.push_back(Event::Foreign { path });
                self.blocks.pop();
                return Ok(self.next_block(disk, events));
            }
            Err(error) => return Err(Failure::Block { path, error }),
        };
        if self.manifest.is_none() && walked.mark.is_none() && !self.indexes.contains(&number) {
            // Nothing in it was ever durable: it was taken for torn and removed before, and is back after a power cut.
            events.push_back(Event::TornTail { number, bytes: bytes.len() as u32 });
            self.blocks.pop();
            return Ok(self.next_block(disk, events));
        }
        if self.is_older(number, &walked, events) {
            self.blocks.pop();
            return Ok(self.next_block(disk, events));
        }
        self.tell(number, &walked, events);
        if keys.epoch() != 0 && self.indexes.contains(&number) {
            // It is of no use, and may be from before the block had its key.
            self.found.leftovers.push(index_path(&self.directory, number));
        }
        let first = self.first_sequence(number, &walked, &builder).unwrap_or(self.bound);
        let index = builder.finish(Stamp::of(bytes), first, walked.context.next_sequence, walked.applied);
        let whole = self.is_whole(number, &walked, index.stamp.len);
        if whole {
            // Written again at once: what rots in the block later is told by what the index knew.
            let data = index.encode(&Place::new(self.owner, number), keys, rng);
            self.index = Some((number, data));
        }
        self.took(number, index, walked.header, !whole, events);
        Ok(self.next_block(disk, events))
    }

    /// Takes the bytes of the newest block: cuts it behind its last good mark, to go on there.
    fn newest(
        &mut self,
        bytes: &Bytes,
        keys: &Keys,
        disk: &mut impl StoreDisk,
        events: &mut VecDeque<Event>,
    ) -> Next {
        let Some((number, _)) = self.blocks.last().copied() else { return Ok(None) };
        let path = block_path(&self.directory, number);
        let len = bytes.len() as u32;
        let synced = self.known(number).map_or(0, |known| known.len);
        let failure = |error| Failure::Block { path: path.to_string(), error };
        let walked = self.walk(number, bytes, synced.min(len), keys);
        let ends_well = |walked: &Walked| walked.damage.is_empty() && walked.mark_end == len;
        if self.is_doubtful(walked.as_ref().is_ok_and(|(walked, _)| ends_well(walked)), bytes) {
            return Ok(Some(self.read_block(Step::Newest)));
        }
        let walked = match walked {
            Ok((walked, _)) => walked,
            Err(WalkError::Foreign { .. }) => {
                events.push_back(Event::Foreign { path: path.to_string() });
                self.blocks.pop();
                return Ok(self.newest_or_next(disk, events));
            }
            Err(error) => return Err(failure(error)),
        };
        if self.is_older(number, &walked, events) {
            self.blocks.pop();
            return Ok(self.newest_or_next(disk, events));
        }
        let Some(mark) = walked.mark.filter(|_| walked.mark_end > 0) else {
            // No mark was ever synced in it, so nothing in it was ever reported as durable; unless the manifest says so.
            if len > 0 {
                events.push_back(Event::TornTail { number, bytes: len });
            }
            self.blocks.pop();
            if self.known(number).is_none() {
                self.found.leftovers.push(path);
            }
            return Ok(self.newest_or_next(disk, events));
        };
        let end = walked.mark_end;
        let cut = &bytes[..end as usize];
        let (walked, builder) = self.walk(number, cut, end, keys).map_err(failure)?;
        self.tell(number, &walked, events);
        if end < len {
            events.push_back(Event::TornTail { number, bytes: len - end });
        }
        let first = self.first_sequence(number, &walked, &builder).unwrap_or(mark.next_sequence);
        self.blocks.pop();
        self.leave_out_unlisted();
        self.leave_out_given_up(walked.header);
        let stale = self.manifest.as_ref().filter(|manifest| manifest.covered > mark.applied);
        let mut ready = Ready {
            applied: mark.applied,
            floor: mark.first_sequence,
            next_sequence: mark.next_sequence,
            last_time: stored(mark.last_time),
        };
        let mut lost = None;
        if let Some(manifest) = stale {
            // The file is older than it was: what came behind is lost, and its sequences are not to be used again.
            ready.applied = manifest.covered;
            ready.last_time = stored(manifest.last_time);
            ready.floor = ready.floor.max(manifest.floor);
            ready.next_sequence = ready.next_sequence.max(manifest.next_sequence);
            if ready.next_sequence > mark.next_sequence {
                lost = Some(Event::Lost { first: mark.next_sequence, last: ready.next_sequence - 1 });
            }
        }
        self.found.ready = ready;
        self.bound = first;
        self.begun(events);
        events.extend(lost);
        let index = builder.index().clone();
        let block = RecoveredBlock { number, first, end: u64::MAX, index, bare: false };
        events.push_back(Event::Block(Box::new(block)));
        self.resumed = Some(Resume {
            place: Place::new(self.owner, number),
            builder,
            first_sequence: first,
            context: mark.context(),
            applied: mark.applied,
            epoch: walked.header.map_or(0, |header| header.key_epoch),
            rewrites: walked.header.map_or(0, |header| header.rewrites),
            stream_time: mark.last_time,
            stamp: Stamp::of(cut),
        });
        // Where something can't be read, what is there instead isn't to be written over it.
        if walked.damage.is_empty() && synced < end {
            self.unsynced = (synced, bytes.slice(synced as usize..end as usize));
        }
        let file = disk.file();
        self.file = Some(file);
        self.step = Step::OpenNewest;
        Ok(Some(Request::Open { file, path, mode: OpenMode::ReadWrite }))
    }

    fn tell(&mut self, number: u32, walked: &Walked, events: &mut VecDeque<Event>) {
        for damage in &walked.damage {
            self.found.damaged.push((number, *damage));
            events.push_back(Event::Damaged { number, damage: *damage });
        }
    }
}

/// Returns a time as a mark or the manifest says it.
fn stored(last_time: i64) -> Option<WallTime> {
    (last_time != NO_TIME).then(|| WallTime::from_unix_nanos(last_time))
}

fn read(reply: Reply) -> Bytes {
    if let Reply::Read(bytes) = reply { bytes } else { Bytes::new() }
}
