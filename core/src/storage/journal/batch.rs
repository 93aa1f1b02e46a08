//! Batches and entries as bytes.
//!
//! An entry's checksum is seeded with the journal's identity alone: a position is never used twice, so whatever
//! verifies *is* the entry of that position, wherever it is found, and an entry is copied forward as it stands. What
//! ties entries to their place is the batch: its header is seeded with segment and offset, and holds a checksum over
//! the headers of its entries. So a bit flipped in a payload costs that entry and nothing else, and it is known whose
//! it was.

use bytes::{BufMut, Bytes, BytesMut};

use super::super::{OwnerId, Position};
use crate::planted;

/// The length of an entry's header.
pub(super) const ENTRY_HEADER: usize = 28;
/// The length of a batch's header.
pub(super) const BATCH_HEADER: usize = 48;
/// Batches start at multiples of this.
pub(super) const ALIGN: u32 = 8;
/// The first four bytes of a batch.
pub(super) const BATCH_MAGIC: [u8; 4] = *b"nBat";

/// The kind of an entry by which an owner is forgotten; kinds from here on are the journal's own.
pub(super) const KIND_FORGET: u8 = 0xf0;

/// Payload pieces from this length on are shared with the writer rather than copied.
const SHARED_FROM: usize = 4096;
/// How long the buffers are that entries are copied to, in bytes.
const BUFFER: usize = 64 << 10;
/// How many buffers are kept to be used again: fresh memory costs as much as what is copied to it, and what is given back and
/// asked for again and again is held by the allocator twice.
const MOST_BUFFERS: usize = 128;

/// Checksums of one journal.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(u32);

impl Seed {
    /// Returns the seed that belongs to a journal's identity.
    pub(super) fn new(identity: u64) -> Self {
        Seed(crc32c::crc32c(&identity.to_le_bytes()))
    }

    fn of_place(self, segment: u64, offset: u32) -> u32 {
        let seeded = crc32c::crc32c_append(self.0, &segment.to_le_bytes());
        crc32c::crc32c_append(seeded, &offset.to_le_bytes())
    }
}

/// What the header of an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EntryHeader {
    /// Whose it is.
    pub owner: OwnerId,
    /// Its position; lower than its batch's first if it was copied forward.
    pub position: Position,
    /// Its kind.
    pub kind: u8,
    /// The length of its payload in bytes.
    pub length: u32,
    crc: u32,
}

impl EntryHeader {
    /// Reads the header at the start of `bytes`; what it says is not verified. `None` if it can't be one.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..ENTRY_HEADER)?;
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let reserved = bytes[17..20] == [0; 3];
        reserved.then_some(())?;
        Some(EntryHeader {
            owner: OwnerId(number(0)?),
            position: Position(number(8)?),
            kind: bytes[16],
            length: short(20)?,
            crc: short(24)?,
        })
    }

    /// Returns how long header and payload are together.
    pub(super) fn size(&self) -> usize {
        ENTRY_HEADER + self.length as usize
    }

    /// Returns whether `raw`, header and payload, is what was appended.
    pub(super) fn verify(&self, seed: Seed, raw: &[u8]) -> bool {
        if raw.len() != self.size() {
            return false;
        }
        let crc = crc32c::crc32c_append(seed.0, &raw[..ENTRY_HEADER - 4]);
        crc32c::crc32c_append(crc, &raw[ENTRY_HEADER..]) == self.crc
    }
}

/// What the header of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// The length of the body in bytes.
    pub length: u32,
    /// The position of the first of its own entries; those copied forward have lower ones.
    pub first: Position,
    /// Where the first batch stood that wasn't known to be synced when this one was written.
    pub synced: u32,
    /// How many entries there are.
    pub entries: u32,
    /// How many of them are its own: positions from `first`, without gaps.
    pub originals: u32,
    /// The oldest segment that still counted.
    pub oldest: u64,
    /// Checksum over the headers of the entries.
    pub crc: u32,
}

