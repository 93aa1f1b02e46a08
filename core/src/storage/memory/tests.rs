//! Streams against the dullest model there is, and what only those in memory do; `storage/suite` has the rest.

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::subject::{SubjectList, matches_literal};
use crate::time::Duration;

fn seconds(seconds: i64) -> WallTime {
    WallTime::from_unix_nanos(seconds * 1_000_000_000)
}

fn list(patterns: &str) -> SubjectList<()> {
    let mut list = SubjectList::new(Rng::from_u64(1).hash_keys());
    patterns.split(',').for_each(|pattern| list.insert(pattern.as_bytes(), ()).unwrap());
    list
}

fn message(subject: &str, size: usize, time: WallTime) -> NewMessage {
    NewMessage {
        time,
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        payload: Bytes::from(vec![b'x'; size]),
        checked: true,
        ..NewMessage::default()
    }
}

fn config() -> StoreConfig {
    StoreConfig::default()
}

#[test]
fn new_settings_take_away_what_they_no_longer_allow() {
    let mut store = MemoryStore::new(config());
    for at in 0..30 {
        store.store(message(["a", "b", "c"][at % 3], at, seconds(0))).unwrap();
    }
    store.configure(StoreConfig { max_messages_per_subject: 4, ..config() });
    assert_eq!(store.state().messages, 12);
    assert!(store.subject_totals(Filter::All).iter().all(|(_, count)| *count == 4));
    store.configure(StoreConfig { max_messages: 5, ..config() });
    assert_eq!((store.state().messages, store.state().first_sequence), (5, 26));
    let mut gone = 0;
    while let Some(removed) = store.poll_removed() {
        assert!(store.load(removed.location.sequence).is_none());
        gone += 1;
    }
    assert_eq!(gone, 25);
}

#[test]
fn a_message_keeps_its_headers_and_time() {
    let mut store = MemoryStore::new(config());
    let headers = Bytes::from_static(b"NATS/1.0\r\nname: derek\r\n\r\n");
    let new = NewMessage { headers: headers.clone(), ..message("foo", 3, seconds(7)) };
    assert_eq!(store.store(new), Ok(1));
    let stored = store.load(1).unwrap();
    assert_eq!((&stored.headers, stored.time, &*stored.subject), (&headers, seconds(7), &b"foo"[..]));
    assert_eq!(store.state().bytes, StorageKind::Memory.message_size(3, headers.len(), 3));
}

#[test]
fn a_deadline_goes_with_its_message_when_the_end_is_cut() {
    let mut store = MemoryStore::new(StoreConfig { allow_message_ttl: true, ..config() });
    store.store(message("a", 1, seconds(0))).unwrap();
    store.store(NewMessage { ttl: 5, ..message("a", 1, seconds(0)) }).unwrap();
    assert_eq!(store.truncate(1), 1);
    assert_eq!(store.store(message("b", 1, seconds(1))), Ok(2));
    assert_eq!(
        store.ledger.due(seconds(100), 10).unwrap().expired,
        Vec::<u64>::new(),
        "the second message is another now"
    );
    assert_eq!(store.state().messages, 2);
}

#[test]
fn what_is_due_is_named_until_it_is_gone() {
    let mut store = MemoryStore::new(StoreConfig { allow_message_ttl: true, ..config() });
    store.store(NewMessage { ttl: 5, ..message("a", 1, seconds(0)) }).unwrap();
    for _ in 0..2 {
        assert_eq!(store.ledger.due(seconds(5), 10).unwrap().expired, [1], "a proposal may be lost");
    }
    store.remove(1);
    assert_eq!(store.ledger.due(seconds(5), 10).unwrap().expired, Vec::<u64>::new());
}

