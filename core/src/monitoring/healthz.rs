//! /healthz: whether the server can do its work.

use serde::Serialize;

use super::query::{Query, QueryError};
use crate::protocol::quote::quote;

/// What a request to /healthz asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthzOptions {
    /// The deprecated spelling of `js-enabled-only` was used.
    pub js_enabled: bool,
    /// Whether errors are to be listed one by one.
    pub details: bool,
    /// The account whose assets to check.
    pub account: String,
    /// The stream to check.
    pub stream: String,
    /// The consumer to check.
    pub consumer: String,
}

impl HealthzOptions {
    /// Reads what the query of a request to /healthz asks for.
    ///
    /// # Errors
    ///
    /// The first parameter that makes no sense, in the order in which the reference reads them.
    pub fn from_query(query: &Query) -> Result<Self, QueryError> {
        let js_enabled = query.boolean("js-enabled")?;
        // They narrow what is checked of JetStream, of which there is nothing yet; but they must make sense.
        for name in ["js-enabled-only", "js-server-only", "js-meta-only"] {
            query.boolean(name)?;
        }
        Ok(HealthzOptions {
            js_enabled,
            details: query.boolean("details")?,
            account: query.get("account").to_owned(),
            stream: query.get("stream").to_owned(),
            consumer: query.get("consumer").to_owned(),
        })
    }
}

/// What is wrong, in an answer with details.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthzError {
    #[serde(rename = "type")]
    kind: &'static str,
    error: String,
}

/// The answer to /healthz.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthStatus {
    status: &'static str,
    #[serde(skip)]
    status_code: u16,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<HealthzError>,
}

impl HealthStatus {
    /// Judges a server that accepts clients if `accepting`, which lame duck mode ends.
    pub fn new(options: &HealthzOptions, accepting: bool) -> Self {
        let must_not_be_empty = |what: &str, of: &str| {
            format!("{} must not be empty when checking {of} health", quote(what.as_bytes()))
        };
        if options.account.is_empty() && !options.stream.is_empty() {
            Self::failed(options, 400, "BAD_REQUEST", must_not_be_empty("account", "stream"))
        } else if options.stream.is_empty() && !options.consumer.is_empty() {
            Self::failed(options, 400, "BAD_REQUEST", must_not_be_empty("stream", "consumer"))
        } else if !accepting {
            let error = "failed to be ready for connections after 1ms: server".to_owned();
            Self::failed(options, 500, "CONNECTION", error)
        } else {
            HealthStatus { status: "ok", status_code: 200, error: String::new(), errors: Vec::new() }
        }
    }

    fn failed(options: &HealthzOptions, status_code: u16, kind: &'static str, error: String) -> Self {
        let (error, errors) = match options.details {
            true => (String::new(), vec![HealthzError { kind, error }]),
            false => (error, Vec::new()),
        };
        HealthStatus { status: "error", status_code, error, errors }
    }

    /// Returns the HTTP status.
    pub fn status_code(&self) -> u16 {
        self.status_code
    }

    /// Returns the warning that a bad answer leaves in the log.
    pub fn warning(&self) -> Option<String> {
        if !self.error.is_empty() {
            Some(format!("Healthcheck failed: {}", quote(self.error.as_bytes())))
        } else if !self.errors.is_empty() {
            Some(format!("Healthcheck failed: {} errors", self.errors.len()))
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(query: &str, accepting: bool) -> String {
        match HealthzOptions::from_query(&Query::parse(query)) {
            Ok(options) => {
                let status = HealthStatus::new(&options, accepting);
                let json = serde_json::to_string(&status).unwrap();
                format!("{} {json} {:?}", status.status_code(), status.warning())
            }
            Err(error) => format!("400 {error}"),
        }
    }

    #[test]
    fn a_server_that_accepts_clients_is_well() {
        assert_eq!(answer("", true), r#"200 {"status":"ok"} None"#);
        assert_eq!(
            answer("js-server-only=true&js-enabled-only=1&details=1", true),
            r#"200 {"status":"ok"} None"#
        );
    }

    #[test]
    fn a_lame_duck_is_not() {
        insta::assert_snapshot!([answer("", false), answer("details=1", false)].join("\n"), @r#"
        500 {"status":"error","error":"failed to be ready for connections after 1ms: server"} Some("Healthcheck failed: \"failed to be ready for connections after 1ms: server\"")
        500 {"status":"error","errors":[{"type":"CONNECTION","error":"failed to be ready for connections after 1ms: server"}]} Some("Healthcheck failed: 1 errors")
        "#);
    }

    #[test]
    fn questions_that_make_no_sense_are_refused() {
        insta::assert_snapshot!(
            [answer("stream=S", true), answer("consumer=C&details=t", true), answer("js-meta-only=x", true)].join("\n"),
            @r#"
        400 {"status":"error","error":"\"account\" must not be empty when checking stream health"} Some("Healthcheck failed: \"\\\"account\\\" must not be empty when checking stream health\"")
        400 {"status":"error","errors":[{"type":"BAD_REQUEST","error":"\"stream\" must not be empty when checking consumer health"}]} Some("Healthcheck failed: 1 errors")
        400 Error decoding boolean for 'js-meta-only': strconv.ParseBool: parsing "x": invalid syntax
        "#
        );
    }
}
