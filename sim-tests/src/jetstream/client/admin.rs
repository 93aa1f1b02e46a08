//! The client that makes streams and consumers, removes messages, and asks how things are: one request after the other.

use std::collections::{BTreeMap, VecDeque};

use natrix_runtime_sim::queue::{MILLISECOND, SECOND, SimTime};

use super::audit::Audit;
use super::copy::{Copying, Next, Step};
use super::settings::{PLAIN, consumer_config, stream_config};
use super::{Desk, Message, Mode};
use crate::jetstream::oracle::{Removal, What, stream_name, subject_name};
use crate::jetstream::plan::{Retention, StreamPlan};
use crate::jetstream::report::Rule;
use crate::jetstream::text::{error_code, number, number_after};

/// Something to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Stream(usize),
    Consumer(usize),
    Remove(usize, What),
    StreamInfo(usize),
    ConsumerInfo(usize),
    /// The first message of a stream from a sequence on.
    Next(usize, u64),
    /// A stream, or a consumer, that comes and goes: made, deleted, asked for, published to.
    Guest(Guest, Visit),
    /// A copy of a stream: backed up, restored, read, deleted.
    Copy(Step),
}

/// What comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Guest {
    Stream,
    Consumer,
}

/// What is done with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Visit {
    Create,
    Delete,
    Info,
    Publish,
}

/// How an answer is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Done,
    Again,
}

/// What is known of a guest: how many messages it has at least and at most.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    there: bool,
    least: u64,
    most: u64,
}

/// What is published to a stream that comes and goes, right behind the request that makes it.
#[derive(Clone, Copy, Debug, Default)]
struct Early {
    /// The number of the answer that is awaited.
    pending: Option<u64>,
    sent: u64,
    acknowledged: u64,
}

/// What cannot be had now, but later.
const PASSING: [u64; 5] = [10008, 10023, 10077, 10167, 10002];
const STREAM_NOT_FOUND: u64 = 10059;
const STREAM_OFFLINE: u64 = 10118;
const CONSUMER_NOT_FOUND: u64 = 10014;
/// Something that doesn't succeed for so long never will.
const PATIENCE: u64 = 90 * SECOND;

/// The script.
#[derive(Debug)]
pub(crate) struct Admin {
    ops: VecDeque<Op>,
    current: Option<Op>,
    began: SimTime,
    attempts: u32,
    pending: Option<(u64, SimTime)>,
    not_before: SimTime,
    epoch: u32,
    /// In which epoch what is in memory was made.
    made: BTreeMap<Op2, u32>,
    guests: BTreeMap<Guest, Known>,
    early: Early,
    /// Which stream the consumer that comes and goes is on.
    host: Option<usize>,
    copy: Copying,
    pub(super) audit: Audit,
    /// Consumers that were seen to have nothing left, one after the other.
    clean: usize,
}

/// A stream or a consumer.
type Op2 = (bool, usize);

impl Admin {
    pub(crate) fn new(streams: &[StreamPlan]) -> Self {
        Admin {
            ops: VecDeque::new(),
            current: None,
            began: SimTime(0),
            attempts: 0,
            pending: None,
            not_before: SimTime(0),
            epoch: 0,
            made: BTreeMap::new(),
            guests: BTreeMap::new(),
            early: Early::default(),
            host: streams
                .iter()
                .position(|plan| !plan.memory && !plan.values && plan.retention == Retention::Limits),
            copy: Copying::default(),
            audit: Audit::default(),
            clean: 0,
        }
    }

    /// Makes what isn't there: all at first, and what was in memory after each restart.
    pub(super) fn opened(&mut self, desk: &mut Desk<'_>) {
        let epoch = desk.conn.epoch;
        if epoch == self.epoch {
            return;
        }
        self.epoch = epoch;
        let plan = desk.oracle.plan.clone();
        let mut ops = Vec::new();
        for stream in 0..plan.streams.len() {
            if plan.streams[stream].memory || !self.made.contains_key(&(true, stream)) {
                ops.push(Op::Stream(stream));
            }
        }
        for consumer in 0..plan.consumers.len() {
            let life = desk.oracle.consumer_life_of(consumer, epoch);
            if life > 0 || !self.made.contains_key(&(false, consumer)) {
                ops.push(Op::Consumer(consumer));
            }
        }
        self.ops.retain(|op| !ops.contains(op));
        ops.into_iter().rev().for_each(|op| self.ops.push_front(op));
    }

