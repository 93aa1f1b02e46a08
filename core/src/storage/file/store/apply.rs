//! Entries, applied to the ledger and appended to the files.
//!
//! An entry may have to wait for an index in the middle of what it removes. What it has done by then stays done, no mark is
//! written meanwhile, and it goes on when it is applied again. A crash in between leaves files as they were before it.

use super::super::super::block::Record;
use super::super::super::block::index::Index;
use super::super::super::block::{MAX_PAYLOAD, MAX_SUBJECT};
use super::super::super::change::{Change, NewMessage, Outcome, StoreError};
use super::super::super::ledger::{Append, Filter, Ledger, Removed};
use super::super::super::volume::{Applied, Committed};
use super::super::super::{
    DeleteRange, LimitError, Lookup, Position, Ranges, Scheduling, StorageKind, StoreConfig,
};
use super::super::api::{Event, Failure, StoreDisk};
use super::super::durable::Point;
use super::{FileStore, StoreEvent};
use crate::planted::{self, Bug};

/// How far an entry is.
#[derive(Debug, Default)]
pub(super) struct Applying {
    position: Position,
    change: Option<Change>,
    /// The sequence that a message got, whose limits aren't settled yet.
    stored: Option<u64>,
    /// How many messages were removed so far.
    removed: u64,
    /// When the settings are durable.
    recording: Option<Point>,
    /// The block in which a message is being erased.
    pub(super) erasing: Option<u32>,
    /// That block, if it was written anew.
    pub(super) rewritten: Option<(u32, Box<Index>)>,
}

impl Applying {
    /// Returns whether the entry that is being applied erases a message, and so needs the files to itself.
    pub(super) fn erases(&self) -> bool {
        self.erasing.is_some() || matches!(self.change, Some(Change::Remove { erase: true, .. }))
    }
}

/// What an entry waits for.
enum Stop {
    /// An index.
    Missing(super::Missing),
    /// The files: a message to be erased, settings to be recorded.
    Waiting,
}

impl From<super::Missing> for Stop {
    fn from(missing: super::Missing) -> Self {
        Stop::Missing(missing)
    }
}

impl FileStore {
    pub(super) fn apply_entry(&mut self, entry: &Committed, disk: &mut impl StoreDisk) -> Applied {
        if !self.is_ready() {
            return Applied::Pending;
        }
        if entry.position <= self.files.applied() && !planted::bug(Bug::StoreAppliedTwice) {
            return Applied::Done;
        }
        if self.applying.position != entry.position || self.applying.change.is_none() {
            if self.files.is_behind() {
                return Applied::Pending;
            }
            let Ok(change) = Change::decode(entry.kind, &entry.payload) else {
                let (path, kind) = (self.config.files.directory.to_string(), entry.kind);
                self.files.fail(Failure::Entry { path, kind });
                self.drain(disk);
                return Applied::Pending;
            };
            self.applying =
                Applying { position: entry.position, change: Some(change), ..Applying::default() };
        }
        let Some(change) = self.applying.change.take() else { return Applied::Pending };
        if entry.gaps && !planted::bug(Bug::StoreGapNotBridged) {
            self.bridge(&change);
        }
        let outcome = loop {
            let outcome = self.change(&change, disk);
            self.upkeep.asked(matches!(outcome, Err(Stop::Missing(_))));
            match outcome {
                Err(Stop::Missing(missing)) if !self.wait_for(missing, disk) => {}
                outcome => break outcome,
            }
        };
        match outcome {
            Ok(outcome) => {
                self.applying = Applying::default();
                self.files.set_held(false);
                self.files.set_floor(self.ledger.floor());
                self.files.set_last_time(self.ledger.last_time());
                self.files.set_applied(entry.position);
                self.events.push_back(StoreEvent::Applied(entry.position, outcome));
                self.files.advance(disk);
                self.follow_head();
                self.read_moved(disk);
                self.keep_up(disk);
                self.drain(disk);
                Applied::Done
            }
            Err(_) => {
                self.applying.change = Some(change);
                Applied::Pending
            }
        }
    }