#[test]
fn a_message_that_never_expires_outlives_the_stream_s_age() {
    let config = StoreConfig { allow_message_ttl: true, max_age: Duration::from_secs(10), ..config() };
    let mut store = MemoryStore::new(config);
    store
        .store(NewMessage { ttl: crate::storage::ledger::NEVER_EXPIRES, ..message("a", 1, seconds(0)) })
        .unwrap();
    store.store(message("b", 1, seconds(3))).unwrap();
    assert_eq!(store.ledger.next_due(), Ok(Some(seconds(13))));
    let due = store.ledger.due(seconds(999), 10).unwrap();
    assert_eq!(store.apply(Change::Expire { sequences: due.expired }), Outcome::Removed(1));
    assert_eq!((store.state().messages, store.ledger.next_due()), (1, Ok(None)));
}

/// A queue whose first message nobody takes: what is behind it comes and goes for ever.
#[test]
fn holes_take_no_memory() {
    let mut store = MemoryStore::new(config());
    store.store(message("stuck", 1, seconds(0))).unwrap();
    let mut most = 0;
    for at in 0..50_000 {
        let sequence = store.store(message("work", 1, seconds(at))).unwrap();
        store.remove(sequence);
        most = most.max(store.ledger.index_memory());
    }
    assert_eq!(store.state().messages, 1);
    assert!(store.blocks.len() <= 3, "{} blocks", store.blocks.len());
    assert!(most < 200_000, "{most} bytes of index");
}

/// A first message that stays, and another subject of which only the last one does.
#[test]
fn a_long_hole_is_told_as_one() {
    let mut store = MemoryStore::new(StoreConfig { max_messages_per_subject: 1, ..config() });
    store.store(message("foo", 1, seconds(0))).unwrap();
    for at in 1..=20_000 {
        store.store(message("bar", 1, seconds(at))).unwrap();
    }
    let state = store.state();
    assert_eq!((state.messages, state.first_sequence, state.last_sequence), (2, 1, 20_001));
    assert_eq!(state.deleted, 19_999);
    assert_eq!(store.deleted(), [DeleteRange { first: 2, count: 19_999 }]);
}

/// With more subjects than are followed one by one.
#[test]
fn a_sparse_purge_takes_what_matches() {
    let mut store = MemoryStore::new(config());
    for at in 0..40_000 {
        let subject = if at % 100 == 0 { format!("rare.{at}") } else { "common".to_owned() };
        store.store(message(&subject, 1, seconds(at))).unwrap();
    }
    assert_eq!(store.pending(Filter::Subject(b"rare.*"), 20_001, false).0, 200);
    assert_eq!(store.purge(Filter::Subject(b"rare.*"), 0, 0), 400);
    assert_eq!(store.state().messages, 39_600);
}

#[test]
fn numbers_at_the_end_of_the_range_do_no_harm() {
    let mut store = MemoryStore::new(config());
    store.store(message("a", 1, seconds(0))).unwrap();
    for sequence in [0, 1, u64::MAX - 1, u64::MAX] {
        for filter in [Filter::All, Filter::Subject(b"a"), Filter::Subject(b"*")] {
            store.load_next(filter, sequence);
            store.load_previous(filter, sequence);
            store.pending(filter, sequence, true);
            store.pending(filter, sequence, false);
            store.filtered_state(filter, sequence);
            let _ = store.last_sequences(filter, sequence, 1);
        }
        store.load(sequence);
        store.remove(sequence.max(2));
        store.sync_deleted(&[DeleteRange { first: sequence.max(2), count: u64::MAX }]);
    }
    assert_eq!(store.ledger.skip(0, u64::MAX, seconds(0), false), Err(LedgerError::Exhausted));
    store.sequence_from_time(WallTime::from_unix_nanos(i64::MAX));
    store.truncate(u64::MAX);
    assert_eq!(store.compact(u64::MAX), 1);
    assert_eq!((store.state().first_sequence, store.state().last_sequence), (u64::MAX, u64::MAX - 1));
    assert_eq!(store.store(message("a", 1, seconds(0))), Err(LedgerError::Exhausted.into()));
    assert_eq!((store.state().deleted, store.deleted()), (0, vec![]));
    let mut store = MemoryStore::new(StoreConfig { first_sequence: u64::MAX, ..config() });
    assert_eq!(store.store(message("a", 1, seconds(0))), Err(LedgerError::Exhausted.into()));
}

