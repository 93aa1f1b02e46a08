//! What was found broken elsewhere, by name: each case a group, what happens to it, and how often it has to go well.
//!
//! The Jepsen report on NATS 2.12.1 and the issues that followed from it (nats-server #6888, #7545, #7549, #7556, #7564,
//! #7567). A case is a shape; each seed gives it other times, other nodes and other things lost. While it goes on, clients
//! propose; everything that one of them was told to be committed must be there at the end, at every member.

use natrix_core::planted::Bug;
use natrix_core::rng::Rng;

use super::deed::Deed;
use super::disk::Damage;
use super::net::MS;
use super::plan::Last;
use super::script::{Base, Script};
use super::world::{Report, SECOND, Tell};

/// A case.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What was seen elsewhere.
    pub source: &'static str,
    /// How many nodes stand by that can become members.
    spare: usize,
    happens: fn(&mut Maker),
}

/// All cases.
pub const CASES: &[Case] = &[
    Case {
        name: "minority-logs-truncated",
        source: "nats-server #7549: blocks truncated on two of five",
        spare: 0,
        happens: |maker| maker.minority_damaged(&[Damage::Log]),
    },
    Case {
        name: "minority-files-corrupted",
        source: "nats-server #7549: bits flipped in logs, votes and snapshots of two of five",
        spare: 0,
        happens: |maker| maker.minority_damaged(&[Damage::Log, Damage::Vote, Damage::Snapshot]),
    },
    Case {
        name: "minority-disks-lost",
        source: "the worst of #7549: disks of two of five come back empty",
        spare: 0,
        happens: |maker| maker.minority_damaged(&[Damage::Wiped]),
    },
    Case {
        name: "snapshots-corrupted",
        source: "nats-server #7556: snapshots of two of five corrupted, and all killed",
        spare: 0,
        happens: Maker::snapshots_corrupted,
    },
    Case {
        name: "coordinated-power-failure",
        source: "nats-server #7564: all lose power at once",
        spare: 0,
        happens: Maker::all_lose_power,
    },
    Case {
        name: "power-failure-and-pauses",
        source: "nats-server #7567: one loses power, the others pause",
        spare: 0,
        happens: |maker| maker.one_loses_power(true),
    },
    Case {
        name: "power-failure-and-partition",
        source: "nats-server #7567: one loses power, the others are cut off",
        spare: 0,
        happens: |maker| maker.one_loses_power(false),
    },
    Case {
        name: "members-change-under-faults",
        source: "nats-server #7545: members join and leave among partitions and kills",
        spare: 2,
        happens: Maker::members_change,
    },
    Case {
        name: "killed-again-and-again",
        source: "nats-server #6888: a few are killed, over and over",
        spare: 0,
        happens: Maker::killed_again,
    },
];

/// Returns the case of that name.
pub fn find(name: &str) -> Option<&'static Case> {
    CASES.iter().find(|case| case.name == name)
}

impl Case {
    /// Returns what the case is with this seed.
    pub fn script(&self, seed: u64) -> Script {
        let mut dice = Rng::from_u64(seed);
        let mut members = if dice.chance(1, 2) { 5 } else { 3 };
        if self.spare > 0 {
            // Two changes from one configuration can miss each other only if its size is even.
            members = 3 + dice.below(3) as usize;
        }
        let nodes = members + self.spare;
        let mut maker = Maker { dice, members, nodes, deeds: Vec::new(), now: 2 * SECOND };
        (self.happens)(&mut maker);
        let until = maker.now + SECOND;
        // Clients go on all the time, at ten milliseconds between them.
        let mut at = SECOND;
        while at < until {
            let near = maker.dice.below(nodes as u64) as usize;
            maker.deeds.push((at, Deed::Propose { near, count: 1, size: 16, forward: false }));
            if maker.dice.chance(1, 5) {
                maker.deeds.push((at, Deed::Read { near }));
            }
            at += 10 * MS;
        }
        maker.deeds.sort_by_key(|(at, _)| *at);
        let base = Base::Calm { members, nodes };
        Script { seed, salt: seed, base, deeds: maker.deeds, until, last: Some(Last::Nothing) }
    }

    /// Runs it with this seed.
    pub fn run(&self, seed: u64, bug: Option<Bug>) -> Report {
        self.script(seed).run(bug, Tell::Nothing)
    }
}

/// Makes the deeds of a case.
struct Maker {
    dice: Rng,
    members: usize,
    nodes: usize,
    deeds: Vec<(u64, Deed)>,
    now: u64,
}

impl Maker {
    fn happen(&mut self, deed: Deed) {
        self.deeds.push((self.now, deed));
    }

    fn pass(&mut self, most: u64) {
        self.now += self.dice.below(most) + 1;
    }

