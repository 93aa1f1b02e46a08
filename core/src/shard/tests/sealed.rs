//! What is on disk when a server has a key, and what it does with another.

mod put_back;

use super::streaming::Streams;
use super::*;
use crate::config::{JetStreamOptions, Secret};
use crate::storage::Cipher;

/// What nobody is to find in a file: of messages, streams, consumers and accounts.
const SECRETS: [&str; 7] = [
    "PayloadMarker",
    "subjectmarker",
    "Headermarker",
    "StreamMarker",
    "ConsumerMarker",
    "DescriptionMarker",
    "AccountMarker",
];

pub(super) fn options(key: Option<&str>, previous: Option<&str>, cipher: Cipher) -> Options {
    let settings = JetStreamOptions {
        encryption_key: key.map(Secret::new),
        previous_encryption_key: previous.map(Secret::new),
        cipher,
        ..JetStreamOptions::default()
    };
    Options { jetstream: Some(settings), ..Options::default() }
}

pub(super) const CHACHA: Cipher = Cipher::ChaCha20Poly1305;

impl Streams {
    /// Ends the process and starts another one with these settings.
    fn restart_with(self, options: Options) -> Self {
        self.restart_on_with(1, options)
    }

    /// The same with so many shards.
    fn restart_on_with(self, shards: u16, options: Options) -> Self {
        let mut disk = self.server.disk;
        disk.restart();
        Streams::with(shards, options, disk)
    }

