//! Bugs on purpose and fault points in the code: how the simulator shows that its checkers see.
//!
//! Both are switched for the calling *thread* (`arm`), because a simulated world lives on one thread and the
//! places that ask are deep in machines that have no other reason to carry a switch. Without the feature
//! `planted-bugs` every question is a constant `false` and costs nothing; production is built without it.
//!
//! A [`Bug`] is wrong behaviour that some checker must catch; a [`Point`] is rare but right behaviour that pure
//! chance would hardly ever produce (an early flush, a cache that forgets, a batch of one).

/// A planted bug. The names say what the code does wrong while it is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bug {
    /// Runtime: one ring for each pair of shards in place of one inbox, so messages of two senders overtake.
    InboxRingPerPair,
    /// Runtime: bytes are handed over without draining the inbox first.
    InboxNotDrained,
    /// Runtime: sockets are flushed before the pushes of the same batch are out.
    FlushBeforePush,
    /// Runtime: two messages pushed to one inbox arrive the other way round.
    InboxReordered,
    /// An interest change waits in a batch while a later message overtakes it.
    InterestBatchedPastMessage,
    /// A withdrawn interest is never told to the others.
    InterestNeverWithdrawn,
    /// A queue message that finds its member gone on another shard is dropped instead of bounced.
    QueueMemberLost,
    /// A bounced queue message is delivered again although it had been delivered.
    BouncedTwice,
    /// A queue message goes to one member on each shard that has one.
    QueueOncePerShard,
    /// The match cache isn't told of changes.
    StaleMatchCache,
    /// A deny rule for subscriptions isn't applied to what a wildcard delivers.
    DenyIgnoredOnDelivery,
    /// An auto-unsubscribed subscription gets one message more.
    AutoUnsubscribeOffByOne,
    /// A slow consumer is never closed.
    SlowConsumerNeverClosed,
    /// A publisher gets its own messages although it said `echo: false`.
    EchoIgnored,
    /// A message is delivered in whatever account has a match.
    AccountLeak,
    /// The answer 503 is sent although another shard has interest.
    NoRespondersTooEager,
    /// The answer 503 is never sent.
    NoRespondersNever,
    /// A partial line at the end of a read is forgotten.
    PartialLineLost,
    /// A delivery to another shard is sent twice.
    DeliverTwice,
    /// A stalled publisher is never resumed.
    StalledForever,
    /// What a shard owes another is never acknowledged, so that publishers are paused for ever.
    CreditLost,
    /// A quiet peer is never found stale.
    StaleNeverClosed,
    /// One `handle` does the work of many.
    UnboundedHandle,
    /// Block: a record's checksum is not compared.
    BlockChecksumUnverified,
    /// Block: a byte of a torn tail stays.
    BlockTailCutTooShort,
    /// Block: some good bytes are cut with a torn tail.
    BlockTailCutTooLong,
    /// Block: an index file is believed although it was made for other bytes.
    IndexTrustedOverBlock,
    /// Block: what a record of deletions says is not done.
    TombstoneLost,
    /// Block: a frame's nonce is made from its place, so that a tail which is cut and written again has it twice.
    NonceReusedAfterCut,
    /// Vault: each start seals entries with the same key, and counts its nonces from the beginning.
    SessionReused,
    /// JetStream: what no given key opens is taken for a leftover, and removed.
    JsLockedForgotten,
    /// JetStream: after a damaged catalogue, what it doesn't name is taken for a leftover, and removed.
    JsStraysRemoved,
    /// JetStream: a consumer whose state was lost starts where a new one would.
    ConsumerLossSkips,
    /// Kept state: a sealed file that is damaged may be taken for one that is sealed with another key.
    KeptDamageIsLocked,
    /// Store: after a sync that failed the file is synced again, and what that says is believed.
    StoreSyncsAgain,
    /// Block: everything behind a damaged record is given up (nats-server #7549).
    DamageDropsRestOfBlock,
    /// Store: says that its files are durable before they are synced.
    CoveredBeforeSync,
    /// Store: the names of new blocks aren't synced (a rename or a create without its directory).
    StoreNameNotSynced,
    /// Store: a mark says that an entry is applied of which only a half is.
    StoreMarkInsideEntry,
    /// Store: files of blocks are removed before the manifest says so.
    StoreDropBeforeRecord,
    /// Store: what a dropped block said was gone in older ones isn't said again.
    StoreTombstonesDropped,
    /// Store: blocks are written anew before what they leave out is durably gone.
    StoreRewriteBeforeRecord,
    /// Store: new settings are in force at recovery although their entry isn't applied yet.
    StoreSettingsTooEarly,
    /// Store: an erased message is only removed.
    StoreEraseSkipped,
    /// Store: sequences that were cut off stay cut off in the manifest although the cut isn't durable.
    StoreCutTooEarly,
    /// Store: entries that its files have are applied again after a restart.
    StoreAppliedTwice,
    /// Store: a block that is missing isn't told.
    StoreLossUntold,
    /// Store: a block that was written anew and is back as it was before is used.
    StoreOlderBlockTrusted,
    /// Store: a block that was given up counts when its file is back.
    StoreGivenUpBlockTrusted,
    /// Store: what the journal has lost isn't bridged, and nothing behind it is applied.
    StoreGapNotBridged,
    /// Store: a disk without space ends the use of a stream's files.
    StoreFailsWhenFull,
    /// Store: a folder is removed while requests of its store are under way.
    StoreRemovalTooEarly,
    /// Store: what the scrubber reads wrong once is damage.
    StoreScrubReadOnce,
    /// Store: what recovery reads wrong once is damage.
    StoreRecoveryReadOnce,
    /// Store: what is gone because it was too old leaves no tombstone, and is back after a restart.
    StoreExpiredBack,
    /// Store: blocks that are closed are taken for synced (nats-server #8456).
    StoreSyncSkipsClosed,
    /// Store: the manifest has a block as it is written anew, with another key perhaps, before that is durable.
    StoreRewriteRecordedEarly,
    /// Store: who reads a block that is written anew meanwhile takes what he gets for what it was, and where it was.
    StoreReadsKeepPlaces,
    /// Volume: an entry is applied, and can be read, before it is committed.
    VolumeAppliesEarly,
    /// Store: damage that the scrubber finds costs the whole block.
    StoreScrubDropsBlock,
    /// Store: the index file of a block in which the scrubber has found damage stays.
    StoreScrubKeepsIndex,
    /// Store: a block in which nothing lives is removed although it has damage.
    StoreDamageRemoved,
    /// Store: damage costs what has the sequences now of what is damaged, and may have been stored later.
    StoreDamageBySequence,
    /// Store: what an older block says of messages that were cut off hides the loss of those that have their sequences now.
    StoreLossHidden,
    /// Store: the index file of a block that recovery had to do without isn't written again.
    StoreIndexLeftOut,
    /// Store: the index of a block that has no index file is dropped like others.
    StoreBareEvicted,
    /// Store: a stream that has none takes the time of its newest message from what was before it was emptied.
    StoreTimeOfOthers,
    /// Store: a message is erased while the index file of its block is being written.
    StoreEraseBeforeIndex,
    /// Store: what was cut off a block without messages that has damage is still held to be its own.
    StoreSpoiledUncut,
    /// Journal: an entry is reported when it is written, without a sync.
    JournalAckBeforeSync,
    /// Journal: a segment is used again before what was copied out of it is durable.
    JournalSegmentRecycledEarly,
    /// Journal: a batch behind the last mark is taken although it is torn.
    JournalTornTailKept,
    /// Journal: recovery cuts the tail one batch too early.
    JournalTailCutTooShort,
    /// Journal: an entry that should be copied forward isn't.
    JournalCopyForwardLost,
    /// Journal: segments that no longer count are replayed.
    JournalStaleSegmentReplayed,
    /// Journal: recovery gives out positions again that a lost tail had.
    JournalPositionReused,
    /// Journal: a failed write or sync is taken for done.
    JournalFailedSyncRetried,
    /// Journal: damage found by recovery isn't told.
    JournalDamageUnreported,
    /// Journal: a batch is known by its magic, its checksum isn't looked at.
    JournalMagicOnly,
    /// Journal: an owner that was forgotten is recovered.
    JournalForgottenReplayed,
    /// Journal: an entry's checksum isn't looked at.
    JournalEntryUnverified,
    /// Journal: nothing says that what recovery wrote again is synced.
    JournalRewrittenUnvouched,
    /// Journal: nothing says that the newest batch is synced, until another comes.
    JournalLastUnvouched,
    /// Journal: the tail behind the last mark is believed as it was read, not written again.
    JournalTailTrusted,
    /// Journal: an owner is told to be forgotten before the entry that says so is known to be durable.
    JournalForgottenToldEarly,
    /// Journal: the numbers of segments say nothing of the positions that were given out.
    JournalNumbersIgnored,
    /// Journal: what was written again behind the end of its segment is replayed twice where that end was lost.
    JournalVoidReplayed,
    /// Journal: what makes no sense isn't read again.
    JournalReadOnce,
    /// Journal: a sync that is under way is due all the same.
    JournalDueForEver,
    /// Journal: a copy is taken for the entry that it should be, whatever entry was read.
    JournalCopyTrusted,
    /// Journal: where no header is to be read a new journal is begun, whatever else stands there.
    JournalBegunOverRemains,
    /// Journal: what is left of a damaged segment is copied forward, although its owners could cover all of it.
    JournalDamagedCopied,
    /// Raft: only members of the latest configuration stand for election, committed or not.
    RaftOnlyLatestMembersStand,
    /// Raft: each answer about a piece of a snapshot, also a late one, makes the leader go on from there.
    RaftLateAnswersCount,
    /// Raft: a member that lost its vote acknowledges entries as if it hadn't.
    RaftDoubtfulAckCounts,
    /// Raft: terms that were named before a vote was lost end the doubt about it.
    RaftOldNamesCount,
    /// Raft: late messages, and those that come twice, show that a leader or a follower is there.
    RaftOldWordsAreLife,
    /// Raft: a vote for another is never written.
    RaftVoteNotWritten,
    /// Raft: a leader counts itself before its own write is done (nats-server #7564).
    RaftLeaderCountsUnsynced,
    /// Raft: a follower acknowledges entries before they are durable.
    RaftAckBeforeSync,
    /// Raft: a follower changes who the members are when that is committed, not when it is in its log.
    RaftMembersChangeAtCommit,
    /// Raft: a write of entries that were cut off since makes equal later ones count as durable.
    RaftStaleWriteCounts,
    /// Raft: cutting off entries is not written.
    RaftTruncationNotWritten,
    /// Raft: votes are given and counted before they are durable.
    RaftVoteBeforeSync,
    /// Raft: a member that hears a leader votes for others all the same.
    RaftNoLease,
    /// Raft: a member whose application lacks what it had applied stands for election (nats-server #7549).
    RaftHoleMayLead,
    /// Raft: nobody is asked before a term is raised.
    RaftNoPreVote,
    /// Raft: the vote of a member that may have lost something counts like others.
    RaftDoubtfulVoteCounts,
    /// Raft: half of the members elect.
    RaftMinorityElects,
    /// Raft: votes of nodes that are no members count.
    RaftNonMembersCount,
    /// Raft: a second candidate of one term gets a vote too.
    RaftVotesTwice,
    /// Raft: a refused vote resets the election timer.
    RaftRefusalResetsTimer,
    /// Raft: a candidate gets votes whatever its log.
    RaftVoteIgnoresLog,
    /// Raft: candidates' logs are compared by length alone.
    RaftVoteComparesIndexOnly,
    /// Raft: votes of empty logs count like others.
    RaftEmptyVotesElect,
    /// Raft: a member whose vote is unreadable goes on as if it had given none.
    RaftLostVoteForgotten,
    /// Raft: a member that lost entries acts as if it had them (nats-server #7549).
    RaftLossForgotten,
    /// Raft: a member's doubt about its log ends in the term in which it lost something.
    RaftDoubtEndsInOldTerm,
    /// Raft: an unreadable snapshot is taken for none (nats-server #7556).
    RaftUnreadableSnapshotIsEmpty,
    /// Raft: entries of a deposed leader are taken.
    RaftStaleTermAccepted,
    /// Raft: an old entry's term becomes the member's.
    RaftTermRevertedByAppend,
    /// Raft: a follower commits what a leader says also if it refuses the message, so entries that aren't the leader's.
    RaftFollowerCommitUnbounded,
    /// Raft: entries are taken whatever stands before them.
    RaftPreviousUnchecked,
    /// Raft: catching up leaves out an entry.
    RaftCatchupSkipsEntry,
    /// Raft: what a leader can't build on is cut off at once, back to the start of its term, committed or not.
    RaftTruncatesOnRefusal,
    /// Raft: a late message with fewer entries cuts off those behind.
    RaftAppendTruncatesTail,
    /// Raft: a heartbeat that doesn't fit is acknowledged with all that is durable, the leader's or not.
    RaftAckUnmatched,
    /// Raft: entries are handed out when they are durable here.
    RaftAppliesUncommitted,
    /// Raft: reads are answered without asking a majority.
    RaftStaleLeaderReads,
    /// Raft: reads are answered before anything of the term is committed.
    RaftReadBeforeOwnCommit,
    /// Raft: a leader that hears nobody goes on leading.
    RaftNoCheckQuorum,
    /// Raft: a heartbeat says that what was sent is committed.
    RaftHeartbeatCommitsLast,
    /// Raft: acknowledgements of earlier terms count.
    RaftStaleAckCounts,
    /// Raft: in a joint configuration only the new majority commits.
    RaftCommitIgnoresJoint,
    /// Raft: what anybody has is committed.
    RaftMinorityCommits,
    /// Raft: entries of earlier terms are committed by counting (the paper's figure 8).
    RaftCommitsOldTerms,
    /// Raft: a membership change is begun before anything of the term is committed (2015).
    RaftChangeBeforeOwnCommit,
    /// Raft: a membership change is begun before the last is committed (nats-server #7545).
    RaftChangesOverlap,
    /// Raft: several members are replaced at once without a joint configuration.
    RaftNoJoint,
    /// Raft: a snapshot says who the members are now, committed or not.
    RaftSnapshotHasCurrentMembers,
    /// Raft: the log is dropped before the snapshot is durable.
    RaftCompactsBeforeSnapshot,
    /// Raft: a snapshot that arrives isn't handed to the application.
    RaftSnapshotNotApplied,
    /// Raft: pieces of a snapshot are put together as they come.
    RaftChunksOutOfOrder,
    /// Raft's store: what is said to be committed behind records that are missing is believed of what is before them.
    RaftStoreCommitBehindGap,
    /// Raft's store: a group is told that a record is durable when it was proposed to the journal.
    RaftStorePersistedEarly,
    /// Raft's store: records that are missing in the journal aren't missed.
    RaftStoreGapUntold,
    /// Raft's store: groups aren't told that the end of the journal is lost.
    RaftStoreTailUntold,
    /// Raft's store: a file that is older than the records behind it is taken for what came before them.
    RaftStoreOlderFileTrusted,
    /// Raft's store: a cut isn't written to the file.
    RaftStoreCutNotCovered,
    /// Raft's store: the record that refers to a snapshot's file is written before that is durable.
    RaftStoreSnapshotBeforeFile,
    /// Raft's store: a snapshot is written to a file that is still being removed.
    RaftStoreSnapshotOvertakesRemoval,
    /// Raft's store: the journal is told that the file covers before that is durable.
    RaftStoreCoveredBeforeSync,
    /// Raft's store: the checksum of a snapshot's file isn't looked at.
    RaftStoreSnapshotUnverified,
    /// Raft's store: a member of which nothing is left starts as a new one.
    RaftStoreMissingIsFresh,
    /// Raft's store: what was found lost isn't in the first record of the life that found it.
    RaftStoreLossNotKept,
    /// Raft's store: checksums of frames aren't compared.
    RaftStoreFrameUnverified,
    /// Raft's store: the witness is written before the record that it is about.
    RaftStoreWitnessEarly,
    /// Raft: a member that lost its vote goes on in the highest term that others name, who may have forgotten some.
    RaftCandidaciesForgotten,
    /// Raft: a group sleeps although a member lags behind.
    RaftSleepsWhileBehind,
    /// Raft: a member that sleeps isn't woken by a suspicion, and believes in its leader for ever.
    RaftSleeperIgnoresSuspicion,
    /// Raft: a member that is woken by a candidate believes that it has no leader, and votes.
    RaftSleeperVotes,
    /// Raft: a leader that sleeps isn't woken by a candidate.
    RaftWakeUpLost,
    /// Raft: a leader sleeps although what the others said of sleeping is long past.
    RaftLateSleepersCount,
    /// Stream: a message is acknowledged before it is durable.
    JsAckBeforeCommit,
    /// Stream: an acknowledgement has the sequence of the newest message.
    JsAckOfNewest,
    /// Journal: entries that aren't sealed are copied to a file of which its header says that all in it is.
    JournalCopiesVouched,
    /// Journal: only the newest file is asked whether all in it is sealed.
    JournalSealOfNewest,
    /// JetStream: what marks a store as sealed is believed, whatever is found in it.
    JsMarkBelieved,
    /// JetStream: sealing what isn't doesn't come back to a store that it found busy.
    JsConversionStalls,
    /// JetStream: it is told that everything is sealed while something is still being written anew.
    JsConvertedTooEarly,
    /// Stream: message ids are forgotten with a restart.
    JsDedupForgottenAtRestart,
    /// Stream: message ids aren't looked for while something is on its way.
    JsDedupIgnoresFlight,
    /// Stream: expected sequences aren't looked at while something is on its way.
    JsExpectedUnchecked,
    /// Stream: what the journal refuses is acknowledged.
    JsRefusalAcknowledged,
    /// Stream: the first acknowledgement of several consumers removes a message.
    JsFirstAckRemoves,
    /// Stream: what was acknowledged for good before a crash, and not removed, stays.
    JsOrphansStay,
    /// Stream: it is there, and takes messages, before the catalogue durably has it.
    JsStreamBeforeCatalogue,
    /// Stream: its end isn't written down.
    JsDeletedComesBack,
    /// Restore: it is answered before the catalogue durably has the stream.
    JsRestoreAnsweredEarly,
    /// Restore: the catalogue has the stream when its backup begins.
    JsRestoredInPart,
    /// Stream: what a schedule has made doesn't end it.
    JsScheduleNotEnded,
    /// Stream: after a start a schedule is carried out without a look at what it has made.
    JsScheduleRunsAgain,
    /// Requests that come before the stores are ready are dropped.
    JsHeldDropped,
    /// After a start the home shard forgets the streams of other shards.
    JsOtherShardsForgotten,
    /// Streams: the home shard goes on knowing a stream that another shard has deleted.
    JsGoneStaysKnown,
    /// Consumer: its state isn't written down.
    JsConsumerNotWritten,
    /// Consumer: entries go to another consumer.
    JsEntriesOfAnother,
    /// Consumer: a pull request that expires isn't told so.
    JsPullUnanswered,
    /// Consumer: what is left isn't counted again after a purge.
    JsPendingNotRecounted,
    /// Consumer: its filter is ignored.
    JsFilterIgnored,
    /// Consumer: an acknowledgement is answered, and the stream told of it, before it is durable.
    ConsumerAnswersEarly,
    /// Consumer: the floor goes up to what was delivered with any acknowledgement.
    ConsumerFloorPassesPending,
    /// Consumer: an entry doesn't say what became pending.
    ConsumerEntryLacksPending,
    /// Consumer: an entry doesn't say what is no longer pending.
    ConsumerEntryLacksSettled,
    /// Consumer: an entry doesn't say how often messages were delivered.
    ConsumerEntryLacksCounts,
    /// Consumer: one message more is pending than may be.
    ConsumerOnePendingTooMany,
    /// Consumer: a message is delivered again after half of its wait.
    ConsumerRedeliversEarly,
    /// Consumer: a message whose wait is over is forgotten.
    ConsumerNeverRedelivers,
    /// Consumer: a message is delivered once more than it may be.
    ConsumerDeliversTooOften,
    /// Consumer: a removed message stays among those that are left.
    ConsumerCountsRemoved,
    /// Consumer: after a purge it isn't looked what of the pending is gone.
    ConsumerKeepsPurged,
    /// Consumer: recovery starts at the ack floor.
    ConsumerRecoversFromFloor,
}

