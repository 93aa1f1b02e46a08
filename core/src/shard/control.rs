//! What somebody outside the protocol wants: monitoring, lame duck mode, shutdown.

use std::time::Duration;

use super::describe::{Described, facts};
use super::home::Home;
use super::io::{LogLevel, Output};
use super::{Shard, Stage};
use crate::connection::ClosedReason;
use crate::ids::ConnId;
use crate::jetstream::report::Report;
use crate::monitoring::{
    ConnzPart, ControlReply, ControlRequest, ShardStats, SubszOptions, SubszPart, SubszStats, Traffic,
};
use crate::time::Now;

impl Shard {
    pub(super) fn control(&mut self, now: Now, id: u64, request: &ControlRequest) {
        let reply = match request {
            ControlRequest::Varz => ControlReply::Varz(Box::new(self.counted())),
            ControlRequest::Connz(options) => {
                let exchange = &self.exchange;
                let open = exchange.clients.iter().filter(|client| client.cid != 0);
                let described = open.map(|client| Described { client, exchange });
                ControlReply::Connz(ConnzPart::gather(options, now.wall, described, &self.closed))
            }
            ControlRequest::Subsz(options) => ControlReply::Subsz(self.subsz(options)),
            ControlRequest::Jsz(detail) => {
                let exchange = &mut self.exchange;
                let reports = self.jetstream.iter_mut().map(|own| own.report(now, exchange, detail));
                ControlReply::Jsz(reports.reduce(Report::merge).map(Box::new))
            }
            ControlRequest::LameDuck => {
                self.lame_duck(now);
                ControlReply::Done
            }
            ControlRequest::Shutdown => {
                self.shut_down(now);
                ControlReply::Done
            }
        };
        self.outputs.push_back(Output::ControlReply { id, reply });
    }

    fn counted(&self) -> ShardStats {
        let totals = &self.exchange.totals;
        ShardStats {
            connections: self.exchange.clients.len() as u64,
            traffic: Traffic {
                in_msgs: totals.received.messages,
                in_bytes: totals.received.bytes,
                out_msgs: totals.sent.messages,
                out_bytes: totals.sent.bytes,
            },
            slow_consumers: totals.slow_consumers,
            stalled_clients: totals.stalls,
            subscriptions: self.exchange.subscriptions.len() as u64,
            ..self.stats
        }
    }

    fn subsz(&self, options: &SubszOptions) -> SubszPart {
        let mut part = SubszPart::default();
        // An account's sublist has other shards' interest in it too, which counts where it comes from.
        let mut own = vec![0; self.exchange.accounts.len()];
        for (_, subscription) in &self.exchange.subscriptions {
            own[subscription.account as usize] += 1;
        }
        let accounts = self.exchange.accounts.iter().zip(own);
        for (account, subscriptions) in accounts.filter(|(account, _)| options.wants_account(&account.name)) {
            let stats = account.sublist.stats();
            part.add_stats(&SubszStats {
                subscriptions,
                cached: stats.cache_entries,
                inserts: stats.inserts,
                removes: stats.removes,
                matches: stats.matches,
                cache_hits: stats.cache_hits,
                max_fanout: stats.max_fanout,
                total_fanout: stats.total_fanout,
            });
        }
        if options.subscriptions {
            for (_, subscription) in &self.exchange.subscriptions {
                let account = &self.exchange.accounts[subscription.account as usize].name;
                if let Some(client) = self.exchange.clients.get(subscription.conn)
                    && options.wants_account(account)
                {
                    part.add_subscription(options, facts(subscription), client.cid, account);
                }
            }
        }
        part
    }

    /// Accepts nobody any more, tells the clients to go elsewhere, and closes those that stay one after the other.
    ///
    /// Source: nats-server `server/server.go`, `lameDuckMode`.
    fn lame_duck(&mut self, now: Now) {
        if self.stage != Stage::Running {
            return;
        }
        if self.home.is_some() {
            self.log(LogLevel::Info, "Entering lame duck mode, stop accepting new clients");
            self.stop_listening();
        }
        let duration = self.settings.lame_duck_duration.saturating_sub(self.settings.lame_duck_grace);
        let connections = u32::try_from(self.exchange.clients.len()).unwrap_or(u32::MAX).max(1);
        let every = (duration / connections).clamp(Duration::from_millis(1), Duration::from_secs(1));
        self.stage = Stage::LameDuck {
            next_close: now.instant + self.settings.lame_duck_grace,
            every,
            closing: false,
        };
        let told: Vec<ConnId> = self
            .exchange
            .clients
            .iter()
            .filter(|client| client.connected && client.wants_info)
            .map(|client| client.id)
            .collect();
        for conn in told {
            self.send_info(conn, false);
        }
        self.stop_if_empty();
    }

    /// Closes one connection of a shard in lame duck mode.
    pub(super) fn close_next(&mut self, now: Now) {
        if let Stage::LameDuck { every, closing, .. } = self.stage {
            if !closing && self.home.is_some() {
                self.log(LogLevel::Info, "Closing existing clients");
            }
            self.stage = Stage::LameDuck { next_close: now.instant + every, every, closing: true };
        }
        let next = self.exchange.clients.iter().map(|client| client.id).next();
        match next {
            Some(conn) => self.exchange.doom(conn, ClosedReason::ServerShutdown),
            None => self.stop_if_empty(),
        }
    }

    fn shut_down(&mut self, now: Now) {
        if self.stage == Stage::Stopped {
            return;
        }
        for jetstream in &mut self.jetstream {
            jetstream.shut_down(now, &mut self.exchange);
        }
        self.stop_listening();
        self.stage =
            Stage::LameDuck { next_close: crate::time::Instant::MAX, every: Duration::ZERO, closing: true };
        let all: Vec<ConnId> = self.exchange.clients.iter().map(|client| client.id).collect();
        for conn in all {
            self.exchange.doom(conn, ClosedReason::ServerShutdown);
        }
        self.stop_if_empty();
    }

    /// Says that the shard is done, once it is on its way out and has no connection left.
    ///
    /// The home shard stays until the server's connections begin to be closed, which it is that logs it.
    pub(super) fn stop_if_empty(&mut self) {
        let Stage::LameDuck { closing, .. } = self.stage else { return };
        let waits = !closing && self.home.as_ref().is_some_and(Home::has_connections);
        if self.exchange.clients.len() == 0 && !waits {
            self.stage = Stage::Stopped;
            self.outputs.push_back(Output::Stopped);
        }
    }
}
