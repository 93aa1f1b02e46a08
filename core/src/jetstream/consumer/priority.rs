//! Priority groups: who of those that wait gets the next message.
//!
//! Source: nats-server `server/consumer.go`, `nextWaiting` and `processNextMsgRequest` (ADR-42).

use bytes::Bytes;

use super::pull::Pull;
use super::status::{status, with_pending};
use super::waiting::{Slot, Waiting};
use super::{Consumer, Mode, send_status};
use crate::ids::Nuid;
use crate::jetstream::api::consumer_config::PriorityPolicy;
use crate::jetstream::api::request::NextRequest;
use crate::jetstream::context::{Context, Interest};
use crate::time::{Instant, WallTime};

/// A client that gets all messages while it asks for them.
#[derive(Clone, Debug)]
pub(super) struct Pin {
    /// What its requests say.
    pub(super) id: String,
    /// The group that it is pinned in.
    pub(super) group: String,
    /// Since when.
    pub(super) since: WallTime,
    /// When it is given up, unless it asks again.
    pub(super) expires: Instant,
    /// Whether it got nothing yet.
    pub(super) is_fresh: bool,
}

impl Consumer {
    /// Checks what a request says of its group, and lets a pinned client be pinned for longer.
    pub(super) fn check_group(&mut self, request: &NextRequest, now: Instant) -> Result<(), Bytes> {
        let Some(group) = request.priority.as_ref() else { return Ok(()) };
        let policy = self.config.priority_policy;
        let bad = |what: &str| Err(status(400, &format!("Bad Request - {what}")));
        if (group.min_pending != 0 || group.min_ack_pending != 0) && policy != PriorityPolicy::Overflow {
            return bad("Not a Overflow Priority consumer");
        }
        if !group.id.is_empty() && policy != PriorityPolicy::PinnedClient {
            return bad("Not a Pinned Client Priority consumer");
        }
        if !(0..=9).contains(&group.priority) {
            return bad("Priority must be between 0 and 9");
        }
        if policy == PriorityPolicy::None {
            return Ok(());
        }
        if group.group.is_empty() {
            return bad("Priority Group missing");
        }
        if !self.config.priority_groups.contains(&group.group) {
            return bad("Invalid Priority Group");
        }
        if let Mode::Pull(pull) = &mut self.mode
            && let Some(pin) = &mut pull.pin
        {
            if pin.id == group.id {
                pin.expires = now + self.config.pinned_ttl;
            } else if !group.id.is_empty() {
                return Err(status(423, "Nats-Pin-Id mismatch"));
            }
        }
        Ok(())
    }

    /// Returns the request that the next message is for; `None` if nobody wants it. `left` messages are left.
    pub(super) fn next_waiting(&mut self, left: u64, ctx: &mut Context<'_, impl Interest>) -> Option<Slot> {
        let pending = self.progress.pending().len();
        let Mode::Pull(pull) = &mut self.mode else { return None };
        match self.config.priority_policy {
            PriorityPolicy::None | PriorityPolicy::Prioritized => pull.first(0, ctx).map(|(_, slot)| slot),
            PriorityPolicy::Overflow => {
                let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
                pull.first_that_overflows(count(left), count(pending as u64), ctx)
            }
            PriorityPolicy::PinnedClient => self.next_pinned(ctx),
        }
    }

    /// Returns the next request of the pinned client. Where nobody is pinned, the next client is.
    fn next_pinned(&mut self, ctx: &mut Context<'_, impl Interest>) -> Option<Slot> {
        loop {
            let Mode::Pull(pull) = &mut self.mode else { return None };
            let (lane, slot) = pull.first(0, ctx)?;
            let group = pull.waiting.get(slot).and_then(|request| request.group.as_deref());
            match (lane, &pull.pin, group) {
                (0, Some(pin), Some(group)) if pin.id == group.id => return Some(slot),
                // It was pinned once.
                (0, ..) => {
                    let Some(request) = pull.waiting.remove(slot) else { continue };
                    let block = with_pending(423, "Nats-Wrong-Pin-Id", request.wanted, request.bytes);
                    send_status(ctx.out, &request.reply, block);
                }
                (_, Some(_), _) => return None,
                (_, None, Some(group)) if !group.group.is_empty() => {
                    let group = group.group.clone();
                    self.pin(slot, &group, ctx);
                    return Some(slot);
                }
                (_, None, _) => return Some(slot),
            }
        }
    }

