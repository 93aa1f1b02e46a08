//! What a client may send, parsed from the front of a buffer.
//!
//! The parser keeps no state. Its caller keeps the bytes: it offers everything that has not been consumed, and after
//! [`Parsed::Incomplete`] offers the same bytes again with more behind them.
//!
//! ```
//! use natrix_core::protocol::client::{ClientFrame, ParseLimits, Parsed, parse};
//!
//! let limits = ParseLimits::default();
//! assert_eq!(parse(b"PIN", &limits), Ok(Parsed::Incomplete));
//! assert_eq!(parse(b"PING\r\nSUB a", &limits), Ok(Parsed::Frame { len: 6, frame: ClientFrame::Ping }));
//! ```
//!
//! A publish is a frame as soon as its *line* is there, so that the caller can check the size it announces before it
//! waits for that many bytes; [`split_payload`] then takes the payload off what follows the line.
//!
//! Invariants:
//! - The frames and the error of some bytes are the same however the bytes are cut into reads. (The reference's are
//!   not quite: a stray `\r` inside a line counts differently when the line is cut. Here a line is always read as the
//!   reference reads one that came in one piece.)
//! - An error is returned as soon as a byte can't be right, before the line is complete.
//! - While `Incomplete` is returned, less than twice the control line limit, and a verb, have been offered; so a
//!   caller that keeps an unfinished line keeps a bounded one.
//!
//! Source: nats-server `server/parser.go`, `parse`; `server/client.go`, `processPub`, `processHeaderPub`, `parseSub`
//! and `processUnsub`.

mod error;

use memchr::memchr;

pub use error::{ArgumentFault, ParseError};

/// The reference's `max_control_line` when nothing is configured.
pub const DEFAULT_MAX_CONTROL_LINE: usize = 4096;

/// The most digits a size may have; ten nines is more than anybody may publish.
const MAX_SIZE_DIGITS: usize = 9;

/// What the configuration says about lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseLimits {
    /// Longest argument part of a line, in bytes: what follows the verb and its blanks, without the line end.
    pub max_control_line: usize,
}

impl Default for ParseLimits {
    fn default() -> Self {
        ParseLimits { max_control_line: DEFAULT_MAX_CONTROL_LINE }
    }
}

/// What the front of a buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Nothing yet: more bytes are needed, and none was consumed.
    Incomplete,
    /// One frame.
    Frame {
        /// How many bytes it consumed: the line with its terminator. A publish's payload is not among them.
        len: usize,
        /// What it says.
        frame: ClientFrame<'a>,
    },
}

/// One thing that a client says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFrame<'a> {
    /// `PUB` or `HPUB`: the payload follows the line.
    Publish(PublishLine<'a>),
    /// `SUB <subject> [queue] <sid>`
    Subscribe {
        /// What is subscribed to, not yet checked.
        subject: &'a [u8],
        /// The queue group to join.
        queue: Option<&'a [u8]>,
        /// What the client calls this subscription.
        sid: &'a [u8],
    },
    /// `UNSUB <sid> [max]`
    Unsubscribe {
        /// What the client calls the subscription.
        sid: &'a [u8],
        /// After how many messages; `None` means at once, which is also what zero and text that isn't a number mean.
        max: Option<u64>,
    },
    /// `CONNECT`: the bytes are to be JSON.
    Connect(&'a [u8]),
    /// `INFO`: the bytes are to be JSON. A server that hears this from a client does nothing, if it is JSON.
    Info(&'a [u8]),
    /// `PING`
    Ping,
    /// `PONG`
    Pong,
    /// `+OK`
    Ok,
    /// `-ERR`: the client's words, quotes included. It is logged, and the connection closed.
    Err(&'a [u8]),
}

/// The line of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishLine<'a> {
    /// Where to, not yet checked.
    pub subject: &'a [u8],
    /// Where an answer is wanted, not yet checked.
    pub reply: Option<&'a [u8]>,
    /// Bytes of headers at the start of the payload, at most `total_len`. `None` for `PUB`; the caller refuses
    /// anything else from a client whose connection has no headers.
    pub header_len: Option<usize>,
    /// Bytes of headers and payload together, without the terminator.
    pub total_len: usize,
}

impl PublishLine<'_> {
    /// Counts the bytes behind the line that belong to this publish: headers, payload and terminator.
    pub fn body_len(&self) -> usize {
        self.total_len + LINE_END.len()
    }
}

/// What follows a publish line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Body<'a> {
    /// The header block; empty if there is none.
    pub headers: &'a [u8],
    /// The rest.
    pub payload: &'a [u8],
    /// How many bytes were consumed, terminator included.
    pub len: usize,
}

