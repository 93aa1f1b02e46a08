//! Doing what a [`Deed`] says.

use natrix_core::raft::group::{Group, RequestError};
use natrix_core::raft::neighbours::Neighbours;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;

use super::deed::Deed;
use super::disk::Damage;
use super::marks::Mark;
use super::plan::Fault;
use super::world::{Event, World};

impl World {
    /// Does it, and notes that; returns whether there was anything to do.
    pub(super) fn act(&mut self, deed: Deed) -> bool {
        if let Some(noted) = &self.noted {
            noted.borrow_mut().push((self.now, deed.clone()));
        }
        if self.tells() {
            self.say(&format!("* {}", deed.words()));
        }
        match deed {
            Deed::Cut { cuts, mends } => {
                for (from, to, after) in cuts {
                    self.schedule(after, Event::Cut { from, to });
                }
                for (node, after) in mends {
                    self.schedule(after, Event::Mend { node });
                }
                true
            }
            Deed::Pause { node, long } => self.pause_node(node, long),
            Deed::Crash { node, back, dice } => self.crash(node, back, dice),
            Deed::DiskFails { node, back, dice } => {
                if !self.nodes[node].runs() {
                    return false;
                }
                self.call(node, Group::disk_failed);
                self.neighbours(node, Neighbours::begin_life);
                // Whoever watches over the process starts it again.
                self.schedule(back, Event::Crash { node, dice });
                true
            }
            Deed::Stall { node, long } => {
                self.nodes[node].stalled = self.now + long;
                true
            }
            Deed::Damage { node, kind, back, dice } => self.damage_node(node, kind, back, dice),
            Deed::Hole { node, long } => self.hole(node, long),
            Deed::PauseApply { node, long } => {
                self.call(node, |group, _| group.pause_apply());
                self.schedule(long, Event::ResumeApply { node });
                true
            }
            Deed::Transfer { near, to } => {
                let (leader, to) = (self.some_leader(near), self.nodes[to].id);
                let mut taken = false;
                self.call(leader, |group, now| taken = group.step_down(now, Some(to)).is_ok());
                taken
            }
            Deed::Campaign { node } => {
                let mut taken = false;
                self.call(node, |group, now| taken = group.campaign(now).is_ok());
                taken
            }
            Deed::Add { near, node } => {
                let node = self.nodes[node].id;
                self.change_members(near, |group, now| group.add_peer(now, node))
            }
            Deed::Remove { near, node } => {
                let node = self.nodes[node].id;
                self.change_members(near, |group, now| group.remove_peer(now, node))
            }
            Deed::Replace { near, nodes } => {
                let nodes: Vec<NodeId> = nodes.into_iter().map(|node| self.nodes[node].id).collect();
                self.change_members(near, |group, now| group.replace_peers(now, nodes.into_iter().collect()))
            }
            Deed::Propose { near, count, size, forward } => {
                (0..count).filter(|_| self.propose_one(near, size, forward)).count() > 0
            }
            Deed::Read { near } => self.read_one(near),
            // Links know of it.
            Deed::Odd { .. } => true,
        }
    }

    fn pause_node(&mut self, node: usize, long: u64) -> bool {
        if !self.nodes[node].runs() {
            return false;
        }
        self.nodes[node].paused = Some(self.now + long);
        self.trace(node, 12, || "is paused".to_owned());
        self.schedule(long, Event::Resume { node });
        true
    }

    /// Takes a node down; it comes back after `back`.
    pub(super) fn crash(&mut self, number: usize, back: u64, dice: u64) -> bool {
        let node = &mut self.nodes[number];
        if node.group.take().is_none() {
            return false;
        }
        node.neighbours = None;
        node.paused = None;
        node.backlog.clear();
        node.life += 1;
        let (dropped, kept) = node.disk.crash(&mut Rng::from_u64(dice));
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

    fn damage_node(&mut self, node: usize, kind: Damage, back: u64, dice: u64) -> bool {
        if self.nodes[node].damaged || self.damaged() >= self.expendable() {
            return false;
        }
        self.crash(node, back, dice);
        let there = &mut self.nodes[node];
        if there.disk.is_empty() || !there.disk.damage(kind, &mut Rng::from_u64(!dice)) {
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

    fn hole(&mut self, node: usize, long: u64) -> bool {
        if self.nodes[node].leads() || self.nodes[node].hole || !self.nodes[node].runs() {
            return false;
        }
        self.nodes[node].hole = true;
        self.call(node, |group, now| group.set_hole(now, true));
        self.schedule(long, Event::Fill { node });
        true
    }

    fn change_members(
        &mut self,
        near: usize,
        deed: impl FnOnce(&mut Group, natrix_core::time::Instant) -> Result<(), RequestError>,
    ) -> bool {
        if self.damaged() > 0 {
            // The others might become a minority.
            return false;
        }
        let leader = self.some_leader(near);
        let mut taken = false;
        self.call(leader, |group, now| taken = deed(group, now).is_ok());
        taken
    }
}
