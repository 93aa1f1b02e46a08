//! Which messages of a stream with interest or work queue retention everybody has.
//!
//! The machine is told what each consumer wants and how far it is: a floor, and what was acknowledged one by one above it.
//! A message may go when every consumer that wants it has it. To see that without asking all consumers at each
//! acknowledgement, the first one for a message counts who else still needs it, and the others count down: one look at each
//! consumer for each message, whatever their number, as each message was delivered to each of them anyway.
//!
//! What a consumer that comes or goes, or asks for something else, changes for messages that are there is found by a *sweep*
//! over them, in bounded steps. So is what a crash between a consumer's acknowledgement and the removal left behind.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::super::context::Messages;
use super::publish::{Stop, ask};
use crate::collections::SequenceSet;
use crate::planted::{self, Bug};
use crate::rng::HashKeys;
use crate::storage::ledger::Filter;
use crate::storage::{OwnerId, Ranges};
use crate::subject::{SubjectList, matches_literal};

/// What a consumer wants of a stream, and what of it it has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanting {
    /// Which subjects; none for all of them.
    pub filters: Vec<Bytes>,
    /// It has, or doesn't want, everything through this sequence.
    pub floor: u64,
    /// What it has above the floor.
    pub acknowledged: Ranges,
}

impl Wanting {
    fn matches(&self, subject: &[u8]) -> bool {
        self.filters.is_empty() || self.filters.iter().any(|filter| matches_literal(subject, filter))
    }

    fn has(&self, sequence: u64) -> bool {
        sequence <= self.floor || self.acknowledged.contains(sequence)
    }
}

/// What is to be looked at.
#[derive(Debug)]
enum Job {
    /// A consumer has acknowledged a message.
    One(OwnerId, u64),
    /// A consumer has everything through a sequence.
    Through(OwnerId, u64),
    /// Messages from a sequence on, whoever wants them.
    Sweep(u64),
}

/// Who has what.
#[derive(Debug)]
pub(super) struct Retention {
    consumers: BTreeMap<OwnerId, Wanting>,
    /// The consumers by what they want.
    wanted: SubjectList<OwnerId>,
    /// Whether some don't want everything, so that subjects matter.
    filtered: usize,
    /// How many consumers still need a message that one of them has acknowledged.
    needed: BTreeMap<u64, usize>,
    jobs: VecDeque<Job>,
    /// Messages that may go and weren't proposed yet.
    ready: Vec<u64>,
    /// The same, to find them.
    found: SequenceSet,
}

impl Retention {
    pub(super) fn new(keys: HashKeys) -> Self {
        Retention {
            wanted: SubjectList::new(keys),
            consumers: BTreeMap::new(),
            filtered: 0,
            needed: BTreeMap::new(),
            jobs: VecDeque::new(),
            ready: Vec::new(),
            found: SequenceSet::default(),
        }
    }

    /// Tells whether any consumer wants messages of a subject.
    pub(super) fn wants(&self, subject: &[u8]) -> bool {
        !self.consumers.is_empty() && self.wanted.has_interest(subject)
    }

    /// Adds a consumer, or tells anew what it wants and has. What it no longer wants may go.
    pub(super) fn set(&mut self, consumer: OwnerId, wanting: Wanting) {
        let known = self.remove(consumer);
        let from = wanting.floor.min(known.unwrap_or(u64::MAX));
        for filter in filters(&wanting) {
            // A filter that is no subject matches nothing, here as elsewhere.
            let _ = self.wanted.insert(filter, consumer);
        }
        self.filtered += usize::from(!wanting.filters.is_empty());
        self.consumers.insert(consumer, wanting);
        if known.is_some() {
            self.sweep(from + 1);
        }
    }

    /// Forgets a consumer, and returns its floor, if there was one. The caller says whether what it alone wanted may go.
    pub(super) fn remove(&mut self, consumer: OwnerId) -> Option<u64> {
        // What was counted, was counted with it.
        self.needed.clear();
        let old = self.consumers.remove(&consumer)?;
        self.filtered -= usize::from(!old.filters.is_empty());
        for filter in filters(&old) {
            let _ = self.wanted.remove(filter, &consumer);
        }
        Some(old.floor)
    }

