//! Which entries something later on the disk vouches for.
//!
//! A batch says through where everything before it is synced, so a batch that is there makes what is bad before it
//! damage, and not a torn tail. Here this is known from outside: a write that was submitted when everything through
//! some position was durable, and is on the disk as it was written, vouches for these.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use natrix_core::disk::{FileId, FilePath, Request, SECTOR, Submission, Token};
use natrix_core::storage::Position;
use natrix_runtime_sim::disk::SimDisk;

/// A write of a batch.
#[derive(Clone, Debug)]
struct Voucher {
    path: FilePath,
    start: u64,
    through: Position,
    /// How many harms there were before.
    harms: usize,
    /// It is synced, and will be reported for itself.
    synced: bool,
    /// It survives a power cut.
    durable: bool,
}

/// What is under way, and what vouches.
#[derive(Debug, Default)]
pub(super) struct Vouchers {
    paths: BTreeMap<FileId, FilePath>,
    writes: BTreeMap<Token, Voucher>,
    /// Which file, and what was reported when it was submitted, in how many writes.
    syncs: BTreeMap<Token, (FilePath, Position, u64)>,
    /// How many writes are done, those that were dropped included.
    count: u64,
    done: VecDeque<Voucher>,
    /// The next report is of a write that was synced: in every mode, a segment's first is.
    pub synced_write: bool,
}

impl Vouchers {
    const KEPT: usize = 256;

    /// A process ended: what was under way is not heard of any more.
    pub(super) fn restart(&mut self, power_cut: bool) {
        if power_cut {
            self.done.retain(|voucher| voucher.durable);
            self.count = self.done.len() as u64;
        }
        self.synced_write = false;
        self.paths.clear();
        self.writes.clear();
        self.syncs.clear();
    }

    /// Takes note of a request. What recovery writes vouches for nothing: a segment's header ends the one before at its
    /// mark, which vouches already.
    pub(super) fn submitted(
        &mut self,
        submission: &Submission,
        committed: Position,
        durable: Position,
        harms: usize,
    ) {
        match &submission.request {
            Request::Open { file, path, .. } => drop(self.paths.insert(*file, path.clone())),
            Request::Rename { from, to } => {
                for path in self.paths.values_mut().filter(|path| *path == from) {
                    path.clone_from(to);
                }
            }
            Request::Remove { path } => {
                // What stood in it vouches for nothing any more, also where what took its place was lost.
                let removed = self.done.iter_mut().filter(|voucher| voucher.path == *path);
                removed.for_each(|voucher| voucher.through = Position(0));
            }
            Request::Sync { file } => {
                let Some(path) = self.paths.get(file) else { return };
                self.syncs.insert(submission.token, (path.clone(), committed, self.count));
            }
            Request::Write { file, offset, data, sync } => {
                let Some(path) = self.paths.get(file) else { return };
                let (path, through) = (path.clone(), durable);
                let voucher = Voucher {
                    path,
                    start: *offset,
                    through,
                    harms,
                    synced: *sync && has_own_entries(data),
                    durable: *sync,
                };
                self.writes.insert(submission.token, voucher);
            }
            _ => {}
        }
    }

    /// Returns the files that are open.
    pub(super) fn paths(&self) -> impl Iterator<Item = &FilePath> {
        self.paths.values()
    }

    /// Takes note of a completion; returns through where everything is synced now, if that is news.
    pub(super) fn completed(&mut self, token: Token, well: bool) -> Option<Position> {
        if let Some(voucher) = self.writes.remove(&token).filter(|_| well) {
            self.synced_write = voucher.synced;
            self.done.push_back(voucher);
            self.count += 1;
            if self.done.len() > Self::KEPT {
                self.done.pop_front();
            }
        }
        let (path, committed, count) = self.syncs.remove(&token).filter(|_| well)?;
        let dropped = self.count - self.done.len() as u64;
        for voucher in self.done.iter_mut().take(count.saturating_sub(dropped) as usize) {
            voucher.durable |= voucher.path == path;
        }
        Some(committed)
    }

    /// Returns through where something on `disk` vouches.
    ///
    /// A segment's header says where the one before ends, and stands twice; a batch says through where its own segment
    /// is synced. What isn't synced vouches for nothing after a power cut.
    pub(super) fn through(&self, disk: &SimDisk, power_cut: bool) -> Position {
        let done = || self.done.iter().filter(|voucher| voucher.durable || !power_cut);
        let whole = |voucher: &Voucher, start: u64, len: u64| {
            disk.faults()[voucher.harms..].iter().all(|harm| {
                harm.path != voucher.path
                    || harm.offset >= start + len
                    || harm.offset.saturating_add(harm.len) <= start
            })
        };
        let headers = done().filter(|voucher| {
            voucher.start == 0 && (whole(voucher, 0, 68) || whole(voucher, SECTOR as u64, 68))
        });
        let headers: BTreeMap<&FilePath, Position> =
            headers.map(|voucher| (&voucher.path, voucher.through)).collect();
        let batches = done().filter(|voucher| {
            voucher.start > 0 && headers.contains_key(&voucher.path) && whole(voucher, voucher.start, 48)
        });
        let through = batches.map(|voucher| voucher.through).chain(headers.values().copied());
        through.max().unwrap_or_default()
    }
}

/// Returns whether the batch that starts a segment has entries that weren't copied forward; `docs/storage.md` has the format.
fn has_own_entries(data: &[Bytes]) -> bool {
    const OWN_ENTRIES: std::ops::Range<usize> = 1024 + 24..1024 + 28;
    data.first().and_then(|piece| piece.get(OWN_ENTRIES)).is_some_and(|number| number != [0; 4])
}
