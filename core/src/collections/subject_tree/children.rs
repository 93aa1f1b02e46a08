//! The children of an inner node, by the byte that each begins with, in as little room as they fit in.

use super::Node;

type Slot<T> = Option<Node<T>>;

/// No child, in the table of an [`Indexed`] node.
const NOBODY: u8 = u8::MAX;

/// Children in the order of their bytes.
#[derive(Debug)]
pub(super) enum Children<T> {
    Four(Sorted<T, 4>),
    Ten(Box<Sorted<T, 10>>),
    Sixteen(Box<Sorted<T, 16>>),
    FortyEight(Box<Indexed<T>>),
    Full(Box<Full<T>>),
}

/// Up to `N` children, found by going through their bytes.
#[derive(Debug)]
pub(super) struct Sorted<T, const N: usize> {
    len: u8,
    bytes: [u8; N],
    nodes: [Slot<T>; N],
}

/// Up to 48 children, found through a table of all bytes.
#[derive(Debug)]
pub(super) struct Indexed<T> {
    len: u8,
    places: [u8; 256],
    nodes: [Slot<T>; 48],
}

/// A place for every byte.
#[derive(Debug)]
pub(super) struct Full<T> {
    len: u16,
    nodes: [Slot<T>; 256],
}

impl<T> Default for Children<T> {
    fn default() -> Self {
        Children::Four(Sorted::empty())
    }
}

impl<T, const N: usize> Sorted<T, N> {
    fn empty() -> Self {
        Sorted { len: 0, bytes: [0; N], nodes: std::array::from_fn(|_| None) }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    fn find(&self, byte: u8) -> Option<usize> {
        self.bytes().iter().position(|known| *known == byte)
    }

    fn is_full(&self) -> bool {
        usize::from(self.len) == N
    }

    fn add(&mut self, byte: u8, node: Node<T>) {
        let len = usize::from(self.len);
        let at = self.bytes().partition_point(|known| *known < byte);
        self.bytes.copy_within(at..len, at + 1);
        self.nodes[at..=len].rotate_right(1);
        self.bytes[at] = byte;
        self.nodes[at] = Some(node);
        self.len += 1;
    }

    fn remove(&mut self, byte: u8) -> Slot<T> {
        let (at, len) = (self.find(byte)?, usize::from(self.len));
        let node = self.nodes[at].take();
        self.bytes.copy_within(at + 1..len, at);
        self.nodes[at..len].rotate_left(1);
        self.len -= 1;
        node
    }
}

impl<T> Indexed<T> {
    fn empty() -> Self {
        Indexed { len: 0, places: [NOBODY; 256], nodes: std::array::from_fn(|_| None) }
    }

    fn place(&self, byte: u8) -> Option<usize> {
        let place = self.places[usize::from(byte)];
        (place != NOBODY).then_some(usize::from(place))
    }

    fn add(&mut self, byte: u8, node: Node<T>) {
        let free = self.nodes.iter().position(Option::is_none).expect("a full node has grown before");
        self.places[usize::from(byte)] = free as u8;
        self.nodes[free] = Some(node);
        self.len += 1;
    }

    fn remove(&mut self, byte: u8) -> Slot<T> {
        let node = self.nodes[self.place(byte)?].take();
        self.places[usize::from(byte)] = NOBODY;
        self.len -= 1;
        node
    }
}

impl<T> Full<T> {
    fn empty() -> Self {
        Full { len: 0, nodes: std::array::from_fn(|_| None) }
    }
}

impl<T> Children<T> {
    pub(super) fn len(&self) -> usize {
        match self {
            Children::Four(node) => usize::from(node.len),
            Children::Ten(node) => usize::from(node.len),
            Children::Sixteen(node) => usize::from(node.len),
            Children::FortyEight(node) => usize::from(node.len),
            Children::Full(node) => usize::from(node.len),
        }
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.get(byte).is_some()
    }

    pub(super) fn get(&self, byte: u8) -> Option<&Node<T>> {
        match self {
            Children::Four(node) => node.nodes[node.find(byte)?].as_ref(),
            Children::Ten(node) => node.nodes[node.find(byte)?].as_ref(),
            Children::Sixteen(node) => node.nodes[node.find(byte)?].as_ref(),
            Children::FortyEight(node) => node.nodes[node.place(byte)?].as_ref(),
            Children::Full(node) => node.nodes[usize::from(byte)].as_ref(),
        }
    }

    pub(super) fn get_mut(&mut self, byte: u8) -> Option<&mut Node<T>> {
        self.has(byte).then(|| self.slot(byte).as_mut()).flatten()
    }

