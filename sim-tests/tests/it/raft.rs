//! The simulator of Raft groups: it sees planted bugs, nothing else, and a seed is a run.

use std::time::Duration;

use natrix_sim_tests::raft::bugs::{PLANTED, find};
use natrix_sim_tests::raft::cases::{self, CASES};
use natrix_sim_tests::raft::deed::Deed;
use natrix_sim_tests::raft::script::{Base, Script};
use natrix_sim_tests::raft::shrink::{noted, shrink};
use natrix_sim_tests::raft::{Rule, Tell, run};

/// Virtual time is in nanoseconds.
const MS: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MS;

/// Planted bugs that a few seeds show; `natrix-sim raft bugs` hunts all of them.
const SOON_CAUGHT: [&str; 14] = [
    "vote-not-written",
    "leader-counts-unsynced",
    "ack-before-sync",
    "members-change-at-commit",
    "vote-before-sync",
    "hole-may-lead",
    "no-pre-vote",
    "vote-ignores-log",
    "doubtful-vote-counts",
    "append-truncates-tail",
    "truncates-on-refusal",
    "snapshot-not-applied",
    "read-before-own-commit",
    "votes-twice",
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

/// What Jepsen and others found broken elsewhere, by name.
#[test]
fn the_named_cases_lose_nothing_that_was_acknowledged() {
    for case in CASES {
        for seed in 1..=10 {
            let report = case.run(seed, None);
            assert!(report.violations.is_empty(), "{} seed {seed}: {:?}", case.name, report.violations);
            assert!(report.acknowledged > 50 && report.lost == 0, "{} seed {seed}", case.name);
        }
    }
}

#[test]
fn a_named_case_sees_the_bug_that_it_is_about() {
    for (case, bug) in [
        ("minority-logs-truncated", "loss-forgotten"),
        ("minority-files-corrupted", "lost-vote-forgotten"),
        ("minority-disks-lost", "lost-vote-forgotten"),
        ("snapshots-corrupted", "unreadable-snapshot-is-empty"),
        ("coordinated-power-failure", "leader-counts-unsynced"),
        ("power-failure-and-pauses", "ack-before-sync"),
        ("power-failure-and-partition", "ack-before-sync"),
        ("members-change-under-faults", "change-before-own-commit"),
        ("killed-again-and-again", "leader-counts-unsynced"),
    ] {
        let found = cases::find(case).expect("a case of that name");
        let planted = find(bug).expect("the bug is in the table");
        let seen = (1..=60).any(|seed| !found.run(seed, Some(planted.bug)).violations.is_empty());
        assert!(seen, "{case} does not see {bug}");
    }
}

/// What is noted of a seed's run is all that happened to it from outside.
#[test]
fn a_seed_is_repeated_from_what_was_noted() {
    for seed in 1..=60 {
        let (script, report) = noted(seed, None);
        assert!(report.violations.is_empty() && !script.deeds.is_empty());
        let again = script.run(None, Tell::Nothing);
        assert_eq!((again.hash, again.committed), (report.hash, report.committed), "seed {seed}");
    }
}

#[test]
fn a_failing_seed_is_made_small_and_told() {
    let planted = find("vote-ignores-log").expect("the bug is in the table");
    let caught = planted.hunt(1, 30).expect("it is caught soon");
    let small = shrink(caught.seed, Some(planted.bug), Duration::from_secs(20)).expect("it fails");
    let count = small.script.deeds.len();
    assert!(count <= 30, "{count} of {} deeds are left", small.deeds_before);
    let report = small.script.run(Some(planted.bug), Tell::Story);
    assert_eq!(report.violations.first().map(|violation| violation.rule), Some(caught.violation.rule));
    assert!(report.story.contains("leads, term"), "{}", report.story);
    assert!(small.script.run(None, Tell::Nothing).violations.is_empty(), "the bug it needs");
    let test = small.script.test("vote-ignores-log", Some("vote-ignores-log"));
    assert!(test.starts_with("#[test]\nfn vote_ignores_log() {"), "{test}");
}

/// A time-out that another had taken the place of set the next one all the same: what began with each read never ended
/// (seed 4074 as it was made then: a million events).
#[test]
fn reads_do_not_multiply_what_happens() {
    let reads = |count: u64| {
        let deeds = (0..count).map(|at| (2 * SECOND + at * 10 * MS, Deed::Read { near: 0 }));
        let base = Base::Calm { members: 3, nodes: 3 };
        let script =
            Script { seed: 1, salt: 1, base, deeds: deeds.collect(), until: 60 * SECOND, last: None };
        let report = script.run(None, Tell::Nothing);
        assert!(report.violations.is_empty(), "{:?}", report.violations);
        report.events
    };
    let (quiet, busy) = (reads(0), reads(1_000));
    // A read is an event, two messages to the others and their answers, and a time-out here and there.
    assert!(busy < quiet + 20 * 1_000, "{busy} events with a thousand reads, {quiet} without");
}

/// What `raft shrink` prints is a test that compiles, and shows the bug: `shrunk.rs` has it.
#[test]
fn what_is_printed_of_a_small_seed_is_the_test_that_is_kept() {
    let planted = find("hole-may-lead").expect("the bug is in the table");
    let caught = planted.hunt(1, 30).expect("it is caught soon");
    let small = shrink(caught.seed, Some(planted.bug), Duration::from_secs(120)).expect("it fails");
    let printed = small.script.test(planted.name, Some(planted.name));
    let kept = include_str!("shrunk.rs");
    assert!(kept.ends_with(&printed), "tests/it/shrunk.rs is to end with this:\n{printed}");
}

#[test]
fn rules_have_names_of_their_own() {
    let names = [Rule::ElectionSafety, Rule::AppendOnly, Rule::LogMatching, Rule::Members, Rule::Liveness];
    let distinct: std::collections::BTreeSet<_> = names.iter().map(|rule| rule.name()).collect();
    assert_eq!(distinct.len(), names.len());
}
