//! What a published payload says about itself, so that a receiver can tell whether it is whole and whose it is.
//!
//! Shape, little-endian: `publisher u32, sequence u32, length u32, check u32`, then filler that follows from the
//! first two, with CR and LF strewn in to tempt the parser.

/// Bytes of a payload before its filler.
pub const HEAD: usize = 16;

/// Who published a payload, and as which of its messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The publisher's connection.
    pub conn: u32,
    /// The number of the message among those of that connection.
    pub sequence: u32,
}

fn mix(origin: Origin, length: u32) -> u64 {
    let seed = u64::from(origin.conn) << 32 | u64::from(origin.sequence);
    let mixed = (seed ^ u64::from(length) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// Returns the next eight bytes of filler; three words of eight have a CR, an LF or both somewhere.
fn filler(state: &mut u64) -> [u8; 8] {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    let mut word = (*state ^ *state >> 29).to_le_bytes();
    let at = (*state >> 58 & 7) as usize;
    match *state >> 61 {
        0 => word[at] = b'\r',
        1 => word[at] = b'\n',
        2 => (word[at.min(6)], word[at.min(6) + 1]) = (b'\r', b'\n'),
        _ => {}
    }
    word
}

/// Appends a payload of `length` bytes, at least [`HEAD`].
pub fn write(origin: Origin, length: usize, out: &mut Vec<u8>) {
    let mut state = mix(origin, length as u32);
    out.extend_from_slice(&origin.conn.to_le_bytes());
    out.extend_from_slice(&origin.sequence.to_le_bytes());
    out.extend_from_slice(&(length as u32).to_le_bytes());
    out.extend_from_slice(&(state as u32).to_le_bytes());
    for at in (HEAD..length).step_by(8) {
        let word = filler(&mut state);
        out.extend_from_slice(&word[..word.len().min(length - at)]);
    }
}

/// Reads a payload; `None` if any byte is not what it must be.
pub fn read(payload: &[u8]) -> Option<Origin> {
    let (head, rest) = payload.split_at_checked(HEAD)?;
    let word = |index: usize| head[index * 4..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes));
    let origin = Origin { conn: word(0)?, sequence: word(1)? };
    let length = word(2)?;
    let mut state = mix(origin, length);
    let (words, last) = rest.as_chunks();
    let whole = length as usize == payload.len()
        && word(3)? == state as u32
        && words.iter().all(|word| *word == filler(&mut state))
        && *last == filler(&mut state)[..last.len()];
    whole.then_some(origin)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_of_any_length_are_recognised_and_tempt_the_parser() {
        let mut tempting = [0; 3];
        for length in HEAD..HEAD + 200 {
            let origin = Origin { conn: 3, sequence: length as u32 };
            let mut payload = Vec::new();
            write(origin, length, &mut payload);
            assert_eq!((payload.len(), read(&payload)), (length, Some(origin)));
            for (count, text) in tempting.iter_mut().zip([&b"\r"[..], b"\n", b"\r\n"]) {
                *count += usize::from(payload[HEAD..].windows(text.len()).any(|window| window == text));
            }
        }
        assert!(tempting.iter().all(|count| *count > 100), "{tempting:?}");
    }

    #[test]
    fn a_payload_is_recognised_and_every_change_is_seen() {
        let origin = Origin { conn: 7, sequence: 1_000_000 };
        let mut payload = Vec::new();
        write(origin, 100, &mut payload);
        assert_eq!((payload.len(), read(&payload)), (100, Some(origin)));
        assert_eq!(read(&payload[..99]), None);
        for index in 0..payload.len() {
            let mut broken = payload.clone();
            broken[index] ^= 1;
            assert_ne!(read(&broken), Some(origin), "byte {index}");
        }
    }
}
