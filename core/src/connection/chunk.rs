//! Large payloads, shared instead of copied: a slice that keeps its block alive.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of a shared block that nobody changes any more.
#[derive(Clone)]
pub(crate) struct Chunk {
    block: Arc<Vec<u8>>,
    start: usize,
    end: usize,
}

impl Chunk {
    /// Shares `block[start..end]`.
    ///
    /// # Panics
    ///
    /// If the range isn't inside the block.
    pub(crate) fn new(block: Arc<Vec<u8>>, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= block.len(), "a chunk lies inside its block");
        Chunk { block, start, end }
    }

    /// Returns a share of the same bytes less the first `n`.
    ///
    /// # Panics
    ///
    /// If there are fewer.
    pub(crate) fn skip(&self, n: usize) -> Chunk {
        Chunk::new(Arc::clone(&self.block), self.start + n, self.end)
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.block[self.start..self.end]
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} of {} bytes)", self.end - self.start, self.block.len())
    }
}
