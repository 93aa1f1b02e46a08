//! What can be done to a stream, as an entry that is committed and then applied, and what came of it.
//!
//! Applying is deterministic: the same changes in the same order give the same stream, in memory or in files.

use bytes::{Bytes, BytesMut};
use smallvec::smallvec;

use super::ledger::LedgerError;
use super::{
    Compression, DeleteRange, Discard, Headers, LimitError, Pieces, Retention, Scheduling, StoreConfig,
};
use crate::time::{Duration, WallTime};
use crate::varint::{self, Reader};

/// A message to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    /// The sequence that it has to get; zero for the next.
    pub sequence: u64,
    /// When it is stored.
    pub time: WallTime,
    /// Its subject.
    pub subject: Bytes,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
    /// How many seconds it lives; zero for no limit of its own, [`NEVER_EXPIRES`](super::ledger::NEVER_EXPIRES) for ever.
    pub ttl: u64,
    /// Whether it replaces its subject's messages, and so may pass their limit.
    pub rollup: bool,
    /// Whether limits that refuse apply; a replica stores what its leader has let in.
    pub checked: bool,
    /// What it is to the stream's schedules.
    pub scheduling: Scheduling,
}

/// A change of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Store a message, and remove what the limits no longer allow.
    Store(NewMessage),
    /// Use sequences without messages.
    Skip {
        /// The first; zero for the next.
        sequence: u64,
        /// How many.
        count: u64,
        /// When.
        time: WallTime,
        /// Whether they are for messages that nobody wanted: then the stream's last time is theirs.
        unwanted: bool,
    },
    /// Remove a message.
    Remove {
        /// Which.
        sequence: u64,
        /// Whether its bytes are overwritten.
        erase: bool,
    },
    /// Remove messages whose time is over.
    Expire {
        /// Which, in the order in which they go.
        sequences: Vec<u64>,
    },
    /// Remove what a subject, perhaps with wildcards, matches.
    Purge {
        /// The subject, empty for all.
        subject: Bytes,
        /// Only below this sequence; zero for no bound.
        below: u64,
        /// But for the last so many.
        keep: u64,
    },
    /// Remove everything below a sequence, which is the first then.
    Compact {
        /// The sequence; zero for everything.
        sequence: u64,
    },
    /// Remove everything behind a sequence, as if it had never been.
    Truncate {
        /// The sequence; zero for everything, sequences too.
        sequence: u64,
    },
    /// Remove what a leader says is deleted.
    SyncDeleted {
        /// What.
        ranges: Vec<DeleteRange>,
    },
    /// Take other settings, and remove what they no longer allow.
    Configure(Box<StoreConfig>),
}

/// What came of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message has this sequence.
    Stored(u64),
    /// Nothing was changed.
    Refused(StoreError),
    /// It is done, and so many messages were removed by it.
    Removed(u64),
}

