//! The world of one seed: nodes, links, clients, what goes wrong, and the checkers that watch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use natrix_core::disk::FilePath;
use natrix_core::planted::Bug;
use natrix_core::raft::group::{Group, Message, Output};
use natrix_core::raft::host::{Host, HostInput, HostOutput, Notice};
use natrix_core::raft::membership::Membership;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;
use natrix_core::storage::OwnerId;
use natrix_core::time::Instant;
use natrix_runtime_sim::disk::{DiskModel, SimDisk};

use super::faults::{Counters, HARMS, MS, PASSING, Plan, Trouble};
use super::node::{Node, group_of, owner};
use crate::raft::checker::{Checker, Rule, Violation, hash_bytes};
use crate::raft::node::App;

/// Something that happens.
#[derive(Debug)]
enum Event {
    Deliver { to: usize, group: usize, message: Box<Message> },
    Timer { node: usize, life: u32 },
    Disk { node: usize, life: u32 },
    Trouble,
    Propose,
    Restart { node: usize },
    Mend { node: usize },
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The rules that were broken, in the order of time.
    pub violations: Vec<Violation>,
    /// How many events there were.
    pub events: u64,
    /// How many entries were committed.
    pub committed: u64,
    /// How many proposals clients were told to be committed.
    pub acknowledged: u64,
    /// What came, and what it led to.
    pub counters: Counters,
    /// The hash of everything that happened.
    pub hash: u64,
    /// What happened, in words, if that was asked for.
    pub story: String,
}

/// A run under way.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) rng: Rng,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: std::collections::BTreeMap<u64, Event>,
    ties: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) checkers: Vec<Checker>,
    pub(super) counters: Counters,
    pub(super) troubled: bool,
    pub(super) busy: bool,
    taken: u64,
    proposals: u64,
    hash: u64,
    story: Option<String>,
}

const MAX_EVENTS: u64 = 2_000_000;

impl World {
    fn new(seed: u64, tell: bool) -> Self {
        let mut rng = Rng::from_u64(seed);
        let plan = Plan::new(seed, &mut rng);
        let nodes: Vec<Node> = (0..plan.nodes).map(|number| Node::new(number, &plan, &mut rng)).collect();
        let members = Membership::new(nodes.iter().map(|node| node.id));
        let mut world = World {
            rng,
            now: 0,
            queue: BinaryHeap::new(),
            events: std::collections::BTreeMap::new(),
            ties: 0,
            nodes,
            checkers: (0..plan.groups).map(|_| Checker::new(plan.nodes, members.clone())).collect(),
            counters: Counters::default(),
            troubled: true,
            busy: true,
            taken: 0,
            proposals: 0,
            hash: seed,
            story: tell.then(String::new),
            plan,
        };
        for node in 0..world.plan.nodes {
            world.start(node);
        }
        world.schedule(world.plan.every, Event::Trouble);
        world.schedule(world.plan.propose_every, Event::Propose);
        world
    }

    fn schedule(&mut self, after: u64, event: Event) {
        self.ties += 1;
        self.queue.push(Reverse((self.now.saturating_add(after), self.ties)));
        self.events.insert(self.ties, event);
    }

    pub(super) fn instant(&self) -> Instant {
        Instant::from_nanos(self.now)
    }

    pub(super) fn ok(&self) -> bool {
        self.checkers.iter().all(|checker| checker.violations.is_empty())
    }

    pub(super) fn say(&mut self, node: usize, kind: u64, text: impl FnOnce() -> String) {
        let word = [self.now.to_le_bytes(), (kind << 8 | node as u64).to_le_bytes()].concat();
        self.hash = hash_bytes(self.hash, &word);
        if let Some(story) = &mut self.story {
            story.push_str(&format!("{:>10.6} n{node} {}\n", self.now as f64 / 1e9, text()));
        }
    }

