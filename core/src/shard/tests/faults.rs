//! Consumers' files and the catalogue that the disk refuses to read or write, or of which there is no key: nobody loses messages
//! that he still needs.

use super::sealed::{CHACHA, options};
use super::streaming::Streams;
use super::*;
use crate::disk::{Completion, DiskError, DiskErrorKind, FilePath, Request};
use crate::storage::Cipher;

/// What a disk refuses: to read, or to replace, files with this in their path.
pub(super) struct Fault {
    within: &'static str,
    reads: bool,
    kind: DiskErrorKind,
    /// How often it still does.
    left: usize,
    refused: usize,
}

impl Fault {
    pub(super) fn writing(within: &'static str, kind: DiskErrorKind, left: usize) -> Self {
        Fault { within, reads: false, kind, left, refused: 0 }
    }

    /// Returns what becomes of a request that it refuses.
    pub(super) fn refuse(&mut self, submission: &Submission) -> Option<Completion> {
        let path = match &submission.request {
            Request::Replace { path, .. } if !self.reads => path.to_string(),
            Request::ReadFile { path, .. } if self.reads => path.to_string(),
            _ => return None,
        };
        if self.left == 0 || !path.contains(self.within) {
            return None;
        }
        self.left -= 1;
        self.refused += 1;
        let error = DiskError { kind: self.kind, path, message: "refused".to_owned() };
        Some(Completion { token: submission.token, result: Err(error) })
    }
}

fn sealed() -> Options {
    options(Some("key"), None, CHACHA)
}

const CONSUMERS: &str = "/consumers/";

