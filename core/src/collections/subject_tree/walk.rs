//! Walks over a tree: all of it, what a filter matches, what a set of filters is interested in.

use super::filter::{Cursor, Filter, Next};
use super::{Interest, Node, SubjectTree};

/// A node that is still to be visited: where its bytes begin in the subject, and how far the filter has come there.
struct Visit<'a, T> {
    node: &'a Node<T>,
    depth: usize,
    cursor: Cursor,
}

impl<T> SubjectTree<T> {
    /// Calls `with` for every subject, in the order of their bytes, until it says `false`; returns whether it never did.
    pub fn visit(&self, with: impl FnMut(&[u8], &T) -> bool) -> bool {
        self.walk(&Filter::new(b">"), Cursor::All, |_| true, with)
    }

    /// Calls `with` for every subject that `filter` matches, in the order of their bytes.
    pub fn matches(&self, filter: &[u8], mut with: impl FnMut(&[u8], &T)) {
        self.matches_until(filter, |subject, value| {
            with(subject, value);
            true
        });
    }

    /// Calls `with` for every subject that `filter` matches, in the order of their bytes, until it says `false`; returns
    /// whether it never did.
    pub fn matches_until(&self, filter: &[u8], with: impl FnMut(&[u8], &T) -> bool) -> bool {
        self.walk(&Filter::new(filter), Filter::START, |_| true, with)
    }

    /// Calls `with` for every subject in which `interest` says that there is some, in the order of their bytes, until it
    /// says `false`; returns whether it never did. Branches in which there can't be any are not entered.
    pub fn intersect_interest(
        &self,
        interest: &impl Interest,
        mut with: impl FnMut(&[u8], &T) -> bool,
    ) -> bool {
        let enter = |path: &[u8]| match path.iter().rposition(|byte| *byte == b'.') {
            Some(end) => interest.may_start_with(&path[..end]),
            None => true,
        };
        self.walk(&Filter::new(b">"), Cursor::All, enter, |subject, value| {
            !interest.has_interest(subject) || with(subject, value)
        })
    }

    fn walk(
        &self,
        filter: &Filter<'_>,
        start: Cursor,
        enter: impl Fn(&[u8]) -> bool,
        mut with: impl FnMut(&[u8], &T) -> bool,
    ) -> bool {
        let mut path = Vec::new();
        let mut waiting: Vec<Visit<'_, T>> = Vec::new();
        waiting.extend(self.root.as_ref().map(|node| Visit { node, depth: 0, cursor: start }));
        while let Some(Visit { node, depth, cursor }) = waiting.pop() {
            path.truncate(depth);
            let Some(cursor) = filter.advance(cursor, node.path()) else { continue };
            path.extend_from_slice(node.path());
            match node {
                Node::Leaf(leaf) => {
                    if filter.accepts(cursor) && !with(&path, &leaf.value) {
                        return false;
                    }
                }
                Node::Inner(inner) => {
                    if let Some(value) = &inner.end
                        && filter.accepts(cursor)
                        && !with(&path, value)
                    {
                        return false;
                    }
                    if !enter(&path) {
                        continue;
                    }
                    let depth = path.len();
                    let visit = |node| Visit { node, depth, cursor };
                    match filter.next(cursor) {
                        Next::End => {}
                        Next::Byte(byte) => waiting.extend(inner.children.get(byte).map(visit)),
                        Next::Any => {
                            let bytes = inner.children.bytes().rev();
                            waiting.extend(bytes.filter_map(|byte| inner.children.get(byte)).map(visit));
                        }
                    }
                }
            }
        }
        true
    }
}
