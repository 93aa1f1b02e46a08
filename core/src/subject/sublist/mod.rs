//! Who is interested in a subject: subscriptions by pattern, and the cached answer for each literal subject.
//!
//! A [`Sublist`] belongs to one account on one shard. Its values are small keys, each standing for a subscription
//! of a local connection or for a remote (another shard) that subscribes in the name of many.
//!
//! Invariants: `count` is the number of (subject, queue, value) triples; a match sees exactly the triples whose
//! subject matches, whatever the cache holds (the argument is in `cache.rs`); every order that can be observed is
//! a function of the operations.
//!
//! Parts: `../trie.rs` finds nodes by pattern, `members.rs` is what a node holds, `result.rs` what a match gives.
//!
//! Source: nats-server `server/sublist.go`. Differs: `reverse_match` and the counts are exact, where the
//! reference returns neighbours of what it looks for, or stops counting at the first node that matches.

mod cache;
mod members;
mod result;
mod stats;
#[cfg(test)]
mod tests;

use std::hash::Hash;

use smallvec::SmallVec;

use self::cache::MatchCache;
use self::members::Members;
pub use self::result::{MatchResult, QueueGroup, QueueMember};
pub use self::stats::SublistStats;
use crate::planted::{self, Bug};
use crate::rng::HashKeys;
use crate::subject::trie::{NodeId, NodeIds, Payload as _, Trie};
use crate::subject::validity::has_valid_shape;

/// Why a sublist did not do what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SublistError {
    /// The subject has an empty token, or `>` before its end.
    #[error("sublist: invalid subject")]
    InvalidSubject,
    /// There is no such subscription.
    #[error("sublist: no matches found")]
    NotFound,
}

/// A subscription as [`Sublist::visit`] shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SublistEntry<'a, T> {
    /// Subject, perhaps with wildcards.
    pub subject: &'a [u8],
    /// Queue group, if any.
    pub queue: Option<&'a [u8]>,
    /// Who subscribes.
    pub value: T,
    /// Its weight in the queue group; one without a group.
    pub weight: u32,
}

/// Subscriptions by subject; see the module.
#[derive(Debug)]
pub struct Sublist<T> {
    keys: HashKeys,
    trie: Trie<Members<T>>,
    /// `None` if the operator switched it off.
    cache: Option<MatchCache<T>>,
    /// Holds the result where no cache does.
    uncached: MatchResult<T>,
    count: u64,
    inserts: u64,
    removes: u64,
    matches: u64,
    cache_hits: u64,
}

impl<T: Copy + Eq + Hash> Sublist<T> {
    /// Makes an empty sublist with a match cache; `keys` key its hashes.
    pub fn new(keys: HashKeys) -> Self {
        let cache = MatchCache::new(keys.clone());
        Sublist { cache: Some(cache), ..Sublist::without_cache(keys) }
    }

    /// Makes an empty sublist that works out each match anew (`disable_sublist_cache`).
    pub fn without_cache(keys: HashKeys) -> Self {
        Sublist {
            trie: Trie::new(keys.clone()),
            keys,
            cache: None,
            uncached: MatchResult::default(),
            count: 0,
            inserts: 0,
            removes: 0,
            matches: 0,
            cache_hits: 0,
        }
    }

    /// Says whether there is a match cache.
    pub fn is_cached(&self) -> bool {
        self.cache.is_some()
    }

    /// Adds a subscription; `false` if it was there already, in which case its weight becomes `weight`.
    ///
    /// The weight means nothing without a queue group. Bytes other than `.`, and what makes wildcards, are
    /// nobody's concern here.
    ///
    /// # Errors
    ///
    /// [`SublistError::InvalidSubject`].
    pub fn insert(
        &mut self,
        subject: &[u8],
        queue: Option<&[u8]>,
        value: T,
        weight: u32,
    ) -> Result<bool, SublistError> {
        let node = self.trie.insert(subject).ok_or(SublistError::InvalidSubject)?;
        let members = self.trie.payload_mut(node);
        let inserted = match queue {
            None => members.insert_plain(&self.keys, value),
            Some(queue) => members.insert_queue(&self.keys, queue, QueueMember { value, weight }),
        };
        if inserted {
            self.count += 1;
            self.inserts += 1;
        }
        // Removals reach the cache even so, or it would name subscriptions that are gone: the bug loses messages,
        // it does not crash.
        if !planted::bug(Bug::StaleMatchCache) {
            self.interest_changed(subject);
        }
        Ok(inserted)
    }

