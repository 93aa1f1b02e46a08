//! Streams and consumers for clients, above what stores them.
//!
//! ```text
//! marker   subject delete markers: what is left where the last message of a subject expired
//! ```

pub mod marker;
