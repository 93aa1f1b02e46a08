//! A stream in numbers and holes, as replicas tell each other: the reference's encoding.
//!
//! `magic u8 = 42, version u8`, then as integers of variable length messages, bytes, first sequence, last sequence, failed,
//! in version 2 the sources, then how many sequences are deleted, and if any the deleted blocks up to the end: a run
//! (`33, first, count`) or a set (`avl`, magic 22).
//!
//! Source: nats-server `server/store.go`, `DecodeStreamState`; `server/filestore.go`, `EncodedStreamState`.

use super::ledger::Ledger;
use super::{DeleteRange, Lookup};
use crate::collections::SequenceSet;
use crate::varint::{self, Reader};

const MAGIC: u8 = 42;
const VERSION: u8 = 1;
const VERSION_WITH_SOURCES: u8 = 2;
const RUN: u8 = 33;
const SET: u8 = 22;
/// A run of at least this many is written as one; shorter ones share a set.
const RUN_FROM: u64 = 256;

/// How far a stream has come in one of its sources.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceState {
    /// The source, as the reference names it in its index.
    pub name: Vec<u8>,
    /// The last sequence that came from it.
    pub sequence: u64,
    /// What tells the source from an older one of that name.
    pub identity: Vec<u8>,
}

/// Sequences without messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletedBlock {
    /// A run of them.
    Range(DeleteRange),
    /// Any.
    Set(SequenceSet),
}

/// What a replica is told of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReplicatedState {
    /// How many messages.
    pub messages: u64,
    /// How many bytes.
    pub bytes: u64,
    /// The first sequence.
    pub first_sequence: u64,
    /// The last sequence.
    pub last_sequence: u64,
    /// How many proposals failed; an offset between the stream's sequences and the log's.
    pub failed: u64,
    /// How far the stream has come in its sources.
    pub sources: Vec<SourceState>,
    /// What is deleted between first and last, in order.
    pub deleted: Vec<DeletedBlock>,
}

/// Why bytes are no such state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamStateError {
    /// They don't begin as one.
    #[error("bad stream state encoding")]
    Encoding,
    /// They end too early, or say what can't be.
    #[error("stream state snapshot is corrupt")]
    Corrupt,
}

impl ReplicatedState {
    /// Returns what `ledger` has.
    ///
    /// # Errors
    ///
    /// [`Missing`](super::Missing) if an index has to be loaded for the answer.
    pub fn of(ledger: &Ledger, failed: u64, sources: Vec<SourceState>) -> Lookup<Self> {
        let state = ledger.state()?;
        let mut deleted = Vec::new();
        let mut set = SequenceSet::default();
        for range in ledger.deleted()? {
            if range.count < RUN_FROM {
                set.extend(range.first..range.first + range.count);
                continue;
            }
            if !set.is_empty() {
                deleted.push(DeletedBlock::Set(std::mem::take(&mut set)));
            }
            deleted.push(DeletedBlock::Range(range));
        }
        if !set.is_empty() {
            deleted.push(DeletedBlock::Set(set));
        }
        Ok(ReplicatedState {
            messages: state.messages,
            bytes: state.bytes,
            first_sequence: state.first_sequence,
            last_sequence: state.last_sequence,
            failed,
            sources,
            deleted,
        })
    }

    /// Returns the runs of sequences that are deleted, in order.
    pub fn deleted_ranges(&self) -> Vec<DeleteRange> {
        let mut ranges = Vec::new();
        for block in &self.deleted {
            match block {
                DeletedBlock::Range(range) => ranges.push(*range),
                DeletedBlock::Set(set) => {
                    let runs = set.ranges().map(|(first, last)| (first, last - first));
                    ranges.extend(
                        runs.map(|(first, more)| DeleteRange { first, count: more.saturating_add(1) }),
                    );
                }
            }
        }
        ranges
    }

