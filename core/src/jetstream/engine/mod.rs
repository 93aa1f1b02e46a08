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
//! ```
//!
//! # Invariants
//!
//! - Nothing is answered before it is durable, unless the answer promises nothing.
//! - A stream's requests are dealt with in the order in which they arrived: one that waits for the disk holds up those behind
//!   it, and no other stream's.
//! - Everything that waits is bounded: requests by the configured queue limits, the rest by what clients may have under way.

mod asset;
mod opening;
mod stores;

use std::collections::VecDeque;
use std::sync::Arc;

use stores::{Stores, StoresConfig, StoresEvent};

use crate::config::{AccountJetStream, Options, SyncPolicy};
use crate::delivery::{Arrived, Exchange};
use crate::disk::{Completion, Submission};
use crate::rng::Rng;
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

/// What an account has.
#[derive(Debug)]
struct AccountAssets {
    name: Arc<str>,
    /// What it may have; `None` if it has no streams at all.
    limits: Option<AccountJetStream>,
}

/// JetStream on one shard.
#[derive(Debug)]
pub(crate) struct JetStream {
    stores: Stores,
    accounts: Vec<AccountAssets>,
    /// What came before the stores were ready.
    held: VecDeque<Arrived>,
    notices: VecDeque<Notice>,
    failed: bool,
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
        };
        for account in 0..accounts.len() {
            let _ = exchange.serve(account as u32, b"$JS.API.>");
        }
        Some(JetStream {
            stores: Stores::open(config, rng.child()),
            accounts: accounts.iter().map(assets).collect(),
            held: VecDeque::new(),
            notices: VecDeque::new(),
            failed: false,
        })
    }

    /// Takes a message that came through one of its subscriptions.
    pub(crate) fn arrived(&mut self, _now: Now, _exchange: &mut Exchange, message: Arrived) {
        if !self.stores.is_ready() {
            self.held.push_back(message);
            return;
        }
    }

    /// Takes what became of a request to the disk.
    pub(crate) fn handle_disk(&mut self, now: Now, completion: Completion) {
        self.stores.handle_disk(now.instant, completion);
    }

    /// Does what can be done, and tells whether there was anything.
    pub(crate) fn advance(&mut self, now: Now, exchange: &mut Exchange) -> bool {
        self.stores.advance(now.instant);
        while let Some(event) = self.stores.poll_event() {
            match event {
                StoresEvent::Catalogue => self.stores.all_opened(),
                StoresEvent::Ready => {}
                StoresEvent::Recorded(_) => {}
                StoresEvent::Volume(_) => {}
                StoresEvent::Warning(text) => self.notices.push_back(Notice::Warning(text)),
                StoresEvent::Failed(text) => self.notices.push_back(Notice::Fatal(text)),
            }
        }
        if self.stores.is_ready() {
            while let Some(message) = self.held.pop_front() {
                self.arrived(now, exchange, message);
            }
        }
        false
    }

    pub(crate) fn poll_disk(&mut self) -> Option<Submission> {
        self.stores.poll_disk()
    }

    pub(crate) fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.stores.poll_timeout()
    }
}
