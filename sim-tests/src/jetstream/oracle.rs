//! What is known of streams and consumers, and the rules that everything heard of them is held against.
//!
//! A published message is a *token*: its payload says which, so that whoever sees it again knows what was published,
//! when, and to what. A stream in memory lives as long as its server does: what is known of it is kept for each *life*
//! apart, that of a stream in files is the life 0.

mod consumers;

use std::collections::BTreeMap;
use std::sync::Arc;

use natrix_runtime_sim::queue::SimTime;

pub(super) use consumers::{ConsumerLife, Delivery};

use super::plan::{Plan, Retention};
use super::report::{Rule, Violation};
use crate::storage::report::Tally;

/// A message that was published, by the number in its payload.
#[derive(Clone, Debug)]
pub(super) struct Token {
    pub(super) stream: usize,
    pub(super) subject: u32,
    /// When it was sent for the first time.
    pub(super) sent: SimTime,
    /// How often it was sent; more than once only with a message id.
    pub(super) sends: u32,
    pub(super) size: usize,
    pub(super) expected: Expected,
    /// It was told, after it was sent once, that it isn't stored.
    pub(super) refused: bool,
    /// In which life and at which sequence it was seen, in which epoch of the server, and when.
    places: Vec<(u32, u64, u32, SimTime)>,
}

/// What a message expected of its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Nothing,
    /// The last sequence of the stream.
    Last(u64),
    /// The last sequence of its subject.
    OfSubject(u64),
}

/// Messages that were to be removed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Removal {
    pub(super) what: What,
    /// When it was last asked for.
    pub(super) sent: SimTime,
    pub(super) answered: Option<SimTime>,
    pub(super) epoch: u32,
    /// It was asked for more than once: one that wasn't answered may come later.
    pub(super) loose: bool,
}

/// Which ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// All below a sequence (zero for all) but the last so many, of one subject or all.
    Purge { subject: Option<u32>, below: u64, keep: u64 },
    /// One.
    Sequence(u64),
}

/// One life of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Life {
    pub(super) sequences: BTreeMap<u64, u32>,
    pub(super) removals: Vec<Removal>,
}

/// All that is known.
#[derive(Debug)]
pub(super) struct Oracle {
    pub(super) plan: Arc<Plan>,
    pub(super) tokens: Vec<Token>,
    pub(super) lives: Vec<BTreeMap<u32, Life>>,
    pub(super) consumers: Vec<BTreeMap<u32, ConsumerLife>>,
    /// The highest sequence that is known of each key.
    keys: BTreeMap<(usize, u32), u64>,
    /// The server's life.
    pub(super) epoch: u32,
    /// The life in which it said that it can't use a stream's files any more.
    pub(super) offline: Option<u32>,
    pub(super) tally: Tally,
    pub(super) violations: Vec<Violation>,
    pub(super) now: SimTime,
    /// How good a moment it is to cut the power, of a thousand: something was promised just now.
    pub(super) tempting: u64,
    pub(super) stored: u64,
    pub(super) deliveries: u64,
}

impl Oracle {
    pub(super) fn new(plan: Arc<Plan>) -> Self {
        let (streams, consumers) = (plan.streams.len(), plan.consumers.len());
        Oracle {
            plan,
            tokens: Vec::new(),
            lives: vec![BTreeMap::new(); streams],
            consumers: vec![BTreeMap::new(); consumers],
            keys: BTreeMap::new(),
            epoch: 0,
            offline: None,
            tally: Tally::default(),
            violations: Vec::new(),
            now: SimTime(0),
            tempting: 0,
            stored: 0,
            deliveries: 0,
        }
    }

    pub(super) fn violate(&mut self, rule: Rule, text: impl Into<String>) {
        self.violations.push(Violation { at: self.now, rule, text: text.into() });
    }

    /// Tells whether the server said in this life of it that a stream is out of use until it is started again.
    pub(super) fn is_offline(&self, epoch: u32) -> bool {
        self.offline == Some(epoch)
    }

    /// Returns which life of a stream a connection of `epoch` sees.
    pub(super) fn life_of(&self, stream: usize, epoch: u32) -> u32 {
        if self.plan.streams[stream].memory { epoch } else { 0 }
    }

    pub(super) fn life(&mut self, stream: usize, epoch: u32) -> &mut Life {
        let life = self.life_of(stream, epoch);
        self.lives[stream].entry(life).or_default()
    }

    /// Notes a message that is published for the first time, and returns its number.
    pub(super) fn publish(&mut self, stream: usize, subject: u32, size: usize, expected: Expected) -> u32 {
        let (sent, places) = (self.now, Vec::new());
        let token = Token { stream, subject, sent, sends: 1, size, expected, refused: false, places };
        self.tokens.push(token);
        self.tokens.len() as u32 - 1
    }

