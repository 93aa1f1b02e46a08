//! A simulator for Raft groups: seeded faults, every rule of Raft looked at after every event.

mod act;
pub mod bench;
pub mod bugs;
pub mod cases;
mod checker;
pub mod cli;
mod clients;
pub mod deed;
mod disk;
pub mod explore;
mod finish;
mod history;
pub mod journal;
pub mod marks;
mod nemesis;
mod net;
mod node;
pub mod plan;
pub mod script;
pub mod shrink;
mod sleep;
mod world;

pub use checker::{Rule, Violation};
pub use disk::Damage;
pub use world::{Report, Tell, run};
