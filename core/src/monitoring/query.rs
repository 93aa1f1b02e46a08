//! Query strings of the monitoring endpoints, decoded by the rules and with the error texts of the reference.

use crate::protocol::quote::quote;

/// Why a query makes no sense; the text is the body of a 400 answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// A parameter that is no boolean.
    #[error("Error decoding boolean for '{name}': strconv.ParseBool: parsing {}: invalid syntax", quote(.value.as_bytes()))]
    Boolean {
        /// The parameter.
        name: &'static str,
        /// What it was set to.
        value: String,
    },
    /// A parameter that is no integer.
    #[error("Error decoding {kind} for '{name}': strconv.{function}: parsing {}: {reason}", quote(.value.as_bytes()))]
    Integer {
        /// The type as the reference names it.
        kind: &'static str,
        /// The reference's parser.
        function: &'static str,
        /// The parameter.
        name: &'static str,
        /// What it was set to.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A connection state that doesn't exist.
    #[error("Error decoding state for {0}")]
    State(String),
    /// A sort key that doesn't exist.
    #[error("invalid sorting option: {0}")]
    Sort(String),
    /// A sort key that only closed connections have.
    #[error("sort by {0} only valid on closed connections")]
    SortNeedsClosed(&'static str),
    /// A subject filter without an account.
    #[error("filter by subject only valid with account filtering")]
    FilterNeedsAccount,
    /// A subject to test that nobody could publish to.
    #[error("invalid test subject, must be valid publish subject: {0}")]
    TestSubject(String),
}

/// The parameters of a request, in the order in which they came.
///
/// As in Go, a pair that isn't valid (a bad escape, a semicolon) is passed over, and of several values for one
/// name the first counts. Bytes that aren't UTF-8 are replaced.
#[derive(Clone, Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// Decodes what stands behind the `?` of a request.
    pub fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';'));
        let decoded = pairs.filter_map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            Some((unescape(name)?, unescape(value)?))
        });
        Query(decoded.collect())
    }

    /// Returns the first value of a parameter; empty if there is none.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// Returns a boolean parameter, false if there is none.
    ///
    /// # Errors
    ///
    /// [`QueryError::Boolean`] for anything that Go's `strconv.ParseBool` refuses.
    pub fn boolean(&self, name: &'static str) -> Result<bool, QueryError> {
        match self.get(name) {
            "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
            value => Err(QueryError::Boolean { name, value: value.to_owned() }),
        }
    }

    /// Returns a signed parameter, zero if there is none.
    ///
    /// # Errors
    ///
    /// [`QueryError::Integer`] for anything that Go's `strconv.Atoi` refuses.
    pub fn int(&self, name: &'static str) -> Result<i64, QueryError> {
        let value = self.get(name);
        if value.is_empty() {
            return Ok(0);
        }
        let digits = value.strip_prefix(['+', '-']).unwrap_or(value);
        value.parse().map_err(|_| integer_error("int", "Atoi", name, value, digits))
    }

    /// Returns an unsigned parameter, zero if there is none.
    ///
    /// # Errors
    ///
    /// [`QueryError::Integer`] for anything that Go's `strconv.ParseUint` refuses.
    pub fn unsigned(&self, name: &'static str) -> Result<u64, QueryError> {
        let value = self.get(name);
        if value.is_empty() {
            return Ok(0);
        }
        // Rust takes a leading plus, Go doesn't.
        let parsed = if value.starts_with('+') { None } else { value.parse().ok() };
        parsed.ok_or_else(|| integer_error("uint64", "ParseUint", name, value, value))
    }
}

fn integer_error(
    kind: &'static str,
    function: &'static str,
    name: &'static str,
    value: &str,
    digits: &str,
) -> QueryError {
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    let reason = if is_number { "value out of range" } else { "invalid syntax" };
    QueryError::Integer { kind, function, name, value: value.to_owned(), reason }
}

/// Decodes `+` and `%XX`; `None` if an escape is broken.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut decoded = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            byte => byte,
        });
    }
    Some(String::from_utf8_lossy(&decoded).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_decoded_and_bad_ones_passed_over() {
        let query = Query::parse("a=1&a=2&b=x%2Ey+z&bad=%zz&half=%a&c;d=1&&empty&x=%ff");
        assert_eq!(query.get("a"), "1");
        assert_eq!(query.get("b"), "x.y z");
        assert_eq!((query.get("bad"), query.get("half"), query.get("c;d")), ("", "", ""));
        assert_eq!(query.get("empty"), "");
        assert_eq!(query.get("x"), "\u{fffd}");
    }

    #[test]
    fn booleans_are_the_twelve_that_go_takes() {
        for value in ["1", "t", "T", "TRUE", "true", "True"] {
            assert_eq!(Query::parse(&format!("q={value}")).boolean("q"), Ok(true));
        }
        for value in ["", "0", "f", "F", "FALSE", "false", "False"] {
            assert_eq!(Query::parse(&format!("q={value}")).boolean("q"), Ok(false));
        }
        assert_eq!(
            Query::parse("subs=x").boolean("subs").unwrap_err().to_string(),
            r#"Error decoding boolean for 'subs': strconv.ParseBool: parsing "x": invalid syntax"#
        );
    }

    #[test]
    fn integers_fail_with_the_words_of_go() {
        assert_eq!(Query::parse("n=-5").int("n"), Ok(-5));
        assert_eq!(Query::parse("n=%2B5").int("n"), Ok(5));
        assert_eq!(Query::parse("").unsigned("n"), Ok(0));
        let errors = [
            Query::parse("limit=x").int("limit").unwrap_err(),
            Query::parse("limit=99999999999999999999").int("limit").unwrap_err(),
            Query::parse("limit=-").int("limit").unwrap_err(),
            Query::parse("cid=-1").unsigned("cid").unwrap_err(),
            Query::parse("cid=%2B1").unsigned("cid").unwrap_err(),
            Query::parse("cid=18446744073709551616").unsigned("cid").unwrap_err(),
        ];
        insta::assert_snapshot!(errors.map(|error| error.to_string()).join("\n"), @r#"
        Error decoding int for 'limit': strconv.Atoi: parsing "x": invalid syntax
        Error decoding int for 'limit': strconv.Atoi: parsing "99999999999999999999": value out of range
        Error decoding int for 'limit': strconv.Atoi: parsing "-": invalid syntax
        Error decoding uint64 for 'cid': strconv.ParseUint: parsing "-1": invalid syntax
        Error decoding uint64 for 'cid': strconv.ParseUint: parsing "+1": invalid syntax
        Error decoding uint64 for 'cid': strconv.ParseUint: parsing "18446744073709551616": value out of range
        "#);
    }
}
