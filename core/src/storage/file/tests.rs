//! Block files on a disk that does what it is told, against a list of what was appended.

mod crash_disk;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use self::crash_disk::CrashDisk;
use super::api::{Config, Event, Failure, Fetch};
use super::blocks::{BlockFiles, block_path, index_path};
use crate::disk::{DiskQueue, FilePath};
use crate::rng::Rng;
use crate::storage::block::Record;
use crate::storage::block::key::Keys;
use crate::storage::block::walk::WalkError;
use crate::storage::{Cipher, Compression, Message, OwnerId, Position};
use crate::time::WallTime;

const OWNER: OwnerId = OwnerId(0xfeed_0bad_cafe_0001);
const CODECS: [(Cipher, Compression); 6] = [
    (Cipher::None, Compression::None),
    (Cipher::None, Compression::S2),
    (Cipher::ChaCha20Poly1305, Compression::None),
    (Cipher::ChaCha20Poly1305, Compression::S2),
    (Cipher::Aes256Gcm, Compression::None),
    (Cipher::Aes256Gcm, Compression::S2),
];

/// What was applied, in order.
#[derive(Clone, Debug)]
enum Entry {
    Message(Message),
    Deleted(u64, u64),
    Skipped(u64, u64),
}

struct World {
    disk: CrashDisk,
    queue: DiskQueue<u64>,
    files: BlockFiles,
    config: Config,
    keys: Keys,
    rng: Rng,
    entries: Vec<Entry>,
    covered: Position,
    events: Vec<Event>,
}

fn keys(cipher: Cipher, server_key: &[u8]) -> Keys {
    let mut keys = Keys::none(OWNER);
    if cipher != Cipher::None {
        keys.add(1, cipher, server_key);
    }
    keys
}

impl World {
    fn new(codec: (Cipher, Compression), block_size: u32) -> Self {
        let config = Config {
            directory: FilePath::new("streams/S").unwrap(),
            owner: OWNER,
            block_size,
            compression: codec.1,
            first_sequence: 1,
        };
        let (mut queue, mut rng, keys) =
            (DiskQueue::default(), Rng::from_u64(1), keys(codec.0, b"server key"));
        let files = BlockFiles::open(config.clone(), keys.clone(), rng.child(), &mut queue);
        let disk = CrashDisk::default();
        let (entries, events) = (Vec::new(), Vec::new());
        let mut world =
            World { disk, queue, files, config, keys, rng, entries, covered: Position(0), events };
        world.pump(usize::MAX);
        world
    }

    /// Lets the disk answer that many requests.
    fn pump(&mut self, most: usize) {
        for _ in 0..most {
            let Some(submission) = self.queue.poll() else { break };
            let (tag, result) = self.queue.complete(self.disk.execute(submission)).unwrap();
            self.files.handle_disk(tag, result, &mut self.queue);
            while let Some(event) = self.files.poll_event() {
                if let Event::Covered(position) = event {
                    assert!(position > self.covered);
                    self.covered = position;
                }
                self.events.push(event);
            }
        }
    }

    fn restart(&mut self) {
        self.restart_within(usize::MAX);
    }

    /// Restarts, with the disk answering that many requests.
    fn restart_within(&mut self, most: usize) {
        self.disk.restart();
        self.queue = DiskQueue::default();
        self.events.clear();
        let rng = self.rng.child();
        self.files = BlockFiles::open(self.config.clone(), self.keys.clone(), rng, &mut self.queue);
        self.pump(most);
    }

    fn applied(&mut self, entry: Entry) {
        self.entries.push(entry);
        self.files.set_applied(Position(self.entries.len() as u64));
    }

    fn append(&mut self, size: usize) {
        let sequence = self.files.next_sequence();
        let time = 1_700_000_000_000_000_000 + self.rng.below(1 << 34) as i64;
        let message = Message {
            sequence,
            time: WallTime::from_unix_nanos(time),
            subject: Bytes::from(format!("orders.{}", sequence % 5)),
            headers: if size.is_multiple_of(3) {
                Bytes::from_static(b"NATS/1.0\r\n\r\n")
            } else {
                Bytes::new()
            },
            payload: Bytes::from(vec![sequence as u8; size]),
        };
        let record = Record {
            sequence,
            time,
            subject: &message.subject,
            headers: &message.headers,
            payload: &message.payload,
            ttl: 0,
            erased: false,
        };
        self.files.append(&record).unwrap();
        self.applied(Entry::Message(message));
    }

    fn cover(&mut self) {
        self.files.cover(&mut self.queue);
        self.pump(usize::MAX);
    }

