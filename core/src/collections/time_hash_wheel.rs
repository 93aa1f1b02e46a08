//! Deadlines of sequences, to the nanosecond, found by the second: for expiry, schedules, duplicate windows.
//!
//! A wheel of 4,096 slots of a second each; a deadline further away shares its slot with nearer ones and waits for a later
//! turn. Adding and removing cost a look into one slot. Nothing here reads a clock.
//!
//! Invariants: a sequence is at most once in the slot of its deadline; each slot's `lowest` is at or before every deadline
//! in it, and the wheel's at or before every slot's; a slot without deadlines is not there.
//!
//! Source: nats-server `server/thw/thw.go`. Deadlines of a slot are ordered by sequence here, so that expiring them has
//! an order that replays.

use std::collections::BTreeMap;

use crate::time::WallTime;
use crate::varint;

const SLOTS: usize = 4096;
const TICK: i64 = 1_000_000_000;
const VERSION: u8 = 1;
const HEAD: usize = 17;

/// A sequence and when it is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline {
    /// When.
    pub time: WallTime,
    /// Which sequence.
    pub sequence: u64,
}

/// Why something could not be done to a wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WheelError {
    /// The sequence has no deadline at that time.
    #[error("thw: task not found")]
    NotFound,
    /// The bytes are of a version that nobody knows.
    #[error("thw: encoded version not known")]
    Version,
    /// The bytes end too early.
    #[error("unexpected EOF")]
    TooShort,
}

#[derive(Clone, Debug)]
struct Slot {
    deadlines: BTreeMap<u64, i64>,
    lowest: i64,
}

/// A wheel of deadlines.
#[derive(Clone, Debug)]
pub struct TimeHashWheel {
    slots: Vec<Option<Box<Slot>>>,
    lowest: i64,
    count: usize,
}

impl Default for TimeHashWheel {
    fn default() -> Self {
        TimeHashWheel { slots: Vec::new(), lowest: i64::MAX, count: 0 }
    }
}

fn slot_of(time: i64) -> usize {
    (time / TICK) as usize % SLOTS
}

impl TimeHashWheel {
    /// Gives `sequence` the deadline `time`. Deadlines in other seconds that it has stay; see [`TimeHashWheel::update`].
    pub fn add(&mut self, sequence: u64, time: WallTime) {
        let time = time.as_unix_nanos();
        if self.slots.is_empty() {
            self.slots.resize_with(SLOTS, || None);
        }
        let empty = || Box::new(Slot { deadlines: BTreeMap::new(), lowest: i64::MAX });
        let slot = self.slots[slot_of(time)].get_or_insert_with(empty);
        self.count += usize::from(slot.deadlines.insert(sequence, time).is_none());
        slot.lowest = slot.lowest.min(time);
        self.lowest = self.lowest.min(time);
    }

    /// Takes away the deadline that `sequence` has in the second of `time`.
    ///
    /// # Errors
    ///
    /// [`WheelError::NotFound`] if it has none there.
    pub fn remove(&mut self, sequence: u64, time: WallTime) -> Result<(), WheelError> {
        let place = self.slots.get_mut(slot_of(time.as_unix_nanos())).ok_or(WheelError::NotFound)?;
        let slot = place.as_mut().ok_or(WheelError::NotFound)?;
        slot.deadlines.remove(&sequence).ok_or(WheelError::NotFound)?;
        if slot.deadlines.is_empty() {
            *place = None;
        }
        self.count -= 1;
        if self.count == 0 {
            self.lowest = i64::MAX;
        }
        Ok(())
    }

    /// Moves the deadline of `sequence` from `old` to `new`.
    ///
    /// # Errors
    ///
    /// [`WheelError::NotFound`] if it has none at `old`; nothing changes.
    pub fn update(&mut self, sequence: u64, old: WallTime, new: WallTime) -> Result<(), WheelError> {
        self.remove(sequence, old)?;
        self.add(sequence, new);
        Ok(())
    }

