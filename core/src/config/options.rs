//! The checked settings of one server: every field is in range, every default filled in.
//!
//! What the reference writes as a magic number is a type here: a limit of `-1` or `0` that means "none" is
//! `None`, a port of `-1` that means "any" is `Some(0)` or `0`, seconds as a float are a [`Duration`].
//! Everything compares with `==`, which is what a reload is made of.
//!
//! Source: nats-server `server/opts.go`, `Options` and `setBaselineOptions`.

mod jetstream;
mod tls;
mod users;

use std::collections::BTreeMap;
use std::time::Duration;

use zeroize::Zeroizing;

use super::source;

pub use jetstream::{AccountJetStream, JetStreamLimits, JetStreamOptions, SyncPolicy};
pub use tls::{CertificatePair, CipherSuite, Curve, HandshakeFirst, TlsOptions, TlsVersion};
pub use users::{
    Account, AccountLimits, ConnectionType, NkeyUser, Permissions, ResponsePermission, SubjectRules, User,
};

/// The port that clients connect to unless told otherwise.
pub const DEFAULT_PORT: u16 = 4222;
/// The account of connections that name none.
pub const GLOBAL_ACCOUNT: &str = "$G";
/// The account in which servers talk about themselves, unless another one is named.
pub const DEFAULT_SYSTEM_ACCOUNT: &str = "$SYS";

/// A password, token or key: its `Debug` output says nothing about it, and its memory is wiped when it is dropped.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(Zeroizing::new(text.into()))
    }

    /// Returns the secret itself; never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether there is nothing to hide.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[REDACTED]")
    }
}

/// What happens to a connection whose socket didn't take its bytes in time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WriteTimeoutPolicy {
    /// Close it if it is a client, try again if it is another server.
    #[default]
    Default,
    /// Close it.
    Close,
    /// Keep it and try again.
    Retry,
}

/// Everything a server can be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The file these settings were read from; `None` when there was none.
    pub config_file: Option<String>,
    /// `sha256:` and the hash of the configuration's values; `None` without a file.
    pub config_digest: Option<String>,
    /// The name shown to clients and peers; `None` means the server's id.
    pub server_name: Option<String>,
    /// The address to listen on for clients.
    pub host: String,
    /// The port to listen on for clients; 0 takes any free one.
    pub port: u16,
    /// The `host[:port]` that other servers and clients are told instead of the real one.
    pub client_advertise: Option<String>,
    /// How many shards to run; `None` leaves it to the runtime.
    ///
    /// natrix's own setting (`shards` in a file).
    pub shards: Option<u16>,

    /// How much goes to the log, and where.
    pub logging: LoggingOptions,
    /// The monitoring listener.
    pub monitoring: MonitoringOptions,

    /// The most client connections at a time; `None` is no limit.
    pub max_connections: Option<u32>,
    /// The most subscriptions of one connection; `None` is no limit.
    pub max_subscriptions: Option<u32>,
    /// The most tokens in a subscription's subject; `None` is no limit.
    pub max_subscription_tokens: Option<u8>,
    /// The longest protocol line in bytes, without its line end.
    pub max_control_line: u32,
    /// The longest message in bytes, headers included; `None` is no limit.
    pub max_payload: Option<u32>,
    /// The most bytes that may wait for one connection's socket before it counts as a slow consumer.
    pub max_pending: u64,
    /// How long a write to a socket may take.
    pub write_deadline: Duration,
    /// What a write that took too long leads to.
    pub write_timeout: WriteTimeoutPolicy,
    /// How long a connection may be quiet before it is pinged.
    pub ping_interval: Duration,
    /// How many pings may be unanswered; the next one closes the connection.
    pub ping_max: u32,
    /// Switches off the pauses of connections that publish faster than their consumers read.
    pub no_fast_producer_stall: bool,
    /// How many closed connections monitoring remembers.
    pub max_closed_clients: usize,
    /// How long a shutdown by lame duck mode may take; connections are closed spread over it.
    pub lame_duck_duration: Duration,
    /// How long lame duck mode waits before it closes the first connection; less than the duration.
    pub lame_duck_grace_period: Duration,
    /// Refuses message headers, and says so in INFO.
    pub no_header_support: bool,
    /// Switches the match cache off.
    pub disable_sublist_cache: bool,
    /// After how many failed attempts a first connection to a peer is reported, again and again.
    pub connect_error_reports: u32,
    /// After how many failed attempts a lost connection to a peer is reported, again and again.
    pub reconnect_error_reports: u32,

    /// Where the process id goes.
    pub pid_file: Option<String>,
    /// The folder for the file that lists the ports in use.
    pub ports_file_dir: Option<String>,
    /// The port of the profiler; `None` is none, 0 any free one.
    pub prof_port: Option<u16>,

    /// How long a connection may take to authenticate.
    pub auth_timeout: Duration,
    /// Whether the file had a top-level `authorization` block, even an empty one.
    ///
    /// With only the system account configured and no such block, anybody may use the global account.
    pub authorization_block: bool,
    /// The one user name of the whole server.
    pub username: Option<String>,
    /// The password of `username`, plain or a bcrypt hash.
    pub password: Option<Secret>,
    /// The one token of the whole server, plain or a bcrypt hash.
    pub token: Option<Secret>,
    /// Users with names and passwords, of all accounts.
    pub users: Vec<User>,
    /// Users that prove who they are by a signature, of all accounts.
    pub nkey_users: Vec<NkeyUser>,
    /// The user (or nkey) that a connection without credentials becomes; it exists.
    pub no_auth_user: Option<String>,
    /// Whether the one user or token of the whole server has to come through a trusted proxy.
    pub proxy_required: bool,
    /// The public keys of the proxies that are trusted; `None` without a `proxies` block.
    pub trusted_proxies: Option<Vec<String>>,
    /// The configured accounts, without the ones that always exist.
    pub accounts: Vec<Account>,
    /// The account in which servers talk about themselves; `None` means [`DEFAULT_SYSTEM_ACCOUNT`].
    pub system_account: Option<String>,
    /// Runs without a system account, unless there is JetStream, which needs one.
    pub no_system_account: bool,

    /// Streams; `None` is a server without.
    pub jetstream: Option<JetStreamOptions>,
    /// The domain that streams are in, which clients are told also by a server without; `None` is none.
    pub jetstream_domain: Option<String>,
    /// The folder in which the folder for streams is; `None` leaves it to the executable to find a temporary one.
    pub store_dir: Option<String>,

    /// TLS for clients; `None` is plain text.
    pub tls: Option<TlsOptions>,
    /// Accepts plain text connections beside TLS ones.
    pub allow_non_tls: bool,

    /// Words that describe the server, in lower case, in order of appearance, without repeats.
    pub server_tags: Vec<String>,
    /// Names and values that describe the server.
    pub server_metadata: BTreeMap<String, String>,
    /// Switches of the reference's experiments that were set explicitly.
    pub feature_flags: BTreeMap<String, bool>,
}

