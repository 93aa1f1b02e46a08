//! The set against a plain one, its balance, and its bytes.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;

use super::tree::NONE;
use super::*;

/// Holds what the module promises of the tree.
fn check(set: &SequenceSet) {
    fn walk(set: &SequenceSet, at: u32, bases: &mut Vec<u64>) -> u8 {
        if at == NONE {
            return 0;
        }
        let node = &set.nodes[at as usize];
        let left = walk(set, node.left, bases);
        assert!(!node.is_empty() || set.len == 0);
        bases.push(node.base);
        let right = walk(set, node.right, bases);
        assert!(left.abs_diff(right) <= 1, "{left} and {right} under {}", node.base);
        assert_eq!(node.height, 1 + left.max(right));
        node.height
    }
    let mut bases = Vec::new();
    walk(set, set.root.unwrap_or(NONE), &mut bases);
    assert_eq!(bases.len(), set.nodes());
    assert!(bases.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_sequence_is_there_from_insert_to_remove() {
    let mut set = SequenceSet::default();
    for sequence in [2, 22, 222, 2000, 4, 5000, 12, 1_000_000] {
        assert!(set.insert(sequence) && !set.insert(sequence) && set.contains(sequence));
    }
    assert_eq!((set.len(), set.first(), set.last()), (8, Some(2), Some(1_000_000)));
    assert!(!set.contains(3) && !set.contains(5001) && !set.contains(u64::MAX));
    assert!(set.remove(222) && !set.remove(222) && !set.remove(3) && !set.remove(7_000_000));
    assert_eq!(set.len(), 7);
    set.clear();
    assert_eq!((set.len(), set.nodes(), set.first(), set.last()), (0, 0, None, None));
    assert!(set.is_empty() && !set.remove(2));
}

#[test]
fn a_tree_stays_balanced_whichever_way_it_grows() {
    let span = SequenceSet::SPAN;
    for rising in [true, false] {
        let mut set = SequenceSet::default();
        for step in 0..4 * span {
            set.insert(if rising { step } else { 4 * span - 1 - step });
        }
        check(&set);
        assert_eq!((set.nodes(), set.heights().0.max(set.heights().1)), (4, 2));
        for step in 0..3 * span {
            assert!(set.remove(if rising { 4 * span - 1 - step } else { step }));
            check(&set);
        }
        assert_eq!(set.nodes(), 1);
    }
    let mut set: SequenceSet = (0..1000).map(|node| node * span).collect();
    check(&set);
    assert!(set.heights().0 <= 10);
    for node in (0..1000).step_by(2) {
        set.remove(node * span);
    }
    check(&set);
}

#[test]
fn the_edges_of_the_numbers_are_in_reach() {
    let mut set: SequenceSet = [0, u64::MAX, u64::MAX - 1].into_iter().collect();
    check(&set);
    assert_eq!(set.iter().collect::<Vec<_>>(), [0, u64::MAX - 1, u64::MAX]);
    assert_eq!(set.ranges().collect::<Vec<_>>(), [(0, 0), (u64::MAX - 1, u64::MAX)]);
    assert!(set.remove(u64::MAX));
    assert_eq!(set.last(), Some(u64::MAX - 1));
}

#[test]
fn runs_come_as_ranges() {
    let set: SequenceSet = (1..=3000).chain([3002]).chain(9000..9002).collect();
    assert_eq!(set.ranges().collect::<Vec<_>>(), [(1, 3000), (3002, 3002), (9000, 9001)]);
}

#[test]
fn a_known_start_saves_a_node_and_confuses_nobody() {
    let mut set = SequenceSet::starting_at(1000);
    assert!(set.is_empty() && set.first().is_none() && set.last().is_none());
    set.extend(1000..1000 + SequenceSet::SPAN);
    assert_eq!(set.nodes(), 1);
    // These would lie in nodes that reach into the first.
    for sequence in [999, 0, 3048, 3500, 4095, 4096] {
        assert!(set.insert(sequence) && set.contains(sequence));
        check(&set);
    }
    assert_eq!(set.len(), 2048 + 6);
    assert!((1000..3048).all(|sequence| set.contains(sequence)));
    assert!(!set.contains(3499) && !set.contains(998));
}

#[test]
fn a_union_has_what_either_has_and_equality_sees_no_trees() {
    let evens: SequenceSet = (0..5000).filter(|sequence| sequence % 2 == 0).collect();
    let mut union: SequenceSet = (0..5000).filter(|sequence| sequence % 2 == 1).collect();
    union.union(&evens);
    let all: SequenceSet = (0..5000).rev().collect();
    assert_eq!(union, all);
    assert_ne!(union, evens);
    assert_eq!(union.clone(), union);
    assert_eq!(SequenceSet::starting_at(7), SequenceSet::default());
}

#[test]
fn a_set_is_far_smaller_than_a_tree_of_numbers() {
    let set: SequenceSet = (0..1_000_000).collect();
    assert!(set.memory() < 1_000_000 / 2, "{} bytes for a million", set.memory());
    let mut bytes = Vec::new();
    set.encode(&mut bytes);
    assert_eq!(bytes.len(), set.encoded_len());
    assert!(bytes.len() < 150_000);
}

#[test]
fn the_bytes_are_the_references() {
    let set: SequenceSet = [1, 64, 2048 + 3].into_iter().collect();
    let mut bytes = Vec::new();
    set.encode(&mut bytes);
    let mut want = vec![22, 2, 2, 0, 0, 0, 3, 0, 0, 0];
    let node = |base: u64, words: &[(usize, u64)], height: u16| {
        let mut bits = [0u64; 32];
        words.iter().for_each(|(at, word)| bits[*at] = *word);
        let bits = bits.iter().flat_map(|word| word.to_le_bytes());
        base.to_le_bytes().into_iter().chain(bits).chain(height.to_le_bytes()).collect::<Vec<u8>>()
    };
    want.extend(node(0, &[(0, 2), (1, 1)], 2));
    want.extend(node(2048, &[(0, 8)], 1));
    assert_eq!(bytes, want);
    bytes.extend_from_slice(b"more");
    assert_eq!(SequenceSet::decode(&bytes), Ok((set, want.len())));
}

/// A set as version 1 wrote it, with `len` sequences said.
fn old(base: u64, words: &[(usize, u64)], len: u32) -> Vec<u8> {
    let mut bits = [0u64; 64];
    words.iter().for_each(|(at, word)| bits[*at] = *word);
    let mut bytes = vec![22, 1, 1, 0, 0, 0];
    bytes.extend(len.to_le_bytes());
    bytes.extend(base.to_le_bytes());
    bytes.extend(bits.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([1, 0]);
    bytes
}

#[test]
fn the_older_format_is_read() {
    let bytes = old(4096, &[(0, 1), (40, 1 << 63)], 2);
    let (set, taken) = SequenceSet::decode(&bytes).unwrap();
    assert_eq!(set.iter().collect::<Vec<_>>(), [4096, 4096 + 40 * 64 + 63]);
    assert_eq!(taken, bytes.len());
    assert_eq!(SequenceSet::decode(&old(4096, &[(0, 1)], 2)), Err(SequenceSetError::Encoding));
    assert_eq!(SequenceSet::decode(&old(u64::MAX, &[(0, 3)], 2)), Err(SequenceSetError::Encoding));
}

#[test]
fn bytes_that_contradict_themselves_are_no_set() {
    let set: SequenceSet = [5, 5000].into_iter().collect();
    let mut good = Vec::new();
    set.encode(&mut good);
    let with = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        SequenceSet::decode(&bytes)
    };
    assert_eq!(with(0, 23), Err(SequenceSetError::Encoding));
    assert_eq!(with(1, 3), Err(SequenceSetError::Version));
    assert_eq!(with(5, 255), Err(SequenceSetError::Encoding), "more nodes than bytes");
    assert_eq!(with(6, 3), Err(SequenceSetError::Encoding), "another number of sequences");
    // The second node's base moved to the first one's: both say that they have sequence 5 or its place.
    let second = good.len() - 266;
    let moved = with(second + 1, 0).unwrap().0;
    assert_eq!(moved.iter().collect::<Vec<_>>(), [5, 5000 - 4096]);
    for len in 0..good.len() {
        assert!(SequenceSet::decode(&good[..len]).is_err(), "{len} bytes");
    }
}

proptest! {
    #[test]
    fn a_set_is_a_set_of_numbers(
        base in prop_oneof![Just(None), (0..5000u64).prop_map(Some)],
        operations in vec(
            (0..3u8, prop_oneof![0..8u64, 2040..2056u64, 6000..6200u64, (u64::MAX - 3)..=u64::MAX]),
            0..300,
        ),
    ) {
        let mut set = base.map_or_else(SequenceSet::default, SequenceSet::starting_at);
        let mut model = BTreeSet::new();
        for (operation, sequence) in operations {
            match operation {
                0 | 1 => prop_assert_eq!(set.insert(sequence), model.insert(sequence)),
                _ => prop_assert_eq!(set.remove(sequence), model.remove(&sequence)),
            }
            prop_assert_eq!(set.contains(sequence), model.contains(&sequence));
        }
        check(&set);
        prop_assert!(set.iter().eq(model.iter().copied()));
        prop_assert_eq!((set.len(), set.first(), set.last()),
            (model.len(), model.first().copied(), model.last().copied()));
        let mut bytes = Vec::new();
        set.encode(&mut bytes);
        let (back, taken) = SequenceSet::decode(&bytes).unwrap();
        check(&back);
        prop_assert_eq!((back, taken), (set, bytes.len()));
    }

    #[test]
    fn arbitrary_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..900), version in 1..3u8, nodes in 0..4u8) {
        let _ = SequenceSet::decode(&bytes);
        if bytes.len() >= 10 {
            bytes[..6].copy_from_slice(&[22, version, nodes, 0, 0, 0]);
            if let Ok((set, _)) = SequenceSet::decode(&bytes) {
                check(&set);
            }
        }
    }
}
