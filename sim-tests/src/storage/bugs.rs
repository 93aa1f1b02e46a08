//! Planted bugs of the store, and the explorer that each is looked for in.

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
        /// All planted bugs of the store.
        pub const PLANTED: &[Planted] =
            &[$(Planted { bug: Bug::$bug, name: $name, scenario: $scenario },)*];
    };
}

planted! {
    JournalAckBeforeSync "journal-ack-before-sync" in "storage-journal";
    JournalSegmentRecycledEarly "journal-segment-recycled-early" in "storage-journal";
    JournalTornTailKept "journal-torn-tail-kept" in "storage-journal";
    JournalTailCutTooShort "journal-tail-cut-too-short" in "storage-journal";
    JournalCopyForwardLost "journal-copy-forward-lost" in "storage-journal";
    JournalStaleSegmentReplayed "journal-stale-segment-replayed" in "storage-journal";
    JournalPositionReused "journal-position-reused" in "storage-journal";
    JournalFailedSyncRetried "journal-failed-sync-retried" in "storage-faults";
    JournalDamageUnreported "journal-damage-unreported" in "storage-damage";
    JournalMagicOnly "journal-magic-only" in "storage-journal";
    JournalForgottenReplayed "journal-forgotten-replayed" in "storage-journal";
    JournalEntryUnverified "journal-entry-unverified" in "storage-journal";
    JournalTailTrusted "journal-tail-trusted" in "storage-journal";
    JournalForgottenToldEarly "journal-forgotten-told-early" in "storage-journal";
    JournalNumbersIgnored "journal-numbers-ignored" in "storage-damage";
    JournalVoidReplayed "journal-void-replayed" in "storage-damage";
    JournalReadOnce "journal-read-once" in "storage-faults";
    JournalDueForEver "journal-due-for-ever" in "storage-faults";
    JournalCopyTrusted "journal-copy-trusted" in "storage-faults";
    CoveredBeforeSync "covered-before-sync" in "storage-file";
    TombstoneLost "tombstone-lost" in "storage-file";
    StoreNameNotSynced "store-name-not-synced" in "storage-file";
    StoreMarkInsideEntry "store-mark-inside-entry" in "storage-file";
    StoreDropBeforeRecord "store-drop-before-record" in "storage-file";
    StoreTombstonesDropped "store-tombstones-dropped" in "storage-file";
    StoreRewriteBeforeRecord "store-rewrite-before-record" in "storage-file";
    StoreSettingsTooEarly "store-settings-too-early" in "storage-file";
    StoreAppliedTwice "store-applied-twice" in "storage-file";
    StoreExpiredBack "store-expired-back" in "storage-file";
    StoreSyncSkipsClosed "store-sync-skips-closed" in "storage-file";
    StoreRewriteRecordedEarly "store-rewrite-recorded-early" in "storage-file";
    VolumeAppliesEarly "volume-applies-early" in "storage-file";
    StoreScrubReadOnce "store-scrub-read-once" in "storage-file";
    StoreScrubDropsBlock "store-scrub-drops-block" in "storage-file";
    StoreScrubKeepsIndex "store-scrub-keeps-index" in "storage-file";
    StoreCutTooEarly "store-cut-too-early" in "storage-file";
    StoreEraseSkipped "store-erase-skipped" in "storage-file";
    StoreDamageRemoved "store-damage-removed" in "storage-file";
    StoreDamageBySequence "store-damage-by-sequence" in "storage-file";
    StoreLossHidden "store-loss-hidden" in "storage-file";
    StoreTimeOfOthers "store-time-of-others" in "storage-file";
    BlockChecksumUnverified "block-checksum-unverified" in "storage-file";
    IndexTrustedOverBlock "index-trusted-over-block" in "storage-file";
    DamageDropsRestOfBlock "damage-drops-rest-of-block" in "storage-file";
}

/// How a planted bug was caught.
#[derive(Clone, Debug)]
pub struct Caught {
    /// After so many seeds, the last one included.
    pub seeds: u64,
    /// After so many crash points, those of all these seeds.
    pub crash_points: u64,
    /// What the seed that caught it said.
    pub report: Report,
}

impl Planted {
    /// Returns the seed that is known to catch the bug, if that takes more seeds than are worth looking through each time.
    pub fn kept_seed(&self) -> Option<u64> {
        match self.bug {
            Bug::JournalCopyTrusted => Some(1567),
            Bug::StoreLossHidden => Some(291),
            Bug::StoreDamageBySequence => Some(307),
            Bug::StoreTimeOfOthers => Some(337),
            _ => None,
        }
    }

    /// Looks for the bug from seed `start` on, in at most `seeds` seeds. One that fails without the bug too says nothing.
    pub fn hunt(&self, start: u64, seeds: u64) -> Option<Caught> {
        let scenario = find_scenario(self.scenario)?;
        let mut crash_points = 0;
        (start..start + seeds).find_map(|seed| {
            let report = scenario.run(seed, Settings { bug: Some(self.bug), print: false });
            crash_points += report.crash_points;
            let caught =
                report.violation.is_some() && scenario.run(seed, Settings::default()).violation.is_none();
            caught.then(|| Caught { seeds: seed - start + 1, crash_points, report })
        })
    }
}

/// Returns the planted bug of that name.
pub fn find(name: &str) -> Option<&'static Planted> {
    PLANTED.iter().find(|planted| planted.name == name)
}
