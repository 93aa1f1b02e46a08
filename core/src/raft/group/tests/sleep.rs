//! Groups that have nothing to do.

use super::member::{A, B, C, Member, append, member, vote};
use super::script::run_with;
use crate::raft::group::{Config, Message};
use crate::raft::wire::{AppendExtension, ResponseExtension};
use crate::time::{Duration, Instant};

fn run(text: &str) {
    let sleep_after = Some(Duration::from_millis(300));
    run_with(&Config { keep_entries: 0, chunk_bytes: 4, sleep_after, ..Config::default() }, text);
}

#[test]
fn a_group_sleeps_and_a_proposal_or_a_read_wakes_it() {
    run("group a b c
         elect a
         propose x
         expect same
         is asleep
         expect asleep a b c
         propose y
         expect same
         run 50ms
         expect asleep a b c
         read
         expect read
         expect asleep a b c
         run 60000ms
         is leader a
         is term a 1
         forward b z
         expect applied c x y z
         is term a 1");
}

#[test]
fn it_sleeps_alone_too_and_not_unless_it_is_told_to() {
    run("group a
         elect a
         expect asleep a
         propose x
         expect applied a x
         expect asleep a");
    run_with(
        &Config::default(),
        "group a b c
         elect a
         never asleep a",
    );
}

#[test]
fn a_member_that_is_away_or_behind_keeps_the_others_awake() {
    run("group a b c
         elect a
         isolate c
         propose x
         never asleep a
         heal
         expect asleep a b c
         is applied c x
         pause c
         propose y
         expect applied b x y
         never asleep a
         resume c
         expect asleep a b c
         hole b on
         run 1100ms
         never asleep a
         hole b off
         expect asleep a b c");
}

#[test]
fn a_dead_leader_is_replaced_when_its_node_is_suspected() {
    run("group a b c
         elect a
         expect asleep a b c
         crash a
         never leader
         is asleep b c
         suspect b a
         suspect c a
         run 700ms
         is leader
         propose x
         never asleep b
         start a
         expect applied a x
         never asleep b
         trust b a
         trust c a
         expect asleep a b c");
}

#[test]
fn a_member_that_comes_back_wakes_the_others_and_changes_nothing() {
    run("group a b c
         elect a
         propose x
         expect asleep a b c
         crash c
         run 300ms
         start c
         expect follows c a
         is term a 1
         expect asleep a b c
         is leader a
         is term a 1");
}

#[test]
fn a_leader_that_comes_back_as_a_follower_is_not_believed_to_lead() {
    run("group a b c
         elect a
         propose x
         expect asleep a b c
         crash a
         start a
         run 1100ms
         is leader
         expect same
         expect asleep a b c");
}

#[test]
fn a_leader_that_hears_nobody_wakes_and_steps_down() {
    run("group a b c
         elect a
         expect asleep a b c
         isolate a
         suspect a b
         suspect a c
         run 600ms
         is quorum a lost
         is role a follower
         is asleep b c
         suspect b a
         suspect c a
         run 700ms
         is leader");
}

#[test]
fn a_suspicion_of_one_alone_wakes_all_and_costs_no_term() {
    run("group a b c
         elect a
         expect asleep a b c
         suspect b a
         expect follows b a
         run 1200ms
         is leader a
         is term a 1
         never asleep b
         trust b a
         expect asleep a b c");
}

#[test]
fn a_node_that_was_removed_wakes_nobody() {
    run("group a b c d
         elect a
         expect same
         isolate d
         remove d
         expect members a b c
         run 11000ms
         expect asleep a b c
         heal
         run 3000ms
         is asleep a b c
         is leader a
         is term a 1
         add d
         expect members a b c d
         expect asleep a b c d");
}

#[test]
fn requests_wake_a_leader() {
    for request in ["remove c", "transfer b", "replace a b", "observer a on", "hole a on", "stepdown"] {
        run(&format!(
            "group a b c
             elect a
             expect asleep a b c
             {request}
             run 20ms
             is asleep
             run 3000ms
             is leader"
        ));
    }
}

/// B's heartbeat in this round behind this place, that asks for sleep or not.
fn beat(round: u64, last: (u64, u64), commit: u64, sleep: bool) -> Message {
    let Message::Append(mut beat) = append(B, 1, last, &[], commit) else { unreachable!() };
    beat.extension = Some(AppendExtension { round, sleep });
    Message::Append(beat)
}

/// A, a follower of B in term 1 with an entry that is applied.
fn follower() -> Member {
    let mut member = member(&[1], 1, None);
    // Its settings are the usual ones but for this.
    member.group.config.sleep_after = Some(Duration::from_millis(300));
    member.hears(beat(5, (1, 1), 1, false));
    member
}

fn asleep(member: &mut Member, message: Message) -> bool {
    let said = member.hears(message);
    let extension = |message: &Message| match message {
        Message::AppendReply(reply) => reply.extension,
        _ => None,
    };
    let says = said.iter().filter_map(extension).any(|ResponseExtension { asleep, .. }| asleep);
    assert_eq!(says, member.group.is_asleep());
    says
}

#[test]
fn a_follower_sleeps_only_with_all_that_the_leader_has() {
    for (last, commit) in [((1, 2), 1), ((1, 1), 0), ((1, 2), 2)] {
        assert!(!asleep(&mut follower(), beat(6, last, commit, true)), "{last:?} {commit}");
    }
    let mut member = follower();
    assert!(!asleep(&mut member, beat(4, (1, 1), 1, true)), "an old request");
    assert!(asleep(&mut member, beat(6, (1, 1), 1, true)));
    assert_eq!(member.group.poll_timeout(), Instant::MAX);
    assert!(member.group.is_current(), "it has everything");
}

#[test]
fn what_the_leader_said_before_wakes_nobody_and_what_it_says_later_does() {
    let mut member = follower();
    assert!(asleep(&mut member, beat(6, (1, 1), 1, true)));
    assert!(asleep(&mut member, beat(5, (1, 1), 1, false)), "late");
    assert!(asleep(&mut member, beat(7, (1, 1), 1, true)), "still");
    assert!(!asleep(&mut member, beat(7, (1, 1), 1, false)));
    assert!(member.group.poll_timeout() < Instant::MAX);
    assert!(asleep(&mut member, beat(8, (1, 1), 1, true)));
    let entries = append(B, 1, (1, 1), &[1], 1);
    assert!(!asleep(&mut member, entries), "late, but news");
}

#[test]
fn a_late_request_does_not_put_to_sleep_who_suspects_the_leader() {
    let mut member = follower();
    member.group.suspect(member.now, C);
    assert!(!asleep(&mut member, beat(6, (1, 1), 1, true)));
    member.group.trust(member.now, C);
    member.group.suspect(member.now, B);
    assert!(!asleep(&mut member, beat(7, (1, 1), 1, true)));
    member.group.trust(member.now, B);
    assert!(asleep(&mut member, beat(8, (1, 1), 1, true)));
}

#[test]
fn a_sleeper_votes_for_nobody_while_it_believes_in_its_leader() {
    let asked = |member: &mut Member, candidate| {
        let pre_vote = crate::raft::wire::VoteRequest { pre_vote: true, ..vote(candidate, 2, (1, 1)) };
        member.votes(pre_vote)
    };
    let slept = || {
        let mut member = follower();
        assert!(asleep(&mut member, beat(6, (1, 1), 1, true)));
        member.now += Duration::from_secs(900);
        member
    };
    let mut member = slept();
    assert_eq!(asked(&mut member, C), Some(false));
    assert!(!member.group.is_asleep());
    assert_eq!(asked(&mut slept(), B), Some(true), "whoever asks doesn't lead");
    let mut member = slept();
    member.group.suspect(member.now, B);
    assert_eq!(asked(&mut member, C), Some(true), "the leader's node is silent");
    let mut member = slept();
    assert_eq!(member.votes(vote(crate::raft::wire::NodeId(*b"DDDDDDDD"), 2, (1, 1))), None);
    assert!(member.group.is_asleep(), "that node isn't a member");
    assert_eq!(member.group.id(), A);
}
