//! `natrix-sim raft`: exploring, replaying, hunting planted bugs.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use natrix_core::rng::Rng;

use super::bench::measure;
use super::bugs::{self, PLANTED, Planted, RARE};
use super::cases::CASES;
use super::explore::{Summary, explore};
use super::journal;
use super::marks::Mark;
use super::plan::{Counters, Fault, Plan};
use super::shrink::shrink;
use super::world::{Tell, run};

/// How it is used.
pub const USAGE: &str = "\
natrix-sim raft explore [--seeds N] [--start K] [--jobs J] [--bug B] [--strict]
                                                       runs N seeds of Raft groups; with --strict it fails too if a
                                                       fault never came in 1,000 seeds, or a mark in 10,000
natrix-sim raft replay --seed X [--bug B] [--quiet]    tells what happened in one seed, and its hash last
natrix-sim raft shrink --seed X [--bug B] [--seconds S]  makes a failing seed small, tells its story and writes a test
natrix-sim raft shrink [--seeds N] [--jobs J] [--bug B] [--common] [--seconds S]
                                                       the same for the first seed that shows each planted bug, and says
                                                       how small it became
natrix-sim raft cases [--seeds N] [--bug B]            runs the named cases, N seeds each, and counts what clients were told
natrix-sim raft bugs [--seeds N] [--start K] [--jobs J] [--bug B] [--common]
                                                       plants each bug and says how soon it was caught; --common leaves
                                                       out those that take more than a thousand seeds
natrix-sim raft bench [--seeds N]                      says how many hours of a group an hour of a core simulates

With --scenario journal, explore, replay and bugs run members that keep their logs on the shard journal, on simulated disks.
";

/// What the words behind the command say.
struct Options {
    seeds: u64,
    start: u64,
    jobs: u64,
    seed: Option<u64>,
    seconds: u64,
    bug: Option<&'static bugs::Planted>,
    quiet: bool,
    strict: bool,
    common: bool,
    /// Members keep their logs on the shard journal.
    journal: bool,
}

impl Options {
    fn parse(words: &[String]) -> Result<Options> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let mut options = Options {
            seeds: 100,
            start: 1,
            jobs: cores,
            seed: None,
            seconds: 50,
            bug: None,
            quiet: false,
            strict: false,
            common: false,
            journal: false,
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} of what?"));
            match word.as_str() {
                "--quiet" => options.quiet = true,
                "--strict" => options.strict = true,
                "--common" => options.common = true,
                "--seeds" => options.seeds = value()?.parse()?,
                "--scenario" => match value()?.as_str() {
                    "journal" => options.journal = true,
                    "model" => options.journal = false,
                    other => bail!("there is no scenario {other}: model, journal"),
                },
                "--start" => options.start = value()?.parse()?,
                "--jobs" => options.jobs = value()?.parse()?,
                "--seconds" => options.seconds = value()?.parse()?,
                "--seed" => options.seed = Some(value()?.parse()?),
                "--bug" => {
                    let name = value()?;
                    let found = bugs::find(name).or_else(|| journal::find(name));
                    options.bug = Some(found.with_context(|| format!("no bug {name}"))?);
                }
                _ => bail!("what is {word}?\n{USAGE}"),
            }
        }
        Ok(options)
    }

    /// Returns those of `planted` that are meant.
    fn wanted(&self, planted: &'static [Planted]) -> Vec<&'static Planted> {
        let wanted = |planted: &&'static Planted| match self.bug {
            Some(bug) => bug.name == planted.name,
            None => !self.common || !RARE.contains(&planted.name),
        };
        planted.iter().filter(wanted).collect()
    }
}

/// Does what `words` say; returns whether all went well.
///
/// # Errors
///
/// If the words can't be understood.
pub fn main(words: &[String]) -> Result<bool> {
    let Some((command, rest)) = words.split_first() else { bail!("nothing to do\n{USAGE}") };
    let options = Options::parse(rest)?;
    match command.as_str() {
        "explore" if options.journal => Ok(explore_journal(&options)),
        "replay" if options.journal => replay_journal(&options),
        "bugs" if options.journal => Ok(hunt(&options, journal::PLANTED, journal::hunt)),
        "explore" => Ok(run_explore(&options)),
        "replay" => replay(&options),
        "shrink" if options.seed.is_none() => Ok(shrink_bugs(&options)),
        "shrink" => run_shrink(&options),
        "cases" => Ok(run_cases(&options)),
        "bugs" => Ok(hunt(&options, PLANTED, bugs::Planted::hunt)),
        "bench" => {
            bench(&options);
            Ok(true)
        }
        _ => bail!("there is no command {command}\n{USAGE}"),
    }
}

fn bench(options: &Options) {
    let found = measure(options.start, options.seeds);
    println!(
        "three members, 10 proposals a second: {:.0} group-hours per core-hour; in a second of a group {:.0} events, {:.1} \
         entries committed",
        found.hours, found.events, found.committed
    );
}

