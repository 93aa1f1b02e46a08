//! What a Raft group costs with its log on the shard journal: proposals through three hosts in one process, over disks in memory
//! that are done at once.

use std::collections::VecDeque;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use natrix_core::disk::FilePath;
use natrix_core::disk::instant::InstantDisk;
use natrix_core::raft::group::{Config, Group, Message, Output};
use natrix_core::raft::host::{GroupSpec, Host, HostConfig, HostInput, HostOutput};
use natrix_core::raft::membership::Membership;
use natrix_core::raft::store::StoreConfig;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;
use natrix_core::storage::{OwnerId, journal};
use natrix_core::time::{Duration, Instant};

const OWNER: OwnerId = OwnerId(7);

/// Three hosts whose messages arrive at once.
struct Trio {
    hosts: Vec<Host>,
    disks: Vec<InstantDisk>,
    now: Instant,
    wire: VecDeque<(usize, Message)>,
}

impl Trio {
    fn new() -> Self {
        let names = [*b"member-0", *b"member-1", *b"member-2"].map(NodeId);
        let root = FilePath::root();
        let host = |at: usize| {
            let config = HostConfig {
                journal: journal::Config {
                    segment_size: 16 << 20,
                    ..journal::Config::new(root.join("journal"))
                },
                store: StoreConfig::new(root.join("raft")),
                witness: OwnerId(1),
                vouch_after: Duration::from_secs(1),
            };
            let spec = GroupSpec {
                owner: OWNER,
                id: names[at],
                config: Config { snapshot_entries: 100_000, keep_entries: 0, ..Config::default() },
                members: Membership::new(names),
                expected: false,
            };
            Host::open(config, [spec], Rng::from_u64(at as u64), Instant::ZERO)
        };
        let hosts = (0..3).map(host).collect();
        let disks = vec![InstantDisk::default(); 3];
        let mut trio = Trio { hosts, disks, now: Instant::ZERO, wire: VecDeque::new() };
        (0..3).for_each(|at| trio.drain(at));
        while trio.leader().is_none() {
            trio.pass(Duration::from_millis(10));
        }
        trio.pass(Duration::from_millis(200));
        trio
    }

    fn leader(&self) -> Option<usize> {
        self.hosts.iter().position(|host| host.group(OWNER).is_some_and(Group::is_leader))
    }

    fn pass(&mut self, long: Duration) {
        self.now += long;
        for at in 0..3 {
            self.hosts[at].handle(self.now, HostInput::Tick);
            self.drain(at);
        }
        self.deliver();
    }

    fn deliver(&mut self) {
        while let Some((to, message)) = self.wire.pop_front() {
            self.hosts[to].handle(self.now, HostInput::Message { group: OWNER, message });
            self.drain(to);
        }
    }

    fn drain(&mut self, at: usize) {
        let now = self.now;
        while let Some(output) = self.hosts[at].poll_output() {
            match output {
                HostOutput::Disk(submission) => {
                    let completion = self.disks[at].execute(submission);
                    self.hosts[at].handle(now, HostInput::Disk(completion));
                }
                HostOutput::Found { group, .. } => self.hosts[at].start(now, group, 0),
                HostOutput::Group(_, Output::Send { to, message }) => {
                    self.wire.push_back((usize::from(to.0[7] - b'0'), message));
                }
                HostOutput::Group(_, Output::Apply(entries)) => {
                    let last = entries.last().map_or(0, |entry| entry.index);
                    self.hosts[at].act(now, OWNER, |group, now| group.applied_through(now, last));
                }
                HostOutput::Group(_, Output::WantSnapshot) => {
                    self.hosts[at].act(now, OWNER, |group, now| {
                        let applied = group.applied();
                        let _ = group.take_snapshot(now, applied, Bytes::from_static(b"state"));
                    });
                }
                HostOutput::Failed(error) => panic!("{error}"),
                _ => {}
            }
        }
    }

    /// Proposes `count` entries, drained in batches, and waits until the leader has applied them.
    fn propose(&mut self, data: &Bytes, count: usize, batch: usize) {
        let leader = self.leader().expect("somebody leads");
        for _ in 0..count / batch {
            self.hosts[leader].act(self.now, OWNER, |group, now| {
                for _ in 0..batch {
                    group.propose(now, data.clone()).expect("there is room");
                }
            });
            self.drain(leader);
            self.deliver();
        }
        let group = self.hosts[leader].group(OWNER).expect("it runs");
        assert_eq!(group.applied(), group.log().last().index);
    }
}

fn proposals(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("raft on the journal");
    let data = Bytes::from(vec![7; 128]);
    for batch in [1, 64, 1024] {
        group.throughput(Throughput::Elements(8192));
        group.bench_function(format!("proposals of 128 bytes, {batch} at once"), |bencher| {
            let mut trio = Trio::new();
            bencher.iter(|| trio.propose(&data, 8192, batch));
        });
    }
    group.finish();
}

criterion_group!(benches, proposals);
criterion_main!(benches);
