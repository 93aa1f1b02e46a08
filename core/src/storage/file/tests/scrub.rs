//! The scrubber: what rots while a stream is in use is found, told and not served, and nothing else is lost by it.

use std::collections::BTreeSet;

use super::damage::{filled, store};
use super::world::{OWNER, World};
use crate::disk::FilePath;
use crate::storage::change::Change;
use crate::storage::file::store::StoreEvent;
use crate::storage::file::{Event, ScrubPace};
use crate::storage::volume::{Store, StoreDisk};
use crate::storage::{CODECS, Cipher, Compression};
use crate::time::{Duration, Instant};

type Codec = (Cipher, Compression);

const PACE: ScrubPace = ScrubPace { bytes_per_second: 8192, every: Duration::from_secs(600) };

impl World {
    /// Lets the scrubber go over everything once; returns how long it took, the wait before it apart.
    fn scrub(&mut self) -> Duration {
        self.store.set_scrub(Some(PACE), Instant::ZERO);
        let begun = self.store.poll_timeout().expect("it is due some time");
        assert!(begun < Instant::ZERO + PACE.every, "within the first period");
        for _ in 0..1000 {
            let now = self.store.poll_timeout().expect("it goes on");
            let mut disk = StoreDisk::new(&mut self.queue, OWNER);
            self.store.handle_timeout(now, &mut disk);
            self.settle();
            self.listen();
            let over = |event: &StoreEvent| matches!(event, StoreEvent::Files(Event::Scrubbed { .. }));
            if self.events.iter().any(over) {
                let next = self.store.poll_timeout().expect("there is another pass");
                assert!(next >= begun + PACE.every, "not sooner than asked for");
                self.store.set_scrub(None, now);
                assert_eq!(self.store.poll_timeout(), None);
                return now.since(begun);
            }
        }
        panic!("it goes on for ever");
    }

    fn damage_told(&self) -> usize {
        let told = |event: &&StoreEvent| matches!(event, StoreEvent::Files(Event::Damaged { .. }));
        self.events.iter().filter(told).count()
    }

    fn closed(&self) -> Vec<FilePath> {
        let mut blocks = self.store.files().blocks();
        blocks.pop();
        blocks.iter().map(|block| self.path(&format!("{block:08x}.blk"))).collect()
    }

    /// Compares all messages with what they were; returns the sequences that aren't there any more.
    fn missing(&mut self, what: &str) -> BTreeSet<u64> {
        let model = self.model(self.entries.len());
        let mut missing = BTreeSet::new();
        for sequence in 1..=model.state().last_sequence {
            match (self.load(sequence), model.load(sequence)) {
                (Some(Ok(message)), Some(expected)) => assert_eq!(message, expected, "{what}"),
                (None, Some(_)) => drop(missing.insert(sequence)),
                (None, None) => {}
                (Some(other), expected) => panic!("{what}: {sequence} is {other:?} and was {expected:?}"),
            }
        }
        missing
    }

    fn lost_set(&mut self) -> BTreeSet<u64> {
        self.lost().into_iter().flat_map(|(first, last)| first..=last).collect()
    }
}

#[test]
fn what_is_well_is_read_at_the_pace_that_was_asked_for() {
    for codec in CODECS {
        let mut world = filled(codec);
        let bytes: u64 =
            world.closed().iter().map(|path| world.disk.content(path).unwrap().len() as u64).sum();
        let took = world.scrub();
        assert_eq!(world.damage_told(), 0);
        let scrubbed = |event: &StoreEvent| match event {
            StoreEvent::Files(Event::Scrubbed { bytes, .. }) => Some(*bytes),
            _ => None,
        };
        assert_eq!(world.events.iter().find_map(scrubbed), Some(bytes));
        // To the last block's end, less rounding.
        let least = Duration::from_nanos((bytes - 1) * 1_000_000_000 / PACE.bytes_per_second);
        assert!(took + Duration::from_micros(1) >= least, "{took:?} for {bytes} bytes");
        world.check();
    }
}

/// A store whose newest blocks were cut back, the last of them to the middle of one that is closed, of which some had been removed;
/// what came behind has the sequences of what was cut off.
fn cut_back(codec: Codec) -> World {
    let mut world = filled(codec);
    for sequence in 100..140 {
        world.commit(Change::Remove { sequence, erase: false });
    }
    world.cover();
    world.settle();
    for (at, sequence) in [(200, 130), (300, 80)] {
        world.commit(Change::Truncate { sequence });
        (at..at + 50).for_each(|at| world.commit(store(at, 60 + (at * 37 % 90) as usize)));
        world.cover();
        world.settle();
    }
    world.check();
    world
}

