//! A group's whole world on one thread: nodes, links, disks, clients, and the checker that watches.

mod outputs;

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fmt::Write as _;
use std::rc::Rc;

use natrix_core::planted::{self, Bug};
use natrix_core::raft::group::{Group, Message, Output, Start, WriteId};
use natrix_core::raft::membership::Membership;
use natrix_core::raft::neighbours::Neighbours;
use natrix_core::raft::wire::Beat;
use natrix_core::rng::Rng;
use natrix_core::time::Instant;

use super::checker::{Checker, Rule, Violation, hash_bytes};
use super::deed::{Deed, Purpose, stream};
use super::history::{Call, History};
use super::marks::{Mark, Marks};
use super::net::{Links, MS};
use super::node::Node;
use super::plan::{Counters, Fault, Plan};

/// Something that happens.
#[derive(Debug)]
pub(super) enum Event {
    /// A message arrives.
    Deliver { to: usize, message: Box<Message> },
    /// What a node says to another, whatever groups they share, arrives.
    Beat { to: usize, beat: Beat },
    /// It may be time for that.
    BeatTimer { node: usize, life: u32 },
    /// A node's time-out may be due.
    Timer { node: usize, life: u32 },
    /// A sync is over.
    Synced { node: usize, life: u32, id: WriteId },
    /// The application has applied.
    Applied { node: usize, life: u32, index: u64 },
    /// The next fault.
    Trouble,
    /// A client of that generation proposes.
    Propose { clients: u32 },
    /// A client of that generation reads.
    Read { clients: u32 },
    /// A node dies.
    Crash { node: usize, dice: u64 },
    /// A node comes back.
    Restart { node: usize },
    /// A paused node goes on.
    Resume { node: usize },
    /// Links are mended, those of one node or all.
    Mend { node: Option<usize> },
    /// A link goes.
    Cut { from: usize, to: usize },
    /// A hole in an application is filled.
    Fill { node: usize },
    /// Applying goes on.
    ResumeApply { node: usize },
    /// A node has just begun to lead.
    AtElection { node: usize },
    /// A node is writing something that few writes are.
    AtWrite { node: usize, life: u32 },
    /// A node has just voted for another.
    AtVote { node: usize, life: u32 },
    /// What a script says.
    Deed(Box<Deed>),
}

impl Event {
    /// Returns the arrival of what arrives, once more.
    fn again(&self) -> Event {
        match self {
            Event::Deliver { to, message } => Event::Deliver { to: *to, message: message.clone() },
            Event::Beat { to, beat } => Event::Beat { to: *to, beat: *beat },
            other => unreachable!("{other:?} is no arrival"),
        }
    }
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
    /// For how long it ran, in virtual nanoseconds.
    pub virtual_time: u64,
    /// How many entries were committed.
    pub committed: u64,
    /// How many proposals clients were told to be committed.
    pub acknowledged: u64,
    /// How many of them were gone in the end.
    pub lost: u64,
    /// The faults that came.
    pub counters: Counters,
    /// The states that were reached.
    pub marks: Marks,
    /// The hash of everything that happened.
    pub hash: u64,
    /// What happened, in words, if that was asked for.
    pub story: String,
}

#[derive(Debug)]
struct Scheduled {
    at: u64,
    tie: u64,
    event: Event,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.tie) == (other.at, other.tie)
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.tie).cmp(&(other.at, other.tie))
    }
}

/// A run under way.
#[derive(Debug)]
pub(super) struct World {
    pub(super) plan: Plan,
    /// Draws deeds.
    pub(super) rng: Rng,
    /// The deeds, if they are to be noted.
    pub(super) noted: Option<Noted>,
    pub(super) now: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    ties: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) links: Links,
    pub(super) checker: Checker,
    pub(super) counters: Counters,
    pub(super) marks: Marks,
    /// Faults come; afterwards everything has to get well.
    pub(super) troubled: bool,
    /// Clients propose.
    pub(super) busy: bool,
    /// Which generation of clients it is: what one of an earlier generation was about to say isn't said.
    pub(super) clients: u32,
    pub(super) proposals: u64,
    /// Reads that wait for the group: what was acknowledged before, and the call.
    pub(super) reads: BTreeMap<u64, (u64, Call)>,
    pub(super) history: History,
    /// Somebody asked for other members.
    pub(super) changed: bool,
    /// What is done as soon as somebody leads.
    pub(super) when_led: Vec<Deed>,
    pub(super) next_read: u64,
    outputs: Vec<Output>,
    /// A member that slept was woken.
    pub(super) woken: bool,
    events: u64,
    hash: u64,
    /// What happens is written down, and not drawn.
    scripted: bool,
    tell: Tell,
    story: String,
}

