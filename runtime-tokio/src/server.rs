//! A whole server: its shards' threads, and how the rest of the process talks to them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use natrix_core::config::Options;
use natrix_core::ids::ShardId;
use natrix_core::monitoring::{ControlReply, ControlRequest};
use natrix_core::shard::io::LogRecord;
use natrix_core::shard::{Boot, ServerIdentity, Shard};
use tokio::sync::mpsc;

use crate::disk::RealDisk;
use crate::inbox::{Event, Inbox, lock};
use crate::native::Native;
use crate::platform::Platform;
use crate::shard_loop::ShardLoop;
use crate::tls::{Tls, TlsError};

/// Hears what happens to a server; called on the shards' threads, so nothing here may take long.
pub trait Observer: Send + Sync + 'static {
    /// A line for the log.
    fn log(&self, record: LogRecord);
    /// The server accepts clients.
    fn listening(&self, address: SocketAddr);
    /// The server can't do its work; the reason is logged already.
    fn failed(&self);
    /// All shards have closed what they had.
    fn stopped(&self);
}

/// What a server is made from.
pub struct ServerConfig {
    /// Its settings.
    pub options: Arc<Options>,
    /// Who it is.
    pub identity: Arc<ServerIdentity>,
    /// How many shards, 1 to [`Shard::MAX_SHARDS`].
    pub shards: u16,
    /// All randomness comes from here.
    pub seed: [u8; 32],
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
}

/// Why a server can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The TLS settings can't be made to work.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The folder for streams can't be used.
    #[error("cannot use the store directory {path}: {error}")]
    Store {
        /// The folder.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// A thread or its runtime couldn't be made.
    #[error("cannot start a shard: {0}")]
    Thread(#[from] std::io::Error),
}

/// What all shards' loops and the handle share.
pub(crate) struct Shared<A> {
    pub(crate) inboxes: Vec<Inbox<A>>,
    /// Open sockets of each shard, by which new ones are placed.
    pub(crate) loads: Vec<AtomicUsize>,
    pub(crate) observer: Arc<dyn Observer>,
    questions: Mutex<HashMap<u64, mpsc::UnboundedSender<ControlReply>>>,
    running: AtomicUsize,
}

impl<A> Shared<A> {
    /// Hands a shard's answer to whoever asked.
    pub(crate) fn answer(&self, id: u64, reply: ControlReply) {
        if let Some(asker) = lock(&self.questions).get(&id) {
            // Whoever asked may have stopped waiting.
            let _ = asker.send(reply);
        }
    }

    /// Notes that a shard's loop has ended.
    pub(crate) fn shard_ended(&self) {
        if self.running.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.observer.stopped();
        }
    }
}

/// A running server.
///
/// Dropping it doesn't stop the server: ask for [`ControlRequest::Shutdown`].
pub struct Server<A = std::net::TcpStream> {
    shared: Arc<Shared<A>>,
    next_question: AtomicU64,
}

impl Server {
    /// Starts a server on the operating system's sockets, a thread for each shard.
    ///
    /// # Errors
    ///
    /// When the TLS files aren't right or a thread can't be made. That the address can't be bound is told to the
    /// observer, later.
    pub fn start(config: &ServerConfig) -> Result<Self, StartError> {
        let platform = Native::new();
        let (server, loops) = Server::prepare(config, &platform)?;
        for (index, shard_loop) in loops.into_iter().enumerate() {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                // The loop is one task that is nearly always runnable under load: the reactor must have its turn
                // after each of its passes, or new bytes would wait for the sixty-first.
                .event_interval(1)
                .max_blocking_threads(4)
                .build()?;
            thread::Builder::new().name(format!("shard-{index}")).spawn(move || {
                let _guard = AbortOnPanic;
                runtime.block_on(tokio::task::unconstrained(shard_loop.run()));
                runtime.shutdown_background();
            })?;
        }
        Ok(server)
    }
}

