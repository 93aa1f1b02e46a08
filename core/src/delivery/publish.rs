//! The walk of a message from its publisher to everybody who is interested.
//!
//! No allocation once warm, no lock, one hash (the match cache's), one copy of a small payload for each subscriber
//! and none of a large one.

use std::sync::Arc;

use super::batch::{Head, Request};
use super::effects::{Effect, Effects};
use super::service::{NOBODY, SHARED, Services, is_told_of};
use super::{Exchange, Message, Payload, Subscription, Target, Totals};
use crate::connection::ClientDescription;
use crate::connection::ClosedReason;
use crate::connection::client::Client;
use crate::connection::outbound::SegmentPool;
use crate::connection::table::ConnectionTable;
use crate::ids::{ConnId, ShardId};
use crate::planted::{self, Bug, Point, bug, point};
use crate::rng::Rng;
use crate::subject::{MatchResult, QueueGroup, QueueMember};
use crate::time::Instant;

/// What a shard may owe us before its publishers are held: enough to keep it busy for some milliseconds.
pub(super) const OWED_LIMIT: usize = 8 * 1024 * 1024;

/// Who publishes, and what they want to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publication {
    pub(crate) conn: ConnId,
    pub(crate) account: u32,
    /// The publisher is to be answered 503 if nobody is interested.
    pub(crate) wants_no_responders: bool,
}

/// Why a publisher is to be held before its next operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hold {
    /// Somebody whom it feeds is far behind.
    Stalled,
    /// This shard owes too much.
    Owed(ShardId),
}

/// What came of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Published {
    /// Somebody got it, or another shard will see to it.
    Handled,
    /// Nobody is interested.
    Nobody,
}

/// The parts of message lines that are the same for all subscribers, made once for each message.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// `HMSG <subject> `
    start: Vec<u8>,
    /// ` [reply ]<header size> <total size>\r\n`
    with_headers: Vec<u8>,
    /// ` [reply ]<size>\r\n`, the size without headers.
    without: Vec<u8>,
}

impl Lines {
    pub(super) fn prepare(&mut self, message: &Message<'_>) {
        let total = message.payload.bytes().len() - 2;
        self.start.clear();
        self.start.extend_from_slice(b"HMSG ");
        self.start.extend_from_slice(message.shown.unwrap_or(message.subject));
        self.start.push(b' ');
        self.without.clear();
        Self::end(&mut self.without, message.reply, None, total - message.header_len);
        if message.header_len > 0 {
            self.with_headers.clear();
            Self::end(&mut self.with_headers, message.reply, Some(message.header_len), total);
        }
    }

