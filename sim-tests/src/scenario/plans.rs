//! The plans of the scenarios.

use std::time::Duration;

use natrix_core::rng::Rng;
use natrix_runtime_sim::fault::{Fault, Swarm};
use natrix_runtime_sim::queue::{MICROSECOND, MILLISECOND};

use crate::client::Workload;
use crate::plan::{HARMLESS, PATTERNS, Plan, SUBJECTS};
use crate::universe::{Rules, Universe, User};

const LINK_FAULTS: &[Fault] = &[
    Fault::Loss,
    Fault::DelaySpike,
    Fault::Bandwidth,
    Fault::Clog,
    Fault::PartitionTwoWay,
    Fault::PartitionOneWay,
    Fault::PartitionIsolate,
    Fault::PartitionBridge,
    Fault::PartitionSwizzle,
];
const STREAM_FAULTS: &[Fault] = &[
    Fault::CutMidFrame,
    Fault::HalfOpen,
    Fault::Frozen,
    Fault::ConnectStorm,
    Fault::PauseClient,
    Fault::Loss,
];
const PROCESS_FAULTS: &[Fault] = &[
    Fault::PauseProcess,
    Fault::PauseShard,
    Fault::CrashAtOutput,
    Fault::CrashIdle,
    Fault::PowerLoss,
    Fault::RestartStorm,
];
const CLOCK_FAULTS: &[Fault] =
    &[Fault::ClockSkew, Fault::ClockDrift, Fault::WallJumpForward, Fault::WallJumpBack];

/// Several shards for every server: what is between shards is what is looked at.
fn sharded(rng: &mut Rng, plan: &mut Plan) {
    for shards in &mut plan.shards {
        *shards = 2 + rng.below(3) as u16;
    }
}

pub(super) fn calm(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 3, 15).with_faults(rng, &[]);
    plan.load = Workload { request: 6, queue: 200, max: 100, headers: 200, ..Workload::default() };
    plan
}

pub(super) fn ping_after_sub(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 10).with_faults(rng, &[]);
    sharded(rng, &mut plan);
    plan.load = Workload {
        publish: 50,
        subscribe: 40,
        unsubscribe: 36,
        ping: 2,
        request: 10,
        burst: 2,
        ping_after_sub: 900,
        interval: (20 + rng.below(600)) * MICROSECOND,
        ..Workload::default()
    };
    if rng.chance(1, 3) {
        // Nobody waits for a PONG: that somebody subscribed is known from what it published next.
        (plan.load.ping_after_sub, plan.load.ping, plan.load.burst) = (0, 0, 4);
        (plan.load.publish, plan.load.subscribe, plan.load.unsubscribe) = (80, 80, 76);
    }
    plan
}

pub(super) fn races(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 9).with_faults(rng, &[Fault::Preempted]);
    sharded(rng, &mut plan);
    plan.load = Workload {
        publish: 20,
        subscribe: 20,
        unsubscribe: 19,
        request: 40,
        burst: 2,
        subscriptions: 3,
        ping_after_sub: 800,
        interval: (1 + rng.below(6)) * MILLISECOND,
        ..Workload::default()
    };
    (plan.racy, plan.duration) = (true, plan.duration * 4);
    plan
}

pub(super) fn queue_groups(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 10).with_faults(rng, &[]);
    sharded(rng, &mut plan);
    plan.load = Workload {
        subscribe: 30,
        unsubscribe: 25,
        burst: 4,
        queue: 900,
        interval: (50 + rng.below(1000)) * MICROSECOND,
        ..Workload::default()
    };
    if rng.chance(1, 3) {
        // Nobody leaves, so nothing excuses a message out of order.
        (plan.load.unsubscribe, plan.load.max) = (0, 0);
    }
    plan
}

pub(super) fn requests(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 8).with_faults(rng, &[]);
    if rng.chance(3, 4) {
        sharded(rng, &mut plan);
    }
    plan.load = Workload {
        publish: 5,
        subscribe: 14,
        unsubscribe: 13,
        request: 60,
        queue: 400,
        subscriptions: 2,
        respond: 700,
        interval: (50 + rng.below(1000)) * MICROSECOND,
        ..Workload::default()
    };
    for profile in &mut plan.profiles {
        profile.headers = true;
        profile.no_responders = rng.chance(3, 4);
    }
    plan
}

pub(super) fn auto_unsubscribe(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 8).with_faults(rng, &[]);
    plan.load = Workload { subscribe: 40, max: 800, burst: 10, subscriptions: 40, ..Workload::default() };
    plan
}

pub(super) fn churn(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 2, 12).with_faults(rng, &[]);
    plan.load = Workload {
        publish: 50,
        subscribe: 60,
        unsubscribe: 55,
        leave: if rng.chance(1, 2) { 2 } else { 0 },
        queue: 250,
        max: 100,
        burst: 4,
        interval: (100 + rng.below(500)) * MICROSECOND,
        ..Workload::default()
    };
    plan
}