/// Why a change was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The stream is full.
    #[error(transparent)]
    Limit(#[from] LimitError),
    /// It was to get a sequence that isn't the next, or can't have one.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// An entry that makes no sense: of a later version, or our own fault. Nothing can be applied behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("entry of kind {kind} makes no sense; it was written by a later version")]
pub struct ChangeError {
    /// Its kind.
    pub kind: u8,
}

const STORE: u8 = 1;
const SKIP: u8 = 2;
const REMOVE: u8 = 3;
const EXPIRE: u8 = 4;
const PURGE: u8 = 5;
const COMPACT: u8 = 6;
const TRUNCATE: u8 = 7;
const SYNC_DELETED: u8 = 8;
const CONFIGURE: u8 = 9;

const ROLLUP: u64 = 1;
const CHECKED: u64 = 2;
const SCHEDULE: u64 = 4;
const SCHEDULED: u64 = 8;

/// Makes entries of changes. Messages go one behind the other into buffers that many share: an allocation for each costs more
/// than all that is written to it, as it is cold when it comes round again.
#[derive(Debug, Default)]
pub struct Encoder {
    room: BytesMut,
    head: Vec<u8>,
}

impl Encoder {
    /// How long the buffers are, in bytes. Each is kept by the last entry in it that isn't applied.
    const ROOM: usize = 32 << 10;

    /// Returns a change as the kind and the payload of an entry, as [`Change::encode`] does.
    pub fn encode(&mut self, change: &Change) -> (u8, Pieces) {
        let Change::Store(message) = change else { return change.encode() };
        self.head.clear();
        message.encode_head(&mut self.head);
        let payload = message.inline_payload();
        let len = self.head.len() + message.subject.len() + message.headers.len() + payload.len();
        if self.room.capacity() < len {
            self.room = BytesMut::with_capacity(len.max(Self::ROOM));
        }
        for part in [&self.head[..], &message.subject, &message.headers, payload] {
            self.room.extend_from_slice(part);
        }
        (STORE, message.pieces(self.room.split().freeze()))
    }
}

impl Change {
    /// Returns it as the kind and the payload of an entry: the message's bytes are shared, not copied, where they are long.
    pub fn encode(&self) -> (u8, Pieces) {
        let mut out = Vec::with_capacity(64);
        let kind = match self {
            Change::Store(message) => {
                message.encode_head(&mut out);
                for part in [&message.subject[..], &message.headers, message.inline_payload()] {
                    out.extend_from_slice(part);
                }
                return (STORE, message.pieces(out.into()));
            }
            Change::Skip { sequence, count, time, unwanted } => {
                put(&mut out, &[*sequence, *count, time.as_unix_nanos() as u64, u64::from(*unwanted)]);
                SKIP
            }
            Change::Remove { sequence, erase } => {
                put(&mut out, &[*sequence, u64::from(*erase)]);
                REMOVE
            }
            Change::Expire { sequences } => {
                put(&mut out, sequences);
                EXPIRE
            }
            Change::Purge { subject, below, keep } => {
                put(&mut out, &[*below, *keep]);
                out.extend_from_slice(subject);
                PURGE
            }
            Change::Compact { sequence } => {
                put(&mut out, &[*sequence]);
                COMPACT
            }
            Change::Truncate { sequence } => {
                put(&mut out, &[*sequence]);
                TRUNCATE
            }
            Change::SyncDeleted { ranges } => {
                ranges.iter().for_each(|range| put(&mut out, &[range.first, range.count]));
                SYNC_DELETED
            }
            Change::Configure(config) => {
                out.extend_from_slice(&config.encode());
                CONFIGURE
            }
        };
        (kind, smallvec![Bytes::from(out)])
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`ChangeError`].
    pub fn decode(kind: u8, payload: &[Bytes]) -> Result<Change, ChangeError> {
        let bytes = match payload {
            [one] => one.clone(),
            [head, long] if kind == STORE => {
                let message = NewMessage::decode(head).filter(|message| message.payload.is_empty());
                let message = message.map(|message| NewMessage { payload: long.clone(), ..message });
                return message.map(Change::Store).ok_or(ChangeError { kind });
            }
            pieces => {
                let mut all = BytesMut::new();
                pieces.iter().for_each(|piece| all.extend_from_slice(piece));
                all.freeze()
            }
        };
        Self::decode_bytes(kind, &bytes).ok_or(ChangeError { kind })
    }

    fn decode_bytes(kind: u8, bytes: &Bytes) -> Option<Change> {
        let mut reader = Reader::new(bytes);
        let change = match kind {
            STORE => return NewMessage::decode(bytes).map(Change::Store),
            SKIP => {
                let (sequence, count) = (reader.take()?, reader.take()?);
                let time = WallTime::from_unix_nanos(reader.take()? as i64);
                Change::Skip { sequence, count, time, unwanted: reader.take()? != 0 }
            }
            REMOVE => Change::Remove { sequence: reader.take()?, erase: reader.take()? != 0 },
            EXPIRE => {
                let mut sequences = Vec::new();
                while !reader.rest().is_empty() {
                    sequences.push(reader.take()?);
                }
                Change::Expire { sequences }
            }
            PURGE => {
                let (below, keep) = (reader.take()?, reader.take()?);
                return Some(Change::Purge { subject: bytes.slice_ref(reader.rest()), below, keep });
            }
            COMPACT => Change::Compact { sequence: reader.take()? },
            TRUNCATE => Change::Truncate { sequence: reader.take()? },
            SYNC_DELETED => {
                let mut ranges = Vec::new();
                while !reader.rest().is_empty() {
                    ranges.push(DeleteRange { first: reader.take()?, count: reader.take()? });
                }
                Change::SyncDeleted { ranges }
            }
            CONFIGURE => Change::Configure(Box::new(read_config(&mut reader)?)),
            _ => return None,
        };
        reader.rest().is_empty().then_some(change)
    }
}

impl NewMessage {
    /// Payloads from here on are a piece of their own, in bytes.
    const SHARED: usize = 1024;

    /// Appends what stands before subject, headers and payload.
    fn encode_head(&self, out: &mut Vec<u8>) {
        let scheduling = match self.scheduling {
            Scheduling::None => 0,
            Scheduling::Schedule { .. } => SCHEDULE,
            Scheduling::Scheduled => SCHEDULED,
        };
        let flags =
            if self.rollup { ROLLUP } else { 0 } | if self.checked { CHECKED } else { 0 } | scheduling;
        let lens = [self.subject.len() as u64, self.headers.len() as u64];
        put(out, &[self.sequence, flags, self.ttl, lens[0], lens[1]]);
        if let Scheduling::Schedule { due } = self.scheduling {
            varint::put_signed(out, due.as_unix_nanos());
        }
        out.extend_from_slice(&(self.time.as_unix_nanos() as u64).to_le_bytes());
    }

    /// Returns the payload if it is copied, and nothing if it is a piece of its own.
    fn inline_payload(&self) -> &[u8] {
        if self.payload.len() < Self::SHARED { &self.payload } else { &[] }
    }

    fn pieces(&self, first: Bytes) -> Pieces {
        match self.payload.len() < Self::SHARED {
            true => smallvec![first],
            false => smallvec![first, self.payload.clone()],
        }
    }

    fn decode(bytes: &Bytes) -> Option<NewMessage> {
        let mut reader = Reader::new(bytes);
        let (sequence, flags, ttl) = (reader.take()?, reader.take()?, reader.take()?);
        let lens = [usize::try_from(reader.take()?).ok()?, usize::try_from(reader.take()?).ok()?];
        let scheduling = match flags & (SCHEDULE | SCHEDULED) {
            0 => Scheduling::None,
            SCHEDULE => Scheduling::Schedule { due: WallTime::from_unix_nanos(reader.take_signed()?) },
            SCHEDULED => Scheduling::Scheduled,
            _ => return None,
        };
        let (time, rest) = reader.rest().split_first_chunk()?;
        let (subject, rest) = rest.split_at_checked(lens[0])?;
        let (headers, payload) = rest.split_at_checked(lens[1])?;
        Some(NewMessage {
            sequence,
            time: WallTime::from_unix_nanos(i64::from_le_bytes(*time)),
            subject: bytes.slice_ref(subject),
            headers: bytes.slice_ref(headers),
            payload: bytes.slice_ref(payload),
            ttl,
            rollup: flags & ROLLUP != 0,
            checked: flags & CHECKED != 0,
            scheduling,
        })
    }
}

fn put(out: &mut Vec<u8>, values: &[u64]) {
    values.iter().for_each(|value| varint::put(out, *value));
}

impl StoreConfig {
    /// Returns it as bytes.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(64);
        put(&mut out, &config_values(self));
        Bytes::from(out)
    }

    /// Reads what [`StoreConfig::encode`] wrote; `None` if it makes no sense.
    pub fn decode(bytes: &Bytes) -> Option<StoreConfig> {
        read_config(&mut Reader::new(bytes))
    }
}

