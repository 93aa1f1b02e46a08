//! Append entries and their responses: replication, heartbeats, catch-up.

use bytes::Bytes;

use super::{Entry, EntryKind, NodeId, Reader, WireError};
use crate::varint;

/// A leader's entries for its followers; none is a heartbeat.
///
/// Source: nats-server `server/raft.go`, `appendEntry.encode` and `decodeAppendEntry`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendEntries {
    /// Who leads.
    pub leader: NodeId,
    /// The leader's term; in catch-up the term that the entry was first sent in.
    pub term: u64,
    /// Through which index the leader knows the log to be committed.
    pub commit: u64,
    /// The term of the entry before these.
    pub previous_term: u64,
    /// The index of the entry before these.
    pub previous_index: u64,
    /// What follows it. One message has one index in the reference, whatever it carries; see `raft::log`.
    pub entries: Vec<Entry>,
    /// The leader's own term, where `term` is an old entry's (catch-up); zero otherwise. `None` when it isn't said.
    pub leader_term: Option<u64>,
    /// What natrix adds.
    pub extension: Option<AppendExtension>,
}

/// What natrix adds to append entries. Version 1: `version u8, round varint`; version 2, which only messages have that
/// need it, has behind it `flags varint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendExtension {
    /// Counts the leader's rounds of heartbeats in its term; a response names the one that it answers, so that a leader
    /// knows when a majority followed it (reads, quorum, coalesced heartbeats).
    pub round: u64,
    /// The leader has nothing to do, and asks its followers to sleep: see `group/sleep.rs`.
    pub sleep: bool,
}

impl AppendEntries {
    /// The length of everything before the entries, in bytes.
    pub const BASE: usize = 42;

    /// Appends the message.
    ///
    /// Shape: `leader [u8; 8], term u64, commit u64, previous_term u64, previous_index u64, count u16`, the entries,
    /// `leader_term varint`, the extension. Without a leader's term there is no extension.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] for more than 65,535 entries, or an entry longer than [`Entry::MAX`]; `out` is then as it
    /// was.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        let count = u16::try_from(self.entries.len()).map_err(|_| WireError::TooLarge(self.entries.len()))?;
        let start = out.len();
        let data: usize = self.entries.iter().map(|entry| entry.data.len()).sum();
        out.reserve(Self::BASE + data + self.entries.len() * Entry::OVERHEAD + 21);
        out.extend_from_slice(&self.leader.0);
        for number in [self.term, self.commit, self.previous_term, self.previous_index] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&count.to_le_bytes());
        for entry in &self.entries {
            entry.encode(out).inspect_err(|_| out.truncate(start))?;
        }
        if let Some(term) = self.leader_term {
            varint::put(out, term);
            if let Some(extension) = self.extension {
                extension.encode(out);
            }
        }
        Ok(())
    }

    /// Reads a message; its entries share `bytes`.
    ///
    /// # Errors
    ///
    /// [`WireError`] if the bytes end before what they promise, or an entry is of an unknown kind: whoever can't read an
    /// entry must not acknowledge it.
    pub fn decode(bytes: &Bytes) -> Result<Self, WireError> {
        let mut reader = Reader(bytes);
        let (mut message, count) =
            Self::head(&mut reader).ok_or(WireError::Length { what: "append entries", len: bytes.len() })?;
        // Each entry takes five bytes, so the bytes that are there bound what is allocated.
        message.entries.reserve(usize::from(count).min(reader.0.len() / Entry::OVERHEAD));
        for index in 0..usize::from(count) {
            let len = reader.u32().ok_or(WireError::EntryLength { index, len: 0 })? as usize;
            let Some((taken, rest)) = reader.0.split_at_checked(len).filter(|_| len > 0) else {
                return Err(WireError::EntryLength { index, len });
            };
            reader.0 = rest;
            let kind =
                EntryKind::from_byte(taken[0]).ok_or(WireError::EntryKind { index, kind: taken[0] })?;
            message.entries.push(Entry { kind, data: bytes.slice_ref(&taken[1..]) });
        }
        message.leader_term = reader.varint();
        message.extension = message.leader_term.and_then(|_| AppendExtension::read(&mut reader));
        Ok(message)
    }

    fn head(reader: &mut Reader<'_>) -> Option<(Self, u16)> {
        let message = AppendEntries {
            leader: reader.node()?,
            term: reader.u64()?,
            commit: reader.u64()?,
            previous_term: reader.u64()?,
            previous_index: reader.u64()?,
            entries: Vec::new(),
            leader_term: None,
            extension: None,
        };
        Some((message, reader.u16()?))
    }
}

