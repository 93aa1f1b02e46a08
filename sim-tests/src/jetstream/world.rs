//! One run: a server with a disk, its clients, and what goes wrong.
//!
//! Clients work while faults happen. Then faults end, what is under way is finished, and everything is looked at; then
//! everything that is wanted is fetched and acknowledged durably, perhaps the power is cut, and everything is looked at
//! again.

mod phases;
mod sealing;

use std::collections::BTreeSet;
use std::sync::Arc;

use natrix_core::config::Options;
use natrix_core::ids::ShardId;
use natrix_core::planted;
use natrix_core::rng::Rng;
use natrix_core::shard::{Boot, ServerIdentity, Shard};
use natrix_runtime_sim::clock::NodeClock;
use natrix_runtime_sim::disk::{Copies, DiskFault, SimDisk};
use natrix_runtime_sim::fault::Fault;
use natrix_runtime_sim::net::{HostId, NetEvent, Network, Notice, Read};
use natrix_runtime_sim::queue::{EventQueue, MILLISECOND, SECOND, Schedule, SimTime};
use natrix_runtime_sim::server::{Alarm, Crash, Env, Server, ServerEvent, owner_server};
use natrix_runtime_sim::trace::Trace;
use phases::Phase;

use super::Settings;
use super::client::{Admin, Client, Keeper, Mode, Producer, Role, Worker};
use super::conn::{Conn, State};
use super::keys::Operator;
use super::oracle::Oracle;
use super::plan::Plan;
use super::report::{Report, Rule};
use super::rot::{Rotten, rot};
use crate::panic_text;
use crate::wire;

#[derive(Clone, Copy, Debug)]
enum Event {
    Net(NetEvent),
    Server(ServerEvent),
    Act(u16),
    Dial(u16, u32),
    Deed(u16),
    Restart,
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

impl Event {
    fn numbers(self) -> (u8, u64) {
        match self {
            Event::Net(event) => event.numbers(),
            Event::Server(event) => event.numbers(),
            Event::Act(client) => (5, u64::from(client)),
            Event::Dial(client, life) => (7, u64::from(client) << 32 | u64::from(life)),
            Event::Deed(index) => (8, u64::from(index)),
            Event::Restart => (9, 0),
            Event::Phase => (50, 0),
        }
    }
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Kill(u32),
    Power,
    Pause(u64),
    PauseShard(u16, u64),
    Cut(u16),
    Rot,
}

/// A run with so many events never ends.
const EVENTS_MAX: u64 = 4_000_000;

struct World {
    plan: Arc<Plan>,
    queue: EventQueue<Event>,
    net: Network,
    trace: Trace,
    server: Server<Shard>,
    clients: Vec<Client>,
    oracle: Oracle,
    deeds: Vec<(SimTime, Deed)>,
    rng: Rng,
    phase: Phase,
    /// When the present phase found nothing under way.
    quiet_since: Option<SimTime>,
    scratch: Vec<u8>,
    operator: Operator,
    /// The server was started with another key, or on a damaged catalogue, and is ended soon: nobody is told of it.
    false_start: bool,
    /// The catalogue as it was before it was damaged: it is put back before the next start.
    spare: Option<Copies>,
    /// It was started while faults came.
    started_in_trouble: bool,
    /// A bit has rotted in what says how far consumers are; since the last start in an entry, which may be anybody's.
    rotten: (bool, bool),
    /// Folders that have something, of which the server is to tell that it is encrypted: something was in plain text when it was
    /// started with a key, or has another cipher.
    owed: BTreeSet<String>,
    print: bool,
}

/// Runs a plan to its end.
pub(super) fn run(plan: Plan, seed: u64, rng: Rng, settings: Settings) -> Report {
    planted::arm(settings.bug, plan.points.0, plan.points.1, seed);
    let mut world = World::new(plan, rng, settings);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.go()));
    if let Err(panic) = outcome {
        world.oracle.violate(Rule::Panic, panic_text(&*panic));
    }
    planted::disarm();
    world.report(seed)
}