    /// Removes a subscription.
    ///
    /// # Errors
    ///
    /// [`SublistError::InvalidSubject`], or [`SublistError::NotFound`] if there is no such.
    pub fn remove(&mut self, subject: &[u8], queue: Option<&[u8]>, value: T) -> Result<(), SublistError> {
        let node = self.find(subject)?;
        let members = self.trie.payload_mut(node);
        let removed = match queue {
            None => members.remove_plain(&self.keys, value),
            Some(queue) => members.remove_queue(&self.keys, queue, value),
        };
        if !removed {
            return Err(SublistError::NotFound);
        }
        self.trie.prune(node);
        self.count -= 1;
        self.removes += 1;
        self.interest_changed(subject);
        Ok(())
    }

    /// Removes many subscriptions, such as all those of a connection.
    ///
    /// # Errors
    ///
    /// The first that occurs; the other subscriptions are removed nevertheless.
    pub fn remove_batch<'a>(
        &mut self,
        batch: impl IntoIterator<Item = (&'a [u8], Option<&'a [u8]>, T)>,
    ) -> Result<(), SublistError> {
        batch
            .into_iter()
            .map(|(subject, queue, value)| self.remove(subject, queue, value))
            .fold(Ok(()), Result::and)
    }

    /// Changes the weight of a member of a queue group.
    ///
    /// # Errors
    ///
    /// [`SublistError::InvalidSubject`], or [`SublistError::NotFound`] if there is no such member.
    pub fn set_weight(
        &mut self,
        subject: &[u8],
        queue: &[u8],
        value: T,
        weight: u32,
    ) -> Result<(), SublistError> {
        let node = self.find(subject)?;
        if !self.trie.payload_mut(node).set_weight(&self.keys, queue, QueueMember { value, weight }) {
            return Err(SublistError::NotFound);
        }
        self.interest_changed(subject);
        Ok(())
    }

    /// Returns everybody who is interested in a literal subject; nobody if it has an empty token.
    ///
    /// A wildcard token in `subject` is only matched by a wildcard: clients may publish to such a subject.
    pub fn matches(&mut self, subject: &[u8]) -> &MatchResult<T> {
        self.matches += 1;
        let (keys, trie) = (&self.keys, &self.trie);
        let Some(cache) = &mut self.cache else {
            fill(keys, trie, subject, &mut self.uncached);
            return &self.uncached;
        };
        let (result, hit) = cache.get_or_fill(subject, |result| fill(keys, trie, subject, result));
        self.cache_hits += u64::from(hit);
        result
    }

    /// Works out what [`Sublist::matches`] would return, past cache and counters.
    pub fn matching(&self, subject: &[u8]) -> MatchResult<T> {
        let mut result = MatchResult::default();
        fill(&self.keys, &self.trie, subject, &mut result);
        result
    }

    /// Returns everybody whose subject has a literal subject in common with `subject`, which may have wildcards.
    pub fn reverse_match(&self, subject: &[u8]) -> MatchResult<T> {
        let mut found = NodeIds::new();
        self.trie.collect_colliding(subject, &mut found);
        let mut result = MatchResult::default();
        fill_from(&self.keys, &self.trie, &found, &mut result);
        result
    }

    /// Says whether anybody is interested in a literal subject; cheaper than a match, and fills no cache.
    pub fn has_interest(&mut self, subject: &[u8]) -> bool {
        match self.peek(subject) {
            Some(result) => !result.is_empty(),
            None => self.has_interest_uncached(subject),
        }
    }

    /// Works out what [`Sublist::has_interest`] would return, past cache and counters.
    pub fn has_interest_uncached(&self, subject: &[u8]) -> bool {
        self.matching_members(subject).iter().any(|members| !members.is_empty())
    }

    /// Says whether somebody subscribed to `subject` itself, wildcards being other subjects; as a member of `queue` if there
    /// is one, plainly otherwise.
    pub fn is_subscribed(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Some(node) = self.trie.find(subject) else { return false };
        let members = self.trie.payload(node);
        match queue {
            None => members.plain().next().is_some(),
            Some(queue) => members.group(&self.keys, queue).is_some_and(|group| !group.members().is_empty()),
        }
    }

    /// Returns how many plain subscribers and members of queue groups are interested in a literal subject.
    pub fn interest_counts(&mut self, subject: &[u8]) -> (usize, usize) {
        if let Some(result) = self.peek(subject) {
            return result.counts();
        }
        self.matching_members(subject).iter().fold((0, 0), |(plain, queue), members| {
            let in_groups: usize = members.groups().iter().map(|group| group.members().len()).sum();
            (plain + members.plain().count(), queue + in_groups)
        })
    }

    /// Returns the number of subscriptions.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Works out the figures for monitoring, in time proportional to the size of the cache.
    pub fn stats(&self) -> SublistStats {
        let mut stats = SublistStats {
            subscriptions: self.count,
            inserts: self.inserts,
            removes: self.removes,
            matches: self.matches,
            cache_hits: self.cache_hits,
            ..SublistStats::default()
        };
        for result in self.cache.iter().flat_map(MatchCache::results) {
            let fanout = result.fanout() as u64;
            stats.cache_entries += 1;
            stats.total_fanout += fanout;
            stats.max_fanout = stats.max_fanout.max(fanout);
        }
        stats
    }

    /// Calls `visit` with every subscription until it says `false`.
    pub fn visit(&self, mut visit: impl FnMut(SublistEntry<'_, T>) -> bool) {
        self.trie.visit(|subject, members| {
            let plain = members.plain().map(|value| SublistEntry { subject, queue: None, value, weight: 1 });
            let queued = members.groups().iter().flat_map(|group| {
                let entry = |member: &QueueMember<T>| SublistEntry {
                    subject,
                    queue: Some(group.name()),
                    value: member.value,
                    weight: member.weight,
                };
                group.members().iter().map(entry)
            });
            plain.chain(queued).all(&mut visit)
        });
    }

    fn find(&self, subject: &[u8]) -> Result<NodeId, SublistError> {
        if !has_valid_shape(subject) {
            return Err(SublistError::InvalidSubject);
        }
        self.trie.find(subject).ok_or(SublistError::NotFound)
    }

    fn interest_changed(&mut self, subject: &[u8]) {
        if let Some(cache) = &mut self.cache {
            cache.changed(subject);
        }
    }

    fn peek(&mut self, subject: &[u8]) -> Option<&MatchResult<T>> {
        let result = self.cache.as_ref()?.peek(subject)?;
        self.cache_hits += 1;
        Some(result)
    }

    fn matching_members(&self, subject: &[u8]) -> SmallVec<[&Members<T>; 16]> {
        let mut found = NodeIds::new();
        self.trie.collect_matching(subject, &mut found);
        found.iter().map(|id| self.trie.payload(*id)).collect()
    }
}

fn fill<T: Copy + Eq + Hash>(
    keys: &HashKeys,
    trie: &Trie<Members<T>>,
    subject: &[u8],
    result: &mut MatchResult<T>,
) {
    let mut found = NodeIds::new();
    trie.collect_matching(subject, &mut found);
    fill_from(keys, trie, &found, result);
}

fn fill_from<T: Copy + Eq + Hash>(
    keys: &HashKeys,
    trie: &Trie<Members<T>>,
    found: &NodeIds,
    result: &mut MatchResult<T>,
) {
    // Nodes on the way to others have nobody; what is left is few enough to ask all of them for a group.
    let members = found.iter().map(|id| trie.payload(*id)).filter(|members| !members.is_empty());
    result.fill(keys, &members.collect::<SmallVec<[_; 16]>>());
}
