//! Streams and consumers in the simulator: clients that publish, consume, make, delete and look, on one server with a disk.
//!
//! ```text
//! plan.rs      what a run is made of, drawn from its seed
//! world.rs     one run: events, faults, phases
//! conn.rs      a client's connection
//! client/      the scripts: producers, keepers of values, workers of consumers, the admin and its last look
//! rot.rs       bits that rot in consumers' files and entries
//! oracle/      what is known, and the rules that everything heard is held against
//! report.rs    the rules by name; many runs on several threads
//! bugs.rs      planted bugs, and which scenario has to see each
//! ```

pub mod bugs;
mod client;
mod conn;
mod keys;
mod oracle;
mod plan;
pub mod report;
mod rot;
mod text;
mod world;

use natrix_core::planted::Bug;
use natrix_core::rng::Rng;

use plan::{Flavour, Plan};
use report::Report;

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
    /// What has to come in some hundred seeds: faults and states by their names.
    pub expected: &'static [&'static str],
    flavour: Flavour,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "jetstream-publish",
        about: "messages, ids, expected sequences and values in streams, on a server that dies",
        expected: &[
            "key-comes",
            "key-changes",
            "cipher-changes",
            "encrypted",
            "encrypted-as-owed",
            "wrong-key",
            "crash-at-output",
            "crash-idle",
            "power-loss",
            "pause-process",
            "pause-shard",
            "cut",
            "disk-slow",
            "restarted",
            "restart-storm",
            "sent-again",
            "duplicate",
            "wrong-last-sequence",
            "removed",
            "guest-deleted",
            "no-stream",
            "backed-up",
            "restored",
            "copy-looked-at",
        ],
        flavour: Flavour::Publish,
    },
    Scenario {
        name: "jetstream-consume",
        about: "pull and push consumers that acknowledge, refuse and fall silent, on a server that dies",
        expected: &[
            "crash-at-output",
            "crash-idle",
            "power-loss",
            "pause-process",
            "cut",
            "disk-slow",
            "restarted",
            "redelivered",
            "double-ack",
            "nak",
            "not-acknowledged",
            "pull-filled",
            "pull-404",
            "pull-408",
            "floor-looked-at",
            "removed-with-reason",
        ],
        flavour: Flavour::Consume,
    },
    Scenario {
        name: "jetstream-faults",
        about: "both, on a disk that is full, fails and reads wrong",
        expected: &[
            "disk-full",
            "disk-bad-read",
            "disk-read-error",
            "disk-write-error",
            "disk-short-write",
            "disk-sync-failed",
            "publish-refused",
            "redelivered",
            "double-ack",
            "wrong-last-sequence",
            "catalogue-damaged",
            "catalogue-restored",
            "consumer-file-damaged",
            "consumer-entry-damaged",
            "consumer-forgot",
        ],
        flavour: Flavour::Faults,
    },
    Scenario {
        name: "jetstream-schedule",
        about: "messages that are held until they are due, or every second, or called off, on a server that dies",
        expected: &[
            "crash-at-output",
            "crash-idle",
            "power-loss",
            "pause-process",
            "cut",
            "disk-slow",
            "restarted",
            "scheduled",
            "called-off",
            "all-carried-out",
            "made-again",
        ],
        flavour: Flavour::Schedule,
    },
];

/// Returns the scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Runs one seed. A panic is a broken rule like others.
    pub fn run(&self, seed: u64, settings: Settings) -> Report {
        // The name is part of the seed, so that no two scenarios throw the same dice.
        let name = self.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut rng = Rng::from_u64(seed ^ name);
        let mut dice = rng.child();
        let plan = Plan::draw(self.flavour, &mut dice);
        if settings.print {
            println!("{plan:#?}");
        }
        world::run(plan, seed, rng, settings)
    }
}
