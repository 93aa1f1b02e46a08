//! Pull requests that wait for messages.
//!
//! Requests take turns: the one in front gets a message and goes to the back, until it has what it asked for. With
//! priorities each turn is taken among those of the lowest number, and where a client is pinned its requests stand before
//! all others. A request in one place costs no look at the others: a hundred thousand of them wait for nothing.
//!
//! # Invariants
//!
//! - Each request has one place in the order, and at most one timer, which is at or before what it really waits for.
//! - `wanted` is the sum of what requests still want.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::jetstream::api::request::PriorityRequest;
use crate::time::{Duration, Instant};

/// A pull request that waits.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// Where messages go.
    pub(super) reply: Bytes,
    /// How many messages it still wants; it gets one even if it wanted none.
    pub(super) wanted: i64,
    /// How many bytes it still takes; zero or less for no limit.
    pub(super) bytes: i64,
    /// When it ends.
    pub(super) expires: Option<Instant>,
    /// Whether it ends when there is nothing (more) to deliver.
    pub(super) no_wait: bool,
    /// How long it is silent at most; zero for as long as there is nothing.
    pub(super) heartbeat: Duration,
    /// When it is told that all is well.
    pub(super) next_heartbeat: Option<Instant>,
    /// What it says of its group, if it says anything.
    pub(super) group: Option<Box<PriorityRequest>>,
    /// How many messages it got.
    delivered: u64,
    place: Place,
    timer: Option<Instant>,
}

/// A place in the order: the lane, then the turn.
type Place = (u8, u64);

/// Names a request while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(usize);

impl Waiting {
    pub(super) fn new(reply: Bytes, wanted: i64) -> Self {
        Waiting {
            reply,
            wanted,
            bytes: 0,
            expires: None,
            no_wait: false,
            heartbeat: Duration::ZERO,
            next_heartbeat: None,
            group: None,
            delivered: 0,
            place: (0, 0),
            timer: None,
        }
    }

    /// Tells whether it ends where there is nothing to deliver: when it never wanted to wait, or has something already.
    fn ends_at_the_end(&self) -> bool {
        self.no_wait && (self.expires.is_none() || self.delivered > 0)
    }

    fn due(&self) -> Option<Instant> {
        self.expires.into_iter().chain(self.next_heartbeat).min()
    }
}

/// What became of a request that got a message.
#[derive(Clone, Debug)]
pub(super) enum Served {
    /// It wants more.
    Waits,
    /// It has what it wanted, and doesn't wait any more.
    Done(Box<Waiting>),
}

/// All requests that wait.
#[derive(Clone, Debug, Default)]
pub(super) struct WaitingRequests {
    slots: slab::Slab<Waiting>,
    order: BTreeMap<Place, Slot>,
    timers: BTreeSet<(Instant, Slot)>,
    at_the_end: BTreeSet<Slot>,
    next_turn: u64,
    wanted: i64,
}

impl WaitingRequests {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Returns how many messages all of them still want.
    pub(super) fn wanted(&self) -> i64 {
        self.wanted
    }

    /// Adds a request at the end of a lane.
    pub(super) fn add(&mut self, lane: u8, mut request: Waiting) {
        self.next_turn += 1;
        request.place = (lane, self.next_turn);
        self.wanted = self.wanted.saturating_add(request.wanted);
        let (place, due, ends) = (request.place, request.due(), request.ends_at_the_end());
        let slot = Slot(self.slots.insert(request));
        self.order.insert(place, slot);
        if ends {
            self.at_the_end.insert(slot);
        }
        self.arm(slot, due);
    }

    pub(super) fn get(&self, slot: Slot) -> Option<&Waiting> {
        self.slots.get(slot.0)
    }

    pub(super) fn get_mut(&mut self, slot: Slot) -> Option<&mut Waiting> {
        self.slots.get_mut(slot.0)
    }

    /// Returns the request whose turn it is in the first lane that has one, from `lane` on.
    pub(super) fn front(&self, lane: u8) -> Option<(u8, Slot)> {
        self.order.range((lane, 0)..).next().map(|((lane, _), slot)| (*lane, *slot))
    }

