//! Runs of sequences, merged: what is gone or lost where naming each sequence could name more than there is room for.

use std::collections::BTreeMap;

/// A set of sequences as runs, both ends included. Its memory follows the number of runs, not their length.
///
/// Invariant: runs neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// By the first sequence, the last.
    runs: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Returns whether there is none.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Returns how many runs there are.
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Adds a run; nothing if `last` is before `first`.
    pub fn insert(&mut self, mut first: u64, mut last: u64) {
        if last < first {
            return;
        }
        // Those that overlap or touch it become one with it: from the one that begins last at or before its end.
        while let Some((start, end)) = self.runs.range(..=last.saturating_add(1)).next_back() {
            let (start, end) = (*start, *end);
            if end.saturating_add(1) < first {
                break;
            }
            self.runs.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.runs.insert(first, last);
    }

    /// Takes out everything below `bound`.
    pub fn remove_below(&mut self, bound: u64) {
        while let Some((first, last)) = self.runs.first_key_value().map(|(first, last)| (*first, *last))
            && first < bound
        {
            self.runs.remove(&first);
            if last >= bound {
                self.runs.insert(bound, last);
            }
        }
    }

    /// Takes out everything behind `bound`.
    pub fn remove_above(&mut self, bound: u64) {
        while let Some((first, last)) = self.runs.last_key_value().map(|(first, last)| (*first, *last))
            && last > bound
        {
            self.runs.remove(&first);
            if first <= bound {
                self.runs.insert(first, bound);
            }
        }
    }

    /// Tells whether `sequence` is in it.
    pub fn contains(&self, sequence: u64) -> bool {
        self.runs.range(..=sequence).next_back().is_some_and(|(_, last)| *last >= sequence)
    }

    /// Takes out what `other` has.
    pub fn subtract(&mut self, other: &Ranges) {
        for (first, last) in other.iter() {
            loop {
                let Some((start, end)) = self.within(first, last).next() else { break };
                let whole = self.runs.range(..=start).next_back().map(|(start, end)| (*start, *end));
                let (whole_start, whole_end) = whole.unwrap_or((start, end));
                self.runs.remove(&whole_start);
                if whole_start < start {
                    self.runs.insert(whole_start, start - 1);
                }
                if whole_end > end {
                    self.runs.insert(end + 1, whole_end);
                }
            }
        }
    }

    /// Returns what it has from `first` through `last`, in order.
    pub fn within(&self, first: u64, last: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let before = self.runs.range(..first).next_back().filter(|(_, end)| **end >= first);
        let from = before.map_or(first, |(start, _)| *start);
        let hit = (from <= last).then(|| self.runs.range(from..=last)).into_iter().flatten();
        hit.map(move |(start, end)| ((*start).max(first), (*end).min(last)))
    }

    /// Returns the runs in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.runs.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_a_set_of_sequences(
            steps in proptest::collection::vec((0..5u8, 0..60u64, 0..12u64), 1..40),
        ) {
            let mut ranges = Ranges::default();
            let mut model = BTreeSet::new();
            for (kind, first, more) in steps {
                let run: BTreeSet<u64> = (first..=first + more).collect();
                match kind {
                    0..2 => {
                        ranges.insert(first, first + more);
                        model.extend(run);
                    }
                    2 => {
                        let mut other = Ranges::default();
                        other.insert(first, first + more);
                        other.insert(first + more + 3, first + more + 9);
                        ranges.subtract(&other);
                        model.retain(|sequence| !other.contains(*sequence));
                    }
                    3 => {
                        ranges.remove_below(more);
                        model.retain(|sequence| *sequence >= more);
                    }
                    _ => {
                        ranges.remove_above(first + 30);
                        model.retain(|sequence| *sequence <= first + 30);
                    }
                }
                let all: BTreeSet<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(&all, &model);
                let within: BTreeSet<u64> = ranges.within(20, 40).flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(within, model.range(20..=40).copied().collect::<BTreeSet<u64>>());
                let runs: Vec<_> = ranges.iter().collect();
                prop_assert!(runs.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "{:?}", runs);
                prop_assert!((0..90).all(|sequence| ranges.contains(sequence) == model.contains(&sequence)));
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_no_trouble() {
        let mut ranges = Ranges::default();
        ranges.insert(5, u64::MAX);
        ranges.insert(0, 3);
        ranges.insert(4, 4);
        assert_eq!(ranges.iter().collect::<Vec<_>>(), [(0, u64::MAX)]);
        let mut other = Ranges::default();
        other.insert(0, u64::MAX);
        ranges.subtract(&other);
        assert!(ranges.is_empty());
    }
}
