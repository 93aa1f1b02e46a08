//! The shard journal: the unit of durability for streams, consumers and Raft logs.
//!
//! Entries of all owners go to one append-only log of preallocated segments. One write with sync commits everything
//! that came while the last was under way. A segment is used again when every owner has what is in it elsewhere, is
//! deleted, or has so little there that it was copied to the head.
//!
//! ```text
//! segment.rs   a segment file's name and header          commit.rs    append, write, commit, and what a failure means
//! batch.rs     batches and entries as bytes              prepare.rs   the next segment, ready before it is needed
//! live.rs      what each segment keeps, and for whom     recycle.rs   whom to ask, what to copy, when to let go
//! scan.rs      reads a segment, and what is left of a    recovery.rs  the way from a folder to the next position
//!              damaged one                               leave.rs     leaves all segments, as some are in plain text
//! ```
//!
//! # Invariants
//!
//! - What was reported by [`Event::Committed`] is recovered after any crash, until its owner has covered it or is
//!   forgotten. (With [`Config::sync_interval`]: after the next sync.)
//! - What is recovered without having been reported has no gaps before it: entries survive as a prefix.
//! - A position is given to one entry, ever. Recovery goes on 2^32 behind the last that it has seen.
//! - A failed write or sync ends the use of its file: what isn't known to be synced is written again, to another, before it is
//!   reported. Recovery does the same with what stands behind the last mark: what is read may be in memory only.
//! - No batch is ever written over a torn one: recovery starts a segment of its own, whose header says where the last ends.
//! - Damage is reported, and costs what is damaged alone.
//! - A file of which its header says that it is sealed has nothing else in it, behind its end neither.
//! - Work per call is bounded by [`WINDOW`] or the largest batch, memory by the limits of [`Config`] and 40 bytes for
//!   each entry that was copied forward and is still live, in recovery.

mod batch;
mod chain;
mod commit;
mod leave;
mod live;
mod prepare;
mod recovery;
mod recycle;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use bytes::Bytes;

use super::{OwnerId, Position};
use crate::disk::{DiskError, DiskQueue, FilePath, Reply};
use crate::rng::Rng;
use crate::time::{Duration, Instant};

use batch::{Batch, Filling, KIND_FORGET, Seed};
use live::Segments;
use prepare::{Outcome, Preparer, Spare, Step};
use recovery::Recovery;
use recycle::Copier;

/// How much is read at once, in bytes.
pub const WINDOW: usize = 512 * 1024;

/// What a journal is made with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where its segments are.
    pub directory: FilePath,
    /// How long a segment gets, in bytes; at least 4096.
    pub segment_size: u32,
    /// How long the first is that is made after a start, in bytes. Those that are filled soon make the next twice as long, so that
    /// little time goes into beginning them; those that take long make it half as long again, so that a journal takes the
    /// space that it needs, and is read from a disk as fast.
    pub first_segment: u32,
    /// How long the body of a batch gets, in bytes, unless one entry is longer.
    pub max_batch: usize,
    /// How much may wait to be written, in bytes, before appends are refused.
    pub max_waiting: usize,
    /// How many writes may be under way at once.
    pub writes_in_flight: usize,
    /// Commits when written, and syncs this often (and every [`Config::max_unsynced`] bytes); `None` syncs each write.
    pub sync_interval: Option<Duration>,
    /// With `sync_interval`: how much may be unsynced, in bytes. It is kept in memory, to be written again if a sync fails.
    pub max_unsynced: usize,
    /// How long after a batch is durable, with nothing written behind it, one is written that says so: without it damage to the
    /// newest batch is taken for a torn tail. `None` leaves that to whatever is written next.
    pub vouch_after: Option<Duration>,
    /// How many segments there are before any is recycled.
    pub min_segments: usize,
    /// How many segments there are before owners of little are asked to cover what would otherwise be copied.
    pub max_segments: usize,
    /// An owner with less than this in the oldest segment has it copied, in bytes.
    pub copy_below: u64,
    /// With what everything in it is to be sealed by those who append; `None` if it needn't be. Where a file that an earlier life has
    /// left doesn't say so of itself, nothing of what is there is to stay: the journal leaves all files, and [`Journal::has_left`]
    /// says when.
    pub seal: Option<Seal>,
}

