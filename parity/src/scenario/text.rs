//! Small readers of text: words, escapes, chunks, numbers.

use anyhow::{Context, Result};

/// Splits at spaces, except inside of single quotes.
pub(super) fn words(text: &str) -> Vec<String> {
    let (mut words, mut quoted) = (Vec::new(), false);
    let mut word: Option<String> = None;
    for c in text.chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            ' ' if !quoted => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// Resolves `\r \n \t \0 \\ \xHH`.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        match bytes.next().context("a backslash at the end")? {
            b'r' => out.push(b'\r'),
            b'n' => out.push(b'\n'),
            b't' => out.push(b'\t'),
            b'0' => out.push(0),
            b'\\' => out.push(b'\\'),
            b'x' => {
                let digits = [bytes.next().context("\\xHH")?, bytes.next().context("\\xHH")?];
                out.push(u8::from_str_radix(std::str::from_utf8(&digits)?, 16)?);
            }
            // JSON has escapes of its own, and needs no second backslash here.
            other => out.extend_from_slice(&[b'\\', other]),
        }
    }
    Ok(out)
}

/// Undoes HTTP's chunked encoding.
pub(super) fn unchunk(body: &str) -> Result<String> {
    let (mut out, mut rest) = (String::new(), body);
    loop {
        let (size, after) = rest.split_once("\r\n").context("no chunk size")?;
        let size = usize::from_str_radix(size, 16)?;
        if size == 0 {
            return Ok(out);
        }
        out.push_str(after.get(..size).context("a short chunk")?);
        rest = after[size..].strip_prefix("\r\n").context("no end of a chunk")?;
    }
}

/// Replaces a number where it stands by itself, not as a part of a longer one.
pub(super) fn replace_number(text: &str, number: &str, name: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some(at) = rest.find(number) {
        let (before, after) = (&rest[..at], &rest[at + number.len()..]);
        let digit = |c: char| c.is_ascii_digit();
        let alone = !before.ends_with(digit) && !after.starts_with(digit);
        out.push_str(before);
        out.push_str(if alone { name } else { number });
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_what_is_quoted_together() {
        assert_eq!(words("-a 'b c'  d ''"), ["-a", "b c", "d", ""]);
    }

    #[test]
    fn escapes_give_any_byte() {
        assert_eq!(unescape(r"a\r\n\0\x7f\\\u0041").unwrap(), b"a\r\n\0\x7f\\\\u0041");
        assert!(unescape("\\").is_err() && unescape("\\x1").is_err());
    }

    #[test]
    fn a_number_is_replaced_only_where_it_stands_alone() {
        assert_eq!(replace_number("[12] 12.312 12", "12", "P"), "[P] P.312 P");
    }

    #[test]
    fn chunks_are_put_together() {
        assert_eq!(unchunk("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").unwrap(), "abcde");
        assert!(unchunk("9\r\nabc\r\n").is_err());
    }
}
