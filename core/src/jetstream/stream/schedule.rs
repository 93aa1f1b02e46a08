//! Messages that are schedules (ADR-51): what may be one, and what is published when one is due.
//!
//! The ledger says which schedules are due. What one makes is decided, stored and retained as if a client had published it, and
//! one that doesn't repeat is purged by what it makes, so that it is there or has been carried out, and not both. When one is due
//! next isn't written down: it is in the header of what was made, and is learnt from there after a start.
//!
//! Source: nats-server `server/scheduler.go`, and `server/stream.go`, `processJetStreamMsgWithBatch`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::api::error::ErrorKind;
use super::super::context::{Answer, Context, Messages};
use super::super::schedule::{Schedule, ScheduleError};
use super::conditions::{Conditions, time_to_live};
use super::expiry::{Look, instant_of};
use super::flight::{Flight, Storing};
use super::publish::{Incoming, Plan, Rollup, Stop, ask, known};
use super::{Settings, Stream};
use crate::planted::{self, Bug};
use crate::protocol::headers;
use crate::protocol::json::parse_time;
use crate::storage::ledger::{DueSchedule, Filter};
use crate::storage::{Message, Scheduling};
use crate::subject::{is_valid_publish_subject, subjects_collide};
use crate::time::{Duration, Instant, Now, WallTime};

/// How many schedules are carried out in one step.
const BATCH: usize = 64;

/// What a schedule makes, and couldn't be stored, is tried again after this long.
const RETRY: Duration = Duration::from_secs(30);

/// What `Nats-Schedule-Next` says where nothing comes next: the schedule goes.
const PURGE: &[u8] = b"purge";

/// What is under way of a stream's schedules.
#[derive(Debug)]
pub(super) struct Schedules {
    look: Look,
    /// Whether it was looked into what is there since before the start.
    began: bool,
    /// What schedules have made and isn't stored yet: its sequence, the schedule's, and when that was due.
    made: VecDeque<(u64, DueSchedule)>,
    /// What is to be due again: what it made isn't going to be stored.
    again: Vec<DueSchedule>,
    /// Subjects of schedules that are still to be purged, below a sequence: what they made is stored.
    over: Vec<(Bytes, u64)>,
}

impl Default for Schedules {
    fn default() -> Self {
        Schedules {
            look: Look::Now,
            began: false,
            made: VecDeque::new(),
            again: Vec::new(),
            over: Vec::new(),
        }
    }
}

impl Schedules {
    /// Returns when one is due.
    pub(super) fn due(&self) -> Option<Instant> {
        if let Look::At(at) = self.look { at } else { None }
    }

    /// Returns whether there may be one to be carried out now.
    pub(super) fn is_due(&self) -> bool {
        self.look == Look::Now
    }

    /// Looks again: the settings have changed.
    pub(super) fn look(&mut self) {
        self.look = Look::Now;
    }

    /// Notes that a message was stored: it may be due before all others.
    pub(super) fn note_stored(&mut self, storing: &Storing) {
        match storing.scheduling {
            Scheduling::None => {}
            Scheduling::Schedule { .. } => self.look = Look::Now,
            Scheduling::Scheduled => {
                while self.made.pop_front_if(|(sequence, _)| *sequence <= storing.sequence).is_some() {}
            }
        }
    }

    /// Notes that what would have had sequences behind `last` isn't going to be stored. `cut` is the first of what isn't
    /// going to be done, `before` the message that it belongs to.
    pub(super) fn take_back(&mut self, last: u64, cut: Option<&Flight>, before: Option<&Storing>) {
        while let Some((_, schedule)) = self.made.pop_back_if(|(sequence, _)| *sequence > last) {
            self.again.push(schedule);
        }
        // Without the purge it would be carried out again.
        if let (Some(Flight::Rollup { subject, .. }), Some(storing)) = (cut, before)
            && storing.scheduling == Scheduling::Scheduled
            && storing.subject != *subject
        {
            self.over.push((subject.clone(), storing.sequence));
        }
        self.look = Look::Now;
    }
}

/// What becomes of a schedule that is due.
enum Turn {
    /// It is carried out.
    Run,
    /// It was carried out before the start; it is due then.
    Wait(WallTime),
    /// It was carried out before the start, but not purged.
    Purge,
    /// It isn't one any more.
    Forget,
}

