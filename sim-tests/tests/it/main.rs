//! The simulator's own tests: its checkers see planted bugs, and a seed is a run.

mod jetstream;
mod raft;
#[rustfmt::skip]
mod shrunk;
mod storage;
mod turmoil;

use std::path::Path;
use std::process::Command;

use natrix_sim_tests::bugs::PLANTED;
use natrix_sim_tests::regressions::{Regression, Replayed};
use natrix_sim_tests::scenario;
use natrix_sim_tests::world::Settings;

/// Planted bugs that a few seeds show; `natrix-sim bugs` hunts all of them.
const SOON_CAUGHT: [&str; 13] = [
    "inbox-reordered",
    "interest-never-withdrawn",
    "bounced-twice",
    "queue-once-per-shard",
    "stale-match-cache",
    "deny-ignored-on-delivery",
    "auto-unsubscribe-off-by-one",
    "echo-ignored",
    "account-leak",
    "no-responders-too-eager",
    "no-responders-never",
    "partial-line-lost",
    "deliver-twice",
];

#[test]
fn planted_bugs_are_caught() {
    for name in SOON_CAUGHT {
        let planted = PLANTED.iter().find(|planted| planted.name == name).expect("the bug is in the table");
        let caught = planted.hunt(1, 20);
        assert!(caught.is_some(), "{name} was not caught in 20 seeds of {}", planted.scenario);
    }
}

#[test]
fn a_server_without_planted_bugs_breaks_no_rule() {
    for name in ["calm", "requests", "permissions", "cuts"] {
        let scenario = scenario::find(name).expect("the scenario is in the list");
        for seed in 1..=5 {
            let (report, _) = scenario.run(seed, Settings::default());
            assert!(report.violations.is_empty(), "{name} seed {seed}: {:?}", report.violations);
        }
    }
}

#[test]
fn equal_seeds_give_equal_hashes_in_different_processes() {
    let replay = |seed: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_natrix-sim"))
            .args(["replay", "--scenario", "auto-unsubscribe", "--seed", seed])
            .output()
            .expect("natrix-sim runs");
        let text = String::from_utf8(output.stdout).expect("a trace is text");
        text.lines().last().expect("a trace ends with its hash").to_owned()
    };
    let first = replay("3");
    assert!(first.starts_with("hash "), "{first}");
    assert_eq!(first, replay("3"));
    assert_ne!(first, replay("4"));
}

#[test]
fn seeds_that_once_failed_fail_no_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions");
    let kept = Regression::read_all(&folder).unwrap();
    for regression in &kept {
        let (name, seed, story) = (regression.scenario.name, regression.seed, &regression.story);
        assert_eq!(regression.replay(), Replayed::Good, "{name} seed {seed}\n{story}");
    }
    assert!(kept.len() >= 6, "{} seeds were replayed", kept.len());
}
