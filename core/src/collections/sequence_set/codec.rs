//! Sets as bytes: the reference's format.
//!
//! `magic u8 = 22, version u8, nodes u32, sequences u32`, then for each node, parents before their children and the left
//! before the right: `base u64, bits [u64; 32], height u16`; all little-endian. Version 1 has 64 words of bits in a node.
//!
//! Source: nats-server `server/avl/seqset.go`, `Encode` and `Decode`.

use super::SequenceSet;
use super::tree::{NONE, Node, WORDS};

const MAGIC: u8 = 22;
const VERSION: u8 = 2;
const HEAD: usize = 10;
const NODE: usize = 8 + WORDS * 8 + 2;
/// Words of bits in a node of version 1.
const OLD_WORDS: usize = 64;
const OLD_NODE: usize = 8 + OLD_WORDS * 8 + 2;

/// Why bytes are not a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SequenceSetError {
    /// They end too early, or contradict themselves.
    #[error("ss: bad encoding")]
    Encoding,
    /// They are of a version that nobody knows.
    #[error("ss: bad version")]
    Version,
}

impl SequenceSet {
    /// Returns how long the encoded set is, in bytes.
    pub fn encoded_len(&self) -> usize {
        HEAD + self.nodes() * NODE
    }

    /// Appends the set, in version 2.
    ///
    /// # Panics
    ///
    /// If it has 2^32 sequences or more, which the format can't say.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let len = u32::try_from(self.len).expect("the format counts to 2^32");
        out.reserve(self.encoded_len());
        out.extend_from_slice(&[MAGIC, VERSION]);
        out.extend_from_slice(&(self.nodes() as u32).to_le_bytes());
        out.extend_from_slice(&len.to_le_bytes());
        self.encode_under(self.root.unwrap_or(NONE), out);
    }

    fn encode_under(&self, at: u32, out: &mut Vec<u8>) {
        if at == NONE {
            return;
        }
        let node = &self.nodes[at as usize];
        out.extend_from_slice(&node.base.to_le_bytes());
        out.extend(node.bits.iter().flat_map(|bits| bits.to_le_bytes()));
        out.extend_from_slice(&u16::from(node.height).to_le_bytes());
        self.encode_under(node.left, out);
        self.encode_under(node.right, out);
    }

    /// Reads a set of version 1 or 2, and returns it and how many bytes it took.
    ///
    /// # Errors
    ///
    /// [`SequenceSetError`]; a count is checked against the bytes that are there before anything is allocated for it,
    /// and the number of sequences has to be the one that is said.
    pub fn decode(bytes: &[u8]) -> Result<(Self, usize), SequenceSetError> {
        let head = bytes.first_chunk::<HEAD>().ok_or(SequenceSetError::Encoding)?;
        let [MAGIC, version, n0, n1, n2, n3, l0, l1, l2, l3] = *head else {
            return Err(SequenceSetError::Encoding);
        };
        let (count, len) = (u32::from_le_bytes([n0, n1, n2, n3]), u32::from_le_bytes([l0, l1, l2, l3]));
        let size = match version {
            1 => OLD_NODE,
            2 => NODE,
            _ => return Err(SequenceSetError::Version),
        };
        let taken = (count as usize).checked_mul(size).and_then(|nodes| nodes.checked_add(HEAD));
        let taken = taken.filter(|taken| *taken <= bytes.len()).ok_or(SequenceSetError::Encoding)?;
        let nodes = bytes[HEAD..taken].chunks_exact(size);
        let set = if version == 1 { Self::from_old(nodes) } else { Self::from_nodes(nodes) };
        let set = set.filter(|set| set.len == len as usize).ok_or(SequenceSetError::Encoding)?;
        Ok((set, taken))
    }

    fn from_nodes<'a>(nodes: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut set = SequenceSet::default();
        for bytes in nodes {
            let mut words = bytes.chunks_exact(8).map(word);
            let base = words.next()?;
            let mut bits = [0; WORDS];
            bits.fill_with(|| words.next().unwrap_or(0));
            let count: u32 = bits.iter().map(|bits| bits.count_ones()).sum();
            set.len += count as usize;
            if count > 0 {
                set.nodes.push(Node::new(base, bits));
            }
        }
        set.nodes.sort_unstable_by_key(|node| node.base);
        let mut nodes = set.nodes.iter();
        if nodes.any(|node| u64::MAX - node.base < highest_offset(node)) {
            return None;
        }
        // A sequence has to be in the node with the greatest base below it, or nobody finds it. The reference's sets
        // with a known start may have it elsewhere: they are built anew.
        let reaches = |pair: &[Node]| pair[1].base - pair[0].base <= highest_offset(&pair[0]);
        if set.nodes.windows(2).any(reaches) {
            let said = set.len;
            let sequences = set.nodes.iter().flat_map(Node::sequences);
            return Some(sequences.collect()).filter(|set: &SequenceSet| set.len == said);
        }
        let root = set.link_all(0, set.nodes.len() as u32);
        set.root = (root != NONE).then_some(root);
        Some(set)
    }

    fn from_old<'a>(nodes: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut set = SequenceSet::default();
        for bytes in nodes {
            let mut words = bytes.chunks_exact(8).map(word);
            let base = words.next()?;
            for (at, mut bits) in words.take(OLD_WORDS).enumerate() {
                while bits != 0 {
                    let offset = at as u64 * 64 + u64::from(bits.trailing_zeros());
                    set.insert(base.checked_add(offset)?);
                    bits &= bits - 1;
                }
            }
        }
        Some(set)
    }
}

/// How far behind its base a node's last bit lies.
fn highest_offset(node: &Node) -> u64 {
    let word = node.bits.iter().rposition(|bits| *bits != 0).unwrap_or(0);
    word as u64 * 64 + 63 - u64::from(node.bits[word].leading_zeros())
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("chunks of eight"))
}
