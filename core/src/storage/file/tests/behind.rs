//! What waits for blocks to be synced, when more comes than the disk takes.

use super::damage::store;
use super::world::World;
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
