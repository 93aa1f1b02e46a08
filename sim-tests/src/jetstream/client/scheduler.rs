//! A client that schedules messages: at a time, every second, and some that it calls off. It is held against what the server
//! says of itself, as its clock is none of the client's: what was acknowledged is carried out once, and not before its time.

use std::collections::BTreeMap;

use natrix_core::protocol::json::parse_time;
use natrix_core::time::WallTime;
use natrix_runtime_sim::queue::SimTime;

use super::{Desk, Message, Mode};
use crate::jetstream::report::Rule;
use crate::jetstream::text::{error_code, header, number};

/// The most schedules that one client makes.
const MOST: usize = 24;

/// What became of a schedule that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody knows whether it is there.
    Unsure,
    /// It was acknowledged.
    There,
    /// It may have been called off.
    CallingOff,
    /// That it is called off was acknowledged.
    CalledOff,
}

/// A schedule.
#[derive(Clone, Copy, Debug)]
struct Scheduled {
    /// When it is due, by the server's clock; `None` for every second.
    due: Option<WallTime>,
    state: State,
}

/// What was asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Create,
    /// The stream in numbers.
    Info,
    Schedule(usize),
    CallOff(usize),
    /// The first message of a schedule's target from a sequence on.
    Made(usize, u64),
}

/// The script.
#[derive(Debug, Default)]
pub(crate) struct Scheduler {
    /// The stream's name is that of the client.
    created: bool,
    schedules: Vec<Scheduled>,
    /// What the server's clock showed last.
    wall: Option<WallTime>,
    pending: Option<(u64, Asked, SimTime)>,
    /// Targets that are still to be read, from which sequence on; what was due next by the message before.
    unread: BTreeMap<usize, (u64, Option<WallTime>)>,
    /// Whether everything was looked at since clients have come to an end.
    looked: bool,
}

impl Scheduler {
    fn subject(desk: &Desk<'_>, kind: &str, number: usize) -> String {
        format!("z.{}.{kind}.{number}", desk.conn.id)
    }

    pub(super) fn act(&mut self, desk: &mut Desk<'_>) {
        if let Some((_, asked, sent)) = self.pending {
            return desk.check_answered(sent, format_args!("{asked:?}"));
        }
        let asked = match desk.mode {
            _ if !self.created => Asked::Create,
            Mode::Audit => return,
            Mode::Work if self.wall.is_none() || desk.rng.chance(1, 4) => Asked::Info,
            Mode::Work if self.schedules.len() < MOST && desk.rng.chance(1, 2) => self.schedule(desk),
            Mode::Work => match self.pick_to_call_off(desk) {
                Some(number) => Asked::CallOff(number),
                None => return,
            },
            Mode::Settle | Mode::Drain if self.looked => return,
            Mode::Settle | Mode::Drain => match self.unread.first_key_value() {
                Some((number, (from, _))) => Asked::Made(*number, *from),
                None => Asked::Info,
            },
        };
        if desk.mode == Mode::Work {
            self.looked = false;
        }
        let number = self.ask(desk, asked);
        self.pending = Some((number, asked, desk.now()));
    }

    fn schedule(&mut self, desk: &mut Desk<'_>) -> Asked {
        let wall = self.wall.unwrap_or_default().as_unix_nanos();
        // Some lie in the past.
        let ahead = desk.rng.below(3_000_000_000) as i64 - 500_000_000;
        let due = (!desk.rng.chance(1, 6)).then(|| WallTime::from_unix_nanos(wall + ahead));
        self.schedules.push(Scheduled { due, state: State::Unsure });
        Asked::Schedule(self.schedules.len() - 1)
    }

    fn pick_to_call_off(&mut self, desk: &mut Desk<'_>) -> Option<usize> {
        let number = desk.rng.below(self.schedules.len().max(1) as u64) as usize;
        let schedule = self.schedules.get_mut(number)?;
        if schedule.state != State::There || schedule.due.is_none() || !desk.rng.chance(1, 4) {
            return None;
        }
        schedule.state = State::CallingOff;
        Some(number)
    }

    fn ask(&self, desk: &mut Desk<'_>, asked: Asked) -> u64 {
        let stream = format!("Z{}", desk.conn.id);
        match asked {
            Asked::Create => {
                let config = format!(
                    "{{\"name\":\"{stream}\",\"subjects\":[\"z.{}.>\"],\"allow_msg_schedules\":true,\"allow_direct\":true}}",
                    desk.conn.id
                );
                desk.conn.request(&format!("$JS.API.STREAM.CREATE.{stream}"), "", &config)
            }
            Asked::Info => {
                let about = "{\"subjects_filter\":\">\"}";
                desk.conn.request(&format!("$JS.API.STREAM.INFO.{stream}"), "", about)
            }
            Asked::Schedule(number) => {
                let pattern =
                    self.schedules[number].due.map_or("@every 1s".to_owned(), |due| format!("@at {due}"));
                let target = Self::subject(desk, "out", number);
                let headers = format!("Nats-Schedule: {pattern}\r\nNats-Schedule-Target: {target}\r\n");
                let subject = Self::subject(desk, "at", number);
                desk.conn.request(&subject, &headers, &number.to_string())
            }
            Asked::CallOff(number) => {
                let scheduler = Self::subject(desk, "at", number);
                let headers = format!("Nats-Schedule-Next: purge\r\nNats-Scheduler: {scheduler}\r\n");
                let subject = Self::subject(desk, "off", number);
                desk.conn.request(&subject, &headers, "")
            }
            Asked::Made(number, from) => {
                let target = Self::subject(desk, "out", number);
                let about = format!("{{\"seq\":{from},\"next_by_subj\":\"{target}\"}}");
                desk.conn.request(&format!("$JS.API.DIRECT.GET.{stream}"), "", &about)
            }
        }
    }

