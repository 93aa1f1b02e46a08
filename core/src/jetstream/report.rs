//! What a shard says of its streams and consumers to those who monitor it: plain values.

use serde::Serialize;

use super::api::response::{ApiStats, ClusterInfo, ConsumerInfo, StreamState};
use super::api::stream_config::StreamConfig;
use super::api::write;
use crate::time::WallTime;

/// How much is to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// Each account.
    pub accounts: bool,
    /// Only this account; empty for all.
    pub account: String,
    /// Each stream.
    pub streams: bool,
    /// Each consumer.
    pub consumers: bool,
    /// What they are told to be.
    pub config: bool,
}

/// How much there is.
///
/// Source: nats-server `server/jetstream.go`, `JetStreamStats`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Bytes of messages in memory.
    pub memory: u64,
    /// Bytes of messages in files.
    #[serde(rename = "storage")]
    pub store: u64,
    /// Bytes in memory that streams have reserved.
    pub reserved_memory: u64,
    /// Bytes in files that streams have reserved.
    #[serde(rename = "reserved_storage")]
    pub reserved_store: u64,
    /// Accounts that may have streams; zero of one account.
    pub accounts: u64,
    /// Streams and consumers with replicas.
    pub ha_assets: u64,
    /// Requests.
    pub api: ApiStats,
}

/// A stream.
///
/// Source: nats-server `server/monitor.go`, `StreamDetail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamDetail {
    /// Its name.
    pub name: String,
    /// When it was made.
    #[serde(serialize_with = "write::time")]
    pub created: WallTime,
    /// Who keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// What it is told to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<StreamConfig>,
    /// What it holds.
    pub state: StreamState,
    /// Its consumers.
    #[serde(rename = "consumer_detail", skip_serializing_if = "Vec::is_empty")]
    pub consumers: Vec<ConsumerInfo>,
}

/// An account.
///
/// Source: nats-server `server/monitor.go`, `AccountDetail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountDetail {
    /// Its name.
    pub name: String,
    /// Its name, or its key.
    pub id: String,
    /// How much it has.
    #[serde(flatten)]
    pub totals: Totals,
    /// Its streams.
    #[serde(rename = "stream_detail", skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamDetail>,
}

/// What a shard has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// How much.
    pub totals: Totals,
    /// How many streams.
    pub streams: u64,
    /// How many consumers.
    pub consumers: u64,
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The accounts that may have streams, if they were asked for, by name.
    pub accounts: Vec<AccountDetail>,
    /// Whether everything that was stored is there to be used.
    pub recovered: bool,
    /// What can't be used, and why: account, stream, reason.
    pub broken: Vec<(String, String, String)>,
}

impl Totals {
    /// Adds what another engine has. What all know of the server is the same everywhere.
    fn add(&mut self, other: &Totals, of_account: bool) {
        self.memory += other.memory;
        self.store += other.store;
        if !of_account {
            // What is reserved for an account is its limit.
            self.reserved_memory += other.reserved_memory;
            self.reserved_store += other.reserved_store;
        }
        self.api = ApiStats {
            total: self.api.total + other.api.total,
            errors: self.api.errors + other.api.errors,
            ..self.api
        };
    }
}

impl Report {
    /// Returns what two engines of one server have together.
    #[must_use]
    pub fn merge(mut self, other: Report) -> Report {
        self.totals.add(&other.totals, false);
        self.streams += other.streams;
        self.consumers += other.consumers;
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.recovered &= other.recovered;
        self.broken.extend(other.broken);
        self.broken.sort();
        for account in other.accounts {
            match self.accounts.iter_mut().find(|own| own.name == account.name) {
                Some(own) => {
                    own.totals.add(&account.totals, true);
                    own.streams.extend(account.streams);
                    own.streams.sort_by(|one, other| one.name.cmp(&other.name));
                }
                None => self.accounts.push(account),
            }
        }
        self
    }
}
