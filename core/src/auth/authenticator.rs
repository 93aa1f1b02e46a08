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

use super::dn::DistinguishedName;
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
    /// Whether it is a user with an nkey, whose account counts as its issuer.
    pub by_nkey: bool,
    /// What it may do; `None` for everything.
    pub permissions: Option<Arc<config::Permissions>>,
}

/// What is to be done with a CONNECT.
#[derive(Debug)]
pub enum Decision {
    /// Let it in.
    Accept(Identity),
    /// Turn it away with `Authorization Violation`.
    Reject(Refusal),
    /// Let it in if the job says that the password is right.
    Check(BcryptJob, Identity),
}

/// Why a connection is turned away; it is told the same whatever it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// What it offered is wrong, or nothing.
    Credentials,
    /// It comes through a proxy that isn't among the trusted ones.
    ProxyNotTrusted,
    /// It may only come through a trusted proxy, and doesn't.
    ProxyRequired,
}

/// The way that a connection took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Through no proxy that signs, or nobody asks which.
    Direct,
    /// Through the trusted proxy that has this public key.
    Proxy(Arc<str>),
    /// Through something that signs with a key that nobody trusts.
    Untrusted,
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
    /// The user name as a distinguished name, if certificates are mapped to users and it is one.
    name: Option<DistinguishedName>,
    password: Option<Secret>,
    identity: Identity,
    types: Option<std::collections::BTreeSet<ConnectionType>>,
    proxy_required: bool,
}

impl User {
    fn may_use(&self, kind: ConnectionType) -> bool {
        self.types.as_ref().is_none_or(|types| types.is_empty() || types.contains(&kind))
    }

    /// Decides by the password, after the way that the connection took.
    fn check(&self, given: &Secret, route: &Route) -> Decision {
        if self.refuses(route) {
            return Decision::Reject(Refusal::ProxyRequired);
        }
        check(self.password.as_ref(), given, self.identity.clone())
    }
}

