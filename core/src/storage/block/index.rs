//! The index file of a closed block: what its messages are and where, so that a clean restart reads no blocks.
//!
//! A cache: whatever is wrong with it, the block is the truth and makes it anew. It is tied to its block by owner, number,
//! length, and the block's last four bytes (the checksum of the mark that closed it).

use hashbrown::HashTable;

use super::super::{Cipher, OwnerId, Position, StorageKind};
use super::header::{u32_at, u64_at};
use super::key::{Keys, NONCE_LEN, SealError};
use super::names::Names;
use super::place::Place;
use super::record::Record;
use super::slots;
use super::walk::{At, Visitor};
use crate::planted::{self, Bug};
use crate::rng::{HashKeys, Rng};
use crate::varint::{self, Reader};

const MAGIC: &[u8; 8] = b"NTRXIDX2";
/// Up to the counts, then the crc of the body, then that of all before it.
const BODY_CRC: usize = 96;
const HEAD_CRC: usize = BODY_CRC + 4;
const HEADER_LEN: usize = HEAD_CRC + 4;
const RUN_LEN: usize = 12;
const SEALED: u32 = 1;

/// Marks a slot's offset as that of the frame that the message is in.
const FRAMED: u32 = 1 << 31;

/// Returns an offset with what tells a frame's from a record's.
pub(super) fn place(offset: u32, framed: bool) -> u32 {
    offset & !FRAMED | if framed { FRAMED } else { 0 }
}

/// Splits what [`Slot::place`] returned into the offset and whether it is a frame's.
pub fn split_place(place: u32) -> (u32, bool) {
    (place & !FRAMED, place & FRAMED != 0)
}

/// What is known of a message without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// When it was stored, in nanoseconds since 1970.
    pub time: i64,
    offset: u32,
    /// What it counts in the stream's bytes, as [`StorageKind::message_size`] says.
    pub size: u32,
    /// The number of its subject in the table.
    pub subject: u32,
}

impl Slot {
    /// Makes one; `place` is what [`Slot::place`] returned.
    pub(super) fn new(time: i64, place: u32, size: u32, subject: u32) -> Self {
        Slot { time, offset: place, size, subject }
    }

    /// Returns where its record starts, or the frame that it is in.
    pub fn offset(&self) -> u32 {
        self.offset & !FRAMED
    }

    /// Returns where its record starts as the index has it: the offset, and whether that is a frame's in the highest bit.
    pub fn place(&self) -> u32 {
        self.offset
    }

    /// Returns whether it is in a frame.
    pub fn framed(&self) -> bool {
        self.offset & FRAMED != 0
    }
}

/// Sequences one after the other that all have slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first sequence.
    pub first: u64,
    /// How many slots.
    pub count: u32,
    /// The number of the first slot: the sum of the counts before.
    start: u32,
}

/// Which block an index is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its length in bytes.
    pub len: u32,
    /// Its last four bytes.
    pub tail: u32,
}

impl Stamp {
    /// Returns the stamp of a block.
    pub fn of(block: &[u8]) -> Self {
        let tail = block.last_chunk().map_or(0, |tail| u32::from_le_bytes(*tail));
        Stamp { len: block.len() as u32, tail }
    }
}

/// What a block holds, without the bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Which bytes it was made for.
    pub stamp: Stamp,
    /// The sequence after the last in the block before.
    pub first_sequence: u64,
    /// The sequence after the last in the block.
    pub next_sequence: u64,
    /// When the newest message was stored, removed or not.
    pub last_time: i64,
    /// The position through which everything before the block's end is applied.
    pub applied: Position,
    /// Where the slots belong, ascending.
    runs: Vec<Run>,
    slots: Vec<Slot>,
    subjects: Names,
    /// Messages with a life of their own: sequence and seconds.
    ttls: Vec<(u64, u64)>,
    /// Schedules: sequence, and when each is due for the first time, in nanoseconds since 1970.
    schedules: Vec<(u64, i64)>,
    /// What the block says is gone, in this block or others; both ends included.
    deleted: Vec<(u64, u64)>,
}