    fn read(&mut self, sequence: u64) -> Option<Message> {
        match self.files.read(sequence, &mut self.queue) {
            Fetch::None => None,
            Fetch::Ready(result) => result.ok(),
            Fetch::Pending(id) => {
                self.pump(usize::MAX);
                let answer = self.events.iter().find_map(|event| match event {
                    Event::Read(read, result) if *read == id => Some(result.clone().ok()),
                    _ => None,
                });
                answer.expect("it is answered")
            }
        }
    }

    /// What is here is what was applied, to the message.
    fn check(&mut self) {
        let mut next = 1;
        let (mut messages, mut deleted) = (Vec::new(), Vec::new());
        for entry in self.entries.clone() {
            match entry {
                Entry::Message(message) => {
                    next = message.sequence + 1;
                    messages.push(message);
                }
                Entry::Deleted(first, last) => deleted.push((first, last)),
                Entry::Skipped(first, count) => next = first + count,
            }
        }
        assert_eq!(self.files.next_sequence(), next);
        let blocks = self.files.blocks();
        let indexes = || blocks.iter().filter_map(|block| self.files.index(*block));
        let sequences: Vec<_> =
            indexes().flat_map(|index| index.iter().map(|(sequence, _)| sequence)).collect();
        assert!(messages.iter().map(|message| message.sequence).eq(sequences));
        assert!(indexes().flat_map(|index| index.deleted().to_vec()).eq(deleted));
        for message in messages {
            assert_eq!(self.read(message.sequence), Some(message));
        }
        assert_eq!(self.read(next), None);
    }

    fn lost(&self) -> Vec<(u64, u64)> {
        let lost = |event: &Event| match event {
            Event::Damaged { damage, .. } => damage.sequences,
            Event::Lost { first, last } => Some((*first, *last)),
            _ => None,
        };
        self.events.iter().filter_map(lost).collect()
    }

    /// A store of some closed blocks, all of it durable.
    fn filled(codec: (Cipher, Compression)) -> Self {
        let mut world = World::new(codec, 4096);
        for _ in 0..200 {
            world.append(100);
            world.files.advance(&mut world.queue);
            world.pump(usize::MAX);
        }
        world.cover();
        assert_eq!(world.covered, Position(200));
        assert!(world.files.blocks().len() > 2, "{:?}", world.files.blocks());
        world
    }
}

#[derive(Clone, Debug)]
enum Op {
    Append(usize),
    Skip(u64),
    Delete(u64, u64),
    Advance,
    Cover,
    Pump(usize),
    Restart,
    Check,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        12 => (0..700usize).prop_map(Op::Append),
        1 => (1..1000u64).prop_map(Op::Skip),
        1 => (1..50u64, 0..5u64).prop_map(|(first, more)| Op::Delete(first, first + more)),
        4 => Just(Op::Advance),
        2 => Just(Op::Cover),
        6 => (1..6usize).prop_map(Op::Pump),
        1 => Just(Op::Restart),
        1 => Just(Op::Check),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn block_files_are_the_list_of_what_was_applied(ops in vec(op(), 1..150), codec in 0..6usize) {
        let mut world = World::new(CODECS[codec], 3000);
        for op in ops {
            match op {
                Op::Append(size) => world.append(size),
                Op::Skip(count) => {
                    let first = world.files.next_sequence();
                    world.files.skipped(first, count);
                    world.applied(Entry::Skipped(first, count));
                }
                Op::Delete(first, last) => {
                    world.files.deleted(&[(first, last)]);
                    world.applied(Entry::Deleted(first, last));
                }
                Op::Advance => world.files.advance(&mut world.queue),
                Op::Cover => world.files.cover(&mut world.queue),
                Op::Pump(most) => world.pump(most),
                Op::Check => world.check(),
                Op::Restart => {
                    world.restart();
                    let applied = world.files.applied();
                    prop_assert!(world.files.is_ready() && applied >= world.covered, "{:?}", world.events);
                    prop_assert_eq!(world.lost(), vec![]);
                    // What isn't here is replayed; here it is dropped.
                    world.entries.truncate(applied.0 as usize);
                    world.covered = applied;
                    world.check();
                }
            }
        }
        world.cover();
        prop_assert_eq!(world.covered, Position(world.entries.len() as u64));
        world.restart();
        world.check();
    }
}

#[test]
fn an_index_that_is_missing_damaged_or_stale_is_made_anew() {
    for codec in CODECS {
        let mut world = World::filled(codec);
        let directory = world.config.directory.clone();
        let path = index_path(&directory, 2);
        let good = world.disk.content(&path).unwrap().to_vec();
        let other = world.disk.content(&index_path(&directory, 1)).unwrap().to_vec();
        let mut damaged = good.clone();
        damaged[100] ^= 1;
        for bytes in [Vec::new(), damaged, other, good] {
            *world.disk.content_mut(&path).unwrap() = bytes;
            world.restart();
            assert_eq!((world.lost(), world.files.applied()), (vec![], Position(200)));
            world.check();
        }
    }
}

