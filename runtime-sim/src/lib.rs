//! Binds natrix-core to a seeded network and clocks: a whole world on one thread, replayed from one number.
//!
//! The parts are separate so that other machines than [`natrix_core::shard::Shard`] can live on them:
//!
//! - [`queue`]: what happens when, ordered by (virtual time, seeded tie-break);
//! - [`net`]: byte streams between hosts, with everything that can happen to one;
//! - [`clock`]: what a node believes the time to be;
//! - [`fault`]: the kinds of trouble, which of them a run uses, and how often each came;
//! - [`trace`]: the running hash of a run, and its words.
//!
//! A world (`natrix-sim-tests` has one) owns these, pops events and hands each to the part it belongs to. No part
//! calls another back: what one has to say to its owner is polled.

pub mod clock;
pub mod disk;
pub mod fault;
mod inbox;
pub mod machine;
pub mod net;
pub mod queue;
pub mod server;
pub mod trace;
