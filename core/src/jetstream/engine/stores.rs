//! The stores of one shard: the catalogue with its journal, and the volume of streams and consumers with theirs.
//!
//! Three machines share a disk, one after the other at first ([`opening`](super::opening)); the numbers of their requests tell
//! them apart.

use std::collections::VecDeque;
use std::sync::Arc;

use super::asset::{Asset, AssetEvent};
use super::converter::{Converter, Told};
use super::opening::{self, Opening, Progress};
use super::said::EngineId;
use super::scrubber::Scrubber;
use crate::config::Secret;
use crate::disk::{Completion, DiskQueue, Submission};
use crate::jetstream::catalogue::{Catalogue, CatalogueEntry};
use crate::rng::Rng;
use crate::storage::change::{Change, Encoder};
use crate::storage::consumer::{ConsumerSettings, ConsumerStore, KeptConsumer};
use crate::storage::file::store::{FileStore, FileStoreConfig, StoreEvent};
use crate::storage::file::{self, Removal, ScrubPace};
use crate::storage::journal::{self, Config, Refused};
use crate::storage::kept::{Kept, KeptEvent};
use crate::storage::vault::{self, Given, Sessions, Vault};
use crate::storage::volume::{Store, Volume, VolumeEvent};
use crate::storage::{Cipher, OwnerId, Pieces, Position, Retention, StoreConfig};
use crate::time::{Duration, Instant};

/// Where the numbers of each machine's disk requests begin.
const META_BASE: u64 = 1 << 61;
const VOLUME_BASE: u64 = 2 << 61;
/// How long the newest change of the catalogue, and the newest entry of a stream, stand there with nothing that says that they are
/// durable: the one is worth a write at once, and comes seldom.
const VOUCH_AFTER: [Duration; 2] = [Duration::from_millis(10), Duration::from_millis(250)];
/// How many bytes of a stream may wait for a block to be synced.
const BEHIND: usize = 8 << 20;

/// What the stores tell.
#[derive(Debug)]
pub(super) enum StoresEvent {
    /// The catalogue is read: the stores in it are to be opened, before anything else is done.
    Catalogue,
    /// The journal is read: entries are taken.
    Ready,
    /// Changes of the catalogue through this position are durable.
    Recorded(Position),
    /// The volume tells something.
    Volume(VolumeEvent<AssetEvent>),
    /// Something that an operator wants to know.
    Info(String),
    /// The same, and may want to do something about.
    Warning(String),
    /// Something that an operator has to do something about.
    Error(String),
    /// Nothing more is stored.
    Failed {
        reason: String,
        /// Nothing was stored yet since the start.
        opening: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Preparing,
    ReadingCatalogue,
    ReadingJournal,
    Ready,
    Failed,
}

/// How stores are opened.
#[derive(Clone, Debug)]
pub(super) struct StoresConfig {
    /// Syncs this often; `None` before anything is acknowledged.
    pub(super) sync_interval: Option<Duration>,
    /// How many bytes of blocks a stream keeps in memory for reading.
    pub(super) cache: usize,
    /// How many bytes a stream's indexes may take.
    pub(super) index_budget: usize,
    /// How fast, and how often, blocks are read in the background; those of all streams together.
    pub(super) scrub: Option<ScrubPace>,
    /// The server's key, and the one before.
    pub(super) key: Option<Secret>,
    pub(super) previous_key: Option<Secret>,
    /// How to seal what is written, if there is a key.
    pub(super) cipher: Cipher,
}

/// The stores of one shard.
#[derive(Debug)]
pub(super) struct Stores {
    engine: EngineId,
    config: StoresConfig,
    stage: Stage,
    opening: Opening,
    meta: Option<Volume<Kept<Catalogue>>>,
    meta_ready: bool,
    /// The catalogue can't be used: nothing more is written to it.
    meta_failed: bool,
    /// The catalogue is told, or knows, from where on it has everything.
    begun: bool,
    volume: Option<Volume<Asset>>,
    encoder: Encoder,
    scrubber: Scrubber,
    /// The keys; nothing is sealed before it is open.
    vault: Option<Arc<Vault>>,
    /// Seals what isn't sealed with the present key.
    converter: Converter,
    rng: Rng,
    events: VecDeque<StoresEvent>,
}

impl Stores {
    pub(super) fn open(engine: EngineId, config: StoresConfig, rng: Rng) -> Self {
        Stores {
            engine,
            scrubber: Scrubber::new(config.scrub),
            config,
            stage: Stage::Preparing,
            opening: Opening::start(engine),
            meta: None,
            meta_ready: false,
            meta_failed: false,
            begun: false,
            volume: None,
            encoder: Encoder::default(),
            vault: None,
            converter: Converter::default(),
            rng,
            events: VecDeque::new(),
        }
    }