#[test]
fn an_older_version_of_a_block_is_known_by_its_index_and_what_it_lacks_is_told() {
    let mut world = World::filled(CODECS[0]);
    let path = block_path(&world.config.directory, 2);
    let index = world.files.index(2).unwrap();
    let (at, (from, slot)) = index.iter().enumerate().nth(index.len() - 5).unwrap();
    assert!(at > 5);
    let lost = (from, index.next_sequence - 1);
    let len = slot.offset() as usize;
    world.disk.content_mut(&path).unwrap().truncate(len);
    world.restart();
    assert_eq!(world.lost(), [lost]);
    assert!(world.read(lost.0 - 1).is_some() && world.read(lost.1 + 1).is_some());
    assert_eq!(world.read(lost.0), None);
}

#[test]
fn a_clean_restart_reads_no_closed_block() {
    let mut world = World::filled(CODECS[0]);
    let first = block_path(&world.config.directory, 1);
    // All but the end, which ties the index to it.
    let content = world.disk.content_mut(&first).unwrap();
    let end = content.len() - 4;
    content[..end].fill(0xee);
    world.restart();
    assert!(world.files.is_ready());
    assert_eq!(world.lost(), vec![]);
    // The damage is met when it is read, and not served.
    assert_eq!(world.read(1), None);
    assert!(world.read(150).is_some());
}

#[test]
fn damage_in_a_closed_block_is_told_and_costs_its_record() {
    let mut world = World::filled(CODECS[0]);
    let directory = world.config.directory.clone();
    let slot = *world.files.index(2).unwrap().iter().nth(3).map(|(_, slot)| slot).unwrap();
    let sequence = world.files.index(2).unwrap().iter().nth(3).unwrap().0;
    world.disk.content_mut(&block_path(&directory, 2)).unwrap()[slot.offset() as usize + 30] ^= 1;
    world.disk.content_mut(&index_path(&directory, 2)).unwrap().clear();
    let before = world.disk.content(&block_path(&directory, 2)).unwrap().to_vec();
    world.restart();
    assert_eq!(world.lost(), [(sequence, sequence)]);
    assert_eq!(world.read(sequence), None);
    assert!(world.read(sequence - 1).is_some() && world.read(sequence + 1).is_some());
    assert_eq!(world.disk.content(&block_path(&directory, 2)), Some(&before[..]), "it is left as it is");
}

#[test]
fn a_missing_or_swapped_block_is_a_lost_range() {
    for swapped in [false, true] {
        let mut world = World::filled(CODECS[0]);
        let directory = world.config.directory.clone();
        let lost = {
            let index = world.files.index(2).unwrap();
            (index.iter().next().unwrap().0, index.next_sequence - 1)
        };
        let (path, other) = (block_path(&directory, 2), block_path(&directory, 1));
        if swapped {
            let bytes = world.disk.content(&other).unwrap().to_vec();
            *world.disk.content_mut(&path).unwrap() = bytes;
        } else {
            // A name that isn't ours is left alone.
            let bytes = world.disk.content(&path).unwrap().to_vec();
            let foreign = directory.join("notes.txt");
            let mut queue = DiskQueue::<u64>::default();
            queue.submit(1, crate::disk::Request::Rename { from: path.clone(), to: foreign.clone() });
            world.disk.execute(queue.poll().unwrap());
            assert_eq!(world.disk.content(&foreign), Some(&bytes[..]));
        }
        world.restart();
        assert_eq!(world.lost(), [lost]);
        let foreign = if swapped { path } else { directory.join("notes.txt") };
        assert!(world.events.contains(&Event::Foreign { path: foreign.to_string() }));
        assert!(world.disk.content(&foreign).is_some());
        assert_eq!(world.read(lost.0), None);
        assert!(world.read(lost.0 - 1).is_some() && world.read(lost.1 + 1).is_some());
    }
}

#[test]
fn the_wrong_key_names_the_file_and_changes_nothing() {
    let mut world = World::filled((Cipher::Aes256Gcm, Compression::S2));
    let directory = world.config.directory.clone();
    let content = |world: &World| -> Vec<_> {
        world.disk.paths().map(|path| world.disk.content(path).unwrap().to_vec()).collect()
    };
    let before = content(&world);
    let right = std::mem::replace(&mut world.keys, keys(Cipher::Aes256Gcm, b"another"));
    world.restart();
    let path = block_path(&directory, 1).to_string();
    let failure = Failure::Block { path, error: WalkError::WrongKey { block: 1, epoch: 1 } };
    assert_eq!(world.events, [Event::Failed(failure)]);
    assert_eq!(content(&world), before);
    world.keys = right;
    world.restart();
    world.check();
    // A new epoch: old blocks are read with the old key, new ones are written with the new.
    world.keys.add(2, Cipher::ChaCha20Poly1305, b"another");
    world.restart();
    world.append(10);
    world.cover();
    world.restart();
    world.check();
}

