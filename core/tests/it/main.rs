//! What can be seen of natrix-core from outside: its rooms, and that the hot path allocates nothing.

// Core does no IO; a test that reads core's sources does.
#![allow(clippy::disallowed_methods)]

mod allocations;
mod rooms;
