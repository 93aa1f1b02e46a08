//! What a member's machine asks for, done; and what is seen by it.

use natrix_core::raft::group::{Message, Output, Record, WriteId};
use natrix_core::raft::log::{LogEntry, Place};
use natrix_core::raft::wire::{EntryKind, NodeId};

use super::{Event, World};
use crate::raft::checker::Rule;
use crate::raft::deed::{Deed, Oddity};
use crate::raft::history::View;
use crate::raft::marks::Mark;
use crate::raft::node::{App, Node, value_of};
use crate::raft::plan::Fault;

impl World {
    pub(super) fn leadership_moved(&mut self, number: usize, elected: bool) {
        let node = &mut self.nodes[number];
        let asked = std::mem::take(&mut node.asked);
        if elected {
            self.marks.reach(Mark::Elected);
            self.when_led();
            self.split_at_election();
            let hurt = self.plan.swarm.has(Fault::LeaderHurt) || self.plan.swarm.has(Fault::HastyChange);
            if hurt && !self.scripted && self.troubled {
                let most = self.plan.links.delay_max;
                let after = match self.rng.below(if self.plan.eager { 2 } else { 4 }) {
                    // Not at once: whoever repeats the run does it before what else happens then.
                    0 => 1,
                    1 => most / 8,
                    _ => self.rng.below(most * 6),
                };
                self.schedule(after, Event::AtElection { node: number });
            }
            if asked {
                self.marks.reach(Mark::Transferred);
            }
            if self.nodes.iter().any(|other| other.hole) {
                self.marks.reach(Mark::HoleWaited);
            }
        } else if node.group.as_ref().is_some_and(|group| !group.members().contains(group.id())) {
            self.marks.reach(Mark::LeaderRemoved);
        }
        if self.nodes.iter().filter(|node| node.leads()).count() > 1 {
            self.marks.reach(Mark::TwoLeaders);
        }
    }

    pub(super) fn look(&mut self, number: usize, outputs: &[Output]) {
        let node = &self.nodes[number];
        let Some(group) = &node.group else { return };
        for output in outputs {
            match output {
                Output::Persist { record, .. } if !node.wiped && changes_members(record) => {
                    let initial = self.initial_members(number);
                    self.checker.look_at_members(self.now, number, group, &initial);
                }
                _ => {}
            }
            match output {
                Output::Persist { record, .. } => self.checker.record(self.now, number, group, record),
                Output::Send { to, message } => self.checker.message(self.now, number, group, message, *to),
                _ => {}
            }
        }
        let nodes = &self.nodes;
        let durable = |place: Place| {
            let holds = |id: NodeId| nodes[Node::number(id)].disk.holds(place);
            // What was damaged may have been there when it was acknowledged.
            match nodes.iter().any(|node| node.damaged) {
                true => None,
                // A change that begins with the same call counts from the next on.
                false => Some(node.members.majority(holds) || group.members().majority(holds)),
            }
        };
        if let Some(place) = self.checker.newly_stable(number, group)
            && !node.disk.holds(place)
        {
            let text = format!("n{number} takes {place:?} for durable, which a crash may take from it");
            self.checker.violate(Rule::Durable, self.now, text);
        }
        self.checker.look(self.now, number, group, node.hole, durable);
        if node.members != *group.members() {
            let members = group.members().clone();
            self.nodes[number].members = members;
        }
    }

    pub(super) fn set_timer(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some(group) = &node.group else { return };
        let due = node.when(group.poll_timeout()).max(self.now + 1000);
        // One that is in the queue already, and earlier, sets the next when it comes.
        if due < node.timer {
            node.timer = due;
            let event = Event::Timer { node: number, life: node.life };
            self.schedule(due - self.now, event);
        }
    }

