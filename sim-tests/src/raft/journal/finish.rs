//! When faults have ended: all members of each group equal and without doubt, also after all have lost their power once more.

use natrix_core::raft::group::Group;
use natrix_runtime_sim::disk::DiskModel;

use super::faults::MS;
use super::node::owner;
use super::world::World;
use crate::raft::checker::Rule;

impl World {
    /// Ends all faults, and looks whether the groups get well.
    pub(super) fn finish(&mut self) {
        self.troubled = false;
        for number in 0..self.plan.nodes {
            let node = &mut self.nodes[number];
            node.disk.set_model(DiskModel::default());
            (node.isolated, node.doomed) = (false, None);
            // Of one that has lied, the process still ends as soon as it may.
            node.lie = node.lie.filter(|lie| lie.told);
            node.waits_for_harm &= node.lie.is_some();
            self.start(number);
        }
        if !self.wait(10_000, World::is_led) {
            return self.miss("there is no leader");
        }
        self.busy = false;
        if !self.wait(60_000, World::is_equal) {
            return self.miss("the members are not equal");
        }
        for number in 0..self.plan.nodes {
            self.end(number, true);
        }
        for number in 0..self.plan.nodes {
            self.start(number);
        }
        if !self.wait(60_000, World::is_equal) {
            return self.miss("the members are not equal after a power cut");
        }
        if !self.ok() {
            return;
        }
        for at in 0..self.plan.groups {
            for number in 0..self.plan.nodes {
                let applied = self.nodes[number].seats[at].app.applied;
                self.checkers[at].over(self.now, number, applied);
            }
        }
    }

    fn wait(&mut self, millis: u64, done: impl Fn(&World) -> bool) -> bool {
        let until = self.now + millis * MS;
        while self.now < until && self.ok() {
            if done(self) {
                return true;
            }
            self.run_until(self.now + 50 * MS);
        }
        done(self) || !self.ok()
    }

    fn groups(&self, at: usize) -> impl Iterator<Item = Option<&Group>> {
        self.nodes.iter().map(move |node| node.host.as_ref().and_then(|host| host.group(owner(at))))
    }

    fn is_led(&self) -> bool {
        (0..self.plan.groups).all(|at| self.groups(at).flatten().any(Group::is_leader))
    }

    fn is_equal(&self) -> bool {
        (0..self.plan.groups).all(|at| {
            let Some(leader) = self.groups(at).flatten().find(|group| group.is_leader()) else {
                return false;
            };
            let last = leader.log().last();
            let own = leader.log().term_at(leader.commit()) == Some(leader.term());
            let state = self.nodes[0].seats[at].app;
            own && leader.commit() == last.index
                && self.nodes.iter().all(|node| node.seats[at].app == state && state.applied == last.index)
                && self.groups(at).all(|group| {
                    group.is_some_and(|group| {
                        !group.in_doubt() && group.log().last() == last && group.log().stable() == last.index
                    })
                })
        })
    }

    fn miss(&mut self, what: &str) {
        let mut text = what.to_owned();
        for at in 0..self.plan.groups {
            for (number, group) in self.groups(at).enumerate() {
                let Some(group) = group else {
                    text += &format!("; n{number} group {at} doesn't run");
                    continue;
                };
                text += &format!(
                    "; n{number} group {at} {:?} term {} commit {} stable {} last {} applied {}{}{}",
                    group.role(),
                    group.term(),
                    group.commit(),
                    group.log().stable(),
                    group.log().last().index,
                    group.applied(),
                    if group.in_doubt() { " in doubt" } else { "" },
                    if group.has_failed() { " failed" } else { "" },
                );
            }
        }
        self.checkers[0].violate(Rule::Liveness, self.now, text);
    }
}
