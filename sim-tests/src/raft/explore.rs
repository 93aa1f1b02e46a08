//! Many seeds, on several threads, and what they add up to.

use std::time::Duration;

use natrix_core::planted::Bug;

use super::checker::Violation;
use super::marks::{Mark, Marks};
use super::plan::{Counters, Fault};
use super::world::{Report, run};
use crate::sweep::sweep;

/// What many runs add up to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many runs.
    pub runs: u64,
    /// Seeds that failed, and how; in the order of the seeds.
    pub failures: Vec<(u64, Violation)>,
    /// Events taken from queues.
    pub events: u64,
    /// Entries committed.
    pub committed: u64,
    /// Virtual nanoseconds.
    pub virtual_time: u64,
    /// Time that threads spent on it.
    pub busy: Duration,
    /// Faults that came.
    pub counters: Counters,
    /// States that were reached.
    pub marks: Marks,
    /// All hashes, added up.
    pub hash: u64,
}

impl Summary {
    fn add(&mut self, report: Report, took: Duration) {
        self.runs += 1;
        self.events += report.events;
        self.committed += report.committed;
        self.virtual_time += report.virtual_time;
        self.busy += took;
        self.counters.merge(&report.counters);
        self.marks.merge(&report.marks);
        // Addition, so that the order in which threads finish doesn't count.
        self.hash = self.hash.wrapping_add(report.hash.wrapping_mul(report.seed | 1));
        if let Some(violation) = report.violations.into_iter().next() {
            self.failures.push((report.seed, violation));
        }
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
    start: u64,
    seeds: u64,
    jobs: usize,
    bug: Option<Bug>,
    progress: impl Fn(&Report) + Sync,
) -> Summary {
    let run = |seed| {
        let report = run(seed, bug, false);
        progress(&report);
        report
    };
    let mut summary = sweep(start, seeds, jobs, run, Summary::add);
    summary.failures.sort_by_key(|(seed, _)| *seed);
    summary
}
