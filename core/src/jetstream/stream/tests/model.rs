//! Many publishers at once against the plainest stream there could be: one that applies each message before it looks at
//! the next.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Request;
use super::{World, block, config};
use crate::protocol::headers;
use crate::storage::Discard;
use crate::storage::ledger::Filter;
use crate::storage::memory::{MemoryStore, NewMessage};
use crate::time::{Duration, WallTime};

/// A stream without anything in flight.
struct Plain {
    config: crate::jetstream::api::stream_config::StreamConfig,
    store: MemoryStore,
    ids: BTreeMap<String, (u64, WallTime)>,
    last_id: String,
}

impl Plain {
    fn publish(&mut self, now: WallTime, subject: &str, headers: &[u8], payload: &str) -> String {
        match self.try_publish(now, subject, headers, payload) {
            Ok(sequence) => format!("{{\"stream\":\"S\",\"seq\":{sequence}}}"),
            Err(answer) => answer,
        }
    }

    fn try_publish(
        &mut self,
        now: WallTime,
        subject: &str,
        headers: &[u8],
        payload: &str,
    ) -> Result<u64, String> {
        let get = |key: &str| {
            headers::get(headers, key.as_bytes()).map(|value| String::from_utf8_lossy(value).into_owned())
        };
        let error = |code: u16, number: u16, text: String| {
            let error = format!("{{\"code\":{code},\"err_code\":{number},\"description\":\"{text}\"}}");
            Err(format!("{{\"error\":{error},\"stream\":\"S\",\"seq\":0}}"))
        };
        let last = self.store.state().last_sequence;
        if let Some(expected) = get("Nats-Expected-Last-Subject-Sequence") {
            let filter = get("Nats-Expected-Last-Subject-Sequence-Subject").unwrap_or(subject.to_owned());
            let found =
                self.store.load_last(Filter::Subject(filter.as_bytes())).map_or(0, |found| found.sequence);
            if found != expected.parse::<u64>().unwrap() {
                return error(400, 10071, format!("wrong last sequence: {found}"));
            }
        }
        if let Some(expected) = get("Nats-Expected-Last-Sequence")
            && last != expected.parse::<u64>().unwrap()
        {
            return error(400, 10071, format!("wrong last sequence: {last}"));
        }
        let id = get("Nats-Msg-Id").unwrap_or_default();
        if let Some((sequence, time)) = self.ids.get(&id)
            && now.since(*time) < self.config.duplicate_window
        {
            return Err(format!("{{\"stream\":\"S\",\"seq\":{sequence},\"duplicate\": true}}"));
        }
        if let Some(expected) = get("Nats-Expected-Last-Msg-Id")
            && expected != self.last_id
        {
            return error(400, 10070, format!("wrong last msg ID: {}", self.last_id));
        }
        let rollup = get("Nats-Rollup");
        let bytes = |text: &str| bytes::Bytes::copy_from_slice(text.as_bytes());
        let message = NewMessage {
            time: now,
            subject: bytes(subject),
            headers: bytes::Bytes::copy_from_slice(headers),
            payload: bytes(payload),
            rollup: rollup.is_some(),
            checked: true,
            ..NewMessage::default()
        };
        let sequence = match self.store.store(message) {
            Ok(sequence) => sequence,
            Err(why) => return error(503, 10077, why.to_string()),
        };
        match rollup.as_deref() {
            Some("sub") => drop(self.store.purge(Filter::Subject(subject.as_bytes()), 0, 1)),
            Some("all") => drop(self.store.purge(Filter::All, 0, 1)),
            _ => {}
        }
        if !id.is_empty() {
            self.ids.insert(id.clone(), (sequence, now));
        }
        self.last_id = id;
        Ok(sequence)
    }
}

#[derive(Clone, Debug)]
enum Step {
    Publish { subject: u8, ask: u8, value: u64, size: usize },
    Remove(u64),
    Purge { subject: u8, below: u64, keep: u64 },
    Commit(usize),
    Sleep(u64),
    Disk(bool),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..4u8, 0..14u8, 0..8u64, 0..20usize)
            .prop_map(|(subject, ask, value, size)| Step::Publish { subject, ask, value, size }),
        1 => (0..20u64).prop_map(Step::Remove),
        1 => (0..6u8, prop_oneof![Just(0), 0..20u64], 0..3u64)
            .prop_map(|(subject, below, keep)| Step::Purge { subject, below, keep: if below > 0 { 0 } else { keep } }),
        3 => (0..6usize).prop_map(Step::Commit),
        1 => (0..9u64).prop_map(Step::Sleep),
        1 => any::<bool>().prop_map(Step::Disk),
    ]
}