const LINE_END: &[u8] = b"\r\n";

/// A verb, as the reference's state machine sees it.
struct Verb {
    /// In lower case.
    word: &'static [u8],
    /// The machine's state when `offset` bytes of the word were right is `state_base + offset`.
    state_base: u8,
    tail: Tail,
}

/// What follows a verb.
enum Tail {
    /// Anything up to the newline, and it means nothing.
    Ignored(ClientFrame<'static>),
    /// Arguments.
    Arguments {
        /// Whether a blank must come first; without that, `CONNECT{}` is fine.
        after_blank: bool,
        read: ReadArguments,
    },
}

type ReadArguments = for<'a> fn(&Line<'a>) -> Result<ClientFrame<'a>, ParseError>;

const fn bare(word: &'static [u8], state_base: u8, frame: ClientFrame<'static>) -> Verb {
    Verb { word, state_base, tail: Tail::Ignored(frame) }
}

const fn spaced(word: &'static [u8], state_base: u8, read: ReadArguments) -> Verb {
    Verb { word, state_base, tail: Tail::Arguments { after_blank: true, read } }
}

const fn glued(word: &'static [u8], state_base: u8, read: ReadArguments) -> Verb {
    Verb { word, state_base, tail: Tail::Arguments { after_blank: false, read } }
}

/// The state before any byte of a verb.
const STATE_START: u8 = 0;
/// The state after a lone `P`.
const STATE_P: u8 = 29;
/// The states in which a payload's terminator is awaited.
const STATES_PAYLOAD_END: [u8; 2] = [41, 42];

static OK: Verb = bare(b"+ok", 0, ClientFrame::Ok);
static ERR: Verb = spaced(b"-err", 3, |line| Ok(ClientFrame::Err(line.arguments)));
static CONNECT: Verb = glued(b"connect", 9, |line| Ok(ClientFrame::Connect(line.arguments)));
static HPUB: Verb = spaced(b"hpub", 17, header_publish);
static PUB: Verb = spaced(b"pub", 28, publish);
static PING: Verb = bare(b"ping", 32, ClientFrame::Ping);
static PONG: Verb = bare(b"pong", 35, ClientFrame::Pong);
static SUB: Verb = spaced(b"sub", 42, subscribe);
static UNSUB: Verb = spaced(b"unsub", 58, unsubscribe);
static INFO: Verb = glued(b"info", 70, |line| Ok(ClientFrame::Info(line.arguments)));

impl Verb {
    fn error(&self, offset: usize) -> ParseError {
        ParseError::UnknownOperation { state: self.state_base + offset as u8, offset }
    }

    /// Compares the front of `input` with the word, of which `known` bytes have been compared already. Returns whether
    /// all of it is there.
    fn matches(&self, input: &[u8], known: usize) -> Result<bool, ParseError> {
        for (offset, want) in self.word.iter().enumerate().skip(known) {
            match input.get(offset) {
                None => return Ok(false),
                Some(byte) if byte.to_ascii_lowercase() == *want => {}
                Some(_) => return Err(self.error(offset)),
            }
        }
        Ok(true)
    }
}

#[inline]
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Parses the frame at the front of `input`.
///
/// # Errors
///
/// [`ParseError`] if no continuation of `input` could be one.
#[inline]
pub fn parse<'a>(input: &'a [u8], limits: &ParseLimits) -> Result<Parsed<'a>, ParseError> {
    // What a busy server hears is PUB, so its verb is compared as one word before any other is looked at.
    if let [p, u, b, blank, ..] = *input
        && u32::from_le_bytes([p, u, b, 0]) | 0x0020_2020 == u32::from_le_bytes(*b"pub\0")
        && is_blank(blank)
    {
        return frame(input, 3, limits, publish);
    }
    parse_any(input, limits)
}

