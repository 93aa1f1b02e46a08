//! What is asked of a stream: next, previous, last, pending, counts, times.

use super::{config, transcripts};
use crate::storage::StoreConfig;

#[test]
fn questions_by_subject_see_what_is_there() {
    let fill = "store orders.1; store orders.2 x2; store bills.1; store orders.1; store other; remove 2;";
    let questions = "pending > 1; pending > 4; pending orders.* 1; pending orders.* 4; pending orders.1 2; pending >.x 1; \
        pending orders.* 1 last; pending orders.1,bills.> 1; pending orders.1,bills.> 5; pending > 9; pending > 1 last; \
        filtered orders.* 1; filtered orders.* 4; filtered nobody 1; totals >; totals orders.*; totals *.1,other; lasts >; \
        lasts orders.*; lasts > max 4; lasts > max 1; lasts > allow 2; lasts bills.1,other allow 2; next orders.* 2; \
        next *.1 2; next bills.1,other 1; next other 1; previous orders.* 9; previous *.1 4; last *.1; remove 5; \
        lasts orders.1; last orders.1; pending orders.1 1 last";
    insta::assert_snapshot!(transcripts(&[(config(), &format!("{fill}{questions}"))]));
}

#[test]
fn a_subject_knows_its_first_and_last_message() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store foo x4; states foo; next foo 0; last foo; remove 1; states foo; next foo 0; remove 4; states foo; \
            last foo; remove 2; states foo; last foo; next foo 0; store foo x3; states foo; remove 7; remove 3; remove 5; \
            states foo; next foo 0; last foo; store foo; remove 8; states foo"
        ),
        // Whichever end goes first, one message is both ends.
        (
            config(),
            "store foo x3; remove 2; remove 1; states foo; next foo 0; last foo; store foo x2; remove 3; remove 5; \
            states foo; next foo 0; last foo; store foo x2; remove 7; remove 4; next foo 0; last foo; states foo; \
            store foo x2; remove 9; remove 8; next foo 0; last foo; states foo"
        ),
        (
            config(),
            "store foo x3; lasts foo; remove 3; lasts foo; store foo; last foo; remove 4; last foo; lasts foo"
        ),
        (
            config(),
            "store foo 60; store foo 60; next foo 0; remove 2; next foo 0; states foo; restart; states foo"
        ),
        (
            config(),
            "store A 22 x2; store B 22 x2; remove 1; store A 22 x2; last A; next A 0; last B; states >"
        ),
        (
            config(),
            "store foo; store bar; store foo; remove 1; remove 2; states >; next foo 0; pending foo 1"
        ),
    ]));
}

#[test]
fn the_next_message_is_found_from_anywhere() {
    let sparse = "store b.# x40; store f.1; store b.# x40;";
    let skipped = "store a 20 x30; store b 20;";
    let two = "store c 20; store a 20; store c 20; store a 20; store c 20; store a 20;";
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store foo.# x50; next foo.> 1; next foo.> 50; next foo.2,foo.22,foo.49 1; \
            next foo.2,foo.22,foo.49 3; next foo.2,foo.22,foo.49 23; next foo.2,foo.22,foo.49 50"
        ),
        (
            config(),
            &format!(
                "{sparse} next f.* 1; next f.* 41; next f.* 42; next f.1 0; next f.1,f.2 0; previous f.* 81"
            )
        ),
        (
            config(),
            &format!(
                "{skipped} next b 0; next b 3; next b,x 0; next b,x 3; next b 31; next b 32; last *; last a"
            )
        ),
        (
            config(),
            &format!("{two} {two} store b 20; next b 0; next b 3; next b,x 0; next b,x 3; next a,b 12")
        ),
        (
            config(),
            "store foo.foo x3; next foo.foo 4; store foo.bar; next foo.foo 4; next foo.foo,x 3; next foo.foo,x 4"
        ),
        (
            config(),
            "store foo.bar.# 99 x20; remove 1; next foo.> 1; subject 2; totals foo.bar.1; next foo.bar.1 0"
        ),
        // A block in the middle is gone, and the subject's first message with it.
        (
            config(),
            "store BB 100 x2; store AA 100; store BB 100 x5; store AA 100 x2; remove 3; remove 4; next AA 4; \
            next AA 9; next AA 11; next AA 1"
        ),
        (
            config(),
            "store BB 60; store AA 60; store BB 60 x6; store AA 60 x2; store BB 60 x4; remove 1; remove 2; \
            next AA 11; next AA 0; next AA,CC 11; last AA"
        ),
        (
            config(),
            "store f.bar 60; store f.baz 60; store f.bar 60; store f.baz 60 x17; next *.bar 4; next *.bar 3"
        ),
        (config(), "store f.A 90 x60; store f.B 90 x3; restart; next f.B 0; next f.B 63; next f.B 64"),
    ]));
}

