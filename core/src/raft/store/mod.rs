//! One member's log on the shard journal.
//!
//! Each record that a group wants durable is an entry of the journal, of the member's own, synced with whatever else the
//! shard commits. [`LogStore`] is the member's store there: it keeps what the records say, writes a file of its own when
//! the journal wants its segments back, and finds out what is left when the server starts again.
//!
//! ```text
//! record.rs   a record as bytes                     replay.rs    what records say, one after the other
//! file.rs     the member's file: frames and marks   cover.rs     writing it: whole, or what has changed
//! snapshot.rs snapshots that are too long for the journal
//! ```
//!
//! # Invariants
//!
//! - Records are numbered. A number that is missing is a loss, and is told; so is a file that is older than it was, as the record
//!   that follows it in the journal isn't the one that follows in numbers.
//! - The newest record is always in the journal: the file counts as covering what is before it only once a record that was
//!   written after the file is durable.
//! - A snapshot in a file of its own is durable before the record that refers to it is written.
//! - What is found is whole, or `Recovered::lost` says that it isn't.

mod cover;
mod file;
mod record;
mod replay;
mod snapshot;

use std::collections::VecDeque;

use bytes::Bytes;

use super::group::{HardState, Record, Recovered, Snapshot, WriteId};
use crate::disk::{DiskError, DiskErrorKind, FilePath, Reply, Request};
use crate::planted::{Bug, bug};
use crate::storage::volume::{Applied, Committed, Store, StoreDisk};
use crate::storage::{OwnerId, Position};
use crate::time::{Duration, Instant};

use cover::Cover;
use file::Parsed;
use record::{BEGIN, Data, Item, KeptSnapshot, PIECE, Stamp};
use replay::Replay;
use snapshot::Slots;

pub use record::RecordError;

/// How long after a failure a file is written again.
const AGAIN: Duration = Duration::from_millis(500);
/// How often a file that makes no sense, or can't be read, is read.
const READS: u32 = 4;

/// Where a store's files are and how it cuts records.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The directory; it exists, durably.
    pub directory: FilePath,
    /// How long an entry of the journal gets, in bytes, before a record is cut into several.
    pub max_entry: usize,
    /// From which length on a snapshot gets a file of its own, in bytes.
    pub snapshot_file: usize,
    /// The longest file that is read, in bytes.
    pub max_file: usize,
}

impl StoreConfig {
    /// Returns the settings for files in `directory`.
    pub fn new(directory: FilePath) -> Self {
        StoreConfig { directory, max_entry: 256 << 10, snapshot_file: 64 << 10, max_file: 4 << 30 }
    }
}

/// What the store tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreEvent {
    /// The file is read: what the journal has can be taken.
    Read,
    /// The file is written: [`LogStore::covered_item`] is to go to the journal.
    FileWritten,
    /// The snapshot's file is written: the record that waits for it may go to the journal.
    SnapshotWritten,
    /// What is left is known: [`LogStore::begin`], and then [`LogStore::take_found`].
    Found,
    /// A file can't be used.
    Damaged {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// A file can't be written; it is tried again.
    Failed(DiskError),
}

/// What was found of a member.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Nothing was ever written: the member is new, or all of it is gone.
    pub nothing: bool,
    /// What is left, but for what the application has applied.
    pub recovered: Recovered,
}

/// One entry for the journal.
#[derive(Debug)]
pub struct Part {
    /// Its kind.
    pub kind: u8,
    /// Its payload.
    pub payload: Vec<Bytes>,
    /// The record that is whole with it.
    finishes: Option<(Stamp, Item)>,
    /// What to tell the group when it is durable.
    pub write: Option<WriteId>,
}

#[derive(Debug)]
enum Phase {
    /// The file is being read, for the so many-th time.
    Reading(u32),
    /// The journal tells what it has.
    Replaying,
    /// The snapshot's file is being read, for the so many-th time.
    Fetching(u32),
    Running,
}