/// The deeds of a run, in a place that outlives a panic.
pub(super) type Noted = Rc<RefCell<Vec<(u64, Deed)>>>;

/// How much of a run is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tell {
    /// Nothing.
    Nothing,
    /// What was done to the group, who led, who was down.
    Story,
    /// Every message and every write.
    All,
}

/// More events than any run needs: something goes round in circles.
const MAX_EVENTS: u64 = 1_000_000;

impl World {
    /// Makes the world of `plan`, and starts every node. What happens is drawn from `rng`, or is what `script` says.
    pub(super) fn new(plan: Plan, rng: Rng, script: Option<&[(u64, Deed)]>, tell: Tell) -> Self {
        let nodes = (0..plan.nodes).map(|node| Node::new(node, plan.seed)).collect::<Vec<_>>();
        let mut world = World {
            rng,
            noted: None,
            scripted: script.is_some(),
            now: 0,
            queue: BinaryHeap::new(),
            ties: 0,
            links: plan.links.clone(),
            checker: Checker::new(
                plan.nodes,
                Membership::new(nodes[..plan.members].iter().map(|node| node.id)),
            ),
            counters: Counters::default(),
            marks: Marks::default(),
            troubled: true,
            busy: true,
            clients: 0,
            proposals: 0,
            reads: BTreeMap::new(),
            history: History::default(),
            changed: false,
            when_led: Vec::new(),
            next_read: 0,
            outputs: Vec::new(),
            woken: false,
            events: 0,
            hash: plan.seed,
            tell,
            story: String::new(),
            nodes,
            plan,
        };
        world.links.seeded(world.plan.seed, script);
        for (at, deed) in script.into_iter().flatten() {
            if !matches!(deed, Deed::Odd { .. }) {
                world.schedule(*at, Event::Deed(Box::new(deed.clone())));
            }
        }
        for node in 0..world.plan.nodes {
            if world.plan.swarm.has(Fault::Drift) {
                let mut clock = stream(world.plan.seed, Purpose::Clock, node, 0);
                world.nodes[node].rate = 900_000 + clock.below(200_000);
            }
            world.start(node);
        }
        for setting in [Fault::Drift, Fault::Settings, Fault::SlowDisk] {
            if world.plan.swarm.has(setting) {
                world.counters.hit(setting);
            }
        }
        if script.is_none() {
            world.schedule(world.plan.fault_every, Event::Trouble);
            world.schedule(world.plan.propose_every, Event::Propose { clients: 0 });
            world.schedule(world.plan.propose_every * 3, Event::Read { clients: 0 });
        } else {
            // Clients do what the script says.
            world.busy = false;
        }
        world
    }

    pub(super) fn schedule(&mut self, after: u64, event: Event) {
        self.ties += 1;
        let at = self.now.saturating_add(after);
        self.queue.push(Reverse(Scheduled { at, tie: self.ties, event }));
    }

    /// Runs until the virtual time `until`.
    pub(super) fn run_until(&mut self, until: u64) {
        while self.checker.violations.is_empty() {
            match self.queue.peek() {
                Some(Reverse(next)) if next.at <= until => {}
                _ => break,
            }
            let Some(Reverse(next)) = self.queue.pop() else { break };
            self.now = next.at;
            self.events += 1;
            if self.events > MAX_EVENTS {
                let text = format!("{MAX_EVENTS} events and no end");
                self.checker.violate(Rule::Liveness, self.now, text);
            }
            self.happen(next.event);
        }
        self.now = self.now.max(until);
    }