    /// Goes on where a change has to, although messages before it were lost with the journal that had them: otherwise nothing
    /// behind them could be applied either.
    fn bridge(&mut self, change: &Change) {
        let (to, time) = match change {
            Change::Store(NewMessage { sequence, time, .. }) | Change::Skip { sequence, time, .. } => {
                (*sequence, *time)
            }
            _ => return,
        };
        let first = self.ledger.last_sequence() + 1;
        let Some(count) = to.checked_sub(first).filter(|count| *count > 0) else { return };
        if self.applying.stored.is_some() || self.ledger.skip(first, count, time, false).is_err() {
            return;
        }
        self.files.skipped(first, count);
        let mut lost = Ranges::default();
        lost.insert(first, to - 1);
        self.ledger.note_lost(&lost, 0);
        self.events.push_back(StoreEvent::Files(Event::Lost { first, last: to - 1 }));
    }

    fn change(&mut self, change: &Change, disk: &mut impl StoreDisk) -> Result<Outcome, Stop> {
        match change {
            Change::Store(message) => return self.store(message),
            Change::Skip { sequence, count, time, unwanted } => {
                let first = self.ledger.last_sequence() + 1;
                if let Err(error) = self.ledger.skip(*sequence, *count, *time, *unwanted) {
                    return Ok(Outcome::Refused(error.into()));
                }
                if *count > 0 {
                    self.files.skipped(first, *count);
                }
            }
            Change::Remove { sequence, erase } => {
                if *erase && !planted::bug(Bug::StoreEraseSkipped) {
                    self.erase(*sequence, disk)?;
                }
                self.removing(|ledger, gone| {
                    ledger.remove(*sequence)?.into_iter().for_each(gone);
                    Ok(())
                })?;
                if let Some((block, index)) = self.applying.rewritten.take() {
                    self.rewritten(block, &index);
                }
            }
            Change::Expire { sequences } if planted::bug(Bug::StoreExpiredBack) => {
                for sequence in sequences {
                    self.ledger.remove(*sequence)?;
                }
            }
            Change::Expire { sequences } => self.removing(|ledger, gone| {
                for sequence in sequences {
                    ledger.remove(*sequence)?.into_iter().for_each(&mut *gone);
                }
                // What is older would have come to its age before.
                if let Some(newest) = sequences.iter().max().filter(|_| !ledger.config().max_age.is_zero()) {
                    ledger.forget_lost_below(*newest);
                }
                Ok(())
            })?,
            Change::Purge { subject, below, keep } => {
                self.purge(|ledger, gone| ledger.purge(Filter::Subject(subject), *below, *keep, gone))?;
            }
            Change::Compact { sequence } => self.purge(|ledger, gone| ledger.compact(*sequence, gone))?,
            Change::Truncate { sequence } => self.truncate(*sequence)?,
            Change::SyncDeleted { ranges } => self.sync_deleted(ranges)?,
            Change::Configure(config) => self.configure(config, disk)?,
        }
        Ok(Outcome::Removed(self.applying.removed))
    }

    fn store(&mut self, message: &NewMessage) -> Result<Outcome, Stop> {
        let sequence = match self.applying.stored {
            Some(sequence) => sequence,
            None => match self.append(message)? {
                Ok(sequence) => sequence,
                Err(error) => return Ok(Outcome::Refused(error)),
            },
        };
        self.applying.stored = Some(sequence);
        self.removing(|ledger, gone| ledger.settle(&message.subject, gone))?;
        Ok(Outcome::Stored(sequence))
    }

    fn append(&mut self, message: &NewMessage) -> Lookup<Result<u64, StoreError>> {
        let NewMessage { sequence, time, subject, headers, payload, ttl, rollup, checked, scheduling } =
            message;
        let size = StorageKind::File.message_size(subject.len(), headers.len(), payload.len());
        if subject.len() > MAX_SUBJECT || headers.len() > MAX_PAYLOAD || payload.len() > MAX_PAYLOAD {
            return Ok(Err(LimitError::TooLarge.into()));
        }
        if *checked && let Err(error) = self.ledger.check(subject, size, *rollup)? {
            return Ok(Err(error.into()));
        }
        let sequence = match self.ledger.admit(*sequence, size) {
            Ok(sequence) => sequence,
            Err(error) => return Ok(Err(error.into())),
        };
        self.files.set_held(true);
        let record = Record {
            sequence,
            time: time.as_unix_nanos(),
            subject,
            headers,
            payload,
            ttl: *ttl,
            due: match scheduling {
                Scheduling::Schedule { due } => Some(due.as_unix_nanos()),
                Scheduling::None | Scheduling::Scheduled => None,
            },
            erased: false,
        };
        let offset = self.files.append(&record).expect("its sizes were compared");
        let (time, ttl, scheduling) = (*time, *ttl, *scheduling);
        let append = Append { sequence, time, subject, size, offset, ttl, scheduling };
        Ok(Ok(self.ledger.append(&append).expect("it was admitted")))
    }

