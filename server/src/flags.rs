//! The command line: the reference's flags in the grammar of Go's `flag` package.
//!
//! `-p 1`, `--p=1`, `-DV`, `--signal=ldm=FILE`: one or two dashes, a value behind `=` or in the next argument, no
//! value needed for switches, and the first argument that is no flag ends them. What the reference knows and
//! natrix doesn't do yet is refused by name; nothing is ignored.
//!
//! Source: nats-server `main.go`, and `server/opts.go`, `ConfigureOptions`.

mod number;
mod table;
mod usage;

use std::time::Duration;

use natrix_core::config::{CertificatePair, DEFAULT_PORT, Options, Secret, TlsOptions};
use natrix_core::monitoring::go_quote;

use table::{Arity, Flag, FlagId};
pub(crate) use usage::{tls_help, usage, version_line};

/// What the command line asks for.
#[derive(Debug, PartialEq)]
pub(crate) enum Invocation {
    /// Print the version and leave.
    Version,
    /// Print the usage and leave.
    Help,
    /// Print what there is to know about TLS and leave.
    HelpTls,
    /// Send a signal to another process and leave; holds the command with its target.
    Signal(String),
    /// Run, or only check the configuration.
    Run(Box<Flags>),
}

/// Why a command line is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FlagError {
    /// It isn't in the grammar. The reference prints this to stderr and its usage to stdout, and leaves with 0.
    #[error("{0}")]
    Grammar(String),
    /// It asks for what makes no sense or doesn't exist yet; printed behind the program's name, exit code 1.
    #[error("{0}")]
    Refused(String),
}

/// The flags that were given. `None` everywhere else: a file's setting stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Flags {
    /// `-c`: the configuration file.
    pub(crate) config_file: Option<String>,
    /// `-t`: check the configuration file and leave.
    pub(crate) check_config: bool,
    given: Vec<(FlagId, Value)>,
}

/// A flag's value, of the type that its flag has.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Switch(bool),
    Number(i64),
    Text(String),
}

/// Reads the arguments behind the program's name.
///
/// # Errors
///
/// [`FlagError`], for the first argument that is wrong.
pub(crate) fn parse(arguments: &[String]) -> Result<Invocation, FlagError> {
    let mut flags = Flags::default();
    let mut rest = arguments.iter();
    let mut command = None;
    while let Some(argument) = rest.next() {
        let Some(body) = argument.strip_prefix('-').filter(|body| !body.is_empty()) else {
            command = Some(argument);
            break;
        };
        if body == "-" {
            command = rest.next();
            break;
        }
        let body = body.strip_prefix('-').unwrap_or(body);
        if body.starts_with(['-', '=']) {
            return Err(FlagError::Grammar(format!("bad flag syntax: {argument}")));
        }
        let (name, value) = match body.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (body, None),
        };
        let Some(flag) = table::find(name) else {
            return Err(FlagError::Grammar(format!("flag provided but not defined: -{name}")));
        };
        let value = read_value(flag, name, value, || rest.next().map(String::as_str))?;
        flags.given.push((flag.id, value));
    }
    interpret(flags, command.map(String::as_str))
}

fn read_value<'a>(
    flag: &Flag,
    name: &str,
    value: Option<&'a str>,
    next: impl FnOnce() -> Option<&'a str>,
) -> Result<Value, FlagError> {
    if flag.arity == Arity::Switch {
        let switch = match value {
            None => Ok(true),
            Some(text) => number::parse_switch(text).ok_or(text),
        };
        return switch.map(Value::Switch).map_err(|text| {
            FlagError::Grammar(format!("invalid boolean value {} for -{name}: parse error", go_quote(text)))
        });
    }
    let text =
        value.or_else(next).ok_or_else(|| FlagError::Grammar(format!("flag needs an argument: -{name}")))?;
    if flag.arity == Arity::Text {
        return Ok(Value::Text(text.to_owned()));
    }
    number::parse_number(text).map(Value::Number).map_err(|reason| {
        FlagError::Grammar(format!("invalid value {} for flag -{name}: {reason}", go_quote(text)))
    })
}

