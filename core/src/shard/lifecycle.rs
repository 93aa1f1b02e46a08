//! A connection's way in and out: admission, INFO, TLS, closing.

use std::io::IoSlice;
use std::net::SocketAddr;

use super::io::{CloseCause, LogLevel, Output, TlsFailure};
use super::settings::TlsMode;
use super::{Shard, Stage};
use crate::auth::TlsPeer;
use crate::connection::ClosedReason;
use crate::connection::client::{Client, Parked, Phase};
use crate::connection::keepalive::Keepalive;
use crate::ids::ConnId;
use crate::monitoring::ClosedConn;
use crate::protocol::encode;
use crate::protocol::info::{API_LEVEL, Info, REFERENCE_VERSION};
use crate::protocol::json::escape_as_go;
use crate::time::{Duration, Now};

/// The first byte of a TLS handshake record.
const TLS_HANDSHAKE: u8 = 0x16;
/// What the TLS library says of a peer that speaks something else.
const NO_TLS: &str = "first record does not look like a TLS handshake";

impl Shard {
    pub(super) fn accepted(&mut self, now: Now, conn: ConnId, peer: SocketAddr) {
        self.exchange.clients.insert(Client::new(conn, peer, now));
        self.exchange.accounts[0].connections += 1;
        self.stats.total_connections += 1;
        self.ask_admission(now, conn);
    }

    /// Goes on with a connection once the home shard has answered.
    pub(super) fn admitted(&mut self, now: Now, conn: ConnId, cid: u64, within_limit: bool) {
        let plain = self.first_plain_phase();
        let needs_nonce = self.authenticator.needs_nonce();
        let jitter = self.rng.child();
        let Some(client) = self.exchange.clients.get_mut(conn) else {
            // It has closed meanwhile; its place is free again.
            if within_limit {
                self.tell_left();
            }
            return;
        };
        client.cid = cid;
        client.counted = within_limit;
        if needs_nonce {
            let mut raw = [0; 11];
            { jitter }.fill(&mut raw);
            client.nonce = Some(data_encoding::BASE64URL_NOPAD.encode(&raw).into());
        }
        client.keepalive = Some(Box::new(Keepalive::before_connect(now.instant, self.settings.keepalive)));
        if self.authenticator.is_required() {
            client.auth_deadline = Some(now.instant + self.settings.auth_timeout);
        }
        client.phase = match self.settings.tls {
            TlsMode::Off => plain,
            TlsMode::Required => Phase::Handshake { info_after: false },
            TlsMode::Optional => Phase::TlsOrPlain,
            TlsMode::First(None) => Phase::Handshake { info_after: true },
            TlsMode::First(Some(delay)) => Phase::TlsFirst { info_at: now.instant + delay },
        };
        let phase = self.exchange.clients.get(conn).map(|client| client.phase);
        self.log_client(LogLevel::Debug, conn, "Client connection created");
        if !matches!(phase, Some(Phase::TlsFirst { .. } | Phase::Handshake { info_after: true })) {
            self.send_info(conn, false);
        }
        if !within_limit {
            self.refuse(conn, "maximum connections exceeded", ClosedReason::MaxConnectionsExceeded);
            return;
        }
        if self.stage != Stage::Running {
            self.exchange.doom(conn, ClosedReason::ServerShutdown);
            return;
        }
        if matches!(phase, Some(Phase::Handshake { .. })) {
            self.start_tls(now, conn, Vec::new());
        }
        self.unpark(now, conn, Parked::Admission);
        self.arm(conn);
    }

    fn first_plain_phase(&self) -> Phase {
        match self.authenticator.is_required() {
            true => Phase::Connecting,
            false => Phase::Open,
        }
    }

