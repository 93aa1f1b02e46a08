//! The operator's keys: what the store is sealed with, and how that changes from one start to the next.

use natrix_core::config::{JetStreamOptions, Secret};
use natrix_core::rng::Rng;
use natrix_core::storage::Cipher;

/// What becomes of keys in a run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct KeysPlan {
    /// Whether there is a key, now or later.
    pub sealed: bool,
    /// Whether it comes at a restart only, and finds a store in plain text.
    pub later: bool,
    /// Whether keys and ciphers change.
    pub changes: bool,
    /// Whether the operator errs now and then, and gives another key or none.
    pub errs: bool,
}

impl KeysPlan {
    /// Draws one: a third of the runs are sealed.
    pub(super) fn draw(rng: &mut Rng) -> Self {
        let sealed = rng.chance(1, 3);
        let mut also = |numerator, denominator| sealed && rng.chance(numerator, denominator);
        let (later, changes, errs) = (also(1, 3), also(1, 2), also(1, 2));
        // What is still in plain text anybody's key opens, and seals.
        KeysPlan { sealed, later, changes, errs: errs && !later }
    }
}

/// The operator.
#[derive(Debug)]
pub(super) struct Operator {
    plan: KeysPlan,
    /// The number of the key; zero for none.
    key: u32,
    /// The one before, while the server may not have seen this one.
    previous: Option<u32>,
    /// The server was there with a key, so that another is one that opens nothing: the first that is given is in force.
    sealed: bool,
    cipher: Cipher,
    rng: Rng,
}

impl Operator {
    pub(super) fn new(plan: KeysPlan, rng: Rng) -> Self {
        let key = u32::from(plan.sealed && !plan.later);
        Operator { plan, key, previous: None, sealed: false, cipher: Cipher::ChaCha20Poly1305, rng }
    }

    /// Sees to the settings before a start; `ready` if the last one came so far that clients were let in, and so used the
    /// keys. Returns what to count.
    pub(super) fn before_start(&mut self, ready: bool) -> Option<&'static str> {
        if !self.plan.sealed || !ready {
            return None;
        }
        self.previous = None;
        self.sealed = self.key > 0;
        if self.key == 0 {
            self.key = 1;
            return Some("key-comes");
        }
        if self.plan.changes && self.rng.chance(1, 3) {
            self.previous = Some(self.key);
            self.key += 1;
            return Some("key-changes");
        }
        if self.plan.changes && self.rng.chance(1, 3) {
            self.cipher = match self.cipher {
                Cipher::Aes256Gcm => Cipher::ChaCha20Poly1305,
                _ => Cipher::Aes256Gcm,
            };
            return Some("cipher-changes");
        }
        None
    }

    /// Returns whether there is a key by now.
    pub(super) fn has_key(&self) -> bool {
        self.key > 0
    }

    /// Returns whether the operator errs this time.
    pub(super) fn errs(&mut self) -> bool {
        self.plan.errs && self.sealed && self.rng.chance(1, 3)
    }

    /// Fills in the settings, those of one who errs if `wrong`.
    pub(super) fn settle(&mut self, jetstream: &mut JetStreamOptions, wrong: bool) {
        let name = |number: u32| Secret::new(format!("the key {number}"));
        jetstream.cipher = self.cipher;
        if wrong {
            jetstream.encryption_key = self.rng.chance(1, 2).then(|| Secret::new("a key of something else"));
            return;
        }
        jetstream.encryption_key = (self.key > 0).then(|| name(self.key));
        jetstream.previous_encryption_key = self.previous.map(name);
    }
}
