//! The decisions that one shard takes for all: client ids, and who is one too many.

use std::collections::BTreeMap;

use super::Shard;
use super::io::{Listener, LogLevel, Output};
use super::mailbox::ShardMessage;
use crate::config::{HostPortError, Options, parse_host_port};
use crate::ids::{ConnId, ShardId};

/// What the home shard knows of the whole server.
#[derive(Debug)]
pub(super) struct Home {
    next_cid: u64,
    connections: u64,
    max_connections: Option<u64>,
    /// Connections of accounts that may have only so many.
    account_connections: BTreeMap<u32, u32>,
}

/// The first client ids are the server's own clients', as in the reference.
const FIRST_CID: u64 = 5;

impl Home {
    pub(super) fn new(options: &Options) -> Self {
        Home {
            next_cid: FIRST_CID,
            connections: 0,
            max_connections: options.max_connections.map(u64::from),
            account_connections: BTreeMap::new(),
        }
    }

    /// Counts a connection into an account unless that has `max` already.
    fn enter(&mut self, account: u32, max: u32) -> bool {
        let count = self.account_connections.entry(account).or_insert(0);
        let within_limit = *count < max;
        *count += u32::from(within_limit);
        within_limit
    }

    /// Tells whether any shard has a connection.
    pub(super) fn has_connections(&self) -> bool {
        self.connections > 0
    }

    /// Gives the next connection its id, and tells whether it may stay.
    fn admit(&mut self) -> (u64, bool) {
        let cid = self.next_cid;
        self.next_cid += 1;
        let within_limit = self.max_connections.is_none_or(|max| self.connections < max);
        self.connections += u64::from(within_limit);
        (cid, within_limit)
    }
}

impl Shard {
    /// Asks whether a new connection may stay: the home shard at once, any other by message.
    pub(super) fn ask_admission(&mut self, now: crate::time::Now, conn: ConnId) {
        match &mut self.home {
            Some(home) => {
                let (cid, within_limit) = home.admit();
                self.admitted(now, conn, cid, within_limit);
            }
            None => {
                self.outputs.push_back(Output::PauseReading { conn });
                self.say(ShardId::HOME, ShardMessage::Admit { from: self.me, conn });
            }
        }
    }

    /// Answers another shard that asks.
    pub(super) fn admit_for(&mut self, from: ShardId, conn: ConnId) {
        if let Some(home) = &mut self.home {
            let (cid, within_limit) = home.admit();
            self.say(from, ShardMessage::Admitted { conn, cid, within_limit });
        }
    }

    /// Asks whether a connection may enter an account that may have only so many.
    pub(super) fn ask_entry(&mut self, now: crate::time::Now, conn: ConnId, account: u32, max: u32) {
        match &mut self.home {
            Some(home) => {
                let within_limit = home.enter(account, max);
                self.entered(now, conn, account, within_limit);
            }
            None => {
                self.park(conn, crate::connection::client::Parked::Account);
                self.say(ShardId::HOME, ShardMessage::Enter { from: self.me, conn, account });
            }
        }
    }

    /// Answers another shard that asks.
    pub(super) fn enter_for(&mut self, from: ShardId, conn: ConnId, account: u32) {
        let max = self.settings.max_connections_of(account).unwrap_or(u32::MAX);
        if let Some(home) = &mut self.home {
            let within_limit = home.enter(account, max);
            self.say(from, ShardMessage::Entered { conn, account, within_limit });
        }
    }

    /// Notes that a connection has left an account that may have only so many.
    pub(super) fn tell_leave(&mut self, account: u32) {
        match &mut self.home {
            Some(_) => self.leave(account),
            None => self.say(ShardId::HOME, ShardMessage::Leave { account }),
        }
    }

    pub(super) fn leave(&mut self, account: u32) {
        if let Some(count) = self.home.as_mut().and_then(|home| home.account_connections.get_mut(&account)) {
            *count = count.saturating_sub(1);
        }
    }

    /// Notes that an admitted connection has ended.
    pub(super) fn tell_left(&mut self) {
        match &mut self.home {
            Some(_) => self.left(),
            None => self.say(ShardId::HOME, ShardMessage::Left),
        }
    }

    pub(super) fn left(&mut self) {
        if let Some(home) = &mut self.home {
            home.connections = home.connections.saturating_sub(1);
        }
        self.stop_if_empty();
    }

    /// Returns the host and port that clients are told.
    pub(super) fn reached_at(&self, port: u16) -> Result<(String, i64), HostPortError> {
        match &self.settings.advertise {
            Some(advertise) => parse_host_port(advertise, port),
            None => Ok((self.settings.host.clone(), i64::from(port))),
        }
    }

    pub(super) fn listening(&mut self, address: std::net::SocketAddr) {
        self.tell_all(|_| ShardMessage::Listening { address });
        let (host, port) = (self.settings.host.clone(), address.port());
        let shown = if host.contains(':') { format!("[{host}]") } else { host };
        self.log(LogLevel::Info, format!("Listening for client connections on {shown}:{port}"));
        match self.settings.tls {
            super::settings::TlsMode::Off => {}
            super::settings::TlsMode::Optional => {
                self.log(LogLevel::Info, "TLS available for client connections");
            }
            _ => self.log(LogLevel::Info, "TLS required for client connections"),
        }
        match self.reached_at(port) {
            Ok(reached_at) => self.reached_at = Some(reached_at),
            Err(error) => {
                let advertise = self.settings.advertise.as_deref().unwrap_or_default();
                let text = format!(
                    "Error setting server INFO with ClientAdvertise value of {advertise}, err={error}"
                );
                self.log(LogLevel::Fatal, text);
                self.outputs.push_back(Output::Failed);
                return;
            }
        }
        self.log(LogLevel::Info, "Server is ready");
    }

    pub(super) fn listen_failed(&mut self, error: &str) {
        let (host, port) = (self.settings.host.clone(), self.settings.port);
        self.log(LogLevel::Fatal, format!("Error listening on port: {host}:{port}, {error:?}"));
        self.outputs.push_back(Output::Failed);
    }

    pub(super) fn stop_listening(&mut self) {
        if self.home.is_some() {
            self.outputs.push_back(Output::StopListening { listener: Listener::Client });
        }
    }
}
