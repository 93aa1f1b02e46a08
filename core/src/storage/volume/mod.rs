//! All stores of a shard and their journal, put together.
//!
//! The volume is where "propose, commit, apply" happens: [`Volume::propose`] hands an entry to the journal and keeps it;
//! when the journal says that it is durable, the entry is applied to its store, in the order of positions. A store
//! that can't apply yet (it waits for a block's index) holds up its own entries and nobody else's.
//!
//! # Invariants
//!
//! - A store sees its entries in the order of their positions, each once, and none that isn't committed.
//! - What a store is asked to cover it has been handed before.
//! - One [`DiskQueue`] serves all; [`Tag`] says whose a completion is.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;

use bytes::Bytes;
use smallvec::smallvec;

use super::block::key::SealError;
use super::journal::{Config, Event, Journal, Refused, Ticket};
use super::vault::Sessions;
use super::{OwnerId, Pieces, Position};
use crate::disk::{Completion, DiskError, DiskQueue, FileId, Reply, Request, Submission, Token};
use crate::planted::{self, Bug};
use crate::rng::Rng;
use crate::time::Instant;

/// Whose a disk request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tag {
    /// The journal's.
    Journal(Ticket),
    /// A store's; what for is the store's business.
    Store(OwnerId, u64),
}

impl From<Ticket> for Tag {
    fn from(ticket: Ticket) -> Self {
        Tag::Journal(ticket)
    }
}

/// The disk as one store has it.
#[derive(Debug)]
pub struct StoreDisk<'a> {
    queue: &'a mut DiskQueue<Tag>,
    owner: OwnerId,
}

impl<'a> StoreDisk<'a> {
    /// Lends the queue to the store of `owner`.
    pub fn new(queue: &'a mut DiskQueue<Tag>, owner: OwnerId) -> Self {
        StoreDisk { queue, owner }
    }

    /// Returns a name for a file that no other has or had.
    pub fn file(&mut self) -> FileId {
        self.queue.file()
    }

    /// Queues a request; its completion comes back with `tag`.
    pub fn submit(&mut self, tag: u64, request: Request) -> Token {
        self.queue.submit(Tag::Store(self.owner, tag), request)
    }
}

/// A committed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its position.
    pub position: Position,
    /// Its kind; what it means is the store's business.
    pub kind: u8,
    /// Its payload, in the pieces that it was proposed in (one, after recovery).
    pub payload: Pieces,
    /// Whether entries before it may be missing: recovery has found damage in the journal.
    pub gaps: bool,
}

/// How applying went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// It is done, or had been before.
    Done,
    /// Nothing has changed yet: the store waits for its disk, and is handed the same entry again after its next completion.
    Pending,
}

/// What a store of the volume does: it applies entries, keeps its own files, and says what it has in them.
pub trait Store {
    /// What the store tells those who use it.
    type Event;

    /// Applies a committed entry. One at or below the position that the store's files have already is skipped by the store.
    fn apply(&mut self, entry: &Committed, now: Instant, disk: &mut StoreDisk<'_>) -> Applied;

    /// Asks the store to make everything through `through` durable in its own files, and to say so by
    /// [`Store::covered`] some time later.
    fn cover(&mut self, through: Position, now: Instant, disk: &mut StoreDisk<'_>);

    /// Returns through which position the store's own files are durable. Never goes back.
    fn covered(&self) -> Position;

    /// Takes what became of a request.
    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    );

    /// Acts on a deadline at or before `now`.
    fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>);

    /// Returns when [`Store::handle_timeout`] is next due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// Returns the next event, oldest first.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// Returns whether it has given up, and applies nothing more before the next start: what is committed for it stays in the
    /// journal until then.
    fn has_failed(&self) -> bool {
        false
    }

    /// Returns whether it covers nothing more, unless something changes that it knows nothing of.
    fn covers_no_more(&self) -> bool {
        self.has_failed()
    }

    /// Returns whether its files can't be opened without a key that wasn't given: nothing is applied or covered before the next start.
    fn is_locked(&self) -> bool {
        false
    }
}

/// How much may wait for stores that recover, in bytes, before the journal reads no further.
const RECOVERY_WAITING: usize = 8 << 20;

/// How much may wait for one store, in bytes, before nothing more is proposed to it.
const BUSY: usize = 16 << 20;

