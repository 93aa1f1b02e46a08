//! Results of earlier matches, by literal subject: right under churn, and warm under it.
//!
//! # Why a result that is served is the one a fresh match would give
//!
//! A match of the literal subject `s` depends on the subscriptions whose pattern `p` matches `s`, and nothing else.
//! So an entry for `s` must go when, and only when, a subscription comes, goes or changes weight whose `p` matches
//! `s`. Call a pattern's *literal prefix* its tokens before the first wildcard.
//!
//! - `p` is literal. It matches `s` exactly if `s = p`, so [`MatchCache::changed`] drops the entry of that very
//!   subject and no other.
//! - `p` has wildcards and a literal prefix of no token. A counter `all` is raised.
//! - `p` has a literal prefix of one token `a`. If `p` matches `s` then the first token of `s` is `a`. Of a fixed
//!   number of counters `by_first` the one at hash(`a`) is raised.
//! - `p` has a literal prefix of two or more tokens, `a.b.…`. If `p` matches `s` then `s` begins with `a.b.`, or is
//!   longer than both at least. Of the counters `by_second` the one at hash(`a.b`) is raised.
//!
//! An entry for `s` keeps the places of its two counters, hash(first token) and hash(first two tokens), and the sum
//! `all + by_first[i] + by_second[j]` as it was when the entry was filled. Counters only ever grow (they are 64
//! bits wide), so the sum is the same if and only if none of the three has been raised since; and by the cases
//! above any relevant change by a wildcard pattern raises one of these three. Two prefixes that share a counter
//! cost a needless match, never a wrong result. (A subject of one token has no second: it is given the place 0,
//! and no pattern with two literal tokens can match it.)
//!
//! On a hit nothing but the subject is hashed, once. And `_INBOX.x.*` coming and going raises one counter of
//! [`BY_SECOND`], so that `orders.eu.1` stays warm.
//!
//! # What isn't kept
//!
//! Most subjects are published to once: the inbox of a request, the key of a value. To keep such a result costs more than
//! to make it, as it pushes out one that was good for something, from memory that no processor cache holds. So a
//! subject that would push another out has to come twice: [`Doorkeeper`] remembers whom it sent away (as in TinyLFU,
//! Einziger, Friedman and Manes 2017). What a subject gets that isn't let in is made in one place, again and again.
//!
//! # Memory
//!
//! The table starts with [`MIN_SLOTS`] slots and doubles, while live entries are being pushed out, up to
//! [`MAX_SLOTS`]. A slot that is filled anew uses the buffers that are there, so that a thrashing cache does not
//! allocate once warm. All buffers together hold at most [`MAX_BYTES`], and one more result: beyond that the sweep
//! takes the buffers of whole slots. The result that isn't kept holds [`MAX_PASSING`] more. An account nobody publishes to has
//! no table.

use super::result::MatchResult;
use crate::planted::{self, Point};
use crate::rng::HashKeys;
use crate::subject::tokens::{SEPARATOR, is_wildcard, tokens};

const WAYS: usize = 4;
const MIN_SLOTS: usize = 16;
const MAX_SLOTS: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// What the buffers of a result that isn't kept may hold until the next, in bytes.
const MAX_PASSING: usize = 1 << 20;
const BY_FIRST: usize = 128;
const BY_SECOND: usize = 512;

/// The cache; see the module.
#[derive(Debug)]
pub(super) struct MatchCache<T> {
    keys: HashKeys,
    /// Hash of each slot's subject, beside each other so that a set is one cache line; zero for an empty slot.
    tags: Vec<u64>,
    slots: Vec<Slot<T>>,
    generations: Generations,
    /// Live entries pushed out since the table had this size.
    evictions: usize,
    /// Bytes held by the buffers of all slots.
    held: usize,
    /// Where the sweep for bytes goes on.
    hand: usize,
    /// The slot of the last hit: who publishes to one subject, again and again, isn't hashed again and again.
    last: usize,
    doorkeeper: Doorkeeper,
    /// The result of the last subject that wasn't let in.
    passing: MatchResult<T>,
}

