//! One direction between two hosts: how long a segment takes, and whether it gets through at all.

use natrix_core::rng::Rng;

use crate::fault::{Counters, Fault};
use crate::queue::SimTime;

/// How a link behaves while nothing is wrong with it.
#[derive(Clone, Copy, Debug)]
pub struct LinkShape {
    /// Least time from one host to the other, in nanoseconds.
    pub latency: u64,
    /// Time that a segment may take longer than that, in nanoseconds; mostly much less.
    pub jitter: u64,
    /// Segments lost of a million.
    pub loss_ppm: u32,
    /// Segments of a million that take `spike` longer.
    pub spike_ppm: u32,
    /// How much longer those take, in nanoseconds.
    pub spike: u64,
    /// Nanoseconds that a byte occupies the link; zero for no limit.
    pub nanos_per_byte: u64,
}

impl Default for LinkShape {
    /// A quiet local network.
    fn default() -> Self {
        LinkShape { latency: 50_000, jitter: 100_000, loss_ppm: 0, spike_ppm: 0, spike: 0, nanos_per_byte: 0 }
    }
}

/// One direction between two hosts.
#[derive(Clone, Copy, Debug)]
pub struct Link {
    /// How it behaves by itself.
    pub shape: LinkShape,
    /// How many faults block it; zero lets segments through.
    pub blocked: u16,
    /// Segments that arrive before this moment wait for it.
    pub clogged_until: SimTime,
    busy_until: SimTime,
}

impl Link {
    pub(super) fn new(shape: LinkShape) -> Self {
        Link { shape, blocked: 0, clogged_until: SimTime(0), busy_until: SimTime(0) }
    }

    /// Draws how long so many bytes take, if they leave now.
    pub(super) fn delay(&mut self, now: SimTime, bytes: u64, rng: &mut Rng, counters: &mut Counters) -> u64 {
        let shape = &self.shape;
        // The smaller of two draws: most segments are fast, a few are slow.
        let dice = rng.next_u64();
        let jitter = ((dice & 0xffff_ffff).min(dice >> 32) * shape.jitter) >> 32;
        let mut delay = shape.latency + jitter;
        if shape.spike_ppm > 0 && rng.chance(u64::from(shape.spike_ppm), 1_000_000) {
            counters.hit(Fault::DelaySpike);
            delay += shape.spike;
        }
        if shape.nanos_per_byte > 0 && bytes > 0 {
            let starts = self.busy_until.max(now);
            if starts > now {
                counters.hit(Fault::Bandwidth);
            }
            self.busy_until = starts + bytes * shape.nanos_per_byte;
            delay += self.busy_until - now;
        }
        delay
    }
}
