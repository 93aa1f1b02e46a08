//! Every flag of the reference, by all of its names.

/// What a flag sets; aliases share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FlagId {
    Help,
    Version,
    HelpTls,
    Config,
    CheckConfig,
    Signal,
    Host,
    Port,
    HttpPort,
    HttpsPort,
    Name,
    ClientAdvertise,
    PidFile,
    PortsFileDir,
    LogFile,
    LogTime,
    LogTimeUtc,
    Syslog,
    RemoteSyslog,
    Debug,
    Trace,
    TraceVerbose,
    DebugTrace,
    DebugTraceVerbose,
    LogSizeLimit,
    MaxTracedMessage,
    User,
    Password,
    Token,
    Tls,
    TlsVerify,
    TlsCert,
    TlsKey,
    TlsCaCert,
    JetStream,
    StoreDir,
    /// natrix's own.
    Shards,
    /// Of something that natrix doesn't have yet.
    Missing {
        /// What that is.
        feature: &'static str,
    },
}

/// What a flag's value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arity {
    /// True or false; without a value, true.
    Switch,
    /// An integer.
    Number,
    /// Anything.
    Text,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    /// What it sets.
    pub(super) id: FlagId,
    /// What its value looks like.
    pub(super) arity: Arity,
    /// What it may be called.
    names: &'static [&'static str],
}

const fn flag(id: FlagId, arity: Arity, names: &'static [&'static str]) -> Flag {
    Flag { id, arity, names }
}

const fn missing(feature: &'static str, arity: Arity, names: &'static [&'static str]) -> Flag {
    Flag { id: FlagId::Missing { feature }, arity, names }
}

const FLAGS: &[Flag] = &[
    flag(FlagId::Help, Arity::Switch, &["h", "help"]),
    flag(FlagId::Version, Arity::Switch, &["v", "version"]),
    flag(FlagId::HelpTls, Arity::Switch, &["help_tls"]),
    flag(FlagId::Config, Arity::Text, &["c", "config"]),
    flag(FlagId::CheckConfig, Arity::Switch, &["t"]),
    flag(FlagId::Signal, Arity::Text, &["sl", "signal"]),
    flag(FlagId::Host, Arity::Text, &["a", "addr", "net"]),
    flag(FlagId::Port, Arity::Number, &["p", "port"]),
    flag(FlagId::HttpPort, Arity::Number, &["m", "http_port"]),
    flag(FlagId::HttpsPort, Arity::Number, &["ms", "https_port"]),
    flag(FlagId::Name, Arity::Text, &["n", "name", "server_name"]),
    flag(FlagId::ClientAdvertise, Arity::Text, &["client_advertise"]),
    flag(FlagId::PidFile, Arity::Text, &["P", "pid"]),
    flag(FlagId::PortsFileDir, Arity::Text, &["ports_file_dir"]),
    flag(FlagId::LogFile, Arity::Text, &["l", "log"]),
    flag(FlagId::LogTime, Arity::Switch, &["T", "logtime"]),
    flag(FlagId::LogTimeUtc, Arity::Switch, &["logtime_utc"]),
    flag(FlagId::Syslog, Arity::Switch, &["s", "syslog"]),
    flag(FlagId::RemoteSyslog, Arity::Text, &["r", "remote_syslog"]),
    flag(FlagId::Debug, Arity::Switch, &["D", "debug"]),
    flag(FlagId::Trace, Arity::Switch, &["V", "trace"]),
    flag(FlagId::TraceVerbose, Arity::Switch, &["VV"]),
    flag(FlagId::DebugTrace, Arity::Switch, &["DV"]),
    flag(FlagId::DebugTraceVerbose, Arity::Switch, &["DVV"]),
    flag(FlagId::LogSizeLimit, Arity::Number, &["log_size_limit"]),
    flag(FlagId::MaxTracedMessage, Arity::Number, &["max_traced_msg_len"]),
    flag(FlagId::User, Arity::Text, &["user"]),
    flag(FlagId::Password, Arity::Text, &["pass"]),
    flag(FlagId::Token, Arity::Text, &["auth"]),
    flag(FlagId::Tls, Arity::Switch, &["tls"]),
    flag(FlagId::TlsVerify, Arity::Switch, &["tlsverify"]),
    flag(FlagId::TlsCert, Arity::Text, &["tlscert"]),
    flag(FlagId::TlsKey, Arity::Text, &["tlskey"]),
    flag(FlagId::TlsCaCert, Arity::Text, &["tlscacert"]),
    flag(FlagId::JetStream, Arity::Switch, &["js", "jetstream"]),
    flag(FlagId::StoreDir, Arity::Text, &["sd", "store_dir"]),
    flag(FlagId::Shards, Arity::Number, &["shards"]),
    missing("routes", Arity::Text, &["routes"]),
    missing("cluster listener", Arity::Text, &["cluster", "cluster_listen"]),
    missing("cluster advertising", Arity::Text, &["cluster_advertise"]),
    missing("cluster to advertise", Arity::Switch, &["no_advertise"]),
    missing("connect retries of routes", Arity::Number, &["connect_retries"]),
    missing("cluster name", Arity::Text, &["cluster_name"]),
    missing("profiler", Arity::Number, &["profile"]),
];

/// Returns the flag of a name without its dashes.
pub(super) fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.names.contains(&name))
}

/// Returns the longest of a flag's names, with dashes.
pub(super) fn name_of(id: FlagId) -> String {
    let names = FLAGS.iter().find(|flag| flag.id == id).map_or(&[][..], |flag| flag.names);
    let longest = names.iter().max_by_key(|name| name.len()).copied().unwrap_or_default();
    format!("--{longest}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_name_has_two_meanings() {
        let names: Vec<&str> = FLAGS.iter().flat_map(|flag| flag.names).copied().collect();
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }
}
