//! Who leads.

use super::run;

#[test]
fn one_of_three_leads_and_the_others_follow() {
    run("group a b c
         expect leader
         expect same
         propose x
         expect same");
}

#[test]
fn a_lone_member_leads_by_itself_once_its_vote_is_durable() {
    run("group a
         hold a
         run 2000ms
         is no leader
         release a
         expect leader a
         expect leading a
         propose x
         expect applied a x");
}

#[test]
fn a_dead_leader_is_replaced_within_a_second_and_a_half() {
    run("group a b c
         elect a
         propose x
         expect same
         crash a
         run 1500ms
         is leader
         propose y
         start a
         expect applied a x y");
}

#[test]
fn a_minority_elects_nobody() {
    run("group a b c
         elect a
         expect same
         crash b
         crash c
         expect no leader
         never leader
         is quorum a lost
         start b
         expect leader
         expect quorum a there");
}

#[test]
fn a_vote_is_answered_when_it_is_durable_and_survives_a_crash() {
    run("group a b c
         hold b
         crash c
         campaign a
         never leader a
         crash b keep
         start b
         is vote b a");
}

#[test]
fn a_vote_that_was_not_synced_was_never_given() {
    run("group a b c
         crash c
         hold b
         campaign a
         run 200ms
         is vote b a
         is no leader
         crash b
         start b
         is term b 0");
}

#[test]
fn a_member_that_was_cut_off_comes_back_without_a_higher_term() {
    run("group a b c
         elect a
         isolate c
         run 2900ms
         is term c 1
         heal
         run 1000ms
         is leader a
         is term a 1
         is follows c a");
}

#[test]
fn a_leader_that_hears_no_majority_steps_down() {
    run("group a b c
         elect a
         isolate a
         expect role a follower
         is quorum a lost
         refuse a NotLeader
         expect leader
         heal
         expect same");
}

#[test]
fn a_leader_that_is_heard_but_deaf_is_replaced() {
    run("group a b c
         elect a
         cut b>a
         cut c>a
         expect role a follower
         expect term b > 1
         expect leader");
}

#[test]
fn only_who_has_what_is_committed_is_elected() {
    run("group a b c
         elect a
         isolate c
         propose x
         expect commit a 2
         crash a
         heal
         campaign c
         expect leader b
         expect applied c x");
}

#[test]
fn an_observer_follows_and_never_leads() {
    run("group a b c
         observer c on
         elect a
         propose x
         expect same
         crash a
         expect leader b
         crash b
         start a
         campaign c
         expect leader a
         observer a on               # nobody else may lead either, so it goes on
         run 100ms
         is leader a
         observer c off
         stepdown
         expect leader c");
}

#[test]
fn a_hole_in_what_is_applied_forbids_to_lead() {
    run("group a b c
         elect a
         hole b on
         expect same
         crash a
         campaign b
         expect leader c
         hole c on
         run 50ms
         hole b off
         expect leader");
}

#[test]
fn leadership_is_handed_over_to_whom_it_was_asked_for() {
    run("group a b c
         elect a
         propose x
         transfer c
         refuse a Transferring
         expect leader c
         expect same
         is term c 2");
}

#[test]
fn leadership_is_handed_over_to_whoever_has_most() {
    run("group a b c
         elect a
         cut a b
         propose x
         expect commit a 2
         stepdown
         expect leader c");
}

#[test]
fn a_hand_over_that_fails_ends() {
    run("group a b c
         elect a
         isolate b
         transfer b
         refuse a Transferring
         run 700ms
         is leader a
         propose x
         expect commit a 2");
}

#[test]
fn nobody_hands_over_to_itself_or_to_a_stranger() {
    run("group a b c
         spare d
         elect a
         transfer a !
         transfer d !
         transfer b
         transfer c !");
}

#[test]
fn a_member_in_doubt_about_its_log_counts_only_among_all() {
    run("group a b c
         elect a
         cut a c
         propose x
         expect commit a 2
         crash b
         damage b log 2
         crash a
         heal
         start b
         is doubt b on
         never leader             # b may have acknowledged what c never had
         start a
         expect leader
         expect same
         expect doubt b off
         expect applied c x");
}

#[test]
fn a_member_that_lost_its_vote_waits_until_the_others_named_their_terms() {
    run("group a b c
         elect a
         expect same
         crash c
         damage c vote
         isolate b
         start c
         run 300ms
         is doubt c on
         heal
         expect doubt c off
         expect same");
}

#[test]
fn a_disk_that_came_back_empty_is_filled_by_the_others() {
    run("group a b c
         elect a
         propose x y
         expect same
         crash c
         damage c all
         start c
         is doubt c on
         expect applied c x y
         expect doubt c off");
}

#[test]
fn a_member_whose_disk_failed_takes_no_part() {
    run("group a b c
         elect a
         fail a
         refuse a Failed
         expect leader
         propose x
         never applied a x");
}
