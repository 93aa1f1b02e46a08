//! The configuration language: nothing panics, what is taken runs, blank lines mean nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natrix_core as api;

#[path = "../harness/config.rs"]
mod harness;

fuzz_target!(|data: &[u8]| {
    harness::check(data);
});
