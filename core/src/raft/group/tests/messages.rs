//! What one member answers to messages that come late, twice, or from somebody who is wrong.

use bytes::Bytes;

use super::member::{A, B, C, Member, ack, append, damaged, entry, member, member_of, vote};
use crate::raft::group::chunk::{Chunk, SnapshotKey};
use crate::raft::group::{
    Config, Group, HardState, Message, Output, Record, Recovered, Role, Snapshot, Start,
};
use crate::raft::log::Place;
use crate::raft::membership::Membership;
use crate::raft::wire::{
    AppendResponse, Entry, EntryKind, NodeId, ResponseExtension, VoteRequest, VoteResponse,
};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

#[test]
fn entries_of_a_deposed_leader_are_refused_and_change_nothing() {
    let mut member = member(&[1, 1], 3, None);
    let reply = member.answer(append(B, 2, (1, 2), &[2], 2));
    assert_eq!((reply.term, reply.success), (3, false), "so that it learns of the later term");
    assert_eq!((member.terms(), member.group.commit(), member.group.leader()), (vec![1, 1], 0, None));
}

/// Found by the fuzzer: what such a leader sent behind the snapshot was put there, in a term that the log was past.
#[test]
fn a_leader_that_has_another_entry_where_a_snapshot_ends_is_not_followed() {
    let state = Some(HardState { term: 3, ..HardState::default() });
    let members = Membership::new([A, B, C]);
    let place = Place { term: 3, index: 1 };
    let snapshot = Some(Snapshot { place, members: members.clone(), data: Bytes::from_static(b"state") });
    let found = Box::new(Recovered { state, base: place, snapshot, ..Recovered::default() });
    let start = Start::Recovered { found, members };
    let group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
    let mut member = Member { group, now: Instant::ZERO, records: Vec::new() };
    member.settle();
    assert_eq!(member.hears(append(B, 3, (0, 0), &[2, 2], 2)), []);
    assert_eq!((member.terms(), member.group.commit()), (vec![], 1));
    let reply = member.answer(append(B, 3, (0, 0), &[3, 3], 2));
    assert_eq!((reply.success, reply.index, member.group.commit()), (true, 2, 2), "its own is taken");
}

#[test]
fn entries_are_acknowledged_once_they_are_durable() {
    let mut member = member(&[1], 1, None);
    member.group.handle_message(member.now, append(B, 1, (1, 1), &[1, 1], 0));
    let mut outputs = Vec::new();
    while let Some(output) = member.group.poll_output() {
        outputs.push(output);
    }
    assert!(!outputs.iter().any(|output| matches!(output, Output::Send { .. })), "{outputs:?}");
    let [.., Output::Persist { id, .. }] = outputs[..] else { panic!("{outputs:?}") };
    member.group.persisted(member.now, id);
    let said = member.settle();
    let [Message::AppendReply(reply)] = said[..] else { panic!("{said:?}") };
    assert_eq!((reply.success, reply.index), (true, 3));
}

#[test]
fn a_heartbeat_acknowledges_no_more_than_is_known_to_be_the_leaders() {
    let mut member = member(&[1, 1, 1], 1, None);
    assert_eq!(member.answer(append(B, 2, (1, 1), &[], 0)).index, 1);
}

#[test]
fn what_is_here_already_is_acknowledged_and_cuts_nothing_off() {
    let mut member = member(&[1, 1, 1], 1, None);
    let reply = member.answer(append(B, 1, (0, 0), &[1], 0));
    assert_eq!((reply.success, reply.index, member.terms()), (true, 1, vec![1, 1, 1]));
}

#[test]
fn entries_that_conflict_replace_all_from_there_on() {
    let mut member = member(&[1, 1, 1, 1], 1, None);
    let reply = member.answer(append(B, 2, (1, 2), &[2], 0));
    assert_eq!((reply.success, reply.index, member.terms()), (true, 3, vec![1, 1, 2]));
    assert!(member.records.contains(&Record::Truncate { from: 3 }));
}

#[test]
fn what_is_committed_is_never_cut_off() {
    let mut member = member(&[1, 1], 1, None);
    member.answer(append(B, 1, (1, 2), &[], 2));
    assert_eq!(member.group.commit(), 2);
    let said = member.hears(append(C, 2, (1, 1), &[2], 2));
    assert!(said.is_empty(), "{said:?}");
    assert_eq!((member.terms(), member.group.commit()), (vec![1, 1], 2));
}

