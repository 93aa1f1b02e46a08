//! Keys of a stream: one for each epoch, derived from the server's key, wiped when dropped, never shown.
//!
//! HKDF with HMAC-SHA256 (RFC 5869): extracted from the server's key under a salt of our own, expanded for owner, epoch
//! and cipher. A new server key or cipher is a new epoch; the old one stays readable until no block needs it.

use std::collections::BTreeMap;
use std::fmt;

use aes_gcm::Aes256Gcm;
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::super::{Cipher, OwnerId};
use super::header::cipher_code;

/// How long a nonce is, in bytes, for either cipher.
pub const NONCE_LEN: usize = 24;

/// What a seal adds to the text, in bytes.
pub const TAG_LEN: usize = 16;

const SALT: &[u8] = b"natrix storage 1";

/// The keys of one stream.
#[derive(Clone)]
pub struct Keys {
    owner: OwnerId,
    epochs: BTreeMap<u64, Key>,
}

/// A key of one epoch.
#[derive(Clone)]
struct Key {
    cipher: Cipher,
    secret: Zeroizing<[u8; 32]>,
    check: u64,
}

/// Why bytes could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// There is no key of this epoch.
    #[error("no key of epoch {0}")]
    NoKey(u64),
    /// The key is another, or the bytes are not what was sealed for this place.
    #[error("the seal does not hold")]
    Broken,
}

