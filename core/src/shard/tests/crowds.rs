//! Many consumers, clients and messages of one stream at once: as many as show what they do to each other.

use std::collections::BTreeSet;

use super::streaming::{Streams, number};
use super::*;
use crate::config::JetStreamOptions;

/// A message that a client got.
struct Got {
    subject: String,
    reply: String,
}

/// Returns the messages in what a client got, headers and payloads left out.
fn messages(mut text: &str) -> Vec<Got> {
    let mut messages = Vec::new();
    while let Some((line, rest)) = text.split_once("\r\n") {
        text = rest;
        let mut words: Vec<&str> = line.split(' ').collect();
        let has_headers = match words.remove(0) {
            "MSG" => false,
            "HMSG" => true,
            _ => continue,
        };
        let size: usize = words.pop().unwrap().parse().unwrap();
        if has_headers {
            words.pop();
        }
        let reply = words.get(2).copied().unwrap_or_default().to_owned();
        messages.push(Got { subject: words[0].to_owned(), reply });
        text = &text[size + 2..];
    }
    messages
}

/// Connects one more client, to one shard after the other, that subscribes to something.
fn listener(streams: &mut Streams, at: usize, subscriptions: &str) -> usize {
    let shard = at % streams.server.shards.len();
    let client = streams.server.connect(shard);
    let connect = b"CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true}\r\n";
    streams.server.send(client, connect);
    streams.server.send(client, subscriptions.as_bytes());
    wait(streams, 10);
    streams.server.took(client);
    client
}

