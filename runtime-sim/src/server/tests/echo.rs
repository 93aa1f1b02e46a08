//! A toy in the shard's place, and a world with one server of them: it echoes what it reads, and tells every other
//! shard how much that was.

use std::collections::{BTreeMap, VecDeque};

use bytes::Buf;
use natrix_core::ids::{ConnId, ShardId};
use natrix_core::rng::Rng;
use natrix_core::shard::io::{Input, Listener, Output};
use natrix_core::shard::mailbox::ShardMessage;
use natrix_core::time::{Instant, Now};

use crate::machine::Machine;
use crate::net::{End, HostId, LinkShape, NetEvent, Network, Notice, Read, StreamShape};
use crate::queue::{EventQueue, MILLISECOND, Schedule, SimTime};
use crate::server::{Env, Pace, Server, ServerEvent, owner_server};
use crate::trace::Trace;

/// A read that ends with this byte is answered and closes the connection.
pub(super) const QUIT: u8 = 255;
/// The host that clients are on.
pub(super) const CLIENT: HostId = HostId(1);
/// The host that the server is on.
pub(super) const SERVER: HostId = HostId(0);

/// What a toy does that no shard may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misdeed {
    /// It asks to be called again at once, for ever.
    Spins,
    /// It closes a connection twice.
    ClosesTwice,
}

#[derive(Debug)]
pub(super) struct Echo {
    me: u16,
    shards: u16,
    target: Vec<u8>,
    outputs: VecDeque<Output>,
    /// The echoes that no socket has taken yet, of all open connections.
    pub(super) waiting: BTreeMap<ConnId, Vec<u8>>,
    /// Bytes that each other shard told of, in numbers of shards; the shard's own are those it has read.
    pub(super) told: Vec<usize>,
    /// Messages from other shards.
    pub(super) heard: usize,
    /// What it knew when it read something: who told it of how much.
    pub(super) known: Vec<Vec<usize>>,
    /// Passes on what shard 0 tells, to the last shard.
    pub(super) relays: bool,
    pub(super) misdeed: Option<Misdeed>,
    timeout: Option<Instant>,
    pub(super) ticks: u32,
}

impl Echo {
    pub(super) fn new(me: u16, shards: u16) -> Echo {
        let mut outputs = VecDeque::new();
        if me == 0 {
            outputs.push_back(Output::Listen { listener: Listener::Client, host: String::new(), port: 4222 });
        }
        Echo {
            me,
            shards,
            target: vec![0; 700],
            outputs,
            waiting: BTreeMap::new(),
            told: vec![0; usize::from(shards)],
            heard: 0,
            known: Vec::new(),
            relays: false,
            misdeed: None,
            timeout: Some(Instant::from_nanos(MILLISECOND)),
            ticks: 0,
        }
    }

    fn tell(&mut self, target: u16, bytes: usize) {
        let message = ShardMessage::Credit { from: ShardId(self.me), bytes };
        self.outputs.push_back(Output::ToShard(ShardId(target), message));
    }

    fn received(&mut self, conn: ConnId, n: usize) {
        self.told[usize::from(self.me)] += n;
        self.known.push(self.told.clone());
        let waiting = self.waiting.get_mut(&conn).expect("open");
        waiting.extend(&self.target[..n]);
        let quits = n == 0 || self.target[n - 1] == QUIT;
        // The flush comes first among the outputs, and must be done last all the same.
        self.outputs.push_back(match quits {
            true => Output::Close { conn, last_bytes: self.waiting.remove(&conn).expect("open") },
            false => Output::Flush { conn },
        });
        if quits && self.misdeed == Some(Misdeed::ClosesTwice) {
            self.outputs.push_back(Output::Close { conn, last_bytes: Vec::new() });
        }
        // The last shard first: whoever relays to it must come too late.
        for other in (0..self.shards).rev() {
            if other != self.me && n > 0 {
                self.tell(other, n);
            }
        }
    }
}

