//! The tree against a plain map, and its shape.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Holds what the module promises of the tree.
fn check<T>(tree: &SubjectTree<T>) {
    fn walk<T>(node: &Node<T>, count: &mut usize) {
        match node {
            Node::Leaf(_) => *count += 1,
            Node::Inner(inner) => {
                *count += usize::from(inner.end.is_some());
                let children = &inner.children;
                assert!(children.len() + usize::from(inner.end.is_some()) >= 2);
                let bytes: Vec<u8> = children.bytes().collect();
                assert!(bytes.is_sorted_by(|a, b| a < b) && bytes.len() == children.len());
                let least = [4, 10, 16, 48, 256].into_iter().find(|room| *room >= bytes.len());
                assert_eq!(Some(children.room()), least);
                for byte in bytes {
                    let child = children.get(byte).unwrap();
                    assert_eq!(child.path().first(), Some(&byte));
                    walk(child, count);
                }
            }
        }
    }
    let mut count = 0;
    if let Some(root) = &tree.root {
        walk(root, &mut count);
    }
    assert_eq!(count, tree.len());
}

fn tree(subjects: &[&str]) -> SubjectTree<usize> {
    let mut tree = SubjectTree::default();
    for (at, subject) in subjects.iter().enumerate() {
        assert_eq!(tree.insert(subject.as_bytes(), at), None);
        check(&tree);
    }
    tree
}

fn found(tree: &SubjectTree<usize>, filter: &str) -> Vec<String> {
    let mut found = Vec::new();
    tree.matches(filter.as_bytes(), |subject, value| {
        assert_eq!(tree.get(subject), Some(value));
        found.push(String::from_utf8(subject.to_vec()).unwrap());
    });
    found
}

#[test]
fn a_subject_has_one_value_until_it_is_removed() {
    let mut tree = SubjectTree::default();
    assert_eq!((tree.remove(b"a"), tree.get(b"a"), tree.len()), (None, None, 0));
    assert_eq!(tree.insert(b"foo.bar.baz", 22), None);
    assert_eq!(tree.insert(b"foo.bar.baz", 33), Some(22));
    assert_eq!((tree.get(b"foo.bar"), tree.get(b"foo.bar.baz.q"), tree.get(b"")), (None, None, None));
    assert_eq!(tree.get(b"foo.bar.baz"), Some(&33));
    *tree.get_mut(b"foo.bar.baz").unwrap() += 1;
    assert_eq!(*tree.get_or_insert_with(b"foo.bar.baz", || unreachable!()), 34);
    assert_eq!(*tree.get_or_insert_with(b"foo", || 7), 7);
    assert_eq!(tree.remove(b"foo.bar.baz"), Some(34));
    assert_eq!((tree.remove(b"foo.bar.baz"), tree.len()), (None, 1));
    tree.clear();
    assert!(tree.is_empty() && tree.get_mut(b"foo").is_none());
}

#[test]
fn subjects_may_begin_and_end_within_each_other() {
    let subjects = ["foo.bar", "foo", "foo.bar.baz", "foobar", "f", "foo.", "fo\u{7f}", "foo\0\0", ""];
    let mut tree = tree(&subjects);
    for (at, subject) in subjects.iter().enumerate() {
        assert_eq!(tree.get(subject.as_bytes()), Some(&at), "{subject:?}");
    }
    for (at, subject) in subjects.iter().enumerate() {
        assert_eq!(tree.remove(subject.as_bytes()), Some(at));
        check(&tree);
        assert_eq!(tree.get(subject.as_bytes()), None);
    }
    assert!(tree.root.is_none());
}

#[test]
fn a_node_is_as_large_as_its_children_need() {
    let mut tree = SubjectTree::default();
    let subject = |byte: u8| [b'f', b'.', byte];
    for byte in 0..=255 {
        assert_eq!(tree.insert(&subject(byte), byte), None);
        check(&tree);
    }
    assert_eq!(tree.len(), 256);
    for byte in (0..=255).rev().filter(|byte| byte % 3 == 0).chain((0..=255).filter(|byte| byte % 3 != 0)) {
        assert_eq!(tree.remove(&subject(byte)), Some(byte));
        assert_eq!(tree.get(&subject(byte)), None);
        check(&tree);
    }
    assert!(tree.is_empty());
}

