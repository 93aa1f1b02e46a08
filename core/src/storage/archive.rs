//! The archive that a stream is backed up to: entries, one after the other, each a name and bytes. What clients read and write is
//! this, compressed as S2.
//!
//! `magic "NATSARC1"`, then for each entry `length of the name LEB128, time in nanoseconds LEB128 zigzag, sequence LEB128, bytes of
//! headers LEB128, bytes of payload LEB128, name`, headers, payload.
//!
//! Source: nats-server `server/archive/archive.go`.

use bytes::{Buf, Bytes, BytesMut};

use crate::varint::{self, Reader};

const MAGIC: &[u8; 8] = b"NATSARC1";

/// The longest name of an entry that is read, in bytes.
const MAX_NAME: u64 = 1 << 20;

/// Five integers of at most ten bytes.
const MAX_HEAD: usize = 50;

/// What an entry is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name: a path, or a subject.
    pub name: Bytes,
    /// A time, in nanoseconds since 1970.
    pub time: i64,
    /// A sequence, zero for none.
    pub sequence: u64,
    /// How many of its bytes are headers: they come first.
    pub headers: u64,
    /// How many are payload.
    pub payload: u64,
}

impl Entry {
    /// Appends it to an archive; `first` says whether nothing was written before. Its headers and its payload are to follow.
    pub fn encode(&self, first: bool, out: &mut Vec<u8>) {
        if first {
            out.extend_from_slice(MAGIC);
        }
        varint::put(out, self.name.len() as u64);
        varint::put_signed(out, self.time);
        for value in [self.sequence, self.headers, self.payload] {
            varint::put(out, value);
        }
        out.extend_from_slice(&self.name);
    }
}

/// Why bytes are no archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid archive stream")]
pub struct ArchiveError;

/// What was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// An entry begins.
    Entry(Entry),
    /// Bytes of the entry that began last: its headers, then its payload.
    Data(Bytes),
}

/// Reads an archive as its bytes come.
#[derive(Debug, Default)]
pub struct ArchiveReader {
    bytes: BytesMut,
    begun: bool,
    /// How many bytes of the current entry are still to come.
    remaining: u64,
    /// Nobody wants them.
    skipping: bool,
}

impl ArchiveReader {
    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Leaves out what is still to come of the current entry.
    pub fn skip(&mut self) {
        self.skipping = true;
    }

    /// Returns the next part; `None` until there are more bytes.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`], and again each time it is asked.
    pub fn poll(&mut self) -> Result<Option<Part>, ArchiveError> {
        if self.remaining > 0 {
            let len = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(self.bytes.len());
            let data = self.bytes.split_to(len);
            self.remaining -= len as u64;
            if len == 0 || self.skipping && self.remaining > 0 {
                return Ok(None);
            }
            if !self.skipping {
                return Ok(Some(Part::Data(data.freeze())));
            }
        }
        self.skipping = false;
        if !self.begun {
            let len = self.bytes.len().min(MAGIC.len());
            if self.bytes[..len] != MAGIC[..len] {
                return Err(ArchiveError);
            }
            if len < MAGIC.len() {
                return Ok(None);
            }
            self.bytes.advance(MAGIC.len());
            self.begun = true;
        }
        self.entry()
    }

    fn entry(&mut self) -> Result<Option<Part>, ArchiveError> {
        let mut reader = Reader::new(&self.bytes);
        let Some((name, mut entry)) = read_head(&mut reader) else {
            // More bytes would not help where there are enough for any five integers.
            return if self.bytes.len() < MAX_HEAD { Ok(None) } else { Err(ArchiveError) };
        };
        let sizes = entry.headers.checked_add(entry.payload).filter(|sum| i64::try_from(*sum).is_ok());
        let total = sizes.filter(|_| name <= MAX_NAME).ok_or(ArchiveError)?;
        let (head, name) = (self.bytes.len() - reader.rest().len(), name as usize);
        if reader.rest().len() < name {
            return Ok(None);
        }
        self.bytes.advance(head);
        entry.name = self.bytes.split_to(name).freeze();
        self.remaining = total;
        Ok(Some(Part::Entry(entry)))
    }

