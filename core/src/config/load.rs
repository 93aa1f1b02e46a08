//! Values to checked settings, with every error and warning at once.
//!
//! A directive that the reference knows and natrix doesn't have yet is refused by its name, unless the value asks
//! for what natrix does anyway (`mqtt: false`). Types are taken as the reference takes them, and its words for
//! a wrong one are kept, odd as they are: operators search for them.
//!
//! Differs: errors come in the order of the file, where the reference's come in random order. What a wrong type
//! leads to further on (there: a nil pointer) isn't reported a second time.
//!
//! Source: nats-server `server/opts.go`, `processConfigFileLine`.

mod accounts;
mod authorization;
mod check;
mod general;
mod jetstream;
mod logging;
mod permissions;
mod tls;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::digest::digest;
use super::duration::parse_duration;
use super::options::{JetStreamOptions, Options, Secret, SyncPolicy};
use super::overrides::Overrides;
use super::parse::{self, ParseError};
use super::source::Source;
use super::text::quoted;
use super::value::{Position, Token, Value, in_order};

pub use check::OptionsError;
pub(super) use general::port_number;

/// Why a file gives no settings; prints what the reference prints.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The file can't be read or isn't in the language.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// The file says something wrong.
    #[error("{0}")]
    Invalid(Report),
}

/// What was wrong with a file, one line each: warnings first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What the server starts in spite of.
    pub warnings: Vec<String>,
    /// What it doesn't start with.
    pub errors: Vec<String>,
}

impl Report {
    /// Tells whether there is nothing to report.
    pub fn is_empty(&self) -> bool {
        self.warnings.is_empty() && self.errors.is_empty()
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.warnings.iter().chain(&self.errors).try_for_each(|line| writeln!(f, "{line}"))
    }
}

/// What a file said: settings that the command line may still override.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// The warnings; a mere check of the file fails on them too.
    pub report: Report,
    draft: Draft,
}

impl Loaded {
    /// Returns `sha256:` and the hash of the file's values; `None` without a file.
    pub fn digest(&self) -> Option<&str> {
        self.draft.options.config_digest.as_deref()
    }

    /// Lays the command line over the file, fills defaults in and checks what belongs together.
    ///
    /// For a server without a file begin with `Loaded::default()`.
    ///
    /// # Errors
    ///
    /// The first contradiction, in the reference's words.
    pub fn into_options(self, source: &dyn Source, overrides: &Overrides) -> Result<Options, OptionsError> {
        let mut draft = self.draft;
        overrides.apply(source, &mut draft)?;
        let options = draft.finish();
        check::check(&options)?;
        Ok(options)
    }
}

/// Reads and checks the file at `path`.
///
/// # Errors
///
/// Why it can't be used, all reasons at once.
pub fn load(source: &dyn Source, path: &str) -> Result<Loaded, LoadError> {
    let map = parse::parse_file(source, path)?;
    load_map(source, path, &map)
}

/// Checks `text`, which comes from no file.
///
/// # Errors
///
/// Why it can't be used, all reasons at once.
pub fn load_text(source: &dyn Source, text: &[u8]) -> Result<Loaded, LoadError> {
    let map = parse::parse_text(source, text, "")?;
    load_map(source, "", &map)
}

fn load_map(source: &dyn Source, path: &str, map: &BTreeMap<String, Token>) -> Result<Loaded, LoadError> {
    let mut loader = Loader { source, report: Report::default(), draft: Draft::default() };
    loader.draft.options.config_digest = Some(digest(map));
    if !path.is_empty() {
        loader.draft.options.config_file = Some(path.to_owned());
    }
    if map.is_empty() {
        loader.report.warnings.push(format!("{path}: config has no values or is empty"));
    }
    for (key, token) in in_order(map) {
        if let Err(problem) = loader.setting(key, token) {
            loader.error(problem);
        }
    }
    let Loader { report, draft, .. } = loader;
    if report.errors.is_empty() { Ok(Loaded { report, draft }) } else { Err(LoadError::Invalid(report)) }
}

