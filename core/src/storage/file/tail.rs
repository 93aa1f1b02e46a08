//! The block that is written: records and marks that the disk doesn't have yet.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::block::frame::{Codec, FRAME_TARGET, Plain};
use super::super::block::index::{Builder, Stamp};
use super::super::block::mark::{self, Mark};
use super::super::block::scan::MARK_EVERY;
use super::super::block::walk::{At, Visitor};
use super::super::block::{Context, Header, Place, Record, RecordError};
use super::super::{Compression, Position, Ranges};
use super::durable::Point;
use super::manifest::Known;
use crate::disk::FileId;
use crate::rng::Rng;

/// How far the base of times may lag before a mark moves it, in nanoseconds: times behind it then take four bytes.
const BASE_LAG: i64 = 1 << 31;

/// How many bytes stand in one piece of memory at most, unless a record is longer: pieces of one length are easily used again,
/// and none is copied because it grows.
const PIECE: usize = 128 << 10;

/// A group of records that isn't sealed yet.
#[derive(Debug)]
struct OpenFrame {
    records: Vec<u8>,
    first: Context,
}

/// A block that isn't durable as a whole: the newest, which takes what is appended, or one that was closed and waits for
/// its turn.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) place: Place,
    /// Its file, once it was asked for.
    pub(super) file: Option<FileId>,
    /// Whether the file is open.
    pub(super) open: bool,
    /// Whether its name is known to survive.
    pub(super) named: bool,
    pub(super) builder: Builder,
    /// The sequence after the last of the block before.
    pub(super) first_sequence: u64,
    /// The epoch of the key in its header.
    pub(super) epoch: u64,
    /// How often it was written anew.
    pub(super) rewrites: u32,
    /// Once it is closed: the position through which everything is applied in it and before.
    pub(super) closed: Option<Position>,
    /// The first sequence of the stream then.
    pub(super) closed_floor: u64,
    /// When the stream's newest message was stored, as of the last entry in it.
    pub(super) stream_time: i64,
    context: Context,
    /// What the disk was handed, and hasn't said to have: offset and pieces.
    pub(super) writing: Option<(u32, Vec<Bytes>)>,
    /// How much the disk was handed: where the first piece starts that it wasn't.
    pub(super) start: u32,
    /// The last four bytes that the disk was handed.
    pub(super) last_four: u32,
    /// The number of the last write that it had.
    pub(super) last_write: u64,
    /// The position that the last mark says which the disk was handed.
    pub(super) marked: Position,
    /// The next sequence and the first of the stream, as that mark says.
    pub(super) marked_sequences: (u64, u64),
    /// When the stream's newest message was stored, as that mark says.
    pub(super) marked_time: i64,
    /// How long a piece gets, in bytes.
    piece: usize,
    /// Full pieces that the disk wasn't handed, each of whole records.
    full: VecDeque<Bytes>,
    /// Where `fresh` starts.
    fresh_start: u32,
    /// The last piece, which is being filled.
    fresh: Vec<u8>,
    frame: Option<OpenFrame>,
    /// What is gone and isn't said yet.
    deleted: Ranges,
    /// A mark is wanted although there is nothing new.
    pub(super) must_mark: bool,
    last_mark: u32,
    /// How many bytes are known to be synced.
    pub(super) synced: u32,
    last_time: i64,
}

/// Where to go on with a block that is on disk.
#[derive(Debug)]
pub(super) struct Resume {
    pub(super) place: Place,
    pub(super) builder: Builder,
    pub(super) first_sequence: u64,
    pub(super) context: Context,
    pub(super) applied: Position,
    /// The epoch of the key in its header.
    pub(super) epoch: u64,
    /// How often it was written anew.
    pub(super) rewrites: u32,
    /// When the stream's newest message was stored.
    pub(super) stream_time: i64,
    /// Where it ends, and with what; it is synced up to there.
    pub(super) stamp: Stamp,
}

impl Tail {
    /// Begins a block.
    pub(super) fn create(header: &Header, stream_time: i64) -> Self {
        let place = Place::new(header.owner, header.block);
        let mut tail = Tail::resume(Resume {
            place,
            builder: Builder::new(&place),
            first_sequence: header.first_sequence,
            context: Context { next_sequence: header.first_sequence, base_time: header.base_time },
            applied: Position::default(),
            epoch: header.key_epoch,
            rewrites: header.rewrites,
            stream_time,
            stamp: Stamp::of(&[]),
        });
        tail.fresh.extend_from_slice(&header.encode());
        tail
    }

    /// Goes on with a block that is on disk and synced up to its end, and so is its name.
    pub(super) fn resume(from: Resume) -> Self {
        let Resume { place, builder, first_sequence, context, applied, epoch, rewrites, stream_time, stamp } =
            from;
        let end = stamp.len;
        Tail {
            place,
            file: None,
            open: false,
            named: end > 0,
            builder,
            first_sequence,
            epoch,
            rewrites,
            closed: None,
            closed_floor: 0,
            stream_time,
            last_time: context.base_time,
            context,
            writing: None,
            start: end,
            last_four: stamp.tail,
            last_write: 0,
            marked: applied,
            marked_sequences: (context.next_sequence, 0),
            marked_time: stream_time,
            piece: usize::MAX,
            full: VecDeque::new(),
            fresh_start: end,
            fresh: Vec::new(),
            frame: None,
            deleted: Ranges::default(),
            must_mark: false,
            last_mark: end,
            synced: end,
        }
    }

