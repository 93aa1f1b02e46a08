//! Blocks of some records, whole, damaged, and anything at all.

use crate::storage::CODECS;
use proptest::collection::vec;
use proptest::prelude::*;

use super::frame::{Codec, Plain};
use super::header::{HEADER_LEN, Header};
use super::index::{Builder, Index, IndexError, Stamp};
use super::key::Keys;
use super::mark::{Mark, encode_deleted, encode_skipped};
use super::place::{Context, Place};
use super::record::{Record, RecordError, erase};
use super::walk::{At, Visitor, WalkError, Walked, walk};
use crate::rng::Rng;
use crate::storage::{Cipher, Compression, OwnerId, Position};

const OWNER: OwnerId = OwnerId(0x1234_5678_9abc_def0);
const BASE: i64 = 1_700_000_000_000_000_000;

/// A message that a test owns.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Owned {
    sequence: u64,
    time: i64,
    subject: Vec<u8>,
    headers: Vec<u8>,
    payload: Vec<u8>,
    ttl: u64,
    due: Option<i64>,
}

impl Owned {
    fn record(&self) -> Record<'_> {
        Record {
            sequence: self.sequence,
            time: self.time,
            subject: &self.subject,
            headers: &self.headers,
            payload: &self.payload,
            ttl: self.ttl,
            due: self.due,
            erased: false,
        }
    }

    fn of(record: &Record<'_>) -> Self {
        Owned {
            sequence: record.sequence,
            time: record.time,
            subject: record.subject.to_vec(),
            headers: record.headers.to_vec(),
            payload: record.payload.to_vec(),
            ttl: record.ttl,
            due: record.due,
        }
    }
}

fn simple(sequence: u64) -> Owned {
    Owned {
        sequence,
        time: BASE + sequence as i64 * 1000,
        subject: format!("orders.{}", sequence % 7).into_bytes(),
        headers: if sequence.is_multiple_of(5) { b"NATS/1.0\r\nA: b\r\n\r\n".to_vec() } else { Vec::new() },
        payload: vec![sequence as u8; 20 + (sequence % 60) as usize],
        ttl: if sequence.is_multiple_of(11) { 60 } else { 0 },
        due: sequence.is_multiple_of(13).then_some(-7 * sequence as i64),
    }
}

#[derive(Default)]
struct Seen {
    messages: Vec<(At, Owned)>,
    deleted: Vec<(u64, u64)>,
    skipped: Vec<(u64, u64)>,
}

impl Visitor for Seen {
    fn message(&mut self, at: At, record: &Record<'_>) {
        self.messages.push((at, Owned::of(record)));
    }
    fn deleted(&mut self, first: u64, last: u64) {
        self.deleted.push((first, last));
    }
    fn skipped(&mut self, first: u64, count: u64) {
        self.skipped.push((first, count));
    }
}

/// Writes a block as a store does, and keeps where what begins.
struct Writer {
    place: Place,
    keys: Keys,
    compression: Compression,
    rng: Rng,
    bytes: Vec<u8>,
    context: Context,
    starts: Vec<usize>,
}

impl Writer {
    fn new(cipher: Cipher, compression: Compression) -> Self {
        let mut keys = Keys::none(OWNER);
        if cipher != Cipher::None {
            keys.add(1, cipher, b"server key");
        }
        let header = Header {
            owner: OWNER,
            block: 9,
            cipher,
            compression,
            first_sequence: 1,
            base_time: BASE,
            key_epoch: keys.epoch(),
            rewrites: 7,
            previous: 8,
        };
        Writer {
            place: Place::new(OWNER, 9),
            keys,
            compression,
            rng: Rng::from_u64(1),
            bytes: header.encode().to_vec(),
            context: Context { next_sequence: 1, base_time: BASE },
            starts: Vec::new(),
        }
    }

    fn offset(&self) -> u32 {
        self.bytes.len() as u32
    }

