//! One server process: several shards, each a thread of its own, as far as the outside can tell.
//!
//! A shard's thread does one thing per [`ServerEvent`]: it hands over one input, pushes one message, or writes one
//! socket. What it does next, when there is a choice, is up to the seed; what it must do is up to the two rules of
//! `natrix_core::shard::io`, and they are all there is:
//!
//! 1. *pushes precede flushes*: the outputs of a `handle` are carried out in order, one push at a time, with other
//!    shards running in between, and nothing else is done before the last of them;
//! 2. *bytes wait for the inbox*: between reading bytes and handing them over, everything that lay in the inbox
//!    when they were read is handed over.
//!
//! The two are also where planted bugs of the runtime live (`natrix_core::planted`).

mod carry;
mod conns;
mod step;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use natrix_core::disk::Token;
use natrix_core::ids::{ConnId, ShardId};
use natrix_core::monitoring::ControlRequest;
use natrix_core::rng::Rng;
use natrix_core::shard::io::{Input, Output, WorkDone, disk_shard};

use conns::Conns;

use crate::clock::NodeClock;
use crate::disk::SimDisk;
use crate::fault::Fault;
use crate::inbox::Inbox;
use crate::machine::Machine;
use crate::net::{End, HostId, NetEvent, Network, Notice};
use crate::queue::{EventQueue, MICROSECOND, SECOND, Schedule, SimTime, Timer};
use crate::trace::Trace;

/// Lets one shard of one server take its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerEvent {
    /// Which server.
    pub server: u16,
    /// Which of its shards.
    pub shard: u16,
}

impl ServerEvent {
    /// Returns the event as numbers, for traces.
    pub fn numbers(self) -> (u8, u64) {
        (3, u64::from(self.server) << 48 | u64::from(self.shard) << 32)
    }
}

/// The parts of a world that a server needs while it takes a step.
#[derive(Debug)]
pub struct Env<'a, Q> {
    /// What happens when.
    pub queue: &'a mut Q,
    /// The network.
    pub net: &'a mut Network,
    /// The record.
    pub trace: &'a mut Trace,
}

/// Asked of the queue: it takes the network's events, wakes shards, and can skip itself.
pub trait ServerQueue: Schedule<NetEvent> {
    /// Makes a timer for a shard's steps.
    fn timer(&mut self, event: ServerEvent) -> Timer;

    /// Lets a shard take its next step at `time`, whatever was said before.
    fn set(&mut self, timer: Timer, time: SimTime);

    /// Lets a shard take no step.
    fn unset(&mut self, timer: Timer);

    /// Moves the time to `time` if nothing is due before it.
    fn advance_if_idle(&mut self, time: SimTime) -> bool;
}

impl<E: Copy + From<NetEvent> + From<ServerEvent>> ServerQueue for EventQueue<E> {
    fn timer(&mut self, event: ServerEvent) -> Timer {
        EventQueue::timer(self, event.into())
    }

    fn set(&mut self, timer: Timer, time: SimTime) {
        EventQueue::set(self, timer, time);
    }

    fn unset(&mut self, timer: Timer) {
        EventQueue::unset(self, timer);
    }

    fn advance_if_idle(&mut self, time: SimTime) -> bool {
        EventQueue::advance_if_idle(self, time)
    }
}

impl<Q: ServerQueue> Env<'_, Q> {
    fn now(&self) -> SimTime {
        self.queue.now()
    }
}

/// How a server's threads behave.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Shortest time of a step, in nanoseconds.
    pub step: u64,
    /// Most time that a step may take longer.
    pub step_jitter: u64,
    /// A thread is preempted after one in so many steps; zero for never.
    pub preempt_one_in: u64,
    /// Most time that it stays so.
    pub preempt: u64,
    /// Most time from a push to the waking of an idle target.
    pub wake: u64,
    /// A read takes at most so many bytes; zero for no limit but the target's.
    pub read_limit: usize,
    /// A write takes at most so many bytes; zero for no limit but the socket's.
    pub write_limit: usize,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            step: 300,
            step_jitter: 2 * MICROSECOND,
            preempt_one_in: 0,
            preempt: 0,
            wake: 10 * MICROSECOND,
            read_limit: 0,
            write_limit: 0,
        }
    }
}

/// What a server must not do, whatever happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes that may wait for one connection.
    pub pending: usize,
    /// Messages that may wait in one inbox.
    pub inbox: usize,
    /// Outputs of one `handle`.
    pub outputs: usize,
    /// Units of work in one `handle`, as `natrix_core::planted::work` counts them.
    pub work: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { pending: usize::MAX, inbox: 20_000, outputs: 20_000, work: 100_000 }
    }
}

