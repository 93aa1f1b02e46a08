//! What may be stored, and what has to go for it.

use super::{config, transcripts};
use crate::storage::{Discard, StoreConfig};

fn refusing() -> StoreConfig {
    StoreConfig { discard: Discard::New, ..config() }
}

#[test]
fn limits_take_the_oldest_or_refuse_the_new() {
    let script = "store a x5; remove 4; store a; store a; load 1; next > 0";
    let by_bytes = "store abcd 20 x2; store abcd 20; store abcd 50; store abcd 90; store abcd 20 x4";
    insta::assert_snapshot!(transcripts(&[
        (StoreConfig { max_messages: 3, ..config() }, script),
        (StoreConfig { max_messages: 3, ..refusing() }, script),
        (StoreConfig { max_messages: 1, ..config() }, "store a; store a; restart; store a; load 3"),
        (StoreConfig { max_bytes: 100, ..config() }, by_bytes),
        (StoreConfig { max_bytes: 100, ..refusing() }, by_bytes),
        (StoreConfig { first_sequence: 1000, ..config() }, "state; store a; store b; remove 1000; store a"),
    ]));
}

#[test]
fn a_subject_has_limits_of_its_own() {
    let two = StoreConfig { max_messages_per_subject: 2, ..config() };
    let refuse = StoreConfig { discard_new_per_subject: true, max_messages_per_subject: 1, ..refusing() };
    let replace = StoreConfig { max_messages_per_subject: 1, max_messages: 2, max_bytes: 90, ..refusing() };
    let newest = StoreConfig { max_messages_per_subject: 1, ..config() };
    let both = StoreConfig { max_messages: 10, ..newest.clone() };
    insta::assert_snapshot!(transcripts(&[
        (two, "store a x3; store b; store a; store b x2; filtered a 1; filtered b 1"),
        (refuse.clone(), "store a; store a; store a rollup; store b"),
        (replace, "store a 5; store b 5; store c; store a 5; store a 60; store b 4"),
        // More subjects than the stream may have messages, and then each again.
        (
            StoreConfig { max_messages: 20, ..refuse },
            "store kv.# x20; store kv.21; store kv.# x20; filtered kv.* 1"
        ),
        (
            newest.clone(),
            "store kv.# x40; store kv.# x40; last kv.7; next kv.7 0; store kv.7; filtered kv.7 1"
        ),
        (
            newest.clone(),
            "store baz; store foo x60; store bar x60; store foo x60; states >; last foo; load 121"
        ),
        (newest, "store kv.# x12; store kv.# x6; last kv.3; last kv.9; next kv.* 7; restart; totals kv.3"),
        (both, "store A; store B; store A; store B; store # x8; store ZZZ; states *; load 4"),
    ]));
}

/// Only who proposes refuses: a replica stores what its leader let in, or they'd differ for ever.
#[test]
fn a_replica_stores_what_its_leader_let_in() {
    let script = "store a; store a; follow a; follow a";
    let newer = |config: StoreConfig| StoreConfig { max_messages_per_subject: 1, ..config };
    let never = |config: StoreConfig| StoreConfig { discard_new_per_subject: true, ..newer(config) };
    let one = || StoreConfig { max_messages: 1, ..refusing() };
    insta::assert_snapshot!(transcripts(&[
        (one(), script),
        (StoreConfig { max_bytes: 32, ..refusing() }, script),
        (newer(refusing()), script),
        (never(refusing()), script),
        (newer(one()), script),
        (newer(StoreConfig { max_bytes: 32, ..refusing() }), script),
        (never(one()), script),
        (never(StoreConfig { max_bytes: 32, ..refusing() }), script),
    ]));
}

#[test]
fn new_settings_take_away_what_they_no_longer_allow() {
    let two = StoreConfig { max_messages_per_subject: 2, ..config() };
    insta::assert_snapshot!(transcripts(&[
        (config(), "store a x5; configure per_subject=1; store a; configure; store a x2"),
        (
            two,
            "configure per_subject=10; store a x14; configure per_subject=4; states >; configure per_subject=3; store a"
        ),
        // The newest message of a subject was removed: the one before it is what is kept.
        (
            config(),
            "store a; store f.# 40 x9; store a; store f.# 40 x9; store a; remove 21; configure per_subject=1; \
            states a; last a; next a 0; restart; last a; load 11"
        ),
        (config(), "store A x10; store B x10; configure max_messages=15 per_subject=6; restart; states >"),
        (
            config(),
            "store a 50 x30; configure max_messages=4; store a; configure max_bytes=150; filtered a 1"
        ),
        (config(), "store a.# 40 x30; configure max_messages=1; totals >; store a.1; totals >"),
    ]));
}