impl Stream {
    /// Checks what a published message asks of schedules, and plans it.
    pub(super) fn plan_schedule(
        &mut self,
        now: WallTime,
        messages: &mut impl Messages,
        plan: &mut Plan,
        conditions: &Conditions<'_>,
    ) -> Result<(), Stop> {
        match first_due(conditions, now) {
            Ok(None) => {}
            _ if !self.settings.store.allow_schedules => {
                return Err(ErrorKind::MessageSchedulesDisabled.into());
            }
            Err(ScheduleError::Pattern) => return Err(ErrorKind::MessageSchedulesPatternInvalid.into()),
            Err(ScheduleError::Zone) => return Err(ErrorKind::MessageSchedulesTimeZoneInvalid.into()),
            Ok(Some(due)) => {
                check_schedule(&self.settings, &plan.subject, conditions)?;
                if conditions.rollup.is_none_or(<[u8]>::is_empty) {
                    let mut block = plan.headers.to_vec();
                    headers::add(&mut block, b"Nats-Rollup", b"sub");
                    plan.headers = block.into();
                }
                plan.rollup = Some(Rollup::Subject);
                plan.scheduling = Scheduling::Schedule { due };
            }
        }
        self.plan_end(messages, plan, conditions)?;
        match there(conditions.source) {
            Some(_) => Err(ErrorKind::MessageSourceHeaderNotAllowed.into()),
            None => Ok(()),
        }
    }

    /// Plans the end of a schedule that a message says to take the place of.
    fn plan_end(
        &mut self,
        messages: &mut impl Messages,
        plan: &mut Plan,
        conditions: &Conditions<'_>,
    ) -> Result<(), Stop> {
        let scheduler = there(conditions.scheduler);
        let Some(next) = there(conditions.schedule_next) else {
            return match scheduler {
                Some(_) => Err(ErrorKind::MessageSchedulesSchedulerInvalid.into()),
                None => Ok(()),
            };
        };
        let valid = |subject: &&[u8]| *subject != plan.subject && is_valid_publish_subject(subject);
        let Some(scheduler) = scheduler.filter(valid).filter(|_| next == PURGE) else {
            return Err(ErrorKind::MessageSchedulesSchedulerInvalid.into());
        };
        if !self.settings.store.allow_schedules {
            return Err(ErrorKind::MessageSchedulesDisabled.into());
        }
        let (head, settings) = (&mut self.head, &self.settings);
        let last = known(ask(messages, |ledger| head.last_of(scheduler, ledger, settings))?)?;
        if last > 0 {
            if self.head.is_pending(last) {
                return Err(Stop::Flights);
            }
            let Answer::Ready(message) = messages.load(last) else { return Err(Stop::Disk) };
            if message.is_some_and(|message| there(Conditions::read(&message.headers).schedule).is_none()) {
                return Err(ErrorKind::MessageSchedulesSchedulerInvalid.into());
            }
        }
        self.plan_scheduled(plan, conditions);
        Ok(())
    }

    /// Plans what stands in the headers of what a schedule has made.
    pub(super) fn plan_scheduled(&self, plan: &mut Plan, conditions: &Conditions<'_>) {
        plan.scheduling = Scheduling::Scheduled;
        if conditions.schedule_next == Some(PURGE) && !planted::bug(Bug::JsScheduleNotEnded) {
            plan.ends = Bytes::copy_from_slice(conditions.scheduler.unwrap_or_default());
        }
    }

    /// Carries out what is due, a bounded step, and tells whether there is more to do at once.
    pub(super) fn run_schedules<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
    ) -> bool {
        match self.schedules.look {
            Look::At(Some(at)) if at <= context.now.instant => self.schedules.look = Look::Now,
            Look::Now => {}
            _ => return false,
        }
        if self.stalled || self.held {
            return false;
        }
        self.try_run_schedules(context, messages).unwrap_or(false)
    }

    fn try_run_schedules<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
    ) -> Result<bool, Stop> {
        let Now { wall, .. } = context.now;
        if !self.schedules.began {
            ask(messages, |ledger| {
                ledger.doubt_schedules();
                Ok(())
            })?;
            self.schedules.began = true;
        }
        for (subject, below) in std::mem::take(&mut self.schedules.over) {
            self.purge(None, subject, below, 0);
        }
        while let Some(schedule) = self.schedules.again.pop() {
            again(messages, schedule.sequence, schedule.due)?;
        }
        let due = ask(messages, |ledger| Ok(ledger.due_schedules(wall, BATCH)))?;
        for schedule in &due {
            self.run_schedule(context, messages, schedule)?;
        }
        if due.len() == BATCH {
            return Ok(true);
        }
        let next = ask(messages, |ledger| Ok(ledger.next_schedule()))?;
        self.schedules.look = Look::At(next.map(|next| instant_of(next, context.now)));
        Ok(false)
    }

    fn run_schedule<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
        due: &DueSchedule,
    ) -> Result<(), Stop> {
        let now = context.now.wall;
        let Answer::Ready(message) = messages.load(due.sequence) else { return Err(Stop::Disk) };
        let found = message.as_ref().and_then(|message| Some((message, Carried::read(message)?)));
        let Some((message, carried)) = found else {
            // It can't be read, or says nothing any more: it isn't looked at again.
            return forget(messages, due.sequence);
        };
        let turn = match due.recovered && !planted::bug(Bug::JsScheduleRunsAgain) {
            true => resume(messages, due, message, &carried, now)?,
            false => Turn::Run,
        };
        match turn {
            Turn::Run => {}
            Turn::Wait(next) => return again(messages, due.sequence, next),
            Turn::Forget => return forget(messages, due.sequence),
            Turn::Purge => {
                self.purge(None, message.subject.clone(), due.sequence + 1, 0);
                return forget(messages, due.sequence);
            }
        }
        let next = carried.schedule.next(due.due, now).filter(|_| carried.schedule.repeats());
        let made = carried.make(messages, message, next)?;
        match self.decide(context, messages, &made, true) {
            Ok(plan) => {
                self.carry_out(now, plan, Bytes::new(), made.payload);
                self.schedules.made.push_back((self.head.last(), *due));
                // One that is over is purged by what it made.
                again(messages, due.sequence, next.unwrap_or(WallTime::from_unix_nanos(i64::MAX)))
            }
            Err(Stop::Refused(_) | Stop::Duplicate(_)) => again(messages, due.sequence, now + RETRY),
            Err(stop) => Err(stop),
        }
    }
}

