//! One member alone, whose writes are done at once: for what it answers to single messages.

use crate::raft::group::{Config, Group, HardState, Message, Output, Record, Recovered, Start, WriteId};
use crate::raft::log::LogEntry;
use crate::raft::membership::Membership;
use crate::raft::wire::{
    AppendEntries, AppendExtension, AppendResponse, Entry, NodeId, ResponseExtension, VoteRequest,
    VoteResponse,
};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

pub(super) const A: NodeId = NodeId(*b"AAAAAAAA");
pub(super) const B: NodeId = NodeId(*b"BBBBBBBB");
pub(super) const C: NodeId = NodeId(*b"CCCCCCCC");

/// The member A of three, or of more, whose writes are done at once.
pub(super) struct Member {
    pub(super) group: Group,
    pub(super) now: Instant,
    pub(super) records: Vec<Record>,
}

/// A with a log of these terms, in `term`, having voted for `vote`.
pub(super) fn member(terms: &[u64], term: u64, vote: Option<NodeId>) -> Member {
    member_of(&[A, B, C], terms, term, vote)
}

pub(super) fn member_of(members: &[NodeId], terms: &[u64], term: u64, vote: Option<NodeId>) -> Member {
    let entries = terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect();
    let state = Some(HardState { term, vote, ..HardState::default() });
    let found = Box::new(Recovered { state, entries, ..Recovered::default() });
    let members = Membership::new(members.iter().copied());
    let start = Start::Recovered { found, members };
    let group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
    Member { group, now: Instant::ZERO, records: Vec::new() }
}

pub(super) fn entry(term: u64, index: u64) -> LogEntry {
    LogEntry { term, index, entry: Entry::normal(format!("{term}.{index}")) }
}

/// Entries of `leader` in `term` with these terms, behind `previous`; they all have the first one's.
pub(super) fn append(leader: NodeId, term: u64, previous: (u64, u64), terms: &[u64], commit: u64) -> Message {
    let entries = terms.iter().zip(previous.1 + 1..).map(|(term, index)| entry(*term, index).entry);
    Message::Append(AppendEntries {
        leader,
        term: terms.first().copied().unwrap_or(term),
        commit,
        previous_term: previous.0,
        previous_index: previous.1,
        entries: entries.collect(),
        leader_term: Some(term),
        extension: Some(AppendExtension { round: 1, sleep: false }),
    })
}

pub(super) fn vote(candidate: NodeId, term: u64, last: (u64, u64)) -> VoteRequest {
    VoteRequest { term, last_term: last.0, last_index: last.1, candidate, pre_vote: false, transfer: false }
}

pub(super) fn ack(peer: NodeId, term: u64, index: u64) -> Message {
    let extension = Some(ResponseExtension { round: 1, ..ResponseExtension::default() });
    Message::AppendReply(AppendResponse { term, index, peer, success: true, extension })
}

impl Member {
    /// Lets it hear a message, and returns what it says.
    pub(super) fn hears(&mut self, message: Message) -> Vec<Message> {
        self.group.handle_message(self.now, message);
        self.settle()
    }

    pub(super) fn settle(&mut self) -> Vec<Message> {
        let mut said = Vec::new();
        let mut writes = Vec::new();
        loop {
            while let Some(output) = self.group.poll_output() {
                match output {
                    Output::Send { message, .. } => said.push(message),
                    Output::Persist { id, record } => {
                        self.records.push(record);
                        writes.push(id);
                    }
                    Output::Apply(entries) => {
                        let last = entries.last().map_or(0, |entry| entry.index);
                        self.group.applied_through(self.now, last);
                    }
                    _ => {}
                }
            }
            match writes.pop() {
                Some(WriteId(last)) => self.group.persisted(self.now, WriteId(last)),
                None => return said,
            }
            writes.clear();
        }
    }

    pub(super) fn answer(&mut self, message: Message) -> AppendResponse {
        let said = self.hears(message);
        match said.last() {
            Some(Message::AppendReply(reply)) => *reply,
            other => panic!("an answer, not {other:?}"),
        }
    }

    pub(super) fn votes(&mut self, request: VoteRequest) -> Option<bool> {
        let said = self.hears(Message::Vote(request));
        said.iter().find_map(|message| match message {
            Message::VoteReply(reply) => Some(reply.granted),
            _ => None,
        })
    }

    pub(super) fn waits(&mut self, long: Duration) -> Vec<Message> {
        self.now += long;
        self.group.handle_timeout(self.now);
        self.settle()
    }

    /// Makes it lead, by the votes of `voters`.
    pub(super) fn leads(&mut self, voters: &[NodeId]) {
        self.waits(Duration::from_secs(2));
        for pre_vote in [true, false] {
            let term = self.group.term() + u64::from(pre_vote);
            for peer in voters {
                let reply = VoteResponse { term, peer: *peer, granted: true, empty: false, pre_vote };
                self.hears(Message::VoteReply(reply));
            }
        }
        assert!(self.group.is_leader());
    }

    pub(super) fn terms(&self) -> Vec<u64> {
        self.group.log().from(1, 99, usize::MAX).map(|entry| entry.term).collect()
    }
}

/// A, that lost what stood behind these terms, in `term`.
pub(super) fn damaged(terms: &[u64], term: u64) -> Member {
    let entries = terms.iter().zip(1..).map(|(term, index)| entry(*term, index)).collect();
    let state = Some(HardState { term, ..HardState::default() });
    let found = Box::new(Recovered { state, entries, lost: true, ..Recovered::default() });
    let start = Start::Recovered { found, members: Membership::new([A, B, C]) };
    let group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
    let mut member = Member { group, now: Instant::ZERO, records: Vec::new() };
    member.settle();
    member
}
