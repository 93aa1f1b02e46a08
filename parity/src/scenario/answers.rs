//! Messages as a client of JetStream sees them: read whole, and written down so that two runs agree.
//!
//! Invariant: a placeholder stands for the same value everywhere in a transcript, `<id 1>` is never two ids. Sequences,
//! counts, sizes and texts stay as they came.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

use super::normalise;

/// A message that came for a subscription.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) subject: String,
    /// Which subscription it came for.
    pub(super) sid: String,
    pub(super) reply: String,
    /// The header block without its empty line, empty if there is none.
    pub(super) headers: Vec<u8>,
    pub(super) payload: Vec<u8>,
}

/// What the arguments of MSG or HMSG say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Head {
    subject: String,
    sid: String,
    reply: String,
    header_size: usize,
    size: usize,
}

impl Head {
    /// Reads a line; `None` if it isn't the head of a message.
    pub(super) fn parse(line: &[u8]) -> Option<Head> {
        let line = std::str::from_utf8(line).ok()?;
        let (has_headers, rest) = match line.strip_prefix("MSG ") {
            Some(rest) => (false, rest),
            None => (true, line.strip_prefix("HMSG ")?),
        };
        let mut words: Vec<&str> = rest.split(' ').collect();
        let size = words.pop()?.parse().ok()?;
        let header_size = if has_headers { words.pop()?.parse().ok()? } else { 0 };
        let subject = (*words.first()?).to_owned();
        let sid = (*words.get(1)?).to_owned();
        let reply = words.get(2).map_or(String::new(), |reply| (*reply).to_owned());
        (2..=3).contains(&words.len()).then_some(Head { subject, sid, reply, header_size, size })
    }

    /// How many bytes follow, the end of line included.
    pub(super) fn following(&self) -> usize {
        self.size + 2
    }

    /// Cuts the bytes that follow.
    pub(super) fn message(self, bytes: &[u8]) -> Message {
        let bytes = bytes.strip_suffix(b"\r\n").unwrap_or(bytes);
        let (headers, payload) = bytes.split_at(self.header_size.min(bytes.len()));
        let headers = headers.strip_suffix(b"\r\n\r\n").unwrap_or(headers);
        Message {
            subject: self.subject,
            sid: self.sid,
            reply: self.reply,
            headers: headers.to_owned(),
            payload: payload.to_owned(),
        }
    }
}

impl Message {
    /// Returns the number of its status line.
    pub(super) fn status(&self) -> Option<u16> {
        std::str::from_utf8(self.headers.strip_prefix(b"NATS/1.0 ")?.get(..3)?).ok()?.parse().ok()
    }

    fn header_lines(&self) -> impl Iterator<Item = String> {
        let text = String::from_utf8_lossy(&self.headers).into_owned();
        text.split("\r\n").filter(|line| !line.is_empty()).map(str::to_owned).collect::<Vec<_>>().into_iter()
    }
}

/// What a scenario has seen, for its later steps.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// The acknowledgement subjects of all messages, in order; those of flow control and of backups too.
    acks: Vec<String>,
    /// The last value of each header.
    headers: BTreeMap<String, String>,
    /// The last answer that was JSON.
    json: Value,
}

impl Memory {
    /// Keeps what later steps may name.
    pub(super) fn note(&mut self, message: &Message) {
        let answered = ["$JS.ACK.", "$JS.FC.", "$JS.SNAPSHOT.ACK."];
        if answered.iter().any(|prefix| message.reply.starts_with(prefix)) {
            self.acks.push(message.reply.clone());
        }
        for line in message.header_lines() {
            if let Some((key, value)) = line.split_once(':') {
                self.headers.insert(key.to_owned(), value.trim().to_owned());
            }
        }
        if let Ok(json @ Value::Object(_)) = serde_json::from_slice(&message.payload) {
            self.json = json;
        }
    }