    /// Publishes until the journal's segments were used up.
    fn fill(&mut self, messages: usize) {
        for at in 0..messages {
            let text = format!("{}{at}{}", SECRETS[0], "PayloadMarker".repeat(20));
            let headers = "NATS/1.0\r\nHeadermarker: PayloadMarker\r\n\r\n";
            let line = format!(
                "HPUB subjectmarker.{} _I.r {} {}\r\n{headers}{text}\r\n",
                at % 3,
                headers.len(),
                headers.len() + text.len()
            );
            self.server.send(self.client, line.as_bytes());
        }
        self.server.advance(Duration::from_millis(200));
        assert!(self.server.took(self.client).contains(r#""seq":"#));
    }

    fn make(&mut self) {
        let config = r#"{"name":"StreamMarker","subjects":["subjectmarker.>"],"max_bytes":200000,"description":"DescriptionMarker"}"#;
        let created = self.ask("$JS.API.STREAM.CREATE.StreamMarker", config);
        assert!(created.contains(r#""did_create":true"#), "{created}");
        self.fill(100);
        let config = r#"{"stream_name":"StreamMarker","config":{"durable_name":"ConsumerMarker","ack_policy":"explicit","filter_subject":"subjectmarker.1"}}"#;
        let created = self.ask("$JS.API.CONSUMER.CREATE.StreamMarker.ConsumerMarker", config);
        assert!(created.contains(r#""name":"ConsumerMarker""#), "{created}");
        let got = self.ask("$JS.API.CONSUMER.MSG.NEXT.StreamMarker.ConsumerMarker", "");
        let ack = got.split(' ').find(|word| word.starts_with("$JS.ACK")).unwrap().to_owned();
        self.ask(&ack, "+ACK");
    }

    /// Asserts that the stream and its consumer are there as they were made.
    fn assert_whole(&mut self, why: &str) {
        let info = self.ask("$JS.API.STREAM.INFO.StreamMarker", "");
        assert!(info.contains(r#""first_seq":1,"#) && !info.contains("lost"), "{why}: {info}");
        for sequence in [1, 50, 100] {
            let got = self.ask("$JS.API.STREAM.MSG.GET.StreamMarker", &format!(r#"{{"seq":{sequence}}}"#));
            assert!(got.contains(r#""subject":"subjectmarker."#), "{why}: {got}");
        }
        let info = self.ask("$JS.API.CONSUMER.INFO.StreamMarker.ConsumerMarker", "");
        assert!(info.contains(r#""ack_floor":{"consumer_seq":1,"stream_seq":"#), "{why}: {info}");
    }

    /// Returns which files have something in plain text, and what.
    fn plain_text(&self) -> Vec<String> {
        let mut found = Vec::new();
        for path in self.server.disk.paths() {
            let content = self.server.disk.content(path).unwrap_or_default();
            for secret in SECRETS {
                if content.windows(secret.len()).any(|window| window == secret.as_bytes()) {
                    found.push(format!("{path}: {secret}"));
                }
            }
        }
        found
    }

    /// Returns whether any of it is in a file: all have this in them.
    fn has_plain_text(&self) -> bool {
        let has = |content: &[u8]| content.windows(5).any(|window| window == b"arker");
        self.server.disk.paths().any(|path| self.server.disk.content(path).is_some_and(has))
    }

    /// Returns of how many folders it was told that everything in them is encrypted.
    fn told_to_be_encrypted(&self) -> usize {
        let told =
            |text: &&String| text.starts_with("JetStream has encrypted all that is stored in \"natrix");
        self.server.told.iter().filter(told).count()
    }

    /// Returns whether no block is sealed with another cipher, or not at all.
    fn is_sealed_with(&self, cipher: Cipher) -> bool {
        let disk = &self.server.disk;
        let blocks = disk.paths().filter(|path| path.to_string().ends_with(".blk"));
        // Its flags have the cipher in the lowest bits.
        let flags = |path| disk.content(path).and_then(|content| content.get(20).copied());
        let code = crate::storage::block::header::cipher_code(cipher);
        blocks.filter_map(flags).all(|flags| flags & 3 == code)
    }

    fn logged(&mut self) -> Vec<String> {
        std::mem::take(&mut self.server.logs)
    }
}

#[test]
fn nothing_is_on_disk_in_plain_text() {
    for cipher in [CHACHA, Cipher::Aes256Gcm] {
        let key = || options(Some("key"), None, cipher);
        let mut streams = Streams::with(1, key(), InstantDisk::default());
        streams.make();
        assert_eq!(streams.plain_text(), [""; 0]);
        for _ in 0..3 {
            streams = streams.restart_with(key());
            streams.assert_whole("after a kill");
            streams.fill(50);
            assert_eq!(streams.plain_text(), [""; 0]);
        }
        assert_eq!(streams.logged(), [""; 0]);
    }
    let mut streams = Streams::with(1, options(None, None, CHACHA), InstantDisk::default());
    streams.make();
    assert!(streams.plain_text().len() > 4, "the test sees what there is: {:?}", streams.plain_text());
}

#[test]
fn what_another_key_sealed_is_isolated_reported_and_back_with_its_key() {
    let mut streams = Streams::with(1, options(Some("one"), None, CHACHA), InstantDisk::default());
    streams.make();
    for (key, locked, reason) in
        [(Some("two"), 1, "unable to recover keys"), (None, 2, "encryption not enabled")]
    {
        streams = streams.restart_with(options(key, None, CHACHA));
        let logs = streams.logged();
        assert_eq!(logs[0], format!("  Error decrypting our stream metafile: {reason}"));
        assert!(logs[1].contains("is left as it is; give the key that it was sealed with"), "{logs:?}");
        let (about_all, logs): (Vec<_>, Vec<_>) =
            logs.into_iter().partition(|log| log.contains("has not encrypted all"));
        assert_eq!(about_all.len(), usize::from(key.is_some()), "{about_all:?}");
        assert_eq!(logs.len(), 2 * locked, "two lines for each stream: {logs:?}");
        assert!(!logs.iter().any(|log| SECRETS.iter().any(|secret| log.contains(secret))), "{logs:?}");
        assert!(streams.ask("$JS.API.STREAM.INFO.StreamMarker", "").contains("stream not found"));
        // Others work, and what they do costs the first nothing.
        let name = key.unwrap_or("plain");
        let created = streams.ask(
            &format!("$JS.API.STREAM.CREATE.{name}"),
            &format!(r#"{{"name":"{name}","subjects":["{name}.>"]}}"#),
        );
        assert!(created.contains(r#""did_create":true"#), "{created}");
        let big = "x".repeat(60_000);
        for _ in 0..40 {
            assert!(streams.ask(&format!("{name}.a"), &big).contains(r#""seq":"#));
        }
    }
    let mut streams = streams.restart_with(options(Some("one"), None, CHACHA));
    streams.assert_whole("the right key");
    assert!(streams.ask("$JS.API.STREAM.INFO.two", "").contains("stream not found"));
    assert!(streams.ask("$JS.API.STREAM.INFO.plain", "").contains(r#""messages":40"#));
    // Both together, and from then on with the new one alone.
    for previous in [Some("two"), None] {
        streams = streams.restart_with(options(Some("one"), previous, CHACHA));
        streams.assert_whole("both keys");
        assert!(streams.ask("$JS.API.STREAM.INFO.two", "").contains(r#""messages":40"#));
    }
    assert_eq!(streams.logged(), [""; 0]);
}

#[test]
fn a_key_or_cipher_that_changes_needs_the_old_one_once() {
    let mut streams = Streams::with(1, options(Some("one"), None, CHACHA), InstantDisk::default());
    streams.make();
    for (key, previous, cipher) in [
        ("two", Some("one"), CHACHA),
        ("two", None, CHACHA),
        ("two", None, Cipher::Aes256Gcm),
        ("three", Some("two"), CHACHA),
        ("three", None, CHACHA),
    ] {
        streams = streams.restart_with(options(Some(key), previous, cipher));
        streams.assert_whole(key);
        streams.fill(20);
    }
    assert_eq!(streams.plain_text(), [""; 0]);
    assert_eq!(streams.logged(), [""; 0]);
    let mut streams = streams.restart_with(options(Some("one"), None, CHACHA));
    assert!(streams.ask("$JS.API.STREAM.INFO.StreamMarker", "").contains("stream not found"));
}

#[test]
fn a_plain_store_is_sealed_when_a_key_comes() {
    for shards in [1, 2] {
        let mut streams = Streams::with(shards, options(None, None, CHACHA), InstantDisk::default());
        streams.ask("$JS.API.STREAM.CREATE.a", r#"{"name":"a","subjects":["subjectmarker"]}"#);
        streams.make();
        assert!(!streams.plain_text().is_empty());
        for cipher in [Cipher::Aes256Gcm, CHACHA] {
            streams = streams.restart_on_with(shards, options(Some("key"), None, cipher));
            streams.assert_whole("with a key");
            streams.server.advance(Duration::from_secs(5));
            assert_eq!(streams.told_to_be_encrypted(), usize::from(shards));
            assert_eq!(streams.plain_text(), [""; 0]);
            assert!(streams.is_sealed_with(cipher));
            streams.fill(20);
        }
        // With another number of shards, too, nothing is left to do.
        for shards in [3, shards] {
            streams = streams.restart_on_with(shards, options(Some("key"), None, CHACHA));
            streams.assert_whole("again");
            assert_eq!((streams.told_to_be_encrypted(), streams.logged()), (0, vec![]));
            assert_eq!(streams.plain_text(), [""; 0]);
        }
    }
}

/// A store of two shards in plain text, with a stream of several blocks.
fn plain_store() -> InstantDisk {
    let mut streams = Streams::with(2, options(None, None, CHACHA), InstantDisk::default());
    let config = r#"{"name":"a","subjects":["subjectmarker"],"max_bytes":100000}"#;
    streams.ask("$JS.API.STREAM.CREATE.a", config);
    for _ in 0..80 {
        streams.ask("subjectmarker", &"PayloadMarker".repeat(60));
    }
    streams.make();
    // Both have files of their own, and something behind them in the journal.
    streams = streams.restart_on_with(2, options(None, None, CHACHA));
    streams.ask("$JS.API.STREAM.MSG.DELETE.a", r#"{"seq":7,"no_erase":true}"#);
    let mut disk = streams.server.disk;
    disk.restart();
    disk
}

/// Whatever request the power is cut behind, and whatever of what wasn't synced then survives: nothing is lost, the next start
/// ends it, and it is told to be done only when it is.
#[test]
fn a_power_cut_at_any_request_of_a_conversion_costs_nothing() {
    let plain = plain_store();
    let with = |cipher| options(Some("key"), None, cipher);
    let mut converted = 0;
    for (seed, cipher) in [(1, CHACHA), (2, Cipher::Aes256Gcm)] {
        let mut dice = crate::rng::Rng::from_u64(seed);
        // Something is there to be converted to another cipher the second time.
        let begun = match seed {
            2 => {
                let mut streams = Streams::with(2, with(CHACHA), plain.clone());
                streams.server.advance(Duration::from_secs(5));
                assert_eq!(streams.plain_text(), [""; 0]);
                let mut disk = streams.server.disk;
                disk.restart();
                disk
            }
            _ => plain.clone(),
        };
        // Each takes a while.
        for requests in (0..).step_by(2 * seed as usize - 1) {
            let mut streams = Streams::powered(2, with(cipher), begun.clone(), requests);
            streams.server.advance(Duration::from_secs(5));
            let told = streams.told_to_be_encrypted();
            let power = streams.server.power.take().unwrap();
            let all = power.requests() < requests;
            let disk = power.cut_somehow(&mut dice);
            let mut streams = Streams::with(2, with(cipher), disk);
            if told == 2 {
                assert!(!streams.has_plain_text(), "told before, seed {seed}, {requests} requests");
            }
            let why = format!("seed {seed}, {requests} requests");
            streams.assert_whole(&why);
            let info = streams.ask("$JS.API.STREAM.INFO.a", "");
            assert!(info.contains(r#""messages":79"#) && !info.contains("lost"), "{why}: {info}");
            streams.server.advance(Duration::from_secs(5));
            assert_eq!(streams.logged(), [""; 0], "{why}");
            assert!(!streams.has_plain_text(), "{why}");
            assert!(streams.is_sealed_with(cipher), "{why}");
            // What was told before isn't told again.
            let again = streams.told_to_be_encrypted();
            assert!(again + told >= 2 && (!all || again == 0), "{why}: {told}, then {again}");
            if all {
                converted += requests;
                break;
            }
        }
    }
    assert!(converted > 100, "{converted}");
}

#[test]
fn the_stores_of_all_shards_are_sealed() {
    let key = || options(Some("key"), None, CHACHA);
    let mut streams = Streams::with(2, key(), InstantDisk::default());
    streams.ask("$JS.API.STREAM.CREATE.a", r#"{"name":"a"}"#);
    streams.make();
    assert_eq!(streams.plain_text(), [""; 0]);
    for shards in [1, 3, 2] {
        streams = streams.restart_on_with(shards, key());
        streams.assert_whole("with another number of shards");
    }
    let mut streams = streams.restart_on_with(2, options(None, None, CHACHA));
    assert!(streams.ask("$JS.API.STREAM.INFO.StreamMarker", "").contains("stream not found"));
    let mut streams = streams.restart_on_with(2, options(Some("new"), Some("key"), CHACHA));
    streams.assert_whole("with another key");
    assert_eq!(streams.plain_text(), [""; 0]);
}

#[test]
fn a_sealed_stream_is_read_without_its_manifest_and_indexes() {
    for cipher in [CHACHA, Cipher::Aes256Gcm] {
        let key = || options(Some("key"), None, cipher);
        let mut streams = Streams::with(1, key(), InstantDisk::default());
        streams.make();
        streams.fill(100);
        let caches = |path: &&crate::disk::FilePath| {
            let path = path.to_string();
            path.ends_with("stream.manifest") || path.ends_with(".idx")
        };
        let caches: Vec<_> = streams.server.disk.paths().filter(caches).cloned().collect();
        for path in &caches {
            streams.server.disk.content_mut(path).unwrap().clear();
        }
        for _ in 0..2 {
            streams = streams.restart_with(key());
            streams.assert_whole("without what can be made again");
        }
        assert!(streams.ask("subjectmarker.a", "more").contains(r#""seq":201"#));
    }
}

#[test]
fn a_file_of_keys_that_is_lost_is_there_twice_and_without_both_nothing_is_written() {
    let key = || options(Some("key"), None, CHACHA);
    let mut streams = Streams::with(1, key(), InstantDisk::default());
    streams.make();
    let keys: Vec<_> = streams
        .server
        .disk
        .paths()
        .filter(|path| path.to_string().contains("natrix/keys"))
        .cloned()
        .collect();
    assert_eq!(keys.len(), 2);
    for path in &keys {
        let kept = streams.server.disk.content(path).unwrap().to_vec();
        streams.server.disk.content_mut(path).unwrap().fill(0);
        streams = streams.restart_with(key());
        streams.assert_whole("one is damaged");
        *streams.server.disk.content_mut(path).unwrap() = kept;
    }
    for path in &keys {
        streams.server.disk.content_mut(path).unwrap().fill(0);
    }
    let before: Vec<_> = streams.server.disk.paths().cloned().collect();
    let mut streams = streams.restart_with(key());
    let logs = streams.logged();
    assert!(logs.iter().any(|log| log.contains("the file of keys is damaged")), "{logs:?}");
    assert_eq!(streams.server.disk.paths().cloned().collect::<Vec<_>>(), before);
}
