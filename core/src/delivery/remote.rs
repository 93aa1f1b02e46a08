//! Messages that come from other shards, and what goes back.
//!
//! What is one step in a server without shards can race here: the member that a shard picked may be gone when the
//! message arrives. Then the message goes back ([`Effect::Bounce`]) and is picked again without that shard. A request
//! that reaches nobody is answered 503 by its own shard, once every shard that it went to has said so.

use super::batch::{Batch, Delivery, Head, Request};
use super::effects::Effect;
use super::publish::{Local, OWED_LIMIT, Pick, group_named, pick};
use super::{Exchange, Target};
use crate::ids::ShardId;
use crate::planted::{Bug, bug};
use crate::time::Instant;

/// A shard is told of what it is no longer owed in strides of this many bytes: one message for many batches.
const CREDIT_STRIDE: usize = OWED_LIMIT / 8;
/// Requests to several shards at once whose answers are remembered; the oldest is forgotten, and times out.
const SHARED_REQUESTS: u64 = 1024;

/// Requests that went to several shards: how many have not said that they had nobody.
///
/// A shard that reached somebody says nothing, so an entry lives until its place is needed again.
#[derive(Debug, Default)]
pub(super) struct SharedRequests {
    next: u64,
    waiting: Vec<(u64, u32)>,
}

impl SharedRequests {
    /// Names a request that goes to `shards` shards.
    pub(super) fn start(&mut self, shards: u32) -> Request {
        self.next += 1;
        let place = (self.next % SHARED_REQUESTS) as usize;
        if place >= self.waiting.len() {
            self.waiting.resize(place + 1, (0, 0));
        }
        self.waiting[place] = (self.next, shards);
        Request::Shared(self.next)
    }

    /// Has `shards` shards answer in the place of one; returns what they are to be told.
    fn split(&mut self, request: Request, shards: u32) -> Request {
        match request {
            Request::No => Request::No,
            Request::Sole => self.start(shards),
            Request::Shared(id) => {
                if let Some((known, left)) = self.waiting.get_mut((id % SHARED_REQUESTS) as usize)
                    && *known == id
                {
                    *left += shards - 1;
                }
                request
            }
        }
    }

    /// Notes that one shard had nobody, and tells whether it was the last.
    fn unreached(&mut self, request: Request) -> bool {
        match request {
            Request::No => false,
            Request::Sole => true,
            Request::Shared(id) => match self.waiting.get_mut((id % SHARED_REQUESTS) as usize) {
                Some((known, left)) if *known == id => {
                    *left = left.saturating_sub(1);
                    *left == 0
                }
                _ => false,
            },
        }
    }
}

impl Exchange {
    /// Delivers what another shard's connections published.
    pub(crate) fn deliver_batch(&mut self, now: Instant, from: ShardId, batch: &Batch) {
        for delivery in batch.iter() {
            self.deliver_remote(now, from, &delivery);
        }
        let credit = &mut self.credit[from.index()];
        *credit += batch.weight();
        if *credit >= CREDIT_STRIDE && !bug(Bug::CreditLost) {
            let bytes = std::mem::take(credit);
            self.effects.elsewhere(Effect::Credit(from, bytes), false);
        }
    }