impl World {
    fn new(plan: Plan, mut rng: Rng, settings: Settings) -> World {
        let plan = Arc::new(plan);
        let queue = EventQueue::new(&mut rng);
        let mut roles = vec![Role::Admin(Box::new(Admin::new(&plan.streams)))];
        roles.extend((0..plan.producers).map(|_| Role::Producer(Producer::default())));
        roles.extend((0..plan.keepers).map(|_| Role::Keeper(Keeper::new(plan.streams.len() - 1))));
        for (number, consumer) in plan.consumers.iter().enumerate() {
            let workers = if consumer.push { 1 } else { plan.workers };
            roles.extend((0..workers).map(|_| Role::Worker(Worker::new(number))));
        }
        roles.extend((0..plan.schedulers).map(|_| Role::Scheduler(Box::default())));
        let hosts = roles.len() as u16 + 1;
        let net = Network::new(hosts, plan.link, plan.tcp, rng.child());
        let mut server = Server::new(0, HostId(0), rng.child());
        server.disk = Some(SimDisk::new(rng.child(), plan.disk.clone()));
        let clients = roles.into_iter().enumerate().map(|(id, role)| {
            let conn = Conn::new(id as u16, HostId(id as u16 + 1));
            Client { conn, role, rng: rng.child() }
        });
        let clients = clients.collect();
        let deeds = deeds(&plan, hosts - 1, &mut rng);
        World {
            queue,
            net,
            trace: Trace::new(settings.print),
            server,
            clients,
            oracle: Oracle::new(plan.clone()),
            deeds,
            phase: Phase::Work,
            quiet_since: None,
            scratch: vec![0; 64 << 10],
            operator: Operator::new(plan.keys, rng.child()),
            false_start: false,
            spare: None,
            started_in_trouble: true,
            rotten: (false, false),
            owed: BTreeSet::new(),
            print: settings.print,
            rng,
            plan,
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
        self.start_server();
        for client in 0..self.clients.len() as u16 {
            let at = SimTime(self.rng.below(5 * MILLISECOND));
            self.queue.at(at, Event::Dial(client, 0));
            self.queue.at(at, Event::Act(client));
        }
        for (index, (time, _)) in self.deeds.iter().enumerate() {
            self.queue.at(*time, Event::Deed(index as u16));
        }
        self.queue.at(SimTime(self.plan.duration), Event::Phase);
        while self.phase != Phase::Over && self.oracle.violations.is_empty() {
            let Some(event) = self.queue.pop() else { break };
            let (kind, number) = event.numbers();
            let now = self.now();
            self.oracle.now = now;
            self.trace.event(now, kind, number, 0);
            self.dispatch(event);
            if self.trace.events() > EVENTS_MAX {
                self.oracle.violate(Rule::Liveness, "the run doesn't end");
            }
            if self.print {
                print!("{}", self.trace.take_text());
            }
        }
    }

    fn dispatch(&mut self, event: Event) {
        match event {
            Event::Net(event) => {
                self.net.handle(&mut self.queue, event);
                self.hear_notices();
            }
            Event::Server(event) => {
                let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
                self.server.handle(&mut Env { queue, net, trace }, event);
                self.look_after();
            }
            Event::Act(client) => self.act(usize::from(client)),
            Event::Dial(client, life) => self.dial(usize::from(client), life),
            Event::Deed(index) => self.do_deed(self.deeds[usize::from(index)].1),
            Event::Restart => {
                if !self.server.is_up() {
                    self.start_server();
                } else if self.false_start {
                    self.crash(Crash::Process);
                }
            }
            Event::Phase => self.next_phase(),
        }
    }

    fn hear_notices(&mut self) {
        while let Some(notice) = self.net.poll_notice() {
            let owner = match notice {
                Notice::Accepted { end, peer, .. } => {
                    self.tell_server(notice);
                    let client = &mut self.clients[usize::from(peer.0) - 1];
                    if client.conn.end == Some(end.other()) && !self.false_start {
                        client.conn.epoch = self.server.epoch();
                    }
                    continue;
                }
                Notice::Connected(_, owner)
                | Notice::Refused(_, owner)
                | Notice::Readable(_, owner)
                | Notice::Writable(_, owner)
                | Notice::Broken(_, owner) => owner,
            };
            match owner_server(owner) {
                Some(_) => self.tell_server(notice),
                None => self.tell_client(owner as usize, notice),
            }
        }
    }

    fn tell_server(&mut self, notice: Notice) {
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        self.server.notice(&mut Env { queue, net, trace }, notice);
    }

    fn tell_client(&mut self, index: usize, notice: Notice) {
        let Some(client) = self.clients.get_mut(index) else { return };
        match notice {
            Notice::Connected(end, _) if client.conn.end == Some(end) && self.false_start => {
                // It had begun to connect before.
                self.net.reset(&mut self.queue, end);
                self.client_lost(index);
            }
            Notice::Connected(end, _) if client.conn.end == Some(end) => {
                client.conn.state = State::Greeting;
                self.client_reads(index);
            }
            Notice::Readable(end, _) if client.conn.end == Some(end) => self.client_reads(index),
            Notice::Writable(end, _) if client.conn.end == Some(end) => self.client_writes(index),
            Notice::Refused(end, _) | Notice::Broken(end, _) if client.conn.end == Some(end) => {
                self.client_lost(index);
            }
            _ => {}
        }
    }

    fn client_lost(&mut self, index: usize) {
        let now = self.now();
        self.clients[index].lost(&mut self.oracle);
        self.say(|| format!("c{index} is away"));
        let delay = MILLISECOND + self.rng.below(60 * MILLISECOND);
        self.queue.at(now + delay, Event::Dial(index as u16, self.clients[index].conn.life));
    }

    fn dial(&mut self, index: usize, life: u32) {
        let now = self.now();
        if self.false_start {
            return self.queue.at(now + 20 * MILLISECOND, Event::Dial(index as u16, life));
        }
        let conn = &mut self.clients[index].conn;
        if conn.life == life && conn.state == State::Away {
            let end = self.net.dial(&mut self.queue, conn.host, HostId(0), index as u64);
            conn.dialed(now, end);
        }
    }

    fn client_reads(&mut self, index: usize) {
        let mut scratch = std::mem::take(&mut self.scratch);
        while let Some(end) = self.clients[index].conn.end {
            match self.net.read(&mut self.queue, end, &mut scratch) {
                Read::Nothing => break,
                Read::Finished => {
                    self.net.close(&mut self.queue, end);
                    self.client_lost(index);
                    break;
                }
                Read::Bytes(n) => self.client_hears(index, &scratch[..n]),
            }
        }
        self.scratch = scratch;
        self.client_writes(index);
    }

    fn client_hears(&mut self, index: usize, bytes: &[u8]) {
        let mode = self.mode();
        let mut partial = std::mem::take(&mut self.clients[index].conn.partial);
        partial.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            match wire::parse(&partial[at..]) {
                Ok(Some((n, heard))) => {
                    self.trace.say(SimTime(self.oracle.now.0), || format!("c{index} hears {}", show(&heard)));
                    self.clients[index].hear(&mut self.oracle, mode, heard);
                    at += n;
                }
                Ok(None) => break,
                Err(nonsense) => {
                    let text = format!("client {index} hears nonsense: {}", nonsense.0);
                    self.oracle.violate(Rule::Contract, text);
                    break;
                }
            }
        }
        partial.drain(..at);
        self.clients[index].conn.partial = partial;
        let tempting = std::mem::take(&mut self.oracle.tempting);
        if tempting > 0
            && self.plan.trouble.power
            && self.phase == Phase::Work
            && self.rng.chance(tempting, 1000)
        {
            self.oracle.tally.hit("power-loss-on-promise");
            let now = self.now();
            self.queue.at(now + 1, Event::Deed(self.deeds.len() as u16));
            self.deeds.push((now, Deed::Power));
        }
    }

