//! The entries of a catalogue as bytes.

use bytes::Bytes;

use super::{ConsumerEntry, StreamEntry};
use crate::storage::OwnerId;
use crate::storage::block::key::SealError;
use crate::storage::vault::Vault;
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
    /// A stream or a consumer that no given key opens: it is kept as it stands.
    Locked(LockedEntry),
    /// The first of all: what comes behind it is everything that there ever was.
    Begun,
    /// There are files or entries of this owner, and what said whose they are was damaged: they are left alone.
    Stray(OwnerId),
}

/// A sealed entry. That there is a stream or a consumer is told in plain, what it is called and does isn't.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockedEntry {
    /// Names its store.
    pub owner: OwnerId,
    /// The stream, if it is a consumer.
    pub stream: Option<OwnerId>,
    /// The rest, sealed.
    pub(super) sealed: Bytes,
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
const SEALED_STREAM: u8 = 4;
const SEALED_CONSUMER: u8 = 5;
const BEGUN: u8 = 6;
const STRAY: u8 = 7;

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
            CatalogueEntry::Locked(locked) => {
                out.extend_from_slice(&locked.label());
                out.extend_from_slice(&locked.sealed);
                locked.kind()
            }
            CatalogueEntry::Begun => {
                varint::put(&mut out, 0);
                BEGUN
            }
            CatalogueEntry::Stray(owner) => {
                varint::put(&mut out, owner.0);
                STRAY
            }
        };
        (kind, Bytes::from(out))
    }

    /// Returns its kind and its bytes, sealed if the vault seals.
    pub fn encode_for(&self, vault: &Vault) -> (u8, Bytes) {
        let (owner, stream) = match self {
            CatalogueEntry::Stream(entry) => (entry.owner, None),
            CatalogueEntry::Consumer(entry) => (entry.owner, Some(entry.stream)),
            CatalogueEntry::Forget(_)
            | CatalogueEntry::Locked(_)
            | CatalogueEntry::Begun
            | CatalogueEntry::Stray(_) => return self.encode(),
        };
        if !vault.seals() {
            return self.encode();
        }
        let (kind, bytes) = self.encode();
        let mut locked = LockedEntry { owner, stream, sealed: Bytes::new() };
        locked.sealed = vault.seal(&locked.label(), &[&[kind][..], &bytes].concat()).into();
        CatalogueEntry::Locked(locked).encode()
    }

    /// Opens an entry that is sealed; one that isn't is returned as it is.
    ///
    /// # Errors
    ///
    /// [`EntryError`], if it was sealed and makes no sense.
    pub fn open(self, vault: &Vault) -> Result<Self, EntryError> {
        let CatalogueEntry::Locked(locked) = &self else { return Ok(self) };
        let opened = match vault.open_state(&locked.label(), &locked.sealed) {
            Ok(opened) => Bytes::from(opened),
            // As with a key that is missing: what it was is in there, whoever's fault it is.
            Err(SealError::NoKey(_) | SealError::Broken) => return Ok(self),
        };
        let error = EntryError { kind: locked.kind(), len: opened.len() };
        match opened.first().copied() {
            Some(kind @ (STREAM | CONSUMER)) => Self::decode(kind, &opened.slice(1..)),
            _ => Err(error),
        }
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
            STRAY if reader.rest().is_empty() => CatalogueEntry::Stray(owner),
            BEGUN if reader.rest().is_empty() => CatalogueEntry::Begun,
            SEALED_STREAM | SEALED_CONSUMER => {
                let stream = if kind == SEALED_CONSUMER { Some(OwnerId(reader.take()?)) } else { None };
                let sealed = bytes.slice_ref(reader.rest());
                CatalogueEntry::Locked(LockedEntry { owner, stream, sealed })
            }
            _ => return None,
        })
    }
}

impl LockedEntry {
    fn kind(&self) -> u8 {
        if self.stream.is_some() { SEALED_CONSUMER } else { SEALED_STREAM }
    }

    /// Returns what stands before the sealed bytes, which is sealed for it.
    fn label(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        varint::put(&mut out, self.owner.0);
        self.stream.iter().for_each(|stream| varint::put(&mut out, stream.0));
        out
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
