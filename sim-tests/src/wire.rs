//! The client's side of the protocol, written for this crate alone: a parser shared with the server would share
//! its bugs.
//!
//! It understands what a server may send, and nothing that it must not.

/// One thing that a server said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// `INFO {json}`.
    Info(&'a [u8]),
    /// `MSG` or `HMSG`.
    Message {
        /// What it was published to.
        subject: &'a [u8],
        /// For which subscription.
        sid: u32,
        /// Where an answer goes; empty for none.
        reply: &'a [u8],
        /// The header block, status line included; empty for none.
        headers: &'a [u8],
        /// What was published.
        payload: &'a [u8],
    },
    /// `PING`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`.
    Ok,
    /// `-ERR 'text'`, less the quotes.
    Error(&'a [u8]),
}

/// The server said something that no server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonsense(pub String);

/// Longest line that is waited for; INFO is the longest that there is.
const LINE_MAX: usize = 64 << 10;

/// Reads one thing from the start of `bytes`: how many bytes it took, and what it was; `None` if it isn't whole.
///
/// # Errors
///
/// [`Nonsense`] if no continuation could make it valid.
pub fn parse(bytes: &[u8]) -> Result<Option<(usize, Heard<'_>)>, Nonsense> {
    let Some(end) = find_line(bytes) else {
        return if bytes.len() > LINE_MAX { Err(nonsense(bytes)) } else { Ok(None) };
    };
    let line = &bytes[..end];
    let after = end + 2;
    let heard = match line {
        b"PING" => Heard::Ping,
        b"PONG" => Heard::Pong,
        b"+OK" => Heard::Ok,
        [b'M', b'S', b'G', b' ', rest @ ..] => return message(bytes, rest, after, false),
        [b'H', b'M', b'S', b'G', b' ', rest @ ..] => return message(bytes, rest, after, true),
        [b'I', b'N', b'F', b'O', b' ', json @ ..] => Heard::Info(json.trim_ascii_end()),
        [b'-', b'E', b'R', b'R', b' ', b'\'', text @ .., b'\''] => Heard::Error(text),
        _ => return Err(nonsense(line)),
    };
    Ok(Some((after, heard)))
}

fn nonsense(bytes: &[u8]) -> Nonsense {
    Nonsense(natrix_runtime_sim::trace::show_bytes(bytes, 120))
}

/// Returns where the first CRLF is.
fn find_line(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + find_cr(&bytes[from..])?;
        match bytes.get(at + 1) {
            Some(b'\n') => return Some(at),
            Some(_) => from = at + 1,
            None => return None,
        }
    }
}

/// Returns where the first CR is, looking at eight bytes at a time.
fn find_cr(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_le_bytes([1; 8]);
    let (words, rest) = bytes.as_chunks();
    for (index, word) in words.iter().enumerate() {
        // The lowest byte that is zero is the lowest whose highest bit is set here.
        let word = u64::from_le_bytes(*word) ^ (ONES * u64::from(b'\r'));
        let zeros = word.wrapping_sub(ONES) & !word & (ONES << 7);
        if zeros != 0 {
            return Some(index * 8 + zeros.trailing_zeros() as usize / 8);
        }
    }
    let at = rest.iter().position(|byte| *byte == b'\r')?;
    Some(bytes.len() - rest.len() + at)
}

fn message<'a>(
    bytes: &'a [u8],
    line: &'a [u8],
    after: usize,
    with_headers: bool,
) -> Result<Option<(usize, Heard<'a>)>, Nonsense> {
    let mut fields = [&line[..0]; 6];
    let mut count = 0;
    for field in line.split(|byte| *byte == b' ').filter(|field| !field.is_empty()) {
        *fields.get_mut(count).ok_or_else(|| nonsense(line))? = field;
        count += 1;
    }
    let numbers = if with_headers { 2 } else { 1 };
    let reply = match count.checked_sub(2 + numbers) {
        Some(0) => &line[..0],
        Some(1) => fields[2],
        _ => return Err(nonsense(line)),
    };
    let number = |index: usize| decimal(fields[index]).ok_or_else(|| nonsense(line));
    let sid = number(1)? as u32;
    let total = number(count - 1)?;
    let header_length = if with_headers { number(count - 2)? } else { 0 };
    if header_length > total {
        return Err(nonsense(line));
    }
    let Some(body) = bytes.get(after..after + total + 2) else { return Ok(None) };
    if &body[total..] != b"\r\n" {
        return Err(nonsense(line));
    }
    let (headers, payload) = body[..total].split_at(header_length);
    let heard = Heard::Message { subject: fields[0], sid, reply, headers, payload };
    Ok(Some((after + total + 2, heard)))
}

fn decimal(digits: &[u8]) -> Option<usize> {
    if digits.is_empty() || digits.len() > 9 {
        return None;
    }
    digits
        .iter()
        .try_fold(0, |value, digit| digit.is_ascii_digit().then(|| value * 10 + usize::from(digit - b'0')))
}

/// Appends a number in decimal.
pub fn push_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_server_says() {
        let text = b"INFO {\"a\":1} \r\nMSG a.b 7 5\r\nhe\r\no\r\nMSG a 8 r.1 0\r\n\r\nHMSG a 9 12 14\r\nNATS/1.0\r\n\r\nhi\r\nPING\r\nPONG\r\n+OK\r\n-ERR 'No'\r\n";
        let mut rest = &text[..];
        let mut heard = Vec::new();
        while let Some((n, one)) = parse(rest).expect("valid") {
            heard.push(one);
            rest = &rest[n..];
        }
        let message =
            |subject, sid, reply, headers, payload| Heard::Message { subject, sid, reply, headers, payload };
        assert_eq!(
            heard,
            [
                Heard::Info(b"{\"a\":1}"),
                message(b"a.b", 7, b"", b"", b"he\r\no"),
                message(b"a", 8, b"r.1", b"", b""),
                message(b"a", 9, b"", b"NATS/1.0\r\n\r\n", b"hi"),
                Heard::Ping,
                Heard::Pong,
                Heard::Ok,
                Heard::Error(b"No"),
            ]
        );
        for cut in 0..text.len() {
            let mut rest = &text[..cut];
            let mut count = 0;
            while let Some((n, one)) = parse(rest).expect("valid") {
                assert_eq!(one, heard[count]);
                count += 1;
                rest = &rest[n..];
            }
        }
    }

    #[test]
    fn refuses_what_no_server_says() {
        for text in
            ["PUB a 1\r\n", "MSG a 1\r\n", "MSG a x 1\r\n", "MSG a 1 1\r\nabcd", "-ERR no\r\n", "PINGX\r\n"]
        {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers_are_written_as_they_are_read() {
        for number in [0, 7, 10, 4_294_967] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(decimal(&out), Some(number as usize));
        }
    }
}
