//! The keys of a store folder: random ones, sealed under the server's key in a file of their own.
//!
//! Each *epoch* has a random key and a cipher; streams, consumers, the catalogue and the journals derive theirs from it. What the
//! operator configures only seals these keys, so that another key of the server is in force at the first start with both: the
//! epochs that the previous one opens are sealed anew under the present one, and nothing else is written anew. An epoch begins when
//! no given key opens any, and when the newest that is open has another cipher than the operator wants: then what was written to
//! the older ones is written anew, as is what was in plain text. Epochs that no given key opens stay in the file as they are, and
//! so does what was written to them.
//!
//! The file is two equal copies, each at a sector, of `magic NTRXKEY1, length of the body u32, body, crc u32`. The body:
//! how many epochs LEB128, then for each `epoch u32, cipher u8, salt 16, nonce 24, sealed key 48`. The sealing key is HKDF's (HMAC-SHA256,
//! RFC 5869) of the server's key under the salt; the seal is XChaCha20-Poly1305, whatever the cipher is, with what stands before
//! the sealed key as associated data.
//!
//! # Invariants
//!
//! - No epoch is written to before the file durably has it.
//! - The epochs that are open together stay together: all are sealed under the same key of the server from then on.
//! - The present epoch has the highest number of those that are open, and the cipher that the operator wants.

mod session;

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use super::block::key::{self, Keys, NONCE_LEN, SealError, TAG_LEN, mac};
use super::journal::Seal;
use super::{Cipher, OwnerId, twice};
use crate::rng::Rng;
use crate::varint::{self, Reader};

pub use session::{SESSION_LEN, Session, Sessions};

/// The longest file that is read, in bytes.
pub const FILE_LIMIT: usize = 1 << 20;

const MAGIC: &[u8; 8] = b"NTRXKEY1";
const SALT_LEN: usize = 16;
const SECRET_LEN: usize = 32;
const ENTRY_LEN: usize = 5 + SALT_LEN + NONCE_LEN + SECRET_LEN + TAG_LEN;
/// The keys of what isn't a stream are derived for this owner.
const STATES: OwnerId = OwnerId(0);
/// What a small state begins with that is sealed: epoch and nonce.
const STATE_HEAD: usize = 4 + NONCE_LEN;

/// What the operator says.
#[derive(Clone, Copy, Debug, Default)]
pub struct Given<'a> {
    /// The server's key; `None` for a store that is not sealed.
    pub key: Option<&'a [u8]>,
    /// The one before.
    pub previous: Option<&'a [u8]>,
    /// How to seal what is written.
    pub cipher: Cipher,
}

/// Why the file of keys can't be used. Without it nothing that was sealed can be read: nothing is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the file of keys is damaged; restore it: what is sealed can't be read without it")]
pub struct Damaged;

/// What was found when a vault was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// What the file is to contain before anything is written; `None` if it has that already.
    pub file: Option<Vec<u8>>,
    /// How many epochs no given key opens.
    pub locked: usize,
}

#[derive(Clone)]
struct Epoch {
    cipher: Cipher,
    secret: Zeroizing<[u8; SECRET_LEN]>,
    /// Seals small states.
    states: Keys,
}

/// The keys of a store folder, as far as the server's key opens them.
#[derive(Clone, Default)]
pub struct Vault {
    epochs: BTreeMap<u32, Epoch>,
    /// What is written is sealed with this one; zero for not at all.
    current: u32,
}

