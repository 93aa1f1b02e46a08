//! What a server says of what happens, to whoever listens: advisories and metrics.
//!
//! Source: nats-server `server/jetstream_events.go`; the subjects are in `server/jetstream_api.go`.

use bytes::Bytes;
use serde::Serialize;

use super::write::{self, is_default, to_json};
use crate::ids::Nuid;
use crate::time::{Duration, WallTime};

mod backup;
mod client;

pub use backup::{RestoreCompleted, RestoreCreated, SnapshotCompleted, SnapshotCreated};
pub use client::ClientInfo;

/// Something that happened.
pub trait Event: Serialize {
    /// The last part of its type.
    const TYPE: &'static str;
    /// Whether it is a metric, and not an advisory.
    const IS_METRIC: bool = false;
}

/// What every advisory begins with.
#[derive(Serialize)]
struct Typed<'a, E> {
    #[serde(rename = "type")]
    kind: String,
    id: &'a str,
    #[serde(serialize_with = "write::time")]
    timestamp: WallTime,
    #[serde(flatten)]
    event: &'a E,
}

/// Writes an event with an id of its own and the time.
pub fn payload<E: Event>(event: &E, id: [u8; Nuid::LEN], now: WallTime) -> Bytes {
    let class = if E::IS_METRIC { "metric" } else { "advisory" };
    let kind = format!("io.nats.jetstream.{class}.v1.{}", E::TYPE);
    let id = String::from_utf8_lossy(&id);
    to_json(&Typed { kind, id: &id, timestamp: now, event }).into()
}

/// What advisories are about, which makes their subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // A name for each subject.
pub enum Topic {
    Api,
    ApiLimitReached,
    ServerOutOfStorage,
    StreamCreated,
    StreamDeleted,
    StreamUpdated,
    SnapshotCreated,
    SnapshotCompleted,
    RestoreCreated,
    RestoreCompleted,
    ConsumerCreated,
    ConsumerDeleted,
    ConsumerPause,
    ConsumerPinned,
    ConsumerUnpinned,
    ConsumerMaxDeliveries,
    ConsumerMessageNaked,
    ConsumerMessageTerminated,
    ConsumerAck,
}

impl Topic {
    /// Returns what its subjects start with.
    pub fn prefix(self) -> &'static str {
        match self {
            Topic::Api => "$JS.EVENT.ADVISORY.API",
            Topic::ApiLimitReached => "$JS.EVENT.ADVISORY.API.LIMIT_REACHED",
            Topic::ServerOutOfStorage => "$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE",
            Topic::StreamCreated => "$JS.EVENT.ADVISORY.STREAM.CREATED",
            Topic::StreamDeleted => "$JS.EVENT.ADVISORY.STREAM.DELETED",
            Topic::StreamUpdated => "$JS.EVENT.ADVISORY.STREAM.UPDATED",
            Topic::SnapshotCreated => "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_CREATE",
            Topic::SnapshotCompleted => "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE",
            Topic::RestoreCreated => "$JS.EVENT.ADVISORY.STREAM.RESTORE_CREATE",
            Topic::RestoreCompleted => "$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE",
            Topic::ConsumerCreated => "$JS.EVENT.ADVISORY.CONSUMER.CREATED",
            Topic::ConsumerDeleted => "$JS.EVENT.ADVISORY.CONSUMER.DELETED",
            Topic::ConsumerPause => "$JS.EVENT.ADVISORY.CONSUMER.PAUSE",
            Topic::ConsumerPinned => "$JS.EVENT.ADVISORY.CONSUMER.PINNED",
            Topic::ConsumerUnpinned => "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED",
            Topic::ConsumerMaxDeliveries => "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES",
            Topic::ConsumerMessageNaked => "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED",
            Topic::ConsumerMessageTerminated => "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED",
            Topic::ConsumerAck => "$JS.EVENT.METRIC.CONSUMER.ACK",
        }
    }

    /// Returns the subject: the prefix, and behind it the names of what it is about.
    pub fn subject(self, names: &[&str]) -> Bytes {
        let mut subject = self.prefix().to_owned();
        for name in names {
            subject.push('.');
            subject.push_str(name);
        }
        subject.into()
    }
}

/// What was done to a stream or a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It was made.
    Create,
    /// It was removed.
    Delete,
    /// It was changed.
    Modify,
}

macro_rules! events {
    ($($event:ty: $last:literal $(, metric = $metric:literal)?;)*) => {
        $(impl Event for $event {
            const TYPE: &'static str = $last;
            $(const IS_METRIC: bool = $metric;)?
        })*
    };
}

events! {
    ApiAudit<'_>: "api_audit";
    ApiLimitReached<'_>: "api_limit_reached";
    StreamAction<'_>: "stream_action";
    SnapshotCreated<'_>: "snapshot_create";
    SnapshotCompleted<'_>: "snapshot_complete";
    RestoreCreated<'_>: "restore_create";
    RestoreCompleted<'_>: "restore_complete";
    ConsumerGroupPinned<'_>: "consumer_group_pinned";
    ConsumerGroupUnpinned<'_>: "consumer_group_unpinned";
    ServerOutOfSpace<'_>: "server_out_of_space";
}

