//! What the headers of a published message ask of the stream.
//!
//! One pass over the block finds all of them: the reference looks for each key by itself, a dozen searches a message.

use crate::config::parse_duration;
use crate::storage::ledger::NEVER_EXPIRES;

/// The headers of one message that a stream acts on; `None` for one that isn't there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions<'a> {
    pub(super) message_id: Option<&'a [u8]>,
    pub(super) stream: Option<&'a [u8]>,
    pub(super) last_sequence: Option<&'a [u8]>,
    pub(super) last_subject_sequence: Option<&'a [u8]>,
    /// Which subjects `last_subject_sequence` is about.
    pub(super) last_subject: Option<&'a [u8]>,
    pub(super) last_message_id: Option<&'a [u8]>,
    pub(super) rollup: Option<&'a [u8]>,
    pub(super) ttl: Option<&'a [u8]>,
    pub(super) increment: Option<&'a [u8]>,
    pub(super) batch: Option<&'a [u8]>,
    pub(super) schedule: Option<&'a [u8]>,
    pub(super) schedule_time_zone: Option<&'a [u8]>,
    pub(super) schedule_target: Option<&'a [u8]>,
    pub(super) schedule_source: Option<&'a [u8]>,
    pub(super) schedule_ttl: Option<&'a [u8]>,
    pub(super) schedule_rollup: Option<&'a [u8]>,
    pub(super) schedule_next: Option<&'a [u8]>,
    pub(super) scheduler: Option<&'a [u8]>,
    pub(super) source: Option<&'a [u8]>,
    /// What says who sent a request; it isn't stored.
    pub(super) request_info: Option<&'a [u8]>,
}

const PREFIX: &[u8] = b"Nats-";
/// Longer than any key that counts.
const LONGEST: usize = 48;

impl<'a> Conditions<'a> {
    /// Reads a block. The first of several lines with the same key counts, as everywhere.
    pub(super) fn read(block: &'a [u8]) -> Self {
        let mut found = Conditions::default();
        for newline in memchr::memchr_iter(b'\n', block) {
            let line = &block[newline + 1..];
            if !line.starts_with(PREFIX) || newline == 0 || block[newline - 1] != b'\r' {
                continue;
            }
            let Some(colon) = memchr::memchr(b':', &line[..line.len().min(LONGEST)]) else { continue };
            if let Some(place) = found.place(&line[PREFIX.len()..colon]) {
                place.get_or_insert_with(|| value(&line[colon + 1..]));
            }
        }
        found
    }

    fn place(&mut self, key: &[u8]) -> Option<&mut Option<&'a [u8]>> {
        Some(match key {
            b"Msg-Id" => &mut self.message_id,
            b"Expected-Stream" => &mut self.stream,
            b"Expected-Last-Sequence" => &mut self.last_sequence,
            b"Expected-Last-Subject-Sequence" => &mut self.last_subject_sequence,
            b"Expected-Last-Subject-Sequence-Subject" => &mut self.last_subject,
            b"Expected-Last-Msg-Id" => &mut self.last_message_id,
            b"Rollup" => &mut self.rollup,
            b"TTL" => &mut self.ttl,
            b"Incr" => &mut self.increment,
            b"Batch-Id" => &mut self.batch,
            b"Schedule" => &mut self.schedule,
            b"Schedule-Time-Zone" => &mut self.schedule_time_zone,
            b"Schedule-Target" => &mut self.schedule_target,
            b"Schedule-Source" => &mut self.schedule_source,
            b"Schedule-TTL" => &mut self.schedule_ttl,
            b"Schedule-Rollup" => &mut self.schedule_rollup,
            b"Schedule-Next" => &mut self.schedule_next,
            b"Scheduler" => &mut self.scheduler,
            b"Stream-Source" => &mut self.source,
            b"Request-Info" => &mut self.request_info,
            _ => return None,
        })
    }
}

/// Returns a line's value, as `protocol::headers::get` does.
fn value(line: &[u8]) -> &[u8] {
    let value = &line[line.iter().take_while(|byte| **byte == b' ').count()..];
    &value[..memchr::memmem::find(value, b"\r\n").unwrap_or(value.len())]
}

/// Reads an expected sequence. What isn't a number is a sequence that no stream has.
///
/// Source: nats-server `server/util.go`, `parseInt64`, and what its callers make of -1.
pub(super) fn sequence(text: &[u8]) -> u64 {
    let digit = |sum: u64, byte: &u8| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum.wrapping_mul(10).wrapping_add(digit))
    };
    text.iter().try_fold(0, digit).filter(|_| !text.is_empty()).unwrap_or(u64::MAX)
}

/// Reads a time to live, in seconds; [`NEVER_EXPIRES`] for ever. `None` if it makes no sense, or is below a second.
///
/// Source: nats-server `server/stream.go`, `parseMessageTTL`. Differs: a number beyond 2^63 is refused; there it wraps.
pub(in crate::jetstream) fn time_to_live(text: &[u8]) -> Option<u64> {
    let text = str::from_utf8(text).ok()?;
    if text.eq_ignore_ascii_case("never") {
        return Some(NEVER_EXPIRES);
    }
    match parse_duration(text) {
        Ok(nanos) => u64::try_from(nanos / 1_000_000_000).ok().filter(|seconds| *seconds > 0),
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<i64>().ok().and_then(|seconds| u64::try_from(seconds).ok())
        }
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::headers;

    #[test]
    fn a_time_to_live_is_a_number_of_seconds_a_duration_or_for_ever() {
        let cases = [
            ("5", Some(5)),
            ("1h", Some(3600)),
            ("1.9s", Some(1)),
            ("NEVER", Some(NEVER_EXPIRES)),
            ("9223372036854775807", Some(i64::MAX as u64)),
            ("9223372036854775808", None),
            ("0", None),
            ("00", Some(0)),
            ("500ms", None),
            ("-1", None),
            ("-1s", None),
            ("+5", None),
            ("", None),
            ("soon", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time_to_live(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn an_expected_sequence_that_is_no_number_is_never_reached() {
        for (text, expected) in [("0", 0), ("17", 17), ("-1", u64::MAX), ("1x", u64::MAX), ("", u64::MAX)] {
            assert_eq!(sequence(text.as_bytes()), expected, "{text}");
        }
    }

    const KEYS: [&str; 6] =
        ["Nats-Msg-Id", "Nats-TTL", "Nats-Schedule", "Nats-Scheduler", "Other", "nats-ttl"];

    proptest! {
        #[test]
        fn one_pass_finds_what_looking_for_each_key_finds(
            lines in proptest::collection::vec((0..KEYS.len(), "[ :]{0,2}[a-c\r\n:]{0,4}", "(\r\n|\n|\r)"), 0..8),
        ) {
            let mut block = String::from("NATS/1.0\r\n");
            for (key, value, end) in lines {
                block += &format!("{}{value}{end}", KEYS[key]);
            }
            let block = block.as_bytes();
            let found = Conditions::read(block);
            prop_assert_eq!(found.message_id, headers::get(block, b"Nats-Msg-Id"));
            prop_assert_eq!(found.ttl, headers::get(block, b"Nats-TTL"));
            prop_assert_eq!(found.schedule, headers::get(block, b"Nats-Schedule"));
            prop_assert_eq!(found.scheduler, headers::get(block, b"Nats-Scheduler"));
        }
    }
}
