//! Pull requests: what is refused, what waits, and how waiting ends.

use bytes::Bytes;

use super::priority::Pin;
use super::status::{idle_heartbeat, status, with_pending};
use super::waiting::{Slot, Waiting, WaitingRequests};
use super::{Consumer, Mode, send_status};
use crate::config::format_duration;
use crate::jetstream::api::consumer_config::PriorityPolicy;
use crate::jetstream::api::level;
use crate::jetstream::api::request::NextRequest;
use crate::jetstream::api::write::nanos;
use crate::jetstream::context::{Context, Interest};
use crate::planted::{self, Bug};
use crate::time::{Duration, Instant};

/// How often many requests are searched for those whose clients are gone.
const SEARCH_INTERVAL: Duration = Duration::from_secs(1);

/// So few requests are looked at whenever that helps.
const FEW: usize = 1024;

/// No request asks for more than this; so that sums don't overflow.
const MOST: i64 = 1 << 40;

/// What a pull consumer has.
#[derive(Debug, Default)]
pub(super) struct Pull {
    /// The requests that wait.
    pub(super) waiting: WaitingRequests,
    /// The client that gets all messages, if one is pinned.
    pub(super) pin: Option<Pin>,
    /// Nobody who waits wants a message until so many are left, or so many pending (`PriorityPolicy::Overflow`).
    pub(super) unwanted_below: Option<(i64, i64)>,
    /// When requests without interest were looked for last.
    searched_at: Option<Instant>,
}

impl Consumer {
    /// Takes a pull request.
    pub fn next_request(
        &mut self,
        reply: &Bytes,
        headers: &[u8],
        body: &[u8],
        ctx: &mut Context<'_, impl Interest>,
    ) {
        if reply.is_empty() {
            return;
        }
        let refused = if self.config.is_push() {
            Err(status(409, "Consumer is push based"))
        } else if level::requires_too_much(headers) {
            Err(status(412, "Required Api Level"))
        } else {
            self.take_request(reply, body, ctx)
        };
        if let Err(refusal) = refused.map(|()| self.wake()) {
            send_status(ctx.out, reply, refusal);
        }
        self.finish(ctx);
    }

    fn take_request(
        &mut self,
        reply: &Bytes,
        body: &[u8],
        ctx: &mut Context<'_, impl Interest>,
    ) -> Result<(), Bytes> {
        let request =
            NextRequest::parse(body).map_err(|error| status(400, &format!("Bad Request - {error}")))?;
        self.check_limits(&request)?;
        self.check_group(&request, ctx.now.instant)?;
        let most = usize::try_from(self.config.max_waiting).unwrap_or(0);
        let Mode::Pull(pull) = &mut self.mode else { return Ok(()) };
        let now = ctx.now.instant;
        if pull.waiting.len() >= most && pull.may_search(now) {
            pull.drop_without_interest(ctx);
        }
        self.active_at = now;
        if request.no_wait {
            self.check_no_wait(&request, ctx)?;
        }
        let Mode::Pull(pull) = &mut self.mode else { return Ok(()) };
        if pull.waiting.len() >= most {
            // A client that would hear of missing heartbeats tries again then, and not in a hot loop now.
            return match request.heartbeat.is_zero() {
                true => Err(status(409, "Exceeded MaxWaiting")),
                false => Ok(()),
            };
        }
        let lane = lane(&request, self.config.priority_policy);
        pull.unwanted_below = None;
        let mut waiting = Waiting::new(reply.clone(), request.batch.clamp(-MOST, MOST));
        waiting.bytes = request.max_bytes;
        waiting.expires = request.expires.map(|expires| now + expires);
        waiting.no_wait = request.no_wait;
        waiting.heartbeat = request.heartbeat;
        waiting.next_heartbeat = Some(now + request.heartbeat).filter(|_| !request.heartbeat.is_zero());
        waiting.group = request.priority.map(Box::new);
        pull.waiting.add(lane, waiting);
        Ok(())
    }

    fn check_limits(&self, request: &NextRequest) -> Result<(), Bytes> {
        let config = &self.config;
        let exceeded = |what: &str| Err(status(409, &format!("Exceeded {what}")));
        if config.max_request_batch > 0 && request.batch > config.max_request_batch {
            return exceeded(&format!("MaxRequestBatch of {}", config.max_request_batch));
        }
        let longest = config.max_request_expires;
        if !longest.is_zero() && request.expires.is_some_and(|expires| expires > longest) {
            return exceeded(&format!("MaxRequestExpires of {}", format_duration(nanos(longest))));
        }
        if config.max_request_max_bytes > 0 && request.max_bytes > config.max_request_max_bytes {
            return exceeded(&format!("MaxRequestMaxBytes of {}", config.max_request_max_bytes));
        }
        Ok(())
    }

