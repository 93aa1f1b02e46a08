//! Where a shard reads to: one page-aligned block that its connections share.
//!
//! A connection's unfinished bytes are placed right before the target, so that what the socket adds continues
//! them and the parser sees one slice:
//!
//! ```text
//! | headroom … unfinished bytes | target: what the next read brings |
//!                               ^ page boundary
//! ```
//!
//! Idle connections therefore own no buffer at all. Large payloads are not copied out of the block but shared
//! ([`Chunk`]); a block that somebody still shares is set aside and used again when the last share is gone.
//!
//! Page alignment: a copy between buffers whose offsets in their pages differ by 8 or 16 bytes runs at a tenth of
//! the speed on current x86 processors, and socket reads into such a buffer cost half again as much.

use std::collections::VecDeque;
use std::sync::Arc;

use super::chunk::Chunk;

/// How much one read may bring: measured best between 32 and 128 KiB for 128-byte to 16 KiB messages.
pub(crate) const READ_SIZE: usize = 64 * 1024;
/// How many unfinished bytes can be kept in front of a read. A longer operation gets a buffer of its own.
pub(crate) const HEADROOM: usize = 64 * 1024;
const PAGE: usize = 4096;
/// Blocks that slow readers may keep alive before payloads are copied instead of shared: 64 MiB of reads.
const MAX_SHARED_BLOCKS: usize = 1024;
/// Unshared blocks that are kept for later instead of being freed.
const MAX_SPARE_BLOCKS: usize = 16;

/// The block that is read into, and those that are still shared.
#[derive(Debug)]
pub(crate) struct ReadBlock {
    current: Arc<Vec<u8>>,
    /// Offset of the page boundary behind the headroom of `current`.
    target: usize,
    /// Blocks that were shared when they were replaced, oldest first.
    shared: VecDeque<Arc<Vec<u8>>>,
}

impl ReadBlock {
    pub(crate) fn new() -> Self {
        let (current, target) = allocate();
        ReadBlock { current, target, shared: VecDeque::new() }
    }

    /// Places `unfinished` before the target and returns the target, [`READ_SIZE`] bytes.
    ///
    /// # Panics
    ///
    /// If `unfinished` is longer than [`HEADROOM`].
    pub(crate) fn prepare(&mut self, unfinished: &[u8]) -> &mut [u8] {
        if Arc::get_mut(&mut self.current).is_none() {
            self.replace();
        }
        let target = self.target;
        let block = Arc::get_mut(&mut self.current).expect("a replaced block is not shared");
        block[target - unfinished.len()..target].copy_from_slice(unfinished);
        &mut block[target..target + READ_SIZE]
    }

    /// Returns the block, and where in it `unfinished` kept bytes and `n` newly read ones lie.
    pub(crate) fn filled(&self, unfinished: usize, n: usize) -> (Arc<Vec<u8>>, usize, usize) {
        assert!(n <= READ_SIZE, "a read stays in its target");
        (Arc::clone(&self.current), self.target - unfinished, self.target + n)
    }

    /// Tells whether a payload may be shared, or has to be copied because too many blocks are shared already.
    pub(crate) fn may_share(&self) -> bool {
        self.shared.len() < MAX_SHARED_BLOCKS
    }

    /// Returns the bytes of blocks that are kept alive by readers that have not caught up.
    pub(crate) fn shared_bytes(&self) -> usize {
        self.shared.len() * (READ_SIZE + HEADROOM)
    }

    fn replace(&mut self) {
        // The oldest share is the likeliest to be gone; those that are gone behind it are found in later rounds.
        let (next, target) = match self.shared.front_mut().and_then(|block| Arc::get_mut(block).map(|_| ())) {
            Some(()) => {
                let block = self.shared.pop_front().expect("the front was just looked at");
                let target = aligned(&block);
                (block, target)
            }
            None => allocate(),
        };
        self.target = target;
        self.shared.push_back(std::mem::replace(&mut self.current, next));
        while self.shared.len() > MAX_SPARE_BLOCKS
            && self.shared.front_mut().is_some_and(|block| Arc::get_mut(block).is_some())
        {
            self.shared.pop_front();
        }
    }
}

fn allocate() -> (Arc<Vec<u8>>, usize) {
    let block = vec![0; HEADROOM + PAGE + READ_SIZE];
    let target = aligned(&block);
    (Arc::new(block), target)
}

fn aligned(block: &[u8]) -> usize {
    HEADROOM + block[HEADROOM..].as_ptr().align_offset(PAGE).min(PAGE)
}

/// A payload that is too long for the block: it is read straight into a buffer of its own.
#[derive(Debug)]
pub(crate) struct OwnBuffer {
    bytes: Vec<u8>,
    filled: usize,
}

impl OwnBuffer {
    /// Makes a buffer of `len` bytes that starts with `received`.
    pub(crate) fn new(len: usize, received: &[u8]) -> Self {
        let mut bytes = vec![0; len];
        bytes[..received.len()].copy_from_slice(received);
        OwnBuffer { bytes, filled: received.len() }
    }

    /// Returns what is still to be filled.
    pub(crate) fn target(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    /// Notes that `n` more bytes have come, and tells whether that was all.
    pub(crate) fn advance(&mut self, n: usize) -> bool {
        self.filled += n;
        assert!(self.filled <= self.bytes.len(), "a read stays in its target");
        self.filled == self.bytes.len()
    }

    pub(crate) fn into_chunk(self) -> Chunk {
        debug_assert_eq!(self.filled, self.bytes.len());
        let len = self.bytes.len();
        Chunk::new(Arc::new(self.bytes), 0, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_bytes_and_new_ones_are_one_slice() {
        let mut block = ReadBlock::new();
        block.prepare(b"PUB fo")[..4].copy_from_slice(b"o 1\r");
        let (bytes, start, end) = block.filled(6, 4);
        assert_eq!(&bytes[start..end], b"PUB foo 1\r");
    }

    #[test]
    fn the_target_begins_on_a_page() {
        let mut block = ReadBlock::new();
        assert_eq!(block.prepare(b"").as_ptr().align_offset(PAGE), 0);
        assert_eq!(block.prepare(&[7; HEADROOM]).len(), READ_SIZE);
    }

    #[test]
    fn a_shared_block_is_not_written_until_its_last_share_is_gone() {
        let mut block = ReadBlock::new();
        block.prepare(b"")[..3].copy_from_slice(b"one");
        let (first, start, _) = block.filled(0, 3);
        let chunk = Chunk::new(first, start, start + 3);
        block.prepare(b"")[..3].copy_from_slice(b"two");
        assert_eq!(&*chunk, b"one");
        assert_eq!(block.shared.len(), 1);
        let address = chunk.as_ptr();
        drop(chunk);
        // Share the second block too: the first is free by now and comes back.
        let second = block.filled(0, 3).0;
        assert_eq!(block.prepare(b"").as_ptr(), address);
        drop(second);
    }

    #[test]
    fn shared_blocks_are_bounded() {
        let mut block = ReadBlock::new();
        let mut shares = Vec::new();
        while block.may_share() {
            shares.push(block.filled(0, 1).0);
            block.prepare(b"");
        }
        assert_eq!(shares.len(), MAX_SHARED_BLOCKS);
        shares.clear();
        let share = block.filled(0, 1).0;
        block.prepare(b"");
        assert!(block.shared.len() <= MAX_SPARE_BLOCKS + 1, "spare blocks are given back");
        drop(share);
    }
}
