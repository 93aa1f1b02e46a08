//! The owner of all groups that have a member on one shard, over one journal.
//!
//! A [`Host`] is told what happened ([`Host::handle`], [`Host::act`]) and says what is to be done ([`Host::poll_output`]), and
//! when it has to be called next ([`Host::poll_timeout`]). It makes the groups' records durable: each goes to the journal
//! in the order of its number, and the group is told when the journal says that it is committed; whatever
//! all groups wrote meanwhile shares one write and one sync.
//!
//! ```text
//! io.rs       every input and output as plain values     witness.rs  whether the journal still has its end
//! member.rs   one group and what it waits for            shelf.rs    the kinds of store on the journal
//! ```
//!
//! # Invariants
//!
//! - A group is told that a write is durable only when the journal has committed its record and all before.
//! - A member that may have lost something is started with that knowledge, which is in the journal before anything else that
//!   it writes.
//! - The witness is written only when all that was found lost is written down.
//! - Groups that wait for nothing cost nothing: deadlines are in order, and one call acts on [`DUE`] of them at most.

mod io;
mod member;
mod shelf;
#[cfg(test)]
mod tests;
mod witness;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;

use super::group::{Group, Start};
use super::membership::Membership;
use super::store::{LogStore, StoreEvent};
use crate::disk::{FilePath, Request};
use crate::planted::{Bug, bug};
use crate::rng::Rng;
use crate::storage::journal::{Damage, Event, Refused};
use crate::storage::volume::{Volume, VolumeEvent};
use crate::storage::{OwnerId, Position};
use crate::time::Instant;

pub use io::{GroupSpec, HostConfig, HostInput, HostOutput, Notice};

use member::{Member, Phase};
use shelf::{Shelf, ShelfEvent};
use witness::{Witness, WitnessEvent};

/// How many groups that are due one call acts on.
pub const DUE: usize = 256;

/// The kind of the witness's entries.
const NUMBER: u8 = 1;

/// All groups with a member on a shard.
#[derive(Debug)]
pub struct Host {
    config: HostConfig,
    volume: Volume<Shelf>,
    members: BTreeMap<OwnerId, Member>,
    deadlines: BTreeSet<(Instant, OwnerId)>,
    /// Members whose first record of this life isn't proposed yet.
    unbegun: BTreeSet<OwnerId>,
    /// Members whose records the journal didn't take.
    refused: BTreeSet<OwnerId>,
    /// What recovery found damaged.
    damages: Vec<Damage>,
    /// The end of the journal is lost.
    end_lost: bool,
    ready: bool,
    /// When the witness is to be written, as something was proposed since the last time.
    vouch_due: Option<Instant>,
    /// A number for the witness was proposed and isn't committed.
    vouching: Option<Position>,
    /// Files to be removed, when the position is committed.
    removing: VecDeque<(Position, [FilePath; 3])>,
    /// Something was proposed since the journal was last called.
    proposed: bool,
    now: Instant,
    rng: Rng,
    outputs: VecDeque<HostOutput>,
}

impl Host {
    /// Opens the journal, with a member of each of `groups`. [`HostOutput::Found`] comes for each when what is left of it is known.
    pub fn open(
        config: HostConfig,
        groups: impl IntoIterator<Item = GroupSpec>,
        mut rng: Rng,
        now: Instant,
    ) -> Self {
        let mut volume = Volume::open(config.journal.clone(), rng.child(), []);
        let directory = config.store.directory.clone();
        volume.add_with(config.witness, |disk| Shelf::Witness(Box::new(Witness::open(&directory, disk))));
        let mut host = Host {
            config,
            volume,
            members: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            unbegun: BTreeSet::new(),
            refused: BTreeSet::new(),
            damages: Vec::new(),
            end_lost: false,
            ready: false,
            vouch_due: None,
            vouching: None,
            removing: VecDeque::new(),
            proposed: false,
            now,
            rng,
            outputs: VecDeque::new(),
        };
        for spec in groups {
            let (owner, store) = (spec.owner, host.config.store.clone());
            host.volume.add_with(owner, |disk| Shelf::Log(Box::new(LogStore::open(owner, store, disk))));
            host.members.insert(owner, Member::new(spec));
            host.unbegun.insert(owner);
        }
        host.settle();
        host
    }

