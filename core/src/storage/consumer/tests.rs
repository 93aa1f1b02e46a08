//! Consumers' states by transcript, against a plain model, and as bytes.

use std::fmt::Write as _;

use bytes::Bytes;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::storage::kept::KeptState;
use crate::storage::volume::Committed;
use crate::storage::{OwnerId, Position};
use crate::time::WallTime;

fn seconds(seconds: i64) -> WallTime {
    WallTime::from_unix_nanos(seconds * 1_000_000_000)
}

fn pair(text: &str) -> SequencePair {
    let (consumer, stream) = text.split_once('/').unwrap();
    SequencePair { consumer: consumer.parse().unwrap(), stream: stream.parse().unwrap() }
}

/// Runs commands (`deliver 1/100`, `again 2/100 x2`, `ack 1/100`, `start 5`, `skip 5`, `forget 5`, `restart`), and
/// returns them over the states that they led to. `1/100` is delivery 1 of the stream's message 100.
fn run(policy: AckPolicy, max_deliver: u64, script: &str) -> String {
    let settings = ConsumerSettings { ack_policy: policy, max_deliver };
    let owner = OwnerId(7);
    let mut store = ConsumerStore::new(owner, settings);
    let mut transcript = String::new();
    for (number, line) in script.split(';').map(str::trim).enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let time = seconds(number as i64);
        let entry = match words[..] {
            ["deliver", at] => ConsumerEntry::Delivered { at: pair(at), count: 1, time },
            ["again", at, count] => {
                let count = count[1..].parse().unwrap();
                ConsumerEntry::Delivered { at: pair(at), count, time }
            }
            ["ack", at] => ConsumerEntry::Acknowledged { at: pair(at) },
            ["start", stream] => ConsumerEntry::StartAfter { stream: stream.parse().unwrap() },
            ["skip", stream] => ConsumerEntry::SkippedTo { stream: stream.parse().unwrap() },
            ["forget", stream] => ConsumerEntry::ForgetRedeliveredBelow { stream: stream.parse().unwrap() },
            ["restart"] => {
                let file = store.encode();
                let before = store.state().clone();
                store = ConsumerStore::new(owner, settings);
                store.restore(&file).unwrap();
                assert_eq!(*store.state(), before);
                store.snapshot()
            }
            _ => panic!("{line}"),
        };
        let result = store.apply(Position(number as u64 + 1), entry);
        let state = store.state();
        let _ = write!(
            transcript,
            "{line}: delivered {}/{} floor {}/{}",
            state.delivered.consumer,
            state.delivered.stream,
            state.ack_floor.consumer,
            state.ack_floor.stream
        );
        let _ = write!(transcript, " pending {:?}", state.pending.keys().collect::<Vec<_>>());
        if !state.redelivered.is_empty() {
            let _ = write!(transcript, " redelivered {:?}", state.redelivered);
        }
        let _ = match result {
            Ok(()) => writeln!(transcript),
            Err(error) => writeln!(transcript, " ({error})"),
        };
    }
    transcript
}

#[test]
fn without_acknowledgements_the_floor_follows_delivery() {
    let script = "deliver 1/100; deliver 2/110; deliver 5/130; ack 1/100; again 5/130 x2; skip 140; skip 120";
    insta::assert_snapshot!(run(AckPolicy::None, 0, script));
}

#[test]
fn explicit_acknowledgements_move_the_floor_below_the_oldest_pending() {
    let script = "deliver 1/100; deliver 2/110; deliver 3/130; deliver 4/150; deliver 5/165; ack 3/101; ack 1/1; \
        ack 1/100; ack 3/130; ack 2/110; ack 5/165; ack 4/150; deliver 6/170; deliver 7/171; deliver 8/172; \
        deliver 9/173; deliver 10/200; ack 7/171; ack 8/172; restart";
    insta::assert_snapshot!(run(AckPolicy::Explicit, 0, script));
}