#[test]
fn filters_find_what_they_say() {
    let tree = tree(&[
        "foo.bar.A",
        "foo.bar.B",
        "foo.bar.C",
        "foo.baz.A",
        "foo.baz.B",
        "foo.baz.C",
        "foo.bar",
        "foo",
        "a.b.c.d",
        "STATE.GLOBAL.CELL1.7PDSGAALXNN000010.PROPERTY-A",
        "STATE.GLOBAL.CELL2.7PDSGAALXNN000010.PROPERTY-A",
    ]);
    let all = "foo.bar foo.bar.A foo.bar.B foo.bar.C foo.baz.A foo.baz.B foo.baz.C";
    for (filter, want) in [
        ("foo.bar.A", "foo.bar.A"),
        ("foo.*.A", "foo.bar.A foo.baz.A"),
        ("foo.*.*", "foo.bar.A foo.bar.B foo.bar.C foo.baz.A foo.baz.B foo.baz.C"),
        ("*.bar.*", "foo.bar.A foo.bar.B foo.bar.C"),
        ("*.*.C", "foo.bar.C foo.baz.C"),
        ("foo.>", all),
        (
            "*.>",
            "STATE.GLOBAL.CELL1.7PDSGAALXNN000010.PROPERTY-A STATE.GLOBAL.CELL2.7PDSGAALXNN000010.PROPERTY-A \
                 a.b.c.d foo.bar foo.bar.A foo.bar.B foo.bar.C foo.baz.A foo.baz.B foo.baz.C",
        ),
        ("*", "foo"),
        ("*.*", "foo.bar"),
        ("foo.*", "foo.bar"),
        ("foo.bar.>", "foo.bar.A foo.bar.B foo.bar.C"),
        (
            "STATE.GLOBAL.*.*.PROPERTY-A",
            "STATE.GLOBAL.CELL1.7PDSGAALXNN000010.PROPERTY-A STATE.GLOBAL.CELL2.7PDSGAALXNN000010.PROPERTY-A",
        ),
        ("STATE.*.CELL1.*.>", "STATE.GLOBAL.CELL1.7PDSGAALXNN000010.PROPERTY-A"),
        ("foo.b*", ""),
        ("foo.>.A", ""),
        ("fo.*", ""),
        ("foo.bar.", ""),
        ("foo..A", ""),
        (".>", ""),
        ("", ""),
        ("foo.bar.A.>", ""),
        ("*.*.*.*.*.*", ""),
    ] {
        assert_eq!(found(&tree, filter).join(" "), want, "{filter}");
    }
    assert_eq!(found(&tree, ">").len(), tree.len());
}

#[test]
fn who_has_seen_enough_sees_no_more() {
    let tree = tree(&["a.1", "a.2", "a.3", "b.1"]);
    let mut seen = 0;
    let mut two = |_: &[u8], _: &usize| {
        seen += 1;
        seen < 2
    };
    assert!(!tree.matches_until(b"a.*", &mut two));
    assert!(!tree.visit(|_, _| false));
    assert!(tree.matches_until(b"a.*", |_, _| true) && tree.visit(|_, _| true));
    assert_eq!(seen, 2);
    assert!(SubjectTree::<u8>::default().visit(|_, _| false));
}

#[test]
fn a_long_chain_of_subjects_needs_no_stack() {
    let long = vec![b'a'; 2_000];
    let mut tree = SubjectTree::default();
    for len in 1..=long.len() {
        tree.insert(&long[..len], len);
    }
    let mut last = 0;
    assert!(tree.visit(|subject, len| {
        last += 1;
        subject.len() == *len && *len == last
    }));
    assert_eq!(tree.get(&long), Some(&2_000));
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn({
            let tree = tree.clone();
            move || assert_eq!(tree.clone().len(), 2_000)
        })
        .unwrap()
        .join()
        .expect("a clone and two drops fit in a small stack");
    assert!((1..=long.len()).all(|len| tree.remove(&long[..len]) == Some(len)));
}

#[test]
fn trees_intersect_in_what_both_have() {
    let one = tree(&["a", "a.b", "b.c", "x"]);
    let other = tree(&["q", "b.c", "a", "a.b.c", "z", "y"]);
    let mut both = Vec::new();
    one.intersect(&other, |subject, left, right| both.push((subject.to_vec(), *left, *right)));
    assert_eq!(both, [(b"a".to_vec(), 0, 2), (b"b.c".to_vec(), 2, 1)]);
    let mut turned = Vec::new();
    other.intersect(&one, |subject, right, left| turned.push((subject.to_vec(), *left, *right)));
    assert_eq!(both, turned);
    SubjectTree::<u8>::default().intersect(&one, |_, _, _| unreachable!());
}

