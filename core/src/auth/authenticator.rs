//! Who may log in, and as whom.
//!
//! The rules and their order are the reference's (`server/auth.go`, `processClientOrLeafAuthentication`): an nkey
//! comes before users with passwords, these before the one user or token of the whole server; a connection that
//! offers nothing at all becomes `no_auth_user` if there is one.
//!
//! Passwords that are bcrypt hashes take a tenth of a second to check: that is a [`BcryptJob`] for another thread.
//! Plain ones are compared in constant time.

use std::collections::BTreeMap;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::{PeerCertificate, nkeys};
use crate::config::{self, ConnectionType, Options, Secret};
use crate::protocol::connect::ConnectOptions;

/// The longest password or token that is looked at; bcrypt itself reads no more than 72 bytes.
const MAX_SECRET: usize = 16 * 1024;

/// Whom a connection has become.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Name of the account; `None` for the global one.
    pub account: Option<Arc<str>>,
    /// What monitoring and log lines call the user; never a secret.
    pub label: String,
    /// What it may do; `None` for everything.
    pub permissions: Option<Arc<config::Permissions>>,
}

/// What is to be done with a CONNECT.
#[derive(Debug)]
pub enum Decision {
    /// Let it in.
    Accept(Identity),
    /// Turn it away with `Authorization Violation`.
    Reject,
    /// Let it in if the job says that the password is right.
    Check(BcryptJob, Identity),
}

/// A password to be compared with a bcrypt hash.
#[derive(Debug)]
pub struct BcryptJob {
    hash: Secret,
    password: Secret,
}

impl BcryptJob {
    /// Compares them; takes as long as the hash's cost makes it.
    pub fn run(self) -> bool {
        bcrypt::verify(self.password.expose(), self.hash.expose()).unwrap_or(false)
    }
}

#[derive(Debug)]
struct User {
    password: Option<Secret>,
    identity: Identity,
    types: Option<std::collections::BTreeSet<ConnectionType>>,
}

impl User {
    fn may_use(&self, kind: ConnectionType) -> bool {
        self.types.as_ref().is_none_or(|types| types.contains(&kind))
    }
}

/// Everybody who may log in.
#[derive(Debug)]
pub struct Authenticator {
    required: bool,
    users: BTreeMap<String, User>,
    nkeys: BTreeMap<String, User>,
    no_auth_user: Option<String>,
    username: Option<String>,
    password: Secret,
    token: Option<Secret>,
    map_certificate: bool,
}

impl Authenticator {
    /// Reads the users out of the configuration.
    pub fn new(options: &Options) -> Self {
        let user = |label: &str,
                    account: &Option<String>,
                    permissions: &Option<config::Permissions>,
                    types: &Option<_>,
                    password| {
            let identity = Identity {
                account: account.as_deref().map(Arc::from),
                label: label.to_owned(),
                permissions: permissions.clone().map(Arc::new),
            };
            User { password, identity, types: Option::clone(types) }
        };
        let users = options.users.iter().map(|found| {
            let name = &found.username;
            let password = Some(found.password.clone());
            let made =
                user(name, &found.account, &found.permissions, &found.allowed_connection_types, password);
            (name.clone(), made)
        });
        let nkeys = options.nkey_users.iter().map(|found| {
            let made =
                user(&found.nkey, &found.account, &found.permissions, &found.allowed_connection_types, None);
            (found.nkey.clone(), made)
        });
        Authenticator {
            required: options.requires_authentication(),
            users: users.collect(),
            nkeys: nkeys.collect(),
            no_auth_user: options.no_auth_user.clone(),
            username: options.username.clone(),
            password: options.password.clone().unwrap_or_default(),
            token: options.token.clone(),
            map_certificate: options.tls.as_ref().is_some_and(|tls| tls.verify_and_map),
        }
    }

    /// Tells whether a connection has to prove anything.
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Tells whether INFO says that a CONNECT with credentials is needed.
    pub fn asks_for_credentials(&self) -> bool {
        self.required && self.no_auth_user.is_none()
    }

    /// Tells whether somebody might sign a nonce.
    pub fn needs_nonce(&self) -> bool {
        !self.nkeys.is_empty()
    }

    /// Tells whether a connection that sends something else before CONNECT may become `no_auth_user`.
    pub fn lets_in_without_connect(&self, kind: ConnectionType) -> bool {
        self.no_auth_user
            .as_ref()
            .and_then(|name| self.users.get(name))
            .is_some_and(|user| user.may_use(kind))
    }

