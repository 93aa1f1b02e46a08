//! The scenarios of streams and consumers: they see planted bugs, keep quiet without, and a seed is a run.

use natrix_sim_tests::jetstream::bugs::PLANTED;
use natrix_sim_tests::jetstream::{SCENARIOS, Settings};

/// Planted bugs that a few seeds show; `natrix-sim bugs` hunts all of them.
const SOON_CAUGHT: [&str; 6] = [
    "ack-of-newest",
    "dedup-ignores-flight",
    "expected-unchecked",
    "held-dropped",
    "redelivered-early",
    "filter-ignored",
];

#[test]
fn streams_keep_their_promises() {
    for scenario in SCENARIOS {
        let mut stored = 0;
        for seed in 1..=2 {
            let report = scenario.run(seed, Settings::default());
            assert_eq!(report.violations, [], "{} seed {seed}", scenario.name);
            stored += report.stored;
        }
        assert!(stored > 0, "{} stores nothing", scenario.name);
    }
}

/// What rots while a server still reads what the life before has left is lost in this life: what was confirmed before comes again.
#[test]
fn what_rots_during_a_start_breaks_no_rule() {
    let scenario = natrix_sim_tests::jetstream::find("jetstream-faults").expect("it is there");
    assert_eq!(scenario.run(518, Settings::default()).violations, []);
}

/// A consumer whose file is damaged starts where it did when it was made: nothing is passed over.
#[test]
fn a_consumer_that_skips_after_a_loss_is_seen() {
    let planted =
        PLANTED.iter().find(|planted| planted.name == "loss-skips").expect("the bug is in the list");
    assert!(planted.hunt(34, 1).is_some(), "seed 34 of {} doesn't show it any more", planted.scenario);
}

#[test]
fn planted_bugs_of_streams_are_seen_soon() {
    for name in SOON_CAUGHT {
        let planted = PLANTED.iter().find(|planted| planted.name == name).expect("the bug is in the list");
        assert!(planted.hunt(1, 20).is_some(), "{name} isn't seen");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let scenario = &SCENARIOS[1];
    let hashes = [(); 2].map(|()| scenario.run(3, Settings::default()).hash);
    assert_eq!(hashes[0], hashes[1]);
}

/// An operator puts the catalogue and its journal back, as they were before they were sealed: it goes on until that is sealed too.
#[test]
fn a_catalogue_from_before_the_key_is_sealed_again() {
    let planted =
        PLANTED.iter().find(|planted| planted.name == "mark-believed").expect("the bug is in the list");
    let scenario =
        SCENARIOS.iter().find(|scenario| scenario.name == planted.scenario).expect("it is in the list");
    for seed in [175, 417, 492, 587, 771, 921] {
        assert_eq!(scenario.run(seed, Settings::default()).violations, [], "seed {seed}");
    }
    assert!(planted.hunt(175, 1).is_some(), "seed 175 has no such operator any more: choose another");
}
