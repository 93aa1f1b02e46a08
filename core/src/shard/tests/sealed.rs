//! What is on disk when a server has a key, and what it does with another.

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
fn a_key_that_changes_needs_the_old_one_once_and_the_cipher_stays() {
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

/// What was once in plain text would have to be found and written anew everywhere; until that is done safely it is refused.
#[test]
fn a_plain_store_is_not_begun_with_a_key() {
    let mut streams = Streams::with(1, options(None, None, CHACHA), InstantDisk::default());
    streams.make();
    assert!(!streams.plain_text().is_empty());
    let mut streams = streams.restart_with(options(Some("key"), None, Cipher::Aes256Gcm));
    let logs = streams.logged();
    assert!(logs.iter().any(|log| log.contains("the store is not encrypted")), "{logs:?}");
    let keys = |streams: &Streams| streams.server.disk.paths().any(|path| path.to_string().contains("keys"));
    assert!(!keys(&streams));
    // Nor do shards begin theirs beside it that it hadn't before.
    let streams = streams.restart_on_with(3, options(Some("key"), None, CHACHA));
    assert!(!keys(&streams));
    let mut streams = streams.restart_with(options(None, None, CHACHA));
    streams.assert_whole("without a key again");
}

#[test]
fn a_plain_store_of_another_shard_keeps_the_home_shard_from_keys() {
    let mut streams = Streams::with(2, options(None, None, CHACHA), InstantDisk::default());
    streams.ask("$JS.API.STREAM.CREATE.a", r#"{"name":"a"}"#);
    streams.ask("$JS.API.STREAM.CREATE.b", r#"{"name":"b"}"#);
    // The home shard has nothing.
    assert!(streams.ask("$JS.API.STREAM.DELETE.a", "").contains("true"));
    for shards in [1, 2, 3] {
        streams = streams.restart_on_with(shards, options(Some("key"), None, CHACHA));
        let logs = streams.logged();
        assert!(logs.iter().any(|log| log.contains("the store is not encrypted")), "{logs:?}");
        assert!(!streams.server.disk.paths().any(|path| path.to_string().contains("keys")));
    }
    let mut streams = streams.restart_on_with(2, options(None, None, CHACHA));
    assert!(streams.ask("$JS.API.STREAM.INFO.b", "").contains(r#""name":"b""#));
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
