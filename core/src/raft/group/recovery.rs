//! Starting, and what a member may do that may have lost something.
//!
//! A member whose log or vote was damaged must not act as if it still held them: the entry that it lost may be committed
//! because it had it. Such a member is *in doubt*. Its votes, its own for itself included, are marked like those of an
//! empty log, and elect only if *every* member agrees: among all of them is somebody who has what it lost, and who votes
//! for no log without it. That is the reference's rule for empty logs, applied to every loss. Differs: a log that is empty
//! because nothing was ever in it is no loss, and its member's vote is worth as much as others.
//!
//! - Doubt about the log ends in a later term, when a leader has brought the log as far as that leader knows it to be
//!   committed by an entry of its own: that leader, elected without a doubtful vote, has everything that was committed
//!   before. In the old term, what this member once acknowledged may still be on its way, and count; so a leader that
//!   hears of the loss begins a new term.
//! - Doubt about the vote ends when every other member has named a term since: whoever might still count the lost vote is
//!   one of them, and stood for election in a term not above the one that it names, unless it has lost its own vote too, then or
//!   since. So this member goes on in a term far above all of those, which costs an election. (A majority of names would not do: whoever stands for election may be in the minority. Nor
//!   would names that were on their way when the vote was lost: the candidate may have stood for election since.) Until
//!   then it acknowledges nothing that counts: whoever it elected, in a later term, did so without what it would
//!   acknowledge now.
//!
//! Source: Alagappan et al., "Protocol-aware recovery for consensus-based storage" (FAST 2018), for the log.

use std::collections::BTreeMap;

use super::{Group, Message, Record, Recovered, Start};
use crate::planted::{Bug, bug};
use crate::raft::log::{Log, Place};
use crate::raft::membership::{Membership, MembershipLog};
use crate::raft::wire::{AppendResponse, NodeId, ResponseExtension, VoteRequest};

/// How far above all terms that were named a member goes on that lost its vote.
///
/// Whoever names a term may have lost its own vote at some time, and may have forgotten that it stood for election in later
/// terms, in which this member may have voted; such votes may still be on their way. Nobody stands for election so often that
/// nobody else learns of one of its terms: it would take decades.
pub(super) const FORGOTTEN_TERMS: u64 = 1 << 32;

/// What a member may have lost.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Entries that it may have acknowledged, in this term or before.
    log: Option<u64>,
    /// Its vote; the terms that others named since.
    vote: Option<Named>,
}

/// The terms that others named since they were asked.
#[derive(Debug, Default)]
struct Named {
    /// Goes with the question and comes back with the answer: what was said before the vote was lost says nothing, as
    /// its candidate may have stood for election since.
    question: u64,
    terms: BTreeMap<NodeId, u64>,
}

impl Doubt {
    pub(super) fn any(&self) -> bool {
        self.log.is_some() || self.vote.is_some()
    }

    /// Returns the doubt about the log, and whether there is some about the vote.
    pub(super) fn parts(&self) -> (Option<u64>, bool) {
        (self.log, self.vote.is_some())
    }

    /// Whoever is elected has everything that is committed, or those who elected him would not have.
    pub(super) fn elected(&mut self) {
        self.log = None;
    }

    /// Returns whether it may have forgotten that it elected somebody in a later term.
    pub(super) fn about_vote(&self) -> bool {
        self.vote.is_some()
    }

    pub(super) fn about_log(&self) -> bool {
        self.log.is_some()
    }

    /// Returns whether the leader of `term` has to begin another.
    pub(super) fn needs_term_after(&self, term: u64) -> bool {
        self.vote.is_none() && self.log.is_some_and(|lost| lost >= term)
    }
}

impl Group {
    pub(super) fn start(&mut self, start: Start) {
        match start {
            Start::Fresh { members } => {
                self.members = MembershipLog::new(0, members);
            }
            Start::Recovered { found, members } => {
                self.members = MembershipLog::new(0, members);
                self.recover(*found);
            }
        }
    }

    fn recover(&mut self, found: Recovered) {
        let Recovered { state, snapshot, base, entries, lost, applied } = found;
        let known = state.unwrap_or_default();
        let lost_vote = (state.is_none() || known.lost_vote) && !bug(Bug::RaftLostVoteForgotten);
        let through = known.term.max(entries.last().map_or(base.term, |entry| entry.term));
        let taken_for_empty = bug(Bug::RaftUnreadableSnapshotIsEmpty) && snapshot.is_none();
        let lost_log = if lost && !taken_for_empty { Some(through) } else { known.lost_log };
        self.doubt = Doubt { log: lost_log.filter(|_| !bug(Bug::RaftLossForgotten)), vote: None };
        if lost_vote {
            let question = self.rng.next_u64() >> 8;
            self.doubt.vote = Some(Named { question, terms: BTreeMap::new() });
        }
        self.term = through;
        self.log = self.recovered_log(snapshot.as_ref(), base, entries);
        let base = self.log.base();
        let snapshot = snapshot.filter(|snapshot| self.log.term_at(snapshot.place.index).is_some());
        if let Some(snapshot) = &snapshot {
            self.members = MembershipLog::new(snapshot.place.index, snapshot.members.clone());
        }
        let behind: Vec<_> = self.log.from(base.index + 1, usize::MAX, usize::MAX).cloned().collect();
        for entry in &behind {
            // What the snapshot covers is in its membership already, but a later one must be found again.
            let covered = snapshot.as_ref().is_some_and(|snapshot| entry.index <= snapshot.place.index);
            if !covered {
                // Entries whose bytes say nothing are never put into a log.
                let _ = self.members.pushed(entry.index, &entry.entry);
            }
        }
        let last = self.log.last();
        let snapshot_index = snapshot.as_ref().map_or(0, |snapshot| snapshot.place.index);
        self.term = self.term.max(last.term);
        self.vote = known.vote.filter(|_| self.term == known.term);
        self.commit = known.commit.min(last.index).max(snapshot_index);
        self.writes.recovered(last.index, self.commit);
        self.snapshot = snapshot;
        self.restore_if_behind(applied);
        if self.doubt.parts() != (known.lost_log, known.lost_vote) {
            // Written before anything else, as what is written next may cover the traces.
            self.save_state();
        }
    }

