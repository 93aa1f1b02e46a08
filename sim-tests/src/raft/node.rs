//! One node: a member of the group, its disk, its application, its clock.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use natrix_core::raft::group::{Group, Snapshot};
use natrix_core::raft::log::LogEntry;
use natrix_core::raft::membership::Membership;
use natrix_core::raft::neighbours::Neighbours;
use natrix_core::raft::wire::NodeId;
use natrix_core::rng::Rng;
use natrix_core::time::Instant;

use super::checker::hash_bytes;
use super::deed::{Purpose, stream};
use super::disk::Disk;
use super::world::Event;

/// An application that is a number: the hash of everything applied to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct App {
    pub(super) applied: u64,
    pub(super) state: u64,
}

impl App {
    /// Applies an entry.
    pub(super) fn apply(&mut self, entry: &LogEntry) {
        self.applied = entry.index;
        self.state = hash_bytes(self.state ^ entry.index, &entry.entry.data);
    }

    /// Returns its snapshot: so long that it takes several pieces.
    pub(super) fn snapshot(&self) -> Bytes {
        let mut data = self.state.to_le_bytes().to_vec();
        let mut filler = self.state;
        for _ in 0..self.applied % 150 {
            filler = hash_bytes(filler, b"filler");
            data.extend_from_slice(&filler.to_le_bytes());
        }
        data.into()
    }

    /// Returns what a snapshot says; `None` if it isn't one.
    pub(super) fn restored(snapshot: &Snapshot) -> Option<App> {
        let (state, _) = snapshot.data.split_first_chunk()?;
        let app = App { applied: snapshot.place.index, state: u64::from_le_bytes(*state) };
        (app.snapshot() == snapshot.data).then_some(app)
    }
}

/// One node.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) id: NodeId,
    pub(super) group: Option<Group>,
    /// Which of the other nodes it hears, if groups sleep.
    pub(super) neighbours: Option<Neighbours>,
    /// When the earliest event of that comes that is in the queue.
    pub(super) beat_timer: u64,
    pub(super) disk: Disk,
    pub(super) app: App,
    /// What of the application a crash leaves.
    pub(super) durable: App,
    /// Counts its starts, so that what was meant for an earlier life is ignored.
    pub(super) life: u32,
    /// Until when it is paused, and what came meanwhile.
    pub(super) paused: Option<u64>,
    pub(super) backlog: VecDeque<Event>,
    pub(super) hole: bool,
    /// Whether the disk was damaged, and the member has not recovered from that yet.
    pub(super) damaged: bool,
    pub(super) wiped: bool,
    /// When the earliest timer event comes that is in the queue.
    pub(super) timer: u64,
    /// Who the members were by its log, before it was called last.
    pub(super) members: Membership,
    /// What it proposed and has not seen committed: the term, by index.
    pub(super) proposed: BTreeMap<u64, u64>,
    /// Pieces of a snapshot that it was sent since it applied one.
    pub(super) pieces: u64,
    /// It was asked to lead.
    pub(super) asked: bool,
    /// Until when its disk finishes nothing.
    pub(super) stalled: u64,
    booted: u64,
    /// How long its disk and its application take.
    pub(super) rng: Rng,
    /// How fast its clock runs: millionths.
    pub(super) rate: u64,
}

impl Node {
    pub(super) fn new(number: usize, seed: u64) -> Self {
        let mut name = *b"node--00";
        name[6] = b'0' + (number / 10) as u8;
        name[7] = b'0' + (number % 10) as u8;
        Node {
            id: NodeId(name),
            group: None,
            neighbours: None,
            beat_timer: u64::MAX,
            disk: Disk::default(),
            app: App::default(),
            durable: App::default(),
            life: 0,
            paused: None,
            backlog: VecDeque::new(),
            hole: false,
            damaged: false,
            wiped: false,
            timer: u64::MAX,
            members: Membership::default(),
            proposed: BTreeMap::new(),
            pieces: 0,
            asked: false,
            stalled: 0,
            booted: 0,
            rng: stream(seed, Purpose::Node, number, 0),
            rate: 1_000_000,
        }
    }

    /// Returns the number of the node of that name.
    pub(super) fn number(id: NodeId) -> usize {
        usize::from(id.0[6] - b'0') * 10 + usize::from(id.0[7] - b'0')
    }

    /// Starts its clock.
    pub(super) fn boot(&mut self, now: u64) {
        self.booted = now;
        self.life += 1;
        self.timer = u64::MAX;
        self.beat_timer = u64::MAX;
        self.backlog.clear();
        self.proposed.clear();
        self.pieces = 0;
        self.asked = false;
    }

    /// Returns what its clock says at the virtual time `now`.
    pub(super) fn clock(&self, now: u64) -> Instant {
        Instant::from_nanos((now - self.booted) / 1000 * self.rate / 1000)
    }

    /// Returns the virtual time at which its clock says `at`, or shortly after.
    pub(super) fn when(&self, at: Instant) -> u64 {
        match at {
            Instant::MAX => u64::MAX,
            _ => self.booted + at.as_nanos() / 1000 * 1_000_000 / self.rate * 1000 + 2000,
        }
    }

    /// Changes the speed of its clock, which goes on from where it is.
    pub(super) fn set_rate(&mut self, now: u64, rate: u64) {
        let says = self.clock(now).as_nanos();
        self.rate = rate;
        // Where the clock would have had to start for that.
        self.booted = now.saturating_sub(says / 1000 * 1_000_000 / rate * 1000);
    }

    /// Returns whether it is up and not paused.
    pub(super) fn runs(&self) -> bool {
        self.group.is_some() && self.paused.is_none()
    }

    /// Returns whether it leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.group.as_ref().is_some_and(Group::is_leader)
    }
}
