//! JetStream on one shard: its stores, its streams and consumers, what reaches them and what they say.
//!
//! The engine is a machine of the shard's. It is told what arrived through its subscriptions ([`JetStream::arrived`]), what
//! the disk did, and the time; it publishes through the [`Exchange`] like anybody else. Streams and consumers are machines of
//! their own, which know nothing of all this: the engine lends each of them its store, and proposes, commits and answers.
//!
//! ```text
//! stores.rs    the catalogue's journal, the shard's journal, and what is kept behind them
//! opening.rs   the way from a folder to there
//! asset.rs     what the volume holds
//! assets.rs    the streams, and what of each is under way
//! view.rs      a stream's messages, as its machines read them
//! turns.rs     who has something to do, a bounded step at a time
//! storage.rs   what the stores tell, and who is to hear of it
//! ```
//!
//! # Invariants
//!
//! - Nothing is answered before it is durable, unless the answer promises nothing.
//! - A stream's requests are dealt with in the order in which they arrived: one that waits for the disk holds up those behind
//!   it, and no other stream's.
//! - Everything that waits is bounded: requests by the configured queue limits, the rest by what clients may have under way.

mod asset;
mod assets;
mod opening;
mod storage;
mod stores;
mod turns;
mod view;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use slab::Slab;

use assets::{AccountAssets, Listeners, StreamAssets};
use stores::{Stores, StoresConfig};
use turns::Turn;

use super::context::{Context, Outgoing};
use super::stream::Incoming;
use crate::config::{Options, SyncPolicy};
use crate::delivery::{Arrived, Exchange};
use crate::disk::{Completion, Submission};
use crate::rng::{HashMap, Rng};
use crate::storage::OwnerId;
use crate::time::{Instant, Now};

/// How many bytes of its blocks a stream keeps in memory for reading.
const CACHE: usize = 1 << 20;
/// How many bytes a stream's indexes may take in memory, the newest block's apart.
const INDEX_BUDGET: usize = 8 << 20;

/// Something for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Notice {
    Info(String),
    Warning(String),
    Error(String),
    /// The server can't do its work.
    Fatal(String),
}

/// What a subscription of the engine is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Service {
    /// The API of an account.
    Api,
    /// A subject of a stream.
    Stream(usize),
}

/// What an owner in the volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owned {
    Stream(usize),
}

/// JetStream on one shard.
#[derive(Debug)]
pub(crate) struct JetStream {
    stores: Stores,
    accounts: Vec<AccountAssets>,
    streams: Slab<StreamAssets>,
    owners: HashMap<OwnerId, Owned>,
    services: HashMap<u32, Service>,
    /// What came before the stores were ready.
    held: VecDeque<Arrived>,
    turns: VecDeque<Turn>,
    deadlines: BTreeSet<(Instant, Turn)>,
    notices: VecDeque<Notice>,
    rng: Rng,
    /// What the machine that is being called says; empty between calls.
    out: Vec<Outgoing>,
}

impl JetStream {
    /// Opens what there is. `accounts` are the shard's, in its order.
    pub(crate) fn new(
        options: &Options,
        accounts: &[Arc<str>],
        exchange: &mut Exchange,
        mut rng: Rng,
    ) -> Option<Self> {
        let settings = options.jetstream.as_ref()?;
        let sync_interval = match settings.sync {
            SyncPolicy::Always => None,
            SyncPolicy::Interval(interval) => Some(interval),
        };
        let config = StoresConfig { sync_interval, cache: CACHE, index_budget: INDEX_BUDGET };
        let assets = |name: &Arc<str>| AccountAssets {
            name: Arc::clone(name),
            limits: options.account_jetstream(name),
            streams: std::collections::BTreeMap::new(),
            api_total: 0,
            api_errors: 0,
        };
        let mut services = HashMap::with_hasher(rng.hash_keys());
        for account in 0..accounts.len() as u32 {
            if let Ok(service) = exchange.serve(account, b"$JS.API.>") {
                services.insert(service, Service::Api);
            }
        }
        Some(JetStream {
            stores: Stores::open(config, rng.child()),
            accounts: accounts.iter().map(assets).collect(),
            streams: Slab::new(),
            owners: HashMap::with_hasher(rng.hash_keys()),
            services,
            held: VecDeque::new(),
            turns: VecDeque::new(),
            deadlines: BTreeSet::new(),
            notices: VecDeque::new(),
            rng,
            out: Vec::new(),
        })
    }

    /// Takes a message that came through one of its subscriptions.
    pub(crate) fn arrived(&mut self, now: Now, exchange: &mut Exchange, message: Arrived) {
        if !self.stores.is_ready() {
            self.held.push_back(message);
            return;
        }
        match self.services.get(&message.service) {
            Some(Service::Api) => {}
            Some(&Service::Stream(key)) => self.published(now, exchange, key, message),
            // It was withdrawn when the message was on its way already.
            None => {}
        }
    }

    /// A message was published to a subject of a stream.
    fn published(&mut self, now: Now, exchange: &mut Exchange, key: usize, message: Arrived) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let account = stream.account;
        let Some((machine, mut view)) = stream.parts(&mut self.stores) else {
            stream.held.push_back(message);
            return;
        };
        let listeners = Listeners { exchange, account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let Arrived { subject, reply, headers, payload, .. } = message;
        machine.publish(&mut context, &mut view, Incoming { subject, reply, headers, payload });
        self.follow_up(now, exchange, key);
    }

    /// Takes what became of a request to the disk.
    pub(crate) fn handle_disk(&mut self, now: Now, completion: Completion) {
        self.stores.handle_disk(now.instant, completion);
    }

    /// Publishes what a machine has said.
    fn publish_out(&mut self, now: Now, exchange: &mut Exchange, account: u32) {
        for outgoing in self.out.drain(..) {
            exchange.publish_own(now.instant, account, &outgoing);
        }
    }

    pub(crate) fn poll_disk(&mut self) -> Option<Submission> {
        self.stores.poll_disk()
    }

    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        if !self.turns.is_empty() {
            return Some(Instant::ZERO);
        }
        let first = self.deadlines.first().map(|(deadline, _)| *deadline);
        first.into_iter().chain(self.stores.poll_timeout()).min()
    }
}