/// Something that a server did and must not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alarm {
    /// More bytes wait for a connection than may.
    Pending {
        /// Where.
        shard: ShardId,
        /// For whom.
        conn: ConnId,
        /// How many.
        bytes: usize,
    },
    /// An inbox holds more than it may.
    Inbox {
        /// Whose.
        shard: ShardId,
        /// How many messages.
        messages: usize,
    },
    /// One `handle` did too much.
    Work {
        /// Where.
        shard: ShardId,
        /// Outputs it gave.
        outputs: usize,
        /// Units of work it did.
        work: u64,
    },
    /// A shard asks to be called again at once, for ever, with nothing else to do.
    Spin {
        /// Which.
        shard: ShardId,
    },
    /// An output named a connection that there isn't.
    UnknownConn {
        /// Where.
        shard: ShardId,
        /// Who.
        conn: ConnId,
    },
}

/// How a process ends that nobody asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process dies; its kernel resets the streams.
    Process,
    /// The machine dies; nobody is told.
    Power,
}

/// One server.
#[derive(Debug)]
pub struct Server<M> {
    id: u16,
    host: HostId,
    epoch: u32,
    up: bool,
    shards: Vec<Cell<M>>,
    /// What wakes each of its shards, in this life and the next.
    timers: Vec<Timer>,
    /// The shards' folder, which outlives the process.
    pub disk: Option<SimDisk>,
    rng: Rng,
    /// What time it believes to be.
    pub clock: NodeClock,
    /// How its threads behave.
    pub pace: Pace,
    /// What it must keep to.
    pub bounds: Bounds,
    /// What it did all the same.
    pub alarms: Vec<Alarm>,
    /// Calls of `handle` with an input, ticks not counted.
    pub handled: u64,
    /// Calls of `handle` with a tick.
    pub ticks: u64,
    /// Connections that the server ended by itself.
    pub closes: u64,
    /// What its shards said to each other and asked for: see [`seen`].
    pub seen: u32,
    /// The process dies when so many more outputs have been carried out.
    crash_after: Option<u32>,
    crashed: bool,
    stopped: u16,
    /// How often it said that it can't go on, and ended.
    pub failures: u32,
    /// How often it asked for a restart in its log, as it can't use the files of a stream any more.
    pub restarts_asked: u32,
    /// The folders of which it said that all that is stored in them is encrypted.
    pub encrypted: Vec<String>,
    /// The folders of which it said that not all in them is.
    pub unencrypted: Vec<String>,
    /// The consumers of which it said that not all they had is known.
    pub uncertain: Vec<String>,
}

/// A shard and the thread that runs it.
#[derive(Debug)]
struct Cell<M> {
    machine: M,
    inbox: Inbox,
    conns: Conns,
    /// Outputs that wait behind a push.
    outgoing: VecDeque<Output>,
    /// Bytes that were read and not yet handed over, and how much of the inbox goes first.
    reading: Option<(ConnId, usize, usize)>,
    /// Inputs that come from nowhere in particular: accepted connections, listeners, control.
    arrivals: VecDeque<Input>,
    work: VecDeque<WorkDone>,
    next_step: SimTime,
    paused_until: SimTime,
    /// When it last got a tick, and how many in a row it got with nothing else in between.
    ticked: SimTime,
    spins: u32,
}

/// Set in the owners of ends that belong to a server.
const SERVER_BIT: u64 = 1 << 63;

/// Returns the server that an owner names, if it is one.
pub fn owner_server(owner: u64) -> Option<u16> {
    (owner & SERVER_BIT != 0).then_some((owner >> 48 & 0x7fff) as u16)
}

/// The bits of [`Server::seen`].
pub mod seen {
    /// A `Deliver` was handed over.
    pub const DELIVER: u32 = 1 << 5;
    /// A `Stall` was handed over.
    pub const STALL: u32 = 1 << 7;
    /// A `Bounced` was handed over.
    pub const BOUNCED: u32 = 1 << 8;
    /// An `Unreached` was handed over.
    pub const UNREACHED: u32 = 1 << 9;
    /// The log told of a slow consumer.
    pub const SLOW: u32 = 1 << 30;
    /// A connection was to be read no more for now.
    pub const PAUSED: u32 = 1 << 31;
}

enum Action {
    Inbox,
    Read,
    Arrival,
    Flush,
    Broken,
    Work,
    Disk,
    Tick,
}

