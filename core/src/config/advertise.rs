//! Addresses that clients are told: a host, and perhaps a port.
//!
//! Source: nats-server `server/util.go`, `parseHostPort`; the texts are those of Go's `net` and `strconv`.

/// Takes `HOST`, `HOST:PORT` or `[HOST]:PORT` apart; no port, zero and -1 stand for the one that is listened on.
///
/// # Errors
///
/// What is wrong with it, in Go's words.
pub fn parse_host_port(text: &str) -> Result<(String, Option<u16>), String> {
    let problem = |reason: &str| Err(format!("address {text}: {reason}"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            None => return problem("missing ']' in address"),
            Some((host, "")) => (host, None),
            Some((host, port)) => match port.strip_prefix(':') {
                Some(port) if !port.contains(':') => (host, Some(port)),
                Some(_) => return problem("too many colons in address"),
                None => return problem("missing port in address"),
            },
        },
        None => match text.rsplit_once(':') {
            None => (text, None),
            Some((host, _)) if host.contains(':') => return problem("too many colons in address"),
            Some((host, port)) => (host, Some(port)),
        },
    };
    let port = match port.map(str::trim) {
        None => 0,
        Some(digits) => digits.parse::<i64>().map_err(|error| {
            let reason = match error.kind() {
                std::num::IntErrorKind::PosOverflow | std::num::IntErrorKind::NegOverflow => {
                    "value out of range"
                }
                _ => "invalid syntax",
            };
            format!("strconv.Atoi: parsing {digits:?}: {reason}")
        })?,
    };
    // Differs: the reference takes any number. One that is no port would be told to nobody's use.
    let port = match port {
        0 | -1 => None,
        port => Some(u16::try_from(port).map_err(|_| format!("address {text}: invalid port"))?),
    };
    Ok((host.trim().to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_host_and_perhaps_a_port() {
        let parse = |text| parse_host_port(text).map(|(host, port)| format!("{host} {port:?}"));
        for (text, want) in [
            ("example.com", "example.com None"),
            ("example.com:4223", "example.com Some(4223)"),
            ("example.com:0", "example.com None"),
            ("example.com:-1", "example.com None"),
            ("[::1]:5", "::1 Some(5)"),
            ("[::1]", "::1 None"),
            (":7", " Some(7)"),
        ] {
            assert_eq!(parse(text).as_deref(), Ok(want), "{text}");
        }
        for (text, want) in [
            ("addr:::123", "address addr:::123: too many colons in address"),
            ("::1", "address ::1: too many colons in address"),
            ("[::1", "address [::1: missing ']' in address"),
            ("[::1]5", "address [::1]5: missing port in address"),
            ("host:", "strconv.Atoi: parsing \"\": invalid syntax"),
            ("host:x", "strconv.Atoi: parsing \"x\": invalid syntax"),
            (
                "host:99999999999999999999",
                "strconv.Atoi: parsing \"99999999999999999999\": value out of range",
            ),
            ("host:70000", "address host:70000: invalid port"),
        ] {
            assert_eq!(parse(text), Err(want.to_owned()), "{text}");
        }
    }
}
