//! What one connection may publish, subscribe to and be sent.
//!
//! [`PermissionSet`] is a user's rules made searchable; it never changes and connections of one user may share it.
//! [`Permissions`] is a connection's use of it: answers that were given before, and the reply subjects that the
//! connection was asked on and so may publish to.
//!
//! # Rules
//!
//! Publishing: a subject must match `allow`, unless there is none, and must not match `deny`. With leave to answer
//! (`allow_responses`) `allow` is empty where nothing else is said, and what a rule forbids is still allowed on a
//! reply subject that was delivered to the connection, so often and for so long as the leave goes.
//!
//! Subscribing: the same, with patterns, and rules may name a queue. A rule with a queue says nothing about plain
//! subscriptions; when a queue subscription's subject is in such rules, one of them must name its queue, exactly
//! or by wildcards, whatever rules without a queue say. A subscription with wildcards may be wider than `deny`: it
//! is allowed, and each of its messages is checked ([`SubscribeVerdict::Filtered`]).
//!
//! Invariants: a cached answer is the one the rules give (they don't change; answers that depend on a leave to
//! reply are not cached); at most 128 answers of each kind and 65,536 reply subjects are kept.
//!
//! Source: nats-server `server/client.go`: `setPermissions`, `pubAllowedFullCheck`, `canSubscribe`,
//! `loadMsgDenyFilter`, `checkDenySub`, `responseAllowed`, `deliverMsg`; `server/auth.go`,
//! `validateResponsePermissions`.
//!
//! Differs: the reference takes `foo.>` for a subject that `allow: foo.*` matches, and so delivers `foo.a.b` to who
//! may only have `foo.*`; here a subscription must lie within the rule. Where the reference counts the second
//! delivery with the same reply subject as an answer, it renews the leave here: each request may be answered.

mod replies;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use self::replies::Replies;
use crate::config;
use crate::rng::{HashKeys, Rng};
use crate::subject::{
    MatchResult, Sublist, has_wildcard, is_subset_match, is_valid_subject, subjects_collide,
};
use crate::time::Instant;

/// The queue group that no client may join, not even one without permissions: the server's own services are in it.
pub const SYSTEM_QUEUE_GROUP: &[u8] = b"_sys_";

/// How many answers a connection remembers for publishing, and again for delivery.
const CACHED_ANSWERS: usize = 128;
/// Answers about longer subjects are worked out anew: nobody sends those often, and memory is the peer's to fill.
const LONGEST_CACHED: usize = 256;

/// Whether a subscription is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeVerdict {
    /// It is, and so is all that it delivers.
    Allowed,
    /// It is, but some of what it matches is denied: ask [`Permissions::can_deliver`] for each message.
    Filtered,
    /// It is not.
    Denied,
}

/// The rules of one user, ready to be asked.
#[derive(Debug)]
pub struct PermissionSet {
    keys: HashKeys,
    publish: Rules,
    subscribe: Rules,
    responses: Option<config::ResponsePermission>,
}

/// One side of a [`PermissionSet`]; each value is the place of its pattern in `patterns`.
#[derive(Debug)]
struct Rules {
    /// `None` allows everything.
    allow: Option<RuleList>,
    deny: Option<RuleList>,
}

#[derive(Debug)]
struct RuleList {
    sublist: Sublist<u32>,
    /// The subjects, in the order of the configuration.
    subjects: Vec<Box<[u8]>>,
}

impl RuleList {
    /// Entries that are no `subject` or `subject queue` are left out: the configuration has refused them.
    fn new(rules: &[String], with_queues: bool, keys: &HashKeys) -> RuleList {
        let mut list = RuleList { sublist: Sublist::without_cache(keys.clone()), subjects: Vec::new() };
        for rule in rules {
            let mut fields = rule.split_ascii_whitespace();
            let (Some(subject), queue, None) = (fields.next(), fields.next(), fields.next()) else {
                continue;
            };
            let queue = queue.map(str::as_bytes);
            if !is_valid_subject(subject.as_bytes()) || queue.is_some_and(|queue| !is_valid_subject(queue)) {
                continue;
            }
            // A queue means nothing for publishing; a rule that names one holds for the subject.
            let queue = queue.filter(|_| with_queues);
            let place = list.subjects.len() as u32;
            if list.sublist.insert(subject.as_bytes(), queue, place, 1).is_ok() {
                list.subjects.push(subject.as_bytes().into());
            }
        }
        list
    }

