//! The planted bugs of Raft, and how soon they are caught.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use natrix_core::planted::Bug;

use super::checker::Violation;
use super::world::run;
use crate::stopwatch::Stopwatch;

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The bug.
    pub bug: Bug,
    /// Its name on the command line.
    pub name: &'static str,
    /// What is wrong with it.
    pub wrong: &'static str,
}

macro_rules! planted {
    ($($bug:ident $name:literal $wrong:literal;)*) => {
        /// All planted bugs.
        pub const PLANTED: &[Planted] = &[$(Planted { bug: Bug::$bug, name: $name, wrong: $wrong },)*];
    };
}

planted! {
    RaftOnlyLatestMembersStand "only-latest-members-stand" "only members of the latest configuration stand for election, committed or not";
    RaftLateAnswersCount "late-answers-count" "each answer about a piece of a snapshot, also a late one, makes the leader go on from there";
    RaftDoubtfulAckCounts "doubtful-ack-counts" "a member that lost its vote acknowledges entries, and stands for election, as if it hadn't";
    RaftCandidaciesForgotten "candidacies-forgotten" "a member that lost its vote goes on in the highest term that the others name, who may have forgotten that they stood in later ones";
    RaftOldNamesCount "old-names-count" "terms that were named before a vote was lost end the doubt about it";
    RaftOldWordsAreLife "old-words-are-life" "late messages, and those that come twice, show that a leader or a follower is there";
    RaftVoteNotWritten "vote-not-written" "a vote for another is never written";
    RaftLeaderCountsUnsynced "leader-counts-unsynced" "a leader counts itself before its own write is done (nats-server #7564)";
    RaftAckBeforeSync "ack-before-sync" "a follower acknowledges entries before they are durable";
    RaftMembersChangeAtCommit "members-change-at-commit" "a follower changes who the members are when that is committed, not when it is in its log";
    RaftStaleWriteCounts "stale-write-counts" "a write of entries that were cut off since makes equal later ones count as durable";
    RaftTruncationNotWritten "truncation-not-written" "cutting off entries is not written";
    RaftVoteBeforeSync "vote-before-sync" "votes are given and counted before they are durable";
    RaftNoLease "no-lease" "a member that hears a leader votes for others all the same";
    RaftHoleMayLead "hole-may-lead" "a member whose application lacks what it had applied stands for election (nats-server #7549)";
    RaftNoPreVote "no-pre-vote" "nobody is asked before a term is raised";
    RaftDoubtfulVoteCounts "doubtful-vote-counts" "the vote of a member that may have lost something counts like others";
    RaftMinorityElects "minority-elects" "half of the members elect";
    RaftNonMembersCount "non-members-count" "votes of nodes that are no members count";
    RaftVotesTwice "votes-twice" "a second candidate of one term gets a vote too";
    RaftRefusalResetsTimer "refusal-resets-timer" "a refused vote resets the election timer";
    RaftVoteIgnoresLog "vote-ignores-log" "a candidate gets votes whatever its log";
    RaftVoteComparesIndexOnly "vote-compares-index-only" "candidates' logs are compared by length alone";
    RaftEmptyVotesElect "empty-votes-elect" "votes of empty logs count like others";
    RaftLostVoteForgotten "lost-vote-forgotten" "a member whose vote is unreadable goes on as if it had given none";
    RaftLossForgotten "loss-forgotten" "a member that lost entries acts as if it had them (nats-server #7549)";
    RaftDoubtEndsInOldTerm "doubt-ends-in-old-term" "a member's doubt about its log ends in the term in which it lost something";
    RaftUnreadableSnapshotIsEmpty "unreadable-snapshot-is-empty" "an unreadable snapshot is taken for none (nats-server #7556)";
    RaftStaleTermAccepted "stale-term-accepted" "entries of a deposed leader are taken";
    RaftTermRevertedByAppend "term-reverted-by-append" "an old entry's term becomes the member's";
    RaftFollowerCommitUnbounded "follower-commit-unbounded" "a follower commits what a leader says also if it refuses the message";
    RaftPreviousUnchecked "previous-unchecked" "entries are taken whatever stands before them";
    RaftCatchupSkipsEntry "catchup-skips-entry" "catching up leaves out an entry";
    RaftTruncatesOnRefusal "truncates-on-refusal" "what a leader can't build on is cut off at once, back to the start of its term, committed or not";
    RaftAppendTruncatesTail "append-truncates-tail" "a late message with fewer entries cuts off those behind";
    RaftAckUnmatched "ack-unmatched" "a heartbeat that doesn't fit is acknowledged with all that is durable, the leader's or not";
    RaftAppliesUncommitted "applies-uncommitted" "entries are handed out when they are durable here";
    RaftStaleLeaderReads "stale-leader-reads" "reads are answered without asking a majority";
    RaftReadBeforeOwnCommit "read-before-own-commit" "reads are answered before anything of the term is committed";
    RaftNoCheckQuorum "no-check-quorum" "a leader that hears nobody goes on leading";
    RaftHeartbeatCommitsLast "heartbeat-commits-last" "a heartbeat says that what was sent is committed";
    RaftStaleAckCounts "stale-ack-counts" "acknowledgements of earlier terms count";
    RaftCommitIgnoresJoint "commit-ignores-joint" "in a joint configuration only the new majority commits";
    RaftMinorityCommits "minority-commits" "what anybody has is committed";
    RaftCommitsOldTerms "commits-old-terms" "entries of earlier terms are committed by counting (the paper's figure 8)";
    RaftChangeBeforeOwnCommit "change-before-own-commit" "a membership change is begun before anything of the term is committed (2015)";
    RaftChangesOverlap "changes-overlap" "a membership change is begun before the last is committed (nats-server #7545)";
    RaftNoJoint "no-joint" "several members are replaced at once without a joint configuration";
    RaftSnapshotHasCurrentMembers "snapshot-has-current-members" "a snapshot says who the members are now, committed or not";
    RaftCompactsBeforeSnapshot "compacts-before-snapshot" "the log is dropped before the snapshot is durable";
    RaftSnapshotNotApplied "snapshot-not-applied" "a snapshot that arrives isn't handed to the application";
    RaftChunksOutOfOrder "chunks-out-of-order" "pieces of a snapshot are put together as they come";
    RaftSleepsWhileBehind "sleeps-while-behind" "a group sleeps although a member lags behind";
    RaftSleeperIgnoresSuspicion "sleeper-ignores-suspicion" "a member that sleeps isn't woken by a suspicion, and believes in its leader for ever";
    RaftSleeperVotes "sleeper-votes" "a member that is woken by a candidate believes that it has no leader, and votes";
    RaftWakeUpLost "wake-up-lost" "a leader that sleeps isn't woken by a candidate";
    RaftLateSleepersCount "late-sleepers-count" "a leader sleeps although what the others said of sleeping is long past";
}