    /// Decides about a CONNECT.
    pub fn decide(
        &self,
        connect: &ConnectOptions,
        nonce: Option<&str>,
        certificate: Option<&PeerCertificate>,
        kind: ConnectionType,
    ) -> Decision {
        if !self.required {
            let label = if connect.user.is_empty() { String::new() } else { connect.user.clone() };
            return Decision::Accept(Identity { account: None, label, permissions: None });
        }
        if connect.password.expose().len() > MAX_SECRET || connect.token.expose().len() > MAX_SECRET {
            return Decision::Reject;
        }
        let nothing = connect.user.is_empty() && connect.password.is_empty() && connect.token.is_empty();
        let default = self.no_auth_user.as_ref().filter(|_| nothing && connect.nkey.is_empty());

        if let Some(user) = default.and_then(|name| self.nkeys.get(name)) {
            return self.admit(user, kind);
        }
        if !connect.nkey.is_empty() && !self.nkeys.is_empty() {
            return match self.nkeys.get(&connect.nkey) {
                Some(user)
                    if nkeys::verify(
                        &connect.nkey,
                        nonce.unwrap_or_default().as_bytes(),
                        &connect.signature,
                    ) =>
                {
                    self.admit(user, kind)
                }
                _ => Decision::Reject,
            };
        }
        if !self.users.is_empty() {
            if self.map_certificate {
                let user = certificate.and_then(|certificate| self.by_certificate(certificate, kind));
                return user.map_or(Decision::Reject, |user| self.admit(user, kind));
            }
            if let Some(user) = default.and_then(|name| self.users.get(name)) {
                return self.admit(user, kind);
            }
            if !connect.user.is_empty() {
                return match self.users.get(&connect.user) {
                    Some(user) if user.may_use(kind) => {
                        let password = user.password.as_ref();
                        check(password, &connect.password, user.identity.clone())
                    }
                    // A missing user costs what a wrong plain password costs: nothing that could be measured.
                    _ => Decision::Reject,
                };
            }
        }
        if let Some(token) = &self.token {
            let identity = Identity { account: None, label: "[REDACTED]".to_owned(), permissions: None };
            return check(Some(token), &connect.token, identity);
        }
        match &self.username {
            Some(name) if *name == connect.user => {
                let identity = Identity { account: None, label: name.clone(), permissions: None };
                check(Some(&self.password), &connect.password, identity)
            }
            _ => Decision::Reject,
        }
    }

    fn admit(&self, user: &User, kind: ConnectionType) -> Decision {
        match user.may_use(kind) {
            true => Decision::Accept(user.identity.clone()),
            false => Decision::Reject,
        }
    }

    /// Finds the user that a certificate names: by mail address, DNS name, URI, or its subject in any order.
    fn by_certificate(&self, certificate: &PeerCertificate, kind: ConnectionType) -> Option<&User> {
        let names = certificate.emails.iter().chain(&certificate.dns_names).chain(&certificate.uris);
        let by_name = names.filter_map(|name| self.users.get(name)).find(|user| user.may_use(kind));
        let parts = sorted(certificate.subject_parts.iter().map(String::as_str));
        let by_parts = || {
            let mut users = self.users.iter().filter(|(_, user)| user.may_use(kind));
            users
                .find(|(name, _)| !parts.is_empty() && sorted(name.split(',')) == parts)
                .map(|(_, user)| user)
        };
        let by_subject = || self.users.get(&certificate.subject).filter(|user| user.may_use(kind));
        by_name.or_else(by_parts).or_else(by_subject)
    }
}

/// The relative names of a distinguished name, in an order that is the same for all orders.
fn sorted<'a>(parts: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let mut parts: Vec<&str> = parts.map(str::trim).filter(|part| !part.is_empty()).collect();
    parts.sort_unstable();
    parts
}

fn check(wanted: Option<&Secret>, given: &Secret, identity: Identity) -> Decision {
    let Some(wanted) = wanted else { return Decision::Reject };
    if is_bcrypt(wanted.expose()) {
        return Decision::Check(BcryptJob { hash: wanted.clone(), password: given.clone() }, identity);
    }
    match bool::from(wanted.expose().as_bytes().ct_eq(given.expose().as_bytes())) {
        true => Decision::Accept(identity),
        false => Decision::Reject,
    }
}

