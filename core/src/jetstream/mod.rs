//! Streams and consumers for clients, above what stores them.
//!
//! ```text
//! api/        the types, texts and rules of `$JS.API`
//! catalogue/  the streams and consumers that there are: what survives a restart beside their contents
//! consumer/   one consumer: what it delivers, to whom, what is acknowledged, what is written down
//! context     what the machines here see of the world, and what they say
//! engine/     all of it on one shard: the volume, the subscriptions, the requests, the timers
//! marker      subject delete markers: what is left where the last message of a subject expired
//! report      what is said of all this to those who monitor the server
//! schedule/   when a schedule of messages is due (ADR-51)
//! stream/     one stream: what may be stored in it, what goes, who has what, what it answers
//! ```

pub mod api;
pub mod backup;
pub mod catalogue;
pub mod consumer;
pub mod context;
pub(crate) mod engine;
pub mod marker;
pub mod report;
pub mod schedule;
pub mod stream;