impl<M: Machine> Server<M> {
    /// Makes a server that isn't running.
    pub fn new(id: u16, host: HostId, rng: Rng) -> Self {
        Server {
            id,
            host,
            epoch: 0,
            up: false,
            shards: Vec::new(),
            timers: Vec::new(),
            disk: None,
            rng,
            clock: NodeClock::started(SimTime(0), 0, 0),
            pace: Pace::default(),
            bounds: Bounds::default(),
            alarms: Vec::new(),
            handled: 0,
            ticks: 0,
            closes: 0,
            seen: 0,
            crash_after: None,
            crashed: false,
            stopped: 0,
            failures: 0,
            restarts_asked: 0,
            encrypted: Vec::new(),
            unencrypted: Vec::new(),
            uncertain: Vec::new(),
        }
    }

    /// Starts the process with fresh shards; `self.clock` is to be set by then.
    pub fn start<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, machines: impl IntoIterator<Item = M>) {
        debug_assert!(!self.up);
        self.epoch += 1;
        (self.up, self.crashed, self.crash_after, self.stopped) = (true, false, None, 0);
        self.shards = machines.into_iter().map(Cell::new).collect();
        for shard in self.timers.len()..self.shards.len() {
            let event = ServerEvent { server: self.id, shard: shard as u16 };
            self.timers.push(env.queue.timer(event));
        }
        env.net.set_up(self.host, true);
        for shard in 0..self.shards.len() {
            self.drain(env, shard);
            let now = env.now();
            self.wake(env, shard, now);
        }
    }

    /// Returns whether the process is running.
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// Returns the host it runs on.
    pub fn host(&self) -> HostId {
        self.host
    }

    /// Returns how often it was started.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Returns its shards, to be looked into.
    pub fn machines(&self) -> impl Iterator<Item = &M> {
        self.shards.iter().map(|cell| &cell.machine)
    }

    /// Returns the number of its shards.
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// Returns how many connections it has open, as far as it knows.
    pub fn open_connections(&self) -> usize {
        self.shards.iter().map(|cell| cell.conns.open()).sum()
    }

    /// Returns whether every shard has said that it wants no more.
    pub fn has_stopped(&self) -> bool {
        self.up && usize::from(self.stopped) == self.shards.len()
    }

    /// Returns whether [`Server::crash_after`] has come true; the world then calls [`Server::crash`].
    pub fn wants_crash(&self) -> bool {
        self.crashed
    }

    /// Lets the process die when `outputs` more outputs have been carried out, wherever that is.
    pub fn crash_after(&mut self, outputs: u32) {
        self.crash_after = Some(outputs);
    }

    /// Ends the process. What its shards knew is gone.
    pub fn crash<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, how: Crash) {
        if !self.up {
            return;
        }
        let between = self.crashed || self.shards.iter().any(|cell| !cell.outgoing.is_empty());
        env.net.counters.hit(match how {
            Crash::Power => Fault::PowerLoss,
            Crash::Process if between => Fault::CrashAtOutput,
            Crash::Process => Fault::CrashIdle,
        });
        self.up = false;
        env.net.set_listening(self.host, false);
        for cell in &mut self.shards {
            for end in cell.conns.ends() {
                match how {
                    Crash::Process => env.net.reset(env.queue, end),
                    Crash::Power => env.net.vanish(end),
                }
            }
        }
        if let Some(disk) = &mut self.disk {
            match how {
                Crash::Process => disk.crash(),
                Crash::Power => disk.power_loss(),
            }
        }
        if how == Crash::Power {
            env.net.set_up(self.host, false);
        }
        for timer in &self.timers {
            env.queue.unset(*timer);
        }
        self.shards.clear();
    }

    /// Stops every thread of the process until `until`.
    pub fn pause(&mut self, until: SimTime) {
        for cell in &mut self.shards {
            cell.paused_until = cell.paused_until.max(until);
        }
    }

    /// Stops one thread of the process until `until`.
    pub fn pause_shard(&mut self, shard: usize, until: SimTime) {
        if let Some(cell) = self.shards.get_mut(shard) {
            cell.paused_until = cell.paused_until.max(until);
        }
    }

    /// Asks something of one shard.
    pub fn control<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize, request: ControlRequest) {
        if let Some(cell) = self.shards.get_mut(shard) {
            cell.arrivals.push_back(Input::Control { id: 0, request });
            let now = env.now();
            self.wake(env, shard, now);
        }
    }

    /// Hears what the network has to say about an end of this server, or about its listener.
    pub fn notice<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, notice: Notice) {
        match notice {
            Notice::Accepted { end, peer, .. } => self.accept(env, end, peer),
            Notice::Readable(end, owner) => self.mark(env, end, owner, Conns::mark_readable),
            Notice::Writable(end, owner) => self.mark(env, end, owner, Conns::mark_writable),
            Notice::Broken(end, owner) => self.mark(env, end, owner, Conns::mark_broken),
            Notice::Connected(..) | Notice::Refused(..) => {}
        }
    }

    fn mark<Q: ServerQueue>(
        &mut self,
        env: &mut Env<'_, Q>,
        end: End,
        owner: u64,
        mark: fn(&mut Conns, usize, End) -> bool,
    ) {
        let (shard, slot) = ((owner >> 32 & 0xffff) as usize, (owner & 0xffff_ffff) as usize);
        if self.up && self.shards.get_mut(shard).is_some_and(|cell| mark(&mut cell.conns, slot, end)) {
            let now = env.now();
            self.wake(env, shard, now);
        }
    }

    fn accept<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, end: End, peer: HostId) {
        if !self.up {
            env.net.reset(env.queue, end);
            return;
        }
        // By load, but for a quarter that go anywhere: load is known too late in a real server, too.
        let shard = if self.rng.chance(1, 4) {
            self.rng.below(self.shards.len() as u64) as usize
        } else {
            (0..self.shards.len()).min_by_key(|shard| self.shards[*shard].conns.open()).unwrap_or(0)
        };
        let cell = &mut self.shards[shard];
        let conn = cell.conns.open_slot(end);
        let owner = SERVER_BIT | u64::from(self.id) << 48 | (shard as u64) << 32 | u64::from(conn.slot);
        if !env.net.set_owner(end, owner) {
            // Reset before anybody knew: the accepted socket is broken from the start.
            cell.conns.mark_broken(conn.slot as usize, end);
        }
        cell.arrivals.push_back(carry::accepted(conn, peer, self.host));
        let now = env.now();
        self.wake(env, shard, now);
    }

    /// Returns when a shard's disk next has something to say.
    fn disk_due(&self, shard: usize) -> SimTime {
        let own = self.tokens_of(shard);
        let due = self.disk.as_ref().and_then(|disk| disk.poll_timeout_of(own));
        due.map_or(SimTime::MAX, |due| SimTime(due.as_nanos()))
    }

    /// Tells of a disk request whether a shard made it.
    fn tokens_of(&self, shard: usize) -> impl Fn(Token) -> bool + use<M> {
        let shards = self.shards.len() as u16;
        move |token| disk_shard(token, shards).index() == shard
    }

    /// Makes sure that a shard takes a step at `time` or before.
    fn wake<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, shard: usize, time: SimTime) {
        let cell = &mut self.shards[shard];
        let time = time.max(cell.paused_until);
        if time < cell.next_step {
            cell.next_step = time;
            env.queue.set(self.timers[shard], time);
        }
    }

    /// Takes the step that a shard was woken for, and further ones while nothing else is due.
    pub fn handle<Q: ServerQueue>(&mut self, env: &mut Env<'_, Q>, event: ServerEvent) {
        let shard = usize::from(event.shard);
        let now = env.now();
        debug_assert!(self.up && event.server == self.id && now >= self.shards[shard].next_step);
        self.shards[shard].next_step = SimTime::MAX;
        if now < self.shards[shard].paused_until {
            return self.wake(env, shard, now);
        }
        for _ in 0..32 {
            let took = self.step(env, shard);
            if self.crashed || !self.alarms.is_empty() {
                return;
            }
            if !took {
                let due = self.shards[shard].machine.poll_timeout();
                let mut next = due.map_or(SimTime::MAX, |due| self.clock.when(due));
                next = next.min(self.shards[shard].conns.closing_deadline()).min(self.disk_due(shard));
                if next < SimTime::MAX {
                    let earliest = env.now() + 1;
                    self.wake(env, shard, next.max(earliest));
                }
                return;
            }
            let mut next = env.now() + self.pace.step + self.rng.below(self.pace.step_jitter + 1);
            if self.pace.preempt_one_in > 0 && self.rng.chance(1, self.pace.preempt_one_in) {
                env.net.counters.hit(Fault::Preempted);
                next += self.rng.below(self.pace.preempt);
            }
            if !env.queue.advance_if_idle(next) {
                return self.wake(env, shard, next);
            }
        }
        let now = env.now();
        self.wake(env, shard, now);
    }
}

impl<M> Cell<M> {
    fn new(machine: M) -> Self {
        Cell {
            machine,
            inbox: Inbox::default(),
            conns: Conns::default(),
            outgoing: VecDeque::new(),
            reading: None,
            arrivals: VecDeque::new(),
            work: VecDeque::new(),
            next_step: SimTime::MAX,
            paused_until: SimTime(0),
            ticked: SimTime(0),
            spins: 0,
        }
    }
}

/// So many ticks in a row, hardly any time apart and with nothing else in between, are a busy loop.
const SPINS_MAX: u32 = 5000;

/// How long a runtime tries to write a connection's last bytes.
pub(crate) const CLOSE_FLUSH_LIMIT: u64 = SECOND;
