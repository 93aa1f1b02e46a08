//! A client of one consumer: it pulls or is pushed to, and acknowledges, or doesn't.

use std::collections::{BTreeMap, BTreeSet};

use natrix_runtime_sim::queue::{MILLISECOND, SECOND, SimTime};

use super::{Desk, Message, Mode};
use crate::jetstream::oracle::{Delivery, stream_name};
use crate::jetstream::report::Rule;
use crate::jetstream::text::ack_reply;

/// A pull request ends so long after it expires at the latest, on a connection that works.
const LATE: u64 = 10 * SECOND;
/// The sid of what is pushed.
const PUSHED: u32 = 2;
/// Sids of pull requests come behind this one.
const PULLS: u32 = 1000;

#[derive(Clone, Copy, Debug)]
struct Pull {
    sent: SimTime,
    ends: SimTime,
    batch: u64,
    got: u64,
}

/// An acknowledgement that waits for its answer.
#[derive(Clone, Copy, Debug)]
struct Confirm {
    sequence: u64,
    sent: SimTime,
}

/// The script.
#[derive(Debug)]
pub(crate) struct Worker {
    consumer: usize,
    pulls: BTreeMap<u32, Pull>,
    /// Pull requests that are over.
    over: BTreeSet<u32>,
    confirms: BTreeMap<u64, Confirm>,
    /// What is acknowledged later: when, how, and what.
    later: Vec<(SimTime, String, u64)>,
    /// Whether it listens to what is pushed.
    listens: bool,
}

impl Worker {
    pub(crate) fn new(consumer: usize) -> Self {
        Worker {
            consumer,
            pulls: BTreeMap::new(),
            over: BTreeSet::new(),
            confirms: BTreeMap::new(),
            later: Vec::new(),
            listens: false,
        }
    }

    pub(super) fn act(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now();
        if let Some((_, confirm)) = self.confirms.first_key_value() {
            desk.check_answered(
                confirm.sent,
                format_args!("the acknowledgement of {} by consumer {}", confirm.sequence, self.consumer),
            );
        }
        let late = self.pulls.values().find(|pull| now.0 > pull.ends.0 + LATE);
        if let Some(pull) = late {
            let text = format!("consumer {}: {pull:?} was never answered", self.consumer);
            desk.oracle.violate(Rule::Pull, text);
        }
        for (_, reply, sequence) in self.later.extract_if(.., |(due, ..)| *due <= now).collect::<Vec<_>>() {
            self.acknowledge(desk, &reply, sequence, "+ACK");
        }
        let pushes = desk.oracle.plan.consumers[self.consumer].push;
        let wants = matches!(desk.mode, Mode::Work | Mode::Drain);
        if pushes {
            self.listen(desk, wants);
        } else if wants && self.pulls.len() < 2 {
            self.pull(desk);
        }
    }

    /// Subscribes to what is pushed, or does so no more: nothing is to happen while everything is looked at.
    fn listen(&mut self, desk: &mut Desk<'_>, wants: bool) {
        let away = desk.mode == Mode::Work && desk.rng.chance(1, 60);
        if wants != self.listens || (away && self.listens) {
            self.listens = !self.listens;
            match self.listens {
                true => desk.conn.say(&format!("SUB deliver.C{} {PUSHED}\r\n", self.consumer)),
                false => desk.conn.say(&format!("UNSUB {PUSHED}\r\n")),
            }
        }
    }

    fn pull(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now();
        let most = [1, 5, 40][desk.rng.below(3) as usize];
        let batch = 1 + desk.rng.below(most);
        let expires = (50 + desk.rng.below(700)) * MILLISECOND;
        let (body, ends) = match desk.rng.below(8) {
            0 if desk.mode == Mode::Work => (format!("{{\"batch\":{batch},\"no_wait\":true}}"), now),
            1 => (format!("{{\"batch\":{batch},\"no_wait\":true,\"expires\":{expires}}}"), now + expires),
            _ => (format!("{{\"batch\":{batch},\"expires\":{expires}}}"), now + expires),
        };
        let number = desk.conn.number();
        let sid = PULLS + number as u32;
        let inbox = format!("pull.{}", desk.conn.inbox(number));
        desk.conn.say(&format!("SUB {inbox} {sid}\r\n"));
        let stream = stream_name(desk.oracle.plan.consumers[self.consumer].stream);
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.C{}", self.consumer);
        desk.conn.publish(&subject, &inbox, "", &body);
        self.pulls.insert(sid, Pull { sent: now, ends, batch, got: 0 });
    }

