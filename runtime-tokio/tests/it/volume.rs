//! Streams in files under one journal, on a real disk: killed again and again, and nothing that was committed is missing.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant as Clock;

use bytes::Bytes;
use natrix_core::disk::{Completion, FilePath};
use natrix_core::rng::Rng;
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::change::{Change, NewMessage};
use natrix_core::storage::file::store::{FileStore, FileStoreConfig, StoreEvent};
use natrix_core::storage::file::{Config, Event as FilesEvent, Fetch};
use natrix_core::storage::volume::{Volume, VolumeEvent};
use natrix_core::storage::{Compression, Message, OwnerId, StoreConfig, journal};
use natrix_core::time::{Instant, WallTime};
use natrix_runtime_tokio::disk::RealDisk;

use crate::support::PATIENCE;

const STREAMS: u64 = 3;

/// A volume, and the disk that it works on.
struct World {
    volume: Volume<FileStore>,
    disk: RealDisk,
    completions: Receiver<Completion>,
    begun: Clock,
    ready: bool,
}

fn owner(stream: u64) -> OwnerId {
    OwnerId(1000 + stream)
}

impl World {
    /// Opens what is in the folder, and waits until all of it is there.
    fn open(folder: &Path, seed: u64) -> Self {
        let (sender, completions) = channel();
        let completed = move |completion| drop(sender.send(completion));
        let disk = RealDisk::open(folder, 2, completed).unwrap();
        let mut rng = Rng::from_u64(seed);
        // Small, so that segments are recycled and blocks closed all the time.
        let config = journal::Config {
            segment_size: 64 << 10,
            max_batch: 8 << 10,
            copy_below: 1 << 10,
            ..journal::Config::new(FilePath::new("journal").unwrap())
        };
        let mut volume = Volume::open(config, rng.child(), []);
        for stream in 0..STREAMS {
            let files = Config {
                directory: FilePath::new(&format!("streams/{stream}")).unwrap(),
                owner: owner(stream),
                block_size: 32 << 10,
                compression: if stream == 1 { Compression::S2 } else { Compression::None },
                first_sequence: 1,
                cache: 64 << 10,
                behind: 64 << 10,
            };
            let limits =
                StoreConfig { max_messages: if stream == 2 { 500 } else { 0 }, ..StoreConfig::default() };
            let config = FileStoreConfig { files, stream: limits, index_budget: 64 << 10 };
            let (keys, rng) = (Keys::none(owner(stream)), rng.child());
            volume.add_with(owner(stream), |disk| FileStore::open(config, keys, rng, disk));
        }
        let begun = Clock::now();
        let mut world = World { volume, disk, completions, begun, ready: false };
        while !world.is_ready() {
            world.step();
        }
        world
    }

    fn is_ready(&self) -> bool {
        let store = |stream| self.volume.store(owner(stream)).is_some_and(FileStore::is_ready);
        self.ready && (0..STREAMS).all(store)
    }

    fn now(&self) -> Instant {
        Instant::from_nanos(self.begun.elapsed().as_nanos() as u64)
    }

    /// Does what there is to do, waits for one answer of the disk, and returns what was applied.
    fn step(&mut self) -> Vec<(OwnerId, u64)> {
        let now = self.now();
        self.volume.advance(now);
        let mut asked = false;
        while let Some(submission) = self.volume.poll_disk() {
            self.disk.submit(submission);
            asked = true;
        }
        let wait = if asked { PATIENCE } else { std::time::Duration::from_millis(10) };
        if let Ok(completion) = self.completions.recv_timeout(wait) {
            let now = self.now();
            self.volume.handle_disk(now, completion);
        }
        let mut applied = Vec::new();
        while let Some(event) = self.volume.poll_event() {
            match event {
                VolumeEvent::Journal(journal::Event::Ready { .. }) => self.ready = true,
                VolumeEvent::Journal(event @ (journal::Event::Damaged(_) | journal::Event::Failed(_))) => {
                    panic!("{event:?}");
                }
                VolumeEvent::Store(owner, StoreEvent::Files(event)) => match event {
                    FilesEvent::TornTail { .. } => {}
                    event => panic!("{owner:?} {event:?}"),
                },
                VolumeEvent::Applied(owner, position) => applied.push((owner, position.0)),
                _ => {}
            }
        }
        applied
    }