#[test]
fn an_acknowledgement_of_all_takes_everything_below_with_it() {
    let script = "deliver 1/1; deliver 2/2; again 3/1 x2; deliver 4/5; deliver 5/9; ack 4/5; ack 2/2; ack 5/9; \
        deliver 6/10; restart";
    insta::assert_snapshot!(run(AckPolicy::All, 0, script));
    assert_eq!(
        run(AckPolicy::All, 0, script),
        run(AckPolicy::FlowControl, 0, script),
        "flow control acknowledges as a run does"
    );
}

#[test]
fn what_was_delivered_again_survives_restarts_until_it_is_acknowledged() {
    let script = "deliver 1/1; again 2/1 x2; again 3/1 x3; again 4/1 x4; deliver 5/2; restart; again 6/2 x2; \
        deliver 7/3; restart; ack 7/3; ack 6/2; restart; ack 4/1";
    insta::assert_snapshot!(run(AckPolicy::Explicit, 0, script));
}

#[test]
fn a_message_delivered_too_often_is_not_pending_and_its_late_ack_is_remembered() {
    let script = "deliver 1/1; again 2/1 x2; restart; ack 2/1; restart";
    insta::assert_snapshot!(run(AckPolicy::Explicit, 1, script));
}

#[test]
fn a_start_forgets_and_a_purge_forgets_below() {
    let script =
        "deliver 1/1; again 2/1 x2; deliver 3/7; again 4/7 x3; forget 7; start 20; deliver 1/21; skip 30";
    insta::assert_snapshot!(run(AckPolicy::Explicit, 0, script));
}

#[test]
fn a_position_is_applied_once() {
    let settings = ConsumerSettings { ack_policy: AckPolicy::None, max_deliver: 0 };
    let mut store = ConsumerStore::new(OwnerId(1), settings);
    assert!(!store.has_state());
    store.apply(Position(5), ConsumerEntry::SkippedTo { stream: 3 }).unwrap();
    store.apply(Position(5), ConsumerEntry::SkippedTo { stream: 9 }).unwrap();
    store.apply(Position(4), ConsumerEntry::SkippedTo { stream: 9 }).unwrap();
    assert_eq!((store.state().delivered.stream, store.applied()), (3, Position(5)));
    assert!(store.has_state());
}

fn state(delivered: &str, ack_floor: &str, pending: &[u64]) -> ConsumerState {
    let pending =
        pending.iter().map(|stream| (*stream, Pending { sequence: *stream, time: seconds(9) })).collect();
    ConsumerState {
        delivered: pair(delivered),
        ack_floor: pair(ack_floor),
        pending,
        ..ConsumerState::default()
    }
}

#[test]
fn an_impossible_or_older_state_is_refused_and_force_takes_the_older() {
    let settings = ConsumerSettings { ack_policy: AckPolicy::Explicit, max_deliver: 0 };
    let mut store = ConsumerStore::new(OwnerId(1), settings);
    let mut position = 0;
    let mut apply = |entry| {
        position += 1;
        store.apply(Position(position), entry).map_err(|error| error.to_string())
    };
    let mut update = |state| apply(ConsumerEntry::Update(state));
    assert_eq!(update(state("100/122", "50/72", &[75, 122])), Ok(()));
    let refused = [
        (state("100/122", "50/123", &[]), "bad ack floor for stream"),
        (state("100/122", "200/100", &[]), "bad ack floor for consumer"),
        (state("100/122", "50/72", &[70]), "bad pending entry, sequence [70] out of range"),
        (state("100/122", "50/72", &[72]), "bad pending entry, sequence [72] out of range"),
        (state("100/122", "50/72", &[140]), "bad pending entry, sequence [140] out of range"),
        (state("99/122", "50/72", &[]), "old update ignored"),
        (state("100/122", "50/71", &[]), "old update ignored"),
    ];
    for (bad, words) in refused {
        assert_eq!(update(bad), Err(words.to_owned()));
    }
    let older = state("1/4", "1/3", &[4]);
    assert_eq!(apply(ConsumerEntry::Replace(older.clone())), Ok(()));
    let impossible = state("1/4", "2/3", &[]);
    assert!(apply(ConsumerEntry::Replace(impossible)).is_err());
    assert_eq!(*store.state(), older);
}

