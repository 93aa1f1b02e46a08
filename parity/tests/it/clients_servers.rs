//! The servers that real clients are tried against, and the checks that each client has to pass.
//!
//! Every client does the same checks, of the names in [`CHECKS`]; what a check is, each client's own code says, in
//! that client's terms.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use natrix_parity::scenario::identities::{Certificates, user_nkey};
use natrix_parity::servers::{Implementation, Server, ServerBuilder, Signal};
use serde_json::{Value, json};

/// The names of all checks, in the order in which clients do them.
pub(crate) const CHECKS: [&str; 25] = [
    "connect",
    "publish_subscribe",
    "headers",
    "queue_group",
    "request_reply",
    "no_responders",
    "drain",
    "max_payload",
    "token",
    "token_refused",
    "password",
    "password_refused",
    "bcrypt",
    "bcrypt_refused",
    "nkey",
    "nkey_refused",
    "no_auth_user",
    "permissions_publish",
    "permissions_subscribe",
    "tls",
    "tls_certificate",
    "tls_certificate_missing",
    "tls_certificate_unknown",
    "reconnect",
    "lame_duck",
];

/// What a client has to do, and against which servers.
pub(crate) struct Suite {
    /// The names of all checks, in their order.
    pub(crate) checks: &'static [&'static str],
    /// Starts the servers.
    pub(crate) start: fn(Implementation) -> Result<Servers>,
}

/// What every client does with messages that aren't stored.
pub(crate) const CORE: Suite = Suite { checks: &CHECKS, start: Servers::start };

/// `max_payload` of the server that has little, in bytes.
pub(crate) const SMALL_PAYLOAD: usize = 1000;

/// The hash of `bobs-password`, at the least cost that there is.
const BCRYPT: &str = "$2a$04$7ciSoUmLbb6mfbWQFEslZeqsNksF6UYBZoU38PpAkq4c6DRzDr3y6";

/// One server of each kind of settings that a client is to meet.
pub(crate) struct Servers {
    servers: BTreeMap<&'static str, Server>,
    certificates: Certificates,
}

impl Servers {
    /// Starts all of them.
    pub(crate) fn start(implementation: Implementation) -> Result<Servers> {
        let certificates = Certificates::generate()?;
        let dir = certificates.dir().display().to_string();
        let tls = format!("cert_file: '{dir}/server.pem', key_file: '{dir}/server-key.pem'");
        let nkey = user_nkey(1).1;
        let configs = [
            ("small", format!("max_payload: {SMALL_PAYLOAD}")),
            ("token", "authorization { token: 'the-token' }".to_owned()),
            (
                "users",
                format!(
                    "no_auth_user: guest
                    authorization {{
                        users: [
                            {{ user: alice, password: alices-password }}
                            {{ user: bob, password: '{BCRYPT}' }}
                            {{ nkey: {nkey} }}
                            {{ user: guest, password: guests, permissions: {{ publish: 'guest.>' }} }}
                            {{
                                user: limited, password: limiteds
                                permissions: {{ publish: 'allowed.>', subscribe: ['allowed.>', '_INBOX.>'] }}
                            }}
                        ]
                    }}"
                ),
            ),
            ("tls", format!("tls {{ {tls} }}")),
            (
                "mapped",
                format!(
                    "tls {{ {tls}, ca_file: '{dir}/ca.pem', verify_and_map: true }}
                    authorization {{ users: [{{ user: 'alice@example.org', permissions: {{ publish: 'alice.>' }} }}] }}"
                ),
            ),
            ("lame", "lame_duck_duration: '30s'".to_owned()),
        ];
        let mut servers = BTreeMap::new();
        servers.insert("plain", ServerBuilder::new(implementation)?.start()?);
        for (name, config) in configs {
            let server = ServerBuilder::new(implementation)?.config(&config)?.start();
            servers.insert(name, server.with_context(|| format!("server {name}"))?);
        }
        Ok(Servers { servers, certificates })
    }

    /// Starts one server with JetStream, called `js`, whose store outlives its restarts.
    pub(crate) fn start_jetstream(implementation: Implementation) -> Result<Servers> {
        let config = "jetstream { store_dir: 'store', max_memory_store: 256M, max_file_store: 1G }";
        let server = ServerBuilder::new(implementation)?.config(config)?.start()?;
        let servers = BTreeMap::from([("js", server)]);
        Ok(Servers { servers, certificates: Certificates::generate()? })
    }

    /// Returns the address of the server of this name, as an URL.
    pub(crate) fn url(&self, name: &str) -> String {
        self.servers[name].url()
    }

    /// Returns the path of a certificate or key, whose name has no `.pem`.
    pub(crate) fn pem(&self, name: &str) -> String {
        self.certificates.dir().join(format!("{name}.pem")).display().to_string()
    }

    /// Tells whether an acknowledgement that was answered outlives `kill -9`; the Go server writes it somewhat later.
    pub(crate) fn has_durable_acks(&self) -> bool {
        self.servers.values().all(|server| server.implementation() == Implementation::Natrix)
    }

    /// Returns everything that a client has to know.
    pub(crate) fn settings(&self) -> Value {
        let urls: BTreeMap<_, _> = self.servers.keys().map(|name| (*name, self.url(name))).collect();
        json!({
            "urls": urls,
            "ca": self.pem("ca"),
            "certificates": {
                "alice": { "cert": self.pem("client"), "key": self.pem("client-key") },
                "nobody": { "cert": self.pem("nobody"), "key": self.pem("nobody-key") },
            },
            "nkey_seed": user_nkey(1).0,
            "unknown_nkey_seed": user_nkey(2).0,
            "small_payload": SMALL_PAYLOAD,
            "durable_acks": self.has_durable_acks(),
        })
    }

    /// Does to a server what a client can't: `restart NAME` (kill it, and start it again), `stop NAME` (ask it to end,
    /// and start it again) or `lame-duck NAME`.
    pub(crate) fn act(&mut self, command: &str) -> Result<()> {
        let (action, name) = command.split_once(' ').context("an action without a server")?;
        let server = self.servers.get_mut(name).with_context(|| format!("no server {name}"))?;
        match action {
            "restart" => server.restart(),
            "stop" => {
                server.stop()?;
                server.restart()
            }
            "lame-duck" => server.signal(Signal::USR2),
            _ => bail!("unknown action {action}"),
        }
    }

    /// Returns what all servers have logged, for the message of a failed test.
    pub(crate) fn logs(&self) -> String {
        self.servers.iter().map(|(name, server)| format!("--- {name}\n{}", server.log())).collect()
    }
}

/// Panics unless each check was done once and went well.
///
/// An outcome is a check's name and, where it failed, why.
pub(crate) fn assert_all_passed(
    client: &str,
    implementation: Implementation,
    suite: &Suite,
    servers: &Servers,
    outcomes: &[(String, Result<(), String>)],
) {
    let client = format!("{client} with {implementation}");
    let failed = outcomes.iter().filter_map(|(name, outcome)| Some((name, outcome.as_ref().err()?)));
    let failed: Vec<String> = failed.map(|(name, reason)| format!("{name}: {reason}")).collect();
    assert!(failed.is_empty(), "{client}: {failed:#?}\n{}", servers.logs());
    let done: Vec<_> = outcomes.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(done, suite.checks, "{client} did other checks");
}
