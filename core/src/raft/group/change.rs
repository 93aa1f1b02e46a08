//! Who the members are: joining, leaving, replacing several, handing over.
//!
//! One member joins or leaves at a time; several are replaced through a joint configuration. Either begins only when
//! the last change is committed *and* an entry of the leader's own term is, without which two leaders could make changes
//! from one configuration whose majorities don't meet (Ongaro's correction of 2015). A leader's first entry says who the
//! members are, so one question covers both: is the entry with the last configuration committed?
//!
//! A node that joins is caught up first, without a vote; one that leaves is told so until it knows.

use std::collections::BTreeSet;

use super::progress::Progress;
use super::replication::Transfer;
use super::{Group, Message, Output, RequestError, State};
use crate::planted::{Bug, bug};
use crate::raft::membership::Membership;
use crate::raft::wire::{AppendEntries, AppendExtension, Entry, EntryKind, NodeId};
use crate::time::Instant;

/// A change that waits for nodes to catch up.
#[derive(Clone, Debug)]
pub(super) struct Change {
    /// Who joins.
    joining: BTreeSet<NodeId>,
    /// Who the members are to be.
    target: BTreeSet<NodeId>,
    /// When it is given up.
    until: Instant,
    /// What the last index was when the nodes began.
    goal: u64,
}

impl Group {
    /// Adds a member: catches it up, then gives it a vote.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if this member doesn't lead, another change is under way, or `node` is a member.
    pub fn add_peer(&mut self, now: Instant, node: NodeId) -> Result<(), RequestError> {
        let mut target = self.may_change(now)?;
        if !target.insert(node) {
            return Err(RequestError::Member);
        }
        self.begin(target);
        Ok(())
    }

    /// Removes a member, this one too: then it leads until that is committed.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if this member doesn't lead, another change is under way, or `node` is no member or the last.
    pub fn remove_peer(&mut self, now: Instant, node: NodeId) -> Result<(), RequestError> {
        let mut target = self.may_change(now)?;
        if !target.remove(&node) {
            return Err(RequestError::Member);
        }
        self.check_target(&target)?;
        self.begin(target);
        Ok(())
    }

    /// Makes `target` the members, whoever they were, through a joint configuration.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if this member doesn't lead, another change is under way, or nothing would change.
    pub fn replace_peers(&mut self, now: Instant, target: BTreeSet<NodeId>) -> Result<(), RequestError> {
        if self.may_change(now)? == target {
            return Err(RequestError::Member);
        }
        self.check_target(&target)?;
        self.begin(target);
        Ok(())
    }

    /// Asks the leader to remove `node`, here or from afar; what becomes of it isn't told.
    ///
    /// # Errors
    ///
    /// As [`Group::remove_peer`]; [`RequestError::NotLeader`] if no leader is known.
    pub fn forward_remove_peer(&mut self, now: Instant, node: NodeId) -> Result<(), RequestError> {
        match self.leader {
            Some(leader) if leader != self.id && !self.failed => {
                self.send(leader, Message::RemovePeer(node));
                Ok(())
            }
            _ => self.remove_peer(now, node),
        }
    }

    fn check_target(&self, target: &BTreeSet<NodeId>) -> Result<(), RequestError> {
        if target.is_empty() { Err(RequestError::LastMember) } else { Ok(()) }
    }

    /// Returns the members if they may be changed now.
    fn may_change(&mut self, now: Instant) -> Result<BTreeSet<NodeId>, RequestError> {
        self.now = self.now.max(now);
        if self.failed {
            return Err(RequestError::Failed);
        }
        let State::Leader(leading) = &self.state else { return Err(RequestError::NotLeader(self.leader)) };
        if leading.transfer.is_some() {
            return Err(RequestError::Transferring);
        }
        let under_way = match () {
            () if bug(Bug::RaftChangeBeforeOwnCommit) => {
                // Only earlier changes count, not whether this term has committed anything.
                self.members.since() > self.commit && self.members.since() > leading.first
            }
            () if bug(Bug::RaftChangesOverlap) => false,
            () => self.change_under_way(),
        };
        let waiting = leading.change.is_some() || self.members.current().is_joint();
        if under_way || waiting {
            return Err(RequestError::ChangeUnderWay);
        }
        self.wake();
        Ok(self.members.current().voters().clone())
    }

    fn begin(&mut self, target: BTreeSet<NodeId>) {
        let (until, goal) = (self.now + self.config.change_timeout, self.last().index);
        let joining: BTreeSet<NodeId> = target.difference(self.members.current().voters()).copied().collect();
        let State::Leader(leading) = &mut self.state else { return };
        for node in &joining {
            leading.leaving.remove(node);
            // A node that was here before may hold anything.
            leading.peers.insert(*node, Progress::new(goal + 1));
        }
        leading.change = Some(Change { joining, target, until, goal });
        self.tick_changes();
    }

    /// Goes on with a change once its nodes have caught up, and lets those go who know that they left.
    pub(super) fn tick_changes(&mut self) {
        let (now, removal) = (self.now, self.members.since());
        let committed = removal <= self.commit;
        let State::Leader(leading) = &mut self.state else { return };
        let peers = &leading.peers;
        let knows = |node: &NodeId| {
            committed && peers.get(node).is_none_or(|peer| peer.matched >= removal && peer.told >= removal)
        };
        let gone: Vec<NodeId> = leading
            .leaving
            .iter()
            .filter(|(node, until)| **until <= now || knows(node))
            .map(|(node, _)| *node)
            .collect();
        for node in gone {
            leading.leaving.remove(&node);
            leading.peers.remove(&node);
        }
        let Some(change) = &leading.change else { return };
        let caught_up =
            |node: &NodeId| leading.peers.get(node).is_some_and(|progress| progress.matched >= change.goal);
        if change.joining.iter().all(caught_up) {
            return self.enter_change();
        }
        if change.until <= now {
            let failed: Vec<NodeId> = change.joining.iter().copied().collect();
            leading.change = None;
            for node in failed {
                leading.peers.remove(&node);
                self.outputs.push_back(Output::AddFailed { node });
            }
        }
    }