#[test]
fn a_delta_that_goes_back_or_cannot_be_is_refused_and_changes_nothing() {
    let settings = ConsumerSettings { ack_policy: AckPolicy::Explicit, max_deliver: 0 };
    let mut store = ConsumerStore::new(OwnerId(1), settings);
    store.apply(Position(1), ConsumerEntry::Replace(state("9/19", "3/13", &[15, 17]))).unwrap();
    let before = store.state().clone();
    let delta = |delivered, ack_floor, pending: &[u64]| {
        let pending = pending.iter().map(|at| (*at, Pending { sequence: *at, time: seconds(1) })).collect();
        Delta { delivered: pair(delivered), ack_floor: pair(ack_floor), pending, ..Delta::default() }
    };
    let refused = [
        (delta("9/20", "10/13", &[]), "bad ack floor for consumer"),
        (delta("9/20", "9/21", &[]), "bad ack floor for stream"),
        (delta("8/20", "3/13", &[]), "old update ignored"),
        (delta("9/18", "3/13", &[]), "old update ignored"),
        (delta("9/20", "3/13", &[21]), "bad pending entry, sequence [21] out of range"),
        (delta("9/20", "3/13", &[13]), "bad pending entry, sequence [13] out of range"),
    ];
    for (at, (bad, words)) in refused.into_iter().enumerate() {
        let result = store.apply(Position(2 + at as u64), ConsumerEntry::Delta(Box::new(bad)));
        assert_eq!(result.map_err(|error| error.to_string()), Err(words.to_owned()));
        assert_eq!(*store.state(), before);
    }
    let good = Delta { settled: vec![17], ..delta("10/20", "5/14", &[20]) };
    assert_eq!(store.apply(Position(20), ConsumerEntry::Delta(Box::new(good))), Ok(()));
    assert_eq!(store.state().pending.keys().copied().collect::<Vec<_>>(), [15, 20]);
    assert_eq!((store.state().delivered, store.state().ack_floor), (pair("10/20"), pair("5/14")));
}

#[test]
fn a_run_of_acknowledged_messages_is_a_delta_of_a_few_bytes() {
    let mut bytes = Vec::new();
    let at = pair("1000000/1000000");
    let delta = Delta { delivered: at, ack_floor: at, ..Delta::default() };
    ConsumerEntry::Delta(Box::new(delta)).encode(&mut bytes);
    assert_eq!(bytes.len(), 13);
}

#[test]
fn the_reference_format_reads_as_the_reference_reads_it() {
    // Delivered 100/100, floor 50/50, nothing pending, 122 delivered again 3 times and 144 8 times.
    let mut redelivered = state("100/100", "50/50", &[]);
    redelivered.redelivered = [(122, 3), (144, 8)].into();
    let bytes = [22, 2, 50, 50, 100, 100, 0, 2, 72, 3, 94, 8];
    assert_eq!(encode_state(&redelivered, seconds(0)), bytes);
    assert_eq!(decode_state(&bytes), Ok(redelivered));

    // Pending entries below the stream's ack floor come of filters that changed; they wrap around and back.
    let mut below = state("1192/10185", "1189/10815", &[]);
    for (at, stream) in [10_782, 10_810, 10_815].into_iter().enumerate() {
        let time = seconds(1_000_000 + at as i64);
        below.pending.insert(stream, Pending { sequence: 1190 + at as u64, time });
    }
    assert_eq!(decode_state(&encode_state(&below, seconds(1_000_010))), Ok(below));

    // A state whose pending times lie far from their base.
    let odd = b"\x16\x02\x01\x01\x03\x02\x01\x98\xf4\x8a\x8a\x0c\x01\x03\x86\xfa\n\x01\x00\x01";
    assert!(decode_state(odd).is_ok());

    // Version 1: delivered counts from the floor, pending has no consumer sequence.
    let first = decode_state(&[22, 1, 3, 4, 2, 2, 1, 20, 1, 2, 0]).unwrap();
    assert_eq!((first.delivered, first.ack_floor), (pair("4/5"), pair("3/4")));
    assert_eq!(first.pending[&5], Pending { sequence: 0, time: seconds(11) });
}

