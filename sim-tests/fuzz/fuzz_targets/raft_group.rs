//! Any messages in any order to one member of a Raft group.
#![no_main]
// The harness has what tests of the crate use, too.
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use natrix_core as api;

#[path = "../harness/raft.rs"]
mod harness;

fuzz_target!(|data: &[u8]| {
    harness::check_group(data);
});