    fn client_writes(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let Some(end) = client.conn.end.filter(|_| client.conn.is_open()) else { return };
        let conn = &mut client.conn;
        if conn.out_at < conn.out.len() {
            if self.trace.has_text() {
                let text = natrix_runtime_sim::trace::show_bytes(&conn.out[conn.out_at..], 400);
                self.trace.say(self.oracle.now, || format!("c{index} says {text}"));
            }
            let taken = self.net.write(&mut self.queue, end, &conn.out[conn.out_at..]);
            conn.out.drain(..conn.out_at + taken);
            conn.out_at = 0;
        }
    }

    fn act(&mut self, index: usize) {
        let now = self.now();
        let mode = self.mode();
        if !self.clients[index].conn.tend(now) {
            self.say(|| format!("c{index} gives its connection up"));
            self.oracle.tally.hit("given-up");
            if let Some(end) = self.clients[index].conn.end {
                self.net.reset(&mut self.queue, end);
            }
            self.client_lost(index);
        }
        self.clients[index].act(&mut self.oracle, mode);
        self.client_writes(index);
        let mean = match mode {
            Mode::Work => self.plan.interval,
            Mode::Settle => 20 * MILLISECOND,
            Mode::Audit | Mode::Drain => 2 * MILLISECOND,
        };
        let delay = 1 + mean / 2 + self.rng.below(mean);
        self.queue.at(now + delay, Event::Act(index as u16));
    }

