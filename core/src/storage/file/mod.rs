//! Streams in files: the block files of one stream over the disk contract, and the store that is made of them.
//!
//! ```text
//! api.rs       what block files are asked and what they tell
//! tail.rs      a block that isn't durable yet: records and marks that the disk doesn't have
//! blocks.rs    the machine: what is asked of it, and where completions go
//! durable.rs   from memory to bytes that survive a power cut
//! mend.rs      a block whose sync failed, to another file
//! reads.rs     from memory, from chunks that were read before, from files
//! rewrite.rs   erasing, and blocks without what was removed of them, or with another key
//! convert.rs   how far files are sealed with the newest key
//! scrub.rs     reads blocks in the background, to find damage early
//! manifest.rs  which blocks count, and how far each is known to be durable
//! store/       FileStore: a ledger over block files
//! recovery.rs  from a folder to the blocks that are in it
//! removal.rs   the folder of a stream that is no more
//! ```
//!
//! # Invariants
//!
//! - Each write behind ends with a mark that says what is applied before it. Recovery cuts the newest block behind its last
//!   good mark: it then has exactly the entries through that position, and the rest is replayed.
//! - A block is synced, with its name, and in the manifest before a byte of the next is written: only the newest can have a
//!   torn tail, and bad bytes in any other are damage, which is reported and left as it is.
//! - `covered` is a position whose bytes were written, then synced, then their file's name synced, then recorded in the
//!   manifest; and nothing is to be erased for an entry at or below it.
//! - A block is removed after the position at which nothing in it was needed any more is covered.
//! - What a block says is gone is gone in it or in older ones: sequences that were cut off are used again in newer ones only.
//! - A read is verified against sequence and time before it is handed out.
//! - After a failed sync nothing is taken for durable that isn't in another file, and `covered` stays until it is. Where that
//!   can't be had nothing more is written: the journal has it all.

mod api;
mod blocks;
mod convert;
mod durable;
mod manifest;
mod mend;
mod pieces;
mod reads;
mod recovery;
mod removal;
mod rewrite;
mod scrub;
mod space;
pub mod store;
mod tail;
#[cfg(test)]
mod tests;

pub use api::{Config, Event, Failure, Fetch, ReadError, ReadId, Ready, RecoveredBlock, StoreDisk};
pub use blocks::BlockFiles;
pub use convert::Conversion;
pub use durable::Point;
pub use removal::{Removal, RemovalEvent};
pub use scrub::ScrubPace;
