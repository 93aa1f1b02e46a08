//! Which streams there are, and with which engine: the home engine's, of the whole server.
//!
//! It is not written down: each engine's catalogue has its own streams, and says at the start which they are. So a stream
//! is where its files are, whatever the number of shards.
//!
//! A stream whose order is under way is *busy*: what else is to be decided of it waits. Until then both what it was and what it
//! is to be count, its name and its subjects: should the power go, it may be either.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::requests::Asked;
use super::said::{Count, EngineId, Order, Standing};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::Reservation;
use crate::jetstream::api::response::{Page, StreamInfo};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::api::subject::subjects_overlap;
use crate::planted::{self, Bug};
use crate::storage::StorageKind;
use crate::subject::subjects_collide;

/// What is decided of a stream when it isn't busy any more.
#[derive(Debug)]
pub(super) enum Waiting {
    Asked(Asked),
    /// Its account is purged.
    Purge,
}

/// How far a stream is, for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    There,
    Restoring,
    /// It is being restored, and won't be there.
    Failing,
}

/// A stream.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) engine: EngineId,
    pub(super) config: Arc<StreamConfig>,
    /// What it is to be.
    next: Option<Arc<StreamConfig>>,
    state: State,
    /// The number of its order that is under way.
    order: Option<u64>,
    /// It is being deleted: nobody is told of it any more.
    leaving: bool,
    waiting: VecDeque<Waiting>,
}

impl Entry {
    /// What it may be after a power cut.
    fn configs(&self) -> impl Iterator<Item = &StreamConfig> {
        let held = (self.state != State::Failing).then_some(&*self.config);
        held.into_iter().chain(self.next.as_deref())
    }
}

/// An answer that engines are asked for.
#[derive(Debug)]
pub(super) struct Gather {
    pub(super) asked: Asked,
    /// How many of them haven't said anything yet.
    pub(super) left: u32,
    pub(super) what: Gathered,
}

#[derive(Debug)]
pub(super) enum Gathered {
    Streams(Page, Vec<StreamInfo>),
    Account(Count),
}

/// Which streams there are.
#[derive(Debug)]
pub(super) struct Directory {
    accounts: Vec<BTreeMap<String, Entry>>,
    /// How many streams each engine has.
    counts: [usize; EngineId::MOST as usize],
    next_order: u64,
    pub(super) next_gather: u64,
    pub(super) gathers: BTreeMap<u64, Gather>,
    /// The engines that haven't said which streams they have.
    pub(super) unknown: u64,
}

impl Directory {
    pub(super) fn new(accounts: usize) -> Self {
        Directory {
            accounts: (0..accounts).map(|_| BTreeMap::new()).collect(),
            counts: [0; EngineId::MOST as usize],
            next_order: 0,
            next_gather: 0,
            gathers: BTreeMap::new(),
            unknown: EngineId::HOME.bit(),
        }
    }

    /// Takes a stream that an engine has from before the start. `false` if another has one of that name.
    pub(super) fn opened(&mut self, engine: EngineId, account: u32, config: Arc<StreamConfig>) -> bool {
        if engine != EngineId::HOME && planted::bug(Bug::JsOtherShardsForgotten) {
            return true;
        }
        if self.accounts[account as usize].contains_key(&config.name) {
            return false;
        }
        self.insert(engine, account, config, State::There, None);
        true
    }

    fn insert(
        &mut self,
        engine: EngineId,
        account: u32,
        config: Arc<StreamConfig>,
        state: State,
        order: Option<u64>,
    ) {
        self.counts[usize::from(engine.0)] += 1;
        let name = config.name.clone();
        let entry =
            Entry { engine, config, next: None, state, order, leaving: false, waiting: VecDeque::new() };
        self.accounts[account as usize].insert(name, entry);
    }

    /// Returns a stream that is there, or is being made.
    pub(super) fn find(&self, account: u32, name: &str) -> Option<&Entry> {
        self.accounts[account as usize].get(name).filter(|entry| entry.state == State::There)
    }

    /// Tells whether a stream of this name is being restored.
    pub(super) fn is_restoring(&self, account: u32, name: &str) -> bool {
        self.accounts[account as usize].get(name).is_some_and(|entry| entry.state != State::There)
    }

    /// Returns where a decision about a stream waits, if it has to.
    pub(super) fn line_of(&mut self, account: u32, name: &str) -> Option<&mut VecDeque<Waiting>> {
        let entry = self.accounts[account as usize].get_mut(name)?;
        (entry.state == State::There && entry.order.is_some()).then_some(&mut entry.waiting)
    }

    /// Returns the streams of an account that are there and not about to go, by name.
    pub(super) fn streams(&self, account: u32) -> impl Iterator<Item = (&String, &Entry)> {
        let there = |entry: &Entry| entry.state == State::There && !entry.leaving;
        self.accounts[account as usize].iter().filter(move |(_, entry)| there(entry))
    }

