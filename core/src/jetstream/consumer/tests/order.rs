//! What a consumer delivers for the first time, in which order, and what it says is left: against a plain list.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{World, context, usual};
use crate::jetstream::api::consumer_config::{AckPolicy, ConsumerConfig, DeliverPolicy};
use crate::jetstream::context::Answer;
use crate::rng::Rng;
use crate::storage::Retention;
use crate::subject::matches_literal;

const SUBJECTS: [&str; 4] = ["a.1", "a.2", "b.1", "c"];
const FILTERS: [&[&str]; 4] = [&[], &["a.*"], &["a.1", "b.>"], &["c"]];

struct Test {
    world: World,
    filters: &'static [&'static str],
    /// Up to where only the last message of each subject is wanted.
    last_only_through: u64,
    /// What is left, by the plain rule.
    left: BTreeSet<u64>,
    delivered: u64,
}

impl Test {
    fn new(policy: DeliverPolicy, filters: &'static [&'static str], push: bool, stored: &[usize]) -> Self {
        let config = ConsumerConfig {
            deliver_policy: policy,
            ack_policy: AckPolicy::None,
            filter_subjects: filters.iter().map(|&filter| filter.to_owned()).collect(),
            deliver_subject: if push { "push.x".to_owned() } else { String::new() },
            ..usual()
        };
        let stored: Vec<&str> = stored.iter().map(|subject| SUBJECTS[*subject]).collect();
        let mut world = World::new(config, Retention::Limits, true, &stored);
        world.stream.waits = Some((Rng::from_u64(5), 5));
        let last = stored.len() as u64;
        let last_only_through = if policy == DeliverPolicy::LastPerSubject { last } else { 0 };
        let mut test = Test { world, filters, last_only_through, left: BTreeSet::new(), delivered: 0 };
        test.left = match policy {
            DeliverPolicy::New => BTreeSet::new(),
            DeliverPolicy::Last => test.everything_behind(0).last().copied().into_iter().collect(),
            _ => test.everything_behind(0),
        };
        test.delivered = match policy {
            DeliverPolicy::New => last,
            _ => test.left.first().map_or(0, |first| first - 1),
        };
        test.world.settle();
        assert!(test.world.consumer.has_started());
        test
    }

    fn wants(&self, subject: &[u8]) -> bool {
        let matches = |filter: &&str| matches_literal(subject, filter.as_bytes());
        self.filters.is_empty() || self.filters.iter().any(matches)
    }

    /// Returns what is there and wanted behind a sequence, found by looking at every message.
    fn everything_behind(&self, sequence: u64) -> BTreeSet<u64> {
        let mut lasts = BTreeMap::new();
        let mut found = BTreeSet::new();
        for at in 1..=200 {
            let Some(message) = self.world.stream.store.load(at) else { continue };
            if !self.wants(&message.subject) {
                continue;
            }
            match at <= self.last_only_through {
                true => drop(lasts.insert(message.subject.clone(), at)),
                false => drop(found.insert(at)),
            }
        }
        found.extend(lasts.values());
        found.retain(|at| *at > sequence);
        found
    }

    fn step(&mut self, operation: u8, argument: u64) {
        match operation {
            0..=3 => {
                let subject = SUBJECTS[argument as usize % 4];
                self.world.store(subject);
                let last = self.world.stream.store.ask(|ledger| Ok(ledger.last_sequence()));
                if self.wants(subject.as_bytes()) {
                    self.left.insert(last);
                }
            }
            4 | 5 => self.world.pull("r.1", &(argument % 4).to_string()),
            6 => {
                let last = self.world.stream.store.ask(|ledger| Ok(ledger.last_sequence()));
                let sequence = argument % (last + 1);
                self.world.remove(sequence);
                self.left.remove(&sequence);
            }
            7 if argument.is_multiple_of(3) => {
                self.world.purge(["", "a.1", "b.*"][argument as usize / 3 % 3], 0, argument / 9 % 3);
                // It is found out anew which are the last ones.
                self.left = self.everything_behind(self.delivered);
            }
            8 if argument.is_multiple_of(3) => {
                self.world.crash();
                let state = self.world.consumer.state();
                self.delivered = state.delivered.stream;
                self.last_only_through = state.last_only_through;
                self.left = self.everything_behind(self.delivered);
            }
            _ => self.world.tick(crate::time::Duration::from_millis(argument % 200)),
        }
        self.world.settle();
        self.observe();
        self.end_list();
    }

    /// When the last messages of their subjects are done, all behind them are wanted; what becomes a last one later isn't.
    fn end_list(&mut self) {
        if self.left.first().is_none_or(|first| *first > self.last_only_through) {
            self.delivered = self.delivered.max(self.last_only_through);
            self.last_only_through = 0;
        }
    }

    fn observe(&mut self) {
        for message in std::mem::take(&mut self.world.out) {
            if !message.reply.starts_with(b"$JS.ACK") {
                continue;
            }
            let reply = String::from_utf8(message.reply.to_vec()).unwrap();
            let tokens: Vec<u64> = reply.split('.').skip(4).map(|token| token.parse().unwrap()).collect();
            let (sequence, left) = (tokens[1], tokens[4]);
            assert_eq!(Some(sequence), self.left.pop_first(), "delivered, and what was next");
            assert_eq!(left, self.left.len() as u64, "left behind {sequence}");
            self.delivered = sequence;
        }
        if let Some(left) = self.world.consumer.cursor.left() {
            assert_eq!(left, self.left.len() as u64, "left");
        }
    }
}

#[test]
fn a_consumer_is_there_when_it_is_durable_where_it_starts() {
    let config = ConsumerConfig { deliver_policy: DeliverPolicy::New, ..usual() };
    let mut world = World::new(config, Retention::Limits, true, &["a", "a"]);
    world.commits = false;
    world.settle();
    assert_eq!((world.journal.len(), world.consumer.has_started()), (1, false));
    world.commit(1);
    assert!(world.consumer.has_started());
    // Whoever was told so now stores a message.
    world.store("a");
    world.crash();
    world.pull("r.1", "5");
    world.settle();
    let delivered: Vec<_> = world.out.iter().map(|message| message.reply.clone()).collect();
    assert_eq!(delivered.len(), 1);
    assert!(delivered[0].starts_with(b"$JS.ACK.S.C.1.3.1."), "{delivered:?}");

    // A new start is one, too.
    let reset = world.consumer.reset(0, &mut context!(world), &mut world.stream);
    assert_eq!((reset, world.consumer.has_started()), (Answer::Ready(Ok(3)), false));
    world.settle();
    world.commit(1);
    assert!(world.consumer.has_started());
}

proptest! {
    #[test]
    fn what_is_left_is_delivered_in_order(
        stored in vec(0..4usize, 0..12),
        policy in prop_oneof![
            Just(DeliverPolicy::All),
            Just(DeliverPolicy::New),
            Just(DeliverPolicy::Last),
            Just(DeliverPolicy::LastPerSubject),
        ],
        filters in 0..4usize,
        push in any::<bool>(),
        operations in vec((0..10u8, any::<u64>()), 0..60),
    ) {
        let mut test = Test::new(policy, FILTERS[filters], push, &stored);
        test.observe();
        for (operation, argument) in operations {
            test.step(operation, argument);
        }
        test.world.pull("r.last", "200");
        test.world.settle();
        test.observe();
        assert!(test.left.is_empty() || push && !test.world.consumer.has_demand(), "{:?}", test.left);
    }
}
