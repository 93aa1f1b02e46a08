//! One connection, as its owner describes it, as a ring of closed ones keeps it, and as /connz shows it.
//!
//! Invariant: what a [`ClosedRing`] keeps is bounded in connections and, over all of them, in subscriptions.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::ClosedReason;
use super::text::{Hex, is_zero, optional_time, time, uptime};
use crate::config::{GLOBAL_ACCOUNT, format_duration};
use crate::time::WallTime;

/// Something that can be described as a connection: the machine that owns one, or a reference to it.
pub trait ConnSource {
    /// Describes the connection, without copying anything.
    fn facts(&self) -> ConnFacts<'_>;

    /// Shows each of its subscriptions, in the order in which a client would expect them.
    fn visit_subscriptions(&self, visit: &mut dyn FnMut(SubFacts<'_>));
}

/// Messages and bytes that went through something, both ways; payloads with their headers, no protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Messages received from the other end.
    pub in_msgs: u64,
    /// Bytes of those messages.
    pub in_bytes: u64,
    /// Messages sent to the other end.
    pub out_msgs: u64,
    /// Bytes of those messages.
    pub out_bytes: u64,
}

impl Traffic {
    /// Adds what went through something else.
    pub fn add(&mut self, other: &Traffic) {
        self.in_msgs += other.in_msgs;
        self.in_bytes += other.in_bytes;
        self.out_msgs += other.out_msgs;
        self.out_bytes += other.out_bytes;
    }
}

/// A client connection as plain facts, borrowed from whoever owns it.
#[derive(Clone, Copy, Debug)]
pub struct ConnFacts<'a> {
    /// Its id, unique in the server.
    pub cid: u64,
    /// The other end.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub start: WallTime,
    /// When it last did something.
    pub last_activity: WallTime,
    /// Time from a PING to its PONG; zero if none was measured yet.
    pub rtt: Duration,
    /// Bytes that wait for its socket.
    pub pending_bytes: usize,
    /// Messages both ways.
    pub traffic: Traffic,
    /// How often it was held back for publishing faster than somebody reads.
    pub stalls: u64,
    /// Number of its subscriptions.
    pub subscriptions: usize,
    /// `name` of its CONNECT.
    pub name: &'a str,
    /// `lang` of its CONNECT.
    pub lang: &'a str,
    /// `version` of its CONNECT.
    pub version: &'a str,
    /// The TLS session, once there is one.
    pub tls: Option<TlsFacts<'a>>,
    /// Who it said it is: the user's name or nkey, `[REDACTED]` for a token, empty for nobody.
    pub user: &'a str,
    /// Whether the user has an nkey.
    pub by_nkey: bool,
    /// The public key of the trusted proxy that it came through.
    pub proxy: Option<&'a str>,
    /// The account that it is in; the global one before it is authenticated.
    pub account: &'a str,
}

/// A TLS session as plain facts.
#[derive(Clone, Copy, Debug)]
pub struct TlsFacts<'a> {
    /// Protocol version, such as `1.3`.
    pub version: &'a str,
    /// Cipher suite, such as `TLS_AES_128_GCM_SHA256`.
    pub cipher: &'a str,
    /// Whether the handshake came before INFO.
    pub first: bool,
    /// The client's certificate, if it sent one.
    pub certificate: Option<CertificateFacts<'a>>,
}

/// A client's certificate as plain facts.
#[derive(Clone, Copy, Debug)]
pub struct CertificateFacts<'a> {
    /// The distinguished name of its subject.
    pub subject: &'a str,
    /// SHA-256 of the subject's public key info.
    pub spki_sha256: &'a [u8; 32],
    /// SHA-256 of the whole certificate.
    pub sha256: &'a [u8; 32],
}

/// A subscription as plain facts.
#[derive(Clone, Copy, Debug)]
pub struct SubFacts<'a> {
    /// Its subject; may have wildcards.
    pub subject: &'a [u8],
    /// Its queue group; empty for none.
    pub queue: &'a [u8],
    /// The id that the client gave it.
    pub sid: &'a [u8],
    /// Messages delivered so far.
    pub msgs: u64,
    /// Messages after which it ends; zero for never.
    pub max: u64,
}

