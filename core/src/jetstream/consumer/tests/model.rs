//! A consumer against a plain model, with a disk that makes it wait and crashes at any entry.
//!
//! The model knows of each message how often it was delivered, when, and whether it is acknowledged. A crash
//! takes it back to what the durable entries say, which must be nothing that it didn't know, and everything that a
//! client or the stream was told.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::world::{World, usual};
use crate::jetstream::api::consumer_config::{AckPolicy, ConsumerConfig};
use crate::jetstream::consumer::Event;
use crate::rng::Rng;
use crate::storage::Retention;
use crate::storage::consumer::ConsumerState;
use crate::storage::ledger::Filter;
use crate::time::{Duration, Instant};

/// How long an acknowledgement is waited for here.
const ACK_WAIT: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
struct Delivery {
    count: u64,
    /// Before this it isn't delivered again.
    not_before: Instant,
}

/// What is known of the messages that the consumer wants.
#[derive(Default)]
struct Model {
    /// What was delivered and is neither acknowledged nor gone nor given up.
    pending: BTreeMap<u64, Delivery>,
    /// What is acknowledged.
    acked: BTreeSet<u64>,
    /// What was delivered as often as it may be.
    given_up: BTreeSet<u64>,
    /// What somebody was told is acknowledged.
    promised: BTreeSet<u64>,
    /// The last message that was delivered for the first time.
    last: u64,
}

struct Test {
    world: World,
    model: Model,
    filter: Option<&'static str>,
    requests: u64,
}

impl Test {
    fn new(config: ConsumerConfig, retention: Retention, waits: bool) -> Self {
        let filter = if config.filter_subject.is_empty() { None } else { Some("a.*") };
        let mut world = World::new(config, retention, true, &["a.1", "b.1"]);
        world.stream.waits = waits.then(|| (Rng::from_u64(3), 4));
        world.listeners.0.push(("$JS.EVENT.>".to_owned(), String::new()));
        Test { world, model: Model::default(), filter, requests: 0 }
    }

    fn config(&self) -> &ConsumerConfig {
        self.world.consumer.config()
    }

    /// Returns the messages that the consumer wants, of those that there are, from a sequence on.
    fn wanted(&mut self, from: u64) -> Vec<u64> {
        let filter = self.filter.map_or(Filter::All, |filter| Filter::Subject(filter.as_bytes()));
        let (mut found, mut from) = (Vec::new(), from);
        while let Some(sequence) = self.world.stream.store.ask(|ledger| ledger.next(filter, from)) {
            found.push(sequence);
            from = sequence + 1;
        }
        found
    }

    /// Chooses one of what is pending.
    fn pending(&self, choice: u64) -> Option<u64> {
        let count = self.model.pending.len() as u64;
        self.model.pending.keys().nth((choice % count.max(1)) as usize).copied()
    }

    fn step(&mut self, operation: u8, argument: u64) {
        match operation {
            0..=2 => self.world.store(["a.1", "a.2", "b.1"][argument as usize % 3]),
            3..=5 => {
                self.requests += 1;
                let body = match argument % 4 {
                    0 => r#"{"batch":3,"expires":3000000000,"idle_heartbeat":1000000000}"#,
                    1 => r#"{"batch":5,"no_wait":true}"#,
                    2 => r#"{"batch":20,"max_bytes":120,"expires":2000000000}"#,
                    _ => "2",
                };
                self.world.pull(&format!("r.{}", self.requests), body);
            }
            6..=9 => self.acknowledge(argument),
            10 => self.refuse(argument),
            11 => self.tick(Duration::from_millis(argument % 4000)),
            12 => {
                let all = self.wanted(0);
                if let Some(sequence) = all.get(argument as usize % all.len().max(1)) {
                    self.world.remove(*sequence);
                }
            }
            13 if argument.is_multiple_of(4) => {
                let (subject, keep) = (["", "a.1", "b.*"][argument as usize / 4 % 3], argument / 12 % 3);
                self.world.purge(subject, 0, keep);
            }
            13 => self.world.commit(argument as usize % 3),
            14 if argument.is_multiple_of(4) => self.crash(),
            14 => self.world.commits = argument.is_multiple_of(2),
            _ => {
                let sequence = self.pending(argument);
                if let Some(sequence) = sequence {
                    self.world.ack(sequence, "", "+WPI");
                    let wait = self.wait(sequence);
                    let now = self.world.now.instant;
                    self.model.pending.get_mut(&sequence).unwrap().not_before = now + wait;
                }
            }
        }
        self.world.settle();
        self.observe();
        self.check();
    }

