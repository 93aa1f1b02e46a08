//! What a run with streams says, and what many add up to.

use std::time::Duration;

use natrix_runtime_sim::queue::SimTime;

use super::{Scenario, Settings};
use crate::storage::report::Tally;
use crate::sweep::sweep;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A rule that was seen to be broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule {
            $($(#[$doc])* $name,)*
        }

        impl Rule {
            /// Returns the rule's name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Rule::$name => $text,)*
                }
            }
        }
    };
}

rules! {
    /// What was acknowledged or delivered stays until something removes it.
    Lost = "lost",
    /// What is delivered was published.
    Phantom = "phantom",
    /// A sequence has one message, for ever.
    Content = "content",
    /// Sequences ascend.
    Order = "order",
    /// A message id is stored once in its window, and what was published once is there once.
    Dedup = "dedup",
    /// What was refused is not stored.
    Refused = "refused",
    /// A message is not delivered again before its wait is over.
    AckWait = "ack-wait",
    /// Pull requests are answered or expire, and get no more than they asked for.
    Pull = "pull",
    /// What was acknowledged durably isn't delivered again.
    DoubleAck = "double-ack",
    /// The ack floor does not pass what is not acknowledged.
    Floor = "floor",
    /// Interest removes only what all have acknowledged.
    Removed = "removed",
    /// What is purged, deleted or acknowledged for good is gone.
    Revived = "revived",
    /// Counts are exact when it is quiet.
    Counts = "counts",
    /// A key has its last value.
    Linear = "linear",
    /// What was made is there and what was deleted is not.
    Lifecycle = "lifecycle",
    /// Limits are kept.
    Limits = "limits",
    /// Requests are answered.
    Unanswered = "unanswered",
    /// What is wanted and there is delivered.
    Liveness = "liveness",
    /// A request that makes sense is not refused.
    Error = "error",
    /// What is told to be encrypted is nowhere in plain text.
    Plain = "plain",
    /// The server keeps to its bounds and its contract.
    Contract = "contract",
    /// Nothing panics.
    Panic = "panic",
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: SimTime,
    /// Which.
    pub rule: Rule,
    /// What was seen.
    pub text: String,
}

/// What one seed did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash of its trace.
    pub hash: u64,
    /// Events taken from the queue.
    pub events: u64,
    /// Virtual nanoseconds.
    pub virtual_time: u64,
    /// Messages acknowledged by the server.
    pub stored: u64,
    /// Messages delivered to consumers.
    pub delivered: u64,
    /// Faults that came, and states that were reached.
    pub tally: Tally,
    /// Broken rules.
    pub violations: Vec<Violation>,
}

/// What many runs add up to.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// How many runs.
    pub runs: u64,
    /// Events.
    pub events: u64,
    /// Virtual nanoseconds.
    pub virtual_time: u64,
    /// Messages stored.
    pub stored: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Faults and states.
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
        self.events += report.events;
        self.virtual_time += report.virtual_time;
        self.stored += report.stored;
        self.delivered += report.delivered;
        report.tally.iter().for_each(|(name, times)| self.tally.add(name, times));
        // Addition, so that the order in which threads finish doesn't count.
        self.hash = self.hash.wrapping_add(report.hash.wrapping_mul(report.seed | 1));
        self.busy += took;
        self.failures.extend(report.violations.into_iter().next().map(|violation| (report.seed, violation)));
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
