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
    let Ok(bytes) = data_encoding::BASE32_NOPAD.decode(text.as_bytes()) else { return false };
    let [body @ .., low, high] = bytes.as_slice() else { return false };
    body.len() == 33 && body[0] == (kind as u8) << 3 && crc16(body) == u16::from_le_bytes([*low, *high])
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
    }
}
