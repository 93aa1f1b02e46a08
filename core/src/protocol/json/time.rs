//! Times as Go's `time.Time` reads them from JSON.

use std::fmt::Write as _;

use crate::time::WallTime;

/// Reads a time in RFC 3339 as Go does, which takes an hour of one digit, a comma for the point and sixty minutes of an
/// offset. What lies beyond the years that nanoseconds reach becomes the first or the last moment they do reach.
///
/// # Errors
///
/// Go's text.
pub fn parse_time(text: &[u8]) -> Result<WallTime, String> {
    let mut reader = Reader { text, rest: text };
    let year = reader.digits(4, "2006")?;
    reader.literal(b"-")?;
    let month = reader.digits(2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(reader.out_of_range("month"));
    }
    reader.literal(b"-")?;
    let day = reader.digits(2, "02")?;
    reader.literal(b"T")?;
    let hour = reader.hour()?;
    if hour > 23 {
        return Err(reader.out_of_range("hour"));
    }
    reader.literal(b":")?;
    let minute = reader.digits(2, "04")?;
    if minute > 59 {
        return Err(reader.out_of_range("minute"));
    }
    reader.literal(b":")?;
    let second = reader.digits(2, "05")?;
    if second > 59 {
        return Err(reader.out_of_range("second"));
    }
    let nanos = reader.fraction();
    let offset = reader.offset()?;
    if !reader.rest.is_empty() {
        return Err(format!("parsing time {}: extra text: {}", quote(text), quote(reader.rest)));
    }
    let days = jiff::civil::Date::new(year as i16, month as i8, day as i8)
        .ok()
        .filter(|_| day >= 1)
        .and_then(|date| date.since(jiff::civil::date(1970, 1, 1)).ok())
        .map(|span| i128::from(span.get_days()))
        .ok_or_else(|| reader.out_of_range("day"))?;
    let seconds = days * 86_400 + i128::from(hour * 3_600 + minute * 60 + second) - i128::from(offset);
    let total = seconds * 1_000_000_000 + i128::from(nanos);
    Ok(WallTime::from_unix_nanos(total.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64))
}

struct Reader<'a> {
    text: &'a [u8],
    rest: &'a [u8],
}

impl Reader<'_> {
    fn bad(&self, element: &str) -> String {
        let (text, rest) = (quote(self.text), quote(self.rest));
        format!(r#"parsing time {text} as "2006-01-02T15:04:05Z07:00": cannot parse {rest} as "{element}""#)
    }

    fn out_of_range(&self, what: &str) -> String {
        format!("parsing time {}: {what} out of range", quote(self.text))
    }

    fn literal(&mut self, literal: &[u8; 1]) -> Result<(), String> {
        let element = if literal == b"T" {
            "T"
        } else if literal == b":" {
            ":"
        } else {
            "-"
        };
        self.rest = self.rest.strip_prefix(literal).ok_or_else(|| self.bad(element))?;
        Ok(())
    }

    fn digits(&mut self, count: usize, element: &str) -> Result<i64, String> {
        let digits = self.rest.get(..count).filter(|digits| digits.iter().all(u8::is_ascii_digit));
        let value = digits.map(number).ok_or_else(|| self.bad(element))?;
        self.rest = &self.rest[count..];
        Ok(value)
    }

    fn hour(&mut self) -> Result<i64, String> {
        let count = self.rest.iter().take(2).take_while(|byte| byte.is_ascii_digit()).count();
        self.digits(count.max(1), "15")
    }

    /// Reads a point or comma and digits behind it, as far as they are nanoseconds.
    fn fraction(&mut self) -> i64 {
        let [b'.' | b',', behind @ ..] = self.rest else { return 0 };
        let count = behind.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if count == 0 {
            return 0;
        }
        let (digits, rest) = behind.split_at(count);
        self.rest = rest;
        let shown = &digits[..count.min(9)];
        number(shown) * 10i64.pow(9 - shown.len() as u32)
    }

    /// Reads `Z` or an offset, in seconds.
    fn offset(&mut self) -> Result<i64, String> {
        if let Some(rest) = self.rest.strip_prefix(b"Z") {
            self.rest = rest;
            return Ok(0);
        }
        let [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, rest @ ..] = self.rest else {
            return Err(self.bad("Z07:00"));
        };
        if ![h1, h2, m1, m2].iter().all(|byte| byte.is_ascii_digit()) {
            return Err(self.bad("Z07:00"));
        }
        let (hours, minutes) = (number(&[*h1, *h2]), number(&[*m1, *m2]));
        if hours > 24 {
            return Err(self.out_of_range("time zone offset hour"));
        }
        if minutes > 60 {
            return Err(self.out_of_range("time zone offset minute"));
        }
        self.rest = rest;
        let seconds = hours * 3_600 + minutes * 60;
        Ok(if *sign == b'-' { -seconds } else { seconds })
    }
}

