//! The differential scenarios: natrix against what the Go server gave, and the Go server against that too.

use std::slice;

use natrix_parity::scenario;
use natrix_parity::servers::Implementation;

fn check(implementation: Implementation) {
    let mut scenarios = scenario::load_all().unwrap();
    if implementation == Implementation::Natrix {
        let pending = scenario::pending().unwrap();
        scenarios.retain(|scenario| !pending.contains(&scenario.name));
    }
    let transcripts = scenario::run(implementation, &scenarios).unwrap();
    let differences = scenario::differences(&scenarios, &transcripts);
    assert!(
        differences.is_empty(),
        "{} of {} scenarios differ:\n{}",
        differences.len(),
        scenarios.len(),
        differences.join("\n")
    );
}

/// What differs is run once more before it counts, alone: on a busy machine the Go server's own timers race now and then, each
/// time in another scenario, and that is nobody's news. What has changed differs again.
fn check_again(implementation: Implementation) {
    let mut scenarios = scenario::load_all().unwrap();
    for last in [false, true] {
        let transcripts = scenario::run(implementation, &scenarios).unwrap();
        let differences = scenario::differences(&scenarios, &transcripts);
        if differences.is_empty() {
            return;
        }
        let (count, differences) = (differences.len(), differences.join("\n"));
        assert!(!last, "{count} of {} scenarios differ twice:\n{differences}", scenarios.len());
        eprintln!("run again, as these differ:\n{differences}");
        scenarios
            .retain(|scenario| !scenario::differences(slice::from_ref(scenario), &transcripts).is_empty());
    }
}

#[test]
fn natrix_gives_the_transcripts_of_the_go_server() {
    if let Err(error) = Implementation::Natrix.find() {
        panic!("{error}; build it first: cargo build -p natrix");
    }
    check(Implementation::Natrix);
}

/// Streams, consumers and clients are on several shards then; what a client sees is the same.
#[test]
fn natrix_gives_the_same_of_streams_with_two_shards() {
    let mut scenarios = scenario::load_all().unwrap();
    let pending = scenario::pending().unwrap();
    scenarios.retain(|scenario| scenario.name.starts_with("js-") && !pending.contains(&scenario.name));
    let transcripts = scenario::run_with(Implementation::Natrix, Some(2), &scenarios).unwrap();
    let differences = scenario::differences(&scenarios, &transcripts);
    assert!(differences.is_empty(), "{} scenarios differ:\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn the_go_server_still_gives_its_transcripts() {
    match Implementation::Go.find() {
        Ok(_) => check_again(Implementation::Go),
        // The snapshots say what it did where they were recorded; this test watches over them where it can.
        Err(error) => eprintln!("the snapshots stand unchecked: {error}"),
    }
}

#[test]
fn there_are_scenarios_enough_and_each_has_its_snapshot() {
    let scenarios = scenario::load_all().unwrap();
    assert!(scenarios.len() >= 200, "only {}", scenarios.len());
    for scenario in &scenarios {
        assert!(scenario::snapshot_path(scenario).is_file(), "{} has no snapshot", scenario.name);
    }
    for name in scenario::pending().unwrap() {
        assert!(scenarios.iter().any(|scenario| scenario.name == name), "{name} is pending, but not there");
    }
}
