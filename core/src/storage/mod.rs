//! What keeps messages: the shard journal, streams in files and in memory, consumers' states.
//!
//! ```text
//! journal/   the unit of durability: one log on each shard, one write and one sync for all that came meanwhile
//! ledger/    what a stream holds, without the bytes: sequences, subjects, limits, deletions, expiry, counts
//! memory/    MemoryStore: a ledger and the messages in memory
//! block/     records, frames and block files as bytes: encode, verify, find the next one, compress, encrypt
//! file/      block files over the disk: write behind, cover, roll over, recover, read (FileStore adds a ledger)
//! archive    what a stream is backed up to: entries, read and written as their bytes come
//! s2/        how a backup is compressed: chunks, read and written as their bytes come
//! change     what can be done to a stream, as an entry, and what came of it
//! consumer/  ConsumerStore: delivered and ack floors, pending, redelivered
//! kept       a small state in one file, replaced when the journal wants it: a consumer's, a catalogue
//! vault/     the keys of a folder, sealed under the server's; how journal entries are sealed
//! volume/    all stores of a shard and their journal, put together
//! ```
//!
//! Nothing here does IO: disk requests leave through a [`DiskQueue`](crate::disk::DiskQueue), completions come in.
//!
//! # The one commit path
//!
//! A change of a stream or a consumer is an *entry*. It is proposed to the journal, and *applied* to its
//! store once the journal says that it is durable. Applying is deterministic: the same entries in the same order give
//! the same store, whatever was cached, evicted, compacted or recovered in between. Nothing is readable before.
//! A store writes its blocks behind that, without syncing for it, and tells the journal through which [`Position`] its
//! own files are durable; a journal segment is used again when all that it covers is durable elsewhere, or dead.
//!
//! `docs/storage.md` has the file formats, the promises and the faults.

pub mod archive;
pub mod block;
pub mod change;
pub mod consumer;
#[cfg(test)]
mod corpus;
pub mod file;
pub mod journal;
pub mod kept;
pub mod ledger;
pub mod memory;
mod ranges;
pub(crate) mod removals;
pub mod s2;
pub mod stream_state;
#[cfg(test)]
mod suite;
mod twice;
mod types;
pub mod vault;
pub mod volume;

pub use ranges::Ranges;
#[cfg(test)]
pub(crate) use types::CODECS;
pub use types::{
    Cipher, Compression, DeleteRange, Discard, Headers, LimitError, Lookup, LostData, Message, Missing,
    OwnerId, Pieces, Position, Retention, Scheduling, SimpleState, StorageKind, StoreConfig, StreamState,
};

/// How long after the disk had no space it is asked again.
const SPACE_RETRY: crate::time::Duration = crate::time::Duration::from_millis(500);
