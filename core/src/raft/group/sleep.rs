//! Sleep: a group that has nothing to do costs nothing.
//!
//! When all members have everything and nothing was asked for a while, the leader asks them to sleep, in a heartbeat.
//! Each that has everything too, committed and applied, stops its election timer and says so; when all have, the leader
//! stops its heartbeats. From then on nobody in the group would notice that the leader is gone. Whoever owns the groups
//! of a node does: it hears from each other *node*, whatever groups they share ([`Neighbours`]), and tells the groups
//! whom it suspects.
//!
//! # Invariants
//!
//! - A member that sleeps has a log that is durable, committed and applied to its end, is in no doubt, and suspects no
//!   member. Anything that ends that wakes it.
//! - A leader sleeps only when *every* member has answered the same round. So nobody who sleeps is behind, and a member
//!   that was away keeps the others awake.
//! - A member that sleeps believes in its leader and votes for nobody; who wakes goes on believing for a time-out, but
//!   not if it is the leader's node that is suspected, or the leader itself that asks for a vote.
//! - A suspicion lasts until it is taken back: a request to sleep that comes late, when the leader's node is silent
//!   already, is not obeyed.
//!
//! A member that starts is awake, and asks who would elect it; that wakes the others. A node that was removed wakes
//! nobody: in a group that sleeps everybody knows who the members are.
//!
//! Differs: the reference has no such thing; its leaders send a heartbeat for each group each second.
//!
//! [`Neighbours`]: crate::raft::neighbours::Neighbours

use super::{Group, State};
use crate::planted::{Bug, bug};
use crate::raft::wire::{AppendEntries, AppendExtension, NodeId, VoteRequest};
use crate::time::{Duration, Instant};

impl Group {
    /// Returns whether this member sleeps: it has no time-out until something wakes it.
    pub fn is_asleep(&self) -> bool {
        self.asleep
    }

    /// Says that a node is silent, or has started anew; wakes this member if it sleeps and the node is a member.
    pub fn suspect(&mut self, now: Instant, node: NodeId) {
        self.now = self.now.max(now);
        self.suspected.insert(node);
        if !self.asleep || !self.members.current().contains(node) || bug(Bug::RaftSleeperIgnoresSuspicion) {
            return;
        }
        self.wake();
        if self.leader == Some(node) {
            // Its node was silent for as long as a member waits at least: only what they wait beyond that is left.
            let (min, max) = (self.config.election_min, self.config.election_max);
            let spread = max.saturating_sub(min).as_nanos() as u64;
            self.leader_heard = None;
            self.election_due = self.now + Duration::from_nanos(self.rng.below(spread.max(1)));
        }
    }

    /// Says that a node is heard again.
    pub fn trust(&mut self, now: Instant, node: NodeId) {
        self.now = self.now.max(now);
        self.suspected.remove(&node);
    }

    /// Wakes if there is something to do; a message may have brought it.
    pub(super) fn wake_for_work(&mut self) {
        if self.asleep && !self.is_settled() {
            self.wake();
        }
    }

    /// Goes on, if this member sleeps.
    pub(super) fn wake(&mut self) {
        if !std::mem::take(&mut self.asleep) {
            return;
        }
        let (now, suspected) = (self.now, &self.suspected);
        let State::Leader(leading) = &mut self.state else {
            if self.leader.is_some() && !bug(Bug::RaftSleeperVotes) {
                self.leader_heard = Some(now);
            }
            return self.reset_election_timer();
        };
        // The round that begins says so to the others.
        leading.beat_due = now;
        leading.quorum_due = now + self.config.election_min;
        leading.active = now;
        leading.sleep = None;
        for (node, progress) in &mut leading.peers {
            if !suspected.contains(node) {
                progress.heard = Some(now);
            }
        }
    }

    /// A member hears no leader and may not stand for election: wakes the others, as the leader may sleep.
    pub(super) fn call_out(&mut self) {
        if self.config.sleep_after.is_some() && self.members.current().contains(self.id) {
            let peers: Vec<NodeId> = self.peers().collect();
            for peer in peers {
                self.ask_for_term(peer);
            }
        }
    }

