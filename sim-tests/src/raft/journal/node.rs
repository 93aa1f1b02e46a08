//! One node: a host on its disk, and the applications of its groups.

use std::collections::{BTreeMap, BTreeSet};

use natrix_core::disk::{FilePath, Request};
use natrix_core::raft::group::Config;
use natrix_core::raft::host::{GroupSpec, Host, HostConfig};
use natrix_core::raft::log::Place;
use natrix_core::raft::membership::Membership;
use natrix_core::raft::store::StoreConfig;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;
use natrix_core::storage::{OwnerId, journal};
use natrix_core::time::{Duration, Instant};
use natrix_runtime_sim::disk::SimDisk;

use super::faults::Plan;
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
    /// The terms of its log as they were looked at.
    pub(super) terms: BTreeMap<u64, u64>,
    /// What it proposed and has not seen committed: the term, by index.
    pub(super) proposed: BTreeMap<u64, u64>,
    /// What the host found of it last: something was lost.
    pub(super) lost: bool,
    pub(super) doubted: bool,
}

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
    /// It was started and has not found all that is left.
    pub(super) recovering: bool,
    /// How often in a row its journal couldn't be opened.
    pub(super) failures: u32,
    pub(super) paths: BTreeSet<FilePath>,
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
        reuse: true,
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
            recovering: false,
            failures: 0,
            paths: BTreeSet::new(),
            rng: rng.child(),
        }
    }

    /// Opens a host on the disk.
    pub(super) fn open(&mut self, group: &Config, members: &Membership, now: Instant) {
        self.life += 1;
        (self.timer, self.wake) = (u64::MAX, u64::MAX);
        self.recovering = true;
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

    /// Notes which files there may be.
    pub(super) fn note(&mut self, request: &Request) {
        match request {
            Request::Open { path, .. } | Request::Replace { path, .. } | Request::Rename { to: path, .. } => {
                self.paths.insert(path.clone());
            }
            _ => {}
        }
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
            }
            seat.proposed.clear();
            seat.terms.clear();
        }
        self.doomed = None;
        self.waits_for_harm = false;
    }
}
