//! What a journal promises, on disks that keep everything and on disks that don't.

mod crash_disk;
mod explorer;
mod leaving;
mod promises;

use explorer::explore;

#[test]
fn what_was_committed_survives_crashes() {
    let seeds: u64 = option_env!("NATRIX_JOURNAL_SEEDS").and_then(|text| text.parse().ok()).unwrap_or(400);
    let (mut crashes, mut recovered, mut left, mut torn, mut damaged, mut recycled) = (0, 0, 0, 0, 0, 0);
    for seed in 0..seeds {
        match explore(seed) {
            Ok(stats) => {
                crashes += stats.crashes;
                recovered += stats.recovered;
                left += stats.left;
                torn += stats.torn;
                damaged += stats.damaged;
                recycled += stats.recycled;
            }
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(crashes > seeds && recovered > seeds, "{crashes} crashes, {recovered} recovered");
    assert!(left > 0 && torn > 0 && damaged > 0 && recycled > 0, "{left} {torn} {damaged} {recycled}");
}

#[cfg(feature = "planted-bugs")]
mod planted_bugs {
    use super::explore;
    use crate::planted::{Bug, arm, disarm};

    /// The first seed that catches a bug, among so many.
    fn caught(bug: Bug, seeds: u64) -> Option<(u64, String)> {
        (0..seeds).find_map(|seed| {
            arm(Some(bug), 0, 1, seed);
            // A wrong journal may also trip over one of its own assertions.
            let outcome = std::panic::catch_unwind(|| explore(seed));
            disarm();
            match outcome {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => Some((seed, error)),
                Err(_) => Some((seed, "panic".to_owned())),
            }
        })
    }

    #[test]
    fn a_journal_begun_over_remains_is_caught() {
        arm(Some(Bug::JournalBegunOverRemains), 0, 1, 1);
        let outcome =
            std::panic::catch_unwind(super::promises::a_journal_that_lost_its_header_is_not_begun_anew);
        disarm();
        assert!(outcome.is_err());
    }

    #[test]
    fn what_is_written_again_and_not_vouched_for_is_caught() {
        arm(Some(Bug::JournalRewrittenUnvouched), 0, 1, 1);
        let outcome = std::panic::catch_unwind(super::promises::damage_to_what_recovery_wrote_again_is_told);
        disarm();
        assert!(outcome.is_err());
    }

    #[test]
    fn a_newest_batch_that_nothing_vouches_for_is_caught() {
        arm(Some(Bug::JournalLastUnvouched), 0, 1, 1);
        let test = super::promises::damage_to_the_newest_batch_is_told_when_it_was_vouched_for;
        let outcome = std::panic::catch_unwind(test);
        disarm();
        assert!(outcome.is_err());
    }

    #[test]
    fn files_that_say_what_is_not_so_are_caught() {
        let caught: [(Bug, fn()); 2] = [
            (Bug::JournalSealOfNewest, super::leaving::one_file_that_is_put_back_is_enough),
            (Bug::JournalCopiesVouched, super::leaving::what_nobody_takes_is_left_again_at_each_start),
        ];
        for (bug, test) in caught {
            arm(Some(bug), 0, 1, 1);
            let outcome = std::panic::catch_unwind(test);
            disarm();
            assert!(outcome.is_err(), "{bug:?}");
        }
    }

    #[test]
    fn a_damaged_segment_that_is_copied_is_caught() {
        arm(Some(Bug::JournalDamagedCopied), 0, 1, 1);
        let test = super::promises::what_is_damaged_meanwhile_is_asked_for_before_its_segment_goes;
        let outcome = std::panic::catch_unwind(test);
        disarm();
        assert!(outcome.is_err());
    }

    #[test]
    fn every_planted_bug_is_caught() {
        let bugs = [
            Bug::JournalAckBeforeSync,
            Bug::JournalSegmentRecycledEarly,
            Bug::JournalTornTailKept,
            Bug::JournalTailCutTooShort,
            Bug::JournalCopyForwardLost,
            Bug::JournalStaleSegmentReplayed,
            Bug::JournalPositionReused,
            Bug::JournalFailedSyncRetried,
            Bug::JournalDamageUnreported,
            Bug::JournalMagicOnly,
            Bug::JournalForgottenReplayed,
            Bug::JournalEntryUnverified,
            Bug::JournalTailTrusted,
        ];
        let mut missed = Vec::new();
        for bug in bugs {
            match caught(bug, 1000) {
                Some((seed, error)) => println!("{bug:?}: seed {seed}: {error}"),
                None => missed.push(bug),
            }
        }
        assert!(missed.is_empty(), "{missed:?}");
    }
}
