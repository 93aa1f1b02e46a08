//! Streams coming and going: from a request to the catalogue, from there to files and subscriptions, and back.
//!
//! A stream in files exists when the catalogue durably says so. Only then are its files made, and only when these are there does
//! it take messages, and is its creator answered: so there is no moment at which a stored message belongs to a stream that a
//! crash would take away. A stream in memory is there at once.

use std::collections::VecDeque;

use bytes::Bytes;

use super::asset::Asset;
use super::assets::{Backing, Phase, StreamAssets};
use super::requests::Asked;
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Owned, Service};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::api::write::to_json;
use crate::jetstream::catalogue::{CatalogueEntry, StreamEntry};
use crate::jetstream::context::{Answer, Messages};
use crate::jetstream::stream::{Settings, Stream};
use crate::storage::block::key::Keys;
use crate::storage::journal::Refused;
use crate::storage::memory::MemoryStore;
use crate::storage::{OwnerId, Position, StorageKind};
use crate::time::{Now, WallTime};

/// What is done when the catalogue durably has a change.
#[derive(Debug)]
pub(super) enum Recorded {
    /// A stream is in it.
    StreamCreated(OwnerId),
    /// A consumer is in it.
    ConsumerCreated(OwnerId),
    /// A consumer isn't in it any more.
    ConsumerDeleted(OwnerId, Option<Asked>),
    /// A request that changed it may be answered.
    Answer(Asked, Bytes),
    /// Something of which nobody waits to hear.
    Nothing,
    /// A stream isn't in it any more.
    StreamDeleted(OwnerId, Asked),
}

impl JetStream {
    /// Makes a stream whose settings are checked. `asked` is answered when it takes messages.
    pub(super) fn create_stream(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        account: u32,
        config: StreamConfig,
        asked: Asked,
    ) -> Result<(), ApiError> {
        let owner = self.new_owner();
        let created = now.wall;
        if config.storage == StorageKind::Memory {
            let key = self.add_stream(account, owner, created, config);
            self.streams[key].creator = Some(asked);
            self.opened(now, exchange, key);
            return Ok(());
        }
        let position = self.record_stream(account, owner, created, &config)?;
        let key = self.add_stream(account, owner, created, config);
        let stream = &mut self.streams[key];
        (stream.creator, stream.phase) = (Some(asked), Phase::Recording(position));
        self.recorded.push_back((position, Recorded::StreamCreated(owner)));
        Ok(())
    }

    /// Tells the catalogue of a stream, or of its new settings.
    pub(super) fn record_stream(
        &mut self,
        account: u32,
        owner: OwnerId,
        created: WallTime,
        config: &StreamConfig,
    ) -> Result<Position, ApiError> {
        let account = self.accounts[account as usize].name.to_string();
        let config = Bytes::from(to_json(config));
        self.record(&CatalogueEntry::Stream(StreamEntry { owner, account, config, created }))
    }

    pub(super) fn record(&mut self, entry: &CatalogueEntry) -> Result<Position, ApiError> {
        self.stores.record(entry).map_err(|refused| match refused {
            Refused::Full => ErrorKind::InsufficientResources.error(),
            other => ErrorKind::StreamStoreFailed.with(other),
        })
    }

    /// Opens the streams of the catalogue, before the journal is read.
    pub(super) fn open_catalogue(&mut self) {
        let Some(catalogue) = self.stores.catalogue() else { return };
        let streams: Vec<StreamEntry> = catalogue.streams().cloned().collect();
        for entry in streams {
            let account = self.accounts.iter().position(|account| *account.name == *entry.account);
            let config = StreamConfig::from_catalogue(&entry.config);
            let (Some(account), Ok(config)) = (account, config) else {
                let owner = entry.owner.0;
                let text = format!("JetStream stream {owner:016x} of account {:?} can't be opened: the account isn't configured, or a later version made it", entry.account);
                self.notices.push_back(Notice::Error(text));
                continue;
            };
            let key = self.add_stream(account as u32, entry.owner, entry.created, config);
            self.open_files(key);
        }
        self.stores.all_opened();
    }

    /// Adds a stream to the tables. It takes nothing yet.
    fn add_stream(&mut self, account: u32, owner: OwnerId, created: WallTime, config: StreamConfig) -> usize {
        let backing = match config.storage {
            StorageKind::File => Backing::File(super::view::Reads::default()),
            StorageKind::Memory => {
                // What the settings say of a store is worked out once more when it runs, and can't fail then.
                let settings = Settings::new(&config, &self.domain).map(|settings| settings.store().clone());
                Backing::Memory(Box::new(MemoryStore::new(settings.unwrap_or_default())))
            }
        };
        let name = config.name.clone();
        let key = self.streams.insert(StreamAssets {
            account,
            owner,
            created,
            config,
            phase: Phase::Opening,
            machine: None,
            backing,
            services: Vec::new(),
            creator: None,
            held: VecDeque::new(),
            waiting: Vec::new(),
            queued: false,
            deadline: None,
        });
        self.accounts[account as usize].streams.insert(name, key);
        self.owners.insert(owner, Owned::Stream(key));
        key
    }