/// A fault point: a rare path that the code may always take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Point {
    /// The match cache forgets what it had.
    MatchCacheForgets,
    /// A batch of deliveries is closed after one entry.
    BatchOfOne,
    /// A small payload is shared instead of copied, or a large one copied.
    CopyOrShare,
    /// A shard believes that it owes another too much.
    OwedTooMuch,
    /// A subscriber is held to be badly behind.
    StallEarly,
    /// The block that connections read into is replaced by a fresh one.
    FreshReadBlock,
    /// The journal takes no change of a stream, as if the disk were full.
    JournalRefuses,
    /// A segment of a journal ends although there is room in it.
    JournalSegmentEnds,
    /// A journal asks who has little in its oldest segment to cover that, as if it were much.
    JournalAsksForLittle,
}

impl Point {
    /// All of them, in the order of their numbers.
    pub const ALL: [Point; 9] = [
        Point::MatchCacheForgets,
        Point::BatchOfOne,
        Point::CopyOrShare,
        Point::OwedTooMuch,
        Point::StallEarly,
        Point::FreshReadBlock,
        Point::JournalRefuses,
        Point::JournalSegmentEnds,
        Point::JournalAsksForLittle,
    ];
}

#[cfg(feature = "planted-bugs")]
mod switch {
    use std::cell::{Cell, RefCell};