/// Those that take more than a thousand seeds, or so many more with other dice that nobody should count on less.
pub const RARE: &[&str] =
    &["doubtful-ack-counts", "late-answers-count", "old-names-count", "stale-write-counts"];

/// How a planted bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// After so many seeds, the last one included.
    pub seeds: u64,
    /// The seed.
    pub seed: u64,
    /// What was seen.
    pub violation: Violation,
    /// How much processor time it took.
    pub took: Duration,
}

impl Planted {
    /// Looks for the bug from seed `start` on, in at most `seeds` seeds; one that fails without it doesn't count.
    pub fn hunt(&self, start: u64, seeds: u64) -> Option<Caught> {
        let watch = Stopwatch::start();
        (start..start + seeds).find_map(|seed| {
            let report = run(seed, Some(self.bug), false);
            let violation = report.violations.into_iter().next()?;
            if !run(seed, None, false).violations.is_empty() {
                return None;
            }
            Some(Caught { seeds: seed - start + 1, seed, violation, took: watch.elapsed() })
        })
    }
}

/// Does `work` with each of `bugs`, on `jobs` threads; in the order of `bugs`.
pub fn for_each<T: Send>(
    bugs: &[&'static Planted],
    jobs: usize,
    work: impl Fn(&'static Planted) -> T + Sync,
) -> Vec<(&'static Planted, T)> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(planted) = bugs.get(at) else { return };
                    let result = work(planted);
                    done.lock().expect("nobody panics with it").push((at, *planted, result));
                }
            });
        }
    });
    let mut done = done.into_inner().expect("nobody panics with it");
    done.sort_by_key(|(at, ..)| *at);
    done.into_iter().map(|(_, planted, result)| (planted, result)).collect()
}

/// Returns the planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