/// Why an index file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It is damaged, or never was one.
    #[error("damaged")]
    Damaged,
    /// It is another block's.
    #[error("of another block")]
    Foreign,
    /// Its block has changed since.
    #[error("stale")]
    Stale,
    /// It is sealed with another key.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl Index {
    /// Returns where a message is; `None` if it isn't here.
    pub fn slot(&self, sequence: u64) -> Option<&Slot> {
        let behind = self.runs.partition_point(|run| run.first <= sequence);
        let run = self.runs.get(behind.checked_sub(1)?)?;
        let at = sequence - run.first;
        if at >= u64::from(run.count) {
            return None;
        }
        self.slots.get(run.start as usize + at as usize)
    }

    /// Returns all messages in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Slot)> + '_ {
        let sequences = self.runs.iter().flat_map(|run| (0..u64::from(run.count)).map(|at| run.first + at));
        sequences.zip(&self.slots)
    }

    /// Returns how many messages there are.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns a subject by its number.
    pub fn subject(&self, number: u32) -> Option<&[u8]> {
        self.subjects.get(number)
    }

    /// Returns how many subjects the table has.
    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }

    /// Returns the messages with a life of their own, and how long that is in seconds.
    pub fn ttls(&self) -> &[(u64, u64)] {
        &self.ttls
    }

    /// Returns the schedules, and when each is due for the first time, in nanoseconds since 1970.
    pub fn schedules(&self) -> &[(u64, i64)] {
        &self.schedules
    }

    /// Returns what the block says is gone, in the order in which it says it.
    pub fn deleted(&self) -> &[(u64, u64)] {
        &self.deleted
    }

    /// Returns about how much memory it takes, in bytes.
    pub fn memory(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&*self.slots)
            + self.runs.len() * 16
            + self.deleted.len() * 16
            + self.subjects.memory()
    }

    /// Returns it as a file, sealed with the keys' newest epoch if that encrypts: subjects are content.
    pub fn encode(&self, place: &Place, keys: &Keys, rng: &mut Rng) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.slots.len() * 4 + self.runs.len() * RUN_LEN + 64);
        for run in &self.runs {
            body.extend_from_slice(&run.first.to_le_bytes());
            body.extend_from_slice(&run.count.to_le_bytes());
        }
        slots::encode(&self.slots, &mut body);
        for subject in self.subjects.iter() {
            varint::put(&mut body, subject.len() as u64);
            body.extend_from_slice(subject);
        }
        for (first, second) in self.ttls.iter().chain(&self.deleted) {
            varint::put(&mut body, *first);
            varint::put(&mut body, *second);
        }
        for (sequence, due) in &self.schedules {
            varint::put(&mut body, *sequence);
            varint::put_signed(&mut body, *due);
        }
        let sealed = keys.cipher() != Cipher::None;
        let mut head = Vec::with_capacity(HEADER_LEN);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&place.owner().0.to_le_bytes());
        for value in [place.block(), self.stamp.len, self.stamp.tail, if sealed { SEALED } else { 0 }] {
            head.extend_from_slice(&value.to_le_bytes());
        }
        for value in [self.first_sequence, self.next_sequence, self.last_time as u64, self.applied.0] {
            head.extend_from_slice(&value.to_le_bytes());
        }
        head.extend_from_slice(&if sealed { keys.epoch() } else { 0 }.to_le_bytes());
        let tables = [self.runs.len(), self.slots.len(), self.subjects.len(), self.ttls.len()];
        for len in tables.into_iter().chain([self.deleted.len(), self.schedules.len()]) {
            head.extend_from_slice(&u32::try_from(len).expect("a block has fewer").to_le_bytes());
        }
        let mut nonce = [0; NONCE_LEN];
        if sealed {
            rng.fill(&mut nonce);
            keys.seal(keys.epoch(), &nonce, &head, &mut body).expect("the newest epoch has a key");
        }
        // The nonce stands before the body, where the seal covers nothing: it needs no cover.
        let mut out = head;
        out.extend_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&nonce), &body).to_le_bytes());
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        if sealed {
            out.extend_from_slice(&nonce);
        }
        out.extend_from_slice(&body);
        out
    }

    /// Returns the epoch of the key that an index file is sealed with, zero if it isn't sealed; `None` if it isn't one.
    pub(in super::super) fn epoch_of(bytes: &[u8]) -> Option<u64> {
        let head = bytes.get(..HEADER_LEN)?;
        let whole = head.starts_with(MAGIC) && crc32c::crc32c(&head[..HEAD_CRC]) == u32_at(head, HEAD_CRC);
        let epoch = if u32_at(head, 28) == SEALED { u64_at(head, 64) } else { 0 };
        whole.then_some(epoch)
    }

    /// Reads the index file of the block at `place`, whose length and last bytes are `stamp`'s.
    ///
    /// # Errors
    ///
    /// [`IndexError`]: it is to be made anew from the block.
    pub fn decode(bytes: &[u8], place: &Place, stamp: Stamp, keys: &Keys) -> Result<Self, IndexError> {
        use IndexError::{Damaged, Foreign, Stale};
        let (head, body) = bytes.split_at_checked(HEADER_LEN).ok_or(Damaged)?;
        if !head.starts_with(MAGIC) || crc32c::crc32c(&head[..HEAD_CRC]) != u32_at(head, HEAD_CRC) {
            return Err(Damaged);
        }
        if (OwnerId(u64_at(head, 8)), u32_at(head, 16)) != (place.owner(), place.block()) {
            return Err(Foreign);
        }
        let own = Stamp { len: u32_at(head, 20), tail: u32_at(head, 24) };
        if own != stamp && !planted::bug(Bug::IndexTrustedOverBlock) {
            return Err(Stale);
        }
        let mut nonce = [0; NONCE_LEN];
        let sealed = u32_at(head, 28) == SEALED;
        let mut body = body;
        if sealed {
            let (first, rest) = body.split_first_chunk().ok_or(Damaged)?;
            (nonce, body) = (*first, rest);
        }
        if crc32c::crc32c_append(crc32c::crc32c(&nonce), body) != u32_at(head, BODY_CRC) {
            return Err(Damaged);
        }
        let mut opened;
        if sealed {
            opened = body.to_vec();
            keys.open(u64_at(head, 64), &nonce, &head[..BODY_CRC], &mut opened)?;
            body = &opened;
        } else {
            opened = Vec::new();
        }
        let counts: [usize; 6] = std::array::from_fn(|at| u32_at(head, 72 + 4 * at) as usize);
        let mut index = Index {
            stamp: own,
            first_sequence: u64_at(head, 32),
            next_sequence: u64_at(head, 40),
            last_time: u64_at(head, 48) as i64,
            applied: Position(u64_at(head, 56)),
            ..Index::default()
        };
        index.decode_body(body, counts).ok_or(Damaged)?;
        drop(opened);
        Ok(index)
    }

    /// Takes the tables from a body whose checksum holds; `None` if they make no sense all the same.
    fn decode_body(&mut self, body: &[u8], counts: [usize; 6]) -> Option<()> {
        let [runs, slots, subjects, ttls, deleted, schedules] = counts;
        let (run_bytes, rest) = body.split_at_checked(runs.checked_mul(RUN_LEN)?)?;
        let (slots_read, rest) = slots::decode(rest, slots)?;
        // From here on the counts are compared with the bytes that there are: each takes one at least.
        if [subjects, ttls, deleted, schedules].iter().any(|count| *count > rest.len()) {
            return None;
        }
        let mut next = 0u64;
        let mut total = 0usize;
        for bytes in run_bytes.chunks_exact(RUN_LEN) {
            let start = u32::try_from(total).ok()?;
            let run = Run { first: u64_at(bytes, 0), count: u32_at(bytes, 8), start };
            if run.first < next {
                return None;
            }
            next = run.first.checked_add(u64::from(run.count))?;
            total = total.checked_add(run.count as usize)?;
            self.runs.push(run);
        }
        if total != slots || next > self.next_sequence {
            return None;
        }
        if slots_read.iter().any(|slot| slot.offset() >= self.stamp.len || slot.subject as usize >= subjects)
        {
            return None;
        }
        self.slots = slots_read;
        let mut rest = rest;
        self.subjects.reserve(subjects, rest.len() - subjects);
        for _ in 0..subjects {
            let mut reader = Reader::new(rest);
            let len = usize::try_from(reader.take()?).ok()?;
            let (subject, behind) = reader.rest().split_at_checked(len)?;
            self.subjects.push(subject);
            rest = behind;
        }
        let mut reader = Reader::new(rest);
        for at in 0..ttls + deleted {
            let pair = (reader.take()?, reader.take()?);
            if at < ttls { self.ttls.push(pair) } else { self.deleted.push(pair) }
        }
        for _ in 0..schedules {
            self.schedules.push((reader.take()?, reader.take_signed()?));
        }
        reader.rest().is_empty().then_some(())
    }
}

