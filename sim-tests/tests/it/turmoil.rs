//! The real adapter (loops, acceptor, connections) over turmoil's network: several shards as tasks of one runtime.
//!
//! What turmoil adds to the simulator of this workspace is the code that the simulator replaces. Its network drops
//! what is sent into a partition and never sends it again, so a connection that lost a segment is dead, and both
//! ends have to find that out by themselves.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use natrix_core::config::Options;
use natrix_core::monitoring::{ControlReply, ControlRequest};
use natrix_core::shard::ServerIdentity;
use natrix_core::shard::io::LogRecord;
use natrix_core::time::{Instant, Now, WallTime};
use natrix_runtime_tokio::{Observer, Platform, Server, ServerConfig, TokioClock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use turmoil::net::{TcpListener, TcpStream};

const PORT: u16 = 4222;
const SEEDS: std::ops::RangeInclusive<u64> = 1..=8;

/// Turmoil's sockets and its clock.
#[derive(Clone)]
struct Simulated(TokioClock);

impl Platform for Simulated {
    type Listener = TcpListener;
    type Accepted = TcpStream;
    type Stream = TcpStream;

    async fn bind(&self, host: &str, port: u16) -> io::Result<(TcpListener, SocketAddr)> {
        let listener = TcpListener::bind((host, port)).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    }

    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, SocketAddr)> {
        let (stream, peer) = listener.accept().await?;
        let local = stream.local_addr()?;
        Ok((stream, peer, local))
    }

    fn adopt(&self, accepted: TcpStream) -> io::Result<TcpStream> {
        Ok(accepted)
    }

    fn now(&self) -> Now {
        let instant = self.0.instant();
        let nanos = i64::try_from(instant.as_nanos()).expect("a run is short");
        Now { instant, wall: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + nanos) }
    }

    fn give_way(&self) -> bool {
        false
    }

    fn deadline(&self, at: Instant) -> tokio::time::Instant {
        self.0.deadline(at)
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        drop(tokio::spawn(task));
    }

    fn compute(&self, job: impl FnOnce() + Send + 'static) {
        drop(tokio::spawn(async { job() }));
    }
}

#[derive(Default)]
struct Log(Mutex<Vec<String>>);

impl Log {
    fn has(&self, part: &str) -> bool {
        self.0.lock().unwrap().iter().any(|line| line.contains(part))
    }
}

impl Observer for Log {
    fn log(&self, record: LogRecord) {
        self.0.lock().unwrap().push(record.text.to_string());
    }

    fn listening(&self, _: SocketAddr) {}

    fn failed(&self) {
        panic!("the simulated port is free");
    }

    fn stopped(&self) {}
}

/// A simulated network with one server in it; the test adds clients.
struct Stage {
    sim: turmoil::Sim<'static>,
    server: Arc<Mutex<Option<Arc<Server<TcpStream>>>>>,
    log: Arc<Log>,
}

impl Stage {
    fn new(seed: u64, shards: u16, options: Options) -> Self {
        let mut sim = turmoil::Builder::new()
            .rng_seed(seed)
            .enable_random_order()
            .simulation_duration(Duration::from_secs(120))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(Duration::from_millis(20))
            .build();
        let (server, log) = (Arc::new(Mutex::new(None)), Arc::new(Log::default()));
        let (slot, observer) = (Arc::clone(&server), Arc::clone(&log));
        sim.host("server", move || {
            let (slot, observer) = (Arc::clone(&slot), Arc::clone(&observer));
            let options = Options { host: "0.0.0.0".into(), port: PORT, ..options.clone() };
            async move {
                let mut bytes = [0; 32];
                bytes[..8].copy_from_slice(&seed.to_le_bytes());
                let config = ServerConfig {
                    identity: Arc::new(ServerIdentity::from_seed(bytes, &options)),
                    options: Arc::new(options),
                    shards,
                    seed: bytes,
                    observer,
                };
                let started = Server::spawn(&config, &Simulated(TokioClock::start()))?;
                *slot.lock().unwrap() = Some(Arc::new(started));
                std::future::pending::<()>().await;
                Ok(())
            }
        });
        Stage { sim, server, log }
    }
}

