use proptest::prelude::*;

use super::*;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::level;
use crate::jetstream::api::limits::{AccountLimits, ServerLimits};
use crate::jetstream::api::read::unmarshal_request;
use crate::jetstream::api::stream_config::StreamConsumerLimits;
use crate::jetstream::api::subject::ApiSubject;
use crate::jetstream::api::testing::{check_recorded, show, two_objects};

fn stream(kind: &str) -> StreamConfig {
    StreamConfig {
        name: "S".to_owned(),
        subjects: vec!["a.>".to_owned(), "b".to_owned()],
        replicas: 1,
        retention: match kind {
            "interest" => Retention::Interest,
            "work" => Retention::WorkQueue,
            _ => Retention::Limits,
        },
        consumer_limits: match kind {
            "limited" => StreamConsumerLimits { inactive_threshold_ns: 10_000_000_000, max_ack_pending: 20 },
            _ => StreamConsumerLimits::default(),
        },
        ..StreamConfig::default()
    }
}

/// Does what a server does with a request, up to where it depends on what there is.
fn requested(
    kind: &str,
    subject: &str,
    body: &[u8],
    server: &ServerLimits,
    account: &AccountLimits,
) -> Result<(ConsumerConfig, ConsumerAction), ApiError> {
    let subject = format!("$JS.API.CONSUMER.{subject}");
    let parsed = ApiSubject::parse(subject.as_bytes()).unwrap();
    let ApiSubject::ConsumerCreate { form, stream: name, consumer, filter } = parsed else {
        panic!("{subject} creates no consumer")
    };
    let mut request: ConsumerRequest = unmarshal_request(body, true)?;
    request.prepare_create(form, name, consumer, filter)?;
    level::set_consumer_level(&mut request.config);
    let action = request.action;
    Ok((request.check(&stream(kind), server, account)?, action))
}

fn create(
    kind: &str,
    text: &str,
    server: &ServerLimits,
    account: &AccountLimits,
) -> Result<ConsumerConfig, ApiError> {
    let (subject, body) = text.split_once(' ').unwrap();
    let (mut config, action) = requested(kind, subject, body.as_bytes(), server, account)?;
    if action == ConsumerAction::Update {
        return Err(ErrorKind::ConsumerDoesNotExist.error());
    }
    config.check_work_queue(&stream(kind), std::iter::empty())?;
    let name = if config.name.is_empty() { "drawn" } else { &config.name };
    config.check_new_name(name)?;
    config.fill_inactive_threshold();
    level::add_answerer(&mut config.metadata, "2.15.1");
    Ok(config)
}

#[test]
fn configurations_are_what_the_go_server_makes_of_them() {
    check_recorded(include_str!("../testdata/consumer_create.txt"), |kind, text| {
        show("config", create(kind, text, &ServerLimits::default(), &AccountLimits::UNLIMITED))
    });
}

#[test]
fn limits_are_those_of_the_go_server() {
    let server = ServerLimits { max_request_batch: 100, max_ack_pending: 500, ..ServerLimits::default() };
    let account = AccountLimits { max_ack_pending: 400, ..AccountLimits::UNLIMITED };
    check_recorded(include_str!("../testdata/consumer_create_limited.txt"), |kind, text| {
        show("config", create(kind, text, &server, &account))
    });
}

/// What the engine does with a request for a consumer that is there, but for where it delivers to.
fn update(old: &str, new: &str) -> Result<ConsumerConfig, ApiError> {
    let request = |body: &str| {
        let (server, account) = (ServerLimits::default(), AccountLimits::UNLIMITED);
        requested("limits", "CREATE.S.c", body.as_bytes(), &server, &account)
    };
    let ((old, _), (mut new, action)) = (request(old)?, request(new)?);
    if action == ConsumerAction::Create && !old.is_same_request(&new) {
        return Err(ErrorKind::ConsumerAlreadyExists.error());
    }
    new.pause_until = old.pause_until;
    level::set_consumer_level(&mut new);
    old.check_update(&new, false)?;
    new.fill_inactive_threshold();
    level::add_answerer(&mut new.metadata, "2.15.1");
    Ok(new)
}

#[test]
fn updates_change_what_they_change_at_the_go_server() {
    check_recorded(include_str!("../testdata/consumer_update.txt"), |first, rest| {
        let text = format!("{first} {rest}");
        let (old, new) = two_objects(&text);
        show("config", update(old, new.trim()))
    });
}

#[test]
fn what_a_consumer_can_not_become_is_named() {
    type Change = fn(&mut ConsumerConfig);
    let changes: [(Change, &str); 13] = [
        (|config| config.deliver_policy = DeliverPolicy::New, "deliver policy can not be updated"),
        (|config| config.memory_storage = true, "storage type can not be updated"),
        (|config| config.direct = true, "direct can not be updated"),
        (|config| config.sourcing = true, "sourcing can not be updated"),
        (|config| config.start_sequence = 5, "start sequence can not be updated"),
        (|config| config.start_time = Some(WallTime::default()), "start time can not be updated"),
        (|config| config.ack_policy = AckPolicy::All, "ack policy can not be updated"),
        (|config| config.replay_policy = ReplayPolicy::Original, "replay policy can not be updated"),
        (|config| config.heartbeat = Duration::from_secs(1), "heart beats can not be updated"),
        (|config| config.flow_control = true, "flow control can not be updated"),
        (|config| config.deliver_subject = "d".to_owned(), "can not update pull consumer to push based"),
        (|config| config.max_waiting = 5, "max waiting can not be updated"),
        (
            |config| config.backoff = vec![Duration::ZERO],
            "max deliver is required to be > length of backoff values",
        ),
    ];
    let old = ConsumerConfig::default();
    for (change, text) in changes {
        let mut new = old.clone();
        change(&mut new);
        let there =
            |from: &ConsumerConfig, to| from.check_update(to, false).err().map(|error| error.description);
        assert_eq!(there(&old, &new).as_deref(), Some(text));
        // Nothing that was so can become otherwise either, but for what only counts once it is there.
        let back = match text {
            "can not update pull consumer to push based" => {
                Some("can not update push consumer to pull based")
            }
            text if text.starts_with("max deliver") => None,
            text => Some(text),
        };
        assert_eq!(there(&new, &old).as_deref(), back);
        assert_eq!(there(&new, &new), None);
    }
}

