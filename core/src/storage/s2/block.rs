//! One block of S2: snappy's literals and copies, and copies that repeat the offset of the one before.

use super::S2Error;
use crate::varint;

const LITERAL: u8 = 0;
const COPY1: u8 = 1;
const COPY2: u8 = 2;

/// Decompresses a block of at most `limit` bytes.
///
/// # Errors
///
/// [`S2Error::TooLarge`] if it says that it is longer; [`S2Error::Corrupt`].
pub(super) fn decode(block: &[u8], limit: usize) -> Result<Vec<u8>, S2Error> {
    let mut reader = varint::Reader::new(block);
    let length = reader.take().ok_or(S2Error::Corrupt)?;
    let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(S2Error::TooLarge)?;
    let mut decoder =
        Decoder { bytes: reader.rest(), out: Vec::with_capacity(length), length, last_offset: 0 };
    while !decoder.bytes.is_empty() {
        decoder.step().ok_or(S2Error::Corrupt)?;
    }
    if decoder.out.len() == length { Ok(decoder.out) } else { Err(S2Error::Corrupt) }
}

struct Decoder<'a> {
    bytes: &'a [u8],
    out: Vec<u8>,
    length: usize,
    last_offset: usize,
}

impl Decoder<'_> {
    /// Takes an integer of `width` bytes, lowest first.
    fn take(&mut self, width: usize) -> Option<usize> {
        let (number, rest) = self.bytes.split_at_checked(width)?;
        self.bytes = rest;
        Some(number.iter().rev().fold(0, |value, byte| value << 8 | usize::from(*byte)))
    }

    fn step(&mut self) -> Option<()> {
        let tag = self.take(1)?;
        let (kind, high) = (tag as u8 & 3, tag >> 2);
        let length = match kind {
            LITERAL => return self.literal(high),
            COPY1 => {
                let offset = (tag & 0xe0) << 3 | self.take(1)?;
                let length = high & 7;
                match (offset, length) {
                    (0, 5) => self.take(1)? + 8,
                    (0, 6) => self.take(2)? + (1 << 8) + 4,
                    (0, 7) => self.take(3)? + (1 << 16) + 4,
                    (0, length) => length + 4,
                    (offset, length) => {
                        self.last_offset = offset;
                        length + 4
                    }
                }
            }
            kind => {
                self.last_offset = self.take(if kind == COPY2 { 2 } else { 4 })?;
                high + 1
            }
        };
        self.copy(length)
    }

    fn literal(&mut self, high: usize) -> Option<()> {
        let length = match high {
            60.. => self.take(high - 59)?,
            high => high,
        };
        let (bytes, rest) = self.bytes.split_at_checked(length + 1)?;
        if bytes.len() > self.length - self.out.len() {
            return None;
        }
        self.out.extend_from_slice(bytes);
        self.bytes = rest;
        Some(())
    }

    fn copy(&mut self, length: usize) -> Option<()> {
        let from = self.out.len().checked_sub(self.last_offset).filter(|_| self.last_offset > 0)?;
        if length > self.length - self.out.len() {
            return None;
        }
        // What is copied may reach into what the copy makes: a run. Each round doubles what there is of it.
        let mut left = length;
        while left > 0 {
            let now = left.min(self.out.len() - from);
            self.out.extend_from_within(from..from + now);
            left -= now;
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_repeat_the_offset_before() {
        // "ab", then 4 more of it at offset 2, then repeats of each width.
        let block = |tail: &[u8], length: u64| {
            let mut bytes = Vec::new();
            varint::put(&mut bytes, length);
            bytes.extend_from_slice(&[1 << 2, b'a', b'b', 1, 2]);
            bytes.extend_from_slice(tail);
            decode(&bytes, 1 << 20)
        };
        let run = |length: usize| Ok(b"ab".iter().copied().cycle().take(length).collect::<Vec<u8>>());
        assert_eq!(block(&[], 6), run(6));
        assert_eq!(block(&[1 | 2 << 2, 0], 12), run(12));
        assert_eq!(block(&[1 | 5 << 2, 0, 7], 6 + 15), run(6 + 15));
        assert_eq!(block(&[1 | 6 << 2, 0, 2, 1], 6 + 0x102 + 260), run(6 + 0x102 + 260));
        assert_eq!(block(&[1 | 7 << 2, 0, 3, 0, 1], 6 + 0x10003 + 65540), run(6 + 0x10003 + 65540));
        assert_eq!(block(&[2 | 9 << 2, 2, 0], 16), run(16));
        assert_eq!(block(&[3 | 9 << 2, 2, 0, 0, 0], 16), run(16));
        assert_eq!(block(&[], 7), Err(S2Error::Corrupt), "too short");
        assert_eq!(block(&[1 | 2 << 2, 0], 8), Err(S2Error::Corrupt), "too long");
        assert_eq!(block(&[2 | 9 << 2, 7, 0], 16), Err(S2Error::Corrupt), "from before the beginning");
        assert_eq!(decode(&[4, 1, 0], 9), Err(S2Error::Corrupt), "no offset to repeat");
        assert_eq!(decode(&[0xff, 0x7f], 100), Err(S2Error::TooLarge));
    }
}
