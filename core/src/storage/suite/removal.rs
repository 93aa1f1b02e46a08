//! Removing, erasing, purging, compacting, truncating, skipping.

use super::{config, transcripts};
use crate::storage::StoreConfig;

#[test]
fn messages_come_and_go() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "state; store foo 5 x3; store bar; remove 2; remove 2; remove 9; remove 1; next > 1; next bar 1; \
            previous > 9; previous foo 9; previous foo 2; last foo; last nobody; subject 3; subject 2; subject 0; \
            subject 99; remove 4; remove 3; store foo",
        ),
        (config(), "store foo 11 x5; load 2; load 3; remove 1; remove 5; remove 3; load 3; load 4; state"),
        // Over the borders of blocks, the first message last.
        (config(), "store zzz 30 x30; remove 2 to 17; load 18; remove 1; load 18; store zzz 30; load 31"),
        // What is removed first, last, in the middle, and gaps that close.
        (
            config(),
            "store a 12 x10; remove 2; remove 4; remove 8; remove 1; remove 3; remove 5; remove 7; remove 6"
        ),
        (config(), "store a x100; remove 1 to 50; restart; load 50; load 51; store a"),
        (
            config(),
            "store a 20 x12; remove 2; remove 4; remove 6; remove 8; remove 10; remove 1; remove 3; purge >"
        ),
    ]));
}

#[test]
fn every_second_message_stays() {
    let odd: String = (1..=20).map(|n| format!("remove {};", 2 * n)).collect();
    let erased = odd.replace("remove", "erase");
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            &format!("store a 20 x40; {odd} load 1; load 2; restart; load 39; load 40; purge > keep 5")
        ),
        (config(), &format!("store a 20 x40; {erased} load 1; load 2; restart; load 39; load 40; totals >")),
    ]));
}

#[test]
fn an_erased_message_is_removed_and_its_neighbours_are_not() {
    insta::assert_snapshot!(transcripts(&[
        (config(), "store foo 11 x2; erase 1; erase 1; load 1; load 2; store foo; erase 3; store bar"),
        // What was said to be gone behind it, in its block or in others, stays gone.
        (config(), "store foo x3; remove 2; store foo; erase 3; load 2; load 3; restart; load 4"),
        (
            config(),
            "store foo 20 x30; remove 2; erase 29; remove 30; erase 28; restart; load 27; load 2; store foo"
        ),
        // Where sequences were skipped, around it and behind it.
        (config(), "store foo 3; skip 2 10; store foo 3; erase 1; load 12; restart; load 12"),
        (config(), "store foo 3; store foo 7; skip 3 10; erase 2; load 1; store foo"),
        (config(), "store t.# 4 x3; erase 1; totals >; states >; last t.1; pending t.* 1; restart; totals >"),
        (config(), "store foo 60 x3; erase 2; store foo 60; state; compact 4; load 4"),
    ]));
}

#[test]
fn purges_take_what_they_say() {
    let fill = "store a x3; store b x3; store a.b x2; store a x2;";
    let all = |rest: &str| format!("{fill}{rest}");
    insta::assert_snapshot!(transcripts(&[
        (config(), &all("purge >; store a; purge >; restart; store a; remove 12; store a")),
        (
            config(),
            &all(
                "purge > below 1; purge a below 1; purge a below 1 keep 3; purge > below 5; purge > below 50; store a"
            )
        ),
        (config(), &all("purge > keep 3; purge > keep 3; purge > keep 9; purge > below 1 keep 3")),
        (config(), &all("purge a; purge a; purge b keep 1; purge *.* keep 5; purge nobody")),
        (config(), &all("purge a below 3; purge a below 9 keep 1; purge >")),
        (config(), &all("remove 2; purge a keep 2; purge a.* keep 1; compact 0; compact 3")),
        (config(), "purge >; state; purge > below 0; store a"),
    ]));
}

#[test]
fn a_purge_goes_through_many_blocks() {
    let two: String = (0..15).map(|_| "store A 10; store B 10;").collect();
    insta::assert_snapshot!(transcripts(&[
        (config(), &format!("{two} purge A; load 1; load 2; purge > keep 2; purge >; store A")),
        (
            config(),
            &format!("{two} purge A keep 1; states >; purge B below 20; states >; restart; load 29; load 30")
        ),
        (
            config(),
            "store f.0 20; store f.1 20 x60; store f.2 6; purge f.1; states >; restart; store f.1; states >"
        ),
        (config(), "store f.1 20 x60; store f.2 20; purge f.1; states >; restart; load 61; store f.1"),
        (
            config(),
            "store A 4; store B 128; store A 4; store B 128; filtered A 1; purge A keep 1; filtered A 1"
        ),
        (config(), "store f.# 3 x10; remove 8 to 10; purge > below 8; restart; store f.1"),
        (config(), "store a; store b; purge c; purge c.*; purge b; load 1"),
        (
            config(),
            "purge > below 1000000000; store f.# 5 x40; remove 1000000001 to 1000000030; load 1000000031; \
            remove 1000000000; restart; load 1000000039; store f"
        ),
    ]));
}