    fn load(&mut self, stream: u64, sequence: u64) -> Option<Message> {
        let mut pending = None;
        loop {
            if pending.is_none() {
                let loaded = self.volume.with_store(owner(stream), |store, disk| store.load(sequence, disk));
                match loaded.unwrap() {
                    Ok(None) => return None,
                    Ok(Some(Fetch::Ready(message))) => return Some(message.unwrap()),
                    Ok(Some(Fetch::Pending(id))) => pending = Some(id),
                    Err(_) => {}
                }
            }
            while let Some(submission) = self.volume.poll_disk() {
                self.disk.submit(submission);
            }
            if let Ok(completion) = self.completions.recv_timeout(PATIENCE) {
                let now = self.now();
                self.volume.handle_disk(now, completion);
            }
            while let Some(event) = self.volume.poll_event() {
                if let VolumeEvent::Store(_, StoreEvent::Read(id, message)) = event
                    && Some(id) == pending
                {
                    return Some(message.unwrap());
                }
            }
        }
    }

    fn last_sequence(&mut self, stream: u64) -> u64 {
        loop {
            let state = self.volume.with_store(owner(stream), |store, disk| store.state(disk));
            match state.unwrap() {
                Ok(state) => return state.last_sequence,
                Err(_) => drop(self.step()),
            }
        }
    }
}

/// What message `sequence` of a stream says.
fn payload(stream: u64, sequence: u64) -> Bytes {
    let mut text = format!("stream {stream} message {sequence} ").into_bytes();
    text.resize(100 + (sequence % 7) as usize * 60, b'.');
    Bytes::from(text)
}

/// Run by [`what_was_committed_is_there_after_kill_9`] in a process of its own, which that ends; alone it has nothing to do.
#[test]
fn a_volume_that_writes_until_it_is_killed() {
    let Some(folder) = std::env::var_os("NATRIX_VOLUME_TEST_FOLDER") else { return };
    let mut world = World::open(Path::new(&folder), u64::from(std::process::id()));
    let mut next: Vec<u64> = (0..STREAMS).map(|stream| world.last_sequence(stream) + 1).collect();
    let mut in_flight = std::collections::VecDeque::new();
    let mut round = 0;
    loop {
        while in_flight.len() < 50 {
            round += 1;
            let stream = round % STREAMS;
            let sequence = next[stream as usize];
            let change = Change::Store(NewMessage {
                sequence,
                time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + sequence as i64),
                subject: Bytes::from_static(b"orders"),
                payload: payload(stream, sequence),
                ..NewMessage::default()
            });
            let (kind, payload) = change.encode();
            let Ok(position) = world.volume.propose(owner(stream), kind, payload) else { break };
            next[stream as usize] += 1;
            in_flight.push_back((owner(stream), position.0, stream, sequence));
        }
        for (owner, through) in world.step() {
            let done = |entry: &(OwnerId, u64, u64, u64)| entry.0 == owner && entry.1 <= through;
            let mut out = std::io::stdout();
            for (_, _, stream, sequence) in in_flight.iter().filter(|entry| done(entry)) {
                writeln!(out, "stored {stream} {sequence}").unwrap();
            }
            out.flush().unwrap();
            in_flight.retain(|entry| !done(entry));
        }
    }
}

#[test]
fn what_was_committed_is_there_after_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = [0; STREAMS as usize];
    for round in 0..6 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "volume::a_volume_that_writes_until_it_is_killed", "--nocapture"])
            .env("NATRIX_VOLUME_TEST_FOLDER", folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut heard = 0;
        let mut hear = |line: &str| {
            let words: Vec<u64> = line
                .strip_prefix("stored ")
                .map_or(Vec::new(), |rest| rest.split(' ').map(|n| n.parse().unwrap()).collect());
            if let [stream, sequence] = words[..] {
                let last = &mut acknowledged[stream as usize];
                assert_eq!(sequence, *last + 1, "a sequence was used twice, or one was skipped");
                *last = sequence;
                return 1;
            }
            0
        };
        while heard < 300 + round * 400 {
            heard += hear(&lines.next().expect("it writes until it is killed").unwrap());
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // The last line may be half a line.
        let late: Vec<String> = lines.map_while(Result::ok).collect();
        for line in late.iter().take(late.len().saturating_sub(1)) {
            hear(line);
        }
        let mut world = World::open(folder.path(), round);
        for stream in 0..STREAMS {
            let last = world.last_sequence(stream);
            assert!(
                last >= acknowledged[stream as usize],
                "stream {stream} ends at {last}: {acknowledged:?}"
            );
            let first = if stream == 2 { last.saturating_sub(499).max(1) } else { 1 };
            for sequence in first..=last {
                let message = world.load(stream, sequence).expect("what was committed is there");
                assert_eq!(message.payload, payload(stream, sequence));
            }
            acknowledged[stream as usize] = last;
        }
    }
}
