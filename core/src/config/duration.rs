//! Durations as configurations write them (`1h30m`, `2.5s`) and as messages show them (`1h30m0s`).
//!
//! Source: Go's `time` package, `ParseDuration` and `Duration.String`, whose words are part of the messages.

use super::text::quoted;

const UNITS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Parses `text` into nanoseconds.
///
/// # Errors
///
/// The words in which the reference complains.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let invalid = || format!("time: invalid duration {}", quoted(text));
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (whole, after_whole) = split_digits(rest);
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => split_digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return Err(invalid());
        }
        let end = after_number.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(after_number.len());
        let (unit_name, after_unit) = after_number.split_at(end);
        if unit_name.is_empty() {
            return Err(format!("time: missing unit in duration {}", quoted(text)));
        }
        let Some((_, unit)) = UNITS.iter().find(|(name, _)| *name == unit_name) else {
            return Err(format!("time: unknown unit {} in duration {}", quoted(unit_name), quoted(text)));
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().map_err(|_| invalid())? };
        let mut nanos = whole.checked_mul(*unit).ok_or_else(invalid)?;
        // Digits beyond the eighteenth are below a nanosecond in every unit.
        let digits = &fraction[..fraction.len().min(18)];
        if let Ok(value) = digits.parse::<u64>() {
            let scale = 10u128.pow(digits.len() as u32);
            nanos += (u128::from(value) * u128::from(*unit) / scale) as u64;
        }
        total = total.checked_add(nanos).filter(|sum| *sum <= 1 << 63).ok_or_else(invalid)?;
        rest = after_unit;
    }
    match (negative, i64::try_from(total)) {
        (true, _) => Ok(0i64.wrapping_sub_unsigned(total)),
        (false, Ok(total)) => Ok(total),
        (false, Err(_)) => Err(invalid()),
    }
}

/// Writes nanoseconds as the reference's messages and monitoring do: `2m0s`, `1.5s`, `100ms`, `0s`.
pub fn format_duration(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let size = nanos.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let text = format!("{}.{:0width$}", value / unit, value % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    let text = match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{size}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(size, 1_000_000)),
        _ => {
            let (minutes, rest) = (size / 60_000_000_000, size % 60_000_000_000);
            let seconds = if rest < 1_000_000_000 && rest > 0 {
                format!("0.{rest:09}").trim_end_matches('0').to_owned()
            } else {
                fraction(rest, 1_000_000_000)
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_written() {
        for (text, nanos, shown) in [
            ("0", 0, "0s"),
            ("10s", 10_000_000_000, "10s"),
            ("-1.5h", -5_400_000_000_000, "-1h30m0s"),
            ("2m", 120_000_000_000, "2m0s"),
            ("1h0.25s", 3_600_250_000_000, "1h0m0.25s"),
            (".5ms", 500_000, "500µs"),
            ("1.5us", 1_500, "1.5µs"),
            ("50ms", 50_000_000, "50ms"),
            ("7ns", 7, "7ns"),
        ] {
            assert_eq!(parse_duration(text), Ok(nanos), "{text}");
            assert_eq!(format_duration(nanos), shown);
        }
        assert_eq!(parse_duration("-9223372036854775808ns"), Ok(i64::MIN));
    }

    #[test]
    fn bad_durations_are_named() {
        for (text, error) in [
            ("", r#"time: invalid duration """#),
            ("x", r#"time: invalid duration "x""#),
            ("3", r#"time: missing unit in duration "3""#),
            ("3x", r#"time: unknown unit "x" in duration "3x""#),
            (".s", r#"time: invalid duration ".s""#),
            ("9223372036854775808ns", r#"time: invalid duration "9223372036854775808ns""#),
            ("99999999999999999999h", r#"time: invalid duration "99999999999999999999h""#),
        ] {
            assert_eq!(parse_duration(text), Err(error.to_owned()));
        }
    }
}
