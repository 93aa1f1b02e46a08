//! What a stream is told to be.
//!
//! ```text
//! read     a request's JSON to a StreamRequest
//! check    a request to a configuration that makes sense, with what it doesn't say filled in
//! sources  what mirrors and sources may be
//! update   what may become of a configuration
//! ```

mod check;
mod read;
mod sources;
#[cfg(test)]
mod tests;
mod update;

pub use read::StreamRequest;
use serde::Serialize;

use super::write::{self, Metadata, is_default};
use crate::storage::{Compression, Discard, Retention, StorageKind, StoreConfig};
use crate::time::{Duration, WallTime};

/// The settings of a stream, as users see them. Its default is what an empty request says, before defaults are filled in.
///
/// A limit has the reference's number: -1, and before defaults are filled in also zero, is no limit.
///
/// Source: nats-server `server/stream.go`, `StreamConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamConfig {
    /// Its name, unique in its account.
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it stores; wildcards are allowed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// How long messages stay.
    #[serde(serialize_with = "write::retention")]
    pub retention: Retention,
    /// The most consumers.
    pub max_consumers: i64,
    /// The most messages.
    #[serde(rename = "max_msgs")]
    pub max_messages: i64,
    /// The most bytes.
    pub max_bytes: i64,
    /// The oldest that a message gets; zero for ever.
    #[serde(serialize_with = "write::duration")]
    pub max_age: Duration,
    /// The most messages of one subject.
    #[serde(rename = "max_msgs_per_subject")]
    pub max_messages_per_subject: i64,
    /// The most bytes of headers and payload of one message.
    #[serde(rename = "max_msg_size", skip_serializing_if = "is_default")]
    pub max_message_size: i32,
    /// What gives way at a limit.
    #[serde(serialize_with = "write::discard")]
    pub discard: Discard,
    /// Where messages are kept.
    #[serde(serialize_with = "write::storage")]
    pub storage: StorageKind,
    /// How many servers keep it.
    #[serde(rename = "num_replicas")]
    pub replicas: i64,
    /// Whether publishers get no acknowledgement.
    #[serde(skip_serializing_if = "is_default")]
    pub no_ack: bool,
    /// For how long a message id is remembered, so that a second message with it is not stored.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub duplicate_window: Duration,
    /// On which servers it may be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub placement: Option<Placement>,
    /// The stream that it is a copy of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<StreamSource>,
    /// The streams that it takes messages from.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<StreamSource>,
    /// How its files are compressed.
    #[serde(serialize_with = "write::compression")]
    pub compression: Compression,
    /// The sequence of the first message ever; zero means 1.
    #[serde(rename = "first_seq", skip_serializing_if = "is_default")]
    pub first_sequence: u64,
    /// How subjects are changed before anything else happens to a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject_transform: Option<SubjectTransformConfig>,
    /// Where messages are published to once they are stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub republish: Option<Republish>,
    /// Whether messages can be had from `$JS.API.DIRECT.GET`.
    pub allow_direct: bool,
    /// Whether a mirror answers direct gets for its origin.
    pub mirror_direct: bool,
    /// Whether `max_messages_per_subject` refuses new messages, under [`Discard::New`].
    #[serde(skip_serializing_if = "is_default")]
    pub discard_new_per_subject: bool,
    /// Whether nothing gets in or out any more.
    pub sealed: bool,
    /// Whether messages can't be deleted by request.
    pub deny_delete: bool,
    /// Whether the stream can't be purged by request.
    pub deny_purge: bool,
    /// Whether a message may take the place of all before it.
    #[serde(rename = "allow_rollup_hdrs")]
    pub allow_rollup: bool,
    /// Limits and defaults of its consumers.
    pub consumer_limits: StreamConsumerLimits,
    /// Whether messages may carry a time to live.
    #[serde(rename = "allow_msg_ttl")]
    pub allow_message_ttl: bool,
    /// How long a marker lives that is left where the last message of a subject expired; zero for no markers.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub subject_delete_marker_ttl: Duration,
    /// Whether messages are additions to counters.
    #[serde(rename = "allow_msg_counter", skip_serializing_if = "is_default")]
    pub allow_message_counter: bool,
    /// Whether several messages can be stored all or none.
    #[serde(rename = "allow_atomic", skip_serializing_if = "is_default")]
    pub allow_atomic_publish: bool,
    /// Whether messages may be schedules.
    #[serde(rename = "allow_msg_schedules", skip_serializing_if = "is_default")]
    pub allow_message_schedules: bool,
    /// When an acknowledgement is sent.
    #[serde(skip_serializing_if = "is_default")]
    pub persist_mode: PersistMode,
    /// Whether messages can be published in fast batches.
    #[serde(rename = "allow_batched", skip_serializing_if = "is_default")]
    pub allow_batch_publish: bool,
    /// What the user attached, and what servers say of the API level.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl StreamConfig {
    /// Returns what the stream's store acts on.
    pub fn store_config(&self) -> StoreConfig {
        let limit = |limit: i64| u64::try_from(limit).unwrap_or(0);
        StoreConfig {
            retention: self.retention,
            max_messages: limit(self.max_messages),
            max_bytes: limit(self.max_bytes),
            max_age: self.max_age,
            max_messages_per_subject: limit(self.max_messages_per_subject),
            discard: self.discard,
            discard_new_per_subject: self.discard_new_per_subject,
            first_sequence: self.first_sequence,
            allow_message_ttl: self.allow_message_ttl,
            allow_schedules: self.allow_message_schedules,
            subject_delete_marker_ttl: self.subject_delete_marker_ttl,
            compression: self.compression,
            block_size: 0,
        }
    }
}

