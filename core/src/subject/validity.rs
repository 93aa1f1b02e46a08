//! Which subjects may be used for what.
//!
//! Four degrees, as the reference has them. None of them limits length or bytes beyond what it says: the protocol
//! parser cuts arguments at white space and limits lines, so that what gets here is short and has none.

use super::tokens::{ANY_REST, is_literal, is_wildcard, tokens};

/// Says whether a subscription or a configuration may name this subject.
///
/// No token is empty or contains white space (tab, line feed, form feed, carriage return, space), and `>` comes
/// last. Any other byte may occur, NUL too.
///
/// Source: nats-server `server/sublist.go`, `IsValidSubject`.
pub fn is_valid_subject(subject: &[u8]) -> bool {
    has_valid_shape(subject)
        && !subject.iter().any(|byte| matches!(byte, b'\t' | b'\n' | b'\x0c' | b'\r' | b' '))
}

/// Says whether no token is empty and none is a wildcard; white space is not looked for.
///
/// What a pedantic client's PUB is held to, and what a transform takes.
///
/// Source: nats-server `server/sublist.go`, `IsValidLiteralSubject`.
pub fn is_valid_literal_subject(subject: &[u8]) -> bool {
    tokens(subject).all(|token| !token.is_empty() && !is_wildcard(token))
}

/// Says whether a message may be published to this subject: valid, and without wildcards.
///
/// Source: nats-server `server/sublist.go`, `IsValidPublishSubject`.
pub fn is_valid_publish_subject(subject: &[u8]) -> bool {
    is_valid_subject(subject) && is_literal(subject)
}

/// Says whether the subject is valid and also clean text: UTF-8, no NUL, no replacement character.
///
/// Asked of subjects that come back from storage or other servers, where these are a sign of damage.
///
/// Source: nats-server `server/sublist.go`, `isValidSubject` with `checkRunes`.
pub fn is_valid_utf8_subject(subject: &[u8]) -> bool {
    is_valid_subject(subject)
        && str::from_utf8(subject).is_ok_and(|text| !text.contains(['\0', char::REPLACEMENT_CHARACTER]))
}

/// Says whether no token is empty and `>` is only ever the last: all that the sublist needs.
pub(super) fn has_valid_shape(subject: &[u8]) -> bool {
    let mut tokens = tokens(subject);
    let last = tokens.next_back().unwrap_or_default();
    !last.is_empty() && tokens.all(|token| !token.is_empty() && token != ANY_REST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_subjects() {
        for bad in ["", ".foo", "foo.", "foo..bar", "foo.bar.*", "foo.bar.>", "*", ">", "*.foo", "a.*.b"] {
            assert!(!is_valid_literal_subject(bad.as_bytes()), "{bad}");
        }
        for good in [
            "foo",
            "foo*",
            "foo**",
            "foo.**",
            "foo*bar",
            "foo.*bar",
            "foo*.bar",
            "*bar",
            "foo>",
            "foo>>",
            "foo.>>",
            "foo>bar",
            "foo.>bar",
            "foo>.bar",
            ">bar",
            "white space",
        ] {
            assert!(is_valid_literal_subject(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn subjects() {
        for bad in [
            "",
            ".",
            ".foo",
            "foo.",
            "foo..bar",
            ">.bar",
            "foo.>.bar",
            "foo. ",
            " ",
            "a b",
            "a.b\tc",
            "\r",
            "a.\n",
            "x\x0cy",
        ] {
            assert!(!is_valid_subject(bad.as_bytes()), "{bad:?}");
            assert!(!is_valid_publish_subject(bad.as_bytes()), "{bad:?}");
        }
        for good in [
            "foo", "foo*", "foo**", "foo.**", "foo*bar", "foo.*bar", "foo*.bar", "*bar", "foo>", "foo.>>",
            "foo>bar", "foo.>bar", "foo>.bar", ">bar", "\u{b}", "a.\u{1}",
        ] {
            assert!(is_valid_subject(good.as_bytes()), "{good:?}");
            assert!(is_valid_publish_subject(good.as_bytes()), "{good:?}");
        }
        for wild in ["*", ">", "foo.bar.*", "foo.bar.>", "*.bar"] {
            assert!(is_valid_subject(wild.as_bytes()), "{wild}");
            assert!(!is_valid_publish_subject(wild.as_bytes()), "{wild}");
        }
    }

    #[test]
    fn clean_text() {
        assert!(is_valid_subject(b"foo.bar.baz.\0"));
        assert!(!is_valid_utf8_subject(b"foo.bar.baz.\0"));
        assert!(is_valid_subject(b"foo.\xff"));
        assert!(!is_valid_utf8_subject(b"foo.\xff"));
        assert!(!is_valid_utf8_subject("foo.\u{fffd}".as_bytes()));
        assert!(is_valid_utf8_subject("größe.*".as_bytes()));
        assert!(!is_valid_utf8_subject("größe..*".as_bytes()));
    }
}
