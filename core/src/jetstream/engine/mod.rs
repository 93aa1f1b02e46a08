//! JetStream in one store of a server: its files, its streams and consumers, what reaches them and what they say.
//!
//! The engine is a machine of the shard's. It is told what arrived through its subscriptions ([`JetStream::arrived`]), what
//! the disk did, and the time; it publishes through the [`Exchange`] like anybody else. Streams and consumers are machines of
//! their own, which know nothing of all this: the engine lends each of them its store, and proposes, commits and answers.
//!
//! ```text
//! said.rs      what engines say to each other
//! directory.rs which streams the server has, and where: the home engine's
//! orders.rs    what an engine does of what others say
//! stores.rs    the catalogue's journal, the shard's journal, and what is kept behind them
//! opening.rs   the way from a folder to there
//! converter.rs seals with the present key what isn't
//! asset.rs     what the volume holds
//! assets.rs    the streams, and what of each is under way
//! view.rs      a stream's messages, as its machines read them
//! turns.rs     who has something to do, a bounded step at a time
//! snapshots.rs backups under way
//! restores/    restores under way, and the streams that they are to be
//! storage.rs   what the stores tell, and who is to hear of it
//! ```
//!
//! # Invariants
//!
//! - Nothing is answered before it is durable, unless the answer promises nothing.
//! - A stream's requests are dealt with in the order in which they arrived: one that waits for the disk holds up those behind
//!   it, and no other stream's.
//! - Everything that waits is bounded: requests by the configured queue limits, the rest by what clients may have under way.

mod advise;
mod asset;
mod assets;
mod consumers;
mod converter;
mod directory;
mod lifecycle;
mod opening;
mod orders;
mod reports;
mod requests;
mod restores;
mod said;
mod scrubber;
mod snapshots;
mod storage;
mod stores;
mod turns;
mod view;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use slab::Slab;

use assets::{AccountAssets, Listeners, StreamAssets, Used};
use consumers::ConsumerAssets;
use directory::Directory;
use lifecycle::Recorded;
use requests::{Asked, Listing, Task};
use restores::Restore;
pub(crate) use said::EngineId;
pub use said::EngineMessage;
use said::Said;
use snapshots::Snapshot;
use stores::{Stores, StoresConfig};
use turns::Turn;

use super::api::level;
use super::api::limits::ServerLimits;
use super::api::request::MessageGetRequest;
use super::api::subject::without_domain;
use super::context::{Context, Outgoing};
use super::stream::{Inbound, Incoming, Ticket};
use crate::config::{JetStreamOptions, Options, SyncPolicy};
use crate::delivery::{Arrived, Exchange};
use crate::disk::{Completion, Submission};
use crate::ids::Nuid;
use crate::planted::{self, Bug};
use crate::rng::{HashMap, Rng};
use crate::storage::file::ScrubPace;
use crate::storage::{OwnerId, Position, StorageKind};
use crate::time::{Duration, Instant, Now};

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
    /// The same, under the name of the domain.
    Domain,
    /// A subject of a stream.
    Stream(usize),
    /// Direct gets of a stream.
    Direct(usize),
    /// Acknowledgements of a consumer.
    Ack(usize),
    /// Pull requests of a consumer.
    Next(usize),
    /// Answers of a push consumer's subscriber.
    FlowControl(usize),
    /// Answers to the chunks of a backup.
    SnapshotAck(usize),
    /// The chunks of a backup that is restored.
    Restore(usize),
}

/// What an owner in the volume is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owned {
    Stream(usize),
    Consumer(usize),
    /// A stream that is being restored.
    Restore(usize),
}

/// A request that changes a stream, and is answered when the change is applied.
#[derive(Debug)]
enum Ticketed {
    Purge(Asked),
    Remove(Asked),
    /// And when the catalogue has it.
    Update(Asked, Option<Position>),
    /// The store's settings are made those of the catalogue, after a start.
    Align,
}

/// The requests of the API that a server alone has, but for those that consumers and streams listen to themselves.
const API_SUBJECTS: [&str; 15] = [
    "$JS.API.*",
    "$JS.API.STREAM.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DURABLE.CREATE.>",
    "$JS.API.CONSUMER.NAMES.*",
    "$JS.API.CONSUMER.LIST.*",
    "$JS.API.CONSUMER.INFO.*.*",
    "$JS.API.CONSUMER.DELETE.*.*",
    "$JS.API.CONSUMER.PAUSE.*.*",
    "$JS.API.CONSUMER.UNPIN.*.*",
    "$JS.API.CONSUMER.RESET.*.*",
    "$JS.API.CONSUMER.LEADER.STEPDOWN.*.*",
    "$JS.API.ACCOUNT.>",
    "$JS.API.META.>",
    "$JS.API.SERVER.>",
];

