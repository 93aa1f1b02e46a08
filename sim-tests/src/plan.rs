//! What one run is made of, drawn from its seed.

use std::sync::Arc;
use std::time::Duration;

use natrix_core::config::{Account, Options, Permissions, Secret, SubjectRules, User as ConfiguredUser};
use natrix_core::planted::Point;
use natrix_core::rng::Rng;
use natrix_runtime_sim::fault::{Fault, Swarm};
use natrix_runtime_sim::net::{LinkShape, StreamShape};
use natrix_runtime_sim::queue::{MICROSECOND, MILLISECOND, SECOND};
use natrix_runtime_sim::server::{Bounds, Pace};

use crate::client::{Allowed, Profile, Workload};
use crate::universe::{Rules, Universe, User};

/// All that is decided before a run begins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many shards each server has.
    pub shards: Vec<u16>,
    /// What kind of client each is; they are spread over the servers in turn.
    pub profiles: Vec<Profile>,
    /// How many peers pass a token round.
    pub ring: u16,
    /// Names.
    pub universe: Arc<Universe>,
    /// Settings of every server.
    pub options: Options,
    /// What clients do.
    pub load: Workload,
    /// What may go wrong.
    pub swarm: Swarm,
    /// The links.
    pub link: LinkShape,
    /// The streams.
    pub stream: StreamShape,
    /// The servers' threads.
    pub pace: Pace,
    /// What a server must keep to.
    pub bounds: Bounds,
    /// What may happen without being a server's fault.
    pub allowed: Allowed,
    /// Fault points in the code that are on, as bits.
    pub points: u64,
    /// A fault point is taken once in so many times.
    pub point_one_in: u64,
    /// How long clients work, in nanoseconds.
    pub duration: u64,
    /// A server goes into lame duck mode on the way.
    pub lame_duck: bool,
    /// The network is faster than threads are: whatever a shard leaves undone, somebody may notice.
    pub racy: bool,
    /// Clients may come back to another server.
    pub roam: bool,
}

/// Subjects of most scenarios: few enough to collide, deep enough for every wildcard.
pub const SUBJECTS: [&str; 10] =
    ["a", "a.b", "a.c", "a.b.c", "a.b.d", "b.b", "b.c", "b.b.c", "x.y.z.w", "secret.a"];
/// Patterns of most scenarios.
pub const PATTERNS: [&str; 16] = [
    "a", "a.b", "a.*", "a.>", "b.*", "*.b", "a.b.*", "b.c", "b.>", "*.*.c", "*", "x.*.z.>", "*.c",
    "secret.*", "secret.>", ">",
];

/// Faults that end connections or delay them beyond what a client waits for.
const CLOSING: &[Fault] = &[
    Fault::Loss,
    Fault::Clog,
    Fault::DelaySpike,
    Fault::Bandwidth,
    Fault::PartitionTwoWay,
    Fault::PartitionOneWay,
    Fault::PartitionIsolate,
    Fault::PartitionBridge,
    Fault::PartitionSwizzle,
    Fault::CutMidFrame,
    Fault::HalfOpen,
    Fault::Frozen,
    Fault::PauseProcess,
    Fault::PauseShard,
    Fault::PauseClient,
    Fault::CrashAtOutput,
    Fault::CrashIdle,
    Fault::PowerLoss,
    Fault::RestartStorm,
    Fault::ConnectStorm,
];

/// Faults that are only ways of running, and never an excuse.
pub const HARMLESS: &[Fault] = &[
    Fault::Split,
    Fault::TinySocketBuffers,
    Fault::PartialWrite,
    Fault::ClockSkew,
    Fault::ClockDrift,
    Fault::WallJumpForward,
    Fault::WallJumpBack,
    Fault::Preempted,
    Fault::FaultPoint,
    Fault::RandomSettings,
];