    /// Returns the request whose turn is next behind that of `slot`.
    pub(super) fn behind(&self, slot: Slot) -> Option<Slot> {
        let (lane, turn) = self.slots.get(slot.0)?.place;
        self.order.range((lane, turn + 1)..).next().map(|(_, slot)| *slot)
    }

    /// Returns all of them in the order of their turns.
    pub(super) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.order.values().copied()
    }

    /// Moves a request to the end of a lane.
    pub(super) fn move_to(&mut self, slot: Slot, lane: u8) {
        self.next_turn += 1;
        let Some(request) = self.slots.get_mut(slot.0) else { return };
        self.order.remove(&request.place);
        request.place = (lane, self.next_turn);
        self.order.insert(request.place, slot);
    }

    /// Notes that a request gets a message of `size` bytes at `now`, and that its turn is over.
    pub(super) fn served(&mut self, slot: Slot, size: i64, now: Instant) -> Served {
        let alone = self.slots.len() == 1;
        let Some(request) = self.slots.get_mut(slot.0) else { return Served::Waits };
        let before = request.wanted;
        if request.bytes > 0 {
            request.bytes -= size;
            // Nothing more would fit.
            if request.bytes <= 0 {
                request.wanted = 1;
            }
        }
        request.delivered += 1;
        request.wanted -= 1;
        self.wanted = self.wanted.saturating_sub(before).saturating_add(request.wanted);
        if request.wanted <= 0 {
            return self.remove(slot).map_or(Served::Waits, |done| Served::Done(Box::new(done)));
        }
        if request.next_heartbeat.is_some() {
            // Its timer may stay where it is: it is looked at again when it fires.
            request.next_heartbeat = Some(now + request.heartbeat);
        }
        if request.ends_at_the_end() {
            self.at_the_end.insert(slot);
        }
        let lane = request.place.0;
        if !alone {
            self.move_to(slot, lane);
        }
        Served::Waits
    }

    /// Removes a request.
    pub(super) fn remove(&mut self, slot: Slot) -> Option<Waiting> {
        let request = self.slots.try_remove(slot.0)?;
        self.order.remove(&request.place);
        self.at_the_end.remove(&slot);
        if let Some(timer) = request.timer {
            self.timers.remove(&(timer, slot));
        }
        self.wanted = self.wanted.saturating_sub(request.wanted);
        Some(request)
    }

    /// Returns a request that ends where there is nothing to deliver, if there is one.
    pub(super) fn first_at_the_end(&self) -> Option<Slot> {
        self.at_the_end.first().copied()
    }

    /// Returns a request that has expired or wants a heartbeat, if there is one; whoever is told sets its timer again by
    /// [`WaitingRequests::rearm`], or removes it.
    pub(super) fn due(&mut self, now: Instant) -> Option<Slot> {
        while let Some((timer, slot)) = self.timers.first().copied().filter(|(timer, _)| *timer <= now) {
            self.timers.remove(&(timer, slot));
            let Some(request) = self.slots.get_mut(slot.0) else { continue };
            request.timer = None;
            let due = request.due();
            if due.is_some_and(|due| due <= now) {
                return Some(slot);
            }
            self.arm(slot, due);
        }
        None
    }

    /// Sets the timer of a request for what it waits for now.
    pub(super) fn rearm(&mut self, slot: Slot) {
        let due = self.slots.get(slot.0).and_then(Waiting::due);
        self.arm(slot, due);
    }

    /// Returns when [`WaitingRequests::due`] may have something.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.timers.first().map(|(timer, _)| *timer)
    }

    fn arm(&mut self, slot: Slot, timer: Option<Instant>) {
        let (Some(request), Some(timer)) = (self.slots.get_mut(slot.0), timer) else { return };
        if let Some(old) = request.timer.replace(timer) {
            self.timers.remove(&(old, slot));
        }
        self.timers.insert((timer, slot));
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn request(name: &str, wanted: i64) -> Waiting {
        Waiting::new(Bytes::copy_from_slice(name.as_bytes()), wanted)
    }

    /// Serves as long as somebody wants something, and returns who was served.
    fn serve(requests: &mut WaitingRequests, lane: u8) -> String {
        let mut turns = Vec::new();
        while let Some((_, slot)) = requests.front(lane) {
            turns.push(String::from_utf8(requests.get(slot).unwrap().reply.to_vec()).unwrap());
            requests.served(slot, 1, Instant::ZERO);
        }
        turns.join(" ")
    }

    #[test]
    fn requests_take_turns_until_they_have_what_they_want() {
        let mut requests = WaitingRequests::default();
        for (name, wanted) in [("a", 3), ("b", 1), ("c", 2), ("d", 0)] {
            requests.add(0, request(name, wanted));
        }
        assert_eq!(requests.wanted(), 6);
        assert_eq!(serve(&mut requests, 0), "a b c d a c a");
        assert_eq!((requests.wanted(), requests.len(), requests.poll_timeout()), (0, 0, None));
    }

    #[test]
    fn lanes_come_one_after_the_other() {
        let mut requests = WaitingRequests::default();
        for (name, lane) in [("low", 9), ("high", 1), ("also", 1), ("none", 255)] {
            requests.add(lane, request(name, 2));
        }
        assert_eq!(serve(&mut requests.clone(), 2), "low low none none");
        assert_eq!(serve(&mut requests, 0), "high also high also low low none none");
    }

    #[test]
    fn bytes_end_a_request_when_they_are_used_up() {
        let mut requests = WaitingRequests::default();
        requests.add(0, Waiting { bytes: 10, ..request("a", 5) });
        let (_, slot) = requests.front(0).unwrap();
        assert!(matches!(requests.served(slot, 4, Instant::ZERO), Served::Waits));
        assert_eq!((requests.get(slot).unwrap().bytes, requests.wanted()), (6, 4));
        assert!(matches!(requests.served(slot, 6, Instant::ZERO), Served::Done(done) if done.wanted == 0));
        assert_eq!(requests.wanted(), 0);
    }

    proptest! {
        /// What is wanted is counted right, whoever comes and goes; timers fire for those that are due.
        #[test]
        fn the_sums_are_right(operations in vec((0..5u8, 0..4i64, 0..50u64), 0..200)) {
            let mut requests = WaitingRequests::default();
            for (operation, number, at) in operations {
                let now = Instant::from_nanos(at);
                let slots: Vec<_> = requests.slots().collect();
                let any = slots.get(at as usize % slots.len().max(1)).copied();
                match (operation, any) {
                    (0, _) => {
                        let expires = (at % 3 > 0).then_some(now);
                        let no_wait = at % 2 == 0;
                        requests.add(number as u8, Waiting { expires, no_wait, ..request("r", number) });
                    }
                    (1, Some(slot)) => {
                        requests.served(slot, number, now);
                    }
                    (2, Some(slot)) => {
                        requests.remove(slot);
                    }
                    (3, Some(slot)) => requests.move_to(slot, number as u8),
                    (4, _) => {
                        while let Some(slot) = requests.due(now) {
                            prop_assert!(requests.get(slot).unwrap().expires.unwrap() <= now);
                            requests.remove(slot);
                        }
                        let later = |slot| requests.get(slot).unwrap().expires.is_none_or(|expires| expires > now);
                        prop_assert!(requests.slots().all(later));
                    }
                    _ => {}
                }
                let all = || requests.slots().map(|slot| requests.get(slot).unwrap());
                prop_assert_eq!(all().count(), requests.len());
                prop_assert_eq!(all().map(|request| request.wanted).sum::<i64>(), requests.wanted());
                prop_assert_eq!(requests.poll_timeout(), all().filter_map(|request| request.expires).min());
                prop_assert_eq!(requests.first_at_the_end().is_some(), all().any(Waiting::ends_at_the_end));
            }
        }
    }
}
