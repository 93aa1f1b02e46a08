//! A scripted client: sans-IO like the server, it is told what was read and says what to write.
//!
//! What it does next is up to its dice and its [`Workload`]; all that it does and hears, the
//! [`Oracle`] hears too.

mod hear;

pub use hear::Allowed;

use natrix_core::rng::Rng;
use natrix_runtime_sim::net::{End, HostId};
use natrix_runtime_sim::queue::{SECOND, SimTime};

use crate::oracle::{ConnInfo, HEADERS, Oracle};
use crate::payload;
use crate::universe::{NO_SUBJECT, QUEUES, Subject};
use crate::wire::push_decimal;

/// What clients do, as weights against each other and as chances of a thousand.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Weight of publishing a burst.
    pub publish: u32,
    /// Weight of subscribing.
    pub subscribe: u32,
    /// Weight of giving a subscription up.
    pub unsubscribe: u32,
    /// Weight of a PING.
    pub ping: u32,
    /// Weight of a request.
    pub request: u32,
    /// Weight of leaving, cleanly or not.
    pub leave: u32,
    /// Weight of saying nonsense.
    pub nonsense: u32,
    /// Most messages of a burst.
    pub burst: u32,
    /// Longest usual payload.
    pub payload: usize,
    /// Of a thousand payloads, how many are long.
    pub long: u32,
    /// Longest long payload.
    pub long_payload: usize,
    /// Of a thousand messages, how many have headers.
    pub headers: u32,
    /// Of a thousand subscriptions, how many are members of a queue group.
    pub queue: u32,
    /// Of a thousand subscriptions, how many have a maximum.
    pub max: u32,
    /// Of a thousand subscriptions, how many are followed by a PING at once.
    pub ping_after_sub: u32,
    /// Of a thousand requests heard, how many are answered.
    pub respond: u32,
    /// Most subscriptions of one connection.
    pub subscriptions: usize,
    /// Mean time between two actions, in nanoseconds.
    pub interval: u64,
}

impl Default for Workload {
    fn default() -> Self {
        Workload {
            publish: 60,
            subscribe: 12,
            unsubscribe: 5,
            ping: 8,
            request: 0,
            leave: 0,
            nonsense: 0,
            burst: 8,
            payload: 64,
            long: 0,
            long_payload: 0,
            headers: 0,
            queue: 0,
            max: 0,
            ping_after_sub: 700,
            respond: 900,
            subscriptions: 6,
            interval: 2_000_000,
        }
    }
}

/// What kind of client it is, for as long as it lives.
#[derive(Clone, Copy, Debug)]
pub struct Profile {
    /// Who it logs in as.
    pub user: u8,
    /// CONNECT's `echo`.
    pub echo: bool,
    /// CONNECT's `headers`.
    pub headers: bool,
    /// CONNECT's `no_responders`.
    pub no_responders: bool,
    /// CONNECT's `verbose`.
    pub verbose: bool,
    /// CONNECT's `pedantic`.
    pub pedantic: bool,
    /// Says a wrong password.
    pub wrong_password: bool,
    /// Reads so few bytes at a time, and only now and then; zero for a client that reads all at once.
    pub slow: usize,
    /// Subscribes to everything at first, and only listens.
    pub listener: bool,
}

/// How far a client's connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No connection.
    Away,
    /// Dialed.
    Dialing,
    /// Connected; INFO has not come.
    Greeting,
    /// CONNECT is sent.
    Open,
}

/// What a client wants of its world after an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Nothing but to have its bytes written.
    Write,
    /// To end the connection after what is written.
    Leave,
    /// To end the connection with a frame half written.
    LeaveMidFrame,
    /// To give up a server that is silent.
    GiveUp,
}

/// A client that waits so long for a PONG gives its connection up.
const PATIENCE: u64 = 20 * SECOND;
/// A client with so many bytes unwritten publishes no more.
const BACKLOG: usize = 32 << 10;

