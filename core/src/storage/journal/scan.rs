//! Reads a segment batch by batch, and what is left of it where it is damaged.

use std::collections::BTreeSet;

use bytes::{Bytes, BytesMut};

use super::super::Position;
use super::batch::{ALIGN, BATCH_HEADER, BATCH_MAGIC, BatchHeader, ENTRY_HEADER, EntryHeader, Seed};
use super::segment::START;
use super::{Damage, Ticket, WINDOW};
use crate::disk::{DiskError, DiskQueue, FileId, Reply, Request, SECTOR};
use crate::planted::{self, Bug};

/// A window on one file. What can't be read reads as zeros, and fails its checksum.
#[derive(Debug)]
pub(super) struct Reader {
    file: FileId,
    ticket: Ticket,
    start: u32,
    bytes: Bytes,
    asked: Option<(u32, usize)>,
    /// What was read so far of a window with bad sectors, sector by sector.
    sectors: Option<BytesMut>,
    /// Why a part of the window reads as zeros.
    failed: Option<DiskError>,
    /// What made no sense when it was read last.
    doubt: Option<Doubt>,
}

/// Bytes that made no sense.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    offset: u32,
    crc: u32,
    /// How often they were read.
    reads: u32,
}

/// How often bytes are read that make no sense, and differ each time.
const MOST_READS: u32 = 8;

impl Reader {
    /// Reads `file`; completions come under `ticket`.
    pub(super) fn new(file: FileId, ticket: Ticket) -> Self {
        let (start, bytes, asked, sectors) = (0, Bytes::new(), None, None);
        Reader { file, ticket, start, bytes, asked, sectors, failed: None, doubt: None }
    }

    /// Returns why a part of what was read isn't what stands there.
    pub(super) fn failure(&mut self) -> Option<DiskError> {
        self.failed.take()
    }

    /// Forgets what was read, so that the medium is asked again.
    fn forget(&mut self) {
        self.bytes = Bytes::new();
    }

    /// Takes note that `bytes`, read at `offset`, make no sense, and returns whether they are to be asked for again: what a
    /// conclusion is drawn from was read twice and was the same both times.
    pub(super) fn reads_again(&mut self, offset: u32, bytes: &[u8]) -> bool {
        // What couldn't be read isn't the same as zeros that could.
        let crc = crc32c::crc32c_append(u32::from(self.failed.is_some()), bytes);
        let before = self.doubt.filter(|doubt| doubt.offset == offset);
        let reads = before.map_or(1, |doubt| doubt.reads + 1);
        if before.is_some_and(|doubt| doubt.crc == crc)
            || reads > MOST_READS
            || planted::bug(Bug::JournalReadOnce)
        {
            return false;
        }
        self.doubt = Some(Doubt { offset, crc, reads });
        self.forget();
        true
    }

    /// Returns whether a read is under way.
    pub(super) fn is_waiting(&self) -> bool {
        self.asked.is_some()
    }

    /// Returns `len` bytes at `offset`, or asks for them and for what follows up to `end`.
    pub(super) fn get<O: From<Ticket>>(
        &mut self,
        offset: u32,
        len: usize,
        end: u32,
        disk: &mut DiskQueue<O>,
    ) -> Option<Bytes> {
        if self.asked.is_some() {
            return None;
        }
        let at = offset.checked_sub(self.start).map(|at| at as usize);
        if let Some(at) = at.filter(|at| at + len <= self.bytes.len()) {
            return Some(self.bytes.slice(at..at + len));
        }
        let len = len.max(WINDOW.min(end.saturating_sub(offset) as usize));
        self.bytes = Bytes::new();
        self.failed = None;
        self.asked = Some((offset, len));
        let read = Request::Read { file: self.file, offset: u64::from(offset), len };
        disk.submit(self.ticket.into(), read);
        None
    }

    /// Returns where, at or behind `offset`, the next multiple of [`ALIGN`] is at which something may begin: where the window
    /// has only zeros, as in the part of a segment that was never used, nothing does.
    pub(super) fn skip_zeros(&self, offset: u32) -> u32 {
        const ZEROS: [u8; 4096] = [0; 4096];
        let Some(rest) = offset.checked_sub(self.start).and_then(|at| self.bytes.get(at as usize..)) else {
            return offset;
        };
        let mut skipped = 0;
        for chunk in rest.chunks(ZEROS.len()) {
            if chunk.len() < ALIGN as usize || *chunk != ZEROS[..chunk.len()] {
                break;
            }
            skipped += chunk.len() as u32 / ALIGN * ALIGN;
        }
        offset + skipped
    }

