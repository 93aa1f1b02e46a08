//! A copy of a stream: a backup is taken, restored under another name, looked at, and deleted again.
//!
//! What was known to be stored when the backup was asked for has to be in the copy, or a reason why not; a copy whose
//! restore was answered is there, over crashes too; one that wasn't is there whole or not at all.

use std::collections::BTreeMap;

use natrix_runtime_sim::queue::SimTime;

use super::{Desk, Message};
use crate::jetstream::report::Rule;
use crate::jetstream::text::{error_code, header, number_after, string};

/// What is asked next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// For a backup.
    Backup,
    /// To restore it.
    Restore,
    /// To take a chunk of it.
    Chunk(usize),
    /// To make a stream of what was sent.
    End,
    /// Whether the copy is there, and how many messages it has.
    Look,
    /// The first message of the copy from a sequence on.
    Read(u64),
    /// To delete the copy.
    Delete,
}

/// What comes after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Ask(Step),
    Nothing,
}

const STREAM_NOT_FOUND: u64 = 10059;
const STREAM_OFFLINE: u64 = 10118;

/// The copy that is being made, if one is.
#[derive(Debug, Default)]
pub(super) struct Copying {
    /// How many were begun: each has a name of its own, as one that nobody heard the end of may still come to be.
    number: u64,
    /// The number of the inbox that chunks come to, and when the backup was asked for.
    deliver: Option<(u64, SimTime)>,
    under_way: bool,
    chunks: Vec<Vec<u8>>,
    /// Where chunks are taken.
    to: String,
    /// The last sequence that the backup is of.
    last: u64,
    /// What was known to be stored when the backup was asked for, and wasn't seen in the copy yet.
    wanted: BTreeMap<u64, u32>,
    /// Whether it was said that the copy is there.
    promised: bool,
    /// How many messages the copy says that it has, and how many it was seen to have.
    said: u64,
    seen: u64,
}

