//! What a seed makes of a run: how many members, which faults, how they are set.

use natrix_core::raft::group::Config;
use natrix_core::rng::Rng;
use natrix_core::time::Duration;

use super::deed::{Purpose, stream};
use super::net::{Links, MS};

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of trouble.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// All kinds, in the order of their numbers.
            pub const ALL: &[Fault] = &[$(Fault::$name,)*];

            /// Returns its name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// A message is lost.
    Loss = "loss",
    /// A message comes twice.
    Double = "double",
    /// A message comes again long after, across terms and restarts.
    Replay = "late-replay",
    /// A message takes very long, so that others overtake it.
    Spike = "delay-spike",
    /// A way that is gone keeps what it was given, and delivers it late, as a connection does that was only stuck.
    Held = "partition-holds",
    /// Two halves don't hear each other.
    Partition = "partition-two-way",
    /// One half doesn't hear the other.
    OneWay = "partition-one-way",
    /// One member hears nobody and nobody hears it, the leader often.
    Isolate = "partition-isolate",
    /// Two halves meet in one member only.
    Bridge = "partition-bridge",
    /// Links go one by one and come back one by one.
    Swizzle = "partition-swizzle",
    /// A member stops for a while, and then goes on.
    Pause = "pause",
    /// A process dies, and comes back.
    Crash = "crash",
    /// A crash takes away what wasn't synced.
    Unsynced = "unsynced-lost",
    /// All members die at once.
    PowerLoss = "power-loss",
    /// One loses power while others are paused (nats-server #7567).
    PowerAndPause = "power-loss-and-pause",
    /// Members die again and again.
    Storm = "restart-storm",
    /// Syncs take long.
    SlowDisk = "slow-disk",
    /// A disk finishes nothing for a while.
    DiskStalls = "disk-stalls",
    /// A write fails; the member takes no part until it is started again.
    DiskFails = "disk-fails",
    /// A log has lost its end.
    LogDamage = "log-damage",
    /// A snapshot is unreadable.
    SnapshotDamage = "snapshot-damage",
    /// Term and vote are unreadable.
    VoteDamage = "vote-damage",
    /// A disk comes back empty.
    Wiped = "wiped",
    /// The application has lost something that it had applied.
    Hole = "application-hole",
    /// Clocks run at different speeds.
    Drift = "clock-drift",
    /// A member is added.
    Add = "member-added",
    /// A member is removed.
    Remove = "member-removed",
    /// Several members are replaced.
    Replace = "members-replaced",
    /// A leader is asked to change the members as soon as it leads.
    HastyChange = "change-at-election",
    /// Links of a leader go, or it dies, as soon as it leads.
    LeaderHurt = "leader-hurt-soon",
    /// Links go anew as soon as somebody leads, before it has said so.
    SplitAtElection = "split-at-election",
    /// A process dies while it writes something that few writes are.
    CrashAtWrite = "crash-at-write",
    /// Term and vote are unreadable soon after a vote.
    DamageAtVote = "vote-damage-soon",
    /// A log has lost its end soon after something was written to it.
    DamageAtAppend = "log-damage-soon",
    /// Leadership is handed over on request.
    Transfer = "leader-transfer",
    /// A member is told to stand for election.
    Campaign = "campaign",
    /// The application applies late.
    SlowApply = "slow-apply",
    /// Applying is paused.
    PauseApply = "pause-apply",
    /// Settings far from the usual ones.
    Settings = "random-settings",
}

/// Which faults a run uses.
#[derive(Clone, Copy, Debug, Default)]
pub struct Swarm(u64);

impl Swarm {
    /// Returns whether the run uses `fault`.
    pub fn has(self, fault: Fault) -> bool {
        self.0 & (1 << fault as u8) != 0
    }

    /// Returns the names of those that it uses.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Fault::ALL.iter().filter(move |fault| self.has(**fault)).map(|fault| fault.name())
    }
}

/// How often each fault came.
#[derive(Clone, Debug)]
pub struct Counters([u64; Fault::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Counters([0; Fault::ALL.len()])
    }
}

impl Counters {
    pub(super) fn hit(&mut self, fault: Fault) {
        self.0[fault as usize] += 1;
    }

    /// Returns how often `fault` came.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0[fault as usize]
    }

    /// Adds another run's.
    pub fn merge(&mut self, other: &Counters) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }
}

/// What a seed is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Anything.
    All,
    /// Members that come and go while leaders do.
    Members,
    /// Entries that few members have while leaders come and go.
    Tails,
    /// Members that lost something, in short terms.
    Losses,
    /// Snapshots that go in many pieces, again and again.
    Snapshots,
}

impl Theme {
    fn of(dice: u64) -> Theme {
        match dice {
            0..=2 => Theme::Members,
            3 | 4 => Theme::Tails,
            5 | 6 => Theme::Losses,
            7 => Theme::Snapshots,
            _ => Theme::All,
        }
    }

