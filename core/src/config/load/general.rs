//! Listeners, limits, timings and names.

use std::time::Duration;

use super::{Checked, Loader, non_empty, positive};
use crate::config::duration::{format_duration, parse_duration};
use crate::config::options::{DEFAULT_PORT, Options, WriteTimeoutPolicy};
use crate::config::source;
use crate::config::text::quoted;
use crate::config::value::{Token, Value};

impl Loader<'_> {
    /// Handles one of these settings, named in lower case by `name`; tells whether it was one.
    pub(super) fn general_setting(&mut self, key: &str, name: &str, token: &Token) -> Checked<bool> {
        let options = &mut self.draft.options;
        let defaults = Options::default();
        match name {
            "listen" => {
                let (host, port) = listen(token)?;
                options.host = non_empty(host).unwrap_or(defaults.host);
                options.port = client_port(token, port)?;
            }
            "port" => options.port = client_port(token, token.integer()?)?,
            "host" | "net" => options.host = non_empty(token.string()?).unwrap_or(defaults.host),
            "client_advertise" => options.client_advertise = non_empty(token.string()?),
            "server_name" => {
                let server_name = token.string()?;
                if server_name.contains(' ') {
                    return Err(token.problem("server name cannot contain spaces"));
                }
                options.server_name = non_empty(server_name);
            }
            "shards" => match token.integer()? {
                count @ 1..=1024 => options.shards = Some(count as u16),
                _ => return Err(token.problem("shards must be between 1 and 1024")),
            },
            "http" => {
                let (host, port) = listen(token)?;
                options.monitoring.http_port = other_port(token, port)?;
                self.draft.monitoring_host = non_empty(host);
            }
            "https" => {
                let (host, port) = listen(token)?;
                options.monitoring.https_port = other_port(token, port)?;
                self.draft.monitoring_host = non_empty(host);
            }
            "http_port" | "monitor_port" => {
                options.monitoring.http_port = other_port(token, token.integer()?)?;
            }
            "https_port" => options.monitoring.https_port = other_port(token, token.integer()?)?,
            "http_base_path" => {
                options.monitoring.base_path = source::clean(&format!("/{}", token.string()?));
            }
            "prof_port" => options.prof_port = other_port(token, token.integer()?)?,
            // There is no profiler of blocking whose rate could be set.
            "prof_block_rate" => {
                token.integer()?;
            }
            "pidfile" | "pid_file" => options.pid_file = non_empty(token.string()?),
            "ports_file_dir" => options.ports_file_dir = non_empty(token.string()?),
            "disable_sublist_cache" | "no_sublist_cache" => options.disable_sublist_cache = token.bool()?,
            "no_header_support" => options.no_header_support = token.bool()?,
            "no_fast_producer_stall" => options.no_fast_producer_stall = token.bool()?,
            "max_control_line" => {
                options.max_control_line = match size(key, token)? {
                    0 => defaults.max_control_line,
                    bytes => u32::try_from(bytes).unwrap_or(0),
                }
            }
            "max_payload" => {
                options.max_payload = match size(key, token)? {
                    0 => defaults.max_payload,
                    bytes => u32::try_from(bytes).ok(),
                }
            }
            "max_pending" => {
                options.max_pending = match token.integer()? {
                    0 => defaults.max_pending,
                    bytes => u64::try_from(bytes).unwrap_or(0),
                }
            }
            "max_connections" | "max_conn" => {
                options.max_connections = match token.integer()? {
                    // Nobody may connect, as in the reference.
                    ..0 => Some(0),
                    count => positive(count, u32::MAX),
                }
            }
            "max_subscriptions" | "max_subs" => {
                options.max_subscriptions = positive(token.integer()?, u32::MAX);
            }
            "max_sub_tokens" | "max_subscription_tokens" => {
                options.max_subscription_tokens = match token.integer()? {
                    ..=0 => return Err(token.problem(format!("{key} value can not be negative"))),
                    count => match u8::try_from(count) {
                        Ok(count) => Some(count),
                        Err(_) => return Err(token.problem(format!("{key} value is too big"))),
                    },
                }
            }
            "max_closed_clients" => {
                options.max_closed_clients = match token.integer()? {
                    0 => defaults.max_closed_clients,
                    count => usize::try_from(count).unwrap_or(0),
                }
            }
            "ping_interval" => {
                let nanos = self.duration("ping_interval", token)?;
                self.draft.options.ping_interval = span(nanos, defaults.ping_interval);
            }
            "ping_max" => {
                options.ping_max = match token.integer()? {
                    0 => defaults.ping_max,
                    count => u32::try_from(count.max(0)).unwrap_or(u32::MAX),
                }
            }
            "write_deadline" => {
                let nanos = self.duration("write_deadline", token)?;
                self.draft.options.write_deadline = span(nanos, defaults.write_deadline);
            }
            "write_timeout" => {
                options.write_timeout = match token.string()? {
                    "default" => WriteTimeoutPolicy::Default,
                    "close" => WriteTimeoutPolicy::Close,
                    "retry" => WriteTimeoutPolicy::Retry,
                    _ => {
                        return Err(token.problem("write_timeout must be 'default', 'close' or 'retry'"));
                    }
                }
            }
            "lame_duck_duration" => {
                let nanos = lame_duck(name, token)?;
                if nanos < 30_000_000_000 {
                    return Err(token.problem(format!(
                        "invalid lame_duck_duration of {}, minimum is 30 seconds",
                        format_duration(nanos)
                    )));
                }
                options.lame_duck_duration = span(nanos, defaults.lame_duck_duration);
            }
            "lame_duck_grace_period" => {
                let nanos = lame_duck(name, token)?;
                if nanos < 0 {
                    return Err(token.problem("invalid lame_duck_grace_period, needs to be positive"));
                }
                options.lame_duck_grace_period = span(nanos, defaults.lame_duck_grace_period);
            }
            "connect_error_reports" => {
                options.connect_error_reports =
                    positive(token.integer()?, u32::MAX).unwrap_or(defaults.connect_error_reports);
            }
            "reconnect_error_reports" => {
                options.reconnect_error_reports =
                    positive(token.integer()?, u32::MAX).unwrap_or(defaults.reconnect_error_reports);
            }
            "server_tags" => self.server_tags(token)?,
            "server_metadata" => match &token.value {
                Value::Map(entries) => self.entries(entries, |loader, name, entry| {
                    let value = entry.string()?.to_owned();
                    loader.draft.options.server_metadata.insert(name.to_owned(), value);
                    Ok(())
                }),
                other => {
                    return Err(token
                        .problem(format!("error parsing metadata: unsupported type {}", other.type_name())));
                }
            },
            "feature_flags" => match &token.value {
                Value::Map(entries) => self.entries(entries, |loader, name, entry| match entry.value {
                    Value::Bool(on) => {
                        loader.draft.options.feature_flags.insert(name.to_owned(), on);
                        Ok(())
                    }
                    _ => Err(entry.problem(format!(
                        "error parsing feature flag {}: expected bool, got {}",
                        quoted(name),
                        entry.value.type_name()
                    ))),
                }),
                other => {
                    return Err(token.problem(format!(
                        "error parsing feature flags: unsupported type {}",
                        other.type_name()
                    )));
                }
            },
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn server_tags(&mut self, token: &Token) -> Checked<()> {
        let tags = match &token.value {
            Value::String(tag) => vec![tag.as_str()],
            Value::Array(items) => {
                let mut tags = Vec::new();
                for item in items {
                    let Value::String(tag) = &item.value else {
                        return Err(token.problem(
                            "error parsing tags: unsupported type *conf.token where string is expected",
                        ));
                    };
                    tags.push(tag.as_str());
                }
                tags
            }
            other => {
                return Err(
                    token.problem(format!("error parsing tags: unsupported type {}", other.type_name()))
                );
            }
        };
        let known = &mut self.draft.options.server_tags;
        for tag in tags {
            let tag = tag.trim().to_lowercase();
            if !tag.is_empty() && !known.contains(&tag) {
                known.push(tag);
            }
        }
        Ok(())
    }
}

/// Reads `host:port` or only a port.
fn listen(token: &Token) -> Checked<(&str, i64)> {
    match &token.value {
        Value::Integer(port) => Ok(("", *port)),
        Value::String(text) => {
            let Some((host, port)) = split_host_port(text) else {
                return Err(token.problem(format!("could not parse address string {}", quoted(text))));
            };
            match port.parse() {
                Ok(port) => Ok((host, port)),
                Err(_) => Err(token.problem(format!("could not parse port {}", quoted(port)))),
            }
        }
        other => Err(token.problem(format!("expected port or host:port, got {}", other.type_name()))),
    }
}

/// Splits `host:port`; an address with colons of its own stands in brackets.
fn split_host_port(text: &str) -> Option<(&str, &str)> {
    let (host, port) = text.rsplit_once(':')?;
    match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').filter(|inner| !inner.contains(['[', ']'])),
        None => Some(host).filter(|host| !host.contains([':', '[', ']'])),
    }
    .map(|host| (host, port))
}