/// What the kind of an entry has in the journal when it is sealed.
pub(super) const SEALED: u8 = 0x80;

/// What an entry that waits takes beside its payload, in bytes.
const ENTRY: usize = 64;

fn size(entry: &Committed) -> usize {
    ENTRY + entry.payload.iter().map(Bytes::len).sum::<usize>()
}

/// What the volume tells.
#[derive(Debug, PartialEq, Eq)]
pub enum VolumeEvent<E> {
    /// A store tells something.
    Store(OwnerId, E),
    /// The entries of this owner through this position are applied: they may be answered.
    Applied(OwnerId, Position),
    /// The journal tells something that isn't the volume's to deal with.
    Journal(Event),
    /// Recovery found entries of an owner that no store was added for. They stay in the journal.
    Unclaimed(OwnerId),
    /// An entry can't be opened. Where its key is missing the store applies nothing from there on, and its entries stay in the
    /// journal; where it isn't what was sealed, it is lost.
    Unopened(OwnerId, Position, SealError),
}

#[derive(Debug)]
struct Slot<S> {
    store: S,
    /// Committed entries that the store couldn't apply yet, oldest first.
    waiting: VecDeque<Committed>,
    /// How much that is, in bytes.
    bytes: usize,
    /// What the journal knows of the store's files.
    covered: Position,
    /// What it was asked to cover while it had some of it still to apply: it is asked again then.
    cover: Option<Position>,
    /// Its deadline, as `deadlines` has it.
    deadline: Option<Instant>,
    /// An entry was met of which there is no key: nothing is applied from there on.
    locked: bool,
    /// It was asked to cover something.
    asked: bool,
}

impl<S: Store> Slot<S> {
    fn new(store: S, covered: Position) -> Self {
        let (waiting, cover, deadline) = (VecDeque::new(), None, None);
        Slot { store, waiting, bytes: 0, covered, cover, deadline, locked: false, asked: false }
    }

    fn is_locked(&self) -> bool {
        self.locked || self.store.is_locked()
    }
}

/// The stores of one shard.
#[derive(Debug)]
pub struct Volume<S: Store> {
    journal: Journal,
    queue: DiskQueue<Tag>,
    slots: BTreeMap<OwnerId, Slot<S>>,
    /// The stores that have one, the nearest first: ten thousand stores that wait for nothing cost nothing.
    deadlines: BTreeSet<(Instant, OwnerId)>,
    /// Stores that were asked to cover what the journal leaves, and don't.
    hindering: BTreeSet<OwnerId>,
    proposed: VecDeque<(OwnerId, Committed)>,
    /// Recovery has found damage in the journal.
    damaged: bool,
    /// How much waits for stores, in bytes.
    waiting: usize,
    /// The journal's recovery waits until less does.
    paused: bool,
    /// Seals entries, and opens them.
    sessions: Option<Sessions>,
    events: VecDeque<VolumeEvent<S::Event>>,
}

impl<S: Store> Volume<S> {
    /// Opens the journal. `stores` are those that there are, each with what its own files have.
    pub fn open(config: Config, rng: Rng, stores: impl IntoIterator<Item = (OwnerId, S)>) -> Self {
        Self::open_on(DiskQueue::default(), config, rng, stores)
    }

    /// Opens the journal as [`Volume::open`] does, with a queue that has been used for nothing yet.
    pub fn open_on(
        mut queue: DiskQueue<Tag>,
        config: Config,
        rng: Rng,
        stores: impl IntoIterator<Item = (OwnerId, S)>,
    ) -> Self {
        let mut journal = Journal::open(config, rng, &mut queue);
        let mut slots = BTreeMap::new();
        for (owner, store) in stores {
            let covered = store.covered();
            journal.covered(owner, covered);
            slots.insert(owner, Slot::new(store, covered));
        }
        let (deadlines, proposed, events) = (BTreeSet::new(), VecDeque::new(), VecDeque::new());
        let (damaged, waiting, paused) = (false, 0, false);
        let mut volume = Volume {
            journal,
            queue,
            slots,
            deadlines,
            hindering: BTreeSet::new(),
            proposed,
            damaged,
            waiting,
            paused,
            sessions: None,
            events,
        };
        volume.slots.keys().copied().collect::<Vec<_>>().into_iter().for_each(|owner| volume.settle(owner));
        volume
    }

