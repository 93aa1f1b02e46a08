//! Streams in files: the block files of one stream over the disk contract.
//!
//! ```text
//! api.rs       what block files are asked and what they tell
//! tail.rs      the block that is written: records and marks that the disk doesn't have yet
//! blocks.rs    the machine: append, write behind, cover, roll over, read
//! recovery.rs  from a folder to the blocks that are in it
//! ```
//!
//! # Invariants
//!
//! - Each write behind ends with a mark that says what is applied before it. Recovery cuts the newest block behind its last
//!   good mark: it then has exactly the entries through that position, and the rest is replayed.
//! - A block is synced, with its name, before a byte of the next is written: only the newest can have a torn tail, and bad
//!   bytes in any other are damage, which is reported and left as it is.
//! - `covered` is a position whose bytes were written, then synced, then their file's name synced.
//! - A read is verified against sequence and time before it is handed out.
//! - After a failed write or sync nothing more is written and `covered` stays: the journal has it all.

mod api;
mod blocks;
mod recovery;
mod tail;
#[cfg(test)]
mod tests;

pub use api::{Config, Event, Failure, Fetch, ReadError, ReadId, StoreDisk};
pub use blocks::BlockFiles;
