//! nkeys: Ed25519 keys in the text form that NATS gives them, and signatures made with them.
//!
//! Shape of a public key: base32 (RFC 4648, no padding) of one prefix byte, 32 key bytes and a CRC-16 of both,
//! little-endian. The prefix is chosen so that the text begins with the letter of the key's kind.
//!
//! Source: nats-io/nkeys, `strkey.go` and `crc16.go`.

use data_encoding::{BASE32_NOPAD, BASE64, BASE64URL_NOPAD};
use ed25519_dalek::{Signature, SigningKey, VerifyingKey};

/// What a key stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A user, `U`.
    User,
    /// An account, `A`.
    Account,
    /// A server, `N`.
    Server,
    /// A curve key for encryption, `X`.
    Curve,
}

impl Kind {
    const fn prefix(self) -> u8 {
        match self {
            Kind::User => 20 << 3,
            Kind::Account => 0,
            Kind::Server => 13 << 3,
            Kind::Curve => 23 << 3,
        }
    }
}

/// Why a text is not a public key of the kind that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NkeyError {
    /// Not base32, or not as long as a key.
    #[error("nkeys: invalid encoded key")]
    Encoding,
    /// The checksum doesn't fit: a typing error, most likely.
    #[error("nkeys: invalid checksum")]
    Checksum,
    /// A key of another kind.
    #[error("nkeys: invalid prefix byte")]
    Prefix,
    /// Not a point of the curve.
    #[error("nkeys: invalid public key")]
    PublicKey,
}

/// Reads a public key.
///
/// # Errors
///
/// [`NkeyError`], each variant as it says.
pub fn decode(kind: Kind, text: &str) -> Result<[u8; 32], NkeyError> {
    let bytes = BASE32_NOPAD.decode(text.as_bytes()).map_err(|_| NkeyError::Encoding)?;
    let (body, checksum) = bytes.split_last_chunk::<2>().ok_or(NkeyError::Encoding)?;
    let (prefix, key) = body.split_first().ok_or(NkeyError::Encoding)?;
    let key = <[u8; 32]>::try_from(key).map_err(|_| NkeyError::Encoding)?;
    if crc16(body) != u16::from_le_bytes(*checksum) {
        return Err(NkeyError::Checksum);
    }
    if *prefix != kind.prefix() {
        return Err(NkeyError::Prefix);
    }
    Ok(key)
}

/// Writes a public key as text, 56 characters.
pub fn encode(kind: Kind, key: &[u8; 32]) -> String {
    let mut body = Vec::with_capacity(35);
    body.push(kind.prefix());
    body.extend_from_slice(key);
    let checksum = crc16(&body);
    body.extend_from_slice(&checksum.to_le_bytes());
    BASE32_NOPAD.encode(&body)
}

/// Tells whether `signature` (base64 in the URL alphabet) is that of the key `text`, of whatever kind, over `message`.
pub fn verify_any(text: &str, message: &[u8], signature: &str) -> bool {
    let key = BASE32_NOPAD.decode(text.as_bytes()).ok().and_then(|bytes| {
        let key = bytes.get(1..33)?.try_into().ok()?;
        VerifyingKey::from_bytes(key).ok()
    });
    let signature = BASE64URL_NOPAD.decode(signature.as_bytes()).ok();
    let signature = signature.and_then(|bytes| Signature::from_slice(&bytes).ok());
    key.zip(signature).is_some_and(|(key, signature)| key.verify_strict(message, &signature).is_ok())
}

/// Tells whether `signature` (base64, in the URL alphabet or the usual one) is `text`'s over `message`.
pub fn verify(text: &str, message: &[u8], signature: &str) -> bool {
    let decoded = BASE64URL_NOPAD
        .decode(signature.as_bytes())
        .or_else(|_| BASE64.decode(signature.as_bytes()))
        .ok()
        .and_then(|bytes| Signature::from_slice(&bytes).ok());
    let key = decode(Kind::User, text).ok().and_then(|key| VerifyingKey::from_bytes(&key).ok());
    match (key, decoded) {
        (Some(key), Some(signature)) => key.verify_strict(message, &signature).is_ok(),
        _ => false,
    }
}

/// Makes the public key of a server out of the seed of its identity.
pub fn server_key(seed: &[u8; 32]) -> String {
    encode(Kind::Server, SigningKey::from_bytes(seed).verifying_key().as_bytes())
}

/// CRC-16/XMODEM: polynomial 0x1021, starting at zero.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ u16::from(byte) << 8, |crc, _| match crc & 0x8000 {
            0 => crc << 1,
            _ => crc << 1 ^ 0x1021,
        })
    })
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::Signer;

    use super::*;

    fn key_pair() -> (SigningKey, String) {
        let key = SigningKey::from_bytes(&[7; 32]);
        let text = encode(Kind::User, key.verifying_key().as_bytes());
        (key, text)
    }

    #[test]
    fn the_checksum_is_xmodem() {
        assert_eq!(crc16(b"123456789"), 0x31C3);
    }

    #[test]
    fn a_known_server_key_is_read() {
        let text = "NALBSEQSZQFIWMWDQZ23B3XHF5JFQUHX36XA46SND62D3MYHTZNTZ3C7";
        let key = decode(Kind::Server, text).unwrap();
        assert_eq!(encode(Kind::Server, &key), text);
        assert_eq!(decode(Kind::User, text), Err(NkeyError::Prefix));
    }

    #[test]
    fn kinds_begin_with_their_letters() {
        for (kind, letter) in
            [(Kind::User, 'U'), (Kind::Account, 'A'), (Kind::Server, 'N'), (Kind::Curve, 'X')]
        {
            assert!(encode(kind, &[1; 32]).starts_with(letter));
        }
    }

    #[test]
    fn a_typing_error_is_found() {
        let (_, text) = key_pair();
        let wrong = text.replace(&text[20..21], if &text[20..21] == "A" { "B" } else { "A" });
        assert_eq!(decode(Kind::User, &wrong), Err(NkeyError::Checksum));
        assert_eq!(decode(Kind::User, "U"), Err(NkeyError::Encoding));
    }

    #[test]
    fn only_the_right_signature_of_the_right_message_is_right() {
        let (key, text) = key_pair();
        let signature = key.sign(b"nonce").to_bytes();
        assert!(verify(&text, b"nonce", &BASE64URL_NOPAD.encode(&signature)));
        assert!(verify(&text, b"nonce", &BASE64.encode(&signature)));
        assert!(!verify(&text, b"other", &BASE64.encode(&signature)));
        assert!(!verify(&text, b"nonce", "bm90IGEgc2lnbmF0dXJl"));
        let other = encode(Kind::User, SigningKey::from_bytes(&[8; 32]).verifying_key().as_bytes());
        assert!(!verify(&other, b"nonce", &BASE64.encode(&signature)));
    }
}
