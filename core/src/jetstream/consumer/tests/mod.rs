//! Consumers by transcript, against a plain model, and through crashes.

mod model;
mod order;
mod script;
mod transcripts;
mod world;
