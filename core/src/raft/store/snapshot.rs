//! Snapshots that are too long for the journal: two files, of which one is referred to and the other is free.
//!
//! A snapshot is written to the free one, atomically and durably; then the record that refers to it is written; when that is
//! durable the other file is free. The record has length and checksum, so no other file is taken for it.

use bytes::Bytes;

use super::record::Data;
use super::{AGAIN, SLOT_READ, SLOT_REMOVED, SLOT_WRITTEN};
use crate::disk::{DiskError, FilePath, Reply, Request};
use crate::planted::{Bug, bug};
use crate::raft::log::Place;
use crate::storage::OwnerId;
use crate::storage::volume::StoreDisk;
use crate::time::Instant;

/// The longest snapshot, in bytes.
const LIMIT: usize = 1 << 32;

#[derive(Debug)]
struct Writing {
    slot: u8,
    place: Place,
    checksum: u32,
    data: Bytes,
    done: bool,
    again_at: Option<Instant>,
}

/// The two files of a member.
#[derive(Debug)]
pub(super) struct Slots {
    owner: OwnerId,
    paths: [FilePath; 2],
    /// The one that a durable record refers to.
    pub current: Option<u8>,
    writing: Option<Writing>,
    /// A record that refers to the other is on its way.
    referring: bool,
    /// The free one is being removed: what is written to it now could be what is removed.
    removing: bool,
    /// Somebody waits for that.
    waited_for: bool,
}

/// Returns the checksum of a snapshot's bytes, which is another one for another member or place.
pub(super) fn checksum(owner: OwnerId, place: Place, bytes: &[u8]) -> u32 {
    let mut seed = [0; 24];
    seed[..8].copy_from_slice(&owner.0.to_le_bytes());
    seed[8..16].copy_from_slice(&place.term.to_le_bytes());
    seed[16..].copy_from_slice(&place.index.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&seed), bytes)
}

impl Slots {
    pub(super) fn new(directory: &FilePath, owner: OwnerId) -> Self {
        let path = |slot| directory.join(&format!("{:016x}-{slot}.snapshot", owner.0));
        Slots {
            owner,
            paths: [path(0), path(1)],
            current: None,
            writing: None,
            referring: false,
            removing: false,
            waited_for: false,
        }
    }

    pub(super) fn paths(&self) -> [FilePath; 2] {
        self.paths.clone()
    }

    pub(super) fn read(&self, slot: u8, disk: &mut StoreDisk<'_>) {
        let path = self.paths[usize::from(slot)].clone();
        disk.submit(SLOT_READ, Request::ReadFile { path, limit: LIMIT });
    }

    /// Writes a snapshot to the free file; returns what refers to it once it is durable there.
    pub(super) fn write(&mut self, place: Place, data: &Bytes, disk: &mut StoreDisk<'_>) -> Option<Data> {
        if self.referring || self.removing && !bug(Bug::RaftStoreSnapshotOvertakesRemoval) {
            // The free file is only known when the record before is durable.
            self.waited_for = true;
            return None;
        }
        let (checksum, len) = (checksum(self.owner, place, data), data.len() as u64);
        if let Some(writing) = &self.writing {
            if !writing.done {
                return None;
            }
            let (slot, same) = (writing.slot, writing.place == place && writing.checksum == checksum);
            self.writing = None;
            if same {
                self.referring = true;
                return Some(Data::Slot { slot, len, checksum });
            }
        }
        let slot = self.current.map_or(0, |current| 1 - current);
        let writing = Writing { slot, place, checksum, data: data.clone(), done: false, again_at: None };
        self.submit(&writing, disk);
        if bug(Bug::RaftStoreSnapshotBeforeFile) {
            self.referring = true;
            return Some(Data::Slot { slot, len, checksum });
        }
        self.writing = Some(writing);
        None
    }

    fn submit(&self, writing: &Writing, disk: &mut StoreDisk<'_>) {
        let path = self.paths[usize::from(writing.slot)].clone();
        disk.submit(SLOT_WRITTEN, Request::Replace { path, data: vec![writing.data.clone()] });
    }

    /// Takes how writing went; returns whether it is done.
    pub(super) fn written(&mut self, result: &Result<Reply, DiskError>, now: Instant) -> bool {
        let Some(writing) = &mut self.writing else { return false };
        match result {
            Ok(_) => writing.done = true,
            Err(_) => writing.again_at = Some(now + AGAIN),
        }
        writing.done
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        let Some(mut writing) = self.writing.take() else { return };
        if writing.again_at.is_some_and(|due| due <= now) {
            writing.again_at = None;
            self.submit(&writing, disk);
        }
        self.writing = Some(writing);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.writing.as_ref().and_then(|writing| writing.again_at)
    }

    /// A record with a snapshot is durable; returns whether somebody waited for that.
    pub(super) fn refers(&mut self, data: &Data, disk: &mut StoreDisk<'_>) -> bool {
        let next = match data {
            Data::Here(_) => None,
            Data::Slot { slot, .. } => {
                self.referring = false;
                Some(*slot)
            }
        };
        let free = std::mem::replace(&mut self.current, next).filter(|free| Some(*free) != next);
        if let Some(free) = free {
            self.removing = true;
            disk.submit(SLOT_REMOVED, Request::Remove { path: self.paths[usize::from(free)].clone() });
        }
        !self.removing && std::mem::take(&mut self.waited_for)
    }

    /// The free file is gone, or couldn't be removed, which is no harm; returns whether somebody waited for that.
    pub(super) fn removed(&mut self) -> bool {
        self.removing = false;
        !self.referring && std::mem::take(&mut self.waited_for)
    }
}
