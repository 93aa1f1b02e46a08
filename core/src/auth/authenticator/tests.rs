//! Who is let in, and who is not, by what they offer.

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
    let options =
        Options { users: vec![user("a", "pa", None)], no_auth_user: Some("a".into()), ..Options::default() };
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
    let options =
        Options { users: vec![user("a", &hash, None)], no_auth_user: Some("a".into()), ..Options::default() };
    assert_eq!(decide(&options, &connect("", "", "")), "a@$G");
}

#[test]
fn a_certificate_names_its_user() {
    let mut options = Options {
        users: vec![user("derek@nats.io", "", Some("A")), user("CN=www,O=nats", "", Some("B"))],
        tls: Some(config::TlsOptions { verify_and_map: true, ..config::TlsOptions::default() }),
        ..Options::default()
    };
    let name = |certificate: &PeerCertificate, options: &Options| match Authenticator::new(options).decide(
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
        let options = Options { users: vec![user(name, "", None)], tls: tls.clone(), ..Options::default() };
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
    assert_eq!(decide(&options, &ConnectOptions { signature: String::new(), ..with(&name, b"nonce") }), "no");
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
    let options =
        Options { username: Some("derek".into()), password: Some(Secret::new("pw")), ..Options::default() };
    assert_eq!(decide(&options, &connect("derek", "pw", "")), "derek@$G");
    for wrong in
        [connect("derek", "", ""), connect("", "pw", ""), connect("Derek", "pw", ""), connect("", "", "pw")]
    {
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
