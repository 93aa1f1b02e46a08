//! Servers under test: finds their executables, starts them on loopback, watches and ends them.
//!
//! Both servers take the same flags and write the same ports file, so everything that runs against
//! one runs against the other; [`Implementation`] is the only place that tells them apart.
//!
//! Invariants: a started server listens on 127.0.0.1 only, on a port that the kernel chose (or that
//! the caller got from it before); it owns a temporary folder; it is dead once its [`Server`] is
//! dropped. Every wait is bounded.

use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

/// How long a server may take until it accepts; generous, because CI machines are slow and crowded.
const START_LIMIT: Duration = Duration::from_secs(20);
/// How long a server may take to end after a signal that asks for it.
const STOP_LIMIT: Duration = Duration::from_secs(20);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Which server's executable to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Implementation {
    /// The reference: the Go `nats-server`.
    Go,
    /// This project's server.
    Natrix,
}

impl Implementation {
    /// Both, the reference first.
    pub const ALL: [Implementation; 2] = [Implementation::Go, Implementation::Natrix];

    /// Returns the name used in reports: `go` or `natrix`.
    pub fn name(self) -> &'static str {
        match self {
            Implementation::Go => "go",
            Implementation::Natrix => "natrix",
        }
    }

    /// Returns the environment variable that overrides where the executable is looked for.
    pub fn override_variable(self) -> &'static str {
        match self {
            Implementation::Go => "NATS_SERVER_BIN",
            Implementation::Natrix => "NATRIX_BIN",
        }
    }

    /// Finds the executable.
    ///
    /// The override variable decides where it is set. Otherwise the Go server is where
    /// `parity/clients/setup` puts it, and natrix is in the folder of the profile that the caller
    /// was built with, or else in `release` or `debug`.
    ///
    /// # Errors
    ///
    /// [`NotInstalled`] if there is none; callers that can do without then say so.
    pub fn find(self) -> Result<PathBuf, NotInstalled> {
        let candidates = match std::env::var_os(self.override_variable()) {
            Some(path) => vec![PathBuf::from(path)],
            None => self.usual_places(),
        };
        match candidates.iter().find(|path| path.is_file()) {
            Some(path) => Ok(path.clone()),
            None => Err(NotInstalled { implementation: self, tried: candidates }),
        }
    }

    fn usual_places(self) -> Vec<PathBuf> {
        let target = target_dir();
        match self {
            Implementation::Go => vec![target.join("go/bin/nats-server")],
            Implementation::Natrix => {
                let mut places = Vec::new();
                // A test's executable is target/PROFILE/deps/it-HASH: its own profile is the one that
                // the same cargo command has just built.
                if let Ok(this) = std::env::current_exe() {
                    places.extend(this.ancestors().skip(1).take(2).map(|dir| dir.join("natrix")));
                }
                places.push(target.join("release/natrix"));
                places.push(target.join("debug/natrix"));
                places
            }
        }
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A server's executable is on none of the paths where it may be.
#[derive(Clone, Debug)]
pub struct NotInstalled {
    implementation: Implementation,
    tried: Vec<PathBuf>,
}

impl fmt::Display for NotInstalled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let variable = self.implementation.override_variable();
        write!(out, "no {} server: set {variable}; tried", self.implementation)?;
        self.tried.iter().try_for_each(|path| write!(out, " {}", path.display()))
    }
}

impl std::error::Error for NotInstalled {}

/// Returns cargo's target folder of this workspace.
pub fn target_dir() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => workspace_dir().join("target"),
    }
}

/// Returns the root folder of this workspace.
pub fn workspace_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("parity/ is inside the workspace").to_owned()
}

/// What a server is to be started with.
#[derive(Debug)]
pub struct ServerBuilder {
    implementation: Implementation,
    dir: TempDir,
    flags: Vec<OsString>,
    port: Option<u16>,
    binary: Option<PathBuf>,
}

