use proptest::prelude::*;

use super::*;
use crate::jetstream::api::consumer_config::ConsumerConfig;
use crate::jetstream::api::error::ApiError;
use crate::jetstream::api::limits::{AccountLimits, ServerLimits};
use crate::jetstream::api::read::{unmarshal, unmarshal_request};
use crate::jetstream::api::testing::{check_recorded, show, two_objects};
use crate::jetstream::api::{level, write};

/// Does what a server does with a request before anything depends on what there is.
fn create(
    name: &str,
    body: &[u8],
    server: &ServerLimits,
    account: &AccountLimits,
) -> Result<StreamConfig, ApiError> {
    let mut request: StreamRequest = unmarshal_request(body, true)?;
    request.prepare_create(name)?;
    let config = request.check(server, account)?;
    config.check_single_server()?;
    Ok(config)
}

fn unlimited(name: &str, body: &str) -> Result<StreamConfig, ApiError> {
    create(name, body.as_bytes(), &ServerLimits::default(), &AccountLimits::UNLIMITED)
}

fn answered(mut config: StreamConfig) -> StreamConfig {
    level::add_answerer(&mut config.metadata, "2.15.1");
    config
}

#[test]
fn configurations_are_what_the_go_server_makes_of_them() {
    check_recorded(include_str!("../testdata/stream_create.txt"), |name, body| {
        show("config", unlimited(name, body).map(answered))
    });
}

#[test]
fn limits_are_those_of_the_go_server() {
    let server = ServerLimits { duplicate_window: Duration::from_secs(60), ..ServerLimits::default() };
    let account = AccountLimits {
        memory_max_stream_bytes: 2000,
        store_max_stream_bytes: 4000,
        max_bytes_required: true,
        ..AccountLimits::UNLIMITED
    };
    check_recorded(include_str!("../testdata/stream_create_limited.txt"), |name, body| {
        show("config", create(name, body.as_bytes(), &server, &account).map(answered))
    });
}

fn update(old: &str, new: &str) -> Result<StreamConfig, ApiError> {
    let old = match old.contains(r#""sealed":true"#) {
        // It can't be created so; it has become so.
        true => {
            let request: StreamRequest = unmarshal(old.as_bytes()).unwrap();
            request.check(&ServerLimits::default(), &AccountLimits::UNLIMITED)?
        }
        false => unlimited("S", old)?,
    };
    let request: StreamRequest = unmarshal_request(new.as_bytes(), true)?;
    let checked = request.check_update("S", &ServerLimits::default(), &AccountLimits::UNLIMITED)?;
    old.check_update(checked)
}

#[test]
fn updates_change_what_they_change_at_the_go_server() {
    check_recorded(include_str!("../testdata/stream_update.txt"), |first, rest| {
        let text = format!("{first} {rest}");
        let (old, new) = two_objects(&text);
        show("config", update(old, new.trim()).map(answered))
    });
}

