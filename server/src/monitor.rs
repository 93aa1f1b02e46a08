//! The monitoring endpoints: which there are, what they answer, and what a bad request gets.
//!
//! Bytes and connections are [`http`]'s; here a path and a query become an [`Answer`]. Every endpoint that shows
//! connections asks all shards and puts their answers together.
//!
//! Source: nats-server `server/server.go`, `startMonitoring`, and the handlers in `server/monitor.go`.

pub(crate) mod http;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use natrix_core::config::{GLOBAL_ACCOUNT, Options};
use natrix_core::jetstream::report::{Detail, Report};
use natrix_core::monitoring::{
    Connz, ConnzContext, ConnzOptions, ControlReply, ControlRequest, HealthStatus, HealthzOptions, Jsz,
    JszOptions, Query, QueryError, ShardStats, Subsz, SubszOptions, Varz, VarzContext,
};
use natrix_core::protocol::json::escape_as_go;
use natrix_core::time::WallTime;
use serde::Serialize;

use crate::flags::{GIT_COMMIT, REFERENCE_VERSION};
use crate::log::Logger;
use crate::process::Process;

/// The running shards.
pub(crate) trait Shards: Send + Sync + 'static {
    /// Asks every shard; fewer answers than shards if some have ended.
    fn ask(&self, request: ControlRequest) -> impl Future<Output = Vec<ControlReply>> + Send;

    /// Returns how many there are.
    fn count(&self) -> usize;
}

/// What monitoring knows of the server beside its shards.
pub(crate) struct ServerFacts {
    pub(crate) options: Arc<Options>,
    pub(crate) server_id: String,
    pub(crate) server_name: String,
    /// The port that clients reach, the real one once it is bound.
    pub(crate) client_port: Arc<AtomicU16>,
    pub(crate) start: WallTime,
    pub(crate) tls_not_after: Option<Timestamp>,
    /// Whether clients are accepted; lame duck mode ends it.
    pub(crate) accepting: Arc<AtomicBool>,
}

/// Answers monitoring requests.
pub(crate) struct Monitor<S> {
    shards: S,
    facts: ServerFacts,
    logger: Logger,
    process: Process,
    requests: Mutex<BTreeMap<&'static str, u64>>,
}

/// The answer to a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: &'static str,
    /// Further headers.
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
}

const PLAIN: &str = "text/plain; charset=utf-8";

impl Answer {
    /// JSON, open to scripts of any origin.
    fn json(status: u16, body: Vec<u8>) -> Self {
        let headers = vec![("access-control-allow-origin", "*".to_owned())];
        Answer { status, content_type: "application/json", headers, body }
    }

    fn pretty(value: &impl Serialize) -> Self {
        match serde_json::to_vec_pretty(value).map(escape_as_go) {
            Ok(body) => Answer::json(200, body),
            Err(error) => Answer {
                status: 500,
                content_type: PLAIN,
                headers: Vec::new(),
                body: error.to_string().into_bytes(),
            },
        }
    }

    fn not_found() -> Self {
        let headers = vec![("x-content-type-options", "nosniff".to_owned())];
        Answer { status: 404, content_type: PLAIN, headers, body: b"404 page not found\n".to_vec() }
    }

    fn redirect(target: String) -> Self {
        // The path comes from the request; what could end the attribute is escaped.
        let shown =
            target.replace('&', "&amp;").replace('"', "&#34;").replace('<', "&lt;").replace('>', "&gt;");
        Answer {
            status: 307,
            content_type: "text/html; charset=utf-8",
            body: format!("<a href=\"{shown}\">Temporary Redirect</a>.\n\n").into_bytes(),
            headers: vec![("location", target)],
        }
    }
}

impl From<QueryError> for Answer {
    fn from(error: QueryError) -> Self {
        Answer { status: 400, content_type: PLAIN, headers: Vec::new(), body: error.to_string().into_bytes() }
    }
}

/// The endpoints below the base path, with the names they have on the root page.
const ENDPOINTS: [(&str, &str); 5] = [
    ("/varz", "General"),
    ("/connz", "Connections"),
    ("/subsz", "Subscriptions"),
    ("/jsz", "JetStream"),
    ("/healthz", "Health Probe"),
];

impl<S: Shards> Monitor<S> {
    pub(crate) fn new(shards: S, facts: ServerFacts, logger: Logger) -> Self {
        Monitor { shards, facts, logger, process: Process::new(), requests: Mutex::default() }
    }

    /// Answers a request of any method for a path with what stands behind its `?`.
    pub(crate) async fn answer(&self, path: &str, query: &str) -> Answer {
        let cleaned = clean(path);
        if cleaned != path {
            let query = if query.is_empty() { String::new() } else { format!("?{query}") };
            return Answer::redirect(format!("{cleaned}{query}"));
        }
        let base = self.facts.options.monitoring.base_path.as_str();
        if path == base {
            return self.root();
        }
        let base = if base == "/" { "" } else { base };
        let query = Query::parse(query);
        let answer = match path.strip_prefix(base) {
            Some("/varz") => Ok(self.varz().await),
            Some("/connz") => self.connz(&query).await,
            Some("/subsz" | "/subscriptionsz") => self.subsz(&query).await,
            Some("/jsz") => self.jsz(&query).await,
            Some("/healthz") => self.healthz(&query).await,
            _ => Ok(Answer::not_found()),
        };
        answer.unwrap_or_else(Answer::from)
    }

    fn count_request(&self, endpoint: &'static str) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(endpoint).or_default() += 1;
    }

