//! The command line of `natrix-parity bench jetstream`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::cases::{self, Case};
use super::{Sync, Target};
use crate::bench::options::{Parsed, check, words};
use crate::bench::report::Format;
use crate::servers::Implementation;

/// GiB of `--touch`: more than a round writes isn't needed.
const MOST_TOUCHED: usize = 16;

/// What one run measures, and how.
pub(super) struct Options {
    pub(super) cases: Vec<&'static Case>,
    pub(super) targets: Vec<Target>,
    pub(super) rounds: usize,
    /// How long the cases that end by time go on.
    pub(super) window: Duration,
    /// How many messages or keys the others have.
    pub(super) messages: u64,
    pub(super) recover_messages: u64,
    pub(super) quick: bool,
    /// How many shards natrix has, if it isn't to choose.
    pub(super) shards: Option<u16>,
    /// How many bytes of memory are touched before a server is measured; see [`super::touch`].
    pub(super) touch: usize,
    pub(super) format: Format,
    pub(super) natrix: Option<PathBuf>,
    pub(super) go: Option<PathBuf>,
}

impl Options {
    /// Reads the arguments after `jetstream`.
    pub(super) fn parse(arguments: &[String]) -> Result<Parsed<Options>> {
        let mut words = words(arguments);
        let quick = arguments.iter().any(|argument| argument == "--quick");
        let mut options = Options {
            cases: cases::ALL.iter().collect(),
            targets: Vec::new(),
            rounds: if quick { 1 } else { 5 },
            window: Duration::from_secs_f64(if quick { 0.3 } else { 3.0 }),
            messages: if quick { 2000 } else { 100_000 },
            recover_messages: if quick { 5000 } else { 1_000_000 },
            quick,
            shards: None,
            touch: 0,
            format: Format::Plain,
            natrix: None,
            go: None,
        };
        let (mut implementations, mut modes) = (vec!["go", "natrix"], vec!["always", "lazy"]);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--only" => options.cases = value()?.split(',').map(cases::find).collect::<Result<_>>()?,
                "--targets" => implementations = value()?.split(',').collect(),
                "--sync" => modes = value()?.split(',').collect(),
                "--rounds" => options.rounds = value()?.parse().context("--rounds")?,
                "--seconds" => {
                    let seconds: f64 = value()?.parse().context("--seconds")?;
                    check(options.rounds, seconds)?;
                    options.window = Duration::from_secs_f64(seconds);
                }
                "--messages" => options.messages = value()?.parse().context("--messages")?,
                "--recover-messages" => {
                    options.recover_messages = value()?.parse().context("--recover-messages")?;
                }
                "--shards" => options.shards = Some(value()?.parse().context("--shards")?),
                "--touch" => {
                    let gibibytes: usize = value()?.parse().context("--touch")?;
                    ensure!(gibibytes <= MOST_TOUCHED, "--touch takes {MOST_TOUCHED} GiB at most");
                    options.touch = gibibytes << 30;
                }
                "--natrix" => options.natrix = Some(executable(value()?)?),
                "--go" => options.go = Some(executable(value()?)?),
                "--quick" => {}
                "--markdown" => options.format = Format::Markdown,
                "--help" | "-h" => return Ok(Parsed::Help(help())),
                _ => bail!("unknown argument {word}; see bench jetstream --help"),
            }
        }
        check(options.rounds, options.window.as_secs_f64())?;
        ensure!(options.messages > 0 && options.recover_messages > 0, "there have to be messages");
        for mode in modes {
            let sync = match mode {
                "always" => Sync::Always,
                "lazy" => Sync::Lazy,
                _ => bail!("unknown mode {mode}: always or lazy"),
            };
            for name in &implementations {
                let implementation = Implementation::ALL.into_iter().find(|each| each.name() == *name);
                let implementation = implementation.with_context(|| format!("unknown target {name}"))?;
                options.targets.push(Target { implementation, sync });
            }
        }
        Ok(Parsed::Run(options))
    }

    /// Returns the executable that was asked for.
    pub(super) fn binary(&self, implementation: Implementation) -> Option<PathBuf> {
        match implementation {
            Implementation::Go => self.go.clone(),
            Implementation::Natrix => self.natrix.clone(),
        }
    }
}

/// A server's working folder is another than ours, so the path is made absolute.
fn executable(path: &str) -> Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| path.to_owned())
}

fn help() -> String {
    let mut text = String::from(
        "natrix-parity bench jetstream [--only a,b] [--targets go,natrix] [--sync always,lazy] [--rounds 5]\n\
         \x20   [--seconds 3] [--messages 100000] [--recover-messages 1000000] [--natrix PATH] [--go PATH]\n\
         \x20   [--shards N] [--quick] [--markdown]\n\n\
         With sync always, cases that load messages load a tenth. Stores are made in TMPDIR: it has to be on the\n\
         disk that is to be measured. Executables are found as by the core benchmark unless given.\n\
         --touch uses that much memory before each measurement and gives it back, so that a virtual machine's pages\n\
         are there when a server writes to them. Cases:\n",
    );
    for case in cases::ALL {
        text.push_str(&format!("  {:<16} {}\n", case.name, case.title));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        crate::bench::options::run_of(Options::parse, line)
    }

    #[test]
    fn both_servers_are_measured_in_both_modes_unless_told_otherwise() {
        let names = |options: Options| options.targets.iter().map(Target::to_string).collect::<Vec<_>>();
        assert_eq!(names(parse("").unwrap()), ["go/always", "natrix/always", "go/lazy", "natrix/lazy"]);
        assert_eq!(names(parse("--sync=lazy --targets natrix").unwrap()), ["natrix/lazy"]);
    }

    #[test]
    fn what_is_given_counts_more_than_quick() {
        let options = parse("--messages 7 --quick --only kv-get").unwrap();
        assert_eq!((options.messages, options.rounds, options.cases.len()), (7, 1, 1));
    }

    #[test]
    fn wrong_arguments_are_errors() {
        for line in [
            "--touch 17",
            "--only nonsense",
            "--rounds 0",
            "--seconds x",
            "--sync never",
            "--targets x",
            "--go",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
