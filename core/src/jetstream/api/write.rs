//! JSON as the reference writes it: durations as whole nanoseconds, times in RFC 3339, names of policies, what is left out.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

use crate::protocol::json::escape_as_go;
use crate::storage::consumer::AckPolicy;
use crate::storage::{Compression, Discard, Retention, StorageKind};
use crate::time::{Duration, WallTime};

/// Keys and values that a user attaches to a stream or a consumer, in the order in which they are written.
pub type Metadata = BTreeMap<String, String>;

/// Writes a value as the bytes that the reference would send.
pub fn to_json(value: &impl Serialize) -> Vec<u8> {
    // Nothing here has maps with other keys than text, or a serializer of its own that fails.
    escape_as_go(serde_json::to_vec(value).unwrap_or_default())
}

/// Returns how many bytes the keys and values of metadata have together.
pub(super) fn metadata_len(metadata: &Metadata) -> usize {
    metadata.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// Tells whether a value is what Go leaves out under `omitempty`, by being its type's default.
pub(super) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Returns a duration in nanoseconds, as much as Go's type holds.
pub fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// What stands for the reference's zero time, long before anything that can be told apart.
pub const ZERO_TIME: WallTime = WallTime::from_unix_nanos(i64::MIN);

pub(super) fn duration<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_i64(nanos(*value))
}

pub(super) fn durations<S: Serializer>(value: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(value.iter().map(|duration| nanos(*duration)))
}

pub(in crate::jetstream) fn time<S: Serializer>(value: &WallTime, serializer: S) -> Result<S::Ok, S::Error> {
    if *value == ZERO_TIME {
        return serializer.serialize_str("0001-01-01T00:00:00Z");
    }
    serializer.collect_str(value)
}

pub(super) fn optional_time<S: Serializer>(
    value: &Option<WallTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    time(&value.unwrap_or(ZERO_TIME), serializer)
}

pub(super) fn retention<S: Serializer>(value: &Retention, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        Retention::Limits => "limits",
        Retention::Interest => "interest",
        Retention::WorkQueue => "workqueue",
    })
}

pub(super) fn discard<S: Serializer>(value: &Discard, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        Discard::Old => "old",
        Discard::New => "new",
    })
}

pub(super) fn storage<S: Serializer>(value: &StorageKind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        StorageKind::File => "file",
        StorageKind::Memory => "memory",
    })
}

pub(super) fn compression<S: Serializer>(value: &Compression, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        Compression::None => "none",
        Compression::S2 => "s2",
    })
}

pub(super) fn ack_policy<S: Serializer>(value: &AckPolicy, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match value {
        AckPolicy::None => "none",
        AckPolicy::All => "all",
        AckPolicy::Explicit => "explicit",
        AckPolicy::FlowControl => "flow_control",
    })
}

pub(super) fn base64<S: Serializer>(value: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&data_encoding::BASE64.encode(value))
}
