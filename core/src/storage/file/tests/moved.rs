//! Blocks are written anew under whoever reads them: every read is answered, and with what was stored.

use std::collections::BTreeMap;

use super::damage::store;
use super::world::{OWNER, World};
use crate::rng::Rng;
use crate::storage::CODECS;
use crate::storage::change::Change;
use crate::storage::file::store::StoreEvent;
use crate::storage::file::{Fetch, ReadError, ReadId};
use crate::storage::volume::StoreDisk;
use crate::storage::{Message, StoreConfig};

/// The reads of a run, by what they are for.
#[derive(Default)]
pub(super) struct Readers {
    pending: BTreeMap<ReadId, u64>,
    pub(super) answered: usize,
}

impl Readers {
    /// Asks for a message; what has to be loaded first is asked for again some other time.
    pub(super) fn ask(&mut self, world: &mut World, sequence: u64) {
        let mut disk = StoreDisk::new(&mut world.queue, OWNER);
        match world.store.load(sequence, &mut disk) {
            Ok(Some(Fetch::Pending(id))) => drop(self.pending.insert(id, sequence)),
            Ok(Some(Fetch::Ready(result))) => self.judge(world, sequence, result),
            Ok(None) | Err(_) => {}
        }
    }

    /// Takes what was answered.
    pub(super) fn listen(&mut self, world: &mut World) {
        world.listen();
        for event in std::mem::take(&mut world.events) {
            if let StoreEvent::Read(id, result) = event {
                let sequence = self.pending.remove(&id).expect("a read is answered once");
                self.judge(world, sequence, result);
            }
        }
        assert!(!world.store.files().is_failed(), "the store gives up");
    }

    fn judge(&mut self, world: &World, sequence: u64, result: Result<Message, ReadError>) {
        self.answered += 1;
        let model = world.model(world.entries.len());
        match (result, model.load(sequence)) {
            (Ok(message), Some(expected)) => assert_eq!(message, expected),
            // It was removed meanwhile: what it was may still be told, and that it can't be read any more.
            (_, None) => {}
            (Err(error), Some(_)) => panic!("{sequence}: {error}"),
        }
    }

    /// Nobody waits for ever.
    pub(super) fn settle(&mut self, world: &mut World) {
        world.settle();
        self.listen(world);
        assert_eq!(self.pending, BTreeMap::new(), "they wait for ever");
    }
}

/// A store that has nothing of its blocks in memory, on a disk that tells late what it has done.
pub(super) fn cold(codec: (crate::storage::Cipher, crate::storage::Compression), seed: u64) -> World {
    let mut world = World::new(codec, StoreConfig { compression: codec.1, ..StoreConfig::default() }, seed);
    world.config.files.cache = 0;
    for at in 0..150 {
        world.commit(store(at, 60 + (at * 37 % 90) as usize));
    }
    world.cover();
    world.settle();
    world.restart();
    world.late = true;
    world
}

#[test]
pub(super) fn whoever_reads_while_blocks_are_written_anew_is_answered() {
    let mut rewritten = 0;
    for seed in 0..120 {
        let mut dice = Rng::from_u64(seed);
        let (mut world, mut readers) = (cold(CODECS[seed as usize % CODECS.len()], seed), Readers::default());
        for _ in 0..200 {
            match dice.below(10) {
                0..3 => {
                    let erase = dice.chance(1, 3);
                    world.commit(Change::Remove { sequence: 1 + dice.below(150), erase });
                }
                3 => world.commit(Change::Compact { sequence: 1 + dice.below(60) }),
                _ => readers.ask(&mut world, 1 + dice.below(150)),
            }
            world.pump(dice.below(6) as usize);
            readers.listen(&mut world);
        }
        readers.settle(&mut world);
        assert!(readers.answered > 10, "{}", readers.answered);
        rewritten += world.store.files().rewritten();
        world.check();
    }
    assert!(rewritten > 100, "{rewritten}");
}
