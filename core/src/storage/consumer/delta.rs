//! What changed of a consumer since its last entry: one entry for all that happened meanwhile.
//!
//! A consumer that is working delivers and is acknowledged a hundred thousand times a second. Its state runs ahead of the
//! journal, and what changed is written down in one go. Most of what happened has no trace there: a message that
//! was delivered and acknowledged between two entries is only part of the numbers.

use super::entry::{put_pair, take_pair};
use super::state::{ConsumerError, ConsumerState, Pending, SequencePair, forget_through};
use crate::time::WallTime;
use crate::varint::{self, Reader};

/// The difference between two states of a consumer. All lists are in the order of the stream's sequences.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// The last delivery, afterwards.
    pub delivered: SequencePair,
    /// All up to here is acknowledged: nothing at or below it is pending afterwards.
    pub ack_floor: SequencePair,
    /// Up to here only the last message of each subject is delivered, afterwards.
    pub last_only_through: u64,
    /// What is pending, and was not before or is so since another time; all of it above the floor.
    pub pending: Vec<(u64, Pending)>,
    /// What is no longer pending, of what is above the floor.
    pub settled: Vec<u64>,
    /// What was delivered again, and how often.
    pub redelivered: Vec<(u64, u64)>,
    /// What doesn't count as delivered again any more.
    pub forgotten: Vec<u64>,
    /// The consumer's sequence of the last delivery before: who knows of another lacks an entry. `None` if it isn't said.
    pub after: Option<u64>,
}

impl Delta {
    /// Appends the delta: integers of variable length, sequences as differences to the one before (the first ones of what is
    /// pending or settled to the floor), and at the end, if it is said, how many deliveries there were since the entry before.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let (floor, delivered) = (self.ack_floor, self.delivered);
        put_pair(out, floor);
        varint::put(out, delivered.consumer.wrapping_sub(floor.consumer));
        varint::put(out, delivered.stream.wrapping_sub(floor.stream));
        varint::put(out, self.last_only_through);
        varint::put(out, self.pending.len() as u64);
        let (mut stream, mut sequence, mut time) = (floor.stream, floor.consumer, 0i64);
        for (at, pending) in &self.pending {
            varint::put(out, at.wrapping_sub(stream));
            varint::put_signed(out, pending.sequence.wrapping_sub(sequence) as i64);
            let nanos = pending.time.as_unix_nanos();
            varint::put_signed(out, nanos.wrapping_sub(time));
            (stream, sequence, time) = (*at, pending.sequence, nanos);
        }
        put_sequences(out, floor.stream, &self.settled);
        varint::put(out, self.redelivered.len() as u64);
        let mut stream = 0;
        for (at, count) in &self.redelivered {
            varint::put(out, at.wrapping_sub(stream));
            varint::put(out, *count);
            stream = *at;
        }
        put_sequences(out, 0, &self.forgotten);
        if let Some(after) = self.after {
            varint::put(out, delivered.consumer.wrapping_sub(after));
        }
    }

    /// Takes a delta; `None` if the bytes hold none. Nothing is allocated for more than they can hold.
    pub(super) fn decode(reader: &mut Reader<'_>, says_after: bool) -> Option<Self> {
        let ack_floor = take_pair(reader)?;
        let delivered = SequencePair {
            consumer: ack_floor.consumer.checked_add(reader.take()?)?,
            stream: ack_floor.stream.checked_add(reader.take()?)?,
        };
        let mut delta = Delta { ack_floor, delivered, last_only_through: reader.take()?, ..Delta::default() };
        let (mut stream, mut sequence, mut time) = (ack_floor.stream, ack_floor.consumer, 0i64);
        for _ in 0..reader.take()? {
            stream = take_next(reader, stream)?;
            sequence = sequence.wrapping_add(reader.take_signed()? as u64);
            time = time.wrapping_add(reader.take_signed()?);
            delta.pending.push((stream, Pending { sequence, time: WallTime::from_unix_nanos(time) }));
        }
        delta.settled = take_sequences(reader, ack_floor.stream)?;
        let mut stream = 0;
        for _ in 0..reader.take()? {
            stream = take_next(reader, stream)?;
            delta.redelivered.push((stream, reader.take()?));
        }
        delta.forgotten = take_sequences(reader, 0)?;
        if says_after {
            delta.after = Some(delivered.consumer.wrapping_sub(reader.take()?));
        }
        Some(delta)
    }
}

impl ConsumerState {
    /// Makes the state what it was changed to.
    ///
    /// # Errors
    ///
    /// [`ConsumerError`] if the delta goes back or can't be; nothing has changed then.
    pub(super) fn change(&mut self, delta: Delta) -> Result<(), ConsumerError> {
        let Delta { delivered, ack_floor, .. } = delta;
        if ack_floor.consumer > delivered.consumer {
            return Err(ConsumerError::AckFloorOfConsumer);
        }
        if ack_floor.stream > delivered.stream {
            return Err(ConsumerError::AckFloorOfStream);
        }
        if delivered.consumer < self.delivered.consumer || delivered.stream < self.delivered.stream {
            return Err(ConsumerError::OldUpdate);
        }
        let possible = |stream: u64| stream > ack_floor.stream && stream <= delivered.stream;
        if let Some((stream, _)) = delta.pending.iter().find(|(stream, _)| !possible(*stream)) {
            return Err(ConsumerError::PendingOutOfRange(*stream));
        }
        (self.delivered, self.ack_floor) = (delivered, ack_floor);
        self.last_only_through = delta.last_only_through;
        if self.pending.first_key_value().is_some_and(|(first, _)| *first <= ack_floor.stream) {
            forget_through(&mut self.pending, ack_floor.stream);
        }
        for stream in &delta.settled {
            self.pending.remove(stream);
        }
        self.pending.extend(delta.pending);
        for stream in &delta.forgotten {
            self.redelivered.remove(stream);
        }
        self.redelivered.extend(delta.redelivered);
        Ok(())
    }
}

fn put_sequences(out: &mut Vec<u8>, mut last: u64, sequences: &[u64]) {
    varint::put(out, sequences.len() as u64);
    for sequence in sequences {
        varint::put(out, sequence.wrapping_sub(last));
        last = *sequence;
    }
}

fn take_sequences(reader: &mut Reader<'_>, mut last: u64) -> Option<Vec<u64>> {
    let mut sequences = Vec::new();
    for _ in 0..reader.take()? {
        last = take_next(reader, last)?;
        sequences.push(last);
    }
    Some(sequences)
}

/// Takes a sequence that must be behind `last`.
fn take_next(reader: &mut Reader<'_>, last: u64) -> Option<u64> {
    last.checked_add(reader.take().filter(|step| *step > 0)?)
}