/// Makes the index of a block while it is written or walked.
#[derive(Clone, Debug)]
pub struct Builder {
    index: Index,
    /// The number of each subject, by its hash.
    numbers: HashTable<u32>,
    keys: HashKeys,
}

impl Builder {
    /// Begins the index of the block at `place`.
    pub fn new(place: &Place) -> Self {
        Builder { index: Index::default(), numbers: HashTable::new(), keys: place.hash_keys() }
    }

    /// Adds a message; sequences ascend.
    pub fn add(&mut self, at: At, record: &Record<'_>) {
        let number = self.number(record.subject);
        let index = &mut self.index;
        let size =
            StorageKind::File.message_size(record.subject.len(), record.headers.len(), record.payload.len());
        let offset = at.place();
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        index.slots.push(Slot { time: record.time, offset, size, subject: number });
        match index.runs.last_mut() {
            Some(run) if run.first + u64::from(run.count) == record.sequence => run.count += 1,
            _ => {
                let start = (index.slots.len() - 1) as u32;
                index.runs.push(Run { first: record.sequence, count: 1, start });
            }
        }
        if record.ttl > 0 {
            index.ttls.push((record.sequence, record.ttl));
        }
        index.schedules.extend(record.due.map(|due| (record.sequence, due)));
        index.last_time = record.time;
        index.next_sequence = record.sequence.saturating_add(1);
    }

