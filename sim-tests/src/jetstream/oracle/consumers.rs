//! What is known of consumers.

use std::collections::{BTreeMap, BTreeSet};

use natrix_runtime_sim::queue::SimTime;

use super::{Oracle, subject_name};
use crate::jetstream::report::Rule;
use crate::jetstream::text::AckReply;

/// Who got a message: a client, and which of its connections.
pub(crate) type Who = (u16, u32);

/// The last delivery of a message.
#[derive(Clone, Copy, Debug)]
struct Last {
    /// It was sent at this time or later.
    earliest: u64,
    epoch: u32,
    /// The consumer's number for it.
    delivery: u64,
    /// Somebody asked for it to be delivered again.
    asked: bool,
}

/// One life of a consumer.
#[derive(Clone, Debug, Default)]
pub(crate) struct ConsumerLife {
    /// When its creation was answered.
    pub(crate) created: Option<SimTime>,
    /// It was made behind this sequence, or behind one before.
    pub(crate) base: u64,
    /// Nothing up to here is delivered.
    least: u64,
    /// What somebody has sent an acknowledgement of.
    acks: BTreeSet<u64>,
    /// The highest of these.
    through: u64,
    /// What the server has confirmed, when and in which epoch.
    synced: BTreeMap<u64, (SimTime, u32)>,
    last: BTreeMap<u64, Last>,
    /// What was delivered at some time.
    pub(crate) delivered: BTreeSet<u64>,
    /// The last delivery and the last first delivery that each connection heard of.
    heard: BTreeMap<Who, (u64, u64)>,
}

impl ConsumerLife {
    /// Tells whether somebody may have acknowledged a message.
    pub(crate) fn is_acknowledged(&self, sequence: u64, all: bool) -> bool {
        self.acks.contains(&sequence) || (all && sequence <= self.through)
    }

    /// Tells whether the server has confirmed that a message is acknowledged.
    pub(crate) fn is_synced(&self, sequence: u64) -> bool {
        self.synced.contains_key(&sequence)
    }
}

/// A message as a client got it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) consumer: usize,
    pub(crate) epoch: u32,
    pub(crate) who: Who,
    pub(crate) reply: AckReply,
    pub(crate) subject: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// When it was asked for, if it was.
    pub(crate) asked: Option<SimTime>,
}

impl Oracle {
    /// Returns which life of a consumer a connection of `epoch` sees.
    pub(crate) fn consumer_life_of(&self, consumer: usize, epoch: u32) -> u32 {
        let plan = &self.plan.consumers[consumer];
        if plan.memory || self.plan.streams[plan.stream].memory { epoch } else { 0 }
    }

    pub(crate) fn consumer(&mut self, consumer: usize, epoch: u32) -> &mut ConsumerLife {
        let life = self.consumer_life_of(consumer, epoch);
        self.consumers[consumer].entry(life).or_default()
    }

    /// A consumer is there: its creation was answered.
    pub(crate) fn consumer_created(&mut self, consumer: usize, epoch: u32, base: u64, sure: bool) {
        let now = self.now;
        let life = self.consumer(consumer, epoch);
        if life.created.is_none() {
            (life.created, life.base, life.least) = (Some(now), base, if sure { base } else { 0 });
        }
    }

    /// Not all is known of how far a consumer was before this life of the server: it may deliver again what was acknowledged then, and
    /// passes over nothing all the same. One that wants what is new goes by the time at which it was made.
    pub(crate) fn forgets(&mut self, consumer: usize) {
        let epoch = self.epoch;
        if self.consumer_life_of(consumer, epoch) != 0 {
            return;
        }
        let life = self.consumer(consumer, epoch);
        life.synced.retain(|_, (_, then)| *then >= epoch);
        life.least = 0;
        self.tally.hit("consumer-forgot");
    }

    /// A client got a message of a consumer.
    pub(crate) fn delivered(&mut self, delivery: Delivery<'_>) {
        let Delivery { consumer, epoch, who, reply, subject, payload, asked } = delivery;
        let plan = self.plan.consumers[consumer];
        let Some(number) = self.token_of(plan.stream, subject, payload) else { return };
        self.learn(epoch, reply.sequence, number, "delivered");
        self.deliveries += 1;
        let token = &self.tokens[number as usize];
        let (published, of_subject) = (token.sent, token.subject);
        if plan.filter.is_some_and(|filter| filter != of_subject) {
            let subject = subject_name(plan.stream, of_subject);
            self.violate(
                Rule::Phantom,
                format!("consumer {consumer} doesn't want {subject} and gets {}", reply.sequence),
            );
        }
        let earliest = asked.unwrap_or(published).max(published);
        self.check_gone(epoch, plan.stream, reply.sequence, number, asked.unwrap_or(SimTime(0)));
        self.check_order(consumer, epoch, who, reply);
        self.check_wait(consumer, epoch, reply, earliest, asked);
        if reply.count > 1 {
            self.tally.hit("redelivered");
        }
        self.consumer(consumer, epoch).delivered.insert(reply.sequence);
    }

