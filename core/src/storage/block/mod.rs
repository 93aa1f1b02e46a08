//! Blocks as bytes: records, frames, headers, index files. No disk in here, and nothing is trusted.
//!
//! ```text
//! place.rs    what a checksum is seeded with: owner, block, offset, sequence, base of times
//! header.rs   the first 64 bytes of a block
//! record.rs   one record: encode, parse, verify, erase
//! mark.rs     the records that aren't messages: marks, deletions, skipped sequences
//! scan.rs     record after record, and the next one behind bad bytes
//! walk.rs     a whole block: opens frames, tells a torn tail from damage
//! key.rs      keys of a stream, by epoch
//! frame.rs    a group of records, compressed, encrypted
//! index.rs    the index file of a closed block
//! slots.rs    where its messages are, each told by what differs from the one before
//! ```
//!
//! # Invariants
//!
//! - What verifies was written by this store, for this owner, block, offset and sequence: a record that is stale,
//!   misdirected, swapped or made up by a client fails.
//! - Decoding any bytes neither panics nor allocates by a length that it hasn't compared with the bytes there are.
//! - A damaged record costs itself. Its time is relative to a base that every later mark repeats, and its sequence is
//!   the checksum's, so that no record needs another to be understood.
//! - Keys are never shown, and are wiped when they are dropped.
//!
//! `docs/storage.md` has the formats.

pub mod frame;
pub mod header;
pub mod index;
pub mod key;
pub mod mark;
mod names;
pub mod place;
pub mod record;
pub mod scan;
mod slots;
pub mod walk;

#[cfg(test)]
mod tests;

pub use header::{HEADER_LEN, Header, HeaderError};
pub use mark::{Mark, MarkError};
pub use place::{Context, Place};
pub use record::{Record, RecordError};

/// The longest payload or header block of a record, in bytes.
pub const MAX_PAYLOAD: usize = (1 << 28) - 1;

/// The longest subject of a record, in bytes.
pub const MAX_SUBJECT: usize = (1 << 16) - 1;
