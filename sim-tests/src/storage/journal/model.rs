//! What a journal must have, may have, and must not have any more.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use natrix_core::storage::journal::{Damage, Event, JournalError};
use natrix_core::storage::{OwnerId, Position};

use crate::storage::report::{Promise, Violation};

/// An entry as it was appended.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub owner: OwnerId,
    pub kind: u8,
    pub payload: Bytes,
}

/// Why an entry is not to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gone {
    Covered,
    Forgotten,
    /// A recovery didn't find it, and was right not to.
    Lost,
}

#[derive(Debug, Default)]
struct Owner {
    covered: Position,
    live: BTreeSet<Position>,
}

/// The entries of all lives of one journal.
///
/// Invariant: an entry is either live, and in its owner's list, or gone.
#[derive(Debug, Default)]
pub(super) struct Model {
    live: BTreeMap<Position, Entry>,
    gone: BTreeMap<Position, (Entry, Gone)>,
    owners: BTreeMap<OwnerId, Owner>,
    /// Where each owner is forgotten.
    forgets: BTreeMap<OwnerId, Position>,
    /// Whose forgetting was lost.
    forgets_lost: BTreeSet<OwnerId>,
    /// What was reported: survives the end of the process.
    pub committed: Position,
    /// Survives a power cut: less than `committed`, with a sync interval.
    pub durable: Position,
    pub highest: Position,
    /// What the journal told of damage while it ran.
    pub told: Vec<Damage>,
}

/// What a recovery said.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub found: Vec<(OwnerId, Position)>,
    pub forgotten: BTreeSet<OwnerId>,
    pub damage: Vec<Damage>,
    pub torn: u64,
    /// Once it was ready.
    pub next: Option<Position>,
    pub failed: Option<JournalError>,
}

impl Outcome {
    /// Takes note of an event; returns those that aren't of recovery.
    pub(super) fn hear(
        &mut self,
        event: Event,
        model: &Model,
        harmed: bool,
    ) -> Result<Option<Event>, Violation> {
        match event {
            Event::Recovered { owner, position, kind, payload } => {
                model.expect(owner, position, kind, &payload, harmed)?;
                self.found.push((owner, position));
            }
            Event::Forgotten { owner } => drop(self.forgotten.insert(owner)),
            Event::Damaged(damage) => self.damage.push(damage),
            Event::TornTail { .. } => self.torn += 1,
            Event::Ready { next_position } => self.next = Some(next_position),
            Event::Failed(error) => self.failed = Some(error),
            other => return Ok(Some(other)),
        }
        Ok(None)
    }

    /// Returns through where later recoveries are held to what this one has told.
    pub(super) fn told(&self, model: &Model) -> Position {
        let found = self.found.iter().map(|(_, position)| *position);
        let forgets = self.forgotten.iter().filter_map(|owner| model.forgets.get(owner)).copied();
        found.chain(forgets).max().unwrap_or_default()
    }
}

/// What a recovery is held to.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// All up to here must be there.
    pub certain: Position,
    /// The disk lied, or was harmed: then what is lost must be told, unless it is a suffix behind this position, for
    /// which nothing vouches.
    pub vouched: Option<Position>,
    /// A segment went missing, or back to what it was before it was started.
    pub missing: bool,
    /// What earlier recoveries told of damage.
    pub told: Vec<Damage>,
}

impl Model {
    pub(super) fn append(&mut self, position: Position, entry: Entry) {
        self.owners.entry(entry.owner).or_default().live.insert(position);
        self.live.insert(position, entry);
        self.highest = position;
    }

    pub(super) fn forget(&mut self, owner: OwnerId, position: Position) {
        self.forgets.insert(owner, position);
        self.highest = position;
    }

    pub(super) fn is_forgotten(&self, owner: OwnerId) -> bool {
        self.forgets.contains_key(&owner)
    }

    /// Notes that everything through `through` survives a power cut.
    pub(super) fn durable(&mut self, through: Position) {
        self.durable = self.durable.max(through);
        self.committed = self.committed.max(through);
        let durable = self.durable;
        let dead = self.forgets.iter().filter(|(_, at)| **at <= durable).map(|(owner, _)| *owner);
        for owner in dead.collect::<Vec<_>>() {
            let Some(state) = self.owners.get_mut(&owner) else { continue };
            for position in std::mem::take(&mut state.live) {
                if let Some(entry) = self.live.remove(&position) {
                    self.gone.insert(position, (entry, Gone::Forgotten));
                }
            }
        }
    }

