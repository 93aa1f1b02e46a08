//! One entry of the log as members send it.

use bytes::Bytes;

use super::WireError;

/// What an entry is for.
///
/// Source: nats-server `server/raft.go`, `EntryType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EntryKind {
    /// The application's.
    Normal = 0,
    /// A snapshot as versions before 2.9 sent it; read, never written.
    OldSnapshot = 1,
    /// The members of the group, told by a leader that starts.
    PeerState = 2,
    /// A member joins: its name.
    AddPeer = 3,
    /// A member leaves: its name.
    RemovePeer = 4,
    /// Who is to lead next: its name.
    LeaderTransfer = 5,
    /// The application's state, in place of the log before.
    Snapshot = 6,
    /// natrix: the members of a joint configuration, old and new (Raft, section 4.3 of the dissertation).
    JointPeers = 64,
    /// natrix: a piece of a snapshot that is too large for one message; never in a log.
    SnapshotChunk = 65,
}

impl EntryKind {
    /// Returns the kind that `byte` stands for, `None` if it stands for none.
    pub fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => EntryKind::Normal,
            1 => EntryKind::OldSnapshot,
            2 => EntryKind::PeerState,
            3 => EntryKind::AddPeer,
            4 => EntryKind::RemovePeer,
            5 => EntryKind::LeaderTransfer,
            6 => EntryKind::Snapshot,
            64 => EntryKind::JointPeers,
            65 => EntryKind::SnapshotChunk,
            _ => return None,
        })
    }

    /// Returns whether entries of this kind stand in logs, where others are only said.
    pub fn is_logged(self) -> bool {
        !matches!(self, EntryKind::LeaderTransfer | EntryKind::SnapshotChunk)
    }

    /// Returns whether the entry changes who the members are, from the moment that it is in the log.
    pub fn changes_membership(self) -> bool {
        matches!(self, EntryKind::AddPeer | EntryKind::RemovePeer | EntryKind::JointPeers)
    }
}

/// An entry: its kind and its bytes, shared with the message that it came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What it is for.
    pub kind: EntryKind,
    /// What it says.
    pub data: Bytes,
}

impl Entry {
    /// The longest entry that the format can say, in bytes; the reference stays below 2 GiB.
    pub const MAX: usize = i32::MAX as usize;

    /// What stands before the data: a length of 4 bytes that counts the kind, and the kind.
    pub const OVERHEAD: usize = 5;

    /// Makes an entry of the application's.
    pub fn normal(data: impl Into<Bytes>) -> Self {
        Entry { kind: EntryKind::Normal, data: data.into() }
    }

    /// Appends the entry: `len u32 (of kind and data), kind u8, data`.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] if it is longer than [`Entry::MAX`]; nothing is appended.
    pub(super) fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        if self.data.len() > Self::MAX {
            return Err(WireError::TooLarge(self.data.len()));
        }
        out.extend_from_slice(&(self.data.len() as u32 + 1).to_le_bytes());
        out.push(self.kind as u8);
        out.extend_from_slice(&self.data);
        Ok(())
    }
}