/// Interest as a list of filters, answered by the dullest of means.
struct Filters(Vec<String>);

impl Interest for Filters {
    fn has_interest(&self, subject: &[u8]) -> bool {
        self.0.iter().any(|filter| naive(filter, std::str::from_utf8(subject).unwrap()))
    }

    fn may_start_with(&self, start: &[u8]) -> bool {
        let start: Vec<&[u8]> = start.split(|byte| *byte == b'.').collect();
        self.0.iter().any(|filter| {
            let mut tokens = filter.split('.');
            for wanted in &start {
                match tokens.next() {
                    Some(">") => return true,
                    Some(token) if token == "*" || token.as_bytes() == *wanted => {}
                    _ => return false,
                }
            }
            tokens.next().is_some()
        })
    }
}

/// Matches token by token.
fn naive(filter: &str, subject: &str) -> bool {
    let (mut tokens, mut words) = (filter.split('.').peekable(), subject.split('.'));
    loop {
        match (tokens.next(), words.next()) {
            (None, None) => return true,
            (Some(">"), Some(word)) if tokens.peek().is_none() => {
                return !word.is_empty() || words.next().is_some();
            }
            (Some("*"), Some(word)) if !word.is_empty() => {}
            (Some(token), Some(word)) if token == word && token != "*" => {}
            _ => return false,
        }
    }
}

fn any_subject() -> impl Strategy<Value = String> {
    let token = prop_oneof!["[ab]{1,2}", "[a-z]", Just("foo".to_owned()), Just("foobar".to_owned())];
    vec(token, 1..5).prop_map(|tokens| tokens.join("."))
}

fn any_filter() -> impl Strategy<Value = String> {
    let token = prop_oneof![3 => "[ab]{1,2}", 1 => Just("foo".to_owned()), 3 => Just("*".to_owned())];
    (vec(token, 1..5), any::<bool>()).prop_map(|(mut tokens, rest)| {
        if rest {
            tokens.push(">".to_owned());
        }
        tokens.join(".")
    })
}

proptest! {
    #[test]
    fn a_tree_is_a_map_of_subjects(
        operations in vec((0..4u8, any_subject(), any::<u16>()), 0..200),
        filters in vec(any_filter(), 1..6),
    ) {
        let (mut tree, mut model) = (SubjectTree::default(), BTreeMap::new());
        for (operation, subject, value) in operations {
            match operation {
                0 => prop_assert_eq!(tree.remove(subject.as_bytes()), model.remove(subject.as_bytes())),
                1 => prop_assert_eq!(
                    *tree.get_or_insert_with(subject.as_bytes(), || value),
                    *model.entry(subject.clone().into_bytes()).or_insert(value)
                ),
                _ => prop_assert_eq!(
                    tree.insert(subject.as_bytes(), value),
                    model.insert(subject.clone().into_bytes(), value)
                ),
            }
            prop_assert_eq!(tree.get(subject.as_bytes()), model.get(subject.as_bytes()));
        }
        check(&tree);
        let mut all = Vec::new();
        tree.visit(|subject, value| {
            all.push((subject.to_vec(), *value));
            true
        });
        prop_assert!(all.iter().map(|(subject, value)| (subject, value)).eq(model.iter()));
        for filter in &filters {
            let mut found = Vec::new();
            tree.matches(filter.as_bytes(), |subject, _| found.push(subject.to_vec()));
            let text = |subject: &Vec<u8>| String::from_utf8(subject.clone()).unwrap();
            let want: Vec<_> = model.keys().filter(|subject| naive(filter, &text(subject))).cloned().collect();
            prop_assert_eq!(&found, &want, "{}", filter);
        }
        let interest = Filters(filters);
        let mut found = Vec::new();
        tree.intersect_interest(&interest, |subject, _| {
            found.push(subject.to_vec());
            true
        });
        let want: Vec<_> = model.keys().filter(|subject| interest.has_interest(subject)).cloned().collect();
        prop_assert_eq!(found, want);
    }
}
