//! The subject that a delivered message is acknowledged on; it also says what the message is.

use crate::config::parse_duration;
use crate::protocol::json::Object;
use crate::subject::tokens;
use crate::time::{Duration, WallTime};

/// What a message's reply subject says.
///
/// Shape, version 1: `$JS.ACK.STREAM.CONSUMER.DELIVERED.STREAM_SEQ.CONSUMER_SEQ.TIMESTAMP.PENDING`. Version 2 has the domain
/// (`_` for none) and a hash of the account before the stream, and may have more tokens at its end; it is read, and not written.
///
/// Source: nats-server `server/consumer.go`, `ackReply` and `ackReplyInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckSubject<'a> {
    /// The stream's name.
    pub stream: &'a [u8],
    /// The consumer's name.
    pub consumer: &'a [u8],
    /// How often the message was delivered, this time included.
    pub delivered: u64,
    /// Its sequence in the stream.
    pub stream_sequence: u64,
    /// The sequence of this delivery.
    pub consumer_sequence: u64,
    /// When it was stored.
    pub time: WallTime,
    /// How many messages the consumer had not delivered yet.
    pub pending: u64,
}

impl<'a> AckSubject<'a> {
    /// Appends the subject in version 1 to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"$JS.ACK.");
        out.extend_from_slice(self.stream);
        out.push(b'.');
        out.extend_from_slice(self.consumer);
        let mut number = itoa::Buffer::new();
        for value in [self.delivered, self.stream_sequence, self.consumer_sequence] {
            out.push(b'.');
            out.extend_from_slice(number.format(value).as_bytes());
        }
        out.push(b'.');
        out.extend_from_slice(number.format(self.time.as_unix_nanos()).as_bytes());
        out.push(b'.');
        out.extend_from_slice(number.format(self.pending).as_bytes());
    }

    /// Reads a subject of either version; `None` if it is neither.
    ///
    /// Differs: the reference takes a number that is none for the largest there is; here it makes the subject none.
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let count = memchr::memchr_iter(b'.', subject).count() + 1;
        let mut tokens = tokens(subject.strip_prefix(b"$JS.ACK.")?);
        match count {
            9 => {}
            11.. => {
                let _domain = tokens.next()?;
                let _account = tokens.next()?;
            }
            _ => return None,
        }
        let (stream, consumer) = (tokens.next()?, tokens.next()?);
        let mut next = || {
            let token = tokens.next()?;
            let is_number = token.iter().all(u8::is_ascii_digit);
            std::str::from_utf8(token).ok().filter(|_| is_number)?.parse::<u64>().ok()
        };
        Some(AckSubject {
            stream,
            consumer,
            delivered: next()?,
            stream_sequence: next()?,
            consumer_sequence: next()?,
            time: WallTime::from_unix_nanos(i64::try_from(next()?).ok()?),
            pending: next()?,
        })
    }
}

