//! CONNECT: what a client says of itself before anything else.
//!
//! Source: nats-server `server/client.go`, `ClientOpts` and `defaultOpts`.

use super::json::{JsonError, Object};
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
        }
    }
}

impl ConnectOptions {
    /// Reads a CONNECT's JSON over what is known already.
    ///
    /// # Errors
    ///
    /// [`JsonError`] if it isn't an object, or a field has a value of the wrong type.
    pub fn update(&mut self, json: &[u8]) -> Result<(), JsonError> {
        let object = Object::parse(json)?;
        object.boolean("verbose", &mut self.verbose)?;
        object.boolean("pedantic", &mut self.pedantic)?;
        object.boolean("echo", &mut self.echo)?;
        object.boolean("tls_required", &mut self.tls_required)?;
        object.boolean("headers", &mut self.headers)?;
        object.boolean("no_responders", &mut self.no_responders)?;
        object.integer("protocol", &mut self.protocol)?;
        object.string("name", &mut self.name)?;
        object.string("lang", &mut self.lang)?;
        object.string("version", &mut self.version)?;
        object.string("user", &mut self.user)?;
        object.string("nkey", &mut self.nkey)?;
        object.string("sig", &mut self.signature)?;
        object.string("account", &mut self.account)?;
        object.boolean("new_account", &mut self.new_account)?;
        for (key, secret) in
            [("pass", &mut self.password), ("auth_token", &mut self.token), ("jwt", &mut self.jwt)]
        {
            let mut text = secret.expose().to_owned();
            object.string(key, &mut text)?;
            *secret = Secret::new(text);
        }
        Ok(())
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
}