/// One member's log.
#[derive(Debug)]
pub struct LogStore {
    owner: OwnerId,
    config: StoreConfig,
    phase: Phase,
    replay: Replay,
    /// The position of the last record that was taken.
    position: Position,
    /// What the file said, until the first record behind it shows which of it holds.
    parsed: Option<Parsed>,
    /// A file was there.
    had_file: bool,
    /// The position of the last record that the journal had of this member.
    heard: Option<Position>,
    /// The end of what the journal had of this member may be lost.
    tail_lost: bool,
    found: Found,
    /// The last number that was given to a record.
    numbered: u64,
    /// What the group said last.
    state: Option<HardState>,
    /// Records that were proposed, and not committed yet.
    pending: VecDeque<(Position, Option<(Stamp, Item)>)>,
    cover: Cover,
    slots: Slots,
    covered: Position,
    events: VecDeque<StoreEvent>,
}

const READ: u64 = 1;
const WRITTEN: u64 = 2;
const OPENED: u64 = 3;
const SLOT_READ: u64 = 4;
const SLOT_WRITTEN: u64 = 5;
const IGNORED: u64 = 6;
const SLOT_REMOVED: u64 = 7;

/// Each life's records are numbered from a multiple of this: what comes back of a lost tail isn't taken for what took its place.
const LIFE: u64 = 1 << 24;

impl LogStore {
    /// Reads what there is of a member.
    pub fn open(owner: OwnerId, config: StoreConfig, disk: &mut StoreDisk<'_>) -> Self {
        let mut store = LogStore::new(owner, config);
        store.phase = Phase::Reading(1);
        store.read(disk);
        store
    }

    /// Makes the store of a member that never was here before.
    pub fn new(owner: OwnerId, config: StoreConfig) -> Self {
        let mut replay = Replay::default();
        replay.settled();
        LogStore {
            owner,
            phase: Phase::Running,
            replay,
            position: Position::default(),
            parsed: None,
            had_file: false,
            heard: None,
            tail_lost: false,
            found: Found { nothing: true, ..Found::default() },
            numbered: 0,
            state: Some(HardState::default()),
            pending: VecDeque::new(),
            cover: Cover::default(),
            slots: Slots::new(&config.directory, owner),
            covered: Position::default(),
            events: VecDeque::new(),
            config,
        }
    }

    /// Returns the path of its file.
    pub fn path(&self) -> FilePath {
        self.config.directory.join(&format!("{:016x}.log", self.owner.0))
    }

    /// Returns the paths of all files that it may have.
    pub fn paths(&self) -> [FilePath; 3] {
        let [one, two] = self.slots.paths();
        [self.path(), one, two]
    }

    fn read(&self, disk: &mut StoreDisk<'_>) {
        disk.submit(READ, Request::ReadFile { path: self.path(), limit: self.config.max_file });
    }

    fn was_read(&mut self, attempt: u32, result: Result<Reply, DiskError>, disk: &mut StoreDisk<'_>) {
        let parsed = match result {
            Ok(Reply::Read(bytes)) => {
                self.had_file = true;
                file::parse(self.owner, &bytes)
            }
            Err(error) if error.kind == DiskErrorKind::NotFound => Parsed::default(),
            Err(error) => {
                self.had_file = true;
                self.tell_damaged(&self.path(), error.message);
                let mut parsed = Parsed { bad: true, ..Parsed::default() };
                parsed.left.gap();
                parsed
            }
            Ok(other) => unreachable!("a read answers with bytes, not {other:?}"),
        };
        if parsed.bad && attempt < READS {
            // A read may go wrong once, and the file be good.
            self.phase = Phase::Reading(attempt + 1);
            return self.read(disk);
        }
        self.replay = match &parsed.good {
            Some((replay, position)) => {
                self.position = *position;
                replay.clone()
            }
            None => Replay::default(),
        };
        self.parsed = Some(parsed);
        self.phase = Phase::Replaying;
        self.events.push_back(StoreEvent::Read);
    }