/// Compares subjects; those of usual length without a call.
#[inline]
fn same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match one.len() {
        8..=16 => {
            one.first_chunk::<8>() == other.first_chunk::<8>()
                && one.last_chunk::<8>() == other.last_chunk::<8>()
        }
        4..=7 => {
            one.first_chunk::<4>() == other.first_chunk::<4>()
                && one.last_chunk::<4>() == other.last_chunk::<4>()
        }
        _ => one == other,
    }
}

#[derive(Debug)]
struct Slot<T> {
    subject: Vec<u8>,
    result: MatchResult<T>,
    prefix: Prefix,
    /// [`Generations::sum`] when the result was filled.
    sum: u64,
    /// Used since the search for a victim last came by.
    referenced: bool,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Slot {
            subject: Vec::new(),
            result: MatchResult::default(),
            prefix: Prefix::default(),
            sum: 0,
            referenced: false,
        }
    }
}

impl<T> Slot<T> {
    fn capacity_bytes(&self) -> usize {
        self.subject.capacity() + self.result.capacity_bytes()
    }
}

impl<T> MatchCache<T> {
    pub(super) fn new(keys: HashKeys) -> Self {
        MatchCache {
            keys,
            tags: Vec::new(),
            slots: Vec::new(),
            generations: Generations::default(),
            evictions: 0,
            held: 0,
            hand: 0,
            last: 0,
            doorkeeper: Doorkeeper::default(),
            passing: MatchResult::default(),
        }
    }

    /// Returns the result for `subject`, and whether it was there; if not, `fill` makes it.
    pub(super) fn get_or_fill(
        &mut self,
        subject: &[u8],
        fill: impl FnOnce(&mut MatchResult<T>),
    ) -> (&MatchResult<T>, bool) {
        if self.hit_again(subject) {
            self.slots[self.last].referenced = true;
            return (&self.slots[self.last].result, true);
        }
        let tag = self.tag(subject);
        let at = match self.find(tag, subject) {
            Some(at) => {
                let slot = &mut self.slots[at];
                self.last = at;
                if slot.sum == self.generations.sum(slot.prefix) && !planted::point(Point::MatchCacheForgets)
                {
                    slot.referenced = true;
                    return (&self.slots[at].result, true);
                }
                at
            }
            None if self.admits(tag) => self.claim(tag, subject),
            None => {
                if self.passing.capacity_bytes() > MAX_PASSING {
                    self.passing = MatchResult::default();
                }
                fill(&mut self.passing);
                return (&self.passing, false);
            }
        };
        let slot = &mut self.slots[at];
        let before = slot.capacity_bytes();
        if slot.subject != subject {
            slot.subject.clear();
            slot.subject.extend_from_slice(subject);
        }
        // The subject differs for a claimed slot only, but so may the table's counters after a reset.
        slot.prefix = Prefix::of_subject(&self.keys, subject);
        slot.sum = self.generations.sum(slot.prefix);
        slot.referenced = false;
        fill(&mut slot.result);
        self.tags[at] = tag;
        self.held = self.held + slot.capacity_bytes() - before;
        if self.held > MAX_BYTES {
            self.release_bytes(at);
        }
        (&self.slots[at].result, false)
    }

    /// Returns the result for `subject` if it is there and right.
    pub(super) fn peek(&self, subject: &[u8]) -> Option<&MatchResult<T>> {
        let slot = &self.slots[self.find(self.tag(subject), subject)?];
        (slot.sum == self.generations.sum(slot.prefix)).then_some(&slot.result)
    }

