//! The streams of a shard, and what of each is under way.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::view::{Reads, View};
use crate::config::AccountJetStream;
use crate::delivery::{Arrived, Exchange};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::context::Interest;
use crate::jetstream::stream::{Request, Stream, Ticket};
use crate::storage::ledger::Removed;
use crate::storage::memory::MemoryStore;
use crate::storage::{OwnerId, Position, StorageKind};
use crate::subject::SubjectList;
use crate::time::{Instant, WallTime};

use super::requests::{Asked, Task};
use super::stores::Stores;

/// How many bytes of messages there are, as streams' limits count them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Used {
    memory: u64,
    file: u64,
}

impl Used {
    pub(super) fn new(memory: u64, file: u64) -> Self {
        Used { memory, file }
    }

    pub(super) fn of(&self, kind: StorageKind) -> u64 {
        if kind == StorageKind::Memory { self.memory } else { self.file }
    }

    pub(super) fn of_mut(&mut self, kind: StorageKind) -> &mut u64 {
        if kind == StorageKind::Memory { &mut self.memory } else { &mut self.file }
    }
}

/// What an account has.
#[derive(Debug)]
pub(super) struct AccountAssets {
    pub(super) name: Arc<str>,
    /// What it may have; `None` if it may have no streams.
    pub(super) limits: Option<AccountJetStream>,
    pub(super) streams: BTreeMap<String, usize>,
    pub(super) used: Used,
    /// What its streams with other engines store, and what those were told of the ones here.
    pub(super) elsewhere: Used,
    pub(super) told: Used,
    /// Requests that were answered, and those among them that were answered with an error.
    pub(super) api_total: u64,
    pub(super) api_errors: u64,
}

/// Where a stream's messages are.
#[derive(Debug)]
pub(super) enum Backing {
    Memory(Box<MemoryStore>),
    /// In the volume, under the stream's owner.
    File(Reads),
}

/// How far a stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The catalogue doesn't durably have it yet.
    Recording(Position),
    /// Its files are being read.
    Opening,
    /// It takes messages.
    Running,
    /// Its files can't be used, and nothing is stored.
    Failed,
}

/// A stream.
#[derive(Debug)]
pub(super) struct StreamAssets {
    pub(super) account: u32,
    pub(super) owner: OwnerId,
    pub(super) created: WallTime,
    pub(super) config: Arc<StreamConfig>,
    pub(super) phase: Phase,
    /// There when it runs.
    pub(super) machine: Option<Box<Stream>>,
    pub(super) backing: Backing,
    /// What the change that is being applied took away.
    pub(super) removed: Vec<Removed>,
    /// The position of the first change that was proposed since the start: what is applied before is of a life before.
    pub(super) live_from: Option<Position>,
    /// The positions of the changes that were proposed and applied last.
    pub(super) last_proposed: Position,
    pub(super) last_applied: Position,
    /// Its subscriptions.
    pub(super) services: Vec<u32>,
    /// Who made it, until he is told.
    pub(super) creator: Option<Asked>,
    /// Requests that read, one after the other.
    pub(super) tasks: VecDeque<Task>,
    /// What came for it or its consumers before they ran.
    pub(super) held: VecDeque<Arrived>,
    /// Requests that change it and came before it ran.
    pub(super) changes: Vec<(Ticket, Request)>,
    pub(super) consumers: BTreeMap<String, usize>,
    /// The consumers by what they want.
    pub(super) wanted: SubjectList<usize>,
    /// How many bytes it stores, as its limits count them.
    pub(super) bytes: u64,
    /// Whether it is in line for a turn.
    pub(super) queued: bool,
    /// Its deadline, as the engine's set has it.
    pub(super) deadline: Option<Instant>,
}

impl StreamAssets {
    /// Returns its messages, if they are there.
    pub(super) fn view<'a>(&'a mut self, stores: &'a mut Stores) -> Option<View<'a>> {
        Some(match &mut self.backing {
            Backing::Memory(store) => View::Memory(store),
            Backing::File(reads) => View::File { volume: stores.volume()?, owner: self.owner, reads },
        })
    }

    /// Returns its machine and its messages.
    pub(super) fn parts<'a>(&'a mut self, stores: &'a mut Stores) -> Option<(&'a mut Stream, View<'a>)> {
        let machine = self.machine.as_deref_mut()?;
        let view = match &mut self.backing {
            Backing::Memory(store) => View::Memory(store),
            Backing::File(reads) => View::File { volume: stores.volume()?, owner: self.owner, reads },
        };
        Some((machine, view))
    }
}

/// Who listens in one account.
pub(super) struct Listeners<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) account: u32,
}

impl Interest for Listeners<'_> {
    fn has_interest(&self, subject: &[u8]) -> bool {
        self.exchange.has_interest(self.account, subject)
    }

    fn has_subscriber(&self, subject: &[u8], group: &[u8]) -> bool {
        self.exchange.has_subscriber(self.account, subject, group)
    }
}