    fn tell_damaged(&mut self, path: &FilePath, reason: impl Into<String>) {
        self.events.push_back(StoreEvent::Damaged { path: path.to_string(), reason: reason.into() });
    }

    /// Takes an entry that the journal has found.
    fn recovered(&mut self, entry: &Committed) {
        self.heard = Some(entry.position);
        if entry.position <= self.position {
            return;
        }
        self.position = entry.position;
        let payload = match &entry.payload[..] {
            [whole] => whole.clone(),
            pieces => pieces.concat().into(),
        };
        let Ok((stamp, continued, body)) = Stamp::decode(&payload) else { return self.replay.gap() };
        let follows = stamp.number == self.replay.number + 1;
        // A life begins with a number of its own, and says what log it began with.
        let missing = !follows && entry.kind != BEGIN;
        match self.parsed.take() {
            Some(parsed) if missing && !bug(Bug::RaftStoreOlderFileTrusted) => {
                // The file isn't what came before this: take what can be said of it.
                self.replay = parsed.left;
                self.replay.gap();
            }
            None if missing && !bug(Bug::RaftStoreGapUntold) => self.replay.gap(),
            _ => {}
        }
        if entry.kind == PIECE {
            return self.replay.piece(&stamp, body);
        }
        let item = self.replay.whole(continued, body).and_then(|body| Item::decode(entry.kind, &body).ok());
        match item {
            Some(item) => self.replay.take(&stamp, item),
            None => self.replay.gap(),
        }
    }

    /// Returns through which position there is something of this member, here or in the journal.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Returns whether its file was read, so that it takes what the journal has.
    pub fn is_read(&self) -> bool {
        !matches!(self.phase, Phase::Reading(_))
    }

    /// The journal has told all; `tail_lost` says that it may have lost the last of this member's records, and `expected`
    /// that there must be some. [`StoreEvent::Found`] comes when what is left is known.
    pub fn finish(&mut self, tail_lost: bool, expected: bool, disk: &mut StoreDisk<'_>) {
        debug_assert!(matches!(self.phase, Phase::Replaying), "once");
        self.tail_lost = tail_lost;
        if let Some(parsed) = self.parsed.take()
            && self.had_file
        {
            // Nothing stands in the journal behind what the file has. The newest record is always there, so the file is what it
            // was if that one is in it; then what is bad behind it is what a power cut left of the next.
            let newest =
                parsed.good.is_some_and(|(_, position)| self.heard.is_some_and(|heard| heard >= position));
            if !newest {
                self.replay = parsed.left;
                self.replay.gap();
                self.tail_lost = true;
            }
        }
        self.found.nothing = !self.had_file && self.heard.is_none();
        self.tail_lost |= self.found.nothing && expected && !bug(Bug::RaftStoreMissingIsFresh);
        match self.replay.snapshot.as_ref().map(|snapshot| &snapshot.data) {
            Some(Data::Slot { slot, .. }) => {
                self.phase = Phase::Fetching(1);
                self.slots.read(*slot, disk);
            }
            _ => self.is_found(None),
        }
    }

    fn slot_read(&mut self, attempt: u32, result: Result<Reply, DiskError>, disk: &mut StoreDisk<'_>) {
        let Some(KeptSnapshot { place, data, .. }) = &self.replay.snapshot else { return };
        let Data::Slot { slot, len, checksum } = *data else { return };
        let bytes = match result {
            Ok(Reply::Read(bytes)) => Some(bytes),
            _ => None,
        };
        let right = |bytes: &Bytes| {
            bytes.len() as u64 == len && snapshot::checksum(self.owner, *place, bytes) == checksum
                || bug(Bug::RaftStoreSnapshotUnverified)
        };
        match bytes.filter(right) {
            Some(bytes) => self.is_found(Some(&bytes)),
            None if attempt < READS => {
                self.phase = Phase::Fetching(attempt + 1);
                self.slots.read(slot, disk);
            }
            None => {
                let path = self.slots.paths()[usize::from(slot)].clone();
                self.tell_damaged(&path, "not the snapshot that it was");
                self.replay.snapshot = None;
                self.replay.said = true;
                self.is_found(None);
            }
        }
    }

