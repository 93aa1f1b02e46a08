//! Header blocks: `NATS/1.0`, perhaps a status, then `Key: value` lines, then an empty line.
//!
//! ```text
//! NATS/1.0 503 No Responders\r\n
//! Nats-Subject: foo\r\n
//! \r\n
//! ```
//!
//! The server hardly ever needs a block as a whole. It looks up one key, replaces or removes one, or writes a block of
//! its own. [`get`], [`set`], [`remove`] and [`remove_prefixed`] work on the bytes as the publisher sent them, keep what
//! they don't understand, and compare keys with their case, all as the reference does; [`lines`] is for whoever needs
//! every line.
//!
//! Invariants: no function panics, or takes more than linear time and memory, on a block that isn't one.
//!
//! Source: nats-server `server/client.go`, `getHeaderKeyIndex`, `sliceHeader`, `setHeader`, `removeHeaderIfPresent`,
//! `removeHeaderIfPrefixPresent`, `removeHeaderStatusIfPresent`, `genHeader`.

use memchr::memmem;

/// The first line of a block without status, with its end.
pub const FIRST_LINE: &[u8] = b"NATS/1.0\r\n";
const VERSION: &[u8] = b"NATS/1.0";
const LINE_END: &[u8] = b"\r\n";

/// Finds where a line with this key begins: behind a line end, and with a colon behind it.
fn key_index(block: &[u8], key: &[u8]) -> Option<usize> {
    if key.is_empty() {
        return None;
    }
    memchr::memchr_iter(b'\n', block).map(|newline| newline + 1).find(|start| {
        let behind = block[*start..].strip_prefix(key);
        block[..*start].ends_with(LINE_END) && behind.is_some_and(|behind| behind.starts_with(b":"))
    })
}

/// Returns the first value of a key, without the blanks before it; `None` if the key isn't there.
///
/// A value goes on to the next `\r\n`, or to the end of a block that has none.
pub fn get<'a>(block: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    let value = &block[key_index(block, key)? + key.len() + 1..];
    let value = &value[value.iter().take_while(|byte| **byte == b' ').count()..];
    Some(&value[..memmem::find(value, LINE_END).unwrap_or(value.len())])
}

/// Sets the first value of a key, or adds the key at the end.
///
/// A block whose line has no end is left as it is. An empty one becomes a block.
///
/// Differs: the reference, asked to add to no header at all, writes the line without the version before it and the
/// empty line behind it.
pub fn set(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    match key_index(block, key) {
        Some(index) => {
            let mut start = index + key.len() + 1;
            // One blank is usual, and kept; any others are taken for the old value's.
            start += usize::from(block.get(start) == Some(&b' '));
            if let Some(len) = memchr::memchr(b'\r', &block[start..]) {
                block.splice(start..start + len, value.iter().copied());
            }
        }
        None => add(block, key, value),
    }
}

/// Adds a line at the end of a block, or makes a block of an empty one.
pub fn add(block: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    if block.len() > LINE_END.len() {
        if block.ends_with(LINE_END) {
            block.truncate(block.len() - LINE_END.len());
        }
    } else {
        block.clear();
        block.extend_from_slice(FIRST_LINE);
    }
    for part in [key, b": ", value, LINE_END, LINE_END] {
        block.extend_from_slice(part);
    }
}

/// Removes every line of a key; a block that has nothing left to say becomes empty.
pub fn remove(block: &mut Vec<u8>, key: &[u8]) {
    remove_lines(block, |line| line.strip_prefix(key).is_some_and(|rest| rest.starts_with(b":")));
}

/// Removes every line that begins with `prefix`; a block that has nothing left to say becomes empty.
pub fn remove_prefixed(block: &mut Vec<u8>, prefix: &[u8]) {
    remove_lines(block, |line| line.starts_with(prefix));
}

fn remove_lines(block: &mut Vec<u8>, unwanted: impl Fn(&[u8]) -> bool) {
    let mut kept = Vec::with_capacity(block.len());
    let mut rest = block.as_slice();
    let mut first = true;
    while !rest.is_empty() {
        let end = memmem::find(rest, LINE_END).map(|at| at + LINE_END.len());
        let (line, behind) = rest.split_at(end.unwrap_or(rest.len()));
        // What has no end isn't a line, and the first one is the version's.
        if first || end.is_none() || !unwanted(line) {
            kept.extend_from_slice(line);
        }
        (rest, first) = (behind, false);
    }
    if kept.len() == block.len() {
        return;
    }
    if kept.len() <= FIRST_LINE.len() + LINE_END.len() {
        kept.clear();
    }
    *block = kept;
}

