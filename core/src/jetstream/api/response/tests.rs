use super::*;
use crate::jetstream::api::consumer_config::{AckPolicy, ConsumerConfig, PriorityPolicy};
use crate::jetstream::api::error::ErrorKind;
use crate::jetstream::api::stream_config::StreamConfig;
use crate::storage;

fn text(json: Vec<u8>) -> String {
    String::from_utf8(json).unwrap()
}

fn time(nanos: i64) -> WallTime {
    WallTime::from_unix_nanos(1_795_260_621_000_000_000 + nanos)
}

/// What a Go server 2.15.1 answered, its times and names put in here.
const CONFIG: &str = r#"{"name":"A","description":"\u003c\u0026\u003e","subjects":["a.*"],"retention":"limits","max_consumers":-1,"max_msgs":-1,"max_bytes":-1,"max_age":0,"max_msgs_per_subject":-1,"max_msg_size":-1,"discard":"old","storage":"file","num_replicas":1,"duplicate_window":120000000000,"compression":"none","allow_direct":false,"mirror_direct":false,"sealed":false,"deny_delete":false,"deny_purge":false,"allow_rollup_hdrs":false,"consumer_limits":{},"allow_msg_ttl":false,"metadata":{"_nats.level":"5","_nats.req.level":"0","_nats.ver":"2.15.1"}}"#;

fn stream_info() -> StreamInfo {
    let mut info = StreamInfo {
        config: StreamConfig {
            name: "A".to_owned(),
            description: "<&>".to_owned(),
            subjects: vec!["a.*".to_owned()],
            max_consumers: -1,
            max_messages: -1,
            max_bytes: -1,
            max_messages_per_subject: -1,
            max_message_size: -1,
            replicas: 1,
            duplicate_window: Duration::from_secs(120),
            metadata: [("_nats.req.level".to_owned(), "0".to_owned())].into(),
            ..StreamConfig::default()
        },
        created: time(968_677_240),
        state: StreamState::default(),
        domain: String::new(),
        cluster: None,
        time: time(969_294_621),
    };
    info.add_answerer("2.15.1");
    info
}

#[test]
fn a_stream_is_described_as_the_go_server_does() {
    let created = StreamCreateBody { info: Some(stream_info()), did_create: true };
    assert_eq!(
        text(answer(&created)),
        format!(
            r#"{{"type":"io.nats.jetstream.api.v1.stream_create_response","config":{CONFIG},"created":"2026-11-21T11:30:21.96867724Z","state":{{"messages":0,"bytes":0,"first_seq":0,"first_ts":"0001-01-01T00:00:00Z","last_seq":0,"last_ts":"0001-01-01T00:00:00Z","consumer_count":0}},"ts":"2026-11-21T11:30:21.969294621Z","did_create":true}}"#
        )
    );
    let state = storage::StreamState {
        messages: 5,
        bytes: 222,
        first_sequence: 1,
        first_time: Some(time(970_584_604)),
        last_sequence: 6,
        last_time: Some(time(970_951_061)),
        subjects: 3,
        deleted: 1,
        ..storage::StreamState::default()
    };
    let mut info = stream_info();
    info.state = StreamState::of(&state, 0);
    info.state.subjects = [("a.0", 2), ("a.1", 2), ("a.2", 1)].map(|(name, n)| (name.to_owned(), n)).into();
    info.state.deleted = vec![2];
    info.cluster = Some(ClusterInfo { leader: "S".to_owned(), ..ClusterInfo::default() });
    let page = Page { total: 3, offset: 0, limit: MAX_SUBJECT_DETAILS };
    assert_eq!(
        text(answer(&StreamInfoBody { page, info: Some(info) })),
        format!(
            r#"{{"type":"io.nats.jetstream.api.v1.stream_info_response","total":3,"offset":0,"limit":100000,"config":{CONFIG},"created":"2026-11-21T11:30:21.96867724Z","state":{{"messages":5,"bytes":222,"first_seq":1,"first_ts":"2026-11-21T11:30:21.970584604Z","last_seq":6,"last_ts":"2026-11-21T11:30:21.970951061Z","num_subjects":3,"subjects":{{"a.0":2,"a.1":2,"a.2":1}},"num_deleted":1,"deleted":[2],"consumer_count":0}},"cluster":{{"leader":"S"}},"ts":"2026-11-21T11:30:21.969294621Z"}}"#
        )
    );
    let updated = StreamUpdateBody { info: Some(stream_info()) };
    assert!(text(answer(&updated)).starts_with(&format!(
        r#"{{"type":"io.nats.jetstream.api.v1.stream_update_response","config":{CONFIG},"created":"#
    )));
}

