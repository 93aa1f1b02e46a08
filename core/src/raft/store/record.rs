//! What a member keeps, as bytes: the entries of its part of the journal, and the frames of its file.
//!
//! Shape, integers of variable length (LEB128) unless said: `version u8, flags u8, number`, then, if flag 1 is set, the
//! hard state `term, commit`, with flag 2 `vote [u8; 8]`, with flag 4 `lost_log`; flag 8 says that the vote is in doubt, flag 16
//! that the body goes on from the pieces before. Then the body, which the kind says how to read. So each record says term and
//! vote again: a record that is lost costs the vote only if none is behind it.

use bytes::Bytes;

use crate::raft::group::HardState;
use crate::raft::log::{LogEntry, Place};
use crate::raft::membership::Membership;
use crate::raft::wire::{Entry, EntryKind, NodeId};
use crate::storage::Position;
use crate::varint::{self, Reader};

/// Why bytes are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Of a later natrix.
    #[error("a record of version {0}")]
    Version(u8),
    /// Of a kind that nobody knows.
    #[error("a record of the unknown kind {0}")]
    Kind(u8),
    /// It ends too early, or says numbers that nothing reaches.
    #[error("a record that makes no sense")]
    Senseless,
}

const VERSION: u8 = 1;
const KNOWN: u8 = 1;
const VOTE: u8 = 2;
const LOST_LOG: u8 = 4;
const LOST_VOTE: u8 = 8;
const CONTINUED: u8 = 16;

/// Terms and indexes beyond are not believed, so that nothing that is counted from them overflows.
const MOST: u64 = 1 << 62;

/// The kind of the first record of a life.
pub(super) const BEGIN: u8 = 1;

/// The kind of a piece of a record that is too long for one entry of the journal.
pub(super) const PIECE: u8 = 9;

/// What stands before a record's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Its number: one more than that of the record before, but for the first of a life.
    pub number: u64,
    /// Term, vote and commit as they were when it was written; `None` if they were not known.
    pub state: Option<HardState>,
}

/// What a log is, so that it is known again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Identity {
    pub base: Place,
    pub last: Place,
    /// What the snapshot stands for, if there is one.
    pub snapshot: Option<Place>,
    /// Something had been lost, and the member had not written that down.
    pub lost: bool,
}

/// Where a snapshot's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    /// In the record.
    Here(Bytes),
    /// In one of the member's two files for that.
    Slot { slot: u8, len: u64, checksum: u32 },
}

/// A snapshot as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeptSnapshot {
    pub place: Place,
    pub members: Membership,
    pub data: Data,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Item {
    /// A life of the member begins, with this log.
    Begin(Identity),
    /// Term and vote: the stamp has them.
    State,
    Append(Vec<LogEntry>),
    Truncate {
        from: u64,
    },
    Snapshot(KeptSnapshot),
    Compact {
        base: Place,
    },
    Reset {
        base: Place,
    },
    /// The file has everything before.
    Covered,
    /// In the file alone: what is before makes this log, of the records through this position.
    Mark(Identity, Position),
}

impl Item {
    pub(super) fn kind(&self) -> u8 {
        match self {
            Item::Begin(_) => BEGIN,
            Item::State => 2,
            Item::Append(_) => 3,
            Item::Truncate { .. } => 4,
            Item::Snapshot(_) => 5,
            Item::Compact { .. } => 6,
            Item::Reset { .. } => 7,
            Item::Covered => 8,
            Item::Mark(..) => 10,
        }
    }