    fn mark(&mut self, base_time: i64, synced: u32) {
        let mark = Mark {
            next_sequence: self.context.next_sequence,
            base_time,
            previous_base_time: self.context.base_time,
            applied: Position(self.context.next_sequence * 10),
            synced,
            first_sequence: 1,
            last_time: base_time + 5,
        };
        let offset = self.offset();
        self.starts.push(self.bytes.len());
        mark.encode(&mut self.bytes, &self.place, offset);
        self.context = mark.context();
    }

    fn messages(&mut self, messages: &[Owned]) {
        let codec = Codec { keys: &self.keys, compression: self.compression };
        let offset = self.bytes.len() as u32;
        if codec.is_plain() {
            for message in messages {
                self.starts.push(self.bytes.len());
                let offset = self.bytes.len() as u32;
                message.record().encode(&mut self.bytes, &self.place, offset, &mut self.context).unwrap();
            }
            return;
        }
        let Some(first) = messages.first() else { return };
        let first = Context { next_sequence: first.sequence, base_time: self.context.base_time };
        let (mut records, mut context) = (Vec::new(), first);
        for message in messages {
            let offset = records.len() as u32;
            message.record().encode(&mut records, &self.place, offset, &mut context).unwrap();
        }
        self.starts.push(self.bytes.len());
        let plain = Plain { records: &records, first, next_sequence: context.next_sequence };
        codec.encode(&mut self.bytes, &self.place, offset, plain, &mut self.rng);
        self.context.next_sequence = context.next_sequence;
    }

    fn walk(&self, bytes: &[u8], synced: u32) -> (Seen, Walked) {
        let mut seen = Seen::default();
        let walked =
            walk(bytes, self.place, Context::default(), synced, &self.keys, &mut seen).expect("it is ours");
        (seen, walked)
    }
}

fn fifty() -> (Writer, Vec<Owned>) {
    let messages: Vec<_> = (1..=50).map(simple).collect();
    let mut writer = Writer::new(Cipher::None, Compression::None);
    writer.mark(BASE, 0);
    for batch in messages.chunks(10) {
        let synced = writer.offset();
        writer.messages(batch);
        writer.mark(BASE, synced);
    }
    (writer, messages)
}

#[test]
fn a_message_of_128_bytes_takes_150_at_most() {
    for (after, takes) in [(0, 149), ((1 << 24) - 1, 149), (1 << 24, 150), ((1 << 32) - 1, 150)] {
        let message = Record {
            sequence: 1 << 40,
            time: BASE + after,
            subject: b"12345678",
            headers: b"",
            payload: &[7; 128],
            ttl: 0,
            due: None,
            erased: false,
        };
        let mut out = Vec::new();
        let mut context = Context { next_sequence: 1 << 40, base_time: BASE };
        let len = message.encode(&mut out, &Place::new(OWNER, 1), 1 << 30, &mut context);
        assert_eq!((len, out.len()), (Ok(takes), takes as usize));
    }
}

#[test]
fn a_flipped_bit_costs_the_record_that_it_is_in_and_nothing_else() {
    let (writer, messages) = fifty();
    let len = writer.bytes.len();
    for bit in 0..len * 8 {
        let mut bytes = writer.bytes.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let (seen, walked) = writer.walk(&bytes, len as u32);
        let hit = writer.starts.iter().rposition(|start| *start <= bit / 8).map(|at| writer.starts[at]);
        let (clean, _) = writer.walk(&writer.bytes, len as u32);
        let survivors: Vec<_> =
            clean.messages.into_iter().filter(|(at, _)| Some(at.offset as usize) != hit).collect();
        assert_eq!(seen.messages, survivors, "bit {bit}");
        assert_eq!((walked.end as usize, walked.torn), (len, 0), "bit {bit}");
        let lost: Vec<_> = walked.damage.iter().filter_map(|damage| damage.sequences).collect();
        let expected: Vec<_> = messages
            .iter()
            .map(|message| message.sequence)
            .filter(|sequence| seen.messages.iter().all(|(_, message)| message.sequence != *sequence))
            .map(|sequence| (sequence, sequence))
            .collect();
        assert_eq!(lost, expected, "bit {bit}");
        assert_eq!(walked.damage.is_empty(), hit.is_none(), "bit {bit}");
        assert_eq!(walked.header_error.is_some(), hit.is_none(), "bit {bit}");
    }
}

