//! What an API answer says is wrong.

mod table;

use std::borrow::Cow;

use serde::Serialize;
pub use table::ErrorKind;

/// An error as clients get it.
///
/// Shape: `{"code":404,"err_code":10059,"description":"stream not found"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{description} ({err_code})")]
pub struct ApiError {
    /// One of HTTP's codes.
    pub code: u16,
    /// Which error it is.
    #[serde(skip_serializing_if = "super::write::is_default")]
    pub err_code: u16,
    /// The text for people.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub description: Cow<'static, str>,
}

impl ApiError {
    /// Tells whether it is an error of this kind, whatever its text says.
    pub fn is(&self, kind: ErrorKind) -> bool {
        self.err_code == kind.err_code()
    }
}

impl ErrorKind {
    /// Makes the error. What its text wants filled in stays in braces, so this is for texts that want nothing.
    pub fn error(self) -> ApiError {
        ApiError { code: self.code(), err_code: self.err_code(), description: Cow::Borrowed(self.template()) }
    }

    /// Makes the error with `value` where its text wants something.
    pub fn with(self, value: impl std::fmt::Display) -> ApiError {
        self.with_all(&[&value])
    }

    /// Makes the error with `values` where its text wants something, in the order of the text.
    pub fn with_all(self, values: &[&dyn std::fmt::Display]) -> ApiError {
        let mut description = String::new();
        let mut rest = self.template();
        for value in values {
            let Some((before, behind)) = rest.split_once('{') else { break };
            let (_, after) = behind.split_once('}').unwrap_or(("", behind));
            description.push_str(before);
            description.push_str(&value.to_string());
            rest = after;
        }
        description.push_str(rest);
        ApiError { description: Cow::Owned(description), ..self.error() }
    }
}

impl From<ErrorKind> for ApiError {
    fn from(kind: ErrorKind) -> Self {
        kind.error()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jetstream::api::write::to_json;

    #[test]
    fn errors_are_written_as_the_reference_writes_them() {
        for (error, json) in [
            (
                ErrorKind::StreamNotFound.error(),
                r#"{"code":404,"err_code":10059,"description":"stream not found"}"#,
            ),
            (
                ErrorKind::InvalidJson.with("json: unknown field \"<x>\""),
                r#"{"code":400,"err_code":10025,"description":"invalid JSON: json: unknown field \"\u003cx\u003e\""}"#,
            ),
            (
                ErrorKind::StreamExternalApiOverlap.with_all(&[&"$JS.{x}.API", &"a"]),
                r#"{"code":400,"err_code":10021,"description":"stream external api prefix $JS.{x}.API must not overlap with a"}"#,
            ),
        ] {
            assert_eq!(String::from_utf8(to_json(&error)).unwrap(), json);
        }
        assert_eq!(ErrorKind::StreamNotFound.error().to_string(), "stream not found (10059)");
        assert!(ErrorKind::InvalidJson.with(1).is(ErrorKind::InvalidJson));
    }

    /// The numbers of the reference have a gap at 10001 only, and are used once.
    #[test]
    fn the_table_is_whole() {
        let numbers: Vec<u16> = ErrorKind::ALL.iter().map(|kind| kind.err_code()).collect();
        assert_eq!(numbers, (10002..=10227).collect::<Vec<u16>>());
        for kind in ErrorKind::ALL {
            assert!((400..=503).contains(&kind.code()), "{kind:?}");
            assert!(kind.constant().starts_with("JS"), "{kind:?}");
            let filled = kind.with_all(&[&"x", &"x"]).description;
            assert!(!filled.contains('{') && !filled.is_empty(), "{filled}");
        }
    }
}