impl Options {
    /// How long a TLS handshake may take, also as monitoring reports it when there is no TLS.
    pub fn tls_timeout(&self) -> Duration {
        self.tls.as_ref().map_or(TlsOptions::DEFAULT_TIMEOUT, |tls| tls.timeout)
    }

    /// Tells whether anything is configured that a client must prove.
    pub fn requires_authentication(&self) -> bool {
        self.username.is_some()
            || self.token.is_some()
            || !self.users.is_empty()
            || !self.nkey_users.is_empty()
    }

    /// Returns what the streams of an account may take; `None` if it may have none.
    ///
    /// The global account may have all there is, unless there are other accounts.
    pub fn account_jetstream(&self, account: &str) -> Option<AccountJetStream> {
        self.jetstream.as_ref()?;
        if account != GLOBAL_ACCOUNT {
            return self.accounts.iter().find(|known| known.name == account)?.jetstream;
        }
        let system = self.system_account_name();
        let alone = self.accounts.iter().all(|known| Some(known.name.as_str()) == system);
        alone.then(AccountJetStream::default)
    }

    /// Returns the folder of the streams: `jetstream` in [`Options::store_dir`]; `None` while that is not known.
    pub fn jetstream_dir(&self) -> Option<String> {
        self.store_dir.as_ref().map(|folder| source::join(folder, "jetstream"))
    }

    /// Returns the name of the system account; `None` if there is to be none.
    pub fn system_account_name(&self) -> Option<&str> {
        match &self.system_account {
            Some(name) => Some(name),
            None if self.no_system_account && self.jetstream.is_none() => None,
            None => Some(DEFAULT_SYSTEM_ACCOUNT),
        }
    }
}

/// The settings of a server that was told nothing.
impl Default for Options {
    fn default() -> Self {
        Options {
            config_file: None,
            config_digest: None,
            server_name: None,
            host: "0.0.0.0".to_owned(),
            port: DEFAULT_PORT,
            client_advertise: None,
            shards: None,
            logging: LoggingOptions::default(),
            monitoring: MonitoringOptions::default(),
            max_connections: Some(64 * 1024),
            max_subscriptions: None,
            max_subscription_tokens: None,
            max_control_line: 4096,
            max_payload: Some(1024 * 1024),
            max_pending: 64 * 1024 * 1024,
            write_deadline: Duration::from_secs(10),
            write_timeout: WriteTimeoutPolicy::Default,
            ping_interval: Duration::from_secs(120),
            ping_max: 2,
            no_fast_producer_stall: false,
            max_closed_clients: 10_000,
            lame_duck_duration: Duration::from_secs(120),
            lame_duck_grace_period: Duration::from_secs(10),
            no_header_support: false,
            disable_sublist_cache: false,
            connect_error_reports: 3600,
            reconnect_error_reports: 1,
            pid_file: None,
            ports_file_dir: None,
            prof_port: None,
            auth_timeout: Duration::from_secs(2),
            authorization_block: false,
            username: None,
            password: None,
            token: None,
            users: Vec::new(),
            nkey_users: Vec::new(),
            no_auth_user: None,
            proxy_required: false,
            trusted_proxies: None,
            accounts: Vec::new(),
            system_account: None,
            no_system_account: false,
            jetstream: None,
            jetstream_domain: None,
            store_dir: None,
            tls: None,
            allow_non_tls: false,
            server_tags: Vec::new(),
            server_metadata: BTreeMap::new(),
            feature_flags: BTreeMap::new(),
        }
    }
}

