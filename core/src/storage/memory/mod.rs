//! Streams in memory: a [`Ledger`], and the messages beside it.
//!
//! What is asked here is answered at once. The rules (limits, purges, counts) are the ledger's, so that a stream behaves the
//! same wherever its messages are.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

pub use super::change::NewMessage;
use super::change::{Change, Outcome, StoreError};
use super::ledger::{Append, Filter, Ledger, LedgerError, Location, Removed};
use super::{DeleteRange, Lookup, Message, SimpleState, StorageKind, StoreConfig, StreamState};
use crate::time::WallTime;

/// What is kept of a message beside what the ledger knows, in 48 bytes and one allocation, so that no message keeps in memory
/// what came with it.
#[derive(Clone, Debug)]
struct Held {
    /// Subject and headers, and the payload unless that is long.
    bytes: Bytes,
    subject: u32,
    headers: u32,
    /// A payload that is shared with whoever brought it.
    long: Option<Box<Bytes>>,
}

impl Held {
    /// Payloads from here on aren't copied, in bytes.
    const LONG: usize = 64 << 10;

    fn new(subject: &[u8], headers: &[u8], payload: &Bytes) -> Self {
        let (short, long) = match payload.len() < Self::LONG {
            true => (&payload[..], None),
            false => (&[][..], Some(Box::new(payload.clone()))),
        };
        let bytes = Bytes::from([subject, headers, short].concat());
        let length = |part: &[u8]| u32::try_from(part.len()).expect("a message has less than 4 GiB");
        Held { bytes, subject: length(subject), headers: length(headers), long }
    }

    fn message(&self, location: &Location) -> Message {
        let mut rest = self.bytes.clone();
        let (subject, headers) = (rest.split_to(self.subject as usize), rest.split_to(self.headers as usize));
        let payload = self.long.as_deref().cloned().unwrap_or(rest);
        Message { sequence: location.sequence, time: location.time, subject, headers, payload }
    }
}

/// A stream in memory.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    ledger: Ledger,
    /// The messages of each block, at the offsets that the ledger knows.
    blocks: BTreeMap<u32, Vec<Option<Held>>>,
    next_block: u32,
    removed: VecDeque<Removed>,
}

/// Nothing is ever missing: no index of a stream in memory is evicted.
fn here<T>(lookup: Lookup<T>) -> T {
    lookup.unwrap_or_else(|missing| unreachable!("block {} was evicted", missing.block))
}

impl MemoryStore {
    /// Messages in a block: it is dropped when all of them are gone.
    const BLOCK: usize = 1024;

    /// Makes an empty stream.
    pub fn new(config: StoreConfig) -> Self {
        let ledger = Ledger::new(StorageKind::Memory, config);
        MemoryStore { ledger, blocks: BTreeMap::new(), next_block: 0, removed: VecDeque::new() }
    }

    /// Makes an empty stream that counts as one in files does: a model of it.
    #[cfg(test)]
    pub(crate) fn counting_as_file(config: StoreConfig) -> Self {
        let ledger = Ledger::new(StorageKind::File, config);
        MemoryStore { ledger, blocks: BTreeMap::new(), next_block: 0, removed: VecDeque::new() }
    }

    /// Applies a change.
    pub fn apply(&mut self, change: Change) -> Outcome {
        let messages = match change {
            Change::Store(message) => {
                return self.store(message).map_or_else(Outcome::Refused, Outcome::Stored);
            }
            Change::Skip { sequence, count, time, unwanted } => {
                match self.ledger.skip(sequence, count, time, unwanted) {
                    Ok(()) => {
                        self.drop_blocks();
                        0
                    }
                    Err(error) => return Outcome::Refused(error.into()),
                }
            }
            Change::Remove { sequence, .. } => u64::from(self.remove(sequence)),
            Change::Expire { sequences } => {
                sequences.iter().filter(|sequence| self.remove(**sequence)).count() as u64
            }
            Change::Purge { subject, below, keep } => self.purge(Filter::Subject(&subject), below, keep),
            Change::Compact { sequence } => self.compact(sequence),
            Change::Truncate { sequence } => self.truncate(sequence),
            Change::SyncDeleted { ranges } => self.sync_deleted(&ranges),
            Change::Configure(config) => {
                let before = self.ledger.messages();
                self.configure(*config);
                before - self.ledger.messages()
            }
        };
        Outcome::Removed(messages)
    }

