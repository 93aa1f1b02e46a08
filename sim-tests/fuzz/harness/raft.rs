//! Any messages in any order to one member of a Raft group: it doesn't panic, and keeps to its own rules whatever it hears.
//!
//! Shared by a fuzz target of this folder and by tests of `natrix-core`. Whoever includes it provides `api`, the crate.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::api::raft::group::{Config, Group, Message, Output, ReadId, Record, Start, WriteId};
use super::api::raft::membership::Membership;
use super::api::raft::wire::{
    AppendEntries, AppendExtension, AppendResponse, Entry, EntryKind, NodeId, ResponseExtension, SubjectKind,
    VoteRequest, VoteResponse,
};
use super::api::rng::Rng;
use super::api::time::{Duration, Instant};

/// The nodes that there are; A is the member, D joins.
pub const NODES: [NodeId; 4] =
    [NodeId(*b"AAAAAAAA"), NodeId(*b"BBBBBBBB"), NodeId(*b"CCCCCCCC"), NodeId(*b"DDDDDDDD")];
const A: NodeId = NODES[0];

/// What is done to the member.
#[derive(Clone, Debug)]
pub enum Deed {
    /// It hears that.
    Hear(Message),
    /// So many milliseconds pass.
    Pass(u64),
    /// Somebody proposes.
    Propose,
    /// Somebody reads.
    Read,
    /// It is told to stand for election.
    Campaign,
    /// It is asked to hand over.
    StepDown(NodeId),
    /// It is asked to add one.
    Add(NodeId),
    /// It is asked to remove one.
    Remove(NodeId),
    /// It is asked for these members.
    Replace([bool; 4]),
    /// Its application has made a snapshot.
    Snapshot,
    /// Writes are done: so many of those that wait.
    Sync(usize),
    /// Its application lacks something, or does no more.
    Hole(bool),
    /// Its application takes nothing, or does again.
    Pause(bool),
    /// A node is silent.
    Suspect(NodeId),
    /// A node is heard again.
    Trust(NodeId),
}

/// The member, and what it has promised.
pub struct Watched {
    group: Group,
    now: Instant,
    waiting: Vec<WriteId>,
    votes: Vec<(u64, NodeId)>,
    term: u64,
    commit: u64,
    applied: u64,
    suspected: BTreeSet<NodeId>,
}

impl Watched {
    /// A member of three that has just been started for the first time.
    pub fn new() -> Self {
        let config = Config { sleep_after: Some(Duration::from_millis(300)), ..Config::default() };
        let start = Start::Fresh { members: Membership::new(NODES[..3].iter().copied()) };
        let group = Group::new(A, config, start, Rng::from_u64(1), Instant::ZERO);
        let (now, waiting, votes) = (Instant::ZERO, Vec::new(), Vec::new());
        let suspected = BTreeSet::new();
        let mut watched = Watched { group, now, waiting, votes, term: 0, commit: 0, applied: 0, suspected };
        watched.drain();
        watched
    }

    /// Does it, and looks whether the member is true to its rules.
    pub fn does(&mut self, deed: Deed) {
        let (group, now) = (&mut self.group, self.now);
        // Whether it takes a request is its own affair.
        match deed {
            Deed::Hear(message) => group.handle_message(now, message),
            Deed::Pass(ms) => {
                self.now += Duration::from_millis(ms);
                group.handle_timeout(self.now);
            }
            Deed::Propose => drop(group.propose(now, "x")),
            Deed::Read => drop(group.read(now, ReadId(1))),
            Deed::Campaign => drop(group.campaign(now)),
            Deed::StepDown(node) => drop(group.step_down(now, Some(node))),
            Deed::Add(node) => drop(group.add_peer(now, node)),
            Deed::Remove(node) => drop(group.remove_peer(now, node)),
            Deed::Replace(chosen) => {
                let nodes = NODES.into_iter().zip(chosen).filter(|(_, chosen)| *chosen);
                let _refused = group.replace_peers(now, nodes.map(|(node, _)| node).collect());
            }
            Deed::Snapshot => drop(group.take_snapshot(now, group.applied(), Bytes::from_static(b"state"))),
            Deed::Sync(count) => {
                let done = count.min(self.waiting.len());
                if let Some(id) = self.waiting.drain(..done).next_back() {
                    group.persisted(now, id);
                }
            }
            Deed::Hole(hole) => group.set_hole(now, hole),
            Deed::Pause(true) => group.pause_apply(),
            Deed::Pause(false) => group.resume_apply(),
            Deed::Suspect(node) => {
                self.suspected.insert(node);
                group.suspect(now, node);
            }
            Deed::Trust(node) => {
                self.suspected.remove(&node);
                group.trust(now, node);
            }
        }
        self.drain();
        self.look();
    }

