//! The slots of an index as bytes: what each has other than the one before.
//!
//! Shape: `tag u8, [subject LEB128], [size LEB128], [step LEB128 zigzag], time`. The tag's low bits say which of the first three
//! differ from the slot's before, and whether the place is a frame's; the high four how many bytes the time takes, zigzag,
//! counted from the slot's before. The step is how much further the offset is. Before the first all are zero. Most messages of a
//! stream are as long as their neighbours: then a slot takes two to four bytes.

use super::index::{Slot, place, split_place};
use crate::varint::{self, Reader};

const SUBJECT: u8 = 1 << 0;
const SIZE: u8 = 1 << 1;
const STEP: u8 = 1 << 2;
const FRAME: u8 = 1 << 3;
const TIME_SHIFT: u8 = 4;

/// Slots as they come before the next.
#[derive(Debug, Default)]
struct Last {
    time: i64,
    offset: u32,
    step: i64,
    size: u32,
    subject: u32,
}

/// Appends slots to `out`.
pub(super) fn encode(slots: &[Slot], out: &mut Vec<u8>) {
    let mut last = Last::default();
    for slot in slots {
        let at = out.len();
        out.push(0);
        let mut tag = if slot.framed() { FRAME } else { 0 };
        if slot.subject != last.subject {
            tag |= SUBJECT;
            varint::put(out, u64::from(slot.subject));
        }
        if slot.size != last.size {
            tag |= SIZE;
            varint::put(out, u64::from(slot.size));
        }
        let step = i64::from(slot.offset()) - i64::from(last.offset);
        if step != last.step {
            tag |= STEP;
            varint::put_signed(out, step);
        }
        let since = slot.time.wrapping_sub(last.time);
        let since = (since << 1 ^ since >> 63) as u64;
        let width = 8 - since.leading_zeros() as usize / 8;
        out.extend_from_slice(&since.to_le_bytes()[..width]);
        out[at] = tag | (width as u8) << TIME_SHIFT;
        last = Last { time: slot.time, offset: slot.offset(), step, size: slot.size, subject: slot.subject };
    }
}

/// Takes `count` slots off the front of `bytes`, which may be anything, and returns what is behind them: `None` if they make no
/// sense.
pub(super) fn decode(bytes: &[u8], count: usize) -> Option<(Vec<Slot>, &[u8])> {
    // Each takes a byte at least.
    if count > bytes.len() {
        return None;
    }
    let mut slots = Vec::with_capacity(count);
    let mut last = Last::default();
    let mut rest = bytes;
    for _ in 0..count {
        let (&tag, behind) = rest.split_first()?;
        let mut reader = Reader::new(behind);
        if tag & SUBJECT != 0 {
            last.subject = u32::try_from(reader.take()?).ok()?;
        }
        if tag & SIZE != 0 {
            last.size = u32::try_from(reader.take()?).ok()?;
        }
        if tag & STEP != 0 {
            last.step = reader.take_signed()?;
        }
        last.offset = u32::try_from(i64::from(last.offset).checked_add(last.step)?).ok()?;
        if split_place(last.offset).1 {
            return None;
        }
        let width = usize::from(tag >> TIME_SHIFT);
        let (time, behind) = reader.rest().split_at_checked(width)?;
        if width > 8 {
            return None;
        }
        let since = time.iter().rev().fold(0u64, |since, byte| since << 8 | u64::from(*byte));
        last.time = last.time.wrapping_add((since >> 1) as i64 ^ -((since & 1) as i64));
        slots.push(Slot::new(last.time, place(last.offset, tag & FRAME != 0), last.size, last.subject));
        rest = behind;
    }
    Some((slots, rest))
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn slot() -> impl Strategy<Value = Slot> {
        let time = prop_oneof![0..50i64, any::<i64>()];
        let (size, subject) = (prop_oneof![Just(150), any::<u32>()], prop_oneof![0..3u32, any::<u32>()]);
        (time, prop_oneof![0..400u32, any::<u32>()], size, subject)
            .prop_map(|(time, place, size, subject)| Slot::new(time, place, size, subject))
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_written(slots in vec(slot(), 0..40), behind in vec(any::<u8>(), 0..9)) {
            let mut bytes = Vec::new();
            encode(&slots, &mut bytes);
            bytes.extend_from_slice(&behind);
            prop_assert_eq!(decode(&bytes, slots.len()), Some((slots, &behind[..])));
        }

        #[test]
        fn bytes_may_be_anything(bytes in vec(any::<u8>(), 0..200), count in 0..300usize) {
            let Some((slots, rest)) = decode(&bytes, count) else { return Ok(()) };
            prop_assert_eq!(slots.len(), count);
            prop_assert!(rest.len() + count <= bytes.len());
        }
    }

    #[test]
    fn messages_of_one_length_and_subject_take_three_bytes() {
        let slots: Vec<Slot> = (0..1000u32)
            .map(|n| Slot::new(1_700_000_000_000_000_000 + i64::from(n) * 9000, 64 + n * 152, 167, 0))
            .collect();
        let mut bytes = Vec::new();
        encode(&slots, &mut bytes);
        assert!(bytes.len() < 3020, "{}", bytes.len());
        assert!(decode(&bytes, slots.len() + bytes.len()).is_none(), "more than there are bytes");
    }
}
