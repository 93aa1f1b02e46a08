//! What each operation of a client does.
//!
//! Error texts, and which of them close the connection, are the reference's (`server/client.go`).

use std::time::Duration;

use super::Shard;
use super::io::LogLevel;
use crate::auth::permissions::SubscribeVerdict;
use crate::connection::ClosedReason;
use crate::connection::client::Parked;
use crate::delivery::{Hold, Message, Publication, Published, SubscribeError};
use crate::ids::ConnId;
use crate::planted::{Bug, bug};
use crate::protocol::client::{ClientFrame, ParseError, PublishLine};
use crate::protocol::encode;
use crate::protocol::quote::quote;
use crate::subject::{is_valid_literal_subject, token_count};
use crate::time::Now;

/// How long a publisher is held when somebody whom it feeds is far behind, once for each read.
const STALL: Duration = Duration::from_millis(5);

impl Shard {
    pub(super) fn operation(&mut self, now: Now, conn: ConnId, frame: &ClientFrame<'_>) {
        if let ClientFrame::Subscribe { .. } | ClientFrame::Unsubscribe { .. } | ClientFrame::Connect(_) =
            frame
            && let Some(client) = self.exchange.clients.get_mut(conn)
        {
            client.last_active = now.wall;
        }
        match *frame {
            ClientFrame::Publish(_) => unreachable!("a publish is taken with its payload"),
            ClientFrame::Subscribe { subject, queue, sid } => self.subscribe(conn, subject, queue, sid),
            ClientFrame::Unsubscribe { sid, max } => self.unsubscribe(conn, sid, max),
            ClientFrame::Connect(json) => self.connect(now, conn, json),
            ClientFrame::Ping => self.ping(conn),
            ClientFrame::Pong => {
                if let Some(client) = self.exchange.clients.get_mut(conn)
                    && let Some(keepalive) = &mut client.keepalive
                {
                    keepalive.pong(now.instant);
                }
            }
            ClientFrame::Info(json) => {
                if let Err(error) = crate::protocol::json::Object::parse("server.Info", json) {
                    self.violation(conn, &error.to_string());
                }
            }
            ClientFrame::Ok => {}
            ClientFrame::Err(text) => {
                let text = format!("Client Error {}", String::from_utf8_lossy(text));
                self.log_client(LogLevel::Error, conn, &text);
                self.exchange.doom(conn, ClosedReason::ParseError);
            }
        }
    }

    /// Checks what can be told before the payload is there.
    pub(super) fn may_publish_line(&mut self, conn: ConnId, line: &PublishLine<'_>) -> bool {
        let Some(client) = self.exchange.clients.get(conn) else { return false };
        if line.header_len.is_some() && !client.headers {
            self.violation(conn, "message headers not supported");
            return false;
        }
        match self.settings.max_payload_of(client.account) {
            Some(max) if line.total_len > max => {
                let text = format!("maximum payload exceeded: {} vs {max}", line.total_len);
                self.log_client(LogLevel::Error, conn, &text);
                self.send_error(conn, "Maximum Payload Violation");
                self.exchange.doom(conn, ClosedReason::MaxPayloadExceeded);
                false
            }
            _ => true,
        }
    }

    /// Publishes a message that is whole.
    pub(super) fn publish(&mut self, now: Now, conn: ConnId, message: &Message<'_>) {
        let bytes = message.payload.bytes().len() - 2;
        self.exchange.totals.received.count(bytes);
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        client.received.count(bytes);
        let (account, no_responders) = (client.account, client.no_responders && !message.reply.is_empty());
        let plain =
            !client.verbose && !client.pedantic && client.permissions.is_none() && !self.settings.trace;
        let may_be_reserved = matches!(message.subject.first(), Some(b'$' | b'_'))
            || matches!(message.reply.first(), Some(b'$' | b'_'));
        if (!plain || may_be_reserved) && !self.admit_publish(now, conn, message) {
            return;
        }
        let publication = Publication { conn, account, wants_no_responders: no_responders };
        let published = self.exchange.publish(now.instant, publication, message);
        if no_responders && (published == Published::Nobody || bug(Bug::NoRespondersTooEager)) {
            self.exchange.answer_no_responders(conn, message.subject, message.reply);
        }
        match self.exchange.hold.take() {
            None => {}
            Some(Hold::Stalled) => self.stall(now, conn),
            Some(Hold::Owed(shard)) => {
                self.owed.push((conn, shard));
                self.park(conn, Parked::Owed);
            }
        }
    }

    /// Does what comes before a publish if anything does: tracing, checks, `+OK`; `false` if it isn't permitted.
    fn admit_publish(&mut self, now: Now, conn: ConnId, message: &Message<'_>) -> bool {
        if self.settings.trace {
            self.trace_publish(conn, message);
        }
        let Some(client) = self.exchange.clients.get(conn) else { return false };
        let verbose = client.verbose;
        if client.pedantic && !is_valid_literal_subject(message.subject) {
            self.send_error(conn, "Invalid Publish Subject");
        }
        if !self.publish_permitted(now, conn, message) {
            return false;
        }
        if verbose {
            self.exchange.send(conn, encode::OK);
        }
        true
    }

