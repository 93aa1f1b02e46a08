//! The planted bugs of Raft, and how soon they are caught.

use std::time::{Duration, Instant};

use natrix_core::planted::Bug;

use super::checker::Violation;
use super::world::run;

/// A planted bug.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The bug.
    pub bug: Bug,
    /// Its name on the command line.
    pub name: &'static str,
}

macro_rules! planted {
    ($($bug:ident $name:literal;)*) => {
        /// All planted bugs.
        pub const PLANTED: &[Planted] = &[$(Planted { bug: Bug::$bug, name: $name },)*];
    };
}

planted! {
    RaftOnlyLatestMembersStand "only-latest-members-stand";
    RaftDoubtfulVoteRepeated "doubtful-vote-repeated";
    RaftDoubtEndsBeforeVote "doubt-ends-before-vote";
    RaftLateAnswersCount "late-answers-count";
    RaftVoteNotWritten "vote-not-written";
    RaftLeaderCountsUnsynced "leader-counts-unsynced";
    RaftAckBeforeSync "ack-before-sync";
    RaftMembersChangeAtCommit "members-change-at-commit";
    RaftStaleWriteCounts "stale-write-counts";
    RaftTruncationNotWritten "truncation-not-written";
    RaftVoteBeforeSync "vote-before-sync";
    RaftNoLease "no-lease";
    RaftHoleMayLead "hole-may-lead";
    RaftNoPreVote "no-pre-vote";
    RaftDoubtfulVoteCounts "doubtful-vote-counts";
    RaftMinorityElects "minority-elects";
    RaftNonMembersCount "non-members-count";
    RaftVotesTwice "votes-twice";
    RaftRefusalResetsTimer "refusal-resets-timer";
    RaftVoteIgnoresLog "vote-ignores-log";
    RaftVoteComparesIndexOnly "vote-compares-index-only";
    RaftEmptyVotesElect "empty-votes-elect";
    RaftLostVoteForgotten "lost-vote-forgotten";
    RaftLossForgotten "loss-forgotten";
    RaftDoubtEndsInOldTerm "doubt-ends-in-old-term";
    RaftUnreadableSnapshotIsEmpty "unreadable-snapshot-is-empty";
    RaftStaleTermAccepted "stale-term-accepted";
    RaftTermRevertedByAppend "term-reverted-by-append";
    RaftFollowerCommitUnbounded "follower-commit-unbounded";
    RaftPreviousUnchecked "previous-unchecked";
    RaftCatchupSkipsEntry "catchup-skips-entry";
    RaftTruncatesOnRefusal "truncates-on-refusal";
    RaftAppendTruncatesTail "append-truncates-tail";
    RaftAckUnmatched "ack-unmatched";
    RaftAppliesUncommitted "applies-uncommitted";
    RaftStaleLeaderReads "stale-leader-reads";
    RaftReadBeforeOwnCommit "read-before-own-commit";
    RaftNoCheckQuorum "no-check-quorum";
    RaftHeartbeatCommitsLast "heartbeat-commits-last";
    RaftStaleAckCounts "stale-ack-counts";
    RaftCommitIgnoresJoint "commit-ignores-joint";
    RaftMinorityCommits "minority-commits";
    RaftCommitsOldTerms "commits-old-terms";
    RaftChangeBeforeOwnCommit "change-before-own-commit";
    RaftChangesOverlap "changes-overlap";
    RaftNoJoint "no-joint";
    RaftSnapshotHasCurrentMembers "snapshot-has-current-members";
    RaftCompactsBeforeSnapshot "compacts-before-snapshot";
    RaftSnapshotNotApplied "snapshot-not-applied";
    RaftChunksOutOfOrder "chunks-out-of-order";
    RaftSleepsWhileBehind "sleeps-while-behind";
    RaftSleeperIgnoresSuspicion "sleeper-ignores-suspicion";
    RaftSleeperVotes "sleeper-votes";
    RaftWakeUpLost "wake-up-lost";
    RaftLateSleepersCount "late-sleepers-count";
}

/// How a planted bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// After so many seeds, the last one included.
    pub seeds: u64,
    /// The seed.
    pub seed: u64,
    /// What was seen.
    pub violation: Violation,
    /// How long it took.
    pub took: Duration,
}

impl Planted {
    /// Looks for the bug from seed `start` on, in at most `seeds` seeds.
    pub fn hunt(&self, start: u64, seeds: u64) -> Option<Caught> {
        let begun = Instant::now();
        (start..start + seeds).find_map(|seed| {
            let report = run(seed, Some(self.bug), false);
            let violation = report.violations.into_iter().next()?;
            Some(Caught { seeds: seed - start + 1, seed, violation, took: begun.elapsed() })
        })
    }
}

/// Returns the planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