    fn do_deed(&mut self, deed: Deed) {
        let now = self.now();
        if self.phase != Phase::Work {
            return;
        }
        self.say(|| format!("deed: {deed:?}"));
        match deed {
            Deed::Kill(0) => self.crash(Crash::Process),
            Deed::Kill(outputs) => self.server.crash_after(outputs),
            Deed::Power => self.crash(Crash::Power),
            Deed::Rot => self.rot(),
            Deed::Pause(length) => {
                self.oracle.tally.hit("pause-process");
                self.server.pause(now + length);
            }
            Deed::PauseShard(shard, length) => {
                self.oracle.tally.hit("pause-shard");
                self.server.pause_shard(usize::from(shard), now + length);
            }
            Deed::Cut(client) => {
                let client = usize::from(client);
                if let Some(end) = self.clients[client].conn.end {
                    self.oracle.tally.hit("cut");
                    self.net.reset(&mut self.queue, end);
                    self.client_lost(client);
                }
            }
        }
    }

    fn crash(&mut self, how: Crash) {
        if !self.server.is_up() {
            return;
        }
        self.say(|| format!("the server ends: {how:?}"));
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        self.server.crash(&mut Env { queue, net, trace }, how);
        let now = self.now();
        // Now and then again at once, while it starts.
        let delay = MILLISECOND + self.rng.below(200 * MILLISECOND);
        self.queue.at(now + delay, Event::Restart);
    }

    /// Sees whether the server wants to die, or did what it must not.
    fn look_after(&mut self) {
        for alarm in std::mem::take(&mut self.server.alarms) {
            let rule = if matches!(alarm, Alarm::Spin { .. }) { Rule::Liveness } else { Rule::Contract };
            self.oracle.violate(rule, format!("{alarm:?}"));
        }
        if std::mem::take(&mut self.server.failures) > 0 {
            self.oracle.tally.hit("server-gave-up");
            let failing =
                self.plan.trouble.failed_writes || self.plan.trouble.bad_reads || self.plan.trouble.full_disk;
            // What it was refused may have been asked for while faults still came; and what is damaged may be all that it has.
            if (!failing || !self.started_in_trouble) && self.spare.is_none() {
                self.oracle.violate(Rule::Contract, "the server gives up, and its disk is well");
            }
        }
        self.hear_of_encryption();
        for name in std::mem::take(&mut self.server.uncertain) {
            self.forgets(&name);
        }
        if std::mem::take(&mut self.server.restarts_asked) > 0 {
            self.restart_as_asked();
        }
        if self.server.wants_crash() {
            self.crash(Crash::Process);
        }
    }

    /// The server doesn't know all that this consumer had.
    fn forgets(&mut self, name: &str) {
        if !self.rotten.0 {
            self.oracle.violate(
                Rule::Contract,
                format!("consumer {name} has lost something, and nothing was damaged"),
            );
        }
        if let Some(consumer) = name.strip_prefix('C').and_then(|number| number.parse().ok()) {
            self.oracle.forgets(consumer);
        }
    }

    /// Any consumer may have lost what it had in lives before.
    fn all_may_forget(&mut self) {
        (0..self.plan.consumers.len()).for_each(|consumer| self.oracle.forgets(consumer));
    }

