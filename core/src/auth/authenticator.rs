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
        let authenticator = Authenticator::new(options);
        let route = authenticator.route(connect, Some("nonce"));
        match authenticator.decide(connect, Some("nonce"), None, ConnectionType::Standard, &route) {
            Decision::Accept(who) => format!("{}@{}", who.label, who.account.as_deref().unwrap_or("$G")),
            Decision::Reject(Refusal::Credentials) => "no".to_owned(),
            Decision::Reject(why) => format!("{why:?}"),
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
        let options = Options { token: Some(Secret::new(hash.clone())), ..Options::default() };
        assert_eq!(decide(&options, &connect("", "", "secret")), "[REDACTED] if true");
        assert_eq!(decide(&options, &connect("", "", "other")), "[REDACTED] if false");
        // Who needs no password needs no job either.
        let options = Options {
            users: vec![user("a", &hash, None)],
            no_auth_user: Some("a".into()),
            ..Options::default()
        };
        assert_eq!(decide(&options, &connect("", "", "")), "a@$G");
    }

    #[test]
    fn a_certificate_names_its_user() {
        let mut options = Options {
            users: vec![user("derek@nats.io", "", Some("A")), user("CN=www,O=nats", "", Some("B"))],
            tls: Some(config::TlsOptions { verify_and_map: true, ..config::TlsOptions::default() }),
            ..Options::default()
        };
        let name = |certificate: &PeerCertificate, options: &Options| match Authenticator::new(options)
            .decide(
                &ConnectOptions::default(),
                None,
                Some(certificate),
                ConnectionType::Standard,
                &Route::Direct,
            ) {
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

    #[test]
    fn a_certificate_does_not_replace_a_password() {
        let options = Options {
            users: vec![user("derek@nats.io", "pw", None)],
            tls: Some(config::TlsOptions { verify_and_map: true, ..config::TlsOptions::default() }),
            ..Options::default()
        };
        let mail = PeerCertificate { emails: vec!["derek@nats.io".into()], ..PeerCertificate::default() };
        let accepted = |connect: &ConnectOptions, certificate| {
            let authenticator = Authenticator::new(&options);
            matches!(
                authenticator.decide(connect, None, certificate, ConnectionType::Standard, &Route::Direct),
                Decision::Accept(who) if who.label == "derek@nats.io"
            )
        };
        assert!(accepted(&connect("", "pw", ""), Some(&mail)));
        assert!(!accepted(&connect("", "", ""), Some(&mail)));
        assert!(!accepted(&connect("derek@nats.io", "pw", ""), None));
        // The certificate decides who it is, whatever the client says.
        assert!(accepted(&connect("other", "pw", ""), Some(&mail)));
    }

    #[test]
    fn a_subject_matches_as_a_name_or_as_text() {
        let tls = Some(config::TlsOptions { verify_and_map: true, ..config::TlsOptions::default() });
        let parts = ["DC=org", "DC=nats", "O=nats, inc", "CN=www"];
        let certificate = PeerCertificate {
            subject: r"CN=www,O=nats\, inc".into(),
            subject_parts: parts.map(Into::into).into(),
            ..PeerCertificate::default()
        };
        let matches = |name: &str| {
            let options =
                Options { users: vec![user(name, "", None)], tls: tls.clone(), ..Options::default() };
            let authenticator = Authenticator::new(&options);
            let decision = authenticator.decide(
                &connect("", "", ""),
                None,
                Some(&certificate),
                ConnectionType::Standard,
                &Route::Direct,
            );
            matches!(decision, Decision::Accept(_))
        };
        assert!(matches(r"CN=www,O=nats\, inc,DC=nats,DC=org"));
        assert!(matches(r"dc=org, dc=nats, o=nats\, inc, cn=www"));
        assert!(matches(r"CN=www,O=nats\, inc,DC=org,DC=nats"));
        assert!(matches(r"CN=www,O=nats\, inc"));
        assert!(!matches("CN=www,O=nats"));
        assert!(!matches("CN=www"));
        assert!(!matches(""));
    }

    fn nkey(seed: u8) -> (ed25519_dalek::SigningKey, String) {
        let key = ed25519_dalek::SigningKey::from_bytes(&[seed; 32]);
        let text = nkeys::encode(nkeys::Kind::User, key.verifying_key().as_bytes());
        (key, text)
    }

    #[test]
    fn an_nkey_user_signs_the_nonce() {
        use ed25519_dalek::Signer;
        let ((key, name), (_, stranger)) = (nkey(1), nkey(2));
        let options = Options {
            nkey_users: vec![config::NkeyUser {
                nkey: name.clone(),
                account: Some("A".into()),
                ..config::NkeyUser::default()
            }],
            users: vec![user("a", "pa", None)],
            ..Options::default()
        };
        let with = |nkey: &str, message: &[u8]| ConnectOptions {
            nkey: nkey.into(),
            signature: data_encoding::BASE64URL_NOPAD.encode(&key.sign(message).to_bytes()),
            ..connect("a", "pa", "")
        };
        assert!(Authenticator::new(&options).needs_nonce());
        assert_eq!(decide(&options, &with(&name, b"nonce")), format!("{name}@A"));
        assert_eq!(decide(&options, &with(&name, b"other")), "no");
        assert_eq!(decide(&options, &with(&stranger, b"nonce")), "no");
        assert_eq!(
            decide(&options, &ConnectOptions { signature: String::new(), ..with(&name, b"nonce") }),
            "no"
        );
        // Without a key the password decides.
        assert_eq!(decide(&options, &with("", b"nonce")), "a@$G");
    }

    #[test]
    fn a_default_nkey_user_signs_nothing() {
        let (_, name) = nkey(1);
        let options = Options {
            nkey_users: vec![config::NkeyUser { nkey: name.clone(), ..config::NkeyUser::default() }],
            no_auth_user: Some(name.clone()),
            ..Options::default()
        };
        assert_eq!(decide(&options, &connect("", "", "")), format!("{name}@$G"));
        assert_eq!(
            decide(&options, &ConnectOptions { nkey: name.clone(), ..connect("", "", "") }),
            format!("{name}@$G")
        );
        assert_eq!(decide(&options, &connect("x", "", "")), "no");
    }

    #[test]
    fn users_keep_to_their_ways_of_connecting() {
        let mut only_websocket = user("a", "pa", None);
        only_websocket.allowed_connection_types = Some([ConnectionType::Websocket].into());
        let options =
            Options { users: vec![only_websocket], no_auth_user: Some("a".into()), ..Options::default() };
        let authenticator = Authenticator::new(&options);
        for given in [connect("a", "pa", ""), connect("", "", "")] {
            let decide = |kind| {
                matches!(authenticator.decide(&given, None, None, kind, &Route::Direct), Decision::Accept(_))
            };
            assert!(decide(ConnectionType::Websocket));
            assert!(!decide(ConnectionType::Standard) && !decide(ConnectionType::InProcess));
        }
        assert!(!authenticator.lets_in_without_connect(ConnectionType::Standard));
        assert!(authenticator.lets_in_without_connect(ConnectionType::Websocket));
    }

    #[test]
    fn one_user_for_the_whole_server() {
        let options = Options {
            username: Some("derek".into()),
            password: Some(Secret::new("pw")),
            ..Options::default()
        };
        assert_eq!(decide(&options, &connect("derek", "pw", "")), "derek@$G");
        for wrong in [
            connect("derek", "", ""),
            connect("", "pw", ""),
            connect("Derek", "pw", ""),
            connect("", "", "pw"),
        ] {
            assert_eq!(decide(&options, &wrong), "no");
        }
    }

    #[test]
    fn only_a_whole_prefix_makes_a_bcrypt_hash() {
        assert!(is_bcrypt("$2a$04$x") && is_bcrypt("$2y$11$"));
        for plain in ["$2a$", "$2a$1$x", "$2a$xx$", "$2c$04$x", "2a$04$x", ""] {
            assert!(!is_bcrypt(plain), "{plain}");
        }
    }

    #[test]
    fn secrets_are_bounded_and_not_shown() {
        let options = Options { token: Some(Secret::new("x".repeat(MAX_SECRET + 1))), ..Options::default() };
        assert_eq!(decide(&options, &connect("", "", &"x".repeat(MAX_SECRET + 1))), "no");
        let options = Options { users: vec![user("a", "s3cr3t", None)], ..Options::default() };
        assert!(!format!("{:?}", Authenticator::new(&options)).contains("s3cr3t"));
        let job = BcryptJob { hash: Secret::new("h4sh"), password: Secret::new("s3cr3t") };
        assert!(!format!("{job:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_proxy_signs_the_nonce_and_some_users_need_one() {
        use ed25519_dalek::Signer;
        let ((key, name), (stranger, _)) = (nkey(1), nkey(2));
        let through = |key: &ed25519_dalek::SigningKey, user: &str, password: &str| ConnectOptions {
            proxy_signature: data_encoding::BASE64URL_NOPAD.encode(&key.sign(b"nonce").to_bytes()),
            ..connect(user, password, "")
        };
        let mut options = Options {
            users: vec![
                user("free", "p", None),
                config::User { proxy_required: true, ..user("bound", "p", None) },
            ],
            ..Options::default()
        };
        // Nobody is trusted: signatures aren't looked at, and who needs a proxy can't come in.
        assert_eq!(decide(&options, &through(&stranger, "free", "p")), "free@$G");
        assert_eq!(decide(&options, &through(&key, "bound", "p")), "ProxyRequired");
        options.trusted_proxies = Some(vec![nkey(3).1, name]);
        assert!(Authenticator::new(&options).needs_nonce());
        assert_eq!(decide(&options, &through(&key, "bound", "p")), "bound@$G");
        assert_eq!(decide(&options, &through(&key, "bound", "x")), "no");
        assert_eq!(decide(&options, &connect("bound", "p", "")), "ProxyRequired");
        assert_eq!(decide(&options, &connect("free", "p", "")), "free@$G");
        assert_eq!(decide(&options, &through(&stranger, "free", "p")), "ProxyNotTrusted");
        let garbage = ConnectOptions { proxy_signature: "*".into(), ..connect("free", "p", "") };
        assert_eq!(decide(&options, &garbage), "ProxyNotTrusted");
        // Also where nobody has to log in at all.
        let open = Options { trusted_proxies: options.trusted_proxies.clone(), ..Options::default() };
        assert_eq!(decide(&open, &through(&stranger, "", "")), "ProxyNotTrusted");
        assert_eq!(decide(&open, &through(&key, "", "")), "@$G");
    }

    #[test]
    fn the_one_user_or_token_may_need_a_proxy() {
        let options = Options { token: Some(Secret::new("t")), proxy_required: true, ..Options::default() };
        assert_eq!(decide(&options, &connect("", "", "t")), "ProxyRequired");
        let user = config::NkeyUser { nkey: nkey(1).1, proxy_required: true, ..config::NkeyUser::default() };
        let options =
            Options { no_auth_user: Some(user.nkey.clone()), nkey_users: vec![user], ..Options::default() };
        assert_eq!(decide(&options, &connect("", "", "")), "ProxyRequired");
    }
}
