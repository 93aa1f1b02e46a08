//! Bytes to operations.
//!
//! What a read brought lies behind the connection's unfinished bytes in one slice. Operations are taken off its
//! front until it ends in the middle of one, or the connection is parked; the rest is kept.

use std::sync::Arc;

use super::Shard;
use super::io::Output;
use crate::auth::authenticator::Refusal;
use crate::connection::ClosedReason;
use crate::connection::chunk::Chunk;
use crate::connection::client::{LargeMessage, Parked};
use crate::connection::outbound::SHARE_FROM;
use crate::connection::read_block::OwnBuffer;
use crate::delivery::{Message, Payload};
use crate::ids::ConnId;
use crate::protocol::client::{
    ClientFrame, ParseLimits, Parsed, PublishLine, parse, parse_publish, split_payload,
};
use crate::time::Now;

/// A payload that misses more than this many bytes is read into a buffer of its own.
const OWN_BUFFER_FROM: usize = 32 * 1024;
/// Deliveries that one `handle` makes before the rest of its bytes waits for the next.
const DELIVERIES_AT_ONCE: u64 = 20_000;

/// How far an operation got.
enum Step {
    /// It took so many bytes.
    Took(usize),
    /// It isn't whole yet.
    Incomplete,
    /// The connection is doomed, or its rest is in a buffer of its own.
    Ended,
}

