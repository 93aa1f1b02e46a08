//! Who has something to do, a bounded step at a time.
//!
//! A stream or consumer that has more to do than one step is put in line behind the others; a shard's `handle` deals with the
//! first so many of the line, and the next comes as soon as the shard has looked at its sockets.

use smallvec::SmallVec;

use super::assets::{Backing, Listeners, Used};
use super::{Exchange, JetStream};
use crate::jetstream::consumer::{Purge, Step};
use crate::jetstream::context::{Answer, Context, Messages};
use crate::jetstream::stream::{Budget, Event, Stream};
use crate::planted::{self, Point};
use crate::storage::StorageKind;
use crate::storage::change::Change;
use crate::storage::journal::Refused;
use crate::storage::ledger::{Filter, Removed};
use crate::time::Now;

/// Steps that one `handle` takes.
const STEPS: usize = 64;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Stream(usize),
    Consumer(usize),
    Snapshot(usize),
    Restore(usize),
}

impl JetStream {
    /// Does what can be done in a bounded time. What is left is due at once.
    ///
    /// `changed` is where interest came or went.
    pub(crate) fn advance(&mut self, now: Now, exchange: &mut Exchange, changed: &[(u32, Box<[u8]>)]) {
        self.hear_stores(now, exchange);
        self.hear_interest(now, exchange, changed);
        while let Some((due, turn)) = self.deadlines.first().copied()
            && due <= now.instant
        {
            self.deadlines.pop_first();
            match turn {
                Turn::Stream(key) => {
                    if let Some(stream) = self.streams.get_mut(key) {
                        stream.deadline = None;
                    }
                }
                Turn::Consumer(key) => {
                    if let Some(consumer) = self.consumers.get_mut(key) {
                        consumer.deadline = None;
                    }
                }
                Turn::Snapshot(key) => {
                    if let Some(snapshot) = self.snapshots.get_mut(key) {
                        snapshot.deadline = None;
                    }
                }
                Turn::Restore(key) => {
                    if let Some(restore) = self.restores.get_mut(key) {
                        restore.deadline = None;
                    }
                }
            }
            self.line_up(turn);
        }
        for _ in 0..STEPS.min(self.turns.len()) {
            let Some(turn) = self.turns.pop_front() else { break };
            match turn {
                Turn::Stream(key) => self.stream_turn(now, exchange, key),
                Turn::Consumer(key) => self.consumer_turn(now, exchange, key),
                Turn::Snapshot(key) => self.snapshot_turn(now, exchange, key),
                Turn::Restore(key) => self.restore_turn(now, exchange, key),
            }
        }
        // What was proposed just now is on its way to the disk before the next message is looked at.
        self.hear_stores(now, exchange);
    }

    /// Puts somebody in line, once.
    pub(super) fn line_up(&mut self, turn: Turn) {
        let queued = match turn {
            Turn::Stream(key) => self.streams.get_mut(key).map(|stream| &mut stream.queued),
            Turn::Consumer(key) => self.consumers.get_mut(key).map(|consumer| &mut consumer.queued),
            Turn::Snapshot(key) => self.snapshots.get_mut(key).map(|snapshot| &mut snapshot.queued),
            Turn::Restore(key) => self.restores.get_mut(key).map(|restore| &mut restore.queued),
        };
        if queued.is_some_and(|queued| !std::mem::replace(queued, true)) {
            self.turns.push_back(turn);
        }
    }

