//! Bytes waiting for a socket: small ones copied into pooled segments, large payloads shared.
//!
//! Copying a small payload costs less than a vector entry for it (measured: chaining 128-byte payloads halves
//! throughput); from some kilobytes on sharing wins. Segments come from a pool of the shard, so an idle connection
//! owns none.
//!
//! Invariant: `pending` is the number of bytes in `segments` less `head`, and no segment is empty.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Buf;

use super::chunk::Chunk;

/// Payloads of at least this many bytes are shared instead of copied.
pub(crate) const SHARE_FROM: usize = 8 * 1024;
/// What a connection gets first: enough for most answers, small enough for ten thousand of them.
const SMALL_SEGMENT: usize = 4 * 1024;
/// What a busy connection gets next.
const LARGE_SEGMENT: usize = 64 * 1024;
/// Free segments that the pool keeps, of each size.
const MAX_FREE: usize = 256;

/// Segments that are free.
#[derive(Debug, Default)]
pub(crate) struct SegmentPool {
    small: Vec<Vec<u8>>,
    large: Vec<Vec<u8>>,
}

impl SegmentPool {
    fn take(&mut self, first: bool, at_least: usize) -> Vec<u8> {
        let (free, size) = match first && at_least <= SMALL_SEGMENT {
            true => (&mut self.small, SMALL_SEGMENT),
            false => (&mut self.large, LARGE_SEGMENT),
        };
        match at_least <= size {
            true => free.pop().unwrap_or_else(|| Vec::with_capacity(size)),
            false => Vec::with_capacity(at_least),
        }
    }

    fn give(&mut self, mut segment: Vec<u8>) {
        let free = match segment.capacity() {
            SMALL_SEGMENT => &mut self.small,
            LARGE_SEGMENT => &mut self.large,
            _ => return,
        };
        if free.len() < MAX_FREE {
            segment.clear();
            free.push(segment);
        }
    }
}

#[derive(Debug)]
enum Segment {
    Copied(Vec<u8>),
    Shared(Chunk),
}

impl Segment {
    fn bytes(&self) -> &[u8] {
        match self {
            Segment::Copied(bytes) => bytes,
            Segment::Shared(chunk) => chunk,
        }
    }
}

/// The bytes that wait for one socket, in order.
#[derive(Debug, Default)]
pub(crate) struct OutboundQueue {
    segments: VecDeque<Segment>,
    /// How much of the first segment is written already.
    head: usize,
    pending: usize,
}

impl OutboundQueue {
    /// Returns how many bytes wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending
    }

    /// Returns a buffer to which up to `more` bytes can be appended without a reallocation.
    ///
    /// Whoever appends calls [`OutboundQueue::appended`] with the number of bytes.
    pub(crate) fn tail(&mut self, pool: &mut SegmentPool, more: usize) -> &mut Vec<u8> {
        let fits = matches!(self.segments.back(), Some(Segment::Copied(tail)) if tail.capacity() - tail.len() >= more);
        if !fits {
            self.segments.push_back(Segment::Copied(pool.take(self.segments.is_empty(), more)));
        }
        match self.segments.back_mut() {
            Some(Segment::Copied(tail)) => tail,
            _ => unreachable!("the last segment was just made sure to be a copied one"),
        }
    }

    /// Counts `n` bytes that were appended to [`OutboundQueue::tail`].
    pub(crate) fn appended(&mut self, n: usize) {
        self.pending += n;
    }

    /// Appends a copy of `bytes`.
    pub(crate) fn copy(&mut self, pool: &mut SegmentPool, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.tail(pool, bytes.len()).extend_from_slice(bytes);
            self.pending += bytes.len();
        }
    }

    /// Appends `chunk` without copying it.
    pub(crate) fn share(&mut self, chunk: Chunk) {
        if !chunk.is_empty() {
            self.pending += chunk.len();
            self.segments.push_back(Segment::Shared(chunk));
        }
    }

    /// Forgets the first `n` bytes: the socket has them.
    ///
    /// # Panics
    ///
    /// If fewer wait.
    pub(crate) fn written(&mut self, pool: &mut SegmentPool, n: usize) {
        assert!(n <= self.pending, "no more is written than was waiting");
        self.pending -= n;
        self.head += n;
        while let Some(first) = self.segments.front() {
            let len = first.bytes().len();
            if self.head < len {
                break;
            }
            self.head -= len;
            if let Some(Segment::Copied(segment)) = self.segments.pop_front() {
                pool.give(segment);
            }
        }
        if self.segments.is_empty() && self.segments.capacity() > 64 {
            self.segments.shrink_to(4);
        }
    }

    /// Gives all segments back; nothing waits any more.
    pub(crate) fn clear(&mut self, pool: &mut SegmentPool) {
        self.written(pool, self.pending);
        self.segments = VecDeque::new();
    }

    /// Takes all that waits as one buffer.
    pub(crate) fn drain(&mut self, pool: &mut SegmentPool) -> Vec<u8> {
        let mut all = Vec::with_capacity(self.pending);
        let mut view = self.view();
        while view.has_remaining() {
            let chunk = view.chunk();
            all.extend_from_slice(chunk);
            let n = chunk.len();
            view.advance(n);
        }
        self.clear(pool);
        all
    }

    /// Looks at what waits.
    pub(crate) fn view(&self) -> Outbound<'_> {
        Outbound { queue: Some(self), index: 0, head: self.head, remaining: self.pending }
    }
}

