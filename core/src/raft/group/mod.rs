//! One member of a Raft group: a machine without IO.
//!
//! A [`Group`] is told what happened ([`Group::handle_message`], [`Group::handle_timeout`], [`Group::persisted`],
//! [`Group::propose`] and so on, each with the time) and says what is to be done ([`Group::poll_output`]), and when it
//! has to be called next ([`Group::poll_timeout`]). Drain the outputs after every call: entries that were proposed since
//! the last time leave as one write and one message to each member, so that the batch grows with the load.
//!
//! ```text
//! io.rs        every input and output as plain values     replication.rs  a leader's side: entries, answers, commit
//! config.rs    the settings                                following.rs    a follower's side: entries, acknowledgements
//! election.rs  terms, votes, time-outs, transfer           progress.rs     what a leader knows of one member
//! change.rs    who the members are                         snapshot.rs     making, sending and taking snapshots
//! durable.rs   writes, and what waits for them             chunk.rs        a piece of a snapshot on the wire
//! apply.rs     what is committed, handed out; reads        recovery.rs     starting, and what a damaged member may do
//! status.rs    how a member is, and the others as it knows them
//! sleep.rs     what it costs when there is nothing to do: nothing
//! ```
//!
//! # Invariants
//!
//! - Nothing is promised before it is durable: a vote is answered, and counted by who gave it to himself, when the write
//!   with it is done; entries are acknowledged, and counted by the leader itself, when they are.
//! - `compacted <= snapshot`, `snapshot <= applied <= delivered <= min(commit, stable) <= last`; commit and terms never
//!   fall, and one vote is given in a term.
//! - A leader never removes entries of its log; nobody removes one that is committed.
//! - An entry is committed when a majority (in a joint configuration: both) has it, and it, or one behind it, is of the
//!   leader's own term.
//! - A membership change is begun only when the last is committed and something of the leader's own term is.
//!
//! Source: nats-server `server/raft.go`, and Ongaro's dissertation, with the differences that `docs/src/raft.md` lists.

mod apply;
mod change;
mod chunk;
mod config;
mod durable;
mod election;
mod following;
mod io;
mod progress;
mod recovery;
mod replication;
mod sleep;
mod snapshot;
mod status;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, VecDeque};

use super::log::{Log, Place};
use super::membership::{Membership, MembershipLog};
use super::wire::NodeId;
use crate::rng::Rng;
use crate::time::Instant;

pub use config::Config;
pub use io::{HardState, Message, Output, ReadId, Record, Recovered, RequestError, Snapshot, Start, WriteId};
pub use status::PeerStatus;

use durable::Writes;
use election::Tally;
use following::Following;
use recovery::Doubt;
use replication::Leading;

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It follows a leader, or waits for one.
    Follower,
    /// It asks whether it would be elected.
    PreCandidate,
    /// It stands for election.
    Candidate,
    /// It leads.
    Leader,
}

/// The same with what belongs to it.
#[derive(Debug)]
enum State {
    Follower,
    PreCandidate(Tally),
    Candidate(Tally),
    Leader(Box<Leading>),
}

/// One member of a group.
#[derive(Debug)]
pub struct Group {
    id: NodeId,
    config: Config,
    rng: Rng,
    now: Instant,
    term: u64,
    vote: Option<NodeId>,
    state: State,
    leader: Option<NodeId>,
    /// When the leader was heard last.
    leader_heard: Option<Instant>,
    /// When to stand for election.
    election_due: Instant,
    following: Following,
    log: Log,
    members: MembershipLog,
    commit: u64,
    /// Through where entries were handed to the application.
    delivered: u64,
    /// Through where it has applied them.
    applied: u64,
    snapshot: Option<Snapshot>,
    wanted_snapshot: bool,
    doubt: Doubt,
    observer: bool,
    hole: bool,
    paused: bool,
    failed: bool,
    removed: bool,
    quorum_lost: bool,
    /// There is no time-out until something comes; see `sleep.rs`.
    asleep: bool,
    /// Nodes that the owner doesn't hear.
    suspected: BTreeSet<NodeId>,
    writes: Writes,
    outputs: VecDeque<Output>,
}