    /// Replaces `<<ack N>>` (the Nth acknowledgement subject, or the `last`), `<<header NAME>>`, `<<field POINTER>>` (of the
    /// last JSON) and `<<time SECONDS>>` (from now, as RFC 3339); others are left for the world.
    pub(super) fn expand(&self, text: &str) -> Result<String> {
        let (mut out, mut rest) = (String::new(), text);
        while let Some((before, after)) = rest.split_once("<<") {
            let (name, after) = after.split_once(">>").context("<< without >>")?;
            out.push_str(before);
            match name.split_once(' ') {
                Some(("ack", "last")) => {
                    out.push_str(self.acks.last().context("no acknowledgement subject")?);
                }
                Some(("ack", number)) => {
                    let at = number.parse::<usize>()?.checked_sub(1).context("they count from 1")?;
                    out.push_str(self.acks.get(at).context("not so many acknowledgement subjects")?);
                }
                Some(("header", name)) => out.push_str(self.headers.get(name).context("no such header")?),
                Some(("field", pointer)) => match self.json.pointer(pointer).context("no such field")? {
                    Value::String(text) => out.push_str(text),
                    other => write!(out, "{other}")?,
                },
                Some(("time", seconds)) => out.push_str(&rfc3339(seconds.parse()?)?),
                _ => write!(out, "<<{name}>>")?,
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }
}

/// Returns the time so many seconds from now.
fn rfc3339(from_now: i64) -> Result<String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let seconds = i64::try_from(now.as_secs())? + from_now;
    let (days, second) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
    // Civil date from days, with years that begin in March, so that the leap day is the last.
    let shifted = days + 719_468;
    let (era, day) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month, year) = (
        day - (153 * month + 2) / 5 + 1,
        if month < 10 { month + 3 } else { month - 9 },
        year + era * 400 + i64::from(month >= 10),
    );
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    Ok(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:09}Z", now.subsec_nanos()))
}

/// Keys whose values are how long something took or takes.
const DURATIONS: [&str; 3] = ["pause_remaining", "rtt", "ack_time"];
/// Keys that hold the name of a consumer, which the server may have chosen.
const NAMES: [&str; 4] = ["name", "consumer", "consumers", "consumer_name"];

/// The names of one transcript.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// All that the scenario says: what is in it was not chosen by the server.
    said: String,
    ids: Vec<String>,
    created: BTreeMap<String, String>,
}

