//! A client that publishes, waits for acknowledgements, and sends again what has an id and wasn't acknowledged.

use std::collections::BTreeMap;

use natrix_runtime_sim::queue::SimTime;

use super::{Desk, Message, Mode};
use crate::jetstream::oracle::{Expected, Oracle, subject_name};
use crate::jetstream::report::Rule;
use crate::jetstream::text::{error_code, number};

/// What it does to one message most often.
const SENDS: u32 = 6;
/// The stream's last sequence isn't what was expected.
const WRONG_LAST: u64 = 10071;

/// The script.
#[derive(Debug, Default)]
pub(crate) struct Producer {
    /// What waits for its acknowledgement, and when it was sent.
    pending: BTreeMap<u64, (u32, SimTime)>,
    /// What is to be sent again.
    again: Vec<u32>,
    /// What was acknowledged and has an id, some of it.
    done: Vec<u32>,
    /// The last sequence that it heard of, of each stream.
    last: BTreeMap<usize, u64>,
    with_id: std::collections::BTreeSet<u32>,
}

impl Producer {
    pub(super) fn act(&mut self, desk: &mut Desk<'_>) {
        if let Some((_, (token, sent))) = self.pending.first_key_value() {
            desk.check_answered(*sent, format_args!("message {token}"));
        }
        if desk.mode != Mode::Work || desk.conn.out.len() > 64 << 10 {
            return;
        }
        let plan = desk.oracle.plan.clone();
        for _ in 0..=desk.rng.below(4) {
            if self.pending.len() >= plan.in_flight {
                return;
            }
            if let Some(token) = self.again.pop() {
                self.send_again(desk, token);
            } else if !self.done.is_empty() && desk.rng.chance(1, 12) {
                let token = self.done.swap_remove(desk.rng.below(self.done.len() as u64) as usize);
                self.send_again(desk, token);
            } else {
                self.publish(desk);
            }
        }
    }

    fn publish(&mut self, desk: &mut Desk<'_>) {
        let plan = desk.oracle.plan.clone();
        let stream = desk.rng.below(plan.streams.len() as u64) as usize;
        if plan.streams[stream].values {
            return;
        }
        let subject = desk.rng.below(u64::from(plan.streams[stream].subjects)) as u32;
        let size = match desk.rng.below(20) {
            0 => desk.rng.below(6000),
            _ => desk.rng.below(60),
        };
        let mut headers = String::new();
        let mut expected = Expected::Nothing;
        if desk.rng.chance(1, 10)
            && let Some(last) = self.last.get(&stream)
        {
            expected = Expected::Last(*last);
            headers = format!("Nats-Expected-Last-Sequence: {last}\r\n");
        }
        let token = desk.oracle.publish(stream, subject, size as usize, expected);
        if desk.rng.chance(1, 2) && expected == Expected::Nothing {
            headers.push_str(&format!("Nats-Msg-Id: m{token}\r\n"));
            self.with_id.insert(token);
        }
        self.send(desk, token, &headers);
    }

    fn send_again(&mut self, desk: &mut Desk<'_>, token: u32) {
        desk.oracle.tokens[token as usize].sends += 1;
        desk.oracle.tally.hit("sent-again");
        self.send(desk, token, &format!("Nats-Msg-Id: m{token}\r\n"));
    }

    fn send(&mut self, desk: &mut Desk<'_>, token: u32, headers: &str) {
        let sent = &desk.oracle.tokens[token as usize];
        let subject = subject_name(sent.stream, sent.subject);
        let payload = desk.oracle.payload(token);
        let number = desk.conn.request(&subject, headers, &payload);
        self.pending.insert(number, (token, desk.oracle.now));
    }

    pub(super) fn hear(&mut self, desk: &mut Desk<'_>, message: Message<'_>) {
        let Some(answer) = desk.conn.answered(message.subject) else { return };
        let Some((token, _)) = self.pending.remove(&answer) else {
            let text =
                format!("client {} hears of its message {answer} twice: {}", desk.conn.id, message.text());
            return desk.oracle.violate(Rule::Content, text);
        };
        if message.status() == Some(503) {
            desk.oracle.tally.hit("no-stream");
            return self.unanswered(desk.oracle, token, true);
        }
        let json = message.text();
        match error_code(&json) {
            Some(code) => {
                desk.oracle.tally.hit("publish-refused");
                let full = json.contains("maximum messages exceeded");
                self.unanswered(desk.oracle, token, code == WRONG_LAST || full);
            }
            None => self.acknowledged(desk, token, &json),
        }
    }

    fn acknowledged(&mut self, desk: &mut Desk<'_>, token: u32, json: &str) {
        let Some(sequence) = number(json, "seq") else {
            return desk
                .oracle
                .violate(Rule::Error, format!("an acknowledgement without a sequence: {json}"));
        };
        let sent = &desk.oracle.tokens[token as usize];
        let (stream, sends) = (sent.stream, sent.sends);
        let duplicate = json.contains("\"duplicate\": true");
        if duplicate && sends == 1 {
            desk.oracle
                .violate(Rule::Dedup, format!("message {token} was sent once and is a duplicate: {json}"));
        }
        if duplicate {
            desk.oracle.tally.hit("duplicate");
        }
        self.last.insert(stream, sequence);
        desk.oracle.learn(desk.conn.epoch, sequence, token, "acknowledged");
        if self.with_id.contains(&token) && sends < SENDS && self.done.len() < 64 {
            self.done.push(token);
        }
    }

    /// A message wasn't acknowledged; `surely` if it isn't stored.
    fn unanswered(&mut self, oracle: &mut Oracle, token: u32, surely: bool) {
        if self.with_id.contains(&token) && oracle.tokens[token as usize].sends < SENDS {
            self.again.push(token);
        } else if surely {
            oracle.refuse(token);
        }
    }

    pub(super) fn lost(&mut self, oracle: &mut Oracle) {
        for (_, (token, _)) in std::mem::take(&mut self.pending) {
            self.unanswered(oracle, token, false);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.pending.is_empty()
    }
}