    /// Ends a request at once that takes only what is there, if there isn't enough.
    fn check_no_wait(
        &mut self,
        request: &NextRequest,
        ctx: &mut Context<'_, impl Interest>,
    ) -> Result<(), Bytes> {
        // Before it is counted what is left, the request waits to find out.
        let Some(left) = self.cursor.left() else { return Ok(()) };
        let there = left + self.progress.queue_len() as u64;
        if there == 0 && request.expires.is_none() {
            return Err(status(404, "No Messages"));
        }
        if let Mode::Pull(pull) = &mut self.mode
            && there > 0
            && i64::try_from(there).unwrap_or(i64::MAX) < pull.waiting.wanted()
        {
            // Those whose clients are gone want nothing.
            if pull.waiting.len() <= FEW || pull.may_search(ctx.now.instant) {
                pull.drop_without_interest(ctx);
            }
            if i64::try_from(there).unwrap_or(i64::MAX) < pull.waiting.wanted() {
                return Err(status(408, "Requests Pending"));
            }
        }
        Ok(())
    }

    /// Ends requests that have expired, and sends heartbeats that are due; at most `limit` of them.
    pub(super) fn tend_waiting(&mut self, limit: usize, ctx: &mut Context<'_, impl Interest>) {
        let (delivered, next) = (self.progress.delivered(), self.cursor.next());
        let Mode::Pull(pull) = &mut self.mode else { return };
        let now = ctx.now.instant;
        for _ in 0..limit {
            let Some(slot) = pull.waiting.due(now) else { return };
            let Some(request) = pull.waiting.get_mut(slot) else { return };
            let expired = request.expires.is_some_and(|expires| expires <= now);
            if expired && planted::bug(Bug::JsPullUnanswered) {
                pull.waiting.remove(slot);
            } else if expired {
                pull.time_out(slot, ctx);
            } else if ctx.interest.has_interest(&request.reply) {
                let block = idle_heartbeat(delivered.consumer, next - 1, None);
                request.next_heartbeat = Some(now + request.heartbeat);
                send_status(ctx.out, &request.reply, block);
                pull.waiting.rearm(slot);
            } else {
                pull.waiting.remove(slot);
            }
        }
    }

    /// Ends all requests, each with a word.
    pub(super) fn release(&mut self, ctx: &mut Context<'_, impl Interest>, word: impl Fn(&Waiting) -> Bytes) {
        let Mode::Pull(pull) = &mut self.mode else { return };
        while let Some((_, slot)) = pull.waiting.front(0) {
            let Some(request) = pull.waiting.remove(slot) else { return };
            send_status(ctx.out, &request.reply, word(&request));
        }
    }
}

impl Pull {
    /// Ends a request whose time is over.
    pub(super) fn time_out(&mut self, slot: Slot, ctx: &mut Context<'_, impl Interest>) {
        if let Some(request) = self.waiting.remove(slot) {
            send_status(ctx.out, &request.reply, timed_out(&request));
        }
    }

    /// Ends the requests that don't wait when there is nothing to deliver.
    pub(super) fn end_those_that_do_not_wait(&mut self, ctx: &mut Context<'_, impl Interest>) {
        while let Some(slot) = self.waiting.first_at_the_end() {
            let Some(request) = self.waiting.remove(slot) else { return };
            let block = match request.expires.is_some_and(|expires| expires <= ctx.now.instant) {
                true => timed_out(&request),
                false => status(404, "No Messages"),
            };
            send_status(ctx.out, &request.reply, block);
        }
    }

    /// Tells whether it is time to look at all requests again.
    fn may_search(&self, now: Instant) -> bool {
        self.searched_at.is_none_or(|last| now - last > SEARCH_INTERVAL)
    }

    /// Drops the requests whose clients are gone.
    pub(super) fn drop_without_interest(&mut self, ctx: &mut Context<'_, impl Interest>) {
        self.searched_at = Some(ctx.now.instant);
        let gone = |slot: &Slot| {
            self.waiting.get(*slot).is_none_or(|request| !ctx.interest.has_interest(&request.reply))
        };
        let gone: Vec<Slot> = self.waiting.slots().filter(gone).collect();
        for slot in gone {
            self.waiting.remove(slot);
        }
    }
}

fn timed_out(request: &Waiting) -> Bytes {
    with_pending(408, "Request Timeout", request.wanted, request.bytes)
}

/// Returns the lane that a request waits in.
fn lane(request: &NextRequest, policy: PriorityPolicy) -> u8 {
    let group = request.priority.as_ref();
    match policy {
        PriorityPolicy::None | PriorityPolicy::Overflow => 0,
        PriorityPolicy::PinnedClient => u8::from(group.is_none_or(|group| group.id.is_empty())),
        PriorityPolicy::Prioritized => {
            group.and_then(|group| u8::try_from(group.priority).ok()).unwrap_or(u8::MAX)
        }
    }
}
