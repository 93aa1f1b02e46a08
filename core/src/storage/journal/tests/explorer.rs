//! Random lives of a journal, each ended by a crash at some disk operation, against a model of what must be there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::super::{Config, Event, Journal, Ticket};
use super::crash_disk::{CrashDisk, Faults};
use crate::disk::{DiskQueue, FilePath, Submission};
use crate::rng::Rng;
use crate::storage::{OwnerId, Position};
use crate::time::{Duration, Instant};

/// What is known of the entries of all lives.
#[derive(Debug, Default)]
struct Model {
    entries: BTreeMap<Position, (OwnerId, u8, Bytes)>,
    /// Must be there: reported as committed, or recovered once.
    certain: BTreeSet<Position>,
    /// May be there, as a prefix.
    open: BTreeSet<Position>,
    covered: BTreeMap<OwnerId, Position>,
    /// Where each owner is forgotten.
    forgotten: BTreeMap<OwnerId, Position>,
    forgotten_for_certain: BTreeSet<OwnerId>,
    highest: Position,
}

impl Model {
    fn committed(&mut self, through: Position) {
        let behind = self.open.split_off(&Position(through.0 + 1));
        self.certain.extend(std::mem::replace(&mut self.open, behind));
        for (owner, position) in &self.forgotten {
            if *position <= through {
                self.forgotten_for_certain.insert(*owner);
            }
        }
    }

    fn wanted(&self, position: Position, owner: OwnerId) -> bool {
        self.covered.get(&owner).is_none_or(|covered| position > *covered)
    }

    /// Compares what was recovered with what must and may be there.
    fn check(
        &mut self,
        recovered: &[(OwnerId, Position, u8, Bytes)],
        gone: &BTreeSet<OwnerId>,
        next: Position,
        strict: bool,
        flipped: bool,
    ) -> Result<(), String> {
        let mut last = BTreeMap::new();
        let mut found = BTreeSet::new();
        for (owner, position, kind, payload) in recovered {
            let known = self.entries.get(position).ok_or(format!("{position:?} was never appended"))?;
            if known != &(*owner, *kind, payload.clone()) {
                return Err(format!("{position:?} is not what was appended"));
            }
            if !self.certain.contains(position) && !self.open.contains(position) {
                return Err(format!("{position:?} came back"));
            }
            if last.insert(*owner, *position).is_some_and(|before| before >= *position) {
                return Err(format!("{position:?} of {owner:?} is out of order"));
            }
            if !strict || flipped {
                // The entry that said so may be what is damaged.
                self.forgotten_for_certain.remove(owner);
            }
            if self.forgotten_for_certain.contains(owner) {
                return Err(format!("{position:?}: {owner:?} was forgotten"));
            }
            found.insert(*position);
        }
        for position in &self.certain {
            let (owner, _, _) = &self.entries[position];
            let dead = gone.contains(owner) || self.forgotten_for_certain.contains(owner);
            // Damage behind the last mark can't be told from a torn tail: only a suffix may go like that.
            let tail = flipped && found.last().is_none_or(|last| last < position);
            if strict && !tail && !dead && self.wanted(*position, *owner) && !found.contains(position) {
                return Err(format!(
                    "{position:?} of {owner:?} was committed and is lost; the last found is {:?}, then certain is {:?}",
                    found.last(),
                    self.certain.last()
                ));
            }
        }
        // Forgetting is an entry too: what was appended before it must have survived with it.
        let forgets = self.forgotten.iter().filter(|(owner, _)| gone.contains(owner)).map(|(_, at)| *at);
        let newest = found.iter().copied().chain(forgets).max().unwrap_or_default();
        for position in self.open.range(..newest) {
            let Some((owner, _, _)) = self.entries.get(position) else { continue };
            if strict && !gone.contains(owner) && self.wanted(*position, *owner) && !found.contains(position)
            {
                return Err(format!("{position:?} is a gap before {newest:?}"));
            }
        }
        if next <= self.highest {
            return Err(format!("{next:?} is given out again, {:?} was used", self.highest));
        }
        self.certain.extend(found);
        self.open.clear();
        self.forgotten_for_certain.extend(gone);
        self.forgotten.retain(|owner, _| gone.contains(owner));
        Ok(())
    }
}

