//! What all stores speak of: messages, states, settings, positions.

use bytes::Bytes;

use crate::time::{Duration, WallTime};

/// The payload of an entry, in the pieces that it is made of: seldom more than two.
pub type Pieces = smallvec::SmallVec<[Bytes; 2]>;

/// The place of an entry among all entries of a shard's journal: later entries have higher positions, and none is used
/// twice, whatever happens. Zero comes before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub u64);

/// Names a stream, a consumer or a Raft group in the journal and in its files; drawn at random when it is made, the same
/// over restarts, never used for another. It seeds every checksum, so that bytes of another store are known for what
/// they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub u64);

/// A header block as it stood on the wire, `NATS/1.0\r\n` and the empty line included; empty for none.
pub type Headers = Bytes;

/// A stored message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the stream, from 1.
    pub sequence: u64,
    /// When it was stored, as its entry says.
    pub time: WallTime,
    /// What it was published to, after transforms.
    pub subject: Bytes,
    /// Its headers.
    pub headers: Headers,
    /// Its payload.
    pub payload: Bytes,
}

/// Where messages are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageKind {
    /// In files.
    #[default]
    File,
    /// In memory.
    Memory,
}

impl StorageKind {
    /// Returns what a message counts for in a stream's bytes: the reference's figures, which users see and set limits by.
    ///
    /// Source: nats-server `server/filestore.go`, `fileStoreMsgSizeRaw`; `server/memstore.go`, `memStoreMsgSizeRaw`.
    pub fn message_size(self, subject: usize, headers: usize, payload: usize) -> u64 {
        let bytes = subject + headers + payload;
        let overhead = match self {
            StorageKind::File if headers > 0 => 34,
            StorageKind::File => 30,
            StorageKind::Memory => 16,
        };
        (bytes + overhead) as u64
    }
}

/// What a message is to the schedules of its stream (ADR-51).
///
/// A subject has one schedule at most: a message takes the place of the one on its subject, unless a schedule made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheduling {
    /// Nothing.
    #[default]
    None,
    /// It is a schedule itself.
    Schedule {
        /// When it is due for the first time.
        due: WallTime,
    },
    /// A schedule made it, or it was published in the place of what one would have made.
    Scheduled,
}

/// How long a stream keeps messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Retention {
    /// Until a limit is reached.
    #[default]
    Limits,
    /// Until every consumer has acknowledged them.
    Interest,
    /// Until one consumer has acknowledged them.
    WorkQueue,
}

/// What gives way when a limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Discard {
    /// The oldest messages.
    #[default]
    Old,
    /// The new one: it is refused.
    New,
}

/// How appended frames are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// As S2 blocks.
    S2,
}

/// How appended frames are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cipher {
    /// Not at all.
    #[default]
    None,
    /// ChaCha20-Poly1305 with the extended nonce of 24 random bytes (XChaCha20).
    ChaCha20Poly1305,
    /// AES-256-GCM.
    Aes256Gcm,
}

/// Every pairing of cipher and compression.
#[cfg(test)]
pub(crate) const CODECS: [(Cipher, Compression); 6] = [
    (Cipher::None, Compression::None),
    (Cipher::None, Compression::S2),
    (Cipher::ChaCha20Poly1305, Compression::None),
    (Cipher::ChaCha20Poly1305, Compression::S2),
    (Cipher::Aes256Gcm, Compression::None),
    (Cipher::Aes256Gcm, Compression::S2),
];

/// The settings of a stream that its store acts on. Zero means no limit, where the reference's API has -1 or 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreConfig {
    /// Retention; the store only derives the size of blocks from it.
    pub retention: Retention,
    /// The most messages.
    pub max_messages: u64,
    /// The most bytes, as [`StorageKind::message_size`] counts them.
    pub max_bytes: u64,
    /// The oldest a message gets; zero for ever.
    pub max_age: Duration,
    /// The most messages of one subject.
    pub max_messages_per_subject: u64,
    /// What gives way at `max_messages` and `max_bytes`.
    pub discard: Discard,
    /// With [`Discard::New`]: whether `max_messages_per_subject` refuses too.
    pub discard_new_per_subject: bool,
    /// The sequence of the first message ever; zero means 1.
    pub first_sequence: u64,
    /// Whether messages may carry a time to live of their own.
    pub allow_message_ttl: bool,
    /// Whether messages may be schedules (ADR-51).
    pub allow_schedules: bool,
    /// How long a marker lives that is left where the last message of a subject expired; zero for no markers (ADR-43).
    pub subject_delete_marker_ttl: Duration,
    /// Compression of new frames.
    pub compression: Compression,
    /// The size at which a block is closed, in bytes; zero for the reference's rule.
    pub block_size: u64,
}

/// Why a message may not be stored: the stream is full and its policy is to refuse.
///
/// Source of the texts: nats-server `server/store.go`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// At `max_messages`.
    #[error("maximum messages exceeded")]
    Messages,
    /// At `max_bytes`.
    #[error("maximum bytes exceeded")]
    Bytes,
    /// At `max_messages_per_subject`.
    #[error("maximum messages per subject exceeded")]
    MessagesPerSubject,
    /// Longer than a record can say.
    #[error("message too large")]
    TooLarge,
}

/// What a stream holds, in numbers; the reference's `StreamState`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamState {
    /// How many messages.
    pub messages: u64,
    /// How many bytes, as [`StorageKind::message_size`] counts them.
    pub bytes: u64,
    /// The sequence of the oldest message; in an empty stream the one that the next message will have.
    pub first_sequence: u64,
    /// When the oldest message was stored; `None` if there is none.
    pub first_time: Option<WallTime>,
    /// The highest sequence that was ever used, zero if none was.
    pub last_sequence: u64,
    /// When the newest message was stored, kept when it is removed; `None` if there was none.
    pub last_time: Option<WallTime>,
    /// How many subjects.
    pub subjects: u64,
    /// How many sequences between first and last have no message.
    pub deleted: u64,
    /// How many consumers the store has.
    pub consumers: u64,
    /// What was damaged and is known to be lost.
    pub lost: LostData,
}

/// Messages that were stored and can't be read any more, until they are removed or fetched from a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LostData {
    /// Ranges of sequences, in order, both ends included. Each is in the stream's deleted count.
    pub ranges: Vec<(u64, u64)>,
    /// How many bytes of files they took, as far as that is known.
    pub bytes: u64,
}

/// Messages of some subjects, in numbers; the reference's `SimpleState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SimpleState {
    /// How many messages; first and last mean nothing when it is zero, but that they are the stream's if it is empty and all of
    /// it was asked for.
    pub messages: u64,
    /// The lowest sequence.
    pub first: u64,
    /// The highest sequence.
    pub last: u64,
}

/// A run of sequences without messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeleteRange {
    /// The first of them.
    pub first: u64,
    /// How many there are.
    pub count: u64,
}

/// The index of a block has to be loaded before a question can be answered: load it and ask again.
///
/// Asking changes nothing, so the second answer is what the first would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// The number of the block.
    pub block: u32,
}

/// An answer, or what has to be loaded for it.
pub type Lookup<T> = Result<T, Missing>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_what_it_counts_in_the_reference() {
        assert_eq!(StorageKind::File.message_size(3, 0, 10), 43);
        assert_eq!(StorageKind::File.message_size(3, 5, 10), 52);
        assert_eq!(StorageKind::Memory.message_size(3, 5, 10), 34);
    }
}
