//! `natrix-parity relay MODE`: the floor of the benchmark, a process that moves bytes and reads none.
//!
//! One thread, one epoll, one page-aligned read buffer of 64 KiB, the shape that was found cheapest.
//! Writes block, which is harmless: the load's readers never wait for its writers.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};
use rustix::event::epoll;

use super::load::{READ_SIZE, ReadBuffer};

/// What the relay does with what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Drops it, as a server does with what nobody subscribed to.
    Discard,
    /// Writes it to every receiver.
    Fan,
    /// Writes each read to one receiver after the other, as a queue group does with messages.
    Rotate,
    /// Writes it to the one connection of the other role.
    Pair,
    /// Writes it back.
    Echo,
    /// Sends a greeting as long as an INFO, and a PONG for every read.
    Greet,
}

impl Mode {
    const ALL: [Mode; 6] = [Mode::Discard, Mode::Fan, Mode::Rotate, Mode::Pair, Mode::Echo, Mode::Greet];

    pub(super) fn name(self) -> &'static str {
        match self {
            Mode::Discard => "discard",
            Mode::Fan => "fan",
            Mode::Rotate => "rotate",
            Mode::Pair => "pair",
            Mode::Echo => "echo",
            Mode::Greet => "greet",
        }
    }

    /// Returns whether a connection first says its [`Role`], and waits for one byte.
    pub(super) fn asks_for_role(self) -> bool {
        matches!(self, Mode::Fan | Mode::Rotate | Mode::Pair)
    }
}

/// Which side of a relay a connection is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
}

impl Role {
    pub(super) fn byte(self) -> u8 {
        match self {
            Role::Sender => b's',
            Role::Receiver => b'r',
        }
    }
}

struct Connection {
    stream: TcpStream,
    /// `None` until it has said so.
    role: Option<Role>,
}

const LISTENER: u64 = u64::MAX;
const STDIN: u64 = u64::MAX - 1;

/// Listens on a port of the kernel's choice, prints the address, and relays until standard input ends.
///
/// # Errors
///
/// For an unknown mode, and for a failure of the sockets other than a closed connection.
pub fn run(arguments: &[String]) -> Result<()> {
    let [name] = arguments else { bail!("usage: natrix-parity relay MODE") };
    let mode = Mode::ALL.into_iter().find(|mode| mode.name() == name).context("unknown mode")?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    println!("{}", listener.local_addr()?);
    super::load::raise_descriptor_limit()?;
    Relay { mode, connections: Vec::new(), turn: 0 }.serve(&listener)
}

struct Relay {
    mode: Mode,
    /// Slots of closed connections stay empty: a relay lives for one case.
    connections: Vec<Option<Connection>>,
    /// Who gets the next read in [`Mode::Rotate`].
    turn: usize,
}

impl Relay {
    fn serve(&mut self, listener: &TcpListener) -> Result<()> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        epoll::add(&poll, io::stdin(), epoll::EventData::new_u64(STDIN), epoll::EventFlags::IN)?;
        let mut buffer = ReadBuffer::new();
        let mut events = Vec::with_capacity(256);
        loop {
            events.clear();
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), None)?;
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept(listener, &poll)?,
                    // Nothing is ever written to it: readable means that the parent is gone.
                    STDIN => return Ok(()),
                    index => self.receive(index as usize, buffer.target()),
                }
            }
        }
    }

    fn accept(&mut self, listener: &TcpListener, poll: &impl AsFd) -> Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        if self.mode == Mode::Greet {
            let _ = stream.write_all(greeting().as_bytes());
        }
        let index = self.connections.len() as u64;
        epoll::add(poll, &stream, epoll::EventData::new_u64(index), epoll::EventFlags::IN)?;
        self.connections.push(Some(Connection { stream, role: None }));
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8; READ_SIZE]) {
        let Some(Some(connection)) = self.connections.get_mut(index) else { return };
        let n = match connection.stream.read(buffer) {
            Ok(n) if n > 0 => n,
            _ => {
                self.connections[index] = None;
                return;
            }
        };
        let bytes = &buffer[..n];
        if self.mode.asks_for_role() && connection.role.is_none() {
            connection.role =
                Some(if bytes[0] == Role::Sender.byte() { Role::Sender } else { Role::Receiver });
            let _ = connection.stream.write_all(b"+");
            return;
        }
        self.pass_on(index, bytes);
    }

    /// A failed write means that the reader has gone, which its own event will tell.
    fn pass_on(&mut self, from: usize, bytes: &[u8]) {
        let role = self.connections[from].as_ref().and_then(|connection| connection.role);
        match self.mode {
            Mode::Discard => {}
            Mode::Echo => self.write(from, bytes),
            Mode::Greet => self.write(from, b"PONG\r\n"),
            Mode::Fan | Mode::Pair => {
                for index in 0..self.connections.len() {
                    if self.is_opposite(index, role) {
                        self.write(index, bytes);
                    }
                }
            }
            Mode::Rotate => {
                for _ in 0..self.connections.len() {
                    self.turn = (self.turn + 1) % self.connections.len();
                    if self.is_opposite(self.turn, role) {
                        return self.write(self.turn, bytes);
                    }
                }
            }
        }
    }

    fn is_opposite(&self, index: usize, role: Option<Role>) -> bool {
        self.connections[index].as_ref().is_some_and(|other| other.role.is_some() && other.role != role)
    }

    fn write(&mut self, index: usize, bytes: &[u8]) {
        if let Some(connection) = &mut self.connections[index] {
            let _ = connection.stream.write_all(bytes);
        }
    }
}

/// As long as the INFO of a server without TLS and clusters.
fn greeting() -> String {
    format!("INFO {{\"server_id\":\"{:a<320}\"}}\r\n", "")
}