    /// Runs a change that removes messages one by one.
    fn removing(
        &mut self,
        change: impl FnOnce(&mut Ledger, &mut dyn FnMut(Removed)) -> Lookup<()>,
    ) -> Lookup<()> {
        let FileStore { ledger, files, events, upkeep, applying, .. } = self;
        let mut gone = |removed: Removed| {
            files.set_held(true);
            files.deleted(removed.location.sequence, removed.location.sequence);
            upkeep.touched(removed.location.block);
            applying.removed += 1;
            events.push_back(StoreEvent::Removed(removed));
        };
        change(ledger, &mut gone)
    }

    /// Runs a change that may remove everything at once.
    fn purge(
        &mut self,
        change: impl FnOnce(&mut Ledger, &mut dyn FnMut(Removed)) -> Lookup<u64>,
    ) -> Lookup<()> {
        let (mut before, last) = (self.ledger.messages(), self.ledger.last_sequence());
        let told = self.applying.removed;
        let mut all = 0;
        self.removing(|ledger, gone| {
            all = change(ledger, gone)?;
            Ok(())
        })?;
        // All at once: nobody was told of each, and the floor says it on disk.
        before -= self.ledger.messages() + (self.applying.removed - told);
        debug_assert!(before == 0 || self.ledger.messages() == 0, "all or one by one");
        self.applying.removed += before;
        if let Some(count) = self.ledger.last_sequence().checked_sub(last).filter(|count| *count > 0) {
            self.files.skipped(last + 1, count);
        }
        Ok(())
    }

    fn truncate(&mut self, sequence: u64) -> Lookup<()> {
        // What is cut off is not deleted: its sequences are used again.
        let FileStore { ledger, files, applying, events, .. } = self;
        let before = ledger.messages();
        files.set_held(true);
        let result = ledger.truncate(sequence, |removed| events.push_back(StoreEvent::Removed(removed)));
        applying.removed += before - ledger.messages();
        result?;
        files.truncate(ledger.last_sequence() + 1);
        self.follow_head();
        Ok(())
    }

    fn sync_deleted(&mut self, ranges: &[DeleteRange]) -> Lookup<()> {
        self.removing(|ledger, gone| ledger.sync_deleted(ranges, gone).map(|_| ()))
    }

    /// Takes other settings, once the manifest has both these and the old ones: a crash finds those of the newest mark.
    fn configure(&mut self, config: &StoreConfig, disk: &mut impl StoreDisk) -> Result<(), Stop> {
        let position = self.applying.position;
        let point = match self.applying.recording {
            Some(point) => point,
            None => self.files.set_settings(config.encode(), position, disk),
        };
        self.applying.recording = Some(point);
        if !self.files.is_recorded(point) {
            return Err(Stop::Waiting);
        }
        self.files.set_compression(config.compression);
        self.removing(|ledger, gone| ledger.configure(config.clone(), gone))?;
        Ok(())
    }

    /// Overwrites a message before it is removed: what came before the entry is durable by then, and a crash in between leaves
    /// a message that is applied as removed again.
    fn erase(&mut self, sequence: u64, disk: &mut impl StoreDisk) -> Result<(), Stop> {
        if self.applying.erasing.is_none() {
            // A block that is being written anew has the message elsewhere afterwards.
            if self.files.is_rewriting() {
                return Err(Stop::Waiting);
            }
            let Some(location) = self.ledger.locate(sequence)? else { return Ok(()) };
            self.files.erase(&location, disk);
            self.follow_head();
            self.applying.erasing = Some(location.block);
        }
        match self.files.is_rewriting() {
            true => Err(Stop::Waiting),
            false => Ok(()),
        }
    }
}