/// Shows owner and epochs, never a key.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let epochs = self.epochs.iter().map(|(epoch, key)| (*epoch, key.cipher));
        f.debug_struct("Keys")
            .field("owner", &self.owner)
            .field("epochs", &epochs.collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Has none: nothing is encrypted.
    pub fn none(owner: OwnerId) -> Self {
        Keys { owner, epochs: BTreeMap::new() }
    }

    /// Adds the key of `epoch`, which is not zero, derived from the server's key. With [`Cipher::None`] the epoch is one
    /// without encryption: how a stream is decrypted.
    ///
    /// # Panics
    ///
    /// If `epoch` is zero.
    pub fn add(&mut self, epoch: u64, cipher: Cipher, server_key: &[u8]) {
        assert!(epoch > 0, "epoch zero is the one without a key");
        let extracted = Zeroizing::new(mac(SALT, &[server_key]));
        let context = [self.owner.0.to_le_bytes(), epoch.to_le_bytes()].concat();
        let expand = |label: &[u8]| mac(&*extracted, &[label, &context, &[cipher_code(cipher), 1]]);
        let secret = Zeroizing::new(expand(b"block"));
        let check = u64::from_le_bytes(*expand(b"check").first_chunk().expect("32 bytes"));
        self.epochs.insert(epoch, Key { cipher, secret, check });
    }

    /// Forgets the key of an epoch that no block needs.
    pub fn retire(&mut self, epoch: u64) {
        self.epochs.remove(&epoch);
    }

    /// Returns the newest epoch, zero if there is none.
    pub fn epoch(&self) -> u64 {
        self.epochs.last_key_value().map_or(0, |(epoch, _)| *epoch)
    }

    /// Returns how the newest epoch encrypts.
    pub fn cipher(&self) -> Cipher {
        self.epochs.last_key_value().map_or(Cipher::None, |(_, key)| key.cipher)
    }

    /// Returns a number that tells whether the key of an epoch is the one that it was, without telling the key: what
    /// the metadata file keeps, so that a wrong key is found before a block is touched.
    pub fn check(&self, epoch: u64) -> Option<u64> {
        self.epochs.get(&epoch).map(|key| key.check)
    }

    /// Seals `buffer` in place for the place that `associated` names. `nonce` is random, new each time.
    pub(crate) fn seal(
        &self,
        epoch: u64,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let key = self.epochs.get(&epoch).ok_or(SealError::NoKey(epoch))?;
        let sealed = match key.cipher {
            Cipher::None => Ok(()),
            Cipher::ChaCha20Poly1305 => {
                let cipher = XChaCha20Poly1305::new(&(*key.secret).into());
                cipher.encrypt_in_place(&(*nonce).into(), associated, buffer)
            }
            Cipher::Aes256Gcm => {
                let (cipher, nonce) = key.aes(nonce);
                cipher.encrypt_in_place(&nonce.into(), associated, buffer)
            }
        };
        sealed.map_err(|_| SealError::Broken)
    }

    /// Opens what [`Keys::seal`] sealed, in place.
    pub(crate) fn open(
        &self,
        epoch: u64,
        nonce: &[u8; NONCE_LEN],
        associated: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Result<(), SealError> {
        let key = self.epochs.get(&epoch).ok_or(SealError::NoKey(epoch))?;
        let opened = match key.cipher {
            Cipher::None => Ok(()),
            Cipher::ChaCha20Poly1305 => {
                let cipher = XChaCha20Poly1305::new(&(*key.secret).into());
                cipher.decrypt_in_place(&(*nonce).into(), associated, buffer)
            }
            Cipher::Aes256Gcm => {
                let (cipher, nonce) = key.aes(nonce);
                cipher.decrypt_in_place(&nonce.into(), associated, buffer)
            }
        };
        opened.map_err(|_| SealError::Broken)
    }

    /// Returns how an epoch encrypts.
    pub(super) fn cipher_of(&self, epoch: u64) -> Option<Cipher> {
        self.epochs.get(&epoch).map(|key| key.cipher)
    }
}

impl Key {
    /// Returns the cipher and the rest of the nonce: the first half picks a key of its own, because 12 random bytes are
    /// too few to be drawn as often as a stream lives under one key.
    fn aes(&self, nonce: &[u8; NONCE_LEN]) -> (Aes256Gcm, [u8; 12]) {
        let (first, second) = nonce.split_at(12);
        let key = Zeroizing::new(mac(&*self.secret, &[b"frame", first]));
        (Aes256Gcm::new(&(*key).into()), second.try_into().expect("twelve bytes"))
    }
}

/// Seals a key under another, in place. `nonce` is random, new each time.
pub(crate) fn seal_key(sealing: &[u8; 32], nonce: &[u8; NONCE_LEN], associated: &[u8], buffer: &mut Vec<u8>) {
    let cipher = XChaCha20Poly1305::new(&(*sealing).into());
    let sealed = cipher.encrypt_in_place(&(*nonce).into(), associated, buffer);
    sealed.expect("a key is shorter than the cipher allows");
}

/// Opens what [`seal_key`] sealed, in place; `None` if the key is another.
pub(crate) fn open_key(
    sealing: &[u8; 32],
    nonce: &[u8; NONCE_LEN],
    associated: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<()> {
    let cipher = XChaCha20Poly1305::new(&(*sealing).into());
    cipher.decrypt_in_place(&(*nonce).into(), associated, buffer).ok()
}

/// Returns HMAC-SHA256 of the pieces, one behind the other.
pub(crate) fn mac(key: &[u8], pieces: &[&[u8]]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("a key of any length will do");
    for piece in pieces {
        mac.update(piece);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(owner: u64, server_key: &[u8], cipher: Cipher) -> Keys {
        let mut keys = Keys::none(OwnerId(owner));
        keys.add(1, cipher, server_key);
        keys
    }

    #[test]
    fn only_the_key_of_that_owner_epoch_and_cipher_opens() {
        for cipher in [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm] {
            let mut right = keys(1, b"secret", cipher);
            let mut sealed = b"text".to_vec();
            right.seal(1, &[7; NONCE_LEN], b"place", &mut sealed).unwrap();
            assert_eq!(sealed.len(), 4 + TAG_LEN);
            let open = |keys: &Keys, epoch, nonce: u8, place: &[u8]| {
                let mut buffer = sealed.clone();
                keys.open(epoch, &[nonce; NONCE_LEN], place, &mut buffer).map(|()| buffer)
            };
            assert_eq!(open(&right, 1, 7, b"place"), Ok(b"text".to_vec()));
            assert_eq!(open(&right, 1, 8, b"place"), Err(SealError::Broken));
            assert_eq!(open(&right, 1, 7, b"other"), Err(SealError::Broken));
            assert_eq!(open(&keys(2, b"secret", cipher), 1, 7, b"place"), Err(SealError::Broken));
            assert_eq!(open(&keys(1, b"Secret", cipher), 1, 7, b"place"), Err(SealError::Broken));
            assert_eq!(open(&right, 2, 7, b"place"), Err(SealError::NoKey(2)));
            right.add(2, cipher, b"secret");
            assert_eq!(open(&right, 2, 7, b"place"), Err(SealError::Broken));
            assert_eq!((right.epoch(), open(&right, 1, 7, b"place").is_ok()), (2, true));
            assert_ne!(right.check(1), right.check(2));
            right.retire(1);
            assert_eq!(open(&right, 1, 7, b"place"), Err(SealError::NoKey(1)));
        }
    }

    #[test]
    fn keys_are_not_shown() {
        let keys = keys(1, b"secret", Cipher::Aes256Gcm);
        let shown = format!("{keys:?}");
        assert_eq!(shown, "Keys { owner: OwnerId(1), epochs: [(1, Aes256Gcm)], .. }");
    }
}
