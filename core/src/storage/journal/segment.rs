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
    /// With the key of this epoch everything is sealed that the file has, what an earlier life has left in it included; zero if
    /// nobody vouches for that. It stands in the file that it speaks of, so that a copy which is put back says of itself what it is.
    pub sealed: u32,
}

impl SegmentHeader {
    /// How long a copy is, in bytes, without what says how the file is sealed.
    pub(super) const SIZE: usize = 68;

    /// How long that is, in bytes: it stands behind the copy, with a checksum of all before, where earlier versions had zeros.
    const SEAL: usize = 8;

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
        let mut seal = [0; Self::SEAL];
        if self.sealed != 0 {
            let epoch = self.sealed.to_le_bytes();
            seal[..4].copy_from_slice(&epoch);
            seal[4..].copy_from_slice(&seal_crc(&header, &epoch).to_le_bytes());
        }
        for _ in 0..2 {
            out.put_slice(&header);
            out.put_slice(&seal);
            out.put_bytes(0, SECTOR - Self::SIZE - Self::SEAL);
        }
    }

    /// Reads the header from a file's first [`START`] bytes, from whichever copy is good.
    ///
    /// Returns `None` if neither is: the segment was never started, or both are damaged.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut copies = [0, SECTOR]
            .into_iter()
            .filter_map(|at| Self::decode_copy(bytes.get(at..at + Self::SIZE + Self::SEAL)?));
        let header = copies.next()?;
        // How it is sealed has a checksum of its own, which may be all that is bad in the first.
        let sealed = copies.next().filter(|second| SegmentHeader { sealed: 0, ..*second } == header);
        Some(sealed.unwrap_or(header))
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
            sealed: Self::decode_seal(bytes).unwrap_or_default(),
        })
    }

    fn decode_seal(bytes: &[u8]) -> Option<u32> {
        let (header, seal) = bytes.split_at_checked(Self::SIZE)?;
        let (epoch, crc) = seal.split_first_chunk::<4>()?;
        (*crc == seal_crc(header, epoch).to_le_bytes()).then_some(u32::from_le_bytes(*epoch))
    }
}

/// Returns the checksum of what a header says and the epoch. The header's own checksum isn't in it: behind that all headers' are the same.
fn seal_crc(header: &[u8], epoch: &[u8; 4]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&header[..SegmentHeader::SIZE - 4]), epoch)
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

    fn header() -> SegmentHeader {
        SegmentHeader {
            number: 7,
            identity: 9,
            first: Position(100),
            previous: 5,
            previous_end: 4096,
            next: Position(90),
            oldest: 3,
            synced: START,
            sealed: 0x0102_0304,
        }
    }

    #[test]
    fn either_copy_of_a_header_will_do_and_no_other() {
        let header = header();
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
    fn what_a_file_is_sealed_with_is_believed_as_it_was_written_or_not_at_all() {
        let header = header();
        let mut bytes = BytesMut::new();
        header.encode(&mut bytes);
        for bit in 0..SegmentHeader::SEAL * 8 {
            let mut bad = bytes.to_vec();
            bad[SegmentHeader::SIZE + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), Some(header), "the other copy says it, bit {bit}");
            bad[SECTOR + SegmentHeader::SIZE + bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bad), Some(SegmentHeader { sealed: 0, ..header }), "bit {bit}");
        }
        // The same header without it, and one that is written over another's.
        let mut plain = BytesMut::new();
        SegmentHeader { sealed: 0, ..header }.encode(&mut plain);
        assert!(plain[SegmentHeader::SIZE..SECTOR].iter().all(|byte| *byte == 0));
        assert_eq!(SegmentHeader::decode(&plain).map(|header| header.sealed), Some(0));
        let mut other = BytesMut::new();
        SegmentHeader { number: 8, ..header }.encode(&mut other);
        let seal = SegmentHeader::SIZE..SegmentHeader::SIZE + SegmentHeader::SEAL;
        for at in [0, SECTOR] {
            bytes[at..][seal.clone()].copy_from_slice(&other[seal.clone()]);
        }
        assert_eq!(SegmentHeader::decode(&bytes).map(|header| header.sealed), Some(0));
    }

    #[test]
    fn only_our_own_names_are_segments() {
        assert_eq!(parse_file_name(&file_name(0x1f)), Some(0x1f));
        for name in ["1.jnl", "000000000000001F.jnl", "0000000000000000.jnl", "x", "000000000000001f.jnl~"] {
            assert_eq!(parse_file_name(name), None, "{name}");
        }
    }
}
