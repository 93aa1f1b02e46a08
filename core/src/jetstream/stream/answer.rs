//! What goes out for a message: acknowledgements, errors, what is published again.

use bytes::{Bytes, BytesMut};

use super::super::api::error::ApiError;
use super::super::context::Outgoing;
use super::Stream;
use super::flight::{Republishing, Storing};
use super::settings::{Republish, Settings};
use crate::planted::{self, Bug};
use crate::protocol::headers;

/// Answers are written one behind the other into blocks of this many bytes.
const BLOCK: usize = 16 << 10;

/// Writes answers without an allocation for each.
#[derive(Debug, Default)]
pub(super) struct Answers {
    one: Vec<u8>,
    block: BytesMut,
}

impl Answers {
    fn write(&mut self, with: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        self.one.clear();
        with(&mut self.one);
        if self.block.capacity() < self.one.len() {
            self.block.reserve(BLOCK.max(self.one.len()));
        }
        self.block.extend_from_slice(&self.one);
        self.block.split().freeze()
    }
}

impl Settings {
    fn answers(&self, reply: &[u8]) -> bool {
        !self.no_ack && !reply.is_empty()
    }
}

impl Stream {
    /// Answers a message that isn't stored.
    pub(super) fn answer_error(&mut self, out: &mut Vec<Outgoing>, reply: Bytes, error: &ApiError) {
        if self.settings.answers(&reply) {
            let payload = self.answers.write(|out| self.settings.ack.write_error(error, out));
            out.push(Outgoing { to: reply, payload, ..Outgoing::default() });
        }
    }

    /// Answers a message that came faster than the stream can take it, whether or not the stream acknowledges.
    pub(super) fn answer_too_many(&mut self, out: &mut Vec<Outgoing>, reply: Bytes) {
        if reply.is_empty() {
            return;
        }
        let mut block = Vec::new();
        headers::status(&mut block, 429, "Too Many Requests");
        let error = super::ErrorKind::StreamTooManyRequests.error();
        let payload = self.answers.write(|out| self.settings.ack.write_error(&error, out));
        out.push(Outgoing { to: reply, headers: block.into(), payload, ..Outgoing::default() });
    }

    /// Answers a message that was stored before: now, or when the first one is.
    pub(super) fn answer_duplicate(&mut self, out: &mut Vec<Outgoing>, reply: Bytes, sequence: u64) {
        if !self.settings.answers(&reply) {
            return;
        }
        if self.head.is_pending(sequence) {
            self.duplicates.entry(sequence).or_default().push(reply);
            return;
        }
        let payload = self.answers.write(|out| self.settings.ack.write_duplicate(sequence, out));
        out.push(Outgoing { to: reply, payload, ..Outgoing::default() });
    }

    /// Says at which sequence a message is stored.
    pub(super) fn answer_sequence(&mut self, out: &mut Vec<Outgoing>, reply: Bytes, sequence: u64) {
        if self.settings.answers(&reply) {
            let payload = self.answers.write(|out| self.settings.ack.write(sequence, out));
            out.push(Outgoing { to: reply, payload, ..Outgoing::default() });
        }
    }

    /// Says what is to be said of a message that is stored: to those who follow, to who sent it, to who sent it again.
    pub(super) fn answer_stored(&mut self, out: &mut Vec<Outgoing>, storing: Storing) {
        let Storing { sequence, subject, reply, republishing, failed, .. } = storing;
        if let Some(again) = republishing {
            let headers_only =
                self.settings.republish.as_ref().is_some_and(|Republish { headers_only, .. }| *headers_only);
            out.push(republished(&self.settings, *again, &subject, sequence, headers_only));
        }
        let duplicates = self.duplicates.remove(&sequence).unwrap_or_default();
        if let Some(error) = failed {
            std::iter::once(reply).chain(duplicates).for_each(|reply| self.answer_error(out, reply, &error));
            return;
        }
        let told = if planted::bug(Bug::JsAckOfNewest) { self.head.last() } else { sequence };
        self.answer_sequence(out, reply, told);
        duplicates.into_iter().for_each(|reply| self.answer_duplicate(out, reply, sequence));
    }
}

/// Makes what is published again of a stored message.
fn republished(
    settings: &Settings,
    again: Republishing,
    subject: &[u8],
    sequence: u64,
    headers_only: bool,
) -> Outgoing {
    let mut block = again.headers.to_vec();
    let mut number = itoa::Buffer::new();
    headers::add(&mut block, b"Nats-Stream", &settings.name);
    headers::add(&mut block, b"Nats-Subject", subject);
    headers::add(&mut block, b"Nats-Sequence", number.format(sequence).as_bytes());
    headers::add(&mut block, b"Nats-Time-Stamp", again.time.to_string().as_bytes());
    headers::add(&mut block, b"Nats-Last-Sequence", number.format(again.last_sequence).as_bytes());
    let payload = match headers_only {
        true => {
            headers::add(&mut block, b"Nats-Msg-Size", number.format(again.payload.len()).as_bytes());
            Bytes::new()
        }
        false => again.payload,
    };
    Outgoing { to: again.to, headers: block.into(), payload, ..Outgoing::default() }
}