/// Settings that an entry has, in their order; later versions add at the end.
fn config_values(config: &StoreConfig) -> [u64; 14] {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    [
        config.retention as u64,
        config.max_messages,
        config.max_bytes,
        nanos(config.max_age),
        config.max_messages_per_subject,
        config.discard as u64,
        u64::from(config.discard_new_per_subject),
        config.first_sequence,
        u64::from(config.allow_message_ttl),
        u64::from(config.allow_schedules),
        nanos(config.subject_delete_marker_ttl),
        config.compression as u64,
        config.block_size,
        0,
    ]
}

fn read_config(reader: &mut Reader<'_>) -> Option<StoreConfig> {
    let mut value = || reader.take();
    let config = StoreConfig {
        retention: *[Retention::Limits, Retention::Interest, Retention::WorkQueue]
            .get(usize::try_from(value()?).ok()?)?,
        max_messages: value()?,
        max_bytes: value()?,
        max_age: Duration::from_nanos(value()?),
        max_messages_per_subject: value()?,
        discard: *[Discard::Old, Discard::New].get(usize::try_from(value()?).ok()?)?,
        discard_new_per_subject: value()? != 0,
        first_sequence: value()?,
        allow_message_ttl: value()? != 0,
        allow_schedules: value()? != 0,
        subject_delete_marker_ttl: Duration::from_nanos(value()?),
        compression: *[Compression::None, Compression::S2].get(usize::try_from(value()?).ok()?)?,
        block_size: value()?,
    };
    value()?;
    Some(config)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_bytes(most: usize) -> impl Strategy<Value = Bytes> {
        proptest::collection::vec(any::<u8>(), 0..most).prop_map(Bytes::from)
    }

    fn any_message() -> impl Strategy<Value = Change> {
        let parts = (any_bytes(20), any_bytes(40), prop_oneof![any_bytes(10), any_bytes(3000)]);
        let scheduling = prop_oneof![
            3 => Just(Scheduling::None),
            1 => Just(Scheduling::Scheduled),
            1 => any::<i64>().prop_map(|due| Scheduling::Schedule { due: WallTime::from_unix_nanos(due) }),
        ];
        let values = any::<(u64, i64, u64, bool, bool)>();
        (parts, values, scheduling).prop_map(|((subject, headers, payload), values, scheduling)| {
            let (sequence, time, ttl, rollup, checked) = values;
            let time = WallTime::from_unix_nanos(time);
            Change::Store(NewMessage {
                sequence,
                time,
                subject,
                headers,
                payload,
                ttl,
                rollup,
                checked,
                scheduling,
            })
        })
    }

    fn any_config() -> impl Strategy<Value = StoreConfig> {
        (any::<[u32; 6]>(), any::<[bool; 4]>(), 0..3usize).prop_map(|(numbers, flags, kind)| StoreConfig {
            retention: [Retention::Limits, Retention::Interest, Retention::WorkQueue][kind],
            max_messages: numbers[0].into(),
            max_bytes: numbers[1].into(),
            max_age: Duration::from_nanos(numbers[2].into()),
            max_messages_per_subject: numbers[3].into(),
            discard: if flags[0] { Discard::New } else { Discard::Old },
            discard_new_per_subject: flags[1],
            first_sequence: numbers[4].into(),
            allow_message_ttl: flags[2],
            allow_schedules: flags[3],
            subject_delete_marker_ttl: Duration::from_nanos(numbers[5].into()),
            compression: if flags[1] { Compression::S2 } else { Compression::None },
            block_size: numbers[5].into(),
        })
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let number = || any::<u64>();
        prop_oneof![
            3 => any_message(),
            1 => (number(), number(), any::<(i64, bool)>()).prop_map(|(sequence, count, (time, unwanted))| Change::Skip {
                unwanted,
                sequence,
                count,
                time: WallTime::from_unix_nanos(time)
            }),
            1 => (number(), any::<bool>()).prop_map(|(sequence, erase)| Change::Remove { sequence, erase }),
            1 => any::<Vec<u64>>().prop_map(|sequences| Change::Expire { sequences }),
            1 => (any_bytes(9), number(), number())
                .prop_map(|(subject, below, keep)| Change::Purge { subject, below, keep }),
            1 => number().prop_map(|sequence| Change::Compact { sequence }),
            1 => number().prop_map(|sequence| Change::Truncate { sequence }),
            1 => any::<Vec<(u64, u64)>>().prop_map(|ranges| Change::SyncDeleted {
                ranges: ranges.into_iter().map(|(first, count)| DeleteRange { first, count }).collect()
            }),
            1 => any_config().prop_map(|config| Change::Configure(Box::new(config))),
        ]
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(change in any_change()) {
            let (kind, payload) = change.encode();
            prop_assert_eq!(Change::decode(kind, &payload), Ok(change.clone()));
            let mut encoder = Encoder::default();
            for _ in 0..3 {
                prop_assert_eq!(encoder.encode(&change), (kind, payload.clone()));
            }
            let whole = Bytes::from(payload.concat());
            prop_assert_eq!(Change::decode(kind, &[whole]), Ok(change));
        }

        #[test]
        fn arbitrary_bytes_never_panic(kind in 0..12u8, bytes in any_bytes(60)) {
            let _ = Change::decode(kind, &[bytes]);
        }
    }
}
