//! A client's connection: bytes, the words of the protocol around them, and numbers for what it asks.

use natrix_runtime_sim::net::{End, HostId};
use natrix_runtime_sim::queue::{SECOND, SimTime};

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Away,
    Dialing,
    Greeting,
    Open,
}

/// A connection that is silent so long is given up.
const PATIENCE: u64 = 2 * SECOND;
/// How long it is silent before it is asked.
const QUIET: u64 = SECOND / 4;

/// A client's connection.
#[derive(Debug)]
pub(super) struct Conn {
    pub(super) id: u16,
    pub(super) host: HostId,
    pub(super) state: State,
    pub(super) end: Option<End>,
    /// Counts connections.
    pub(super) life: u32,
    /// The life of the server that it leads to.
    pub(super) epoch: u32,
    pub(super) out: Vec<u8>,
    pub(super) out_at: usize,
    pub(super) partial: Vec<u8>,
    opened: SimTime,
    heard: SimTime,
    asked: Option<SimTime>,
    next: u64,
}

impl Conn {
    pub(super) fn new(id: u16, host: HostId) -> Self {
        Conn {
            id,
            host,
            state: State::Away,
            end: None,
            life: 0,
            epoch: 0,
            out: Vec::new(),
            out_at: 0,
            partial: Vec::new(),
            opened: SimTime(0),
            heard: SimTime(0),
            asked: None,
            next: 0,
        }
    }

    pub(super) fn dialed(&mut self, now: SimTime, end: End) {
        (self.state, self.end, self.opened, self.heard, self.asked) =
            (State::Dialing, Some(end), now, now, None);
        self.life += 1;
        self.out.clear();
        self.partial.clear();
        self.out_at = 0;
    }

    pub(super) fn lost(&mut self) {
        (self.state, self.end) = (State::Away, None);
        self.life += 1;
    }

    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Logs in, and listens to its inbox.
    pub(super) fn connect(&mut self) {
        self.state = State::Open;
        self.say("CONNECT {\"verbose\":false,\"pedantic\":false,\"lang\":\"sim\",\"version\":\"1\",\"protocol\":1,\"echo\":true,\"headers\":true,\"no_responders\":true}\r\n");
        let inbox = format!("SUB _INBOX.{}.{}.* 1\r\nPING\r\n", self.id, self.life);
        self.say(&inbox);
    }

    pub(super) fn say(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Publishes.
    pub(super) fn publish(&mut self, subject: &str, reply: &str, headers: &str, payload: &str) {
        let line = match headers.is_empty() {
            true => format!("PUB {subject} {reply} {}\r\n{payload}\r\n", payload.len()),
            false => {
                let block = format!("NATS/1.0\r\n{headers}\r\n");
                let (head, total) = (block.len(), block.len() + payload.len());
                format!("HPUB {subject} {reply} {head} {total}\r\n{block}{payload}\r\n")
            }
        };
        self.say(&line);
    }

    /// Publishes what is to be answered, and returns the number that the answer will have.
    pub(super) fn request(&mut self, subject: &str, headers: &str, payload: &str) -> u64 {
        self.next += 1;
        let reply = self.inbox(self.next);
        self.publish(subject, &reply, headers, payload);
        self.next
    }

    /// Publishes bytes that are to be answered, and returns the number that the answer will have.
    pub(super) fn request_bytes(&mut self, subject: &str, payload: &[u8]) -> u64 {
        self.next += 1;
        let reply = self.inbox(self.next);
        self.say(&format!("PUB {subject} {reply} {}\r\n", payload.len()));
        self.out.extend_from_slice(payload);
        self.say("\r\n");
        self.next
    }

    /// Returns a new number.
    pub(super) fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Returns where the answer with a number goes.
    pub(super) fn inbox(&self, number: u64) -> String {
        format!("_INBOX.{}.{}.{number}", self.id, self.life)
    }

    /// Returns the number of an answer to this connection.
    pub(super) fn answered(&self, subject: &[u8]) -> Option<u64> {
        let text = std::str::from_utf8(subject).ok()?;
        text.strip_prefix(&format!("_INBOX.{}.{}.", self.id, self.life))?.parse().ok()
    }

    /// Notes that something was heard.
    pub(super) fn heard(&mut self, now: SimTime) {
        (self.heard, self.asked) = (now, None);
    }

    /// Asks whether the server is there, if it is silent; `false` if it isn't.
    pub(super) fn tend(&mut self, now: SimTime) -> bool {
        if self.state == State::Away {
            return true;
        }
        if self.state != State::Open {
            return now - self.opened < PATIENCE;
        }
        match self.asked {
            Some(asked) => now - asked < PATIENCE,
            None => {
                if now - self.heard > QUIET {
                    self.asked = Some(now);
                    self.say("PING\r\n");
                }
                true
            }
        }
    }
}
