//! What happens when: events ordered by (virtual time, seeded tie-break).
//!
//! Nothing here knows what an event is; a world puts its own small `Copy` type on the queue and keeps whatever is
//! large (bytes, messages) beside it. Two events at the same instant come in an order that the seed chooses, so
//! that no code can come to rely on the order in which they were made.
//!
//! Whoever has one thing to do next, sooner or later, has a [`Timer`]: setting it anew takes back what it was set to
//! before, so that the queue holds no events that nobody waits for any more.
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

/// An event that is due at one moment at most, which can be changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer(u32);

/// The events to come.
#[derive(Debug)]
pub struct EventQueue<E> {
    heap: BinaryHeap<Entry<E>>,
    /// What each [`Timer`] is set to; [`UNSET`] if it isn't. There are few, so they are looked through.
    timers: Vec<Entry<E>>,
    /// The timer that is due first, unless all are unset.
    first: usize,
    now: SimTime,
    ties: u64,
    serial: u32,
}

/// The key of a timer that isn't set: behind all others.
const UNSET: u128 = u128::MAX;

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

impl<E> Entry<E> {
    fn time(&self) -> SimTime {
        SimTime((self.key >> 64) as u64)
    }
}

impl<E: Copy> EventQueue<E> {
    /// Makes an empty queue at time zero whose ties are broken by `rng`.
    pub fn new(rng: &mut Rng) -> Self {
        EventQueue {
            heap: BinaryHeap::with_capacity(1024),
            timers: Vec::new(),
            first: 0,
            now: SimTime(0),
            ties: rng.next_u64() | 1,
            serial: 0,
        }
    }

    /// Takes the next event and moves the time to it.
    pub fn pop(&mut self) -> Option<E> {
        let entry = match (self.heap.peek(), self.first_timer()) {
            (Some(event), Some(timer)) if event.key < timer.key => self.heap.pop()?,
            (Some(_), None) => self.heap.pop()?,
            (_, Some(timer)) => {
                let timer = *timer;
                self.unset(Timer(self.first as u32));
                timer
            }
            (None, None) => return None,
        };
        debug_assert!(entry.time() >= self.now, "time runs backwards");
        self.now = entry.time();
        Some(entry.event)
    }

    /// Returns when the next event is due.
    pub fn peek_time(&self) -> Option<SimTime> {
        let next = match (self.heap.peek(), self.first_timer()) {
            (Some(event), Some(timer)) => event.key.min(timer.key),
            (event, timer) => event.or(timer)?.key,
        };
        Some(SimTime((next >> 64) as u64))
    }

    /// Makes a timer for `event`, not set.
    pub fn timer(&mut self, event: E) -> Timer {
        self.timers.push(Entry { key: UNSET, event });
        Timer(self.timers.len() as u32 - 1)
    }

    /// Lets a timer's event happen at `time`, or now if that is past, and not when it would have happened before.
    pub fn set(&mut self, timer: Timer, time: SimTime) {
        let (index, key) = (timer.0 as usize, self.key(time));
        self.timers[index].key = key;
        if key < self.timers[self.first].key {
            self.first = index;
        } else if index == self.first {
            self.find_first();
        }
    }

    /// Takes back what a timer was set to.
    pub fn unset(&mut self, timer: Timer) {
        self.timers[timer.0 as usize].key = UNSET;
        if timer.0 as usize == self.first {
            self.find_first();
        }
    }

    fn first_timer(&self) -> Option<&Entry<E>> {
        self.timers.get(self.first).filter(|timer| timer.key != UNSET)
    }

    fn find_first(&mut self) {
        let keys = self.timers.iter().map(|timer| timer.key);
        self.first = keys.enumerate().min_by_key(|(_, key)| *key).map_or(0, |(index, _)| index);
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
        self.heap.len() + self.timers.iter().filter(|timer| timer.key != UNSET).count()
    }

    /// Returns whether nothing is waiting.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty() && self.first_timer().is_none()
    }

    /// Returns the key of an event that is to happen at `time`.
    fn key(&mut self, time: SimTime) -> u128 {
        self.serial = self.serial.wrapping_add(1);
        let tie = u64::from(self.tie()) << 32 | u64::from(self.serial);
        u128::from(time.max(self.now).0) << 64 | u128::from(tie)
    }

    /// Draws the next tie-break: a Weyl sequence through one round of mixing, uniform enough and nearly free.
    fn tie(&mut self) -> u32 {
        self.ties = self.ties.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.ties ^ (self.ties >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) as u32
    }
}

impl<E, O: Copy + From<E>> Schedule<E> for EventQueue<O> {
    fn now(&self) -> SimTime {
        self.now
    }

    fn at(&mut self, time: SimTime, event: E) {
        let key = self.key(time);
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
    #[test]
    fn a_timer_is_due_when_it_was_last_set_to() {
        let mut queue = EventQueue::<char>::new(&mut Rng::from_u64(1));
        let [a, b, c] = ['a', 'b', 'c'].map(|name| queue.timer(name));
        assert!(queue.is_empty());
        queue.set(a, SimTime(10));
        queue.set(b, SimTime(20));
        queue.set(c, SimTime(30));
        queue.at(SimTime(25), 'x');
        queue.set(a, SimTime(28));
        queue.set(c, SimTime(5));
        queue.unset(b);
        assert_eq!((queue.len(), queue.peek_time()), (3, Some(SimTime(5))));
        assert_eq!(queue.pop(), Some('c'));
        queue.set(c, SimTime(1));
        assert!(!queue.advance_if_idle(SimTime(6)));
        let rest: Vec<(char, u64)> =
            std::iter::from_fn(|| Some((queue.pop()?, Schedule::<char>::now(&queue).0))).collect();
        assert_eq!(rest, [('c', 5), ('x', 25), ('a', 28)]);
        assert!(queue.is_empty());
    }

    #[test]
    fn timers_and_events_at_one_moment_come_in_an_order_that_the_seed_chooses() {
        let timer_first = |seed| {
            let mut queue = EventQueue::<bool>::new(&mut Rng::from_u64(seed));
            let timer = queue.timer(true);
            queue.at(SimTime(7), false);
            queue.set(timer, SimTime(7));
            queue.pop()
        };
        let orders: Vec<_> = (0..20).map(timer_first).collect();
        assert!(orders.contains(&Some(true)) && orders.contains(&Some(false)));
    }
}
