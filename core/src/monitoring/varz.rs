//! /varz: what the server is, how it is set up, and what it has counted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use super::Traffic;
use super::jsz::JetStreamVarz;
use super::text::{GoFloat, is_zero, time, uptime};
use crate::config::{Options, WriteTimeoutPolicy};
use crate::jetstream::report::Report;
use crate::time::WallTime;

/// The reference's experiments and whether they are on unless a configuration says otherwise.
///
/// Source: nats-server `server/feature_flags.go`, and /varz of the 2.15.1 binary.
const FEATURE_FLAGS: [(&str, bool); 4] = [
    ("js_ack_fc_v2", false),
    ("js_api_reply_v2", false),
    ("js_raft_delete_range", true),
    ("js_snapshot_sources", false),
];

/// What one shard has counted; the shards' counts add up to the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Connections that there are.
    pub connections: u64,
    /// Connections that ever were.
    pub total_connections: u64,
    /// Messages from and to clients.
    pub traffic: Traffic,
    /// Connections that were closed because they read too slowly.
    pub slow_consumers: u64,
    /// Connections that were closed because they didn't answer pings.
    pub stale_connections: u64,
    /// How often connections were held back because they published faster than somebody read.
    pub stalled_clients: u64,
    /// Subscriptions that there are.
    pub subscriptions: u64,
}

impl ShardStats {
    /// Adds another shard's counts.
    pub fn add(&mut self, other: &ShardStats) {
        self.connections += other.connections;
        self.total_connections += other.total_connections;
        self.traffic.add(&other.traffic);
        self.slow_consumers += other.slow_consumers;
        self.stale_connections += other.stale_connections;
        self.stalled_clients += other.stalled_clients;
        self.subscriptions += other.subscriptions;
    }
}

/// What the process says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessFacts {
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// Cores that the process may use.
    pub cores: usize,
    /// Share of one core that was used lately, in percent.
    pub cpu_percent: f64,
}

/// All that an answer to /varz is made of.
#[derive(Clone, Copy, Debug)]
pub struct VarzContext<'a> {
    /// The settings.
    pub options: &'a Options,
    /// The server's id.
    pub server_id: &'a str,
    /// The server's name.
    pub server_name: &'a str,
    /// The version of the reference that natrix stands in for.
    pub version: &'a str,
    /// The commit that it was built from; empty if nobody knows.
    pub git_commit: &'a str,
    /// The host that clients are told.
    pub host: &'a str,
    /// The port that clients are told.
    pub port: u16,
    /// How many shards run.
    pub shards: usize,
    /// When the server started, and read its settings.
    pub start: WallTime,
    /// The time of the request.
    pub now: WallTime,
    /// What the process says about itself.
    pub process: ProcessFacts,
    /// The counts of all shards together.
    pub stats: ShardStats,
    /// What there is of streams, if the server has any.
    pub jetstream: Option<&'a Report>,
    /// How often each endpoint was asked.
    pub http_requests: &'a BTreeMap<&'static str, u64>,
    /// When the server's certificate ends, which may be later than a [`WallTime`] can be; `None` without TLS.
    pub tls_not_after: Option<jiff::Timestamp>,
}

/// A count for each kind of connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConnKindStats {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl ConnKindStats {
    fn of_clients(clients: u64) -> Self {
        ConnKindStats { clients, ..ConnKindStats::default() }
    }
}

/// Settings of something that isn't there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Nothing {}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct DiskWaitStats {
    waiters: u64,
    waits: u64,
    wait_time: u64,
    max_wait_time: u64,
}

