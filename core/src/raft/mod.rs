//! Consensus: one group of servers that agrees on one log.
//!
//! This room knows no stream and no account. It has the messages that members exchange ([`wire`]), the log of one member
//! ([`log`]), who the members are, as the log says it ([`membership`]), and the machine that is made of them ([`group`]).
//! What a member keeps is on the shard journal ([`store`]), and all members on a shard have one owner ([`host`]);
//! what they say to each other goes over NATS subjects ([`transport`]).
//! Beside them is one machine for all groups of a node: which of the other nodes are there ([`neighbours`]).

pub mod group;
pub mod host;
pub mod log;
pub mod membership;
pub mod neighbours;
pub mod store;
pub mod transport;
pub mod wire;
