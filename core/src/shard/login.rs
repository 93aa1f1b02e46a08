//! CONNECT and what follows from it.

use super::Shard;
use super::io::{LogLevel, Output, WorkDone, WorkRequest};
use crate::auth::authenticator::{Decision, Identity, Refusal, Route};
use crate::auth::permissions::Permissions;
use crate::config::{ConnectionType, Secret};
use crate::connection::ClosedReason;
use crate::connection::client::{Client, Parked, Phase};
use crate::connection::keepalive::Keepalive;
use crate::ids::ConnId;
use crate::protocol::encode;
use crate::time::Now;

/// The newest client protocol.
const MAX_PROTOCOL: i64 = 1;

/// Tells whether anything but CONNECT is an offence.
pub(super) fn awaits_connect(client: &Client) -> bool {
    client.phase == Phase::Connecting && !client.connected
}

impl Shard {
    pub(super) fn connect(&mut self, now: Now, conn: ConnId, json: &[u8]) {
        let again = match self.exchange.clients.get_mut(conn) {
            None => return,
            Some(client) => {
                client.auth_deadline = None;
                if let Err(error) = client.connect.update(json) {
                    self.violation(conn, &error.to_string());
                    return;
                }
                client.connected
            }
        };
        if again {
            // It may end up in another account; what it had in the old one must not stay there.
            self.exchange.unsubscribe_all(conn);
        }
        self.authenticate(now, conn);
    }

    /// Lets a connection in as the default user because it didn't begin with CONNECT.
    pub(super) fn let_in_without_connect(&mut self, now: Now, conn: ConnId) -> bool {
        if !self.authenticator.lets_in_without_connect(ConnectionType::Standard) {
            return false;
        }
        let Some(client) = self.exchange.clients.get_mut(conn) else { return false };
        client.auth_deadline = None;
        let certificate = client.tls_peer.as_ref().and_then(|peer| peer.certificate.as_ref());
        let nonce = client.nonce.as_deref();
        let kind = ConnectionType::Standard;
        let route = Route::Direct;
        match self.authenticator.decide(&client.connect, nonce, certificate, kind, &route) {
            Decision::Accept(identity) => {
                self.enter(conn, &identity);
                if let Some(client) = self.exchange.clients.get_mut(conn) {
                    client.connected = true;
                    client.phase = Phase::Open;
                }
                self.restart_keepalive(now, conn);
                true
            }
            Decision::Reject(_) | Decision::Check(..) => false,
        }
    }