    /// Adds a group that never had a member here, once the host [is ready](Host::is_ready).
    pub fn create(&mut self, now: Instant, spec: GroupSpec) {
        debug_assert!(self.ready && !self.members.contains_key(&spec.owner), "a name is used once");
        self.now = self.now.max(now);
        let owner = spec.owner;
        self.volume.add(owner, Shelf::Log(Box::new(LogStore::new(owner, self.config.store.clone()))));
        self.members.insert(owner, Member::new(spec));
        self.unbegun.insert(owner);
        self.found(owner);
        self.settle();
    }

    /// Starts a member of which was found what is left; `applied` says through where the application has applied, durably.
    pub fn start(&mut self, now: Instant, owner: OwnerId, applied: u64) {
        self.now = self.now.max(now);
        let rng = self.rng.child();
        let Some(member) = self.members.get_mut(&owner) else { return };
        let Phase::Found(found) = std::mem::replace(&mut member.phase, Phase::Recovering) else { return };
        let spec = &member.spec;
        let start = match found.nothing && (!spec.expected || bug(Bug::RaftStoreMissingIsFresh)) {
            true => Start::Fresh { members: spec.members.clone() },
            false => {
                // Who the members are now isn't known where nothing is left.
                let members = if found.nothing { Membership::default() } else { spec.members.clone() };
                let mut recovered = found.recovered;
                recovered.applied = applied;
                Start::Recovered { found: Box::new(recovered), members }
            }
        };
        let group = Group::new(spec.id, spec.config.clone(), start, rng, self.now);
        member.phase = Phase::Running(Box::new(group));
        self.drain(owner);
        self.settle();
    }

    /// Deletes a group's member here, with all that it has.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing has changed then.
    pub fn forget(&mut self, now: Instant, owner: OwnerId) -> Result<(), Refused> {
        self.now = self.now.max(now);
        let (position, store) = self.volume.forget(owner)?;
        if let Some(Shelf::Log(store)) = store {
            self.removing.push_back((position, store.paths()));
        }
        if let Some(Member { deadline: Some(deadline), .. }) = self.members.remove(&owner) {
            self.deadlines.remove(&(deadline, owner));
        }
        self.unbegun.remove(&owner);
        self.refused.remove(&owner);
        self.proposed = true;
        self.settle();
        Ok(())
    }

    /// Takes something that happened.
    pub fn handle(&mut self, now: Instant, input: HostInput) {
        self.now = self.now.max(now);
        match input {
            HostInput::Message { group, message } => {
                let now = self.now;
                if let Some(running) = self.members.get_mut(&group).and_then(Member::group_mut) {
                    running.handle_message(now, message);
                    self.drain(group);
                }
            }
            HostInput::Disk(completion) => {
                self.volume.handle_disk(self.now, completion);
                self.proposed = true;
            }
            HostInput::Tick => self.tick(),
        }
        self.settle();
    }

    /// Calls a group's member: to propose, to read, to say what is applied. `None` if it doesn't run here.
    pub fn act<T>(
        &mut self,
        now: Instant,
        owner: OwnerId,
        act: impl FnOnce(&mut Group, Instant) -> T,
    ) -> Option<T> {
        self.now = self.now.max(now);
        let now = self.now;
        let answer = act(self.members.get_mut(&owner)?.group_mut()?, now);
        self.drain(owner);
        self.settle();
        Some(answer)
    }

    /// Returns the next output, oldest first; drain to `None` after every call of another method.
    pub fn poll_output(&mut self) -> Option<HostOutput> {
        if let Some(output) = self.outputs.pop_front() {
            return Some(output);
        }
        self.volume.poll_disk().map(HostOutput::Disk)
    }

