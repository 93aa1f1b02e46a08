//! What is committed: handing it out in order, and reads.

use super::{Group, Output, ReadId, RequestError, State};
use crate::planted::{Bug, bug};
use crate::raft::membership::Membership;
use crate::time::Instant;

impl Group {
    /// Notes that the application has applied everything through `index`.
    pub fn applied_through(&mut self, now: Instant, index: u64) {
        self.now = self.now.max(now);
        self.applied = self.applied.max(index.min(self.delivered));
        self.want_snapshot();
        self.announce_leading();
    }

    /// Stops handing out committed entries.
    pub fn pause_apply(&mut self) {
        self.paused = true;
    }

    /// Hands out committed entries again.
    pub fn resume_apply(&mut self) {
        self.paused = false;
    }

    /// Raises the commit index.
    pub(super) fn commit_through(&mut self, index: u64) {
        if index <= self.commit {
            return;
        }
        let before = self.commit;
        self.commit = index;
        if bug(Bug::RaftMembersChangeAtCommit) && !self.is_leader() {
            for entry in self.log.from(before + 1, (index - before) as usize, usize::MAX) {
                let _ = self.members.pushed(entry.index, &entry.entry);
            }
        }
        let since = self.members.since();
        if since > before && since <= index {
            self.change_committed();
        }
    }

    /// Hands out what is committed, and durable here.
    pub(super) fn hand_out(&mut self) {
        if self.paused || self.is_installing() {
            return;
        }
        let through = match bug(Bug::RaftAppliesUncommitted) {
            true => self.log.stable(),
            false => self.commit.min(self.log.stable()),
        };
        while self.delivered < through {
            let count = usize::try_from(through - self.delivered).unwrap_or(usize::MAX);
            let from = self.delivered + 1;
            let entries: Vec<_> =
                self.log.from(from, count.min(self.config.max_apply), usize::MAX).cloned().collect();
            let Some(last) = entries.last() else { break };
            self.delivered = last.index;
            self.outputs.push_back(Output::Apply(entries));
        }
    }

    /// Tells the owner that this member leads, once all that earlier leaders committed is applied.
    pub(super) fn announce_leading(&mut self) {
        let applied = self.applied;
        let State::Leader(leading) = &mut self.state else { return };
        if leading.announced || applied < leading.first {
            return;
        }
        leading.announced = true;
        self.outputs.push_back(Output::Leading { term: self.term });
    }

    /// Returns whether this member leads, and has applied all that earlier leaders committed.
    pub(super) fn is_announced(&self) -> bool {
        matches!(&self.state, State::Leader(leading) if leading.announced)
    }

    /// Asks when a read may be answered so that it sees everything that was committed before it was asked.
    ///
    /// Answered by [`Output::ReadReady`], once a majority has confirmed that this member still leads.
    ///
    /// # Errors
    ///
    /// [`RequestError::NotLeader`]; [`RequestError::ChangeUnderWay`] until something of this term is committed.
    pub fn read(&mut self, now: Instant, id: ReadId) -> Result<(), RequestError> {
        self.now = self.now.max(now);
        let (commit, leader) = (self.commit, self.leader);
        let stale = bug(Bug::RaftStaleLeaderReads);
        let State::Leader(leading) = &mut self.state else { return Err(RequestError::NotLeader(leader)) };
        if commit < leading.first && !bug(Bug::RaftReadBeforeOwnCommit) {
            return Err(RequestError::ChangeUnderWay);
        }
        if stale {
            self.outputs.push_back(Output::ReadReady { id, index: commit });
            return Ok(());
        }
        self.wake();
        let State::Leader(leading) = &mut self.state else { return Err(RequestError::NotLeader(leader)) };
        leading.active = self.now;
        // The round after the one under way: an answer to that one may have been sent before the read was asked.
        leading.reads.push_back((leading.round + 1, id, commit));
        leading.beat_due = self.now;
        self.confirm_reads();
        Ok(())
    }

    /// Answers the reads whose round a majority has confirmed.
    pub(super) fn confirm_reads(&mut self) {
        let me = self.id;
        let members: &Membership = self.members.current();
        let State::Leader(leading) = &mut self.state else { return };
        let alone = members.members().all(|node| node == me);
        while let Some((round, id, index)) = leading.reads.front().copied() {
            let confirmed =
                |node| node == me || leading.peers.get(&node).is_some_and(|progress| progress.round >= round);
            if !alone && !members.majority(confirmed) {
                break;
            }
            leading.reads.pop_front();
            self.outputs.push_back(Output::ReadReady { id, index });
        }
    }
}
