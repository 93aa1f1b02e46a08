//! API levels: what a request may require, and what a stream or consumer says that it needs.
//!
//! A level is a number that rises with features. A configuration is kept with the level that it needs, so that an older server
//! could tell that it can't have it; answers also say which version and level answered, which is never kept.
//!
//! Source: nats-server `server/jetstream_versioning.go`.

use super::consumer_config::{AckPolicy, ConsumerConfig, PriorityPolicy};
use super::stream_config::{PersistMode, StreamConfig};
use super::write::{Metadata, ZERO_TIME};
use crate::protocol::headers;

/// The level of this server, that of 2.15.
pub const API_LEVEL: i64 = 5;

/// The header by which a request says that an older server must refuse it.
pub const REQUIRED_LEVEL_HEADER: &[u8] = b"Nats-Required-Api-Level";
/// What a configuration needs.
pub const REQUIRED_LEVEL_KEY: &str = "_nats.req.level";
/// Which version answered.
pub const VERSION_KEY: &str = "_nats.ver";
/// Which level answered.
pub const LEVEL_KEY: &str = "_nats.level";

/// Tells whether a request with these headers requires more than this server has; also if what it requires is no number.
pub fn requires_too_much(request_headers: &[u8]) -> bool {
    match headers::get(request_headers, REQUIRED_LEVEL_HEADER) {
        None | Some(b"") => false,
        Some(level) => !is_supported(std::str::from_utf8(level).unwrap_or("no number")),
    }
}

/// Tells whether this server has what a kept configuration needs.
pub fn supports(metadata: &Metadata) -> bool {
    metadata.get(REQUIRED_LEVEL_KEY).is_none_or(|level| level.is_empty() || is_supported(level))
}

fn is_supported(level: &str) -> bool {
    level.parse::<i64>().is_ok_and(|level| level <= API_LEVEL)
}

/// Returns the level that a stream needs.
pub fn stream_level(config: &StreamConfig) -> i64 {
    let needs = [
        (config.allow_message_ttl || !config.subject_delete_marker_ttl.is_zero(), 1),
        (config.allow_message_counter, 2),
        (config.allow_atomic_publish, 2),
        (config.allow_message_schedules, 2),
        (config.persist_mode == PersistMode::Async, 2),
        (config.allow_batch_publish, 4),
    ];
    highest(&needs)
}

/// Returns the level that a consumer needs.
pub fn consumer_level(config: &ConsumerConfig) -> i64 {
    let has_groups = config.priority_policy != PriorityPolicy::None
        || !config.pinned_ttl.is_zero()
        || !config.priority_groups.is_empty();
    let needs = [
        (config.pause_until.is_some_and(|until| until != ZERO_TIME), 1),
        (has_groups, 1),
        (config.ack_policy == AckPolicy::FlowControl, 4),
    ];
    highest(&needs)
}

fn highest(needs: &[(bool, i64)]) -> i64 {
    needs.iter().filter(|(needed, _)| *needed).map(|(_, level)| *level).max().unwrap_or(0)
}

/// Makes a stream's metadata what is kept: with what it needs, without who answered.
pub fn set_stream_level(config: &mut StreamConfig) {
    let level = stream_level(config);
    set_level(&mut config.metadata, level);
}

/// Makes a consumer's metadata what is kept.
pub fn set_consumer_level(config: &mut ConsumerConfig) {
    let level = consumer_level(config);
    set_level(&mut config.metadata, level);
}

fn set_level(metadata: &mut Metadata, level: i64) {
    strip(metadata);
    metadata.insert(REQUIRED_LEVEL_KEY.to_owned(), level.to_string());
}

fn strip(metadata: &mut Metadata) {
    metadata.remove(VERSION_KEY);
    metadata.remove(LEVEL_KEY);
}

/// Makes kept metadata what an answer shows: with the version and the level of this server.
pub fn add_answerer(metadata: &mut Metadata, version: &str) {
    metadata.insert(VERSION_KEY.to_owned(), version.to_owned());
    metadata.insert(LEVEL_KEY.to_owned(), API_LEVEL.to_string());
}

