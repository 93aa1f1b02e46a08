//! What every client did and saw, and whether a server may have done that.
//!
//! The oracle hears of each operation when it is sent and of each message when it is read, in virtual time, and
//! checks at once what can be checked at once; [`Oracle::finish`] checks what only silence can violate. Its notion
//! of an obligation:
//!
//! - a subscription is *established* once a PING behind it is answered, or once anybody has read a message that
//!   its connection published behind it (the rule of `natrix_core::shard::io`);
//! - a publish that is sent when a matching subscription of the same account on the same server is established
//!   must reach it, unless a connection ends first;
//! - streams keep their order, so a message missing *before* one that came is a violation at that moment.
//!
//! Invariant: connections, publishes of a connection and subscriptions are numbered densely and never renumbered;
//! a subscription's `sid` is one more than its place among those of its connection.

mod finish;
mod records;

use std::sync::Arc;

use natrix_runtime_sim::queue::SimTime;
use natrix_runtime_sim::trace::show_bytes;

pub use records::{ConnRecord, PublishRecord, SubRecord};

use crate::marks::{Mark, Marks};
use crate::payload;
use crate::universe::{NO_SUBJECT, QUEUES, Subject, Universe};

macro_rules! checkers {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// The rule that was broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Checker {
            $($(#[$doc])* $name,)*
        }

        impl Checker {
            /// All rules.
            pub const ALL: &[Checker] = &[$(Checker::$name,)*];

            /// Returns the rule's name in reports.
            pub fn name(self) -> &'static str {
                match self {
                    $(Checker::$name => $text,)*
                }
            }
        }
    };
}

checkers! {
    /// Messages of one publisher come in order.
    Order = "order",
    /// No subscription gets a message twice.
    Duplicate = "duplicate",
    /// A message is what was published.
    Integrity = "integrity",
    /// What is published after a subscription is established reaches it.
    PingAfterSub = "ping-after-sub",
    /// A queue group gets a message once.
    QueueOnce = "queue-once",
    /// A queue group with a member that stays gets every message.
    QueueLost = "queue-lost",
    /// Nobody publishes or gets what permissions forbid, and everybody is told.
    Permission = "permission",
    /// Accounts are apart, and so are servers.
    Account = "account",
    /// `echo: false` keeps own messages away.
    Echo = "echo",
    /// A subscription gets what it matches.
    Match = "match",
    /// Nothing comes after UNSUB and PING were answered.
    Unsubscribe = "unsubscribe",
    /// A maximum is exact.
    AutoUnsubscribe = "auto-unsubscribe",
    /// 503 comes exactly when nobody is interested.
    NoResponders = "no-responders",
    /// What waits for a connection or a shard is bounded.
    Memory = "memory",
    /// One `handle` does bounded work.
    Work = "work",
    /// When faults end, everything goes on within a bound.
    Liveness = "liveness",
    /// A server closes only who gave a reason.
    Close = "close",
    /// What is closed is forgotten on both sides.
    Leak = "leak",
    /// A server says what the protocol has words for.
    Protocol = "protocol",
    /// A shard keeps to its contract with the runtime.
    Contract = "contract",
    /// Streams between peers keep their promises.
    Ring = "ring",
    /// Nothing panics.
    Panic = "panic",
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub checker: Checker,
    /// How.
    pub text: String,
}

/// In the place of a time: it didn't happen.
const NEVER: SimTime = SimTime::MAX;

/// In the place of a time: it may happen whenever it likes.
const ANY_TIME: SimTime = SimTime(u64::MAX - 1);

/// The header block of every message that has one, less the number that tells which.
pub const HEADERS: &[u8] = b"NATS/1.0\r\nSim: yes\r\n\r\n";

/// All that was done and seen.
#[derive(Debug)]
pub struct Oracle {
    pub(crate) universe: Arc<Universe>,
    pub(crate) conns: Vec<ConnRecord>,
    pub(crate) subs: Vec<SubRecord>,
    /// For so long after a connection ended may its server not know it.
    pub(crate) ignorance: u64,
    /// What was violated.
    pub violations: Vec<Violation>,
    /// What was reached.
    pub marks: Marks,
    /// Messages that clients read.
    pub delivered: u64,
    /// Messages that clients wrote.
    pub published: u64,
    /// Requests that were answered 503: connection, sequence, and when that was read.
    refused: Vec<(u32, u32, SimTime)>,
    /// When a member last left a queue group, by account and queue; on any server.
    departures: Vec<[SimTime; QUEUES.len()]>,
    /// The connection that last got a message of a queue group, by account and queue.
    last_members: Vec<[u32; QUEUES.len()]>,
    scratch: Vec<u8>,
}

