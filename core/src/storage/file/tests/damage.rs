//! Files that aren't what they were: whatever is done to one of them, the store opens, serves what verifies, tells what is
//! lost, and uses no sequence twice.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::world::{World, keys};
use crate::disk::{FilePath, SECTOR};
use crate::storage::CODECS;
use crate::storage::block::walk::WalkError;
use crate::storage::change::{Change, NewMessage};
use crate::storage::file::store::StoreEvent;
use crate::storage::file::{Event, Failure};
use crate::storage::volume::Store;
use crate::storage::{Cipher, Compression, Position, StoreConfig};
use crate::time::WallTime;

pub(super) fn store(at: u64, size: usize) -> Change {
    Change::Store(NewMessage {
        time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + at as i64 * 1_000_000),
        subject: Bytes::from(format!("orders.{}", at % 5)),
        payload: Bytes::from(vec![b'0' + (at % 10) as u8; size]),
        ..NewMessage::default()
    })
}

/// A store of some closed blocks, with holes, all of it durable.
pub(super) fn filled(codec: (Cipher, Compression)) -> World {
    let mut world = World::new(codec, StoreConfig { compression: codec.1, ..StoreConfig::default() }, 1);
    for at in 0..150 {
        // Not all of a size, and nothing that compresses to nothing.
        world.commit(store(at, 60 + (at * 37 % 90) as usize));
        if at % 10 == 9 {
            world.commit(Change::Remove { sequence: at - 3, erase: false });
            world.cover();
        }
        world.settle();
    }
    world.cover();
    world.settle();
    world.check();
    world
}

impl World {
    fn files_here(&self) -> Vec<FilePath> {
        self.disk.paths().cloned().collect()
    }

    pub(super) fn contents(&self) -> Vec<(FilePath, Bytes)> {
        let content = |path: &FilePath| Bytes::copy_from_slice(self.disk.content(path).unwrap());
        self.disk.paths().map(|path| (path.clone(), content(path))).collect()
    }

    pub(super) fn put(&mut self, files: &[(FilePath, Bytes)]) {
        self.disk.replace_all(files);
    }

    /// Opens it and compares it with what it was. Returns what isn't served any more.
    pub(super) fn judge(&mut self, what: &str) -> BTreeSet<u64> {
        let (covered, model) = (self.covered, self.model(self.entries.len()));
        self.restart();
        if let Some(failure) = self.failure() {
            let text = failure.to_string();
            assert!(text.contains("streams/S/"), "{what}: {text} names no file");
            self.covered = covered;
            return BTreeSet::new();
        }
        assert!(self.store.is_ready(), "{what}");
        self.settle();
        let state = self.ask(|ledger| ledger.state());
        assert!(state.last_sequence >= model.state().last_sequence, "{what}: sequences are used again");
        let lost: BTreeSet<u64> = state.lost.ranges.iter().flat_map(|(first, last)| *first..=*last).collect();
        let told = self.events.iter().any(|event| {
            use Event::{Damaged, Foreign, Lost, Older};
            matches!(event, StoreEvent::Files(Damaged { .. } | Foreign { .. } | Lost { .. } | Older { .. }))
        });
        let mut unserved = BTreeSet::new();
        for sequence in 1..=model.state().last_sequence {
            match (self.load(sequence), model.load(sequence)) {
                (Some(Ok(message)), Some(expected)) => assert_eq!(message, expected, "{what}"),
                (Some(Ok(message)), None) => {
                    // The record, or the block, that said so is damaged, and that is told.
                    assert!(told, "{what}: {} is back", message.sequence);
                }
                (Some(Err(_)), _) => drop(unserved.insert(sequence)),
                (None, Some(_)) => {
                    assert!(lost.contains(&sequence), "{what}: {sequence} is gone and nobody says so");
                    unserved.insert(sequence);
                }
                (None, None) => {}
            }
        }
        for sequence in lost {
            assert!(self.load(sequence).is_none(), "{what}: {sequence} is said to be lost");
        }
        // It goes on, behind everything that was.
        let last = state.last_sequence;
        self.commit(store(1000, 10));
        self.settle();
        assert!(matches!(self.load(last + 1), Some(Ok(_))), "{what}");
        self.entries.pop();
        self.applied = self.entries.len();
        self.covered = covered;
        unserved
    }
}