impl Plan {
    /// Draws a plan in which nothing goes wrong, for so many servers and clients.
    pub fn calm(rng: &mut Rng, servers: u16, clients: u16) -> Plan {
        let universe = Universe::new(&SUBJECTS, &PATTERNS, &["$G"], Vec::new());
        let mut plan = Plan {
            shards: (0..servers).map(|_| 1 + rng.below(4) as u16).collect(),
            profiles: Vec::new(),
            ring: 0,
            universe: Arc::new(universe),
            options: options(),
            load: Workload::default(),
            swarm: Swarm::CALM,
            link: LinkShape::default(),
            stream: StreamShape::default(),
            pace: Pace::default(),
            bounds: Bounds::default(),
            allowed: Allowed::default(),
            points: 0,
            point_one_in: 4,
            duration: (60 + rng.below(140)) * MILLISECOND,
            lame_duck: false,
            racy: false,
            roam: false,
        };
        plan.profiles = (0..clients).map(|_| profile(rng, 0)).collect();
        plan
    }

    /// Gives every client a user of a universe that has some.
    pub fn with_users(mut self, universe: Universe) -> Plan {
        let users = universe.users.len().max(1);
        for (index, profile) in self.profiles.iter_mut().enumerate() {
            profile.user = (index % users) as u8;
        }
        (self.options.users, self.options.accounts) = configured(&universe);
        self.universe = Arc::new(universe);
        self
    }

    /// Lets a random half of `faults` happen, and a random half of the harmless ones.
    pub fn with_faults(mut self, rng: &mut Rng, faults: &[Fault]) -> Plan {
        self.swarm = Swarm::of(faults).sample(rng).and(Swarm::of(HARMLESS).sample(rng));
        self
    }

    /// Works out what follows from the swarm; the last step of every plan.
    pub fn finish(mut self, rng: &mut Rng) -> Plan {
        let has = |fault| self.swarm.has(fault);
        if has(Fault::RandomSettings) {
            self.options.max_control_line = [1024, 4096][rng.below(2) as usize];
            self.options.max_pending = [2 << 20, 8 << 20, 64 << 20][rng.below(3) as usize];
            self.options.disable_sublist_cache = rng.chance(1, 6);
            self.options.ping_max = 2 + rng.below(2) as u32;
        }
        if has(Fault::Loss) {
            self.link.loss_ppm = 1 + rng.below(30_000) as u32;
            // Some give up before a long partition ends.
            self.stream.attempts = 3 + rng.below(6) as u8;
        }
        if has(Fault::DelaySpike) {
            self.link.spike_ppm = 1 + rng.below(20_000) as u32;
            self.link.spike = (1 + rng.below(200)) * MILLISECOND;
        }
        if has(Fault::Bandwidth) {
            self.link.nanos_per_byte = 10 + rng.below(500);
        }
        if has(Fault::Split) {
            self.stream.segment = [3, 40, 300, 1460][rng.below(4) as usize];
            self.pace.read_limit = [0, 7, 50, 600][rng.below(4) as usize];
            if self.load.long_payload > 50_000 {
                // A few bytes at a time would take longer than anybody waits.
                self.stream.segment = self.stream.segment.max(1460);
                self.pace.read_limit *= 100;
            }
        }
        if has(Fault::TinySocketBuffers) {
            let least = 200 + rng.below(4000) as usize;
            self.stream.capacity = (least, least * 4);
            // Whoever has such a socket is a slow consumer soon.
            self.options.max_pending = self.options.max_pending.max(16 << 20);
        }
        if has(Fault::PartialWrite) {
            self.pace.write_limit = 1 + rng.below(3000) as usize;
            if self.pace.write_limit < 40 {
                // A byte at a time, what a flood brings would take longer than anybody waits.
                self.load.interval *= 10;
            }
        }
        self.link.latency = (5 + rng.below(500)) * MICROSECOND;
        self.link.jitter = rng.below(2000) * MICROSECOND;
        self.pace.step_jitter = rng.below(20) * MICROSECOND;
        if has(Fault::Preempted) {
            self.pace.preempt_one_in = 150 + rng.below(500);
            self.pace.preempt = (50 + rng.below(3000)) * MICROSECOND;
        }
        self.pace.wake = [0, 5 * MICROSECOND, 50 * MICROSECOND, MILLISECOND][rng.below(4) as usize];
        if self.load.long_payload > 50_000 {
            self.options.max_pending = 64 << 20;
        }
        if has(Fault::FaultPoint) {
            // Those behind are of streams.
            self.points = rng.below(2 << Point::JournalRefuses as u8);
            self.point_one_in = 1 + rng.below(12);
        }
        if self.racy {
            (self.link.latency, self.link.jitter) = (2 * MICROSECOND, 20 * MICROSECOND);
            self.pace.preempt_one_in = 8 + rng.below(60);
            self.pace.preempt = (100 + rng.below(2000)) * MICROSECOND;
            self.pace.wake = 5 * MICROSECOND;
        }
        let ends = CLOSING.iter().any(|fault| has(*fault)) || self.load.leave > 0 || self.lame_duck;
        self.allowed.closes |= ends;
        if has(Fault::RandomSettings) && !self.allowed.closes {
            // Slow links and small writes put clients behind that read as fast as they can.
            self.options.max_pending = self.options.max_pending.max(64 << 20);
        }
        // What waits may pass the limit by what one `handle` adds before it looks.
        let payload = self.options.max_payload.unwrap_or(1 << 20) as usize;
        self.bounds.pending = self.options.max_pending as usize + payload + (1 << 20);
        self
    }
}

