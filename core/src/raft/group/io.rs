//! What goes into a [`Group`](super::Group) and comes out of it, as plain values.

use bytes::Bytes;

use super::chunk::Chunk;
use crate::raft::log::{LogEntry, Place};
use crate::raft::membership::Membership;
use crate::raft::wire::{
    AppendEntries, AppendResponse, Entry, NodeId, SubjectKind, VoteRequest, VoteResponse, WireError,
};

/// What members say to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A request for a vote, or for the promise of one.
    Vote(VoteRequest),
    /// The answer.
    VoteReply(VoteResponse),
    /// Entries, a heartbeat, a piece of a snapshot, or the request to lead at once.
    Append(AppendEntries),
    /// The answer.
    AppendReply(AppendResponse),
    /// A proposal that a follower got.
    Proposal(Bytes),
    /// A removal that a follower was asked for.
    RemovePeer(NodeId),
}

impl Message {
    /// Returns on what kind of subject it is said.
    pub fn subject(&self) -> SubjectKind {
        match self {
            Message::Vote(_) => SubjectKind::Vote,
            Message::Append(_) => SubjectKind::Append,
            Message::VoteReply(_) | Message::AppendReply(_) => SubjectKind::Reply,
            Message::Proposal(_) => SubjectKind::Proposal,
            Message::RemovePeer(_) => SubjectKind::RemovePeer,
        }
    }

    /// Returns the term that it claims for its sender; `None` where it claims none.
    pub fn term(&self) -> Option<u64> {
        match self {
            Message::Vote(request) => (!request.pre_vote).then_some(request.term),
            Message::VoteReply(reply) => (!(reply.pre_vote && reply.granted)).then_some(reply.term),
            Message::Append(append) => Some(append.leader_term.unwrap_or(append.term)),
            Message::AppendReply(reply) => Some(reply.term),
            Message::Proposal(_) | Message::RemovePeer(_) => None,
        }
    }

    /// Returns whether any member could have said it: terms and indexes that no group reaches are not believed, nor
    /// entries of a term before that of the entry that they follow, or entries and snapshots of one after that of the leader.
    pub(super) fn is_possible(&self) -> bool {
        // So far below the highest number that none of what is counted from it can overflow.
        const MOST: u64 = 1 << 62;
        match self {
            Message::Vote(request) => request.term.max(request.last_term).max(request.last_index) < MOST,
            Message::VoteReply(reply) => reply.term < MOST,
            Message::AppendReply(reply) => reply.term.max(reply.index) < MOST,
            Message::Append(append) => {
                let leads = append.leader_term.unwrap_or(append.term);
                let last = append.previous_index.max(append.commit);
                let chunk = chunk_of(&append.entries).map(|chunk| chunk.key.place).unwrap_or_default();
                let ordered = append.entries.is_empty() || append.previous_term <= append.term;
                ordered
                    && append.term.max(chunk.term) <= leads
                    && append.previous_term <= leads
                    && leads.max(last).max(chunk.index) < MOST
            }
            Message::Proposal(_) | Message::RemovePeer(_) => true,
        }
    }

    /// Appends the message's bytes to `out`.
    ///
    /// # Errors
    ///
    /// [`WireError::TooLarge`] if the format can't say it; a [`Group`](super::Group) makes no such message.
    pub fn encode(&self, out: &mut Vec<u8>) -> Result<(), WireError> {
        match self {
            Message::Vote(request) => request.encode(out),
            Message::VoteReply(reply) => reply.encode(out),
            Message::Append(append) => append.encode(out)?,
            Message::AppendReply(reply) => reply.encode(out),
            Message::Proposal(data) => out.extend_from_slice(data),
            Message::RemovePeer(node) => out.extend_from_slice(&node.0),
        }
        Ok(())
    }

    /// Reads what was said on a subject of `kind`; entries share `bytes`.
    ///
    /// # Errors
    ///
    /// [`WireError`] if it is no such message.
    pub fn decode(kind: SubjectKind, bytes: &Bytes) -> Result<Self, WireError> {
        Ok(match kind {
            SubjectKind::Vote => Message::Vote(VoteRequest::decode(bytes)?),
            SubjectKind::Append | SubjectKind::CatchUp => Message::Append(AppendEntries::decode(bytes)?),
            SubjectKind::Reply if bytes.len() == VoteResponse::LEN => {
                Message::VoteReply(VoteResponse::decode(bytes)?)
            }
            SubjectKind::Reply | SubjectKind::CatchUpProgress => {
                Message::AppendReply(AppendResponse::decode(bytes)?)
            }
            SubjectKind::Proposal => Message::Proposal(bytes.clone()),
            SubjectKind::RemovePeer => {
                let name = <[u8; NodeId::LEN]>::try_from(&bytes[..]);
                let name =
                    name.map_err(|_| WireError::Length { what: "removal of a peer", len: bytes.len() })?;
                Message::RemovePeer(NodeId(name))
            }
        })
    }
}

/// Names a write; writes are numbered in the order in which they are to be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WriteId(pub u64);