    /// Returns when [`HostInput::Tick`] is next due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let first = self.deadlines.first().map(|(deadline, _)| *deadline);
        [first, self.volume.poll_timeout(), self.vouch_due].into_iter().flatten().min()
    }

    /// Returns a group's member, if it runs.
    pub fn group(&self, owner: OwnerId) -> Option<&Group> {
        self.members.get(&owner).and_then(Member::group)
    }

    /// Returns whether a member's first record of this life is durable: what was found lost of it is known from now on, until its
    /// group knows better.
    pub fn has_begun(&self, owner: OwnerId) -> bool {
        self.members.get(&owner).is_some_and(|member| member.begun)
    }

    /// Returns whether the journal takes records.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns whether everything that was ever said to be durable is vouched for: whatever happens to one file now is noticed at
    /// the next start.
    pub fn is_vouched(&self) -> bool {
        let idle = self.volume.store(self.config.witness).is_some_and(|store| match store {
            Shelf::Witness(witness) => witness.is_idle(),
            Shelf::Log(_) => false,
        });
        idle && self.ready && self.vouch_due.is_none() && self.vouching.is_none() && self.unbegun.is_empty()
    }

    fn tick(&mut self) {
        let now = self.now;
        let due: Vec<OwnerId> =
            self.deadlines.range(..=(now, OwnerId(u64::MAX))).take(DUE).map(|(_, owner)| *owner).collect();
        for owner in due {
            if let Some(group) = self.members.get_mut(&owner).and_then(Member::group_mut) {
                group.handle_timeout(now);
            }
            self.drain(owner);
        }
        self.vouch();
        self.proposed = true;
    }

    /// Proposes the witness's next number, if it is time and nothing stands against it.
    fn vouch(&mut self) {
        if self.vouch_due.is_none_or(|due| due > self.now) {
            return;
        }
        let witness = self.config.witness;
        let number = self.volume.with_store(witness, |store, _| {
            store.witness().filter(|witness| witness.is_idle()).map(|witness| witness.next())
        });
        let next = number.flatten().filter(|_| self.vouching.is_none() && self.unbegun.is_empty());
        let taken = next.and_then(|number| {
            let payload = Bytes::copy_from_slice(&number.to_le_bytes());
            self.volume.propose(witness, NUMBER, vec![payload]).ok().map(|position| (number, position))
        });
        let Some((number, position)) = taken else {
            self.vouch_due = Some(self.now + self.config.vouch_after);
            return;
        };
        if bug(Bug::RaftStoreWitnessEarly) {
            self.volume.with_store(witness, |store, disk| {
                if let Some(witness) = store.witness() {
                    witness.write(number, disk);
                }
            });
        }
        self.vouch_due = None;
        self.vouching = Some(position);
        self.proposed = true;
    }

    /// Takes what a group asks for.
    fn drain(&mut self, owner: OwnerId) {
        let Some(member) = self.members.get_mut(&owner) else { return };
        member.drain(&mut self.outputs);
        self.write(owner);
        let Some(member) = self.members.get_mut(&owner) else { return };
        let deadline = member.group().map(Group::poll_timeout).filter(|due| *due < Instant::MAX);
        if deadline != member.deadline {
            if let Some(old) = std::mem::replace(&mut member.deadline, deadline) {
                self.deadlines.remove(&(old, owner));
            }
            self.deadlines.extend(deadline.map(|deadline| (deadline, owner)));
        }
    }

    /// Hands a member's records to the journal, in their order.
    fn write(&mut self, owner: OwnerId) {
        while let Some(member) = self.members.get_mut(&owner) {
            if let Some(part) = member.parts.pop_front() {
                match self.volume.propose(owner, part.kind, part.payload.clone()) {
                    Ok(position) => self.was_proposed(owner, position, part),
                    Err(Refused::Failed | Refused::TooLarge) => return self.group_failed(owner),
                    Err(Refused::NotReady | Refused::Busy | Refused::Full) => {
                        member.parts.push_front(part);
                        self.refused.insert(owner);
                        return;
                    }
                }
                continue;
            }
            let Some((id, record)) = member.records.front() else { return };
            let (id, waits) = (*id, member.waits);
            if waits {
                return;
            }
            let volume = &mut self.volume;
            let made = volume.with_store(owner, |store, disk| store.log()?.write(id, record, disk));
            match made.flatten() {
                Some(parts) => {
                    member.records.pop_front();
                    member.parts.extend(parts);
                }
                // A snapshot's file is written first.
                None => member.waits = true,
            }
        }
    }

    fn was_proposed(&mut self, owner: OwnerId, position: Position, part: super::store::Part) {
        let write = part.write;
        self.volume.with_store(owner, |store, _| {
            if let Some(store) = store.log() {
                store.proposed(position, part);
            }
        });
        self.proposed = true;
        self.vouch_due.get_or_insert(self.now + self.config.vouch_after);
        let Some(member) = self.members.get_mut(&owner) else { return };
        member.in_flight.push_back((position, write));
        if let (Some(id), true) = (write, bug(Bug::RaftStorePersistedEarly))
            && let Some(group) = member.group_mut()
        {
            group.persisted(self.now, id);
            member.drain(&mut self.outputs);
        }
    }

    fn group_failed(&mut self, owner: OwnerId) {
        let now = self.now;
        let Some(member) = self.members.get_mut(&owner) else { return };
        member.records.clear();
        member.parts.clear();
        if let Some(group) = member.group_mut() {
            group.disk_failed(now);
            member.drain(&mut self.outputs);
        }
    }

    /// Does what can be done.
    fn settle(&mut self) {
        loop {
            self.proposed = false;
            self.volume.advance(self.now);
            while let Some(event) = self.volume.poll_event() {
                self.happened(event);
            }
            if !self.proposed {
                return;
            }
        }
    }

    fn happened(&mut self, event: VolumeEvent<ShelfEvent>) {
        match event {
            VolumeEvent::Store(owner, ShelfEvent::Log(event)) => self.store_told(owner, event),
            VolumeEvent::Store(_, ShelfEvent::Witness(event)) => match event {
                WitnessEvent::Read => self.finish_all(),
                WitnessEvent::Wanted => self.vouch_due = Some(self.now),
                WitnessEvent::Failed(_) => {}
            },
            VolumeEvent::Applied(owner, position) => self.applied(owner, position),
            VolumeEvent::Journal(event) => self.journal_told(event),
            // Nothing is sealed here: an entry that is was another folder's.
            VolumeEvent::Unclaimed(owner) | VolumeEvent::Unopened(owner, ..) => {
                self.notice(Notice::Unclaimed(owner));
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        self.outputs.push_back(HostOutput::Notice(notice));
    }

    fn journal_told(&mut self, event: Event) {
        match event {
            Event::Ready { .. } => {
                self.ready = true;
                self.finish_all();
            }
            Event::Damaged(damage) => {
                self.damages.push(damage.clone());
                self.notice(Notice::Journal(damage));
            }
            Event::Committed { through } => {
                self.vouching = self.vouching.filter(|position| *position > through);
                self.remove_files(through);
                self.try_refused();
            }
            Event::Full => self.notice(Notice::Full),
            Event::SpaceBack => {
                self.notice(Notice::SpaceBack);
                self.try_refused();
            }
            Event::Failed(error) => {
                let owners: Vec<OwnerId> = self.members.keys().copied().collect();
                owners.into_iter().for_each(|owner| self.group_failed(owner));
                self.outputs.push_back(HostOutput::Failed(error));
            }
            Event::Recovered { .. }
            | Event::Forgotten { .. }
            | Event::TornTail { .. }
            | Event::PleaseCover { .. }
            | Event::SegmentLeft { .. } => {}
        }
    }

    fn try_refused(&mut self) {
        for owner in std::mem::take(&mut self.refused) {
            self.write(owner);
        }
    }

    fn remove_files(&mut self, through: Position) {
        while let Some((_, paths)) = self.removing.pop_front_if(|(position, _)| *position <= through) {
            self.volume.with_store(self.config.witness, |_, disk| {
                for path in paths {
                    disk.submit(witness::IGNORED, Request::Remove { path });
                }
            });
        }
    }

    /// The journal and the witness have told all: what the members have is known as far as their files are read.
    fn finish_all(&mut self) {
        let read = self.volume.with_store(self.config.witness, |store, _| {
            store.witness().is_some_and(|witness| witness.is_read())
        });
        if !self.ready || read != Some(true) {
            return;
        }
        let lost = self.volume.with_store(self.config.witness, |store, disk| {
            store.witness().is_some_and(|witness| {
                let lost = witness.tells_loss();
                witness.begin(disk);
                lost
            })
        });
        if lost == Some(true) && !bug(Bug::RaftStoreTailUntold) {
            self.end_lost = true;
            self.notice(Notice::EndLost);
        }
        let owners: Vec<OwnerId> = self.unbegun.iter().copied().collect();
        owners.into_iter().for_each(|owner| self.finish(owner));
    }

    /// Asks a member's store what is left, if it has been told all.
    fn finish(&mut self, owner: OwnerId) {
        let witness = self.volume.store(self.config.witness);
        let known = witness.is_some_and(|store| match store {
            Shelf::Witness(witness) => witness.is_read(),
            Shelf::Log(_) => false,
        });
        let Some(member) = self.members.get_mut(&owner) else { return };
        let expected = member.spec.expected;
        let due = self.ready && known && !member.finishing && self.volume.is_settled(owner);
        let (damages, end_lost) = (&self.damages, self.end_lost);
        let begun = self.volume.with_store(owner, |store, disk| {
            let Some(store) = store.log().filter(|store| due && store.is_read()) else { return false };
            // What is missing before its last record is known by its number.
            let hit = damages.iter().any(|damage| damage.may_concern(owner, store.position()));
            let tail_lost = end_lost || hit && !bug(Bug::RaftStoreTailUntold);
            store.finish(tail_lost, expected, disk);
            true
        });
        member.finishing |= begun == Some(true);
    }

    fn store_told(&mut self, owner: OwnerId, event: StoreEvent) {
        match event {
            StoreEvent::Read => self.finish(owner),
            StoreEvent::Found => self.found(owner),
            StoreEvent::FileWritten => {
                let parts = self.volume.with_store(owner, |store, _| Some(store.log()?.covered_item()));
                if let (Some(parts), Some(member)) = (parts.flatten(), self.members.get_mut(&owner)) {
                    member.parts.extend(parts);
                }
                self.write(owner);
            }
            StoreEvent::SnapshotWritten => {
                if let Some(member) = self.members.get_mut(&owner) {
                    member.waits = false;
                }
                self.write(owner);
            }
            StoreEvent::Damaged { path, reason } => self.notice(Notice::File { path, reason }),
            StoreEvent::Failed(error) => self.notice(Notice::NotWritten(error)),
        }
    }

    /// What is left of a member is known: that is written down before anything else is.
    fn found(&mut self, owner: OwnerId) {
        let found = self.volume.with_store(owner, |store, _| {
            let store = store.log()?;
            Some((store.begin(), store.take_found()))
        });
        let (Some((parts, found)), Some(member)) = (found.flatten(), self.members.get_mut(&owner)) else {
            return;
        };
        self.unbegun.remove(&owner);
        let fresh = found.nothing && !member.spec.expected;
        let lost = found.recovered.lost;
        member.creating = fresh;
        member.parts.extend(parts);
        member.phase = Phase::Found(Box::new(found));
        self.outputs.push_back(HostOutput::Found { group: owner, fresh, lost });
        self.write(owner);
    }

    fn applied(&mut self, owner: OwnerId, position: Position) {
        let now = self.now;
        let Some(member) = self.members.get_mut(&owner) else { return };
        let mut done = None;
        while let Some((_, write)) = member.in_flight.pop_front_if(|(at, _)| *at <= position) {
            done = write.or(done);
            member.begun = true;
            if std::mem::take(&mut member.creating) {
                self.outputs.push_back(HostOutput::Created(owner));
            }
        }
        if let (Some(id), Some(group)) = (done, member.group_mut()) {
            group.persisted(now, id);
            self.drain(owner);
        } else {
            self.finish(owner);
        }
    }
}
