//! An index file: whatever its bytes are, decoding ends, takes no more memory than they, and what is read can be asked.
//!
//! The checksums are put right first, so that the tables are reached.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natrix_core::storage::OwnerId;
use natrix_core::storage::block::Place;
use natrix_core::storage::block::index::{Index, Stamp};
use natrix_core::storage::block::key::Keys;

fuzz_target!(|data: &[u8]| {
    let place = Place::new(OwnerId(7), 1);
    let stamp = Stamp { len: 1 << 20, tail: 5 };
    let keys = Keys::none(OwnerId(7));
    let _ = Index::decode(data, &place, stamp, &keys);
    if data.len() < 100 {
        return;
    }
    let mut bytes = data.to_vec();
    bytes[..8].copy_from_slice(b"NTRXIDX1");
    bytes[8..16].copy_from_slice(&7u64.to_le_bytes());
    bytes[16..20].copy_from_slice(&1u32.to_le_bytes());
    bytes[20..24].copy_from_slice(&stamp.len.to_le_bytes());
    bytes[24..28].copy_from_slice(&stamp.tail.to_le_bytes());
    bytes[28..32].fill(0);
    let body = crc32c::crc32c_append(crc32c::crc32c(&[0; 24]), &bytes[100..]);
    bytes[92..96].copy_from_slice(&body.to_le_bytes());
    let head = crc32c::crc32c(&bytes[..96]);
    bytes[96..100].copy_from_slice(&head.to_le_bytes());
    if let Ok(index) = Index::decode(&bytes, &place, stamp, &keys) {
        assert!(index.memory() <= 32 * bytes.len() + 1024);
        for (sequence, slot) in index.iter() {
            assert_eq!(index.slot(sequence), Some(slot));
            assert!(index.subject(slot.subject).is_some());
        }
    }
});
