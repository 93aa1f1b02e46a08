//! The JetStream API: its types, texts and rules. Nothing here has state.
//!
//! ```text
//! subject          what a subject asks for
//! level            API levels: what a request may require, what a stream or consumer needs
//! limits           what a server and an account allow
//! read             requests as the reference reads them
//! request          what requests say, but for those that create and update
//! backup           requests to back up and to restore, and what stands in a backup
//! stream_config    what a stream is told to be, and how that is said, checked and changed
//! consumer_config  what a consumer is told to be, likewise
//! error            what an answer says is wrong
//! response         what is answered
//! pub_ack          what a publisher is answered
//! ack              the subject that a message is acknowledged on, and what is said there
//! advisory         what a server says of what happens
//! write            JSON as the reference writes it
//! ```
//!
//! Field order and what is left out are the reference's: clients compare answers, and tests compare bytes.

pub mod ack;
pub mod advisory;
pub mod backup;
pub mod consumer_config;
pub mod error;
pub mod level;
pub mod limits;
pub mod pub_ack;
pub mod read;
pub mod request;
pub mod response;
pub mod stream_config;
pub mod subject;
#[cfg(test)]
mod testing;
pub mod write;
