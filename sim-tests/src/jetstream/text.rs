//! The few words of JSON and headers that the scripts need, read without the server's own code.

/// Returns the number behind `"name":`, the first there is behind `after`.
pub(super) fn number_after(json: &str, after: &str, name: &str) -> Option<u64> {
    let rest = if after.is_empty() { json } else { &json[json.find(after)?..] };
    let key = format!("\"{name}\":");
    let rest = rest[rest.find(&key)? + key.len()..].trim_start();
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

/// Returns the number behind the first `"name":`.
pub(super) fn number(json: &str, name: &str) -> Option<u64> {
    number_after(json, "", name)
}

/// Returns the text behind the first `"name":`, which has no escapes.
pub(super) fn string<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let key = format!("\"{name}\":");
    let rest = json[json.find(&key)? + key.len()..].trim_start();
    rest.strip_prefix('"')?.split('"').next()
}

/// Returns the code of the error that an answer of the API has.
pub(super) fn error_code(json: &str) -> Option<u64> {
    json.contains("\"error\":{").then(|| number(json, "err_code").unwrap_or(0))
}

/// Returns the status of a header block; `None` for headers of a message.
pub(super) fn status(headers: &[u8]) -> Option<u16> {
    let digits = headers.strip_prefix(b"NATS/1.0 ")?.get(..3)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Returns the value of a header.
pub(super) fn header<'a>(headers: &'a [u8], name: &str) -> Option<&'a str> {
    let text = std::str::from_utf8(headers).ok()?;
    text.split("\r\n").find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// What the subject says that a delivered message is acknowledged to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AckReply {
    /// For the how manieth time it is delivered.
    pub(super) count: u64,
    /// The stream's sequence.
    pub(super) sequence: u64,
    /// The consumer's sequence.
    pub(super) delivery: u64,
    /// How many messages are left.
    pub(super) pending: u64,
}

/// Reads `$JS.ACK.<stream>.<consumer>.<count>.<sequence>.<delivery>.<time>.<pending>`.
pub(super) fn ack_reply(subject: &[u8]) -> Option<(&str, &str, AckReply)> {
    let text = std::str::from_utf8(subject).ok()?.strip_prefix("$JS.ACK.")?;
    let mut tokens = text.split('.');
    let (stream, consumer) = (tokens.next()?, tokens.next()?);
    let mut number = || tokens.next()?.parse().ok();
    let (count, sequence, delivery) = (number()?, number()?, number()?);
    let _time: u64 = number()?;
    Some((stream, consumer, AckReply { count, sequence, delivery, pending: number()? }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_server_says() {
        let json =
            r#"{"type":"x","delivered":{"consumer_seq":3,"stream_seq":9},"ack_floor":{"stream_seq":4}}"#;
        assert_eq!(number_after(json, "\"delivered\"", "stream_seq"), Some(9));
        assert_eq!(number_after(json, "\"ack_floor\"", "stream_seq"), Some(4));
        assert_eq!(string(r#"{"a":1,"to": "x.y"}"#, "to"), Some("x.y"));
        assert_eq!(error_code(r#"{"error":{"code":404,"err_code":10059,"description":"x"}}"#), Some(10059));
        assert_eq!(status(b"NATS/1.0 408 Request Timeout\r\n\r\n"), Some(408));
        assert_eq!(status(b"NATS/1.0\r\nA: b\r\n\r\n"), None);
        assert_eq!(header(b"NATS/1.0\r\nNats-Sequence: 7\r\n\r\n", "Nats-Sequence"), Some("7"));
        let (stream, consumer, reply) = ack_reply(b"$JS.ACK.S0.C1.2.30.4.17.5").expect("is one");
        assert_eq!((stream, consumer), ("S0", "C1"));
        assert_eq!(reply, AckReply { count: 2, sequence: 30, delivery: 4, pending: 5 });
    }
}
