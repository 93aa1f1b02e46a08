//! The subjects of a block, one behind the other in one piece of memory: a start reads tens of thousands of them for each
//! block, and an allocation for each would be most of its time.

/// Names by their numbers, from zero on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    bytes: Vec<u8>,
    /// Where each ends.
    ends: Vec<u32>,
}

impl Names {
    /// Makes room for so many, in a table of so many bytes.
    pub(super) fn reserve(&mut self, names: usize, bytes: usize) {
        self.ends.reserve_exact(names);
        self.bytes.reserve_exact(bytes);
    }

    /// Adds one and returns its number.
    pub(super) fn push(&mut self, name: &[u8]) -> u32 {
        self.bytes.extend_from_slice(name);
        self.ends.push(u32::try_from(self.bytes.len()).expect("a block is shorter than 2^32"));
        (self.ends.len() - 1) as u32
    }

    /// Returns the name with a number.
    pub(super) fn get(&self, number: u32) -> Option<&[u8]> {
        let at = number as usize;
        let end = *self.ends.get(at)? as usize;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        Some(&self.bytes[start..end])
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns all in the order of their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        (0..self.ends.len() as u32).filter_map(|number| self.get(number))
    }

    /// Returns how many bytes of memory they take.
    pub(super) fn memory(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_their_numbers() {
        let mut names = Names::default();
        let some: [&[u8]; 4] = [b"orders.1", b"", b"a", b"orders.1"];
        for (number, name) in some.iter().enumerate() {
            assert_eq!(names.push(name), number as u32);
        }
        assert!(names.iter().eq(some));
        assert_eq!(
            (names.get(1), names.get(3), names.get(4)),
            (Some(&b""[..]), Some(&b"orders.1"[..]), None)
        );
    }
}