/// A stream as a list of messages, everything by going through it.
#[derive(Default)]
struct Model {
    messages: Vec<(u64, String, i64)>,
    first: u64,
    last: u64,
}

impl Model {
    fn matching(&self, filters: &[&str]) -> Vec<u64> {
        let hit = |subject: &str| filters.iter().any(|f| matches_literal(subject.as_bytes(), f.as_bytes()));
        self.messages.iter().filter(|(_, subject, _)| hit(subject)).map(|(sequence, ..)| *sequence).collect()
    }

    fn keep(&mut self, keep: impl Fn(u64) -> bool) -> u64 {
        let before = self.messages.len();
        self.messages.retain(|(sequence, ..)| keep(*sequence));
        self.first = self.messages.first().map_or(self.last + 1, |(sequence, ..)| *sequence);
        (before - self.messages.len()) as u64
    }

    /// The last sequence of each subject, at or below `bound`.
    fn lasts(&self, filters: &[&str], bound: u64) -> Vec<u64> {
        let matching = self.matching(filters);
        let mut lasts = std::collections::BTreeMap::new();
        for (sequence, subject, _) in &self.messages {
            if matching.contains(sequence) && *sequence <= bound {
                lasts.insert(subject, *sequence);
            }
        }
        let mut found: Vec<u64> = lasts.into_values().collect();
        found.sort_unstable();
        found
    }
}

#[derive(Clone, Debug)]
enum Step {
    Store(usize),
    Skip(u64),
    Remove(u64),
    Purge(usize, u64, u64),
    Compact(u64),
    Truncate(u64),
}

const SUBJECTS: [&str; 5] = ["a", "b", "a.x", "a.y", "b.x.1"];
const FILTERS: [&str; 7] = ["a", ">", "a.*", "*.x", "b.>", "*", "nobody"];

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..SUBJECTS.len()).prop_map(Step::Store),
        1 => prop_oneof![1..4u64, Just(300)].prop_map(Step::Skip),
        6 => (0..60u64).prop_map(Step::Remove),
        1 => (0..FILTERS.len(), prop_oneof![Just(0), 0..60u64], 0..4u64)
            .prop_map(|(filter, below, keep)| Step::Purge(filter, below, keep)),
        1 => (1..60u64).prop_map(Step::Compact),
        1 => (1..400u64).prop_map(Step::Truncate),
    ]
}

