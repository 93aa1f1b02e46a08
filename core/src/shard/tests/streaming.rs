//! Streams and consumers through a whole server: what clients send, what they get, and what a restart leaves.

use std::fmt::Write as _;

use serde_json::Value;

use super::*;
use crate::config::JetStreamOptions;
use crate::jetstream::api::response::{LIST_LIMIT, NAMES_LIMIT};

fn options() -> Options {
    Options { jetstream: Some(JetStreamOptions::default()), ..Options::default() }
}

/// A server with streams, and one client that listens to `_I.>`.
pub(super) struct Streams {
    pub(super) server: Server,
    pub(super) client: usize,
}

impl Streams {
    pub(super) fn new(shards: u16, disk: InstantDisk) -> Self {
        Self::with(shards, options(), disk)
    }

    pub(super) fn with(shards: u16, options: Options, disk: InstantDisk) -> Self {
        Self::on(Server::with_disk(shards, options, disk))
    }

    /// A server on a disk that refuses something from the start.
    pub(super) fn faulty(options: Options, disk: InstantDisk, fault: faults::Fault) -> Self {
        Self::on(Server::with_faulty_disk(1, options, disk, Some(fault)))
    }

    /// A server on a disk that has power for so many requests.
    pub(super) fn powered(shards: u16, options: Options, disk: InstantDisk, requests: usize) -> Self {
        let power = power::Power::lasting(&disk, requests);
        Self::on(Server::begin(shards, options, disk, None, Some(power)))
    }

    fn on(mut server: Server) -> Self {
        let shards = server.shards.len();
        server.now.wall = WallTime::from_unix_nanos(1_800_000_000_000_000_000);
        server.advance(Duration::from_millis(1));
        let client = server.connect(shards - 1);
        let connect =
            b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\nSUB _I.> 1\r\n";
        server.send(client, connect);
        server.took(client);
        Streams { server, client }
    }

    /// Sends a request and returns what came, times and the like left as they are.
    pub(super) fn ask(&mut self, subject: &str, body: &str) -> String {
        let line = format!("PUB {subject} _I.r {}\r\n{body}\r\n", body.len());
        self.server.send(self.client, line.as_bytes());
        self.server.advance(Duration::from_millis(200));
        self.server.took(self.client)
    }

    /// Sends so many requests that make something, some at a time.
    fn make_many(&mut self, count: usize, request: impl Fn(usize) -> (String, String)) {
        for first in (0..count).step_by(100) {
            let mut requests = String::new();
            for (subject, body) in (first..count.min(first + 100)).map(&request) {
                let _ = write!(requests, "PUB {subject} _I.m {}\r\n{body}\r\n", body.len());
            }
            self.server.send(self.client, requests.as_bytes());
            self.server.advance(Duration::from_millis(200));
            let made = self.server.took(self.client);
            assert!(!made.contains("error"), "{made}");
        }
    }

    /// Fails unless the stream S has no consumers, here and after a restart, and none has files.
    pub(super) fn assert_no_consumer_is_left(self) {
        let is_consumers = |path: &&crate::disk::FilePath| path.to_string().contains("natrix/consumers/");
        let files = self.server.disk.paths().filter(is_consumers).count();
        assert_eq!((files, &self.server.logs[..]), (0, &[][..]));
        let info = self.restart().ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(number(&info, "consumer_count"), 0);
    }

    /// Ends the process and starts another one on the same folder.
    pub(super) fn restart(self) -> Self {
        let shards = self.server.shards.len() as u16;
        let mut disk = self.server.disk;
        disk.restart();
        Streams::new(shards, disk)
    }
}

