//! What silence violates: checked when faults have ended and every PING is answered.

use std::collections::BTreeMap;

use natrix_runtime_sim::queue::SimTime;

use super::{Checker, Oracle, PublishRecord, Violation};
use crate::universe::{NO_SUBJECT, Subject};

/// A queue group is its name, whatever its members subscribe to: server, epoch, account, queue.
type Group = (u16, u32, u8, u8);

/// What a queue group is owed of one subject: nothing that was published before one of its members stood that stays.
struct Owed {
    since: SimTime,
    members: Vec<u32>,
}

impl Oracle {
    /// Checks that nothing is missing. Every open connection has had its last PING answered by now.
    pub fn finish(&mut self) {
        let mut missing = Vec::new();
        self.finish_subscriptions(&mut missing);
        self.finish_queues(&mut missing);
        self.finish_requests(&mut missing);
        self.violations.append(&mut missing);
    }

    /// Every subscription that stands has all that it was owed.
    fn finish_subscriptions(&self, missing: &mut Vec<Violation>) {
        for sub in &self.subs {
            let receiver = &self.conns[sub.conn as usize];
            let owed =
                sub.queue == 0 && !sub.denied && sub.unsubscribed == SimTime::MAX && receiver.is_open();
            if !owed || (sub.max > 0 && sub.received >= sub.max) {
                continue;
            }
            for (id, publisher) in self.conns.iter().enumerate() {
                if (publisher.info.server, publisher.info.epoch, publisher.account)
                    != (receiver.info.server, receiver.info.epoch, receiver.account)
                {
                    continue;
                }
                let next = sub.seen(publisher.info.client, id as u32);
                if publisher.closed < sub.established {
                    continue;
                }
                // What is behind the last answered PING may still be lost with its connection.
                let mut last = publisher.last(sub.pattern);
                while let Some(sequence) = last.filter(|sequence| *sequence >= publisher.confirmed) {
                    last = publisher.before(&self.universe, sub.pattern, sequence);
                }
                let lost = self.last_missing(sub, id as u32, next, last);
                if let Some(sequence) = lost {
                    let text = format!(
                        "conn {} (client {}): message {sequence} of conn {id} (client {}) never came",
                        sub.conn, receiver.info.client, publisher.info.client
                    );
                    let checker = if sub.max > 0 { Checker::AutoUnsubscribe } else { Checker::PingAfterSub };
                    missing.push(Violation { checker, text });
                    break;
                }
            }
        }
    }

    /// Every queue group with a member that stayed has each message.
    fn finish_queues(&self, missing: &mut Vec<Violation>) {
        let mut groups: BTreeMap<Group, Vec<u32>> = BTreeMap::new();
        for (id, sub) in self.subs.iter().enumerate().filter(|(_, sub)| sub.queue > 0 && !sub.denied) {
            let conn = &self.conns[sub.conn as usize];
            let group = (conn.info.server, conn.info.epoch, conn.account, sub.queue);
            groups.entry(group).or_default().push(id as u32);
        }
        for ((server, epoch, account, queue), members) in groups {
            let bit = 1 << queue;
            // Most subjects have no member that stays, or none until late.
            let by_subject: Vec<Owed> = (0..self.universe.subjects() as u32)
                .map(|subject| self.owed(&members, Subject(subject)))
                .collect();
            let anything = Owed { since: SimTime(0), members };
            for (id, publisher) in self.conns.iter().enumerate() {
                if (publisher.info.server, publisher.info.epoch, publisher.account)
                    != (server, epoch, account)
                {
                    continue;
                }
                let confirmed = &publisher.publishes[..publisher.confirmed as usize];
                let lost = confirmed.iter().enumerate().find(|(_, publish)| {
                    let owed = by_subject.get(publish.subject.0 as usize).unwrap_or(&anything);
                    publish.queue_hits & bit == 0
                        && publish.time >= owed.since
                        && self.group_stood(&owed.members, id as u32, publish)
                });
                if let Some((sequence, _)) = lost {
                    missing.push(Violation {
                        checker: Checker::QueueLost,
                        text: format!(
                            "message {sequence} of conn {id} reached no member of queue {queue}, which had one all the while"
                        ),
                    });
                    break;
                }
            }
        }
    }

