//! What must hold, looked at after every event.
//!
//! The checker sees what members do, not what they think: their messages, their writes, what they hand out; of their own
//! words it takes role, term, commit index and log. Each check costs a step or two, as it looks at what changed.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

use natrix_core::raft::group::{Group, Message, Record};
use natrix_core::raft::log::{LogEntry, Place};
use natrix_core::raft::membership::{Membership, MembershipLog};
use natrix_core::raft::wire::NodeId;

/// A rule of Raft.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// One leader in a term.
    ElectionSafety,
    /// A leader removes nothing from its log.
    AppendOnly,
    /// Two logs with the same entry in one place are equal before it.
    LogMatching,
    /// Whoever leads has all that was committed before.
    LeaderCompleteness,
    /// Nobody applies another entry at an index.
    StateMachineSafety,
    /// One vote in a term, also across crashes.
    OneVote,
    /// Terms don't fall, also across crashes.
    TermMonotonic,
    /// What is committed stays so.
    CommitMonotonic,
    /// What is committed is durable at a majority.
    CommitDurable,
    /// What a member takes for durable, and hands out, is what no crash can take from it.
    Durable,
    /// A leader commits by an entry of its own term (the paper's 5.4.2).
    CommitOwnTerm,
    /// A member's own numbers are in order.
    Order,
    /// What a client was told to be committed is there at the end, at every member.
    Acknowledged,
    /// A read sees what was acknowledged before it.
    Linearizable,
    /// Who the members are is what the log says.
    Members,
    /// A member with a hole in its application doesn't lead.
    Hole,
    /// One that comes back after it was cut off doesn't disturb.
    Disturbed,
    /// Without faults there is a leader soon, and all members get equal.
    Liveness,
    /// What was reported to be durable is found at the next start, or known to be lost.
    Kept,
    /// Nothing is taken to be lost on a disk that nothing happened to.
    FalseAlarm,
    /// An assertion in the code.
    Panic,
}

impl Rule {
    /// Returns its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Rule::ElectionSafety => "election-safety",
            Rule::AppendOnly => "leader-append-only",
            Rule::LogMatching => "log-matching",
            Rule::LeaderCompleteness => "leader-completeness",
            Rule::StateMachineSafety => "state-machine-safety",
            Rule::OneVote => "one-vote",
            Rule::TermMonotonic => "term-monotonic",
            Rule::CommitMonotonic => "commit-monotonic",
            Rule::CommitDurable => "commit-durable",
            Rule::Durable => "durable",
            Rule::CommitOwnTerm => "commit-own-term",
            Rule::Order => "order",
            Rule::Acknowledged => "acknowledged",
            Rule::Linearizable => "linearizable",
            Rule::Members => "members",
            Rule::Hole => "hole",
            Rule::Disturbed => "disturbed",
            Rule::Liveness => "liveness",
            Rule::Kept => "kept",
            Rule::FalseAlarm => "false-alarm",
            Rule::Panic => "panic",
        }
    }
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// Which.
    pub rule: Rule,
    /// When, in virtual nanoseconds.
    pub at: u64,
    /// How.
    pub text: String,
}

/// An entry that some member held to be committed.
#[derive(Clone, Copy, Debug)]
struct Committed {
    term: u64,
    hash: u64,
    /// The term of the member that said so first.
    by_term: u64,
    /// What the application's state is after it, once somebody applied it.
    state: Option<u64>,
}

/// What was seen of one member.
#[derive(Clone, Debug, Default)]
struct Seen {
    term: u64,
    commit: u64,
    leading: Option<u64>,
    last: u64,
    stable: Option<Place>,
    /// The highest term in which it promised something.
    promised: u64,
}

/// Watches a run.
#[derive(Debug)]
pub(super) struct Checker {
    pub(super) violations: Vec<Violation>,
    committed: Vec<Committed>,
    /// Who the members are by what is committed, from which index on.
    members: MembershipLog,
    /// How many members the smallest configuration had that was ever committed.
    fewest: usize,
    leaders: BTreeMap<u64, usize>,
    votes: BTreeMap<(u64, usize), NodeId>,
    entries: BTreeMap<(u64, u64), (u64, u64)>,
    seen: Vec<Seen>,
    /// Through where clients were told that their proposals are committed.
    pub(super) acknowledged: u64,
    /// The places that clients were told of.
    told: Vec<Place>,
    /// How many of them were gone in the end.
    lost: u64,
}