/// What a member has promised, and what it knows: its term, who has its vote there, and through where the log is
/// committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The highest term that it has seen.
    pub term: u64,
    /// Who has its vote in that term.
    pub vote: Option<NodeId>,
    /// Through which index it knew the log to be committed, when this was written.
    pub commit: u64,
    /// It may have lost entries, and has not been brought up to date since: the highest term in which it may have said
    /// that it had them.
    pub lost_log: Option<u64>,
    /// It may have lost its vote, and not every other member has named its term since.
    pub lost_vote: bool,
}

/// The application's state in place of the log through `place`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// What it stands for.
    pub place: Place,
    /// Who the members were there.
    pub members: Membership,
    /// The application's bytes.
    pub data: Bytes,
}

/// Something to be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// Replaces the state before.
    State(HardState),
    /// Entries behind the last.
    Append {
        /// The entries, in order.
        entries: Vec<LogEntry>,
        /// What was known to be committed; saves a state of its own.
        commit: u64,
    },
    /// The entries from this index on are not part of the log any more.
    Truncate {
        /// The first of them.
        from: u64,
    },
    /// Replaces the snapshot before, at once or not at all. The log stays.
    Snapshot(Snapshot),
    /// The entries through `base`, which is in the log, are not needed any more; comes after the snapshot that stands for
    /// them is durable.
    Compact {
        /// Behind which the log starts.
        base: Place,
    },
    /// The log is empty and starts behind `base`, wherever it was before.
    Reset {
        /// Behind which the log starts.
        base: Place,
    },
}

/// Names a read; the caller chooses it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReadId(pub u64);

/// What a group asks of its owner, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a message. It may be lost, doubled, or overtaken.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Make a record durable, after all before it, and then call [`Group::persisted`](super::Group::persisted).
    Persist {
        /// Its number.
        id: WriteId,
        /// What.
        record: Record,
    },
    /// Apply committed entries, in order; the state then is what every member's is after the same entries.
    Apply(Vec<LogEntry>),
    /// Replace the application's state by a snapshot.
    Restore(Snapshot),
    /// Hand in a snapshot when it suits: the log has become long.
    WantSnapshot,
    /// Somebody else leads, or nobody.
    Leader {
        /// In which term.
        term: u64,
        /// Who; may be this member, see [`Output::Leading`].
        leader: Option<NodeId>,
    },
    /// This member leads, and has handed out everything that leaders before it committed.
    Leading {
        /// In which term.
        term: u64,
    },
    /// This member does not lead any more.
    Deposed {
        /// The term in which it did.
        term: u64,
    },
    /// No majority can be heard, or one again.
    Quorum {
        /// Whether there is one.
        present: bool,
    },
    /// The read may be answered from the state that has `index` applied.
    ReadReady {
        /// Which read.
        id: ReadId,
        /// What has to be applied first.
        index: u64,
    },
    /// The read can't be answered here any more; ask the next leader.
    ReadFailed {
        /// Which read.
        id: ReadId,
    },
    /// A change of the members is committed.
    Members(Membership),
    /// Adding a member was given up: it did not catch up in time.
    AddFailed {
        /// Who.
        node: NodeId,
    },
    /// This member was removed, and its removal is committed.
    Removed,
}

/// Why a proposal, a change or a read was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// This member doesn't lead; who does, as far as it knows.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// Too much waits to be committed or applied; try again later.
    #[error("too much is waiting to be committed")]
    Busy,
    /// Leadership is being handed over.
    #[error("leadership is being handed over")]
    Transferring,
    /// A change of the members is under way, or nothing is committed yet in this term.
    #[error("a membership change is under way")]
    ChangeUnderWay,
    /// The node is a member already, or is not one.
    #[error("not such a member")]
    Member,
    /// A group has at least one member.
    #[error("can't remove the last member")]
    LastMember,
    /// The entry is longer than the format can say, or than the group takes.
    #[error("too large")]
    TooLarge,
    /// The disk failed; this member takes no part any more.
    #[error("the disk failed")]
    Failed,
}

/// What was found of a member when it starts.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Term, vote and commit; `None` if there should be one and both copies are unreadable.
    pub state: Option<HardState>,
    /// The snapshot, if there is one.
    pub snapshot: Option<Snapshot>,
    /// Behind which the log starts.
    pub base: Place,
    /// The log, consecutive from `base`, up to the first damage.
    pub entries: Vec<LogEntry>,
    /// Whether log or snapshot may lack something that this member said it had. Need be said once only: the member
    /// writes it down.
    pub lost: bool,
    /// Through which index the application has applied, durably.
    pub applied: u64,
}

/// How a member starts.
#[derive(Clone, Debug)]
pub enum Start {
    /// The group is new, and so is this member: it never promised anything.
    Fresh {
        /// Who the members are; none for a member that is to be added to a group.
        members: Membership,
    },
    /// It was here before.
    Recovered {
        /// What is left.
        found: Box<Recovered>,
        /// Who the members were when the group was made.
        members: Membership,
    },
}

/// Returns whether `entry` is a piece of a snapshot, read.
pub(super) fn chunk_of(entries: &[Entry]) -> Option<Chunk> {
    match entries {
        [only] => Chunk::decode(only),
        _ => None,
    }
}