fn run_explore(options: &Options) -> bool {
    let begun = Instant::now();
    let bug = options.bug.map(|planted| planted.bug);
    let summary = explore(options.start, options.seeds, options.jobs as usize, bug, |report| {
        if let Some(violation) = report.violations.first() {
            eprintln!("raft seed {}: {}: {}", report.seed, violation.rule.name(), violation.text);
        }
    });
    show(&summary, begun.elapsed().as_secs_f64());
    let all_came = (summary.runs < 1_000 || summary.missing_faults().is_empty())
        && (summary.runs < 10_000 || summary.missing_marks().is_empty());
    summary.failures.is_empty() && (all_came || !options.strict)
}

fn explore_journal(options: &Options) -> bool {
    let begun = Instant::now();
    let bug = options.bug.map(|planted| planted.bug);
    let summary = journal::explore(options.start, options.seeds, options.jobs as usize, bug, |report| {
        if let Some(violation) = report.violations.first() {
            eprintln!("raft journal seed {}: {}: {}", report.seed, violation.rule.name(), violation.text);
        }
    });
    journal::show(&summary, begun.elapsed().as_secs_f64());
    let all_came = summary.runs < 200 || summary.missing().is_empty();
    summary.failures.is_empty() && (all_came || !options.strict)
}

fn replay_journal(options: &Options) -> Result<bool> {
    let seed = options.seed.context("--seed is missing")?;
    let report = journal::run(seed, options.bug.map(|planted| planted.bug), !options.quiet);
    print!("{}", report.story);
    for violation in &report.violations {
        let at = violation.at as f64 / 1e9;
        println!("{at:>10.6} VIOLATION of {}: {}", violation.rule.name(), violation.text);
    }
    println!(
        "{} events, {} committed, {} acknowledged",
        report.events, report.committed, report.acknowledged
    );
    println!("hash {:016x}", report.hash);
    Ok(report.violations.is_empty())
}

fn show(summary: &Summary, wall: f64) {
    let busy = summary.busy.as_secs_f64().max(1e-9);
    println!(
        "raft: {} seeds in {wall:.1} s, {} failed, {} events, {} committed, hash {:016x}",
        summary.runs,
        summary.failures.len(),
        summary.events,
        summary.committed,
        summary.hash
    );
    println!(
        "per core-second: {:.0} events, {:.0} virtual seconds",
        summary.events as f64 / busy,
        summary.virtual_time as f64 / 1e9 / busy
    );
    println!("faults:");
    let faults: Vec<_> = Fault::ALL.iter().map(|fault| (fault.name(), summary.counters.of(*fault))).collect();
    columns(&faults);
    println!("reached:");
    let marks: Vec<_> = Mark::ALL.iter().map(|mark| (mark.name(), summary.marks.of(*mark))).collect();
    columns(&marks);
    for (what, missing) in
        [("faults that never came", summary.missing_faults()), ("never reached", summary.missing_marks())]
    {
        if !missing.is_empty() {
            println!("{what}: {}", missing.join(", "));
        }
    }
}

fn columns(counts: &[(&str, u64)]) {
    for chunk in counts.chunks(4) {
        let line: Vec<String> = chunk.iter().map(|(name, count)| format!("{name:>24} {count:<8}")).collect();
        println!("  {}", line.join(" ").trim_end());
    }
}

fn replay(options: &Options) -> Result<bool> {
    let seed = options.seed.context("--seed is missing")?;
    let plan = Plan::new(seed, &mut Rng::from_u64(seed));
    if !options.quiet {
        println!("raft seed {seed}: {} members of {} nodes", plan.members, plan.nodes);
        println!("faults: {}", plan.swarm.names().collect::<Vec<_>>().join(", "));
        println!("{:?}", plan.config);
    }
    let report = run(seed, options.bug.map(|planted| planted.bug), !options.quiet);
    print!("{}", report.story);
    for violation in &report.violations {
        let at = violation.at as f64 / 1e9;
        println!("{at:>10.6} VIOLATION of {}: {}", violation.rule.name(), violation.text);
    }
    println!("{} events, {} committed", report.events, report.committed);
    println!("hash {:016x}", report.hash);
    Ok(report.violations.is_empty())
}

fn run_cases(options: &Options) -> bool {
    println!("| case | seeds | acknowledged | lost | failed | faults |");
    println!("|---|--:|--:|--:|--:|---|");
    let mut good = true;
    for case in CASES {
        let (mut acknowledged, mut lost, mut failed) = (0, 0, 0);
        let mut counters = Counters::default();
        for seed in options.start..options.start + options.seeds {
            let report = case.run(seed, options.bug.map(|planted| planted.bug));
            acknowledged += report.acknowledged;
            lost += report.lost;
            failed += u64::from(!report.violations.is_empty());
            counters.merge(&report.counters);
            if let Some(violation) = report.violations.first()
                && !options.quiet
            {
                eprintln!("{} seed {seed}: {}: {}", case.name, violation.rule.name(), violation.text);
            }
        }
        good &= failed == 0 && acknowledged > 0;
        let came = Fault::ALL.iter().filter(|fault| counters.of(**fault) > 0);
        let came: Vec<_> = came.map(|fault| format!("{} {}", fault.name(), counters.of(*fault))).collect();
        let (name, seeds) = (case.name, options.seeds);
        println!("| {name} | {seeds} | {acknowledged} | {lost} | {failed} | {} |", came.join(", "));
    }
    good
}

