//! One node: a host on its disk, and the applications of its groups.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use natrix_core::disk::{FileId, FilePath, Request};
use natrix_core::raft::group::Config;
use natrix_core::raft::host::{GroupSpec, Host, HostConfig};
use natrix_core::raft::log::Place;
use natrix_core::raft::membership::Membership;
use natrix_core::raft::store::StoreConfig;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;
use natrix_core::storage::{OwnerId, journal};
use natrix_core::time::{Duration, Instant};
use natrix_runtime_sim::disk::{DiskFault, SimDisk};

use super::faults::{Plan, Trouble};
use crate::raft::node::App;

/// What one group has on a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Seat {
    pub(super) app: App,
    /// What of the application a crash leaves.
    pub(super) durable: App,
    /// The host said that its first record is durable.
    pub(super) expected: bool,
    /// Through where the log was durable, and whether it was in doubt, when the process ended.
    pub(super) kept: Option<(Place, bool)>,
    /// It was in doubt when the process ended, and that was written down.
    pub(super) told_doubt: bool,
    /// The terms of its log as they were looked at.
    pub(super) terms: BTreeMap<u64, u64>,
    /// What it proposed and has not seen committed: the term, by index.
    pub(super) proposed: BTreeMap<u64, u64>,
    /// What the host found of it last: something was lost.
    pub(super) lost: bool,
    pub(super) doubted: bool,
}

/// A write that is reported as done and isn't.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lie {
    pub(super) kind: Trouble,
    pub(super) fault: DiskFault,
    /// How often it had happened before.
    pub(super) before: u64,
    /// It has happened.
    pub(super) told: bool,
}

/// How many writes are remembered.
const RECENT: usize = 10;

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) host: Option<Host>,
    pub(super) disk: SimDisk,
    pub(super) seats: Vec<Seat>,
    pub(super) life: u32,
    /// When the events come that wake it for its time-outs, and for its disk.
    pub(super) timer: u64,
    pub(super) wake: u64,
    /// It dies after so many operations of its disk; whether by power, and whether the last is seen.
    pub(super) doomed: Option<(u64, bool, bool)>,
    /// Its disk is to be harmed as soon as all is vouched for; nobody hears it meanwhile.
    pub(super) waits_for_harm: bool,
    pub(super) isolated: bool,
    /// Its disk was harmed, and it may be in doubt since.
    pub(super) harmed: bool,
    /// That was while the process ran, which hasn't ended since.
    pub(super) rots: bool,
    /// It was started and has not found all that is left.
    pub(super) recovering: bool,
    /// How often in a row its journal couldn't be opened.
    pub(super) failures: u32,
    pub(super) paths: BTreeSet<FilePath>,
    /// The disk is about to say of a write that it is done although it isn't, or has: as [`LIES`](super::faults::LIES) has it. The
    /// process ends no earlier than when all that it wrote is vouched for.
    pub(super) lie: Option<Lie>,
    /// The files that are open.
    files: BTreeMap<FileId, FilePath>,
    /// What was written last: where, and how much.
    pub(super) recent: VecDeque<(FilePath, u64, u64)>,
    pub(super) rng: Rng,
}

pub(super) fn owner(group: usize) -> OwnerId {
    OwnerId(100 + group as u64)
}

pub(super) fn group_of(owner: OwnerId) -> usize {
    (owner.0 - 100) as usize
}

fn config() -> HostConfig {
    let root = FilePath::root();
    let journal = journal::Config {
        segment_size: 1 << 15,
        first_segment: 1 << 13,
        max_segments: 4,
        copy_below: 1 << 10,
        seal: None,
        ..journal::Config::new(root.join("journal"))
    };
    let store = StoreConfig { max_entry: 1000, snapshot_file: 600, ..StoreConfig::new(root.join("raft")) };
    HostConfig { journal, store, witness: OwnerId(1), vouch_after: Duration::from_millis(30) }
}

