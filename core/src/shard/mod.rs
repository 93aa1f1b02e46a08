//! The shard: one single-threaded state machine that owns its connections and its copy of the interest graph.
//!
//! [`io`] is the whole boundary. Inside, a shard is an exchange (`delivery`), where published messages meet
//! subscriptions, and around it what belongs to single connections:
//!
//! - `lifecycle`: admission, TLS, INFO, closing;
//! - `receive`: bytes to operations;
//! - `operations`: what each operation does;
//! - `login`: CONNECT and what follows from it;
//! - `messages`: what other shards say;
//! - `timers`: what is due;
//! - `tracing`: operations in the words of the log;
//! - `home`: server-wide decisions, on shard 0 only;
//! - `streaming`: JetStream's turn in each `handle`;
//! - `control`: monitoring, lame duck mode, shutdown.
//!
//! Invariants: after every `handle`, the exchange has no effect left and no doomed connection is open; a connection
//! is parked exactly while its reading is paused.

mod control;
mod describe;
mod home;
pub mod io;
mod lifecycle;
mod login;
pub mod mailbox;
mod messages;
mod operations;
mod receive;
mod settings;
mod streaming;
#[cfg(test)]
mod tests;
mod timers;
mod tracing;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use home::Home;
use io::{Input, LogLevel, LogRecord, Output};
use mailbox::ShardMessage;
pub use settings::ServerIdentity;
use settings::Settings;
use timers::Timers;

use crate::auth::authenticator::{Authenticator, Identity};
use crate::config::Options;
use crate::connection::Outbound;
use crate::connection::read_block::{HEADROOM, READ_SIZE, ReadBlock};
use crate::connection::throttle::Throttle;
use crate::delivery::{Effect, Exchange, Limits};
use crate::ids::{ConnId, ShardId};
use crate::jetstream::engine::{EngineId, EngineMessage, JetStream};
use crate::monitoring::{ClosedRing, ShardStats};
use crate::rng::Rng;
use crate::time::{Instant, Now};

/// What a shard is made from.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Which shard of the server it is.
    pub shard: ShardId,
    /// How many the server has, 1 to [`Shard::MAX_SHARDS`].
    pub shards: u16,
    /// Everything random in it comes from here; another one for each shard.
    pub seed: [u8; 32],
    /// The server's settings, the same for all its shards.
    pub options: Arc<Options>,
    /// Who the server is, the same for all its shards.
    pub identity: Arc<ServerIdentity>,
}

/// How far a shard is from its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Running,
    /// Nobody is accepted any more; connections are closed one after the other.
    LameDuck {
        next_close: Instant,
        every: std::time::Duration,
        /// The first connection was closed, and the log says so.
        closing: bool,
    },
    /// All connections are closed.
    Stopped,
}

/// One shard of a server; see the module.
#[derive(Debug)]
pub struct Shard {
    me: ShardId,
    shards: u16,
    settings: Settings,
    identity: Arc<ServerIdentity>,
    authenticator: Authenticator,
    exchange: Exchange,
    home: Option<Home>,
    read: ReadBlock,
    timers: Timers,
    rng: Rng,
    outputs: VecDeque<Output>,
    /// The host and port that clients are told, once the server listens.
    reached_at: Option<(String, i64)>,
    /// Who a connection will be if its password is right.
    candidates: BTreeMap<ConnId, Identity>,
    /// Connections that had their share of a `handle` and go on in the next tick.
    backlog: VecDeque<ConnId>,
    /// Connections that wait for a shard to owe less.
    owed: Vec<(ConnId, ShardId)>,
    closed: ClosedRing,
    stats: ShardStats,
    stage: Stage,
    /// Bounds the TLS handshakes of a second, if `connection_rate_limit` does.
    tls_throttle: Option<Throttle>,
    /// Streams and consumers, if the server has any: the shard's own engine, and those of shards that are no more.
    jetstream: Vec<JetStream>,
    /// What those engines were told, oldest first.
    heard: VecDeque<EngineMessage>,
    /// What engines are made from.
    options: Arc<Options>,
    /// What makes the server listen, until it does.
    listen: Option<Output>,
}

impl Shard {
    /// The most shards that a server can have: sets of shards are 64 bits.
    pub const MAX_SHARDS: u16 = 64;

