//! What one user may publish, subscribe to and answer.
//!
//! A [`Permissions`] belongs to one connection: the subjects it may answer ([`Permissions::track_reply`]) are its own.
//!
//! Invariants: what is denied is denied whatever is allowed; every table is bounded, so that a client that tries a
//! million subjects costs no more than one that tries a thousand.
//!
//! Source: nats-server `server/client.go`, `setPermissions`, `pubAllowedFullCheck`, `canSubscribe`, `checkDenySub`,
//! `responseAllowed` and `pruneReplyPerms`.

use std::time::Duration;

use crate::config;
use crate::rng::{HashMap, Rng};
use crate::subject::{Sublist, has_wildcard, is_subset_match, subjects_collide};
use crate::time::Instant;

/// Answers that are remembered, for each kind of question.
const CACHED_ANSWERS: usize = 1024;
/// Reply subjects that may be answered at a time; the oldest are forgotten beyond it.
const TRACKED_REPLIES: usize = 64 * 1024;
/// How many new reply subjects are taken before outdated ones are looked for.
const PRUNE_REPLIES_EVERY: usize = 4096;
/// Bytes of a subject whose answer is worth remembering.
const CACHED_SUBJECT: usize = 512;

/// Whether a subscription may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscribeVerdict {
    /// No.
    Denied,
    /// Yes, and whatever it matches may be delivered.
    Allowed,
    /// Yes, but it overlaps something denied: each message is to be checked with [`Permissions::can_deliver`].
    Filtered,
}

/// Subjects with what is known of each: a sublist whose values say nothing.
type Subjects = Sublist<u32>;

/// What one connection may do.
#[derive(Debug)]
pub struct Permissions {
    publish_allow: Option<Subjects>,
    publish_deny: Option<Subjects>,
    subscribe_allow: Option<Subjects>,
    subscribe_deny: Option<Subjects>,
    /// The patterns of `subscribe_deny`.
    denied: Vec<Box<[u8]>>,
    responses: Option<Responses>,
    may_publish: HashMap<Box<[u8]>, bool>,
    may_receive: HashMap<(Box<[u8]>, Box<[u8]>), bool>,
}

/// The leave to answer requests.
#[derive(Debug)]
struct Responses {
    max_messages: Option<u32>,
    expires: Option<Duration>,
    replies: HashMap<Box<[u8]>, Reply>,
    taken_since_pruned: usize,
}

#[derive(Clone, Copy, Debug)]
struct Reply {
    since: Instant,
    answered: u32,
}

impl Permissions {
    /// Makes what `rules` say; `rng` keys the tables.
    pub fn new(rules: &config::Permissions, rng: &mut Rng) -> Self {
        let mut denied = Vec::new();
        let list = |entries: Option<&Vec<String>>, queues: bool, empty_means_all: bool, rng: &mut Rng| {
            let entries = entries.filter(|entries| !(empty_means_all && entries.is_empty()))?;
            let mut subjects = Subjects::without_cache(rng.hash_keys());
            for (value, entry) in (0..).zip(entries) {
                let (subject, queue) = split_queue(entry);
                // Loading the configuration has checked them.
                let _ = subjects.insert(subject, queue.filter(|_| queues), value, 1);
            }
            Some(subjects)
        };
        let publish = rules.publish.as_ref();
        let subscribe = rules.subscribe.as_ref();
        let publish_allow = list(publish.and_then(|rules| rules.allow.as_ref()), false, false, rng);
        let publish_deny = list(publish.and_then(|rules| rules.deny.as_ref()), false, true, rng);
        let subscribe_allow = list(subscribe.and_then(|rules| rules.allow.as_ref()), true, true, rng);
        let subscribe_deny = list(subscribe.and_then(|rules| rules.deny.as_ref()), true, true, rng);
        for entry in subscribe.and_then(|rules| rules.deny.as_ref()).into_iter().flatten() {
            denied.push(split_queue(entry).0.into());
        }
        Permissions {
            publish_allow,
            publish_deny,
            subscribe_allow,
            subscribe_deny,
            denied,
            responses: rules.responses.map(|rule| Responses {
                max_messages: rule.max_messages,
                expires: rule.expires,
                replies: HashMap::with_hasher(rng.hash_keys()),
                taken_since_pruned: 0,
            }),
            may_publish: HashMap::with_hasher(rng.hash_keys()),
            may_receive: HashMap::with_hasher(rng.hash_keys()),
        }
    }

