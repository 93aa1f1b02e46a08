use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::{ResponsePermission, SubjectRules};
use crate::rng::Rng;
use crate::subject::matches_literal;

fn list(entries: &[&str]) -> Option<Vec<String>> {
    Some(entries.iter().map(|&entry| entry.to_owned()).collect()).filter(|list: &Vec<_>| !list.is_empty())
}

fn rules(allow: &[&str], deny: &[&str]) -> Option<SubjectRules> {
    Some(SubjectRules { allow: list(allow), deny: list(deny) })
}

fn permissions(publish: Option<SubjectRules>, subscribe: Option<SubjectRules>) -> Permissions {
    let rules = config::Permissions { publish, subscribe, responses: None };
    Permissions::new(&rules, &mut Rng::from_u64(1))
}

fn responder(
    max_messages: Option<u32>,
    expires: Option<Duration>,
    publish: Option<SubjectRules>,
) -> Permissions {
    let responses = Some(ResponsePermission { max_messages, expires });
    Permissions::new(&config::Permissions { publish, subscribe: None, responses }, &mut Rng::from_u64(1))
}

fn verdict(permissions: &Permissions, subject: &str, queue: &str) -> SubscribeVerdict {
    permissions.can_subscribe(subject.as_bytes(), Some(queue.as_bytes()).filter(|queue| !queue.is_empty()))
}

#[test]
fn deny_wins_over_allow_for_publishing() {
    let mut permissions = permissions(rules(&["a.>"], &["a.secret.*"]), None);
    for _ in 0..2 {
        assert!(permissions.can_publish(b"a.b", Instant::ZERO));
        assert!(!permissions.can_publish(b"a.secret.b", Instant::ZERO));
        assert!(!permissions.can_publish(b"b", Instant::ZERO));
    }
    assert_eq!(verdict(&permissions, ">", ""), SubscribeVerdict::Allowed);
}

#[test]
fn deny_alone_leaves_the_rest_allowed() {
    let mut permissions = permissions(rules(&[], &["a.*"]), rules(&[], &["b"]));
    assert!(permissions.can_publish(b"a", Instant::ZERO));
    assert!(!permissions.can_publish(b"a.b", Instant::ZERO));
    assert_eq!(verdict(&permissions, "a.b", ""), SubscribeVerdict::Allowed);
    assert_eq!(verdict(&permissions, "b", ""), SubscribeVerdict::Denied);
}

#[test]
fn an_empty_list_allows_no_publish_and_every_subscription() {
    let empty = Some(SubjectRules { allow: Some(Vec::new()), deny: Some(Vec::new()) });
    let mut permissions = permissions(empty.clone(), empty);
    assert!(!permissions.can_publish(b"a", Instant::ZERO));
    assert_eq!(verdict(&permissions, "a", ""), SubscribeVerdict::Allowed);
}

#[test]
fn nothing_said_is_everything_allowed() {
    let mut permissions = permissions(None, None);
    assert!(permissions.can_publish(b"a", Instant::ZERO));
    assert_eq!(verdict(&permissions, ">", "q"), SubscribeVerdict::Allowed);
    assert!(permissions.can_deliver(b"a", None));
    assert!(!permissions.tracks_replies());
}

#[test]
fn a_subscription_lies_within_what_is_allowed() {
    let permissions = permissions(None, rules(&["foo.*", "bar.>", "baz.a"], &[]));
    for allowed in ["foo.*", "foo.a", "bar.>", "bar.*", "bar.a.b", "bar.*.>", "baz.a"] {
        assert_eq!(verdict(&permissions, allowed, ""), SubscribeVerdict::Allowed, "{allowed}");
    }
    // The reference allows the first, and with it `foo.a.b`.
    for denied in ["foo.>", ">", "*", "*.a", "foo.a.b", "bar", "baz.*", "foo"] {
        assert_eq!(verdict(&permissions, denied, ""), SubscribeVerdict::Denied, "{denied}");
    }
}

#[test]
fn a_wildcard_over_something_denied_is_filtered() {
    let mut permissions = permissions(None, rules(&[], &["a.secret", "c.*"]));
    assert_eq!(verdict(&permissions, "a.*", ""), SubscribeVerdict::Filtered);
    assert_eq!(verdict(&permissions, ">", "q"), SubscribeVerdict::Filtered);
    assert_eq!(verdict(&permissions, "b.*", ""), SubscribeVerdict::Allowed);
    assert_eq!(verdict(&permissions, "a.secret", ""), SubscribeVerdict::Denied);
    assert_eq!(verdict(&permissions, "c.*", ""), SubscribeVerdict::Denied);
    assert_eq!(verdict(&permissions, "c.>", ""), SubscribeVerdict::Denied);
    for _ in 0..2 {
        assert!(permissions.can_deliver(b"a.b", None));
        assert!(!permissions.can_deliver(b"a.secret", None));
        assert!(!permissions.can_deliver(b"c.d", Some(b"q")));
    }
}

