//! One run: servers, clients, peers and what goes wrong, on one queue.
//!
//! A run has phases: clients work while faults happen; then faults end, everybody has to find back within a bound;
//! then everybody publishes to everything, and after a time of quiet nothing may be missing.

mod deeds;
mod io;
mod phases;

use std::sync::Arc;

use natrix_core::ids::ShardId;
use natrix_core::planted::{self, Bug, Point};
use natrix_core::rng::Rng;
use natrix_core::shard::{Boot, ServerIdentity, Shard};
use natrix_runtime_sim::clock::NodeClock;
use natrix_runtime_sim::fault::{Counters, Fault};
use natrix_runtime_sim::net::{HostId, NetEvent, Network, Notice};
use natrix_runtime_sim::queue::{EventQueue, MILLISECOND, SECOND, Schedule, SimTime};
use natrix_runtime_sim::server::{Alarm, Env, Server, ServerEvent, owner_server, seen};
use natrix_runtime_sim::trace::Trace;

use crate::client::Client;
use crate::marks::{Mark, Marks};
use crate::nemesis::{self, Deed};
use crate::oracle::{Checker, Oracle, Violation};
use crate::plan::Plan;
use crate::ring::{RING_BIT, Ring, RingEvent};

/// Everything that can be due.
#[derive(Clone, Copy, Debug)]
enum Event {
    Net(NetEvent),
    Server(ServerEvent),
    Ring(RingEvent),
    /// A client's turn to do something, if it is still in that life.
    Act(u16, u32),
    /// A slow or paused client reads on.
    Read(u16, u32),
    /// A client that is away dials.
    Dial(u16, u32),
    Deed(u16),
    Restart(u16, u8),
    Phase,
}

impl From<NetEvent> for Event {
    fn from(event: NetEvent) -> Self {
        Event::Net(event)
    }
}

impl From<ServerEvent> for Event {
    fn from(event: ServerEvent) -> Self {
        Event::Server(event)
    }
}

impl From<RingEvent> for Event {
    fn from(event: RingEvent) -> Self {
        Event::Ring(event)
    }
}

impl Event {
    fn numbers(self) -> (u8, u64) {
        match self {
            Event::Net(event) => event.numbers(),
            Event::Server(event) => event.numbers(),
            Event::Ring(event) => (4, u64::from(event.0)),
            Event::Act(client, life) => (5, u64::from(client) << 32 | u64::from(life)),
            Event::Read(client, life) => (6, u64::from(client) << 32 | u64::from(life)),
            Event::Dial(client, life) => (7, u64::from(client) << 32 | u64::from(life)),
            Event::Deed(index) => (8, u64::from(index)),
            Event::Restart(server, again) => (9, u64::from(server) << 8 | u64::from(again)),
            Event::Phase => (50, 0),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Working,
    /// Faults have ended; everybody is to be connected by this time.
    Settling(SimTime),
    /// Everybody has published to everything; all PINGs are to be answered by this time.
    Probing(SimTime),
    Quiet,
    /// The last PINGs are to be answered by this time.
    Last(SimTime),
    Over,
}

/// What became of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed it came from.
    pub seed: u64,
    /// The hash of its trace.
    pub hash: u64,
    /// Events taken from the queue.
    pub events: u64,
    /// Inputs that shards handled, ticks not counted.
    pub handled: u64,
    /// Messages that clients read.
    pub delivered: u64,
    /// Messages that clients published.
    pub published: u64,
    /// How long it lasted, in virtual nanoseconds.
    pub virtual_time: u64,
    /// Rules that were broken.
    pub violations: Vec<Violation>,
    /// Faults that came.
    pub counters: Counters,
    /// States that were reached.
    pub marks: Marks,
}

/// What to do besides running.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    /// A bug to plant.
    pub bug: Option<Bug>,
    /// Keep the words of the trace.
    pub text: bool,
    /// Print the words as they come.
    pub print: bool,
}

/// One run.
#[derive(Debug)]
pub struct World {
    plan: Arc<Plan>,
    queue: EventQueue<Event>,
    net: Network,
    trace: Trace,
    servers: Vec<Server<Shard>>,
    clients: Vec<Client>,
    ring: Ring,
    oracle: Oracle,
    deeds: Vec<(SimTime, Deed)>,
    rng: Rng,
    phase: Phase,
    scratch: Vec<u8>,
    options: Arc<natrix_core::config::Options>,
    print: bool,
    started: SimTime,
}

/// A run that has taken so many events is given up as one that never ends.
const EVENTS_MAX: u64 = 10_000_000;

