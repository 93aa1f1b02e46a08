//! Numbers and truth values as Go's `strconv` reads them from a command line.

/// Reads one of the words that Go takes for a boolean.
pub(super) fn parse_switch(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// Reads a number with an optional sign and base (`0x`, `0o`, `0b` or a leading zero), underscores between digits.
///
/// # Errors
///
/// What Go's `flag` package says is wrong.
pub(super) fn parse_number(text: &str) -> Result<i64, &'static str> {
    const SYNTAX: &str = "parse error";
    const RANGE: &str = "value out of range";
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    let digits = match radix {
        // An underscore may follow the base, and else only a digit.
        10 => digits,
        _ => digits.strip_prefix('_').unwrap_or(digits),
    };
    if digits.is_empty() || digits.starts_with('_') || digits.ends_with('_') || digits.contains("__") {
        return Err(SYNTAX);
    }
    let mut value: i128 = 0;
    for digit in digits.chars().filter(|c| *c != '_') {
        let digit = digit.to_digit(radix).ok_or(SYNTAX)?;
        value = value.saturating_mul(i128::from(radix)).saturating_add(i128::from(digit));
    }
    i64::try_from(if negative { -value } else { value }).map_err(|_| RANGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_go_reads_them() {
        for (text, number) in [
            ("4222", 4222),
            ("-1", -1),
            ("+7", 7),
            ("0", 0),
            ("0x10", 16),
            ("0X_fF", 255),
            ("010", 8),
            ("0b101", 5),
            ("0o17", 15),
            ("1_000", 1000),
            ("-9223372036854775808", i64::MIN),
        ] {
            assert_eq!(parse_number(text), Ok(number), "{text}");
        }
        for text in ["", "-", "abc", "0x", "1x", "1__0", "_1", "1_", "09", "1.5", "é"] {
            assert_eq!(parse_number(text), Err("parse error"), "{text}");
        }
        for text in ["9223372036854775808", "99999999999999999999999999999999999999999999"] {
            assert_eq!(parse_number(text), Err("value out of range"), "{text}");
        }
    }
}
