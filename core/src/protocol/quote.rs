//! Bytes as Go's `%q` prints them: the reference's log lines and some of its API errors quote what they were given.

use std::fmt::Write as _;

/// Quotes `bytes` as a Go string literal.
///
/// Differs: of the characters outside ASCII, a few that Go's Unicode tables call printable and Rust's escape (or the
/// other way round) come out in the other form.
pub fn quote(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len() + 2);
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        chunk.valid().chars().for_each(|character| push(&mut out, character, '"'));
        for byte in chunk.invalid() {
            // Writing to a string can't fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    out.push('"');
    out
}

/// Quotes one character as Go's `%q` does a rune: `'x'`.
pub fn quote_char(character: char) -> String {
    let mut out = String::from("'");
    push(&mut out, character, '\'');
    out.push('\'');
    out
}

fn push(out: &mut String, character: char, delimiter: char) {
    let escape = match character {
        '\\' => "\\\\",
        '\x07' => "\\a",
        '\x08' => "\\b",
        '\x0c' => "\\f",
        '\n' => "\\n",
        '\r' => "\\r",
        '\t' => "\\t",
        '\x0b' => "\\v",
        _ => {
            // Writing to a string can't fail.
            let _ = match character {
                _ if character == delimiter => write!(out, "\\{character}"),
                ' '..='~' => write!(out, "{character}"),
                '\0'..='\x7f' => write!(out, "\\x{:02x}", u32::from(character)),
                _ if character.escape_debug().len() == 1 => write!(out, "{character}"),
                '\u{80}'..='\u{ffff}' => write!(out, "\\u{:04x}", u32::from(character)),
                _ => write!(out, "\\U{:08x}", u32::from(character)),
            };
            return;
        }
    };
    out.push_str(escape);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_quoted_as_go_does() {
        assert_eq!(quote(b"foo 1\r\n"), r#""foo 1\r\n""#);
        assert_eq!(quote(b"a\"b\\c'\0\x7f"), r#""a\"b\\c'\x00\x7f""#);
        assert_eq!(quote("héé\u{a0}\u{200b}".as_bytes()), r#""héé\u00a0\u200b""#);
        assert_eq!(quote(b"\xff\xc3"), r#""\xff\xc3""#);
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('"'), "'\"'");
    }
}
