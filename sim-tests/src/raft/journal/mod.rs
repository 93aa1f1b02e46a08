//! Groups whose members keep their logs on the shard journal, each host on its own simulated disk.
//!
//! The other simulator of this room models the disk record by record; here nothing is modelled: hosts write to
//! a [`SimDisk`](natrix_runtime_sim::disk::SimDisk), processes die and power is cut at its operations, and files are harmed where
//! they lie. The same rules are looked at after every event, and two more: what was reported to be durable is found again, or the
//! member knows that it isn't; and nobody thinks so whose disk was not harmed.
//!
//! A file is harmed when the host has vouched for what it has, on a minority of the nodes at once.

mod explore;
mod faults;
mod finish;
mod node;
mod outputs;
mod trouble;
mod watch;
mod world;

pub use explore::{PLANTED, Summary, explore, find, hunt, show};
pub use faults::{Counters, Trouble};
pub use world::{Report, run};
