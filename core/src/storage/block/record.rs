//! One record: its head says how long it is and has a check of its own, so that a record with a bad body is stepped over
//! and the rest of the block is read.
//!
//! Shape: `kind and flags u8, payload LEB128, [subject LEB128, [headers LEB128], time 3|4|6|8, [extension]], check u16, body,
//! crc u32`; what is in the inner brackets is there for messages only.

use super::place::{Context, Place};
use super::{MAX_PAYLOAD, MAX_SUBJECT};
use crate::planted::{self, Bug};
use crate::varint;

/// The shortest record of a message, in bytes.
pub const MIN_MESSAGE: usize = 1 + 1 + 1 + 3 + 2 + 4;

/// The bytes of the second checksum.
const TRAILER: usize = 4;

const KIND_MASK: u8 = 0x07;
const WIDTH_SHIFT: u8 = 3;
const HAS_HEADERS: u8 = 1 << 5;
const HAS_EXTENSION: u8 = 1 << 6;
const ERASED: u8 = 1 << 7;

/// How many bytes a time takes, by its code. The last is absolute.
const WIDTHS: [usize; 4] = [3, 4, 6, 8];
const ABSOLUTE: u8 = 3;

const HAS_TTL: u64 = 1;
const HAS_SEQUENCE: u64 = 2;
const HAS_DUE: u64 = 4;

/// What a record is. Zero is none of them: zeroed bytes are no records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    Message = 1,
    Mark = 2,
    Deleted = 3,
    Skipped = 4,
    Frame = 5,
}

impl Kind {
    fn of(byte: u8) -> Option<Self> {
        [Kind::Message, Kind::Mark, Kind::Deleted, Kind::Skipped, Kind::Frame]
            .into_iter()
            .find(|kind| *kind as u8 == byte & KIND_MASK)
    }
}

/// A message as a block has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored, in nanoseconds since 1970.
    pub time: i64,
    /// What it was published to.
    pub subject: &'a [u8],
    /// Its header block, empty for none.
    pub headers: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
    /// How long it lives, in seconds; zero for as long as the stream says.
    pub ttl: u64,
    /// When it is due for the first time, in nanoseconds since 1970, if it is a schedule.
    pub due: Option<i64>,
    /// Whether its bytes were overwritten: subject, headers and payload are then zeros.
    pub erased: bool,
}

/// Why bytes aren't the record that they should be. Nothing of them is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// There are fewer bytes than it takes, or its head makes no sense.
    #[error("not a record")]
    Malformed,
    /// It is damaged, or another's.
    #[error("bad checksum")]
    Checksum,
    /// It was erased.
    #[error("erased")]
    Erased,
    /// It has more bytes than a record can say.
    #[error("message too large")]
    TooLarge,
}

/// The head of a record as its bytes have it: lengths fit the bytes there are, but nothing is verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    erased: bool,
    /// With the check.
    len: usize,
    subject: usize,
    headers: usize,
    pub(super) total: usize,
    time: u64,
    width: u8,
    /// What a message says of its sequence.
    pub(super) sequence: Option<u64>,
    ttl: u64,
    due: Option<i64>,
    crc: u32,
    check: u16,
}

impl Head {
    /// Reads the head at the front of `bytes`; `None` if there can be none, or the record is longer than `bytes`.
    pub(super) fn parse(bytes: &[u8]) -> Option<Head> {
        let first = *bytes.first()?;
        let kind = Kind::of(first)?;
        let mut reader = varint::Reader::new(&bytes[1..]);
        let mut length = |max: usize| reader.take().filter(|len| *len <= max as u64).map(|len| len as usize);
        let payload = length(MAX_PAYLOAD)?;
        let (mut subject, mut headers, mut width, mut time) = (0, 0, 0, 0);
        let (mut sequence, mut ttl, mut due) = (None, 0, None);
        if kind == Kind::Message {
            subject = length(MAX_SUBJECT)?;
            headers = if first & HAS_HEADERS != 0 { length(MAX_PAYLOAD)? } else { 0 };
            width = first >> WIDTH_SHIFT & 3;
            let (raw, rest) = reader.rest().split_at_checked(WIDTHS[usize::from(width)])?;
            time = raw.iter().rev().fold(0, |time, byte| time << 8 | u64::from(*byte));
            reader = varint::Reader::new(rest);
            if first & HAS_EXTENSION != 0 {
                let has = reader.take().filter(|has| *has <= HAS_TTL | HAS_SEQUENCE | HAS_DUE)?;
                ttl = if has & HAS_TTL != 0 { reader.take()? } else { 0 };
                sequence = if has & HAS_SEQUENCE != 0 { Some(reader.take()?) } else { None };
                due = if has & HAS_DUE != 0 { Some(reader.take_signed()?) } else { None };
            }
        } else if first & !KIND_MASK != 0 {
            return None;
        }
        let checked = bytes.len() - reader.rest().len();
        let check = u16::from_le_bytes(*reader.rest().first_chunk()?);
        let len = checked + 2;
        // Each is below 2^28: no overflow.
        let total = len + subject + headers + payload + TRAILER;
        if total > bytes.len() {
            return None;
        }
        let erased = first & ERASED != 0;
        let crc = crc32c::crc32c(&bytes[..checked]);
        Some(Head { kind, erased, len, subject, headers, total, time, width, sequence, ttl, due, crc, check })
    }