#[test]
fn only_a_stream_that_had_messages_has_a_first_sequence() {
    let first = |first_sequence, last_sequence| {
        let state = storage::StreamState { first_sequence, last_sequence, ..storage::StreamState::default() };
        StreamState::of(&state, 0).first_sequence
    };
    assert_eq!((first(1, 0), first(6, 5), first(100, 99)), (0, 6, 100));
}

#[test]
fn lost_messages_are_listed() {
    let lost = storage::LostData { ranges: vec![(2, 3), (7, 7), (10, u64::MAX)], bytes: 99 };
    let state = StreamState::of(&storage::StreamState { lost, ..storage::StreamState::default() }, 2);
    let lost = state.lost.unwrap();
    assert_eq!((&lost.msgs[..4], lost.msgs.len(), lost.bytes), (&[2, 3, 7, 10][..], 100_000, 99));
    assert_eq!(text(to_json(&LostStreamData { msgs: vec![2], bytes: 1 })), r#"{"msgs":[2],"bytes":1}"#);
}

#[test]
fn a_consumer_is_described_as_the_go_server_does() {
    let mut info = ConsumerInfo {
        stream: "A".to_owned(),
        name: "p".to_owned(),
        created: time(974_802_645),
        config: ConsumerConfig {
            name: "p".to_owned(),
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_secs(30),
            max_deliver: -1,
            max_waiting: 512,
            max_ack_pending: 1000,
            inactive_threshold: Duration::from_secs(5),
            priority_groups: vec!["g".to_owned()],
            priority_policy: PriorityPolicy::PinnedClient,
            pinned_ttl: Duration::from_secs(120),
            metadata: [("_nats.req.level".to_owned(), "1".to_owned())].into(),
            ..ConsumerConfig::default()
        },
        delivered: SequenceInfo::default(),
        ack_floor: SequenceInfo::default(),
        num_ack_pending: 0,
        num_redelivered: 0,
        num_waiting: 0,
        num_pending: 5,
        cluster: None,
        push_bound: false,
        paused: false,
        pause_remaining: Duration::ZERO,
        time: time(975_047_801),
        priority_groups: vec![PriorityGroupState {
            group: "g".to_owned(),
            pinned_client_id: String::new(),
            pinned_time: ZERO_TIME,
        }],
    };
    info.add_answerer("2.15.1");
    let body = r#""stream_name":"A","name":"p","created":"2026-11-21T11:30:21.974802645Z","config":{"name":"p","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"inactive_threshold":5000000000,"num_replicas":0,"metadata":{"_nats.level":"5","_nats.req.level":"1","_nats.ver":"2.15.1"},"priority_groups":["g"],"priority_policy":"pinned_client","priority_timeout":120000000000},"delivered":{"consumer_seq":0,"stream_seq":0},"ack_floor":{"consumer_seq":0,"stream_seq":0},"num_ack_pending":0,"num_redelivered":0,"num_waiting":0,"num_pending":5,"ts":"2026-11-21T11:30:21.975047801Z","priority_groups":[{"group":"g","pinned_ts":"0001-01-01T00:00:00Z"}]"#;
    let typed = |last: &str| format!(r#"{{"type":"io.nats.jetstream.api.v1.{last}","#);
    let created = ConsumerCreateBody { info: Some(info.clone()) };
    assert_eq!(text(answer(&created)), format!("{}{body}}}", typed("consumer_create_response")));
    let described = ConsumerInfoBody { info: Some(info.clone()) };
    assert_eq!(text(answer(&described)), format!("{}{body}}}", typed("consumer_info_response")));
    let reset = ConsumerResetBody { info: Some(info.clone()), reset_sequence: 7 };
    assert_eq!(
        text(answer(&reset)),
        format!(r#"{}{body},"reset_seq":7}}"#, typed("consumer_reset_response"))
    );
    info.paused = true;
    info.pause_remaining = Duration::from_nanos(98_191_778_022_954_179);
    info.push_bound = true;
    info.delivered.last = Some(time(0));
    let paused = text(answer(&ConsumerInfoBody { info: Some(info) }));
    assert!(paused.contains(
        r#""num_pending":5,"push_bound":true,"paused":true,"pause_remaining":98191778022954179,"ts":"2026-"#
    ));
    assert!(
        paused.contains(
            r#""delivered":{"consumer_seq":0,"stream_seq":0,"last_active":"2026-11-21T11:30:21Z"},"#
        )
    );
}

#[test]
fn pages_begin_and_end_within_what_there_is() {
    let page = |total, offset, limit| {
        let (page, range) = Page::new(total, offset, limit);
        (page.total, page.offset, page.limit, range)
    };
    assert_eq!(page(0, 0, 256), (0, 0, 256, 0..0));
    assert_eq!(page(1000, 900, 256), (1000, 900, 256, 900..1000));
    assert_eq!(page(1000, 100, 256), (1000, 100, 256, 100..356));
    assert_eq!(page(1, 10, 1024), (1, 1, 1024, 1..1));
    assert_eq!(page(5, u64::MAX, usize::MAX), (5, 5, usize::MAX, 5..5));
}

/// Answers of the Go server, all of them.
#[test]
fn small_answers_are_the_go_server_s() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let page = |total, limit| Page { total, offset: 0, limit };
    let message = StoredMessage {
        subject: "a.1".to_owned(),
        sequence: 6,
        headers: bytes::Bytes::from_static(b"NATS/1.0\r\nNats-Msg-Id: x\r\n\r\n"),
        payload: bytes::Bytes::from_static(b"hello"),
        time: time(970_951_061),
    };
    let until = WallTime::from_unix_nanos(1_893_452_400_000_000_000);
    let tier = Tier {
        memory: 0,
        store: 222,
        reserved_memory: 0,
        reserved_store: 0,
        streams: 1,
        consumers: 3,
        limits: AccountLimits::UNLIMITED,
    };
    let stats = AccountStats {
        total: tier,
        domain: String::new(),
        api: ApiStats::new(244, 210),
        tiers: BTreeMap::new(),
    };
    for (answer, expected) in [
        (
            answer(&StreamNamesBody { page: page(0, 1024), streams: names(&[]) }),
            r#"stream_names_response","total":0,"offset":0,"limit":1024,"streams":null}"#,
        ),
        (
            answer(&StreamNamesBody { page: page(1, 1024), streams: names(&["A"]) }),
            r#"stream_names_response","total":1,"offset":0,"limit":1024,"streams":["A"]}"#,
        ),
        (
            answer(&StreamListBody { page: page(0, 256), ..StreamListBody::default() }),
            r#"stream_list_response","total":0,"offset":0,"limit":256,"streams":[]}"#,
        ),
        (
            answer(&ConsumerNamesBody { page: page(3, 1024), consumers: names(&["H1SdBN8A", "c", "p"]) }),
            r#"consumer_names_response","total":3,"offset":0,"limit":1024,"consumers":["H1SdBN8A","c","p"]}"#,
        ),
        (
            answer(&ConsumerListBody { page: page(0, 256), ..ConsumerListBody::default() }),
            r#"consumer_list_response","total":0,"offset":0,"limit":256,"consumers":[]}"#,
        ),
        (answer(&StreamDeleteBody { success: true }), r#"stream_delete_response","success":true}"#),
        (answer(&MessageDeleteBody { success: true }), r#"stream_msg_delete_response","success":true}"#),
        (answer(&ConsumerDeleteBody { success: true }), r#"consumer_delete_response","success":true}"#),
        (
            answer(&StreamPurgeBody { success: true, purged: 4 }),
            r#"stream_purge_response","success":true,"purged":4}"#,
        ),
        (answer(&ConsumerUnpinBody {}), r#"consumer_unpin_response"}"#),
        (
            answer(&MessageGetBody { message: Some(message) }),
            r#"stream_msg_get_response","message":{"subject":"a.1","seq":6,"hdrs":"TkFUUy8xLjANCk5hdHMtTXNnLUlkOiB4DQoNCg==","data":"aGVsbG8=","time":"2026-11-21T11:30:21.970951061Z"}}"#,
        ),
        (
            answer(&ConsumerPauseBody::new(Some(until), time(976_888_867))),
            r#"consumer_pause_response","paused":true,"pause_until":"2029-12-31T23:00:00Z","pause_remaining":98191778023111133}"#,
        ),
        (
            answer(&ConsumerPauseBody::new(None, time(0))),
            r#"consumer_pause_response","paused":false,"pause_until":"0001-01-01T00:00:00Z"}"#,
        ),
        (
            answer(&AccountInfoBody { stats: Some(stats) }),
            r#"account_info_response","memory":0,"storage":222,"reserved_memory":0,"reserved_storage":0,"streams":1,"consumers":3,"limits":{"max_memory":-1,"max_storage":-1,"max_streams":-1,"max_consumers":-1,"max_ack_pending":-1,"memory_max_stream_bytes":-1,"storage_max_stream_bytes":-1,"max_bytes_required":false},"api":{"level":5,"total":244,"errors":210}}"#,
        ),
    ] {
        assert_eq!(text(answer), format!(r#"{{"type":"io.nats.jetstream.api.v1.{expected}"#));
    }
}

/// What stands behind the error in each answer. All but the last two are answers of the Go server.
#[test]
fn errors_are_in_the_answer_that_was_expected() {
    let error = ErrorKind::StreamNotFound.error();
    fn case<B: Body>(error: &ApiError) -> String {
        text(refusal::<B>(error))
    }
    for (answer, last, behind) in [
        (case::<AccountInfoBody>(&error), "account_info_response", ""),
        (case::<StreamCreateBody>(&error), "stream_create_response", ""),
        (case::<StreamUpdateBody>(&error), "stream_update_response", ""),
        (case::<StreamInfoBody>(&error), "stream_info_response", r#","total":0,"offset":0,"limit":0"#),
        (
            case::<StreamNamesBody>(&error),
            "stream_names_response",
            r#","total":0,"offset":0,"limit":0,"streams":null"#,
        ),
        (
            case::<StreamListBody>(&error),
            "stream_list_response",
            r#","total":0,"offset":0,"limit":0,"streams":[]"#,
        ),
        (case::<StreamDeleteBody>(&error), "stream_delete_response", ""),
        (case::<StreamPurgeBody>(&error), "stream_purge_response", r#","purged":0"#),
        (case::<StreamSnapshotBody>(&error), "stream_snapshot_response", ""),
        (case::<StreamRestoreBody>(&error), "stream_restore_response", r#","deliver_subject":"""#),
        (case::<StreamRemovePeerBody>(&error), "stream_remove_peer_response", ""),
        (case::<StreamEvacuatePeerBody>(&error), "stream_evacuate_peer_response", ""),
        (case::<StreamCancelMoveBody>(&error), "stream_cancel_move_response", ""),
        (case::<StreamLeaderStepDownBody>(&error), "stream_leader_stepdown_response", ""),
        (case::<ConsumerLeaderStepDownBody>(&error), "consumer_leader_stepdown_response", ""),
        (case::<MessageGetBody>(&error), "stream_msg_get_response", ""),
        (case::<MessageDeleteBody>(&error), "stream_msg_delete_response", ""),
        (case::<ConsumerCreateBody>(&error), "consumer_create_response", ""),
        (case::<ConsumerInfoBody>(&error), "consumer_info_response", ""),
        (
            case::<ConsumerNamesBody>(&error),
            "consumer_names_response",
            r#","total":0,"offset":0,"limit":0,"consumers":[]"#,
        ),
        (
            case::<ConsumerListBody>(&error),
            "consumer_list_response",
            r#","total":0,"offset":0,"limit":0,"consumers":[]"#,
        ),
        (case::<ConsumerDeleteBody>(&error), "consumer_delete_response", ""),
        (
            case::<ConsumerPauseBody>(&error),
            "consumer_pause_response",
            r#","paused":false,"pause_until":"0001-01-01T00:00:00Z""#,
        ),
        (case::<ConsumerUnpinBody>(&error), "consumer_unpin_response", ""),
        (case::<ConsumerResetBody>(&error), "consumer_reset_response", r#","reset_seq":0"#),
        (case::<AccountPurgeBody>(&error), "account_purge_response", ""),
        (case::<SystemBody>(&error), "system_response", ""),
    ] {
        let error = r#""error":{"code":404,"err_code":10059,"description":"stream not found"}"#;
        assert_eq!(answer, format!(r#"{{"type":"io.nats.jetstream.api.v1.{last}",{error}{behind}}}"#));
    }
}
