use proptest::prelude::*;

use super::*;
use crate::rng::Rng;
use crate::storage::Position;
use bytes::Bytes;
use std::sync::Arc;

const CIPHERS: [Cipher; 2] = [Cipher::ChaCha20Poly1305, Cipher::Aes256Gcm];

fn given<'a>(key: Option<&'a str>, previous: Option<&'a str>, cipher: Cipher) -> Given<'a> {
    Given { key: key.map(str::as_bytes), previous: previous.map(str::as_bytes), cipher }
}

/// Opens, and lets the file be what it has to be.
fn open(file: &mut Option<Vec<u8>>, given: Given<'_>, seed: u64) -> (Vault, usize) {
    let (vault, opened) = Vault::open(file.as_deref(), given, &mut Rng::from_u64(seed)).unwrap();
    *file = opened.file.or(file.take());
    (vault, opened.locked)
}

#[test]
fn a_state_is_opened_with_the_key_and_for_the_place_that_it_was_sealed_with() {
    for cipher in CIPHERS {
        let mut file = None;
        let (vault, _) = open(&mut file, given(Some("one"), None, cipher), 1);
        let sealed = vault.seal(b"place", b"text");
        assert!(!sealed.windows(4).any(|window| window == b"text"));
        assert_eq!(vault.seal(b"place", b"text"), sealed, "the same is sealed the same");
        let before = file.clone();
        let (again, locked) = open(&mut file, given(Some("one"), None, cipher), 2);
        assert_eq!((file.clone(), locked, again.epoch()), (before, 0, vault.epoch()));
        assert_eq!(again.open_state(b"place", &sealed), Ok(b"text".to_vec()));
        assert_eq!(again.open_state(b"other", &sealed), Err(SealError::Broken));
        let (wrong, locked) = open(&mut file.clone(), given(Some("two"), None, cipher), 3);
        assert_eq!(locked, 1);
        assert_eq!(
            wrong.open_state(b"place", &sealed),
            Err(SealError::NoKey(u64::from(vault.epoch()))),
            "another key has another epoch"
        );
        let (none, locked) = open(&mut file, given(None, Some("one"), cipher), 4);
        assert_eq!((none.seals(), locked), (false, 1));
    }
}

#[test]
fn with_the_key_before_all_that_it_opened_is_opened_by_the_new_one_alone() {
    let mut file = None;
    let (first, _) = open(&mut file, given(Some("one"), None, Cipher::ChaCha20Poly1305), 1);
    let sealed = first.seal(b"place", b"text");
    // Somebody begins with a wrong key, and what is written under it stays apart.
    let (second, _) = open(&mut file, given(Some("two"), None, Cipher::ChaCha20Poly1305), 2);
    assert!(second.epoch() > first.epoch());
    let apart = second.seal(b"place", b"apart");
    let (right, locked) = open(&mut file, given(Some("one"), None, Cipher::ChaCha20Poly1305), 3);
    assert_eq!((right.epoch(), locked), (first.epoch(), 1));
    assert!(right.open_state(b"place", &apart).is_err());
    let (both, locked) = open(&mut file, given(Some("three"), Some("one"), Cipher::ChaCha20Poly1305), 4);
    assert_eq!(
        (both.epoch(), locked),
        (first.epoch(), 1),
        "another key alone is no reason for another epoch"
    );
    let (other, locked) = open(&mut file, given(Some("three"), None, Cipher::Aes256Gcm), 4);
    assert_eq!((other.cipher(), locked), (Cipher::Aes256Gcm, 1));
    assert!(other.epoch() > second.epoch(), "another cipher is");
    let (same, _) = open(&mut file, given(Some("three"), None, Cipher::Aes256Gcm), 4);
    assert_eq!(same.epoch(), other.epoch());
    for given in
        [given(Some("three"), None, Cipher::Aes256Gcm), given(Some("two"), Some("three"), Cipher::Aes256Gcm)]
    {
        let (vault, _) = open(&mut file, given, 5);
        assert_eq!(vault.open_state(b"place", &sealed), Ok(b"text".to_vec()));
    }
    let (all, locked) = open(&mut file, given(Some("two"), None, Cipher::Aes256Gcm), 6);
    assert_eq!((all.open_state(b"place", &apart), locked), (Ok(b"apart".to_vec()), 0));
    assert!(
        Vault::open(file.as_deref(), given(Some("one"), None, Cipher::Aes256Gcm), &mut Rng::from_u64(7))
            .is_ok()
    );
}

