//! Messages go when their time is over and not before, whatever is in flight; and a subject's last one leaves a marker.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{World, block, config};
use crate::jetstream::marker::is_delete_marker;
use crate::time::{Duration, WallTime};

const AGE: u64 = 6;
const MARKER: u64 = 4;
const SUBJECTS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
enum Step {
    Publish { subject: u8, ttl: u8 },
    Commit(usize),
    Sleep(u64),
    Disk(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (0..3u8, 0..9u8).prop_map(|(subject, ttl)| Step::Publish { subject, ttl }),
        4 => (0..4usize).prop_map(Step::Commit),
        4 => (0..4u64).prop_map(Step::Sleep),
        1 => any::<bool>().prop_map(Step::Disk),
    ]
}

/// When a message is due; `None` for never.
fn deadline(stored: WallTime, ttl: Option<&str>) -> Option<WallTime> {
    let own = match ttl {
        Some("never") => return None,
        // As a marker would live.
        Some(ttl) => ttl.parse().unwrap_or(u64::MAX).max(MARKER),
        None => u64::MAX,
    };
    Some(stored + Duration::from_secs(own.min(AGE)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn messages_go_when_they_are_due_and_not_before(steps in proptest::collection::vec(any_step(), 1..50)) {
        let settings = format!("age={AGE} marker={MARKER} ttl rollup");
        let mut world = World::new(&config(&settings.split(' ').collect::<Vec<_>>()));
        world.advance();
        // By sequence, what was acknowledged, and when it is due.
        let mut kept: BTreeMap<u64, (usize, Option<WallTime>)> = BTreeMap::new();
        let mut asked: Vec<(WallTime, usize, Option<String>)> = Vec::new();
        for step in steps {
            match step {
                Step::Publish { subject, ttl } => {
                    let ttl = match ttl {
                        0..4 => None,
                        4 => Some("never".to_owned()),
                        ttl => Some(ttl.to_string()),
                    };
                    let header = ttl.as_ref().map(|ttl| format!("Nats-TTL={ttl}"));
                    let words: Vec<&str> = header.iter().map(String::as_str).collect();
                    let subject = usize::from(subject);
                    world.publish(SUBJECTS[subject], &asked.len().to_string(), &block(&words), "");
                    asked.push((world.now.wall, subject, ttl));
                }
                Step::Commit(count) => world.commit(count),
                Step::Sleep(seconds) => world.sleep(Duration::from_secs(seconds)),
                Step::Disk(waits) => {
                    world.disk.waits = waits;
                    world.advance();
                }
            }
            for sent in world.out.drain(..) {
                let text = String::from_utf8_lossy(&sent.payload).into_owned();
                let sequence: String = text.chars().filter(char::is_ascii_digit).collect();
                let at: usize = String::from_utf8_lossy(&sent.to).parse().unwrap();
                let (time, subject, ttl) = &asked[at];
                let sequence = sequence.parse().unwrap();
                // It may have waited before it got its time.
                let stored = world.disk.store.load(sequence).map_or(*time, |message| message.time);
                kept.insert(sequence, (*subject, deadline(stored, ttl.as_deref())));
            }
            for (sequence, (_, due)) in &kept {
                if due.is_none_or(|due| due > world.now.wall) {
                    prop_assert!(world.disk.store.load(*sequence).is_some(), "{} is gone too early", sequence);
                }
            }
        }
        world.disk.waits = false;
        world.settle();
        // The longest life, then the longest of a marker, in steps in which the stream can notice.
        for _ in 0..AGE + MARKER + 2 {
            let here = |world: &World, subject: &str| {
                let last = world.disk.store.clone().load_last(crate::storage::ledger::Filter::Subject(subject.as_bytes()));
                last.map(|message| is_delete_marker(&message.headers))
            };
            let before: Vec<_> = SUBJECTS.iter().map(|subject| here(&world, subject)).collect();
            world.sleep(Duration::from_secs(1));
            world.settle();
            for (subject, before) in SUBJECTS.iter().zip(before) {
                let after = here(&world, subject);
                prop_assert!(!(before == Some(false) && after.is_none()), "{} left no marker", subject);
            }
            let now = world.now.wall;
            for (sequence, (_, due)) in &kept {
                if due.is_some_and(|due| due <= now) {
                    prop_assert!(world.disk.store.load(*sequence).is_none(), "{} is due and still there", sequence);
                }
            }
        }
        for sequence in 1..=world.disk.store.state().last_sequence {
            let for_ever = kept.get(&sequence).is_none_or(|(_, due)| due.is_none());
            let marker = world.disk.store.load(sequence).is_some_and(|message| is_delete_marker(&message.headers));
            prop_assert!(world.disk.store.load(sequence).is_none() || (for_ever && !marker), "{} stays", sequence);
        }
    }
}
