use proptest::prelude::*;

use super::*;

fn read(text: &[u8]) -> Result<(String, bool, i64, Vec<String>), JsonError> {
    let (mut name, mut on, mut count, mut list) = (String::from("none"), false, 7, vec!["x".to_owned()]);
    for member in Object::parse("server.ClientOpts", text)?.members() {
        match member.key() {
            "user" => member.string(&mut name)?,
            "verbose" => member.boolean(&mut on)?,
            "protocol" => member.integer(&mut count)?,
            "import" => {
                for member in member.object("server.SubjectPermission")?.members() {
                    if member.key() == "allow" {
                        member.strings(&mut list)?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok((name, on, count, list))
}

fn name(text: &str) -> String {
    read(text.as_bytes()).unwrap().0
}

#[test]
fn keys_are_read_in_any_case_and_the_last_wins() {
    assert_eq!(name(r#"{"USER":"a","user":"b","User":"c"}"#), "c");
    assert_eq!(name(r#"{"uſer":"a"}"#), "a");
    assert_eq!(name(r#"{"\u0075ser" : "a"}"#), "a");
    assert!(read(br#" {"VERBOSE":true} "#).unwrap().1);
}

#[test]
fn null_and_unknown_keys_change_nothing() {
    let unchanged = ("none".to_owned(), false, 7, vec!["x".to_owned()]);
    for text in
        ["null", "{}", r#"{"user":null,"what":{"is":["this",1e999,-0.0E-7]},"protocol":null,"import":null}"#]
    {
        assert_eq!(read(text.as_bytes()).unwrap(), unchanged, "{text}");
    }
    assert_eq!(name(r#"{"user":"a","user":null}"#), "a");
}

#[test]
fn strings_are_unescaped_and_made_text() {
    assert_eq!(name(r#"{"user":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"}"#), "\"\\/\x08\x0c\n\r\té😀");
    assert_eq!(name(r#"{"user":"\ud800x\ude00\ud83d\u0041"}"#), "\u{fffd}x\u{fffd}\u{fffd}A");
    assert_eq!(read(b"{\"user\":\"a\xff\xc3b\x7f\"}").unwrap().0, "a\u{fffd}\u{fffd}b\x7f");
}

#[test]
fn lists_and_objects_are_read() {
    assert_eq!(read(br#"{"import":{"allow":["a", null ,"b,]"]}}"#).unwrap().3, ["a", "", "b,]"]);
    assert_eq!(read(br#"{"import":{"allow":null,"deny":[[{}]]}}"#).unwrap().3, [""; 0]);
}

/// The texts are the reference's, read off its log.
#[test]
fn errors_say_what_the_reference_says() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "unexpected end of JSON input"),
        (b"{\"a\":1", "unexpected end of JSON input"),
        (b"{\"a\":\"", "unexpected end of JSON input"),
        (b"{\"a\":\"\\u12", "unexpected end of JSON input"),
        (b"nul", "unexpected end of JSON input"),
        (b"x", "invalid character 'x' looking for beginning of value"),
        (b"+1", "invalid character '+' looking for beginning of value"),
        (b"\xef\xbb\xbf{}", "invalid character '\\ufeff' looking for beginning of value"),
        (b"{\"a\":\xff}", "invalid character '\\xff' looking for beginning of value"),
        (b"{\"a\":.5}", "invalid character '.' looking for beginning of value"),
        (b"{\"a\":[1,]}", "invalid character ']' looking for beginning of value"),
        (b"{\"a\":[1 2]}", "invalid character '2' after array element"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b"{\"a\":1,}", "invalid character '}' looking for beginning of object key string"),
        (b"{,}", "invalid character ',' looking for beginning of object key string"),
        (b"{\"a\" 1}", "invalid character '1' after object key"),
        (b"{\"a\":01}", "invalid character '1' after object key:value pair"),
        (b"{\"a\":1}x", "invalid character 'x' after top-level value"),
        (b"{\"a\":1}\x00", "invalid character '\\x00' after top-level value"),
        (b"nullx", "invalid character 'x' after top-level value"),
        (b"{\"a\":-}", "invalid character '}' in numeric literal"),
        (b"{\"a\":1.}", "invalid character '}' in numeric literal"),
        (b"{\"a\":tru}", "invalid character '}' in literal true (expecting 'e')"),
        (b"{\"a\":nul}", "invalid character '}' in literal null (expecting 'l')"),
        (b"{\"user\":\"a\x01b\"}", "invalid character '\\x01' in string"),
        (b"{\"user\":\"\\x\"}", "invalid escape sequence `\\x` in string"),
        (b"{\"a\":\"\\u12\"}", "invalid escape sequence `\\u12\"}` in string"),
        (b"{\"a\":\"\\u12g4\"}", "invalid escape sequence `\\u12g4` in string"),
        (b"[]", "json: cannot unmarshal array into Go value of type server.ClientOpts"),
        (b"true", "json: cannot unmarshal bool into Go value of type server.ClientOpts"),
        (
            b"{\"USER\":1}",
            "json: cannot unmarshal number into Go struct field ClientOpts.USER of type string",
        ),
        (
            b"{\"verbose\":\"x\",\"user\":2}",
            "json: cannot unmarshal string into Go struct field ClientOpts.verbose of type bool",
        ),
        (
            b"{\"protocol\":1.0}",
            "json: cannot unmarshal number 1.0 into Go struct field ClientOpts.protocol of type int",
        ),
        (
            b"{\"protocol\":99999999999999999999}",
            "json: cannot unmarshal number 99999999999999999999 into Go struct field ClientOpts.protocol of type int",
        ),
        (
            b"{\"protocol\":\"1\"}",
            "json: cannot unmarshal string into Go struct field ClientOpts.protocol of type int",
        ),
        (
            b"{\"import\":{\"allow\":1}}",
            "json: cannot unmarshal number into Go struct field ClientOpts.import.allow of type []string",
        ),
        (
            b"{\"import\":{\"Allow\":[1]}}",
            "json: cannot unmarshal number into ClientOpts.import.Allow.0 of type string",
        ),
        (
            b"{\"import\":[]}",
            "json: cannot unmarshal array into Go struct field ClientOpts.import of type server.SubjectPermission",
        ),
        // What is wrong with the text comes before what is wrong with its types.
        (b"{\"verbose\":1,\"user\":", "unexpected end of JSON input"),
    ];
    for (text, error) in cases {
        assert_eq!(read(text).unwrap_err().to_string(), *error, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_is_bounded_and_costs_no_stack() {
    let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    assert!(read(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
    assert_eq!(read(nested(MAX_DEPTH).as_bytes()).unwrap_err().to_string(), "exceeded max depth");
    assert!(read("[".repeat(1 << 20).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn what_serde_json_reads_is_read_alike(value in "[\\PC]{0,30}", other in any::<f64>(), number in any::<i64>()) {
        let other = serde_json::Number::from_f64(other);
        let text = serde_json::json!({"other": [other], "user": value, "protocol": number}).to_string();
        let (name, _, count, _) = read(text.as_bytes()).unwrap();
        prop_assert_eq!((name, count), (value, number));
    }

    /// Any text is JSON here if and only if it is JSON there.
    #[test]
    fn what_serde_json_refuses_is_refused(text in r#"[\{\}\[\]:,"a1.e \-0tn]{0,12}"#) {
        let there = serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok();
        let here = match Object::parse("x", text.as_bytes()) {
            Ok(_) | Err(JsonError::NotAnObject { .. }) => true,
            Err(_) => false,
        };
        prop_assert_eq!(here, there, "{}", text);
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
        let _ = read(&bytes);
        let _ = read(&[b"{\"user\":\"", bytes.as_slice(), b"\"}"].concat());
    }
}

#[test]
fn json_is_escaped_for_pages_as_go_does_it() {
    let escape = |text: &str| String::from_utf8(escape_as_go(text.as_bytes().to_vec())).unwrap();
    assert_eq!(escape(r#"{"a":"b"}"#), r#"{"a":"b"}"#);
    let odd = "\"<a&b>\u{2028}\u{2029}\u{2030}\"";
    assert_eq!(escape(odd), "\"\\u003ca\\u0026b\\u003e\\u2028\\u2029\u{2030}\"");
}
