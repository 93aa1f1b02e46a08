//! Which of the files that are there count, and what is missing among them.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::api::{Event, Failure};
use super::super::blocks::{MANIFEST, block_path, index_path, manifest_path};
use super::super::manifest::{Known, Manifest, ManifestError};
use super::{Next, Recovery};
use crate::disk::{DiskError, DiskErrorKind, Reply};
use crate::planted::{self, Bug};
use crate::storage::block::Header;
use crate::storage::block::index::Builder;
use crate::storage::block::walk::Walked;

impl Recovery {
    pub(super) fn took_manifest(
        &mut self,
        result: Result<Reply, DiskError>,
        events: &mut VecDeque<Event>,
    ) -> Next {
        let path = manifest_path(&self.directory).to_string();
        let (manifest, bytes) = match result {
            Ok(Reply::Read(bytes)) => (Manifest::decode(&bytes, self.owner), bytes),
            Err(error) if error.kind == DiskErrorKind::NotFound => return Ok(None),
            _ => (Err(ManifestError::Damaged), Bytes::new()),
        };
        if self.is_doubtful(manifest.is_ok(), &bytes) {
            return Ok(Some(self.read_manifest()));
        }
        match manifest {
            Ok(manifest) => {
                self.found.covered = manifest.covered;
                self.found.generation = manifest.generation;
                self.found.settings = manifest.settings.clone();
                self.manifest = Some(manifest);
            }
            Err(ManifestError::Damaged) => events.push_back(Event::ManifestDamaged { path }),
            Err(ManifestError::Foreign) => return Err(Failure::Foreign { path }),
        }
        Ok(None)
    }

    pub(super) fn listed(&mut self, events: &mut VecDeque<Event>) {
        for entry in std::mem::take(&mut self.entries) {
            let number = entry.name.split_once('.').filter(|(name, _)| name.len() == 8);
            let number = number.and_then(|(name, kind)| Some((u32::from_str_radix(name, 16).ok()?, kind)));
            match number {
                Some((number, "blk")) if number > 0 && !entry.directory => {
                    self.blocks.push((number, entry.len));
                }
                Some((number, "idx")) if !entry.directory => self.indexes.push(number),
                _ if entry.name == MANIFEST => {}
                _ => {
                    self.found.strangers = true;
                    let path = self.directory.join(&entry.name).to_string();
                    events.push_back(Event::Foreign { path });
                }
            }
        }
        self.listed = self.blocks.iter().map(|(number, _)| *number).collect();
        self.blocks.sort_unstable();
        self.indexes.sort_unstable();
        let known = self.manifest.as_ref().and_then(|manifest| manifest.blocks.last());
        let newest = self.blocks.last().map(|(number, _)| *number).max(known.map(|known| known.number));
        self.found.next_number = newest.unwrap_or(0) + 1;
        // A file without a byte was created for what was then not written.
        for (number, _) in self.blocks.extract_if(.., |(_, len)| *len == 0) {
            self.found.leftovers.push(block_path(&self.directory, number));
        }
        self.leave_out_dropped();
    }

    /// What the manifest has no more was dropped, or cut off: it is no part of the stream, nor a loss.
    pub(super) fn leave_out_dropped(&mut self) {
        let Some(manifest) = &self.manifest else { return };
        let last = manifest.blocks.last().map_or(0, |known| known.number);
        let counts = |number: u32| {
            number > last || manifest.blocks.binary_search_by_key(&number, |known| known.number).is_ok()
        };
        for (number, _) in self.blocks.extract_if(.., |(number, _)| !counts(*number)) {
            self.found.leftovers.push(block_path(&self.directory, number));
        }
        let blocks = &self.blocks;
        for number in self
            .indexes
            .extract_if(.., |number| blocks.binary_search_by_key(number, |(number, _)| *number).is_err())
        {
            self.found.leftovers.push(index_path(&self.directory, number));
        }
    }

