//! A server's life: log, first lines, files, monitoring, shards, signals, and the end.
//!
//! Source: nats-server `server/server.go`, `Start` and `Shutdown`.

use std::future::Future;
use std::io::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Zoned;
use natrix_core::config::Options;
use natrix_core::monitoring::{ControlReply, ControlRequest};
use natrix_core::shard::ServerIdentity;
use natrix_core::shard::Shard;
use natrix_core::shard::io::{LogLevel, LogRecord};
use natrix_runtime_tokio::{Observer, Server as Shell, ServerConfig, default_shards, random_seed};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use crate::files::{self, Ports, PortsFile};
use crate::log::{Level, LogWriter, Logger, go_error};
use crate::monitor::http::{self, HttpServer};
use crate::monitor::{Monitor, ServerFacts, Shards, wall_time};
use crate::supervisor::{Action, Event, Supervisor};
use crate::{banner, jetstream, tls};

/// How long shards may take to close their connections before the process ends all the same.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(4);

/// Something that the main thread waits for.
enum Happening {
    Listening(SocketAddr),
    Event(Event),
}

/// Runs a server until it is told to end; one with a client port that can't be gets as far as wanting to listen.
pub(crate) fn run(options: Options, impossible_port: Option<i64>, program: &str) -> ExitCode {
    let (logger, writer) = match Logger::start(&options.logging, program) {
        Ok(started) => started,
        Err(error) => {
            let now = Zoned::now().strftime("%Y/%m/%d %H:%M:%S").to_string();
            let _ = writeln!(std::io::stderr(), "{now} {error}");
            return ExitCode::FAILURE;
        }
    };
    let code = match Server::start(options, impossible_port, program, &logger) {
        Ok(server) => server.supervise(),
        Err(text) => {
            logger.log(Level::Fatal, text);
            1
        }
    };
    end_log(logger, writer);
    ExitCode::from(code)
}

fn end_log(logger: Logger, writer: LogWriter) {
    drop(logger);
    writer.finish();
}

/// A server that runs.
struct Server {
    options: Arc<Options>,
    program: String,
    logger: Logger,
    shell: Arc<Shell>,
    happenings: Receiver<Happening>,
    /// Whether health checks are told that clients are accepted.
    accepting: Arc<AtomicBool>,
    /// The port that clients reach, once it is bound.
    client_port: Arc<AtomicU16>,
    monitoring: Option<(HttpServer, &'static str, SocketAddr)>,
    ports_file: Option<PortsFile>,
}

impl Server {
    /// Starts everything; the words of an error are the log's last line.
    fn start(
        mut options: Options,
        impossible_port: Option<i64>,
        program: &str,
        logger: &Logger,
    ) -> Result<Self, String> {
        let (happened, happenings) = mpsc::channel();
        // From here on a signal waits for its turn instead of ending the process.
        forward_signals(happened.clone()).map_err(|error| format!("Can't listen to signals: {error}"))?;
        let identity = Arc::new(ServerIdentity {
            git_commit: crate::flags::GIT_COMMIT.to_owned(),
            ..ServerIdentity::from_seed(random_seed(), &options)
        });
        let start = wall_time();
        banner::log(logger, &options, &identity.name, &identity.id);
        if let Some(path) = &options.pid_file {
            files::write_pid(path)
                .map_err(|error| format!("Could not write pidfile: open {path}: {}", go_error(&error)))?;
        }
        let bound =
            bind_monitoring(&options, logger).map_err(|text| format!("Can't start monitoring: {text}"))?;
        jetstream::prepare(&mut options, logger).map_err(|text| format!("Can't start JetStream: {text}"))?;
        let options = Arc::new(options);
        if let Some(port) = impossible_port {
            let host = &options.host;
            return Err(format!(
                "Error listening on port: {host}:{port}, \"listen tcp: address {port}: invalid port\""
            ));
        }

        let client_port = Arc::new(AtomicU16::new(options.port));
        let accepting = Arc::new(AtomicBool::new(true));
        let config = ServerConfig {
            options: Arc::clone(&options),
            identity: Arc::clone(&identity),
            shards: shard_count(&options),
            seed: random_seed(),
            observer: Arc::new(Listening { logger: logger.clone(), happened }),
        };
        let shell = Arc::new(Shell::start(&config).map_err(|error| error.to_string())?);
        let monitoring = match bound {
            None => None,
            Some(bound) => {
                let facts = ServerFacts {
                    options: Arc::clone(&options),
                    server_id: identity.id.clone(),
                    server_name: identity.name.clone(),
                    client_port: Arc::clone(&client_port),
                    start,
                    tls_not_after: options.tls.as_ref().and_then(tls::not_after),
                    accepting: Arc::clone(&accepting),
                };
                let monitor = Monitor::new(Arc::clone(&shell), facts, logger.clone());
                let server = HttpServer::start(bound.listener, bound.tls, monitor)
                    .map_err(|error| format!("Can't start monitoring: {error}"))?;
                Some((server, bound.scheme, bound.address))
            }
        };
        let (program, logger) = (program.to_owned(), logger.clone());
        Ok(Server {
            options,
            program,
            logger,
            shell,
            happenings,
            accepting,
            client_port,
            monitoring,
            ports_file: None,
        })
    }