impl BatchHeader {
    /// Appends the header of a batch that is to stand at `offset` of `segment`.
    pub(super) fn encode(&self, seed: Seed, segment: u64, offset: u32, out: &mut BytesMut) {
        let mut header = [0u8; BATCH_HEADER];
        let mut fields = &mut header[..];
        fields.put_slice(&BATCH_MAGIC);
        fields.put_u32_le(self.length);
        fields.put_u64_le(self.first.0);
        fields.put_u32_le(self.synced);
        fields.put_u32_le(self.entries);
        fields.put_u32_le(self.originals);
        fields.put_u64_le(self.oldest);
        fields.put_u32_le(self.crc);
        let crc = crc32c::crc32c_append(seed.of_place(segment, offset), &header[..BATCH_HEADER - 4]);
        header[BATCH_HEADER - 4..].copy_from_slice(&crc.to_le_bytes());
        out.put_slice(&header);
    }

    /// Reads the header at the start of `bytes`; `None` if it isn't one that was written at this place.
    pub(super) fn decode(seed: Seed, segment: u64, offset: u32, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..BATCH_HEADER)?;
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        if bytes[..4] != BATCH_MAGIC {
            return None;
        }
        let crc = crc32c::crc32c_append(seed.of_place(segment, offset), &bytes[..BATCH_HEADER - 4]);
        if crc != short(BATCH_HEADER - 4)? && !planted::bug(planted::Bug::JournalMagicOnly) {
            return None;
        }
        Some(BatchHeader {
            length: short(4)?,
            first: Position(number(8)?),
            synced: short(16)?,
            entries: short(20)?,
            originals: short(24)?,
            oldest: number(28)?,
            crc: short(36)?,
        })
    }

    /// Returns how many bytes the batch takes, with the padding to the next.
    pub(super) fn size(&self) -> u32 {
        footprint(self.length as usize)
    }

    /// Returns the position behind its last own entry.
    pub(super) fn next(&self) -> Position {
        Position(self.first.0.saturating_add(u64::from(self.originals)))
    }
}

/// Returns how many bytes of a segment a body of `length` bytes takes.
pub(super) fn footprint(length: usize) -> u32 {
    let bytes = (BATCH_HEADER + length).next_multiple_of(ALIGN as usize);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// What one owner has in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// Who.
    pub owner: OwnerId,
    /// How many bytes, headers included.
    pub bytes: u64,
    /// The highest position.
    pub last: Position,
}

/// Entries that wait to be written, are being written, or are written and not known to be synced.
#[derive(Clone, Debug, Default)]
pub(super) struct Batch {
    /// The body.
    pub pieces: Vec<Bytes>,
    /// The length of the body in bytes.
    pub length: usize,
    /// The position of the first own entry; of the next that will be given out, if there is none.
    pub first: Position,
    /// How many entries there are.
    pub entries: u32,
    /// How many of them are own ones.
    pub originals: u32,
    /// Checksum over the headers of the entries.
    pub crc: u32,
    /// Who has how much in it.
    pub shares: Vec<Share>,
    /// Who is forgotten by it.
    pub forgotten: Vec<OwnerId>,
}

impl Batch {
    /// Returns whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Returns the position behind its last own entry.
    pub(super) fn next(&self) -> Position {
        Position(self.first.0 + u64::from(self.originals))
    }

    /// Returns how many bytes of a segment it takes.
    pub(super) fn footprint(&self) -> u32 {
        footprint(self.length)
    }

    /// Adds the header of an entry to the checksum and the entry to its owner's share.
    fn count(&mut self, header: &[u8], owner: OwnerId, position: Position, size: usize) {
        self.crc = crc32c::crc32c_append(self.crc, header);
        self.entries += 1;
        self.length += size;
        match self.shares.last_mut() {
            Some(share) if share.owner == owner => {
                share.bytes += size as u64;
                share.last = share.last.max(position);
            }
            _ => self.shares.push(Share { owner, bytes: size as u64, last: position }),
        }
    }

