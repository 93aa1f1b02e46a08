//! What somebody outside the protocol may ask of a shard, and what it answers.

use std::sync::Arc;

use super::connz::{ConnzOptions, ConnzPart};
use super::subsz::{SubszOptions, SubszPart};
use super::varz::ShardStats;
use crate::jetstream::report::{Detail, Report};

/// A question or order for one shard; every shard of the server gets the same one.
#[derive(Clone, Debug)]
pub enum ControlRequest {
    /// Count; answered by [`ControlReply::Varz`].
    Varz,
    /// Describe connections; answered by [`ControlReply::Connz`].
    Connz(Arc<ConnzOptions>),
    /// Describe subscriptions; answered by [`ControlReply::Subsz`].
    Subsz(Arc<SubszOptions>),
    /// Describe streams and consumers; answered by [`ControlReply::Jsz`].
    Jsz(Arc<Detail>),
    /// Enter lame duck mode: accept nobody, tell the clients, close them spread over time, then stop.
    ///
    /// Answered by [`ControlReply::Done`] at once, not when it is over.
    LameDuck,
    /// Close everything and stop; answered by [`ControlReply::Done`].
    Shutdown,
}

/// A shard's answer to a [`ControlRequest`].
#[derive(Clone, Debug)]
pub enum ControlReply {
    /// What the shard has counted.
    Varz(Box<ShardStats>),
    /// Its connections.
    Connz(ConnzPart),
    /// Its subscriptions.
    Subsz(SubszPart),
    /// Its streams and consumers, if it is the shard that has them.
    Jsz(Option<Box<Report>>),
    /// The order is being followed.
    Done,
}