/// One client.
#[derive(Debug)]
pub struct Client {
    /// Its number.
    pub id: u16,
    /// Where it runs.
    pub host: HostId,
    /// The server that it goes to.
    pub server: u16,
    /// What kind it is.
    pub profile: Profile,
    /// How far its connection is.
    pub state: State,
    /// Its end of the connection.
    pub end: Option<End>,
    /// Its connection's number with the oracle, while open.
    pub conn: u32,
    /// Which life of the server it is connected to.
    pub epoch: u32,
    /// Counts connections, so that timers of an earlier one are known.
    pub life: u32,
    /// Gave the server a reason to close.
    pub guilty: bool,
    /// Read slowly at some time: its server may be about to close it for that.
    pub was_slow: bool,
    fresh_nonsense: bool,
    /// Stands still until then.
    pub paused_until: SimTime,
    /// Bytes to be written, and how many of them are.
    pub(crate) out: Vec<u8>,
    pub(crate) out_at: usize,
    partial: Vec<u8>,
    /// Sids of subscriptions that were not given up.
    open_sids: Vec<u32>,
    inbox_sid: u32,
    next_request: u16,
    /// When the PINGs that wait were sent.
    pings: std::collections::VecDeque<SimTime>,
    /// A PING sent since [`Client::verify`] was answered.
    pub verified: bool,
    verify_since: SimTime,
    /// Answers to be sent.
    answers: Vec<(Subject, bool)>,
    opened: SimTime,
    rng: Rng,
}

impl Client {
    /// Makes a client that is away.
    pub fn new(id: u16, host: HostId, server: u16, profile: Profile, rng: Rng) -> Self {
        Client {
            id,
            host,
            server,
            profile,
            state: State::Away,
            end: None,
            conn: u32::MAX,
            epoch: 0,
            life: 0,
            guilty: false,
            was_slow: profile.slow > 0,
            fresh_nonsense: false,
            paused_until: SimTime(0),
            out: Vec::with_capacity(4096),
            out_at: 0,
            partial: Vec::new(),
            open_sids: Vec::new(),
            inbox_sid: 0,
            next_request: 0,
            pings: std::collections::VecDeque::new(),
            verified: false,
            verify_since: SimTime(0),
            answers: Vec::new(),
            opened: SimTime(0),
            rng,
        }
    }

    /// Draws the time to the next action.
    pub fn draw_interval(&mut self, mean: u64) -> u64 {
        // Geometric enough: mostly short, sometimes three times as long.
        let dice = self.rng.next_u64();
        let (a, b) = (dice & 0xffff_ffff, dice >> 32);
        1 + ((a * mean) >> 32) + if b & 3 == 0 { (b * mean * 2) >> 32 } else { 0 }
    }

    /// Notes that a connection is under way.
    pub fn dialed(&mut self, time: SimTime, end: End) {
        (self.state, self.end, self.opened) = (State::Dialing, Some(end), time);
        self.life += 1;
        self.out.clear();
        self.out_at = 0;
        self.partial.clear();
        self.open_sids.clear();
        self.pings.clear();
        self.answers.clear();
        (self.inbox_sid, self.guilty) = (0, false);
    }

    /// Notes that the connection is gone.
    pub fn lost(&mut self, time: SimTime, oracle: &mut Oracle) {
        if self.state == State::Open {
            oracle.disconnect(time, self.conn);
        }
        (self.state, self.end) = (State::Away, None);
        self.life += 1;
    }

    /// Returns whether bytes wait to be written.
    pub fn has_output(&self) -> bool {
        self.out_at < self.out.len()
    }

    /// Returns whether a PING waits for its PONG.
    pub fn waits_for_pong(&self) -> bool {
        !self.pings.is_empty()
    }

