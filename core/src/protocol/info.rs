//! INFO: what the server says of itself, to clients.
//!
//! Exactly the reference's fields, in its order: an extra field has broken clients before.
//!
//! Source: nats-server `server/server.go`, `Info`; what the binary prints for a client.

use serde::Serialize;

/// The version of the reference that clients are told: they switch features on by it.
pub const REFERENCE_VERSION: &str = "2.15.1";
/// The level of the JetStream API that clients are told.
pub const API_LEVEL: u32 = 5;

/// What the server says of itself to a client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Info<'a> {
    /// The server's public key, 56 characters.
    pub server_id: &'a str,
    /// Its name; the id unless it was given one.
    pub server_name: &'a str,
    /// The reference's version that it is compatible with.
    pub version: &'a str,
    /// The client protocol's version.
    pub proto: u32,
    /// Kept for tools that print it.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub git_commit: &'a str,
    /// Kept for tools that print it; natrix isn't written in Go.
    pub go: &'a str,
    /// The address that it listens on, or advertises.
    pub host: &'a str,
    /// The port; one that is advertised can be any number.
    pub port: i64,
    /// Headers may be published.
    pub headers: bool,
    /// CONNECT must come with credentials.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// TLS comes next.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// The client needs a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// TLS may come next.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// The longest message in bytes.
    pub max_payload: i64,
    /// Streams are to be had.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// The connection's id.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// The address that the client comes from.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub client_ip: &'a str,
    /// What an nkey user signs.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub nonce: &'a str,
    /// The JetStream domain that the server is in, also if it has no JetStream.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    /// Other addresses of this server, or of its cluster.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub connect_urls: &'a [String],
    /// The server is about to go.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// This is the INFO that follows a CONNECT.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account that the client is in.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub remote_account: &'a str,
    /// That account is the system account.
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// Level of the JetStream API.
    pub api_lvl: u32,
    /// The server's curve key.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub xkey: &'a str,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_server_says_what_the_reference_says() {
        let info = Info {
            server_id: "NA",
            server_name: "NA",
            version: REFERENCE_VERSION,
            proto: 1,
            host: "0.0.0.0",
            port: 4222,
            headers: true,
            max_payload: 1_048_576,
            client_id: 5,
            client_ip: "127.0.0.1",
            api_lvl: API_LEVEL,
            xkey: "XC",
            ..Info::default()
        };
        insta::assert_snapshot!(serde_json::to_string(&info).unwrap(), @r#"{"server_id":"NA","server_name":"NA","version":"2.15.1","proto":1,"go":"","host":"0.0.0.0","port":4222,"headers":true,"max_payload":1048576,"client_id":5,"client_ip":"127.0.0.1","api_lvl":5,"xkey":"XC"}"#);
    }

    #[test]
    fn a_server_with_streams_says_so_and_where_they_are() {
        let info = Info { jetstream: true, nonce: "N", domain: "hub", ldm: true, ..Info::default() };
        insta::assert_snapshot!(serde_json::to_string(&info).unwrap(), @r#"{"server_id":"","server_name":"","version":"","proto":0,"go":"","host":"","port":0,"headers":false,"max_payload":0,"jetstream":true,"nonce":"N","domain":"hub","ldm":true,"api_lvl":0}"#);
    }
}
