use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::subject::{matches_literal, subjects_collide};

type List = Sublist<u32>;
type Named<'a> = (&'a [u8], Option<&'a [u8]>, u32);

fn cached() -> List {
    Sublist::new(Rng::from_u64(1).hash_keys())
}

fn uncached() -> List {
    Sublist::without_cache(Rng::from_u64(1).hash_keys())
}

/// Runs a test on both kinds of sublist; each match in it is asked twice, so that the cache answers as well.
fn on_both(test: impl Fn(&mut List)) {
    test(&mut cached());
    test(&mut uncached());
}

fn add(list: &mut List, subject: &str, value: u32) {
    assert_eq!(list.insert(subject.as_bytes(), None, value, 1), Ok(true), "{subject}");
}

fn add_to_queue(list: &mut List, subject: &str, queue: &str, value: u32, weight: u32) {
    assert_eq!(list.insert(subject.as_bytes(), Some(queue.as_bytes()), value, weight), Ok(true), "{subject}");
}

fn take(list: &mut List, subject: &str, value: u32) -> Result<(), SublistError> {
    list.remove(subject.as_bytes(), None, value)
}

fn take_from_queue(list: &mut List, subject: &str, queue: &str, value: u32) {
    assert_eq!(list.remove(subject.as_bytes(), Some(queue.as_bytes()), value), Ok(()));
}

/// The plain subscribers, sorted.
fn plain(list: &mut List, subject: &str) -> Vec<u32> {
    let once = show(list.matches(subject.as_bytes()));
    let twice = show(list.matches(subject.as_bytes()));
    assert_eq!(once, twice);
    assert_eq!(list.has_interest(subject.as_bytes()), !(once.0.is_empty() && once.1.is_empty()));
    assert_eq!(list.interest_counts(subject.as_bytes()), (once.0.len(), once.1.values().map(Vec::len).sum()));
    once.0
}

/// Members and weights of each queue group, sorted.
fn queues(list: &mut List, subject: &str) -> BTreeMap<String, Vec<(u32, u32)>> {
    plain(list, subject);
    show(list.matches(subject.as_bytes())).1
}

type Shown = (Vec<u32>, BTreeMap<String, Vec<(u32, u32)>>);

fn show(result: &MatchResult<u32>) -> Shown {
    let mut plain = result.plain().to_vec();
    plain.sort_unstable();
    let mut groups = BTreeMap::new();
    for group in result.queues() {
        let mut members: Vec<_> = group.members.iter().map(|member| (member.value, member.weight)).collect();
        assert!(!members.is_empty());
        assert_eq!(group.weight, members.iter().map(|(_, weight)| u64::from(*weight)).sum::<u64>());
        members.sort_unstable();
        let name = String::from_utf8(group.name.to_vec()).unwrap();
        assert_eq!(groups.insert(name, members), None, "a group is there once");
    }
    assert_eq!(result.queue_count(), groups.len());
    assert_eq!(result.fanout(), plain.len() + groups.len());
    assert_eq!(result.is_empty(), result.fanout() == 0);
    (plain, groups)
}

#[test]
fn a_new_one_is_empty() {
    on_both(|list| {
        assert_eq!(list.count(), 0);
        assert!(plain(list, "foo").is_empty() && queues(list, "bar").is_empty());
    });
    assert!(cached().is_cached() && !uncached().is_cached());
}

#[test]
fn subscriptions_are_counted() {
    on_both(|list| {
        add(list, "foo", 1);
        add(list, "bar", 2);
        add(list, "foo.bar", 3);
        assert_eq!(list.count(), 3);
        assert_eq!(list.insert(b"foo", None, 1, 1), Ok(false), "the same again is nothing new");
        assert_eq!(list.count(), 3);
    });
}

#[test]
fn literals_match_themselves() {
    on_both(|list| {
        add(list, "foo", 1);
        add(list, "foo.bar.baz", 2);
        assert_eq!(plain(list, "foo"), [1]);
        assert_eq!(plain(list, "foo.bar.baz"), [2]);
        assert!(plain(list, "foo.bar").is_empty());
        assert!(plain(list, "foo.bar.baz.x").is_empty());
    });
}

