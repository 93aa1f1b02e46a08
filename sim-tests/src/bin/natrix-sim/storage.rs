//! The commands, where the scenario is one of storage.

use std::time::Instant;

use anyhow::{Context, Result};
use natrix_runtime_sim::disk::DiskFault;
use natrix_sim_tests::storage::bugs::{self, PLANTED};
use natrix_sim_tests::storage::report::{Summary, explore};
use natrix_sim_tests::storage::{self, SCENARIOS, Scenario, Settings};

use crate::{Arguments, Exploration};

/// Returns the storage scenarios that the arguments name, if they name any; `storage` stands for all.
pub(crate) fn chosen(arguments: &Arguments) -> Vec<&'static Scenario> {
    match arguments.text("scenario") {
        Some("storage") => SCENARIOS.iter().collect(),
        Some(name) => storage::find(name).into_iter().collect(),
        None => Vec::new(),
    }
}

fn settings(arguments: &Arguments, print: bool) -> Result<Settings> {
    let bug = arguments.text("bug").map(|name| bugs::find(name).with_context(|| format!("no bug {name}")));
    Ok(Settings { bug: bug.transpose()?.map(|planted| planted.bug), print })
}

/// Runs many seeds of each scenario; returns whether all kept their promises.
pub(crate) fn run_explore(scenarios: &[&'static Scenario], arguments: &Arguments) -> Result<bool> {
    let exploration = Exploration::of(arguments)?;
    let Exploration { seeds, start, jobs } = exploration;
    let settings = settings(arguments, false)?;
    let mut good = true;
    for scenario in scenarios {
        let begun = Instant::now();
        let bar = exploration.bar(scenario.name)?;
        let summary = explore(scenario, start, seeds, jobs, settings, |_| bar.inc(1));
        bar.finish_and_clear();
        show(scenario, &summary, begun.elapsed().as_secs_f64());
        good &= summary.failures.is_empty();
        let never = never_came(scenario, &summary);
        if !never.is_empty() {
            println!("  never came: {}", never.join(", "));
            good &= summary.runs < 100 || arguments.text("strict").is_none();
        }
    }
    Ok(good)
}

/// Returns the disk faults that a scenario is to have and that never came.
fn never_came(scenario: &Scenario, summary: &Summary) -> Vec<String> {
    let never = scenario.faults.iter().filter(|fault| summary.faults[**fault as usize] == 0);
    never.map(|fault| format!("{fault:?}")).collect()
}

fn show(scenario: &Scenario, summary: &Summary, wall: f64) {
    println!(
        "{:<18} {} seeds, {} failed, {} crash points in {wall:.1} s: {:.0} a second, {:.0} a core-second, hash {:016x}",
        scenario.name,
        summary.runs,
        summary.failures.len(),
        summary.crash_points,
        summary.crash_points as f64 / wall.max(1e-9),
        summary.crash_points as f64 / summary.busy.as_secs_f64().max(1e-9),
        summary.hash
    );
    println!("  {} disk operations, {} entries recovered", summary.operations, summary.recovered);
    let counted: Vec<String> = summary.tally.iter().map(|(name, times)| format!("{name} {times}")).collect();
    println!("  {}", counted.join(", "));
    let came = DiskFault::ALL.iter().filter(|fault| summary.faults[**fault as usize] > 0);
    let came: Vec<String> =
        came.map(|fault| format!("{fault:?} {}", summary.faults[*fault as usize])).collect();
    if !came.is_empty() {
        println!("  faults: {}", came.join(", "));
    }
    for (seed, violation) in summary.failures.iter().take(6) {
        println!("  seed {seed}: {}: {}", violation.promise.name(), violation.text);
    }
}

/// Runs one seed and prints what it does.
pub(crate) fn replay(scenario: &Scenario, arguments: &Arguments) -> Result<bool> {
    let report = scenario.run(arguments.seed()?, settings(arguments, arguments.text("quiet").is_none())?);
    if let Some(violation) = &report.violation {
        println!("VIOLATION of {}: {}", violation.promise.name(), violation.text);
    }
    println!("{} disk operations, {} crash points", report.operations, report.crash_points);
    println!("hash {:016x}", report.hash);
    Ok(report.violation.is_none())
}

/// Plants each bug and says how soon it was caught.
pub(crate) fn run_bugs(start: u64, seeds: u64) -> bool {
    println!(
        "\n| planted bug of the store | scenario | promise that it broke | runs until caught | crash points | seconds |"
    );
    println!("|---|---|---|--:|--:|--:|");
    let mut all = true;
    for planted in PLANTED {
        let begun = Instant::now();
        let caught = planted.hunt(planted.kept_seed().unwrap_or(start), seeds);
        let took = begun.elapsed().as_secs_f64();
        let (name, scenario) = (planted.name, planted.scenario);
        match caught {
            Some(caught) => {
                let promise = caught.report.violation.map_or("", |violation| violation.promise.name());
                println!(
                    "| {name} | {scenario} | {promise} | {} | {} | {took:.1} |",
                    caught.seeds, caught.crash_points
                );
            }
            None => {
                all = false;
                println!("| {name} | {scenario} | NOT CAUGHT | > {seeds} | | {took:.1} |");
            }
        }
    }
    all
}