/// Parses a `PUB` line of the usual shape from the front of a buffer, and returns its length with it: a subject, one
/// blank, perhaps a reply and one blank, digits, `\r\n`, and all of that within the limit. `None` says nothing: any
/// other shape, an error, or too few bytes, is for [`parse`].
///
/// The hottest loop of the server: inlined into its caller so that the line lives in registers. (Handed over in the
/// enums of [`parse`], it was written in words and read back in pairs of words, and waiting for those stores was half
/// of the time of a publish.)
#[inline(always)]
pub fn parse_publish<'a>(input: &'a [u8], limits: &ParseLimits) -> Option<(usize, PublishLine<'a>)> {
    let verb = input.first_chunk::<4>()?;
    if u32::from_le_bytes(*verb) | 0x0020_2020 != u32::from_le_bytes(*b"pub ") {
        return None;
    }
    let subject_end = word_end(input, 4)?;
    let mut at = subject_end + 1;
    let mut reply = None;
    if !input.get(at)?.is_ascii_digit() {
        let reply_end = word_end(input, at)?;
        reply = Some(&input[at..reply_end]);
        at = reply_end + 1;
    }
    let digits = at;
    let mut total_len = 0;
    while let Some(digit) = input.get(at).map(|byte| byte.wrapping_sub(b'0')).filter(|digit| *digit <= 9) {
        total_len = total_len * 10 + usize::from(digit);
        at += 1;
        if at - digits > MAX_SIZE_DIGITS {
            return None;
        }
    }
    let ended = at > digits && input.get(at) == Some(&b'\r') && input.get(at + 1) == Some(&b'\n');
    if !ended || at - 4 > limits.max_control_line {
        return None;
    }
    Some((at + 2, PublishLine { subject: &input[4..subject_end], reply, header_len: None, total_len }))
}

/// Finds the blank behind a word that begins at `start`; `None` if there is none, or anything odd before it.
#[inline(always)]
fn word_end(input: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    while *input.get(at)? > b' ' {
        at += 1;
    }
    (at > start && input[at] == b' ').then_some(at)
}

fn parse_any<'a>(input: &'a [u8], limits: &ParseLimits) -> Result<Parsed<'a>, ParseError> {
    let Some(first) = input.first() else { return Ok(Parsed::Incomplete) };
    let (verb, known) = match first.to_ascii_lowercase() {
        b'p' => match input.get(1).map(u8::to_ascii_lowercase) {
            None => return Ok(Parsed::Incomplete),
            Some(b'u') => (&PUB, 2),
            Some(b'i') => (&PING, 2),
            Some(b'o') => (&PONG, 2),
            Some(_) => return Err(ParseError::UnknownOperation { state: STATE_P, offset: 1 }),
        },
        b's' => (&SUB, 1),
        b'u' => (&UNSUB, 1),
        // Differs: an HMSG from a client is refused at its M. The reference reads the line, ignores it, and takes
        // what follows for the end of an empty message to an empty subject, which nearly always fails all the same.
        b'h' => (&HPUB, 1),
        b'c' => (&CONNECT, 1),
        b'i' => (&INFO, 1),
        b'+' => (&OK, 1),
        b'-' => (&ERR, 1),
        _ => return Err(ParseError::UnknownOperation { state: STATE_START, offset: 0 }),
    };
    if !verb.matches(input, known)? {
        return Ok(Parsed::Incomplete);
    }
    let after_verb = verb.word.len();
    match verb.tail {
        Tail::Ignored(frame) => match ignored_line(input, after_verb, limits)? {
            None => Ok(Parsed::Incomplete),
            Some(len) => Ok(Parsed::Frame { len, frame }),
        },
        Tail::Arguments { after_blank, read } => {
            match input.get(after_verb) {
                Some(byte) if after_blank && !is_blank(*byte) => return Err(verb.error(after_verb)),
                _ => {}
            }
            frame(input, after_verb, limits, read)
        }
    }
}

/// Reads the arguments behind a verb, if the line is complete.
#[inline]
fn frame<'a>(
    input: &'a [u8],
    after_verb: usize,
    limits: &ParseLimits,
    read: impl FnOnce(&Line<'a>) -> Result<ClientFrame<'a>, ParseError>,
) -> Result<Parsed<'a>, ParseError> {
    match argument_line(input, after_verb, limits)? {
        None => Ok(Parsed::Incomplete),
        Some(line) => Ok(Parsed::Frame { len: line.len, frame: read(&line)? }),
    }
}

/// Finds the end of a line whose verb takes no arguments, and returns its length.
///
/// Differs: the reference reads any amount of junk between `PING` and its newline, and of blanks behind a verb. Both
/// are limited here like a control line, since our caller keeps an unfinished line.
fn ignored_line(input: &[u8], after_verb: usize, limits: &ParseLimits) -> Result<Option<usize>, ParseError> {
    let rest = &input[after_verb..];
    let end = memchr(b'\n', rest);
    if end.unwrap_or(rest.len()) > limits.max_control_line {
        return Err(ParseError::ControlLine { limit: limits.max_control_line });
    }
    Ok(end.map(|end| after_verb + end + 1))
}

