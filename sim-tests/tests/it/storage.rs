//! The storage explorers' own tests: they see planted bugs, keep quiet without, and a seed is a run.

use std::path::Path;

use natrix_sim_tests::storage::bugs::PLANTED;
use natrix_sim_tests::storage::kept::{Regression, Replayed};
use natrix_sim_tests::storage::{Settings, find};

const SCENARIOS: [&str; 5] =
    ["storage-journal", "storage-damage", "storage-faults", "storage-consumer", "storage-file"];

/// Planted bugs that a few seeds show; `natrix-sim bugs` hunts all of them.
const SOON_CAUGHT: [&str; 10] = [
    "journal-ack-before-sync",
    "journal-torn-tail-kept",
    "journal-tail-cut-too-short",
    "journal-copy-forward-lost",
    "journal-position-reused",
    "journal-damage-unreported",
    "journal-magic-only",
    "journal-entry-unverified",
    "journal-tail-trusted",
    "journal-void-replayed",
];

#[test]
fn stores_keep_their_promises() {
    for name in SCENARIOS {
        let scenario = find(name).expect("the scenario is in the list");
        let mut crash_points = 0;
        for seed in 1..=3 {
            let report = scenario.run(seed, Settings::default());
            assert_eq!(report.violation, None, "{name} seed {seed}");
            crash_points += report.crash_points;
        }
        assert!(crash_points > 200, "{name}: {crash_points}");
    }
}

#[test]
fn planted_bugs_of_the_store_are_caught() {
    for name in SOON_CAUGHT {
        let planted = PLANTED.iter().find(|planted| planted.name == name).expect("the bug is in the table");
        let caught = planted.hunt(1, 20);
        assert!(caught.is_some(), "{name} was not caught in 20 seeds of {}", planted.scenario);
    }
}

#[test]
fn equal_seeds_give_equal_runs() {
    for name in SCENARIOS {
        let run = |seed| find(name).expect("it is in the list").run(seed, Settings::default()).hash;
        assert_eq!(run(2), run(2), "{name}");
        assert_ne!(run(2), run(3), "{name}");
    }
}

#[test]
fn seeds_of_the_store_that_once_failed_fail_no_more() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions/storage");
    let kept = Regression::read_all(&folder).unwrap();
    for regression in &kept {
        let (name, seed, story) = (regression.scenario.name, regression.seed, &regression.story);
        assert_eq!(regression.replay(), Replayed::Good, "{name} seed {seed}\n{story}");
    }
    assert!(kept.len() >= 9, "{} seeds were replayed", kept.len());
}