/// The answer to /varz.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Varz {
    server_id: String,
    server_name: String,
    version: String,
    proto: u8,
    #[serde(skip_serializing_if = "String::is_empty")]
    git_commit: String,
    /// The reference's compiler; there is none, but tools print the field.
    go: &'static str,
    host: String,
    port: u16,
    #[serde(skip_serializing_if = "is_zero")]
    auth_required: bool,
    #[serde(skip_serializing_if = "is_zero")]
    tls_required: bool,
    #[serde(skip_serializing_if = "is_zero")]
    tls_verify: bool,
    max_connections: i64,
    #[serde(skip_serializing_if = "is_zero")]
    max_subscriptions: u32,
    ping_interval: u64,
    ping_max: u32,
    http_host: String,
    http_port: i32,
    http_base_path: String,
    https_port: i32,
    auth_timeout: GoFloat,
    max_control_line: u32,
    max_payload: i64,
    max_pending: u64,
    cluster: Nothing,
    gateway: Nothing,
    leaf: Nothing,
    mqtt: Nothing,
    websocket: Nothing,
    jetstream: JetStreamVarz,
    tls_timeout: GoFloat,
    write_deadline: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    write_timeout: &'static str,
    #[serde(serialize_with = "time")]
    start: WallTime,
    #[serde(serialize_with = "time")]
    now: WallTime,
    uptime: String,
    mem: u64,
    cores: usize,
    /// How many threads may do the server's work at a time: the shards.
    gomaxprocs: usize,
    cpu: GoFloat,
    connections: u64,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: u64,
    http_req_stats: BTreeMap<&'static str, u64>,
    #[serde(serialize_with = "time")]
    config_load_time: WallTime,
    config_digest: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<String, String>,
    feature_flags: BTreeMap<&'static str, bool>,
    #[serde(skip_serializing_if = "String::is_empty")]
    system_account: String,
    slow_consumer_stats: ConnKindStats,
    stale_connection_stats: ConnKindStats,
    disk_io_wait_stats: DiskWaitStats,
    #[serde(skip_serializing_if = "Option::is_none")]
    proxies: Option<Proxies>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_cert_not_after: Option<String>,
}

/// The proxies that are trusted.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Proxies {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    trusted: Vec<TrustedProxy>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct TrustedProxy {
    key: String,
}

impl Varz {
    /// Describes the server.
    pub fn new(context: &VarzContext<'_>) -> Self {
        let options = context.options;
        let stats = &context.stats;
        let traffic = &stats.traffic;
        let limit_or_none = |limit: Option<u32>| limit.map_or(-1, i64::from);
        // As configured, not as bound: -1 asks for any port.
        let port = |port: Option<u16>| match port {
            None => 0,
            Some(0) => -1,
            Some(port) => i32::from(port),
        };
        Varz {
            server_id: context.server_id.to_owned(),
            server_name: context.server_name.to_owned(),
            version: context.version.to_owned(),
            proto: 1,
            git_commit: context.git_commit.to_owned(),
            go: "",
            host: context.host.to_owned(),
            port: context.port,
            auth_required: options.requires_authentication(),
            tls_required: options.tls.is_some() && !options.allow_non_tls,
            tls_verify: options.tls.as_ref().is_some_and(|tls| tls.verify || tls.verify_and_map),
            max_connections: limit_or_none(options.max_connections),
            max_subscriptions: options.max_subscriptions.unwrap_or(0),
            ping_interval: nanos(options.ping_interval),
            ping_max: options.ping_max,
            http_host: options.monitoring.host.clone(),
            http_port: port(options.monitoring.http_port),
            http_base_path: match options.monitoring.base_path.as_str() {
                "/" => String::new(),
                path => path.to_owned(),
            },
            https_port: port(options.monitoring.https_port),
            auth_timeout: GoFloat(options.auth_timeout.as_secs_f64()),
            max_control_line: options.max_control_line,
            max_payload: limit_or_none(options.max_payload),
            max_pending: options.max_pending,
            cluster: Nothing {},
            gateway: Nothing {},
            leaf: Nothing {},
            mqtt: Nothing {},
            websocket: Nothing {},
            jetstream: JetStreamVarz::of(options, context.jetstream),
            tls_timeout: GoFloat(options.tls_timeout().as_secs_f64()),
            write_deadline: nanos(options.write_deadline),
            write_timeout: match options.write_timeout {
                WriteTimeoutPolicy::Default => "",
                WriteTimeoutPolicy::Close => "close",
                WriteTimeoutPolicy::Retry => "retry",
            },
            start: context.start,
            now: context.now,
            uptime: uptime(context.now.since(context.start)),
            mem: context.process.resident_bytes,
            cores: context.process.cores,
            gomaxprocs: context.shards,
            cpu: GoFloat(context.process.cpu_percent),
            connections: stats.connections,
            total_connections: stats.total_connections,
            routes: 0,
            remotes: 0,
            leafnodes: 0,
            in_msgs: traffic.in_msgs,
            in_bytes: traffic.in_bytes,
            in_client_msgs: traffic.in_msgs,
            in_client_bytes: traffic.in_bytes,
            out_msgs: traffic.out_msgs,
            out_bytes: traffic.out_bytes,
            out_client_msgs: traffic.out_msgs,
            out_client_bytes: traffic.out_bytes,
            slow_consumers: stats.slow_consumers,
            stale_connections: stats.stale_connections,
            stalled_clients: stats.stalled_clients,
            subscriptions: stats.subscriptions,
            http_req_stats: context.http_requests.clone(),
            config_load_time: context.start,
            config_digest: options.config_digest.clone().unwrap_or_default(),
            tags: options.server_tags.clone(),
            metadata: options.server_metadata.clone(),
            feature_flags: FEATURE_FLAGS
                .map(|(name, default)| (name, options.feature_flags.get(name).copied().unwrap_or(default)))
                .into(),
            system_account: options.system_account_name().unwrap_or_default().to_owned(),
            slow_consumer_stats: ConnKindStats::of_clients(stats.slow_consumers),
            stale_connection_stats: ConnKindStats::of_clients(stats.stale_connections),
            disk_io_wait_stats: DiskWaitStats::default(),
            tls_cert_not_after: context.tls_not_after.map(|time| time.to_string()),
            proxies: options.trusted_proxies.as_ref().map(|keys| Proxies {
                trusted: keys.iter().map(|key| TrustedProxy { key: key.clone() }).collect(),
            }),
        }
    }
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TlsOptions;