/// A request and its answer.
#[derive(Clone, Debug, Serialize)]
pub struct ApiAudit<'a> {
    /// The server's name.
    pub server: &'a str,
    /// Who asked; see [`ClientInfo::for_advisory`].
    pub client: Option<ClientInfo>,
    /// The request's subject.
    pub subject: &'a str,
    /// The request.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub request: &'a str,
    /// The answer.
    pub response: &'a str,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// Requests were thrown away, because too many were waiting.
#[derive(Clone, Debug, Serialize)]
pub struct ApiLimitReached<'a> {
    /// The server's name.
    pub server: &'a str,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    /// How many.
    pub dropped: u64,
}

/// A stream was made, changed or removed.
#[derive(Clone, Debug, Serialize)]
pub struct StreamAction<'a> {
    /// Its name.
    pub stream: &'a str,
    /// What was done.
    pub action: Action,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// Makes events of a consumer: its stream's name and its own come first, the server's domain last.
macro_rules! consumer_events {
    ($($(#[$doc:meta])* $event:ident: $last:literal $(, metric = $metric:literal)?; { $($fields:tt)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Serialize)]
            pub struct $event<'a> {
                /// The stream's name.
                pub stream: &'a str,
                /// The consumer's name.
                pub consumer: &'a str,
                $($fields)*
                /// The server's domain.
                #[serde(skip_serializing_if = "str::is_empty")]
                pub domain: &'a str,
            }

            events! { $event<'_>: $last $(, metric = $metric)?; }
        )*
    };
}

consumer_events! {
    /// A consumer was made or removed.
    ConsumerAction: "consumer_action"; {
        /// What was done.
        pub action: Action,
    }
    /// A consumer was paused, or goes on.
    ConsumerPause: "consumer_pause"; {
        /// Whether it is paused.
        pub paused: bool,
        /// Until when.
        #[serde(serialize_with = "write::optional_time")]
        pub pause_until: Option<WallTime>,
    }
    /// A message was delivered as often as it may be, and not acknowledged.
    DeliveriesExceeded: "max_deliver"; {
        /// The message.
        #[serde(rename = "stream_seq")]
        pub stream_sequence: u64,
        /// How often it was delivered.
        pub deliveries: u64,
    }
    /// A client asked for a message to be delivered again.
    MessageNaked: "nak"; {
        /// The delivery.
        #[serde(rename = "consumer_seq")]
        pub consumer_sequence: u64,
        /// The message.
        #[serde(rename = "stream_seq")]
        pub stream_sequence: u64,
        /// How often it was delivered.
        pub deliveries: u64,
    }
    /// A client, or a limit, ended the deliveries of a message.
    MessageTerminated: "terminated"; {
        /// The delivery.
        #[serde(rename = "consumer_seq")]
        pub consumer_sequence: u64,
        /// The message.
        #[serde(rename = "stream_seq")]
        pub stream_sequence: u64,
        /// How often it was delivered.
        pub deliveries: u64,
        /// Why.
        #[serde(skip_serializing_if = "str::is_empty")]
        pub reason: &'a str,
    }
    /// A message was acknowledged.
    AckSample: "consumer_ack", metric = true; {
        /// The delivery.
        #[serde(rename = "consumer_seq")]
        pub consumer_sequence: u64,
        /// The message.
        #[serde(rename = "stream_seq")]
        pub stream_sequence: u64,
        /// How long after its delivery.
        #[serde(rename = "ack_time", serialize_with = "write::duration")]
        pub delay: Duration,
        /// How often it was delivered.
        pub deliveries: u64,
    }
}

/// A client of a group was pinned.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerGroupPinned<'a> {
    /// The account's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub account: &'a str,
    /// The stream's name.
    pub stream: &'a str,
    /// The consumer's name.
    pub consumer: &'a str,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// The id that the client was given.
    pub pinned_id: &'a str,
}

/// A client of a group is pinned no more.
#[derive(Clone, Debug, Serialize)]
pub struct ConsumerGroupUnpinned<'a> {
    /// The account's name.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub account: &'a str,
    /// The stream's name.
    pub stream: &'a str,
    /// The consumer's name.
    pub consumer: &'a str,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    /// The group's name.
    pub group: &'a str,
    /// Why: `admin` or `timeout`.
    pub reason: &'a str,
}

/// A server has no room for messages any more.
#[derive(Clone, Debug, Serialize)]
pub struct ServerOutOfSpace<'a> {
    /// The server's name.
    pub server: &'a str,
    /// The server's id.
    pub server_id: &'a str,
    /// The stream that noticed.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub stream: &'a str,
    /// The cluster's name.
    pub cluster: &'a str,
    /// The server's domain.
    #[serde(skip_serializing_if = "is_default")]
    pub domain: &'a str,
}

#[cfg(test)]
mod tests;