    fn check_order(&mut self, consumer: usize, epoch: u32, who: Who, reply: AckReply) {
        let AckReply { sequence, delivery, count, .. } = reply;
        let life = self.consumer(consumer, epoch);
        let base = life.least;
        let (last, first) = life.heard.entry(who).or_default();
        let (before, before_first) = (*last, *first);
        *last = delivery;
        if count == 1 {
            *first = sequence;
        }
        if delivery <= before {
            let text = format!("consumer {consumer}: delivery {delivery} comes to {who:?} behind {before}");
            self.violate(Rule::Order, text);
        }
        if count == 1 && sequence <= before_first {
            let text =
                format!("consumer {consumer}: message {sequence} comes to {who:?} behind {before_first}");
            self.violate(Rule::Order, text);
        }
        if sequence <= base {
            let text = format!("consumer {consumer} was made behind {base} and delivers {sequence}");
            self.violate(Rule::Phantom, text);
        }
    }

    fn check_wait(
        &mut self,
        consumer: usize,
        epoch: u32,
        reply: AckReply,
        earliest: SimTime,
        asked: Option<SimTime>,
    ) {
        let (wait, now) = (self.plan.consumers[consumer].ack_wait, self.now);
        let sequence = reply.sequence;
        let life = self.consumer(consumer, epoch);
        if let Some((answered, then)) = life.synced.get(&sequence).copied()
            && (epoch > then || asked.is_some_and(|asked| asked > answered))
        {
            let text = format!(
                "consumer {consumer} delivers {sequence}, which was acknowledged for good at {answered:?}"
            );
            return self.violate(Rule::DoubleAck, text);
        }
        let before = life.last.get(&sequence).copied().filter(|last| last.epoch == epoch);
        if before.is_some_and(|before| before.delivery > reply.delivery) {
            // It was sent before one that another client has heard of already.
            return;
        }
        let mut earliest = earliest.0;
        let mut early = None;
        if let Some(before) = before
            && !before.asked
        {
            // Clocks may be fast by a few hundred parts of a million.
            let least = before.earliest + wait - wait / 1000;
            early = least.checked_sub(now.0).filter(|early| *early > 0);
            earliest = earliest.max(least);
        }
        life.last.insert(sequence, Last { earliest, epoch, delivery: reply.delivery, asked: false });
        if let Some(early) = early {
            let text = format!(
                "consumer {consumer} delivers {sequence} again {} us before its wait is over, as delivery {}",
                early / 1000,
                reply.delivery
            );
            self.violate(Rule::AckWait, text);
        }
    }

    /// Somebody sends an acknowledgement.
    pub(crate) fn acknowledges(&mut self, consumer: usize, epoch: u32, sequence: u64) {
        let life = self.consumer(consumer, epoch);
        life.acks.insert(sequence);
        life.through = life.through.max(sequence);
    }

    /// Somebody asks for a message to be delivered again.
    pub(crate) fn refuses(&mut self, consumer: usize, epoch: u32, sequence: u64) {
        if let Some(last) = self.consumer(consumer, epoch).last.get_mut(&sequence) {
            last.asked = true;
        }
    }

    /// The server has confirmed an acknowledgement.
    pub(crate) fn acknowledged(&mut self, consumer: usize, epoch: u32, sequence: u64) {
        let (now, all) = (self.now, self.plan.consumers[consumer].ack_all);
        let life = self.consumer(consumer, epoch);
        let which: Vec<u64> = match all {
            true => life.delivered.range(..=sequence).copied().collect(),
            false => vec![sequence],
        };
        for sequence in which {
            life.synced.entry(sequence).or_insert((now, epoch));
        }
        self.tally.hit("double-ack");
        self.tempting = self.tempting.max(3);
    }

    /// A consumer says that everything through `floor` is acknowledged.
    pub(crate) fn check_floor(&mut self, consumer: usize, epoch: u32, floor: u64) {
        let plan = self.plan.consumers[consumer];
        let at = self.life_of(plan.stream, epoch);
        let known = self.consumer(consumer, epoch);
        if plan.new && known.created.is_none() {
            return;
        }
        let base = known.base;
        let life = self.consumer_life_of(consumer, epoch);
        let Some(known) = self.lives[plan.stream].get(&at) else { return };
        let passed = known.sequences.range(base + 1..(floor + 1).max(base + 1)).find(|(sequence, number)| {
            let token = &self.tokens[**number as usize];
            plan.filter.is_none_or(|filter| filter == token.subject)
                && !self.consumers[consumer][&life].is_acknowledged(**sequence, plan.ack_all)
                && self.excuse(plan.stream, at, **sequence, **number).is_none()
        });
        if let Some((sequence, _)) = passed {
            let text = format!(
                "the ack floor of consumer {consumer} is {floor}, and nobody acknowledged {sequence}"
            );
            self.violate(Rule::Floor, text);
        }
    }
}