    /// Returns where, at or behind `offset`, the next multiple of [`ALIGN`] is at which a batch may begin: one at which its magic
    /// stands, or the first behind which the window has no whole header. What isn't copied out costs nothing to pass over.
    pub(super) fn next_magic(&self, offset: u32) -> u32 {
        let from = self.skip_zeros(offset);
        let rest =
            from.checked_sub(self.start).and_then(|at| self.bytes.get(at as usize..)).unwrap_or_default();
        let mut at = 0;
        while at + BATCH_HEADER <= rest.len() && !rest[at..].starts_with(&BATCH_MAGIC) {
            at += ALIGN as usize;
        }
        from + at as u32
    }

    /// Takes what became of a read.
    pub(super) fn completed<O: From<Ticket>>(
        &mut self,
        result: Result<Reply, DiskError>,
        disk: &mut DiskQueue<O>,
    ) {
        let Some((offset, len)) = self.asked else { return };
        let read = match result {
            Ok(Reply::Read(bytes)) => Some(bytes),
            Ok(_) => None,
            Err(error) => {
                self.failed = Some(error);
                None
            }
        };
        let bytes = match (self.sectors.take(), read) {
            (None, Some(bytes)) if bytes.len() >= len => bytes,
            (None, Some(bytes)) => {
                let mut padded = BytesMut::from(&bytes[..]);
                padded.resize(len, 0);
                padded.freeze()
            }
            (sectors, read) => {
                let mut known = sectors.unwrap_or_default();
                if self.bytes.is_empty() && known.is_empty() && read.is_none() && len > SECTOR {
                    // The whole window failed: find out which sectors can be read.
                    self.bytes = Bytes::from_static(&[0]);
                    self.failed = None;
                } else {
                    let size = piece(offset, known.len(), len);
                    let end = known.len() + size;
                    known.extend_from_slice(&read.unwrap_or_default());
                    known.resize(end, 0);
                }
                if known.len() < len {
                    let at = u64::from(offset) + known.len() as u64;
                    let len = piece(offset, known.len(), len);
                    disk.submit(self.ticket.into(), Request::Read { file: self.file, offset: at, len });
                    self.sectors = Some(known);
                    return;
                }
                known.freeze()
            }
        };
        (self.asked, self.start, self.bytes) = (None, offset, bytes);
    }
}

/// Returns how many bytes to read next of `len` at `offset`, `known` of which are: no further than to the end of their
/// sector, as a read that touches a bad one gives nothing.
fn piece(offset: u32, known: usize, len: usize) -> usize {
    (SECTOR - (offset as usize + known) % SECTOR).min(len - known)
}

/// An entry as it was found.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub header: EntryHeader,
    /// Where in its segment.
    pub offset: u32,
    /// Header and payload.
    pub raw: Bytes,
    /// Whether it was copied forward.
    pub copy: bool,
}

impl Entry {
    /// Returns the payload.
    pub(super) fn payload(&self) -> Bytes {
        self.raw.slice(ENTRY_HEADER..)
    }
}

/// A batch, or what is left of one.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub entries: Vec<Entry>,
    pub damage: Vec<Damage>,
    /// The oldest segment that counted then; zero if that is not known.
    pub oldest: u64,
}

/// How a scan goes on.
#[derive(Debug)]
pub(super) enum Progress {
    /// When the read completes.
    Wait,
    /// With the next.
    Found(Found),
    /// Not at all.
    End,
}

/// What is known of a segment before it is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    /// Where it ends.
    pub end: u32,
    /// The position that its first own entry should have.
    pub first: Position,
    /// The positions of its own entries are all below this; [`Extent::UNKNOWN`] if nothing says so.
    pub behind: Position,
    /// So are those of copies, as a segment further behind may say.
    pub below: Position,
}

