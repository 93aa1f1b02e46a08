//! How two subjects relate: one within the other, or both reaching a common literal.
//!
//! All three relations take a token for a wildcard only if it is one, by itself.
//!
//! Differs: the reference compares some tokens by their first byte alone, so that to it `a.*x` covers `a.b`, and
//! `a.>x` collides with `a.b`. Permissions are decided with these functions; here they mean what they say.

use super::tokens::{ANY_REST, ANY_TOKEN, tokens};

/// Says whether every literal subject that `subject` stands for is also one of `pattern`.
///
/// Both may have wildcards: `foo.*` is a subset of `foo.*`, `*.*` and `>`, not of `foo.bar`. A subject with an
/// empty token is a subset only of what ends in `>` before it.
///
/// Source: nats-server `server/sublist.go`, `subjectIsSubsetMatch`.
pub fn is_subset_match(subject: &[u8], pattern: &[u8]) -> bool {
    let mut subject = tokens(subject);
    for expected in tokens(pattern) {
        let Some(token) = subject.next() else { return false };
        if expected.is_empty() {
            return false;
        }
        if expected == ANY_REST {
            return true;
        }
        // `>` stands for any number of tokens and so is within nothing but `>`.
        if token.is_empty() || token == ANY_REST {
            return false;
        }
        if expected != ANY_TOKEN && token != expected {
            return false;
        }
    }
    subject.next().is_none()
}

/// Says whether some literal subject matches both patterns.
///
/// Source: nats-server `server/sublist.go`, `SubjectsCollide`.
pub fn subjects_collide(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let (mut one, mut other) = (tokens(one), tokens(other));
    loop {
        match (one.next(), other.next()) {
            (None, None) => return true,
            (None, Some(_)) | (Some(_), None) => return false,
            (Some(a), Some(b)) => {
                if a.is_empty() || b.is_empty() {
                    return false;
                }
                if a == ANY_REST || b == ANY_REST {
                    return true;
                }
                if a != ANY_TOKEN && b != ANY_TOKEN && a != b {
                    return false;
                }
            }
        }
    }
}

/// Says whether the literal subject matches the pattern; wildcard tokens of `literal` are ordinary tokens.
///
/// Source: nats-server `server/sublist.go`, `matchLiteral`.
pub fn matches_literal(literal: &[u8], pattern: &[u8]) -> bool {
    let mut literal = tokens(literal);
    let mut pattern = tokens(pattern).peekable();
    while let Some(expected) = pattern.next() {
        let Some(token) = literal.next() else { return false };
        if expected == ANY_REST && pattern.peek().is_none() {
            return true;
        }
        if expected != ANY_TOKEN && token != expected {
            return false;
        }
    }
    literal.next().is_none()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literals_against_patterns() {
        let check = |literal: &str, pattern: &str, expected: bool| {
            assert_eq!(
                matches_literal(literal.as_bytes(), pattern.as_bytes()),
                expected,
                "{literal} {pattern}"
            );
        };
        check("foo", "foo", true);
        check("foo", "bar", false);
        check("foo", "*", true);
        check("foo", ">", true);
        check("foo.bar", ">", true);
        check("foo.bar", "foo.>", true);
        check("foo.bar", "bar.>", false);
        check("foo", "foo.>", false);
        check("stats.test.22", "stats.>", true);
        check("stats.test.22", "stats.*.*", true);
        check("foo.bar", "foo", false);
        check("stats.test.foos", "stats.test.foos", true);
        check("stats.test.foos", "stats.test.foo", false);
        check("stats.test", "stats.test.*", false);
        check("stats.test.foos", "stats.*", false);
        check("stats.test.foos", "stats.*.*.foos", false);
        for same in ["*bar", "foo*", "foo*bar", "foo.***.bar", ">bar", "foo>", "foo>bar", "foo.>>>.bar"] {
            check(same, same, true);
            check("foo.x.bar", same, false);
            check("x", same, false);
        }
    }

    #[test]
    fn subsets() {
        let check = |subject: &str, pattern: &str, expected: bool| {
            assert_eq!(
                is_subset_match(subject.as_bytes(), pattern.as_bytes()),
                expected,
                "{subject} {pattern}"
            );
        };
        check("foo.bar", "foo.bar", true);
        check("foo.*", ">", true);
        check("foo.*", "*.*", true);
        check("foo.*", "foo.*", true);
        check("foo.*", "foo.bar", false);
        check("foo.>", ">", true);
        check("foo.>", "*.>", true);
        check("foo.>", "foo.>", true);
        check("foo.>", "foo.bar", false);
        check("foo.>", "foo.*", false);
        check("foo..bar", "foo.*", false);
        check("foo.*", "foo..bar", false);
        check("foo", "foo.*", false);
        check("foo.bar.baz", "foo.*", false);
        check("foo.bar", "foo.*x", false);
    }

    #[test]
    fn collisions() {
        let check = |one: &str, other: &str, expected: bool| {
            assert_eq!(subjects_collide(one.as_bytes(), other.as_bytes()), expected, "{one} {other}");
            assert_eq!(subjects_collide(other.as_bytes(), one.as_bytes()), expected, "{other} {one}");
        };
        check("foo.*", "foo.*.bar.>", false);
        check("foo.*", "foo.foo", true);
        check("foo.*", "*.foo", true);
        check("foo.bar.>", "*.bar.foo", true);
        check("foo", "foo", true);
        check("foo", "bar", false);
        check("foo.>", "foo", false);
        check("foo.*x", "foo.bar", false);
    }

    /// Every subject of one to three tokens over few tokens: enough to decide the relations by looking.
    fn universe() -> Vec<String> {
        let names = ["a", "b", "c"];
        let mut all: Vec<String> = names.map(String::from).to_vec();
        let mut longest = 0;
        for _ in 1..3 {
            let longer: Vec<_> =
                all[longest..].iter().flat_map(|base| names.map(|name| format!("{base}.{name}"))).collect();
            longest = all.len();
            all.extend(longer);
        }
        all
    }

    fn pattern() -> impl Strategy<Value = String> {
        let token = prop_oneof![Just("a"), Just("b"), Just("*")];
        (prop::collection::vec(token, 0..3), any::<bool>()).prop_map(|(mut tokens, rest)| {
            if rest || tokens.is_empty() {
                tokens.push(">");
            }
            tokens.join(".")
        })
    }

    proptest! {
        #[test]
        fn relations_are_those_of_sets(one in pattern(), other in pattern()) {
            let set = |pattern: &str| {
                universe().into_iter().filter(|s| matches_literal(s.as_bytes(), pattern.as_bytes())).collect::<Vec<_>>()
            };
            let (ones, others) = (set(&one), set(&other));
            let subset = ones.iter().all(|subject| others.contains(subject));
            prop_assert_eq!(is_subset_match(one.as_bytes(), other.as_bytes()), subset);
            let collide = ones.iter().any(|subject| others.contains(subject));
            prop_assert_eq!(subjects_collide(one.as_bytes(), other.as_bytes()), collide);
        }
    }
}
