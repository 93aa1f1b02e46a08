//! Failure scenarios, checkers and the explorer natrix-sim.
//!
//! A [`scenario`] says what a [`world`] is made of: servers, clients, what they do and what may go wrong. From a
//! seed it becomes one run, in which [`oracle`] checks everything that clients see. `docs/simulation.md` tells how
//! to use it.

pub mod marks;
pub mod oracle;
pub mod payload;
pub mod universe;
pub mod wire;