impl User {
    fn refuses(&self, route: &Route) -> bool {
        self.proxy_required && !matches!(route, Route::Proxy(_))
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
    proxy_required: bool,
    proxies: Vec<Arc<str>>,
}

impl Authenticator {
    /// Reads the users out of the configuration.
    pub fn new(options: &Options) -> Self {
        let map_certificate = options.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
        let user = |label: &str,
                    account: &Option<String>,
                    permissions: &Option<config::Permissions>,
                    types: &Option<_>,
                    proxy_required,
                    password: Option<Secret>| {
            let identity = Identity {
                account: account.as_deref().map(Arc::from),
                label: label.to_owned(),
                by_nkey: password.is_none(),
                permissions: permissions.clone().map(Arc::new),
            };
            let name = DistinguishedName::parse(label).filter(|_| map_certificate);
            User { name, password, identity, types: Option::clone(types), proxy_required }
        };
        let users = options.users.iter().map(|found| {
            let name = &found.username;
            let password = Some(found.password.clone());
            let made = user(
                name,
                &found.account,
                &found.permissions,
                &found.allowed_connection_types,
                found.proxy_required,
                password,
            );
            (name.clone(), made)
        });
        let nkeys = options.nkey_users.iter().map(|found| {
            let made = user(
                &found.nkey,
                &found.account,
                &found.permissions,
                &found.allowed_connection_types,
                found.proxy_required,
                None,
            );
            (found.nkey.clone(), made)
        });
        Authenticator {
            required: options.requires_authentication(),
            users: users.collect(),
            nkeys: nkeys.collect(),
            no_auth_user: options.no_auth_user.clone(),
            username: options.username.clone(),
            password: options.password.clone().unwrap_or_default(),
            token: options.token.clone().filter(|token| !token.is_empty()),
            map_certificate,
            proxy_required: options.proxy_required,
            proxies: options.trusted_proxies.iter().flatten().map(|key| Arc::from(key.as_str())).collect(),
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
        !self.nkeys.is_empty() || !self.proxies.is_empty()
    }

    /// Tells whether a connection that sends something else before CONNECT may become `no_auth_user`.
    pub fn lets_in_without_connect(&self, kind: ConnectionType) -> bool {
        self.no_auth_user
            .as_ref()
            .and_then(|name| self.users.get(name))
            .is_some_and(|user| user.may_use(kind))
    }

    /// Tells which way a connection took, by the signature of its nonce that a proxy puts into CONNECT.
    ///
    /// Source: nats-server `server/auth.go`, `proxyCheck`.
    pub fn route(&self, connect: &ConnectOptions, nonce: Option<&str>) -> Route {
        if connect.proxy_signature.is_empty() || self.proxies.is_empty() {
            return Route::Direct;
        }
        let nonce = nonce.unwrap_or_default().as_bytes();
        let signed = |key: &&Arc<str>| nkeys::verify_any(key, nonce, &connect.proxy_signature);
        self.proxies.iter().find(signed).map_or(Route::Untrusted, |key| Route::Proxy(Arc::clone(key)))
    }

    /// Decides about a CONNECT that took `route`.
    pub fn decide(
        &self,
        connect: &ConnectOptions,
        nonce: Option<&str>,
        certificate: Option<&PeerCertificate>,
        kind: ConnectionType,
        route: &Route,
    ) -> Decision {
        const REJECT: Decision = Decision::Reject(Refusal::Credentials);
        if *route == Route::Untrusted {
            return Decision::Reject(Refusal::ProxyNotTrusted);
        }
        if !self.required {
            let label = if connect.user.is_empty() { String::new() } else { connect.user.clone() };
            return Decision::Accept(Identity { account: None, label, by_nkey: false, permissions: None });
        }
        if connect.password.expose().len() > MAX_SECRET || connect.token.expose().len() > MAX_SECRET {
            return REJECT;
        }
        // The default user needs no proof, offered or named: who offers nothing would get it all the same.
        let nothing = connect.user.is_empty() && connect.password.is_empty() && connect.token.is_empty();
        let default = self.no_auth_user.as_deref();

        if !self.nkeys.is_empty() {
            let named = Some(connect.nkey.as_str()).filter(|key| !key.is_empty());
            let key = named.or_else(|| default.filter(|name| nothing && self.nkeys.contains_key(*name)));
            if let Some(key) = key {
                let signed = || nkeys::verify(key, nonce.unwrap_or_default().as_bytes(), &connect.signature);
                return match self.nkeys.get(key).filter(|user| user.may_use(kind)) {
                    Some(user) if user.refuses(route) => Decision::Reject(Refusal::ProxyRequired),
                    Some(user) if default == Some(key) || signed() => Decision::Accept(user.identity.clone()),
                    _ => REJECT,
                };
            }
        }
        if !self.users.is_empty() {
            if self.map_certificate {
                let user = certificate.and_then(|certificate| self.by_certificate(certificate, kind));
                // A user that has a password needs it besides the certificate.
                return user.map_or(REJECT, |user| user.check(&connect.password, route));
            }
            // Differs: also with a bcrypt password. The reference compares that hash with itself as a password, and
            // so turns away everybody whom its operator meant to let in.
            if let Some(user) = default.filter(|_| nothing).and_then(|name| self.users.get(name)) {
                return match user.may_use(kind) {
                    true if user.refuses(route) => Decision::Reject(Refusal::ProxyRequired),
                    true => Decision::Accept(user.identity.clone()),
                    false => REJECT,
                };
            }
            if !connect.user.is_empty() {
                // A missing user costs what a wrong plain password costs, which is nothing that could be measured; a
                // wrong bcrypt password costs more. The reference tells the two apart by time in the same way.
                let user = self.users.get(&connect.user).filter(|user| user.may_use(kind));
                return user.map_or(REJECT, |user| user.check(&connect.password, route));
            }
        }
        if self.proxy_required && !matches!(route, Route::Proxy(_)) {
            return Decision::Reject(Refusal::ProxyRequired);
        }
        if let Some(token) = &self.token {
            let identity =
                Identity { account: None, label: "[REDACTED]".to_owned(), by_nkey: false, permissions: None };
            return check(Some(token), &connect.token, identity);
        }
        match &self.username {
            Some(name) if *name == connect.user => {
                let identity =
                    Identity { account: None, label: name.clone(), by_nkey: false, permissions: None };
                check(Some(&self.password), &connect.password, identity)
            }
            _ => REJECT,
        }
    }

    /// Finds the user that a certificate names: by mail address, DNS name or URI, then by its subject as a
    /// distinguished name in this order, in any order, and as the text that Go makes of it.
    fn by_certificate(&self, certificate: &PeerCertificate, kind: ConnectionType) -> Option<&User> {
        let named = |name: &str| self.users.get(name).filter(|user| user.may_use(kind));
        let names = certificate.emails.iter().chain(&certificate.dns_names).chain(&certificate.uris);
        let by_name = names.filter(|name| !name.is_empty()).find_map(|name| named(name));
        let subject = DistinguishedName::of_certificate(&certificate.subject_parts);
        let by_subject = |equal: fn(&DistinguishedName, &DistinguishedName) -> bool| {
            let subject = subject.as_ref().filter(|subject| !subject.is_empty())?;
            let mut users = self.users.values().filter(|user| user.may_use(kind));
            users.find(|user| user.name.as_ref().is_some_and(|name| equal(name, subject)))
        };
        let by_text = || {
            let components = certificate.subject_parts.iter().filter(|part| part.starts_with("DC="));
            let with_components =
                components.fold(certificate.subject.clone(), |text, part| text + "," + part);
            named(&with_components).or_else(|| named(&certificate.subject))
        };
        by_name
            .or_else(|| by_subject(PartialEq::eq))
            .or_else(|| by_subject(DistinguishedName::same_names))
            .or_else(by_text)
    }
}

fn check(wanted: Option<&Secret>, given: &Secret, identity: Identity) -> Decision {
    let Some(wanted) = wanted else { return Decision::Reject(Refusal::Credentials) };
    if is_bcrypt(wanted.expose()) {
        return Decision::Check(BcryptJob { hash: wanted.clone(), password: given.clone() }, identity);
    }
    match bool::from(wanted.expose().as_bytes().ct_eq(given.expose().as_bytes())) {
        true => Decision::Accept(identity),
        false => Decision::Reject(Refusal::Credentials),
    }
}

/// Tells whether a configured password is a bcrypt hash: `$2a$`, its cost in two digits, `$`.
pub fn is_bcrypt(password: &str) -> bool {
    match password.as_bytes() {
        [b'$', b'2', b'a' | b'b' | b'x' | b'y', b'$', tens, ones, b'$', ..] => {
            tens.is_ascii_digit() && ones.is_ascii_digit()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