/// Settings on their way: what can't be defaulted before the command line has been seen is kept beside them.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    pub(super) options: Options,
    /// `None` means the client listener's.
    pub(super) monitoring_host: Option<String>,
    /// `None` depends on whether there is TLS.
    pub(super) auth_timeout: Option<Duration>,
    /// What counts if there is JetStream, which the command line may still say.
    pub(super) jetstream: JetStreamOptions,
    /// Whether there is.
    pub(super) jetstream_on: bool,
    /// When the file wants syncs; its two names for it may both be there.
    pub(super) sync: Option<SyncPolicy>,
}

impl Draft {
    fn finish(self) -> Options {
        let mut options = self.options;
        options.monitoring.host = self.monitoring_host.unwrap_or_else(|| options.host.clone());
        options.auth_timeout = self.auth_timeout.unwrap_or(match &options.tls {
            Some(tls) => tls.timeout + Duration::from_secs(1),
            None => Duration::from_secs(2),
        });
        let sync = self.sync.unwrap_or(self.jetstream.sync);
        options.jetstream = self.jetstream_on.then_some(JetStreamOptions { sync, ..self.jetstream });
        options
    }
}

/// One line of a report.
#[derive(Clone, Debug)]
pub(super) struct Problem(String);

type Checked<T> = Result<T, Problem>;

/// Goes through the values.
struct Loader<'a> {
    source: &'a dyn Source,
    report: Report,
    draft: Draft,
}

