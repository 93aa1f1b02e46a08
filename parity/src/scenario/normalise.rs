//! Takes out of a transcript what may differ from run to run: ids, ports, times, paths, Go's version.
//!
//! Invariant: what a client or an operator can rely on stays: texts, key names, types, order. A value is
//! replaced by what it is, `<port>`, never dropped, so that a missing one still shows.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use serde_json::Value;

/// Replaces what differs from run to run in a line of text.
pub(super) fn text(line: &str) -> String {
    replace(line, &PATTERNS)
}

/// As [`text`], but leaves times, for those who know which of them may differ.
pub(super) fn all_but_times(line: &str) -> String {
    replace(line, &PATTERNS[1..])
}

fn replace(line: &str, patterns: &[Pattern]) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    let mut before = None;
    while !rest.is_empty() {
        let found = patterns.iter().find_map(|pattern| pattern(before, rest));
        let taken = match found {
            Some((length, name)) => {
                out.push_str(name);
                length
            }
            None => {
                let next = rest.chars().next().map_or(1, char::len_utf8);
                out.push_str(&rest[..next]);
                next
            }
        };
        before = rest[..taken].chars().next_back();
        rest = &rest[taken..];
    }
    out.replace("natrix", "nats-server")
}

type Pattern = fn(Option<char>, &str) -> Option<(usize, &'static str)>;

/// The first is that of times.
const PATTERNS: [Pattern; 7] = [time, pid, key, host_and_port, connection_id, go_version, commit];

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Returns the length of the start of `text` that has the form of `shape`, where 0 is any digit.
fn shaped(text: &str, shape: &str) -> Option<usize> {
    let bytes = text.as_bytes().get(..shape.len())?;
    let fits = |(byte, form): (&u8, u8)| if form == b'0' { byte.is_ascii_digit() } else { *byte == form };
    bytes.iter().zip(shape.bytes()).all(fits).then_some(shape.len())
}

fn time(before: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    if before.is_some_and(|c| c.is_ascii_digit()) {
        return None;
    }
    let length = shaped(text, "0000/00/00 00:00:00")
        .map(|whole| whole + shaped(&text[whole..], ".000000").unwrap_or(0))
        .map(|length| (length, "<time>"));
    let iso = || {
        let whole = shaped(text, "0000-00-00T00:00:00")?;
        let rest = text[whole..].bytes().take_while(|byte| matches!(byte, b'.' | b'0'..=b'9' | b'Z')).count();
        Some((whole + rest, "<time>"))
    };
    length.or_else(iso)
}

/// A process id at the start of a log line.
fn pid(before: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    let inner = digits(text.strip_prefix('[')?);
    (before.is_none() && inner > 0 && text[1 + inner..].starts_with("] ")).then_some((inner + 2, "[<pid>]"))
}

/// A public nkey of a server, which is its id, and which stands for its name where it has none.
fn key(before: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    let length = text.bytes().take_while(|byte| matches!(byte, b'A'..=b'Z' | b'2'..=b'7')).count();
    let starts = text.starts_with('N') || text.starts_with('X');
    let alone = before.is_none_or(|c| !c.is_ascii_alphanumeric());
    (alone && starts && length == 56).then_some((length, "<key>"))
}

fn host_and_port(before: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    let port = digits(text.strip_prefix(':')?);
    let after_host = before.is_some_and(|c| c.is_ascii_digit() || c == ']' || c == 't');
    let alone = !text[port + 1..].starts_with(|c: char| c.is_ascii_alphanumeric());
    // Times and places in files have two or three digits behind a colon; a port chosen by the kernel has five.
    (after_host && alone && (4..=5).contains(&port)).then_some((port + 1, ":<port>"))
}

fn connection_id(before: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    let number = digits(text.strip_prefix("cid:")?);
    (before.is_none_or(|c| !c.is_ascii_alphanumeric()) && number > 0).then_some((number + 4, "cid:<n>"))
}

fn go_version(before: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    let version = text.strip_prefix("go1.")?;
    let length = version.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    before.is_none_or(|c| !c.is_ascii_alphanumeric()).then_some((length + 4, "<go>"))
}

/// The commit that a server was built from, in its banner.
fn commit(_: Option<char>, text: &str) -> Option<(usize, &'static str)> {
    const START: &str = "Git:      [";
    let end = text.strip_prefix(START)?.find(']')?;
    Some((START.len() + end + 1, "Git:      [<commit>]"))
}

/// Returns a line as it is written in a transcript: printable, and short.
pub(super) fn line(bytes: &[u8]) -> String {
    let long = bytes.len() > 300;
    let shown = if long { &bytes[..60] } else { bytes };
    let mut out = String::new();
    match std::str::from_utf8(shown) {
        Ok(valid) if !valid.contains(|c: char| c.is_control()) => out.push_str(&text(valid)),
        _ => out.push_str(&shown.escape_ascii().to_string()),
    }
    if long {
        // The sum makes a wrong byte in the middle show.
        let sum = bytes.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
        let _ = write!(out, "... {} bytes, sum {sum:08x}", bytes.len());
    }
    out
}

/// Keys of INFO and of monitoring whose values differ from run to run, or from server to server.
const VOLATILE: [&str; 13] = [
    "server_id",
    "server_name",
    "git_commit",
    "go",
    "host",
    "port",
    "client_id",
    "client_ip",
    "nonce",
    "xkey",
    "connect_urls",
    "cluster_addr",
    "ip",
];

/// Returns an INFO's fields, one for each key in order of the keys, with values that may differ replaced.
pub(super) fn info(json: &str) -> String {
    let Ok(Value::Object(fields)) = serde_json::from_str(json) else {
        return format!("not an object: {json}");
    };
    let sorted: std::collections::BTreeMap<_, _> = fields.iter().collect();
    let shown = sorted.into_iter().map(|(key, value)| match VOLATILE.contains(&key.as_str()) {
        true => format!("{key}:<{}>", kind(value)),
        false => format!("{key}:{value}"),
    });
    shown.collect::<Vec<_>>().join(" ")
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Appends the shape of a JSON value: keys in order and the types of their values, which is what exporters
/// rely on. Keys in `keep` show their values; those in `drop` are left out.
pub(super) fn shape(value: &Value, keep: &[String], drop: &[String]) -> String {
    let mut out = String::new();
    write_shape(&mut out, value, keep, drop, 0, "");
    out
}

/// Appends the shape of a value, which is that of the key `name`.
fn write_shape(out: &mut String, value: &Value, keep: &[String], drop: &[String], depth: usize, name: &str) {
    let indent = "  ".repeat(depth + 1);
    match value {
        Value::Object(fields) => {
            out.push_str("{\n");
            let keys: BTreeSet<_> = fields.keys().filter(|key| !drop.contains(key)).collect();
            for key in keys {
                let _ = write!(out, "{indent}{key}: ");
                write_shape(out, &fields[key], keep, drop, depth + 1, key);
                out.push('\n');
            }
            let _ = write!(out, "{}}}", "  ".repeat(depth));
        }
        Value::Array(elements) => {
            let mut shown: Vec<_> = elements.iter().map(|_| String::new()).collect();
            for (out, element) in shown.iter_mut().zip(elements) {
                write_shape(out, element, keep, drop, depth, name);
            }
            // Subscriptions come in no order; connections are in the order that was asked for.
            if name.starts_with("subscriptions") {
                shown.sort_unstable();
            }
            // Elements of the same shape are one element: how many there are is shown where it is kept.
            shown.dedup();
            let _ = write!(out, "[{}]", shown.join(", "));
        }
        _ if keep.iter().any(|key| key == name) => {
            let _ = write!(out, "{value}");
        }
        _ => out.push_str(kind(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_from_run_to_run_is_replaced() {
        for (from, to) in [
            (
                "[123] 2026/11/20 23:19:21.271970 [INF] Server is ready",
                "[<pid>] <time> [INF] Server is ready",
            ),
            ("127.0.0.1:54321 - cid:12 - x", "127.0.0.1:<port> - cid:<n> - x"),
            ("Listening on 0.0.0.0:4222", "Listening on 0.0.0.0:<port>"),
            ("[::1]:4222", "[::1]:<port>"),
            ("Starting natrix", "Starting nats-server"),
            ("  Go build: go1.26.1", "  Go build: <go>"),
            ("MSG foo 1 5", "MSG foo 1 5"),
            ("  Git:      [b2fd3ef]", "  Git:      [<commit>]"),
            ("(sha256:8b3f:1234bcc)", "(sha256:8b3f:1234bcc)"),
            ("x.conf:12:34: unknown field", "x.conf:12:34: unknown field"),
        ] {
            assert_eq!(text(from), to);
        }
        let key = "N".repeat(56);
        assert_eq!(text(&format!("ID: {key}.")), "ID: <key>.");
    }

    #[test]
    fn a_shape_has_names_types_and_chosen_values() {
        let value = serde_json::json!({"b": 1, "a": ["x"], "list": [{"n": 1}, {"n": 2}], "gone": 1});
        let shown = shape(&value, &["b".to_owned()], &["gone".to_owned()]);
        assert_eq!(shown, "{\n  a: [string]\n  b: 1\n  list: [{\n    n: number\n  }]\n}");
    }

    #[test]
    fn long_lines_keep_their_length_and_a_sum() {
        let (one, other) = (vec![b'x'; 1000], [vec![b'x'; 999], vec![b'y']].concat());
        assert!(line(&one).contains("1000 bytes"), "{}", line(&one));
        assert_ne!(line(&one), line(&other));
    }
}
