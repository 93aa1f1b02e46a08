//! A sync that fails once, of any file or folder: what it should have kept is durable in the end, and no restart is needed.

use super::damage::store;
use super::world::{OWNER, World};
use crate::disk::DiskErrorKind;
use crate::storage::change::Change;
use crate::storage::file::store::StoreEvent;
use crate::storage::file::{Event, Failure};
use crate::storage::volume::{Store, StoreDisk};
use crate::storage::{CODECS, StoreConfig};
use crate::time::{Duration, Instant};

/// Lets time pass and the disk do what is asked of it, until nothing is left to be done.
fn rest(world: &mut World) {
    world.settle();
    while let Some(due) = world.store.poll_timeout() {
        world.store.handle_timeout(due, &mut StoreDisk::new(&mut world.queue, OWNER));
        world.listen();
        world.settle();
    }
}

fn survives_a_power_cut(world: &mut World) {
    let mut dice = world.dice.child();
    world.disk.crash(&mut dice);
    world.restart();
    rest(world);
    assert_eq!(world.lost(), []);
    world.check();
}

fn refused(world: &World) -> usize {
    let told = |event: &&StoreEvent| matches!(event, StoreEvent::Files(Event::Refused(_)));
    world.events.iter().filter(told).count()
}

#[test]
pub(super) fn a_sync_that_fails_costs_nothing_whichever_it_is() {
    let mut failed = 0;
    for codec in CODECS {
        for nth in 1..60 {
            let config = StoreConfig { compression: codec.1, ..StoreConfig::default() };
            let mut world = World::new(codec, config, nth as u64);
            world.disk.sync_fails = nth;
            for at in 0..120_u64 {
                world.commit(store(at, 60 + (at * 37 % 90) as usize));
                if at % 6 == 5 {
                    world.commit(Change::Remove { sequence: at - 3, erase: at % 12 == 5 });
                    world.cover();
                }
                world.pump(at as usize % 5 + nth % 7);
            }
            rest(&mut world);
            world.cover();
            rest(&mut world);
            assert_eq!((world.failure(), world.covered.0), (None, world.entries.len() as u64), "{nth}");
            failed += usize::from(world.disk.sync_fails == 0);
            assert_eq!(refused(&world), usize::from(world.disk.sync_fails == 0), "{nth}");
            world.check();
            survives_a_power_cut(&mut world);
            // It can be written to as ever.
            world.commit(store(200, 100));
            world.cover();
            rest(&mut world);
            world.restart();
            rest(&mut world);
            world.check();
        }
    }
    assert!(failed > 150, "{failed}");
}

/// What was written before doesn't come back: nothing is taken for durable, and the next start has it from the journal.
#[test]
fn a_block_that_does_not_come_back_whole_is_given_up() {
    for codec in CODECS {
        let mut world = World::new(codec, StoreConfig::default(), 7);
        world.commit(store(0, 100));
        world.cover();
        rest(&mut world);
        let covered = world.covered;
        for at in 1..10 {
            world.commit(store(at, 100));
        }
        world.disk.sync_fails = 1;
        world.cover();
        // Until the sync has failed, and the block is read for the first time.
        while refused(&world) == 0 {
            assert_eq!(world.pump(1), 1);
        }
        let path = world.path("00000001.blk");
        let content = world.disk.content_mut(&path).unwrap();
        let at = content.len() - 60;
        content[at..].fill(0);
        let began = Instant::ZERO;
        let mut last = began;
        world.settle();
        while let Some(due) = world.store.poll_timeout() {
            last = due;
            world.store.handle_timeout(due, &mut StoreDisk::new(&mut world.queue, OWNER));
            world.listen();
            world.settle();
        }
        let Some(Failure::Disk(error)) = world.failure() else { panic!("{:?}", world.events) };
        assert_eq!((error.kind, world.covered), (DiskErrorKind::Io, covered));
        assert!(last >= began + Duration::from_secs(1));
        world.restart();
        world.settle();
        world.check();
    }
}

/// The process ends between a sync that failed and its being made good: the next one doesn't believe what it reads to be on disk.
#[test]
fn a_restart_writes_what_a_failed_sync_left_in_memory() {
    for codec in CODECS {
        for nth in 1..12 {
            let mut world = World::new(codec, StoreConfig::default(), nth as u64);
            world.disk.sync_fails = nth;
            let mut at = 0;
            while refused(&world) == 0 {
                world.commit(store(at, 100));
                if at % 4 == 3 {
                    world.cover();
                }
                world.pump(3);
                at += 1;
            }
            world.restart();
            world.cover();
            rest(&mut world);
            assert_eq!((world.failure(), world.covered.0), (None, world.entries.len() as u64), "{nth}");
            survives_a_power_cut(&mut world);
        }
    }
}
