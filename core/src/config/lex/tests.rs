use super::*;
use crate::config::testing;

/// Writes the items of `input` one after another, as `kind(text) line:column`, the text of errors included.
fn items(input: &[u8]) -> String {
    let mut lexer = Lexer::new(input);
    let mut lines = Vec::new();
    loop {
        let item = lexer.next_item();
        lines.push(format!("{:?}({}) {}:{}", item.kind, item.text, item.line, item.column));
        if matches!(item.kind, Kind::End | Kind::Error) {
            return lines.join("\n");
        }
    }
}

/// Each script says what it shows; then come inputs between lines of `===`, whose line ends are no part of them.
#[test]
fn scripts() {
    insta::glob!("../testdata", "lex/*.txt", |path| {
        let mut transcript = String::new();
        for input in testing::cases(path) {
            transcript.push_str(&format!("{input}\n=>\n{}\n\n", items(input.as_bytes())));
        }
        insta::assert_snapshot!(transcript);
    });
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    assert_eq!(items(b"a = \xff\xfeb"), "Key(a) 1:0\nString(\u{fffd}\u{fffd}b) 1:4\nEnd() 1:7");
    assert_eq!(items(br"a = x\xffy"), "Key(a) 1:0\nString(x\u{fffd}y) 1:7\nEnd() 1:10");
}

#[test]
fn a_nul_ends_the_input() {
    assert_eq!(items(b"a = 1\0b = 2"), "Key(a) 1:0\nInteger(1) 1:4\nKey(b) 1:6\nInteger(2) 1:10\nEnd() 1:11");
    assert_eq!(items(b"\0"), "Error(Unexpected EOF.) 1:1");
}

#[test]
fn nothing_follows_an_error() {
    let mut lexer = Lexer::new(b"= 1");
    assert_eq!(lexer.next_item().kind, Kind::Error);
    assert_eq!(lexer.next_item().kind, Kind::End);
    assert_eq!(lexer.next_item().kind, Kind::End);
}

#[test]
fn nesting_at_the_outermost_level_costs_no_recursion() {
    let deep = "{".repeat(200_000);
    assert_eq!(items(deep.as_bytes()), "End() 1:200000");
    let deep = "[".repeat(200_000);
    let mut lexer = Lexer::new(deep.as_bytes());
    while lexer.next_item().kind != Kind::Key {}
    assert_eq!(lexer.next_item().kind, Kind::End);
}

#[test]
fn a_block_of_text_may_end_with_the_input() {
    assert_eq!(items(b"a (\nb\n)\0"), "Key(a) 1:0\nString(\nb\n) 3:3\nEnd() 3:3");
    // Without a character after it the closing parenthesis stays in the text, as in the reference.
    assert_eq!(items(b"a (\nb\n)"), "Key(a) 1:0\nString(\nb\n)) 3:3\nEnd() 3:2");
}