impl Streams {
    /// Makes a stream that keeps what its consumers want, with three messages.
    fn make_wanted(&mut self, consumers: &[&str]) {
        let made =
            self.ask("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["s"],"retention":"interest"}"#);
        assert!(made.contains(r#""did_create":true"#), "{made}");
        for name in consumers {
            let config = format!(
                r#"{{"stream_name":"S","config":{{"durable_name":"{name}","ack_policy":"explicit"}}}}"#
            );
            let made = self.ask(&format!("$JS.API.CONSUMER.CREATE.S.{name}"), &config);
            assert!(made.contains(r#""num_pending":0"#), "{made}");
        }
        for (at, text) in ["one", "two", "three"].into_iter().enumerate() {
            assert!(self.ask("s", text).contains(&format!(r#""seq":{}}}"#, at + 1)));
        }
    }

    /// Has the next message delivered to a consumer, and acknowledges it.
    fn take(&mut self, consumer: &str, text: &str) {
        let got = self.ask(&format!("$JS.API.CONSUMER.MSG.NEXT.S.{consumer}"), "");
        assert!(got.contains(text), "{consumer}: {got}");
        let ack = got.split(' ').find(|word| word.starts_with("$JS.ACK")).unwrap().to_owned();
        assert!(self.ask(&ack, "+ACK").contains("MSG _I.r"));
    }

    fn assert_has(&mut self, messages: u64) {
        let info = self.ask("$JS.API.STREAM.INFO.S", "");
        assert!(info.contains(&format!(r#""messages":{messages},"#)), "{messages}: {info}");
    }

    /// Starts again where it isn't known with which key the journals' files are sealed: everything is written anew, on a disk that
    /// refuses something.
    pub(super) fn rewriting(self, fault: Fault) -> Self {
        let mut disk = self.server.disk;
        let segments: Vec<_> =
            disk.paths().filter(|path| path.to_string().ends_with(".jnl")).cloned().collect();
        for path in segments {
            let content = disk.content_mut(&path).unwrap();
            // Behind either copy of the header.
            [68, 512 + 68].into_iter().for_each(|at| content[at..at + 8].fill(0));
        }
        disk.restart();
        let mut streams = Streams::faulty(sealed(), disk, fault);
        streams.pass(1);
        streams
    }

    /// Lets time pass, as long as nothing comes.
    fn pass(&mut self, seconds: u64) {
        for _ in 0..10 * seconds {
            self.server.advance(Duration::from_millis(100));
        }
    }

    fn refused(&self) -> usize {
        self.server.fault.as_ref().map_or(0, |fault| fault.refused)
    }

    fn consumer_files(&self) -> Vec<FilePath> {
        self.server.disk.paths().filter(|path| path.to_string().contains(CONSUMERS)).cloned().collect()
    }
}

#[test]
fn a_consumer_whose_file_is_not_written_keeps_what_it_needs() {
    // Space is back after a while; the medium comes to its senses at the eighth time; it doesn't.
    for (kind, left, fails) in [
        (DiskErrorKind::Full, 30, false),
        (DiskErrorKind::Io, 7, false),
        (DiskErrorKind::Io, usize::MAX, true),
    ] {
        let mut streams = Streams::with(1, sealed(), InstantDisk::default());
        streams.make_wanted(&["slow", "fast"]);
        streams.take("slow", "one");
        let mut streams = streams.rewriting(Fault::writing(CONSUMERS, kind, left));
        streams.take("fast", "one");
        streams.take("fast", "two");
        streams.pass(20);
        assert!(streams.refused() >= left.min(8), "{}", streams.refused());
        let told = std::mem::take(&mut streams.server.logs);
        let failures = told.iter().filter(|line| !line.contains("it is tried again")).count();
        assert_eq!((told.is_empty(), failures > 0), (false, fails), "{told:?}");
        assert_eq!(streams.consumer_files().is_empty(), fails);
        streams.assert_has(2);
        streams.take("slow", "two");
        streams.assert_has(1);
        let mut streams = streams.rewriting(Fault::writing(CONSUMERS, kind, 0));
        streams.take("slow", "three");
        streams.assert_has(1);
        streams.take("fast", "three");
        streams.assert_has(0);
    }
}

#[test]
fn a_consumer_whose_file_is_not_read_keeps_what_it_needs() {
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.make_wanted(&["only"]);
    streams.take("only", "one");
    let mut disk = streams.server.disk;
    disk.restart();
    let fault = Fault { reads: true, ..Fault::writing(CONSUMERS, DiskErrorKind::Io, usize::MAX) };
    let mut streams = Streams::faulty(options(None, None, Cipher::None), disk, fault);
    assert_eq!(streams.refused(), 4);
    assert!(streams.server.logs.iter().any(|line| line.contains("consumer \"only\"")));
    streams.assert_has(2);
    streams.take("only", "two");
    streams.assert_has(1);
}

/// Its file is sealed with a key that isn't given: the stream goes on without it, and it without loss when its key is back.
#[test]
fn a_consumer_whose_key_is_missing_keeps_what_it_may_need() {
    for others in [&["only"][..], &["only", "other"]] {
        let mut streams = Streams::with(1, sealed(), InstantDisk::default());
        streams.make_wanted(&["only"]);
        streams.take("only", "one");
        let mut streams = streams.rewriting(Fault::writing(CONSUMERS, DiskErrorKind::Io, 0));
        let [file] = &streams.consumer_files()[..] else { panic!("one file") };
        let file = file.clone();
        for other in others.iter().filter(|name| **name != "only") {
            let config = format!(
                r#"{{"stream_name":"S","config":{{"durable_name":"{other}","ack_policy":"explicit"}}}}"#
            );
            streams.ask(&format!("$JS.API.CONSUMER.CREATE.S.{other}"), &config);
            streams.take(other, "two");
        }
        streams.assert_has(2);

        let mut disk = streams.server.disk;
        disk.restart();
        let content = disk.content_mut(&file).unwrap();
        let before = content.clone();
        content[12..16].copy_from_slice(&77_u32.to_le_bytes());
        let crc = crc32c::crc32c(&content[12..]);
        content[8..12].copy_from_slice(&crc.to_le_bytes());
        let mut streams = Streams::with(1, sealed(), disk);
        assert!(streams.server.logs.iter().any(|line| line.contains("its file is sealed with another key")));
        for other in others.iter().filter(|name| **name != "only") {
            streams.take(other, "three");
        }
        assert!(streams.ask("s", "four").contains(r#""seq":4}"#));
        streams.assert_has(3);

        let mut disk = streams.server.disk;
        disk.restart();
        *disk.content_mut(&file).unwrap() = before;
        let mut streams = Streams::with(1, sealed(), disk);
        for (left, text) in [(2, "two"), (1, "three"), (0, "four")] {
            streams.take("only", text);
            streams.assert_has(left + (others.len() as u64 - 1) * u64::from(left == 0));
        }
    }
}

#[test]
fn a_catalogue_that_finds_no_space_for_a_while_is_written_later() {
    let mut streams = Streams::with(1, sealed(), InstantDisk::default());
    streams.make_wanted(&["only"]);
    let mut streams = streams.rewriting(Fault::writing("/catalogue", DiskErrorKind::Full, 10));
    assert!((1..10).contains(&streams.refused()), "{}", streams.refused());
    let told = std::mem::take(&mut streams.server.logs);
    assert!(
        matches!(&told[..], [line] if line.contains("catalogue") && line.contains("it is tried again")),
        "{told:?}"
    );
    streams.take("only", "one");
    streams.pass(10);
    assert_eq!((streams.refused(), &streams.server.logs[..]), (10, &[][..]));
    let made = streams.ask("$JS.API.STREAM.CREATE.T", r#"{"name":"T","subjects":["t"]}"#);
    assert!(made.contains(r#""did_create":true"#), "{made}");
    let mut disk = streams.server.disk;
    disk.restart();
    let mut streams = Streams::with(1, sealed(), disk);
    assert_eq!(streams.server.logs, [""; 0]);
    streams.take("only", "two");
    assert!(streams.ask("t", "one").contains(r#""stream":"T""#));
}