    /// Notes that an owner has everything through `through` elsewhere.
    pub(super) fn cover(&mut self, owner: OwnerId, through: Position) {
        let state = self.owners.entry(owner).or_default();
        state.covered = state.covered.max(through);
        let behind = state.live.split_off(&Position(through.0 + 1));
        for position in std::mem::replace(&mut state.live, behind) {
            if let Some(entry) = self.live.remove(&position) {
                self.gone.insert(position, (entry, Gone::Covered));
            }
        }
    }

    /// Returns what stores say before recovery; those that are forgotten for certain aren't there any more.
    pub(super) fn covered(&self, with_forgotten: bool) -> impl Iterator<Item = (OwnerId, Position)> {
        let covered = self.owners.iter().filter(|(_, state)| state.covered > Position(0));
        covered
            .filter(move |(owner, _)| {
                with_forgotten || self.forgets.get(owner).is_none_or(|at| *at > self.durable)
            })
            .map(|(owner, state)| (*owner, state.covered))
    }

    /// Returns the entries of an owner that it may cover: those reported.
    pub(super) fn coverable(&self, owner: OwnerId) -> Vec<Position> {
        let live = self.owners.get(&owner).map(|state| state.live.range(..=self.committed).copied());
        live.map(Iterator::collect).unwrap_or_default()
    }

    pub(super) fn live(&self) -> usize {
        self.live.len()
    }

    /// Checks an entry that came back for what it says.
    fn expect(
        &self,
        owner: OwnerId,
        position: Position,
        kind: u8,
        payload: &[u8],
        harmed: bool,
    ) -> Result<(), Violation> {
        let entry = match (self.live.get(&position), self.gone.get(&position)) {
            (Some(entry), _) => entry,
            // Where the disk lies, the entry that forgot it may be lost; what could not be read may be readable again.
            (None, Some((entry, Gone::Forgotten | Gone::Lost))) if harmed => entry,
            (None, Some((_, why))) => {
                return Err(Violation::new(Promise::Phantom, format!("{position:?} came back: {why:?}")));
            }
            (None, None) => {
                let text = format!("{position:?} of {owner:?} was never appended");
                return Err(Violation::new(Promise::Phantom, text));
            }
        };
        if entry.owner != owner || entry.kind != kind || entry.payload != payload {
            let text = format!("{position:?} is not what was appended");
            return Err(Violation::new(Promise::Content, text));
        }
        Ok(())
    }

