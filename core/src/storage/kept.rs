//! A small state that is kept whole in one file, beside the journal: a consumer's, a catalogue.
//!
//! Entries change it in memory; the file is replaced, atomically and durably, when the journal wants its segments back.
//! So a state that changes all the time costs its entries and nothing else.
//!
//! A file that the disk refuses to write is written again: while there is no space until there is some, and after an error a few
//! times. It is written whole each time, to a file of its own, so also a sync that failed can be made good.
//!
//! A file that is damaged, or that can't be read, is told of. Its owner can't know what the entries behind it would have changed:
//! [`KeptState::forget`] says what it goes on with. The file is left as it is until the state is known again; one that is
//! all that says what there is ([`KeptState::PRECIOUS`]) is kept under another name first.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::block::key::SealError;
use super::vault::{self, Vault};
use super::volume::{Applied, Committed, Store, StoreDisk};
use super::{Position, SPACE_RETRY};
use crate::disk::{DiskError, DiskErrorKind, FilePath, Reply, Request};
use crate::planted::{self, Bug};
use crate::time::Instant;

/// A state that can be kept.
pub trait KeptState {
    /// The longest file that is read, in bytes.
    const LIMIT: usize;

    /// Nothing else says what is in the file: where the disk doesn't read it nothing goes on, and where it is damaged it is copied
    /// to `<name>.damaged-<its checksum>` before it is replaced.
    const PRECIOUS: bool = false;

    /// Applies an entry. One at or below [`KeptState::applied`] changes nothing.
    ///
    /// # Errors
    ///
    /// Why it makes no sense: of a later version, or our own fault. It counts as applied.
    fn apply(&mut self, entry: &Committed) -> Result<(), String>;

    /// Returns through which position entries are applied.
    fn applied(&self) -> Position;

    /// Returns what its file is to contain.
    fn encode(&self) -> Vec<u8>;

    /// Takes the state from its file.
    ///
    /// # Errors
    ///
    /// Why the file can't be used; nothing has changed then.
    fn restore(&mut self, bytes: &[u8]) -> Result<(), String>;

    /// Goes on with what can be used of the file, which is damaged; `bytes` are none where it can't be read.
    fn forget(&mut self, bytes: &[u8]);

    /// Returns whether it is known what the file is to contain. Until it is, nothing is written.
    fn is_known(&self) -> bool {
        true
    }
}

/// What the store of a kept state tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeptEvent {
    /// The file is read: entries are applied from now on.
    Ready,
    /// The file can't be used.
    Damaged {
        /// Its path.
        path: String,
        /// Why.
        reason: String,
    },
    /// An entry makes no sense.
    Senseless {
        /// Why.
        reason: String,
    },
    /// The disk refused to write the file, which is tried again; the journal keeps what is missing in it. Told once until it is
    /// written.
    Refused(DiskError),
    /// The file can't be read or written, however often it is tried; the journal keeps what is missing in it.
    Failed(DiskError),
    /// The file is sealed with a key that wasn't given. It is left as it is, and nothing is applied.
    Locked {
        /// Its path.
        path: String,
    },
}

/// Keeps a state.
#[derive(Debug)]
pub struct Kept<T> {
    state: T,
    path: FilePath,
    ready: bool,
    /// How often the file was read, and what of it made no sense the last time.
    reads: u32,
    unusable: Option<Bytes>,
    covered: Position,
    /// What the file that is being written has.
    writing: Option<Position>,
    /// Whether it is to be written once more.
    again: bool,
    /// What the file has, which is damaged, until that is kept under another name.
    aside: Option<Bytes>,
    /// There is, or will be, a file of that other name.
    kept_aside: bool,
    /// When it is written once more, after the disk refused to.
    retry: Option<Instant>,
    /// How often it couldn't be written since it was, or was given up; for lack of space apart.
    failures: u32,
    /// It was told that it was refused.
    told: bool,
    /// It couldn't be written however often it was tried, and isn't tried again before somebody asks for it.
    given_up: bool,
    /// What the file is sealed with.
    vault: Arc<Vault>,
    /// The epoch of the key that the file is sealed with, zero if it isn't; `None` if there is none.
    epoch: Option<u32>,
    /// It was written since it was opened.
    fresh: bool,
    /// No given key opens it.
    locked: bool,
    /// The epoch of what is being written.
    sealing: u32,
    events: VecDeque<KeptEvent>,
}

/// What a sealed file begins with. Behind it stands the state, sealed for the file's path, after its CRC-32C: bytes that are as they
/// were written and that no given key opens are another key's, and not damaged.
const SEALED: &[u8; 8] = b"NTRXSEA2";