fn interpret(mut flags: Flags, command: Option<&str>) -> Result<Invocation, FlagError> {
    if flags.switch(FlagId::Version) == Some(true) {
        return Ok(Invocation::Version);
    }
    if flags.switch(FlagId::Help) == Some(true) {
        return Ok(Invocation::Help);
    }
    if flags.switch(FlagId::HelpTls) == Some(true) {
        return Ok(Invocation::HelpTls);
    }
    match command.map(str::to_lowercase).as_deref() {
        None => {}
        Some("version") => return Ok(Invocation::Version),
        Some("help") => return Ok(Invocation::Help),
        Some(_) => {
            let command = go_quote(command.unwrap_or_default());
            return Err(FlagError::Refused(format!("unrecognized command: {command}")));
        }
    }
    flags.refuse_what_is_not_there()?;
    if let Some(signal) = flags.text(FlagId::Signal).filter(|signal| !signal.is_empty()) {
        return Ok(Invocation::Signal(signal));
    }
    flags.config_file = flags.text(FlagId::Config).filter(|path| !path.is_empty());
    flags.check_config = flags.switch(FlagId::CheckConfig) == Some(true);
    if flags.check_config && flags.config_file.is_none() {
        let text = "must specify [-c, --config] option to check configuration file syntax";
        return Err(FlagError::Refused(text.to_owned()));
    }
    Ok(Invocation::Run(Box::new(flags)))
}

impl Flags {
    /// The last of several wins, under whatever alias.
    fn value(&self, id: FlagId) -> Option<&Value> {
        self.given.iter().rev().find(|(given, _)| *given == id).map(|(_, value)| value)
    }

    fn switch(&self, id: FlagId) -> Option<bool> {
        match self.value(id)? {
            Value::Switch(value) => Some(*value),
            _ => None,
        }
    }

    fn number(&self, id: FlagId) -> Option<i64> {
        match self.value(id)? {
            Value::Number(value) => Some(*value),
            _ => None,
        }
    }

    fn text(&self, id: FlagId) -> Option<String> {
        match self.value(id)? {
            Value::Text(value) => Some(value.clone()),
            _ => None,
        }
    }

    /// Refuses flags of things that don't exist yet, unless they switch off what isn't there anyway.
    fn refuse_what_is_not_there(&self) -> Result<(), FlagError> {
        for (id, value) in &self.given {
            let FlagId::Missing { feature } = id else { continue };
            let asks_for_nothing = match value {
                Value::Switch(on) => !on,
                Value::Number(number) => *number == 0,
                Value::Text(text) => text.is_empty(),
            };
            if !asks_for_nothing {
                let flag = table::name_of(*id);
                return Err(FlagError::Refused(format!("flag {flag}: natrix has no {feature} yet")));
            }
        }
        Ok(())
    }

    /// Lays the flags over `options`, which hold what a file said or the defaults.
    ///
    /// # Errors
    ///
    /// [`FlagError::Refused`] for values that make no sense.
    pub(crate) fn apply(&self, options: &mut Options) -> Result<(), FlagError> {
        self.apply_listeners(options)?;
        self.apply_logging(options);
        self.apply_tls(options)?;
        if let Some(name) = self.text(FlagId::Name) {
            if name.contains(' ') {
                return Err(FlagError::Refused("server name cannot contain spaces".to_owned()));
            }
            options.server_name = non_empty(name);
        }
        let set = |target: &mut Option<String>, id| {
            if let Some(text) = self.text(id) {
                *target = non_empty(text);
            }
        };
        set(&mut options.client_advertise, FlagId::ClientAdvertise);
        set(&mut options.pid_file, FlagId::PidFile);
        set(&mut options.ports_file_dir, FlagId::PortsFileDir);
        set(&mut options.username, FlagId::User);
        let set = |target: &mut Option<Secret>, id| {
            if let Some(text) = self.text(id) {
                *target = non_empty(text).map(Secret::new);
            }
        };
        set(&mut options.password, FlagId::Password);
        set(&mut options.token, FlagId::Token);
        if let Some(shards) = self.number(FlagId::Shards) {
            options.shards = match u16::try_from(shards) {
                Ok(0) => None,
                Ok(shards) => Some(shards),
                Err(_) => return Err(FlagError::Refused(format!("invalid number of shards: {shards}"))),
            };
        }
        Ok(())
    }

