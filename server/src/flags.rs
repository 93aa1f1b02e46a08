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

use natrix_core::config::{Overrides, Secret};
use natrix_core::protocol::quote::quote;

use table::{Arity, Flag, FlagId};
pub(crate) use usage::{GIT_COMMIT, REFERENCE_VERSION, tls_help, usage, version_line};

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
            FlagError::Grammar(format!(
                "invalid boolean value {} for -{name}: parse error",
                quote(text.as_bytes())
            ))
        });
    }
    let text =
        value.or_else(next).ok_or_else(|| FlagError::Grammar(format!("flag needs an argument: -{name}")))?;
    if flag.arity == Arity::Text {
        return Ok(Value::Text(text.to_owned()));
    }
    number::parse_number(text).map(Value::Number).map_err(|reason| {
        FlagError::Grammar(format!("invalid value {} for flag -{name}: {reason}", quote(text.as_bytes())))
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
            let command = quote(command.unwrap_or_default().as_bytes());
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

    /// Returns a client port that can't be one; the reference finds out only when it listens.
    pub(crate) fn impossible_port(&self) -> Option<i64> {
        self.number(FlagId::Port).filter(|port| !is_port(*port))
    }

    /// Returns what the flags say about settings, to be laid over a file's.
    ///
    /// # Errors
    ///
    /// [`FlagError::Refused`] for a number of shards that can't be.
    pub(crate) fn overrides(&self) -> Result<Overrides, FlagError> {
        let shards = match self.number(FlagId::Shards).map(u16::try_from) {
            None | Some(Ok(0)) => None,
            Some(Ok(shards)) => Some(shards),
            Some(Err(_)) => return Err(FlagError::Refused("invalid number of shards".to_owned())),
        };
        let mut overrides = Overrides {
            server_name: self.text(FlagId::Name),
            host: self.text(FlagId::Host),
            port: self.number(FlagId::Port).filter(|port| is_port(*port)),
            client_advertise: self.text(FlagId::ClientAdvertise),
            http_port: self.number(FlagId::HttpPort),
            https_port: self.number(FlagId::HttpsPort),
            prof_port: None,
            username: self.text(FlagId::User),
            password: self.text(FlagId::Password).map(Secret::new),
            token: self.text(FlagId::Token).map(Secret::new),
            pid_file: self.text(FlagId::PidFile),
            ports_file_dir: self.text(FlagId::PortsFileDir),
            log_file: self.text(FlagId::LogFile),
            log_size_limit: self.number(FlagId::LogSizeLimit),
            syslog: self.switch(FlagId::Syslog),
            remote_syslog: self.text(FlagId::RemoteSyslog),
            debug: self.switch(FlagId::Debug),
            trace: self.switch(FlagId::Trace),
            trace_verbose: None,
            logtime: self.switch(FlagId::LogTime),
            logtime_utc: self.switch(FlagId::LogTimeUtc),
            max_traced_msg_len: self.number(FlagId::MaxTracedMessage),
            tls: self.switch(FlagId::Tls),
            tls_verify: self.switch(FlagId::TlsVerify),
            tls_cert: self.text(FlagId::TlsCert),
            tls_key: self.text(FlagId::TlsKey),
            tls_ca_cert: self.text(FlagId::TlsCaCert),
            jetstream: self.switch(FlagId::JetStream),
            store_dir: self.text(FlagId::StoreDir),
            shards,
        };
        // The combined ones decide last, whatever the order on the command line.
        if let Some(on) = self.switch(FlagId::DebugTrace) {
            (overrides.debug, overrides.trace) = (Some(on), Some(on));
        }
        if let Some(on) = self.switch(FlagId::DebugTraceVerbose) {
            (overrides.debug, overrides.trace, overrides.trace_verbose) = (Some(on), Some(on), Some(on));
        }
        if let Some(on) = self.switch(FlagId::TraceVerbose) {
            (overrides.trace, overrides.trace_verbose) = (Some(on), Some(on));
        }
        Ok(overrides)
    }
}

/// Tells whether a number may stand for a port: any free one, the default, or the one of that number.
fn is_port(number: i64) -> bool {
    number == -1 || u16::try_from(number).is_ok()
}

#[cfg(test)]
mod tests;