    /// A node asks for a vote, or for the promise of one.
    pub(super) fn roused_by(&mut self, request: VoteRequest) {
        let VoteRequest { candidate, term, .. } = request;
        let lost = bug(Bug::RaftWakeUpLost) && self.is_leader();
        if !self.asleep || !self.members.current().contains(candidate) || lost {
            return;
        }
        // What the leader asked before it led may come late; had it stopped leading, it would ask for a later term.
        let old = term > 0 && term <= self.term;
        match self.leader {
            Some(leader) if leader == candidate && old => {}
            // Whoever asks doesn't lead. (What one asked who was in doubt may be long past, when it leads; so its word is heard.)
            Some(leader) if leader == candidate && term > 0 => {
                self.wake();
                self.leader_heard = None;
            }
            Some(leader) if leader != self.id && !bug(Bug::RaftWakeUpLost) => {
                self.wake();
                // It may not have been asked, and this member would believe it gone.
                self.ask_for_term(leader);
            }
            _ => self.wake(),
        }
    }

    /// Returns whether everything that this member knows of is done, and nothing speaks against sleep.
    fn is_settled(&self) -> bool {
        let members = self.members.current();
        let last = self.last().index;
        let all = self.commit == last && self.applied == last && self.log.stable() == last;
        (all || bug(Bug::RaftSleepsWhileBehind) && self.asleep)
            && self.config.sleep_after.is_some()
            && !self.failed
            && !self.hole
            && !self.doubt.any()
            && !self.is_installing()
            && self.state_durable()
            && !members.is_joint()
            && members.contains(self.id)
            && !members.members().any(|node| self.suspected.contains(&node))
    }

    /// Returns whether a leader has nothing to do, as far as it knows.
    pub(super) fn is_idle(&self) -> bool {
        let State::Leader(leading) = &self.state else { return false };
        // A log may say that there are none.
        let (last, members) = (self.last().index, self.members.current().members().count());
        let all = leading.peers.values().all(|peer| peer.is_settled(last, self.commit));
        let long = self.config.sleep_after.is_some_and(|after| self.now.since(leading.active) >= after);
        long && leading.announced
            && leading.reads.is_empty()
            && leading.transfer.is_none()
            && leading.change.is_none()
            && leading.leaving.is_empty()
            && leading.peers.len() + 1 == members
            && (all || bug(Bug::RaftSleepsWhileBehind))
            && self.is_settled()
    }

    /// Lets a leader sleep when all have answered that they do, and wakes it when an answer says that there is more to
    /// do than it knew.
    pub(super) fn leader_sleeps(&mut self) {
        let State::Leader(leading) = &self.state else { return };
        let asked = leading.sleep;
        let agree = |round| leading.peers.values().all(|peer| peer.asleep == round);
        let late = bug(Bug::RaftLateSleepersCount) && leading.peers.values().all(|peer| peer.asleep > 0);
        let unasked = bug(Bug::RaftSleepsWhileBehind) && asked.is_some();
        let agreed = asked.is_some_and(agree) || late || unasked;
        match self.asleep {
            true if !self.is_idle() => self.wake(),
            false if agreed && self.is_idle() => self.asleep = true,
            _ => {}
        }
    }

    /// The leader's entries or heartbeat were taken: sleeps if it asks for that and nothing is to be done here.
    pub(super) fn follower_sleeps(&mut self, append: &AppendEntries) {
        let heard = self.heard_round();
        let asks = |extension: &AppendExtension| extension.sleep && extension.round >= heard;
        let Some(extension) = append.extension.filter(asks) else {
            // Also what comes late may bring something to do.
            self.asleep &= self.is_settled();
            return;
        };
        let last = append.previous_index == self.last().index && append.commit == append.previous_index;
        let current = extension.round == heard;
        self.asleep = current && last && self.is_settled();
    }
}