impl Node {
    pub(super) fn new(number: usize, plan: &Plan, rng: &mut Rng) -> Self {
        let mut name = *b"node--00";
        name[7] = b'0' + number as u8;
        Node {
            id: NodeId(name),
            host: None,
            disk: SimDisk::new(rng.child(), plan.model.clone()),
            seats: vec![Seat::default(); plan.groups],
            life: 0,
            timer: u64::MAX,
            wake: u64::MAX,
            doomed: None,
            waits_for_harm: false,
            isolated: false,
            harmed: false,
            rots: false,
            recovering: false,
            failures: 0,
            paths: BTreeSet::new(),
            lie: None,
            files: BTreeMap::new(),
            recent: VecDeque::new(),
            rng: rng.child(),
        }
    }

    /// Opens a host on the disk.
    pub(super) fn open(&mut self, group: &Config, members: &Membership, now: Instant) {
        self.life += 1;
        (self.timer, self.wake) = (u64::MAX, u64::MAX);
        self.recovering = true;
        self.files.clear();
        let spec = |(number, seat): (usize, &Seat)| GroupSpec {
            owner: owner(number),
            id: self.id,
            config: group.clone(),
            members: members.clone(),
            expected: seat.expected,
        };
        let specs: Vec<GroupSpec> = self.seats.iter().enumerate().map(spec).collect();
        self.host = Some(Host::open(config(), specs, self.rng.child(), now));
    }

    /// Notes which files there may be, and what is written.
    pub(super) fn note(&mut self, request: &Request) {
        match request {
            Request::Open { file, path, .. } => {
                self.files.insert(*file, path.clone());
                self.paths.insert(path.clone());
            }
            Request::Replace { path, data } => {
                self.paths.insert(path.clone());
                self.written(path.clone(), 0, data.iter().map(Bytes::len).sum());
            }
            Request::Rename { from, to } => {
                self.files.values_mut().filter(|path| *path == from).for_each(|path| *path = to.clone());
                // What it had counts no more.
                self.recent.retain(|(path, ..)| path != from);
                self.paths.insert(to.clone());
            }
            Request::Write { file, offset, data, .. } => {
                if let Some(path) = self.files.get(file).cloned() {
                    self.written(path, *offset, data.iter().map(Bytes::len).sum());
                }
            }
            _ => {}
        }
    }

    /// Says in words what a request changes.
    pub(super) fn describe(&self, request: &Request) -> Option<String> {
        let length = |data: &[Bytes]| data.iter().map(Bytes::len).sum::<usize>();
        match request {
            Request::Write { file, offset, data, .. } => {
                let path = self.files.get(file)?;
                Some(format!("writes {path} at {offset}, {} bytes", length(data)))
            }
            Request::Replace { path, data } => Some(format!("replaces {path}, {} bytes", length(data))),
            Request::Rename { from, to } => Some(format!("renames {from} to {to}")),
            Request::Remove { path } => Some(format!("removes {path}")),
            Request::Open { path, mode, .. } => Some(format!("opens {path}, {mode:?}")),
            _ => None,
        }
    }

    fn written(&mut self, path: FilePath, offset: u64, len: usize) {
        self.recent.push_front((path, offset, len as u64));
        self.recent.truncate(RECENT);
    }

    /// The process ends: notes what was durable by then.
    pub(super) fn end(&mut self) {
        let Some(host) = self.host.take() else { return };
        for (number, seat) in self.seats.iter_mut().enumerate() {
            if let Some(group) = host.group(owner(number)) {
                let stable = group.log().stable();
                let term = group.log().term_at(stable).unwrap_or(0);
                // An earlier life's promises hold where this one had not come so far.
                seat.kept = Some((Place { term, index: stable }, group.in_doubt()));
                seat.told_doubt = group.in_doubt() && host.has_begun(owner(number));
            }
            seat.proposed.clear();
            seat.terms.clear();
        }
        self.doomed = None;
        self.waits_for_harm = false;
        self.rots = false;
    }
}
