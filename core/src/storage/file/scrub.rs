//! Reading blocks in the background, to find damage while there still is somebody else who has what is lost.
//!
//! Each block that is durable as a whole is read once a pass, no faster than [`ScrubPace`] says, and walked as recovery does it.
//! What makes no sense is read a second time. Damage is told as recovery tells it, each place once; the block is left as it
//! is. Its index file goes when the ledger has given up what is lost, so that the next start finds the damage too. The newest block is left out: its bytes were
//! read when it was opened or have been written since, and it is closed some day.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::block::Place;
use super::super::block::index::Builder;
use super::super::block::walk::{Damage, walk};
use super::api::{Event, StoreDisk};
use super::blocks::{BlockFiles, Closed, Work, block_path, index_path};
use crate::disk::{DiskError, Reply, Request};
use crate::planted::{self, Bug};
use crate::storage::block::Context;
use crate::time::{Duration, Instant};

/// How fast blocks are read in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrubPace {
    /// How many bytes a second at most, as long as a block is shorter than that: one is read at once.
    pub bytes_per_second: u64,
    /// How long after a pass began the next does, at the earliest.
    pub every: Duration,
}

/// A block that is being read, as it was when it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scrubbed {
    block: u32,
    len: u32,
    rewrites: u32,
    /// It made no sense the first time.
    again: bool,
}

/// How far a pass is.
#[derive(Debug, Default)]
pub(super) struct Scrub {
    pace: Option<ScrubPace>,
    due: Option<Instant>,
    /// When this pass began.
    begun: Option<Instant>,
    /// The block to be looked at next, or one behind it.
    next: u32,
    reading: bool,
    blocks: u64,
    bytes: u64,
    /// Where damage was told, by block.
    told: BTreeMap<u32, BTreeSet<u32>>,
}

impl Scrub {
    /// Takes note of damage that was told, and returns whether it is news.
    pub(super) fn tell(&mut self, number: u32, damage: &Damage) -> bool {
        self.told.entry(number).or_default().insert(damage.offset)
    }
}

impl BlockFiles {
    /// Sets how fast blocks are read in the background; `None`, as at the beginning, for not at all. The first pass begins some time
    /// within [`ScrubPace::every`], so that not all streams of a server begin theirs at once.
    pub fn set_scrub(&mut self, pace: Option<ScrubPace>, now: Instant) {
        let wait = pace.map(|pace| u64::try_from(pace.every.as_nanos()).unwrap_or(u64::MAX));
        self.scrub.due = wait.map(|wait| now + Duration::from_nanos(self.rng.below(wait.max(1))));
        self.scrub.pace = pace;
    }

    /// Returns when [`BlockFiles::scrub`] is next due.
    pub fn scrub_due(&self) -> Option<Instant> {
        self.scrub.due.filter(|_| !self.scrub.reading && self.is_ready())
    }

