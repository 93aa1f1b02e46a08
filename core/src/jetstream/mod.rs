//! Streams and consumers for clients, above what stores them.
//!
//! ```text
//! catalogue/  the streams and consumers that there are: what survives a restart beside their contents
//! context  what the machines here see of the world, and what they say
//! marker   subject delete markers: what is left where the last message of a subject expired
//! ```

pub mod catalogue;
pub mod context;
pub mod marker;