#[test]
pub(super) fn a_flipped_bit_costs_what_it_is_in() {
    for codec in CODECS {
        let mut world = filled(codec);
        let good = world.contents();
        let plain = codec == CODECS[0];
        for (at, (path, content)) in good.iter().enumerate() {
            for offset in (at % 7..content.len()).step_by(if plain { 7 } else { 61 }) {
                let mut files = good.clone();
                let mut bad = content.to_vec();
                bad[offset] ^= 1 << (offset % 8);
                files[at].1 = Bytes::from(bad);
                world.put(&files);
                let unserved = world.judge(&format!("{path} byte {offset}"));
                assert!(!plain || unserved.len() <= 1, "{path} byte {offset}: {unserved:?}");
            }
        }
    }
}

#[test]
pub(super) fn a_lost_sector_a_cut_a_missing_file_are_told() {
    for codec in [CODECS[0], CODECS[3]] {
        let mut world = filled(codec);
        let good = world.contents();
        for (at, (path, content)) in good.iter().enumerate() {
            for sector in 0..content.len().div_ceil(SECTOR) {
                let mut files = good.clone();
                let mut bad = content.to_vec();
                let end = bad.len().min((sector + 1) * SECTOR);
                bad[sector * SECTOR..end].fill(0);
                files[at].1 = Bytes::from(bad);
                world.put(&files);
                world.judge(&format!("{path} without sector {sector}"));
                files[at].1 = content.slice(..sector * SECTOR + 100.min(content.len() - sector * SECTOR));
                world.put(&files);
                world.judge(&format!("{path} cut in sector {sector}"));
            }
            let mut files = good.clone();
            files.remove(at);
            world.put(&files);
            let unserved = world.judge(&format!("{path} is missing"));
            assert!(unserved.is_empty() || path.name().ends_with(".blk"), "{path}");
        }
    }
}

#[test]
pub(super) fn swapped_and_older_files_are_known_for_what_they_are() {
    for codec in [CODECS[0], CODECS[5]] {
        let mut world = filled(codec);
        let older = world.contents();
        for at in 150..190 {
            world.commit(store(at, 100));
            world.commit(Change::Remove { sequence: at - 20, erase: false });
            // So many that their blocks are written anew.
            world.commit(Change::Remove { sequence: at - 130, erase: false });
        }
        world.cover();
        world.settle();
        let good = world.contents();
        for (at, (path, content)) in good.iter().enumerate() {
            for (other, (other_path, other_content)) in good.iter().enumerate().skip(at + 1) {
                if other_path.name().ends_with(".manifest") {
                    // That would be two damages: a block, and all that is known of it elsewhere.
                    continue;
                }
                let mut files = good.clone();
                (files[at].1, files[other].1) = (other_content.clone(), content.clone());
                world.put(&files);
                world.judge(&format!("{path} and {other_path} swapped"));
            }
            // A whole file as it was earlier, but for the manifest: what it says is all that is known to be newer.
            let old = older.iter().find(|(old, _)| old == path && !old.name().ends_with(".manifest"));
            if let Some((_, old)) = old {
                let mut files = good.clone();
                files[at].1 = old.clone();
                world.put(&files);
                let unserved = world.judge(&format!("{path} as it was earlier"));
                assert!(unserved.is_empty() || path.name().ends_with(".blk"), "an index is but a cache");
            }
        }
    }
}