/// -1 is any port, 0 the usual one.
///
/// Differs: a number that is no port is refused here, where the reference finds out when it listens.
fn client_port(token: &Token, port: i64) -> Checked<u16> {
    Ok(other_port(token, port)?.unwrap_or(DEFAULT_PORT))
}

fn other_port(token: &Token, port: i64) -> Checked<Option<u16>> {
    port_number(port).map_err(|reason| token.problem(reason))
}

/// -1 is any port, 0 none.
pub(in crate::config) fn port_number(port: i64) -> Result<Option<u16>, String> {
    match port {
        -1 => Ok(Some(0)),
        0 => Ok(None),
        port => u16::try_from(port).map(Some).map_err(|_| format!("invalid port {port}")),
    }
}

fn size(key: &str, token: &Token) -> Checked<i32> {
    let bytes = token.integer()?;
    if bytes > i64::from(i32::MAX) {
        return Err(token.problem(format!("{key} value is too big")));
    }
    Ok(i32::try_from(bytes).unwrap_or(-1))
}

/// Zero is the default; less than that is no time at all.
fn span(nanos: i64, default: Duration) -> Duration {
    match nanos {
        0 => default,
        nanos => Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)),
    }
}

fn lame_duck(field: &str, token: &Token) -> Checked<i64> {
    parse_duration(token.string()?)
        .map_err(|reason| token.problem(format!("error parsing {field}: {reason}")))
}
