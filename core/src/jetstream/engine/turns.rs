//! Who has something to do, a bounded step at a time.
//!
//! A stream or consumer that has more to do than one step is put in line behind the others; a shard's `handle` deals with the
//! first so many of the line, and the next comes as soon as the shard has looked at its sockets.

use super::assets::{Backing, Listeners};
use super::{Exchange, JetStream};
use crate::jetstream::context::Context;
use crate::jetstream::stream::Event;
use crate::time::Now;

/// Steps that one `handle` takes.
const STEPS: usize = 64;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Turn {
    Stream(usize),
}

impl JetStream {
    /// Does what can be done, and tells whether there was anything.
    pub(crate) fn advance(&mut self, now: Now, exchange: &mut Exchange) -> bool {
        self.hear_stores(now, exchange);
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
            }
            self.line_up(turn);
        }
        let mut worked = false;
        for _ in 0..STEPS.min(self.turns.len()) {
            let Some(turn) = self.turns.pop_front() else { break };
            worked = true;
            match turn {
                Turn::Stream(key) => self.stream_turn(now, exchange, key),
            }
        }
        // What was proposed just now is on its way to the disk before the next message is looked at.
        self.hear_stores(now, exchange);
        worked
    }

    /// Puts somebody in line, once.
    pub(super) fn line_up(&mut self, turn: Turn) {
        let Turn::Stream(key) = turn;
        if let Some(stream) = self.streams.get_mut(key)
            && !std::mem::replace(&mut stream.queued, true)
        {
            self.turns.push_back(turn);
        }
    }

    fn stream_turn(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.queued = false;
        let account = stream.account;
        let Some((machine, mut view)) = stream.parts(&mut self.stores) else { return };
        let listeners = Listeners { exchange, account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let more = machine.advance(&mut context, &mut view);
        self.follow_up(now, exchange, key);
        if more {
            self.line_up(Turn::Stream(key));
        }
    }

    /// Proposes what a stream wants changed, and passes on what it says: to be called when it was called.
    pub(super) fn follow_up(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(machine) = stream.machine.as_deref_mut() else { return };
        let (account, owner) = (stream.account, stream.owner);
        while let Some(change) = machine.poll_change() {
            match &mut stream.backing {
                Backing::Memory(store) => {
                    let outcome = store.apply(change);
                    machine.applied(&mut self.out, outcome);
                    while store.poll_removed().is_some() {}
                }
                Backing::File(_) => {
                    let (kind, payload) = change.encode();
                    if let Err(refused) = self.stores.propose(owner, kind, payload) {
                        machine.refused(&mut self.out, refused);
                    }
                }
            }
        }
        while let Some(event) = machine.poll_event() {
            match event {
                Event::Stored { .. } | Event::Purged { .. } => {}
                Event::Done { .. } => {}
            }
        }
        let deadline = machine.poll_timeout();
        if deadline != stream.deadline {
            if let Some(old) = std::mem::replace(&mut stream.deadline, deadline) {
                self.deadlines.remove(&(old, Turn::Stream(key)));
            }
            self.deadlines.extend(deadline.map(|deadline| (deadline, Turn::Stream(key))));
        }
        self.publish_out(now, exchange, account);
    }
}