    use super::{Bug, Point};
    use crate::rng::Rng;

    thread_local! {
        static BUG: Cell<Option<Bug>> = const { Cell::new(None) };
        static POINTS: RefCell<Option<Points>> = const { RefCell::new(None) };
        static POINTS_ON: Cell<u64> = const { Cell::new(0) };
        static WORK: Cell<u64> = const { Cell::new(0) };
    }

    struct Points {
        rng: Rng,
        one_in: u64,
        hits: [u64; Point::ALL.len()],
    }

    /// Arms `bug` on this thread, and the fault points whose bits are set in `points`, each to be taken once in
    /// `one_in` times by dice that belong to `seed`.
    pub fn arm(bug: Option<Bug>, points: u64, one_in: u64, seed: u64) {
        BUG.set(bug);
        POINTS_ON.set(points);
        let state = Points { rng: Rng::from_u64(seed), one_in, hits: [0; Point::ALL.len()] };
        POINTS.set(Some(state));
    }

    /// Disarms everything on this thread and returns how often each fault point was taken.
    pub fn disarm() -> [u64; Point::ALL.len()] {
        BUG.set(None);
        POINTS_ON.set(0);
        POINTS.take().map_or([0; Point::ALL.len()], |points| points.hits)
    }

    /// Returns whether the code is to be wrong in this way.
    #[inline]
    pub fn bug(which: Bug) -> bool {
        BUG.get() == Some(which)
    }