#[test]
fn wildcards_match_one_token_or_the_rest() {
    on_both(|list| {
        add(list, "a.b.c", 1);
        add(list, "a.*.c", 2);
        add(list, "a.b.*", 3);
        add(list, "a.>", 4);
        assert_eq!(plain(list, "a.b.c"), [1, 2, 3, 4]);
        assert_eq!(plain(list, "a.x.c"), [2, 4]);
        assert_eq!(plain(list, "a.b.x"), [3, 4]);
        assert_eq!(plain(list, "a.b"), [4]);
        assert!(plain(list, "a").is_empty());
        // Who publishes to wildcards reaches those who subscribe to wildcards.
        assert_eq!(plain(list, "a.>"), [4]);
        assert_eq!(plain(list, "a.*.c"), [2, 4]);
    });
}

#[test]
fn wildcard_bytes_within_a_token_are_literal() {
    on_both(|list| {
        for (value, subject) in ["foo.*-", "foo.>-"].into_iter().enumerate() {
            let value = value as u32;
            add(list, subject, value);
            assert!(plain(list, "foo.bar").is_empty());
            assert_eq!(plain(list, subject), [value]);
            assert_eq!(take(list, "foo.bar", value), Err(SublistError::NotFound));
            assert_eq!(list.count(), 1);
            assert_eq!(take(list, subject, value), Ok(()));
            assert_eq!(list.count(), 0);
        }
    });
}

#[test]
fn a_longer_subject_does_not_match_a_shorter_subscription() {
    on_both(|list| {
        add(list, "foo", 1);
        assert_eq!(plain(list, "foo"), [1]);
        assert!(plain(list, "foo.bar").is_empty());
    });
}

#[test]
fn removal_takes_what_it_names() {
    on_both(|list| {
        add(list, "a.b.c.d", 1);
        assert_eq!(plain(list, "a.b.c.d"), [1]);
        assert_eq!(take(list, "a.b.c", 1), Err(SublistError::NotFound));
        assert_eq!(take(list, "a.b.c.d", 2), Err(SublistError::NotFound));
        assert_eq!(list.remove(b"a.b.c.d", Some(b"q"), 1), Err(SublistError::NotFound));
        assert_eq!((list.count(), plain(list, "a.b.c.d")), (1, vec![1]));
        assert_eq!(take(list, "a.b.c.d", 1), Ok(()));
        assert_eq!((list.count(), plain(list, "a.b.c.d")), (0, vec![]));

        add(list, "a.b.c.d", 1);
        add(list, "a.b.*.d", 2);
        add(list, "a.b.>", 3);
        assert_eq!(plain(list, "a.b.c.d"), [1, 2, 3]);
        take(list, "a.b.c.d", 1).unwrap();
        assert_eq!((list.count(), plain(list, "a.b.c.d")), (2, vec![2, 3]));
        take(list, "a.b.>", 3).unwrap();
        assert_eq!((list.count(), plain(list, "a.b.c.d")), (1, vec![2]));
        take(list, "a.b.*.d", 2).unwrap();
        assert_eq!((list.count(), plain(list, "a.b.c.d")), (0, vec![]));
    });
}

#[test]
fn removal_leaves_no_node_behind() {
    on_both(|list| {
        for subject in ["a.b.c.d.e.f", "a.b.*.d.e.>"] {
            add(list, subject, 1);
            assert_eq!(list.trie.node_count(), 6);
            take(list, subject, 1).unwrap();
            assert_eq!(list.trie.node_count(), 0);
        }
        add(list, "a.b.c", 1);
        add(list, "a.x", 2);
        take(list, "a.b.c", 1).unwrap();
        assert_eq!(list.trie.node_count(), 2);
    });
}

#[test]
fn many_subscribers_of_one_subject() {
    on_both(|list| {
        for value in 0..10_000 {
            add(list, "foo", value);
            add_to_queue(list, "bar", &format!("q{}", value % 50), value, 1);
        }
        let all = list.matches(b"foo").plain().to_vec();
        assert_eq!(all.len(), 10_000);
        for value in [all[5000], all[0], all[9999]] {
            take(list, "foo", value).unwrap();
            assert_eq!(take(list, "foo", value), Err(SublistError::NotFound));
        }
        assert_eq!(plain(list, "foo").len(), 9_997);
        assert_eq!(queues(list, "bar").len(), 50);
        for value in 0..10_000 {
            let _ = take(list, "foo", value);
            take_from_queue(list, "bar", &format!("q{}", value % 50), value);
        }
        assert_eq!((list.count(), list.trie.node_count()), (0, 0));
        assert!(plain(list, "foo").is_empty() && queues(list, "bar").is_empty());
    });
}