/// A subscription in the lists of /connz and /subsz.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubDetail {
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    account_tag: String,
    subject: String,
    #[serde(rename = "qgroup", skip_serializing_if = "String::is_empty")]
    queue: String,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    cid: u64,
}

impl SubDetail {
    /// Describes a subscription of the connection `cid`.
    ///
    /// The account is shown where the context doesn't tell it: in /subsz and for closed connections.
    pub fn new(facts: SubFacts<'_>, cid: u64, account: Option<&str>) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let account = account.unwrap_or_default().to_owned();
        SubDetail {
            // The tag is the account's own unless a JWT says otherwise.
            account_tag: account.clone(),
            account,
            subject: text(facts.subject),
            queue: text(facts.queue),
            sid: text(facts.sid),
            msgs: facts.msgs,
            max: facts.max,
            cid,
        }
    }
}

impl SubDetail {
    pub(super) fn subject(&self) -> &str {
        &self.subject
    }

    pub(super) fn cid(&self) -> u64 {
        self.cid
    }
}

/// A client's certificate in /connz.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TlsPeerCert {
    #[serde(skip_serializing_if = "String::is_empty")]
    subject: String,
    spki_sha256: String,
    cert_sha256: String,
}

impl TlsPeerCert {
    fn new(facts: CertificateFacts<'_>) -> Self {
        TlsPeerCert {
            subject: facts.subject.to_owned(),
            spki_sha256: Hex(facts.spki_sha256).to_string(),
            cert_sha256: Hex(facts.sha256).to_string(),
        }
    }
}

/// A connection in /connz.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ConnInfo {
    pub(super) cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    client_type: &'static str,
    ip: String,
    port: u16,
    #[serde(serialize_with = "time")]
    start: WallTime,
    #[serde(serialize_with = "time")]
    last_activity: WallTime,
    #[serde(serialize_with = "optional_time", skip_serializing_if = "Option::is_none")]
    stop: Option<WallTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ClosedReason>,
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tls_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    tls_cipher_suite: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_peer_certs: Vec<TlsPeerCert>,
    #[serde(skip_serializing_if = "is_zero")]
    tls_first: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) authorized_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) account: String,
    #[serde(rename = "subscriptions_list", skip_serializing_if = "Vec::is_empty")]
    pub(super) subs: Vec<String>,
    #[serde(rename = "subscriptions_list_detail", skip_serializing_if = "Vec::is_empty")]
    pub(super) subs_detail: Vec<SubDetail>,
    /// The account of a user with an nkey.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) issuer_key: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name_tag: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxy: Option<ProxyInfo>,
}

/// The proxy that a connection came through.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct ProxyInfo {
    key: String,
}

impl ConnInfo {
    /// Describes a connection at `now`; what only some requests want is left empty.
    pub(super) fn new(facts: &ConnFacts<'_>, now: WallTime) -> Self {
        let tls = facts.tls.as_ref();
        ConnInfo {
            cid: facts.cid,
            kind: "Client",
            client_type: "nats",
            ip: facts.peer.ip().to_canonical().to_string(),
            port: facts.peer.port(),
            start: facts.start,
            last_activity: facts.last_activity,
            stop: None,
            reason: None,
            rtt: format_duration(shown_rtt(facts.rtt)),
            uptime: uptime(now.since(facts.start)),
            idle: uptime(now.since(facts.last_activity)),
            pending_bytes: facts.pending_bytes,
            in_msgs: facts.traffic.in_msgs,
            out_msgs: facts.traffic.out_msgs,
            in_bytes: facts.traffic.in_bytes,
            out_bytes: facts.traffic.out_bytes,
            stalls: facts.stalls,
            subscriptions: facts.subscriptions,
            name: facts.name.to_owned(),
            lang: facts.lang.to_owned(),
            version: facts.version.to_owned(),
            tls_version: tls.map_or_else(String::new, |tls| tls.version.to_owned()),
            tls_cipher_suite: tls.map_or_else(String::new, |tls| tls.cipher.to_owned()),
            tls_peer_certs: Vec::new(),
            tls_first: tls.is_some_and(|tls| tls.first),
            authorized_user: String::new(),
            account: String::new(),
            subs: Vec::new(),
            subs_detail: Vec::new(),
            issuer_key: String::new(),
            name_tag: String::new(),
            proxy: facts.proxy.map(|key| ProxyInfo { key: key.to_owned() }),
        }
    }