    /// Returns the state as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let version = if self.sources.is_empty() { VERSION } else { VERSION_WITH_SOURCES };
        let mut out = vec![MAGIC, version];
        for number in [self.messages, self.bytes, self.first_sequence, self.last_sequence, self.failed] {
            varint::put(&mut out, number);
        }
        if version == VERSION_WITH_SOURCES {
            varint::put(&mut out, self.sources.len() as u64);
            for source in &self.sources {
                put_bytes(&mut out, &source.name);
                varint::put(&mut out, source.sequence);
                put_bytes(&mut out, &source.identity);
            }
        }
        let count = |block: &DeletedBlock| match block {
            DeletedBlock::Range(range) => range.count,
            DeletedBlock::Set(set) => set.len() as u64,
        };
        let deleted = self.deleted.iter().map(count).fold(0u64, u64::saturating_add);
        varint::put(&mut out, deleted);
        for block in &self.deleted {
            match block {
                DeletedBlock::Range(range) => {
                    out.push(RUN);
                    varint::put(&mut out, range.first);
                    varint::put(&mut out, range.count);
                }
                DeletedBlock::Set(set) => set.encode(&mut out),
            }
        }
        out
    }

    /// Reads a state of version 1 or 2.
    ///
    /// # Errors
    ///
    /// [`StreamStateError`]; no count allocates anything that the bytes don't bear out.
    pub fn decode(bytes: &[u8]) -> Result<Self, StreamStateError> {
        let [MAGIC, version @ (VERSION | VERSION_WITH_SOURCES), rest @ ..] = bytes else {
            return Err(StreamStateError::Encoding);
        };
        Self::read(*version, rest).ok_or(StreamStateError::Corrupt)
    }

    fn read(version: u8, bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let mut state = ReplicatedState {
            messages: reader.take()?,
            bytes: reader.take()?,
            first_sequence: reader.take()?,
            last_sequence: reader.take()?,
            failed: reader.take()?,
            ..ReplicatedState::default()
        };
        if version == VERSION_WITH_SOURCES {
            for _ in 0..reader.take()? {
                let name = take_bytes(&mut reader)?;
                let sequence = reader.take()?;
                state.sources.push(SourceState { name, sequence, identity: take_bytes(&mut reader)? });
            }
        }
        if reader.take()? == 0 {
            return Some(state);
        }
        while let Some(kind) = reader.rest().first() {
            match *kind {
                SET => {
                    let (set, taken) = SequenceSet::decode(reader.rest()).ok()?;
                    reader = Reader::new(&reader.rest()[taken..]);
                    state.deleted.push(DeletedBlock::Set(set));
                }
                RUN => {
                    reader = Reader::new(&reader.rest()[1..]);
                    let (first, count) = (reader.take()?, reader.take()?);
                    state.deleted.push(DeletedBlock::Range(DeleteRange { first, count }));
                }
                _ => return None,
            }
        }
        Some(state)
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    let len = usize::try_from(reader.take()?).ok()?;
    let (taken, rest) = reader.rest().split_at_checked(len)?;
    let taken = taken.to_vec();
    *reader = Reader::new(rest);
    Some(taken)
}

#[cfg(test)]
mod tests {
    use crate::storage::Scheduling;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::rng::Rng;
    use crate::storage::ledger::Append;
    use crate::storage::{StorageKind, StoreConfig};
    use crate::time::WallTime;

    fn ledger(messages: u64) -> Ledger {
        let mut ledger = Ledger::new(StorageKind::Memory, StoreConfig::default());
        ledger.start_block(1);
        for at in 0..messages {
            let time = WallTime::from_unix_nanos(at as i64);
            let append = Append {
                sequence: 0,
                time,
                subject: b"s",
                size: 10,
                offset: 0,
                ttl: 0,
                scheduling: Scheduling::None,
            };
            ledger.append(&append).unwrap();
        }
        ledger
    }

    #[test]
    fn the_bytes_are_the_references() {
        let mut ledger = ledger(3);
        ledger.skip(0, 300, WallTime::default(), false).unwrap();
        let append = Append {
            sequence: 0,
            time: WallTime::default(),
            subject: b"s",
            size: 10,
            offset: 0,
            ttl: 0,
            scheduling: Scheduling::None,
        };
        ledger.append(&append).unwrap();
        let state = ReplicatedState::of(&ledger, 7, Vec::new()).unwrap();
        // 4 messages, 40 bytes, 1 to 304, 7 failed, 300 deleted: a run from 4 on.
        assert_eq!(state.encode(), [42, 1, 4, 40, 1, 0xb0, 2, 7, 0xac, 2, 33, 4, 0xac, 2]);
        let source = SourceState { name: b"S:a".to_vec(), sequence: 5, identity: b"i".to_vec() };
        let with = ReplicatedState { deleted: Vec::new(), sources: vec![source], ..state };
        assert_eq!(
            with.encode(),
            [&[42, 2, 4, 40, 1, 0xb0, 2, 7, 1, 3][..], b"S:a", &[5, 1], b"i", &[0]].concat()
        );
        assert_eq!(ReplicatedState::decode(&with.encode()), Ok(with));
    }

