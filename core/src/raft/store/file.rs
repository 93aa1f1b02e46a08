//! The file of one member: frames, each with its own checksums, that say the log as it was when the journal wanted its
//! segments back.
//!
//! A frame stands at a multiple of 8 bytes: `length of the body u32, kind u8, zero u24, generation u64, crc of the body u32,
//! crc of the 20 bytes before u32`, little-endian, then a record (`record.rs`). Checksums are CRC-32C, seeded with owner,
//! generation and offset: what was written for another file, or another place, is not taken for this one's.
//!
//! The file is written whole, or appended to, and each time a mark stands last: what is before makes this log, of
//! the records through that position. A body that is bad costs its frame; where a head is bad, the next is looked for.

use bytes::{BufMut, Bytes};

use super::record::{Item, Stamp};
use super::replay::Replay;
use crate::planted::{Bug, bug};
use crate::storage::{OwnerId, Position};

/// How long the head of a frame is, in bytes.
const HEAD: usize = 24;

/// How many bytes of entries go in one frame, unless one entry is longer.
pub(super) const FRAME_ENTRIES: usize = 4096;

/// Where a frame is.
#[derive(Clone, Copy)]
struct Seed {
    owner: OwnerId,
    generation: u64,
    offset: u64,
}

impl Seed {
    fn crc(self, bytes: &[u8]) -> u32 {
        let mut seed = [0u8; 24];
        let mut fields = &mut seed[..];
        fields.put_u64_le(self.owner.0);
        fields.put_u64_le(self.generation);
        fields.put_u64_le(self.offset);
        crc32c::crc32c_append(crc32c::crc32c(&seed), bytes)
    }
}

/// Frames to be written from an offset on.
#[derive(Debug)]
pub(super) struct Frames {
    owner: OwnerId,
    generation: u64,
    offset: u64,
    pub out: Vec<Bytes>,
}

impl Frames {
    pub(super) fn new(owner: OwnerId, generation: u64, offset: u64) -> Self {
        debug_assert!(offset.is_multiple_of(8), "frames are aligned");
        Frames { owner, generation, offset, out: Vec::new() }
    }

    /// Returns where the next frame goes.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Appends a frame.
    pub(super) fn push(&mut self, stamp: &Stamp, item: &Item) {
        let mut body: Vec<Bytes> = vec![stamp.encode(false).into()];
        body.extend(item.body());
        let seed = Seed { owner: self.owner, generation: self.generation, offset: self.offset };
        let len: usize = body.iter().map(Bytes::len).sum();
        let whole = Bytes::from(body.concat());
        let mut head = Vec::with_capacity(HEAD);
        head.put_u32_le(len as u32);
        head.put_u8(item.kind());
        head.put_bytes(0, 3);
        head.put_u64_le(self.generation);
        head.put_u32_le(seed.crc(&whole));
        let crc = seed.crc(&head);
        head.put_u32_le(crc);
        let padding = len.next_multiple_of(8) - len;
        self.out.extend([Bytes::from(head), whole, Bytes::from(vec![0; padding])]);
        self.offset += (HEAD + len + padding) as u64;
    }
}

/// What a file says.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// The log at the last mark before anything bad, and the position through which that is all.
    pub good: Option<(Replay, Position)>,
    /// What can be said in spite of what is bad; broken, unless nothing is.
    pub left: Replay,
    /// Something in it is bad; it may be what a power cut left of the last append.
    pub bad: bool,
}

#[derive(Clone, Copy)]
struct Head {
    len: usize,
    kind: u8,
    generation: u64,
    crc: u32,
}

fn head(owner: OwnerId, bytes: &[u8], offset: usize) -> Option<Head> {
    let head = bytes.get(offset..offset + HEAD)?;
    let short = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let generation = u64::from_le_bytes(head[8..16].try_into().ok()?);
    let seed = Seed { owner, generation, offset: offset as u64 };
    (seed.crc(&head[..HEAD - 4]) == short(HEAD - 4)).then(|| Head {
        len: short(0) as usize,
        kind: head[4],
        generation,
        crc: short(16),
    })
}