    /// Adds what `auth=true` asks for.
    pub(super) fn with_auth(mut self, facts: &ConnFacts<'_>) -> Self {
        self.authorized_user = facts.user.to_owned();
        if facts.account != GLOBAL_ACCOUNT {
            self.account = facts.account.to_owned();
        }
        if facts.by_nkey {
            self.issuer_key = facts.account.to_owned();
        }
        self.name_tag = facts.account.to_owned();
        let certificate = facts.tls.and_then(|tls| tls.certificate);
        self.tls_peer_certs = certificate.map(TlsPeerCert::new).into_iter().collect();
        self
    }
}

/// Returns the nanoseconds of a round trip; one below a millisecond is shown in whole microseconds.
fn shown_rtt(rtt: Duration) -> i64 {
    let nanos = i64::try_from(rtt.as_nanos()).unwrap_or(i64::MAX);
    if (1_000..1_000_000).contains(&nanos) { nanos / 1_000 * 1_000 } else { nanos }
}

/// What is remembered of a closed connection.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedConn {
    pub(super) info: ConnInfo,
    peer: SocketAddr,
    rtt: Duration,
    pub(super) stop: WallTime,
    pub(super) reason: ClosedReason,
    pub(super) user: Box<str>,
    pub(super) account: Box<str>,
    pub(super) by_nkey: bool,
    pub(super) subs: Vec<SubDetail>,
}

impl ClosedConn {
    /// Remembers a connection that is closed now.
    pub fn new(conn: &impl ConnSource, now: WallTime, reason: ClosedReason) -> Self {
        let facts = conn.facts();
        let mut subs = Vec::new();
        conn.visit_subscriptions(&mut |sub| {
            if subs.len() < ClosedRing::MAX_SUBSCRIPTIONS {
                subs.push(SubDetail::new(sub, facts.cid, Some(facts.account)));
            }
        });
        let mut info = ConnInfo::new(&facts, now);
        info.stop = Some(now);
        info.reason = Some(reason);
        ClosedConn {
            info,
            peer: facts.peer,
            rtt: facts.rtt,
            stop: now,
            reason,
            user: facts.user.into(),
            account: facts.account.into(),
            by_nkey: facts.by_nkey,
            subs,
        }
    }

    /// Describes the connection as it was when it closed, without its TLS session.
    pub(super) fn facts(&self) -> ConnFacts<'_> {
        let info = &self.info;
        ConnFacts {
            cid: info.cid,
            peer: self.peer,
            start: info.start,
            last_activity: info.last_activity,
            rtt: self.rtt,
            pending_bytes: info.pending_bytes,
            traffic: Traffic {
                in_msgs: info.in_msgs,
                in_bytes: info.in_bytes,
                out_msgs: info.out_msgs,
                out_bytes: info.out_bytes,
            },
            stalls: info.stalls,
            subscriptions: info.subscriptions,
            name: &info.name,
            lang: &info.lang,
            version: &info.version,
            tls: None,
            user: &self.user,
            by_nkey: self.by_nkey,
            proxy: info.proxy.as_ref().map(|proxy| proxy.key.as_str()),
            account: &self.account,
        }
    }
}

