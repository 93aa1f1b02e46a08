use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::jetstream::api::backup::{BackupState, ConsumerText};
use crate::jetstream::api::consumer_config::ConsumerConfig;
use crate::jetstream::api::write::to_json;
use crate::storage::Message;
use crate::storage::consumer::ConsumerState;
use crate::storage::s2;
use crate::time::WallTime;

const LIMITS: Limits = Limits { max_payload: 1 << 20, max_message_size: None };

fn read(chunks: &[Bytes], limits: Limits) -> Result<Vec<Item>, BackupError> {
    let (mut reader, mut items) = (BackupReader::new(limits), Vec::new());
    for chunk in chunks {
        reader.push(chunk);
        while let Some(item) = reader.poll()? {
            items.push(item);
        }
    }
    reader.finish().map(|()| items)
}

fn message(sequence: u64, subject: &str, headers: &str, payload: Vec<u8>) -> Message {
    Message {
        sequence,
        time: WallTime::from_unix_nanos(sequence as i64 * 7 - 9),
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        headers: Bytes::copy_from_slice(headers.as_bytes()),
        payload: payload.into(),
    }
}

fn state(consumers: i64, last: u64) -> Vec<u8> {
    format!(r#"{{"messages":1,"bytes":9,"first_seq":1,"last_seq":{last},"consumer_count":{consumers}}}"#)
        .into_bytes()
}

fn backup(consumers: &[&str], messages: &[Message], chunk: usize) -> Vec<Bytes> {
    let now = WallTime::from_unix_nanos(5);
    let mut writer = BackupWriter::default();
    writer.state(&state(consumers.len() as i64, messages.last().map_or(0, |last| last.sequence)), now);
    for name in consumers {
        let config = ConsumerConfig { name: (*name).to_owned(), ..ConsumerConfig::default() };
        writer.consumer(name, &to_json(&ConsumerText::new(&config, &ConsumerState::default(), 9)), now);
    }
    messages.iter().for_each(|message| writer.message(message));
    writer.finish();
    std::iter::from_fn(|| (writer.ready() > 0).then(|| writer.chunk(chunk))).collect()
}

fn any_message() -> impl Strategy<Value = (u64, String, bool, Vec<u8>)> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..40),
        (any::<u8>(), 0..200_000usize).prop_map(|(byte, len)| vec![byte; len]),
    ];
    (1..5u64, "[a-z]{1,4}(\\.[a-z]{1,3}){0,2}", any::<bool>(), payload)
}

proptest! {
    #[test]
    fn a_backup_is_read_as_it_was_written(
        messages in proptest::collection::vec(any_message(), 0..20),
        consumers in 0..3usize,
        chunk in prop_oneof![1..100usize, 1000..100_000usize],
    ) {
        let mut last = 0;
        let messages: Vec<Message> = messages.into_iter().map(|(step, subject, headers, payload)| {
            last += step;
            message(last, &subject, if headers { "NATS/1.0\r\nA: b\r\n\r\n" } else { "" }, payload)
        }).collect();
        let names = &["a", "b", "c"][..consumers];
        let items = read(&backup(names, &messages, chunk), LIMITS).unwrap();
        let Item::State(BackupState { last_sequence, consumers: count, .. }) = items[0] else { panic!() };
        prop_assert_eq!((last_sequence, count), (last, consumers as i64));
        for (item, name) in items[1..].iter().zip(names) {
            let Item::Consumer(found, consumer) = item else { panic!() };
            prop_assert_eq!((found.as_str(), consumer.state.as_ref()), (*name, Some(&ConsumerState::default())));
        }
        let found: Vec<Message> = items.iter().filter_map(|item| match item {
            Item::Message(RestoredMessage { sequence, time, subject, headers, payload, ttl: 0 }) => Some(Message {
                sequence: *sequence, time: *time, subject: subject.clone(), headers: headers.clone(), payload: payload.clone(),
            }),
            _ => None,
        }).collect();
        prop_assert_eq!(found, messages);
        prop_assert_eq!(items.last(), Some(&Item::End));
    }

    #[test]
    fn a_backup_that_is_cut_is_not_whole(cut in any::<prop::sample::Index>()) {
        let messages = [message(2, "a", "", vec![1; 50]), message(7, "b.c", "", vec![2; 9])];
        let whole = backup(&["c"], &messages, 1 << 20).concat();
        let cut = cut.index(whole.len());
        prop_assert!(read(&[Bytes::from(whole).slice(..cut)], LIMITS).is_err());
    }

    #[test]
    fn arbitrary_entries_never_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        consumers in -1..3i64,
        flip in any::<prop::sample::Index>(),
        chunk in 1..300usize,
    ) {
        // What the checksums of the compression would find is compressed as it is.
        let mut plain = b"NATSARC1\x0a\x00\x00\x00".to_vec();
        let state = state(consumers, 3);
        crate::varint::put(&mut plain, state.len() as u64);
        plain.extend_from_slice(b"state.json");
        plain.extend_from_slice(&state);
        plain.extend_from_slice(&bytes);
        let at = flip.index(plain.len());
        for flips in [0, 0x81] {
            plain[at] ^= flips;
            let (mut compressor, mut out) = (s2::Writer::default(), bytes::BytesMut::new());
            compressor.write(&plain, &mut out);
            compressor.flush(&mut out);
            let chunks: Vec<Bytes> = out.chunks(chunk).map(Bytes::copy_from_slice).collect();
            let _ = read(&chunks, LIMITS);
        }
    }
}

