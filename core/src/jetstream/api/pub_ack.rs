//! What a publisher is answered. Written by hand: it is written for every message.

use super::error::ApiError;
use super::write::to_json;
use crate::protocol::quote::quote;

/// Writes the answers to one stream's publishers.
///
/// Shape: `{"stream":"S","seq":1}`; with a domain `{"stream":"S","domain":"D","seq":1}`.
///
/// Source: nats-server `server/stream.go`, the template `pubAck` and what is appended to it.
#[derive(Clone, Debug)]
pub struct PubAckTemplate {
    prefix: Vec<u8>,
    stream: String,
}

impl PubAckTemplate {
    /// Makes the template of a stream; an empty domain is none.
    pub fn new(stream: &str, domain: &str) -> Self {
        let name = quote(stream.as_bytes());
        let prefix = match domain {
            "" => format!(r#"{{"stream":{name},"seq":"#),
            domain => format!(r#"{{"stream":{name},"domain":{},"seq":"#, quote(domain.as_bytes())),
        };
        PubAckTemplate { prefix: prefix.into_bytes(), stream: stream.to_owned() }
    }

    /// Appends the answer to a message that was stored as `sequence`.
    pub fn write(&self, sequence: u64, out: &mut Vec<u8>) {
        self.write_open(sequence, out);
        out.push(b'}');
    }

    /// Appends the answer to a message that is there already, as `sequence`.
    pub fn write_duplicate(&self, sequence: u64, out: &mut Vec<u8>) {
        self.write_open(sequence, out);
        out.extend_from_slice(br#","duplicate": true}"#);
    }

    /// Appends the answer to a message that was not stored.
    pub fn write_error(&self, error: &ApiError, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"error":"#);
        out.extend_from_slice(&to_json(error));
        out.extend_from_slice(br#","stream":"#);
        out.extend_from_slice(&to_json(&self.stream));
        out.extend_from_slice(br#","seq":0}"#);
    }

    /// Appends the answer to the last message of a batch of `count`, which was stored as `sequence`.
    pub fn write_batch(&self, sequence: u64, batch: &str, count: u64, out: &mut Vec<u8>) {
        self.write_open(sequence, out);
        out.extend_from_slice(
            format!(r#","batch":{},"count":{count}}}"#, quote(batch.as_bytes())).as_bytes(),
        );
    }

    /// Appends the answer to an addition to a counter, which is now `value`.
    pub fn write_counter(&self, sequence: u64, value: &str, out: &mut Vec<u8>) {
        self.write_open(sequence, out);
        out.extend_from_slice(format!(r#","val":{}}}"#, quote(value.as_bytes())).as_bytes());
    }

    fn write_open(&self, sequence: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.prefix);
        out.extend_from_slice(itoa::Buffer::new().format(sequence).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jetstream::api::error::ErrorKind;

    fn written(domain: &str, write: impl FnOnce(&PubAckTemplate, &mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&PubAckTemplate::new("S", domain), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// The first, third and fourth are answers of the Go server.
    #[test]
    fn answers_are_the_reference_s() {
        assert_eq!(written("", |ack, out| ack.write(1, out)), r#"{"stream":"S","seq":1}"#);
        assert_eq!(written("hub", |ack, out| ack.write(1, out)), r#"{"stream":"S","domain":"hub","seq":1}"#);
        assert_eq!(
            written("", |ack, out| ack.write_duplicate(u64::MAX, out)),
            r#"{"stream":"S","seq":18446744073709551615,"duplicate": true}"#
        );
        assert_eq!(
            written("hub", |ack, out| ack.write_error(&ErrorKind::StreamNotMatch.error(), out)),
            r#"{"error":{"code":400,"err_code":10060,"description":"expected stream does not match"},"stream":"S","seq":0}"#
        );
        assert_eq!(
            written("", |ack, out| ack.write_batch(7, "b\"1", 3, out)),
            r#"{"stream":"S","seq":7,"batch":"b\"1","count":3}"#
        );
        assert_eq!(
            written("", |ack, out| ack.write_counter(7, "-3", out)),
            r#"{"stream":"S","seq":7,"val":"-3"}"#
        );
    }
}
