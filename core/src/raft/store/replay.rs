//! What the records of a member say, taken one after the other: the same for what is written and for what is found.
//!
//! Invariants: entries are consecutive from `base`, terms never fall. While [`Replay::broken`], what is here is a front of
//! what the member had: something behind it is lost. It is whole again where a record says the log anew.
//!
//! Of such a front only what was committed before the gap is certain: behind it, other entries may have taken the place of the
//! rest. So what is said later to be committed isn't believed of the front, and a later cut makes it whole only from there.

use std::collections::VecDeque;

use bytes::Bytes;

use super::record::{Identity, Item, KeptSnapshot, Stamp};
use crate::planted::{Bug, bug};
use crate::raft::group::HardState;
use crate::raft::log::{LogEntry, Place};

/// What the records so far say.
#[derive(Clone, Debug, Default)]
pub(super) struct Replay {
    /// The number of the last record.
    pub number: u64,
    /// Term, vote and commit; `None` if they are not known.
    pub state: Option<HardState>,
    pub base: Place,
    pub entries: VecDeque<LogEntry>,
    /// The bytes of all entries.
    pub bytes: usize,
    pub snapshot: Option<KeptSnapshot>,
    /// Something is lost behind the last entry.
    pub broken: bool,
    /// Something had been lost when the last life began, and the member has not written that down since.
    pub said: bool,
    /// The lowest index from which on entries were cut off since [`Replay::settled`].
    pub cut_from: u64,
    /// The log was begun anew since then.
    pub begun_anew: bool,
    /// A body that is not whole yet.
    pieces: Vec<Bytes>,
}

impl Replay {
    pub(super) fn last(&self) -> Place {
        self.entries.back().map_or(self.base, LogEntry::place)
    }

    fn term_at(&self, index: u64) -> Option<u64> {
        if index == self.base.index {
            return Some(self.base.term);
        }
        let at = index.checked_sub(self.base.index + 1)?;
        self.entries.get(usize::try_from(at).ok()?).map(|entry| entry.term)
    }

