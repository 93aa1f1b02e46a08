//! A segment file's name and header.
//!
//! The header stands twice, in two sectors, so that a bad sector doesn't cost the knowledge of where the segment before
//! it ended. It goes to disk in one synced write with the segment's first batch.

use bytes::{BufMut, BytesMut};

use super::super::Position;
use crate::disk::SECTOR;

/// Where the first batch of a segment stands.
pub(super) const START: u32 = 2 * SECTOR as u32;

const MAGIC: &[u8; 8] = b"NTRXJNL1";
/// What a segment says of itself and of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// The number that its file is named for; higher than those of all that were started before.
    pub number: u64,
    /// The same in all segments of a journal.
    pub identity: u64,
    /// The first position that may be given to an entry in it.
    pub first: Position,
    /// The number of the segment that it continues; zero if it is the first.
    pub previous: u64,
    /// Where that one ends: all before is synced, all behind is void.
    pub previous_end: u32,
    /// The position that the next new entry was to get when it was started: after a recovery far behind `first`.
    pub next: Position,
    /// The oldest segment that still counted when this one was started.
    pub oldest: u64,
    /// How far it was known to be synced when the header was written: [`START`], unless batches were written before it.
    ///
    /// Those are what the segment before may hold behind its mark. Entries among them that had been copied forward stand nowhere
    /// else then, and no batch behind them may ever say that they are synced: without this, damage to them would be taken for
    /// a torn tail.
    pub synced: u32,
}

impl SegmentHeader {
    /// How long a copy is, in bytes.
    pub(super) const SIZE: usize = 68;

    /// Appends both copies, and the zeros between, [`START`] bytes in all.
    pub(super) fn encode(&self, out: &mut BytesMut) {
        let mut header = [0u8; Self::SIZE];
        let mut fields = &mut header[..];
        fields.put_slice(MAGIC);
        fields.put_u64_le(self.number);
        fields.put_u64_le(self.identity);
        fields.put_u64_le(self.first.0);
        fields.put_u64_le(self.previous);
        fields.put_u32_le(self.previous_end);
        fields.put_u64_le(self.next.0);
        fields.put_u64_le(self.oldest);
        fields.put_u32_le(self.synced);
        let crc = crc32c::crc32c(&header[..Self::SIZE - 4]);
        header[Self::SIZE - 4..].copy_from_slice(&crc.to_le_bytes());
        for _ in 0..2 {
            out.put_slice(&header);
            out.put_bytes(0, SECTOR - Self::SIZE);
        }
    }

    /// Reads the header from a file's first [`START`] bytes, from whichever copy is good.
    ///
    /// Returns `None` if neither is: the segment was never started, or both are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        [0, SECTOR].into_iter().find_map(|at| Self::decode_copy(bytes.get(at..at + Self::SIZE)?))
    }

    fn decode_copy(bytes: &[u8]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes.get(..8)? != MAGIC || short(Self::SIZE - 4)? != crc32c::crc32c(&bytes[..Self::SIZE - 4]) {
            return None;
        }
        Some(SegmentHeader {
            number: number(8)?,
            identity: number(16)?,
            first: Position(number(24)?),
            previous: number(32)?,
            previous_end: short(40)?,
            next: Position(number(44)?),
            oldest: number(52)?,
            synced: short(60)?,
        })
    }
}

/// Returns the file name of a segment.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.jnl")
}

/// Returns the number that a file's name says, `None` if it isn't the name of a segment.
pub(super) fn parse_file_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".jnl")?;
    let number = u64::from_str_radix(digits, 16).ok()?;
    (number > 0 && file_name(number) == name).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_copy_of_a_header_will_do_and_no_other() {
        let header = SegmentHeader {
            number: 7,
            identity: 9,
            first: Position(100),
            previous: 5,
            previous_end: 4096,
            next: Position(90),
            oldest: 3,
            synced: START,
        };
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        assert_eq!(bytes.len(), START as usize);
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        bytes[20] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), Some(header));
        bytes[SECTOR + 59] ^= 1;
        assert_eq!(SegmentHeader::decode(&bytes), None);
        assert_eq!(SegmentHeader::decode(&bytes[..SECTOR]), None);
    }

    #[test]
    fn only_our_own_names_are_segments() {
        assert_eq!(parse_file_name(&file_name(0x1f)), Some(0x1f));
        for name in ["1.jnl", "000000000000001F.jnl", "0000000000000000.jnl", "x", "000000000000001f.jnl~"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
