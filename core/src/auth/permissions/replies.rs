//! The reply subjects that a connection may answer on, oldest first.
//!
//! Every operation takes constant time: entries are linked in the order of their leave, so that the expired are at
//! the head. At most [`Replies::MAX`] are kept; beyond that the oldest leave ends early.
//!
//! Differs: the reference looks through all entries once a second, and keeps any number of them.

use hashbrown::HashTable;
use slab::Slab;

use crate::config::ResponsePermission;
use crate::rng::HashKeys;
use crate::time::Instant;

/// See the module.
#[derive(Debug)]
pub(super) struct Replies {
    leave: ResponsePermission,
    keys: HashKeys,
    entries: Slab<Reply>,
    places: HashTable<usize>,
    oldest: Option<usize>,
    newest: Option<usize>,
}

#[derive(Debug)]
struct Reply {
    subject: Box<[u8]>,
    granted: Instant,
    used: u32,
    older: Option<usize>,
    newer: Option<usize>,
}

impl Replies {
    /// As many as a responder leaves open that answers none of five hundred requests a second for two minutes.
    pub(super) const MAX: usize = 65_536;

    pub(super) fn new(leave: ResponsePermission, keys: HashKeys) -> Replies {
        Replies { leave, keys, entries: Slab::new(), places: HashTable::new(), oldest: None, newest: None }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Gives leave to answer on `subject`, anew if it was given before.
    pub(super) fn grant(&mut self, now: Instant, subject: &[u8]) {
        self.drop_expired(now);
        if let Some(at) = self.find(subject) {
            self.unlink(at);
            self.entries[at].granted = now;
            self.entries[at].used = 0;
            self.link(at);
            return;
        }
        if self.entries.len() == Self::MAX
            && let Some(oldest) = self.oldest
        {
            self.remove(oldest);
        }
        let at = self.entries.insert(Reply {
            subject: subject.into(),
            granted: now,
            used: 0,
            older: None,
            newer: None,
        });
        self.link(at);
        let Replies { keys, entries, places, .. } = self;
        places.insert_unique(keys.hash(subject), at, |at| keys.hash(&entries[*at].subject));
    }

    /// Uses up one answer on `subject`; `false` if there is no leave for it.
    pub(super) fn take(&mut self, now: Instant, subject: &[u8]) -> bool {
        let Some(at) = self.find(subject) else { return false };
        if self.is_expired(now, at) {
            self.remove(at);
            return false;
        }
        let reply = &mut self.entries[at];
        reply.used = reply.used.saturating_add(1);
        if self.leave.max_messages.is_some_and(|max| reply.used >= max) {
            self.remove(at);
        }
        true
    }

    fn is_expired(&self, now: Instant, at: usize) -> bool {
        self.leave.expires.is_some_and(|expires| now - self.entries[at].granted > expires)
    }

    fn drop_expired(&mut self, now: Instant) {
        while let Some(at) = self.oldest
            && self.is_expired(now, at)
        {
            self.remove(at);
        }
    }

    fn find(&self, subject: &[u8]) -> Option<usize> {
        self.places.find(self.keys.hash(subject), |at| *self.entries[*at].subject == *subject).copied()
    }

    fn remove(&mut self, at: usize) {
        self.unlink(at);
        let reply = self.entries.remove(at);
        if let Ok(place) = self.places.find_entry(self.keys.hash(&reply.subject), |other| *other == at) {
            place.remove();
        }
    }

    /// Puts an entry at the newest end.
    fn link(&mut self, at: usize) {
        self.entries[at].older = self.newest;
        self.entries[at].newer = None;
        match self.newest.replace(at) {
            Some(newest) => self.entries[newest].newer = Some(at),
            None => self.oldest = Some(at),
        }
    }

    fn unlink(&mut self, at: usize) {
        let Reply { older, newer, .. } = self.entries[at];
        match older {
            Some(older) => self.entries[older].newer = newer,
            None => self.oldest = newer,
        }
        match newer {
            Some(newer) => self.entries[newer].older = older,
            None => self.newest = older,
        }
    }
}
