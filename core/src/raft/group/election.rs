//! Terms, votes and time-outs: how a member comes to lead, and stops.
//!
//! A member that hears no leader asks first whether it *would* be elected (pre-vote, dissertation 9.6); only a majority
//! of such promises lets it raise its term. Members that hear a leader promise nothing and vote for nobody
//! (dissertation 4.2.3), so neither a member that comes back from a partition nor one that was removed can disturb.
//!
//! Differs: the reference has neither, so a member that was cut off comes back with a higher term and costs an election.

use std::collections::BTreeSet;

use super::{Group, Message, Output, RequestError, State, WriteId};
use crate::planted::{Bug, bug};
use crate::raft::log::Place;
use crate::raft::wire::{NodeId, VoteRequest, VoteResponse};
use crate::time::Instant;

/// The votes, or promises of votes, that a member has.
#[derive(Debug, Default)]
pub(super) struct Tally {
    granted: BTreeSet<NodeId>,
    /// Those of them who may have lost something: they count only if everybody agrees.
    empty: BTreeSet<NodeId>,
    /// The write with its own vote, until that is durable.
    own: Option<WriteId>,
}

impl Group {
    /// Stands for election soon, as if no leader was heard.
    ///
    /// # Errors
    ///
    /// [`RequestError::NotLeader`] with this member's own name if it leads already; [`RequestError::Failed`].
    pub fn campaign(&mut self, now: Instant) -> Result<(), RequestError> {
        self.now = self.now.max(now);
        if self.failed {
            return Err(RequestError::Failed);
        }
        if self.is_leader() {
            return Err(RequestError::NotLeader(Some(self.id)));
        }
        self.wake();
        let patience = self.config.election_min.as_nanos() as u64 / 10;
        self.leader_heard = None;
        self.election_due = self.now + crate::time::Duration::from_nanos(self.rng.below(patience.max(1)));
        Ok(())
    }

    /// Makes this member an observer, which never stands for election, or ends that.
    pub fn set_observer(&mut self, now: Instant, observer: bool) {
        self.now = self.now.max(now);
        self.observer = observer;
        if observer {
            self.wake();
            self.give_up_candidacy(now);
        }
    }

    /// Says that the application lacks something of what it had applied, or that it has it again.
    ///
    /// Its blocks outlive the log, so the log can't tell; while there is a hole it must not lead.
    pub fn set_hole(&mut self, now: Instant, hole: bool) {
        self.now = self.now.max(now);
        self.hole = hole;
        if hole {
            self.wake();
            self.give_up_candidacy(now);
        }
    }

    fn give_up_candidacy(&mut self, now: Instant) {
        if self.is_leader() {
            // Without another who could lead it goes on: a leader with a hole is better than none.
            let _ = self.step_down(now, None);
        } else if !bug(Bug::RaftHoleMayLead) {
            self.state = State::Follower;
        }
    }

    /// Draws the next time at which this member loses patience.
    pub(super) fn reset_election_timer(&mut self) {
        let (min, max) = (self.config.election_min, self.config.election_max);
        let spread = max.saturating_sub(min).as_nanos() as u64;
        self.election_due = self.now + min + crate::time::Duration::from_nanos(self.rng.below(spread.max(1)));
    }

    /// Returns whether a leader is known to have been there within the shortest election time-out.
    fn hears_leader(&self) -> bool {
        if self.asleep {
            return true;
        }
        if let State::Leader(leading) = &self.state {
            return leading.hears_majority(self, self.config.election_min);
        }
        let recent =
            |heard: Instant| self.now.since(heard) < self.config.election_min && self.leader.is_some();
        self.leader_heard.is_some_and(recent) && !bug(Bug::RaftNoLease)
    }

    /// Returns whether this member may stand for election.
    pub(super) fn may_lead(&self) -> bool {
        let behind = self.delivered < self.commit.min(self.log.stable()) || self.paused;
        self.may_be_needed()
            && !self.observer
            && (!self.hole || bug(Bug::RaftHoleMayLead))
            && !behind
            && !self.is_installing()
    }

    /// Returns whether this member is one, or was before a change that is not committed: then nobody but it may have the
    /// change in its log (dissertation 4.2.2). Its own vote does not count in that case.
    fn may_be_needed(&self) -> bool {
        let committed = self.members.at(self.commit);
        let needed = committed.contains(self.id) && !bug(Bug::RaftOnlyLatestMembersStand);
        self.members.current().contains(self.id) || needed
    }

