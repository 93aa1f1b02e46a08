//! The manifest of a stream's folder: which blocks count, and how far each is known to be durable.
//!
//! It is replaced, atomically, at the end of each cover: nothing is reported as durable that it doesn't know of. So a block
//! that is missing, shorter or older than it was is known to be, sequences that were readable are never used again, and what
//! was taken out of the middle of the stream isn't taken for lost. Blocks remain the truth: where there is no manifest they
//! are used without it.
//!
//! Two copies of one thing stand in the file, each starting at a sector: `magic 8, owner u64, length of the body u32`, the
//! body, `crc u32` of all before it. The body is LEB128: generation, position covered, first sequence of the stream, next
//! sequence, time of the newest message ever (signed), since when the settings are in force, and twice (those now and those before) their length and bytes, number of blocks, and for each number (from the one before), first sequence (signed, from the end of the
//! one before), sequences, length in bytes, how often it was rewritten, key epoch.

use bytes::Bytes;

use super::super::{OwnerId, Position, twice};
use crate::planted::{self, Bug};
use crate::varint::{self, Reader};

const MAGIC: &[u8; 8] = b"NTRXMAN1";
/// What stands before the length of the body.
const HEAD: usize = 16;

/// A block as the manifest knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Its number.
    pub(super) number: u32,
    /// The sequence after the last of the block before.
    pub(super) first: u64,
    /// All its sequences are before this one.
    pub(super) end: u64,
    /// How many bytes of it are durable.
    pub(super) len: u32,
    /// How often it was written anew.
    pub(super) rewrites: u32,
    /// The epoch of the key that it is sealed with, zero for none.
    pub(super) epoch: u64,
}

/// What a folder should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Manifest {
    /// Counts up.
    pub(super) generation: u64,
    /// Everything through this position is durable.
    pub(super) covered: Position,
    /// The stream's first sequence at that position.
    pub(super) floor: u64,
    /// The sequence of its next message then.
    pub(super) next_sequence: u64,
    /// When its newest message was stored, in nanoseconds since 1970.
    pub(super) last_time: i64,
    /// The stream's settings.
    pub(super) settings: Settings,
    /// The blocks, oldest first.
    pub(super) blocks: Vec<Known>,
}

/// Settings of the stream, which mean nothing here, and when they changed last.
///
/// A change is in the manifest before its entry is applied, so that whatever the newest mark says, the settings of that
/// position are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// The entry from which on they are the new ones.
    pub(super) since: Position,
    pub(super) now: Bytes,
    /// What they were before.
    pub(super) before: Bytes,
}

impl Settings {
    /// Returns those at a position; `None` if none were ever set.
    pub(super) fn at(&self, position: Position) -> Option<Bytes> {
        let new = position >= self.since || planted::bug(Bug::StoreSettingsTooEarly);
        let settings = if new { &self.now } else { &self.before };
        (!settings.is_empty()).then(|| settings.clone())
    }

    /// Forgets a change whose entry is still to be applied: it comes again.
    pub(super) fn applied_through(self, position: Position) -> Self {
        match position >= self.since {
            true => self,
            false => Settings { since: Position(0), now: self.before.clone(), before: self.before },
        }
    }
}

/// Why bytes are no manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ManifestError {
    /// Both copies are damaged.
    Damaged,
    /// It is another stream's.
    Foreign,
}

impl Manifest {
    /// Returns the file.
    pub(super) fn encode(&self, owner: OwnerId) -> Vec<u8> {
        let mut body = Vec::with_capacity(32 + 16 * self.blocks.len());
        let Settings { since, now, before } = &self.settings;
        for value in [self.generation, self.covered.0, self.floor, self.next_sequence] {
            varint::put(&mut body, value);
        }
        varint::put_signed(&mut body, self.last_time);
        varint::put(&mut body, since.0);
        for settings in [now, before] {
            varint::put(&mut body, settings.len() as u64);
            body.extend_from_slice(settings);
        }
        varint::put(&mut body, self.blocks.len() as u64);
        let mut before = Known::default();
        for block in &self.blocks {
            varint::put(&mut body, u64::from(block.number - before.number));
            varint::put_signed(&mut body, block.first.wrapping_sub(before.end) as i64);
            varint::put(&mut body, block.end.saturating_sub(block.first));
            for value in [u64::from(block.len), u64::from(block.rewrites), block.epoch] {
                varint::put(&mut body, value);
            }
            before = *block;
        }
        twice::encode(&[&MAGIC[..], &owner.0.to_le_bytes()].concat(), &body)
    }