    /// Says that there are no more bytes.
    ///
    /// # Errors
    ///
    /// [`ArchiveError`] if they end within something. No bytes at all are an archive without entries.
    pub fn finish(&self) -> Result<(), ArchiveError> {
        if self.bytes.is_empty() && self.remaining == 0 { Ok(()) } else { Err(ArchiveError) }
    }
}

fn read_head(reader: &mut Reader<'_>) -> Option<(u64, Entry)> {
    let (name, time) = (reader.take()?, reader.take_signed()?);
    let (sequence, headers, payload) = (reader.take()?, reader.take()?, reader.take()?);
    Some((name, Entry { name: Bytes::new(), time, sequence, headers, payload }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(name: &'static str, time: i64, sequence: u64, headers: u64, payload: u64) -> Entry {
        Entry { name: Bytes::from_static(name.as_bytes()), time, sequence, headers, payload }
    }

    fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (at, (entry, data)) in entries.iter().enumerate() {
            entry.encode(at == 0, &mut out);
            out.extend_from_slice(data);
        }
        out
    }

    /// Reads in pieces of so many bytes; the data of an entry in one.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<(Entry, Vec<u8>)>, ArchiveError> {
        let (mut reader, mut entries) = (ArchiveReader::default(), Vec::new());
        for piece in bytes.chunks(piece.max(1)) {
            reader.push(piece);
            while let Some(part) = reader.poll()? {
                match part {
                    Part::Entry(entry) => entries.push((entry, Vec::new())),
                    Part::Data(data) => entries.last_mut().unwrap().1.extend_from_slice(&data),
                }
            }
        }
        reader.finish().map(|()| entries)
    }

    #[test]
    fn entries_are_read_as_written() {
        let one = entry("alpha.txt", 100, 0, 4, 7);
        let other = entry("nested/x.dat", -123, 1 << 60, 0, 0);
        let bytes = archive(&[(one.clone(), b"hello alpha"), (other.clone(), b"")]);
        assert_eq!(&bytes[..14], b"NATSARC1\x09\xc8\x01\x00\x04\x07");
        let expected = vec![(one, b"hello alpha".to_vec()), (other, Vec::new())];
        for piece in 1..=bytes.len() {
            assert_eq!(read(&bytes, piece), Ok(expected.clone()), "pieces of {piece}");
        }
        assert_eq!(read(b"", 1), Ok(vec![]));
    }

    #[test]
    fn what_nobody_wants_is_skipped() {
        let bytes =
            archive(&[(entry("first", 0, 0, 0, 6), b"abcdef"), (entry("second", 0, 0, 0, 4), b"body")]);
        for piece in 1..=bytes.len() {
            let (mut reader, mut names, mut data) = (ArchiveReader::default(), Vec::new(), Vec::new());
            for piece in bytes.chunks(piece) {
                reader.push(piece);
                while let Some(part) = reader.poll().unwrap() {
                    match part {
                        Part::Entry(entry) => {
                            if entry.name == "first" {
                                reader.skip();
                            }
                            names.push(entry.name);
                        }
                        Part::Data(bytes) => data.extend_from_slice(&bytes),
                    }
                }
            }
            assert_eq!((names, &data[..]), (vec![Bytes::from("first"), Bytes::from("second")], &b"body"[..]));
        }
    }

    #[test]
    fn bytes_that_are_no_archive_are_refused() {
        assert_eq!(read(b"not-a-valid-archive-stream", 3), Err(ArchiveError));
        let good = archive(&[(entry("a", 1, 2, 2, 4), b"hhdata")]);
        for len in 1..good.len() {
            // Behind the magic an archive without entries ends.
            assert_eq!(read(&good[..len], 5).is_ok(), len == MAGIC.len(), "{len} bytes");
        }
        let huge = |name: u64, headers: u64, payload: u64| {
            let mut out = MAGIC.to_vec();
            [name, 0, 0, headers, payload].iter().for_each(|value| varint::put(&mut out, *value));
            read(&out, 100)
        };
        for bad in [huge(MAX_NAME + 1, 0, 0), huge(0, u64::MAX, 0), huge(0, 1 << 62, 1 << 62)] {
            assert_eq!(bad, Err(ArchiveError));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50usize) {
            let _ = read(&bytes, piece);
            let _ = read(&[&MAGIC[..], &bytes].concat(), piece);
        }
    }
}