    /// Returns the body, in pieces of which long ones are shared.
    pub(super) fn body(&self) -> Vec<Bytes> {
        let mut out = Pieces::default();
        match self {
            Item::State | Item::Covered => {}
            Item::Begin(identity) => put_identity(&mut out.buffer, identity),
            Item::Mark(identity, position) => {
                put_identity(&mut out.buffer, identity);
                varint::put(&mut out.buffer, position.0);
            }
            Item::Truncate { from } => varint::put(&mut out.buffer, *from),
            Item::Compact { base } | Item::Reset { base } => put_place(&mut out.buffer, *base),
            Item::Append(entries) => {
                varint::put(&mut out.buffer, entries.len() as u64);
                varint::put(&mut out.buffer, entries.first().map_or(0, |entry| entry.index));
                for entry in entries {
                    varint::put(&mut out.buffer, entry.term);
                    out.buffer.push(entry.entry.kind as u8);
                    varint::put(&mut out.buffer, entry.entry.data.len() as u64);
                    out.push(&entry.entry.data);
                }
            }
            Item::Snapshot(snapshot) => {
                put_place(&mut out.buffer, snapshot.place);
                let members = snapshot.members.entry();
                out.buffer.push(members.kind as u8);
                varint::put(&mut out.buffer, members.data.len() as u64);
                out.buffer.extend_from_slice(&members.data);
                match &snapshot.data {
                    Data::Here(data) => {
                        out.buffer.push(0);
                        out.push(data);
                    }
                    Data::Slot { slot, len, checksum } => {
                        out.buffer.push(1 + slot);
                        varint::put(&mut out.buffer, *len);
                        out.buffer.extend_from_slice(&checksum.to_le_bytes());
                    }
                }
            }
        }
        out.finish()
    }

    /// Reads a body.
    pub(super) fn decode(kind: u8, body: &Bytes) -> Result<Item, RecordError> {
        let mut from = Fields { whole: body, reader: Reader::new(body) };
        from.item(kind)
    }
}

/// Collects bytes: short ones are copied together, long ones are shared.
#[derive(Default)]
struct Pieces {
    done: Vec<Bytes>,
    buffer: Vec<u8>,
}

/// From which length on bytes are shared: the journal copies what is shorter.
const SHARED: usize = 4096;

impl Pieces {
    fn push(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARED {
            return self.buffer.extend_from_slice(bytes);
        }
        if !self.buffer.is_empty() {
            self.done.push(std::mem::take(&mut self.buffer).into());
        }
        self.done.push(bytes.clone());
    }

    fn finish(mut self) -> Vec<Bytes> {
        if !self.buffer.is_empty() {
            self.done.push(self.buffer.into());
        }
        self.done
    }
}

fn put_place(out: &mut Vec<u8>, place: Place) {
    varint::put(out, place.term);
    varint::put(out, place.index);
}

fn put_identity(out: &mut Vec<u8>, identity: &Identity) {
    out.push(u8::from(identity.lost) | u8::from(identity.snapshot.is_some()) << 1);
    put_place(out, identity.base);
    put_place(out, identity.last);
    if let Some(place) = identity.snapshot {
        put_place(out, place);
    }
}

impl Stamp {
    /// Returns what stands before the body; `continued` says that the body begins in pieces before this record.
    pub(super) fn encode(&self, continued: bool) -> Vec<u8> {
        let mut flags = if continued { CONTINUED } else { 0 };
        if let Some(state) = &self.state {
            flags |= KNOWN;
            flags |= if state.vote.is_some() { VOTE } else { 0 };
            flags |= if state.lost_log.is_some() { LOST_LOG } else { 0 };
            flags |= if state.lost_vote { LOST_VOTE } else { 0 };
        }
        let mut out = vec![VERSION, flags];
        varint::put(&mut out, self.number);
        if let Some(state) = &self.state {
            varint::put(&mut out, state.term);
            varint::put(&mut out, state.commit);
            state.vote.iter().for_each(|vote| out.extend_from_slice(&vote.0));
            state.lost_log.iter().for_each(|lost| varint::put(&mut out, *lost));
        }
        out
    }

    /// Reads what stands before a body; returns it, whether the body is continued, and the body.
    pub(super) fn decode(payload: &Bytes) -> Result<(Stamp, bool, Bytes), RecordError> {
        let [version, flags, ..] = payload[..] else { return Err(RecordError::Senseless) };
        if version != VERSION {
            return Err(RecordError::Version(version));
        }
        let mut fields = Fields { whole: payload, reader: Reader::new(&payload[2..]) };
        let number = fields.number()?;
        let mut state = None;
        if flags & KNOWN != 0 {
            let (term, commit) = (fields.number()?, fields.number()?);
            let vote = if flags & VOTE != 0 { Some(fields.node()?) } else { None };
            let lost_log = if flags & LOST_LOG != 0 { Some(fields.number()?) } else { None };
            state = Some(HardState { term, vote, commit, lost_log, lost_vote: flags & LOST_VOTE != 0 });
        }
        let body = fields.rest();
        Ok((Stamp { number, state }, flags & CONTINUED != 0, body))
    }
}

