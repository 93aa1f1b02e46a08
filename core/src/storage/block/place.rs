//! What a checksum is seeded with, and what a record is relative to.

use super::super::OwnerId;
use crate::rng::HashKeys;

/// A block of an owner: half of every checksum's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    owner: OwnerId,
    block: u32,
    key: u64,
}

impl Place {
    /// Names block `block` of `owner`.
    pub fn new(owner: OwnerId, block: u32) -> Self {
        let key = scramble(scramble(owner.0) ^ u64::from(block).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Place { owner, block, key }
    }

    /// Returns the owner.
    pub fn owner(&self) -> OwnerId {
        self.owner
    }

    /// Returns the block's number.
    pub fn block(&self) -> u32 {
        self.block
    }

    /// Returns keys for hashing what a client chose.
    pub(super) fn hash_keys(&self) -> HashKeys {
        HashKeys::of(self.key)
    }

    /// Returns what the checksums of the record at `offset` with `sequence` are combined with; `base` is what its time is
    /// relative to, zero if it is absolute.
    ///
    /// It is combined with the CRC *afterwards*, so that a search can try many sequences for the price of one CRC. It is not
    /// linear, so that no difference of places cancels one of contents. Owners are random and secret: who publishes a message
    /// can't put a record in it that verifies.
    pub(super) fn seed(&self, offset: u32, sequence: u64, base: i64) -> u64 {
        let place = self.key ^ u64::from(offset).wrapping_mul(0xd6e8_feb8_6659_fd93);
        let what = sequence.wrapping_mul(0xa076_1d64_78bd_642f) ^ (base as u64).rotate_left(29);
        scramble(place.wrapping_add(scramble(what)))
    }
}

/// A bijection of 64 bits of which every output bit depends on every input bit (the finaliser of SplitMix64).
fn scramble(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What the next record of a block is relative to; writer and reader advance it alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The sequence that a message has if it doesn't say.
    pub next_sequence: u64,
    /// What short times count from, in nanoseconds since 1970.
    pub base_time: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_place_counts() {
        let seed = |owner, block, offset, sequence, base| {
            Place::new(OwnerId(owner), block).seed(offset, sequence, base)
        };
        let all = [
            seed(1, 2, 3, 4, 5),
            seed(2, 2, 3, 4, 5),
            seed(1, 3, 3, 4, 5),
            seed(1, 2, 4, 4, 5),
            seed(1, 2, 3, 5, 5),
            seed(1, 2, 3, 4, 6),
            seed(1, 3, 2, 4, 5),
            seed(1, 2, 4, 3, 5),
        ];
        for (at, seed) in all.iter().enumerate() {
            assert!(
                all[..at].iter().all(|other| other >> 32 != seed >> 32 && other & 0xffff != seed & 0xffff)
            );
        }
    }
}
