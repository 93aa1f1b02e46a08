//! One direction of a stream: what was written and not yet read.

use std::collections::VecDeque;

use crate::queue::SimTime;

/// What a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentKind {
    /// A dial.
    Syn,
    /// Its answer.
    SynAck,
    Data,
    /// No more will come.
    Fin,
    /// The stream is dead.
    Reset,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) arrive: SimTime,
    pub(super) length: u32,
    pub(super) kind: SegmentKind,
}

#[derive(Debug, Default)]
pub(super) struct Pipe {
    /// Readable bytes, then those in flight.
    bytes: VecDeque<u8>,
    readable: usize,
    flight: VecDeque<Segment>,
    capacity: usize,
    /// The end of the stream has arrived.
    finished: bool,
    /// The writer had more than there was room for.
    wants_window: bool,
    /// The arrival of the oldest segment is on the queue.
    pub(super) arriving: bool,
    /// How often the oldest segment was lost.
    pub(super) attempts: u8,
}

impl Pipe {
    pub(super) fn start(&mut self, capacity: usize) {
        debug_assert!(self.bytes.is_empty() && self.flight.is_empty());
        self.capacity = capacity.max(1);
    }

    /// Takes as much as there is room for.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(self.room());
        self.wants_window |= taken < bytes.len();
        self.bytes.extend(&bytes[..taken]);
        taken
    }

    pub(super) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    pub(super) fn readable(&self) -> usize {
        self.readable
    }

    pub(super) fn in_flight(&self) -> usize {
        self.bytes.len() - self.readable
    }

    pub(super) fn finished(&self) -> bool {
        self.finished && self.readable == 0
    }

    /// Moves readable bytes to `out` and returns how many.
    pub(super) fn take(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.readable);
        let (front, back) = self.bytes.as_slices();
        let cut = front.len().min(n);
        out[..cut].copy_from_slice(&front[..cut]);
        out[cut..n].copy_from_slice(&back[..n - cut]);
        self.bytes.drain(..n);
        self.readable -= n;
        n
    }

    /// Returns whether the writer should hear now that there is room; it is told when half is free.
    pub(super) fn take_window_update(&mut self) -> bool {
        let due = self.wants_window && self.room() * 2 >= self.capacity;
        self.wants_window &= !due;
        due
    }

    /// Sends a segment; it can't arrive before the one ahead of it.
    pub(super) fn send(&mut self, mut segment: Segment) {
        if let Some(last) = self.flight.back() {
            segment.arrive = segment.arrive.max(last.arrive);
        }
        self.flight.push_back(segment);
    }

    pub(super) fn oldest(&self) -> Option<Segment> {
        self.flight.front().copied()
    }

    /// Lets nothing arrive before `until`.
    pub(super) fn postpone(&mut self, until: SimTime) {
        for segment in &mut self.flight {
            if segment.arrive >= until {
                break;
            }
            segment.arrive = until;
        }
    }

    pub(super) fn pop_due(&mut self, now: SimTime) -> Option<Segment> {
        self.flight.pop_front_if(|segment| segment.arrive <= now)
    }

    pub(super) fn arrived(&mut self, bytes: usize) {
        self.readable += bytes;
        debug_assert!(self.readable <= self.bytes.len());
    }

    pub(super) fn finish(&mut self) {
        self.finished = true;
    }

    /// Loses what is in flight, but for its first `kept` bytes.
    pub(super) fn cut(&mut self, kept: usize) {
        self.bytes.truncate(self.readable + kept);
        let mut left = kept as u32;
        self.flight.retain_mut(|segment| {
            segment.length = segment.length.min(left);
            left -= segment.length;
            segment.length > 0
        });
    }

    pub(super) fn clear(&mut self) {
        let Pipe { mut bytes, mut flight, .. } = std::mem::take(self);
        bytes.clear();
        flight.clear();
        (self.bytes, self.flight) = (bytes, flight);
    }
}
