//! A set of sequences: an AVL tree of bit masks, 2,048 sequences a node.
//!
//! Made for what streams delete: runs and holes in a space of 64 bits. A run of 2,048 costs 280 bytes, wherever it is;
//! insert, remove and contains cost one descent.
//!
//! Invariants: no node is empty, but for one that [`SequenceSet::starting_at`] made; bases are distinct; a sequence is in
//! the node with the greatest base at or below it, or nowhere; the heights of siblings differ by at most one.

mod codec;
mod tree;

pub use codec::SequenceSetError;
use tree::{NONE, Node};

/// A set of `u64`, made for runs and holes.
#[derive(Clone, Debug, Default)]
pub struct SequenceSet {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: Option<u32>,
    len: usize,
}

impl SequenceSet {
    /// How many sequences a node covers.
    pub const SPAN: u64 = tree::SPAN;

    /// Makes an empty set whose first node covers the sequences from `first` on, whatever it is a multiple of.
    ///
    /// Saves half a node where all sequences lie behind a known one. Source: nats-server `server/avl/seqset.go`,
    /// `SetInitialMin`.
    pub fn starting_at(first: u64) -> Self {
        let mut set = SequenceSet::default();
        set.root = Some(set.add_node(first));
        set
    }

    /// Adds `sequence`; `false` if it was there.
    pub fn insert(&mut self, sequence: u64) -> bool {
        let new = match self.floor(sequence) {
            Some(id) if self.nodes[id as usize].covers(sequence) => self.nodes[id as usize].set(sequence),
            floor => {
                if self.len == 0 {
                    // A known start that wasn't one: its node would stay empty.
                    self.clear();
                }
                let floor = floor.filter(|_| self.len > 0);
                let aligned = sequence / Self::SPAN * Self::SPAN;
                // A node that doesn't lie on a multiple may reach into this one's span; what is there stays its.
                let end = floor.map_or(0, |id| self.nodes[id as usize].end());
                let id = self.add_node(aligned.max(end));
                self.nodes[id as usize].set(sequence);
                self.link(id);
                true
            }
        };
        self.len += usize::from(new);
        new
    }

    /// Removes `sequence`; `false` if it wasn't there.
    pub fn remove(&mut self, sequence: u64) -> bool {
        let Some(id) = self.floor(sequence) else { return false };
        let node = &mut self.nodes[id as usize];
        if !node.covers(sequence) || !node.clear(sequence) {
            return false;
        }
        self.len -= 1;
        if node.is_empty() {
            let base = node.base;
            self.unlink(base);
        }
        if self.len == 0 {
            self.clear();
        }
        true
    }

    /// Returns whether `sequence` is in the set.
    pub fn contains(&self, sequence: u64) -> bool {
        self.floor(sequence).is_some_and(|id| {
            let node = &self.nodes[id as usize];
            node.covers(sequence) && node.get(sequence)
        })
    }

    /// Returns how many sequences there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Removes all.
    pub fn clear(&mut self) {
        *self = SequenceSet::default();
    }

    /// Returns the lowest sequence.
    pub fn first(&self) -> Option<u64> {
        self.iter().next()
    }

    /// Returns the highest sequence.
    pub fn last(&self) -> Option<u64> {
        let mut id = self.root?;
        while self.nodes[id as usize].right != NONE {
            id = self.nodes[id as usize].right;
        }
        // Only a node that was made empty can be; it is then the only one.
        self.nodes[id as usize].last()
    }

    /// Returns all sequences, in order.
    pub fn iter(&self) -> Iter<'_> {
        let mut iter = Iter { set: self, path: Vec::new(), word: 0, bits: 0 };
        iter.descend(self.root.unwrap_or(NONE));
        iter.load();
        iter
    }

    /// Returns the runs of consecutive sequences, first and last of each, in order.
    pub fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut sequences = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = sequences.next()?;
            let mut last = first;
            while let Some(next) = sequences.next_if(|next| last.checked_add(1) == Some(*next)) {
                last = next;
            }
            Some((first, last))
        })
    }

    /// Adds everything that is in `other`.
    pub fn union(&mut self, other: &SequenceSet) {
        for sequence in other {
            self.insert(sequence);
        }
    }

    /// Returns how many nodes there are.
    pub fn nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Returns the heights of the trees on both sides of the root.
    pub fn heights(&self) -> (u8, u8) {
        self.root.map_or((0, 0), |root| {
            let node = &self.nodes[root as usize];
            (self.height(node.left), self.height(node.right))
        })
    }

    /// Returns the bytes that the set takes in memory.
    pub fn memory(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>() + self.free.capacity() * size_of::<u32>()
    }
}

/// Sets are equal that have the same sequences, whatever their trees look like.
impl PartialEq for SequenceSet {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.iter().eq(other.iter())
    }
}

impl Eq for SequenceSet {}

impl FromIterator<u64> for SequenceSet {
    fn from_iter<I: IntoIterator<Item = u64>>(sequences: I) -> Self {
        let mut set = SequenceSet::default();
        set.extend(sequences);
        set
    }
}

impl Extend<u64> for SequenceSet {
    fn extend<I: IntoIterator<Item = u64>>(&mut self, sequences: I) {
        for sequence in sequences {
            self.insert(sequence);
        }
    }
}

impl<'a> IntoIterator for &'a SequenceSet {
    type Item = u64;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// The sequences of a set, in order.
#[derive(Debug)]
pub struct Iter<'a> {
    set: &'a SequenceSet,
    /// The node that is read, last, over those that come after it.
    path: Vec<u32>,
    word: usize,
    bits: u64,
}

impl Iter<'_> {
    fn descend(&mut self, mut id: u32) {
        while id != NONE {
            self.path.push(id);
            id = self.set.nodes[id as usize].left;
        }
    }

    fn load(&mut self) {
        self.word = 0;
        self.bits = self.path.last().map_or(0, |id| self.set.nodes[*id as usize].bits[0]);
    }
}

impl Iterator for Iter<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        loop {
            let id = *self.path.last()?;
            let node = &self.set.nodes[id as usize];
            if self.bits != 0 {
                let bit = u64::from(self.bits.trailing_zeros());
                self.bits &= self.bits - 1;
                return Some(node.base + self.word as u64 * 64 + bit);
            }
            self.word += 1;
            if let Some(bits) = node.bits.get(self.word) {
                self.bits = *bits;
                continue;
            }
            self.path.pop();
            self.descend(node.right);
            self.load();
        }
    }
}

#[cfg(test)]
mod tests;