/// On which servers of a cluster something may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// In this cluster; empty for any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// On servers that have all of these tags. An empty list says nothing, but is something that was said: the placement stays.
    #[serde(skip_serializing_if = "has_no_tags")]
    pub tags: Option<Vec<String>>,
    /// Led by this server; empty for any.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub preferred: String,
}

fn has_no_tags(tags: &Option<Vec<String>>) -> bool {
    tags.as_ref().is_none_or(Vec::is_empty)
}

/// A stream that messages are taken from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamSource {
    /// Its name.
    pub name: String,
    /// From this sequence on; zero for all.
    #[serde(rename = "opt_start_seq", skip_serializing_if = "is_default")]
    pub start_sequence: u64,
    /// From this time on.
    #[serde(
        rename = "opt_start_time",
        serialize_with = "write::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_time: Option<WallTime>,
    /// Only these subjects; empty for all.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// Only these subjects, changed so.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub subject_transforms: Vec<SubjectTransformConfig>,
    /// Where the stream is, if not in this account and domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalStream>,
    /// The durable consumer that is used for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumer: Option<StreamConsumerSource>,
}

/// A stream in another account or domain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ExternalStream {
    /// What its API's subjects start with.
    #[serde(rename = "api")]
    pub api_prefix: String,
    /// What subjects start with that messages are delivered to.
    #[serde(rename = "deliver")]
    pub deliver_prefix: String,
}

/// A durable consumer that messages of another stream are taken by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamConsumerSource {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it delivers to.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
}

/// How subjects are changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubjectTransformConfig {
    /// Which subjects; empty for all.
    #[serde(rename = "src")]
    pub source: String,
    /// What they become.
    #[serde(rename = "dest")]
    pub destination: String,
}

/// What is published again once it is stored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Republish {
    /// Which subjects; empty for all.
    #[serde(rename = "src", skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// What they become.
    #[serde(rename = "dest")]
    pub destination: String,
    /// Whether payloads are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
}

/// What a stream says about its consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct StreamConsumerLimits {
    /// The most, and the default, in nanoseconds; zero and less for neither. Shown as it was said.
    #[serde(rename = "inactive_threshold", skip_serializing_if = "is_default")]
    pub inactive_threshold_ns: i64,
    /// The most, and the default; zero for neither.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
}

impl StreamConsumerLimits {
    /// Returns the most, and the default, of the inactive threshold; zero for neither.
    pub(crate) fn inactive_threshold(&self) -> Duration {
        u64::try_from(self.inactive_threshold_ns).map_or(Duration::ZERO, Duration::from_nanos)
    }
}

/// When a publisher gets its acknowledgement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum PersistMode {
    /// Once the message is as durable as the server makes it.
    #[default]
    Default,
    /// Maybe before it is written.
    Async,
}