    pub(super) fn carry_out(&mut self, number: usize, output: Output) {
        match output {
            Output::Send { to, message } => self.send(number, to, message),
            Output::Persist { id, record } => {
                match &record {
                    Record::Truncate { .. } => self.marks.reach(Mark::Truncated),
                    Record::Snapshot(_) => self.marks.reach(Mark::Snapshot),
                    Record::Compact { .. } => self.marks.reach(Mark::Compacted),
                    _ => {}
                }
                self.fragile_write(number, &record);
                self.trace(number, 4, || format!("writes {record:?}"));
                self.nodes[number].disk.write(id, record);
                self.sync(number);
            }
            Output::Apply(entries) => self.apply(number, &entries),
            Output::Restore(snapshot) => {
                self.marks.reach(Mark::Restored);
                if std::mem::take(&mut self.nodes[number].pieces) > 1 {
                    self.marks.reach(Mark::Chunks);
                }
                let Some(app) = App::restored(&snapshot) else {
                    let text = format!("n{number} is given bytes that are no snapshot");
                    return self.checker.violate(Rule::StateMachineSafety, self.now, text);
                };
                self.trace(number, 5, || format!("restores {app:?}"));
                self.checker.restored(self.now, number, snapshot.place, app.state);
                self.nodes[number].app = app;
                self.nodes[number].durable = app;
                self.answer_reads(number);
            }
            Output::WantSnapshot => self.take_snapshot(number),
            Output::Leader { term, leader } => {
                self.trace(number, 6, || format!("follows {leader:?} in term {term}"));
            }
            Output::Leading { .. } => {}
            Output::Deposed { .. } => self.marks.reach(Mark::Deposed),
            Output::Quorum { present } => {
                if !present {
                    self.marks.reach(Mark::QuorumLost);
                }
            }
            Output::ReadReady { id, index } => self.read_ready(number, id, index),
            Output::ReadFailed { id } => {
                self.marks.reach(Mark::ReadFailed);
                self.reads.remove(&id.0);
            }
            Output::Members(members) => {
                if members.is_joint() {
                    self.marks.reach(Mark::Joint);
                }
                self.trace(number, 7, || format!("knows {members:?}"));
            }
            Output::AddFailed { .. } => self.marks.reach(Mark::AddFailed),
            Output::Removed => self.marks.reach(Mark::Removed),
        }
    }

    /// Chooses moments at which a crash or damage is worth most: while something rare is written, and after a vote.
    fn fragile_write(&mut self, node: usize, record: &Record) {
        if self.scripted || !self.troubled || matches!(record, Record::Append { .. }) {
            return;
        }
        let (swarm, life) = (self.plan.swarm, self.nodes[node].life);
        if swarm.has(Fault::CrashAtWrite) && self.rng.chance(1, 16) {
            let after = self.rng.below(self.plan.sync.1);
            self.schedule(after, Event::AtWrite { node, life });
        }
        let voted = matches!(record, Record::State(state) if state.vote.is_some_and(|vote| Node::number(vote) != node));
        if voted && swarm.has(Fault::DamageAtVote) && self.rng.chance(1, 8) {
            // Durable and said, but before much comes of it.
            let after = self.rng.below(self.plan.sync.1 + self.plan.links.delay_max);
            self.schedule(after, Event::AtVote { node, life });
        }
    }

    /// A member writes that it is in doubt no more: another such moment.
    pub(super) fn fragile_healing(&mut self, node: usize) {
        let chosen = !self.scripted && self.troubled && self.plan.swarm.has(Fault::CrashAtWrite);
        if chosen && self.rng.chance(1, 3) {
            let (after, life) = (self.rng.below(2 * self.plan.sync.1), self.nodes[node].life);
            self.schedule(after, Event::AtWrite { node, life });
        }
    }

    fn send(&mut self, from: usize, to: NodeId, message: Message) {
        let to = Node::number(to);
        if to >= self.nodes.len() {
            return;
        }
        if let Message::Append(append) = &message {
            let kind = append.entries.first().map(|entry| entry.kind);
            self.nodes[to].asked |= kind == Some(EntryKind::LeaderTransfer);
            self.nodes[to].pieces += u64::from(kind == Some(EntryKind::SnapshotChunk));
        }
        self.post(from, to, Event::Deliver { to, message: Box::new(message) });
    }