    /// Has what waits for the disk stand in pieces, an eighth of a block long at most; otherwise it is one.
    pub(super) fn in_pieces(mut self, block_size: u32) -> Self {
        self.piece = PIECE.min(block_size as usize / 8);
        self
    }

    /// Returns how long the block gets with all that it has.
    pub(super) fn len(&self) -> u32 {
        self.end() + self.frame.as_ref().map_or(0, |frame| frame.records.len() as u32)
    }

    fn end(&self) -> u32 {
        self.fresh_start + self.fresh.len() as u32
    }

    /// Ends it: what comes behind is in another.
    pub(super) fn close(&mut self, applied: Position, floor: u64) {
        (self.closed, self.closed_floor) = (Some(applied), floor);
    }

    /// Returns how far it was written.
    pub(super) fn point(&self) -> Point {
        Point { block: self.place.block(), write: self.last_write }
    }

    /// Returns how many bytes the disk has said to have.
    pub(super) fn written(&self) -> u32 {
        self.writing.as_ref().map_or(self.start, |(start, _)| *start)
    }

    /// Returns how many bytes the disk wasn't handed.
    pub(super) fn waiting(&self) -> usize {
        let whole = (self.end() - self.start) as usize;
        whole + self.frame.as_ref().map_or(0, |frame| frame.records.len())
    }

    /// Returns whether there is anything that the disk wasn't handed.
    pub(super) fn is_fresh(&self) -> bool {
        self.waiting() > 0 || !self.deleted.is_empty() || self.must_mark
    }

    /// Adds a message, and returns where it is.
    pub(super) fn append(
        &mut self,
        record: &Record<'_>,
        codec: Codec<'_>,
        rng: &mut Rng,
    ) -> Result<At, RecordError> {
        if self.fresh.len() >= self.piece {
            self.end_piece();
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
        Ok(at)
    }

    /// Says that a range is gone, both ends included.
    pub(super) fn deleted(&mut self, first: u64, last: u64) {
        self.deleted.insert(first, last);
    }

    /// Returns what is gone and isn't said yet.
    pub(super) fn unsaid(&self) -> &Ranges {
        &self.deleted
    }

    /// Ends an entry: what comes behind is another's. A long write gets marks within.
    pub(super) fn end_entry(&mut self, applied: Position, floor: u64, codec: Codec<'_>, rng: &mut Rng) {
        if self.len() - self.last_mark > MARK_EVERY {
            self.mark(applied, floor, codec, rng);
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

    /// Goes on in another piece: the disk is busy, and this one is full.
    fn end_piece(&mut self) {
        let full = std::mem::replace(&mut self.fresh, Vec::with_capacity(self.piece + self.piece / 8));
        self.fresh_start += full.len() as u32;
        self.full.push_back(full.into());
    }

    fn close_frame(&mut self, codec: Codec<'_>, rng: &mut Rng) {
        let Some(frame) = self.frame.take() else { return };
        let plain =
            Plain { records: &frame.records, first: frame.first, next_sequence: self.context.next_sequence };
        let offset = self.end();
        codec.encode(&mut self.fresh, &self.place, offset, plain, rng);
    }

    /// Adds a mark, twice if it moves the base of times; before it, what the entries up to here deleted.
    fn mark(&mut self, applied: Position, floor: u64, codec: Codec<'_>, rng: &mut Rng) {
        self.close_frame(codec, rng);
        self.write_deleted(floor);
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
            first_sequence: floor,
            last_time: self.stream_time,
        };
        for _ in 0..if moved { 2 } else { 1 } {
            let offset = self.end();
            mark.encode(&mut self.fresh, &self.place, offset);
        }
        self.last_mark = self.end();
    }

    /// Says what is gone, twice: one bad bit is not to bring back what was deleted. The floor says it for all below.
    fn write_deleted(&mut self, floor: u64) {
        let mut deleted = std::mem::take(&mut self.deleted);
        deleted.remove_below(floor);
        let ranges: Vec<(u64, u64)> = deleted.iter().collect();
        for _ in 0..2 {
            for ranges in ranges.chunks(mark::MAX_RANGES) {
                let offset = self.end();
                mark::encode_deleted(&mut self.fresh, &self.place, offset, ranges);
            }
        }
        ranges.iter().for_each(|(first, last)| self.builder.deleted(*first, *last));
    }

    /// Returns how much memory the next write will take, if it is about as long as this one.
    pub(super) fn next_room(&self) -> usize {
        let next = self.waiting() + self.waiting() / 8;
        if self.closed.is_some() { 0 } else { next.min(self.piece.saturating_add(self.piece / 8)) }
    }

    /// Hands out what the disk hasn't, with a mark at its end, and where it belongs. The disk is to be handed one write at a
    /// time. What comes behind is put into `room`.
    pub(super) fn take(
        &mut self,
        applied: Position,
        floor: u64,
        codec: Codec<'_>,
        rng: &mut Rng,
        room: Vec<u8>,
    ) -> (u32, Vec<Bytes>) {
        debug_assert!(self.writing.is_none(), "one write at a time");
        let (applied, floor) = self.closed.map_or((applied, floor), |closed| (closed, self.closed_floor));
        // Twice: a cut goes behind the last good mark, and one bad bit in it is not to cost what stands before.
        self.mark(applied, floor, codec, rng);
        self.mark(applied, floor, codec, rng);
        self.last_four = self.fresh.last_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        let end = self.end();
        let last = Bytes::from(std::mem::replace(&mut self.fresh, room));
        let write = (self.start, self.full.drain(..).chain([last]).collect::<Vec<_>>());
        (self.start, self.fresh_start) = (end, end);
        (self.marked, self.marked_sequences) = (applied, (self.context.next_sequence, floor));
        self.marked_time = self.stream_time;
        self.writing = Some(write.clone());
        self.must_mark = false;
        write
    }

    /// Reads a message that the disk may not have yet: `None` if it has it.
    pub(super) fn read(&self, offset: u32, framed: bool) -> Option<Held<'_>> {
        if framed && offset == self.end() {
            let frame = self.frame.as_ref()?;
            return Some(Held::Open(&frame.records, frame.first));
        }
        if let Some(at) = offset.checked_sub(self.fresh_start) {
            return self.fresh.get(at as usize..).map(Held::Bytes);
        }
        match offset.checked_sub(self.start) {
            Some(at) => find_in(&self.full, at as usize),
            None => {
                let (start, pieces) = self.writing.as_ref()?;
                find_in(pieces, offset.checked_sub(*start)? as usize)
            }
        }
    }

    /// Returns the sequence that the next message has if it doesn't say.
    pub(super) fn next_sequence(&self) -> u64 {
        self.context.next_sequence.max(self.builder.index().next_sequence)
    }

    /// Returns it as the manifest is to know it, with so many bytes and these sequences.
    pub(super) fn known(&self, len: u32, next_sequence: u64) -> Known {
        Known {
            number: self.place.block(),
            first: self.first_sequence,
            end: next_sequence.max(self.first_sequence),
            len,
            rewrites: self.rewrites,
            epoch: self.epoch,
        }
    }

    /// Returns what times count from now.
    pub(super) fn last_time(&self) -> i64 {
        self.last_time
    }
}

/// Returns what stands `at` so many bytes behind the first of these pieces, through the end of its piece.
fn find_in<'a>(pieces: impl IntoIterator<Item = &'a Bytes>, mut at: usize) -> Option<Held<'a>> {
    for piece in pieces {
        if at < piece.len() {
            return Some(Held::Bytes(&piece[at..]));
        }
        at -= piece.len();
    }
    None
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