    /// Tells whether a message may be published to `subject`; an answer that is let pass counts.
    pub fn can_publish(&mut self, subject: &[u8], now: Instant) -> bool {
        if self.publish_allow.is_none() && self.publish_deny.is_none() {
            return true;
        }
        let by_rule = match self.may_publish.get(subject) {
            Some(known) => *known,
            None => {
                let allowed = self.publish_allow.as_ref().is_none_or(|allow| allow.has_interest(subject))
                    && self.publish_deny.as_ref().is_none_or(|deny| !deny.has_interest(subject));
                if self.may_publish.len() >= CACHED_ANSWERS {
                    self.may_publish.clear();
                }
                if subject.len() <= CACHED_SUBJECT {
                    self.may_publish.insert(subject.into(), allowed);
                }
                allowed
            }
        };
        by_rule || self.responses.as_mut().is_some_and(|responses| responses.answer(subject, now))
    }

    /// Tells whether the connection may subscribe to `subject`, as a member of `queue` if it names one.
    pub fn can_subscribe(&self, subject: &[u8], queue: Option<&[u8]>) -> SubscribeVerdict {
        if let Some(allow) = &self.subscribe_allow {
            let found = allow.matching(subject);
            let allowed = match queue {
                Some(queue) if found.queue_count() > 0 => names_queue(&found, queue),
                _ => !found.plain().is_empty(),
            };
            if !allowed {
                return SubscribeVerdict::Denied;
            }
        }
        if self.is_denied(subject, queue) {
            return SubscribeVerdict::Denied;
        }
        let overlaps = (queue.is_some() || has_wildcard(subject))
            && self.denied.iter().any(|denied| subjects_collide(denied, subject));
        if overlaps { SubscribeVerdict::Filtered } else { SubscribeVerdict::Allowed }
    }

    /// Tells whether a message on `subject` may be delivered to a subscription that was [`SubscribeVerdict::Filtered`].
    pub fn can_deliver(&mut self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        let key = (Box::from(subject), Box::from(queue.unwrap_or_default()));
        if let Some(known) = self.may_receive.get(&key) {
            return *known;
        }
        let allowed = !self.is_denied(subject, queue);
        if self.may_receive.len() >= CACHED_ANSWERS {
            self.may_receive.clear();
        }
        if subject.len() <= CACHED_SUBJECT {
            self.may_receive.insert(key, allowed);
        }
        allowed
    }

    /// Notes that a request was delivered whose answer goes to `reply`.
    pub fn track_reply(&mut self, reply: &[u8], now: Instant) {
        if self.responses.is_none() || self.can_publish_by_rule(reply) {
            return;
        }
        if let Some(responses) = &mut self.responses {
            responses.take(reply, now);
        }
    }

    fn can_publish_by_rule(&self, subject: &[u8]) -> bool {
        self.publish_allow.as_ref().is_none_or(|allow| allow.has_interest(subject))
            && self.publish_deny.as_ref().is_none_or(|deny| !deny.has_interest(subject))
    }

    fn is_denied(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.subscribe_deny.as_ref().is_some_and(|deny| {
            let found = deny.matching(subject);
            !found.plain().is_empty()
                || queue.is_some_and(|queue| found.queue_count() > 0 && names_queue(&found, queue))
        })
    }
}

impl Responses {
    fn take(&mut self, reply: &[u8], now: Instant) {
        self.taken_since_pruned += 1;
        if self.taken_since_pruned > PRUNE_REPLIES_EVERY {
            self.prune(now);
        }
        if self.replies.len() >= TRACKED_REPLIES {
            self.replies.clear();
        }
        self.replies.insert(reply.into(), Reply { since: now, answered: 0 });
    }

    fn answer(&mut self, subject: &[u8], now: Instant) -> bool {
        let Some(reply) = self.replies.get_mut(subject) else { return false };
        let spent = self.max_messages.is_some_and(|max| reply.answered >= max);
        let expired = self.expires.is_some_and(|expires| now - reply.since > expires);
        if spent || expired {
            self.replies.remove(subject);
            return false;
        }
        reply.answered += 1;
        true
    }

    fn prune(&mut self, now: Instant) {
        self.taken_since_pruned = 0;
        let (max, expires) = (self.max_messages, self.expires);
        self.replies.retain(|_, reply| {
            max.is_none_or(|max| reply.answered < max)
                && expires.is_none_or(|expires| now - reply.since <= expires)
        });
    }
}

/// Cuts `subject queue` at its blank.
fn split_queue(entry: &str) -> (&[u8], Option<&[u8]>) {
    let mut words = entry.split_ascii_whitespace();
    let subject = words.next().unwrap_or_default().as_bytes();
    (subject, words.next().map(str::as_bytes))
}

