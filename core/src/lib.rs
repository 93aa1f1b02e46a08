//! Every state machine of the natrix server; no sockets, files, clocks, threads or entropy.
//!
//! What happens outside comes in through one door, and what is to be done goes out through it:
//! [`shard::Shard`]. Rooms below are listed from the ground up; a room uses only those before it, and a test
//! (`tests/it/rooms.rs`) reads the `use` lines to hold that.

#![forbid(unsafe_code)]

pub mod planted;

pub mod ids;
pub mod rng;
pub mod time;
pub(crate) mod varint;

pub mod collections;

pub mod subject;

pub mod disk;

pub mod storage;

pub mod raft;

pub mod protocol;

pub mod config;

pub mod auth;

pub mod connection;

pub mod delivery;

pub mod jetstream;

pub mod monitoring;

pub mod shard;