impl World {
    /// Runs a plan to its end.
    ///
    /// Returns the report and the words of the trace, if they were wanted.
    pub fn run(plan: Plan, seed: u64, rng: Rng, settings: Settings) -> (Report, String) {
        planted::arm(settings.bug, plan.points, plan.point_one_in, seed);
        let mut world = World::new(plan, rng, settings);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.go()));
        if let Err(panic) = outcome {
            world.oracle.violate(Checker::Panic, crate::panic_text(&*panic));
        }
        let taken: u64 = planted::disarm().iter().sum();
        world.net.counters.add(Fault::FaultPoint, taken);
        let text = world.trace.take_text();
        (world.report(seed), text)
    }

    fn new(plan: Plan, mut rng: Rng, settings: Settings) -> World {
        let plan = Arc::new(plan);
        let (servers, clients) = (plan.shards.len() as u16, plan.profiles.len() as u16);
        let queue = EventQueue::new(&mut rng);
        let net = Network::new(servers + clients + plan.ring, plan.link, plan.stream, rng.child());
        let deeds = nemesis::draw(&plan, &mut rng);
        let mut world = World {
            queue,
            net,
            trace: Trace::new(settings.text || settings.print),
            servers: (0..servers).map(|id| Server::new(id, HostId(id), rng.child())).collect(),
            clients: Vec::new(),
            ring: Ring::new(&(0..plan.ring).map(|peer| HostId(servers + clients + peer)).collect::<Vec<_>>()),
            oracle: Oracle::new(plan.universe.clone(), 40 * SECOND),
            deeds,
            phase: Phase::Working,
            scratch: vec![0; 64 << 10],
            options: Arc::new(plan.options.clone()),
            print: settings.print,
            started: SimTime(0),
            rng,
            plan,
        };
        for (index, profile) in world.plan.clone().profiles.iter().enumerate() {
            let (id, child) = (index as u16, world.rng.child());
            world.clients.push(Client::new(id, HostId(servers + id), id % servers, *profile, child));
        }
        world
    }

    fn report(&mut self, seed: u64) -> Report {
        let mut counters = self.net.counters.clone();
        if self.plan.swarm.has(Fault::RandomSettings) {
            counters.hit(Fault::RandomSettings);
        }
        if self.plan.swarm.has(Fault::TinySocketBuffers) {
            counters.hit(Fault::TinySocketBuffers);
        }
        Report {
            seed,
            hash: self.trace.hash(),
            events: self.trace.events(),
            handled: self.servers.iter().map(|server| server.handled).sum(),
            delivered: self.oracle.delivered,
            published: self.oracle.published,
            virtual_time: self.now().0,
            violations: std::mem::take(&mut self.oracle.violations),
            counters,
            marks: std::mem::take(&mut self.oracle.marks),
        }
    }

    fn now(&self) -> SimTime {
        Schedule::<NetEvent>::now(&self.queue)
    }

    fn say(&mut self, words: impl FnOnce() -> String) {
        let now = self.now();
        self.trace.say(now, words);
    }

    fn go(&mut self) {
        for server in 0..self.servers.len() {
            self.start_server(server);
        }
        for client in 0..self.clients.len() as u16 {
            let at = SimTime(self.rng.below(5 * MILLISECOND));
            self.queue.at(at, Event::Dial(client, 0));
        }
        if !self.ring.is_empty() {
            self.ring.start(&mut self.queue, &mut self.net);
        }
        for (index, (time, _)) in self.deeds.iter().enumerate() {
            self.queue.at(*time, Event::Deed(index as u16));
        }
        self.queue.at(SimTime(self.plan.duration), Event::Phase);
        while self.phase != Phase::Over && self.oracle.violations.is_empty() {
            let Some(event) = self.queue.pop() else { break };
            let (kind, number) = event.numbers();
            let now = self.now();
            self.trace.event(now, kind, number, 0);
            self.dispatch(event);
            if self.trace.events() > EVENTS_MAX {
                self.oracle.violate(Checker::Liveness, "the run doesn't end");
            }
            if self.print {
                print!("{}", self.trace.take_text());
            }
        }
        let last: Vec<Violation> = self.oracle.violations.clone();
        for violation in last {
            self.say(|| format!("VIOLATION of {}: {}", violation.checker.name(), violation.text));
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Net(event) => {
                self.net.handle(&mut self.queue, event);
                self.hear_notices();
            }
            Event::Server(event) => {
                let server = &mut self.servers[usize::from(event.server)];
                let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
                server.handle(&mut Env { queue, net, trace }, event);
                self.look_after(usize::from(event.server));
            }
            Event::Ring(event) => {
                self.ring.tick(&mut self.queue, &mut self.net, event, &mut self.oracle.marks);
                self.check_ring();
            }
            Event::Act(client, life) => self.act(usize::from(client), life),
            Event::Read(client, life) => {
                if self.clients[usize::from(client)].life == life {
                    self.client_reads(usize::from(client));
                }
            }
            Event::Dial(client, life) => self.dial(usize::from(client), life),
            Event::Deed(index) => self.do_deed(usize::from(index)),
            Event::Restart(server, again) => self.restart(usize::from(server), again),
            Event::Phase => self.next_phase(),
        }
    }

    /// Tells everybody what the network has to say.
    fn hear_notices(&mut self) {
        while let Some(notice) = self.net.poll_notice() {
            let owner = match notice {
                Notice::Accepted { host, end, peer } => {
                    self.accepted(host, end, peer, notice);
                    continue;
                }
                Notice::Connected(_, owner)
                | Notice::Refused(_, owner)
                | Notice::Readable(_, owner)
                | Notice::Writable(_, owner)
                | Notice::Broken(_, owner) => owner,
            };
            if let Some(server) = owner_server(owner) {
                self.tell_server(usize::from(server), notice);
            } else if owner & RING_BIT != 0 {
                self.ring.notice(&mut self.queue, &mut self.net, notice, &mut self.oracle.marks);
                self.check_ring();
            } else {
                self.tell_client(owner as usize, notice);
            }
        }
    }

    fn tell_server(&mut self, server: usize, notice: Notice) {
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        self.servers[server].notice(&mut Env { queue, net, trace }, notice);
    }

    fn check_ring(&mut self) {
        if let Some(text) = self.ring.violation.take() {
            self.oracle.violate(Checker::Ring, text);
        }
    }

    /// Sees whether a server wants to die, has stopped, or did what it must not.
    fn look_after(&mut self, index: usize) {
        let server = &mut self.servers[index];
        for alarm in server.alarms.drain(..) {
            let checker = match alarm {
                Alarm::Pending { .. } | Alarm::Inbox { .. } => Checker::Memory,
                Alarm::Work { .. } => Checker::Work,
                Alarm::UnknownConn { .. } => Checker::Contract,
                Alarm::Spin { .. } => Checker::Liveness,
            };
            self.oracle.violate(checker, format!("server {index}: {alarm:?}"));
        }
        if server.seen != 0 {
            for (bit, mark) in [
                (seen::DELIVER, Mark::CrossShard),
                (seen::STALL, Mark::Stall),
                (seen::BOUNCED, Mark::QueueBounced),
                (seen::UNREACHED, Mark::Unreached),
                (seen::PAUSED, Mark::ReadingPaused),
                (seen::SLOW, Mark::SlowConsumer),
            ] {
                if server.seen & bit != 0 {
                    self.oracle.marks.reach(mark);
                }
            }
            server.seen = 0;
        }
        if std::mem::take(&mut server.failures) > 0 {
            self.oracle.violate(Checker::Contract, format!("server {index} can't go on, and has no reason"));
        }
        let server = &mut self.servers[index];
        if server.wants_crash() {
            self.crash(index, natrix_runtime_sim::server::Crash::Process, 0);
        } else if server.has_stopped() {
            self.say(|| format!("s{index} has stopped"));
            self.crash(index, natrix_runtime_sim::server::Crash::Process, 0);
        }
    }

    /// Starts a server with fresh shards, seeds and clocks.
    fn start_server(&mut self, index: usize) {
        let now = self.now();
        let drift = if self.plan.swarm.has(Fault::ClockDrift) { self.rng.below(400) as i64 - 200 } else { 0 };
        let skew = if self.plan.swarm.has(Fault::ClockSkew) {
            self.net.counters.hit(Fault::ClockSkew);
            self.rng.below(20 * SECOND) as i64 - 10 * SECOND as i64
        } else {
            0
        };
        if drift != 0 {
            self.net.counters.hit(Fault::ClockDrift);
        }
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let identity = Arc::new(ServerIdentity::from_seed(seed, &self.options));
        let server = &mut self.servers[index];
        server.clock = NodeClock::started(now, drift, skew);
        (server.pace, server.bounds) = (self.plan.pace, self.plan.bounds);
        let shards = self.plan.shards[index];
        let start = server.clock.now(now);
        let machines: Vec<Shard> = (0..shards)
            .map(|shard| {
                let mut seed = [0; 32];
                self.rng.fill(&mut seed);
                let boot = Boot {
                    shard: ShardId(shard),
                    shards,
                    seed,
                    options: self.options.clone(),
                    identity: identity.clone(),
                };
                Shard::new(start, boot)
            })
            .collect();
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        self.servers[index].start(&mut Env { queue, net, trace }, machines);
        self.say(|| format!("s{index} starts with {shards} shards"));
    }
}

/// The names of the fault points, for reports.
pub fn point_names(points: u64) -> Vec<String> {
    let on = |point: &&Point| points & 1 << **point as u64 != 0;
    Point::ALL.iter().filter(on).map(|point| format!("{point:?}")).collect()
}