impl Machine for Echo {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Accepted { conn, .. } => {
                assert!(self.waiting.insert(conn, Vec::new()).is_none(), "a name that is taken");
            }
            Input::Received { conn, n } => self.received(conn, n),
            Input::Written { conn, n } => {
                self.waiting.get_mut(&conn).expect("open").drain(..n);
            }
            Input::Closed { conn, .. } => {
                self.waiting.remove(&conn).expect("open");
            }
            Input::FromShard(ShardMessage::Credit { from, bytes }) => {
                self.heard += 1;
                self.told[from.index()] += bytes;
                if self.relays && from.index() == 0 && self.me + 1 < self.shards {
                    self.tell(self.shards - 1, bytes);
                }
            }
            Input::Tick => {
                assert!(self.timeout.take().is_some_and(|due| due <= now.instant), "a tick before its time");
                self.ticks += 1;
                self.timeout = (self.misdeed == Some(Misdeed::Spins)).then_some(now.instant);
            }
            _ => {}
        }
    }

    fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timeout
    }

    fn read_target(&mut self, _: ConnId) -> &mut [u8] {
        &mut self.target
    }

    fn outbound(&self, conn: ConnId) -> impl Buf {
        self.waiting.get(&conn).map_or(&[][..], |waiting| waiting.as_slice())
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    Net(NetEvent),
    Server(ServerEvent),
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

pub(super) struct World {
    pub(super) queue: EventQueue<Event>,
    pub(super) net: Network,
    pub(super) trace: Trace,
    pub(super) server: Server<Echo>,
    /// What the network said to those who are no servers.
    pub(super) heard: Vec<Notice>,
}

impl World {
    pub(super) fn new(seed: u64, shards: u16, pace: Pace, shape: StreamShape) -> World {
        let mut rng = Rng::from_u64(seed);
        let queue = EventQueue::new(&mut rng);
        let net = Network::new(2, LinkShape::default(), shape, rng.child());
        let mut server = Server::new(0, SERVER, rng.child());
        server.pace = pace;
        let mut world = World { queue, net, trace: Trace::new(false), server, heard: Vec::new() };
        world.start(shards);
        world
    }

    /// A world in which nothing is out of the ordinary.
    pub(super) fn plain(seed: u64, shards: u16) -> World {
        World::new(seed, shards, Pace::default(), StreamShape::default())
    }

    pub(super) fn start(&mut self, shards: u16) {
        self.with_env(|server, env| server.start(env, (0..shards).map(|me| Echo::new(me, shards))));
    }

    pub(super) fn with_env(&mut self, act: impl FnOnce(&mut Server<Echo>, &mut Env<'_, EventQueue<Event>>)) {
        let (queue, net, trace) = (&mut self.queue, &mut self.net, &mut self.trace);
        act(&mut self.server, &mut Env { queue, net, trace });
    }

    pub(super) fn now(&self) -> SimTime {
        Schedule::<NetEvent>::now(&self.queue)
    }

    /// Does the next thing; false if there is none.
    pub(super) fn step(&mut self) -> bool {
        match self.queue.pop() {
            None => return false,
            Some(Event::Net(event)) => self.net.handle(&mut self.queue, event),
            Some(Event::Server(event)) => self.with_env(|server, env| server.handle(env, event)),
        }
        while let Some(notice) = self.net.poll_notice() {
            match notice {
                Notice::Accepted { .. } => self.with_env(|server, env| server.notice(env, notice)),
                Notice::Readable(_, owner) | Notice::Writable(_, owner) | Notice::Broken(_, owner)
                    if owner_server(owner).is_some() =>
                {
                    self.with_env(|server, env| server.notice(env, notice));
                }
                other => self.heard.push(other),
            }
        }
        true
    }

    /// Goes on until nothing is left to do.
    pub(super) fn rest(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    pub(super) fn dial(&mut self) -> End {
        let end = self.net.dial(&mut self.queue, CLIENT, SERVER, 1);
        while !self.heard.contains(&Notice::Connected(end, 1)) {
            assert!(self.step(), "nobody answers");
        }
        end
    }

    /// Dials until every shard has a connection, and returns one of each.
    pub(super) fn dial_all_shards(&mut self) -> Vec<End> {
        let mut ends = vec![None; self.server.shards()];
        while ends.contains(&None) {
            let before: Vec<usize> = self.server.machines().map(|machine| machine.waiting.len()).collect();
            let end = self.dial();
            self.rest();
            let mut now = self.server.machines().map(|machine| machine.waiting.len()).zip(before);
            ends[now.position(|(now, before)| now > before).expect("it was accepted")] = Some(end);
        }
        ends.into_iter().flatten().collect()
    }

    /// Reads what a client has been sent.
    pub(super) fn read(&mut self, end: End) -> Vec<u8> {
        let (mut all, mut block) = (Vec::new(), [0; 999]);
        while let Read::Bytes(n) = self.net.read(&mut self.queue, end, &mut block) {
            all.extend_from_slice(&block[..n]);
        }
        all
    }

    /// Sends bytes and returns what comes back.
    pub(super) fn echo(&mut self, end: End, bytes: &[u8]) -> Vec<u8> {
        let (mut sent, mut back) = (0, Vec::new());
        while back.len() < bytes.len() {
            sent += self.net.write(&mut self.queue, end, &bytes[sent..]);
            assert!(self.step(), "{} of {} bytes came back", back.len(), bytes.len());
            back.extend(self.read(end));
        }
        back
    }
}

/// Threads that are preempted, and sockets that take and give little at a time.
pub(super) fn narrow() -> (Pace, StreamShape) {
    let pace =
        Pace { read_limit: 50, write_limit: 30, preempt_one_in: 9, preempt: MILLISECOND, ..Pace::default() };
    (pace, StreamShape { capacity: (100, 900), segment: 60, ..StreamShape::default() })
}