    /// Queues an INFO; `on_connect` for the one that follows the first PING after CONNECT.
    pub(super) fn send_info(&mut self, conn: ConnId, on_connect: bool) {
        let Some(client) = self.exchange.clients.get(conn) else { return };
        let settings = &self.settings;
        let (host, port) = match &self.reached_at {
            Some((host, port)) => (host.as_str(), *port),
            None => (settings.host.as_str(), i64::from(settings.port)),
        };
        let tls_required = match settings.tls {
            TlsMode::Off | TlsMode::Optional => false,
            TlsMode::Required => true,
            TlsMode::First(_) => !settings.allow_non_tls || matches!(client.phase, Phase::Handshake { .. }),
        };
        let address = client.peer.ip().to_canonical().to_string();
        let account = &self.exchange.accounts[client.account as usize].name;
        let info = Info {
            server_id: &self.identity.id,
            server_name: &self.identity.name,
            version: REFERENCE_VERSION,
            proto: 1,
            git_commit: &self.identity.git_commit,
            host,
            port,
            headers: settings.headers,
            auth_required: self.authenticator.asks_for_credentials(),
            tls_required,
            tls_verify: settings.tls != TlsMode::Off && settings.tls_verify,
            tls_available: settings.tls != TlsMode::Off && settings.allow_non_tls,
            max_payload: settings.max_payload_of(client.account).map_or(-1, |max| max as i64),
            jetstream: settings.jetstream,
            domain: &settings.jetstream_domain,
            client_id: client.cid,
            client_ip: &address,
            nonce: client.nonce.as_deref().filter(|_| !on_connect).unwrap_or_default(),
            ldm: self.stage != Stage::Running,
            connect_info: on_connect,
            remote_account: if on_connect { account } else { "" },
            acc_is_sys: on_connect && settings.system_account == Some(client.account),
            api_lvl: API_LEVEL,
            xkey: &self.identity.xkey,
            ..Info::default()
        };
        let json = escape_as_go(serde_json::to_vec(&info).expect("INFO is made of strings and numbers"));
        let mut line = Vec::with_capacity(json.len() + 8);
        encode::info(&mut line, &json);
        self.exchange.send(conn, &line);
    }

    /// Bytes have come on a connection that is still to show whether it speaks TLS; `true` if they are plain text.
    pub(super) fn tls_or_plain(&mut self, now: Now, conn: ConnId, bytes: &[u8]) -> bool {
        let plain = self.first_plain_phase();
        let Some(client) = self.exchange.clients.get_mut(conn) else { return false };
        let info_after = match client.phase {
            Phase::TlsFirst { .. } => true,
            Phase::TlsOrPlain if bytes.first() == Some(&TLS_HANDSHAKE) => false,
            Phase::TlsOrPlain => {
                client.phase = plain;
                return true;
            }
            Phase::Admission | Phase::Handshake { .. } => return false,
            Phase::Connecting | Phase::Open => return true,
        };
        client.phase = Phase::Handshake { info_after };
        self.start_tls(now, conn, bytes.to_vec());
        false
    }

    /// A client that should have begun TLS first has not: it gets its INFO now.
    pub(super) fn tls_first_given_up(&mut self, now: Now, conn: ConnId) {
        let optional = self.settings.allow_non_tls;
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        client.phase = if optional { Phase::TlsOrPlain } else { Phase::Handshake { info_after: false } };
        self.send_info(conn, false);
        if !optional {
            self.start_tls(now, conn, Vec::new());
        }
    }

    /// Has the runtime begin a handshake, unless there were too many lately.
    ///
    /// Differs: each shard has its part of the limit, so that no shard has to ask another; connections are placed by
    /// load, so the parts fill evenly.
    fn start_tls(&mut self, now: Now, conn: ConnId, received: Vec<u8>) {
        if self.tls_throttle.as_mut().is_none_or(|throttle| throttle.allow(now.instant)) {
            self.settle(now);
            self.outputs.push_back(Output::StartTls { conn, received });
            return;
        }
        self.send_error(conn, "Connection throttling is active. Please try again later.");
        self.exchange.doom(conn, ClosedReason::MaxConnectionsExceeded);
    }

    pub(super) fn tls_established(&mut self, _now: Now, conn: ConnId, peer: Box<TlsPeer>) {
        let plain = self.first_plain_phase();
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let info_after = client.phase == Phase::Handshake { info_after: true };
        client.tls_peer = Some(peer);
        client.tls_first = info_after;
        if info_after {
            self.send_info(conn, false);
        }
        if let Some(client) = self.exchange.clients.get_mut(conn) {
            client.phase = plain;
        }
        self.log_client(LogLevel::Debug, conn, "TLS handshake complete");
    }

    pub(super) fn tls_failed(&mut self, now: Now, conn: ConnId, failure: &TlsFailure) {
        // Whoever speaks no TLS at all is a scanner or a lost client, and nothing that an operator must mend.
        let level = match failure {
            TlsFailure::TimedOut => LogLevel::Debug,
            TlsFailure::Error(error) if error.contains(NO_TLS) => LogLevel::Debug,
            TlsFailure::Error(_) => LogLevel::Error,
        };
        self.log_client(level, conn, &failure.to_string());
        self.forget(now, conn, ClosedReason::TlsHandshakeError);
    }

