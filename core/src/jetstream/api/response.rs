//! What the API answers.
//!
//! An answer is its type, an error if there is one, and a body. With an error, a body is what the reference's would be: what it
//! never leaves out stands at zero.
//!
//! Source: nats-server `server/jetstream_api.go`, the types `JSApi*Response`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::error::ApiError;
use super::level::API_LEVEL;
use super::limits::AccountLimits;
use super::write::{self, ZERO_TIME, is_default, to_json};
use crate::time::{Duration, WallTime};

mod info;

pub use info::{
    ClusterInfo, ConsumerInfo, LostStreamData, PriorityGroupState, SequenceInfo, StreamInfo, StreamState,
};

/// The most names of a page.
pub const NAMES_LIMIT: usize = 1024;
/// The most descriptions of a page.
pub const LIST_LIMIT: usize = 256;
/// The most subjects that a stream's description lists.
pub const MAX_SUBJECT_DETAILS: usize = 100_000;

/// What stands behind the type and the error. Its default stands there when there is an error.
pub trait Body: Default + Serialize {
    /// The last part of the answer's type.
    const TYPE: &'static str;
}

#[derive(Serialize)]
struct Answer<'a, B> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a ApiError>,
    #[serde(flatten)]
    body: &'a B,
}

fn kind(last: &str) -> String {
    format!("io.nats.jetstream.api.v1.{last}")
}

/// Writes an answer.
pub fn answer<B: Body>(body: &B) -> Vec<u8> {
    to_json(&Answer { kind: kind(B::TYPE), error: None, body })
}

/// Writes an answer that something is wrong.
pub fn refusal<B: Body>(error: &ApiError) -> Vec<u8> {
    to_json(&Answer { kind: kind(B::TYPE), error: Some(error), body: &B::default() })
}

macro_rules! bodies {
    ($($body:ident: $last:literal,)*) => {
        $(impl Body for $body {
            const TYPE: &'static str = $last;
        })*
    };
}

bodies! {
    AccountInfoBody: "account_info_response",
    StreamCreateBody: "stream_create_response",
    StreamUpdateBody: "stream_update_response",
    StreamInfoBody: "stream_info_response",
    StreamNamesBody: "stream_names_response",
    StreamListBody: "stream_list_response",
    StreamDeleteBody: "stream_delete_response",
    StreamPurgeBody: "stream_purge_response",
    StreamSnapshotBody: "stream_snapshot_response",
    StreamRestoreBody: "stream_restore_response",
    StreamRemovePeerBody: "stream_remove_peer_response",
    StreamEvacuatePeerBody: "stream_evacuate_peer_response",
    StreamCancelMoveBody: "stream_cancel_move_response",
    StreamLeaderStepDownBody: "stream_leader_stepdown_response",
    MessageGetBody: "stream_msg_get_response",
    MessageDeleteBody: "stream_msg_delete_response",
    ConsumerCreateBody: "consumer_create_response",
    ConsumerInfoBody: "consumer_info_response",
    ConsumerNamesBody: "consumer_names_response",
    ConsumerListBody: "consumer_list_response",
    ConsumerDeleteBody: "consumer_delete_response",
    ConsumerPauseBody: "consumer_pause_response",
    ConsumerUnpinBody: "consumer_unpin_response",
    ConsumerResetBody: "consumer_reset_response",
    ConsumerLeaderStepDownBody: "consumer_leader_stepdown_response",
    AccountPurgeBody: "account_purge_response",
    SystemBody: "system_response",
}

/// Bodies that say only that something was done.
macro_rules! successes {
    ($($(#[$doc:meta])* $body:ident,)*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
            pub struct $body {
                /// Whether it was done.
                #[serde(skip_serializing_if = "is_default")]
                pub success: bool,
            }
        )*
    };
}

successes! {
    /// A stream is no more.
    StreamDeleteBody,
    /// A message is no more.
    MessageDeleteBody,
    /// A consumer is no more.
    ConsumerDeleteBody,
    /// Only servers of a cluster do it.
    StreamRemovePeerBody,
    /// Only servers of a cluster do it.
    StreamEvacuatePeerBody,
    /// Only servers of a cluster do it.
    StreamCancelMoveBody,
    /// Only servers of a cluster do it.
    StreamLeaderStepDownBody,
    /// Only servers of a cluster do it.
    ConsumerLeaderStepDownBody,
}

/// An answer to what is no request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SystemBody {}

/// A pinned client is pinned no more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerUnpinBody {}

/// A stream is being backed up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamSnapshotBody {
    /// Its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config: Option<super::stream_config::StreamConfig>,
    /// What it holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<StreamState>,
}

/// A stream is to be restored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamRestoreBody {
    /// Where its backup goes to.
    pub deliver_subject: String,
}

/// The streams of an account are being removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccountPurgeBody {
    /// Whether it was begun.
    #[serde(skip_serializing_if = "is_default")]
    pub initiated: bool,
}

/// A page: how many there are, how many were left out, how many a page has at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Page {
    /// How many there are.
    pub total: usize,
    /// How many were left out.
    pub offset: usize,
    /// The most of a page.
    pub limit: usize,
}

impl Page {
    /// Makes the page of `limit` out of `total` behind `offset`, and says which they are.
    pub fn new(total: usize, offset: u64, limit: usize) -> (Self, std::ops::Range<usize>) {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX).min(total);
        (Page { total, offset, limit }, offset..offset.saturating_add(limit).min(total))
    }
}