    pub(super) fn act(&mut self, desk: &mut Desk<'_>) {
        let now = desk.now();
        if let Some((_, sent)) = self.pending {
            return desk.check_answered(sent, format_args!("{:?}", self.current));
        }
        self.copy.tend(desk);
        if now < self.not_before {
            return;
        }
        if self.current.is_none() {
            self.current = self.ops.pop_front().or_else(|| self.choose(desk));
            (self.began, self.attempts) = (now, 0);
        }
        let Some(op) = self.current else { return };
        if now - self.began > PATIENCE {
            let text = format!("{op:?} doesn't succeed");
            return desk.oracle.violate(Rule::Liveness, text);
        }
        self.attempts += 1;
        if let Op::Copy(step) = op {
            self.copy.asked(step, now);
            let (source, name) = (stream_name(self.host.unwrap_or(0)), self.copy.name());
            let config = stream_config(&name, &format!("{}.>", name.to_lowercase()), &PLAIN);
            let (subject, body) = self.copy.words(step, desk, &source, &config);
            self.pending = Some((desk.conn.request_bytes(&subject, &body), now));
            return;
        }
        let (subject, body) = self.words(op, desk);
        self.sent(op, desk);
        self.pending = Some((desk.conn.request(&subject, "", &body), now));
        if op == Op::Guest(Guest::Stream, Visit::Create) {
            if self.attempts == 1 {
                self.early = Early::default();
            }
            self.early.pending = Some(desk.conn.request("v.x", "", "early"));
            self.early.sent += 1;
        }
    }

    fn choose(&mut self, desk: &mut Desk<'_>) -> Option<Op> {
        match desk.mode {
            Mode::Work if desk.rng.chance(1, 4) => Some(self.some_op(desk)),
            Mode::Audit => self.audit.next(),
            Mode::Drain => {
                let consumers = desk.oracle.plan.consumers.len();
                (self.clean < consumers).then_some(Op::ConsumerInfo(self.clean))
            }
            Mode::Work | Mode::Settle => None,
        }
    }

    fn some_op(&mut self, desk: &mut Desk<'_>) -> Op {
        let plan = desk.oracle.plan.clone();
        let stream = desk.rng.below(plan.streams.len() as u64) as usize;
        let consumers = plan.consumers.len() as u64;
        match desk.rng.below(8) {
            0 | 1 if plan.removals && !plan.streams[stream].values => self.removal(desk, stream),
            2..5 if plan.comings => {
                let guest = match self.host {
                    Some(_) if desk.rng.chance(1, 2) => Guest::Consumer,
                    _ => Guest::Stream,
                };
                self.visit(desk, guest)
            }
            5 if plan.copies && self.host.is_some() && !self.copy.is_under_way() => {
                Op::Copy(self.copy.begin(desk, self.host.unwrap_or(0)))
            }
            5..7 if consumers > 0 => Op::ConsumerInfo(desk.rng.below(consumers) as usize),
            _ => Op::StreamInfo(stream),
        }
    }

    fn visit(&mut self, desk: &mut Desk<'_>, guest: Guest) -> Op {
        let there = self.guests.get(&guest).is_some_and(|known| known.there);
        let visit = match desk.rng.below(6) {
            0 | 1 => Visit::Info,
            2 if there => Visit::Delete,
            3..6 if there && guest == Guest::Stream => Visit::Publish,
            _ if there => Visit::Info,
            _ => Visit::Create,
        };
        Op::Guest(guest, visit)
    }

