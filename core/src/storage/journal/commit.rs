//! From an entry to a commit: batches, writes, syncs, and what a failure means.
//!
//! A batch waits, is in flight, and (with a sync interval) is written but not known to be synced, in this order, in
//! three queues that are one: a failure of the segment moves everything behind the last mark back to the first queue,
//! to be written to a fresh segment.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::super::{OwnerId, Position};
use super::batch::{Batch, BatchHeader, ENTRY_HEADER};
use super::segment::{START, SegmentHeader};
use super::{Config, Event, Journal, Phase, Purpose, Refused, Ticket};
use crate::disk::{DiskError, DiskErrorKind, DiskQueue, FileId, Reply, Request};
use crate::planted::{self, Bug, Point};
use crate::storage::SPACE_RETRY;
use crate::time::Instant;

/// How often in a row a fresh segment is tried before the disk is given up.
const MOVES: u32 = 2;
/// How many times as long as it took to begin a segment it is to take to fill it, at least; where it takes as many times that,
/// shorter segments do.
const WORTH: u32 = 8;
/// How long a segment is for each owner that has something in it, in bytes.
const FOR_EACH: u32 = 4 << 10;
/// The part of what may be unsynced at which a sync is begun.
const EARLY: usize = 4;

#[derive(Debug)]
struct Written {
    id: u64,
    batch: Batch,
    offset: u32,
    /// The oldest segment that counted, as its header says.
    oldest: u64,
    done: bool,
}

/// The segment that is written to.
#[derive(Debug)]
struct Head {
    number: u64,
    file: FileId,
    /// How much space it has.
    size: u32,
    /// Where the next batch goes.
    offset: u32,
    /// Behind which nothing is known to be synced.
    mark: u32,
    /// How many batches must be durable here before the header may be written: those that the segment before may still
    /// hold behind its mark. The header makes that void. Zero once it is written, or goes with the first batch.
    deferred: usize,
    header: SegmentHeader,
    pace: Pace,
}

/// How long a segment took to be begun, and when it was: writers waited for that.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    /// When the one before was full.
    full: Instant,
    /// When its own first batch was durable.
    begun: Option<Instant>,
}

impl Pace {
    /// Returns how long the next segment is to be, if this one of `size` bytes with entries of so many owners is full now.
    fn next_size(self, now: Instant, size: u32, owners: usize, config: &Config) -> u32 {
        let Some(begun) = self.begun else { return size };
        let (cost, took) = (begun - self.full, now - begun);
        let size = if took <= cost * WORTH {
            size.saturating_mul(2)
        } else if took > cost * WORTH * WORTH {
            size / 2
        } else {
            size
        };
        // Each owner that has to cover what it has in a segment does so for some entries at least.
        let least = u32::try_from(owners).unwrap_or(u32::MAX).saturating_mul(FOR_EACH);
        size.max(least).max(config.first_segment()).min(config.segment_size)
    }
}

/// What is on its way to the disk.
#[derive(Debug, Default)]
pub(super) struct Writer {
    waiting: VecDeque<Batch>,
    waiting_bytes: usize,
    in_flight: VecDeque<Written>,
    unsynced: VecDeque<Written>,
    unsynced_bytes: usize,
    head: Option<Head>,
    next_id: u64,
    /// How many of the unsynced batches the sync under way covers.
    syncing: Option<usize>,
    sync_due: Option<Instant>,
    /// A failure is waiting for what is still in flight.
    leaving: Option<DiskError>,
    /// How many of the waiting batches the last segment may hold behind its mark.
    rewriting: usize,
    /// Batches that are durable but for the header of their segment.
    rewritten: VecDeque<Written>,
    moves: u32,
    /// A write found no space; tried again then.
    retry_at: Option<Instant>,
    /// When the newest batch is vouched for, if nothing is written behind it until then.
    vouch_due: Option<Instant>,
    /// The entries copied forward that are durable by now.
    pub(super) copies_durable: u64,
    /// What a fresh segment continues.
    pub(super) tail: Tail,
    /// The next batch begins a segment, whatever room there is in the last.
    afresh: bool,
    /// Since when the head is full.
    full: Option<Instant>,
}

/// Where the journal ends on disk, as far as it is certain: what the header of the next segment says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tail {
    pub segment: u64,
    pub end: u32,
}

impl Writer {
    pub(super) fn enqueue(&mut self, batch: Batch) {
        self.waiting_bytes += batch.length;
        self.waiting.push_back(batch);
    }