/// What a run did.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    pub crashes: u64,
    pub recovered: u64,
    pub committed: u64,
    pub left: u64,
    pub recycled: u64,
    pub torn: u64,
    pub damaged: u64,
}

struct World {
    rng: Rng,
    disk: CrashDisk,
    queue: DiskQueue<Ticket>,
    under_way: VecDeque<Submission>,
    now: Instant,
}

impl World {
    fn config(&mut self, lazy: bool) -> Config {
        Config {
            segment_size: [4096, 8192, 16384][self.rng.below(3) as usize],
            first_segment: 4096,
            max_batch: 1500,
            max_waiting: 1 << 20,
            writes_in_flight: 1 + self.rng.below(3) as usize,
            sync_interval: lazy.then_some(Duration::from_millis(5)),
            vouch_after: None,
            max_unsynced: 4000,
            min_segments: 2,
            max_segments: 4,
            copy_below: 1000,
            seal: None,
            directory: FilePath::root().join("journal"),
        }
    }

    /// Carries out one request, any of those that may overtake each other.
    fn step(&mut self, journal: &mut Journal) -> bool {
        while let Some(submission) = self.queue.poll() {
            self.under_way.push_back(submission);
        }
        self.now += Duration::from_millis(1);
        if self.under_way.is_empty() {
            return false;
        }
        let index = self.rng.below(self.under_way.len() as u64) as usize;
        let Some(submission) = self.under_way.remove(index) else { return false };
        let completion = self.disk.execute(submission, &mut self.rng);
        if let Some((ticket, result)) = self.queue.complete(completion) {
            journal.handle_disk(self.now, ticket, result, &mut self.queue);
        }
        true
    }
}