    /// All that is left is known; `data` are the bytes of a snapshot that has a file of its own.
    fn is_found(&mut self, data: Option<&Bytes>) {
        let replay = &self.replay;
        let lost = replay.broken || replay.said || self.tail_lost;
        let new = self.found.nothing && !self.tail_lost;
        let state = if new { Some(HardState::default()) } else { replay.state.filter(|_| !self.tail_lost) };
        let snapshot = replay.snapshot.as_ref().map(|kept| {
            let here = match &kept.data {
                Data::Here(data) => data.clone(),
                Data::Slot { .. } => data.cloned().unwrap_or_default(),
            };
            Snapshot { place: kept.place, members: kept.members.clone(), data: here }
        });
        self.found.recovered = Recovered {
            state,
            snapshot,
            base: replay.base,
            entries: replay.entries.iter().cloned().collect(),
            lost,
            applied: 0,
        };
        if let Some(KeptSnapshot { data: Data::Slot { slot, .. }, .. }) = &replay.snapshot {
            self.slots.current = Some(*slot);
        }
        self.state = state;
        self.numbered = (self.replay.number / LIFE + 1) * LIFE;
        self.replay.broken = false;
        // Nothing that was found is appended to: the next time the file is written whole.
        self.replay.begun_anew = true;
        self.phase = Phase::Running;
        self.events.push_back(StoreEvent::Found);
    }

    /// Returns what was found; once, after [`LogStore::begin`].
    pub fn take_found(&mut self) -> Found {
        std::mem::take(&mut self.found)
    }

    /// Returns the first record of this life. It says what was found lost, until the group has written that down itself.
    pub fn begin(&mut self) -> Vec<Part> {
        let lost = self.found.recovered.lost && !bug(Bug::RaftStoreLossNotKept);
        let identity = self.replay.identity(lost);
        if bug(Bug::RaftStoreLossNotKept) {
            self.state = Some(self.state.unwrap_or_default());
        }
        self.parts(Item::Begin(identity), None)
    }

    /// Returns the record that says that the file is written.
    pub fn covered_item(&mut self) -> Vec<Part> {
        self.parts(Item::Covered, None)
    }

    /// Returns the entries for a record of the group; `None` if it is a snapshot whose file has to be written first, which is begun:
    /// [`StoreEvent::SnapshotWritten`] says when the same is to be asked again.
    pub fn write(&mut self, id: WriteId, record: &Record, disk: &mut StoreDisk<'_>) -> Option<Vec<Part>> {
        let item = match record {
            Record::State(state) => {
                self.state = Some(*state);
                Item::State
            }
            Record::Append { entries, commit } => {
                if let Some(state) = &mut self.state {
                    state.commit = state.commit.max(*commit);
                }
                Item::Append(entries.clone())
            }
            Record::Truncate { from } => Item::Truncate { from: *from },
            Record::Compact { base } => Item::Compact { base: *base },
            Record::Reset { base } => Item::Reset { base: *base },
            Record::Snapshot(snapshot) => {
                let (place, members) = (snapshot.place, snapshot.members.clone());
                let data = match snapshot.data.len() < self.config.snapshot_file {
                    true => Data::Here(snapshot.data.clone()),
                    false => self.slots.write(place, &snapshot.data, disk)?,
                };
                Item::Snapshot(KeptSnapshot { place, members, data })
            }
        };
        Some(self.parts(item, Some(id)))
    }

