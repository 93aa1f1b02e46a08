//! Names of things: connections, shards, servers, and the NUIDs that clients and servers call themselves.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::rng::Rng;

/// One of a server's shards; shard 0 is the home shard, which takes the server-wide decisions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(pub u16);

impl ShardId {
    /// The shard that takes server-wide decisions.
    pub const HOME: ShardId = ShardId(0);

    /// Returns the shard's place in arrays.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A connection of one shard, named by the runtime.
///
/// `slot` is a small number that may be used again once the connection is closed; `generation` tells the users of
/// one slot apart, so that a late completion for a closed connection can't reach its successor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId {
    /// Index into the shard's table of connections.
    pub slot: u32,
    /// How often the slot was used before.
    pub generation: u32,
}

impl fmt::Display for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}.{}", self.slot, self.generation)
    }
}

/// Returns the short hash of a name, 8 base-62 characters: under it a server replicates streams, and an account's
/// acknowledgements can be told from another's.
///
/// Source: nats-server `server/events.go`, `getHash`.
pub fn short_hash(name: &str) -> String {
    let hash = Sha256::digest(name);
    hash.iter().take(8).map(|byte| char::from(Nuid::DIGITS[usize::from(byte % 62)])).collect()
}

/// A generator of NUIDs: 22 base-62 characters, 12 random and 10 that count up in random strides.
///
/// Shape and constants: nats-io/nuid. Unique within a process and, by its prefix, between processes.
#[derive(Clone, Debug)]
pub struct Nuid {
    prefix: [u8; Nuid::PREFIX],
    sequence: u64,
    increment: u64,
    rng: Rng,
}

impl Nuid {
    /// The length of a NUID in bytes.
    pub const LEN: usize = 22;
    const PREFIX: usize = 12;
    const DIGITS: &'static [u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    /// 62^10, one past the largest sequence.
    const MAX_SEQUENCE: u64 = 839_299_365_868_340_224;
    const MIN_INCREMENT: u64 = 33;
    const MAX_INCREMENT: u64 = 333;

    /// Makes a generator with a random prefix.
    pub fn new(rng: Rng) -> Self {
        let mut nuid = Nuid { prefix: [0; Self::PREFIX], sequence: 0, increment: 0, rng };
        nuid.reset();
        nuid
    }

    /// Returns the next NUID.
    pub fn next_id(&mut self) -> [u8; Self::LEN] {
        self.sequence += self.increment;
        if self.sequence >= Self::MAX_SEQUENCE {
            self.reset();
        }
        let mut id = [0; Self::LEN];
        id[..Self::PREFIX].copy_from_slice(&self.prefix);
        let mut rest = self.sequence;
        for digit in id[Self::PREFIX..].iter_mut().rev() {
            *digit = Self::DIGITS[(rest % 62) as usize];
            rest /= 62;
        }
        id
    }

    /// Returns the next NUID as text.
    pub fn next_string(&mut self) -> String {
        self.next_id().iter().map(|&byte| char::from(byte)).collect()
    }

    fn reset(&mut self) {
        for byte in &mut self.prefix {
            *byte = Self::DIGITS[self.rng.below(62) as usize];
        }
        self.sequence = self.rng.below(Self::MAX_SEQUENCE);
        self.increment = Self::MIN_INCREMENT + self.rng.below(Self::MAX_INCREMENT - Self::MIN_INCREMENT);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_name_is_hashed_as_the_reference_hashes_it() {
        assert_eq!(short_hash("S1"), "sQnRv29R");
        assert_eq!(short_hash("$G"), "szMpdrwD");
    }

    #[test]
    fn nuids_are_22_base_62_characters_and_differ() {
        let mut nuid = Nuid::new(Rng::from_u64(1));
        let ids: BTreeSet<_> = (0..10_000).map(|_| nuid.next_string()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(ids.iter().all(|id| id.len() == Nuid::LEN && id.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn a_full_sequence_starts_again_under_another_prefix() {
        let mut nuid = Nuid::new(Rng::from_u64(1));
        let before = nuid.next_string();
        nuid.sequence = Nuid::MAX_SEQUENCE - 1;
        let after = nuid.next_string();
        assert_ne!(before[..Nuid::PREFIX], after[..Nuid::PREFIX]);
    }
}