/// Counts the server's connections, all shards together.
async fn connections(server: &Mutex<Option<Arc<Server<TcpStream>>>>) -> u64 {
    let server = server.lock().unwrap().clone().expect("the server runs");
    let replies = server.ask(ControlRequest::Varz).await;
    assert_eq!(replies.len(), server.shards(), "every shard answers");
    replies
        .into_iter()
        .map(|reply| match reply {
            ControlReply::Varz(stats) => stats.connections,
            other => panic!("{other:?}"),
        })
        .sum()
}

/// A client that speaks lines.
struct Client {
    stream: TcpStream,
    heard: Vec<u8>,
}

impl Client {
    async fn connect() -> io::Result<Self> {
        let stream = TcpStream::connect(("server", PORT)).await?;
        let mut client = Client { stream, heard: Vec::new() };
        let info = client.line().await?;
        assert!(info.starts_with("INFO {"), "{info}");
        client.send("CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
        Ok(client)
    }

    /// Tries until the network lets it through.
    async fn reconnect() -> Self {
        loop {
            if let Ok(Ok(client)) = tokio::time::timeout(Duration::from_secs(1), Client::connect()).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes()).await
    }

    /// Subscribes and waits until the server has taken note.
    async fn subscribe(&mut self, subject: &str) -> io::Result<()> {
        self.send(&format!("SUB {subject} 1\r\n")).await?;
        self.flush().await
    }

    /// Waits until the server has dealt with all that was sent.
    async fn flush(&mut self) -> io::Result<()> {
        self.send("PING\r\n").await?;
        loop {
            match self.line().await?.as_str() {
                "PONG" => return Ok(()),
                "PING" => self.send("PONG\r\n").await?,
                line => return Err(io::Error::other(line.to_owned())),
            }
        }
    }

    async fn line(&mut self) -> io::Result<String> {
        loop {
            if let Some(end) = self.heard.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.heard.drain(..end + 2).take(end).collect();
                return Ok(String::from_utf8(line).expect("the tests speak text"));
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => self.heard.extend_from_slice(&bytes[..n]),
            }
        }
    }

