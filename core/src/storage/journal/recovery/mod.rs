//! The way from a folder to the next position.
//!
//! 1. List the folder, open every segment, read the headers.
//! 2. *Skim* the newest: how far is it known to be synced, and which segments count?
//! 3. *Survey* all that count, up to where each is known to be synced: who has how much in it, who was forgotten, what
//!    was copied forward, what is damaged.
//! 4. Read the *tail* behind the last mark, up to the first batch that isn't whole.
//! 5. Start a segment of our own whose header ends the last one at its mark, and write the tail again there: what was read may
//!    be in memory only.
//! 6. *Replay*: everything that is live, in the order of positions; what was copied forward finds its place by an index.

mod headers;
mod replay;
mod survey;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::{OwnerId, Position};
use super::batch::Batch;
use super::chain::Link;
use super::commit::Tail;
use super::prepare::Preparer;
use super::scan::{Entry, Reader, Scanner, Skim};
use super::segment::{START, SegmentHeader, parse_file_name};
use super::{Config, Damage, Event, Journal, JournalError, Phase, Purpose, Spare, Ticket};
use crate::disk::{DiskError, DiskQueue, FileId, FilePath, OpenMode, Reply, Request};
use crate::planted::{self, Bug};
use crate::time::Instant;

/// How far behind the last position that was seen recovery goes on: more than could have been lost unsynced.
const EPOCH: u64 = 1 << 32;

/// A recovery goes on at least so many times further for each segment number, which is more than it goes from the last position.
const EPOCHS_BY_NUMBER: u64 = 4;

/// A segment file as it was found.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub number: u64,
    file: FileId,
    path: FilePath,
    len: u64,
    pub header: Option<SegmentHeader>,
    /// The number that its header says, if that isn't its own.
    pub says: Option<u64>,
    /// Its header could not be read.
    unreadable: bool,
    /// With which epoch it says that all in it is sealed, whatever number its header says; `None` if it has none.
    pub sealed: Option<u32>,
}

impl Found {
    /// Returns how long the file is.
    fn size(&self) -> u32 {
        u32::try_from(self.len).unwrap_or(u32::MAX)
    }
}

/// Where the newest version of an entry is that was copied forward.
#[derive(Clone, Debug)]
enum Copy {
    Disk { file: FileId, offset: u32, size: usize },
    Memory(Bytes),
}

/// Segment, offset and positions of damage.
type Told = (u64, u32, Option<(Position, Position)>);

/// How far a search for what a journal wrote has come.
#[derive(Debug, Default)]
struct Remains {
    /// The index of the file.
    index: usize,
    at: u32,
    reader: Option<Reader>,
}

#[derive(Debug)]
enum Stage {
    MakeDirectory,
    SyncParent,
    List,
    /// Opens and reads the header of the file at this index.
    Open(usize),
    ReadHeader(usize, Reader),
    /// Looks for what a journal wrote, as there is no header anywhere.
    Remains(Remains),
    /// Files behind the newest good header may be segments whose header is bad.
    Skim(Skim),
    /// Looks for the mark of a segment of which the next one doesn't say where it ends.
    SeekEnd(usize, Skim),
    Survey(usize, Option<Scanner>),
    Tail(Reader, u32),
    Rewrite,
    Replay(usize, Option<Scanner>),
    ReplayTail,
    ReplayRest,
}

#[derive(Debug)]
pub(super) struct Recovery {
    stage: Stage,
    directory: FilePath,
    segment_size: u32,
    arrived: Option<Result<Reply, DiskError>>,
    /// Whether a request is under way.
    asked: bool,
    names: Vec<(u64, FilePath, u64)>,
    /// Why a header could not be read.
    unreadable: Option<DiskError>,
    files: Vec<Found>,
    /// The segments that count, and where each ends.
    chain: Vec<Link>,
    mark: u32,
    /// From where on what is bad is the end of the segment that is surveyed next, if its end isn't known.
    soft: Option<u32>,
    oldest: u64,
    expected: Position,
    /// The highest position that is used.
    highest: Position,
    tail: Vec<Batch>,
    tail_entries: VecDeque<Entry>,
    /// Who is forgotten by the tail: told when it is written again, as files are removed for it.
    forgotten: Vec<OwnerId>,
    copies: BTreeMap<Position, Copy>,
    /// Entries whose turn it is, behind the copies that come before them.
    due: VecDeque<Entry>,
    copy_reader: Option<(FileId, Reader)>,
    /// The places and positions of damage that was told.
    told: BTreeSet<Told>,
    /// The position of the last entry that was replayed from where it was first written.
    replayed: Position,
    /// Files that don't count, and whether they may be used again with what they have.
    void: Vec<(Spare, bool)>,
}

