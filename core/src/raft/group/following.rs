//! A follower's side: taking a leader's entries, and saying what is durable.

use super::io::chunk_of;
use super::snapshot::Incoming;
use super::{Group, Message, State};
use crate::planted::{Bug, bug};
use crate::raft::log::{LogEntry, Place};
use crate::raft::wire::{AppendEntries, AppendResponse, EntryKind, NodeId, ResponseExtension};

/// What a follower knows of its leader.
#[derive(Debug, Default)]
pub(super) struct Following {
    /// Through where its log is known to be the leader's.
    matched: u64,
    /// The latest round of a leader that it heard, and the leader's term; outlives that the leader is forgotten.
    round: u64,
    round_term: u64,
    /// Through where the leader is known to have entries, and to know them to be committed.
    known: u64,
    told: u64,
    /// Entries were taken that the leader doesn't know to be durable here.
    owes: bool,
    /// A snapshot on its way; outlives the leader, as the next may have the same.
    pub(super) incoming: Option<Incoming>,
}

impl Following {
    /// Returns whether everything is here that the leader is known to have.
    pub(super) fn has_all(&self) -> bool {
        self.matched >= self.known
    }

    /// Returns through where the leader said that the log is committed.
    pub(super) fn told(&self) -> u64 {
        self.told
    }

    /// Returns whether a message with this round shows that the leader is there; one that is old, or comes twice, may be
    /// all that is left of it.
    fn is_sign_of_life(&self, term: u64, round: u64) -> bool {
        round == 0 || (term, round) > (self.round_term, self.round) || bug(Bug::RaftOldWordsAreLife)
    }

    /// Notes what a message says of the leader itself.
    fn heard_of(&mut self, append: &AppendEntries, term: u64, round: u64) {
        let entries = append.entries.iter().filter(|entry| entry.kind.is_logged()).count() as u64;
        (self.round_term, self.round) = (self.round_term, self.round).max((term, round));
        self.known = self.known.max(append.previous_index.saturating_add(entries));
        self.told = self.told.max(append.commit);
    }

    /// Forgets what was known of a leader.
    pub(super) fn reset(&mut self) {
        let (round, round_term) = (self.round, self.round_term);
        *self = Following { round, round_term, incoming: self.incoming.take(), ..Following::default() };
    }
}

impl Group {
    pub(super) fn handle_append(&mut self, append: &AppendEntries) {
        if append.leader == self.id {
            return;
        }
        let term = append.leader_term.unwrap_or(append.term);
        if bug(Bug::RaftOldNamesCount) {
            self.heard_term(append.leader, term, 0);
        }
        if term < self.term && !bug(Bug::RaftStaleTermAccepted) {
            return self.refuse(append, 0, 0, 0);
        }
        if self.is_leader() && term <= self.term {
            // Two leaders of one term can't be; whoever says so is not to be believed.
            return;
        }
        if bug(Bug::RaftTermRevertedByAppend) && !append.entries.is_empty() && append.term != self.term {
            self.become_follower(term, Some(append.leader));
            self.term = append.term;
        } else if term > self.term || !matches!(self.state, State::Follower) {
            self.become_follower(term, Some(append.leader));
        }
        if self.leader != Some(append.leader) {
            self.following.reset();
            self.set_leader(Some(append.leader));
        }
        self.quorum_present();
        // What the leader said before it asked to sleep may come after that. All else wakes: what follows here is all that
        // there is to waking.
        let late = append.extension.is_some_and(|extension| extension.round < self.following.round);
        self.asleep &= late;
        let round = append.extension.map_or(0, |extension| extension.round);
        if self.following.is_sign_of_life(term, round) {
            self.leader_heard = Some(self.now);
            self.reset_election_timer();
        }
        self.following.heard_of(append, term, round);
        if bug(Bug::RaftSleepsWhileBehind) && append.extension.is_some_and(|extension| extension.sleep) {
            self.asleep = true;
        }
        if let Some(chunk) = chunk_of(&append.entries) {
            return self.take_chunk(append.leader, &chunk);
        }
        self.take_entries(append);
    }

    fn take_entries(&mut self, append: &AppendEntries) {
        let previous = Place { term: append.previous_term, index: append.previous_index };
        if let Some((term, index, wanted)) = self.conflict(previous) {
            if bug(Bug::RaftTruncatesOnRefusal) && term > 0 {
                self.truncate(index);
            }
            if bug(Bug::RaftFollowerCommitUnbounded) {
                self.commit_through(append.commit.min(self.last().index));
            }
            if bug(Bug::RaftAckUnmatched) && append.entries.is_empty() {
                self.following.matched = self.log.stable();
                return self.acknowledge(append.leader);
            }
            return self.refuse(append, term, index, wanted);
        }
        if let [only] = &append.entries[..]
            && only.kind == EntryKind::LeaderTransfer
        {
            return self.asked_to_lead(previous, &only.data);
        }
        let empty = append.entries.is_empty();
        if empty {
            self.ask_for_terms();
        }
        let Some(through) = self.store(append, previous.index) else { return };
        self.following.matched = self.following.matched.max(through);
        let known = append.commit.min(self.following.matched);
        self.commit_through(known);
        self.caught_up(known);
        self.following.owes |= !empty;
        if !bug(Bug::RaftSleepsWhileBehind) {
            self.follower_sleeps(append);
        }
        if empty || self.log.stable() >= self.following.matched {
            self.acknowledge(append.leader);
        }
    }

