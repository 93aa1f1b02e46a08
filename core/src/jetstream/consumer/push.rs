//! A push consumer's subscriber: whether there is one, how much it may be sent, and signs of life.
//!
//! Flow control, source: nats-server `server/consumer.go`, `needFlowControl`, `processFlowControl`, `sendIdleHeartbeat`. The
//! window starts at a sixteenth of the limit and doubles with each answer.

use bytes::Bytes;

use super::status::{idle_heartbeat, status};
use super::{Consumer, Mode, send_status};
use crate::jetstream::api::ack::write_flow_control_prefix;
use crate::jetstream::api::consumer_config::{AckPolicy, ConsumerConfig};
use crate::jetstream::context::{Context, Interest, Outgoing};
use crate::protocol::headers;
use crate::storage::consumer::SequencePair;
use crate::time::{Duration, Instant};

/// How many bytes may be on their way to a subscriber that has shown that it keeps up.
const LARGEST_WINDOW: u64 = 32 << 20;

/// A question to the subscriber that isn't answered yet.
#[derive(Clone, Debug)]
struct Question {
    /// Where the answer goes.
    reply: Bytes,
    /// How many bytes it is about.
    bytes: u64,
}

/// What a push consumer has.
#[derive(Clone, Debug)]
pub(super) struct Push {
    /// Where messages go.
    pub(super) subject: Bytes,
    /// Whether anybody listens there.
    active: bool,
    /// How many bytes may be on their way; zero for any number.
    window: u64,
    /// How many are.
    on_the_way: u64,
    question: Option<Question>,
    heartbeat: Duration,
    next_heartbeat: Option<Instant>,
}

impl Push {
    pub(super) fn new(config: &ConsumerConfig, interest: &impl Interest, now: Instant) -> Self {
        let heartbeat = config.heartbeat;
        let mut push = Push {
            subject: Bytes::copy_from_slice(config.deliver_subject.as_bytes()),
            active: false,
            window: if config.flow_control { LARGEST_WINDOW / 16 } else { 0 },
            on_the_way: 0,
            question: None,
            heartbeat,
            next_heartbeat: Some(now + heartbeat).filter(|_| !heartbeat.is_zero()),
        };
        push.look(config, interest);
        push
    }

    /// Looks whether anybody listens to the very subject, and returns that.
    ///
    /// Source: nats-server `server/sublist.go`, `registerNotification`: wildcards don't count, nor does another group.
    pub(super) fn look(&mut self, config: &ConsumerConfig, interest: &impl Interest) -> bool {
        self.active = interest.has_subscriber(&self.subject, config.deliver_group.as_bytes());
        self.active
    }

    /// Sends messages elsewhere.
    pub(super) fn redirect(&mut self, config: &ConsumerConfig, interest: &impl Interest) {
        self.subject = Bytes::copy_from_slice(config.deliver_subject.as_bytes());
        self.look(config, interest);
    }

    pub(super) fn is_active(&self) -> bool {
        self.active
    }

    /// Tells whether a message may be sent.
    pub(super) fn is_ready(&self) -> bool {
        self.active && (self.window == 0 || self.on_the_way <= self.window)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next_heartbeat
    }

    /// Notes that `bytes` were sent, and returns whether the subscriber is to be asked whether it has them.
    pub(super) fn sent(&mut self, bytes: u64, is_full: bool, now: Instant) -> bool {
        if self.next_heartbeat.is_some() {
            self.next_heartbeat = Some(now + self.heartbeat);
        }
        if self.window == 0 {
            return false;
        }
        self.on_the_way += bytes;
        match &mut self.question {
            None => self.on_the_way > self.window / 2 || is_full,
            Some(question) => {
                if self.on_the_way.saturating_sub(question.bytes) >= self.window {
                    question.bytes += bytes;
                }
                false
            }
        }
    }

    /// Notes that the subscriber answered; `false` if that was not what it was asked.
    fn answered(&mut self, subject: &[u8]) -> bool {
        let Some(question) = self.question.take_if(|question| question.reply == subject) else {
            return false;
        };
        self.window = (self.window * 2).min(LARGEST_WINDOW);
        self.on_the_way = self.on_the_way.saturating_sub(question.bytes);
        true
    }
}

