//! Medians, spreads, ratios and the table of them.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::cases::{Case, Goal};
use super::options::Options;
use super::target::Target;
use super::{Percentiles, Sample};
use crate::servers::Implementation;

/// How the table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Plain,
    Markdown,
}

/// The samples of one case, for each target in the order of its rounds.
struct Section {
    case: &'static Case,
    samples: Vec<(Target, Vec<Sample>)>,
}

/// Everything that was measured.
pub(super) struct Report {
    heading: String,
    targets: Vec<Target>,
    sections: Vec<Section>,
}

impl Report {
    pub(super) fn new(options: &Options, targets: &[Target]) -> Report {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut heading = format!(
            "{cores} cores shared with the load, rounds of {} s, {} of them (half as many for cases that are slow to \
             set up); median (min..max).",
            options.window.measure.as_secs_f64(),
            options.rounds
        );
        for implementation in Implementation::ALL {
            if let Some(version) = version(implementation) {
                let _ = write!(heading, " {version}.");
            }
        }
        Report { heading, targets: targets.to_vec(), sections: Vec::new() }
    }

    pub(super) fn add(&mut self, case: &'static Case, target: Target, sample: Sample) {
        if self.sections.last().is_none_or(|section| section.case.name != case.name) {
            let samples = self.targets.iter().map(|target| (*target, Vec::new())).collect();
            self.sections.push(Section { case, samples });
        }
        let section = self.sections.last_mut().expect("pushed above");
        let of_target = section.samples.iter_mut().find(|(other, _)| *other == target);
        of_target.expect("every target has its place").1.push(sample);
    }

    pub(super) fn render(&self, format: Format) -> String {
        let header = [
            "case",
            "target",
            "per second",
            "CPU s/M",
            "MB",
            "p50/p99/p99.9 us",
            "rate/go",
            "CPU/go",
            "CPU/relay",
            "goal",
        ];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for section in &self.sections {
            rows.extend(section.rows());
        }
        let table = match format {
            Format::Plain => plain(&rows),
            Format::Markdown => markdown(&rows),
        };
        format!("{}\n\n{table}", self.heading)
    }
}

impl Section {
    fn rows(&self) -> impl Iterator<Item = Vec<String>> {
        let measured = self.samples.iter().filter(|(_, samples)| !samples.is_empty());
        measured.map(|(target, samples)| {
            let figures = Figures::of(samples);
            let against = self.compare(*target, samples);
            let ratio =
                |ratio: Option<Spread>| ratio.map_or(String::new(), |ratio| format!("{:.2}", ratio.median));
            let memory = match figures.bytes_each {
                Some(bytes) => format!("{:.0} ({:.1} KiB each)", figures.resident / 1e6, bytes / 1024.0),
                None => format!("{:.0}", figures.resident / 1e6),
            };
            vec![
                self.case.title.to_owned(),
                target.to_string(),
                figures.rate.text(whole),
                figures.cpu.text(three_figures),
                memory,
                figures.latency.map_or(String::new(), micros),
                ratio(against.rate_of_go),
                ratio(against.cpu_of_go),
                ratio(against.cpu_of_relay),
                match target {
                    Target::Natrix { .. } => verdict(&self.case.goal, &against, &figures).to_owned(),
                    _ => String::new(),
                },
            ]
        })
    }

    fn compare(&self, target: Target, samples: &[Sample]) -> Comparison {
        let of = |other: Target| {
            let (_, others) = self.samples.iter().find(|(target, _)| *target == other)?;
            (target != other && !others.is_empty()).then_some(others)
        };
        let paired = |others: &Vec<Sample>, figure: fn(&Sample) -> f64| {
            // A round's samples have the same place in both lists.
            Spread::of(samples.iter().zip(others).map(|(ours, theirs)| figure(ours) / figure(theirs)))
        };
        Comparison {
            rate_of_go: of(Target::Go).map(|go| paired(go, Sample::per_second)),
            cpu_of_go: of(Target::Go).map(|go| paired(go, Sample::cpu_per_million)),
            cpu_of_relay: of(Target::Relay).map(|relay| paired(relay, Sample::cpu_per_million)),
            latency_of_go: of(Target::Go).and_then(|go| Figures::of(go).latency),
        }
    }
}

/// One target against the others.
struct Comparison {
    rate_of_go: Option<Spread>,
    cpu_of_go: Option<Spread>,
    cpu_of_relay: Option<Spread>,
    latency_of_go: Option<Percentiles>,
}

/// Returns whether the goal is reached; empty if there is none, or nothing to compare with.
fn verdict(goal: &Goal, against: &Comparison, figures: &Figures) -> &'static str {
    let at_most = |ratio: Option<Spread>, limit: Option<f64>| Some(ratio?.median <= limit?);
    let at_least = |ratio: Option<Spread>, limit: Option<f64>| Some(ratio?.median >= limit?);
    let latency = || {
        let (ours, theirs) = (figures.latency?, against.latency_of_go?);
        Some(ours.p50 <= theirs.p50 && ours.p99 <= theirs.p99 && ours.p999 <= theirs.p999)
    };
    let checks = [
        at_most(against.cpu_of_go, goal.cpu_of_go),
        at_least(against.rate_of_go, goal.rate_of_go),
        at_most(against.cpu_of_relay, goal.cpu_of_relay),
        if goal.latency_of_go { latency() } else { None },
        goal.bytes_each.and_then(|limit| Some(figures.bytes_each? <= limit)),
    ];
    match checks.iter().flatten().all(|reached| *reached) {
        _ if checks.iter().all(Option::is_none) => "",
        true => "reached",
        false => "missed",
    }
}