    fn root(&self) -> Answer {
        self.count_request("/");
        let base = match self.facts.options.monitoring.base_path.as_str() {
            "/" => "",
            base => base,
        };
        let mut page = format!(
            "<html lang=\"en\">\n<head><title>{0}</title></head>\n<body>\n<h1>{0}</h1>\n<p>v{REFERENCE_VERSION}</p>\n",
            env!("CARGO_PKG_NAME")
        );
        for (path, title) in ENDPOINTS {
            page.push_str(&format!("<p><a href=\".{base}{path}\">{title}</a></p>\n"));
        }
        page.push_str("  </body>\n</html>\n");
        Answer {
            status: 200,
            content_type: "text/html; charset=utf-8",
            headers: Vec::new(),
            body: page.into_bytes(),
        }
    }

    async fn varz(&self) -> Answer {
        self.count_request("/varz");
        let mut stats = ShardStats::default();
        for reply in self.shards.ask(ControlRequest::Varz).await {
            if let ControlReply::Varz(shard) = reply {
                stats.add(&shard);
            }
        }
        let report = self.report(Detail::default()).await;
        let facts = &self.facts;
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Answer::pretty(&Varz::new(&VarzContext {
            options: &facts.options,
            server_id: &facts.server_id,
            server_name: &facts.server_name,
            version: REFERENCE_VERSION,
            git_commit: GIT_COMMIT,
            host: &facts.options.host,
            port: facts.client_port.load(Ordering::Relaxed),
            shards: self.shards.count(),
            start: facts.start,
            now: wall_time(),
            process: self.process.facts(),
            stats,
            jetstream: report.as_ref(),
            http_requests: &requests,
            tls_not_after: facts.tls_not_after,
        }))
    }

    async fn connz(&self, query: &Query) -> Result<Answer, QueryError> {
        let options = ConnzOptions::from_query(query);
        // A sort key that makes no sense is found out after the request was counted, everything else before.
        if matches!(options, Ok(_) | Err(QueryError::Sort(_) | QueryError::SortNeedsClosed(_))) {
            self.count_request("/connz");
        }
        let options = Arc::new(options?);
        let replies = self.shards.ask(ControlRequest::Connz(Arc::clone(&options))).await;
        let parts = replies.into_iter().filter_map(|reply| match reply {
            ControlReply::Connz(part) => Some(part),
            _ => None,
        });
        let context = ConnzContext {
            server_id: &self.facts.server_id,
            now: wall_time(),
            max_closed: self.facts.options.max_closed_clients,
            account_exists: self.account_exists(&options.account),
        };
        Ok(Answer::pretty(&Connz::merge(&options, &context, parts.collect())))
    }

    fn account_exists(&self, name: &str) -> bool {
        let options = &self.facts.options;
        name.is_empty()
            || name == GLOBAL_ACCOUNT
            || options.system_account_name() == Some(name)
            || options.accounts.iter().any(|account| account.name == name)
    }

    async fn subsz(&self, query: &Query) -> Result<Answer, QueryError> {
        self.count_request("/subsz");
        let options = Arc::new(SubszOptions::from_query(query)?);
        let replies = self.shards.ask(ControlRequest::Subsz(Arc::clone(&options))).await;
        let parts = replies.into_iter().filter_map(|reply| match reply {
            ControlReply::Subsz(part) => Some(part),
            _ => None,
        });
        Ok(Answer::pretty(&Subsz::merge(&options, &self.facts.server_id, wall_time(), parts.collect())))
    }

    /// Asks what there is of streams and consumers; `None` of a server without.
    async fn report(&self, detail: Detail) -> Option<Report> {
        self.facts.options.jetstream.as_ref()?;
        let replies = self.shards.ask(ControlRequest::Jsz(Arc::new(detail))).await;
        let reports = replies.into_iter().filter_map(|reply| match reply {
            ControlReply::Jsz(report) => report.map(|report| *report),
            _ => None,
        });
        reports.reduce(Report::merge)
    }

    async fn jsz(&self, query: &Query) -> Result<Answer, QueryError> {
        self.count_request("/jsz");
        let asked = JszOptions::from_query(query)?;
        let report = self.report(asked.detail.clone()).await;
        let (options, server_id) = (&self.facts.options, &self.facts.server_id);
        Ok(Answer::pretty(&Jsz::new(&asked, options, server_id, wall_time(), report)))
    }

    async fn healthz(&self, query: &Query) -> Result<Answer, QueryError> {
        self.count_request("/healthz");
        let options = HealthzOptions::from_query(query)?;
        if options.js_enabled {
            self.logger.warn("Healthcheck: js-enabled deprecated, use js-enabled-only instead");
        }
        let report = match options.streams {
            true => self.report(options.detail()).await,
            false => None,
        };
        let accepting = self.facts.accepting.load(Ordering::Relaxed);
        let status = HealthStatus::new(&options, accepting, report.as_ref());
        if let Some(warning) = status.warning() {
            self.logger.warn(warning);
        }
        Ok(Answer::json(status.status_code(), escape_as_go(serde_json::to_vec(&status).unwrap_or_default())))
    }
}

/// Shortens a path as Go's request multiplexer does before it looks for a handler: no `.`, `..` or empty parts,
/// but the slash at the end stays.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut cleaned = format!("/{}", parts.join("/"));
    if path.ends_with('/') && cleaned.len() > 1 {
        cleaned.push('/');
    }
    cleaned
}

/// Reads the wall clock.
pub(crate) fn wall_time() -> WallTime {
    WallTime::from_unix_nanos(i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