    fn drain(&mut self) {
        while let Some(output) = self.group.poll_output() {
            match output {
                Output::Persist { id, record } => {
                    if let Record::Truncate { from } = record {
                        assert!(from > self.commit, "cut off {from}, committed {}", self.commit);
                    }
                    self.waiting.push(id);
                }
                Output::Apply(entries) => {
                    for entry in &entries {
                        assert_eq!(entry.index, self.applied + 1, "in order, each once");
                        self.applied = entry.index;
                    }
                    self.group.applied_through(self.now, self.applied);
                }
                Output::Restore(snapshot) => {
                    assert!(snapshot.place.index > self.applied, "never back");
                    self.applied = snapshot.place.index;
                }
                Output::Send { to, message } => self.said(to, &message),
                _ => {}
            }
        }
    }

    fn said(&mut self, to: NodeId, message: &Message) {
        let vote = match message {
            Message::VoteReply(reply) if reply.granted && !reply.pre_vote => (reply.term, to),
            Message::Vote(request) if !request.pre_vote => (request.term, A),
            Message::AppendReply(reply) if reply.success => {
                assert!(reply.index <= self.group.log().stable(), "only what is durable is acknowledged");
                return;
            }
            _ => return,
        };
        assert!(
            self.votes.iter().all(|(term, given)| *term != vote.0 || *given == vote.1),
            "{vote:?} after {:?}",
            self.votes
        );
        self.votes.push(vote);
    }

    fn look(&mut self) {
        let group = &self.group;
        let log = group.log();
        assert!(group.term() >= self.term && group.commit() >= self.commit, "terms and commit never fall");
        assert!(group.commit() <= log.last().index && log.stable() <= log.last().index);
        assert!(group.applied() <= group.delivered() && group.delivered() <= group.commit());
        assert!(group.snapshot().is_none_or(|snapshot| snapshot.place.index <= group.applied()));
        assert!(log.base().index <= group.applied());
        (self.term, self.commit) = (group.term(), group.commit());
        if group.is_asleep() {
            let last = log.last().index;
            assert_eq!(
                (group.commit(), group.applied(), log.stable()),
                (last, last, last),
                "nothing is to be done"
            );
            assert!(!group.in_doubt() && group.poll_timeout() == Instant::MAX);
            let suspected = group.members().members().any(|node| self.suspected.contains(&node));
            assert!(!suspected, "nobody sleeps whose leader may be gone");
        }
    }
}