fn any_settings() -> impl Strategy<Value = Vec<String>> {
    let limit = |name: &'static str, range: std::ops::Range<u64>| {
        proptest::option::weighted(0.4, range.prop_map(move |value| format!("{name}={value}")))
    };
    let flag = |name: &'static str| proptest::option::of(Just(name.to_owned()));
    let limits = (limit("messages", 1..6), limit("bytes", 20..200), limit("per-subject", 1..4));
    (limits, flag("new"), flag("new-per-subject"), flag("file"), limit("first", 1..4)).prop_map(
        |((messages, bytes, per_subject), new, per, file, first)| {
            let base = ["rollup".to_owned(), "window=7".to_owned()];
            base.into_iter()
                .chain([messages, bytes, per_subject, new, per, file, first].into_iter().flatten())
                .collect()
        },
    )
}

const SUBJECTS: [&str; 6] = ["a.1", "a.2", "b", "c.d", "a.*", ">"];

/// Makes the headers of a message: what it asks of the stream. `last` is what many publishers will have seen.
fn asked(ask: u8, value: u64, last: u64, payload: usize) -> Vec<u8> {
    let near = (last + value).saturating_sub(3);
    let words = match ask {
        0 => vec![format!("Nats-Expected-Last-Sequence={near}")],
        1 => vec![format!("Nats-Expected-Last-Subject-Sequence={near}")],
        2 => vec!["Nats-Expected-Last-Subject-Sequence=0".to_owned()],
        3 => vec![
            format!("Nats-Expected-Last-Subject-Sequence={near}"),
            format!("Nats-Expected-Last-Subject-Sequence-Subject={}", SUBJECTS[value as usize % 6]),
        ],
        4 | 5 => vec![format!("Nats-Msg-Id={value}")],
        6 => vec![format!("Nats-Msg-Id={payload}"), format!("Nats-Expected-Last-Msg-Id={value}")],
        7 if value < 5 => vec!["Nats-Rollup=sub".to_owned()],
        7 => vec!["Nats-Rollup=all".to_owned()],
        _ => Vec::new(),
    };
    block(&words.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Runs both, and compares what each publisher was told, and what each stream holds.
fn compare(settings: &[String], steps: &[Step]) -> Result<(), TestCaseError> {
    let words: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut config = config(&words);
    // As streams are validated.
    config.discard_new_per_subject &= config.discard == Discard::New && config.max_messages_per_subject > 0;
    let mut world = World::new(&config);
    let store = World::new(&config).disk.store;
    let mut plain = Plain { config, store, ids: BTreeMap::new(), last_id: String::new() };
    let mut expected: BTreeMap<String, String> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Publish { subject, ask, value, size } => {
                let last = plain.store.state().last_sequence;
                let (subject, headers) = (SUBJECTS[usize::from(*subject)], asked(*ask, *value, last, *size));
                let (reply, payload) = (format!("p{at}"), "x".repeat(*size));
                expected.insert(reply.clone(), plain.publish(world.now.wall, subject, &headers, &payload));
                world.publish(subject, &reply, &headers, &payload);
            }
            Step::Remove(sequence) => {
                plain.store.remove(*sequence);
                world.request(at as u64, Request::Remove { sequence: *sequence, erase: false });
            }
            Step::Purge { subject, below, keep } => {
                let subject = SUBJECTS[usize::from(*subject)];
                plain.store.purge(Filter::Subject(subject.as_bytes()), *below, *keep);
                let (below, keep) = (*below, *keep);
                world.request(at as u64, Request::Purge { subject: subject.into(), below, keep });
            }
            Step::Commit(count) => world.commit(*count),
            Step::Disk(waits) => {
                world.disk.waits = *waits;
                world.advance();
            }
            Step::Sleep(seconds) => {
                world.disk.waits = false;
                world.settle();
                world.sleep(Duration::from_secs(*seconds));
            }
        }
    }
    world.disk.waits = false;
    world.settle();
    let answers: BTreeMap<String, String> = world
        .out
        .drain(..)
        .map(|sent| (String::from_utf8_lossy(&sent.to).into(), String::from_utf8_lossy(&sent.payload).into()))
        .collect();
    prop_assert_eq!(answers, expected);
    let mut plain = World { disk: super::Slow::new(plain.store), ..world_like(&plain.config) };
    prop_assert_eq!(world.content(), plain.content());
    prop_assert_eq!(world.stream.in_flight(), 0);
    Ok(())
}

fn world_like(config: &crate::jetstream::api::stream_config::StreamConfig) -> World {
    World::new(config)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn what_is_in_flight_changes_no_answer(
        settings in any_settings(),
        steps in proptest::collection::vec(any_step(), 1..60),
    ) {
        compare(&settings, &steps)?;
    }
}
