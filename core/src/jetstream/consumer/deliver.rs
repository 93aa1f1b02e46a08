//! One message after the other to whoever is to get it.

use bytes::{Bytes, BytesMut};

use super::waiting::{Served, Slot};
use super::{Consumer, Mode, cursor, send_status, status};
use crate::jetstream::api::ack::AckSubject;
use crate::jetstream::api::consumer_config::AckPolicy;
use crate::jetstream::context::{Answer, Context, Interest, Messages, Outgoing};
use crate::protocol::headers;
use crate::storage::{Message, Retention};
use crate::time::Instant;

/// How many messages one call delivers at most.
const STEP_MESSAGES: usize = 64;

/// How many bytes one call delivers at most, but for its last message.
const STEP_BYTES: usize = 1 << 20;

/// How an advance ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is more to do: call again, after others had their turn.
    More,
    /// There is nothing to do until something happens.
    Idle,
    /// The disk is waited for: call again when it has said something.
    Wait,
}

/// What became of the attempt to deliver a message.
enum Attempt {
    /// One was delivered; so many bytes.
    Delivered(usize),
    /// None was, but the next attempt may go on.
    Again,
    /// There is nobody, or nothing, or it isn't time; those who don't wait get to hear of it.
    Nothing,
    /// As many are pending as may be, or the next one's time hasn't come.
    NotNow,
    /// The disk is waited for.
    Wait,
}

/// Who gets a message.
#[derive(Clone, Copy)]
enum Recipient {
    Subscriber,
    Request(Slot),
}

impl Consumer {
    /// Does what there is to do: finds out where to start, looks for what is gone, delivers. One call delivers at most 64
    /// messages or a mebibyte.
    pub fn advance(&mut self, ctx: &mut Context<'_, impl Interest>, messages: &mut impl Messages) -> Step {
        let step = match self.prepare(messages) {
            Answer::Wait => Step::Wait,
            Answer::Ready(()) => match self.check_pending(ctx.now.wall, messages) {
                Step::Idle => self.deliver(ctx, messages),
                step => step,
            },
        };
        self.idle = step == Step::Idle;
        self.finish(ctx);
        step
    }

    /// Finds out where to start, and how far a replay goes.
    pub(super) fn prepare(&mut self, messages: &mut impl Messages) -> Answer<()> {
        if !self.started {
            let made = self.start_again.then_some(self.setup.created);
            let Answer::Ready(start) = cursor::start(&self.config, &self.filters, made, messages) else {
                return Answer::Wait;
            };
            self.progress.restart_after(start.next - 1);
            self.progress.set_last_only_through(start.last_only_through);
            self.cursor = cursor::Cursor::behind(start.next - 1, start.last_only_through);
            self.started = true;
            self.entries.start();
        }
        if self.pacing.wants_last_sequence() {
            let Answer::Ready(last) = messages.ask(|ledger| Ok(ledger.last_sequence())) else {
                return Answer::Wait;
            };
            self.pacing.set_last_sequence(last);
        }
        // Whoever is told how much is left is told it at once from now on.
        self.cursor.count(&self.filters, messages).map(|_| ())
    }

    fn deliver(&mut self, ctx: &mut Context<'_, impl Interest>, messages: &mut impl Messages) -> Step {
        let mut bytes = 0;
        for _ in 0..STEP_MESSAGES {
            crate::planted::work();
            match self.deliver_next(ctx, messages) {
                Attempt::Delivered(size) => bytes += size,
                Attempt::Again => {}
                Attempt::Nothing => {
                    self.pacing.caught_up(self.cursor.next());
                    if let Mode::Pull(pull) = &mut self.mode {
                        pull.end_those_that_do_not_wait(ctx);
                    }
                    return Step::Idle;
                }
                Attempt::NotNow => return Step::Idle,
                Attempt::Wait => return Step::Wait,
            }
            if bytes >= STEP_BYTES {
                break;
            }
        }
        Step::More
    }

    fn deliver_next(
        &mut self,
        ctx: &mut Context<'_, impl Interest>,
        messages: &mut impl Messages,
    ) -> Attempt {
        let now = ctx.now.instant;
        if self.pacing.is_paused() || !self.has_demand() {
            return Attempt::Nothing;
        }
        if self.pacing.holds_back(now) {
            return Attempt::NotNow;
        }
        let Answer::Ready(left) = self.cursor.count(&self.filters, messages) else { return Attempt::Wait };
        let queued = self.progress.queued();
        let again = queued.is_some();
        let sequence = match queued {
            Some(sequence) if self.is_delivered_too_often(sequence) => {
                self.give_up(sequence, ctx);
                return Attempt::Again;
            }
            Some(sequence) => sequence,
            None if self.is_full() => return Attempt::NotNow,
            None => match self.cursor.peek(&self.filters, messages) {
                Answer::Wait => return Attempt::Wait,
                Answer::Ready(None) => return Attempt::Nothing,
                Answer::Ready(Some(sequence)) => sequence,
            },
        };
        let recipient = match &self.mode {
            Mode::Push(_) => Recipient::Subscriber,
            Mode::Pull(_) => match self.next_waiting(left + u64::from(again), ctx) {
                Some(slot) => Recipient::Request(slot),
                None => return Attempt::Nothing,
            },
        };
        let message = match messages.load(sequence) {
            Answer::Wait => return Attempt::Wait,
            Answer::Ready(Some(message)) => message,
            Answer::Ready(None) => {
                match again {
                    true => self.lose(sequence, true, ctx),
                    // Damaged, or gone and we haven't heard: what is left is counted anew.
                    false => {
                        self.cursor.take(sequence);
                        self.cursor.recount();
                    }
                }
                return Attempt::Again;
            }
        };
        let left = if again { left } else { left.saturating_sub(1) };
        self.hand_over(&message, again, left, recipient, ctx)
    }

