//! What goes wrong, and when.

use natrix_core::raft::group::Group;
use natrix_core::raft::wire::NodeId;

use super::disk::Damage;
use super::marks::Mark;
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

    fn any_node(&mut self) -> usize {
        // The leader is the most rewarding to hurt.
        match self.rng.chance(1, 3) {
            true => self.some_leader(),
            false => self.rng.below(self.nodes.len() as u64) as usize,
        }
    }

    fn bring(&mut self, fault: Fault) -> bool {
        match fault {
            Fault::Partition | Fault::OneWay | Fault::Isolate | Fault::Bridge | Fault::Swizzle => {
                self.part(fault);
                true
            }
            Fault::Pause => {
                let node = self.any_node();
                self.pause(node)
            }
            Fault::Crash => {
                let node = self.any_node();
                let back = self.spell(4 * SECOND);
                self.crash(node, back)
            }
            Fault::PowerLoss => {
                for node in 0..self.nodes.len() {
                    let back = self.spell(2 * SECOND);
                    self.crash(node, back);
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
                self.crash(node, back)
            }
            Fault::Storm => {
                for _ in 0..4 {
                    let node = self.any_node();
                    let back = self.rng.below(300 * MS);
                    self.crash(node, back);
                }
                true
            }
            Fault::DiskFails => {
                let node = self.any_node();
                if !self.nodes[node].runs() {
                    return false;
                }
                self.call(node, Group::disk_failed);
                // Whoever watches over the process starts it again.
                let after = self.spell(SECOND);
                self.schedule(after, Event::Crash { node });
                true
            }
            Fault::LogDamage => self.damage(Damage::Log),
            Fault::SnapshotDamage => self.damage(Damage::Snapshot),
            Fault::VoteDamage => self.damage(Damage::Vote),
            Fault::Wiped => self.damage(Damage::Wiped),
            Fault::Hole => self.hole(),
            Fault::Add | Fault::Remove | Fault::Replace => self.change(fault),
            Fault::Transfer => {
                let (leader, to) = (self.some_leader(), self.any_node());
                let to = self.nodes[to].id;
                let mut taken = false;
                self.call(leader, |group, now| taken = group.step_down(now, Some(to)).is_ok());
                taken
            }
            Fault::Campaign => {
                let node = self.any_node();
                let mut taken = false;
                self.call(node, |group, now| taken = group.campaign(now).is_ok());
                taken
            }
            Fault::PauseApply => {
                let node = self.any_node();
                self.call(node, |group, _| group.pause_apply());
                let after = self.spell(2 * SECOND);
                self.schedule(after, Event::ResumeApply { node });
                true
            }
            _ => false,
        }
    }

    fn part(&mut self, fault: Fault) {
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
                    cuts.push((from, to));
                }
            }
        }
        let until = 100 * MS + self.spell(4 * SECOND);
        for (from, to) in cuts {
            let after = if fault == Fault::Swizzle { self.spell(SECOND) } else { 0 };
            self.schedule(after, Event::Cut { from, to });
        }
        if fault == Fault::Swizzle {
            for node in 0..count {
                let after = SECOND + self.rng.below(until);
                self.schedule(after, Event::Mend { node: Some(node) });
            }
        } else {
            self.schedule(until, Event::Mend { node: None });
        }
    }

    fn pause(&mut self, node: usize) -> bool {
        if !self.nodes[node].runs() {
            return false;
        }
        let long = 50 * MS + self.spell(3 * SECOND);
        self.nodes[node].paused = Some(self.now + long);
        self.trace(node, 12, || "is paused".to_owned());
        self.schedule(long, Event::Resume { node });
        true
    }

    /// Takes a node down; it comes back after `back`.
    pub(super) fn crash(&mut self, number: usize, back: u64) -> bool {
        let node = &mut self.nodes[number];
        if node.group.take().is_none() {
            return false;
        }
        node.paused = None;
        node.backlog.clear();
        node.life += 1;
        let (dropped, kept) = node.disk.crash(&mut self.rng);
        if dropped {
            self.counters.hit(Fault::Unsynced);
        }
        if kept {
            self.marks.reach(Mark::UnsyncedKept);
        }
        self.trace(number, 13, || "is down".to_owned());
        self.schedule(back, Event::Restart { node: number });
        true
    }

    /// Takes a node down and damages its disk, if so few are damaged that the group must survive it.
    fn damage(&mut self, kind: Damage) -> bool {
        let node = self.any_node();
        if self.nodes[node].damaged || self.damaged() >= self.expendable() {
            return false;
        }
        let back = self.spell(2 * SECOND);
        self.crash(node, back);
        let there = &mut self.nodes[node];
        if there.disk.is_empty() || !there.disk.damage(kind, &mut self.rng) {
            return false;
        }
        there.damaged = true;
        if kind == Damage::Wiped {
            there.wiped = true;
            there.durable = super::node::App::default();
        }
        let name = self.nodes[node].id;
        self.checker.forgot(node, name);
        self.trace(node, 14, || format!("is damaged: {kind:?}"));
        true
    }

    fn damaged(&self) -> usize {
        self.nodes.iter().filter(|node| node.damaged).count()
    }

    /// Returns how many members may be damaged at once: a minority of every configuration that anybody knows, none while
    /// that changes.
    fn expendable(&self) -> usize {
        let mut most = self.plan.members.saturating_sub(1) / 2;
        for node in &self.nodes {
            let size = node.members.voters().len();
            let changes = node.group.as_ref().is_none_or(Group::change_under_way) || node.members.is_joint();
            if size > 0 {
                most = most.min(if changes && self.changes() { 0 } else { (size - 1) / 2 });
            }
        }
        most
    }

    fn changes(&self) -> bool {
        [Fault::Add, Fault::Remove, Fault::Replace].into_iter().any(|fault| self.plan.swarm.has(fault))
    }

    fn hole(&mut self) -> bool {
        let node = self.any_node();
        if self.nodes[node].leads() || self.nodes[node].hole || !self.nodes[node].runs() {
            return false;
        }
        self.nodes[node].hole = true;
        self.call(node, |group, now| group.set_hole(now, true));
        let after = self.spell(4 * SECOND);
        self.schedule(after, Event::Fill { node });
        true
    }

    fn change(&mut self, fault: Fault) -> bool {
        if self.damaged() > 0 {
            // The others might become a minority.
            return false;
        }
        let leader = self.some_leader();
        let some = self.any_node();
        let some = self.nodes[some].id;
        let chosen: Vec<NodeId> =
            self.nodes.iter().map(|node| node.id).filter(|_| self.rng.chance(1, 2)).collect();
        let mut taken = false;
        self.call(leader, |group, now| {
            taken = match fault {
                Fault::Add => group.add_peer(now, some).is_ok(),
                Fault::Remove => group.remove_peer(now, some).is_ok(),
                _ => group.replace_peers(now, chosen.into_iter().collect()).is_ok(),
            };
        });
        taken
    }
}