/// Explores one seed.
pub(super) fn explore(seed: u64) -> Result<Stats, String> {
    let mut rng = Rng::from_u64(seed);
    let faulty = rng.chance(1, 3);
    let lazy = rng.chance(1, 4);
    let damaging = !faulty && rng.chance(1, 4);
    let mut world = World {
        rng: rng.child(),
        disk: CrashDisk::default(),
        queue: DiskQueue::default(),
        under_way: VecDeque::new(),
        now: Instant::ZERO,
    };
    let mut model = Model::default();
    let mut stats = Stats::default();
    let config = world.config(lazy);
    let mut next_owner = 1;
    let mut owners: Vec<OwnerId> = Vec::new();
    let (mut damaged_now, mut ever_damaged) = (false, false);
    for life in 0..6 {
        world.disk.faults = Faults::default();
        if faulty {
            world.disk.faults = Faults { write: 40, sync: 40, full: 60 };
        }
        world.queue = DiskQueue::default();
        world.under_way.clear();
        let mut journal = Journal::open(config.clone(), world.rng.child(), &mut world.queue);
        for (owner, through) in &model.covered {
            journal.covered(*owner, *through);
        }
        let crash_at = world.disk.operations + 4 + world.rng.below(160);
        let (mut recovered, mut gone) = (Vec::new(), BTreeSet::new());
        let (mut ready, mut damaged, mut failed) = (false, false, false);
        let mut idle = 0;
        let mut event_text = String::new();
        while world.disk.operations < crash_at && idle < 2000 && !failed {
            idle = if world.step(&mut journal) { 0 } else { idle + 1 };
            journal.advance(world.now, &mut world.queue);
            while let Some(event) = journal.poll_event() {
                match event {
                    Event::Recovered { owner, position, kind, payload } => {
                        recovered.push((owner, position, kind, payload));
                    }
                    Event::Forgotten { owner } => drop(gone.insert(owner)),
                    Event::Damaged(damage) => {
                        damaged = true;
                        event_text = format!("{damage:?}");
                        stats.damaged += 1;
                    }
                    Event::TornTail { .. } => stats.torn += 1,
                    Event::Ready { next_position } => {
                        if damaged && !ever_damaged {
                            return Err(format!(
                                "{event_text} is reported where nothing is damaged (life {life})"
                            ));
                        }
                        let checked = model.check(&recovered, &gone, next_position, !damaged, damaged_now);
                        checked.map_err(|error| format!("{error} (life {life}; faulty {faulty}, sync interval {lazy}, damaging {damaging}, {} in flight)", config.writes_in_flight))?;
                        if damaged_now {
                            // What was lost is known to be lost; the rest is the new truth.
                            model.certain = recovered.iter().map(|entry| entry.1).collect();
                        }
                        stats.recovered += recovered.len() as u64;
                        damaged_now = false;
                        ready = true;
                        owners.retain(|owner| !model.forgotten.contains_key(owner));
                        model.highest = Position(next_position.0 - 1).max(model.highest);
                    }
                    Event::Committed { through } => {
                        stats.committed += 1;
                        model.committed(through);
                    }
                    Event::PleaseCover { owner, through } => {
                        journal.covered(owner, through);
                        let covered = model.covered.entry(owner).or_default();
                        *covered = through.max(*covered);
                        stats.recycled += 1;
                    }
                    Event::SegmentLeft { .. } => stats.left += 1,
                    Event::Full | Event::SpaceBack => {}
                    Event::Failed(_) => failed = true,
                }
            }
            if !ready || failed {
                continue;
            }
            for _ in 0..world.rng.below(4) {
                if owners.len() < 3 || world.rng.chance(1, 60) {
                    owners.push(OwnerId(next_owner));
                    next_owner += 1;
                }
                // The first owners are hot, the rest has an entry now and then.
                let index = match world.rng.chance(3, 4) {
                    true => 0,
                    false => world.rng.below(owners.len() as u64) as usize,
                };
                let owner = owners[index];
                if world.rng.chance(1, 80) {
                    if let Ok(position) = journal.forget(owner) {
                        owners.remove(index);
                        model.forgotten.insert(owner, position);
                        model.highest = position;
                    }
                    continue;
                }
                if world.rng.chance(1, 40)
                    && let Some(position) = model.certain.iter().rev().nth(world.rng.below(20) as usize)
                    && model.entries[position].0 == owner
                {
                    journal.covered(owner, *position);
                    let covered = model.covered.entry(owner).or_default();
                    *covered = (*position).max(*covered);
                    continue;
                }
                let length = [7, 60, 128, 700][world.rng.below(4) as usize];
                let mut payload = vec![0; length];
                world.rng.fill(&mut payload);
                let (kind, payload) = (world.rng.below(200) as u8, Bytes::from(payload));
                let split = payload.len() / 2;
                let pieces = [payload.slice(..split), payload.slice(split..)];
                if let Ok(position) = journal.append(owner, kind, &pieces) {
                    if position <= model.highest {
                        return Err(format!("{position:?} is given out again"));
                    }
                    model.highest = position;
                    model.entries.insert(position, (owner, kind, payload));
                    model.open.insert(position);
                }
            }
            journal.advance(world.now, &mut world.queue);
        }
        if !faulty && failed {
            return Err("it failed although the disk didn't".to_owned());
        }
        if !faulty && idle >= 2000 && !ready {
            return Err("recovery doesn't end".to_owned());
        }
        if !ready {
            // What was told as recovered stays so; the next recovery settles the rest.
            let told: Vec<_> =
                recovered.iter().map(|entry| entry.1).filter(|at| model.entries.contains_key(at)).collect();
            for position in told {
                if model.open.remove(&position) {
                    model.certain.insert(position);
                }
            }
        }
        stats.crashes += 1;
        while let Some(submission) = world.queue.poll() {
            world.under_way.push_back(submission);
        }
        let under_way = std::mem::take(&mut world.under_way).into();
        // With a sync interval a power cut takes what was reported; such runs crash the process alone.
        let power = !lazy && world.rng.chance(2, 3);
        world.disk.crash(power, under_way, &mut world.rng);
        if damaging && world.rng.chance(1, 2) {
            damaged_now |= damage(&mut world);
            ever_damaged |= damaged_now;
        }
    }
    Ok(stats)
}

/// Flips a bit somewhere in a segment.
fn damage(world: &mut World) -> bool {
    let paths: Vec<_> = world.disk.paths().cloned().collect();
    let Some(path) = paths.get(world.rng.below(paths.len() as u64) as usize) else { return false };
    let bit = world.rng.next_u64();
    world.disk.flip(path, bit)
}
