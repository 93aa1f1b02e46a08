//! The client parser: cuts don't change what is heard, nothing panics, unfinished lines are bounded.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natrix_core::protocol::client as api;

#[path = "../harness/client_parser.rs"]
mod harness;

fuzz_target!(|data: &[u8]| harness::check(data));