/// A block that was written anew goes back to what it was before, when nothing else says any more what was removed of it.
#[test]
pub(super) fn a_block_from_before_it_was_written_anew_is_not_served() {
    for codec in [CODECS[0], CODECS[5]] {
        let mut world = filled(codec);
        let older = world.contents();
        // Most of the oldest block, which is written anew.
        let removed = [2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20];
        for sequence in removed {
            world.commit(Change::Remove { sequence, erase: sequence == 9 });
        }
        world.cover();
        world.settle();
        // The blocks that say so go: nothing of what they say is left to be said.
        (150..260).for_each(|at| world.commit(store(at, 100)));
        for sequence in 60..230 {
            world.commit(Change::Remove { sequence, erase: false });
        }
        (260..300).for_each(|at| world.commit(store(at, 100)));
        world.cover();
        world.settle();
        world.check();
        let good = world.contents();
        let last = world.model(world.entries.len()).state().last_sequence;
        for with_index in [false, true] {
            let mut files = good.clone();
            for (path, content) in &mut files {
                let old = older.iter().find(|(old, _)| old == path);
                let wanted = path.name() == "00000001.blk" || with_index && path.name() == "00000001.idx";
                if let Some((_, old)) = old.filter(|_| wanted) {
                    assert_ne!(content, old, "{path} was written anew");
                    *content = old.clone();
                }
            }
            world.put(&files);
            let covered = world.covered;
            world.restart();
            let older = |event: &StoreEvent| matches!(event, StoreEvent::Files(Event::Older { .. }));
            assert!(world.events.iter().any(older), "{codec:?}: {:?}", world.events);
            world.covered = covered;
            let unserved = world.judge("the oldest block as it was before");
            assert!(unserved.contains(&1) && unserved.contains(&7), "{unserved:?}");
            for sequence in removed {
                assert_eq!(world.load(sequence), None, "{sequence} was removed");
            }
            assert!(world.ask(|ledger| ledger.state()).last_sequence >= last);
        }
    }
}

/// An index file that a power cut has left as it was before its block was written anew is not one of that block.
#[test]
pub(super) fn an_index_is_of_one_version_of_its_block() {
    let mut world = filled(CODECS[0]);
    let older = world.contents();
    for sequence in 2..20 {
        world.commit(Change::Remove { sequence, erase: false });
    }
    world.cover();
    world.settle();
    // The manifest knows the block as it is by now: its index file counts.
    world.commit(store(150, 100));
    world.cover();
    world.settle();
    let mut files = world.contents();
    for (path, content) in files.iter_mut().filter(|(path, _)| path.name() == "00000001.idx") {
        let (_, old) = older.iter().find(|(old, _)| old == path).unwrap();
        assert_ne!(content, old, "{path} was written anew");
        *content = old.clone();
    }
    world.put(&files);
    world.restart();
    world.settle();
    world.check();
}

#[test]
pub(super) fn a_clean_restart_reads_no_closed_block() {
    let mut world = filled(CODECS[0]);
    // All but the end, which ties the index to it.
    let path = world.path("00000001.blk");
    let content = world.disk.content_mut(&path).unwrap();
    let end = content.len() - 4;
    content[..end].fill(0xee);
    world.restart();
    assert!(world.store.is_ready());
    assert_eq!(world.lost(), []);
    // The damage is met when it is read, and not served.
    assert!(matches!(world.load(1), Some(Err(_))));
    assert!(matches!(world.load(150), Some(Ok(_))));
}

#[test]
pub(super) fn the_wrong_key_names_the_file_and_changes_nothing() {
    let codec = (Cipher::Aes256Gcm, Compression::S2);
    let mut world = filled(codec);
    let before = world.contents();
    let right = std::mem::replace(&mut world.keys, keys(codec.0, b"another"));
    let newest = *world.store.files().blocks().last().unwrap();
    let covered = world.covered;
    world.restart();
    let path = world.path(&format!("{newest:08x}.blk")).to_string();
    let error = WalkError::WrongKey { block: newest, epoch: 1 };
    assert_eq!(world.failure(), Some(&Failure::Block { path, error }));
    assert_eq!(world.contents(), before);
    (world.keys, world.covered) = (right, covered);
    world.restart();
    world.check();
}

