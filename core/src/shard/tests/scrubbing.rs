//! A server that reads its streams' blocks in the background.

use super::power::Power;
use super::streaming::Streams;
use super::*;
use crate::config::JetStreamOptions;
use crate::disk::FilePath;

const RATE: u64 = 64 << 10;

fn with_scrub(interval: Option<Duration>) -> Streams {
    let settings =
        JetStreamOptions { scrub_interval: interval, scrub_rate: RATE, ..JetStreamOptions::default() };
    let options = Options { jetstream: Some(settings), ..Options::default() };
    Streams::with(1, options, InstantDisk::default())
}

/// Fills a stream with blocks of 32 kB.
fn fill(streams: &mut Streams, name: &str) {
    let config = format!(r#"{{"name":"{name}","subjects":["{name}.>"],"max_bytes":120000}}"#);
    let created = streams.ask(&format!("$JS.API.STREAM.CREATE.{name}"), &config);
    assert!(created.contains(r#""did_create":true"#), "{created}");
    for _ in 0..80 {
        streams.ask(&format!("{name}.a"), &"x".repeat(1000));
    }
}

fn closed_blocks(streams: &Streams) -> Vec<FilePath> {
    let is_first = |path: &&FilePath| path.to_string().ends_with("/00000001.blk");
    streams.server.disk.paths().filter(is_first).cloned().collect()
}

/// Flips a bit in the middle of a block.
fn rot(streams: &mut Streams, path: &FilePath) {
    streams.server.disk.content_mut(path).expect("it is there")[16_000] ^= 4;
}

/// Lets time pass, and returns how many requests of the disk there were at most in a second.
fn pass(streams: &mut Streams, seconds: u64) -> usize {
    streams.server.power = Some(Power::lasting(&streams.server.disk, usize::MAX));
    let (mut before, mut most) = (0, 0);
    for at in 0..seconds {
        streams.server.advance(Duration::from_secs(1));
        if at % 60 == 0 {
            streams.server.send(streams.client, b"PONG\r\n");
            streams.server.took(streams.client);
        }
        let requests = streams.server.power.as_ref().map_or(0, Power::requests);
        most = most.max(requests - before);
        before = requests;
    }
    streams.server.power = None;
    most
}

#[test]
fn what_rots_in_a_block_is_told_while_the_stream_is_in_use() {
    let mut streams = with_scrub(Some(Duration::from_secs(600)));
    let names: Vec<String> = (0..8).map(|at| format!("S{at}")).collect();
    for name in &names {
        fill(&mut streams, name);
    }
    let blocks = closed_blocks(&streams);
    assert_eq!(blocks.len(), names.len(), "{blocks:?}");
    pass(&mut streams, 700);
    assert_eq!(streams.server.logs, [""; 0], "nothing is wrong yet");

    rot(&mut streams, &blocks[3]);
    // One stream's blocks at a time: two of 32 kB in a second at most, and one of them a second time.
    let most = pass(&mut streams, 700);
    assert!(most <= 4, "{most} requests in a second");
    let logs = std::mem::take(&mut streams.server.logs);
    assert_eq!(logs.len(), 1, "{logs:?}");
    let named =
        |name: &&String| logs[0].contains(&format!("JetStream stream '$G > {name}': block 1 is damaged"));
    let name = names.iter().find(named).expect("it says which stream").clone();
    let info = |streams: &mut Streams, name: &str| streams.ask(&format!("$JS.API.STREAM.INFO.{name}"), "");
    let told = info(&mut streams, &name);
    assert!(told.contains(r#""messages":79"#) && told.contains(r#""lost":{"msgs":["#), "{told}");
    for other in names.iter().filter(|other| **other != name) {
        assert!(!info(&mut streams, other).contains("lost"), "{other}");
    }
    // The stream goes on, and the next pass has nothing new to say.
    assert!(streams.ask(&format!("{name}.a"), "more").contains(r#""seq":81"#));
    pass(&mut streams, 700);
    assert_eq!(streams.server.logs, [""; 0]);
    let mut streams = streams.restart();
    let again = info(&mut streams, &name);
    assert!(again.contains(r#""messages":80"#) && again.contains(r#""lost":{"msgs":["#), "{again}");
}

#[test]
fn a_stream_that_is_deleted_while_it_is_read_ends_nothing() {
    let mut streams = with_scrub(Some(Duration::from_secs(600)));
    for name in ["A", "B", "C"] {
        fill(&mut streams, name);
    }
    let blocks = closed_blocks(&streams);
    for path in &blocks {
        rot(&mut streams, path);
    }
    for _ in 0..700 {
        pass(&mut streams, 1);
        if !streams.server.logs.is_empty() {
            break;
        }
    }
    let first = streams.server.logs.first().expect("one is found first").clone();
    let name = ["A", "B", "C"].into_iter().find(|name| first.contains(&format!("> {name}'"))).unwrap();
    streams.ask(&format!("$JS.API.STREAM.DELETE.{name}"), "");
    pass(&mut streams, 10);
    assert_eq!(streams.server.logs.len(), 3, "{:?}", streams.server.logs);
}

#[test]
fn who_says_never_has_nothing_read() {
    let mut streams = with_scrub(None);
    fill(&mut streams, "S");
    let blocks = closed_blocks(&streams);
    rot(&mut streams, &blocks[0]);
    // The journal says that its newest batch is durable.
    pass(&mut streams, 1);
    assert_eq!(pass(&mut streams, 4000), 0);
    assert_eq!(streams.server.logs, [""; 0]);
}