    /// Reads the file.
    pub(super) fn decode(bytes: &[u8], owner: OwnerId) -> Result<Manifest, ManifestError> {
        let mut error = ManifestError::Damaged;
        for (head, body) in twice::decode(bytes, MAGIC, HEAD) {
            if head[MAGIC.len()..] != owner.0.to_le_bytes() {
                error = ManifestError::Foreign;
            } else if let Some(manifest) = Self::decode_body(body) {
                return Ok(manifest);
            }
        }
        Err(error)
    }

    fn decode_body(body: &[u8]) -> Option<Manifest> {
        let mut reader = Reader::new(body);
        let mut manifest = Manifest {
            generation: reader.take()?,
            covered: Position(reader.take()?),
            floor: reader.take()?,
            next_sequence: reader.take()?,
            last_time: reader.take_signed()?,
            settings: Settings { since: Position(reader.take()?), ..Settings::default() },
            blocks: Vec::new(),
        };
        for settings in [&mut manifest.settings.now, &mut manifest.settings.before] {
            let len = usize::try_from(reader.take()?).ok()?;
            let (bytes, rest) = reader.rest().split_at_checked(len)?;
            *settings = Bytes::copy_from_slice(bytes);
            reader = Reader::new(rest);
        }
        let mut before = Known::default();
        for _ in 0..reader.take()? {
            let number =
                u32::try_from(reader.take()?).ok().and_then(|more| before.number.checked_add(more))?;
            let first = before.end.wrapping_add(reader.take_signed()? as u64);
            let end = first.checked_add(reader.take()?)?;
            let len = u32::try_from(reader.take()?).ok()?;
            let rewrites = u32::try_from(reader.take()?).ok()?;
            before = Known { number, first, end, len, rewrites, epoch: reader.take()? };
            manifest.blocks.push(before);
        }
        reader.rest().is_empty().then_some(manifest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::disk::SECTOR;

    fn manifest() -> Manifest {
        let block = |number, first, end| Known { number, first, end, len: 8000, rewrites: 1, epoch: 3 };
        Manifest {
            generation: 9,
            covered: Position(1 << 40),
            floor: 17,
            next_sequence: 400,
            last_time: 1_700_000_000_000_000_000,
            settings: Settings {
                since: Position(77),
                now: Bytes::from_static(b"new"),
                before: Bytes::from_static(b"old"),
            },
            blocks: vec![block(3, 10, 120), block(7, 200, 300), block(8, 250, 400)],
        }
    }

    #[test]
    fn one_bad_sector_or_bit_costs_nothing() {
        let (owner, manifest) = (OwnerId(5), manifest());
        let bytes = manifest.encode(owner);
        assert_eq!(Manifest::decode(&bytes, owner), Ok(manifest.clone()));
        assert_eq!(Manifest::decode(&bytes, OwnerId(6)), Err(ManifestError::Foreign));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(Manifest::decode(&bad, owner), Ok(manifest.clone()), "byte {at}");
        }
        for sector in 0..bytes.len() / SECTOR {
            let mut bad = bytes.clone();
            bad[sector * SECTOR..][..SECTOR].fill(0);
            assert_eq!(Manifest::decode(&bad, owner), Ok(manifest.clone()));
        }
        assert_eq!(Manifest::decode(&bytes[..4], owner), Err(ManifestError::Damaged));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::decode(&bytes, OwnerId(1));
            let _ = Manifest::decode_body(&bytes);
        }
    }
}