    /// Lets the link do with something what it does: it arrives once, twice or not at all.
    pub(in crate::raft) fn post(&mut self, from: usize, to: usize, event: Event) {
        let fate = self.links.fate(from, to);
        if let Some((what, number)) = fate.odd {
            match what {
                Oddity::Lost => self.counters.hit(Fault::Loss),
                Oddity::Late(_) | Oddity::LateAndAgain(..) => self.counters.hit(Fault::Spike),
                Oddity::Again(_) => {}
            }
            if let Some(noted) = &self.noted {
                noted.borrow_mut().push((self.now, Deed::Odd { from, to, number, what }));
            }
        }
        match fate.delays {
            [Some(first), None] => {
                self.schedule(first, event);
            }
            [Some(first), Some(second)] => {
                self.counters.hit(if fate.replayed { Fault::Replay } else { Fault::Double });
                self.schedule(first, event.again());
                self.schedule(second, event);
            }
            _ => {}
        }
    }

    fn sync(&mut self, number: usize) {
        let (least, most) = self.plan.sync;
        let Some(id) = self.nodes[number].disk.begin_sync() else { return };
        let took = least + self.nodes[number].rng.below(most - least + 1);
        let took = took.max(self.nodes[number].stalled.saturating_sub(self.now));
        let life = self.nodes[number].life;
        self.schedule(took, Event::Synced { node: number, life, id });
    }

    pub(super) fn synced(&mut self, number: usize, life: u32, id: WriteId) {
        if self.nodes[number].life != life || self.nodes[number].group.is_none() {
            return;
        }
        self.nodes[number].disk.end_sync(id);
        self.trace(number, 8, || format!("has synced through {}", id.0));
        self.call(number, |group, now| group.persisted(now, id));
        self.sync(number);
    }

    fn apply(&mut self, number: usize, entries: &[LogEntry]) {
        for entry in entries {
            let app = &mut self.nodes[number].app;
            if entry.index != app.applied + 1 {
                let text = format!("n{number} applies {} after {}", entry.index, app.applied);
                return self.checker.violate(Rule::StateMachineSafety, self.now, text);
            }
            app.apply(entry);
            let state = app.state;
            let proposed = self.nodes[number].proposed.remove(&entry.index);
            match proposed {
                Some(term) if term == entry.term => self.acknowledge(number, entry),
                Some(_) => self.marks.reach(Mark::ProposalLost),
                None => {}
            }
            self.checker.applied(self.now, number, entry, state);
        }
        self.answer_reads(number);
        if let Some(last) = entries.last()
            && !self.nodes[number].disk.holds(last.place())
        {
            let text = format!("n{number} applies {:?}, which a crash may take from it", last.place());
            self.checker.violate(Rule::Durable, self.now, text);
        }
        let index = self.nodes[number].app.applied;
        self.trace(number, 9, || format!("applies through {index}"));
        if self.nodes[number].leads() {
            // The leader's client is told.
            self.checker.acknowledged = self.checker.acknowledged.max(index);
        }
        let life = self.nodes[number].life;
        let slow = self.plan.apply > 0 && self.troubled;
        let after = if slow { self.nodes[number].rng.below(self.plan.apply) } else { 0 };
        if after > 0 {
            self.counters.hit(Fault::SlowApply);
        }
        self.schedule(after, Event::Applied { node: number, life, index });
        if self.nodes[number].rng.chance(1, 4) {
            self.nodes[number].durable = self.nodes[number].app;
        }
    }

    /// A client is told that its proposal is committed.
    fn acknowledge(&mut self, number: usize, entry: &LogEntry) {
        self.checker.acknowledges(entry.place());
        let View { length, list, .. } = self.nodes[number].app.view;
        if let Some(value) = value_of(entry)
            && let Err(text) = self.history.end_write(value, length, list)
        {
            self.checker.violate(Rule::Linearizable, self.now, format!("n{number}: {text}"));
        }
    }

    pub(super) fn take_snapshot(&mut self, number: usize) {
        let node = &self.nodes[number];
        let app = node.app;
        let mut busy = false;
        self.call(number, |group, now| {
            // The application may be behind what it has been handed; what it has is what it can save.
            let index = app.applied;
            group.applied_through(now, index);
            busy = group.take_snapshot(now, index, app.snapshot()).is_err();
        });
        self.trace(number, 10, || format!("is asked for a snapshot: busy {busy}"));
    }
}

/// Returns whether a record may change who the members are.
fn changes_members(record: &Record) -> bool {
    match record {
        Record::Truncate { .. } => true,
        Record::Append { entries, .. } => entries.iter().any(|entry| entry.entry.kind != EntryKind::Normal),
        _ => false,
    }
}
