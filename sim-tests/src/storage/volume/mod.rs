//! A volume of stores over one journal, crashed at every disk operation of a run: each store is then what its entries make
//! of it.
//!
//! ```text
//! line.rs       a volume on its disk
//! file.rs       streams in files, against streams in memory
//! rot.rs        blocks that rot while they are in use
//! consumer.rs   consumers' states, with a file for each
//! ```
//!
//! After a crash nothing is known but through which entry each store has come: all that were committed, and of the others a
//! prefix of what was proposed, over all stores together.

mod consumer;
mod file;
mod line;
mod rot;

use std::collections::BTreeMap;

use bytes::Bytes;
use natrix_core::disk::FilePath;
use natrix_core::rng::Rng;
use natrix_core::storage::journal::{Config, Event};
use natrix_core::storage::volume::{Store, StoreDisk, VolumeEvent};
use natrix_core::storage::{OwnerId, Position};
use natrix_core::time::{Duration, Instant};
use natrix_runtime_sim::disk::{DiskModel, SimDisk};

use super::Settings;
use super::report::{Promise, Report, Violation};
pub(super) use consumer::Consumers;
pub(super) use file::Files;
use line::{Line, Stop};

/// A kind of store, and the dullest thing that behaves as one.
pub(crate) trait Kind {
    type Store: Store;
    /// The same state, without files.
    type Model: Clone;

    /// Draws how the stores of a run are made.
    fn draw(rng: &mut Rng) -> Self;
    fn open(&self, owner: OwnerId, rng: Rng, disk: &mut StoreDisk<'_>) -> Self::Store;
    fn is_ready(store: &Self::Store) -> bool;
    /// Through which entry the store has come.
    fn applied(store: &Self::Store) -> Position;
    /// What an event says that no event may say on a disk that keeps what it was given.
    fn complaint(event: &<Self::Store as Store>::Event) -> Option<Violation>;
    fn model(&self, owner: OwnerId) -> Self::Model;
    /// Draws the next entry of a store that is at `model`; `step` counts all entries of the run.
    fn entry(&self, rng: &mut Rng, model: &Self::Model, step: u64) -> (u8, Vec<Bytes>);
    fn apply(model: &mut Self::Model, position: Position, kind: u8, payload: &[Bytes]);
    fn compare(
        line: &mut Line<Self>,
        owner: OwnerId,
        model: &mut Self::Model,
        rng: &mut Rng,
    ) -> Result<(), Violation>
    where
        Self: Sized;

    /// Changes what the stores are opened with from the next life on.
    fn grow_older(&mut self, _rng: &mut Rng) {}

    /// Does to a store that is ready what isn't its default.
    fn begin(&self, _line: &mut Line<Self>, _owner: OwnerId)
    where
        Self: Sized,
    {
    }

    /// Returns under which name an event is counted.
    fn mark(_event: &<Self::Store as Store>::Event) -> Option<&'static str> {
        None
    }

    /// What else is done with a store at the end of a run, when all is at rest; `reopen` starts all stores again on a disk.
    fn at_end(
        &self,
        _line: &mut Line<Self>,
        _owner: OwnerId,
        _model: &Self::Model,
        _dice: (&mut Rng, &mut Report),
        _reopen: impl FnOnce(SimDisk) -> Line<Self>,
    ) -> Result<(), Violation>
    where
        Self: Sized,
    {
        Ok(())
    }
}

#[derive(Clone, Debug)]
struct Entry {
    position: Position,
    kind: u8,
    payload: Vec<Bytes>,
}

/// What one store was given.
struct Given<M> {
    /// What its certain entries make of it.
    model: M,
    /// The position of the last of them.
    certain: Position,
    /// The others, in order.
    open: Vec<Entry>,
}

struct Run<'a, K: Kind> {
    rng: Rng,
    kind: K,
    config: Config,
    given: BTreeMap<OwnerId, Given<K::Model>>,
    line: Line<K>,
    ready: bool,
    /// Through here the journal has said that entries are durable.
    committed: Position,
    step: u64,
    report: &'a mut Report,
    print: bool,
}

/// Crashes in a row, the first included.
const CRASHES: u32 = 3;

pub(super) fn run<K: Kind>(rng: &mut Rng, settings: Settings, report: &mut Report) -> Result<(), Violation> {
    let mut rng = rng.child();
    let kind = K::draw(&mut rng);
    let config = config(&mut rng);
    let owners = 1 + rng.below(3);
    let mut given = BTreeMap::new();
    for _ in 0..owners {
        let owner = OwnerId(rng.next_u64());
        given.insert(owner, Given { model: kind.model(owner), certain: Position(0), open: Vec::new() });
    }
    let disk = SimDisk::new(rng.child(), DiskModel::default());
    let line = Line::open(&kind, &config, given.keys(), rng.child(), disk, Instant::ZERO);
    let print = settings.print;
    let mut run =
        Run { rng, kind, config, given, line, ready: false, committed: Position(0), step: 0, report, print };
    let outcome = run.lives();
    let operations = run.line.disk.operations();
    run.report.operations = operations;
    run.report.fold(operations);
    outcome.map_err(|violation| violation.at(format!("operation {operations}, {:?}", run.config)))
}