    /// Draws `count` different members.
    fn some(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..self.members).collect();
        (0..count).map(|_| all.remove(self.dice.below(all.len() as u64) as usize)).collect()
    }

    fn crash(&mut self, node: usize, back: u64) {
        let dice = self.dice.next_u64();
        self.happen(Deed::Crash { node, back, dice });
    }

    /// Files of the same minority are damaged, again and again, and the others are killed meanwhile.
    fn minority_damaged(&mut self, kinds: &[Damage]) {
        let victims = self.some((self.members - 1) / 2);
        for _ in 0..4 {
            for node in victims.clone() {
                let kind = kinds[self.dice.below(kinds.len() as u64) as usize];
                let (back, dice) = (self.dice.below(SECOND), self.dice.next_u64());
                self.happen(Deed::Damage { node, kind, back, dice });
                self.pass(300 * MS);
            }
            let other = self.some(1)[0];
            let back = self.dice.below(SECOND);
            self.crash(other, back);
            // Those that are whole have to lead sometimes, and those that are not should want to.
            let node = self.some(1)[0];
            self.happen(Deed::Campaign { node });
            self.pass(3 * SECOND);
        }
    }

    fn snapshots_corrupted(&mut self) {
        let victims = self.some((self.members - 1) / 2);
        for _ in 0..4 {
            self.pass(2 * SECOND);
            for node in victims.clone() {
                let dice = self.dice.next_u64();
                self.happen(Deed::Damage { node, kind: Damage::Snapshot, back: 200 * MS, dice });
            }
            for node in 0..self.members {
                let back = self.dice.below(500 * MS);
                self.crash(node, back);
            }
            self.pass(SECOND);
            self.happen(Deed::Campaign { node: victims[0] });
            self.pass(3 * SECOND);
        }
    }

    fn all_lose_power(&mut self) {
        for _ in 0..5 {
            for node in 0..self.nodes {
                let back = self.dice.below(2 * SECOND);
                self.crash(node, back);
            }
            self.pass(5 * SECOND);
        }
    }

    fn one_loses_power(&mut self, pauses: bool) {
        for _ in 0..5 {
            let away = self.members / 2;
            let chosen = self.some(away + 1);
            let (victim, others) = (chosen[0], &chosen[1..]);
            let long = 500 * MS + self.dice.below(4 * SECOND);
            if pauses {
                for node in others.iter().copied() {
                    self.happen(Deed::Pause { node, long });
                }
            } else {
                let inside = |node: usize| others.contains(&node);
                let links = (0..self.nodes).flat_map(|from| (0..self.nodes).map(move |to| (from, to)));
                let cuts = links.filter(|(from, to)| inside(*from) != inside(*to));
                let cuts = cuts.map(|(from, to)| (from, to, 0)).collect();
                self.happen(Deed::Cut { cuts, mends: vec![(None, long)] });
            }
            self.pass(SECOND);
            let back = self.dice.below(SECOND);
            self.crash(victim, back);
            self.pass(6 * SECOND);
        }
    }

    /// Two leaders change the members, starting from the same ones: the mistake of Raft's first publication (2015).
    ///
    /// The first adds a node that only it can reach. Another is elected without them; before it has said a word it is cut off
    /// from one who elected it, and asked to remove that one, whom the first can reach.
    fn two_changes_at_once(&mut self) {
        let (first, joins, away) = (0, self.members, self.members - 1);
        self.happen(Deed::Transfer { near: first, to: first });
        self.now += SECOND;
        let in_side = |node: usize| node == first || node == joins;
        let pairs = (0..self.nodes).flat_map(|from| (0..self.nodes).map(move |to| (from, to)));
        let between = pairs.filter(|(from, to)| in_side(*from) != in_side(*to));
        let long = 6 * SECOND + self.dice.below(SECOND);
        let cuts = between.map(|(from, to)| (from, to, 0)).collect();
        self.happen(Deed::Cut { cuts, mends: vec![(None, long)] });
        self.now += 1;
        self.happen(Deed::Add { near: first, node: joins });
        let others = 1..away;
        let cuts = others.flat_map(|other| [(other, away, 0), (away, other, 0)]).collect();
        let gone = Deed::Cut { cuts, mends: vec![(Some(away), 0)] };
        self.happen(Deed::WhenLed { deeds: vec![gone, Deed::Remove { near: 1, node: away }] });
        self.now += long + SECOND;
    }

    fn members_change(&mut self) {
        self.two_changes_at_once();
        for _ in 0..8 {
            let near = self.dice.below(self.nodes as u64) as usize;
            let node = self.dice.below(self.nodes as u64) as usize;
            let nodes = (0..self.nodes).filter(|_| self.dice.chance(1, 2)).collect();
            let change = match self.dice.below(3) {
                0 => Deed::Add { near, node },
                1 => Deed::Remove { near, node },
                _ => Deed::Replace { near, nodes },
            };
            self.happen(change);
            self.pass(300 * MS);
            let lone = self.dice.below(self.nodes as u64) as usize;
            if self.dice.chance(1, 2) {
                let others = (0..self.nodes).filter(|other| *other != lone);
                let cuts = others.flat_map(|other| [(lone, other, 0), (other, lone, 0)]).collect();
                let long = 300 * MS + self.dice.below(2 * SECOND);
                self.happen(Deed::Cut { cuts, mends: vec![(None, long)] });
            } else {
                let back = self.dice.below(SECOND);
                self.crash(lone, back);
            }
            self.pass(2 * SECOND);
        }
    }

    fn killed_again(&mut self) {
        for _ in 0..20 {
            let node = self.some(1)[0];
            let back = self.dice.below(400 * MS);
            self.crash(node, back);
            self.pass(500 * MS);
        }
    }
}
