//! Asking for votes, and answers.

use super::{NodeId, Reader, WireError};

/// A candidate asks for a vote, or, before it is one, whether it would get it.
///
/// Source: nats-server `server/raft.go`, `encode` of `voteRequest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteRequest {
    /// The term that the candidate stands for.
    pub term: u64,
    /// The term of the last entry of its log.
    pub last_term: u64,
    /// The index of that entry.
    pub last_index: u64,
    /// Who asks.
    pub candidate: NodeId,
    /// natrix: nothing is promised or remembered by an answer (Raft dissertation, section 9.6).
    pub pre_vote: bool,
    /// natrix: the leader asked for this election, so nobody need wait for it to be silent first.
    pub transfer: bool,
}

impl VoteRequest {
    /// The reference's length in bytes.
    pub const LEN: usize = 32;
    const VERSION: u8 = 1;
    const PRE_VOTE: u8 = 1;
    const TRANSFER: u8 = 2;

    /// Appends the message.
    ///
    /// Shape: `term u64, last_term u64, last_index u64, candidate [u8; 8]`, and, if either of natrix's flags is set,
    /// `version u8, flags u8`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.term, self.last_term, self.last_index] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&self.candidate.0);
        if self.pre_vote || self.transfer {
            let flags =
                (u8::from(self.pre_vote) * Self::PRE_VOTE) | (u8::from(self.transfer) * Self::TRANSFER);
            out.extend_from_slice(&[Self::VERSION, flags]);
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`WireError::Length`] if it is too short, or has something behind it that is no extension.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        Self::read(&mut Reader(bytes)).ok_or(WireError::Length { what: "vote request", len: bytes.len() })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let [term, last_term, last_index] = [reader.u64()?, reader.u64()?, reader.u64()?];
        let candidate = reader.node()?;
        let flags = match reader.0 {
            [] => 0,
            [version, flags, ..] if *version >= Self::VERSION => *flags,
            _ => return None,
        };
        Some(VoteRequest {
            term,
            last_term,
            last_index,
            candidate,
            pre_vote: flags & Self::PRE_VOTE != 0,
            transfer: flags & Self::TRANSFER != 0,
        })
    }
}

/// The answer to a [`VoteRequest`].
///
/// Source: nats-server `server/raft.go`, `encode` of `voteResponse`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteResponse {
    /// The voter's term.
    pub term: u64,
    /// Who answers.
    pub peer: NodeId,
    /// Whether the candidate has its vote.
    pub granted: bool,
    /// Whether the voter's log is empty: such votes alone elect nobody while others have something.
    pub empty: bool,
    /// natrix: this answers a pre-vote, for the term that was asked about.
    pub pre_vote: bool,
}

impl VoteResponse {
    /// Its length in bytes.
    pub const LEN: usize = 17;
    const GRANTED: u8 = 1;
    const EMPTY: u8 = 2;
    const PRE_VOTE: u8 = 4;

    /// Appends the message.
    ///
    /// Shape: `term u64, peer [u8; 8], flags u8`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.term.to_le_bytes());
        out.extend_from_slice(&self.peer.0);
        out.push(
            (u8::from(self.granted) * Self::GRANTED)
                | (u8::from(self.empty) * Self::EMPTY)
                | (u8::from(self.pre_vote) * Self::PRE_VOTE),
        );
    }

    /// Reads a message.
    ///
    /// # Errors
    ///
    /// [`WireError::Length`] if it has another length.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() != Self::LEN {
            return Err(WireError::Length { what: "vote response", len: bytes.len() });
        }
        Self::read(&mut Reader(bytes)).ok_or(WireError::Length { what: "vote response", len: bytes.len() })
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let (term, peer, flags) = (reader.u64()?, reader.node()?, reader.u8()?);
        Some(VoteResponse {
            term,
            peer,
            granted: flags & Self::GRANTED != 0,
            empty: flags & Self::EMPTY != 0,
            pre_vote: flags & Self::PRE_VOTE != 0,
        })
    }
}
