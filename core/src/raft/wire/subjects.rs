//! The subjects over which a group's members talk, in the system account.
//!
//! Source: nats-server `server/raft.go`, `raftVoteSubj` and its neighbours.

use crate::rng::Rng;

/// The subjects of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSubjects {
    /// Requests for votes: `$NRG.V.<group>`.
    pub vote: String,
    /// Append entries: `$NRG.AE.<group>`.
    pub append: String,
    /// Proposals that are forwarded to the leader: `$NRG.P.<group>`.
    pub proposal: String,
    /// Removals of members that are forwarded to the leader: `$NRG.RP.<group>`.
    pub remove_peer: String,
}

impl GroupSubjects {
    /// Returns the subjects of the group called `name`.
    pub fn new(name: &str) -> Self {
        GroupSubjects {
            vote: format!("$NRG.V.{name}"),
            append: format!("$NRG.AE.{name}"),
            proposal: format!("$NRG.P.{name}"),
            remove_peer: format!("$NRG.RP.{name}"),
        }
    }
}

/// What is said on a subject under `$NRG.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectKind {
    /// Requests for votes.
    Vote,
    /// Append entries, and heartbeats.
    Append,
    /// A forwarded proposal: the bytes of the entry.
    Proposal,
    /// A forwarded removal: the member's 8 bytes.
    RemovePeer,
    /// Responses to votes and to append entries: which of the two, the length tells.
    Reply,
    /// Append entries for a member that is being caught up.
    CatchUp,
    /// Its responses.
    CatchUpProgress,
}

impl SubjectKind {
    /// Returns what is said on `subject`, and the name of the group or the inbox; `None` if it isn't a group's.
    pub fn parse(subject: &str) -> Option<(Self, &str)> {
        let (kind, name) = subject.strip_prefix("$NRG.")?.split_once('.')?;
        let kind = match kind {
            "V" => SubjectKind::Vote,
            "AE" => SubjectKind::Append,
            "P" => SubjectKind::Proposal,
            "RP" => SubjectKind::RemovePeer,
            "R" => SubjectKind::Reply,
            "CR" => SubjectKind::CatchUp,
            "CP" => SubjectKind::CatchUpProgress,
            _ => return None,
        };
        Some((kind, name))
    }
}

/// Returns a fresh inbox for answers: `prefix`, a dot, and eight base-62 characters.
pub fn inbox(rng: &mut Rng, kind: SubjectKind) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let prefix = match kind {
        SubjectKind::CatchUp => "$NRG.CR.",
        SubjectKind::CatchUpProgress => "$NRG.CP.",
        _ => "$NRG.R.",
    };
    let mut subject = prefix.to_owned();
    subject.extend((0..8).map(|_| char::from(DIGITS[rng.below(62) as usize])));
    subject
}
