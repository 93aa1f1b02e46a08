//! What of the stream a consumer wants, what of it comes next, and how much is left.
//!
//! How much is left is counted once, by the stream's ledger, and kept since: one more when a message is stored that is
//! wanted, one less when one is delivered or removed. A purge, other filters or a new start make it be counted again.
//!
//! # Invariants
//!
//! - Nothing below `next` is delivered for the first time.
//! - What was counted is the number of wanted messages at or behind `next`, as the ledger has it now.

use std::collections::BTreeSet;

use crate::jetstream::api::consumer_config::{ConsumerConfig, DeliverPolicy};
use crate::jetstream::context::{Answer, Messages};
use crate::planted::{Bug, bug};
use crate::rng::Rng;
use crate::storage::Lookup;
use crate::storage::ledger::{Filter, Ledger};
use crate::subject::{SubjectList, has_wildcard, matches_literal};
use crate::time::WallTime;

/// The subjects that a consumer wants.
#[derive(Debug)]
pub(super) enum Filters {
    /// All of them.
    All,
    /// Those of one filter.
    One(Box<[u8]>),
    /// Those of several.
    Several(SubjectList<()>),
}

impl Filters {
    pub(super) fn of(config: &ConsumerConfig, rng: &mut Rng) -> Self {
        let mut filters = config.filters();
        match (filters.next(), filters.next()) {
            (None, _) => Filters::All,
            (Some(only), None) => Filters::One(only.as_bytes().into()),
            (Some(_), Some(_)) => {
                let mut list = SubjectList::new(rng.hash_keys());
                for filter in config.filters() {
                    // Filters were checked when the consumer was made; one that isn't any matches nothing.
                    let _ = list.insert(filter.as_bytes(), ());
                }
                Filters::Several(list)
            }
        }
    }

    pub(super) fn as_filter(&self) -> Filter<'_> {
        match self {
            _ if bug(Bug::JsFilterIgnored) => Filter::All,
            Filters::All => Filter::All,
            Filters::One(filter) => Filter::Subject(filter),
            Filters::Several(list) => Filter::Any(list),
        }
    }

    pub(super) fn matches(&self, subject: &[u8]) -> bool {
        match self {
            Filters::All => true,
            Filters::One(filter) if !has_wildcard(filter) => **filter == *subject,
            Filters::One(filter) => matches_literal(subject, filter),
            Filters::Several(list) => list.has_interest(subject),
        }
    }
}

/// Where a consumer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    /// The first message that it may deliver.
    pub(super) next: u64,
    /// Up to where only the last message of each subject is delivered; zero if all are.
    pub(super) last_only_through: u64,
}

/// What comes next.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    next: u64,
    /// The last messages of their subjects, of what lies up to `last_only_through`: they come before all behind it.
    last_only: BTreeSet<u64>,
    last_only_through: u64,
    /// Whether `last_only` has what the ledger says.
    listed: bool,
    /// How much is left; `None` if it has to be counted.
    left: Option<u64>,
    /// Through which message that was counted.
    counted_through: u64,
    /// Whether nothing wanted is at or behind `next`.
    at_end: bool,
}

impl Cursor {
    /// Goes on behind the message `stream`.
    pub(super) fn behind(stream: u64, last_only_through: u64) -> Self {
        let last_only_through = if stream < last_only_through { last_only_through } else { 0 };
        Cursor { next: stream + 1, last_only_through, ..Cursor::default() }
    }