    /// Stores a message, removes what the limits no longer allow, and returns its sequence.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing changes then.
    pub fn store(&mut self, message: NewMessage) -> Result<u64, StoreError> {
        let NewMessage { sequence, time, subject, headers, payload, ttl, rollup, checked, scheduling } =
            message;
        let size = self.ledger.kind().message_size(subject.len(), headers.len(), payload.len());
        if checked {
            here(self.ledger.check(&subject, size, rollup))?;
        }
        let room = |head: &u32| self.blocks.get(head).is_none_or(|messages| messages.len() < Self::BLOCK);
        let head = self.ledger.head().filter(room).unwrap_or_else(|| {
            self.next_block += 1;
            self.ledger.start_block(self.next_block);
            self.next_block
        });
        let offset = self.blocks.get(&head).map_or(0, Vec::len) as u32;
        let append = Append { sequence, time, subject: &subject, size, offset, ttl, scheduling };
        let sequence = self.ledger.append(&append)?;
        self.blocks.entry(head).or_default().push(Some(Held::new(&subject, &headers, &payload)));
        let mut gone = Vec::new();
        here(self.ledger.settle(&subject, |removed| gone.push(removed)));
        self.forget(gone);
        Ok(sequence)
    }

    /// Puts a question to the ledger, where nothing is ever missing.
    pub fn ask<T>(&mut self, question: impl FnOnce(&mut Ledger) -> Lookup<T>) -> T {
        here(question(&mut self.ledger))
    }

    /// Returns the message `sequence`.
    pub fn load(&self, sequence: u64) -> Option<Message> {
        let location = here(self.ledger.locate(sequence))?;
        self.at(&location).map(|held| held.message(&location))
    }

    /// Returns the first message at or behind `from` that `filter` matches.
    pub fn load_next(&mut self, filter: Filter<'_>, from: u64) -> Option<Message> {
        let sequence = here(self.ledger.next(filter, from))?;
        self.load(sequence)
    }

    /// Returns the last message at or before `from` that `filter` matches.
    pub fn load_previous(&mut self, filter: Filter<'_>, from: u64) -> Option<Message> {
        let sequence = here(self.ledger.previous(filter, from))?;
        self.load(sequence)
    }

    /// Returns the last message that `filter` matches.
    pub fn load_last(&mut self, filter: Filter<'_>) -> Option<Message> {
        self.load_previous(filter, u64::MAX - 1)
    }

    /// Removes the message `sequence`; `false` if there is none. What was in memory is gone with it.
    pub fn remove(&mut self, sequence: u64) -> bool {
        let removed = here(self.ledger.remove(sequence));
        let found = removed.is_some();
        self.forget(removed);
        found
    }

    /// Removes what `filter` matches, below `below` (zero for no bound), but for the last `keep`; returns how many.
    pub fn purge(&mut self, filter: Filter<'_>, below: u64, keep: u64) -> u64 {
        self.change(|ledger, gone| ledger.purge(filter, below, keep, |removed| gone.push(removed)))
    }

    /// Removes everything below `sequence`; returns how many messages.
    pub fn compact(&mut self, sequence: u64) -> u64 {
        self.change(|ledger, gone| ledger.compact(sequence, |removed| gone.push(removed)))
    }

    /// Removes everything behind `sequence`, as if it had never been; returns how many messages.
    pub fn truncate(&mut self, sequence: u64) -> u64 {
        self.change(|ledger, gone| ledger.truncate(sequence, |removed| gone.push(removed)))
    }

