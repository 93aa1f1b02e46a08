//! What a run with streams is made of, drawn from its seed.

use std::time::Duration;

use natrix_core::config::{JetStreamOptions, Options, SyncPolicy};
use natrix_core::planted::Point;
use natrix_core::rng::Rng;
use natrix_runtime_sim::disk::{DiskFault, DiskModel};
use natrix_runtime_sim::net::{LinkShape, StreamShape};
use natrix_runtime_sim::queue::{MICROSECOND, MILLISECOND};
use natrix_runtime_sim::server::Pace;

use super::keys::KeysPlan;

/// How long a stream keeps messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retention {
    /// Until a limit pushes them out.
    Limits,
    /// Until all consumers have acknowledged them.
    Interest,
    /// Until the one consumer that wants them has.
    WorkQueue,
}

/// A stream that is there for the whole run.
#[derive(Clone, Copy, Debug)]
pub(super) struct StreamPlan {
    /// How long it keeps messages.
    pub retention: Retention,
    /// Whether it is in memory.
    pub memory: bool,
    /// The most messages; zero for any number.
    pub max_messages: u64,
    /// The most messages of a subject; zero for any number.
    pub per_subject: u64,
    /// Whether a full stream refuses messages.
    pub discard_new: bool,
    /// How many subjects are published to.
    pub subjects: u32,
    /// Whether clients keep values by expected sequences in it, and nothing else.
    pub values: bool,
}

/// A consumer that is there for the whole run.
#[derive(Clone, Copy, Debug)]
pub(super) struct ConsumerPlan {
    /// The stream's number.
    pub stream: usize,
    /// Whether messages are pushed.
    pub push: bool,
    /// The only subject it wants; `None` for all.
    pub filter: Option<u32>,
    /// Whether its state is in memory although its stream is in files.
    pub memory: bool,
    /// In nanoseconds.
    pub ack_wait: u64,
    /// The most messages that may be pending.
    pub max_pending: u64,
    /// Whether an acknowledgement is one of all messages before.
    pub ack_all: bool,
    /// Whether it wants only what is stored after it was made.
    pub new: bool,
}

/// What may go wrong, as bits.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Trouble {
    /// The process is killed.
    pub kill: bool,
    /// The power is cut.
    pub power: bool,
    /// The process, or a thread of it, stands still.
    pub pause: bool,
    /// Clients' connections are cut.
    pub cut: bool,
    /// The disk is slow now and then.
    pub slow_disk: bool,
    /// The disk is full now and then.
    pub full_disk: bool,
    /// Reads go wrong once.
    pub bad_reads: bool,
    /// Writes and syncs fail.
    pub failed_writes: bool,
    /// The catalogue is damaged while the server is down, and what says how far consumers are, also while it runs.
    pub rot: bool,
}

/// All that is decided before a run begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// The server's settings.
    pub options: Options,
    /// The number of its shards.
    pub shards: u16,
    /// Streams.
    pub streams: Vec<StreamPlan>,
    /// Consumers.
    pub consumers: Vec<ConsumerPlan>,
    /// How many clients publish.
    pub producers: usize,
    /// How many clients keep values.
    pub keepers: usize,
    /// How many clients schedule messages.
    pub schedulers: usize,
    /// How many clients pull from each pull consumer.
    pub workers: usize,
    /// Whether streams are purged and messages deleted on the way.
    pub removals: bool,
    /// Whether streams and consumers come and go.
    pub comings: bool,
    /// Whether a stream is backed up, and restored under another name.
    pub copies: bool,
    /// What may go wrong.
    pub trouble: Trouble,
    /// How the disk behaves.
    pub disk: DiskModel,
    /// The links.
    pub link: LinkShape,
    /// TCP streams.
    pub tcp: StreamShape,
    /// The server's threads.
    pub pace: Pace,
    /// How long clients work, in nanoseconds.
    pub duration: u64,
    /// Mean time between two acts of a client, in nanoseconds.
    pub interval: u64,
    /// How many messages a producer has under way at most.
    pub in_flight: usize,
    /// Whether the power is cut between the last acknowledgements and the last look.
    pub last_cut: bool,
    /// Fault points in the code, as bits, and how rarely they are taken.
    pub points: (u64, u64),
    /// What the store is sealed with.
    pub keys: KeysPlan,
}

