//! Streams on several shards: where they are, who decides about them, and that clients don't notice.

use std::collections::BTreeMap;

use super::streaming::Streams;
use super::*;
use crate::config::JetStreamOptions;
use crate::jetstream::report::Detail;

fn create(streams: &mut Streams, name: &str, more: &str) -> String {
    let body = format!(r#"{{"name":"{name}","subjects":["{name}.>"]{more}}}"#);
    streams.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &body)
}

/// Returns the names of streams in an answer, in its order.
fn names(answer: &str) -> Vec<&str> {
    answer.split("\"name\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect()
}

impl Streams {
    /// Returns how many streams each engine has.
    fn placed(&mut self) -> BTreeMap<u16, u64> {
        let mut placed = BTreeMap::new();
        for shard in &mut self.server.shards {
            for engine in &mut shard.jetstream {
                let report = engine.report(self.server.now, &mut shard.exchange, &Detail::default());
                placed.insert(engine.id().0, report.streams);
            }
        }
        placed
    }

    /// Starts again with another number of shards.
    fn restart_on(self, shards: u16) -> Self {
        let mut disk = self.server.disk;
        disk.restart();
        Streams::new(shards, disk)
    }
}

#[test]
fn a_stream_is_where_its_files_are_whatever_the_number_of_shards() {
    let mut streams = Streams::new(3, InstantDisk::default());
    for name in ["a", "b", "c", "d"] {
        let created = create(&mut streams, name, "");
        assert!(created.contains(r#""did_create":true"#), "{created}");
        assert!(streams.ask(&format!("{name}.x"), "one").contains(r#""seq":1"#));
    }
    let consumer = r#"{"stream_name":"b","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    assert!(streams.ask("$JS.API.CONSUMER.CREATE.b.C", consumer).contains(r#""num_pending":1"#));
    let placed = streams.placed();
    for (life, shards) in [1, 2, 3, 2].into_iter().enumerate() {
        streams = streams.restart_on(shards);
        let listed = streams.ask("$JS.API.STREAM.NAMES", "");
        assert!(listed.contains(r#""streams":["a","b","c","d"]"#), "{shards} shards: {listed}");
        let listed = streams.ask("$JS.API.STREAM.LIST", "");
        assert_eq!(names(&listed), ["a", "b", "c", "d"], "{shards} shards: {listed}");
        for name in ["a", "b", "c", "d"] {
            let ack = streams.ask(&format!("{name}.x"), "more");
            assert!(ack.contains(&format!(r#""stream":"{name}","seq":{}"#, life + 2)), "{ack}");
            let again = create(&mut streams, name, "");
            assert!(again.contains(r#""messages":"#) && !again.contains("error"), "{again}");
            let other = create(&mut streams, name, r#","max_msgs":7"#);
            assert!(other.contains(r#""err_code":10058"#), "{other}");
        }
        let info = streams.ask("$JS.API.CONSUMER.INFO.b.C", "");
        assert!(info.contains(&format!(r#""num_pending":{}"#, life + 2)), "{info}");
        let account = streams.ask("$JS.API.INFO", "");
        assert!(account.contains(r#""streams":4,"consumers":1"#), "{account}");
        assert_eq!(streams.placed(), placed, "nothing has moved");
    }
    assert_eq!(placed.into_values().collect::<Vec<_>>(), [2, 1, 1]);
}

#[test]
fn the_home_shard_decides_for_streams_on_all_shards() {
    for shards in [1, 2, 3] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        for name in ["a", "b", "c"] {
            create(&mut streams, name, "");
        }
        let overlap = streams.ask("$JS.API.STREAM.CREATE.o", r#"{"name":"o","subjects":["b.x"]}"#);
        assert!(overlap.contains(r#""err_code":10065"#), "{overlap}");
        let overlap = streams.ask("$JS.API.STREAM.UPDATE.a", r#"{"name":"a","subjects":["b.x"]}"#);
        assert!(overlap.contains(r#""err_code":10065"#), "{overlap}");
        let updated = streams.ask("$JS.API.STREAM.UPDATE.b", r#"{"name":"b","subjects":["e.x"]}"#);
        assert!(updated.contains(r#""subjects":["e.x"]"#), "{updated}");
        assert!(streams.ask("e.x", "").contains(r#""stream":"b""#));
        let created = streams.ask("$JS.API.STREAM.CREATE.f", r#"{"name":"f","subjects":["b.>"]}"#);
        assert!(created.contains(r#""did_create":true"#), "{created}");
        let with = streams.ask("$JS.API.STREAM.NAMES", r#"{"subject":"e.x"}"#);
        assert!(with.contains(r#""streams":["b"]"#), "{with}");
        assert!(streams.ask("$JS.API.STREAM.DELETE.b", "").contains(r#""success":true"#));
        for request in ["STREAM.INFO.b", "STREAM.DELETE.b", "CONSUMER.NAMES.b", "CONSUMER.INFO.b.c"] {
            let gone = streams.ask(&format!("$JS.API.{request}"), "");
            assert!(gone.contains(r#""err_code":10059"#), "{request}: {gone}");
        }
        let created = create(&mut streams, "b2", "");
        assert!(created.contains(r#""did_create":true"#), "{created}");
        let streams = streams.restart();
        let mut streams = streams;
        let listed = streams.ask("$JS.API.STREAM.NAMES", "");
        assert!(listed.contains(r#""streams":["a","b2","c","f"]"#), "{shards} shards: {listed}");
    }
}

#[test]
fn what_was_created_is_there_for_clients_of_every_shard() {
    let mut streams = Streams::new(3, InstantDisk::default());
    for name in ["a", "b", "c"] {
        create(&mut streams, name, "");
        for shard in 0..3 {
            let client = streams.server.connect(shard);
            let hello =
                b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB _J.> 1\r\n";
            streams.server.send(client, hello);
            streams.server.took(client);
            for (subject, answer) in [
                (format!("{name}.x"), format!(r#""stream":"{name}","seq":{}"#, shard + 1)),
                (format!("$JS.API.STREAM.INFO.{name}"), format!(r#""messages":{}"#, shard + 1)),
                (format!("$JS.API.CONSUMER.LIST.{name}"), r#""total":0"#.to_owned()),
            ] {
                streams.server.send(client, format!("PUB {subject} _J.r 0\r\n\r\n").as_bytes());
                streams.server.advance(Duration::from_millis(200));
                let came = streams.server.took(client);
                assert!(came.contains(&answer), "{subject} from shard {shard}: {came}");
                assert_eq!(came.matches("MSG _J.r").count(), 1, "{subject} from shard {shard}: {came}");
            }
        }
    }
}

#[test]
fn limits_count_what_all_shards_have() {
    for shards in [1, 2, 3] {
        let jetstream = JetStreamOptions { max_memory: Some(4000), ..JetStreamOptions::default() };
        let options = Options { jetstream: Some(jetstream), ..Options::default() };
        let mut streams = Streams::with(shards, options, InstantDisk::default());
        let reserved = create(&mut streams, "r", r#","storage":"memory","max_bytes":3000"#);
        assert!(reserved.contains(r#""did_create":true"#), "{reserved}");
        let refused = create(&mut streams, "s", r#","storage":"memory","max_bytes":1001"#);
        assert!(refused.contains(r#""err_code":10028"#), "{refused}");
        streams.ask("$JS.API.STREAM.DELETE.r", "");
        for name in ["a", "b", "c"] {
            create(&mut streams, name, r#","storage":"memory""#);
        }
        let text = "x".repeat(400);
        let mut stored = 0;
        let mut refused = Vec::new();
        for round in 0..6 {
            for name in ["a", "b", "c"] {
                let ack = streams.ask(&format!("{name}.x"), &text);
                match ack.contains(r#""seq":"#) && !ack.contains("error") {
                    true => stored += 1,
                    false => refused.push((round, name, ack)),
                }
            }
        }
        // As many as fit, wherever they are; the limit is found out by the first that is beyond.
        assert!((8..=10).contains(&stored), "{shards} shards: {stored} stored, {refused:?}");
        let account = streams.ask("$JS.API.INFO", "");
        assert!(account.contains(r#""streams":3"#), "{account}");
    }
}
