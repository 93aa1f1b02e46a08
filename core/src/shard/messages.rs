//! What other shards say.

use super::Shard;
use super::mailbox::ShardMessage;
use crate::connection::client::Parked;
use crate::delivery::Interest;
use crate::ids::ShardId;
use crate::time::Now;

impl Shard {
    pub(super) fn shard_says(&mut self, now: Now, message: ShardMessage) {
        match message {
            ShardMessage::Deliver { from, batch } => self.exchange.deliver_batch(now.instant, from, &batch),
            ShardMessage::Interest { from, account, subject, queue, weight } => {
                self.exchange.remote_interest(from, &Interest { account, subject, queue }, weight);
            }
            ShardMessage::Credit { from, bytes } => self.exchange.credited(from, bytes),
            ShardMessage::Bounced { batch } => self.exchange.bounced(now.instant, &batch),
            ShardMessage::Unreached { batch } => self.exchange.unreached(&batch),
            ShardMessage::Stall { origin } => self.stall(now, origin),
            ShardMessage::Admit { from, conn } => self.admit_for(from, conn),
            ShardMessage::Admitted { conn, cid, within_limit } => {
                self.admitted(now, conn, cid, within_limit);
            }
            ShardMessage::Enter { from, conn, account } => self.enter_for(from, conn, account),
            ShardMessage::Entered { conn, account, within_limit } => {
                self.entered(now, conn, account, within_limit);
                self.unpark(now, conn, Parked::Account);
            }
            ShardMessage::Leave { account } => self.leave(account),
            ShardMessage::Left => self.left(),
            ShardMessage::JetStream(message) => self.engines_told(message),
            ShardMessage::OpenStores { folders } => self.open_stores(now, folders),
            ShardMessage::Listening { address } => {
                // The home shard says what is wrong with an address that is none.
                self.reached_at = self.reached_at(address.port()).ok();
            }
        }
    }

    /// A shard owes little again: whoever waited for that goes on.
    pub(super) fn paid(&mut self, shard: ShardId) {
        let (go_on, wait): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.owed).into_iter().partition(|(_, owes)| *owes == shard);
        self.owed = wait;
        for (conn, _) in go_on {
            let held =
                self.exchange.clients.get(conn).is_some_and(|client| client.parked == Some(Parked::Owed));
            // It goes on in a tick of its own: this `handle` has work enough.
            if held && let Some(client) = self.exchange.clients.get_mut(conn) {
                client.parked = Some(Parked::Backlog);
                self.backlog.push_back(conn);
            }
        }
    }
}
