//! A store in files against the same stream in memory: whatever is asked of it, whatever it is written with, and wherever
//! the power fails.

mod behind;
mod crash_disk;
mod cuts;
mod damage;
mod mend;
mod misread;
mod model;
mod moved;
mod removal;
mod scrub;
mod world;

/// Each planted bug of this room is caught by a test of it.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_caught() {
    use crate::planted::{Bug, arm, disarm};
    use cuts::*;
    use damage::*;
    use mend::*;
    use misread::*;
    use model::*;
    use moved::*;
    use removal::*;
    use scrub::*;

    let caught: [(Bug, fn()); 36] = [
        (Bug::CoveredBeforeSync, the_power_may_fail_at_any_request),
        (Bug::CoveredBeforeSync, nothing_is_covered_before_it_is_synced_named_and_recorded),
        (Bug::IndexTrustedOverBlock, an_index_is_of_one_version_of_its_block),
        (Bug::BlockChecksumUnverified, a_flipped_bit_costs_what_it_is_in),
        (Bug::DamageDropsRestOfBlock, a_flipped_bit_costs_what_it_is_in),
        (Bug::TombstoneLost, the_power_may_fail_at_any_request),
        (Bug::StoreNameNotSynced, the_power_may_fail_at_any_request),
        (Bug::StoreMarkInsideEntry, the_power_may_fail_at_any_request),
        (Bug::StoreDropBeforeRecord, the_power_may_fail_at_any_request),
        (Bug::StoreTombstonesDropped, a_store_in_files_is_the_stream_in_memory),
        (Bug::StoreRewriteBeforeRecord, the_power_may_fail_at_any_request),
        (Bug::StoreSettingsTooEarly, the_power_may_fail_at_any_request),
        (Bug::StoreEraseSkipped, an_erased_message_is_nowhere_on_the_disk),
        (Bug::StoreCutTooEarly, a_cut_is_not_recorded_before_what_comes_behind_it),
        (Bug::StoreAppliedTwice, the_power_may_fail_at_any_request),
        (Bug::StoreLossUntold, a_lost_sector_a_cut_a_missing_file_are_told),
        (Bug::StoreOlderBlockTrusted, a_block_from_before_it_was_written_anew_is_not_served),
        (Bug::StoreGivenUpBlockTrusted, a_block_that_was_given_up_stays_so),
        (Bug::StoreFailsWhenFull, a_disk_that_was_full_for_a_while_costs_nothing),
        (Bug::StoreGapNotBridged, what_the_journal_has_lost_costs_itself),
        (Bug::StoreRemovalTooEarly, a_removed_stream_leaves_nothing_wherever_the_power_fails),
        (Bug::StoreScrubReadOnce, what_is_read_wrong_once_is_no_damage),
        (Bug::StoreRecoveryReadOnce, what_recovery_reads_wrong_once_is_read_again),
        (Bug::StoreDamageRemoved, a_block_with_damage_is_not_removed_while_what_it_had_is_missed),
        (Bug::StoreNameNotSynced, nothing_is_covered_before_it_is_synced_named_and_recorded),
        (Bug::StoreRecoveryReadOnce, what_a_start_reads_wrong_once_costs_nothing),
        (Bug::StoreSyncsAgain, a_sync_that_fails_costs_nothing_whichever_it_is),
        (Bug::StoreDamageBySequence, what_rots_after_a_cut_is_what_is_there),
        (Bug::StoreLossHidden, what_rots_after_a_cut_is_what_is_there),
        (Bug::StoreIndexLeftOut, what_rots_after_a_start_without_indexes_is_told),
        (Bug::StoreBareEvicted, what_has_damage_and_rots_further_is_told),
        (Bug::StoreTimeOfOthers, what_a_stream_had_before_it_was_emptied_says_nothing_of_it),
        (Bug::StoreSpoiledUncut, a_block_with_damage_that_is_cut_takes_nothing_with_it_that_came_later),
        (Bug::StoreEraseBeforeIndex, a_power_cut_while_a_message_is_erased_is_no_damage),
        (Bug::StoreScrubKeepsIndex, what_rots_is_found_told_and_never_served),
        (Bug::StoreReadsKeepPlaces, whoever_reads_while_blocks_are_written_anew_is_answered),
    ];
    let mut missed = Vec::new();
    for (bug, test) in caught {
        arm(Some(bug), 0, 1, 1);
        let result = std::panic::catch_unwind(test);
        disarm();
        if result.is_ok() {
            missed.push(bug);
        }
    }
    assert_eq!(missed, [], "these go unnoticed");
}