    #[test]
    fn a_replica_deletes_what_its_leader_says() {
        let (mut leader, mut follower) = (ledger(2000), ledger(2000));
        for sequence in (2..200).step_by(3).chain(500..1200).chain([1999]) {
            leader.remove(sequence).unwrap();
        }
        let told = ReplicatedState::of(&leader, 0, Vec::new()).unwrap().encode();
        let told = ReplicatedState::decode(&told).unwrap();
        assert!(told.deleted.len() >= 3, "sets and runs: {}", told.deleted.len());
        follower.sync_deleted(&told.deleted_ranges(), |_| ()).unwrap();
        assert_eq!(follower.state(), leader.state());
        assert_eq!(follower.deleted(), leader.deleted());
    }

    /// What is told of a stream is what is gone from it, and takes no more bytes than that is worth.
    fn told(ledger: &Ledger, most: usize) -> ReplicatedState {
        let bytes = ReplicatedState::of(ledger, 0, Vec::new()).unwrap().encode();
        assert!(bytes.len() < most, "{} bytes", bytes.len());
        let told = ReplicatedState::decode(&bytes).unwrap();
        let state = ledger.state().unwrap();
        assert_eq!((told.messages, told.first_sequence), (state.messages, state.first_sequence));
        assert_eq!(told.last_sequence, state.last_sequence);
        // Runs that meet may be told in two pieces.
        let mut gone: Vec<DeleteRange> = Vec::new();
        for range in told.deleted_ranges() {
            match gone.last_mut() {
                Some(last) if last.first + last.count == range.first => last.count += range.count,
                _ => gone.push(range),
            }
        }
        assert_eq!(gone, ledger.deleted().unwrap());
        told
    }

    #[test]
    fn much_that_is_gone_takes_few_bytes() {
        // All but the ends.
        let mut gap = ledger(20_000);
        for sequence in 2..20_000 {
            gap.remove(sequence).unwrap();
        }
        assert_eq!(told(&gap, 40).deleted_ranges(), [DeleteRange { first: 2, count: 19_998 }]);

        // One that was replaced again and again, and then each of many once.
        let mut cheese = ledger(3000);
        for sequence in (2..1003).chain((1003..3000).step_by(2)) {
            cheese.remove(sequence).unwrap();
        }
        assert_eq!(told(&cheese, 2000).messages, 1000);

        // Values that are replaced at random.
        let mut random = ledger(20_000);
        let (mut rng, mut newest) = (Rng::from_u64(3), std::collections::BTreeMap::new());
        for sequence in 1..=20_000 {
            if let Some(old) = newest.insert(rng.below(2500), sequence) {
                random.remove(old).unwrap();
            }
        }
        assert!(!told(&random, 30_000).deleted.is_empty());
    }

    #[test]
    fn bytes_that_are_no_state_are_refused() {
        let good = ReplicatedState::of(&ledger(3), 0, Vec::new()).unwrap().encode();
        assert_eq!(ReplicatedState::decode(&[]), Err(StreamStateError::Encoding));
        for (at, byte) in [(0, 41), (1, 0), (1, 3)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert_eq!(ReplicatedState::decode(&bad), Err(StreamStateError::Encoding));
        }
        for len in 2..good.len() {
            assert_eq!(ReplicatedState::decode(&good[..len]), Err(StreamStateError::Corrupt), "{len} bytes");
        }
        let huge = [42, 2, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1];
        assert_eq!(ReplicatedState::decode(&huge), Err(StreamStateError::Corrupt));
        assert_eq!(ReplicatedState::decode(&[42, 1, 0, 0, 0, 0, 0, 1, 99]), Err(StreamStateError::Corrupt));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(version in 1..3u8, bytes in vec(any::<u8>(), 0..400)) {
            if let Ok(state) = ReplicatedState::decode(&[&[42, version][..], &bytes].concat()) {
                let _ = state.deleted_ranges();
            }
        }
    }
}
