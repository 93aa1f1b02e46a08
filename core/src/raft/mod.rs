//! Consensus: one group of servers that agrees on one log.
//!
//! This room knows no stream and no account. So far it has the messages that members exchange ([`wire`]), the log of one
//! member ([`log`]) and who the members are, as the log says it ([`membership`]); the machine that is made of them is to
//! come.

pub mod log;
pub mod membership;
pub mod wire;
