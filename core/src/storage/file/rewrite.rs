//! Bytes that are to go: erasing a message in place, and writing a block anew without what was removed from it.
//!
//! One job at a time, each once what it relies on is durable: a message is taken out of its block only when the entries
//! before have been covered, so that they are never applied again to a block that lacks it. Writing anew replaces the file
//! atomically under the same number; a block with damage is left as it is, as its bytes are all that there is to restore from.
//!
//! Writing anew is also how a block gets another key, or its first. Its index file goes before: it is a cache, and would stand
//! there with what the old key opens, should the power be cut between the two.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::block::frame::Codec;
use super::super::block::index::{Index, Stamp, split_place};
use super::super::block::mark::NO_TIME;
use super::super::block::record::erase;
use super::super::block::walk::{At, Damage, Visitor, walk};
use super::super::block::{Context, Header, Place, Record, RecordError};
use super::super::ledger::Location;
use super::super::{Position, Ranges};
use super::api::{Event, StoreDisk};
use super::blocks::{BlockFiles, Work, block_path, index_path};
use super::durable::Point;
use super::tail::{Tail, codec};
use crate::disk::{DiskError, DiskErrorKind, FileId, OpenMode, Reply, Request};
use crate::planted::{self, Bug};
use crate::rng::Rng;

/// What is to be done.
#[derive(Clone, Debug)]
enum What {
    /// Overwrite a message.
    Erase(Location),
    /// Leave these sequences out. `erases`: one of them is to be erased, and may be damaged.
    Rewrite { block: u32, without: Ranges, erases: bool },
}

#[derive(Clone, Debug)]
struct Job {
    what: What,
    /// What has to be durable before.
    after: Point,
    /// How often the block made no sense.
    tries: u32,
}

/// How often a block is read that is to get another key before what makes no sense in it is taken for what it has.
const TRIES: u32 = 4;

impl Job {
    fn block(&self) -> u32 {
        match &self.what {
            What::Erase(location) => location.block,
            What::Rewrite { block, .. } => *block,
        }
    }
}

/// How far the first job is.
#[derive(Debug, Default)]
enum Step {
    #[default]
    Idle,
    /// The file to erase in.
    Opening(FileId),
    Reading(FileId),
    Erasing(FileId),
    /// The block to be written anew.
    Loading,
    /// Its index file, which is sealed with another key, goes before it does.
    Uncovering(Bytes, Box<Replacement>),
    Replacing(Box<Replacement>),
}

#[derive(Debug)]
struct Replacement {
    index: Index,
    len: u32,
    stamp: Stamp,
    epoch: u64,
}

/// The jobs.
#[derive(Debug, Default)]
pub(super) struct Rewrites {
    jobs: VecDeque<Job>,
    step: Step,
}

impl Rewrites {
    /// Returns the block that is being changed.
    pub(super) fn under_way(&self) -> Option<u32> {
        let idle = matches!(self.step, Step::Idle);
        self.jobs.front().filter(|_| !idle).map(Job::block)
    }

    /// Returns the block whose file is being replaced: it may be either at this moment.
    pub(super) fn replacing(&self) -> Option<u32> {
        let replacing = matches!(self.step, Step::Replacing(_));
        self.jobs.front().filter(|_| replacing).map(Job::block)
    }
}

impl BlockFiles {
    /// Overwrites a message, on disk too. What is in a frame is erased by writing its block anew. Everything that was applied
    /// before is made durable first; [`BlockFiles::is_rewriting`] says when it is done.
    pub fn erase(&mut self, location: &Location, disk: &mut impl StoreDisk) {
        // It has to be in its file first, and all of the block with it.
        if location.block == self.head() {
            self.close_head();
        }
        let what = if split_place(location.offset).1 {
            let mut without = Ranges::default();
            without.insert(location.sequence, location.sequence);
            What::Rewrite { block: location.block, without, erases: false }
        } else {
            What::Erase(*location)
        };
        self.reads.forget(location.block);
        self.push_job(what, disk);
    }

    /// Writes a block that is durable anew, without these sequences and with the newest key; [`Event::Rewritten`] says when.
    /// Everything that was applied before is made durable first.
    pub fn rewrite(&mut self, block: u32, without: Ranges, disk: &mut impl StoreDisk) {
        self.push_job(What::Rewrite { block, without, erases: false }, disk);
    }

