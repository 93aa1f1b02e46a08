//! The network between members: which links lose, double, delay and part.

use natrix_core::rng::Rng;

/// Nanoseconds in a millisecond.
pub(super) const MS: u64 = 1_000_000;

/// How the links of a run behave.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The shortest delay, in nanoseconds.
    pub(super) delay_min: u64,
    /// The longest of a usual message.
    pub(super) delay_max: u64,
    /// One message in so many is lost; zero for none.
    pub(super) loss: u64,
    /// One message in so many comes twice.
    pub(super) double: u64,
    /// One message in so many comes again, long after.
    pub(super) replay: u64,
    /// One message in so many takes up to two seconds.
    pub(super) spike: u64,
    cut: Vec<u64>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// When it comes, and when it comes once more.
    pub(super) delays: [Option<u64>; 2],
    /// It was lost by chance.
    pub(super) lost: bool,
    /// The link was cut.
    pub(super) cut: bool,
    /// It takes very long.
    pub(super) spiked: bool,
    /// It comes again long after.
    pub(super) replayed: bool,
}

impl Links {
    /// Links between `nodes` nodes that do nothing wrong.
    pub(super) fn new(nodes: usize) -> Self {
        Links {
            delay_min: MS / 5,
            delay_max: 5 * MS,
            loss: 0,
            double: 0,
            replay: 0,
            spike: 0,
            cut: vec![0; nodes],
        }
    }

    /// Ends all faults but the delay.
    pub(super) fn calm(&mut self) {
        let cut = vec![0; self.cut.len()];
        *self = Links { loss: 0, double: 0, replay: 0, spike: 0, cut, ..self.clone() };
        self.delay_max = self.delay_max.min(20 * MS);
        self.delay_min = self.delay_min.min(self.delay_max / 2);
    }

    /// Cuts the way from `from` to `to`.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.cut[from] |= 1 << to;
    }

    /// Mends all ways.
    pub(super) fn mend(&mut self) {
        self.cut.fill(0);
    }

    /// Mends the ways to and from `node`.
    pub(super) fn mend_node(&mut self, node: usize) {
        self.cut[node] = 0;
        for cut in &mut self.cut {
            *cut &= !(1 << node);
        }
    }

    /// Decides what becomes of a message.
    pub(super) fn fate(&self, from: usize, to: usize, rng: &mut Rng) -> Fate {
        let mut fate = Fate::default();
        if self.cut[from] & (1 << to) != 0 {
            fate.cut = true;
            return fate;
        }
        // One draw for the usual case, in which nothing happens.
        let dice = rng.next_u64();
        let one_in = |n: u64, shift: u32| n > 0 && ((dice >> shift) & 0xfff).is_multiple_of(n);
        if one_in(self.loss, 0) {
            fate.lost = true;
            return fate;
        }
        let spread = self.delay_max - self.delay_min + 1;
        let mut delay = self.delay_min + (((dice >> 36) * spread) >> 28);
        if one_in(self.spike, 12) {
            fate.spiked = true;
            delay += rng.below(2000 * MS);
        }
        fate.delays[0] = Some(delay);
        if one_in(self.double, 24) {
            fate.delays[1] = Some(delay + rng.below(spread));
        }
        if self.replay > 0 && rng.chance(1, self.replay) {
            fate.replayed = true;
            fate.delays[1] = Some(delay + rng.below(5000 * MS));
        }
        fate
    }
}
