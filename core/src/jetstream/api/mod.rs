//! The JetStream API: its types, texts and rules. Nothing here has state.
//!
//! ```text
//! error            what an answer says is wrong
//! stream_config    what a stream is told to be
//! consumer_config  what a consumer is told to be
//! write            JSON as the reference writes it
//! ```
//!
//! Field order and what is left out are the reference's: clients compare answers, and tests compare bytes.

pub mod consumer_config;
pub mod error;
pub mod stream_config;
pub mod write;
