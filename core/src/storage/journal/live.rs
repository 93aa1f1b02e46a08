//! What each segment still has to keep, and for whom.
//!
//! Invariants: the segments stand in the order of their numbers, the last is the one that is written to; a segment
//! owes nothing to an owner that it doesn't name; what it owes an owner ends at the owner's highest position in it.

use std::collections::{BTreeMap, VecDeque};

use super::super::{OwnerId, Position};
use super::batch::Share;
use super::prepare::Prepared;
use crate::disk::{FileId, FilePath};

/// What a segment keeps for one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Live {
    /// How many bytes, those that are covered already included until all are.
    pub bytes: u64,
    /// The highest position.
    pub last: Position,
    /// Whether the owner was asked to cover it.
    pub asked: bool,
}

/// A segment that counts.
#[derive(Debug)]
pub(super) struct Segment {
    pub number: u64,
    pub file: FileId,
    pub path: FilePath,
    /// How much space it has, at least, in bytes.
    pub size: u32,
    /// The position that its first own entry has, or may have.
    pub first: Position,
    /// Where its last batch ends, as far as that is certain.
    pub end: u32,
    /// A write or sync failed: it takes no more writes, in this life or as another segment.
    pub poisoned: bool,
    /// Something in it can't be read any more.
    pub damaged: bool,
    pub live: BTreeMap<OwnerId, Live>,
    /// The sum of what is live.
    pub bytes: u64,
}

impl Segment {
    fn add(&mut self, share: Share) {
        let live = self.live.entry(share.owner).or_insert(Live { bytes: 0, last: Position(0), asked: false });
        live.bytes += share.bytes;
        live.last = live.last.max(share.last);
        self.bytes += share.bytes;
    }

    fn drop_owner(&mut self, owner: OwnerId) {
        if let Some(live) = self.live.remove(&owner) {
            self.bytes -= live.bytes;
        }
    }
}

/// How far an owner that was deleted is forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forgotten {
    /// The entry that says so isn't committed yet.
    Proposed,
    /// It stands in this segment, and is needed as long as there are older ones.
    In(u64),
}

/// All segments that count, oldest first, and what their owners no longer need.
#[derive(Debug, Default)]
pub(super) struct Segments {
    chain: VecDeque<Segment>,
    covered: BTreeMap<OwnerId, Position>,
    forgotten: BTreeMap<OwnerId, Forgotten>,
}

impl Segments {
    /// Returns all of them.
    pub(super) fn chain(&self) -> &VecDeque<Segment> {
        &self.chain
    }

    /// Returns the one that is written to.
    pub(super) fn head_mut(&mut self) -> Option<&mut Segment> {
        self.chain.back_mut()
    }

    /// Returns the one of this number.
    pub(super) fn get(&self, number: u64) -> Option<&Segment> {
        self.chain.iter().find(|segment| segment.number == number)
    }

    /// Adds the newest.
    pub(super) fn push(&mut self, segment: Prepared, first: Position, end: u32) {
        let Prepared { number, file, path, size } = segment;
        debug_assert!(self.chain.back().is_none_or(|last| last.number < number), "numbers ascend");
        let live = BTreeMap::new();
        self.chain.push_back(Segment {
            number,
            file,
            path,
            size,
            first,
            end,
            poisoned: false,
            damaged: false,
            live,
            bytes: 0,
        });
    }

    /// Notes where a segment turned out to end.
    pub(super) fn ends(&mut self, number: u64, end: u32) {
        if let Some(segment) = self.chain.iter_mut().rev().find(|segment| segment.number == number) {
            segment.end = end;
        }
    }

    /// Takes the newest back out: nothing in it was ever committed.
    pub(super) fn pop_newest(&mut self) -> Option<Segment> {
        self.chain.pop_back()
    }

    /// Returns through which position an owner has everything elsewhere.
    pub(super) fn covered_through(&self, owner: OwnerId) -> Position {
        self.covered.get(&owner).copied().unwrap_or_default()
    }