#[test]
fn a_zeroed_sector_costs_the_records_that_it_touches() {
    let (writer, _) = fifty();
    let len = writer.bytes.len();
    let (clean, _) = writer.walk(&writer.bytes, len as u32);
    for start in (0..len).step_by(64) {
        let end = (start + 512).min(len);
        let mut bytes = writer.bytes.clone();
        bytes[start..end].fill(0);
        let (seen, walked) = writer.walk(&bytes, len as u32);
        let touched = |at: &At| (at.offset as usize) < end && (at.offset + at.len) as usize > start;
        let survivors: Vec<_> = clean.messages.iter().filter(|(at, _)| !touched(at)).cloned().collect();
        assert_eq!(seen.messages, survivors, "at {start}");
        assert!(!walked.damage.is_empty() || walked.header_error.is_some());
    }
}

#[test]
fn a_lost_change_of_the_base_costs_no_time() {
    for both in [false, true] {
        let mut writer = Writer::new(Cipher::None, Compression::None);
        writer.mark(BASE, 0);
        writer.messages(&[simple(1)]);
        let later = BASE + (1 << 40);
        let start = writer.bytes.len();
        writer.mark(later, 0);
        let second = writer.bytes.len();
        writer.mark(later, 0);
        let behind = Owned { time: later + 5, ..simple(2) };
        writer.messages(&[behind.clone(), Owned { time: later + 6, ..simple(3) }]);
        writer.mark(later + (1 << 40), 0);
        // One of two is lost, or both: then the next mark says what the base was.
        let mut bytes = writer.bytes.clone();
        bytes[start + 10] ^= 1;
        if both {
            bytes[second + 10] ^= 1;
        }
        let (seen, walked) = writer.walk(&bytes, bytes.len() as u32);
        assert_eq!(seen.messages.len(), 3);
        assert_eq!(seen.messages[1].1, behind);
        assert_eq!(walked.damage.len(), 1);
        assert!(walked.damage.iter().all(|damage| damage.sequences.is_none() && !damage.open));
    }
}

#[test]
fn every_pairing_of_cipher_and_compression_is_read_as_written() {
    for (cipher, compression) in CODECS {
        let mut writer = Writer::new(cipher, compression);
        let messages: Vec<_> = (1..=100).map(simple).collect();
        writer.mark(BASE, 0);
        for batch in messages.chunks(30) {
            writer.messages(batch);
        }
        let (seen, walked) = writer.walk(&writer.bytes, 0);
        assert!(seen.messages.iter().map(|(_, message)| message).eq(&messages), "{cipher:?} {compression:?}");
        assert_eq!((walked.context, &walked.damage[..], walked.torn), (writer.context, &[][..], 0));
        let plain = writer.bytes.windows(8).any(|window| window == b"orders.1");
        assert_eq!(plain, cipher == Cipher::None, "{cipher:?} {compression:?}");
        if compression == Compression::S2 {
            let raw: usize = messages.iter().map(|message| message.payload.len()).sum();
            assert!(writer.bytes.len() < raw, "{cipher:?}");
        }
    }
}

#[test]
fn a_flipped_bit_in_a_frame_costs_the_frame() {
    for (cipher, compression) in CODECS.into_iter().skip(1) {
        let mut writer = Writer::new(cipher, compression);
        writer.mark(BASE, 0);
        let messages: Vec<_> = (1..=9).map(simple).collect();
        for batch in messages.chunks(3) {
            writer.messages(batch);
        }
        let (start, end) = (writer.starts[2], writer.starts[3]);
        for bit in (start * 8..end * 8).step_by(3) {
            let mut bytes = writer.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (seen, walked) = writer.walk(&bytes, bytes.len() as u32);
            let survivors = messages.iter().filter(|message| !(4..=6).contains(&message.sequence));
            assert!(seen.messages.iter().map(|(_, message)| message).eq(survivors), "bit {bit}");
            assert_eq!(walked.damage.len(), 1, "bit {bit}");
            assert_eq!(walked.damage[0].sequences, Some((4, 6)), "bit {bit} {cipher:?} {compression:?}");
        }
    }
}