    fn varz(options: &Options) -> String {
        let stats = ShardStats {
            connections: 2,
            total_connections: 5,
            traffic: Traffic { in_msgs: 1, in_bytes: 5, out_msgs: 3, out_bytes: 15 },
            slow_consumers: 6,
            stale_connections: 7,
            stalled_clients: 8,
            subscriptions: 9,
        };
        let mut sum = stats;
        sum.add(&stats);
        let varz = Varz::new(&VarzContext {
            jetstream: None,
            options,
            server_id: "NID",
            server_name: "name",
            version: "2.15.1",
            git_commit: "",
            host: "0.0.0.0",
            port: 4222,
            shards: 2,
            start: WallTime::from_unix_nanos(1_000_000_000),
            now: WallTime::from_unix_nanos(62_500_000_000),
            process: ProcessFacts { resident_bytes: 14_376_960, cores: 4, cpu_percent: 12.5 },
            stats: sum,
            http_requests: &[("/", 1), ("/varz", 2)].into(),
            tls_not_after: options.tls.is_some().then_some(jiff::Timestamp::UNIX_EPOCH),
        });
        serde_json::to_string_pretty(&varz).unwrap()
    }

    #[test]
    fn every_field_of_the_reference_in_its_order() {
        insta::assert_snapshot!(varz(&Options::default()));
    }

    #[test]
    fn fields_that_only_some_settings_show() {
        let mut options = Options { username: Some("u".to_owned()), ..Options::default() };
        options.tls = Some(TlsOptions { verify: true, ..TlsOptions::default() });
        options.max_connections = None;
        options.max_subscriptions = Some(10);
        options.max_payload = None;
        options.auth_timeout = Duration::from_millis(2500);
        options.monitoring.http_port = Some(0);
        options.monitoring.https_port = Some(8443);
        options.monitoring.base_path = "/nats".to_owned();
        options.write_timeout = WriteTimeoutPolicy::Retry;
        options.config_digest = Some("sha256:00".to_owned());
        options.server_tags = vec!["az:1".to_owned()];
        options.server_metadata = [("k".to_owned(), "v".to_owned())].into();
        options.feature_flags = [("js_ack_fc_v2".to_owned(), true), ("unknown".to_owned(), true)].into();
        options.no_system_account = true;
        let with = varz(&options);
        let without = varz(&Options::default());
        let changed: Vec<&str> = with.lines().filter(|line| !without.contains(line)).collect();
        insta::assert_snapshot!(changed.join("\n"), @r#"
          "auth_required": true,
          "tls_required": true,
          "tls_verify": true,
          "max_connections": -1,
          "max_subscriptions": 10,
          "http_port": -1,
          "http_base_path": "/nats",
          "https_port": 8443,
          "auth_timeout": 2.5,
          "max_payload": -1,
          "write_timeout": "retry",
          "config_digest": "sha256:00",
          "tags": [
            "az:1"
          ],
          "metadata": {
            "k": "v"
            "js_ack_fc_v2": true,
          "tls_cert_not_after": "1970-01-01T00:00:00Z"
        "#);
        assert!(!with.contains("system_account"));
        options.allow_non_tls = true;
        assert!(!varz(&options).contains("tls_required"));
    }
}