impl Extent {
    pub(super) const UNKNOWN: Position = Position(u64::MAX);
}

/// Reads the part of a segment that is known to be synced: whatever is bad in it is damage.
#[derive(Debug)]
pub(super) struct Scanner {
    pub reader: Reader,
    pub number: u64,
    seed: Seed,
    at: u32,
    end: u32,
    /// The position that the next batch should start with.
    pub expected: Position,
    behind: Position,
    below: Position,
    /// A hole: where the search for the next batch goes on.
    search: Option<u32>,
    /// From here on what is bad is the end.
    soft: Option<u32>,
}

impl Scanner {
    pub(super) fn new(seed: Seed, number: u64, reader: Reader, extent: Extent) -> Self {
        let Extent { end, first, behind, below } = extent;
        let (at, expected, search, soft) = (START, first, None, None);
        Scanner { reader, number, seed, at, end, expected, behind, below, search, soft }
    }

    /// Takes what is bad from `soft` on for the end of the segment, not for damage.
    pub(super) fn soft_from(self, soft: Option<u32>) -> Self {
        Scanner { soft, ..self }
    }

    /// Returns where the part ends that was read.
    pub(super) fn end(&self) -> u32 {
        self.end
    }

    /// Ends here, if nothing vouches for what is here.
    fn ends_softly(&mut self) -> bool {
        let ends = self.soft.is_some_and(|soft| self.at >= soft);
        if ends {
            self.end = self.at;
        }
        ends
    }

    /// Goes on by a batch, or by a window of a hole.
    pub(super) fn step<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) -> Progress {
        if self.at >= self.end {
            return Progress::End;
        }
        if let Some(from) = self.search {
            return self.hole(from, disk);
        }
        if self.at as usize + BATCH_HEADER > self.end as usize {
            if self.ends_softly() {
                return Progress::End;
            }
            self.search = Some(self.end);
            return self.hole(self.end, disk);
        }
        let Some(bytes) = self.reader.get(self.at, BATCH_HEADER, self.end, disk) else {
            return Progress::Wait;
        };
        let header = BatchHeader::decode(self.seed, self.number, self.at, &bytes);
        let Some(header) = header.filter(|header| self.fits(header, self.at)) else {
            if self.reader.reads_again(self.at, &bytes) {
                return self.step(disk);
            }
            if self.ends_softly() {
                return Progress::End;
            }
            self.search = Some(self.at + ALIGN);
            return self.hole(self.at + ALIGN, disk);
        };
        let size = BATCH_HEADER + header.length as usize;
        let Some(bytes) = self.reader.get(self.at, size, self.end, disk) else { return Progress::Wait };
        let mut found = read_body(self.seed, self.number, self.at, &header, &bytes.slice(BATCH_HEADER..));
        if !found.damage.is_empty() && self.reader.reads_again(self.at, &bytes) {
            return self.step(disk);
        }
        if !found.damage.is_empty() && self.ends_softly() {
            return Progress::End;
        }
        found.oldest = header.oldest;
        self.expected = header.next().max(self.expected);
        self.at += header.size();
        Progress::Found(found)
    }

    fn fits(&self, header: &BatchHeader, at: u32) -> bool {
        at.checked_add(header.size()).is_some_and(|end| end <= self.end) && header.originals <= header.entries
    }

    /// Looks for the next batch behind a bad header, then salvages what lies between.
    fn hole<O: From<Ticket>>(&mut self, from: u32, disk: &mut DiskQueue<O>) -> Progress {
        let mut at = from;
        let next = loop {
            if at as usize + BATCH_HEADER > self.end as usize {
                break None;
            }
            let Some(bytes) = self.reader.get(at, BATCH_HEADER, self.end, disk) else {
                self.search = Some(at);
                return Progress::Wait;
            };
            let header = BatchHeader::decode(self.seed, self.number, at, &bytes);
            if let Some(header) = header.filter(|header| self.fits(header, at)) {
                break Some(header);
            }
            at = self.reader.skip_zeros(at + ALIGN);
        };
        let until = if next.is_some() { at } else { self.end };
        self.search = Some(at);
        let Some(bytes) = self.reader.get(self.at, (until - self.at) as usize, self.end, disk) else {
            return Progress::Wait;
        };
        self.search = None;
        // Any position up to the next that is known: a recovery may have gone on far behind in between. If none is, no
        // more are lost than entries fit in.
        let most = Position(self.expected.0 + u64::from(until - self.at) / ENTRY_HEADER as u64);
        let end = if self.behind == Extent::UNKNOWN { most } else { self.behind };
        let behind = next.map_or(end, |header| header.first).max(self.expected);
        let originals = (self.expected, behind);
        let entries = salvage(self.seed, self.at, &bytes, originals, 0);
        let below = next.map_or(self.below, |header| header.first);
        let damage = lost(self.number, self.at, until - self.at, originals, &entries, Some(below));
        self.at = until;
        self.expected = behind;
        Progress::Found(Found { entries, damage, oldest: 0 })
    }
}