    /// Has the next batch begin a segment.
    pub(super) fn start_afresh(&mut self) {
        self.afresh = true;
    }

    /// Says that all that waits may stand in the last segment, behind its mark.
    pub(super) fn rewrite_waiting(&mut self) {
        self.rewriting = self.waiting.len();
    }

    /// Returns when there is something to be done; `running` if entries are taken.
    pub(super) fn poll_timeout(&self, running: bool) -> Option<Instant> {
        // What can't begin before something else has ended is woken by that.
        let can_begin = self.syncing.is_none() && self.leaving.is_none();
        let sync_due = self.sync_due.filter(|_| can_begin || planted::bug(Bug::JournalDueForEver));
        // So is what is vouched for by whatever is on its way.
        let vouch_due = self.vouch_due.filter(|_| running && self.is_quiet());
        [sync_due, self.retry_at, vouch_due].into_iter().flatten().min()
    }

    /// Returns whether nothing is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.waiting.is_empty() && self.is_settled() && self.leaving.is_none()
    }

    /// Returns whether everything that was written is synced.
    fn is_settled(&self) -> bool {
        self.in_flight.is_empty() && self.unsynced.is_empty() && self.rewritten.is_empty()
    }
}

impl Journal {
    pub(super) fn append_entry(
        &mut self,
        owner: OwnerId,
        kind: u8,
        payload: &[Bytes],
    ) -> Result<Position, Refused> {
        match self.phase {
            Phase::Recovering => return Err(Refused::NotReady),
            Phase::Failed => return Err(Refused::Failed),
            Phase::Running => {}
        }
        let length: usize = payload.iter().map(Bytes::len).sum();
        let room = self.config.room();
        let size = ENTRY_HEADER + length;
        if size > room {
            return Err(Refused::TooLarge);
        }
        if self.writer.waiting_bytes + self.filling.length() + size > self.config.max_waiting.max(room) {
            return Err(if self.full { Refused::Full } else { Refused::Busy });
        }
        self.make_room(size);
        let position = self.filling.next();
        self.filling.push(self.seed, owner, kind, payload, length as u32);
        Ok(position)
    }

    /// Closes the batch that is being filled if `size` more bytes would make it too long.
    pub(super) fn make_room(&mut self, size: usize) {
        let room = self.config.room();
        if !self.filling.is_empty() && self.filling.length() + size > self.config.max_batch.min(room) {
            let batch = self.filling.take();
            self.enqueue(batch);
        }
    }