/// What a connection is, from the moment it says CONNECT.
#[derive(Clone, Copy, Debug)]
pub struct ConnInfo {
    /// The client.
    pub client: u16,
    /// The server.
    pub server: u16,
    /// Which life of the server.
    pub epoch: u32,
    /// The user; zero if there are none.
    pub user: u8,
    /// Whether it wants its own messages.
    pub echo: bool,
    /// Whether it reads headers.
    pub headers: bool,
    /// Whether it wants 503.
    pub no_responders: bool,
}

impl Oracle {
    /// Starts with nothing.
    pub fn new(universe: Arc<Universe>, ignorance: u64) -> Self {
        Oracle {
            conns: Vec::new(),
            subs: Vec::new(),
            ignorance,
            violations: Vec::new(),
            marks: Marks::default(),
            delivered: 0,
            published: 0,
            refused: Vec::new(),
            last_members: vec![[u32::MAX; QUEUES.len()]; universe.accounts.len()],
            departures: vec![[NEVER; QUEUES.len()]; universe.accounts.len()],
            scratch: Vec::new(),
            universe,
        }
    }

    /// Notes a violation that somebody else saw.
    pub fn violate(&mut self, checker: Checker, text: impl Into<String>) {
        self.violations.push(Violation { checker, text: text.into() });
    }

    /// Numbers a new connection.
    pub fn connect(&mut self, info: ConnInfo) -> u32 {
        let account = self.universe.account(info.user);
        self.conns.push(ConnRecord::new(info, account));
        self.conns.len() as u32 - 1
    }

    /// Notes that a connection is no more, as far as its client knows.
    pub fn disconnect(&mut self, time: SimTime, conn: u32) {
        let record = &mut self.conns[conn as usize];
        record.closed = record.closed.min(time);
        let account = usize::from(record.account);
        for departed in &mut self.departures[account] {
            if *departed != ANY_TIME {
                *departed = time;
            }
        }
    }

    /// Notes a SUB and returns the sid to send.
    pub fn subscribe(&mut self, time: SimTime, conn: u32, pattern: u16, queue: u8, max: u32) -> u32 {
        let record = &mut self.conns[conn as usize];
        let denied = !self.universe.may_subscribe(record.info.user, pattern);
        if denied {
            self.marks.reach(Mark::SubscribeDenied);
            record.denials_expected += 1;
        }
        if queue > 0 && max > 0 {
            // When it will have had its maximum, the server knows before its client does.
            self.departures[usize::from(record.account)][usize::from(queue)] = ANY_TIME;
        }
        let id = self.subs.len() as u32;
        record.subs.push(id);
        let after = record.publishes.len() as u32;
        self.subs.push(SubRecord::new(conn, pattern, queue, max, time, after, denied));
        self.conns[conn as usize].subs.len() as u32
    }

    /// Notes an UNSUB without a maximum; false if that subscription was given up before.
    pub fn unsubscribe(&mut self, time: SimTime, conn: u32, sid: u32) -> bool {
        let record = &mut self.conns[conn as usize];
        let id = record.subs[sid as usize - 1];
        let sub = &mut self.subs[id as usize];
        if sub.unsubscribed < SimTime::MAX {
            return false;
        }
        sub.unsubscribed = time;
        record.unsubscribed.push(id);
        self.depart(time, id);
        true
    }

    /// Notes a PUB and returns what its payload must say.
    pub fn publish(
        &mut self,
        time: SimTime,
        conn: u32,
        subject: Subject,
        reply: Subject,
        headers: bool,
    ) -> payload::Origin {
        let record = &mut self.conns[conn as usize];
        let permitted = self.universe.may_publish(record.info.user, subject);
        if !permitted {
            self.marks.reach(Mark::PublishDenied);
            record.denials_expected += 1;
        }
        if permitted && !self.universe.users.is_empty() && self.marks.of(Mark::DeliveryFiltered) == 0 {
            let spared = |sub: &SubRecord| {
                let user = self.conns[sub.conn as usize].info.user;
                !sub.denied
                    && self.universe.matches(sub.pattern, subject)
                    && !self.universe.may_receive(user, subject)
            };
            if self.subs.iter().any(spared) {
                self.marks.reach(Mark::DeliveryFiltered);
            }
        }
        let record = &mut self.conns[conn as usize];
        self.published += 1;
        let sequence = record.publishes.len() as u32;
        record.publish(&self.universe, PublishRecord::new(time, subject, reply, permitted, headers));
        payload::Origin { conn, sequence }
    }

