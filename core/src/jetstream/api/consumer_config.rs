//! What a consumer is told to be.
//!
//! ```text
//! read    a request's JSON to a ConsumerRequest
//! fill    what a request doesn't say
//! check   whether a configuration makes sense
//! update  what may become of one
//! ```

mod check;
mod fill;
mod read;
#[cfg(test)]
mod tests;
mod update;

pub use check::is_valid_group_name;
pub use fill::{
    DEFAULT_ACK_WAIT, DEFAULT_INACTIVE_THRESHOLD, DEFAULT_MAX_ACK_PENDING, DEFAULT_MAX_WAITING,
    DEFAULT_PINNED_TTL,
};
pub use read::{ConsumerAction, ConsumerRequest};
use serde::Serialize;

use super::stream_config::StreamConfig;
use super::write::{self, Metadata, is_default};
use crate::storage::Retention;
pub use crate::storage::consumer::AckPolicy;
use crate::storage::consumer::ConsumerSettings;
use crate::time::{Duration, WallTime};

/// The settings of a consumer, as users see them. Its default is what an empty request says, before defaults are filled in.
///
/// Source: nats-server `server/consumer.go`, `ConsumerConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ConsumerConfig {
    /// Its name, if it is durable; empty if it goes away when nobody uses it.
    #[serde(rename = "durable_name", skip_serializing_if = "String::is_empty")]
    pub durable: String,
    /// Its name; the same as `durable`, if both are there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Where it starts.
    pub deliver_policy: DeliverPolicy,
    /// Where [`DeliverPolicy::ByStartSequence`] starts.
    #[serde(rename = "opt_start_seq", skip_serializing_if = "is_default")]
    pub start_sequence: u64,
    /// Where [`DeliverPolicy::ByStartTime`] starts.
    #[serde(
        rename = "opt_start_time",
        serialize_with = "write::optional_time",
        skip_serializing_if = "Option::is_none"
    )]
    pub start_time: Option<WallTime>,
    /// What has to be acknowledged.
    #[serde(serialize_with = "write::ack_policy")]
    pub ack_policy: AckPolicy,
    /// How long after a delivery an acknowledgement is waited for.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub ack_wait: Duration,
    /// How often a message is delivered at most; -1 for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub max_deliver: i64,
    /// What takes the place of `ack_wait`, one for each delivery, the last for all later ones.
    #[serde(serialize_with = "write::durations", skip_serializing_if = "Vec::is_empty")]
    pub backoff: Vec<Duration>,
    /// The subjects that it wants; empty for all, or for those of `filter_subjects`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filter_subject: String,
    /// The subjects that it wants, if there is more than one filter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filter_subjects: Vec<String>,
    /// How fast.
    pub replay_policy: ReplayPolicy,
    /// At how many bits a second at most; zero for no limit.
    #[serde(rename = "rate_limit_bps", skip_serializing_if = "is_default")]
    pub rate_limit: u64,
    /// Of how many acknowledgements in a hundred a metric is published, with or without a percent sign; empty for none.
    #[serde(rename = "sample_freq", skip_serializing_if = "String::is_empty")]
    pub sample_frequency: String,
    /// How many pull requests may wait.
    #[serde(skip_serializing_if = "is_default")]
    pub max_waiting: i64,
    /// How many messages may be delivered and not acknowledged; zero and less for no limit.
    #[serde(skip_serializing_if = "is_default")]
    pub max_ack_pending: i64,
    /// Whether a push consumer waits for answers of its subscriber.
    #[serde(skip_serializing_if = "is_default")]
    pub flow_control: bool,
    /// Whether payloads are left out.
    #[serde(skip_serializing_if = "is_default")]
    pub headers_only: bool,
    /// How many messages a pull request may ask for; zero for no limit.
    #[serde(rename = "max_batch", skip_serializing_if = "is_default")]
    pub max_request_batch: i64,
    /// How long a pull request may wait; zero for no limit.
    #[serde(rename = "max_expires", serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub max_request_expires: Duration,
    /// How many bytes a pull request may ask for; zero for no limit.
    #[serde(rename = "max_bytes", skip_serializing_if = "is_default")]
    pub max_request_max_bytes: i64,
    /// Where messages go; empty for a pull consumer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_subject: String,
    /// The queue group that shares them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub deliver_group: String,
    /// How long a push consumer is silent at most.
    #[serde(
        rename = "idle_heartbeat",
        serialize_with = "write::duration",
        skip_serializing_if = "is_default"
    )]
    pub heartbeat: Duration,
    /// After how long without anybody it goes away; zero for never, or for the default of one that is not durable.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub inactive_threshold: Duration,
    /// How many servers keep it; zero for what its stream has.
    #[serde(rename = "num_replicas")]
    pub replicas: i64,
    /// Whether its state is kept in memory, whatever its stream does.
    #[serde(rename = "mem_storage", skip_serializing_if = "is_default")]
    pub memory_storage: bool,
    /// Whether another stream reads by it, and users don't see it.
    #[serde(skip_serializing_if = "is_default")]
    pub direct: bool,
    /// Whether another stream reads by it, with state.
    #[serde(skip_serializing_if = "is_default")]
    pub sourcing: bool,
    /// What the user attached, and what servers say of the API level.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Until when it delivers nothing.
    #[serde(serialize_with = "write::optional_time", skip_serializing_if = "Option::is_none")]
    pub pause_until: Option<WallTime>,
    /// The groups of its pull requests, of which the reference allows one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priority_groups: Vec<String>,
    /// Who of a group comes first.
    #[serde(skip_serializing_if = "is_default")]
    pub priority_policy: PriorityPolicy,
    /// How long a pinned client may be silent before another one is pinned.
    #[serde(
        rename = "priority_timeout",
        serialize_with = "write::duration",
        skip_serializing_if = "is_default"
    )]
    pub pinned_ttl: Duration,
}

