//! CONNECT: what a client says of itself before anything else.
//!
//! Source: nats-server `server/client.go`, `ClientOpts` and `defaultOpts`.

use super::json::{JsonError, Member, Object};
use crate::config::Secret;

/// The options of a CONNECT; those that it leaves out keep what they had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Answer each operation with `+OK`.
    pub verbose: bool,
    /// Check subjects strictly.
    pub pedantic: bool,
    /// Deliver to the connection what it publishes itself.
    pub echo: bool,
    /// The client insists on TLS; the server has done that by now or not.
    pub tls_required: bool,
    /// The client can read messages with headers.
    pub headers: bool,
    /// The client wants to be told when a request reaches nobody.
    pub no_responders: bool,
    /// 1 if the client understands an INFO at any time, 0 if not.
    pub protocol: i64,
    /// What the application calls the connection.
    pub name: String,
    /// The language of the client library.
    pub lang: String,
    /// The version of the client library.
    pub version: String,
    /// User name.
    pub user: String,
    /// Password.
    pub password: Secret,
    /// Token.
    pub token: Secret,
    /// Public key of the user.
    pub nkey: String,
    /// Signature of the nonce.
    pub signature: String,
    /// The user's JWT.
    pub jwt: Secret,
    /// An account of its own, which was once a feature and is now refused.
    pub account: String,
    /// The same.
    pub new_account: bool,
    /// Signature of the nonce by a proxy that stands between.
    pub proxy_signature: String,
}

/// What holds until a CONNECT says otherwise.
impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            verbose: true,
            pedantic: true,
            echo: true,
            tls_required: false,
            headers: false,
            no_responders: false,
            protocol: 0,
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            user: String::new(),
            password: Secret::default(),
            token: Secret::default(),
            nkey: String::new(),
            signature: String::new(),
            jwt: Secret::default(),
            account: String::new(),
            new_account: false,
            proxy_signature: String::new(),
        }
    }
}

