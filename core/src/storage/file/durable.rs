//! From memory to bytes that survive a power cut: write, sync, name, record in the manifest.
//!
//! Only the oldest tail is written, and it becomes durable as a whole, with its name and in the manifest, before a byte of the
//! next is: so only the newest block can have a torn tail. Of each tail there is one write under way at a time: what comes
//! meanwhile makes the next one larger.

use bytes::Bytes;

use super::super::Position;
use super::super::block::index::Stamp;
use super::api::{Event, StoreDisk};
use super::blocks::{BlockFiles, Closed, Work, block_path, index_path, manifest_path};
use super::manifest::{Known, Manifest, Settings};
use super::tail::codec;
use crate::disk::{OpenMode, Reply, Request};
use crate::planted::{self, Bug};

/// How many bytes wait in memory before they are written without anybody asking for it, at least and at most. The journal
/// has them all.
const WRITE_AT: (usize, usize) = (16 << 10, 128 << 10);
/// What comes within so many nanoseconds is worth a longer write, and what takes so many a shorter one.
const BUSY: i64 = 20_000_000;
const IDLE: i64 = 1_000_000_000;

/// How much is written at once: a write costs as much as hundreds of messages, and thousands of streams with little to do
/// are not to have much in memory.
#[derive(Debug)]
pub(super) struct Pace {
    write_at: usize,
    /// When the newest message was stored that was handed over.
    since: i64,
}

impl Default for Pace {
    fn default() -> Self {
        Pace { write_at: WRITE_AT.0, since: 0 }
    }
}

impl Pace {
    /// Notes that so much is handed over, through a message that was stored `now`.
    fn wrote(&mut self, waiting: usize, now: i64) {
        let took = now.saturating_sub(std::mem::replace(&mut self.since, now));
        if took > IDLE {
            self.write_at = (self.write_at / 2).max(WRITE_AT.0);
        } else if took < BUSY && waiting >= self.write_at {
            self.write_at = (self.write_at * 2).min(WRITE_AT.1);
        }
    }
}

/// How far the oldest tail is on its way to being durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Idle,
    /// Its first bytes, through what a mark in them says.
    Syncing(Target),
    /// Its file's name.
    Naming(Target),
    /// Of all that the manifest knows.
    Recording(Target),
    /// It couldn't be synced, and is written to another file.
    Mending,
}

/// A point in what is written: a block, and how many writes of all blocks there were when it was handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    pub(super) block: u32,
    pub(super) write: u64,
}

/// What will be durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    point: Point,
    position: Position,
    /// The next sequence and the first of the stream at that position.
    sequences: (u64, u64),
    /// When the stream's newest message was stored, at that position.
    time: i64,
    len: u32,
}

impl BlockFiles {
    /// Does what is to be done next for the oldest tail, if its disk isn't busy with that.
    pub(super) fn go_on(&mut self, disk: &mut impl StoreDisk) {
        if self.failed {
            return;
        }
        if self.stage == Stage::Mending {
            return self.mend_on(disk);
        }
        let is_head = self.tails.len() == 1;
        let wanted = self.wanted > self.recorded;
        let Some(front) = self.tails.front_mut() else { return };
        let due = front.closed.is_some() || wanted;
        let behind = front.closed.unwrap_or(self.applied) > front.marked;
        let all_written = match front.closed {
            Some(_) => !front.is_fresh() && !behind,
            None => wanted && front.point() >= self.wanted,
        };
        let worth_it = due && (front.is_fresh() || behind) || front.waiting() >= self.pace.write_at;
        if front.writing.is_none() && self.stage == Stage::Idle && all_written {
            let target = Target {
                point: front.point(),
                position: front.marked,
                sequences: front.marked_sequences,
                time: front.marked_time,
                len: front.start,
            };
            let file = front.file.expect("what is marked was written");
            let skipped = front.closed.is_some() && planted::bug(Bug::StoreSyncSkipsClosed);
            if skipped || planted::bug(Bug::CoveredBeforeSync) {
                front.synced = target.len;
                self.stage = Stage::Recording(target);
                return self.durable(target, disk);
            }
            self.stage = Stage::Syncing(target);
            self.submit(Work::Sync, Request::Sync { file }, disk);
        } else if front.writing.is_none()
            && worth_it
            && !(is_head && self.held && !planted::bug(Bug::StoreMarkInsideEntry))
        {
            self.write(disk);
        }
    }

