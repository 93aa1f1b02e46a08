//! A trie of subjects, wildcards included, that carries a payload at the node of each subject.
//!
//! The [`Sublist`](super::Sublist) is this with subscriptions as payload; whatever else looks subjects up by
//! pattern (a generic subject list) shares the walks.
//!
//! Shape. A node is one token behind its parent's. `*` and `>` children are fields of the node, because every
//! match asks for them; all other children of all nodes sit in *one* hash index over (parent, token), so that a
//! node costs no table of its own. Siblings are linked for the walks that need them all.
//!
//! Cost, with a payload of 16 bytes: 64 bytes for a node whose token has up to 16 bytes, and 5.7 to 10 for its
//! place in the index, for each *distinct* token path. A million subjects `a.b.<id>` are about 73 MB.
//!
//! No operation pays for the size of the trie: nodes live in chunks that never move, and the index is split in
//! halves as it grows (extendible hashing), so that no insert copies more than [`SPLIT_AT`] entries.
//!
//! Invariants: every node except the root has a payload or a child, once [`Trie::prune`] was called on what was
//! emptied; a node's id stays the same as long as it lives; the order of every walk is a function of the
//! operations and of nothing else (newest sibling first).

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::tokens::{ANY_REST, ANY_TOKEN, SEPARATOR, tokens};
use super::validity::has_valid_shape;
use crate::rng::HashKeys;

/// What a node carries.
pub(super) trait Payload: Default {
    /// Says whether the node may go, as far as the payload is concerned.
    fn is_empty(&self) -> bool;
}

/// A node of one trie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeId(u32);

impl NodeId {
    const ROOT: NodeId = NodeId(0);
    const NONE: NodeId = NodeId(u32::MAX);

    fn some(self) -> Option<NodeId> {
        (self != NodeId::NONE).then_some(self)
    }
}

/// Nodes of interest, gathered by a walk; on the stack until there are many.
pub(super) type NodeIds = SmallVec<[NodeId; 32]>;

/// Inline up to 16 bytes: an identifier of 22 (a NUID) is worth an allocation, a fatter node is not.
type Token = SmallVec<[u8; 16]>;

#[derive(Debug)]
struct Node<P> {
    token: Token,
    parent: NodeId,
    /// Head of the literal children, linked by `next` and `previous`.
    first_child: NodeId,
    /// Also links the free nodes.
    next: NodeId,
    previous: NodeId,
    any_token: NodeId,
    any_rest: NodeId,
    payload: P,
}

impl<P: Payload> Node<P> {
    fn new(token: &[u8], parent: NodeId) -> Self {
        Node {
            token: Token::from_slice(token),
            parent,
            first_child: NodeId::NONE,
            next: NodeId::NONE,
            previous: NodeId::NONE,
            any_token: NodeId::NONE,
            any_rest: NodeId::NONE,
            payload: P::default(),
        }
    }

    fn has_children(&self) -> bool {
        self.first_child.some().or(self.any_token.some()).or(self.any_rest.some()).is_some()
    }
}

/// A trie of subjects; see the module.
#[derive(Debug)]
pub(super) struct Trie<P> {
    keys: HashKeys,
    nodes: Nodes<P>,
    index: ChildIndex,
}

impl<P: Payload> Trie<P> {
    /// Makes an empty trie whose index is keyed by `keys`.
    pub(super) fn new(keys: HashKeys) -> Self {
        let mut nodes = Nodes::default();
        nodes.add(Node::new(b"", NodeId::NONE));
        Trie { keys, nodes, index: ChildIndex::default() }
    }

    /// Returns the payload of a node.
    pub(super) fn payload(&self, id: NodeId) -> &P {
        &self.nodes.get(id).payload
    }

    /// Returns the payload of a node; whoever empties it calls [`Trie::prune`].
    pub(super) fn payload_mut(&mut self, id: NodeId) -> &mut P {
        &mut self.nodes.get_mut(id).payload
    }

