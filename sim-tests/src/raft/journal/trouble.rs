//! What goes wrong, and where.

use natrix_core::disk::FilePath;
use natrix_runtime_sim::disk::{DiskModel, SimDisk};

use super::faults::{HARMS, MS, PASSING, Trouble};
use super::world::{Event, World};

impl World {
    pub(super) fn trouble(&mut self) {
        if !self.troubled {
            return;
        }
        let after = self.plan.every / 2 + self.rng.below(self.plan.every);
        self.schedule(after, Event::Trouble);
        let number = self.rng.below(self.plan.nodes as u64) as usize;
        let choice = self.rng.below(8);
        let power = self.rng.chance(1, 2);
        match choice {
            0 if self.plan.has(Trouble::Isolate) => {
                self.counters.hit(Trouble::Isolate);
                self.nodes[number].isolated = true;
                let after = self.rng.below(1500 * MS);
                self.schedule(after, Event::Mend { node: number });
            }
            1 if self.plan.has(if power { Trouble::PowerCut } else { Trouble::Crash }) => {
                self.counters.hit(if power { Trouble::PowerCut } else { Trouble::Crash });
                self.end(number, power);
                self.back(number);
            }
            2 if self.plan.has(Trouble::PowerCutOfAll) && self.rng.chance(1, 3) => {
                self.counters.hit(Trouble::PowerCutOfAll);
                for number in 0..self.plan.nodes {
                    self.end(number, true);
                    self.back(number);
                }
            }
            3 | 4
                if self.plan.has(if power {
                    Trouble::PowerCutAtOperation
                } else {
                    Trouble::CrashAtOperation
                }) =>
            {
                let left = 1 + self.rng.below(40);
                self.nodes[number].doomed = Some((left, power, self.rng.chance(1, 2)));
            }
            5..=7 => self.begin_harm(number),
            _ => {}
        }
    }

    /// Chooses a node whose disk is to be harmed, if not too many are.
    pub(super) fn begin_harm(&mut self, number: usize) {
        let harmed = self.nodes.iter().filter(|node| node.harmed || node.waits_for_harm).count();
        let node = &mut self.nodes[number];
        let can = harmed < (self.plan.nodes - 1) / 2 && node.host.is_some() && !node.recovering;
        if can && !node.seats.iter().any(|seat| seat.doubted) {
            node.waits_for_harm = true;
        }
    }

    /// All that the node has is vouched for: its process ends, and its disk is harmed.
    pub(super) fn harm(&mut self, number: usize) {
        let power = self.rng.chance(1, 2);
        self.end(number, power);
        self.back(number);
        if self.plan.has(Trouble::Wiped) && self.rng.chance(1, 8) {
            self.counters.hit(Trouble::Wiped);
            return self.wipe(number);
        }
        let paths: Vec<FilePath> = self.nodes[number].paths.iter().cloned().collect();
        for _ in 0..=self.rng.below(3) {
            let (kind, fault) = HARMS[self.rng.below(HARMS.len() as u64) as usize];
            let path = &paths[self.rng.below(paths.len() as u64) as usize];
            if self.plan.has(kind) && self.nodes[number].disk.damage(path, fault) {
                self.counters.hit(kind);
                self.say(number, 7, || format!("has {} in {path}", kind.name()));
                self.nodes[number].harmed = true;
            }
        }
    }

    pub(super) fn wipe(&mut self, number: usize) {
        self.say(number, 7, || "has an empty disk".to_owned());
        self.count_passing(number);
        let (rng, mut model) = (self.rng.child(), DiskModel::default());
        if self.troubled {
            model = self.plan.model.clone();
        }
        let node = &mut self.nodes[number];
        node.disk = SimDisk::new(rng, model);
        node.paths.clear();
        (node.harmed, node.failures) = (true, 0);
    }

    pub(super) fn count_passing(&mut self, number: usize) {
        for (kind, fault, _) in PASSING {
            self.counters.add(kind, self.nodes[number].disk.hits(fault));
        }
    }
}