    pub(super) fn happen(&mut self, event: Event) {
        let node = match &event {
            Event::Deliver { to, .. } | Event::Beat { to, .. } => Some(*to),
            Event::BeatTimer { node, .. }
            | Event::Timer { node, .. }
            | Event::Synced { node, .. }
            | Event::Applied { node, .. } => Some(*node),
            _ => None,
        };
        if let Some(node) = node
            && self.nodes[node].paused.is_some()
        {
            return self.nodes[node].backlog.push_back(event);
        }
        match event {
            Event::Deliver { to, message } => {
                self.trace(to, 1, || format!("hears {message:?}"));
                self.hear(to, *message);
            }
            Event::Beat { to, beat } => self.hear_beat(to, beat),
            Event::BeatTimer { node, life } => self.beat_timer(node, life),
            Event::Timer { node, life } => {
                // One that an earlier one has taken the place of is over, or each would set the next for ever.
                if self.nodes[node].life == life && self.nodes[node].timer <= self.now {
                    self.nodes[node].timer = u64::MAX;
                    self.call(node, Group::handle_timeout);
                }
            }
            Event::Synced { node, life, id } => self.synced(node, life, id),
            Event::Applied { node, life, index } => {
                if self.nodes[node].life == life {
                    self.call(node, |group, now| group.applied_through(now, index));
                }
            }
            Event::Trouble => self.trouble(),
            Event::Propose { clients } | Event::Read { clients } if clients != self.clients => {}
            Event::Propose { .. } => self.propose(),
            Event::Read { .. } => self.read(),
            // What was to be a fault, or to end one, must not meddle with what comes after all faults.
            Event::Mend { .. } | Event::Crash { .. } if !self.troubled => {}
            Event::Crash { node, dice } => {
                self.crash(node, SECOND, dice);
            }
            Event::Deed(deed) => {
                let fault = deed.fault();
                if self.act(*deed)
                    && let Some(fault) = fault
                {
                    self.counters.hit(fault);
                }
            }
            Event::AtElection { node } => self.at_election(node),
            Event::AtWrite { node, life } => self.at_write(node, life),
            Event::AtVote { node, life } => self.at_vote(node, life),
            Event::Restart { node } => self.start(node),
            Event::Resume { node } => self.resume(node),
            Event::Mend { node: None } => self.links.mend(),
            Event::Mend { node: Some(node) } => self.links.mend_node(node),
            Event::Cut { from, to } => {
                if self.troubled {
                    self.links.cut(from, to);
                }
            }
            Event::Fill { node } => {
                self.nodes[node].hole = false;
                self.call(node, |group, now| group.set_hole(now, false));
            }
            Event::ResumeApply { node } => self.call(node, |group, _| group.resume_apply()),
        }
    }

    pub(super) fn trace(&mut self, node: usize, kind: u64, text: impl FnOnce() -> String) {
        let mut word = [0; 16];
        word[..8].copy_from_slice(&self.now.to_le_bytes());
        word[8..].copy_from_slice(&(kind << 8 | node as u64).to_le_bytes());
        self.hash = hash_bytes(self.hash, &word);
        // Messages, writes, syncs and what is applied are many.
        let minor = matches!(kind, 1 | 4 | 6 | 8 | 9);
        if self.tell == Tell::All || (self.tell == Tell::Story && !minor) {
            let text = format!("n{node} {}", text());
            self.say(&text);
        }
    }

    /// Returns whether what happens is written down, and not drawn.
    pub(super) fn is_scripted(&self) -> bool {
        self.scripted
    }

    /// Returns whether the run is told.
    pub(super) fn tells(&self) -> bool {
        self.tell > Tell::Nothing
    }

    /// Says something that is done, and not what comes of it.
    pub(super) fn say(&mut self, text: &str) {
        if self.tell > Tell::Nothing {
            let at = self.now as f64 / 1e9;
            let _ = writeln!(self.story, "{at:>10.6} {text}");
        }
    }

    /// Starts a node, with what its disk holds.
    pub(super) fn start(&mut self, number: usize) {
        if self.nodes[number].group.is_some() {
            return;
        }
        let now = self.now;
        let rng = stream(self.plan.seed, Purpose::Life, number, self.nodes[number].life as usize);
        let initial = self.initial_members(number);
        let config = self.plan.config.clone();
        let node = &mut self.nodes[number];
        node.boot(now);
        node.app = node.durable;
        let fresh = node.disk.is_empty() && !node.damaged;
        let start = match fresh {
            true => Start::Fresh { members: initial },
            false => {
                let members = if node.wiped { Membership::default() } else { initial };
                Start::Recovered { found: Box::new(node.disk.recover(node.durable.applied)), members }
            }
        };
        let mut group = Group::new(node.id, config, start, rng, node.clock(now));
        group.set_hole(node.clock(now), node.hole);
        if group.in_doubt() {
            self.marks.reach(Mark::InDoubt);
        } else {
            node.damaged = false;
        }
        self.checker.started(now, number, &group);
        node.group = Some(group);
        self.trace(number, 2, || "starts".to_owned());
        self.call(number, |_, _| {});
        self.meet(number);
    }

