//! A consumer's state in its file.
//!
//! Where the file can't be used, or an entry is missing, what an entry changed isn't known any more, until one says everything.
//! Each says the floor, though: what is behind the last that is known is delivered again, and nothing is passed over.

use super::{ConsumerEntry, ConsumerState, ConsumerStore};
use crate::storage::Position;
use crate::storage::kept::KeptState;
use crate::storage::volume::Committed;

/// What is known of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Known {
    /// There was never anything to know.
    Nothing,
    /// Everything.
    Whole(ConsumerState),
    /// How far it is at least; what is behind may be pending or done.
    Floor(ConsumerState),
    /// Not even that.
    Lost,
}

/// A [`ConsumerStore`] as it is kept.
#[derive(Clone, Debug)]
pub struct KeptConsumer {
    store: ConsumerStore,
    /// What entries change isn't known, until one of them says all.
    unknown: bool,
    /// While that is so, one of them has said how far it is.
    has_floor: bool,
}

impl KeptConsumer {
    /// Keeps the state of a consumer.
    pub fn new(store: ConsumerStore) -> Self {
        KeptConsumer { store, unknown: false, has_floor: false }
    }

    /// Returns the state.
    pub fn store(&self) -> &ConsumerStore {
        &self.store
    }

    /// Returns the state to be configured.
    pub fn store_mut(&mut self) -> &mut ConsumerStore {
        &mut self.store
    }

    /// Returns what is known of the consumer.
    pub fn known(&self) -> Known {
        match (self.unknown, self.has_floor) {
            (true, true) => Known::Floor(self.store.state().clone()),
            (true, false) => Known::Lost,
            (false, _) if self.store.has_state() => Known::Whole(self.store.state().clone()),
            (false, _) => Known::Nothing,
        }
    }
}

impl KeptState for KeptConsumer {
    /// Some millions of pending messages.
    const LIMIT: usize = 256 << 20;

    fn apply(&mut self, entry: &Committed) -> Result<(), String> {
        if entry.position <= self.store.applied() {
            return Ok(());
        }
        let change = match &entry.payload[..] {
            [one] => ConsumerEntry::decode(entry.kind, one),
            pieces => ConsumerEntry::decode(entry.kind, &pieces.concat()),
        };
        let change = match change {
            Ok(change) => change,
            Err(error) => {
                (self.unknown, self.has_floor) = (true, false);
                self.store.pass_over(entry.position);
                return Err(error.to_string());
            }
        };
        match &change {
            ConsumerEntry::Snapshot(_) | ConsumerEntry::Replace(_) | ConsumerEntry::StartAfter { .. } => {
                (self.unknown, self.has_floor) = (false, false);
            }
            ConsumerEntry::Delta(delta) if self.unknown || !self.store.precedes(delta) => {
                (self.unknown, self.has_floor) = (true, true);
                self.store.rewind(entry.position, delta);
                return Ok(());
            }
            _ if self.unknown => {
                self.store.pass_over(entry.position);
                return Ok(());
            }
            _ => {}
        }
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

    fn forget(&mut self, _bytes: &[u8]) {
        self.unknown = true;
    }

    fn is_known(&self) -> bool {
        !self.unknown
    }
}