/// A store that began without the index files of its blocks, and has no room for indexes in memory.
fn without_indexes(codec: Codec) -> World {
    let mut world = filled(codec);
    let mut files = world.contents();
    files.retain(|(path, _)| !path.name().ends_with(".idx"));
    world.disk.replace_all(&files);
    world.config.index_budget = 0;
    world.restart();
    world.settle();
    world.check();
    let indexes = world.disk.paths().filter(|path| path.name().ends_with(".idx")).count();
    assert_eq!(indexes, world.closed().len(), "they are written again");
    world
}

#[test]
pub(super) fn what_rots_is_found_told_and_never_served() {
    rots_everywhere(filled);
}

#[test]
pub(super) fn what_rots_after_a_cut_is_what_is_there() {
    rots_everywhere(cut_back);
}

#[test]
pub(super) fn what_rots_after_a_start_without_indexes_is_told() {
    rots_everywhere(without_indexes);
}

/// A block with damage has no index file, and there is no room for indexes in memory: what rots in it besides is told like any
/// other rot, by a restart too.
#[test]
pub(super) fn what_has_damage_and_rots_further_is_told() {
    let mut further = 0;
    for (codec, found) in [(CODECS[0], false), (CODECS[0], true), (CODECS[4], false), (CODECS[4], true)] {
        let paths = filled(codec).closed();
        for (nth, path) in paths.iter().enumerate() {
            for offset in (200..700).step_by(if codec == CODECS[0] { 61 } else { 170 }) {
                let what = format!("{path} byte {offset}, {found}");
                let mut world = filled(codec);
                world.config.index_budget = 0;
                let rot = |world: &mut World, at: usize| {
                    let content = world.disk.content_mut(path).unwrap();
                    let at = (at + nth) % content.len();
                    content[at] ^= 1 << (at % 8);
                };
                if found {
                    // Found by the scrubber, which removes the index file.
                    world.restart();
                    world.settle();
                    rot(&mut world, 900);
                    world.scrub();
                } else {
                    rot(&mut world, 900);
                    let index = path.to_string().replace(".blk", ".idx");
                    let mut files = world.contents();
                    files.retain(|(path, _)| path.to_string() != index);
                    world.disk.replace_all(&files);
                    world.restart();
                    world.settle();
                }
                let before = world.lost_set();
                if before.is_empty() {
                    // It was a mark, or a record of deletions.
                    continue;
                }
                assert_eq!(world.missing(&what), before, "{what}");
                world.events.clear();
                rot(&mut world, offset);
                world.scrub();
                // In a frame that is lost as a whole it is no news.
                assert!(world.damage_told() > 0 || codec != CODECS[0], "{what}");
                further += usize::from(world.damage_told() > 0);
                assert_eq!(world.failure(), None, "{what}");
                let (missing, lost) = (world.missing(&what), world.lost_set());
                assert_eq!(missing, lost, "{what}");
                assert!(missing.is_superset(&before), "{what}");
                world.commit(store(1000, 10));
                world.cover();
                world.settle();
                world.restart();
                world.settle();
                assert_eq!((world.missing(&what), world.lost_set()), (missing, lost), "{what}");
            }
        }
    }
    assert!(further > 50, "{further}");
}

/// Lets each kind of place in each closed block of such a store rot, one at a time.
fn rots_everywhere(history: fn(Codec) -> World) {
    for codec in [CODECS[0], CODECS[4]] {
        let plain = codec == CODECS[0];
        let good = history(codec).contents();
        let paths = history(codec).closed();
        for (nth, path) in paths.iter().enumerate() {
            let len = good.iter().find(|(other, _)| other == path).map_or(0, |(_, content)| content.len());
            for offset in (nth % 3..len).step_by(if plain { 97 } else { 331 }) {
                rots(history(codec), path, offset, plain);
            }
        }
    }
}

/// Lets a bit of a closed block rot: it costs what it is in, is told, and a restart finds the same.
fn rots(mut world: World, path: &FilePath, offset: usize, plain: bool) {
    let what = format!("{path} byte {offset}");
    let content = world.disk.content_mut(path).unwrap();
    content[offset] ^= 1 << (offset % 8);
    let bad = content.clone();
    world.scrub();
    assert!(world.damage_told() > 0 || offset < 64, "{what}");
    assert_eq!(world.failure(), None, "{what}");
    let (missing, lost) = (world.missing(&what), world.lost_set());
    assert_eq!(missing, lost, "{what}");
    assert!(missing.len() <= if plain { 1 } else { 60 }, "{what}: {missing:?}");
    // Nothing new the second time; and it goes on.
    world.events.clear();
    world.scrub();
    assert_eq!(world.damage_told(), 0, "{what}");
    world.commit(store(1000, 10));
    world.cover();
    world.settle();
    assert_eq!(world.disk.content(path), Some(&bad[..]), "{what} is left as it is");
    // A restart finds the same.
    world.restart();
    world.settle();
    assert_eq!((world.missing(&what), world.lost_set()), (missing, lost), "{what}");
}