/// A delivery that is put off is pending from a time to come, at any part of a second.
#[test]
fn a_time_to_come_is_read_as_it_was_written() {
    let half = 500_000_000;
    for nanos in [0, 1, half - 1, half, half + 1, 2 * half - 1] {
        let now = WallTime::from_unix_nanos(1_000_000 * 2 * half + nanos);
        for ahead in [0, 1, half, 2 * half, 60 * half] {
            let time = WallTime::from_unix_nanos(now.as_unix_nanos() + ahead);
            let mut state = state("1/1", "0/0", &[]);
            state.pending.insert(1, Pending { sequence: 1, time });
            let read = decode_state(&encode_state(&state, now)).unwrap();
            let cut = WallTime::from_unix_nanos(time.as_unix_nanos() / (2 * half) * 2 * half);
            assert_eq!(read.pending[&1], Pending { sequence: 1, time: cut }, "{nanos} {ahead}");
        }
    }
}

#[test]
fn bytes_that_are_no_state_are_refused() {
    for bytes in
        [&b""[..], b"\x16", b"\x17\x02\0\0\0\0\0\0", b"\x16\x02\0\0\0", b"\x16\x02\0\0\0\0\x01\x02\0\0\0\0"]
    {
        assert_eq!(decode_state(bytes), Err(StateError::Corrupt), "{bytes:?}");
    }
    assert_eq!(decode_state(b"\x16\x03\0\0\0\0\0\0"), Err(StateError::Version(3)));
    let below_zero = [&[22, 2, 0][..], &[0xff; 9], &[1, 0, 0, 0, 0]].concat();
    assert_eq!(decode_state(&below_zero), Err(StateError::Corrupt));
}

#[test]
fn a_flipped_bit_or_a_foreign_file_is_no_snapshot() {
    let settings = ConsumerSettings { ack_policy: AckPolicy::Explicit, max_deliver: 0 };
    let mut store = ConsumerStore::new(OwnerId(1), settings);
    store.apply(Position(1), ConsumerEntry::Replace(state("9/9", "3/3", &[5, 7]))).unwrap();
    let file = store.encode();
    let fresh = |owner| ConsumerStore::new(OwnerId(owner), settings);
    for bit in 0..file.len() * 8 {
        let mut bad = file.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let mut other = fresh(1);
        assert!(other.restore(&bad).is_err(), "bit {bit}");
        assert!(!other.has_state());
    }
    for len in 0..file.len() {
        assert!(fresh(1).restore(&file[..len]).is_err(), "{len} bytes");
    }
    assert_eq!(fresh(2).restore(&file), Err(SnapshotError::Damaged), "another consumer's");
    assert_eq!(fresh(1).restore(&file), Ok(()));
}

fn any_state() -> impl Strategy<Value = ConsumerState> {
    let pending = btree_map(any::<u64>(), (any::<u64>(), any::<i64>()), 0..8);
    let redelivered = btree_map(any::<u64>(), any::<u64>(), 0..8);
    (any::<[u64; 5]>(), pending, redelivered).prop_map(|(numbers, pending, redelivered)| {
        let [a, b, c, d, last_only_through] = numbers;
        let pending = pending.into_iter().map(|(stream, (sequence, time))| {
            (stream, Pending { sequence, time: WallTime::from_unix_nanos(time) })
        });
        ConsumerState {
            delivered: SequencePair { consumer: a, stream: b },
            ack_floor: SequencePair { consumer: c, stream: d },
            pending: pending.collect(),
            redelivered,
            last_only_through,
        }
    })
}