    /// Forgets what a change of interest in `pattern` makes wrong.
    pub(super) fn changed(&mut self, pattern: &[u8]) {
        if self.slots.is_empty() {
            return;
        }
        match Prefix::of_pattern(&self.keys, pattern) {
            Scope::Literal => {
                if let Some(at) = self.find(self.tag(pattern), pattern) {
                    self.tags[at] = 0;
                }
            }
            Scope::All => self.generations.all += 1,
            Scope::First(at) => self.generations.by_first[at] += 1,
            Scope::Second(at) => self.generations.by_second[at] += 1,
        }
    }

    /// Iterates over the results that are right.
    pub(super) fn results(&self) -> impl Iterator<Item = &MatchResult<T>> {
        self.tags
            .iter()
            .zip(&self.slots)
            .filter(|(tag, slot)| **tag != 0 && slot.sum == self.generations.sum(slot.prefix))
            .map(|(_, slot)| &slot.result)
    }

    #[cfg(test)]
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    #[cfg(test)]
    pub(super) fn held_bytes(&self) -> usize {
        assert_eq!(self.held, self.slots.iter().map(Slot::capacity_bytes).sum::<usize>());
        self.held
    }

    /// Tells whether the slot of the last hit has this subject, and its result is right.
    #[inline]
    fn hit_again(&self, subject: &[u8]) -> bool {
        let Some(slot) = self.slots.get(self.last) else { return false };
        same(&slot.subject, subject)
            && self.tags[self.last] != 0
            && slot.sum == self.generations.sum(slot.prefix)
            && !planted::point(Point::MatchCacheForgets)
    }

    fn tag(&self, subject: &[u8]) -> u64 {
        self.keys.hash(subject).max(1)
    }

    /// The slots in which the subject of this tag may be.
    fn set(&self, tag: u64) -> std::ops::Range<usize> {
        let sets = self.slots.len() / WAYS;
        let begin = (tag >> 16) as usize & sets.wrapping_sub(1);
        begin * WAYS..begin * WAYS + WAYS
    }

    fn find(&self, tag: u64, subject: &[u8]) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let set = self.set(tag);
        let tags = &self.tags[set.clone()];
        let mut ways = tags.iter().zip(set);
        ways.find(|(other, at)| **other == tag && self.slots[*at].subject == subject).map(|(_, at)| at)
    }

    /// Returns whether a subject that has no slot is to have one.
    fn admits(&mut self, tag: u64) -> bool {
        self.slots.is_empty() || self.tags[self.set(tag)].contains(&0) || self.doorkeeper.knows(tag)
    }

    /// Chooses the slot for a subject that has none: an empty one, a wrong one, or one not used lately.
    fn claim(&mut self, tag: u64, subject: &[u8]) -> usize {
        if self.slots.is_empty() {
            self.resize(MIN_SLOTS);
        } else if self.evictions > self.slots.len() / 2 && self.slots.len() < MAX_SLOTS {
            self.resize(self.slots.len() * 2);
        }
        debug_assert!(self.find(tag, subject).is_none());
        let set = self.set(tag);
        let unused = set.clone().find(|at| {
            let slot = &self.slots[*at];
            self.tags[*at] == 0 || slot.sum != self.generations.sum(slot.prefix)
        });
        if let Some(at) = unused {
            return at;
        }
        self.evictions += 1;
        // A second chance for what was hit since: a scan over subjects that never return pushes out its own.
        let start = (tag >> 8) as usize;
        let ways = (0..WAYS).map(|way| set.start + (start + way) % WAYS);
        let victim = ways.clone().find(|at| !self.slots[*at].referenced);
        if victim.is_none() {
            for at in ways {
                self.slots[at].referenced = false;
            }
        }
        victim.unwrap_or(set.start + start % WAYS)
    }

    fn resize(&mut self, size: usize) {
        if self.generations.by_first.is_empty() {
            self.generations.by_first = vec![0; BY_FIRST].into();
            self.generations.by_second = vec![0; BY_SECOND].into();
        }
        self.evictions = 0;
        let tags = std::mem::replace(&mut self.tags, vec![0; size]);
        let mut fresh = Vec::with_capacity(size);
        fresh.resize_with(size, Slot::default);
        let slots = std::mem::replace(&mut self.slots, fresh);
        self.held = 0;
        for (tag, slot) in tags.into_iter().zip(slots) {
            // Twice as many sets: each takes at most what the one it came from had, so there is room.
            if tag != 0
                && let Some(at) = self.set(tag).find(|at| self.tags[*at] == 0)
            {
                self.held += slot.capacity_bytes();
                self.tags[at] = tag;
                self.slots[at] = slot;
            }
        }
    }

    /// Takes the buffers of slots, except of `keep`, until those that are left hold little enough.
    fn release_bytes(&mut self, keep: usize) {
        for _ in 0..self.slots.len() {
            if self.held <= MAX_BYTES {
                return;
            }
            let at = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            if at != keep {
                self.held -= self.slots[at].capacity_bytes();
                self.slots[at] = Slot::default();
                self.tags[at] = 0;
            }
        }
    }
}