#[test]
fn an_update_makes_no_stream_republish_to_itself() {
    let error = update(r#"{"name":"S"}"#, r#"{"name":"S","republish":{"dest":""}}"#).unwrap_err();
    assert_eq!((error.err_code, error.description.ends_with("forms a cycle")), (10052, true));
    assert!(unlimited("S", r#"{"name":"S","republish":{"dest":""}}"#).is_ok());
}

/// As the Go server keeps it: what says nothing is dropped, unless it has a list that says nothing.
#[test]
fn a_placement_says_something_or_nothing() {
    for (placement, kept) in [
        ("{}", None),
        ("null", None),
        (r#"{"cluster":"","tags":null}"#, None),
        (r#"{"cluster":"","tags":[]}"#, Some("{}")),
        (r#"{"cluster":"c","tags":["a"]}"#, Some(r#"{"cluster":"c","tags":["a"]}"#)),
    ] {
        let config = unlimited("S", &format!(r#"{{"name":"S","placement":{placement}}}"#)).unwrap();
        let shown = config.placement.map(|placement| serde_json::to_string(&placement).unwrap());
        assert_eq!(shown.as_deref(), kept, "{placement}");
    }
}

#[test]
fn features_that_come_later_are_refused_by_name() {
    for (field, value) in [
        ("mirror", r#"{"name":"o"}"#),
        ("sources", r#"[{"name":"o"}]"#),
        ("allow_msg_counter", "true"),
        ("allow_atomic", "true"),
        ("allow_batched", "true"),
    ] {
        let config = unlimited("S", &format!(r#"{{"name":"S","{field}":{value}}}"#)).unwrap();
        let error = config.check_features().unwrap_err();
        assert_eq!(
            (error.err_code, &*error.description),
            (10052, &*format!("{field} is not supported by this server yet"))
        );
    }
    assert_eq!(unlimited("S", r#"{"name":"S"}"#).unwrap().check_features(), Ok(()));
}

#[test]
fn a_request_for_what_is_there_is_known() {
    let there = unlimited("S", r#"{"name":"S","metadata":{"a":"b"}}"#).unwrap();
    assert!(there.is_same_request(&answered(there.clone())));
    assert!(!there.is_same_request(&unlimited("S", r#"{"name":"S"}"#).unwrap()));
}

#[test]
fn limits_of_consumers_change_only_if_the_consumers_are_within_them() {
    let consumer = |seconds, max_ack_pending| ConsumerConfig {
        inactive_threshold: Duration::from_secs(seconds),
        max_ack_pending,
        ..ConsumerConfig::default()
    };
    let consumers = [("a", consumer(10, 5)), ("b", consumer(5, 20)), ("c", consumer(1, -1))];
    let limits = |seconds: i64, max_ack_pending| StreamConsumerLimits {
        inactive_threshold_ns: seconds * 1_000_000_000,
        max_ack_pending,
    };
    let check = |old: StreamConsumerLimits, new: StreamConsumerLimits| {
        let consumers = consumers.iter().map(|(name, config)| (*name, config));
        new.check_change(&old, consumers).err().map(|error| error.description.into_owned())
    };
    let violates = |names: &str| Some(format!("change to limits violates consumers: {names}"));
    assert_eq!(check(limits(0, 0), limits(10, 20)), None);
    assert_eq!(check(limits(0, 0), limits(7, 0)), violates("a"));
    assert_eq!(check(limits(0, 0), limits(0, 10)), violates("b"));
    assert_eq!(check(limits(0, 0), limits(1, 1)), violates("a, b"));
    assert_eq!(check(limits(1, 1), limits(1, 1)), None);
    assert_eq!(check(limits(0, 0), limits(-1, -1)), None, "no limits");
}

#[test]
fn a_store_gets_limits_with_zero_for_none() {
    let body =
        r#"{"name":"S","max_msgs":5,"max_age":1000000000,"discard":"new","compression":"s2","first_seq":9}"#;
    let store = unlimited("S", body).unwrap().store_config();
    let expected = StoreConfig {
        max_messages: 5,
        max_age: Duration::from_secs(1),
        discard: Discard::New,
        compression: Compression::S2,
        first_sequence: 9,
        ..StoreConfig::default()
    };
    assert_eq!(store, expected);
}

proptest! {
    /// What is written is read as the same, also by a server that only passes it on.
    #[test]
    fn what_is_written_is_read(
        limits in any::<[u32; 4]>(),
        flags in any::<[bool; 4]>(),
        name in "[a-z<>&\"\u{2028}]{1,9}",
    ) {
        let config = StreamConfig {
            name: name.clone(),
            description: name.clone(),
            subjects: vec![name.clone()],
            max_messages: i64::from(limits[0]),
            max_age: Duration::from_nanos(u64::from(limits[1])),
            duplicate_window: Duration::from_nanos(u64::from(limits[2])),
            first_sequence: u64::from(limits[3]),
            no_ack: flags[0],
            sealed: flags[1],
            retention: if flags[2] { Retention::WorkQueue } else { Retention::Interest },
            storage: if flags[3] { StorageKind::Memory } else { StorageKind::File },
            mirror: flags[0].then(|| StreamSource { start_time: Some(WallTime::from_unix_nanos(5)), ..StreamSource::default() }),
            sources: vec![StreamSource { name: name.clone(), external: Some(ExternalStream::default()), ..StreamSource::default() }],
            republish: flags[1].then(|| Republish { destination: name.clone(), ..Republish::default() }),
            metadata: [(name.clone(), name)].into(),
            ..StreamConfig::default()
        };
        let read: StreamRequest = unmarshal_request(&write::to_json(&config), true).unwrap();
        prop_assert_eq!(read.config, config);
    }

    #[test]
    fn nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        key in prop::sample::select(vec!["subjects", "max_age", "mirror", "republish", "subject_transform", "name", "num_replicas"]),
        value in r#"[\[\]{}":,.*>a-c0-9-]{0,20}"#,
    ) {
        let _ = unlimited("S", &String::from_utf8_lossy(&bytes));
        let _ = unlimited("S", &format!(r#"{{"name":"S","{key}":{value}}}"#));
        let _ = unlimited("S", &format!(r#"{{"name":"S","{key}":"{value}"}}"#));
        let _ = unlimited("S", &format!(r#"{{"name":"S","subjects":["{value}"],"republish":{{"src":"{value}","dest":"{value}"}}}}"#));
    }
}