fn any_delta() -> impl Strategy<Value = Delta> {
    let pairs = || btree_map(1..40u64, (any::<u64>(), any::<i64>()), 0..8);
    let sequences = || btree_map(1..40u64, any::<u64>(), 0..8);
    let numbers = (any::<u32>(), any::<u32>(), any::<u32>(), any::<u64>());
    (numbers, pairs(), sequences(), sequences(), sequences()).prop_map(
        |((consumer, stream, more, last_only_through), pending, settled, redelivered, forgotten)| {
            let (consumer, stream, more) = (u64::from(consumer), u64::from(stream), u64::from(more));
            let time = WallTime::from_unix_nanos;
            Delta {
                ack_floor: SequencePair { consumer, stream },
                delivered: SequencePair { consumer: consumer + more, stream: stream + more },
                last_only_through,
                pending: pending
                    .into_iter()
                    .map(|(at, (sequence, nanos))| (stream + at, Pending { sequence, time: time(nanos) }))
                    .collect(),
                settled: settled.into_keys().map(|at| stream + at).collect(),
                redelivered: redelivered.into_iter().collect(),
                forgotten: forgotten.into_keys().collect(),
                after: (last_only_through % 3 > 0).then(|| consumer + more - last_only_through % (more + 1)),
            }
        },
    )
}

/// The dullest model of explicit acknowledgement: what was delivered for the first time, in order, and whether it is
/// acknowledged.
#[derive(Default)]
struct Model(Vec<(u64, u64, bool)>);

impl Model {
    /// Everything of the consumer's sequences up to here is acknowledged.
    fn floor(&self) -> u64 {
        let open = self.0.iter().find(|(_, _, acknowledged)| !acknowledged);
        open.map_or_else(|| self.0.last().map_or(0, |last| last.0), |open| open.0 - 1)
    }
}

