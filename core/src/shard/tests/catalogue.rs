//! A catalogue, or a consumer's file, that is damaged: what can't be read is told of and left alone, everything else works, and
//! nobody is passed over.

use super::faults::Fault;
use super::sealed::{CHACHA, options};
use super::streaming::Streams;
use super::*;
use crate::disk::{DiskErrorKind, FilePath, Request, Token};
use crate::jetstream::report::Detail;
use crate::monitoring::{ControlReply, HealthStatus, HealthzOptions, Query};

const FOLDER: &str = "natrix/streams/";

fn files(disk: &InstantDisk, within: &str) -> Vec<FilePath> {
    disk.paths().filter(|path| path.to_string().contains(within)).cloned().collect()
}

/// Turns a bit over behind the first place where a file within has this text, and returns which file that was.
fn flip(disk: &mut InstantDisk, within: &str, text: &str) -> FilePath {
    for path in files(disk, within) {
        let content = disk.content_mut(&path).unwrap();
        if let Some(at) = content.windows(text.len()).position(|window| window == text.as_bytes()) {
            content[at] ^= 4;
            return path;
        }
    }
    panic!("{text:?} isn't in {within}");
}

impl Streams {
    fn make_stream(&mut self, name: &str, more: &str) {
        let config = format!(r#"{{"name":"{name}","subjects":["{name}"]{more}}}"#);
        let made = self.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &config);
        assert!(made.contains(r#""did_create":true"#), "{made}");
    }

    fn make_consumer(&mut self, name: &str, policy: &str) {
        let config = format!(
            r#"{{"stream_name":"S","config":{{"durable_name":"{name}","ack_policy":"explicit","deliver_policy":"{policy}","filter_subject":"S"}}}}"#
        );
        let made = self.ask(&format!("$JS.API.CONSUMER.CREATE.S.{name}"), &config);
        assert!(made.contains(r#""name":""#) && !made.contains("error"), "{made}");
    }

    fn store(&mut self, name: &str, sequence: u64) {
        assert!(self.ask(name, &format!("text {sequence}")).contains(&format!(r#""seq":{sequence}}}"#)));
    }

    fn next(&mut self, consumer: &str) -> String {
        self.ask(&format!("$JS.API.CONSUMER.MSG.NEXT.S.{consumer}"), "")
    }

    fn acknowledge(&mut self, got: &str) {
        let ack = got.split(' ').find(|word| word.starts_with("$JS.ACK")).unwrap().to_owned();
        assert!(self.ask(&ack, "+ACK").contains("MSG _I.r"));
    }

    /// Makes streams and deletes them until the catalogue's file was written and its journal goes on in other segments.
    fn wear_catalogue(&mut self) {
        let long = format!(r#","description":"{}""#, "x".repeat(4000));
        for at in 0..200 {
            let name = format!("worn{at}");
            self.make_stream(&name, &long);
            assert!(self.ask(&format!("$JS.API.STREAM.DELETE.{name}"), "").contains(r#""success":true"#));
        }
        assert!(self.server.disk.content(&FilePath::root().join("natrix").join("catalogue")).is_some());
    }

    fn healthz(&mut self) -> (u16, String) {
        let request = ControlRequest::Jsz(Arc::new(Detail::default()));
        let now = self.server.now;
        self.server.shards[0].handle(now, Input::Control { id: 9, request });
        let mut report = None;
        while let Some(output) = self.server.shards[0].poll_output() {
            if let Output::ControlReply { reply: ControlReply::Jsz(found), .. } = output {
                report = found;
            }
        }
        let options = HealthzOptions::from_query(&Query::parse("")).unwrap();
        let health = HealthStatus::new(&options, true, report.as_deref());
        (health.status_code(), serde_json::to_string(&health).unwrap())
    }

    fn says(&mut self, text: &str) -> bool {
        self.server.logs.iter().any(|line| line.contains(text))
    }

    fn assert_lost(&mut self, name: &str) {
        assert!(self.ask(&format!("$JS.API.STREAM.INFO.{name}"), "").contains("stream not found"));
        assert!(self.says("it is left as it is"), "{:?}", self.server.logs);
        let (code, text) = self.healthz();
        assert!(code == 503 && text.contains("nothing says which stream"), "{code} {text}");
    }
}

/// Three streams with two messages each.
fn three() -> Streams {
    let mut streams = Streams::new(1, InstantDisk::default());
    for name in ["one", "two", "three"] {
        streams.make_stream(name, "");
        streams.store(name, 1);
        streams.store(name, 2);
    }
    streams
}

/// Damages the entry of one of three streams in the catalogue's journal: it is missing, its files stay, and the others work.
fn stays_on_disk(damaged: &str) {
    let mut streams = three();
    let stored = files(&streams.server.disk, FOLDER).len();
    flip(&mut streams.server.disk, "natrix/meta/", &format!(r#"name":"{damaged}"#));
    for round in 0..3 {
        streams = streams.restart();
        assert!(
            round > 0 || streams.says("which streams and consumers there are"),
            "{:?}",
            streams.server.logs
        );
        streams.assert_lost(damaged);
        for name in ["one", "two", "three"].into_iter().filter(|name| *name != damaged) {
            streams.store(name, 3 + round);
        }
        assert_eq!(files(&streams.server.disk, FOLDER).len(), stored);
    }
}

#[test]
fn a_stream_whose_entry_in_the_catalogues_journal_is_damaged_stays_on_disk() {
    stays_on_disk("two");
}

/// What was made last, and before nothing else, too.
#[test]
fn a_stream_that_was_made_last_stays_on_disk_when_its_entry_is_damaged() {
    stays_on_disk("three");
}

/// Of a consumer that was made last nothing is on disk but its entry in the catalogue.
#[test]
fn a_consumer_that_was_made_last_is_missed() {
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.make_stream("S", r#","retention":"interest""#);
    streams.make_consumer("C", "all");
    streams.store("S", 1);
    flip(&mut streams.server.disk, "natrix/meta/", r#"durable_name":"C"#);
    let mut streams = streams.restart();
    assert!(streams.says("which streams and consumers there are"), "{:?}", streams.server.logs);
    assert_eq!(streams.healthz().0, 503);
    assert!(streams.ask("$JS.API.STREAM.INFO.S", "").contains(r#""messages":1"#));
}

/// Its block may lack it: it was written behind, and not synced.
#[test]
fn damage_to_the_newest_message_in_the_journal_is_told() {
    let mut streams = three();
    streams.store("three", 3);
    streams.server.advance(Duration::from_millis(300));
    flip(&mut streams.server.disk, "natrix/journal/", "text 3");
    let mut streams = streams.restart();
    assert!(streams.says("what was acknowledged"), "{:?}", streams.server.logs);
    // Nothing stands behind it that would say that it was there.
    streams.store("three", 3);
}

#[test]
fn what_is_lost_is_still_known_to_be_when_the_damaged_segment_was_used_again() {
    let mut streams = three();
    flip(&mut streams.server.disk, "natrix/meta/", r#"name":"two"#);
    let stored = files(&streams.server.disk, FOLDER).len();
    let mut streams = streams.restart();
    streams.wear_catalogue();
    for _ in 0..2 {
        streams = streams.restart();
        assert!(!streams.says("is damaged"), "{:?}", streams.server.logs);
        streams.assert_lost("two");
        streams.store("one", 3);
        streams.ask("$JS.API.STREAM.PURGE.one", r#"{"keep":2}"#);
        streams.ask("$JS.API.STREAM.MSG.DELETE.one", r#"{"seq":3}"#);
        streams.ask("$JS.API.STREAM.DELETE.one", "");
        streams.make_stream("one", "");
        streams.store("one", 1);
        streams.store("one", 2);
        assert_eq!(files(&streams.server.disk, FOLDER).len(), stored);
    }
}

#[test]
fn a_damaged_catalogue_costs_the_entry_that_it_is_damaged_in() {
    let mut streams = three();
    streams.wear_catalogue();
    let stored = files(&streams.server.disk, FOLDER).len();
    let path = flip(&mut streams.server.disk, "natrix/catalogue", r#"name":"two"#);
    let damaged = streams.server.disk.content(&path).unwrap().to_vec();
    for round in 0..3 {
        streams = streams.restart();
        assert_eq!(streams.says("it is kept under another name"), round == 0, "{:?}", streams.server.logs);
        streams.assert_lost("two");
        for name in ["one", "three"] {
            streams.store(name, 3 + round);
        }
        assert_eq!(files(&streams.server.disk, FOLDER).len(), stored);
        let [aside] = &files(&streams.server.disk, "natrix/catalogue.damaged-")[..] else { panic!("one") };
        assert_eq!(streams.server.disk.content(aside), Some(&damaged[..]));
    }
}

#[test]
fn without_its_file_the_catalogue_has_nothing_removed() {
    let mut streams = three();
    streams.wear_catalogue();
    let stored = files(&streams.server.disk, FOLDER).len();
    let path = FilePath::root().join("natrix").join("catalogue");
    let kept = streams.server.disk.content(&path).unwrap().to_vec();
    streams
        .server
        .disk
        .execute(Submission { token: Token(0), request: Request::Remove { path: path.clone() } });
    for _ in 0..2 {
        streams = streams.restart();
        streams.assert_lost("two");
        assert_eq!(files(&streams.server.disk, FOLDER).len(), stored);
    }
    // It is found again.
    let mut disk = streams.server.disk;
    let request = Request::Replace { path, data: vec![kept.into()] };
    disk.execute(Submission { token: Token(0), request });
    disk.restart();
    let mut streams = Streams::new(1, disk);
    streams.store("two", 3);
}

#[test]
fn what_a_crash_left_behind_still_goes() {
    let mut streams = three();
    streams.wear_catalogue();
    let mut disk = streams.restart().server.disk;
    let path = FilePath::root().join("natrix").join("streams").join("00000000deadbeef");
    disk.execute(Submission { token: Token(0), request: Request::CreateDirectory { path: path.clone() } });
    let request = Request::Replace { path: path.join("00000001.blk"), data: vec![vec![1; 100].into()] };
    disk.execute(Submission { token: Token(0), request });
    assert_eq!(files(&disk, "deadbeef").len(), 1);
    disk.restart();
    let streams = Streams::new(1, disk);
    assert_eq!((files(&streams.server.disk, "deadbeef").len(), &streams.server.logs[..]), (0, &[][..]));
}

fn key() -> Options {
    options(Some("key"), None, CHACHA)
}

/// What a consumer had that starts where nobody could know any more.
#[test]
fn a_consumer_whose_file_is_damaged_passes_nothing_over() {
    for (policy, first) in [("new", 3), ("last", 2), ("last_per_subject", 2), ("all", 1)] {
        let mut streams = Streams::with(1, key(), InstantDisk::default());
        streams.make_stream("S", "");
        streams.store("S", 1);
        streams.store("S", 2);
        streams.server.now.wall = streams.server.now.wall + Duration::from_secs(1);
        streams.make_consumer("C", policy);
        streams.server.now.wall = streams.server.now.wall + Duration::from_secs(1);
        for sequence in 3..=5 {
            streams.store("S", sequence);
        }
        let got = streams.next("C");
        assert!(got.contains(&format!("text {first}")), "{policy}: {got}");
        let mut streams = streams.rewriting(Fault::writing("nothing", DiskErrorKind::Io, 0));
        let [file] = &files(&streams.server.disk, "/consumers/")[..] else { panic!("one file") };
        *streams.server.disk.content_mut(file).unwrap().last_mut().unwrap() ^= 1;
        let mut told = false;
        for _ in 0..2 {
            let mut disk = streams.server.disk;
            disk.restart();
            streams = Streams::with(1, key(), disk);
            // The first start may have written the file again, as what was in it may have been plain text.
            told |= streams.says("what it may not have is delivered again");
        }
        assert!(told, "{policy}");
        for sequence in first..=5 {
            let got = streams.next("C");
            assert!(got.contains(&format!("text {sequence}")), "{policy} {sequence}: {got}");
            streams.acknowledge(&got);
        }
        // From here on it is known again how far it is.
        streams.store("S", 6);
        let mut disk = streams.server.disk;
        disk.restart();
        let mut streams = Streams::with(1, key(), disk);
        let got = streams.next("C");
        assert!(got.contains("text 6"), "{policy}: {got}");
    }
}

/// Wherever a bit of it has rotted, in the number of the key too, nobody waits for another key.
#[test]
fn a_consumer_whose_sealed_file_is_damaged_works() {
    for place in [0, 8, 12, 14, 20, 60] {
        let mut streams = Streams::with(1, key(), InstantDisk::default());
        streams.make_stream("S", "");
        streams.make_consumer("C", "all");
        for sequence in 1..=2 {
            streams.store("S", sequence);
        }
        let got = streams.next("C");
        streams.acknowledge(&got);
        let streams = streams.rewriting(Fault::writing("nothing", DiskErrorKind::Io, 0));
        let mut disk = streams.server.disk;
        let [file] = &files(&disk, "/consumers/")[..] else { panic!("one file") };
        disk.content_mut(file).unwrap()[place] ^= 1;
        disk.restart();
        let mut streams = Streams::with(1, key(), disk);
        assert!(
            streams.says("what it may not have is delivered again"),
            "{place}: {:?}",
            streams.server.logs
        );
        for sequence in 1..=2 {
            let got = streams.next("C");
            assert!(got.contains(&format!("text {sequence}")), "{place}: {got}");
            streams.acknowledge(&got);
        }
        assert_eq!(streams.healthz().0, 200);
    }
}

/// Says of an entry of this owner in a journal that it is sealed with a key of another epoch.
fn lock_entries(disk: &mut InstantDisk, owner: &str) -> usize {
    let owner = u64::from_str_radix(owner, 16).unwrap();
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let short = |bytes: &[u8], at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut locked = 0;
    for path in files(disk, "natrix/journal/") {
        let bytes = disk.content_mut(&path).unwrap();
        let (segment, seed) = (number(bytes, 8), crc32c::crc32c(&bytes[16..24]));
        let mut at = 1024;
        while at + 48 <= bytes.len() && bytes[at..at + 4] == *b"nBat" {
            let end = at + 48 + short(bytes, at + 4) as usize;
            let (mut entry, mut headers) = (at + 48, 0);
            while entry < end {
                let len = short(bytes, entry + 20) as usize;
                if number(bytes, entry) == owner && len > 20 {
                    bytes[entry + 28..entry + 32].copy_from_slice(&77_u32.to_le_bytes());
                    let crc = crc32c::crc32c_append(seed, &bytes[entry..entry + 24]);
                    let crc = crc32c::crc32c_append(crc, &bytes[entry + 28..entry + 28 + len]);
                    bytes[entry + 24..entry + 28].copy_from_slice(&crc.to_le_bytes());
                    locked += 1;
                }
                headers = crc32c::crc32c_append(headers, &bytes[entry..entry + 28]);
                entry += 28 + len;
            }
            bytes[at + 36..at + 40].copy_from_slice(&headers.to_le_bytes());
            let place = crc32c::crc32c_append(seed, &segment.to_le_bytes());
            let place = crc32c::crc32c_append(place, &(at as u32).to_le_bytes());
            let crc = crc32c::crc32c_append(place, &bytes[at..at + 44]);
            bytes[at + 44..at + 48].copy_from_slice(&crc.to_le_bytes());
            at = end.next_multiple_of(8);
        }
    }
    locked
}

#[test]
fn a_consumer_whose_entries_are_locked_is_out_of_use_and_says_so() {
    let mut streams = Streams::with(1, key(), InstantDisk::default());
    streams.make_stream("S", r#","retention":"interest""#);
    streams.make_consumer("C", "all");
    streams.make_consumer("other", "all");
    for sequence in 1..=3 {
        streams.store("S", sequence);
    }
    for name in ["C", "other"] {
        let got = streams.next(name);
        streams.acknowledge(&got);
    }
    let mut streams = streams.rewriting(Fault::writing("nothing", DiskErrorKind::Io, 0));
    let owners = files(&streams.server.disk, "/consumers/");
    assert_eq!(owners.len(), 2);
    let got = streams.next("C");
    streams.acknowledge(&got);
    // Only this one has anything in the journal since.
    let mut disk = streams.server.disk;
    let locked: usize = owners.iter().map(|path| lock_entries(&mut disk, path.name())).sum();
    assert!(locked > 0);
    disk.restart();
    let mut streams = Streams::with(1, key(), disk);
    assert!(streams.says("entries of consumer \"C\""), "{:?}", streams.server.logs);
    let info = streams.ask("$JS.API.CONSUMER.INFO.S.C", "");
    assert!(info.contains("consumer not found"), "{info}");
    assert!(streams.next("C").contains("503"));
    assert!(streams.ask("$JS.API.CONSUMER.LIST.S", "").contains(r#""name":"other""#));
    let got = streams.next("other");
    assert!(got.contains("text 2"), "{got}");
    streams.acknowledge(&got);
    let (code, text) = streams.healthz();
    assert!(code == 503 && text.contains("its consumer"), "{text}");
    // Nothing goes that it may want.
    assert!(streams.ask("$JS.API.STREAM.INFO.S", "").contains(r#""messages":2"#));
    assert!(streams.ask("$JS.API.CONSUMER.DELETE.S.C", "").contains(r#""success":true"#));
}

#[test]
fn what_a_lost_consumer_may_want_is_kept() {
    let mut streams = Streams::new(1, InstantDisk::default());
    streams.make_stream("S", r#","retention":"interest""#);
    streams.make_consumer("lost", "all");
    streams.make_consumer("other", "all");
    for sequence in 1..=3 {
        streams.store("S", sequence);
    }
    let meta = files(&streams.server.disk, "natrix/meta/");
    let kept: Vec<_> = meta.iter().map(|path| streams.server.disk.content(path).unwrap().to_vec()).collect();
    flip(&mut streams.server.disk, "natrix/meta/", r#"durable_name":"lost"#);
    for _ in 0..2 {
        streams = streams.restart();
        assert!(streams.ask("$JS.API.CONSUMER.INFO.S.lost", "").contains("consumer not found"));
        let got = streams.next("other");
        streams.acknowledge(&got);
        assert!(streams.ask("$JS.API.STREAM.INFO.S", "").contains(r#""messages":3"#));
    }
    // The operator puts back what it was.
    let mut disk = streams.server.disk;
    for path in files(&disk, "natrix/meta/").into_iter().chain(files(&disk, "natrix/catalogue")) {
        disk.execute(Submission { token: Token(0), request: Request::Remove { path } }).result.unwrap();
    }
    for (path, bytes) in meta.into_iter().zip(kept) {
        let request = Request::Replace { path, data: vec![bytes.into()] };
        disk.execute(Submission { token: Token(0), request }).result.unwrap();
    }
    disk.restart();
    let mut streams = Streams::new(1, disk);
    for sequence in 1..=3 {
        let got = streams.next("lost");
        assert!(got.contains(&format!("text {sequence}")), "{got}");
        streams.acknowledge(&got);
    }
    assert!(streams.ask("$JS.API.STREAM.INFO.S", "").contains(r#""messages":1"#));
}

/// Each planted bug of this room is caught.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_caught() {
    use crate::planted::{Bug, arm, disarm};
    let caught: [(Bug, fn()); 4] = [
        (Bug::KeptDamageIsLocked, a_consumer_whose_sealed_file_is_damaged_works),
        (Bug::JournalLastUnvouched, a_stream_that_was_made_last_stays_on_disk_when_its_entry_is_damaged),
        (Bug::JsStraysRemoved, a_stream_whose_entry_in_the_catalogues_journal_is_damaged_stays_on_disk),
        (Bug::ConsumerLossSkips, a_consumer_whose_file_is_damaged_passes_nothing_over),
    ];
    for (bug, test) in caught {
        arm(Some(bug), 0, 1, 1);
        let result = std::panic::catch_unwind(test);
        disarm();
        assert!(result.is_err(), "{bug:?} goes unnoticed");
    }
}

/// Without its key a sealed stream isn't there, and another may have its name. With the key again one of them is told and left as it
/// is, and is back when the other is deleted: nothing of either is lost.
#[test]
fn of_two_streams_with_one_name_none_is_lost() {
    let mut streams = Streams::with(1, key(), InstantDisk::default());
    streams.make_stream("S", "");
    for sequence in 1..=3 {
        streams.store("S", sequence);
    }
    let restart = |streams: Streams, options: Options| {
        let mut disk = streams.server.disk;
        disk.restart();
        Streams::with(1, options, disk)
    };
    let mut streams = restart(streams, options(None, None, CHACHA));
    assert!(streams.says("encryption not enabled"), "{:?}", streams.server.logs);
    streams.make_stream("S", "");
    streams.store("S", 1);
    let mut seen = Vec::new();
    for _ in 0..2 {
        streams = restart(streams, key());
        assert!(streams.says("'$G > S' is there twice"), "{:?}", streams.server.logs);
        let info = streams.ask("$JS.API.STREAM.INFO.S", "");
        seen.push(["1,", "3,"].map(|messages| info.contains(&format!(r#""messages":{messages}"#))));
        assert_eq!(seen[0].iter().filter(|is| **is).count(), 1, "{info}");
        assert_eq!(seen[0], seen[seen.len() - 1], "the same at each start");
        streams.wear_catalogue();
    }
    assert!(streams.ask("$JS.API.STREAM.DELETE.S", "").contains(r#""success":true"#));
    let mut streams = restart(streams, key());
    let other = if seen[0][0] { "3," } else { "1," };
    let info = streams.ask("$JS.API.STREAM.INFO.S", "");
    assert!(info.contains(&format!(r#""messages":{other}"#)) && streams.server.logs.is_empty(), "{info}");
}
