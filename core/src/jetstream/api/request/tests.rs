use proptest::prelude::*;

use super::*;
use crate::jetstream::api::subject::ApiSubject;
use crate::jetstream::api::testing::{check_recorded, show};

/// Reads a request by its subject, and drops what it says.
fn read(subject: &str, body: &[u8]) -> Result<(), ApiError> {
    let subject = format!("$JS.API.{subject}");
    match ApiSubject::parse(subject.as_bytes()).unwrap() {
        ApiSubject::StreamNames => StreamsRequest::parse_names(body, true).map(drop),
        ApiSubject::StreamList => StreamsRequest::parse_list(body, true).map(drop),
        ApiSubject::StreamInfo { .. } => StreamInfoRequest::parse(body, true).map(drop),
        ApiSubject::StreamDelete { .. } | ApiSubject::ConsumerDelete { .. } => expect_empty(body),
        ApiSubject::StreamPurge { .. } => PurgeRequest::parse(body, true).map(drop),
        ApiSubject::MessageGet { .. } => MessageGetRequest::parse(body, true).map(drop),
        ApiSubject::MessageDelete { .. } => MessageDeleteRequest::parse(body, true).map(drop),
        ApiSubject::ConsumerNames { .. } | ApiSubject::ConsumerList { .. } => {
            ConsumersRequest::parse(body, true).map(drop)
        }
        ApiSubject::ConsumerPause { .. } => PauseRequest::parse(body, true).map(drop),
        ApiSubject::ConsumerUnpin { .. } => UnpinRequest::parse(body).map(drop),
        ApiSubject::ConsumerReset { .. } => ResetRequest::parse(body).map(drop),
        other => panic!("{other:?} has no request of its own"),
    }
}

#[test]
fn requests_are_read_and_refused_as_the_go_server_does() {
    check_recorded(include_str!("../testdata/requests.txt"), |subject, body| {
        match read(subject, body.replace("\\f", "\x0c").as_bytes()) {
            Ok(()) => "ok".to_owned(),
            Err(error) => show("error", Err::<(), _>(error)),
        }
    });
}

#[test]
fn pull_requests_are_refused_as_the_go_server_does() {
    check_recorded(include_str!("../testdata/next.txt"), |_, body| {
        match NextRequest::parse(body.as_bytes()) {
            Ok(_) => "ok".to_owned(),
            Err(error) => format!("error {error}"),
        }
    });
}