    /// Returns the rules that `subject`, perhaps a pattern, matches as if its wildcards were ordinary tokens.
    fn touched_by(&self, subject: &[u8]) -> MatchResult<u32> {
        self.sublist.matching(subject)
    }

    /// Says whether all of `subject` is in a rule among `places`.
    fn contains(&self, mut places: impl Iterator<Item = u32>, subject: &[u8]) -> bool {
        places.any(|place| is_subset_match(subject, &self.subjects[place as usize]))
    }

    fn collides(&self, subject: &[u8]) -> bool {
        self.subjects.iter().any(|rule| subjects_collide(rule, subject))
    }
}

impl PermissionSet {
    /// Makes the rules of a user searchable; `keys` key its hashes.
    pub fn new(permissions: &config::Permissions, keys: &HashKeys) -> PermissionSet {
        let rules = |rules: Option<&config::SubjectRules>, with_queues| {
            let list = |rules: &[String]| RuleList::new(rules, with_queues, keys);
            // An empty list of what may be subscribed to allows everything, one of what may be published nothing:
            // the reference asks the one for its length, and the other for being there.
            let allow = rules.and_then(|rules| rules.allow.as_deref());
            let allow = allow.filter(|allow| !with_queues || !allow.is_empty()).map(list);
            let deny =
                rules.and_then(|rules| rules.deny.as_deref()).filter(|deny| !deny.is_empty()).map(list);
            Rules { allow, deny }
        };
        let mut publish = rules(permissions.publish.as_ref(), false);
        if permissions.responses.is_some() && publish.allow.is_none() {
            publish.allow = Some(RuleList::new(&[], false, keys));
        }
        PermissionSet {
            keys: keys.clone(),
            publish,
            subscribe: rules(permissions.subscribe.as_ref(), true),
            responses: permissions.responses,
        }
    }

    /// Says whether the rules, without any leave to answer, allow publishing to `subject`.
    fn allows_publish(&self, subject: &[u8]) -> bool {
        let matches = |list: &RuleList| list.sublist.has_interest_uncached(subject);
        self.publish.allow.as_ref().is_none_or(matches) && !self.publish.deny.as_ref().is_some_and(matches)
    }

    fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        if let Some(allow) = &self.subscribe.allow {
            let touched = allow.touched_by(subject);
            let named = |name: &[u8]| queue.is_some_and(|queue| queue_matches(queue, name));
            let in_group = |group: &crate::subject::QueueGroup<'_, u32>| {
                allow.contains(group.members.iter().map(|member| member.value), subject)
            };
            let mut groups = touched.queues().filter(in_group).peekable();
            let allowed = if queue.is_some() && groups.peek().is_some() {
                groups.any(|group| named(group.name))
            } else {
                allow.contains(touched.plain().iter().copied(), subject)
            };
            if !allowed {
                return SubscribeVerdict::Denied;
            }
        }
        let Some(deny) = &self.subscribe.deny else { return SubscribeVerdict::Allowed };
        // Unlike `allow`, what merely touches a rule is denied: `foo.>` under `deny: foo.*`, as in the reference.
        if is_denied(&deny.touched_by(subject), queue) {
            return SubscribeVerdict::Denied;
        }
        if has_wildcard(subject) && deny.collides(subject) {
            return SubscribeVerdict::Filtered;
        }
        SubscribeVerdict::Allowed
    }

    fn allows_delivery(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.subscribe.deny.as_ref().is_none_or(|deny| !is_denied(&deny.touched_by(subject), queue))
    }
}

fn is_denied(touched: &MatchResult<u32>, queue: Option<&[u8]>) -> bool {
    let named = |queue| touched.queues().any(|group| queue_matches(queue, group.name));
    !touched.plain().is_empty() || queue.is_some_and(named)
}

/// Says whether a rule's queue is, or stands for, a subscription's.
///
/// A queue may be called `v1.*`, so names are compared before wildcards are looked at.
fn queue_matches(queue: &[u8], rule: &[u8]) -> bool {
    queue == rule || (has_wildcard(rule) && is_subset_match(queue, rule))
}

/// A connection's permissions; see the module.
#[derive(Debug)]
pub struct Permissions {
    rules: Arc<PermissionSet>,
    publish_answers: Answers,
    delivery_answers: Answers,
    /// Only where there is leave to answer.
    replies: Option<Box<Replies>>,
}

impl Permissions {
    /// Makes the permissions of one connection from those of its user; `rng` keys the tables.
    pub fn new(permissions: &config::Permissions, rng: &mut Rng) -> Permissions {
        Self::from_set(Arc::new(PermissionSet::new(permissions, &rng.hash_keys())))
    }