/// Returns the entries of a batch whose header is good.
pub(super) fn read_body(seed: Seed, segment: u64, at: u32, header: &BatchHeader, body: &Bytes) -> Found {
    let base = at + BATCH_HEADER as u32;
    let mut found = Found::default();
    let originals = (header.first, header.next());
    let Some(headers) = entry_headers(header, body) else {
        // Bytes of an older life may stand in the hole: no more copies are taken than there should be.
        let copies = header.entries.saturating_sub(header.originals) as usize;
        found.entries = salvage(seed, base, body, originals, copies);
        // As many as there should be needn't be those that should be.
        let copies = (copies > 0).then_some(header.first);
        found.damage = lost(segment, base, header.length, originals, &found.entries, copies);
        return found;
    };
    for (offset, entry) in headers {
        let raw = body.slice(offset..offset + entry.size());
        let (offset, copy) = (base + offset as u32, entry.position < header.first);
        if entry.verify(seed, &raw) || planted::bug(Bug::JournalEntryUnverified) {
            found.entries.push(Entry { header: entry, offset, raw, copy });
        } else {
            let positions = Some((entry.position, entry.position));
            let (owner, length) = (Some(entry.owner), entry.size() as u32);
            found.damage.push(Damage { segment, offset, length, owner, positions, copies: None });
        }
    }
    found
}

/// Returns where the entries of a body are, if all their headers are what was written.
fn entry_headers(header: &BatchHeader, body: &[u8]) -> Option<Vec<(usize, EntryHeader)>> {
    let (mut at, mut crc, mut originals) = (0, 0, 0);
    let mut headers = Vec::new();
    while at < body.len() {
        let entry = EntryHeader::decode(&body[at..])?;
        crc = crc32c::crc32c_append(crc, &body[at..at + ENTRY_HEADER]);
        originals += u32::from(entry.position >= header.first);
        headers.push((at, entry));
        at += entry.size();
    }
    let right = at == body.len() && crc == header.crc;
    let counts = headers.len() == header.entries as usize && originals == header.originals;
    (right && counts).then_some(headers)
}

/// Finds the entries in bytes that nothing is known of but the positions that may be there, and at most so many copies
/// with lower ones.
fn salvage(
    seed: Seed,
    base: u32,
    bytes: &Bytes,
    originals: (Position, Position),
    mut copies: usize,
) -> Vec<Entry> {
    // Hostile payloads could make each byte look like a long entry.
    let mut budget = bytes.len().saturating_mul(64);
    let (mut at, mut entries, mut seen) = (0, Vec::new(), BTreeSet::new());
    while at + ENTRY_HEADER <= bytes.len() {
        let header = EntryHeader::decode(&bytes[at..]).filter(|header| at + header.size() <= bytes.len());
        let header = header.filter(|header| match header.position >= originals.0 {
            true => header.position < originals.1,
            false => copies > 0,
        });
        if let Some(header) = header.filter(|header| budget >= header.size()) {
            budget -= header.size();
            let raw = bytes.slice(at..at + header.size());
            if header.verify(seed, &raw) && seen.insert(header.position) {
                let (offset, copy) = (base + at as u32, header.position < originals.0);
                at += header.size();
                copies -= usize::from(copy);
                entries.push(Entry { header, offset, raw, copy });
                continue;
            }
        }
        at += 1;
    }
    entries.sort_by_key(|entry| entry.header.position);
    entries
}

