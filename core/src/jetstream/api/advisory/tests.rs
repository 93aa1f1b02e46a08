use super::*;

const NOW: WallTime = WallTime::from_unix_nanos(1_795_261_598_539_802_279);

fn text<E: Event>(event: &E) -> String {
    String::from_utf8(payload(event, *b"fneJpb13uPWZHzSrdOURoQ", NOW).to_vec()).unwrap()
}

/// Advisories of a Go server 2.15.1, with one id and time for all; the three last ones by its source.
#[test]
fn advisories_are_the_go_server_s() {
    let client = ClientInfo {
        start: Some(WallTime::from_unix_nanos(1_795_261_598_538_677_962)),
        host: "127.0.0.1".to_owned(),
        id: 1538,
        account: "$G".to_owned(),
        name: "tester".to_owned(),
        language: "python".to_owned(),
        version: "1.0".to_owned(),
        rtt: Duration::from_nanos(125_137),
        server: "S".to_owned(),
        kind: "Client".to_owned(),
        client_type: "nats".to_owned(),
        jwt: "secret".to_owned(),
        alternates: vec!["x".to_owned()],
        ..ClientInfo::default()
    };
    let (stream, consumer, domain) = ("EV", "c", "");
    let audit = ApiAudit {
        server: "S",
        client: Some(client.for_advisory()),
        subject: "$JS.API.STREAM.UPDATE.EV",
        request: r#"{"name":"EV","description":"<x>"}"#,
        response: r#"{"a":"\u003c"}"#,
        domain,
    };
    let pause = |until: Option<i64>| ConsumerPause {
        stream,
        consumer,
        paused: until.is_some(),
        pause_until: until.map(WallTime::from_unix_nanos),
        domain,
    };
    let shown = [
        text(&audit),
        text(&ApiAudit { client: None, request: "", domain: "hub", ..audit }),
        text(&StreamAction { stream, action: Action::Create, domain }),
        text(&StreamAction { stream, action: Action::Modify, domain: "hub" }),
        text(&ConsumerAction { stream, consumer, action: Action::Delete, domain }),
        text(&pause(Some(1_893_456_000_000_000_000))),
        text(&pause(None)),
        text(&ConsumerGroupPinned { account: "$G", stream, consumer, domain, group: "g", pinned_id: "fneJ" }),
        text(&ConsumerGroupUnpinned { account: "$G", stream, consumer, domain, group: "g", reason: "admin" }),
        text(&DeliveriesExceeded { stream, consumer, stream_sequence: 2, deliveries: 1, domain }),
        text(&MessageNaked {
            stream,
            consumer,
            consumer_sequence: 2,
            stream_sequence: 3,
            deliveries: 1,
            domain,
        }),
        text(&MessageTerminated {
            stream,
            consumer,
            consumer_sequence: 3,
            stream_sequence: 4,
            deliveries: 1,
            reason: "bad",
            domain,
        }),
        text(&AckSample {
            stream,
            consumer,
            consumer_sequence: 1,
            stream_sequence: 2,
            delay: Duration::from_nanos(239_512),
            deliveries: 1,
            domain,
        }),
        text(&ApiLimitReached { server: "S", domain, dropped: 7 }),
        text(&ServerOutOfSpace { server: "S", server_id: "NID", stream, cluster: "", domain: "hub" }),
        text(&ServerOutOfSpace { server: "S", server_id: "NID", stream: "", cluster: "", domain }),
    ];
    let common = r#","id":"fneJpb13uPWZHzSrdOURoQ","timestamp":"2026-11-21T11:46:38.539802279Z","#;
    let expected = [
        r#"advisory.v1.api_audit"@"server":"S","client":{"start":"2026-11-21T11:46:38.538677962Z","host":"127.0.0.1","id":1538,"acc":"$G","name":"tester","lang":"python","ver":"1.0","rtt":125137,"server":"S","kind":"Client","client_type":"nats"},"subject":"$JS.API.STREAM.UPDATE.EV","request":"{\"name\":\"EV\",\"description\":\"\u003cx\u003e\"}","response":"{\"a\":\"\\u003c\"}"}"#,
        r#"advisory.v1.api_audit"@"server":"S","client":null,"subject":"$JS.API.STREAM.UPDATE.EV","response":"{\"a\":\"\\u003c\"}","domain":"hub"}"#,
        r#"advisory.v1.stream_action"@"stream":"EV","action":"create"}"#,
        r#"advisory.v1.stream_action"@"stream":"EV","action":"modify","domain":"hub"}"#,
        r#"advisory.v1.consumer_action"@"stream":"EV","consumer":"c","action":"delete"}"#,
        r#"advisory.v1.consumer_pause"@"stream":"EV","consumer":"c","paused":true,"pause_until":"2030-01-01T00:00:00Z"}"#,
        r#"advisory.v1.consumer_pause"@"stream":"EV","consumer":"c","paused":false,"pause_until":"0001-01-01T00:00:00Z"}"#,
        r#"advisory.v1.consumer_group_pinned"@"account":"$G","stream":"EV","consumer":"c","group":"g","pinned_id":"fneJ"}"#,
        r#"advisory.v1.consumer_group_unpinned"@"account":"$G","stream":"EV","consumer":"c","group":"g","reason":"admin"}"#,
        r#"advisory.v1.max_deliver"@"stream":"EV","consumer":"c","stream_seq":2,"deliveries":1}"#,
        r#"advisory.v1.nak"@"stream":"EV","consumer":"c","consumer_seq":2,"stream_seq":3,"deliveries":1}"#,
        r#"advisory.v1.terminated"@"stream":"EV","consumer":"c","consumer_seq":3,"stream_seq":4,"deliveries":1,"reason":"bad"}"#,
        r#"metric.v1.consumer_ack"@"stream":"EV","consumer":"c","consumer_seq":1,"stream_seq":2,"ack_time":239512,"deliveries":1}"#,
        r#"advisory.v1.api_limit_reached"@"server":"S","dropped":7}"#,
        r#"advisory.v1.server_out_of_space"@"server":"S","server_id":"NID","stream":"EV","cluster":"","domain":"hub"}"#,
        r#"advisory.v1.server_out_of_space"@"server":"S","server_id":"NID","cluster":""}"#,
    ];
    assert_eq!(shown.len(), expected.len());
    for (shown, expected) in shown.iter().zip(expected) {
        assert_eq!(*shown, format!(r#"{{"type":"io.nats.jetstream.{}"#, expected.replacen('@', common, 1)));
    }
}

#[test]
fn subjects_name_what_they_are_about() {
    for (topic, names, subject) in [
        (Topic::Api, &[][..], "$JS.EVENT.ADVISORY.API"),
        (Topic::ApiLimitReached, &[], "$JS.EVENT.ADVISORY.API.LIMIT_REACHED"),
        (Topic::ServerOutOfStorage, &[], "$JS.EVENT.ADVISORY.SERVER.OUT_OF_STORAGE"),
        (Topic::StreamCreated, &["S"], "$JS.EVENT.ADVISORY.STREAM.CREATED.S"),
        (Topic::StreamDeleted, &["S"], "$JS.EVENT.ADVISORY.STREAM.DELETED.S"),
        (Topic::StreamUpdated, &["S"], "$JS.EVENT.ADVISORY.STREAM.UPDATED.S"),
        (Topic::SnapshotCreated, &["S"], "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_CREATE.S"),
        (Topic::SnapshotCompleted, &["S"], "$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.S"),
        (Topic::RestoreCreated, &["S"], "$JS.EVENT.ADVISORY.STREAM.RESTORE_CREATE.S"),
        (Topic::RestoreCompleted, &["S"], "$JS.EVENT.ADVISORY.STREAM.RESTORE_COMPLETE.S"),
        (Topic::ConsumerCreated, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.CREATED.S.c"),
        (Topic::ConsumerDeleted, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.DELETED.S.c"),
        (Topic::ConsumerPause, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.c"),
        (Topic::ConsumerPinned, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.PINNED.S.c"),
        (Topic::ConsumerUnpinned, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.UNPINNED.S.c"),
        (Topic::ConsumerMaxDeliveries, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.S.c"),
        (Topic::ConsumerMessageNaked, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.MSG_NAKED.S.c"),
        (Topic::ConsumerMessageTerminated, &["S", "c"], "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.S.c"),
        (Topic::ConsumerAck, &["S", "c"], "$JS.EVENT.METRIC.CONSUMER.ACK.S.c"),
    ] {
        assert_eq!(topic.subject(names), subject);
    }
}