impl Copying {
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way
    }

    /// Begins a copy of a stream in files.
    pub(super) fn begin(&mut self, desk: &mut Desk<'_>, stream: usize) -> Step {
        let epoch = desk.conn.epoch;
        let wanted = desk.oracle.life(stream, epoch).sequences.clone();
        *self = Copying { number: self.number + 1, under_way: true, wanted, ..Copying::default() };
        self.deliver = Some((desk.conn.number(), desk.now()));
        Step::Backup
    }

    fn end(&mut self) -> Next {
        *self = Copying { number: self.number, ..Copying::default() };
        Next::Nothing
    }

    /// Returns the name of the copy.
    pub(super) fn name(&self) -> String {
        format!("R{}", self.number)
    }

    /// Returns the subject and the body of what is asked; `config` are the settings of the copy.
    pub(super) fn words(&self, step: Step, desk: &Desk<'_>, source: &str, config: &str) -> (String, Vec<u8>) {
        let name = self.name();
        let (subject, body) = match step {
            Step::Backup => {
                let inbox = desk.conn.inbox(self.deliver.map_or(0, |(number, _)| number));
                let body = format!(
                    "{{\"deliver_subject\":\"{inbox}\",\"no_consumers\":true,\"chunk_size\":1024,\"window_size\":4096}}"
                );
                (format!("$JS.API.STREAM.SNAPSHOT.{source}"), body)
            }
            Step::Restore => {
                (format!("$JS.API.STREAM.RESTORE.{name}"), format!("{{\"config\":{config},\"state\":{{}}}}"))
            }
            Step::Chunk(at) => return (self.to.clone(), self.chunks[at].clone()),
            Step::End => (self.to.clone(), String::new()),
            Step::Look => (format!("$JS.API.STREAM.INFO.{name}"), String::new()),
            Step::Read(from) => {
                (format!("$JS.API.DIRECT.GET.{name}"), format!("{{\"seq\":{from},\"next_by_subj\":\">\"}}"))
            }
            Step::Delete => (format!("$JS.API.STREAM.DELETE.{name}"), String::new()),
        };
        (subject, body.into_bytes())
    }

    /// Notes that a step is asked for, perhaps not for the first time.
    pub(super) fn asked(&mut self, step: Step, now: SimTime) {
        if let (Step::Backup, Some((_, asked))) = (step, &mut self.deliver) {
            *asked = now;
        }
    }

    /// Looks whether a backup should have come to its end by now.
    pub(super) fn tend(&mut self, desk: &mut Desk<'_>) {
        if let Some((_, asked)) = self.deliver {
            desk.check_answered(asked, "a backup");
        }
    }

    /// Takes a chunk of the backup, if that's what it is.
    pub(super) fn chunk(
        &mut self,
        desk: &mut Desk<'_>,
        number: Option<u64>,
        message: Message<'_>,
    ) -> Option<Next> {
        let (deliver, _) = self.deliver?;
        if number != Some(deliver) {
            return None;
        }
        self.deliver = Some((deliver, desk.now()));
        if !message.payload.is_empty() {
            self.chunks.push(message.payload.to_vec());
            if !message.reply.is_empty() {
                let reply = String::from_utf8_lossy(message.reply).into_owned();
                desk.conn.publish(&reply, "", "", "");
            }
            return Some(Next::Nothing);
        }
        self.deliver = None;
        desk.oracle.tally.hit("backed-up");
        Some(match message.status() {
            None | Some(204) => Next::Ask(Step::Restore),
            // It can't be read, or took too long.
            Some(_) => self.end(),
        })
    }

    /// Takes an answer.
    pub(super) fn take(
        &mut self,
        step: Step,
        desk: &mut Desk<'_>,
        stream: usize,
        message: Message<'_>,
    ) -> Next {
        let json = message.text();
        let error = error_code(&json);
        match step {
            Step::Backup => {
                self.last = number_after(&json, "\"state\"", "last_seq").unwrap_or(0);
                // An empty stream has no backup worth the name, and one that is gone none at all.
                if error.is_some() { self.end() } else { Next::Nothing }
            }
            Step::Restore => match string(&json, "deliver_subject") {
                Some(to) if error.is_none() => {
                    self.to = to.to_owned();
                    Next::Ask(self.chunk_or_end(0))
                }
                _ => self.end(),
            },
            Step::Chunk(at) => {
                desk.oracle.tempting = desk.oracle.tempting.max(20);
                Next::Ask(self.chunk_or_end(at + 1))
            }
            Step::End if error.is_some() => {
                desk.oracle.tally.hit("restore-failed");
                self.end()
            }
            Step::End => {
                desk.oracle.tally.hit("restored");
                desk.oracle.tempting = 300;
                self.promised = true;
                Next::Ask(Step::Look)
            }
            Step::Look => self.looked(desk, error, &json),
            Step::Read(from) => self.read(from, desk, stream, message),
            Step::Delete => self.end(),
        }
    }

    fn chunk_or_end(&self, at: usize) -> Step {
        if at < self.chunks.len() { Step::Chunk(at) } else { Step::End }
    }

    fn looked(&mut self, desk: &mut Desk<'_>, error: Option<u64>, json: &str) -> Next {
        match error {
            None => {
                (self.said, self.seen) = (number_after(json, "\"state\"", "messages").unwrap_or(0), 0);
                desk.oracle.tally.hit(if self.promised { "copy-looked-at" } else { "copy-found" });
                Next::Ask(Step::Read(1))
            }
            Some(STREAM_OFFLINE) if desk.oracle.is_offline(desk.conn.epoch) => self.end(),
            Some(STREAM_NOT_FOUND) if !self.promised => self.end(),
            Some(_) => {
                let text = format!("{} was restored, and then: {json}", self.name());
                desk.oracle.violate(Rule::Lifecycle, text);
                self.end()
            }
        }
    }

    fn read(&mut self, from: u64, desk: &mut Desk<'_>, stream: usize, message: Message<'_>) -> Next {
        match message.status() {
            Some(404) => return self.compare(desk, stream),
            Some(_) => return Next::Ask(Step::Look),
            None => {}
        }
        let sequence = header(message.headers, "Nats-Sequence").and_then(|text| text.parse::<u64>().ok());
        let subject = header(message.headers, "Nats-Subject").unwrap_or_default().to_owned();
        let Some(sequence) = sequence.filter(|sequence| *sequence >= from && *sequence <= self.last) else {
            let text =
                format!("{} has behind {from}: {:?}", self.name(), String::from_utf8_lossy(message.headers));
            desk.oracle.violate(Rule::Order, text);
            return self.end();
        };
        let Some(token) = desk.oracle.token_of(stream, subject.as_bytes(), message.payload) else {
            return self.end();
        };
        // What is in the copy was in the stream, at this very place.
        desk.oracle.learn(desk.conn.epoch, sequence, token, "restored");
        self.wanted.remove(&sequence);
        self.seen += 1;
        Next::Ask(Step::Read(sequence + 1))
    }

    /// All of the copy was read.
    fn compare(&mut self, desk: &mut Desk<'_>, stream: usize) -> Next {
        let life = desk.oracle.life_of(stream, desk.conn.epoch);
        let missing = self
            .wanted
            .range(..=self.last)
            .find(|(sequence, token)| desk.oracle.excuse(stream, life, **sequence, **token).is_none());
        let (name, promised) = (self.name(), self.promised);
        if let Some((sequence, token)) = missing {
            let text = format!(
                "{name} is a copy of stream {stream} up to {}, answered for: {promised}; message {token} at {sequence} isn't in it",
                self.last
            );
            desk.oracle.violate(Rule::Lost, text);
        } else if self.said != self.seen {
            let text = format!("{name} says that it has {} messages, and has {}", self.said, self.seen);
            desk.oracle.violate(Rule::Counts, text);
        }
        Next::Ask(Step::Delete)
    }

    /// Nobody listens where something was sent. Returns what to do instead, if anything but to ask again.
    pub(super) fn nobody(&mut self, step: Step) -> Option<Next> {
        match step {
            // The restore was given up, or the server is another.
            Step::Chunk(_) | Step::End => Some(Next::Ask(Step::Look)),
            Step::Read(_) => Some(Next::Ask(Step::Look)),
            _ => None,
        }
    }

    /// The connection is gone, and with it what was asked: `step`, if it was one of these. Returns what is asked instead.
    pub(super) fn lost(&mut self, step: Option<Step>) -> Next {
        if !self.under_way {
            return Next::Nothing;
        }
        match step {
            Some(Step::Chunk(_) | Step::End | Step::Look | Step::Read(_)) => Next::Ask(Step::Look),
            Some(Step::Delete) => Next::Ask(Step::Delete),
            Some(Step::Backup | Step::Restore) | None if !self.promised => self.end(),
            _ => Next::Ask(Step::Look),
        }
    }
}