impl ServerBuilder {
    /// Prepares a server that listens on a port of the kernel's choice, with default settings.
    ///
    /// # Errors
    ///
    /// If its temporary folder can't be made.
    pub fn new(implementation: Implementation) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("natrix-parity-").tempdir()?;
        Ok(ServerBuilder { implementation, dir, flags: Vec::new(), port: None, binary: None })
    }

    /// Returns the server's temporary folder, which is also its working folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Adds a command line flag, or a flag's value.
    #[must_use]
    pub fn flag(mut self, flag: impl Into<OsString>) -> Self {
        self.flags.push(flag.into());
        self
    }

    /// Writes a file into the temporary folder: a certificate, or a part of the configuration.
    ///
    /// # Errors
    ///
    /// If it can't be written.
    pub fn file(self, name: &str, contents: &str) -> Result<Self> {
        fs::write(self.dir().join(name), contents)?;
        Ok(self)
    }

    /// Starts the server with this configuration text; address and port are still the builder's.
    ///
    /// # Errors
    ///
    /// If the file can't be written.
    pub fn config(self, text: &str) -> Result<Self> {
        Ok(self.file("server.conf", text)?.flag("-c").flag("server.conf"))
    }

    /// Listens on this port instead of one that the kernel chooses.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Runs this executable; [`Implementation::find`] decides without it.
    #[must_use]
    pub fn binary(mut self, path: Option<PathBuf>) -> Self {
        self.binary = path;
        self
    }

    /// Starts the server and returns once it accepts connections.
    ///
    /// # Errors
    ///
    /// If there is no executable, or the server ends or stays silent; the error then has its log.
    pub fn start(self) -> Result<Server> {
        let binary = self.binary.map_or_else(|| self.implementation.find(), Ok)?;
        let (child, ports) = launch(&binary, self.dir.path(), &self.flags, self.port)?;
        Ok(Server {
            implementation: self.implementation,
            binary,
            dir: self.dir,
            flags: self.flags,
            child,
            ports,
        })
    }
}

/// A running server; ended when dropped.
#[derive(Debug)]
pub struct Server {
    implementation: Implementation,
    binary: PathBuf,
    dir: TempDir,
    flags: Vec<OsString>,
    child: Child,
    ports: Ports,
}

impl Server {
    /// Returns which server this is.
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// Returns the port for clients.
    pub fn port(&self) -> u16 {
        self.ports.nats
    }

    /// Returns the address for clients.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.ports.nats))
    }

    /// Returns the address for clients as `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// Returns the monitoring port, `None` unless a flag or the configuration asked for one.
    pub fn monitoring_port(&self) -> Option<u16> {
        self.ports.monitoring
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the server's temporary folder.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Returns everything that the server has written to its standard error and output so far,
    /// over all its starts.
    pub fn log(&self) -> String {
        read_log(self.dir.path())
    }

    /// Sends a signal to the server's process.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).with_context(|| format!("{signal:?} to {pid:?}"))
    }

    /// Waits until the process has ended by itself.
    ///
    /// # Errors
    ///
    /// If it has not ended within `limit`.
    pub fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = until(limit, || Ok(self.child.try_wait()?))?;
        ended.with_context(|| format!("{} still runs after {limit:?}", self.implementation))
    }

    /// Asks the process to end (SIGTERM) and waits for it.
    ///
    /// # Errors
    ///
    /// If it has not ended within 20 seconds.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.wait(STOP_LIMIT)
    }

    /// Starts the server again with the same flags on the same port; kills it first if it still runs.
    ///
    /// # Errors
    ///
    /// As [`ServerBuilder::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        let port = Some(self.ports.nats);
        (self.child, self.ports) = launch(&self.binary, self.dir.path(), &self.flags, port)?;
        Ok(())
    }

    /// Reads what the process has used until now.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.pid())
    }

    fn kill(&mut self) {
        // Both fail only for a process that has already been waited for, which is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// What a process has used, as `/proc` tells it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all its threads, those that have ended included; its children have
    /// their own figures. In steps of a kernel tick, 10 ms.
    pub cpu: Duration,
    /// Resident memory in bytes, now.
    pub resident: u64,
    /// The most that was ever resident, in bytes.
    pub resident_peak: u64,
    /// Threads now.
    pub threads: u64,
    /// Open file descriptors now.
    pub descriptors: u64,
}

impl Usage {
    /// Reads the usage of a process by its id.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn of(pid: u32) -> Result<Usage> {
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let stat = fs::read_to_string(proc.join("stat"))?;
        let ticks = cpu_ticks(&stat).with_context(|| format!("unexpected {stat:?}"))?;
        let status = fs::read_to_string(proc.join("status"))?;
        let field = |name: &str| status_field(&status, name).with_context(|| format!("no {name} of {pid}"));
        Ok(Usage {
            cpu: Duration::from_secs(ticks) / u32::try_from(rustix::param::clock_ticks_per_second())?,
            resident: field("VmRSS:")? * 1024,
            resident_peak: field("VmHWM:")? * 1024,
            threads: field("Threads:")?,
            descriptors: fs::read_dir(proc.join("fd"))?.count() as u64,
        })
    }
}

/// Returns user plus system ticks from a line of `/proc/PID/stat`.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The command's name is in parentheses and may itself have spaces and parentheses.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_ascii_whitespace().skip(11);
    let user: u64 = times.next()?.parse().ok()?;
    let system: u64 = times.next()?.parse().ok()?;
    Some(user + system)
}

/// Returns the first number after `name` in the text of `/proc/PID/status`.
fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[derive(Debug)]
struct Ports {
    nats: u16,
    monitoring: Option<u16>,
}