/// Shows the numbers of epochs, never a key.
impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = self.epochs.iter().map(|(epoch, key)| (*epoch, key.cipher));
        f.debug_struct("Vault")
            .field("current", &self.current)
            .field("epochs", &epochs.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Vault {
    /// Returns one without keys: nothing is sealed.
    pub fn plain() -> Self {
        Vault::default()
    }

    /// Opens what `file` has, if there is one, with the keys that are given. `rng` draws the keys of a new epoch.
    ///
    /// # Errors
    ///
    /// [`Damaged`]; it is then as if nobody knew anything, and nothing may be written.
    pub fn open(file: Option<&[u8]>, given: Given<'_>, rng: &mut Rng) -> Result<(Self, Opened), Damaged> {
        let entries = file.map_or(Some(Vec::new()), decode);
        let mut vault = Vault::plain();
        let mut opened = Opened::default();
        let Some(key) = given.key else {
            opened.locked = entries.map_or(1, |entries| entries.len());
            return Ok((vault, opened));
        };
        let mut entries = entries.ok_or(Damaged)?;
        let (mut changed, mut present) = (false, 0);
        for entry in &mut entries {
            let current = entry.open(key);
            let is_current = current.is_some();
            let Some(secret) = current.or_else(|| given.previous.and_then(|key| entry.open(key))) else {
                opened.locked += 1;
                continue;
            };
            if !is_current {
                *entry = Entry::seal(entry.epoch, entry.cipher, &secret, key, rng);
                changed = true;
            }
            // The newest decides: what is written goes to no older one, whatever its cipher is.
            present = if entry.cipher == given.cipher { entry.epoch } else { 0 };
            vault.insert(entry.epoch, entry.cipher, secret);
        }
        vault.current = present;
        if present == 0 {
            let epoch = match entries.last() {
                Some(last) => last.epoch + 1,
                // Should a file ever be lost, what it had the keys of isn't taken for this one's.
                None => 1 + rng.next_u32() / 2,
            };
            let mut secret = Zeroizing::new([0; SECRET_LEN]);
            rng.fill(&mut *secret);
            entries.push(Entry::seal(epoch, given.cipher, &secret, key, rng));
            vault.insert(epoch, given.cipher, secret);
            vault.current = epoch;
            changed = true;
        }
        opened.file = changed.then(|| encode(&entries));
        Ok((vault, opened))
    }

    fn insert(&mut self, epoch: u32, cipher: Cipher, secret: Zeroizing<[u8; SECRET_LEN]>) {
        let mut states = Keys::none(STATES);
        states.add(u64::from(epoch), cipher, &*secret);
        self.epochs.insert(epoch, Epoch { cipher, secret, states });
    }

    /// Returns the epoch that is written to; zero if nothing is sealed.
    pub fn epoch(&self) -> u32 {
        self.current
    }

    /// Returns how what is written is sealed.
    pub fn cipher(&self) -> Cipher {
        self.epochs.get(&self.current).map_or(Cipher::None, |epoch| epoch.cipher)
    }

    /// Returns whether what is written is sealed.
    pub fn seals(&self) -> bool {
        self.current != 0
    }

    /// Returns how a journal's entries are to be sealed, if they are.
    pub fn for_journal(&self) -> Option<Seal> {
        let older = self.epochs.keys().copied().filter(|epoch| *epoch != self.current).collect();
        self.seals().then_some(Seal { epoch: self.current, older })
    }

    /// Returns the keys of a stream's blocks.
    pub fn keys(&self, owner: OwnerId) -> Keys {
        let mut keys = Keys::none(owner);
        for (epoch, key) in &self.epochs {
            keys.add(u64::from(*epoch), key.cipher, &*key.secret);
        }
        keys
    }

    /// Seals a small state for the place that `label` names.
    ///
    /// The nonce is a MAC of what is sealed, so it needs no randomness and repeats only with the bytes: states are
    /// written again and again, also after a machine was set back to what it had been.
    ///
    /// # Panics
    ///
    /// If nothing is sealed.
    pub fn seal(&self, label: &[u8], text: &[u8]) -> Vec<u8> {
        let epoch = self.epochs.get(&self.current).expect("a vault that seals has a key");
        let drawn = mac(&*epoch.secret, &[b"nonce", &(label.len() as u64).to_le_bytes(), label, text]);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&drawn[..NONCE_LEN]);
        let mut sealed = text.to_vec();
        let sealing = epoch.states.seal(u64::from(self.current), &nonce, label, &mut sealed);
        sealing.expect("a key of this epoch is there");
        [&self.current.to_le_bytes()[..], &nonce, &sealed].concat()
    }

    /// Opens what [`Vault::seal`] sealed for this place.
    ///
    /// # Errors
    ///
    /// [`SealError`]: there is no key of its epoch, or it isn't what was sealed.
    pub fn open_state(&self, label: &[u8], bytes: &[u8]) -> Result<Vec<u8>, SealError> {
        let (head, text) = bytes.split_at_checked(STATE_HEAD).ok_or(SealError::Broken)?;
        let (epoch, nonce) = (epoch_of(head).ok_or(SealError::Broken)?, &head[4..]);
        let key = self.epochs.get(&epoch).ok_or(SealError::NoKey(u64::from(epoch)))?;
        let mut text = text.to_vec();
        let nonce = nonce.first_chunk().ok_or(SealError::Broken)?;
        key.states.open(u64::from(epoch), nonce, label, &mut text)?;
        Ok(text)
    }
}

