//! What the parser says about some bytes must not depend on how they were cut into reads.
//!
//! Shared by the fuzz target of this folder and by a test of `natrix-core`, which runs it over the seed corpus. Whoever
//! includes it provides `api`, the parser's module.

use super::api::{ClientFrame, ParseLimits, Parsed, parse, split_payload};

/// A connection's worth of state around the stateless parser: the unfinished line or body, and what was heard.
pub struct Reassembly {
    limits: ParseLimits,
    kept: Vec<u8>,
    waits_for_body: bool,
    /// Everything heard so far, and the error as the last entry if there was one.
    pub events: Vec<String>,
    failed: bool,
}

impl Reassembly {
    /// Starts with nothing heard.
    pub fn new(limits: ParseLimits) -> Self {
        Reassembly { limits, kept: Vec::new(), waits_for_body: false, events: Vec::new(), failed: false }
    }

    /// Hears the bytes of one read.
    pub fn read(&mut self, bytes: &[u8]) {
        if self.failed {
            return;
        }
        self.kept.extend_from_slice(bytes);
        let kept = std::mem::take(&mut self.kept);
        let consumed = self.consume(&kept);
        self.kept = kept[consumed..].to_vec();
    }

    fn consume(&mut self, input: &[u8]) -> usize {
        let mut at = 0;
        loop {
            self.waits_for_body = false;
            let rest = &input[at..];
            let (len, frame) = match parse(rest, &self.limits) {
                Ok(Parsed::Frame { len, frame }) => (len, frame),
                Ok(Parsed::Incomplete) => {
                    // Verb, blanks, arguments, line end: an unfinished line is bounded.
                    assert!(rest.len() <= 2 * self.limits.max_control_line + "CONNECT\r\n".len());
                    return at;
                }
                Err(error) => {
                    // Must not panic, whatever it is about.
                    let _ = error.log_text(rest);
                    return self.fail(&error, input.len());
                }
            };
            assert!(len > 0 && len <= rest.len());
            let ClientFrame::Publish(line) = frame else {
                self.events.push(format!("{frame:?}"));
                at += len;
                continue;
            };
            match split_payload(&rest[len..], &line) {
                Ok(Some(body)) => {
                    assert_eq!(body.headers.len() + body.payload.len(), line.total_len);
                    self.events.push(format!("{line:?} {body:?}"));
                    at += len + body.len;
                }
                Ok(None) => {
                    self.waits_for_body = true;
                    return at;
                }
                Err(error) => return self.fail(&error, input.len()),
            }
        }
    }

    fn fail(&mut self, error: &impl std::fmt::Debug, consumed: usize) -> usize {
        self.failed = true;
        self.events.push(format!("{error:?}"));
        consumed
    }

    /// Tells whether the last line heard was a publish whose payload isn't complete.
    pub fn waits_for_body(&self) -> bool {
        self.waits_for_body
    }
}

/// Hears `input` cut at the given lengths, which repeat; without any, in one piece.
pub fn heard(input: &[u8], limits: ParseLimits, lengths: &[usize]) -> Vec<String> {
    let mut connection = Reassembly::new(limits);
    let mut rest = input;
    let mut lengths = lengths.iter().copied().cycle();
    while !rest.is_empty() {
        let (read, later) = rest.split_at(lengths.next().unwrap_or(rest.len()).clamp(1, rest.len()));
        connection.read(read);
        rest = later;
    }
    connection.events
}

/// Holds the invariant for one input: two bytes of cut lengths and limit, then protocol.
pub fn check(data: &[u8]) {
    let [choice, cut, input @ ..] = data else { return };
    let limits = ParseLimits { max_control_line: [8, 32, 64, 4096][usize::from(choice & 3)] };
    let whole = heard(input, limits, &[]);
    assert_eq!(whole, heard(input, limits, &[1]), "byte by byte");
    let lengths = [1 + usize::from(cut & 15), 1 + usize::from(cut >> 4), 1 + usize::from(choice >> 2)];
    assert_eq!(whole, heard(input, limits, &lengths), "cut at {lengths:?}");
}