    /// Notes a PING.
    pub fn ping(&mut self, conn: u32) {
        self.conns[conn as usize].ping();
    }

    /// Checks a PONG: all before its PING was dealt with, and said so.
    pub fn pong(&mut self, time: SimTime, conn: u32) {
        let record = &mut self.conns[conn as usize];
        let Some(ping) = record.pings.pop_front() else {
            return self.violate(Checker::Protocol, format!("conn {conn}: PONG without PING"));
        };
        record.confirms.push((ping.publishes, time));
        record.confirmed = ping.publishes;
        let (heard, expected, unsubscribed) = (record.denials, ping.denials, ping.unsubscribed);
        for index in record.answered..ping.subs as usize {
            let sub = &mut self.subs[record.subs[index] as usize];
            sub.established = sub.established.min(time + 1);
            sub.answered = true;
        }
        record.answered = ping.subs as usize;
        record.established = record.established.max(record.answered);
        for id in record.unsubscribed.drain(..ping.unsubscribed as usize) {
            self.subs[id as usize].gone_at = time;
        }
        for ping in &mut record.pings {
            ping.unsubscribed -= unsubscribed;
        }
        if heard < expected {
            self.violate(
                Checker::Permission,
                format!("conn {conn}: {expected} operations were forbidden, {heard} refused"),
            );
        }
    }

    /// Notes a permissions violation that the server complained of.
    pub fn denied(&mut self, conn: u32) {
        let record = &mut self.conns[conn as usize];
        record.denials += 1;
        if record.denials > record.denials_expected {
            self.violate(Checker::Permission, format!("conn {conn}: refused what is allowed"));
        }
    }

    /// Checks a message.
    pub fn message(&mut self, time: SimTime, conn: u32, message: Received<'_>) -> Option<payload::Origin> {
        self.delivered += 1;
        match self.judge(time, conn, message) {
            Ok(origin) => origin,
            Err(violation) => {
                self.violations.push(violation);
                None
            }
        }
    }