/// Reads the file of `owner`.
pub(super) fn parse(owner: OwnerId, bytes: &Bytes) -> Parsed {
    let mut parsed = Parsed::default();
    let (mut offset, mut generation) = (0, None);
    while offset < bytes.len() {
        let found = head(owner, bytes, offset);
        let Some(found) = found.filter(|found| generation.is_none_or(|known| known == found.generation))
        else {
            if !parsed.bad {
                parsed.bad = true;
                parsed.left.gap();
            }
            offset += 8;
            continue;
        };
        generation = Some(found.generation);
        let body = bytes.get(offset + HEAD..offset.saturating_add(HEAD).saturating_add(found.len));
        let seed = Seed { owner, generation: found.generation, offset: offset as u64 };
        let read = body
            .filter(|body| seed.crc(body) == found.crc || bug(Bug::RaftStoreFrameUnverified))
            .and_then(|body| Stamp::decode(&bytes.slice_ref(body)).ok())
            .and_then(|(stamp, _, body)| Some((stamp, Item::decode(found.kind, &body).ok()?)));
        let Some((stamp, item)) = read else {
            parsed.bad = true;
            parsed.left.gap();
            // The head may be whole and the body cut off by the end of the file.
            offset += if body.is_some() { (HEAD + found.len).next_multiple_of(8) } else { 8 };
            continue;
        };
        let mark = if let Item::Mark(_, position) = item { Some(position) } else { None };
        parsed.left.take(&stamp, item);
        if let Some(position) = mark
            && !parsed.left.broken
        {
            parsed.good = Some((parsed.left.clone(), position));
        }
        offset += (HEAD + found.len).next_multiple_of(8);
    }
    parsed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::group::HardState;
    use crate::raft::log::{LogEntry, Place};
    use crate::raft::wire::Entry;

    const OWNER: OwnerId = OwnerId(7);

    fn stamp() -> Stamp {
        let state = HardState { term: 3, vote: None, commit: 2, ..HardState::default() };
        Stamp { number: 9, state: Some(state) }
    }

    /// Five frames with an entry each, marks behind the third and the last.
    fn sample() -> (Bytes, Vec<u64>) {
        let mut frames = Frames::new(OWNER, 5, 0);
        let mut replay = Replay::default();
        let mut starts = Vec::new();
        for index in 1..=5 {
            starts.push(frames.offset());
            let entry = LogEntry { term: 1, index, entry: Entry::normal(vec![index as u8; 100]) };
            let item = Item::Append(vec![entry]);
            frames.push(&stamp(), &item);
            replay.take(&stamp(), item);
            if index == 3 || index == 5 {
                frames.push(&stamp(), &Item::Mark(replay.identity(false), Position(index)));
            }
        }
        (frames.out.concat().into(), starts)
    }

    fn through(replay: &Replay) -> u64 {
        replay.last().index
    }

    #[test]
    fn a_whole_file_is_good_through_its_last_mark() {
        let (bytes, _) = sample();
        let parsed = parse(OWNER, &bytes);
        let (good, position) = parsed.good.unwrap();
        assert_eq!((through(&good), position, good.state), (5, Position(5), stamp().state));
        assert!(!parsed.bad && !parsed.left.broken);
        assert!(parse(OwnerId(8), &bytes).good.is_none(), "another member's file");
    }

    #[test]
    fn any_bit_that_flips_costs_its_frame_and_is_noticed() {
        let (bytes, starts) = sample();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.to_vec();
            bad[bit / 8] ^= 1 << (bit % 8);
            let parsed = parse(OWNER, &bad.into());
            let hit = starts.partition_point(|start| *start <= bit as u64 / 8) as u64;
            let front = through(&parsed.left);
            // Padding and the mark in the middle may be hit, and then nothing is lost.
            assert!(front + 1 >= hit, "bit {bit}: {front} of {hit}");
            assert!(front == 5 || parsed.left.broken, "bit {bit} is noticed");
            assert!(parsed.left.state.is_some(), "another frame says term and vote too");
            if let Some((good, position)) = &parsed.good {
                assert_eq!(through(good), position.0, "what is called good is");
            }
        }
    }

    #[test]
    fn a_file_that_is_cut_short_is_good_through_a_mark_before() {
        let (bytes, _) = sample();
        for len in 0..bytes.len() {
            let parsed = parse(OWNER, &bytes.slice(..len));
            let good = parsed.good.map_or(0, |(good, _)| through(&good));
            assert!(good == 0 || good == 3 || len + 8 > bytes.len(), "{len}: {good}");
        }
    }

    #[test]
    fn frames_of_another_generation_are_not_this_files() {
        let (bytes, starts) = sample();
        let mut other = Frames::new(OWNER, 6, 0);
        let entry = LogEntry { term: 1, index: 1, entry: Entry::normal(vec![1; 100]) };
        other.push(&stamp(), &Item::Append(vec![entry]));
        let mut mixed = other.out.concat();
        mixed.extend_from_slice(&bytes[starts[1] as usize..]);
        let parsed = parse(OWNER, &mixed.into());
        assert!(parsed.bad && parsed.left.broken && parsed.good.is_none());
        assert_eq!(parsed.left.last(), Place { term: 1, index: 1 });
    }
}
