//! A client that keeps values: it reads keys, and writes them expecting the sequence that it knows.

use std::collections::BTreeMap;

use natrix_runtime_sim::queue::SimTime;

use super::{Desk, Message, Mode};
use crate::jetstream::oracle::{Expected, stream_name, subject_name};
use crate::jetstream::report::Rule;
use crate::jetstream::text::{error_code, header, number};

#[derive(Clone, Copy, Debug)]
enum Asked {
    Write(u32),
    /// A read, and the highest sequence that was known of the key.
    Read(u64),
}

/// The script.
#[derive(Debug)]
pub(crate) struct Keeper {
    stream: usize,
    /// What each key is believed to be.
    believed: BTreeMap<u32, u64>,
    pending: Option<(u64, u32, Asked, SimTime)>,
}

impl Keeper {
    pub(crate) fn new(stream: usize) -> Self {
        Keeper { stream, believed: BTreeMap::new(), pending: None }
    }

    pub(super) fn act(&mut self, desk: &mut Desk<'_>) {
        if let Some((_, key, asked, sent)) = self.pending {
            return desk.check_answered(sent, format_args!("{asked:?} of key {key}"));
        }
        if desk.mode != Mode::Work {
            return;
        }
        let key = desk.rng.below(u64::from(desk.oracle.plan.streams[self.stream].subjects)) as u32;
        let (number, asked) = match self.believed.get(&key).copied() {
            Some(believed) if desk.rng.chance(2, 3) => self.write(desk, key, believed),
            _ => {
                let subject = format!(
                    "$JS.API.DIRECT.GET.{}.{}",
                    stream_name(self.stream),
                    subject_name(self.stream, key)
                );
                let least = desk.oracle.key(self.stream, key);
                (desk.conn.request(&subject, "", ""), Asked::Read(least))
            }
        };
        self.pending = Some((number, key, asked, desk.now()));
    }

    fn write(&mut self, desk: &mut Desk<'_>, key: u32, believed: u64) -> (u64, Asked) {
        let size = desk.rng.below(200) as usize;
        let token = desk.oracle.publish(self.stream, key, size, Expected::OfSubject(believed));
        let headers = format!("Nats-Expected-Last-Subject-Sequence: {believed}\r\n");
        let payload = desk.oracle.payload(token);
        (desk.conn.request(&subject_name(self.stream, key), &headers, &payload), Asked::Write(token))
    }

    pub(super) fn hear(&mut self, desk: &mut Desk<'_>, message: Message<'_>) {
        let answer = desk.conn.answered(message.subject);
        let Some((_, key, asked, _)) = self.pending.take_if(|(number, ..)| Some(*number) == answer) else {
            let text = format!("client {} hears what it didn't ask: {}", desk.conn.id, message.text());
            return desk.oracle.violate(Rule::Content, text);
        };
        let nobody = message.status() == Some(503);
        match asked {
            Asked::Write(token) => self.written(desk, key, token, nobody, &message.text()),
            Asked::Read(least) if message.status() == Some(404) => {
                desk.oracle.read_key(self.stream, key, least, 0);
                self.believed.insert(key, 0);
            }
            Asked::Read(least) if message.status().is_none() => self.read(desk, key, least, message),
            Asked::Read(_) => {}
        }
    }

    fn written(&mut self, desk: &mut Desk<'_>, key: u32, token: u32, nobody: bool, json: &str) {
        self.believed.remove(&key);
        if nobody {
            return desk.oracle.refuse(token);
        }
        match error_code(json) {
            Some(code) => {
                if code == 10071 {
                    desk.oracle.tally.hit("wrong-last-sequence");
                    desk.oracle.refuse(token);
                }
            }
            None => {
                let Some(sequence) = number(json, "seq") else { return };
                self.believed.insert(key, sequence);
                desk.oracle.learn(desk.conn.epoch, sequence, token, "acknowledged");
            }
        }
    }

    fn read(&mut self, desk: &mut Desk<'_>, key: u32, least: u64, message: Message<'_>) {
        let sequence = header(message.headers, "Nats-Sequence").and_then(|text| text.parse().ok());
        let subject = subject_name(self.stream, key);
        let (Some(sequence), true) =
            (sequence, header(message.headers, "Nats-Subject") == Some(subject.as_str()))
        else {
            let text = format!(
                "what was read of {subject} is of another: {:?}",
                String::from_utf8_lossy(message.headers)
            );
            return desk.oracle.violate(Rule::Linear, text);
        };
        let Some(token) = desk.oracle.token_of(self.stream, subject.as_bytes(), message.payload) else {
            return;
        };
        desk.oracle.learn(desk.conn.epoch, sequence, token, "read");
        desk.oracle.read_key(self.stream, key, least, sequence);
        self.believed.insert(key, sequence);
    }

    pub(super) fn lost(&mut self) {
        if let Some((_, key, ..)) = self.pending.take() {
            self.believed.remove(&key);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some()
    }
}