impl Recovery {
    pub(super) fn start<O: From<Ticket>>(config: &Config, disk: &mut DiskQueue<O>) -> Self {
        let directory = config.directory.clone();
        let request = Request::CreateDirectory { path: directory.clone() };
        disk.submit(Ticket(Purpose::Recover).into(), request);
        Recovery {
            stage: Stage::MakeDirectory,
            directory,
            segment_size: config.segment_size,
            arrived: None,
            asked: true,
            names: Vec::new(),
            unreadable: None,
            files: Vec::new(),
            chain: Vec::new(),
            mark: START,
            soft: None,
            oldest: 0,
            expected: Position(1),
            highest: Position(0),
            tail: Vec::new(),
            tail_entries: VecDeque::new(),
            forgotten: Vec::new(),
            copies: BTreeMap::new(),
            due: VecDeque::new(),
            copy_reader: None,
            told: BTreeSet::new(),
            replayed: Position(0),
            void: Vec::new(),
        }
    }

    /// Takes note that a position is used.
    pub(super) fn seen(&mut self, position: Position) {
        self.highest = self.highest.max(position);
    }

    pub(super) fn completed(&mut self, result: Result<Reply, DiskError>) {
        self.arrived = Some(result);
    }

    fn ask<O: From<Ticket>>(&mut self, request: Request, disk: &mut DiskQueue<O>) {
        self.asked = true;
        disk.submit(Ticket(Purpose::Recover).into(), request);
    }

    fn reader(file: FileId) -> Reader {
        Reader::new(file, Ticket(Purpose::Recover))
    }
}

