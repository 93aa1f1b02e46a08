//! Writes, and what waits for them.
//!
//! Writes become durable in the order of their numbers. The log is written in batches, when outputs are drained; term
//! and vote at once. Messages that promise something wait for the write that makes it true.

use std::collections::VecDeque;

use super::{Group, HardState, Message, Output, Record, State, WriteId};
use crate::planted::{Bug, bug};
use crate::raft::log::Place;
use crate::raft::wire::NodeId;

/// The writes of one member.
#[derive(Debug, Default)]
pub(super) struct Writes {
    /// The last that was asked for.
    last: u64,
    /// Through which one all are done.
    done: u64,
    /// Through which index the log was written, durable or not.
    pub(super) log: u64,
    /// What of the log each write brings, in their order.
    appended: VecDeque<(u64, Place)>,
    /// Messages, and the write that each waits for, in the order of the writes.
    held: VecDeque<(u64, NodeId, Message)>,
    /// The write of the last term and vote.
    state: u64,
    /// The commit index that was written last.
    commit: u64,
}

impl Writes {
    /// Notes what was found: everything there is durable.
    pub(super) fn recovered(&mut self, log: u64, commit: u64) {
        (self.log, self.commit) = (log, commit);
    }
}

impl Group {
    /// Notes that all writes through `id` are durable.
    pub fn persisted(&mut self, now: crate::time::Instant, id: WriteId) {
        self.now = self.now.max(now);
        if self.failed || id.0 <= self.writes.done {
            return;
        }
        self.writes.done = id.0;
        self.after_write();
    }

    /// Notes that a write failed: what is durable isn't known any more, so this member takes no part from now on.
    ///
    /// The owner starts the member again from what the disk holds, or replaces it.
    pub fn disk_failed(&mut self, now: crate::time::Instant) {
        self.now = self.now.max(now);
        if self.failed {
            return;
        }
        self.stop_leading();
        self.state = State::Follower;
        self.set_leader(None);
        self.writes.held.clear();
        self.asleep = false;
        self.failed = true;
    }

    fn after_write(&mut self) {
        while let Some((_, place)) = self.writes.appended.pop_front_if(|(id, _)| *id <= self.writes.done) {
            self.log.stabilised(place);
        }
        while let Some((_, to, message)) = self.writes.held.pop_front_if(|(id, _, _)| *id <= self.writes.done)
        {
            self.send(to, message);
        }
        self.snapshot_written();
        self.own_vote_written();
        self.acknowledge_written();
        self.advance_commit();
    }

    pub(super) fn persist(&mut self, record: Record) -> WriteId {
        self.writes.last += 1;
        let id = WriteId(self.writes.last);
        self.outputs.push_back(Output::Persist { id, record });
        id
    }

    /// Writes term and vote, behind the log as it stands.
    pub(super) fn save_state(&mut self) -> WriteId {
        self.flush_log();
        self.writes.commit = self.commit;
        let (lost_log, lost_vote) = self.doubt.parts();
        let state = HardState { term: self.term, vote: self.vote, commit: self.commit, lost_log, lost_vote };
        if bug(Bug::RaftVoteNotWritten) && self.vote.is_some_and(|vote| vote != self.id) {
            return WriteId(self.writes.done);
        }
        let id = self.persist(Record::State(state));
        self.writes.state = id.0;
        id
    }

    /// Writes the entries that were put into the log since the last time.
    pub(super) fn flush_log(&mut self) {
        let last = self.last();
        if self.writes.log >= last.index {
            return;
        }
        let from = self.writes.log.max(self.log.base().index) + 1;
        let entries = self.log.from(from, usize::MAX, usize::MAX).cloned().collect();
        self.writes.log = last.index;
        self.writes.commit = self.commit;
        let id = self.persist(Record::Append { entries, commit: self.commit });
        self.writes.appended.push_back((id.0, last));
        let early = match bug(Bug::RaftLeaderCountsUnsynced) {
            true => self.is_leader(),
            false => bug(Bug::RaftAckBeforeSync) && !self.is_leader(),
        };
        if early {
            self.log.stabilised(last);
            self.acknowledge_written();
            self.advance_commit();
        }
    }

    /// Removes the entries from `from` on: the leader has others there.
    pub(super) fn truncate(&mut self, from: u64) {
        self.log.truncate_from(from);
        self.members.truncated_from(from);
        if self.writes.log >= from {
            // What is on its way to the disk ends before `from` now, or else a later entry that is equal to one of
            // these would be taken for durable when these are.
            let before = Place { term: self.log.term_at(from - 1).unwrap_or(0), index: from - 1 };
            for (_, place) in &mut self.writes.appended {
                if place.index >= from && !bug(Bug::RaftStaleWriteCounts) {
                    *place = before;
                }
            }
            self.writes.log = from - 1;
            if !bug(Bug::RaftTruncationNotWritten) {
                self.persist(Record::Truncate { from });
            }
        }
    }

    /// Sends `message` when the last term and vote are durable.
    pub(super) fn send_after_state(&mut self, to: NodeId, message: Message) {
        if self.state_durable() || bug(Bug::RaftVoteBeforeSync) {
            self.send(to, message);
        } else {
            self.writes.held.push_back((self.writes.state, to, message));
        }
    }

    /// Returns whether term and vote are durable.
    pub(super) fn state_durable(&self) -> bool {
        self.writes.state <= self.writes.done
    }

    /// Returns whether the write `id` is done.
    pub(super) fn is_written(&self, id: WriteId) -> bool {
        id.0 <= self.writes.done
    }

    /// Forgets messages that wait: what they promise is not of this term any more.
    pub(super) fn drop_held(&mut self) {
        self.writes.held.clear();
    }

    /// Notes that the log starts again behind `base`.
    pub(super) fn log_restarted(&mut self, base: Place) {
        self.writes.log = base.index;
        self.writes.appended.clear();
    }
}
