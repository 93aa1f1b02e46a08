//! The shard.
pub mod io;
pub mod mailbox;