/// Returns the damage of a place: each run of positions that should be there and wasn't found.
fn lost(
    segment: u64,
    offset: u32,
    length: u32,
    (first, behind): (Position, Position),
    entries: &[Entry],
    copies: Option<Position>,
) -> Vec<Damage> {
    let damage = |positions| Damage { segment, offset, length, owner: None, positions, copies };
    let mut lost = Vec::new();
    let mut expected = first.0;
    let found = entries.iter().filter(|entry| !entry.copy).map(|entry| entry.header.position.0);
    for position in found.chain([behind.0]) {
        if position > expected {
            lost.push(damage(Some((Position(expected), Position(position - 1)))));
        }
        expected = position + 1;
    }
    if lost.is_empty() {
        lost.push(damage(None));
    }
    lost
}

/// Walks over the headers of a segment's batches, good or bad what lies between, for what they say together; twice.
#[derive(Debug)]
pub(super) struct Skim {
    pub reader: Reader,
    pub number: u64,
    seed: Seed,
    start: u32,
    at: u32,
    /// How far there is anything to be read.
    len: u32,
    end: u32,
    again: bool,
    /// Behind which nothing is known to be synced.
    pub mark: u32,
    /// The oldest segment that counts.
    pub oldest: u64,
    /// Where the last good header is.
    pub last: Option<u32>,
    /// All positions before the mark are below this.
    pub behind: Position,
}

impl Skim {
    /// Begins at `at`, in a file of `len` bytes whose last batch ends at `end` at most.
    pub(super) fn new(seed: Seed, number: u64, reader: Reader, (at, len): (u32, u32), end: u32) -> Self {
        let (start, mark, behind) = (at, at, Extent::UNKNOWN);
        Skim { reader, number, seed, start, at, len, end, again: false, mark, oldest: 0, last: None, behind }
    }

    /// Goes on by a window; returns whether the end is reached.
    pub(super) fn step<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) -> bool {
        while self.at as usize + BATCH_HEADER <= self.len as usize {
            let Some(bytes) = self.reader.get(self.at, BATCH_HEADER, self.len, disk) else { return false };
            if bytes[..4] != BATCH_MAGIC {
                self.at = self.reader.next_magic(self.at + ALIGN);
                continue;
            }
            let header = BatchHeader::decode(self.seed, self.number, self.at, &bytes);
            let good = |header: &BatchHeader| {
                self.at.checked_add(header.size()).is_some_and(|end| end <= self.end)
                    && header.synced <= self.at
            };
            match header.filter(good) {
                Some(header) => {
                    if header.synced > self.mark {
                        (self.mark, self.behind) = (header.synced, header.first);
                    }
                    self.oldest = self.oldest.max(header.oldest);
                    self.last = Some(self.at);
                    self.at += header.size();
                }
                None => self.at += ALIGN,
            }
        }
        // A read that went wrong shows nothing, and too little is then known of what counts: twice is safe.
        if !std::mem::replace(&mut self.again, true) {
            self.at = self.start;
            self.reader.forget();
            return self.step(disk);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_magic_is_passed_over(
            len in 0..12_000usize, zeros in any::<bool>(), places in vec(0..1500usize, 0..4), from in 0..1500u32
        ) {
            let mut bytes = vec![if zeros { 0 } else { 7 }; len];
            for at in places.iter().map(|place| place * ALIGN as usize).filter(|at| at + 4 <= len) {
                bytes[at..at + 4].copy_from_slice(&BATCH_MAGIC);
            }
            let mut reader = Reader::new(FileId(1), Ticket::ignored());
            (reader.start, reader.bytes) = (START, Bytes::from(bytes.clone()));
            let from = START + from * ALIGN;
            let whole = |at: &u32| (at - START) as usize + BATCH_HEADER <= len;
            let magic = |at: &u32| bytes[(at - START) as usize..].starts_with(&BATCH_MAGIC);
            let expected = (from..).step_by(ALIGN as usize).find(|at| !whole(at) || magic(at)).unwrap();
            let found = reader.next_magic(from);
            prop_assert_eq!(found % ALIGN, 0);
            if whole(&expected) {
                prop_assert_eq!(found, expected);
            } else {
                prop_assert!(!whole(&found));
            }
        }
    }
}
