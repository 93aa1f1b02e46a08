//! Consumers by transcript, against a plain model, and through crashes.

mod model;
mod script;
mod transcripts;
mod world;
