//! Steps of clients of JetStream: requests, their answers, and messages that come by themselves.
//!
//! A message that comes while a step waits for another is kept for a later `get`, so that the order in which answers and
//! deliveries cross doesn't show.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::answers::{Head, Message};
use super::connection::{LIMIT, Received};
use super::format::{Cuts, Js};
use super::runner::Run;
use super::text::unescape;

/// The subscription of a client's inbox.
const INBOX_SID: &str = "js";
/// How often a `poll` asks. The API tells nobody when an answer would be another, so asking again is the only way; [`LIMIT`] ends it.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// What is kept of a connection whose messages are read whole.
#[derive(Debug, Default)]
pub(super) struct Client {
    /// How many requests it has sent: the end of the next one's reply subject.
    requests: usize,
    /// Messages that came while something else was waited for.
    waiting: VecDeque<Message>,
}

/// What came next.
enum Came {
    Message(Message),
    Line(Vec<u8>),
    End,
    Nothing,
}

impl Run<'_, '_> {
    pub(super) fn js(&mut self, actor: &str, step: &Js) -> Result<()> {
        match step {
            Js::Client(fields) => self.js_client(actor, fields),
            Js::Publish { reply, message } => {
                let reply = self.expand_js(actor, reply)?;
                self.publish(actor, &reply, message)
            }
            Js::Request { answers, message } => self.request(actor, *answers, message),
            Js::Fill { count, message } => {
                (1..=*count).try_for_each(|i| self.fill(actor, &message.replace("{i}", &i.to_string())))
            }
            Js::Poll { pointer, value, message } => self.poll(actor, pointer, value, message),
            Js::Get { count, sorted } => self.get(actor, *count, *sorted),
            Js::Quiet(ms) => self.quiet(actor, Duration::from_millis(*ms)),
        }
    }

    fn js_client(&mut self, actor: &str, fields: &str) -> Result<()> {
        self.open(actor, None, true)?;
        let more = if fields.is_empty() { String::new() } else { format!(",{fields}") };
        // As client libraries do; a request's subject may end in a filter with wildcards, which pedantic clients hear about.
        self.connect(actor, &format!("\"headers\":true,\"no_responders\":true,\"pedantic\":false{more}"))?;
        self.clients.insert(actor.to_owned(), Client::default());
        self.send(actor, format!("SUB _INBOX.{actor}.* {INBOX_SID}\r\n").as_bytes(), &Cuts::None)?;
        self.ping_js(actor)
    }

    fn expand_js(&self, actor: &str, text: &str) -> Result<String> {
        self.world.expand(&self.memory.expand(text)?, self.connections.get(actor))
    }

    fn client(&mut self, actor: &str) -> Result<&mut Client> {
        self.clients.get_mut(actor).context("opened by another step than js")
    }

    /// Publishes a message of the form `SUBJECT [[HEADER: VALUE|…] PAYLOAD]`.
    fn publish(&mut self, actor: &str, reply: &str, message: &str) -> Result<()> {
        let text = self.expand_js(actor, message)?;
        let (subject, rest) = text.split_once(' ').unwrap_or((&text, ""));
        let (headers, payload) = match header_block(rest) {
            Some((headers, payload)) => {
                let lines = headers.split('|').map(|line| format!("{line}\r\n")).collect::<String>();
                (unescape(&format!("NATS/1.0\r\n{lines}\r\n"))?, payload)
            }
            None => (Vec::new(), rest),
        };
        let payload = unescape(payload)?;
        let space = if reply.is_empty() { "" } else { " " };
        let size = headers.len() + payload.len();
        let head = match headers.len() {
            0 => format!("PUB {subject} {reply}{space}{size}\r\n"),
            length => format!("HPUB {subject} {reply}{space}{length} {size}\r\n"),
        };
        self.send(actor, &[head.as_bytes(), &headers, &payload, b"\r\n"].concat(), &Cuts::None)
    }

    /// Publishes with a new reply subject, and returns that.
    fn ask(&mut self, actor: &str, message: &str) -> Result<String> {
        let client = self.client(actor)?;
        client.requests += 1;
        let inbox = format!("_INBOX.{actor}.{}", client.requests);
        self.publish(actor, &inbox, message)?;
        Ok(inbox)
    }

    fn next_js(&mut self, actor: &str, deadline: Instant) -> Result<Came> {
        let connection = self.connection(actor)?;
        let line = match connection.next(deadline)? {
            Some(Received::Line(line)) => line,
            Some(Received::End(rest)) => {
                self.record_end(actor, &rest);
                return Ok(Came::End);
            }
            None => return Ok(Came::Nothing),
        };
        let Some(head) = Head::parse(&line) else { return Ok(Came::Line(line)) };
        let bytes = connection.exact(head.following(), Instant::now() + LIMIT).context("half a message")?;
        Ok(Came::Message(head.message(&bytes)))
    }