fn create(streams: &mut Streams, config: &str) {
    let created = streams.ask("$JS.API.STREAM.CREATE.S", config);
    assert!(created.contains(r#""did_create":true"#), "{created}");
}

fn make_consumer(streams: &mut Streams, name: &str, settings: &str) {
    let config = format!(r#"{{"stream_name":"S","config":{{"durable_name":"{name}",{settings}}}}}"#);
    let created = streams.ask(&format!("$JS.API.CONSUMER.CREATE.S.{name}"), &config);
    assert!(created.contains("consumer_create_response") && !created.contains("error"), "{created}");
}

fn wait(streams: &mut Streams, millis: u64) {
    streams.server.advance(Duration::from_millis(millis));
}

/// Publishes as the client that asks, without waiting for anything.
fn publish(streams: &mut Streams, lines: &str) {
    streams.server.send(streams.client, lines.as_bytes());
}

/// More than may be on its way, to subscribers that answer when they are asked whether they keep up.
#[test]
fn ordered_consumers_get_all_messages_in_order() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        create(&mut streams, r#"{"name":"S","subjects":["s"]}"#);
        let mut listeners = Vec::new();
        for at in 0..3 {
            let client = listener(&mut streams, at, &format!("SUB d.{at} 1\r\n"));
            listeners.push((client, 0u64, 0u64));
            let policy = r#""ack_policy":"none","max_deliver":1"#;
            let pace = r#""flow_control":true,"idle_heartbeat":5000000000"#;
            let settings = format!(r#""deliver_subject":"d.{at}",{policy},{pace}"#);
            make_consumer(&mut streams, &format!("C{at}"), &settings);
        }
        let line = format!("PUB s 30000\r\n{}\r\n", "x".repeat(30_000));
        for _ in 0..110 {
            publish(&mut streams, &line);
        }
        for _ in 0..20 {
            wait(&mut streams, 10);
            for (client, delivered, asked) in &mut listeners {
                for got in messages(&streams.server.took(*client)) {
                    if got.reply.starts_with("$JS.FC.") {
                        *asked += 1;
                        streams.server.send(*client, format!("PUB {} 0\r\n\r\n", got.reply).as_bytes());
                        continue;
                    }
                    *delivered += 1;
                    // Of the deliveries the first, the stream's sequence, the consumer's.
                    let numbers = format!(".1.{delivered}.{delivered}.");
                    assert!(got.reply.contains(&numbers), "{} is not {numbers}", got.reply);
                }
            }
        }
        let whole = |(_, delivered, asked): &(usize, u64, u64)| *delivered == 110 && *asked > 0;
        assert!(listeners.iter().all(whole), "{listeners:?}");
    }
}

#[test]
fn consumers_at_work_are_all_deleted_at_once() {
    let mut streams = Streams::new(1, InstantDisk::default());
    create(&mut streams, r#"{"name":"S","subjects":["s.>"]}"#);
    streams.ask("s.a", "one");
    let (mut next, mut delete) = (String::new(), String::new());
    for at in 0..100 {
        make_consumer(&mut streams, &format!("C{at}"), r#""ack_policy":"explicit""#);
        next += &format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.C{at} _I.n 1\r\n1\r\n");
        delete += &format!("PUB $JS.API.CONSUMER.DELETE.S.C{at} _I.d 0\r\n\r\n");
    }
    publish(&mut streams, &(next + &delete));
    wait(&mut streams, 500);
    let got = streams.server.took(streams.client);
    assert_eq!(got.matches(r#""success":true"#).count(), 100);
    streams.assert_no_consumer_is_left();
}

#[test]
fn an_answer_may_be_longer_than_what_clients_may_send() {
    let jetstream = Some(JetStreamOptions::default());
    let options = Options { max_payload: Some(512), jetstream, ..Options::default() };
    let mut streams = Streams::with(1, options, InstantDisk::default());
    create(&mut streams, r#"{"name":"S","subjects":["s.*"]}"#);
    let lines: String = (0..100).map(|at| format!("PUB s.{at} 1\r\nx\r\n")).collect();
    publish(&mut streams, &lines);
    wait(&mut streams, 100);
    let info = streams.ask("$JS.API.STREAM.INFO.S", r#"{"subjects_filter":"s.*"}"#);
    assert!(number(&info, "total") == 100 && info.contains(r#""s.99":1"#), "{info}");
    assert!(info.len() > 1000, "{info}");
    publish(&mut streams, "PUB s.a 513\r\n");
    let refused = streams.server.took(streams.client);
    assert!(refused.contains("-ERR 'Maximum Payload Violation'"), "{refused}");
}

/// Whoever stores what has to be the next message of a subject has the lock, until that one gives it back.
#[test]
fn of_many_who_want_a_lock_one_has_it() {
    let put = |reply: &str, expected: u64, value: &str| {
        let headers = format!("NATS/1.0\r\nNats-Expected-Last-Subject-Sequence: {expected}\r\n\r\n");
        let (head, size) = (headers.len(), headers.len() + value.len());
        format!("HPUB lock.a {reply} {head} {size}\r\n{headers}{value}\r\n")
    };
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        create(&mut streams, r#"{"name":"S","subjects":["lock.*"],"max_msgs_per_subject":1}"#);
        let mut listen = |at| listener(&mut streams, at, &format!("SUB _L.{at} 1\r\n"));
        let clients: Vec<usize> = (0..20).map(&mut listen).collect();
        let mut expected = 0;
        for round in 0..10 {
            for (at, client) in clients.iter().enumerate() {
                streams.server.send(*client, put(&format!("_L.{at}"), expected, "taken").as_bytes());
            }
            wait(&mut streams, 100);
            let mut holders = Vec::new();
            for (at, client) in clients.iter().enumerate() {
                let got = streams.server.took(*client);
                match got.contains("error") {
                    true => assert!(got.contains(r#""err_code":10071"#), "{got}"),
                    false => holders.push((at, number(&got, "seq"))),
                }
            }
            let [(holder, held)] = holders[..] else { panic!("round {round}: {holders:?}") };
            // Who doesn't know which it is can't give it back.
            let other = (holder + 1) % clients.len();
            streams.server.send(clients[other], put(&format!("_L.{other}"), expected, "").as_bytes());
            wait(&mut streams, 100);
            let got = streams.server.took(clients[other]);
            assert!(got.contains(r#""err_code":10071"#), "{got}");
            streams.server.send(clients[holder], put(&format!("_L.{holder}"), held, "").as_bytes());
            wait(&mut streams, 100);
            let got = streams.server.took(clients[holder]);
            expected = number(&got, "seq");
            assert_eq!(expected, held + 1, "{got}");
        }
    }
}

#[test]
fn who_fetches_at_once_with_another_gets_full_batches_and_nothing_twice() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        create(&mut streams, r#"{"name":"S","subjects":["s.*"],"storage":"memory","retention":"workqueue"}"#);
        let lines: String = (0..500).map(|at| format!("PUB s.{at} 1\r\nx\r\n")).collect();
        publish(&mut streams, &lines);
        wait(&mut streams, 100);
        make_consumer(&mut streams, "C", r#""ack_policy":"explicit","max_ack_pending":250"#);
        let clients = [0, 1].map(|at| listener(&mut streams, at, &format!("SUB _F.{at} 1\r\n")));
        let (fetch, mut seen) = (r#"{"batch":50,"expires":1000000000}"#, BTreeSet::new());
        for _ in 0..5 {
            for (at, client) in clients.into_iter().enumerate() {
                let line =
                    format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.C _F.{at} {}\r\n{fetch}\r\n", fetch.len());
                streams.server.send(client, line.as_bytes());
            }
            wait(&mut streams, 10);
            for client in clients {
                let batch = messages(&streams.server.took(client));
                assert_eq!(batch.len(), 50);
                let ack = |got: &Got| format!("PUB {} 4\r\n+ACK\r\n", got.reply);
                let acks: String = batch.iter().map(ack).collect();
                streams.server.send(client, acks.as_bytes());
                assert!(batch.into_iter().all(|got| seen.insert(got.subject)), "one came twice");
            }
            wait(&mut streams, 10);
        }
        assert_eq!(seen.len(), 500);
        wait(&mut streams, 500);
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        assert_eq!(number(&info, "messages"), 0, "{info}");
    }
}

/// One that went through all sequences would never end.
#[test]
fn a_consumer_is_deleted_however_high_the_sequences_are() {
    const HIGH: u64 = 1_000_000_000_000_000;
    let mut streams = Streams::new(1, InstantDisk::default());
    create(&mut streams, r#"{"name":"S","subjects":["s.>"],"retention":"interest"}"#);
    make_consumer(&mut streams, "before", r#""ack_policy":"explicit""#);
    let purged = streams.ask("$JS.API.STREAM.PURGE.S", &format!(r#"{{"seq":{HIGH}}}"#));
    assert!(purged.contains(r#""success":true"#), "{purged}");
    let ack = streams.ask("s.a", "one");
    assert!(number(&ack, "seq") >= HIGH, "{ack}");
    make_consumer(&mut streams, "after", r#""ack_policy":"explicit""#);
    for name in ["before", "after"] {
        let deleted = streams.ask(&format!("$JS.API.CONSUMER.DELETE.S.{name}"), "");
        assert!(deleted.contains(r#""success":true"#), "{deleted}");
    }
    wait(&mut streams, 500);
    let info = streams.ask("$JS.API.STREAM.INFO.S", "");
    let state = &info[info.find(r#""state""#).expect("it has a state")..];
    assert!(number(state, "messages") == 0 && number(state, "last_seq") >= HIGH, "{info}");
}

#[test]
fn of_many_consumers_who_wants_a_message_gets_it_and_no_other() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        create(&mut streams, r#"{"name":"S","subjects":["id.*"]}"#);
        let subscriptions: String = (0..100).map(|at| format!("SUB to.{at} {}\r\n", at + 1)).collect();
        let listener = listener(&mut streams, 1, &subscriptions);
        for at in 0..100 {
            let settings =
                format!(r#""filter_subject":"id.{at}","deliver_subject":"to.{at}","ack_policy":"none""#);
            make_consumer(&mut streams, &format!("C{at}"), &settings);
        }
        publish(&mut streams, &("PUB id.7 1\r\nx\r\n".repeat(200) + "PUB id.42 1\r\nx\r\n"));
        wait(&mut streams, 100);
        let got = messages(&streams.server.took(listener));
        let of = |at: u64| {
            let (subject, reply) = (format!("id.{at}"), format!("$JS.ACK.S.C{at}.1."));
            got.iter().filter(|got| got.subject == subject && got.reply.starts_with(&reply)).count()
        };
        assert_eq!((got.len(), of(7), of(42)), (201, 200, 1));
        let info = streams.ask("$JS.API.CONSUMER.INFO.S.C8", "");
        assert!(info.contains(r#""num_pending":0"#) && info.contains(r#""consumer_seq":0"#), "{info}");
    }
}

#[test]
fn a_message_is_delivered_soon_whether_or_not_others_follow() {
    for shards in [1, 2] {
        let mut streams = Streams::new(shards, InstantDisk::default());
        create(&mut streams, r#"{"name":"S","subjects":["s.>"]}"#);
        let listener = listener(&mut streams, 0, "SUB d 1\r\n");
        make_consumer(&mut streams, "C", r#""deliver_subject":"d","ack_policy":"none""#);
        for at in 1..=200 {
            publish(&mut streams, "PUB s.a 1\r\nx\r\n");
            wait(&mut streams, 20);
            let got = messages(&streams.server.took(listener));
            assert_eq!(got.len(), 1, "message {at}");
            assert!(got[0].reply.starts_with(&format!("$JS.ACK.S.C.1.{at}.{at}.")), "{}", got[0].reply);
        }
    }
}

/// Of a hundred thousand requests for a message as many wait as may; the others are answered at once, and nothing of them stays.
#[test]
fn of_very_many_requests_as_many_wait_as_may() {
    const WAITING: usize = 512;
    let mut streams = Streams::new(1, InstantDisk::default());
    create(&mut streams, r#"{"name":"S","subjects":["s"]}"#);
    make_consumer(&mut streams, "C", r#""ack_policy":"explicit""#);
    let body = r#"{"batch":1,"expires":600000000000}"#;
    let request = format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.C _I.n {}\r\n{body}\r\n", body.len());
    let requests = request.repeat(1000);
    let mut refused = 0;
    for _ in 0..100 {
        publish(&mut streams, &requests);
        wait(&mut streams, 20);
        let answers = streams.server.took(streams.client);
        let full = answers.matches("NATS/1.0 409 Exceeded MaxWaiting").count();
        assert_eq!(messages(&answers).len(), full, "{answers}");
        refused += full;
    }
    assert_eq!(refused, 100_000 - WAITING);
    let info = streams.ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert_eq!(number(&info, "num_waiting"), WAITING as u64, "{info}");
    // Those that wait are served, the first first.
    publish(&mut streams, &"PUB s 1\r\nx\r\n".repeat(WAITING + 1));
    wait(&mut streams, 1000);
    assert_eq!(messages(&streams.server.took(streams.client)).len(), WAITING);
    let info = streams.ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert_eq!((number(&info, "num_waiting"), number(&info, "num_pending")), (0, 1), "{info}");
}
