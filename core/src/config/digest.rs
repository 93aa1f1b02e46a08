//! The hash that says whether two configurations mean the same.
//!
//! It is the SHA-256 of the values as JSON with sorted keys, written the way the reference's JSON encoder writes
//! it, so that both servers print the same digest for the same file.
//!
//! Source: nats-server `conf/parse.go`, `configDigest`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::value::{Token, Value};

/// Returns `sha256:` and the hash in hexadecimal.
pub(super) fn digest(map: &BTreeMap<String, Token>) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest((json(map) + "\n").as_bytes()) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Writes the values as JSON.
pub(super) fn json(map: &BTreeMap<String, Token>) -> String {
    let mut json = String::new();
    write_map(&mut json, map);
    json
}

fn write_map(out: &mut String, map: &BTreeMap<String, Token>) {
    out.push('{');
    for (index, (key, token)) in map.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write_string(out, key);
        out.push(':');
        write_value(out, &token.value);
    }
    out.push('}');
}

fn write_value(out: &mut String, value: &Value) {
    match value {
        Value::Bool(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Integer(value) => {
            let _ = write!(out, "{value}");
        }
        Value::Float(value) => write_float(out, *value),
        Value::String(text) | Value::DateTime(text) => write_string(out, text),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                write_value(out, &item.value);
            }
            out.push(']');
        }
        Value::Map(map) => write_map(out, map),
    }
}

/// The shortest digits that read back as the same number, with an exponent only where it is far from 1.
fn write_float(out: &mut String, value: f64) {
    let size = value.abs();
    let _ = if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{value:e}");
        let sign = if size >= 1.0 { "e+" } else { "e" };
        write!(out, "{}", text.replace('e', sign))
    } else {
        write!(out, "{value}")
    };
}

/// Escapes also what would mean something in HTML, as the reference's encoder does by default.
fn write_string(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_written_as_the_reference_writes_them() {
        for (value, want) in [
            (1.5, "1.5"),
            (2.0, "2"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (-0.0, "-0"),
        ] {
            let mut out = String::new();
            write_float(&mut out, value);
            assert_eq!(out, want);
        }
    }

    #[test]
    fn strings_are_escaped_for_html_too() {
        let mut out = String::new();
        write_string(&mut out, "a<b>\"\\\n\u{1}\u{2028}é");
        assert_eq!(out, r#""a\u003cb\u003e\"\\\n\u0001\u2028é""#);
    }
}
