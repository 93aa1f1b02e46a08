//! What is remembered of connections, publishes and subscriptions.

use std::collections::VecDeque;

use natrix_runtime_sim::queue::SimTime;

use super::{ConnInfo, Oracle};
use crate::payload::Origin;
use crate::universe::{Subject, Universe};

/// One connection of one client.
#[derive(Debug)]
pub struct ConnRecord {
    pub(crate) info: ConnInfo,
    pub(crate) account: u8,
    /// When its client saw it end; [`SimTime::MAX`] while open.
    pub(crate) closed: SimTime,
    pub(crate) publishes: Vec<PublishRecord>,
    /// For each publish and each pattern that matches it: one more than the sequence of the publish before it that
    /// the pattern matches, or zero. So a subscription finds what it missed without looking at all the rest.
    earlier: Vec<u32>,
    /// The same for the publish to come.
    latest: Vec<u32>,
    /// Its subscriptions in the order of their sids.
    pub(crate) subs: Vec<u32>,
    /// So many of them are established.
    pub(crate) established: usize,
    /// So many of them have a PING behind them that was answered.
    pub(crate) answered: usize,
    pub(crate) pings: VecDeque<PingRecord>,
    /// Each answered PING: so many publishes were dealt with by then.
    pub(crate) confirms: Vec<(u32, SimTime)>,
    pub(crate) confirmed: u32,
    /// Subscriptions given up and not confirmed to be over, in order.
    pub(crate) unsubscribed: Vec<u32>,
    pub(crate) denials_expected: u32,
    pub(crate) denials: u32,
}

/// A PING that isn't answered yet, and what lay before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PingRecord {
    pub(crate) publishes: u32,
    pub(crate) subs: u32,
    pub(crate) unsubscribed: u32,
    pub(crate) denials: u32,
}

impl ConnRecord {
    pub(super) fn new(info: ConnInfo, account: u8) -> Self {
        ConnRecord {
            info,
            account,
            closed: SimTime::MAX,
            publishes: Vec::with_capacity(256),
            earlier: Vec::with_capacity(1024),
            latest: Vec::new(),
            subs: Vec::new(),
            established: 0,
            answered: 0,
            pings: VecDeque::new(),
            confirms: Vec::new(),
            confirmed: 0,
            unsubscribed: Vec::new(),
            denials_expected: 0,
            denials: 0,
        }
    }

    /// Adds a publish.
    pub(super) fn publish(&mut self, universe: &Universe, mut publish: PublishRecord) {
        publish.earlier = self.earlier.len() as u32;
        let number = self.publishes.len() as u32 + 1;
        universe.for_patterns(publish.subject, |pattern| {
            let pattern = usize::from(pattern);
            if self.latest.len() <= pattern {
                self.latest.resize(pattern + 1, 0);
            }
            self.earlier.push(std::mem::replace(&mut self.latest[pattern], number));
        });
        self.publishes.push(publish);
    }

    /// Returns the last publish before number `sequence` that a pattern matches, itself matched by it.
    pub(super) fn before(&self, universe: &Universe, pattern: u16, sequence: u32) -> Option<u32> {
        let publish = &self.publishes[sequence as usize];
        let place = universe.place_of(pattern, publish.subject)?;
        self.earlier[publish.earlier as usize + place].checked_sub(1)
    }

    /// Returns the last publish that a pattern matches.
    pub(super) fn last(&self, pattern: u16) -> Option<u32> {
        self.latest.get(usize::from(pattern))?.checked_sub(1)
    }

    pub(super) fn ping(&mut self) {
        self.pings.push_back(PingRecord {
            publishes: self.publishes.len() as u32,
            subs: self.subs.len() as u32,
            unsubscribed: self.unsubscribed.len() as u32,
            denials: self.denials_expected,
        });
    }

    /// Returns whether nobody has seen it end.
    pub(crate) fn is_open(&self) -> bool {
        self.closed == SimTime::MAX
    }

    /// Returns when the client knew that a publish was dealt with.
    pub(super) fn confirmed_at(&self, sequence: u32) -> SimTime {
        let index = self.confirms.partition_point(|(publishes, _)| *publishes <= sequence);
        self.confirms.get(index).map_or(SimTime::MAX, |(_, time)| *time)
    }
}

/// One published message.
#[derive(Clone, Copy, Debug)]
pub struct PublishRecord {
    pub(crate) time: SimTime,
    pub(crate) subject: Subject,
    /// Where its part of [`ConnRecord::earlier`] begins.
    earlier: u32,
    pub(crate) reply: Subject,
    /// A bit for each queue group that has it.
    pub(crate) queue_hits: u8,
    pub(crate) permitted: bool,
    pub(crate) headers: bool,
    /// Somebody has it.
    pub(crate) delivered: bool,
    /// It was answered 503.
    pub(crate) unreached: bool,
}

impl PublishRecord {
    pub(super) fn new(
        time: SimTime,
        subject: Subject,
        reply: Subject,
        permitted: bool,
        headers: bool,
    ) -> Self {
        PublishRecord {
            time,
            subject,
            earlier: 0,
            reply,
            queue_hits: 0,
            permitted,
            headers,
            delivered: false,
            unreached: false,
        }
    }
}