#[test]
fn invalid_subjects_are_refused_and_leave_nothing() {
    on_both(|list| {
        for bad in ["", ".", ".foo", "foo.", "foo..bar", "foo.bar..baz", "foo.>.bar", "a.b..d", "a.>.b"] {
            assert_eq!(list.insert(bad.as_bytes(), None, 1, 1), Err(SublistError::InvalidSubject), "{bad}");
            assert_eq!(take(list, bad, 1), Err(SublistError::InvalidSubject), "{bad}");
            assert_eq!(
                list.set_weight(bad.as_bytes(), b"q", 1, 1),
                Err(SublistError::InvalidSubject),
                "{bad}"
            );
        }
        assert_eq!((list.count(), list.trie.node_count()), (0, 0));
    });
    assert_eq!(SublistError::InvalidSubject.to_string(), "sublist: invalid subject");
    assert_eq!(SublistError::NotFound.to_string(), "sublist: no matches found");
}

#[test]
fn nobody_is_interested_in_empty_tokens() {
    on_both(|list| {
        add(list, ">", 1);
        add_to_queue(list, ">", "queue", 2, 1);
        add(list, "foo.*", 3);
        for subject in [".foo", "..foo", "foo..", "foo.", "foo..bar", "foo...bar", "", "."] {
            assert!(plain(list, subject).is_empty() && queues(list, subject).is_empty(), "{subject}");
        }
        assert_eq!(plain(list, "foo"), [1]);
    });
}