/// Tells whether a configured password is a bcrypt hash.
pub fn is_bcrypt(password: &str) -> bool {
    ["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|prefix| password.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Account;

    fn connect(user: &str, password: &str, token: &str) -> ConnectOptions {
        ConnectOptions {
            user: user.into(),
            password: Secret::new(password),
            token: Secret::new(token),
            ..ConnectOptions::default()
        }
    }

    fn decide(options: &Options, connect: &ConnectOptions) -> String {
        match Authenticator::new(options).decide(connect, Some("nonce"), None, ConnectionType::Standard) {
            Decision::Accept(who) => format!("{}@{}", who.label, who.account.as_deref().unwrap_or("$G")),
            Decision::Reject => "no".to_owned(),
            Decision::Check(job, who) => format!("{} if {}", who.label, job.run()),
        }
    }

    fn user(name: &str, password: &str, account: Option<&str>) -> config::User {
        config::User {
            username: name.into(),
            password: Secret::new(password),
            account: account.map(Into::into),
            ..config::User::default()
        }
    }

    #[test]
    fn nothing_configured_lets_everybody_in() {
        assert_eq!(decide(&Options::default(), &connect("me", "x", "")), "me@$G");
    }

    #[test]
    fn a_token_must_be_the_token_and_is_never_shown() {
        let options = Options { token: Some(Secret::new("s3cr3t")), ..Options::default() };
        assert_eq!(decide(&options, &connect("", "", "s3cr3t")), "[REDACTED]@$G");
        assert_eq!(decide(&options, &connect("", "", "s3cr3")), "no");
        assert_eq!(decide(&options, &connect("s3cr3t", "", "")), "no");
    }

    #[test]
    fn users_have_passwords_and_accounts() {
        let options = Options {
            users: vec![user("a", "pa", Some("A")), user("b", "pb", None)],
            accounts: vec![Account { name: "A".into(), ..Account::default() }],
            ..Options::default()
        };
        assert_eq!(decide(&options, &connect("a", "pa", "")), "a@A");
        assert_eq!(decide(&options, &connect("a", "pb", "")), "no");
        assert_eq!(decide(&options, &connect("b", "pb", "")), "b@$G");
        assert_eq!(decide(&options, &connect("c", "", "")), "no");
        assert_eq!(decide(&options, &connect("", "", "")), "no");
    }

    #[test]
    fn who_offers_nothing_becomes_the_default_user() {
        let options = Options {
            users: vec![user("a", "pa", None)],
            no_auth_user: Some("a".into()),
            ..Options::default()
        };
        assert_eq!(decide(&options, &connect("", "", "")), "a@$G");
        assert_eq!(decide(&options, &connect("", "x", "")), "no");
        assert!(!Authenticator::new(&options).asks_for_credentials());
    }

    #[test]
    fn a_bcrypt_password_is_checked_elsewhere() {
        // The hash of "secret" at the lowest cost.
        let hash = bcrypt::hash_with_salt("secret", 4, [1; 16]).unwrap().to_string();
        let options = Options { users: vec![user("a", &hash, None)], ..Options::default() };
        assert_eq!(decide(&options, &connect("a", "secret", "")), "a if true");
        assert_eq!(decide(&options, &connect("a", &hash, "")), "a if false");
    }

    #[test]
    fn a_certificate_names_its_user() {
        let mut options = Options {
            users: vec![user("derek@nats.io", "", Some("A")), user("CN=www,O=nats", "", Some("B"))],
            tls: Some(config::TlsOptions { verify_and_map: true, ..config::TlsOptions::default() }),
            ..Options::default()
        };
        let name = |certificate: &PeerCertificate, options: &Options| match Authenticator::new(options)
            .decide(&ConnectOptions::default(), None, Some(certificate), ConnectionType::Standard)
        {
            Decision::Accept(who) => who.label,
            _ => "no".to_owned(),
        };
        let mail = PeerCertificate { emails: vec!["derek@nats.io".into()], ..PeerCertificate::default() };
        let subject = PeerCertificate {
            subject_parts: vec!["O=nats".into(), "CN=www".into()],
            ..PeerCertificate::default()
        };
        assert_eq!(name(&mail, &options), "derek@nats.io");
        assert_eq!(name(&subject, &options), "CN=www,O=nats");
        options.users.truncate(1);
        assert_eq!(name(&subject, &options), "no");
    }
}