    pub(super) fn connection_lost(&mut self, now: Now, conn: ConnId, cause: CloseCause) {
        let reason = match cause {
            CloseCause::ReadError => ClosedReason::ReadError,
            CloseCause::WriteError => ClosedReason::WriteError,
        };
        self.forget(now, conn, reason);
    }

    /// Tells the peer an error and closes.
    pub(super) fn refuse(&mut self, conn: ConnId, text: &str, reason: ClosedReason) {
        self.log_client(LogLevel::Error, conn, text);
        self.send_error(conn, text);
        self.exchange.doom(conn, reason);
    }

    /// Tells the peer an error; the connection goes on.
    pub(super) fn send_error(&mut self, conn: ConnId, text: &str) {
        let mut line = Vec::with_capacity(text.len() + 10);
        encode::error(&mut line, text);
        self.exchange.send(conn, &line);
    }

    /// Has the runtime write what waits for a connection.
    pub(super) fn flush(&mut self, now: Now, conn: ConnId) {
        if let Some(client) = self.exchange.clients.get_mut(conn) {
            client.write_started(now.instant, self.settings.write_deadline);
            self.outputs.push_back(Output::Flush { conn });
            self.arm(conn);
        }
    }

    pub(super) fn written(&mut self, now: Now, conn: ConnId, n: usize) {
        let exchange = &mut self.exchange;
        if let Some(client) = exchange.clients.get_mut(conn) {
            client.written(now, &mut exchange.pool, n);
        }
    }

    /// Closes a doomed connection: what waits for it is written if the peer can be expected to read it.
    pub(super) fn close(&mut self, now: Now, conn: ConnId) {
        let exchange = &mut self.exchange;
        let Some(client) = exchange.clients.get_mut(conn) else { return };
        let reason = client.doomed.unwrap_or(ClosedReason::ClientClosed);
        let (last_bytes, complaint) = match reason {
            ClosedReason::SlowConsumerPendingBytes => {
                let max = self.settings.max_pending;
                (Vec::new(), Some(format!("Slow Consumer Detected: MaxPending of {max} Exceeded")))
            }
            ClosedReason::SlowConsumerWriteDeadline => {
                let text = write_deadline_text(client, self.settings.write_deadline);
                (Vec::new(), Some(text))
            }
            _ => (client.outbound.drain(&mut exchange.pool), None),
        };
        if let Some(complaint) = complaint {
            self.log_client(LogLevel::Info, conn, &complaint);
        }
        self.forget(now, conn, reason);
        self.outputs.push_back(Output::Close { conn, last_bytes });
    }

    /// Logs that a socket is too slow, which its connection survives.
    pub(super) fn tell_write_deadline(&mut self, conn: ConnId) {
        if let Some(client) = self.exchange.clients.get(conn) {
            let text = write_deadline_text(client, self.settings.write_deadline);
            self.log_client(LogLevel::Info, conn, &text);
        }
    }

    /// Takes a connection out of everything; its socket is gone or about to be closed.
    fn forget(&mut self, now: Now, conn: ConnId, reason: ClosedReason) {
        let Some(client) = self.exchange.clients.get(conn) else { return };
        let (account, counted, counted_in) = (client.account, client.counted, client.counted_in);
        if client.cid != 0 {
            let source = super::describe::Described { client, exchange: &self.exchange };
            let closed = ClosedConn::new(&source, now.wall, reason);
            let line = format!("Client connection closed: {reason}");
            self.log_client(LogLevel::Debug, conn, &line);
            self.closed.push(closed);
        }
        if reason == ClosedReason::StaleConnection {
            self.stats.stale_connections += 1;
        }
        self.candidates.remove(&conn);
        self.exchange.accounts[account as usize].connections -= 1;
        self.exchange.remove_connection(conn);
        if counted {
            self.tell_left();
        }
        if let Some(account) = counted_in {
            self.tell_leave(account);
        }
        self.stop_if_empty();
    }
}

/// Words a missed write deadline as the reference does.
fn write_deadline_text(client: &Client, deadline: Duration) -> String {
    let deadline = crate::config::format_duration(i64::try_from(deadline.as_nanos()).unwrap_or(i64::MAX));
    let pending = client.outbound.pending();
    let chunks = bytes::Buf::chunks_vectored(&client.outbound.view(), &mut [IoSlice::new(&[]); 1024]);
    format!(
        "Slow Consumer Detected: WriteDeadline of {deadline} exceeded with {chunks} chunks of {pending} total bytes."
    )
}
