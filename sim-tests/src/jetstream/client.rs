//! Scripted clients: what they are told, and what they do next. They own no socket.

mod admin;
mod audit;
mod keeper;
mod producer;
mod scheduler;
mod worker;

use natrix_core::rng::Rng;
use natrix_runtime_sim::queue::{SECOND, SimTime};

pub(super) use admin::Admin;
pub(super) use keeper::Keeper;
pub(super) use producer::Producer;
use scheduler::Scheduler;
pub(super) use worker::Worker;

use super::conn::Conn;
use super::oracle::Oracle;
use super::report::Rule;
use super::text::status;
use crate::wire::Heard;

/// A request that is not answered for so long, on a connection that works, never will be.
const UNANSWERED: u64 = 15 * SECOND;

/// What everybody does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Faults happen.
    Work,
    /// What is under way is finished.
    Settle,
    /// The state is looked at; nobody else does anything.
    Audit,
    /// Everything that is wanted is fetched and acknowledged.
    Drain,
}

/// A message that a client heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    pub(super) subject: &'a [u8],
    pub(super) sid: u32,
    pub(super) reply: &'a [u8],
    pub(super) headers: &'a [u8],
    pub(super) payload: &'a [u8],
}

impl Message<'_> {
    pub(super) fn status(&self) -> Option<u16> {
        status(self.headers)
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(self.payload).into_owned()
    }
}

/// What a script works with.
pub(super) struct Desk<'a> {
    pub(super) conn: &'a mut Conn,
    pub(super) oracle: &'a mut Oracle,
    pub(super) rng: &'a mut Rng,
    pub(super) mode: Mode,
}

impl Desk<'_> {
    pub(super) fn now(&self) -> SimTime {
        self.oracle.now
    }

    /// Looks whether what was asked at `sent` should have been answered by now.
    pub(super) fn check_answered(&mut self, sent: SimTime, what: impl std::fmt::Display) {
        let waited = self.now() - sent;
        if waited > UNANSWERED {
            let client = self.conn.id;
            self.oracle.violate(Rule::Unanswered, format!("client {client}: {what} isn't answered"));
        }
    }
}

/// What a client is.
#[derive(Debug)]
pub(super) enum Role {
    Producer(Producer),
    Keeper(Keeper),
    Scheduler(Box<Scheduler>),
    Worker(Worker),
    Admin(Box<Admin>),
}

/// One client.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) conn: Conn,
    pub(super) role: Role,
    pub(super) rng: Rng,
}

impl Client {
    /// Does something, if it is connected.
    pub(super) fn act(&mut self, oracle: &mut Oracle, mode: Mode) {
        if !self.conn.is_open() {
            return;
        }
        let mut desk = Desk { conn: &mut self.conn, oracle, rng: &mut self.rng, mode };
        match &mut self.role {
            Role::Producer(script) => script.act(&mut desk),
            Role::Keeper(script) => script.act(&mut desk),
            Role::Scheduler(script) => script.act(&mut desk),
            Role::Worker(script) => script.act(&mut desk),
            Role::Admin(script) => script.act(&mut desk),
        }
    }

    /// Takes what the server said; `false` if that can't be.
    pub(super) fn hear(&mut self, oracle: &mut Oracle, mode: Mode, heard: Heard<'_>) {
        self.conn.heard(oracle.now);
        let mut desk = Desk { conn: &mut self.conn, oracle, rng: &mut self.rng, mode };
        match heard {
            Heard::Info(_) if !desk.conn.is_open() => {
                desk.conn.connect();
                match &mut self.role {
                    Role::Admin(script) => script.opened(&mut desk),
                    Role::Worker(_) | Role::Producer(_) | Role::Keeper(_) | Role::Scheduler(_) => {}
                }
            }
            Heard::Ping => desk.conn.say("PONG\r\n"),
            Heard::Message { subject, sid, reply, headers, payload } => {
                let message = Message { subject, sid, reply, headers, payload };
                match &mut self.role {
                    Role::Producer(script) => script.hear(&mut desk, message),
                    Role::Keeper(script) => script.hear(&mut desk, message),
                    Role::Scheduler(script) => script.hear(&mut desk, message),
                    Role::Worker(script) => script.hear(&mut desk, message),
                    Role::Admin(script) => script.hear(&mut desk, message),
                }
            }
            _ => {}
        }
    }

    /// Its connection is gone.
    pub(super) fn lost(&mut self, oracle: &mut Oracle) {
        self.conn.lost();
        match &mut self.role {
            Role::Producer(script) => script.lost(oracle),
            Role::Keeper(script) => script.lost(),
            Role::Scheduler(script) => script.lost(),
            Role::Worker(script) => script.lost(),
            Role::Admin(script) => script.lost(),
        }
    }

    /// Returns whether it has something under way.
    pub(super) fn is_busy(&self) -> bool {
        match &self.role {
            Role::Producer(script) => script.is_busy(),
            Role::Keeper(script) => script.is_busy(),
            Role::Scheduler(script) => script.is_busy(),
            Role::Worker(script) => script.is_busy(),
            Role::Admin(script) => script.is_busy(),
        }
    }
}
