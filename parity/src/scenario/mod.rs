//! Differential scenarios: the same script run against the Go server and against natrix.
//!
//! A scenario is a small text file (its form is told in [`mod@format`]); running it gives a transcript, in which
//! each connection has a section of its own, since the order between connections isn't determined. What the Go
//! server gives is kept beside the scenario as `NAME.go.txt`; natrix must give the same.
//!
//! Scenarios whose server has the same flags and files share one process, one after the other; several
//! servers run at a time.

pub mod format;
pub mod identities;

mod answers;
mod connection;
mod diff;
mod js;
mod normalise;
mod runner;
mod text;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::servers::Implementation;
use format::Scenario;
use identities::Certificates;

/// How many servers run at a time.
const SERVERS_AT_A_TIME: usize = 4;

/// Returns the folder of all scenarios.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

/// Reads all scenarios, in order of their names.
///
/// # Errors
///
/// If one can't be understood, or names a feature that `parity/features.txt` hasn't.
pub fn load_all() -> Result<Vec<Scenario>> {
    let root = root();
    let features = features()?;
    let mut scenarios = Vec::new();
    for area in fs::read_dir(&root)? {
        for file in fs::read_dir(area?.path())? {
            let path = file?.path();
            let name = path.to_str().context("a file name that is not UTF-8")?;
            if name.ends_with(".txt") && !name.ends_with(".go.txt") {
                scenarios.push(Scenario::load(&root, &path)?);
            }
        }
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    for scenario in &scenarios {
        ensure!(
            features.contains(&scenario.feature),
            "scenario {}: {:?} is no line of features.txt",
            scenario.name,
            scenario.feature
        );
    }
    Ok(scenarios)
}

fn features() -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("features.txt");
    Ok(fs::read_to_string(path)?.lines().map(str::to_owned).collect())
}

/// Reads the names of scenarios that natrix isn't held to yet, from `parity/pending.txt`: a line for each, `#` for remarks.
///
/// # Errors
///
/// If the file can't be read.
pub fn pending() -> Result<BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("pending.txt");
    let text = fs::read_to_string(path)?;
    let names = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    Ok(names.map(str::to_owned).collect())
}

/// Returns where a scenario's transcript of the Go server is kept.
pub fn snapshot_path(scenario: &Scenario) -> PathBuf {
    root().join(format!("{}.go.txt", scenario.name))
}

/// Runs scenarios against one server; returns each one's transcript, or why there is none, by name.
///
/// # Errors
///
/// If the executable or the certificates can't be had.
pub fn run(
    implementation: Implementation,
    scenarios: &[Scenario],
) -> Result<BTreeMap<String, Result<String>>> {
    run_with(implementation, None, scenarios)
}

/// Runs scenarios against one server like [`run`], natrix with so many shards.
///
/// # Errors
///
/// As for [`run`].
pub fn run_with(
    implementation: Implementation,
    shards: Option<u16>,
    scenarios: &[Scenario],
) -> Result<BTreeMap<String, Result<String>>> {
    let certificates = Certificates::generate()?;
    let binary = implementation.find()?;
    let groups = groups(scenarios);
    let (next, results) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..SERVERS_AT_A_TIME {
            scope.spawn(|| {
                while let Some(group) = groups.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let transcripts =
                        runner::run_group((implementation, shards), &binary, &certificates, group);
                    results.lock().expect("no panic while held").extend(transcripts);
                }
            });
        }
    });
    Ok(results.into_inner().expect("no panic while held"))
}

/// Puts scenarios together that can share a server; those that wait longest (alone, mostly) come first.
fn groups(scenarios: &[Scenario]) -> Vec<Vec<&Scenario>> {
    let mut alone = Vec::new();
    let mut shared: BTreeMap<_, Vec<&Scenario>> = BTreeMap::new();
    for scenario in scenarios {
        if scenario.shares_its_server() {
            shared.entry((&scenario.config, &scenario.flags, &scenario.files)).or_default().push(scenario);
        } else {
            alone.push(vec![scenario]);
        }
    }
    let mut groups: Vec<_> = shared.into_values().collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.len()));
    groups.extend(alone);
    groups
}

/// Compares transcripts with the snapshots; returns one readable difference for each scenario that differs.
pub fn differences(scenarios: &[Scenario], transcripts: &BTreeMap<String, Result<String>>) -> Vec<String> {
    let mut found = Vec::new();
    for scenario in scenarios {
        let Some(transcript) = transcripts.get(&scenario.name) else {
            found.push(format!("=== {}\nnot run\n", scenario.name));
            continue;
        };
        let expected = fs::read_to_string(snapshot_path(scenario));
        let difference = match (transcript, expected) {
            (Err(error), _) => format!("{error:#}\n"),
            (_, Err(_)) => "no snapshot: record it with the Go server\n".to_owned(),
            (Ok(actual), Ok(expected)) => {
                let (actual, expected) = (scenario.compared(actual), scenario.compared(&expected));
                if actual == expected {
                    continue;
                }
                diff::unified(&expected, &actual)
            }
        };
        found.push(format!("=== {}\n{}\n{difference}", scenario.name, scenario.about.trim_end()));
    }
    found
}

/// The subcommand `scenarios [--record] [--go | --natrix] [--shards N] [--pending] [--repeat N] [PART OF A NAME…]`.
///
/// Without flags natrix is compared with the snapshots, pending scenarios left out unless `--pending` asks for them.
/// `--record` writes the snapshots anew from the Go server; `--shards` says how many natrix has.
///
/// # Errors
///
/// If a scenario differs.
pub fn command(arguments: &[String]) -> Result<()> {
    let (mut record, mut implementation, mut with_pending, mut repeat, mut parts) =
        (false, Implementation::Natrix, false, 1, Vec::new());
    let mut shards = None;
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--record" => (record, implementation) = (true, Implementation::Go),
            "--go" => implementation = Implementation::Go,
            "--natrix" => implementation = Implementation::Natrix,
            "--pending" => with_pending = true,
            "--repeat" => repeat = arguments.next().context("--repeat N")?.parse::<usize>()?,
            "--shards" => shards = Some(arguments.next().context("--shards N")?.parse::<u16>()?),
            flag if flag.starts_with('-') => bail!("unknown flag {flag}"),
            part => parts.push(part),
        }
    }
    let mut scenarios = load_all()?;
    scenarios.retain(|scenario| parts.is_empty() || parts.iter().any(|part| scenario.name.contains(part)));
    if implementation == Implementation::Natrix && !with_pending {
        let pending = pending()?;
        scenarios.retain(|scenario| !pending.contains(&scenario.name));
    }
    let mut failed = 0;
    for _ in 0..repeat {
        let started = std::time::Instant::now();
        let transcripts = run_with(implementation, shards, &scenarios)?;
        if record {
            for scenario in &scenarios {
                match &transcripts[&scenario.name] {
                    Ok(transcript) => fs::write(snapshot_path(scenario), transcript)?,
                    Err(error) => {
                        failed += 1;
                        println!("=== {}\n{error:#}\n", scenario.name);
                    }
                }
            }
        } else {
            let differences = differences(&scenarios, &transcripts);
            failed += differences.len();
            differences.iter().for_each(|difference| println!("{difference}"));
        }
        println!("{} scenarios against {implementation} in {:.1?}", scenarios.len(), started.elapsed());
    }
    ensure!(failed == 0, "{failed} scenarios differ");
    Ok(())
}