#[test]
fn a_batch_goes_as_far_as_it_can() {
    on_both(|list| {
        for (value, subject) in ["foo", "bar", "baz"].into_iter().enumerate() {
            add(list, subject, value as u32);
            plain(list, subject);
        }
        let was_cached = list.is_cached();
        let batch: [Named<'_>; 3] = [(b"not.there", None, 9), (b"foo", None, 0), (b"baz", None, 2)];
        assert_eq!(list.remove_batch(batch), Err(SublistError::NotFound));
        assert_eq!(list.count(), 1);
        assert_eq!(plain(list, "bar"), [1]);
        assert!(plain(list, "foo").is_empty() && plain(list, "baz").is_empty());
        assert_eq!(list.is_cached(), was_cached);
        assert_eq!(list.remove_batch([]), Ok(()));
    });
}

#[test]
fn queue_groups_are_kept_apart() {
    on_both(|list| {
        add_to_queue(list, "foo", "bar", 1, 1);
        assert_eq!(queues(list, "foo"), [("bar".into(), vec![(1, 1)])].into());
        add_to_queue(list, "foo", "baz", 2, 1);
        add(list, "foo", 1);
        add_to_queue(list, "foo", "bar", 3, 1);
        add_to_queue(list, "foo", "baz", 4, 1);
        assert_eq!(plain(list, "foo"), [1]);
        let both = [("bar".into(), vec![(1, 1), (3, 1)]), ("baz".into(), vec![(2, 1), (4, 1)])];
        assert_eq!(queues(list, "foo"), both.into());
        take(list, "foo", 1).unwrap();
        take_from_queue(list, "foo", "bar", 1);
        assert!(plain(list, "foo").is_empty());
        assert_eq!(queues(list, "foo")["bar"], [(3, 1)]);
        take_from_queue(list, "foo", "bar", 3);
        assert_eq!(queues(list, "foo"), [("baz".into(), vec![(2, 1), (4, 1)])].into());
        take_from_queue(list, "foo", "baz", 2);
        take_from_queue(list, "foo", "baz", 4);
        assert!(queues(list, "foo").is_empty());
        assert_eq!(list.trie.node_count(), 0);
    });
}

#[test]
fn a_group_under_several_subjects_is_one_group() {
    on_both(|list| {
        add_to_queue(list, "foo.*", "workers", 1, 1);
        add_to_queue(list, "foo.bar", "workers", 2, 1);
        add_to_queue(list, "foo.>", "others", 3, 1);
        add_to_queue(list, ">", "workers", 4, 7);
        let expected = [("others".into(), vec![(3, 1)]), ("workers".into(), vec![(1, 1), (2, 1), (4, 7)])];
        assert_eq!(queues(list, "foo.bar"), expected.into());
        assert_eq!(queues(list, "foo.baz")["workers"], [(1, 1), (4, 7)]);
    });
}

#[test]
fn a_remote_member_has_the_weight_of_many() {
    on_both(|list| {
        add_to_queue(list, "foo", "bar", 1, 1);
        add_to_queue(list, "foo", "bar", 2, 1);
        add_to_queue(list, "foo", "bar", 100, 10);
        add_to_queue(list, "foo", "bar", 101, 10);
        assert_eq!(list.count(), 4);
        assert!(plain(list, "foo").is_empty());
        assert_eq!(list.matches(b"foo").queue(0).weight, 22);
        take_from_queue(list, "foo", "bar", 1);
        take_from_queue(list, "foo", "bar", 100);
        assert_eq!(list.count(), 2);
        assert_eq!(list.matches(b"foo").queue(0).weight, 11);
        list.set_weight(b"foo", b"bar", 101, 1).unwrap();
        assert_eq!(list.matches(b"foo").queue(0).weight, 2);
        assert_eq!(list.insert(b"foo", Some(b"bar"), 101, 5), Ok(false));
        assert_eq!(queues(list, "foo")["bar"], [(2, 1), (101, 5)]);
        for (subject, queue, value) in [("foo", "bar", 7), ("foo", "baz", 2), ("nope", "bar", 2)] {
            let changed = list.set_weight(subject.as_bytes(), queue.as_bytes(), value, 3);
            assert_eq!(changed, Err(SublistError::NotFound));
        }
    });
}

#[test]
fn interest_without_a_match() {
    on_both(|list| {
        let mut check = |subject: &str, queue: Option<&[u8]>, yes: &[&str], no: &[&str]| {
            list.insert(subject.as_bytes(), queue, 1, 1).unwrap();
            for (expected, subjects) in [(true, yes), (false, no)] {
                for asked in subjects {
                    // Once past the cache, then with the result in it.
                    assert_eq!(list.has_interest(asked.as_bytes()), expected, "{subject} {asked}");
                    plain(list, asked);
                }
            }
            list.remove(subject.as_bytes(), queue, 1).unwrap();
            for asked in yes {
                assert!(!list.has_interest(asked.as_bytes()), "{subject} gone, {asked}");
                assert_eq!(list.interest_counts(asked.as_bytes()), (0, 0));
            }
        };
        for queue in [None, Some(b"bar".as_slice())] {
            check("foo", queue, &["foo"], &["bar", "foo.bar"]);
            check("foo.*", queue, &["foo.bar"], &["foo", "foo.bar.baz"]);
            check("foo.>", queue, &["foo.bar", "foo.bar.baz"], &["foo"]);
            check("*.>", queue, &["foo.bar", "foo.baz"], &["foo"]);
            check("*.bar", queue, &["foo.bar"], &["foo", "foo.baz"]);
            check("*", queue, &["foo"], &["foo.bar"]);
        }
        add(list, "stream.A.child", 1);
        add(list, "stream.*", 2);
        assert!(list.has_interest(b"stream.A.child") && list.has_interest(b"stream.A"));
        add_to_queue(list, "stream.>", "q", 3, 5);
        add_to_queue(list, "stream.*", "q", 4, 5);
        assert_eq!(list.interest_counts(b"stream.A"), (1, 2));
    });
}

#[test]
fn a_subscription_is_found_under_its_very_subject() {
    on_both(|list| {
        add(list, "foo.*", 1);
        add(list, "foo.bar", 2);
        add_to_queue(list, "foo.baz", "workers", 3, 1);
        let asked = |subject: &str, queue: Option<&[u8]>| list.is_subscribed(subject.as_bytes(), queue);
        assert!(asked("foo.bar", None) && asked("foo.*", None) && asked("foo.baz", Some(b"workers")));
        assert!(!asked("foo.baz", None) && !asked("foo.bar", Some(b"workers")));
        assert!(!asked("foo.baz", Some(b"others")) && !asked("foo.qux", None) && !asked("foo", None));
    });
}

#[test]
fn questions_are_answered_from_the_cache_and_do_not_fill_it() {
    let mut list = cached();
    add(&mut list, "foo", 1);
    assert!(list.has_interest(b"foo") && !list.has_interest(b"bar"));
    assert_eq!(list.stats().cache_hits, 0);
    list.matches(b"foo");
    for hits in 1..=5 {
        assert!(list.has_interest(b"foo"));
        assert_eq!(list.stats().cache_hits, hits);
    }
    list.matches(b"bar");
    assert_eq!(list.interest_counts(b"bar"), (0, 0));
    assert_eq!(list.stats().cache_hits, 6, "that nobody is interested is known as well");
}

#[test]
fn figures() {
    let mut sum = SublistStats::default();
    for subject in ["foo", "bar"] {
        let mut list = cached();
        add(&mut list, subject, 1);
        for _ in 0..4 {
            list.matches(subject.as_bytes());
        }
        assert!((list.stats().cache_hit_rate() - 0.75).abs() < 1e-9);
        sum.merge(&list.stats());
    }
    assert!((sum.cache_hit_rate() - 0.75).abs() < 1e-9);
    assert_eq!((sum.subscriptions, sum.matches, sum.cache_hits, sum.cache_entries), (2, 8, 6, 2));

    let mut list = cached();
    add(&mut list, "a.*", 1);
    add(&mut list, "a.b", 2);
    add_to_queue(&mut list, "a.b", "q", 3, 1);
    add_to_queue(&mut list, "a.b", "q", 4, 1);
    take(&mut list, "a.b", 2).unwrap();
    for subject in ["a.b", "a.c", "x"] {
        list.matches(subject.as_bytes());
    }
    let stats = list.stats();
    assert_eq!((stats.subscriptions, stats.inserts, stats.removes), (3, 4, 1));
    assert_eq!((stats.cache_entries, stats.max_fanout, stats.total_fanout), (3, 2, 3));
    assert!((stats.average_fanout() - 1.0).abs() < 1e-9);

    let mut list = uncached();
    add(&mut list, "foo", 1);
    list.matches(b"foo");
    let stats = list.stats();
    assert_eq!((stats.cache_entries, stats.matches, stats.cache_hits), (0, 1, 0));
    assert!(stats.average_fanout().abs() < 1e-9 && stats.cache_hit_rate().abs() < 1e-9);
}

#[test]
fn all_are_visited() {
    on_both(|list| {
        add(list, "foo.bar.baz", 1);
        add(list, "foo", 2);
        add(list, "*.>", 3);
        add(list, "baz", 4);
        add(list, "baz", 5);
        add_to_queue(list, "baz", "q", 4, 9);
        let mut seen = BTreeSet::new();
        list.visit(|entry| {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            seen.insert((text(entry.subject), entry.queue.map(text), entry.value, entry.weight))
        });
        let expected = [
            ("*.>", None, 3, 1),
            ("baz", None, 4, 1),
            ("baz", None, 5, 1),
            ("baz", Some("q"), 4, 9),
            ("foo", None, 2, 1),
            ("foo.bar.baz", None, 1, 1),
        ];
        let expected = expected.map(|(subject, queue, value, weight)| {
            (subject.to_owned(), queue.map(str::to_owned), value, weight)
        });
        assert_eq!(seen, expected.into());
        let mut first = 0;
        list.visit(|_| {
            first += 1;
            first < 2
        });
        assert_eq!(first, 2, "told to stop, it stops");
    });
}

#[test]
fn reverse_matches() {
    let mut list = cached();
    for (value, subject) in ["foo", "bar", "foo.bar", "foo.baz", "foo.bar.baz"].into_iter().enumerate() {
        add(&mut list, subject, value as u32);
    }
    let reverse = |list: &List, subject: &str| show(&list.reverse_match(subject.as_bytes())).0;
    for (subject, expected) in [
        ("foo", &[0][..]),
        ("bar", &[1]),
        ("*", &[0, 1]),
        ("baz", &[]),
        ("foo.*", &[2, 3]),
        ("*.*", &[2, 3]),
        ("*.bar", &[2]),
        ("*.baz", &[3]),
        ("bar.*", &[]),
        ("*.bat", &[]),
        ("foo.>", &[2, 3, 4]),
        (">", &[0, 1, 2, 3, 4]),
        ("foo..", &[]),
    ] {
        assert_eq!(reverse(&list, subject), expected, "{subject}");
    }
    let mut list = cached();
    add(&mut list, "uplink.*.*.>", 1);
    assert_eq!(reverse(&list, "uplink.1.*.*.>"), [1]);
    assert_eq!(reverse(&list, "uplink.1.2.3.>"), [1]);
    // Neighbours of a match that don't match themselves.
    add(&mut list, "a.>", 2);
    add(&mut list, "a.b", 3);
    add_to_queue(&mut list, "a.*", "q", 4, 1);
    assert_eq!(reverse(&list, "a.c"), [2]);
    assert_eq!(show(&list.reverse_match(b"a.c")).1["q"], [(4, 1)]);
}

#[test]
fn the_cache_follows_what_comes_and_goes() {
    let mut list = cached();
    add(&mut list, "a.b.c.d", 1);
    assert_eq!(plain(&mut list, "a.b.c.d"), [1]);
    add(&mut list, "a.b.*.d", 2);
    add(&mut list, "a.b.>", 3);
    assert_eq!(plain(&mut list, "a.b.c.d"), [1, 2, 3]);
    take(&mut list, "a.b.c.d", 1).unwrap();
    take(&mut list, "a.b.>", 3).unwrap();
    take(&mut list, "a.b.*.d", 2).unwrap();
    assert_eq!(list.stats().cache_entries, 0);
    assert!(plain(&mut list, "a.b.c.d").is_empty());
    for (value, pattern) in ["foo.*", "foo.bar", "foo.>", "*.bar", ">", "*.*"].into_iter().enumerate() {
        add(&mut list, pattern, value as u32);
        assert_eq!(plain(&mut list, "foo.bar"), (0..=value as u32).collect::<Vec<_>>());
    }
}

#[test]
fn the_cache_is_bounded() {
    let mut list = cached();
    assert_eq!(list.cache.as_ref().unwrap().slot_count(), 0, "an idle account has no table");
    add(&mut list, "foo-7", 1);
    for number in 0..20_000 {
        list.matches(format!("foo-{number}").as_bytes());
    }
    let slots = |list: &List| list.cache.as_ref().unwrap().slot_count();
    assert_eq!(slots(&list), 16, "subjects that don't return need no room");
    for _ in 0..3 {
        for number in 0..20_000 {
            list.matches(format!("foo-{number}").as_bytes());
            list.matches(format!("foo-{number}").as_bytes());
        }
    }
    assert_eq!(slots(&list), 4096);
    assert!(list.stats().cache_entries <= 4096);

    // Results of 2,000 subscribers each: the bytes are bounded before the slots are.
    let mut list = cached();
    for value in 0..2000 {
        add(&mut list, "a.>", value);
    }
    for number in 0..5000 {
        // The second time it is let in.
        for _ in 0..2 {
            assert_eq!(list.matches(format!("a.{number}").as_bytes()).plain().len(), 2000);
        }
    }
    let held = list.cache.as_ref().unwrap().held_bytes();
    assert!((4 << 20..9 << 20).contains(&held), "{held}");
}

#[test]
fn subjects_that_return_are_let_in() {
    for subjects in [10, 100, 1000] {
        let mut list = cached();
        add(&mut list, "reply.>", 1);
        let mut pass = || {
            let before = list.stats_hits();
            for number in 0..subjects {
                assert_eq!(list.matches(format!("reply.{number}").as_bytes()).plain(), [1]);
            }
            list.stats_hits() - before
        };
        let hits: Vec<u64> = (0..16).map(|_| pass()).collect();
        assert!(hits[0] == 0 && hits[15] * 10 >= subjects * 9, "{subjects}: {hits:?}");
    }
}

#[test]
fn what_is_used_stays_warm_under_a_scan() {
    let mut list = cached();
    add(&mut list, "hot.>", 1);
    let mut hits = 0;
    for number in 0..50_000 {
        let before = list.stats_hits();
        list.matches(b"hot.one");
        hits += list.stats_hits() - before;
        list.matches(format!("cold.{number}").as_bytes());
    }
    assert!(hits > 49_900, "{hits}");
}

#[test]
fn churn_elsewhere_leaves_a_subject_warm() {
    let mut list = cached();
    add(&mut list, "orders.eu.*", 1);
    list.matches(b"orders.eu.1");
    let before = list.stats_hits();
    for number in 0..1000_u32 {
        for subject in
            [format!("_INBOX.x{}.*", number % 4), format!("orders.us.{number}.>"), "orders.eu".into()]
        {
            add(&mut list, &subject, 2);
            list.matches(b"orders.eu.1");
            take(&mut list, &subject, 2).unwrap();
        }
    }
    // `orders.us` may share its counter with `orders.eu`: with these keys it doesn't.
    assert_eq!(list.stats_hits() - before, 3000);
}

impl List {
    fn stats_hits(&self) -> u64 {
        self.cache_hits
    }
}

#[test]
fn very_many_subjects_come_and_go() {
    let mut list = cached();
    let subject = |number: u32| format!("s.{}.{number}", number % 97);
    for number in 0..120_000 {
        add(&mut list, &subject(number), number);
    }
    for number in (0..120_000).step_by(7) {
        assert_eq!(list.matches(subject(number).as_bytes()).plain(), [number]);
    }
    for number in (0..120_000).rev() {
        take(&mut list, &subject(number), number).unwrap();
    }
    assert_eq!((list.count(), list.trie.node_count()), (0, 0));
    add(&mut list, "again", 1);
    assert_eq!(plain(&mut list, "again"), [1]);
}

#[test]
fn a_subject_of_very_many_tokens() {
    on_both(|list| {
        let deep = vec!["*"; 2000].join(".");
        add(list, &deep, 1);
        add(list, &format!("{deep}.>"), 2);
        assert_eq!(plain(list, &vec!["x"; 2000].join(".")), [1]);
        assert_eq!(plain(list, &vec!["x"; 2001].join(".")), [2]);
        take(list, &deep, 1).unwrap();
        assert_eq!(list.reverse_match(b">").plain(), [2]);
    });
}

#[test]
fn equal_operations_give_equal_orders() {
    let run = |seed| {
        let mut list: List = Sublist::new(Rng::from_u64(seed).hash_keys());
        for value in 0..200 {
            add(&mut list, ["a.b", "a.*", ">"][value as usize % 3], value);
            add_to_queue(&mut list, "a.*", &format!("q{}", value % 20), value, 1);
        }
        for value in (0..200).step_by(3) {
            let _ = take(&mut list, "a.b", value);
            take_from_queue(&mut list, "a.*", &format!("q{}", value % 20), value);
        }
        let result = list.matches(b"a.b");
        let groups: Vec<_> =
            result.queues().map(|group| (group.name.to_vec(), group.members.to_vec())).collect();
        let mut visited = Vec::new();
        list.visit(|entry| {
            visited.push((entry.subject.to_vec(), entry.value));
            true
        });
        (list.matches(b"a.b").plain().to_vec(), groups, visited)
    };
    // Not even the hasher's keys may be seen in an order.
    assert_eq!(run(1), run(2));
}

/// The dullest sublist there could be.
#[derive(Default)]
struct Model(Vec<(String, Option<String>, u32, u32)>);

impl Model {
    fn at(&self, subject: &str, queue: Option<&str>, value: u32) -> Option<usize> {
        self.0.iter().position(|(s, q, v, _)| s == subject && q.as_deref() == queue && *v == value)
    }

    fn shown(&self, matches: impl Fn(&str) -> bool) -> Shown {
        let mut shown = Shown::default();
        for (subject, queue, value, weight) in &self.0 {
            if matches(subject) {
                match queue {
                    None => shown.0.push(*value),
                    Some(queue) => shown.1.entry(queue.clone()).or_default().push((*value, *weight)),
                }
            }
        }
        shown.0.sort_unstable();
        shown.1.values_mut().for_each(|members| members.sort_unstable());
        shown
    }
}

#[derive(Clone, Debug)]
enum Op {
    Insert(String, Option<String>, u32, u32),
    Remove(usize),
    SetWeight(usize, u32),
    Match(String),
    Reverse(String),
}

/// Subjects over so few tokens that they meet, with and without wildcards.
fn any_subject() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => Just("a"), 3 => Just("b"), 1 => Just("c*"), 2 => Just("*")];
    (prop::collection::vec(token, 0..4), prop::bool::weighted(0.2)).prop_map(|(mut tokens, rest)| {
        if rest || tokens.is_empty() {
            tokens.push(">");
        }
        tokens.join(".")
    })
}