/// What a client says about a message that was delivered to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack<'a> {
    /// It is done.
    Ack,
    /// It shall be delivered again, as the text behind it says.
    Nak(&'a [u8]),
    /// It takes longer.
    Progress,
    /// It is done, and this is a request for more.
    Next(&'a [u8]),
    /// It shall never be delivered again, for this reason.
    Term(&'a [u8]),
}

impl<'a> Ack<'a> {
    /// Reads the payload of an acknowledgement; what is none of them is `None` and means nothing.
    ///
    /// Source: nats-server `server/consumer.go`, `processAck`.
    pub fn parse(payload: &'a [u8]) -> Option<Self> {
        match payload {
            b"" | b"+ACK" | b"+OK" => Some(Ack::Ack),
            b"+WPI" => Some(Ack::Progress),
            [b'-', b'N', b'A', b'K', rest @ ..] => Some(Ack::Nak(rest)),
            [b'+', b'N', b'X', b'T', rest @ ..] => Some(Ack::Next(rest)),
            [b'+', b'T', b'E', b'R', b'M', rest @ ..] => Some(Ack::Term(rest.trim_ascii())),
            _ => None,
        }
    }
}

/// Reads how long a message that is not acknowledged shall wait before it is delivered again: what stands behind `-NAK`, as a
/// duration or as `{"delay": nanoseconds}`. Nothing, and less than nothing, is zero.
///
/// # Errors
///
/// What is wrong with it; the message is delivered at once then.
pub fn nak_delay(argument: &[u8]) -> Result<Duration, String> {
    let argument = argument.trim_ascii();
    let mut delay = 0i64;
    if argument.starts_with(b"{") {
        let object =
            Object::parse("server.ConsumerNakOptions", argument).map_err(|error| error.to_string())?;
        for member in object.members().filter(|member| member.key() == "delay") {
            member.number(&mut delay, "time.Duration").map_err(|error| error.to_string())?;
        }
    } else if !argument.is_empty() {
        delay = parse_duration(&String::from_utf8_lossy(argument))?;
    }
    Ok(Duration::from_nanos(u64::try_from(delay).unwrap_or(0)))
}

/// Appends the subject on which a subscriber answers flow control of a push consumer, up to its last token, which is random.
pub fn write_flow_control_prefix(stream: &[u8], consumer: &[u8], out: &mut Vec<u8>) {
    for part in [&b"$JS.FC."[..], stream, b".", consumer, b"."] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_versions_are_read_and_the_first_is_written() {
        let ack = AckSubject {
            stream: b"S",
            consumer: b"c",
            delivered: 1,
            stream_sequence: 22,
            consumer_sequence: 3,
            time: WallTime::from_unix_nanos(1_700_000_000_000_000_004),
            pending: 5,
        };
        let mut subject = Vec::new();
        ack.write(&mut subject);
        assert_eq!(subject, b"$JS.ACK.S.c.1.22.3.1700000000000000004.5");
        assert_eq!(AckSubject::parse(&subject), Some(ack));
        for second in [
            "$JS.ACK._.ACCHASH.S.c.1.22.3.1700000000000000004.5",
            "$JS.ACK.hub.ACCHASH.S.c.1.22.3.1700000000000000004.5.rAnDoM.more",
        ] {
            assert_eq!(AckSubject::parse(second.as_bytes()), Some(ack), "{second}");
        }
        for other in [
            "",
            "$JS.ACK",
            "$JS.ACK.S.c.1.22.3.4",
            "$JS.ACK.S.c.1.22.3.4.5.6",
            "$JS.ACK.S.c.1.22.3.x.5",
            "$JS.ACK.S.c.1.22.-3.4.5",
            "$JS.ACK.S.c.1.22.+3.4.5",
            "$JS.ACK.S.c.1.22..4.5",
            "$JS.ACK.S.c.1.99999999999999999999.3.4.5",
            "$JS.ACK.S.c.1.22.3.9999999999999999999.5",
            "$JS.FC.S.c.1.22.3.4.5",
        ] {
            assert_eq!(AckSubject::parse(other.as_bytes()), None, "{other}");
        }
        let mut subject = Vec::new();
        write_flow_control_prefix(b"S", b"c", &mut subject);
        assert_eq!(subject, b"$JS.FC.S.c.");
    }

    #[test]
    fn payloads_are_told_apart() {
        for (payload, ack) in [
            ("", Some(Ack::Ack)),
            ("+ACK", Some(Ack::Ack)),
            ("+OK", Some(Ack::Ack)),
            ("+ACK ", None),
            ("+WPI", Some(Ack::Progress)),
            ("+WPI ", None),
            ("-NAK", Some(Ack::Nak(b""))),
            ("-NAK 1s", Some(Ack::Nak(b" 1s"))),
            ("+NXT", Some(Ack::Next(b""))),
            ("+NXT {}", Some(Ack::Next(b" {}"))),
            ("+TERM", Some(Ack::Term(b""))),
            ("+TERM  too bad ", Some(Ack::Term(b"too bad"))),
            ("+TER", None),
            ("x", None),
        ] {
            assert_eq!(Ack::parse(payload.as_bytes()), ack, "{payload}");
        }
    }

    #[test]
    fn a_delay_has_two_forms() {
        let ok = |millis: u64| Ok(Duration::from_millis(millis));
        for (argument, delay) in [
            ("", ok(0)),
            (" ", ok(0)),
            (" 1.5s", ok(1500)),
            ("-1s", ok(0)),
            (r#" {"delay": 1000000}"#, ok(1)),
            ("{}", ok(0)),
            (r#"{"delay":-5}"#, ok(0)),
            ("x", Err("time: invalid duration \"x\"".to_owned())),
            ("{", Err("unexpected end of JSON input".to_owned())),
        ] {
            assert_eq!(nak_delay(argument.as_bytes()), delay, "{argument}");
        }
        assert!(nak_delay(br#"{"delay":"1s"}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(delivered: u64, stream_sequence: u64, time in 0..i64::MAX, pending: u64) {
            let ack = AckSubject {
                stream: b"stream",
                consumer: b"consumer",
                delivered,
                stream_sequence,
                consumer_sequence: 7,
                time: WallTime::from_unix_nanos(time),
                pending,
            };
            let mut subject = Vec::new();
            ack.write(&mut subject);
            prop_assert_eq!(AckSubject::parse(&subject), Some(ack));
        }

        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), tail in "[.0-9]{0,30}") {
            let _ = AckSubject::parse(&bytes);
            let _ = AckSubject::parse(format!("$JS.ACK.{tail}").as_bytes());
            let _ = Ack::parse(&bytes);
            let _ = nak_delay(&bytes);
            let _ = nak_delay(&[b"{\"delay\":", &bytes[..], b"}"].concat());
        }
    }
}
