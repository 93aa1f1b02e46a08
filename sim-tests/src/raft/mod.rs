//! A simulator for Raft groups: seeded faults, every rule of Raft looked at after every event.

pub mod bugs;
mod checker;
pub mod cli;
mod clients;
mod disk;
pub mod explore;
mod finish;
pub mod marks;
mod nemesis;
mod net;
mod node;
pub mod plan;
mod world;

pub use checker::{Rule, Violation};
pub use world::{Report, run};
