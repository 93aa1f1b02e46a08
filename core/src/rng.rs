//! Seeded randomness, and hash maps whose order and collisions follow the seed.
//!
//! A shard gets one seed when it is made. Everything random in it (NUIDs, jitter, the choice of a queue member,
//! the keys of its hashers) comes from that seed through [`Rng::child`], so that a run can be replayed, and so
//! that drawing one more number in one place doesn't change what another place draws.

use std::hash::{BuildHasher, Hasher};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A stream of random numbers that is a function of its seed.
///
/// ChaCha8: unpredictable without the seed, so it may also make nonces and inbox names.
#[derive(Clone, Debug)]
pub struct Rng(ChaCha8Rng);

impl Rng {
    /// Starts the stream that belongs to `seed`.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Rng(ChaCha8Rng::from_seed(seed))
    }

    /// Starts the stream that belongs to a small seed, as simulations number their runs.
    pub fn from_u64(seed: u64) -> Self {
        Rng(ChaCha8Rng::seed_from_u64(seed))
    }

    /// Splits off an independent generator; the parent advances by one seed's worth.
    pub fn child(&mut self) -> Rng {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        Rng::from_seed(seed)
    }

    /// Draws 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Draws 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    /// Fills `out` with random bytes.
    pub fn fill(&mut self, out: &mut [u8]) {
        self.0.fill_bytes(out);
    }

    /// Draws a number below `bound`; zero if `bound` is zero.
    ///
    /// Multiply and shift: the bias is below 2^-32 for the bounds in use (members of a group, jitter).
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// Draws `true` in `numerator` of `denominator` cases.
    pub fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    /// Draws a key for the hashers of one map.
    pub fn hash_keys(&mut self) -> HashKeys {
        HashKeys(foldhash::fast::SeedableRandomState::with_seed(
            self.next_u64(),
            foldhash::SharedSeed::global_fixed(),
        ))
    }
}

/// Builds hashers keyed from a seed: an attacker can't choose collisions, a replay gets the same order.
#[derive(Clone, Debug)]
pub struct HashKeys(foldhash::fast::SeedableRandomState);

impl HashKeys {
    /// Makes keys from a number that is random already, and secret.
    pub fn of(seed: u64) -> Self {
        HashKeys(foldhash::fast::SeedableRandomState::with_seed(seed, foldhash::SharedSeed::global_fixed()))
    }

    /// Hashes `bytes` under these keys.
    pub fn hash(&self, bytes: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }
}

impl BuildHasher for HashKeys {
    type Hasher = foldhash::fast::FoldHasher<'static>;

    fn build_hasher(&self) -> Self::Hasher {
        self.0.build_hasher()
    }
}

/// A hash map keyed from a seed; make it with `HashMap::with_hasher(rng.hash_keys())`.
pub type HashMap<K, V> = hashbrown::HashMap<K, V, HashKeys>;
/// A hash set keyed from a seed; make it with `HashSet::with_hasher(rng.hash_keys())`.
pub type HashSet<K> = hashbrown::HashSet<K, HashKeys>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_streams_and_children() {
        let (mut a, mut b) = (Rng::from_u64(7), Rng::from_u64(7));
        assert_eq!(a.next_u64(), b.next_u64());
        let (mut child_a, mut child_b) = (a.child(), b.child());
        assert_eq!(child_a.next_u64(), child_b.next_u64());
        assert_ne!(child_a.next_u64(), a.next_u64());
    }

    #[test]
    fn a_map_iterates_in_the_order_of_its_seed() {
        let order = |seed| {
            let mut map = HashMap::with_hasher(Rng::from_u64(seed).hash_keys());
            map.extend((0..64u32).map(|key| (key, ())));
            map.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(order(1), order(1));
        assert_ne!(order(1), order(2));
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::from_u64(3);
        assert_eq!(rng.below(0), 0);
        assert!((0..1000).all(|_| rng.below(3) < 3));
        assert!((0..100).any(|_| rng.below(3) == 2));
    }
}