impl Consumer {
    /// Asks the subscriber to answer when it has what was sent so far.
    pub(super) fn ask_subscriber(&mut self, ctx: &mut Context<'_, impl Interest>) {
        const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let Mode::Push(push) = &mut self.mode else { return };
        let mut reply = Vec::with_capacity(64);
        write_flow_control_prefix(self.setup.stream.as_bytes(), self.setup.name.as_bytes(), &mut reply);
        reply.extend((0..4).map(|_| DIGITS[ctx.rng.below(62) as usize]));
        let reply = Bytes::from(reply);
        push.question = Some(Question { reply: reply.clone(), bytes: push.on_the_way });
        let headers = status(100, "FlowControl Request");
        ctx.out.push(Outgoing { to: push.subject.clone(), reply, headers, ..Outgoing::default() });
    }

    /// Takes the subscriber's answer, which came on `subject`.
    pub fn flow_control_answered(
        &mut self,
        subject: &[u8],
        answer_headers: &[u8],
        ctx: &mut Context<'_, impl Interest>,
    ) {
        let Mode::Push(push) = &mut self.mode else { return };
        if !push.answered(subject) {
            return;
        }
        self.wake();
        if self.config.ack_policy == AckPolicy::FlowControl {
            let number = |key: &[u8]| {
                let value = headers::get(answer_headers, key)?;
                std::str::from_utf8(value).ok()?.parse::<u64>().ok()
            };
            if let Some(stream) = number(b"Nats-Last-Stream").filter(|stream| *stream > 0) {
                let consumer = number(b"Nats-Last-Consumer").unwrap_or(0);
                self.acknowledge_through(SequencePair { consumer, stream }, ctx);
            }
        }
        self.finish(ctx);
    }

    /// Sends the heartbeat that is due.
    pub(super) fn tend_push(&mut self, ctx: &mut Context<'_, impl Interest>) {
        let (delivered, next) = (self.progress.delivered(), self.cursor.next());
        let Mode::Push(push) = &mut self.mode else { return };
        let now = ctx.now.instant;
        if push.next_heartbeat.take_if(|due| *due <= now).is_none() {
            return;
        }
        push.next_heartbeat = Some(now + push.heartbeat);
        if !push.active {
            return;
        }
        let stalled = push.question.as_ref().map(|question| &*question.reply);
        send_status(ctx.out, &push.subject, idle_heartbeat(delivered.consumer, next - 1, stalled));
        // Where answers acknowledge, what is pending is asked for at the end of the stream too.
        let asks = self.config.ack_policy == AckPolicy::FlowControl && push.question.is_none();
        if asks && !self.progress.pending().is_empty() {
            self.ask_subscriber(ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Listens;

    impl Interest for Listens {
        fn has_interest(&self, _subject: &[u8]) -> bool {
            true
        }

        fn has_subscriber(&self, _subject: &[u8], _group: &[u8]) -> bool {
            true
        }
    }

    /// However long each answer takes: what is on the way meanwhile grows until the way is full.
    #[test]
    fn who_keeps_up_is_sent_more_before_each_answer() {
        let config = ConsumerConfig {
            deliver_subject: "d".to_owned(),
            flow_control: true,
            ..ConsumerConfig::default()
        };
        let mut push = Push::new(&config, &Listens, Instant::ZERO);
        let mut on_the_way = Vec::new();
        for _ in 0..7 {
            while push.is_ready() {
                if push.sent(1 << 20, false, Instant::ZERO) {
                    let reply = Bytes::from_static(b"question");
                    push.question = Some(Question { reply, bytes: push.on_the_way });
                }
            }
            on_the_way.push(push.on_the_way >> 20);
            assert!(!push.answered(b"another") && !push.is_ready());
            assert!(push.answered(b"question") && push.is_ready());
        }
        assert_eq!(on_the_way, [3, 5, 9, 17, 33, 33, 33]);
    }
}
