//! The commands of the suite, and what they answer.

use std::fmt::Write as _;

use bytes::Bytes;

use super::Stream;
use crate::jetstream::marker::{delete_marker, is_delete_marker};
use crate::rng::Rng;
use crate::storage::change::{Change, NewMessage, Outcome};
use crate::storage::ledger::{Filter, Ledger};
use crate::storage::{DeleteRange, Discard, Lookup, Scheduling, StoreConfig};
use crate::subject::SubjectList;
use crate::time::{Duration, WallTime};

pub(super) fn seconds(seconds: i64) -> WallTime {
    WallTime::from_unix_nanos(seconds * 1_000_000_000)
}

pub(super) fn list(patterns: &str) -> SubjectList<()> {
    let mut list = SubjectList::new(Rng::from_u64(1).hash_keys());
    patterns.split(',').for_each(|pattern| list.insert(pattern.as_bytes(), ()).unwrap());
    list
}

pub(super) fn message(subject: &str, size: usize, time: WallTime) -> NewMessage {
    NewMessage {
        time,
        subject: Bytes::copy_from_slice(subject.as_bytes()),
        payload: Bytes::from(vec![b'x'; size]),
        checked: true,
        ..NewMessage::default()
    }
}

fn number(text: &str) -> u64 {
    text.parse().unwrap_or_else(|_| panic!("{text} is no number"))
}

/// One command, in words.
struct Command<'a> {
    words: Vec<&'a str>,
    now: WallTime,
}

/// Runs commands, one on each line or between semicolons, and returns them over what they answered. The clock goes on by a
/// second with each, from zero.
///
/// What changes it: `store SUBJECT [SIZE] [xTIMES] [ttl N] [rollup] [at SECONDS | scheduled]` (a `#` in the subject is the number of the time),
/// `follow SUBJECT` (as a replica stores what its leader let in), `raw SEQUENCE SUBJECT`, `skip SEQUENCE COUNT [unwanted]`,
/// `remove N [to N]`, `erase N`, `purge FILTER [below N] [keep N]`, `compact N`, `truncate N`, `sync FIRST+COUNT`,
/// `expire SECONDS`, `configure [NAME=VALUE]...`.
///
/// What asks: `load N`, `next FILTER N`, `previous FILTER N`, `last FILTER`, `pending FILTER N [last]`, `filtered FILTER N`,
/// `states FILTER`, `totals FILTER`, `lasts FILTER [max N] [allow N]`, `time SECONDS`, `subject N`, `due SECONDS`, `times`,
/// `schedules SECONDS`,
/// `state`. A filter of several subjects has commas between them.
///
/// `clock SECONDS` sets the clock, `restart` starts a stream in files again.
pub(super) fn run(stream: &mut impl Stream, script: &str) -> String {
    let mut out = String::new();
    let mut clock = 0;
    for line in script.split([';', '\n']).map(str::trim).filter(|line| !line.is_empty()) {
        let command = Command { words: line.split_whitespace().collect(), now: seconds(clock) };
        clock += 1;
        let answer = match command.words[0] {
            "clock" => {
                clock = number(command.words[1]) as i64;
                String::new()
            }
            "restart" => {
                stream.rest(true);
                String::new()
            }
            _ => command.change(stream).unwrap_or_else(|| command.ask(stream)),
        };
        let _ = write!(out, "{}{line}: {answer}", bytes(stream));
        let _ = writeln!(out, "{}{}", if answer.is_empty() { "" } else { " " }, state(stream));
        stream.rest(false);
    }
    out
}

fn bytes(stream: &mut impl Stream) -> String {
    format!("{:>4} bytes: ", stream.ask(|ledger| ledger.state()).bytes)
}

fn state(stream: &mut impl Stream) -> String {
    let state = stream.ask(|ledger| ledger.state());
    let gaps = stream.ask(|ledger| ledger.deleted());
    assert_eq!(state.deleted, gaps.iter().map(|range| range.count).sum::<u64>());
    let gaps: String = gaps.iter().map(|range| format!(" {}+{}", range.first, range.count)).collect();
    let (first, last) = (state.first_sequence, state.last_sequence);
    let without = if gaps.is_empty() { "" } else { ", without" };
    format!("({} in {first}..{last}, {} subjects{without}{gaps})", state.messages, state.subjects)
}