impl ConsumerConfig {
    /// Tells whether it stays when nobody uses it.
    pub fn is_durable(&self) -> bool {
        !self.durable.is_empty()
    }

    /// Tells whether messages are pushed to a subject.
    pub fn is_push(&self) -> bool {
        !self.deliver_subject.is_empty()
    }

    /// Returns the subjects that it wants; none for all.
    pub fn filters(&self) -> impl Iterator<Item = &str> {
        let one = Some(self.filter_subject.as_str()).filter(|filter| !filter.is_empty());
        self.filter_subjects.iter().map(String::as_str).chain(one)
    }

    /// Returns of how many acknowledgements in a hundred a metric is published.
    pub fn sample_percentage(&self) -> u64 {
        check::sample_percentage(&self.sample_frequency).unwrap_or(0)
    }

    /// Fills in after how long without anybody it goes away, if it is not durable and doesn't say. Only once it is clear that
    /// it is a new consumer, or a change: what is there already is compared with what was asked for.
    ///
    /// Source: nats-server `server/consumer.go`, `updateInactiveThreshold`.
    pub fn fill_inactive_threshold(&mut self) {
        if !self.is_durable() && self.inactive_threshold.is_zero() {
            self.inactive_threshold = DEFAULT_INACTIVE_THRESHOLD;
        }
    }

    /// Returns how many servers keep it.
    ///
    /// Source: nats-server `server/consumer.go`, `replicas`.
    pub fn replicas_of(&self, stream: &StreamConfig) -> i64 {
        if self.replicas == 0 && !self.is_durable() && stream.retention == Retention::Limits {
            return 1;
        }
        match self.replicas == 0 || self.replicas > stream.replicas {
            true => stream.replicas,
            false => self.replicas,
        }
    }

    /// Returns what its state depends on.
    pub fn settings(&self) -> ConsumerSettings {
        ConsumerSettings {
            ack_policy: self.ack_policy,
            max_deliver: u64::try_from(self.max_deliver).unwrap_or(0),
        }
    }
}

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliverPolicy {
    /// At the first message.
    #[default]
    All,
    /// At the last one that it wants.
    Last,
    /// Behind the last one.
    New,
    /// At a sequence.
    ByStartSequence,
    /// At the first message of or after a time.
    ByStartTime,
    /// At the last message of each subject, then with all that follow.
    LastPerSubject,
}

/// How fast messages are delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplayPolicy {
    /// As fast as possible.
    #[default]
    Instant,
    /// As they were stored.
    Original,
}

/// Which pull request of a group gets the next message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PriorityPolicy {
    /// There are no groups.
    #[default]
    None,
    /// One that asked for it only if much is pending.
    Overflow,
    /// That of one client, while it asks.
    PinnedClient,
    /// The one with the lowest number.
    Prioritized,
}
