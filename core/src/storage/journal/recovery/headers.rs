//! Which files are segments, and which of them count.

use super::super::batch::BATCH_HEADER;
use super::super::chain::{link, misplaced, missing, vanished};
use super::super::scan::{Extent, Skim};
use super::super::segment::{START, SegmentHeader};
use super::super::{Damage, Event, Journal, JournalError, Ticket, WINDOW};
use super::{Found, Recovery, Remains, Stage};
use crate::disk::{DiskError, DiskQueue, Reply, SECTOR};
use crate::planted::{self, Bug};
use crate::storage::Position;
use crate::storage::journal::batch::Seed;

impl Journal {
    /// Finds the newest segment and looks for its mark.
    pub(super) fn headers_read(&mut self, recovery: &mut Recovery) -> Result<bool, JournalError> {
        for damage in misplaced(&recovery.files, recovery.segment_size) {
            self.tell(damage);
        }
        let newest = recovery.files.iter().rev().find_map(|found| found.header);
        let Some(newest) = newest else {
            // A journal that can't be read is not one that isn't there.
            if let Some(error) = recovery.unreadable.take() {
                return Err(error.into());
            }
            recovery.stage = Stage::Remains(Remains::default());
            return Ok(true);
        };
        self.identity = newest.identity;
        self.seed = Seed::new(newest.identity);
        let foreign = |found: &&Found| found.header.is_some_and(|header| header.identity != newest.identity);
        if let Some(found) = recovery.files.iter().find(foreign) {
            return Err(JournalError::Foreign { path: found.path.to_string() });
        }
        if let Some(damage) = vanished(&recovery.files, newest.number, recovery.segment_size) {
            self.tell(damage);
        }
        recovery.oldest = newest.oldest;
        for header in recovery.files.iter().filter_map(|found| found.header) {
            recovery.highest = recovery.highest.max(Position(header.next.0.saturating_sub(1)));
        }
        if let Some(last) = recovery.files.last() {
            recovery.stage = Stage::Skim(self.skim(last, recovery.segment_size));
        }
        Ok(true)
    }

    /// Makes sure that files without a header were never started, before a journal is begun over them.
    ///
    /// The first write of all, a header and an empty batch, may have been torn or stopped short; everything else waits for
    /// it. So what stands elsewhere was part of a journal.
    pub(super) fn look_for_remains<O: From<Ticket>>(
        &mut self,
        recovery: &mut Recovery,
        arrived: Option<Result<Reply, DiskError>>,
        disk: &mut DiskQueue<O>,
    ) -> Result<bool, JournalError> {
        let Stage::Remains(remains) = &mut recovery.stage else { return Ok(false) };
        let Some(found) = recovery.files.get(remains.index) else {
            self.begin(recovery);
            recovery.stage = Stage::Rewrite;
            return Ok(true);
        };
        let end = u32::try_from(found.len).unwrap_or(u32::MAX);
        if remains.at >= end || planted::bug(Bug::JournalBegunOverRemains) {
            *remains = Remains { index: remains.index + 1, ..Remains::default() };
            return Ok(true);
        }
        let reader = remains.reader.get_or_insert_with(|| Recovery::reader(found.file));
        if let Some(result) = arrived {
            reader.completed(result, disk);
        }
        let len = WINDOW.min((end - remains.at) as usize);
        let Some(bytes) = reader.get(remains.at, len, end, disk) else { return Ok(false) };
        if let Some(error) = reader.failure() {
            return Err(error.into());
        }
        let begun = remains.at as usize;
        if bytes.iter().enumerate().any(|(at, byte)| *byte != 0 && !is_of_first_write(begun + at)) {
            if !reader.reads_again(remains.at, &bytes) {
                return Err(JournalError::Headless { path: found.path.to_string() });
            }
            return Ok(true);
        }
        remains.at += len as u32;
        Ok(true)
    }

    /// Looks for the marks of a segment that ends at `end` at most.
    pub(super) fn skim(&self, found: &Found, end: u32) -> Skim {
        let reader = Recovery::reader(found.file);
        Skim::new(self.seed, found.number, reader, (START, found.size().min(end)), end)
    }

    /// Takes what skimming a file said: it is the newest segment, or none at all.
    pub(super) fn skimmed(&mut self, recovery: &mut Recovery) {
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
            if recovery.files[index].unreadable {
                // Or it was started, and the disk doesn't give it back.
                let (length, positions) = (recovery.segment_size, None);
                self.tell(Damage {
                    segment: number,
                    offset: 0,
                    length,
                    owner: None,
                    positions,
                    copies: Some(Damage::UNBOUNDED),
                });
            }
            if let Some(below) = index.checked_sub(1).map(|below| &recovery.files[below]) {
                recovery.stage = Stage::Skim(self.skim(below, recovery.segment_size));
            }
            return;
        }
        recovery.oldest = recovery.oldest.max(oldest);
        if planted::bug(Bug::JournalStaleSegmentReplayed) {
            recovery.oldest = recovery.files[0].number;
        }
        recovery.mark = mark;
        let extent = Extent { end: mark, first: Position(0), behind, below: behind };
        recovery.chain = link(&recovery.files, index, extent, recovery.oldest, recovery.segment_size);
        let first = recovery.chain.first().and_then(|link| link.found.header);
        recovery.expected = first.map_or(Position(0), |header| header.first);
        for damage in missing(&recovery.chain, recovery.oldest) {
            self.tell(damage);
        }
        recovery.stage = Stage::Survey(0, None);
    }
}

/// Returns whether the byte at this offset may be set although no header is whole: of a copy that was cut short the end is
/// missing.
fn is_of_first_write(at: usize) -> bool {
    match at.checked_sub(START as usize) {
        Some(at) => at < BATCH_HEADER,
        None => at % SECTOR < SegmentHeader::SIZE - 1,
    }
}