    /// Removes what a leader says is deleted; returns how many messages.
    pub fn sync_deleted(&mut self, deleted: &[DeleteRange]) -> u64 {
        self.change(|ledger, gone| ledger.sync_deleted(deleted, |removed| gone.push(removed)))
    }

    /// Takes other settings, and removes what they no longer allow.
    pub fn configure(&mut self, config: StoreConfig) {
        self.change(|ledger, gone| ledger.configure(config, |removed| gone.push(removed)));
    }

    /// Returns the next message that was removed, for whatever reason, oldest removal first.
    pub fn poll_removed(&mut self) -> Option<Removed> {
        self.removed.pop_front()
    }

    /// Returns the stream in numbers.
    pub fn state(&self) -> StreamState {
        here(self.ledger.state())
    }

    /// Returns the runs of sequences from the first message to the last that have none.
    pub fn deleted(&self) -> Vec<DeleteRange> {
        here(self.ledger.deleted())
    }

    /// Returns the first sequence whose message is not older than `time`.
    pub fn sequence_from_time(&self, time: WallTime) -> u64 {
        here(self.ledger.sequence_from_time(time))
    }

    /// Returns what `filter` matches at or behind `from`, in numbers.
    pub fn filtered_state(&mut self, filter: Filter<'_>, from: u64) -> SimpleState {
        here(self.ledger.filtered_state(filter, from))
    }

    /// Returns every subject that `filter` matches, with its messages in numbers.
    pub fn subject_states(&mut self, filter: Filter<'_>) -> Vec<(Box<[u8]>, SimpleState)> {
        here(self.ledger.subject_states(filter))
    }

    /// Returns every subject that `filter` matches, with how many messages it has.
    pub fn subject_totals(&self, filter: Filter<'_>) -> Vec<(Box<[u8]>, u64)> {
        self.ledger.subject_totals(filter)
    }

    /// Returns the last sequences of the subjects that `filter` matches, at or below `max_sequence`.
    ///
    /// # Errors
    ///
    /// [`LedgerError::TooManyResults`] for more than `max_allowed` (zero for any number).
    pub fn last_sequences(
        &mut self,
        filter: Filter<'_>,
        max_sequence: u64,
        max_allowed: usize,
    ) -> Result<Vec<u64>, LedgerError> {
        here(self.ledger.last_sequences(filter, max_sequence, max_allowed))
    }

    /// Returns how many messages at or behind `from` `filter` matches, and through which sequence that holds.
    pub fn pending(&mut self, filter: Filter<'_>, from: u64, last_per_subject: bool) -> (u64, u64) {
        here(self.ledger.pending(filter, from, last_per_subject))
    }

    /// Returns the subject of the message `sequence`.
    pub fn subject_of(&self, sequence: u64) -> Option<&[u8]> {
        here(self.ledger.subject_of(sequence))
    }

    fn at(&self, location: &Location) -> Option<&Held> {
        self.blocks.get(&location.block)?.get(location.offset as usize)?.as_ref()
    }

    fn change<T>(&mut self, change: impl FnOnce(&mut Ledger, &mut Vec<Removed>) -> Lookup<T>) -> T {
        let mut gone = Vec::new();
        let result = here(change(&mut self.ledger, &mut gone));
        self.forget(gone);
        result
    }

    fn forget(&mut self, gone: impl IntoIterator<Item = Removed>) {
        for removed in gone {
            let place = self.blocks.get_mut(&removed.location.block);
            if let Some(message) = place.and_then(|block| block.get_mut(removed.location.offset as usize)) {
                *message = None;
            }
            self.removed.push_back(removed);
        }
        self.drop_blocks();
    }

    /// Drops the messages of blocks that the ledger has forgotten.
    fn drop_blocks(&mut self) {
        while let Some(emptied) = self.ledger.poll_emptied() {
            self.blocks.remove(&emptied.number);
        }
        // A head that was emptied in one go.
        if self.ledger.messages() == 0 {
            self.blocks.clear();
        }
    }
}

#[cfg(test)]
mod tests;
