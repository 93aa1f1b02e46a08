//! The kinds of store that a host has on its journal.

use super::witness::{Witness, WitnessEvent};
use crate::disk::{DiskError, Reply};
use crate::raft::store::{LogStore, StoreEvent};
use crate::storage::Position;
use crate::storage::volume::{Applied, Committed, Store, StoreDisk};
use crate::time::Instant;

/// A store of the host.
#[derive(Debug)]
pub(super) enum Shelf {
    Log(Box<LogStore>),
    Witness(Box<Witness>),
}

/// What it tells.
#[derive(Debug)]
pub(super) enum ShelfEvent {
    Log(StoreEvent),
    Witness(WitnessEvent),
}

impl Shelf {
    pub(super) fn log(&mut self) -> Option<&mut LogStore> {
        if let Shelf::Log(store) = self { Some(store) } else { None }
    }

    pub(super) fn witness(&mut self) -> Option<&mut Witness> {
        if let Shelf::Witness(witness) = self { Some(witness) } else { None }
    }
}

impl Store for Shelf {
    type Event = ShelfEvent;

    fn apply(&mut self, entry: &Committed, now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        match self {
            Shelf::Log(store) => store.apply(entry, now, disk),
            Shelf::Witness(witness) => witness.apply(entry, now, disk),
        }
    }

    fn cover(&mut self, through: Position, now: Instant, disk: &mut StoreDisk<'_>) {
        match self {
            Shelf::Log(store) => store.cover(through, now, disk),
            Shelf::Witness(witness) => witness.cover(through, now, disk),
        }
    }

    fn covered(&self) -> Position {
        match self {
            Shelf::Log(store) => store.covered(),
            Shelf::Witness(witness) => witness.covered(),
        }
    }

    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    ) {
        match self {
            Shelf::Log(store) => store.handle_disk(tag, result, now, disk),
            Shelf::Witness(witness) => witness.handle_disk(tag, result, now, disk),
        }
    }

    fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        match self {
            Shelf::Log(store) => store.handle_timeout(now, disk),
            Shelf::Witness(witness) => witness.handle_timeout(now, disk),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Shelf::Log(store) => store.poll_timeout(),
            Shelf::Witness(witness) => witness.poll_timeout(),
        }
    }

    fn poll_event(&mut self) -> Option<ShelfEvent> {
        match self {
            Shelf::Log(store) => store.poll_event().map(ShelfEvent::Log),
            Shelf::Witness(witness) => witness.poll_event().map(ShelfEvent::Witness),
        }
    }
}