#[test]
fn the_wrong_key_is_said_to_be_wrong() {
    let mut writer = Writer::new(Cipher::ChaCha20Poly1305, Compression::None);
    writer.mark(BASE, 0);
    writer.messages(&[simple(1)]);
    let mut wrong = Keys::none(OWNER);
    let walk_with = |keys: &Keys| {
        walk(&writer.bytes, writer.place, Context::default(), 0, keys, &mut Seen::default()).map(|_| ())
    };
    let error = Err(WalkError::WrongKey { block: 9, epoch: 1 });
    assert_eq!(walk_with(&wrong), error);
    wrong.add(1, Cipher::ChaCha20Poly1305, b"another key");
    assert_eq!(walk_with(&wrong), error);
    // An old epoch stays readable beside a new one.
    let mut rotated = writer.keys.clone();
    rotated.add(2, Cipher::Aes256Gcm, b"another key");
    assert_eq!(walk_with(&rotated), Ok(()));
}

#[test]
fn a_tail_that_is_written_again_has_another_nonce() {
    let keys = |cipher| {
        let mut keys = Keys::none(OWNER);
        keys.add(1, cipher, b"server key");
        keys
    };
    for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
        let keys = keys(cipher);
        let codec = Codec { keys: &keys, compression: Compression::None };
        let first = Context { next_sequence: 5, base_time: BASE };
        let plain = Plain { records: &[0; 64], first, next_sequence: 6 };
        let mut rng = Rng::from_u64(3);
        let mut frame = || {
            let mut out = Vec::new();
            codec.encode(&mut out, &Place::new(OWNER, 1), 64, plain, &mut rng);
            out
        };
        let (one, two) = (frame(), frame());
        // The same text at the same place: with one nonce the two would be equal.
        let same = one.iter().zip(&two).filter(|(one, two)| one == two).count();
        assert!(same < one.len() / 2, "{same} of {}", one.len());
    }
}

#[test]
fn a_tail_is_torn_only_where_nothing_was_synced() {
    let (writer, _) = fifty();
    let marks: Vec<_> = writer.starts.iter().skip(1).step_by(11).skip(4).copied().collect();
    // The last two marks stand behind batches 4 and 5; the one behind batch 5 knows the first four to be synced.
    let (batch5, len) = (marks[0], writer.bytes.len());
    let mut bytes = writer.bytes.clone();
    bytes[batch5 - 20] ^= 1;
    let (_, walked) = writer.walk(&bytes, 0);
    assert_eq!((walked.torn, walked.damage.len()), (0, 1));
    // Cut inside the last batch: torn, and what stands before is whole.
    for cut in (batch5 + 60..len).step_by(7) {
        let (seen, walked) = writer.walk(&writer.bytes[..cut], 0);
        assert!(walked.damage.is_empty(), "cut {cut}");
        assert_eq!(walked.end as usize + walked.torn as usize, cut);
        let boundary = writer.starts.iter().rfind(|start| **start <= cut);
        assert_eq!(Some(&(walked.end as usize)), boundary, "cut {cut}");
        let (again, clean) = writer.walk(&writer.bytes[..walked.end as usize], 0);
        assert_eq!((clean.torn, again.messages.len()), (0, seen.messages.len()));
        assert_eq!(clean.context, walked.context);
        assert_eq!(
            seen.messages.last().map(|(_, message)| message.sequence + 1),
            Some(walked.context.next_sequence)
        );
        // Somebody who knows that it was synced makes damage of it.
        if walked.torn > 0 {
            let (_, walked) = writer.walk(&writer.bytes[..cut], cut as u32);
            assert_eq!((walked.torn, walked.damage.len()), (0, 1), "cut {cut}");
        }
    }
}

