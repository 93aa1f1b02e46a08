//! Streams compressed as S2, as their bytes come: chunks of the snappy framing format, whose blocks may use S2's extensions.
//!
//! ```text
//! chunk     type u8, length u24, then length bytes
//! 0xff      "S2sTwO" or "sNaPpY": a stream begins
//! 0x00      crc u32, a compressed block       0x01      crc u32, bytes as they are
//! 0x80..    to be passed over                 0x02..    of a later version
//! ```
//!
//! What is written has no S2 extension in its blocks, and so is read by whoever reads either. What is read may be anything:
//! a block says how long it is, and no longer one than S2 allows is made room for.
//!
//! Source: klauspost/compress `s2/s2.go`, and google/snappy `framing_format.txt`.

mod block;

use bytes::{Buf, Bytes, BytesMut};

const IDENTIFIER: &[u8; 10] = b"\xff\x06\x00\x00S2sTwO";
const COMPRESSED: u8 = 0x00;
const PLAIN: u8 = 0x01;
const STREAM: u8 = 0xff;

/// The longest block that there is, in bytes.
const MAX_BLOCK: usize = 4 << 20;
/// The longest chunk that a block can be in: what compressing makes of the worst.
const MAX_CHUNK: usize = MAX_BLOCK + MAX_BLOCK / 6 + 64;
/// How long the blocks are that are written.
const BLOCK: usize = 128 << 10;

/// Why bytes are no such stream, in the reference's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum S2Error {
    /// They make no sense.
    #[error("s2: corrupt input")]
    Corrupt,
    /// They are not what was written.
    #[error("s2: corrupt input, crc mismatch")]
    Checksum,
    /// A block is longer than one can be.
    #[error("s2: decoded block is too large")]
    TooLarge,
    /// They are of a later version.
    #[error("s2: unsupported input")]
    Unsupported,
}

/// Compresses a stream.
#[derive(Debug, Default)]
pub struct Writer {
    begun: bool,
    plain: Vec<u8>,
}

impl Writer {
    /// Takes the next bytes, and appends to `out` what is complete of the stream.
    pub fn write(&mut self, mut bytes: &[u8], out: &mut BytesMut) {
        while self.plain.len() + bytes.len() >= BLOCK {
            let (now, later) = bytes.split_at(BLOCK - self.plain.len());
            self.plain.extend_from_slice(now);
            bytes = later;
            self.flush(out);
        }
        self.plain.extend_from_slice(bytes);
    }

    /// Appends to `out` what was taken and isn't written yet.
    pub fn flush(&mut self, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.begun, true) {
            out.extend_from_slice(IDENTIFIER);
        }
        if self.plain.is_empty() {
            return;
        }
        let crc = masked(crc32c::crc32c(&self.plain)).to_le_bytes();
        // A block of this length can always be compressed.
        let compressed = snap::raw::Encoder::new().compress_vec(&self.plain).unwrap_or_default();
        let (kind, body) = match !compressed.is_empty() && compressed.len() < self.plain.len() {
            true => (COMPRESSED, &compressed),
            false => (PLAIN, &self.plain),
        };
        let length = (body.len() + crc.len()) as u32;
        out.extend_from_slice(&(length << 8 | u32::from(kind)).to_le_bytes());
        out.extend_from_slice(&crc);
        out.extend_from_slice(body);
        self.plain.clear();
    }
}

/// Reads a stream as its bytes come. One block at a time is held.
#[derive(Debug, Default)]
pub struct Reader {
    bytes: BytesMut,
    begun: bool,
    /// How many bytes are still to be passed over.
    skipping: usize,
}

impl Reader {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes are held that weren't read yet.
    pub fn held(&self) -> usize {
        self.bytes.len()
    }