/// Removes status and description from the first line; a block that has nothing left to say becomes empty.
pub fn remove_status(block: &mut Vec<u8>) {
    let Some(end) = memchr::memchr(b'\r', block).filter(|end| *end > VERSION.len()) else { return };
    if !block.starts_with(VERSION) {
        return;
    }
    block.drain(VERSION.len()..end);
    if block.len() == FIRST_LINE.len() + LINE_END.len() {
        block.clear();
    }
}

/// Appends a block that is only a status: `NATS/1.0 404 No Messages`.
pub fn status(out: &mut Vec<u8>, code: u16, description: &str) {
    out.extend_from_slice(VERSION);
    out.push(b' ');
    out.extend_from_slice(itoa::Buffer::new().format(code).as_bytes());
    if !description.is_empty() {
        out.push(b' ');
        out.extend_from_slice(description.as_bytes());
    }
    out.extend_from_slice(b"\r\n\r\n");
}

/// Iterates over keys and values, both without the blanks around them, in the order of the block; lines without colon
/// are passed over.
pub fn lines(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let lines = block.split(|byte| *byte == b'\n').skip(1);
    lines.filter_map(|line| {
        let colon = memchr::memchr(b':', line)?;
        Some((line[..colon].trim_ascii(), line[colon + 1..].trim_ascii()))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(block: &str, change: impl Fn(&mut Vec<u8>)) -> String {
        let mut block = block.as_bytes().to_vec();
        change(&mut block);
        String::from_utf8(block).unwrap()
    }

    fn value<'a>(block: &'a str, key: &str) -> Option<&'a str> {
        get(block.as_bytes(), key.as_bytes()).map(|value| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_key_is_found_only_where_a_line_begins() {
        let block =
            "NATS/1.0\r\nPrefix-Test: 1\r\nTest: 2\r\nTest-Suffix: 3\r\nOther: Test: 4\r\nTest: 5\r\n\r\n";
        assert_eq!(value(block, "Test"), Some("2"));
        assert_eq!(value(block, "Test-Suffix"), Some("3"));
        assert_eq!(value(block, "Prefix-Test"), Some("1"));
        assert_eq!(value(block, "Other"), Some("Test: 4"));
        assert_eq!(value(block, "test"), None);
        assert_eq!(value(block, "Tes"), None);
        assert_eq!(value(block, ""), None);
        assert_eq!(value("Test: 1\r\n\r\n", "Test"), None);
        assert_eq!(value("", "Test"), None);
    }

    #[test]
    fn a_value_loses_the_blanks_before_it_and_nothing_else() {
        assert_eq!(value("NATS/1.0\r\na:1\r\n\r\n", "a"), Some("1"));
        assert_eq!(value("NATS/1.0\r\na:   1 2 \r\n\r\n", "a"), Some("1 2 "));
        assert_eq!(value("NATS/1.0\r\na:\r\n\r\n", "a"), Some(""));
        assert_eq!(value("NATS/1.0\r\na: 1\r2\n3\r\n\r\n", "a"), Some("1\r2\n3"));
        assert_eq!(value("NATS/1.0\r\na: unfinished", "a"), Some("unfinished"));
    }

    #[test]
    fn setting_replaces_the_first_or_adds() {
        let set = |block: &str, key: &str, value: &str| {
            after(block, |block| set(block, key.as_bytes(), value.as_bytes()))
        };
        assert_eq!(
            set("NATS/1.0\r\na: 1\r\na: 2\r\n\r\n", "a", "long value"),
            "NATS/1.0\r\na: long value\r\na: 2\r\n\r\n"
        );
        assert_eq!(set("NATS/1.0\r\na:123\r\n\r\n", "a", "4"), "NATS/1.0\r\na:4\r\n\r\n");
        assert_eq!(set("NATS/1.0\r\nab: 1\r\nb: 2\r\n\r\n", "b", "3"), "NATS/1.0\r\nab: 1\r\nb: 3\r\n\r\n");
        assert_eq!(set("NATS/1.0\r\nab: 1\r\n\r\n", "a", "3"), "NATS/1.0\r\nab: 1\r\na: 3\r\n\r\n");
        assert_eq!(set("", "a", "1"), "NATS/1.0\r\na: 1\r\n\r\n");
        assert_eq!(set("NATS/1.0\r\na: 1", "a", "2"), "NATS/1.0\r\na: 1");
    }

    #[test]
    fn removing_takes_whole_lines_of_that_key() {
        let remove = |block: &str, key: &str| after(block, |block| remove(block, key.as_bytes()));
        assert_eq!(remove("NATS/1.0\r\na: 1\r\nb: a: 2\r\na: 3\r\n\r\n", "a"), "NATS/1.0\r\nb: a: 2\r\n\r\n");
        assert_eq!(
            remove("NATS/1.0\r\nab: 1\r\na: 2\r\nba: 3\r\n\r\n", "a"),
            "NATS/1.0\r\nab: 1\r\nba: 3\r\n\r\n"
        );
        assert_eq!(remove("NATS/1.0\r\na: 1\r\n\r\n", "a"), "");
        assert_eq!(remove("NATS/1.0\r\na: 1\r\n\r\n", "b"), "NATS/1.0\r\na: 1\r\n\r\n");
        assert_eq!(remove("NATS/1.0\r\n\r\n", "b"), "NATS/1.0\r\n\r\n");
    }

    #[test]
    fn removing_by_prefix_leaves_values_alone() {
        let remove = |block: &str| after(block, |block| remove_prefixed(block, b"Nats-"));
        assert_eq!(
            remove("NATS/1.0\r\nNats-A: 1\r\nx: Nats-B\r\nNats-C: 2\r\nmyNats-D: 3\r\n\r\n"),
            "NATS/1.0\r\nx: Nats-B\r\nmyNats-D: 3\r\n\r\n"
        );
        assert_eq!(remove("NATS/1.0\r\nNats-A: 1\r\nNats-B: 1\r\n\r\n"), "");
    }

    #[test]
    fn statuses_come_and_go() {
        let mut block = Vec::new();
        status(&mut block, 503, "");
        assert_eq!(block, b"NATS/1.0 503\r\n\r\n");
        block.clear();
        status(&mut block, 404, "No Messages");
        assert_eq!(block, b"NATS/1.0 404 No Messages\r\n\r\n");
        remove_status(&mut block);
        assert!(block.is_empty());
        assert_eq!(after("NATS/1.0 100 Idle\r\na: 1\r\n\r\n", remove_status), "NATS/1.0\r\na: 1\r\n\r\n");
        assert_eq!(after("NATS/1.0\r\na: 1\r\n\r\n", remove_status), "NATS/1.0\r\na: 1\r\n\r\n");
        assert_eq!(after("HTTP/1.1 200\r\n\r\n", remove_status), "HTTP/1.1 200\r\n\r\n");
    }

    #[test]
    fn lines_are_keys_and_values() {
        let block = b"NATS/1.0 100 Idle: yes\r\nA: 1\r\n b : 2 \r\nnothing\r\nA:\r\n\r\n";
        let found: Vec<_> = lines(block).map(|(key, value)| (key.to_vec(), value.to_vec())).collect();
        assert_eq!(
            found,
            [(b"A".to_vec(), b"1".to_vec()), (b"b".to_vec(), b"2".to_vec()), (b"A".to_vec(), vec![])]
        );
    }

    proptest! {
        /// On any bytes: nothing panics, what was set is found, what was removed isn't.
        #[test]
        fn any_block_can_be_worked_on(block in "(NATS/1.0\r\n)?[ab:\r\n ]{0,30}(\r\n)?", key in "[ab]{1,2}") {
            let key = key.as_bytes();
            let mut removed = block.clone().into_bytes();
            remove(&mut removed, key);
            prop_assert!(removed.len() <= block.len());
            let mut changed = block.clone().into_bytes();
            set(&mut changed, key, b"value");
            prop_assert!(changed.len() <= block.len() + FIRST_LINE.len() + key.len() + 11);
            if block.ends_with("\r\n\r\n") && block.starts_with("NATS/1.0\r\n") {
                prop_assert_eq!(get(&changed, key), Some(b"value".as_slice()));
                prop_assert_eq!(get(&removed, key), None);
            }
            lines(block.as_bytes()).for_each(drop);
            remove_status(&mut changed);
        }
    }
}
