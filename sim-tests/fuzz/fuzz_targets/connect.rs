//! CONNECT's JSON, its redaction for traces, and header blocks: nothing panics, nothing grows beyond its input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natrix_core::protocol::connect::{ConnectOptions, redacted};
use natrix_core::protocol::headers;

fuzz_target!(|data: &[u8]| {
    let mut options = ConnectOptions::default();
    if options.update(data).is_ok() {
        // A byte that is no text becomes the three of U+FFFD.
        assert!(options.name.len() <= 3 * data.len());
    }
    assert!(redacted(data).len() <= 12 * (data.len() + 1));
    let mut block = data.to_vec();
    headers::lines(data).for_each(drop);
    headers::set(&mut block, b"a", b"b");
    headers::remove(&mut block, b"a");
    headers::remove_status(&mut block);
});