    /// Returns of which engines there are folders, once: not before the home engine's keys are durable, so that no other
    /// engine has a folder in a store that is refused or will be.
    pub(super) fn take_folders(&mut self) -> Option<u64> {
        match self.stage {
            Stage::Preparing | Stage::Failed => None,
            _ => self.opening.take_folders(),
        }
    }

    /// Returns whether entries are taken.
    pub(super) fn is_ready(&self) -> bool {
        self.stage == Stage::Ready
    }

    /// Returns what is durable in the catalogue; nothing before it is read.
    pub(super) fn catalogue(&self) -> Option<&Catalogue> {
        self.meta.as_ref()?.store(Catalogue::OWNER).filter(|kept| kept.is_ready()).map(Kept::state)
    }

    /// Returns whether a store has all that the journal has of it.
    pub(super) fn is_settled(&mut self, owner: OwnerId) -> bool {
        let ready = self.is_ready();
        let Some(volume) = &mut self.volume else { return false };
        let there = match volume.store(owner) {
            Some(Asset::Stream(store)) => store.is_ready(),
            Some(Asset::Consumer(kept)) => kept.is_ready(),
            Some(Asset::Removal(_)) | None => false,
        };
        ready && there && volume.is_settled(owner)
    }

    /// Returns the streams and consumers, once the catalogue is read.
    pub(super) fn volume(&mut self) -> Option<&mut Volume<Asset>> {
        self.volume.as_mut()
    }

    /// Changes the catalogue; [`StoresEvent::Recorded`] says when that is durable.
    pub(super) fn record(&mut self, entry: &CatalogueEntry) -> Result<Position, Refused> {
        let meta = self.meta.as_mut().ok_or(Refused::NotReady)?;
        let plain = Vault::plain();
        let vault = self.vault.as_deref().unwrap_or(&plain);
        if !self.begun && *entry != CatalogueEntry::Begun {
            let (kind, bytes) = CatalogueEntry::Begun.encode_for(vault);
            meta.propose(Catalogue::OWNER, kind, vec![bytes])?;
        }
        self.begun = true;
        let (kind, bytes) = entry.encode_for(vault);
        meta.propose(Catalogue::OWNER, kind, vec![bytes])
    }

    /// Notes where the catalogue begins, if it isn't known; returns with which position it has that.
    pub(super) fn begin_catalogue(&mut self) -> Option<Position> {
        if self.begun {
            return None;
        }
        let recorded = self.record(&CatalogueEntry::Begun);
        recorded.ok()
    }

    /// Returns whether there is a store of this owner.
    pub(super) fn has(&self, owner: OwnerId) -> bool {
        self.volume.as_ref().is_some_and(|volume| volume.store(owner).is_some())
    }

    /// Opens the files of a stream, or begins them.
    pub(super) fn open_stream(&mut self, owner: OwnerId, stream: &StoreConfig) {
        let (rng, keys) = (self.rng.child(), self.vault().keys(owner));
        let Some(volume) = &mut self.volume else { return };
        let config = FileStoreConfig {
            files: file::Config {
                directory: self.opening.place(opening::STREAMS).join(&format!("{:016x}", owner.0)),
                owner,
                block_size: block_size(stream),
                compression: stream.compression,
                first_sequence: stream.first_sequence.max(1),
                cache: self.config.cache,
                behind: BEHIND,
            },
            stream: stream.clone(),
            index_budget: self.config.index_budget,
        };
        volume.add_with(owner, |disk| Asset::Stream(Box::new(FileStore::open(config, keys, rng, disk))));
    }

