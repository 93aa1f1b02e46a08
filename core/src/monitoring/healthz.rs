//! /healthz: whether the server can do its work.

use serde::Serialize;

use super::query::{Query, QueryError};
use crate::jetstream::report::{Detail, Report};
use crate::protocol::quote::quote;

/// What a request to /healthz asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthzOptions {
    /// The deprecated spelling of `js-enabled-only` was used.
    pub js_enabled: bool,
    /// Whether streams and consumers are checked.
    pub streams: bool,
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
        // Each leaves out what streams and consumers there are.
        let mut narrower = js_enabled;
        for name in ["js-enabled-only", "js-server-only", "js-meta-only"] {
            narrower |= query.boolean(name)?;
        }
        Ok(HealthzOptions {
            js_enabled,
            streams: !narrower,
            details: query.boolean("details")?,
            account: query.get("account").to_owned(),
            stream: query.get("stream").to_owned(),
            consumer: query.get("consumer").to_owned(),
        })
    }
}

impl HealthzOptions {
    /// What has to be known of streams and consumers.
    pub fn detail(&self) -> Detail {
        let named = !self.account.is_empty();
        Detail {
            accounts: named,
            account: self.account.clone(),
            streams: !self.stream.is_empty(),
            consumers: !self.consumer.is_empty(),
            config: false,
        }
    }

    /// Says what is wrong with streams and consumers, if something is, and the HTTP status for it.
    ///
    /// Source: nats-server `server/monitor.go`, `healthz`.
    fn problem(&self, report: &Report) -> Option<(u16, HealthzError)> {
        let HealthzOptions { account, stream, consumer, .. } = self;
        let of =
            |kind, error| HealthzError { kind, account: account.clone(), error, ..HealthzError::default() };
        if !report.recovered {
            let error = "JetStream is still recovering".to_owned();
            return Some((503, HealthzError { kind: "JETSTREAM", error, ..HealthzError::default() }));
        }
        if let Some((account, stream, reason)) = report.broken.first() {
            let error = match account.is_empty() {
                true => format!("JetStream store {stream} could not be recovered: {reason}"),
                false => format!("JetStream stream '{account} > {stream}' could not be recovered: {reason}"),
            };
            let (account, stream) = (account.clone(), stream.clone());
            return Some((
                503,
                HealthzError { kind: "STREAM", account, stream, error, ..HealthzError::default() },
            ));
        }
        if account.is_empty() {
            return None;
        }
        let Some(found) = report.accounts.first() else {
            return Some((
                404,
                of("ACCOUNT", format!("JetStream account {} not found", quote(account.as_bytes()))),
            ));
        };
        if stream.is_empty() {
            return None;
        }
        let shown = (quote(stream.as_bytes()), quote(account.as_bytes()));
        let Some(found) = found.streams.iter().find(|known| known.name == *stream) else {
            let error = format!("JetStream stream {} not found on account {}", shown.0, shown.1);
            return Some((404, HealthzError { stream: stream.clone(), ..of("STREAM", error) }));
        };
        if consumer.is_empty() || found.consumers.iter().any(|known| known.name == *consumer) {
            return None;
        }
        let error = format!(
            "JetStream consumer {} not found for stream {} on account {}",
            quote(consumer.as_bytes()),
            shown.0,
            shown.1
        );
        let (stream, consumer) = (stream.clone(), consumer.clone());
        Some((404, HealthzError { stream, consumer, ..of("CONSUMER", error) }))
    }
}

/// What is wrong, in an answer with details.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HealthzError {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    account: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    stream: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    consumer: String,
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
    /// Judges a server that accepts clients if `accepting`, which lame duck mode ends, and whose streams are as `report` says,
    /// if it has any.
    pub fn new(options: &HealthzOptions, accepting: bool, report: Option<&Report>) -> Self {
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
        } else if let Some(problem) =
            report.filter(|_| options.streams).and_then(|report| options.problem(report))
        {
            Self::unavailable(options, problem)
        } else {
            HealthStatus { status: "ok", status_code: 200, error: String::new(), errors: Vec::new() }
        }
    }

    fn failed(options: &HealthzOptions, status_code: u16, kind: &'static str, error: String) -> Self {
        let (error, errors) = match options.details {
            true => (String::new(), vec![HealthzError { kind, error, ..HealthzError::default() }]),
            false => (error, Vec::new()),
        };
        HealthStatus { status: "error", status_code, error, errors }
    }

    fn unavailable(options: &HealthzOptions, (status_code, problem): (u16, HealthzError)) -> Self {
        let (status, error, errors) = match options.details {
            true => ("error", String::new(), vec![problem]),
            false => ("unavailable", problem.error, Vec::new()),
        };
        HealthStatus { status, status_code, error, errors }
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
                let status = HealthStatus::new(&options, accepting, None);
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
