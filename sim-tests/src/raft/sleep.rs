//! Groups that sleep: what nodes say to each other meanwhile, and what the group is put to when it sleeps.

use natrix_core::raft::group::{Group, Message};
use natrix_core::raft::neighbours::{NeighbourOutput, Neighbours, NeighboursConfig};
use natrix_core::raft::wire::Beat;
use natrix_core::time::Instant;

use super::checker::Rule;
use super::marks::Mark;
use super::net::MS;
use super::node::Node;
use super::world::{Event, SECOND, World};

impl World {
    /// A node that has just started begins to hear of the others, and says that it is there.
    pub(super) fn meet(&mut self, number: usize) {
        let config = &self.plan.config;
        if config.sleep_after.is_none() {
            return;
        }
        let beats = NeighboursConfig { beat: config.heartbeat, patience: config.election_min };
        let others: Vec<_> = self.nodes.iter().map(|node| node.id).collect();
        let node = &mut self.nodes[number];
        let now = node.clock(self.now);
        let mut neighbours = Neighbours::new(node.id, beats, u64::from(node.life), now);
        for other in others {
            neighbours.add(other);
        }
        node.neighbours = Some(neighbours);
        self.neighbours(number, |_, _| {});
    }

    /// Calls what hears of other nodes, and does what it asks for.
    pub(super) fn neighbours(&mut self, number: usize, deed: impl FnOnce(&mut Neighbours, Instant)) {
        let at = self.now;
        let node = &mut self.nodes[number];
        let now = node.clock(at);
        let Some(mut neighbours) = node.neighbours.take() else { return };
        deed(&mut neighbours, now);
        while let Some(output) = neighbours.poll_output() {
            match output {
                NeighbourOutput::Beat { to, beat } => {
                    let to = Node::number(to);
                    self.post(number, to, Event::Beat { to, beat });
                }
                NeighbourOutput::Suspect(other) => {
                    self.call(number, |group, now| group.suspect(now, other));
                    if std::mem::take(&mut self.woken) {
                        self.marks.reach(Mark::WokenBySuspicion);
                    }
                }
                NeighbourOutput::Trust(other) => self.call(number, |group, now| group.trust(now, other)),
            }
        }
        let node = &mut self.nodes[number];
        let due = node.when(neighbours.poll_timeout()).max(at + 1000);
        node.neighbours = Some(neighbours);
        if due < node.beat_timer {
            node.beat_timer = due;
            let event = Event::BeatTimer { node: number, life: node.life };
            self.schedule(due - at, event);
        }
    }

    pub(super) fn beat_timer(&mut self, number: usize, life: u32) {
        if self.nodes[number].life == life {
            self.nodes[number].beat_timer = u64::MAX;
            self.neighbours(number, Neighbours::handle_timeout);
        }
    }

    pub(super) fn hear_beat(&mut self, number: usize, beat: Beat) {
        self.neighbours(number, |neighbours, now| neighbours.handle_beat(now, beat));
    }

    /// A member hears a message.
    pub(super) fn hear(&mut self, number: usize, message: Message) {
        let asks = matches!(message, Message::Vote(_));
        self.woken = false;
        self.call(number, |group, now| group.handle_message(now, message));
        if std::mem::take(&mut self.woken) && asks {
            self.marks.reach(Mark::WokenByCandidate);
        }
    }

    /// A member was called: it may have fallen asleep, or have been woken.
    pub(super) fn slept(&mut self, number: usize, before: bool) {
        let Some(group) = &self.nodes[number].group else { return };
        let after = group.is_asleep();
        self.woken |= before && !after;
        if after && !before && group.is_leader() {
            self.marks.reach(Mark::Slept);
        }
    }

    /// A group that has nothing to do sleeps, wakes for a proposal, and keeps its leader while it is there, whoever comes
    /// and goes; a leader that dies is replaced.
    pub(super) fn a_group_that_sleeps_wakes(&mut self) {
        if !self.falls_asleep() {
            return;
        }
        let Some(leader) = self.leader() else { return };
        let term = self.term(leader);
        self.woken = false;
        let voters = self.voters(leader);
        let others: Vec<usize> = voters.iter().copied().filter(|voter| *voter != leader).collect();
        for _ in 0..1 + self.rng.below(3) {
            // What is sent at once doesn't reach one of them, which lags behind then.
            if let Some(other) = others.first() {
                self.links.cut(leader, *other);
            }
            self.propose_one(leader, 16, false);
            self.run_until(self.now + MS);
            self.links.mend();
            self.run_until(self.now + 200 * MS);
        }
        if std::mem::take(&mut self.woken) {
            self.marks.reach(Mark::WokenByRequest);
        }
        if !self.falls_asleep() {
            return;
        }
        if others.len() < 2 {
            return;
        }
        let one = others[self.rng.below(others.len() as u64) as usize];
        let long = self.plan.config.election_max.as_nanos() as u64;
        if self.rng.chance(1, 2) {
            let (back, dice) = (self.rng.below(300 * MS), self.rng.next_u64());
            self.crash(one, back, dice);
        } else {
            // It alone hears the leader's node no more.
            self.links.cut(leader, one);
        }
        self.run_until(self.now + 4 * long);
        self.links.mend();
        self.run_until(self.now + SECOND);
        if !self.falls_asleep() {
            return;
        }
        if !self.nodes[leader].leads() || self.term(leader) != term {
            let text = format!("n{one} was away, and n{leader} leads no more, though the group slept");
            return self.checker.violate(Rule::Disturbed, self.now, text);
        }
        let dice = self.rng.next_u64();
        self.crash(leader, 100 * long, dice);
        let until = self.now + 10 * long;
        if !self.wait(until, move |world| world.leader().is_some_and(|now| now != leader)) {
            self.miss("a leader that died while the group slept was not replaced");
        }
    }

    /// Waits until the group sleeps, as long as that may take with a change that is given up first.
    fn falls_asleep(&mut self) -> bool {
        let until = self.now + 20 * SECOND;
        let asleep = self.wait(until, |world| {
            let Some(leader) = world.leader() else { return false };
            let sleeps = |number: &usize| world.nodes[*number].group.as_ref().is_some_and(Group::is_asleep);
            world.voters(leader).iter().all(sleeps)
        });
        if !asleep {
            self.miss("the group does not sleep");
        } else if !self.is_equal() {
            self.miss("the group sleeps, and its members are not equal");
        }
        self.checker.violations.is_empty()
    }
}
