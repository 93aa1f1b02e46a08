//! /jsz: streams and consumers.

use serde::Serialize;

use super::query::{Query, QueryError};
use super::text::time;
use super::varz::nanos;
use crate::config::{JetStreamOptions, Options, SyncPolicy};
use crate::jetstream::api::response::ApiStats;
use crate::jetstream::report::{AccountDetail, Detail, Report, Totals};
use crate::time::WallTime;

/// What a request to /jsz asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JszOptions {
    /// What is to be said.
    pub detail: Detail,
    /// How many accounts to leave out.
    pub offset: usize,
    /// The most accounts.
    pub limit: usize,
}

impl JszOptions {
    /// Reads what the query of a request to /jsz asks for.
    ///
    /// Source: nats-server `server/monitor.go`, `HandleJsz` and `Jsz`.
    ///
    /// # Errors
    ///
    /// The first parameter that makes no sense, in the order in which the reference reads them.
    pub fn from_query(query: &Query) -> Result<Self, QueryError> {
        let accounts = query.boolean("accounts")?;
        let streams = query.boolean("streams")?;
        let consumers = query.boolean("consumers")?;
        // What only clusters have must make sense all the same.
        query.boolean("direct-consumers")?;
        let config = query.boolean("config")?;
        let (offset, limit) = (query.int("offset")?, query.int("limit")?);
        for name in ["leader-only", "raft", "stream-leader-only"] {
            query.boolean(name)?;
        }
        let streams = streams || consumers;
        let account = query.get("acc").to_owned();
        let accounts = accounts || (streams && account.is_empty());
        let count = |value: i64| usize::try_from(value).unwrap_or(0);
        Ok(JszOptions {
            detail: Detail { accounts, account, streams, consumers, config },
            offset: count(offset),
            limit: if limit == 0 { 1024 } else { count(limit) },
        })
    }
}

/// The server's settings, as monitoring shows them.
///
/// Source: nats-server `server/jetstream.go`, `JetStreamConfig`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Config {
    max_memory: i64,
    max_storage: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    store_dir: String,
    #[serde(skip_serializing_if = "is_zero")]
    sync_interval: u64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    sync_always: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    compress_ok: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    unique_tag: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    strict: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The server's limits, as monitoring shows them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    max_request_batch: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ack_pending: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_ha_assets: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_duplicate_window: Option<u64>,
    default_max_consumers: i64,
}

impl Config {
    pub(super) fn of(options: &Options, jetstream: &JetStreamOptions) -> Self {
        let bytes = |limit: Option<u64>| limit.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        Config {
            max_memory: bytes(jetstream.max_memory),
            max_storage: bytes(jetstream.max_store),
            store_dir: options.jetstream_dir().unwrap_or_default(),
            sync_interval: nanos(jetstream.sync.interval()),
            sync_always: jetstream.sync == SyncPolicy::Always,
            domain: options.jetstream_domain.clone().unwrap_or_default(),
            // Not a setting: the reference says so since it compresses what it sends to its peers.
            compress_ok: true,
            unique_tag: jetstream.unique_tag.clone().unwrap_or_default(),
            strict: jetstream.strict,
        }
    }
}

impl Limits {
    pub(super) fn of(jetstream: &JetStreamOptions) -> Self {
        let limits = &jetstream.limits;
        Limits {
            max_request_batch: limits.max_request_batch,
            max_ack_pending: limits.max_ack_pending,
            max_ha_assets: limits.max_ha_assets,
            max_duplicate_window: limits.duplicate_window.map(nanos),
            default_max_consumers: limits.default_max_consumers.map_or(-1, i64::from),
        }
    }
}

/// What /varz says of streams.
///
/// Source: nats-server `server/monitor.go`, `JetStreamVarz`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct JetStreamVarz {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<Config>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats: Option<Totals>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
}

impl JetStreamVarz {
    pub(super) fn of(options: &Options, report: Option<&Report>) -> Self {
        let jetstream = options.jetstream.as_ref();
        JetStreamVarz {
            config: jetstream.map(|jetstream| Config::of(options, jetstream)),
            stats: report.map(|report| report.totals.clone()),
            limits: jetstream.map(Limits::of),
        }
    }
}

/// The answer to /jsz.
///
/// Source: nats-server `server/monitor.go`, `JSInfo`.
#[derive(Clone, Debug, Serialize)]
pub struct Jsz {
    #[serde(flatten)]
    totals: Totals,
    server_id: String,
    #[serde(serialize_with = "time")]
    now: WallTime,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    disabled: bool,
    config: Config,
    #[serde(skip_serializing_if = "Option::is_none")]
    limits: Option<Limits>,
    streams: u64,
    consumers: u64,
    messages: u64,
    bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    account_details: Vec<AccountDetail>,
    total: u64,
}

impl Jsz {
    /// Puts the answer together; without a report the server has no streams.
    pub fn new(
        asked: &JszOptions,
        options: &Options,
        server_id: &str,
        now: WallTime,
        report: Option<Report>,
    ) -> Self {
        let server_id = server_id.to_owned();
        let (Some(report), Some(jetstream)) = (report, &options.jetstream) else {
            let api = ApiStats { level: 0, ..ApiStats::new(0, 0) };
            let totals = Totals {
                memory: 0,
                store: 0,
                reserved_memory: 0,
                reserved_store: 0,
                accounts: 0,
                ha_assets: 0,
                api,
            };
            return Jsz {
                totals,
                server_id,
                now,
                disabled: true,
                config: Config::default(),
                limits: None,
                streams: 0,
                consumers: 0,
                messages: 0,
                bytes: 0,
                account_details: Vec::new(),
                total: 0,
            };
        };
        let total = report.totals.accounts;
        let account_details = report.accounts.into_iter().skip(asked.offset).take(asked.limit).collect();
        Jsz {
            totals: report.totals,
            server_id,
            now,
            disabled: false,
            config: Config::of(options, jetstream),
            limits: Some(Limits::of(jetstream)),
            streams: report.streams,
            consumers: report.consumers,
            messages: report.messages,
            bytes: report.bytes,
            account_details,
            total,
        }
    }
}