    /// Returns the node of exactly this subject, making it and those on the way as needed.
    ///
    /// `None` if the subject has an empty token, or `>` before its end; the trie is then untouched.
    pub(super) fn insert(&mut self, subject: &[u8]) -> Option<NodeId> {
        if !has_valid_shape(subject) {
            return None;
        }
        let mut id = NodeId::ROOT;
        for token in tokens(subject) {
            id = match self.child(id, token) {
                Some(child) => child,
                None => self.add_child(id, token),
            };
        }
        Some(id)
    }

    /// Returns the node of exactly this subject, which may have wildcards.
    pub(super) fn find(&self, subject: &[u8]) -> Option<NodeId> {
        tokens(subject).try_fold(NodeId::ROOT, |id, token| self.child(id, token))
    }

    /// Removes the node, if its payload is empty and it has no child, and then its parents likewise.
    pub(super) fn prune(&mut self, mut id: NodeId) {
        while id != NodeId::ROOT {
            let node = self.nodes.get(id);
            if node.has_children() || !node.payload.is_empty() {
                return;
            }
            let parent = node.parent;
            self.unlink(id);
            self.nodes.free(id);
            id = parent;
        }
        let root = self.nodes.get(NodeId::ROOT);
        // An empty trie gives back what it grew to; a small one is not worth the trouble.
        if !root.has_children() && self.nodes.chunks.len() > 1 {
            *self = Trie::new(self.keys.clone());
        }
    }

    /// Gathers the nodes whose patterns match the literal `subject`; none if it has an empty token.
    ///
    /// A wildcard token in `subject` is matched by wildcards only. Level by level rather than depth first: the
    /// stack stays flat however many tokens a stranger's subject has, and each token is hashed once.
    pub(super) fn collect_matching(&self, subject: &[u8], found: &mut NodeIds) {
        let mut frontier = NodeIds::new();
        let mut next = NodeIds::new();
        frontier.push(NodeId::ROOT);
        for token in tokens(subject) {
            if token.is_empty() {
                found.clear();
                return;
            }
            if frontier.is_empty() {
                // Nothing more to find, but a later empty token would still make it nothing at all.
                continue;
            }
            let hash = self.keys.hash(token);
            for id in frontier.drain(..) {
                let node = self.nodes.get(id);
                found.extend(node.any_rest.some());
                next.extend(node.any_token.some());
                next.extend(self.literal_child(id, node, hash, token));
            }
            std::mem::swap(&mut frontier, &mut next);
        }
        found.extend(frontier);
    }