/// Says when a schedule is due next.
fn again(messages: &mut impl Messages, sequence: u64, due: WallTime) -> Result<(), Stop> {
    ask(messages, |ledger| {
        ledger.schedule_again(sequence, due);
        Ok(())
    })
}

/// Says that a message is no schedule any more.
fn forget(messages: &mut impl Messages, sequence: u64) -> Result<(), Stop> {
    ask(messages, |ledger| {
        ledger.unschedule(sequence);
        Ok(())
    })
}

fn there(text: Option<&[u8]>) -> Option<&[u8]> {
    text.filter(|text| !text.is_empty())
}

/// Returns when what a message asks for is due for the first time; `None` if it asks for nothing.
fn first_due(conditions: &Conditions<'_>, made: WallTime) -> Result<Option<WallTime>, ScheduleError> {
    let zone = conditions.schedule_time_zone;
    let Some(pattern) = there(conditions.schedule) else {
        return zone.map_or(Ok(None), |zone| Schedule::check_zone(zone).map(|()| None));
    };
    let due = Schedule::parse(pattern, zone)?.next(made, made);
    due.map(Some).ok_or(ScheduleError::Pattern)
}

/// Checks what a schedule says beside when it is due.
fn check_schedule(settings: &Settings, subject: &[u8], conditions: &Conditions<'_>) -> Result<(), Stop> {
    let ttl = there(conditions.schedule_ttl);
    if ttl.is_some_and(|ttl| time_to_live(ttl).is_none()) {
        return Err(ErrorKind::MessageSchedulesTtlInvalid.into());
    }
    if there(conditions.schedule_rollup).is_some_and(|rollup| rollup != b"sub") {
        return Err(ErrorKind::MessageSchedulesRollupInvalid.into());
    }
    if ttl.is_some() && !settings.allow_message_ttl {
        return Err(ErrorKind::MessageTtlDisabled.into());
    }
    let (target, source) = (there(conditions.schedule_target), there(conditions.schedule_source));
    let valid = |other: &&[u8]| *other != subject && is_valid_publish_subject(other);
    let own = |other: &[u8]| settings.subjects.iter().any(|own| subjects_collide(own.as_bytes(), other));
    let target = target.filter(valid).ok_or(ErrorKind::MessageSchedulesTargetInvalid)?;
    if source.is_some_and(|source| source == target || !valid(&source)) {
        return Err(ErrorKind::MessageSchedulesSourceInvalid.into());
    }
    if !own(target) {
        return Err(ErrorKind::MessageSchedulesTargetInvalid.into());
    }
    if source.is_some_and(|source| !own(source)) {
        return Err(ErrorKind::MessageSchedulesSourceInvalid.into());
    }
    match there(conditions.rollup) {
        Some(rollup) if !rollup.eq_ignore_ascii_case(b"sub") => {
            Err(ErrorKind::MessageSchedulesRollupInvalid.into())
        }
        _ => Ok(()),
    }
}

/// Returns what a restored message is to the schedules of its stream.
pub(in crate::jetstream) fn scheduling_of(block: &[u8], time: WallTime) -> Scheduling {
    let conditions = Conditions::read(block);
    match first_due(&conditions, time) {
        Ok(Some(due)) => Scheduling::Schedule { due },
        _ if there(conditions.scheduler).is_some() => Scheduling::Scheduled,
        _ => Scheduling::None,
    }
}