/// How the entries of a journal are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seal {
    /// The epoch of the key, which is not zero.
    pub epoch: u32,
    /// Those of older keys that are open: what they sealed is to be sealed anew.
    pub older: Vec<u32>,
}

impl Config {
    /// Returns the settings for a shard whose journal is in `directory`.
    pub fn new(directory: FilePath) -> Self {
        Config {
            directory,
            segment_size: 64 << 20,
            first_segment: 256 << 10,
            max_batch: 1 << 20,
            max_waiting: 64 << 20,
            writes_in_flight: 1,
            sync_interval: None,
            max_unsynced: 8 << 20,
            vouch_after: None,
            min_segments: 2,
            max_segments: 8,
            copy_below: 32 << 10,
            seal: None,
        }
    }
}

impl Config {
    /// Returns the longest body that fits in a segment, in bytes.
    fn room(&self) -> usize {
        (self.segment_size - segment::START) as usize - 64
    }

    fn first_segment(&self) -> u32 {
        self.first_segment.min(self.segment_size)
    }
}

/// What the journal tells. Drain [`Journal::poll_event`] after each call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Recovery found an entry. Those of one owner come in the order of their positions, each once.
    Recovered {
        /// Whose it is.
        owner: OwnerId,
        /// Its position.
        position: Position,
        /// Its kind.
        kind: u8,
        /// Its payload.
        payload: Bytes,
    },
    /// Recovery found that this owner was forgotten; nothing of it is recovered.
    Forgotten {
        /// Who.
        owner: OwnerId,
    },
    /// Something that was durable can't be read any more.
    Damaged(Damage),
    /// The end of the newest segment was being written when the process ended; nothing of it was ever reported.
    TornTail {
        /// The number of the segment.
        segment: u64,
        /// Where the bad batch starts.
        offset: u32,
    },
    /// Recovery is done, entries are taken.
    Ready {
        /// The position of the next entry.
        next_position: Position,
    },
    /// All entries up to this position are durable (with `sync_interval`: written).
    Committed {
        /// The last of them.
        through: Position,
    },
    /// A segment is to be recycled and the owner has much in it: it is to make its own files durable and then say
    /// [`Journal::covered`].
    PleaseCover {
        /// Who.
        owner: OwnerId,
        /// At least through here.
        through: Position,
    },
    /// A write or sync of this segment failed; what isn't known to be durable goes to another.
    SegmentLeft {
        /// The number of the segment.
        segment: u64,
        /// What the disk said.
        error: DiskError,
    },
    /// There is no space. Entries wait, then are refused.
    Full,
    /// There is space again.
    SpaceBack,
    /// The disk is not to be relied on; the journal takes and commits nothing more.
    Failed(JournalError),
}

/// What is known of a place in the journal that can't be read any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The number of the segment.
    pub segment: u64,
    /// Where the bad bytes start.
    pub offset: u32,
    /// How many there are.
    pub length: u32,
    /// Whose entry it was, if that is known.
    pub owner: Option<OwnerId>,
    /// The first and last position that may be lost, if any may.
    pub positions: Option<(Position, Position)>,
    /// Entries that were copied forward may be lost, with any position below this one, which is known as soon as something
    /// readable stands behind. What an owner wrote later shows by itself what it had.
    pub copies: Option<Position>,
}

impl Damage {
    /// The bound of copies where nothing readable stands behind.
    const UNBOUNDED: Position = Position(u64::MAX);

    /// Returns whether entries of `owner` behind `position` may be lost here.
    pub fn may_concern(&self, owner: OwnerId, position: Position) -> bool {
        let whose = self.owner.is_none_or(|other| other == owner);
        let original = self.positions.is_some_and(|(_, last)| last > position);
        whose && (original || self.copies.is_some_and(|below| below.0 - 1 > position.0))
    }
}

