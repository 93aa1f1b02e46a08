//! Clients: they propose and read, and know what they were told.

use natrix_core::raft::group::{ReadId, RequestError};

use super::checker::Rule;
use super::marks::Mark;
use super::world::{Event, World};

impl World {
    pub(super) fn propose(&mut self) {
        if self.busy {
            let every = self.plan.propose_every;
            let after = 1 + self.rng.below(every * 2);
            self.schedule(after, Event::Propose);
        }
        let count = 1 + self.rng.below(3);
        let number = self.some_leader();
        for _ in 0..count {
            self.proposals += 1;
            let mut data = self.proposals.to_le_bytes().to_vec();
            data.resize(8 + self.rng.below(self.plan.payload) as usize, 7);
            let (mut result, mut proposed) = (None, None);
            let forward = self.rng.chance(1, 10);
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
        }
    }

    /// Returns a node that runs and believes to lead, if there is one, or else any.
    pub(super) fn some_leader(&mut self) -> usize {
        let count = self.nodes.len() as u64;
        let start = self.rng.below(count) as usize;
        let order = (0..self.nodes.len()).map(|at| (start + at) % self.nodes.len());
        let found = order.into_iter().find(|node| self.nodes[*node].runs() && self.nodes[*node].leads());
        found.unwrap_or(start)
    }

    pub(super) fn read(&mut self) {
        if self.busy {
            let every = self.plan.propose_every * 3;
            let after = 1 + self.rng.below(every * 2);
            self.schedule(after, Event::Read);
        }
        let number = self.some_leader();
        if !self.nodes[number].runs() {
            return;
        }
        self.next_read += 1;
        let id = self.next_read;
        self.reads.insert(id, self.checker.acknowledged);
        self.call(number, |group, now| {
            let _ = group.read(now, ReadId(id));
        });
    }

    pub(super) fn read_ready(&mut self, number: usize, id: ReadId, index: u64) {
        let Some(acknowledged) = self.reads.remove(&id.0) else { return };
        self.marks.reach(Mark::Read);
        if index < acknowledged {
            let text = format!("n{number} reads at {index}, and {acknowledged} was acknowledged before");
            self.checker.violate(Rule::Linearizable, self.now, text);
        }
    }
}