/// What kind of run it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flavour {
    /// Mostly publishing.
    Publish,
    /// Mostly consuming.
    Consume,
    /// Everything, on a disk that fails.
    Faults,
    /// Messages that are held until they are due.
    Schedule,
}

impl Plan {
    /// Draws a plan.
    pub(super) fn draw(flavour: Flavour, rng: &mut Rng) -> Plan {
        let consume = matches!(flavour, Flavour::Consume | Flavour::Faults);
        let mut streams: Vec<StreamPlan> = (0..1 + rng.below(3)).map(|_| stream(flavour, rng)).collect();
        if flavour != Flavour::Consume {
            streams.push(values(rng));
        }
        let mut consumers = Vec::new();
        for (number, stream) in streams.iter().enumerate() {
            if consume || stream.retention == Retention::WorkQueue || rng.chance(1, 3) {
                consumers_of(number, stream, rng, &mut consumers);
            }
        }
        let keepers =
            if streams.last().is_some_and(|stream| stream.values) { 1 + rng.below(3) as usize } else { 0 };
        let trouble = trouble(flavour, rng);
        let mut plan = Plan {
            options: options(),
            shards: 1 + rng.below(3) as u16,
            streams,
            consumers,
            producers: 1 + rng.below(3) as usize,
            keepers,
            schedulers: 0,
            workers: 1 + rng.below(2) as usize,
            removals: rng.chance(1, 3),
            comings: rng.chance(1, 2),
            copies: rng.chance(1, 2),
            trouble,
            disk: disk(trouble, rng),
            link: LinkShape::default(),
            tcp: StreamShape::default(),
            pace: Pace::default(),
            duration: (1500 + rng.below(3000)) * MILLISECOND,
            interval: [2, 8, 20][rng.below(3) as usize] * MILLISECOND,
            in_flight: [1, 4, 64][rng.below(3) as usize],
            last_cut: rng.chance(1, 2),
            points: (rng.below(64) * rng.below(2), 2 + rng.below(12)),
            keys: KeysPlan::default(),
        };
        if flavour == Flavour::Schedule {
            plan.schedulers = 1 + rng.below(3) as usize;
            plan.producers = rng.below(2) as usize;
        }
        plan.link.latency = (5 + rng.below(300)) * MICROSECOND;
        plan.link.jitter = rng.below(1000) * MICROSECOND;
        plan.pace.step_jitter = rng.below(20) * MICROSECOND;
        if trouble.rot && rng.chance(2, 3) {
            // Consumers have files then, which they hardly need in so short a time.
            plan.points.0 |= 1 << Point::JournalSegmentEnds as u8 | 1 << Point::JournalAsksForLittle as u8;
        }
        if flavour == Flavour::Faults && rng.chance(1, 4) {
            plan.points.0 |= 1 << Point::JournalRefuses as u8;
        }
        if rng.chance(1, 3) {
            plan.tcp.segment = [40, 300, 1460][rng.below(3) as usize];
        }
        if rng.chance(1, 3) {
            plan.pace.preempt_one_in = 150 + rng.below(500);
            plan.pace.preempt = (50 + rng.below(3000)) * MICROSECOND;
        }
        plan.keys = KeysPlan::draw(rng);
        plan
    }
}

fn stream(flavour: Flavour, rng: &mut Rng) -> StreamPlan {
    let retention =
        match rng.below(if matches!(flavour, Flavour::Publish | Flavour::Schedule) { 8 } else { 4 }) {
            0 => Retention::Interest,
            1 => Retention::WorkQueue,
            _ => Retention::Limits,
        };
    let limited = retention == Retention::Limits;
    StreamPlan {
        retention,
        memory: rng.chance(1, 6),
        max_messages: if limited && rng.chance(1, 3) { 3 + rng.below(30) } else { 0 },
        per_subject: if limited && rng.chance(1, 4) { 1 + rng.below(5) } else { 0 },
        discard_new: limited && rng.chance(1, 4),
        subjects: 1 + rng.below(4) as u32,
        values: false,
    }
}

