//! What goes wrong, and where.

use natrix_core::disk::{FilePath, SECTOR};
use natrix_runtime_sim::disk::{DiskFault, DiskModel, SimDisk};

use super::faults::{HARMS, LIES, MS, PASSING, Trouble};
use super::node::Lie;
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
            1..=4 if self.nodes[number].lie.is_some() => {}
            1 if self.plan.has(if power { Trouble::PowerCut } else { Trouble::Crash }) => {
                self.counters.hit(if power { Trouble::PowerCut } else { Trouble::Crash });
                self.end(number, power);
                self.back(number);
            }
            2 if self.plan.has(Trouble::PowerCutOfAll) && self.rng.chance(1, 3) => {
                self.counters.hit(Trouble::PowerCutOfAll);
                let whole = |number: &usize| self.nodes[*number].lie.is_none();
                for number in (0..self.plan.nodes).filter(whole).collect::<Vec<_>>() {
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
        let node = &self.nodes[number];
        let can = harmed < (self.plan.nodes - 1) / 2 && node.host.is_some() && !node.recovering;
        // One thing at a time: a lie that nobody waits for would strike later.
        let busy = node.waits_for_harm || node.rots || node.lie.is_some();
        if !can || busy || node.seats.iter().any(|seat| seat.doubted) {
            return;
        }
        let (kind, fault) = LIES[self.rng.below(LIES.len() as u64) as usize];
        if self.plan.has(kind) && self.rng.chance(1, 2) {
            return self.begin_lie(number, kind, fault);
        }
        self.nodes[number].waits_for_harm = true;
    }

    /// The disk will say of a write that it is done. Nothing vouches for that one but what is written later: so the process
    /// doesn't end before [`Host::is_vouched`](natrix_core::raft::host::Host::is_vouched).
    fn begin_lie(&mut self, number: usize, kind: Trouble, fault: DiskFault) {
        let node = &mut self.nodes[number];
        let mut model = DiskModel::default().with(fault, 250_000);
        model.limit = DiskFault::ALL.iter().map(|fault| node.disk.hits(*fault)).sum::<u64>() + 1;
        node.disk.set_model(model);
        node.lie = Some(Lie { kind, fault, before: node.disk.hits(fault), told: false });
        (node.harmed, node.doomed) = (true, None);
    }

    /// Notes whether the disk has lied.
    pub(super) fn has_lied(&mut self, number: usize) {
        let troubled = self.troubled;
        let node = &mut self.nodes[number];
        let Some(lie) = node.lie.as_mut().filter(|lie| !lie.told) else { return };
        if node.disk.hits(lie.fault) > lie.before {
            lie.told = true;
            let kind = lie.kind;
            node.waits_for_harm = true;
            node.disk.set_model(if troubled { self.plan.model.clone() } else { DiskModel::default() });
            self.counters.hit(kind);
            self.say(number, 7, || format!("has a {}", kind.name()));
        }
    }

    /// A node that has found a loss may die at one of the next operations.
    pub(super) fn may_die_of_loss(&mut self, number: usize, lost: bool) {
        let may = lost && self.troubled && self.plan.has(Trouble::CrashAfterLoss);
        let free = self.nodes[number].doomed.is_none() && self.nodes[number].lie.is_none();
        if may && free && self.rng.chance(1, 3) {
            self.counters.hit(Trouble::CrashAfterLoss);
            let left = 1 + self.rng.below(6);
            self.nodes[number].doomed = Some((left, self.rng.chance(1, 2), self.rng.chance(1, 2)));
        }
    }

    /// All that the node has is vouched for: its process ends, and its disk is harmed.
    pub(super) fn harm(&mut self, number: usize) {
        let honest = self.nodes[number].lie.is_none();
        if honest && self.plan.has(Trouble::HarmWhileRunning) && self.rng.chance(1, 3) {
            return self.harm_while_running(number);
        }
        // What a lie left in memory alone is read back until the power is cut: only then is the disk what it will be.
        let power = self.nodes[number].lie.is_some() || self.rng.chance(1, 2);
        self.end(number, power);
        self.back(number);
        if self.nodes[number].lie.take().is_some() {
            return;
        }
        if self.plan.has(Trouble::Wiped) && self.rng.chance(1, 8) {
            self.counters.hit(Trouble::Wiped);
            return self.wipe(number);
        }
        // The witness, or others: what both together lose nobody could notice.
        let witness = self.rng.chance(1, 8);
        let is_meant = |path: &&FilePath| path.as_str().ends_with("witness") == witness;
        let paths: Vec<FilePath> = self.nodes[number].paths.iter().filter(is_meant).cloned().collect();
        if paths.is_empty() {
            return;
        }
        if !witness && self.rng.chance(1, 2) && self.harm_recent(number) {
            self.counters.hit(Trouble::RecentHarm);
            self.nodes[number].harmed = true;
        }
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

    /// Harms what was vouched for, and lets the process run on for a while.
    fn harm_while_running(&mut self, number: usize) {
        self.nodes[number].waits_for_harm = false;
        if self.harm_recent(number) {
            self.counters.hit(Trouble::HarmWhileRunning);
            let left = 1 + self.rng.below(400);
            let node = &mut self.nodes[number];
            (node.harmed, node.rots) = (true, true);
            node.doomed = Some((left, self.rng.chance(1, 2), self.rng.chance(1, 2)));
        }
    }

    /// Harms what was written last, or shortly before; returns whether it did.
    fn harm_recent(&mut self, number: usize) -> bool {
        let node = &self.nodes[number];
        let recent: Vec<_> =
            node.recent.iter().filter(|(path, ..)| !path.as_str().ends_with("witness")).collect();
        if recent.is_empty() {
            return false;
        }
        let (path, offset, len) = recent[self.rng.below(recent.len() as u64) as usize].clone();
        let rots = self.plan.has(Trouble::BitRot)
            && (self.rng.chance(1, 2) || !self.plan.has(Trouble::UnreadableSector));
        let node = &mut self.nodes[number];
        let kind = match rots {
            true if node.disk.rot(&path, offset..offset + len) => Trouble::BitRot,
            false if self.plan.has(Trouble::UnreadableSector) => {
                let sector = (offset + self.rng.below(len.max(1))) / SECTOR as u64;
                if !node.disk.spoil(&path, sector..sector + 1) {
                    return false;
                }
                Trouble::UnreadableSector
            }
            _ => return false,
        };
        self.counters.hit(kind);
        self.say(number, 7, || format!("has {} in {path} at {offset}, of {len}", kind.name()));
        true
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
        (node.harmed, node.failures, node.lie) = (true, 0, None);
        node.recent.clear();
    }

    pub(super) fn count_passing(&mut self, number: usize) {
        for (kind, fault, _) in PASSING {
            self.counters.add(kind, self.nodes[number].disk.hits(fault));
        }
    }
}
