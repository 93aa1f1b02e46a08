//! A block: whatever its bytes are, the walk ends, accounts for all of them, and serves only what was written.
//!
//! Input: the first byte picks a good block to damage, or none; the rest is edits (where u16, what u8), then bytes that
//! are appended.
#![no_main]

use libfuzzer_sys::fuzz_target;
use natrix_core::rng::Rng;
use natrix_core::storage::block::frame::{Codec, Plain};
use natrix_core::storage::block::key::Keys;
use natrix_core::storage::block::walk::{At, Visitor, walk};
use natrix_core::storage::block::{Context, Header, Mark, Place, Record};
use natrix_core::storage::{Cipher, Compression, OwnerId, Position};

const OWNER: OwnerId = OwnerId(7);
const PAYLOAD: [u8; 32] = [9; 32];

fn record(sequence: u64) -> Record<'static> {
    Record {
        sequence,
        time: 1000 + sequence as i64,
        subject: b"a.b",
        headers: b"",
        payload: &PAYLOAD,
        ttl: 0,
        due: None,
        erased: false,
    }
}

fn good(place: &Place, keys: &Keys, framed: bool) -> Vec<u8> {
    let header = Header {
        owner: OWNER,
        block: 1,
        cipher: keys.cipher(),
        compression: Compression::None,
        first_sequence: 1,
        base_time: 0,
        key_epoch: keys.epoch(),
    };
    let mut out = header.encode().to_vec();
    let mut context = Context { next_sequence: 1, base_time: 0 };
    for batch in 0..4 {
        let offset = out.len() as u32;
        let mark = Mark {
            next_sequence: context.next_sequence,
            base_time: 0,
            previous_base_time: 0,
            applied: Position(batch),
            synced: offset,
            first_sequence: 1,
        };
        mark.encode(&mut out, place, offset);
        let (mut records, first) = (Vec::new(), context);
        for _ in 0..5 {
            let into = if framed { &mut records } else { &mut out };
            let offset = into.len() as u32;
            record(context.next_sequence).encode(into, place, offset, &mut context).expect("small");
        }
        if framed {
            let codec = Codec { keys, compression: Compression::S2 };
            let plain = Plain { records: &records, first, next_sequence: context.next_sequence };
            let offset = out.len() as u32;
            codec.encode(&mut out, place, offset, plain, &mut Rng::from_u64(batch));
        }
    }
    out
}

struct Check(u64);

impl Visitor for Check {
    fn message(&mut self, _: At, message: &Record<'_>) {
        assert!(message.sequence > self.0, "in order");
        self.0 = message.sequence;
        assert_eq!(*message, record(message.sequence), "only what was written");
    }
    fn deleted(&mut self, _: u64, _: u64) {
        panic!("nothing was deleted");
    }
    fn skipped(&mut self, _: u64, _: u64) {
        panic!("nothing was skipped");
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((first, mut rest)) = data.split_first() else { return };
    let place = Place::new(OWNER, 1);
    let mut keys = Keys::none(OWNER);
    if first & 2 != 0 {
        keys.add(1, Cipher::ChaCha20Poly1305, b"key");
    }
    let mut bytes = if first & 1 != 0 { good(&place, &keys, first & 4 != 0) } else { Vec::new() };
    if !bytes.is_empty() {
        for _ in 0..first >> 4 {
            let Some((edit, behind)) = rest.split_first_chunk::<3>() else { break };
            let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
            bytes[at] = edit[2];
            rest = behind;
        }
    }
    bytes.extend_from_slice(rest);
    let synced = if first & 8 != 0 { bytes.len() as u32 } else { 0 };
    if let Ok(walked) = walk(&bytes, place, Context::default(), synced, &keys, &mut Check(0)) {
        assert_eq!(walked.end as usize + walked.torn as usize, bytes.len());
    }
});
