//! The entries of a catalogue as bytes.

use bytes::Bytes;

use super::{ConsumerEntry, StreamEntry};
use crate::storage::OwnerId;
use crate::time::WallTime;
use crate::varint::{self, Reader};

/// A change of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatalogueEntry {
    /// A stream is made, or has other settings.
    Stream(StreamEntry),
    /// A consumer is made, or has other settings.
    Consumer(ConsumerEntry),
    /// A stream with its consumers, or a consumer, is no more.
    Forget(OwnerId),
}

/// An entry that makes no sense: of a later version, or our own fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("catalogue entry of kind {kind} ({len} bytes) makes no sense; it was written by a later version")]
pub struct EntryError {
    /// Its kind.
    pub kind: u8,
    /// Its length in bytes.
    pub len: usize,
}

const STREAM: u8 = 1;
const CONSUMER: u8 = 2;
const FORGET: u8 = 3;

impl CatalogueEntry {
    /// Returns its kind and its bytes.
    pub fn encode(&self) -> (u8, Bytes) {
        let mut out = Vec::with_capacity(64);
        let kind = match self {
            CatalogueEntry::Stream(stream) => {
                varint::put(&mut out, stream.owner.0);
                varint::put_signed(&mut out, stream.created.as_unix_nanos());
                put_text(&mut out, stream.account.as_bytes());
                out.extend_from_slice(&stream.config);
                STREAM
            }
            CatalogueEntry::Consumer(consumer) => {
                varint::put(&mut out, consumer.owner.0);
                varint::put(&mut out, consumer.stream.0);
                varint::put_signed(&mut out, consumer.created.as_unix_nanos());
                put_text(&mut out, consumer.name.as_bytes());
                out.extend_from_slice(&consumer.config);
                CONSUMER
            }
            CatalogueEntry::Forget(owner) => {
                varint::put(&mut out, owner.0);
                FORGET
            }
        };
        (kind, Bytes::from(out))
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`EntryError`].
    pub fn decode(kind: u8, bytes: &Bytes) -> Result<Self, EntryError> {
        Self::read(kind, bytes).ok_or(EntryError { kind, len: bytes.len() })
    }

    fn read(kind: u8, bytes: &Bytes) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let owner = OwnerId(reader.take()?);
        Some(match kind {
            STREAM => {
                let created = WallTime::from_unix_nanos(reader.take_signed()?);
                let (account, config) = take_text(&mut reader, bytes)?;
                CatalogueEntry::Stream(StreamEntry { owner, account, config, created })
            }
            CONSUMER => {
                let stream = OwnerId(reader.take()?);
                let created = WallTime::from_unix_nanos(reader.take_signed()?);
                let (name, config) = take_text(&mut reader, bytes)?;
                CatalogueEntry::Consumer(ConsumerEntry { owner, stream, name, config, created })
            }
            FORGET if reader.rest().is_empty() => CatalogueEntry::Forget(owner),
            _ => return None,
        })
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    varint::put(out, text.len() as u64);
    out.extend_from_slice(text);
}

/// Takes a text, and returns it with all that is behind it.
fn take_text(reader: &mut Reader<'_>, bytes: &Bytes) -> Option<(String, Bytes)> {
    let len = usize::try_from(reader.take()?).ok()?;
    let (text, rest) = reader.rest().split_at_checked(len)?;
    Some((String::from_utf8(text.to_vec()).ok()?, bytes.slice_ref(rest)))
}