    /// Returns what log this is.
    pub(super) fn identity(&self, lost: bool) -> Identity {
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.place);
        Identity { base: self.base, last: self.last(), snapshot, lost }
    }

    /// Notes that records are missing here.
    pub(super) fn gap(&mut self) {
        self.broken = true;
        self.pieces.clear();
    }

    /// Takes a piece of a body.
    pub(super) fn piece(&mut self, stamp: &Stamp, body: Bytes) {
        self.stamped(stamp);
        self.pieces.push(body);
    }

    /// Returns the whole body, of which `last` is the end; `None` if its beginning is missing.
    pub(super) fn whole(&mut self, continued: bool, last: Bytes) -> Option<Bytes> {
        if !continued {
            // What was begun before, nobody was told to be durable.
            self.pieces.clear();
            return Some(last);
        }
        if self.pieces.is_empty() {
            return None;
        }
        self.pieces.push(last);
        Some(std::mem::take(&mut self.pieces).concat().into())
    }

    fn stamped(&mut self, stamp: &Stamp) {
        self.number = stamp.number;
        if stamp.state.is_some() {
            self.state = self.believed(stamp.state);
        }
    }

    fn commit(&self) -> u64 {
        self.state.map_or(0, |state| state.commit)
    }

    /// Returns what a record says of term, vote and commit, as far as it goes for what is here.
    fn believed(&self, state: Option<HardState>) -> Option<HardState> {
        let commit = self.commit();
        let trusts = !self.broken || bug(Bug::RaftStoreCommitBehindGap);
        state.map(|state| if trusts { state } else { HardState { commit, ..state } })
    }

    /// Takes a record.
    pub(super) fn take(&mut self, stamp: &Stamp, item: Item) {
        self.stamped(stamp);
        match item {
            Item::Begin(identity) => {
                self.pieces.clear();
                self.is_known_as(&identity);
                self.said = identity.lost;
                // What it says for itself holds where the log is the one that it had.
                self.state = self.believed(stamp.state);
            }
            Item::Mark(identity, _) => {
                self.is_known_as(&identity);
                self.said = identity.lost;
            }
            Item::State => self.said = false,
            Item::Covered => {}
            Item::Append(entries) => self.append(entries),
            Item::Truncate { from } => self.truncate(from),
            Item::Snapshot(snapshot) => self.snapshot = Some(snapshot),
            Item::Compact { base } => self.compact(base),
            Item::Reset { base } => {
                self.clear(base);
                self.broken = false;
            }
        }
    }

    /// A record says what log this is: it is whole if it is that one, or begins with it.
    fn is_known_as(&mut self, identity: &Identity) {
        let based = self.base.index <= identity.base.index;
        let ends = self.term_at(identity.last.index) == Some(identity.last.term);
        let snapshot = self.snapshot.as_ref().map(|snapshot| snapshot.place);
        // A later snapshot than it had then would be out of order; none is what it had if it was unreadable.
        let stands = identity.snapshot.is_none_or(|place| snapshot == Some(place));
        if identity.snapshot.is_none() {
            self.snapshot = None;
        }
        self.broken = !(based && ends && stands);
        if !self.broken {
            self.cut(identity.last.index + 1);
        }
    }

    fn append(&mut self, entries: Vec<LogEntry>) {
        if self.broken {
            return;
        }
        for entry in entries {
            let last = self.last();
            if entry.index != last.index + 1 || entry.term < last.term {
                self.broken = true;
                return;
            }
            self.bytes += entry.entry.data.len();
            self.entries.push_back(entry);
        }
    }

    fn truncate(&mut self, from: u64) {
        // A front that reaches as far as the cut is all that was left by it, unless other entries took its place before.
        let reaches = from > self.base.index && from <= self.last().index + 1;
        let certain = !self.broken || from <= self.commit() + 1;
        self.cut(from);
        self.broken = !(reaches && certain);
    }

    fn cut(&mut self, from: u64) {
        let keep = from.saturating_sub(self.base.index + 1).min(self.entries.len() as u64) as usize;
        if keep < self.entries.len() {
            self.cut_from = self.cut_from.min(from);
        }
        self.bytes -= self.entries.drain(keep..).map(|entry| entry.entry.data.len()).sum::<usize>();
    }

    fn compact(&mut self, base: Place) {
        if base.index < self.base.index {
            return;
        }
        if self.term_at(base.index) != Some(base.term) {
            // The front that it stands for is not all here, and so nothing behind it is known.
            self.clear(base);
            self.broken = true;
            return;
        }
        let dead = (base.index - self.base.index) as usize;
        self.bytes -= self.entries.drain(..dead).map(|entry| entry.entry.data.len()).sum::<usize>();
        self.base = base;
    }

    fn clear(&mut self, base: Place) {
        self.entries.clear();
        self.bytes = 0;
        self.base = base;
        self.begun_anew = true;
    }

    /// Notes that what is here is in the file.
    pub(super) fn settled(&mut self) {
        self.cut_from = u64::MAX;
        self.begun_anew = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::wire::Entry;

    fn entries(places: &[(u64, u64)]) -> Item {
        let entry =
            |(term, index): &(u64, u64)| LogEntry { term: *term, index: *index, entry: Entry::normal("x") };
        Item::Append(places.iter().map(entry).collect())
    }

    fn run(items: Vec<Option<Item>>) -> (u64, u64, bool) {
        let mut replay = Replay::default();
        for (number, item) in items.into_iter().enumerate() {
            let stamp = Stamp { number: number as u64, state: None };
            match item {
                Some(item) => replay.take(&stamp, item),
                None => replay.gap(),
            }
        }
        assert_eq!(replay.bytes, replay.entries.len());
        (replay.base.index, replay.last().index, replay.broken)
    }

    fn place(term: u64, index: u64) -> Place {
        Place { term, index }
    }

    #[test]
    fn what_is_behind_a_gap_is_not_used() {
        let front = || Some(entries(&[(1, 1), (1, 2), (1, 3)]));
        assert_eq!(run(vec![front(), Some(entries(&[(1, 4)]))]), (0, 4, false));
        assert_eq!(run(vec![front(), None, Some(entries(&[(1, 4)]))]), (0, 3, true));
        assert_eq!(run(vec![front(), Some(entries(&[(1, 5)]))]), (0, 3, true), "nor what doesn't follow");
    }

    #[test]
    fn a_log_that_is_said_anew_is_whole_again() {
        let front = || Some(entries(&[(1, 1), (1, 2), (1, 3)]));
        let reset = Some(Item::Reset { base: place(2, 9) });
        assert_eq!(run(vec![front(), None, reset, Some(entries(&[(2, 10)]))]), (9, 10, false));
        let cut = |from| Some(Item::Truncate { from });
        // Entries 2 and 3 may be others by then.
        assert_eq!(run(vec![front(), None, cut(3), Some(entries(&[(2, 3)]))]), (0, 2, true));
        assert_eq!(run(vec![front(), None, cut(1), Some(entries(&[(2, 1)]))]), (0, 1, false));
        assert_eq!(run(vec![front(), None, cut(6), Some(entries(&[(2, 6)]))]), (0, 3, true));
        let begin = |last| Some(Item::Begin(Identity { last, ..Identity::default() }));
        assert_eq!(run(vec![front(), None, begin(place(1, 2))]), (0, 2, false), "it had noticed then");
        assert_eq!(run(vec![front(), None, begin(place(1, 4))]), (0, 3, true), "it had more then");
        assert_eq!(run(vec![front(), begin(place(2, 3))]), (0, 3, true), "it had another log then");
    }

    #[test]
    fn what_is_committed_behind_a_gap_says_nothing_of_what_is_before() {
        let state = |commit| Some(HardState { term: 3, commit, ..HardState::default() });
        let mut replay = Replay::default();
        replay.take(&Stamp { number: 1, state: state(1) }, entries(&[(1, 1), (3, 2), (3, 3)]));
        // Cut off and written again meanwhile, in another term.
        replay.gap();
        replay.take(&Stamp { number: 4, state: state(3) }, Item::State);
        assert_eq!(replay.state, state(1));
        replay.take(&Stamp { number: 5, state: state(3) }, Item::Truncate { from: 3 });
        assert!(replay.broken, "entry 2 may be another one");
        let mut begun = replay.clone();
        begun.take(&Stamp { number: 6, state: state(3) }, Item::Truncate { from: 2 });
        assert!(!begun.broken, "what was committed before is there");
        let identity = Identity { last: place(3, 2), ..Identity::default() };
        replay.take(&Stamp { number: 7, state: state(2) }, Item::Begin(identity));
        assert_eq!((replay.broken, replay.state), (false, state(2)), "it knew then what it had");
    }

    #[cfg(feature = "planted-bugs")]
    #[test]
    fn a_commit_that_is_believed_behind_a_gap_is_caught() {
        crate::planted::arm(Some(Bug::RaftStoreCommitBehindGap), 0, 1, 1);
        let test = what_is_committed_behind_a_gap_says_nothing_of_what_is_before;
        let outcome = std::panic::catch_unwind(test);
        crate::planted::disarm();
        assert!(outcome.is_err());
    }

    #[test]
    fn a_front_that_is_gone_takes_what_is_behind_it_along() {
        let compact = |index| Some(Item::Compact { base: place(1, index) });
        let front = || Some(entries(&[(1, 1), (1, 2), (1, 3)]));
        assert_eq!(run(vec![front(), compact(2)]), (2, 3, false));
        assert_eq!(run(vec![front(), None, compact(5), Some(entries(&[(1, 6)]))]), (5, 5, true));
    }
}
