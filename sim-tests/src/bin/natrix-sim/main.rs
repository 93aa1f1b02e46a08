//! Explores scenarios, replays seeds, and shows that planted bugs are caught.

mod jetstream;
mod storage;

use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use natrix_core::planted::Bug;
use natrix_runtime_sim::fault::Fault;
use natrix_sim_tests::bugs::{self, PLANTED};
use natrix_sim_tests::explore::{Summary, explore};
use natrix_sim_tests::marks::Mark;
use natrix_sim_tests::regressions;
use natrix_sim_tests::scenario::{self, SCENARIOS, Scenario};
use natrix_sim_tests::stopwatch::Stopwatch;
use natrix_sim_tests::world::{Settings, point_names};

const USAGE: &str = "\
natrix-sim list                                        names the scenarios
natrix-sim explore --scenario S --seeds N [--start K] [--jobs J] [--bug B] [--strict]
                                                       runs N seeds from K on; S may be `all`; with --strict it
                                                       fails too if a fault never came in 1,000 seeds, or a mark was
                                                       never reached in 10,000. Storage scenarios are named apart:
                                                       `storage` is all of them, and --strict fails if a disk fault
                                                       never came in 100 seeds; so are those of streams, `jetstream`
                                                       is all of them
natrix-sim replay --scenario S --seed X [--bug B] [--quiet]
                                                       prints the trace of one seed, and its hash last
natrix-sim bugs [--seeds N] [--start K] [--scenario storage|jetstream]
                                                       plants each bug and says how soon it was caught
natrix-sim bench [--seeds N]                           events per core-second
";

/// The arguments behind the command.
struct Arguments(Vec<(String, String)>);

impl Arguments {
    fn parse(words: &[String]) -> Result<Arguments> {
        let mut pairs = Vec::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let name = word.strip_prefix("--").with_context(|| format!("what is {word}?"))?;
            let value = match (name.split_once('='), name) {
                (Some((name, value)), _) => {
                    pairs.push((name.to_owned(), value.to_owned()));
                    continue;
                }
                (None, "quiet" | "strict") => String::new(),
                (None, _) => words.next().with_context(|| format!("--{name} of what?"))?.clone(),
            };
            pairs.push((name.to_owned(), value));
        }
        Ok(Arguments(pairs))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn number(&self, name: &str, default: u64) -> Result<u64> {
        self.text(name).map_or(Ok(default), |text| text.parse().with_context(|| format!("--{name} {text}")))
    }

    fn scenario(&self) -> Result<&'static Scenario> {
        let name = self.text("scenario").context("--scenario is missing; `natrix-sim list` names them")?;
        scenario::find(name).with_context(|| format!("there is no scenario {name}"))
    }

    /// Returns the seed to replay.
    fn seed(&self) -> Result<u64> {
        match self.text("seed") {
            Some(text) => text.parse().with_context(|| format!("--seed {text}")),
            None => bail!("--seed is missing"),
        }
    }

    fn bug(&self) -> Result<Option<Bug>> {
        self.text("bug")
            .map(|name| bugs::find(name).map(|planted| planted.bug).with_context(|| format!("no bug {name}")))
            .transpose()
    }
}

/// Which seeds of a scenario are explored, and by how many threads.
struct Exploration {
    seeds: u64,
    start: u64,
    jobs: usize,
}

