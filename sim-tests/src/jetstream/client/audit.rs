//! A look at everything while nothing happens: every message of every stream, every count.

use std::collections::{BTreeMap, VecDeque};

use super::admin::Op;
use super::{Desk, Message};
use crate::jetstream::oracle::{Oracle, subject_name};
use crate::jetstream::plan::Retention;
use crate::jetstream::report::Rule;
use crate::jetstream::text::{header, number, number_after};

/// What a stream said of itself.
#[derive(Clone, Copy, Debug)]
struct StreamCounts {
    messages: u64,
    first: u64,
    last: u64,
    deleted: u64,
}

/// What a consumer said of itself.
#[derive(Clone, Copy, Debug)]
struct ConsumerCounts {
    delivered: u64,
    pending: u64,
    ack_pending: u64,
}

/// The look.
#[derive(Debug, Default)]
pub(super) struct Audit {
    todo: VecDeque<Op>,
    listed: BTreeMap<usize, BTreeMap<u64, u32>>,
    streams: BTreeMap<usize, StreamCounts>,
    consumers: BTreeMap<usize, ConsumerCounts>,
    /// What was there at the first look.
    before: BTreeMap<usize, BTreeMap<u64, u32>>,
    last: bool,
    epoch: u32,
}

impl Audit {
    pub(super) fn start(&mut self, oracle: &Oracle, last: bool) {
        self.before = std::mem::take(&mut self.listed);
        (self.last, self.epoch) = (last, oracle.epoch);
        self.streams.clear();
        self.consumers.clear();
        // What was in memory is gone if the power was cut after the first look.
        let looked = |memory: bool| !(memory && last && oracle.plan.last_cut);
        let plan = &oracle.plan;
        self.todo.clear();
        for (stream, config) in plan.streams.iter().enumerate().filter(|(_, config)| looked(config.memory)) {
            let _ = config;
            self.listed.insert(stream, BTreeMap::new());
            self.todo.extend([Op::Next(stream, 1), Op::StreamInfo(stream)]);
        }
        for (consumer, config) in plan.consumers.iter().enumerate() {
            if looked(config.memory || plan.streams[config.stream].memory) {
                self.todo.push_back(Op::ConsumerInfo(consumer));
            }
        }
    }

    pub(super) fn next(&mut self) -> Option<Op> {
        self.todo.pop_front()
    }

    pub(super) fn is_over(&self) -> bool {
        self.todo.is_empty()
    }

    /// A message was read, or there is none.
    pub(super) fn read(&mut self, desk: &mut Desk<'_>, stream: usize, from: u64, message: Message<'_>) {
        match message.status() {
            Some(404) => return,
            Some(_) => return self.todo.push_front(Op::Next(stream, from)),
            None => {}
        }
        let sequence = header(message.headers, "Nats-Sequence").and_then(|text| text.parse::<u64>().ok());
        let subject = header(message.headers, "Nats-Subject").unwrap_or_default().to_owned();
        let Some(sequence) = sequence.filter(|sequence| *sequence >= from) else {
            let text =
                format!("stream {stream} has behind {from}: {:?}", String::from_utf8_lossy(message.headers));
            return desk.oracle.violate(Rule::Order, text);
        };
        let Some(token) = desk.oracle.token_of(stream, subject.as_bytes(), message.payload) else { return };
        let epoch = desk.conn.epoch;
        desk.oracle.learn(epoch, sequence, token, "listed");
        desk.oracle.check_gone(epoch, stream, sequence, token, desk.oracle.now);
        self.listed.entry(stream).or_default().insert(sequence, token);
        self.todo.push_front(Op::Next(stream, sequence + 1));
    }

    pub(super) fn stream_told(&mut self, stream: usize, json: &str) {
        let of_state = |name| number_after(json, "\"state\"", name).unwrap_or(0);
        let counts = StreamCounts {
            messages: of_state("messages"),
            first: of_state("first_seq"),
            last: of_state("last_seq"),
            deleted: of_state("num_deleted"),
        };
        self.streams.insert(stream, counts);
    }

    pub(super) fn consumer_told(&mut self, consumer: usize, json: &str) {
        let counts = ConsumerCounts {
            delivered: number_after(json, "\"delivered\"", "stream_seq").unwrap_or(0),
            pending: number(json, "num_pending").unwrap_or(0),
            ack_pending: number(json, "num_ack_pending").unwrap_or(0),
        };
        self.consumers.insert(consumer, counts);
    }

    /// Compares what was seen with what is known.
    pub(super) fn conclude(&self, oracle: &mut Oracle) {
        for (stream, listed) in &self.listed {
            self.check_missing(oracle, *stream, listed);
            self.check_counts(oracle, *stream, listed);
            if self.last {
                self.check_left(oracle, *stream, listed);
            }
        }
        for (consumer, counts) in &self.consumers {
            self.check_consumer(oracle, *consumer, *counts);
        }
        oracle.check_keys();
    }

    fn check_missing(&self, oracle: &mut Oracle, stream: usize, listed: &BTreeMap<u64, u32>) {
        let life = oracle.life_of(stream, self.epoch);
        let known = oracle.life(stream, self.epoch).sequences.clone();
        let mut excused = 0;
        for (sequence, token) in known {
            if listed.contains_key(&sequence) {
                continue;
            }
            excused += 1;
            if oracle.excuse(stream, life, sequence, token).is_none() {
                let rule = match oracle.plan.streams[stream].retention {
                    Retention::Limits => Rule::Lost,
                    _ => Rule::Removed,
                };
                let text = format!("message {token} at {sequence} of stream {stream} is missing");
                return oracle.violate(rule, text);
            }
        }
        oracle.tally.add("removed-with-reason", excused);
        oracle.tally.add("listed", listed.len() as u64);
    }

