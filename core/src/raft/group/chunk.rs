//! A piece of a snapshot as members send it.
//!
//! A snapshot is known by its place, its length and its checksum, so that a transfer goes on where it stopped, also with
//! another leader if that has the same bytes.

use bytes::Bytes;

use crate::raft::log::Place;
use crate::raft::membership::Membership;
use crate::raft::wire::{Entry, EntryKind};
use crate::varint;

/// Which snapshot a piece is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SnapshotKey {
    /// What it stands for.
    pub(super) place: Place,
    /// Its length in bytes.
    pub(super) total: u64,
    /// The checksum of all of it: CRC-32C.
    pub(super) checksum: u32,
}

/// A piece of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Of which.
    pub(super) key: SnapshotKey,
    /// Who the members were; with every piece, as it is short and any piece may be the first to arrive.
    pub(super) members: Membership,
    /// Where it stands, in bytes.
    pub(super) offset: u64,
    /// What is there.
    pub(super) data: Bytes,
}

impl Chunk {
    const VERSION: u8 = 1;

    /// Returns the entry that says it.
    ///
    /// Shape: `version u8, term varint, index varint, total varint, checksum u32, offset varint, kind u8, length varint`
    /// and so many bytes of a membership entry of that kind, then the data.
    pub(super) fn entry(&self) -> Entry {
        let members = self.members.entry();
        let mut out = Vec::with_capacity(64 + members.data.len() + self.data.len());
        out.push(Self::VERSION);
        for number in [self.key.place.term, self.key.place.index, self.key.total] {
            varint::put(&mut out, number);
        }
        out.extend_from_slice(&self.key.checksum.to_le_bytes());
        varint::put(&mut out, self.offset);
        out.push(members.kind as u8);
        varint::put(&mut out, members.data.len() as u64);
        out.extend_from_slice(&members.data);
        out.extend_from_slice(&self.data);
        Entry { kind: EntryKind::SnapshotChunk, data: out.into() }
    }

    /// Reads a piece; `None` if the entry is none, or damaged.
    pub(super) fn decode(entry: &Entry) -> Option<Chunk> {
        (entry.kind == EntryKind::SnapshotChunk).then_some(())?;
        let (version, rest) = entry.data.split_first()?;
        (*version == Self::VERSION).then_some(())?;
        let mut reader = varint::Reader::new(rest);
        let place = Place { term: reader.take()?, index: reader.take()? };
        let total = reader.take()?;
        let (checksum, rest) = reader.rest().split_first_chunk()?;
        let mut reader = varint::Reader::new(rest);
        let offset = reader.take()?;
        let (kind, rest) = reader.rest().split_first()?;
        let mut reader = varint::Reader::new(rest);
        let len = usize::try_from(reader.take()?).ok()?;
        let (members, data) = reader.rest().split_at_checked(len)?;
        let said = Entry { kind: EntryKind::from_byte(*kind)?, data: entry.data.slice_ref(members) };
        let members = Membership::default().after(&said).ok()??;
        let end = offset.checked_add(data.len() as u64)?;
        (end <= total).then_some(())?;
        let key = SnapshotKey { place, total, checksum: u32::from_le_bytes(*checksum) };
        Some(Chunk { key, members, offset, data: entry.data.slice_ref(data) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::raft::wire::NodeId;

    fn chunk(data: Vec<u8>, offset: u64, joint: bool) -> Chunk {
        let old = Membership::new([NodeId(*b"AAAAAAAA"), NodeId(*b"BBBBBBBB")]);
        let members = if joint { old.towards([NodeId(*b"CCCCCCCC")].into()) } else { old };
        let key = SnapshotKey {
            place: Place { term: 3, index: 900 },
            total: offset + data.len() as u64,
            checksum: crc32c::crc32c(&data),
        };
        Chunk { key, members, offset, data: data.into() }
    }

    proptest! {
        #[test]
        fn a_piece_survives_its_entry_and_never_trusts_a_length(
            data in vec(any::<u8>(), 0..50), offset in 0..1_000_000u64, joint: bool, cut in 0..100usize
        ) {
            let piece = chunk(data, offset, joint);
            let entry = piece.entry();
            prop_assert_eq!(Chunk::decode(&entry), Some(piece.clone()));
            let cut = cut.min(entry.data.len());
            let short = Entry { kind: entry.kind, data: entry.data.slice(..cut) };
            if let Some(read) = Chunk::decode(&short) {
                prop_assert!(read.data.len() <= piece.data.len());
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(data in vec(any::<u8>(), 0..80)) {
            let _ = Chunk::decode(&Entry { kind: EntryKind::SnapshotChunk, data: data.into() });
        }
    }
}
