//! Values by pattern: which of them are interested in a subject, and may anybody be.
//!
//! The plain sibling of the [`Sublist`](super::Sublist): no queue groups, no cache; for sets of filters (consumers,
//! multi-filter reads, subject trees). Both share the walks of one trie.
//!
//! Source: nats-server `server/gsl/gsl.go`.

use smallvec::SmallVec;

use super::SublistError;
use super::tokens::tokens;
use super::trie::{NodeIds, Payload, Trie};
use crate::collections::Interest;
use crate::rng::HashKeys;

/// The values of one pattern.
#[derive(Debug)]
struct Values<T>(SmallVec<[T; 1]>);

impl<T> Default for Values<T> {
    fn default() -> Self {
        Values(SmallVec::new())
    }
}

impl<T> Payload for Values<T> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// A set of pairs of a pattern and a value.
#[derive(Debug)]
pub struct SubjectList<T> {
    trie: Trie<Values<T>>,
    len: usize,
}

impl<T: PartialEq> SubjectList<T> {
    /// Makes an empty list whose hashes are keyed by `keys`.
    pub fn new(keys: HashKeys) -> Self {
        SubjectList { trie: Trie::new(keys), len: 0 }
    }

    /// Adds a pair; one that is there stays there once.
    ///
    /// # Errors
    ///
    /// [`SublistError::InvalidSubject`] if the pattern has an empty token, or `>` before its end.
    pub fn insert(&mut self, pattern: &[u8], value: T) -> Result<(), SublistError> {
        let id = self.trie.insert(pattern).ok_or(SublistError::InvalidSubject)?;
        let Values(values) = self.trie.payload_mut(id);
        if !values.contains(&value) {
            values.push(value);
            self.len += 1;
        }
        Ok(())
    }

    /// Removes a pair.
    ///
    /// # Errors
    ///
    /// [`SublistError::InvalidSubject`] as for [`SubjectList::insert`], [`SublistError::NotFound`] if it isn't there.
    pub fn remove(&mut self, pattern: &[u8], value: &T) -> Result<(), SublistError> {
        if !super::validity::has_valid_shape(pattern) {
            return Err(SublistError::InvalidSubject);
        }
        let id = self.trie.find(pattern).ok_or(SublistError::NotFound)?;
        let Values(values) = self.trie.payload_mut(id);
        let at = values.iter().position(|known| known == value).ok_or(SublistError::NotFound)?;
        values.remove(at);
        self.len -= 1;
        self.trie.prune(id);
        Ok(())
    }

    /// Calls `with` for every value whose pattern matches the literal `subject`; a value with several patterns comes as
    /// often as they match.
    pub fn matches<'a>(&'a self, subject: &[u8], mut with: impl FnMut(&'a T)) {
        let mut found = NodeIds::new();
        self.trie.collect_matching(subject, &mut found);
        for value in found.iter().flat_map(|id| &self.trie.payload(*id).0) {
            with(value);
        }
    }

    /// Returns whether a pattern matches `subject`.
    pub fn has_interest(&self, subject: &[u8]) -> bool {
        let mut found = NodeIds::new();
        self.trie.collect_matching(subject, &mut found);
        found.iter().any(|id| !self.trie.payload(*id).is_empty())
    }

    /// Returns how many values have a pattern that matches `subject`, each for each of its patterns.
    pub fn interest(&self, subject: &[u8]) -> usize {
        let mut count = 0;
        self.matches(subject, |_| count += 1);
        count
    }

    /// Returns whether a pattern may match a subject that begins with the tokens of `start` and goes on.
    pub fn has_interest_starting_in(&self, start: &[u8]) -> bool {
        self.trie.goes_on_behind(tokens(start))
    }

    /// Returns whether the pattern `>` is there.
    pub fn matches_everything(&self) -> bool {
        self.trie.find(b">").is_some()
    }

