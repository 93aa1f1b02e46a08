//! A leader's side: proposals, entries for the others, their answers, what is committed.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use smallvec::SmallVec;

use super::change::Change;
use super::progress::{Mode, Progress, Window};
use super::{Group, Message, Output, ReadId, RequestError, State};
use crate::planted::{Bug, bug};
use crate::raft::log::{LogEntry, Place};
use crate::raft::wire::{
    AppendEntries, AppendExtension, AppendResponse, Entry, EntryKind, NodeId, ResponseExtension,
};
use crate::time::{Duration, Instant};

/// What belongs to leading.
#[derive(Debug)]
pub(super) struct Leading {
    /// The index of its first entry; once that is committed, so is everything before.
    pub(super) first: u64,
    /// The others, and nodes that are to join or have just left.
    pub(super) peers: BTreeMap<NodeId, Progress>,
    /// Counts heartbeats.
    pub(super) round: u64,
    /// When the next heartbeat is due.
    pub(super) beat_due: Instant,
    /// When a majority must have been heard by.
    pub(super) quorum_due: Instant,
    /// Since when it leads.
    pub(super) since: Instant,
    /// Whether the owner was told.
    pub(super) announced: bool,
    /// To whom leadership is being handed over, and until when.
    pub(super) transfer: Option<Transfer>,
    /// A change of the members that has begun.
    pub(super) change: Option<Change>,
    /// Nodes that were removed, told until they know it or the time is over.
    pub(super) leaving: BTreeMap<NodeId, Instant>,
    /// Reads, with the round that confirms each and the index that each needs.
    pub(super) reads: VecDeque<(u64, ReadId, u64)>,
    /// When something was to be done last.
    pub(super) active: Instant,
    /// The round in which the others are asked to sleep.
    pub(super) sleep: Option<u64>,
    /// Bytes of the entries that are not committed.
    uncommitted: usize,
}

/// Leadership that is being handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    pub(super) to: NodeId,
    pub(super) until: Instant,
    pub(super) asked: bool,
}

impl Leading {
    /// Returns when something is due next.
    pub(super) fn due(&self) -> Instant {
        self.beat_due.min(self.quorum_due)
    }

    /// Returns whether a majority was heard within `patience`.
    pub(super) fn hears_majority(&self, group: &Group, patience: Duration) -> bool {
        let now = group.now;
        if now.since(self.since) < patience {
            return true;
        }
        group.members.current().majority(|node| {
            let heard = self.peers.get(&node).and_then(|progress| progress.heard);
            node == group.id || heard.is_some_and(|heard| now.since(heard) < patience)
        })
    }
}

impl Group {
    /// Puts `data` into the log, and returns its place.
    ///
    /// It is committed when [`Output::Apply`] has it, and never will be when that has another entry at its index. Places
    /// rise, so results come in the order of the proposals.
    ///
    /// # Errors
    ///
    /// [`RequestError`] if this member doesn't lead, hands over, or has too much waiting; nothing is proposed then.
    pub fn propose(&mut self, now: Instant, data: impl Into<Bytes>) -> Result<Place, RequestError> {
        self.now = self.now.max(now);
        let entry = Entry::normal(data);
        let size = entry.data.len() + Entry::OVERHEAD;
        let unapplied = self.commit.saturating_sub(self.applied);
        let (leader, config) = (self.leader, &self.config);
        if self.failed {
            return Err(RequestError::Failed);
        }
        let State::Leader(leading) = &mut self.state else { return Err(RequestError::NotLeader(leader)) };
        if entry.data.len() > config.max_in_flight_bytes {
            return Err(RequestError::TooLarge);
        }
        if leading.transfer.is_some() {
            return Err(RequestError::Transferring);
        }
        if leading.uncommitted + size > config.max_uncommitted_bytes || unapplied > config.max_unapplied {
            return Err(RequestError::Busy);
        }
        leading.uncommitted += size;
        Ok(self.append(entry))
    }

    /// Puts `data` into the log if this member leads in `term` still: whoever was told so by
    /// [`Output::Leading`], and has not yet heard that it was deposed and elected again, knows less than it thinks.
    ///
    /// # Errors
    ///
    /// As [`Group::propose`]; [`RequestError::NotLeader`] in another term.
    pub fn propose_in_term(
        &mut self,
        now: Instant,
        term: u64,
        data: impl Into<Bytes>,
    ) -> Result<Place, RequestError> {
        if term != self.term {
            return Err(RequestError::NotLeader(self.leader));
        }
        self.propose(now, data)
    }

    /// Proposes `data`, or sends it to the leader to be proposed there; what becomes of it then isn't told.
    ///
    /// # Errors
    ///
    /// As [`Group::propose`]; [`RequestError::NotLeader`] if no leader is known.
    pub fn forward(&mut self, now: Instant, data: impl Into<Bytes>) -> Result<(), RequestError> {
        match self.leader {
            Some(leader) if leader != self.id && !self.failed => {
                self.send(leader, Message::Proposal(data.into()));
                Ok(())
            }
            _ => self.propose(now, data).map(drop),
        }
    }

