//! What is measured: a server in a process of its own, or the relay.

use std::fmt;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::relay::{Mode, Role};
use crate::servers::{self, Implementation, Server, ServerBuilder, Usage};

/// Something that a case can be run against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Go,
    Natrix { shards: usize },
    Relay,
}

impl fmt::Display for Target {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Padding applies to the whole name.
        match self {
            Target::Go => out.pad("go"),
            Target::Natrix { shards } => out.pad(&format!("natrix/{shards}")),
            Target::Relay => out.pad("relay"),
        }
    }
}

impl Target {
    /// Fails if it can't be run here.
    pub(super) fn find(self) -> Result<()> {
        match self {
            Target::Go => Implementation::Go.find().map(|_| ())?,
            Target::Natrix { .. } => Implementation::Natrix.find().map(|_| ())?,
            Target::Relay => {}
        }
        Ok(())
    }
}

/// A target's process; ended when dropped.
pub(super) enum Running {
    Server(Server),
    Relay { child: Child, address: SocketAddr, mode: Mode },
}

impl Running {
    pub(super) fn start(target: Target, relay: Option<Mode>) -> Result<Running> {
        match target {
            Target::Go => Ok(Running::Server(ServerBuilder::new(Implementation::Go)?.start()?)),
            Target::Natrix { shards } => {
                let builder = ServerBuilder::new(Implementation::Natrix)?;
                Ok(Running::Server(builder.flag("--shards").flag(shards.to_string()).start()?))
            }
            Target::Relay => start_relay(relay.context("no relay for this case")?),
        }
    }

    /// Returns `false` for the relay, which is sent what a server would have sent to the other side.
    pub(super) fn speaks_nats(&self) -> bool {
        matches!(self, Running::Server(_))
    }

    pub(super) fn address(&self) -> SocketAddr {
        match self {
            Running::Server(server) => server.address(),
            Running::Relay { address, .. } => *address,
        }
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        match self {
            Running::Server(server) => server.usage(),
            Running::Relay { child, .. } => Usage::of(child.id()),
        }
    }

    pub(super) fn log(&self) -> String {
        match self {
            Running::Server(server) => server.log(),
            Running::Relay { .. } => String::new(),
        }
    }

    /// Opens a connection that is ready to publish, subscribed to each of `subscriptions`
    /// (`SUBJECT SID` or `SUBJECT QUEUE SID`); the relay is told the role instead.
    pub(super) fn open(&self, role: Role, subscriptions: &[String]) -> Result<TcpStream> {
        if let Running::Relay { mode, .. } = self {
            return open_relayed(self.address(), *mode, role);
        }
        let mut stream = self.handshake()?;
        if !subscriptions.is_empty() {
            let lines: String = subscriptions.iter().flat_map(|each| ["SUB ", each, "\r\n"]).collect();
            stream.write_all(lines.as_bytes())?;
            settle(&mut stream)?;
        }
        Ok(stream)
    }

    /// Connects, and returns when the target has answered the first PING.
    pub(super) fn handshake(&self) -> Result<TcpStream> {
        let (mut stream, info) = servers::connect(self.address())?;
        ensure!(info.starts_with("INFO {"), "unexpected greeting {info:?}");
        stream.write_all(CONNECT)?;
        expect_pong(&mut stream)?;
        Ok(stream)
    }
}

/// What clients send by default, in one write with their first PING; but for `protocol`, which is 0 so that no INFO
/// follows the first PONG and every byte that comes is one that a case counts.
const CONNECT: &[u8] = b"CONNECT {\"verbose\":false,\"pedantic\":false,\"tls_required\":false,\"name\":\"bench\",\
    \"lang\":\"rust\",\"version\":\"1.0.0\",\"protocol\":0,\"echo\":true,\"headers\":true,\"no_responders\":true}\r\n\
    PING\r\n";

/// Returns once everything that was written before has been acted on.
pub(super) fn settle(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"PING\r\n")?;
    expect_pong(stream)
}

fn expect_pong(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).context("PONG")?;
    ensure!(&answer == b"PONG\r\n", "{:?} instead of PONG", String::from_utf8_lossy(&answer));
    stream.set_read_timeout(None)?;
    Ok(())
}

fn open_relayed(address: SocketAddr, mode: Mode, role: Role) -> Result<TcpStream> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    if mode.asks_for_role() {
        stream.write_all(&[role.byte()])?;
        let mut answer = [0];
        stream.read_exact(&mut answer)?;
    }
    Ok(stream)
}

fn start_relay(mode: Mode) -> Result<Running> {
    // It lives as long as its standard input, so it can't outlive this process.
    let mut child = Command::new(std::env::current_exe()?)
        .args(["relay", mode.name()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let stdout = child.stdout.take().context("piped")?;
    BufReader::new(stdout).read_line(&mut line)?;
    let Ok(address) = line.trim().parse() else {
        let _ = child.kill();
        let _ = child.wait();
        bail!("the relay said {line:?} instead of its address");
    };
    Ok(Running::Relay { child, address, mode })
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Relay { child, .. } = self {
            // Both fail only if it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
