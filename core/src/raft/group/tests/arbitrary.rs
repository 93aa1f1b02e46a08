//! Any messages in any order to one member: it doesn't panic, and keeps to its own rules whatever it hears.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use harness::{Deed, NODES, Watched};

use super::member::{A, B, C};
use crate as api;
use crate::raft::group::Message;
use crate::raft::group::chunk::{Chunk, SnapshotKey};
use crate::raft::log::Place;
use crate::raft::membership::Membership;
use crate::raft::wire::{
    AppendEntries, AppendExtension, AppendResponse, Entry, EntryKind, NodeId, ResponseExtension, VoteRequest,
    VoteResponse,
};

#[expect(unreachable_pub, reason = "a fuzz target shares it")]
#[path = "../../../../../sim-tests/fuzz/harness/raft.rs"]
mod harness;

fn node() -> impl Strategy<Value = NodeId> {
    (0..NODES.len()).prop_map(|node| NODES[node])
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
    let reply = (number(), number(), node(), any::<[bool; 5]>(), vec(number(), 6));
    let reply = reply.prop_map(|(term, index, peer, [success, lost, new_term, asleep, uncounted], rest)| {
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
            uncounted,
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_in_any_order_leave_a_member_true_to_its_rules(deeds in vec(deed(), 1..60)) {
        let mut watched = Watched::new();
        for deed in deeds {
            watched.does(deed);
        }
    }
}

/// The seeds of the fuzz target, on every build.
#[test]
fn the_seed_corpus_leaves_a_member_true_to_its_rules() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim-tests/fuzz/seeds/raft_group");
    let (mut seeds, mut committed) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        #[expect(clippy::disallowed_methods, reason = "a test's data")]
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        committed += usize::from(harness::check_group(&data));
    }
    assert!(
        seeds >= 20 && committed >= 10,
        "the corpus has gone: {committed} of {seeds} seeds commit something"
    );
}