/// A stream that was created, or is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamCreateBody {
    /// What it is; `None` only with an error.
    #[serde(flatten)]
    pub info: Option<StreamInfo>,
    /// Whether it is there.
    #[serde(skip_serializing_if = "is_default")]
    pub did_create: bool,
}

/// A stream that was updated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamUpdateBody {
    /// What it is; `None` only with an error.
    #[serde(flatten)]
    pub info: Option<StreamInfo>,
}

/// What there is to say about a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamInfoBody {
    /// The page of subjects; all zero if none were asked for, or none found.
    #[serde(flatten)]
    pub page: Page,
    /// What it is; `None` only with an error.
    #[serde(flatten)]
    pub info: Option<StreamInfo>,
}

/// Names of streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamNamesBody {
    /// Which of them.
    #[serde(flatten)]
    pub page: Page,
    /// The names, in order; none is `null`.
    #[serde(serialize_with = "null_if_empty")]
    pub streams: Vec<String>,
}

fn null_if_empty<S: serde::Serializer>(names: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    if names.is_empty() { serializer.serialize_none() } else { serializer.collect_seq(names) }
}

/// Descriptions of streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamListBody {
    /// Which of them.
    #[serde(flatten)]
    pub page: Page,
    /// The descriptions, in order of their names.
    pub streams: Vec<StreamInfo>,
    /// Those of which nothing can be said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Why not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offline: BTreeMap<String, String>,
}

/// Messages were removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamPurgeBody {
    /// Whether it was done.
    #[serde(skip_serializing_if = "is_default")]
    pub success: bool,
    /// How many.
    pub purged: u64,
}

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct MessageGetBody {
    /// The message; `None` only with an error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<StoredMessage>,
}

/// A message as JSON has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StoredMessage {
    /// Its subject.
    pub subject: String,
    /// Its sequence.
    #[serde(rename = "seq")]
    pub sequence: u64,
    /// Its header block.
    #[serde(
        rename = "hdrs",
        serialize_with = "write::base64",
        skip_serializing_if = "bytes::Bytes::is_empty"
    )]
    pub headers: bytes::Bytes,
    /// Its payload.
    #[serde(
        rename = "data",
        serialize_with = "write::base64",
        skip_serializing_if = "bytes::Bytes::is_empty"
    )]
    pub payload: bytes::Bytes,
    /// When it was stored.
    #[serde(serialize_with = "write::time")]
    pub time: WallTime,
}

/// A consumer that was created, or is there already.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerCreateBody {
    /// What it is; `None` only with an error.
    #[serde(flatten)]
    pub info: Option<ConsumerInfo>,
}

/// What there is to say about a consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerInfoBody {
    /// What it is; `None` only with an error.
    #[serde(flatten)]
    pub info: Option<ConsumerInfo>,
}

/// Names of consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerNamesBody {
    /// Which of them.
    #[serde(flatten)]
    pub page: Page,
    /// The names, in order.
    pub consumers: Vec<String>,
}

/// Descriptions of consumers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerListBody {
    /// Which of them.
    #[serde(flatten)]
    pub page: Page,
    /// The descriptions, in order of their names.
    pub consumers: Vec<ConsumerInfo>,
    /// Those of which nothing can be said.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// Why not.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub offline: BTreeMap<String, String>,
}

/// A consumer was paused, or goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerPauseBody {
    /// Whether it is paused.
    pub paused: bool,
    /// Until when, as it was said.
    #[serde(serialize_with = "write::time")]
    pub pause_until: WallTime,
    /// For how long yet.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub pause_remaining: Duration,
}

impl ConsumerPauseBody {
    /// Says what a pause until then is now.
    pub fn new(until: Option<WallTime>, now: WallTime) -> Self {
        let until = until.unwrap_or(ZERO_TIME);
        ConsumerPauseBody { paused: now < until, pause_until: until, pause_remaining: until.since(now) }
    }
}

impl Default for ConsumerPauseBody {
    fn default() -> Self {
        ConsumerPauseBody { paused: false, pause_until: ZERO_TIME, pause_remaining: Duration::ZERO }
    }
}

/// A consumer starts again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerResetBody {
    /// What it is; `None` only with an error.
    #[serde(flatten)]
    pub info: Option<ConsumerInfo>,
    /// At which sequence.
    #[serde(rename = "reset_seq")]
    pub reset_sequence: u64,
}

/// What an account uses and may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AccountInfoBody {
    /// What there is to say; `None` only with an error.
    #[serde(flatten)]
    pub stats: Option<AccountStats>,
}

/// What an account uses and may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountStats {
    /// Of everything; with tiers, its limits are zero.
    #[serde(flatten)]
    pub total: Tier,
    /// The server's domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Its requests.
    pub api: ApiStats,
    /// What it uses and may use of streams with so many replicas, by `R1`, `R3` and so on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tiers: BTreeMap<String, Tier>,
}

/// What is used and may be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tier {
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
    /// Streams.
    pub streams: u64,
    /// Consumers.
    pub consumers: u64,
    /// What may be used.
    pub limits: AccountLimits,
}

/// The requests of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ApiStats {
    /// The level of the server.
    pub level: i64,
    /// How many there were.
    pub total: u64,
    /// How many of them were refused.
    pub errors: u64,
    /// How many are being served.
    #[serde(skip_serializing_if = "is_default")]
    pub inflight: u64,
}

impl ApiStats {
    /// Says how many requests an account has made.
    pub fn new(total: u64, errors: u64) -> Self {
        ApiStats { level: API_LEVEL, total, errors, inflight: 0 }
    }
}

#[cfg(test)]
mod tests;