    /// Puts snapshot and log together: a snapshot that the log doesn't contain replaces it.
    fn recovered_log(
        &mut self,
        snapshot: Option<&super::Snapshot>,
        base: Place,
        entries: Vec<crate::raft::log::LogEntry>,
    ) -> Log {
        let log = Log::recovered(base, entries);
        let behind = snapshot.map_or(Place::default(), |snapshot| snapshot.place);
        if log.term_at(behind.index) == Some(behind.term) {
            return log;
        }
        let mut start = behind;
        if behind.index < base.index {
            // The snapshot that stood for the front of the log is gone, and with it who the members are.
            self.without_snapshot(base.term);
            start = Place::default();
        }
        self.persist(Record::Reset { base: start });
        Log::recovered(start, Vec::new())
    }

    /// The log starts behind something that is gone: who the members are isn't known either, so this member waits for a
    /// leader to tell it. Nothing that the application has is given up.
    fn without_snapshot(&mut self, term: u64) {
        if !bug(Bug::RaftUnreadableSnapshotIsEmpty) {
            self.doubt.log = Some(self.doubt.log.unwrap_or(0).max(term).max(self.term));
            self.members = MembershipLog::new(0, Membership::default());
        }
    }

    fn restore_if_behind(&mut self, applied: u64) {
        self.delivered = applied;
        self.applied = applied;
        let Some(snapshot) = &self.snapshot else { return };
        if applied < snapshot.place.index {
            self.delivered = snapshot.place.index;
            self.applied = snapshot.place.index;
            self.outputs.push_back(super::Output::Restore(snapshot.clone()));
        }
    }

    /// Entries are cut off: a member that lost its vote may have acknowledged them to a later leader than the one that has
    /// others, and says so once it knows its term again.
    pub(super) fn doubt_what_is_cut_off(&mut self) {
        if self.doubt.vote.is_some() && self.doubt.log.is_none() {
            self.doubt.log = Some(self.term);
            self.save_state();
        }
    }

    /// Ends the doubt about the log if a leader of a later term has told everything that was committed.
    pub(super) fn caught_up(&mut self, leader_commit: u64) {
        let Some(lost) = self.doubt.log else { return };
        let early = bug(Bug::RaftDoubtEndsInOldTerm);
        let later = (self.term > lost || early) && self.doubt.vote.is_none();
        let own_term = self.log.term_at(leader_commit) == Some(self.term);
        if later && own_term && self.log.stable() >= leader_commit {
            self.doubt.log = None;
            self.save_state();
        }
    }

    /// Asks the others for their terms, if that is what this member waits for.
    pub(super) fn ask_for_terms(&mut self) {
        let Some(named) = &self.doubt.vote else { return };
        let missing: Vec<NodeId> = self.peers().filter(|node| !named.terms.contains_key(node)).collect();
        for peer in missing {
            self.ask_for_term(peer);
        }
    }

    /// Asks for a term: nobody promises a vote in term zero, but everybody answers with the own term.
    pub(super) fn ask_for_term(&mut self, peer: NodeId) {
        let question = self.doubt.vote.as_ref().map_or(0, |named| named.question);
        let request = VoteRequest {
            term: 0,
            last_term: 0,
            last_index: question,
            candidate: self.id,
            pre_vote: true,
            transfer: false,
        };
        self.send(peer, Message::Vote(request));
    }

    /// Names its term to a member that asks, with the question.
    pub(super) fn name_term(&mut self, request: VoteRequest) {
        let round = request.last_index;
        let extension = ResponseExtension { round, uncounted: true, ..ResponseExtension::default() };
        let reply = AppendResponse {
            term: self.term,
            index: 0,
            peer: self.id,
            success: false,
            extension: Some(extension),
        };
        self.send(request.candidate, Message::AppendReply(reply));
    }

    /// Notes that `peer` named its term, if it was asked in this life.
    pub(super) fn heard_term(&mut self, peer: NodeId, term: u64, question: u64) {
        let Some(named) = &mut self.doubt.vote else { return };
        if named.question != question && !bug(Bug::RaftOldNamesCount) {
            return;
        }
        let highest = named.terms.entry(peer).or_default();
        *highest = term.max(*highest);
        let terms = named.terms.clone();
        if !self.members.current().contains(self.id) || !self.peers().all(|node| terms.contains_key(&node)) {
            return;
        }
        let named = terms.values().max().copied().unwrap_or(0).max(self.term);
        let through = named + if bug(Bug::RaftCandidaciesForgotten) { 0 } else { FORGOTTEN_TERMS };
        self.doubt.vote = None;
        self.doubt.log = self.doubt.log.map(|lost| lost.max(through));
        // Term and the end of the doubt are one record. Nobody has had a vote in this term.
        match through > self.term {
            true => self.become_follower(through, None),
            false => drop(self.save_state()),
        }
    }
}