fn values(rng: &mut Rng) -> StreamPlan {
    StreamPlan {
        retention: Retention::Limits,
        memory: false,
        max_messages: 0,
        per_subject: 1 + rng.below(3),
        discard_new: false,
        subjects: 1 + rng.below(3) as u32,
        values: true,
    }
}

fn consumers_of(number: usize, stream: &StreamPlan, rng: &mut Rng, out: &mut Vec<ConsumerPlan>) {
    let queue = stream.retention == Retention::WorkQueue;
    let durable = stream.retention != Retention::Limits;
    let filtered = queue && stream.subjects > 1 && rng.chance(1, 2);
    let count = match (queue, filtered) {
        (true, true) => u64::from(stream.subjects),
        (true, false) => 1,
        _ => 1 + rng.below(3),
    };
    for at in 0..count {
        let filter = match filtered {
            true => Some(at as u32),
            false => (!queue && rng.chance(1, 3)).then(|| rng.below(u64::from(stream.subjects)) as u32),
        };
        out.push(ConsumerPlan {
            stream: number,
            push: rng.chance(1, 3),
            filter,
            memory: !durable && rng.chance(1, 6),
            // Some wait so long that nothing is forgotten by waiting.
            ack_wait: if rng.chance(1, 5) { 6000 } else { 150 + rng.below(800) } * MILLISECOND,
            max_pending: [3, 20, 1000][rng.below(3) as usize],
            ack_all: !queue && rng.chance(1, 6),
            new: !queue && rng.chance(1, 4),
        });
    }
}

fn trouble(flavour: Flavour, rng: &mut Rng) -> Trouble {
    let faults = flavour == Flavour::Faults;
    let trouble = Trouble {
        kill: rng.chance(1, 2),
        power: rng.chance(1, 2),
        pause: rng.chance(1, 3),
        cut: rng.chance(1, 2),
        slow_disk: rng.chance(1, 3),
        full_disk: faults && rng.chance(1, 2),
        bad_reads: faults && rng.chance(1, 3),
        failed_writes: faults && rng.chance(1, 3),
        rot: false,
    };
    Trouble { rot: trouble.bad_reads || trouble.failed_writes, ..trouble }
}

fn disk(trouble: Trouble, rng: &mut Rng) -> DiskModel {
    let mut disk = DiskModel::default();
    disk.latency = Duration::from_micros(20 + rng.below(200));
    disk.jitter = Duration::from_micros(50 + rng.below(2000));
    disk.full_for = Duration::from_millis(20 + rng.below(300));
    let chance = |on: bool, rng: &mut Rng| if on { 500 + rng.below(8_000) as u32 } else { 0 };
    disk = disk.with(DiskFault::Slow, chance(trouble.slow_disk, rng));
    disk = disk.with(DiskFault::Full, chance(trouble.full_disk, rng));
    disk = disk.with(DiskFault::BadRead, chance(trouble.bad_reads, rng));
    disk = disk.with(DiskFault::ReadError, chance(trouble.bad_reads, rng));
    let failing = chance(trouble.failed_writes, rng) / 8;
    disk = disk.with(DiskFault::WriteError, failing).with(DiskFault::ShortWrite, failing);
    disk.with(DiskFault::SyncFailed, failing)
}

fn options() -> Options {
    Options {
        server_name: Some("sim".to_owned()),
        host: "10.0.0.1".to_owned(),
        ping_interval: Duration::from_secs(8),
        write_deadline: Duration::from_secs(10),
        auth_timeout: Duration::from_secs(5),
        store_dir: Some("sim".into()),
        jetstream: Some(JetStreamOptions {
            max_memory: Some(1 << 30),
            max_store: Some(1 << 30),
            sync: SyncPolicy::Always,
            ..JetStreamOptions::default()
        }),
        ..Options::default()
    }
}
