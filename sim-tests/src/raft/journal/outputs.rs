//! What hosts and their groups ask for.

use natrix_core::disk::Request;
use natrix_core::raft::group::{Message, Output};
use natrix_core::raft::host::{Host, HostOutput, Notice};
use natrix_core::raft::wire::NodeId;
use natrix_core::storage::OwnerId;
use natrix_core::time::Instant;

use super::faults::{MS, Trouble};
use super::node::{group_of, owner};
use super::world::{Event, World};
use crate::raft::checker::Rule;
use crate::raft::node::App;

impl World {
    pub(super) fn carry_out(&mut self, number: usize, output: HostOutput) {
        let now = self.instant();
        match output {
            HostOutput::Disk(submission) => {
                let node = &mut self.nodes[number];
                node.note(&submission.request);
                if self.story.is_some()
                    && let Some(text) = node.describe(&submission.request)
                {
                    self.tell(number, &text);
                }
                let node = &mut self.nodes[number];
                if let Request::Replace { path, .. } = &submission.request {
                    let kind = match path.as_str().rsplit_once('.').map(|(_, end)| end) {
                        Some("log") => Some(Trouble::Covered),
                        Some("snapshot") => Some(Trouble::LongSnapshot),
                        _ => None,
                    };
                    kind.into_iter().for_each(|kind| self.counters.hit(kind));
                }
                node.disk.submit(now, submission);
            }
            HostOutput::Group(owner, output) => self.group_asks(number, owner, output),
            HostOutput::Found { group, fresh: _, lost } => {
                self.say(number, 3, || format!("finds what is left of {group:?}, lost {lost}"));
                let seat = &mut self.nodes[number].seats[group_of(group)];
                seat.app = seat.durable;
                seat.lost = lost;
                self.may_die_of_loss(number, lost);
                let applied = self.nodes[number].seats[group_of(group)].durable.applied;
                self.call_nested(number, |host, now| host.start(now, group, applied));
                self.started(number, group_of(group));
            }
            HostOutput::Created(owner) => self.nodes[number].seats[group_of(owner)].expected = true,
            HostOutput::Notice(notice) => {
                if notice == Notice::EndLost {
                    self.counters.hit(Trouble::EndMissed);
                }
                self.say(number, 4, || format!("tells {notice:?}"));
            }
            HostOutput::Failed(error) => {
                self.say(number, 5, || format!("has a journal that failed: {error}"));
                self.counters.hit(Trouble::JournalFailed);
                self.end(number, false);
                if self.nodes[number].lie.is_some_and(|lie| lie.told) {
                    // Nothing vouches for what it was to write last: nobody may start on that.
                    self.counters.hit(Trouble::Replaced);
                    self.wipe(number);
                }
                let node = &mut self.nodes[number];
                node.failures = if node.recovering { node.failures + 1 } else { 0 };
                if node.failures > 3 && node.harmed {
                    // It says that the operator is to restore the folder; there is nothing to restore it from.
                    self.counters.hit(Trouble::Replaced);
                    self.wipe(number);
                }
                self.back(number);
            }
        }
    }

    /// Calls the host while its outputs are being carried out: what it asks for then comes in the next round.
    pub(super) fn call_nested(&mut self, number: usize, act: impl FnOnce(&mut Host, Instant)) {
        let now = self.instant();
        if let Some(host) = &mut self.nodes[number].host {
            act(host, now);
        }
    }

    pub(super) fn group_asks(&mut self, number: usize, owner: OwnerId, output: Output) {
        let at = group_of(owner);
        match output {
            Output::Send { to, message } => self.send(number, at, to, message),
            Output::Apply(entries) => {
                for entry in &entries {
                    let seat = &mut self.nodes[number].seats[at];
                    if entry.index != seat.app.applied + 1 {
                        let text = format!("n{number} applies {} after {}", entry.index, seat.app.applied);
                        return self.checkers[at].violate(Rule::StateMachineSafety, self.now, text);
                    }
                    seat.app.apply(entry);
                    let state = seat.app.state;
                    if seat.proposed.remove(&entry.index) == Some(entry.term) {
                        self.checkers[at].acknowledges(entry.place());
                    }
                    self.checkers[at].applied(self.now, number, entry, state);
                }
                self.is_applied(number, at);
            }
            Output::Restore(snapshot) => {
                self.counters.hit(Trouble::Restored);
                let Some(app) = App::restored(&snapshot) else {
                    let text = format!("n{number} is given bytes that are no snapshot");
                    return self.checkers[at].violate(Rule::StateMachineSafety, self.now, text);
                };
                self.checkers[at].restored(self.now, number, snapshot.place, app.state);
                let seat = &mut self.nodes[number].seats[at];
                (seat.app, seat.durable) = (app, app);
            }
            Output::WantSnapshot => {
                let app = self.nodes[number].seats[at].app;
                self.call_nested(number, |host, now| {
                    host.act(now, owner, |group, now| {
                        group.applied_through(now, app.applied);
                        // It may have one already, or be given one.
                        let _ = group.take_snapshot(now, app.applied, app.snapshot());
                    });
                });
            }
            Output::Leading { term } => self.say(number, 6, || format!("leads group {at} in term {term}")),
            _ => {}
        }
    }

    pub(super) fn is_applied(&mut self, number: usize, at: usize) {
        let node = &mut self.nodes[number];
        let applied = node.seats[at].app.applied;
        if node.rng.chance(1, 4) {
            node.seats[at].durable = node.seats[at].app;
        }
        self.call_nested(number, |host, now| {
            host.act(now, owner(at), |group, now| group.applied_through(now, applied));
        });
    }

    pub(super) fn send(&mut self, from: usize, group: usize, to: NodeId, message: Message) {
        let Some(to) = self.nodes.iter().position(|node| node.id == to) else { return };
        if self.nodes[from].isolated || self.nodes[from].waits_for_harm {
            return;
        }
        if self.troubled && self.plan.has(Trouble::Loss) && self.rng.chance(1, 50) {
            return self.counters.hit(Trouble::Loss);
        }
        let mut after = MS / 5 + self.rng.below(2 * MS);
        if self.troubled && self.plan.has(Trouble::Delay) && self.rng.chance(1, 100) {
            self.counters.hit(Trouble::Delay);
            after += self.rng.below(300 * MS);
        }
        self.schedule(after, Event::Deliver { to, group, message: Box::new(message) });
    }
}