#[test]
fn queues_are_part_of_the_rules() {
    let allowing = permissions(None, rules(&["foo v1", "bar v1.*", "bar", "baz *.dev", "any >"], &[]));
    for (subject, queue, expected) in [
        ("foo", "", false),
        ("foo", "v1", true),
        ("foo", "v2", false),
        ("bar", "", true),
        ("bar", "v1.x", true),
        ("bar", "v1.*", true),
        ("bar", "v2.x", false),
        ("baz", "x.dev", true),
        ("baz", "dev", false),
        ("any", "x.y", true),
        ("any", "", false),
        ("other", "v1", false),
    ] {
        assert_eq!(
            verdict(&allowing, subject, queue) == SubscribeVerdict::Allowed,
            expected,
            "{subject} {queue}"
        );
    }
    // Wildcard subjects and queues together.
    let wide = permissions(None, rules(&["a.* q", "b.> q.*"], &[]));
    assert_eq!(verdict(&wide, "a.*", "q"), SubscribeVerdict::Allowed);
    assert_eq!(verdict(&wide, "a.>", "q"), SubscribeVerdict::Denied);
    assert_eq!(verdict(&wide, "b.x.y", "q.z"), SubscribeVerdict::Allowed);

    let mut denying = permissions(None, rules(&[], &["foo v2", "bar prod.*", "baz *.prod"]));
    for (subject, queue, expected) in [
        ("foo", "", true),
        ("foo", "v1", true),
        ("foo", "v2", false),
        ("bar", "prod.a", false),
        ("bar", "dev.a", true),
        ("baz", "a.prod", false),
        ("baz", "a.b.prod", true),
    ] {
        assert_eq!(
            verdict(&denying, subject, queue) == SubscribeVerdict::Allowed,
            expected,
            "{subject} {queue}"
        );
    }
    assert_eq!(verdict(&denying, "*", "v2"), SubscribeVerdict::Filtered);
    for _ in 0..2 {
        assert!(!denying.can_deliver(b"foo", Some(b"v2")));
        assert!(denying.can_deliver(b"foo", Some(b"v1")));
        assert!(denying.can_deliver(b"foo", None));
        assert!(!denying.can_deliver(b"bar", Some(b"prod.x")));
    }
}

#[test]
fn queue_rules_and_plain_rules_together() {
    use SubscribeVerdict::{Allowed, Denied};
    /// Allowed, denied; subject and queue; verdict.
    type Case =
        (&'static [&'static str], &'static [&'static str], &'static str, &'static str, SubscribeVerdict);
    let cases: &[Case] = &[
        (&["foo"], &[], "foo", "", Allowed),
        (&["foo"], &[], "foo", "bar", Allowed),
        (&["foo bar"], &[], "foo", "bar", Allowed),
        (&["foo bar"], &[], "foo", "fizz", Denied),
        (&["foo bar.*"], &[], "foo", "bar.fizz", Allowed),
        (&["> bar.>"], &[], "whizz", "bar.bang", Allowed),
        (&["> bar.>"], &[], "whizz", "", Denied),
        (&["> v1.>"], &[], "foo", "v1.prod", Allowed),
        (&["foo", "foo v1"], &[], "foo", "", Allowed),
        (&["foo", "foo v1"], &[], "foo", "v2", Denied),
        (&["> *.dev", "> *.stg"], &[], "foo", "bar", Denied),
        (&[">"], &["foo"], "foo", "bar", Denied),
        (&[">"], &["foo"], "bar", "", Allowed),
        (&[">"], &[">"], "foo", "bar", Denied),
        (&[">"], &["> >"], "foo", "", Allowed),
        (&[], &["> >"], "foo", "bar", Denied),
        (&[], &["> *.dev", "> *.stg"], "foo", "bar", Allowed),
        (&[], &["> *.dev", "> *.stg"], "foo", "x.stg", Denied),
        (&[], &["foo >"], "foo", "bar", Denied),
        (&[">"], &["admin.>", "> restricted"], "admin.secret", "workers", Denied),
        (&[">"], &["admin.>", "> restricted"], "other", "restricted", Denied),
    ];
    for (allow, deny, subject, queue, expected) in cases {
        let permissions = permissions(None, rules(allow, deny));
        assert_eq!(verdict(&permissions, subject, queue), *expected, "{allow:?} {deny:?} {subject} {queue}");
    }
}