#[test]
fn one_bad_sector_or_bit_of_the_file_costs_nothing() {
    let mut file = None;
    open(&mut file, given(Some("one"), None, Cipher::Aes256Gcm), 1);
    open(&mut file, given(Some("one"), None, Cipher::ChaCha20Poly1305), 2);
    let file = file.unwrap();
    let entries = decode(&file).unwrap();
    assert_eq!(entries.len(), 2);
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 4;
        assert_eq!(decode(&bad).as_ref(), Some(&entries), "byte {at}");
    }
    let damaged = vec![0; file.len()];
    let given = given(Some("one"), None, Cipher::Aes256Gcm);
    assert_eq!(Vault::open(Some(&damaged), given, &mut Rng::from_u64(3)).err(), Some(Damaged));
}

/// Two starts of one journal whose positions repeat in their lower half, as they do after each crash.
fn nothing_is_sealed_twice_under_one_nonce() {
    for cipher in CIPHERS {
        let mut file = None;
        let given = given(Some("one"), None, cipher);
        let start = |file: &mut Option<Vec<u8>>, seed| {
            let (vault, _) = open(file, given, seed);
            Sessions::begin(Arc::new(vault), &mut Rng::from_u64(seed))
        };
        let texts = [Bytes::from(vec![0x55; 40]), Bytes::from(vec![0xaa; 40])];
        let owner = OwnerId(5);
        let (before, mut behind) = (start(&mut file, 1), start(&mut file, 2));
        let first = before.seal(owner, Position(7), 1, &texts[..1]).unwrap();
        let second = behind.seal(owner, Position(7 + (1 << 32)), 1, &texts[1..]).unwrap();
        let mixed = |at: usize| first[at] ^ second[at];
        let text = 4 + SESSION_LEN..4 + SESSION_LEN + 40;
        assert!(text.into_iter().any(|at| mixed(at) != 0xff), "the same stream of the cipher");
        for (at, (position, sealed)) in [(7, &first), (7 + (1 << 32), &second)].into_iter().enumerate() {
            assert_eq!(behind.open(owner, Position(position), 1, sealed), Ok(texts[at].clone()));
            assert_eq!(behind.open(owner, Position(position + 1), 1, sealed), Err(SealError::Broken));
            assert_eq!(behind.open(owner, Position(position), 2, sealed), Err(SealError::Broken));
            assert_eq!(behind.open(OwnerId(6), Position(position), 1, sealed), Err(SealError::Broken));
        }
    }
}

#[test]
fn an_entry_is_opened_for_its_owner_position_and_kind_after_any_start() {
    nothing_is_sealed_twice_under_one_nonce();
}

#[cfg(feature = "planted-bugs")]
#[test]
fn a_session_that_begins_as_the_last_one_is_caught() {
    crate::planted::arm(Some(crate::planted::Bug::SessionReused), 0, 1, 1);
    let caught = std::panic::catch_unwind(nothing_is_sealed_twice_under_one_nonce);
    crate::planted::disarm();
    assert!(caught.is_err());
}

#[test]
fn keys_are_not_shown() {
    let (vault, _) = open(&mut None, given(Some("the secret"), None, Cipher::Aes256Gcm), 1);
    let epoch = vault.epoch();
    assert_eq!(
        format!("{vault:?}"),
        format!("Vault {{ current: {epoch}, epochs: [({epoch}, Aes256Gcm)], .. }}")
    );
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let given = given(Some("key"), Some("other"), Cipher::Aes256Gcm);
        let _ = Vault::open(Some(&bytes), given, &mut Rng::from_u64(1));
        let (vault, _) = open(&mut None, given, 1);
        prop_assert!(vault.open_state(b"place", &bytes).is_err());
        let mut sessions = Sessions::begin(Arc::new(vault), &mut Rng::from_u64(1));
        prop_assert!(sessions.open(OwnerId(1), Position(1), 1, &bytes).is_err());
    }
}