    /// Opens the state of a consumer; `new` if it has none yet.
    pub(super) fn open_consumer(&mut self, owner: OwnerId, settings: ConsumerSettings, new: bool) {
        let vault = self.vault();
        let Some(volume) = &mut self.volume else { return };
        let file = self.opening.place(opening::CONSUMERS).join(&format!("{:016x}", owner.0));
        let state = KeptConsumer::new(ConsumerStore::new(owner, settings));
        if new {
            volume.add(owner, Asset::Consumer(Box::new(Kept::new(state, file).sealed(vault))));
        } else {
            volume.add_with(owner, |disk| {
                Asset::Consumer(Box::new(Kept::open(state, file, disk).sealed(vault)))
            });
        }
    }

    /// Removes what the journal and the folders have of an owner.
    pub(super) fn remove(&mut self, owner: OwnerId) {
        let Some(volume) = &mut self.volume else { return };
        // A consumer's file may be there. Should it be written once more just now, the next start finds it.
        if let Some(Asset::Consumer(kept)) = volume.store(owner) {
            self.opening.remove(kept.path().clone());
        }
        match volume.forget(owner) {
            Ok((_, Some(Asset::Stream(store)))) => {
                volume.add_with(owner, |disk| Asset::Removal(Box::new(store.destroy(disk))));
            }
            Ok(_) => {}
            Err(_) => drop(volume.release(owner)),
        }
    }

    /// Notes that the files of a stream are removed.
    pub(super) fn removed(&mut self, owner: OwnerId) {
        if let Some(volume) = &mut self.volume {
            volume.release(owner);
        }
    }

    /// Returns the owners of files of streams, and of consumers, that the catalogue doesn't have.
    pub(super) fn unnamed(&self) -> (Vec<OwnerId>, Vec<OwnerId>) {
        let Some(catalogue) = self.catalogue() else { return (Vec::new(), Vec::new()) };
        let unknown = |name: &String| {
            let owner = u64::from_str_radix(name, 16).ok().filter(|_| name.len() == 16).map(OwnerId);
            owner.filter(|owner| !catalogue.has(*owner))
        };
        (
            self.opening.streams().filter_map(unknown).collect(),
            self.opening.consumers().filter_map(unknown).collect(),
        )
    }

    /// Notes that what nothing names is durably known as such, and has the catalogue's file written anew.
    pub(super) fn note_strays(&mut self, now: Instant) {
        let Some(meta) = &mut self.meta else { return };
        meta.with_store(Catalogue::OWNER, |kept, disk| {
            kept.state_mut().note_strays();
            if kept.state().is_damaged() {
                kept.cover(Position::default(), now, disk);
            }
        });
    }

    /// Notes how many there are of which nothing says any more what they are: their files are left alone.
    pub(super) fn leave_strays(&mut self, count: usize) {
        self.converter.strays(count);
    }

    /// Removes the files of streams and consumers that the catalogue doesn't have: a crash came before they were removed.
    pub(super) fn remove_leftovers(&mut self) {
        if !self.catalogue().is_some_and(Catalogue::is_whole) {
            return;
        }
        let (streams, consumers) = self.unnamed();
        let Some(volume) = &mut self.volume else { return };
        for owner in streams {
            let folder = self.opening.place(opening::STREAMS).join(&format!("{:016x}", owner.0));
            volume.add_with(owner, |disk| Asset::Removal(Box::new(Removal::begin(folder, disk))));
        }
        for owner in consumers {
            let file = self.opening.place(opening::CONSUMERS).join(&format!("{:016x}", owner.0));
            self.opening.remove(file);
        }
    }

    /// Proposes an entry of a stream or consumer.
    pub(super) fn propose(
        &mut self,
        owner: OwnerId,
        kind: u8,
        payload: impl Into<Pieces>,
    ) -> Result<Position, Refused> {
        self.volume.as_mut().ok_or(Refused::NotReady)?.propose(owner, kind, payload)
    }