#[test]
fn nothing_is_covered_before_it_is_synced() {
    let mut world = World::new(CODECS[0], 1 << 20);
    world.append(10);
    world.files.cover(&mut world.queue);
    let mut seen = Vec::new();
    while let Some(submission) = world.queue.poll() {
        seen.push(format!("{:?}", submission.request).split([' ', '{']).next().unwrap().to_owned());
        let (tag, result) = world.queue.complete(world.disk.execute(submission)).unwrap();
        world.files.handle_disk(tag, result, &mut world.queue);
        while let Some(event) = world.files.poll_event() {
            seen.push(format!("{event:?}"));
        }
    }
    assert_eq!(seen, ["Write", "Sync", "SyncDirectory", "Covered(Position(1))"]);
}

/// Found by [`crash_run`]: the next block's file is created while the one before is on its way to the disk.
#[test]
fn an_empty_newest_file_does_not_make_damage_of_the_torn_tail_before_it() {
    for seed in 0..50 {
        let mut world = World::new(CODECS[0], 4096);
        for _ in 0..40 {
            world.append(100);
        }
        world.files.advance(&mut world.queue);
        world.pump(2);
        world.disk.crash(&mut Rng::from_u64(seed));
        world.restart();
        assert_eq!(world.lost(), [], "seed {seed} {:?}", world.events);
        world.entries.truncate(world.files.applied().0 as usize);
        world.check();
    }
}

/// A run of random operations with crashes anywhere, also in recovery: returns how many there were.
fn crash_run(seed: u64) -> u64 {
    let mut dice = Rng::from_u64(seed);
    let mut world = World::new(CODECS[dice.below(6) as usize], 1500 + dice.below(3000) as u32);
    let mut crashes = 0;
    for _ in 0..dice.below(120) {
        match dice.below(24) {
            0..12 => world.append(dice.below(700) as usize),
            12 => {
                let (first, count) = (world.files.next_sequence(), 1 + dice.below(9));
                world.files.skipped(first, count);
                world.applied(Entry::Skipped(first, count));
            }
            13 => {
                world.files.deleted(&[(1, 1 + dice.below(5))]);
                let Some(last) = world.files.index(*world.files.blocks().last().unwrap()) else { continue };
                let (first, last) = *last.deleted().last().unwrap();
                world.applied(Entry::Deleted(first, last));
            }
            14..17 => world.files.advance(&mut world.queue),
            17..19 => world.files.cover(&mut world.queue),
            19..23 => world.pump(1 + dice.below(6) as usize),
            _ => {
                crashes += 1;
                world.disk.crash(&mut dice);
                // The first recovery may be cut short by another crash.
                for most in [dice.below(40) as usize, usize::MAX] {
                    world.restart_within(most);
                    if most != usize::MAX {
                        world.disk.crash(&mut dice);
                    }
                }
                let applied = world.files.applied();
                assert!(world.files.is_ready(), "{:?}", world.events);
                assert!(applied >= world.covered, "{applied:?} {:?}", world.covered);
                assert_eq!(world.lost(), [], "seed {seed} {:?}", world.events);
                world.entries.truncate(applied.0 as usize);
                world.covered = applied;
                world.check();
            }
        }
    }
    crashes
}

#[test]
fn what_was_covered_survives_a_crash_at_any_request() {
    let crashes: u64 = (0..400).map(crash_run).sum();
    assert!(crashes > 500, "{crashes}");
}

/// Each planted bug of this room is caught by a test above.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_caught() {
    use crate::planted::{Bug, arm, disarm};

    let caught: [(Bug, fn()); 5] = [
        (Bug::CoveredBeforeSync, what_was_covered_survives_a_crash_at_any_request),
        (Bug::CoveredBeforeSync, nothing_is_covered_before_it_is_synced),
        (
            Bug::IndexTrustedOverBlock,
            an_older_version_of_a_block_is_known_by_its_index_and_what_it_lacks_is_told,
        ),
        (Bug::BlockChecksumUnverified, damage_in_a_closed_block_is_told_and_costs_its_record),
        (Bug::DamageDropsRestOfBlock, damage_in_a_closed_block_is_told_and_costs_its_record),
    ];
    for (bug, test) in caught {
        test();
        arm(Some(bug), 0, 1, 1);
        let result = std::panic::catch_unwind(test);
        disarm();
        assert!(result.is_err(), "{bug:?} goes unnoticed");
    }
}
