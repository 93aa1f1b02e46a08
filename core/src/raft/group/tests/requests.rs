//! What is asked of a member, by its owner or by way of others, at the wrong time.

use bytes::Bytes;

use super::member::{A, B, C, ack, append, entry, member, member_of, vote};
use super::run;
use crate::raft::group::{
    Config, Group, HardState, Message, Output, Record, Recovered, RequestError, Role, Snapshot, Start,
};
use crate::raft::log::Place;
use crate::raft::membership::Membership;
use crate::raft::wire::{AppendResponse, Entry, EntryKind, NodeId};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

const D: NodeId = NodeId(*b"DDDDDDDD");

#[test]
fn a_proposal_is_fenced_by_the_term_in_which_it_was_thought_of() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    let now = member.now;
    for term in [0, 1, 3] {
        let refused = member.group.propose_in_term(now, term, "x");
        assert_eq!(refused, Err(RequestError::NotLeader(Some(A))), "term {term}");
    }
    assert_eq!(member.group.propose_in_term(now, 2, "x"), Ok(Place { term: 2, index: 3 }));
    member.hears(ack(B, 2, 3));
    member.group.handle_message(member.now, append(C, 3, (2, 3), &[], 3));
    let mut deposed = Vec::new();
    while let Some(output) = member.group.poll_output() {
        deposed.extend(match output {
            Output::Deposed { term } => Some(term),
            _ => None,
        });
    }
    assert_eq!(deposed, [2], "the owner is told in which term");
    member.settle();
    member.leads(&[B]);
    assert_eq!(member.group.term(), 4);
    assert!(member.group.propose_in_term(member.now, 2, "late").is_err());
    assert!(member.group.propose_in_term(member.now, 4, "in time").is_ok());
}

#[test]
fn what_is_forwarded_to_a_leader_that_has_not_applied_what_was_before_is_dropped() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    member.hears(Message::Proposal(Bytes::from_static(b"early")));
    assert_eq!(member.group.log().last().index, 2);
    member.hears(ack(B, 2, 2));
    member.hears(Message::Proposal(Bytes::from_static(b"in time")));
    assert_eq!(member.group.log().last().index, 3);
}

#[test]
fn a_leader_that_hands_over_takes_nothing_from_that_moment_on() {
    run("group a b c
         elect a
         expect leading a
         cut a>b                     # so that it can't be over at once
         transfer b
         refuse a Transferring
         heal
         expect leader b
         is role a follower
         refuse a NotLeader");
}

#[test]
fn a_removal_that_is_forwarded_counts_like_one_that_is_asked_here() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    member.hears(Message::RemovePeer(C));
    assert_eq!(member.group.members().members().count(), 3, "nothing of the term is committed yet");
    member.hears(ack(B, 2, 2));
    member.hears(Message::RemovePeer(D));
    assert_eq!((member.group.members().members().count(), member.group.change_under_way()), (3, false));
    member.hears(Message::RemovePeer(C));
    assert_eq!((member.group.members().members().count(), member.group.change_under_way()), (2, true));
    member.hears(Message::RemovePeer(B));
    assert_eq!(member.group.members().members().count(), 2, "one change at a time");
}

#[test]
fn a_removal_that_was_found_in_the_log_holds_up_the_next() {
    let mut member = member(&[], 1, None);
    let Message::Append(mut removal) = append(B, 1, (0, 0), &[1], 0) else { unreachable!() };
    removal.entries = vec![Entry { kind: EntryKind::RemovePeer, data: Bytes::copy_from_slice(&C.0) }];
    member.hears(Message::Append(removal));
    member.leads(&[B]);
    member.hears(Message::RemovePeer(B));
    assert_eq!((member.group.members().members().count(), member.group.change_under_way()), (2, true));
}

