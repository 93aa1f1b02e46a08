//! When a segment is let go: whom to ask, what to copy, and when its file may be used again.
//!
//! The oldest segment goes first, always. Owners with much in it are asked to cover it; what the others have is copied
//! to the head if that is at most half of the next segment, so that copying at most doubles what is written. If it is more, the
//! journal grows up to its limit, and then asks the largest owners until half is left. A segment is void once a
//! *durable* batch says that older ones count no more, and that batch is written behind the copies.
//!
//! A segment in which something can't be read any more isn't copied: all owners are asked to cover it, as they still have
//! what is lost here. Only when the journal is at its limit is the rest copied, and what an owner hadn't covered is lost.

use super::batch::{ENTRY_HEADER, Seed};
use super::live::Segments;
use super::scan::{Extent, Progress, Reader, Scanner};
use super::{Event, Journal, Purpose, Spare, Ticket};
use crate::disk::{DiskError, DiskQueue, Reply};
use crate::planted::{self, Bug, Point};

/// Copies the live entries of the oldest segment to the head.
#[derive(Debug)]
pub(super) struct Copier {
    scanner: Scanner,
    arrived: Option<Result<Reply, DiskError>>,
    /// All copies are durable when the writer has counted to here.
    copies_due: u64,
}

impl Copier {
    fn new(seed: Seed, segments: &Segments, copies: u64) -> Option<Self> {
        let segment = segments.chain().front()?;
        let reader = Reader::new(segment.file, Ticket(Purpose::Copy));
        let behind = segments.chain().get(1).map_or(Extent::UNKNOWN, |next| next.first);
        let extent = Extent { end: segment.end, first: segment.first, behind, below: behind };
        let scanner = Scanner::new(seed, segment.number, reader, extent);
        Some(Copier { scanner, arrived: None, copies_due: copies })
    }

    pub(super) fn completed(&mut self, result: Result<Reply, DiskError>) {
        self.arrived = Some(result);
    }
}

impl Journal {
    /// Goes on with recycling.
    pub(super) fn recycle<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        if self.copier.is_some() {
            // Its file is being read: it is let go afterwards.
            return self.copy(disk);
        }
        self.reclaim(disk);
        let (count, minimum, maximum) =
            (self.segments.chain().len(), self.config.min_segments, self.config.max_segments);
        let half = u64::from(self.preparer.size()) / 2;
        let copy_below = self.config.copy_below;
        self.let_go_of_left(disk);
        let Some(oldest) = self.segments.front_mut() else { return };
        let leaves = self.leaving.leaves(oldest.number);
        if count <= minimum && !leaves || oldest.live.is_empty() {
            return;
        }
        let mut small = 0;
        let mut waits = false;
        let patient = oldest.damaged && count <= maximum && !planted::bug(Bug::JournalDamagedCopied);
        for (owner, live) in &mut oldest.live {
            let little = live.bytes < copy_below && !leaves && !patient;
            if little && !planted::point(Point::JournalAsksForLittle) || self.leaving.is_absent(*owner) {
                small += live.bytes;
                continue;
            }
            waits = true;
            if !live.asked {
                live.asked = true;
                self.events.push_back(Event::PleaseCover { owner: *owner, through: live.last });
            }
        }
        if small > half && count > maximum {
            let mut largest: Vec<_> = oldest.live.iter_mut().filter(|(_, live)| !live.asked).collect();
            largest.sort_by_key(|(_, live)| std::cmp::Reverse(live.bytes));
            let mut left = small;
            for (owner, live) in largest {
                if left <= half {
                    break;
                }
                left -= live.bytes;
                live.asked = true;
                self.events.push_back(Event::PleaseCover { owner: *owner, through: live.last });
            }
        }
        if leaves && !waits && oldest.bytes > half {
            // Nobody can cover it, and it is too much to be copied.
            self.leaving.stays();
        }
        if !waits && oldest.bytes <= half {
            self.copier = Copier::new(self.seed, &self.segments, self.writer.copies_durable);
            self.copy(disk);
        }
    }

    /// Reads a window of the oldest segment and appends what is live in it, once what was copied before is durable.
    fn copy<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        let Some(copier) = &mut self.copier else { return };
        if let Some(result) = copier.arrived.take() {
            copier.scanner.reader.completed(result, disk);
        }
        let number = copier.scanner.number;
        let durable = self.writer.copies_durable >= copier.copies_due;
        if !durable && !planted::bug(Bug::JournalSegmentRecycledEarly) {
            // Nobody else may be in a hurry to have it synced.
            return self.sync_now(disk);
        }
        let mut budget = super::WINDOW;
        let mut read = self.segments.get(number).is_none_or(|segment| segment.live.is_empty());
        while !read && budget > 0 {
            match copier.scanner.step(disk) {
                Progress::Wait => return,
                Progress::End => read = true,
                Progress::Found(found) => {
                    let damaged = !found.damage.is_empty();
                    self.events.extend(found.damage.into_iter().map(Event::Damaged));
                    if damaged && self.segments.damaged(number) {
                        // Whether it is copied is decided anew.
                        self.copier = None;
                        return self.recycle(disk);
                    }
                    for entry in found.entries {
                        budget = budget.saturating_sub(entry.raw.len());
                        let (owner, position) = (entry.header.owner, entry.header.position);
                        let live =
                            self.segments.get(number).is_some_and(|from| from.live.contains_key(&owner));
                        let wanted = live && self.segments.wants(owner, position);
                        if !wanted || planted::bug(Bug::JournalCopyForwardLost) {
                            continue;
                        }
                        if !self.filling.is_empty()
                            && self.filling.length() + entry.raw.len()
                                > self.config.max_batch.min(self.config.room())
                        {
                            self.writer.enqueue(self.filling.take());
                        }
                        if self.leaving.leaves(number) {
                            let (seal, kind) = (self.config.seal.as_ref(), entry.header.kind);
                            if self.leaving.copies(seal, kind, &entry.raw[ENTRY_HEADER..]) {
                                self.writer.start_afresh();
                            }
                        }
                        self.filling.push_copy(&entry.header, &entry.raw);
                        copier.copies_due += 1;
                    }
                }
            }
        }
        let durable = self.writer.copies_durable >= copier.copies_due && !self.segments.awaits_forgetting();
        if read
            && !copier.scanner.reader.is_waiting()
            && (durable || planted::bug(Bug::JournalSegmentRecycledEarly))
        {
            self.copier = None;
            self.segments.copied(number);
            if planted::bug(Bug::JournalSegmentRecycledEarly) {
                self.released(number + 1);
            }
        }
    }

    /// Takes note that a durable batch counts from the segment `oldest` on.
    pub(super) fn released(&mut self, oldest: u64) {
        self.released = self.released.max(oldest);
    }

    /// Takes the files of void segments back.
    fn reclaim<O: From<Ticket>>(&mut self, disk: &mut DiskQueue<O>) {
        while let Some(segment) = self.segments.release(self.released) {
            let reusable = !segment.poisoned && !self.leaving.leaves(segment.number);
            self.let_go(Spare { file: segment.file, path: segment.path, size: segment.size }, reusable, disk);
        }
    }
}
