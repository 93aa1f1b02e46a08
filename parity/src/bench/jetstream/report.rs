//! The table: medians with their spreads, and ratios within a round.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

use super::cases::Case;
use super::options::Options;
use super::{Sample, Sync, Target};
use crate::bench::Percentiles;
use crate::bench::report::{Format, Spread, markdown, micros, plain, three_figures, whole};
use crate::servers::Implementation;

/// The samples of one target, by round: a failed round has none.
type Samples = BTreeMap<usize, Sample>;

/// Everything that was measured.
pub(super) struct Report {
    heading: String,
    format: Format,
    /// By case, in the order in which they came, and target.
    sections: Vec<(&'static str, Vec<(Target, Samples)>)>,
}

impl Report {
    pub(super) fn new(options: &Options) -> Report {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut heading = format!(
            "{cores} cores shared with the load, {} rounds; cases that end by time take {} s, others {} messages (a \
             tenth with sync always), recovery {}; median (min..max). Ratios are natrix's figure divided by Go's.",
            options.rounds,
            options.window.as_secs_f64(),
            options.messages,
            options.recover_messages,
        );
        if options.touch > 0 {
            let _ = write!(heading, " {} GiB of memory touched before each.", options.touch >> 30);
        }
        for implementation in Implementation::ALL {
            let given = options.binary(implementation).or_else(|| implementation.find().ok());
            if let Some(version) = given.and_then(version) {
                let _ = write!(heading, " {version}.");
            }
        }
        Report { heading, format: options.format, sections: Vec::new() }
    }

    pub(super) fn add(&mut self, case: &Case, target: Target, round: usize, sample: Sample) {
        if self.sections.last().is_none_or(|(title, _)| *title != case.title) {
            self.sections.push((case.title, Vec::new()));
        }
        let (_, targets) = self.sections.last_mut().expect("pushed above");
        match targets.iter_mut().find(|(other, _)| *other == target) {
            Some((_, samples)) => {
                samples.insert(round, sample);
            }
            None => targets.push((target, BTreeMap::from([(round, sample)]))),
        }
    }

    pub(super) fn render(&self) -> String {
        let header = [
            "case",
            "target",
            "per second",
            "CPU s/M",
            "MB",
            "bytes each",
            "p50/p99/p99.9 us",
            "rate/go",
            "CPU/go",
            "p50/go",
            "MB/go",
            "each/go",
            "rate/go lazy",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for (title, targets) in &self.sections {
            rows.extend(targets.iter().map(|(target, samples)| row(title, *target, samples, targets)));
        }
        let table = match self.format {
            Format::Plain => plain(&rows),
            Format::Markdown => markdown(&rows),
        };
        format!("{}\n\n{table}", self.heading)
    }
}

fn row(title: &str, target: Target, samples: &Samples, all: &[(Target, Samples)]) -> Vec<String> {
    let of_go = |sync: Sync| {
        let go = Target { implementation: Implementation::Go, sync };
        all.iter().find(|(other, _)| *other == go && target.implementation != Implementation::Go)
    };
    let ratio = |sync: Sync, figure: fn(&Sample) -> Option<f64>| {
        let Some((_, theirs)) = of_go(sync) else { return String::new() };
        let pairs =
            samples.iter().filter_map(|(round, ours)| Some((figure(ours)?, figure(theirs.get(round)?)?)));
        let ratios: Vec<f64> =
            pairs.filter(|(_, theirs)| *theirs > 0.0).map(|(ours, theirs)| ours / theirs).collect();
        if ratios.is_empty() { String::new() } else { format!("{:.2}", Spread::of(ratios).median) }
    };
    let spread = |figure: fn(&Sample) -> f64| Spread::of(samples.values().map(figure));
    let each: Vec<f64> = samples.values().filter_map(|sample| sample.bytes_each).collect();
    let rate = |sample: &Sample| Some(sample.per_second());
    vec![
        title.to_owned(),
        target.to_string(),
        spread(Sample::per_second).text(whole),
        spread(Sample::cpu_per_million).text(three_figures),
        format!("{:.0}", spread(|sample| sample.resident as f64).median / 1e6),
        if each.is_empty() { String::new() } else { whole(Spread::of(each).median) },
        latency(samples).map_or(String::new(), micros),
        ratio(target.sync, rate),
        ratio(target.sync, |sample| Some(sample.cpu_per_million())),
        ratio(target.sync, |sample| Some(sample.latency?.p50 as f64)),
        ratio(target.sync, |sample| Some(sample.resident as f64)),
        ratio(target.sync, |sample| sample.bytes_each),
        if target.sync == Sync::Always { ratio(Sync::Lazy, rate) } else { String::new() },
    ]
}

/// Returns the median of each percentile.
fn latency(samples: &Samples) -> Option<Percentiles> {
    let all: Vec<Percentiles> = samples.values().filter_map(|sample| sample.latency).collect();
    let median = |figure: fn(&Percentiles) -> u64| {
        Spread::of(all.iter().map(|each| figure(each) as f64)).median as u64
    };
    (!all.is_empty()).then(|| Percentiles {
        p50: median(|each| each.p50),
        p99: median(|each| each.p99),
        p999: median(|each| each.p999),
    })
}

/// Returns what a server says to `--version`.
fn version(path: PathBuf) -> Option<String> {
    let output = std::process::Command::new(path).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(operations: u64) -> Sample {
        Sample {
            operations,
            elapsed: Duration::from_secs(1),
            cpu: Duration::from_millis(500),
            resident: 20_000_000,
            latency: Some(Percentiles { p50: 1000, p99: 2000, p999: 3000 }),
            bytes_each: None,
        }
    }

    #[test]
    fn a_round_that_failed_is_left_out_of_the_ratios() {
        let Ok(crate::bench::options::Parsed::Run(options)) = Options::parse(&[]) else { unreachable!() };
        let mut report = Report::new(&options);
        let case = super::super::cases::find("publish-1").unwrap();
        let target = |implementation, sync| Target { implementation, sync };
        for (round, operations) in [(0, 1000), (2, 3000)] {
            report.add(case, target(Implementation::Go, Sync::Lazy), round, sample(operations));
        }
        for (round, operations) in [(0, 2000), (1, 90_000), (2, 6000)] {
            report.add(case, target(Implementation::Natrix, Sync::Always), round, sample(operations));
        }
        let text = report.render();
        let row: Vec<&str> =
            text.lines().last().unwrap().split("  ").filter(|cell| !cell.is_empty()).collect();
        assert_eq!(row[1], "natrix/always");
        // No ratio against `go/always`, which was not measured.
        assert_eq!(row.last(), Some(&"2.00"), "{text}");
        assert_eq!(row.len(), 7, "{text}");
    }
}