fn run_shrink(options: &Options) -> Result<bool> {
    let seed = options.seed.context("--seed is missing")?;
    let bug = options.bug.map(|planted| planted.bug);
    let Some(small) = shrink(seed, bug, Duration::from_secs(options.seconds)) else {
        println!("raft seed {seed} doesn't fail");
        return Ok(true);
    };
    let requests = small.script.deeds.iter().filter(|(_, deed)| deed.is_request()).count();
    println!(
        "raft seed {seed}: {} deeds of {} ({requests} of them clients'), {:.1} s of virtual time, {} runs, {:.1} s",
        small.script.deeds.len(),
        small.deeds_before,
        small.violation.at.max(small.script.until) as f64 / 1e9,
        small.runs,
        small.took.as_secs_f64()
    );
    println!("{}", small.script.run(bug, Tell::Story).story.trim_end());
    println!("VIOLATION of {}: {}", small.violation.rule.name(), small.violation.text);
    let name = options.bug.map_or_else(|| format!("seed_{seed}"), |bug| bug.name.to_owned());
    println!("\n{}", small.script.test(&name, options.bug.map(|bug| bug.name)));
    Ok(false)
}

/// Makes the first seed small that shows each planted bug.
fn shrink_bugs(options: &Options) -> bool {
    let patience = Duration::from_secs(options.seconds);
    let found = bugs::for_each(&options.wanted(PLANTED), options.jobs as usize, |planted| {
        let caught = planted.hunt(options.start, options.seeds)?;
        let small = shrink(caught.seed, Some(planted.bug), patience)?;
        eprintln!("{}: {} deeds of {}", planted.name, small.script.deeds.len(), small.deeds_before);
        Some((caught.seed, small))
    });
    println!("| planted bug | seed | deeds before | left | runs | seconds |");
    println!("|---|--:|--:|--:|--:|--:|");
    let mut sizes = Vec::new();
    let mut times = Vec::new();
    for (planted, small) in &found {
        let Some((seed, small)) = small else {
            println!("| {} | not in {} | | | | |", planted.name, options.seeds);
            continue;
        };
        let (deeds, seconds) = (small.script.deeds.len(), small.took.as_secs_f64());
        println!(
            "| {} | {seed} | {} | {deeds} | {} | {seconds:.1} |",
            planted.name, small.deeds_before, small.runs
        );
        sizes.push(deeds);
        times.push(seconds);
    }
    sizes.sort_unstable();
    times.sort_by(f64::total_cmp);
    let few = sizes.iter().filter(|size| **size <= 30).count();
    let median = sizes.len() / 2;
    println!(
        "\n{} of {} made small, {few} to 30 deeds or fewer; medians: {} deeds, {:.1} s",
        sizes.len(),
        found.len(),
        sizes.get(median).copied().unwrap_or(0),
        times.get(median).copied().unwrap_or(0.0)
    );
    few == found.len()
}

fn hunt(
    options: &Options,
    planted: &'static [Planted],
    look: impl Fn(&Planted, u64, u64) -> Option<bugs::Caught> + Sync,
) -> bool {
    let found = bugs::for_each(&options.wanted(planted), options.jobs as usize, |planted| {
        let caught = look(planted, options.start, options.seeds);
        let after =
            caught.as_ref().map_or("not".to_owned(), |caught| format!("after {} seeds", caught.seeds));
        eprintln!("{}: caught {after}", planted.name);
        caught
    });
    println!("| planted bug | what is wrong | rule that it broke | seeds until caught | core-seconds |");
    println!("|---|---|---|--:|--:|");
    for (planted, caught) in &found {
        let (name, wrong) = (planted.name, planted.wrong);
        match caught {
            Some(caught) => {
                let (rule, seeds) = (caught.violation.rule.name(), caught.seeds);
                println!("| {name} | {wrong} | {rule} | {seeds} | {:.2} |", caught.took.as_secs_f64());
            }
            None => println!("| {name} | {wrong} |  | not in {} | |", options.seeds),
        }
    }
    let mut seeds: Vec<u64> =
        found.iter().map(|(_, caught)| caught.as_ref().map_or(u64::MAX, |it| it.seeds)).collect();
    seeds.sort_unstable();
    let within = |most: u64| seeds.iter().filter(|seeds| **seeds <= most).count();
    println!(
        "\n{} of {} caught, {} within 1,000 seeds, {} within 100, the median after {}",
        within(u64::MAX - 1),
        seeds.len(),
        within(1_000),
        within(100),
        seeds.get(seeds.len() / 2).copied().unwrap_or(0)
    );
    within(u64::MAX - 1) == seeds.len()
}