proptest! {
    #[test]
    fn a_stream_is_a_list_of_messages(
        steps in vec(any_step(), 1..120),
        limits in (0..3u64, prop_oneof![Just(0), 5..20u64]),
        from in 0..60u64,
    ) {
        let (per_subject, most) = limits;
        let config =
            StoreConfig { max_messages_per_subject: per_subject, max_messages: most, ..StoreConfig::default() };
        let mut store = MemoryStore::new(config);
        let mut model = Model { first: 1, ..Model::default() };
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Store(subject) => {
                    let subject = SUBJECTS[subject];
                    let sequence = store.store(message(subject, 1, seconds(at as i64))).unwrap();
                    model.last += 1;
                    prop_assert_eq!(sequence, model.last);
                    model.messages.push((sequence, subject.to_owned(), at as i64));
                    let same = model.matching(&[subject]);
                    if per_subject > 0 && same.len() as u64 > per_subject {
                        model.keep(|sequence| sequence != same[0]);
                    }
                    if most > 0 && model.messages.len() as u64 > most {
                        let oldest = model.messages[0].0;
                        model.keep(|sequence| sequence != oldest);
                    }
                    model.keep(|_| true);
                }
                Step::Skip(count) => {
                    store.ledger.skip(0, count, seconds(at as i64), false).unwrap();
                    store.drop_blocks();
                    model.last += count;
                    model.keep(|_| true);
                }
                Step::Remove(sequence) => {
                    prop_assert_eq!(store.remove(sequence), model.keep(|known| known != sequence) == 1);
                }
                Step::Purge(filter, below, keep) => {
                    let filter = FILTERS[filter];
                    let matching = model.matching(&[filter]);
                    let purged = store.purge(Filter::Subject(filter.as_bytes()), below, keep);
                    if below == 1 {
                        prop_assert_eq!(purged, 0);
                    } else if filter == ">" && (below > 1 || keep == 0) {
                        let bound = if below == 0 { model.last + 1 } else { below };
                        prop_assert_eq!(purged, model.keep(|sequence| sequence >= bound));
                        model.last = model.last.max(bound - 1);
                        model.keep(|_| true);
                    } else {
                        let most = matching.len().saturating_sub(keep as usize);
                        let gone: Vec<u64> =
                            matching.into_iter().filter(|s| below == 0 || *s < below).take(most).collect();
                        prop_assert_eq!(purged, model.keep(|sequence| !gone.contains(&sequence)));
                    }
                }
                Step::Compact(sequence) => {
                    let before = model.first;
                    let count = store.compact(sequence);
                    if sequence >= before {
                        prop_assert_eq!(count, model.keep(|known| known >= sequence));
                        model.last = model.last.max(sequence - 1);
                        model.keep(|_| true);
                    } else {
                        prop_assert_eq!(count, 0);
                    }
                }
                Step::Truncate(sequence) if sequence >= model.first => {
                    prop_assert_eq!(store.truncate(sequence), model.keep(|known| known <= sequence));
                    model.last = model.last.min(sequence);
                    model.keep(|_| true);
                }
                Step::Truncate(_) => {}
            }
            let state = store.state();
            prop_assert_eq!(
                (state.messages, state.first_sequence, state.last_sequence),
                (model.messages.len() as u64, model.first, model.last)
            );
        }
        let sequences: Vec<u64> = model.messages.iter().map(|(sequence, ..)| *sequence).collect();
        for sequence in 0..=model.last + 1 {
            prop_assert_eq!(store.load(sequence).is_some(), sequences.contains(&sequence));
        }
        let deleted: u64 = store.deleted().iter().map(|range| range.count).sum();
        prop_assert_eq!(deleted, store.state().deleted);
        let both = list("a.*,b");
        let asked = FILTERS.map(|filter| (vec![filter], Filter::Subject(filter.as_bytes())));
        for (names, filter) in asked.into_iter().chain([(vec!["a.*", "b"], Filter::Any(&both))]) {
            let matching = model.matching(&names);
            let next = matching.iter().find(|sequence| **sequence >= from).copied();
            prop_assert_eq!(store.load_next(filter, from).map(|m| m.sequence), next, "next {:?} {}", names, from);
            let previous = matching.iter().rfind(|sequence| **sequence <= from).copied();
            prop_assert_eq!(store.load_previous(filter, from).map(|m| m.sequence), previous, "previous {:?}", names);
            let pending = matching.iter().filter(|sequence| **sequence >= from).count() as u64;
            prop_assert_eq!(store.pending(filter, from, false), (pending, model.last), "pending {:?}", names);
            let lasts = model.lasts(&names, u64::MAX);
            let late = lasts.iter().filter(|sequence| **sequence >= from).count() as u64;
            prop_assert_eq!(store.pending(filter, from, true), (late, model.last), "pending last {:?}", names);
            prop_assert_eq!(store.last_sequences(filter, 0, 0), Ok(lasts));
            if from > 0 {
                prop_assert_eq!(store.last_sequences(filter, from, 0), Ok(model.lasts(&names, from)));
            }
            let state = store.filtered_state(filter, from);
            prop_assert_eq!(state.messages, pending);
            if pending > 0 {
                prop_assert_eq!((Some(state.first), Some(state.last)), (next, matching.last().copied()));
            }
        }
        let time = model.messages.iter().find(|(.., time)| *time >= from as i64).map(|(sequence, ..)| *sequence);
        prop_assert_eq!(store.sequence_from_time(seconds(from as i64)), time.unwrap_or(model.last + 1));
    }
}