    /// The manifest has every block before the next gets a byte: of those that it hasn't, only the newest counts. Another was
    /// taken for a torn one and removed before, and is back after a power cut.
    pub(super) fn leave_out_unlisted(&mut self) {
        let Some(manifest) = &self.manifest else { return };
        let unlisted =
            |number: u32| manifest.blocks.binary_search_by_key(&number, |known| known.number).is_err();
        for (number, _) in self.blocks.extract_if(.., |(number, _)| unlisted(*number)) {
            self.found.leftovers.push(block_path(&self.directory, number));
        }
    }

    /// A block says which one it continues: those between the two were given up before it was begun. The manifest says so too,
    /// but there is none before the first block is durable.
    pub(super) fn leave_out_given_up(&mut self, header: Option<Header>) {
        let Some(previous) = header.map(|header| header.previous) else { return };
        if planted::bug(Bug::StoreGivenUpBlockTrusted) {
            return;
        }
        for (number, _) in self.blocks.extract_if(.., |(number, _)| *number > previous) {
            self.found.leftovers.push(block_path(&self.directory, number));
        }
    }

    /// Returns whether a block has all that it had.
    pub(super) fn is_whole(&self, number: u32, walked: &Walked, len: u32) -> bool {
        let whole = walked.damage.is_empty() && self.known(number).is_none_or(|known| known.len == len);
        whole && !planted::bug(Bug::StoreIndexLeftOut)
    }

    /// Returns what the manifest knows of a block.
    pub(super) fn known(&self, number: u32) -> Option<Known> {
        let blocks = &self.manifest.as_ref()?.blocks;
        blocks.binary_search_by_key(&number, |known| known.number).ok().map(|at| blocks[at])
    }

    /// Tells what is missing between the end of block `number`, which is behind `end`, and the next newer block. With a
    /// manifest it is what its blocks had; without one, all of it.
    pub(super) fn lost_between(&self, number: u32, end: u64, events: &mut VecDeque<Event>) {
        let mut lose = |first: u64, last: u64| {
            if first <= last && !planted::bug(Bug::StoreLossUntold) {
                events.push_back(Event::Lost { first, last });
            }
        };
        match &self.manifest {
            Some(manifest) => {
                let newer = self.found.closed.keys().next().copied();
                let newer =
                    newer.or(self.found.tail.as_ref().map(|tail| tail.place.block())).unwrap_or(u32::MAX);
                for known in manifest.blocks.iter().filter(|known| known.number < newer) {
                    if known.number > number {
                        lose(known.first.max(1), known.end.min(self.bound).saturating_sub(1));
                    } else if known.number == number {
                        lose(end.max(1), known.end.min(self.bound).saturating_sub(1));
                    }
                }
            }
            None if number > 0 && self.bound < u64::MAX => lose(end, self.bound.saturating_sub(1)),
            // Before the oldest block: what is below the stream's first sequence isn't missed.
            None if self.bound < u64::MAX => {
                lose(self.found.ready.floor.max(1), self.bound.saturating_sub(1));
            }
            None => {}
        }
    }

    /// Returns whether a block is older than the manifest knows it: written anew, and gone back. What was removed of it then
    /// is in no tombstone any more, and what was erased must not be served.
    pub(super) fn is_older(&self, number: u32, walked: &Walked, events: &mut VecDeque<Event>) -> bool {
        let (known, header) = (self.known(number), walked.header);
        let older = known.zip(header).is_some_and(|(known, header)| header.rewrites < known.rewrites);
        let older = older && !planted::bug(Bug::StoreOlderBlockTrusted);
        if older {
            events.push_back(Event::Older { path: block_path(&self.directory, number).to_string() });
        }
        older
    }

    /// Returns where a block begins: as its header says, or the manifest, or its first message. What is older than that isn't
    /// cut off by it.
    pub(super) fn first_sequence(&self, number: u32, walked: &Walked, builder: &Builder) -> Option<u64> {
        let header = walked.header.map(|header| header.first_sequence);
        let known = || self.known(number).map(|known| known.first);
        let message = || builder.index().iter().next().map(|(sequence, _)| sequence);
        header.or_else(known).or_else(message)
    }
}
