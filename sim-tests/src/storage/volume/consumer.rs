//! Consumers' states: each with a file that is replaced when the journal wants its segments back.

use std::collections::VecDeque;

use bytes::Bytes;
use natrix_core::disk::{DiskError, DiskErrorKind, FilePath, Reply, Request};
use natrix_core::rng::Rng;
use natrix_core::storage::consumer::{
    AckPolicy, ConsumerEntry, ConsumerSettings, ConsumerStore, SequencePair,
};
use natrix_core::storage::volume::{Applied, Committed, Store, StoreDisk};
use natrix_core::storage::{OwnerId, Position};
use natrix_core::time::{Instant, WallTime};

use super::{Kind, Line};
use crate::storage::report::{Promise, Violation};

/// How the consumers of a run are made.
pub(crate) struct Consumers {
    settings: ConsumerSettings,
}

/// A consumer with its file.
pub(crate) struct Consumer {
    state: ConsumerStore,
    directory: FilePath,
    path: FilePath,
    ready: bool,
    covered: Position,
    /// What the file that is being written has.
    writing: Option<Position>,
    again: bool,
    complaints: VecDeque<String>,
}

const MADE: u64 = 1;
const SYNCED: u64 = 2;
const READ: u64 = 3;
const WRITTEN: u64 = 4;
/// More than the state of a consumer of a run takes.
const LIMIT: usize = 1 << 20;

impl Store for Consumer {
    type Event = String;

    fn apply(&mut self, entry: &Committed, _now: Instant, _disk: &mut StoreDisk<'_>) -> Applied {
        if !self.ready {
            return Applied::Pending;
        }
        match ConsumerEntry::decode(entry.kind, &entry.payload.concat()) {
            // An entry that changes nothing because of what it says counts as applied.
            Ok(change) => drop(self.state.apply(entry.position, change)),
            Err(error) => self.complaints.push_back(error.to_string()),
        }
        Applied::Done
    }

    fn cover(&mut self, _through: Position, _now: Instant, disk: &mut StoreDisk<'_>) {
        if self.writing.is_some() || !self.ready {
            self.again = true;
            return;
        }
        self.writing = Some(self.state.applied());
        let data = vec![Bytes::from(self.state.encode())];
        disk.submit(WRITTEN, Request::Replace { path: self.path.clone(), data });
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
        match (tag, result) {
            (MADE, Ok(_)) => {
                disk.submit(SYNCED, Request::SyncDirectory { path: self.directory.parent() });
            }
            (SYNCED, Ok(_)) => {
                disk.submit(READ, Request::ReadFile { path: self.path.clone(), limit: LIMIT });
            }
            (READ, Ok(Reply::Read(bytes))) => {
                match self.state.restore(&bytes) {
                    Ok(()) => self.covered = self.state.applied(),
                    Err(error) => self.complaints.push_back(error.to_string()),
                }
                self.ready = true;
            }
            (READ, Err(error)) if error.kind == DiskErrorKind::NotFound => self.ready = true,
            (WRITTEN, Ok(_)) => self.covered = self.writing.take().unwrap_or(self.covered),
            (_, result) => self.complaints.push_back(format!("{result:?}")),
        }
        if self.ready && self.writing.is_none() && std::mem::take(&mut self.again) {
            self.cover(Position(u64::MAX), now, disk);
        }
    }

    fn handle_timeout(&mut self, _now: Instant, _disk: &mut StoreDisk<'_>) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_event(&mut self) -> Option<String> {
        self.complaints.pop_front()
    }
}

impl Kind for Consumers {
    type Store = Consumer;
    type Model = ConsumerStore;

    fn draw(rng: &mut Rng) -> Self {
        let ack_policy = [AckPolicy::None, AckPolicy::All, AckPolicy::Explicit][rng.below(3) as usize];
        Consumers { settings: ConsumerSettings { ack_policy, max_deliver: [0, 3][rng.below(2) as usize] } }
    }

    fn open(&self, owner: OwnerId, _rng: Rng, disk: &mut StoreDisk<'_>) -> Consumer {
        let directory = FilePath::root().join("consumers");
        let path = directory.join(&format!("{:016x}.state", owner.0));
        disk.submit(MADE, Request::CreateDirectory { path: directory.clone() });
        Consumer {
            state: self.model(owner),
            directory,
            path,
            ready: false,
            covered: Position(0),
            writing: None,
            again: false,
            complaints: VecDeque::new(),
        }
    }

    fn is_ready(store: &Consumer) -> bool {
        store.ready
    }

    fn applied(store: &Consumer) -> Position {
        store.state.applied()
    }

    fn complaint(event: &String) -> Option<Violation> {
        Some(Violation::new(Promise::Failed, event.clone()))
    }

    fn model(&self, owner: OwnerId) -> ConsumerStore {
        ConsumerStore::new(owner, self.settings)
    }

    fn entry(&self, rng: &mut Rng, model: &ConsumerStore, step: u64) -> (u8, Vec<Bytes>) {
        let delivered = model.state().delivered;
        let near = |rng: &mut Rng, last: u64| (last + 2).saturating_sub(rng.below(last.min(8) + 2));
        let at =
            SequencePair { consumer: near(rng, delivered.consumer), stream: near(rng, delivered.stream) };
        let next = SequencePair { consumer: delivered.consumer + 1, stream: delivered.stream + 1 };
        let time = WallTime::from_unix_nanos(step as i64);
        let entry = match rng.below(20) {
            0..8 => ConsumerEntry::Delivered { at: next, count: 1, time },
            8..10 => ConsumerEntry::Delivered { at, count: 1 + rng.below(4), time },
            10..17 => ConsumerEntry::Acknowledged { at },
            17 => ConsumerEntry::SkippedTo { stream: at.stream },
            18 => ConsumerEntry::ForgetRedeliveredBelow { stream: at.stream },
            _ => ConsumerEntry::Replace(model.state().clone()),
        };
        let mut bytes = Vec::new();
        let kind = entry.encode(&mut bytes);
        (kind, vec![Bytes::from(bytes)])
    }

    fn apply(model: &mut ConsumerStore, position: Position, kind: u8, payload: &[Bytes]) {
        let entry = ConsumerEntry::decode(kind, &payload.concat()).expect("what was encoded is decoded");
        // An entry that changes nothing because of what it says counts as applied.
        let _ = model.apply(position, entry);
    }

    fn compare(
        line: &mut Line<Self>,
        owner: OwnerId,
        model: &mut ConsumerStore,
        _rng: &mut Rng,
    ) -> Result<(), Violation> {
        let is = line.volume.store(owner).map(|store| store.state.state().clone());
        match is.as_ref() == Some(model.state()) {
            true => Ok(()),
            false => {
                let text = format!("it is {is:?}, should be {:?}", model.state());
                Err(Violation::new(Promise::State, text))
            }
        }
    }
}