    fn deliver_remote(&mut self, now: Instant, from: ShardId, delivery: &Delivery<'_>) {
        let (head, message) = (delivery.head, &delivery.message);
        self.lines.prepare(message);
        let result = self.accounts[head.account as usize].sublist.matches(message.subject);
        let mut local = Local {
            clients: &mut self.clients,
            subscriptions: &mut self.subscriptions,
            pool: &mut self.pool,
            effects: &mut self.effects,
            totals: &mut self.totals,
            spent: &mut self.spent,
            services: &mut self.services,
            lines: &self.lines,
            limits: self.limits,
            now,
            message,
            origin: head.origin,
            client: delivery.client,
            hold: &mut self.hold,
            from: Some(from),
        };
        let mut reached = false;
        if head.plain {
            for target in result.plain() {
                reached |= match *target {
                    Target::Local(key) => local.deliver(key),
                    Target::Service(key) => local.serve(key),
                    Target::Shard(_) => false,
                };
            }
        }
        let mut missed: smallvec::SmallVec<[&[u8]; 4]> = smallvec::SmallVec::new();
        for name in delivery.queues() {
            let served =
                group_named(result, name).is_some_and(|group| local.deliver_to_group(&group, &mut self.rng));
            reached |= served;
            if !served || bug(Bug::BouncedTwice) {
                missed.push(name);
            }
        }
        if bug(Bug::QueueMemberLost) {
            missed.clear();
        }
        let request = if reached { Request::No } else { head.request };
        if !missed.is_empty() {
            // The shard that picked us asks on, for all groups at once: whether the publisher hears of it is decided there.
            let head = Head { plain: false, tried: head.tried | 1 << self.me.0, request, ..head };
            self.effects.bounce(from, head, (message, delivery.client), missed.iter().copied());
        } else if request != Request::No {
            self.effects.unreached(from, head, message);
        }
        self.remove_spent();
    }

    /// Picks again for messages whose queue group had nobody left on `from`.
    pub(crate) fn bounced(&mut self, now: Instant, batch: &Batch) {
        for delivery in batch.iter() {
            self.pick_again(now, &delivery);
        }
    }

    fn pick_again(&mut self, now: Instant, delivery: &Delivery<'_>) {
        let (head, message, names) = (delivery.head, &delivery.message, delivery.queues());
        self.lines.prepare(message);
        let result = self.accounts[head.account as usize].sublist.matches(message.subject);
        let mut local = Local {
            clients: &mut self.clients,
            subscriptions: &mut self.subscriptions,
            pool: &mut self.pool,
            effects: &mut self.effects,
            totals: &mut self.totals,
            spent: &mut self.spent,
            services: &mut self.services,
            lines: &self.lines,
            limits: self.limits,
            now,
            message,
            origin: head.origin,
            client: delivery.client,
            hold: &mut self.hold,
            from: None,
        };
        let mut reached = false;
        let mut picks: smallvec::SmallVec<[(ShardId, &[u8]); 4]> = smallvec::SmallVec::new();
        for name in names {
            match group_named(result, name).map(|group| pick(&group, &mut self.rng, &mut local, head.tried)) {
                Some(Pick::Delivered) => reached = true,
                Some(Pick::Shard(shard)) => picks.push((shard, name)),
                Some(Pick::Nobody) | None => {}
            }
        }
        let shards = picks.iter().fold(0u64, |mask, (shard, _)| mask | 1 << shard.0);
        // The one answer that was owed becomes one of each shard that is asked now.
        let request = match (reached, shards.count_ones()) {
            (true, _) => Request::No,
            (false, 0) => {
                self.request_unreached(head, message.subject, message.reply);
                Request::No
            }
            (false, 1) => head.request,
            (false, n) => self.requests.split(head.request, n),
        };
        for shard in (0..self.shards).map(ShardId).filter(|shard| shards & (1 << shard.0) != 0) {
            let names = picks.iter().filter(|(to, _)| *to == shard).map(|(_, name)| *name);
            let weight = self.effects.deliver(shard, Head { request, ..head }, message, names);
            self.effects.describe(delivery.client);
            self.owed[shard.index()] += weight;
        }
        self.remove_spent();
    }

    /// Takes word from another shard that requests reached nobody there.
    pub(crate) fn unreached(&mut self, batch: &Batch) {
        for delivery in batch.iter() {
            self.request_unreached(delivery.head, delivery.message.subject, delivery.message.reply);
        }
    }

    fn request_unreached(&mut self, head: Head, subject: &[u8], reply: &[u8]) {
        if self.requests.unreached(head.request) {
            self.answer_no_responders(head.origin, subject, reply);
        }
    }

    /// Notes that another shard has dealt with so many bytes.
    pub(crate) fn credited(&mut self, from: ShardId, bytes: usize) {
        let owed = &mut self.owed[from.index()];
        let before = *owed;
        *owed = owed.saturating_sub(bytes);
        if before > OWED_LIMIT / 2 && *owed <= OWED_LIMIT / 2 {
            self.effects.here(Effect::Paid(from));
        }
    }
}