    /// Returns where the child of `byte` is.
    ///
    /// # Panics
    ///
    /// If there is none.
    pub(super) fn slot(&mut self, byte: u8) -> &mut Slot<T> {
        const THERE: &str = "the child is there";
        match self {
            Children::Four(node) => {
                let at = node.find(byte).expect(THERE);
                &mut node.nodes[at]
            }
            Children::Ten(node) => {
                let at = node.find(byte).expect(THERE);
                &mut node.nodes[at]
            }
            Children::Sixteen(node) => {
                let at = node.find(byte).expect(THERE);
                &mut node.nodes[at]
            }
            Children::FortyEight(node) => {
                let at = node.place(byte).expect(THERE);
                &mut node.nodes[at]
            }
            Children::Full(node) => &mut node.nodes[usize::from(byte)],
        }
    }

    /// Adds a child under a byte that has none.
    pub(super) fn add(&mut self, byte: u8, node: Node<T>) {
        let full = match self {
            Children::Four(node) => node.is_full(),
            Children::Ten(node) => node.is_full(),
            Children::Sixteen(node) => node.is_full(),
            Children::FortyEight(node) => usize::from(node.len) == node.nodes.len(),
            Children::Full(_) => false,
        };
        if full {
            self.resize(self.len() + 1);
        }
        match self {
            Children::Four(children) => children.add(byte, node),
            Children::Ten(children) => children.add(byte, node),
            Children::Sixteen(children) => children.add(byte, node),
            Children::FortyEight(children) => children.add(byte, node),
            Children::Full(children) => {
                children.nodes[usize::from(byte)] = Some(node);
                children.len += 1;
            }
        }
    }

    /// Removes the child of `byte`.
    pub(super) fn remove(&mut self, byte: u8) -> Slot<T> {
        let removed = match self {
            Children::Four(node) => node.remove(byte),
            Children::Ten(node) => node.remove(byte),
            Children::Sixteen(node) => node.remove(byte),
            Children::FortyEight(node) => node.remove(byte),
            Children::Full(node) => {
                let removed = node.nodes[usize::from(byte)].take();
                node.len -= u16::from(removed.is_some());
                removed
            }
        };
        let fits_below = match self {
            Children::Four(_) => false,
            Children::Ten(node) => node.len <= 4,
            Children::Sixteen(node) => node.len <= 10,
            Children::FortyEight(node) => node.len <= 16,
            Children::Full(node) => node.len <= 48,
        };
        if fits_below {
            self.resize(self.len());
        }
        removed
    }

    /// Moves all children behind what is in `out`.
    pub(super) fn drain_into(&mut self, out: &mut Vec<Node<T>>) {
        let nodes: &mut [Slot<T>] = match self {
            Children::Four(node) => &mut node.nodes,
            Children::Ten(node) => &mut node.nodes,
            Children::Sixteen(node) => &mut node.nodes,
            Children::FortyEight(node) => &mut node.nodes,
            Children::Full(node) => &mut node.nodes,
        };
        out.extend(nodes.iter_mut().filter_map(Option::take));
        *self = Children::default();
    }

    /// Removes the only child.
    pub(super) fn take_only(&mut self) -> Slot<T> {
        let byte = self.bytes().next()?;
        self.remove(byte)
    }

    /// Returns the bytes that have a child, in order.
    pub(super) fn bytes(&self) -> impl DoubleEndedIterator<Item = u8> + '_ {
        let (sorted, all): (&[u8], u16) = match self {
            Children::Four(node) => (node.bytes(), 0),
            Children::Ten(node) => (node.bytes(), 0),
            Children::Sixteen(node) => (node.bytes(), 0),
            Children::FortyEight(_) | Children::Full(_) => (&[], 256),
        };
        let all = (0..all).map(|byte| byte as u8).filter(|byte| self.has(*byte));
        sorted.iter().copied().chain(all)
    }

    /// Moves the children to a node that is as large as `wanted` of them need.
    fn resize(&mut self, wanted: usize) {
        let bytes: smallvec::SmallVec<[u8; 48]> = self.bytes().collect();
        let mut old = std::mem::take(self);
        *self = match wanted {
            0..=4 => Children::Four(Sorted::empty()),
            5..=10 => Children::Ten(Box::new(Sorted::empty())),
            11..=16 => Children::Sixteen(Box::new(Sorted::empty())),
            17..=48 => Children::FortyEight(Box::new(Indexed::empty())),
            _ => Children::Full(Box::new(Full::empty())),
        };
        for byte in bytes {
            if let Some(node) = old.slot(byte).take() {
                self.add(byte, node);
            }
        }
    }

    /// Returns how many children there is room for.
    #[cfg(test)]
    pub(super) fn room(&self) -> usize {
        match self {
            Children::Four(_) => 4,
            Children::Ten(_) => 10,
            Children::Sixteen(_) => 16,
            Children::FortyEight(_) => 48,
            Children::Full(_) => 256,
        }
    }
}