#[test]
fn compaction_and_truncation_cut_the_ends() {
    let fill = "store a x4; store b x4; remove 3; remove 4;";
    let all = |rest: &str| format!("{fill}{rest}");
    insta::assert_snapshot!(transcripts(&[
        (config(), &all("compact 3; compact 2; compact 7; compact 9; compact 20; store c")),
        (config(), &all("compact 5; last a; filtered a 1; totals >")),
        (config(), &all("truncate 6; last b; truncate 4; store c; truncate 2; truncate 0; store d")),
        (config(), &all("remove 8; truncate 8; truncate 7; state")),
    ]));
}

#[test]
fn compaction_takes_what_is_below_and_no_more() {
    insta::assert_snapshot!(transcripts(&[
        (config(), "store foo 11 x10; compact 6; compact 100; restart; state; store foo; load 100"),
        (config(), "store foo 100 x40; compact 41; store foo 100; load 41"),
        (
            config(),
            "store foo 5 x10; erase 2; erase 3; erase 4; remove 7; remove 8; remove 9; compact 6; states >"
        ),
        (config(), "store foo x100; remove 100; compact 100; store foo; state"),
        (config(), "store foo 4 x5; compact 5; store foo 4 x5; compact 10; load 10; store foo; load 11"),
        (
            config(),
            "store f.# 11 x60; compact 31; totals f.2; totals f.31; store f.31; states f.31; lasts f.31,f.9"
        ),
        (config(), "store foo; compact 2; restart; state; store foo"),
        (config(), "store foo 300; skip 2 1; compact 2; skip 3 1; restart; state; store foo; load 4"),
        (config(), "store foo 60 x20; compact 20; load 20; restart; load 20"),
        (config(), "store foo x3; remove 2; compact 2; store foo"),
        (config(), "store foo x3; remove 2; compact 3"),
        (config(), "store foo x3; remove 2; compact 4"),
        // Everything behind the first is gone already: what is left is nothing.
        (config(), "store foo x3; remove 2; remove 3; compact 2; times"),
        (config(), "store foo 30 x4; remove 1; remove 4; compact 3; states foo; restart; load 3; store foo"),
        (config(), "store first; compact 2; store second; load 2"),
    ]));
}

#[test]
fn truncation_makes_the_end_as_if_it_had_never_been() {
    let per = StoreConfig { max_messages_per_subject: 3, ..config() };
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store foo 2 x49; store bar 2 x51; truncate 50; remove 10; remove 20; remove 30; remove 40; \
            truncate 25; restart; states >; store bar; load 26"
        ),
        (config(), "store foo 11 x60; truncate 0; store foo 11 x60; states >; load 1; load 60"),
        (config(), "store foo 100 x2; truncate 1; load 1; load 2; store bar; load 2"),
        (config(), "store foo x2; store foo; remove 2; truncate 2; store foo; restart; load 3"),
        (config(), "store foo x2; store foo; erase 2; truncate 2; store foo; restart; load 3"),
        // The end was removed before, in a block that is gone.
        (config(), "store foo 100 x12; remove 5 to 8; truncate 7; state; restart; store foo; load 8"),
        (config(), "store foo x3; remove 2; truncate 1; store foo"),
        (config(), "store foo x3; remove 2; truncate 0; store foo"),
        (per, "store a x5; truncate 4; store a x2; states a"),
        (config(), "store foo; store foo; remove 2; restart; truncate 2; state"),
    ]));
}

#[test]
fn skipped_sequences_have_no_messages() {
    insta::assert_snapshot!(transcripts(&[
        (config(), "skip 0 10; skip 5 1; store a; skip 12 3; skip 0 1000; store a; remove 11"),
        (config(), "store a; skip 2 1; raw 9 b; raw 3 b; sync 1+1; sync 1+99"),
        (config(), "skip 0 10; store zzz 12; skip 0 1; skip 0 1; store zzz 12; skip 0 1; load 11; skip 0 1; store AAA; \
            load 17; restart; load 17"),
        (config(), "skip 10 100; skip 1 100; skip 101 100000; restart; store a; load 100101"),
        (config(), "store foo; skip 2 10; load 5; restart; store foo; load 12; deleted"),
        (config(), "skip 0 22; restart; restart; restart; state"),
        (config(), "skip 0 1; restart; state; store a"),
        (config(), "store foo; skip 2 3; restart; state; store foo"),
        (config(), "skip 1 1; skip 2 3; restart; state; store foo"),
        (config(), "store foo; skip 0 1; restart; state"),
        (config(), "store foo; skip 0 0; store foo"),
    ].map(|(config, script)| (config, script.trim_end_matches("; deleted")))));
}

#[test]
fn a_leader_says_what_is_deleted() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store foo 30 x20; sync 1+1; sync 1+1; sync 1+2; sync 3+2; sync 9+5; sync 8+1; sync 17+1; sync 20+1; \
            sync 7+12; restart; load 19; sync 1+20; store foo"
        ),
        (
            config(),
            "store foo 16 x20; sync 5+2; sync 4+8; sync 13+2; sync 13+8; sync 10+11; sync 1+30; store foo"
        ),
        (
            config(),
            "store foo 60 x20; remove 10; remove 15; remove 11; remove 5; remove 6 to 9; remove 3; \
            remove 16 to 18; remove 1; remove 20; remove 19; restart; load 2"
        ),
        (
            config(),
            "store foo 20 x20; remove 4; remove 3; remove 2; remove 10; store foo 20 x4; remove 14; remove 15; \
            sync 4+14; sync 1+100; restart; store foo; load 25"
        ),
    ]));
}