    /// Returns how many restores are under way in an account, and in all.
    pub(super) fn restores(&self, account: u32) -> (usize, usize) {
        let count = |entries: &BTreeMap<String, Entry>| {
            entries.values().filter(|entry| entry.state != State::There).count()
        };
        (count(&self.accounts[account as usize]), self.accounts.iter().map(count).sum())
    }

    /// Returns the names of the account's streams that may have messages of a subject, in order; empty for all.
    pub(super) fn streams_with(&self, account: u32, subject: &str) -> Vec<String> {
        let wanted = |entry: &Entry| {
            let collide = |own: &String| subjects_collide(own.as_bytes(), subject.as_bytes());
            subject.is_empty() || entry.config.subjects.iter().any(collide)
        };
        self.streams(account).filter(|(_, entry)| wanted(entry)).map(|(name, _)| name.clone()).collect()
    }

    /// Checks that no other stream of the account stores the same, nor one that is being restored.
    pub(super) fn check_subjects(&self, account: u32, config: &StreamConfig) -> Result<(), ApiError> {
        let others = self.accounts[account as usize].iter().filter(|(name, _)| **name != config.name);
        for other in others.flat_map(|(_, entry)| entry.configs()) {
            if subjects_overlap(&other.subjects, &config.subjects) {
                return Err(ErrorKind::StreamSubjectOverlap.error());
            }
        }
        Ok(())
    }

    /// Returns what is reserved of a kind of storage, by an account without one of its streams, and by all.
    pub(super) fn reserved(&self, account: u32, kind: StorageKind, but: &str) -> Reservation {
        let mut reserved = Reservation::default();
        for (at, streams) in self.accounts.iter().enumerate() {
            for (name, entry) in streams.iter().filter(|(_, entry)| entry.state == State::There) {
                let own = at == account as usize;
                let of_kind = entry.configs().filter(|config| config.storage == kind);
                let bytes = of_kind.map(|config| config.max_bytes).max().unwrap_or(0).max(0);
                if own && name == but {
                    continue;
                }
                reserved.server = reserved.server.saturating_add(bytes);
                if own {
                    reserved.account = reserved.account.saturating_add(bytes);
                }
            }
        }
        reserved
    }

    /// Says where the next stream goes: to the engine of a shard that has the fewest, of several to the first.
    pub(super) fn place(&self, shards: u16) -> EngineId {
        let engines = (0..shards).map(EngineId);
        engines.min_by_key(|engine| self.counts[usize::from(engine.0)]).unwrap_or(EngineId::HOME)
    }

    fn order(&mut self, account: u32, stream: &str) -> Order {
        self.next_order += 1;
        Order { number: self.next_order, account, stream: stream.to_owned() }
    }

    /// Enters a stream that an engine is about to make.
    pub(super) fn create(&mut self, engine: EngineId, account: u32, config: &Arc<StreamConfig>) -> Order {
        let order = self.order(account, &config.name);
        self.insert(engine, account, Arc::clone(config), State::There, Some(order.number));
        order
    }

    /// Enters a stream that an engine is about to restore; one that is refused only by its name.
    pub(super) fn restore(
        &mut self,
        engine: EngineId,
        account: u32,
        config: &Arc<StreamConfig>,
        refused: bool,
    ) -> Order {
        let order = self.order(account, &config.name);
        let state = if refused { State::Failing } else { State::Restoring };
        self.insert(engine, account, Arc::clone(config), state, Some(order.number));
        order
    }

    /// Notes that an engine is about to change a stream that is there, or (without settings) to delete it.
    pub(super) fn change(
        &mut self,
        account: u32,
        name: &str,
        next: Option<Arc<StreamConfig>>,
    ) -> Option<(EngineId, Order)> {
        let order = self.order(account, name);
        let entry = self.accounts[account as usize].get_mut(name)?;
        entry.leaving = next.is_none();
        (entry.order, entry.next) = (Some(order.number), next);
        Some((entry.engine, order))
    }

    /// An order is carried out. Returns what waited for it.
    pub(super) fn settled(&mut self, order: &Order, standing: Standing) -> VecDeque<Waiting> {
        let streams = &mut self.accounts[order.account as usize];
        let Some(entry) = streams.get_mut(&order.stream) else { return VecDeque::new() };
        if entry.order != Some(order.number) {
            return VecDeque::new();
        }
        match standing {
            Standing::There(config) => {
                (entry.state, entry.order, entry.leaving) = (State::There, None, false);
                (entry.config, entry.next) = (config, None);
                std::mem::take(&mut entry.waiting)
            }
            Standing::Failing => {
                entry.state = State::Failing;
                VecDeque::new()
            }
            Standing::Gone
                if entry.leaving && entry.engine != EngineId::HOME && planted::bug(Bug::JsGoneStaysKnown) =>
            {
                (entry.order, entry.leaving) = (None, false);
                std::mem::take(&mut entry.waiting)
            }
            Standing::Gone => {
                self.counts[usize::from(entry.engine.0)] -= 1;
                streams.remove(&order.stream).map(|entry| entry.waiting).unwrap_or_default()
            }
        }
    }
}
