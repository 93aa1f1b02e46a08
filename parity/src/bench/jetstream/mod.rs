//! Streams and consumers: natrix and the Go server beside each other, durable and lazy.
//!
//! The rules are those of the [core benchmark](super): fresh processes, interleaved rounds, ratios within
//! a round. Each server is measured twice, with `sync_interval: always` and with the Go server's lazy
//! default of two minutes. A case believes nothing: every publish has to be acknowledged with the sequence
//! that it must have, every message has to be read back, and the stream's state has to say the same.

mod cases;
mod client;
mod consume;
mod options;
mod publish;
mod report;
mod scale;

use std::fmt;

use anyhow::{Context, Result, bail};

use super::load::raise_descriptor_limit;
use super::{Sample, build_natrix_release};
use crate::servers::{Implementation, Server, ServerBuilder};
use cases::Case;
use client::Client;
use options::Options;
use report::Report;

/// When a server syncs what it has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sync {
    Always,
    Lazy,
}

/// A server in one of its two modes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    implementation: Implementation,
    sync: Sync,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sync = match self.sync {
            Sync::Always => "always",
            Sync::Lazy => "lazy",
        };
        out.pad(&format!("{}/{sync}", self.implementation.name()))
    }
}

/// What a case has to work with.
struct Bench<'a> {
    server: Server,
    sync: Sync,
    options: &'a Options,
}

impl Bench<'_> {
    fn start(options: &Options, target: Target) -> Result<Bench<'_>> {
        let interval = match target.sync {
            Sync::Always => "always",
            Sync::Lazy => "\"2m\"",
        };
        let config = format!("jetstream {{ store_dir: \"store\", sync_interval: {interval} }}\n");
        let builder =
            ServerBuilder::new(target.implementation)?.binary(options.binary(target.implementation));
        let mut builder = builder.config(&config)?;
        if let (Implementation::Natrix, Some(shards)) = (target.implementation, options.shards) {
            builder = builder.flag("--shards").flag(shards.to_string());
        }
        Ok(Bench { server: builder.start()?, sync: target.sync, options })
    }

    fn client(&self) -> Result<Client> {
        Client::connect(self.server.address(), "_INBOX.bench")
    }

    /// Connects beside [`Bench::client`], with an inbox of its own.
    fn second_client(&self) -> Result<Client> {
        Client::connect(self.server.address(), "_INBOX.second")
    }

    /// Returns how many messages or keys a case has that doesn't end by time.
    ///
    /// A tenth where each costs the Go server a sync of its own.
    fn messages(&self) -> u64 {
        match self.sync {
            Sync::Always => (self.options.messages / 10).max(1),
            Sync::Lazy => self.options.messages,
        }
    }

    /// Returns a number of streams or consumers, less in a quick run.
    fn scaled(&self, number: u64) -> u64 {
        if self.options.quick { number / 20 } else { number }
    }
}

/// Runs `natrix-parity bench jetstream`.
pub(super) fn run(arguments: &[String]) -> Result<()> {
    let options = match Options::parse(arguments)? {
        super::options::Parsed::Help(text) => {
            println!("{text}");
            return Ok(());
        }
        super::options::Parsed::Run(options) => options,
    };
    let measures_natrix =
        options.targets.iter().any(|target| target.implementation == Implementation::Natrix);
    if measures_natrix && options.natrix.is_none() {
        build_natrix_release()?;
    }
    raise_descriptor_limit()?;
    let targets = installed(&options)?;
    let mut report = Report::new(&options);
    let mut failures = 0;
    for case in &options.cases {
        for round in 0..options.rounds {
            let fitting: Vec<Target> =
                targets.iter().copied().filter(|target| case.measures(*target)).collect();
            for place in 0..fitting.len() {
                let target = fitting[(place + round) % fitting.len()];
                match sample(case, &options, target) {
                    Ok(sample) => {
                        eprintln!(
                            "{:<16} {:<14} round {}: {:>10.0}/s {:>9.3} CPU s/M",
                            case.name,
                            target.to_string(),
                            round + 1,
                            sample.per_second(),
                            sample.cpu_per_million()
                        );
                        report.add(case, target, round, sample);
                    }
                    Err(error) => {
                        // One case that fails must not cost the figures of the others.
                        eprintln!("{:<16} {target} round {}: FAILED: {error:#}", case.name, round + 1);
                        failures += 1;
                    }
                }
            }
        }
    }
    print!("{}", report.render());
    if failures > 0 {
        bail!("{failures} measurements failed");
    }
    Ok(())
}

fn sample(case: &Case, options: &Options, target: Target) -> Result<Sample> {
    let mut bench = Bench::start(options, target)?;
    touch(options.touch);
    let sample = (case.run)(&mut bench);
    sample.with_context(|| {
        let log = bench.server.log();
        let tail: Vec<&str> = log.lines().rev().take(10).collect();
        format!("the end of its log:\n{}\n", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    })
}

/// Uses so many bytes of memory, and gives them back at once.
///
/// A virtual machine may hand memory that is free to its host, and then the first use of a page afterwards costs
/// more than everything that a server does with a message (`docs/src/performance.md`). A machine that has
/// been up for a day has its memory: this makes it so for the next seconds, for whoever is measured.
fn touch(bytes: usize) {
    const PAGE: usize = 4096;
    let mut memory = vec![0u8; bytes];
    for at in (0..bytes).step_by(PAGE) {
        memory[at] = 1;
    }
    std::hint::black_box(&mut memory);
}

/// Returns the targets that can be run; only the Go server may be missing.
fn installed(options: &Options) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for target in &options.targets {
        let path = options.binary(target.implementation).filter(|path| path.is_file());
        match path.map_or_else(|| target.implementation.find(), Ok) {
            Ok(_) => targets.push(*target),
            Err(error) if target.implementation == Implementation::Go => {
                eprintln!("without {target}: {error}");
            }
            Err(error) => return Err(error.into()),
        }
    }
    if targets.is_empty() {
        bail!("nothing to measure");
    }
    Ok(targets)
}
