//! How the tests here compare with what a Go server said.

use serde::Serialize;

use super::error::ApiError;
use super::write::to_json;

/// Runs every case of a recording and compares all answers at once.
///
/// A case is a line with a word and the text behind it, and a line with the answer, indented. Lines that start with `#` are
/// for people.
pub(super) fn check_recorded(recording: &str, run: impl Fn(&str, &str) -> String) {
    let lines: Vec<&str> = recording.lines().filter(|line| !line.starts_with('#')).collect();
    let mut differences = String::new();
    for case in lines.chunks(2) {
        let [question, answer] = case else { panic!("a case without an answer: {case:?}") };
        let (word, text) = question.split_once(' ').unwrap_or((question, ""));
        let (ours, theirs) = (run(word, text), answer.trim_start());
        if ours != theirs {
            differences += &format!("{question}\n  go     {theirs}\n  natrix {ours}\n");
        }
    }
    assert!(lines.len() > 2, "the recording has cases");
    assert!(differences.is_empty(), "\n{differences}");
}

/// Splits a text that is two JSON objects, one behind the other.
pub(super) fn two_objects(text: &str) -> (&str, &str) {
    let mut parts = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    parts.next().expect("an object").unwrap();
    text.split_at(parts.byte_offset())
}

/// Writes a result as recordings have it.
pub(super) fn show(word: &str, result: Result<impl Serialize, ApiError>) -> String {
    let (word, json) = match result {
        Ok(value) => (word, to_json(&value)),
        Err(error) => ("error", serde_json::to_vec(&error).unwrap()),
    };
    format!("{word} {}", String::from_utf8(json).unwrap())
}