    /// Lets a bit rot in what says how far consumers are.
    fn rot(&mut self) {
        let Some(disk) = &mut self.server.disk else { return };
        let Some(rotten) = rot(disk, &mut self.rng) else { return };
        self.rotten.0 = true;
        self.oracle.tally.hit(match rotten {
            Rotten::File(_) => "consumer-file-damaged",
            Rotten::Entry(_) => "consumer-entry-damaged",
        });
        if let Rotten::Entry(_) = rotten {
            // This life may still be reading what the last one left.
            self.rotten.1 = true;
            self.all_may_forget();
        }
        self.say(|| format!("a bit rots in {rotten:?}"));
    }

    /// Does what the server asks for in its log: a stream's files are of no use to it before it is started again.
    fn restart_as_asked(&mut self) {
        self.oracle.tally.hit("files-given-up");
        self.oracle.offline = Some(self.oracle.epoch);
        // Whatever a disk refuses is asked again, and no disk refuses it so often.
        self.oracle.violate(Rule::Contract, "the files of a stream are given up");
        self.crash(Crash::Process);
    }

    fn start_server(&mut self) {
        let now = self.now();
        if let (Some(disk), Some(spare)) = (&mut self.server.disk, self.spare.take()) {
            self.oracle.tally.hit("catalogue-restored");
            disk.put_back(spare, is_of_catalogue);
        }
        let drift = self.rng.below(400) as i64 - 200;
        let mut seed = [0; 32];
        self.rng.fill(&mut seed);
        let options = Arc::new(self.settings());
        let identity = Arc::new(ServerIdentity::from_seed(seed, &options));
        self.server.clock = NodeClock::started(now, drift, 0);
        self.server.pace = self.plan.pace;
        let start = self.server.clock.now(now);
        // Whoever starts a server again may give it more cores, or fewer.
        let shards = match self.server.epoch() > 0 && self.rng.chance(1, 4) {
            true => 1 + self.rng.below(3) as u16,
            false => self.plan.shards,
        };
        let machines: Vec<Shard> = (0..shards)
            .map(|shard| {
                let mut seed = [0; 32];
                self.rng.fill(&mut seed);
                let (options, identity) = (options.clone(), identity.clone());
                Shard::new(start, Boot { shard: ShardId(shard), shards, seed, options, identity })
            })
            .collect();
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        self.server.start(&mut Env { queue, net, trace }, machines);
        self.oracle.epoch = self.server.epoch();
        if self.rotten.1 {
            self.all_may_forget();
            // Whoever is let in to this server is held to what it finds.
            self.rotten.1 = self.false_start;
        }
        if self.server.epoch() > 1 {
            self.oracle.tally.hit("restarted");
        }
        self.say(|| format!("the server starts with {shards} shards"));
        if self.phase == Phase::Work && self.plan.trouble.kill && self.rng.chance(1, 8) {
            self.oracle.tally.hit("restart-storm");
            self.server.crash_after(1 + self.rng.below(60) as u32);
        }
    }

    /// Returns the settings for a start.
    fn settings(&mut self) -> Options {
        let epoch = self.server.epoch();
        let ready = epoch > 0 && self.clients.iter().any(|client| client.conn.epoch == epoch);
        let changed = self.operator.before_start(ready);
        if let Some(what) = changed {
            self.oracle.tally.hit(what);
        }
        self.started_in_trouble = self.phase == Phase::Work;
        if epoch > 0 && self.phase == Phase::Work && self.plan.trouble.rot && self.rng.chance(1, 3) {
            self.rot();
        }
        let wrong_key = epoch > 0 && self.phase == Phase::Work && self.operator.errs();
        let damaged = epoch > 0 && self.phase == Phase::Work && !wrong_key && self.damage_catalogue();
        self.false_start = wrong_key || damaged;
        if self.false_start {
            self.oracle.tally.hit(if wrong_key { "wrong-key" } else { "catalogue-damaged" });
            let soon = self.now() + MILLISECOND + self.rng.below(300 * MILLISECOND);
            self.queue.at(soon, Event::Restart);
        }
        if self.operator.has_key() && !wrong_key {
            self.note_owed(changed == Some("cipher-changes"));
        }
        let mut options = self.plan.options.clone();
        if let Some(jetstream) = &mut options.jetstream {
            self.operator.settle(jetstream, wrong_key);
        }
        options
    }