/// Draws what kind of client one is.
pub fn profile(rng: &mut Rng, user: u8) -> Profile {
    let headers = rng.chance(3, 4);
    Profile {
        user,
        echo: rng.chance(3, 4),
        headers,
        no_responders: headers && rng.chance(1, 2),
        verbose: rng.chance(1, 8),
        pedantic: rng.chance(1, 8),
        wrong_password: false,
        slow: 0,
        listener: false,
    }
}

fn options() -> Options {
    Options {
        server_name: Some("sim".to_owned()),
        host: "10.0.0.1".to_owned(),
        ping_interval: Duration::from_secs(8),
        // Shorter than any virtual hiccup of a loaded plan would be an excuse for everything.
        write_deadline: Duration::from_secs(10),
        auth_timeout: Duration::from_secs(5),
        ..Options::default()
    }
}

/// Puts users and accounts into the words of the configuration.
fn configured(universe: &Universe) -> (Vec<ConfiguredUser>, Vec<Account>) {
    let several = universe.accounts.len() > 1;
    let rules = |rules: &Rules| {
        rules.restricts().then(|| SubjectRules {
            allow: rules.allow.as_ref().map(|allow| allow.iter().map(ToString::to_string).collect()),
            deny: (!rules.deny.is_empty()).then(|| rules.deny.iter().map(ToString::to_string).collect()),
        })
    };
    let user = |user: &User| ConfiguredUser {
        username: user.name.to_owned(),
        password: Secret::new(user.name),
        account: several.then(|| universe.accounts[usize::from(user.account)].to_owned()),
        permissions: (user.publish.restricts() || user.subscribe.restricts()).then(|| Permissions {
            publish: rules(&user.publish),
            subscribe: rules(&user.subscribe),
            ..Permissions::default()
        }),
        allowed_connection_types: None,
        proxy_required: false,
    };
    let account = |name: &&'static str| Account { name: (*name).to_owned(), ..Account::default() };
    let accounts = if several { universe.accounts.iter().map(account).collect() } else { Vec::new() };
    (universe.users.iter().map(user).collect(), accounts)
}

/// Longest virtual time that anything may take once faults have ended.
pub const LIVENESS_BOUND: u64 = 180 * SECOND;