/// JetStream on one shard.
#[derive(Debug)]
pub(crate) struct JetStream {
    id: EngineId,
    /// The engines that the server has; none while that isn't known.
    engines: u64,
    /// Which streams the server has: the home engine's.
    home: Option<Directory>,
    started: Instant,
    /// Whether the streams of the catalogue are subscribed.
    listens: bool,
    /// Whether the stores have been ready.
    running: bool,
    request_queue_limit: usize,
    stores: Stores,
    /// Who leads every stream here.
    server_name: String,
    domain: String,
    version: String,
    /// Whether requests with fields that nobody knows are refused.
    strict: bool,
    limits: ServerLimits,
    /// The longest message that a client may send, in bytes.
    max_payload: u64,
    max_memory: Option<u64>,
    max_store: Option<u64>,
    /// The system account, if there is one.
    system: Option<u32>,
    accounts: Vec<AccountAssets>,
    /// Of all accounts; and of those what other engines have, in all and by engine and account.
    used: Used,
    elsewhere: Used,
    theirs: BTreeMap<(EngineId, u32), Used>,
    streams: Slab<StreamAssets>,
    consumers: Slab<ConsumerAssets>,
    owners: HashMap<OwnerId, Owned>,
    services: HashMap<u32, Service>,
    /// What came before the stores were ready.
    held: VecDeque<Arrived>,
    held_said: VecDeque<Said>,
    /// What came before it was known which streams there are.
    held_requests: VecDeque<Asked>,
    /// What is done when the catalogue durably has a change, in the order of the changes.
    recorded: VecDeque<(Position, Recorded)>,
    last_recorded: Position,
    tickets: HashMap<u64, Ticketed>,
    next_ticket: u64,
    listings: VecDeque<Listing>,
    snapshots: Slab<Snapshot>,
    restores: Slab<Restore>,
    /// Push consumers, by account and the subject that they deliver to.
    pushing: BTreeMap<(u32, Box<[u8]>), Vec<usize>>,
    /// Owners of which the journal has entries and nobody knows, until it is read.
    unclaimed: Vec<OwnerId>,
    /// What is there and nothing names, since the catalogue was damaged.
    strays: BTreeSet<OwnerId>,
    /// Streams that have something to propose and found too much waiting in the journal.
    busy: Vec<usize>,
    /// How much may wait at a stream.
    inbound: Inbound,
    turns: VecDeque<Turn>,
    deadlines: BTreeSet<(Instant, Turn)>,
    notices: VecDeque<Notice>,
    /// What it has to say to other engines, until their turn has come.
    unsaid: VecDeque<EngineMessage>,
    nuid: Nuid,
    rng: Rng,
    /// What the machine that is being called says; empty between calls.
    out: Vec<Outgoing>,
}

impl JetStream {
    /// Opens what there is. `accounts` are the shard's, in its order.
    pub(crate) fn new(
        now: Now,
        id: EngineId,
        (options, server_name): (&Options, &str),
        accounts: &[Arc<str>],
        exchange: &mut Exchange,
        mut rng: Rng,
    ) -> Option<Self> {
        let settings = options.jetstream.as_ref()?;
        let sync_interval = match settings.sync {
            SyncPolicy::Always => None,
            SyncPolicy::Interval(interval) => Some(interval),
        };
        let scrub =
            settings.scrub_interval.map(|every| ScrubPace { bytes_per_second: settings.scrub_rate, every });
        let config = StoresConfig {
            sync_interval,
            cache: CACHE,
            index_budget: INDEX_BUDGET,
            scrub,
            key: settings.encryption_key.clone(),
            previous_key: settings.previous_encryption_key.clone(),
            cipher: settings.store_cipher(),
        };
        let assets = |name: &Arc<str>| AccountAssets {
            name: Arc::clone(name),
            limits: options.account_jetstream(name),
            streams: BTreeMap::new(),
            used: Used::default(),
            elsewhere: Used::default(),
            told: Used::default(),
            api_total: 0,
            api_errors: 0,
        };
        let mut services = HashMap::with_hasher(rng.hash_keys());
        let system = options.system_account_name();
        for account in (0..accounts.len()).filter(|_| id == EngineId::HOME) {
            for subject in API_SUBJECTS {
                if let Ok(service) = exchange.serve_shared(account as u32, subject.as_bytes()) {
                    services.insert(service, Service::Api);
                }
            }
            if let Some(domain) = &options.jetstream_domain
                && let Ok(service) = exchange.serve(account as u32, format!("$JS.{domain}.API.>").as_bytes())
            {
                services.insert(service, Service::Domain);
            }
        }
        Some(JetStream {
            id,
            engines: 0,
            home: (id == EngineId::HOME).then(|| Directory::new(accounts.len())),
            started: now.instant,
            listens: false,
            running: false,
            request_queue_limit: usize::try_from(settings.request_queue_limit).unwrap_or(usize::MAX),
            stores: Stores::open(id, config, rng.child()),
            server_name: server_name.to_owned(),
            domain: options.jetstream_domain.clone().unwrap_or_default(),
            version: crate::protocol::info::REFERENCE_VERSION.to_owned(),
            strict: settings.strict,
            limits: server_limits(settings),
            max_payload: options.max_payload.map_or(0, u64::from),
            max_memory: settings.max_memory,
            max_store: settings.max_store,
            system: accounts.iter().position(|name| Some(&**name) == system).map(|at| at as u32),
            accounts: accounts.iter().map(assets).collect(),
            used: Used::default(),
            elsewhere: Used::default(),
            theirs: BTreeMap::new(),
            streams: Slab::new(),
            consumers: Slab::new(),
            owners: HashMap::with_hasher(rng.hash_keys()),
            services,
            held: VecDeque::new(),
            held_said: VecDeque::new(),
            held_requests: VecDeque::new(),
            recorded: VecDeque::new(),
            last_recorded: Position::default(),
            tickets: HashMap::with_hasher(rng.hash_keys()),
            next_ticket: 0,
            listings: VecDeque::new(),
            snapshots: Slab::new(),
            restores: Slab::new(),
            pushing: BTreeMap::new(),
            unclaimed: Vec::new(),
            strays: BTreeSet::new(),
            busy: Vec::new(),
            inbound: inbound(settings),
            turns: VecDeque::new(),
            deadlines: BTreeSet::new(),
            notices: VecDeque::new(),
            unsaid: VecDeque::new(),
            nuid: Nuid::new(rng.child()),
            rng,
            out: Vec::new(),
        })
    }