fn literal() -> impl Strategy<Value = String> {
    prop_oneof![9 => "[abd](\\.[abd]){0,3}", 1 => any_subject(), 1 => "[a.]{0,4}"]
}

fn op() -> impl Strategy<Value = Op> {
    let queue =
        prop_oneof![3 => Just(None), 1 => Just(Some("q".to_owned())), 1 => Just(Some("r".to_owned()))];
    prop_oneof![
        4 => (any_subject(), queue, 0..30_u32, 1..4_u32).prop_map(|(s, q, v, w)| Op::Insert(s, q, v, w)),
        3 => any::<usize>().prop_map(Op::Remove),
        1 => (any::<usize>(), 1..9_u32).prop_map(|(at, weight)| Op::SetWeight(at, weight)),
        6 => literal().prop_map(Op::Match),
        1 => any_subject().prop_map(Op::Reverse),
    ]
}

/// Runs the operations on a cached sublist, an uncached one and the model; tells the first difference.
fn run_against_model(ops: &[Op]) -> Result<(), String> {
    let mut list = cached();
    let mut plain_list = uncached();
    let mut model = Model::default();
    for op in ops {
        match op {
            Op::Insert(subject, queue, value, weight) => {
                let queue = queue.as_deref();
                let at = model.at(subject, queue, *value);
                for list in [&mut list, &mut plain_list] {
                    let new = list.insert(subject.as_bytes(), queue.map(str::as_bytes), *value, *weight);
                    if new != Ok(at.is_none()) {
                        return Err(format!("{op:?} gave {new:?}"));
                    }
                }
                match at {
                    Some(at) => model.0[at].3 = *weight,
                    None => model.0.push((subject.clone(), queue.map(str::to_owned), *value, *weight)),
                }
            }
            Op::Remove(_) | Op::SetWeight(..) if model.0.is_empty() => {}
            Op::Remove(at) => {
                let (subject, queue, value, _) = model.0.swap_remove(at % model.0.len());
                for list in [&mut list, &mut plain_list] {
                    list.remove(subject.as_bytes(), queue.as_deref().map(str::as_bytes), value)
                        .map_err(|error| format!("{op:?} gave {error}"))?;
                }
            }
            Op::SetWeight(at, weight) => {
                let at = at % model.0.len();
                let (subject, queue, value, old) = &mut model.0[at];
                if let Some(queue) = queue {
                    *old = *weight;
                    for list in [&mut list, &mut plain_list] {
                        list.set_weight(subject.as_bytes(), queue.as_bytes(), *value, *weight)
                            .map_err(|error| format!("{op:?} gave {error}"))?;
                    }
                }
            }
            Op::Match(subject) => {
                let is_valid = subject.split('.').all(|token| !token.is_empty());
                let expected = model.shown(|pattern| is_valid && matches_as_published(subject, pattern));
                for (name, shown) in [
                    ("cached", show(list.matches(subject.as_bytes()))),
                    ("uncached", show(plain_list.matches(subject.as_bytes()))),
                    ("matching", show(&list.matching(subject.as_bytes()))),
                ] {
                    if shown != expected {
                        return Err(format!("{subject} {name}: {shown:?}, expected {expected:?}"));
                    }
                }
            }
            Op::Reverse(subject) => {
                let expected =
                    model.shown(|pattern| subjects_collide(subject.as_bytes(), pattern.as_bytes()));
                let shown = show(&list.reverse_match(subject.as_bytes()));
                if shown != expected {
                    return Err(format!("reverse {subject}: {shown:?}, expected {expected:?}"));
                }
            }
        }
        if list.count() != model.0.len() as u64 {
            return Err(format!("counts {}, expected {}", list.count(), model.0.len()));
        }
        // Asserts that all nodes can be reached.
        list.trie.node_count();
    }
    Ok(())
}

/// A wildcard token that is published to is matched by wildcards only.
fn matches_as_published(subject: &str, pattern: &str) -> bool {
    let escaped: Vec<_> =
        subject.split('.').map(|token| if token == "*" || token == ">" { "?" } else { token }).collect();
    matches_literal(escaped.join(".").as_bytes(), pattern.as_bytes())
}

proptest! {
    #[test]
    fn a_sublist_is_a_list_of_patterns(ops in prop::collection::vec(op(), 0..120)) {
        prop_assert_eq!(run_against_model(&ops), Ok(()));
    }
}

/// The property test sees a cache that isn't told of changes: it would not be worth much otherwise.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_planted_stale_cache_is_caught() {
    let ops = [Op::Match("a.b".into()), Op::Insert("a.*".into(), None, 1, 1), Op::Match("a.b".into())];
    assert_eq!(run_against_model(&ops), Ok(()));
    planted::arm(Some(Bug::StaleMatchCache), 0, 1, 1);
    let outcome = run_against_model(&ops);
    planted::disarm();
    assert!(outcome.is_err());
}