/// One subscription.
#[derive(Debug)]
pub struct SubRecord {
    pub(crate) conn: u32,
    pub(crate) pattern: u16,
    /// Index into [`QUEUES`](crate::universe::QUEUES); zero for none.
    pub(crate) queue: u8,
    pub(crate) denied: bool,
    /// A PING behind it was answered.
    pub(crate) answered: bool,
    /// Messages after which it ends; zero for never.
    pub(crate) max: u32,
    pub(crate) received: u32,
    /// How many publishes of its connection lie before it.
    pub(crate) after_publishes: u32,
    pub(crate) sent: SimTime,
    pub(crate) established: SimTime,
    pub(crate) unsubscribed: SimTime,
    /// When its end was confirmed.
    pub(crate) gone_at: SimTime,
    /// When it got the last message of its maximum.
    pub(crate) exhausted: SimTime,
    /// For each publishing client: its latest connection, and how far that has come.
    progress: Vec<Progress>,
    /// The same for connections before the latest.
    earlier: Vec<Progress>,
}

#[derive(Clone, Copy, Debug)]
struct Progress {
    conn: u32,
    /// One more than the last sequence received.
    next: u32,
    /// Which of the 64 sequences before `next` were received; the lowest bit is the last.
    window: u64,
}

const NOTHING: Progress = Progress { conn: u32::MAX, next: 0, window: 0 };

impl SubRecord {
    pub(super) fn new(
        conn: u32,
        pattern: u16,
        queue: u8,
        max: u32,
        sent: SimTime,
        after_publishes: u32,
        denied: bool,
    ) -> Self {
        SubRecord {
            conn,
            pattern,
            queue,
            denied,
            answered: false,
            max,
            received: 0,
            after_publishes,
            sent,
            established: SimTime::MAX,
            unsubscribed: SimTime::MAX,
            gone_at: SimTime::MAX,
            exhausted: SimTime::MAX,
            progress: Vec::new(),
            earlier: Vec::new(),
        }
    }

    /// Advances to a message and returns the first sequence not looked at before.
    ///
    /// The error says whether the message was had before; if not, it is out of order.
    pub(super) fn progress(&mut self, client: u16, origin: Origin) -> Result<u32, bool> {
        let index = usize::from(client);
        if self.progress.len() <= index {
            self.progress.resize(index + 1, NOTHING);
        }
        let mut latest = self.progress[index];
        if latest.conn != origin.conn {
            if let Some(old) = self.earlier.iter_mut().find(|old| old.conn == origin.conn) {
                return old.advance(origin.sequence);
            }
            if latest.conn != u32::MAX {
                self.earlier.push(latest);
            }
            latest = Progress { conn: origin.conn, ..NOTHING };
        }
        let outcome = latest.advance(origin.sequence);
        self.progress[index] = latest;
        outcome
    }

    /// Returns the first sequence of a connection that hasn't been looked at.
    pub(super) fn seen(&self, client: u16, conn: u32) -> u32 {
        let latest = self.progress.get(usize::from(client)).filter(|latest| latest.conn == conn);
        let found = latest.or_else(|| self.earlier.iter().find(|old| old.conn == conn));
        found.map_or(0, |progress| progress.next)
    }

    /// Returns whether it surely got messages at a time: nothing was on its way to end it, and its connection
    /// stands to this day.
    pub(super) fn alive_at(&self, time: SimTime, oracle: &Oracle) -> bool {
        self.unsubscribed > time
            && self.exhausted > time
            && self.max == 0
            && oracle.conns[self.conn as usize].is_open()
    }
}

impl Progress {
    fn advance(&mut self, sequence: u32) -> Result<u32, bool> {
        if sequence < self.next {
            let back = self.next - 1 - sequence;
            return Err(back < 64 && self.window >> back & 1 == 1);
        }
        let next = self.next;
        let by = sequence + 1 - self.next;
        self.window = if by < 64 { self.window << by | 1 } else { 1 };
        self.next = sequence + 1;
        Ok(next)
    }
}

#[cfg(test)]
mod tests {
    use natrix_core::rng::Rng;

    use super::*;
    use crate::universe::NO_SUBJECT;

    #[test]
    fn going_back_by_pattern_finds_all_that_the_pattern_matches_and_nothing_else() {
        let universe =
            Universe::new(&["a", "a.b", "b.c"], &["a", "a.*", "*.c", "c", ">"], &["$G"], Vec::new());
        let info = ConnInfo {
            client: 0,
            server: 0,
            epoch: 1,
            user: 0,
            echo: true,
            headers: true,
            no_responders: false,
        };
        let (mut conn, mut rng) = (ConnRecord::new(info, 0), Rng::from_u64(1));
        for time in 0..300 {
            let subject = match rng.below(4) {
                3 => Subject::inbox(rng.below(3) as u16, time as u16),
                named => Subject(named as u32),
            };
            let publish = PublishRecord::new(SimTime(time), subject, NO_SUBJECT, true, false);
            conn.publish(&universe, publish);
        }
        // Five patterns with names, then one for the inboxes of each client.
        for pattern in 0..8 {
            let mut found = Vec::new();
            let mut at = conn.last(pattern);
            while let Some(sequence) = at {
                found.push(sequence);
                at = conn.before(&universe, pattern, sequence);
            }
            let matching =
                |sequence: &u32| universe.matches(pattern, conn.publishes[*sequence as usize].subject);
            assert_eq!(found, (0..300).rev().filter(matching).collect::<Vec<_>>(), "pattern {pattern}");
            assert_eq!(found.is_empty(), pattern == 3);
        }
    }
}