    fn end(out: &mut Vec<u8>, reply: &[u8], header_len: Option<usize>, len: usize) {
        out.push(b' ');
        if !reply.is_empty() {
            out.extend_from_slice(reply);
            out.push(b' ');
        }
        let mut digits = itoa::Buffer::new();
        if let Some(header_len) = header_len {
            out.extend_from_slice(digits.format(header_len).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(digits.format(len).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// What delivering to one subscriber needs of the exchange, apart from the match that is being walked.
pub(super) struct Local<'a> {
    pub(super) clients: &'a mut ConnectionTable,
    pub(super) subscriptions: &'a mut slab::Slab<Subscription>,
    pub(super) pool: &'a mut SegmentPool,
    pub(super) effects: &'a mut Effects,
    pub(super) totals: &'a mut Totals,
    pub(super) spent: &'a mut Vec<u32>,
    pub(super) services: &'a mut Services,
    pub(super) lines: &'a Lines,
    pub(super) limits: super::Limits,
    pub(super) now: Instant,
    pub(super) message: &'a Message<'a>,
    /// The publisher, and its shard if that is not this one.
    pub(super) origin: ConnId,
    pub(super) hold: &'a mut Option<Hold>,
    pub(super) from: Option<ShardId>,
    /// The publisher in words, if it was on another shard and somebody may want to tell who it was.
    pub(super) client: Option<&'a Arc<ClientDescription>>,
}

impl Local<'_> {
    /// Gives the message to one subscription; `false` if it can't have it.
    pub(super) fn deliver(&mut self, key: u32) -> bool {
        planted::work();
        let Some(subscription) = self.subscriptions.get_mut(key as usize) else { return false };
        let Some(client) = self.clients.get_mut(subscription.conn) else { return false };
        if client.doomed.is_some() {
            return false;
        }
        let own = self.from.is_none() && client.id == self.origin;
        if own && !client.echo && !bug(Bug::EchoIgnored) {
            return false;
        }
        if subscription.filtered
            && !bug(Bug::DenyIgnoredOnDelivery)
            && let Some(permissions) = &mut client.permissions
            && !permissions.can_deliver(
                self.message.shown.unwrap_or(self.message.subject),
                subscription.queue.as_deref(),
            )
        {
            return false;
        }
        let over = if bug(Bug::AutoUnsubscribeOffByOne) { 1 } else { 0 };
        if subscription.max > 0 && subscription.delivered >= subscription.max + over {
            return false;
        }
        let behind = client.outbound.pending() > self.limits.max_pending / 4 * 3 || point(Point::StallEarly);
        if behind && !own {
            if self.limits.no_fast_producer_stall {
                return false;
            }
            client.stalls += 1;
            self.totals.stalls += 1;
            match self.from {
                None => *self.hold = Some(Hold::Stalled),
                Some(from) => self.effects.elsewhere(Effect::StallRemote(from, self.origin), false),
            }
        }
        subscription.delivered += 1;
        if subscription.max > 0 && subscription.delivered == subscription.max + over {
            self.spent.push(key);
        }
        write_message(client, self.pool, self.lines, self.message, &subscription.sid, self.totals);
        if self.limits.trace {
            let headers = self.message.header_len > 0 && client.headers;
            let (start, end) = if headers { (0, &self.lines.with_headers) } else { (1, &self.lines.without) };
            let skip = if headers { 0 } else { self.message.header_len };
            self.effects.here(Effect::Trace {
                conn: client.id,
                line: [&self.lines.start[start..], &subscription.sid, end].concat(),
                payload: self.message.payload.bytes()[skip..].to_vec(),
                header_len: if headers { self.message.header_len } else { 0 },
            });
        }
        if !self.message.reply.is_empty()
            && let Some(permissions) = &mut client.permissions
        {
            permissions.track_reply(self.message.reply, self.now);
        }
        if client.outbound.pending() > self.limits.max_pending && !bug(Bug::SlowConsumerNeverClosed) {
            self.totals.slow_consumers += 1;
            self.effects.doom(client, ClosedReason::SlowConsumerPendingBytes);
        }
        self.effects.flush(client);
        true
    }

    /// Gives the message to a machine of this shard.
    pub(super) fn serve(&mut self, key: u32) -> bool {
        let local = self.from.is_none() && self.client.is_none();
        let origin = if local { self.origin } else { NOBODY };
        self.services.arrive(key, self.message, origin, self.client)
    }

    /// Gives the message to one local member of a queue group, starting at a random one.
    pub(super) fn deliver_to_group(&mut self, group: &QueueGroup<'_, Target>, rng: &mut Rng) -> bool {
        let members = group.members;
        let start = rng.below(members.len() as u64) as usize;
        members[start..].iter().chain(&members[..start]).any(|member| match member.value {
            Target::Local(key) => self.deliver(key),
            Target::Service(key) => self.serve(key),
            Target::Shard(_) => false,
        })
    }
}

/// Queues a message for a subscriber, without its headers if it can't read them.
fn write_message(
    client: &mut Client,
    pool: &mut SegmentPool,
    lines: &Lines,
    message: &Message<'_>,
    sid: &[u8],
    totals: &mut Totals,
) {
    let headers = message.header_len > 0 && client.headers;
    let (start, end) = if headers { (0, &lines.with_headers) } else { (1, &lines.without) };
    let skip = if headers { 0 } else { message.header_len };
    let payload = &message.payload.bytes()[skip..];
    let shared = match message.payload {
        Payload::Large(chunk) => Some(chunk.skip(skip)),
        Payload::Small(_) => None,
    };
    client.queue_message(pool, [&lines.start[start..], sid, end], payload, shared);
    let bytes = payload.len() - 2;
    client.sent.count(bytes);
    totals.sent.count(bytes);
}

impl Exchange {
    /// Publishes a message: delivers it here, and hands it to every shard that has interest.
    pub(crate) fn publish(
        &mut self,
        now: Instant,
        publication: Publication,
        message: &Message<'_>,
    ) -> Published {
        self.publish_as(now, publication, None, message)
    }

    /// Publishes a message of a client that is known in words already, or isn't.
    pub(super) fn publish_as(
        &mut self,
        now: Instant,
        publication: Publication,
        known: Option<&Arc<ClientDescription>>,
        message: &Message<'_>,
    ) -> Published {
        let client = match self.shards > 1 && known.is_none() && is_told_of(message.subject) {
            true => self.describe_client(publication.conn).map(Arc::new),
            false => known.cloned(),
        };
        let result = self.accounts[publication.account as usize].sublist.matches(message.subject);
        if result.is_empty() {
            return Published::Nobody;
        }
        self.lines.prepare(message);
        let mut local = Local {
            clients: &mut self.clients,
            subscriptions: &mut self.subscriptions,
            pool: &mut self.pool,
            effects: &mut self.effects,
            totals: &mut self.totals,
            spent: &mut self.spent,
            services: &mut self.services,
            lines: &self.lines,
            limits: self.limits,
            now,
            message,
            origin: publication.conn,
            hold: &mut self.hold,
            from: None,
            client: known,
        };
        let (mut reached, mut plain_shards) = (false, 0u64);
        for target in result.plain() {
            match *target {
                Target::Local(key) => reached |= local.deliver(key),
                Target::Service(key) => reached |= local.serve(key),
                Target::Shard(shard) => plain_shards |= 1 << shard.0,
            }
        }
        // Which shard serves which group; a handful at most, so it lives on the stack.
        let mut picks: smallvec::SmallVec<[(ShardId, usize); 8]> = smallvec::SmallVec::new();
        for at in 0..result.queue_count() {
            let group = result.queue(at);
            match pick(&group, &mut self.rng, &mut local, 0) {
                Pick::Delivered => reached = true,
                Pick::Shard(shard) => picks.push((shard, at)),
                Pick::Nobody => {}
            }
            if bug(Bug::QueueOncePerShard) {
                for member in group.members {
                    if let Target::Shard(shard) = member.value
                        && !picks.contains(&(shard, at))
                    {
                        picks.push((shard, at));
                    }
                }
            }
        }
        let spent = !self.spent.is_empty();
        if plain_shards == 0 && picks.is_empty() {
            if spent {
                self.remove_spent();
            }
            return if reached { Published::Handled } else { Published::Nobody };
        }

        let shards = picks.iter().fold(plain_shards, |mask, (shard, _)| mask | 1 << shard.0);
        let ask = publication.wants_no_responders && !reached;
        let request = match (ask, shards.count_ones()) {
            (false, _) => Request::No,
            (true, 1) => Request::Sole,
            (true, n) => self.requests.start(n),
        };
        let account = if bug(Bug::AccountLeak) { 0 } else { publication.account };
        for index in 0..self.shards {
            let shard = ShardId(index);
            if shards & (1 << index) == 0 {
                continue;
            }
            let head = Head {
                origin: publication.conn,
                account,
                plain: plain_shards & (1 << index) != 0,
                tried: 0,
                request,
            };
            let queues = picks.iter().filter(|(to, _)| *to == shard).map(|(_, at)| result.queue(*at).name);
            let weight = self.effects.deliver(shard, head, message, queues.clone());
            self.effects.describe(client.as_ref());
            let owed = &mut self.owed[shard.index()];
            *owed += weight;
            // Half is what a debt must fall below again for anybody to go on, so less is never too much.
            if *owed > OWED_LIMIT || (*owed > OWED_LIMIT / 2 && point(Point::OwedTooMuch)) {
                self.hold = Some(Hold::Owed(shard));
            }
            if bug(Bug::DeliverTwice) {
                self.effects.deliver(shard, head, message, queues);
            }
        }
        if spent {
            self.remove_spent();
        }
        Published::Handled
    }

    /// Removes subscriptions that have just had their last message.
    pub(super) fn remove_spent(&mut self) {
        while let Some(key) = self.spent.pop() {
            self.remove_subscription(key);
        }
    }

    /// Answers a request that nobody was there for, if the publisher itself listens on its reply subject.
    ///
    /// Source: nats-server `server/client.go`, `processInboundClientMsg` and `subForReply`.
    pub(crate) fn answer_no_responders(&mut self, conn: ConnId, subject: &[u8], reply: &[u8]) {
        if bug(Bug::NoRespondersNever) {
            return;
        }
        let Some(client) = self.clients.get_mut(conn) else { return };
        if client.doomed.is_some() {
            return;
        }
        let result = self.accounts[client.account as usize].sublist.matches(reply);
        let own = result.plain().iter().find_map(|target| match *target {
            Target::Local(key) => self.subscriptions.get(key as usize).filter(|found| found.conn == conn),
            Target::Shard(_) | Target::Service(_) => None,
        });
        if let Some(subscription) = own {
            let mut line = Vec::with_capacity(96 + subject.len() + reply.len());
            crate::protocol::encode::no_responders(&mut line, reply, &subscription.sid, subject);
            client.queue(&mut self.pool, &line);
            self.effects.flush(client);
        }
    }
}

/// Who serves a queue group.
pub(super) enum Pick {
    /// Somebody here, already.
    Delivered,
    /// Somebody on another shard.
    Shard(ShardId),
    /// Nobody can.
    Nobody,
}

/// Picks one member of a group, each subscription of each shard with the same chance, and passes over those that
/// can't have the message and the shards in `tried`.
pub(super) fn pick(group: &QueueGroup<'_, Target>, rng: &mut Rng, local: &mut Local<'_>, tried: u64) -> Pick {
    let members = group.members;
    let mut left = rng.below(group.weight);
    let start = match group.weight == members.len() as u64 {
        true => left as usize,
        false => members
            .iter()
            .position(|member| match left.checked_sub(u64::from(member.weight)) {
                Some(rest) => {
                    left = rest;
                    false
                }
                None => true,
            })
            .unwrap_or(0),
    };
    let start = if group.name == SHARED { nearest(members) } else { start };
    for member in members[start..].iter().chain(&members[..start]) {
        match member.value {
            Target::Local(key) if local.deliver(key) => return Pick::Delivered,
            Target::Service(key) if local.serve(key) => return Pick::Delivered,
            Target::Local(_) | Target::Service(_) => {}
            Target::Shard(shard) if tried & (1 << shard.0) == 0 => return Pick::Shard(shard),
            Target::Shard(_) => {}
        }
    }
    Pick::Nobody
}

/// Returns the machine that a shared request is meant for, if there is one that took it for itself: the home shard, which
/// takes all, passes on what isn't its own.
fn nearest(members: &[QueueMember<Target>]) -> usize {
    let distance = |member: &QueueMember<Target>| match member.value {
        Target::Shard(ShardId::HOME) => 2,
        Target::Shard(_) => 0,
        Target::Local(_) | Target::Service(_) => 1,
    };
    (0..members.len()).min_by_key(|at| distance(&members[*at])).unwrap_or(0)
}

/// Tells whether there is nobody behind a match, not even on another shard.
pub(super) fn group_named<'m>(
    result: &'m MatchResult<Target>,
    name: &[u8],
) -> Option<QueueGroup<'m, Target>> {
    (0..result.queue_count()).map(|at| result.queue(at)).find(|group| group.name == name)
}