    /// Returns the sequence of the first message that may be delivered.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Returns how much is left, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.left
    }

    /// Returns how many messages are left to be delivered for the first time.
    pub(super) fn count(&mut self, filters: &Filters, messages: &mut impl Messages) -> Answer<u64> {
        if let Answer::Wait = self.list(filters, messages) {
            return Answer::Wait;
        }
        if let Some(left) = self.left {
            return Answer::Ready(left);
        }
        let from = self.next.max(self.last_only_through + u64::from(self.last_only_through > 0));
        let counted = messages.ask(|ledger| ledger.pending(filters.as_filter(), from, false));
        let Answer::Ready((left, through)) = counted else { return Answer::Wait };
        let left = left + self.last_only.len() as u64;
        (self.left, self.counted_through) = (Some(left), through);
        Answer::Ready(left)
    }

    /// Returns the message that is to be delivered next for the first time.
    pub(super) fn peek(&mut self, filters: &Filters, messages: &mut impl Messages) -> Answer<Option<u64>> {
        if self.at_end {
            return Answer::Ready(None);
        }
        if let Answer::Wait = self.list(filters, messages) {
            return Answer::Wait;
        }
        if let Some(first) = self.last_only.first() {
            return Answer::Ready(Some(*first));
        }
        let from = self.next;
        let found = messages.ask(|ledger| {
            Ok((ledger.next(filters.as_filter(), from)?, ledger.last_sequence(), ledger.messages()))
        });
        let Answer::Ready((found, last, _)) = found else { return Answer::Wait };
        if found.is_none() {
            self.next = self.next.max(last + 1);
            self.at_end = true;
            // Nothing is wanted, so nothing is left.
            (self.left, self.counted_through) = (Some(0), self.counted_through.max(last));
        }
        Answer::Ready(found)
    }

    /// Notes that the message that was next is delivered, or is none.
    pub(super) fn take(&mut self, sequence: u64) {
        self.left = self.left.map(|left| left.saturating_sub(1));
        self.next = sequence + 1;
        if self.last_only.remove(&sequence) && self.last_only.is_empty() {
            self.next = self.last_only_through + 1;
            self.last_only_through = 0;
        }
    }

    /// Returns up to where only the last messages of their subjects are delivered, zero if that is over.
    pub(super) fn last_only_through(&self) -> u64 {
        self.last_only_through
    }

    /// Notes that a wanted message was stored.
    pub(super) fn stored(&mut self, sequence: u64) {
        if sequence < self.next {
            return;
        }
        self.at_end = false;
        if let Some(left) = self.left.as_mut().filter(|_| sequence > self.counted_through) {
            *left += 1;
            self.counted_through = sequence;
        }
    }

    /// Notes that a wanted message was removed.
    pub(super) fn removed(&mut self, sequence: u64) {
        let was_left = match sequence <= self.last_only_through {
            true => self.last_only.remove(&sequence),
            false => sequence >= self.next,
        };
        if was_left && !bug(Bug::ConsumerCountsRemoved) {
            self.left = self.left.map(|left| left.saturating_sub(1));
        }
        self.end_list();
    }

    /// Notes that much was removed: everything below `first`, and perhaps more.
    pub(super) fn purged(&mut self, first: u64) {
        self.next = self.next.max(first);
        if self.next > self.last_only_through {
            self.last_only_through = 0;
        }
        self.recount();
    }

    /// Lets what is left be counted again, and looked for from the same place.
    pub(super) fn recount(&mut self) {
        self.last_only.clear();
        if bug(Bug::JsPendingNotRecounted) {
            return (self.at_end, self.listed) = (false, false);
        }
        (self.left, self.at_end, self.listed) = (None, false, false);
    }

    /// Finds the last messages of their subjects, where only they are wanted.
    fn list(&mut self, filters: &Filters, messages: &mut impl Messages) -> Answer<()> {
        if self.last_only_through == 0 || self.listed {
            return Answer::Ready(());
        }
        let through = self.last_only_through;
        let found = messages.ask(|ledger| ledger.last_sequences(filters.as_filter(), through, 0));
        let Answer::Ready(found) = found else { return Answer::Wait };
        // Any number of results is allowed, so there is nothing that could be refused.
        let found = found.unwrap_or_default();
        self.last_only = found.into_iter().filter(|sequence| *sequence >= self.next).collect();
        self.listed = true;
        self.end_list();
        Answer::Ready(())
    }

    /// Goes on behind the last messages of their subjects, when they are done.
    fn end_list(&mut self) {
        if self.listed && self.last_only.is_empty() && self.last_only_through > 0 {
            self.next = self.next.max(self.last_only_through + 1);
            self.last_only_through = 0;
        }
    }
}

/// Finds where a new consumer starts; or where one would have that was made then, of what is still there.
///
/// Source: nats-server `server/consumer.go`, `selectStartingSeqNo`.
pub(super) fn start(
    config: &ConsumerConfig,
    filters: &Filters,
    made: Option<WallTime>,
    messages: &mut impl Messages,
) -> Answer<Start> {
    messages.ask(|ledger| {
        let (first, newest) = (ledger.first_sequence(), ledger.last_sequence());
        let last = match made {
            Some(made) => newest.min(ledger.sequence_from_time(made)?.saturating_sub(1)),
            None => newest,
        };
        let mut last_only_through = 0;
        let next = match config.deliver_policy {
            _ if config.start_sequence > 0 => config.start_sequence,
            DeliverPolicy::All | DeliverPolicy::ByStartSequence => first,
            DeliverPolicy::New => last + 1,
            DeliverPolicy::Last => match filters {
                Filters::All => last,
                _ => ledger.previous(filters.as_filter(), last)?.unwrap_or(0),
            },
            // With one message for each subject, the last one is the only one.
            DeliverPolicy::LastPerSubject if ledger.config().max_messages_per_subject == 1 => first,
            DeliverPolicy::LastPerSubject => {
                last_only_through = last;
                let lasts = ledger.last_sequences(filters.as_filter(), last, 0)?.unwrap_or_default();
                lasts.first().copied().unwrap_or(last)
            }
            DeliverPolicy::ByStartTime => start_of_time(config, ledger)?,
        };
        let next = if config.start_sequence == 0 { next.min(newest + 1) } else { next };
        Ok(Start { next: next.max(first), last_only_through })
    })
}

/// Finds the first message of or after a time; the next one that is wanted, if a filter's first message is near.
fn start_of_time(config: &ConsumerConfig, ledger: &mut Ledger) -> Lookup<u64> {
    let Some(time) = config.start_time else { return Ok(ledger.last_sequence() + 1) };
    let (from, first, last) =
        (ledger.sequence_from_time(time)?, ledger.first_sequence(), ledger.last_sequence());
    let mut nearest = last;
    for filter in config.filters() {
        let first = ledger.next(Filter::Subject(filter.as_bytes()), first)?;
        nearest = first.filter(|first| *first >= from).unwrap_or(nearest).min(nearest);
    }
    Ok(if nearest > from && nearest < last { nearest } else { from })
}