impl Ports {
    /// Reads the ports file in `dir`; `None` while there is none, or only a part of it.
    fn read(dir: &Path) -> Result<Option<Ports>> {
        for entry in fs::read_dir(dir)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "ports") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let Ok(ports) = serde_json::from_str::<serde_json::Value>(&text) else {
                return Ok(None);
            };
            let port = |name: &str| -> Option<u16> {
                ports[name][0].as_str()?.rsplit_once(':')?.1.trim_end_matches('/').parse().ok()
            };
            let nats = port("nats").with_context(|| format!("no client port in {text}"))?;
            return Ok(Some(Ports { nats, monitoring: port("monitoring") }));
        }
        Ok(None)
    }
}

const LOG: &str = "server.log";

fn read_log(dir: &Path) -> String {
    fs::read(dir.join(LOG)).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
}

fn launch(binary: &Path, dir: &Path, flags: &[OsString], port: Option<u16>) -> Result<(Child, Ports)> {
    // A killed server leaves its ports file behind, and waiting must not find that one.
    let ports_dir = dir.join("ports");
    match fs::remove_dir_all(&ports_dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => fs::create_dir(&ports_dir)?,
    }
    let log = File::options().create(true).append(true).open(dir.join(LOG))?;
    let mut child = Command::new(binary)
        .args(["-a", "127.0.0.1", "-p"])
        .arg(port.map_or("-1".to_owned(), |port| port.to_string()))
        .arg("--ports_file_dir")
        .arg(&ports_dir)
        .args(flags)
        .current_dir(dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("start {}", binary.display()))?;
    match wait_for_ports(&mut child, &ports_dir) {
        Ok(ports) => Ok((child, ports)),
        Err(error) => {
            // Its failure may be that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
            Err(error.context(format!("{} {flags:?}; its log:\n{}", binary.display(), read_log(dir))))
        }
    }
}

fn wait_for_ports(child: &mut Child, ports_dir: &Path) -> Result<Ports> {
    let ports = until(START_LIMIT, || {
        if let Some(status) = child.try_wait()? {
            bail!("ended at once: {status}");
        }
        Ports::read(ports_dir)
    })?;
    // The file is written once the server listens. No probe of the port: monitoring would count it.
    ports.with_context(|| format!("no ports file within {START_LIMIT:?}"))
}

/// Asks `poll` again and again until it has an answer; `None` when `limit` has passed.
pub(crate) fn until<T>(limit: Duration, mut poll: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let started = Instant::now();
    loop {
        if let Some(answer) = poll()? {
            return Ok(Some(answer));
        }
        if started.elapsed() > limit {
            return Ok(None);
        }
        std::thread::sleep(POLL_EVERY);
    }
}

/// Connects as a client and returns the connection and the server's INFO line.
///
/// # Errors
///
/// If the server doesn't accept, or sends no line within five seconds.
pub fn connect(address: SocketAddr) -> Result<(TcpStream, String)> {
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(limit))?;
    // A server says nothing more before it has heard from its client, so nothing behind the line is lost.
    let (mut line, mut chunk) = (Vec::new(), [0; 4096]);
    while !line.ends_with(b"\n") {
        match stream.read(&mut chunk).context("INFO")? {
            0 => bail!("closed instead of INFO"),
            n => line.extend_from_slice(&chunk[..n]),
        }
    }
    stream.set_read_timeout(None)?;
    Ok((stream, String::from_utf8(line)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_ticks_are_found_behind_any_command_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 1200 34 0 0 20";
        for name in ["natrix", "a b", "x) 1 2 (y"] {
            assert_eq!(cpu_ticks(&format!("42 ({name}) {rest}")), Some(1234), "{name}");
        }
        assert_eq!(cpu_ticks("42 (natrix) S 1 2"), None);
    }

    #[test]
    fn usage_of_this_process_is_plausible() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.resident > 100_000 && usage.resident <= usage.resident_peak, "{usage:?}");
        assert!(usage.threads >= 1 && usage.descriptors >= 3, "{usage:?}");
    }

    #[test]
    fn a_ports_file_is_awaited_until_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Ports::read(dir.path()).unwrap().is_none());
        let file = dir.path().join("nats-server_1.ports");
        fs::write(&file, r#"{"nats":["nats://127.0.0.1:42"#).unwrap();
        assert!(Ports::read(dir.path()).unwrap().is_none());
        fs::write(&file, r#"{"nats":["nats://127.0.0.1:4222"],"monitoring":["http://127.0.0.1:8222/"]}"#)
            .unwrap();
        let ports = Ports::read(dir.path()).unwrap().unwrap();
        assert_eq!((ports.nats, ports.monitoring), (4222, Some(8222)));
    }
}