/// Reads entries that no server writes.
fn odd(entries: &[(&str, u64, i64, &[u8])], limits: Limits) -> BackupError {
    let (mut plain, mut compressor, mut out) = (Vec::new(), s2::Writer::default(), bytes::BytesMut::new());
    for (at, (name, sequence, time, data)) in entries.iter().enumerate() {
        let entry = crate::storage::archive::Entry {
            name: Bytes::copy_from_slice(name.as_bytes()),
            time: *time,
            sequence: *sequence,
            headers: if data.starts_with(b"NATS/1.0") { data.len() as u64 } else { 0 },
            payload: if data.starts_with(b"NATS/1.0") { 0 } else { data.len() as u64 },
        };
        entry.encode(at == 0, &mut plain);
        plain.extend_from_slice(data);
    }
    compressor.write(&plain, &mut out);
    compressor.flush(&mut out);
    read(&[out.freeze()], limits).unwrap_err()
}

#[test]
fn what_makes_no_sense_is_told() {
    let state = state(0, 3);
    let first = ("state.json", 0, 1, &state[..]);
    let one = self::state(1, 3);
    let with_consumer = ("state.json", 0, 1, &one[..]);
    let ttl = b"NATS/1.0\r\nNats-TTL: x\r\n\r\n";
    let small = Limits { max_payload: 100, max_message_size: Some(5) };
    for (entries, expected) in [
        (&[][..], "EOF"),
        (&[("other", 0, 0, &b""[..])][..], "expected state.json first"),
        (&[("state.json", 0, 0, b"{")], "error in state.json: unexpected EOF"),
        (&[first], "EOF"),
        (&[with_consumer, ("a", 1, 0, b"")], r#"expected consumer, found "a""#),
        (&[with_consumer, ("consumers/c", 0, 0, b"[]")], "failed to decode consumer"),
        (&[first, ("a", 0, 1, b"")], "expected message sequence"),
        (&[first, ("a", 2, 1, b""), ("a", 2, 1, b"")], "message sequence 2 out of order"),
        (&[first, ("a", 1, 1, b"123456")], "message sequence 1 exceeds maximum message size"),
        (&[first, ("a", 1, 1, &[7; 101])], "message sequence 1 exceeds maximum payload size"),
        (&[first, ("a.*", 1, 1, b"")], "message sequence 1 has no subject that can be published to"),
        (&[first, ("../a b", 1, 1, b"")], "message sequence 1 has no subject that can be published to"),
        (&[first, ("", 1, 1, b"")], "message sequence 1 has no subject that can be published to"),
    ] {
        let error = odd(entries, small).to_string();
        assert!(error.starts_with(expected), "{error} for {expected}");
    }
    let error = odd(&[first, ("a", 1, 1, ttl)], LIMITS).to_string();
    assert_eq!(error, "failed to parse message TTL: invalid per-message TTL (10165)");
    let huge = self::state(i64::MAX, 3);
    let cut = odd(&[("state.json", 0, 1, &huge), ("consumers/c", 0, 0, b"{}")], LIMITS);
    assert_eq!(cut, BackupError::Ended);
}

#[test]
fn what_comes_behind_the_end_is_passed_over() {
    let mut chunks = backup(&[], &[message(1, "a", "", vec![])], 64);
    chunks.push(Bytes::from_static(b"garbage"));
    assert_eq!(read(&chunks, LIMITS).unwrap().last(), Some(&Item::End));
}

#[test]
fn another_format_is_told_apart() {
    let (mut compressor, mut out) = (s2::Writer::default(), bytes::BytesMut::new());
    compressor.write(b"meta.inf\0\0\0\0\0\0\0\0\0\0", &mut out);
    compressor.flush(&mut out);
    assert_eq!(read(&[out.freeze()], LIMITS), Err(BackupError::OtherFormat));
}
