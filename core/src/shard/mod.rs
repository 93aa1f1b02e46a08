//! The shard: one single-threaded state machine that owns its connections and its copy of the interest graph.
//!
//! [`io`] is the whole boundary.

pub mod chunk;
pub mod io;
pub mod mailbox;