    /// Tells whether a pattern matches the tokens of `start` and goes on behind them.
    pub(super) fn goes_on_behind<'a>(&self, start: impl Iterator<Item = &'a [u8]>) -> bool {
        let mut frontier = NodeIds::new();
        let mut next = NodeIds::new();
        frontier.push(NodeId::ROOT);
        for token in start {
            let hash = self.keys.hash(token);
            for id in frontier.drain(..) {
                let node = self.nodes.get(id);
                if node.any_rest.some().is_some() {
                    return true;
                }
                next.extend(node.any_token.some());
                next.extend(self.literal_child(id, node, hash, token));
            }
            std::mem::swap(&mut frontier, &mut next);
        }
        frontier.iter().any(|id| self.nodes.get(*id).has_children())
    }

    /// Gathers the nodes whose patterns have a literal subject in common with `pattern`.
    pub(super) fn collect_colliding(&self, pattern: &[u8], found: &mut NodeIds) {
        if !has_valid_shape(pattern) {
            return;
        }
        let mut frontier = NodeIds::new();
        let mut next = NodeIds::new();
        frontier.push(NodeId::ROOT);
        for token in tokens(pattern) {
            if token == ANY_REST {
                for id in frontier.drain(..) {
                    self.collect_below(id, found);
                }
                return;
            }
            let hash = self.keys.hash(token);
            for id in frontier.drain(..) {
                let node = self.nodes.get(id);
                found.extend(node.any_rest.some());
                next.extend(node.any_token.some());
                if token == ANY_TOKEN {
                    next.extend(self.literal_children(id));
                } else {
                    next.extend(self.literal_child(id, node, hash, token));
                }
            }
            std::mem::swap(&mut frontier, &mut next);
        }
        found.extend(frontier);
    }

    /// Calls `visit` with every non-empty payload and its subject, until it says `false`.
    pub(super) fn visit<'a>(&'a self, mut visit: impl FnMut(&[u8], &'a P) -> bool) {
        let mut subject = Vec::new();
        let mut stack: Vec<(NodeId, usize)> = self.children(NodeId::ROOT).map(|child| (child, 0)).collect();
        while let Some((id, prefix)) = stack.pop() {
            let node = self.nodes.get(id);
            subject.truncate(prefix);
            if prefix > 0 {
                subject.push(SEPARATOR);
            }
            subject.extend_from_slice(&node.token);
            if !node.payload.is_empty() && !visit(&subject, &node.payload) {
                return;
            }
            stack.extend(self.children(id).map(|child| (child, subject.len())));
        }
    }

    /// Counts the nodes, the root not included.
    #[cfg(test)]
    pub(super) fn node_count(&self) -> usize {
        let mut found = NodeIds::new();
        self.collect_below(NodeId::ROOT, &mut found);
        assert_eq!(found.len(), self.nodes.live - 1, "every node can be reached");
        found.len()
    }

    fn collect_below(&self, id: NodeId, found: &mut NodeIds) {
        let mut unvisited = found.len();
        found.extend(self.children(id));
        while let Some(id) = found.get(unvisited).copied() {
            unvisited += 1;
            found.extend(self.children(id));
        }
    }

    fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        let node = self.nodes.get(id);
        node.any_rest.some().into_iter().chain(node.any_token.some()).chain(self.literal_children(id))
    }

    fn literal_children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        std::iter::successors(self.nodes.get(id).first_child.some(), |id| self.nodes.get(*id).next.some())
    }

    fn child(&self, id: NodeId, token: &[u8]) -> Option<NodeId> {
        let node = self.nodes.get(id);
        match token {
            ANY_TOKEN => node.any_token.some(),
            ANY_REST => node.any_rest.some(),
            _ => self.literal_child(id, node, self.keys.hash(token), token),
        }
    }

    /// `hash` is that of the token.
    fn literal_child(&self, id: NodeId, node: &Node<P>, hash: u64, token: &[u8]) -> Option<NodeId> {
        node.first_child.some()?;
        self.index.find(child_hash(id, hash), |child| {
            let child = self.nodes.get(child);
            child.parent == id && child.token.as_slice() == token
        })
    }

    fn add_child(&mut self, parent: NodeId, token: &[u8]) -> NodeId {
        let id = self.nodes.add(Node::new(token, parent));
        let node = self.nodes.get_mut(parent);
        match token {
            ANY_TOKEN => node.any_token = id,
            ANY_REST => node.any_rest = id,
            _ => {
                let next = std::mem::replace(&mut node.first_child, id);
                self.nodes.get_mut(id).next = next;
                if let Some(next) = next.some() {
                    self.nodes.get_mut(next).previous = id;
                }
                let hash_of = |id| hash_in_index(&self.keys, &self.nodes, id);
                self.index.insert(hash_of(id), id, hash_of);
            }
        }
        id
    }

    fn unlink(&mut self, id: NodeId) {
        let Node { parent, next, previous, .. } = *self.nodes.get(id);
        let owner = self.nodes.get_mut(parent);
        if owner.any_token == id {
            owner.any_token = NodeId::NONE;
        } else if owner.any_rest == id {
            owner.any_rest = NodeId::NONE;
        } else {
            match previous.some() {
                Some(previous) => self.nodes.get_mut(previous).next = next,
                None => owner.first_child = next,
            }
            if let Some(next) = next.some() {
                self.nodes.get_mut(next).previous = previous;
            }
            self.index.remove(hash_in_index(&self.keys, &self.nodes, id), id);
        }
    }
}

