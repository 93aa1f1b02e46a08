//! How entries of a journal are sealed: by a key of each start's own, with the position as the nonce.
//!
//! A position is given to one entry, ever, as far as a journal remembers. A folder that is set back to an older copy doesn't: so
//! each start draws a *session*, whose key is derived from the epoch's and the session's random number. An entry names epoch and
//! session, so that it can be copied forward as it stands: `epoch u32, session 12, text, tag 16`. Owner, position and kind are
//! associated data.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aes_gcm::Aes256Gcm;
use bytes::Bytes;
use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use zeroize::Zeroizing;

use super::super::block::key::{SealError, TAG_LEN, mac};
use super::super::{Cipher, OwnerId, Position};
use super::{Vault, epoch_of};
use crate::planted::{self, Bug};
use crate::rng::Rng;

/// How long the number of a session is, in bytes.
pub const SESSION_LEN: usize = 12;
/// What stands before the text.
const HEAD: usize = 4 + SESSION_LEN;

/// Seals the entries of one start.
pub struct Session {
    head: [u8; HEAD],
    cipher: EntryCipher,
}

/// Shows which it is, never a key.
impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("head", &self.head).finish_non_exhaustive()
    }
}

enum EntryCipher {
    ChaCha(Box<ChaCha20Poly1305>),
    Aes(Box<Aes256Gcm>),
}

impl Session {
    fn new(vault: &Vault, head: [u8; HEAD]) -> Result<Self, SealError> {
        let epoch = epoch_of(&head).unwrap_or_default();
        let key = vault.epochs.get(&epoch).ok_or(SealError::NoKey(u64::from(epoch)))?;
        let secret = Zeroizing::new(mac(&*key.secret, &[b"journal", &head]));
        let cipher = match key.cipher {
            Cipher::Aes256Gcm => EntryCipher::Aes(Box::new(Aes256Gcm::new(&(*secret).into()))),
            _ => EntryCipher::ChaCha(Box::new(ChaCha20Poly1305::new(&(*secret).into()))),
        };
        Ok(Session { head, cipher })
    }

    fn seal(&self, owner: OwnerId, position: Position, kind: u8, payload: &[Bytes]) -> Bytes {
        let length: usize = payload.iter().map(Bytes::len).sum();
        let mut out = Vec::with_capacity(HEAD + length + TAG_LEN);
        out.extend_from_slice(&self.head);
        payload.iter().for_each(|piece| out.extend_from_slice(piece));
        let (nonce, associated) = (nonce(position), associated(owner, position, kind));
        let text = &mut out[HEAD..];
        let tag: [u8; TAG_LEN] = match &self.cipher {
            EntryCipher::ChaCha(cipher) => {
                let sealed = cipher.encrypt_inout_detached(&nonce.into(), &associated, text.into());
                sealed.expect("an entry is shorter than a cipher allows").into()
            }
            EntryCipher::Aes(cipher) => {
                let sealed = cipher.encrypt_inout_detached(&nonce.into(), &associated, text.into());
                sealed.expect("an entry is shorter than a cipher allows").into()
            }
        };
        out.extend_from_slice(&tag);
        Bytes::from(out)
    }

    fn open(&self, owner: OwnerId, position: Position, kind: u8, bytes: &[u8]) -> Result<Bytes, SealError> {
        let sealed = bytes.get(HEAD..).ok_or(SealError::Broken)?;
        let (text, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(SealError::Broken)?;
        let (nonce, associated) = (nonce(position), associated(owner, position, kind));
        let mut text = text.to_vec();
        let opened = match &self.cipher {
            EntryCipher::ChaCha(cipher) => {
                let buffer = text.as_mut_slice().into();
                cipher.decrypt_inout_detached(&nonce.into(), &associated, buffer, &(*tag).into())
            }
            EntryCipher::Aes(cipher) => {
                let buffer = text.as_mut_slice().into();
                cipher.decrypt_inout_detached(&nonce.into(), &associated, buffer, &(*tag).into())
            }
        };
        opened.map_err(|_| SealError::Broken)?;
        Ok(Bytes::from(text))
    }
}

fn nonce(position: Position) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..8].copy_from_slice(&position.0.to_le_bytes());
    if planted::bug(Bug::SessionReused) {
        nonce[4..].fill(0);
    }
    nonce
}

fn associated(owner: OwnerId, position: Position, kind: u8) -> [u8; 17] {
    let mut out = [0; 17];
    out[..8].copy_from_slice(&owner.0.to_le_bytes());
    out[8..16].copy_from_slice(&position.0.to_le_bytes());
    out[16] = kind;
    out
}

/// Seals the entries of a journal, and opens those of all starts before.
#[derive(Debug)]
pub struct Sessions {
    vault: Arc<Vault>,
    /// Of this start; `None` if nothing is sealed.
    present: Option<Session>,
    /// Of those before, as far as their entries were met.
    before: BTreeMap<[u8; HEAD], Session>,
}

impl Sessions {
    /// Begins a session of a vault; `rng` draws its number.
    pub fn begin(vault: Arc<Vault>, rng: &mut Rng) -> Self {
        let mut head = [0; HEAD];
        head[..4].copy_from_slice(&vault.epoch().to_le_bytes());
        rng.fill(&mut head[4..]);
        if planted::bug(Bug::SessionReused) {
            head[4..].fill(7);
        }
        let present = if vault.seals() { Session::new(&vault, head).ok() } else { None };
        Sessions { vault, present, before: BTreeMap::new() }
    }

    /// Seals an entry; `None` if nothing is sealed.
    pub fn seal(&self, owner: OwnerId, position: Position, kind: u8, payload: &[Bytes]) -> Option<Bytes> {
        self.present.as_ref().map(|session| session.seal(owner, position, kind, payload))
    }

    /// Opens an entry.
    ///
    /// # Errors
    ///
    /// [`SealError`]: there is no key of its epoch, or it isn't what was sealed.
    pub fn open(
        &mut self,
        owner: OwnerId,
        position: Position,
        kind: u8,
        bytes: &[u8],
    ) -> Result<Bytes, SealError> {
        let head = *bytes.first_chunk::<HEAD>().ok_or(SealError::Broken)?;
        if !self.before.contains_key(&head) {
            self.before.insert(head, Session::new(&self.vault, head)?);
        }
        self.before[&head].open(owner, position, kind, bytes)
    }
}