    /// Returns whether the rare path is to be taken this time.
    #[inline]
    pub fn point(which: Point) -> bool {
        POINTS_ON.get() & (1 << which as u8) != 0 && roll(which)
    }

    /// Counts a unit of work: an operation parsed, a delivery, a step of something long.
    #[inline]
    pub fn work() {
        WORK.set(WORK.get() + 1);
    }

    /// Returns the units of work counted on this thread since the last call.
    pub fn take_work() -> u64 {
        WORK.take()
    }

    fn roll(which: Point) -> bool {
        POINTS.with_borrow_mut(|points| {
            let Some(points) = points else { return false };
            let taken = points.rng.chance(1, points.one_in);
            points.hits[which as usize] += u64::from(taken);
            taken
        })
    }
}

#[cfg(feature = "planted-bugs")]
pub use switch::{arm, bug, disarm, point, take_work, work};

/// Returns whether the code is to be wrong in this way: never, in a build without planted bugs.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn bug(_: Bug) -> bool {
    false
}

/// Returns whether the rare path is to be taken this time: never, in a build without planted bugs.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn point(_: Point) -> bool {
    false
}

/// Counts nothing, in a build without planted bugs.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn work() {}

/// Returns zero, in a build without planted bugs.
#[cfg(not(feature = "planted-bugs"))]
#[inline(always)]
pub const fn take_work() -> u64 {
    0
}

#[cfg(all(test, feature = "planted-bugs"))]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_armed_answers_and_only_until_disarmed() {
        assert!(!bug(Bug::EchoIgnored));
        arm(Some(Bug::EchoIgnored), 1 << Point::BatchOfOne as u8, 2, 1);
        assert!(bug(Bug::EchoIgnored) && !bug(Bug::AccountLeak));
        let taken = (0..100).filter(|_| point(Point::BatchOfOne)).count() as u64;
        assert!(!point(Point::StallEarly));
        let hits = disarm();
        assert!(taken > 20 && taken < 80);
        assert_eq!(hits[Point::BatchOfOne as usize], taken);
        assert!(!bug(Bug::EchoIgnored) && !point(Point::BatchOfOne));
    }
}
