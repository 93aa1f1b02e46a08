//! Integers of variable length, 7 bits a byte, lowest first: Go's `binary.Uvarint` and `binary.Varint`.

/// Appends `value`, in 1 to 10 bytes.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed `value`, zigzag: small numbers of either sign are short.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes integers off the front of bytes that may be anything.
#[derive(Clone, Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// Starts at the front of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(bytes)
    }

    /// Returns what was not taken yet.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// Takes one integer; `None` if the bytes end in it or it doesn't fit in 64 bits.
    pub(crate) fn take(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for (at, &byte) in self.0.iter().enumerate().take(10) {
            if at == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * at);
            if byte < 0x80 {
                self.0 = &self.0[at + 1..];
                return Some(value);
            }
        }
        None
    }

    /// Takes one signed integer; `None` as for [`Reader::take`].
    pub(crate) fn take_signed(&mut self) -> Option<i64> {
        self.take().map(|value| (value >> 1) as i64 ^ -((value & 1) as i64))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn too_long_and_cut_off_integers_are_refused() {
        assert_eq!(Reader::new(&[]).take(), None);
        assert_eq!(Reader::new(&[0x80]).take(), None);
        let mut max = [0xff; 10];
        max[9] = 1;
        assert_eq!(Reader::new(&max).take(), Some(u64::MAX));
        max[9] = 2;
        assert_eq!(Reader::new(&max).take(), None);
        assert_eq!(Reader::new(&[0x80; 11]).take(), None);
    }

    proptest! {
        #[test]
        fn what_was_put_is_taken(unsigned: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, unsigned);
            put_signed(&mut out, signed);
            out.extend_from_slice(b"rest");
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.take(), Some(unsigned));
            prop_assert_eq!(reader.take_signed(), Some(signed));
            prop_assert_eq!(reader.rest(), b"rest");
        }
    }
}