    /// Lets time pass, and looks at what happens when it does.
    fn tick(&mut self, by: Duration) {
        let end = self.world.now.instant + by;
        while let Some(due) = self.world.consumer.poll_timeout().filter(|due| *due <= end) {
            let now = self.world.now.instant;
            self.world.tick(due - now);
            self.observe();
        }
        let now = self.world.now.instant;
        self.world.tick(end - now);
    }

    fn wait(&self, sequence: u64) -> Duration {
        let count = self.model.pending.get(&sequence).map_or(1, |delivery| delivery.count);
        let config = self.config();
        let backoff = config.backoff.get((count as usize - 1).min(config.backoff.len().saturating_sub(1)));
        backoff.copied().unwrap_or(config.ack_wait)
    }

    fn acknowledge(&mut self, argument: u64) {
        let Some(sequence) = self.pending(argument) else { return };
        let sync = argument.is_multiple_of(3);
        let word = if argument.is_multiple_of(7) { "+TERM" } else { "+ACK" };
        let reply = if sync { format!("r.sync.{sequence}") } else { String::new() };
        self.world.ack(sequence, &reply, word);
        self.note_acknowledged(sequence);
    }

    /// Notes that a message is acknowledged, with all before it where that is what it means.
    fn note_acknowledged(&mut self, sequence: u64) {
        let from = if self.config().ack_policy == AckPolicy::All { 0 } else { sequence };
        let done: Vec<u64> =
            self.model.pending.range(from..=sequence).map(|(sequence, _)| *sequence).collect();
        let given_up: Vec<u64> = self.model.given_up.range(from..=sequence).copied().collect();
        for sequence in done.into_iter().chain(given_up) {
            self.model.pending.remove(&sequence);
            self.model.given_up.remove(&sequence);
            self.model.acked.insert(sequence);
        }
    }

    fn refuse(&mut self, argument: u64) {
        let Some(sequence) = self.pending(argument) else { return };
        let delay = argument % 3;
        let text =
            if delay == 0 { String::new() } else { format!("{{\"delay\":{}}}", delay * 1_000_000_000) };
        self.world.ack(sequence, "", &format!("-NAK {text}"));
        let token = String::from_utf8(self.world.replies[&sequence].to_vec()).unwrap();
        let delivery: u64 = token.split('.').nth(6).unwrap().parse().unwrap();
        // A delivery that a crash has made undone can't be refused.
        if delivery <= self.world.consumer.state().delivered.consumer {
            let not_before = self.world.now.instant + Duration::from_secs(delay);
            self.model.pending.get_mut(&sequence).unwrap().not_before = not_before;
        }
    }

    /// Loses what isn't durable; the model goes back to what is.
    fn crash(&mut self) {
        self.observe();
        self.world.crash();
        let state = self.world.durable.state().clone();
        self.go_back_to(&state);
    }

    fn go_back_to(&mut self, state: &ConsumerState) {
        for sequence in &self.model.promised {
            let open = state.pending.contains_key(sequence) || *sequence > state.delivered.stream;
            assert!(!open, "{sequence} was told to be acknowledged, and {state:?} has forgotten it");
        }
        // What is neither pending nor to come must be acknowledged, given up or gone.
        for sequence in self.wanted(0) {
            let settled = sequence <= state.delivered.stream && !state.pending.contains_key(&sequence);
            let is_known = self.model.acked.contains(&sequence) || self.model.given_up.contains(&sequence);
            assert!(!settled || is_known, "{sequence} is lost: {state:?}");
        }
        let open =
            |sequence: &u64| *sequence > state.delivered.stream || state.pending.contains_key(sequence);
        self.model.acked.retain(|sequence| !open(sequence));
        self.model.given_up.retain(|sequence| !open(sequence));
        self.model.last = state.delivered.stream;
        let there: BTreeSet<u64> = self.wanted(0).into_iter().collect();
        let pending = state.pending.keys().filter(|sequence| there.contains(sequence));
        // When it is due again the crash has left to the durable time, which may be older.
        self.model.pending = pending
            .map(|sequence| {
                let count = state.redelivered.get(sequence).copied().unwrap_or(0) + 1;
                (*sequence, Delivery { count, not_before: Instant::ZERO })
            })
            .collect();
    }