impl Exploration {
    fn of(arguments: &Arguments) -> Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        Ok(Exploration {
            seeds: arguments.number("seeds", 100)?,
            start: arguments.number("start", 1)?,
            jobs: arguments.number("jobs", cores)? as usize,
        })
    }

    /// Returns the bar that shows how far a scenario is.
    fn bar(&self, scenario: &'static str) -> Result<ProgressBar> {
        let bar = ProgressBar::new(self.seeds);
        let style = "{prefix:>18} [{bar:40}] {pos}/{len} seeds, {eta} left {msg}";
        bar.set_style(ProgressStyle::with_template(style)?.progress_chars("=> "));
        bar.set_prefix(scenario);
        Ok(bar)
    }
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match run(&words) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("natrix-sim: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(words: &[String]) -> Result<bool> {
    let Some((command, rest)) = words.split_first() else {
        bail!("nothing to do\n{USAGE}{}", natrix_sim_tests::raft::cli::USAGE)
    };
    if command == "raft" {
        std::panic::set_hook(Box::new(|_| {}));
        return natrix_sim_tests::raft::cli::main(rest);
    }
    let arguments = Arguments::parse(rest)?;
    if command != "replay" {
        // A panic is a violation like others; it is reported with its seed.
        std::panic::set_hook(Box::new(|_| {}));
    }
    match command.as_str() {
        "list" => {
            for scenario in SCENARIOS {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            for scenario in natrix_sim_tests::storage::SCENARIOS {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            for scenario in natrix_sim_tests::jetstream::SCENARIOS {
                println!("{:<18} {}", scenario.name, scenario.about);
            }
            Ok(true)
        }
        "explore" => run_explore(&arguments),
        "replay" => replay(&arguments),
        "bugs" => run_bugs(&arguments),
        "bench" => bench(&arguments),
        _ => bail!("there is no command {command}\n{USAGE}"),
    }
}

fn run_explore(arguments: &Arguments) -> Result<bool> {
    let of_storage = storage::chosen(arguments);
    if !of_storage.is_empty() {
        return storage::run_explore(&of_storage, arguments);
    }
    let of_streams = jetstream::chosen(arguments);
    if !of_streams.is_empty() {
        return jetstream::run_explore(&of_streams, arguments);
    }
    let chosen: Vec<&Scenario> = match arguments.text("scenario") {
        Some("all") => SCENARIOS.iter().filter(|scenario| scenario.name != "bench").collect(),
        _ => vec![arguments.scenario()?],
    };
    let exploration = Exploration::of(arguments)?;
    let Exploration { seeds, start, jobs } = exploration;
    let bug = arguments.bug()?;
    let planted = PLANTED.iter().find(|planted| Some(planted.bug) == bug);
    let mut whole = Summary::default();
    let begun = Instant::now();
    for scenario in &chosen {
        let bar = exploration.bar(scenario.name)?;
        let summary = explore(scenario, start, seeds, jobs, bug, |report| {
            if let Some(violation) = report.violations.first() {
                bar.println(format!(
                    "{} seed {}: {}: {}",
                    scenario.name,
                    report.seed,
                    violation.checker.name(),
                    violation.text
                ));
            }
            bar.inc(1);
        });
        bar.finish_and_clear();
        println!(
            "{:<18} {} seeds, {} failed, {} events, {} delivered, {:.1} virtual seconds, hash {:016x}",
            scenario.name,
            summary.runs,
            summary.failures.len(),
            summary.handled,
            summary.delivered,
            summary.virtual_time as f64 / 1e9,
            summary.hash
        );
        for (seed, violations) in &summary.failures {
            let violation = &violations[0];
            println!("  seed {seed}: {}: {}", violation.checker.name(), violation.text);
            let (name, head) = regressions::file_of(scenario, *seed, violation, planted);
            println!("  to keep it: sim-tests/regressions/{name} with its story behind");
            head.lines().for_each(|line| println!("    {line}"));
        }
        whole.merge(summary);
    }
    show_summary(&whole, begun.elapsed().as_secs_f64());
    let all_came = (whole.runs < 1_000 || whole.missing_faults().is_empty())
        && (whole.runs < 10_000 || whole.missing_marks().is_empty());
    Ok(whole.failures.is_empty() && (all_came || arguments.text("strict").is_none()))
}

fn show_summary(summary: &Summary, wall: f64) {
    let busy = summary.busy.as_secs_f64().max(1e-9);
    println!("\n{} seeds in {wall:.1} s; {} failed", summary.runs, summary.failures.len());
    println!(
        "per core-second: {:.0} events, {:.0} messages delivered, {:.1} virtual seconds",
        summary.handled as f64 / busy,
        summary.delivered as f64 / busy,
        summary.virtual_time as f64 / 1e9 / busy
    );
    println!("faults:");
    for chunk in Fault::ALL.chunks(4) {
        let line: Vec<String> = chunk
            .iter()
            .map(|fault| format!("{:>20} {:<9}", fault.name(), summary.counters.of(*fault)))
            .collect();
        println!("  {}", line.join(" ").trim_end());
    }
    println!("reached:");
    for chunk in Mark::ALL.chunks(4) {
        let line: Vec<String> =
            chunk.iter().map(|mark| format!("{:>24} {:<8}", mark.name(), summary.marks.of(*mark))).collect();
        println!("  {}", line.join(" ").trim_end());
    }
    let (faults, marks) = (summary.missing_faults(), summary.missing_marks());
    if !faults.is_empty() {
        println!("faults that never came: {}", faults.join(", "));
    }
    if !marks.is_empty() {
        println!("never reached: {}", marks.join(", "));
    }
}

fn replay(arguments: &Arguments) -> Result<bool> {
    if let Some(scenario) = storage::chosen(arguments).first() {
        return storage::replay(scenario, arguments);
    }
    if let Some(scenario) = jetstream::chosen(arguments).first() {
        return jetstream::replay(scenario, arguments);
    }
    let scenario = arguments.scenario()?;
    let seed = arguments.seed()?;
    let (plan, _) = scenario.plan(seed);
    let quiet = arguments.text("quiet").is_some();
    if !quiet {
        println!("scenario {} seed {seed}", scenario.name);
        println!("shards {:?}, {} clients, {} peers", plan.shards, plan.profiles.len(), plan.ring);
        println!("faults: {}", plan.swarm.names().collect::<Vec<_>>().join(", "));
        println!("fault points: {}, one in {}", point_names(plan.points).join(", "), plan.point_one_in);
        println!("{:?}\n{:?}\n{:?}\n{:?}", plan.load, plan.link, plan.stream, plan.pace);
    }
    let settings = Settings { bug: arguments.bug()?, print: !quiet, text: false };
    let (report, text) = scenario.run(seed, settings);
    print!("{text}");
    for violation in &report.violations {
        println!("VIOLATION of {}: {}", violation.checker.name(), violation.text);
    }
    println!(
        "{} events, {} handled, {} published, {} delivered",
        report.events, report.handled, report.published, report.delivered
    );
    println!("hash {:016x}", report.hash);
    Ok(report.violations.is_empty())
}

fn run_bugs(arguments: &Arguments) -> Result<bool> {
    let seeds = arguments.number("seeds", 2000)?;
    let start = arguments.number("start", 1)?;
    if !storage::chosen(arguments).is_empty() {
        return Ok(storage::run_bugs(start, seeds));
    }
    if !jetstream::chosen(arguments).is_empty() {
        return Ok(jetstream::run_bugs(start, seeds));
    }
    println!("| planted bug | scenario | checker that saw it | seeds until caught | seconds |");
    println!("|---|---|---|--:|--:|");
    let mut all = true;
    for planted in PLANTED {
        let begun = Instant::now();
        let caught = planted.hunt(start, seeds);
        let took = begun.elapsed().as_secs_f64();
        match caught {
            Some(caught) => println!(
                "| {} | {} | {} | {} | {took:.1} |",
                planted.name,
                planted.scenario,
                caught.violation.checker.name(),
                caught.seeds
            ),
            None => {
                all = false;
                println!("| {} | {} | NOT CAUGHT | > {seeds} | {took:.1} |", planted.name, planted.scenario);
            }
        }
    }
    let of_storage = storage::run_bugs(start, seeds);
    Ok(jetstream::run_bugs(start, seeds) && of_storage && all)
}

fn bench(arguments: &Arguments) -> Result<bool> {
    let seeds = arguments.number("seeds", 10)?;
    let scenario = scenario::find("bench").context("no bench")?;
    let mut rates = Vec::new();
    for seed in 1..=seeds {
        let begun = Stopwatch::start();
        let (report, _) = scenario.run(seed, Settings::default());
        let took = begun.elapsed().as_secs_f64();
        if let Some(violation) = report.violations.first() {
            bail!("seed {seed}: {}: {}", violation.checker.name(), violation.text);
        }
        let rate = report.handled as f64 / took;
        println!(
            "seed {seed}: {} events in {took:.3} core-seconds: {rate:.0} a second, {:.0} messages delivered a second",
            report.handled,
            report.delivered as f64 / took
        );
        rates.push(rate);
    }
    rates.sort_by(f64::total_cmp);
    println!("median {:.0} events per core-second", rates[rates.len() / 2]);
    Ok(true)
}
