//! The streams and consumers that a server has: what survives a restart beside their contents.
//!
//! A catalogue is changed by entries of a journal of its own, which is read before anything else: so all stores are there when
//! the shards' journals are. Creating a stream or a consumer costs that journal's sync, which others share; what goes on
//! in streams and consumers costs nothing here. The journal is small, and its space is given back by writing the
//! catalogue whole to one file ([`Kept`](crate::storage::kept::Kept)), in which each entry has its own checksum: what is damaged
//! costs the entries that it is in.
//!
//! What the catalogue doesn't name is removed as a leftover, so it has to know whether it is whole. Its first entry says that it
//! begins there; where that is missing, or the file or the journal was damaged, what is on disk and isn't named is a *stray*: it is
//! noted as one, told of, and left alone.
//!
//! Settings are kept as the JSON that the API speaks: what a later version adds, an earlier one passes over.
//!
//! Streams and consumers in memory aren't here: they end with the process.

mod entry;
mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

pub use entry::{CatalogueEntry, EntryError, LockedEntry};

use crate::planted::{self, Bug};
use crate::storage::kept::KeptState;
use crate::storage::vault::{self, Vault};
use crate::storage::volume::Committed;
use crate::storage::{OwnerId, Position};
use crate::time::WallTime;

/// A stream of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamEntry {
    /// Names its store.
    pub owner: OwnerId,
    /// The account, by its name.
    pub account: String,
    /// Its settings, as the API's JSON; they have its name.
    pub config: Bytes,
    /// When it was made.
    pub created: WallTime,
}

/// A consumer of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerEntry {
    /// Names its store.
    pub owner: OwnerId,
    /// Its stream.
    pub stream: OwnerId,
    /// Its name, which its settings have only if somebody chose it.
    pub name: String,
    /// Its settings, as the API's JSON.
    pub config: Bytes,
    /// When it was made.
    pub created: WallTime,
}

/// All streams and consumers that are to survive a restart.
#[derive(Clone, Debug, Default)]
pub struct Catalogue {
    applied: Position,
    streams: BTreeMap<OwnerId, StreamEntry>,
    consumers: BTreeMap<OwnerId, ConsumerEntry>,
    /// What no given key opens.
    locked: BTreeMap<OwnerId, LockedEntry>,
    /// Streams that were read as they were sealed by an older key, by its epoch, or not at all (zero).
    older: BTreeMap<OwnerId, u32>,
    vault: Arc<Vault>,
    /// It is known from where on it has everything.
    begun: bool,
    /// Whose files or entries are there, which nothing names since it was damaged.
    strays: BTreeSet<OwnerId>,
    /// Some of it was lost, and its file is to say so until strays are noted.
    damaged: bool,
    noted: bool,
    /// Something that was read isn't sealed with the present key, and could be.
    stale: bool,
    /// Something in its file makes no sense.
    senseless: Option<String>,
}

impl Catalogue {
    /// What it is called in its journal.
    pub const OWNER: OwnerId = OwnerId(1);

    /// Returns an empty one, whose entries are sealed if the vault seals.
    pub fn sealed(vault: Arc<Vault>) -> Self {
        Catalogue { vault, ..Catalogue::default() }
    }

    /// Returns what no given key opens. It stays as it is.
    pub fn locked(&self) -> impl Iterator<Item = &LockedEntry> {
        self.locked.values()
    }

    /// Returns how a stream was sealed that isn't yet as it is to be: zero for not at all, or the epoch of its key.
    pub fn sealed_before(&self, owner: OwnerId) -> Option<u32> {
        self.older.get(&owner).copied()
    }

    /// Returns whether something that was read isn't sealed with the present key, in its file or in its journal. What no given key opens
    /// doesn't count.
    pub fn is_stale(&self) -> bool {
        self.stale
    }

    /// Returns the streams.
    pub fn streams(&self) -> impl Iterator<Item = &StreamEntry> {
        self.streams.values()
    }

    /// Returns the consumers.
    pub fn consumers(&self) -> impl Iterator<Item = &ConsumerEntry> {
        self.consumers.values()
    }