    fn write(&mut self, disk: &mut impl StoreDisk) {
        let Some(front) = self.tails.front_mut() else { return };
        if !front.open {
            if front.file.is_none() {
                let file = disk.file();
                front.file = Some(file);
                let path = block_path(&self.config.directory, front.place.block());
                self.submit(Work::OpenTail, Request::Open { file, path, mode: OpenMode::Create }, disk);
            }
            return;
        }
        let Some(file) = front.file else { return };
        let codec = codec(&self.keys, self.config.compression);
        self.writes += 1;
        front.last_write = self.writes;
        self.pace.wrote(front.waiting(), front.last_time());
        let room = self.reads.room(front.next_room());
        let (offset, data) = front.take(self.applied, self.floor, codec, &mut self.rng, room);
        let request = Request::Write { file, offset: u64::from(offset), data, sync: false };
        self.submit(Work::Write, request, disk);
    }

    /// Goes on with the oldest tail.
    pub(super) fn durable_step(&mut self, work: &Work, reply: &Reply, disk: &mut impl StoreDisk) {
        let Some(front) = self.tails.front_mut() else { return };
        match (work, self.stage) {
            (Work::OpenTail, _) => {
                // Numbers aren't used twice, but a file that was removed may be back after a power cut.
                if let (Reply::Opened { len: 1.. }, Some(file)) = (reply, front.file) {
                    return self.submit(Work::OpenTail, Request::Truncate { file, len: 0 }, disk);
                }
                front.open = true;
            }
            (Work::Write, _) => {
                if let Some((mut start, pieces)) = front.writing.take() {
                    for piece in pieces {
                        let len = piece.len() as u32;
                        self.reads.keep(front.place.block(), start, piece);
                        start += len;
                    }
                }
            }
            (Work::Sync, Stage::Syncing(target)) => {
                front.synced = front.synced.max(target.len);
                if front.named || planted::bug(Bug::StoreNameNotSynced) {
                    self.record(target, disk);
                } else {
                    self.stage = Stage::Naming(target);
                    let path = self.config.directory.clone();
                    self.submit(Work::SyncDirectory, Request::SyncDirectory { path }, disk);
                }
            }
            (Work::SyncDirectory, Stage::Naming(target)) => {
                front.named = true;
                self.record(target, disk);
            }
            (Work::Manifest, Stage::Recording(target)) => return self.durable(target, disk),
            _ => {}
        }
        self.go_on(disk);
    }

    /// Writes the manifest that knows of `target`.
    pub(super) fn record(&mut self, target: Target, disk: &mut impl StoreDisk) {
        self.stage = Stage::Recording(target);
        self.generation += 1;
        for (_, next) in self
            .cuts
            .extract_if(.., |(block, _)| *block <= target.point.block || planted::bug(Bug::StoreCutTooEarly))
        {
            for closed in self.closed.values_mut() {
                closed.known.end = closed.known.end.min(next.max(closed.known.first));
            }
        }
        let ripe = self.dropping.iter().filter(|(_, after)| **after <= target.point).map(|(block, _)| *block);
        // One that isn't durable itself yet, or that is being written anew, has its turn later.
        let ready =
            |block: &u32| self.closed.contains_key(block) && self.rewrites.under_way() != Some(*block);
        self.ripe = ripe.filter(ready).collect();
        let closed = self.closed.values().map(|closed| closed.known);
        let mut blocks: Vec<Known> = closed.filter(|known| !self.ripe.contains(&known.number)).collect();
        blocks.extend(self.tails.front().map(|front| front.known(target.len, target.sequences.0)));
        let manifest = Manifest {
            generation: self.generation,
            covered: target.position,
            floor: target.sequences.1,
            next_sequence: target.sequences.0,
            last_time: target.time,
            settings: self.settings.clone(),
            blocks,
        };
        let data = vec![Bytes::from(manifest.encode(self.config.owner))];
        let path = manifest_path(&self.config.directory);
        self.submit(Work::Manifest, Request::Replace { path, data }, disk);
    }