    /// Takes a message that came through one of its subscriptions.
    pub(crate) fn arrived(&mut self, now: Now, exchange: &mut Exchange, message: Arrived) {
        if !self.running {
            // As in the reference, more than may wait isn't answered at all.
            if self.held.len() < self.request_queue_limit && !planted::bug(Bug::JsHeldDropped) {
                self.held.push_back(message);
            }
            return;
        }
        match self.services.get(&message.service) {
            Some(Service::Api) => self.request(now, exchange, message.into()),
            Some(Service::Domain) => self.in_domain(now, exchange, message),
            Some(&Service::Stream(key)) => self.published(now, exchange, key, message),
            Some(&Service::Direct(key)) => self.direct_get(now, exchange, key, &message),
            Some(&(Service::Ack(key) | Service::Next(key) | Service::FlowControl(key))) => {
                self.for_consumer(now, exchange, key, &message);
            }
            Some(&Service::SnapshotAck(key)) => self.snapshot_answered(key),
            Some(&Service::Restore(key)) => self.restore_chunk(now, exchange, key, &message),
            // It was withdrawn when the message was on its way already.
            None => {}
        }
    }

    /// Somebody named the domain: what was asked is asked again without it.
    fn in_domain(&mut self, now: Now, exchange: &mut Exchange, message: Arrived) {
        let Some(to) = without_domain(&message.subject, &self.domain) else { return };
        let Arrived { account, origin, client, reply, headers, payload, .. } = message;
        let outgoing = Outgoing { to: to.into(), subject: Bytes::new(), reply, headers, payload };
        exchange.publish_for(now.instant, (account, origin, client.as_ref()), &outgoing);
    }

