//! Failure scenarios, checkers and the explorer natrix-sim.
//!
//! A [`scenario`] says what a [`world`] is made of: servers, clients, what they do and what may go wrong. From a
//! seed it becomes one run, in which the [`oracle`] checks everything that clients see. `docs/src/simulation.md`
//! tells how to use it.

pub mod bugs;
pub mod client;
pub mod explore;
pub mod jetstream;
pub mod marks;
pub mod nemesis;
pub mod oracle;
pub mod payload;
pub mod plan;
pub mod raft;
pub mod regressions;
pub mod ring;
pub mod scenario;
pub mod stopwatch;
pub mod storage;
mod sweep;
pub mod universe;
pub mod wire;
pub mod world;

/// Returns what a panic said, as far as it is text.
fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?").to_owned()
}