/// Mixes a token's hash with its parent; the token's hash is keyed, so nobody outside can aim.
fn child_hash(parent: NodeId, token_hash: u64) -> u64 {
    let mixed = u128::from(token_hash ^ u64::from(parent.0).wrapping_mul(0x9e37_79b9_7f4a_7c15))
        * 0xd6e8_feb8_6659_fd93_u128;
    (mixed as u64) ^ ((mixed >> 64) as u64)
}

fn hash_in_index<P: Payload>(keys: &HashKeys, nodes: &Nodes<P>, id: NodeId) -> u64 {
    let node = nodes.get(id);
    child_hash(node.parent, keys.hash(&node.token))
}

/// Nodes by id, in chunks that never move; freed ids are used again, the latest first.
#[derive(Debug)]
struct Nodes<P> {
    chunks: Vec<Vec<Node<P>>>,
    free: NodeId,
    live: usize,
}

impl<P> Default for Nodes<P> {
    fn default() -> Self {
        Nodes { chunks: Vec::new(), free: NodeId::NONE, live: 0 }
    }
}

impl<P: Payload> Nodes<P> {
    const CHUNK: usize = 1024;

    fn get(&self, id: NodeId) -> &Node<P> {
        let at = id.0 as usize;
        &self.chunks[at / Self::CHUNK][at % Self::CHUNK]
    }

    fn get_mut(&mut self, id: NodeId) -> &mut Node<P> {
        let at = id.0 as usize;
        &mut self.chunks[at / Self::CHUNK][at % Self::CHUNK]
    }