impl Command<'_> {
    fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// The number behind a word, zero if it isn't there.
    fn after(&self, name: &str) -> u64 {
        self.words.iter().position(|word| *word == name).map_or(0, |place| number(self.words[place + 1]))
    }

    fn text(&self) -> &str {
        self.words.get(1).copied().unwrap_or_default()
    }

    fn number(&self, place: usize) -> u64 {
        number(self.words[place])
    }

    fn change(&self, stream: &mut impl Stream) -> Option<String> {
        let change = match self.words[0] {
            "store" | "follow" => return Some(self.store(stream)),
            "raw" => {
                let new = message(self.words[2], 0, self.now);
                Change::Store(NewMessage { sequence: self.number(1), ..new })
            }
            "skip" => Change::Skip {
                sequence: self.number(1),
                count: self.number(2),
                time: self.now,
                unwanted: self.has("unwanted"),
            },
            "remove" if self.has("to") => {
                let sequences = self.number(1)..=self.after("to");
                let count = sequences.filter(|sequence| {
                    stream.apply(Change::Remove { sequence: *sequence, erase: false }) == Outcome::Removed(1)
                });
                return Some(count.count().to_string());
            }
            "remove" => Change::Remove { sequence: self.number(1), erase: false },
            "erase" => Change::Remove { sequence: self.number(1), erase: true },
            "purge" => Change::Purge {
                subject: Bytes::copy_from_slice(self.text().as_bytes()),
                below: self.after("below"),
                keep: self.after("keep"),
            },
            "compact" => Change::Compact { sequence: self.number(1) },
            "truncate" => Change::Truncate { sequence: self.number(1) },
            "sync" => {
                let (first, count) = self.text().split_once('+').unwrap();
                Change::SyncDeleted {
                    ranges: vec![DeleteRange { first: number(first), count: number(count) }],
                }
            }
            "expire" => return Some(self.expire(stream)),
            "configure" => {
                let compression = stream.ask(|ledger| Ok(ledger.config().compression));
                let config = StoreConfig { compression, ..settings(&self.words[1..]) };
                Change::Configure(Box::new(config))
            }
            _ => return None,
        };
        Some(told(stream.apply(change)))
    }

    fn store(&self, stream: &mut impl Stream) -> String {
        let times = self.words[2..].iter().find_map(|word| word.strip_prefix('x')).map_or(1, number);
        let size = self.words.get(2).and_then(|word| word.parse().ok()).unwrap_or(0);
        let mut outcome = Outcome::Stored(0);
        for time in 1..=times {
            let subject = self.text().replace('#', &time.to_string());
            let mut new = message(&subject, size, self.now);
            (new.ttl, new.rollup) = (self.after("ttl"), self.has("rollup"));
            new.checked = self.words[0] == "store";
            new.scheduling = match () {
                () if self.has("at") => Scheduling::Schedule { due: seconds(self.after("at") as i64) },
                () if self.has("scheduled") => Scheduling::Scheduled,
                () => Scheduling::None,
            };
            outcome = stream.apply(Change::Store(new));
        }
        told(outcome)
    }

    /// What a stream does that leads: it proposes what is due, and markers in the place of the last messages of subjects.
    fn expire(&self, stream: &mut impl Stream) -> String {
        let now = seconds(self.number(1) as i64);
        let mut due = stream.ask(|ledger| ledger.due(now, 1000));
        let mut answer = String::new();
        for sequence in due.last {
            let last = stream.load(sequence).unwrap();
            if is_delete_marker(&last.headers) {
                due.expired.push(sequence);
                continue;
            }
            let ttl = stream.ask(|ledger| Ok(ledger.config().subject_delete_marker_ttl));
            let marker = stream.apply(Change::Store(delete_marker(last.subject.clone(), ttl, now)));
            let Outcome::Stored(below) = marker else { panic!("{marker:?}") };
            stream.apply(Change::Purge { subject: last.subject, below, keep: 0 });
            let _ = write!(answer, " and {below} for {sequence}");
        }
        told(stream.apply(Change::Expire { sequences: due.expired })) + &answer
    }

    fn ask(&self, stream: &mut impl Stream) -> String {
        let third = || self.number(2);
        match self.words[0] {
            "load" => stream.load(self.number(1)).map_or("none".into(), |message| {
                let subject = message.subject.escape_ascii().to_string();
                let at = message.time.as_unix_nanos() / 1_000_000_000;
                let headers = message.headers.escape_ascii().to_string().replace("NATS/1.0", ", with ");
                format!("{subject} of {} bytes at {at}{headers}", message.payload.len())
            }),
            "next" => found(self.question(stream, |ledger, filter| ledger.next(filter, third()))),
            "previous" => found(self.question(stream, |ledger, filter| ledger.previous(filter, third()))),
            "last" => found(self.question(stream, |ledger, filter| ledger.previous(filter, u64::MAX - 1))),
            "pending" => {
                let last = self.has("last");
                let (total, through) =
                    self.question(stream, |ledger, filter| ledger.pending(filter, third(), last));
                format!("{total} through {through}")
            }
            "filtered" => {
                let state = self.question(stream, |ledger, filter| ledger.filtered_state(filter, third()));
                format!("{} from {} to {}", state.messages, state.first, state.last)
            }
            "states" => {
                let states = self.question(stream, Ledger::subject_states);
                let one = states.iter().map(|(name, state)| {
                    format!("{}={} {}..{}", name.escape_ascii(), state.messages, state.first, state.last)
                });
                one.collect::<Vec<_>>().join(" ")
            }
            "totals" => {
                let totals = self.question(stream, |ledger, filter| Ok(ledger.subject_totals(filter)));
                let one = totals.iter().map(|(name, count)| format!("{}={count}", name.escape_ascii()));
                one.collect::<Vec<_>>().join(" ")
            }
            "lasts" => {
                let (max, allow) = (self.after("max"), self.after("allow") as usize);
                let lasts = self.question(stream, |ledger, filter| ledger.last_sequences(filter, max, allow));
                lasts.map_or_else(|error| error.to_string(), |found| format!("{found:?}"))
            }
            "time" => {
                let time = seconds(self.number(1) as i64);
                stream.ask(|ledger| ledger.sequence_from_time(time)).to_string()
            }
            "subject" => {
                let sequence = self.number(1);
                let name = stream.ask(|ledger| Ok(ledger.subject_of(sequence)?.map(<[u8]>::to_vec)));
                name.map_or("none".into(), |name| name.escape_ascii().to_string())
            }
            "due" => {
                let now = seconds(self.number(1) as i64);
                let due = stream.ask(|ledger| ledger.due(now, 1000));
                let last = if due.last.is_empty() { String::new() } else { format!(" and {:?}", due.last) };
                format!("{:?}{last}", due.expired)
            }
            "schedules" => {
                let now = seconds(self.number(1) as i64);
                let due = stream.ask(|ledger| Ok(ledger.due_schedules(now, 1000)));
                let one = due.iter().map(|schedule| {
                    format!("{} at {}", schedule.sequence, schedule.due.as_unix_nanos() / 1_000_000_000)
                });
                let of = stream.ask(|ledger| Ok(ledger.schedules()));
                format!("{} of {of}", one.collect::<Vec<_>>().join(", "))
            }
            "times" => {
                let state = stream.ask(|ledger| ledger.state());
                let at = |time: Option<WallTime>| {
                    time.map_or("never".into(), |time| (time.as_unix_nanos() / 1_000_000_000).to_string())
                };
                format!("first at {}, last at {}", at(state.first_time), at(state.last_time))
            }
            "state" => String::new(),
            other => panic!("what is {other}?"),
        }
    }

    /// Puts a question about the filter that the command names.
    fn question<T>(
        &self,
        stream: &mut impl Stream,
        question: impl Fn(&mut Ledger, Filter<'_>) -> Lookup<T>,
    ) -> T {
        let text = self.text();
        let several = text.contains(',').then(|| list(text));
        let filter = match &several {
            Some(list) => Filter::Any(list),
            None if text == ">" => Filter::All,
            None => Filter::Subject(text.as_bytes()),
        };
        stream.ask(|ledger| question(ledger, filter))
    }
}

fn found(sequence: Option<u64>) -> String {
    sequence.map_or("none".to_owned(), |sequence| sequence.to_string())
}

fn told(outcome: Outcome) -> String {
    match outcome {
        Outcome::Stored(sequence) => sequence.to_string(),
        Outcome::Removed(count) => count.to_string(),
        Outcome::Refused(error) => error.to_string(),
    }
}

/// Settings from `name=value`.
fn settings(words: &[&str]) -> StoreConfig {
    let mut config = StoreConfig::default();
    for word in words {
        let (name, value) = word.split_once('=').unwrap();
        match name {
            "max_messages" => config.max_messages = number(value),
            "max_bytes" => config.max_bytes = number(value),
            "per_subject" => config.max_messages_per_subject = number(value),
            "max_age" => config.max_age = Duration::from_secs(number(value)),
            "markers" => config.subject_delete_marker_ttl = Duration::from_secs(number(value)),
            "ttl" => config.allow_message_ttl = value == "true",
            "discard" if value == "new" => config.discard = Discard::New,
            _ => panic!("what is {word}?"),
        }
    }
    config
}