    /// Says CONNECT, which it does as soon as INFO has come.
    fn connect(&mut self, time: SimTime, oracle: &mut Oracle) {
        let Profile { user, echo, headers, no_responders, verbose, pedantic, .. } = self.profile;
        let info = ConnInfo {
            client: self.id,
            server: self.server,
            epoch: self.epoch,
            user,
            echo,
            headers,
            no_responders,
        };
        self.conn = oracle.connect(info);
        self.state = State::Open;
        let login = oracle.universe.users.get(usize::from(user)).map_or(String::new(), |user| {
            let password = if self.profile.wrong_password { "wrong" } else { user.name };
            format!(",\"user\":\"{}\",\"pass\":\"{password}\"", user.name)
        });
        self.guilty = self.profile.wrong_password;
        self.out.extend_from_slice(
            format!(
                "CONNECT {{\"verbose\":{verbose},\"pedantic\":{pedantic},\"lang\":\"sim\",\"version\":\"1\",\
                 \"protocol\":1,\"echo\":{echo},\"headers\":{headers},\"no_responders\":{no_responders}{login}}}\r\n"
            )
            .as_bytes(),
        );
        self.ping(time, oracle);
        if self.profile.listener {
            for pattern in 0..oracle.universe.patterns() as u16 {
                self.subscribe_to(time, oracle, pattern, 0, 0);
            }
            self.ping(time, oracle);
        }
    }

    /// Does one thing.
    pub fn act(&mut self, time: SimTime, load: &Workload, oracle: &mut Oracle) -> Wish {
        match self.state {
            State::Away => return Wish::Write,
            State::Dialing | State::Greeting if time - self.opened > PATIENCE => return Wish::GiveUp,
            State::Dialing | State::Greeting => return Wish::Write,
            State::Open => {}
        }
        if self.pings.front().is_some_and(|sent| time - *sent > PATIENCE) && self.profile.slow == 0 {
            return Wish::GiveUp;
        }
        if self.guilty {
            return if self.rng.chance(1, 8) { Wish::Leave } else { Wish::Write };
        }
        if self.out.len() - self.out_at > BACKLOG {
            return Wish::Write;
        }
        let weights = [
            if self.profile.listener { 0 } else { load.publish },
            if self.open_sids.len() < load.subscriptions { load.subscribe } else { 0 },
            if self.open_sids.is_empty() { 0 } else { load.unsubscribe },
            load.ping,
            load.request,
            load.leave,
            load.nonsense,
        ];
        let mut pick = self.rng.below(u64::from(weights.iter().sum::<u32>())) as u32;
        let chosen = weights.iter().position(|weight| match pick.checked_sub(*weight) {
            None => true,
            Some(rest) => {
                pick = rest;
                false
            }
        });
        match chosen {
            Some(0) => self.publish_burst(time, load, oracle),
            Some(1) => self.subscribe(time, load, oracle),
            Some(2) => self.unsubscribe(time, oracle),
            Some(3) => self.ping(time, oracle),
            Some(4) => self.request(time, load, oracle),
            Some(5) => return if self.rng.chance(1, 2) { Wish::Leave } else { Wish::LeaveMidFrame },
            Some(6) => self.nonsense(),
            _ => {}
        }
        Wish::Write
    }

    /// Forgets that the connection was known to work.
    pub fn verify(&mut self, time: SimTime) {
        (self.verified, self.verify_since) = (false, time);
    }

    /// Does only what keeps a connection known to work.
    pub fn idle(&mut self, time: SimTime, oracle: &mut Oracle) -> Wish {
        match (self.state, self.pings.front()) {
            (State::Open, None) if !self.verified => self.ping(time, oracle),
            (State::Open, Some(sent)) if time - *sent > PATIENCE => return Wish::GiveUp,
            (State::Dialing | State::Greeting, _) if time - self.opened > PATIENCE => return Wish::GiveUp,
            _ => {}
        }
        Wish::Write
    }

    /// Sends a PING.
    pub fn ping(&mut self, time: SimTime, oracle: &mut Oracle) {
        oracle.ping(self.conn);
        self.pings.push_back(time);
        self.out.extend_from_slice(b"PING\r\n");
    }

