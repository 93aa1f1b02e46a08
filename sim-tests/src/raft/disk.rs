//! What one member keeps: a model of its disk, record by record.
//!
//! Records are durable in the order in which they were asked for, some time later. A crash keeps what was durable, and of
//! the rest a part that the seed chooses: the log, the term and vote, and the snapshot are files of their own here, and
//! each keeps some front of what it was being given. (The shard journal keeps one front of all of them; this model is
//! harder.) Damage is what checksums and marks would show when the member starts: it is told, never silent.

use std::collections::VecDeque;

use natrix_core::raft::group::{HardState, Record, Recovered, Snapshot, WriteId};
use natrix_core::raft::log::{LogEntry, Place};
use natrix_core::rng::Rng;

/// How a disk may be damaged while its member is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// The log is unreadable from somewhere on.
    Log,
    /// The snapshot is unreadable.
    Snapshot,
    /// Term and vote are unreadable, both copies.
    Vote,
    /// Nothing is left.
    Wiped,
}

impl Damage {
    /// Says what became of the disk.
    pub(super) fn words(self) -> &'static str {
        match self {
            Damage::Log => "log is unreadable from somewhere on",
            Damage::Snapshot => "snapshot is unreadable",
            Damage::Vote => "term and vote are unreadable",
            Damage::Wiped => "disk is empty",
        }
    }
}

/// One member's disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    state: Option<HardState>,
    base: Place,
    entries: VecDeque<LogEntry>,
    snapshot: Option<Snapshot>,
    waiting: VecDeque<(WriteId, Record)>,
    syncing: Option<WriteId>,
    lost: bool,
    vote_lost: bool,
}

impl Disk {
    /// Takes a record to be made durable; returns the write to be synced, if none is under way.
    pub(super) fn write(&mut self, id: WriteId, record: Record) {
        self.waiting.push_back((id, record));
    }

    /// Begins to sync everything that waits; `None` if nothing does, or a sync is under way.
    pub(super) fn begin_sync(&mut self) -> Option<WriteId> {
        if self.syncing.is_some() {
            return None;
        }
        self.syncing = self.waiting.back().map(|(id, _)| *id);
        self.syncing
    }

    /// The sync is over: what it covered is durable.
    pub(super) fn end_sync(&mut self, id: WriteId) {
        self.syncing = None;
        while let Some((_, record)) = self.waiting.pop_front_if(|(at, _)| *at <= id) {
            self.keep(record);
        }
    }

    fn keep(&mut self, record: Record) {
        match record {
            Record::State(state) => {
                // What is written covers the traces of the damage: from now on it is known by what the state says.
                self.vote_lost = false;
                self.lost = false;
                self.state = Some(state);
            }
            Record::Append { entries, commit } => {
                if let Some(state) = &mut self.state {
                    state.commit = state.commit.max(commit);
                }
                for entry in entries {
                    // A record behind a hole can't be used.
                    if entry.index == self.last().index + 1 {
                        self.entries.push_back(entry);
                    }
                }
            }
            Record::Truncate { from } => {
                let keep = from.saturating_sub(self.base.index + 1).min(self.entries.len() as u64);
                self.entries.truncate(keep as usize);
            }
            Record::Snapshot(snapshot) => self.snapshot = Some(snapshot),
            Record::Compact { base } => self.compact(base),
            Record::Reset { base } => {
                self.entries.clear();
                self.base = base;
            }
        }
    }

    fn compact(&mut self, base: Place) {
        if base.index > self.base.index && self.term_at(base.index) == Some(base.term) {
            self.entries.drain(..(base.index - self.base.index) as usize);
            self.base = base;
        }
    }

    fn last(&self) -> Place {
        self.entries.back().map_or(self.base, LogEntry::place)
    }

    /// Returns the term of the durable entry at `index`.
    pub(super) fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.checked_sub(self.base.index + 1)?;
        self.entries.get(at as usize).map(|entry| entry.term)
    }

    /// Returns whether the entry at `place` is durable here, in the log or in what stands for it, whatever a crash keeps
    /// of what is being written.
    pub(super) fn holds(&self, place: Place) -> bool {
        let covered = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.place.index >= place.index);
        let cut_off = |record: &Record| match record {
            Record::Truncate { from } => *from <= place.index,
            Record::Reset { base } => base.index < place.index,
            _ => false,
        };
        covered
            || (self.term_at(place.index) == Some(place.term)
                && !self.waiting.iter().any(|(_, record)| cut_off(record)))
    }

    /// The power is cut, or the process dies: some of what waited is kept. Returns whether something was dropped, and
    /// whether something was kept that the member doesn't know to be durable.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> (bool, bool) {
        self.syncing = None;
        let waiting = std::mem::take(&mut self.waiting);
        let total = waiting.len();
        let one_front = rng.chance(1, 2);
        let front = rng.below(total as u64 + 1);
        let mut left = [(); 3].map(|()| rng.below(total as u64 + 1));
        let (mut dropped, mut kept) = (false, false);
        for (at, (_, record)) in waiting.into_iter().enumerate() {
            let file = match record {
                Record::State(_) => 0,
                Record::Snapshot(_) => 1,
                _ => 2,
            };
            let keep = if one_front { (at as u64) < front } else { left[file] > 0 };
            left[file] = left[file].saturating_sub(1);
            match keep {
                true => {
                    self.keep(record);
                    kept = true;
                }
                false => {
                    left[file] = 0;
                    dropped = true;
                }
            }
        }
        (dropped, kept)
    }

    /// Damages what is durable; returns whether there was anything to damage.
    pub(super) fn damage(&mut self, kind: Damage, rng: &mut Rng) -> bool {
        match kind {
            Damage::Log if !self.entries.is_empty() => {
                let count = self.entries.len() as u64;
                // Much, or a little: what was just acknowledged.
                let most = if rng.chance(1, 2) { count } else { count.min(4) };
                let lose = 1 + rng.below(most);
                self.entries.truncate((count - lose) as usize);
                self.lost = true;
            }
            Damage::Snapshot if self.snapshot.is_some() => {
                self.snapshot = None;
                self.lost = true;
            }
            Damage::Vote if self.state.is_some() => {
                self.state = None;
                self.vote_lost = true;
            }
            Damage::Wiped => {
                *self = Disk { lost: true, vote_lost: true, ..Disk::default() };
            }
            _ => return false,
        }
        true
    }

    /// Returns what a member finds when it starts.
    ///
    /// A log that starts behind a snapshot that is gone, or ends before it, is for the member to judge.
    pub(super) fn recover(&mut self, applied: u64) -> Recovered {
        let state = match (self.state, self.vote_lost) {
            (None, true) => None,
            (state, _) => Some(state.unwrap_or_default()),
        };
        Recovered {
            state,
            snapshot: self.snapshot.clone(),
            base: self.base,
            entries: self.entries.iter().cloned().collect(),
            lost: self.lost,
            applied,
        }
    }

    /// Returns whether anything was ever written.
    pub(super) fn is_empty(&self) -> bool {
        self.state.is_none() && self.entries.is_empty() && self.snapshot.is_none()
    }
}
