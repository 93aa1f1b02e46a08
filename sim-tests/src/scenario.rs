//! What can be explored: each scenario draws a plan from its dice.

mod plans;

use natrix_core::rng::Rng;

use crate::plan::Plan;
use crate::world::{Report, Settings, World};

/// A kind of run.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it is called by.
    pub name: &'static str,
    /// What it is there for.
    pub about: &'static str,
    build: fn(&mut Rng) -> Plan,
}

impl std::fmt::Debug for Scenario {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scenario").field("name", &self.name).finish_non_exhaustive()
    }
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "calm",
        about: "everything a client can do on three servers, and nothing goes wrong",
        build: plans::calm,
    },
    Scenario {
        name: "ping-after-sub",
        about: "subscriptions followed by PING, and publishes on other shards at the very moment",
        build: plans::ping_after_sub,
    },
    Scenario {
        name: "races",
        about: "a network that is faster than threads: subscriptions and requests in one breath, pushes in slow motion",
        build: plans::races,
    },
    Scenario {
        name: "queue-groups",
        about: "queue members come and go by UNSUB while others publish",
        build: plans::queue_groups,
    },
    Scenario {
        name: "requests",
        about: "requests, answers, and 503 exactly when nobody is interested",
        build: plans::requests,
    },
    Scenario {
        name: "auto-unsubscribe",
        about: "subscriptions with a maximum, fed from several shards at once",
        build: plans::auto_unsubscribe,
    },
    Scenario {
        name: "churn",
        about: "subscriptions and connections come and go far faster than messages",
        build: plans::churn,
    },
    Scenario {
        name: "floods",
        about: "thousands of messages in one read, each for many subscriptions, and bounded work per step",
        build: plans::floods,
    },
    Scenario {
        name: "permissions",
        about: "users who may publish and subscribe to different things",
        build: plans::permissions,
    },
    Scenario { name: "accounts", about: "the same subjects in three accounts", build: plans::accounts },
    Scenario {
        name: "slow-readers",
        about: "readers that hardly read, small limits, and memory that stays bounded",
        build: plans::slow_readers,
    },
    Scenario {
        name: "large-payloads",
        about: "payloads beyond a read block, headers, tiny socket buffers",
        build: plans::large_payloads,
    },
    Scenario {
        name: "partitions",
        about: "every kind of partition, clogged and lossy links, clients that come back",
        build: plans::partitions,
    },
    Scenario {
        name: "cuts",
        about: "streams cut in the middle of a frame, half-open connections, connect storms",
        build: plans::cuts,
    },
    Scenario {
        name: "crashes",
        about: "processes that pause, die between two outputs, lose power, and die again at once",
        build: plans::crashes,
    },
    Scenario {
        name: "clocks",
        about: "clocks that are off, drift and jump; peers that fall silent",
        build: plans::clocks,
    },
    Scenario {
        name: "nonsense",
        about: "clients that say what no client says, beside others that must not notice",
        build: plans::nonsense,
    },
    Scenario {
        name: "limits",
        about: "more connections than there may be, wrong passwords",
        build: plans::limits,
    },
    Scenario { name: "lame-duck", about: "a server that goes, and its clients", build: plans::lame_duck },
    Scenario {
        name: "ring",
        about: "peers that pass a token over links with every fault that links have",
        build: plans::ring,
    },
    Scenario {
        name: "swarm",
        about: "everything at once, a random half of it each time",
        build: plans::swarm,
    },
    Scenario {
        name: "bench",
        about: "three servers and twenty clients under load; what events per second are measured with",
        build: plans::bench,
    },
];

/// Returns the scenario of that name.
pub fn find(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}

impl Scenario {
    /// Draws the plan that belongs to a seed.
    pub fn plan(&self, seed: u64) -> (Plan, Rng) {
        // The name is part of the seed, so that no two scenarios throw the same dice.
        let name = self.name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        });
        let mut rng = Rng::from_u64(seed ^ name);
        let mut dice = rng.child();
        let plan = (self.build)(&mut dice).finish(&mut dice);
        (plan, rng)
    }

    /// Runs one seed.
    pub fn run(&self, seed: u64, settings: Settings) -> (Report, String) {
        let (plan, rng) = self.plan(seed);
        World::run(plan, seed, rng, settings)
    }
}