/// Why a journal can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// The disk failed in a way that a fresh file doesn't help against.
    #[error("journal: {0}")]
    Disk(#[from] DiskError),
    /// A segment belongs to another journal: the folder isn't what it was. Nothing was written.
    #[error("journal: {path} belongs to another journal; restore the folder or move the file away")]
    Foreign {
        /// The file.
        path: String,
    },
    /// No file has a header that says what it is, and yet this one was written to. Nothing was written.
    #[error(
        "journal: {path} was written to and has lost its header; restore the folder or move the file away"
    )]
    Headless {
        /// The file.
        path: String,
    },
}

/// Why an entry isn't taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Recovery isn't done.
    #[error("journal: not ready")]
    NotReady,
    /// Too much waits to be written.
    #[error("journal: too much waits to be written")]
    Busy,
    /// No space is left on the disk.
    #[error("journal: no space left on the disk")]
    Full,
    /// The entry is longer than a segment.
    #[error("journal: entry too large")]
    TooLarge,
    /// The journal has failed.
    #[error("journal: failed")]
    Failed,
}

/// What a disk request of the journal was for; comes back to [`Journal::handle_disk`] with the completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket(Purpose);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Prepare(Step),
    Write(u64),
    Header,
    Sync,
    Recover,
    Copy,
    /// A file is removed in which there may be what is left.
    Remove,
    /// That such files are gone is made durable.
    Gone,
    Ignored,
}

impl Ticket {
    fn prepare(step: Step) -> Self {
        Ticket(Purpose::Prepare(step))
    }

    /// For requests that tidy up: whether they work makes no difference.
    fn ignored() -> Self {
        Ticket(Purpose::Ignored)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Recovering,
    Running,
    Failed,
}

/// The journal of a shard.
#[derive(Debug)]
pub struct Journal {
    config: Config,
    identity: u64,
    seed: Seed,
    phase: Phase,
    /// There while it goes on.
    recovery: Option<Box<Recovery>>,
    filling: Filling,
    writer: commit::Writer,
    preparer: Preparer,
    spares: Vec<Spare>,
    segments: Segments,
    copier: Option<Copier>,
    /// The oldest segment that counts, as a durable batch says.
    released: u64,
    leaving: leave::Leaving,
    events: VecDeque<Event>,
    full: bool,
}

impl Journal {
    /// Opens the journal in `config.directory`, or makes one there; `rng` draws the identity of a new one.
    pub fn open<O: From<Ticket>>(config: Config, mut rng: Rng, disk: &mut DiskQueue<O>) -> Self {
        assert!(config.first_segment().min(config.segment_size) >= 4096, "limits that leave room to work");
        assert!(config.writes_in_flight > 0, "something is to be written");
        let identity = rng.next_u64();
        let preparer = Preparer::new(config.directory.clone(), config.first_segment(), 1);
        let recovery = Recovery::start(&config, disk);
        Journal {
            config,
            identity,
            seed: Seed::new(identity),
            phase: Phase::Recovering,
            recovery: Some(Box::new(recovery)),
            filling: Filling::default(),
            writer: commit::Writer::default(),
            preparer,
            spares: Vec::new(),
            segments: Segments::default(),
            copier: None,
            released: 0,
            leaving: leave::Leaving::default(),
            events: VecDeque::new(),
            full: false,
        }
    }

    /// Takes an entry and returns its position. It is written by the next [`Journal::advance`] that finds room.
    ///
    /// Pieces of 4 KiB and more are shared rather than copied.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then.
    pub fn append(&mut self, owner: OwnerId, kind: u8, payload: &[Bytes]) -> Result<Position, Refused> {
        debug_assert!(kind < KIND_FORGET, "kinds from 0xf0 on are the journal's own");
        self.append_entry(owner, kind, payload)
    }

    /// Deletes an owner: once the returned position is committed, nothing of it is recovered.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then.
    pub fn forget(&mut self, owner: OwnerId) -> Result<Position, Refused> {
        let position = self.append_entry(owner, KIND_FORGET, &[])?;
        self.segments.forgetting(owner);
        Ok(position)
    }