    /// Tells whether there is no consumer.
    pub(super) fn is_empty(&self) -> bool {
        self.consumers.is_empty()
    }

    /// Looks at all messages from `from` on.
    pub(super) fn sweep(&mut self, from: u64) {
        self.jobs.retain(|job| !matches!(job, Job::Sweep(at) if *at >= from));
        self.jobs.push_back(Job::Sweep(from));
    }

    pub(super) fn acknowledged(&mut self, consumer: OwnerId, sequence: u64) {
        self.jobs.push_back(Job::One(consumer, sequence));
    }

    pub(super) fn acknowledged_through(&mut self, consumer: OwnerId, sequence: u64) {
        if let Some(Job::Through(last, through)) = self.jobs.back_mut()
            && *last == consumer
        {
            *through = sequence.max(*through);
            return;
        }
        self.jobs.push_back(Job::Through(consumer, sequence));
    }

    /// Takes back what was to go and didn't: it is ready again.
    pub(super) fn put_back(&mut self, sequences: &[u64]) {
        for sequence in sequences {
            if self.found.insert(*sequence) {
                self.ready.push(*sequence);
            }
        }
    }

    /// Tells whether there is something to look at.
    pub(super) fn has_work(&self) -> bool {
        !self.jobs.is_empty() || !self.ready.is_empty()
    }

    /// Returns what may go, in order.
    pub(super) fn take_ready(&mut self) -> Vec<u64> {
        let mut ready = std::mem::take(&mut self.ready);
        self.found.clear();
        ready.sort_unstable();
        ready
    }

    /// Looks at up to `steps` messages. `queue` says whether nobody's messages stay, as in a work queue, and `leaving`
    /// which messages are on their way out already.
    pub(super) fn step(
        &mut self,
        messages: &mut impl Messages,
        queue: bool,
        leaving: impl Fn(u64) -> bool,
        steps: usize,
    ) -> Result<(), Stop> {
        let first = ask(messages, |ledger| Ok(ledger.first_sequence()))?;
        while self.needed.first_key_value().is_some_and(|(sequence, _)| *sequence < first) {
            self.needed.pop_first();
        }
        for _ in 0..steps {
            let Some(job) = self.jobs.front() else { return Ok(()) };
            match *job {
                Job::One(consumer, sequence) => {
                    self.take(messages, consumer, sequence, &leaving)?;
                    self.jobs.pop_front();
                }
                Job::Through(consumer, through) => {
                    if self.advance(messages, consumer, through, &leaving)? {
                        self.jobs.pop_front();
                    }
                }
                Job::Sweep(from) => match ask(messages, |ledger| ledger.next(Filter::All, from))? {
                    Some(sequence) => {
                        self.look(messages, sequence, queue, &leaving)?;
                        self.jobs[0] = Job::Sweep(sequence + 1);
                    }
                    None => drop(self.jobs.pop_front()),
                },
            }
        }
        Ok(())
    }

    /// A consumer has a message.
    fn take(
        &mut self,
        messages: &mut impl Messages,
        consumer: OwnerId,
        sequence: u64,
        leaving: &impl Fn(u64) -> bool,
    ) -> Result<(), Stop> {
        let Some(wanting) = self.consumers.get(&consumer) else { return Ok(()) };
        if wanting.has(sequence) {
            return Ok(());
        }
        let there = ask(messages, |ledger| Ok(ledger.locate(sequence)?.is_some()))?;
        let gone = !there || leaving(sequence) || self.found.contains(sequence);
        let left = match self.needed.get(&sequence) {
            _ if gone || !self.wants_message(messages, consumer, sequence)? => None,
            // It was one of them.
            Some(needed) => Some(needed - 1),
            None if planted::bug(Bug::JsFirstAckRemoves) => Some(0),
            None => Some(self.count(messages, sequence, Some(consumer))?),
        };
        // Nothing was changed before everything was known.
        if let Some(wanting) = self.consumers.get_mut(&consumer) {
            wanting.acknowledged.insert(sequence, sequence);
        }
        match left {
            Some(0) => {
                self.needed.remove(&sequence);
                self.put_back(&[sequence]);
            }
            Some(left) => drop(self.needed.insert(sequence, left)),
            None => {}
        }
        Ok(())
    }