    fn removal(&mut self, desk: &mut Desk<'_>, stream: usize) -> Op {
        let epoch = desk.conn.epoch;
        let known: Vec<u64> = desk.oracle.life(stream, epoch).sequences.keys().copied().collect();
        let subjects = u64::from(desk.oracle.plan.streams[stream].subjects);
        let some = match known.is_empty() {
            true => 1,
            false => known[desk.rng.below(known.len() as u64) as usize],
        };
        let subject = desk.rng.chance(1, 2).then(|| desk.rng.below(subjects) as u32);
        let what = match desk.rng.below(6) {
            0 => What::Purge { subject, below: 0, keep: 0 },
            1 => What::Purge { subject, below: some, keep: 0 },
            2 => What::Purge { subject, below: 0, keep: 1 + desk.rng.below(4) },
            _ => What::Sequence(some),
        };
        Op::Remove(stream, what)
    }

    fn words(&self, op: Op, desk: &Desk<'_>) -> (String, String) {
        let plan = &desk.oracle.plan;
        let api = |words: String, body: &str| (format!("$JS.API.{words}"), body.to_owned());
        match op {
            Op::Stream(stream) => {
                let name = stream_name(stream);
                api(
                    format!("STREAM.CREATE.{name}"),
                    &stream_config(&name, &format!("s{stream}.>"), &plan.streams[stream]),
                )
            }
            Op::Consumer(consumer) => {
                let name = stream_name(plan.consumers[consumer].stream);
                let body = consumer_config(consumer, plan);
                api(format!("CONSUMER.DURABLE.CREATE.{name}.C{consumer}"), &body)
            }
            Op::StreamInfo(stream) => api(format!("STREAM.INFO.{}", stream_name(stream)), ""),
            Op::ConsumerInfo(consumer) => {
                let name = stream_name(plan.consumers[consumer].stream);
                api(format!("CONSUMER.INFO.{name}.C{consumer}"), "")
            }
            Op::Next(stream, from) => {
                let body = format!("{{\"seq\":{from},\"next_by_subj\":\">\"}}");
                api(format!("DIRECT.GET.{}", stream_name(stream)), &body)
            }
            Op::Remove(stream, What::Sequence(sequence)) => {
                let body = format!("{{\"seq\":{sequence},\"no_erase\":{}}}", sequence % 2 == 0);
                api(format!("STREAM.MSG.DELETE.{}", stream_name(stream)), &body)
            }
            Op::Remove(stream, What::Purge { subject, below, keep }) => {
                let mut fields = Vec::new();
                fields.extend(
                    subject.map(|subject| format!("\"filter\":\"{}\"", subject_name(stream, subject))),
                );
                fields.extend((below > 0).then(|| format!("\"seq\":{below}")));
                fields.extend((keep > 0).then(|| format!("\"keep\":{keep}")));
                api(format!("STREAM.PURGE.{}", stream_name(stream)), &format!("{{{}}}", fields.join(",")))
            }
            Op::Guest(Guest::Stream, visit) => match visit {
                Visit::Create => api("STREAM.CREATE.V".to_owned(), &stream_config("V", "v.>", &PLAIN)),
                Visit::Delete => api("STREAM.DELETE.V".to_owned(), ""),
                Visit::Info => api("STREAM.INFO.V".to_owned(), ""),
                Visit::Publish => ("v.x".to_owned(), "guest".to_owned()),
            },
            Op::Guest(Guest::Consumer, visit) => {
                let stream = stream_name(self.host.unwrap_or(0));
                match visit {
                    Visit::Create => {
                        let body = format!(
                            "{{\"stream_name\":\"{stream}\",\"config\":{{\"durable_name\":\"W\",\"ack_policy\":\"explicit\",\"deliver_policy\":\"all\",\"replay_policy\":\"instant\"}}}}"
                        );
                        api(format!("CONSUMER.DURABLE.CREATE.{stream}.W"), &body)
                    }
                    Visit::Delete => api(format!("CONSUMER.DELETE.{stream}.W"), ""),
                    Visit::Info | Visit::Publish => api(format!("CONSUMER.INFO.{stream}.W"), ""),
                }
            }
            Op::Copy(_) => unreachable!("a copy has words of its own"),
        }
    }

