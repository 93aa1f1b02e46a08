//! What clients say about messages that were delivered to them.
//!
//! Source: nats-server `server/consumer.go`, `processAck`, `processNak`, `processTerm`, `processAckMsg`.

use bytes::Bytes;

use super::Consumer;
use super::advisory::Delivery;
use crate::jetstream::api::ack::{Ack, AckSubject, nak_delay};
use crate::jetstream::api::consumer_config::AckPolicy;
use crate::jetstream::context::{Context, Interest, Outgoing};
use crate::planted::{Bug, bug};
use crate::storage::Retention;
use crate::storage::consumer::SequencePair;
use crate::time::{Duration, Instant, Now, WallTime};

impl Consumer {
    /// Takes what came on a message's reply subject. An answer to `reply` says that it is durable, where it has to be.
    ///
    /// `payload` is what stands behind the headers.
    pub fn acknowledgement(
        &mut self,
        subject: &[u8],
        reply: &Bytes,
        payload: &[u8],
        ctx: &mut Context<'_, impl Interest>,
    ) {
        self.active_at = ctx.now.instant;
        if let Some(at) = &mut self.inactive_at {
            // Nobody is at work on what is acknowledged: it is looked sooner than after its wait.
            *at = ctx.now.instant + self.threshold;
        }
        let Some(at) = AckSubject::parse(subject).filter(|at| at.stream_sequence > 0) else { return };
        // What a client says of a delivery that isn't its own, or of none, is another's business.
        match Ack::parse(payload) {
            Some(Ack::Ack) => {
                if self.acknowledge(&at, true, ctx) {
                    self.answer_when_durable(reply);
                }
            }
            Some(Ack::Next(request)) => {
                self.acknowledge(&at, true, ctx);
                self.next_request(reply, b"", request, ctx);
            }
            Some(Ack::Term(reason)) => {
                if self.acknowledge(&at, false, ctx) {
                    self.answer_when_durable(reply);
                }
                let reason = String::from_utf8_lossy(reason);
                self.advise_terminated(Delivery::of(&at), &reason, ctx);
            }
            Some(Ack::Nak(argument)) => {
                self.refuse(&at, argument, ctx);
                answer(reply, ctx);
            }
            Some(Ack::Progress) => {
                self.wait_longer(at.stream_sequence, ctx.now);
                answer(reply, ctx);
            }
            None => answer(reply, ctx),
        }
        self.finish(ctx);
    }

    fn answer_when_durable(&mut self, reply: &Bytes) {
        if !reply.is_empty() {
            self.entries.answer(reply.clone());
        }
    }

    /// Acknowledges a message, or a run of messages; `false` if it can't have been delivered.
    fn acknowledge(
        &mut self,
        at: &AckSubject<'_>,
        sample: bool,
        ctx: &mut Context<'_, impl Interest>,
    ) -> bool {
        let sequence = at.stream_sequence;
        if sequence >= self.cursor.next() && !self.config.flow_control {
            return false;
        }
        match self.config.ack_policy {
            AckPolicy::None => false,
            AckPolicy::All | AckPolicy::FlowControl => {
                self.acknowledge_through(
                    SequencePair { consumer: at.consumer_sequence, stream: sequence },
                    ctx,
                );
                true
            }
            AckPolicy::Explicit => {
                let was_full = self.is_full();
                let pending = self.progress.pending().get(&sequence).copied();
                if let Some(record) = pending {
                    if sample {
                        self.sample(Delivery::of(at), record.time, ctx);
                    }
                    self.progress.settle(sequence);
                }
                self.last_ack = Some(ctx.now.wall);
                if pending.is_some() || self.progress.count(sequence) > 0 {
                    self.tell_stream(sequence);
                }
                self.progress.forget(sequence);
                if was_full {
                    self.wake();
                }
                true
            }
        }
    }