    /// Returns whether it knows this owner, as a stream or as a consumer of one.
    pub fn has(&self, owner: OwnerId) -> bool {
        let consumer = self.consumers.get(&owner);
        self.streams.contains_key(&owner)
            || self.strays.contains(&owner)
            || self.locked.contains_key(&owner) && !planted::bug(Bug::JsLockedForgotten)
            || consumer.is_some_and(|consumer| self.has_stream(consumer.stream))
    }

    fn has_stream(&self, owner: OwnerId) -> bool {
        let there = self.streams.contains_key(&owner) || self.locked.contains_key(&owner);
        there || self.strays.contains(&owner)
    }

    /// Returns consumers that have no stream. A stream that is restored comes behind its consumers: these are of one that
    /// never came.
    pub fn orphans(&self) -> Vec<OwnerId> {
        let orphans = self.consumers.values().filter(|consumer| !self.has_stream(consumer.stream));
        orphans.map(|consumer| consumer.owner).collect()
    }

    /// Returns the streams that these consumers say they are of.
    pub fn streams_of(&self, consumers: &[OwnerId]) -> Vec<OwnerId> {
        consumers.iter().filter_map(|owner| self.consumers.get(owner)).map(|entry| entry.stream).collect()
    }

    /// Returns whether it has everything that it ever was told: what it doesn't name isn't there, or isn't any more.
    pub fn is_whole(&self) -> bool {
        self.begun && !self.damaged || planted::bug(Bug::JsStraysRemoved)
    }

    /// Returns why something in its file makes no sense, if it does: a later version wrote it.
    pub fn senseless(&self) -> Option<&str> {
        self.senseless.as_deref()
    }

    /// Returns whether it is known from where on it has everything.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Returns whether some of it may be lost.
    pub fn is_damaged(&self) -> bool {
        self.damaged
    }

    /// Notes that some of it may be lost: its journal is damaged.
    pub fn note_damage(&mut self) {
        self.damaged = true;
    }

    /// Notes that all strays are durably noted.
    pub fn note_strays(&mut self) {
        self.noted = true;
    }

    /// Returns whose files or entries are there, which nothing names since it was damaged.
    pub fn strays(&self) -> impl Iterator<Item = OwnerId> {
        self.strays.iter().copied()
    }

    fn change(&mut self, entry: CatalogueEntry) {
        match entry {
            CatalogueEntry::Stream(stream) => {
                self.locked.remove(&stream.owner);
                self.strays.remove(&stream.owner);
                self.streams.insert(stream.owner, stream);
            }
            CatalogueEntry::Consumer(consumer) => {
                self.locked.remove(&consumer.owner);
                self.strays.remove(&consumer.owner);
                self.consumers.insert(consumer.owner, consumer);
            }
            CatalogueEntry::Locked(locked) => {
                // The newer one counts, although an older one is readable.
                self.streams.remove(&locked.owner);
                self.consumers.remove(&locked.owner);
                self.locked.insert(locked.owner, locked);
            }
            CatalogueEntry::Begun => self.begun = true,
            CatalogueEntry::Stray(owner) => {
                let named = self.streams.contains_key(&owner) || self.consumers.contains_key(&owner);
                if !named && !self.locked.contains_key(&owner) {
                    self.strays.insert(owner);
                }
            }
            CatalogueEntry::Forget(owner) => {
                self.strays.remove(&owner);
                if self.streams.remove(&owner).is_some() {
                    self.consumers.retain(|_, consumer| consumer.stream != owner);
                }
                self.consumers.remove(&owner);
                if self.locked.remove(&owner).is_some_and(|locked| locked.stream.is_none()) {
                    self.consumers.retain(|_, consumer| consumer.stream != owner);
                }
                self.locked.retain(|_, locked| locked.stream != Some(owner));
            }
        }
    }