    /// Hands a message to whom it is for, if it is time and there is room for it.
    fn hand_over(
        &mut self,
        message: &Message,
        again: bool,
        left: u64,
        recipient: Recipient,
        ctx: &mut Context<'_, impl Interest>,
    ) -> Attempt {
        let now = ctx.now;
        let reply = self.ack_subject(message, again, left);
        let (mut headers, payload) = match self.config.headers_only {
            true => (without_payload(message), Bytes::new()),
            false => (message.headers.clone(), message.payload.clone()),
        };
        let size = message.subject.len() + reply.len() + headers.len() + payload.len();
        if let Recipient::Request(slot) = recipient
            && !self.has_room(slot, size, ctx)
        {
            return Attempt::Again;
        }
        if !self.pacing.allows(message.time, size as u64, now.instant) {
            return Attempt::NotNow;
        }
        let to = match (recipient, &mut self.mode) {
            (Recipient::Request(slot), Mode::Pull(pull)) => {
                let Some(to) = pull.waiting.get(slot).map(|request| request.reply.clone()) else {
                    return Attempt::Again;
                };
                if let Some(pin) = &mut pull.pin {
                    pin.is_fresh = false;
                    let mut block = headers.to_vec();
                    headers::set(&mut block, b"Nats-Pin-Id", pin.id.as_bytes());
                    headers = block.into();
                }
                if let Served::Done(done) = pull.waiting.served(slot, size as i64, now.instant)
                    && done.bytes > 0
                {
                    self.completed = Some((to.clone(), done.wanted, done.bytes));
                }
                to
            }
            (_, Mode::Push(push)) => push.subject.clone(),
            (Recipient::Subscriber, Mode::Pull(_)) => return Attempt::Nothing,
        };
        let sent = to.len() + reply.len() + headers.len() + payload.len();
        let subject = message.subject.clone();
        ctx.out.push(Outgoing { to, subject, reply, headers, payload });
        self.note_delivery(message, again, ctx);
        self.pacing.delivered(message.time, size as u64, again, now.instant);
        if let Some((to, messages, bytes)) = self.completed.take() {
            send_status(ctx.out, &to, status::with_pending(409, "Batch Completed", messages, bytes));
        }
        self.control_flow(sent as u64, ctx);
        Attempt::Delivered(size)
    }

    /// Tells whether a message fits in what a request still takes. One in which it doesn't fit ends.
    fn has_room(&mut self, slot: Slot, size: usize, ctx: &mut Context<'_, impl Interest>) -> bool {
        let Mode::Pull(pull) = &mut self.mode else { return true };
        let too_small = |bytes: i64| bytes > 0 && bytes < size as i64;
        if !pull.waiting.get(slot).is_some_and(|request| too_small(request.bytes)) {
            return true;
        }
        let Some(request) = pull.waiting.remove(slot) else { return false };
        let block = status::with_pending(409, "Message Size Exceeds MaxBytes", request.wanted, request.bytes);
        send_status(ctx.out, &request.reply, block);
        // It was pinned for this message.
        pull.pin.take_if(|pin| pin.is_fresh);
        false
    }

    /// Returns where a message is acknowledged.
    fn ack_subject(&mut self, message: &Message, again: bool, left: u64) -> Bytes {
        let mut subject = std::mem::take(&mut self.scratch);
        subject.clear();
        AckSubject {
            stream: self.setup.stream.as_bytes(),
            consumer: self.setup.name.as_bytes(),
            delivered: if again { self.progress.deliveries(message.sequence) + 1 } else { 1 },
            stream_sequence: message.sequence,
            consumer_sequence: self.progress.delivered().consumer + 1,
            time: message.time,
            pending: left,
        }
        .write(&mut subject);
        let reply = Bytes::copy_from_slice(&subject);
        self.scratch = subject;
        reply
    }

    fn note_delivery(&mut self, message: &Message, again: bool, ctx: &mut Context<'_, impl Interest>) {
        let (now, sequence) = (ctx.now, message.sequence);
        let acknowledged = self.config.ack_policy != AckPolicy::None;
        if !again {
            self.cursor.take(sequence);
            self.progress.set_last_only_through(self.cursor.last_only_through());
        }
        self.progress.deliver(sequence, again, now.wall, acknowledged);
        if acknowledged {
            let deadline = self.ack_wait(sequence).map_or(Instant::MAX, |wait| now.instant + wait);
            self.progress.touch(sequence, now.wall, deadline);
        } else if self.setup.retention != Retention::Limits {
            // Delivered is done.
            self.entries.acknowledged(sequence);
        }
        self.last_delivery = Some(now.wall);
        self.active_at = now.instant;
    }

    /// Asks the subscriber of a push consumer whether it keeps up, where that is wanted.
    fn control_flow(&mut self, bytes: u64, ctx: &mut Context<'_, impl Interest>) {
        let is_full = self.config.ack_policy == AckPolicy::FlowControl && self.is_full();
        if let Mode::Push(push) = &mut self.mode
            && push.sent(bytes, is_full, ctx.now.instant)
        {
            self.ask_subscriber(ctx);
        }
    }
}

/// Returns the headers of a message with the size of the payload that is left out.
fn without_payload(message: &Message) -> Bytes {
    let mut block = message.headers.to_vec();
    let mut number = itoa::Buffer::new();
    headers::add(&mut block, b"Nats-Msg-Size", number.format(message.payload.len()).as_bytes());
    BytesMut::from(&block[..]).freeze()
}
