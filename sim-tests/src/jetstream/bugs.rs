//! Planted bugs of streams and consumers, and the scenario that each is looked for in.

use natrix_core::planted::Bug;

use super::report::Report;
use super::{Settings, find as find_scenario};

/// A planted bug and where to look for it.
#[derive(Clone, Copy, Debug)]
pub struct Planted {
    /// The bug.
    pub bug: Bug,
    /// Its name on the command line.
    pub name: &'static str,
    /// The scenario that catches it.
    pub scenario: &'static str,
}

macro_rules! planted {
    ($($bug:ident $name:literal in $scenario:literal;)*) => {
        /// All planted bugs of streams and consumers.
        pub const PLANTED: &[Planted] =
            &[$(Planted { bug: Bug::$bug, name: $name, scenario: $scenario },)*];
    };
}

planted! {
    JsAckBeforeCommit "ack-before-commit" in "jetstream-publish";
    JsAckOfNewest "ack-of-newest" in "jetstream-publish";
    JsDedupForgottenAtRestart "dedup-forgotten-at-restart" in "jetstream-publish";
    JsDedupIgnoresFlight "dedup-ignores-flight" in "jetstream-publish";
    JsExpectedUnchecked "expected-unchecked" in "jetstream-publish";
    JsFirstAckRemoves "first-ack-removes" in "jetstream-consume";
    JsOrphansStay "orphans-stay" in "jetstream-consume";
    JsDeletedComesBack "deleted-comes-back" in "jetstream-publish";
    JsRestoreAnsweredEarly "restore-answered-early" in "jetstream-publish";
    JsRestoredInPart "restored-in-part" in "jetstream-publish";
    JsRefusalAcknowledged "journal-refused-acked" in "jetstream-faults";
    JsStreamBeforeCatalogue "stream-before-catalogue" in "jetstream-publish";
    JsPendingNotRecounted "pending-not-recounted" in "jetstream-consume";
    ConsumerKeepsPurged "purged-kept-pending" in "jetstream-consume";
    JsOtherShardsForgotten "other-shards-forgotten" in "jetstream-publish";
    JsGoneStaysKnown "gone-stays-known" in "jetstream-publish";
    JsHeldDropped "held-dropped" in "jetstream-publish";
    JsConsumerNotWritten "consumer-not-written" in "jetstream-consume";
    ConsumerAnswersEarly "double-ack-early" in "jetstream-consume";
    ConsumerFloorPassesPending "floor-past-pending" in "jetstream-consume";
    ConsumerRedeliversEarly "redelivered-early" in "jetstream-consume";
    JsEntriesOfAnother "entries-of-another" in "jetstream-consume";
    JsPullUnanswered "pull-unanswered" in "jetstream-consume";
    ConsumerEntryLacksPending "entry-lacks-pending" in "jetstream-consume";
    ConsumerEntryLacksSettled "entry-lacks-settled" in "jetstream-consume";
    ConsumerNeverRedelivers "never-redelivers" in "jetstream-consume";
    ConsumerCountsRemoved "counts-removed" in "jetstream-consume";
    ConsumerRecoversFromFloor "recovers-from-floor" in "jetstream-consume";
    JsFilterIgnored "filter-ignored" in "jetstream-consume";
    JsScheduleNotEnded "schedule-not-ended" in "jetstream-schedule";
    JsScheduleRunsAgain "schedule-runs-again" in "jetstream-schedule";
    StoreFailsWhenFull "fails-when-full" in "jetstream-faults";
    JsLockedForgotten "locked-forgotten" in "jetstream-publish";
    JsStraysRemoved "strays-removed" in "jetstream-faults";
    ConsumerLossSkips "loss-skips" in "jetstream-faults";
    JsConvertedTooEarly "converted-too-early" in "jetstream-publish";
    JsConversionStalls "conversion-stalls" in "jetstream-publish";
    JsMarkBelieved "mark-believed" in "jetstream-faults";
}

/// How a planted bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// After so many seeds, the last one included.
    pub seeds: u64,
    /// What the seed that caught it said.
    pub report: Report,
}

impl Planted {
    /// Looks for the bug from seed `start` on, in at most `seeds` seeds. One that fails without the bug too says nothing.
    pub fn hunt(&self, start: u64, seeds: u64) -> Option<Caught> {
        let scenario = find_scenario(self.scenario)?;
        (start..start + seeds).find_map(|seed| {
            let report = scenario.run(seed, Settings { bug: Some(self.bug), print: false });
            let caught = !report.violations.is_empty()
                && scenario.run(seed, Settings::default()).violations.is_empty();
            caught.then(|| Caught { seeds: seed - start + 1, report })
        })
    }
}

/// Returns the planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
