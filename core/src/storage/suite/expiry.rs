//! Ages, times to live, markers, schedules.

use super::{config, transcripts};
use crate::storage::StoreConfig;
use crate::time::Duration;

fn aged(seconds: u64) -> StoreConfig {
    StoreConfig { max_age: Duration::from_secs(seconds), ..config() }
}

fn living() -> StoreConfig {
    StoreConfig { allow_message_ttl: true, ..config() }
}

#[test]
fn what_is_too_old_is_due() {
    insta::assert_snapshot!(transcripts(&[
        (
            aged(10),
            "store a; store a; store a; remove 2; expire 9; expire 10; expire 12; store a; expire 999"
        ),
        (
            aged(10),
            "store a 20 x60; expire 9; expire 10; store a 20 x60; remove 72; remove 82; expire 12; expire 13; store b"
        ),
        (aged(10), "store a 20 x30; restart; expire 10; state; restart; store a; load 31"),
        // Half of them, in and out of blocks that are gone as a whole.
        (
            aged(10),
            "store o.# 40 x10; clock 5; store o.# 40 x10; filtered o.* 1; restart; expire 10; filtered o.* 1; \
            states o.5; expire 15; restart; store o.1"
        ),
        (aged(10), "store A 19; store B 19; clock 5; store C 19; restart; expire 10; totals >"),
        // The first that is not too old was removed.
        (
            aged(10),
            "store foo 30 x7; clock 9; store foo 30; store foo 30; remove 8; restart; expire 12; times; next > 0; \
            expire 20; times; restart; times; store foo"
        ),
        (aged(10), "store foo; restart; expire 11; totals >; store foo"),
        (aged(10), "store foo x5; expire 11; store foo 4 x5; load 10; restart; load 10"),
    ]));
}

#[test]
fn a_schedule_is_due_until_its_message_is_gone() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store a at 50; store b at 40; schedules 39; schedules 40; schedules 99; restart; schedules 99"
        ),
        (config(), "store a at 50; store a at 60; store a at 70; schedules 99; restart; schedules 99"),
        // What a schedule has made doesn't take the place of another.
        (config(), "store a at 50; store a scheduled; store b; schedules 99; restart; schedules 99"),
        (config(), "store a at 50; store b at 51; remove 1; purge b; schedules 99; restart; schedules 99"),
        (
            config(),
            "store a at 50; store b at 51; store c at 52; truncate 2; schedules 99; store d; schedules 99; restart; \
            schedules 99"
        ),
        (
            config(),
            "store a.# 30 x40 at 50; compact 38; schedules 99; restart; schedules 99; purge >; schedules 99; store a; \
            schedules 99"
        ),
        (
            StoreConfig { max_messages: 3, ..config() },
            "store a at 50; store b x2; schedules 99; store b; schedules 99; restart; schedules 99"
        ),
    ]));
}

#[test]
fn a_message_may_have_a_time_to_live_of_its_own() {
    insta::assert_snapshot!(transcripts(&[
        (
            living(),
            "store a ttl 5; store a; store b ttl 100; remove 3; store c ttl 5; expire 4; expire 5; expire 8"
        ),
        (living(), "store test ttl 1 x10; due 0; due 1; expire 1; state; store test"),
        (living(), "store test; store test ttl 1 x9; restart; due 1; due 2; expire 2; restart; state"),
        (living(), "store test ttl 1; restart; due 0; expire 1; restart; state"),
        (living(), "store test ttl 1; store test; expire 1; restart; load 1; load 2; due 99"),
        (
            living(),
            "store test 30 ttl 120 x12; remove 3; truncate 10; compact 3; restart; due 119; due 120; expire 120"
        ),
        (
            StoreConfig { max_age: Duration::from_secs(50), ..living() },
            "store a ttl 5; store a; due 5; expire 5; due 51; expire 51"
        ),
    ]));
}

#[test]
fn a_marker_takes_the_place_of_the_last_message_of_a_subject() {
    let marked = StoreConfig {
        subject_delete_marker_ttl: Duration::from_secs(30),
        max_age: Duration::from_secs(10),
        ..living()
    };
    let own = StoreConfig { max_age: Duration::ZERO, ..marked.clone() };
    insta::assert_snapshot!(transcripts(&[
        // All but the last are removed, a marker takes its place, and leaves none when its own time is over.
        (
            marked.clone(),
            "store test x3; due 9; due 10; expire 10; load 4; totals >; due 30; expire 40; due 99; state"
        ),
        (
            marked.clone(),
            "store a; store b x2; store a; store c; clock 8; store c; due 12; expire 12; states >; restart; \
            load 7; load 8; expire 18; states >; expire 50; times"
        ),
        // A message that came in between is the last one now.
        (
            marked.clone(),
            "store a 60; store b 60; clock 9; store a 60; due 15; expire 15; states >; restart; expire 19; states >"
        ),
        (
            own.clone(),
            "store a ttl 5; store a ttl 5; store b ttl 5; store b; due 9; expire 9; states >; load 5; expire 38; expire 39; totals >"
        ),
        // Switched off, nothing is left behind.
        (
            own,
            "store a ttl 5; configure ttl=true; due 9; expire 9; store a ttl 5; configure ttl=true markers=20; due 99; expire 99; \
            load 3"
        ),
    ]));
}

#[test]
fn times_to_live_count_only_where_the_stream_allows_them() {
    insta::assert_snapshot!(transcripts(&[
        (config(), "store a ttl 5; expire 99; load 1"),
        (
            config(),
            "store a ttl 5; due 99; configure ttl=true; store a ttl 5; due 99; expire 99; configure; store a ttl 5; \
            due 99; expire 99; load 3; configure ttl=true; due 99"
        ),
    ]));
}