/// A target's figures in one case.
struct Figures {
    rate: Spread,
    cpu: Spread,
    resident: f64,
    latency: Option<Percentiles>,
    bytes_each: Option<f64>,
}

impl Figures {
    fn of(samples: &[Sample]) -> Figures {
        let each = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        let percentile = |figure: fn(&Percentiles) -> u64| {
            let values =
                samples.iter().filter_map(|sample| sample.latency.as_ref()).map(|each| figure(each) as f64);
            Spread::of(values).median as u64
        };
        let has_latency = samples.iter().any(|sample| sample.latency.is_some());
        let bytes: Vec<f64> = samples.iter().filter_map(|sample| sample.bytes_each).collect();
        Figures {
            rate: each(Sample::per_second),
            cpu: each(Sample::cpu_per_million),
            resident: each(|sample| sample.resident as f64).median,
            latency: has_latency.then(|| Percentiles {
                p50: percentile(|each| each.p50),
                p99: percentile(|each| each.p99),
                p999: percentile(|each| each.p999),
            }),
            bytes_each: (!bytes.is_empty()).then(|| Spread::of(bytes).median),
        }
    }
}

/// The middle and the ends of several values; zeros if there are none.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Spread {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Spread::default() };
        let middle = values.len() / 2;
        let is_even = values.len().is_multiple_of(2);
        let median = if is_even { f64::midpoint(values[middle - 1], values[middle]) } else { values[middle] };
        Spread { median, min, max }
    }

    pub(super) fn text(self, number: fn(f64) -> String) -> String {
        match self.min == self.max {
            true => number(self.median),
            false => format!("{} ({}..{})", number(self.median), number(self.min), number(self.max)),
        }
    }
}

/// Writes a large number in thousands or millions.
pub(super) fn whole(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.0}k", value / 1e3),
        value => format!("{value:.0}"),
    }
}

pub(super) fn three_figures(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value if value >= 1.0 => format!("{value:.2}"),
        value => format!("{value:.3}"),
    }
}

pub(super) fn micros(latency: Percentiles) -> String {
    let micros = |nanos: u64| format!("{:.0}", nanos as f64 / 1e3);
    format!("{}/{}/{}", micros(latency.p50), micros(latency.p99), micros(latency.p999))
}

pub(super) fn plain(rows: &[Vec<String>]) -> String {
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    for (column, cell) in rows.iter().flat_map(|row| row.iter().enumerate()) {
        let width = widths.entry(column).or_default();
        *width = (*width).max(cell.len());
    }
    let mut text = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .enumerate()
            .map(|(column, cell)| format!("{cell:<width$}", width = widths[&column]))
            .collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn markdown(rows: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, row) in rows.iter().enumerate() {
        let _ = writeln!(text, "| {} |", row.join(" | "));
        if index == 0 {
            let _ = writeln!(text, "|---|---|{}", "--:|".repeat(row.len() - 2));
        }
    }
    text
}

/// Returns what an installed server says to `--version`.
fn version(implementation: Implementation) -> Option<String> {
    let output = std::process::Command::new(implementation.find().ok()?).arg("--version").output().ok()?;
    Some(String::from_utf8_lossy(&output.stdout).trim().to_owned()).filter(|version| !version.is_empty())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn sample(operations: u64, cpu_ms: u64) -> Sample {
        Sample {
            operations,
            elapsed: Duration::from_secs(1),
            cpu: Duration::from_millis(cpu_ms),
            resident: 10_000_000,
            latency: None,
            bytes_each: None,
        }
    }

    fn report(natrix: &[Sample]) -> String {
        let natrix_1 = Target::Natrix { shards: 1 };
        let mut report =
            Report { heading: "heading".into(), targets: vec![Target::Go, natrix_1], sections: Vec::new() };
        let case = super::super::cases::find("1-1-16").unwrap();
        for (ours, theirs) in natrix.iter().zip([sample(1_000_000, 1000), sample(500_000, 600)]) {
            report.add(case, Target::Go, theirs);
            report.add(case, natrix_1, ours.clone());
        }
        report.render(Format::Markdown)
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        insta::assert_snapshot!(report(&[sample(4_000_000, 800), sample(2_000_000, 480)]), @r"
        heading

        | case | target | per second | CPU s/M | MB | p50/p99/p99.9 us | rate/go | CPU/go | CPU/relay | goal |
        |---|---|--:|--:|--:|--:|--:|--:|--:|--:|
        | 1 publisher to 1 subscriber, 16 B | go | 750k (500k..1.00M) | 1.10 (1.00..1.20) | 10 |  |  |  |  |  |
        | 1 publisher to 1 subscriber, 16 B | natrix/1 | 3.00M (2.00M..4.00M) | 0.220 (0.200..0.240) | 10 |  | 4.00 | 0.20 |  | reached |
        ");
    }

    #[test]
    fn a_goal_is_missed_by_one_of_its_figures() {
        assert!(report(&[sample(4_000_000, 2000), sample(2_000_000, 1200)]).contains("missed"));
    }

    #[test]
    fn spread_is_of_sorted_values() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of([]), Spread::default());
    }
}
