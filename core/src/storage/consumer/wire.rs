//! A consumer's state as bytes: the reference's format, for peers and snapshots, and our own, exact to the nanosecond.

use std::collections::BTreeMap;

use super::entry::{put_pair, take_pair};
use super::state::{ConsumerState, Pending, SequencePair};
use crate::time::WallTime;
use crate::varint::{self, Reader};

const MAGIC: u8 = 22;
const VERSION: u8 = 2;
const NANOS: i64 = 1_000_000_000;

/// Why bytes are not a consumer's state.
///
/// Source of the texts: nats-server `server/filestore.go`, `checkConsumerHeader` and `decodeConsumerState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// They end too early, or say what can't be.
    #[error("corrupt state file")]
    Corrupt,
    /// They are of a version that nobody knows.
    #[error("unsupported version: {0}")]
    Version(u8),
}

/// Returns `state` in the reference's format, version 2; times are cut to seconds before `now`.
///
/// Source: nats-server `server/store.go`, `encodeConsumerState`. Sequences stand as differences to the ack floor, which
/// wrap around for those below it, as they do there.
pub fn encode_state(state: &ConsumerState, now: WallTime) -> Vec<u8> {
    let mut out = vec![MAGIC, VERSION];
    put_pair(&mut out, state.ack_floor);
    put_pair(&mut out, state.delivered);
    varint::put(&mut out, state.pending.len() as u64);
    if !state.pending.is_empty() {
        let base = now.as_unix_nanos().saturating_add(NANOS / 2).div_euclid(NANOS);
        varint::put_signed(&mut out, base);
        for (stream, pending) in &state.pending {
            varint::put(&mut out, stream.wrapping_sub(state.ack_floor.stream));
            varint::put(&mut out, pending.sequence.wrapping_sub(state.ack_floor.consumer));
            varint::put_signed(&mut out, base - pending.time.as_unix_nanos() / NANOS);
        }
    }
    varint::put(&mut out, state.redelivered.len() as u64);
    for (stream, count) in &state.redelivered {
        varint::put(&mut out, stream.wrapping_sub(state.ack_floor.stream));
        varint::put(&mut out, *count);
    }
    out
}

/// Reads the reference's format, versions 1 and 2.
///
/// # Errors
///
/// [`StateError`]; a count that the bytes can't hold is found out before anything is allocated for it.
pub fn decode_state(bytes: &[u8]) -> Result<ConsumerState, StateError> {
    let version = match bytes {
        [MAGIC, version @ (1 | 2), ..] => *version,
        [MAGIC, version, ..] => return Err(StateError::Version(*version)),
        _ => return Err(StateError::Corrupt),
    };
    read_state(version, &mut Reader::new(&bytes[2..])).ok_or(StateError::Corrupt)
}

fn read_state(version: u8, reader: &mut Reader<'_>) -> Option<ConsumerState> {
    let ack_floor = take_pair(reader)?;
    let mut delivered = take_pair(reader)?;
    if version == 1 {
        // Version 1 counted from the floor.
        delivered.consumer = delivered.consumer.wrapping_add(ack_floor.consumer.saturating_sub(1));
        delivered.stream = delivered.stream.wrapping_add(ack_floor.stream.saturating_sub(1));
    }
    // A sequence with the highest bit is a number that went below zero.
    if (ack_floor.stream | delivered.stream) >> 63 != 0 {
        return None;
    }
    let pending = read_pending(version, ack_floor, reader)?;
    let mut redelivered = BTreeMap::new();
    for _ in 0..reader.take()? {
        let (stream, count) = (reader.take()?, reader.take()?);
        if stream > 0 && count > 0 {
            redelivered.insert(stream.wrapping_add(ack_floor.stream), count);
        }
    }
    Some(ConsumerState { delivered, ack_floor, pending, redelivered, ..ConsumerState::default() })
}

fn read_pending(
    version: u8,
    ack_floor: SequencePair,
    reader: &mut Reader<'_>,
) -> Option<BTreeMap<u64, Pending>> {
    let mut all = BTreeMap::new();
    let count = reader.take()?;
    let base = if count > 0 { reader.take_signed()? } else { 0 };
    for _ in 0..count {
        let stream = reader.take()?.wrapping_add(ack_floor.stream);
        let (sequence, seconds) = match version {
            1 => (0, reader.take_signed()?.checked_add(base)?),
            _ => {
                let sequence = reader.take()?.wrapping_add(ack_floor.consumer);
                (sequence, base.checked_sub(reader.take_signed()?)?)
            }
        };
        if stream == 0 {
            return None;
        }
        let time = WallTime::from_unix_nanos(seconds.checked_mul(NANOS)?);
        all.insert(stream, Pending { sequence, time });
    }
    Some(all)
}

/// Appends `state` in our own format: as the reference's, but times are exact and sequences are differences to the one
/// before.
pub(super) fn put_exact(out: &mut Vec<u8>, state: &ConsumerState) {
    put_pair(out, state.ack_floor);
    put_pair(out, state.delivered);
    varint::put(out, state.pending.len() as u64);
    let (mut last_stream, mut last_time) = (0, 0i64);
    for (stream, pending) in &state.pending {
        varint::put(out, stream - last_stream);
        varint::put(out, pending.sequence);
        let time = pending.time.as_unix_nanos();
        varint::put_signed(out, time.wrapping_sub(last_time));
        (last_stream, last_time) = (*stream, time);
    }
    varint::put(out, state.redelivered.len() as u64);
    last_stream = 0;
    for (stream, count) in &state.redelivered {
        varint::put(out, stream - last_stream);
        varint::put(out, *count);
        last_stream = *stream;
    }
    varint::put(out, state.last_only_through);
}

/// Takes a state in our own format; `None` if the bytes hold none.
pub(super) fn take_exact(reader: &mut Reader<'_>) -> Option<ConsumerState> {
    let mut state = ConsumerState {
        ack_floor: take_pair(reader)?,
        delivered: take_pair(reader)?,
        ..ConsumerState::default()
    };
    let (mut stream, mut time) = (0u64, 0i64);
    for _ in 0..reader.take()? {
        stream = stream.checked_add(reader.take()?)?;
        let sequence = reader.take()?;
        time = time.wrapping_add(reader.take_signed()?);
        let pending = Pending { sequence, time: WallTime::from_unix_nanos(time) };
        state.pending.insert(stream, pending);
    }
    stream = 0;
    for _ in 0..reader.take()? {
        stream = stream.checked_add(reader.take()?)?;
        state.redelivered.insert(stream, reader.take()?);
    }
    state.last_only_through = reader.take()?;
    Some(state)
}