    fn faults(self) -> Option<&'static [Fault]> {
        match self {
            Theme::All => None,
            Theme::Members => Some(&[
                Fault::HastyChange,
                Fault::LeaderHurt,
                Fault::Add,
                Fault::Remove,
                Fault::Replace,
                Fault::Partition,
                Fault::Isolate,
                Fault::Crash,
                Fault::Campaign,
                Fault::Transfer,
                Fault::SplitAtElection,
            ]),
            Theme::Tails => Some(&[
                Fault::LeaderHurt,
                Fault::Loss,
                Fault::Replay,
                Fault::Held,
                Fault::OneWay,
                Fault::Isolate,
                Fault::Partition,
                Fault::Crash,
                Fault::DiskStalls,
                Fault::Campaign,
                Fault::Settings,
                Fault::Spike,
                Fault::SplitAtElection,
            ]),
            Theme::Losses => Some(&[
                Fault::LogDamage,
                Fault::DamageAtAppend,
                Fault::VoteDamage,
                Fault::DamageAtVote,
                Fault::CrashAtWrite,
                Fault::Loss,
                Fault::Replay,
                Fault::Held,
                Fault::Spike,
                Fault::Isolate,
                Fault::OneWay,
                Fault::Crash,
                Fault::LeaderHurt,
                Fault::SplitAtElection,
                Fault::Campaign,
            ]),
            Theme::Snapshots => Some(&[
                Fault::Loss,
                Fault::Double,
                Fault::Replay,
                Fault::Held,
                Fault::Spike,
                Fault::Isolate,
                Fault::OneWay,
                Fault::Pause,
                Fault::Crash,
                Fault::Wiped,
                Fault::LogDamage,
                Fault::SnapshotDamage,
                Fault::PauseApply,
                Fault::Settings,
            ]),
        }
    }
}

/// What a group is put to when faults have ended and it is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Last {
    /// One member is cut off and comes back.
    Disturb,
    /// The leader hears nobody any more.
    Deaf,
    /// It sleeps, is woken, and loses its leader asleep.
    Sleep,
    /// Nothing.
    Nothing,
}

/// A run, as its seed makes it.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed.
    pub seed: u64,
    /// How many members the group starts with.
    pub members: usize,
    /// How many nodes there are; those that are no members yet can be added.
    pub nodes: usize,
    /// Which faults it uses.
    pub swarm: Swarm,
    /// What comes last.
    pub last: Last,
    /// For how long faults come, in nanoseconds.
    pub trouble: u64,
    /// How long it is between faults, on average.
    pub(super) fault_every: u64,
    /// Leaders that have just begun are always troubled, not every other one.
    pub(super) eager: bool,
    /// Faults are short.
    pub(super) hasty: bool,
    /// How long it is between proposals, on average.
    pub(super) propose_every: u64,
    /// How large proposals are, at most.
    pub(super) payload: u64,
    pub(super) links: Links,
    /// How long a sync takes: at least, at most.
    pub(super) sync: (u64, u64),
    /// How long applying takes at most; zero: no time.
    pub(super) apply: u64,
    /// The group's settings.
    pub config: Config,
}