    /// Does what is to be done until the end; returns the exit code.
    fn supervise(mut self) -> u8 {
        let mut supervisor = Supervisor::new();
        let mut deadline = None;
        loop {
            let event = match self.next(deadline) {
                Happening::Listening(address) => {
                    self.listening(address);
                    continue;
                }
                Happening::Event(event) => event,
            };
            for action in supervisor.handle(event) {
                match action {
                    Action::Log(level, text) => self.logger.log(level, text),
                    Action::ReopenLog => self.logger.reopen(),
                    Action::LameDuck => {
                        self.accepting.store(false, Ordering::Relaxed);
                        self.shell.order(&ControlRequest::LameDuck);
                    }
                    Action::ShutDown => {
                        self.accepting.store(false, Ordering::Relaxed);
                        deadline = Some(Instant::now() + SHUTDOWN_LIMIT);
                        self.shell.order(&ControlRequest::Shutdown);
                    }
                    Action::CloseFiles => self.close(),
                    Action::Exit(code) => return code,
                }
            }
        }
    }

    /// Waits for what happens next; shards that take too long to stop count as stopped.
    fn next(&self, deadline: Option<Instant>) -> Happening {
        let happening = match deadline {
            None => self.happenings.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(deadline) => {
                self.happenings.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
        };
        happening.unwrap_or_else(|_| {
            self.logger.warn("Connections that did not close in time are cut off");
            Happening::Event(Event::Stopped)
        })
    }

    fn listening(&mut self, address: SocketAddr) {
        self.client_port.store(address.port(), Ordering::Relaxed);
        let Some(folder) = &self.options.ports_file_dir else { return };
        let interfaces = files::interface_addresses();
        // As in INFO: TLS that is optional doesn't make it a TLS port.
        let scheme = if self.options.tls.is_some() && !self.options.allow_non_tls { "tls" } else { "nats" };
        let monitoring = self
            .monitoring
            .as_ref()
            .map_or_else(Vec::new, |(_, scheme, address)| files::urls(scheme, *address, &interfaces));
        let ports = Ports { nats: files::urls(scheme, address, &interfaces), monitoring };
        match PortsFile::write(folder, &self.program, &ports) {
            Ok(file) => self.ports_file = Some(file),
            Err(text) => self.logger.error(text),
        }
    }

    fn close(&mut self) {
        if let Some((server, _, _)) = self.monitoring.take() {
            server.stop();
        }
        if let Some(Err(text)) = self.ports_file.take().map(PortsFile::remove) {
            self.logger.error(text);
        }
    }
}

impl Shards for Arc<Shell> {
    fn ask(&self, request: ControlRequest) -> impl Future<Output = Vec<ControlReply>> + Send {
        Shell::ask(self, request)
    }

    fn count(&self) -> usize {
        self.shards()
    }
}

/// Takes what shards tell of themselves to the log and to the main thread.
struct Listening {
    logger: Logger,
    happened: Sender<Happening>,
}

impl Listening {
    fn tell(&self, happening: Happening) {
        // When nobody receives any more, the process is ending.
        let _ = self.happened.send(happening);
    }
}

impl Observer for Listening {
    fn log(&self, LogRecord { level, text }: LogRecord) {
        self.logger.log(level_of(level), text);
    }

    fn listening(&self, address: SocketAddr) {
        self.tell(Happening::Listening(address));
    }

    fn failed(&self) {
        self.tell(Happening::Event(Event::Failed));
    }

    fn stopped(&self) {
        self.tell(Happening::Event(Event::Stopped));
    }
}

/// Returns how many shards to run: what the settings say, or what suits this machine.
fn shard_count(options: &Options) -> u16 {
    let suitable = || default_shards(std::thread::available_parallelism().map_or(1, usize::from));
    options.shards.unwrap_or_else(suitable).clamp(1, Shard::MAX_SHARDS)
}

fn level_of(level: LogLevel) -> Level {
    match level {
        LogLevel::Trace => Level::Trace,
        LogLevel::Debug => Level::Debug,
        LogLevel::Info => Level::Info,
        LogLevel::Warn => Level::Warn,
        LogLevel::Error => Level::Error,
        LogLevel::Fatal => Level::Fatal,
    }
}

fn forward_signals(happened: Sender<Happening>) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGHUP])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            if happened.send(Happening::Event(Event::Signal(signal))).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

/// A monitoring listener that nobody accepts from yet.
struct BoundMonitoring {
    listener: std::net::TcpListener,
    address: SocketAddr,
    scheme: &'static str,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

fn bind_monitoring(options: &Options, logger: &Logger) -> Result<Option<BoundMonitoring>, String> {
    let monitoring = &options.monitoring;
    let (scheme, port) = match (monitoring.http_port, monitoring.https_port) {
        (None, None) => return Ok(None),
        (Some(http), Some(https)) => {
            return Err(format!("can't specify both HTTP ({http}) and HTTPs ({https}) ports"));
        }
        (Some(port), None) => ("http", port),
        (None, Some(port)) => ("https", port),
    };
    let tls = match (scheme, &options.tls) {
        ("https", None) => return Err("TLS cert and key required for HTTPS".to_owned()),
        ("https", Some(tls)) => Some(tls::monitoring_acceptor(tls)?),
        _ => None,
    };
    let host = monitoring.host.as_str();
    let shown =
        |port: u16| if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
    let (listener, address) = http::bind(host, port).map_err(|error| {
        format!("can't listen to the monitor port: listen tcp {}: bind: {}", shown(port), go_error(&error))
    })?;
    logger.info(format!("Starting {scheme} monitor on {}", shown(address.port())));
    Ok(Some(BoundMonitoring { listener, address, scheme, tls }))
}
