//! Requests to back up and to restore a stream, and what stands in a backup beside the messages.
//!
//! Source: nats-server `server/jetstream_api.go`, `JSApiStreamSnapshotRequest` and `JSApiStreamRestoreRequest`;
//! `server/stream_backup.go`, `SnapshotConsumerState`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::consumer_config::{ConsumerConfig, ConsumerRequest};
use super::error::{ApiError, ErrorKind};
use super::read::{Keys, ReadJson, fill, part, unmarshal, unmarshal_request};
use super::request::is_empty;
use super::stream_config::StreamRequest;
use crate::protocol::json::{JsonError, Member};
use crate::storage::consumer::{ConsumerState, Pending, SequencePair};
use crate::subject::is_valid_publish_subject;
use crate::time::WallTime;

/// How long chunks are, in bytes: what is asked for, within bounds.
const CHUNK: (i64, i64, i64) = (1 << 10, 128 << 10, 1 << 20);
/// How many bytes are under way, in the same way.
const WINDOW: (i64, i64, i64) = (1 << 10, 8 << 20, 32 << 20);

/// A request to back up a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// Where the backup goes to.
    pub deliver_subject: String,
    /// Whether consumers are left out.
    pub no_consumers: bool,
    chunk_size: i64,
    window_size: i64,
    /// Every message is checked in any case.
    check_messages: bool,
}

impl SnapshotRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidJson`], [`ErrorKind::SnapshotDeliverSubjectInvalid`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        let request: SnapshotRequest = unmarshal_request(body, strict)?;
        match is_valid_publish_subject(request.deliver_subject.as_bytes()) {
            true => Ok(request),
            false => Err(ErrorKind::SnapshotDeliverSubjectInvalid.error()),
        }
    }

    /// Returns how long a chunk is, in bytes.
    pub fn chunk_size(&self) -> usize {
        within(self.chunk_size, CHUNK)
    }

    /// Returns how many chunks may be under way.
    pub fn window(&self) -> usize {
        within(self.window_size, WINDOW).max(self.chunk_size()) / self.chunk_size()
    }
}

fn within(asked: i64, (least, unless_said, most): (i64, i64, i64)) -> usize {
    let wanted = if asked == 0 { unless_said } else { asked };
    wanted.clamp(least, most) as usize
}

impl ReadJson for SnapshotRequest {
    const GO_TYPE: &'static str = "server.JSApiStreamSnapshotRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "deliver_subject" => member.string(&mut self.deliver_subject),
            "no_consumers" => member.boolean(&mut self.no_consumers),
            "chunk_size" => member.integer(&mut self.chunk_size),
            "window_size" => member.integer(&mut self.window_size),
            "jsck" => member.boolean(&mut self.check_messages),
            _ => keys.unknown(member),
        }
    }
}

/// A request to restore a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestoreRequest {
    /// What the stream shall be.
    pub stream: StreamRequest,
    /// What it was.
    pub state: BackupState,
}

impl RestoreRequest {
    /// Reads a request.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::BadRequest`] if it is empty, [`ErrorKind::InvalidJson`].
    pub fn parse(body: &[u8], strict: bool) -> Result<Self, ApiError> {
        if is_empty(body) {
            return Err(ErrorKind::BadRequest.error());
        }
        unmarshal_request(body, strict)
    }
}

impl ReadJson for RestoreRequest {
    const GO_TYPE: &'static str = "server.JSApiStreamRestoreRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "config" => fill(&mut self.stream, &member.object("server.StreamConfig")?, keys),
            "state" => part(&mut self.state, member, keys),
            _ => keys.unknown(member),
        }
    }
}

/// What a stream was when it was backed up, as far as restoring it needs that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupState {
    /// How many bytes its messages took.
    pub bytes: u64,
    /// Its first sequence.
    pub first_sequence: u64,
    /// Its last sequence.
    pub last_sequence: u64,
    /// How many consumers are in the backup.
    pub consumers: i64,
}

impl BackupState {
    /// Reads what a backup says.
    ///
    /// # Errors
    ///
    /// [`JsonError`].
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        unmarshal(text)
    }
}

impl ReadJson for BackupState {
    const GO_TYPE: &'static str = "server.StreamState";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        let (mut time, mut number, mut count) = (WallTime::default(), 0u64, 0);
        match member.key() {
            "messages" => member.number(&mut number, "uint64"),
            "bytes" => member.number(&mut self.bytes, "uint64"),
            "first_seq" => member.number(&mut self.first_sequence, "uint64"),
            "last_seq" => member.number(&mut self.last_sequence, "uint64"),
            "first_ts" | "last_ts" => member.time(&mut time),
            "num_subjects" | "num_deleted" => member.integer(&mut count),
            "consumer_count" => member.integer(&mut self.consumers),
            // Which they are the messages say.
            "subjects" | "deleted" | "lost" => Ok(()),
            _ => keys.unknown(member),
        }
    }
}

