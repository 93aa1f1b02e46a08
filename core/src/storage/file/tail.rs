//! The block that is written: records and marks that the disk doesn't have yet.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::block::frame::{Codec, FRAME_TARGET, Plain};
use super::super::block::index::Builder;
use super::super::block::mark::{self, Mark};
use super::super::block::scan::MARK_EVERY;
use super::super::block::walk::{At, Visitor};
use super::super::block::{Context, Header, Place, Record, RecordError};
use super::super::{Compression, Position};
use crate::disk::FileId;
use crate::rng::Rng;

/// How far the base of times may lag before a mark moves it, in nanoseconds: times behind it then take four bytes.
const BASE_LAG: i64 = 1 << 31;

/// A group of records that isn't sealed yet.
#[derive(Debug)]
struct OpenFrame {
    records: Vec<u8>,
    first: Context,
}

/// The newest block.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) place: Place,
    pub(super) file: Option<FileId>,
    /// Whether the file is open.
    pub(super) open: bool,
    /// Whether its name is known to survive.
    pub(super) named: bool,
    pub(super) builder: Builder,
    /// The sequence after the last of the block before.
    pub(super) first_sequence: u64,
    context: Context,
    /// What the disk was handed, and hasn't said to have: offset and bytes.
    pub(super) writing: VecDeque<(u32, Bytes)>,
    /// Where `fresh` starts: how much the disk was handed.
    pub(super) start: u32,
    /// The last four bytes that the disk was handed.
    pub(super) last_four: u32,
    /// What the disk wasn't handed.
    fresh: Vec<u8>,
    frame: Option<OpenFrame>,
    last_mark: u32,
    /// How many bytes are known to be synced.
    pub(super) synced: u32,
    last_time: i64,
}

impl Tail {
    /// Begins a block.
    pub(super) fn create(header: &Header, applied: Position) -> Self {
        let mut tail = Tail::resume(
            Place::new(header.owner, header.block),
            Builder::default(),
            header.first_sequence,
            Context { next_sequence: header.first_sequence, base_time: header.base_time },
            0,
        );
        tail.fresh.extend_from_slice(&header.encode());
        tail.mark(applied);
        tail
    }

    /// Goes on with a block that is on disk and synced up to `end`.
    pub(super) fn resume(
        place: Place,
        builder: Builder,
        first_sequence: u64,
        context: Context,
        end: u32,
    ) -> Self {
        Tail {
            place,
            file: None,
            open: false,
            named: end > 0,
            builder,
            first_sequence,
            last_time: context.base_time,
            context,
            writing: VecDeque::new(),
            start: end,
            last_four: 0,
            fresh: Vec::new(),
            frame: None,
            last_mark: end,
            synced: end,
        }
    }

    /// Returns how long the block gets with all that it has.
    pub(super) fn len(&self) -> u32 {
        self.end() + self.frame.as_ref().map_or(0, |frame| frame.records.len() as u32)
    }

    fn end(&self) -> u32 {
        self.start + self.fresh.len() as u32
    }

    /// Returns whether there is anything that the disk wasn't handed.
    pub(super) fn is_fresh(&self) -> bool {
        !self.fresh.is_empty() || self.frame.is_some()
    }

    /// Adds a message.
    pub(super) fn append(
        &mut self,
        record: &Record<'_>,
        applied: Position,
        codec: Codec<'_>,
        rng: &mut Rng,
    ) -> Result<(), RecordError> {
        if self.len() - self.last_mark > MARK_EVERY {
            self.close_frame(codec, rng);
            self.mark(applied);
        }
        let size = record.subject.len() + record.headers.len() + record.payload.len() + 64;
        if self.frame.as_ref().is_some_and(|frame| frame.records.len() + size > FRAME_TARGET) {
            self.close_frame(codec, rng);
        }
        let framed = !codec.is_plain();
        let mut at = At { offset: self.end(), len: 0, framed };
        if framed {
            let first = Context { next_sequence: record.sequence, base_time: self.context.base_time };
            let frame = self.frame.get_or_insert_with(|| OpenFrame { records: Vec::new(), first });
            let offset = frame.records.len() as u32;
            let mut context = Context { base_time: frame.first.base_time, ..self.context };
            if offset == 0 {
                context.next_sequence = record.sequence;
            }
            at.len = record.encode(&mut frame.records, &self.place, offset, &mut context)?;
            self.context.next_sequence = context.next_sequence;
        } else {
            at.len = record.encode(&mut self.fresh, &self.place, at.offset, &mut self.context)?;
        }
        self.last_time = record.time;
        self.builder.add(at, record);
        Ok(())
    }

