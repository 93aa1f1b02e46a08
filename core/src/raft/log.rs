//! The log of a group as one member holds it: what is in memory, what of it is durable, what a snapshot stands for.
//!
//! Invariants: indexes are consecutive from `base.index + 1`; terms never fall; `stable <= last`; what is at or below
//! `stable` is durable with the terms that it has here. An index is an entry here; in the reference it is a message,
//! whatever that carries, which no member of a group of natrix servers sees.

use std::collections::VecDeque;

use super::wire::Entry;

/// A place in the log: an index, and the term of the entry there. Zero and zero is before the first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The term of the entry; first, so that places order as logs are compared for votes.
    pub term: u64,
    /// Its index, from 1.
    pub index: u64,
}

/// An entry in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its index.
    pub index: u64,
    /// What it is.
    pub entry: Entry,
}

impl LogEntry {
    /// Returns where it is.
    pub fn place(&self) -> Place {
        Place { term: self.term, index: self.index }
    }
}

/// One member's log.
#[derive(Clone, Debug, Default)]
pub struct Log {
    base: Place,
    entries: VecDeque<LogEntry>,
    stable: u64,
    bytes: usize,
}

impl Log {
    /// Makes the log that was found on disk: everything behind `base`, in order, all of it durable.
    ///
    /// # Panics
    ///
    /// If the entries are not consecutive from `base`: recovery has to find that out, and cut there.
    pub fn recovered(base: Place, entries: Vec<LogEntry>) -> Self {
        let mut log = Log { base, stable: base.index, ..Log::default() };
        for entry in entries {
            log.push(entry);
        }
        log.stable = log.last().index;
        log
    }

    /// Returns the place of the last entry, or what the snapshot stands for if there is none.
    pub fn last(&self) -> Place {
        self.entries.back().map_or(self.base, LogEntry::place)
    }

    /// Returns through where a snapshot stands for the log.
    pub fn base(&self) -> Place {
        self.base
    }

    /// Returns through which index the log is durable.
    pub fn stable(&self) -> u64 {
        self.stable
    }