    fn pin(&mut self, slot: Slot, group: &str, ctx: &mut Context<'_, impl Interest>) {
        let id = Nuid::new(ctx.rng.child()).next_string();
        let Mode::Pull(pull) = &mut self.mode else { return };
        if let Some(group) = pull.waiting.get_mut(slot).and_then(|request| request.group.as_deref_mut()) {
            group.id.clone_from(&id);
        }
        pull.waiting.move_to(slot, 0);
        let expires = ctx.now.instant + self.config.pinned_ttl;
        let (group_name, since) = (group.to_owned(), ctx.now.wall);
        pull.pin = Some(Pin { id: id.clone(), group: group_name, since, expires, is_fresh: true });
        self.advise_pinned(group, &id, ctx);
    }

    /// Lets go of the pinned client of a group because somebody asked for it.
    pub fn unpin(&mut self, group: &str, ctx: &mut Context<'_, impl Interest>) {
        if let Mode::Pull(pull) = &mut self.mode {
            pull.pin = None;
        }
        self.advise_unpinned(group, "admin", ctx);
        self.wake();
    }

    /// Lets go of a pinned client that didn't ask for long.
    pub(super) fn tend_pin(&mut self, ctx: &mut Context<'_, impl Interest>) {
        let Mode::Pull(pull) = &mut self.mode else { return };
        if let Some(pin) = pull.pin.take_if(|pin| pin.expires <= ctx.now.instant) {
            self.advise_unpinned(&pin.group, "timeout", ctx);
            self.wake();
        }
    }
}

impl Pull {
    /// Returns the request whose turn it is, from a lane on, with its lane. Those whose time is over or whose clients are
    /// gone end on the way.
    fn first(&mut self, lane: u8, ctx: &mut Context<'_, impl Interest>) -> Option<(u8, Slot)> {
        while let Some((lane, slot)) = self.waiting.front(lane) {
            if self.is_there(slot, ctx) {
                return Some((lane, slot));
            }
        }
        None
    }

    /// Returns the request whose turn it is among those whose conditions hold.
    fn first_that_overflows(
        &mut self,
        left: i64,
        pending: i64,
        ctx: &mut Context<'_, impl Interest>,
    ) -> Option<Slot> {
        if let Some((min_left, min_pending)) = self.unwanted_below
            && left < min_left
            && pending < min_pending
        {
            return None;
        }
        let (mut min_left, mut min_pending) = (i64::MAX, i64::MAX);
        let mut next = self.waiting.front(0).map(|(_, slot)| slot);
        while let Some(slot) = next {
            next = self.waiting.behind(slot);
            if !self.is_there(slot, ctx) {
                continue;
            }
            let conditions = self.waiting.get(slot).and_then(conditions);
            let Some((least_left, least_pending)) = conditions else { return Some(slot) };
            if least_left <= left || least_pending <= pending {
                return Some(slot);
            }
            (min_left, min_pending) = (min_left.min(least_left), min_pending.min(least_pending));
        }
        self.unwanted_below = Some((min_left, min_pending));
        None
    }

    /// Tells whether a request still stands; one that doesn't ends.
    fn is_there(&mut self, slot: Slot, ctx: &mut Context<'_, impl Interest>) -> bool {
        let Some(request) = self.waiting.get(slot) else { return false };
        if request.expires.is_some_and(|expires| expires <= ctx.now.instant) {
            self.time_out(slot, ctx);
            return false;
        }
        let is_there = ctx.interest.has_interest(&request.reply);
        if !is_there {
            self.waiting.remove(slot);
        }
        is_there
    }
}

/// Returns how many messages have to be left, or pending, for a request to want one; `None` if it has no conditions.
fn conditions(request: &Waiting) -> Option<(i64, i64)> {
    let group = request.group.as_deref()?;
    let least = |least: i64| if least > 0 { least } else { i64::MAX };
    Some((least(group.min_pending), least(group.min_ack_pending)))
        .filter(|_| group.min_pending > 0 || group.min_ack_pending > 0)
}
