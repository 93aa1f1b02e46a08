//! One connection: what is read and written, when it is pinged, how far it has come, why it ended.
//!
//! What differs between kinds of connection (today there are only clients) is put together from the shared parts
//! here: [`outbound`] bytes, [`keepalive`], the [`read_block`] of the shard.
//!
//! Invariants: a connection's unfinished input is in exactly one place (`Client::unfinished` or its own buffer);
//! nothing is queued for a connection that is doomed.

pub(crate) mod chunk;
pub(crate) mod client;
mod closed_reason;
mod description;
pub(crate) mod keepalive;
pub(crate) mod outbound;
pub(crate) mod read_block;
pub(crate) mod table;
pub(crate) mod throttle;

pub use closed_reason::ClosedReason;
pub use description::ClientDescription;
pub use outbound::Outbound;