    /// Returns the seed of the record if it stands at `offset` and has `sequence`, and times count from `base`.
    fn seed(&self, place: &Place, offset: u32, sequence: u64, base: i64) -> u64 {
        let relative = self.kind == Kind::Message && self.width != ABSOLUTE;
        place.seed(offset, sequence, if relative { base } else { 0 })
    }

    /// Returns whether the head's own check holds.
    pub(super) fn holds(&self, place: &Place, offset: u32, sequence: u64, base: i64) -> bool {
        fold(self.crc) ^ self.seed(place, offset, sequence, base) as u16 == self.check
    }

    /// Returns whether the whole record's checksum holds; `bytes` are those that it was parsed from.
    pub(super) fn verifies(
        &self,
        bytes: &[u8],
        place: &Place,
        offset: u32,
        sequence: u64,
        base: i64,
    ) -> bool {
        if planted::bug(Bug::BlockChecksumUnverified) {
            return true;
        }
        let (content, crc) = bytes[..self.total].split_at(self.total - TRAILER);
        let seed = self.seed(place, offset, sequence, base);
        crc32c::crc32c(content) ^ (seed >> 32) as u32
            == u32::from_le_bytes(*crc.first_chunk().expect("four bytes"))
    }

    /// Returns the body.
    pub(super) fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.len..self.total - TRAILER]
    }

    /// Returns the message that it is the head of, once it is verified.
    pub(super) fn message<'a>(&self, bytes: &'a [u8], sequence: u64, base: i64) -> Record<'a> {
        let (subject, rest) = self.body(bytes).split_at(self.subject);
        let (headers, payload) = rest.split_at(self.headers);
        let time =
            if self.width == ABSOLUTE { self.time as i64 } else { base.wrapping_add(self.time as i64) };
        Record {
            sequence,
            time,
            subject,
            headers,
            payload,
            ttl: self.ttl,
            due: self.due,
            erased: self.erased,
        }
    }

    /// Returns the base that makes this `time`, whatever it is for an absolute one.
    fn base_for(&self, time: i64) -> i64 {
        time.wrapping_sub(self.time as i64)
    }
}