    /// Puts an entry of this term behind the last.
    pub(super) fn append(&mut self, entry: Entry) -> Place {
        self.wake();
        if let State::Leader(leading) = &mut self.state {
            leading.active = self.now;
            leading.sleep = leading.sleep.filter(|_| bug(Bug::RaftLateSleepersCount));
        }
        let place = Place { term: self.term, index: self.last().index + 1 };
        self.members.pushed(place.index, &entry).expect("a leader's own entries say what they should");
        let members = entry.kind.changes_membership() || entry.kind == EntryKind::PeerState;
        self.log.push(LogEntry { term: place.term, index: place.index, entry });
        if members {
            self.track_members();
        }
        place
    }

    /// Starts to lead: puts an entry of the new term into the log, that says who the members are.
    pub(super) fn lead(&mut self) {
        let next = self.last().index + 1;
        self.state = State::Leader(Box::new(Leading {
            first: next,
            peers: BTreeMap::new(),
            round: 0,
            beat_due: self.now,
            quorum_due: self.now + self.config.election_min,
            since: self.now,
            announced: false,
            transfer: None,
            change: None,
            leaving: BTreeMap::new(),
            reads: VecDeque::new(),
            active: self.now,
            sleep: None,
            uncommitted: 0,
        }));
        self.following.reset();
        self.doubt.elected();
        self.set_leader(Some(self.id));
        self.quorum_present();
        let members = self.members.current().entry();
        self.append(members);
        self.tick_leader();
    }

    /// Stops to lead, if it does.
    pub(super) fn stop_leading(&mut self) {
        let State::Leader(leading) = &mut self.state else { return };
        let reads = std::mem::take(&mut leading.reads);
        let announced = leading.announced;
        self.outputs.extend(reads.into_iter().map(|(_, id, _)| Output::ReadFailed { id }));
        if announced {
            self.outputs.push_back(Output::Deposed { term: self.term });
        }
        self.state = State::Follower;
    }

    /// What a leader does when time passes.
    pub(super) fn tick_leader(&mut self) {
        let now = self.now;
        let State::Leader(leading) = &mut self.state else { return };
        if leading.quorum_due <= now {
            leading.quorum_due = now + self.config.election_min;
            if !self.still_leads() {
                return;
            }
        }
        self.tick_changes();
        let State::Leader(leading) = &mut self.state else { return };
        if leading.transfer.is_some_and(|transfer| transfer.until <= now) {
            leading.transfer = None;
        }
        if leading.beat_due > now {
            return;
        }
        leading.beat_due = now + self.config.heartbeat;
        leading.round += 1;
        let round = leading.round;
        let idle = self.is_idle();
        let State::Leader(leading) = &mut self.state else { return };
        leading.sleep = idle.then_some(round);
        let peers: SmallVec<[NodeId; 8]> = leading.peers.keys().copied().collect();
        self.flush_log();
        for peer in peers {
            self.replicate(peer, true);
        }
        self.confirm_reads();
        self.leader_sleeps();
    }

    /// Steps down if no majority was heard for an election time-out: another may lead by now.
    fn still_leads(&mut self) -> bool {
        let State::Leader(leading) = &self.state else { return false };
        if leading.hears_majority(self, self.config.election_min) || bug(Bug::RaftNoCheckQuorum) {
            return true;
        }
        self.become_follower(self.term, None);
        self.quorum_lost = true;
        self.outputs.push_back(Output::Quorum { present: false });
        false
    }

    /// Sends what has gathered since the last time.
    pub(super) fn flush_leader(&mut self) {
        let State::Leader(leading) = &self.state else { return };
        if self.asleep {
            return;
        }
        if leading.beat_due <= self.now {
            return self.tick_leader();
        }
        let peers: SmallVec<[NodeId; 8]> = leading.peers.keys().copied().collect();
        for peer in peers {
            self.replicate(peer, false);
        }
    }

    fn window(&self) -> Window {
        Window { messages: self.config.max_in_flight, bytes: self.config.max_in_flight_bytes }
    }

    /// Sends `to` what it lacks, as far as its window allows; with `beat` at least one message.
    pub(super) fn replicate(&mut self, to: NodeId, mut beat: bool) {
        let window = self.window();
        loop {
            let State::Leader(leading) = &self.state else { return };
            let Some(progress) = leading.peers.get(&to) else { return };
            if matches!(progress.mode, Mode::Snapshot(_)) {
                return self.send_chunks(to, beat);
            }
            let may_send = progress.may_send(window);
            let (next, told) = (progress.next, progress.told);
            if !beat && !may_send {
                return;
            }
            let Some(previous) = self.log.term_at(next - 1) else {
                if !self.begin_transfer(to) {
                    return;
                }
                continue;
            };
            let previous = Place { term: previous, index: next - 1 };
            // A heartbeat repeats a probe; a full pipeline gets one without entries.
            let room = may_send || matches!(progress.mode, Mode::Probe { .. });
            let entries = if room { self.batch(next) } else { Vec::new() };
            if entries.is_empty() && !beat && told >= self.commit {
                return;
            }
            let more = !entries.is_empty();
            self.send_entries(to, previous, entries);
            if !more {
                return;
            }
            beat = false;
        }
    }