    /// Notes what is asked.
    fn sent(&mut self, op: Op, desk: &mut Desk<'_>) {
        let Op::Remove(stream, what) = op else { return };
        let (now, epoch, again) = (desk.now(), desk.conn.epoch, self.attempts > 1);
        let removals = &mut desk.oracle.life(stream, epoch).removals;
        match removals
            .last_mut()
            .filter(|removal| again && removal.what == what && removal.answered.is_none())
        {
            // The one before may still be on its way.
            Some(removal) => (removal.sent, removal.loose) = (now, true),
            None => removals.push(Removal { what, sent: now, answered: None, epoch, loose: again }),
        }
    }

    pub(super) fn hear(&mut self, desk: &mut Desk<'_>, message: Message<'_>) {
        let answer = desk.conn.answered(message.subject);
        if answer.is_some() && self.early.pending == answer {
            return self.heard_early(desk, message);
        }
        if let Some(next) = self.copy.chunk(desk, answer, message) {
            self.go_on(next);
            return;
        }
        let (Some(_), Some(op)) = (self.pending.take_if(|(number, _)| Some(*number) == answer), self.current)
        else {
            let text = format!("client {} hears what it didn't ask: {}", desk.conn.id, message.text());
            return desk.oracle.violate(Rule::Content, text);
        };
        let taken = match message.status() {
            Some(503) => self.nobody(op, desk),
            _ => self.take(op, desk, message),
        };
        match taken {
            Taken::Done => self.current = None,
            Taken::Again => {
                desk.oracle.tally.hit("asked-again");
                self.not_before = desk.now() + 100 * MILLISECOND;
            }
        }
    }

    /// What was published behind the request that makes its stream is stored, or there was no stream yet.
    fn heard_early(&mut self, desk: &mut Desk<'_>, message: Message<'_>) {
        self.early.pending = None;
        if message.status() == Some(503) || error_code(&message.text()).is_some() {
            return;
        }
        desk.oracle.tally.hit("stored-early");
        // So the stream is there, whatever becomes of the answer to who made it.
        desk.oracle.tempting = 1000;
        self.early.acknowledged += 1;
        if self.current != Some(Op::Guest(Guest::Stream, Visit::Create)) {
            self.guests.entry(Guest::Stream).or_default().least += 1;
        }
    }

    /// Asks next what a copy needs.
    fn go_on(&mut self, next: Next) {
        if let Next::Ask(step) = next {
            self.ops.push_front(Op::Copy(step));
        }
    }

    fn nobody(&mut self, op: Op, desk: &mut Desk<'_>) -> Taken {
        match op {
            Op::Copy(step) => match self.copy.nobody(step) {
                Some(next) => {
                    self.go_on(next);
                    Taken::Done
                }
                None => Taken::Again,
            },
            Op::Guest(Guest::Stream, Visit::Publish) => Taken::Done,
            // What is in memory is gone with the server.
            Op::Next(stream, _) if desk.oracle.plan.streams[stream].memory && desk.mode == Mode::Work => {
                Taken::Done
            }
            _ => Taken::Again,
        }
    }

    fn take(&mut self, op: Op, desk: &mut Desk<'_>, message: Message<'_>) -> Taken {
        let json = message.text();
        let error = error_code(&json);
        if error.is_some_and(|code| PASSING.contains(&code))
            && !matches!(op, Op::Guest(_, Visit::Publish) | Op::Remove(..))
        {
            return Taken::Again;
        }
        match op {
            Op::Copy(step) => {
                let next = self.copy.take(step, desk, self.host.unwrap_or(0), message);
                self.go_on(next);
            }
            Op::Next(stream, from) => {
                self.audit.read(desk, stream, from, message);
                return Taken::Done;
            }
            Op::Remove(stream, what) => self.removed(stream, what, error, desk, &json),
            Op::Guest(guest, visit) => self.visited(guest, visit, error, desk, &json),
            Op::Stream(stream) | Op::StreamInfo(stream) => {
                self.stream_told(op, stream, error, desk, &json);
            }
            Op::Consumer(consumer) | Op::ConsumerInfo(consumer) => {
                self.consumer_told(op, consumer, error, desk, &json);
            }
        }
        Taken::Done
    }

