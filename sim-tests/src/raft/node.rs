//! One node: a member of the group, its disk, its application, its clock.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use natrix_core::raft::group::{Group, Snapshot};
use natrix_core::raft::log::LogEntry;
use natrix_core::raft::membership::Membership;
use natrix_core::raft::neighbours::Neighbours;
use natrix_core::raft::wire::{EntryKind, NodeId};
use natrix_core::rng::Rng;
use natrix_core::time::Instant;

use super::checker::hash_bytes;
use super::deed::{Purpose, stream};
use super::disk::Disk;
use super::history::{Call, REGISTERS, View, register_of};
use super::world::Event;

/// An application: registers and a list, and the hash of everything applied to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct App {
    pub(super) applied: u64,
    pub(super) state: u64,
    /// What clients see of it.
    pub(super) view: View,
}

impl App {
    /// Applies an entry.
    pub(super) fn apply(&mut self, entry: &LogEntry) {
        self.applied = entry.index;
        self.state = hash_bytes(self.state ^ entry.index, &entry.entry.data);
        if let Some(value) = value_of(entry) {
            self.view.registers[register_of(value)] = value;
            self.view.length += 1;
            self.view.list = hash_bytes(self.view.list, &value.to_le_bytes());
        }
    }

    /// Returns its snapshot: so long that it takes several pieces.
    pub(super) fn snapshot(&self) -> Bytes {
        let View { registers, length, list } = self.view;
        let words = [self.state, length, list].into_iter().chain(registers);
        let mut data: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        let mut filler = self.state;
        for _ in 0..self.applied % 150 {
            filler = hash_bytes(filler, b"filler");
            data.extend_from_slice(&filler.to_le_bytes());
        }
        data.into()
    }

    /// Returns what a snapshot says; `None` if it isn't one.
    pub(super) fn restored(snapshot: &Snapshot) -> Option<App> {
        let mut rest = &snapshot.data[..];
        let mut word = || {
            let (word, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(u64::from_le_bytes(*word))
        };
        let (state, length, list) = (word()?, word()?, word()?);
        let mut registers = [0; REGISTERS];
        for register in &mut registers {
            *register = word()?;
        }
        let app = App { applied: snapshot.place.index, state, view: View { registers, length, list } };
        (app.snapshot() == snapshot.data).then_some(app)
    }
}

/// Returns the value that a client's entry writes.
pub(super) fn value_of(entry: &LogEntry) -> Option<u64> {
    let (value, _) = entry.entry.data.split_first_chunk()?;
    (entry.entry.kind == EntryKind::Normal).then(|| u64::from_le_bytes(*value))
}

/// A read that may be answered when so much is applied.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) index: u64,
    pub(super) call: Call,
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
    /// Reads that wait until it has applied what they need.
    pub(super) reading: Vec<Reading>,
    /// Pieces of a snapshot that it was sent since it applied one.
    pub(super) pieces: u64,
    /// It was asked to lead.
    pub(super) asked: bool,
    /// Until when its disk finishes nothing.
    pub(super) stalled: u64,
    /// The virtual time at which its clock showed zero, or would have; before the beginning for one that went fast.
    booted: i64,
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
            reading: Vec::new(),
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
        self.booted = now as i64;
        self.life += 1;
        self.timer = u64::MAX;
        self.beat_timer = u64::MAX;
        self.backlog.clear();
        self.proposed.clear();
        self.reading.clear();
        self.pieces = 0;
        self.asked = false;
    }

    /// Returns what its clock says at the virtual time `now`.
    pub(super) fn clock(&self, now: u64) -> Instant {
        Instant::from_nanos(now.wrapping_add_signed(-self.booted) / 1000 * self.rate / 1000)
    }

    /// Returns the virtual time at which its clock says `at`, or shortly after.
    pub(super) fn when(&self, at: Instant) -> u64 {
        match at {
            Instant::MAX => u64::MAX,
            _ => {
                (at.as_nanos() / 1000 * 1_000_000 / self.rate * 1000 + 2000).wrapping_add_signed(self.booted)
            }
        }
    }

    /// Changes the speed of its clock, which goes on from where it is.
    pub(super) fn set_rate(&mut self, now: u64, rate: u64) {
        let says = self.clock(now).as_nanos();
        self.rate = rate;
        // Where the clock would have had to start for that.
        self.booted = now as i64 - (says / 1000 * 1_000_000 / rate * 1000) as i64;
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