impl Record<'_> {
    /// Appends it to `out` as the record that will stand at `offset`, advances `context`, and returns its length.
    ///
    /// # Errors
    ///
    /// [`RecordError::TooLarge`]; nothing has changed then.
    pub fn encode(
        &self,
        out: &mut Vec<u8>,
        place: &Place,
        offset: u32,
        context: &mut Context,
    ) -> Result<u32, RecordError> {
        let sizes = [self.headers.len(), self.payload.len()];
        if self.subject.len() > MAX_SUBJECT || sizes.iter().any(|len| *len > MAX_PAYLOAD) {
            return Err(RecordError::TooLarge);
        }
        let start = out.len();
        let since = self.time.checked_sub(context.base_time).and_then(|since| u64::try_from(since).ok());
        let narrow = since.and_then(|since| {
            Some((since, (0..ABSOLUTE).find(|code| since >> (8 * WIDTHS[usize::from(*code)]) == 0)?))
        });
        let (time, width) = narrow.unwrap_or((self.time as u64, ABSOLUTE));
        let has = if self.ttl > 0 { HAS_TTL } else { 0 }
            | if self.sequence == context.next_sequence { 0 } else { HAS_SEQUENCE }
            | if self.due.is_some() { HAS_DUE } else { 0 };
        let mut first = Kind::Message as u8 | width << WIDTH_SHIFT;
        for (set, flag) in
            [(!self.headers.is_empty(), HAS_HEADERS), (has != 0, HAS_EXTENSION), (self.erased, ERASED)]
        {
            first |= if set { flag } else { 0 };
        }
        out.reserve(32 + self.subject.len() + self.headers.len() + self.payload.len());
        out.push(first);
        varint::put(out, self.payload.len() as u64);
        varint::put(out, self.subject.len() as u64);
        if !self.headers.is_empty() {
            varint::put(out, self.headers.len() as u64);
        }
        out.extend_from_slice(&time.to_le_bytes()[..WIDTHS[usize::from(width)]]);
        if has != 0 {
            varint::put(out, has);
            if self.ttl > 0 {
                varint::put(out, self.ttl);
            }
            if has & HAS_SEQUENCE != 0 {
                varint::put(out, self.sequence);
            }
            if let Some(due) = self.due {
                varint::put_signed(out, due);
            }
        }
        let base = if width == ABSOLUTE { 0 } else { context.base_time };
        let seed = place.seed(offset, self.sequence, base);
        seal_head(out, start, seed);
        out.extend_from_slice(self.subject);
        out.extend_from_slice(self.headers);
        out.extend_from_slice(self.payload);
        seal(out, start, seed);
        context.next_sequence = self.sequence.wrapping_add(1);
        Ok((out.len() - start) as u32)
    }

    /// Verifies the message at the front of `bytes`, which an index says to stand at `offset` with this sequence and time.
    ///
    /// # Errors
    ///
    /// [`RecordError::Erased`] if it is whole and erased, another if it isn't that message.
    pub fn decode<'a>(
        bytes: &'a [u8],
        place: &Place,
        offset: u32,
        sequence: u64,
        time: i64,
    ) -> Result<Record<'a>, RecordError> {
        let head = Head::parse(bytes).ok_or(RecordError::Malformed)?;
        if head.kind != Kind::Message {
            return Err(RecordError::Malformed);
        }
        let base = head.base_for(time);
        if !head.holds(place, offset, sequence, base) || !head.verifies(bytes, place, offset, sequence, base)
        {
            return Err(RecordError::Checksum);
        }
        let record = head.message(bytes, sequence, base);
        match record.erased {
            true => Err(RecordError::Erased),
            false if record.time != time => Err(RecordError::Checksum),
            false => Ok(record),
        }
    }
}

/// Overwrites the message at the front of `bytes` so that its place, length, sequence and time stay and its contents are
/// gone; returns the record's new bytes, as many as it had.
///
/// # Errors
///
/// As [`Record::decode`]; a record that is already erased is [`RecordError::Erased`].
pub fn erase(
    bytes: &[u8],
    place: &Place,
    offset: u32,
    sequence: u64,
    time: i64,
) -> Result<Vec<u8>, RecordError> {
    Record::decode(bytes, place, offset, sequence, time)?;
    let head = Head::parse(bytes).ok_or(RecordError::Malformed)?;
    let seed = head.seed(place, offset, sequence, head.base_for(time));
    let mut out = bytes[..head.len - 2].to_vec();
    out[0] |= ERASED;
    seal_head(&mut out, 0, seed);
    out.resize(head.total - TRAILER, 0);
    seal(&mut out, 0, seed);
    Ok(out)
}

/// Appends a record that is no message.
pub(super) fn encode_control(
    out: &mut Vec<u8>,
    place: &Place,
    offset: u32,
    kind: Kind,
    body: &[&[u8]],
) -> u32 {
    let start = out.len();
    let len: usize = body.iter().map(|piece| piece.len()).sum();
    assert!(len <= MAX_PAYLOAD, "what is written behind is cut into smaller pieces");
    out.reserve(len + 16);
    out.push(kind as u8);
    varint::put(out, len as u64);
    let seed = place.seed(offset, 0, 0);
    seal_head(out, start, seed);
    for piece in body {
        out.extend_from_slice(piece);
    }
    seal(out, start, seed);
    (out.len() - start) as u32
}

/// Appends the check of the head that begins at `start`.
fn seal_head(out: &mut Vec<u8>, start: usize, seed: u64) {
    let check = fold(crc32c::crc32c(&out[start..])) ^ seed as u16;
    out.extend_from_slice(&check.to_le_bytes());
}

/// Appends the checksum of the record that begins at `start`.
fn seal(out: &mut Vec<u8>, start: usize, seed: u64) {
    let crc = crc32c::crc32c(&out[start..]) ^ (seed >> 32) as u32;
    out.extend_from_slice(&crc.to_le_bytes());
}

fn fold(crc: u32) -> u16 {
    (crc ^ crc >> 16) as u16
}
