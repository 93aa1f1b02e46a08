//! Clients: they propose and read, and know what they were told.

use natrix_core::raft::group::{ReadId, RequestError};

use super::checker::Rule;
use super::deed::Deed;
use super::marks::Mark;
use super::node::Reading;
use super::world::{Event, World};

impl World {
    /// Lets a client propose some entries.
    pub(super) fn propose(&mut self) {
        if self.busy {
            let every = self.plan.propose_every;
            let after = 1 + self.rng.below(every * 2);
            self.schedule(after, Event::Propose { clients: self.clients });
        }
        let (near, count) = (self.near(), 1 + self.rng.below(3) as usize);
        let size = 8 + self.rng.below(self.plan.payload) as usize;
        let forward = self.rng.chance(1, 10);
        self.act(Deed::Propose { near, count, size, forward });
    }

    pub(super) fn propose_one(&mut self, near: usize, size: usize, forward: bool) -> bool {
        let number = self.some_leader(near);
        self.proposals += 1;
        let mut data = self.proposals.to_le_bytes().to_vec();
        // A value is never cut short.
        data.resize(size.max(8), 7);
        self.history.begin_write(self.proposals);
        if forward && !self.nodes[number].leads() {
            self.history.handed_on(self.proposals);
        }
        let (mut result, mut proposed) = (None, None);
        self.call(number, |group, now| {
            result = Some(match forward {
                true => group.forward(now, data),
                false => group.propose(now, data).map(|place| proposed = Some(place)),
            });
        });
        if let Some(place) = proposed {
            self.nodes[number].proposed.insert(place.index, place.term);
        }
        match result {
            Some(Err(RequestError::Busy)) => self.marks.reach(Mark::Busy),
            Some(Ok(())) if forward => self.marks.reach(Mark::Forwarded),
            _ => {}
        }
        matches!(result, Some(Ok(())))
    }

    /// Returns a node that runs and believes to lead, the first from `near` on if there is one, or else that.
    pub(super) fn some_leader(&self, near: usize) -> usize {
        let order = (0..self.nodes.len()).map(|at| (near + at) % self.nodes.len());
        let found = order.into_iter().find(|node| self.nodes[*node].runs() && self.nodes[*node].leads());
        found.unwrap_or(near)
    }

    /// Lets a client read.
    pub(super) fn read(&mut self) {
        if self.busy {
            let every = self.plan.propose_every * 3;
            let after = 1 + self.rng.below(every * 2);
            self.schedule(after, Event::Read { clients: self.clients });
        }
        let near = self.near();
        self.act(Deed::Read { near });
    }

    pub(super) fn read_one(&mut self, near: usize) -> bool {
        let number = self.some_leader(near);
        if !self.nodes[number].runs() {
            return false;
        }
        self.next_read += 1;
        let id = self.next_read;
        let call = self.history.begin();
        self.reads.insert(id, (self.checker.acknowledged, call));
        self.call(number, |group, now| {
            let _ = group.read(now, ReadId(id));
        });
        true
    }

    pub(super) fn read_ready(&mut self, number: usize, id: ReadId, index: u64) {
        let Some((acknowledged, call)) = self.reads.remove(&id.0) else { return };
        self.marks.reach(Mark::Read);
        if index < acknowledged {
            let text = format!("n{number} reads at {index}, and {acknowledged} was acknowledged before");
            self.checker.violate(Rule::Linearizable, self.now, text);
        }
        self.nodes[number].reading.push(Reading { index, call });
        self.answer_reads(number);
    }

    /// Answers the reads that a node has applied enough for.
    pub(super) fn answer_reads(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let (app, history) = (node.app, &mut self.history);
        let ready = node.reading.extract_if(.., |reading| reading.index <= app.applied);
        let wrong = ready.filter_map(|reading| history.end_read(reading.call, &app.view).err()).next();
        if let Some(text) = wrong {
            self.checker.violate(Rule::Linearizable, self.now, format!("n{number}: {text}"));
        }
    }
}