    /// Takes out what is due at `now`, unless `expire` says that it stays (and will be due again at the next call).
    ///
    /// Goes through all slots, which costs some microseconds, but only if something can be due.
    pub fn expire(&mut self, now: WallTime, mut expire: impl FnMut(Deadline) -> bool) {
        let now = now.as_unix_nanos();
        if self.lowest > now {
            return;
        }
        self.lowest = i64::MAX;
        for place in &mut self.slots {
            let Some(slot) = place else { continue };
            if slot.lowest <= now {
                let before = slot.deadlines.len();
                slot.deadlines.retain(|sequence, time| {
                    let deadline = Deadline { time: WallTime::from_unix_nanos(*time), sequence: *sequence };
                    *time > now || !expire(deadline)
                });
                self.count -= before - slot.deadlines.len();
                let Some(lowest) = slot.deadlines.values().min() else {
                    *place = None;
                    continue;
                };
                slot.lowest = *lowest;
            }
            self.lowest = self.lowest.min(slot.lowest);
        }
    }

    /// Returns when the next deadline is due at the earliest, if that is before `before`.
    ///
    /// May name a time whose deadline was removed; [`TimeHashWheel::expire`] then finds nothing and knows better.
    pub fn next(&self, before: WallTime) -> Option<WallTime> {
        (self.lowest < before.as_unix_nanos()).then(|| WallTime::from_unix_nanos(self.lowest))
    }