#[test]
fn the_previous_message_is_found_from_anywhere() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store foo.1; store bar.1; store foo.2; store bar.2; store foo.3; previous > 5; previous foo.2 5; \
            previous foo.* 5; previous foo.* 4; previous baz.* 5; previous > 0; previous > 99; previous > 1"
        ),
        (
            config(),
            "store foo.# 9 x110; previous foo.5,foo.15,foo.105 110; previous foo.5,foo.15,foo.105 104; \
            previous foo.5,foo.15,foo.105 14; previous foo.5,foo.15,foo.105 4; previous > 110; previous foo.> 57"
        ),
        (
            config(),
            "store f.22.baz; store f.22.bar; store f.11.foo x60; last f.22.*; last f.*.bar; last f.*.*"
        ),
        (
            config(),
            "store f.bar 60; store f.baz 60; store f.baz 60; store f.bar 90; last *.bar; load 4; last *.baz"
        ),
    ]));
}

#[test]
fn what_is_pending_is_counted_from_either_end() {
    let put = "store foo.A x10; store foo.B; store foo.C; store foo.A.x x87; store foo.B; store foo.C;";
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store zzz 100 x100; pending zzz 40; pending zzz 60; remove 10; remove 90; pending zzz 40; pending zzz 60"
        ),
        (
            config(),
            &format!(
                "{put} pending foo.* 13 last; pending foo.*,x 13 last; pending foo.* 1 last; pending foo.* 13"
            )
        ),
        (
            config(),
            "store foo; store bar; store baz; pending foo 3; filtered foo 3; filtered foo 1; filtered > 2"
        ),
        (
            config(),
            "store f.baz 5; store f.foo 5 x60; store f.baz 5 x2; remove 1; filtered f.baz 1; pending f.baz 2"
        ),
        (
            config(),
            "store f.22.baz; store f.22.bar; store f.1.foo x60; store f.22.baz x2; store f.22.bar x2; remove 1; \
            remove 2; filtered f.22.* 1; filtered f.22.baz 1; filtered f.22.bar 1"
        ),
        (
            config(),
            "store bar 60; store baz 60; store bar 60; store baz 60; store bar 60; store baz 60; store bar 60; \
            store baz 60; remove 1; filtered bar 1; remove 2; filtered baz,bar 1; filtered baz 1; filtered * 1; filtered b* 1"
        ),
        (
            config(),
            "store foo 11 x100; filtered > 1; remove 2; filtered > 2; remove 3 to 5; filtered > 2; filtered > 6; \
            remove 8; remove 10; remove 12; remove 14; remove 16; remove 18; filtered > 7; purge >; filtered > 0"
        ),
        (
            config(),
            "store f.1.# 20 x30; store f.2.# 20 x30; pending f.*.* 0 last; pending f.2.* 20 last; \
            pending *.*.22 20 last; pending f.1.9 20 last; pending *.2.* 45 last; pending f.1.* 15; pending f.2.* 45"
        ),
        (
            StoreConfig { max_messages_per_subject: 1, ..config() },
            "store KV.X; filtered KV.X 1; store KV.X; filtered KV.X 1"
        ),
        (
            config(),
            "store e.# x40; store e.# x40; pending e.1,e.5,e.9,e.40 1; pending e.1,e.5,e.9,e.40 6; \
            pending e.1,e.5,e.9,e.40 46; pending e.1,e.5,e.9,e.40 30 last; pending e.1,e.5 80"
        ),
    ]));
}

