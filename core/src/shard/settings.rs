//! The settings of a shard, worked out once, and who the server is.

use std::sync::Arc;
use std::time::Duration;

use crate::auth::nkeys;
use crate::config::{AccountLimits, GLOBAL_ACCOUNT, HandshakeFirst, Options, WriteTimeoutPolicy};
use crate::connection::keepalive;
use crate::rng::Rng;

/// Who the server is, to clients and other servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Its public key, 56 characters that begin with `N`.
    pub id: String,
    /// Its curve key, 56 characters that begin with `X`.
    pub xkey: String,
    /// Its configured name, or its id.
    pub name: String,
    /// The commit that it was built from; empty if nobody knows.
    pub git_commit: String,
}

impl ServerIdentity {
    /// Makes the identity that belongs to a seed.
    pub fn from_seed(seed: [u8; 32], options: &Options) -> Self {
        let mut rng = Rng::from_seed(seed);
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        let id = nkeys::server_key(&secret);
        // Nobody encrypts to it before auth callouts exist; until then it only has to be a curve point's text.
        rng.fill(&mut secret);
        let xkey = nkeys::encode(nkeys::Kind::Curve, &secret);
        let name = options.server_name.clone().unwrap_or_else(|| id.clone());
        ServerIdentity { id, xkey, name, git_commit: String::new() }
    }
}

/// What a shard does with TLS on a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsMode {
    /// There is none.
    Off,
    /// INFO, then the handshake.
    Required,
    /// INFO, then what the client wants.
    Optional,
    /// The handshake, then INFO; after the time, if there is one, INFO all the same.
    First(Option<Duration>),
}

/// The settings of a shard.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) tls: TlsMode,
    pub(super) tls_verify: bool,
    /// Handshakes that may begin in a second, on all shards together.
    pub(super) tls_rate_limit: Option<u32>,
    pub(super) allow_non_tls: bool,
    pub(super) headers: bool,
    /// Clients are told that there are streams.
    pub(super) jetstream: bool,
    /// The domain that clients are told; empty if there is none.
    pub(super) jetstream_domain: String,
    pub(super) debug: bool,
    pub(super) trace: bool,
    pub(super) trace_headers: bool,
    pub(super) max_traced_msg_len: usize,
    pub(super) max_control_line: usize,
    pub(super) max_payload: Option<usize>,
    pub(super) max_pending: usize,
    pub(super) max_subscriptions: Option<usize>,
    pub(super) max_subscription_tokens: Option<usize>,
    pub(super) write_deadline: Duration,
    /// A client that takes some bytes, though too few, is kept.
    pub(super) retries_writes: bool,
    pub(super) auth_timeout: Duration,
    pub(super) keepalive: keepalive::Config,
    pub(super) lame_duck_duration: Duration,
    pub(super) lame_duck_grace: Duration,
    /// What clients are told instead of the real host and port; looked at when the port is known.
    pub(super) advertise: Option<String>,
    pub(super) host: String,
    pub(super) port: u16,
    /// Names of all accounts; the global one is the first.
    pub(super) accounts: Vec<Arc<str>>,
    pub(super) system_account: Option<u32>,
    /// By account; the global one has none.
    account_limits: Vec<AccountLimits>,
}

impl Settings {
    pub(super) fn new(options: &Options) -> Self {
        let mut accounts: Vec<Arc<str>> = vec![GLOBAL_ACCOUNT.into()];
        let configured = options.accounts.iter().map(|account| account.name.as_str());
        for name in options.system_account_name().into_iter().chain(configured) {
            if !accounts.iter().any(|known| **known == *name) {
                accounts.push(name.into());
            }
        }
        let system_account = options.system_account_name().and_then(|name| index_of(&accounts, name));
        let first = options.tls.as_ref().map(|tls| tls.handshake_first);
        let tls = match (&options.tls, first) {
            (None, _) => TlsMode::Off,
            (_, Some(HandshakeFirst::Always)) => TlsMode::First(None),
            (_, Some(HandshakeFirst::Fallback(delay))) => TlsMode::First(Some(delay)),
            _ if options.allow_non_tls => TlsMode::Optional,
            _ => TlsMode::Required,
        };
        let limits_of = |name: &Arc<str>| {
            let found = options.accounts.iter().find(|account| *account.name == **name);
            found.map(|account| account.limits).unwrap_or_default()
        };
        let account_limits = accounts.iter().map(limits_of).collect();
        Settings {
            tls,
            tls_rate_limit: options.tls.as_ref().and_then(|tls| tls.connection_rate_limit),
            tls_verify: options.tls.as_ref().is_some_and(|tls| tls.verify || tls.verify_and_map),
            allow_non_tls: options.allow_non_tls,
            headers: !options.no_header_support,
            jetstream: options.jetstream.is_some(),
            jetstream_domain: options.jetstream_domain.clone().unwrap_or_default(),
            debug: options.logging.debug,
            trace: options.logging.trace,
            trace_headers: options.logging.trace_headers,
            max_traced_msg_len: options.logging.max_traced_msg_len.unwrap_or(usize::MAX),
            max_control_line: options.max_control_line as usize,
            max_payload: options.max_payload.map(|max| max as usize),
            max_pending: usize::try_from(options.max_pending).unwrap_or(usize::MAX),
            max_subscriptions: options.max_subscriptions.map(|max| max as usize),
            max_subscription_tokens: options.max_subscription_tokens.map(usize::from),
            write_deadline: options.write_deadline,
            retries_writes: options.write_timeout == WriteTimeoutPolicy::Retry,
            auth_timeout: options.auth_timeout,
            keepalive: keepalive::Config { interval: options.ping_interval, max_out: options.ping_max },
            lame_duck_duration: options.lame_duck_duration,
            lame_duck_grace: options.lame_duck_grace_period,
            advertise: options.client_advertise.clone(),
            host: options.host.clone(),
            port: options.port,
            accounts,
            system_account,
            account_limits,
        }
    }

    /// Returns the longest message that a connection of this account may publish.
    pub(super) fn max_payload_of(&self, account: u32) -> Option<usize> {
        let own = self.account_limits[account as usize].max_payload.map(|max| max as usize);
        own.into_iter().chain(self.max_payload).min()
    }

    /// Returns the most subscriptions that a connection of this account may have.
    pub(super) fn max_subscriptions_of(&self, account: u32) -> Option<usize> {
        let own = self.account_limits[account as usize].max_subscriptions.map(|max| max as usize);
        own.into_iter().chain(self.max_subscriptions).min()
    }

    /// Returns the most connections that this account may have.
    pub(super) fn max_connections_of(&self, account: u32) -> Option<u32> {
        self.account_limits[account as usize].max_connections
    }

    /// Returns the index of the account of that name.
    pub(super) fn account(&self, name: &str) -> Option<u32> {
        index_of(&self.accounts, name)
    }
}

fn index_of(accounts: &[Arc<str>], name: &str) -> Option<u32> {
    accounts.iter().position(|known| **known == *name).map(|index| index as u32)
}