    /// Takes what was published and told.
    fn observe(&mut self) {
        // Nothing is removed without the consumer being told before it delivers more.
        let there: BTreeSet<u64> = self.wanted(0).into_iter().collect();
        self.model.pending.retain(|sequence, _| there.contains(sequence));
        for event in std::mem::take(&mut self.world.events) {
            if let Event::Acknowledged { sequence } = event {
                self.model.promised.insert(sequence);
            }
        }
        let out = std::mem::take(&mut self.world.out);
        for message in out {
            let to = String::from_utf8(message.to.to_vec()).unwrap();
            if let Some(sequence) = to.strip_prefix("r.sync.") {
                self.model.promised.insert(sequence.parse().unwrap());
            } else if to.starts_with("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES") {
                let text = String::from_utf8(message.payload.to_vec()).unwrap();
                let number = text.split("\"stream_seq\":").nth(1).unwrap().split([',', '}']).next().unwrap();
                let sequence = number.parse().unwrap();
                self.model.pending.remove(&sequence).expect("given up, but not pending");
                self.model.given_up.insert(sequence);
            } else if message.reply.starts_with(b"$JS.ACK") {
                let reply = String::from_utf8(message.reply.to_vec()).unwrap();
                let tokens: Vec<u64> = reply.split('.').skip(4).map(|token| token.parse().unwrap()).collect();
                self.delivered(tokens[1], tokens[0], tokens[4]);
            }
        }
    }

    /// Notes a delivery, the `count`th of its message.
    fn delivered(&mut self, sequence: u64, count: u64, left: u64) {
        assert!(!self.model.acked.contains(&sequence), "{sequence} is acknowledged, and delivered again");
        assert!(!self.model.given_up.contains(&sequence), "{sequence} was delivered too often already");
        let now = self.world.now.instant;
        let most = u64::try_from(self.config().max_deliver).unwrap_or(u64::MAX);
        assert!(count <= most, "{sequence} is delivered for the {count}th time");
        if count == 1 {
            assert!(sequence > self.model.last, "{sequence} behind {}", self.model.last);
            let passed_over = self.wanted(self.model.last + 1).into_iter().find(|other| *other < sequence);
            assert_eq!(passed_over, None, "{sequence} came first");
            self.model.last = sequence;
            let max_pending = self.config().max_ack_pending as usize;
            assert!(self.model.pending.len() < max_pending, "{sequence} is one too many");
            self.model.pending.insert(sequence, Delivery { count, not_before: now });
        } else {
            let known = self.model.pending.get_mut(&sequence).expect("delivered again, but not pending");
            assert!(known.not_before <= now, "{sequence} is delivered again too early: {known:?} at {now:?}");
            assert_eq!(known.count + 1, count);
            known.count = count;
        }
        let not_before = now + self.wait(sequence);
        self.model.pending.get_mut(&sequence).unwrap().not_before = not_before;
        let really = self.wanted(self.model.last + 1).len() as u64;
        assert_eq!(left, really, "left behind {sequence}");
    }

    fn check(&mut self) {
        let state = self.world.consumer.state();
        assert_eq!(state.check(), Ok(()));
        assert!(state.pending.keys().eq(self.model.pending.keys()), "{state:?} {:?}", self.model.pending);
        // Nothing at or below the floor is open.
        if let Some(first) = self.model.pending.keys().next() {
            assert!(state.ack_floor.stream < *first);
        }
        if !self.world.consumer.progress.is_changed() && self.world.journal.is_empty() {
            assert_eq!(state, *self.world.durable.state());
        }
        // What the stream was told may go isn't needed; what is open is.
        for sequence in self.model.pending.keys() {
            assert!(self.world.consumer.needs(*sequence, b"a.1"), "{sequence}");
        }
        for sequence in &self.model.promised {
            assert!(!self.world.consumer.needs(*sequence, b"a.1"), "{sequence}");
        }
    }

    /// Waits until everything that is pending was delivered again, or given up.
    fn wait_for_all(&mut self) {
        let before: Vec<(u64, u64)> =
            self.model.pending.iter().map(|(sequence, delivery)| (*sequence, delivery.count)).collect();
        for _ in 0..6 {
            self.world.pull("r.all", "100");
            self.world.settle();
            self.observe();
            self.tick(ACK_WAIT / 2);
            self.check();
        }
        for (sequence, count) in before {
            let now = self.model.pending.get(&sequence);
            assert!(now.is_none_or(|delivery| delivery.count > count), "{sequence} doesn't come again");
        }
    }

