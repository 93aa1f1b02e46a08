//! Snapshots, and what they stand for.

use super::run;
use super::script::run_with;
use crate::raft::group::Config;

#[test]
fn a_snapshot_stands_for_the_log_once_it_is_durable() {
    run("group a b c
         elect a
         propose x y z
         expect same
         hold a
         snapshot a
         never base a 4
         release a
         expect base a 4");
}

#[test]
fn a_member_that_needs_what_is_gone_gets_the_snapshot_in_pieces() {
    run("group a b c
         elect a
         crash c
         propose first second third
         expect commit a 4
         snapshot a
         expect base a 4
         propose fourth
         start c
         expect applied c first second third fourth
         is base c 4");
}

#[test]
fn a_transfer_goes_on_after_it_was_cut() {
    run("group a b c
         elect a
         crash c
         propose first second third fourth fifth
         expect commit a 6
         snapshot a
         expect base a 6
         start c
         run 8ms
         isolate c
         run 300ms
         heal
         expect applied c first second third fourth fifth");
}

#[test]
fn the_next_leader_goes_on_with_a_snapshot_of_its_own() {
    run("group a b c
         elect a
         crash c
         propose first second third fourth fifth
         expect commit a 6
         expect commit b 6
         snapshot a
         snapshot b
         expect base a 6
         start c
         run 8ms
         crash a
         expect leader b
         expect applied c first second third fourth fifth");
}

#[test]
fn a_restart_begins_at_the_snapshot() {
    run("group a b c
         elect a
         propose x y
         expect same
         snapshot b
         expect base b 3
         propose z
         expect same
         crash b
         start b
         is base b 3
         expect applied b x y z
         expect same");
}

#[test]
fn a_snapshot_that_was_not_durable_leaves_the_log() {
    run("group a b c
         elect a
         propose x y
         expect same
         hold b
         snapshot b
         run 20ms
         crash b
         release b
         start b
         is base b 0
         is last b 3
         expect same");
}

#[test]
fn an_unreadable_snapshot_is_not_an_empty_one() {
    run("group a b c
         elect a
         propose x y
         expect same
         snapshot b
         expect base b 3
         crash b
         damage b snapshot
         start b
         is doubt b on
         is applied b x y            # nothing that the application has is given up
         expect doubt b off
         expect same");
}

#[test]
fn a_member_whose_snapshot_is_unreadable_elects_nobody_without_the_others() {
    run("group a b c
         elect a
         propose x y
         expect same
         snapshot b
         expect base b 3
         crash a
         crash b
         damage b snapshot
         start b
         never leader
         start a
         expect leader
         expect same");
}

#[test]
fn a_snapshot_is_asked_for_when_the_log_is_long() {
    // The script's application hands in none, so the log only grows.
    let config = Config { snapshot_entries: 2, keep_entries: 1, ..Config::default() };
    run_with(
        &config,
        "group a b c
         elect a
         propose x y z
         expect same
         snapshot a
         expect base a 3
         propose w
         expect same",
    );
}

#[test]
fn an_older_snapshot_is_refused_and_a_later_one_taken() {
    run("group a
         expect leader a
         propose x
         expect applied a x
         snapshot a
         expect base a 2
         propose y
         expect applied a x y
         snapshot a
         expect base a 3");
}
