//! What the server says about itself, as plain values; no HTTP.

pub use crate::connection::ClosedReason;
