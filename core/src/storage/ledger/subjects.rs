//! The subjects of a stream: each once, with how many messages it has and where the first and the last are.

use hashbrown::HashTable;

use crate::collections::SubjectTree;
use crate::rng::HashKeys;

/// Names a subject within its stream.
pub(super) type SubjectId = u32;

/// What is known of one subject.
#[derive(Clone, Debug)]
pub(super) struct Subject {
    pub(super) name: Box<[u8]>,
    pub(super) messages: u64,
    /// At or before the first message.
    pub(super) first: u64,
    /// At or behind the last message.
    pub(super) last: u64,
    /// Whether `first` is the first message's own sequence. Removing it leaves the search for the next until somebody asks.
    pub(super) first_is_exact: bool,
    /// The same of `last`.
    pub(super) last_is_exact: bool,
}

/// All subjects.
#[derive(Clone, Debug, Default)]
pub(super) struct Subjects {
    ids: SubjectTree<SubjectId>,
    known: Vec<Subject>,
    free: Vec<SubjectId>,
}

impl Subjects {
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Subjects::default();
    }

    /// Returns a number above that of every subject.
    pub(super) fn bound(&self) -> usize {
        self.known.len()
    }

    pub(super) fn find(&self, name: &[u8]) -> Option<SubjectId> {
        self.ids.get(name).copied()
    }

    pub(super) fn get(&self, id: SubjectId) -> &Subject {
        &self.known[id as usize]
    }

    pub(super) fn get_mut(&mut self, id: SubjectId) -> &mut Subject {
        &mut self.known[id as usize]
    }

    pub(super) fn ids(&self) -> &SubjectTree<SubjectId> {
        &self.ids
    }

    /// Notes a message behind all others.
    pub(super) fn appended(&mut self, name: &[u8], sequence: u64) -> SubjectId {
        if let Some(id) = self.find(name) {
            let subject = self.get_mut(id);
            subject.messages += 1;
            (subject.last, subject.last_is_exact) = (sequence, true);
            return id;
        }
        let subject = Subject {
            name: name.into(),
            messages: 1,
            first: sequence,
            last: sequence,
            first_is_exact: true,
            last_is_exact: true,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.known[id as usize] = subject;
                id
            }
            None => {
                self.known.push(subject);
                SubjectId::try_from(self.known.len() - 1).expect("2^32 subjects don't fit in memory")
            }
        };
        self.ids.insert(name, id);
        id
    }

    /// Returns the id of a subject, which has no message yet if it is new: see [`Subjects::recovered`]. It can't be asked for
    /// by its name before [`Subjects::plant`]. `guess` is looked at first: subjects often come in the same order again.
    pub(super) fn found(
        &mut self,
        name: &[u8],
        guess: SubjectId,
        ids: &mut HashTable<SubjectId>,
        keys: &HashKeys,
    ) -> SubjectId {
        let known = &mut self.known;
        if known.get(guess as usize).is_some_and(|subject| *subject.name == *name) {
            return guess;
        }
        let hash = keys.hash(name);
        if let Some(id) = ids.find(hash, |id| *known[*id as usize].name == *name) {
            return *id;
        }
        let id = SubjectId::try_from(known.len()).expect("2^32 subjects don't fit in memory");
        known.push(Subject {
            name: name.into(),
            messages: 0,
            first: u64::MAX,
            last: 0,
            first_is_exact: true,
            last_is_exact: true,
        });
        ids.insert_unique(hash, id, |id| keys.hash(&known[*id as usize].name));
        id
    }

    /// Makes the tree of all subjects that were found.
    pub(super) fn plant(&mut self) {
        for (id, subject) in self.known.iter().enumerate() {
            self.ids.insert(&subject.name, id as SubjectId);
        }
    }

    /// Notes a message anywhere.
    pub(super) fn recovered(&mut self, id: SubjectId, sequence: u64) {
        let subject = self.get_mut(id);
        subject.messages += 1;
        subject.first = subject.first.min(sequence);
        subject.last = subject.last.max(sequence);
    }

    /// Returns the lowest sequence of all, if all are exact.
    pub(super) fn lowest(&self) -> Option<u64> {
        let named = self.known.iter().filter(|subject| subject.messages > 0);
        named.map(|subject| subject.first).min()
    }

    /// Notes that a message is gone; a subject without messages goes with it.
    pub(super) fn removed(&mut self, id: SubjectId, sequence: u64) {
        let subject = &mut self.known[id as usize];
        subject.messages -= 1;
        match subject.messages {
            0 => {
                let name = std::mem::take(&mut subject.name);
                self.ids.remove(&name);
                self.free.push(id);
            }
            // Of two messages the one that is left is at the other end.
            1 if subject.first_is_exact && subject.last_is_exact && sequence == subject.first => {
                subject.first = subject.last;
            }
            1 if subject.first_is_exact && subject.last_is_exact && sequence == subject.last => {
                subject.last = subject.first;
            }
            _ => {
                if sequence == subject.first {
                    (subject.first, subject.first_is_exact) = (sequence + 1, false);
                }
                if sequence == subject.last {
                    (subject.last, subject.last_is_exact) = (sequence - 1, false);
                }
            }
        }
    }
}
