//! What a consumer says in place of a message: statuses, as header blocks without a payload.
//!
//! Source of the texts: nats-server `server/consumer.go`.

use bytes::Bytes;

use crate::protocol::headers;

/// A block that is only a status.
pub(super) fn status(code: u16, description: &str) -> Bytes {
    let mut block = Vec::with_capacity(description.len() + 18);
    headers::status(&mut block, code, description);
    block.into()
}

/// A status that says what a request did not get.
pub(super) fn with_pending(code: u16, description: &str, messages: i64, bytes: i64) -> Bytes {
    let mut block = Vec::with_capacity(description.len() + 80);
    headers::status(&mut block, code, description);
    add_number(&mut block, b"Nats-Pending-Messages", messages);
    add_number(&mut block, b"Nats-Pending-Bytes", bytes);
    block.into()
}

/// A sign of life: what was delivered last, and what a stalled subscriber has to answer first.
pub(super) fn idle_heartbeat(consumer: u64, stream: u64, stalled: Option<&[u8]>) -> Bytes {
    let mut block = Vec::with_capacity(120);
    headers::status(&mut block, 100, "Idle Heartbeat");
    let mut number = itoa::Buffer::new();
    headers::add(&mut block, b"Nats-Last-Consumer", number.format(consumer).as_bytes());
    headers::add(&mut block, b"Nats-Last-Stream", number.format(stream).as_bytes());
    if let Some(reply) = stalled {
        headers::add(&mut block, b"Nats-Consumer-Stalled", reply);
    }
    block.into()
}

fn add_number(block: &mut Vec<u8>, key: &[u8], value: i64) {
    headers::add(block, key, itoa::Buffer::new().format(value).as_bytes());
}
