//! Much at once, and what clients may rely on when they have an answer: the disk does one thing after another, and clients send
//! meanwhile.

use super::streaming::{Streams, number};
use super::*;

impl Server {
    /// Has a shard read what a client sends. What the disk is to do, it does later.
    fn only_read(&mut self, client: usize, mut bytes: &[u8]) {
        let (shard, conn, ..) = self.clients[client];
        while !bytes.is_empty() {
            let target = self.shards[shard].read_target(conn);
            let n = target.len().min(bytes.len());
            target[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            self.shards[shard].handle(self.now, Input::Received { conn, n });
            self.drain(shard);
            self.deliver_inboxes();
        }
    }

    /// Lets the disk do one thing; `false` if there is nothing.
    fn disk_step(&mut self) -> bool {
        let Some(submission) = self.disk_requests.pop_front() else { return false };
        let completion = self.disk.execute(submission);
        let shard = disk_shard(completion.token, self.shards.len() as u16).index();
        self.shards[shard].handle(self.now, Input::Disk(completion));
        self.drain(shard);
        self.deliver_inboxes();
        true
    }

    /// Lets the disk do all that it is to do.
    fn catch_up(&mut self) {
        for _ in 0..10 {
            while self.disk_step() {}
            self.advance(Duration::from_millis(20));
        }
    }
}

impl Streams {
    /// Sends requests, each by a client of its own, before the disk does anything; returns the answers.
    fn all_ask(&mut self, requests: &[(String, String)]) -> String {
        let shards = self.server.shards.len();
        let clients: Vec<usize> = (0..requests.len()).map(|at| self.server.connect(at % shards)).collect();
        for client in &clients {
            self.server.send(*client, b"CONNECT {\"verbose\":false}\r\n");
        }
        for (client, (subject, body)) in clients.into_iter().zip(requests) {
            let line = format!("PUB {subject} _I.r {}\r\n{body}\r\n", body.len());
            self.server.only_read(client, line.as_bytes());
        }
        self.server.catch_up();
        self.server.took(self.client)
    }

