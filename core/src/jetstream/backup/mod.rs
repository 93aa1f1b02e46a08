//! Backups of streams: what is sent to whoever asks for one, and what becomes a stream again.
//!
//! A backup is an [archive](crate::storage::archive), compressed as [S2](crate::storage::s2): `state.json`, then
//! `consumers/<name>` for as many as that says, then the messages in order, then an entry without anything, which says that it
//! is whole. What the Go server 2.15 writes is read, and what is written here it reads.
//!
//! Nothing here knows of streams, requests or the disk: the engine feeds these machines and acts on what they say.
//!
//! Source: nats-server `server/stream_backup.go`.

mod reader;
mod writer;

pub use reader::{BackupError, BackupReader, Item, Limits, MAX_SEQUENCE, RestoredMessage};
pub use writer::BackupWriter;

/// The name of the first entry.
const STATE: &str = "state.json";
/// What names of consumers' entries start with.
const CONSUMERS: &str = "consumers/";

#[cfg(test)]
mod tests;