impl Group {
    /// Starts the member `id` at the time `now`.
    pub fn new(id: NodeId, config: Config, start: Start, rng: Rng, now: Instant) -> Self {
        let mut group = Group {
            id,
            config,
            rng,
            now,
            term: 0,
            vote: None,
            state: State::Follower,
            leader: None,
            leader_heard: None,
            election_due: now,
            following: Following::default(),
            log: Log::default(),
            members: MembershipLog::new(0, Membership::default()),
            commit: 0,
            delivered: 0,
            applied: 0,
            snapshot: None,
            wanted_snapshot: false,
            doubt: Doubt::default(),
            observer: false,
            hole: false,
            paused: false,
            failed: false,
            removed: false,
            quorum_lost: false,
            asleep: false,
            suspected: BTreeSet::new(),
            writes: Writes::default(),
            outputs: VecDeque::new(),
        };
        group.start(start);
        group.reset_election_timer();
        group
    }

    /// Takes what another member said.
    pub fn handle_message(&mut self, now: Instant, message: Message) {
        self.now = self.now.max(now);
        if self.failed || !message.is_possible() {
            return;
        }
        match message {
            Message::Vote(request) => self.handle_vote_request(request),
            Message::VoteReply(reply) => self.handle_vote_response(reply),
            Message::Append(append) => self.handle_append(&append),
            Message::AppendReply(reply) => self.handle_append_response(reply),
            // What came before isn't applied yet, and the proposal may depend on that.
            Message::Proposal(_) if !self.is_announced() => {}
            Message::Proposal(data) => drop(self.propose(now, data)),
            Message::RemovePeer(node) => drop(self.remove_peer(now, node)),
        }
        self.wake_for_work();
    }

    /// Acts on what is due at or before `now`; too early a call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.now = self.now.max(now);
        if self.failed || self.asleep {
            return;
        }
        self.tick_leader();
        if self.election_due <= self.now && !matches!(self.state, State::Leader(_)) {
            self.election_timeout();
        }
    }

    /// Returns when [`Group::handle_timeout`] is next due; [`Instant::MAX`] once the disk failed, and while it sleeps.
    pub fn poll_timeout(&self) -> Instant {
        match &self.state {
            _ if self.failed || self.asleep => Instant::MAX,
            State::Leader(leading) => leading.due(),
            _ => self.election_due,
        }
    }

    /// Returns the next output, oldest first; drain to `None` after every call of another method.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.flush();
        }
        self.outputs.pop_front()
    }

    /// Turns what has gathered since the last time into writes and messages.
    fn flush(&mut self) {
        if self.failed {
            return;
        }
        self.flush_log();
        self.flush_leader();
        self.hand_out();
    }

    /// Returns this member's name.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Returns what it is at the moment.
    pub fn role(&self) -> Role {
        match self.state {
            State::Follower => Role::Follower,
            State::PreCandidate(_) => Role::PreCandidate,
            State::Candidate(_) => Role::Candidate,
            State::Leader(_) => Role::Leader,
        }
    }

    /// Returns whether it leads.
    pub fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader(_))
    }

    /// Returns its term.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Returns who has its vote in its term.
    pub fn vote(&self) -> Option<NodeId> {
        self.vote
    }

    /// Returns who leads in its term, as far as it knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.leader
    }

    /// Returns through which index it knows the log to be committed.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// Returns through which index entries were handed out.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Returns through which index the application has applied them.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Returns its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the snapshot that it has.
    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    /// Returns who the members are, by the last configuration in its log.
    pub fn members(&self) -> &Membership {
        self.members.current()
    }

    /// Returns whether a change of the members is in its log and not committed; also until a new leader has committed
    /// something of its own.
    pub fn change_under_way(&self) -> bool {
        self.members.since() > self.commit
    }

    /// Returns whether it may have lost something that it said it had, and not learnt yet what was committed.
    pub fn in_doubt(&self) -> bool {
        self.doubt.any()
    }

    /// Returns whether its disk failed, so that it takes no part until it is started again.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    /// Returns whether this member was removed, and the removal is committed.
    pub fn is_removed(&self) -> bool {
        self.removed
    }

    /// Returns the place of the last entry.
    fn last(&self) -> Place {
        self.log.last()
    }

    fn send(&mut self, to: NodeId, message: Message) {
        self.outputs.push_back(Output::Send { to, message });
    }
}
