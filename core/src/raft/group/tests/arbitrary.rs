//! Any messages in any order to one member: it doesn't panic, and keeps to its own rules whatever it hears.

use std::collections::BTreeSet;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::member::{A, B, C};
use crate::raft::group::chunk::{Chunk, SnapshotKey};
use crate::raft::group::{Config, Group, Message, Output, ReadId, Record, Start, WriteId};
use crate::raft::log::Place;
use crate::raft::membership::Membership;
use crate::raft::wire::{
    AppendEntries, AppendExtension, AppendResponse, Entry, EntryKind, NodeId, ResponseExtension, VoteRequest,
    VoteResponse,
};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

const D: NodeId = NodeId(*b"DDDDDDDD");

/// What is done to the member.
#[derive(Clone, Debug)]
enum Deed {
    Hear(Message),
    Pass(u64),
    Propose,
    Read,
    Campaign,
    StepDown(NodeId),
    Add(NodeId),
    Remove(NodeId),
    Replace([bool; 4]),
    Snapshot,
    /// Writes are done: so many of those that wait.
    Sync(usize),
    Hole(bool),
    Pause(bool),
    Suspect(NodeId),
    Trust(NodeId),
}

fn node() -> impl Strategy<Value = NodeId> {
    prop_oneof![Just(A), Just(B), Just(C), Just(D)]
}

/// Small numbers, so that they meet; and sometimes one that none should believe.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![20 => 0..6u64, 1 => Just(u64::MAX - 1)]
}

fn entry() -> impl Strategy<Value = Entry> {
    let name = |kind: EntryKind| node().prop_map(move |node| (kind, node.0.to_vec()));
    let members = vec(node(), 0..4).prop_map(|nodes| {
        let entry = Membership::new(nodes).entry();
        (entry.kind, entry.data.to_vec())
    });
    let joint = (vec(node(), 1..3), vec(node(), 1..3)).prop_map(|(from, to)| {
        let entry = Membership::new(from).towards(to.into_iter().collect()).entry();
        (entry.kind, entry.data.to_vec())
    });
    let chunk = (number(), number(), 0..6u64, 0..6u64, any::<bool>()).prop_map(
        |(term, index, total, offset, whole)| {
            let checksum = if whole { crc32c::crc32c(&vec![7; total as usize]) } else { 9 };
            let key = SnapshotKey { place: Place { term, index }, total, checksum };
            let members = Membership::new([A, B, C]);
            let entry = Chunk { key, members, offset, data: Bytes::from_static(&[7; 3]) }.entry();
            (entry.kind, entry.data.to_vec())
        },
    );
    let kind = prop_oneof![
        6 => vec(any::<u8>(), 0..4).prop_map(|data| (EntryKind::Normal, data)),
        1 => name(EntryKind::AddPeer),
        1 => name(EntryKind::RemovePeer),
        1 => name(EntryKind::LeaderTransfer),
        1 => members,
        1 => joint,
        1 => chunk,
        1 => vec(any::<u8>(), 0..12).prop_map(|data| (EntryKind::JointPeers, data)),
        1 => vec(any::<u8>(), 0..12).prop_map(|data| (EntryKind::SnapshotChunk, data)),
    ];
    kind.prop_map(|(kind, data)| Entry { kind, data: data.into() })
}

fn message() -> impl Strategy<Value = Message> {
    let append =
        (node(), number(), number(), (number(), number()), vec(entry(), 0..4), number(), any::<bool>());
    let append = append.prop_map(|(leader, term, commit, previous, entries, leads, sleep)| {
        Message::Append(AppendEntries {
            leader,
            term,
            commit,
            previous_term: previous.0,
            previous_index: previous.1,
            entries,
            leader_term: Some(leads.max(term)),
            extension: Some(AppendExtension { round: 1, sleep }),
        })
    });
    let reply = (number(), number(), node(), any::<[bool; 4]>(), vec(number(), 6));
    let reply = reply.prop_map(|(term, index, peer, [success, lost, new_term, asleep], rest)| {
        let extension = Some(ResponseExtension {
            round: rest[0],
            conflict_term: rest[1],
            conflict_index: rest[2],
            rejected: rest[3],
            snapshot_index: if rest[4] > 3 { rest[4] } else { 0 },
            snapshot_offset: rest[5],
            lost,
            new_term,
            asleep,
        });
        Message::AppendReply(AppendResponse { term, index, peer, success, extension })
    });
    let vote = (number(), number(), number(), node(), any::<[bool; 2]>());
    let vote = vote.prop_map(|(term, last_term, last_index, candidate, [pre_vote, transfer])| {
        Message::Vote(VoteRequest { term, last_term, last_index, candidate, pre_vote, transfer })
    });
    let voted =
        (number(), node(), any::<[bool; 3]>()).prop_map(|(term, peer, [granted, empty, pre_vote])| {
            Message::VoteReply(VoteResponse { term, peer, granted, empty, pre_vote })
        });
    prop_oneof![
        6 => append,
        4 => reply,
        3 => vote,
        4 => voted,
        1 => Just(Message::Proposal(Bytes::from_static(b"x"))),
        1 => node().prop_map(Message::RemovePeer),
    ]
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        20 => message().prop_map(Deed::Hear),
        4 => (0..1500u64).prop_map(Deed::Pass),
        6 => (1..5usize).prop_map(Deed::Sync),
        2 => Just(Deed::Propose),
        1 => Just(Deed::Read),
        1 => Just(Deed::Campaign),
        1 => node().prop_map(Deed::StepDown),
        1 => node().prop_map(Deed::Add),
        1 => node().prop_map(Deed::Remove),
        1 => any::<[bool; 4]>().prop_map(Deed::Replace),
        1 => Just(Deed::Snapshot),
        1 => any::<bool>().prop_map(Deed::Hole),
        1 => any::<bool>().prop_map(Deed::Pause),
        1 => node().prop_map(Deed::Suspect),
        2 => node().prop_map(Deed::Trust),
    ]
}

/// The member, and what it has promised.
struct Watched {
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
    fn new() -> Self {
        let config = Config { sleep_after: Some(Duration::from_millis(300)), ..Config::default() };
        let start = Start::Fresh { members: Membership::new([A, B, C]) };
        let group = Group::new(A, config, start, Rng::from_u64(1), Instant::ZERO);
        let (now, waiting, votes) = (Instant::ZERO, Vec::new(), Vec::new());
        Watched { group, now, waiting, votes, term: 0, commit: 0, applied: 0, suspected: BTreeSet::new() }
    }

    fn does(&mut self, deed: Deed) {
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
                let nodes = [A, B, C, D].into_iter().zip(chosen).filter(|(_, chosen)| *chosen);
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_in_any_order_leave_a_member_true_to_its_rules(deeds in vec(deed(), 1..60)) {
        let mut watched = Watched::new();
        watched.drain();
        for deed in deeds {
            watched.does(deed);
        }
    }
}
