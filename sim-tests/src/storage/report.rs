//! What a run of a storage scenario says, and what many add up to.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use natrix_core::disk::{Request, Submission};
use natrix_runtime_sim::disk::{DiskFault, SimDisk};

use super::{Scenario, Settings};
use crate::sweep::sweep;

/// A promise that a store was seen to break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// What was reported as durable is there.
    Lost,
    /// What survives without having been reported has no gap before it.
    Gap,
    /// What is there was put there, and not taken away since.
    Phantom,
    /// It is there byte for byte.
    Content,
    /// It comes in order, each once.
    Order,
    /// A position is used once.
    Reused,
    /// What is lost by damage is told.
    Untold,
    /// No damage is told where none is.
    FalseAlarm,
    /// A store's state is what its entries make of it.
    State,
    /// Recovery and writing go on.
    Stuck,
    /// Nothing fails while the disk doesn't.
    Failed,
    /// Nothing panics.
    Panic,
}

impl Promise {
    /// All of them.
    pub const ALL: [Promise; 12] = [
        Promise::Lost,
        Promise::Gap,
        Promise::Phantom,
        Promise::Content,
        Promise::Order,
        Promise::Reused,
        Promise::Untold,
        Promise::FalseAlarm,
        Promise::State,
        Promise::Stuck,
        Promise::Failed,
        Promise::Panic,
    ];

    /// Returns the promise's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Promise::Lost => "lost",
            Promise::Gap => "gap",
            Promise::Phantom => "phantom",
            Promise::Content => "content",
            Promise::Order => "order",
            Promise::Reused => "reused",
            Promise::Untold => "untold",
            Promise::FalseAlarm => "false-alarm",
            Promise::State => "state",
            Promise::Stuck => "stuck",
            Promise::Failed => "failed",
            Promise::Panic => "panic",
        }
    }
}

/// A broken promise, with its story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub promise: Promise,
    /// What was seen, and where in the run.
    pub text: String,
}

impl Violation {
    /// Makes one.
    pub fn new(promise: Promise, text: impl Into<String>) -> Self {
        Violation { promise, text: text.into() }
    }

    /// Says where in the run it was.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.text = format!("{}; {place}", self.text);
        self
    }
}

/// Counts by name; what never came isn't in it.
#[derive(Clone, Debug, Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    /// Counts one more.
    pub fn hit(&mut self, name: &'static str) {
        self.add(name, 1);
    }

    /// Counts some more.
    pub fn add(&mut self, name: &'static str, times: u64) {
        if times > 0 {
            *self.0.entry(name).or_default() += times;
        }
    }

    /// Returns how often.
    pub fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Returns all that came, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.0.iter().map(|(name, times)| (*name, *times))
    }

    fn merge(&mut self, other: &Tally) {
        other.iter().for_each(|(name, times)| self.add(name, times));
    }
}

/// What one seed did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// How often the disk was crashed, and what was left of it recovered and compared.
    pub crash_points: u64,
    /// Disk operations of the run itself.
    pub operations: u64,
    /// Entries that recoveries brought back.
    pub recovered: u64,
    /// Disk faults that came, in the run and in recoveries.
    pub faults: [u64; DiskFault::ALL.len()],
    /// What else happened.
    pub tally: Tally,
    /// Everything that happened, folded: equal runs have equal hashes.
    pub hash: u64,
    /// The first promise that was broken.
    pub violation: Option<Violation>,
}

impl Report {
    /// Folds a number into the hash.
    pub fn fold(&mut self, number: u64) {
        self.hash = (self.hash ^ number).wrapping_mul(0x100_0000_01b3).rotate_left(23);
    }

    /// Counts the faults that `disk` made since it had `before` of them.
    pub fn count_faults(&mut self, disk: &SimDisk, before: &[u64; DiskFault::ALL.len()]) {
        for fault in DiskFault::ALL {
            self.faults[*fault as usize] += disk.hits(*fault) - before[*fault as usize];
        }
    }
}

/// What many runs add up to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many runs.
    pub runs: u64,
    /// The sums of what the runs counted.
    pub crash_points: u64,
    /// Disk operations.
    pub operations: u64,
    /// Entries that recoveries brought back.
    pub recovered: u64,
    /// Disk faults.
    pub faults: [u64; DiskFault::ALL.len()],
    /// What else happened.
    pub tally: Tally,
    /// All hashes, added.
    pub hash: u64,
    /// Seeds that failed, in order.
    pub failures: Vec<(u64, Violation)>,
    /// Processor time that was spent on it.
    pub busy: Duration,
}

impl Summary {
    fn add(&mut self, report: Report, took: Duration) {
        self.runs += 1;
        self.crash_points += report.crash_points;
        self.operations += report.operations;
        self.recovered += report.recovered;
        for (sum, one) in self.faults.iter_mut().zip(report.faults) {
            *sum += one;
        }
        self.tally.merge(&report.tally);
        // Addition, so that the order in which threads finish doesn't count.
        self.hash = self.hash.wrapping_add(report.hash.wrapping_mul(report.seed | 1));
        self.busy += took;
        self.failures.extend(report.violation.map(|violation| (report.seed, violation)));
    }
}

/// Runs `seeds` seeds from `start` on, on `jobs` threads, and calls `progress` after each.
pub fn explore(
    scenario: &Scenario,
    start: u64,
    seeds: u64,
    jobs: usize,
    settings: Settings,
    progress: impl Fn(&Report) + Sync,
) -> Summary {
    let run = |seed| {
        let report = scenario.run(seed, settings);
        progress(&report);
        report
    };
    let mut summary = sweep(start, seeds, jobs, run, Summary::add);
    summary.failures.sort_by_key(|(seed, _)| *seed);
    summary
}

/// Returns what a request asks for, without the bytes.
pub(super) fn brief(submission: &Submission) -> String {
    match &submission.request {
        Request::Write { file, offset, data, sync } => {
            let len: usize = data.iter().map(bytes::Bytes::len).sum();
            format!("{:?} Write {file:?} at {offset}, {len} bytes, sync {sync}", submission.token)
        }
        Request::Replace { path, .. } => format!("{:?} Replace {path}", submission.token),
        request => format!("{:?} {request:?}", submission.token),
    }
}