impl Plan {
    /// Makes the plan that belongs to `seed`.
    pub fn new(seed: u64, rng: &mut Rng) -> Plan {
        let members = [1, 3, 3, 3, 3, 5, 5, 7][rng.below(8) as usize];
        let spare = if rng.chance(1, 2) { 1 + rng.below(3) as usize } else { 0 };
        // Some seeds stay with one theme, as what it takes is rare among everything else.
        let theme = Theme::of(rng.below(10));
        let (members, spare) = match theme {
            Theme::Members => (members.clamp(3, 4) + rng.below(2) as usize, 1 + spare.min(1)),
            Theme::Tails | Theme::Losses | Theme::Snapshots => ([3, 5][rng.below(2) as usize], 0),
            Theme::All => (members, spare),
        };
        let nodes = members + spare;
        // Each seed has its own appetite, so that some runs have hardly any fault and others nearly all.
        let appetite = 1 + rng.below(4);
        let mut swarm = Swarm(0);
        for fault in Fault::ALL {
            swarm.0 |= u64::from(rng.chance(appetite, 5)) << *fault as u8;
        }
        if let Some(faults) = theme.faults() {
            swarm.0 = 0;
            for fault in faults {
                swarm.0 |= u64::from(rng.chance(3, 4)) << *fault as u8;
            }
        }
        let mut links = Links::new(nodes);
        links.delay_max = MS / 2 + rng.below(30 * MS);
        links.delay_min = links.delay_min.min(links.delay_max / 2);
        let one_in = |rng: &mut Rng, on: bool, from: u64| if on { from + rng.below(200) } else { 0 };
        links.loss = one_in(rng, swarm.has(Fault::Loss), 4);
        links.double = one_in(rng, swarm.has(Fault::Double), 2);
        links.replay = one_in(rng, swarm.has(Fault::Replay), 2);
        links.spike = one_in(rng, swarm.has(Fault::Spike), 10);
        links.hold = if swarm.has(Fault::Held) { 1 + rng.below(8) } else { 0 };
        if matches!(theme, Theme::Tails | Theme::Losses | Theme::Snapshots) {
            // What was said before the last leader, or before a loss, is heard often.
            links.replay = links.replay.min(2 + rng.below(30));
            links.spike = links.spike.min(5 + rng.below(30));
        }
        let mut config = Self::config(rng, swarm);
        if theme != Theme::All {
            // Leaders come and go sooner, so there are more of them.
            links.delay_max = links.delay_max.min(10 * MS);
            links.delay_min = links.delay_min.min(links.delay_max / 2);
            let least = 100 + rng.below(400);
            config.election_min = Duration::from_millis(least);
            config.election_max = Duration::from_millis(least * 2);
            config.heartbeat = Duration::from_millis(least / 5);
        }
        if theme == Theme::Snapshots {
            config.chunk_bytes = 16 + rng.below(64) as usize;
            config.snapshot_entries = 3 + rng.below(30);
            config.keep_entries = rng.below(5);
        }
        let slow = if swarm.has(Fault::SlowDisk) { 20 + rng.below(400) } else { 1 + rng.below(8) };
        // Half of the seeds have short faults that follow each other closely, as unsettled groups find other bugs.
        let hasty = rng.chance(1, 2);
        let mut plan = Plan {
            seed,
            eager: theme != Theme::All,
            last: [Last::Disturb, Last::Deaf, Last::Nothing][(seed % 3) as usize],
            hasty,
            members,
            nodes,
            swarm,
            trouble: (5 + rng.below(25)) * 1000 * MS,
            fault_every: if hasty { 20 + rng.below(300) } else { 200 + rng.below(2000) } * MS,
            propose_every: (5 + rng.below(150)) * MS,
            payload: [8, 16, 100, 400][rng.below(4) as usize],
            links,
            sync: (MS / 10, slow * MS),
            apply: if swarm.has(Fault::SlowApply) { rng.below(300) * MS } else { 0 },
            config,
        };
        plan.may_sleep(&mut stream(seed, Purpose::Sleep, 0, 0));
        plan
    }

    /// In some seeds groups sleep, and clients come so rarely that they do. Drawn apart, so that the others are what they
    /// were.
    fn may_sleep(&mut self, rng: &mut Rng) {
        if rng.chance(3, 4) {
            return;
        }
        self.config.sleep_after = Some(Duration::from_millis(20 + rng.below(500)));
        self.propose_every *= 20;
        if rng.chance(1, 2) {
            self.last = Last::Sleep;
        }
    }

    /// Makes the plan of a group that has no trouble but what a script says.
    pub fn calm(seed: u64, members: usize, nodes: usize) -> Plan {
        let mut plan = Plan::new(seed, &mut Rng::from_u64(seed));
        plan.swarm = Swarm(0);
        plan.last = Last::Nothing;
        plan.config.sleep_after = None;
        (plan.members, plan.nodes) = (members, nodes);
        plan.links = Links::new(nodes);
        plan.leave_out(&[Fault::Settings, Fault::SlowDisk, Fault::SlowApply]);
        plan
    }

    /// Takes the usual in place of some of the seed's settings.
    pub fn leave_out(&mut self, faults: &[Fault]) {
        for fault in faults {
            self.swarm.0 &= !(1 << *fault as u8);
            match fault {
                Fault::SlowDisk => self.sync = (MS / 10, 8 * MS),
                Fault::SlowApply => self.apply = 0,
                Fault::Settings => {
                    let small = Config { snapshot_entries: 60, keep_entries: 10, ..Config::default() };
                    let sleep_after = self.config.sleep_after;
                    self.config = Config { chunk_bytes: 256, sleep_after, ..small };
                }
                _ => {}
            }
        }
    }

    fn config(rng: &mut Rng, swarm: Swarm) -> Config {
        let mut config = Config {
            snapshot_entries: 30 + rng.below(300),
            keep_entries: rng.below(40),
            chunk_bytes: 64 + rng.below(512) as usize,
            ..Config::default()
        };
        if swarm.has(Fault::Settings) {
            config.max_batch_entries = 1 + rng.below(20) as usize;
            config.max_batch_bytes = 1 + rng.below(2000) as usize;
            config.max_in_flight = 1 + rng.below(20) as usize;
            config.max_in_flight_bytes = 600 + rng.below(5000) as usize;
            config.max_uncommitted_bytes = 600 + rng.below(10_000) as usize;
            config.max_unapplied = 20 + rng.below(500);
            config.max_apply = 1 + rng.below(10) as usize;
            config.chunk_bytes = 16 + rng.below(64) as usize;
            config.max_chunks_in_flight = 1 + rng.below(4) as usize;
            config.snapshot_entries = 3 + rng.below(60);
            config.snapshot_bytes = 500 + rng.below(10_000) as usize;
            config.keep_entries = rng.below(5);
            config.heartbeat = Duration::from_millis(20 + rng.below(150));
            config.change_timeout = Duration::from_millis(500 + rng.below(8000));
        }
        config
    }
}