    fn judge(
        &mut self,
        time: SimTime,
        conn: u32,
        message: Received<'_>,
    ) -> Result<Option<payload::Origin>, Violation> {
        let broken = |checker, text: String| {
            let text = format!(
                "conn {conn} sid {} subject {}: {text}",
                message.sid,
                show_bytes(message.subject, 80)
            );
            Violation { checker, text }
        };
        let receiver = &self.conns[conn as usize];
        let place = (message.sid as usize).wrapping_sub(1);
        let Some(&sub_id) = receiver.subs.get(place) else {
            return Err(broken(Checker::Match, "no such subscription".into()));
        };
        if message.payload.is_empty() && !message.headers.is_empty() {
            self.no_responders(time, conn, message)?;
            return Ok(None);
        }
        let Some(origin) = payload::read(message.payload) else {
            let text = format!("payload isn't what anybody published: {}", show_bytes(message.payload, 60));
            return Err(broken(Checker::Integrity, text));
        };
        let text = |text: &str| format!("message {} of conn {}: {text}", origin.sequence, origin.conn);
        let Some(publisher) = self.conns.get(origin.conn as usize) else {
            return Err(broken(Checker::Integrity, text("no such publisher")));
        };
        let Some(&publish) = publisher.publishes.get(origin.sequence as usize) else {
            return Err(broken(Checker::Integrity, text("never published")));
        };
        if !self.universe.is_named(publish.subject, message.subject, &mut self.scratch) {
            return Err(broken(Checker::Integrity, text("published to another subject")));
        }
        let reply_right = match publish.reply {
            NO_SUBJECT => message.reply.is_empty(),
            reply => self.universe.is_named(reply, message.reply, &mut self.scratch),
        };
        if !reply_right {
            return Err(broken(Checker::Integrity, text("another reply subject")));
        }
        let headers: &[u8] = if publish.headers && receiver.info.headers { HEADERS } else { b"" };
        if message.headers.len() != headers.len() || (!headers.is_empty() && message.headers != headers) {
            return Err(broken(Checker::Integrity, text("other headers")));
        }
        let sub = &self.subs[sub_id as usize];
        if (publisher.info.server, publisher.info.epoch) != (receiver.info.server, receiver.info.epoch)
            || publisher.account != receiver.account
        {
            return Err(broken(Checker::Account, text("published elsewhere")));
        }
        if !publish.permitted {
            return Err(broken(Checker::Permission, text("was not allowed to be published")));
        }
        if sub.denied || !self.universe.may_receive(receiver.info.user, publish.subject) {
            return Err(broken(Checker::Permission, text("must not be seen by this user")));
        }
        if !self.universe.matches(sub.pattern, publish.subject) {
            return Err(broken(Checker::Match, text("doesn't match")));
        }
        if origin.conn == conn && !receiver.info.echo {
            return Err(broken(Checker::Echo, text("own message")));
        }
        if sub.gone_at < SimTime::MAX {
            return Err(broken(Checker::Unsubscribe, text("after UNSUB was confirmed")));
        }
        // SUB and its UNSUB may arrive apart, and until the second one has there is no maximum.
        if sub.max > 0 && sub.received >= sub.max && sub.answered {
            return Err(broken(Checker::AutoUnsubscribe, text("one more than the maximum")));
        }
        if publish.unreached {
            return Err(broken(Checker::NoResponders, text("delivered, and answered 503")));
        }
        let next = match self.subs[sub_id as usize].progress(publisher.info.client, origin) {
            Ok(progress) => progress,
            Err(true) => return Err(broken(Checker::Duplicate, text("again"))),
            // A queue message that finds its member gone goes to another, by a longer way.
            Err(false) if self.detours(sub_id, publish.time) => origin.sequence,
            Err(false) => return Err(broken(Checker::Order, text("after a later one"))),
        };
        let sub = &self.subs[sub_id as usize];
        let before = publisher.before(&self.universe, sub.pattern, origin.sequence);
        if let Some(missing) = self.last_missing(sub, origin.conn, next, before) {
            return Err(broken(Checker::PingAfterSub, text(&format!("message {missing} was left out"))));
        }
        if sub.queue > 0 {
            let publisher_account = publisher.account;
            let bit = 1 << sub.queue;
            let publish = &mut self.conns[origin.conn as usize].publishes[origin.sequence as usize];
            if publish.queue_hits & bit != 0 {
                return Err(broken(Checker::QueueOnce, text("another member had it already")));
            }
            publish.queue_hits |= bit;
            let account = usize::from(publisher_account);
            let last = std::mem::replace(&mut self.last_members[account][usize::from(sub.queue)], conn);
            if last != conn && last != u32::MAX {
                self.marks.reach(Mark::QueueOfSeveral);
            }
        }
        self.accept(time, sub_id, origin, publish.headers && headers.is_empty());
        Ok(Some(origin))
    }

    /// Returns whether a queue message may have been sent on by a shard that had no member for it any more.
    fn detours(&self, sub_id: u32, published: SimTime) -> bool {
        let sub = &self.subs[sub_id as usize];
        let conn = &self.conns[sub.conn as usize];
        let departed = self.departures[usize::from(conn.account)][usize::from(sub.queue)];
        sub.queue > 0
            && ((departed != NEVER && departed + self.ignorance >= published)
                || !self.universe.users.is_empty())
    }

    /// Notes that a member of a queue group leaves it.
    fn depart(&mut self, time: SimTime, sub_id: u32) {
        let sub = &self.subs[sub_id as usize];
        if sub.queue > 0 {
            let account = usize::from(self.conns[sub.conn as usize].account);
            let departed = &mut self.departures[account][usize::from(sub.queue)];
            if *departed != ANY_TIME {
                *departed = time;
            }
            self.marks.reach(Mark::QueueMemberLeft);
        }
    }

