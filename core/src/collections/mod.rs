//! Containers that know nothing of messaging: a set of sequences, a tree of subjects, a wheel of deadlines.
//!
//! Each does what the reference's package of that purpose does (`server/avl`, `server/stree`, `server/thw`), with shapes
//! of its own; where they have an encoding, it is the reference's. None reads a clock, allocates by a length that it was
//! told, or iterates in an order that isn't a function of what was done to it.

mod sequence_set;
mod subject_tree;
mod time_hash_wheel;

pub use sequence_set::{SequenceSet, SequenceSetError};
pub use subject_tree::{Interest, SubjectTree};
pub use time_hash_wheel::{Deadline, TimeHashWheel, WheelError};