    /// A message was published to a subject of a stream.
    fn published(&mut self, now: Now, exchange: &mut Exchange, key: usize, message: Arrived) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let account = stream.account;
        if stream.machine.is_none() {
            return self.hold(key, message);
        }
        // Other streams of the account, here and elsewhere, have taken of what was left.
        self.set_budget(key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some((machine, mut view)) = stream.parts(&mut self.stores) else { return };
        let listeners = Listeners { exchange, account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let Arrived { subject, reply, headers, payload, .. } = message;
        machine.publish(&mut context, &mut view, Incoming { subject, reply, headers, payload });
        self.follow_up(now, exchange, key);
    }

    /// Keeps a message for a stream, or for a consumer of it, that doesn't run yet: as many as may wait at one that does.
    fn hold(&mut self, key: usize, message: Arrived) {
        let most = self.inbound.messages;
        if let Some(stream) = self.streams.get_mut(key)
            && stream.held.len() < most
        {
            stream.held.push_back(message);
        }
    }

    /// Deals with what was kept for a stream and its consumers.
    fn take_held(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        for message in std::mem::take(&mut stream.held) {
            self.arrived(now, exchange, message);
        }
    }

    /// Something came for a consumer.
    fn for_consumer(&mut self, now: Now, exchange: &mut Exchange, key: usize, message: &Arrived) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let stream = consumer.stream;
        let Some(machine) = &mut consumer.machine else { return self.hold(stream, message.clone()) };
        let listeners = Listeners { exchange, account: consumer.account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let Arrived { service, subject, reply, headers, payload, .. } = message;
        match self.services.get(service) {
            Some(Service::Next(_)) => machine.next_request(reply, headers, payload, &mut context),
            Some(Service::Ack(_)) => machine.acknowledgement(subject, reply, payload, &mut context),
            _ => machine.flow_control_answered(subject, headers, &mut context),
        }
        self.consumer_follow_up(now, exchange, key);
    }

    /// Somebody asks for messages themselves.
    fn direct_get(&mut self, now: Now, exchange: &mut Exchange, key: usize, message: &Arrived) {
        let Some(stream) = self.streams.get(key) else { return };
        if message.reply.is_empty() {
            return;
        }
        if level::requires_too_much(&message.headers) {
            return self.answer_status(now, exchange, message, 412, "Required Api Level");
        }
        let prefix = "$JS.API.DIRECT.GET.".len() + stream.config.name.len();
        let last = message.subject.get(prefix + 1..).map(|subject| String::from_utf8_lossy(subject));
        let request = match &last {
            Some(subject) => MessageGetRequest::parse_direct_last(subject, &message.payload),
            None => MessageGetRequest::parse_direct(&message.payload),
        };
        match request {
            Ok(request) => {
                let get = requests::direct(&request, message.reply.clone());
                self.do_task(now, exchange, key, Task::Direct(get));
            }
            Err(reason) => self.answer_status(now, exchange, message, 408, reason),
        }
    }

    /// Answers with a status alone.
    fn answer_status(&self, now: Now, exchange: &mut Exchange, message: &Arrived, code: u16, text: &str) {
        let mut headers = Vec::new();
        crate::protocol::headers::status(&mut headers, code, text);
        let outgoing = Outgoing { to: message.reply.clone(), headers: headers.into(), ..Outgoing::default() };
        exchange.publish_own(now.instant, message.account, &outgoing);
    }

    /// Has a stream changed by request.
    fn change_stream(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        request: super::stream::Request,
        ticketed: Ticketed,
    ) {
        self.next_ticket += 1;
        let ticket = Ticket(self.next_ticket);
        self.tickets.insert(ticket.0, ticketed);
        match &mut self.streams[key].machine {
            Some(machine) => machine.request(ticket, request),
            None => self.streams[key].changes.push((ticket, request)),
        }
        self.follow_up(now, exchange, key);
    }

    /// Takes what became of a request to the disk.
    pub(crate) fn handle_disk(&mut self, now: Now, completion: Completion) {
        self.stores.handle_disk(now.instant, completion);
    }

    /// Tells those who wait at consumers that the server goes away.
    pub(crate) fn shut_down(&mut self, now: Now, exchange: &mut Exchange) {
        let keys: Vec<usize> = self.consumers.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let account = consumer.account;
            let Some(machine) = &mut consumer.machine else { continue };
            let listeners = Listeners { exchange, account };
            let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
            machine.shut_down(&mut context);
            self.publish_out(now, exchange, account);
        }
    }

    /// Tells whether clients would find their streams: whether what they publish and ask is listened to.
    pub(crate) fn listens(&self) -> bool {
        self.listens && self.knows_all()
    }

    /// Publishes what a machine has said.
    fn publish_out(&mut self, now: Now, exchange: &mut Exchange, account: u32) {
        for outgoing in self.out.drain(..) {
            exchange.publish_own(now.instant, account, &outgoing);
        }
    }

    /// Returns how many bytes the server has for streams of a kind.
    fn server_max(&self, kind: StorageKind) -> i64 {
        let max = match kind {
            StorageKind::Memory => self.max_memory,
            StorageKind::File => self.max_store,
        };
        max.map_or(i64::MAX, |max| i64::try_from(max).unwrap_or(i64::MAX))
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

fn server_limits(settings: &JetStreamOptions) -> ServerLimits {
    let count = |limit: Option<u32>| limit.map_or(0, i64::from);
    ServerLimits {
        max_request_batch: count(settings.limits.max_request_batch),
        max_ack_pending: count(settings.limits.max_ack_pending),
        duplicate_window: settings.limits.duplicate_window.unwrap_or(Duration::ZERO),
        default_max_consumers: count(settings.limits.default_max_consumers),
    }
}

/// Returns how much may wait at a stream.
fn inbound(settings: &JetStreamOptions) -> Inbound {
    let unless_said = Inbound::default();
    let said = |limit: Option<u64>| limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    Inbound {
        messages: said(settings.max_buffered_msgs).unwrap_or(unless_said.messages),
        bytes: said(settings.max_buffered_size).unwrap_or(unless_said.bytes),
    }
}
