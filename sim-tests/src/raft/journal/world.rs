//! The world of one seed: nodes, links, clients, what goes wrong, and the checkers that watch.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use natrix_core::planted::Bug;
use natrix_core::raft::group::{Group, Message};
use natrix_core::raft::host::{Host, HostInput};
use natrix_core::raft::membership::Membership;
use natrix_core::rng::Rng;
use natrix_core::time::Instant;

use super::faults::{Counters, MS, Plan, Trouble};
use super::node::{Node, owner};
use crate::raft::checker::{Checker, Rule, Violation, hash_bytes};

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
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
    pub(super) story: Option<String>,
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

    pub(super) fn schedule(&mut self, after: u64, event: Event) {
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

    /// Adds to the story what the hash needs no word of.
    pub(super) fn tell(&mut self, node: usize, text: &str) {
        if let Some(story) = &mut self.story {
            story.push_str(&format!("{:>10.6} n{node} {text}\n", self.now as f64 / 1e9));
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
            if let Err(error) = &completion.result {
                self.tell(number, &format!("is told by its disk: {error}"));
            }
            self.has_lied(number);
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

    pub(super) fn back(&mut self, number: usize) {
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
        let honest = self.nodes[number].lie.is_none();
        if honest && self.troubled && self.plan.has(Trouble::CrashInRecovery) && self.rng.chance(1, 8) {
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