    fn number(&mut self, subject: &[u8]) -> u32 {
        let Builder { index, numbers, keys } = self;
        let subjects = &mut index.subjects;
        let hash = keys.hash(subject);
        let name = |number: &u32| subjects.get(*number).unwrap_or_default();
        if let Some(number) = numbers.find(hash, |number| name(number) == subject) {
            return *number;
        }
        let number = subjects.push(subject);
        let name = |number: &u32| subjects.get(*number).unwrap_or_default();
        numbers.insert_unique(hash, number, |number| keys.hash(name(number)));
        number
    }

    /// Returns what was built so far.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Returns the index of the block that is now closed.
    pub fn finish(
        mut self,
        stamp: Stamp,
        first_sequence: u64,
        next_sequence: u64,
        applied: Position,
    ) -> Index {
        self.index.first_sequence = first_sequence;
        self.index.stamp = stamp;
        self.index.next_sequence = self.index.next_sequence.max(next_sequence);
        self.index.applied = applied;
        self.index
    }
}

impl Visitor for Builder {
    fn message(&mut self, at: At, record: &Record<'_>) {
        self.add(at, record);
    }

    fn deleted(&mut self, first: u64, last: u64) {
        self.index.deleted.push((first, last));
    }

    fn skipped(&mut self, first: u64, count: u64) {
        self.index.next_sequence = self.index.next_sequence.max(first.saturating_add(count));
    }
}