    /// Returns the entries from `next` on that fit one message; they are of one term, as a message says only one.
    fn batch(&self, next: u64) -> Vec<LogEntry> {
        let mut term = None;
        self.log
            .from(next, self.config.max_batch_entries, self.config.max_batch_bytes)
            .take_while(|entry| *term.get_or_insert(entry.term) == entry.term)
            .cloned()
            .collect()
    }

    fn send_entries(&mut self, to: NodeId, previous: Place, entries: Vec<LogEntry>) {
        let (id, current, commit) = (self.id, self.term, self.commit);
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&to) else { return };
        progress.told = commit;
        let (mut term, empty) = (current, entries.is_empty());
        if let Some(last) = entries.last() {
            let bytes = entries.iter().map(|entry| entry.entry.data.len() + Entry::OVERHEAD).sum();
            term = last.term;
            progress.sent(last.index, bytes);
        } else {
            progress.sent(previous.index, 0);
        }
        let append = AppendEntries {
            leader: id,
            term,
            commit: if bug(Bug::RaftHeartbeatCommitsLast) { previous.index.max(commit) } else { commit },
            previous_term: previous.term,
            previous_index: previous.index,
            entries: entries.into_iter().map(|entry| entry.entry).collect(),
            leader_term: Some(current),
            extension: Some(AppendExtension {
                round: leading.round,
                sleep: empty && leading.sleep.is_some(),
            }),
        };
        self.send(to, Message::Append(append));
    }

    pub(super) fn handle_append_response(&mut self, reply: AppendResponse) {
        self.heard_term(reply.peer, reply.term);
        if reply.term > self.term {
            return self.become_follower(reply.term, None);
        }
        let (now, last) = (self.now, self.last().index);
        let stale = reply.term < self.term && !bug(Bug::RaftStaleAckCounts);
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&reply.peer) else { return };
        if stale {
            return;
        }
        let extension = reply.extension.unwrap_or_default();
        if extension.new_term && !stale {
            return self.begin_term();
        }
        progress.heard = Some(now);
        progress.round = progress.round.max(extension.round.min(leading.round));
        if extension.asleep {
            progress.asleep = extension.round;
        }
        if extension.snapshot_index > 0 {
            self.chunks_taken(reply.peer, extension);
        } else if reply.success {
            if reply.index > last {
                return;
            }
            let news = progress.acknowledged(reply.index);
            if news {
                self.advance_commit();
            }
        } else {
            self.refused(reply.peer, reply.index, extension);
        }
        self.confirm_reads();
        self.help_transfer();
        self.tick_changes();
        self.leader_sleeps();
    }

    /// A member lost what it may have acknowledged in this term, and acknowledgements may still be on their way: this
    /// leader stands for election again, so that they can't count.
    fn begin_term(&mut self) {
        self.become_follower(self.term, None);
        if self.may_lead() {
            self.stand(true);
        }
    }

    /// A member can't take what stands behind the place that it was sent.
    fn refused(&mut self, peer: NodeId, wanted: u64, extension: ResponseExtension) {
        let mut next = wanted;
        if extension.conflict_term > 0 {
            // Entries of that term which we have too may be equal; the others of it are not worth a question each.
            let mut at = extension.rejected.min(self.last().index);
            while at >= wanted && self.log.term_at(at).is_some_and(|term| term > extension.conflict_term) {
                at -= 1;
            }
            if self.log.term_at(at) == Some(extension.conflict_term) {
                next = at + 1;
            }
        }
        let State::Leader(leading) = &mut self.state else { return };
        let Some(progress) = leading.peers.get_mut(&peer) else { return };
        match extension.lost && next <= progress.matched {
            true => progress.lost(next),
            false => drop(progress.refused(extension.rejected, next)),
        }
    }

    /// Commits what a majority has, if it is of this term.
    pub(super) fn advance_commit(&mut self) {
        let (me, stable, commit, term) = (self.id, self.log.stable(), self.commit, self.term);
        let State::Leader(leading) = &mut self.state else { return };
        let has = |node| match node == me {
            true => stable,
            false => leading.peers.get(&node).map_or(0, |progress| progress.matched),
        };
        let members = self.members.current();
        let reached = if bug(Bug::RaftCommitIgnoresJoint) {
            crate::raft::membership::Membership::new(members.voters().iter().copied()).reached(has)
        } else if bug(Bug::RaftMinorityCommits) {
            members.members().map(has).max().unwrap_or(0)
        } else {
            members.reached(has)
        };
        let own = self.log.term_at(reached) == Some(term) || bug(Bug::RaftCommitsOldTerms);
        if reached <= commit || !own {
            return;
        }
        let settled: usize = self
            .log
            .from(commit + 1, (reached - commit) as usize, usize::MAX)
            .filter(|entry| entry.entry.kind == EntryKind::Normal)
            .map(|entry| entry.entry.data.len() + Entry::OVERHEAD)
            .sum();
        leading.uncommitted = leading.uncommitted.saturating_sub(settled);
        self.commit_through(reached);
    }
}
