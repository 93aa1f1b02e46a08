//! Advisories of backups and restores.

use serde::Serialize;

use super::ClientInfo;
use crate::jetstream::api::response::StreamState;
use crate::jetstream::api::write;
use crate::time::WallTime;

/// A backup was begun.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotCreated<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// What it holds.
    pub state: &'a StreamState,
    /// Who asked.
    pub client: &'a Option<ClientInfo>,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// A backup is over.
#[derive(Clone, Debug, Serialize)]
pub struct SnapshotCompleted<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// When it was begun.
    #[serde(serialize_with = "write::time")]
    pub start: WallTime,
    /// When it ended.
    #[serde(serialize_with = "write::time")]
    pub end: WallTime,
    /// Who asked.
    pub client: &'a Option<ClientInfo>,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
    /// Why it isn't whole; empty if it is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub error: &'a str,
}

/// A restore was begun.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreCreated<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// Who asked.
    pub client: &'a Option<ClientInfo>,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}

/// A restore is over.
#[derive(Clone, Debug, Serialize)]
pub struct RestoreCompleted<'a> {
    /// The stream's name.
    pub stream: &'a str,
    /// When it was begun.
    #[serde(serialize_with = "write::time")]
    pub start: WallTime,
    /// When it ended.
    #[serde(serialize_with = "write::time")]
    pub end: WallTime,
    /// How many bytes were taken.
    pub bytes: u64,
    /// Who asked.
    pub client: &'a Option<ClientInfo>,
    /// The server's domain.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub domain: &'a str,
}