    /// Makes the stream S.
    fn begin_stream(&mut self, config: &str) {
        let made = self.ask("$JS.API.STREAM.CREATE.S", config);
        assert!(made.contains(r#""did_create":true"#), "{made}");
    }

    /// Makes its consumer C, or finds it as it is.
    fn make_consumer_c(&mut self, more: &str) {
        let config =
            format!(r#"{{"stream_name":"S","config":{{"durable_name":"C","ack_policy":"explicit"{more}}}}}"#);
        let made = self.ask("$JS.API.CONSUMER.CREATE.S.C", &config);
        assert!(made.contains("consumer_create_response") && !made.contains(r#""error""#), "{made}");
    }

    /// Has the next message delivered, and returns where it is acknowledged.
    fn next_ack(&mut self) -> String {
        let got = self.ask("$JS.API.CONSUMER.MSG.NEXT.S.C", "");
        acks(&got).next().unwrap_or_else(|| panic!("no message: {got}")).to_owned()
    }
}

/// Returns where the messages that came are acknowledged.
fn acks(got: &str) -> impl Iterator<Item = &str> {
    got.split([' ', '\r', '\n']).filter(|word| word.starts_with("$JS.ACK."))
}

#[test]
fn what_many_ask_for_at_once_is_made_once_and_all_are_told_so() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        let config = r#"{"name":"S","subjects":["s.>"],"max_msgs":10}"#;
        let asked = vec![("$JS.API.STREAM.CREATE.S".to_owned(), config.to_owned()); 40];
        let made = streams.all_ask(&asked);
        assert_eq!(made.matches("stream_create_response").count(), 40, "{made}");
        assert!(!made.contains(r#""error""#), "{made}");
        assert!(streams.ask("s.a", "one").contains(r#"{"stream":"S","seq":1}"#));

        let config = r#"{"stream_name":"S","config":{"durable_name":"C","deliver_subject":"to","ack_policy":"explicit"}}"#;
        let asked = vec![("$JS.API.CONSUMER.CREATE.S.C".to_owned(), config.to_owned()); 40];
        let made = streams.all_ask(&asked);
        assert_eq!(made.matches("consumer_create_response").count(), 40, "{made}");
        assert!(!made.contains(r#""error""#), "{made}");

        let mut streams = streams.restart();
        let names = streams.ask("$JS.API.STREAM.NAMES", "");
        assert_eq!(number(&names, "total"), 1, "{names}");
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!((number(&info, "messages"), number(&info, "consumer_count")), (1, 1), "{info}");
    }
}

#[test]
fn many_consumers_that_are_asked_for_at_once_are_all_made() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        streams.begin_stream(r#"{"name":"S","subjects":["s.*.*"]}"#);
        for at in 0..60 {
            streams.ask(&format!("s.{}.{at}", ["a", "b", "c"][at % 3]), "");
        }
        let config = r#"{"stream_name":"S","config":{"filter_subject":"s.*.22","ack_policy":"explicit"}}"#;
        let made = streams.all_ask(&vec![("$JS.API.CONSUMER.CREATE.S".to_owned(), config.to_owned()); 100]);
        assert_eq!(made.matches("consumer_create_response").count(), 100, "{made}");
        assert_eq!(made.matches(r#""num_pending":1"#).count(), 100, "{made}");
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(number(&info, "consumer_count"), 100, "{info}");
    }
}

#[test]
fn of_consumers_that_would_share_messages_of_a_work_queue_one_is_made() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        streams.begin_stream(r#"{"name":"S","subjects":["s.>"],"retention":"workqueue"}"#);
        let asked: Vec<_> = (0..10)
            .map(|at| {
                let config = format!(
                    r#"{{"stream_name":"S","config":{{"name":"c{at}","filter_subject":"s.a","ack_policy":"explicit"}}}}"#
                );
                (format!("$JS.API.CONSUMER.CREATE.S.c{at}.s.a"), config)
            })
            .collect();
        let made = streams.all_ask(&asked);
        assert_eq!(made.matches("consumer_create_response").count(), 10, "{made}");
        assert_eq!(made.matches(r#""err_code":10100,"#).count(), 9, "{made}");
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(number(&info, "consumer_count"), 1, "{info}");
    }
}

/// Who publishes as soon as he has the answer to his acknowledgement finds room.
#[test]
fn an_acknowledgement_is_answered_when_its_message_makes_room() {
    for (shards, storage) in [(1, "file"), (2, "file"), (1, "memory"), (2, "memory")] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        streams.begin_stream(&format!(
            r#"{{"name":"S","subjects":["q.*"],"retention":"workqueue","discard":"new","max_msgs_per_subject":1,"discard_new_per_subject":true,"storage":"{storage}"}}"#
        ));
        for at in 0..5 {
            let stored = streams.ask(&format!("q.{at}"), "x");
            assert!(stored.contains(&format!(r#""seq":{}}}"#, at + 1)), "{stored}");
        }
        let refused = streams.ask("q.0", "x");
        assert!(refused.contains("maximum messages per subject exceeded"), "{refused}");
        streams.make_consumer_c("");
        for at in 0..5 {
            let ack = streams.next_ack();
            let (server, client) = (&mut streams.server, streams.client);
            server.only_read(client, format!("PUB {ack} _I.r 4\r\n+ACK\r\n").as_bytes());
            let mut waited = 0;
            while !String::from_utf8_lossy(&server.clients[client].2).contains("MSG _I.r ") {
                if !server.disk_step() {
                    waited += 1;
                    assert!(waited < 100, "it is never answered");
                    server.advance(Duration::from_millis(1));
                }
            }
            server.only_read(client, format!("PUB q.{at} _I.p 1\r\ny\r\n").as_bytes());
            server.catch_up();
            let got = server.took(client);
            assert!(got.contains(&format!(r#"{{"stream":"S","seq":{}}}"#, at + 6)), "{storage}: {got}");
        }
    }
}

/// What is published while others fetch and acknowledge is delivered once, and nothing is left.
#[test]
fn a_work_queue_of_three_filters_skips_nothing_and_keeps_nothing() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        streams.begin_stream(r#"{"name":"S","subjects":["z.>"],"retention":"workqueue"}"#);
        streams.make_consumer_c(r#","filter_subjects":["z.a","z.b","z.c"]"#);
        let body = r#"{"batch":4,"no_wait":true}"#;
        let fetch = format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.C _I.n {}\r\n{body}\r\n", body.len());
        let (mut got, mut to_send) = (Vec::new(), String::new());
        for round in 0..80 {
            if round < 30 {
                let publish = |subject: &str| format!("PUB {subject} 1\r\nx\r\n");
                to_send.extend(["z.a", "z.b", "z.c"].map(publish));
            }
            to_send.push_str(&fetch);
            streams.server.send(streams.client, std::mem::take(&mut to_send).as_bytes());
            streams.server.advance(Duration::from_millis(10));
            let came = streams.server.took(streams.client);
            for ack in acks(&came) {
                let sequence = ack.split('.').nth(5).and_then(|number| number.parse::<u64>().ok());
                got.extend(sequence);
                to_send.push_str(&format!("PUB {ack} 4\r\n+ACK\r\n"));
            }
        }
        got.sort_unstable();
        assert_eq!(got, (1..=90).collect::<Vec<_>>());
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(number(&info, "messages"), 0, "{info}");
    }
}

/// Nobody goes from one sequence to the next where there is nothing for a long way.
#[test]
fn a_floor_far_below_the_stream_is_moved_at_once() {
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.begin_stream(r#"{"name":"S","subjects":["s"],"retention":"workqueue"}"#);
    for (round, first) in [1_u64 << 40, 1 << 45].into_iter().enumerate() {
        let purged = streams.ask("$JS.API.STREAM.PURGE.S", &format!(r#"{{"seq":{first}}}"#));
        assert!(purged.contains(r#""success":true"#), "{purged}");
        let stored = streams.ask("s", "help");
        assert!(stored.contains(&format!(r#""seq":{first}}}"#)), "{stored}");
        streams.make_consumer_c("");
        let ack = streams.next_ack();
        assert_eq!(streams.ask(&ack, "+ACK"), "MSG _I.r 1 0\r\n\r\n");
        streams = streams.restart();
        let info = streams.ask("$JS.API.CONSUMER.INFO.S.C", "");
        let floor = format!(r#""ack_floor":{{"consumer_seq":{},"stream_seq":{first}"#, round + 1);
        assert!(info.contains(&floor), "{info}");
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(number(&info, "messages"), 0, "{info}");
    }
}