/// A complete line.
struct Line<'a> {
    arguments: &'a [u8],
    /// Where the arguments begin.
    start: usize,
    /// Length with terminator.
    len: usize,
}

impl Line<'_> {
    #[cold]
    fn error(&self, fault: ArgumentFault) -> ParseError {
        ParseError::Arguments { fault, start: self.start, end: self.start + self.arguments.len() }
    }
}

/// Finds the arguments behind a verb, if the line is complete.
///
/// The first byte that is no blank begins them, whatever it is: `SUB \nfoo 1\r\n` is one line. The next newline ends
/// them. If a `\r` occurs in between, the byte before the newline is dropped, which nearly always is that `\r`.
#[inline]
fn argument_line<'a>(
    input: &'a [u8],
    after_verb: usize,
    limits: &ParseLimits,
) -> Result<Option<Line<'a>>, ParseError> {
    let too_long = Err(ParseError::ControlLine { limit: limits.max_control_line });
    let mut start = after_verb;
    while input.get(start).copied().is_some_and(is_blank) {
        start += 1;
    }
    if start - after_verb > limits.max_control_line {
        return too_long;
    }
    let Some(rest) = input.get(start + 1..) else { return Ok(None) };
    let newline = memchr(b'\n', rest);
    let before = &rest[..newline.unwrap_or(rest.len())];
    let dropped = match before.last() {
        None => 0,
        Some(b'\r') => 1,
        Some(_) => usize::from(memchr(b'\r', before).is_some()),
    };
    // An unfinished line has at least this many argument bytes when its newline comes.
    let len = 1 + before.len() - dropped;
    if len > limits.max_control_line {
        return too_long;
    }
    if newline.is_none() {
        return Ok(None);
    }
    Ok(Some(Line { arguments: &input[start..start + len], start, len: start + 1 + before.len() + 1 }))
}

/// Splits arguments at separators, runs of which count as one; `None` if there are more than `N`.
fn split<const N: usize>(arguments: &[u8], separator: impl Fn(u8) -> bool) -> Option<([&[u8]; N], usize)> {
    let (mut parts, mut count) = ([&arguments[..0]; N], 0);
    for part in arguments.split(|byte| separator(*byte)).filter(|part| !part.is_empty()) {
        *parts.get_mut(count)? = part;
        count += 1;
    }
    Some((parts, count))
}

/// Reads a size: one to nine digits and nothing else.
#[inline]
fn size(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > MAX_SIZE_DIGITS {
        return None;
    }
    let mut value = 0u32;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        // Nine digits fit.
        value = value * 10 + u32::from(digit);
    }
    Some(value as usize)
}

#[inline]
fn publish<'a>(line: &Line<'a>) -> Result<ClientFrame<'a>, ParseError> {
    // The usual shape first: a subject, one blank, perhaps a reply and one blank, and digits up to the end.
    let frame = |subject, reply, total_len| {
        Ok(ClientFrame::Publish(PublishLine { subject, reply, header_len: None, total_len }))
    };
    if let Some((subject, rest)) = split_at_blank(line.arguments) {
        if let Some(total_len) = size(rest) {
            return frame(subject, None, total_len);
        }
        if let Some((reply, rest)) = split_at_blank(rest)
            && !reply.is_empty()
            && let Some(total_len) = size(rest)
        {
            return frame(subject, Some(reply), total_len);
        }
    }
    publish_slowly(line)
}

/// Splits at the first blank, which is in neither part.
#[inline]
fn split_at_blank(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = find_blank(text)?;
    Some((&text[..at], &text[at + 1..]))
}

/// Finds the first blank, eight bytes at a time: subjects are too short for a search that has to be set up.
#[inline]
fn find_blank(text: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Its lowest set bit is in the lowest byte of `word` that equals `byte`; higher ones mean nothing.
    let equal = |word: u64, byte: u8| {
        let zero_where_equal = word ^ (ONES * u64::from(byte));
        zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & (ONES << 7)
    };
    let (words, rest) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let blanks = equal(word, b' ') | equal(word, b'\t');
        if blanks != 0 {
            return Some(index * 8 + blanks.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| is_blank(*byte))?;
    Some(words.len() * 8 + at)
}

/// Parses a publish line of any shape.
#[cold]
fn publish_slowly<'a>(line: &Line<'a>) -> Result<ClientFrame<'a>, ParseError> {
    let (subject, reply, size_text) = match split::<3>(line.arguments, is_blank) {
        Some(([subject, size, _], 2)) => (subject, None, size),
        Some(([subject, reply, size], 3)) => (subject, Some(reply), size),
        _ => return Err(line.error(ArgumentFault::Publish)),
    };
    let total_len = size(size_text).ok_or_else(|| line.error(ArgumentFault::PublishSize))?;
    Ok(ClientFrame::Publish(PublishLine { subject, reply, header_len: None, total_len }))
}