/// Takes what a record says off its front.
struct Fields<'a> {
    whole: &'a Bytes,
    reader: Reader<'a>,
}

impl Fields<'_> {
    fn number(&mut self) -> Result<u64, RecordError> {
        self.reader.take().filter(|number| *number < MOST).ok_or(RecordError::Senseless)
    }

    fn place(&mut self) -> Result<Place, RecordError> {
        Ok(Place { term: self.number()?, index: self.number()? })
    }

    fn byte(&mut self) -> Result<u8, RecordError> {
        Ok(self.bytes(1)?[0])
    }

    fn bytes(&mut self, len: u64) -> Result<Bytes, RecordError> {
        let rest = self.reader.rest();
        let len = usize::try_from(len).ok().filter(|len| *len <= rest.len()).ok_or(RecordError::Senseless)?;
        self.reader = Reader::new(&rest[len..]);
        Ok(self.whole.slice_ref(&rest[..len]))
    }

    fn rest(&mut self) -> Bytes {
        self.whole.slice_ref(self.reader.rest())
    }

    fn node(&mut self) -> Result<NodeId, RecordError> {
        let name = self.bytes(NodeId::LEN as u64)?;
        <[u8; NodeId::LEN]>::try_from(&name[..]).map(NodeId).map_err(|_| RecordError::Senseless)
    }

    fn entry(&mut self) -> Result<Entry, RecordError> {
        let kind = EntryKind::from_byte(self.byte()?).ok_or(RecordError::Senseless)?;
        let len = self.number()?;
        Ok(Entry { kind, data: self.bytes(len)? })
    }

    fn identity(&mut self) -> Result<Identity, RecordError> {
        let flags = self.byte()?;
        let (base, last) = (self.place()?, self.place()?);
        let snapshot = if flags & 2 != 0 { Some(self.place()?) } else { None };
        Ok(Identity { base, last, snapshot, lost: flags & 1 != 0 })
    }

    fn item(&mut self, kind: u8) -> Result<Item, RecordError> {
        Ok(match kind {
            BEGIN => Item::Begin(self.identity()?),
            2 => Item::State,
            3 => {
                let (count, first) = (self.number()?, self.number()?);
                let mut entries = Vec::new();
                for at in 0..count {
                    let term = self.number()?;
                    entries.push(LogEntry { term, index: first + at, entry: self.entry()? });
                }
                Item::Append(entries)
            }
            4 => Item::Truncate { from: self.number()? },
            5 => self.snapshot()?,
            6 => Item::Compact { base: self.place()? },
            7 => Item::Reset { base: self.place()? },
            8 => Item::Covered,
            10 => {
                let identity = self.identity()?;
                Item::Mark(identity, Position(self.reader.take().ok_or(RecordError::Senseless)?))
            }
            kind => return Err(RecordError::Kind(kind)),
        })
    }

    fn snapshot(&mut self) -> Result<Item, RecordError> {
        let place = self.place()?;
        let members = Membership::default().after(&self.entry()?);
        let members = members.ok().flatten().ok_or(RecordError::Senseless)?;
        let data = match self.byte()? {
            0 => Data::Here(self.rest()),
            slot @ (1 | 2) => {
                let len = self.number()?;
                let checksum = self.bytes(4)?;
                let checksum = <[u8; 4]>::try_from(&checksum[..]).map_err(|_| RecordError::Senseless)?;
                Data::Slot { slot: slot - 1, len, checksum: u32::from_le_bytes(checksum) }
            }
            _ => return Err(RecordError::Senseless),
        };
        Ok(Item::Snapshot(KeptSnapshot { place, members, data }))
    }
}