/// The bytes of an input, taken one by one; behind its end are zeros.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    fn node(&mut self) -> NodeId {
        NODES[usize::from(self.byte() & 3)]
    }

    /// Small numbers, so that they meet; and sometimes one that none should believe.
    fn number(&mut self) -> u64 {
        match self.byte() {
            255 => u64::MAX - 1,
            byte => u64::from(byte % 8),
        }
    }

    fn bytes(&mut self) -> Bytes {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        Bytes::copy_from_slice(taken)
    }

    fn entry(&mut self) -> Entry {
        let members = |entry: Entry| (entry.kind, entry.data);
        let (kind, data) = match self.byte() % 8 {
            0..=2 => (EntryKind::Normal, self.bytes()),
            3 => (EntryKind::AddPeer, Bytes::copy_from_slice(&self.node().0)),
            4 => (EntryKind::RemovePeer, Bytes::copy_from_slice(&self.node().0)),
            5 => members(Membership::new([self.node(), self.node(), self.node()]).entry()),
            6 => {
                members(Membership::new([A, self.node()]).towards([self.node(), self.node()].into()).entry())
            }
            // A kind that is, or a piece of a snapshot.
            _ => match EntryKind::from_byte(self.byte()) {
                Some(EntryKind::SnapshotChunk) | None => (EntryKind::SnapshotChunk, self.piece()),
                Some(kind) => (kind, self.bytes()),
            },
        };
        Entry { kind, data }
    }

    /// A piece of a snapshot, which says what it is a piece of as `raft/group/chunk.rs` has it.
    fn piece(&mut self) -> Bytes {
        let members = Membership::new(NODES[..3].iter().copied()).entry();
        let (term, index, total) = (self.byte() & 7, self.byte() & 7, self.byte() & 7);
        let whole = crc32c::crc32c(&[7; 7][..usize::from(total)]);
        let checksum = if self.flag() { whole } else { 9 };
        let mut piece = vec![1, term, index, total];
        piece.extend(checksum.to_le_bytes());
        piece.extend([self.byte() & 7, members.kind as u8, members.data.len() as u8]);
        piece.extend_from_slice(&members.data);
        piece.extend_from_slice(&[7; 7][..usize::from(self.byte() & 7)]);
        piece.into()
    }

    fn append(&mut self) -> Message {
        let (leader, term, commit) = (self.node(), self.number(), self.number());
        let (previous_term, previous_index) = (self.number(), self.number());
        let entries = (0..self.byte() % 4).map(|_| self.entry()).collect();
        let leader_term = Some(self.number().max(term));
        let extension = Some(AppendExtension { round: self.number(), sleep: self.flag() });
        Message::Append(AppendEntries {
            leader,
            term,
            commit,
            previous_term,
            previous_index,
            entries,
            leader_term,
            extension,
        })
    }

    fn answer(&mut self) -> Message {
        let (term, index, peer, flags) = (self.number(), self.number(), self.node(), self.byte());
        let flag = |bit: u8| flags & (1 << bit) != 0;
        let extension = Some(ResponseExtension {
            round: self.number(),
            conflict_term: self.number(),
            conflict_index: self.number(),
            rejected: self.number(),
            snapshot_index: self.number(),
            snapshot_offset: self.number(),
            lost: flag(1),
            new_term: flag(2),
            asleep: flag(3),
            uncounted: flag(4),
        });
        Message::AppendReply(AppendResponse { term, index, peer, success: flag(0), extension })
    }

    fn vote(&mut self) -> Message {
        let (term, last_term, last_index) = (self.number(), self.number(), self.number());
        let (candidate, pre_vote, transfer) = (self.node(), self.flag(), self.flag());
        Message::Vote(VoteRequest { term, last_term, last_index, candidate, pre_vote, transfer })
    }

    fn voted(&mut self) -> Message {
        let (term, peer, granted) = (self.number(), self.node(), self.flag());
        Message::VoteReply(VoteResponse { term, peer, granted, empty: self.flag(), pre_vote: self.flag() })
    }

    /// Bytes as they come from the network; what can be read is written and read again.
    fn heard(&mut self) -> Option<Message> {
        let kinds = [SubjectKind::Vote, SubjectKind::Append, SubjectKind::Reply, SubjectKind::Proposal];
        let kind = kinds[usize::from(self.byte() & 3)];
        let message = Message::decode(kind, &self.bytes()).ok()?;
        let mut written = Vec::new();
        if message.encode(&mut written).is_ok() {
            let again = Message::decode(kind, &Bytes::from(written)).expect("what was written can be read");
            assert_eq!(format!("{message:?}"), format!("{again:?}"), "and means the same");
        }
        Some(message)
    }

    fn deed(&mut self) -> Option<Deed> {
        Some(match self.byte() % 32 {
            0..=5 => Deed::Hear(self.append()),
            6..=8 => Deed::Hear(self.answer()),
            9 | 10 => Deed::Hear(self.vote()),
            11..=13 => Deed::Hear(self.voted()),
            14 | 15 => Deed::Hear(self.heard()?),
            16 | 17 => Deed::Pass(u64::from(self.byte()) * 8),
            18 | 19 => Deed::Sync(usize::from(1 + (self.byte() & 3))),
            20 => Deed::Propose,
            21 => Deed::Read,
            22 => Deed::Campaign,
            23 => Deed::StepDown(self.node()),
            24 => Deed::Add(self.node()),
            25 => Deed::Remove(self.node()),
            26 => Deed::Replace([self.flag(), self.flag(), self.flag(), self.flag()]),
            27 => Deed::Snapshot,
            28 => Deed::Hole(self.flag()),
            29 => Deed::Pause(self.flag()),
            30 => Deed::Suspect(self.node()),
            _ => Deed::Trust(self.node()),
        })
    }
}

/// Does to a member what the input says; returns whether it came as far as to commit something.
pub fn check_group(data: &[u8]) -> bool {
    let (mut input, mut watched) = (Input(data), Watched::new());
    while !input.0.is_empty() {
        if let Some(deed) = input.deed() {
            watched.does(deed);
        }
    }
    watched.commit > 0
}
