//! What a server sends to a client, appended to a buffer.
//!
//! Nothing here goes through `fmt`: a message line is written for every delivery. The functions take any
//! [`BufMut`] that grows (a `Vec<u8>`, a `BytesMut`); one with a fixed end must have room, which the `*_len` functions
//! tell.

use bytes::BufMut;

/// `PING` with its line end.
pub const PING: &[u8] = b"PING\r\n";
/// `PONG` with its line end.
pub const PONG: &[u8] = b"PONG\r\n";
/// `+OK` with its line end.
pub const OK: &[u8] = b"+OK\r\n";
/// What ends every line and every payload.
pub const LINE_END: &[u8] = b"\r\n";

/// Everything a message line says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLine<'a> {
    /// The subject delivered to.
    pub subject: &'a [u8],
    /// The subscriber's name for its subscription.
    pub sid: &'a [u8],
    /// Where an answer is wanted.
    pub reply: Option<&'a [u8]>,
    /// Bytes of headers, counted in `total_len`; `None` makes it a `MSG`, anything else an `HMSG`.
    pub header_len: Option<usize>,
    /// Bytes of headers and payload.
    pub total_len: usize,
}

impl MessageLine<'_> {
    /// Bounds the length of the line.
    pub fn max_len(&self) -> usize {
        const FIXED: usize = "HMSG ".len() + 4 + 2 * 20 + LINE_END.len();
        FIXED + self.subject.len() + self.sid.len() + self.reply.map_or(0, <[u8]>::len)
    }
}

/// Appends `MSG <subject> <sid> [reply] <size>` or `HMSG <subject> <sid> [reply] <header size> <total size>`.
///
/// Differs: sizes are written in the usual form. The reference repeats the publisher's digits, leading zeros included.
#[inline]
pub fn message(out: &mut impl BufMut, line: &MessageLine<'_>) {
    out.put_slice(if line.header_len.is_some() { b"HMSG " } else { b"MSG " });
    out.put_slice(line.subject);
    out.put_u8(b' ');
    out.put_slice(line.sid);
    out.put_u8(b' ');
    if let Some(reply) = line.reply {
        out.put_slice(reply);
        out.put_u8(b' ');
    }
    if let Some(header_len) = line.header_len {
        number(out, header_len as u64);
        out.put_u8(b' ');
    }
    number(out, line.total_len as u64);
    out.put_slice(LINE_END);
}

/// Appends a decimal number.
#[inline]
pub fn number(out: &mut impl BufMut, value: u64) {
    out.put_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends `-ERR '<text>'`.
///
/// Text that came from a peer has been through checks that keep line ends out of it; should one be left, it becomes a
/// space, so that no text can say more than one line.
pub fn error(out: &mut impl BufMut, text: &str) {
    out.put_slice(b"-ERR '");
    for part in text.split_inclusive(['\r', '\n']) {
        match part.strip_suffix(['\r', '\n']) {
            Some(part) => {
                out.put_slice(part.as_bytes());
                out.put_u8(b' ');
            }
            None => out.put_slice(part.as_bytes()),
        }
    }
    out.put_slice(b"'\r\n");
}

/// Appends `INFO <json>`, with the blank before the line end that the reference has.
pub fn info(out: &mut impl BufMut, json: &[u8]) {
    out.put_slice(b"INFO ");
    out.put_slice(json);
    out.put_slice(b" \r\n");
}

/// Appends the message that tells a requester that nobody listens: status 503, and the subject that was asked.
pub fn no_responders(out: &mut impl BufMut, reply: &[u8], sid: &[u8], subject: &[u8]) {
    const BEFORE: &[u8] = b"NATS/1.0 503\r\nNats-Subject: ";
    const AFTER: &[u8] = b"\r\n\r\n";
    let len = BEFORE.len() + subject.len() + AFTER.len();
    message(out, &MessageLine { subject: reply, sid, reply: None, header_len: Some(len), total_len: len });
    out.put_slice(BEFORE);
    out.put_slice(subject);
    out.put_slice(AFTER);
    out.put_slice(LINE_END);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reply: Option<&[u8]>, header_len: Option<usize>, total_len: usize) -> String {
        let line = MessageLine { subject: b"foo.bar", sid: b"22", reply, header_len, total_len };
        let mut out = Vec::new();
        message(&mut out, &line);
        assert!(out.len() <= line.max_len());
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn message_lines() {
        assert_eq!(line(None, None, 0), "MSG foo.bar 22 0\r\n");
        assert_eq!(line(Some(b"_INBOX.1"), None, 1_048_576), "MSG foo.bar 22 _INBOX.1 1048576\r\n");
        assert_eq!(line(None, Some(12), 17), "HMSG foo.bar 22 12 17\r\n");
        assert_eq!(line(Some(b"r"), Some(0), usize::MAX), "HMSG foo.bar 22 r 0 18446744073709551615\r\n");
    }

    #[test]
    fn errors_are_one_line() {
        let mut out = Vec::new();
        error(&mut out, "Unknown Protocol Operation");
        error(&mut out, "no\r\nPING\nx\r");
        assert_eq!(out, b"-ERR 'Unknown Protocol Operation'\r\n-ERR 'no  PING x '\r\n");
    }

    #[test]
    fn no_responders_counts_its_header() {
        let mut out = Vec::new();
        no_responders(&mut out, b"_INBOX.a", b"1", b"svc.x");
        assert_eq!(out, b"HMSG _INBOX.a 1 37 37\r\nNATS/1.0 503\r\nNats-Subject: svc.x\r\n\r\n\r\n");
    }

    #[test]
    fn info_has_the_blank_before_its_end() {
        let mut out = Vec::new();
        info(&mut out, b"{}");
        assert_eq!(out, b"INFO {} \r\n");
    }
}