#[test]
fn the_commit_index_never_goes_back_nor_beyond_what_is_the_leaders() {
    let mut member = member(&[1, 1, 1], 1, None);
    member.answer(append(B, 2, (1, 2), &[], 3));
    assert_eq!(member.group.commit(), 2, "the third may be another at the leader");
    member.answer(append(B, 2, (1, 2), &[], 1));
    assert_eq!(member.group.commit(), 2);
}

#[test]
fn a_gap_is_refused_and_says_what_is_wanted() {
    let mut member = member(&[1, 1], 1, None);
    let reply = member.answer(append(B, 2, (1, 5), &[2], 0));
    assert_eq!((reply.success, reply.index), (false, 3));
    let reply = member.answer(append(B, 2, (2, 2), &[2], 0));
    let extension = reply.extension.unwrap();
    assert_eq!((reply.index, extension.conflict_term, extension.conflict_index), (1, 1, 1));
}

#[test]
fn a_candidate_is_not_impressed_by_an_earlier_term_and_follows_its_own() {
    let mut member = member(&[1], 4, None);
    member.waits(Duration::from_secs(2));
    let promise = VoteResponse { term: 5, peer: B, granted: true, empty: false, pre_vote: true };
    member.hears(Message::VoteReply(promise));
    assert_eq!((member.group.role(), member.group.term()), (Role::Candidate, 5));
    let reply = member.answer(append(C, 4, (1, 1), &[1], 1));
    assert_eq!((reply.success, member.group.role(), member.group.term()), (false, Role::Candidate, 5));
    member.answer(append(C, 5, (1, 1), &[], 1));
    assert_eq!((member.group.role(), member.group.leader()), (Role::Follower, Some(C)));
    assert_eq!(member.group.vote(), Some(A), "its vote in that term stays");
}

#[test]
fn a_refused_vote_does_not_reset_the_time_out_and_may_shorten_it() {
    let mut member = member(&[1, 1], 1, None);
    let before = member.group.poll_timeout();
    assert_eq!(member.votes(vote(B, 2, (1, 1))), Some(false));
    assert!(member.group.poll_timeout() <= before);
    assert_eq!(
        (member.group.term(), member.group.vote()),
        (2, None),
        "the term is taken, the vote is not given"
    );
    assert!(member.group.poll_timeout().since(Instant::ZERO) <= Duration::from_millis(125));
}

#[test]
fn a_vote_is_given_once_in_a_term_and_repeated_to_the_same() {
    let mut member = member(&[1], 1, None);
    assert_eq!(member.votes(vote(B, 2, (1, 1))), Some(true));
    assert_eq!(member.votes(vote(C, 2, (1, 1))), Some(false));
    assert_eq!(member.votes(vote(B, 2, (1, 1))), Some(true));
    assert_eq!(member.votes(vote(C, 1, (1, 1))), Some(false), "an earlier term");
    assert_eq!(member.votes(vote(C, 3, (1, 1))), Some(true), "a later one is another matter");
}

#[test]
fn a_log_is_compared_by_its_last_term_first() {
    let mut member = member(&[1, 2], 2, None);
    assert_eq!(member.votes(vote(B, 3, (1, 9))), Some(false));
    assert_eq!(member.votes(vote(B, 3, (3, 1))), Some(true));
}

#[test]
fn who_hears_a_leader_votes_for_nobody_unless_the_leader_asks() {
    let mut member = member(&[1], 1, None);
    member.answer(append(B, 1, (1, 1), &[], 0));
    assert_eq!(member.votes(vote(C, 2, (1, 1))), None);
    assert_eq!(member.group.term(), 1);
    assert_eq!(member.votes(VoteRequest { pre_vote: true, ..vote(C, 2, (1, 1)) }), Some(false));
    assert_eq!(member.votes(VoteRequest { transfer: true, ..vote(C, 2, (1, 1)) }), Some(true));
}

#[test]
fn a_promise_is_forgotten() {
    let mut member = member(&[1], 1, None);
    for candidate in [B, C] {
        assert_eq!(member.votes(VoteRequest { pre_vote: true, ..vote(candidate, 2, (1, 1)) }), Some(true));
    }
    assert_eq!((member.group.term(), member.group.vote()), (1, None));
    assert!(member.records.is_empty());
}

#[test]
fn a_leader_commits_by_a_majority_of_all_members() {
    let five = [A, B, C, NodeId(*b"DDDDDDDD"), NodeId(*b"EEEEEEEE")];
    let mut member = member_of(&five, &[1], 1, None);
    member.leads(&[B, C]);
    member.hears(ack(B, 2, 2));
    member.hears(ack(B, 2, 2));
    assert_eq!(member.group.commit(), 0, "one of them twice is one");
    member.hears(ack(NodeId(*b"STRANGER"), 2, 2));
    assert_eq!(member.group.commit(), 0, "a stranger doesn't count");
    member.hears(ack(C, 2, 2));
    assert_eq!(member.group.commit(), 2);
}

