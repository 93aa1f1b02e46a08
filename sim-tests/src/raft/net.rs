//! The network between members: which links lose, double, delay and part.

use std::collections::BTreeMap;

use natrix_core::rng::Rng;

use super::deed::{Deed, Oddity, Purpose, stream};

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
    /// One message in so many that are given to a way that is gone comes all the same, up to two seconds late.
    pub(super) hold: u64,
    cut: Vec<u64>,
    streams: Vec<Stream>,
    /// What is wrong with which messages, if that is said and not drawn.
    odd: Option<BTreeMap<(usize, usize, u64), Oddity>>,
    odd_rng: Option<Rng>,
}

/// The delays of one link.
#[derive(Clone, Debug)]
struct Stream {
    rng: Rng,
    /// How many messages it had.
    count: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// When it comes, and when it comes once more.
    pub(super) delays: [Option<u64>; 2],
    /// What is wrong with it, and its number on the link.
    pub(super) odd: Option<(Oddity, u64)>,
    /// It comes again long after.
    pub(super) replayed: bool,
    /// Its way is gone: it doesn't come, or late.
    pub(super) held: bool,
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
            hold: 0,
            cut: vec![0; nodes],
            streams: Vec::new(),
            odd: None,
            odd_rng: None,
        }
    }

    /// Gives each link its stream of delays. What is wrong with messages is drawn, or is what `script` says.
    pub(super) fn seeded(&mut self, seed: u64, script: Option<&[(u64, Deed)]>) {
        let nodes = self.cut.len();
        let stream = |link| Stream { rng: stream(seed, Purpose::Link, link / nodes, link % nodes), count: 0 };
        self.streams = (0..nodes * nodes).map(stream).collect();
        self.odd_rng = Some(super::deed::stream(seed, Purpose::Odd, 0, 0));
        self.odd = script.map(|deeds| {
            let odd = deeds.iter().filter_map(|(_, deed)| match deed {
                Deed::Odd { from, to, number, what } => Some(((*from, *to, *number), *what)),
                _ => None,
            });
            odd.collect()
        });
    }

    /// Ends all faults but the delay.
    pub(super) fn calm(&mut self) {
        (self.loss, self.double, self.replay, self.spike, self.hold) = (0, 0, 0, 0, 0);
        self.odd = Some(BTreeMap::new());
        self.cut.fill(0);
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
    pub(super) fn fate(&mut self, from: usize, to: usize) -> Fate {
        let mut fate = Fate::default();
        let nodes = self.cut.len();
        let link = &mut self.streams[from * nodes + to];
        link.count += 1;
        let number = link.count;
        // One draw for the usual case, in which nothing happens.
        let dice = link.rng.next_u64();
        fate.held = self.cut[from] & (1 << to) != 0;
        let spread = self.delay_max - self.delay_min + 1;
        let delay = self.delay_min + (((dice >> 36) * spread) >> 28);
        let odd = match &self.odd {
            Some(odd) => odd.get(&(from, to, number)).copied(),
            None if fate.held => self.holding(),
            None => self.oddity(dice, spread),
        };
        if fate.held && odd.is_none() {
            return fate;
        }
        fate.odd = odd.map(|odd| (odd, number));
        fate.delays = match odd {
            None => [Some(delay), None],
            Some(Oddity::Lost) => [None, None],
            Some(Oddity::Late(by)) => [Some(delay + by), None],
            Some(Oddity::Again(after)) => [Some(delay), Some(delay + after)],
            Some(Oddity::LateAndAgain(by, after)) => [Some(delay + by), Some(delay + by + after)],
        };
        let again = fate.delays[1].zip(fate.delays[0]).map(|(second, first)| second - first);
        fate.replayed = again.is_some_and(|after| after > spread);
        fate
    }

    /// Draws whether a way that is gone keeps a message, and for how long.
    fn holding(&mut self) -> Option<Oddity> {
        let rng = self.odd_rng.as_mut()?;
        let kept = self.hold > 0 && rng.chance(1, self.hold);
        kept.then(|| Oddity::Late(rng.below(2000 * MS)))
    }

    /// Draws whether something is wrong with a message, and what.
    fn oddity(&mut self, dice: u64, spread: u64) -> Option<Oddity> {
        let rng = self.odd_rng.as_mut()?;
        let one_in = |n: u64, shift: u32| n > 0 && ((dice >> shift) & 0xfff).is_multiple_of(n);
        if one_in(self.loss, 0) {
            return Some(Oddity::Lost);
        }
        let late = one_in(self.spike, 12).then(|| rng.below(2000 * MS));
        let mut again = one_in(self.double, 24).then(|| rng.below(spread));
        if self.replay > 0 && rng.chance(1, self.replay) {
            again = Some(rng.below(5000 * MS));
        }
        match (late, again) {
            (None, None) => None,
            (Some(by), None) => Some(Oddity::Late(by)),
            (None, Some(after)) => Some(Oddity::Again(after)),
            (Some(by), Some(after)) => Some(Oddity::LateAndAgain(by, after)),
        }
    }
}