#[test]
fn deletions_and_gaps_are_told_and_a_gap_does_not_look_like_damage() {
    let mut writer = Writer::new(Cipher::None, Compression::None);
    writer.mark(BASE, 0);
    writer.messages(&[simple(1)]);
    let offset = writer.offset();
    encode_skipped(&mut writer.bytes, &writer.place, offset, 2, 8);
    let offset = writer.offset();
    encode_deleted(&mut writer.bytes, &writer.place, offset, &[(1, 1), (10, 12)]);
    writer.messages(&[simple(10), simple(11)]);
    let (seen, walked) = writer.walk(&writer.bytes, 0);
    let sequences: Vec<_> = seen.messages.iter().map(|(_, message)| message.sequence).collect();
    assert_eq!(sequences, [1, 10, 11]);
    assert_eq!((seen.skipped, seen.deleted), (vec![(2, 8)], vec![(1, 1), (10, 12)]));
    assert!(walked.damage.is_empty());
}

#[test]
fn an_erased_message_is_gone_and_its_neighbours_are_not() {
    let (writer, messages) = fifty();
    let (clean, _) = writer.walk(&writer.bytes, 0);
    let (at, message) = &clean.messages[20];
    let (start, end) = (at.offset as usize, (at.offset + at.len) as usize);
    let mut bytes = writer.bytes.clone();
    let erased = erase(&bytes[start..], &writer.place, at.offset, message.sequence, message.time).unwrap();
    assert_eq!(erased.len(), end - start);
    bytes[start..end].copy_from_slice(&erased);
    let (seen, walked) = writer.walk(&bytes, bytes.len() as u32);
    assert!(walked.damage.is_empty());
    assert_eq!(seen.deleted, [(message.sequence, message.sequence)]);
    assert_eq!(seen.messages.len(), messages.len() - 1);
    let read = |sequence, time| {
        Record::decode(&bytes[start..], &writer.place, at.offset, sequence, time).map(|_| ())
    };
    assert_eq!(read(message.sequence, message.time), Err(RecordError::Erased));
    assert_eq!(read(message.sequence + 1, message.time), Err(RecordError::Checksum));
    assert!(!bytes[start..end].windows(6).any(|window| window == b"orders"));
}

#[test]
fn a_record_is_known_for_stale_or_misdirected() {
    let message = simple(3);
    let mut bytes = Vec::new();
    let mut context = Context { next_sequence: 3, base_time: BASE };
    message.record().encode(&mut bytes, &Place::new(OWNER, 1), 100, &mut context).unwrap();
    let read = |owner, block, offset, sequence, time| {
        Record::decode(&bytes, &Place::new(owner, block), offset, sequence, time).is_ok()
    };
    assert!(read(OWNER, 1, 100, 3, message.time));
    assert!(!read(OwnerId(1), 1, 100, 3, message.time));
    assert!(!read(OWNER, 2, 100, 3, message.time));
    assert!(!read(OWNER, 1, 101, 3, message.time));
    assert!(!read(OWNER, 1, 100, 4, message.time));
    assert!(!read(OWNER, 1, 100, 3, message.time + 1));
}

fn index_of(writer: &Writer) -> (Index, Vec<u8>) {
    let mut builder = Builder::new(&writer.place);
    let walked =
        walk(&writer.bytes, writer.place, Context::default(), 0, &writer.keys, &mut builder).unwrap();
    let index = builder.finish(Stamp::of(&writer.bytes), 1, walked.context.next_sequence, walked.applied);
    let bytes = index.encode(&writer.place, &writer.keys, &mut Rng::from_u64(2));
    (index, bytes)
}

