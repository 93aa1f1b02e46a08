//! Subscriptions coming and going, and telling other shards of the interest that this makes.

use super::effects::Effect;
use super::{Exchange, Subscription, Target};
use crate::ids::{ConnId, ShardId};
use crate::planted::{Bug, bug};
use crate::subject::SublistError;

/// Subscriptions of closed connections that one `handle` removes.
const LEAVING_AT_ONCE: usize = 1_000;

/// What a shard tells the others that it wants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Interest {
    pub(crate) account: u32,
    pub(crate) subject: Box<[u8]>,
    pub(crate) queue: Option<Box<[u8]>>,
}

/// What came of a SUB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subscribed {
    /// It is there.
    Added,
    /// The connection has a subscription of that sid, which stays as it is.
    Repeated,
}

/// Why there is no subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubscribeError {
    /// The subject isn't one.
    InvalidSubject,
}

impl Exchange {
    /// Subscribes a connection.
    ///
    /// # Errors
    ///
    /// [`SubscribeError::InvalidSubject`]; nothing has changed then.
    pub(crate) fn subscribe(
        &mut self,
        conn: ConnId,
        sid: &[u8],
        subject: &[u8],
        queue: Option<&[u8]>,
        filtered: bool,
    ) -> Result<Subscribed, SubscribeError> {
        if self.find(conn, sid).is_some() {
            return Ok(Subscribed::Repeated);
        }
        let Some(client) = self.clients.get_mut(conn) else { return Ok(Subscribed::Repeated) };
        let account = client.account;
        let entry = self.subscriptions.vacant_entry();
        let key = u32::try_from(entry.key()).expect("a shard has fewer than 2^32 subscriptions");
        match self.accounts[account as usize].sublist.insert(subject, queue, Target::Local(key), 1) {
            Ok(_) => {}
            Err(SublistError::InvalidSubject | SublistError::NotFound) => {
                return Err(SubscribeError::InvalidSubject);
            }
        }
        entry.insert(Subscription {
            conn,
            account,
            sid: sid.into(),
            subject: subject.into(),
            queue: queue.map(Into::into),
            delivered: 0,
            max: 0,
            filtered,
        });
        let (keys, subscriptions) = (&self.sid_keys, &self.subscriptions);
        client.sids.insert_unique(keys.hash(sid), key, |&key| keys.hash(&subscriptions[key as usize].sid));
        self.tell(account, subject, queue, 1);
        Ok(Subscribed::Added)
    }

    /// Ends a subscription now, or once it has had `max` messages in all. An unknown sid is nobody's fault.
    pub(crate) fn unsubscribe(&mut self, conn: ConnId, sid: &[u8], max: Option<u64>) {
        let Some(key) = self.find(conn, sid) else { return };
        let subscription = &mut self.subscriptions[key as usize];
        match max {
            Some(max) if max > subscription.delivered => subscription.max = max,
            _ => self.remove_subscription(key),
        }
    }

    /// Returns how many subscriptions a connection has.
    pub(crate) fn subscription_count(&self, conn: ConnId) -> usize {
        self.clients.get(conn).map_or(0, |client| client.sids.len())
    }

    /// Ends all subscriptions of a connection at once, as a second CONNECT does.
    pub(crate) fn unsubscribe_all(&mut self, conn: ConnId) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let keys: Vec<u32> = client.sids.drain().collect();
        for key in keys {
            self.remove_subscription(key);
        }
    }

    /// Takes a connection out. Its subscriptions get nothing more from here on, but leave a few at a time.
    pub(crate) fn remove_connection(
        &mut self,
        conn: ConnId,
    ) -> Option<Box<crate::connection::client::Client>> {
        let mut client = self.clients.remove(conn)?;
        self.leaving.extend(client.sids.drain());
        self.remove_leaving();
        client.outbound.clear(&mut self.pool);
        Some(client)
    }

    /// Tells whether subscriptions of closed connections are still to be removed.
    pub(crate) fn is_removing(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Removes the next subscriptions of closed connections.
    pub(crate) fn remove_leaving(&mut self) {
        let keep = self.leaving.len().saturating_sub(LEAVING_AT_ONCE);
        for key in self.leaving.split_off(keep) {
            self.remove_subscription(key);
        }
    }

    /// Notes how much another shard wants of something.
    pub(crate) fn remote_interest(&mut self, from: ShardId, interest: &Interest, weight: u32) {
        let Interest { account, subject, queue } = interest;
        let sublist = &mut self.accounts[*account as usize].sublist;
        let queue = queue.as_deref();
        let target = Target::Shard(from);
        self.services.interest_changed(*account, subject);
        // The other shard has checked the subject; what fails here was withdrawn before it was told.
        let _ = match weight {
            0 => sublist.remove(subject, queue, target).map(|()| false),
            weight => sublist.insert(subject, queue, target, weight),
        };
    }

    pub(super) fn find(&self, conn: ConnId, sid: &[u8]) -> Option<u32> {
        let subscriptions = &self.subscriptions;
        let client = self.clients.get(conn)?;
        client.sids.find(self.sid_keys.hash(sid), |&key| *subscriptions[key as usize].sid == *sid).copied()
    }

    pub(super) fn remove_subscription(&mut self, key: u32) {
        let Some(subscription) = self.subscriptions.try_remove(key as usize) else { return };
        let Subscription { conn, account, sid, subject, queue, .. } = subscription;
        let removed =
            self.accounts[account as usize].sublist.remove(&subject, queue.as_deref(), Target::Local(key));
        debug_assert!(removed.is_ok(), "a subscription is in its account's sublist");
        if let Some(client) = self.clients.get_mut(conn)
            && let Ok(entry) = client.sids.find_entry(self.sid_keys.hash(&sid), |&other| other == key)
        {
            entry.remove();
        }
        self.tell(account, &subject, queue.as_deref(), -1);
    }

    /// Counts a subscription that came or went, and tells the others if that changes what they must know.
    ///
    /// Of plain interest they need to know that it is there, of a queue group how many members it has.
    pub(super) fn tell(&mut self, account: u32, subject: &[u8], queue: Option<&[u8]>, change: i32) {
        self.services.interest_changed(account, subject);
        if self.shards == 1 {
            return;
        }
        let interest = Interest { account, subject: subject.into(), queue: queue.map(Into::into) };
        let count = self.told.entry(interest.clone()).or_insert(0);
        *count = count.checked_add_signed(change).expect("what goes has come");
        let weight = *count;
        if weight == 0 {
            self.told.remove(&interest);
            if bug(Bug::InterestNeverWithdrawn) {
                return;
            }
        }
        let changed = interest.queue.is_some() || (change > 0 && weight == 1) || weight == 0;
        if changed {
            let effect = Effect::Tell(interest, weight);
            self.effects.elsewhere(effect, bug(Bug::InterestBatchedPastMessage));
        }
    }

    /// Returns how many interests the other shards were told of, and not told otherwise.
    pub(crate) fn interests_told(&self) -> usize {
        self.told.len()
    }

    /// Returns how many interests of another shard are known.
    pub(crate) fn interests_of(&self, shard: ShardId) -> usize {
        let mut count = 0;
        for space in &self.accounts {
            space.sublist.visit(|entry| {
                count += usize::from(entry.value == Target::Shard(shard));
                true
            });
        }
        count
    }
}