    /// Makes a shard. Its first outputs wait already.
    ///
    /// # Panics
    ///
    /// If the numbers in `boot` contradict each other.
    pub fn new(now: Now, boot: Boot) -> Self {
        let Boot { shard: me, shards, seed, options, identity } = boot;
        assert!((1..=Self::MAX_SHARDS).contains(&shards) && me.0 < shards, "shards are numbered from zero");
        let mut rng = Rng::from_seed(seed);
        let settings = Settings::new(&options);
        let limits = Limits {
            max_pending: settings.max_pending,
            no_fast_producer_stall: options.no_fast_producer_stall,
            trace: options.logging.trace,
        };
        let cached = !options.disable_sublist_cache;
        let mut exchange = Exchange::new(me, shards, &settings.accounts, cached, limits, rng.child());
        let jetstream = match me {
            // The others open theirs when the folder is locked.
            ShardId::HOME => {
                let accounts = &settings.accounts;
                let engine = EngineId::HOME;
                JetStream::new(now, engine, (&options, &identity.name), accounts, &mut exchange, rng.child())
            }
            _ => None,
        };
        let mut shard = Shard {
            me,
            shards,
            authenticator: Authenticator::new(&options),
            closed: ClosedRing::new(options.max_closed_clients),
            tls_throttle: settings
                .tls_rate_limit
                .map(|limit| Throttle::new(limit.div_ceil(u32::from(shards)))),
            settings,
            identity,
            exchange,
            home: (me == ShardId::HOME).then(|| Home::new(&options)),
            read: ReadBlock::new(),
            timers: Timers::default(),
            rng,
            outputs: VecDeque::new(),
            reached_at: None,
            candidates: BTreeMap::new(),
            backlog: VecDeque::new(),
            owed: Vec::new(),
            stats: ShardStats::default(),
            stage: Stage::Running,
            jetstream: jetstream.into_iter().collect(),
            heard: VecDeque::new(),
            options: Arc::clone(&options),
            listen: None,
        };
        shard.ask_disk();
        if me == ShardId::HOME {
            let (host, port) = (options.host.clone(), options.port);
            shard.listen = Some(Output::Listen { listener: io::Listener::Client, host, port });
            shard.listen_if_ready();
        }
        shard
    }

