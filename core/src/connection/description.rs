//! A client in words, for those who tell others of it.

use crate::time::{Duration, WallTime};

/// Who a client is, as far as others may know. What it says of itself is cut short.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientDescription {
    /// When it connected.
    pub started: WallTime,
    /// Where from.
    pub host: String,
    /// Its number.
    pub id: u64,
    /// Its account.
    pub account: String,
    /// Its user.
    pub user: String,
    /// What it calls itself.
    pub name: String,
    /// The language of its library.
    pub language: String,
    /// The version of its library.
    pub version: String,
    /// How long an answer from it takes; zero if that isn't known.
    pub rtt: Duration,
}