    /// Has entries sealed from now on, and those opened that were. To be called before anything else.
    pub fn set_sessions(&mut self, sessions: Sessions) {
        self.sessions = Some(sessions);
    }

    /// Returns whether something was found in the journal that isn't sealed as it is to be ([`Journal::found_unsealed`]).
    pub fn found_unsealed(&self) -> bool {
        self.journal.found_unsealed()
    }

    /// Returns whether nothing of it is left ([`Journal::has_left`]).
    pub fn has_left(&self) -> bool {
        self.journal.has_left()
    }

    /// Returns whether something of it stays, until the next start at least: the journal can't leave it, or a store that has some of it
    /// covers nothing more.
    pub fn cannot_leave(&self) -> bool {
        self.journal.cannot_leave() || !self.hindering.is_empty()
    }

    /// Returns how many stores can't go on without a key that wasn't given.
    pub fn locked(&self) -> usize {
        self.slots.values().filter(|slot| slot.is_locked()).count()
    }

    /// Adds a store.
    pub fn add(&mut self, owner: OwnerId, store: S) {
        let covered = store.covered();
        self.slots.insert(owner, Slot::new(store, covered));
        self.settle(owner);
    }

    /// Adds a store that `open` makes on the volume's disk, and that may still be reading its files. Added before
    /// [`Volume::advance`] is called for the first time, it is handed all that the journal has of it, once it can apply; what
    /// its files turn out to have it skips.
    pub fn add_with(&mut self, owner: OwnerId, open: impl FnOnce(&mut StoreDisk<'_>) -> S) {
        let store = open(&mut StoreDisk::new(&mut self.queue, owner));
        self.add(owner, store);
    }

    /// Returns a store.
    pub fn store(&self, owner: OwnerId) -> Option<&S> {
        self.slots.get(&owner).map(|slot| &slot.store)
    }

    /// Returns the store whose owner comes next behind `before`, or the first.
    pub fn owner_behind(&self, before: Option<OwnerId>) -> Option<OwnerId> {
        let from = before.map_or(Bound::Unbounded, Bound::Excluded);
        self.slots.range((from, Bound::Unbounded)).next().map(|(owner, _)| *owner)
    }

    /// Returns whether a store has applied all that is committed of it, as far as was told.
    pub fn is_settled(&self, owner: OwnerId) -> bool {
        self.slots.get(&owner).is_some_and(|slot| slot.waiting.is_empty() && !slot.locked)
    }

    /// Runs `act` on a store with its disk, for reads and what else goes past the journal.
    pub fn with_store<T>(
        &mut self,
        owner: OwnerId,
        act: impl FnOnce(&mut S, &mut StoreDisk<'_>) -> T,
    ) -> Option<T> {
        let slot = self.slots.get_mut(&owner)?;
        let answer = act(&mut slot.store, &mut StoreDisk::new(&mut self.queue, owner));
        self.settle(owner);
        Some(answer)
    }

    /// Proposes an entry. It is applied once it is durable; [`Volume::advance`] sets it going.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then.
    pub fn propose(
        &mut self,
        owner: OwnerId,
        kind: u8,
        payload: impl Into<Pieces>,
    ) -> Result<Position, Refused> {
        // What waits of all is no more than that as a rule: then nobody's has to be looked up.
        if self.waiting > BUSY && self.slots.get(&owner).is_some_and(|slot| slot.bytes > BUSY) {
            return Err(Refused::Busy);
        }
        let payload = payload.into();
        let next = self.journal.next_position();
        let sealed = self.sessions.as_ref().and_then(|sessions| sessions.seal(owner, next, kind, &payload));
        let position = match sealed {
            Some(sealed) => self.journal.append(owner, kind | SEALED, &[sealed])?,
            None => self.journal.append(owner, kind, &payload)?,
        };
        debug_assert!(position == next, "an entry is sealed for its position");
        self.proposed.push_back((owner, Committed { position, kind, payload, gaps: false }));
        Ok(position)
    }

    /// Deletes an owner: its store is returned to be taken apart once the returned position is committed.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then.
    pub fn forget(&mut self, owner: OwnerId) -> Result<(Position, Option<S>), Refused> {
        let position = self.journal.forget(owner)?;
        let slot = self.slots.remove(&owner);
        self.hindering.remove(&owner);
        self.waiting -= slot.as_ref().map_or(0, |slot| slot.bytes);
        if let Some(deadline) = slot.as_ref().and_then(|slot| slot.deadline) {
            self.deadlines.remove(&(deadline, owner));
        }
        Ok((position, slot.map(|slot| slot.store)))
    }

    /// Takes a store out that has nothing in the journal any more. Completions of its requests are nobody's from now on.
    pub fn release(&mut self, owner: OwnerId) -> Option<S> {
        let slot = self.slots.remove(&owner)?;
        self.hindering.remove(&owner);
        self.waiting -= slot.bytes;
        if let Some(deadline) = slot.deadline {
            self.deadlines.remove(&(deadline, owner));
        }
        Some(slot.store)
    }

    /// Does what can be done: call it after proposing, and at [`Volume::poll_timeout`].
    pub fn advance(&mut self, now: Instant) {
        self.journal.advance(now, &mut self.queue);
        self.drain_journal(now);
        // Each once: a store that is due again at once has its turn at the next call.
        let due: Vec<_> =
            self.deadlines.range(..=(now, OwnerId(u64::MAX))).map(|(_, owner)| *owner).collect();
        for owner in due {
            if let Some(slot) = self.slots.get_mut(&owner) {
                slot.store.handle_timeout(now, &mut StoreDisk::new(&mut self.queue, owner));
            }
            self.settle(owner);
        }
    }

    /// Takes what became of a request.
    pub fn handle_disk(&mut self, now: Instant, completion: Completion) {
        let Some((tag, result)) = self.queue.complete(completion) else { return };
        match tag {
            Tag::Journal(ticket) => {
                self.journal.handle_disk(now, ticket, result, &mut self.queue);
                self.drain_journal(now);
            }
            Tag::Store(owner, tag) => {
                let Some(slot) = self.slots.get_mut(&owner) else { return };
                slot.store.handle_disk(tag, result, now, &mut StoreDisk::new(&mut self.queue, owner));
                self.apply_waiting(owner, now);
                self.settle(owner);
                if self.paused {
                    self.drain_journal(now);
                }
            }
        }
    }

    /// Returns the next request for the disk, oldest first.
    pub fn poll_disk(&mut self) -> Option<Submission> {
        self.queue.poll()
    }

    /// Returns the next event, oldest first.
    pub fn poll_event(&mut self) -> Option<VolumeEvent<S::Event>> {
        self.events.pop_front()
    }

    /// Returns when [`Volume::advance`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(deadline, _)| *deadline);
        first.into_iter().chain(self.journal.poll_timeout()).min()
    }

    /// Returns whether recovery has found more than stores can take for now. They don't need the journal to go on.
    fn is_overloaded(&self) -> bool {
        self.waiting > RECOVERY_WAITING && !self.journal.is_ready()
    }

    /// Takes what the journal tells. It tells a batch at a time while it recovers, and there may be thousands of them: a loop, as
    /// a call for each would need as many frames.
    fn drain_journal(&mut self, now: Instant) {
        while self.take_events(now) {
            // The journal reads on when what it told was taken: as far as what it has read already goes.
            self.journal.advance(now, &mut self.queue);
        }
    }

    /// Takes the events that there are, and returns whether recovery is to go on.
    fn take_events(&mut self, now: Instant) -> bool {
        let mut recovering = std::mem::take(&mut self.paused);
        // What isn't taken keeps the journal from reading on.
        while !self.is_overloaded()
            && let Some(event) = self.journal.poll_event()
        {
            match event {
                Event::Committed { through } => {
                    let early = planted::bug(Bug::VolumeAppliesEarly);
                    while let Some((owner, entry)) =
                        self.proposed.pop_front_if(|(_, entry)| entry.position <= through || early)
                    {
                        self.hand(owner, entry, now);
                    }
                    self.events.push_back(VolumeEvent::Journal(event));
                }
                Event::Recovered { owner, position, kind, payload } => {
                    recovering = true;
                    if let Some((kind, payload)) = self.open_entry(owner, position, kind, payload) {
                        let gaps = self.damaged;
                        self.hand(
                            owner,
                            Committed { position, kind, payload: smallvec![payload], gaps },
                            now,
                        );
                    }
                }
                Event::PleaseCover { owner, through } => {
                    // One that can't go on without a key that wasn't given has in its files what it had before.
                    if let Some(slot) = self.slots.get_mut(&owner).filter(|slot| !slot.is_locked()) {
                        slot.cover = (!slot.waiting.is_empty()).then_some(through);
                        slot.asked = true;
                        slot.store.cover(through, now, &mut StoreDisk::new(&mut self.queue, owner));
                        self.settle(owner);
                    } else if self.journal.is_ready() {
                        self.journal.cannot_cover(owner);
                    }
                }
                event => {
                    self.damaged |= matches!(event, Event::Damaged(_));
                    self.events.push_back(VolumeEvent::Journal(event));
                }
            }
        }
        if self.is_overloaded() {
            self.paused = true;
            return false;
        }
        recovering
    }

    /// Returns an entry as it was proposed; `None` if it can't be opened, which is told.
    fn open_entry(
        &mut self,
        owner: OwnerId,
        position: Position,
        kind: u8,
        payload: Bytes,
    ) -> Option<(u8, Bytes)> {
        if kind & SEALED == 0 || !self.slots.contains_key(&owner) {
            return Some((kind, payload));
        }
        let kind = kind & !SEALED;
        let opened = match &mut self.sessions {
            Some(sessions) => sessions.open(owner, position, kind, &payload),
            None => Err(SealError::NoKey(0)),
        };
        let error = match opened {
            Ok(payload) => return Some((kind, payload)),
            Err(error) => error,
        };
        let slot = self.slots.get_mut(&owner)?;
        match error {
            // It may be of any kind, and what comes behind it is not to be applied without it.
            SealError::NoKey(_) => {
                if std::mem::replace(&mut slot.locked, true) {
                    return None;
                }
            }
            SealError::Broken => self.damaged = true,
        }
        self.events.push_back(VolumeEvent::Unopened(owner, position, error));
        None
    }

    /// Hands an entry to its store, behind those that wait.
    fn hand(&mut self, owner: OwnerId, entry: Committed, now: Instant) {
        let Some(slot) = self.slots.get_mut(&owner) else {
            if self
                .events
                .back()
                .is_none_or(|event| !matches!(event, VolumeEvent::Unclaimed(last) if *last == owner))
            {
                self.events.push_back(VolumeEvent::Unclaimed(owner));
            }
            return;
        };
        if slot.store.has_failed() || slot.locked {
            return;
        }
        self.waiting += size(&entry);
        slot.bytes += size(&entry);
        slot.waiting.push_back(entry);
        if slot.waiting.len() == 1 {
            self.apply_waiting(owner, now);
            self.settle(owner);
        }
    }

    fn apply_waiting(&mut self, owner: OwnerId, now: Instant) {
        let Some(slot) = self.slots.get_mut(&owner) else { return };
        let mut applied = None;
        while let Some(entry) = slot.waiting.front() {
            let mut disk = StoreDisk::new(&mut self.queue, owner);
            if slot.store.apply(entry, now, &mut disk) == Applied::Pending {
                break;
            }
            self.waiting -= size(entry);
            slot.bytes -= size(entry);
            applied = slot.waiting.pop_front().map(|entry| entry.position);
        }
        if slot.store.has_failed() {
            self.waiting -= std::mem::take(&mut slot.bytes);
            slot.waiting.clear();
        }
        if slot.waiting.is_empty()
            && let Some(through) = slot.cover.take()
        {
            slot.store.cover(through, now, &mut StoreDisk::new(&mut self.queue, owner));
        }
        if let Some(position) = applied {
            self.events.push_back(VolumeEvent::Applied(owner, position));
        }
    }

    /// Passes on what a store has to tell.
    fn settle(&mut self, owner: OwnerId) {
        let Some(slot) = self.slots.get_mut(&owner) else { return };
        while let Some(event) = slot.store.poll_event() {
            self.events.push_back(VolumeEvent::Store(owner, event));
        }
        let covered = slot.store.covered();
        if covered > slot.covered {
            slot.covered = covered;
            self.journal.covered(owner, covered);
        }
        match slot.asked && slot.store.covers_no_more() {
            true => drop(self.hindering.insert(owner)),
            false => drop(self.hindering.remove(&owner)),
        }
        let deadline = slot.store.poll_timeout();
        if deadline != slot.deadline {
            if let Some(old) = std::mem::replace(&mut slot.deadline, deadline) {
                self.deadlines.remove(&(old, owner));
            }
            self.deadlines.extend(deadline.map(|deadline| (deadline, owner)));
        }
    }
}

#[cfg(test)]
mod tests;