/// Quotes as Go's package `time` does, which is not as its `%q`.
fn quote(text: &[u8]) -> String {
    let mut out = String::from("\"");
    for byte in text {
        // Writing to a string can't fail.
        let _ = match byte {
            b'"' | b'\\' => write!(out, "\\{}", char::from(*byte)),
            b' '..=0x7f => write!(out, "{}", char::from(*byte)),
            _ => write!(out, "\\x{byte:02x}"),
        };
    }
    out.push('"');
    out
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(text: &str) -> String {
        match parse_time(text.as_bytes()) {
            Ok(time) => time.to_string(),
            Err(error) => error.replace(&quote(text.as_bytes()), "_"),
        }
    }

    /// The errors are answers of the Go server.
    #[test]
    fn times_are_read_as_go_reads_them() {
        let layout = r#"parsing time _ as "2006-01-02T15:04:05Z07:00": cannot parse"#;
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00Z".to_owned()),
            ("2020-02-29T23:59:59.123456789Z", "2020-02-29T23:59:59.123456789Z".to_owned()),
            ("2020-02-29T23:59:59.1234567899Z", "2020-02-29T23:59:59.123456789Z".to_owned()),
            ("2020-12-01T2:00:00Z", "2020-12-01T02:00:00Z".to_owned()),
            ("2020-12-01T02:00:00,5Z", "2020-12-01T02:00:00.5Z".to_owned()),
            ("2020-12-01T02:00:00+02:60", "2020-11-30T23:00:00Z".to_owned()),
            ("1969-12-31T23:59:59-01:30", "1970-01-01T01:29:59Z".to_owned()),
            ("", format!(r#"{layout} _ as "2006""#)),
            ("x", format!(r#"{layout} _ as "2006""#)),
            ("202-12-01T02:00:00Z", format!(r#"{layout} _ as "2006""#)),
            ("2020-13-01T00:00:00Z", "parsing time _: month out of range".to_owned()),
            ("2020-12-41T00:00:00Z", "parsing time _: day out of range".to_owned()),
            ("2020-02-30T02:00:00Z", "parsing time _: day out of range".to_owned()),
            ("2020-12-01T25:00:00Z", "parsing time _: hour out of range".to_owned()),
            ("2020-12-01T02:60:00Z", "parsing time _: minute out of range".to_owned()),
            ("2020-12-01T00:00:00", format!(r#"{layout} "" as "Z07:00""#)),
            ("2020-12-01 00:00:00Z", format!(r#"{layout} " 00:00:00Z" as "T""#)),
            ("2020-12-01t02:00:00Z", format!(r#"{layout} "t02:00:00Z" as "T""#)),
            ("2020-12-01T02:00:00.Z", format!(r#"{layout} ".Z" as "Z07:00""#)),
            ("2020-12-01T02:00:00+2:00", format!(r#"{layout} "+2:00" as "Z07:00""#)),
            ("2020-12-01T02:00:00.5+25:00", "parsing time _: time zone offset hour out of range".to_owned()),
            ("2020-12-01é", format!(r#"{layout} "\xc3\xa9" as "T""#)),
            ("2020-12-01\"\\", format!(r#"{layout} "\"\\" as "T""#)),
            ("2020-12-01T02:00:00.5Zx", r#"parsing time _: extra text: "x""#.to_owned()),
        ] {
            assert_eq!(show(text), expected, "{text}");
        }
        assert_eq!(parse_time(b"0001-01-01T00:00:00Z"), Ok(WallTime::from_unix_nanos(i64::MIN)));
        assert_eq!(parse_time(b"9999-12-31T23:59:59Z"), Ok(WallTime::from_unix_nanos(i64::MAX)));
    }

    proptest::proptest! {
        #[test]
        fn what_is_shown_is_read(nanos in proptest::prelude::any::<i64>()) {
            let time = WallTime::from_unix_nanos(nanos);
            proptest::prop_assert_eq!(parse_time(time.to_string().as_bytes()), Ok(time));
        }

        #[test]
        fn nothing_panics(text in r"[0-9T:.,Z+\-x]{0,40}") {
            let _ = parse_time(text.as_bytes());
        }
    }
}