    /// Publishes to every subject that its user may, after a subscription of its own, and asks for an answer: what
    /// must work when nothing is wrong any more.
    pub fn probe(&mut self, time: SimTime, oracle: &mut Oracle) {
        if !self.profile.listener {
            for index in 0..oracle.universe.subjects() as u32 {
                self.publish(time, oracle, Subject(index), NO_SUBJECT, 24, false);
            }
        }
        self.ping(time, oracle);
    }

    fn publish_burst(&mut self, time: SimTime, load: &Workload, oracle: &mut Oracle) {
        let subjects = oracle.universe.subjects() as u64;
        let same = Subject(self.rng.below(subjects) as u32);
        let mixed = self.rng.chance(1, 3);
        for _ in 0..=self.rng.below(u64::from(load.burst)) {
            let subject = if mixed { Subject(self.rng.below(subjects) as u32) } else { same };
            let length = self.draw_length(load);
            let headers = self.draw_headers(load);
            self.publish(time, oracle, subject, NO_SUBJECT, length, headers);
        }
    }

    fn draw_length(&mut self, load: &Workload) -> usize {
        let dice = self.rng.next_u64();
        let long = load.long > 0 && dice % 1000 < u64::from(load.long);
        let most = if long { load.long_payload } else { load.payload };
        payload::HEAD + (((dice >> 32) * (most - payload::HEAD + 1) as u64) >> 32) as usize
    }

    fn draw_headers(&mut self, load: &Workload) -> bool {
        self.profile.headers && load.headers > 0 && self.rng.chance(u64::from(load.headers), 1000)
    }

    fn publish(
        &mut self,
        time: SimTime,
        oracle: &mut Oracle,
        subject: Subject,
        reply: Subject,
        length: usize,
        headers: bool,
    ) {
        let origin = oracle.publish(time, self.conn, subject, reply, headers);
        let out = &mut self.out;
        out.extend_from_slice(if headers { b"HPUB " } else { b"PUB " });
        oracle.universe.write_subject(subject, out);
        out.push(b' ');
        if reply != NO_SUBJECT {
            oracle.universe.write_subject(reply, out);
            out.push(b' ');
        }
        if headers {
            push_decimal(out, HEADERS.len() as u64);
            out.push(b' ');
            push_decimal(out, (HEADERS.len() + length) as u64);
            out.extend_from_slice(b"\r\n");
            out.extend_from_slice(HEADERS);
        } else {
            push_decimal(out, length as u64);
            out.extend_from_slice(b"\r\n");
        }
        payload::write(origin, length, out);
        out.extend_from_slice(b"\r\n");
    }

    fn subscribe(&mut self, time: SimTime, load: &Workload, oracle: &mut Oracle) {
        let queue = if self.rng.chance(u64::from(load.queue), 1000) {
            1 + self.rng.below(QUEUES.len() as u64 - 1) as u8
        } else {
            0
        };
        let pattern = self.rng.below(oracle.universe.patterns() as u64) as u16;
        let max = if self.rng.chance(u64::from(load.max), 1000) { 1 + self.rng.below(6) as u32 } else { 0 };
        self.subscribe_to(time, oracle, pattern, queue, max);
        if self.rng.chance(u64::from(load.ping_after_sub), 1000) {
            self.ping(time, oracle);
        }
    }

    fn subscribe_to(&mut self, time: SimTime, oracle: &mut Oracle, pattern: u16, queue: u8, max: u32) -> u32 {
        let sid = oracle.subscribe(time, self.conn, pattern, queue, max);
        let out = &mut self.out;
        out.extend_from_slice(b"SUB ");
        oracle.universe.write_pattern(pattern, out);
        out.push(b' ');
        if queue > 0 {
            out.extend_from_slice(QUEUES[usize::from(queue)].as_bytes());
            out.push(b' ');
        }
        push_decimal(out, u64::from(sid));
        out.extend_from_slice(b"\r\n");
        if max > 0 {
            out.extend_from_slice(b"UNSUB ");
            push_decimal(out, u64::from(sid));
            out.push(b' ');
            push_decimal(out, u64::from(max));
            out.extend_from_slice(b"\r\n");
        }
        if usize::from(pattern) < oracle.universe.patterns() {
            self.open_sids.push(sid);
        }
        sid
    }