    fn check_counts(&self, oracle: &mut Oracle, stream: usize, listed: &BTreeMap<u64, u32>) {
        let plan = oracle.plan.streams[stream];
        let Some(counts) = self.streams.get(&stream).copied() else { return };
        let there = listed.len() as u64;
        let first = listed.first_key_value().map_or(counts.last + 1, |(first, _)| *first);
        let gaps = (counts.last + 1).saturating_sub(first).saturating_sub(there);
        let last = listed.last_key_value().map_or(0, |(last, _)| *last);
        let known = oracle.life(stream, self.epoch).sequences.last_key_value().map_or(0, |(last, _)| *last);
        let right = counts.messages == there
            && (there == 0 || counts.first == first)
            && counts.last >= last.max(known)
            && (there == 0 || counts.deleted == gaps);
        if !right {
            let text = format!(
                "stream {stream} says {counts:?}, and has {there} from {first} to {last}, known to {known}"
            );
            oracle.violate(Rule::Counts, text);
        }
        let mut of_subject: BTreeMap<u32, u64> = BTreeMap::new();
        for token in listed.values() {
            *of_subject.entry(oracle.tokens[*token as usize].subject).or_default() += 1;
        }
        let most = of_subject.values().copied().max().unwrap_or(0);
        if (plan.max_messages > 0 && there > plan.max_messages)
            || (plan.per_subject > 0 && most > plan.per_subject)
        {
            oracle.violate(
                Rule::Limits,
                format!("stream {stream} has {there} messages, {most} of one subject"),
            );
        }
    }

    /// Nothing that all have acknowledged is left in a stream that keeps messages by interest.
    fn check_left(&self, oracle: &mut Oracle, stream: usize, listed: &BTreeMap<u64, u32>) {
        if oracle.plan.streams[stream].retention == Retention::Limits {
            return;
        }
        for (sequence, token) in listed {
            let subject = oracle.tokens[*token as usize].subject;
            let plan = oracle.plan.clone();
            let mut wanting = plan.consumers.iter().enumerate().filter(|(_, consumer)| {
                consumer.stream == stream && consumer.filter.is_none_or(|filter| filter == subject)
            });
            let mut wanted = false;
            let all = wanting.all(|(number, _)| {
                wanted = true;
                oracle.consumer(number, self.epoch).is_synced(*sequence)
            });
            if wanted && all {
                let text = format!(
                    "message {token} at {sequence} of stream {stream} is there, and all have acknowledged it"
                );
                return oracle.violate(Rule::Revived, text);
            }
        }
    }

    fn check_consumer(&self, oracle: &mut Oracle, consumer: usize, counts: ConsumerCounts) {
        let plan = oracle.plan.consumers[consumer];
        let Some(listed) = self.listed.get(&plan.stream) else { return };
        let wants = |oracle: &Oracle, token: u32| {
            plan.filter.is_none_or(|filter| filter == oracle.tokens[token as usize].subject)
        };
        let behind = listed.range(counts.delivered + 1..);
        let left = behind.filter(|(_, token)| wants(oracle, **token)).count() as u64;
        if counts.pending != left {
            let text = format!("consumer {consumer} says {counts:?}, and {left} messages are left");
            return oracle.violate(Rule::Counts, text);
        }
        let there =
            listed.range(..=counts.delivered).filter(|(_, token)| wants(oracle, **token)).count() as u64;
        if counts.ack_pending > there {
            let text =
                format!("consumer {consumer} says {counts:?}, and {there} of what it delivered are there");
            return oracle.violate(Rule::Counts, text);
        }
        if !self.last {
            return;
        }
        // An acknowledgement that wasn't confirmed before the power was cut may be lost.
        let wanted = listed.iter().filter(|(_, token)| wants(oracle, **token)).map(|(sequence, _)| *sequence);
        let wanted: Vec<u64> = wanted.collect();
        let life = oracle.consumer(consumer, self.epoch);
        let lost = wanted.iter().filter(|sequence| !life.is_synced(**sequence)).count() as u64;
        if counts.ack_pending > lost {
            let text = format!("consumer {consumer} had nothing left, and says {counts:?}");
            oracle.violate(Rule::Counts, text);
        }
        let Some(before) = self.before.get(&plan.stream) else { return };
        let base = oracle.consumer(consumer, self.epoch).base;
        let missed = before.range(base + 1..).find(|(sequence, token)| {
            let life = oracle.consumer_life_of(consumer, self.epoch);
            // What was lost on its way is acknowledged with what came behind it, where one is for all before.
            let delivered = oracle.consumers[consumer].get(&life).is_some_and(|life| {
                life.delivered.contains(sequence) || (plan.ack_all && life.is_acknowledged(**sequence, true))
            });
            wants(oracle, **token) && !delivered && listed.contains_key(sequence)
        });
        if let Some((sequence, token)) = missed {
            let subject = subject_name(plan.stream, oracle.tokens[*token as usize].subject);
            let text = format!("consumer {consumer} wants message {sequence} on {subject}, and never got it");
            oracle.violate(Rule::Liveness, text);
        }
    }
}
