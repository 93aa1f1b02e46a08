//! What a client makes of the bytes it reads.

use natrix_runtime_sim::queue::SimTime;
use natrix_runtime_sim::trace::{Trace, show_bytes};

use super::{Client, State};
use crate::marks::Mark;
use crate::oracle::{Checker, Oracle, Received};
use crate::universe::Subject;
use crate::wire::{Heard, parse};

/// What may happen in a run without being anybody's fault but the plan's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    /// Connections may end: the network, a process or the plan ends them.
    pub closes: bool,
    /// There may be too many connections.
    pub refusals: bool,
}

impl Client {
    /// Takes bytes that were read; false if the client wants no more of this server.
    pub fn receive(
        &mut self,
        time: SimTime,
        bytes: &[u8],
        allowed: Allowed,
        respond: u32,
        oracle: &mut Oracle,
        trace: &mut Trace,
    ) -> bool {
        // The usual case is that nothing is left over from the last read.
        let mut carried = std::mem::take(&mut self.partial);
        let whole = carried.is_empty();
        if !whole {
            carried.extend_from_slice(bytes);
        }
        let all: &[u8] = if whole { bytes } else { &carried };
        let mut at = 0;
        loop {
            match parse(&all[at..]) {
                Ok(None) => break,
                Ok(Some((taken, heard))) => {
                    trace.say(time, || {
                        format!("c{} hears {}", self.id, show_bytes(&all[at..at + taken], 120))
                    });
                    at += taken;
                    self.hear(time, heard, allowed, respond, oracle);
                }
                Err(nonsense) => {
                    oracle.violate(Checker::Protocol, format!("client {}: {}", self.id, nonsense.0));
                    return false;
                }
            }
        }
        if whole {
            self.partial.extend_from_slice(&bytes[at..]);
        } else {
            carried.drain(..at);
            self.partial = carried;
        }
        true
    }

    /// Returns whether an operation of the server was cut when the connection ended.
    pub fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    fn hear(&mut self, time: SimTime, heard: Heard<'_>, allowed: Allowed, respond: u32, oracle: &mut Oracle) {
        match heard {
            Heard::Info(json) => {
                if find(json, b"\"ldm\":true") {
                    oracle.marks.reach(Mark::LameDuck);
                }
                if self.state == State::Greeting {
                    self.connect(time, oracle);
                }
            }
            Heard::Ping => self.out.extend_from_slice(b"PONG\r\n"),
            Heard::Pong => {
                if self.state == State::Open && !self.guilty {
                    self.verified |= self.pings.pop_front().is_some_and(|sent| sent >= self.verify_since);
                    oracle.pong(time, self.conn);
                }
            }
            Heard::Ok => {
                if !self.profile.verbose && !self.guilty {
                    oracle.violate(Checker::Protocol, format!("client {}: +OK without verbose", self.id));
                }
            }
            Heard::Error(text) => self.hear_error(text, allowed, oracle),
            Heard::Message { subject, sid, reply, headers, payload } => {
                if self.state != State::Open {
                    return oracle
                        .violate(Checker::Protocol, format!("client {}: MSG before CONNECT", self.id));
                }
                let message = Received { sid, subject, reply, headers, payload };
                let origin = oracle.message(time, self.conn, message);
                if let Some(origin) = origin
                    && !reply.is_empty()
                    && self.rng.chance(u64::from(respond), 1000)
                {
                    let record = &oracle.conns[origin.conn as usize].publishes[origin.sequence as usize];
                    let reply: Subject = record.reply;
                    let headers = self.rng.chance(1, 8);
                    self.answers.push((reply, headers));
                }
                if payload.len() > 64 << 10 {
                    oracle.marks.reach(Mark::LargePayload);
                }
            }
        }
    }

    fn hear_error(&mut self, text: &[u8], allowed: Allowed, oracle: &mut Oracle) {
        let starts = |words: &str| text.starts_with(words.as_bytes());
        let expected = if starts("Permissions Violation for ") {
            // What it says out of order may be forbidden besides.
            if !self.guilty {
                oracle.denied(self.conn);
            }
            true
        } else if starts("Slow Consumer") {
            self.was_slow || allowed.closes
        } else if starts("Stale Connection") {
            oracle.marks.reach(Mark::Stale);
            self.was_slow || allowed.closes
        } else if starts("maximum connections exceeded") {
            oracle.marks.reach(Mark::TooManyConnections);
            allowed.refusals
        } else if starts("Authorization Violation") {
            oracle.marks.reach(Mark::LoginRefused);
            self.profile.wrong_password
        } else if starts("Authentication Timeout") || starts("Server Shutdown") {
            allowed.closes
        } else {
            oracle.marks.reach(Mark::ProtocolError);
            self.guilty
        };
        if !expected && !self.guilty {
            oracle.violate(Checker::Close, format!("client {}: -ERR {}", self.id, show_bytes(text, 100)));
        }
    }
}

fn find(text: &[u8], words: &[u8]) -> bool {
    text.windows(words.len()).any(|window| window == words)
}
