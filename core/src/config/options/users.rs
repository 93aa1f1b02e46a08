//! Who may connect, from where, to what: accounts, users and permissions as plain values.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{AccountJetStream, Secret};

/// One isolated subject space.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Account {
    /// Its name, unique.
    pub name: String,
    /// Its public key, as operators of several servers identify it.
    pub nkey: Option<String>,
    /// What its connections may take together.
    pub limits: AccountLimits,
    /// The permissions of its users that have none of their own; already handed to them.
    pub default_permissions: Option<Permissions>,
    /// What its streams may take; `None` if it may have none.
    pub jetstream: Option<AccountJetStream>,
}

/// What the connections of one account may take together; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountLimits {
    /// The most connections.
    pub max_connections: Option<u32>,
    /// The most subscriptions.
    pub max_subscriptions: Option<u32>,
    /// The longest message in bytes.
    pub max_payload: Option<u32>,
    /// The most leaf nodes.
    pub max_leafnodes: Option<u32>,
}

/// A user with a name and a password.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct User {
    /// The name, unique among the users of all accounts.
    pub username: String,
    /// The password, plain or a bcrypt hash; may be empty.
    pub password: Secret,
    /// The account's name; `None` is the global one.
    pub account: Option<String>,
    /// What the user may do; `None` is everything.
    pub permissions: Option<Permissions>,
    /// How the user may connect; `None` is in any way.
    pub allowed_connection_types: Option<BTreeSet<ConnectionType>>,
    /// Whether the user has to come through a trusted proxy.
    pub proxy_required: bool,
}

/// A user that signs a nonce.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NkeyUser {
    /// The public key, valid, unique among the users of all accounts.
    pub nkey: String,
    /// The account's name; `None` is the global one.
    pub account: Option<String>,
    /// What the user may do; `None` is everything.
    pub permissions: Option<Permissions>,
    /// How the user may connect; `None` is in any way.
    pub allowed_connection_types: Option<BTreeSet<ConnectionType>>,
    /// Whether the user has to come through a trusted proxy.
    pub proxy_required: bool,
}

/// What one user may publish, subscribe to and answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// Rules for publishing; `None` allows everything.
    pub publish: Option<SubjectRules>,
    /// Rules for subscribing; `None` allows everything. A rule may name a queue: `subject queue`.
    pub subscribe: Option<SubjectRules>,
    /// Leave to answer requests wherever their reply subjects are; `None` is no such leave.
    pub responses: Option<ResponsePermission>,
}

/// Which subjects are allowed and which are not; every entry is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectRules {
    /// Only what matches one of these; `None` is everything, empty nothing.
    pub allow: Option<Vec<String>>,
    /// Not what matches one of these, whatever `allow` says.
    pub deny: Option<Vec<String>>,
}

/// How far the leave to answer a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponsePermission {
    /// How many answers to one request; `None` is no limit.
    pub max_messages: Option<u32>,
    /// How long after the request; `None` is for ever.
    pub expires: Option<Duration>,
}

/// One answer within two minutes.
impl Default for ResponsePermission {
    fn default() -> Self {
        ResponsePermission { max_messages: Some(1), expires: Some(Duration::from_secs(120)) }
    }
}

/// A way to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConnectionType {
    /// A client over TCP.
    Standard,
    /// A client over WebSocket.
    Websocket,
    /// A leaf node over TCP.
    Leafnode,
    /// A leaf node over WebSocket.
    LeafnodeWebsocket,
    /// An MQTT client over TCP.
    Mqtt,
    /// An MQTT client over WebSocket.
    MqttWebsocket,
    /// A client inside the server's process.
    InProcess,
}

impl ConnectionType {
    const ALL: [ConnectionType; 7] = [
        ConnectionType::Standard,
        ConnectionType::Websocket,
        ConnectionType::Leafnode,
        ConnectionType::LeafnodeWebsocket,
        ConnectionType::Mqtt,
        ConnectionType::MqttWebsocket,
        ConnectionType::InProcess,
    ];

    /// Returns the name used in configurations and JWTs.
    pub const fn as_str(self) -> &'static str {
        match self {
            ConnectionType::Standard => "STANDARD",
            ConnectionType::Websocket => "WEBSOCKET",
            ConnectionType::Leafnode => "LEAFNODE",
            ConnectionType::LeafnodeWebsocket => "LEAFNODE_WS",
            ConnectionType::Mqtt => "MQTT",
            ConnectionType::MqttWebsocket => "MQTT_WS",
            ConnectionType::InProcess => "IN_PROCESS",
        }
    }

    /// Finds the type of that name, in any case.
    pub fn from_name(name: &str) -> Option<Self> {
        ConnectionType::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_types_are_found_by_their_names_in_any_case() {
        for kind in ConnectionType::ALL {
            assert_eq!(ConnectionType::from_name(&kind.as_str().to_lowercase()), Some(kind));
        }
        assert_eq!(ConnectionType::from_name("CARRIER_PIGEON"), None);
    }
}
