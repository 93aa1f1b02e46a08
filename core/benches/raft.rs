//! What a Raft group costs: proposals through three members in one process with a disk that is done at once, and groups
//! that have nothing to do.

use std::collections::VecDeque;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::raft::group::{Config, Group, Message, Output, Start};
use natrix_core::raft::membership::Membership;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;
use natrix_core::time::{Duration, Instant};

/// Three members whose messages and writes arrive at once.
struct Trio {
    groups: Vec<Group>,
    now: Instant,
    wire: VecDeque<(usize, Message)>,
    applied: u64,
    /// Messages that were sent.
    sent: u64,
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
        let mut trio = Trio { groups, now: Instant::ZERO, wire: VecDeque::new(), applied: 0, sent: 0 };
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
        while let Some((to, message)) = self.wire.pop_front() {
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
                    self.sent += 1;
                    self.wire.push_back((usize::from(to.0[7] - b'0'), message));
                }
                Output::Persist { id, .. } => group.persisted(now, id),
                Output::Apply(entries) => {
                    let last = entries.last().map_or(0, |entry| entry.index);
                    group.applied_through(now, last);
                    self.applied = self.applied.max(last);
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
        for _ in 0..count / batch {
            for _ in 0..batch {
                self.groups[leader].propose(self.now, data.clone()).expect("there is room");
            }
            self.drain(leader);
            self.deliver();
        }
        let last = self.groups[leader].log().last().index;
        assert_eq!(self.groups[leader].applied(), last);
    }
}

fn proposals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft");
    let data = Bytes::from(vec![7; 128]);
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(8192));
        group.bench_function(format!("proposals of 128 bytes, {batch} at once"), |bencher| {
            let mut trio = Trio::new(1);
            bencher.iter(|| trio.propose(&data, 8192, batch));
        });
    }
    group.finish();
}

fn idle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft");
    group.sample_size(10);
    group.bench_function("a second of 1,000 groups of three that are idle", |bencher| {
        let make = || (0..1000).map(|seed| Trio::new(seed * 3)).collect::<Vec<_>>();
        bencher.iter_batched_ref(
            make,
            |trios| {
                for _ in 0..100 {
                    for trio in trios.iter_mut() {
                        trio.pass(Duration::from_millis(10));
                    }
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, proposals, idle);
criterion_main!(benches);