#[test]
fn what_a_wildcard_and_a_denied_subject_share_is_not_delivered() {
    for (deny, subscription, blocked, delivered) in [
        ("*.secret", "foo.*", "foo.secret", "foo.public"),
        ("foo.*.bar", "foo.baz.*", "foo.baz.bar", "foo.baz.qux"),
        ("*.*.bar", "foo.*.*", "foo.baz.bar", "foo.baz.qux"),
        ("a.>", "*.b", "a.b", "z.b"),
    ] {
        let mut permissions = permissions(None, rules(&[">"], &[deny]));
        for queue in [None, Some(b"workers".as_slice())] {
            let verdict = permissions.can_subscribe(subscription.as_bytes(), queue);
            assert_eq!(verdict, SubscribeVerdict::Filtered, "{deny} {subscription}");
            assert!(!permissions.can_deliver(blocked.as_bytes(), queue));
            assert!(permissions.can_deliver(delivered.as_bytes(), queue));
        }
    }
    for (deny, denied, allowed) in
        [("admin.secret workers", "workers", "auditors"), ("admin.secret work.*", "work.prod", "audit.prod")]
    {
        let mut permissions = permissions(None, rules(&[">"], &[deny]));
        for queue in [denied, allowed, ""] {
            assert_eq!(verdict(&permissions, "admin.*", queue), SubscribeVerdict::Filtered);
        }
        assert!(!permissions.can_deliver(b"admin.secret", Some(denied.as_bytes())));
        assert!(permissions.can_deliver(b"admin.secret", Some(allowed.as_bytes())));
        assert!(permissions.can_deliver(b"admin.secret", None));
    }
}

#[test]
fn a_queue_in_a_publish_rule_says_nothing() {
    let mut permissions = permissions(rules(&[], &["foo q"]), None);
    assert!(!permissions.can_publish(b"foo", Instant::ZERO));
}

#[test]
fn nobody_joins_the_queue_group_of_the_system() {
    assert_eq!(verdict(&permissions(None, None), "foo", "_sys_"), SubscribeVerdict::Denied);
}

#[test]
fn a_request_may_be_answered_so_often() {
    let mut permissions = responder(Some(2), None, None);
    let now = Instant::ZERO;
    assert!(permissions.tracks_replies());
    assert!(!permissions.can_publish(b"reply", now), "leave to answer is no leave to publish");
    permissions.track_reply(b"reply", now);
    permissions.track_reply(b"", now);
    assert_eq!(permissions.pending_replies(), 1);
    assert!(permissions.can_publish(b"reply", now) && permissions.can_publish(b"reply", now));
    assert!(!permissions.can_publish(b"reply", now), "two answers are two");
    assert_eq!(permissions.pending_replies(), 0);
    permissions.track_reply(b"reply", now);
    assert!(permissions.can_publish(b"reply", now));
    permissions.track_reply(b"reply", now);
    assert!(permissions.can_publish(b"reply", now) && permissions.can_publish(b"reply", now));
    assert!(!permissions.can_publish(b"reply", now), "asked again, two more and not three");
}

#[test]
fn a_request_may_be_answered_so_long() {
    let mut permissions = responder(None, Some(Duration::from_secs(1)), None);
    let at = |millis| Instant::ZERO + Duration::from_millis(millis);
    permissions.track_reply(b"early", at(0));
    permissions.track_reply(b"late", at(500));
    assert!((0..9).all(|_| permissions.can_publish(b"early", at(1000))));
    assert!(!permissions.can_publish(b"early", at(1001)));
    assert!(permissions.can_publish(b"late", at(1500)));
    permissions.track_reply(b"new", at(5000));
    assert_eq!(permissions.pending_replies(), 1, "what has expired goes when others come");
    assert!(!permissions.can_publish(b"late", at(5000)));
}

#[test]
fn what_rules_allow_needs_no_leave() {
    let mut permissions = responder(Some(1), None, rules(&["out.*"], &["out.no"]));
    let now = Instant::ZERO;
    permissions.track_reply(b"out.reply", now);
    assert_eq!(permissions.pending_replies(), 0);
    assert!((0..3).all(|_| permissions.can_publish(b"out.reply", now)));
    permissions.track_reply(b"out.no", now);
    assert!(permissions.can_publish(b"out.no", now), "leave to answer overrules deny");
    assert!(!permissions.can_publish(b"out.no", now));
}