/// Returns the epoch that sealed bytes begin with.
pub fn epoch_of(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk().map(|epoch| u32::from_le_bytes(*epoch))
}

/// An epoch as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    epoch: u32,
    cipher: Cipher,
    salt: [u8; SALT_LEN],
    nonce: [u8; NONCE_LEN],
    sealed: Vec<u8>,
}

impl Entry {
    fn seal(epoch: u32, cipher: Cipher, secret: &[u8; SECRET_LEN], key: &[u8], rng: &mut Rng) -> Self {
        let (mut salt, mut nonce) = ([0; SALT_LEN], [0; NONCE_LEN]);
        rng.fill(&mut salt);
        rng.fill(&mut nonce);
        let mut entry = Entry { epoch, cipher, salt, nonce, sealed: secret.to_vec() };
        let (sealing, associated) = (entry.key(key), entry.associated());
        key::seal_key(&sealing, &nonce, &associated, &mut entry.sealed);
        entry
    }

    /// Returns the key of the epoch; `None` if the server's key is another.
    fn open(&self, key: &[u8]) -> Option<Zeroizing<[u8; SECRET_LEN]>> {
        let mut text = Zeroizing::new(self.sealed.clone());
        key::open_key(&self.key(key), &self.nonce, &self.associated(), &mut text)?;
        let mut secret = Zeroizing::new([0; SECRET_LEN]);
        secret.copy_from_slice(text.get(..SECRET_LEN)?);
        Some(secret)
    }

    fn key(&self, server_key: &[u8]) -> Zeroizing<[u8; 32]> {
        let extracted = Zeroizing::new(mac(&self.salt, &[server_key]));
        Zeroizing::new(mac(&*extracted, &[b"natrix keys 1", &[1]]))
    }

    fn associated(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        self.put_head(&mut out);
        out
    }

    fn put_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.epoch.to_le_bytes());
        out.push(super::block::header::cipher_code(self.cipher));
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.nonce);
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (epoch, rest) = bytes.split_first_chunk()?;
        let (cipher, rest) = rest.split_first()?;
        let (salt, rest) = rest.split_first_chunk()?;
        let (nonce, sealed) = rest.split_first_chunk()?;
        let cipher = super::block::header::cipher_of(u32::from(*cipher))?;
        let (epoch, sealed) = (u32::from_le_bytes(*epoch), sealed.to_vec());
        Some(Entry { epoch, cipher, salt: *salt, nonce: *nonce, sealed })
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut body = Vec::with_capacity(4 + entries.len() * ENTRY_LEN);
    varint::put(&mut body, entries.len() as u64);
    for entry in entries {
        entry.put_head(&mut body);
        body.extend_from_slice(&entry.sealed);
    }
    twice::encode(MAGIC, &body)
}

fn decode(file: &[u8]) -> Option<Vec<Entry>> {
    twice::decode(file, MAGIC, MAGIC.len()).find_map(|(_, body)| decode_body(body))
}

fn decode_body(body: &[u8]) -> Option<Vec<Entry>> {
    let mut reader = Reader::new(body);
    let count = usize::try_from(reader.take()?).ok()?;
    let rest = reader.rest();
    if rest.len() != count.checked_mul(ENTRY_LEN)? {
        return None;
    }
    rest.chunks(ENTRY_LEN).map(Entry::decode).collect()
}

/// Returns whether a file is one of keys, whole.
pub fn is_whole(file: &[u8]) -> bool {
    decode(file).is_some()
}

#[cfg(test)]
mod tests;
