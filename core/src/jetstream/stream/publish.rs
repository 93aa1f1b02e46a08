//! One message that was published to the stream: may it be stored, and as what.
//!
//! The conditions are asked in the reference's order, so that of several that don't hold the same one is named. Each is
//! asked of the appended head; what can't be known of it yet stops the message, and all behind it, until it can.
//!
//! Source: nats-server `server/stream.go`, `processJetStreamMsgWithBatch`.

use bytes::Bytes;

use super::super::api::error::{ApiError, ErrorKind};
use super::super::context::{Answer, Context, Messages};
use super::conditions::{self, Conditions};
use super::flight::{Flight, Republishing, Storing};
use super::head::Known;
use super::{LastId, Stream};
use crate::planted::{self, Bug};
use crate::protocol::headers;
use crate::storage::change::{Change, NewMessage};
use crate::storage::ledger::{Filter, Ledger};
use crate::storage::{Discard, LimitError, Lookup, Retention, Scheduling, StorageKind};
use crate::subject::is_valid_publish_subject;
use crate::time::WallTime;

/// The largest message that the reference stores in files, as it counts.
///
/// Source: nats-server `server/filestore.go`, `isFileStoreMsgTooLarge`.
const LARGEST_IN_FILE: u64 = 32 << 20;

/// A message that was published to one of the stream's subjects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    /// What it was published to.
    pub subject: Bytes,
    /// Where the acknowledgement goes; empty for nowhere.
    pub reply: Bytes,
    /// Its header block; empty for none.
    pub headers: Bytes,
    /// Its payload.
    pub payload: Bytes,
}

impl Incoming {
    /// Returns how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        self.subject.len() + self.reply.len() + self.headers.len() + self.payload.len()
    }
}

/// Why a message isn't stored, or not now.
#[derive(Debug)]
pub(super) enum Stop {
    /// Never.
    Refused(ApiError),
    /// It has been: at this sequence.
    Duplicate(u64),
    /// Not before the disk has answered, or dedup has recovered.
    Disk,
    /// Not before what is in flight is applied.
    Flights,
}

impl From<ErrorKind> for Stop {
    fn from(kind: ErrorKind) -> Self {
        Stop::Refused(kind.error())
    }
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Stop::Refused(error)
    }
}

/// Which messages a message replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rollup {
    Subject,
    All,
}

/// What is to be done with a message that may be stored.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) subject: Bytes,
    pub(super) headers: Bytes,
    /// The message id; empty for none.
    pub(super) id: Bytes,
    pub(super) rollup: Option<Rollup>,
    pub(super) unwanted: bool,
    /// In seconds.
    pub(super) ttl: u64,
    pub(super) replaces: bool,
    pub(super) scheduling: Scheduling,
    /// The subject of a schedule that ends with it; empty for none.
    pub(super) ends: Bytes,
    /// Where it is published again, and what its subject's last sequence was before.
    pub(super) republish: Option<(Bytes, u64)>,
}

/// Takes a status off the headers of a message: it would be taken for one when the message is delivered.
pub(super) fn forget_status(message: &mut Incoming) {
    if !message.headers.is_empty() && !message.headers.starts_with(headers::FIRST_LINE) {
        let mut block = message.headers.to_vec();
        headers::remove_status(&mut block);
        message.headers = block.into();
    }
}

/// Puts a question to the ledger.
pub(super) fn ask<T>(
    messages: &mut impl Messages,
    question: impl FnMut(&mut Ledger) -> Lookup<T>,
) -> Result<T, Stop> {
    match messages.ask(question) {
        Answer::Ready(answer) => Ok(answer),
        Answer::Wait => Err(Stop::Disk),
    }
}

pub(super) fn known<T>(answer: Known<T>) -> Result<T, Stop> {
    match answer {
        Known::Exactly(value) => Ok(value),
        Known::Later => Err(Stop::Flights),
    }
}