    pub(super) fn hear(&mut self, desk: &mut Desk<'_>, message: Message<'_>) {
        if let Some(answer) = desk.conn.answered(message.subject) {
            if let Some(confirm) = self.confirms.remove(&answer)
                && message.status().is_none()
            {
                let epoch = desk.conn.epoch;
                desk.oracle.acknowledged(self.consumer, epoch, confirm.sequence);
            }
            return;
        }
        if let Some(status) = message.status() {
            return self.status(desk, message.sid, status, message);
        }
        let asked = match message.sid {
            PUSHED => None,
            sid => match self.pulls.get_mut(&sid) {
                Some(pull) => {
                    pull.got += 1;
                    let (sent, full) = (pull.sent, pull.got == pull.batch);
                    if full {
                        desk.oracle.tally.hit("pull-filled");
                        self.end(desk, sid);
                    }
                    Some(sent)
                }
                None => {
                    let text =
                        format!("consumer {}: pull request {sid} is over and gets a message", self.consumer);
                    return desk.oracle.violate(Rule::Pull, text);
                }
            },
        };
        self.delivered(desk, message, asked);
    }

    fn status(&mut self, desk: &mut Desk<'_>, sid: u32, status: u16, message: Message<'_>) {
        let name = match status {
            100 => return,
            404 => "pull-404",
            408 => "pull-408",
            409 => "pull-409",
            503 => "pull-503",
            _ => {
                let text = String::from_utf8_lossy(message.headers);
                return desk.oracle.violate(Rule::Error, format!("consumer {} says {text:?}", self.consumer));
            }
        };
        desk.oracle.tally.hit(name);
        if self.pulls.contains_key(&sid) {
            self.end(desk, sid);
        } else if sid >= PULLS {
            let text = format!("consumer {}: pull request {sid} is over and gets a {status}", self.consumer);
            desk.oracle.violate(Rule::Pull, text);
        }
    }

    fn end(&mut self, desk: &mut Desk<'_>, sid: u32) {
        self.pulls.remove(&sid);
        self.over.insert(sid);
        desk.conn.say(&format!("UNSUB {sid}\r\n"));
    }

    fn delivered(&mut self, desk: &mut Desk<'_>, message: Message<'_>, asked: Option<SimTime>) {
        let plan = desk.oracle.plan.consumers[self.consumer];
        let reply = ack_reply(message.reply).filter(|(stream, consumer, _)| {
            *stream == stream_name(plan.stream) && *consumer == format!("C{}", self.consumer)
        });
        let Some((_, _, reply)) = reply else {
            let text = format!(
                "consumer {} delivers a message of {:?}",
                self.consumer,
                String::from_utf8_lossy(message.reply)
            );
            return desk.oracle.violate(Rule::Phantom, text);
        };
        desk.oracle.delivered(Delivery {
            consumer: self.consumer,
            epoch: desk.conn.epoch,
            who: (desk.conn.id, desk.conn.life),
            reply,
            subject: message.subject,
            payload: message.payload,
            asked,
        });
        let to = String::from_utf8_lossy(message.reply).into_owned();
        let (epoch, sequence) = (desk.conn.epoch, reply.sequence);
        if desk.mode != Mode::Work {
            return self.confirm(desk, &to, sequence, "+ACK");
        }
        match desk.rng.below(100) {
            0..40 => self.acknowledge(desk, &to, sequence, "+ACK"),
            40..65 => self.confirm(desk, &to, sequence, "+ACK"),
            65..75 if !plan.ack_all => {
                desk.oracle.refuses(self.consumer, epoch, sequence);
                desk.oracle.tally.hit("nak");
                let delay = desk.rng.below(300) * MILLISECOND;
                let nak = match desk.rng.below(2) {
                    0 => "-NAK".to_owned(),
                    _ => format!("-NAK {{\"delay\":{delay}}}"),
                };
                desk.conn.publish(&to, "", "", &nak);
            }
            75..80 if !plan.ack_all => self.confirm(desk, &to, sequence, "+TERM"),
            80..90 => {
                desk.conn.publish(&to, "", "", "+WPI");
                let due = desk.now() + desk.rng.below(plan.ack_wait);
                self.later.push((due, to, sequence));
            }
            _ => desk.oracle.tally.hit("not-acknowledged"),
        }
    }

    fn acknowledge(&mut self, desk: &mut Desk<'_>, to: &str, sequence: u64, word: &str) {
        desk.oracle.acknowledges(self.consumer, desk.conn.epoch, sequence);
        desk.conn.publish(to, "", "", word);
    }

    fn confirm(&mut self, desk: &mut Desk<'_>, to: &str, sequence: u64, word: &str) {
        desk.oracle.acknowledges(self.consumer, desk.conn.epoch, sequence);
        let number = desk.conn.request(to, "", word);
        self.confirms.insert(number, Confirm { sequence, sent: desk.now() });
    }

    pub(super) fn lost(&mut self) {
        self.pulls.clear();
        self.over.clear();
        self.confirms.clear();
        self.later.clear();
        self.listens = false;
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.pulls.is_empty() || !self.confirms.is_empty() || !self.later.is_empty()
    }
}