impl Shard {
    pub(super) fn received(&mut self, now: Now, conn: ConnId, n: usize) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        if n == 0 {
            self.exchange.doom(conn, ClosedReason::ClientClosed);
            return;
        }
        client.may_stall = true;
        if let Some(large) = &mut client.large {
            if large.buffer.advance(n) {
                self.large_message(now, conn);
            }
            return;
        }
        let (block, start, end) = match client.reads_into_unfinished.take() {
            Some(kept) => {
                let mut bytes = std::mem::take(&mut client.unfinished);
                bytes.truncate(kept + n);
                let end = bytes.len();
                (Arc::new(bytes), 0, end)
            }
            None => {
                let filled = self.read.filled(client.unfinished.len(), n);
                client.unfinished.clear();
                filled
            }
        };
        if self.tls_or_plain(now, conn, &block[start..end]) {
            self.process(now, conn, &block, start, end);
        }
    }

    /// Goes on with a connection that was parked for this reason.
    pub(super) fn unpark(&mut self, now: Now, conn: ConnId, reason: Parked) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        let parked = client.parked.take();
        debug_assert_eq!(
            parked.map(|parked| std::mem::discriminant(&parked)),
            Some(std::mem::discriminant(&reason))
        );
        client.forget_target();
        let first = reason == Parked::Admission;
        if !client.unfinished.is_empty() {
            let bytes = Arc::new(std::mem::take(&mut client.unfinished));
            if self.tls_or_plain(now, conn, &bytes) {
                self.process(now, conn, &bytes, 0, bytes.len());
            }
        }
        let open = self.exchange.clients.get(conn).is_some_and(|client| client.parked.is_none());
        if open && !(first && self.home.is_some()) {
            self.outputs.push_back(Output::ResumeReading { conn });
        }
    }

    /// Has no more read from a connection for now.
    pub(super) fn park(&mut self, conn: ConnId, reason: Parked) {
        let Some(client) = self.exchange.clients.get_mut(conn) else { return };
        if client.parked.is_some() || client.doomed.is_some() {
            return;
        }
        client.parked = Some(reason);
        if reason == Parked::Backlog {
            self.backlog.push_back(conn);
        }
        self.outputs.push_back(Output::PauseReading { conn });
        self.arm(conn);
    }

    /// Does what `block[start..end]` says, and keeps what is left.
    fn process(&mut self, now: Now, conn: ConnId, block: &Arc<Vec<u8>>, start: usize, end: usize) {
        let mut at = start;
        let limit = self.exchange.totals.sent.messages + DELIVERIES_AT_ONCE;
        // A message of another shard may have parked it between the read and now.
        let client = self.exchange.clients.get(conn);
        let parked = client.is_some_and(|client| client.parked.is_some());
        let published = client.map_or(0, |client| client.received.messages);
        while at < end && !parked {
            match self.step(now, conn, block, at, end) {
                Step::Took(n) => at += n,
                Step::Incomplete => break,
                Step::Ended => return,
            }
            let Some(client) = self.exchange.clients.get(conn) else { return };
            if client.doomed.is_some() {
                return;
            }
            if client.parked.is_some() {
                break;
            }
            if self.exchange.totals.sent.messages >= limit
                && at < end
                && !crate::planted::bug(crate::planted::Bug::UnboundedHandle)
            {
                self.park(conn, Parked::Backlog);
                break;
            }
        }
        if let Some(client) = self.exchange.clients.get_mut(conn) {
            if client.received.messages != published {
                client.last_active = now.wall;
            }
            if at > start
                && let Some(keepalive) = &mut client.keepalive
            {
                keepalive.heard(now.instant);
            }
            if at < end && !crate::planted::bug(crate::planted::Bug::PartialLineLost) {
                client.unfinished.extend_from_slice(&block[at..end]);
            } else if client.unfinished.capacity() > 4096 {
                client.unfinished = Vec::new();
            }
        }
    }

    fn step(&mut self, now: Now, conn: ConnId, block: &Arc<Vec<u8>>, at: usize, end: usize) -> Step {
        let input = &block[at..end];
        let limits = ParseLimits { max_control_line: self.settings.max_control_line };
        let awaits_connect = self.exchange.clients.get(conn).is_none_or(super::login::awaits_connect);
        if !awaits_connect && let Some((len, line)) = parse_publish(input, &limits) {
            return match self.publish_line(now, conn, block, at + len, end, &line) {
                Step::Took(n) => Step::Took(len + n),
                other => other,
            };
        }
        if awaits_connect && !matches!(input[0], b'C' | b'c') && !self.let_in_without_connect(now, conn) {
            self.authorization_violation(conn, Refusal::Credentials);
            return Step::Ended;
        }
        match parse(input, &limits) {
            Ok(Parsed::Incomplete) => Step::Incomplete,
            Ok(Parsed::Frame { len, frame: ClientFrame::Publish(line) }) => {
                match self.publish_line(now, conn, block, at + len, end, &line) {
                    Step::Took(n) => Step::Took(len + n),
                    other => other,
                }
            }
            Ok(Parsed::Frame { len, frame }) => {
                if self.settings.trace {
                    self.trace(conn, &input[..len]);
                }
                self.operation(now, conn, &frame);
                Step::Took(len)
            }
            Err(error) => {
                self.parse_error(conn, &error, input);
                Step::Ended
            }
        }
    }

    fn publish_line(
        &mut self,
        now: Now,
        conn: ConnId,
        block: &Arc<Vec<u8>>,
        at: usize,
        end: usize,
        line: &PublishLine<'_>,
    ) -> Step {
        if !self.may_publish_line(conn, line) {
            return Step::Ended;
        }
        let input = &block[at..end];
        let body_len = line.body_len();
        let whole = input.get(line.total_len..body_len) == Some(&b"\r\n"[..]);
        match if whole { Ok(None) } else { split_payload(input, line) } {
            Ok(_) if whole => {}
            Ok(Some(_)) => unreachable!("a payload with its line end is whole"),
            Ok(None) => {
                if line.body_len() - input.len() > OWN_BUFFER_FROM {
                    let Some(client) = self.exchange.clients.get_mut(conn) else { return Step::Ended };
                    client.large = Some(Box::new(LargeMessage {
                        subject: line.subject.into(),
                        reply: line.reply.unwrap_or_default().into(),
                        header_len: line.header_len.unwrap_or(0),
                        buffer: OwnBuffer::new(line.body_len(), input),
                    }));
                    return Step::Ended;
                }
                return Step::Incomplete;
            }
            Err(error) => {
                self.parse_error(conn, &error, input);
                return Step::Ended;
            }
        }
        let payload_end = at + body_len;
        let chunk = (body_len >= SHARE_FROM && self.read.may_share())
            .then(|| Chunk::new(Arc::clone(block), at, payload_end));
        let payload = chunk.as_ref().map_or(Payload::Small(&block[at..payload_end]), Payload::Large);
        let message = Message {
            subject: line.subject,
            shown: None,
            reply: line.reply.unwrap_or_default(),
            header_len: line.header_len.unwrap_or(0),
            payload,
        };
        self.publish(now, conn, &message);
        Step::Took(body_len)
    }

    /// A payload that was read into a buffer of its own is whole.
    fn large_message(&mut self, now: Now, conn: ConnId) {
        let Some(large) = self.exchange.clients.get_mut(conn).and_then(|client| client.large.take()) else {
            return;
        };
        let LargeMessage { subject, reply, header_len, buffer } = *large;
        let chunk = buffer.into_chunk();
        if !chunk.ends_with(b"\r\n") {
            self.refuse(conn, "Unknown Protocol Operation", ClosedReason::ProtocolViolation);
            return;
        }
        let message = Message {
            subject: &subject,
            shown: None,
            reply: &reply,
            header_len,
            payload: Payload::Large(&chunk),
        };
        self.publish(now, conn, &message);
        if let Some(client) = self.exchange.clients.get_mut(conn) {
            client.last_active = now.wall;
        }
    }
}
