//! Which message ids the stream has seen within its window.
//!
//! An id is known from the moment at which its message is appended to the head: a second one that comes while the first
//! is on its way is a duplicate too. Ids are kept as they are, one behind the other in a ring: what a remembered id costs
//! is its bytes and some 60 more, no allocation of its own, and what is old goes from the front.

use std::collections::VecDeque;

use hashbrown::HashTable;

use crate::rng::HashKeys;
use crate::time::{Duration, WallTime};

/// A remembered id.
#[derive(Clone, Copy, Debug)]
struct Entry {
    hash: u64,
    /// Where its bytes begin, counted from the first ever remembered.
    start: u64,
    len: u32,
    sequence: u64,
    time: WallTime,
}

/// The ids of the window, oldest first.
#[derive(Debug)]
pub(super) struct Dedup {
    keys: HashKeys,
    /// Entries by their numbers, of which the oldest is `forgotten`.
    table: HashTable<u64>,
    entries: VecDeque<Entry>,
    forgotten: u64,
    bytes: VecDeque<u8>,
    /// How many bytes were dropped from the front of `bytes`.
    dropped: u64,
}

/// How many old entries are dropped when one is added.
const STEP: usize = 64;

impl Dedup {
    pub(super) fn new(keys: HashKeys) -> Self {
        let (table, entries, bytes) = (HashTable::new(), VecDeque::new(), VecDeque::new());
        Dedup { keys, table, entries, forgotten: 0, bytes, dropped: 0 }
    }

    /// Returns the sequence of the message with this id, if it is within the window.
    pub(super) fn find(&self, id: &[u8], now: WallTime, window: Duration) -> Option<u64> {
        if self.entries.is_empty() {
            return None;
        }
        let hash = self.keys.hash(id);
        let number = self.table.find(hash, |number| self.is(*number, hash, id))?;
        let entry = self.entry(*number);
        (now.since(entry.time) < window).then_some(entry.sequence)
    }

    /// Remembers an id, in place of what was known of it.
    pub(super) fn remember(&mut self, id: &[u8], sequence: u64, time: WallTime, window: Duration) {
        if window.is_zero() {
            return;
        }
        self.forget_old(time, window, STEP);
        let hash = self.keys.hash(id);
        let (number, start) =
            (self.forgotten + self.entries.len() as u64, self.dropped + self.bytes.len() as u64);
        self.bytes.extend(id);
        self.entries.push_back(Entry { hash, start, len: id.len() as u32, sequence, time });
        let (entries, forgotten) = (&self.entries, self.forgotten);
        let hash_of = |number: &u64| entries[(number - forgotten) as usize].hash;
        let known = self.table.find(hash, |number| self.is(*number, hash, id)).copied();
        if let Some(known) = known
            && let Ok(place) = self.table.find_entry(hash, |number| *number == known)
        {
            place.remove();
        }
        self.table.insert_unique(hash, number, hash_of);
    }

    /// Forgets up to `most` entries that are out of the window.
    pub(super) fn forget_old(&mut self, now: WallTime, window: Duration, most: usize) {
        for _ in 0..most {
            let Some(entry) = self.entries.front().filter(|entry| now.since(entry.time) >= window) else {
                return;
            };
            let (hash, len, number) = (entry.hash, entry.len as usize, self.forgotten);
            if let Ok(place) = self.table.find_entry(hash, |known| *known == number) {
                place.remove();
            }
            self.entries.pop_front();
            self.forgotten += 1;
            self.bytes.drain(..len);
            self.dropped += len as u64;
            if self.entries.is_empty() {
                *self = Dedup::new(self.keys.clone());
            }
        }
    }

    /// Forgets what was remembered for sequences from `sequence` on: they were never stored.
    ///
    /// An id that one of them took over is forgotten too. That was out of the window, or it would have been a duplicate.
    pub(super) fn take_back(&mut self, sequence: u64) {
        while let Some(entry) = self.entries.pop_back_if(|entry| entry.sequence >= sequence) {
            let number = self.forgotten + self.entries.len() as u64;
            if let Ok(place) = self.table.find_entry(entry.hash, |known| *known == number) {
                place.remove();
            }
            self.bytes.truncate(self.bytes.len() - entry.len as usize);
        }
    }

    /// Returns when the oldest entry is out of the window.
    pub(super) fn next(&self, window: Duration) -> Option<WallTime> {
        self.entries.front().map(|entry| entry.time + window)
    }

    fn entry(&self, number: u64) -> &Entry {
        &self.entries[(number - self.forgotten) as usize]
    }

    fn is(&self, number: u64, hash: u64, id: &[u8]) -> bool {
        let entry = self.entry(number);
        let start = (entry.start - self.dropped) as usize;
        entry.hash == hash
            && entry.len as usize == id.len()
            && self.bytes.range(start..start + id.len()).eq(id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn at(seconds: u64) -> WallTime {
        WallTime::default() + Duration::from_secs(seconds)
    }

    proptest! {
        /// Against a map that forgets nothing, over ids few enough to come again within the window and behind it.
        #[test]
        fn an_id_is_known_for_as_long_as_the_window(
            steps in proptest::collection::vec((0..5u8, 0..4u64, any::<bool>()), 0..200),
        ) {
            let window = Duration::from_secs(7);
            let mut dedup = Dedup::new(HashKeys::of(1));
            let mut model: BTreeMap<Vec<u8>, (u64, WallTime)> = BTreeMap::new();
            let (mut now, mut sequence) = (0, 0);
            for (id, pause, take_back) in steps {
                now += pause;
                let id = vec![b'x'; usize::from(id)];
                let expected = model.get(&id).filter(|known| at(now).since(known.1) < window).map(|known| known.0);
                prop_assert_eq!(dedup.find(&id, at(now), window), expected);
                if expected.is_none() {
                    sequence += 1;
                    dedup.remember(&id, sequence, at(now), window);
                    if take_back {
                        dedup.take_back(sequence);
                        model.remove(&id);
                        sequence -= 1;
                    } else {
                        model.insert(id, (sequence, at(now)));
                    }
                }
            }
            dedup.forget_old(at(now + 7), window, usize::MAX);
            prop_assert_eq!((dedup.entries.len(), dedup.bytes.len(), dedup.table.len()), (0, 0, 0));
        }
    }
}
