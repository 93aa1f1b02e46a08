//! A journal that takes some changes and refuses others: what is acknowledged is there, what isn't is not, and what comes
//! behind a refusal is decided as if it had never been.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{World, block, config};
use crate::storage::journal::Refused;

#[derive(Clone, Debug)]
enum Step {
    Publish {
        subject: u8,
        ask: u8,
        value: u64,
    },
    /// The journal refuses from the next change on, or from the one behind it.
    Refuse(bool),
    Take,
    Busy(bool),
    Commit(usize),
    Disk(bool),
    Restart,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..3u8, 0..8u8, 0..6u64).prop_map(|(subject, ask, value)| Step::Publish { subject, ask, value }),
        2 => any::<bool>().prop_map(Step::Refuse),
        3 => Just(Step::Take),
        2 => any::<bool>().prop_map(Step::Busy),
        3 => (0..5usize).prop_map(Step::Commit),
        1 => any::<bool>().prop_map(Step::Disk),
        1 => Just(Step::Restart),
    ]
}

const SUBJECTS: [&str; 3] = ["a.1", "a.2", "b"];

/// What a publisher was told: the sequence, and whether it was stored before.
fn told(answer: &str) -> Option<(u64, bool)> {
    if answer.contains("error") {
        return None;
    }
    let digits: String = answer.split("\"seq\":").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    Some((digits.parse().ok()?, answer.contains("duplicate")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_refused_leaves_nothing_behind(steps in proptest::collection::vec(any_step(), 1..60)) {
        let mut world = World::new(&config(&["window=100"]));
        let mut ids: BTreeMap<String, String> = BTreeMap::new();
        let mut answers: BTreeMap<String, String> = BTreeMap::new();
        let mut lost = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Publish { subject, ask, value } => {
                    let last = world.stream.last_sequence();
                    let near = (last + value).saturating_sub(3);
                    let words = match ask {
                        0 => format!("Nats-Expected-Last-Sequence={near}"),
                        1 => format!("Nats-Expected-Last-Subject-Sequence={near}"),
                        2 => format!("Nats-Expected-Last-Msg-Id={value}"),
                        3..=5 => format!("Nats-Msg-Id={value}"),
                        _ => String::new(),
                    };
                    let reply = format!("p{at}");
                    if (3..=5).contains(&ask) {
                        ids.insert(reply.clone(), value.to_string());
                    }
                    world.publish(SUBJECTS[usize::from(subject)], &reply, &block(&[&words]), &reply);
                }
                Step::Refuse(one_more) => match one_more {
                    true => world.take_one = true,
                    false => world.refuses = Some(Refused::Full),
                },
                Step::Take => world.refuses = None,
                Step::Busy(busy) => {
                    world.busy = busy;
                    world.propose();
                    world.advance();
                }
                Step::Commit(count) => world.commit(count),
                Step::Disk(waits) => {
                    world.disk.waits = waits;
                    world.advance();
                }
                Step::Restart => {
                    // What was in flight isn't answered any more.
                    let sent: Vec<_> = world.out.drain(..).collect();
                    world = world.restart();
                    world.out = sent;
                    lost.push(at);
                }
            }
        }
        (world.refuses, world.busy, world.disk.waits) = (None, false, false);
        world.propose();
        world.settle();
        for sent in world.out.drain(..) {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let before = answers.insert(text(&sent.to), text(&sent.payload));
            prop_assert_eq!(before, None, "{} was answered twice", text(&sent.to));
        }
        let mut stored = BTreeMap::new();
        for (reply, answer) in &answers {
            let Some((sequence, duplicate)) = told(answer) else { continue };
            let message = world.disk.store.load(sequence);
            let payload = message.map(|message| String::from_utf8_lossy(&message.payload).into_owned());
            match duplicate {
                false => {
                    prop_assert_eq!(payload.as_ref(), Some(reply), "acknowledged and not there");
                    stored.insert(sequence, reply.clone());
                }
                true => prop_assert_eq!(payload.as_ref().and_then(|first| ids.get(first)), ids.get(reply)),
            }
        }
        let state = world.disk.store.state();
        if lost.is_empty() {
            prop_assert_eq!(stored.len() as u64, state.messages, "stored and not acknowledged");
        }
        prop_assert_eq!(world.stream.last_sequence(), state.last_sequence);
    }
}
