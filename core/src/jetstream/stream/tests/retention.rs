//! Who has what, against asking every consumer about every message.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

use super::super::Wanting;
use super::{World, config};
use crate::storage::{OwnerId, Ranges};
use crate::subject::matches_literal;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8),
    Acknowledge(u64, u64),
    Through(u64, u64),
    Set { consumer: u64, filters: Vec<u8>, floor: u64 },
    Forget(u64),
    Commit,
}

const SUBJECTS: [&str; 3] = ["a.1", "a.2", "b"];
const FILTERS: [&str; 4] = ["a.1", "a.*", "b", ">"];

fn any_step() -> impl Strategy<Value = Step> {
    let consumer = 0..4u64;
    prop_oneof![
        6 => (0..3u8).prop_map(Step::Publish),
        8 => (consumer.clone(), 1..12u64).prop_map(|(consumer, sequence)| Step::Acknowledge(consumer, sequence)),
        3 => (consumer.clone(), 1..12u64).prop_map(|(consumer, sequence)| Step::Through(consumer, sequence)),
        2 => (consumer.clone(), proptest::collection::vec(0..4u8, 0..3), 0..6u64)
            .prop_map(|(consumer, filters, floor)| Step::Set { consumer, filters, floor }),
        1 => consumer.prop_map(Step::Forget),
        4 => Just(Step::Commit),
    ]
}

/// What a consumer has, sequence by sequence.
#[derive(Clone, Default)]
struct Model {
    filters: Vec<&'static str>,
    floor: u64,
    has: Vec<u64>,
}

impl Model {
    fn wants(&self, subject: &str) -> bool {
        self.filters.is_empty()
            || self.filters.iter().any(|filter| matches_literal(subject.as_bytes(), filter.as_bytes()))
    }

    fn needs(&self, sequence: u64, subject: &str) -> bool {
        self.wants(subject) && sequence > self.floor && !self.has.contains(&sequence)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_message_stays_while_somebody_needs_it_and_no_longer(
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        let mut world = World::new(&config(&["interest"]));
        let mut consumers: BTreeMap<u64, Model> = BTreeMap::new();
        let mut stored: BTreeMap<u64, &str> = BTreeMap::new();
        let mut last = 0;
        for step in steps {
            match step {
                Step::Publish(subject) => {
                    let subject = SUBJECTS[usize::from(subject)];
                    world.publish(subject, "", b"", "");
                    last += 1;
                    if consumers.values().any(|consumer| consumer.wants(subject)) {
                        stored.insert(last, subject);
                    }
                }
                // Only what was delivered is acknowledged, so it is there.
                Step::Acknowledge(id, sequence) => {
                    world.settle();
                    if let Some(consumer) = consumers.get_mut(&id) && sequence <= last {
                        world.stream.acknowledged(OwnerId(id), sequence);
                        world.advance();
                        consumer.has.push(sequence);
                    }
                }
                Step::Through(id, sequence) => {
                    world.settle();
                    if let Some(consumer) = consumers.get_mut(&id) && sequence <= last {
                        world.stream.acknowledged_through(OwnerId(id), sequence);
                        world.advance();
                        consumer.floor = consumer.floor.max(sequence);
                    }
                }
                Step::Set { consumer, filters, floor } => {
                    world.settle();
                    let floor = floor.min(last);
                    let model = Model { filters: filters.iter().map(|at| FILTERS[usize::from(*at)]).collect(), floor, has: Vec::new() };
                    let filters = model.filters.iter().map(|filter| Bytes::from_static(filter.as_bytes())).collect();
                    consumers.insert(consumer, model);
                    let wanting = Wanting { filters, floor, acknowledged: Ranges::default() };
                    world.stream.set_consumer(OwnerId(consumer), wanting);
                    world.advance();
                }
                Step::Forget(consumer) => {
                    world.settle();
                    consumers.remove(&consumer);
                    world.stream.remove_consumer(OwnerId(consumer));
                    world.propose();
                    world.advance();
                }
                Step::Commit => world.commit(1),
            }
            // What nobody needs is gone for good, whoever comes then.
            stored.retain(|sequence, subject| consumers.values().any(|consumer| consumer.needs(*sequence, subject)));
            let mut there = stored.clone();
            world.settle();
            for sequence in 1..=last {
                let found = world.disk.store.load(sequence).is_some();
                prop_assert_eq!(found, there.remove(&sequence).is_some(), "message {}", sequence);
            }
        }
    }
}