impl Loader<'_> {
    fn error(&mut self, problem: Problem) {
        self.report.errors.push(problem.0);
    }

    fn warn(&mut self, problem: Problem) {
        self.report.warnings.push(problem.0);
    }

    /// Goes through the entries of a map in the order of the file, reporting what goes wrong with each.
    fn entries(
        &mut self,
        map: &BTreeMap<String, Token>,
        mut entry: impl FnMut(&mut Self, &str, &Token) -> Checked<()>,
    ) {
        for (key, token) in in_order(map) {
            if let Err(problem) = entry(self, key, token) {
                self.error(problem);
            }
        }
    }

    fn setting(&mut self, key: &str, token: &Token) -> Checked<()> {
        let name = key.to_lowercase();
        let known = self.general_setting(key, &name, token)?
            || self.logging_setting(&name, token)?
            || self.jetstream_setting(&name, token)?
            || self.security_setting(&name, token)?;
        if known {
            return Ok(());
        }
        if is_later(&name) {
            // Asking for nothing of it is asking for what there is.
            return if token.value == Value::Bool(false) { Ok(()) } else { Err(token.unsupported(key)) };
        }
        token.unknown(key)
    }

    /// Handles settings of who may connect and how; tells whether this was one.
    fn security_setting(&mut self, name: &str, token: &Token) -> Checked<bool> {
        match name {
            "accounts" => self.accounts(token)?,
            "authorization" => self.authorization(token)?,
            "tls" => {
                let tls = tls::tls(token)?;
                self.source.check_tls(&tls).map_err(|reason| token.problem(reason))?;
                self.draft.options.tls = Some(tls);
            }
            "allow_non_tls" => self.draft.options.allow_non_tls = token.bool()?,
            "proxies" => self.proxies(token)?,
            "no_auth_user" => self.draft.options.no_auth_user = non_empty(token.string()?),
            "system_account" | "system" => match &token.value {
                Value::String(account) => self.draft.options.system_account = non_empty(account),
                _ => return Err(token.problem("system account name must be a string")),
            },
            "no_system_account" | "no_system" | "no_sys_acc" => {
                self.draft.options.no_system_account = token.bool()?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Returns the names and keys of all users so far, which no other user may have.
    fn taken_names(&self) -> BTreeSet<String> {
        let options = &self.draft.options;
        let users = options.users.iter().map(|user| user.username.clone());
        users.chain(options.nkey_users.iter().map(|user| user.nkey.clone())).collect()
    }

    /// Reads a duration, or whole seconds with a warning.
    fn duration(&mut self, field: &str, token: &Token) -> Checked<i64> {
        if let Value::String(text) = &token.value {
            return parse_duration(text)
                .map_err(|reason| token.problem(format!("error parsing {field}: {reason}")));
        }
        self.warn(token.problem(format!(
            "invalid use of field {}: {field} should be converted to a duration",
            quoted(field)
        )));
        Ok(token.integer()?.saturating_mul(1_000_000_000))
    }
}

/// The directives of features that are still to come.
fn is_later(name: &str) -> bool {
    matches!(
        name,
        "mappings"
            | "maps"
            | "default_sentinel"
            | "cluster"
            | "gateway"
            | "leaf"
            | "leafnodes"
            | "proxy_protocol"
            | "ocsp"
            | "operator"
            | "operators"
            | "roots"
            | "root"
            | "root_operators"
            | "root_operator"
            | "resolver"
            | "account_resolver"
            | "accounts_resolver"
            | "resolver_tls"
            | "resolver_preload"
            | "resolver_pinned_accounts"
            | "trusted"
            | "trusted_keys"
            | "websocket"
            | "ws"
            | "mqtt"
            | "default_js_domain"
            | "ocsp_cache"
    )
}

impl Position {
    fn problem(&self, reason: impl std::fmt::Display) -> Problem {
        Problem(format!("{self}: {reason}"))
    }
}

impl Token {
    fn problem(&self, reason: impl std::fmt::Display) -> Problem {
        self.position.problem(reason)
    }

    fn unsupported(&self, name: &str) -> Problem {
        self.problem(format!("{} is not supported by this version of natrix yet", quoted(name)))
    }

    /// Complains about a key nobody knows, unless it is there to be referred to.
    fn unknown(&self, name: &str) -> Checked<()> {
        self.unknown_as(format!("unknown field {}", quoted(name)))
    }

    fn unknown_as(&self, reason: String) -> Checked<()> {
        if self.used_variable { Ok(()) } else { Err(self.problem(reason)) }
    }

    fn wrong_type(&self, wanted: &str) -> Problem {
        self.problem(format!(
            "interface conversion: interface {{}} is {}, not {wanted}",
            self.value.type_name()
        ))
    }

    fn string(&self) -> Checked<&str> {
        match &self.value {
            Value::String(text) => Ok(text),
            _ => Err(self.wrong_type("string")),
        }
    }

    fn bool(&self) -> Checked<bool> {
        match self.value {
            Value::Bool(value) => Ok(value),
            _ => Err(self.wrong_type("bool")),
        }
    }

    fn integer(&self) -> Checked<i64> {
        match self.value {
            Value::Integer(value) => Ok(value),
            _ => Err(self.wrong_type("int64")),
        }
    }

    fn array(&self) -> Checked<&[Token]> {
        match &self.value {
            Value::Array(items) => Ok(items),
            _ => Err(self.wrong_type("[]interface {}")),
        }
    }

    fn map(&self) -> Checked<&BTreeMap<String, Token>> {
        match &self.value {
            Value::Map(entries) => Ok(entries),
            _ => Err(self.wrong_type("map[string]interface {}")),
        }
    }

    /// Reads a timeout in seconds, whole or not, or as a duration.
    fn seconds(&self, block: &str) -> Checked<f64> {
        match &self.value {
            Value::Integer(seconds) => Ok(*seconds as f64),
            Value::Float(seconds) => Ok(*seconds),
            Value::String(text) => parse_duration(text)
                .map(|nanos| nanos as f64 / 1e9)
                .map_err(|reason| self.problem(format!("error parsing {block} config, 'timeout' {reason}"))),
            _ => Err(self.problem(format!("error parsing {block} config, 'timeout' wrong type"))),
        }
    }
}

fn non_empty(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn secret(text: &str) -> Option<Secret> {
    (!text.is_empty()).then(|| Secret::new(text))
}

/// A count of which zero and less mean none.
pub(super) fn positive<T: TryFrom<i64>>(value: i64, most: T) -> Option<T> {
    (value > 0).then(|| T::try_from(value).unwrap_or(most))
}

/// Zero seconds mean the default, less than none at all.
fn timeout(seconds: f64) -> Option<Duration> {
    (seconds != 0.0).then(|| Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX))
}

#[cfg(test)]
mod tests;