#[test]
fn an_index_is_read_as_written_and_known_for_foreign_stale_or_damaged() {
    for (cipher, compression) in CODECS {
        let mut writer = Writer::new(cipher, compression);
        writer.mark(BASE, 0);
        writer.messages(&(1..=20).map(simple).collect::<Vec<_>>());
        writer.messages(&(30..=40).map(simple).collect::<Vec<_>>());
        writer.mark(BASE, 0);
        let (index, bytes) = index_of(&writer);
        let stamp = Stamp::of(&writer.bytes);
        let decode =
            |bytes: &[u8], block, stamp| Index::decode(bytes, &Place::new(OWNER, block), stamp, &writer.keys);
        assert_eq!(decode(&bytes, 9, stamp), Ok(index.clone()));
        assert_eq!((index.len(), index.first_sequence), (31, 1));
        for sequence in 0..50 {
            let slot = index.slot(sequence);
            assert_eq!(slot.is_some(), (1..=20).contains(&sequence) || (30..=40).contains(&sequence));
            if let Some(slot) = slot {
                assert_eq!(index.subject(slot.subject), Some(&simple(sequence).subject[..]));
                assert_eq!(slot.time, simple(sequence).time);
            }
        }
        assert_eq!(index.ttls(), [(11, 60), (33, 60)]);
        assert_eq!(index.schedules(), [(13, -91), (39, -273)]);
        assert!(!index.is_empty() && index.memory() < 24 * 31 + 1024);
        assert_eq!(decode(&bytes, 8, stamp), Err(IndexError::Foreign));
        assert_eq!(decode(&bytes, 9, Stamp { len: stamp.len + 1, ..stamp }), Err(IndexError::Stale));
        assert_eq!(decode(&bytes, 9, Stamp { tail: !stamp.tail, ..stamp }), Err(IndexError::Stale));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(decode(&bad, 9, stamp), Err(IndexError::Damaged), "bit {bit}");
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut], 9, stamp).is_err());
        }
        let shown = bytes.windows(8).any(|window| window == b"orders.1");
        assert_eq!(shown, cipher == Cipher::None);
    }
}

