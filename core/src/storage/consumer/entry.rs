//! The changes of a consumer as they stand in the journal.
//!
//! One byte of kind (the journal's), then integers of variable length; a state as in [`super::wire`]'s own format.

use super::delta::Delta;
use super::state::{ConsumerState, SequencePair};
use super::wire;
use crate::time::WallTime;
use crate::varint::{self, Reader};

/// One change of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerEntry {
    /// A message went out.
    Delivered {
        /// Which one, as which delivery.
        at: SequencePair,
        /// For the how manieth time, from 1.
        count: u64,
        /// When.
        time: WallTime,
    },
    /// A message was acknowledged.
    Acknowledged {
        /// Which one, of which delivery.
        at: SequencePair,
    },
    /// Deliver only what lies behind this message; all state before is gone.
    StartAfter {
        /// The stream's sequence.
        stream: u64,
    },
    /// Nothing up to this message is there to be delivered.
    SkippedTo {
        /// The stream's sequence.
        stream: u64,
    },
    /// Messages below this one are gone: how often they were delivered doesn't matter any more.
    ForgetRedeliveredBelow {
        /// The stream's sequence.
        stream: u64,
    },
    /// Take this state if it is no older than the one that is there (a leader's, a restored one).
    Update(ConsumerState),
    /// Take this state, older or not.
    Replace(ConsumerState),
    /// This is the state after all entries before: they are dead. Changes nothing.
    Snapshot(ConsumerState),
    /// What changed since the entry before.
    Delta(Box<Delta>),
}

/// Bytes that are no entry of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an entry of a consumer (kind {kind}, {len} bytes)")]
pub struct EntryError {
    /// The kind that it says it is.
    pub kind: u8,
    /// How long it is.
    pub len: usize,
}

impl ConsumerEntry {
    /// The kind of an entry that makes all of its owner's before it dead.
    pub const SNAPSHOT: u8 = 8;

    /// Returns the entry's kind, and appends its bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) -> u8 {
        match self {
            ConsumerEntry::Delivered { at, count, time } => {
                put_pair(out, *at);
                varint::put(out, *count);
                varint::put_signed(out, time.as_unix_nanos());
                1
            }
            ConsumerEntry::Acknowledged { at } => {
                put_pair(out, *at);
                2
            }
            ConsumerEntry::StartAfter { stream } => {
                varint::put(out, *stream);
                3
            }
            ConsumerEntry::SkippedTo { stream } => {
                varint::put(out, *stream);
                4
            }
            ConsumerEntry::ForgetRedeliveredBelow { stream } => {
                varint::put(out, *stream);
                5
            }
            ConsumerEntry::Update(state) => {
                wire::put_exact(out, state);
                6
            }
            ConsumerEntry::Replace(state) => {
                wire::put_exact(out, state);
                7
            }
            ConsumerEntry::Snapshot(state) => {
                wire::put_exact(out, state);
                Self::SNAPSHOT
            }
            ConsumerEntry::Delta(delta) => {
                delta.encode(out);
                if delta.after.is_some() { 10 } else { 9 }
            }
        }
    }

    /// Reads an entry of `kind` back.
    ///
    /// # Errors
    ///
    /// [`EntryError`] if the kind is unknown, or the bytes end too early or too late.
    pub fn decode(kind: u8, bytes: &[u8]) -> Result<Self, EntryError> {
        let mut reader = Reader::new(bytes);
        Self::read(kind, &mut reader)
            .filter(|_| reader.rest().is_empty())
            .ok_or(EntryError { kind, len: bytes.len() })
    }

    fn read(kind: u8, reader: &mut Reader<'_>) -> Option<Self> {
        Some(match kind {
            1 => ConsumerEntry::Delivered {
                at: take_pair(reader)?,
                count: reader.take()?,
                time: WallTime::from_unix_nanos(reader.take_signed()?),
            },
            2 => ConsumerEntry::Acknowledged { at: take_pair(reader)? },
            3 => ConsumerEntry::StartAfter { stream: reader.take()? },
            4 => ConsumerEntry::SkippedTo { stream: reader.take()? },
            5 => ConsumerEntry::ForgetRedeliveredBelow { stream: reader.take()? },
            6 => ConsumerEntry::Update(wire::take_exact(reader)?),
            7 => ConsumerEntry::Replace(wire::take_exact(reader)?),
            Self::SNAPSHOT => ConsumerEntry::Snapshot(wire::take_exact(reader)?),
            9 | 10 => ConsumerEntry::Delta(Box::new(Delta::decode(reader, kind == 10)?)),
            _ => return None,
        })
    }
}

pub(super) fn put_pair(out: &mut Vec<u8>, pair: SequencePair) {
    varint::put(out, pair.consumer);
    varint::put(out, pair.stream);
}

pub(super) fn take_pair(reader: &mut Reader<'_>) -> Option<SequencePair> {
    Some(SequencePair { consumer: reader.take()?, stream: reader.take()? })
}