    fn push_job(&mut self, what: What, disk: &mut impl StoreDisk) {
        let after = self.want_all();
        self.rewrites.jobs.push_back(Job { what, after, tries: 0 });
        self.go_on(disk);
        self.rewrite_next(disk);
    }

    /// Returns whether anything is to be erased or written anew.
    pub fn is_rewriting(&self) -> bool {
        !self.rewrites.jobs.is_empty()
    }

    /// Returns the blocks that are sealed with another key than the newest, or not at all where they should be.
    pub fn old_keys(&self) -> impl Iterator<Item = u32> + '_ {
        let epoch = self.keys.epoch();
        let closed = self.closed.values().map(|closed| (closed.known.number, closed.known.epoch));
        // The newest block of before the key, too: it was closed for it.
        let tails = self.tails.iter().map(|tail| (tail.place.block(), tail.epoch));
        closed.chain(tails).filter(move |(_, sealed)| *sealed != epoch).map(|(number, _)| number)
    }

    /// Returns how often blocks were written anew, of those that are there.
    #[cfg(test)]
    pub(super) fn rewritten(&self) -> u32 {
        self.closed.values().map(|closed| closed.known.rewrites).sum()
    }

    /// Begins the next job, if none is under way and its block is durable.
    pub(super) fn rewrite_next(&mut self, disk: &mut impl StoreDisk) {
        while let Step::Idle = self.rewrites.step
            && !self.failed
            && let Some(job) = self.rewrites.jobs.front()
            && (job.after <= self.recorded || planted::bug(Bug::StoreRewriteBeforeRecord))
        {
            let block = job.block();
            let path = block_path(&self.config.directory, block);
            let early = planted::bug(Bug::StoreEraseBeforeIndex);
            match (&job.what, self.closed.get(&block)) {
                (_, None) if self.tails.iter().any(|tail| tail.place.block() == block) => break,
                // All of it was dropped meanwhile.
                (_, None) => self.job_done(),
                // A power cut may leave half of it. Who starts then looks at the index file, and not at the block, which would be
                // damage; the entry comes again.
                (What::Erase(_), Some(_)) if self.writes_index(block) && !early => break,
                (What::Erase(_), Some(_)) => {
                    let file = disk.file();
                    self.rewrites.step = Step::Opening(file);
                    let mode = OpenMode::ReadWrite;
                    self.submit(Work::Rewrite, Request::Open { file, path, mode }, disk);
                }
                (What::Rewrite { .. }, Some(closed)) => {
                    self.rewrites.step = Step::Loading;
                    let limit = closed.known.len as usize;
                    self.submit(Work::Rewrite, Request::ReadFile { path, limit }, disk);
                }
            }
        }
    }

    pub(super) fn rewrite_step(&mut self, result: Result<Reply, DiskError>, disk: &mut impl StoreDisk) {
        let Some(job) = self.rewrites.jobs.front().cloned() else { return };
        let step = std::mem::take(&mut self.rewrites.step);
        let reply = match result {
            Ok(reply) => reply,
            // It can't be read: there is nothing to erase, and nothing to gain.
            Err(_) if matches!(step, Step::Reading(_) | Step::Opening(_)) => {
                if let Step::Reading(file) = step {
                    self.submit(Work::Ignored, Request::Close { file }, disk);
                }
                return self.job_ends(disk);
            }
            Err(_) if matches!(step, Step::Loading) => return self.not_written_anew(disk),
            // There is none.
            Err(error) if matches!(step, Step::Uncovering(..)) && error.kind == DiskErrorKind::NotFound => {
                Reply::Done
            }
            Err(_) if matches!(step, Step::Uncovering(..)) => return self.not_written_anew(disk),
            Err(error) => return self.fail(error.into()),
        };
        match (step, &job.what) {
            (Step::Opening(file), What::Erase(location)) => {
                self.rewrites.step = Step::Reading(file);
                let offset = u64::from(split_place(location.offset).0);
                let len = location.size as usize + 64;
                self.submit(Work::Rewrite, Request::Read { file, offset, len }, disk);
            }
            (Step::Reading(file), What::Erase(location)) => {
                let bytes = if let Reply::Read(bytes) = reply { bytes } else { Bytes::new() };
                let (offset, _) = split_place(location.offset);
                let place = Place::new(self.config.owner, location.block);
                let time = location.time.as_unix_nanos();
                match erase(&bytes, &place, offset, location.sequence, time) {
                    Ok(erased) => {
                        self.rewrites.step = Step::Erasing(file);
                        let data = vec![Bytes::from(erased)];
                        let request = Request::Write { file, offset: u64::from(offset), data, sync: true };
                        self.submit(Work::Rewrite, request, disk);
                    }
                    // Before a power cut.
                    Err(RecordError::Erased) => {
                        self.submit(Work::Ignored, Request::Close { file }, disk);
                        self.job_ends(disk);
                    }
                    // By half, before a power cut, or it is damaged. Left as it is, it would be told as damage for ever.
                    Err(_) => {
                        self.submit(Work::Ignored, Request::Close { file }, disk);
                        self.rewrite_instead(*location, disk);
                    }
                }
            }
            (Step::Erasing(file), What::Erase(location)) => {
                self.submit(Work::Ignored, Request::Close { file }, disk);
                self.reads.forget(location.block);
                self.job_ends(disk);
            }
            (Step::Loading, What::Rewrite { block, without, erases }) => {
                let bytes = if let Reply::Read(bytes) = reply { bytes } else { Bytes::new() };
                match self.written_anew(*block, &bytes, (without, *erases)) {
                    Some((bytes, replacement)) if self.has_old_key(*block) => {
                        self.rewrites.step = Step::Uncovering(bytes, Box::new(replacement));
                        let path = index_path(&self.config.directory, *block);
                        self.submit(Work::Rewrite, Request::Remove { path }, disk);
                    }
                    Some((bytes, replacement)) => {
                        if let Some(closed) = self.closed.get_mut(block)
                            && planted::bug(Bug::StoreRewriteRecordedEarly)
                        {
                            closed.known.len = replacement.len;
                            closed.known.rewrites += 1;
                            closed.known.epoch = replacement.epoch;
                        }
                        self.replace(*block, bytes, Box::new(replacement), disk);
                    }
                    None => self.not_written_anew(disk),
                }
            }
            (Step::Uncovering(bytes, replacement), What::Rewrite { block, .. }) => {
                self.replace(*block, bytes, replacement, disk);
            }
            (Step::Replacing(replacement), What::Rewrite { block, .. }) => {
                self.replaced(*block, *replacement, disk);
                self.job_ends(disk);
            }
            _ => {}
        }
    }

    /// Has a message erased by writing its block anew without it.
    fn rewrite_instead(&mut self, location: Location, disk: &mut impl StoreDisk) {
        let mut without = Ranges::default();
        without.insert(location.sequence, location.sequence);
        if let Some(job) = self.rewrites.jobs.front_mut() {
            job.what = What::Rewrite { block: location.block, without, erases: true };
        }
        self.reads.forget(location.block);
        self.rewrite_next(disk);
    }

    fn replace(
        &mut self,
        block: u32,
        bytes: Bytes,
        replacement: Box<Replacement>,
        disk: &mut impl StoreDisk,
    ) {
        self.rewrites.step = Step::Replacing(replacement);
        let path = block_path(&self.config.directory, block);
        self.submit(Work::Rewrite, Request::Replace { path, data: vec![bytes] }, disk);
    }

    fn has_old_key(&self, block: u32) -> bool {
        self.closed.get(&block).is_some_and(|closed| closed.known.epoch != self.keys.epoch())
    }

    /// A block can't be written anew. If it was to get another key it is tried again: a read may go wrong once.
    fn not_written_anew(&mut self, disk: &mut impl StoreDisk) {
        let again = self.rewrites.jobs.front().is_some_and(|job| self.has_old_key(job.block()));
        if let Some(job) = self.rewrites.jobs.front_mut().filter(|job| again && job.tries + 1 < TRIES) {
            job.tries += 1;
            self.rewrites.step = Step::Idle;
            return self.rewrite_next(disk);
        }
        self.job_ends(disk);
    }

    fn replaced(&mut self, block: u32, replacement: Replacement, disk: &mut impl StoreDisk) {
        let Some(closed) = self.closed.get_mut(&block) else { return };
        let Replacement { index, len, stamp, epoch } = replacement;
        if !planted::bug(Bug::StoreRewriteRecordedEarly) {
            closed.known.rewrites += 1;
        }
        let before = std::mem::replace(&mut closed.known.epoch, epoch);
        closed.known.len = len;
        closed.stamp = stamp;
        let open = closed.file.take();
        let place = Place::new(self.config.owner, block);
        let file = index.encode(&place, &self.keys, &mut self.rng);
        self.write_index(block, file, disk);
        self.has_moved(block, open, disk);
        self.events.push_back(Event::Rewritten { number: block, index: Box::new(index) });
        if before != epoch && self.old_keys().next().is_none() {
            // The next start has no block to read whole for it.
            self.want_record();
        }
    }

    fn job_done(&mut self) {
        self.rewrites.jobs.pop_front();
        self.rewrites.step = Step::Idle;
    }

    fn job_ends(&mut self, disk: &mut impl StoreDisk) {
        let waits = self.rewrites.jobs.front().is_some_and(|job| self.dropping.contains_key(&job.block()));
        self.job_done();
        if waits {
            // The manifest that was written meanwhile still has it.
            self.want_record();
        }
        self.rewrite_next(disk);
        self.go_on(disk);
    }

    /// Returns the bytes of a block without these sequences; `None` if it is damaged.
    fn written_anew(
        &mut self,
        block: u32,
        bytes: &[u8],
        (without, erases): (&Ranges, bool),
    ) -> Option<(Bytes, Replacement)> {
        let closed = self.closed.get(&block)?;
        let (known, place) = (closed.known, Place::new(self.config.owner, block));
        if bytes.len() != known.len as usize {
            return None;
        }
        let hint = Context { next_sequence: known.first, base_time: 0 };
        let before = Header::decode(bytes, self.config.owner, block).ok()?;
        let header = Header {
            owner: self.config.owner,
            block,
            cipher: self.keys.cipher(),
            compression: self.config.compression,
            first_sequence: known.first,
            base_time: before.base_time,
            key_epoch: self.keys.epoch(),
            rewrites: known.rewrites + 1,
            previous: before.previous,
        };
        let codec = codec(&self.keys, self.config.compression);
        let mut copy = Copy {
            tail: Tail::create(&header, NO_TIME),
            codec,
            rng: &mut self.rng,
            without,
            end: known.end,
            deleted: Ranges::default(),
            result: Ok(()),
        };
        let walked = walk(bytes, place, hint, known.len, &self.keys, &mut copy).ok()?;
        let Copy { mut tail, deleted, result, .. } = copy;
        // What was given up as damaged is left out too, and its bytes are to stay.
        let left_out = |damage: &Damage| {
            erases && damage.sequences.is_some_and(|(first, last)| first == last && without.contains(first))
        };
        if !walked.damage.iter().all(left_out) || result.is_err() {
            return None;
        }
        // What was said to be gone is said again, and where the block ended.
        deleted.iter().for_each(|(first, last)| tail.deleted(first, last));
        let next = walked.context.next_sequence;
        if let Some(count) = next.checked_sub(tail.next_sequence()).filter(|count| *count > 0) {
            tail.skipped(tail.next_sequence(), count, codec, &mut self.rng);
        }
        tail.stream_time = walked.mark.map_or(NO_TIME, |mark| mark.last_time);
        // Floors count in the newest block only, which this isn't.
        let (_, mut pieces) = tail.take(walked.applied, 0, codec, &mut self.rng, Vec::new());
        let bytes = pieces.pop().expect("it was never put in pieces, so there is one");
        debug_assert!(pieces.is_empty(), "all of it is one piece");
        let stamp = Stamp::of(&bytes);
        let len = bytes.len() as u32;
        let index = tail.builder.finish(stamp, known.first, next, walked.applied);
        Some((bytes, Replacement { index, len, stamp, epoch: self.keys.epoch() }))
    }
}

/// Copies a block, message by message.
struct Copy<'a> {
    tail: Tail,
    codec: Codec<'a>,
    rng: &'a mut Rng,
    without: &'a Ranges,
    end: u64,
    deleted: Ranges,
    result: Result<(), RecordError>,
}

impl Visitor for Copy<'_> {
    fn message(&mut self, _: At, record: &Record<'_>) {
        if record.sequence < self.end && !self.without.contains(record.sequence) {
            let appended = self.tail.append(record, self.codec, self.rng);
            self.result = self.result.and(appended.map(|_| ()));
            // Marks in between: what a search for the next record can cost is bounded by them.
            self.tail.end_entry(Position::default(), 0, self.codec, self.rng);
        }
    }

    fn deleted(&mut self, first: u64, last: u64) {
        self.deleted.insert(first, last);
    }

    fn skipped(&mut self, _: u64, _: u64) {}
}
