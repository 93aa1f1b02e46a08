//! A consumer's state with what it takes to keep it: the position through which it is applied, and its snapshots.

use super::delta::Delta;
use super::entry::ConsumerEntry;
use super::state::{ConsumerError, ConsumerSettings, ConsumerState, SequencePair};
use super::wire;
use crate::storage::{OwnerId, Position};
use crate::varint::{self, Reader};

/// The state of one consumer, changed by entries alone.
#[derive(Clone, Debug)]
pub struct ConsumerStore {
    owner: OwnerId,
    settings: ConsumerSettings,
    state: ConsumerState,
    applied: Position,
    touched: bool,
}

/// Why a consumer's snapshot file can't be used. It is left as it is, for somebody to look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// It doesn't start as one.
    #[error("not a consumer's snapshot")]
    Foreign,
    /// Its checksum says that it is damaged, or another consumer's.
    #[error("damaged, or of another consumer")]
    Damaged,
    /// Its checksum holds, and what it says can't be.
    #[error("no state of a consumer")]
    Invalid,
}

impl ConsumerStore {
    const MAGIC: [u8; 8] = *b"NTRXCON1";

    /// Makes the store of a new consumer.
    pub fn new(owner: OwnerId, settings: ConsumerSettings) -> Self {
        let state = ConsumerState::default();
        ConsumerStore { owner, settings, state, applied: Position::default(), touched: false }
    }

    /// Applies the entry at `position`; one at or before [`ConsumerStore::applied`] is known already and changes nothing.
    ///
    /// # Errors
    ///
    /// [`ConsumerError`] if the entry changes nothing because of what it says; it counts as applied.
    pub fn apply(&mut self, position: Position, entry: ConsumerEntry) -> Result<(), ConsumerError> {
        if position <= self.applied {
            return Ok(());
        }
        self.applied = position;
        match entry {
            ConsumerEntry::Delivered { at, count, time } => {
                self.state.delivered(&self.settings, at, count, time)?;
            }
            ConsumerEntry::Acknowledged { at } => self.state.acknowledged(&self.settings, at)?,
            ConsumerEntry::StartAfter { stream } => {
                self.state = ConsumerState::starting_after(stream);
            }
            ConsumerEntry::SkippedTo { stream } => self.state.skipped_to(&self.settings, stream),
            ConsumerEntry::ForgetRedeliveredBelow { stream } => {
                self.state.forget_redelivered_below(stream);
            }
            ConsumerEntry::Update(state) => {
                state.check()?;
                if state.is_older_than(&self.state) {
                    return Err(ConsumerError::OldUpdate);
                }
                self.state = state;
            }
            ConsumerEntry::Replace(state) => {
                state.check()?;
                self.state = state;
            }
            // At recovery this is all there is: what it sums up is gone from the journal.
            ConsumerEntry::Snapshot(state) => self.state = state,
            ConsumerEntry::Delta(delta) => self.state.change(*delta)?,
        }
        self.touched = true;
        Ok(())
    }

    /// Returns whether a delta says what changed since the state that is here: no entry between them is missing, unless it was
    /// one of which nothing is to be delivered again.
    pub fn precedes(&self, delta: &Delta) -> bool {
        delta.after.is_none_or(|after| after == self.state.delivered.consumer)
    }

    /// Takes of an entry what it alone says, where what it changed isn't known: everything behind the floor may be pending, and
    /// is to be delivered again.
    pub fn rewind(&mut self, position: Position, delta: &Delta) {
        if position <= self.applied {
            return;
        }
        self.applied = position;
        let at = SequencePair { consumer: delta.delivered.consumer, stream: delta.ack_floor.stream };
        let last_only_through = delta.last_only_through;
        self.state =
            ConsumerState { delivered: at, ack_floor: at, last_only_through, ..ConsumerState::default() };
        self.touched = true;
    }

    /// Passes over an entry of which nothing can be known.
    pub fn pass_over(&mut self, position: Position) {
        self.applied = self.applied.max(position);
    }

    /// Returns the position of the last entry that the state has.
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// Returns the state.
    pub fn state(&self) -> &ConsumerState {
        &self.state
    }

    /// Returns whether any entry ever changed the state.
    pub fn has_state(&self) -> bool {
        self.touched
    }

    /// Takes other settings, from the next entry on.
    pub fn configure(&mut self, settings: ConsumerSettings) {
        self.settings = settings;
    }

    /// Returns the entry that stands for all that were applied so far. It goes into the journal under the position
    /// [`ConsumerStore::applied`], as an entry that is copied forward keeps its own: entries that were proposed meanwhile
    /// have higher ones, and recovery applies in the order of positions.
    pub fn snapshot(&self) -> ConsumerEntry {
        ConsumerEntry::Snapshot(self.state.clone())
    }

    /// Returns the content of a file that stands for all entries through [`ConsumerStore::applied`].
    ///
    /// Shape: magic `NTRXCON1`, then as integers of variable length the position and the state, then the CRC-32C of it
    /// all, seeded with the owner, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Self::MAGIC.to_vec();
        varint::put(&mut out, self.applied.0);
        wire::put_exact(&mut out, &self.state);
        let checksum = self.checksum(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    /// Takes the state from a file's content.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the store is then as before.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        let Some(body) = bytes.strip_prefix(&Self::MAGIC) else {
            return Err(SnapshotError::Foreign);
        };
        let (body, checksum) = body.split_last_chunk::<4>().ok_or(SnapshotError::Damaged)?;
        if self.checksum(&bytes[..bytes.len() - 4]) != u32::from_le_bytes(*checksum) {
            return Err(SnapshotError::Damaged);
        }
        let mut reader = Reader::new(body);
        let applied = reader.take();
        let state = wire::take_exact(&mut reader).filter(|_| reader.rest().is_empty());
        let (Some(applied), Some(state)) = (applied, state) else {
            return Err(SnapshotError::Invalid);
        };
        self.applied = Position(applied);
        self.state = state;
        self.touched = true;
        Ok(())
    }

    fn checksum(&self, bytes: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.owner.0.to_le_bytes()), bytes)
    }
}
