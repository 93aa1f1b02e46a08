//! What stands in the segments that count, and behind the last mark.

use bytes::Bytes;

use super::super::batch::{BATCH_HEADER, Batch, BatchHeader, KIND_FORGET, Share};
use super::super::chain::Link;
use super::super::prepare::Prepared;
use super::super::scan::{Progress, Scanner, read_body};
use super::super::segment::START;
use super::super::{Damage, Event, Journal, JournalError, Ticket};
use super::{Copy, Recovery, Stage};
use crate::disk::{DiskError, DiskQueue, FileId, Reply};
use crate::planted::{self, Bug};
use crate::storage::Position;

impl Journal {
    pub(super) fn survey<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        let Stage::Survey(index, scanner) = &mut recovery.stage else { return Ok(false) };
        let Some(Link { found, extent, certain }) = recovery.chain.get_mut(*index) else {
            let (file, mark) =
                recovery.chain.last().map_or((FileId(0), START), |link| (link.found.file, link.extent.end));
            recovery.stage = Stage::Tail(Recovery::reader(file), mark);
            return Ok(true);
        };
        let scanner = match scanner {
            Some(scanner) => scanner,
            None if !*certain => {
                let skim = self.skim(found, extent.end);
                recovery.stage = Stage::SeekEnd(*index, skim);
                return Ok(true);
            }
            None => {
                let header = found.header.map_or(Position(0), |header| header.first);
                recovery.highest = recovery.highest.max(header);
                extent.first = recovery.expected.max(header);
                let (number, file, path, size) = (found.number, found.file, found.path.clone(), found.size());
                self.segments.push(Prepared { number, file, path, size }, extent.first, extent.end);
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
    pub(super) fn read_tail<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        let Stage::Tail(reader, at) = &mut recovery.stage else { return Ok(false) };
        if let Some(result) = arrived {
            reader.completed(result, disk);
        }
        let (number, at, end) =
            (recovery.chain.last().map_or(0, |link| link.found.number), *at, recovery.segment_size);
        let (mut torn, mut read) = (false, Bytes::new());
        'batch: {
            if at as usize + BATCH_HEADER > end as usize || planted::bug(Bug::JournalTailCutTooShort) {
                break 'batch;
            }
            let Some(bytes) = reader.get(at, BATCH_HEADER, end, disk) else { return Ok(false) };
            read = bytes.clone();
            let header = BatchHeader::decode(self.seed, number, at, &bytes);
            let fits =
                |header: &BatchHeader| at.checked_add(header.size()).is_some_and(|behind| behind <= end);
            let Some(header) = header.filter(fits) else { break 'batch };
            let size = BATCH_HEADER + header.length as usize;
            let Some(bytes) = reader.get(at, size, end, disk) else { return Ok(false) };
            read = bytes.clone();
            let found = read_body(self.seed, number, at, &header, &bytes.slice(BATCH_HEADER..));
            if !found.damage.is_empty() && !planted::bug(Bug::JournalTornTailKept) {
                torn = true;
                break 'batch;
            }
            let copies = found.entries.iter().any(|entry| entry.copy);
            let continued = recovery.tail.pop_if(|last| {
                // Each is written again with a sync of its own: with a sync interval there may be hundreds.
                let room = last.length + header.length as usize <= self.config.max_batch;
                let follows = last.originals > 0 && last.next() == header.first;
                room && follows && last.entries == last.originals && !copies
            });
            let mut batch = continued.unwrap_or_else(|| Batch { first: header.first, ..Batch::default() });
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
            if let Stage::Tail(_, at) = &mut recovery.stage {
                *at = behind;
            }
            return Ok(true);
        }
        // What is cut is gone.
        if let Stage::Tail(reader, at) = &mut recovery.stage
            && reader.reads_again(*at, &read)
        {
            return Ok(true);
        }
        let started = recovery.chain.last().and_then(|link| link.found.header);
        match started.filter(|header| at < header.synced) {
            // It was whole when the segment's header was written. That the header can be read doesn't say that it is durable, so
            // what stands here is written again like any tail.
            Some(header) => {
                let first = recovery.tail.last().map_or(header.first, Batch::next);
                let positions = header.next.0.checked_sub(1).filter(|last| *last >= first.0);
                self.tell(Damage {
                    segment: number,
                    offset: at,
                    length: header.synced - at,
                    owner: None,
                    positions: positions.map(|last| (first, Position(last))),
                    copies: Some(header.next),
                });
            }
            None if torn => self.events.push_back(Event::TornTail { segment: number, offset: at }),
            None => {}
        }
        self.begin(recovery);
        recovery.stage = Stage::Rewrite;
        Ok(true)
    }
}
