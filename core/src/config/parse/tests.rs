use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::config::digest::json;
use crate::config::testing::{self, Memory};

fn parse(text: &str) -> Result<BTreeMap<String, Token>, ParseError> {
    parse_text(&Memory::default(), text.as_bytes(), "nats.conf")
}

#[test]
fn scripts() {
    insta::glob!("../testdata", "parse/*.txt", |path| {
        let mut transcript = String::new();
        for case in testing::cases(path) {
            let answer = match parse_file(&Memory::from_case(&case), "nats.conf") {
                Ok(map) => json(&map),
                Err(error) => error.to_string(),
            };
            transcript.push_str(&format!("{case}\n=>\n{answer}\n\n"));
        }
        insta::assert_snapshot!(transcript);
    });
}

#[test]
fn a_value_in_a_map_is_where_its_key_is() {
    let map = parse("port: 1\nhost { a: b,\n  c: d }\nlist: [ x ]").unwrap();
    let place = |token: &Token| token.position.to_string();
    assert_eq!(place(&map["port"]), "nats.conf:1:0");
    assert_eq!(place(&map["host"]), "nats.conf:2:1");
    let Value::Map(host) = &map["host"].value else { panic!("a map") };
    assert_eq!((place(&host["a"]), place(&host["c"])), ("nats.conf:2:8".into(), "nats.conf:3:3".into()));
    let Value::Array(list) = &map["list"].value else { panic!("an array") };
    assert_eq!(place(&list[0]), "nats.conf:4:9");
}

#[test]
fn what_a_variable_refers_to_is_marked() {
    let map = parse("a: 1\nb: 2\nc: $a").unwrap();
    let marked: Vec<_> = map.iter().map(|(key, token)| (key.as_str(), token.used_variable)).collect();
    assert_eq!(marked, [("a", true), ("b", false), ("c", false)]);
}

#[test]
fn included_values_know_their_file() {
    let case = "include sub/a.conf\n--- sub/a.conf\n\na: 1";
    let map = parse_file(&Memory::from_case(case), "nats.conf").unwrap();
    assert_eq!(map["a"].position.to_string(), "sub/a.conf:2:1");
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| parse(&format!("a: {}{}", "[".repeat(depth), "]".repeat(depth)));
    assert!(nested(MAX_DEPTH).is_ok());
    assert_eq!(nested(MAX_DEPTH + 1), Err(ParseError::TooDeep));
    assert_eq!(nested(1_000_000), Err(ParseError::TooDeep));
    assert_eq!(parse(&"a {".repeat(1_000_000)), Err(ParseError::TooDeep));
}

/// Each line is ten times the one before: without a bound this is a terabyte.
#[test]
fn expansion_is_bounded() {
    let mut text = String::from("a0: x\n");
    for level in 1..12 {
        let copies = vec![format!("$a{}", level - 1); 10].join(", ");
        text.push_str(&format!("a{level}: [ {copies} ]\n"));
    }
    assert_eq!(parse(&text), Err(ParseError::TooMuchExpansion));
}

/// The tree of a hundred files that each include the next ten times.
#[test]
fn includes_are_bounded() {
    let mut memory = Memory::default();
    for level in 0..20 {
        let text = format!("include {}.conf\n", level + 1).repeat(10).replace("include ", "include x");
        memory.files.insert(format!("x{level}.conf"), text.into_bytes());
    }
    memory.files.insert("x20.conf".to_owned(), b"a: 1".to_vec());
    let mut error = parse_file(&memory, "x0.conf").unwrap_err();
    while let ParseError::Include { reason, .. } = error {
        error = *reason;
    }
    assert_eq!(error, ParseError::TooManyIncludes);
}

/// Pieces that mean something to the lexer, so that their random sequences go deep into it.
fn pieces() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "b",
        "$a",
        "$b",
        "$ENV",
        "include ",
        "x.conf",
        "{",
        "}",
        "[",
        "]",
        "(",
        ")",
        "\n",
        "\r",
        " ",
        "\t",
        "=",
        ":",
        ",",
        ";",
        "'",
        "\"",
        "\\",
        "\\x4",
        "#",
        "//",
        "/",
        "1",
        "-",
        ".",
        "k",
        "2016-",
        "05-04T18:53:41Z",
        "true",
        "\0",
        "é",
        "\u{2028}",
        "tls",
        "accounts",
        "users",
        "authorization",
        "permissions",
        "publish",
        "timeout",
    ];
    vec(proptest::sample::select(pieces.to_vec()), 0..40).prop_map(|pieces| pieces.concat())
}

fn source() -> Memory {
    let mut memory = Memory::default();
    memory.files.insert("x.conf".to_owned(), b"a: $ENV\ninclude y.conf".to_vec());
    memory.files.insert("y.conf".to_owned(), b"b: [ {c: $a} ]".to_vec());
    memory.env.insert("ENV".to_owned(), "{ a: [1, $OTHER], b: c }".to_owned());
    memory.env.insert("OTHER".to_owned(), "x".to_owned());
    memory
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _ = crate::config::load_text(&source(), &bytes);
    }

    #[test]
    fn any_pieces_are_read_or_refused(text in pieces()) {
        let _ = crate::config::load_text(&source(), text.as_bytes());
    }

    /// JSON is a configuration, of the same meaning.
    #[test]
    fn json_is_read_back(words in vec("[a-z<>&\"\\\\ \n\u{e9}]{1,8}", 1..6), numbers in vec(any::<i64>(), 0..4)) {
        let items = numbers.iter().map(|number| serde_json::json!(number));
        let items: Vec<_> = items.chain(words.iter().map(|word| serde_json::json!(word))).collect();
        let value = serde_json::json!({ "list": items, "nested": { "more": { "x": true, "y": [] } } });
        let map = parse(&value.to_string()).unwrap();
        let back: serde_json::Value = serde_json::from_str(&json(&map)).unwrap();
        prop_assert_eq!(back, value);
    }
}
