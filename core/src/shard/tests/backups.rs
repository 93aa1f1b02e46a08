//! Backups and restores through a whole server, and what is left of a restore when the power goes.

use super::power::Power;
use super::streaming::Streams;
use super::*;
use crate::rng::Rng;
use crate::storage::s2;

const MESSAGES: usize = 30;

/// What was asked, and every message that came: its subject, its reply subject, its headers, its payload.
struct Got(Vec<(String, String, Vec<u8>, Vec<u8>)>);

impl Got {
    fn read(mut bytes: &[u8]) -> Got {
        let mut messages = Vec::new();
        while let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") {
            let line = String::from_utf8(bytes[..end].to_vec()).unwrap();
            bytes = &bytes[end + 2..];
            let mut words: Vec<&str> = line.split(' ').collect();
            let has_headers = words.remove(0) == "HMSG";
            if !has_headers && !line.starts_with("MSG ") {
                continue;
            }
            let size: usize = words.pop().unwrap().parse().unwrap();
            let headers = if has_headers { words.pop().unwrap().parse().unwrap() } else { 0 };
            let reply = words.get(2).copied().unwrap_or_default().to_owned();
            let (head, body) = bytes[..size].split_at(headers);
            messages.push((words[0].to_owned(), reply, head.to_vec(), body.to_vec()));
            bytes = &bytes[size + 2..];
        }
        Got(messages)
    }

    /// Returns the payload of the only answer to a request.
    fn answer(&self) -> String {
        let found = self.0.iter().find(|(subject, ..)| subject == "_I.r");
        found.map(|(.., payload)| String::from_utf8(payload.clone()).unwrap()).unwrap_or_default()
    }
}