impl Names {
    /// Starts for a scenario whose steps have these texts.
    pub(super) fn new<'a>(steps: impl Iterator<Item = &'a str>) -> Names {
        Names { said: steps.collect::<Vec<_>>().join("\n"), ..Names::default() }
    }

    /// Returns the lines of a message; its subject is among them unless it is the one that was asked for.
    pub(super) fn show(&mut self, message: &Message, is_answer: bool) -> Vec<String> {
        let mut lines = Vec::new();
        let indent = if is_answer { "" } else { "  " };
        if !is_answer {
            let reply = match message.reply.is_empty() {
                true => String::new(),
                false => format!(" reply {}", self.text(&message.reply)),
            };
            lines.push(format!("{}{reply}", self.text(&message.subject)));
        }
        for line in message.header_lines() {
            lines.push(format!("{indent}{}", self.text(&line)));
        }
        match serde_json::from_slice(&message.payload) {
            Ok(Value::Object(fields)) => {
                lines.extend(self.object(fields).into_iter().map(|line| format!("{indent}{line}")));
            }
            _ if message.payload.is_empty() && is_answer && lines.is_empty() => {
                lines.push("(empty)".to_owned());
            }
            _ if message.payload.is_empty() => {}
            _ => lines.push(format!("{indent}{}", self.line(&message.payload))),
        }
        lines
    }

    /// Returns a line for each field; for each element where the field is a list of objects.
    fn object(&mut self, fields: Map<String, Value>) -> Vec<String> {
        let mut value = Value::Object(fields);
        self.replace(&mut value, "");
        let mut lines = Vec::new();
        for (key, value) in value.as_object().into_iter().flatten() {
            match value {
                Value::Array(elements) if elements.iter().any(Value::is_object) => {
                    let shown =
                        elements.iter().enumerate().map(|(at, element)| format!("{key}[{at}]: {element}"));
                    lines.extend(shown);
                }
                _ => lines.push(format!("{key}: {value}")),
            }
        }
        lines
    }

    /// Replaces in place what may differ in the value of the key `name`.
    fn replace(&mut self, value: &mut Value, name: &str) {
        match value {
            Value::Object(fields) => {
                let whose = created_by(fields);
                for (key, value) in fields.iter_mut() {
                    let (is_client, key) = (name == "client", key.as_str());
                    match value {
                        Value::String(time) if key == "created" => *time = self.created(&whose, time),
                        _ if DURATIONS.contains(&key) => *value = Value::from("<duration>"),
                        _ if is_client && key == "id" => *value = Value::from("<number>"),
                        _ => self.replace(value, key),
                    }
                }
            }
            Value::Array(elements) => elements.iter_mut().for_each(|element| self.replace(element, name)),
            Value::String(text) => {
                let chosen = NAMES.contains(&name) && text.len() == 8 && !self.said.contains(text.as_str());
                *text = if chosen { self.id(text) } else { self.text(text) };
            }
            // The time of a message that an old acknowledgement names, not a count.
            Value::Number(number) if is_timestamp(&number.to_string()) => *value = Value::from("<ts>"),
            _ => {}
        }
    }

    /// A time of creation stays for the life of what was created, also over a restart.
    fn created(&mut self, whose: &str, time: &str) -> String {
        match self.created.insert(whose.to_owned(), time.to_owned()) {
            Some(former) if former != time => "<another time>".to_owned(),
            _ if time.starts_with("0001-") => time.to_owned(),
            _ => "<time>".to_owned(),
        }
    }

    /// Replaces times, timestamps and ids in text.
    fn text(&mut self, text: &str) -> String {
        let in_subject = text.starts_with("$JS.");
        let is_flow_control = text.starts_with("$JS.FC.");
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(length) = self.time(&out, rest) {
                out.push_str("<time>");
                rest = &rest[length..];
                continue;
            }
            let length = rest.bytes().take_while(u8::is_ascii_alphanumeric).count();
            let (word, after) = rest.split_at(length);
            let unsaid = !word.is_empty() && !self.said.contains(word);
            let generated = length == 8 && in_subject && word.bytes().any(|byte| !byte.is_ascii_uppercase());
            if is_flow_control && after.is_empty() && !word.is_empty() {
                out.push_str("<id>");
            } else if is_timestamp(word) {
                out.push_str("<ts>");
            } else if unsaid && (is_nuid(word) || generated) {
                out.push_str(&self.id(word));
            } else {
                out.push_str(word);
            }
            let next = after.chars().next().map_or(0, char::len_utf8);
            out.push_str(&after[..next]);
            rest = &after[next..];
        }
        normalise::all_but_times(&out)
    }

    /// Returns bytes as a line, of which a long one is cut.
    pub(super) fn line(&mut self, bytes: &[u8]) -> String {
        match std::str::from_utf8(bytes) {
            Ok(text) if text.len() <= 300 && !text.contains(|c: char| c.is_control()) => self.text(text),
            // A part of a backup: servers compress differently.
            Err(_) => "<bytes>".to_owned(),
            _ => normalise::line(bytes),
        }
    }

    /// Returns the length of a time that `rest` begins with, unless it is none or the scenario itself said it.
    fn time(&self, before: &str, rest: &str) -> Option<usize> {
        let bytes = rest.as_bytes();
        let starts = bytes.len() >= 20 && bytes[..4].iter().all(u8::is_ascii_digit) && &rest[4..5] == "-";
        if !starts || bytes[10] != b'T' || before.ends_with(|c: char| c.is_ascii_alphanumeric()) {
            return None;
        }
        let length = bytes.iter().take_while(|byte| b"0123456789-T:.Z".contains(byte)).count();
        let time = &rest[..length];
        (!time.starts_with("0001-") && !self.said.contains(time)).then_some(length)
    }

    fn id(&mut self, id: &str) -> String {
        let at = self.ids.iter().position(|known| known == id).unwrap_or_else(|| {
            self.ids.push(id.to_owned());
            self.ids.len() - 1
        });
        format!("<id {}>", at + 1)
    }
}

/// Names what an object with a time of creation is: a stream or a consumer.
fn created_by(fields: &Map<String, Value>) -> String {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let stream = text(fields.get("stream_name").or_else(|| fields.get("config")?.get("name")));
    format!("{stream} {}", text(fields.get("name")))
}