fn config(rng: &mut Rng) -> Config {
    let min_segments = 2;
    Config {
        segment_size: [8192, 16384][rng.below(2) as usize],
        max_batch: [1500, 4000][rng.below(2) as usize],
        writes_in_flight: 1 + rng.below(2) as usize,
        min_segments,
        max_segments: min_segments + rng.below(3) as usize,
        copy_below: [0, 300, 1000][rng.below(3) as usize],
        seal: None,
        ..Config::new(FilePath::root().join("journal"))
    }
}

impl<K: Kind> Run<'_, K> {
    fn lives(&mut self) -> Result<(), Violation> {
        for _ in 0..2 + self.rng.below(2) {
            let operations = self.line.disk.operations() + 20 + self.rng.below(150);
            let eagerness = [1, 2, 4][self.rng.below(3) as usize];
            self.live(eagerness, operations)?;
            for mark in self.line.told().iter().filter_map(K::mark) {
                self.report.tally.hit(mark);
            }
            let power = self.rng.chance(3, 4);
            self.say(|| format!("power cut: {power}"));
            let mut disk = self.line.disk.clone();
            match power {
                true => disk.power_loss(),
                false => disk.crash(),
            }
            self.kind.grow_older(&mut self.rng);
            self.line = self.open(disk);
            self.ready = false;
        }
        self.line.recover(None)?;
        let mut rng = self.rng.child();
        check(&mut self.line, &self.given, &mut rng, self.report)?;
        self.at_end()
    }

    fn at_end(&mut self) -> Result<(), Violation> {
        let owners: Vec<OwnerId> = self.given.keys().copied().collect();
        // One after the other would find what was done to the one before.
        let owner = owners[self.rng.below(owners.len() as u64) as usize];
        let mut model = self.given[&owner].model.clone();
        let applied = self.line.applied(owner);
        for entry in self.given[&owner].open.iter().filter(|entry| entry.position <= applied) {
            K::apply(&mut model, entry.position, entry.kind, &entry.payload);
        }
        let (mut rng, seed, now) = (self.rng.child(), self.rng.child(), self.line.now);
        let (kind, config, given) = (&self.kind, &self.config, &self.given);
        let reopen = |disk| Line::open(kind, config, given.keys(), seed, disk, now);
        kind.at_end(&mut self.line, owner, &model, (&mut rng, self.report), reopen)
    }

    fn open(&mut self, disk: SimDisk) -> Line<K> {
        let rng = self.rng.child();
        Line::open(&self.kind, &self.config, self.given.keys(), rng, disk, self.line.now)
    }

    fn live(&mut self, eagerness: u64, operations: u64) -> Result<(), Violation> {
        let mut idle = 0;
        while self.line.disk.operations() < operations {
            self.line.volume.advance(self.line.now);
            self.hear()?;
            if self.ready {
                self.work(eagerness);
                self.line.volume.advance(self.line.now);
                self.hear()?;
            }
            let print = self.print;
            self.line.submit(print);
            if !self.ready && self.line.is_ready() {
                self.recovered()?;
                continue;
            }
            match self.line.next() {
                Some(true) => {
                    idle = 0;
                    self.crash_point(false)?;
                    self.line.disk.take_effect(self.line.now);
                    self.crash_point(true)?;
                    self.line.complete();
                    continue;
                }
                Some(false) => {}
                None if !self.ready => {
                    return Err(Violation::new(Promise::Stuck, "recovery stands still"));
                }
                None => self.line.now += Duration::from_millis(1),
            }
            idle += 1;
            if idle > 5_000 {
                return Err(Violation::new(Promise::Stuck, "nothing is written"));
            }
        }
        Ok(())
    }

    fn work(&mut self, eagerness: u64) {
        let owners: Vec<OwnerId> = self.given.keys().copied().collect();
        for _ in 0..self.rng.below(eagerness + 1) {
            let owner = owners[self.rng.below(owners.len() as u64) as usize];
            if self.rng.chance(1, 12) {
                let now = self.line.now;
                let through = Position(u64::MAX);
                self.line.volume.with_store(owner, |store, disk| store.cover(through, now, disk));
                self.report.tally.hit("covers");
                continue;
            }
            let Some(given) = self.given.get_mut(&owner) else { continue };
            let (kind, payload) = self.kind.entry(&mut self.rng, &given.model, self.step);
            self.step += 1;
            match self.line.volume.propose(owner, kind, payload.clone()) {
                Ok(position) => given.open.push(Entry { position, kind, payload }),
                Err(_) => self.report.tally.hit("refused"),
            }
        }
    }

    fn hear(&mut self) -> Result<(), Violation> {
        let recovering = !self.ready;
        let events = self.line.hear()?;
        for event in &events {
            if let VolumeEvent::Journal(Event::Committed { through }) = event {
                self.committed = self.committed.max(*through);
            }
        }
        for event in events {
            match event {
                // Nothing can be read before it is committed.
                VolumeEvent::Applied(owner, through) if !recovering && through > self.committed => {
                    let text =
                        format!("{owner:?} has applied {through:?}, {:?} is committed", self.committed);
                    return Err(Violation::new(Promise::Phantom, text));
                }
                VolumeEvent::Journal(Event::Committed { through }) => self.certain(through),
                // What recovery applies is durable again.
                VolumeEvent::Applied(_, through) if recovering => self.certain(through),
                _ => {}
            }
        }
        Ok(())
    }

    /// The recovery at the beginning of a life is done, and all is at rest.
    fn recovered(&mut self) -> Result<(), Violation> {
        let mut rng = self.rng.child();
        check(&mut self.line, &self.given, &mut rng, self.report)?;
        for (owner, given) in &mut self.given {
            let applied = self.line.applied(*owner);
            given.open.retain(|entry| entry.position <= applied);
        }
        self.certain(Position(u64::MAX));
        self.report.tally.hit("lives");
        self.ready = true;
        for owner in self.given.keys() {
            self.kind.begin(&mut self.line, *owner);
        }
        Ok(())
    }

    /// Notes that all entries through `through` have to be there from now on.
    fn certain(&mut self, through: Position) {
        for given in self.given.values_mut() {
            let count = given.open.iter().take_while(|entry| entry.position <= through).count();
            for entry in given.open.drain(..count) {
                K::apply(&mut given.model, entry.position, entry.kind, &entry.payload);
                given.certain = entry.position;
            }
        }
    }

    /// Crashes here, recovers and compares; perhaps crashes again in the recovery.
    fn crash_point(&mut self, done: bool) -> Result<(), Violation> {
        let mut rng = self.rng.child();
        let mut disk = self.line.disk.clone();
        disk.reseed(rng.child());
        for crash in 1..=CRASHES {
            self.report.crash_points += 1;
            match rng.chance(4, 5) {
                true => disk.power_loss(),
                false => disk.crash(),
            }
            let stop = (crash < CRASHES && rng.chance(1, 3))
                .then(|| Stop { operation: rng.below(80), done: rng.chance(1, 2) });
            let mut line = self.open(disk);
            let ready = line.recover(stop).and_then(|()| match stop {
                Some(_) => Ok(()),
                None => check(&mut line, &self.given, &mut rng, self.report),
            });
            let at = self.line.disk.operations();
            ready.map_err(|violation| violation.at(format!("crash {crash} at {at}, done {done}")))?;
            if stop.is_none() {
                break;
            }
            self.report.tally.hit("crash-in-recovery");
            disk = line.disk;
        }
        Ok(())
    }

    fn say(&self, text: impl FnOnce() -> String) {
        if self.print {
            println!("{:>6} {}", self.line.disk.operations(), text());
        }
    }
}