pub(super) fn floods(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 5).with_faults(rng, &[]);
    plan.load = Workload {
        publish: 4,
        burst: 2500,
        payload: 18,
        subscriptions: 40,
        subscribe: 30,
        unsubscribe: 1,
        interval: 30 * MILLISECOND,
        ..Workload::default()
    };
    for profile in plan.profiles.iter_mut().take(1) {
        profile.listener = true;
    }
    // Whoever is fed so much at once may well be a slow consumer.
    plan.allowed.closes = true;
    // A `handle` stops at 20,000 deliveries, when the message that it is at has reached everybody.
    plan.bounds.work = 20_000 + 10_000;
    plan.duration *= 2;
    plan
}

fn user(name: &'static str, account: u8) -> User {
    User { name, account, publish: Rules::default(), subscribe: Rules::default() }
}

fn restricted_users() -> Vec<User> {
    let allow = |patterns: &[&'static str]| Rules { allow: Some(patterns.to_vec()), deny: Vec::new() };
    let deny = |patterns: &[&'static str]| Rules { allow: None, deny: patterns.to_vec() };
    vec![
        user("root", 0),
        User { publish: allow(&["a.>", "_INBOX.>"]), subscribe: deny(&["secret.>"]), ..user("ada", 0) },
        User { publish: deny(&["secret.*", "a.b"]), subscribe: deny(&["a.b.c"]), ..user("bob", 0) },
        User {
            publish: allow(&["b.*", "a", "_INBOX.>"]),
            subscribe: Rules { allow: Some(vec!["a.>", "*.b", "_INBOX.>"]), deny: vec!["a.c", "b.b"] },
            ..user("cleo", 0)
        },
        User { publish: deny(&[">"]), subscribe: deny(&["*.c"]), ..user("dan", 0) },
    ]
}

pub(super) fn permissions(rng: &mut Rng) -> Plan {
    let universe = Universe::new(&SUBJECTS, &PATTERNS, &["$G"], restricted_users());
    let mut plan = Plan::calm(rng, 1, 10).with_faults(rng, &[]).with_users(universe);
    plan.load = Workload {
        subscribe: 25,
        unsubscribe: 22,
        queue: 150,
        leave: if rng.chance(1, 2) { 1 } else { 0 },
        ..Workload::default()
    };
    plan
}

pub(super) fn accounts(rng: &mut Rng) -> Plan {
    let users = vec![user("a1", 0), user("b1", 1), user("c1", 2), user("a2", 0), user("b2", 1)];
    let universe = Universe::new(&SUBJECTS, &PATTERNS, &["A", "B", "C"], users);
    let mut plan = Plan::calm(rng, 1, 10).with_faults(rng, &[]).with_users(universe);
    plan.load = Workload { subscribe: 25, unsubscribe: 22, queue: 200, request: 10, ..Workload::default() };
    plan
}

pub(super) fn slow_readers(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 8).with_faults(rng, &[]);
    plan.swarm = Swarm::of(&[Fault::ClockSkew]);
    plan.options.max_pending = [1 << 20, 2 << 20][rng.below(2) as usize];
    plan.options.max_payload = Some(32 << 10);
    plan.stream.capacity = (64 << 10, 256 << 10);
    plan.options.write_deadline = Duration::from_secs(if rng.chance(1, 3) { 1 } else { 10 });
    plan.load = Workload {
        long: 120,
        long_payload: 30_000,
        burst: 3,
        interval: 8 * MILLISECOND,
        ..Workload::default()
    };
    plan.duration *= 8;
    for profile in plan.profiles.iter_mut().take(1 + rng.below(3) as usize) {
        profile.slow = 1 + rng.below(3000) as usize;
        profile.listener = true;
    }
    // A publisher waits for who it feeds, so a slow reader may slow others down; only it may be closed.
    plan
}

pub(super) fn large_payloads(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 6).with_faults(rng, &[]);
    plan.load = Workload {
        long: 250,
        long_payload: [70_000, 150_000, 400_000][rng.below(3) as usize],
        headers: 400,
        burst: 3,
        subscriptions: 3,
        interval: 20 * MILLISECOND,
        ..Workload::default()
    };
    plan.duration *= 4;
    plan
}

/// The default work, at the pace of a network that has faults.
fn busy(rng: &mut Rng) -> Workload {
    Workload {
        request: 6,
        queue: 200,
        max: 80,
        headers: 100,
        interval: (1 + rng.below(5)) * MILLISECOND,
        ..Workload::default()
    }
}

pub(super) fn partitions(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 3, 12).with_faults(rng, LINK_FAULTS);
    plan.load = busy(rng);
    (plan.duration, plan.roam, plan.ring) = (plan.duration * 4, true, 3);
    plan
}

