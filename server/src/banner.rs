//! What the log says first: which server this is, and what is unwise about its settings.
//!
//! Scripts look for these lines, so they are the reference's, its name included.
//!
//! Source: nats-server `server/server.go`, `Start`, `server/feature_flags.go` and `server/auth.go`,
//! `checkAuthforWarnings`.

use natrix_core::config::{Options, Secret};
use natrix_core::ids::short_hash;

use crate::flags::{GIT_COMMIT, REFERENCE_VERSION};
use crate::log::{Level, Logger};

/// From this size on, the reference advises against it.
const DISCOURAGED_PAYLOAD: u32 = 8 * 1024 * 1024;

/// Logs the first lines.
pub(crate) fn log(logger: &Logger, options: &Options, name: &str, id: &str) {
    for (level, line) in lines(options, name, id) {
        logger.log(level, line);
    }
}

fn lines(options: &Options, name: &str, id: &str) -> Vec<(Level, String)> {
    let mut lines = vec![
        (Level::Info, "Starting nats-server".to_owned()),
        (Level::Info, format!("  Version:  {REFERENCE_VERSION}")),
        (Level::Info, format!("  Git:      [{GIT_COMMIT}]")),
        (Level::Debug, format!("  natrix:   {}", env!("CARGO_PKG_VERSION"))),
        (Level::Info, format!("  Name:     {name}")),
    ];
    if options.jetstream.is_some() {
        lines.push((Level::Info, format!("  Node:     {}", short_hash(name))));
    }
    lines.push((Level::Info, format!("  ID:       {id}")));
    if !options.feature_flags.is_empty() {
        lines.push((Level::Info, "  Feature flags:".to_owned()));
        let unsupported: Vec<&str> = options.feature_flags.keys().map(String::as_str).collect();
        // They are experiments of parts that natrix doesn't have.
        lines.push((Level::Info, "    Configured:    none".to_owned()));
        lines.push((Level::Info, format!("    Unsupported:   {}", unsupported.join(", "))));
    }
    if has_plain_passwords(options) {
        lines.push((Level::Warn, "Plaintext passwords detected, use nkeys or bcrypt".to_owned()));
    }
    if let Some(file) = &options.config_file {
        let digest = options.config_digest.as_ref().map_or_else(String::new, |digest| format!("({digest})"));
        lines.push((Level::Info, format!("Using configuration file: {file} {digest}")));
    }
    if options.max_payload.is_some_and(|bytes| bytes > DISCOURAGED_PAYLOAD) {
        let line =
            "Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance";
        lines.push((Level::Warn, line.to_owned()));
    }
    lines
}

fn has_plain_passwords(options: &Options) -> bool {
    let is_plain = |secret: &Secret| !is_bcrypt(secret.expose());
    let maps_certificates = options.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
    options.password.as_ref().is_some_and(|password| !password.is_empty() && is_plain(password))
        || options
            .users
            .iter()
            .any(|user| !(user.password.is_empty() && maps_certificates) && is_plain(&user.password))
}

/// Tells whether text looks like a bcrypt hash.
fn is_bcrypt(text: &str) -> bool {
    matches!(text.as_bytes(), [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', ..])
}

#[cfg(test)]
mod tests {
    use natrix_core::config::{JetStreamOptions, TlsOptions, User};

    use super::*;

    fn shown(options: &Options) -> String {
        let lines =
            lines(options, "name", "NID").into_iter().map(|(level, line)| format!("{level:?} {line}"));
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_first_lines() {
        let options = Options {
            config_file: Some("nats.conf".to_owned()),
            config_digest: Some("sha256:00".to_owned()),
            max_payload: Some(DISCOURAGED_PAYLOAD + 1),
            feature_flags: [("js_ack_fc_v2".to_owned(), true), ("zzz".to_owned(), true)].into(),
            ..Options::default()
        };
        let shown =
            shown(&options).replace(env!("CARGO_PKG_VERSION"), "VERSION").replace(GIT_COMMIT, "COMMIT");
        insta::assert_snapshot!(shown, @r"
        Info Starting nats-server
        Info   Version:  2.15.1
        Info   Git:      [COMMIT]
        Debug   natrix:   VERSION
        Info   Name:     name
        Info   ID:       NID
        Info   Feature flags:
        Info     Configured:    none
        Info     Unsupported:   js_ack_fc_v2, zzz
        Info Using configuration file: nats.conf (sha256:00)
        Warn Maximum payloads over 8.00 MB are generally discouraged and could lead to poor performance
        ");
    }

    #[test]
    fn a_server_with_streams_has_a_node() {
        let options = Options { jetstream: Some(JetStreamOptions::default()), ..Options::default() };
        let shown: Vec<_> = lines(&options, "S1", "NID").into_iter().map(|(_, line)| line).collect();
        assert_eq!(shown[4..], ["  Name:     S1", "  Node:     sQnRv29R", "  ID:       NID"]);
    }

    #[test]
    fn plain_passwords_are_warned_of() {
        const HASH: &str = "$2a$11$ahFhvNNcpbb1Q3vDVEAH5eykNvJ5PJOCdqZ2oc1.7V6wDkMSEEKn6";
        let warns = |options: &Options| shown(options).contains("Warn Plaintext passwords detected");
        let mut options = Options::default();
        assert!(!warns(&options));
        options.password = Some(Secret::new("plain"));
        assert!(warns(&options));
        options.password = Some(Secret::new(HASH));
        assert!(!warns(&options));
        let user = |password: &str| User { password: Secret::new(password), ..User::default() };
        options.users = vec![user(HASH)];
        assert!(!warns(&options));
        options.users.push(user(""));
        assert!(warns(&options));
        options.tls = Some(TlsOptions { verify_and_map: true, ..TlsOptions::default() });
        assert!(!warns(&options));
        options.users.push(user("plain"));
        assert!(warns(&options));
    }
}
