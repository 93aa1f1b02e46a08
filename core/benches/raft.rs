//! What Raft groups cost on one core: proposals through three members in one process with a disk that is done at once, and
//! many groups that have nothing to do.
//!
//! Every message is encoded and decoded as on the wire; every record is put together as a journal would get it; every entry is
//! applied by all three. `cargo bench -p natrix-core --bench raft` prints the median of some rounds, in processor time, and
//! allocations. With `profile` behind it, proposals alone go through some rounds, for whoever counts instructions.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};
use std::hint::black_box;
use std::time::Duration as Took;

use bytes::Bytes;
use natrix_core::raft::group::{Config, Group, Message, Output, Record, Start};
use natrix_core::raft::membership::Membership;
use natrix_core::raft::neighbours::{NeighbourOutput, Neighbours, NeighboursConfig};
use natrix_core::raft::wire::{Beat, NodeId, SubjectKind};
use natrix_core::rng::Rng;
use natrix_core::time::{Duration, Instant};
use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 41;
/// Proposals in a round.
const COUNT: usize = 8192;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted.
struct Counting;

// SAFETY: every call is passed on as it is; the counter is a plain number of the thread, and allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is the system allocator's condition.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The processor time of this thread: others may have the machine meanwhile.
fn clock() -> Took {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Took::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// So many groups of three that have nothing to do, each member on a node of its own, on one clock; what a node does for all
/// its groups is part of the figure.
struct Idle {
    groups: Vec<Trio>,
    /// When members are due: the group and the member.
    due: BTreeSet<(Instant, usize, usize)>,
    /// What is in that of each.
    set: Vec<[Instant; 3]>,
    nodes: Vec<Neighbours>,
    beats: VecDeque<(usize, Bytes)>,
    now: Instant,
}

impl Idle {
    fn new(count: usize, sleep_after: Option<Duration>) -> Self {
        let node = |at: usize| {
            let mut node = Neighbours::new(NAMES[at], NeighboursConfig::default(), 1, Instant::ZERO);
            NAMES.into_iter().for_each(|other| node.add(other));
            node
        };
        let mut groups: Vec<Trio> = (0..count).map(|at| Trio::new(at as u64 * 3, sleep_after)).collect();
        let now = groups.iter().map(|trio| trio.now).max().expect("there are groups");
        for trio in &mut groups {
            trio.now = now;
        }
        let nodes = (0..3).map(node).collect();
        let set = vec![[Instant::MAX; 3]; count];
        let mut idle = Idle { groups, due: BTreeSet::new(), set, nodes, beats: VecDeque::new(), now };
        (0..count).for_each(|group| idle.arm(group));
        // As long as it takes until they are what they stay.
        (0..3000).for_each(|_| idle.pass());
        idle
    }

    /// Notes when the members of a group are due.
    fn arm(&mut self, group: usize) {
        for at in 0..3 {
            let (due, set) = (self.groups[group].groups[at].poll_timeout(), &mut self.set[group][at]);
            if due != *set {
                self.due.remove(&(*set, group, at));
                *set = due;
                if due < Instant::MAX {
                    self.due.insert((due, group, at));
                }
            }
        }
    }

    /// A millisecond passes.
    fn pass(&mut self) {
        self.now += Duration::from_millis(1);
        for at in 0..3 {
            if self.nodes[at].poll_timeout() <= self.now {
                self.nodes[at].handle_timeout(self.now);
                self.drain(at);
            }
        }
        while let Some((to, bytes)) = self.beats.pop_front() {
            self.nodes[to].handle_beat(self.now, Beat::decode(&bytes).expect("it was said"));
            self.drain(to);
        }
        while let Some((_, group, at)) = self.due.first().copied().filter(|(due, ..)| *due <= self.now) {
            let trio = &mut self.groups[group];
            trio.now = self.now;
            trio.groups[at].handle_timeout(self.now);
            trio.drain(at);
            trio.deliver();
            self.arm(group);
        }
    }

    fn drain(&mut self, at: usize) {
        while let Some(output) = self.nodes[at].poll_output() {
            match output {
                NeighbourOutput::Beat { to, beat } => {
                    let mut bytes = Vec::new();
                    beat.encode(&mut bytes);
                    self.beats.push_back((usize::from(to.0[7] - b'0'), bytes.into()));
                }
                NeighbourOutput::Suspect(node) => self.tell(at, |group, now| group.suspect(now, node)),
                NeighbourOutput::Trust(node) => self.tell(at, |group, now| group.trust(now, node)),
            }
        }
    }

    /// Tells all members on a node.
    fn tell(&mut self, at: usize, mut what: impl FnMut(&mut Group, Instant)) {
        for group in 0..self.groups.len() {
            what(&mut self.groups[group].groups[at], self.now);
            self.groups[group].drain(at);
            self.groups[group].deliver();
            self.arm(group);
        }
    }
}

const NAMES: [NodeId; 3] = [NodeId(*b"member-0"), NodeId(*b"member-1"), NodeId(*b"member-2")];

/// Three members whose messages and writes arrive at once.
struct Trio {
    groups: Vec<Group>,
    now: Instant,
    wire: VecDeque<(usize, SubjectKind, Bytes)>,
    /// What the journal is given, of one record.
    record: Vec<u8>,
    /// Bytes that each member applied.
    applied: [usize; 3],
}

impl Trio {
    fn new(seed: u64, sleep_after: Option<Duration>) -> Self {
        let names = NAMES;
        let config = Config { snapshot_entries: 100_000, keep_entries: 0, sleep_after, ..Config::default() };
        let member = |at: usize| {
            let start = Start::Fresh { members: Membership::new(names) };
            Group::new(names[at], config.clone(), start, Rng::from_u64(seed + at as u64), Instant::ZERO)
        };
        let groups = (0..3).map(member).collect();
        let (wire, record) = (VecDeque::new(), Vec::new());
        let mut trio = Trio { groups, now: Instant::ZERO, wire, record, applied: [0; 3] };
        while trio.leader().is_none() {
            trio.pass(Duration::from_millis(10));
        }
        trio.pass(Duration::from_millis(200));
        trio
    }

    fn leader(&self) -> Option<usize> {
        self.groups.iter().position(Group::is_leader)
    }

    fn pass(&mut self, long: Duration) {
        self.now += long;
        for at in 0..3 {
            if self.groups[at].poll_timeout() <= self.now {
                self.groups[at].handle_timeout(self.now);
                self.drain(at);
            }
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some((to, kind, bytes)) = self.wire.pop_front() {
            let message = Message::decode(kind, &bytes).expect("it was said");
            self.groups[to].handle_message(self.now, message);
            self.drain(to);
        }
    }

    fn drain(&mut self, at: usize) {
        let now = self.now;
        let group = &mut self.groups[at];
        while let Some(output) = group.poll_output() {
            match output {
                Output::Send { to, message } => {
                    let mut bytes = Vec::new();
                    message.encode(&mut bytes).expect("it can be said");
                    let to = usize::from(to.0[7] - b'0');
                    self.wire.push_back((to, message.subject(), bytes.into()));
                }
                Output::Persist { id, record } => {
                    put(&mut self.record, &record);
                    black_box(&self.record);
                    group.persisted(now, id);
                }
                Output::Apply(entries) => {
                    let mut last = 0;
                    for entry in &entries {
                        last = entry.index;
                        self.applied[at] += entry.entry.data.len();
                    }
                    group.applied_through(now, last);
                }
                Output::WantSnapshot => {
                    let applied = group.applied();
                    let _ = group.take_snapshot(now, applied, Bytes::from_static(b"state"));
                }
                _ => {}
            }
        }
    }

    /// Proposes `count` entries, drained in batches, and waits until all have them.
    fn propose(&mut self, data: &Bytes, count: usize, batch: usize) {
        let leader = self.leader().expect("somebody leads");
        let before = self.applied;
        for _ in 0..count / batch {
            for _ in 0..batch {
                self.groups[leader].propose(self.now, data.clone()).expect("there is room");
            }
            self.drain(leader);
            self.deliver();
        }
        let last = self.groups[leader].log().last().index;
        for (at, group) in self.groups.iter().enumerate() {
            assert_eq!((group.applied(), self.applied[at] - before[at]), (last, count * data.len()));
        }
    }
}

/// Puts a record together as a journal would get it.
fn put(out: &mut Vec<u8>, record: &Record) {
    out.clear();
    match record {
        Record::Append { entries, commit } => {
            out.extend_from_slice(&commit.to_le_bytes());
            for entry in entries {
                out.extend_from_slice(&entry.term.to_le_bytes());
                out.extend_from_slice(&(entry.entry.data.len() as u32).to_le_bytes());
                out.push(entry.entry.kind as u8);
                out.extend_from_slice(&entry.entry.data);
            }
        }
        // The others are few.
        other => out.extend_from_slice(format!("{other:?}").as_bytes()),
    }
}

fn median(mut rounds: Vec<Took>) -> Took {
    rounds.sort_unstable();
    rounds[rounds.len() / 2]
}

fn proposals(batch: usize) {
    let data = Bytes::from(vec![7; 128]);
    let mut trio = Trio::new(1, None);
    trio.propose(&data, COUNT, batch);
    let mut allocations = 0;
    let round = |_| {
        let (begun, before) = (clock(), ALLOCATIONS.get());
        trio.propose(&data, COUNT, batch);
        allocations += ALLOCATIONS.get() - before;
        clock() - begun
    };
    let took = median((0..ROUNDS).map(round).collect());
    println!(
        "proposals of 128 bytes, {batch:>4} at once: {:>9.0} a second, {:>6.0} ns and {:.2} allocations each",
        COUNT as f64 / took.as_secs_f64(),
        took.as_nanos() as f64 / COUNT as f64,
        allocations as f64 / (COUNT * ROUNDS) as f64,
    );
}

fn idle(count: usize, sleep_after: Option<Duration>) {
    let mut idle = Idle::new(count, sleep_after);
    let second = |_| {
        let begun = clock();
        (0..1000).for_each(|_| idle.pass());
        clock() - begun
    };
    let took = median((0..9).map(second).collect());
    let members = || idle.groups.iter().flat_map(|trio| &trio.groups);
    let asleep = members().filter(|group| group.is_asleep()).count();
    assert_eq!(asleep, if sleep_after.is_some() { members().count() } else { 0 });
    let how = if sleep_after.is_some() { "asleep" } else { "awake" };
    println!("a second of {count:>6} idle groups of three, {how}: {:>8.3} ms", took.as_secs_f64() * 1000.0);
}

fn main() {
    if let Some(at) = std::env::args().position(|word| word == "profile") {
        let number = |at| std::env::args().nth(at).and_then(|word| word.parse().ok());
        let (batch, rounds) = (number(at + 1).unwrap_or(1024), number(at + 2).unwrap_or(20));
        let mut trio = Trio::new(1, None);
        return trio.propose(&Bytes::from(vec![7; 128]), COUNT * rounds, batch);
    }
    for batch in [1, 64, 1024] {
        proposals(batch);
    }
    idle(1000, None);
    idle(10_000, None);
    idle(10_000, Some(Duration::from_millis(500)));
}