    fn initial_members(&self, number: usize) -> Membership {
        match number < self.plan.members {
            true => Membership::new((0..self.plan.members).map(|member| self.nodes[member].id)),
            false => Membership::default(),
        }
    }

    /// Calls a node's machine, and does what it asks for.
    pub(super) fn call(&mut self, number: usize, deed: impl FnOnce(&mut Group, Instant)) {
        let at = self.now;
        let node = &mut self.nodes[number];
        let now = node.clock(at);
        let Some(group) = &mut node.group else { return };
        let led = group.is_leader();
        let (doubted, slept) = (group.in_doubt(), group.is_asleep());
        deed(group, now);
        let mut outputs = std::mem::take(&mut self.outputs);
        while let Some(output) = group.poll_output() {
            outputs.push(output);
        }
        let healed = doubted && !group.in_doubt();
        if healed {
            self.marks.reach(Mark::Healed);
            node.damaged = false;
        }
        if led != group.is_leader() {
            let what = if led { "leads no more" } else { "leads" };
            let term = group.term();
            self.leadership_moved(number, !led);
            self.trace(number, 3, || format!("{what}, term {term}"));
        }
        self.slept(number, slept);
        self.look(number, &outputs);
        for output in outputs.drain(..) {
            self.carry_out(number, output);
        }
        self.outputs = outputs;
        self.set_timer(number);
        if healed {
            self.look_what_is_left(number);
            self.fragile_healing(number);
        }
    }

    pub(super) fn resume(&mut self, number: usize) {
        if self.nodes[number].paused.is_none_or(|until| until > self.now) {
            return;
        }
        self.nodes[number].paused = None;
        self.trace(number, 11, || "goes on".to_owned());
        while let Some(event) = self.nodes[number].backlog.pop_front() {
            self.happen(event);
        }
        self.nodes[number].timer = u64::MAX;
        self.set_timer(number);
        self.nodes[number].beat_timer = u64::MAX;
        self.neighbours(number, Neighbours::handle_timeout);
    }

    /// Runs until faults end, and with `to_the_end` until all is well.
    pub(super) fn run(mut self, to_the_end: bool) -> Report {
        let trouble = self.plan.trouble;
        self.run_until(trouble);
        if to_the_end {
            self.finish();
        }
        if self.checker.violations.is_empty()
            && let Err(text) = self.history.registers_are_linear()
        {
            self.checker.violate(Rule::Linearizable, self.now, text);
        }
        self.report()
    }

    /// Ends the run and says how it went.
    fn report(self) -> Report {
        Report {
            seed: self.plan.seed,
            violations: self.checker.violations.clone(),
            events: self.events,
            virtual_time: self.now,
            committed: self.checker.committed(),
            acknowledged: self.checker.told(),
            lost: self.checker.lost(),
            counters: self.counters,
            marks: self.marks,
            hash: self.hash,
            story: self.story,
        }
    }
}

/// Runs a seed, with a planted bug or none; `tell` asks for the story.
pub fn run(seed: u64, bug: Option<Bug>, tell: bool) -> Report {
    let mut rng = Rng::from_u64(seed);
    let plan = Plan::new(seed, &mut rng);
    let tell = if tell { Tell::All } else { Tell::Nothing };
    guarded(seed, bug, || World::new(plan, rng, None, tell).run(true))
}

/// Runs a seed's plan, and returns the deeds that were drawn from `rng` too.
pub(super) fn run_noted(plan: Plan, rng: Rng, bug: Option<Bug>) -> (Report, Vec<(u64, Deed)>) {
    let deeds = Noted::default();
    let report = guarded(plan.seed, bug, || {
        let mut world = World::new(plan, rng, None, Tell::Nothing);
        world.noted = Some(deeds.clone());
        world.run(true)
    });
    (report, deeds.take())
}

/// Runs something with a planted bug or none; a panic in it is a broken rule.
pub(super) fn guarded(seed: u64, bug: Option<Bug>, world: impl FnOnce() -> Report) -> Report {
    planted::arm(bug, 0, 1, seed);
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(world));
    planted::disarm();
    ran.unwrap_or_else(|panic| {
        let violation = Violation { rule: Rule::Panic, at: 0, text: crate::panic_text(&*panic) };
        Report { seed, violations: vec![violation], ..Report::default() }
    })
}

/// One second of virtual time.
pub(super) const SECOND: u64 = 1000 * MS;
