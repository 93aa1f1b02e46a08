//! Many seeds of one scenario, on several threads, and what they add up to.

use std::time::Duration;

use natrix_core::planted::Bug;
use natrix_runtime_sim::fault::{Counters, Fault};

use crate::marks::{Mark, Marks};
use crate::oracle::Violation;
use crate::scenario::Scenario;
use crate::sweep::sweep;
use crate::world::{Report, Settings};

/// What many runs add up to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many runs.
    pub runs: u64,
    /// Seeds that failed, and how; in the order of the seeds.
    pub failures: Vec<(u64, Vec<Violation>)>,
    /// Inputs handled, ticks not counted.
    pub handled: u64,
    /// Events taken from queues.
    pub events: u64,
    /// Messages that clients read.
    pub delivered: u64,
    /// Virtual nanoseconds.
    pub virtual_time: u64,
    /// Processor time that threads spent on it.
    pub busy: Duration,
    /// Faults that came.
    pub counters: Counters,
    /// States that were reached.
    pub marks: Marks,
    /// All hashes in the order of their seeds, folded.
    pub hash: u64,
}

impl Summary {
    fn add(&mut self, report: Report, took: Duration) {
        self.runs += 1;
        self.handled += report.handled;
        self.events += report.events;
        self.delivered += report.delivered;
        self.virtual_time += report.virtual_time;
        self.busy += took;
        self.counters.merge(&report.counters);
        self.marks.merge(&report.marks);
        // Addition, so that the order in which threads finish doesn't count.
        self.hash = self.hash.wrapping_add(report.hash.wrapping_mul(report.seed | 1));
        if !report.violations.is_empty() {
            self.failures.push((report.seed, report.violations));
        }
    }

    /// Adds another summary, of another scenario say.
    pub fn merge(&mut self, other: Summary) {
        self.runs += other.runs;
        self.failures.extend(other.failures);
        self.handled += other.handled;
        self.events += other.events;
        self.delivered += other.delivered;
        self.virtual_time += other.virtual_time;
        self.busy += other.busy;
        self.counters.merge(&other.counters);
        self.marks.merge(&other.marks);
        self.hash = self.hash.wrapping_add(other.hash.rotate_left(1));
    }

    /// Returns the faults that never came.
    pub fn missing_faults(&self) -> Vec<&'static str> {
        let never = |fault: &&Fault| self.counters.of(**fault) == 0;
        Fault::ALL.iter().filter(never).map(|fault| fault.name()).collect()
    }

    /// Returns the states that were never reached.
    pub fn missing_marks(&self) -> Vec<&'static str> {
        let never = |mark: &&Mark| self.marks.of(**mark) == 0;
        Mark::ALL.iter().filter(never).map(|mark| mark.name()).collect()
    }
}

/// Runs `seeds` seeds from `start` on, on `jobs` threads, and calls `progress` after each.
pub fn explore(
    scenario: &Scenario,
    start: u64,
    seeds: u64,
    jobs: usize,
    bug: Option<Bug>,
    progress: impl Fn(&Report) + Sync,
) -> Summary {
    let run = |seed| {
        let (report, _) = scenario.run(seed, Settings { bug, ..Settings::default() });
        progress(&report);
        report
    };
    let mut summary = sweep(start, seeds, jobs, run, Summary::add);
    summary.failures.sort_by_key(|(seed, _)| *seed);
    summary
}