/// Nanoseconds since 1970 of these decades.
fn is_timestamp(word: &str) -> bool {
    word.len() == 19
        && (word.starts_with("17") || word.starts_with("18"))
        && word.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_nuid(word: &str) -> bool {
    let has = |kind: fn(&u8) -> bool| word.bytes().any(|byte| kind(&byte));
    word.len() == 22
        && has(u8::is_ascii_uppercase)
        && (has(u8::is_ascii_lowercase) || has(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(head: &str, bytes: &str) -> Message {
        let head = Head::parse(head.as_bytes()).unwrap();
        assert_eq!(head.following(), bytes.len());
        head.message(bytes.as_bytes())
    }

    #[test]
    fn messages_are_cut_by_their_sizes() {
        let plain = message("MSG foo 1 3", "a\nb\r\n");
        assert_eq!(
            (plain.subject.as_str(), plain.reply.as_str(), &plain.payload[..]),
            ("foo", "", &b"a\nb"[..])
        );
        let status = message("HMSG foo 1 bar 28 28", "NATS/1.0 404 No Messages\r\n\r\n\r\n");
        assert_eq!((status.status(), status.reply.as_str()), (Some(404), "bar"));
        assert!(Head::parse(b"PONG").is_none() && Head::parse(b"MSG foo 3").is_none());
    }

    #[test]
    fn what_the_server_chose_is_replaced_alike_everywhere() {
        let mut names = Names::new(["durable1"].into_iter());
        let json = r#"{"name":"aB3dE6gH","config":{"name":"aB3dE6gH"},"id":"ABCDEFGHIJKLMNOPQRSTu1","consumer":"durable1"}"#;
        let shown = names.show(&Message { payload: json.into(), ..Message::default() }, true);
        assert_eq!(
            shown,
            [
                r#"config: {"name":"<id 1>"}"#,
                r#"consumer: "durable1""#,
                r#"id: "<id 2>""#,
                r#"name: "<id 1>""#,
            ]
        );
        let subject = "$JS.ACK.S.aB3dE6gH.1.2.3.1763725000000000000.4";
        assert_eq!(names.text(subject), "$JS.ACK.S.<id 1>.1.2.3.<ts>.4");
        assert_eq!(names.text("$JS.EVENT.ADVISORY.CONSUMER"), "$JS.EVENT.ADVISORY.CONSUMER");
        assert_eq!(names.text("$JS.FC.S.durable1.xY12"), "$JS.FC.S.durable1.<id>");
        assert_eq!(names.text("max 9223372036854775807"), "max 9223372036854775807");
    }

    #[test]
    fn times_are_replaced_unless_the_scenario_said_them() {
        let mut names = Names::new(["2020-01-01T00:00:00Z"].into_iter());
        let line = "Nats-Time-Stamp: 2026-11-21T11:00:00.123Z";
        assert_eq!(names.text(line), "Nats-Time-Stamp: <time>");
        let info = |created: &str| Message {
            payload: format!(r#"{{"config":{{"name":"S"}},"created":"{created}"}}"#).into(),
            ..Message::default()
        };
        assert_eq!(names.show(&info("2026-11-21T11:00:00Z"), true)[1], r#"created: "<time>""#);
        assert_eq!(names.show(&info("2026-11-21T11:00:00Z"), true)[1], r#"created: "<time>""#);
        assert_eq!(names.show(&info("2026-11-21T11:00:01Z"), true)[1], r#"created: "<another time>""#);
    }

    #[test]
    fn later_steps_name_what_earlier_ones_got() {
        let mut memory = Memory::default();
        let headers = b"NATS/1.0\r\nNats-Pin-Id: abc".to_vec();
        let reply = "$JS.ACK.S.C.1.1.1.5.0".to_owned();
        memory.note(&Message { reply, headers, payload: br#"{"a":{"b":7}}"#.to_vec(), ..Message::default() });
        let text =
            memory.expand("<<ack 1>> <<ack last>> <<header Nats-Pin-Id>> <<field /a/b>> <<dir>>").unwrap();
        assert_eq!(text, "$JS.ACK.S.C.1.1.1.5.0 $JS.ACK.S.C.1.1.1.5.0 abc 7 <<dir>>");
        assert!(memory.expand("<<ack 2>>").is_err() && memory.expand("<<header X>>").is_err());
        let time = memory.expand("<<time 0>>").unwrap();
        assert!(time.len() == 30 && time.starts_with("20") && time.ends_with('Z'), "{time}");
    }
}