    pub(super) fn election_timeout(&mut self) {
        self.reset_election_timer();
        self.leader_heard = None;
        self.forget_leader();
        self.state = State::Follower;
        self.ask_for_terms();
        self.hand_out();
        if !self.may_lead() {
            return self.call_out();
        }
        if bug(Bug::RaftNoPreVote) {
            return self.stand(false);
        }
        let mut tally = Tally::default();
        tally.granted.insert(self.id);
        if self.votes_empty() {
            tally.empty.insert(self.id);
        }
        self.state = State::PreCandidate(tally);
        let request = self.vote_request(self.term + 1, true, false);
        self.broadcast(&Message::Vote(request));
        self.count_promises();
    }

    /// Raises the term and asks for votes, as soon as its own is durable.
    pub(super) fn stand(&mut self, transfer: bool) {
        self.term += 1;
        self.vote = Some(self.id);
        self.set_leader(None);
        self.following.reset();
        self.drop_held();
        let own = self.save_state();
        self.state = State::Candidate(Tally { own: Some(own), ..Tally::default() });
        self.reset_election_timer();
        let request = self.vote_request(self.term, false, transfer);
        let peers: Vec<NodeId> = self.peers().collect();
        for peer in peers {
            self.send_after_state(peer, Message::Vote(request));
        }
        self.own_vote_written();
    }

    fn vote_request(&self, term: u64, pre_vote: bool, transfer: bool) -> VoteRequest {
        let last = self.last();
        VoteRequest {
            term,
            last_term: last.term,
            last_index: last.index,
            candidate: self.id,
            pre_vote,
            transfer,
        }
    }