    /// Takes one thing that happened. Drain [`Shard::poll_output`] afterwards.
    pub fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Received { conn, n } => self.received(now, conn, n),
            Input::Written { conn, n } => self.written(now, conn, n),
            Input::FromShard(message) => self.shard_says(now, message),
            Input::Tick => self.tick(now),
            Input::Accepted { listener: io::Listener::Client, conn, peer, .. } => {
                self.accepted(now, conn, peer);
            }
            Input::Closed { conn, cause } => self.connection_lost(now, conn, cause),
            Input::TlsEstablished { conn, peer } => self.tls_established(now, conn, peer),
            Input::TlsFailed { conn, failure } => self.tls_failed(now, conn, &failure),
            Input::Work(done) => self.password_checked(now, done),
            Input::Listening { address, .. } => self.listening(address),
            Input::ListenFailed { error, .. } => self.listen_failed(&error),
            Input::Control { id, request } => self.control(now, id, &request),
            Input::Disk(completion) => {
                let engine = EngineId::of_token(completion.token);
                if let Some(jetstream) = self.jetstream.iter_mut().find(|own| own.id() == engine) {
                    jetstream.handle_disk(now, completion);
                }
            }
        }
        self.stream(now);
        self.settle(now);
    }

    /// Returns what the runtime is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Returns when [`Input::Tick`] is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if !self.backlog.is_empty()
            || self.exchange.is_removing()
            || (self.engines_have_more() && !self.jetstream.is_empty())
        {
            return Some(Instant::ZERO);
        }
        let lame_duck = match self.stage {
            Stage::LameDuck { next_close, .. } => Some(next_close),
            Stage::Running | Stage::Stopped => None,
        };
        let throttle = self.tls_throttle.as_ref().and_then(Throttle::poll_timeout);
        let jetstream = self.jetstream.iter().filter_map(JetStream::poll_timeout);
        self.timers.next().into_iter().chain(lame_duck).chain(throttle).chain(jetstream).min()
    }

    /// Returns where to read to, for a connection whose reading is not paused.
    ///
    /// The slice is valid until the next `read_target`; [`Input::Received`] says how much of it was filled.
    pub fn read_target(&mut self, conn: ConnId) -> &mut [u8] {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return self.read.prepare(&[]) };
        client.forget_target();
        if let Some(large) = &mut client.large {
            return large.buffer.target();
        }
        if client.unfinished.len() <= HEADROOM {
            return self.read.prepare(&client.unfinished);
        }
        // A line that is longer than the headroom, where the configuration allows such lines.
        let kept = client.unfinished.len();
        client.unfinished.resize(kept + READ_SIZE, 0);
        client.reads_into_unfinished = Some(kept);
        &mut client.unfinished[kept..]
    }

    /// Returns the bytes that wait for a socket.
    pub fn outbound(&self, conn: ConnId) -> Outbound<'_> {
        self.exchange.clients.get(conn).map_or(Outbound::EMPTY, |client| client.outbound.view())
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.exchange.clients.len()
    }

    /// Returns the bytes that the shard keeps for its connections: queued, unfinished, and shared by slow readers.
    pub fn buffered_bytes(&self) -> usize {
        let each =
            |client: &crate::connection::client::Client| client.outbound.pending() + client.unfinished.len();
        self.exchange.clients.iter().map(each).sum::<usize>() + self.read.shared_bytes()
    }

    /// Returns how many interests of its connections the shard has told the others of, and not taken back.
    pub fn interests_told(&self) -> usize {
        self.exchange.interests_told()
    }

    /// Returns how many interests of another shard this one knows of.
    pub fn interests_of(&self, shard: ShardId) -> usize {
        self.exchange.interests_of(shard)
    }

    /// Does what the exchange asks, until it asks nothing more.
    fn settle(&mut self, now: Now) {
        while let Some(effect) = self.exchange.poll_effect() {
            match effect {
                Effect::Flush(conn) => self.flush(now, conn),
                Effect::Doom(conn) => self.close(now, conn),
                Effect::ShowLine(line) => self.log(LogLevel::Trace, line),
                Effect::Trace { conn, line, payload, header_len } => {
                    self.trace_sent(conn, &line, &payload, header_len);
                }
                Effect::Deliver(shard, batch) => {
                    self.say(shard, ShardMessage::Deliver { from: self.me, batch });
                }
                Effect::Tell(interest, weight) => self.tell_all(|from| ShardMessage::Interest {
                    from,
                    account: interest.account,
                    subject: interest.subject.clone(),
                    queue: interest.queue.clone(),
                    weight,
                }),
                Effect::Bounce(shard, batch) => self.say(shard, ShardMessage::Bounced { batch }),
                Effect::Unreached(shard, batch) => self.say(shard, ShardMessage::Unreached { batch }),
                Effect::Credit(shard, bytes) => {
                    self.say(shard, ShardMessage::Credit { from: self.me, bytes });
                }
                Effect::StallRemote(shard, origin) => self.say(shard, ShardMessage::Stall { origin }),
                Effect::Speak(shard, speaker) => self.let_speak(shard, speaker),
                Effect::Paid(shard) => self.paid(shard),
            }
        }
    }

    fn say(&mut self, shard: ShardId, message: ShardMessage) {
        self.outputs.push_back(Output::ToShard(shard, message));
    }

    fn tell_all(&mut self, message: impl Fn(ShardId) -> ShardMessage) {
        let me = self.me;
        for shard in (0..self.shards).map(ShardId).filter(|shard| *shard != me) {
            self.say(shard, message(me));
        }
    }

    fn log(&mut self, level: LogLevel, text: impl Into<Arc<str>>) {
        self.outputs.push_back(Output::Log(LogRecord { level, text: text.into() }));
    }

    /// Logs a line about one connection, under the name that the reference gives it in logs.
    fn log_client(&mut self, level: LogLevel, conn: ConnId, text: &str) {
        if level < LogLevel::Info && !self.settings.debug {
            return;
        }
        if let Some(client) = self.exchange.clients.get(conn) {
            let line = format!("{} - {text}", describe::log_name(client));
            self.log(level, line);
        }
    }
}