    fn add(&mut self, node: Node<P>) -> NodeId {
        self.live += 1;
        if let Some(id) = self.free.some() {
            self.free = self.get(id).next;
            *self.get_mut(id) = node;
            return id;
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() == Self::CHUNK) {
            // Most accounts have few subjects: the first chunk starts small, and its growth copies little.
            let capacity = if self.chunks.is_empty() { 4 } else { Self::CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        let before = (self.chunks.len() - 1) * Self::CHUNK;
        let chunk = self.chunks.last_mut().expect("pushed above");
        let id = u32::try_from(before + chunk.len()).ok().map(NodeId).and_then(NodeId::some);
        chunk.push(node);
        id.expect("four billion nodes do not fit into memory")
    }

    fn free(&mut self, id: NodeId) {
        let next = std::mem::replace(&mut self.free, id);
        let node = self.get_mut(id);
        *node = Node::new(b"", NodeId::NONE);
        node.next = next;
        self.live -= 1;
    }
}

/// How many entries a segment of the index holds before it is split: what fills a table of 4,096 buckets.
const SPLIT_AT: usize = 3584;

/// Literal nodes by the hash of (parent, token): extendible hashing over small tables.
#[derive(Debug, Default)]
struct ChildIndex {
    /// `2^bits` entries, each the number of a segment; empty before the first insert.
    directory: Vec<u32>,
    bits: u32,
    segments: Vec<Segment>,
}

#[derive(Debug, Default)]
struct Segment {
    table: HashTable<NodeId>,
    /// How many bits of the hash its entries have in common: it fills `2^(bits - depth)` directory entries.
    depth: u32,
}

impl ChildIndex {
    /// A directory of a million segments is enough for every `u32`.
    const MAX_BITS: u32 = 20;

    /// The bits that choose the segment; the tables use the lowest and the seven highest.
    fn route(hash: u64) -> usize {
        (hash >> 32) as usize & ((1 << Self::MAX_BITS) - 1)
    }

    fn segment(&self, hash: u64) -> Option<usize> {
        // Before the first insert the directory is empty and the mask zero.
        let at = Self::route(hash) & self.directory.len().wrapping_sub(1);
        self.directory.get(at).map(|segment| *segment as usize)
    }

    fn find(&self, hash: u64, is_it: impl Fn(NodeId) -> bool) -> Option<NodeId> {
        self.segments[self.segment(hash)?].table.find(hash, |id| is_it(*id)).copied()
    }

    fn insert(&mut self, hash: u64, id: NodeId, hash_of: impl Fn(NodeId) -> u64) {
        if self.directory.is_empty() {
            self.directory.push(0);
            self.segments.push(Segment::default());
        }
        loop {
            let at = self.segment(hash).expect("the directory has an entry");
            let segment = &mut self.segments[at];
            if segment.table.len() < SPLIT_AT || segment.depth == Self::MAX_BITS {
                segment.table.insert_unique(hash, id, |id| hash_of(*id));
                return;
            }
            self.split(at, &hash_of);
        }
    }

    fn remove(&mut self, hash: u64, id: NodeId) {
        if let Some(at) = self.segment(hash)
            && let Ok(entry) = self.segments[at].table.find_entry(hash, |other| *other == id)
        {
            entry.remove();
        }
    }

    fn split(&mut self, at: usize, hash_of: &impl Fn(NodeId) -> u64) {
        let depth = self.segments[at].depth;
        if depth == self.bits {
            self.directory.extend_from_within(..);
            self.bits += 1;
        }
        let goes = |id: &NodeId| Self::route(hash_of(*id)) >> depth & 1 == 1;
        let mut moved = Segment { table: HashTable::with_capacity(SPLIT_AT), depth: depth + 1 };
        let old = &mut self.segments[at];
        old.depth = depth + 1;
        for id in old.table.extract_if(|id| goes(id)) {
            moved.table.insert_unique(hash_of(id), id, |id| hash_of(*id));
        }
        let number = self.segments.len() as u32;
        self.segments.push(moved);
        for (place, segment) in self.directory.iter_mut().enumerate() {
            if *segment as usize == at && place >> depth & 1 == 1 {
                *segment = number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[derive(Debug, Default)]
    struct Mark(bool);

    impl Payload for Mark {
        fn is_empty(&self) -> bool {
            !self.0
        }
    }

    fn trie() -> Trie<Mark> {
        Trie::new(Rng::from_u64(1).hash_keys())
    }

    /// What the module says of cost.
    #[test]
    fn a_node_is_a_cache_line() {
        assert_eq!(size_of::<Node<[u64; 2]>>(), 64);
    }

    #[test]
    fn the_index_splits_and_finds() {
        let mut trie = trie();
        let subject = |number: u32| format!("{}.{number}", number % 10);
        for number in 0..50_000 {
            let id = trie.insert(subject(number).as_bytes()).unwrap();
            trie.payload_mut(id).0 = true;
        }
        assert!(trie.index.segments.len() > 50_000 / SPLIT_AT);
        assert!(trie.index.segments.iter().all(|segment| segment.table.len() <= SPLIT_AT));
        for number in 0..50_000 {
            assert!(trie.find(subject(number).as_bytes()).is_some());
        }
        assert_eq!(trie.find(b"1.2"), None);
        assert_eq!(trie.node_count(), 50_010);
        for number in 0..50_000 {
            let id = trie.find(subject(number).as_bytes()).unwrap();
            trie.payload_mut(id).0 = false;
            trie.prune(id);
        }
        assert_eq!(trie.node_count(), 0);
        assert_eq!(trie.nodes.chunks.len(), 1, "an empty trie gives its memory back");
    }

    #[test]
    fn freed_nodes_are_used_again() {
        let mut trie = trie();
        for round in 0..10_000 {
            let id = trie.insert(format!("a.{round}.b").as_bytes()).unwrap();
            trie.prune(id);
        }
        assert_eq!((trie.node_count(), trie.nodes.chunks[0].len()), (0, 4));
    }

    #[test]
    fn pruning_stops_at_what_is_in_use() {
        let mut trie = trie();
        let upper = trie.insert(b"a.b").unwrap();
        trie.payload_mut(upper).0 = true;
        let lower = trie.insert(b"a.b.*.>").unwrap();
        trie.prune(lower);
        assert_eq!((trie.node_count(), trie.find(b"a.b")), (2, Some(upper)));
        trie.prune(upper);
        assert_eq!(trie.find(b"a.b"), Some(upper), "its payload holds it");
    }
}
