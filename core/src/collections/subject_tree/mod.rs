//! A map from subjects to values: an adaptive radix tree that finds by wildcard without looking at what can't match.
//!
//! An inner node has the bytes that all below it share, perhaps a value for the subject that ends there, and children by
//! their next byte: up to 4, 10, 16, 48 or 256 of them, whichever is the least that they fit in. A subject that shares
//! nothing more with others is a leaf with the rest of its bytes. Walks come in the order of the bytes; that costs nothing
//! here, so there is no faster walk without it.
//!
//! Nothing recurses: a subject may be as long as it likes. A filter is any subject; a token `*` stands for one token, and a
//! last token `>` for one or more. Anywhere else they are bytes like others.
//!
//! Cost: a lookup reads each byte of the subject once, and one node for each place where subjects branch.
//!
//! Invariants: a child's first byte is the byte that it is found by; an inner node has two children, or one and a value;
//! siblings are in order.
//!
//! Differs: the reference (`server/stree`) keeps byte 127 for the subject that ends at a node, and refuses it in subjects.

mod children;
mod filter;
mod walk;

use children::Children;
use smallvec::SmallVec;

/// Inline up to 16 bytes, which is what is left of most subjects where they branch.
type Bytes = SmallVec<[u8; 16]>;

/// A map from subjects to values of `T`.
#[derive(Debug)]
pub struct SubjectTree<T> {
    root: Option<Node<T>>,
    len: usize,
}

#[derive(Debug)]
enum Node<T> {
    Leaf(Box<Leaf<T>>),
    Inner(Box<Inner<T>>),
}

#[derive(Debug)]
struct Leaf<T> {
    suffix: Bytes,
    value: T,
}

#[derive(Debug)]
struct Inner<T> {
    prefix: Bytes,
    /// The value of the subject that ends behind the prefix.
    end: Option<T>,
    children: Children<T>,
}

/// What a set of filters says, as far as an intersection needs it.
pub trait Interest {
    /// Returns whether a filter matches `subject`.
    fn has_interest(&self, subject: &[u8]) -> bool;

    /// Returns whether a filter may match some subject that begins with the tokens of `start`, which are whole.
    fn may_start_with(&self, start: &[u8]) -> bool;
}

impl<T> Default for SubjectTree<T> {
    fn default() -> Self {
        SubjectTree { root: None, len: 0 }
    }
}

/// A tree can be as deep as its longest subject has bytes; taken down node by node, it needs no stack for that.
impl<T> Drop for SubjectTree<T> {
    fn drop(&mut self) {
        let mut waiting: Vec<Node<T>> = self.root.take().into_iter().collect();
        while let Some(node) = waiting.pop() {
            if let Node::Inner(mut inner) = node {
                inner.children.drain_into(&mut waiting);
            }
        }
    }
}

/// Built anew from its subjects, for the same reason.
impl<T: Clone> Clone for SubjectTree<T> {
    fn clone(&self) -> Self {
        let mut tree = SubjectTree::default();
        self.visit(|subject, value| {
            tree.insert(subject, value.clone());
            true
        });
        tree
    }
}

impl<T> Node<T> {
    fn leaf(suffix: &[u8], value: T) -> Self {
        Node::Leaf(Box::new(Leaf { suffix: Bytes::from_slice(suffix), value }))
    }

    /// Returns the bytes that come before anything branches.
    fn path(&self) -> &[u8] {
        match self {
            Node::Leaf(leaf) => &leaf.suffix,
            Node::Inner(inner) => &inner.prefix,
        }
    }
}

impl<T> Inner<T> {
    fn new(prefix: &[u8]) -> Self {
        Inner { prefix: Bytes::from_slice(prefix), end: None, children: Children::default() }
    }

    /// Puts a value under what is left of its subject behind the prefix.
    fn put(&mut self, rest: &[u8], value: T) {
        match rest.first() {
            None => self.end = Some(value),
            Some(byte) => self.children.add(*byte, Node::leaf(rest, value)),
        }
    }
}

fn common(one: &[u8], other: &[u8]) -> usize {
    one.iter().zip(other).take_while(|(a, b)| a == b).count()
}

