//! Subject delete markers (ADR-43): what is left where the last message of a subject expired, so that who watches the
//! subject learns of it.
//!
//! A ledger says which messages are due, and which of them are the last of their subject
//! ([`Due`](crate::storage::ledger::Due)). The stream looks at such a message: a marker is removed as any other is; anything else stays
//! until a marker takes its place, as a rollup of the subject. So there is no moment at which neither is there, and a proposal
//! that is lost is made again. It is the stream that holds a marker back when a message of that subject is on its way: what is
//! due is asked again then, and the old message is one among others.

use bytes::Bytes;

use crate::config::format_duration;
use crate::protocol::headers;
use crate::storage::change::NewMessage;
use crate::time::{Duration, WallTime};

/// Tells whether a message with these headers is a marker itself: one of these, or a purge of a key-value bucket.
///
/// Source: nats-server `server/sdm.go`, `isSubjectDeleteMarker`.
pub fn is_delete_marker(block: &[u8]) -> bool {
    headers::get(block, b"Nats-Marker-Reason").is_some_and(|reason| !reason.is_empty())
        || headers::get(block, b"KV-Operation") == Some(b"PURGE")
}

/// Makes the marker of a subject whose last message got too old. It lives for `ttl`, in whole seconds, and takes the place of
/// what the subject has.
///
/// Source: nats-server `server/filestore.go`, `handleRemovalOrSdm`.
pub fn delete_marker(subject: Bytes, ttl: Duration, time: WallTime) -> NewMessage {
    let seconds = ttl.as_secs();
    let nanos = i64::try_from(seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX);
    let mut block = Vec::new();
    headers::add(&mut block, b"Nats-Marker-Reason", b"MaxAge");
    headers::add(&mut block, b"Nats-TTL", format_duration(nanos).as_bytes());
    headers::add(&mut block, b"Nats-Rollup", b"sub");
    NewMessage { time, subject, headers: block.into(), ttl: seconds, rollup: true, ..NewMessage::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_says_why_and_is_known_for_one() {
        let marker = delete_marker(Bytes::from_static(b"kv.a"), Duration::from_secs(90), WallTime::default());
        let said = b"NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 1m30s\r\nNats-Rollup: sub\r\n\r\n";
        assert_eq!((&marker.headers[..], marker.ttl, marker.rollup), (&said[..], 90, true));
        assert!(is_delete_marker(&marker.headers));
        assert!(is_delete_marker(b"NATS/1.0\r\nKV-Operation: PURGE\r\n\r\n"));
        for other in
            [&b""[..], b"NATS/1.0\r\nKV-Operation: DEL\r\n\r\n", b"NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"]
        {
            assert!(!is_delete_marker(other));
        }
    }
}
