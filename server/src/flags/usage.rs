//! What the program prints about itself, under whatever name it is started by.

use natrix_core::config::{CipherSuite, Curve};

/// The level of the reference whose behaviour natrix has; clients decide by it what they may use.
pub(crate) const REFERENCE_VERSION: &str = "2.15.1";

/// The commit that this was built from, as whoever packages natrix says when building it. Tools print it, so a
/// build that nobody told it has something to show too.
pub(crate) const GIT_COMMIT: &str = match option_env!("NATRIX_GIT_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};

/// Returns the answer to `-v`.
///
/// Tools that test clients start a `nats-server` and read its version from this line, so under that name it is
/// the reference's to the byte; under its own name natrix adds its own version.
pub(crate) fn version_line(program: &str) -> String {
    if program == "nats-server" {
        format!("{program}: v{REFERENCE_VERSION}")
    } else {
        format!("{program}: v{REFERENCE_VERSION} (natrix {})", env!("CARGO_PKG_VERSION"))
    }
}

/// Returns the answer to `-h`.
pub(crate) fn usage(program: &str) -> String {
    format!(
        "
Usage: {program} [options]

Server Options:
    -a, --addr, --net <host>         Bind to host address (default: 0.0.0.0)
    -p, --port <port>                Use port for clients (default: 4222)
    -n, --name
        --server_name <server_name>  Server name (default: auto)
    -P, --pid <file>                 File to store PID
    -m, --http_port <port>           Use port for http monitoring
    -ms,--https_port <port>          Use port for https monitoring
    -c, --config <file>              Configuration file
    -t                               Test configuration and exit
    -sl,--signal <signal>[=<pid>]    Send signal to {program} process (ldm, stop, quit, term, reopen, reload)
                                     <pid> can be either a PID (e.g. 1) or the path to a PID file (e.g. /var/run/{program}.pid)
        --client_advertise <string>  Client URL to advertise to other servers
        --ports_file_dir <dir>       Creates a ports file in the specified directory (<executable_name>_<pid>.ports).
        --shards <count>             Threads that do the server's work (default: auto)

Logging Options:
    -l, --log <file>                 File to redirect log output
    -T, --logtime                    Timestamp log entries (default: true)
        --logtime_utc                Timestamps in UTC instead of local timezone (default: false)
    -s, --syslog                     Log to syslog
    -r, --remote_syslog <addr>       Syslog server addr (udp://localhost:514)
    -D, --debug                      Enable debugging output
    -V, --trace                      Trace the raw protocol
    -VV                              Verbose trace (traces system account as well)
    -DV                              Debug and trace
    -DVV                             Debug and verbose trace (traces system account as well)
        --log_size_limit <limit>     Logfile size limit (default: auto)
        --max_traced_msg_len <len>   Maximum printable length for traced messages (default: unlimited)

JetStream Options:
    -js, --jetstream                 Enable JetStream functionality
    -sd, --store_dir <dir>           Set the storage directory

Authorization Options:
        --user <user>                User required for connections
        --pass <password>            Password required for connections
        --auth <token>               Authorization token required for connections

TLS Options:
        --tls                        Enable TLS, do not verify clients (default: false)
        --tlscert <file>             Server certificate file
        --tlskey <file>              Private key for server certificate
        --tlsverify                  Enable TLS, verify client certificates
        --tlscacert <file>           Client certificate CA for verification

Common Options:
    -h, --help                       Show this message
    -v, --version                    Show version
        --help_tls                   TLS help

"
    )
}

/// Returns the answer to `--help_tls`.
pub(crate) fn tls_help() -> String {
    let mut text = String::from(
        r#"TLS is configured in the tls block of a configuration file:

    tls {
        cert_file:      "./certs/server-cert.pem"
        key_file:       "./certs/server-key.pem"
        ca_file:        "./certs/ca.pem"
        verify:         true
        verify_and_map: true

        cipher_suites: [
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
            "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
        ]
        curve_preferences: [
            "X25519",
            "CurveP256"
        ]
    }

Available cipher suites include:
"#,
    );
    for suite in CipherSuite::ALL {
        text.push_str(&format!("    {}\n", suite.name));
    }
    text.push_str("\nAvailable curve preferences include:\n");
    for (name, _) in Curve::NAMES {
        text.push_str(&format!("    {name}\n"));
    }
    text
}
