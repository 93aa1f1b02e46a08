//! What shards say to each other, and the order in which it leaves.
//!
//! Every shard has one inbox, a FIFO that all others push to. A shard's messages leave in the order in which they
//! were made, *across* targets: a later message to one shard must not overtake an earlier one to another, or an
//! answer could reach a shard before the subscription that waits for it (`docs/shards.md`). So a [`Batch`] of
//! deliveries, made to save pushes, has one target and is closed by the first message to anybody else.

use std::sync::Arc;

use crate::delivery::Batch;
use crate::ids::{ConnId, ShardId};
pub use crate::jetstream::engine::EngineMessage;

/// A message from one shard to another of the same server.
#[derive(Clone, Debug)]
pub enum ShardMessage {
    /// To the home shard: somebody connected, may it stay, and what is its client id?
    Admit {
        /// Who asks.
        from: ShardId,
        /// The connection, parked meanwhile.
        conn: ConnId,
    },
    /// From the home shard: the answer to `Admit`.
    Admitted {
        /// The connection.
        conn: ConnId,
        /// Its id, unique in the server and never used again.
        cid: u64,
        /// False if the server has `max_connections` already.
        within_limit: bool,
    },
    /// To the home shard: somebody logs in to an account that may have only so many connections; may it?
    Enter {
        /// Who asks.
        from: ShardId,
        /// The connection, parked meanwhile.
        conn: ConnId,
        /// The account.
        account: u32,
    },
    /// From the home shard: the answer to `Enter`.
    Entered {
        /// The connection.
        conn: ConnId,
        /// The account.
        account: u32,
        /// False if the account has as many as it may have.
        within_limit: bool,
    },
    /// To the home shard: a connection has left an account that may have only so many.
    Leave {
        /// The account.
        account: u32,
    },
    /// To the home shard: an admitted connection has ended.
    Left,
    /// The sender's own interest changed.
    Interest {
        /// Whose interest.
        from: ShardId,
        /// In which account.
        account: u32,
        /// In what; may have wildcards.
        subject: Box<[u8]>,
        /// As a member of which queue group.
        queue: Option<Box<[u8]>>,
        /// How many subscriptions stand behind it now; zero withdraws it. One for any number without a queue.
        weight: u32,
    },
    /// Messages published on the sender, for subscriptions of the receiver.
    Deliver {
        /// Where they were published.
        from: ShardId,
        /// The messages.
        batch: Arc<Batch>,
    },
    /// The receiver of an earlier `Deliver` has dealt with it: so many bytes are no longer owed.
    Credit {
        /// Who has.
        from: ShardId,
        /// How many bytes.
        bytes: usize,
    },
    /// A subscriber fed by this connection of the receiver is badly behind: hold the publisher for a moment.
    Stall {
        /// The publisher.
        origin: ConnId,
    },
    /// A message for a queue group came too late for the member that was chosen: choose again, elsewhere.
    Bounced {
        /// The message, with the one queue group that it didn't reach.
        batch: Arc<Batch>,
    },
    /// A request reached nobody here.
    Unreached {
        /// The request, without its payload.
        batch: Arc<Batch>,
    },
    /// What one engine of JetStream says to another.
    JetStream(EngineMessage),
    /// From the home shard to all: the folder of streams is locked, open what is yours.
    OpenStores {
        /// The engines of which there are folders, one bit each.
        folders: u64,
    },
    /// From the home shard to all: this is where the server listens.
    Listening {
        /// The bound address.
        address: std::net::SocketAddr,
    },
}