/// How often a file is read at most. A read that fails may go well the next time; one that makes no sense says something about
/// the file only if it comes out the same twice.
const READS: u32 = 4;

/// How often a write is made that fails for another reason than space, as a stream's.
const WRITES: u32 = 8;

const READ: u64 = 1;
const WRITTEN: u64 = 2;
const ASIDE: u64 = 3;

impl<T: KeptState> Kept<T> {
    /// Reads what is at `path`, in a directory that exists; `state` is what there is if nothing is there.
    pub fn open(state: T, path: FilePath, disk: &mut StoreDisk<'_>) -> Self {
        let kept = Kept { ready: false, ..Kept::new(state, path) };
        kept.read(disk);
        kept
    }

    /// Keeps a state that is new: there is no file yet.
    pub fn new(state: T, path: FilePath) -> Self {
        let (covered, events) = (Position::default(), VecDeque::new());
        let (vault, epoch, sealing) = (Arc::default(), None, 0);
        Kept {
            state,
            path,
            ready: true,
            reads: 0,
            unusable: None,
            covered,
            writing: None,
            again: false,
            aside: None,
            kept_aside: false,
            retry: None,
            failures: 0,
            told: false,
            given_up: false,
            vault,
            epoch,
            fresh: false,
            locked: false,
            sealing,
            events,
        }
    }

    /// Has the file sealed, from now on, with the present key of a vault; one that is sealed is opened with its keys.
    #[must_use]
    pub fn sealed(self, vault: Arc<Vault>) -> Self {
        Kept { vault, ..self }
    }

    /// Returns whether the file is being written, or will be when the disk is asked again.
    pub fn is_writing(&self) -> bool {
        self.writing.is_some() || self.retry.is_some()
    }

    /// Returns whether there is a file that isn't sealed as it would be now.
    pub fn is_stale(&self) -> bool {
        self.ready && self.epoch.is_some_and(|epoch| epoch != self.vault.epoch())
    }

    /// Returns whether the file was damaged, and what it had is kept under another name, or will be.
    pub fn is_kept_aside(&self) -> bool {
        self.kept_aside
    }

    /// Returns whether the file was written since it was opened, or made.
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// Returns the state; what it says before [`KeptEvent::Ready`] means nothing.
    pub fn state(&self) -> &T {
        &self.state
    }

    /// Returns the state to be told what isn't an entry's business.
    pub fn state_mut(&mut self) -> &mut T {
        &mut self.state
    }

    /// Returns whether the file is read.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// Returns where it is kept.
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    fn write(&mut self, disk: &mut StoreDisk<'_>) {
        if self.is_writing() || !self.ready || !self.state.is_known() {
            self.again = true;
            return;
        }
        self.again = false;
        self.writing = Some(self.state.applied());
        if let Some(bytes) = &self.aside {
            let name = format!("{}.damaged-{:08x}", self.path.name(), crc32c::crc32c(bytes));
            let (path, data) = (self.path.parent().join(&name), vec![bytes.clone()]);
            disk.submit(ASIDE, Request::Replace { path, data });
            return;
        }
        let state = self.state.encode();
        let bytes = match self.vault.seals() {
            true => {
                let sealed = self.vault.seal(self.path.to_string().as_bytes(), &state);
                [&SEALED[..], &crc32c::crc32c(&sealed).to_le_bytes(), &sealed].concat()
            }
            false => state,
        };
        self.sealing = self.vault.epoch();
        let data = vec![Bytes::from(bytes)];
        disk.submit(WRITTEN, Request::Replace { path: self.path.clone(), data });
    }

    /// Takes what became of the write that was under way.
    fn was_written(&mut self, tag: u64, result: Result<Reply, DiskError>, now: Instant) {
        let written = self.writing.take();
        let Err(error) = result else {
            if tag == ASIDE {
                (self.aside, self.again) = (None, true);
                return;
            }
            self.covered = written.unwrap_or(self.covered);
            self.given_up = false;
            self.epoch = Some(self.sealing);
            self.fresh = true;
            (self.failures, self.told) = (0, false);
            return;
        };
        let most = match error.kind {
            _ if planted::bug(Bug::StoreFailsWhenFull) => 0,
            DiskErrorKind::Full => u32::MAX,
            DiskErrorKind::Io | DiskErrorKind::SyncFailed => WRITES,
            _ => 0,
        };
        // Space takes as long as it takes.
        self.failures += u32::from(error.kind != DiskErrorKind::Full);
        if self.failures >= most {
            (self.failures, self.told) = (0, false);
            self.given_up = true;
            return self.events.push_back(KeptEvent::Failed(error));
        }
        self.retry = Some(now + SPACE_RETRY);
        if !std::mem::replace(&mut self.told, true) {
            self.events.push_back(KeptEvent::Refused(error));
        }
    }

