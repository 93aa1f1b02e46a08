//! A subject as a row of tokens.

/// Separates tokens.
pub(super) const SEPARATOR: u8 = b'.';
/// The token that stands for any one token.
pub(super) const ANY_TOKEN: &[u8] = b"*";
/// The last token that stands for one or more tokens.
pub(super) const ANY_REST: &[u8] = b">";

/// Iterates over the tokens of a subject, empty ones included; an empty subject has one empty token.
pub fn tokens(subject: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
    subject.split(|byte| *byte == SEPARATOR)
}

/// Counts the tokens of a subject; zero for an empty one.
pub fn token_count(subject: &[u8]) -> usize {
    match subject {
        [] => 0,
        _ => 1 + memchr::memchr_iter(SEPARATOR, subject).count(),
    }
}

/// Returns the token at `index`, counted from one; empty if there is none.
///
/// Source: nats-server `server/sublist.go`, `tokenAt`.
pub fn token_at(subject: &[u8], index: usize) -> &[u8] {
    match index.checked_sub(1) {
        Some(skip) => tokens(subject).nth(skip).unwrap_or_default(),
        None => b"",
    }
}

/// Says whether a token of the subject is `*` or `>`, the latter in any place.
///
/// Source: nats-server `server/sublist.go`, `subjectHasWildcard`.
pub fn has_wildcard(subject: &[u8]) -> bool {
    // Most subjects have neither byte, and memchr sees that at 32 bytes a step.
    memchr::memchr2_iter(b'*', b'>', subject).any(|at| {
        (at == 0 || subject[at - 1] == SEPARATOR) && subject.get(at + 1).is_none_or(|next| *next == SEPARATOR)
    })
}

/// Says whether no token of the subject is a wildcard; does not say that the subject is valid.
///
/// Source: nats-server `server/sublist.go`, `subjectIsLiteral`.
pub fn is_literal(subject: &[u8]) -> bool {
    !has_wildcard(subject)
}

/// Says whether `token` is one of the two wildcards.
pub(super) fn is_wildcard(token: &[u8]) -> bool {
    token == ANY_TOKEN || token == ANY_REST
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_counted_from_one() {
        let subject = b"foo.bar.baz.*";
        let expected: [&[u8]; 6] = [b"", b"foo", b"bar", b"baz", b"*", b""];
        for (index, token) in expected.into_iter().enumerate() {
            assert_eq!(token_at(subject, index), token, "{index}");
        }
        assert_eq!(token_count(subject), 4);
        assert_eq!(token_count(b""), 0);
        assert_eq!(token_count(b"."), 2);
        assert_eq!(token_at(b"", 1), b"");
    }

    #[test]
    fn a_wildcard_is_a_token_of_its_own() {
        for literal in ["foo", "foo.bar", "foo*.bar", "*foo", ">>.a", "foo.**", "", "a*>b", "**", ">>", "f>"]
        {
            assert!(is_literal(literal.as_bytes()), "{literal}");
        }
        for wild in
            ["*", ">", "foo.*", "foo.>", "foo.*.>", "foo.*.bar", "foo.bar.>", "*.foo", ">.foo", "f**.*"]
        {
            assert!(!is_literal(wild.as_bytes()), "{wild}");
            assert!(has_wildcard(wild.as_bytes()), "{wild}");
        }
    }
}