#[test]
fn a_leader_commits_what_was_before_by_an_entry_of_its_own() {
    let mut member = member(&[1, 1], 1, None);
    member.leads(&[B]);
    member.hears(ack(B, 2, 2));
    assert_eq!(member.group.commit(), 0, "a majority has it, but it is of an earlier term");
    member.hears(ack(B, 2, 3));
    assert_eq!(member.group.commit(), 3);
}

#[test]
fn acknowledgements_of_another_term_or_to_nobody_in_charge_are_ignored() {
    let mut follower = member(&[1, 1], 2, None);
    follower.hears(ack(B, 2, 2));
    assert_eq!(follower.group.commit(), 0);
    let mut leader = member(&[1, 1], 1, None);
    leader.leads(&[B]);
    leader.hears(ack(B, 1, 3));
    assert_eq!(leader.group.commit(), 0);
    leader.hears(ack(B, 2, 99));
    assert_eq!(leader.group.commit(), 0, "nobody can have what there is not");
}

#[test]
fn a_later_term_in_an_answer_deposes_a_leader_and_takes_no_vote_along() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    let extension = Some(ResponseExtension::default());
    let reply = AppendResponse { term: 7, index: 0, peer: C, success: false, extension };
    member.hears(Message::AppendReply(reply));
    assert_eq!((member.group.role(), member.group.term(), member.group.vote()), (Role::Follower, 7, None));
}

#[test]
fn a_leader_that_steps_down_in_its_term_keeps_its_vote() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    member.waits(Duration::from_secs(2));
    assert_eq!((member.group.role(), member.group.term(), member.group.vote()), (Role::Follower, 2, Some(A)));
    assert_eq!(member.votes(vote(C, 2, (9, 9))), Some(false));
}

#[test]
fn votes_of_strangers_elect_nobody() {
    let mut member = member(&[1], 1, None);
    member.waits(Duration::from_secs(2));
    for name in [*b"STRANGER", *b"INTRUDER"] {
        let peer = NodeId(name);
        let promise = VoteResponse { term: 2, peer, granted: true, empty: false, pre_vote: true };
        member.hears(Message::VoteReply(promise));
    }
    assert_eq!((member.group.role(), member.group.term()), (Role::PreCandidate, 1));
}

#[test]
fn votes_of_those_who_may_have_lost_something_need_everybody() {
    let mut member = member(&[1], 1, None);
    member.waits(Duration::from_secs(2));
    for (peer, role) in [(B, Role::PreCandidate), (C, Role::Candidate)] {
        let promise = VoteResponse { term: 2, peer, granted: true, empty: true, pre_vote: true };
        member.hears(Message::VoteReply(promise));
        assert_eq!(member.group.role(), role);
    }
}

#[test]
fn a_leader_sends_a_member_what_it_asks_for() {
    let mut member = member(&[1, 1, 1], 1, None);
    member.leads(&[B]);
    let extension = ResponseExtension { rejected: 3, conflict_index: 1, ..ResponseExtension::default() };
    let reply = AppendResponse { term: 2, index: 2, peer: C, success: false, extension: Some(extension) };
    let said = member.hears(Message::AppendReply(reply));
    let sent = said.iter().find_map(|message| match message {
        Message::Append(append) => Some((append.previous_index, append.entries.len(), append.term)),
        _ => None,
    });
    assert_eq!(sent, Some((1, 2, 1)), "entries of one term, and the leader's own beside it");
}

#[test]
fn a_snapshot_says_who_the_members_were_not_who_they_may_become() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    member.hears(ack(B, 2, 2));
    member.group.remove_peer(member.now, C).unwrap();
    member.settle();
    assert_eq!(member.group.members().members().count(), 2);
    member.group.take_snapshot(member.now, 2, Bytes::from_static(b"state")).unwrap();
    member.settle();
    assert_eq!(member.group.snapshot().map(|snapshot| snapshot.members.members().count()), Some(3));
}

#[test]
fn a_request_to_lead_needs_an_equal_log() {
    let ask = |previous: (u64, u64)| {
        let Message::Append(mut append) = append(B, 1, previous, &[], 0) else { unreachable!() };
        append.entries = vec![Entry { kind: EntryKind::LeaderTransfer, data: Bytes::from_static(&A.0) }];
        Message::Append(append)
    };
    let mut behind = member(&[1], 1, None);
    behind.hears(ask((1, 2)));
    assert_eq!(behind.group.role(), Role::Follower);
    let mut equal = member(&[1, 1], 1, None);
    let said = equal.hears(ask((1, 2)));
    assert_eq!((equal.group.role(), equal.group.term()), (Role::Candidate, 2));
    assert!(said.iter().all(|message| matches!(message, Message::Vote(request) if request.transfer)));
    assert_eq!(equal.group.log().last(), Place { term: 1, index: 2 }, "the request is not an entry");
}

