//! The records that aren't messages: marks, ranges that are gone, runs that never were.
//!
//! Their checksums are seeded with no sequence, so that each can be found without knowing what stands before it.

use super::super::Position;
use super::place::{Context, Place};
use super::record::{Kind, encode_control};
use crate::varint::{self, Reader};

/// What is written at the start of each write behind, and in between in a long one.
///
/// Losing one costs nothing: the next repeats all of it, and a change of the base is written twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The sequence of the message behind it, unless that says another; with `base_time` it is the [`Context`].
    pub next_sequence: u64,
    /// What times behind it count from, in nanoseconds since 1970.
    pub base_time: i64,
    /// What they counted from before the base last changed.
    pub previous_base_time: i64,
    /// The position through which the entries before it are in the store's files.
    pub applied: Position,
    /// How many of the block's bytes were known to be synced.
    pub synced: u32,
    /// The first sequence of the stream.
    pub first_sequence: u64,
    /// When the newest message was stored, in nanoseconds since 1970, whether it is still there or not; [`NO_TIME`] if there
    /// was none.
    pub last_time: i64,
}

/// The time of the newest message where there never was one.
pub const NO_TIME: i64 = i64::MIN;

/// Why the body of a verified record makes no sense: our own fault, or a later version's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record's body makes no sense")]
pub struct MarkError;

impl Mark {
    /// Appends it as the record that will stand at `offset`, and returns its length.
    pub fn encode(&self, out: &mut Vec<u8>, place: &Place, offset: u32) -> u32 {
        let mut body = Vec::with_capacity(48);
        varint::put(&mut body, self.next_sequence);
        body.extend_from_slice(&self.base_time.to_le_bytes());
        varint::put_signed(&mut body, self.base_time.wrapping_sub(self.previous_base_time));
        for value in [self.applied.0, u64::from(self.synced), self.first_sequence] {
            varint::put(&mut body, value);
        }
        varint::put_signed(&mut body, self.last_time.wrapping_sub(self.base_time));
        encode_control(out, place, offset, Kind::Mark, &[&body])
    }

    pub(super) fn decode(body: &[u8]) -> Result<Mark, MarkError> {
        let mut reader = Reader::new(body);
        let next_sequence = reader.take().ok_or(MarkError)?;
        let (base, rest) = reader.rest().split_first_chunk().ok_or(MarkError)?;
        let base_time = i64::from_le_bytes(*base);
        let mut reader = Reader::new(rest);
        let back = reader.take_signed().ok_or(MarkError)?;
        let mut value = || reader.take().ok_or(MarkError);
        let mark = Mark {
            next_sequence,
            base_time,
            previous_base_time: base_time.wrapping_sub(back),
            applied: Position(value()?),
            synced: u32::try_from(value()?).map_err(|_| MarkError)?,
            first_sequence: value()?,
            last_time: 0,
        };
        let lag = reader.take_signed().ok_or(MarkError)?;
        Ok(Mark { last_time: base_time.wrapping_add(lag), ..mark })
    }

    /// Returns what the records behind it are relative to.
    pub fn context(&self) -> Context {
        Context { next_sequence: self.next_sequence, base_time: self.base_time }
    }
}

/// The most ranges in one record of deletions.
pub const MAX_RANGES: usize = 4096;

/// Appends a record that says that these ranges are gone, both ends included, ascending and apart.
///
/// # Panics
///
/// If there are more than [`MAX_RANGES`].
pub fn encode_deleted(out: &mut Vec<u8>, place: &Place, offset: u32, ranges: &[(u64, u64)]) -> u32 {
    assert!(ranges.len() <= MAX_RANGES, "more ranges go into more records");
    let mut body = Vec::with_capacity(4 * ranges.len() + 8);
    let mut at = 0;
    for &(first, last) in ranges {
        debug_assert!(at <= first && first <= last, "ranges ascend");
        varint::put(&mut body, first - at);
        varint::put(&mut body, last - first);
        at = last;
    }
    encode_control(out, place, offset, Kind::Deleted, &[&body])
}

pub(super) fn decode_deleted(body: &[u8]) -> Result<Vec<(u64, u64)>, MarkError> {
    let mut reader = Reader::new(body);
    // A range takes two bytes at least, so what the vector grows to is bounded by the bytes there are.
    let mut ranges = Vec::new();
    let mut at = 0u64;
    while !reader.rest().is_empty() {
        let first = reader.take().and_then(|gap| at.checked_add(gap)).ok_or(MarkError)?;
        at = reader.take().and_then(|more| first.checked_add(more)).ok_or(MarkError)?;
        ranges.push((first, at));
    }
    Ok(ranges)
}

/// Appends a record that says that `count` sequences from `first` on never had messages. The message behind it says its
/// sequence itself.
pub fn encode_skipped(out: &mut Vec<u8>, place: &Place, offset: u32, first: u64, count: u64) -> u32 {
    let mut body = Vec::with_capacity(20);
    varint::put(&mut body, first);
    varint::put(&mut body, count);
    encode_control(out, place, offset, Kind::Skipped, &[&body])
}

pub(super) fn decode_skipped(body: &[u8]) -> Result<(u64, u64), MarkError> {
    let mut reader = Reader::new(body);
    let (Some(first), Some(count)) = (reader.take(), reader.take()) else { return Err(MarkError) };
    match count > 0 && first.checked_add(count).is_some() {
        true => Ok((first, count)),
        false => Err(MarkError),
    }
}