    /// Takes note that an owner's own files have everything through `through`, durably.
    ///
    /// Said before [`Event::Ready`], it spares the owner the entries that it has.
    pub fn covered(&mut self, owner: OwnerId, through: Position) {
        self.segments.cover(owner, through);
        if let Some(recovery) = &mut self.recovery {
            recovery.seen(through);
        }
    }

    /// Takes what became of a request.
    pub fn handle_disk<O: From<Ticket>>(
        &mut self,
        now: Instant,
        ticket: Ticket,
        result: Result<Reply, DiskError>,
        disk: &mut DiskQueue<O>,
    ) {
        match ticket.0 {
            Purpose::Ignored => {}
            Purpose::Prepare(step) => match self.preparer.handle_disk(now, step, result, disk) {
                Outcome::None => self.space_is_back(),
                Outcome::Full => self.out_of_space(),
                Outcome::Failed(error) => self.fail(error.into()),
            },
            Purpose::Write(id) => self.written(now, id, result, disk),
            Purpose::Header => self.started(now, result),
            Purpose::Sync => self.synced(now, result),
            Purpose::Recover => {
                if let Some(recovery) = &mut self.recovery {
                    recovery.completed(result);
                }
            }
            Purpose::Remove => self.was_removed(&result),
            Purpose::Gone => self.are_gone(&result),
            Purpose::Copy => {
                if let Some(copier) = &mut self.copier {
                    copier.completed(result);
                }
            }
        }
        self.advance(now, disk);
    }

    /// Does what can be done: goes on with recovery, writes what waits, recycles. To be called after appending, when
    /// events were drained, and at [`Journal::poll_timeout`].
    pub fn advance<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) {
        match self.phase {
            Phase::Recovering => {
                self.preparer.handle_timeout(now, disk);
                self.recover(now, disk);
            }
            Phase::Running => {
                self.recycle(disk);
                self.write(now, disk);
            }
            Phase::Failed => {}
        }
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Returns when [`Journal::advance`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Failed {
            return None;
        }
        let running = self.phase == Phase::Running;
        [self.preparer.poll_timeout(), self.writer.poll_timeout(running)].into_iter().flatten().min()
    }

    /// Returns the position that the next entry gets, if it is taken.
    pub fn next_position(&self) -> Position {
        self.filling.next()
    }

    /// Returns how many segments there are, for monitoring.
    pub fn segments(&self) -> usize {
        self.segments.chain().len()
    }

    /// Returns whether entries are taken.
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running
    }

    fn out_of_space(&mut self) {
        if !self.full {
            self.full = true;
            self.events.push_back(Event::Full);
        }
    }

    fn space_is_back(&mut self) {
        if self.full && !self.preparer.is_full() {
            self.full = false;
            self.events.push_back(Event::SpaceBack);
        }
    }

    fn fail(&mut self, error: JournalError) {
        if self.phase != Phase::Failed {
            self.phase = Phase::Failed;
            self.events.push_back(Event::Failed(error));
        }
    }

    /// Closes the files of segments that are void, or keeps one for the next segment.
    fn let_go<O: From<Ticket>>(&mut self, spare: Spare, reusable: bool, disk: &mut DiskQueue<O>) {
        // A longer one would never get shorter again.
        let reusable = reusable && spare.size <= self.preparer.size();
        if reusable && self.spares.is_empty() {
            self.spares.push(spare);
            return;
        }
        disk.submit(Ticket::ignored().into(), crate::disk::Request::Close { file: spare.file });
        let ticket = self.leaving.removes();
        disk.submit(ticket.into(), crate::disk::Request::Remove { path: spare.path });
    }

    /// Keeps one segment prepared.
    fn prepare<O: From<Ticket>>(&mut self, now: Instant, disk: &mut DiskQueue<O>) {
        self.preparer.handle_timeout(now, disk);
        if self.preparer.is_idle() {
            self.preparer.start(self.spares.pop(), disk);
        }
    }

    /// Puts a batch in the queue as it was read.
    fn enqueue(&mut self, batch: Batch) {
        self.writer.enqueue(batch);
    }
}
