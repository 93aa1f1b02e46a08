//! What goes wrong, and when: a seed draws it.

use super::deed::Deed;
use super::disk::Damage;
use super::net::MS;
use super::plan::Fault;
use super::world::{Event, SECOND, World};

impl World {
    /// Lets the next fault come, one of those that the run uses.
    pub(super) fn trouble(&mut self) {
        if !self.troubled {
            return;
        }
        let every = self.plan.fault_every;
        let after = 1 + self.rng.below(every * 2);
        self.schedule(after, Event::Trouble);
        // Those before this one are settings of the links, and the like, that need no event.
        let kinds = &Fault::ALL[Fault::Partition as usize..];
        for _ in 0..kinds.len() {
            let fault = kinds[self.rng.below(kinds.len() as u64) as usize];
            if self.plan.swarm.has(fault) {
                if self.bring(fault) {
                    self.counters.hit(fault);
                }
                return;
            }
        }
    }

    /// Draws how long a fault lasts, `usual` at most.
    fn spell(&mut self, usual: u64) -> u64 {
        let most = if self.plan.hasty { usual / 6 } else { usual };
        self.rng.below(most)
    }

    /// Draws where to look for a leader first.
    pub(super) fn near(&mut self) -> usize {
        self.rng.below(self.nodes.len() as u64) as usize
    }

    fn any_node(&mut self) -> usize {
        // The leader is the most rewarding to hurt.
        match self.rng.chance(1, 3) {
            true => {
                let near = self.near();
                self.some_leader(near)
            }
            false => self.rng.below(self.nodes.len() as u64) as usize,
        }
    }