pub(super) fn cuts(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 2, 12).with_faults(rng, STREAM_FAULTS);
    plan.load = Workload { leave: 1, ..busy(rng) };
    plan.ring = 3;
    plan
}

pub(super) fn crashes(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 3, 12).with_faults(rng, PROCESS_FAULTS);
    plan.load = busy(rng);
    (plan.duration, plan.roam) = (plan.duration * 3, true);
    plan
}

pub(super) fn clocks(rng: &mut Rng) -> Plan {
    let faults =
        [CLOCK_FAULTS, &[Fault::HalfOpen, Fault::Frozen, Fault::PauseClient, Fault::PartitionIsolate]]
            .concat();
    let mut plan = Plan::calm(rng, 2, 8).with_faults(rng, &faults);
    plan.options.ping_interval = Duration::from_millis(500 + rng.below(3000));
    plan.load = Workload { interval: 50 * MILLISECOND, ..busy(rng) };
    plan.duration *= 60;
    plan
}

pub(super) fn nonsense(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 1, 10).with_faults(rng, &[]);
    plan.load = Workload { nonsense: 2, ..busy(rng) };
    plan
}

pub(super) fn limits(rng: &mut Rng) -> Plan {
    let universe = Universe::new(&SUBJECTS, &PATTERNS, &["$G"], vec![user("root", 0)]);
    let mut plan = Plan::calm(rng, 1, 12).with_faults(rng, &[]).with_users(universe);
    plan.options.max_connections = Some(4 + rng.below(9) as u32);
    plan.allowed.refusals = true;
    plan.load = Workload { leave: 3, ..busy(rng) };
    for profile in plan.profiles.iter_mut().take(2) {
        profile.wrong_password = true;
    }
    plan
}

pub(super) fn lame_duck(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 2, 10).with_faults(rng, &[Fault::PauseShard, Fault::Loss]);
    plan.options.lame_duck_duration = Duration::from_millis(100 + rng.below(2000));
    plan.options.lame_duck_grace_period = Duration::from_millis(20 + rng.below(200));
    plan.load = busy(rng);
    (plan.lame_duck, plan.roam, plan.duration) = (true, true, plan.duration * 12);
    plan
}

pub(super) fn ring(rng: &mut Rng) -> Plan {
    let faults = [LINK_FAULTS, &[Fault::CutMidFrame, Fault::TinySocketBuffers, Fault::Split]].concat();
    let mut plan = Plan::calm(rng, 1, 2).with_faults(rng, &faults);
    plan.load = Workload { interval: 20 * MILLISECOND, ..busy(rng) };
    (plan.ring, plan.duration) = (3 + rng.below(5) as u16, plan.duration * 30);
    plan
}

pub(super) fn swarm(rng: &mut Rng) -> Plan {
    let every = [LINK_FAULTS, STREAM_FAULTS, PROCESS_FAULTS, CLOCK_FAULTS, HARMLESS].concat();
    let some: Vec<Fault> = every.into_iter().filter(|_| rng.chance(2, 3)).collect();
    let universe = Universe::new(&SUBJECTS, &PATTERNS, &["$G"], restricted_users());
    let (servers, clients) = (1 + rng.below(3) as u16, 4 + rng.below(16) as u16);
    let mut plan = Plan::calm(rng, servers, clients).with_faults(rng, &some);
    if rng.chance(1, 3) {
        plan = plan.with_users(universe);
    }
    let mut some = |weight: u32| if rng.chance(1, 2) { weight } else { 0 };
    plan.load = Workload {
        request: some(15),
        leave: some(1),
        nonsense: some(1),
        long: some(60),
        long_payload: 100_000,
        headers: some(300),
        queue: some(400),
        max: some(200),
        unsubscribe: 5 + some(20),
        ..Workload::default()
    };
    plan.load.interval = (1 + rng.below(8)) * MILLISECOND;
    if rng.chance(1, 3)
        && let Some(profile) = plan.profiles.first_mut()
    {
        (profile.slow, profile.listener) = (1 + rng.below(3000) as usize, true);
        plan.options.max_pending = 512 << 10;
    }
    (plan.roam, plan.ring, plan.duration) = (true, rng.below(4) as u16, plan.duration * 2);
    if plan.ring == 1 {
        plan.ring = 2;
    }
    plan
}

pub(super) fn bench(rng: &mut Rng) -> Plan {
    let mut plan = Plan::calm(rng, 3, 20);
    plan.shards = vec![2, 2, 2];
    plan.load = Workload {
        queue: 200,
        burst: 2,
        payload: 48,
        subscriptions: 3,
        interval: 400 * MICROSECOND,
        ..Workload::default()
    };
    plan.duration = 1000 * MILLISECOND;
    plan
}