/// A consumer in a backup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackupConsumer {
    /// What it is told to be.
    pub config: Option<ConsumerConfig>,
    /// How far it is.
    pub state: Option<ConsumerState>,
}

impl BackupConsumer {
    /// Reads a consumer.
    ///
    /// # Errors
    ///
    /// [`JsonError`].
    pub fn parse(text: &[u8]) -> Result<Self, JsonError> {
        unmarshal(text)
    }
}

impl ReadJson for BackupConsumer {
    const GO_TYPE: &'static str = "server.SnapshotConsumerState";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "config" => {
                if let Some(object) = member.optional_object("server.ConsumerConfig")? {
                    let mut reading = ConfigAlone::default();
                    fill(&mut reading, &object, keys)?;
                    self.config = Some(reading.0.config);
                }
                Ok(())
            }
            "state" => {
                if let Some(object) = member.optional_object("server.ConsumerState")? {
                    let mut state = StateText::default();
                    fill(&mut state, &object, keys)?;
                    self.state = Some(state.0);
                }
                Ok(())
            }
            _ => keys.unknown(member),
        }
    }
}

/// The configuration of a consumer, without the request around it.
#[derive(Default)]
struct ConfigAlone(ConsumerRequest);

impl ReadJson for ConfigAlone {
    const GO_TYPE: &'static str = "server.ConsumerConfig";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        self.0.read_config(member, keys)
    }
}

/// A consumer's state as it is read.
#[derive(Default)]
struct StateText(ConsumerState);

impl ReadJson for StateText {
    const GO_TYPE: &'static str = "server.ConsumerState";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        let state = &mut self.0;
        match member.key() {
            "delivered" => read_pair(&mut state.delivered, member),
            "ack_floor" => read_pair(&mut state.ack_floor, member),
            "pending" => each_sequence(member, |sequence, value| {
                let mut pending = PendingText::default();
                part(&mut pending, value, Keys::Any)?;
                let time = WallTime::from_unix_nanos(pending.time);
                state.pending.insert(sequence, Pending { sequence: pending.sequence, time });
                Ok(())
            }),
            "redelivered" => each_sequence(member, |sequence, value| {
                let mut count = 0u64;
                value.number(&mut count, "uint64")?;
                state.redelivered.insert(sequence, count);
                Ok(())
            }),
            // Only this server writes it; the reference passes it over.
            "last_only_through" => member.number(&mut state.last_only_through, "uint64"),
            _ => keys.unknown(member),
        }
    }
}

/// Reads an object whose keys are sequences.
fn each_sequence(
    member: &Member<'_>,
    mut with: impl FnMut(u64, &Member<'_>) -> Result<(), JsonError>,
) -> Result<(), JsonError> {
    let Some(object) = member.optional_object("map[uint64]uint64")? else { return Ok(()) };
    for value in object.members() {
        let Ok(sequence) = value.key().parse() else {
            return Err(JsonError::Value(format!("sequence {:?} is no number", value.key())));
        };
        with(sequence, value)?;
    }
    Ok(())
}

#[derive(Default)]
struct PendingText {
    sequence: u64,
    time: i64,
}

impl ReadJson for PendingText {
    const GO_TYPE: &'static str = "server.Pending";

    fn read(&mut self, member: &Member<'_>, _: Keys) -> Result<(), JsonError> {
        match member.key() {
            "Sequence" | "sequence" => member.number(&mut self.sequence, "uint64"),
            "Timestamp" | "timestamp" => member.number(&mut self.time, "int64"),
            _ => Ok(()),
        }
    }
}

fn read_pair(pair: &mut SequencePair, member: &Member<'_>) -> Result<(), JsonError> {
    for value in member.object("server.SequencePair")?.members() {
        match value.key() {
            "consumer_seq" => value.number(&mut pair.consumer, "uint64")?,
            "stream_seq" => value.number(&mut pair.stream, "uint64")?,
            _ => {}
        }
    }
    Ok(())
}

/// A consumer as it stands in a backup.
#[derive(Serialize)]
pub struct ConsumerText<'a> {
    config: &'a ConsumerConfig,
    state: WrittenState,
}

#[derive(Serialize)]
struct WrittenState {
    delivered: WrittenPair,
    ack_floor: WrittenPair,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pending: BTreeMap<u64, WrittenPending>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    redelivered: BTreeMap<u64, u64>,
    #[serde(skip_serializing_if = "super::write::is_default")]
    last_only_through: u64,
}

#[derive(Serialize)]
struct WrittenPair {
    consumer_seq: u64,
    stream_seq: u64,
}

#[derive(Serialize)]
struct WrittenPending {
    #[serde(rename = "Sequence")]
    sequence: u64,
    #[serde(rename = "Timestamp")]
    time: i64,
}