/// Compares what recovered stores are with what they were given.
fn check<K: Kind>(
    line: &mut Line<K>,
    given: &BTreeMap<OwnerId, Given<K::Model>>,
    rng: &mut Rng,
    report: &mut Report,
) -> Result<(), Violation> {
    let newest = given.keys().map(|owner| line.applied(*owner)).max().unwrap_or_default();
    for (owner, given) in given {
        let applied = line.applied(*owner);
        if applied < given.certain {
            let text = format!("{owner:?} has come to {applied:?}, {:?} was committed", given.certain);
            return Err(Violation::new(Promise::Lost, text));
        }
        let lost = given.open.iter().find(|entry| applied < entry.position && entry.position < newest);
        if let Some(entry) = lost {
            let text = format!("{:?} of {owner:?} is a gap before {newest:?}", entry.position);
            return Err(Violation::new(Promise::Gap, text));
        }
        let mut model = given.model.clone();
        let mut at = given.certain;
        for entry in given.open.iter().filter(|entry| entry.position <= applied) {
            K::apply(&mut model, entry.position, entry.kind, &entry.payload);
            at = entry.position;
            report.recovered += 1;
        }
        if at != applied {
            let text = format!("{owner:?} has come to {applied:?}, its last entry is {at:?}");
            return Err(Violation::new(Promise::Phantom, text));
        }
        report.fold(applied.0);
        K::compare(line, *owner, &mut model, rng).map_err(|violation| violation.at(format!("{owner:?}")))?;
    }
    Ok(())
}
