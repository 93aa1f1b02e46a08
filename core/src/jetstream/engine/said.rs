//! What the engines of a server say to each other.
//!
//! An engine is what works in one store: a folder, a journal, the streams and consumers in them. Each shard has one of its
//! own, and those of shards that are no more are run by the others. The home engine decides which streams there are; it
//! gives *orders* to the engine that has the stream, or is to have it, and hears of each order once what came of it.

use std::sync::Arc;

use super::assets::Used;
use super::requests::Asked;
use crate::disk::Token;
use crate::ids::ShardId;
use crate::jetstream::api::error::ApiError;
use crate::jetstream::api::limits::Reservation;
use crate::jetstream::api::response::StreamInfo;
use crate::jetstream::api::stream_config::StreamConfig;

/// Names an engine, and with it its store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct EngineId(pub(crate) u16);

/// Where the number of the engine is in the numbers of its disk requests; above it is which of its machines asks.
const SHIFT: u32 = 55;

impl EngineId {
    /// The one that decides which streams there are.
    pub(crate) const HOME: EngineId = EngineId(0);
    /// There are never more.
    pub(crate) const MOST: u16 = 64;

    /// Returns the engine that asked something of a disk.
    pub(crate) fn of_token(token: Token) -> EngineId {
        EngineId((token.0 >> SHIFT) as u16 % Self::MOST)
    }

    /// Returns where the numbers of its disk requests begin.
    pub(super) fn base(self) -> u64 {
        u64::from(self.0) << SHIFT
    }

    /// Returns the shard that runs it, of so many.
    pub(crate) fn shard(self, shards: u16) -> ShardId {
        ShardId(self.0 % shards)
    }

    /// Returns it as a set of its own.
    pub(super) fn bit(self) -> u64 {
        1 << self.0
    }

    /// Returns the engines of a set.
    pub(crate) fn all(set: u64) -> impl Iterator<Item = EngineId> {
        (0..Self::MOST).map(EngineId).filter(move |engine| set & engine.bit() != 0)
    }
}

/// What one engine says to another.
#[derive(Clone, Debug)]
pub struct EngineMessage {
    pub(crate) to: EngineId,
    pub(crate) said: Box<Said>,
}

impl EngineMessage {
    /// Returns the shard that it is for, of so many.
    pub(crate) fn shard(&self, shards: u16) -> ShardId {
        self.to.shard(shards)
    }
}

/// An order of the home engine's, by its number, about a stream of an account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) number: u64,
    pub(crate) account: u32,
    pub(crate) stream: String,
}

#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// A request about a stream that the receiver has, or, to the home engine, that the sender hasn't.
    Request(Asked),
    /// Make a stream.
    Create(Order, Asked, Arc<StreamConfig>),
    /// A stream that is there was to be made once more, just as it is.
    Again(Asked, String),
    /// Change a stream.
    Update(Order, Asked, Arc<StreamConfig>),
    /// Delete a stream; nobody may wait for it.
    Delete(Order, Option<Asked>),
    /// Restore a stream, with what is said when the backup begins.
    Restore(Order, Asked, Arc<StreamConfig>, Admission),
    /// Say what these streams of an account are.
    List { id: u64, account: u32, names: Vec<String> },
    /// Say what there is of an account.
    Count { id: u64, account: u32 },
    /// To the home engine: these streams there are.
    Opened { from: EngineId, streams: Vec<(u32, Arc<StreamConfig>)> },
    /// To the home engine: an order is carried out, or can't be, and this is how the stream is.
    Settled(Order, Standing),
    /// To the home engine: the streams that were asked for, by name.
    Listed { id: u64, streams: Vec<StreamInfo> },
    /// To the home engine: what there is of an account.
    Counted { id: u64, count: Count },
    /// To all: so much the sender's streams of an account store.
    Used { from: EngineId, account: u32, used: Used },
}

/// How a stream is after an order.
#[derive(Clone, Debug)]
pub(crate) enum Standing {
    /// It is there, with these settings.
    There(Arc<StreamConfig>),
    /// It is being restored and won't be: its subjects are free, its name isn't yet.
    Failing,
    /// There is none.
    Gone,
}

/// What was decided of a restore when it was asked for, and counts when the backup begins.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    pub(crate) reserved: Reservation,
    /// What it can't be restored for.
    pub(crate) refused: Option<ApiError>,
}

/// What one engine has of an account.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Count {
    pub(crate) memory: u64,
    pub(crate) store: u64,
    pub(crate) consumers: u64,
    pub(crate) api_total: u64,
    pub(crate) api_errors: u64,
}