    /// Proposes a change of a stream.
    pub(super) fn propose_change(&mut self, owner: OwnerId, change: &Change) -> Result<Position, Refused> {
        let (kind, payload) = self.encoder.encode(change);
        self.propose(owner, kind, payload)
    }

    pub(super) fn handle_disk(&mut self, now: Instant, completion: Completion) {
        let number = completion.token.0;
        if number >= VOLUME_BASE {
            if let Some(volume) = &mut self.volume {
                volume.handle_disk(now, completion);
            }
        } else if number >= META_BASE {
            if let Some(meta) = &mut self.meta {
                meta.handle_disk(now, completion);
            }
        } else {
            match self.opening.handle_disk(completion) {
                Progress::Waiting => {}
                Progress::Prepared if self.vault.is_none() => self.open_vault(),
                Progress::Prepared => self.read_catalogue(),
                Progress::Failed(reason) => self.fail(reason),
            }
        }
    }

    /// Does what can be done: to be called after each change, and at [`Stores::poll_timeout`].
    pub(super) fn advance(&mut self, now: Instant) {
        if let Some(meta) = self.meta.as_mut().filter(|_| !self.meta_failed) {
            meta.advance(now);
        }
        self.drain_meta();
        if let Some(meta) = &self.meta {
            let told = self.converter.look_early(&mut self.opening, meta);
            self.tell(told);
        }
        if self.stage == Stage::ReadingJournal || self.stage == Stage::Ready {
            if let Some(volume) = &mut self.volume {
                volume.advance(now);
            }
            self.drain_volume(now);
        }
        if self.stage == Stage::Ready
            && let Some(volume) = &mut self.volume
        {
            self.scrubber.advance(now, volume);
            self.convert(now);
        }
    }

    /// Has the journal read, when all stores of the catalogue are opened.
    pub(super) fn all_opened(&mut self) {
        let (Some(volume), Stage::ReadingCatalogue) = (&self.volume, self.stage) else { return };
        let unopened = self.catalogue().map_or(0, |catalogue| {
            let streams = catalogue.streams().map(|stream| stream.owner);
            let all = streams.chain(catalogue.consumers().map(|consumer| consumer.owner));
            all.filter(|owner| volume.store(*owner).is_none()).count()
        });
        self.converter.unopened(unopened);
        self.stage = Stage::ReadingJournal;
    }

    pub(super) fn poll_disk(&mut self) -> Option<Submission> {
        let meta = self.meta.as_mut().filter(|_| !self.meta_failed).and_then(Volume::poll_disk);
        let found = meta.or_else(|| self.volume.as_mut().and_then(Volume::poll_disk));
        found.or_else(|| self.opening.poll_disk())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        if self.stage == Stage::Failed {
            return None;
        }
        let meta = self.meta.as_ref().and_then(Volume::poll_timeout);
        let volume = self.volume.as_ref().and_then(Volume::poll_timeout);
        let conversion = self.converter.poll_timeout();
        [meta, volume, self.scrubber.poll_timeout(), conversion].into_iter().flatten().min()
    }

    pub(super) fn poll_event(&mut self) -> Option<StoresEvent> {
        self.events.pop_front()
    }

    fn fail(&mut self, reason: String) {
        if self.stage != Stage::Failed {
            let opening = self.stage != Stage::Ready;
            self.stage = Stage::Failed;
            self.events.push_back(StoresEvent::Failed { reason, opening });
        }
    }

    /// Ends it where the catalogue can't be used at a start: what is there is not to be overwritten.
    fn fail_catalogue(&mut self, reason: String) {
        self.meta_failed |= self.stage != Stage::Ready;
        self.fail(reason);
    }

    fn vault(&self) -> Arc<Vault> {
        self.vault.clone().unwrap_or_default()
    }

    /// Returns how everything is sealed that is written.
    pub(super) fn cipher(&self) -> Cipher {
        self.vault.as_ref().map_or(Cipher::None, |vault| vault.cipher())
    }

