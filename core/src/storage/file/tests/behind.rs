//! What waits for blocks to be synced, when more comes than the disk takes, and how often it is asked for what is much.

use bytes::Bytes;

use super::damage::store;
use super::world::World;
use crate::storage::change::{Change, NewMessage};
use crate::storage::{CODECS, StoreConfig};

/// Entries wait where too much does, and go on when the disk does.
#[test]
fn what_waits_for_a_disk_that_stands_still_is_bounded() {
    let mut world = World::new(CODECS[0], StoreConfig::default(), 1);
    world.settle();
    let bound = world.config.files.behind + 2 * world.config.files.block_size as usize;
    (0..1000).for_each(|at| world.commit(store(at, 100)));
    let taken = world.applied;
    assert!(taken * 100 < bound && taken * 200 > world.config.files.behind, "{taken}");
    (1000..1010).for_each(|at| world.commit(store(at, 100)));
    assert_eq!(world.applied, taken, "nothing more is taken");
    world.settle();
    assert_eq!(world.applied, world.entries.len());
    world.check();
    world.restart();
    world.settle();
    world.check();
}

/// That messages are gone is written of all of a purge together, not of one after the other.
#[test]
fn a_purge_of_many_messages_writes_little_more_than_one_of_one() {
    let writes = [1, 500].map(|count| {
        let mut world = World::new(CODECS[0], StoreConfig::default(), 1);
        let between = std::iter::repeat_n("b", count);
        for subject in std::iter::once("a").chain(between).chain(["c"]) {
            let subject = Bytes::from_static(subject.as_bytes());
            world.commit(Change::Store(NewMessage { subject, ..NewMessage::default() }));
            world.settle();
        }
        world.cover();
        world.settle();
        world.disk.note_requests();
        world.commit(Change::Purge { subject: Bytes::from_static(b"b"), below: 0, keep: 0 });
        world.cover();
        world.settle();
        let writes = world.disk.noted().iter().filter(|name| *name == "Write").count();
        world.check();
        assert!(world.load(1).is_some() && world.load(2).is_none());
        writes
    });
    assert!(writes[1] < writes[0] + 50, "{writes:?}");
}