    pub(super) fn run_until(&mut self, until: u64) {
        while self.ok() {
            let Some(Reverse((at, tie))) = self.queue.peek().copied().filter(|next| next.0.0 <= until) else {
                break;
            };
            self.queue.pop();
            self.now = at;
            self.taken += 1;
            if self.taken > MAX_EVENTS {
                let text = format!("{MAX_EVENTS} events and no end");
                self.checkers[0].violate(Rule::Liveness, self.now, text);
            }
            if let Some(event) = self.events.remove(&tie) {
                self.happen(event);
            }
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, group, message } => {
                if !self.nodes[to].isolated && !self.nodes[to].waits_for_harm {
                    let input = HostInput::Message { group: owner(group), message: *message };
                    self.call(to, |host, now| host.handle(now, input));
                }
            }
            Event::Timer { node, life } if self.nodes[node].life == life => {
                self.nodes[node].timer = u64::MAX;
                self.call(node, |host, now| host.handle(now, HostInput::Tick));
            }
            Event::Disk { node, life } if self.nodes[node].life == life => {
                self.nodes[node].wake = u64::MAX;
                self.disk(node);
            }
            Event::Timer { .. } | Event::Disk { .. } => {}
            Event::Trouble => self.trouble(),
            Event::Propose => self.propose(),
            Event::Restart { node } => self.start(node),
            Event::Mend { node } => self.nodes[node].isolated = false,
        }
    }

    /// Lets the disk of a node do what is due; the node may die at that.
    fn disk(&mut self, number: usize) {
        let now = self.instant();
        loop {
            let node = &mut self.nodes[number];
            if node.host.is_none() || node.disk.poll_timeout().is_none_or(|due| due > now) {
                break;
            }
            let doomed = node.doomed.as_mut().map(|(left, power, seen)| {
                *left = left.saturating_sub(1);
                (*left, *power, *seen)
            });
            if let Some((0, power, false)) = doomed {
                node.disk.take_effect(now);
                return self.dies_at_operation(number, power);
            }
            let Some(completion) = node.disk.poll_completion(now) else { break };
            self.call(number, |host, now| host.handle(now, HostInput::Disk(completion)));
            if let Some((0, power, true)) = doomed {
                return self.dies_at_operation(number, power);
            }
        }
        self.wake(number);
    }

    fn dies_at_operation(&mut self, number: usize, power: bool) {
        let kind = if power { Trouble::PowerCutAtOperation } else { Trouble::CrashAtOperation };
        self.counters.hit(kind);
        if self.nodes[number].recovering {
            self.counters.hit(Trouble::CrashInRecovery);
        }
        self.end(number, power);
        self.back(number);
    }

    /// Ends a node's process.
    pub(super) fn end(&mut self, number: usize, power: bool) {
        self.say(number, 1, || format!("dies, power {power}"));
        let node = &mut self.nodes[number];
        node.end();
        match power {
            true => node.disk.power_loss(),
            false => node.disk.crash(),
        }
    }

    fn back(&mut self, number: usize) {
        let after = [5, 50, 500, 2000][self.rng.below(4) as usize] * MS;
        self.schedule(after, Event::Restart { node: number });
    }

    /// Starts a node, if it doesn't run.
    pub(super) fn start(&mut self, number: usize) {
        if self.nodes[number].host.is_some() {
            return;
        }
        self.say(number, 2, || "starts".to_owned());
        let members = Membership::new(self.nodes.iter().map(|node| node.id));
        let (config, now) = (self.plan.config.clone(), self.instant());
        self.nodes[number].open(&config, &members, now);
        if self.troubled && self.plan.has(Trouble::CrashInRecovery) && self.rng.chance(1, 8) {
            let power = self.rng.chance(1, 2);
            let left = 1 + self.rng.below(30);
            self.nodes[number].doomed = Some((left, power, self.rng.chance(1, 2)));
        }
        self.call(number, |_, _| {});
    }

    /// Calls a node's host, and does what it asks for.
    pub(super) fn call(&mut self, number: usize, act: impl FnOnce(&mut Host, Instant)) {
        let now = self.instant();
        let Some(host) = &mut self.nodes[number].host else { return };
        act(host, now);
        loop {
            let mut outputs = Vec::new();
            let Some(host) = &mut self.nodes[number].host else { return };
            while let Some(output) = host.poll_output() {
                outputs.push(output);
            }
            self.look(number, &outputs);
            if outputs.is_empty() || !self.ok() {
                break;
            }
            for output in outputs {
                self.carry_out(number, output);
            }
        }
        self.wake(number);
        let node = &mut self.nodes[number];
        if node.waits_for_harm && node.host.as_ref().is_some_and(Host::is_vouched) {
            self.harm(number);
        }
    }

    /// Sees to it that the node is called when its disk or its time-outs are due.
    fn wake(&mut self, number: usize) {
        let node = &mut self.nodes[number];
        let Some(host) = &node.host else { return };
        let life = node.life;
        let due = |at: Option<Instant>| at.map_or(u64::MAX, Instant::as_nanos);
        let (disk, timer) = (due(node.disk.poll_timeout()), due(host.poll_timeout()).max(self.now + 1000));
        let (wakes, ticks) = (disk < node.wake, timer < node.timer);
        node.wake = node.wake.min(disk);
        node.timer = if host.poll_timeout().is_some() { node.timer.min(timer) } else { node.timer };
        let now = self.now;
        if wakes {
            self.schedule(disk.saturating_sub(now), Event::Disk { node: number, life });
        }
        if ticks && timer < u64::MAX {
            self.schedule(timer - now, Event::Timer { node: number, life });
        }
    }

    /// Looks at everything that the call may have changed.
    fn look(&mut self, number: usize, outputs: &[HostOutput]) {
        let now = self.now;
        let Some(host) = &self.nodes[number].host else { return };
        for output in outputs {
            if let HostOutput::Group(owner, Output::Send { to, message }) = output
                && let Some(group) = host.group(*owner)
            {
                self.checkers[group_of(*owner)].message(now, number, group, message, *to);
            }
        }
        let mut healed = 0;
        let Node { host: Some(host), seats, .. } = &mut self.nodes[number] else { return };
        for (at, seat) in seats.iter_mut().enumerate() {
            let Some(group) = host.group(owner(at)) else { continue };
            let log = group.log();
            let mut known = log.last().index;
            while known > log.base().index && seat.terms.get(&known) != log.term_at(known).as_ref() {
                known -= 1;
            }
            seat.terms.retain(|index, _| *index <= known && *index > log.base().index);
            for entry in log.from(known + 1, usize::MAX, usize::MAX) {
                self.checkers[at].entry(now, number, entry, log.term_at(entry.index - 1));
                seat.terms.insert(entry.index, entry.term);
            }
            self.checkers[at].look(now, number, group, false, |_| None);
            healed += u64::from(seat.doubted && !group.in_doubt());
            seat.doubted = group.in_doubt();
        }
        self.counters.add(Trouble::Healed, healed);
        let node = &mut self.nodes[number];
        if !node.recovering && !node.seats.iter().any(|seat| seat.doubted) && !node.waits_for_harm {
            node.harmed = false;
        }
    }

    fn carry_out(&mut self, number: usize, output: HostOutput) {
        let now = self.instant();
        match output {
            HostOutput::Disk(submission) => {
                let node = &mut self.nodes[number];
                node.note(&submission.request);
                if let natrix_core::disk::Request::Replace { path, .. } = &submission.request {
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
                let applied = seat.durable.applied;
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
    fn call_nested(&mut self, number: usize, act: impl FnOnce(&mut Host, Instant)) {
        let now = self.instant();
        if let Some(host) = &mut self.nodes[number].host {
            act(host, now);
        }
    }

    /// A member has started: is what it has what it had?
    fn started(&mut self, number: usize, at: usize) {
        let now = self.now;
        let node = &mut self.nodes[number];
        let (id, harmed) = (node.id, node.harmed);
        let Some(group) = node.host.as_ref().and_then(|host| host.group(owner(at))) else { return };
        let seat = &mut node.seats[at];
        let checker = &mut self.checkers[at];
        seat.doubted = group.in_doubt();
        let kept = seat.kept.take();
        let doubted_before = kept.is_some_and(|(_, doubted)| doubted);
        if seat.lost {
            self.counters.hit(Trouble::LossNoticed);
        } else if harmed {
            self.counters.hit(Trouble::HarmWithoutLoss);
        }
        if group.in_doubt() && harmed {
            checker.forgot(number, id);
        }
        if seat.lost && !harmed && !doubted_before {
            checker.violate(Rule::FalseAlarm, now, format!("n{number} lost something on a whole disk"));
        }
        if let Some((place, _)) = kept.filter(|_| !group.in_doubt()) {
            let snapshot = group.snapshot().is_some_and(|snapshot| snapshot.place.index >= place.index);
            let has = group.log().term_at(place.index) == Some(place.term) || snapshot || place.index == 0;
            if !has {
                let text = format!("n{number} had {place:?}, has {:?} and no doubt", group.log().last());
                checker.violate(Rule::Kept, now, text);
            }
        }
        checker.started(now, number, group);
        seat.terms =
            group.log().from(0, usize::MAX, usize::MAX).map(|entry| (entry.index, entry.term)).collect();
        let all = node.seats.len();
        let running =
            (0..all).filter(|at| node.host.as_ref().is_some_and(|host| host.group(owner(*at)).is_some()));
        node.recovering = running.count() < all;
        node.failures = if node.recovering { node.failures } else { 0 };
    }

    fn group_asks(&mut self, number: usize, owner: OwnerId, output: Output) {
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

    fn is_applied(&mut self, number: usize, at: usize) {
        let node = &mut self.nodes[number];
        let applied = node.seats[at].app.applied;
        if node.rng.chance(1, 4) {
            node.seats[at].durable = node.seats[at].app;
        }
        self.call_nested(number, |host, now| {
            host.act(now, owner(at), |group, now| group.applied_through(now, applied));
        });
    }

    fn send(&mut self, from: usize, group: usize, to: NodeId, message: Message) {
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

    fn propose(&mut self) {
        if !self.busy {
            return;
        }
        self.schedule(self.plan.propose_every, Event::Propose);
        let at = self.rng.below(self.plan.groups as u64) as usize;
        let number = self.rng.below(self.plan.nodes as u64) as usize;
        let leads = |node: &Node| {
            node.host.as_ref().and_then(|host| host.group(owner(at))).is_some_and(Group::is_leader)
        };
        let leader =
            (0..self.plan.nodes).map(|by| (number + by) % self.plan.nodes).find(|n| leads(&self.nodes[*n]));
        let Some(number) = leader else { return };
        for _ in 0..=self.rng.below(4) {
            self.proposals += 1;
            let mut data = self.proposals.to_le_bytes().to_vec();
            data.resize(8 + self.rng.below(self.plan.longest) as usize, 7);
            let mut place = None;
            self.call(number, |host, now| {
                let made = host.act(now, owner(at), |group, now| group.propose(now, data).ok());
                place = made.flatten();
            });
            if let Some(place) = place {
                self.nodes[number].seats[at].proposed.insert(place.index, place.term);
            }
        }
    }

    fn trouble(&mut self) {
        if !self.troubled {
            return;
        }
        let after = self.plan.every / 2 + self.rng.below(self.plan.every);
        self.schedule(after, Event::Trouble);
        let number = self.rng.below(self.plan.nodes as u64) as usize;
        let choice = self.rng.below(8);
        let power = self.rng.chance(1, 2);
        match choice {
            0 if self.plan.has(Trouble::Isolate) => {
                self.counters.hit(Trouble::Isolate);
                self.nodes[number].isolated = true;
                let after = self.rng.below(1500 * MS);
                self.schedule(after, Event::Mend { node: number });
            }
            1 if self.plan.has(if power { Trouble::PowerCut } else { Trouble::Crash }) => {
                self.counters.hit(if power { Trouble::PowerCut } else { Trouble::Crash });
                self.end(number, power);
                self.back(number);
            }
            2 if self.plan.has(Trouble::PowerCutOfAll) && self.rng.chance(1, 3) => {
                self.counters.hit(Trouble::PowerCutOfAll);
                for number in 0..self.plan.nodes {
                    self.end(number, true);
                    self.back(number);
                }
            }
            3 | 4
                if self.plan.has(if power {
                    Trouble::PowerCutAtOperation
                } else {
                    Trouble::CrashAtOperation
                }) =>
            {
                let left = 1 + self.rng.below(40);
                self.nodes[number].doomed = Some((left, power, self.rng.chance(1, 2)));
            }
            5..=7 => self.begin_harm(number),
            _ => {}
        }
    }

    /// Chooses a node whose disk is to be harmed, if not too many are.
    fn begin_harm(&mut self, number: usize) {
        let harmed = self.nodes.iter().filter(|node| node.harmed || node.waits_for_harm).count();
        let node = &mut self.nodes[number];
        let can = harmed < (self.plan.nodes - 1) / 2 && node.host.is_some() && !node.recovering;
        if can && !node.seats.iter().any(|seat| seat.doubted) {
            node.waits_for_harm = true;
        }
    }

    /// All that the node has is vouched for: its process ends, and its disk is harmed.
    fn harm(&mut self, number: usize) {
        let power = self.rng.chance(1, 2);
        self.end(number, power);
        self.back(number);
        if self.plan.has(Trouble::Wiped) && self.rng.chance(1, 8) {
            self.counters.hit(Trouble::Wiped);
            return self.wipe(number);
        }
        let paths: Vec<FilePath> = self.nodes[number].paths.iter().cloned().collect();
        for _ in 0..=self.rng.below(3) {
            let (kind, fault) = HARMS[self.rng.below(HARMS.len() as u64) as usize];
            let path = &paths[self.rng.below(paths.len() as u64) as usize];
            if self.plan.has(kind) && self.nodes[number].disk.damage(path, fault) {
                self.counters.hit(kind);
                self.say(number, 7, || format!("has {} in {path}", kind.name()));
                self.nodes[number].harmed = true;
            }
        }
    }

    fn wipe(&mut self, number: usize) {
        self.say(number, 7, || "has an empty disk".to_owned());
        self.count_passing(number);
        let (rng, mut model) = (self.rng.child(), DiskModel::default());
        if self.troubled {
            model = self.plan.model.clone();
        }
        let node = &mut self.nodes[number];
        node.disk = SimDisk::new(rng, model);
        node.paths.clear();
        (node.harmed, node.failures) = (true, 0);
    }

    pub(super) fn count_passing(&mut self, number: usize) {
        for (kind, fault, _) in PASSING {
            self.counters.add(kind, self.nodes[number].disk.hits(fault));
        }
    }

    pub(super) fn run(mut self) -> Report {
        self.run_until(self.plan.lasts);
        if self.ok() {
            self.finish();
        }
        for number in 0..self.plan.nodes {
            self.count_passing(number);
        }
        let committed = self.checkers.iter().map(Checker::committed).sum();
        let acknowledged = self.checkers.iter().map(Checker::told).sum();
        for word in [self.taken, committed, acknowledged] {
            self.hash = hash_bytes(self.hash, &word.to_le_bytes());
        }
        Report {
            seed: self.plan.seed,
            violations: self.checkers.into_iter().flat_map(|checker| checker.violations).collect(),
            events: self.taken,
            committed,
            acknowledged,
            counters: self.counters,
            hash: self.hash,
            story: self.story.unwrap_or_default(),
        }
    }
}

/// Runs a seed, with a planted bug or none; `tell` asks for the story.
pub fn run(seed: u64, bug: Option<Bug>, tell: bool) -> Report {
    natrix_core::planted::arm(bug, 0, 1, seed);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| World::new(seed, tell).run()));
    natrix_core::planted::disarm();
    ran.unwrap_or_else(|panic| {
        let violation = Violation { rule: Rule::Panic, at: 0, text: crate::panic_text(&*panic) };
        Report { seed, violations: vec![violation], ..Report::default() }
    })
}
