//! The messages of a Raft group as bytes: the reference's binary format, and what natrix adds behind it.
//!
//! Integers are little-endian; a member is named by 8 bytes. What natrix adds stands behind the reference's bytes and
//! starts with a version, so that members of several versions of natrix understand each other: readers of an older one
//! ignore what they don't know. A message that has none of it is the reference's, byte for byte; `testdata/golden.txt`
//! has every kind, taken from a real cluster.
//!
//! Nothing here trusts a length: counts are checked against the bytes that are there before anything is allocated.

mod append;
mod beat;
mod entry;
mod peers;
mod subjects;
mod vote;

pub use append::{AppendEntries, AppendExtension, AppendResponse, ResponseExtension};
pub use beat::Beat;
pub use entry::{Entry, EntryKind};
pub use peers::PeerState;
pub use subjects::{GroupSubjects, SubjectKind, inbox};
pub use vote::{VoteRequest, VoteResponse};

#[cfg(test)]
mod tests;

use crate::varint;

/// The name of a member, as it stands on the wire.
///
/// Source: nats-server `server/raft.go`, `idLen`; made of the server's name by `getHash`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct NodeId(pub [u8; NodeId::LEN]);

impl NodeId {
    /// Its length in bytes.
    pub const LEN: usize = 8;
}

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Debug::fmt(self, f)
    }
}

/// Why bytes are not the message that their subject says, or a message can't be written as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// They have a length that no such message has.
    #[error("{what}: {len} bytes")]
    Length {
        /// The kind of message.
        what: &'static str,
        /// How many bytes there are.
        len: usize,
    },
    /// An entry says that it is longer than what is left, or empty.
    #[error("entry {index} says that it has {len} bytes")]
    EntryLength {
        /// Which entry, from zero.
        index: usize,
        /// What it says.
        len: usize,
    },
    /// An entry is of a kind that nobody knows.
    #[error("entry {index} is of the unknown kind {kind}")]
    EntryKind {
        /// Which entry, from zero.
        index: usize,
        /// What it says.
        kind: u8,
    },
    /// More entries than a message can count, or an entry longer than it can say.
    #[error("too many entries, or too large: {0}")]
    TooLarge(usize),
    /// The state of the members names more of them than there are bytes.
    #[error("peer state names {named} peers and has {present}")]
    Peers {
        /// How many it says there are.
        named: usize,
        /// How many there are.
        present: usize,
    },
}

/// Takes integers and bytes off the front of a message.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(taken)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn u32(&mut self) -> Option<u32> {
        self.take().map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u8(&mut self) -> Option<u8> {
        self.take::<1>().map(|bytes| bytes[0])
    }

    fn node(&mut self) -> Option<NodeId> {
        self.take().map(|bytes| NodeId(*bytes))
    }

    /// An integer of variable length; `None` if there is none, and nothing is taken.
    fn varint(&mut self) -> Option<u64> {
        let mut reader = varint::Reader::new(self.0);
        let value = reader.take()?;
        self.0 = reader.rest();
        Some(value)
    }
}
