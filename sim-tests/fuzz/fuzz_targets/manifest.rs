//! A manifest that says something else than the blocks: the stream opens or says why not, and serves only what was written.
#![no_main]
// The harness has the checks of the other targets too.
#![allow(dead_code)]

use libfuzzer_sys::fuzz_target;
use natrix_core as api;

#[path = "../harness/storage.rs"]
mod harness;

fuzz_target!(|data: &[u8]| {
    harness::check_manifest(data);
});