    pub(super) fn hear(&mut self, desk: &mut Desk<'_>, message: Message<'_>) {
        let answer = desk.conn.answered(message.subject);
        let Some((_, asked, _)) = self.pending.take_if(|(number, ..)| Some(*number) == answer) else {
            let text = format!("client {} hears what it didn't ask: {}", desk.conn.id, message.text());
            return desk.oracle.violate(Rule::Content, text);
        };
        if message.status().is_some_and(|status| status != 404) {
            return;
        }
        let json = message.text();
        let refused = error_code(&json).is_some();
        match asked {
            Asked::Create => self.created = !refused,
            Asked::Info if !refused => self.told(desk, &json),
            Asked::Info => {}
            Asked::Schedule(number) if !refused => {
                desk.oracle.tally.hit("scheduled");
                self.schedules[number].state = State::There;
            }
            Asked::CallOff(number) if !refused => {
                desk.oracle.tally.hit("called-off");
                self.schedules[number].state = State::CalledOff;
            }
            // Refused for a reason that goes away; whether it is stored is not known.
            Asked::Schedule(_) | Asked::CallOff(_) => {}
            Asked::Made(number, _) => self.made(desk, number, message),
        }
    }

    /// The stream in numbers: what was made of each schedule, and which are left.
    fn told(&mut self, desk: &mut Desk<'_>, json: &str) {
        let wall = json.rsplit_once("\"ts\":\"").and_then(|(_, rest)| rest.split_once('"'));
        self.wall = wall.and_then(|(text, _)| parse_time(text.as_bytes()).ok()).or(self.wall);
        let Some(wall) = self.wall else { return };
        let mut waits = false;
        for (at, schedule) in self.schedules.iter().enumerate() {
            let [made, held, off] =
                ["out", "at", "off"].map(|kind| number(json, &Self::subject(desk, kind, at)).unwrap_or(0));
            let Some(due) = schedule.due else { continue };
            let known = format!("schedule {at} of client {}, {schedule:?} at {wall}", desk.conn.id);
            if made > 1 || (made == 1 && held > 0 && desk.mode != Mode::Work) {
                desk.oracle.violate(Rule::Dedup, format!("{known}: {made} made, {held} held"));
            }
            if made == 1 && wall < due {
                desk.oracle.violate(Rule::Order, format!("{known}: it was carried out too early"));
            }
            let gone = match schedule.state {
                State::There => made == 0 && held == 0,
                State::CalledOff => held > 0 || off != 1,
                State::Unsure | State::CallingOff => false,
            };
            if gone {
                desk.oracle.violate(Rule::Lost, format!("{known}: {made} made, {held} held"));
            }
            waits |= held > 0;
        }
        if desk.mode != Mode::Work && !waits {
            desk.oracle.tally.hit("all-carried-out");
            let repeating = self.schedules.iter().enumerate().filter(|(_, schedule)| schedule.due.is_none());
            let unread: BTreeMap<_, _> = repeating.map(|(number, _)| (number, (1, None))).collect();
            self.looked = unread.is_empty();
            self.unread = unread;
        }
    }

    /// What a schedule that repeats has made: each not before the one before said.
    fn made(&mut self, desk: &mut Desk<'_>, number: usize, message: Message<'_>) {
        if message.status() == Some(404) {
            self.unread.remove(&number);
            self.looked = self.unread.is_empty();
            return;
        }
        let time = |name| header(message.headers, name).and_then(|text| parse_time(text.as_bytes()).ok());
        let sequence = header(message.headers, "Nats-Sequence").and_then(|text| text.parse::<u64>().ok());
        let (Some(stored), Some(next), Some(sequence)) =
            (time("Nats-Time-Stamp"), time("Nats-Schedule-Next"), sequence)
        else {
            let text = format!("what a schedule made: {:?}", String::from_utf8_lossy(message.headers));
            return desk.oracle.violate(Rule::Content, text);
        };
        desk.oracle.tally.hit("made-again");
        let before = self.unread.insert(number, (sequence + 1, Some(next))).and_then(|(_, before)| before);
        if before.is_some_and(|before| stored < before || next <= before) {
            let text = format!(
                "schedule {number} of client {}: {sequence} at {stored}, due at {before:?}, next at {next}",
                desk.conn.id
            );
            desk.oracle.violate(Rule::Dedup, text);
        }
    }

    pub(super) fn lost(&mut self) {
        self.pending = None;
    }

    /// Another look is needed after what comes now.
    pub(crate) fn look_again(&mut self) {
        self.looked = false;
    }

    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some() || !self.looked
    }
}
