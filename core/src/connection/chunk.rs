//! Large payloads, shared instead of copied: a slice that keeps its block alive.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// Bytes of a shared block that nobody changes any more.
#[derive(Clone)]
pub struct Chunk {
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
    pub fn new(block: Arc<Vec<u8>>, start: usize, end: usize) -> Self {
        assert!(start <= end && end <= block.len(), "a chunk lies inside its block");
        Chunk { block, start, end }
    }

    /// Returns the bytes of memory that this chunk alone can keep alive.
    pub fn pinned(&self) -> usize {
        self.block.len()
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