/// Cuts pieces of bytes into parts of at most `limit` bytes; at least one.
pub(super) fn cut(pieces: Vec<Bytes>, limit: usize) -> Vec<Vec<Bytes>> {
    let mut parts = vec![Vec::new()];
    let mut room = limit;
    for mut piece in pieces {
        while piece.len() > room {
            if room > 0 {
                parts.last_mut().expect("there is always one").push(piece.split_to(room));
            }
            parts.push(Vec::new());
            room = limit;
        }
        room -= piece.len();
        parts.last_mut().expect("there is always one").push(piece);
    }
    parts
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn place() -> impl Strategy<Value = Place> {
        (0..1u64 << 40, 0..1u64 << 40).prop_map(|(term, index)| Place { term, index })
    }

    fn node() -> impl Strategy<Value = NodeId> {
        any::<[u8; 8]>().prop_map(NodeId)
    }

    fn state() -> impl Strategy<Value = HardState> {
        (0..1u64 << 40, option::of(node()), 0..1u64 << 40, option::of(0..1u64 << 40), any::<bool>()).prop_map(
            |(term, vote, commit, lost_log, lost_vote)| HardState { term, vote, commit, lost_log, lost_vote },
        )
    }

    fn item() -> impl Strategy<Value = Item> {
        let identity = || {
            (place(), place(), option::of(place()), any::<bool>())
                .prop_map(|(base, last, snapshot, lost)| Identity { base, last, snapshot, lost })
        };
        let entries =
            (1..1u64 << 40, vec((0..9u64, vec(any::<u8>(), 0..9)), 0..9)).prop_map(|(first, said)| {
                let entry = |(at, (term, data)): (usize, (u64, Vec<u8>))| LogEntry {
                    term,
                    index: first + at as u64,
                    entry: Entry::normal(data),
                };
                Item::Append(said.into_iter().enumerate().map(entry).collect())
            });
        let data = prop_oneof![
            vec(any::<u8>(), 0..9).prop_map(|data| Data::Here(data.into())),
            (0..2u8, 0..1u64 << 40, any::<u32>()).prop_map(|(slot, len, checksum)| Data::Slot {
                slot,
                len,
                checksum
            }),
        ];
        let snapshot = (place(), vec(node(), 1..4), data).prop_map(|(place, members, data)| {
            Item::Snapshot(KeptSnapshot { place, members: Membership::new(members), data })
        });
        prop_oneof![
            identity().prop_map(Item::Begin),
            Just(Item::State),
            entries,
            (0..1u64 << 40).prop_map(|from| Item::Truncate { from }),
            snapshot,
            place().prop_map(|base| Item::Compact { base }),
            place().prop_map(|base| Item::Reset { base }),
            Just(Item::Covered),
            (identity(), any::<u64>()).prop_map(|(identity, at)| Item::Mark(identity, Position(at))),
        ]
    }

    #[test]
    fn bytes_are_cut_into_parts_and_nothing_is_lost() {
        let pieces =
            vec![Bytes::from_static(b"abcde"), Bytes::from_static(b"f"), Bytes::from_static(b"ghijk")];
        let parts = cut(pieces, 4);
        let texts: Vec<Vec<u8>> = parts.iter().map(|part| part.concat()).collect();
        assert_eq!(texts, [b"abcd".to_vec(), b"efgh".to_vec(), b"ijk".to_vec()]);
        assert_eq!(cut(Vec::new(), 4).len(), 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            item in item(), number in 0..1u64 << 60, state in option::of(state()), continued: bool
        ) {
            let stamp = Stamp { number, state };
            let mut bytes = stamp.encode(continued);
            item.body().iter().for_each(|piece| bytes.extend_from_slice(piece));
            let bytes = Bytes::from(bytes);
            let (read, goes_on, body) = Stamp::decode(&bytes).unwrap();
            prop_assert_eq!((read, goes_on), (stamp, continued));
            prop_assert_eq!(Item::decode(item.kind(), &body), Ok(item));
        }

        #[test]
        fn arbitrary_bytes_are_refused_or_read(kind in 0..12u8, bytes in vec(any::<u8>(), 0..60)) {
            let bytes = Bytes::from(bytes);
            let _ = Item::decode(kind, &bytes);
            if let Ok((_, _, body)) = Stamp::decode(&bytes) {
                let _ = Item::decode(kind, &body);
            }
        }

        #[test]
        fn a_record_that_is_cut_short_is_no_other(item in item(), at in 0..40usize) {
            let whole = item.body().concat();
            let cut = Bytes::from(whole[..at.min(whole.len())].to_vec());
            // A snapshot's bytes end where the record does; the checksum around it knows how long it is.
            let open = matches!(&item, Item::Snapshot(KeptSnapshot { data: Data::Here(_), .. }));
            if at < whole.len() && !open {
                prop_assert_ne!(Item::decode(item.kind(), &cut), Ok(item));
            }
        }
    }
}
