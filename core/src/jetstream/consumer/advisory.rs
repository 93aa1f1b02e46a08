//! What is published about a consumer: advisories and metrics. Nothing is put together for which nobody listens.

use super::Consumer;
use crate::ids::Nuid;
use crate::jetstream::api::ack::AckSubject;
use crate::jetstream::api::advisory::{
    self, AckSample, ConsumerGroupPinned, ConsumerGroupUnpinned, ConsumerPause, DeliveriesExceeded, Event,
    MessageNaked, MessageTerminated, Topic,
};
use crate::jetstream::context::{Context, Interest, Outgoing};
use crate::time::WallTime;

/// A delivery, as advisories name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Delivery {
    /// The message.
    pub(super) stream_sequence: u64,
    /// The delivery.
    pub(super) consumer_sequence: u64,
    /// How often the message was delivered.
    pub(super) deliveries: u64,
}

impl Delivery {
    pub(super) fn of(at: &AckSubject<'_>) -> Self {
        let AckSubject { stream_sequence, consumer_sequence, delivered: deliveries, .. } = *at;
        Delivery { stream_sequence, consumer_sequence, deliveries }
    }
}

impl Consumer {
    pub(super) fn advise_nak(&self, delivery: Delivery, ctx: &mut Context<'_, impl Interest>) {
        let Delivery { stream_sequence, consumer_sequence, deliveries } = delivery;
        let (stream, consumer, domain) = self.names();
        let event = MessageNaked { stream, consumer, consumer_sequence, stream_sequence, deliveries, domain };
        self.advise(Topic::ConsumerMessageNaked, &event, ctx);
    }

    pub(super) fn advise_terminated(
        &self,
        delivery: Delivery,
        reason: &str,
        ctx: &mut Context<'_, impl Interest>,
    ) {
        let Delivery { stream_sequence, consumer_sequence, deliveries } = delivery;
        let (stream, consumer, domain) = self.names();
        let event = MessageTerminated {
            stream,
            consumer,
            consumer_sequence,
            stream_sequence,
            deliveries,
            reason,
            domain,
        };
        self.advise(Topic::ConsumerMessageTerminated, &event, ctx);
    }

    pub(super) fn advise_delivered_too_often(
        &self,
        stream_sequence: u64,
        deliveries: u64,
        ctx: &mut Context<'_, impl Interest>,
    ) {
        let (stream, consumer, domain) = self.names();
        let event = DeliveriesExceeded { stream, consumer, stream_sequence, deliveries, domain };
        self.advise(Topic::ConsumerMaxDeliveries, &event, ctx);
    }

    /// Says that the consumer is paused, or no longer.
    pub(super) fn advise_pause(&self, ctx: &mut Context<'_, impl Interest>) {
        let pause_until = self.config.pause_until;
        let paused = pause_until.is_some_and(|until| until > ctx.now.wall);
        let (stream, consumer, domain) = self.names();
        self.advise(
            Topic::ConsumerPause,
            &ConsumerPause { stream, consumer, paused, pause_until, domain },
            ctx,
        );
    }

    pub(super) fn advise_pinned(&self, group: &str, pinned_id: &str, ctx: &mut Context<'_, impl Interest>) {
        let (stream, consumer, domain) = self.names();
        let account = &self.setup.account;
        let event = ConsumerGroupPinned { account, stream, consumer, domain, group, pinned_id };
        self.advise(Topic::ConsumerPinned, &event, ctx);
    }

    pub(super) fn advise_unpinned(&self, group: &str, reason: &str, ctx: &mut Context<'_, impl Interest>) {
        let (stream, consumer, domain) = self.names();
        let account = &self.setup.account;
        let event = ConsumerGroupUnpinned { account, stream, consumer, domain, group, reason };
        self.advise(Topic::ConsumerUnpinned, &event, ctx);
    }

    /// Publishes of some acknowledgements how long they took.
    pub(super) fn sample(
        &self,
        delivery: Delivery,
        delivered_at: WallTime,
        ctx: &mut Context<'_, impl Interest>,
    ) {
        if self.sampled == 0 || !ctx.rng.chance(self.sampled, 100) {
            return;
        }
        let Delivery { stream_sequence, consumer_sequence, deliveries } = delivery;
        let (stream, consumer, domain) = self.names();
        let delay = ctx.now.wall.since(delivered_at);
        let event =
            AckSample { stream, consumer, consumer_sequence, stream_sequence, delay, deliveries, domain };
        self.advise(Topic::ConsumerAck, &event, ctx);
    }

    fn names(&self) -> (&str, &str, &str) {
        (&self.setup.stream, &self.setup.name, &self.setup.domain)
    }

    fn advise(&self, topic: Topic, event: &impl Event, ctx: &mut Context<'_, impl Interest>) {
        let to = topic.subject(&[&self.setup.stream, &self.setup.name]);
        if ctx.interest.has_interest(&to) {
            let id = Nuid::new(ctx.rng.child()).next_id();
            let payload = advisory::payload(event, id, ctx.now.wall);
            ctx.out.push(Outgoing { to, payload, ..Outgoing::default() });
        }
    }
}
