//! Storage explorers: a run of a store on a [`SimDisk`](natrix_runtime_sim::disk::SimDisk) that is crashed at every one of
//! its disk operations.
//!
//! The disk is a value. At each operation of a run, before it takes effect and after, a clone of the disk is crashed
//! (a seeded choice of what wasn't synced survives, sectors are torn), a fresh store recovers from it, perhaps to be
//! crashed again on its way, and what came back is compared with a model. The run itself goes on as if nothing had been.
//!
//! ```text
//! report.rs    what a run says; many runs on several threads
//! journal/     the shard journal: crashes, damage at rest, faults
//! volume/      stores over the journal: streams in files, consumers
//! bugs.rs      planted bugs, and which explorer has to see each
//! kept.rs      seeds that failed once
//! ```

pub mod bugs;
mod journal;
pub mod kept;
pub mod report;
mod volume;

use natrix_core::planted::{self, Bug};
use natrix_core::rng::Rng;
use natrix_runtime_sim::disk::DiskFault;

use report::{Promise, Report, Violation};

/// How to run a seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// The planted bug that is armed.
    pub bug: Option<Bug>,
    /// Whether the run prints what it does.
    pub print: bool,
}

/// A kind of run.
#[derive(Debug)]
pub struct Scenario {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The disk faults that it has.
    pub faults: &'static [DiskFault],
    run: fn(&mut Rng, Settings, &mut Report) -> Result<(), Violation>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "storage-journal",
        about: "the shard journal, crashed at every disk operation, and again in recovery",
        faults: &[],
        run: |rng, settings, report| journal::run(journal::Flavour::Crashes, rng, settings, report),
    },
    Scenario {
        name: "storage-damage",
        about: "the same, with damage at rest to what a crash leaves: flipped bits, bad sectors, files gone back or missing",
        faults: &journal::AT_REST,
        run: |rng, settings, report| journal::run(journal::Flavour::Damage, rng, settings, report),
    },
    Scenario {
        name: "storage-faults",
        about: "the same, on a disk that fails and lies, a random choice of faults each time",
        faults: DiskFault::ALL,
        run: |rng, settings, report| journal::run(journal::Flavour::Faults, rng, settings, report),
    },
    Scenario {
        name: "storage-consumer",
        about: "consumers' states over the journal, crashed at every disk operation",
        faults: &[],
        run: volume::run::<volume::Consumers>,
    },
    Scenario {
        name: "storage-file",
        about: "streams in files over the journal, crashed at every disk operation, against streams in memory",
        faults: &[],
        run: volume::run::<volume::Files>,
    },
];

/// Returns the scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Runs one seed. A panic is a broken promise like others.
    pub fn run(&self, seed: u64, settings: Settings) -> Report {
        // The name is part of the seed, so that no two scenarios throw the same dice.
        let name = self.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut rng = Rng::from_u64(seed ^ name);
        let mut report = Report { seed, ..Report::default() };
        planted::arm(settings.bug, 0, 1, seed);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (self.run)(&mut rng, settings, &mut report)
        }));
        planted::disarm();
        report.violation = match outcome {
            Ok(outcome) => outcome.err(),
            Err(panic) => Some(Violation::new(Promise::Panic, crate::panic_text(&*panic))),
        };
        report
    }
}