#[test]
fn replies_are_bounded_and_the_oldest_go() {
    let mut permissions = responder(None, None, None);
    let now = Instant::ZERO;
    let reply = |number: usize| format!("r.{number}").into_bytes();
    for number in 0..Replies::MAX + 10 {
        permissions.track_reply(&reply(number), now);
    }
    assert_eq!(permissions.pending_replies(), Replies::MAX);
    assert!(!permissions.can_publish(&reply(9), now));
    assert!(permissions.can_publish(&reply(10), now));
    assert!(permissions.can_publish(&reply(Replies::MAX + 9), now));
}

#[test]
fn answers_are_bounded_and_long_subjects_are_not_kept() {
    let mut permissions = permissions(rules(&["a.*"], &[]), None);
    for number in 0..10_000 {
        assert!(permissions.can_publish(format!("a.{number}").as_bytes(), Instant::ZERO));
        assert!(!permissions.can_publish(format!("b.{number}").as_bytes(), Instant::ZERO));
    }
    assert_eq!(permissions.publish_answers.slots.len(), CACHED_ANSWERS);
    let mut answers = Answers::default();
    let keys = Rng::from_u64(1).hash_keys();
    assert!(answers.get(&keys, &[b'x'; LONGEST_CACHED + 1], None, || true));
    assert!(answers.slots.is_empty());
    assert!(answers.get(&keys, b"ab", Some(b"c"), || true));
    assert!(!answers.get(&keys, b"a", Some(b"bc"), || false), "subject and queue don't run into each other");
    assert!(answers.get(&keys, b"ab", Some(b"c"), || true));
}

fn pattern() -> impl Strategy<Value = String> {
    let token = prop_oneof![Just("a"), Just("b"), Just("*")];
    (prop::collection::vec(token, 0..3), any::<bool>()).prop_map(|(mut tokens, rest)| {
        if rest || tokens.is_empty() {
            tokens.push(">");
        }
        tokens.join(".")
    })
}

proptest! {
    /// Whatever is subscribed to: what is delivered in the end was allowed and was not denied.
    #[test]
    fn nothing_leaks(
        allow in prop::collection::vec(pattern(), 0..3),
        deny in prop::collection::vec(pattern(), 0..3),
        subscription in pattern(),
        published in prop::collection::vec("[abc](\\.[abc]){0,2}", 1..8),
    ) {
        let rules = SubjectRules { allow: Some(allow.clone()), deny: Some(deny.clone()) };
        let mut permissions = permissions(Some(rules.clone()), Some(rules));
        let verdict = permissions.can_subscribe(subscription.as_bytes(), None);
        for subject in published.iter().chain(&published).map(String::as_bytes) {
            let is_in = |list: &[String]| list.iter().any(|rule| matches_literal(subject, rule.as_bytes()));
            let may_have = (allow.is_empty() || is_in(&allow)) && !is_in(&deny);
            let delivered = matches_literal(subject, subscription.as_bytes()) && match verdict {
                SubscribeVerdict::Denied => false,
                SubscribeVerdict::Allowed => true,
                SubscribeVerdict::Filtered => permissions.can_deliver(subject, None),
            };
            prop_assert!(!delivered || may_have, "{subject:?}");
            prop_assert_eq!(permissions.can_publish(subject, Instant::ZERO), is_in(&allow) && !is_in(&deny));
        }
        if deny.is_empty() && allow.contains(&subscription) {
            prop_assert_eq!(verdict, SubscribeVerdict::Allowed);
        }
    }

    /// The table of replies against a list that is searched from its start.
    #[test]
    fn replies_are_a_list(ops in prop::collection::vec((any::<bool>(), 0..6_u8, 0..400_u64), 0..200)) {
        let leave = ResponsePermission { max_messages: Some(2), expires: Some(Duration::from_millis(1000)) };
        let mut replies = Replies::new(leave, Rng::from_u64(1).hash_keys());
        let mut model: Vec<(u8, Instant, u32)> = Vec::new();
        let mut now = Instant::ZERO;
        for (grant, subject, millis) in ops {
            now += Duration::from_millis(millis);
            model.retain(|(_, granted, used)| now - *granted <= Duration::from_millis(1000) && *used < 2);
            if grant {
                model.retain(|(other, ..)| *other != subject);
                model.push((subject, now, 0));
                replies.grant(now, &[subject]);
                prop_assert_eq!(replies.len(), model.iter().filter(|(_, _, used)| *used < 2).count());
            } else {
                let entry = model.iter_mut().find(|(other, ..)| *other == subject);
                prop_assert_eq!(replies.take(now, &[subject]), entry.is_some());
                if let Some((_, _, used)) = entry {
                    *used += 1;
                }
            }
        }
    }
}