#[cfg(test)]
mod tests {
    use super::super::super::block::key::Keys;
    use super::super::super::{Cipher, OwnerId};
    use super::*;

    #[test]
    fn what_waits_in_pieces_is_found_and_handed_out_in_order() {
        let (owner, compression) = (OwnerId(9), Compression::None);
        let (keys, mut rng) = (Keys::none(owner), Rng::from_u64(7));
        let codec = codec(&keys, compression);
        let header = Header {
            owner,
            block: 1,
            cipher: Cipher::None,
            compression,
            first_sequence: 1,
            base_time: 0,
            key_epoch: 0,
            rewrites: 0,
            previous: 0,
        };
        let mut tail = Tail::create(&header, 0).in_pieces(4096);
        let mut places = Vec::new();
        let mut on_disk = Vec::new();
        for sequence in 1..=300 {
            let payload = vec![sequence as u8; 1 + sequence as usize % 90];
            let (subject, headers) = (&b"a.b"[..], &b""[..]);
            let (time, ttl, due, erased) = (0, 0, None, false);
            let record = Record { sequence, time, subject, headers, payload: &payload, ttl, due, erased };
            places.push((sequence, tail.append(&record, codec, &mut rng).unwrap().offset));
            tail.end_entry(Position(sequence), 1, codec, &mut rng);
            // The disk has what was written before, and is handed the next.
            if sequence % 100 == 0 {
                tail.writing = None;
                let (start, pieces) = tail.take(Position(sequence), 1, codec, &mut rng, Vec::new());
                assert_eq!(start as usize, on_disk.len());
                assert!(
                    pieces.len() > 5 && pieces.iter().all(|piece| piece.len() < 1024),
                    "{}",
                    pieces.len()
                );
                on_disk.extend(pieces.concat());
            }
            for (sequence, offset) in &places {
                let held = match tail.read(*offset, false) {
                    Some(Held::Bytes(bytes)) => bytes,
                    Some(Held::Open(..)) => unreachable!("nothing is sealed"),
                    None => &on_disk[*offset as usize..],
                };
                let found = Record::decode(held, &tail.place, *offset, *sequence, 0).unwrap();
                assert_eq!(found.payload[0], *sequence as u8);
            }
        }
    }
}