    fn stream_turn(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.queued = false;
        self.note_usage(exchange, key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let account = stream.account;
        let Some((machine, mut view)) = stream.parts(&mut self.stores) else { return };
        let listeners = Listeners { exchange, account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let more = machine.advance(&mut context, &mut view);
        self.follow_up(now, exchange, key);
        self.run_tasks(now, exchange, key);
        if more {
            self.line_up(Turn::Stream(key));
        }
    }

    /// Counts what a stream stores to what its account and the server have, and tells it what is left of that.
    fn note_usage(&mut self, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (account, kind, before) = (stream.account as usize, stream.config.storage, stream.bytes);
        let Some(mut view) = stream.view(&mut self.stores) else { return };
        let Answer::Ready(bytes) = view.ask(|ledger| Ok(ledger.bytes())) else { return };
        stream.bytes = bytes;
        let used = self.used.of(kind).wrapping_add(bytes).wrapping_sub(before);
        *self.used.of_mut(kind) = used;
        let assets = &mut self.accounts[account];
        let of_account = assets.used.of_mut(kind);
        *of_account = of_account.wrapping_add(bytes).wrapping_sub(before);
        self.set_budget(key);
        let left = self.left(account as u32);
        self.tell_used(exchange, account as u32, left.of(kind));
    }

    /// Returns how many bytes an account's streams may still store.
    pub(super) fn left(&self, account: u32) -> Used {
        let assets = &self.accounts[account as usize];
        let of = |kind| {
            let limit = assets.limits.and_then(|limits| match kind {
                StorageKind::Memory => limits.max_memory,
                StorageKind::File => limits.max_store,
            });
            let max = if kind == StorageKind::Memory { self.max_memory } else { self.max_store };
            let left =
                |limit: Option<u64>, used: u64| limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
            let of_account = assets.used.of(kind).saturating_add(assets.elsewhere.of(kind));
            let of_all = self.used.of(kind).saturating_add(self.elsewhere.of(kind));
            left(limit, of_account).min(left(max, of_all))
        };
        Used::new(of(StorageKind::Memory), of(StorageKind::File))
    }

    /// Tells a stream what is left of what its account and the server have.
    pub(super) fn set_budget(&mut self, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let kind = stream.config.storage;
        let assets = &self.accounts[stream.account as usize];
        let limit = assets.limits.and_then(|limits| match kind {
            StorageKind::Memory => limits.max_memory,
            StorageKind::File => limits.max_store,
        });
        let used = assets.used.of(kind).saturating_add(assets.elsewhere.of(kind));
        let account_left = limit.map_or(u64::MAX, |limit| limit.saturating_sub(used));
        let max = if kind == StorageKind::Memory { self.max_memory } else { self.max_store };
        let used = self.used.of(kind).saturating_add(self.elsewhere.of(kind));
        let budget = Budget { server_exceeded: max.is_some_and(|max| used > max), account_left };
        if let Some(machine) = &mut stream.machine {
            machine.set_budget(budget);
        }
    }

    fn consumer_turn(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        consumer.queued = false;
        let Some(machine) = consumer.machine.as_deref_mut() else { return };
        let Some(stream) = self.streams.get_mut(consumer.stream) else { return };
        let Some((_, mut view)) = stream.parts(&mut self.stores) else { return };
        let listeners = Listeners { exchange, account: consumer.account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        machine.handle_timeout(&mut context);
        consumer.waits = machine.needs_advance() && machine.advance(&mut context, &mut view) == Step::Wait;
        self.consumer_follow_up(now, exchange, key);
    }

    /// Proposes what a stream wants changed, and passes on what it says: to be called when it was called.
    pub(super) fn follow_up(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        while let Some(stream) = self.streams.get_mut(key)
            && let Some(machine) = stream.machine.as_deref_mut()
            && let Some(change) = machine.poll_change()
        {
            match &mut stream.backing {
                Backing::Memory(store) => {
                    let purges = matches!(change, Change::Purge { .. });
                    let outcome = store.apply(change);
                    machine.applied(&mut self.out, outcome);
                    let gone = std::iter::from_fn(|| store.poll_removed());
                    // Of a purge consumers are told as a whole.
                    match purges {
                        true => gone.for_each(drop),
                        false => stream.removed.extend(gone),
                    }
                    // Nothing else comes of it that would give the stream its turn.
                    let due = machine.is_due();
                    self.pass_on(now, exchange, key);
                    if due {
                        self.line_up(Turn::Stream(key));
                    }
                }
                Backing::File(_) => {
                    let waits = stream.last_applied < stream.last_proposed;
                    let taken = match waits && planted::point(Point::JournalRefuses) {
                        true => Err(Refused::Full),
                        false => self.stores.propose_change(stream.owner, &change),
                    };
                    match taken {
                        Ok(position) => {
                            stream.live_from.get_or_insert(position);
                            stream.last_proposed = position;
                        }
                        Err(Refused::Busy) => {
                            // What waits to be written is written first.
                            machine.unpoll(change);
                            self.busy.push(key);
                            break;
                        }
                        Err(refused) => {
                            machine.refused(&mut self.out, refused);
                            // What nobody asked for, such as the removal of what all have acknowledged, is tried again.
                            self.busy.push(key);
                        }
                    }
                }
            }
        }
        self.pass_on(now, exchange, key);
        let Some(stream) = self.streams.get_mut(key) else { return };
        let account = stream.account;
        let deadline = stream.machine.as_deref().and_then(Stream::poll_timeout);
        if deadline != stream.deadline {
            if let Some(old) = std::mem::replace(&mut stream.deadline, deadline) {
                self.deadlines.remove(&(old, Turn::Stream(key)));
            }
            self.deadlines.extend(deadline.map(|deadline| (deadline, Turn::Stream(key))));
        }
        self.publish_out(now, exchange, account);
    }

    /// Passes on what a stream says, and what the change that it has just applied took away: what is new first, as that may
    /// be gone already.
    fn pass_on(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(machine) = stream.machine.as_deref_mut() else { return };
        let events: SmallVec<[Event; 2]> = std::iter::from_fn(|| machine.poll_event()).collect();
        let mut removed = std::mem::take(&mut stream.removed);
        if events.is_empty() && removed.is_empty() {
            return;
        }
        if events.iter().any(|event| matches!(event, Event::Purged { .. })) {
            removed.clear();
        }
        self.note_usage(exchange, key);
        for event in events {
            match event {
                Event::Stored { sequence, subject } => self.message_stored(key, sequence, &subject),
                Event::Purged { subject, .. } => self.messages_purged(now, exchange, key, &subject),
                Event::Done { ticket, result } => self.done(now, exchange, key, ticket, result),
            }
        }
        for message in &removed {
            self.message_removed(now, exchange, key, message);
        }
    }

    /// Consumers that want a message of this subject may have something to do.
    fn message_stored(&mut self, key: usize, sequence: u64, subject: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let (consumers, turns) = (&mut self.consumers, &mut self.turns);
        stream.wanted.matches(subject, |key| {
            if let Some(consumer) = consumers.get_mut(*key)
                && let Some(machine) = &mut consumer.machine
                && machine.stored(sequence)
                && !std::mem::replace(&mut consumer.queued, true)
            {
                turns.push_back(Turn::Consumer(*key));
            }
        });
    }

    /// A message is gone: consumers don't wait for it any more.
    pub(super) fn message_removed(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        removed: &Removed,
    ) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        if stream.consumers.is_empty() {
            return;
        }
        let mut concerned = Vec::new();
        stream.wanted.matches(&removed.subject, |key| concerned.push(*key));
        for key in concerned {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let Some(machine) = &mut consumer.machine else { continue };
            let listeners = Listeners { exchange, account: consumer.account };
            let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
            machine.removed(removed.location.sequence, &mut context);
            self.consumer_follow_up(now, exchange, key);
        }
    }

    /// Many messages are gone at once.
    fn messages_purged(&mut self, now: Now, exchange: &mut Exchange, key: usize, subject: &[u8]) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let consumers: Vec<usize> = stream.consumers.values().copied().collect();
        let Some((_, mut view)) = stream.parts(&mut self.stores) else { return };
        let filter = if subject.is_empty() { Filter::All } else { Filter::Subject(subject) };
        let bounds = view.ask(|ledger| Ok((ledger.first_sequence(), ledger.last_sequence())));
        let Answer::Ready((first, last)) = bounds else { return };
        let first_of_subject = match subject.is_empty() {
            true => Answer::Ready(None),
            false => view.ask(|ledger| ledger.next(filter, 0)),
        };
        let (subject, first_of_subject) = match first_of_subject {
            Answer::Ready(found) => (subject, found),
            // Should it have to be read: of a purge of everything consumers believe only where the stream begins, and they
            // look for the rest themselves.
            Answer::Wait => (&b""[..], None),
        };
        for key in consumers {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let Some(machine) = &mut consumer.machine else { continue };
            let listeners = Listeners { exchange, account: consumer.account };
            let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
            machine.purged(&Purge { subject, first, last, first_of_subject }, &mut context);
            self.line_up(Turn::Consumer(key));
            self.consumer_follow_up(now, exchange, key);
        }
    }
}