    /// Opens the keys with what the operator gives. A new file is durable before anything else is done.
    fn open_vault(&mut self) {
        fn bytes(secret: &Secret) -> &[u8] {
            secret.expose().as_bytes()
        }
        let given = Given {
            key: self.config.key.as_ref().map(bytes),
            previous: self.config.previous_key.as_ref().map(bytes),
            cipher: self.config.cipher,
        };
        let (vault, opened) = match Vault::open(self.opening.keys(), given, &mut self.rng) {
            Ok(found) => found,
            Err(error) => return self.fail(error.to_string()),
        };
        let plain = self.opening.keys().is_none();
        if plain && vault.seals() && self.opening.was_sealed() {
            return self.fail(vault::Damaged.to_string());
        }
        let (converter, told) = Converter::begin(&vault, &self.opening, plain);
        self.converter = converter;
        self.tell(told);
        let seals = vault.seals();
        self.vault = Some(Arc::new(vault));
        match opened.file {
            Some(file) => self.opening.write_keys(&file),
            None if !seals && self.opening.unmark() => {}
            None => self.read_catalogue(),
        }
    }

    /// Goes on sealing with the present key what isn't.
    fn convert(&mut self, now: Instant) {
        let (Some(meta), Some(volume)) = (&mut self.meta, &mut self.volume) else { return };
        let told = self.converter.advance(now, &mut self.opening, meta, volume);
        self.tell(told);
    }

    fn tell(&mut self, told: Option<Told>) {
        self.events.extend(told.map(|told| match told {
            Told::Info(text) => StoresEvent::Info(text),
            Told::Warning(text) => StoresEvent::Warning(text),
        }));
    }

    fn read_catalogue(&mut self) {
        self.stage = Stage::ReadingCatalogue;
        // Creating streams and consumers is all that is written here.
        let config = Config {
            segment_size: 1 << 20,
            first_segment: 64 << 10,
            max_batch: 256 << 10,
            vouch_after: Some(VOUCH_AFTER[0]),
            seal: self.vault().for_journal(),
            ..Config::new(self.opening.place(opening::META))
        };
        let queue = DiskQueue::numbered_from(META_BASE + self.engine.base());
        let mut meta = Volume::open_on(queue, config, self.rng.child(), []);
        let (file, catalogue) = (self.opening.place(opening::CATALOGUE), Catalogue::sealed(self.vault()));
        meta.add_with(Catalogue::OWNER, |disk| Kept::open(catalogue, file, disk));
        self.meta = Some(meta);
    }

    fn drain_meta(&mut self) {
        while let Some(event) = self.meta.as_mut().and_then(Volume::poll_event) {
            match event {
                VolumeEvent::Applied(_, position) => self.events.push_back(StoresEvent::Recorded(position)),
                VolumeEvent::Store(_, KeptEvent::Ready) => {}
                VolumeEvent::Store(_, KeptEvent::Refused(error)) => {
                    let text = format!(
                        "JetStream catalogue: {error}: what its file lacks stays in the journal; it is tried again"
                    );
                    self.events.push_back(StoresEvent::Warning(text));
                }
                VolumeEvent::Store(_, KeptEvent::Failed(error)) => {
                    self.fail_catalogue(format!("catalogue: {error}; check the disk, then restart"));
                }
                VolumeEvent::Store(_, KeptEvent::Damaged { path, reason }) => {
                    let text = format!(
                        "JetStream catalogue: {path} is damaged: {reason}; it is kept under another name, and streams and consumers \
                         that can't be read any more are missing: restore it from a backup, or make them anew"
                    );
                    self.events.push_back(StoresEvent::Error(text));
                }
                VolumeEvent::Store(_, KeptEvent::Senseless { reason }) => {
                    self.fail_catalogue(format!("catalogue: {reason}"));
                }
                VolumeEvent::Store(_, KeptEvent::Locked { path }) => {
                    self.fail_catalogue(format!("catalogue: {path} is sealed with another key"));
                }
                VolumeEvent::Journal(journal::Event::Ready { .. }) => {
                    self.meta_ready = true;
                }
                VolumeEvent::Journal(event) => {
                    if matches!(event, journal::Event::Damaged(_))
                        && let Some(meta) = &mut self.meta
                    {
                        meta.with_store(Catalogue::OWNER, |kept, _| kept.state_mut().note_damage());
                    }
                    self.journal_says("catalogue", event);
                }
                VolumeEvent::Unclaimed(_) | VolumeEvent::Unopened(..) => {}
            }
        }
        let read = self.meta_ready && self.volume.is_none() && self.stage == Stage::ReadingCatalogue;
        let catalogue = if read { self.catalogue() } else { None };
        if let Some(reason) = catalogue.and_then(Catalogue::senseless) {
            let reason = format!("catalogue: {reason}");
            return self.fail_catalogue(reason);
        }
        if let Some(catalogue) = catalogue {
            self.begun = catalogue.has_begun();
            // Small enough that a server with little in it takes little space.
            let config = Config {
                segment_size: 4 << 20,
                min_segments: 1,
                sync_interval: self.config.sync_interval,
                vouch_after: Some(VOUCH_AFTER[1]),
                seal: self.vault().for_journal(),
                ..Config::new(self.opening.place(opening::JOURNAL))
            };
            let queue = DiskQueue::numbered_from(VOLUME_BASE + self.engine.base());
            let sessions = Sessions::begin(self.vault(), &mut self.rng);
            let mut volume = Volume::open_on(queue, config, self.rng.child(), []);
            volume.set_sessions(sessions);
            self.volume = Some(volume);
            self.events.push_back(StoresEvent::Catalogue);
        }
    }

