//! A server in this process and clients that speak bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use natrix_core::config::Options;
use natrix_core::monitoring::{ControlReply, ControlRequest};
use natrix_core::shard::ServerIdentity;
use natrix_core::shard::io::LogRecord;
use natrix_runtime_tokio::{Observer, Server, ServerConfig, random_seed};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

enum Told {
    Listening(SocketAddr),
    Failed,
    Stopped,
}

struct Teller {
    told: Mutex<Sender<Told>>,
    log: Log,
}

type Log = Arc<Mutex<Vec<String>>>;

impl Teller {
    fn tell(&self, told: Told) {
        // The test may be over.
        let _ = self.told.lock().unwrap().send(told);
    }
}

impl Observer for Teller {
    fn log(&self, record: LogRecord) {
        self.log.lock().unwrap().push(record.text.to_string());
    }

    fn listening(&self, address: SocketAddr) {
        self.tell(Told::Listening(address));
    }

    fn failed(&self) {
        self.tell(Told::Failed);
    }

    fn stopped(&self) {
        self.tell(Told::Stopped);
    }
}

pub(crate) struct TestServer {
    server: Server,
    address: SocketAddr,
    told: Receiver<Told>,
    log: Log,
}

impl TestServer {
    pub(crate) fn start(options: Options, shards: u16) -> Self {
        Self::try_start(options, shards).expect("the server listens")
    }

    pub(crate) fn try_start(options: Options, shards: u16) -> Option<Self> {
        let (sender, told) = channel();
        let log = Log::default();
        let identity = Arc::new(ServerIdentity::from_seed([3; 32], &options));
        let config = ServerConfig {
            options: Arc::new(options),
            identity,
            shards,
            seed: random_seed(),
            observer: Arc::new(Teller { told: Mutex::new(sender), log: Arc::clone(&log) }),
        };
        let server = Server::start(&config).unwrap();
        match told.recv_timeout(PATIENCE).unwrap() {
            Told::Listening(address) => Some(TestServer { server, address, told, log }),
            Told::Failed | Told::Stopped => None,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut client = Client { stream };
        let info = client.line();
        assert!(info.starts_with("INFO {\"server_id\":\"N"), "{info}");
        client
    }

    pub(crate) fn ask(&self, request: ControlRequest) -> Vec<ControlReply> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(self.server.ask(request))
    }

    /// Waits until the server has logged a line with this in it.
    pub(crate) fn expect_log(&self, part: &str) {
        let deadline = std::time::Instant::now() + PATIENCE;
        while !self.log.lock().unwrap().iter().any(|line| line.contains(part)) {
            assert!(
                std::time::Instant::now() < deadline,
                "{part:?} is not in {:#?}",
                self.log.lock().unwrap()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn wait_stopped(&self, patience: Duration) {
        assert!(matches!(self.told.recv_timeout(patience), Ok(Told::Stopped)));
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.server.order(&ControlRequest::Shutdown);
    }
}

pub(crate) struct Client {
    stream: TcpStream,
}

impl Client {
    pub(crate) fn send(&mut self, text: &str) {
        // A server that has closed is found out by what is expected next.
        let _ = self.stream.write_all(text.as_bytes());
    }

    pub(crate) fn expect(&mut self, want: &str) {
        let mut got = vec![0; want.len()];
        self.stream.read_exact(&mut got).unwrap();
        assert!(got == want.as_bytes(), "wanted {:.80?}, got {:.80?}", want, String::from_utf8_lossy(&got));
    }

    pub(crate) fn expect_end(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => assert_eq!(String::from_utf8_lossy(&rest), ""),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
        }
    }

    fn line(&mut self) -> String {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            line.push(byte[0]);
        }
        String::from_utf8(line).unwrap()
    }
}