#[test]
fn what_was_stored_is_there_after_a_restart() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        let created = streams.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#);
        assert!(created.contains(r#""did_create":true"#), "{created}");
        for (at, text) in ["one", "two", "three"].into_iter().enumerate() {
            let ack = streams.ask("s.a", text);
            assert!(ack.contains(&format!(r#"{{"stream":"S","seq":{}}}"#, at + 1)), "{ack}");
        }
        let created = streams.ask(
            "$JS.API.CONSUMER.CREATE.S.C",
            r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#,
        );
        assert!(created.contains(r#""num_pending":3"#), "{created}");
        let first = streams.ask("$JS.API.CONSUMER.MSG.NEXT.S.C", "");
        assert!(first.contains("one"), "{first}");
        let ack_subject = first.split(' ').find(|word| word.starts_with("$JS.ACK")).unwrap().to_owned();
        assert_eq!(streams.ask(&ack_subject, "+ACK"), "MSG _I.r 1 0\r\n\r\n");
        let second = streams.ask("$JS.API.CONSUMER.MSG.NEXT.S.C", "");
        assert!(second.contains("two"), "{second}");

        let mut streams = streams.restart();
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert!(info.contains(r#""messages":3"#), "{info}");
        let info = streams.ask("$JS.API.CONSUMER.INFO.S.C", "");
        assert!(info.contains(r#""ack_floor":{"consumer_seq":1,"stream_seq":1"#), "{info}");
        assert!(info.contains(r#""num_ack_pending":1"#), "{info}");
        let third = streams.ask("$JS.API.CONSUMER.MSG.NEXT.S.C", "");
        assert!(third.contains("three"), "{third}");
        assert!(streams.ask("s.b", "four").contains(r#""seq":4"#));
    }
}

#[test]
fn a_deleted_stream_is_gone_with_its_files_and_consumers() {
    let mut streams = Streams::new(1, InstantDisk::default());
    let config = r#"{"name":"S","subjects":["s.>"]}"#;
    streams.ask("$JS.API.STREAM.CREATE.S", config);
    streams.ask("s.a", "one");
    let consumer = r#"{"stream_name":"S","config":{"durable_name":"C","ack_policy":"explicit"}}"#;
    streams.ask("$JS.API.CONSUMER.CREATE.S.C", consumer);
    let in_folder = |streams: &Streams| {
        streams.server.disk.paths().filter(|path| path.to_string().contains("natrix/streams/")).count()
    };
    let first = streams.ask("$JS.API.CONSUMER.MSG.NEXT.S.C", r#"{"batch":5,"expires":60000000000}"#);
    assert!(first.contains("one"), "{first}");
    let deleted = streams.ask("$JS.API.STREAM.DELETE.S", "");
    assert!(deleted.contains("409 Consumer Deleted") && deleted.contains(r#""success":true"#), "{deleted:?}");
    assert_eq!(in_folder(&streams), 0, "nothing is left of its files");

    let mut streams = streams.restart();
    assert!(streams.ask("$JS.API.STREAM.INFO.S", "").contains("stream not found"));
    let again = streams.ask("$JS.API.STREAM.CREATE.S", config);
    assert!(again.contains(r#""messages":0"#) && again.contains(r#""consumer_count":0"#), "{again}");
    assert!(streams.ask("s.a", "other").contains(r#""seq":1"#));
}

/// Returns the number behind a field of JSON.
pub(super) fn number(json: &str, field: &str) -> u64 {
    let at = json.find(&format!("\"{field}\":")).unwrap_or_else(|| panic!("no {field}: {json}"));
    let digits = json[at..].trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap()
}

/// Returns the messages and the bytes of the stream S, and what its account uses.
fn used(streams: &mut Streams) -> (u64, u64, u64) {
    let info = streams.ask("$JS.API.STREAM.INFO.S", "");
    let state = &info[info.find(r#""state""#).expect("it has a state")..];
    let account = streams.ask("$JS.API.INFO", "");
    (number(state, "messages"), number(state, "bytes"), number(&account, "storage"))
}

#[test]
fn an_account_uses_what_its_stream_has_left_when_new_limits_took_whole_blocks() {
    for limit in [r#""max_msgs":1,"max_bytes":120000"#, r#""max_bytes":1100"#] {
        let mut streams = Streams::new(1, InstantDisk::default());
        // Blocks of 32 kB.
        let config = |limits: &str| format!(r#"{{"name":"S","subjects":["s.>"],{limits}}}"#);
        streams.ask("$JS.API.STREAM.CREATE.S", &config(r#""max_bytes":120000"#));
        for _ in 0..90 {
            streams.ask("s.a", &"x".repeat(1000));
        }
        let (messages, bytes, uses) = used(&mut streams);
        assert!(messages == 90 && bytes > 90_000 && uses == bytes, "{messages} {bytes} {uses}");
        streams.ask("$JS.API.STREAM.UPDATE.S", &config(limit));
        let (messages, bytes, uses) = used(&mut streams);
        assert!(messages == 1 && bytes < 1100 && uses == bytes, "{limit}: {messages} {bytes} {uses}");
    }
}

#[test]
fn a_consumer_that_is_deleted_while_it_works_leaves_nothing() {
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"]}"#);
    for _ in 0..20 {
        streams.ask("s.a", "one");
    }
    for round in 0..30 {
        let name = format!("C{round}");
        let config =
            format!(r#"{{"stream_name":"S","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#);
        streams.ask(&format!("$JS.API.CONSUMER.CREATE.S.{name}"), &config);
        // Its state changes in the same reads as it is deleted.
        let next = format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.{name} _I.n 1\r\n1\r\n").repeat(1 + round % 9);
        let delete = format!("PUB $JS.API.CONSUMER.DELETE.S.{name} _I.d 0\r\n\r\n");
        streams.server.send(streams.client, [next.clone(), delete, next].concat().as_bytes());
        streams.server.advance(Duration::from_millis(100));
        let got = streams.server.took(streams.client);
        assert!(got.contains(r#""success":true"#), "{got}");
    }
    streams.assert_no_consumer_is_left();
}

#[test]
fn a_push_consumer_hears_when_somebody_listens() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        streams.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s.>"],"storage":"memory"}"#);
        streams.ask("s.a", "one");
        let created = streams.ask(
            "$JS.API.CONSUMER.CREATE.S.P",
            r#"{"stream_name":"S","config":{"durable_name":"P","deliver_subject":"to.me","ack_policy":"none"}}"#,
        );
        assert!(created.contains(r#""num_pending":1"#), "{created}");
        streams.server.send(streams.client, b"SUB to.me 7\r\n");
        streams.server.advance(Duration::from_millis(10));
        let got = streams.server.took(streams.client);
        assert!(got.starts_with("MSG s.a 7 $JS.ACK.S.P.1.1.1."), "{got}");
        streams.server.send(streams.client, b"UNSUB 7\r\n");
        streams.ask("s.b", "two");
        let info = streams.ask("$JS.API.CONSUMER.INFO.S.P", "");
        assert!(info.contains(r#""num_pending":1"#) && !info.contains("push_bound"), "{info}");
    }
}

#[test]
fn a_stream_is_deleted_with_all_of_many_consumers() {
    const CONSUMERS: usize = 300;
    let mut streams = Streams::new(1, InstantDisk::default());
    let config = r#"{"name":"S","subjects":["s.>"]}"#;
    streams.ask("$JS.API.STREAM.CREATE.S", config);
    streams.ask("s.a", "one");
    streams.make_many(CONSUMERS, |at| {
        let config = format!(
            r#"{{"stream_name":"S","config":{{"durable_name":"C{at}","deliver_subject":"to.{at}","ack_policy":"explicit"}}}}"#
        );
        (format!("$JS.API.CONSUMER.CREATE.S.C{at}"), config)
    });
    let info = streams.ask("$JS.API.STREAM.INFO.S", "");
    assert_eq!(number(&info, "consumer_count"), CONSUMERS as u64);
    let deleted = streams.ask("$JS.API.STREAM.DELETE.S", "");
    assert!(deleted.contains(r#""success":true"#), "{deleted}");
    streams.server.advance(Duration::from_secs(1));
    let left = |path: &&crate::disk::FilePath| {
        ["natrix/streams/", "natrix/consumers/"].iter().any(|folder| path.to_string().contains(folder))
    };
    assert_eq!(streams.server.disk.paths().filter(left).count(), 0);
    let account = streams.ask("$JS.API.INFO", "");
    assert!(account.contains(r#""streams":0,"consumers":0"#), "{account}");
    // Their names are free, and none of them comes back.
    let again = streams.ask("$JS.API.STREAM.CREATE.S", config);
    assert!(again.contains(r#""did_create":true"#) && number(&again, "consumer_count") == 0, "{again}");
}

/// Asks for a page from here on, and returns how many there are in all, where the page begins, how many it has, and the name of
/// the first.
fn page(streams: &mut Streams, subject: &str, offset: usize) -> (usize, usize, usize, String) {
    let answer = streams.ask(subject, &format!(r#"{{"offset":{offset}}}"#));
    let start = answer.find('{').unwrap_or_else(|| panic!("{answer}"));
    let answer: Value = serde_json::from_str(answer[start..].trim_end()).unwrap();
    let count = |field: &str| answer[field].as_u64().unwrap() as usize;
    let listed = answer["streams"].as_array().or(answer["consumers"].as_array());
    let listed = listed.map(Vec::as_slice).unwrap_or_default();
    let name = |entry: &Value| {
        let name = entry.as_str().or(entry["name"].as_str()).or(entry["config"]["name"].as_str());
        name.unwrap().to_owned()
    };
    (count("total"), count("offset"), listed.len(), listed.first().map(name).unwrap_or_default())
}

#[test]
fn more_than_fit_on_a_page_are_listed_on_several() {
    const ALL: usize = NAMES_LIMIT + 6;
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.make_many(ALL, |at| {
        let config = format!(r#"{{"name":"S{at:04}","storage":"memory","max_consumers":{ALL}}}"#);
        (format!("$JS.API.STREAM.CREATE.S{at:04}"), config)
    });
    streams.make_many(ALL, |at| {
        let config = format!(
            r#"{{"stream_name":"S0000","config":{{"durable_name":"S{at:04}","ack_policy":"explicit","mem_storage":true}}}}"#
        );
        (format!("$JS.API.CONSUMER.CREATE.S0000.S{at:04}"), config)
    });
    for (subject, limit) in [
        ("$JS.API.STREAM.NAMES", NAMES_LIMIT),
        ("$JS.API.STREAM.LIST", LIST_LIMIT),
        ("$JS.API.CONSUMER.NAMES.S0000", NAMES_LIMIT),
        ("$JS.API.CONSUMER.LIST.S0000", LIST_LIMIT),
    ] {
        for offset in [0, 3, limit, ALL - 2] {
            let there = limit.min(ALL - offset);
            let expected = (ALL, offset, there, format!("S{offset:04}"));
            assert_eq!(page(&mut streams, subject, offset), expected, "{subject}");
        }
        for offset in [ALL, ALL + 22] {
            assert_eq!(page(&mut streams, subject, offset), (ALL, ALL, 0, String::new()), "{subject}");
        }
    }
}