    /// Says why entries behind `previous` can't be taken: the conflicting term, where it begins, and what is wanted.
    fn conflict(&self, previous: Place) -> Option<(u64, u64, u64)> {
        let base = self.log.base();
        let last = self.last();
        // What a snapshot stands for is committed, and equal everywhere.
        if previous.index < base.index || self.log.term_at(previous.index) == Some(previous.term) {
            return None;
        }
        if bug(Bug::RaftPreviousUnchecked) && previous.index <= last.index {
            return None;
        }
        if previous.index > last.index {
            return Some((0, last.index, last.index + 1));
        }
        let first = self.log.first_of_term(previous.index).max(base.index + 1);
        let term = self.log.term_at(previous.index).unwrap_or(0);
        Some((term, first, first))
    }

    /// Puts the entries into the log, and returns through where it is the leader's now; `None` if they can't be taken.
    fn store(&mut self, append: &AppendEntries, previous: u64) -> Option<u64> {
        let mut index = previous;
        let full = self.commit.saturating_sub(self.applied) > self.config.max_unapplied;
        for (at, entry) in append.entries.iter().enumerate() {
            index += 1;
            if bug(Bug::RaftCatchupSkipsEntry) && append.term < self.term && at == 1 {
                index -= 1;
                continue;
            }
            let base = self.log.base();
            if index == base.index && append.term != base.term {
                // As of an entry that is committed and here: a leader lacks what the snapshot stands for.
                return None;
            }
            if index <= base.index {
                continue;
            }
            match self.log.term_at(index) {
                Some(term) if term == append.term => continue,
                Some(_) if index <= self.commit.max(self.following.matched) => {
                    // A leader lacks what is committed, or what it sent in this term: one of us is damaged beyond what Raft
                    // can mend.
                    return None;
                }
                Some(_) => self.truncate(index),
                None => {}
            }
            let bad = match entry.kind {
                EntryKind::Normal => false,
                EntryKind::SnapshotChunk => true,
                _ => self.members.current().after(entry).is_err(),
            };
            if bad || full {
                index -= 1;
                break;
            }
            if !bug(Bug::RaftMembersChangeAtCommit) {
                let _ = self.members.pushed(index, entry);
            }
            self.log.push(LogEntry { term: append.term, index, entry: entry.clone() });
        }
        if bug(Bug::RaftAppendTruncatesTail) && !append.entries.is_empty() && index < self.last().index {
            self.truncate(index + 1);
        }
        Some(index)
    }

    /// Says what is durable here and known to be the leader's.
    pub(super) fn acknowledge(&mut self, leader: NodeId) {
        let index = self.following.matched.min(self.log.stable());
        if index >= self.following.matched {
            self.following.owes = false;
        }
        let extension = ResponseExtension {
            round: self.following.round,
            lost: self.doubt.about_log(),
            new_term: self.doubt.needs_term_after(self.term),
            asleep: self.asleep,
            uncounted: self.doubt.about_vote(),
            ..ResponseExtension::default()
        };
        let reply = AppendResponse {
            term: self.term,
            index,
            peer: self.id,
            success: true,
            extension: Some(extension),
        };
        self.send(leader, Message::AppendReply(reply));
    }

    /// Says so after a write, if entries wait for that.
    pub(super) fn acknowledge_written(&mut self) {
        let Some(leader) = self.leader else { return };
        if self.following.owes && matches!(self.state, State::Follower) {
            self.acknowledge(leader);
            self.caught_up(self.commit);
        }
    }

    fn refuse(&mut self, append: &AppendEntries, term: u64, index: u64, wanted: u64) {
        let extension = ResponseExtension {
            round: if wanted > 0 { self.following.round } else { 0 },
            conflict_term: term,
            conflict_index: index,
            lost: self.doubt.about_log(),
            new_term: self.doubt.needs_term_after(self.term),
            uncounted: self.doubt.about_vote(),
            rejected: append.previous_index,
            ..ResponseExtension::default()
        };
        let reply = AppendResponse {
            term: self.term,
            index: wanted,
            peer: self.id,
            success: false,
            extension: Some(extension),
        };
        self.send(append.leader, Message::AppendReply(reply));
    }

    /// The leader hands over: this member stands for election if its log is the leader's.
    fn asked_to_lead(&mut self, previous: Place, name: &[u8]) {
        self.hand_out();
        if name == self.id.0 && previous == self.last() && self.may_lead() {
            self.stand(true);
        }
    }

    /// Returns the round that was heard last.
    pub(super) fn heard_round(&self) -> u64 {
        self.following.round
    }

    /// Notes that the log is the leader's through a snapshot.
    pub(super) fn matched_snapshot(&mut self, index: u64) {
        self.following.matched = self.following.matched.max(index);
    }
}