    /// Adds an entry as it was read.
    pub(super) fn push_raw(&mut self, header: &EntryHeader, raw: Bytes, original: bool) {
        self.count(&raw[..ENTRY_HEADER], header.owner, header.position, raw.len());
        self.originals += u32::from(original);
        if original && header.kind == KIND_FORGET {
            self.forgotten.push(header.owner);
        }
        self.pieces.push(raw);
    }
}

/// The batch that is being filled.
#[derive(Debug, Default)]
pub(super) struct Filling {
    batch: Batch,
    buffer: BytesMut,
    /// Buffers that were written, empty.
    spares: Vec<BytesMut>,
}

impl Filling {
    /// Starts over for entries from position `first` on.
    pub(super) fn start(&mut self, first: Position) {
        debug_assert!(self.batch.is_empty(), "a batch that has entries is taken, not dropped");
        self.batch.first = first;
    }

    /// Returns how long the body is by now.
    pub(super) fn length(&self) -> usize {
        self.batch.length
    }

    /// Returns the position that the next entry gets.
    pub(super) fn next(&self) -> Position {
        self.batch.next()
    }

    /// Returns whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Adds a new entry; its position is the next after the last one's.
    pub(super) fn push(&mut self, seed: Seed, owner: OwnerId, kind: u8, payload: &[Bytes], length: u32) {
        let position = self.batch.next();
        let mut header = [0u8; ENTRY_HEADER];
        header[..8].copy_from_slice(&owner.0.to_le_bytes());
        header[8..16].copy_from_slice(&position.0.to_le_bytes());
        header[16] = kind;
        header[20..24].copy_from_slice(&length.to_le_bytes());
        let mut crc = crc32c::crc32c_append(seed.0, &header[..ENTRY_HEADER - 4]);
        for piece in payload {
            crc = crc32c::crc32c_append(crc, piece);
        }
        header[24..].copy_from_slice(&crc.to_le_bytes());
        self.batch.count(&header, owner, position, ENTRY_HEADER + length as usize);
        self.batch.originals += 1;
        if kind == KIND_FORGET {
            self.batch.forgotten.push(owner);
        }
        self.copy(&header);
        for piece in payload {
            self.add(piece);
        }
    }

    /// Adds an entry that was written before, as it stands.
    pub(super) fn push_copy(&mut self, header: &EntryHeader, raw: &Bytes) {
        self.batch.count(&raw[..ENTRY_HEADER], header.owner, header.position, raw.len());
        self.add(raw);
    }

    fn add(&mut self, piece: &Bytes) {
        if piece.len() < SHARED_FROM {
            return self.copy(piece);
        }
        self.end_piece();
        self.batch.pieces.push(piece.clone());
    }

    fn copy(&mut self, bytes: &[u8]) {
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.end_piece();
            self.buffer = self.spares.pop().unwrap_or_else(|| BytesMut::with_capacity(BUFFER));
        }
        self.buffer.put_slice(bytes);
    }

    fn end_piece(&mut self) {
        if !self.buffer.is_empty() {
            self.batch.pieces.push(self.buffer.split().freeze());
        }
    }

    /// Takes back the buffers of a batch that the disk has.
    pub(super) fn reuse(&mut self, batch: Batch) {
        // Who writes little needs few.
        if batch.length < BUFFER && self.spares.len() > 1 {
            self.spares.pop();
        }
        for piece in batch.pieces {
            // The last piece of a buffer has all of it, if the others were given back before.
            if self.spares.len() < MOST_BUFFERS
                && let Ok(mut buffer) = piece.try_into_mut()
            {
                buffer.clear();
                if buffer.try_reclaim(BUFFER) && buffer.capacity() < 2 * BUFFER {
                    self.spares.push(buffer);
                }
            }
        }
    }

    /// Takes the batch out, and goes on with an empty one.
    pub(super) fn take(&mut self) -> Batch {
        self.end_piece();
        let next = Batch { first: self.batch.next(), ..Batch::default() };
        std::mem::replace(&mut self.batch, next)
    }
}
