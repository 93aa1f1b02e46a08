//! Who the members are.

use super::run;

#[test]
fn a_member_joins_when_it_has_caught_up() {
    run("group a b c
         spare d
         elect a
         propose x y
         expect same
         add d
         expect members a b c d
         expect applied d x y
         propose z
         expect same");
}

#[test]
fn a_node_that_cannot_be_reached_does_not_become_a_member() {
    run("group a b c
         spare d
         elect a
         expect same
         isolate d
         add d
         run 2000ms
         is members a b c
         add d !
         propose x
         expect commit a 2");
}

#[test]
fn a_member_leaves_and_knows_it() {
    run("group a b c
         elect a
         expect same
         remove c
         expect members a b
         expect removed c
         propose x
         expect same
         never applied c x");
}

#[test]
fn a_leader_that_removes_itself_leads_until_that_is_committed() {
    run("group a b c
         elect a
         expect same
         remove a
         expect removed a
         expect leader
         expect members b c
         propose x
         expect same");
}

#[test]
fn a_removed_member_does_not_disturb() {
    run("group a b c
         elect a
         expect same
         isolate c
         remove c
         expect members a b
         heal
         run 2900ms
         is leader a
         is term a 1");
}

#[test]
fn a_removed_member_comes_back() {
    run("group a b c
         elect a
         propose x
         expect same
         remove c
         expect members a b
         propose y
         add c
         expect members a b c
         expect same
         is applied c x y");
}

#[test]
fn one_change_at_a_time() {
    run("group a b c
         spare d e
         elect a
         expect same
         isolate a
         remove b
         remove c !
         add d !
         heal
         expect leader");
}

#[test]
fn no_change_before_something_of_the_term_is_committed() {
    run("group a
         spare d
         elect a
         hold a
         is commit a 0
         add d !
         release a
         expect leading a
         add d
         expect members a d");
}

#[test]
fn a_new_leader_makes_no_change_until_its_own_entry_is_committed() {
    run("group a b c
         elect a
         hold b
         hold c
         is commit a 0
         remove c !
         release b
         release c
         expect commit a 1
         remove c");
}

#[test]
fn a_change_that_was_not_committed_is_undone_with_its_entry() {
    run("group a b c
         elect a
         expect same
         isolate a
         remove c
         expect term b > 1
         heal
         expect leader
         expect same
         is members a b c");
}

#[test]
fn several_members_are_replaced_through_a_joint_configuration() {
    run("group a b c
         spare d e
         elect a
         propose x
         expect same
         replace a d e
         expect joint
         expect members a d e
         propose y
         expect same
         is applied d x y
         expect removed b");
}

#[test]
fn all_members_are_replaced() {
    run("group a b c
         spare d e f
         elect a
         propose x
         expect same
         replace d e f
         expect members d e f
         propose y
         expect same
         is applied d x y");
}

#[test]
fn a_joint_configuration_needs_both_majorities() {
    run("group a b c
         spare d e
         elect a
         expect same
         replace a d e
         expect joint
         isolate b
         isolate c
         run 100ms
         never members a d e
         heal
         expect leader
         expect members a d e");
}

#[test]
fn a_new_leader_ends_a_joint_configuration_that_it_found() {
    run("group a b c
         spare d e
         elect a
         expect same
         replace b d e
         expect joint
         run 3ms
         crash a
         expect leader
         start a
         expect same");
}

#[test]
fn the_last_member_stays() {
    run("group a b
         elect a
         expect same
         remove b
         expect members a
         remove a !
         propose x
         expect commit a 3");
}

#[test]
fn a_stranger_is_not_removed_and_a_member_not_added() {
    run("group a b c
         spare d
         elect a
         expect same
         remove d !
         add b !
         replace a b c !");
}

#[test]
fn a_lone_member_grows_to_three_and_back() {
    run("group a
         spare b c
         expect leader a
         propose x
         expect applied a x
         add b
         expect members a b
         add c
         expect members a b c
         expect same
         remove b
         expect members a c
         remove c
         expect members a
         propose y
         expect applied a x y");
}

#[test]
fn a_change_survives_the_restart_of_all() {
    run("group a b c
         spare d
         elect a
         expect same
         add d
         expect members a b c d
         expect same
         snapshot a
         crash a
         crash b
         crash c
         crash d
         start a
         start b
         start c
         start d
         expect leader
         expect members a b c d
         expect same");
}

#[test]
fn a_removal_survives_the_restart_of_all() {
    run("group a b c
         elect a
         expect same
         remove c
         expect members a b
         expect same
         crash a
         crash b
         crash c
         start a
         start b
         expect leader
         expect members a b
         start c
         never leader c
         is members a b");
}
