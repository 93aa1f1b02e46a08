//! What happens when: events ordered by (virtual time, seeded tie-break).
//!
//! Nothing here knows what an event is; a world puts its own small `Copy` type on the queue and keeps whatever is
//! large (bytes, messages) beside it. Two events at the same instant come in an order that the seed chooses, so
//! that no code can come to rely on the order in which they were made.
//!
//! Invariant: time never runs backwards; an event asked for in the past happens now.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::ops::{Add, AddAssign, Sub};

use natrix_core::rng::Rng;

/// A point in virtual time, in nanoseconds since the world began; what no node's clock can see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(pub u64);

impl SimTime {
    /// Later than everything.
    pub const MAX: SimTime = SimTime(u64::MAX);

    /// Returns the moment `millis` milliseconds after the beginning.
    pub const fn from_millis(millis: u64) -> SimTime {
        SimTime(millis * MILLISECOND)
    }
}

/// Nanoseconds in a microsecond.
pub const MICROSECOND: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MILLISECOND: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const SECOND: u64 = 1_000_000_000;

/// Adds nanoseconds.
impl Add<u64> for SimTime {
    type Output = SimTime;

    fn add(self, nanos: u64) -> SimTime {
        SimTime(self.0.saturating_add(nanos))
    }
}

impl AddAssign<u64> for SimTime {
    fn add_assign(&mut self, nanos: u64) {
        *self = *self + nanos;
    }
}

/// The nanoseconds from `earlier` to `self`, zero if it is the later one.
impl Sub for SimTime {
    type Output = u64;

    fn sub(self, earlier: SimTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Something that takes events for later: the queue itself, or a queue of a wider type of event.
///
/// Parts of a world ([`Network`](crate::net::Network), [`Server`](crate::server::Server)) ask for this with their
/// own type of event, and the world's type says how it is made of theirs.
pub trait Schedule<E> {
    /// Returns the virtual time.
    fn now(&self) -> SimTime;

    /// Lets `event` happen at `time`, or now if that is past.
    fn at(&mut self, time: SimTime, event: E);
}

/// The events to come.
#[derive(Debug)]
pub struct EventQueue<E> {
    heap: BinaryHeap<Entry<E>>,
    /// The earliest event when it is known to be that: what is popped next skips the heap.
    now: SimTime,
    ties: u64,
    serial: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry<E> {
    /// Time, tie-break and serial number, most significant first, so that one comparison decides.
    key: u128,
    event: E,
}

impl<E> PartialEq for Entry<E> {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl<E> Eq for Entry<E> {}

impl<E> PartialOrd for Entry<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The heap is a max-heap; the earliest event is the greatest.
impl<E> Ord for Entry<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key.cmp(&self.key)
    }
}

impl<E> EventQueue<E> {
    /// Makes an empty queue at time zero whose ties are broken by `rng`.
    pub fn new(rng: &mut Rng) -> Self {
        EventQueue {
            heap: BinaryHeap::with_capacity(1024),
            now: SimTime(0),
            ties: rng.next_u64() | 1,
            serial: 0,
        }
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<E> {
        let entry = self.heap.pop()?;
        let time = SimTime((entry.key >> 64) as u64);
        debug_assert!(time >= self.now, "time runs backwards");
        self.now = time;
        Some(entry.event)
    }

    /// Returns when the next event is due.
    pub fn peek_time(&self) -> Option<SimTime> {
        self.heap.peek().map(|entry| SimTime((entry.key >> 64) as u64))
    }

    /// Moves the time to `time` if no event is due before it, and says whether it did.
    ///
    /// This is what lets a world do a next step at once that it would otherwise put on the queue only to take it
    /// off again.
    pub fn advance_if_idle(&mut self, time: SimTime) -> bool {
        let free = self.peek_time().is_none_or(|next| time < next);
        if free {
            self.now = self.now.max(time);
        }
        free
    }

    /// Returns how many events are waiting.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Returns whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Draws the next tie-break: a Weyl sequence through one round of mixing, uniform enough and nearly free.
    fn tie(&mut self) -> u32 {
        self.ties = self.ties.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.ties ^ (self.ties >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) as u32
    }
}

impl<E, O: From<E>> Schedule<E> for EventQueue<O> {
    fn now(&self) -> SimTime {
        self.now
    }

    fn at(&mut self, time: SimTime, event: E) {
        let time = time.max(self.now);
        self.serial = self.serial.wrapping_add(1);
        let tie = u64::from(self.tie()) << 32 | u64::from(self.serial);
        let key = u128::from(time.0) << 64 | u128::from(tie);
        self.heap.push(Entry { key, event: event.into() });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(seed: u64, times: &[u64]) -> Vec<(u64, usize)> {
        let mut queue = EventQueue::<usize>::new(&mut Rng::from_u64(seed));
        for (index, time) in times.iter().enumerate() {
            queue.at(SimTime(*time), index);
        }
        let mut seen = Vec::new();
        while let Some(index) = queue.pop() {
            seen.push((Schedule::<usize>::now(&queue).0, index));
        }
        seen
    }

    #[test]
    fn events_come_in_the_order_of_their_times() {
        let times: Vec<u64> = (0..200).map(|index| (index * 7919) % 101).collect();
        let seen = order(1, &times);
        assert!(seen.is_sorted_by_key(|(time, _)| *time));
        assert!(seen.iter().all(|(time, index)| times[*index] == *time));
    }

    #[test]
    fn ties_are_broken_by_the_seed_and_by_nothing_else() {
        let times = [5; 50];
        assert_eq!(order(1, &times), order(1, &times));
        assert_ne!(order(1, &times), order(2, &times));
        assert!(!order(1, &times).is_sorted_by_key(|(_, index)| *index));
    }

    #[test]
    fn what_is_asked_for_in_the_past_happens_now() {
        let mut queue = EventQueue::<u8>::new(&mut Rng::from_u64(1));
        queue.at(SimTime(10), 1);
        assert_eq!(queue.pop(), Some(1));
        queue.at(SimTime(3), 2);
        assert_eq!(queue.peek_time(), Some(SimTime(10)));
        assert!(!queue.advance_if_idle(SimTime(10)));
        assert_eq!(queue.pop(), Some(2));
        assert!(queue.advance_if_idle(SimTime(12)));
        assert_eq!(Schedule::<u8>::now(&queue), SimTime(12));
    }
}