#[test]
fn requests_say_what_they_say() {
    let list = StreamsRequest::parse_list(br#"{"offset":7,"subject":"a"}"#, true).unwrap();
    assert_eq!((list.offset, &*list.subject), (7, "a"));
    assert_eq!(StreamsRequest::parse_names(br#"{"offset":-7}"#, true).unwrap(), StreamsRequest::default());
    let info =
        StreamInfoRequest::parse(br#"{"offset":1,"deleted_details":true,"subjects_filter":">"}"#, true);
    let expected = StreamInfoRequest { offset: 1, deleted_details: true, subjects_filter: ">".to_owned() };
    assert_eq!(info.unwrap(), expected);
    let purge = PurgeRequest::parse(br#"{"seq":3,"filter":"a"}"#, true).unwrap();
    assert_eq!(purge, PurgeRequest { sequence: 3, subject: "a".to_owned(), keep: 0 });
    let delete = MessageDeleteRequest::parse(br#"{"seq":3,"no_erase":true,"x":1}"#, false).unwrap();
    assert_eq!(delete, MessageDeleteRequest { sequence: 3, no_erase: true });
    let pause = |body: &[u8]| PauseRequest::parse(body, true).unwrap().pause_until;
    assert_eq!(
        pause(br#"{"pause_until":"1970-01-01T00:00:01+00:00"}"#),
        Some(WallTime::from_unix_nanos(1_000_000_000))
    );
    assert_eq!(pause(br#"{"pause_until":"0001-01-01T00:00:00Z"}"#), None);
    assert_eq!(pause(b""), None);
    assert_eq!(UnpinRequest::parse(br#"{"group":"g"}"#).unwrap().group, "g");
    assert_eq!(ResetRequest::parse(br#"{"seq":9}"#).unwrap().sequence, 9);
    assert_eq!(ConsumersRequest::parse(br#"{"offset":9}"#, true).unwrap().offset, 9);
}

#[test]
fn pull_requests_have_three_forms() {
    let span = Duration::from_nanos;
    let plain = |batch| NextRequest { batch, ..NextRequest::default() };
    for (body, request) in [
        ("", plain(1)),
        ("  ", plain(1)),
        (" 5 ", plain(5)),
        ("-5", plain(-5)),
        ("x", plain(1)),
        ("[5]", plain(1)),
        ("{}", NextRequest { priority: Some(PriorityRequest::default()), ..plain(0) }),
        (
            r#"{"batch":3,"max_bytes":4,"no_wait":true,"expires":10,"idle_heartbeat":5}"#,
            NextRequest {
                batch: 3,
                max_bytes: 4,
                no_wait: true,
                expires: Some(span(10)),
                heartbeat: span(5),
                priority: Some(PriorityRequest::default()),
            },
        ),
        (
            r#"{"batch":1,"expires":-1,"idle_heartbeat":-1,"group":"g","min_pending":1,"min_ack_pending":2,"id":"i","priority":3,"what":4}"#,
            NextRequest {
                expires: Some(span(0)),
                priority: Some(PriorityRequest {
                    group: "g".to_owned(),
                    min_pending: 1,
                    min_ack_pending: 2,
                    id: "i".to_owned(),
                    priority: 3,
                }),
                ..plain(1)
            },
        ),
    ] {
        assert_eq!(NextRequest::parse(body.as_bytes()), Ok(request), "{body}");
    }
}

/// Source: nats-server `server/stream.go`, `processDirectGetRequest`.
#[test]
fn direct_gets_are_refused_in_few_words() {
    for (body, outcome) in [
        ("", "Empty Request"),
        ("x", "Malformed Request"),
        ("{}", "Empty Request"),
        (r#"{"batch":5}"#, "Empty Request"),
        (r#"{"seq":1,"what":1}"#, ""),
        (r#"{"seq":1,"last_by_subj":"a"}"#, "Bad Request"),
        (r#"{"seq":1,"start_time":"2020-01-01T00:00:00Z"}"#, "Bad Request"),
        (r#"{"last_by_subj":"a","start_time":"2020-01-01T00:00:00Z"}"#, "Bad Request"),
        (r#"{"last_by_subj":"a","next_by_subj":"a"}"#, "Bad Request"),
        (r#"{"last_by_subj":"a","batch":1}"#, "Bad Request"),
        (r#"{"last_by_subj":"a","multi_last":["a"]}"#, "Bad Request"),
        (r#"{"next_by_subj":"a","multi_last":["a"]}"#, "Bad Request"),
        (r#"{"seq":1,"up_to_seq":5,"up_to_time":"2020-01-01T00:00:00Z"}"#, "Bad Request"),
        (r#"{"multi_last":["a"],"up_to_seq":5,"batch":7}"#, ""),
        (r#"{"seq":1,"next_by_subj":"a","batch":7,"max_bytes":9,"no_hdr":true}"#, ""),
        (r#"{"start_time":"2020-01-01T00:00:00Z"}"#, ""),
    ] {
        assert_eq!(MessageGetRequest::parse_direct(body.as_bytes()).err().unwrap_or(""), outcome, "{body}");
    }
    let last = |body: &str| MessageGetRequest::parse_direct_last("a.b", body.as_bytes());
    assert_eq!(last("").unwrap().last_by_subject, "a.b");
    assert!(last(r#"{"no_hdr":true,"max_bytes":5}"#).unwrap().no_headers);
    assert_eq!(last("x"), Err("Malformed Request"));
    for bad in [
        r#"{"seq":1}"#,
        r#"{"last_by_subj":"a"}"#,
        r#"{"batch":1}"#,
        r#"{"up_to_seq":1}"#,
        r#"{"multi_last":["a"]}"#,
    ] {
        assert_eq!(last(bad), Err("Bad Request"), "{bad}");
    }
    assert_eq!(MessageGetRequest::parse_direct_last("", b""), Err("Bad Request"));
}

#[test]
fn a_lenient_server_reads_what_it_knows() {
    let error = |body: &str, strict| {
        let result: Result<PurgeRequest, _> = unmarshal_request(body.as_bytes(), strict);
        result.err().map(|error| error.description.into_owned())
    };
    for (body, strict, lenient) in [
        (r#"{"x":1,"keep":2}"#, Some(r#"invalid JSON: json: unknown field "x""#), None),
        (r#"{"a\"b":1}"#, Some(r#"invalid JSON: json: unknown field "a\"b""#), None),
        (r#"{"keep":1}{"keep":2}"#, None, None),
        (
            r#"{"x":1}{"keep":2}"#,
            Some(r#"invalid JSON: json: unknown field "x""#),
            Some("invalid JSON: invalid character '{' after top-level value"),
        ),
        ("{", Some("invalid JSON: unexpected EOF"), Some("invalid JSON: unexpected end of JSON input")),
        (
            r#"{"keep":1}x"#,
            Some("invalid JSON: invalid character 'x' looking for beginning of value at offset 11"),
            Some("invalid JSON: invalid character 'x' after top-level value"),
        ),
        (
            r#"{"keep":1é}"#,
            Some("invalid JSON: invalid character 'é' after object key:value pair at offset 11"),
            Some("invalid JSON: invalid character 'é' after object key:value pair"),
        ),
        (
            r#"{"filter":"\x"}"#,
            Some(r"invalid JSON: invalid escape sequence `\x` in string at offset 13"),
            Some(r"invalid JSON: invalid escape sequence `\x` in string"),
        ),
    ] {
        assert_eq!(error(body, true).as_deref(), strict, "{body}");
        assert_eq!(error(body, false).as_deref(), lenient, "{body}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), text in r#"[\[\]{}":,a-z0-9-]{0,40}"#) {
        for body in [&bytes[..], text.as_bytes()] {
            for subject in [
                "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.S", "STREAM.DELETE.S", "STREAM.PURGE.S", "STREAM.MSG.GET.S",
                "STREAM.MSG.DELETE.S", "CONSUMER.NAMES.S", "CONSUMER.PAUSE.S.c", "CONSUMER.UNPIN.S.c", "CONSUMER.RESET.S.c",
            ] {
                let _ = read(subject, body);
            }
            let _ = NextRequest::parse(body);
            let _ = MessageGetRequest::parse_direct(body);
            let _ = MessageGetRequest::parse_direct_last("a", body);
        }
    }
}
