//! One raw connection: protocol bytes out, deliveries in, every answer looked at.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::servers;

/// A server that says nothing for so long has stalled.
const SILENCE: Duration = Duration::from_secs(60);
const READ_SIZE: usize = 256 * 1024;

/// A client that does everything on one thread: it writes, then reads what has come.
pub(super) struct Client {
    stream: TcpStream,
    pub(super) inbox: &'static str,
    buffer: Vec<u8>,
    /// What of `buffer` has not been looked at.
    unread: Range<usize>,
    /// What is written with the next [`Client::flush`].
    pub(super) out: Vec<u8>,
    requests: u64,
}

/// A delivery, as places in the client's buffer; good until more is read.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    subject: Range<usize>,
    reply: Range<usize>,
    header: Range<usize>,
    payload: Range<usize>,
}

const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"rust\",\"version\":\"1.0.0\",\
    \"protocol\":1,\"headers\":true,\"no_responders\":true}\r\n";

impl Client {
    /// Connects and subscribes to all below `inbox`, which no other connection of the case has.
    pub(super) fn connect(address: SocketAddr, inbox: &'static str) -> Result<Client> {
        let (stream, _) = servers::connect(address)?;
        stream.set_read_timeout(Some(SILENCE))?;
        stream.set_write_timeout(Some(SILENCE))?;
        let out = format!("{CONNECT}SUB {inbox}.> 1\r\n").into_bytes();
        Ok(Client { stream, inbox, buffer: vec![0; READ_SIZE], unread: 0..0, out, requests: 0 })
    }

    /// Appends a publish with a reply subject.
    pub(super) fn publish(&mut self, subject: &str, reply: &str, payload: &[u8]) {
        self.out.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", payload.len()).as_bytes());
        self.out.extend_from_slice(payload);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Writes what was appended.
    pub(super) fn flush(&mut self) -> Result<()> {
        self.stream.write_all(&self.out).context("write")?;
        self.out.clear();
        Ok(())
    }

    /// Waits for more bytes.
    pub(super) fn fill(&mut self) -> Result<()> {
        self.buffer.copy_within(self.unread.clone(), 0);
        self.unread = 0..self.unread.len();
        if self.unread.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let n = self.stream.read(&mut self.buffer[self.unread.end..]);
        let n = n.with_context(|| format!("no answer within {SILENCE:?}"))?;
        ensure!(n > 0, "the server closed the connection");
        self.unread.end += n;
        Ok(())
    }

    /// Returns the next delivery that has come whole, without waiting.
    pub(super) fn buffered(&mut self) -> Result<Option<Incoming>> {
        loop {
            let start = self.unread.start;
            let Some(length) = self.buffer[self.unread.clone()].iter().position(|byte| *byte == b'\n') else {
                return Ok(None);
            };
            let line = std::str::from_utf8(&self.buffer[start..start + length])?.trim_end();
            let next = start + length + 1;
            let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
            // Where a word is in the buffer.
            let place = |word: &str| {
                let at = start + (word.as_ptr() as usize - line.as_ptr() as usize);
                at..at + word.len()
            };
            let (subject, reply, header, total) = match words[..] {
                ["MSG", subject, _, total] => (subject, "", "0", total),
                ["MSG", subject, _, reply, total] => (subject, reply, "0", total),
                ["HMSG", subject, _, header, total] => (subject, "", header, total),
                ["HMSG", subject, _, reply, header, total] => (subject, reply, header, total),
                ["PING"] => {
                    self.unread.start = next;
                    self.stream.write_all(b"PONG\r\n")?;
                    continue;
                }
                ["PONG" | "+OK" | "INFO", ..] => {
                    self.unread.start = next;
                    continue;
                }
                _ => bail!("the server said {line:?}"),
            };
            let (header, total): (usize, usize) = (header.parse()?, total.parse()?);
            if self.unread.end < next + total + 2 {
                return Ok(None);
            }
            let reply = if reply.is_empty() { 0..0 } else { place(reply) };
            let incoming = Incoming {
                subject: place(subject),
                reply,
                header: next..next + header,
                payload: next + header..next + total,
            };
            self.unread.start = next + total + 2;
            return Ok(Some(incoming));
        }
    }

    /// Waits for the next delivery.
    pub(super) fn next(&mut self) -> Result<Incoming> {
        loop {
            if let Some(incoming) = self.buffered()? {
                return Ok(incoming);
            }
            self.fill()?;
        }
    }

    fn text(&self, place: &Range<usize>) -> Result<&str> {
        Ok(std::str::from_utf8(&self.buffer[place.clone()])?)
    }

    pub(super) fn subject(&self, incoming: &Incoming) -> Result<&str> {
        self.text(&incoming.subject)
    }

    pub(super) fn reply(&self, incoming: &Incoming) -> Result<&str> {
        self.text(&incoming.reply)
    }

    pub(super) fn header(&self, incoming: &Incoming) -> Result<&str> {
        self.text(&incoming.header)
    }

    pub(super) fn payload(&self, incoming: &Incoming) -> &[u8] {
        &self.buffer[incoming.payload.clone()]
    }

    /// Asks the API and returns its answer.
    pub(super) fn request(&mut self, subject: &str, body: &str) -> Result<Value> {
        self.requests += 1;
        let reply = format!("{}.request.{}", self.inbox, self.requests);
        self.publish(&format!("$JS.API.{subject}"), &reply, body.as_bytes());
        self.flush()?;
        loop {
            let incoming = self.next().with_context(|| format!("request {subject}"))?;
            // What is left over from a case's own deliveries may come in between.
            if self.subject(&incoming)? == reply {
                return self.answer(&incoming).with_context(|| format!("request {subject} {body}"));
            }
        }
    }

    /// Reads an answer of the API; an error that it tells is ours.
    pub(super) fn answer(&self, incoming: &Incoming) -> Result<Value> {
        let (header, payload) = (self.header(incoming)?, self.payload(incoming));
        ensure!(!payload.is_empty(), "answered {header:?}");
        let answer: Value = serde_json::from_slice(payload)?;
        ensure!(answer.get("error").is_none(), "answered {answer}");
        Ok(answer)
    }

    /// Reads the sequence of a publish acknowledgement.
    pub(super) fn sequence(&self, incoming: &Incoming) -> Result<u64> {
        let payload = std::str::from_utf8(self.payload(incoming))?;
        let unexpected = || format!("{payload:?} {:?} instead of an acknowledgement", self.header(incoming));
        let digits = payload.split_once("\"seq\":").with_context(unexpected)?.1.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        ensure!(!payload.contains("\"error\"") && !payload.contains("\"duplicate\""), unexpected());
        digits[..end].parse().with_context(unexpected)
    }
}
