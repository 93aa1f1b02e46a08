//! What a run was: a running 64-bit hash of everything that happened, and the words for it when somebody reads.
//!
//! The hash is a function of numbers and bytes alone (no address, no order of a map, no `Debug` text), folded in
//! little-endian order, so that it is equal in every process and on every machine. The words cost nothing unless
//! they were asked for, and are not part of the hash.

use std::fmt::Write as _;

use crate::queue::SimTime;

/// The record of one run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    events: u64,
    text: Option<String>,
}

const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;

/// Folds the 128-bit product: each bit of the result depends on every bit of both factors.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
}

impl Trace {
    /// Starts a trace, with words if `text`.
    pub fn new(text: bool) -> Self {
        Trace { hash: 0x243f_6a88_85a3_08d3, events: 0, text: text.then(String::new) }
    }

    /// Adds an event of some `kind` with its particulars.
    #[inline]
    pub fn event(&mut self, time: SimTime, kind: u8, a: u64, b: u64) {
        self.events += 1;
        let mixed = fold(time.0 ^ u64::from(kind) << 56 ^ self.hash, MULTIPLIER);
        self.hash = fold(mixed ^ a, MULTIPLIER ^ b.rotate_left(32)).wrapping_add(mixed);
    }

    /// Adds bytes, such as what a socket took.
    #[inline]
    pub fn bytes(&mut self, bytes: &[u8]) {
        let mut hash = self.hash ^ bytes.len() as u64;
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            hash = fold(hash ^ u64::from_le_bytes(*word), MULTIPLIER);
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.hash = fold(hash ^ u64::from_le_bytes(last), MULTIPLIER).wrapping_add(hash.rotate_left(17));
    }

    /// Adds a line of words, made only if somebody reads.
    #[inline]
    pub fn say<W: std::fmt::Display>(&mut self, time: SimTime, words: impl FnOnce() -> W) {
        if let Some(text) = &mut self.text {
            let (seconds, nanos) = (time.0 / crate::queue::SECOND, time.0 % crate::queue::SECOND);
            // Writing to a String can't fail.
            let _ = writeln!(text, "{seconds:>4}.{nanos:09} {}", words());
        }
    }

    /// Returns whether words are wanted.
    pub fn has_text(&self) -> bool {
        self.text.is_some()
    }

    /// Returns the hash so far.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns how many events it has.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Takes the words written since the last call.
    pub fn take_text(&mut self) -> String {
        self.text.as_mut().map(std::mem::take).unwrap_or_default()
    }
}

/// Makes a text readable in one line of a trace: control characters and high bytes escaped, cut after `limit`.
pub fn show_bytes(bytes: &[u8], limit: usize) -> String {
    let shown = bytes.get(..limit).unwrap_or(bytes).escape_ascii().to_string();
    if bytes.len() > limit { format!("{shown}… ({} bytes)", bytes.len()) } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(steps: &[(u64, u8, u64, u64)], bytes: &[u8]) -> u64 {
        let mut trace = Trace::new(false);
        for (time, kind, a, b) in steps {
            trace.event(SimTime(*time), *kind, *a, *b);
        }
        trace.bytes(bytes);
        trace.hash()
    }

    #[test]
    fn every_part_of_an_event_counts() {
        let base = hash(&[(1, 2, 3, 4)], b"x");
        let others = [
            hash(&[(2, 2, 3, 4)], b"x"),
            hash(&[(1, 3, 3, 4)], b"x"),
            hash(&[(1, 2, 4, 4)], b"x"),
            hash(&[(1, 2, 3, 5)], b"x"),
            hash(&[(1, 2, 4, 3)], b"x"),
            hash(&[(1, 2, 3, 4)], b"x\0"),
            hash(&[(1, 2, 3, 4), (1, 2, 3, 4)], b"x"),
            hash(&[], b"x"),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn the_hash_is_the_same_everywhere() {
        // Written down once: another figure on any machine or build means that seeds no longer travel.
        assert_eq!(hash(&[(1, 2, 3, 4), (5, 6, 7, 8)], b"hello, world"), KNOWN);
    }

    const KNOWN: u64 = 478_017_307_139_265_923;

    #[test]
    fn words_are_kept_only_when_wanted() {
        let mut trace = Trace::new(true);
        trace.say(SimTime(1_500_000_000), || "crash of s0");
        assert_eq!(trace.take_text(), "   1.500000000 crash of s0\n");
        assert_eq!(trace.take_text(), "");
        Trace::new(false).say(SimTime(0), || -> &str { panic!("asked for words nobody reads") });
        assert_eq!(show_bytes(b"PUB a 1\r\n\xff", 9), "PUB a 1\\r\\n… (10 bytes)");
    }
}
