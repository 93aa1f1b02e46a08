//! What can be seen of natrix-core from outside: its rooms, and that the hot path allocates nothing.

mod allocations;
mod rooms;