    /// Lets everything come to an end: nothing is lost.
    fn finish(mut self) {
        self.world.commits = true;
        self.world.commit(usize::MAX);
        self.wait_for_all();
        for round in 0..300 {
            self.world.pull("r.last", r#"{"batch":100,"no_wait":true}"#);
            self.world.settle();
            self.observe();
            self.check();
            while let Some(sequence) = self.pending(0) {
                self.world.ack(sequence, "", "+ACK");
                self.note_acknowledged(sequence);
            }
            self.tick(ACK_WAIT / 2);
            self.observe();
            let everything = self.wanted(0);
            let open = |sequence: &u64| {
                !self.model.acked.contains(sequence) && !self.model.given_up.contains(sequence)
            };
            let rest: Vec<u64> = everything.iter().copied().filter(open).collect();
            if rest.is_empty() {
                break;
            }
            assert!(round < 299, "{rest:?} are never delivered");
        }
        self.world.tick(Duration::from_secs(1));
        let state = self.world.consumer.state();
        // What was given up last moves no floor.
        if self.model.given_up.is_empty() {
            assert_eq!(state.ack_floor, state.delivered);
        }
        assert_eq!(state, *self.world.durable.state());
    }
}

fn config(
    policy: AckPolicy,
    filtered: bool,
    max_deliver: i64,
    max_pending: i64,
    backoff: bool,
) -> ConsumerConfig {
    ConsumerConfig {
        ack_policy: policy,
        ack_wait: ACK_WAIT,
        max_deliver,
        max_ack_pending: max_pending,
        filter_subject: if filtered { "a.*".to_owned() } else { String::new() },
        backoff: if backoff { vec![Duration::from_secs(1), ACK_WAIT] } else { Vec::new() },
        ..usual()
    }
}

/// What a test does: its settings, and operations with their arguments.
#[derive(Clone, Debug)]
struct Case {
    config: ConsumerConfig,
    retention: Retention,
    waits: bool,
    operations: Vec<(u8, u64)>,
}

impl Case {
    fn run(self) {
        let mut test = Test::new(self.config, self.retention, self.waits);
        test.world.settle();
        for (operation, argument) in self.operations {
            test.step(operation, argument);
        }
        test.finish();
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    let settings = (any::<[bool; 4]>(), prop_oneof![Just(-1i64), 2..4i64], 1..8i64, any::<bool>());
    (settings, vec((0..16u8, any::<u64>()), 0..80)).prop_map(|(settings, operations)| {
        let ([all, filtered, backoff, waits], max_deliver, max_pending, work_queue) = settings;
        let policy = if all { AckPolicy::All } else { AckPolicy::Explicit };
        let config = config(policy, filtered, max_deliver, max_pending, backoff);
        let retention = if work_queue { Retention::WorkQueue } else { Retention::Limits };
        Case { config, retention, waits, operations }
    })
}

proptest! {
    #[test]
    fn a_consumer_is_what_a_plain_model_is(case in any_case()) {
        case.run();
    }
}

/// Each planted bug makes the model and the consumer differ, within a few hundred cases.
#[cfg(feature = "planted-bugs")]
#[test]
fn planted_bugs_are_found() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    use crate::planted::{Bug, arm, disarm};

    let bugs = [
        Bug::ConsumerAnswersEarly,
        Bug::ConsumerFloorPassesPending,
        Bug::ConsumerEntryLacksPending,
        Bug::ConsumerEntryLacksSettled,
        Bug::ConsumerEntryLacksCounts,
        Bug::ConsumerOnePendingTooMany,
        Bug::ConsumerRedeliversEarly,
        Bug::ConsumerNeverRedelivers,
        Bug::ConsumerDeliversTooOften,
        Bug::ConsumerCountsRemoved,
        Bug::ConsumerKeepsPurged,
        Bug::ConsumerRecoversFromFloor,
    ];
    let mut found = Vec::new();
    for bug in bugs {
        let mut runner = TestRunner::deterministic();
        let first = (1..=1000).find(|_| {
            let case = any_case().new_tree(&mut runner).unwrap().current();
            arm(Some(bug), 0, 1, 0);
            let caught = std::panic::catch_unwind(|| case.run()).is_err();
            disarm();
            caught
        });
        found.push((bug, first));
    }
    assert!(found.iter().all(|(_, first)| first.is_some()), "{found:?}");
    println!("{found:?}");
}