#[test]
fn a_removal_waits_for_a_majority_of_those_who_stay() {
    run("group a b c
         elect a
         expect same
         cut a b
         remove c
         never members a b
         heal
         expect members a b
         expect removed c");
}

#[test]
fn a_leader_that_was_removed_does_not_come_back_by_being_heard() {
    let mut member = member(&[], 1, None);
    let Message::Append(mut removal) = append(B, 1, (0, 0), &[1], 0) else { unreachable!() };
    removal.entries = vec![Entry { kind: EntryKind::RemovePeer, data: Bytes::copy_from_slice(&B.0) }];
    member.hears(Message::Append(removal));
    member.hears(append(B, 1, (1, 1), &[], 1));
    member.hears(append(B, 1, (1, 1), &[], 1));
    assert_eq!(member.group.members().members().collect::<Vec<_>>(), [A, C]);
}

#[test]
fn a_node_that_is_no_member_does_not_stand_for_election() {
    let mut member = member_of(&[B, C], &[1], 1, None);
    member.hears(append(B, 1, (1, 1), &[], 1));
    assert!(member.waits(Duration::from_secs(3)).is_empty());
    assert_eq!((member.group.role(), member.group.leader()), (Role::Follower, None));
    let Message::Append(mut joins) = append(B, 1, (1, 1), &[1], 1) else { unreachable!() };
    joins.entries = vec![Entry { kind: EntryKind::AddPeer, data: Bytes::copy_from_slice(&A.0) }];
    member.hears(Message::Append(joins));
    member.waits(Duration::from_secs(3));
    assert_eq!(member.group.role(), Role::PreCandidate);
}

#[test]
fn all_know_of_a_node_whose_leader_was_cut_off_while_it_joined() {
    run("group a b c
         spare d
         elect a
         expect same
         drop b>a reply              # the change can't be committed
         drop c>a reply
         add d
         run 100ms
         isolate a
         expect role a follower
         expect leader
         expect members a b c d
         heal
         expect same
         is members a b c d");
}

#[test]
fn an_observer_that_may_lead_again_has_patience_first() {
    run("group a b c
         elect a
         observer a on
         observer b on
         observer c on
         crash a
         run 3000ms
         observer b off
         observer c off
         is no leader
         is role b follower
         is role c follower
         expect leader");
}

#[test]
fn a_candidate_that_finds_a_leader_tells_its_owner() {
    let mut member = member(&[1], 1, None);
    member.group.campaign(member.now).unwrap();
    member.waits(Duration::from_secs(1));
    assert_eq!(member.group.role(), Role::PreCandidate);
    member.group.handle_message(member.now, append(B, 1, (1, 1), &[1], 1));
    let mut told = false;
    while let Some(output) = member.group.poll_output() {
        told |= output == Output::Leader { term: 1, leader: Some(B) };
    }
    assert_eq!((told, member.group.role(), member.group.term()), (true, Role::Follower, 1));
}

#[test]
fn an_answer_of_a_later_term_costs_a_leader_its_place_and_nothing_else() {
    let mut member = member(&[1, 1], 1, None);
    member.leads(&[B]);
    member.group.propose(member.now, "x").unwrap();
    member.settle();
    member.hears(Message::AppendReply(AppendResponse {
        term: 9,
        index: 1,
        peer: C,
        success: false,
        extension: None,
    }));
    assert_eq!(
        (member.group.role(), member.group.term(), member.terms()),
        (Role::Follower, 9, vec![1, 1, 2, 2])
    );
}

#[test]
fn a_member_that_lost_nothing_votes_like_others_and_one_that_did_says_so() {
    let empty = |start| {
        let mut group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
        group.handle_message(Instant::ZERO, Message::Vote(vote(B, 1, (1, 1))));
        let mut votes = Vec::new();
        while let Some(output) = group.poll_output() {
            match output {
                Output::Persist { id, .. } => group.persisted(Instant::ZERO, id),
                Output::Send { message: Message::VoteReply(reply), .. } => {
                    votes.push((reply.granted, reply.empty));
                }
                _ => {}
            }
        }
        votes
    };
    let members = || Membership::new([A, B, C]);
    assert_eq!(empty(Start::Fresh { members: members() }), [(true, false)]);
    // Nobody has told it yet who the members are: its log is as empty as it always was.
    assert_eq!(empty(Start::Fresh { members: Membership::default() }), [(true, false)]);
    let found = Recovered { state: Some(HardState::default()), lost: true, ..Recovered::default() };
    assert_eq!(empty(Start::Recovered { found: Box::new(found), members: members() }), [(true, true)]);
}

#[test]
fn a_term_alone_is_an_empty_log() {
    let member = member(&[], 7, Some(B));
    assert_eq!((member.group.term(), member.group.log().last()), (7, Place::default()));
}

#[test]
fn a_disk_that_fails_to_cut_off_entries_takes_the_member_out() {
    let mut member = member(&[1, 1], 1, None);
    member.hears(append(B, 1, (1, 1), &[], 1));
    member.group.handle_message(member.now, append(C, 2, (1, 1), &[2], 1));
    member.group.disk_failed(member.now);
    assert!(member.hears(append(C, 2, (1, 1), &[2], 1)).is_empty(), "it promises nothing any more");
    assert_eq!((member.group.has_failed(), member.group.commit()), (true, 1));
}

/// A, started with a snapshot of this place, and a log that starts behind `base`, with these terms.
fn recovered(place: Place, base: Place, terms: &[u64]) -> Group {
    let members = Membership::new([A, B, C]);
    let found = Recovered {
        state: Some(HardState { term: 1, ..HardState::default() }),
        snapshot: Some(Snapshot { place, members: members.clone(), data: Bytes::new() }),
        base,
        entries: terms.iter().zip(base.index + 1..).map(|(term, index)| entry(*term, index)).collect(),
        applied: place.index,
        ..Recovered::default()
    };
    let start = Start::Recovered { found: Box::new(found), members };
    Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO)
}

#[test]
fn a_gap_between_snapshot_and_log_is_a_loss() {
    let mut group = recovered(Place { term: 1, index: 1 }, Place { term: 1, index: 3 }, &[1]);
    assert_eq!((group.in_doubt(), group.log().last(), group.applied()), (true, Place::default(), 1));
    assert!(
        std::iter::from_fn(|| group.poll_output())
            .any(|output| matches!(output, Output::Persist { record: Record::Reset { .. }, .. })),
        "what is on disk behind the gap must not be found again"
    );
}

#[test]
fn what_is_said_again_at_the_edge_of_a_snapshot_cuts_nothing_off() {
    for term in [1, 2] {
        let mut member = member(&[1], 1, None);
        member.hears(append(B, term, (1, 1), &[], 1));
        member.group.take_snapshot(member.now, 1, Bytes::from_static(b"x")).unwrap();
        member.settle();
        member.answer(append(B, term, (1, 1), &[term], 1));
        member.answer(append(B, term, (term, 2), &[term], 1));
        let reply = member.answer(append(B, term, (1, 1), &[term], 1));
        assert_eq!((reply.success, reply.index, member.group.log().last().index), (true, 3, 3));
        // Also what the snapshot stands for may be said again.
        let reply = member.answer(append(B, term, (0, 0), &[1], 1));
        assert_eq!((reply.success, member.group.log().last().index), (true, 3));
    }
}

#[test]
fn a_heartbeat_commits_across_the_edge_of_a_snapshot() {
    let edge = Place { term: 1, index: 2 };
    let mut group = recovered(edge, edge, &[1]);
    group.handle_message(Instant::ZERO, append(B, 1, (1, 3), &[], 3));
    let mut applied = Vec::new();
    while let Some(output) = group.poll_output() {
        match output {
            Output::Apply(entries) => applied.extend(entries.iter().map(|entry| entry.index)),
            Output::Persist { id, .. } => group.persisted(Instant::ZERO, id),
            _ => {}
        }
    }
    assert_eq!((group.commit(), applied, group.log().last().index), (3, vec![3], 3));
}

#[test]
fn a_snapshot_stays_when_what_stood_behind_it_is_cut_off() {
    let mut member = member(&[], 1, None);
    member.hears(append(B, 1, (0, 0), &[1, 1, 1], 3));
    member.group.take_snapshot(member.now, 3, Bytes::from_static(b"state")).unwrap();
    member.settle();
    member.leads(&[C]);
    assert_eq!(member.group.log().last(), Place { term: 2, index: 4 });
    // B leads again, and never had that entry.
    member.answer(append(B, 3, (1, 3), &[3], 3));
    assert_eq!(member.group.log().last(), Place { term: 3, index: 4 });
    assert_eq!(member.group.snapshot().map(|snapshot| snapshot.place), Some(Place { term: 1, index: 3 }));
    assert_eq!((member.group.commit(), member.group.applied()), (3, 3));
}

#[test]
fn a_snapshot_may_be_made_while_entries_come_and_the_latest_stays() {
    let mut member = member(&[], 1, None);
    member.hears(append(B, 1, (0, 0), &[1, 1], 1));
    let now = member.now;
    let takes = |group: &mut Group, index| group.take_snapshot(now, index, Bytes::from_static(b"x"));
    assert_eq!(takes(&mut member.group, 2), Err(RequestError::Member), "it isn't applied");
    // The application copied its state at 1, and is handed more while it writes that down.
    member.hears(append(B, 1, (1, 2), &[1, 1], 3));
    assert_eq!((takes(&mut member.group, 1), member.settle().is_empty()), (Ok(()), false));
    assert_eq!(member.group.snapshot().map(|snapshot| snapshot.place.index), Some(1));
    assert_eq!(takes(&mut member.group, 1), Err(RequestError::Member), "nothing was applied since");
    assert_eq!(takes(&mut member.group, 3), Ok(()));
    assert_eq!(takes(&mut member.group, 2), Err(RequestError::Member), "a later one is being written");
    member.settle();
    assert_eq!(member.group.snapshot().map(|snapshot| snapshot.place.index), Some(3));
    assert_eq!((member.group.log().last().index, member.group.commit()), (4, 3));
    member.group.disk_failed(now);
    assert_eq!(takes(&mut member.group, 3), Err(RequestError::Failed));
}

#[test]
fn an_application_never_says_that_it_has_applied_what_it_was_not_handed() {
    let mut member = member(&[], 1, None);
    member.group.pause_apply();
    member.hears(append(B, 1, (0, 0), &[1, 1], 2));
    member.group.applied_through(member.now, 2);
    assert_eq!((member.group.commit(), member.group.applied()), (2, 0));
    member.group.resume_apply();
    member.settle();
    member.group.applied_through(member.now, 9);
    assert_eq!(member.group.applied(), 2);
}

#[test]
fn an_application_that_is_busy_with_a_snapshot_is_handed_the_rest_after() {
    run("group a b c
         elect a
         crash c
         propose first second
         expect commit a 3
         snapshot a
         expect base a 3
         start c
         expect applied c first second
         pause c                     # as it fetches what the snapshot only names
         hole c on
         propose third
         expect commit c 4
         is applied c first second
         hole c off
         resume c
         expect applied c first second third");
}