    fn bring(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Partition | Fault::OneWay | Fault::Isolate | Fault::Bridge | Fault::Swizzle => {
                self.part(fault)
            }
            Fault::Pause => {
                let node = self.any_node();
                self.pause(node)
            }
            Fault::Crash => {
                let node = self.any_node();
                let back = self.spell(4 * SECOND);
                self.kill(node, back)
            }
            Fault::PowerLoss => {
                for node in 0..self.nodes.len() {
                    let back = self.spell(2 * SECOND);
                    self.kill(node, back);
                }
                true
            }
            Fault::PowerAndPause => {
                let node = self.any_node();
                for other in 0..self.nodes.len() {
                    if other != node && self.rng.chance(1, 2) {
                        self.pause(other);
                    }
                }
                let back = self.spell(SECOND);
                self.kill(node, back)
            }
            Fault::Storm => {
                for _ in 0..4 {
                    let node = self.any_node();
                    let back = self.rng.below(300 * MS);
                    self.kill(node, back);
                }
                true
            }
            Fault::DiskFails => {
                let node = self.any_node();
                let (back, dice) = (self.spell(SECOND), self.rng.next_u64());
                self.act(Deed::DiskFails { node, back, dice })
            }
            Fault::DiskStalls => {
                let (node, long) = (self.any_node(), 50 * MS + self.spell(3 * SECOND));
                self.act(Deed::Stall { node, long })
            }
            Fault::LogDamage => self.damage(Damage::Log),
            Fault::SnapshotDamage => self.damage(Damage::Snapshot),
            Fault::VoteDamage => self.damage(Damage::Vote),
            Fault::Wiped => self.damage(Damage::Wiped),
            Fault::Hole => {
                let (node, long) = (self.any_node(), self.spell(4 * SECOND));
                self.act(Deed::Hole { node, long })
            }
            Fault::Add | Fault::Remove | Fault::Replace => self.change(fault),
            Fault::Transfer => {
                let (near, to) = (self.near(), self.any_node());
                self.act(Deed::Transfer { near, to })
            }
            Fault::Campaign => {
                let node = self.any_node();
                self.act(Deed::Campaign { node })
            }
            Fault::PauseApply => {
                let (node, long) = (self.any_node(), self.spell(2 * SECOND));
                self.act(Deed::PauseApply { node, long })
            }
            _ => false,
        }
    }

    fn part(&mut self, fault: Fault) -> bool {
        let count = self.nodes.len();
        let side = self.rng.next_u64();
        let lone = self.any_node();
        let in_side = |node: usize| side & (1 << node) != 0;
        let mut cuts = Vec::new();
        for from in 0..count {
            for to in (0..count).filter(|to| *to != from) {
                let cut = match fault {
                    Fault::Partition | Fault::Swizzle => in_side(from) != in_side(to),
                    Fault::OneWay => in_side(from) && !in_side(to),
                    Fault::Isolate => from == lone || to == lone,
                    _ => in_side(from) != in_side(to) && from != lone && to != lone,
                };
                if cut {
                    let after = if fault == Fault::Swizzle { self.spell(SECOND) } else { 0 };
                    cuts.push((from, to, after));
                }
            }
        }
        let until = 100 * MS + self.spell(4 * SECOND);
        let mends = match fault {
            Fault::Swizzle => (0..count).map(|node| (Some(node), SECOND + self.rng.below(until))).collect(),
            _ => vec![(None, until)],
        };
        self.act(Deed::Cut { cuts, mends })
    }

    fn pause(&mut self, node: usize) -> bool {
        let long = 50 * MS + self.spell(3 * SECOND);
        self.act(Deed::Pause { node, long })
    }

    fn kill(&mut self, node: usize, back: u64) -> bool {
        let dice = self.rng.next_u64();
        self.act(Deed::Crash { node, back, dice })
    }

    /// Takes a node down and damages its disk, if so few are damaged that the group must survive it.
    fn damage(&mut self, kind: Damage) -> bool {
        let node = self.any_node();
        let (back, dice) = (self.spell(2 * SECOND), self.rng.next_u64());
        self.act(Deed::Damage { node, kind, back, dice })
    }

    /// Troubles a leader that has just begun, when what it does next matters most.
    pub(super) fn at_election(&mut self, node: usize) {
        if !self.troubled || !self.nodes[node].leads() {
            return;
        }
        if !self.plan.eager && self.rng.chance(1, 2) {
            return;
        }
        let changes = if self.plan.swarm.has(Fault::HastyChange) { 1 + self.rng.below(3) } else { 0 };
        for _ in 0..changes {
            let (near, other) = (node, self.near());
            let nodes = (0..self.nodes.len()).filter(|_| self.rng.chance(1, 2)).collect();
            let taken = match self.rng.below(4) {
                0 => self.act(Deed::Add { near, node: other }),
                1 | 2 => self.act(Deed::Remove { near, node: other }),
                _ => self.act(Deed::Replace { near, nodes }),
            };
            if taken {
                self.counters.hit(Fault::HastyChange);
            }
        }
        if self.plan.eager && self.plan.swarm.has(Fault::DiskStalls) && self.rng.chance(1, 2) {
            // What a follower is sent now isn't durable before some other leader has spoken.
            let longest = self.plan.config.election_max.as_nanos() as u64;
            let (node, long) = (self.near(), longest + self.rng.below(4 * longest));
            if self.act(Deed::Stall { node, long }) {
                self.counters.hit(Fault::DiskStalls);
            }
        }
        if self.plan.swarm.has(Fault::LeaderHurt) {
            self.counters.hit(Fault::LeaderHurt);
            if self.rng.chance(1, 4) {
                let back = self.spell(2 * SECOND);
                self.kill(node, back);
                return;
            }
            // It may still be heard by some.
            let side = self.rng.next_u64();
            let away = (0..self.nodes.len()).filter(|other| *other != node && side & (1 << other) != 0);
            let after = self.rng.below(4 * self.plan.links.delay_max);
            let cuts = away.flat_map(|other| [(node, other, after), (other, node, after)]).collect();
            let until = 100 * MS + self.spell(4 * SECOND);
            self.act(Deed::Cut { cuts, mends: vec![(None, until)] });
        }
    }

    /// Does what was to be done as soon as somebody leads.
    pub(super) fn when_led(&mut self) {
        for deed in std::mem::take(&mut self.when_led) {
            match deed {
                // Before the leader has said a word.
                Deed::Cut { .. } => drop(self.act(deed)),
                _ => self.schedule(0, Event::Deed(Box::new(deed))),
            }
        }
    }

    /// Splits the nodes anew when one begins to lead, so that what it says first is heard by some only.
    pub(super) fn split_at_election(&mut self) {
        if self.is_scripted() || !self.troubled || !self.plan.swarm.has(Fault::SplitAtElection) {
            return;
        }
        if self.rng.chance(1, 3) {
            return;
        }
        let side = self.rng.next_u64();
        let in_side = |node: usize| side & (1 << node) != 0;
        let all = 0..self.nodes.len();
        let pairs = all.clone().flat_map(|from| all.clone().map(move |to| (from, to)));
        let cuts = pairs.filter(|(from, to)| in_side(*from) != in_side(*to)).map(|(from, to)| (from, to, 0));
        let longest = self.plan.config.election_max.as_nanos() as u64;
        let until = longest / 2 + self.rng.below(4 * longest);
        let deed = Deed::Cut { cuts: cuts.collect(), mends: vec![(None, 0), (None, until)] };
        self.counters.hit(Fault::SplitAtElection);
        self.act(deed);
    }

    /// A node dies while it writes.
    pub(super) fn at_write(&mut self, node: usize, life: u32) {
        if self.troubled && self.nodes[node].life == life {
            let back = self.spell(SECOND);
            if self.kill(node, back) {
                self.counters.hit(Fault::CrashAtWrite);
            }
        }
    }

    /// A node dies soon after it voted, or took entries, and has lost that.
    pub(super) fn loss_soon(&mut self, node: usize, life: u32, kind: Damage) {
        if self.troubled && self.nodes[node].life == life {
            // Back soon, while whoever heard of it still believes it.
            let (back, dice) = (self.rng.below(300 * MS), self.rng.next_u64());
            if self.act(Deed::Damage { node, kind, back, dice }) {
                let fault = if kind == Damage::Vote { Fault::DamageAtVote } else { Fault::DamageAtAppend };
                self.counters.hit(fault);
            }
        }
    }

    fn change(&mut self, fault: Fault) -> bool {
        let (near, node) = (self.near(), self.any_node());
        let nodes = (0..self.nodes.len()).filter(|_| self.rng.chance(1, 2)).collect();
        self.act(match fault {
            Fault::Add => Deed::Add { near, node },
            Fault::Remove => Deed::Remove { near, node },
            _ => Deed::Replace { near, nodes },
        })
    }
}
