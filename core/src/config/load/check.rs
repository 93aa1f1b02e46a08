//! What must hold between settings, once all of them are known.
//!
//! Source: nats-server `server/server.go`, `validateOptions` and `Start`, `server/auth.go`,
//! `validateNoAuthUser`, and `server/jetstream.go`, `validateJetStreamOptions`.

use crate::config::duration::format_duration;
use crate::config::options::Options;
use crate::config::text::quoted;
use crate::subject;

/// Why settings that are right by themselves are wrong together; prints the reference's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// Lame duck mode would be over before it begins.
    #[error("lame duck grace period ({grace}) should be strictly lower than lame duck duration ({duration})")]
    LameDuck {
        /// How long it waits.
        grace: String,
        /// How long it takes.
        duration: String,
    },
    /// One message would make any connection a slow consumer.
    #[error("max_payload ({max_payload}) cannot be higher than max_pending ({max_pending})")]
    MaxPayload {
        /// The longest message.
        max_payload: u32,
        /// The most waiting bytes.
        max_pending: u64,
    },
    /// The server's name has spaces in it.
    #[error("server name cannot contain spaces")]
    ServerName,
    /// There are no users for `no_auth_user` to be one of.
    #[error("no_auth_user: \"{0}\" present, but users/nkeys are not defined")]
    NoUsers(String),
    /// `no_auth_user` is none of the users.
    #[error(
        "no_auth_user: \"{0}\" not present as user or nkey in authorization block or account configuration"
    )]
    NoAuthUser(String),
    /// The API's subjects in this domain wouldn't be subjects.
    #[error("invalid domain name: derived {} is not a valid subject", quoted(.0))]
    DomainSubject(String),
    /// The domain would be more than one token of a subject, or a wildcard.
    #[error("invalid domain name: may not contain ., * or >")]
    DomainToken,
    /// The system account is to have streams.
    #[error("Not allowed to enable JetStream on the system account")]
    SystemAccountJetStream,
    /// The command line switches TLS on without a certificate.
    #[error("TLS Server certificate must be present and valid")]
    TlsCertificate,
    /// The command line switches TLS on without a key.
    #[error("TLS Server private key must be present and valid")]
    TlsKey,
    /// The certificates that the command line names can't be used.
    #[error("{0}")]
    Tls(String),
    /// A number on the command line is no port.
    #[error("{0}")]
    Port(String),
}

/// Checks everything there is to check.
pub(super) fn check(options: &Options) -> Result<(), OptionsError> {
    if options.lame_duck_grace_period >= options.lame_duck_duration {
        let shown =
            |span: std::time::Duration| format_duration(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX));
        return Err(OptionsError::LameDuck {
            grace: shown(options.lame_duck_grace_period),
            duration: shown(options.lame_duck_duration),
        });
    }
    if let Some(max_payload) = options.max_payload
        && u64::from(max_payload) > options.max_pending
    {
        return Err(OptionsError::MaxPayload { max_payload, max_pending: options.max_pending });
    }
    if options.server_name.as_ref().is_some_and(|name| name.contains(' ')) {
        return Err(OptionsError::ServerName);
    }
    check_no_auth_user(options)?;
    check_jetstream(options)
}

fn check_no_auth_user(options: &Options) -> Result<(), OptionsError> {
    let Some(name) = &options.no_auth_user else { return Ok(()) };
    if options.users.is_empty() && options.nkey_users.is_empty() {
        return Err(OptionsError::NoUsers(name.clone()));
    }
    let known = options.users.iter().any(|user| user.username == *name)
        || options.nkey_users.iter().any(|user| user.nkey == *name);
    if known { Ok(()) } else { Err(OptionsError::NoAuthUser(name.clone())) }
}

/// Checks the domain also of a server without JetStream: clients are told it.
fn check_jetstream(options: &Options) -> Result<(), OptionsError> {
    if let Some(domain) = &options.jetstream_domain {
        let api = format!("$JS.{domain}.API.>");
        if !subject::is_valid_subject(api.as_bytes()) {
            return Err(OptionsError::DomainSubject(api));
        }
        if domain.contains(['.', '*', '>']) {
            return Err(OptionsError::DomainToken);
        }
    }
    // Differs: the reference finds out when it has started everything before JetStream.
    let system = options.system_account_name();
    let streams = |name| options.accounts.iter().any(|known| known.name == name && known.jetstream.is_some());
    if options.jetstream.is_some() && system.is_some_and(streams) {
        return Err(OptionsError::SystemAccountJetStream);
    }
    Ok(())
}