/// Makes what a request says about levels what is kept already, so that the two can be compared for all else.
pub fn copy_level(requested: &mut Metadata, kept: &Metadata) {
    strip(requested);
    match kept.get(REQUIRED_LEVEL_KEY) {
        Some(level) => requested.insert(REQUIRED_LEVEL_KEY.to_owned(), level.clone()),
        None => requested.remove(REQUIRED_LEVEL_KEY),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Duration, WallTime};

    #[test]
    fn a_request_may_require_a_level() {
        for (headers, refused) in [
            (&b""[..], false),
            (b"NATS/1.0\r\nNats-Required-Api-Level: 5\r\n\r\n", false),
            (b"NATS/1.0\r\nNats-Required-Api-Level: -1\r\n\r\n", false),
            (b"NATS/1.0\r\nNats-Required-Api-Level: +6\r\n\r\n", true),
            (b"NATS/1.0\r\nNats-Required-Api-Level: 6\r\n\r\n", true),
            (b"NATS/1.0\r\nNats-Required-Api-Level: x\r\n\r\n", true),
            (b"NATS/1.0\r\nNats-Required-Api-Level: 1.0\r\n\r\n", true),
            (b"NATS/1.0\r\nNats-Required-Api-Level: \xff\r\n\r\n", true),
            (b"NATS/1.0\r\nNats-Required-Api-Level: \r\n\r\n", false),
        ] {
            assert_eq!(requires_too_much(headers), refused, "{}", String::from_utf8_lossy(headers));
        }
    }

    #[test]
    fn a_configuration_says_what_it_needs() {
        let stream = |change: fn(&mut StreamConfig)| {
            let mut config = StreamConfig::default();
            change(&mut config);
            stream_level(&config)
        };
        assert_eq!(stream(|_| {}), 0);
        assert_eq!(stream(|config| config.allow_message_ttl = true), 1);
        assert_eq!(stream(|config| config.subject_delete_marker_ttl = Duration::from_secs(1)), 1);
        assert_eq!(stream(|config| config.allow_message_counter = true), 2);
        assert_eq!(stream(|config| config.allow_atomic_publish = true), 2);
        assert_eq!(stream(|config| config.allow_message_schedules = true), 2);
        assert_eq!(stream(|config| config.persist_mode = PersistMode::Async), 2);
        assert_eq!(stream(|config| config.allow_batch_publish = true), 4);
        let consumer = |change: fn(&mut ConsumerConfig)| {
            let mut config = ConsumerConfig::default();
            change(&mut config);
            consumer_level(&config)
        };
        assert_eq!(consumer(|_| {}), 0);
        assert_eq!(consumer(|config| config.pause_until = Some(ZERO_TIME)), 0);
        assert_eq!(consumer(|config| config.pause_until = Some(WallTime::default())), 1);
        assert_eq!(consumer(|config| config.priority_groups.push("a".to_owned())), 1);
        assert_eq!(consumer(|config| config.priority_policy = PriorityPolicy::Overflow), 1);
        assert_eq!(consumer(|config| config.pinned_ttl = Duration::from_secs(1)), 1);
        assert_eq!(consumer(|config| config.ack_policy = AckPolicy::FlowControl), 4);
    }

    #[test]
    fn metadata_is_kept_without_who_answered() {
        let text = |metadata: &Metadata| {
            metadata.iter().map(|(key, value)| format!("{key}={value} ")).collect::<String>()
        };
        let mut config = StreamConfig { allow_batch_publish: true, ..StreamConfig::default() };
        for (key, value) in [("a", "b"), (VERSION_KEY, "9"), (LEVEL_KEY, "9"), (REQUIRED_LEVEL_KEY, "9")] {
            config.metadata.insert(key.to_owned(), value.to_owned());
        }
        assert!(!supports(&config.metadata));
        set_stream_level(&mut config);
        assert!(supports(&config.metadata));
        assert_eq!(text(&config.metadata), "_nats.req.level=4 a=b ");
        let kept = config.metadata.clone();
        add_answerer(&mut config.metadata, "2.15.1");
        assert_eq!(text(&config.metadata), "_nats.level=5 _nats.req.level=4 _nats.ver=2.15.1 a=b ");
        copy_level(&mut config.metadata, &kept);
        assert_eq!(config.metadata, kept);
        copy_level(&mut config.metadata, &Metadata::new());
        assert_eq!(text(&config.metadata), "a=b ");
    }
}
