//! Random changes, on every pairing of cipher and compression, with restarts and power cuts anywhere.

use bytes::Bytes;

use super::world::World;
use crate::rng::Rng;
use crate::storage::CODECS;
use crate::storage::change::{Change, NewMessage};
use crate::storage::{DeleteRange, Discard, Position, Scheduling, StoreConfig};
use crate::time::{Duration, WallTime};

const SUBJECTS: [&str; 6] = ["a", "b", "a.x", "a.y", "b.x", "orders.eu.paid"];

pub(super) fn message(dice: &mut Rng, time: i64) -> NewMessage {
    let subject = SUBJECTS[dice.below(SUBJECTS.len() as u64) as usize];
    let size = [0, 10, 100, 100, 700, 3000][dice.below(6) as usize];
    let headers: &'static [u8] = if dice.chance(1, 4) { b"NATS/1.0\r\nname: derek\r\n\r\n" } else { b"" };
    NewMessage {
        sequence: 0,
        time: WallTime::from_unix_nanos(1_700_000_000_000_000_000 + time * 1_000_000_000),
        subject: Bytes::from_static(subject.as_bytes()),
        headers: Bytes::from_static(headers),
        payload: Bytes::from(vec![time as u8; size]),
        ttl: if dice.chance(1, 8) { 1 + dice.below(50) } else { 0 },
        rollup: dice.chance(1, 20),
        checked: true,
        scheduling: match dice.below(12) {
            0 => Scheduling::Schedule { due: WallTime::from_unix_nanos(dice.below(1 << 62) as i64) },
            1 => Scheduling::Scheduled,
            _ => Scheduling::None,
        },
    }
}

/// A change of a stream whose last sequence is about `last`.
fn change(dice: &mut Rng, step: u64, last: u64, config: &StoreConfig) -> Change {
    let near = |dice: &mut Rng| (last + 2).saturating_sub(dice.below(last.min(40) + 2));
    match dice.below(100) {
        0..62 => Change::Store(message(dice, step as i64)),
        62..64 => Change::Skip {
            unwanted: dice.chance(1, 4),
            sequence: 0,
            count: [1, 3, 400][dice.below(3) as usize],
            time: WallTime::from_unix_nanos(1_700_000_000_000_000_000),
        },
        64..84 => Change::Remove { sequence: 1 + dice.below(last + 1), erase: dice.chance(1, 4) },
        84..88 => Change::Expire { sequences: (0..dice.below(5)).map(|_| dice.below(last + 1)).collect() },
        88..91 => {
            let subject = ["a", "a.*", ">", "b.x", "nobody", "*"][dice.below(6) as usize];
            let below = if dice.chance(1, 2) { 0 } else { near(dice) };
            Change::Purge { subject: Bytes::from_static(subject.as_bytes()), below, keep: dice.below(4) }
        }
        91 => Change::Compact { sequence: if dice.chance(1, 6) { 0 } else { 1 + dice.below(last + 3) } },
        92..94 => Change::Truncate { sequence: if dice.chance(1, 12) { 0 } else { near(dice) } },
        94..97 => {
            let (first, count) = (near(dice), dice.below(20));
            Change::SyncDeleted { ranges: vec![DeleteRange { first, count }] }
        }
        _ => Change::Configure(Box::new(StoreConfig {
            max_messages: [0, 0, 30][dice.below(3) as usize],
            max_messages_per_subject: [0, 0, 5][dice.below(3) as usize],
            compression: config.compression,
            ..config.clone()
        })),
    }
}

fn stream(dice: &mut Rng, compression: crate::storage::Compression) -> StoreConfig {
    StoreConfig {
        max_messages: [0, 0, 50][dice.below(3) as usize],
        max_bytes: [0, 0, 20_000][dice.below(3) as usize],
        max_messages_per_subject: [0, 0, 3][dice.below(3) as usize],
        discard: if dice.chance(1, 3) { Discard::New } else { Discard::Old },
        discard_new_per_subject: dice.chance(1, 4),
        first_sequence: [0, 0, 1000][dice.below(3) as usize],
        allow_message_ttl: dice.chance(1, 2),
        max_age: Duration::ZERO,
        compression,
        ..StoreConfig::default()
    }
}

/// How many runs: so many, or as many as `STORAGE_SEEDS` says.
#[allow(clippy::disallowed_methods, reason = "only how much is tested comes from the environment")]
fn seeds(default: u64) -> u64 {
    std::env::var("STORAGE_SEEDS").ok().and_then(|seeds| seeds.parse().ok()).unwrap_or(default)
}

/// Says which seed it was when a test fails.
struct Seed(u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

/// A run of random changes. `crashes` says how many operations lie between two power cuts, zero for none.
pub(super) fn run(seed: u64, steps: u64, crashes: u64) -> u64 {
    let _seed = Seed(seed);
    let mut dice = Rng::from_u64(seed);
    let codec = CODECS[(seed % 6) as usize];
    let stream = stream(&mut dice, codec.1);
    let mut world = World::new(codec, stream.clone(), seed);
    let mut cuts = 0;
    for step in 0..steps {
        let last = world.store.files().next_sequence().saturating_sub(1);
        // In the middle of an entry, what must not be written may be wanted.
        let halfway = crashes > 0 && world.store.files().is_held() && dice.chance(1, 3);
        if halfway {
            world.cover();
            world.pump(1 + dice.below(6) as usize);
        }
        match if halfway && dice.chance(1, 2) { 99 } else { dice.below(100) } {
            0..70 => {
                let change = change(&mut dice, step, last, &stream);
                world.commit(change);
            }
            70..76 => world.cover(),
            76..92 => drop(world.pump(1 + dice.below(8) as usize)),
            92..95 => {
                world.settle();
                world.load(1 + dice.below(last + 1));
            }
            95..97 => world.settle(),
            97 => {
                world.settle();
                world.check();
            }
            _ if crashes > 0 && dice.chance(1, crashes) => {
                cuts += 1;
                // The recoveries may be cut short by further crashes.
                for most in [dice.below(60) as usize, dice.below(60) as usize, usize::MAX] {
                    if dice.chance(3, 4) {
                        world.disk.crash(&mut dice);
                    }
                    let covered = world.covered;
                    world.restart_within(most);
                    if !world.store.is_ready() {
                        world.covered = world.covered.max(covered);
                    }
                }
                assert!(world.store.is_ready(), "seed {seed}: {:?}", world.events);
                world.settle();
                assert_eq!(world.applied, world.entries.len(), "seed {seed}: entries wait for ever");
                assert_eq!(world.lost(), [], "seed {seed} {:?}", world.events);
                world.check();
            }
            _ => {}
        }
    }
    world.settle();
    world.check();
    assert_eq!(world.applied, world.entries.len());
    world.cover();
    world.settle();
    assert_eq!(world.covered, Position(world.entries.len() as u64));
    world.restart();
    world.check();
    cuts
}

#[test]
pub(super) fn a_store_in_files_is_the_stream_in_memory() {
    let cuts: u64 = (0..seeds(120)).map(|seed| run(seed, 400, 0)).sum();
    assert_eq!(cuts, 0);
}

#[test]
pub(super) fn the_power_may_fail_at_any_request() {
    let cuts: u64 = (1000..1000 + seeds(150)).map(|seed| run(seed, 500, 1)).sum();
    assert!(cuts > 500, "{cuts}");
}