    /// Returns the next message's payload, answering PINGs; an error when nothing comes for `patience`.
    async fn message(&mut self, patience: Duration) -> io::Result<String> {
        let next = async {
            loop {
                let line = self.line().await?;
                match line.split(' ').next() {
                    Some("PING") => self.send("PONG\r\n").await?,
                    Some("MSG") => return self.line().await,
                    Some("PONG") => {}
                    _ => return Err(io::Error::other(line)),
                }
            }
        };
        tokio::time::timeout(patience, next).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

#[test]
fn messages_cross_the_shards_in_order() {
    for seed in SEEDS {
        let logs = [(); 2].map(|()| cross_the_shards(seed));
        assert!(!logs[0].is_empty());
        assert_eq!(logs[0], logs[1], "seed {seed}: a seed is a run");
    }
}

/// Returns what the server logged.
fn cross_the_shards(seed: u64) -> Vec<String> {
    let mut options = Options::default();
    options.logging.debug = true;
    options.logging.trace = true;
    let mut stage = Stage::new(seed, 3, options);
    // Three connections, one on each shard.
    for reader in ["one", "two"] {
        stage.sim.client(reader, async move {
            let mut client = Client::connect().await?;
            client.subscribe("n").await?;
            for n in 0..100 {
                assert_eq!(client.message(PATIENCE).await?, n.to_string());
            }
            Ok(())
        });
    }
    stage.sim.client("writer", async {
        let mut client = Client::connect().await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        for n in 0..100 {
            let payload = n.to_string();
            client.send(&format!("PUB n {}\r\n{payload}\r\n", payload.len())).await?;
        }
        client.flush().await?;
        Ok(())
    });
    stage.sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    stage.log.0.lock().unwrap().clone()
}

#[test]
fn a_partition_costs_its_time_and_the_stale_connection_is_closed() {
    for seed in SEEDS {
        let mut options =
            Options { ping_interval: Duration::from_secs(1), ping_max: 2, ..Options::default() };
        options.logging.debug = true;
        let mut stage = Stage::new(seed, 2, options);
        let over = Arc::new(Mutex::new(false));
        let (seen, server) = (Arc::clone(&over), Arc::clone(&stage.server));
        stage.sim.client("reader", async move {
            let mut client = Client::connect().await?;
            client.subscribe("n").await?;
            let first: u64 = client.message(PATIENCE).await?.parse()?;
            turmoil::partition("reader", "server");
            let mut last = first;
            // What was in flight may still come; then silence says that the connection is dead.
            while let Ok(text) = client.message(PATIENCE).await {
                let n: u64 = text.parse()?;
                assert_eq!(n, last + 1, "nothing is skipped while the connection lives");
                last = n;
            }
            drop(client);
            assert_eq!(connections(&server).await, 1, "only the writer is left");

            turmoil::repair("reader", "server");
            let mut client = Client::reconnect().await;
            client.subscribe("n").await?;
            let mut next: u64 = client.message(PATIENCE).await?.parse()?;
            assert!(next > last + 1, "the server kept nothing for who was away");
            for _ in 0..10 {
                let n: u64 = client.message(PATIENCE).await?.parse()?;
                assert_eq!(n, next + 1);
                next = n;
            }
            *seen.lock().unwrap() = true;
            Ok(())
        });
        stage.sim.client("writer", async move {
            let mut client = Client::connect().await?;
            for n in 0.. {
                client.send(&format!("PUB n {}\r\n{n}\r\n", n.to_string().len())).await?;
                // Its own PINGs are answered too.
                let _ = client.message(Duration::from_millis(50)).await;
                if *over.lock().unwrap() {
                    break;
                }
            }
            Ok(())
        });
        stage.sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(
            stage.log.has("Client connection closed: Stale Connection"),
            "seed {seed}: the log says why it was closed"
        );
    }
}

#[test]
fn a_held_network_loses_nothing() {
    for seed in SEEDS {
        let mut stage = Stage::new(seed, 2, Options::default());
        stage.sim.client("reader", async {
            let mut client = Client::connect().await?;
            client.subscribe("n").await?;
            for n in 0..20 {
                assert_eq!(client.message(PATIENCE).await?, n.to_string());
            }
            Ok(())
        });
        stage.sim.client("writer", async {
            let mut client = Client::connect().await?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            for n in 0..20 {
                if n == 5 {
                    turmoil::hold("reader", "server");
                }
                client.send(&format!("PUB n {}\r\n{n}\r\n", n.to_string().len())).await?;
                tokio::time::sleep(Duration::from_millis(50)).await;
                if n == 15 {
                    turmoil::release("reader", "server");
                }
            }
            Ok(())
        });
        stage.sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[test]
fn a_slow_reader_is_cut_off_and_costs_the_others_nothing() {
    const COUNT: usize = 400;
    for seed in SEEDS {
        let options = Options { max_pending: 64 * 1024, ..Options::default() };
        let mut stage = Stage::new(seed, 2, options);
        let server = Arc::clone(&stage.server);
        stage.sim.client("slow", async {
            let mut client = Client::connect().await?;
            client.subscribe("big").await?;
            // Longer than all the others need.
            tokio::time::sleep(Duration::from_secs(30)).await;
            let mut heard = 0;
            while client.message(PATIENCE).await.is_ok() {
                heard += 1;
            }
            assert!(heard < COUNT, "it was cut off");
            Ok(())
        });
        stage.sim.client("quick", async {
            let mut client = Client::connect().await?;
            client.subscribe("big").await?;
            for _ in 0..COUNT {
                assert_eq!(client.message(PATIENCE).await?.len(), 1000);
            }
            Ok(())
        });
        stage.sim.client("writer", async move {
            let mut client = Client::connect().await?;
            tokio::time::sleep(Duration::from_secs(2)).await;
            let payload = "x".repeat(1000);
            for _ in 0..COUNT {
                client.send(&format!("PUB big 1000\r\n{payload}\r\n")).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            client.flush().await?;
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert!(connections(&server).await <= 2, "the slow one is closed");
            Ok(())
        });
        stage.sim.run().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(stage.log.has("Slow Consumer Detected"), "seed {seed}: the log says why it was closed");
    }
}