    /// Acknowledges everything up to a delivery.
    pub(super) fn acknowledge_through(&mut self, at: SequencePair, ctx: &mut Context<'_, impl Interest>) {
        // Nobody can have got more than was delivered.
        let delivered = self.progress.delivered();
        let at = SequencePair {
            consumer: at.consumer.min(delivered.consumer),
            stream: at.stream.min(delivered.stream),
        };
        if at.stream <= self.progress.ack_floor().stream {
            return;
        }
        let was_full = self.is_full();
        for sequence in self.progress.settle_through(at) {
            self.tell_stream(sequence);
        }
        self.last_ack = Some(ctx.now.wall);
        if was_full {
            self.wake();
        }
    }

    /// Lets the stream know, once it is durable, that a message was acknowledged.
    fn tell_stream(&mut self, sequence: u64) {
        if self.setup.retention != Retention::Limits {
            self.entries.acknowledged(sequence);
        }
    }

    /// Takes a message back that a client couldn't deal with, to be delivered again at once or after a while.
    fn refuse(&mut self, at: &AckSubject<'_>, argument: &[u8], ctx: &mut Context<'_, impl Interest>) {
        let (sequence, consumer) = (at.stream_sequence, at.consumer_sequence);
        let was_delivered =
            consumer > self.progress.ack_floor().consumer && consumer <= self.progress.delivered().consumer;
        if !was_delivered || !self.progress.pending().contains_key(&sequence) {
            return;
        }
        self.advise_nak(Delivery::of(at), ctx);
        let delay = nak_delay(argument).unwrap_or_default();
        // The wait is over when the delay is; that is what is written down, too.
        let now = ctx.now;
        let wait = self.ack_wait(sequence).unwrap_or(Duration::ZERO);
        let ends = now.wall + delay;
        let began = WallTime::from_unix_nanos(
            ends.as_unix_nanos().saturating_sub(i64::try_from(wait.as_nanos()).unwrap_or(i64::MAX)),
        );
        if delay.is_zero() {
            self.progress.touch(sequence, began, Instant::MAX);
            self.deliver_again(sequence, ctx);
        } else {
            self.progress.touch(sequence, began, now.instant + delay);
        }
    }

    /// Waits anew for an acknowledgement that takes longer.
    fn wait_longer(&mut self, sequence: u64, now: Now) {
        if self.progress.pending().contains_key(&sequence) {
            let deadline = self.ack_wait(sequence).map_or(Instant::MAX, |wait| now.instant + wait);
            self.progress.touch(sequence, now.wall, deadline);
        }
    }

    /// Lets a pending message be delivered again, unless it was delivered often enough.
    pub(super) fn deliver_again(&mut self, sequence: u64, ctx: &mut Context<'_, impl Interest>) {
        match self.is_delivered_too_often(sequence) {
            true => self.give_up(sequence, ctx),
            false => self.progress.queue(sequence),
        }
        self.wake();
    }

    /// Tells whether a message was delivered as often as it may be.
    pub(super) fn is_delivered_too_often(&self, sequence: u64) -> bool {
        let most = u64::try_from(self.config.max_deliver).unwrap_or(0);
        let most = most + u64::from(most > 0 && bug(Bug::ConsumerDeliversTooOften));
        most > 0 && self.progress.deliveries(sequence) >= most
    }

    /// Stops delivering a message that was delivered as often as it may be. That it was is remembered, so that a stream that
    /// keeps messages by interest keeps it.
    ///
    /// Differs: at once when its last wait ends; the reference waits for the next pull request if more than one delivery
    /// was allowed.
    pub(super) fn give_up(&mut self, sequence: u64, ctx: &mut Context<'_, impl Interest>) {
        let most = u64::try_from(self.config.max_deliver).unwrap_or(0);
        let deliveries = self.progress.deliveries(sequence);
        self.advise_delivered_too_often(sequence, deliveries, ctx);
        self.progress.exhaust(sequence, most);
    }
}

fn answer(reply: &Bytes, ctx: &mut Context<'_, impl Interest>) {
    if !reply.is_empty() {
        ctx.out.push(Outgoing { to: reply.clone(), ..Outgoing::default() });
    }
}
