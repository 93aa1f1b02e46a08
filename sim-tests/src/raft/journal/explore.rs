//! Many seeds, what they add up to, and the planted bugs of this part.

use std::time::{Duration, Instant};

use natrix_core::planted::Bug;

use super::faults::{Counters, Trouble};
use super::world::{Report, run};
use crate::raft::bugs::{Caught, Planted};
use crate::raft::checker::Violation;
use crate::sweep::sweep;

macro_rules! planted {
    ($($bug:ident $name:literal $wrong:literal;)*) => {
        /// The planted bugs of the store and the host.
        pub const PLANTED: &[Planted] = &[$(Planted { bug: Bug::$bug, name: $name, wrong: $wrong },)*];
    };
}

planted! {
    RaftStorePersistedEarly "persisted-early" "a group is told that a record is durable when it was proposed to the journal";
    RaftStoreGapUntold "gap-untold" "records that are missing in the journal aren't missed";
    RaftStoreTailUntold "tail-untold" "groups aren't told that the end of the journal is lost";
    RaftStoreOlderFileTrusted "older-file-trusted" "a file that is older than the records behind it is taken for what came before them";
    RaftStoreCutNotCovered "cut-not-covered" "a cut isn't written to the file";
    RaftStoreSnapshotBeforeFile "snapshot-before-file" "the record that refers to a snapshot's file is written before that is durable";
    RaftStoreSnapshotOvertakesRemoval "snapshot-overtakes-removal" "a snapshot is written to a file that is still being removed";
    RaftStoreCoveredBeforeSync "covered-before-sync" "the journal is told that the file covers before that is durable";
    RaftStoreSnapshotUnverified "snapshot-unverified" "the checksum of a snapshot's file isn't looked at";
    RaftStoreMissingIsFresh "missing-is-fresh" "a member of which nothing is left starts as a new one";
    RaftStoreLossNotKept "loss-not-kept" "what was found lost isn't in the first record of the life that found it";
    RaftStoreFrameUnverified "frame-unverified" "checksums of frames aren't compared";
    RaftStoreCommitBehindGap "commit-behind-gap" "what is said to be committed behind missing records is believed of what is before them";
    JournalDamagedCopied "damaged-copied" "what is left of a damaged segment is copied on, although its owners could cover all of it";
    RaftStoreWitnessEarly "witness-early" "the witness is written before the record that it is about";
}

/// Returns the planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}

/// Looks for a bug from seed `start` on, in at most `seeds` seeds; one that fails without it doesn't count.
pub fn hunt(planted: &Planted, start: u64, seeds: u64) -> Option<Caught> {
    let begun = Instant::now();
    (start..start + seeds).find_map(|seed| {
        let violation = run(seed, Some(planted.bug), false).violations.into_iter().next()?;
        if !run(seed, None, false).violations.is_empty() {
            return None;
        }
        Some(Caught { seeds: seed - start + 1, seed, violation, took: begun.elapsed() })
    })
}

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
    /// Proposals that clients were told to be committed.
    pub acknowledged: u64,
    /// Time that threads spent on it.
    pub busy: Duration,
    /// What came, and what it led to.
    pub counters: Counters,
    /// All hashes, added up.
    pub hash: u64,
}

impl Summary {
    fn add(&mut self, report: Report, took: Duration) {
        self.runs += 1;
        self.events += report.events;
        self.committed += report.committed;
        self.acknowledged += report.acknowledged;
        self.busy += took;
        self.counters.merge(&report.counters);
        // Addition, so that the order in which threads finish doesn't count.
        self.hash = self.hash.wrapping_add(report.hash.wrapping_mul(report.seed | 1));
        if let Some(violation) = report.violations.into_iter().next() {
            self.failures.push((report.seed, violation));
        }
    }

    /// Returns what never came.
    pub fn missing(&self) -> Vec<&'static str> {
        let never = |kind: &&Trouble| self.counters.of(**kind) == 0;
        Trouble::ALL.iter().filter(never).map(|kind| kind.name()).collect()
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

/// Prints what many runs add up to.
pub fn show(summary: &Summary, wall: f64) {
    println!(
        "raft on the journal: {} seeds in {wall:.1} s, {} failed, {} events, {} committed, {} acknowledged, hash {:016x}",
        summary.runs,
        summary.failures.len(),
        summary.events,
        summary.committed,
        summary.acknowledged,
        summary.hash
    );
    println!("per core-second: {:.0} events", summary.events as f64 / summary.busy.as_secs_f64().max(1e-9));
    for chunk in Trouble::ALL.chunks(3) {
        let line: Vec<String> = chunk
            .iter()
            .map(|kind| format!("{:>27} {:<8}", kind.name(), summary.counters.of(*kind)))
            .collect();
        println!("  {}", line.join(" ").trim_end());
    }
    if !summary.missing().is_empty() {
        println!("never came: {}", summary.missing().join(", "));
    }
}