    /// Makes the permissions of one more connection of a user.
    pub fn from_set(rules: Arc<PermissionSet>) -> Permissions {
        let replies = rules.responses.map(|leave| Box::new(Replies::new(leave, rules.keys.clone())));
        Permissions {
            rules,
            publish_answers: Answers::default(),
            delivery_answers: Answers::default(),
            replies,
        }
    }

    /// Says whether the connection may publish to `subject`; uses up one answer if it needs leave for that.
    pub fn can_publish(&mut self, subject: &[u8], now: Instant) -> bool {
        self.may_publish_anyway(subject)
            || self.replies.as_mut().is_some_and(|replies| replies.take(now, subject))
    }

    /// Says whether a subscription may be made, and with what reservation.
    pub fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        let queue = queue.filter(|queue| !queue.is_empty());
        if queue == Some(SYSTEM_QUEUE_GROUP) {
            return SubscribeVerdict::Denied;
        }
        self.rules.can_subscribe(subject, queue)
    }

    /// Says whether a message may be delivered through a subscription with
    /// [`SubscribeVerdict::Filtered`].
    pub fn can_deliver(&mut self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let Permissions { rules, delivery_answers, .. } = self;
        let queue = queue.filter(|queue| !queue.is_empty());
        delivery_answers.get(&rules.keys, subject, queue, || rules.allows_delivery(subject, queue))
    }

    /// Takes note that a message with this reply subject was delivered to the connection.
    pub fn track_reply(&mut self, reply: &[u8], now: Instant) {
        if self.replies.is_none() || reply.is_empty() || self.may_publish_anyway(reply) {
            return;
        }
        if let Some(replies) = &mut self.replies {
            replies.grant(now, reply);
        }
    }

    /// Says whether [`Permissions::track_reply`] needs to be told at all.
    pub fn tracks_replies(&self) -> bool {
        self.replies.is_some()
    }

    /// Returns how many reply subjects the connection may answer on.
    pub fn pending_replies(&self) -> usize {
        self.replies.as_ref().map_or(0, |replies| replies.len())
    }

    fn may_publish_anyway(&mut self, subject: &[u8]) -> bool {
        let Permissions { rules, publish_answers, .. } = self;
        if rules.publish.allow.is_none() && rules.publish.deny.is_none() {
            return true;
        }
        publish_answers.get(&rules.keys, subject, None, || rules.allows_publish(subject))
    }
}

/// Answers given before, by subject and queue: each hash has one place, and the latest stays.
#[derive(Debug, Default)]
struct Answers {
    /// Empty, or a power of two up to [`CACHED_ANSWERS`]: a connection that asks little has little.
    slots: Vec<Answer>,
    /// Answers that took another's place since the table had this size.
    replaced: usize,
}

#[derive(Clone, Debug, Default)]
struct Answer {
    /// Subject and queue, one behind the other; empty for no answer.
    question: Vec<u8>,
    subject_len: usize,
    answer: bool,
}

impl Answers {
    const SMALLEST: usize = 8;

    fn get(
        &mut self,
        keys: &HashKeys,
        subject: &[u8],
        queue: Option<&[u8]>,
        work_out: impl FnOnce() -> bool,
    ) -> bool {
        let queue = queue.unwrap_or_default();
        if subject.is_empty() || subject.len() + queue.len() > LONGEST_CACHED {
            return work_out();
        }
        if self.slots.is_empty() {
            self.slots.resize(Self::SMALLEST, Answer::default());
        } else if self.replaced > self.slots.len() && self.slots.len() < CACHED_ANSWERS {
            // What was known is worked out again, at most five times in a connection's life.
            let larger = self.slots.len() * 2;
            *self = Answers { slots: vec![Answer::default(); larger], replaced: 0 };
        }
        let mut hash = keys.hash(subject);
        if !queue.is_empty() {
            hash ^= keys.hash(queue).rotate_left(32);
        }
        let place = hash as usize & (self.slots.len() - 1);
        let slot = &mut self.slots[place];
        let is_it = slot.subject_len == subject.len()
            && slot.question.starts_with(subject)
            && slot.question[subject.len()..] == *queue;
        if is_it {
            return slot.answer;
        }
        self.replaced += usize::from(!slot.question.is_empty());
        slot.question.clear();
        slot.question.extend_from_slice(subject);
        slot.question.extend_from_slice(queue);
        slot.subject_len = subject.len();
        slot.answer = work_out();
        slot.answer
    }
}