impl Stream {
    /// Decides about a message, and does it; a message that has to wait is returned.
    pub(super) fn try_publish<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
        message: Incoming,
    ) -> Option<Incoming> {
        match self.decide(context, messages, &message, false) {
            Ok(plan) => {
                let mut reply = message.reply;
                let early = planted::bug(Bug::JsAckBeforeCommit).then(|| std::mem::take(&mut reply));
                self.carry_out(context.now.wall, plan, reply, message.payload);
                if let Some(reply) = early {
                    self.answer_sequence(context.out, reply, self.head.last());
                }
            }
            Err(Stop::Refused(error)) => self.answer_error(context.out, message.reply, &error),
            Err(Stop::Duplicate(sequence)) => self.answer_duplicate(context.out, message.reply, sequence),
            Err(Stop::Disk | Stop::Flights) => return Some(message),
        }
        None
    }

    /// Decides what is to be done with a message, which a schedule has made or a client has published.
    pub(super) fn decide<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
        message: &Incoming,
        scheduled: bool,
    ) -> Result<Plan, Stop> {
        // The head counts what is in flight on top of what the store has: nothing may be in both.
        if cfg!(debug_assertions)
            && let Answer::Ready(stored) = messages.ask(|ledger| Ok(ledger.last_sequence()))
        {
            assert_eq!(stored, self.settled, "what the store has applied was told");
        }
        let subject = match &self.settings.transform {
            // A subject that the transform isn't for stays.
            Some(transform) => {
                transform.apply(&message.subject, context.rng).map_or(message.subject.clone(), Bytes::from)
            }
            None => message.subject.clone(),
        };
        let mut plan = Plan { subject, headers: message.headers.clone(), ..Plan::default() };
        if self.settings.kind == StorageKind::File && self.size(&plan, message) > LARGEST_IN_FILE {
            return Err(ErrorKind::StreamStoreFailed.with(LimitError::TooLarge).into());
        }
        if self.settings.sealed {
            return Err(ErrorKind::StreamSealed.into());
        }
        if message.reply.ends_with(b".$FI") {
            return Err(ErrorKind::BatchPublishDisabled.into());
        }
        // The block outlives the plan that is made of it.
        let block = message.headers.clone();
        let conditions = Conditions::read(&block);
        if !block.is_empty() {
            self.check_features(&conditions, scheduled)?;
            self.check_sequences(messages, &plan.subject, &conditions)?;
            if scheduled {
                self.plan_scheduled(&mut plan, &conditions);
            } else {
                self.plan_schedule(context.now.wall, messages, &mut plan, &conditions)?;
            }
            self.check_ids(context.now.wall, messages, &conditions)?;
            plan.id = conditions.message_id.map_or(Bytes::new(), |id| block.slice_ref(id));
            plan.rollup =
                plan.rollup.map_or_else(|| self.rollup(&conditions), |implied| Ok(Some(implied)))?;
            if conditions.request_info.is_some() {
                plan.headers = without(&plan.headers, b"Nats-Request-Info");
            }
        }
        self.check_size(&plan, message)?;
        let interest = self.settings.store.retention == Retention::Interest;
        if interest && self.held {
            return Err(Stop::Disk);
        }
        if interest && !self.retention.wants(&plan.subject) {
            plan.unwanted = true;
            return Ok(plan);
        }
        self.plan_republishing(context, messages, &mut plan)?;
        if self.budget.account_left.saturating_sub(self.head.added_bytes()) < self.size(&plan, message) {
            // What is in flight may be less than it seems.
            let surely = self.head.is_empty() || self.budget.account_left < self.size(&plan, message);
            return Err(if surely { ErrorKind::AccountResourcesExceeded.into() } else { Stop::Flights });
        }
        if let Some(ttl) = conditions.ttl.filter(|ttl| !ttl.is_empty()) {
            plan.ttl = conditions::time_to_live(ttl).ok_or(ErrorKind::MessageTtlInvalid)?;
            self.stretch_ttl(&mut plan);
        }
        plan.replaces = self.check_limits(messages, &plan, message)?;
        Ok(plan)
    }

    fn size(&self, plan: &Plan, message: &Incoming) -> u64 {
        self.settings.kind.message_size(plan.subject.len(), plan.headers.len(), message.payload.len())
    }

    /// What belongs to features of later versions is refused by name; a time to live where there may be none is, too.
    fn check_features(&self, conditions: &Conditions<'_>, scheduled: bool) -> Result<(), Stop> {
        if conditions.batch.is_some_and(|id| !id.is_empty()) {
            return Err(ErrorKind::AtomicPublishDisabled.into());
        }
        if let Some(increment) = conditions.increment.filter(|text| !text.is_empty()) {
            return Err(match is_integer(increment) {
                true => ErrorKind::MessageIncrementDisabled.into(),
                false => ErrorKind::MessageIncrementInvalid.into(),
            });
        }
        let expected = conditions.stream.filter(|name| !name.is_empty());
        if expected.is_some_and(|name| name != self.settings.name) {
            return Err(ErrorKind::StreamNotMatch.into());
        }
        let ttl = conditions.ttl.and_then(conditions::time_to_live).filter(|ttl| *ttl > 0);
        if ttl.is_some() && !self.settings.allow_message_ttl && !scheduled {
            return Err(ErrorKind::MessageTtlDisabled.into());
        }
        Ok(())
    }

    fn check_sequences(
        &mut self,
        messages: &mut impl Messages,
        subject: &[u8],
        conditions: &Conditions<'_>,
    ) -> Result<(), Stop> {
        let filter = conditions.last_subject.filter(|subject| !subject.is_empty());
        let there = |text: &&[u8]| !text.is_empty();
        if planted::bug(Bug::JsExpectedUnchecked) && !self.head.is_empty() {
            return Ok(());
        }
        if let Some(expected) = conditions.last_subject_sequence.filter(there) {
            let (head, settings) = (&mut self.head, &self.settings);
            let filter = filter.unwrap_or(subject);
            let last = known(ask(messages, |ledger| head.last_of(filter, ledger, settings))?)?;
            if last != conditions::sequence(expected) {
                return Err(ErrorKind::StreamWrongLastSequence.with(last).into());
            }
        } else if filter.is_some() {
            return Err(ErrorKind::StreamExpectedLastSequencePerSubjectInvalid.into());
        }
        if let Some(expected) = conditions.last_sequence.filter(there) {
            let last = self.head.last();
            if last != conditions::sequence(expected) {
                return Err(ErrorKind::StreamWrongLastSequence.with(last).into());
            }
        }
        Ok(())
    }

    fn check_ids(
        &mut self,
        now: WallTime,
        messages: &mut impl Messages,
        conditions: &Conditions<'_>,
    ) -> Result<(), Stop> {
        if let Some(id) = conditions.message_id.filter(|id| !id.is_empty()) {
            if self.recovering.is_some() {
                return Err(Stop::Disk);
            }
            let looks = !planted::bug(Bug::JsDedupIgnoresFlight) || self.head.is_empty();
            if let Some(sequence) = self.dedup.find(id, now, self.settings.duplicate_window).filter(|_| looks)
            {
                return Err(Stop::Duplicate(sequence));
            }
        }
        let Some(expected) = conditions.last_message_id.filter(|id| !id.is_empty()) else { return Ok(()) };
        self.learn_last_id(messages)?;
        let LastId::Is(last) = &self.last_id else { return Err(Stop::Disk) };
        if *last != expected {
            let last = String::from_utf8_lossy(last);
            return Err(ErrorKind::StreamWrongLastMessageId.with(last).into());
        }
        Ok(())
    }

    /// Finds out the id of the last message, which isn't known after a start.
    fn learn_last_id(&mut self, messages: &mut impl Messages) -> Result<(), Stop> {
        if !matches!(self.last_id, LastId::Unknown) {
            return Ok(());
        }
        if !self.head.is_empty() {
            return Err(Stop::Flights);
        }
        let Answer::Ready(message) = messages.load(self.head.last()) else { return Err(Stop::Disk) };
        let id = message.as_ref().and_then(|message| headers::get(&message.headers, b"Nats-Msg-Id"));
        self.last_id = LastId::Is(id.unwrap_or_default().to_vec());
        Ok(())
    }

    fn rollup(&self, conditions: &Conditions<'_>) -> Result<Option<Rollup>, Stop> {
        let Some(rollup) = conditions.rollup.filter(|rollup| !rollup.is_empty()) else { return Ok(None) };
        if !self.settings.allow_rollup {
            return Err(ErrorKind::StreamRollupFailed.with("rollup not permitted").into());
        }
        match &*rollup.to_ascii_lowercase() {
            b"sub" => Ok(Some(Rollup::Subject)),
            b"all" => Ok(Some(Rollup::All)),
            other => {
                let other = crate::protocol::quote::quote(other);
                Err(ErrorKind::StreamRollupFailed.with(format!("rollup value invalid: {other}")).into())
            }
        }
    }

    fn check_size(&self, plan: &Plan, message: &Incoming) -> Result<(), Stop> {
        let size = plan.headers.len() + message.payload.len();
        if self.settings.max_message_size.is_some_and(|most| size > most) {
            return Err(ErrorKind::StreamMessageExceedsMaximum.into());
        }
        if plan.headers.len() > usize::from(u16::MAX) {
            return Err(ErrorKind::StreamHeaderExceedsMaximum.into());
        }
        if self.budget.server_exceeded {
            return Err(ErrorKind::InsufficientResources.into());
        }
        Ok(())
    }

    fn plan_republishing<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
        plan: &mut Plan,
    ) -> Result<(), Stop> {
        let Some(republish) = &self.settings.republish else { return Ok(()) };
        let to = match &republish.transform {
            Some(transform) => transform.apply(&plan.subject, context.rng).unwrap_or_default().into(),
            None => plan.subject.clone(),
        };
        if to.is_empty() || !is_valid_publish_subject(&to) {
            return Ok(());
        }
        let (head, settings, subject) = (&mut self.head, &self.settings, &plan.subject);
        let last = known(ask(messages, |ledger| head.last_of(subject, ledger, settings))?)?;
        plan.republish = Some((to, last));
        Ok(())
    }

    /// A message doesn't live shorter than a delete marker of its subject would, or the marker could go unseen.
    fn stretch_ttl(&self, plan: &mut Plan) {
        let least = self.settings.store.subject_delete_marker_ttl.as_secs();
        if plan.ttl > 0 && plan.ttl < least && self.settings.store.max_messages_per_subject != 1 {
            plan.ttl = least;
            let mut block = plan.headers.to_vec();
            headers::remove(&mut block, b"Nats-TTL");
            headers::add(&mut block, b"Nats-TTL", itoa::Buffer::new().format(least).as_bytes());
            plan.headers = block.into();
        }
    }

    /// Tells whether the message pushes out another of its subject; that there is room for it is known then.
    fn check_limits(
        &mut self,
        messages: &mut impl Messages,
        plan: &Plan,
        message: &Incoming,
    ) -> Result<bool, Stop> {
        if self.settings.store.discard != Discard::New {
            return Ok(false);
        }
        let size = self.size(plan, message);
        let (head, settings) = (&mut self.head, &self.settings);
        let (store, subject) = (&settings.store, &plan.subject);
        let rollup = plan.rollup.is_some();
        if head.is_empty() {
            let most = store.max_messages_per_subject;
            let answer = ask(messages, |ledger| {
                let replaces = settings.counts_subjects() && ledger.total(Filter::Subject(subject)) >= most;
                Ok(ledger.check(subject, size, rollup)?.map(|()| replaces))
            })?;
            return answer.map_err(|error| ErrorKind::StreamStoreFailed.with(error).into());
        }
        let refused = |exact: bool, error: LimitError| match exact {
            true => Stop::Refused(ErrorKind::StreamStoreFailed.with(error)),
            false => Stop::Flights,
        };
        let mut replaces = false;
        if settings.counts_subjects() {
            let count = ask(messages, |ledger| Ok(head.count_of(subject, ledger, store)))?;
            replaces = count.at_most >= store.max_messages_per_subject;
            if replaces && !count.exact {
                return Err(Stop::Flights);
            }
        }
        if replaces && store.discard_new_per_subject && !rollup {
            return Err(refused(true, LimitError::MessagesPerSubject));
        }
        let (there, bytes) = ask(messages, |ledger| Ok((head.messages(ledger), head.bytes(ledger))))?;
        if store.max_messages > 0 && there >= store.max_messages && !replaces {
            return Err(refused(head.knows_messages(), LimitError::Messages));
        }
        if store.max_bytes > 0 && bytes.saturating_add(size) > store.max_bytes {
            // What the message pushes out may make room; the ledger knows.
            return Err(refused(head.knows_bytes() && !replaces, LimitError::Bytes));
        }
        Ok(replaces)
    }

    /// Proposes what was planned.
    pub(super) fn carry_out(&mut self, now: WallTime, plan: Plan, reply: Bytes, payload: Bytes) {
        let Plan { subject, headers, id, rollup, unwanted, ttl, replaces, scheduling, ends, republish } =
            plan;
        let sequence = self.head.last() + 1;
        self.remember_id(&id, sequence, now);
        let republishing = republish.map(|(to, last_sequence)| {
            let (headers, payload) = (headers.clone(), payload.clone());
            Box::new(Republishing { to, headers, payload, last_sequence, time: now })
        });
        let size = match unwanted {
            true => 0,
            false => self.settings.kind.message_size(subject.len(), headers.len(), payload.len()),
        };
        let storing = Storing {
            sequence,
            subject: subject.clone(),
            reply,
            size,
            replaces,
            unwanted,
            has_ttl: ttl > 0,
            scheduling,
            republishing,
            failed: None,
        };
        let rolled = match rollup {
            Some(Rollup::Subject) => Some(subject.clone()),
            Some(Rollup::All) => Some(Bytes::new()),
            None => None,
        };
        let change = match unwanted {
            true => Change::Skip { sequence, count: 1, time: now, unwanted: true },
            // The head has let it in: the store doesn't ask again.
            false => Change::Store(NewMessage {
                sequence,
                time: now,
                subject,
                headers,
                payload,
                ttl,
                rollup: rollup.is_some(),
                checked: false,
                scheduling,
            }),
        };
        self.propose(Flight::Store(storing), change);
        if let Some(subject) = rolled {
            // Everything of it below the message, which nothing of what comes later can change.
            let keeps = u64::from(!unwanted);
            let change = Change::Purge { subject: subject.clone(), below: sequence, keep: 0 };
            self.propose(Flight::Rollup { subject, keeps, stored: None }, change);
        }
        if !ends.is_empty() {
            let change = Change::Purge { subject: ends.clone(), below: sequence, keep: 0 };
            self.propose(Flight::Rollup { subject: ends, keeps: 0, stored: None }, change);
        }
    }

    fn remember_id(&mut self, id: &[u8], sequence: u64, now: WallTime) {
        match &mut self.last_id {
            LastId::Is(last) => {
                last.clear();
                last.extend_from_slice(id);
            }
            last => *last = LastId::Is(id.to_vec()),
        }
        if !id.is_empty() {
            self.dedup.remember(id, sequence, now, self.settings.duplicate_window);
        }
    }
}

/// Tells whether a text is a whole number of any size, as the reference's `big.Int` reads it.
fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

/// Returns a block without the lines of a key.
fn without(block: &[u8], key: &[u8]) -> Bytes {
    let mut block = block.to_vec();
    headers::remove(&mut block, key);
    block.into()
}