    /// Returns what those of a group's members are owed that match a subject.
    fn owed(&self, members: &[u32], subject: Subject) -> Owed {
        let matching = |id: &u32| self.universe.matches(self.subs[*id as usize].pattern, subject);
        let members: Vec<u32> = members.iter().copied().filter(matching).collect();
        let subs = members.iter().map(|id| &self.subs[*id as usize]);
        let staying = subs.filter(|sub| sub.unsubscribed == SimTime::MAX);
        Owed { since: staying.map(|sub| sub.established).min().unwrap_or(SimTime::MAX), members }
    }

    /// Returns whether a group had a member that stayed, and none whose connection may have swallowed the message.
    fn group_stood(&self, members: &[u32], publisher: u32, publish: &PublishRecord) -> bool {
        let mut stood = false;
        for id in members {
            let sub = &self.subs[*id as usize];
            let conn = &self.conns[sub.conn as usize];
            if !self.universe.matches(sub.pattern, publish.subject) {
                continue;
            }
            // A maximum, too, can be used up between the choice of a member and its delivery.
            if (!conn.is_open() && conn.closed + self.ignorance >= publish.time) || sub.max > 0 {
                return false;
            }
            stood |= conn.is_open()
                && sub.unsubscribed == SimTime::MAX
                && sub.established <= publish.time
                && self.would_get(sub, publisher, publish);
        }
        stood
    }

    /// Every request that nobody could have got was answered 503, and no other.
    fn finish_requests(&self, missing: &mut Vec<Violation>) {
        for &(conn, sequence, time) in &self.refused {
            let publish = &self.conns[conn as usize].publishes[sequence as usize];
            if let Some(sub) = self.subs.iter().find(|sub| {
                sub.established <= publish.time
                    && sub.alive_at(time, self)
                    && self.would_get(sub, conn, publish)
            }) {
                missing.push(Violation {
                    checker: Checker::NoResponders,
                    text: format!(
                        "request {sequence} of conn {conn} was answered 503 although conn {} was interested",
                        sub.conn
                    ),
                });
            }
        }
        for (id, conn) in self.conns.iter().enumerate() {
            if !conn.info.no_responders || !conn.is_open() {
                continue;
            }
            for (sequence, publish) in conn.publishes.iter().enumerate().take(conn.confirmed as usize) {
                let unanswered = publish.reply != NO_SUBJECT
                    && publish.permitted
                    && !publish.delivered
                    && !publish.unreached;
                let processed = conn.confirmed_at(sequence as u32);
                if unanswered
                    && self.would_hear(id as u32, publish.reply, publish.time)
                    && !self.subs.iter().any(|sub| self.may_have_got(sub, id as u32, publish, processed))
                {
                    missing.push(Violation {
                        checker: Checker::NoResponders,
                        text: format!(
                            "request {sequence} of conn {id} reached nobody and wasn't answered 503"
                        ),
                    });
                    break;
                }
            }
        }
    }

    /// Returns whether a connection surely has a subscription for an answer.
    fn would_hear(&self, conn: u32, reply: Subject, time: SimTime) -> bool {
        self.conns[conn as usize].subs.iter().any(|id| {
            let sub = &self.subs[*id as usize];
            sub.established <= time
                && sub.queue == 0
                && sub.unsubscribed == SimTime::MAX
                && sub.max == 0
                && self.universe.matches(sub.pattern, reply)
        })
    }

    /// Returns whether a subscription may have been given a publish that was dealt with at `processed` at the latest.
    fn may_have_got(
        &self,
        sub: &super::SubRecord,
        publisher: u32,
        publish: &PublishRecord,
        processed: SimTime,
    ) -> bool {
        let conn = &self.conns[sub.conn as usize];
        sub.sent <= processed
            && sub.gone_at >= publish.time
            && sub.exhausted + self.ignorance >= publish.time
            && (conn.is_open() || conn.closed + self.ignorance >= publish.time)
            && self.would_get(sub, publisher, publish)
    }
}
