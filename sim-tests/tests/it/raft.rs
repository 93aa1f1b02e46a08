//! The simulator of Raft groups: it sees planted bugs, nothing else, and a seed is a run.

use natrix_sim_tests::raft::bugs::PLANTED;
use natrix_sim_tests::raft::{Rule, run};

/// Planted bugs that a few seeds show; `natrix-sim raft bugs` hunts all of them.
const SOON_CAUGHT: [&str; 16] = [
    "vote-not-written",
    "leader-counts-unsynced",
    "ack-before-sync",
    "members-change-at-commit",
    "truncation-not-written",
    "vote-before-sync",
    "hole-may-lead",
    "no-pre-vote",
    "votes-twice",
    "vote-ignores-log",
    "lost-vote-forgotten",
    "append-truncates-tail",
    "applies-uncommitted",
    "minority-commits",
    "read-before-own-commit",
    "commit-ignores-joint",
];

#[test]
fn planted_bugs_are_caught() {
    for name in SOON_CAUGHT {
        let planted = PLANTED.iter().find(|planted| planted.name == name).expect("the bug is in the table");
        assert!(planted.hunt(1, 30).is_some(), "{name} was not caught in 30 seeds");
    }
}

#[test]
fn a_group_without_planted_bugs_breaks_no_rule() {
    for seed in 1..=30 {
        let report = run(seed, None, false);
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        assert!(report.committed > 0, "seed {seed} committed nothing");
    }
}

#[test]
fn a_seed_is_a_run_and_a_story() {
    let (first, second) = (run(3, None, true), run(3, None, true));
    assert_eq!((first.hash, first.events, &first.story), (second.hash, second.events, &second.story));
    assert_ne!(first.hash, run(4, None, false).hash);
    assert_eq!(first.hash, run(3, None, false).hash, "telling it changes nothing");
    assert!(first.story.contains("leads, term"));
}

/// Seeds that once broke a rule, and what they found.
#[test]
fn seeds_that_once_failed_fail_no_more() {
    for (seed, story) in [
        (3281, "late answers to pieces of a snapshot made the leader send more of them"),
        (2191, "nobody but members of a configuration before one that was not committed could lead"),
        (9637, "a crash between two records ended a doubt without its vote"),
        (2386, "a vote that was given in doubt was repeated without"),
    ] {
        let report = run(seed, None, false);
        assert!(report.violations.is_empty(), "seed {seed}: {story}: {:?}", report.violations);
    }
}

#[test]
fn rules_have_names_of_their_own() {
    let names = [Rule::ElectionSafety, Rule::AppendOnly, Rule::LogMatching, Rule::Members, Rule::Liveness];
    let distinct: std::collections::BTreeSet<_> = names.iter().map(|rule| rule.name()).collect();
    assert_eq!(distinct.len(), names.len());
}
