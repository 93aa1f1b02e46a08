//! What a server tells of what was done to its streams and consumers, to whoever listens.

use std::fmt::Write as _;

use super::streaming::Streams;
use super::*;

/// Requests that something is told of.
const REQUESTS: &[(&str, &str)] = &[
    ("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#),
    ("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#),
    ("$JS.API.STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"description":"<d>"}"#),
    ("$JS.API.STREAM.UPDATE.S", r#"{"name":"S","subjects":["s.>"],"storage":"memory"}"#),
    ("$JS.API.STREAM.INFO.nope", ""),
    (
        "$JS.API.CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","ack_wait":50000000,"max_deliver":1}}"#,
    ),
    (
        "$JS.API.CONSUMER.CREATE.S.C",
        r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit","ack_wait":50000000,"max_deliver":2}}"#,
    ),
    ("s.a", "one"),
    ("$JS.API.CONSUMER.MSG.NEXT.S.C", ""),
    ("$JS.API.CONSUMER.MSG.NEXT.S.C", ""),
    ("$JS.API.CONSUMER.PAUSE.S.C", r#"{"pause_until":"2030-01-01T00:00:00Z"}"#),
    ("$JS.API.CONSUMER.PAUSE.S.C", ""),
    ("$JS.API.CONSUMER.DELETE.S.C", ""),
    ("$JS.API.CONSUMER.CREATE.S.D", r#"{"stream_name":"S","config":{"durable_name":"D"}}"#),
    ("$JS.API.STREAM.DELETE.S", ""),
    ("$JS.API.STREAM.DELETE.S", ""),
];

/// Sends the requests and returns what came on `subject` for each, from the type on.
fn told(shards: u16, subject: &str) -> String {
    let mut streams = Streams::new(shards, InstantDisk::default());
    streams.server.send(streams.client, format!("SUB {subject} 9\r\n").as_bytes());
    let mut out = String::new();
    for (request, body) in REQUESTS {
        let _ = writeln!(out, "{request} {body}");
        let came = streams.ask(request, body);
        let mut lines = came.lines();
        while let Some(line) = lines.next() {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["MSG", subject, "9", _] = words[..] {
                let _ = writeln!(out, "  {subject}: {}", lines.next().unwrap_or_default());
            }
        }
    }
    out
}

#[test]
fn streams_and_consumers_come_and_go() {
    let all = told(1, "$JS.EVENT.ADVISORY.*.*.>");
    insta::assert_snapshot!(all);
    assert!(!all.contains("api_audit"));
    // An advisory is published where the stream is, and heard on every shard.
    let without_ids = |told: &str| {
        let strip = |line: &str| match line.split_once("\"id\":\"") {
            Some((before, rest)) => format!("{before}{}\n", &rest[rest.find("\"stream\"").unwrap()..]),
            None => format!("{line}\n"),
        };
        told.lines().map(strip).collect::<String>()
    };
    assert_eq!(without_ids(&told(2, "$JS.EVENT.ADVISORY.*.*.>")), without_ids(&all));
    // Who listens to some of them hears those.
    let removed = told(1, "$JS.EVENT.ADVISORY.*.DELETED.>");
    let count = removed.lines().filter(|line| line.starts_with("  ")).count();
    assert_eq!((count, removed.matches("\"action\":\"delete\"").count()), (3, 3), "{removed}");
}

#[test]
fn requests_are_told_with_who_asked() {
    let here = told(1, "$JS.EVENT.ADVISORY.API");
    // Of a client of another shard the same is known.
    let elsewhere = told(3, "$JS.EVENT.ADVISORY.API");
    let clients = |told: &str| {
        let described =
            told.split("\"client\":{").skip(1).map(|rest| rest.split('}').next().unwrap().to_owned());
        described.collect::<Vec<_>>()
    };
    assert_eq!((clients(&here).len(), clients(&here)), (13, clients(&elsewhere)), "{elsewhere}");
    insta::assert_snapshot!(here);
}

#[test]
fn a_request_under_the_name_of_the_domain_is_told_with_who_asked() {
    let jetstream = Some(crate::config::JetStreamOptions::default());
    let domain = Some("hub".to_owned());
    for shards in [1, 2, 3] {
        let options =
            Options { jetstream: jetstream.clone(), jetstream_domain: domain.clone(), ..Options::default() };
        let mut streams = Streams::with(shards, options, InstantDisk::default());
        for name in ["a", "b", "c"] {
            streams.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &format!(r#"{{"name":"{name}"}}"#));
        }
        streams.server.send(streams.client, b"SUB $JS.EVENT.ADVISORY.API 9\r\n");
        // Of the home shard, of the client's, and of none.
        for name in ["a", "b", "c", "none"] {
            let told = streams.ask(&format!("$JS.hub.API.STREAM.INFO.{name}"), "");
            assert_eq!(told.matches("MSG $JS.EVENT.ADVISORY.API 9").count(), 1, "{told}");
            assert!(told.contains(r#""acc":"$G""#), "{name} of {shards} shards: {told}");
            assert_eq!(told.matches(r#""client":{"start""#).count(), 1, "{told}");
        }
    }
}