    fn apply_listeners(&self, options: &mut Options) -> Result<(), FlagError> {
        if let Some(host) = self.text(FlagId::Host) {
            let host = if host.is_empty() { Options::default().host } else { host };
            // The monitoring listener follows the client listener unless a file gave it an address of its own.
            if options.monitoring.host == options.host {
                options.monitoring.host.clone_from(&host);
            }
            options.host = host;
        }
        if let Some(port) = self.number(FlagId::Port) {
            options.port = match port {
                0 => DEFAULT_PORT,
                -1 => 0,
                port => u16::try_from(port).map_err(|_| {
                    // Differs: the reference finds out when it listens, after its banner; the words are the same.
                    FlagError::Refused(format!(
                        "Error listening on port: {}:{port}, \"listen tcp: address {port}: invalid port\"",
                        options.host
                    ))
                })?,
            };
        }
        let monitoring = |port: i64| {
            match port {
            0 => Ok(None),
            -1 => Ok(Some(0)),
            port => u16::try_from(port).map(Some).map_err(|_| {
                FlagError::Refused(format!(
                    "Can't start monitoring: can't listen to the monitor port: listen tcp: address {port}: invalid port"
                ))
            }),
        }
        };
        if let Some(port) = self.number(FlagId::HttpPort) {
            options.monitoring.http_port = monitoring(port)?;
        }
        if let Some(port) = self.number(FlagId::HttpsPort) {
            options.monitoring.https_port = monitoring(port)?;
        }
        Ok(())
    }

    fn apply_logging(&self, options: &mut Options) {
        let logging = &mut options.logging;
        let set = |target: &mut bool, id| {
            if let Some(on) = self.switch(id) {
                *target = on;
            }
        };
        set(&mut logging.debug, FlagId::Debug);
        set(&mut logging.trace, FlagId::Trace);
        set(&mut logging.logtime, FlagId::LogTime);
        set(&mut logging.logtime_utc, FlagId::LogTimeUtc);
        set(&mut logging.syslog, FlagId::Syslog);
        // The combined ones decide last, whatever the order on the command line.
        if let Some(on) = self.switch(FlagId::DebugTrace) {
            (logging.debug, logging.trace) = (on, on);
        }
        if let Some(on) = self.switch(FlagId::DebugTraceVerbose) {
            (logging.debug, logging.trace, logging.trace_verbose) = (on, on, on);
        }
        if let Some(on) = self.switch(FlagId::TraceVerbose) {
            (logging.trace, logging.trace_verbose) = (on, on);
        }
        if let Some(file) = self.text(FlagId::LogFile) {
            logging.log_file = non_empty(file);
        }
        if let Some(address) = self.text(FlagId::RemoteSyslog) {
            logging.remote_syslog = non_empty(address);
        }
        if let Some(limit) = self.number(FlagId::LogSizeLimit) {
            logging.log_size_limit = u64::try_from(limit).ok().filter(|limit| *limit > 0);
        }
        if let Some(length) = self.number(FlagId::MaxTracedMessage) {
            logging.max_traced_msg_len = usize::try_from(length).ok().filter(|length| *length > 0);
        }
    }

    /// Any TLS flag replaces the certificates of the file, unless `-tls=false` switches TLS off altogether.
    fn apply_tls(&self, options: &mut Options) -> Result<(), FlagError> {
        let timeout_before = authentication_timeout(options.tls.as_ref());
        let any = [FlagId::Tls, FlagId::TlsVerify, FlagId::TlsCert, FlagId::TlsKey, FlagId::TlsCaCert]
            .iter()
            .any(|id| self.value(*id).is_some());
        if self.switch(FlagId::Tls) == Some(false) {
            options.tls = None;
        } else if any {
            let file = |id, what: &str| {
                self.text(id)
                    .and_then(non_empty)
                    .ok_or_else(|| FlagError::Refused(format!("TLS Server {what} must be present and valid")))
            };
            let cert_file = file(FlagId::TlsCert, "certificate")?;
            let key_file = file(FlagId::TlsKey, "private key")?;
            options.tls = Some(TlsOptions {
                certificates: vec![CertificatePair { cert_file, key_file }],
                ca_file: self.text(FlagId::TlsCaCert).and_then(non_empty),
                verify: self.switch(FlagId::TlsVerify) == Some(true),
                insecure: false,
                cipher_suites: None,
                curve_preferences: None,
                min_version: TlsOptions::default().min_version,
                ..options.tls.take().unwrap_or_default()
            });
        }
        // A timeout that nobody chose follows from whether there is a handshake before.
        if options.auth_timeout == timeout_before {
            options.auth_timeout = authentication_timeout(options.tls.as_ref());
        }
        Ok(())
    }
}

/// Returns how long a connection may take to authenticate if no setting says so.
fn authentication_timeout(tls: Option<&TlsOptions>) -> Duration {
    tls.map_or(Duration::from_secs(2), |tls| tls.timeout + Duration::from_secs(1))
}

fn non_empty(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests;
