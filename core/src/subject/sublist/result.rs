//! What a match gives: plain subscribers in one row, the members of queue groups in another.

use std::hash::Hash;

use super::members::Members;
use crate::rng::HashKeys;

/// Everybody who is interested in one subject.
///
/// A value that was inserted under several matching subjects is here once for each: a caller who wants one copy
/// for each remote shard has to see to that. The order is a function of the operations on the sublist.
#[derive(Clone, Debug)]
pub struct MatchResult<T> {
    plain: Vec<T>,
    groups: Vec<GroupSpan>,
    names: Vec<u8>,
    members: Vec<QueueMember<T>>,
}

/// A member of a queue group, and how many subscriptions stand behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct QueueMember<T> {
    /// Who it is.
    pub value: T,
    /// Its share of the group's messages; one for a subscription, any number for a remote.
    pub weight: u32,
}

/// A queue group of a [`MatchResult`]: of each message one member gets a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueGroup<'a, T> {
    /// What the group is called.
    pub name: &'a [u8],
    /// Its members under all matching subjects; at least one.
    pub members: &'a [QueueMember<T>],
    /// The sum of the members' weights.
    pub weight: u64,
}

/// Where a group's name and members end; they begin where those of the group before it do.
#[derive(Clone, Debug)]
struct GroupSpan {
    name_end: u32,
    members_end: u32,
    weight: u64,
}

impl<T> Default for MatchResult<T> {
    fn default() -> Self {
        MatchResult { plain: Vec::new(), groups: Vec::new(), names: Vec::new(), members: Vec::new() }
    }
}

impl<T> MatchResult<T> {
    /// Returns the subscribers without a queue group.
    pub fn plain(&self) -> &[T] {
        &self.plain
    }

    /// Returns how many queue groups there are.
    pub fn queue_count(&self) -> usize {
        self.groups.len()
    }

    /// Returns one of the queue groups.
    ///
    /// # Panics
    ///
    /// If `at` is not below [`MatchResult::queue_count`].
    pub fn queue(&self, at: usize) -> QueueGroup<'_, T> {
        let (name, members) = match at.checked_sub(1) {
            Some(before) => (self.groups[before].name_end, self.groups[before].members_end),
            None => (0, 0),
        };
        let span = &self.groups[at];
        QueueGroup {
            name: &self.names[name as usize..span.name_end as usize],
            members: &self.members[members as usize..span.members_end as usize],
            weight: span.weight,
        }
    }

    /// Iterates over the queue groups.
    pub fn queues(&self) -> impl ExactSizeIterator<Item = QueueGroup<'_, T>> {
        (0..self.groups.len()).map(|at| self.queue(at))
    }

    /// Says whether nobody is interested.
    pub fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.groups.is_empty()
    }

    /// Returns how many copies of a message the result stands for: one for each plain subscriber and each group.
    pub fn fanout(&self) -> usize {
        self.plain.len() + self.groups.len()
    }

    /// Returns how many plain subscribers and how many members of groups there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.plain.len(), self.members.len())
    }

    /// Returns the bytes that its buffers hold on to.
    pub(super) fn capacity_bytes(&self) -> usize {
        self.plain.capacity() * size_of::<T>()
            + self.groups.capacity() * size_of::<GroupSpan>()
            + self.names.capacity()
            + self.members.capacity() * size_of::<QueueMember<T>>()
    }

    /// Empties the result and keeps its buffers.
    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.groups.clear();
        self.names.clear();
        self.members.clear();
    }
}

impl<T: Copy + Eq + Hash> MatchResult<T> {
    /// Replaces the result by what is at these nodes; a group found at several becomes one.
    pub(super) fn fill(&mut self, keys: &HashKeys, nodes: &[&Members<T>]) {
        self.clear();
        for (at, node) in nodes.iter().enumerate() {
            self.plain.extend(node.plain());
            for group in node.groups() {
                let name = group.name();
                if nodes[..at].iter().any(|earlier| earlier.group(keys, name).is_some()) {
                    continue;
                }
                let begin = self.members.len();
                self.members.extend_from_slice(group.members());
                for later in &nodes[at + 1..] {
                    if let Some(same) = later.group(keys, name) {
                        self.members.extend_from_slice(same.members());
                    }
                }
                self.names.extend_from_slice(name);
                self.groups.push(GroupSpan {
                    name_end: offset(self.names.len()),
                    members_end: offset(self.members.len()),
                    weight: self.members[begin..].iter().map(|member| u64::from(member.weight)).sum(),
                });
            }
        }
    }
}

fn offset(at: usize) -> u32 {
    u32::try_from(at).expect("a match result of four billion entries does not fit into memory")
}