    /// Holds a publisher for a moment, once for each read.
    pub(super) fn stall(&mut self, now: Now, conn: ConnId) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        if std::mem::take(&mut client.may_stall) {
            self.park(conn, Parked::Stalled { until: now.instant + STALL });
        }
    }

    fn publish_permitted(&mut self, now: Now, conn: ConnId, message: &Message<'_>) -> bool {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return false };
        let subject = message.subject;
        let system = self.settings.system_account == Some(client.account);
        let permitted = (system || !subject.starts_with(b"$NRG."))
            && !subject.starts_with(b"_GR_.")
            && client.permissions.as_mut().is_none_or(|may| may.can_publish(subject, now.instant));
        if !permitted {
            let subject = quote(subject);
            self.send_error(conn, &format!("Permissions Violation for Publish to {subject}"));
            self.log_client(LogLevel::Error, conn, &format!("Publish Violation - Subject {subject}"));
            return false;
        }
        let reserved = [&b"_R_."[..], b"$GNR.", b"$GR.", b"_GR_."];
        if reserved.iter().any(|prefix| message.reply.starts_with(prefix)) {
            let reply = quote(message.reply);
            self.send_error(conn, &format!("Permissions Violation for Publish with Reply of {reply}"));
            self.log_client(LogLevel::Error, conn, &format!("Publish Violation - Reply {reply}"));
            return false;
        }
        true
    }

    fn subscribe(&mut self, conn: ConnId, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let (verbose, account) = (client.verbose, client.account);
        let permissions = client.permissions.as_deref();
        let verdict = permissions.map_or(SubscribeVerdict::Allowed, |may| may.can_subscribe(subject, queue));
        // The queue of the servers' own services: no client may take a share of it.
        if verdict == SubscribeVerdict::Denied || queue == Some(b"_sys_") {
            self.subscribe_violation(conn, subject, queue, sid);
            return;
        }
        if self.settings.max_subscription_tokens.is_some_and(|max| token_count(subject) > max) {
            let subject = quote(subject);
            let text = format!("Permissions Violation for Subscription to {subject}, too many tokens");
            self.send_error(conn, &text);
            let sid = String::from_utf8_lossy(sid);
            let text = format!("Subscription Violation Too Many Tokens - Subject {subject}, SID {sid}");
            self.log_client(LogLevel::Error, conn, &text);
            return;
        }
        let max = self.settings.max_subscriptions_of(account);
        if max.is_some_and(|max| self.exchange.subscription_count(conn) >= max) {
            self.log_client(LogLevel::Error, conn, "maximum subscriptions exceeded");
            self.send_error(conn, "maximum subscriptions exceeded");
            return;
        }
        let filtered = verdict == SubscribeVerdict::Filtered;
        match self.exchange.subscribe(conn, sid, subject, queue, filtered) {
            Err(SubscribeError::InvalidSubject) => self.send_error(conn, "Invalid Subject"),
            Ok(_) if verbose => self.exchange.send(conn, encode::OK),
            Ok(_) => {}
        }
    }

    fn subscribe_violation(&mut self, conn: ConnId, subject: &[u8], queue: Option<&[u8]>, sid: &[u8]) {
        let (subject, sid) = (quote(subject), String::from_utf8_lossy(sid).into_owned());
        let (told, logged) = match queue.map(quote) {
            None => (
                format!("Permissions Violation for Subscription to {subject}"),
                format!("Subscription Violation - Subject {subject}, SID {sid}"),
            ),
            Some(queue) => (
                format!("Permissions Violation for Subscription to {subject} using queue {queue}"),
                format!("Subscription Violation - Subject {subject}, Queue: {queue}, SID {sid}"),
            ),
        };
        self.send_error(conn, &told);
        self.log_client(LogLevel::Error, conn, &logged);
    }

    fn unsubscribe(&mut self, conn: ConnId, sid: &[u8], max: Option<u64>) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        if client.verbose {
            self.exchange.send(conn, encode::OK);
        }
        self.exchange.unsubscribe(conn, sid, max.filter(|max| *max > 0));
    }

    fn ping(&mut self, conn: ConnId) {
        self.exchange.send(conn, encode::PONG);
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        // The first PING after CONNECT is when a client is ready to hear which account it is in.
        if client.connected && !std::mem::replace(&mut client.first_pong_sent, true) && client.wants_info {
            self.send_info(conn, true);
        }
    }

    /// Closes a connection that broke the rules in a way that the reference doesn't tell it of.
    pub(super) fn violation(&mut self, conn: ConnId, text: &str) {
        self.log_client(LogLevel::Error, conn, text);
        self.exchange.doom(conn, ClosedReason::ProtocolViolation);
    }

    pub(super) fn parse_error(&mut self, conn: ConnId, error: &ParseError, input: &[u8]) {
        // Of an HPUB whose sender may have no headers nothing else is worth saying.
        let headers = self.exchange.clients.get(conn).is_some_and(|client| client.headers);
        if !headers && matches!(error, ParseError::Arguments { fault, .. } if fault.is_header_publish()) {
            self.violation(conn, "message headers not supported");
            return;
        }
        let text = error.log_text(input);
        self.log_client(LogLevel::Error, conn, &text);
        if let Some(told) = error.wire_text() {
            self.send_error(conn, told);
        }
        let reason = match error {
            ParseError::ControlLine { .. } => ClosedReason::MaxControlLineExceeded,
            _ => ClosedReason::ProtocolViolation,
        };
        self.exchange.doom(conn, reason);
    }
}
