//! What is told about a consumer.

use super::{Consumer, Mode};
use crate::jetstream::api::consumer_config::AckPolicy;
use crate::jetstream::api::response::{ConsumerInfo, PriorityGroupState, SequenceInfo};
use crate::jetstream::api::write::ZERO_TIME;
use crate::jetstream::context::{Answer, Context, Interest, Messages};
use crate::storage::consumer::SequencePair;
use crate::time::WallTime;

impl Consumer {
    /// Returns what there is to say about it. Pull requests whose clients are gone don't count, and are dropped.
    pub fn info(
        &mut self,
        ctx: &mut Context<'_, impl Interest>,
        messages: &mut impl Messages,
    ) -> Answer<ConsumerInfo> {
        // Before it has started, what is left is that behind where it will start.
        if !self.started && self.prepare(messages) == Answer::Wait {
            return Answer::Wait;
        }
        let Answer::Ready(num_pending) = self.cursor.count(&self.filters, messages) else {
            return Answer::Wait;
        };
        if let Mode::Pull(pull) = &mut self.mode {
            pull.drop_without_interest(ctx);
        }
        let at = |at: SequencePair, last: Option<WallTime>| SequenceInfo {
            consumer: at.consumer,
            stream: at.stream,
            last,
        };
        // With one delivery there are none again; what reached that number is kept among them all the same.
        let num_redelivered = match self.config.max_deliver {
            1 => 0,
            _ => self.progress.redelivered().len() as u64,
        };
        let pause_remaining =
            self.config.pause_until.map(|until| until.since(ctx.now.wall)).unwrap_or_default();
        Answer::Ready(ConsumerInfo {
            stream: self.setup.stream.clone(),
            name: self.setup.name.clone(),
            created: self.setup.created,
            config: (*self.config).clone(),
            delivered: at(self.progress.delivered(), self.last_delivery),
            ack_floor: at(self.progress.ack_floor(), self.last_ack),
            num_ack_pending: self.num_ack_pending(),
            num_redelivered,
            num_waiting: match &self.mode {
                Mode::Pull(pull) => pull.waiting.len() as u64,
                Mode::Push(_) => 0,
            },
            num_pending,
            cluster: None,
            push_bound: matches!(&self.mode, Mode::Push(push) if push.is_active()),
            paused: !pause_remaining.is_zero(),
            pause_remaining,
            time: ctx.now.wall,
            priority_groups: self.groups(),
        })
    }

    fn num_ack_pending(&self) -> u64 {
        match self.config.ack_policy {
            AckPolicy::None => 0,
            _ => self.progress.pending().len() as u64,
        }
    }

    /// Returns the states of its groups, of which there is at most one.
    fn groups(&self) -> Vec<PriorityGroupState> {
        let pin = match &self.mode {
            Mode::Pull(pull) => pull.pin.as_ref(),
            Mode::Push(_) => None,
        };
        let group = self.config.priority_groups.first().map(|group| PriorityGroupState {
            group: group.clone(),
            pinned_client_id: pin.map_or_else(String::new, |pin| pin.id.clone()),
            pinned_time: pin.map_or(ZERO_TIME, |pin| pin.since),
        });
        group.into_iter().collect()
    }
}
