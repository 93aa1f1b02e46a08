//! What is committed, and when.

use super::run;
use super::script::run_with;
use crate::raft::group::Config;

#[test]
fn entries_are_applied_in_order_by_all() {
    run("group a b c
         elect a
         propose x y z
         expect applied a x y z
         expect applied b x y z
         expect applied c x y z
         expect same");
}

#[test]
fn nothing_is_committed_before_a_majority_has_synced_it() {
    run("group a b c
         elect a
         expect same
         hold b
         hold c
         propose x
         never commit a 2
         release b
         expect commit a 2");
}

#[test]
fn a_leader_counts_itself_after_its_own_sync() {
    run("group a b c
         elect a
         expect same
         crash c
         hold a
         propose x
         never commit a 2
         release a
         expect commit a 2");
}

#[test]
fn others_can_commit_what_the_leader_has_not_synced_and_it_applies_it_after() {
    run("group a b c
         elect a
         expect same
         hold a
         propose x
         expect commit a 2
         is last a 2
         never applied a x
         release a
         expect applied a x");
}

#[test]
fn entries_that_no_majority_had_are_replaced() {
    run("group a b c
         elect a
         expect same
         isolate a
         propose lost
         expect leader
         heal
         propose kept
         expect same
         is applied a kept");
}

#[test]
fn a_new_leader_commits_what_it_found_with_its_own_entry() {
    run("group a b c
         elect a
         expect same
         drop b>a reply
         drop c>a reply
         propose x
         run 20ms
         is commit a 1
         crash a
         expect leader
         heal
         start a
         expect applied a x
         expect same");
}

#[test]
fn lost_messages_are_noticed_by_the_next_heartbeat() {
    run("group a b c
         elect a
         expect same
         drop a>b append
         propose x y
         run 20ms
         heal
         propose z
         expect applied b x y z");
}

#[test]
fn a_follower_that_was_away_is_caught_up() {
    run("group a b c
         elect a
         crash c
         propose x y z
         expect commit a 4
         start c
         expect applied c x y z");
}

#[test]
fn a_crash_takes_only_what_was_not_synced() {
    run("group a b c
         elect a
         propose x
         expect same
         hold a
         propose y
         expect applied b x y
         crash a
         start a
         release a
         expect same
         is applied a x y");
}

#[test]
fn the_whole_group_loses_power_and_nothing_that_was_committed() {
    run("group a b c
         elect a
         propose x y
         expect same
         crash a
         crash b
         crash c
         start a
         start b
         start c
         expect leader
         expect same
         is applied a x y");
}

#[test]
fn a_proposal_goes_by_way_of_a_follower() {
    run("group a b c
         elect a
         expect leading a
         expect follows b a
         forward b x
         expect applied c x");
}

#[test]
fn only_a_leader_takes_proposals() {
    run("group a b c
         elect a
         expect follows b a
         refuse b NotLeader(Some
         crash b
         crash c
         expect no leader
         refuse a NotLeader(None)");
}

#[test]
fn a_leader_refuses_what_it_has_no_room_for() {
    let config = Config { max_uncommitted_bytes: 22, ..Config::default() };
    run_with(
        &config,
        "group a b c
         elect a
         expect same
         isolate a
         propose first
         propose second
         refuse a Busy",
    );
}

#[test]
fn a_leader_whose_application_lags_refuses_proposals_and_takes_them_again() {
    let config = Config { max_unapplied: 2, ..Config::default() };
    run_with(
        &config,
        "group a b c
         elect a
         expect same
         pause a
         propose x y z
         expect commit a 4
         refuse a Busy
         resume a
         expect applied a x y z
         propose more
         expect same",
    );
}

#[test]
fn a_follower_whose_application_lags_takes_no_more_until_it_goes_on() {
    let config = Config { max_unapplied: 2, ..Config::default() };
    run_with(
        &config,
        "group a b c
         elect a
         expect same
         pause c
         propose u v w
         expect commit a 4
         run 300ms
         propose x y
         expect commit a 6
         never last c 6
         resume c
         expect same",
    );
}

#[test]
fn applying_is_paused_and_goes_on() {
    run("group a b c
         elect a
         pause b
         propose x
         never applied b x
         resume b
         expect applied b x");
}

#[test]
fn a_member_that_has_not_been_handed_everything_does_not_stand_for_election() {
    run("group a b c
         elect a
         expect same
         pause b
         propose y
         expect commit b 2
         crash a
         campaign b
         expect leader c
         crash c
         start a
         expect leader a");
}

#[test]
fn a_new_leader_announces_itself_when_it_has_applied_what_was_before() {
    run("group a b c
         elect a
         expect leading a
         transfer b
         expect leader b
         # Nobody else may take over, should b hear nothing while their disks are slow.
         observer a on
         observer c on
         hold a
         hold c
         never leading b
         release a
         expect leading b");
}

#[test]
fn a_read_waits_until_a_majority_says_that_this_is_the_leader() {
    run("group a b c
         elect a
         propose x
         expect same
         cut b>a
         cut c>a
         read
         never read");
    run("group a b c
         elect a
         propose x
         expect same
         read
         expect read");
}

#[test]
fn batches_are_split_where_they_are_too_large_or_of_several_terms() {
    let config = Config { max_batch_entries: 2, max_batch_bytes: 8, max_in_flight: 2, ..Config::default() };
    run_with(
        &config,
        "group a b c
         elect a
         crash c
         propose one two three four five
         expect commit a 6
         transfer b
         expect leader b
         propose six seven
         expect commit b 9
         start c
         expect applied c one two three four five six seven",
    );
}