/// The connections of one shard that were closed last, oldest first.
///
/// Differs: the reference keeps every subscription of all of them, which a client can make as many as it likes;
/// here the oldest connections lose theirs once there are [`ClosedRing::MAX_SUBSCRIPTIONS`] in the ring.
#[derive(Clone, Debug)]
pub struct ClosedRing {
    capacity: usize,
    conns: VecDeque<Arc<ClosedConn>>,
    /// How many of the oldest connections have no subscriptions any more.
    stripped: usize,
    /// Subscriptions of all the others.
    subscriptions: usize,
}

impl ClosedRing {
    /// How many subscriptions are remembered, over all closed connections.
    pub const MAX_SUBSCRIPTIONS: usize = 16 * 1024;

    /// Makes a ring that remembers `capacity` connections.
    pub fn new(capacity: usize) -> Self {
        ClosedRing { capacity, conns: VecDeque::new(), stripped: 0, subscriptions: 0 }
    }

    /// Remembers one more connection, and forgets the oldest if there is no room.
    pub fn push(&mut self, conn: ClosedConn) {
        self.subscriptions += conn.subs.len();
        self.conns.push_back(Arc::new(conn));
        while self.conns.len() > self.capacity {
            if let Some(oldest) = self.conns.pop_front() {
                self.subscriptions -= oldest.subs.len();
                self.stripped = self.stripped.saturating_sub(1);
            }
        }
        while self.subscriptions > Self::MAX_SUBSCRIPTIONS {
            let Some(conn) = self.conns.get_mut(self.stripped) else { break };
            self.stripped += 1;
            if !conn.subs.is_empty() {
                self.subscriptions -= conn.subs.len();
                Arc::make_mut(conn).subs = Vec::new();
            }
        }
    }

    /// Returns the remembered connections, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<ClosedConn>> + DoubleEndedIterator {
        self.conns.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::connz::tests::TestConn;
    use super::*;

    fn closed(cid: u64, subscriptions: usize) -> ClosedConn {
        let mut conn = TestConn::default();
        conn.cid = cid;
        conn.subs = vec![("foo".to_owned(), String::new()); subscriptions];
        ClosedConn::new(&conn, WallTime::from_unix_nanos(cid as i64), ClosedReason::ClientClosed)
    }

    fn cids(ring: &ClosedRing) -> Vec<u64> {
        ring.iter().map(|conn| conn.info.cid).collect()
    }

    #[test]
    fn a_full_ring_forgets_the_oldest() {
        let mut ring = ClosedRing::new(3);
        (1..=2).for_each(|cid| ring.push(closed(cid, 0)));
        assert_eq!(cids(&ring), [1, 2]);
        (3..=8).for_each(|cid| ring.push(closed(cid, 0)));
        assert_eq!(cids(&ring), [6, 7, 8]);
        let mut none = ClosedRing::new(0);
        none.push(closed(1, 1));
        assert_eq!((cids(&none).len(), none.subscriptions), (0, 0));
    }

    #[test]
    fn remembered_subscriptions_are_bounded_and_the_newest_stay() {
        let half = ClosedRing::MAX_SUBSCRIPTIONS / 2;
        let mut ring = ClosedRing::new(10);
        for cid in 1..=4 {
            ring.push(closed(cid, half));
            ring.push(closed(cid + 100, 1));
        }
        let kept: usize = ring.iter().map(|conn| conn.subs.len()).sum();
        assert!(kept <= ClosedRing::MAX_SUBSCRIPTIONS && kept >= half, "{kept}");
        assert_eq!(kept, ring.subscriptions);
        assert_eq!(ring.iter().next().unwrap().subs.len(), 0);
        assert_eq!(ring.iter().next_back().unwrap().subs.len(), 1);
        // A single connection with more than the whole ring may hold keeps what fits.
        ring.push(closed(9, 3 * half));
        assert_eq!(ring.iter().next_back().unwrap().subs.len(), ClosedRing::MAX_SUBSCRIPTIONS);
        assert_eq!(ring.subscriptions, ClosedRing::MAX_SUBSCRIPTIONS);
    }
}