#[test]
fn a_term_outlives_the_loss_of_the_log() {
    let state = Some(HardState { term: 9, ..HardState::default() });
    let found = Recovered { state, lost: true, ..Recovered::default() };
    let start = Start::Recovered { found: Box::new(found), members: Membership::new([A, B, C]) };
    let group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
    assert_eq!((group.term(), group.in_doubt()), (9, true));
}

#[test]
fn an_entry_that_cannot_be_is_not_taken() {
    let mut member = member(&[1], 1, None);
    let Message::Append(mut append) = append(B, 1, (1, 1), &[1], 0) else { unreachable!() };
    append.entries[0] = Entry { kind: EntryKind::AddPeer, data: Bytes::from_static(b"short") };
    member.hears(Message::Append(append));
    assert_eq!(member.group.log().last().index, 1);
}

#[test]
fn doubt_about_the_log_ends_in_a_later_term_only() {
    let mut member = damaged(&[1, 2], 2);
    // What this leader says may be older than the loss.
    let reply = member.answer(append(B, 2, (2, 2), &[], 2));
    let extension = reply.extension.unwrap();
    assert_eq!((member.group.in_doubt(), extension.lost, extension.new_term), (true, true, true));
    let reply = member.answer(append(B, 3, (2, 2), &[3], 2));
    let extension = reply.extension.unwrap();
    assert_eq!((member.group.in_doubt(), extension.lost, extension.new_term), (true, true, false));
    member.answer(append(B, 3, (3, 3), &[], 3));
    assert!(!member.group.in_doubt());
}

#[test]
fn doubt_is_written_before_anything_else_and_survives_a_restart() {
    let member = damaged(&[1, 2], 2);
    let [Record::State(state)] = member.records[..] else { panic!("{:?}", member.records) };
    assert_eq!(state.lost_log, Some(2));
    let found = Box::new(Recovered { state: Some(state), ..Recovered::default() });
    let start = Start::Recovered { found, members: Membership::new([A, B, C]) };
    assert!(Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO).in_doubt());
}

#[test]
fn a_leader_begins_a_new_term_for_a_member_that_lost_something_in_this_one() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    let extension = ResponseExtension { lost: true, new_term: true, ..ResponseExtension::default() };
    let reply = AppendResponse { term: 2, index: 1, peer: C, success: false, extension: Some(extension) };
    let said = member.hears(Message::AppendReply(reply));
    assert_eq!((member.group.role(), member.group.term()), (Role::Candidate, 3));
    assert!(said.iter().any(|message| matches!(message, Message::Vote(request) if request.transfer)));
}

#[test]
fn a_snapshot_with_another_checksum_is_not_taken() {
    for (checksum, taken) in [(crc32c::crc32c(b"state"), true), (7, false)] {
        let mut member = member(&[1], 1, None);
        let key = SnapshotKey { place: Place { term: 2, index: 9 }, total: 5, checksum };
        let data = Bytes::from_static(b"state");
        let chunk = Chunk { key, members: Membership::new([A, B, C]), offset: 0, data };
        let Message::Append(mut append) = append(B, 2, (2, 9), &[], 9) else { unreachable!() };
        append.entries = vec![chunk.entry()];
        let reply = member.answer(Message::Append(append));
        assert_eq!(member.group.snapshot().is_some(), taken);
        let written = member.records.iter().any(|record| matches!(record, Record::Snapshot(_)));
        assert_eq!((written, reply.index), (taken, if taken { 9 } else { 0 }));
    }
}

#[test]
fn a_log_that_a_snapshot_replaces_is_replaced_on_disk_too() {
    let members = Membership::new([A, B, C]);
    let place = Place { term: 2, index: 9 };
    let snapshot = Some(Snapshot { place, members: members.clone(), data: Bytes::new() });
    let found = Recovered {
        state: Some(HardState { term: 2, ..HardState::default() }),
        snapshot,
        entries: vec![entry(1, 1)],
        ..Recovered::default()
    };
    let start = Start::Recovered { found: Box::new(found), members };
    let group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
    let mut member = Member { group, now: Instant::ZERO, records: Vec::new() };
    member.settle();
    assert_eq!((member.group.log().last(), member.group.commit()), (place, 9));
    assert!(member.records.contains(&Record::Reset { base: place }));
}