    /// Everything through `target` is durable.
    fn durable(&mut self, target: Target, disk: &mut impl StoreDisk) {
        self.stage = Stage::Idle;
        self.recorded = target.point;
        self.retire_front(disk);
        self.remove_ripe(disk);
        if target.position > self.covered {
            self.covered = target.position;
            self.events.push_back(Event::Covered(self.covered));
        }
        self.rewrite_next(disk);
        self.go_on(disk);
    }

    /// Sets the settings that are in force from the entry at `since` on, which has to wait until they are recorded: see
    /// [`BlockFiles::is_recorded`].
    pub fn set_settings(&mut self, settings: Bytes, since: Position, disk: &mut impl StoreDisk) -> Point {
        let before = std::mem::take(&mut self.settings).now;
        self.settings = Settings { since, now: settings, before };
        let point = self.want_record();
        self.go_on(disk);
        point
    }

    /// Wants the manifest to be written again, and returns the point at which it is.
    pub(super) fn want_record(&mut self) -> Point {
        if let Some(head) = self.tails.back_mut() {
            head.must_mark = true;
        }
        self.want_all()
    }

    /// Returns whether everything through a point is durable and in the manifest.
    pub fn is_recorded(&self, point: Point) -> bool {
        self.recorded >= point
    }

    /// Wants all that was appended and said so far to be durable, and returns the point at which it is.
    pub(super) fn want_all(&mut self) -> Point {
        let Some(head) = self.tails.back() else { return self.wanted };
        let fresh = head.is_fresh() || self.applied > head.marked;
        let write = if fresh { self.writes + 1 } else { head.last_write };
        let point = Point { block: head.place.block(), write };
        self.wanted = self.wanted.max(point);
        point
    }

    /// Moves the oldest tail to the closed blocks, if all of it is durable.
    fn retire_front(&mut self, disk: &mut impl StoreDisk) {
        let done = |front: &super::tail::Tail| {
            front.closed.is_some_and(|closed| front.marked >= closed)
                && !front.is_fresh()
                && front.writing.is_none()
                && front.synced == front.start
        };
        let Some(tail) = self.tails.pop_front_if(|front| done(front)) else { return };
        let number = tail.place.block();
        let stamp = Stamp { len: tail.start, tail: tail.last_four };
        let (place, file, next_sequence) = (tail.place, tail.file, tail.next_sequence());
        let known = tail.known(tail.start, next_sequence);
        let applied = tail.closed.unwrap_or_default();
        let index = tail.builder.finish(stamp, tail.first_sequence, next_sequence, applied);
        let index = index.encode(&place, &self.keys, &mut self.rng);
        self.write_index(number, index, disk);
        self.closed.insert(number, Closed { known, stamp, file });
        self.reads.note_open(number);
        self.close_files(disk);
    }

    /// Removes the files of blocks that the manifest has no more.
    fn remove_ripe(&mut self, disk: &mut impl StoreDisk) {
        for block in std::mem::take(&mut self.ripe) {
            let Some(closed) = self.closed.remove(&block) else { continue };
            self.dropping.remove(&block);
            self.forget_reads(block, closed.file, disk);
            let directory = &self.config.directory;
            for path in [block_path(directory, block), index_path(directory, block)] {
                self.submit(Work::Remove, Request::Remove { path }, disk);
            }
        }
    }
}