    /// Compares what a recovery said with what must and may be there; returns how many entries are lost, and told so.
    pub(super) fn check(&self, outcome: &Outcome, terms: &Terms) -> Result<u64, Violation> {
        let fail = |promise, text: String| Err(Violation::new(promise, text));
        if let (None, Some(damage)) = (terms.vouched, outcome.damage.first()) {
            return fail(Promise::FalseAlarm, format!("{damage:?}"));
        }
        let found = in_order(&outcome.found)?;
        let known = |owner: &OwnerId| {
            self.is_forgotten(*owner) || terms.vouched.is_some() && self.forgets_lost.contains(owner)
        };
        if let Some(owner) = outcome.forgotten.iter().find(|owner| !known(owner)) {
            return fail(Promise::Phantom, format!("{owner:?} was forgotten by nobody"));
        }
        let told = |position: Position| {
            let tells = |damage: &Damage| {
                let original =
                    damage.positions.is_some_and(|(first, last)| first <= position && position <= last);
                original || damage.copies.is_some_and(|below| position < below)
            };
            outcome.damage.iter().chain(&self.told).chain(&terms.told).any(tells)
        };
        let excused = |position: Position| {
            terms.vouched.is_some_and(|vouched| position > vouched || terms.missing || told(position))
        };
        for (owner, position) in &outcome.found {
            if let Some(at) = self.forgets.get(owner)
                && (*at <= terms.certain && !excused(*at) || outcome.forgotten.contains(owner))
            {
                let text = format!(
                    "{position:?}: {owner:?} was forgotten at {at:?}, vouched {:?}, certain {:?}, told {:?}, {:?}",
                    terms.vouched, terms.certain, outcome.damage, outcome.found
                );
                return fail(Promise::Phantom, text);
            }
        }
        let forgets = outcome.forgotten.iter().filter_map(|owner| self.forgets.get(owner));
        let newest = forgets.chain(found.last()).max().copied().unwrap_or_default();
        let mut lost = 0;
        let mut next_found = found.iter().peekable();
        for (position, entry) in &self.live {
            while next_found.next_if(|found| *found < position).is_some() {}
            if next_found.peek() == Some(&position) {
                continue;
            }
            let forgotten = self.forgets.get(&entry.owner);
            // With a sync interval a forgetting that was reported may be durable or not.
            let dead = outcome.forgotten.contains(&entry.owner)
                || forgotten.is_some_and(|at| *at <= terms.certain.max(self.committed));
            if dead || (*position > terms.certain && *position > newest) {
                continue;
            }
            let certain = *position <= terms.certain;
            match terms.vouched {
                Some(_) if told(*position) => lost += 1,
                // What nothing vouches for goes as a suffix only.
                Some(vouched) if *position > vouched && *position > newest => {}
                Some(vouched) => {
                    let text = format!(
                        "{position:?} of {:?} is lost and not told; vouched through {vouched:?}, found through {newest:?}, certain {certain}; {:?}",
                        entry.owner, outcome.damage
                    );
                    return fail(Promise::Untold, text);
                }
                None if certain => {
                    let text = format!(
                        "{position:?} of {:?} was reported and is lost; reported through {:?}, found through {newest:?}",
                        entry.owner, terms.certain
                    );
                    return fail(Promise::Lost, text);
                }
                None => {
                    let text = format!(
                        "{position:?} of {:?} is a gap before {newest:?}; certain through {:?}, {:?}",
                        entry.owner, terms.certain, outcome.forgotten
                    );
                    return fail(Promise::Gap, text);
                }
            }
        }
        match outcome.next {
            // Where the newest segment is gone with its name, nothing can be known of its positions.
            Some(_) if terms.vouched.is_some_and(|vouched| vouched < self.highest) && terms.missing => {
                Ok(lost)
            }
            Some(next) if next <= self.highest => {
                fail(Promise::Reused, format!("{next:?} is given out again, {:?} was used", self.highest))
            }
            _ => Ok(lost),
        }
    }

    /// Goes on from what a recovery of the run itself found: all that is left is certain.
    pub(super) fn settle(&mut self, outcome: &Outcome, next: Position) {
        let found: BTreeSet<Position> = outcome.found.iter().map(|(_, position)| *position).collect();
        for (owner, position) in &outcome.found {
            if let Some((entry, _)) = self.gone.remove(position) {
                self.owners.entry(*owner).or_default().live.insert(*position);
                self.live.insert(*position, entry);
            }
            if self.forgets.remove(owner).is_some() {
                self.forgets_lost.insert(*owner);
            }
        }
        let (live, lost): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut self.live).into_iter().partition(|(position, _)| found.contains(position));
        self.live = live;
        for (position, entry) in lost {
            if let Some(owner) = self.owners.get_mut(&entry.owner) {
                owner.live.remove(&position);
            }
            self.gone.insert(position, (entry, Gone::Lost));
        }
        let durable = self.durable;
        let known = &outcome.forgotten;
        let kept = |owner: &OwnerId, at: &Position| known.contains(owner) || *at <= durable;
        self.forgets_lost.extend(self.forgets.iter().filter(|(o, at)| !kept(o, at)).map(|(o, _)| *o));
        self.forgets.retain(|owner, at| kept(owner, at));
        self.highest = self.highest.max(Position(next.0 - 1));
        self.durable(self.highest);
    }
}

/// Returns the positions in order, if those of each owner came so, each once.
fn in_order(found: &[(OwnerId, Position)]) -> Result<Vec<Position>, Violation> {
    let mut positions: Vec<Position> = found.iter().map(|(_, position)| *position).collect();
    if positions.is_sorted_by(|before, after| before < after) {
        return Ok(positions);
    }
    let mut last: BTreeMap<OwnerId, Position> = BTreeMap::new();
    for (owner, position) in found {
        if last.insert(*owner, *position).is_some_and(|before| before >= *position) {
            let all: Vec<u64> = found.iter().map(|(_, position)| position.0).collect();
            let text = format!("{position:?} of {owner:?} is out of order in {all:?}");
            return Err(Violation::new(Promise::Order, text));
        }
    }
    positions.sort();
    Ok(positions)
}
