//! Streams whose end is cut off, or that are emptied: the blocks still have what was before.

use super::damage::store;
use super::world::World;
use crate::storage::change::Change;
use crate::storage::{CODECS, StoreConfig};

/// The power fails while blocks become durable that were written before the end was cut off: the manifest must not cut them
/// already, or the limit takes away less when the entries before the cut are applied again.
#[test]
pub(super) fn a_cut_is_not_recorded_before_what_comes_behind_it() {
    for pumped in 0..60 {
        let limits = StoreConfig { max_messages: 170, ..StoreConfig::default() };
        let mut world = World::new(CODECS[0], limits, 1);
        world.config.index_budget = 1 << 20;
        world.config.files.behind = usize::MAX;
        world.restart();
        (0..100).for_each(|at| world.commit(store(at, 100)));
        world.cover();
        world.settle();
        // The disk stands still, and several blocks wait for it.
        (100..200).for_each(|at| world.commit(store(at, 100)));
        world.commit(Change::Truncate { sequence: 50 });
        assert_eq!(world.applied, world.entries.len());
        world.pump(pumped);
        world.disk.crash(&mut crate::rng::Rng::from_u64(pumped as u64));
        world.restart();
        world.settle();
        world.check();
    }
}

/// A stream that is emptied begins again at its first sequence, which may be behind those of messages that blocks still have: none of
/// them says when the newest was stored, as there is none.
#[test]
pub(super) fn what_a_stream_had_before_it_was_emptied_says_nothing_of_it() {
    for pumped in 0..60 {
        let mut world =
            World::new(CODECS[0], StoreConfig { first_sequence: 1000, ..StoreConfig::default() }, 1);
        (0..40).for_each(|at| world.commit(store(at, 100)));
        world.commit(Change::Truncate { sequence: 980 });
        (40..80).for_each(|at| world.commit(store(at, 100)));
        world.cover();
        world.settle();
        world.commit(Change::Truncate { sequence: 0 });
        world.cover();
        world.pump(pumped);
        world.restart_within(usize::MAX);
        world.settle();
        world.check();
    }
}