fn owned() -> impl Strategy<Value = Owned> {
    let time = prop_oneof![BASE..BASE + 1000, BASE..BASE + (1 << 50), any::<i64>()];
    let parts = (vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..40), vec(any::<u8>(), 0..600));
    (1..4u64, time, parts, 0..3u64).prop_map(|(sequence, time, (subject, headers, payload), ttl)| Owned {
        sequence,
        time,
        subject,
        headers,
        payload,
        ttl,
        due: (ttl == 2).then_some(time),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sequences of the strategy are steps.
    #[test]
    fn blocks_are_read_as_written(
        mut messages in vec(owned(), 0..60),
        batch in 1..20usize,
        codec in 0..6usize,
        bases in vec(any::<i64>(), 4),
    ) {
        let mut sequence = 0;
        for message in &mut messages {
            sequence += message.sequence;
            message.sequence = sequence;
        }
        let (cipher, compression) = CODECS[codec];
        let mut writer = Writer::new(cipher, compression);
        writer.mark(BASE, 0);
        for (at, batch) in messages.chunks(batch).enumerate() {
            writer.messages(batch);
            writer.mark(bases[at % 4], 0);
        }
        let (seen, walked) = writer.walk(&writer.bytes, 0);
        prop_assert!(seen.messages.iter().map(|(_, message)| message).eq(&messages));
        prop_assert!(walked.damage.is_empty());
        prop_assert_eq!((walked.end as usize, walked.torn, walked.context), (writer.bytes.len(), 0, writer.context));
        for (at, message) in seen.messages.iter().filter(|(at, _)| !at.framed) {
            let record = Record::decode(
                &writer.bytes[at.offset as usize..], &writer.place, at.offset, message.sequence, message.time,
            );
            prop_assert_eq!(record.map(|record| Owned::of(&record)), Ok(message.clone()));
        }
    }

    /// Whatever happens to a block, what is served was written, in order, and only what was hit is missing.
    #[test]
    fn what_a_damaged_block_serves_was_written(
        hits in vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        cut in any::<prop::sample::Index>(),
        codec in 0..6usize,
        synced: bool,
    ) {
        let (cipher, compression) = CODECS[codec];
        let mut writer = Writer::new(cipher, compression);
        let messages: Vec<_> = (1..=60).map(simple).collect();
        writer.mark(BASE, 0);
        for batch in messages.chunks(7) {
            writer.messages(batch);
            writer.mark(BASE, 0);
        }
        let mut bytes = writer.bytes.clone();
        for (at, byte) in &hits {
            let at = at.index(bytes.len());
            bytes[at] = *byte;
        }
        bytes.truncate(HEADER_LEN + cut.index(bytes.len() - HEADER_LEN));
        let mut seen = Seen::default();
        let synced = if synced { bytes.len() as u32 } else { 0 };
        let walked = walk(&bytes, writer.place, Context::default(), synced, &writer.keys, &mut seen);
        for (_, message) in &seen.messages {
            prop_assert_eq!(message, &messages[message.sequence as usize - 1]);
        }
        prop_assert!(seen.messages.windows(2).all(|pair| pair[0].1.sequence < pair[1].1.sequence));
        let walked = walked.expect("no hit makes the block another's");
        prop_assert_eq!(walked.end as usize + walked.torn as usize, bytes.len());
        if let Some((_, last)) = seen.messages.last() {
            // What is missing is told.
            for sequence in 1..last.sequence {
                let served = seen.messages.iter().any(|(_, message)| message.sequence == sequence);
                let told = walked.damage.iter().filter_map(|damage| damage.sequences);
                prop_assert!(served || told.into_iter().any(|(first, last)| (first..=last).contains(&sequence)));
            }
        }
    }

    #[test]
    fn any_bytes_are_walked_and_decoded_without_harm(bytes in vec(any::<u8>(), 0..2000), magic: bool) {
        any_bytes(&bytes, magic);
    }
}

fn any_bytes(bytes: &[u8], magic: bool) {
    let writer = Writer::new(Cipher::ChaCha20Poly1305, Compression::S2);
    let mut block = if magic { writer.bytes.clone() } else { Vec::new() };
    block.extend_from_slice(bytes);
    let mut seen = Seen::default();
    if let Ok(walked) = walk(&block, writer.place, Context::default(), 0, &writer.keys, &mut seen) {
        assert_eq!(walked.end as usize + walked.torn as usize, block.len());
    }
    assert!(seen.messages.is_empty());
    assert!(Index::decode(bytes, &writer.place, Stamp::default(), &writer.keys).is_err());
    assert!(Record::decode(bytes, &writer.place, 0, 1, 0).is_err());
}

/// Each planted bug of this room is caught by a test above.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_caught() {
    use crate::planted::{Bug, arm, disarm};

    let caught: [(Bug, fn()); 7] = [
        (Bug::BlockChecksumUnverified, a_flipped_bit_costs_the_record_that_it_is_in_and_nothing_else),
        (Bug::BlockTailCutTooShort, a_tail_is_torn_only_where_nothing_was_synced),
        (Bug::BlockTailCutTooLong, a_tail_is_torn_only_where_nothing_was_synced),
        (Bug::IndexTrustedOverBlock, an_index_is_read_as_written_and_known_for_foreign_stale_or_damaged),
        (Bug::TombstoneLost, deletions_and_gaps_are_told_and_a_gap_does_not_look_like_damage),
        (Bug::NonceReusedAfterCut, a_tail_that_is_written_again_has_another_nonce),
        (Bug::DamageDropsRestOfBlock, a_flipped_bit_costs_the_record_that_it_is_in_and_nothing_else),
    ];
    for (bug, test) in caught {
        test();
        arm(Some(bug), 0, 1, 1);
        let result = std::panic::catch_unwind(test);
        disarm();
        assert!(result.is_err(), "{bug:?} goes unnoticed");
    }
}
