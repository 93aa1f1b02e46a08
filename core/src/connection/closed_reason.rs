//! Why a connection ended, in the words that /connz and disconnect events use.

use std::fmt;

use serde::{Serialize, Serializer};

/// Why a connection was closed, by either side.
///
/// Source: nats-server `server/client.go`, `ClosedState`, without the reasons that only routes, gateways and
/// leaf nodes have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosedReason {
    /// The client closed the connection.
    ClientClosed,
    /// No valid CONNECT came in time.
    AuthenticationTimeout,
    /// The credentials were wrong or missing.
    AuthenticationViolation,
    /// The TLS handshake failed or took too long.
    TlsHandshakeError,
    /// More bytes waited for the socket than `max_pending` allows.
    SlowConsumerPendingBytes,
    /// The socket took no bytes for longer than `write_deadline`.
    SlowConsumerWriteDeadline,
    /// Writing to the socket failed.
    WriteError,
    /// Reading from the socket failed.
    ReadError,
    /// The peer sent something that isn't the protocol.
    ParseError,
    /// The peer left too many pings unanswered.
    StaleConnection,
    /// The peer sent well-formed operations that it may not send.
    ProtocolViolation,
    /// CONNECT asked for a protocol version that doesn't exist.
    BadClientProtocolVersion,
    /// A client connected to a port that isn't for clients, or the other way round.
    WrongPort,
    /// The account has all the connections that it may have.
    MaxAccountConnectionsExceeded,
    /// The server has all the connections that it may have.
    MaxConnectionsExceeded,
    /// A message was longer than `max_payload`.
    MaxPayloadExceeded,
    /// A protocol line was longer than `max_control_line`.
    MaxControlLineExceeded,
    /// The connection has all the subscriptions that it may have.
    MaxSubscriptionsExceeded,
    /// The server is shutting down.
    ServerShutdown,
    /// The user's permission to be connected ran out.
    AuthenticationExpired,
    /// The user's account doesn't exist.
    MissingAccount,
    /// The credentials were revoked while the connection was up.
    Revocation,
    /// Headers were sent that the connection may not send, or that make no sense.
    MessageHeaderViolation,
    /// CONNECT asked for no-responders replies without headers.
    NoRespondersRequiresHeaders,
    /// Another MQTT connection took over the client id.
    DuplicateClientId,
    /// An operator closed the connection.
    Kicked,
    /// It came through a proxy that isn't trusted.
    ProxyNotTrusted,
    /// It didn't come through a proxy, and has to.
    ProxyRequired,
}

impl ClosedReason {
    /// Returns the reference's text for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            ClosedReason::ClientClosed => "Client Closed",
            ClosedReason::AuthenticationTimeout => "Authentication Timeout",
            ClosedReason::AuthenticationViolation => "Authentication Failure",
            ClosedReason::TlsHandshakeError => "TLS Handshake Failure",
            ClosedReason::SlowConsumerPendingBytes => "Slow Consumer (Pending Bytes)",
            ClosedReason::SlowConsumerWriteDeadline => "Slow Consumer (Write Deadline)",
            ClosedReason::WriteError => "Write Error",
            ClosedReason::ReadError => "Read Error",
            ClosedReason::ParseError => "Parse Error",
            ClosedReason::StaleConnection => "Stale Connection",
            ClosedReason::ProtocolViolation => "Protocol Violation",
            ClosedReason::BadClientProtocolVersion => "Bad Client Protocol Version",
            ClosedReason::WrongPort => "Incorrect Port",
            ClosedReason::MaxAccountConnectionsExceeded => "Maximum Account Connections Exceeded",
            ClosedReason::MaxConnectionsExceeded => "Maximum Connections Exceeded",
            ClosedReason::MaxPayloadExceeded => "Maximum Message Payload Exceeded",
            ClosedReason::MaxControlLineExceeded => "Maximum Control Line Exceeded",
            ClosedReason::MaxSubscriptionsExceeded => "Maximum Subscriptions Exceeded",
            ClosedReason::ServerShutdown => "Server Shutdown",
            ClosedReason::AuthenticationExpired => "Authentication Expired",
            ClosedReason::MissingAccount => "Missing Account",
            ClosedReason::Revocation => "Credentials Revoked",
            ClosedReason::MessageHeaderViolation => "Message Header Violation",
            ClosedReason::NoRespondersRequiresHeaders => "No Responders Requires Headers",
            ClosedReason::DuplicateClientId => "Duplicate Client ID",
            ClosedReason::Kicked => "Kicked",
            ClosedReason::ProxyNotTrusted => "Proxy Not Trusted",
            ClosedReason::ProxyRequired => "Proxy Required",
        }
    }
}

impl fmt::Display for ClosedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ClosedReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}