    /// Lets a bit rot where it is kept which streams and consumers there are, now and then. The server is to leave alone what it
    /// doesn't know then: when the operator has put things back, everything is there.
    fn damage_catalogue(&mut self) -> bool {
        if !self.plan.trouble.rot || !self.rng.chance(1, 3) {
            return false;
        }
        let Some(disk) = &mut self.server.disk else { return false };
        let copies = disk.copy(is_of_catalogue);
        // The last batch of a journal is vouched for by nothing: where it is damaged it is a torn tail.
        let Some(path) = disk.flip_a_bit(&copies, BATCH, &mut self.rng) else { return false };
        self.spare = Some(copies);
        self.say(|| format!("a bit rots in {path}"));
        true
    }

    fn report(&mut self, seed: u64) -> Report {
        let mut tally = std::mem::take(&mut self.oracle.tally);
        for fault in
            [Fault::CrashAtOutput, Fault::CrashIdle, Fault::PowerLoss, Fault::CutMidFrame, Fault::Preempted]
        {
            tally.add(fault.name(), self.net.counters.of(fault));
        }
        for (fault, name) in DISK_FAULTS {
            tally.add(name, self.server.disk.as_ref().map_or(0, |disk| disk.hits(*fault)));
        }
        Report {
            seed,
            hash: self.trace.hash(),
            events: self.trace.events(),
            virtual_time: self.now().0,
            stored: self.oracle.stored,
            delivered: self.oracle.deliveries,
            tally,
            violations: std::mem::take(&mut self.oracle.violations),
        }
    }
}

/// What a batch of a journal begins with.
const BATCH: &[u8] = b"nBat";

/// Returns whether a file is of those that say which streams and consumers there are.
fn is_of_catalogue(path: &str) -> bool {
    path.contains("/meta/") || path.contains("/catalogue")
}

/// The faults of the disk that runs have, by their names in reports.
const DISK_FAULTS: &[(DiskFault, &str)] = &[
    (DiskFault::Slow, "disk-slow"),
    (DiskFault::Full, "disk-full"),
    (DiskFault::BadRead, "disk-bad-read"),
    (DiskFault::ReadError, "disk-read-error"),
    (DiskFault::WriteError, "disk-write-error"),
    (DiskFault::ShortWrite, "disk-short-write"),
    (DiskFault::SyncFailed, "disk-sync-failed"),
];

fn deeds(plan: &Plan, clients: u16, rng: &mut Rng) -> Vec<(SimTime, Deed)> {
    let mut deeds = Vec::new();
    let trouble = plan.trouble;
    let mut add = |on: bool, rng: &mut Rng, make: &dyn Fn(&mut Rng) -> Deed| {
        for _ in 0..if on { 1 + rng.below(3) } else { 0 } {
            let time = SimTime(plan.duration / 10 + rng.below(plan.duration * 8 / 10));
            deeds.push((time, make(rng)));
        }
    };
    add(trouble.kill, rng, &|rng| Deed::Kill(rng.below(2) as u32 * rng.below(200) as u32));
    add(trouble.power, rng, &|_| Deed::Power);
    add(trouble.pause, rng, &|rng| Deed::Pause(rng.below(SECOND)));
    add(trouble.pause, rng, &|rng| Deed::PauseShard(rng.below(4) as u16, rng.below(SECOND)));
    add(trouble.rot, rng, &|_| Deed::Rot);
    add(trouble.cut, rng, &|rng| Deed::Cut(rng.below(u64::from(clients)) as u16));
    deeds.sort_by_key(|(time, _)| *time);
    deeds
}

fn show(heard: &wire::Heard<'_>) -> String {
    match heard {
        wire::Heard::Message { subject, sid, reply, headers, payload } => {
            let text = |bytes: &[u8]| natrix_runtime_sim::trace::show_bytes(bytes, 200);
            format!("{} for {sid} reply {} {} {}", text(subject), text(reply), text(headers), text(payload))
        }
        wire::Heard::Info(_) => "INFO".to_owned(),
        heard => format!("{heard:?}"),
    }
}