impl<'a> ConsumerText<'a> {
    /// Makes what is written of a consumer in a backup that ends at the message `last`: what it did beyond is left out.
    pub fn new(config: &'a ConsumerConfig, state: &ConsumerState, last: u64) -> Self {
        let pair = |pair: SequencePair| WrittenPair {
            consumer_seq: pair.consumer,
            stream_seq: pair.stream.min(last),
        };
        let pending = state.pending.range(..=last).map(|(sequence, pending)| {
            let Pending { sequence: delivery, time } = *pending;
            (*sequence, WrittenPending { sequence: delivery, time: time.as_unix_nanos() })
        });
        let state = WrittenState {
            delivered: pair(state.delivered),
            ack_floor: pair(state.ack_floor),
            pending: pending.collect(),
            redelivered: state.redelivered.range(..=last).map(|(at, count)| (*at, *count)).collect(),
            last_only_through: state.last_only_through.min(last),
        };
        ConsumerText { config, state }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::jetstream::api::write::to_json;

    #[test]
    fn chunks_and_windows_have_bounds() {
        let sizes = |body: &str| {
            let request = SnapshotRequest::parse(body.as_bytes(), true).unwrap();
            (request.chunk_size(), request.window())
        };
        assert_eq!(sizes(r#"{"deliver_subject":"d"}"#), (128 << 10, 64));
        assert_eq!(sizes(r#"{"deliver_subject":"d","chunk_size":1,"window_size":-1}"#), (1 << 10, 1));
        assert_eq!(sizes(r#"{"deliver_subject":"d","chunk_size":9999999,"window_size":5}"#), (1 << 20, 1));
        assert_eq!(
            sizes(r#"{"deliver_subject":"d","chunk_size":1024,"window_size":99999999}"#),
            (1 << 10, 32768)
        );
        for bad in ["{}", r#"{"deliver_subject":"a.*"}"#, r#"{"deliver_subject":"a b"}"#] {
            let error = SnapshotRequest::parse(bad.as_bytes(), false).unwrap_err();
            assert_eq!(error, ErrorKind::SnapshotDeliverSubjectInvalid.error(), "{bad}");
        }
    }

    fn any_state() -> impl Strategy<Value = ConsumerState> {
        let pair = || any::<(u64, u64)>().prop_map(|(consumer, stream)| SequencePair { consumer, stream });
        let map = || proptest::collection::btree_map(any::<u64>(), any::<u64>(), 0..5);
        (pair(), pair(), map(), map(), any::<u64>()).prop_map(
            |(delivered, ack_floor, pending, again, last)| {
                let time = |at: u64| WallTime::from_unix_nanos(at as i64);
                let pending = pending
                    .into_iter()
                    .map(|(at, sequence)| (at, Pending { sequence, time: time(sequence) }));
                ConsumerState {
                    delivered,
                    ack_floor,
                    pending: pending.collect(),
                    redelivered: again,
                    last_only_through: last,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn a_consumer_is_read_as_it_was_written(state in any_state()) {
            let config = ConsumerConfig { name: "c".to_owned(), ..ConsumerConfig::default() };
            let text = to_json(&ConsumerText::new(&config, &state, u64::MAX));
            let read = BackupConsumer::parse(&text).unwrap();
            prop_assert_eq!(read, BackupConsumer { config: Some(config), state: Some(state) });
        }

        #[test]
        fn nothing_of_a_consumer_lies_beyond_its_stream(state in any_state(), last in any::<u64>()) {
            let text = to_json(&ConsumerText::new(&ConsumerConfig::default(), &state, last));
            let read = BackupConsumer::parse(&text).unwrap().state.unwrap();
            prop_assert!(read.delivered.stream <= last && read.ack_floor.stream <= last);
            prop_assert!(read.pending.keys().chain(read.redelivered.keys()).all(|at| *at <= last));
        }
    }

    #[test]
    fn what_the_reference_writes_of_a_consumer_is_read() {
        let text =
            br#"{"config":{"name":"c","durable_name":"c","ack_policy":"explicit"},"state":{"delivered":
            {"consumer_seq":3,"stream_seq":7},"ack_floor":{"consumer_seq":1,"stream_seq":2},"pending":{"5":
            {"Sequence":2,"Timestamp":12},"7":{"Sequence":3,"Timestamp":13}},"redelivered":{"5":1}}}"#;
        let BackupConsumer { config, state } = BackupConsumer::parse(text).unwrap();
        let (config, state) = (config.unwrap(), state.unwrap());
        assert_eq!(config.durable, "c");
        assert_eq!(state.delivered, SequencePair { consumer: 3, stream: 7 });
        assert_eq!(state.pending[&5], Pending { sequence: 2, time: WallTime::from_unix_nanos(12) });
        assert_eq!(state.redelivered[&5], 1);
        assert_eq!(BackupConsumer::parse(b"{}").unwrap(), BackupConsumer::default());
        for bad in [&br#"{"state":{"pending":{"x":{}}}}"#[..], b"[]", br#"{"config":3}"#, b"{"] {
            assert!(BackupConsumer::parse(bad).is_err());
        }
    }
}