    /// Returns how many deadlines there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Returns all deadlines as bytes, with `stamp`: the sequence through which they are complete.
    ///
    /// Shape: `version u8 = 1, count u64, stamp u64`, little-endian, then for each `time varint (zigzag), sequence varint`.
    pub fn encode(&self, stamp: u64) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEAD + self.count * 12);
        out.push(VERSION);
        out.extend_from_slice(&(self.count as u64).to_le_bytes());
        out.extend_from_slice(&stamp.to_le_bytes());
        for (sequence, time) in self.slots.iter().flatten().flat_map(|slot| &slot.deadlines) {
            varint::put_signed(&mut out, *time);
            varint::put(&mut out, *sequence);
        }
        out
    }

    /// Reads what [`TimeHashWheel::encode`] wrote, and returns it with its stamp.
    ///
    /// # Errors
    ///
    /// [`WheelError`]; the count alone allocates nothing.
    pub fn decode(bytes: &[u8]) -> Result<(Self, u64), WheelError> {
        let (head, rest) = bytes.split_first_chunk::<HEAD>().ok_or(WheelError::TooShort)?;
        if head[0] != VERSION {
            return Err(WheelError::Version);
        }
        let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
        let (count, stamp) = (number(1), number(9));
        let (mut wheel, mut reader) = (TimeHashWheel::default(), varint::Reader::new(rest));
        for _ in 0..count {
            let time = reader.take_signed().ok_or(WheelError::TooShort)?;
            let sequence = reader.take().ok_or(WheelError::TooShort)?;
            wheel.add(sequence, WallTime::from_unix_nanos(time));
        }
        Ok((wheel, stamp))
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> WallTime {
        WallTime::from_unix_nanos(seconds * TICK)
    }

    fn expired(wheel: &mut TimeHashWheel, now: WallTime) -> Vec<u64> {
        let mut found = Vec::new();
        wheel.expire(now, |deadline| {
            found.push(deadline.sequence);
            true
        });
        found
    }

    #[test]
    fn a_deadline_is_found_moved_and_removed_where_it_is() {
        let mut wheel = TimeHashWheel::default();
        assert_eq!(wheel.remove(1, at(5)), Err(WheelError::NotFound));
        wheel.add(1, at(5));
        wheel.add(1, at(5));
        assert_eq!((wheel.len(), wheel.next(at(9)), wheel.next(at(5))), (1, Some(at(5)), None));
        assert_eq!(wheel.remove(1, at(6)), Err(WheelError::NotFound));
        assert_eq!(wheel.update(2, at(5), at(7)), Err(WheelError::NotFound));
        wheel.update(1, at(5), at(7)).unwrap();
        assert!(expired(&mut wheel, at(6)).is_empty());
        assert_eq!(expired(&mut wheel, at(7)), [1]);
        assert!(wheel.is_empty() && wheel.next(WallTime::from_unix_nanos(i64::MAX)).is_none());
    }

    #[test]
    fn what_is_due_goes_and_the_rest_of_its_second_stays() {
        let mut wheel = TimeHashWheel::default();
        let half = WallTime::from_unix_nanos(5 * TICK + TICK / 2);
        wheel.add(1, at(5));
        wheel.add(2, half);
        wheel.add(3, at(6));
        assert_eq!(expired(&mut wheel, at(5)), [1]);
        assert_eq!(wheel.next(at(99)), Some(half));
        assert_eq!(expired(&mut wheel, at(100)), [2, 3]);
    }

    #[test]
    fn a_deadline_beyond_a_turn_waits_for_its_own() {
        let mut wheel = TimeHashWheel::default();
        let turn = SLOTS as i64;
        wheel.add(1, at(10));
        wheel.add(2, at(10 + turn));
        wheel.add(3, at(10 + 3 * turn));
        assert_eq!(expired(&mut wheel, at(10)), [1]);
        assert!(expired(&mut wheel, at(9 + turn)).is_empty());
        assert_eq!(expired(&mut wheel, at(10 + turn)), [2]);
        assert_eq!(wheel.next(WallTime::from_unix_nanos(i64::MAX)), Some(at(10 + 3 * turn)));
    }

    #[test]
    fn who_is_not_let_go_stays_due() {
        let mut wheel = TimeHashWheel::default();
        (1..=4).for_each(|sequence| wheel.add(sequence, at(5)));
        wheel.expire(at(5), |deadline| deadline.sequence % 2 == 0);
        assert_eq!((wheel.len(), wheel.next(at(6))), (2, Some(at(5))));
        assert_eq!(expired(&mut wheel, at(5)), [1, 3]);
    }

    #[test]
    fn the_bytes_are_the_references() {
        let mut wheel = TimeHashWheel::default();
        wheel.add(300, WallTime::from_unix_nanos(1));
        let bytes = wheel.encode(7);
        let want = [&[1, 1, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0][..], &[2, 0xac, 2]].concat();
        assert_eq!(bytes, want);
        let decode = |bytes: &[u8]| TimeHashWheel::decode(bytes).map(|(wheel, stamp)| (wheel.len(), stamp));
        assert_eq!(decode(&bytes), Ok((1, 7)));
        assert_eq!(decode(&[&[2], &bytes[1..]].concat()), Err(WheelError::Version));
        for len in 0..bytes.len() {
            assert_eq!(decode(&bytes[..len]), Err(WheelError::TooShort), "{len} bytes");
        }
        let many = [&[1][..], &[0xff; 16], &[2, 3]].concat();
        assert_eq!(decode(&many), Err(WheelError::TooShort));
    }

    proptest! {
        #[test]
        fn a_wheel_is_a_list_of_deadlines(
            operations in vec((0..4u8, 0..6u64, 0..12_000i64, 0..3i64), 0..120)
        ) {
            let (mut wheel, mut model) = (TimeHashWheel::default(), Vec::<(i64, u64)>::new());
            for (operation, sequence, second, nanos) in operations {
                let time = second * TICK + nanos;
                let same = |entry: &(i64, u64)| slot_of(entry.0) == slot_of(time) && entry.1 == sequence;
                let wall = WallTime::from_unix_nanos(time);
                match operation {
                    0 | 1 => {
                        wheel.add(sequence, wall);
                        model.retain(|entry| !same(entry));
                        model.push((time, sequence));
                    }
                    2 => {
                        let there = model.iter().any(same);
                        prop_assert_eq!(wheel.remove(sequence, wall).is_ok(), there);
                        model.retain(|entry| !same(entry));
                    }
                    _ => {
                        let mut found = expired(&mut wheel, wall);
                        let due = model.extract_if(.., |entry| entry.0 <= time);
                        let mut want: Vec<u64> = due.map(|entry| entry.1).collect();
                        found.sort_unstable();
                        want.sort_unstable();
                        prop_assert_eq!(found, want);
                    }
                }
                prop_assert_eq!(wheel.len(), model.len());
                let lowest = model.iter().map(|entry| entry.0).min();
                let next = wheel.next(WallTime::from_unix_nanos(i64::MAX));
                prop_assert!(lowest.is_none_or(|lowest| next.is_some_and(|next| next.as_unix_nanos() <= lowest)));
                let (back, stamp) = TimeHashWheel::decode(&wheel.encode(sequence)).unwrap();
                prop_assert_eq!((back.len(), stamp), (wheel.len(), sequence));
            }
        }
    }
}