    /// Puts the change into the log.
    fn enter_change(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        let Some(change) = leading.change.take() else { return };
        let current = self.members.current();
        let joins: Vec<NodeId> = change.target.difference(current.voters()).copied().collect();
        let leaves: Vec<NodeId> = current.voters().difference(&change.target).copied().collect();
        let name = |node: NodeId| bytes::Bytes::copy_from_slice(&node.0);
        let entry = match (&joins[..], &leaves[..]) {
            ([joins], []) => Entry { kind: EntryKind::AddPeer, data: name(*joins) },
            ([], [leaves]) => Entry { kind: EntryKind::RemovePeer, data: name(*leaves) },
            _ if bug(Bug::RaftNoJoint) => Membership::new(change.target).entry(),
            _ => current.towards(change.target).entry(),
        };
        self.append(entry);
    }

    /// Has a [`Progress`] for each member; those that left are told so for a while.
    pub(super) fn track_members(&mut self) {
        let (me, next) = (self.id, self.last().index.max(1));
        let until = self.now + self.config.change_timeout;
        let members = self.members.current();
        let State::Leader(leading) = &mut self.state else { return };
        for node in members.members().filter(|node| *node != me) {
            leading.peers.entry(node).or_insert_with(|| Progress::new(next));
            leading.leaving.remove(&node);
        }
        let joining = leading.change.as_ref().map(|change| &change.joining);
        let stays =
            |node: &NodeId| members.contains(*node) || joining.is_some_and(|joining| joining.contains(node));
        let left: Vec<NodeId> = leading.peers.keys().filter(|node| !stays(node)).copied().collect();
        for node in left {
            leading.leaving.entry(node).or_insert(until);
        }
    }

    /// A configuration is committed.
    pub(super) fn change_committed(&mut self) {
        let current = self.members.current().clone();
        self.outputs.push_back(Output::Members(current.clone()));
        let member = current.contains(self.id);
        if !member && !self.removed {
            self.removed = true;
            self.outputs.push_back(Output::Removed);
        } else if member {
            self.removed = false;
        }
        if !self.is_leader() {
            return;
        }
        if current.is_joint() {
            let next = Membership::new(current.voters().iter().copied());
            self.append(next.entry());
        } else if !member {
            self.leave();
        }
    }

    /// Steps down after its own removal, telling the others what is committed first.
    fn leave(&mut self) {
        let peers: Vec<NodeId> = self.peers().collect();
        self.flush_log();
        for peer in &peers {
            self.replicate(*peer, true);
        }
        if let Some(next) = self.best_successor() {
            self.ask_to_lead(next);
        }
        self.become_follower(self.term, None);
    }

    /// Hands leadership over, to `to` or to whoever has most of the log.
    ///
    /// Proposals are refused meanwhile; after an election time-out without success this member goes on leading.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if this member doesn't lead or hands over already, or `to` is no other member.
    pub fn step_down(&mut self, now: Instant, to: Option<NodeId>) -> Result<(), RequestError> {
        self.now = self.now.max(now);
        self.wake();
        let until = self.now + self.config.election_min;
        let to = to.or_else(|| self.best_successor());
        let member = |node| node != self.id && self.members.current().contains(node);
        let to = to.filter(|node| member(*node));
        let State::Leader(leading) = &mut self.state else {
            return Err(RequestError::NotLeader(self.leader));
        };
        let Some(to) = to else { return Err(RequestError::Member) };
        if leading.transfer.is_some() {
            return Err(RequestError::Transferring);
        }
        leading.transfer = Some(Transfer { to, until, asked: false });
        self.help_transfer();
        Ok(())
    }

    /// Returns the member that is heard and has most of the log.
    fn best_successor(&self) -> Option<NodeId> {
        let State::Leader(leading) = &self.state else { return None };
        let recent = |heard: Instant| self.now.since(heard) < self.config.election_min;
        let members = self.members.current();
        leading
            .peers
            .iter()
            .filter(|(node, peer)| members.contains(**node) && peer.heard.is_some_and(recent))
            .max_by_key(|(node, peer)| (peer.matched, std::cmp::Reverse(**node)))
            .map(|(node, _)| *node)
    }

    /// Asks the successor to stand for election once it has everything.
    pub(super) fn help_transfer(&mut self) {
        let last = self.last().index;
        let State::Leader(leading) = &mut self.state else { return };
        let Some(transfer) = &mut leading.transfer else { return };
        let ready = leading.peers.get(&transfer.to).is_some_and(|peer| peer.matched >= last);
        if ready && !transfer.asked {
            transfer.asked = true;
            let to = transfer.to;
            self.ask_to_lead(to);
        }
    }

    /// Sends the request to lead.
    ///
    /// Differs: the reference puts it into the log, from which it is applied by whoever replays it; here it is only said.
    fn ask_to_lead(&mut self, to: NodeId) {
        let last = self.last();
        let State::Leader(leading) = &self.state else { return };
        let append = AppendEntries {
            leader: self.id,
            term: self.term,
            commit: self.commit,
            previous_term: last.term,
            previous_index: last.index,
            entries: vec![Entry {
                kind: EntryKind::LeaderTransfer,
                data: bytes::Bytes::copy_from_slice(&to.0),
            }],
            leader_term: Some(self.term),
            extension: Some(AppendExtension { round: leading.round, sleep: false }),
        };
        self.send(to, Message::Append(append));
    }
}
