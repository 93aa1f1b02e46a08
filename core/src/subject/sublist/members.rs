//! Who subscribes at one node: plain subscribers and queue groups, in the order of the operations.

use std::hash::Hash;

use hashbrown::HashTable;

use super::QueueMember;
use crate::rng::HashKeys;
use crate::subject::trie::Payload;

/// The subscriptions of one subject.
///
/// Sixteen bytes for a value of up to eight: of a million subjects nearly all have one plain subscriber.
#[derive(Debug, Default)]
pub(super) enum Members<T> {
    /// Nobody.
    #[default]
    Empty,
    /// One plain subscriber and no queue group.
    One(T),
    /// Anything else.
    Many(Box<Many<T>>),
}

/// The subscriptions of a subject that has several.
#[derive(Debug)]
pub(super) struct Many<T> {
    plain: IndexedVec<Plain<T>>,
    groups: IndexedVec<Group<T>>,
}

/// A queue group of one subject; never empty.
#[derive(Debug)]
pub(super) struct Group<T> {
    name: Box<[u8]>,
    members: IndexedVec<QueueMember<T>>,
}

impl<T> Group<T> {
    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn members(&self) -> &[QueueMember<T>] {
        &self.members.entries
    }
}

impl<T: Copy + Eq + Hash> Payload for Members<T> {
    fn is_empty(&self) -> bool {
        matches!(self, Members::Empty)
    }
}

impl<T: Copy + Eq + Hash> Members<T> {
    /// Iterates over the plain subscribers.
    pub(super) fn plain(&self) -> impl Iterator<Item = T> {
        let (one, many): (Option<T>, &[Plain<T>]) = match self {
            Members::Empty => (None, &[]),
            Members::One(value) => (Some(*value), &[]),
            Members::Many(many) => (None, &many.plain.entries),
        };
        one.into_iter().chain(many.iter().map(|plain| plain.0))
    }

    /// Returns the queue groups.
    pub(super) fn groups(&self) -> &[Group<T>] {
        match self {
            Members::Many(many) => &many.groups.entries,
            _ => &[],
        }
    }

    /// Returns the queue group of this name.
    pub(super) fn group(&self, keys: &HashKeys, name: &[u8]) -> Option<&Group<T>> {
        match self {
            Members::Many(many) => many.groups.find(keys, name).map(|at| &many.groups.entries[at]),
            _ => None,
        }
    }

    /// Adds a plain subscriber; `false` if it was one already.
    pub(super) fn insert_plain(&mut self, keys: &HashKeys, value: T) -> bool {
        match self {
            Members::Empty => {
                *self = Members::One(value);
                true
            }
            Members::One(one) if *one == value => false,
            _ => self.many(keys).plain.insert(keys, Plain(value)),
        }
    }

    /// Adds a member to a queue group, or changes its weight if it was one already and says `false`.
    pub(super) fn insert_queue(&mut self, keys: &HashKeys, name: &[u8], member: QueueMember<T>) -> bool {
        let groups = &mut self.many(keys).groups;
        let at = match groups.find(keys, name) {
            Some(at) => at,
            None => {
                groups.insert(keys, Group { name: name.into(), members: IndexedVec::default() });
                groups.entries.len() - 1
            }
        };
        let members = &mut groups.entries[at].members;
        match members.find(keys, &member.value) {
            Some(at) => {
                members.entries[at].weight = member.weight;
                false
            }
            None => members.insert(keys, member),
        }
    }

    /// Changes the weight of a member; `false` if there is no such.
    pub(super) fn set_weight(&mut self, keys: &HashKeys, name: &[u8], member: QueueMember<T>) -> bool {
        let exists =
            self.group(keys, name).is_some_and(|group| group.members.find(keys, &member.value).is_some());
        exists && !self.insert_queue(keys, name, member)
    }

    /// Removes a plain subscriber; `false` if there is no such.
    pub(super) fn remove_plain(&mut self, keys: &HashKeys, value: T) -> bool {
        let removed = match self {
            Members::Empty => return false,
            Members::One(one) => {
                if *one != value {
                    return false;
                }
                *self = Members::Empty;
                return true;
            }
            Members::Many(many) => many.plain.remove(keys, &value).is_some(),
        };
        self.shrink();
        removed
    }

    /// Removes a member of a queue group, and the group with its last; `false` if there is no such.
    pub(super) fn remove_queue(&mut self, keys: &HashKeys, name: &[u8], value: T) -> bool {
        let Members::Many(many) = self else { return false };
        let Some(at) = many.groups.find(keys, name) else { return false };
        let members = &mut many.groups.entries[at].members;
        if members.remove(keys, &value).is_none() {
            return false;
        }
        if members.entries.is_empty() {
            many.groups.remove(keys, name);
        }
        self.shrink();
        true
    }