#[test]
pub(super) fn a_new_key_is_used_for_all_blocks_in_the_end_and_the_old_one_until_then() {
    let mut world = filled((Cipher::ChaCha20Poly1305, Compression::None));
    world.keys.add(2, Cipher::Aes256Gcm, b"another");
    let covered = world.covered;
    let mut halfway = 0;
    for most in 0..40 {
        // The power fails in the middle of it.
        world.covered = covered;
        world.restart_within(most);
        let old = world.store.files().old_keys().count();
        halfway += u64::from(world.store.is_ready() && old > 0);
        let mut dice = crate::rng::Rng::from_u64(most as u64);
        world.disk.crash(&mut dice);
    }
    assert!(halfway > 3, "{halfway}");
    world.covered = covered;
    world.restart();
    world.check();
    world.commit(store(500, 10));
    world.cover();
    world.settle();
    assert_eq!(world.store.files().old_keys().collect::<Vec<_>>(), Vec::<u32>::new());
    world.keys.retire(1);
    world.restart();
    world.check();
}

#[test]
pub(super) fn nothing_is_covered_before_it_is_synced_named_and_recorded() {
    let mut world = World::new(CODECS[0], StoreConfig::default(), 1);
    world.commit(store(0, 10));
    world.disk.note_requests();
    world.cover();
    let mut seen = Vec::new();
    while world.pump(1) > 0 {
        seen.extend(world.disk.noted());
        if world.covered.0 > 0 {
            break;
        }
    }
    assert_eq!(seen, ["Open", "Write", "Sync", "SyncDirectory", "Replace"]);
}

#[test]
pub(super) fn an_erased_message_is_nowhere_on_the_disk() {
    for codec in [(Cipher::None, Compression::None), (Cipher::None, Compression::S2)] {
        let mut world = filled(codec);
        let secret = Bytes::from_static(b"the bytes that have to go, 1234567890");
        let new = |change: Change| match change {
            Change::Store(message) => Change::Store(NewMessage { payload: secret.clone(), ..message }),
            other => other,
        };
        let here = |world: &World| {
            let found = |content: &[u8]| content.windows(secret.len()).any(|window| window == secret);
            world.contents().iter().filter(|(_, content)| found(content)).count()
        };
        for filler in [0, 60] {
            world.commit(new(store(300, 0)));
            let sequence = world.store.files().next_sequence() - 1;
            (0..filler).for_each(|at| world.commit(store(400 + at, 100)));
            world.cover();
            world.settle();
            assert_eq!(here(&world), 1);
            world.commit(Change::Remove { sequence, erase: true });
            world.settle();
            assert_eq!(here(&world), 0, "{codec:?}");
            assert!(world.load(sequence).is_none());
            world.check();
            world.restart();
            world.check();
        }
    }
}

/// What is erased may be erased by half. Nobody is told that it is damaged: it is to be gone, and its entry comes again.
#[test]
pub(super) fn a_power_cut_while_a_message_is_erased_is_no_damage() {
    for pumped in 0..300 {
        let mut world = World::new(CODECS[0], StoreConfig::default(), pumped);
        (0..20).for_each(|at| world.commit(store(at, 1500)));
        world.cover();
        world.settle();
        // The index file of the block that is closed for it comes late.
        world.holds_indexes = true;
        (20..23).for_each(|at| world.commit(store(at, 1500)));
        world.commit(Change::Remove { sequence: 22, erase: true });
        world.pump(pumped as usize % 30);
        world.disk.crash(&mut crate::rng::Rng::from_u64(pumped));
        world.holds_indexes = false;
        world.restart();
        let told = |event: &StoreEvent| matches!(event, StoreEvent::Files(Event::Damaged { .. }));
        assert!(!world.events.iter().any(told), "{pumped}: {:?}", world.events);
        world.settle();
        world.check();
        assert_eq!(world.lost(), []);
    }
}