    fn stream_told(&mut self, op: Op, stream: usize, error: Option<u64>, desk: &mut Desk<'_>, json: &str) {
        let here = self.made.get(&(true, stream)).is_some_and(|epoch| {
            desk.oracle.life_of(stream, *epoch) == desk.oracle.life_of(stream, desk.conn.epoch)
        });
        match (op, error) {
            (_, Some(STREAM_OFFLINE)) if desk.oracle.is_offline(desk.conn.epoch) => {}
            (Op::Stream(_), None) => {
                self.made.insert((true, stream), desk.conn.epoch);
            }
            (Op::StreamInfo(_), None) if desk.mode == Mode::Audit => self.audit.stream_told(stream, json),
            (Op::StreamInfo(_), Some(STREAM_NOT_FOUND)) if !here => {}
            (_, Some(_)) => {
                let rule = if here { Rule::Lifecycle } else { Rule::Error };
                desk.oracle.violate(rule, format!("{op:?}: {json}"));
            }
            _ => {}
        }
    }

    fn consumer_told(
        &mut self,
        op: Op,
        consumer: usize,
        error: Option<u64>,
        desk: &mut Desk<'_>,
        json: &str,
    ) {
        let epoch = desk.conn.epoch;
        let life = |epoch| desk.oracle.consumer_life_of(consumer, epoch);
        let here = self.made.get(&(false, consumer)).is_some_and(|made| life(*made) == life(epoch));
        if error == Some(STREAM_OFFLINE) && desk.oracle.is_offline(epoch) {
            return;
        }
        if error.is_some() {
            // One that is made again has to wait for its stream, which is asked for before it.
            if !here && matches!(error, Some(STREAM_NOT_FOUND | CONSUMER_NOT_FOUND)) {
                return;
            }
            let rule = if here { Rule::Lifecycle } else { Rule::Error };
            return desk.oracle.violate(rule, format!("{op:?}: {json}"));
        }
        let delivered = number_after(json, "\"delivered\"", "stream_seq").unwrap_or(0);
        if let Op::Consumer(_) = op {
            self.made.insert((false, consumer), epoch);
            // Where everything is wanted from the start, what it was made behind is gone.
            let new = desk.oracle.plan.consumers[consumer].new;
            // It may have worked since it was asked for the first time.
            let sure = self.attempts == 1;
            desk.oracle.consumer_created(consumer, epoch, if new { delivered } else { 0 }, sure);
            return;
        }
        let floor = number_after(json, "\"ack_floor\"", "stream_seq").unwrap_or(0);
        desk.oracle.check_floor(consumer, epoch, floor);
        desk.oracle.tally.hit("floor-looked-at");
        if floor > delivered {
            desk.oracle.violate(Rule::Floor, format!("consumer {consumer}: {json}"));
        }
        match desk.mode {
            Mode::Audit => self.audit.consumer_told(consumer, json),
            Mode::Drain => {
                let left = |name| number(json, name).unwrap_or(1);
                if left("num_pending") == 0 && left("num_ack_pending") == 0 {
                    self.clean = self.clean.max(consumer + 1);
                }
            }
            Mode::Work | Mode::Settle => {}
        }
    }

    fn removed(&mut self, stream: usize, what: What, error: Option<u64>, desk: &mut Desk<'_>, json: &str) {
        let (now, epoch) = (desk.now(), desk.conn.epoch);
        if error.is_some() || !json.contains("\"success\":true") {
            return;
        }
        desk.oracle.tally.hit("removed");
        desk.oracle.tempting = 100;
        let removals = &mut desk.oracle.life(stream, epoch).removals;
        if let Some(removal) = removals.iter_mut().rev().find(|removal| removal.what == what) {
            (removal.answered, removal.epoch) = (Some(now), epoch);
        }
    }

