//! What is due when.
//!
//! Each connection has at most a few entries in one heap, and knows the earliest (`Client::armed`). A deadline that
//! moves further away leaves its entry where it is: when that comes up, the connection is asked again. So traffic,
//! which postpones deadlines all the time, costs the heap nothing.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::io::LogLevel;
use super::{Shard, Stage};
use crate::connection::ClosedReason;
use crate::connection::client::{Overdue, Parked, Phase};
use crate::connection::keepalive;
use crate::ids::ConnId;
use crate::planted::{Bug, bug};
use crate::protocol::encode;
use crate::time::{Instant, Now};

/// Connections whose deadlines one tick looks at.
const DUE_AT_ONCE: usize = 1_000;

#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, ConnId)>>,
}

impl Timers {
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    fn pop_due(&mut self, now: Instant) -> Option<(Instant, ConnId)> {
        let due = self.next()? <= now;
        due.then(|| self.heap.pop().map(|Reverse(entry)| entry)).flatten()
    }
}

impl Shard {
    /// Makes sure that a tick comes when the connection next needs one.
    pub(super) fn arm(&mut self, conn: ConnId) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let Some(due) = client.deadline() else { return };
        if client.armed.is_none_or(|armed| due < armed) {
            client.armed = Some(due);
            self.timers.heap.push(Reverse((due, conn)));
        }
    }

    pub(super) fn tick(&mut self, now: Now) {
        self.exchange.remove_leaving();
        // Connections that are put back while this runs wait for the next tick.
        for _ in 0..self.backlog.len() {
            let Some(conn) = self.backlog.pop_front() else { break };
            self.unpark(now, conn, Parked::Backlog);
        }
        for _ in 0..DUE_AT_ONCE {
            let Some((due, conn)) = self.timers.pop_due(now.instant) else { break };
            let Some(client) = self.exchange.clients.get_mut(conn) else { continue };
            if client.armed == Some(due) {
                client.armed = None;
                self.connection_due(now, conn);
                self.arm(conn);
            }
        }
        if let Some(rejected) = self.tls_throttle.as_mut().and_then(|throttle| throttle.report(now.instant)) {
            let text = format!("Rejected {rejected} connections due to TLS rate limiting");
            self.log(LogLevel::Warn, text);
        }
        if let Stage::LameDuck { next_close, .. } = self.stage
            && next_close <= now.instant
        {
            self.close_next(now);
        }
    }

    fn connection_due(&mut self, now: Now, conn: ConnId) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        if client.auth_deadline.is_some_and(|due| due <= now.instant) {
            client.auth_deadline = None;
            self.refuse(conn, "Authentication Timeout", ClosedReason::AuthenticationTimeout);
            return;
        }
        if matches!(client.phase, Phase::TlsFirst { info_at: due } if due <= now.instant) {
            self.tls_first_given_up(now, conn);
            return;
        }
        match client.write_overdue(now.instant, self.settings.write_deadline) {
            Overdue::No => {}
            Overdue::Slow if self.settings.retries_writes => {
                client.mark_write(now.instant, self.settings.write_deadline);
                self.exchange.totals.slow_consumers += 1;
                self.tell_write_deadline(conn);
            }
            Overdue::Slow | Overdue::Stuck => {
                self.exchange.totals.slow_consumers += 1;
                self.exchange.doom(conn, ClosedReason::SlowConsumerWriteDeadline);
                return;
            }
        }
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        if matches!(client.parked, Some(Parked::Stalled { until }) if until <= now.instant) {
            let until = now.instant;
            if !bug(Bug::StalledForever) {
                self.unpark(now, conn, Parked::Stalled { until });
            }
        }
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let Some(keepalive) = &mut client.keepalive else { return };
        keepalive.handle_timeout(now.instant);
        match keepalive.poll_output() {
            Some(keepalive::Output::Ping) => self.exchange.send(conn, encode::PING),
            Some(keepalive::Output::Stale) if !bug(Bug::StaleNeverClosed) => {
                self.send_error(conn, "Stale Connection");
                self.exchange.doom(conn, ClosedReason::StaleConnection);
            }
            _ => {}
        }
    }
}