    /// Returns the payload of a message.
    pub(super) fn payload(&self, token: u32) -> String {
        let mut text = format!("t{token} ");
        text.extend(std::iter::repeat_n('x', self.tokens[token as usize].size));
        text
    }

    /// Reads which message a payload is, and that it is whole.
    pub(super) fn token_of(&mut self, stream: usize, subject: &[u8], payload: &[u8]) -> Option<u32> {
        let text = String::from_utf8_lossy(payload);
        let number = text.strip_prefix('t').and_then(|rest| rest.split(' ').next()?.parse::<u32>().ok());
        let Some(number) = number.filter(|number| (*number as usize) < self.tokens.len()) else {
            self.violate(Rule::Phantom, format!("stream {stream} has {text:?}, which nobody published"));
            return None;
        };
        let token = &self.tokens[number as usize];
        let right = subject_name(token.stream, token.subject);
        if token.stream != stream || right.as_bytes() != subject || self.payload(number) != *text {
            let subject = String::from_utf8_lossy(subject).into_owned();
            self.violate(Rule::Content, format!("message {number} of {right} is on {subject}, or changed"));
            return None;
        }
        Some(number)
    }

    /// Notes that a message is stored at a sequence: it was acknowledged, delivered or read.
    pub(super) fn learn(&mut self, epoch: u32, sequence: u64, number: u32, how: &str) {
        let stream = self.tokens[number as usize].stream;
        let at = self.life_of(stream, epoch);
        let other = self.life(stream, epoch).sequences.insert(sequence, number);
        if let Some(other) = other.filter(|other| *other != number) {
            let text =
                format!("stream {stream} has message {number} at {sequence} ({how}), and had {other} there");
            return self.violate(Rule::Content, text);
        }
        if other.is_some() {
            return;
        }
        let token = &mut self.tokens[number as usize];
        let before = token.places.iter().find(|(life, ..)| *life == at).copied();
        token.places.push((at, sequence, epoch, self.now));
        let (refused, expected, subject) = (token.refused, token.expected, token.subject);
        if refused {
            self.violate(
                Rule::Refused,
                format!("message {number} was refused, and is at {sequence} of stream {stream}"),
            );
        }
        if let Some((_, first, then, _)) = before {
            // What was removed isn't remembered over a restart.
            let stays = self.excuse(stream, at, first, number).is_none();
            if then == epoch || stays {
                let text = format!(
                    "message {number} is in stream {stream} twice, at {first} and at {sequence} ({how})"
                );
                self.violate(Rule::Dedup, text);
            }
        }
        if let Expected::Last(last) = expected
            && last + 1 != sequence
        {
            let text = format!(
                "message {number} expected {last} to be the last of stream {stream}, and is {sequence}"
            );
            self.violate(Rule::Linear, text);
        }
        if self.plan.streams[stream].values {
            let highest = self.keys.entry((stream, subject)).or_default();
            *highest = sequence.max(*highest);
        }
        self.stored += 1;
        self.tempting = self.tempting.max(1);
    }

    /// Returns the highest sequence that is known of a key.
    pub(super) fn key(&self, stream: usize, subject: u32) -> u64 {
        self.keys.get(&(stream, subject)).copied().unwrap_or(0)
    }

    /// A key was read that had the highest known sequence `least` when it was asked for.
    pub(super) fn read_key(&mut self, stream: usize, subject: u32, least: u64, sequence: u64) {
        if sequence < least {
            let text =
                format!("key {subject} of stream {stream} is read as {sequence}, and was {least} before");
            self.violate(Rule::Linear, text);
        }
    }

    /// Notes that a message was refused for good.
    pub(super) fn refuse(&mut self, number: u32) {
        let token = &mut self.tokens[number as usize];
        if token.sends > 1 {
            return;
        }
        token.refused = true;
        if let Some((_, sequence, ..)) = token.places.first().copied() {
            self.violate(Rule::Refused, format!("message {number} is refused, and was seen at {sequence}"));
        }
    }