impl<A: Send + 'static> Server<A> {
    /// Runs a server whose shards are tasks of the calling runtime, on any platform.
    ///
    /// # Errors
    ///
    /// As for [`Server::start`].
    pub fn spawn<P: Platform<Accepted = A>>(config: &ServerConfig, platform: &P) -> Result<Self, StartError> {
        let (server, loops) = Server::prepare(config, platform)?;
        for shard_loop in loops {
            platform.spawn(tokio::task::unconstrained(shard_loop.run()));
        }
        Ok(server)
    }

    fn prepare<P: Platform<Accepted = A>>(
        config: &ServerConfig,
        platform: &P,
    ) -> Result<(Self, Vec<ShardLoop<P>>), StartError> {
        let tls = config.options.tls.as_ref().map(Tls::new).transpose()?;
        let shards = usize::from(config.shards);
        let shared = Arc::new(Shared {
            inboxes: (0..shards).map(|_| Inbox::new()).collect(),
            loads: (0..shards).map(|_| AtomicUsize::new(0)).collect(),
            observer: Arc::clone(&config.observer),
            questions: Mutex::new(HashMap::new()),
            running: AtomicUsize::new(shards),
        });
        let mut seeds = natrix_core::rng::Rng::from_seed(config.seed);
        let loops = (0..config.shards)
            .map(|index| {
                let mut seed = [0; 32];
                seeds.fill(&mut seed);
                let boot = Boot {
                    shard: ShardId(index),
                    shards: config.shards,
                    seed,
                    options: Arc::clone(&config.options),
                    identity: Arc::clone(&config.identity),
                };
                let disk = open_disk(&config.options, &shared, ShardId(index))?;
                let shard = Shard::new(platform.now(), boot);
                let (platform, shared) = (platform.clone(), Arc::clone(&shared));
                Ok(ShardLoop::new(ShardId(index), shard, platform, shared, tls.clone(), disk))
            })
            .collect::<Result<_, StartError>>()?;
        Ok((Server { shared, next_question: AtomicU64::new(1) }, loops))
    }

    /// Asks every shard and returns the answers of those that still run, in no order.
    pub async fn ask(&self, request: ControlRequest) -> Vec<ControlReply> {
        let id = self.next_question.fetch_add(1, Ordering::Relaxed);
        let (sender, mut receiver) = mpsc::unbounded_channel();
        lock(&self.shared.questions).insert(id, sender);
        for inbox in &self.shared.inboxes {
            inbox.push(Event::Control { id, request: request.clone() });
        }
        let mut replies = Vec::with_capacity(self.shared.inboxes.len());
        // A shard that has ended answers nothing any more.
        while replies.len() < self.shared.running.load(Ordering::Acquire) {
            match tokio::time::timeout(PATIENCE, receiver.recv()).await {
                Ok(Some(reply)) => replies.push(reply),
                Ok(None) | Err(_) => break,
            }
        }
        lock(&self.shared.questions).remove(&id);
        replies
    }

    /// Gives every shard an order and doesn't wait for it to be followed.
    pub fn order(&self, request: &ControlRequest) {
        for inbox in &self.shared.inboxes {
            inbox.push(Event::Control { id: 0, request: request.clone() });
        }
    }

    /// Returns the number of shards.
    pub fn shards(&self) -> usize {
        self.shared.inboxes.len()
    }
}

/// How many operations on files are under way at once, for each shard.
const DISK_THREADS: usize = 4;

/// Opens the folder for streams, if there are to be any: all shards work in one.
fn open_disk<A: Send + 'static>(
    options: &Options,
    shared: &Arc<Shared<A>>,
    shard: ShardId,
) -> Result<Option<RealDisk>, StartError> {
    if options.jetstream.is_none() {
        return Ok(None);
    }
    // The reference's names, so that operators find it where they look.
    let parent = options.store_dir.as_ref().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = parent.join("jetstream");
    // The disk's threads end with the loop that owns it, so they may hold on to its inbox.
    let shared = Arc::clone(shared);
    let disk = RealDisk::open(&folder, DISK_THREADS, move |completion| {
        shared.inboxes[shard.index()].push(Event::Disk(completion));
    });
    disk.map(Some).map_err(|error| StartError::Store { path: folder.display().to_string(), error })
}

/// How long a shard may take to answer before it is given up.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);

/// A server that has lost a shard serves some of its clients wrongly: none is better.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            std::process::abort();
        }
    }
}

/// Returns how many shards a server has unless told otherwise.
///
/// One up to four cores: clients, kernel and shards share them, and messages between shards cost more than they
/// save (`docs/performance.md`). Half of the cores beyond.
pub fn default_shards(cores: usize) -> u16 {
    let half = u16::try_from(cores / 2).unwrap_or(u16::MAX);
    if cores <= 4 { 1 } else { half.min(Shard::MAX_SHARDS) }
}

/// Draws a seed from the operating system.
///
/// # Panics
///
/// If the operating system has no randomness to give; nothing safe can run then.
pub fn random_seed() -> [u8; 32] {
    let mut seed = [0; 32];
    let mut filled = 0;
    while filled < seed.len() {
        filled += rustix::rand::getrandom(&mut seed[filled..], rustix::rand::GetRandomFlags::empty())
            .expect("the operating system has randomness");
    }
    seed
}