    /// Writes what may be written.
    pub(super) fn write<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) {
        self.prepare(now, disk);
        if self.writer.leaving.is_some() {
            self.leave_segment(disk);
        }
        if self.writer.retry_at.is_some_and(|due| due <= now) {
            self.writer.retry_at = None;
            self.resubmit(disk);
        }
        self.sync_if_due(now, disk);
        self.vouch_if_due(now);
        while self.writer.in_flight.len() < self.config.writes_in_flight
            && self.writer.leaving.is_none()
            && self.writer.retry_at.is_none()
        {
            if self.writer.waiting.is_empty() && !self.filling.is_empty() {
                let batch = self.filling.take();
                self.enqueue(batch);
            }
            let Some(batch) = self.writer.waiting.front() else { return };
            let footprint = batch.footprint();
            // A batch that no segment of its length has room for makes one longer.
            let fits = |head: &Head| {
                let end = head.offset.checked_add(footprint);
                head.deferred > 0 || head.offset == START || end.is_some_and(|end| end <= head.size)
            };
            let ends = |head: &Head| head.deferred == 0 && head.offset > START;
            if self.writer.head.as_ref().is_some_and(ends) && planted::point(Point::JournalSegmentEnds) {
                self.writer.start_afresh();
            }
            let fits = !self.writer.afresh && self.writer.head.as_ref().is_some_and(fits);
            if !fits && !self.next_segment(now, disk) {
                return;
            }
            if self.config.sync_interval.is_some() && self.writer.unsynced_bytes >= self.config.max_unsynced {
                self.sync_now(disk);
                return;
            }
            let started = self.writer.rewritten.len() + self.writer.in_flight.len();
            if self.writer.head.as_ref().is_some_and(|head| head.deferred > 0 && head.deferred <= started) {
                return;
            }
            self.submit_batch(disk);
        }
    }

    /// Starts the next segment if the last is settled and the next prepared.
    ///
    /// Everything before is synced then, so that only the newest segment can have a torn tail.
    fn next_segment<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) -> bool {
        let full = *self.writer.full.get_or_insert(now);
        if !self.writer.is_settled() {
            if self.writer.in_flight.is_empty() {
                self.sync_now(disk);
            }
            return false;
        }
        let Some(prepared) = self.preparer.take() else { return false };
        if let Some(head) = self.writer.head.take() {
            self.writer.tail = Tail { segment: head.number, end: head.offset };
            let owners = self.segments.head_mut().map_or(0, |segment| segment.live.len());
            self.preparer.set_size(head.pace.next_size(full, self.preparer.size(), owners, &self.config));
        }
        self.writer.full = None;
        let first = self.writer.waiting.front().map_or_else(|| self.filling.next(), |batch| batch.first);
        let tail = self.writer.tail;
        let oldest = self.segments.oldest();
        let header = SegmentHeader {
            number: prepared.number,
            identity: self.identity,
            first,
            previous: tail.segment,
            previous_end: tail.end,
            next: self.filling.next(),
            oldest: if oldest == 0 { prepared.number } else { oldest },
            synced: START,
            sealed: self.leaving.sealed(),
        };
        let (number, file, size) = (prepared.number, prepared.file, prepared.size);
        self.segments.push(prepared, first, START);
        self.writer.afresh = false;
        let deferred = std::mem::take(&mut self.writer.rewriting);
        let pace = Pace { full, begun: None };
        self.writer.head =
            Some(Head { number, file, size, offset: START, mark: START, deferred, header, pace });
        self.prepare(now, disk);
        true
    }

    fn submit_batch<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        let oldest = self.segments.oldest();
        let writer = &mut self.writer;
        let (Some(batch), Some(head)) = (writer.waiting.pop_front(), writer.head.as_mut()) else { return };
        writer.waiting_bytes -= batch.length;
        let offset = head.offset;
        head.offset += batch.footprint();
        writer.next_id += 1;
        let id = writer.next_id;
        writer.in_flight.push_back(Written { id, batch, offset, oldest, done: false });
        self.submit_write(writer_last(&self.writer), disk);
    }

    /// Submits the write of what is in flight at `index`.
    fn submit_write<O: From<Ticket>>(&self, index: usize, disk: &mut DiskQueue<O>) {
        let (Some(written), Some(head)) = (self.writer.in_flight.get(index), &self.writer.head) else {
            return;
        };
        let batch = &written.batch;
        let header = BatchHeader {
            length: batch.length as u32,
            first: batch.first,
            synced: head.mark,
            entries: batch.entries,
            originals: batch.originals,
            oldest: written.oldest,
            crc: batch.crc,
        };
        let starts = written.offset == START && head.deferred == 0;
        let mut bytes = BytesMut::with_capacity(if starts { START as usize + 48 } else { 48 });
        if starts {
            head.header.encode(&mut bytes);
        }
        header.encode(self.seed, head.number, written.offset, &mut bytes);
        let mut data = Vec::with_capacity(batch.pieces.len() + 2);
        data.push(bytes.freeze());
        data.extend(batch.pieces.iter().cloned());
        let padding = batch.footprint() as usize - super::batch::BATCH_HEADER - batch.length;
        data.push(Bytes::from_static(&[0; 8]).slice(..padding));
        let offset = if starts { 0 } else { u64::from(written.offset) };
        // The first write is synced in every mode: the number, and with it the positions, must not be lost.
        let sync = starts || head.deferred > 0 || self.config.sync_interval.is_none();
        let sync = sync && !planted::bug(Bug::JournalAckBeforeSync);
        disk.submit(
            Ticket(Purpose::Write(written.id)).into(),
            Request::Write { file: head.file, offset, data, sync },
        );
    }

    fn resubmit<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        for index in 0..self.writer.in_flight.len() {
            if !self.writer.in_flight[index].done {
                self.submit_write(index, disk);
            }
        }
    }

    /// Takes what became of a write.
    pub(super) fn written<O: From<Ticket>>(
        &mut self,
        now: Instant,
        id: u64,
        result: Result<Reply, DiskError>,
        disk: &mut DiskQueue<O>,
    ) {
        let Some(written) = self.writer.in_flight.iter_mut().find(|written| written.id == id) else { return };
        match result {
            Ok(_) => written.done = true,
            // The same bytes may be tried again. With several in flight the rest is waited for like after a failure.
            Err(error) if error.kind == DiskErrorKind::Full && self.config.writes_in_flight == 1 => {
                self.writer.retry_at = Some(now + SPACE_RETRY);
                self.out_of_space();
                return;
            }
            Err(_) if planted::bug(Bug::JournalFailedSyncRetried) => written.done = true,
            Err(error) => {
                written.done = true;
                self.writer.leaving.get_or_insert(error);
                return;
            }
        }
        self.space_is_back();
        if self.writer.leaving.is_some() {
            return;
        }
        while let Some(written) = self.writer.in_flight.pop_front_if(|written| written.done) {
            self.commit(now, written, false);
        }
        self.start_late(disk);
    }

    /// Writes the header of a segment that had to wait for it.
    fn start_late<O: From<Ticket>>(&self, disk: &mut DiskQueue<O>) {
        let Some(head) = &self.writer.head else { return };
        if head.deferred > 0 && head.deferred == self.writer.rewritten.len() {
            let mut bytes = BytesMut::with_capacity(START as usize);
            let vouches = !planted::bug(Bug::JournalRewrittenUnvouched);
            // All that was written so far is durable: nothing else is under way.
            let synced = if vouches { head.offset } else { START };
            SegmentHeader { synced, ..head.header }.encode(&mut bytes);
            let (file, data) = (head.file, vec![bytes.freeze()]);
            let sync = !planted::bug(Bug::JournalAckBeforeSync);
            disk.submit(Ticket(Purpose::Header).into(), Request::Write { file, offset: 0, data, sync });
        }
    }

    /// Takes what became of a header.
    pub(super) fn started(&mut self, now: Instant, result: Result<Reply, DiskError>) {
        let Some(head) = &mut self.writer.head else { return };
        match result {
            Err(error) if !planted::bug(Bug::JournalFailedSyncRetried) => {
                self.writer.leaving.get_or_insert(error);
            }
            _ => {
                head.deferred = 0;
                for written in std::mem::take(&mut self.writer.rewritten) {
                    self.commit(now, written, true);
                }
            }
        }
    }

    /// Reports a batch that is written, and synced unless that comes later.
    fn commit(&mut self, now: Instant, written: Written, certain: bool) {
        let Some(head) = &mut self.writer.head else { return };
        if head.deferred > 0 {
            self.writer.rewritten.push_back(written);
            return;
        }
        let next = written.batch.next();
        let starts = written.offset == START || certain;
        if self.config.sync_interval.is_none() || starts {
            head.mark = written.offset + written.batch.footprint();
            head.pace.begun.get_or_insert(now);
        }
        if self.config.sync_interval.is_none() || starts {
            let own = written.batch.originals > 0;
            self.durable(now, &written);
            self.filling.reuse(written.batch);
            if own {
                self.report(next);
            }
        } else {
            self.writer.unsynced_bytes += written.batch.length;
            self.writer.sync_due.get_or_insert(now + self.config.sync_interval.unwrap_or_default());
            if written.batch.originals > 0 {
                self.report(next);
            }
            self.writer.unsynced.push_back(written);
        }
    }

    fn report(&mut self, next: Position) {
        // What recovery writes again is told as recovered.
        if self.phase == Phase::Running {
            self.events.push_back(Event::Committed { through: Position(next.0 - 1) });
        }
    }

    /// Takes note of a batch that will be there after a power cut.
    fn durable(&mut self, now: Instant, written: &Written) {
        let Some(head) = &self.writer.head else { return };
        let (number, end) = (head.number, written.offset + written.batch.footprint());
        let batch = &written.batch;
        // One without entries has nothing to lose.
        let wait = self.config.vouch_after.filter(|_| batch.entries > 0);
        self.writer.vouch_due = wait.map(|wait| now + wait);
        for share in &batch.shares {
            self.segments.account(number, *share);
        }
        for owner in &batch.forgotten {
            self.segments.forget(*owner, number);
        }
        if let Some(segment) = self.segments.head_mut() {
            segment.end = end;
        }
        self.writer.copies_durable += u64::from(batch.entries - batch.originals);
        self.writer.moves = 0;
        self.released(written.oldest);
    }

    /// Writes a batch without entries behind the newest, if nothing else came: its mark says that the newest is durable. Nobody waits
    /// for it, and who writes all the time has none of them.
    fn vouch_if_due(&mut self, now: Instant) {
        if self.phase == Phase::Running
            && self.writer.vouch_due.take_if(|due| *due <= now).is_some()
            && !planted::bug(Bug::JournalLastUnvouched)
        {
            self.write_something();
        }
    }

    /// Syncs what is written if its time has come, or if it is much: what is synced early isn't waited for when it has to be,
    /// at the end of the segment, nor kept in memory until then.
    fn sync_if_due<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) {
        let much = self.writer.unsynced_bytes >= self.config.max_unsynced / EARLY;
        if much || self.writer.sync_due.is_some_and(|due| due <= now) {
            self.sync_now(disk);
        }
    }

    /// Syncs what is written, unless that is under way.
    pub(super) fn sync_now<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        let writer = &mut self.writer;
        if writer.syncing.is_some() || writer.unsynced.is_empty() || writer.leaving.is_some() {
            return;
        }
        let Some(head) = &writer.head else { return };
        writer.syncing = Some(writer.unsynced.len());
        writer.sync_due = None;
        disk.submit(Ticket(Purpose::Sync).into(), Request::Sync { file: head.file });
    }

    /// Takes what became of a sync.
    pub(super) fn synced(&mut self, now: Instant, result: Result<Reply, DiskError>) {
        let Some(count) = self.writer.syncing.take() else { return };
        if let Err(error) = result
            && !planted::bug(Bug::JournalFailedSyncRetried)
        {
            self.writer.leaving.get_or_insert(error);
            return;
        }
        for _ in 0..count {
            let Some(written) = self.writer.unsynced.pop_front() else { break };
            self.writer.unsynced_bytes -= written.batch.length;
            if let Some(head) = &mut self.writer.head {
                head.mark = written.offset + written.batch.footprint();
            }
            self.durable(now, &written);
            self.filling.reuse(written.batch);
        }
        if !self.writer.unsynced.is_empty() {
            self.writer.sync_due.get_or_insert(now + self.config.sync_interval.unwrap_or_default());
        }
    }

    /// Leaves the segment after a failure, once nothing of it is under way: what isn't known to be synced goes to the next.
    fn leave_segment<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        let writer = &mut self.writer;
        if writer.syncing.is_some() || writer.in_flight.iter().any(|written| !written.done) {
            return;
        }
        let (Some(error), Some(head)) = (writer.leaving.take(), writer.head.take()) else { return };
        writer.moves += 1;
        writer.rewriting = writer.in_flight.len() + writer.unsynced.len() + writer.rewritten.len();
        writer.rewriting = writer.rewriting.max(head.deferred);
        if writer.moves > MOVES {
            self.fail(error.into());
            return;
        }
        self.events.push_back(Event::SegmentLeft { segment: head.number, error });
        let in_flight = writer.in_flight.drain(..).rev();
        for written in
            in_flight.chain(writer.unsynced.drain(..).rev()).chain(writer.rewritten.drain(..).rev())
        {
            writer.waiting_bytes += written.batch.length;
            writer.waiting.push_front(written.batch);
        }
        (writer.unsynced_bytes, writer.sync_due) = (0, None);
        if head.mark > START {
            writer.tail = Tail { segment: head.number, end: head.mark };
            if let Some(segment) = self.segments.head_mut() {
                segment.poisoned = true;
            }
        } else if let Some(segment) = self.segments.pop_newest() {
            // Nothing in it counts, and the next segment's header will not mention it. The next start removes it.
            self.leaving.stays();
            disk.submit(Ticket::ignored().into(), Request::Close { file: segment.file });
        }
    }
}