    /// Returns why a message may be missing from a stream, if it may.
    pub(super) fn excuse(
        &self,
        stream: usize,
        life: u32,
        sequence: u64,
        number: u32,
    ) -> Option<&'static str> {
        let plan = &self.plan.streams[stream];
        let token = &self.tokens[number as usize];
        let known = self.lives[stream].get(&life)?;
        if known.removals.iter().any(|removal| removal.may_take(token, sequence)) {
            return Some("removed");
        }
        let last = known.sequences.last_key_value().map_or(0, |(last, _)| *last);
        let unknown = |subject: Option<u32>| {
            let maybe = |token: &&Token| {
                token.stream == stream
                    && token.places.is_empty()
                    && !token.refused
                    && subject.is_none_or(|subject| token.subject == subject)
            };
            self.tokens.iter().filter(maybe).count() as u64
        };
        if plan.max_messages > 0 && last + unknown(None) - sequence >= plan.max_messages && !plan.discard_new
        {
            return Some("limit");
        }
        if plan.per_subject > 0 {
            let above = known.sequences.range(sequence + 1..);
            let same = above.filter(|(_, other)| self.tokens[**other as usize].subject == token.subject);
            if same.count() as u64 + unknown(Some(token.subject)) >= plan.per_subject {
                return Some("limit of its subject");
            }
        }
        if plan.retention == Retention::Limits {
            return None;
        }
        let mut wanted = false;
        for (number, consumer) in self.plan.consumers.iter().enumerate() {
            if consumer.stream != stream || consumer.filter.is_some_and(|filter| filter != token.subject) {
                continue;
            }
            let there = self.consumers[number].get(&life);
            let before = there.and_then(|there| there.created).is_some_and(|created| created <= token.sent);
            wanted |= there.is_some();
            if (before || plan.retention == Retention::WorkQueue)
                && !there.is_some_and(|there| there.is_acknowledged(sequence, consumer.ack_all))
            {
                return None;
            }
        }
        (wanted || plan.retention == Retention::Interest).then_some("acknowledged")
    }

    /// Looks whether a message that is there should have been removed.
    pub(super) fn check_gone(
        &mut self,
        epoch: u32,
        stream: usize,
        sequence: u64,
        number: u32,
        asked: SimTime,
    ) {
        let token = &self.tokens[number as usize];
        let life = self.life_of(stream, epoch);
        let Some(known) = self.lives[stream].get(&life) else { return };
        // A stream in memory begins anew: what was at this sequence before is another's.
        let learnt = token.places.iter().find(|(of, at, ..)| (*of, *at) == (life, sequence));
        let learnt = learnt.map(|(.., learnt)| *learnt);
        let seen = Seen { token, sequence, learnt, asked, epoch };
        let took = known.removals.iter().find(|removal| removal.took(&seen)).copied();
        if let Some(removal) = took {
            let text =
                format!("message {number} at {sequence} of stream {stream} is there after {removal:?}");
            self.violate(Rule::Revived, text);
        }
    }

    /// Looks at the writes of all keys: each followed the one that it expected.
    pub(super) fn check_keys(&mut self) {
        for stream in 0..self.plan.streams.len() {
            if !self.plan.streams[stream].values {
                continue;
            }
            let mut last: BTreeMap<u32, u64> = BTreeMap::new();
            let writes: Vec<(u64, u32)> =
                self.life(stream, 0).sequences.iter().map(|(at, token)| (*at, *token)).collect();
            for (sequence, number) in writes {
                let token = &self.tokens[number as usize];
                let before = last.insert(token.subject, sequence).unwrap_or(0);
                if let Expected::OfSubject(expected) = token.expected
                    && before != expected
                {
                    let text = format!(
                        "key {} of stream {stream} was written at {sequence} expecting {expected}, and was written at {before}",
                        token.subject
                    );
                    self.violate(Rule::Linear, text);
                }
            }
        }
    }
}

/// A message that somebody sees.
#[derive(Clone, Copy)]
struct Seen<'a> {
    token: &'a Token,
    sequence: u64,
    /// When it was learnt that it is there, in this life of its stream.
    learnt: Option<SimTime>,
    /// When it was asked for.
    asked: SimTime,
    epoch: u32,
}

impl Removal {
    /// Tells whether it may be what removed a message.
    fn may_take(&self, token: &Token, sequence: u64) -> bool {
        match self.what {
            What::Sequence(which) => which == sequence,
            What::Purge { subject, below, .. } => {
                subject.is_none_or(|subject| subject == token.subject)
                    && (below == 0 || sequence < below)
                    && (self.loose || self.answered.is_none_or(|answered| token.sent <= answered))
            }
        }
    }

    /// Tells whether a message that somebody sees ought to be gone.
    fn took(&self, seen: &Seen<'_>) -> bool {
        let Seen { token, sequence, learnt, asked, epoch } = *seen;
        let Some(answered) = self.answered else { return false };
        if asked <= answered && epoch <= self.epoch {
            return false;
        }
        match self.what {
            What::Sequence(which) => which == sequence,
            What::Purge { keep: 0, .. } => {
                self.may_take(token, sequence) && learnt.is_some_and(|learnt| learnt < self.sent)
            }
            What::Purge { .. } => false,
        }
    }
}

/// Returns the name of a stream.
pub(super) fn stream_name(stream: usize) -> String {
    format!("S{stream}")
}

/// Returns a subject of a stream.
pub(super) fn subject_name(stream: usize, subject: u32) -> String {
    format!("s{stream}.k{subject}")
}
