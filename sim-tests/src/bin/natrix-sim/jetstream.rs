//! The commands, where the scenario is one of streams and consumers.

use std::time::Instant;

use anyhow::{Context, Result};
use natrix_sim_tests::jetstream::bugs::{self, PLANTED};
use natrix_sim_tests::jetstream::report::{Summary, explore};
use natrix_sim_tests::jetstream::{self, SCENARIOS, Scenario, Settings};

use crate::{Arguments, Exploration};

/// Returns the scenarios of streams that the arguments name, if they name any; `jetstream` stands for all.
pub(crate) fn chosen(arguments: &Arguments) -> Vec<&'static Scenario> {
    match arguments.text("scenario") {
        Some("jetstream") => SCENARIOS.iter().collect(),
        Some(name) => jetstream::find(name).into_iter().collect(),
        None => Vec::new(),
    }
}

fn settings(arguments: &Arguments, print: bool) -> Result<Settings> {
    let bug = arguments.text("bug").map(|name| bugs::find(name).with_context(|| format!("no bug {name}")));
    Ok(Settings { bug: bug.transpose()?.map(|planted| planted.bug), print })
}

/// Runs many seeds of each scenario; returns whether no rule was broken.
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
        let never: Vec<&str> =
            scenario.expected.iter().filter(|name| summary.tally.of(name) == 0).copied().collect();
        if !never.is_empty() {
            println!("  never came: {}", never.join(", "));
            good &= summary.runs < 300 || arguments.text("strict").is_none();
        }
    }
    Ok(good)
}

fn show(scenario: &Scenario, summary: &Summary, wall: f64) {
    println!(
        "{:<18} {} seeds, {} failed, {} events, {} stored, {} delivered, {:.0} virtual seconds in {wall:.1} s, hash {:016x}",
        scenario.name,
        summary.runs,
        summary.failures.len(),
        summary.events,
        summary.stored,
        summary.delivered,
        summary.virtual_time as f64 / 1e9,
        summary.hash
    );
    let busy = summary.busy.as_secs_f64().max(1e-9);
    println!(
        "  {:.0} events and {:.1} seeds a core-second",
        summary.events as f64 / busy,
        summary.runs as f64 / busy
    );
    let counted: Vec<String> = summary.tally.iter().map(|(name, times)| format!("{name} {times}")).collect();
    println!("  {}", counted.join(", "));
    for (seed, violation) in summary.failures.iter().take(12) {
        println!("  seed {seed}: {}: {}", violation.rule.name(), violation.text);
    }
}

/// Runs one seed and prints what it does.
pub(crate) fn replay(scenario: &Scenario, arguments: &Arguments) -> Result<bool> {
    let report = scenario.run(arguments.seed()?, settings(arguments, arguments.text("quiet").is_none())?);
    for violation in &report.violations {
        let at = violation.at.0 as f64 / 1e9;
        println!("{at:>10.6} VIOLATION of {}: {}", violation.rule.name(), violation.text);
    }
    println!("{} events, {} stored, {} delivered", report.events, report.stored, report.delivered);
    println!("hash {:016x}", report.hash);
    Ok(report.violations.is_empty())
}

/// Plants each bug and says how soon it was caught.
pub(crate) fn run_bugs(start: u64, seeds: u64) -> bool {
    println!(
        "\n| planted bug of streams and consumers | scenario | rule that it broke | seeds until caught | seconds |"
    );
    println!("|---|---|---|--:|--:|");
    let mut all = true;
    for planted in PLANTED {
        let begun = Instant::now();
        let caught = planted.hunt(start, seeds);
        let took = begun.elapsed().as_secs_f64();
        let (name, scenario) = (planted.name, planted.scenario);
        match caught {
            Some(caught) => {
                let rule = caught.report.violations.first().map_or("", |violation| violation.rule.name());
                println!("| {name} | {scenario} | {rule} | {} | {took:.1} |", caught.seeds);
            }
            None => {
                all = false;
                println!("| {name} | {scenario} | NOT CAUGHT | > {seeds} | {took:.1} |");
            }
        }
    }
    all
}
