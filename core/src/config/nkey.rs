//! Public keys in their readable form: is this one, and of whom?
//!
//! Base32 of a kind byte, 32 bytes of key and a CRC-16.

/// Whose key it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// `A…`
    Account = 0,
    /// `U…`
    User = 20,
}

/// Tells whether `text` is a well-formed public key of that kind.
pub(super) fn is_public_key(text: &str, kind: KeyKind) -> bool {
    prefix(text) == Some((kind as u8) << 3)
}

/// Tells whether `text` is a well-formed public key of an account, cluster, operator, server, user or curve.
///
/// Source: nats-io/nkeys, `strkey.go`, `IsValidPublicKey`.
pub(super) fn is_any_public_key(text: &str) -> bool {
    const PREFIXES: [u8; 6] = [0, 2 << 3, 14 << 3, 13 << 3, 20 << 3, 23 << 3];
    prefix(text).is_some_and(|prefix| PREFIXES.contains(&prefix))
}

/// Returns the kind byte of a well-formed key.
fn prefix(text: &str) -> Option<u8> {
    let bytes = data_encoding::BASE32_NOPAD.decode(text.as_bytes()).ok()?;
    let [body @ .., low, high] = bytes.as_slice() else { return None };
    let whole = body.len() == 33 && crc16(body) == u16::from_le_bytes([*low, *high]);
    whole.then(|| body[0])
}

/// CRC-16 with the polynomial of CCITT, beginning at zero.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: &str = "UA3C5TBZYK5GJQJRWPMU6NFY5JNAEVQB2V2TUZFZDHFJFUYVKTTUOFKZ";

    #[test]
    fn a_key_is_of_its_kind_and_whole() {
        assert!(is_public_key(USER, KeyKind::User));
        assert!(!is_public_key(USER, KeyKind::Account));
        assert!(!is_public_key(&USER.replace("A3C", "A3D"), KeyKind::User));
        assert!(!is_public_key(&USER[..40], KeyKind::User));
        assert!(!is_public_key("", KeyKind::User));
        assert!(is_any_public_key(USER));
        assert!(!is_any_public_key(&USER[..40]));
    }
}
