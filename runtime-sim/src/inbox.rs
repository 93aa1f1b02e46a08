//! A shard's inbox: one FIFO that all other shards push to, or one of the bugs that this rule is there to prevent.

use std::collections::VecDeque;

use natrix_core::ids::ShardId;
use natrix_core::planted::{Bug, bug};
use natrix_core::rng::Rng;
use natrix_core::shard::mailbox::ShardMessage;

/// Messages that wait for a shard.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    fifo: VecDeque<ShardMessage>,
    /// One ring for each sender: only with [`Bug::InboxRingPerPair`].
    rings: Vec<VecDeque<ShardMessage>>,
}

impl Inbox {
    pub(crate) fn push(&mut self, from: ShardId, message: ShardMessage) {
        if bug(Bug::InboxRingPerPair) {
            if self.rings.len() <= from.index() {
                self.rings.resize_with(from.index() + 1, VecDeque::new);
            }
            self.rings[from.index()].push_back(message);
            return;
        }
        self.fifo.push_back(message);
        let len = self.fifo.len();
        if len >= 2 && bug(Bug::InboxReordered) {
            self.fifo.swap(len - 1, len - 2);
        }
    }

    pub(crate) fn pop(&mut self, rng: &mut Rng) -> Option<ShardMessage> {
        if bug(Bug::InboxRingPerPair) {
            let start = rng.below(self.rings.len() as u64) as usize;
            let rings = self.rings.len();
            return (0..rings).find_map(|offset| self.rings[(start + offset) % rings].pop_front());
        }
        self.fifo.pop_front()
    }

    /// Returns how many messages a drain takes: all that are there. With rings it is those of one of them, for
    /// whoever drains them one after the other never has all at one moment.
    pub(crate) fn to_drain(&self, rng: &mut Rng) -> usize {
        if bug(Bug::InboxRingPerPair) && !self.rings.is_empty() {
            return self.rings[rng.below(self.rings.len() as u64) as usize].len();
        }
        self.len()
    }

    pub(crate) fn len(&self) -> usize {
        self.fifo.len() + self.rings.iter().map(VecDeque::len).sum::<usize>()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