/// What the headers of a schedule say.
struct Carried<'a> {
    schedule: Schedule,
    target: &'a [u8],
    source: Option<&'a [u8]>,
    ttl: Option<&'a [u8]>,
    rollup: Option<&'a [u8]>,
}

impl<'a> Carried<'a> {
    /// Reads them; `None` if they make no sense, which was looked at before it was stored.
    fn read(message: &'a Message) -> Option<Self> {
        let conditions = Conditions::read(&message.headers);
        Some(Carried {
            schedule: Schedule::parse(there(conditions.schedule)?, conditions.schedule_time_zone).ok()?,
            target: there(conditions.schedule_target)?,
            source: there(conditions.schedule_source),
            ttl: there(conditions.schedule_ttl),
            rollup: there(conditions.schedule_rollup),
        })
    }

    /// Makes what is to be published: what the schedule holds, or the last message of the subject that it samples.
    fn make(
        &self,
        messages: &mut impl Messages,
        message: &Message,
        next: Option<WallTime>,
    ) -> Result<Incoming, Stop> {
        let sampled = match self.source {
            Some(source) => load_last(messages, source)?,
            None => None,
        };
        let from = sampled.as_ref().unwrap_or(message);
        let mut block = from.headers.to_vec();
        // What would make of it another schedule, keep it from being stored, or was meant for the one that is sampled.
        for prefix in [&b"Nats-Schedule"[..], b"Nats-Expected-"] {
            headers::remove_prefixed(&mut block, prefix);
        }
        for key in [&b"Nats-Msg-Id"[..], b"Nats-TTL", b"Nats-Rollup"] {
            headers::remove(&mut block, key);
        }
        headers::add(&mut block, b"Nats-Scheduler", &message.subject);
        let next = next.map_or(PURGE.to_vec(), |next| self.schedule.show(next).into_bytes());
        headers::add(&mut block, b"Nats-Schedule-Next", &next);
        for (key, value) in [(&b"Nats-TTL"[..], self.ttl), (b"Nats-Rollup", self.rollup)] {
            value.into_iter().for_each(|value| headers::add(&mut block, key, value));
        }
        let subject = Bytes::copy_from_slice(self.target);
        Ok(Incoming { subject, reply: Bytes::new(), headers: block.into(), payload: from.payload.clone() })
    }
}

/// Returns the last message of a subject that is stored.
fn load_last(messages: &mut impl Messages, subject: &[u8]) -> Result<Option<Message>, Stop> {
    let Some(last) = ask(messages, |ledger| ledger.last_of_subject(subject))? else { return Ok(None) };
    match messages.load(last) {
        Answer::Ready(message) => Ok(message),
        Answer::Wait => Err(Stop::Disk),
    }
}

/// Finds out what a schedule has come to that is due by what its record says, after a start: it may have been carried out since
/// it was stored, and something may have taken its place.
fn resume(
    messages: &mut impl Messages,
    due: &DueSchedule,
    message: &Message,
    carried: &Carried<'_>,
    now: WallTime,
) -> Result<Turn, Stop> {
    let subject = Filter::Subject(&message.subject);
    let mut from = due.sequence + 1;
    while let Some(other) = ask(messages, |ledger| ledger.next(subject, from))? {
        let Answer::Ready(found) = messages.load(other) else { return Err(Stop::Disk) };
        if found.is_some_and(|found| there(Conditions::read(&found.headers).scheduler).is_none()) {
            return Ok(Turn::Forget);
        }
        from = other + 1;
    }
    let made = load_last(messages, carried.target)?.filter(|made| made.sequence > due.sequence);
    if let Some(made) = made {
        let conditions = Conditions::read(&made.headers);
        let own = conditions.scheduler == Some(&message.subject);
        match there(conditions.schedule_next).filter(|_| own) {
            Some(PURGE) => return Ok(Turn::Purge),
            Some(next) => {
                if let Ok(next) = parse_time(next) {
                    return Ok(if next <= now { Turn::Run } else { Turn::Wait(next) });
                }
            }
            None => {}
        }
    }
    if !carried.schedule.repeats() {
        return Ok(Turn::Run);
    }
    // Whatever it made since is gone. It was due for the last time before the stream's last message, as that is what it made, or
    // was stored when it should have been.
    let until = ask(messages, |ledger| Ok(ledger.last_time()))?.unwrap_or(message.time);
    let last = carried.schedule.latest(message.time, until);
    Ok(match carried.schedule.next(last, last) {
        Some(next) if next > now => Turn::Wait(next),
        _ => Turn::Run,
    })
}