fn header_publish<'a>(line: &Line<'a>) -> Result<ClientFrame<'a>, ParseError> {
    let (subject, reply, header_text, total_text) = match split::<4>(line.arguments, is_blank) {
        Some(([subject, header, total, _], 3)) => (subject, None, header, total),
        Some(([subject, reply, header, total], 4)) => (subject, Some(reply), header, total),
        _ => return Err(line.error(ArgumentFault::HeaderPublish)),
    };
    let header_len = size(header_text).ok_or_else(|| line.error(ArgumentFault::HeaderSize))?;
    let total_len = size(total_text).ok_or_else(|| line.error(ArgumentFault::TotalSize))?;
    if header_len > total_len {
        return Err(line.error(ArgumentFault::HeaderLargerThanTotal));
    }
    Ok(ClientFrame::Publish(PublishLine { subject, reply, header_len: Some(header_len), total_len }))
}

/// Unlike a publish's, the arguments of the subscription verbs may also be separated by line end bytes.
fn is_separator(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

fn subscribe<'a>(line: &Line<'a>) -> Result<ClientFrame<'a>, ParseError> {
    match split::<3>(line.arguments, is_separator) {
        Some(([subject, sid, _], 2)) => Ok(ClientFrame::Subscribe { subject, queue: None, sid }),
        Some(([subject, queue, sid], 3)) => Ok(ClientFrame::Subscribe { subject, queue: Some(queue), sid }),
        _ => Err(line.error(ArgumentFault::Subscribe)),
    }
}

fn unsubscribe<'a>(line: &Line<'a>) -> Result<ClientFrame<'a>, ParseError> {
    let (sid, max) = match split::<2>(line.arguments, is_separator) {
        Some(([sid, _], 1)) => (sid, None),
        Some(([sid, max], 2)) => (sid, size(max).filter(|max| *max > 0)),
        _ => return Err(line.error(ArgumentFault::Unsubscribe)),
    };
    Ok(ClientFrame::Unsubscribe { sid, max: max.map(|max| max as u64) })
}

/// Takes headers and payload of a publish off the bytes behind its line; `None` until they are complete.
///
/// The terminator is known by its position, so a payload may contain anything.
///
/// # Errors
///
/// [`ParseError::UnknownOperation`] as soon as a byte at the terminator's place isn't the terminator's.
pub fn split_payload<'a>(input: &'a [u8], line: &PublishLine<'_>) -> Result<Option<Body<'a>>, ParseError> {
    let Some((body, terminator)) = input.split_at_checked(line.total_len) else { return Ok(None) };
    for (index, (want, got)) in LINE_END.iter().zip(terminator).enumerate() {
        if want != got {
            let (state, offset) = (STATES_PAYLOAD_END[index], body.len() + index);
            return Err(ParseError::UnknownOperation { state, offset });
        }
    }
    if terminator.len() < LINE_END.len() {
        return Ok(None);
    }
    let (headers, payload) = body.split_at(line.header_len.unwrap_or(0));
    Ok(Some(Body { headers, payload, len: line.body_len() }))
}

/// Returns how the reference traces a complete line (`<<- [PUB foo 5]`, without arrow and brackets): its verb in
/// capitals, and its arguments as they came. For use while tracing only; `line` is the frame's bytes.
pub fn trace_text(line: &[u8]) -> (&'static str, &[u8]) {
    let limits = ParseLimits { max_control_line: usize::MAX };
    let verbs = [
        ("PUB", &PUB),
        ("HPUB", &HPUB),
        ("SUB", &SUB),
        ("UNSUB", &UNSUB),
        ("CONNECT", &CONNECT),
        ("PING", &PING),
        ("PONG", &PONG),
        ("INFO", &INFO),
        ("+OK", &OK),
        ("-ERR", &ERR),
    ];
    let known = verbs.into_iter().find(|(_, verb)| verb.matches(line, 0) == Ok(true));
    let Some((name, verb)) = known else { return ("", line) };
    match (&verb.tail, argument_line(line, verb.word.len(), &limits)) {
        (Tail::Arguments { .. }, Ok(Some(line))) => (name, line.arguments),
        _ => (name, b""),
    }
}

#[cfg(test)]
mod tests;