    fn drain_volume(&mut self, now: Instant) {
        while let Some(event) = self.volume.as_mut().and_then(Volume::poll_event) {
            match event {
                VolumeEvent::Store(
                    owner,
                    AssetEvent::Stream(StoreEvent::Files(file::Event::Scrubbed { .. })),
                ) => {
                    if let Some(volume) = &mut self.volume {
                        self.scrubber.scrubbed(owner, now, volume);
                    }
                }
                VolumeEvent::Journal(journal::Event::Ready { .. }) => {
                    self.stage = Stage::Ready;
                    self.scrubber.start(now, &mut self.rng);
                    self.events.push_back(StoresEvent::Ready);
                }
                VolumeEvent::Journal(event) => self.journal_says("streams", event),
                event => self.events.push_back(StoresEvent::Volume(event)),
            }
        }
    }

    fn journal_says(&mut self, which: &str, event: journal::Event) {
        let warning = match event {
            journal::Event::Failed(error) => return self.fail(error.to_string()),
            journal::Event::Full => "no space left on the disk: nothing is stored until there is".to_owned(),
            journal::Event::SpaceBack => "there is space on the disk again".to_owned(),
            journal::Event::Damaged(damage) => format!(
                "segment {} is damaged at {}, {} bytes: {} may be lost",
                damage.segment,
                damage.offset,
                damage.length,
                match which {
                    "catalogue" => "which streams and consumers there are, and their settings,",
                    _ => "what was acknowledged and wasn't in its stream's files yet",
                }
            ),
            journal::Event::SegmentLeft { segment, error } => {
                format!("segment {segment} can't be written any more: {error}")
            }
            // What was being written when the process ended was never acknowledged.
            journal::Event::TornTail { .. }
            | journal::Event::Forgotten { .. }
            | journal::Event::Committed { .. }
            | journal::Event::Recovered { .. }
            | journal::Event::PleaseCover { .. }
            | journal::Event::Ready { .. } => return,
        };
        self.events.push_back(StoresEvent::Warning(format!("JetStream journal of {which}: {warning}")));
    }
}

/// Returns the length at which a stream's blocks are closed, in bytes.
///
/// Source: nats-server `server/filestore.go`, `dynBlkSize`.
fn block_size(config: &StoreConfig) -> u32 {
    const SMALL: u64 = 32_000;
    const MEDIUM: u64 = 4 << 20;
    const LARGE: u64 = 8 << 20;
    let wanted = match (config.block_size, config.max_bytes, config.retention) {
        (0, 0, Retention::Limits) => LARGE,
        (0, 0, _) => MEDIUM,
        (0, most, _) => match most / 4 + 1 {
            ..=SMALL => SMALL,
            LARGE.. => LARGE,
            _ => MEDIUM,
        },
        (size, ..) => size,
    };
    u32::try_from(wanted).unwrap_or(u32::MAX)
}