impl ConnectOptions {
    /// Reads a CONNECT's JSON over what is known already: a second CONNECT changes only what it names.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if it isn't an object, or a field has a value of the wrong type. Fields before that one have been
    /// read; the connection is closed in any case.
    pub fn update(&mut self, json: &[u8]) -> Result<(), JsonError> {
        for member in Object::parse("server.ClientOpts", json)?.members() {
            match member.key() {
                "verbose" => member.boolean(&mut self.verbose)?,
                "pedantic" => member.boolean(&mut self.pedantic)?,
                "echo" => member.boolean(&mut self.echo)?,
                "tls_required" => member.boolean(&mut self.tls_required)?,
                "headers" => member.boolean(&mut self.headers)?,
                "no_responders" => member.boolean(&mut self.no_responders)?,
                "protocol" => member.integer(&mut self.protocol)?,
                "name" => member.string(&mut self.name)?,
                "lang" => member.string(&mut self.lang)?,
                "version" => member.string(&mut self.version)?,
                "user" => member.string(&mut self.user)?,
                "pass" => read_secret(member, &mut self.password)?,
                "auth_token" => read_secret(member, &mut self.token)?,
                "nkey" => member.string(&mut self.nkey)?,
                "sig" => member.string(&mut self.signature)?,
                "jwt" => read_secret(member, &mut self.jwt)?,
                "account" => member.string(&mut self.account)?,
                "new_account" => member.boolean(&mut self.new_account)?,
                "proxy_sig" => member.string(&mut self.proxy_signature)?,
                // These belong to routes and leaf nodes. A client's are only held to their types.
                "remote_account" => member.string(&mut String::new())?,
                "import" | "export" => {
                    for member in member.object("server.SubjectPermission")?.members() {
                        if matches!(member.key(), "allow" | "deny") {
                            member.strings(&mut Vec::new())?;
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn read_secret(member: &Member<'_>, secret: &mut Secret) -> Result<(), JsonError> {
    let mut text = secret.expose().to_owned();
    member.string(&mut text)?;
    *secret = Secret::new(text);
    Ok(())
}

/// Returns a CONNECT's arguments as a protocol trace may show them: what looks like a secret's value is
/// `[REDACTED]`. The text need not be JSON, and rather too much is taken out than too little.
///
/// Source: nats-server `server/client.go`, `removeSecretsFromTrace`, which has regular expressions for it.
pub fn redacted(arguments: &[u8]) -> Vec<u8> {
    let prefixes = redact(arguments, &[b"auth_token", b"pass"], true);
    redact(&prefixes, &[b"proxy_sig", b"nkey", b"sig"], false)
}

/// Takes out the values of keys that are one of `words`, or if `prefix` begin with one.
fn redact(text: &[u8], words: &[&[u8]], prefix: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let (mut kept, mut at) = (0, 0);
    while at < text.len() {
        let word = words.iter().find(|word| text[at..].starts_with(word));
        let starts_word =
            prefix || at == 0 || !(text[at - 1].is_ascii_alphanumeric() || text[at - 1] == b'_');
        let value = word.filter(|_| starts_word).and_then(|word| value_after(text, at + word.len(), prefix));
        match value {
            Some((start, end)) => {
                out.extend_from_slice(&text[kept..start]);
                out.extend_from_slice(b"[REDACTED]");
                (kept, at) = (end, end.max(at + 1));
            }
            None => at += 1,
        }
    }
    out.extend_from_slice(&text[kept..]);
    out
}

/// Finds the value behind a key that ends at `at`, or if `longer` perhaps later, before any blank.
fn value_after(text: &[u8], mut at: usize, longer: bool) -> Option<(usize, usize)> {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace();
    let skip_blanks = |from: usize| from + text[from..].iter().take_while(|byte| is_blank(byte)).count();
    loop {
        let quote = usize::from(text.get(at) == Some(&b'"'));
        let colon = skip_blanks(at + quote);
        if matches!(text.get(colon), Some(b':' | b'=')) {
            let value = skip_blanks(colon + 1);
            let start = value + usize::from(text.get(value) == Some(&b'"'));
            let len = text[start..].iter().take_while(|byte| !b"\",\r\n}".contains(byte)).count();
            return Some((start, start + len));
        }
        if !longer || text.get(at).is_none_or(is_blank) {
            return None;
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_keeps_its_default() {
        let mut options = ConnectOptions::default();
        options.update(br#"{"Verbose":false,"user":"derek","pass":"top secret","protocol":1}"#).unwrap();
        assert!(!options.verbose && options.echo && options.pedantic);
        assert_eq!(
            (options.user.as_str(), options.password.expose(), options.protocol),
            ("derek", "top secret", 1)
        );
        assert!(!format!("{options:?}").contains("top secret"));
    }

    #[test]
    fn a_wrong_type_is_an_error() {
        assert!(ConnectOptions::default().update(br#"{"verbose":"no"}"#).is_err());
        assert!(ConnectOptions::default().update(b"CONNECT").is_err());
    }

    #[test]
    fn every_field_is_read() {
        let mut options = ConnectOptions::default();
        let json = br#"{"verbose":false,"pedantic":false,"echo":false,"tls_required":true,"headers":true,
            "no_responders":true,"protocol":1,"name":"n","lang":"l","version":"v","user":"u","pass":"p",
            "auth_token":"t","nkey":"k","sig":"s","jwt":"j","account":"a","new_account":true,"proxy_sig":"x",
            "remote_account":"r","import":{"allow":["a"]},"export":null,"unknown":{}}"#;
        options.update(json).unwrap();
        let expected = ConnectOptions {
            verbose: false,
            pedantic: false,
            echo: false,
            tls_required: true,
            headers: true,
            no_responders: true,
            protocol: 1,
            name: "n".into(),
            lang: "l".into(),
            version: "v".into(),
            user: "u".into(),
            password: Secret::new("p"),
            token: Secret::new("t"),
            nkey: "k".into(),
            signature: "s".into(),
            jwt: Secret::new("j"),
            account: "a".into(),
            new_account: true,
            proxy_signature: "x".into(),
        };
        assert_eq!(options, expected);
        // A second CONNECT keeps what it doesn't name.
        options.update(br#"{"user":"other","pass":null}"#).unwrap();
        assert_eq!(options, ConnectOptions { user: "other".into(), ..expected });
    }

    #[test]
    fn types_of_fields_for_others_are_held_too() {
        for json in [r#"{"import":1}"#, r#"{"export":{"deny":"x"}}"#, r#"{"remote_account":{}}"#] {
            assert!(ConnectOptions::default().update(json.as_bytes()).is_err(), "{json}");
        }
        assert!(ConnectOptions::default().update(b"null").is_ok());
    }

    #[test]
    fn a_trace_shows_no_secret() {
        for (text, shown) in [
            (r#"{"user":"u","pass":"s3cr3t"}"#, r#"{"user":"u","pass":"[REDACTED]"}"#),
            (r#"{"auth_token" : "s3cr3t","x":1}"#, r#"{"auth_token" : "[REDACTED]","x":1}"#),
            (r#"{"password":"a","pass":"b"}"#, r#"{"password":"[REDACTED]","pass":"[REDACTED]"}"#),
            (
                r#"{"nkey":"UA","sig":"abc","proxy_sig":"d"}"#,
                r#"{"nkey":"[REDACTED]","sig":"[REDACTED]","proxy_sig":"[REDACTED]"}"#,
            ),
            (r#"{"design":"x","mysig":"y"}"#, r#"{"design":"x","mysig":"y"}"#),
            (r#"{"verbose":false}"#, r#"{"verbose":false}"#),
            ("pass=abc", "pass=[REDACTED]"),
            ("pass", "pass"),
            (r#"{"pass":"#, r#"{"pass":[REDACTED]"#),
        ] {
            assert_eq!(String::from_utf8(redacted(text.as_bytes())).unwrap(), shown, "{text}");
        }
    }
}
