//! What the server says about itself, as plain values; no HTTP.

mod closed_reason;

pub use closed_reason::ClosedReason;