impl Journal {
    /// Goes on with recovery by about a window.
    pub(super) fn recover<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) {
        let Some(mut recovery) = self.recovery.take() else { return };
        let mut result = Ok(true);
        while let Ok(true) = result {
            result = self.recover_step(&mut recovery, now, disk);
        }
        match result {
            Ok(_) if self.phase == Phase::Recovering => self.recovery = Some(recovery),
            Ok(_) => {}
            Err(error) => self.fail(error),
        }
    }

    /// Does a step; returns whether another can be done in this call.
    fn recover_step<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        now: Instant,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        let arrived = recovery.arrived.take();
        match &mut recovery.stage {
            Stage::MakeDirectory => {
                let Some(result) = arrived else { return Ok(false) };
                result?;
                let path = recovery.directory.parent();
                recovery.stage = Stage::SyncParent;
                recovery.ask(Request::SyncDirectory { path }, disk);
                Ok(false)
            }
            Stage::SyncParent => {
                let Some(result) = arrived else { return Ok(false) };
                result?;
                let path = recovery.directory.clone();
                recovery.stage = Stage::List;
                recovery.ask(Request::List { path }, disk);
                Ok(false)
            }
            Stage::List => {
                let Some(result) = arrived else { return Ok(false) };
                if let Reply::Listed(entries) = result? {
                    for entry in entries.into_iter().filter(|entry| !entry.directory) {
                        if let Some(number) = parse_file_name(&entry.name) {
                            recovery.names.push((number, recovery.directory.join(&entry.name), entry.len));
                            // Segments may have been longer when they were made.
                            let len = u32::try_from(entry.len).unwrap_or(0);
                            recovery.segment_size = recovery.segment_size.max(len);
                        }
                    }
                }
                recovery.names.sort();
                recovery.stage = Stage::Open(0);
                Ok(true)
            }
            Stage::Open(index) => {
                let index = *index;
                if index == recovery.names.len() {
                    return self.headers_read(recovery);
                }
                if recovery.files.len() == index {
                    let (number, path, len) = recovery.names[index].clone();
                    let file = disk.file();
                    recovery.files.push(Found {
                        number,
                        file,
                        path: path.clone(),
                        len,
                        header: None,
                        says: None,
                        unreadable: false,
                        sealed: None,
                    });
                    recovery.ask(Request::Open { file, path, mode: OpenMode::ReadWrite }, disk);
                    return Ok(false);
                }
                let Some(result) = arrived else { return Ok(false) };
                result?;
                let reader = Recovery::reader(recovery.files[index].file);
                recovery.stage = Stage::ReadHeader(index, reader);
                Ok(true)
            }
            Stage::ReadHeader(index, reader) => {
                let index = *index;
                if let Some(result) = arrived {
                    reader.completed(result, disk);
                }
                let Some(bytes) = reader.get(0, START as usize, START, disk) else { return Ok(false) };
                let found = &mut recovery.files[index];
                let header = SegmentHeader::decode(&bytes);
                if header.is_none() && reader.reads_again(0, &bytes) {
                    return Ok(true);
                }
                if header.is_none() {
                    let failure = reader.failure();
                    found.unreadable = failure.is_some();
                    recovery.unreadable = failure.or(recovery.unreadable.take());
                }
                found.sealed = header.map(|header| header.sealed);
                // A file that was renamed and not yet started says the number that it had.
                found.header = header;
                found.says =
                    found.header.take_if(|header| header.number != found.number).map(|other| other.number);
                recovery.stage = Stage::Open(index + 1);
                Ok(true)
            }
            Stage::Remains(_) => self.look_for_remains(recovery, arrived, disk),
            Stage::Skim(skim) => {
                if let Some(result) = arrived {
                    skim.reader.completed(result, disk);
                }
                if !skim.step(disk) {
                    return Ok(false);
                }
                self.skimmed(recovery);
                Ok(true)
            }
            Stage::SeekEnd(index, skim) => {
                if let Some(result) = arrived {
                    skim.reader.completed(result, disk);
                }
                if !skim.step(disk) {
                    return Ok(false);
                }
                recovery.soft = Some(skim.mark);
                recovery.chain[*index].certain = true;
                recovery.stage = Stage::Survey(*index, None);
                Ok(true)
            }
            Stage::Survey(..) => self.survey(recovery, arrived, disk),
            Stage::Tail(..) => self.read_tail(recovery, arrived, disk),
            Stage::Rewrite => {
                self.write(now, disk);
                self.sync_now(disk);
                if !self.writer.is_quiet() {
                    return Ok(false);
                }
                for (spare, reusable) in std::mem::take(&mut recovery.void) {
                    self.let_go(spare, reusable, disk);
                }
                let forgotten = std::mem::take(&mut recovery.forgotten);
                self.events.extend(forgotten.into_iter().map(|owner| Event::Forgotten { owner }));
                recovery.stage = Stage::Replay(0, None);
                Ok(true)
            }
            Stage::Replay(..) | Stage::ReplayTail | Stage::ReplayRest => self.replay(recovery, arrived, disk),
        }
    }

    fn tell(&mut self, damage: Damage) {
        if !planted::bug(Bug::JournalDamageUnreported) {
            self.events.push_back(Event::Damaged(damage));
        }
    }

    /// Tells damage that was not told before: segments are read twice.
    fn tell_once(&mut self, recovery: &mut Recovery, damage: Damage) {
        if recovery.told.insert((damage.segment, damage.offset, damage.positions)) {
            self.tell(damage);
        }
    }

    /// Gets ready to write: a segment of our own, first the tail, then from a position that was never given out.
    fn begin(&mut self, recovery: &mut Recovery) {
        let number = recovery.files.last().map_or(0, |found| found.number) + 1;
        self.preparer = Preparer::new(self.config.directory.clone(), self.config.first_segment(), number);
        let next = match recovery.highest {
            Position(0) if recovery.files.is_empty() => Position(1),
            _ if planted::bug(Bug::JournalPositionReused) => Position(recovery.highest.0 + 1),
            Position(highest) => {
                let behind = (highest.saturating_add(EPOCH) | (EPOCH - 1)).saturating_add(1);
                // Numbers are seen, in the names of files, also where the newest segment is missing or unreadable.
                let by_number = number.saturating_mul(EPOCHS_BY_NUMBER * EPOCH);
                let ignored = planted::bug(Bug::JournalNumbersIgnored);
                Position(if ignored { behind } else { behind.max(by_number) })
            }
        };
        let begun = recovery.files.iter().filter(|found| found.sealed.is_some());
        let count = recovery.chain.iter().map(|link| &link.found);
        self.leaving.look_at(self.config.seal.as_ref(), begun.chain(count));
        let mut tail = Tail::default();
        if let Some(link) = recovery.chain.last() {
            tail = Tail { segment: link.found.number, end: link.extent.end };
        }
        if recovery.mark == START && recovery.chain.len() > 1 {
            // Nothing in the newest is certain: it is left out, so that crashes in recovery don't make a chain of them.
            if let Some(header) = recovery.chain.pop().and_then(|link| link.found.header) {
                self.segments.pop_newest();
                tail = Tail { segment: header.previous, end: header.previous_end };
            }
        }
        self.writer.tail = tail;
        if planted::bug(Bug::JournalTailTrusted) && recovery.chain.last().is_some() {
            self.writer.tail.end = self.config.segment_size;
        }
        for batch in recovery.tail.drain(..) {
            self.writer.enqueue(batch);
        }
        self.writer.rewrite_waiting();
        self.filling.start(next);
        if self.writer.is_quiet() {
            // The header goes to disk with a batch; an empty one if there is no other.
            self.writer.enqueue(Batch { first: next, ..Batch::default() });
        }
        let counts: Vec<u64> = recovery.chain.iter().map(|link| link.found.number).collect();
        for found in &recovery.files {
            if counts.binary_search(&found.number).is_err() {
                let (file, path, size) = (found.file, found.path.clone(), found.size());
                // Nor one that says more than is true of it from now on: what is written to it first may be torn.
                let as_sealed = match &self.config.seal {
                    Some(seal) => found.sealed == Some(seal.epoch),
                    None => found.sealed.is_none_or(|epoch| epoch == 0),
                };
                recovery.void.push((Spare { file, path, size }, as_sealed && !self.leaving.is_wanted()));
            }
        }
        self.released = recovery.oldest;
    }
}