/// Hashes the bytes of an entry: FNV-1a.
pub(super) fn hash_bytes(mut hash: u64, bytes: &[u8]) -> u64 {
    for byte in bytes {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

fn hash_entry(entry: &LogEntry) -> u64 {
    hash_bytes(0xcbf2_9ce4_8422_2325 ^ entry.entry.kind as u64, &entry.entry.data)
}

impl Checker {
    pub(super) fn new(nodes: usize, members: Membership) -> Self {
        Checker {
            violations: Vec::new(),
            committed: Vec::new(),
            fewest: members.voters().len(),
            members: MembershipLog::new(0, members),
            leaders: BTreeMap::new(),
            votes: BTreeMap::new(),
            entries: BTreeMap::new(),
            seen: vec![Seen::default(); nodes],
            acknowledged: 0,
            told: Vec::new(),
            lost: 0,
        }
    }

    pub(super) fn violate(&mut self, rule: Rule, at: u64, text: String) {
        if self.violations.len() < 20 {
            self.violations.push(Violation { rule, at, text });
        }
    }

    /// Returns through where the log is committed, by the first member that knew.
    pub(super) fn committed(&self) -> u64 {
        self.committed.len() as u64
    }

    /// Returns the place of the last entry that is committed.
    pub(super) fn last_committed(&self) -> Option<Place> {
        self.committed.last().map(|last| Place { term: last.term, index: self.committed() })
    }

    /// Returns how many members the smallest configuration had that was ever committed.
    pub(super) fn fewest_members(&self) -> usize {
        self.fewest
    }

    /// A client is told that what it proposed is committed.
    pub(super) fn acknowledges(&mut self, place: Place) {
        self.told.push(place);
        self.acknowledged = self.acknowledged.max(place.index);
    }

    /// Returns how many proposals were acknowledged.
    pub(super) fn told(&self) -> u64 {
        self.told.len() as u64
    }

    /// Returns how many of them were gone in the end.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// All is over, and a member has applied everything `through` there: is what was acknowledged part of it?
    ///
    /// That the state there is the one of these entries was looked at when each was applied.
    pub(super) fn over(&mut self, at: u64, node: usize, through: u64) {
        let gone = |place: &&Place| {
            let kept = self.committed.get(place.index as usize - 1);
            place.index > through || kept.is_none_or(|kept| kept.term != place.term)
        };
        let lost = self.told.iter().filter(gone).count();
        if lost > 0 {
            self.lost = self.lost.max(lost as u64);
            let text = format!("n{node} lacks {lost} of {} that were acknowledged", self.told.len());
            self.violate(Rule::Acknowledged, at, text);
        }
    }

    /// A member asks for a write.
    pub(super) fn record(&mut self, at: u64, node: usize, group: &Group, record: &Record) {
        match record {
            Record::Append { entries, .. } => {
                let Some(first) = entries.first() else { return };
                let mut before = group.log().term_at(first.index - 1);
                for entry in entries {
                    self.entry(at, node, entry, before);
                    before = Some(entry.term);
                }
            }
            Record::Truncate { from } => {
                if group.is_leader() {
                    let text = format!("n{node} leads term {} and removes {from}", group.term());
                    self.violate(Rule::AppendOnly, at, text);
                }
                if *from <= self.seen[node].commit {
                    let text = format!("n{node} removes {from}, and knew {}", self.seen[node].commit);
                    self.violate(Rule::CommitMonotonic, at, text);
                }
            }
            Record::Snapshot(snapshot) if snapshot.place.index <= self.committed() => {
                let members = self.members.at(snapshot.place.index);
                if snapshot.members != *members {
                    let (place, said) = (snapshot.place, &snapshot.members);
                    let text =
                        format!("n{node} writes a snapshot of {place:?} with {said:?}, not {members:?}");
                    self.violate(Rule::Members, at, text);
                }
            }
            _ => {}
        }
    }

    /// A member's log has this entry now, behind one of the term `before`.
    pub(super) fn entry(&mut self, at: u64, node: usize, entry: &LogEntry, before: Option<u64>) {
        let hash = hash_entry(entry);
        match self.entries.entry((entry.index, entry.term)) {
            Slot::Vacant(slot) => {
                slot.insert((hash, before.unwrap_or(u64::MAX)));
            }
            Slot::Occupied(slot) => {
                let (known, term) = *slot.get();
                let unlike = before.is_some_and(|before| term != u64::MAX && term != before);
                if known != hash || unlike {
                    let text = format!("n{node} has another entry {:?}, or another before it", entry.place());
                    self.violate(Rule::LogMatching, at, text);
                }
            }
        }
    }

    /// A member says something.
    pub(super) fn message(&mut self, at: u64, node: usize, group: &Group, message: &Message, to: NodeId) {
        let promise = match message {
            // A vote that counts only if everybody agrees may be a second one.
            Message::VoteReply(reply) if reply.granted && !reply.pre_vote && reply.empty => reply.term,
            Message::Vote(request) if !request.pre_vote && group.in_doubt() => request.term,
            Message::VoteReply(reply) if reply.granted && !reply.pre_vote => {
                self.vote(at, node, reply.term, to);
                reply.term
            }
            Message::AppendReply(reply) if reply.success && reply.index > 0 => {
                // Entries of the term carry it, so a term that nothing was taken in need not outlive a crash.
                return;
            }
            Message::Vote(request) if !request.pre_vote => {
                self.vote(at, node, request.term, request.candidate);
                request.term
            }
            _ => return,
        };
        let seen = &mut self.seen[node];
        seen.promised = seen.promised.max(promise);
    }

    fn vote(&mut self, at: u64, node: usize, term: u64, candidate: NodeId) {
        let first = *self.votes.entry((term, node)).or_insert(candidate);
        if first != candidate {
            let text = format!("n{node} voted for {first} and for {candidate} in term {term}");
            self.violate(Rule::OneVote, at, text);
        }
    }

    /// A member's damaged disk has forgotten what it promised; it must know that it doesn't know.
    ///
    /// What it had voted for itself is over with its candidacy, which a crash ends.
    pub(super) fn forgot(&mut self, node: usize, name: NodeId) {
        self.seen[node].promised = 0;
        self.votes.retain(|(_, voter), candidate| *voter != node || *candidate != name);
    }

    /// A member starts.
    pub(super) fn started(&mut self, at: u64, node: usize, group: &Group) {
        let promised = self.seen[node].promised;
        if group.term() < promised {
            let text = format!("n{node} starts in term {} and promised in {promised}", group.term());
            self.violate(Rule::TermMonotonic, at, text);
        }
        let voted = self.votes.get(&(group.term(), node)).copied();
        if let Some(voted) = voted
            && !group.in_doubt()
            // A member that could not read its vote takes it for itself, which is no vote for anybody else.
            && ![Some(voted), Some(group.id())].contains(&group.vote())
        {
            let text = format!("n{node} voted for {voted} in term {}, and starts without that", group.term());
            self.violate(Rule::OneVote, at, text);
        }
        self.seen[node] = Seen { promised, ..Seen::default() };
        let entries = group.log().from(0, usize::MAX, usize::MAX);
        let mut before = group.log().base().term;
        for entry in entries {
            self.entry(at, node, entry, Some(before));
            before = entry.term;
        }
    }

    /// A member applies an entry; `state` is what its application is then.
    pub(super) fn applied(&mut self, at: u64, node: usize, entry: &LogEntry, state: u64) {
        let Some(known) = self.committed.get_mut(entry.index as usize - 1) else {
            let text = format!("n{node} applies {:?}, which nobody held to be committed", entry.place());
            return self.violate(Rule::StateMachineSafety, at, text);
        };
        let same = known.term == entry.term && known.hash == hash_entry(entry);
        if !same || *known.state.get_or_insert(state) != state {
            let text = format!("n{node} applies another entry at {:?}, or in another state", entry.place());
            self.violate(Rule::StateMachineSafety, at, text);
        }
    }

    /// A member's application is replaced; `state` is what it is then.
    pub(super) fn restored(&mut self, at: u64, node: usize, place: Place, state: u64) {
        let Some(known) = self.committed.get_mut((place.index as usize).wrapping_sub(1)) else { return };
        if known.term != place.term || *known.state.get_or_insert(state) != state {
            let text = format!("n{node} restores {place:?} to another state");
            self.violate(Rule::StateMachineSafety, at, text);
        }
    }

    /// Looks at a member after it was called. `durable` says whether a majority has a place durably; `None` if that
    /// can't be said because a disk was damaged.
    pub(super) fn look(
        &mut self,
        at: u64,
        node: usize,
        group: &Group,
        hole: bool,
        durable: impl Fn(Place) -> Option<bool>,
    ) {
        let (term, commit, last) = (group.term(), group.commit(), group.log().last().index);
        let seen = self.seen[node].clone();
        if term < seen.term {
            self.violate(Rule::TermMonotonic, at, format!("n{node}: {} then {term}", seen.term));
        }
        if commit < seen.commit {
            self.violate(Rule::CommitMonotonic, at, format!("n{node}: {} then {commit}", seen.commit));
        }
        if commit > seen.commit {
            self.commits(at, node, group, seen.commit);
            if group.is_leader() && group.log().term_at(commit).is_some_and(|of| of != term) {
                let text = format!("n{node} leads term {term} and commits {commit} of another");
                self.violate(Rule::CommitOwnTerm, at, text);
            }
            if group.is_leader()
                && let Some(term) = group.log().term_at(commit)
                && durable(Place { term, index: commit }) == Some(false)
            {
                let text = format!("n{node} commits {commit}, which no majority has durably");
                self.violate(Rule::CommitDurable, at, text);
            }
        }
        let ordered = commit <= last && group.applied() <= group.delivered() && group.log().stable() <= last;
        if !ordered {
            self.violate(Rule::Order, at, format!("n{node}: {group:?}"));
        }
        let leading = group.is_leader().then_some(term);
        if leading.is_some() {
            if seen.leading != leading {
                self.elected(at, node, group, hole);
            } else if last < seen.last {
                self.violate(Rule::AppendOnly, at, format!("n{node}: {} then {last}", seen.last));
            }
        }
        let promised = seen.promised;
        let log = group.log();
        let stable = log.term_at(log.stable()).map(|term| Place { term, index: log.stable() });
        self.seen[node] = Seen { term, commit, leading, last, stable, promised };
    }

    /// Returns through where a member says that its log is durable, if it says something new.
    pub(super) fn newly_stable(&self, node: usize, group: &Group) -> Option<Place> {
        let index = group.log().stable();
        let place = group.log().term_at(index).map(|term| Place { term, index });
        place.filter(|place| place.index > 0 && self.seen[node].stable != Some(*place))
    }

    /// Looks whether the members are those that snapshot and log say; `initial` are those before any.
    pub(super) fn look_at_members(&mut self, at: u64, node: usize, group: &Group, initial: &Membership) {
        let (mut members, mut index) = match group.snapshot() {
            Some(snapshot) => (snapshot.members.clone(), snapshot.place.index),
            None => (initial.clone(), 0),
        };
        for entry in group.log().from(index + 1, usize::MAX, usize::MAX) {
            if let Ok(Some(next)) = members.after(&entry.entry) {
                members = next;
            }
            index = entry.index;
        }
        if members != *group.members() {
            let text =
                format!("n{node} knows {:?}, and its log through {index} says {members:?}", group.members());
            self.violate(Rule::Members, at, text);
        }
    }

    fn commits(&mut self, at: u64, node: usize, group: &Group, from: u64) {
        let known = self.committed.len() as u64;
        for entry in group.log().from(from + 1, (group.commit() - from) as usize, usize::MAX) {
            if entry.index > group.commit() {
                break;
            }
            let hash = hash_entry(entry);
            if entry.index > self.committed.len() as u64 {
                if entry.index != self.committed.len() as u64 + 1 {
                    return;
                }
                let by_term = group.term();
                self.committed.push(Committed { term: entry.term, hash, by_term, state: None });
                // Bytes that say nothing are in no log.
                let _ = self.members.pushed(entry.index, &entry.entry);
                self.fewest = self.fewest.min(self.members.current().voters().len());
                continue;
            }
            let first = self.committed[entry.index as usize - 1];
            if first.term != entry.term || first.hash != hash {
                let text = format!(
                    "n{node} holds {:?} to be committed, of term {} before",
                    entry.place(),
                    first.term
                );
                return self.violate(Rule::StateMachineSafety, at, text);
            }
        }
        if self.committed.len() as u64 > known {
            self.later_leaders_have_it(at);
        }
    }

    fn later_leaders_have_it(&mut self, at: u64) {
        let Some(last) = self.committed.last().copied() else { return };
        let index = self.committed.len() as u64;
        for node in 0..self.seen.len() {
            let seen = &self.seen[node];
            if seen.leading.is_some_and(|term| term > last.by_term) && seen.last < index {
                let text = format!("n{node} leads term {} and lacks {index}", seen.term);
                self.violate(Rule::LeaderCompleteness, at, text);
            }
        }
    }

    fn elected(&mut self, at: u64, node: usize, group: &Group, hole: bool) {
        let term = group.term();
        let first = *self.leaders.entry(term).or_insert(node);
        if first != node {
            let text = format!("n{first} and n{node} both lead term {term}");
            self.violate(Rule::ElectionSafety, at, text);
        }
        if hole {
            self.violate(Rule::Hole, at, format!("n{node} leads term {term} with a hole"));
        }
        let before = self.committed.iter().rposition(|committed| committed.by_term < term);
        let Some(index) = before else { return };
        let committed = self.committed[index];
        let index = index as u64 + 1;
        let has = index < group.log().base().index || group.log().term_at(index) == Some(committed.term);
        if !has {
            let text = format!("n{node} leads term {term} and lacks {index} of term {}", committed.term);
            self.violate(Rule::LeaderCompleteness, at, text);
        }
    }
}