    fn take(&mut self, kind: u8, bytes: &Bytes) -> Result<(), EntryError> {
        let entry = CatalogueEntry::decode(kind, bytes)?;
        let epoch = match &entry {
            CatalogueEntry::Locked(locked) => vault::epoch_of(&locked.sealed).unwrap_or_default(),
            _ => 0,
        };
        let entry = entry.open(&self.vault)?;
        let open = matches!(entry, CatalogueEntry::Stream(_) | CatalogueEntry::Consumer(_));
        self.stale |= open && self.vault.seals() && epoch != self.vault.epoch();
        if let CatalogueEntry::Stream(stream) = &entry {
            match self.vault.seals() && epoch != self.vault.epoch() {
                true => drop(self.older.insert(stream.owner, epoch)),
                false => drop(self.older.remove(&stream.owner)),
            }
        }
        self.change(entry);
        Ok(())
    }
}

impl KeptState for Catalogue {
    /// A million consumers.
    const LIMIT: usize = 1 << 30;

    const PRECIOUS: bool = true;

    fn apply(&mut self, entry: &Committed) -> Result<(), String> {
        if entry.position <= self.applied {
            return Ok(());
        }
        self.applied = entry.position;
        let bytes = match &entry.payload[..] {
            [one] => one.clone(),
            pieces => pieces.concat().into(),
        };
        self.take(entry.kind, &bytes).map_err(|error| error.to_string())
    }

    fn applied(&self) -> Position {
        self.applied
    }

    fn encode(&self) -> Vec<u8> {
        file::encode(self)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), String> {
        *self = file::decode(bytes, &self.vault)?;
        Ok(())
    }

    fn forget(&mut self, bytes: &[u8]) {
        *self = file::salvage(bytes, &self.vault);
    }
}

