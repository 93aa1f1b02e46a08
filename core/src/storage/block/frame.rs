//! A group of records, compressed, then encrypted: what is written in one piece where either is on.
//!
//! Body: `cipher and compression u8, key epoch LEB128, first sequence LEB128, sequences LEB128, base of times i64, length of
//! the records LEB128, nonce 24 if encrypted, text`. All that stands before the text, with owner, block and offset, is the
//! cipher's associated data.

use super::super::{Cipher, Compression};
use super::header::{cipher_code, cipher_of, compression_code, compression_of};
use super::key::{Keys, NONCE_LEN, SealError};
use super::place::{Context, Place};
use super::record::{Kind, encode_control};
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::varint::{self, Reader};

/// How many bytes of records are put in a frame, unless the first is longer: what one read decompresses.
pub const FRAME_TARGET: usize = 32 * 1024;

/// A frame whose checksum holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// How it is encrypted.
    pub cipher: Cipher,
    /// How it is compressed.
    pub compression: Compression,
    /// The epoch of its key, zero for none.
    pub key_epoch: u64,
    /// The first sequence in it.
    pub first_sequence: u64,
    /// The sequence after the last in it.
    pub next_sequence: u64,
    /// What times in it count from.
    pub base_time: i64,
    raw_len: u64,
    nonce: Option<&'a [u8; NONCE_LEN]>,
    associated: &'a [u8],
    text: &'a [u8],
}

/// Why a frame could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The key isn't the one.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// What was compressed can't be restored.
    #[error("bad compression")]
    Compression,
}

/// What a frame holds, in plain.
#[derive(Clone, Copy, Debug)]
pub struct Plain<'a> {
    /// Records, encoded for their offsets in here.
    pub records: &'a [u8],
    /// What the first is relative to, with its own sequence.
    pub first: Context,
    /// The sequence after the last.
    pub next_sequence: u64,
}

/// How frames are made.
#[derive(Clone, Copy, Debug)]
pub struct Codec<'k> {
    /// The keys; the newest epoch encrypts.
    pub keys: &'k Keys,
    /// How to compress. What doesn't get smaller stays as it is.
    pub compression: Compression,
}

impl Codec<'_> {
    /// Returns whether records go in frames at all.
    pub fn is_plain(&self) -> bool {
        self.compression == Compression::None && self.keys.cipher() == Cipher::None
    }

    /// Appends a frame as the record that will stand at `offset`, and returns its length.
    ///
    /// The nonce is drawn anew for each frame: a tail that was cut and is written again at the same place has another.
    pub fn encode(
        &self,
        out: &mut Vec<u8>,
        place: &Place,
        offset: u32,
        plain: Plain<'_>,
        rng: &mut Rng,
    ) -> u32 {
        let mut text = None;
        if self.compression == Compression::S2 {
            let compressed = snap::raw::Encoder::new().compress_vec(plain.records);
            text = compressed.ok().filter(|text| text.len() < plain.records.len());
        }
        let compression = if text.is_some() { Compression::S2 } else { Compression::None };
        let mut text = text.unwrap_or_else(|| plain.records.to_vec());
        let cipher = self.keys.cipher();
        let epoch = if cipher == Cipher::None { 0 } else { self.keys.epoch() };
        let mut head = Vec::with_capacity(80);
        head.push(cipher_code(cipher) | compression_code(compression) << 4);
        varint::put(&mut head, epoch);
        varint::put(&mut head, plain.first.next_sequence);
        varint::put(&mut head, plain.next_sequence.saturating_sub(plain.first.next_sequence));
        head.extend_from_slice(&plain.first.base_time.to_le_bytes());
        varint::put(&mut head, plain.records.len() as u64);
        if cipher != Cipher::None {
            let mut nonce = [0; NONCE_LEN];
            rng.fill(&mut nonce);
            if planted::bug(Bug::NonceReusedAfterCut) {
                nonce = [0; NONCE_LEN];
                nonce[..4].copy_from_slice(&offset.to_le_bytes());
                nonce[4..8].copy_from_slice(&place.block().to_le_bytes());
            }
            head.extend_from_slice(&nonce);
            let associated = associated(place, offset, &head);
            self.keys.seal(epoch, &nonce, &associated, &mut text).expect("the newest epoch has a key");
        }
        encode_control(out, place, offset, Kind::Frame, &[&head, &text])
    }
}

impl<'a> Frame<'a> {
    /// Reads the body of a verified record.
    pub(super) fn decode(body: &'a [u8]) -> Option<Self> {
        let (flags, rest) = body.split_first()?;
        let cipher = cipher_of(u32::from(flags & 0xf))?;
        let compression = compression_of(u32::from(flags >> 4))?;
        let mut reader = Reader::new(rest);
        let (key_epoch, first_sequence, count) = (reader.take()?, reader.take()?, reader.take()?);
        let next_sequence = first_sequence.checked_add(count)?;
        let (base, rest) = reader.rest().split_first_chunk()?;
        let mut reader = Reader::new(rest);
        let raw_len = reader.take()?;
        let mut text = reader.rest();
        let mut nonce = None;
        if cipher != Cipher::None {
            let (first, rest) = text.split_first_chunk()?;
            (nonce, text) = (Some(first), rest);
        }
        Some(Frame {
            cipher,
            compression,
            key_epoch,
            first_sequence,
            next_sequence,
            base_time: i64::from_le_bytes(*base),
            raw_len,
            nonce,
            associated: &body[..body.len() - text.len()],
            text,
        })
    }

    /// Returns the records in it, which stand at offsets of their own, from zero.
    ///
    /// # Errors
    ///
    /// [`FrameError`]; nothing of it is to be used then.
    pub fn open(&self, place: &Place, offset: u32, keys: &Keys) -> Result<Vec<u8>, FrameError> {
        let mut text = self.text.to_vec();
        if let Some(nonce) = self.nonce {
            if keys.cipher_of(self.key_epoch).is_some_and(|cipher| cipher != self.cipher) {
                return Err(SealError::Broken.into());
            }
            keys.open(self.key_epoch, nonce, &associated(place, offset, self.associated), &mut text)?;
        }
        if self.compression == Compression::S2 {
            let len = snap::raw::decompress_len(&text).map_err(|_| FrameError::Compression)?;
            // A copy of 64 bytes takes 3 (a repeat of S2, which we don't write, could say more with less).
            if len as u64 != self.raw_len || len / 32 > text.len() {
                return Err(FrameError::Compression);
            }
            text = snap::raw::Decoder::new().decompress_vec(&text).map_err(|_| FrameError::Compression)?;
        }
        match text.len() as u64 == self.raw_len {
            true => Ok(text),
            false => Err(FrameError::Compression),
        }
    }

    /// Returns what the first record in it is relative to.
    pub fn context(&self) -> Context {
        Context { next_sequence: self.first_sequence, base_time: self.base_time }
    }
}

fn associated(place: &Place, offset: u32, head: &[u8]) -> Vec<u8> {
    let mut associated = Vec::with_capacity(16 + head.len());
    associated.extend_from_slice(&place.owner().0.to_le_bytes());
    associated.extend_from_slice(&place.block().to_le_bytes());
    associated.extend_from_slice(&offset.to_le_bytes());
    associated.extend_from_slice(head);
    associated
}