    fn was_read(&mut self, result: Result<Reply, DiskError>, disk: &mut StoreDisk<'_>) {
        self.reads += 1;
        match result {
            Ok(Reply::Read(bytes)) => match self.restore(&bytes) {
                Ok(()) => self.covered = self.state.applied(),
                Err(Unusable::Locked) => {
                    let path = self.path.to_string();
                    self.locked = true;
                    return self.events.push_back(KeptEvent::Locked { path });
                }
                Err(Unusable::Damaged(_)) if self.reads < READS && self.unusable.as_ref() != Some(&bytes) => {
                    self.unusable = Some(bytes);
                    return self.read(disk);
                }
                Err(Unusable::Damaged(reason)) => {
                    self.state.forget(&bytes);
                    self.events.push_back(KeptEvent::Damaged { path: self.path.to_string(), reason });
                    self.aside = T::PRECIOUS.then_some(bytes);
                    self.kept_aside = T::PRECIOUS;
                }
            },
            Err(error) if error.kind == DiskErrorKind::NotFound => {}
            Err(_) if self.reads < READS => return self.read(disk),
            Err(error) if T::PRECIOUS => return self.events.push_back(KeptEvent::Failed(error)),
            Err(error) => {
                self.state.forget(&[]);
                let (path, reason) = (self.path.to_string(), error.to_string());
                self.events.push_back(KeptEvent::Damaged { path, reason });
            }
            Ok(other) => unreachable!("a read answers with bytes, not {other:?}"),
        }
        self.unusable = None;
        self.ready = true;
        self.events.push_back(KeptEvent::Ready);
    }

    fn read(&self, disk: &mut StoreDisk<'_>) {
        disk.submit(READ, Request::ReadFile { path: self.path.clone(), limit: T::LIMIT });
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), Unusable> {
        let Some(sealed) = bytes.strip_prefix(SEALED) else {
            self.epoch = Some(0);
            return self.state.restore(bytes).map_err(Unusable::Damaged);
        };
        let whole = sealed.split_first_chunk().filter(|(crc, sealed)| {
            let crc = u32::from_le_bytes(**crc);
            crc == crc32c::crc32c(sealed) || planted::bug(Bug::KeptDamageIsLocked)
        });
        let Some((_, sealed)) = whole else {
            self.epoch = Some(0);
            return Err(Unusable::Damaged("its checksum doesn't hold".to_owned()));
        };
        self.epoch = vault::epoch_of(sealed);
        match self.vault.open_state(self.path.to_string().as_bytes(), sealed) {
            Ok(state) => self.state.restore(&state).map_err(Unusable::Damaged),
            Err(SealError::NoKey(_)) => Err(Unusable::Locked),
            Err(error) => Err(Unusable::Damaged(error.to_string())),
        }
    }
}

/// Why a file can't be used.
enum Unusable {
    Locked,
    Damaged(String),
}

impl<T: KeptState> Store for Kept<T> {
    type Event = KeptEvent;

    fn apply(&mut self, entry: &Committed, _now: Instant, disk: &mut StoreDisk<'_>) -> Applied {
        if !self.ready {
            return Applied::Pending;
        }
        let was_known = self.state.is_known();
        if let Err(reason) = self.state.apply(entry) {
            self.events.push_back(KeptEvent::Senseless { reason });
        }
        if self.again && !was_known {
            self.write(disk);
        }
        Applied::Done
    }

    fn cover(&mut self, _through: Position, _now: Instant, disk: &mut StoreDisk<'_>) {
        self.write(disk);
    }

    fn covered(&self) -> Position {
        self.covered
    }

    fn handle_disk(
        &mut self,
        tag: u64,
        result: Result<Reply, DiskError>,
        now: Instant,
        disk: &mut StoreDisk<'_>,
    ) {
        if tag == READ {
            self.was_read(result, disk);
        } else {
            self.was_written(tag, result, now);
        }
        if self.again {
            self.write(disk);
        }
    }

    fn handle_timeout(&mut self, now: Instant, disk: &mut StoreDisk<'_>) {
        if self.retry.take_if(|due| *due <= now).is_some() {
            // As it is by now, which is no less than what was refused.
            self.write(disk);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.retry
    }

    fn poll_event(&mut self) -> Option<KeptEvent> {
        self.events.pop_front()
    }

    fn covers_no_more(&self) -> bool {
        self.given_up
    }

    fn is_locked(&self) -> bool {
        self.locked
    }
}

#[cfg(test)]
mod tests;