    /// Returns whether an owner is deleted, or about to be.
    pub(super) fn is_forgotten(&self, owner: OwnerId) -> bool {
        self.forgotten.contains_key(&owner)
    }

    /// Returns whether anybody may still ask for this entry.
    pub(super) fn wants(&self, owner: OwnerId, position: Position) -> bool {
        !self.is_forgotten(owner) && position > self.covered_through(owner)
    }

    /// Notes that `share` is durable in the segment `number`.
    pub(super) fn account(&mut self, number: u64, share: Share) {
        // An owner that is about to be deleted still has what it has.
        let forgotten = matches!(self.forgotten.get(&share.owner), Some(Forgotten::In(_)));
        if forgotten || share.last <= self.covered_through(share.owner) {
            return;
        }
        if let Some(segment) = self.chain.iter_mut().rev().find(|segment| segment.number == number) {
            segment.add(share);
        }
    }

    /// Notes that an owner has everything through `through` elsewhere.
    pub(super) fn cover(&mut self, owner: OwnerId, through: Position) {
        let covered = self.covered.entry(owner).or_default();
        *covered = through.max(*covered);
        let through = *covered;
        for segment in &mut self.chain {
            if segment.live.get(&owner).is_some_and(|live| live.last <= through) {
                segment.drop_owner(owner);
            }
        }
    }

    /// Notes that an owner is about to be deleted. What it has stays until that is durable.
    pub(super) fn forgetting(&mut self, owner: OwnerId) {
        self.forgotten.entry(owner).or_insert(Forgotten::Proposed);
    }

    /// Notes that an owner is deleted, and that the segment `number` says so.
    pub(super) fn forget(&mut self, owner: OwnerId, number: u64) {
        self.forgotten.insert(owner, Forgotten::In(number));
        self.covered.remove(&owner);
        for segment in &mut self.chain {
            segment.drop_owner(owner);
        }
    }

    /// Returns the number of the oldest segment that is still needed.
    pub(super) fn oldest(&self) -> u64 {
        let newest = self.chain.len().saturating_sub(1);
        let needed = |(index, segment): &(usize, &Segment)| *index == newest || !segment.live.is_empty();
        self.chain.iter().enumerate().find(needed).map_or(0, |(_, segment)| segment.number)
    }

    /// Takes out the next segment older than `oldest`, which is durably said to be void.
    pub(super) fn release(&mut self, oldest: u64) -> Option<Segment> {
        let segment = self.chain.pop_front_if(|segment| segment.number < oldest)?;
        self.forgotten.retain(|_, forgotten| *forgotten != Forgotten::In(segment.number));
        Some(segment)
    }

    /// Empties the oldest segment: what was live in it is durable in newer ones.
    pub(super) fn copied(&mut self, number: u64) {
        if let Some(segment) = self.chain.front_mut().filter(|segment| segment.number == number) {
            segment.live.clear();
            segment.bytes = 0;
        }
    }

    /// Returns whether the oldest segment has entries of an owner that is about to be deleted: until that is durable
    /// they are needed, although nobody would copy them.
    pub(super) fn awaits_forgetting(&self) -> bool {
        let proposed = self.forgotten.iter().filter(|(_, forgotten)| **forgotten == Forgotten::Proposed);
        let Some(segment) = self.chain.front() else { return false };
        proposed.into_iter().any(|(owner, _)| segment.live.contains_key(owner))
    }

    /// Notes that something in the oldest segment can't be read any more; returns whether that is news.
    pub(super) fn damaged(&mut self, number: u64) -> bool {
        let segment = self.chain.front_mut().filter(|segment| segment.number == number);
        segment.is_some_and(|segment| !std::mem::replace(&mut segment.damaged, true))
    }

    /// Returns the oldest segment, if it isn't also the newest.
    pub(super) fn front_mut(&mut self) -> Option<&mut Segment> {
        if self.chain.len() < 2 {
            return None;
        }
        self.chain.front_mut()
    }
}