proptest! {
    #[test]
    fn entries_survive_being_written_down(
        state in any_state(),
        delta in any_delta(),
        numbers: [u64; 3],
        time: i64,
    ) {
        let at = SequencePair { consumer: numbers[0], stream: numbers[1] };
        let entries = [
            ConsumerEntry::Delivered { at, count: numbers[2], time: WallTime::from_unix_nanos(time) },
            ConsumerEntry::Acknowledged { at },
            ConsumerEntry::StartAfter { stream: numbers[1] },
            ConsumerEntry::SkippedTo { stream: numbers[1] },
            ConsumerEntry::ForgetRedeliveredBelow { stream: numbers[1] },
            ConsumerEntry::Update(state.clone()),
            ConsumerEntry::Replace(state.clone()),
            ConsumerEntry::Snapshot(state),
            ConsumerEntry::Delta(Box::new(delta)),
        ];
        for entry in entries {
            let mut bytes = Vec::new();
            let kind = entry.encode(&mut bytes);
            prop_assert_eq!(ConsumerEntry::decode(kind, &bytes), Ok(entry));
            bytes.push(0);
            prop_assert!(ConsumerEntry::decode(kind, &bytes).is_err());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(kind: u8, bytes in vec(any::<u8>(), 0..64)) {
        let _ = ConsumerEntry::decode(kind % 11, &bytes);
        let _ = decode_state(&bytes);
        let _ = decode_state(&[&[22, 1 + kind % 2][..], &bytes].concat());
    }

    #[test]
    fn the_floor_is_where_a_plain_model_has_it(acks in vec(0..40usize, 0..60), gaps in vec(1..4u64, 1..40)) {
        let settings = ConsumerSettings { ack_policy: AckPolicy::Explicit, max_deliver: 0 };
        let mut store = ConsumerStore::new(OwnerId(1), settings);
        let (mut model, mut position, mut stream) = (Model::default(), 0, 0);
        let mut apply = |store: &mut ConsumerStore, entry| {
            position += 1;
            store.apply(Position(position), entry)
        };
        let mut acks = acks.into_iter();
        for (number, gap) in gaps.iter().enumerate() {
            stream += gap;
            let at = SequencePair { consumer: number as u64 + 1, stream };
            apply(&mut store, ConsumerEntry::Delivered { at, count: 1, time: seconds(0) }).unwrap();
            model.0.push((at.consumer, at.stream, false));
            for which in acks.by_ref().take(2) {
                let len = model.0.len();
                let (consumer, stream, acknowledged) = &mut model.0[which % len];
                let at = SequencePair { consumer: *consumer, stream: *stream };
                let result = apply(&mut store, ConsumerEntry::Acknowledged { at });
                prop_assert!(result.is_ok() || *acknowledged);
                *acknowledged = true;
            }
            let state = store.state();
            let open = model.0.iter().filter(|(_, _, acknowledged)| !acknowledged).map(|(_, stream, _)| stream);
            prop_assert!(state.pending.keys().eq(open));
            prop_assert!(state.ack_floor.consumer <= model.floor());
            prop_assert!(!state.pending.is_empty() || state.ack_floor == state.delivered);
            prop_assert_eq!(state.check(), Ok(()));
        }
    }
}

/// One that misses an entry, or its file, is taken back to the floor that the next entry says, and goes on there until one says
/// everything.
#[test]
fn a_missing_entry_takes_a_consumer_back_to_its_floor() {
    let settings = ConsumerSettings { ack_policy: AckPolicy::Explicit, max_deliver: 0 };
    let new = || KeptConsumer::new(ConsumerStore::new(OwnerId(1), settings));
    let delta = |after, delivered, floor, pending: &[u64]| {
        let pending = pending.iter().map(|at| (*at, Pending { sequence: *at, time: seconds(9) })).collect();
        let (delivered, ack_floor) = (pair(delivered), pair(floor));
        Delta { delivered, ack_floor, pending, after: Some(after), ..Delta::default() }
    };
    let entry = |position, entry: ConsumerEntry| {
        let mut bytes = Vec::new();
        let kind = entry.encode(&mut bytes);
        Committed { position: Position(position), kind, payload: vec![Bytes::from(bytes)].into(), gaps: true }
    };
    let deltas = [
        delta(0, "10/10", "0/0", &[1, 5, 10]),
        delta(10, "20/20", "3/4", &[15]),
        delta(20, "21/21", "4/4", &[21]),
        // Of these nothing more is delivered: what it misses is only done once more.
        delta(21, "21/21", "9/9", &[]),
    ];
    let deltas: Vec<Committed> = (1..)
        .zip(deltas)
        .map(|(position, delta)| entry(position, ConsumerEntry::Delta(Box::new(delta))))
        .collect();
    let run = |damaged: bool, entries: &[&Committed]| {
        let mut kept = new();
        if damaged {
            kept.forget(&[]);
        }
        entries.iter().for_each(|entry| kept.apply(entry).unwrap());
        kept
    };
    let all: Vec<&Committed> = deltas.iter().collect();
    let whole = run(false, &all);
    let Known::Whole(state) = whole.known() else { panic!("{whole:?}") };
    assert_eq!(state.pending.keys().copied().collect::<Vec<_>>(), [10, 15, 21]);
    assert_eq!(run(false, &[]).known(), Known::Nothing);
    assert_eq!(run(true, &[]).known(), Known::Lost);
    let floor = |delivered: &str| {
        let at = pair(delivered);
        Known::Floor(ConsumerState { delivered: at, ack_floor: at, ..ConsumerState::default() })
    };
    for (damaged, entries, expected) in [
        (false, &[1, 2, 3][..], floor("21/9")),
        (false, &[0, 2, 3], floor("21/9")),
        (false, &[0, 2], floor("21/4")),
        (true, &[0], floor("10/0")),
        (true, &[0, 1, 2, 3], floor("21/9")),
    ] {
        let entries: Vec<&Committed> = entries.iter().map(|at| &deltas[*at]).collect();
        let mut kept = run(damaged, &entries);
        assert_eq!(kept.known(), expected, "{entries:?}");
        assert!(!kept.is_known() && kept.applied() == entries.last().unwrap().position);
        kept.apply(&entry(9, ConsumerEntry::Replace(state.clone()))).unwrap();
        assert!(kept.is_known() && kept.known() == Known::Whole(state.clone()));
    }
    assert!(matches!(run(false, &[&deltas[0], &deltas[1], &deltas[3]]).known(), Known::Floor(_)));
    assert!(matches!(run(false, &[&deltas[0], &deltas[1], &deltas[2]]).known(), Known::Whole(_)));
}
