//! The tree itself: nodes in an arena, found by their base, kept in balance.

use super::SequenceSet;

/// No node.
pub(super) const NONE: u32 = u32::MAX;
/// Words of bits in a node.
pub(super) const WORDS: usize = 32;
/// Sequences that a node covers.
pub(super) const SPAN: u64 = WORDS as u64 * 64;

/// Bits for the sequences from `base` on.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) base: u64,
    pub(super) bits: [u64; WORDS],
    pub(super) left: u32,
    pub(super) right: u32,
    /// Of the tree under it, 1 for a leaf.
    pub(super) height: u8,
}

impl Node {
    pub(super) fn new(base: u64, bits: [u64; WORDS]) -> Self {
        Node { base, bits, left: NONE, right: NONE, height: 1 }
    }

    /// The first sequence behind the span, as far as there is one.
    pub(super) fn end(&self) -> u64 {
        self.base.saturating_add(SPAN)
    }

    pub(super) fn covers(&self, sequence: u64) -> bool {
        sequence >= self.base && sequence - self.base < SPAN
    }

    fn place(&self, sequence: u64) -> (usize, u64) {
        let offset = sequence - self.base;
        ((offset / 64) as usize, 1 << (offset % 64))
    }

    pub(super) fn get(&self, sequence: u64) -> bool {
        let (word, mask) = self.place(sequence);
        self.bits[word] & mask != 0
    }

    pub(super) fn set(&mut self, sequence: u64) -> bool {
        let (word, mask) = self.place(sequence);
        let new = self.bits[word] & mask == 0;
        self.bits[word] |= mask;
        new
    }

    pub(super) fn clear(&mut self, sequence: u64) -> bool {
        let (word, mask) = self.place(sequence);
        let had = self.bits[word] & mask != 0;
        self.bits[word] &= !mask;
        had
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bits.iter().all(|bits| *bits == 0)
    }

    pub(super) fn sequences(&self) -> impl Iterator<Item = u64> + '_ {
        (0..SPAN).map(|offset| self.base + offset).filter(|sequence| self.get(*sequence))
    }

    pub(super) fn last(&self) -> Option<u64> {
        let word = self.bits.iter().rposition(|bits| *bits != 0)?;
        let bit = 63 - u64::from(self.bits[word].leading_zeros());
        Some(self.base + word as u64 * 64 + bit)
    }
}

impl SequenceSet {
    pub(super) fn height(&self, id: u32) -> u8 {
        if id == NONE { 0 } else { self.nodes[id as usize].height }
    }

    /// Returns the node with the greatest base at or below `sequence`.
    pub(super) fn floor(&self, sequence: u64) -> Option<u32> {
        let (mut id, mut found) = (self.root.unwrap_or(NONE), None);
        while id != NONE {
            let node = &self.nodes[id as usize];
            if sequence < node.base {
                id = node.left;
            } else {
                found = Some(id);
                id = node.right;
            }
        }
        found
    }

    /// Makes a node that is in the arena and not in the tree yet.
    pub(super) fn add_node(&mut self, base: u64) -> u32 {
        let node = Node::new(base, [0; WORDS]);
        if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = node;
            return id;
        }
        self.nodes.push(node);
        u32::try_from(self.nodes.len() - 1).expect("2^32 nodes take a terabyte")
    }

    /// Puts a node into the tree.
    pub(super) fn link(&mut self, id: u32) {
        self.root = Some(match self.root {
            None => id,
            Some(root) => self.link_under(root, id),
        });
    }

    fn link_under(&mut self, at: u32, id: u32) -> u32 {
        if at == NONE {
            return id;
        }
        let Node { base, left, right, .. } = self.nodes[at as usize];
        if self.nodes[id as usize].base < base {
            self.nodes[at as usize].left = self.link_under(left, id);
        } else {
            self.nodes[at as usize].right = self.link_under(right, id);
        }
        self.balance(at)
    }

    /// Takes the node of this base out of the tree and the arena.
    pub(super) fn unlink(&mut self, base: u64) {
        let root = self.unlink_under(self.root.unwrap_or(NONE), base);
        self.root = (root != NONE).then_some(root);
    }

    fn unlink_under(&mut self, at: u32, base: u64) -> u32 {
        let Node { base: own, left, right, .. } = self.nodes[at as usize];
        if base < own {
            self.nodes[at as usize].left = self.unlink_under(left, base);
        } else if base > own {
            self.nodes[at as usize].right = self.unlink_under(right, base);
        } else {
            self.free.push(at);
            if left == NONE || right == NONE {
                return if left == NONE { right } else { left };
            }
            // The next node in order takes its place.
            let (right, next) = self.take_first(right);
            self.nodes[next as usize].left = left;
            self.nodes[next as usize].right = right;
            return self.balance(next);
        }
        self.balance(at)
    }

    /// Takes the first node out of a tree; returns what is left of it, and the node.
    fn take_first(&mut self, at: u32) -> (u32, u32) {
        let Node { left, right, .. } = self.nodes[at as usize];
        if left == NONE {
            return (right, at);
        }
        let (left, first) = self.take_first(left);
        self.nodes[at as usize].left = left;
        (self.balance(at), first)
    }

    /// Works out a node's height, and turns it if its sides differ by more than one; returns what is on top then.
    fn balance(&mut self, at: u32) -> u32 {
        let Node { left, right, .. } = self.nodes[at as usize];
        match i16::from(self.height(left)) - i16::from(self.height(right)) {
            2.. => {
                let Node { left: outer, right: inner, .. } = self.nodes[left as usize];
                if self.height(outer) < self.height(inner) {
                    self.nodes[at as usize].left = self.rotate_left(left);
                }
                self.rotate_right(at)
            }
            ..=-2 => {
                let Node { left: inner, right: outer, .. } = self.nodes[right as usize];
                if self.height(outer) < self.height(inner) {
                    self.nodes[at as usize].right = self.rotate_right(right);
                }
                self.rotate_left(at)
            }
            _ => {
                self.measure(at);
                at
            }
        }
    }

    fn measure(&mut self, at: u32) {
        let Node { left, right, .. } = self.nodes[at as usize];
        self.nodes[at as usize].height = 1 + self.height(left).max(self.height(right));
    }

    fn rotate_left(&mut self, at: u32) -> u32 {
        let top = self.nodes[at as usize].right;
        self.nodes[at as usize].right = self.nodes[top as usize].left;
        self.nodes[top as usize].left = at;
        self.measure(at);
        self.measure(top);
        top
    }

    fn rotate_right(&mut self, at: u32) -> u32 {
        let top = self.nodes[at as usize].left;
        self.nodes[at as usize].left = self.nodes[top as usize].right;
        self.nodes[top as usize].right = at;
        self.measure(at);
        self.measure(top);
        top
    }

    /// Puts nodes that are in order, and in the arena from the first to the last, into the tree.
    pub(super) fn link_all(&mut self, from: u32, to: u32) -> u32 {
        if from == to {
            return NONE;
        }
        let middle = from + (to - from) / 2;
        let (left, right) = (self.link_all(from, middle), self.link_all(middle + 1, to));
        self.nodes[middle as usize].left = left;
        self.nodes[middle as usize].right = right;
        self.measure(middle);
        middle
    }
}