/// A message of which a power cut has erased a part is erased as a whole when its entry comes again, and is no damage then.
#[test]
fn what_was_erased_by_half_is_erased_in_the_end() {
    let mut world = World::new(CODECS[0], StoreConfig::default(), 1);
    (0..20).for_each(|at| world.commit(store(at, 1500)));
    world.cover();
    world.settle();
    let (before, covered) = (world.contents(), world.covered);
    let erase = || Change::Remove { sequence: 5, erase: true };
    world.commit(erase());
    world.settle();
    let after = world.contents();
    let block = |path: &FilePath| path.name().ends_with(".blk");
    let (path, old) = before.iter().find(|file| block(&file.0) && !after.contains(file)).unwrap().clone();
    let new = world.disk.content(&path).unwrap().to_vec();
    let first = (0..old.len()).find(|at| old[*at] != new[*at]).unwrap();
    for (torn, sector) in (first.next_multiple_of(SECTOR)..first + 1500).step_by(SECTOR).enumerate() {
        for swapped in [false, true] {
            let (head, tail) = if swapped { (&old[..], &new[..]) } else { (&new[..], &old[..]) };
            let half = [&head[..sector], &tail[sector..]].concat();
            let files = before.iter().map(|(path, content)| (path.clone(), content.clone()));
            let files = files.map(|(other, content)| match other == path {
                true => (other, half.clone().into()),
                false => (other, content),
            });
            world.put(&files.collect::<Vec<_>>());
            world.entries.truncate(20);
            world.covered = covered;
            world.restart();
            world.commit(erase());
            world.cover();
            world.settle();
            // Without the index files, blocks are read.
            let mut files = world.contents();
            files.retain(|(path, _)| !path.name().ends_with(".idx"));
            world.put(&files);
            world.restart();
            let told = |event: &StoreEvent| matches!(event, StoreEvent::Files(Event::Damaged { .. }));
            assert!(!world.events.iter().any(told), "{torn} {swapped}: {:?}", world.events);
            world.settle();
            world.check();
            assert_eq!(world.lost(), []);
        }
    }
}

#[test]
pub(super) fn space_is_given_back() {
    let mut world = filled(CODECS[0]);
    let bytes = |world: &World| -> usize {
        let blocks = world.contents().into_iter().filter(|(path, _)| path.name().ends_with(".blk"));
        blocks.map(|(_, content)| content.len()).sum()
    };
    let before = bytes(&world);
    // Two of three in the middle.
    for sequence in (20..120).filter(|sequence| sequence % 3 > 0) {
        world.commit(Change::Remove { sequence, erase: false });
    }
    world.cover();
    world.settle();
    let sparse = bytes(&world);
    assert!(sparse < before * 2 / 3, "{sparse} of {before}");
    world.check();
    for sequence in 1..150 {
        world.commit(Change::Remove { sequence, erase: false });
    }
    world.cover();
    world.settle();
    assert!(bytes(&world) < before / 4, "{} of {before}: {:?}", bytes(&world), world.files_here());
    world.check();
    world.restart();
    world.check();
}

/// The name of a block that was created before a kill, and the power cut after the restart that finds it.
#[test]
pub(super) fn a_block_that_was_found_after_a_kill_is_there_after_a_power_cut() {
    for seed in 0..40 {
        let mut world = World::new(CODECS[0], StoreConfig::default(), seed);
        (0..60).for_each(|at| world.commit(store(at, 100)));
        world.pump(2 + seed as usize % 8);
        world.restart();
        world.cover();
        world.settle();
        let mut dice = crate::rng::Rng::from_u64(seed);
        world.disk.crash(&mut dice);
        world.restart();
        assert_eq!(world.lost(), []);
        world.check();
    }
}

#[test]
pub(super) fn what_the_journal_has_lost_costs_itself() {
    for codec in [CODECS[0], CODECS[3]] {
        let mut world = filled(codec);
        let last = world.store.files().next_sequence() - 1;
        for at in 1..=6 {
            let Change::Store(message) = store(200 + at, 50) else { panic!("a message") };
            world.commit(Change::Store(NewMessage { sequence: last + at, ..message }));
        }
        // Two in the middle, none of which the files have yet.
        world.missing = vec![world.entries.len() - 4, world.entries.len() - 3];
        world.restart();
        world.settle();
        for round in ["from the journal", "from the files"] {
            let served: Vec<u64> =
                (last + 1..=last + 7).filter(|at| matches!(world.load(*at), Some(Ok(_)))).collect();
            assert_eq!(served, [last + 1, last + 2, last + 5, last + 6], "{round}");
            world.cover();
            world.settle();
            assert_eq!(world.covered.0, world.entries.len() as u64);
            world.restart();
        }
    }
}