    /// Has the next block read, if one is due.
    pub fn scrub(&mut self, now: Instant, disk: &mut impl StoreDisk) {
        let Some(pace) = self.scrub.pace.filter(|_| self.scrub_due().is_some_and(|due| due <= now)) else {
            return;
        };
        let begun = *self.scrub.begun.get_or_insert(now);
        let changing = self.rewrites.under_way();
        let stays = |number: u32| !self.dropping.contains_key(&number) && changing != Some(number);
        let next = self.closed.range(self.scrub.next..).find(|(number, _)| stays(**number));
        let Some((number, closed)) = next else {
            let Scrub { blocks, bytes, .. } = self.scrub;
            self.scrub.told.retain(|number, _| self.closed.contains_key(number));
            self.bare.retain(|number| self.closed.contains_key(number));
            (self.scrub.next, self.scrub.begun, self.scrub.blocks, self.scrub.bytes) = (0, None, 0, 0);
            // A pass over nothing takes no time.
            self.scrub.due = Some((begun + pace.every).max(now + Duration::from_secs(1)));
            self.events.push_back(Event::Scrubbed { blocks, bytes });
            return;
        };
        let (block, len) = (*number, closed.known.len);
        let wanted = Scrubbed { block, len, rewrites: closed.known.rewrites, again: false };
        self.scrub.next = block + 1;
        self.scrub.blocks += 1;
        self.scrub.bytes += u64::from(len);
        let nanos = u128::from(len) * 1_000_000_000 / u128::from(pace.bytes_per_second.max(1));
        self.scrub.due = Some(now + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)));
        self.read_to_scrub(wanted, disk);
    }

    fn read_to_scrub(&mut self, wanted: Scrubbed, disk: &mut impl StoreDisk) {
        self.scrub.reading = true;
        let path = block_path(&self.config.directory, wanted.block);
        // One that became longer is none of ours.
        let limit = wanted.len as usize + 1;
        self.submit(Work::Scrub(wanted), Request::ReadFile { path, limit }, disk);
    }

    pub(super) fn was_scrubbed(
        &mut self,
        wanted: Scrubbed,
        result: Result<Reply, DiskError>,
        disk: &mut impl StoreDisk,
    ) {
        self.scrub.reading = false;
        let number = wanted.block;
        let Some(closed) = self.closed.get(&number).filter(|_| !self.dropping.contains_key(&number)) else {
            return;
        };
        if (closed.known.len, closed.known.rewrites) != (wanted.len, wanted.rewrites)
            || self.rewrites.under_way() == Some(number)
        {
            // It was written anew meanwhile, or is.
            return;
        }
        let found = match &result {
            Ok(Reply::Read(bytes)) => self.verify(closed, bytes),
            _ => vec![whole(closed)],
        };
        if found.is_empty() {
            return;
        }
        if !wanted.again && !planted::bug(Bug::StoreScrubReadOnce) {
            return self.read_to_scrub(Scrubbed { again: true, ..wanted }, disk);
        }
        if let Err(error) = result {
            // Single messages may be readable still: they are tried when somebody asks for them.
            self.events.push_back(Event::Unreadable { number, error });
            return;
        }
        let found = if planted::bug(Bug::StoreScrubDropsBlock) { vec![whole(closed)] } else { found };
        for damage in found {
            if self.scrub.tell(number, &damage) {
                self.events.push_back(Event::Damaged { number, damage });
            }
        }
    }

    /// Removes the index file of a block that has damage: the next start is to read the block, and find it.
    pub(super) fn remove_index(&mut self, number: u32, disk: &mut impl StoreDisk) {
        let path = index_path(&self.config.directory, number);
        if planted::bug(Bug::StoreScrubKeepsIndex) {
            return;
        }
        self.bare.insert(number);
        self.submit(Work::Remove, Request::Remove { path }, disk);
    }

    /// Returns what is bad in the bytes of a block.
    fn verify(&self, closed: &Closed, bytes: &Bytes) -> Vec<Damage> {
        let known = closed.known;
        let place = Place::new(self.config.owner, known.number);
        let hint = Context { next_sequence: known.first, base_time: 0 };
        let mut builder = Builder::new(&place);
        // Whole bytes of a stranger, of another time, or that our keys don't open.
        let Ok(walked) = walk(bytes, place, hint, known.len, &self.keys, &mut builder) else {
            return vec![whole(closed)];
        };
        if walked.header.is_some_and(|header| header.rewrites != known.rewrites)
            || bytes.len() > known.len as usize
        {
            return vec![whole(closed)];
        }
        let mut damage = walked.damage;
        // What it should have behind the last that can be read.
        let next = walked.context.next_sequence;
        let missing = known.end.checked_sub(1).filter(|last| *last >= next).map(|last| (next, last));
        let len = known.len.saturating_sub(bytes.len() as u32);
        match damage.iter_mut().find(|damage| damage.open && damage.sequences.is_none()) {
            Some(open) => open.sequences = missing,
            None if len > 0 || missing.is_some() => {
                damage.push(Damage { offset: bytes.len() as u32, len, sequences: missing, open: false });
            }
            None => {}
        }
        damage
    }
}

/// Returns the loss of a whole block.
fn whole(closed: &Closed) -> Damage {
    let known = closed.known;
    let sequences =
        known.end.checked_sub(1).filter(|last| *last >= known.first).map(|last| (known.first, last));
    Damage { offset: 0, len: known.len, sequences, open: false }
}