    /// Returns the next block, decompressed; `None` until there are more bytes.
    ///
    /// # Errors
    ///
    /// [`S2Error`].
    pub fn poll(&mut self) -> Result<Option<Bytes>, S2Error> {
        loop {
            let skipped = self.skipping.min(self.bytes.len());
            self.bytes.advance(skipped);
            self.skipping -= skipped;
            let Some(head) = self.bytes.first_chunk::<4>().filter(|_| self.skipping == 0) else {
                return Ok(None);
            };
            let (kind, length) = (head[0], (u32::from_le_bytes(*head) >> 8) as usize);
            if kind != STREAM && !self.begun {
                return Err(S2Error::Corrupt);
            }
            match kind {
                COMPRESSED | PLAIN if length < 4 => return Err(S2Error::Corrupt),
                COMPRESSED | PLAIN if length > MAX_CHUNK => return Err(S2Error::TooLarge),
                PLAIN if length - 4 > MAX_BLOCK => return Err(S2Error::TooLarge),
                STREAM if length != 6 => return Err(S2Error::Corrupt),
                COMPRESSED | PLAIN | STREAM => {}
                0x80.. => {
                    self.bytes.advance(4);
                    self.skipping = length;
                    continue;
                }
                _ => return Err(S2Error::Unsupported),
            }
            if self.bytes.len() < 4 + length {
                return Ok(None);
            }
            self.bytes.advance(4);
            let mut body = self.bytes.split_to(length).freeze();
            if kind == STREAM {
                if !matches!(&body[..], b"S2sTwO" | b"sNaPpY") {
                    return Err(S2Error::Corrupt);
                }
                self.begun = true;
                continue;
            }
            let crc = body.get_u32_le();
            let plain = if kind == PLAIN { body } else { block::decode(&body, MAX_BLOCK)?.into() };
            if masked(crc32c::crc32c(&plain)) != crc {
                return Err(S2Error::Checksum);
            }
            if !plain.is_empty() {
                return Ok(Some(plain));
            }
        }
    }

    /// Tells whether the stream can end here.
    pub fn is_whole(&self) -> bool {
        self.bytes.is_empty() && self.skipping == 0
    }
}

/// A checksum of bytes that contain checksums isn't one of theirs.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, bool), S2Error> {
        let (mut reader, mut all) = (Reader::default(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            reader.push(piece);
            while let Some(block) = reader.poll()? {
                all.extend_from_slice(&block);
            }
        }
        Ok((all, reader.is_whole()))
    }

    fn written(parts: &[&[u8]]) -> BytesMut {
        let (mut writer, mut out) = (Writer::default(), BytesMut::new());
        parts.iter().for_each(|part| writer.write(part, &mut out));
        writer.flush(&mut out);
        out
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(
            seeds in proptest::collection::vec((any::<u8>(), 0..90_000usize, any::<bool>()), 0..6),
            piece in 1..70_000usize,
        ) {
            let part = |(seed, len, random): (u8, usize, bool)| -> Vec<u8> {
                let step = if random { 0x9e37_79b9 } else { 0 };
                (0..len as u32).map(|at| seed.wrapping_add((at.wrapping_mul(step) >> 13) as u8)).collect()
            };
            let parts: Vec<Vec<u8>> = seeds.into_iter().map(part).collect();
            let out = written(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            prop_assert_eq!(read(&out, piece), Ok((parts.concat(), true)));
        }

        #[test]
        fn a_flipped_bit_never_gives_other_bytes(bytes in proptest::collection::vec(0..4u8, 1..400), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut out = written(&[&bytes]);
            let at = at.index(out.len());
            out[at] ^= 1 << bit;
            // A copy from another place that has the same is as good; and the format says that chunks of unknown kinds are skipped.
            let wrong = matches!(read(&out, 64), Ok((all, true)) if all != bytes && !all.is_empty());
            prop_assert!(!wrong);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), piece in 1..50usize) {
            let _ = read(&bytes, piece);
            let _ = read(&[IDENTIFIER, &bytes[..]].concat(), piece);
            let _ = block::decode(&bytes, 10_000);
        }
    }

    #[test]
    fn chunks_that_are_no_blocks() {
        let padding = b"\xfe\x03\x00\x00abc";
        let with = [&IDENTIFIER[..], padding, &written(&[b"x"])].concat();
        assert_eq!(read(&with, 1), Ok((b"x".to_vec(), true)));
        assert_eq!(read(&[&IDENTIFIER[..], &padding[..5]].concat(), 9), Ok((vec![], false)));
        assert_eq!(read(b"\x01\x05\x00\x00....x", 9), Err(S2Error::Corrupt), "before the stream begins");
        assert_eq!(read(&[&IDENTIFIER[..], b"\x02\x00\x00\x00"].concat(), 99), Err(S2Error::Unsupported));
        assert_eq!(read(&[&IDENTIFIER[..], b"\x01\xff\xff\xff"].concat(), 99), Err(S2Error::TooLarge));
        assert_eq!(read(&[&IDENTIFIER[..], b"\x00\x03\x00\x00..."].concat(), 99), Err(S2Error::Corrupt));
        assert_eq!(read(b"\xff\x06\x00\x00s2StWo", 99), Err(S2Error::Corrupt));
        assert_eq!(read(b"", 1), Ok((vec![], true)));
    }
}
