//! One connection of a scenario: raw bytes over TCP or TLS, received line by line.
//!
//! Invariants: nothing is read but while a step waits, so that a scenario can be a slow reader; every wait
//! ends within [`LIMIT`]. PINGs of the server are answered and not shown, unless the scenario is about them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

/// The longest a step may wait.
pub(super) const LIMIT: Duration = Duration::from_secs(8);
const READ_SLICE: Duration = Duration::from_millis(20);

/// A client's side of a connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    ended: bool,
    shows_pings: bool,
    /// The JSON of the last INFO.
    pub(super) info: String,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// The state while a handshake replaces the other two, and after it failed.
    Gone,
}

impl Stream {
    fn socket(&self) -> Option<&TcpStream> {
        match self {
            Stream::Plain(socket) => Some(socket),
            Stream::Tls(tls) => Some(&tls.sock),
            Stream::Gone => None,
        }
    }
}

/// What came next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// A line without its end.
    Line(Vec<u8>),
    /// The end, with the bytes behind the last line.
    End(Vec<u8>),
}

impl Connection {
    /// Connects and reads nothing.
    ///
    /// # Errors
    ///
    /// If the server doesn't accept.
    pub(super) fn open(address: SocketAddr, shows_pings: bool) -> Result<Connection> {
        let socket = TcpStream::connect_timeout(&address, LIMIT).context("connect")?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(READ_SLICE))?;
        socket.set_write_timeout(Some(LIMIT))?;
        let stream = Stream::Plain(socket);
        Ok(Connection { stream, buffer: Vec::new(), ended: false, shows_pings, info: String::new() })
    }

    /// Does the TLS handshake.
    ///
    /// # Errors
    ///
    /// If either side refuses; the connection is then gone.
    pub(super) fn start_tls(&mut self, config: Arc<ClientConfig>, name: &str) -> Result<()> {
        let Stream::Plain(socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            bail!("TLS inside of TLS");
        };
        socket.set_read_timeout(Some(LIMIT))?;
        let client = ClientConnection::new(config, ServerName::try_from(name.to_owned())?)?;
        let mut tls = Box::new(StreamOwned::new(client, socket));
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        tls.sock.set_read_timeout(Some(READ_SLICE))?;
        self.stream = Stream::Tls(tls);
        Ok(())
    }

    /// Writes bytes at once.
    ///
    /// # Errors
    ///
    /// If the server has closed, or takes nothing for too long.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(bytes),
            Stream::Tls(tls) => tls.write_all(bytes).and_then(|()| tls.flush()),
            Stream::Gone => Err(ErrorKind::NotConnected.into()),
        }
    }

    /// Waits for the next line or the end; `None` if nothing came in time.
    ///
    /// # Errors
    ///
    /// If a PING can't be answered.
    pub(super) fn next(&mut self, deadline: Instant) -> Result<Option<Received>> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.truncate(end);
                if line.last() == Some(&b'\r') {
                    line.pop();
                }
                if line == b"PING" && !self.shows_pings {
                    // Its server may be closing already, and then doesn't wait for the answer.
                    let _ = self.send(b"PONG\r\n");
                    continue;
                }
                if let Some(info) = line.strip_prefix(b"INFO ") {
                    self.info = String::from_utf8_lossy(info).trim().to_owned();
                }
                return Ok(Some(Received::Line(line)));
            }
            if self.ended {
                return Ok(Some(Received::End(std::mem::take(&mut self.buffer))));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.fill();
        }
    }

    /// Waits for so many bytes; `None` if they didn't come in time.
    pub(super) fn exact(&mut self, length: usize, deadline: Instant) -> Option<Vec<u8>> {
        while self.buffer.len() < length {
            if self.ended || Instant::now() >= deadline {
                return None;
            }
            self.fill();
        }
        Some(self.buffer.drain(..length).collect())
    }

    fn fill(&mut self) {
        let mut chunk = [0; 65536];
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut chunk),
            Stream::Tls(tls) => tls.read(&mut chunk),
            Stream::Gone => Ok(0),
        };
        match read {
            Ok(0) => self.ended = true,
            Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            // A reset is how a close looks to who has sent what the server didn't read any more.
            Err(_) => self.ended = true,
        }
    }

    /// Closes this side's sending half and waits until the server has closed, so that it has forgotten
    /// this connection when the next scenario begins.
    pub(super) fn close(mut self) {
        if let Stream::Tls(tls) = &mut self.stream {
            tls.conn.send_close_notify();
            let _ = tls.flush();
        }
        if let Some(socket) = self.stream.socket() {
            let _ = socket.shutdown(Shutdown::Write);
        }
        let deadline = Instant::now() + Duration::from_secs(1);
        while !self.ended && Instant::now() < deadline {
            self.buffer.clear();
            self.fill();
        }
    }
}