#[test]
fn a_push_consumer_that_is_listened_to_stays_where_it_is() {
    let at =
        |subject: &str| ConsumerConfig { deliver_subject: subject.to_owned(), ..ConsumerConfig::default() };
    assert_eq!(at("a").check_update(&at("b"), true), Err(ErrorKind::ConsumerNameExist.error()));
    assert_eq!(at("a").check_update(&at("b"), false), Ok(()));
    assert_eq!(at("a").check_update(&at("a"), true), Ok(()));
}

#[test]
fn consumers_of_a_work_queue_share_no_subject() {
    let with = |filters: &[&str]| ConsumerConfig {
        ack_policy: AckPolicy::Explicit,
        filter_subjects: filters.iter().map(|filter| (*filter).to_owned()).collect(),
        ..ConsumerConfig::default()
    };
    let check = |new: &ConsumerConfig, others: &[ConsumerConfig]| {
        new.check_work_queue(&stream("work"), others.iter()).map_err(|error| error.err_code)
    };
    assert_eq!(check(&with(&[]), &[]), Ok(()));
    assert_eq!(check(&with(&[]), &[with(&["a.x"])]), Err(10099));
    assert_eq!(check(&with(&["a.x"]), &[with(&[])]), Err(10100));
    assert_eq!(check(&with(&["a.x", "b"]), &[with(&["a.y"]), with(&["a.*"])]), Err(10100));
    assert_eq!(check(&with(&["a.x", "b"]), &[with(&["a.y"])]), Ok(()));
    assert_eq!(
        with(&[]).check_unique([with(&["a"])].iter()),
        Err(ErrorKind::ConsumerWorkQueueConsumerNotUnique.error())
    );
    assert_eq!(with(&[]).check_work_queue(&stream("limits"), [with(&[])].iter()), Ok(()));
}

#[test]
fn what_follows_from_a_configuration() {
    let config =
        |sample: &str| ConsumerConfig { sample_frequency: sample.to_owned(), ..ConsumerConfig::default() };
    assert_eq!(
        ["", "0", "30%", "100", "250"].map(|text| config(text).sample_percentage()),
        [0, 0, 30, 100, 250]
    );
    let replicas = |replicas, durable: &str, kind| {
        let config = ConsumerConfig { replicas, durable: durable.to_owned(), ..ConsumerConfig::default() };
        config.replicas_of(&StreamConfig { replicas: 3, ..stream(kind) })
    };
    assert_eq!(replicas(0, "", "limits"), 1);
    assert_eq!(replicas(0, "", "work"), 3);
    assert_eq!(replicas(0, "d", "limits"), 3);
    assert_eq!(replicas(1, "d", "limits"), 1);
    assert_eq!(replicas(5, "", "limits"), 3);
    let settings = ConsumerConfig { max_deliver: -1, ..config("") }.settings();
    assert_eq!((settings.ack_policy, settings.max_deliver), (AckPolicy::None, 0));
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        numbers in any::<[u32; 4]>(),
        flags in any::<[bool; 4]>(),
        name in "[a-z<>&\"]{1,9}",
    ) {
        let config = ConsumerConfig {
            name: name.clone(),
            deliver_policy: if flags[0] { DeliverPolicy::ByStartTime } else { DeliverPolicy::LastPerSubject },
            start_time: flags[0].then(|| WallTime::from_unix_nanos(i64::from(numbers[0]))),
            ack_policy: if flags[1] { AckPolicy::FlowControl } else { AckPolicy::All },
            replay_policy: if flags[2] { ReplayPolicy::Original } else { ReplayPolicy::Instant },
            priority_policy: if flags[3] { PriorityPolicy::PinnedClient } else { PriorityPolicy::None },
            backoff: numbers.iter().map(|nanos| Duration::from_nanos(u64::from(*nanos))).collect(),
            max_deliver: i64::from(numbers[1]),
            rate_limit: u64::from(numbers[2]),
            filter_subjects: vec![name.clone()],
            pause_until: flags[1].then(|| WallTime::from_unix_nanos(-i64::from(numbers[3]))),
            metadata: [(name.clone(), name)].into(),
            headers_only: flags[2],
            ..ConsumerConfig::default()
        };
        let json = crate::jetstream::api::write::to_json(&config);
        let body = [b"{\"config\":", &json[..], b"}"].concat();
        let read: ConsumerRequest = unmarshal_request(&body, true).unwrap();
        prop_assert_eq!(read.config, config);
    }

    #[test]
    fn nothing_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
        key in prop::sample::select(vec!["filter_subjects", "backoff", "deliver_subject", "sample_freq", "opt_start_time", "num_replicas"]),
        value in r#"[\[\]{}":,.*>%a-c0-9-]{0,20}"#,
    ) {
        let run = |body: &[u8]| {
            let _ = requested("work", "CREATE.S.c.a.b", body, &ServerLimits::default(), &AccountLimits::NONE);
        };
        run(&bytes);
        for value in [value.clone(), format!("\"{value}\""), format!("[\"{value}\"]")] {
            run(format!(r#"{{"stream_name":"S","config":{{"filter_subject":"a.b","{key}":{value}}}}}"#).as_bytes());
        }
    }
}
