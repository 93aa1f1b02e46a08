//! What there is to say about a stream or a consumer.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::jetstream::api::consumer_config::ConsumerConfig;
use crate::jetstream::api::level;
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::api::write::{self, ZERO_TIME, is_default};
use crate::storage;
use crate::time::{Duration, WallTime};

/// What there is to say about a stream.
///
/// Source: nats-server `server/stream.go`, `StreamInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamInfo {
    /// What it is told to be.
    pub config: StreamConfig,
    /// When it was made.
    #[serde(serialize_with = "write::time")]
    pub created: WallTime,
    /// What it holds.
    pub state: StreamState,
    /// The server's domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Who keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// When this was said.
    #[serde(rename = "ts", serialize_with = "write::time")]
    pub time: WallTime,
}

impl StreamInfo {
    /// Adds to the metadata who says it, as every answer about one stream does, and a list doesn't.
    pub fn add_answerer(&mut self, version: &str) {
        level::add_answerer(&mut self.config.metadata, version);
    }
}

/// Who keeps a stream or consumer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClusterInfo {
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The name of the leading server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub leader: String,
}

/// What a stream holds, in numbers.
///
/// Source: nats-server `server/store.go`, `StreamState`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StreamState {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The first sequence.
    #[serde(rename = "first_seq")]
    pub first_sequence: u64,
    /// When the first message was stored.
    #[serde(rename = "first_ts", serialize_with = "write::time")]
    pub first_time: WallTime,
    /// The last sequence.
    #[serde(rename = "last_seq")]
    pub last_sequence: u64,
    /// When the last message was stored.
    #[serde(rename = "last_ts", serialize_with = "write::time")]
    pub last_time: WallTime,
    /// How many subjects.
    #[serde(skip_serializing_if = "is_default")]
    pub num_subjects: u64,
    /// How many messages of some subjects.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subjects: BTreeMap<String, u64>,
    /// How many sequences between first and last have no message.
    #[serde(skip_serializing_if = "is_default")]
    pub num_deleted: u64,
    /// Which ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deleted: Vec<u64>,
    /// What was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<LostStreamData>,
    /// How many consumers.
    #[serde(rename = "consumer_count")]
    pub consumers: u64,
}

/// What was stored and can't be read any more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LostStreamData {
    /// Which sequences.
    pub msgs: Vec<u64>,
    /// How many bytes.
    pub bytes: u64,
}

impl Default for StreamState {
    fn default() -> Self {
        StreamState::of(&storage::StreamState::default(), 0)
    }
}

impl StreamState {
    /// The most sequences that are listed as lost.
    const MAX_LOST: usize = 100_000;

    /// Says what a store says of itself, without details.
    ///
    /// Differs: of more than 100,000 lost sequences only the first are listed.
    pub fn of(state: &storage::StreamState, consumers: u64) -> Self {
        let lost = (!state.lost.ranges.is_empty()).then(|| LostStreamData {
            msgs: state
                .lost
                .ranges
                .iter()
                .flat_map(|(first, last)| *first..=*last)
                .take(Self::MAX_LOST)
                .collect(),
            bytes: state.lost.bytes,
        });
        StreamState {
            messages: state.messages,
            bytes: state.bytes,
            // A stream that never had a message has no first sequence either, but for one that was told where to begin.
            first_sequence: if state.last_sequence == 0 && state.messages == 0 {
                0
            } else {
                state.first_sequence
            },
            first_time: state.first_time.unwrap_or(ZERO_TIME),
            last_sequence: state.last_sequence,
            last_time: state.last_time.unwrap_or(ZERO_TIME),
            num_subjects: state.subjects,
            subjects: BTreeMap::new(),
            num_deleted: state.deleted,
            deleted: Vec::new(),
            lost,
            consumers,
        }
    }
}

/// What there is to say about a consumer.
///
/// Source: nats-server `server/consumer.go`, `ConsumerInfo`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConsumerInfo {
    /// The stream's name.
    #[serde(rename = "stream_name")]
    pub stream: String,
    /// Its name.
    pub name: String,
    /// When it was made.
    #[serde(serialize_with = "write::time")]
    pub created: WallTime,
    /// What it is told to be.
    pub config: ConsumerConfig,
    /// The last message that was delivered.
    pub delivered: SequenceInfo,
    /// The last message that is acknowledged with all before it.
    pub ack_floor: SequenceInfo,
    /// How many messages are delivered and not acknowledged.
    pub num_ack_pending: u64,
    /// How many of them were delivered more than once.
    pub num_redelivered: u64,
    /// How many pull requests wait.
    pub num_waiting: u64,
    /// How many messages are to be delivered yet.
    pub num_pending: u64,
    /// Who keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterInfo>,
    /// Whether somebody listens where it delivers to.
    #[serde(skip_serializing_if = "is_default")]
    pub push_bound: bool,
    /// Whether it is paused.
    #[serde(skip_serializing_if = "is_default")]
    pub paused: bool,
    /// For how long yet.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub pause_remaining: Duration,
    /// When this was said.
    #[serde(rename = "ts", serialize_with = "write::time")]
    pub time: WallTime,
    /// Its groups.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<PriorityGroupState>,
}

impl ConsumerInfo {
    /// Adds to the metadata who says it, as every answer about one consumer does, and a list doesn't.
    pub fn add_answerer(&mut self, version: &str) {
        level::add_answerer(&mut self.config.metadata, version);
    }
}

/// A place in a consumer and in its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SequenceInfo {
    /// The consumer's sequence.
    #[serde(rename = "consumer_seq")]
    pub consumer: u64,
    /// The stream's sequence.
    #[serde(rename = "stream_seq")]
    pub stream: u64,
    /// When it got there.
    #[serde(
        rename = "last_active",
        serialize_with = "write::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub last: Option<WallTime>,
}

/// A group of pull requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PriorityGroupState {
    /// Its name.
    pub group: String,
    /// The id that its pinned client was given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pinned_client_id: String,
    /// When.
    #[serde(rename = "pinned_ts", serialize_with = "write::time")]
    pub pinned_time: WallTime,
}