/// A view of the bytes that wait for a socket.
///
/// Advancing it moves the view only: the bytes stay queued until the runtime reports them as written.
#[derive(Clone, Debug)]
pub struct Outbound<'a> {
    queue: Option<&'a OutboundQueue>,
    index: usize,
    head: usize,
    remaining: usize,
}

impl Outbound<'_> {
    /// The view of a connection that has nothing to write.
    pub(crate) const EMPTY: Outbound<'static> = Outbound { queue: None, index: 0, head: 0, remaining: 0 };
}

impl Buf for Outbound<'_> {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        match self.queue.and_then(|queue| queue.segments.get(self.index)) {
            Some(segment) => &segment.bytes()[self.head..],
            None => &[],
        }
    }

    fn advance(&mut self, mut cnt: usize) {
        assert!(cnt <= self.remaining, "a view is not advanced past its end");
        self.remaining -= cnt;
        while cnt > 0 {
            let left = self.chunk().len();
            if cnt < left {
                self.head += cnt;
                return;
            }
            cnt -= left;
            self.index += 1;
            self.head = 0;
        }
    }

    fn chunks_vectored<'b>(&'b self, out: &mut [IoSlice<'b>]) -> usize {
        let Some(queue) = self.queue else { return 0 };
        let mut count = 0;
        for (slot, segment) in out.iter_mut().zip(queue.segments.range(self.index..)) {
            let skip = if count == 0 { self.head } else { 0 };
            *slot = IoSlice::new(&segment.bytes()[skip..]);
            count += 1;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever is queued comes out once, in order, however it is cut.
        #[test]
        fn an_outbound_queue_is_a_queue_of_bytes(
            ops in vec((0..3u8, 0..9000usize), 0..60),
        ) {
            let (mut queue, mut pool, mut model) = (OutboundQueue::default(), SegmentPool::default(), VecDeque::new());
            let mut next = 0u8;
            for (op, n) in ops {
                let bytes: Vec<u8> = (0..n).map(|_| { next = next.wrapping_add(1); next }).collect();
                match op {
                    0 => queue.copy(&mut pool, &bytes),
                    1 => queue.share(Chunk::new(Arc::new(bytes.clone()), 0, n)),
                    _ => {
                        let n = n.min(queue.pending());
                        let mut slices = [IoSlice::new(&[]); 64];
                        let view = queue.view();
                        let count = view.chunks_vectored(&mut slices);
                        let front: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.iter().copied()).take(n).collect();
                        prop_assert!(front.iter().eq(model.iter().take(front.len())));
                        queue.written(&mut pool, n);
                        model.drain(..n);
                        next = next.wrapping_sub(bytes.len() as u8);
                        continue;
                    }
                }
                model.extend(bytes);
            }
            prop_assert_eq!(queue.pending(), model.len());
            prop_assert_eq!(queue.drain(&mut pool), Vec::from(model));
            prop_assert_eq!(queue.pending(), 0);
        }
    }

    #[test]
    fn segments_are_used_again() {
        let (mut queue, mut pool) = (OutboundQueue::default(), SegmentPool::default());
        queue.copy(&mut pool, b"hello");
        let address = queue.view().chunk().as_ptr();
        queue.written(&mut pool, 5);
        queue.copy(&mut pool, b"again");
        assert_eq!(queue.view().chunk().as_ptr(), address);
    }
}
