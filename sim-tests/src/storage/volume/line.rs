//! A volume on its disk.

use natrix_core::rng::Rng;
use natrix_core::storage::journal::{Config, Event};
use natrix_core::storage::volume::{Store, StoreDisk, Volume, VolumeEvent};
use natrix_core::storage::{OwnerId, Position};
use natrix_core::time::Instant;
use natrix_runtime_sim::disk::SimDisk;

use super::Kind;
use crate::storage::report::{Promise, Violation, brief};

/// A volume on its disk.
pub(crate) struct Line<K: Kind> {
    pub volume: Volume<K::Store>,
    pub disk: SimDisk,
    pub now: Instant,
    owners: Vec<OwnerId>,
    journal_ready: bool,
    kept: Vec<<K::Store as Store>::Event>,
    /// The disk doesn't keep what it was given: damage may be told.
    pub harmed: bool,
}

/// At which operation of a recovery to stop, and on which side of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub operation: u64,
    pub done: bool,
}

impl<K: Kind> Line<K> {
    pub(super) fn open<'a>(
        kind: &K,
        config: &Config,
        owners: impl Iterator<Item = &'a OwnerId>,
        mut rng: Rng,
        disk: SimDisk,
        now: Instant,
    ) -> Self {
        let mut volume = Volume::open(config.clone(), rng.child(), []);
        let owners: Vec<OwnerId> = owners.copied().collect();
        for owner in &owners {
            let rng = rng.child();
            volume.add_with(*owner, |disk| kind.open(*owner, rng, disk));
        }
        Line { volume, disk, now, owners, journal_ready: false, kept: Vec::new(), harmed: false }
    }

    pub(super) fn submit(&mut self, print: bool) {
        while let Some(submission) = self.volume.poll_disk() {
            if print {
                println!("       {}", brief(&submission));
            }
            self.disk.submit(self.now, submission);
        }
    }

    pub(super) fn complete(&mut self) {
        if let Some(completion) = self.disk.poll_completion(self.now) {
            self.volume.handle_disk(self.now, completion);
        }
    }

    /// Goes to the time at which the disk or the volume has something to do; `None` if neither ever has. Returns whether
    /// it is the disk.
    pub(super) fn next(&mut self) -> Option<bool> {
        let (disk, volume) = (self.disk.poll_timeout(), self.volume.poll_timeout());
        let due = disk.into_iter().chain(volume).min()?;
        self.now = self.now.max(due);
        Some(disk == Some(due))
    }

    /// Takes what the volume tells, and fails if it tells what it must not.
    pub(super) fn hear(&mut self) -> Result<Vec<VolumeEvent<<K::Store as Store>::Event>>, Violation> {
        let mut events = Vec::new();
        while let Some(event) = self.volume.poll_event() {
            match event {
                VolumeEvent::Journal(Event::Damaged(damage)) => {
                    return Err(Violation::new(Promise::FalseAlarm, format!("{damage:?}")));
                }
                VolumeEvent::Journal(Event::Failed(error)) => {
                    return Err(Violation::new(Promise::Failed, error.to_string()));
                }
                VolumeEvent::Unclaimed(owner) => {
                    return Err(Violation::new(Promise::Phantom, format!("{owner:?} is unclaimed")));
                }
                VolumeEvent::Store(owner, event) => {
                    if let Some(violation) = K::complaint(&event).filter(|_| !self.harmed) {
                        return Err(violation.at(format!("{owner:?}")));
                    }
                    self.kept.push(event);
                }
                event => {
                    self.journal_ready |= matches!(event, VolumeEvent::Journal(Event::Ready { .. }));
                    events.push(event);
                }
            }
        }
        Ok(events)
    }

    /// Returns what stores have told since [`Line::told`].
    pub(super) fn kept(&self) -> &[<K::Store as Store>::Event] {
        &self.kept
    }

    /// Takes what stores have told since.
    pub(super) fn told(&mut self) -> Vec<<K::Store as Store>::Event> {
        std::mem::take(&mut self.kept)
    }

    pub(super) fn is_ready(&self) -> bool {
        let ready = |owner: &OwnerId| self.volume.store(*owner).is_some_and(K::is_ready);
        self.journal_ready && self.owners.iter().all(ready) && self.disk.poll_timeout().is_none()
    }

    pub(super) fn applied(&self, owner: OwnerId) -> Position {
        self.volume.store(owner).map_or(Position(0), K::applied)
    }

    /// Does the next thing; `false` if there is none.
    pub(super) fn step(&mut self) -> Result<bool, Violation> {
        self.volume.advance(self.now);
        self.hear()?;
        self.submit(false);
        match self.next() {
            None => return Ok(false),
            Some(true) => self.complete(),
            Some(false) => {}
        }
        self.hear()?;
        Ok(true)
    }

    /// Recovers until all is ready and at rest, or to `stop`.
    pub(super) fn recover(&mut self, stop: Option<Stop>) -> Result<(), Violation> {
        /// More than any recovery of so little takes.
        const PATIENCE: u64 = 20_000;
        let begun = self.disk.operations();
        for _ in 0..PATIENCE {
            if let Some(stop) = stop.filter(|stop| self.disk.operations() - begun >= stop.operation) {
                if stop.done && self.next() == Some(true) {
                    self.disk.take_effect(self.now);
                }
                return Ok(());
            }
            if !self.step()? {
                return match stop.is_some() || self.is_ready() {
                    true => Ok(()),
                    false => Err(Violation::new(Promise::Stuck, "recovery stands still")),
                };
            }
        }
        Err(Violation::new(Promise::Stuck, "recovery doesn't end"))
    }

    /// Runs `act` on a store until it answers.
    pub(super) fn ask<T>(
        &mut self,
        owner: OwnerId,
        act: impl Fn(&mut K::Store, &mut StoreDisk<'_>) -> Option<T>,
    ) -> Result<T, Violation> {
        loop {
            if let Some(answer) = self.volume.with_store(owner, &act).flatten() {
                return Ok(answer);
            }
            if !self.step()? {
                return Err(Violation::new(Promise::Stuck, "a question is never answered"));
            }
        }
    }
}