fn names_queue(found: &crate::subject::MatchResult<u32>, queue: &[u8]) -> bool {
    found
        .queues()
        .any(|group| group.name == queue || has_wildcard(group.name) && is_subset_match(queue, group.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ResponsePermission, SubjectRules};

    fn rules(allow: &[&str], deny: &[&str]) -> Option<SubjectRules> {
        let list = |entries: &[&str]| {
            Some(entries.iter().map(|&entry| entry.to_owned()).collect())
                .filter(|list: &Vec<_>| !list.is_empty())
        };
        Some(SubjectRules { allow: list(allow), deny: list(deny) })
    }

    fn permissions(publish: Option<SubjectRules>, subscribe: Option<SubjectRules>) -> Permissions {
        let rules = config::Permissions { publish, subscribe, responses: None };
        Permissions::new(&rules, &mut Rng::from_u64(1))
    }

    #[test]
    fn deny_wins_over_allow_for_publishing() {
        let mut permissions = permissions(rules(&["a.>"], &["a.secret.*"]), None);
        for _ in 0..2 {
            assert!(permissions.can_publish(b"a.b", Instant::ZERO));
            assert!(!permissions.can_publish(b"a.secret.b", Instant::ZERO));
            assert!(!permissions.can_publish(b"b", Instant::ZERO));
        }
        assert!(permissions.can_subscribe(b">", None) == SubscribeVerdict::Allowed);
    }

    #[test]
    fn an_empty_allow_list_allows_no_publish() {
        let publish = Some(SubjectRules { allow: Some(Vec::new()), deny: None });
        assert!(!permissions(publish, None).can_publish(b"a", Instant::ZERO));
    }

    #[test]
    fn a_wildcard_over_something_denied_is_filtered() {
        let mut permissions = permissions(None, rules(&[], &["a.secret"]));
        assert_eq!(permissions.can_subscribe(b"a.*", None), SubscribeVerdict::Filtered);
        assert_eq!(permissions.can_subscribe(b"b.*", None), SubscribeVerdict::Allowed);
        assert_eq!(permissions.can_subscribe(b"a.secret", None), SubscribeVerdict::Denied);
        for _ in 0..2 {
            assert!(permissions.can_deliver(b"a.b", None));
            assert!(!permissions.can_deliver(b"a.secret", None));
        }
    }

    #[test]
    fn queue_names_are_part_of_the_rules() {
        let only_v1 = permissions(None, rules(&["foo v1", "bar v1.*", "bar"], &[]));
        let verdict = |subject: &str, queue: Option<&str>| {
            only_v1.can_subscribe(subject.as_bytes(), queue.map(str::as_bytes))
        };
        assert_eq!(verdict("foo", None), SubscribeVerdict::Denied);
        assert_eq!(verdict("foo", Some("v1")), SubscribeVerdict::Allowed);
        assert_eq!(verdict("foo", Some("v2")), SubscribeVerdict::Denied);
        assert_eq!(verdict("bar", None), SubscribeVerdict::Allowed);
        assert_eq!(verdict("bar", Some("v1.x")), SubscribeVerdict::Allowed);
        assert_eq!(verdict("bar", Some("v2.x")), SubscribeVerdict::Denied);
        let no_v2 = permissions(None, rules(&[], &["foo v2"]));
        assert_eq!(no_v2.can_subscribe(b"foo", Some(b"v2")), SubscribeVerdict::Denied);
        assert_ne!(no_v2.can_subscribe(b"foo", Some(b"v1")), SubscribeVerdict::Denied);
        assert_ne!(no_v2.can_subscribe(b"foo", None), SubscribeVerdict::Denied);
    }

    #[test]
    fn a_request_may_be_answered_so_often_and_so_long() {
        let responses =
            Some(ResponsePermission { max_messages: Some(2), expires: Some(Duration::from_secs(1)) });
        let rules = config::Permissions { publish: rules(&["out"], &[]), subscribe: None, responses };
        let mut permissions = Permissions::new(&rules, &mut Rng::from_u64(1));
        let now = Instant::ZERO;
        assert!(!permissions.can_publish(b"reply", now));
        permissions.track_reply(b"reply", now);
        assert!(permissions.can_publish(b"reply", now) && permissions.can_publish(b"reply", now));
        assert!(!permissions.can_publish(b"reply", now), "two answers are two");
        permissions.track_reply(b"late", now);
        assert!(!permissions.can_publish(b"late", now + Duration::from_millis(1001)));
    }
}
