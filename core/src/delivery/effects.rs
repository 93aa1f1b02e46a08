//! What an exchange asks of its shard, in an order that is a promise.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Message;
use super::batch::{Batch, Head, Request};
use super::interest::Interest;
use super::service::Speaker;
use crate::connection::client::Client;
use crate::connection::{ClientDescription, ClosedReason};
use crate::ids::{ConnId, ShardId};

/// What an exchange asks of its shard.
#[derive(Debug)]
pub(crate) enum Effect {
    /// Bytes wait for a connection that had none.
    Flush(ConnId),
    /// Close a connection.
    Doom(ConnId),
    /// The shard owes little again.
    Paid(ShardId),
    /// Show this line, which is part of a trace.
    ShowLine(String),
    /// Show what was queued for a connection.
    Trace { conn: ConnId, line: Vec<u8>, payload: Vec<u8>, header_len: usize },
    /// Tell all other shards of interest, and how many subscriptions stand behind it.
    Tell(Interest, u32),
    /// Give these messages to a shard.
    Deliver(ShardId, Arc<Batch>),
    /// Give this message back: its queue group has nobody here.
    Bounce(ShardId, Arc<Batch>),
    /// Tell the publisher's shard that its request reached nobody here.
    Unreached(ShardId, Arc<Batch>),
    /// Tell a shard that so many bytes are dealt with.
    Credit(ShardId, usize),
    /// Hold a publisher of another shard.
    StallRemote(ShardId, ConnId),
    /// Tell another shard the next thing that a machine of this one has to say there.
    Speak(ShardId, Speaker),
}

/// The effects so far, and the batch that is still open behind them.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    queue: VecDeque<Effect>,
    open: Option<(ShardId, Batch)>,
    /// What waits until all else is said: only with a planted bug.
    late: Vec<Effect>,
}

impl Effects {
    pub(super) fn poll(&mut self) -> Option<Effect> {
        if self.queue.is_empty() {
            self.close_batch();
            if self.queue.is_empty() {
                self.queue.extend(self.late.drain(..));
            }
        }
        self.queue.pop_front()
    }

    /// Says something that concerns this shard alone.
    pub(super) fn here(&mut self, effect: Effect) {
        self.queue.push_back(effect);
    }

    /// Says something to another shard: whatever was said before must get there first.
    pub(super) fn elsewhere(&mut self, effect: Effect, late: bool) {
        if late {
            return self.late.push(effect);
        }
        self.close_batch();
        self.queue.push_back(effect);
    }

    /// Adds a message to the batch for `shard`, and returns what it added to that shard's debt.
    ///
    /// A batch for somebody else is closed first: `shard` might react to this message, and its reaction reach the
    /// other shard before the message that was published earlier.
    pub(super) fn deliver<'q>(
        &mut self,
        shard: ShardId,
        head: Head,
        message: &Message<'_>,
        queues: impl Iterator<Item = &'q [u8]>,
    ) -> usize {
        if self.open.as_ref().is_some_and(|(target, _)| *target != shard) {
            self.close_batch();
        }
        let (_, batch) = self.open.get_or_insert_with(|| (shard, Batch::default()));
        let before = batch.weight();
        batch.push(head, message, queues);
        batch.weight() - before
    }

    /// Says who published the message that was just added to a batch.
    pub(super) fn describe(&mut self, client: Option<&Arc<ClientDescription>>) {
        if let (Some((_, batch)), Some(client)) = (&mut self.open, client) {
            batch.describe_last(client);
        }
    }

    /// Gives one message back to the shard that it came from.
    pub(super) fn bounce<'q>(
        &mut self,
        shard: ShardId,
        head: Head,
        (message, client): (&Message<'_>, Option<&Arc<ClientDescription>>),
        queues: impl Iterator<Item = &'q [u8]>,
    ) {
        let mut batch = Batch::default();
        batch.push(head, message, queues);
        if let Some(client) = client {
            batch.describe_last(client);
        }
        self.elsewhere(Effect::Bounce(shard, Arc::new(batch)), false);
    }

    /// Tells the publisher's shard that a request found nobody; its payload stays here.
    pub(super) fn unreached(&mut self, shard: ShardId, head: Head, message: &Message<'_>) {
        debug_assert_ne!(head.request, Request::No);
        let mut batch = Batch::default();
        let bare = Message { header_len: 0, payload: super::Payload::Small(&[]), ..*message };
        batch.push(head, &bare, std::iter::empty());
        self.elsewhere(Effect::Unreached(shard, Arc::new(batch)), false);
    }

    /// Has the connection's bytes flushed, unless that was asked before and not all are written yet.
    pub(super) fn flush(&mut self, client: &mut Client) {
        if !client.flush_asked && client.doomed.is_none() && client.outbound.pending() > 0 {
            client.flush_asked = true;
            self.queue.push_back(Effect::Flush(client.id));
        }
    }

    /// Has the connection closed, unless it is doomed already.
    pub(super) fn doom(&mut self, client: &mut Client, reason: ClosedReason) {
        if client.doomed.is_none() {
            client.doomed = Some(reason);
            self.queue.push_back(Effect::Doom(client.id));
        }
    }

    fn close_batch(&mut self) {
        if let Some((shard, batch)) = self.open.take() {
            self.queue.push_back(Effect::Deliver(shard, Arc::new(batch)));
        }
    }
}
