//! One publish: match, pick a queue member, fan out; and the interest that it goes by.
//!
//! The [`Exchange`] is a machine of the shard's. It holds the shard's connections, its subscriptions and its copy of
//! the interest graph, in which other shards stand as subscribers of their own. It says what is to be done in
//! [`Effect`]s, whose order is a promise: see [`crate::shard::mailbox`].
//!
//! Invariants:
//! - a subscription is in the table, in its account's sublist and among its connection's sids, or in none of them;
//! - at most one [`Batch`] is open, and nothing for any other shard is said while it is;
//! - what arrived for machines of this shard is taken by the shard before its `handle` ends;
//! - `told` holds exactly the interest that other shards were told of.

mod batch;
mod effects;
mod interest;
mod publish;
mod remote;
mod service;

use std::sync::Arc;

pub use batch::Batch;
pub(crate) use effects::Effect;
use effects::Effects;
pub(crate) use interest::{Interest, SubscribeError};
pub(crate) use publish::{Hold, Publication, Published};
pub use service::Outgoing;
use service::Services;
pub(crate) use service::{Arrived, NOBODY, Speaker};
use slab::Slab;
use smallvec::SmallVec;

use crate::connection::ClosedReason;
use crate::connection::chunk::Chunk;
use crate::connection::client::Traffic;
use crate::connection::outbound::SegmentPool;
use crate::connection::table::ConnectionTable;
use crate::ids::{ConnId, ShardId};
use crate::rng::{HashKeys, HashMap, Rng};
use crate::subject::Sublist;

/// Who stands behind interest in a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    /// A subscription of this shard, by its key.
    Local(u32),
    /// Any number of subscriptions of another shard.
    Shard(ShardId),
    /// A machine of this shard, by the key of its subscription.
    Service(u32),
}

/// One subscription of a connection of this shard.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) conn: ConnId,
    pub(crate) account: u32,
    pub(crate) sid: SmallVec<[u8; 16]>,
    pub(crate) subject: Box<[u8]>,
    pub(crate) queue: Option<Box<[u8]>>,
    pub(crate) delivered: u64,
    /// Removed after so many messages; zero for no limit.
    pub(crate) max: u64,
    /// Its subject overlaps something that the connection is denied: each message is checked.
    pub(crate) filtered: bool,
}

/// A message as it was published, its payload still with the CRLF behind it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// What subscriptions are matched with.
    pub(crate) subject: &'a [u8],
    /// What receivers are shown in its place, if that is another one: a consumer's messages keep their subjects.
    pub(crate) shown: Option<&'a [u8]>,
    /// Empty if there is none.
    pub(crate) reply: &'a [u8],
    /// Length of the headers at the start of the payload; zero if there are none.
    pub(crate) header_len: usize,
    pub(crate) payload: Payload<'a>,
}

/// The bytes of a message, CRLF included.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Payload<'a> {
    /// To be copied.
    Small(&'a [u8]),
    /// To be shared.
    Large(&'a Chunk),
}

impl<'a> Payload<'a> {
    pub(crate) fn bytes(self) -> &'a [u8] {
        match self {
            Payload::Small(bytes) => bytes,
            Payload::Large(chunk) => chunk,
        }
    }
}

/// One account's subject space, as this shard sees it.
#[derive(Debug)]
pub(crate) struct AccountSpace {
    pub(crate) name: Arc<str>,
    pub(crate) sublist: Sublist<Target>,
    pub(crate) connections: usize,
}

/// Limits that delivering goes by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes that may wait for a connection.
    pub(crate) max_pending: usize,
    /// Messages to a connection that is far behind are dropped instead of holding the publisher.
    pub(crate) no_fast_producer_stall: bool,
    /// What is queued is shown in the log.
    pub(crate) trace: bool,
}

/// Sums over all connections that this shard has had.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    pub(crate) slow_consumers: u64,
    pub(crate) stalls: u64,
}

/// Where published messages meet subscriptions.
#[derive(Debug)]
pub(crate) struct Exchange {
    me: ShardId,
    shards: u16,
    pub(crate) clients: ConnectionTable,
    pub(crate) pool: SegmentPool,
    pub(crate) subscriptions: Slab<Subscription>,
    pub(crate) accounts: Vec<AccountSpace>,
    pub(crate) limits: Limits,
    pub(crate) totals: Totals,
    effects: Effects,
    /// Why the publisher under way is to be held.
    pub(crate) hold: Option<Hold>,
    /// Subscriptions of this shard behind each interest that the others were told of.
    told: HashMap<interest::Interest, u32>,
    /// Bytes that each shard owes us, by its index.
    owed: Vec<usize>,
    /// Bytes that we owe each shard, not told yet.
    credit: Vec<usize>,
    requests: remote::SharedRequests,
    sid_keys: HashKeys,
    rng: Rng,
    lines: publish::Lines,
    /// Subscriptions that got their last message in the publish under way.
    spent: Vec<u32>,
    /// Subscriptions of connections that are gone, to be removed a few at a time.
    leaving: Vec<u32>,
    services: Services,
}

impl Exchange {
    pub(crate) fn new(
        me: ShardId,
        shards: u16,
        accounts: &[Arc<str>],
        cached: bool,
        limits: Limits,
        mut rng: Rng,
    ) -> Self {
        let spaces = accounts
            .iter()
            .map(|name| AccountSpace {
                name: Arc::clone(name),
                sublist: match cached {
                    true => Sublist::new(rng.hash_keys()),
                    false => Sublist::without_cache(rng.hash_keys()),
                },
                connections: 0,
            })
            .collect();
        Exchange {
            me,
            shards,
            clients: ConnectionTable::default(),
            pool: SegmentPool::default(),
            subscriptions: Slab::new(),
            accounts: spaces,
            limits,
            totals: Totals::default(),
            effects: Effects::default(),
            hold: None,
            told: HashMap::with_hasher(rng.hash_keys()),
            owed: vec![0; usize::from(shards)],
            credit: vec![0; usize::from(shards)],
            requests: remote::SharedRequests::default(),
            sid_keys: rng.hash_keys(),
            rng,
            lines: publish::Lines::default(),
            spent: Vec::new(),
            leaving: Vec::new(),
            services: Services::default(),
        }
    }

    /// Returns what is to be done next, in order; drain it to `None` before anything is flushed.
    pub(crate) fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.poll()
    }

    /// Queues bytes for one connection.
    pub(crate) fn send(&mut self, conn: ConnId, bytes: &[u8]) {
        if let Some(client) = self.clients.get_mut(conn) {
            client.queue(&mut self.pool, bytes);
            if self.limits.trace && client.doomed.is_none() {
                let line = bytes.to_vec();
                self.effects.here(Effect::Trace { conn, line, payload: Vec::new(), header_len: 0 });
            }
            self.effects.flush(client);
        }
    }

    /// Shows a line of a trace, in order with what is sent.
    pub(crate) fn show_line(&mut self, line: String) {
        self.effects.here(Effect::ShowLine(line));
    }

    /// Has a connection closed once this `handle` is through; the first reason counts.
    pub(crate) fn doom(&mut self, conn: ConnId, reason: ClosedReason) {
        if let Some(client) = self.clients.get_mut(conn) {
            self.effects.doom(client, reason);
        }
    }
}