/// What they have is the same, however it is sealed.
impl PartialEq for Catalogue {
    fn eq(&self, other: &Self) -> bool {
        let known = |catalogue: &Self| (catalogue.applied, catalogue.damaged, catalogue.begun);
        known(self) == known(other)
            && self.strays == other.strays
            && self.streams == other.streams
            && self.consumers == other.consumers
            && self.locked == other.locked
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_entry() -> impl Strategy<Value = CatalogueEntry> {
        let owner = || (2..8u64).prop_map(OwnerId);
        let parts = ("[a-z$]{0,9}", proptest::collection::vec(any::<u8>(), 0..40), any::<i64>());
        (owner(), owner(), parts, 0..6u8).prop_map(|(owner, stream, (name, config, created), kind)| {
            let (config, created) = (Bytes::from(config), WallTime::from_unix_nanos(created));
            match kind {
                0 | 1 => CatalogueEntry::Stream(StreamEntry { owner, account: name, config, created }),
                2 => CatalogueEntry::Consumer(ConsumerEntry { owner, stream, name, config, created }),
                3 => CatalogueEntry::Begun,
                4 => CatalogueEntry::Stray(owner),
                _ => CatalogueEntry::Forget(owner),
            }
        })
    }

    fn committed(position: u64, entry: &CatalogueEntry) -> Committed {
        let (kind, bytes) = entry.encode();
        Committed { position: Position(position), kind, payload: vec![bytes].into(), gaps: false }
    }

    proptest! {
        #[test]
        fn a_catalogue_is_the_same_from_its_file(entries in proptest::collection::vec(any_entry(), 0..30), cut in 0..30usize) {
            let mut whole = Catalogue::default();
            let mut saved = Catalogue::default().encode();
            for (at, entry) in entries.iter().enumerate() {
                whole.apply(&committed(at as u64 + 1, entry)).unwrap();
                if at == cut {
                    saved = whole.encode();
                }
            }
            let mut recovered = Catalogue::default();
            recovered.restore(&saved).unwrap();
            for (at, entry) in entries.iter().enumerate() {
                recovered.apply(&committed(at as u64 + 1, entry)).unwrap();
            }
            prop_assert_eq!(recovered, whole);
        }

        #[test]
        fn a_flipped_bit_is_noticed(entry in any_entry(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
            let mut catalogue = Catalogue::default();
            catalogue.apply(&committed(1, &entry)).unwrap();
            let mut bytes = catalogue.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let before = catalogue.clone();
            prop_assert!(catalogue.restore(&bytes).is_err());
            prop_assert_eq!(&catalogue, &before);
            catalogue.forget(&bytes);
            prop_assert!(!catalogue.is_whole());
        }

        /// Of what stands in the file, a flipped bit costs one entry at most, and a cut what is behind it.
        #[test]
        fn what_is_not_damaged_is_found(
            entries in proptest::collection::vec(any_entry(), 1..30),
            at in any::<prop::sample::Index>(),
            bit in proptest::option::of(0..8u8),
        ) {
            let mut catalogue = Catalogue::default();
            for (at, entry) in entries.iter().enumerate() {
                catalogue.apply(&committed(at as u64 + 1, entry)).unwrap();
            }
            let mut bytes = catalogue.encode();
            let at = at.index(bytes.len());
            match bit {
                Some(bit) => bytes[at] ^= 1 << bit,
                None => bytes.truncate(at),
            }
            let mut found = Catalogue::default();
            found.forget(&bytes);
            prop_assert!(!found.is_whole() && found.damaged);
            let count = |of: &Catalogue| of.streams.len() + of.consumers.len() + of.strays.len() + usize::from(of.begun);
            prop_assert!(found.streams.iter().all(|(owner, stream)| catalogue.streams.get(owner) == Some(stream)));
            prop_assert!(found.consumers.iter().all(|(owner, one)| catalogue.consumers.get(owner) == Some(one)));
            if bit.is_some() {
                prop_assert!(count(&found) + 1 >= count(&catalogue));
                prop_assert!(found.applied == catalogue.applied || found.applied == Position::default());
            }
            // Its own file says that it isn't whole, until strays are noted.
            found.begun = true;
            for whole in [false, true] {
                let mut again = Catalogue::default();
                again.restore(&found.encode()).unwrap();
                prop_assert_eq!(again.is_whole(), whole);
                found.note_strays();
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(kind in any::<u8>(), bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = CatalogueEntry::decode(kind, &Bytes::from(bytes.clone()));
            let _ = Catalogue::default().restore(&bytes);
            Catalogue::default().forget(&bytes);
        }
    }

    #[test]
    fn consumers_go_with_their_stream() {
        let mut catalogue = Catalogue::default();
        let created = WallTime::default();
        let (stream, account) = (OwnerId(5), "A".to_owned());
        catalogue.change(CatalogueEntry::Stream(StreamEntry {
            owner: stream,
            account,
            config: Bytes::new(),
            created,
        }));
        for owner in [OwnerId(6), OwnerId(7)] {
            let name = format!("c{}", owner.0);
            let consumer = ConsumerEntry { owner, stream, name, config: Bytes::new(), created };
            catalogue.change(CatalogueEntry::Consumer(consumer));
        }
        catalogue.change(CatalogueEntry::Forget(OwnerId(6)));
        assert_eq!(catalogue.consumers().map(|consumer| consumer.owner).collect::<Vec<_>>(), [OwnerId(7)]);
        catalogue.change(CatalogueEntry::Forget(stream));
        assert!(!catalogue.has(stream) && !catalogue.has(OwnerId(7)));
    }

    #[test]
    fn a_consumer_whose_stream_never_came_is_an_orphan() {
        let mut catalogue = Catalogue::default();
        let (stream, consumer) = (OwnerId(5), OwnerId(6));
        let (config, created) = (Bytes::new(), WallTime::default());
        catalogue.change(CatalogueEntry::Consumer(ConsumerEntry {
            owner: consumer,
            stream,
            name: "c".to_owned(),
            config: config.clone(),
            created,
        }));
        assert_eq!((catalogue.orphans(), catalogue.has(consumer)), (vec![consumer], false));
        let account = "A".to_owned();
        catalogue.change(CatalogueEntry::Stream(StreamEntry { owner: stream, account, config, created }));
        assert_eq!((catalogue.orphans(), catalogue.has(consumer)), (vec![], true));
    }
}