    /// Returns the bytes of all entries in memory.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns the term of the entry at `index`; `None` if the log doesn't reach there, or no longer knows.
    pub fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        self.get(index).map(|entry| entry.term)
    }

    /// Returns the entry at `index`, if it is here.
    pub fn get(&self, index: u64) -> Option<&LogEntry> {
        let at = index.checked_sub(self.base.index + 1)?;
        self.entries.get(usize::try_from(at).ok()?)
    }

    /// Returns the entries from index `from` on, at most `max` of them and some `max_bytes`, at least one if there is
    /// one.
    pub fn from(&self, from: u64, max: usize, max_bytes: usize) -> impl Iterator<Item = &LogEntry> {
        let start = from.saturating_sub(self.base.index + 1).min(self.entries.len() as u64);
        let mut bytes = 0;
        self.entries.range(start as usize..).take(max).take_while(move |entry| {
            let first = bytes == 0;
            bytes += entry.entry.data.len() + Entry::OVERHEAD;
            first || bytes <= max_bytes
        })
    }

    /// Puts `entry` behind the last.
    ///
    /// # Panics
    ///
    /// If that isn't its place.
    pub fn push(&mut self, entry: LogEntry) {
        let last = self.last();
        assert!(
            entry.index == last.index + 1 && entry.term >= last.term,
            "{:?} does not follow {last:?}",
            entry.place()
        );
        self.bytes += entry.entry.data.len();
        self.entries.push_back(entry);
    }

    /// Removes the entries from `index` on: a leader has others there.
    pub fn truncate_from(&mut self, index: u64) {
        let keep = index.saturating_sub(self.base.index + 1).min(self.entries.len() as u64);
        for entry in self.entries.drain(keep as usize..) {
            self.bytes -= entry.entry.data.len();
        }
        self.stable = self.stable.min(self.last().index);
    }

    /// Notes that the log through `place` is durable; ignored if another entry stands there by now.
    pub fn stabilised(&mut self, place: Place) {
        if self.term_at(place.index) == Some(place.term) {
            self.stable = self.stable.max(place.index);
        }
    }

    /// Drops the entries through `index`, which a snapshot stands for from now on.
    pub fn compact(&mut self, index: u64) {
        let Some(term) = self.term_at(index) else { return };
        let drop = index - self.base.index;
        for entry in self.entries.drain(..drop as usize) {
            self.bytes -= entry.entry.data.len();
        }
        self.base = Place { term, index };
        self.stable = self.stable.max(index);
    }

    /// Starts again behind a snapshot that another member sent; everything that was here is gone.
    pub fn restart_behind(&mut self, base: Place) {
        *self = Log { base, stable: base.index, ..Log::default() };
    }

    /// Returns the first index that has the term of the entry at `index`, as far back as the log goes.
    pub fn first_of_term(&self, index: u64) -> u64 {
        let Some(term) = self.term_at(index) else { return self.base.index };
        let at = (index - self.base.index) as usize;
        let before = self.entries.iter().take(at).rev().take_while(|entry| entry.term == term);
        (index + 1).saturating_sub(before.count() as u64).max(self.base.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(base: (u64, u64), terms: &[u64]) -> Log {
        let base = Place { term: base.0, index: base.1 };
        let entries = terms.iter().zip(base.index + 1..).map(|(term, index)| LogEntry {
            term: *term,
            index,
            entry: Entry::normal(vec![0; 10]),
        });
        Log::recovered(base, entries.collect())
    }

    #[test]
    fn a_log_knows_its_terms_and_ends() {
        let log = log((2, 10), &[2, 3, 3, 5]);
        assert_eq!((log.base().index, log.last(), log.stable()), (10, Place { term: 5, index: 14 }, 14));
        let terms: Vec<_> = (9..=15).map(|index| log.term_at(index)).collect();
        assert_eq!(terms, [None, Some(2), Some(2), Some(3), Some(3), Some(5), None]);
        assert_eq!(log.bytes(), 40);
        let firsts: Vec<_> = (10..=14).map(|index| log.first_of_term(index)).collect();
        assert_eq!(firsts, [11, 11, 12, 12, 14]);
    }

    #[test]
    fn what_is_cut_off_is_not_durable_any_more() {
        let mut log = log((0, 0), &[1, 1, 2]);
        log.truncate_from(3);
        assert_eq!((log.last().index, log.stable()), (2, 2));
        log.push(LogEntry { term: 3, index: 3, entry: Entry::normal("x") });
        log.stabilised(Place { term: 2, index: 3 });
        assert_eq!(log.stable(), 2, "the entry that was written is not the one that is there");
        log.stabilised(Place { term: 3, index: 3 });
        assert_eq!(log.stable(), 3);
    }

    #[test]
    fn a_snapshot_stands_for_the_front() {
        let mut log = log((0, 0), &[1, 1, 2, 2]);
        log.compact(3);
        assert_eq!((log.base(), log.last().index, log.bytes()), (Place { term: 2, index: 3 }, 4, 10));
        log.compact(1);
        log.compact(9);
        assert_eq!(log.base().index, 3, "only what is here can be compacted");
        log.restart_behind(Place { term: 7, index: 20 });
        assert_eq!((log.last(), log.stable()), (Place { term: 7, index: 20 }, 20));
    }

    #[test]
    fn a_slice_has_one_entry_or_as_much_as_fits() {
        let log = log((0, 0), &[1, 1, 1, 1]);
        let count = |from, max, bytes| log.from(from, max, bytes).count();
        assert_eq!((count(1, 9, 30), count(1, 9, 1), count(2, 2, 99), count(5, 9, 99)), (2, 1, 2, 0));
    }

    #[test]
    #[should_panic(expected = "does not follow")]
    fn an_entry_out_of_place_is_our_own_fault() {
        log((0, 0), &[1]).push(LogEntry { term: 1, index: 3, entry: Entry::normal("x") });
    }
}
