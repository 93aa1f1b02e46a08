//! Reads that go wrong: once, which costs nothing, or for ever, which costs what can't be read.

use super::damage::{filled, store};
use super::world::{OWNER, World};
use crate::disk::{FilePath, SECTOR};
use crate::storage::block::Place;
use crate::storage::block::index::{Index, Stamp};
use crate::storage::change::Change;
use crate::storage::file::Event;
use crate::storage::file::store::StoreEvent;
use crate::storage::{CODECS, StoreConfig};

#[test]
pub(super) fn what_recovery_reads_wrong_once_is_read_again() {
    for codec in [CODECS[0], CODECS[3]] {
        let mut world = filled(codec);
        let good = world.contents();
        for (path, content) in &good {
            for offset in (0..content.len()).step_by(59) {
                world.put(&good);
                world.disk.misread_once(path, offset);
                let what = format!("{path} byte {offset}");
                assert!(world.judge(&what).is_empty(), "{what}");
                assert!(world.failure().is_none(), "{what}: {:?}", world.failure());
                let quiet = |event: &StoreEvent| {
                    use Event::{Damaged, Foreign, Lost, ManifestDamaged, Older, TornTail};
                    !matches!(
                        event,
                        StoreEvent::Files(
                            Damaged { .. }
                                | Foreign { .. }
                                | Lost { .. }
                                | ManifestDamaged { .. }
                                | Older { .. }
                                | TornTail { .. }
                        )
                    )
                };
                assert!(world.events.iter().all(quiet), "{what}: {:?}", world.events);
            }
        }
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_what_is_in_it() {
    for codec in [CODECS[0], CODECS[3]] {
        let mut world = filled(codec);
        let good = world.contents();
        for (path, content) in &good {
            for sector in 0..content.len().div_ceil(SECTOR) {
                world.put(&good);
                world.disk.unreadable = Some((path.clone(), sector));
                let what = format!("{path} sector {sector}");
                let unserved = world.judge(&what);
                // And a message before it, as nobody knows where that ends before it is read.
                let most = if codec == CODECS[0] { SECTOR / 60 + 1 } else { 150 };
                assert!(unserved.len() <= most, "{what}: {unserved:?}");
                assert!(world.failure().is_none(), "{what}: {:?}", world.failure());
                world.disk.unreadable = None;
            }
        }
    }
}

#[test]
pub(super) fn what_a_start_reads_wrong_once_costs_nothing() {
    let mut wrong = 0;
    for codec in CODECS {
        let mut world = filled(codec);
        let covered = world.covered;
        let blocks: Vec<_> =
            world.contents().into_iter().filter(|(path, _)| path.as_str().ends_with(".blk")).collect();
        for (path, content) in &blocks {
            for at in (0..content.len()).step_by(97) {
                // Without its index, it is read as a whole.
                let index = FilePath::new(&path.as_str().replace(".blk", ".idx")).unwrap();
                world.disk.content_mut(&index).into_iter().for_each(Vec::clear);
                world.disk.misread_once(path, at);
                world.covered = covered;
                world.restart();
                let damaged = |event: &&StoreEvent| {
                    matches!(event, StoreEvent::Files(Event::Damaged { .. } | Event::Lost { .. }))
                };
                assert_eq!(world.events.iter().find(damaged), None, "{path} byte {at}");
                assert!(world.store.is_ready(), "{path} byte {at}: {:?}", world.events);
                wrong += 1;
            }
        }
        world.check();
    }
    assert!(wrong > 500, "{wrong}");
}

#[test]
fn a_message_that_is_read_wrong_once_is_read_again() {
    let mut wrong = 0;
    for codec in CODECS {
        let mut world = filled(codec);
        world.config.files.cache = 0;
        let model = world.model(world.entries.len());
        let path = world.path("00000002.blk");
        let len = world.disk.content(&path).unwrap().len();
        world.restart();
        for at in (200..len).step_by(317) {
            world.disk.misread_once(&path, at);
            for sequence in (1..=150).filter(|sequence| model.load(*sequence).is_some()) {
                let expected = model.load(sequence).map(Ok);
                assert_eq!(world.load(sequence), expected, "byte {at} message {sequence}");
            }
            wrong += u32::from(world.disk.has_misread());
        }
    }
    assert!(wrong > 20, "{wrong}");
}

/// A start that finds no index of a block reads all of it, and takes a message that is half erased for damage: storage-file 772.
#[test]
fn a_block_to_which_nothing_was_added_since_a_start_has_an_index_of_use() {
    let mut world = World::new(CODECS[0], StoreConfig::default(), 1);
    (0..3).for_each(|at| world.commit(store(at, 500)));
    world.cover();
    world.settle();
    world.restart();
    world.settle();
    // That ends its block.
    world.commit(Change::Remove { sequence: 2, erase: true });
    world.settle();
    let bytes = |name: &str| world.disk.content(&world.path(name)).unwrap().to_vec();
    let (block, index) = (bytes("00000001.blk"), bytes("00000001.idx"));
    let found = Index::decode(&index, &Place::new(OWNER, 1), Stamp::of(&block), &world.keys);
    assert!(found.is_ok(), "{found:?}");
}
