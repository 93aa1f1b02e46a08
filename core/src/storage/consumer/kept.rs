//! A consumer's state in its file.

use super::{ConsumerEntry, ConsumerStore};
use crate::storage::Position;
use crate::storage::kept::KeptState;
use crate::storage::volume::Committed;

/// A [`ConsumerStore`] as it is kept.
#[derive(Clone, Debug)]
pub struct KeptConsumer {
    store: ConsumerStore,
    /// What entries change isn't known, until one of them says all.
    unknown: bool,
}

impl KeptConsumer {
    /// Keeps the state of a consumer.
    pub fn new(store: ConsumerStore) -> Self {
        KeptConsumer { store, unknown: false }
    }

    /// Returns the state.
    pub fn store(&self) -> &ConsumerStore {
        &self.store
    }

    /// Returns the state to be configured.
    pub fn store_mut(&mut self) -> &mut ConsumerStore {
        &mut self.store
    }

    /// Returns whether the state was damaged and nothing has replaced it: what was delivered and acknowledged isn't known.
    pub fn is_unknown(&self) -> bool {
        self.unknown
    }
}

impl KeptState for KeptConsumer {
    /// Some millions of pending messages.
    const LIMIT: usize = 256 << 20;

    fn apply(&mut self, entry: &Committed) -> Result<(), String> {
        let whole = matches!(entry.kind, ConsumerEntry::SNAPSHOT);
        if self.unknown && !whole {
            return Ok(());
        }
        self.unknown = false;
        let change = match &entry.payload[..] {
            [one] => ConsumerEntry::decode(entry.kind, one),
            pieces => ConsumerEntry::decode(entry.kind, &pieces.concat()),
        };
        let change = change.map_err(|error| error.to_string())?;
        self.store.apply(entry.position, change).map_err(|error| error.to_string())
    }

    fn applied(&self) -> Position {
        self.store.applied()
    }

    fn encode(&self) -> Vec<u8> {
        self.store.encode()
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.store.restore(bytes).map_err(|error| error.to_string())
    }

    fn forget(&mut self) {
        self.unknown = true;
    }
}
