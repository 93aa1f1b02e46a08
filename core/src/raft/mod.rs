//! Consensus: one group of servers that agrees on one log.
//!
//! This room knows no stream and no account. So far it has the messages that members exchange ([`wire`]).

pub mod wire;
