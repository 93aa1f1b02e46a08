//! What a shard's volume holds: streams in files, and the states of their consumers.

use crate::disk::{DiskError, Reply};
use crate::storage::Position;
use crate::storage::consumer::KeptConsumer;
use crate::storage::file::store::{FileStore, StoreEvent};
use crate::storage::file::{Removal, RemovalEvent};
use crate::storage::kept::{Kept, KeptEvent};
use crate::storage::volume::{Applied, Committed, Store, StoreDisk};
use crate::time::Instant;

/// One of them.
#[derive(Debug)]
pub(super) enum Asset {
    /// The messages of a stream.
    Stream(Box<FileStore>),
    /// The state of a consumer.
    Consumer(Box<Kept<KeptConsumer>>),
    /// The files of a stream that is no more, while they are removed.
    Removal(Box<Removal>),
}

/// What it tells.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AssetEvent {
    /// Of a stream.
    Stream(StoreEvent),
    /// Of a consumer.
    Consumer(KeptEvent),
    /// Of files that are removed.
    Removal(RemovalEvent),
}

impl Asset {
    /// Returns the messages, if it is a stream.
    pub(super) fn stream(&mut self) -> Option<&mut FileStore> {
        match self {
            Asset::Stream(store) => Some(store),
            Asset::Consumer(_) | Asset::Removal(_) => None,
        }
    }
}

impl Store for Asset {
    type Event = AssetEvent;

    fn apply(&mut self, entry: &Committed, now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        match self {
            Asset::Stream(store) => store.apply(entry, now, disk),
            Asset::Consumer(store) => store.apply(entry, now, disk),
            Asset::Removal(removal) => removal.apply(entry, now, disk),
        }
    }

    fn cover(&mut self, through: Position, now: Instant, disk: &mut StoreDisk<'_>) {
        match self {
            Asset::Stream(store) => store.cover(through, now, disk),
            Asset::Consumer(store) => store.cover(through, now, disk),
            Asset::Removal(removal) => removal.cover(through, now, disk),
        }
    }

    fn covered(&self) -> Position {
        match self {
            Asset::Stream(store) => store.covered(),
            Asset::Consumer(store) => store.covered(),
            Asset::Removal(removal) => removal.covered(),
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
            Asset::Stream(store) => store.handle_disk(tag, result, now, disk),
            Asset::Consumer(store) => store.handle_disk(tag, result, now, disk),
            Asset::Removal(removal) => removal.handle_disk(tag, result, disk),
        }
    }

    fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        match self {
            Asset::Stream(store) => store.handle_timeout(now, disk),
            Asset::Consumer(store) => store.handle_timeout(now, disk),
            Asset::Removal(removal) => removal.handle_timeout(now, disk),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Asset::Stream(store) => store.poll_timeout(),
            Asset::Consumer(store) => store.poll_timeout(),
            Asset::Removal(removal) => removal.poll_timeout(),
        }
    }

    fn poll_event(&mut self) -> Option<AssetEvent> {
        match self {
            Asset::Stream(store) => store.poll_event().map(AssetEvent::Stream),
            Asset::Consumer(store) => store.poll_event().map(AssetEvent::Consumer),
            Asset::Removal(removal) => removal.poll_event().map(AssetEvent::Removal),
        }
    }

    fn has_failed(&self) -> bool {
        match self {
            Asset::Stream(store) => store.has_failed(),
            Asset::Consumer(store) => store.has_failed(),
            Asset::Removal(removal) => removal.has_failed(),
        }
    }

    fn covers_no_more(&self) -> bool {
        match self {
            Asset::Stream(store) => store.covers_no_more(),
            Asset::Consumer(store) => store.covers_no_more(),
            Asset::Removal(removal) => removal.covers_no_more(),
        }
    }

    fn is_locked(&self) -> bool {
        match self {
            Asset::Stream(store) => store.is_locked(),
            Asset::Consumer(store) => store.is_locked(),
            Asset::Removal(removal) => removal.is_locked(),
        }
    }
}
