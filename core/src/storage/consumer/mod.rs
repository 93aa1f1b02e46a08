//! What a consumer remembers: how far it delivered and was acknowledged, what is pending, what was delivered again.
//!
//! A [`ConsumerStore`] applies [`ConsumerEntry`]s in the order of the journal. It has no file while it is small: when the
//! journal wants space back it answers with a *snapshot* of its state, which is one more entry, and all before it is
//! dead. A hundred thousand consumers cost no sync of their own. A large one (many pending) goes to a file.
//!
//! Invariants, after every entry: `ack_floor <= delivered`, in both kinds of sequence; with an ack policy of none they
//! are equal and nothing is pending.

mod delta;
mod entry;
mod kept;
mod state;
mod store;
mod wire;

pub use delta::Delta;
pub use entry::{ConsumerEntry, EntryError};
pub use kept::{KeptConsumer, Known};
pub use state::{AckPolicy, ConsumerError, ConsumerSettings, ConsumerState, Pending, SequencePair};
pub use store::{ConsumerStore, SnapshotError};
pub use wire::{StateError, decode_state, encode_state};

#[cfg(test)]
mod tests;