    fn unsubscribe(&mut self, time: SimTime, oracle: &mut Oracle) {
        let index = self.rng.below(self.open_sids.len() as u64) as usize;
        let sid = self.open_sids.swap_remove(index);
        if oracle.unsubscribe(time, self.conn, sid) {
            self.out.extend_from_slice(b"UNSUB ");
            push_decimal(&mut self.out, u64::from(sid));
            self.out.extend_from_slice(b"\r\n");
            if self.rng.chance(1, 2) {
                self.ping(time, oracle);
            }
        }
    }

    /// Asks something: the subscription for the answers may be made in the same breath.
    fn request(&mut self, time: SimTime, load: &Workload, oracle: &mut Oracle) {
        if self.inbox_sid != 0 && self.rng.chance(1, 2) {
            // A new subscription for every request, as old clients have it: its interest must not be late.
            if oracle.unsubscribe(time, self.conn, self.inbox_sid) {
                self.out.extend_from_slice(b"UNSUB ");
                push_decimal(&mut self.out, u64::from(self.inbox_sid));
                self.out.extend_from_slice(b"\r\n");
            }
            self.inbox_sid = 0;
        }
        if self.inbox_sid == 0 {
            let pattern = oracle.universe.patterns() as u16 + self.id;
            self.inbox_sid = self.subscribe_to(time, oracle, pattern, 0, 0);
        }
        self.next_request = self.next_request.wrapping_add(1);
        let subject = Subject(self.rng.below(oracle.universe.subjects() as u64) as u32);
        let reply = Subject::inbox(self.id, self.next_request);
        let length = self.draw_length(load);
        self.publish(time, oracle, subject, reply, length, false);
    }

    /// Answers what it was asked since the last time.
    pub fn answer(&mut self, time: SimTime, load: &Workload, oracle: &mut Oracle) {
        while let Some((subject, headers)) = self.answers.pop() {
            if self.state == State::Open && !self.guilty && self.out.len() - self.out_at < BACKLOG {
                let length = self.draw_length(load);
                self.publish(time, oracle, subject, NO_SUBJECT, length, headers && self.profile.headers);
            }
        }
    }

    /// Returns whether it has said something that no client says since this was last asked.
    pub fn said_nonsense(&mut self) -> bool {
        std::mem::take(&mut self.fresh_nonsense)
    }

    /// Says something that no client says.
    fn nonsense(&mut self) {
        (self.guilty, self.fresh_nonsense) = (true, true);
        let kinds: [&[u8]; 12] = [
            b"PUB\r\n",
            b"PUB a.b -1\r\n",
            b"PUB a.b 99999999999999999999\r\n",
            b"SUB a..b 99999\r\nPING\r\n",
            b"SUB\r\n",
            b"HPUB a 10 5\r\nhello\r\n",
            b"UNSUB\r\n",
            b"\0\0\0\r\n",
            b"MSG a 1 1\r\nx\r\n",
            b"CONNECT {\"verbose\": \r\n",
            b"PUB a.b 5\r\nhelloXX",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ];
        match self.rng.below(kinds.len() as u64 + 3) as usize {
            0 => {
                let mut noise = [0; 200];
                self.rng.fill(&mut noise);
                self.out.extend_from_slice(&noise);
                self.out.extend_from_slice(b"\r\n");
            }
            1 => {
                self.out.extend_from_slice(b"SUB ");
                self.out.resize(self.out.len() + 70_000, b'x');
            }
            2 => {
                // A payload longer than any server takes, promised and begun.
                self.out.extend_from_slice(b"PUB a.b 900000000\r\n");
                self.out.resize(self.out.len() + 3000, b'y');
            }
            kind => self.out.extend_from_slice(kinds[kind - 3]),
        }
    }
}