    fn many(&mut self, keys: &HashKeys) -> &mut Many<T> {
        if !matches!(self, Members::Many(_)) {
            let mut many = Many { plain: IndexedVec::default(), groups: IndexedVec::default() };
            if let Members::One(value) = *self {
                many.plain.insert(keys, Plain(value));
            }
            *self = Members::Many(Box::new(many));
        }
        match self {
            Members::Many(many) => many,
            _ => unreachable!("made so above"),
        }
    }

    fn shrink(&mut self) {
        if let Members::Many(many) = self
            && many.groups.entries.is_empty()
        {
            match many.plain.entries[..] {
                [] => *self = Members::Empty,
                [Plain(value)] => *self = Members::One(value),
                _ => {}
            }
        }
    }
}

/// What an [`IndexedVec`] holds.
trait Keyed {
    type Key: ?Sized + Hash + Eq;

    fn key(&self) -> &Self::Key;
}

/// A plain subscriber, its own key.
#[derive(Debug)]
struct Plain<T>(T);

impl<T: Hash + Eq> Keyed for Plain<T> {
    type Key = T;

    fn key(&self) -> &T {
        &self.0
    }
}

impl<T: Hash + Eq> Keyed for QueueMember<T> {
    type Key = T;

    fn key(&self) -> &T {
        &self.value
    }
}

impl<T> Keyed for Group<T> {
    type Key = [u8];

    fn key(&self) -> &[u8] {
        &self.name
    }
}

/// A set that iterates as fast as a slice: entries in a row, and once there are many of them their places in a
/// hash table, so that removing one of ten thousand costs what removing one of ten does.
///
/// Order: as inserted, but the last entry takes the place of one that is removed.
#[derive(Debug)]
struct IndexedVec<E> {
    entries: Vec<E>,
    /// Places of all entries by the hash of their keys; only while there are many.
    places: Option<Box<HashTable<u32>>>,
}

impl<E> Default for IndexedVec<E> {
    fn default() -> Self {
        IndexedVec { entries: Vec::new(), places: None }
    }
}

impl<E: Keyed> IndexedVec<E> {
    /// Beyond so many entries a search through all is no longer cheaper than hashing.
    const INDEX_ABOVE: usize = 16;
    /// The index goes at half of that, so that one entry coming and going doesn't rebuild it each time.
    const INDEX_BELOW: usize = 8;

    fn find(&self, keys: &HashKeys, key: &E::Key) -> Option<usize> {
        match &self.places {
            None => self.entries.iter().position(|entry| entry.key() == key),
            Some(places) => places
                .find(hash(keys, key), |at| self.entries[*at as usize].key() == key)
                .map(|at| *at as usize),
        }
    }

    /// Appends the entry; `false` if there is one with its key already, which then stays.
    fn insert(&mut self, keys: &HashKeys, entry: E) -> bool {
        if self.find(keys, entry.key()).is_some() {
            return false;
        }
        self.entries.push(entry);
        if let Some(places) = &mut self.places {
            let at = self.entries.len() - 1;
            Self::index(places, keys, &self.entries, at);
        } else if self.entries.len() > Self::INDEX_ABOVE {
            let mut places = Box::new(HashTable::with_capacity(2 * Self::INDEX_ABOVE));
            for at in 0..self.entries.len() {
                Self::index(&mut places, keys, &self.entries, at);
            }
            self.places = Some(places);
        }
        true
    }

    fn remove(&mut self, keys: &HashKeys, key: &E::Key) -> Option<E> {
        let at = self.find(keys, key)?;
        if let Some(places) = &mut self.places {
            let last = self.entries.len() - 1;
            if let Ok(place) = places.find_entry(hash(keys, key), |other| *other as usize == at) {
                place.remove();
            }
            if last != at
                && let Some(place) =
                    places.find_mut(hash(keys, self.entries[last].key()), |other| *other as usize == last)
            {
                *place = at as u32;
            }
        }
        let entry = self.entries.swap_remove(at);
        if self.entries.len() < Self::INDEX_BELOW {
            self.places = None;
        }
        Some(entry)
    }

    fn index(places: &mut HashTable<u32>, keys: &HashKeys, entries: &[E], at: usize) {
        let hash_at = |at: &u32| hash(keys, entries[*at as usize].key());
        let at = u32::try_from(at).expect("four billion subscriptions do not fit into memory");
        places.insert_unique(hash_at(&at), at, hash_at);
    }
}

fn hash<K: ?Sized + Hash>(keys: &HashKeys, key: &K) -> u64 {
    std::hash::BuildHasher::hash_one(keys, key)
}