    /// Notes a message that was right.
    fn accept(&mut self, time: SimTime, sub_id: u32, origin: payload::Origin, stripped: bool) {
        let sub = &mut self.subs[sub_id as usize];
        sub.received += 1;
        let full = sub.max > 0 && sub.received >= sub.max && sub.exhausted == SimTime::MAX;
        if sub.established == SimTime::MAX {
            self.marks.reach(Mark::DeliveredBeforePong);
        }
        if sub.unsubscribed < SimTime::MAX {
            self.marks.reach(Mark::DeliveredAfterUnsub);
        }
        if full {
            sub.exhausted = time;
            self.marks.reach(Mark::AutoUnsubscribed);
            self.depart(time, sub_id);
        }
        if stripped {
            self.marks.reach(Mark::HeadersStripped);
        }
        let publisher = &mut self.conns[origin.conn as usize];
        let publish = &mut publisher.publishes[origin.sequence as usize];
        publish.delivered = true;
        if publish.headers {
            self.marks.reach(Mark::Headers);
        }
        if publish.subject.inbox_of().is_some() {
            self.marks.reach(Mark::RequestAnswered);
        }
        // Whoever hears a message knows that everything its connection asked for before it stands.
        while let Some(id) = publisher.subs.get(publisher.established) {
            let sub = &mut self.subs[*id as usize];
            if sub.after_publishes > origin.sequence {
                break;
            }
            sub.established = time + 1;
            publisher.established += 1;
            self.marks.reach(Mark::EstablishedByCausality);
        }
    }

    /// Returns the last message from `next` to `at` that a subscription must have got and hasn't.
    pub(crate) fn last_missing(
        &self,
        sub: &SubRecord,
        publisher: u32,
        next: u32,
        mut at: Option<u32>,
    ) -> Option<u32> {
        let record = &self.conns[publisher as usize];
        while let Some(sequence) = at.filter(|sequence| *sequence >= next) {
            let publish = &record.publishes[sequence as usize];
            if publish.time < sub.established {
                break;
            }
            if self.obliged(sub, publisher, publish) {
                return Some(sequence);
            }
            at = record.before(&self.universe, sub.pattern, sequence);
        }
        None
    }

    /// Returns whether a subscription must get a publish, if no connection ends.
    pub(crate) fn obliged(&self, sub: &SubRecord, publisher: u32, publish: &PublishRecord) -> bool {
        sub.queue == 0 && publish.time >= sub.established && self.would_get(sub, publisher, publish)
    }

    /// Returns whether a publish is for a subscription, time aside.
    pub(crate) fn would_get(&self, sub: &SubRecord, publisher: u32, publish: &PublishRecord) -> bool {
        if !publish.permitted || sub.denied || !self.universe.matches(sub.pattern, publish.subject) {
            return false;
        }
        let (from, to) = (&self.conns[publisher as usize], &self.conns[sub.conn as usize]);
        (from.info.server, from.info.epoch, from.account) == (to.info.server, to.info.epoch, to.account)
            && self.universe.may_receive(to.info.user, publish.subject)
            && (publisher != sub.conn || to.info.echo)
    }

    /// Checks an answer 503: nobody may have been interested all the while.
    fn no_responders(&mut self, time: SimTime, conn: u32, message: Received<'_>) -> Result<(), Violation> {
        let broken = |checker, text: String| Violation { checker, text: format!("conn {conn}: {text}") };
        if !message.headers.starts_with(b"NATS/1.0 503") {
            return Err(broken(Checker::Integrity, format!("status {}", show_bytes(message.headers, 60))));
        }
        if !self.conns[conn as usize].info.no_responders {
            return Err(broken(Checker::NoResponders, "503 for somebody who didn't ask for it".into()));
        }
        // Requests are few and recent: the last one with this reply subject is meant.
        let record = &self.conns[conn as usize];
        let (universe, scratch) = (&self.universe, &mut self.scratch);
        let found = record.publishes.iter().rposition(|publish| {
            publish.reply != NO_SUBJECT && universe.is_named(publish.reply, message.subject, scratch)
        });
        let Some(sequence) = found else {
            return Err(broken(Checker::NoResponders, "503 for what was never asked".into()));
        };
        let publish = record.publishes[sequence];
        if publish.unreached || publish.delivered {
            let text = format!("request {sequence} was delivered, or refused before, and then answered 503");
            return Err(broken(Checker::NoResponders, text));
        }
        // Whether somebody was interested is asked at the end, when it is known whose connections stood.
        self.refused.push((conn, sequence as u32, time));
        self.conns[conn as usize].publishes[sequence].unreached = true;
        self.marks.reach(Mark::NoResponders);
        Ok(())
    }
}

/// A message as a client read it.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// For which subscription.
    pub sid: u32,
    /// What it was published to.
    pub subject: &'a [u8],
    /// Where an answer goes.
    pub reply: &'a [u8],
    /// Its header block.
    pub headers: &'a [u8],
    /// Its payload.
    pub payload: &'a [u8],
}