    /// Waits for a message to the inbox; others wait in the client, other lines are recorded.
    ///
    /// A delivery to an inbox has the subject that it was stored with, so the subscription tells.
    fn answer(&mut self, actor: &str) -> Result<Message> {
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.next_js(actor, deadline)? {
                Came::Message(message) if message.sid == INBOX_SID => return Ok(message),
                Came::Message(message) => self.client(actor)?.waiting.push_back(message),
                Came::Line(line) => self.record_line(actor, &line),
                Came::End => bail!("closed"),
                Came::Nothing => bail!("no answer within {LIMIT:?}"),
            }
        }
    }

    fn record_line(&mut self, actor: &str, line: &[u8]) {
        let line = self.names.line(line);
        self.record(actor, &format!("< {line}"));
    }

    fn record_message(&mut self, actor: &str, message: &Message, is_answer: bool) {
        self.memory.note(message);
        for line in self.names.show(message, is_answer) {
            self.record(actor, &format!("< {line}"));
        }
    }

    fn request(&mut self, actor: &str, answers: Option<usize>, message: &str) -> Result<()> {
        let inbox = self.ask(actor, message)?;
        let single = answers == Some(1);
        for _ in 0..answers.unwrap_or(1000) {
            let mut message = self.answer(actor)?;
            let to_inbox = message.subject == inbox;
            if to_inbox {
                message.subject = "(inbox)".to_owned();
            }
            self.record_message(actor, &message, single && to_inbox);
            if answers.is_none() && message.status().is_some_and(|status| status != 100) {
                break;
            }
        }
        Ok(())
    }

    fn fill(&mut self, actor: &str, message: &str) -> Result<()> {
        self.ask(actor, message)?;
        let answer = self.answer(actor)?;
        if answer.status().is_some() || String::from_utf8_lossy(&answer.payload).contains("\"error\"") {
            self.record_message(actor, &answer, true);
        }
        Ok(())
    }

    fn poll(&mut self, actor: &str, pointer: &str, value: &str, message: &str) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        loop {
            self.ask(actor, message)?;
            let answer = self.answer(actor)?;
            let json: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
            // A field that is left out is as good as one that is null.
            let field = json.pointer(pointer).unwrap_or(&serde_json::Value::Null).to_string();
            if field == value {
                self.record_message(actor, &answer, true);
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "{pointer} is still {field} after {LIMIT:?}");
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn get(&mut self, actor: &str, count: usize, sorted: bool) -> Result<()> {
        let (deadline, mut messages) = (Instant::now() + LIMIT, Vec::new());
        while messages.len() < count {
            if let Some(message) = self.client(actor)?.waiting.pop_front() {
                messages.push(message);
                continue;
            }
            match self.next_js(actor, deadline)? {
                Came::Message(message) => messages.push(message),
                Came::Line(line) => self.record_line(actor, &line),
                Came::End => return Ok(()),
                Came::Nothing => {
                    let shown = messages.iter().flat_map(|it| self.names.show(it, false)).collect::<Vec<_>>();
                    bail!("only {} of {count}:\n{}", messages.len(), shown.join("\n"));
                }
            }
        }
        if sorted {
            messages.sort_by(|a, b| (&a.subject, &a.payload).cmp(&(&b.subject, &b.payload)));
        }
        messages.iter().for_each(|message| self.record_message(actor, message, false));
        Ok(())
    }

    fn quiet(&mut self, actor: &str, pause: Duration) -> Result<()> {
        let end = Instant::now() + LIMIT;
        loop {
            ensure!(Instant::now() < end, "never quiet");
            if let Some(message) = self.client(actor)?.waiting.pop_front() {
                self.record_message(actor, &message, false);
                continue;
            }
            match self.next_js(actor, Instant::now() + pause)? {
                Came::Message(message) => self.record_message(actor, &message, false),
                Came::Line(line) => self.record_line(actor, &line),
                Came::End => return Ok(()),
                Came::Nothing => {
                    self.record(actor, "(quiet)");
                    return Ok(());
                }
            }
        }
    }

    /// PING and PONG; messages that come between wait for a later step.
    pub(super) fn ping_js(&mut self, actor: &str) -> Result<()> {
        self.send(actor, b"PING\r\n", &Cuts::None)?;
        let deadline = Instant::now() + LIMIT;
        loop {
            match self.next_js(actor, deadline)? {
                Came::Line(line) if line == b"PONG" => return Ok(()),
                Came::Line(line) => self.record_line(actor, &line),
                Came::Message(message) => self.client(actor)?.waiting.push_back(message),
                Came::End => return Ok(()),
                Came::Nothing => bail!("no PONG within {LIMIT:?}"),
            }
        }
    }
}

/// Cuts `[NAME: VALUE|…] ` off what follows; a JSON array doesn't begin so.
fn header_block(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix('[')?;
    let name = inner.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || *byte == b'-').count();
    if name == 0 || !inner[name..].starts_with(':') {
        return None;
    }
    let (headers, payload) = inner.split_once(']')?;
    Some((headers, payload.strip_prefix(' ').unwrap_or(payload)))
}

#[cfg(test)]
mod tests {
    use super::header_block;

    #[test]
    fn headers_are_told_from_arrays() {
        assert_eq!(header_block("[Nats-TTL: 1s|A: b] x y"), Some(("Nats-TTL: 1s|A: b", "x y")));
        assert_eq!(header_block("[A: b]"), Some(("A: b", "")));
        assert_eq!(header_block(r#"["a:b"]"#), None);
        assert_eq!(header_block("{}"), None);
    }
}
