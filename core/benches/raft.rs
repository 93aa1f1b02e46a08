//! What a Raft group costs on one core: proposals through three members in one process with a disk that is done at once.
//!
//! Every message is encoded and decoded as on the wire; every record is put together as a journal would get it; every entry is
//! applied by all three. `cargo bench -p natrix-core --bench raft` prints the median of some rounds, in processor time, and
//! allocations. With `profile` behind it, proposals alone go through some rounds, for whoever counts instructions.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::hint::black_box;
use std::time::Duration as Took;

use bytes::Bytes;
use natrix_core::raft::group::{Config, Group, Message, Output, Record, Start};
use natrix_core::raft::membership::Membership;
use natrix_core::raft::wire::{NodeId, SubjectKind};
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
    fn new(seed: u64) -> Self {
        let names = [*b"member-0", *b"member-1", *b"member-2"].map(NodeId);
        let config = Config { snapshot_entries: 100_000, keep_entries: 0, ..Config::default() };
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
    let mut trio = Trio::new(1);
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

fn main() {
    if let Some(at) = std::env::args().position(|word| word == "profile") {
        let number = |at| std::env::args().nth(at).and_then(|word| word.parse().ok());
        let (batch, rounds) = (number(at + 1).unwrap_or(1024), number(at + 2).unwrap_or(20));
        let mut trio = Trio::new(1);
        return trio.propose(&Bytes::from(vec![7; 128]), COUNT * rounds, batch);
    }
    for batch in [1, 64, 1024] {
        proposals(batch);
    }
}