/// Who was sent away lately: about as many subjects as there are places.
#[derive(Debug, Default)]
struct Doorkeeper {
    /// A part of the hash of the subject that was last here, at a place of another part.
    seen: Box<[u32]>,
    /// How many it didn't know since it had so many places.
    strangers: usize,
}

impl Doorkeeper {
    /// Returns whether the subject of this tag was here before, and takes note of it.
    fn knows(&mut self, tag: u64) -> bool {
        if self.strangers >= self.seen.len() && self.seen.len() < MAX_SLOTS {
            self.seen = vec![0; (self.seen.len() * 2).max(MIN_SLOTS)].into();
            self.strangers = 0;
        }
        let place = (tag >> 40) as usize % self.seen.len();
        let is_known = std::mem::replace(&mut self.seen[place], tag as u32) == tag as u32;
        self.strangers += usize::from(!is_known);
        is_known
    }
}

/// Counters of the changes by wildcard patterns; empty until the cache has a table.
#[derive(Debug, Default)]
struct Generations {
    all: u64,
    by_first: Box<[u64]>,
    by_second: Box<[u64]>,
}

impl Generations {
    fn sum(&self, prefix: Prefix) -> u64 {
        self.all + self.by_first[usize::from(prefix.first)] + self.by_second[usize::from(prefix.second)]
    }
}

/// The places of a literal subject's two counters.
#[derive(Clone, Copy, Debug, Default)]
struct Prefix {
    first: u16,
    second: u16,
}

/// Which entries a changed pattern concerns.
enum Scope {
    Literal,
    All,
    First(usize),
    Second(usize),
}

impl Prefix {
    fn of_subject(keys: &HashKeys, subject: &[u8]) -> Prefix {
        let first = memchr::memchr(SEPARATOR, subject);
        let second = first.map(|first| {
            let rest = &subject[first + 1..];
            first + 1 + memchr::memchr(SEPARATOR, rest).unwrap_or(rest.len())
        });
        Prefix {
            first: place(keys, &subject[..first.unwrap_or(subject.len())], BY_FIRST) as u16,
            second: second.map_or(0, |end| place(keys, &subject[..end], BY_SECOND) as u16),
        }
    }

    fn of_pattern(keys: &HashKeys, pattern: &[u8]) -> Scope {
        // The length of the literal prefix in tokens, and the end of its second token at most.
        let (mut literals, mut end) = (0, 0);
        for token in tokens(pattern) {
            if is_wildcard(token) {
                return match literals {
                    0 => Scope::All,
                    1 => Scope::First(place(keys, &pattern[..end], BY_FIRST)),
                    _ => Scope::Second(place(keys, &pattern[..end], BY_SECOND)),
                };
            }
            if literals < 2 {
                end += token.len() + literals;
            }
            literals += 1;
        }
        Scope::Literal
    }
}

fn place(keys: &HashKeys, prefix: &[u8], places: usize) -> usize {
    keys.hash(prefix) as usize % places
}