impl AppendExtension {
    const SLEEP: u64 = 1;

    fn encode(self, out: &mut Vec<u8>) {
        out.push(if self.sleep { 2 } else { 1 });
        varint::put(out, self.round);
        if self.sleep {
            varint::put(out, Self::SLEEP);
        }
    }

    /// Reads what is behind the reference's bytes; nothing, and what is too short to be ours, is no extension. Later
    /// versions only add behind.
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let version = reader.u8()?;
        (version > 0).then_some(())?;
        let round = reader.varint()?;
        let flags = if version > 1 { reader.varint()? } else { 0 };
        Some(AppendExtension { round, sleep: flags & Self::SLEEP != 0 })
    }
}

/// A follower's answer to append entries.
///
/// Source: nats-server `server/raft.go`, `appendEntryResponse.encode` and `decodeAppendEntryResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendResponse {
    /// The follower's term.
    pub term: u64,
    /// Success: the highest index that it has, durably, and knows to be the leader's. Otherwise the index that it would
    /// like to be caught up from.
    pub index: u64,
    /// Who answers.
    pub peer: NodeId,
    /// Whether the entries were taken.
    pub success: bool,
    /// What natrix adds.
    pub extension: Option<ResponseExtension>,
}

/// What natrix adds to a response. Version 1: `version u8, round varint, conflict_term varint, conflict_index varint`;
/// version 2 has behind it `flags varint, rejected varint, snapshot_index varint, snapshot_offset varint`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResponseExtension {
    /// The round that this answers; zero for none.
    pub round: u64,
    /// Not a success: the term of the follower's entry where the leader's previous one should be; zero if it has none
    /// there.
    pub conflict_term: u64,
    /// Not a success: the first index of that term, or the follower's last index.
    pub conflict_index: u64,
    /// The follower may lack what it once acknowledged.
    pub lost: bool,
    /// It may have acknowledged that in this term, so that a new one has to begin.
    pub new_term: bool,
    /// It sleeps since this round.
    pub asleep: bool,
    /// Not a success: the previous index that was refused.
    pub rejected: u64,
    /// A snapshot is being received: the index that it stands for; zero otherwise.
    pub snapshot_index: u64,
    /// How many bytes of it are here.
    pub snapshot_offset: u64,
}

impl AppendResponse {
    /// The reference's length in bytes.
    pub const LEN: usize = 25;

    /// Appends the message.
    ///
    /// Shape: `term u64, index u64, peer [u8; 8], success u8`, the extension.
    pub fn encode(&self, out: &mut Vec<u8>) {
        // As much as most extensions take; they are longer only where indexes are large.
        out.reserve(Self::LEN + 39);
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.index.to_le_bytes());
        out.extend_from_slice(&self.peer.0);
        out.push(u8::from(self.success));
        if let Some(extension) = self.extension {
            extension.encode(out);
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`WireError::Length`] if it is too short, or has something behind it that is no extension.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(&mut Reader(bytes))
            .ok_or(WireError::Length { what: "append entries response", len: bytes.len() })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(AppendResponse {
            term: reader.u64()?,
            index: reader.u64()?,
            peer: reader.node()?,
            success: reader.u8()? == 1,
            extension: match reader.0 {
                [] => None,
                _ => Some(ResponseExtension::read(reader)?),
            },
        })
    }
}

impl ResponseExtension {
    const VERSION: u8 = 2;
    const LOST: u64 = 1;
    const NEW_TERM: u64 = 2;
    const ASLEEP: u64 = 4;

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::VERSION);
        let flags = (u64::from(self.lost) * Self::LOST)
            | (u64::from(self.new_term) * Self::NEW_TERM)
            | (u64::from(self.asleep) * Self::ASLEEP);
        let first = [self.round, self.conflict_term, self.conflict_index];
        let second = [flags, self.rejected, self.snapshot_index, self.snapshot_offset];
        for number in first.into_iter().chain(second) {
            varint::put(out, number);
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let version = reader.u8()?;
        let mut extension = ResponseExtension {
            round: reader.varint()?,
            conflict_term: reader.varint()?,
            conflict_index: reader.varint()?,
            ..ResponseExtension::default()
        };
        match version {
            0 => return None,
            1 => {}
            _ => {
                let flags = reader.varint()?;
                extension.lost = flags & Self::LOST != 0;
                extension.new_term = flags & Self::NEW_TERM != 0;
                extension.asleep = flags & Self::ASLEEP != 0;
                extension.rejected = reader.varint()?;
                extension.snapshot_index = reader.varint()?;
                extension.snapshot_offset = reader.varint()?;
            }
        }
        Some(extension)
    }
}