    fn open_files(&mut self, key: usize) {
        let stream = &mut self.streams[key];
        stream.phase = Phase::Opening;
        match Settings::new(&stream.config, &self.domain) {
            Ok(settings) => self.stores.open_stream(stream.owner, settings.store(), Keys::none(stream.owner)),
            Err(error) => {
                stream.phase = Phase::Failed;
                let text = format!("JetStream stream {:?} can't be opened: {error}", stream.config.name);
                self.notices.push_back(Notice::Error(text));
            }
        }
    }

    /// Changes of the catalogue through `position` are durable.
    pub(super) fn recorded(&mut self, now: Now, exchange: &mut Exchange, position: Position) {
        while let Some((_, recorded)) = self.recorded.pop_front_if(|(at, _)| *at <= position) {
            match recorded {
                Recorded::StreamCreated(owner) => {
                    if let Some(&Owned::Stream(key)) = self.owners.get(&owner) {
                        self.open_files(key);
                    }
                }
                Recorded::ConsumerCreated(owner) => self.consumer_recorded(now, exchange, owner),
                Recorded::ConsumerDeleted(owner, asked) => {
                    self.remove_files(owner);
                    if let Some(asked) = asked {
                        self.answer_deleted(now, exchange, asked);
                    }
                }
                Recorded::Answer(asked, json) => self.answer(now, exchange, &asked, json),
                Recorded::Nothing => {}
                Recorded::StreamDeleted(owner, asked) => {
                    self.remove_files(owner);
                    self.answer_deleted(now, exchange, asked);
                }
            }
        }
    }

    /// A stream's store is there: it takes messages from now on.
    pub(super) fn opened(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Ok(settings) = Settings::new(&stream.config, &self.domain) else { return };
        let Answer::Ready(last) = stream.view(&mut self.stores, |view| view.ask(|ledger| Ok(ledger.last_sequence())))
        else {
            return;
        };
        stream.machine = Some(Box::new(Stream::new(settings, last, &mut self.rng)));
        stream.phase = Phase::Running;
        let account = stream.account;
        for subject in stream.config.subjects.clone() {
            self.serve_stream(exchange, key, account, subject.as_bytes());
        }
        let stream = &mut self.streams[key];
        let (held, creator) = (std::mem::take(&mut stream.held), stream.creator.take());
        for asked in held {
            self.request(now, exchange, asked);
        }
        if let Some(asked) = creator {
            self.answer_created(now, exchange, key, asked);
        }
        self.line_up(Turn::Stream(key));
    }

    fn serve_stream(&mut self, exchange: &mut Exchange, key: usize, account: u32, subject: &[u8]) {
        // Its settings were checked: it is a subject.
        if let Ok(service) = exchange.serve(account, subject) {
            self.services.insert(service, Service::Stream(key));
            self.streams[key].services.push(service);
        }
    }

    /// Takes a stream out. `asked` is answered when that is durable.
    pub(super) fn delete_stream(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        asked: Asked,
    ) -> Result<(), ApiError> {
        let stream = &self.streams[key];
        let (owner, durable) = (stream.owner, stream.config.storage == StorageKind::File);
        let position = match durable {
            true => Some(self.record(&CatalogueEntry::Forget(owner))?),
            false => None,
        };
        self.remove_stream(now, exchange, key);
        match position {
            Some(position) => self.recorded.push_back((position, Recorded::StreamDeleted(owner, asked))),
            None => self.answer_deleted(now, exchange, asked),
        }
        Ok(())
    }

    fn remove_stream(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let mut stream = self.streams.remove(key);
        for service in stream.services.drain(..) {
            exchange.serve_no_more(service);
            self.services.remove(&service);
        }
        self.accounts[stream.account as usize].streams.remove(&stream.config.name);
        self.owners.remove(&stream.owner);
        if let Some(deadline) = stream.deadline {
            self.deadlines.remove(&(deadline, Turn::Stream(key)));
        }
        if let Some(machine) = &mut stream.machine {
            machine.fail(&mut self.out, ErrorKind::StreamNotFound.error());
        }
        self.publish_out(now, exchange, stream.account);
    }

    /// Removes what the journal and the folder have of a stream that the catalogue durably hasn't.
    ///
    /// Should the journal not take it now, the next start finds entries of nobody, and does.
    fn remove_files(&mut self, owner: OwnerId) {
        if let Some(Ok((_, Some(Asset::Stream(store))))) = self.stores.volume().map(|volume| volume.forget(owner)) {
            drop(store);
        }
    }

    fn new_owner(&mut self) -> OwnerId {
        loop {
            // The lowest numbers are for what isn't a stream or consumer.
            let owner = OwnerId(self.rng.next_u64() | 1 << 32);
            if !self.owners.contains_key(&owner) {
                return owner;
            }
        }
    }
}
