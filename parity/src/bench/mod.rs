//! Measures natrix beside the Go server and beside a bare relay, in one run.
//!
//! How far a figure can be trusted is decided here, so the rules are these:
//!
//! - **Paired and interleaved.** A round runs every target of a case in turn, each in a fresh process,
//!   and the next round starts with another one. Ratios are taken within a round; their median counts.
//! - **CPU beside speed.** Throughput depends on who else uses the machine; the server's CPU seconds
//!   per million operations depend on it much less.
//! - **A floor.** The [`relay`] reads and writes the same bytes and thinks about none of them: what it
//!   costs, the kernel costs, and no server can be cheaper with the same reads and writes.
//! - **An independent load.** Raw blocking sockets, protocol bytes built beforehand, deliveries counted
//!   by bytes (each message of a case has one known size): the [`load`] is never what is measured.
//!
//! Every case is bounded by its [`Window`]; its sockets are shut down at the end, which frees any
//! thread that still waits for one.

mod cases;
mod connections;
mod flow;
mod jetstream;
mod load;
mod options;
mod relay;
mod report;
mod request;
mod target;

use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::servers::{Implementation, Usage};
use cases::Case;
use options::Options;
use report::Report;
use target::{Running, Target};

pub use relay::run as run_relay;

/// How long a case runs: not counted at first, then counted.
#[derive(Clone, Copy, Debug)]
struct Window {
    warm_up: Duration,
    measure: Duration,
}

/// What one target did in one case of one round.
#[derive(Clone, Debug)]
struct Sample {
    /// Messages delivered, requests answered, or connections made.
    operations: u64,
    elapsed: Duration,
    /// The measured process alone; the load is a process of its own.
    cpu: Duration,
    /// Bytes at the end, while the load still runs.
    resident: u64,
    /// In nanoseconds, where the case measures it.
    latency: Option<Percentiles>,
    /// Resident bytes for each thing the case holds open, where it counts them.
    bytes_each: Option<f64>,
}

impl Sample {
    fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    fn cpu_per_million(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.operations as f64
    }
}

/// Latency in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Percentiles {
    p50: u64,
    p99: u64,
    p999: u64,
}

/// Lets the load run through the window and reads `count` and the target's usage at both of its ends.
fn measure(running: &Running, window: Window, count: impl Fn() -> u64) -> Result<Sample> {
    std::thread::sleep(window.warm_up);
    let (first, before, started) = (count(), running.usage()?, std::time::Instant::now());
    std::thread::sleep(window.measure);
    let (last, after, elapsed) = (count(), running.usage()?, started.elapsed());
    if first == last {
        bail!("nothing happened within {elapsed:?}; the log of the server:\n{}", running.log());
    }
    Ok(Sample::between(last - first, elapsed, before, after))
}

impl Sample {
    fn between(operations: u64, elapsed: Duration, before: Usage, after: Usage) -> Sample {
        let cpu = after.cpu - before.cpu;
        Sample { operations, elapsed, cpu, resident: after.resident, latency: None, bytes_each: None }
    }
}

/// Runs `natrix-parity bench` with these arguments and prints its table to standard output.
///
/// # Errors
///
/// For an unknown argument, if natrix is not installed, or if a case could not be measured.
pub fn run(arguments: &[String]) -> Result<()> {
    if let Some((first, rest)) = arguments.split_first()
        && first == "jetstream"
    {
        return jetstream::run(rest);
    }
    let options = match Options::parse(arguments)? {
        options::Parsed::Help(text) => {
            println!("{text}");
            return Ok(());
        }
        options::Parsed::Run(options) => options,
    };
    build_natrix(&options)?;
    load::raise_descriptor_limit()?;
    let targets = installed_targets(&options)?;
    let mut report = Report::new(&options, &targets);
    for case in &options.cases {
        for round in 0..options.rounds_of(case) {
            for place in 0..targets.len() {
                // Whoever comes first meets another machine than whoever comes second.
                let target = targets[(place + round) % targets.len()];
                if target == Target::Relay && case.relay.is_none() {
                    continue;
                }
                let sample = sample(case, target, options.window)
                    .with_context(|| format!("case {}, target {target}, round {}", case.name, round + 1))?;
                eprintln!(
                    "{:<18} {:<10} round {}: {:>11.0}/s {:>9.3} CPU s/M",
                    case.name,
                    target.to_string(),
                    round + 1,
                    sample.per_second(),
                    sample.cpu_per_million()
                );
                report.add(case, target, sample);
            }
        }
    }
    print!("{}", report.render(options.format));
    Ok(())
}

fn sample(case: &Case, target: Target, window: Window) -> Result<Sample> {
    let running = Running::start(target, case.relay)?;
    let sample = (case.run)(&running, window);
    sample.with_context(|| format!("its log:\n{}", running.log()))
}

/// Builds the server that is measured, so that no figure is of an older one.
fn build_natrix(options: &Options) -> Result<()> {
    match options.targets.iter().any(|target| matches!(target, Target::Natrix { .. })) {
        true => build_natrix_release(),
        false => Ok(()),
    }
}

/// Builds the server, unless an executable of it is given.
fn build_natrix_release() -> Result<()> {
    let Some(cargo) = std::env::var_os("CARGO") else {
        // Not started by cargo: whoever did knows which executables there are.
        return Ok(());
    };
    if std::env::var_os(Implementation::Natrix.override_variable()).is_some() {
        return Ok(());
    }
    let status = std::process::Command::new(cargo)
        .args(["build", "--release", "--package", "natrix"])
        .current_dir(crate::servers::workspace_dir())
        .status()?;
    if !status.success() {
        bail!("natrix does not build");
    }
    Ok(())
}

/// Returns the targets that can be run; only the Go server may be missing.
fn installed_targets(options: &Options) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for target in &options.targets {
        match target.find() {
            Ok(()) => targets.push(*target),
            Err(error) if *target == Target::Go => eprintln!("without the Go server: {error}"),
            Err(error) => return Err(error),
        }
    }
    if targets.is_empty() {
        bail!("nothing to measure");
    }
    Ok(targets)
}