fn writer_last(writer: &Writer) -> usize {
    writer.in_flight.len() - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::FilePath;
    use crate::time::Duration;

    #[test]
    fn a_segment_is_as_long_as_beginning_it_is_worth() {
        let config =
            Config { segment_size: 1 << 20, first_segment: 1 << 16, ..Config::new(FilePath::root()) };
        let (full, size) = (Instant::from_nanos(1_000_000), 1 << 18);
        let begun = full + Duration::from_millis(10);
        let next = |millis: u64, size: u32, owners: usize| {
            let pace = Pace { full, begun: Some(begun) };
            pace.next_size(begun + Duration::from_millis(millis), size, owners, &config)
        };
        assert_eq!(
            [next(80, size, 1), next(81, size, 1)],
            [2 * size, size],
            "an eighth of the time goes into it"
        );
        assert_eq!([next(640, size, 1), next(641, size, 1)], [size, size / 2]);
        assert_eq!([next(1, 1 << 20, 1), next(9999, 1 << 16, 1)], [1 << 20, 1 << 16], "within its bounds");
        assert_eq!([next(9999, size, 100), next(9999, size, 100_000)], [100 * FOR_EACH, 1 << 20]);
        let unknown = Pace { full, begun: None };
        assert_eq!(unknown.next_size(begun, size, 1, &config), size, "nothing in it became durable");
    }
}