impl<T> SubjectTree<T> {
    /// Returns how many subjects there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = SubjectTree::default();
    }

    /// Gives `subject` a value, and returns the one that it had.
    pub fn insert(&mut self, subject: &[u8], value: T) -> Option<T> {
        if let Some(known) = self.get_mut(subject) {
            return Some(std::mem::replace(known, value));
        }
        self.add(subject, value);
        self.len += 1;
        None
    }

    /// Returns the value of `subject`, having given it the one that `make` makes if it had none.
    pub fn get_or_insert_with(&mut self, subject: &[u8], make: impl FnOnce() -> T) -> &mut T {
        if self.get(subject).is_none() {
            self.add(subject, make());
            self.len += 1;
        }
        self.get_mut(subject).expect("it was there, or is now")
    }

    /// Adds a subject that isn't there.
    fn add(&mut self, subject: &[u8], value: T) {
        let (mut slot, mut rest) = (&mut self.root, subject);
        loop {
            let Some(node) = slot else {
                *slot = Some(Node::leaf(rest, value));
                return;
            };
            let shared = common(node.path(), rest);
            if shared == node.path().len() && matches!(node, Node::Inner(_)) {
                rest = &rest[shared..];
                let Some(Node::Inner(inner)) = slot else { unreachable!("looked at just now") };
                match rest.first() {
                    Some(byte) if inner.children.has(*byte) => slot = inner.children.slot(*byte),
                    _ => {
                        inner.put(rest, value);
                        return;
                    }
                }
                continue;
            }
            // It branches within the node's own bytes: what is shared becomes a node above.
            let mut above = Inner::new(&rest[..shared]);
            match slot.take().expect("looked at just now") {
                Node::Leaf(leaf) => above.put(&leaf.suffix[shared..], leaf.value),
                Node::Inner(mut inner) => {
                    inner.prefix.drain(..shared);
                    above.children.add(inner.prefix[0], Node::Inner(inner));
                }
            }
            above.put(&rest[shared..], value);
            *slot = Some(Node::Inner(Box::new(above)));
            return;
        }
    }

    /// Returns the value of `subject`.
    pub fn get(&self, subject: &[u8]) -> Option<&T> {
        let (mut node, mut rest) = (self.root.as_ref()?, subject);
        loop {
            match node {
                Node::Leaf(leaf) => return (*leaf.suffix == *rest).then_some(&leaf.value),
                Node::Inner(inner) => {
                    rest = rest.strip_prefix(&inner.prefix[..])?;
                    let Some(byte) = rest.first() else { return inner.end.as_ref() };
                    node = inner.children.get(*byte)?;
                }
            }
        }
    }

    /// Returns the value of `subject`, to be changed.
    pub fn get_mut(&mut self, subject: &[u8]) -> Option<&mut T> {
        let (mut node, mut rest) = (self.root.as_mut()?, subject);
        loop {
            match node {
                Node::Leaf(leaf) => return (*leaf.suffix == *rest).then_some(&mut leaf.value),
                Node::Inner(inner) => {
                    rest = rest.strip_prefix(&inner.prefix[..])?;
                    let Some(byte) = rest.first() else { return inner.end.as_mut() };
                    node = inner.children.get_mut(*byte)?;
                }
            }
        }
    }

    /// Removes `subject`, and returns the value that it had.
    pub fn remove(&mut self, subject: &[u8]) -> Option<T> {
        self.get(subject)?;
        self.len -= 1;
        let (mut slot, mut rest) = (&mut self.root, subject);
        loop {
            if let Some(Node::Leaf(_)) = slot {
                let Some(Node::Leaf(leaf)) = slot.take() else { unreachable!("looked at just now") };
                return Some(leaf.value);
            }
            let Some(Node::Inner(inner)) = slot else { unreachable!("the subject is there") };
            rest = &rest[inner.prefix.len()..];
            let removed = match rest.first() {
                None => inner.end.take(),
                Some(byte) if matches!(inner.children.get(*byte), Some(Node::Leaf(_))) => {
                    match inner.children.remove(*byte) {
                        Some(Node::Leaf(leaf)) => Some(leaf.value),
                        _ => unreachable!("looked at just now"),
                    }
                }
                Some(byte) => {
                    let byte = *byte;
                    let Some(Node::Inner(inner)) = slot else { unreachable!("looked at just now") };
                    slot = inner.children.slot(byte);
                    continue;
                }
            };
            Self::tidy(slot);
            return removed;
        }
    }

    /// Removes an inner node that branches no more: what is left takes its place.
    fn tidy(slot: &mut Option<Node<T>>) {
        let Some(Node::Inner(inner)) = slot else { return };
        let only = match (inner.children.len(), inner.end.is_some()) {
            (0, _) => None,
            (1, false) => inner.children.take_only(),
            _ => return,
        };
        let Some(Node::Inner(inner)) = slot.take() else { return };
        let Inner { mut prefix, end, .. } = *inner;
        *slot = match only {
            None => end.map(|value| Node::Leaf(Box::new(Leaf { suffix: prefix, value }))),
            Some(Node::Leaf(mut leaf)) => {
                prefix.extend_from_slice(&leaf.suffix);
                leaf.suffix = prefix;
                Some(Node::Leaf(leaf))
            }
            Some(Node::Inner(mut below)) => {
                prefix.extend_from_slice(&below.prefix);
                below.prefix = prefix;
                Some(Node::Inner(below))
            }
        };
    }

    /// Calls `with` for each subject that is in both trees; looks each of the smaller one's up in the larger.
    pub fn intersect<U>(&self, other: &SubjectTree<U>, mut with: impl FnMut(&[u8], &T, &U)) {
        if self.len <= other.len {
            self.visit(|subject, value| {
                if let Some(others) = other.get(subject) {
                    with(subject, value, others);
                }
                true
            });
        } else {
            other.visit(|subject, others| {
                if let Some(value) = self.get(subject) {
                    with(subject, value, others);
                }
                true
            });
        }
    }
}

#[cfg(test)]
mod tests;
