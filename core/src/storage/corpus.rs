//! The seeds of the fuzz targets, on every build: what a store makes of bytes that it didn't write.

use crate as api;

#[expect(unreachable_pub, reason = "the fuzz targets share it")]
#[path = "../../../sim-tests/fuzz/harness/storage.rs"]
mod harness;

/// Runs `check` over the seeds of a target; `least` is how many there are, and how many of them mean anything, at least.
fn over_seeds(target: &str, check: fn(&[u8]) -> bool, least: (usize, usize)) {
    let folder = format!("{}/../sim-tests/fuzz/seeds/{target}", env!("CARGO_MANIFEST_DIR"));
    let (mut seeds, mut taken) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        #[expect(clippy::disallowed_methods, reason = "a test's data")]
        let data = std::fs::read(entry.unwrap().path()).unwrap();
        seeds += 1;
        taken += usize::from(check(&data));
    }
    assert!(seeds >= least.0 && taken >= least.1, "the corpus has gone: {taken} of {seeds} seeds are taken");
}

#[test]
fn entries_mean_the_same_when_they_are_written_again() {
    over_seeds("change", harness::check_change, (20, 10));
}

#[test]
fn an_index_file_takes_no_more_memory_than_its_bytes() {
    over_seeds("block_index", harness::check_index, (10, 2));
}

#[test]
fn of_a_block_nothing_is_served_that_was_not_written() {
    over_seeds("block_scan", harness::check_block, (30, 15));
}

#[test]
fn a_manifest_that_lies_makes_nobody_serve_what_was_not_written() {
    over_seeds("manifest", harness::check_manifest, (35, 10));
}

#[test]
fn of_a_journal_nothing_is_told_that_was_not_written() {
    over_seeds("journal", harness::check_journal, (35, 20));
}
