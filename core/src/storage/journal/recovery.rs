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

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::{OwnerId, Position};
use super::batch::{BATCH_HEADER, Batch, BatchHeader, ENTRY_HEADER, EntryHeader, KIND_FORGET, Seed, Share};
use super::chain::{Link, link, misplaced, missing};
use super::commit::Tail;
use super::prepare::Preparer;
use super::scan::{Entry, Extent, Progress, Reader, Scanner, Skim, read_body};
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
}

/// Where the newest version of an entry is that was copied forward.
#[derive(Clone, Debug)]
enum Copy {
    Disk { file: FileId, offset: u32, size: usize },
    Memory(Bytes),
}

/// Segment, offset and positions of damage.
type Told = (u64, u32, Option<(Position, Position)>);

#[derive(Debug)]
enum Stage {
    MakeDirectory,
    SyncParent,
    List,
    /// Opens and reads the header of the file at this index.
    Open(usize),
    ReadHeader(usize, Reader, bool),
    /// Files behind the newest good header may be segments whose header is bad.
    Skim(Skim),
    /// Looks for the mark of a segment of which the next one doesn't say where it ends.
    SeekEnd(usize, Skim),
    Survey(usize, Option<Scanner>),
    Tail(Reader, u32, bool),
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
    /// The copy that was read again, as it made no sense.
    reread: Option<Position>,
    /// The places and positions of damage that was told.
    told: BTreeSet<Told>,
    /// The position of the last entry that was replayed from where it was first written.
    replayed: Position,
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
            reread: None,
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
                    });
                    recovery.ask(Request::Open { file, path, mode: OpenMode::ReadWrite }, disk);
                    return Ok(false);
                }
                let Some(result) = arrived else { return Ok(false) };
                result?;
                let reader = Recovery::reader(recovery.files[index].file);
                recovery.stage = Stage::ReadHeader(index, reader, false);
                Ok(true)
            }
            Stage::ReadHeader(index, reader, reread) => {
                let index = *index;
                if let Some(result) = arrived {
                    reader.completed(result, disk);
                }
                let Some(bytes) = reader.get(0, START as usize, START, disk) else { return Ok(false) };
                let found = &mut recovery.files[index];
                let header = SegmentHeader::decode(&bytes);
                if header.is_none() && !std::mem::replace(reread, true) {
                    reader.forget();
                    return Ok(true);
                }
                if header.is_none() {
                    recovery.unreadable = reader.failure().or(recovery.unreadable.take());
                }
                // A file that was renamed and not yet started says the number that it had.
                found.header = header;
                found.says =
                    found.header.take_if(|header| header.number != found.number).map(|other| other.number);
                recovery.stage = Stage::Open(index + 1);
                Ok(true)
            }
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

    /// Finds the newest segment and looks for its mark.
    fn headers_read(&mut self, recovery: &mut Recovery) -> Result<bool, JournalError> {
        for damage in misplaced(&recovery.files, recovery.segment_size) {
            self.tell(damage);
        }
        let newest = recovery.files.iter().rev().find_map(|found| found.header);
        let Some(newest) = newest else {
            // A journal that can't be read is not one that isn't there.
            if let Some(error) = recovery.unreadable.take() {
                return Err(error.into());
            }
            recovery.stage = Stage::Rewrite;
            self.begin(recovery);
            return Ok(true);
        };
        self.identity = newest.identity;
        self.seed = Seed::new(newest.identity);
        let foreign = |found: &&Found| found.header.is_some_and(|header| header.identity != newest.identity);
        if let Some(found) = recovery.files.iter().find(foreign) {
            return Err(JournalError::Foreign { path: found.path.to_string() });
        }
        recovery.oldest = newest.oldest;
        for header in recovery.files.iter().filter_map(|found| found.header) {
            recovery.highest = recovery.highest.max(Position(header.next.0.saturating_sub(1)));
        }
        let last = recovery.files.last().map(|found| (found.number, found.file));
        if let Some((number, file)) = last {
            recovery.stage = Stage::Skim(self.skim(recovery, number, file));
        }
        Ok(true)
    }

    fn skim(&self, recovery: &Recovery, number: u64, file: FileId) -> Skim {
        Skim::new(self.seed, number, Recovery::reader(file), START, recovery.segment_size)
    }

    /// Takes what skimming a file said: it is the newest segment, or none at all.
    fn skimmed(&mut self, recovery: &mut Recovery) {
        let Stage::Skim(skim) = &recovery.stage else { return };
        let (number, mark, oldest, last) = (skim.number, skim.mark, skim.oldest, skim.last);
        let behind = skim.behind;
        let Some(index) = recovery.files.iter().position(|found| found.number == number) else { return };
        if recovery.files[index].header.is_none() && mark == START {
            // It was prepared and never started, or its first write was torn; there is a good header below, or we
            // would not be here.
            if let Some(offset) = last {
                self.events.push_back(Event::TornTail { segment: number, offset });
            }
            if let Some(below) = index.checked_sub(1).map(|below| &recovery.files[below]) {
                let skim = self.skim(recovery, below.number, below.file);
                recovery.stage = Stage::Skim(skim);
            }
            return;
        }
        recovery.oldest = recovery.oldest.max(oldest);
        if planted::bug(Bug::JournalStaleSegmentReplayed) {
            recovery.oldest = recovery.files[0].number;
        }
        recovery.mark = mark;
        let extent = Extent { end: mark, first: Position(0), behind };
        recovery.chain = link(&recovery.files, index, extent, recovery.oldest, recovery.segment_size);
        let first = recovery.chain.first().and_then(|link| link.found.header);
        recovery.expected = first.map_or(Position(0), |header| header.first);
        for damage in missing(&recovery.chain, recovery.oldest) {
            self.tell(damage);
        }
        recovery.stage = Stage::Survey(0, None);
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

    fn survey<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        let Stage::Survey(index, scanner) = &mut recovery.stage else { return Ok(false) };
        let Some(Link { found, extent, certain }) = recovery.chain.get_mut(*index) else {
            let (file, mark) =
                recovery.chain.last().map_or((FileId(0), START), |link| (link.found.file, link.extent.end));
            recovery.stage = Stage::Tail(Recovery::reader(file), mark, false);
            return Ok(true);
        };
        let scanner = match scanner {
            Some(scanner) => scanner,
            None if !*certain => {
                let skim =
                    Skim::new(self.seed, found.number, Recovery::reader(found.file), START, extent.end);
                recovery.stage = Stage::SeekEnd(*index, skim);
                return Ok(true);
            }
            None => {
                let header = found.header.map_or(Position(0), |header| header.first);
                recovery.highest = recovery.highest.max(header);
                extent.first = recovery.expected.max(header);
                self.segments.push(found.number, found.file, found.path.clone(), extent.first, extent.end);
                let reader = Recovery::reader(found.file);
                let new = Scanner::new(self.seed, found.number, reader, *extent);
                scanner.insert(new.soft_from(recovery.soft.take()))
            }
        };
        if let Some(result) = arrived {
            scanner.reader.completed(result, disk);
        }
        match scanner.step(disk) {
            Progress::Wait => return Ok(false),
            Progress::End => {
                extent.end = scanner.end();
                self.segments.ends(found.number, extent.end);
                recovery.expected = scanner.expected;
                recovery.highest = recovery.highest.max(Position(scanner.expected.0.saturating_sub(1)));
                recovery.stage = Stage::Survey(*index + 1, None);
            }
            Progress::Found(batch) => {
                let number = found.number;
                for entry in batch.entries {
                    let (owner, position) = (entry.header.owner, entry.header.position);
                    recovery.highest = recovery.highest.max(position);
                    if entry.header.kind == KIND_FORGET {
                        if !planted::bug(Bug::JournalForgottenReplayed) {
                            self.segments.forget(owner, number);
                            self.events.push_back(Event::Forgotten { owner });
                        }
                        continue;
                    }
                    let size = entry.raw.len();
                    self.segments.account(number, Share { owner, bytes: size as u64, last: position });
                    if entry.copy && self.segments.wants(owner, position) {
                        let copy = Copy::Disk { file: found.file, offset: entry.offset, size };
                        recovery.copies.insert(position, copy);
                    }
                }
                for damage in batch.damage {
                    self.tell_once(recovery, damage);
                }
            }
        }
        Ok(true)
    }

    /// Reads the whole batches behind the last mark, into memory: they were under way at once, so they fit.
    fn read_tail<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        let Stage::Tail(reader, at, _) = &mut recovery.stage else { return Ok(false) };
        if let Some(result) = arrived {
            reader.completed(result, disk);
        }
        let (number, at, end) =
            (recovery.chain.last().map_or(0, |link| link.found.number), *at, recovery.segment_size);
        let mut torn = false;
        'batch: {
            if at as usize + BATCH_HEADER > end as usize || planted::bug(Bug::JournalTailCutTooShort) {
                break 'batch;
            }
            let Some(bytes) = reader.get(at, BATCH_HEADER, end, disk) else { return Ok(false) };
            let header = BatchHeader::decode(self.seed, number, at, &bytes);
            let fits =
                |header: &BatchHeader| at.checked_add(header.size()).is_some_and(|behind| behind <= end);
            let Some(header) = header.filter(fits) else { break 'batch };
            let size = BATCH_HEADER + header.length as usize;
            let Some(bytes) = reader.get(at, size, end, disk) else { return Ok(false) };
            let found = read_body(self.seed, number, at, &header, &bytes.slice(BATCH_HEADER..));
            if !found.damage.is_empty() && !planted::bug(Bug::JournalTornTailKept) {
                torn = true;
                break 'batch;
            }
            let mut batch = Batch { first: header.first, ..Batch::default() };
            for entry in &found.entries {
                recovery.highest = recovery.highest.max(entry.header.position);
                if entry.header.kind == KIND_FORGET {
                    self.segments.forgetting(entry.header.owner);
                    if planted::bug(Bug::JournalForgottenToldEarly) {
                        self.events.push_back(Event::Forgotten { owner: entry.header.owner });
                    } else {
                        recovery.forgotten.push(entry.header.owner);
                    }
                }
                batch.push_raw(&entry.header, entry.raw.clone(), !entry.copy);
                if entry.copy {
                    recovery.copies.insert(entry.header.position, Copy::Memory(entry.raw.clone()));
                }
            }
            recovery.oldest = recovery.oldest.max(header.oldest);
            recovery.tail_entries.extend(found.entries.into_iter().filter(|entry| !entry.copy));
            recovery.tail.push(batch);
            let behind = at + header.size();
            if let Stage::Tail(_, at, reread) = &mut recovery.stage {
                (*at, *reread) = (behind, false);
            }
            return Ok(true);
        }
        if let Stage::Tail(reader, _, reread @ false) = &mut recovery.stage {
            // What can't be read once may be read twice, and what is cut is gone.
            *reread = true;
            reader.forget();
            return Ok(true);
        }
        if torn {
            self.events.push_back(Event::TornTail { segment: number, offset: at });
        }
        self.begin(recovery);
        recovery.stage = Stage::Rewrite;
        Ok(true)
    }

    /// Gets ready to write: a segment of our own, first the tail, then from a position that was never given out.
    fn begin(&mut self, recovery: &mut Recovery) {
        let number = recovery.files.last().map_or(0, |found| found.number) + 1;
        let size = u64::from(self.config.segment_size);
        self.preparer = Preparer::new(self.config.directory.clone(), size, number);
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
                let reusable = found.len >= u64::from(self.config.segment_size);
                recovery.void.push((Spare { file: found.file, path: found.path.clone() }, reusable));
            }
        }
        self.released = recovery.oldest;
    }

    fn replay<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        if let Some(result) = arrived {
            let copying = recovery.copy_reader.as_mut().filter(|(_, reader)| reader.is_waiting());
            match (copying, &mut recovery.stage) {
                (Some((_, reader)), _) => reader.completed(result, disk),
                (None, Stage::Replay(_, Some(scanner))) => scanner.reader.completed(result, disk),
                _ => {}
            }
        }
        // Whoever takes the entries says by draining them that there is room for more.
        if self.events.iter().any(|event| matches!(event, Event::Recovered { .. })) {
            return Ok(false);
        }
        let mut budget = super::WINDOW;
        while let Some(entry) = recovery.due.front() {
            let position = entry.header.position;
            if let Some((&first, _)) =
                recovery.copies.first_key_value().filter(|(first, _)| **first <= position)
            {
                if !self.replay_copy(recovery, first, first < position, disk) {
                    return Ok(false);
                }
                continue;
            }
            let Some(entry) = recovery.due.pop_front() else { break };
            if position <= recovery.replayed && !planted::bug(Bug::JournalVoidReplayed) {
                // Written again behind the end of its segment, where that was lost.
                continue;
            }
            recovery.replayed = position;
            budget = budget.saturating_sub(entry.raw.len());
            self.recovered(&entry.header, entry.payload());
            if budget == 0 {
                return Ok(false);
            }
        }
        match &mut recovery.stage {
            Stage::Replay(index, scanner) => {
                let Some(Link { found, extent, .. }) = recovery.chain.get(*index) else {
                    recovery.stage = Stage::ReplayTail;
                    return Ok(true);
                };
                let segment = self.segments.get(found.number);
                let needed = segment.is_some_and(|segment| !segment.live.is_empty());
                if !needed {
                    *scanner = None;
                    *index += 1;
                    return Ok(true);
                }
                let reader = || Recovery::reader(found.file);
                let seed = self.seed;
                let start = || Scanner::new(seed, found.number, reader(), *extent);
                match scanner.get_or_insert_with(start).step(disk) {
                    Progress::Wait => return Ok(false),
                    Progress::End => {
                        *scanner = None;
                        *index += 1;
                    }
                    Progress::Found(batch) => {
                        recovery.due.extend(batch.entries.into_iter().filter(|entry| !entry.copy));
                        // The survey could read what can't be read now.
                        for damage in batch.damage {
                            self.tell_once(recovery, damage);
                        }
                    }
                }
                Ok(true)
            }
            Stage::ReplayTail => {
                recovery.due.append(&mut recovery.tail_entries);
                recovery.stage = Stage::ReplayRest;
                Ok(true)
            }
            _ => {
                if let Some((&first, _)) = recovery.copies.first_key_value() {
                    return Ok(self.replay_copy(recovery, first, true, disk));
                }
                self.phase = Phase::Running;
                self.events.push_back(Event::Ready { next_position: self.filling.next() });
                Ok(false)
            }
        }
    }

    /// Replays what was copied forward; returns whether it could be done now. Where the original is still there, `tell` is false.
    fn replay_copy<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        position: Position,
        tell: bool,
        disk: &mut DiskQueue<O>,
    ) -> bool {
        let raw = match recovery.copies.get(&position) {
            Some(Copy::Memory(raw)) => raw.clone(),
            Some(Copy::Disk { file, offset, size }) if tell => {
                if recovery.copy_reader.as_ref().is_none_or(|(open, _)| open != file) {
                    recovery.copy_reader = Some((*file, Recovery::reader(*file)));
                }
                let Some((_, reader)) = &mut recovery.copy_reader else { return false };
                let Some(raw) = reader.get(*offset, *size, recovery.segment_size, disk) else { return false };
                raw
            }
            _ => Bytes::new(),
        };
        let header = EntryHeader::decode(&raw).filter(|header| tell && header.verify(self.seed, &raw));
        match (header, recovery.copies.get(&position)) {
            (Some(header), _) => self.recovered(&header, raw.slice(ENTRY_HEADER..)),
            (None, Some(Copy::Disk { file, offset, size })) if tell => {
                if recovery.reread.replace(position) != Some(position) {
                    recovery.copy_reader = None;
                    return self.replay_copy(recovery, position, tell, disk);
                }
                let link = recovery.chain.iter().find(|link| link.found.file == *file);
                let segment = link.map_or(0, |link| link.found.number);
                let (offset, length, positions) = (*offset, *size as u32, Some((position, position)));
                self.tell(Damage { segment, offset, length, owner: None, positions, copies: false });
            }
            _ => {}
        }
        recovery.copies.remove(&position);
        true
    }

    fn recovered(&mut self, header: &EntryHeader, payload: Bytes) {
        let (owner, position, kind) = (header.owner, header.position, header.kind);
        if kind == KIND_FORGET || !self.segments.wants(owner, position) {
            return;
        }
        self.events.push_back(Event::Recovered { owner, position, kind, payload });
    }
}
