//! A connection in the words of monitoring and logs.

use std::time::Duration;

use crate::connection::client::Client;
use crate::delivery::{AccountSpace, Exchange, Subscription};
use crate::monitoring::{CertificateFacts, ConnFacts, ConnSource, SubFacts, TlsFacts, Traffic};

/// A connection together with what its description needs to know.
pub(super) struct Described<'a> {
    pub(super) client: &'a Client,
    pub(super) exchange: &'a Exchange,
}

impl ConnSource for Described<'_> {
    fn facts(&self) -> ConnFacts<'_> {
        let client = self.client;
        let tls = client.tls_peer.as_deref().map(|peer| TlsFacts {
            version: &peer.version,
            cipher: &peer.cipher,
            first: client.tls_first,
            certificate: peer.certificate.as_ref().map(|certificate| CertificateFacts {
                subject: &certificate.subject,
                spki_sha256: &certificate.spki_sha256,
                sha256: &certificate.sha256,
            }),
        });
        let rtt = client.keepalive.as_ref().and_then(|keepalive| keepalive.round_trip());
        ConnFacts {
            cid: client.cid,
            peer: client.peer,
            start: client.started,
            last_activity: client.last_active,
            rtt: rtt.unwrap_or(Duration::ZERO),
            pending_bytes: client.outbound.pending(),
            traffic: Traffic {
                in_msgs: client.received.messages,
                in_bytes: client.received.bytes,
                out_msgs: client.sent.messages,
                out_bytes: client.sent.bytes,
            },
            stalls: client.stalls,
            subscriptions: client.sids.len(),
            name: &client.connect.name,
            lang: &client.connect.lang,
            version: &client.connect.version,
            tls,
            user: &client.label.user,
            by_nkey: client.label.by_nkey,
            proxy: client.label.proxy.as_deref(),
            account: &self.exchange.accounts[client.account as usize].name,
        }
    }

    fn visit_subscriptions(&self, visit: &mut dyn FnMut(SubFacts<'_>)) {
        let mut subscriptions: Vec<&Subscription> =
            self.client.sids.iter().map(|key| &self.exchange.subscriptions[*key as usize]).collect();
        subscriptions.sort_unstable_by(|a, b| (a.sid.len(), &a.sid).cmp(&(b.sid.len(), &b.sid)));
        for subscription in subscriptions {
            visit(facts(subscription));
        }
    }
}

/// A subscription in the words of monitoring.
pub(super) fn facts(subscription: &Subscription) -> SubFacts<'_> {
    SubFacts {
        subject: &subscription.subject,
        queue: subscription.queue.as_deref().unwrap_or_default(),
        sid: &subscription.sid,
        msgs: subscription.delivered,
        max: subscription.max,
    }
}

/// What log lines call a connection: where it comes from, its id, and what it first said of itself.
pub(super) fn log_name(client: &Client) -> String {
    format!("{} - cid:{}{}", client.peer, client.cid, client.label.in_log)
}

/// Returns what a CONNECT adds to a connection's name in the log.
///
/// Source: nats-server `server/client.go`, `processConnect`, where `ncs` is set, and `getAuthUserLabel`.
pub(super) fn name_in_log(client: &Client, accounts: &[AccountSpace]) -> String {
    let connect = &client.connect;
    let version = if connect.version.is_empty() { String::new() } else { format!("v{}", connect.version) };
    let parts = [version.as_str(), &connect.lang, &connect.name];
    let said = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(":");
    let mut name = String::new();
    if !said.is_empty() {
        name.push_str(&format!(" - {said:?}"));
    }
    let user = match (connect.nkey.as_str(), client.label.user.as_str()) {
        ("", "") => return name,
        ("", "[REDACTED]") => "token".to_owned(),
        ("", user) => format!("user:{user}"),
        (nkey, _) => format!("nkey:{nkey}"),
    };
    let account = &accounts[client.account as usize].name;
    name.push_str(&format!(" - {:?}", format!("{account}/{user}")));
    name
}