#[test]
pub(super) fn a_block_that_was_given_up_stays_so() {
    for codec in [CODECS[0], CODECS[3]] {
        let mut world = World::new(codec, StoreConfig { compression: codec.1, ..StoreConfig::default() }, 1);
        world.config.files.block_size = 1 << 20;
        world.restart();
        // Written behind, never synced; then the power fails, and a sector is lost.
        for at in 0..400 {
            world.commit(store(at, 200 + (at * 37 % 90) as usize));
        }
        world.settle();
        assert_eq!(world.covered, Position(0));
        let (first, second) = (world.path("00000001.blk"), world.path("00000002.blk"));
        let mut torn = world.disk.content(&first).expect("some was written behind").to_vec();
        torn[SECTOR..2 * SECTOR].fill(0);
        world.put(&[(first.clone(), torn.clone().into())]);
        // The next life doesn't come as far, as it fails soon: the rest is in the journal.
        let rest = world.entries.split_off(200);
        world.restart();
        world.settle();
        assert_eq!(world.applied, 200, "all from the journal");
        let again = world.disk.content(&second).map(Bytes::copy_from_slice);
        let again = again.expect("it was written behind, under a number of its own");
        // Both are there after the next power cut, and the older one had come further.
        world.put(&[(first, torn.into()), (second, again)]);
        world.entries.extend(rest);
        world.restart();
        let told = |event: &StoreEvent| {
            matches!(event, StoreEvent::Files(Event::Damaged { .. } | Event::Lost { .. }))
        };
        // It is no block of the stream: the hole in it costs nothing, and nobody is to look for what it had.
        assert!(!world.events.iter().any(told), "{:?}", world.events);
        world.settle();
        assert_eq!(world.applied, 400);
        world.check();
        assert_eq!(world.lost(), []);
    }
}

#[test]
pub(super) fn a_disk_that_was_full_for_a_while_costs_nothing() {
    for codec in [CODECS[0], CODECS[3]] {
        let mut world = filled(codec);
        let before = world.covered;
        world.disk.full = true;
        for at in 0..100 {
            world.commit(store(300 + at, 100));
            world.settle();
        }
        world.commit(Change::Remove { sequence: 20, erase: true });
        world.cover();
        world.settle();
        assert_eq!((world.failure(), world.covered), (None, before));
        let told = |event: &&StoreEvent| matches!(event, StoreEvent::Files(Event::Refused(_)));
        assert_eq!(world.events.iter().filter(told).count(), 1, "it is told once");
        let last = world.store.files().next_sequence() - 1;
        assert!(matches!(world.load(last), Some(Ok(_))), "what is in memory is served");
        // It is asked again, in vain; then there is space.
        for full in [true, false] {
            world.disk.full = full;
            let due = world.store.poll_timeout().expect("it asks again");
            let mut disk = crate::storage::volume::StoreDisk::new(&mut world.queue, super::world::OWNER);
            world.store.handle_timeout(due, &mut disk);
            world.settle();
        }
        world.settle();
        world.cover();
        world.settle();
        assert_eq!((world.failure(), world.covered.0), (None, world.entries.len() as u64));
        world.check();
        world.restart();
        world.settle();
        world.check();
    }
}

#[test]
fn a_stream_is_begun_when_there_is_space_for_its_folder() {
    let mut world = World::new(CODECS[0], StoreConfig::default(), 1);
    world.disk = super::crash_disk::CrashDisk::default();
    world.disk.full = true;
    world.restart();
    assert!(!world.store.is_ready() && world.failure().is_none());
    world.disk.full = false;
    let due = world.store.poll_timeout().expect("it asks again");
    let mut disk = crate::storage::volume::StoreDisk::new(&mut world.queue, super::world::OWNER);
    world.store.handle_timeout(due, &mut disk);
    world.settle();
    assert!(world.store.is_ready());
}
