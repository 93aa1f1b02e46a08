//! Who asked.

use serde::Serialize;

use crate::connection::ClientDescription;
use crate::jetstream::api::write::{self, is_default};
use crate::time::{Duration, WallTime};

/// A client as advisories and the header `Nats-Request-Info` show it.
///
/// Source: nats-server `server/events.go`, `ClientInfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClientInfo {
    /// When it connected.
    #[serde(serialize_with = "write::optional_time", skip_serializing_if = "Option::is_none")]
    pub start: Option<WallTime>,
    /// Where from.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Its number.
    #[serde(skip_serializing_if = "is_default")]
    pub id: u64,
    /// Its account.
    #[serde(rename = "acc", skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// The account whose service it asks, if that is another one.
    #[serde(rename = "svc", skip_serializing_if = "String::is_empty")]
    pub service: String,
    /// Its user.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// What it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The language of its library.
    #[serde(rename = "lang", skip_serializing_if = "String::is_empty")]
    pub language: String,
    /// The version of its library.
    #[serde(rename = "ver", skip_serializing_if = "String::is_empty")]
    pub version: String,
    /// How long an answer from it takes.
    #[serde(serialize_with = "write::duration", skip_serializing_if = "is_default")]
    pub rtt: Duration,
    /// The name of its server.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server: String,
    /// The name of its server's cluster.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// Other clusters that could answer it.
    #[serde(rename = "alts", skip_serializing_if = "Vec::is_empty")]
    pub alternates: Vec<String>,
    /// When it went.
    #[serde(serialize_with = "write::optional_time", skip_serializing_if = "Option::is_none")]
    pub stop: Option<WallTime>,
    /// What it proved itself with.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Who signed that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer_key: String,
    /// The name in that.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name_tag: String,
    /// The tags in that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What kind of connection: `Client`, `Leafnode` and so on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// What kind of client: `nats`, `mqtt`, `websocket`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_type: String,
    /// What an MQTT client calls itself.
    #[serde(rename = "client_id", skip_serializing_if = "String::is_empty")]
    pub mqtt_client: String,
    /// What it signed.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// Where it wants its answer, if the request doesn't say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reply: String,
}

impl ClientInfo {
    /// Returns how a client is shown by the server of that name.
    pub fn new(client: &ClientDescription, server: &str) -> Self {
        ClientInfo {
            start: Some(client.started),
            host: client.host.clone(),
            id: client.id,
            account: client.account.clone(),
            user: client.user.clone(),
            name: client.name.clone(),
            language: client.language.clone(),
            version: client.version.clone(),
            rtt: client.rtt,
            server: server.to_owned(),
            kind: "Client".to_owned(),
            client_type: "nats".to_owned(),
            ..ClientInfo::default()
        }
    }

    /// Returns what everybody may know.
    pub fn for_advisory(&self) -> Self {
        ClientInfo { jwt: String::new(), alternates: Vec::new(), ..self.clone() }
    }
}