    /// Returns the other members.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.current().members().filter(|node| *node != self.id)
    }

    fn broadcast(&mut self, message: &Message) {
        let peers: Vec<NodeId> = self.peers().collect();
        for peer in peers {
            self.send(peer, message.clone());
        }
    }

    /// Counts its own vote once that is durable.
    pub(super) fn own_vote_written(&mut self) {
        let State::Candidate(tally) = &self.state else { return };
        let Some(own) = tally.own else { return };
        if !self.is_written(own) && !bug(Bug::RaftVoteBeforeSync) {
            return;
        }
        let (me, empty) = (self.id, self.votes_empty());
        let State::Candidate(tally) = &mut self.state else { return };
        tally.own = None;
        tally.granted.insert(me);
        if empty {
            tally.empty.insert(me);
        }
        self.count_votes();
    }

    /// Returns whether this member's vote is one of those that count only if everybody agrees.
    fn votes_empty(&self) -> bool {
        self.doubt.any() && !bug(Bug::RaftDoubtfulVoteCounts)
    }

    /// Returns whether a tally elects: a majority of those with a log, or everybody.
    fn elects(&self, tally: &Tally) -> bool {
        let members = self.members.current();
        if bug(Bug::RaftMinorityElects) {
            return tally.granted.len() * 2 >= members.members().count();
        }
        if bug(Bug::RaftNonMembersCount) {
            return tally.granted.len() > members.members().count() / 2;
        }
        let certain = |node: NodeId| tally.granted.contains(&node) && !tally.empty.contains(&node);
        members.majority(certain) || members.members().all(|node| tally.granted.contains(&node))
    }

    fn count_promises(&mut self) {
        let State::PreCandidate(tally) = &self.state else { return };
        if self.elects(tally) {
            self.stand(false);
        }
    }

    fn count_votes(&mut self) {
        let State::Candidate(tally) = &self.state else { return };
        if tally.own.is_none() && self.elects(tally) {
            self.lead();
        }
    }

    pub(super) fn handle_vote_request(&mut self, request: VoteRequest) {
        if request.candidate == self.id {
            return;
        }
        self.roused_by(request.candidate);
        if request.pre_vote {
            return self.promise(request);
        }
        if request.term > self.term {
            // A leader that is heard is not left for a candidate that doesn't hear it.
            if self.hears_leader() && !request.transfer {
                return;
            }
            self.become_follower(request.term, None);
        }
        let free = self.vote.is_none_or(|vote| vote == request.candidate) || bug(Bug::RaftVotesTwice);
        let current = request.term == self.term;
        let up_to_date = self.is_up_to_date(&request);
        if !(current && free && up_to_date) {
            if current && !up_to_date && self.leader.is_none() {
                self.hurry();
            }
            if bug(Bug::RaftRefusalResetsTimer) {
                self.reset_election_timer();
            }
            return self.answer_vote(request.candidate, self.term, false, false);
        }
        if self.vote.is_none() || bug(Bug::RaftVotesTwice) {
            self.vote = Some(request.candidate);
            self.save_state();
        }
        if matches!(self.state, State::PreCandidate(_)) {
            self.state = State::Follower;
        }
        self.reset_election_timer();
        self.answer_vote(request.candidate, self.term, true, false);
    }

    /// Answers whether a candidate would get a vote; remembers nothing.
    fn promise(&mut self, request: VoteRequest) {
        let granted = request.term > self.term && self.is_up_to_date(&request) && !self.hears_leader();
        let term = if granted { request.term } else { self.term };
        if !granted && bug(Bug::RaftRefusalResetsTimer) {
            self.reset_election_timer();
        }
        self.answer_vote(request.candidate, term, granted, true);
    }

    fn answer_vote(&mut self, to: NodeId, term: u64, granted: bool, pre_vote: bool) {
        let empty = self.votes_empty();
        let reply = Message::VoteReply(VoteResponse { term, peer: self.id, granted, empty, pre_vote });
        match granted && !pre_vote {
            true => self.send_after_state(to, reply),
            false => self.send(to, reply),
        }
    }

    fn is_up_to_date(&self, request: &VoteRequest) -> bool {
        let theirs = Place { term: request.last_term, index: request.last_index };
        if bug(Bug::RaftVoteIgnoresLog) {
            return true;
        }
        if bug(Bug::RaftVoteComparesIndexOnly) {
            return theirs.index >= self.last().index;
        }
        theirs >= self.last()
    }

    /// Stands for election sooner: a candidate is about whose log is older than this member's.
    fn hurry(&mut self) {
        let soon = self.config.election_min.as_nanos() as u64 / 4;
        let due = self.now + crate::time::Duration::from_nanos(self.rng.below(soon.max(1)));
        self.election_due = self.election_due.min(due);
    }

    pub(super) fn handle_vote_response(&mut self, reply: VoteResponse) {
        // A promise names the term that was asked about.
        if !(reply.granted && reply.pre_vote) {
            self.heard_term(reply.peer, reply.term);
        }
        if !reply.granted {
            if reply.term > self.term {
                self.become_follower(reply.term, None);
            }
            return;
        }
        let asked = self.term + 1;
        match &mut self.state {
            State::PreCandidate(tally) if reply.pre_vote && reply.term == asked => tally.add(&reply),
            State::Candidate(tally) if !reply.pre_vote && reply.term == self.term => tally.add(&reply),
            _ => return,
        }
        self.count_promises();
        self.count_votes();
    }

    /// Follows in `term`, `leader` if there is one.
    pub(super) fn become_follower(&mut self, term: u64, leader: Option<NodeId>) {
        self.stop_leading();
        self.asleep = false;
        self.state = State::Follower;
        self.following.reset();
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.drop_held();
            self.save_state();
        }
        self.set_leader(leader);
        self.reset_election_timer();
    }

    /// Notes who leads.
    pub(super) fn set_leader(&mut self, leader: Option<NodeId>) {
        if self.leader != leader {
            self.leader = leader;
            self.outputs.push_back(Output::Leader { term: self.term, leader });
        }
    }

    fn forget_leader(&mut self) {
        self.set_leader(None);
        if !self.quorum_lost && !matches!(self.state, State::Follower) {
            // A whole time-out without an answer from a majority.
            self.quorum_lost = true;
            self.outputs.push_back(Output::Quorum { present: false });
        }
    }

    /// Notes that a majority is there.
    pub(super) fn quorum_present(&mut self) {
        if self.quorum_lost {
            self.quorum_lost = false;
            self.outputs.push_back(Output::Quorum { present: true });
        }
    }
}

impl Tally {
    fn add(&mut self, reply: &VoteResponse) {
        self.granted.insert(reply.peer);
        if reply.empty && !bug(Bug::RaftEmptyVotesElect) {
            self.empty.insert(reply.peer);
        } else {
            self.empty.remove(&reply.peer);
        }
    }
}