    fn parts(&mut self, item: Item, write: Option<WriteId>) -> Vec<Part> {
        let mut bodies = record::cut(item.body(), self.config.max_entry);
        let last = bodies.pop().unwrap_or_default();
        let continued = !bodies.is_empty();
        let mut parts = Vec::with_capacity(bodies.len() + 1);
        for body in bodies {
            let payload = self.stamped(false, body).1;
            parts.push(Part { kind: PIECE, payload, finishes: None, write: None });
        }
        let (stamp, payload) = self.stamped(continued, last);
        parts.push(Part { kind: item.kind(), payload, finishes: Some((stamp, item)), write });
        parts
    }

    fn stamped(&mut self, continued: bool, body: Vec<Bytes>) -> (Stamp, Vec<Bytes>) {
        self.numbered += 1;
        let stamp = Stamp { number: self.numbered, state: self.state };
        let mut payload = vec![Bytes::from(stamp.encode(continued))];
        payload.extend(body);
        (stamp, payload)
    }

    /// Notes that `part` was proposed, and has this position.
    pub fn proposed(&mut self, position: Position, part: Part) {
        self.pending.push_back((position, part.finishes));
    }

    /// Takes a record that this life wrote, and that is durable now.
    fn committed(&mut self, position: Position, record: Option<(Stamp, Item)>, disk: &mut StoreDisk<'_>) {
        // A piece alone is nothing that a file could have: what covers ends with a whole record.
        let Some((stamp, item)) = record else { return };
        self.position = position;
        if matches!(item, Item::Covered) {
            // There is a record behind what the file has: without it nobody would miss the file.
            self.covered = self.cover.durable.unwrap_or(self.covered).max(self.covered);
        }
        if let Item::Snapshot(snapshot) = &item {
            let waited_for = self.slots.refers(&snapshot.data, disk);
            self.events.extend(waited_for.then_some(StoreEvent::SnapshotWritten));
        }
        self.replay.take(&stamp, item);
        debug_assert!(!self.replay.broken, "what a group writes follows from what it wrote before");
        self.cover_what_is_wanted();
    }
}

impl Store for LogStore {
    type Event = StoreEvent;

    fn apply(&mut self, entry: &Committed, _now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        match self.phase {
            Phase::Reading(_) => return Applied::Pending,
            Phase::Replaying | Phase::Fetching(_) => self.recovered(entry),
            Phase::Running => {
                let due = |(position, _): &mut (Position, _)| *position == entry.position;
                if let Some((position, record)) = self.pending.pop_front_if(due) {
                    self.committed(position, record, disk);
                }
            }
        }
        Applied::Done
    }

    fn cover(&mut self, through: Position, now: Instant, disk: &mut StoreDisk<'_>) {
        self.cover.wanted = self.cover.wanted.max(through);
        self.write_file(now, disk);
    }

    fn covered(&self) -> Position {
        self.covered
    }

    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    ) {
        match (tag, &self.phase) {
            (READ, Phase::Reading(attempt)) => self.was_read(*attempt, result, disk),
            (SLOT_READ, Phase::Fetching(attempt)) => self.slot_read(*attempt, result, disk),
            (OPENED, _) => self.file_opened(result, now, disk),
            (WRITTEN, _) => self.file_written(result, now, disk),
            (SLOT_WRITTEN, _) => match self.slots.written(&result, now) {
                true => self.events.push_back(StoreEvent::SnapshotWritten),
                false => self.events.extend(result.err().map(StoreEvent::Failed)),
            },
            (SLOT_REMOVED, _) => {
                let waited_for = self.slots.removed();
                self.events.extend(waited_for.then_some(StoreEvent::SnapshotWritten));
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        if self.cover.again_at.is_some_and(|due| due <= now) {
            self.cover.again_at = None;
            self.write_file(now, disk);
        }
        self.slots.handle_timeout(now, disk);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.cover.again_at.into_iter().chain(self.slots.poll_timeout()).min()
    }

    fn poll_event(&mut self) -> Option<StoreEvent> {
        self.events.pop_front()
    }
}
