//! What shards say to each other, and the order in which it leaves.
//!
//! Every shard has one inbox, a FIFO that all others push to. A shard's messages leave in the order in which they
//! were made, *across* targets: a later message to one shard must not overtake an earlier one to another, or an
//! answer could reach a shard before the subscription that waits for it (`docs/shards.md`). So a [`Batch`] of
//! deliveries, made to save pushes, has one target and is closed by the first message to anybody else.

use std::sync::Arc;

use crate::ids::{ConnId, ShardId};
use crate::shard::chunk::Chunk;

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
        /// How many bytes of [`Batch::weight`].
        bytes: usize,
    },
    /// A subscriber fed by this connection of the receiver is badly behind: hold the publisher for a moment.
    Stall {
        /// The publisher.
        origin: ConnId,
    },
    /// A message for a queue group came too late for the member that was chosen: choose again, elsewhere.
    Bounced {
        /// The shard that has no member any more.
        from: ShardId,
        /// The message, with the one queue group that it didn't reach.
        batch: Arc<Batch>,
    },
    /// A request reached nobody here.
    Unreached {
        /// The publisher, on the receiving shard.
        origin: ConnId,
        /// Which of its requests.
        request: u64,
    },
    /// From the home shard to all: the server is going away.
    LameDuck,
}

/// Messages for one shard, copied once from where they were read; a large payload is shared instead.
#[derive(Debug, Default)]
pub struct Batch {
    /// Subjects, reply subjects, queue names and small payloads, one after the other.
    pub(super) bytes: Vec<u8>,
    /// The messages, oldest first.
    pub(super) entries: Vec<BatchEntry>,
    /// Bytes to be owed for it: payloads, and a constant for each message.
    pub(super) weight: usize,
}

/// One message of a [`Batch`]; the lengths cut [`Batch::bytes`] in the order of the fields.
#[derive(Clone, Debug)]
pub(super) struct BatchEntry {
    /// Publisher, on the sending shard.
    pub(super) origin: ConnId,
    /// Account in which the subject is to be matched.
    pub(super) account: u32,
    /// Whether subscriptions without a queue are to get it.
    pub(super) plain: bool,
    /// Number of queue groups to be served; their names follow the reply, each behind its length in two bytes.
    pub(super) queues: u16,
    pub(super) subject_len: u32,
    pub(super) reply_len: u32,
    pub(super) queues_len: u32,
    /// Length of the header part of the payload; zero for none.
    pub(super) header_len: u32,
    /// Payload with its CRLF, either in `bytes` or in `large`.
    pub(super) payload_len: u32,
    pub(super) large: Option<Chunk>,
    /// Non-zero if the publisher wants to know that nobody was reached.
    pub(super) request: u64,
}
