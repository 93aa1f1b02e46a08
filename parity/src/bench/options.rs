//! The command line of `natrix-parity bench`.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::Window;
use super::cases::{self, Case};
use super::report::Format;
use super::target::Target;

/// What one run of the benchmark measures, and how.
pub(super) struct Options {
    pub(super) cases: Vec<&'static Case>,
    pub(super) targets: Vec<Target>,
    pub(super) rounds: usize,
    pub(super) window: Window,
    pub(super) format: Format,
}

/// What the arguments ask for.
pub(super) enum Parsed<T> {
    /// To be printed.
    Help(String),
    Run(T),
}

/// Returns the words of arguments; both `--flag value` and `--flag=value` are understood.
pub(super) fn words(arguments: &[String]) -> impl Iterator<Item = &str> {
    arguments.iter().flat_map(|argument| match argument.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => vec![flag, value],
        _ => vec![argument.as_str()],
    })
}

/// Refuses what can't be measured: no round or very many, a blink or a coffee break.
pub(super) fn check(rounds: usize, seconds: f64) -> Result<()> {
    ensure!((1..=100).contains(&rounds), "--rounds has to be between 1 and 100");
    ensure!((0.05..=60.0).contains(&seconds), "--seconds has to be between 0.05 and 60");
    Ok(())
}

impl Options {
    /// Reads the arguments after `bench`.
    pub(super) fn parse(arguments: &[String]) -> Result<Parsed<Options>> {
        let mut words = words(arguments);
        let (mut rounds, mut seconds, mut shards) = (None, None, None);
        let mut cases: Vec<&Case> = cases::ALL.iter().collect();
        let mut kinds = vec!["go", "relay", "natrix"];
        let (mut quick, mut format) = (false, Format::Plain);
        while let Some(word) = words.next() {
            let mut value = || words.next().with_context(|| format!("{word} needs a value"));
            match word {
                "--cases" => cases = value()?.split(',').map(cases::find).collect::<Result<_>>()?,
                "--targets" => kinds = value()?.split(',').collect(),
                "--rounds" => rounds = Some(value()?.parse::<usize>().context("--rounds")?),
                "--seconds" => seconds = Some(value()?.parse::<f64>().context("--seconds")?),
                "--shards" => {
                    let numbers = value()?.split(',').map(|number| number.parse().context("--shards"));
                    shards = Some(numbers.collect::<Result<Vec<usize>>>()?);
                }
                "--quick" => quick = true,
                "--markdown" => format = Format::Markdown,
                "--help" | "-h" => return Ok(Parsed::Help(help())),
                _ => bail!("unknown argument {word}; see bench --help"),
            }
        }
        let seconds = seconds.unwrap_or(if quick { 0.3 } else { 0.8 });
        let rounds = rounds.unwrap_or(if quick { 1 } else { 5 });
        check(rounds, seconds)?;
        let shards = shards.unwrap_or(if quick { vec![1] } else { vec![1, 2] });
        let mut targets = Vec::new();
        for kind in kinds {
            match kind {
                "go" => targets.push(Target::Go),
                "relay" => targets.push(Target::Relay),
                "natrix" => targets.extend(shards.iter().map(|&shards| Target::Natrix { shards })),
                _ => bail!("unknown target {kind}: go, relay or natrix"),
            }
        }
        let measure = Duration::from_secs_f64(seconds);
        let window = Window { warm_up: measure / 4, measure };
        Ok(Parsed::Run(Options { cases, targets, rounds, window, format }))
    }

    /// Returns how often a case is run: those that set up thousands of things need, and take, less repetition.
    pub(super) fn rounds_of(&self, case: &Case) -> usize {
        if case.slow_to_set_up { self.rounds.div_ceil(2) } else { self.rounds }
    }
}

fn help() -> String {
    let mut text = String::from(
        "natrix-parity bench [--cases a,b] [--targets go,relay,natrix] [--rounds 5] [--seconds 0.8]\n\
         \x20                   [--shards 1,2] [--quick] [--markdown]\n\
         natrix-parity bench jetstream --help\n\n\
         The Go server is found by NATS_SERVER_BIN or where parity/clients/setup puts it; without it the\n\
         other targets are measured alone. Cases:\n",
    );
    for case in cases::ALL {
        text.push_str(&format!("  {:<18} {}\n", case.name, case.title));
    }
    text
}

/// Reads a line of arguments that asks for a run.
#[cfg(test)]
pub(super) fn run_of<T>(parse: fn(&[String]) -> Result<Parsed<T>>, line: &str) -> Result<T> {
    let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    match parse(&words)? {
        Parsed::Run(options) => Ok(options),
        Parsed::Help(text) => bail!("{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Options> {
        run_of(Options::parse, line)
    }

    #[test]
    fn every_case_and_target_is_measured_unless_told_otherwise() {
        let options = parse("").unwrap();
        assert_eq!(options.cases.len(), cases::ALL.len());
        let natrix = |shards| Target::Natrix { shards };
        assert_eq!(options.targets, [Target::Go, Target::Relay, natrix(1), natrix(2)]);
    }

    #[test]
    fn arguments_choose() {
        let options =
            parse("--cases=ping,connect --rounds 2 --seconds=0.5 --shards 4 --targets natrix").unwrap();
        assert_eq!(options.cases.iter().map(|case| case.name).collect::<Vec<_>>(), ["ping", "connect"]);
        assert_eq!(options.targets, [Target::Natrix { shards: 4 }]);
        assert_eq!((options.rounds, options.window.measure), (2, Duration::from_millis(500)));
    }

    #[test]
    fn wrong_arguments_are_errors() {
        for line in ["--cases nonsense", "--rounds", "--rounds 0", "--seconds 0", "--targets x", "--nonsense"]
        {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