#[test]
fn subjects_are_counted() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store foo.# x4; store bar.# x3; store foo.# x2; totals foo.*; totals bar.*; totals *.*; totals foo.2; \
            totals *.3; remove 1; remove 8; totals foo.*; purge bar.*; totals *.*"
        ),
        (
            config(),
            "store kv.foo.# 9 x20; store kv.bar.# 9 x20; states kv.bar.19; store kv.foo.1 30; states kv.foo.1; \
            remove 1; states kv.foo.1; remove 41; states kv.foo.1; restart; pending kv.bar.> 1; totals kv.foo.*"
        ),
        // Subjects that come and go: none is left behind.
        (config(), "store x.# x25; remove 3 to 22; restart; totals >; purge >; totals >; store y; totals >"),
        (config(), "store foo 20 x20; remove 1 to 10; totals foo; restart; totals foo; filtered foo 1"),
    ]));
}

#[test]
fn the_last_messages_of_many_subjects_are_found() {
    let fill = "store foo.foo; store foo.bar; store foo.baz;";
    let round = "store foo.# x10;";
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            &format!(
                "{} {} lasts foo.* max 3; lasts foo.*; lasts bar.*; lasts bar.* max 15; lasts foo.foo,foo.bar,foo.baz max 3; \
                lasts foo.foo,foo.bar; lasts foo.foo max 3; lasts foo.*,foo.bar max 3; lasts bar.>,bar.bar; lasts >; \
                lasts > max 15; remove 30; lasts bar.*; lasts bar.baz max 29",
                fill.repeat(5),
                fill.replace("foo.", "bar.").repeat(5)
            ),
        ),
        (config(), "store foo.# x30; lasts foo.* allow 10; lasts foo.* allow 30; lasts foo.1,foo.2 allow 1"),
        // In the order of their sequences, at or below a bound, to be loaded one by one.
        (
            config(),
            &format!(
                "{round}{round}{round} lasts foo.*; lasts foo.* max 25; lasts foo.* allow 5; lasts bar.>; \
            load 21; load 30"
            )
        ),
        (
            StoreConfig { max_messages_per_subject: 3, ..config() },
            &format!("{round}{round}{round}{round} lasts >")
        ),
    ]));
}

#[test]
fn a_time_finds_the_message_that_is_not_older() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "store a; store a; skip 0 2; store a; store a; remove 2; time 0; time 1; time 2; time 3; time 4; \
            time 5; time 99; remove 6; time 5; time 4; purge >; time 0"
        ),
        (
            config(),
            "clock 10; store a; store a; store a; store a; store a; store a; store a; store a; remove 4 to 7; \
            time 10; time 11; time 12; time 13; time 16; time 17; time 18"
        ),
        (
            config(),
            "clock 10; store a 90; store a 90; store a 90; remove 3; time 10; time 11; time 12; restart; time 11"
        ),
        // What was skipped has the time of the message before it.
        (
            config(),
            "clock 100; raw 1 foo; skip 2 10; times; skip 12 1; skip 13 5; clock 900; raw 18 foo; time 100; time 500; \
            time 900; times"
        ),
    ]));
}

#[test]
fn the_time_of_the_last_message_outlives_it() {
    insta::assert_snapshot!(transcripts(&[
        (
            config(),
            "clock 50; store foo 90; remove 1; times; restart; times; store foo 90; purge >; restart; times; \
            store foo 90; store foo 90; remove 4; remove 3; restart; times"
        ),
        (
            config(),
            "clock 50; store foo 90 x20; compact 21; restart; times; clock 90; store foo 90 x20; truncate 30; restart; times"
        ),
        (config(), "clock 50; skip 0 1; times; skip 0 1; times; restart; times"),
        (config(), "clock 50; skip 0 5; times; skip 0 1; times"),
        (config(), "clock 50; skip 0 1 unwanted; times; skip 0 1 unwanted; times; restart; times"),
    ]));
}

#[test]
fn a_stream_without_subjects_is_a_log() {
    insta::assert_snapshot!(transcripts(&[(
        config(),
        "raw 0 .; store . 30 x20; pending > 5; truncate 10; compact 5; next > 0; load 7; restart; store . 30; load 11"
    )]));
}