    /// A consumer has everything through a sequence: looks at the next message of these, and tells whether that was all.
    fn advance(
        &mut self,
        messages: &mut impl Messages,
        consumer: OwnerId,
        through: u64,
        leaving: &impl Fn(u64) -> bool,
    ) -> Result<bool, Stop> {
        let Some(wanting) = self.consumers.get(&consumer) else { return Ok(true) };
        let from = wanting.floor + 1;
        let next = match wanting.filters.as_slice() {
            _ if from > through => None,
            [one] => ask(messages, |ledger| ledger.next(Filter::Subject(one), from))?,
            _ => ask(messages, |ledger| ledger.next(Filter::All, from))?,
        };
        let next = next.filter(|next| *next <= through);
        if let Some(sequence) = next {
            self.take(messages, consumer, sequence, leaving)?;
        }
        if let Some(wanting) = self.consumers.get_mut(&consumer) {
            wanting.floor = next.unwrap_or(through).max(wanting.floor);
            wanting.acknowledged.remove_below(wanting.floor + 1);
        }
        Ok(next.is_none())
    }

    /// Looks whether anybody needs a message.
    fn look(
        &mut self,
        messages: &mut impl Messages,
        sequence: u64,
        queue: bool,
        leaving: &impl Fn(u64) -> bool,
    ) -> Result<(), Stop> {
        if leaving(sequence) || self.found.contains(sequence) {
            return Ok(());
        }
        if self.count(messages, sequence, None)? > 0 {
            return Ok(());
        }
        // In a work queue what nobody wants yet waits for somebody who does.
        if queue && !self.is_wanted(messages, sequence)? {
            return Ok(());
        }
        self.put_back(&[sequence]);
        Ok(())
    }

    fn is_wanted(&self, messages: &mut impl Messages, sequence: u64) -> Result<bool, Stop> {
        if self.filtered == 0 {
            return Ok(!self.consumers.is_empty());
        }
        ask(messages, |ledger| Ok(ledger.subject_of(sequence)?.is_some_and(|subject| self.wants(subject))))
    }

    fn wants_message(
        &self,
        messages: &mut impl Messages,
        consumer: OwnerId,
        sequence: u64,
    ) -> Result<bool, Stop> {
        let Some(wanting) = self.consumers.get(&consumer) else { return Ok(false) };
        if wanting.filters.is_empty() {
            return Ok(true);
        }
        ask(messages, |ledger| {
            Ok(ledger.subject_of(sequence)?.is_some_and(|subject| wanting.matches(subject)))
        })
    }

    /// Counts the consumers that need a message, but for one.
    fn count(
        &self,
        messages: &mut impl Messages,
        sequence: u64,
        but: Option<OwnerId>,
    ) -> Result<usize, Stop> {
        let needs = |(id, wanting): &(&OwnerId, &Wanting)| Some(**id) != but && !wanting.has(sequence);
        if self.filtered == 0 {
            return Ok(self.consumers.iter().filter(needs).count());
        }
        ask(messages, |ledger| {
            let Some(subject) = ledger.subject_of(sequence)? else { return Ok(0) };
            Ok(self.consumers.iter().filter(needs).filter(|(_, wanting)| wanting.matches(subject)).count())
        })
    }
}

fn filters(wanting: &Wanting) -> impl Iterator<Item = &[u8]> {
    let all = wanting.filters.is_empty().then_some(&b">"[..]);
    all.into_iter().chain(wanting.filters.iter().map(|filter| &**filter))
}