    /// Returns the pattern, if all values have the same.
    pub fn only_pattern(&self) -> Option<Vec<u8>> {
        let mut only = None;
        let mut several = false;
        self.trie.visit(|pattern, _| {
            several = only.is_some();
            only = Some(pattern.to_vec());
            !several
        });
        only.filter(|_| !several)
    }

    /// Calls `with` for every pair, in an order that follows from what was done to the list, until it says `false`.
    pub fn visit<'a>(&'a self, mut with: impl FnMut(&[u8], &'a T) -> bool) {
        self.trie.visit(|pattern, values| values.0.iter().all(|value| with(pattern, value)));
    }

    /// Returns how many pairs there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl<T: PartialEq> Interest for SubjectList<T> {
    fn has_interest(&self, subject: &[u8]) -> bool {
        SubjectList::has_interest(self, subject)
    }

    fn may_start_with(&self, start: &[u8]) -> bool {
        self.has_interest_starting_in(start)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::collections::SubjectTree;
    use crate::rng::Rng;
    use crate::subject::matches_literal;

    fn list(patterns: &[&str]) -> SubjectList<usize> {
        let mut list = SubjectList::new(Rng::from_u64(1).hash_keys());
        for (value, pattern) in patterns.iter().enumerate() {
            list.insert(pattern.as_bytes(), value).unwrap();
        }
        list
    }

    fn found(list: &SubjectList<usize>, subject: &str) -> Vec<usize> {
        let mut found = Vec::new();
        list.matches(subject.as_bytes(), |value| found.push(*value));
        found.sort_unstable();
        assert_eq!(list.interest(subject.as_bytes()), found.len());
        assert_eq!(list.has_interest(subject.as_bytes()), !found.is_empty());
        found
    }

    #[test]
    fn a_subject_finds_the_patterns_that_match_it() {
        let list = list(&["a.b.c", "a.*.c", "a.>", ">", "*", "a.b.*", "b.>", "a.b", "a.*.*"]);
        assert_eq!(found(&list, "a.b.c"), [0, 1, 2, 3, 5, 8]);
        assert_eq!(found(&list, "a.b"), [2, 3, 7]);
        assert_eq!(found(&list, "a"), [3, 4]);
        assert_eq!(found(&list, "b.x.y.z"), [3, 6]);
        for empty in ["", ".a", "a.", "a..b", "."] {
            assert!(found(&list, empty).is_empty(), "{empty:?}");
        }
        assert_eq!(list.len(), 9);
    }

    #[test]
    fn wildcards_that_are_only_parts_of_tokens_are_bytes() {
        let mut list = list(&["foo.*-", "foo.>-"]);
        assert_eq!(found(&list, "foo.*-"), [0]);
        assert_eq!(found(&list, "foo.>-"), [1]);
        assert!(found(&list, "foo.bar").is_empty());
        list.remove(b"foo.*-", &0).unwrap();
        list.remove(b"foo.>-", &1).unwrap();
        assert!(list.is_empty());
    }

    #[test]
    fn a_pair_is_there_once_and_goes_with_all_of_its_nodes() {
        let mut list = list(&["a.b.c.d", "a.*.c", "a.>"]);
        list.insert(b"a.>", 2).unwrap();
        list.insert(b"a.>", 9).unwrap();
        assert_eq!((list.len(), found(&list, "a.b")), (4, vec![2, 9]));
        for (pattern, value) in [("a.b.c.d", 0), ("a.*.c", 1), ("a.>", 2), ("a.>", 9)] {
            assert_eq!(list.remove(pattern.as_bytes(), &77), Err(SublistError::NotFound));
            list.remove(pattern.as_bytes(), &value).unwrap();
            assert_eq!(list.remove(pattern.as_bytes(), &value), Err(SublistError::NotFound));
        }
        assert_eq!((list.len(), list.trie.node_count()), (0, 0));
    }

    #[test]
    fn a_pattern_without_a_valid_shape_is_refused() {
        let mut list = list(&[]);
        for bad in ["", ".", "foo.", ".foo", "foo..bar", "foo.>.bar", "foo.bar..baz"] {
            assert_eq!(list.insert(bad.as_bytes(), 1), Err(SublistError::InvalidSubject), "{bad:?}");
            assert_eq!(list.remove(bad.as_bytes(), &1), Err(SublistError::InvalidSubject), "{bad:?}");
        }
        assert!(list.is_empty());
    }

    #[test]
    fn interest_may_start_where_patterns_go_on() {
        let list = list(&["a.b.c", "x.*.z", "y.>", "one"]);
        let starting = |start: &str| list.has_interest_starting_in(start.as_bytes());
        assert!(["a", "a.b", "x", "x.q", "y", "y.1.2.3"].iter().all(|start| starting(start)));
        assert!(["a.c", "a.b.c", "one", "two", "x.q.z", "x.q.r"].iter().all(|start| !starting(start)));
    }

    #[test]
    fn a_list_knows_whether_it_is_simple() {
        assert!(!list(&[]).matches_everything() && list(&["a", ">"]).matches_everything());
        assert!(!list(&["a.>", "*"]).matches_everything());
        assert_eq!(list(&[]).only_pattern(), None);
        assert_eq!(list(&["a.*"]).only_pattern().as_deref(), Some(&b"a.*"[..]));
        assert_eq!(list(&["a.*", "a.*"]).only_pattern().as_deref(), Some(&b"a.*"[..]));
        for several in [&["a", "b"][..], &["a", "a.b"], &["a.*", "a.>"], &["*", ">"]] {
            assert_eq!(list(several).only_pattern(), None, "{several:?}");
        }
    }

    fn any_pattern() -> impl Strategy<Value = String> {
        let token = prop_oneof!["[ab]", Just("*".to_owned())];
        (vec(token, 1..4), any::<bool>()).prop_map(|(mut tokens, rest)| {
            if rest {
                tokens.push(">".to_owned());
            }
            tokens.join(".")
        })
    }

    proptest! {
        #[test]
        fn a_list_is_a_list_of_pairs(
            operations in vec((any::<bool>(), any_pattern(), 0..3usize), 0..60),
            subjects in vec("[ab](\\.[ab]){0,3}", 1..8),
        ) {
            let (mut list, mut model) = (list(&[]), Vec::new());
            for (insert, pattern, value) in operations {
                let pair = (pattern, value);
                let there = model.contains(&pair);
                if insert {
                    list.insert(pair.0.as_bytes(), pair.1).unwrap();
                    if !there {
                        model.push(pair);
                    }
                } else {
                    prop_assert_eq!(list.remove(pair.0.as_bytes(), &pair.1).is_ok(), there);
                    model.retain(|known| *known != pair);
                }
            }
            prop_assert_eq!(list.len(), model.len());
            let matches = |pattern: &str, subject: &str| matches_literal(subject.as_bytes(), pattern.as_bytes());
            let mut tree = SubjectTree::default();
            for subject in &subjects {
                let mut want: Vec<_> =
                    model.iter().filter(|pair| matches(&pair.0, subject)).map(|pair| pair.1).collect();
                want.sort_unstable();
                prop_assert_eq!(found(&list, subject), want);
                tree.insert(subject.as_bytes(), ());
                // Whoever is interested in a subject may be so in all that it begins with.
                let starts = subject.match_indices('.').map(|(at, _)| &subject[..at]);
                for start in starts {
                    prop_assert!(!list.has_interest(subject.as_bytes())
                        || list.has_interest_starting_in(start.as_bytes()));
                }
            }
            let mut both = Vec::new();
            tree.intersect_interest(&list, |subject, ()| {
                both.push(subject.to_vec());
                true
            });
            let mut want: Vec<_> = subjects.iter().map(|subject| subject.clone().into_bytes()).collect();
            want.retain(|subject| list.has_interest(subject));
            want.sort();
            want.dedup();
            prop_assert_eq!(both, want);
        }
    }
}