/// How much goes to the log, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggingOptions {
    /// Logs debug lines.
    pub debug: bool,
    /// Logs the protocol, except the system account's.
    pub trace: bool,
    /// Logs the protocol of the system account too.
    pub trace_verbose: bool,
    /// Logs only the headers of traced messages, not their payloads.
    pub trace_headers: bool,
    /// Begins each line with the time.
    pub logtime: bool,
    /// Gives that time in UTC instead of the local zone.
    pub logtime_utc: bool,
    /// The file to log to instead of standard error.
    pub log_file: Option<String>,
    /// The size in bytes at which the file is rotated; `None` never.
    pub log_size_limit: Option<u64>,
    /// How many files rotation leaves, the live one included; `None` keeps all.
    pub logfile_max_num: Option<u64>,
    /// Logs to the local syslog.
    pub syslog: bool,
    /// Logs to the syslog at this address, such as `udp://127.0.0.1:514`.
    pub remote_syslog: Option<String>,
    /// The most bytes of a message that a trace shows; `None` is no limit.
    pub max_traced_msg_len: Option<usize>,
}

impl Default for LoggingOptions {
    fn default() -> Self {
        LoggingOptions {
            debug: false,
            trace: false,
            trace_verbose: false,
            trace_headers: false,
            logtime: true,
            logtime_utc: false,
            log_file: None,
            log_size_limit: None,
            logfile_max_num: None,
            syslog: false,
            remote_syslog: None,
            max_traced_msg_len: None,
        }
    }
}

/// The monitoring listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MonitoringOptions {
    /// The address to listen on; the client listener's unless given.
    pub host: String,
    /// The port for plain HTTP; `None` is none, 0 any free one.
    pub http_port: Option<u16>,
    /// The port for HTTPS; `None` is none, 0 any free one. Needs [`Options::tls`].
    pub https_port: Option<u16>,
    /// The path that all endpoints are under, beginning with `/` and, unless it is only that, not ending so.
    pub base_path: String,
}

impl Default for MonitoringOptions {
    fn default() -> Self {
        MonitoringOptions {
            host: "0.0.0.0".to_owned(),
            http_port: None,
            https_port: None,
            base_path: "/".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let options = Options { password: Some(Secret::new("s3cr3t")), ..Options::default() };
        let printed = format!("{options:?}");
        assert!(printed.contains("[REDACTED]"));
        assert!(!printed.contains("s3cr3t"));
    }

    #[test]
    fn the_system_account_is_named_defaulted_or_absent() {
        let mut options = Options::default();
        assert_eq!(options.system_account_name(), Some("$SYS"));
        options.no_system_account = true;
        assert_eq!(options.system_account_name(), None);
        options.jetstream = Some(JetStreamOptions::default());
        assert_eq!(options.system_account_name(), Some("$SYS"));
        options.system_account = Some("ADMIN".to_owned());
        assert_eq!(options.system_account_name(), Some("ADMIN"));
    }

    #[test]
    fn the_global_account_has_streams_unless_there_are_others() {
        let account =
            |name: &str, jetstream| Account { name: name.to_owned(), jetstream, ..Account::default() };
        let mut options = Options::default();
        assert_eq!(options.account_jetstream(GLOBAL_ACCOUNT), None);
        options.jetstream = Some(JetStreamOptions::default());
        options.accounts.push(account("$SYS", None));
        assert_eq!(options.account_jetstream(GLOBAL_ACCOUNT), Some(AccountJetStream::default()));
        assert_eq!(options.account_jetstream("$SYS"), None);
        let limits = AccountJetStream { max_streams: Some(3), ..AccountJetStream::default() };
        options.accounts.push(account("A", Some(limits)));
        assert_eq!(options.account_jetstream(GLOBAL_ACCOUNT), None);
        assert_eq!(options.account_jetstream("A"), Some(limits));
        assert_eq!(options.account_jetstream("B"), None);
        assert_eq!(options.jetstream_dir(), None);
        options.store_dir = Some("/data//x/".to_owned());
        assert_eq!(options.jetstream_dir().as_deref(), Some("/data/x/jetstream"));
    }
}