    fn authenticate(&mut self, now: Now, conn: ConnId) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let certificate = client.tls_peer.as_ref().and_then(|peer| peer.certificate.as_ref());
        let nonce = client.nonce.as_deref();
        let kind = ConnectionType::Standard;
        let route = self.authenticator.route(&client.connect, nonce);
        let decision = self.authenticator.decide(&client.connect, nonce, certificate, kind, &route);
        if let Route::Proxy(key) = route {
            client.label.proxy = Some(key);
        }
        match decision {
            Decision::Accept(identity) => self.logged_in(now, conn, &identity),
            Decision::Reject(why) => self.authorization_violation(conn, why),
            Decision::Check(job, identity) => {
                self.candidates.insert(conn, identity);
                self.outputs.push_back(Output::Work(WorkRequest { conn, job }));
                self.park(conn, Parked::Password);
            }
        }
    }

    pub(super) fn password_checked(&mut self, now: Now, done: WorkDone) {
        let Some(identity) = self.candidates.remove(&done.conn) else { return };
        if !done.matched {
            self.authorization_violation(done.conn, Refusal::Credentials);
            return;
        }
        self.logged_in(now, done.conn, &identity);
        self.unpark(now, done.conn, Parked::Password);
    }

    /// Lets a connection in, after CONNECT.
    fn logged_in(&mut self, now: Now, conn: ConnId, identity: &Identity) {
        let Some(client) = self.exchange.clients.get(conn) else { return };
        if client.connect.new_account || !client.connect.account.is_empty() {
            self.authorization_violation(conn, Refusal::Credentials);
            return;
        }
        self.enter(conn, identity);
        let limit = self.exchange.clients.get(conn).and_then(|client| {
            let max = self.settings.max_connections_of(client.account)?;
            (client.counted_in != Some(client.account)).then_some((client.account, max))
        });
        match limit {
            None => self.connected(now, conn),
            Some((account, max)) => self.ask_entry(now, conn, account, max),
        }
    }

    /// Goes on with a connection once the home shard has said whether its account has room.
    pub(super) fn entered(&mut self, now: Now, conn: ConnId, account: u32, within_limit: bool) {
        let Some(client) = self.exchange.clients.get_mut(conn) else {
            // It has closed meanwhile; its place is free again.
            if within_limit {
                self.tell_leave(account);
            }
            return;
        };
        if !within_limit {
            let text = "maximum account active connections exceeded";
            self.refuse(conn, text, ClosedReason::MaxAccountConnectionsExceeded);
            return;
        }
        if let Some(before) = client.counted_in.replace(account) {
            self.tell_leave(before);
        }
        self.connected(now, conn);
    }

    /// Takes what CONNECT said into effect.
    fn connected(&mut self, now: Now, conn: ConnId) {
        let supports_headers = self.settings.headers;
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let connect = &mut client.connect;
        for secret in [&mut connect.password, &mut connect.token, &mut connect.jwt] {
            *secret = Secret::default();
        }
        client.verbose = connect.verbose;
        client.pedantic = connect.pedantic;
        client.echo = connect.echo;
        client.headers = supports_headers && connect.headers;
        client.no_responders = connect.no_responders;
        client.wants_info = connect.protocol >= MAX_PROTOCOL;
        if !client.connected {
            client.label.in_log = super::describe::name_in_log(client, &self.exchange.accounts);
        }
        client.connected = true;
        client.phase = Phase::Open;
        let (verbose, protocol) = (client.verbose, client.connect.protocol);
        let mismatch = client.no_responders && !client.headers;
        self.restart_keepalive(now, conn);
        if !(0..=MAX_PROTOCOL).contains(&protocol) {
            self.refuse(conn, "invalid client protocol", ClosedReason::BadClientProtocolVersion);
        } else if mismatch {
            let text = "no responders requires headers support";
            self.refuse(conn, text, ClosedReason::NoRespondersRequiresHeaders);
        } else if verbose {
            self.exchange.send(conn, encode::OK);
        }
    }

    /// Gives a connection its account, name and permissions.
    fn enter(&mut self, conn: ConnId, identity: &Identity) {
        let account = identity.account.as_deref().and_then(|name| self.settings.account(name)).unwrap_or(0);
        let permissions = identity.permissions.as_ref().map(|rules| {
            let mut rng = self.rng.child();
            Box::new(Permissions::new(rules, &mut rng))
        });
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        client.permissions = permissions;
        client.label.user.clone_from(&identity.label);
        client.label.by_nkey = identity.by_nkey;
        let before = std::mem::replace(&mut client.account, account);
        self.exchange.accounts[before as usize].connections -= 1;
        self.exchange.accounts[account as usize].connections += 1;
    }

    fn restart_keepalive(&mut self, now: Now, conn: ConnId) {
        let jitter = self.rng.below(1001) as u32;
        let config = self.settings.keepalive;
        if let Some(client) = self.exchange.clients.get_mut(conn) {
            let took = now.instant - client.started_at;
            client.keepalive = Some(Box::new(Keepalive::new(now.instant, config, took, jitter)));
        }
        self.arm(conn);
    }

    pub(super) fn authorization_violation(&mut self, conn: ConnId, why: Refusal) {
        let reason = match why {
            Refusal::Credentials => ClosedReason::AuthenticationViolation,
            Refusal::ProxyNotTrusted => {
                self.log_client(LogLevel::Debug, conn, "proxy is not trusted");
                ClosedReason::ProxyNotTrusted
            }
            Refusal::ProxyRequired => {
                self.log_client(LogLevel::Debug, conn, "proxy connection required");
                ClosedReason::ProxyRequired
            }
        };
        let Some(client) = self.exchange.clients.get(conn) else { return };
        let connect = &client.connect;
        let text = match (connect.nkey.as_str(), connect.user.as_str(), connect.token.is_empty()) {
            ("", "", true) => "authentication error".to_owned(),
            ("", "", false) => "authentication error - Token \"[REDACTED]\"".to_owned(),
            ("", user, _) => format!("authentication error - User {user:?}"),
            (nkey, ..) => format!("authentication error - Nkey {nkey:?}"),
        };
        self.log_client(LogLevel::Error, conn, &text);
        self.send_error(conn, "Authorization Violation");
        self.exchange.doom(conn, reason);
    }
}