    /// Says that ranges are gone.
    pub(super) fn deleted(&mut self, ranges: &[(u64, u64)], codec: Codec<'_>, rng: &mut Rng) {
        self.close_frame(codec, rng);
        for ranges in ranges.chunks(mark::MAX_RANGES) {
            let offset = self.end();
            mark::encode_deleted(&mut self.fresh, &self.place, offset, ranges);
            ranges.iter().for_each(|(first, last)| self.builder.deleted(*first, *last));
        }
    }

    /// Says that sequences are skipped.
    pub(super) fn skipped(&mut self, first: u64, count: u64, codec: Codec<'_>, rng: &mut Rng) {
        self.close_frame(codec, rng);
        let offset = self.end();
        mark::encode_skipped(&mut self.fresh, &self.place, offset, first, count);
        self.builder.skipped(first, count);
        // The context stays: the next message says its sequence, as the scan expects it behind a gap.
    }

    fn close_frame(&mut self, codec: Codec<'_>, rng: &mut Rng) {
        let Some(frame) = self.frame.take() else { return };
        let plain =
            Plain { records: &frame.records, first: frame.first, next_sequence: self.context.next_sequence };
        let offset = self.end();
        codec.encode(&mut self.fresh, &self.place, offset, plain, rng);
    }

    /// Adds a mark, twice if it moves the base of times.
    fn mark(&mut self, applied: Position) {
        let lag = self.last_time.saturating_sub(self.context.base_time);
        let previous_base_time = self.context.base_time;
        let moved = !(0..BASE_LAG).contains(&lag);
        if moved {
            self.context.base_time = self.last_time;
        }
        self.context.next_sequence = self.next_sequence();
        let mark = Mark {
            next_sequence: self.context.next_sequence,
            base_time: self.context.base_time,
            previous_base_time,
            applied,
            synced: self.synced,
            first_sequence: 0,
        };
        for _ in 0..if moved { 2 } else { 1 } {
            let offset = self.end();
            mark.encode(&mut self.fresh, &self.place, offset);
        }
        self.last_mark = self.end();
    }

    /// Hands out what the disk hasn't, with a mark at its end, and where it belongs.
    pub(super) fn take(
        &mut self,
        applied: Position,
        codec: Codec<'_>,
        rng: &mut Rng,
    ) -> Option<(u32, Bytes)> {
        if !self.is_fresh() {
            return None;
        }
        self.close_frame(codec, rng);
        // Twice: a cut goes behind the last good mark, and one bad bit in it is not to cost what stands before.
        self.mark(applied);
        self.mark(applied);
        self.last_four = self.fresh.last_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        let bytes = Bytes::from(std::mem::take(&mut self.fresh));
        let write = (self.start, bytes);
        self.start += write.1.len() as u32;
        self.writing.push_back(write.clone());
        Some(write)
    }

    /// Reads a message that the disk may not have yet: `None` if it has it.
    pub(super) fn read(&self, offset: u32, framed: bool) -> Option<Held<'_>> {
        if framed && offset == self.end() {
            let frame = self.frame.as_ref()?;
            return Some(Held::Open(&frame.records, frame.first));
        }
        if let Some(at) = offset.checked_sub(self.start) {
            return self.fresh.get(at as usize..).map(Held::Bytes);
        }
        let held = self
            .writing
            .iter()
            .find(|(start, bytes)| offset.checked_sub(*start).is_some_and(|at| (at as usize) < bytes.len()));
        held.map(|(start, bytes)| Held::Bytes(&bytes[(offset - start) as usize..]))
    }

    /// Returns the sequence that the next message has if it doesn't say.
    pub(super) fn next_sequence(&self) -> u64 {
        self.context.next_sequence.max(self.builder.index().next_sequence)
    }

    /// Returns what times count from now.
    pub(super) fn last_time(&self) -> i64 {
        self.last_time
    }
}

/// Bytes that are still in memory.
pub(super) enum Held<'a> {
    /// As they are in the block, from the record on.
    Bytes(&'a [u8]),
    /// The records of a frame that isn't sealed.
    Open(&'a [u8], Context),
}

/// Returns how a stream's records are sealed.
pub(super) fn codec(keys: &super::super::block::key::Keys, compression: Compression) -> Codec<'_> {
    Codec { keys, compression }
}