impl Streams {
    fn ask_bytes(&mut self, subject: &str, body: &[u8]) -> Got {
        let line = [format!("PUB {subject} _I.r {}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat();
        self.server.send(self.client, &line);
        self.server.advance(Duration::from_millis(200));
        Got::read(&std::mem::take(&mut self.server.clients[self.client].2))
    }

    /// Backs a stream up, answering each chunk; returns the answer to the request and the backup.
    fn back_up(&mut self, request: &str) -> (String, Vec<u8>) {
        self.server.send(self.client, b"SUB deliver 5\r\n");
        let mut got = self.ask_bytes("$JS.API.STREAM.SNAPSHOT.S", request.as_bytes());
        let answer = got.answer();
        let mut backup = Vec::new();
        loop {
            let chunks: Vec<_> = got.0.into_iter().filter(|(subject, ..)| subject == "deliver").collect();
            assert!(!chunks.is_empty(), "it ended without an end");
            for (_, reply, headers, payload) in chunks {
                if payload.is_empty() {
                    assert!(headers.is_empty() || headers.starts_with(b"NATS/1.0 204\r\n"), "{headers:?}");
                    self.server.send(self.client, b"UNSUB 5\r\n");
                    return (answer, backup);
                }
                backup.extend(payload);
                if !reply.is_empty() {
                    self.server.send(self.client, format!("PUB {reply} 0\r\n\r\n").as_bytes());
                }
            }
            self.server.advance(Duration::from_millis(10));
            got = Got::read(&std::mem::take(&mut self.server.clients[self.client].2));
        }
    }

    /// Restores a backup in chunks; returns the last answer, empty if there was none.
    fn restore(&mut self, config: &str, backup: &[u8], chunk: usize) -> String {
        let body = format!(r#"{{"config":{config},"state":{{}}}}"#);
        let begun = self.ask_bytes("$JS.API.STREAM.RESTORE.S", body.as_bytes()).answer();
        let Some((_, rest)) = begun.split_once(r#""deliver_subject":""#) else { return begun };
        let deliver = rest.split('"').next().unwrap().to_owned();
        if deliver.is_empty() {
            return begun;
        }
        for chunk in backup.chunks(chunk) {
            self.ask_bytes(&deliver, chunk);
        }
        self.ask_bytes(&deliver, b"").answer()
    }

    fn files(&self, folder: &str) -> usize {
        self.server.disk.paths().filter(|path| path.to_string().starts_with(folder)).count()
    }
}

const CONFIG: &str = r#"{"name":"S","subjects":["s.>"]}"#;

/// A server with a stream that has messages and consumers, one of them in the middle of it.
fn filled() -> Streams {
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.ask("$JS.API.STREAM.CREATE.S", CONFIG);
    for at in 0..MESSAGES {
        streams.ask(&format!("s.{}", at % 3), &format!("message {at} {}", "x".repeat(at * 40)));
    }
    streams.ask("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":7}"#);
    for name in ["c", "d"] {
        let body =
            format!(r#"{{"stream_name":"S","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#);
        streams.ask(&format!("$JS.API.CONSUMER.DURABLE.CREATE.S.{name}"), &body);
    }
    for _ in 0..3 {
        let got = streams.ask("$JS.API.CONSUMER.MSG.NEXT.S.c", "");
        let ack = got.split(' ').find(|word| word.starts_with("$JS.ACK")).unwrap().to_owned();
        if !got.contains("message 1 ") {
            streams.ask(&ack, "+ACK");
        }
    }
    streams
}

/// Asserts that the stream is there as it was.
fn assert_whole(streams: &mut Streams, why: &str) {
    let info = streams.ask("$JS.API.STREAM.INFO.S", "");
    let state = format!(r#""messages":{}"#, MESSAGES - 1);
    assert!(info.contains(&state) && info.contains(r#""consumer_count":2"#), "{why}: {info}");
    for sequence in (1..=MESSAGES).filter(|sequence| *sequence != 7) {
        let got = streams.ask("$JS.API.STREAM.MSG.GET.S", &format!(r#"{{"seq":{sequence}}}"#));
        assert!(got.contains(&format!(r#""subject":"s.{}""#, (sequence - 1) % 3)), "{why}: {got}");
    }
    let info = streams.ask("$JS.API.CONSUMER.INFO.S.c", "");
    assert!(info.contains(r#""delivered":{"consumer_seq":3,"stream_seq":3"#), "{why}: {info}");
    assert!(info.contains(r#""ack_floor":{"consumer_seq":1,"stream_seq":1"#), "{why}: {info}");
    assert!(info.contains(r#""num_ack_pending":1"#), "{why}: {info}");
}

#[test]
fn a_backup_becomes_the_same_stream_on_another_server() {
    let mut streams = filled();
    for request in [
        r#"{"deliver_subject":"deliver"}"#,
        r#"{"deliver_subject":"deliver","chunk_size":1024,"window_size":3000}"#,
    ] {
        let (answer, backup) = streams.back_up(request);
        assert!(answer.contains(r#""num_deleted":1"#), "{answer}");
        for (chunk, shards) in [(64, 1), (1 << 17, 2)] {
            let mut other = Streams::new(shards, InstantDisk::default());
            let restored = other.restore(CONFIG, &backup, chunk);
            assert!(restored.contains(r#""messages":29"#), "{restored}");
            assert_whole(&mut other, "restored");
            assert_whole(&mut other.restart(), "restarted");
        }
    }
}

#[test]
fn what_comes_and_goes_meanwhile_harms_no_backup() {
    let mut streams = filled();
    let request = r#"{"deliver_subject":"deliver","chunk_size":1024,"window_size":1024}"#;
    streams.server.send(streams.client, b"SUB deliver 5\r\n");
    let mut got = streams.ask_bytes("$JS.API.STREAM.SNAPSHOT.S", request.as_bytes());
    let (mut backup, mut at) = (Vec::new(), 0);
    'reading: loop {
        for (subject, reply, _, payload) in got.0 {
            if subject == "deliver" && payload.is_empty() {
                break 'reading;
            }
            if subject == "deliver" {
                backup.extend(payload);
                at += 1;
                streams.ask("s.new", &at.to_string());
                streams.ask("$JS.API.STREAM.MSG.DELETE.S", &format!(r#"{{"seq":{}}}"#, MESSAGES - at % 9));
                streams.ask("$JS.API.CONSUMER.DELETE.S.d", "");
                streams.server.send(streams.client, format!("PUB {reply} 0\r\n\r\n").as_bytes());
            }
        }
        streams.server.advance(Duration::from_millis(10));
        got = Got::read(&std::mem::take(&mut streams.server.clients[streams.client].2));
    }
    let mut other = Streams::new(1, InstantDisk::default());
    let restored = other.restore(CONFIG, &backup, 1000);
    let last = format!(r#""last_seq":{MESSAGES}"#);
    assert!(restored.contains(&last) && restored.contains(r#""type":"io.nats"#), "{restored}");
    for sequence in 1..=6 {
        let got = other.ask("$JS.API.STREAM.MSG.GET.S", &format!(r#"{{"seq":{sequence}}}"#));
        assert!(got.contains(&format!(r#""seq":{sequence}"#)), "{got}");
    }
}

#[test]
fn a_power_cut_leaves_a_restore_whole_or_nothing_of_it() {
    let (_, backup) = filled().back_up(r#"{"deliver_subject":"deliver"}"#);
    let (mut there, mut not_there) = (0, 0);
    for requests in 0.. {
        let mut streams = Streams::new(1, InstantDisk::default());
        streams.server.power = Some(Power::lasting(&streams.server.disk, requests));
        let answer = streams.restore(CONFIG, &backup, 4000);
        let power = streams.server.power.take().unwrap();
        let all = power.requests() < requests;
        let told = answer.contains(r#""messages":29"#);
        let mut streams = Streams::new(1, power.cut());
        let names = streams.ask("$JS.API.STREAM.NAMES", "");
        let is_there = names.contains(r#""streams":["S"]"#);
        assert!(is_there || !told, "it was told to be there, and the power went after {requests} requests");
        if is_there {
            there += 1;
            assert_whole(&mut streams, &format!("cut after {requests} requests"));
        } else {
            not_there += 1;
            assert_eq!(streams.files("natrix/streams/"), 0, "left after {requests} requests");
            assert_eq!(streams.files("natrix/consumers/"), 0, "left after {requests} requests");
            let restored = streams.restore(CONFIG, &backup, 1 << 20);
            assert!(restored.contains(r#""messages":29"#), "after {requests} requests: {restored}");
            assert_whole(&mut streams.restart(), "restored at last");
        }
        if all {
            break;
        }
    }
    assert!(there > 0 && not_there > 5, "{there} there, {not_there} not");
}

#[test]
fn a_restore_that_fails_leaves_nothing() {
    let (_, backup) = filled().back_up(r#"{"deliver_subject":"deliver"}"#);
    let mut streams = Streams::new(1, InstantDisk::default());
    for (config, cut, why) in [
        (CONFIG, backup.len() - 20, "s2: corrupt input"),
        (r#"{"name":"S","subjects":["s.>"],"max_msg_size":500}"#, backup.len(), "maximum message size"),
        (r#"{"name":"S","subjects":["s.>"],"mirror_direct":true,"sources":[{"name":"X"}]}"#, 0, "EOF"),
        (r#"{"name":"S","subjects":["s.>"],"allow_atomic":true}"#, backup.len(), "allow_atomic"),
        (r#"{"name":"S","subjects":["s.>"],"max_consumers":1}"#, backup.len(), "maximum consumers"),
    ] {
        let answer = streams.restore(config, &backup[..cut], 3000);
        assert!(answer.contains(why), "{answer}");
        assert!(streams.ask("$JS.API.STREAM.INFO.S", "").contains("stream not found"));
        assert_eq!(streams.files("natrix/streams/") + streams.files("natrix/consumers/"), 0, "{why}");
    }
    let info = streams.ask("$JS.API.INFO", "");
    assert!(info.contains(r#""storage":0"#), "{info}");
    assert!(streams.restore(CONFIG, &backup, 3000).contains(r#""messages":29"#));
    assert_whole(&mut streams, "after those that failed");
}

/// Returns what is in a backup, and makes a backup of it again.
fn decompressed(backup: &[u8]) -> Vec<u8> {
    let (mut reader, mut plain) = (s2::Reader::default(), Vec::new());
    reader.push(backup);
    while let Some(block) = reader.poll().unwrap() {
        plain.extend_from_slice(&block);
    }
    plain
}

fn compressed(plain: &[u8]) -> Vec<u8> {
    let (mut writer, mut out) = (s2::Writer::default(), bytes::BytesMut::new());
    writer.write(plain, &mut out);
    writer.flush(&mut out);
    out.to_vec()
}

#[test]
fn a_backup_that_somebody_has_changed_harms_nobody() {
    let (_, backup) = filled().back_up(r#"{"deliver_subject":"deliver"}"#);
    let plain = decompressed(&backup);
    assert_eq!(decompressed(&compressed(&plain)), plain);
    let mut rng = Rng::from_u64(7);
    let mut streams = Streams::new(1, InstantDisk::default());
    let (mut restored, mut refused) = (0, 0);
    for round in 0..400 {
        let mut changed = plain.clone();
        for _ in 0..1 + rng.below(3) {
            // Mostly where it says most: the state, the consumers, the heads of the first messages.
            let at = rng.below(if round % 4 == 0 { plain.len() as u64 } else { 1200 }) as usize;
            match rng.below(4) {
                0 => changed[at] = rng.next_u64() as u8,
                1 => changed[at] = b"0123456789-,}"[rng.below(13) as usize],
                2 => drop(changed.splice(at..at, *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")),
                _ => drop(changed.drain(at..(at + 1 + rng.below(9) as usize).min(plain.len()))),
            }
            changed.resize(changed.len().max(1200), 0);
        }
        let answer = streams.restore(CONFIG, &compressed(&changed), 1 << 16);
        let names = streams.ask("$JS.API.STREAM.NAMES", "");
        if !answer.contains(r#""state""#) {
            assert!(names.contains(r#""streams":null"#), "{answer} {names}");
            refused += 1;
            continue;
        }
        restored += 1;
        for request in ["$JS.API.STREAM.INFO.S", "$JS.API.CONSUMER.LIST.S", "$JS.API.CONSUMER.MSG.NEXT.S.c"] {
            assert!(!streams.ask(request, "").is_empty(), "{request}");
        }
        assert!(streams.ask("s.more", "").contains(r#""seq""#));
        assert!(streams.ask("$JS.API.STREAM.INFO.S", r#"{"deleted_details":true}"#).contains("deleted"));
        streams.server.advance(Duration::from_secs(40));
        assert!(streams.ask("$JS.API.STREAM.DELETE.S", "").contains("success"));
    }
    assert!(restored > 20 && refused > 100, "{restored} restored, {refused} refused");
}

#[test]
fn a_name_is_taken_while_it_is_restored() {
    let (_, backup) = filled().back_up(r#"{"deliver_subject":"deliver"}"#);
    let mut streams = Streams::new(1, InstantDisk::default());
    let request = format!(r#"{{"config":{CONFIG},"state":{{}}}}"#);
    let begun = streams.ask("$JS.API.STREAM.RESTORE.S", &request);
    let deliver = begun.split('"').find(|word| word.starts_with("$JS.SNAPSHOT")).unwrap().to_owned();
    assert!(streams.ask("$JS.API.STREAM.RESTORE.S", &request).contains("10130"));
    assert!(streams.ask("$JS.API.STREAM.CREATE.S", CONFIG).contains("10058"));
    streams.ask_bytes(&deliver, &backup);
    let other = streams.ask("$JS.API.STREAM.CREATE.T", r#"{"name":"T","subjects":["s.1"]}"#);
    assert!(other.contains("subjects overlap"), "{other}");
    assert!(streams.ask("$JS.API.STREAM.NAMES", "").contains(r#""streams":null"#), "nobody sees it yet");
    assert!(streams.ask_bytes(&deliver, b"").answer().contains(r#""messages":29"#));
    assert!(streams.ask("$JS.API.STREAM.CREATE.S", CONFIG).contains(r#""messages":29"#));
}
