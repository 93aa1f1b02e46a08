//! When faults have ended: a leader soon, equal members, and nobody who disturbs.

use natrix_core::raft::group::Group;
use natrix_core::raft::wire::NodeId;

use super::checker::Rule;
use super::deed::{Purpose, stream};
use super::net::MS;
use super::node::Node;
use super::plan::Last;
use super::world::{Event, SECOND, World};

impl World {
    /// Ends all faults, and looks whether the group gets well.
    pub(super) fn finish(&mut self) {
        // From here on nothing is a deed, but what follows from the seed.
        self.rng = stream(self.plan.seed, Purpose::Finish, 0, 0);
        self.mend();
        let longest = self.plan.config.election_max.as_nanos() as u64;
        // Nothing that was about to be said is: who repeats the run has only what was noted.
        self.busy = false;
        self.clients += 1;
        self.noted = None;
        // Ten time-outs for a leader that a majority follows; then as long as what has gathered takes, which with the
        // smallest windows is a while.
        let until = self.now + 10 * longest;
        if !self.wait(until, World::is_followed) {
            return self.miss("there is no leader");
        }
        let until = self.now + 90 * SECOND;
        if !self.wait(until, World::is_equal) {
            return self.miss("the members are not equal");
        }
        let leader = self.leader().unwrap_or(0);
        if !self.checker.violations.is_empty() {
            return;
        }
        for member in self.voters(leader) {
            let applied = self.nodes[member].app.applied;
            self.checker.over(self.now, member, applied);
        }
        match self.plan.last {
            Last::Disturb => self.nobody_disturbs(),
            Last::Deaf => self.a_deaf_leader_is_replaced(),
            Last::Sleep => self.a_group_that_sleeps_wakes(),
            Last::Nothing => {}
        }
    }

    fn mend(&mut self) {
        self.troubled = false;
        self.links.calm();
        self.plan.sync.1 = self.plan.sync.1.min(20 * MS);
        for number in 0..self.nodes.len() {
            let now = self.now;
            self.nodes[number].set_rate(now, 1_000_000);
            self.nodes[number].hole = false;
            self.nodes[number].stalled = 0;
            if self.nodes[number].paused.is_some() {
                self.nodes[number].paused = Some(now);
                self.resume(number);
            }
            if self.nodes[number].group.as_ref().is_some_and(Group::has_failed) {
                self.crash(number, 0, 0);
            }
            self.start(number);
            self.call(number, |group, now| {
                group.set_hole(now, false);
                group.resume_apply();
            });
        }
    }

    /// Runs until `done`, at most until the time `until`; returns whether it was.
    pub(super) fn wait(&mut self, until: u64, done: impl Fn(&World) -> bool) -> bool {
        while self.now < until && self.checker.violations.is_empty() {
            if done(self) {
                return true;
            }
            let next = (self.now + 50 * MS).min(until);
            self.run_until(next);
        }
        done(self) || !self.checker.violations.is_empty()
    }

    pub(super) fn miss(&mut self, what: &str) {
        let mut text = what.to_owned();
        for (number, node) in self.nodes.iter().enumerate() {
            let Some(group) = &node.group else { continue };
            text += &format!(
                "; n{number} {:?} term {} commit {} last {} applied {} of {:?}{}",
                group.role(),
                group.term(),
                group.commit(),
                group.log().last().index,
                group.applied(),
                group.members().members().map(Node::number).collect::<Vec<_>>(),
                if group.in_doubt() { " in doubt" } else { "" },
            );
        }
        self.checker.violate(Rule::Liveness, self.now, text);
    }

    /// Returns the leader of the highest term.
    pub(super) fn leader(&self) -> Option<usize> {
        let led = self.nodes.iter().enumerate().filter(|(_, node)| node.leads());
        led.max_by_key(|(_, node)| node.group.as_ref().map(Group::term)).map(|(number, _)| number)
    }

    fn is_followed(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Some(group) = &self.nodes[leader].group else { return false };
        let follows = |id: NodeId| {
            let other = self.nodes[Node::number(id)].group.as_ref();
            other.is_some_and(|other| other.leader() == Some(group.id()))
        };
        group.members().majority(follows)
    }

    fn is_led(&self) -> bool {
        let leader = self.leader().and_then(|leader| self.nodes[leader].group.as_ref());
        leader.is_some_and(|group| {
            group.log().term_at(group.commit()) == Some(group.term()) && !group.change_under_way()
        })
    }

    pub(super) fn is_equal(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let Some(group) = &self.nodes[leader].group else { return false };
        let state = self.nodes[leader].app;
        let settled = group.commit() == group.log().last().index && !group.members().is_joint();
        let equal = |id: NodeId| {
            let node = &self.nodes[Node::number(id)];
            node.app == state
                && node.group.as_ref().is_some_and(|other| !other.in_doubt())
                && node.group.as_ref().is_some_and(|other| {
                    other.applied() == group.commit() && other.log().last() == group.log().last()
                })
        };
        settled && group.applied() == group.commit() && group.members().members().all(equal)
    }

    pub(super) fn voters(&self, leader: usize) -> Vec<usize> {
        let group = self.nodes[leader].group.as_ref();
        group.map_or(Vec::new(), |group| group.members().members().map(Node::number).collect())
    }

    /// One member is cut off for a while; when it is back, the others' leader still leads.
    fn nobody_disturbs(&mut self) {
        self.run_until(self.now + 2 * SECOND);
        let Some(leader) = self.leader() else { return self.miss("the leader is gone without a fault") };
        let voters = self.voters(leader);
        let term = self.term(leader);
        if voters.len() < 3 {
            return;
        }
        let others: Vec<usize> = voters.iter().copied().filter(|voter| *voter != leader).collect();
        let lone = others[self.rng.below(others.len() as u64) as usize];
        let one_way = self.rng.chance(1, 3);
        for other in (0..self.nodes.len()).filter(|other| *other != lone) {
            self.links.cut(other, lone);
            if !one_way {
                self.links.cut(lone, other);
            }
        }
        self.run_until(self.now + 4 * SECOND);
        self.links.mend();
        self.run_until(self.now + 3 * SECOND);
        // A change that waited for its nodes may have come meanwhile, and the leader may have removed itself.
        let changed = self.voters(leader) != voters;
        if !changed && (!self.nodes[leader].leads() || self.term(leader) != term) {
            let text = format!("n{lone} was cut off and came back, and n{leader} leads no more");
            self.checker.violate(Rule::Disturbed, self.now, text);
        }
    }

    pub(super) fn term(&self, node: usize) -> u64 {
        self.nodes[node].group.as_ref().map_or(0, Group::term)
    }

    /// A leader hears nobody, and is heard: somebody else has to lead.
    fn a_deaf_leader_is_replaced(&mut self) {
        let Some(leader) = self.leader() else { return };
        if self.voters(leader).len() < 3 {
            return;
        }
        let before = self.checker.committed();
        for other in (0..self.nodes.len()).filter(|other| *other != leader) {
            self.links.cut(other, leader);
        }
        self.busy = true;
        self.schedule(0, Event::Propose { clients: self.clients });
        let longest = self.plan.config.election_max.as_nanos() as u64;
        let until = self.now + 10 * longest;
        let replaced = move |world: &World| {
            let now = world.leader();
            now.is_some_and(|now| now != leader) && world.is_led() && world.checker.committed() > before
        };
        if !self.wait(until, replaced) {
            self.miss("a leader that hears nobody was not replaced");
        }
        self.links.mend();
    }
}
