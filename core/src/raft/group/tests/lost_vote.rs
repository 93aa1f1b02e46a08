//! A member that lost its vote may have elected a leader of a later term: what it says until it knows. And whose words are
//! a sign of life.

use crate::raft::group::recovery::FORGOTTEN_TERMS;
use crate::raft::group::{Config, Group, Message, Recovered, Start};
use crate::raft::membership::Membership;
use crate::raft::wire::{AppendResponse, NodeId, ResponseExtension, VoteRequest, VoteResponse};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

use super::member::{A, B, C, Member, ack, append, entry, member};

/// A, whose log has one entry of term 1, and whose term and vote are unreadable.
fn voteless() -> Member {
    let found = Recovered { state: None, entries: vec![entry(1, 1)], ..Recovered::default() };
    let start = Start::Recovered { found: Box::new(found), members: Membership::new([A, B, C]) };
    let group = Group::new(A, Config::default(), start, Rng::from_u64(1), Instant::ZERO);
    let mut member = Member { group, now: Instant::ZERO, records: Vec::new() };
    member.settle();
    member
}

/// Waits until it asks the others for their terms, and returns its question.
fn question(member: &mut Member) -> u64 {
    let said = member.waits(Duration::from_secs(2));
    let asked = said.iter().find_map(|message| match message {
        Message::Vote(request) if request.pre_vote && request.term == 0 => Some(request.last_index),
        _ => None,
    });
    asked.expect("it asks")
}

fn name(peer: NodeId, term: u64, question: u64) -> Message {
    let extension = ResponseExtension { round: question, uncounted: true, ..ResponseExtension::default() };
    Message::AppendReply(AppendResponse { term, index: 0, peer, success: false, extension: Some(extension) })
}

fn uncounted(reply: AppendResponse) -> bool {
    reply.extension.is_some_and(|extension| extension.uncounted)
}

#[test]
fn until_all_have_named_their_terms_its_acknowledgements_count_for_nothing() {
    let mut member = voteless();
    // B leads term 2; it may have elected C in term 3.
    let reply = member.answer(append(B, 2, (1, 1), &[2], 1));
    assert!(reply.success && reply.index == 2 && uncounted(reply));
    let question = question(&mut member);
    member.hears(name(B, 2, question));
    let reply = member.answer(append(B, 2, (2, 2), &[], 1));
    assert!(uncounted(reply), "C has not spoken");
    member.hears(name(C, 3, question));
    let term = 3 + FORGOTTEN_TERMS;
    assert_eq!((member.group.in_doubt(), member.group.term()), (false, term));
    let reply = member.answer(append(C, 3, (1, 1), &[3], 1));
    assert!(
        !reply.success && reply.term == term,
        "C may have forgotten a term of its own, and has to lead a later one"
    );
    let reply = member.answer(append(C, term + 1, (1, 1), &[3], 1));
    assert!(reply.success && !uncounted(reply));
}

/// Two members that lost their votes, one after the other: B stood for election in term 2, had A's vote, and has forgotten it;
/// A has forgotten it too. A must not give its vote in that term to C: the first may still reach B, who stands again.
/// (Seed 35369 of the simulator.)
#[test]
fn it_votes_in_no_term_that_others_may_have_forgotten() {
    let mut member = voteless();
    let question = question(&mut member);
    for peer in [B, C] {
        member.hears(name(peer, 1, question));
    }
    assert!(!member.group.in_doubt());
    let request =
        VoteRequest { term: 2, last_term: 1, last_index: 1, candidate: C, pre_vote: false, transfer: false };
    let said = member.hears(Message::Vote(request));
    let granted = |message: &Message| matches!(message, Message::VoteReply(reply) if reply.granted);
    assert!(!said.iter().any(granted), "{said:?}");
}

#[test]
fn what_was_said_before_it_asked_names_no_term() {
    let mut member = voteless();
    let question = question(&mut member);
    for peer in [B, C] {
        member.hears(name(peer, 1, question + 1));
        let refusal = VoteResponse { term: 1, peer, granted: false, empty: false, pre_vote: true };
        member.hears(Message::VoteReply(refusal));
        member.hears(append(peer, 1, (1, 1), &[], 0));
    }
    assert!(member.group.in_doubt());
}

#[test]
fn a_term_is_named_with_the_question() {
    let mut asking = voteless();
    asking.waits(Duration::from_secs(2));
    let said = asking.waits(Duration::from_secs(2));
    let request = said.into_iter().find(|message| matches!(message, Message::Vote(_))).expect("it asks");
    let Message::Vote(mut vote) = request else { unreachable!() };
    vote.candidate = B;
    let reply = member(&[1], 7, None).answer(Message::Vote(vote));
    let round = reply.extension.map(|extension| extension.round);
    assert_eq!((reply.term, reply.success, round), (7, false, Some(vote.last_index)));
}

#[test]
fn it_does_not_stand_for_election() {
    let mut member = voteless();
    member.waits(Duration::from_secs(2));
    let said = member.waits(Duration::from_secs(2));
    assert!(said.iter().all(|message| matches!(message, Message::Vote(request) if request.term == 0)));
}

#[test]
fn what_it_cuts_off_meanwhile_it_says_to_have_lost() {
    let mut member = voteless();
    member.answer(append(B, 2, (0, 0), &[2], 0));
    assert_eq!(member.terms(), [2]);
    let question = question(&mut member);
    for peer in [B, C] {
        member.hears(name(peer, 2, question));
    }
    let reply = member.answer(append(B, 3 + FORGOTTEN_TERMS, (2, 1), &[], 0));
    let extension = reply.extension.unwrap();
    assert_eq!((extension.uncounted, extension.lost, extension.new_term), (false, true, false));
}

#[test]
fn an_answer_that_does_not_count_commits_nothing_and_is_sent_more() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    let Message::AppendReply(mut reply) = ack(B, 2, 2) else { unreachable!() };
    reply.extension = Some(ResponseExtension { round: 1, uncounted: true, ..ResponseExtension::default() });
    member.hears(Message::AppendReply(reply));
    assert_eq!(member.group.commit(), 0);
    member.group.propose(member.now, "x").unwrap();
    let said = member.settle();
    let sent = |message: &Message| matches!(message, Message::Append(append) if append.previous_index == 2);
    assert!(said.iter().any(sent), "{said:?}");
    member.hears(ack(B, 2, 3));
    assert_eq!(member.group.commit(), 3);
}

#[test]
fn what_a_leader_said_before_is_no_sign_of_life() {
    let mut member = member(&[1], 1, None);
    member.hears(append(B, 1, (1, 1), &[], 0));
    let due = member.group.poll_timeout();
    member.now += Duration::from_millis(300);
    member.hears(append(B, 1, (1, 1), &[], 0));
    assert_eq!(member.group.poll_timeout(), due, "the same words again");
}

#[test]
fn what_a_follower_said_before_is_no_sign_of_life() {
    let mut member = member(&[1], 1, None);
    member.leads(&[B]);
    for _ in 0..12 {
        member.waits(Duration::from_millis(100));
        // It answers the first round again and again.
        member.hears(ack(B, 2, 2));
    }
    assert!(!member.group.is_leader(), "nobody has answered a heartbeat for a second");
}