    fn visited(&mut self, guest: Guest, visit: Visit, error: Option<u64>, desk: &mut Desk<'_>, json: &str) {
        let again = self.attempts > 1;
        let known = self.guests.entry(guest).or_default();
        let missing = matches!(error, Some(STREAM_NOT_FOUND | CONSUMER_NOT_FOUND));
        let wrong = match (visit, error) {
            (Visit::Create, None) => {
                let (least, most) = match guest {
                    Guest::Stream => (self.early.acknowledged, self.early.sent),
                    Guest::Consumer => (0, 0),
                };
                *known = Known { there: true, least, most };
                false
            }
            (Visit::Delete, None) => std::mem::take(known).most == u64::MAX,
            (Visit::Delete, Some(_)) if missing && again => std::mem::take(known).most == u64::MAX,
            (Visit::Publish, None) => {
                (known.least, known.most) = (known.least + 1, known.most + 1);
                false
            }
            (Visit::Publish, Some(_)) => {
                known.most += 1;
                false
            }
            (Visit::Info, None) => {
                let messages = number_after(json, "\"state\"", "messages").unwrap_or(0);
                let counted = guest == Guest::Consumer || (known.least..=known.most).contains(&messages);
                !known.there || !counted
            }
            (Visit::Info, Some(_)) if missing => known.there,
            _ => true,
        };
        if matches!(visit, Visit::Create | Visit::Delete) {
            desk.oracle.tempting = 200;
        }
        desk.oracle.tally.hit(match visit {
            Visit::Create => "guest-created",
            Visit::Delete => "guest-deleted",
            Visit::Info => "guest-asked",
            Visit::Publish => "guest-published",
        });
        if wrong {
            let text = format!("{guest:?} {visit:?}, known to be {known:?}: {json}");
            desk.oracle.violate(Rule::Lifecycle, text);
        }
    }

    /// Begins to look at everything; for the second time, when nothing may be left.
    pub(crate) fn start_audit(&mut self, oracle: &crate::jetstream::oracle::Oracle, last: bool) {
        self.audit.start(oracle, last);
    }

    /// Returns whether everything was looked at.
    pub(crate) fn is_audited(&self) -> bool {
        self.audit.is_over()
    }

    /// Compares what was seen with what is known.
    pub(crate) fn conclude(&mut self, oracle: &mut crate::jetstream::oracle::Oracle) {
        self.audit.conclude(oracle);
    }

    /// Returns which consumer has something left, if one has.
    pub(crate) fn unclean(&self, consumers: usize) -> Option<usize> {
        (self.clean < consumers).then_some(self.clean)
    }

    pub(super) fn lost(&mut self) {
        if self.pending.take().is_some()
            && let Some(Op::Guest(Guest::Stream, Visit::Publish)) = self.current
        {
            // It may be stored or not.
            self.guests.entry(Guest::Stream).or_default().most += 1;
            self.current = None;
        }
        self.early.pending = None;
        if self.early.acknowledged > 0
            && self.current.take_if(|op| *op == Op::Guest(Guest::Stream, Visit::Create)).is_some()
        {
            let (least, most) = (self.early.acknowledged, self.early.sent);
            self.guests.insert(Guest::Stream, Known { there: true, least, most });
        }
        let asked = match self.current {
            Some(Op::Copy(step)) => Some(step),
            _ => None,
        };
        let waits = self.ops.iter().find_map(|op| if let Op::Copy(step) = op { Some(*step) } else { None });
        self.ops.retain(|op| !matches!(op, Op::Copy(_)));
        self.current = self.current.take_if(|op| !matches!(op, Op::Copy(_)));
        let next = self.copy.lost(asked.or(waits));
        self.go_on(next);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.current.is_some() || !self.ops.is_empty() || self.copy.is_under_way()
    }
}