#[test]
fn blocks_cut_short_swapped_and_missing_are_found() {
    let paths = filled(CODECS[0]).closed();
    for what in ["cut", "swapped", "missing"] {
        let mut world = filled(CODECS[0]);
        let other = world.disk.content(&paths[1]).unwrap().to_vec();
        match what {
            "cut" => world.disk.content_mut(&paths[0]).unwrap().truncate(500),
            "swapped" => *world.disk.content_mut(&paths[0]).unwrap() = other,
            _ => world.disk.content_mut(&paths[0]).unwrap().clear(),
        }
        world.scrub();
        assert!(world.damage_told() > 0, "{what}");
        let missing = world.missing(what);
        assert_eq!(missing, world.lost_set(), "{what}");
        assert!(missing.len() > 10, "{what}: {missing:?}");
    }
}

#[test]
pub(super) fn what_is_read_wrong_once_is_no_damage() {
    for offset in (0..3000).step_by(131) {
        let mut world = filled(CODECS[0]);
        let path = world.closed()[0].clone();
        world.disk.misread_once(&path, offset);
        world.scrub();
        assert_eq!(world.damage_told(), 0);
        world.check();
    }
}

/// A block of which nothing is left but damage is all that there is to restore from.
#[test]
pub(super) fn a_block_with_damage_is_not_removed_while_what_it_had_is_missed() {
    let mut world = filled(CODECS[0]);
    let path = world.closed()[0].clone();
    let whole = world.disk.content(&path).unwrap().len();
    world.disk.content_mut(&path).unwrap()[100..whole - 4].fill(0xee);
    world.scrub();
    let lost = world.lost_set();
    for sequence in 1..lost.last().copied().unwrap() + 3 {
        world.commit(Change::Remove { sequence, erase: false });
    }
    world.cover();
    world.settle();
    assert!(world.disk.content(&path).is_some(), "{lost:?}");
    world.restart();
    world.cover();
    world.settle();
    assert!(world.disk.content(&path).is_some());
    // Purged, it is missed no more.
    world.commit(Change::Compact { sequence: lost.last().unwrap() + 1 });
    world.commit(store(999, 10));
    world.cover();
    world.settle();
    world.commit(store(1000, 10));
    world.cover();
    world.settle();
    assert_eq!(world.lost_set(), BTreeSet::new());
    assert!(world.disk.content(&path).is_none(), "its space is given back");
}

/// What was given up of a block with damage may be cut off with what stood behind it. The sequences that are used again aren't
/// those of the block.
#[test]
pub(super) fn a_block_with_damage_that_is_cut_takes_nothing_with_it_that_came_later() {
    let mut world = filled(CODECS[0]);
    let paths = world.closed();
    let path = paths[paths.len() - 1].clone();
    let whole = world.disk.content(&path).unwrap().len();
    // But for the first messages of it.
    world.disk.content_mut(&path).unwrap()[600..whole - 4].fill(0xee);
    let before = world.lost_set();
    world.scrub();
    let lost: Vec<u64> = world.lost_set().difference(&before).copied().collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    // Nothing lives in it any more, and it stays for what is lost in it.
    for sequence in 1..first {
        world.commit(Change::Remove { sequence, erase: false });
    }
    world.commit(Change::Truncate { sequence: first + 1 });
    (0..40).for_each(|at| world.commit(store(500 + at, 50)));
    world.cover();
    world.settle();
    assert_eq!(world.lost_set(), BTreeSet::from([first, first + 1]), "{first} to {last}");
    world.commit(Change::Compact { sequence: first + 3 });
    world.commit(store(1000, 10));
    world.cover();
    world.settle();
    for round in ["before a restart", "after it"] {
        let served: Vec<u64> =
            (first..first + 44).filter(|at| matches!(world.load(*at), Some(Ok(_)))).collect();
        assert_eq!(served, (first + 3..=first + 42).collect::<Vec<_>>(), "{round}");
        world.restart();
        world.settle();
    }
}
