//! How many hours of a group an hour of one core simulates.

use natrix_core::rng::Rng;

use super::net::MS;
use super::plan::Plan;
use super::world::{Report, SECOND, Tell, World, guarded};
use crate::stopwatch::Stopwatch;

/// What a measurement found.
#[derive(Clone, Copy, Debug)]
pub struct Measured {
    /// Hours of a group for each hour of a core.
    pub hours: f64,
    /// Events in a second of a group.
    pub events: f64,
    /// Entries that were committed in it.
    pub committed: f64,
}

/// Runs groups of three for ten minutes each, with a client that proposes 10 entries a second and reads, disks that sync and
/// every rule looked at after every event; one group for each seed from `start` on.
///
/// # Panics
///
/// If a rule is broken.
pub fn measure(start: u64, seeds: u64) -> Measured {
    let watch = Stopwatch::start();
    let (mut time, mut events, mut committed) = (0.0, 0, 0);
    for seed in start..start + seeds {
        let report = guarded(seed, None, || calm(seed));
        assert!(report.violations.is_empty(), "seed {seed}: {:?}", report.violations);
        time += report.virtual_time as f64 / SECOND as f64;
        events += report.events;
        committed += report.committed;
    }
    let (events, committed) = (events as f64 / time, committed as f64 / time);
    Measured { hours: time / watch.elapsed().as_secs_f64(), events, committed }
}

fn calm(seed: u64) -> Report {
    let mut plan = Plan::calm(seed, 3, 3);
    plan.trouble = 600 * SECOND;
    plan.fault_every = plan.trouble;
    // Two entries at once on average.
    plan.propose_every = 200 * MS;
    World::new(plan, Rng::from_u64(seed), None, Tell::Nothing).run(true)
}
