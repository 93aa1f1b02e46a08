//! `HOST:PORT` as one setting.
//!
//! Source: nats-server `server/util.go`, `parseHostPort`, over Go's `net.SplitHostPort` and `strconv.Atoi`.

use super::text::quoted;

/// Why a text is no `HOST:PORT`; the words are those of Go's libraries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostPortError {
    /// Host and port can't be told apart.
    #[error("address {text}: {fault}")]
    Address {
        /// What was looked at.
        text: String,
        /// What is wrong with it.
        fault: AddressFault,
    },
    /// The port isn't a number.
    #[error("strconv.Atoi: parsing {}: invalid syntax", quoted(.0))]
    PortSyntax(String),
    /// The port is a number that no machine word holds.
    #[error("strconv.Atoi: parsing {}: value out of range", quoted(.0))]
    PortRange(String),
}

/// What keeps an address from being one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// No colon where one belongs.
    #[error("missing port in address")]
    MissingPort,
    /// More than one colon outside brackets.
    #[error("too many colons in address")]
    TooManyColons,
    /// A bracket is never closed.
    #[error("missing ']' in address")]
    MissingBracket,
    /// A bracket opens inside the host or the port.
    #[error("unexpected '[' in address")]
    OpeningBracket,
    /// A bracket closes that none has opened.
    #[error("unexpected ']' in address")]
    ClosingBracket,
}

/// Splits `text` into host and port; a port that is missing, 0 or -1 is `default_port`.
///
/// Like the reference's, a port may be any number: clients that are told an impossible one find out.
///
/// # Errors
///
/// [`HostPortError`], which shows the text with `default_port` added if there was no port in it.
pub fn parse_host_port(text: &str, default_port: u16) -> Result<(String, i64), HostPortError> {
    let with_default;
    let (looked_at, halves) = match split(text) {
        Err(AddressFault::MissingPort) => {
            with_default = format!("{text}:{default_port}");
            (with_default.as_str(), split(&with_default))
        }
        halves => (text, halves),
    };
    let (host, port) =
        halves.map_err(|fault| HostPortError::Address { text: looked_at.to_owned(), fault })?;
    let port = port.trim();
    let digits = port.strip_prefix(['+', '-']).unwrap_or(port);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(HostPortError::PortSyntax(port.to_owned()));
    }
    let number: i64 = port.parse().map_err(|_| HostPortError::PortRange(port.to_owned()))?;
    let number = if matches!(number, 0 | -1) { i64::from(default_port) } else { number };
    Ok((host.trim().to_owned(), number))
}

fn split(text: &str) -> Result<(&str, &str), AddressFault> {
    let (before, port) = text.rsplit_once(':').ok_or(AddressFault::MissingPort)?;
    // Brackets of the host's own are not looked at again; those in `unchecked` have no business there.
    let (host, unchecked) = match before.strip_prefix('[') {
        None if before.contains(':') => return Err(AddressFault::TooManyColons),
        None => (before, [before, port]),
        Some(_) => {
            let end = text.find(']').ok_or(AddressFault::MissingBracket)?;
            match text[end + 1..].chars().next() {
                Some(':') if end + 1 == before.len() => {}
                Some(':') => return Err(AddressFault::TooManyColons),
                _ => return Err(AddressFault::MissingPort),
            }
            (&text[1..end], [&text[1..end], port])
        }
    };
    match unchecked.concat() {
        rest if rest.contains('[') => Err(AddressFault::OpeningBracket),
        rest if rest.contains(']') => Err(AddressFault::ClosingBracket),
        _ => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        match parse_host_port(text, 4222) {
            Ok((host, port)) => format!("{host:?} {port}"),
            Err(error) => error.to_string(),
        }
    }

    /// Each pair was seen with the Go server.
    #[test]
    fn addresses_are_taken_apart_and_refused_as_go_does() {
        for (text, expected) in [
            ("host:1", r#""host" 1"#),
            ("host", r#""host" 4222"#),
            ("host:0", r#""host" 4222"#),
            ("host:-1", r#""host" 4222"#),
            (":5", r#""" 5"#),
            (" host : +7 ", r#""host" 7"#),
            ("[::1]", r#""::1" 4222"#),
            ("[::1]:9", r#""::1" 9"#),
            ("host:99999", r#""host" 99999"#),
            ("addr:::123", "address addr:::123: too many colons in address"),
            ("::1", "address ::1: too many colons in address"),
            ("::1]", "address ::1]: too many colons in address"),
            ("[::1", "address [::1: missing ']' in address"),
            ("[::1]4222", "address [::1]4222:4222: missing port in address"),
            ("[::1]:1:2", "address [::1]:1:2: too many colons in address"),
            ("[a]b:1", "address [a]b:1:4222: missing port in address"),
            ("[a[b]:1", "address [a[b]:1: unexpected '[' in address"),
            ("a[b:1", "address a[b:1: unexpected '[' in address"),
            ("a]b:1", "address a]b:1: unexpected ']' in address"),
            ("[a]:1]", "address [a]:1]: unexpected ']' in address"),
            ("host:", r#"strconv.Atoi: parsing "": invalid syntax"#),
            ("host:abc", r#"strconv.Atoi: parsing "abc": invalid syntax"#),
            ("host:1_0", r#"strconv.Atoi: parsing "1_0": invalid syntax"#),
            (
                "host:99999999999999999999",
                r#"strconv.Atoi: parsing "99999999999999999999": value out of range"#,
            ),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }
}
