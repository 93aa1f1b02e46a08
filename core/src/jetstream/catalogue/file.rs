//! The catalogue in its file.
//!
//! Shape, integers little-endian: `NTRXCAT2`, then records `length u32, kind u8, crc u32, bytes`, the crc (CRC-32C) being that of
//! length, kind and bytes. The first, of kind 0, says through which position entries are in the file, and how many records there
//! are. A record that doesn't verify costs itself: the next that does is looked for behind it, byte by byte. What is in the bytes
//! is text of clients, in which no length fits that could pass for a record: text has no zeros.

use std::sync::Arc;

use bytes::Bytes;

use super::{Catalogue, CatalogueEntry};
use crate::storage::Position;
use crate::storage::vault::Vault;

const MAGIC: &[u8; 8] = b"NTRXCAT2";

/// What stands before the bytes of a record.
const HEAD: usize = 9;

/// The kind of the first record: `position u64, records u64`.
const FIRST: u8 = 0;

/// The kind of a record that says that some was lost before this was written.
const DAMAGED: u8 = 0xff;

/// Returns the file's content.
pub(super) fn encode(catalogue: &Catalogue) -> Vec<u8> {
    let streams = catalogue.streams.values().cloned().map(CatalogueEntry::Stream);
    let consumers = catalogue.consumers.values().cloned().map(CatalogueEntry::Consumer);
    let locked = catalogue.locked.values().cloned().map(CatalogueEntry::Locked);
    let begun = catalogue.begun.then_some(CatalogueEntry::Begun);
    let strays = catalogue.strays.iter().copied().map(CatalogueEntry::Stray);
    let (mut body, mut records) = (Vec::new(), 0_u64);
    for entry in begun.into_iter().chain(streams).chain(consumers).chain(locked).chain(strays) {
        let (kind, bytes) = entry.encode_for(&catalogue.vault);
        put(&mut body, kind, &bytes);
        records += 1;
    }
    if catalogue.damaged && !catalogue.noted {
        put(&mut body, DAMAGED, &[]);
        records += 1;
    }
    let mut out = MAGIC.to_vec();
    put(&mut out, FIRST, &[catalogue.applied.0.to_le_bytes(), records.to_le_bytes()].concat());
    out.extend_from_slice(&body);
    out
}

/// Reads a file that is as it was written.
pub(super) fn decode(bytes: &[u8], vault: &Arc<Vault>) -> Result<Catalogue, String> {
    let body = bytes.strip_prefix(MAGIC).ok_or("not a catalogue of natrix")?;
    let (kind, first, mut rest) = take(body).ok_or("its beginning is damaged")?;
    let (applied, records) = first_of(kind, first).ok_or("its beginning is damaged")?;
    let mut catalogue = Catalogue { applied, ..Catalogue::sealed(Arc::clone(vault)) };
    for at in 0..records {
        let (kind, entry, behind) =
            take(rest).ok_or_else(|| format!("{at} of {records} entries are whole"))?;
        catalogue.take_record(kind, entry);
        rest = behind;
    }
    match rest.is_empty() {
        true => Ok(catalogue),
        false => Err("there is something behind its end".to_owned()),
    }
}

/// Returns what can be used of a file that is damaged. Where its beginning isn't whole, entries of the journal that it had count
/// again: they are applied in their order, so the last that says something of an owner does.
pub(super) fn salvage(bytes: &[u8], vault: &Arc<Vault>) -> Catalogue {
    let mut catalogue = Catalogue { damaged: true, ..Catalogue::sealed(Arc::clone(vault)) };
    let mut rest = bytes;
    while !rest.is_empty() {
        let Some((kind, entry, behind)) = take(rest) else {
            rest = &rest[1..];
            continue;
        };
        match first_of(kind, entry) {
            Some((applied, _)) => catalogue.applied = applied,
            None => catalogue.take_record(kind, entry),
        }
        rest = behind;
    }
    catalogue
}

impl Catalogue {
    fn take_record(&mut self, kind: u8, entry: &[u8]) {
        if kind == DAMAGED {
            self.damaged = true;
        } else if let Err(error) = self.take(kind, &Bytes::copy_from_slice(entry)) {
            self.senseless = Some(error.to_string());
        }
    }
}

fn put(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    let len = (bytes.len() as u32).to_le_bytes();
    out.extend_from_slice(&len);
    out.push(kind);
    out.extend_from_slice(&checksum(len, kind, bytes).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes a record that verifies; returns its kind, its bytes, and what stands behind it.
fn take(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (head, rest) = bytes.split_at_checked(HEAD)?;
    let (len, crc) = (head[..4].try_into().ok()?, head[5..].try_into().ok()?);
    let (body, behind) = rest.split_at_checked(u32::from_le_bytes(len) as usize)?;
    let holds = checksum(len, head[4], body) == u32::from_le_bytes(crc);
    holds.then_some((head[4], body, behind))
}

fn first_of(kind: u8, bytes: &[u8]) -> Option<(Position, u64)> {
    let (applied, records) = bytes.split_first_chunk::<8>().filter(|_| kind == FIRST)?;
    let records = records.try_into().ok()?;
    Some((Position(u64::from_le_bytes(*applied)), u64::from_le_bytes(records)))
}

fn checksum(len: [u8; 4], kind: u8, bytes: &[u8]) -> u32 {
    let seed = crc32c::crc32c(&[len[0], len[1], len[2], len[3], kind]);
    crc32c::crc32c_append(seed, bytes)
}
