//! Streams and consumers for clients, above what stores them.
//!
//! ```text
//! api/     the types, texts and rules of `$JS.API`
//! context  what the machines here see of the world, and what they say
//! stream/  one stream: what may be stored, what goes, who has what
//! marker   subject delete markers: what is left where the last message of a subject expired
//! ```

pub mod api;
pub mod context;
pub mod marker;
pub mod stream;
