//! What an engine does of what others say to it.

use std::sync::Arc;

use super::assets::Used;
use super::directory::Directory;
use super::requests::{Asked, Task};
use super::said::{Count, EngineId, EngineMessage, Order, Said, Standing};
use super::{Exchange, JetStream, Notice};
use crate::delivery::Speaker;
use crate::ids::ShardId;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::response::{StreamCreateBody, StreamDeleteBody, StreamUpdateBody};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::engine::Ticketed;
use crate::jetstream::stream::{Request, Settings};
use crate::storage::StorageKind;
use crate::time::Now;

/// An engine tells the others what its streams store when that has changed by this part of what is left to be stored.
const USED_PART: u64 = 64;

impl JetStream {
    /// Returns which engine it is.
    pub(crate) fn id(&self) -> EngineId {
        self.id
    }

    /// Tells whether a subscription is its own.
    pub(crate) fn serves(&self, service: u32) -> bool {
        self.services.contains_key(&service)
    }

    /// Returns of which engines there are folders, once, when the folder is locked and the home engine has looked.
    pub(crate) fn take_folders(&mut self) -> Option<u64> {
        self.stores.take_folders()
    }

    /// Learns which engines there are: those of folders and those of shards.
    pub(crate) fn know_all(&mut self, folders: u64, shards: u16) {
        self.engines = (0..shards).map(|shard| EngineId(shard).bit()).fold(folders, |all, bit| all | bit);
        if let Some(directory) = &mut self.home {
            // It may know of itself already.
            directory.unknown |= self.engines & !EngineId::HOME.bit();
        }
    }

    /// Says something to an engine; to itself at once.
    pub(super) fn say(&mut self, now: Now, exchange: &mut Exchange, to: EngineId, said: Said) {
        match to == self.id {
            true => self.hear(now, exchange, said),
            false => self.tell(exchange, to, said),
        }
    }

    /// Says something to another engine, behind everything that was published and subscribed before.
    fn tell(&mut self, exchange: &mut Exchange, to: EngineId, said: Said) {
        let message = EngineMessage { to, said: Box::new(said) };
        exchange.speak(Speaker(self.id.0), message.shard(exchange.shards()));
        self.unsaid.push_back(message);
    }

    /// Returns the next thing that it says to engines of a shard, of so many. [`Exchange::speak`] asks for it.
    pub(crate) fn take_said(&mut self, to: ShardId, shards: u16) -> Option<EngineMessage> {
        let next = self.unsaid.iter().position(|message| message.shard(shards) == to)?;
        self.unsaid.remove(next)
    }

    /// Tells the home engine what came of an order.
    pub(super) fn settle(&mut self, now: Now, exchange: &mut Exchange, order: Order, standing: Standing) {
        self.say(now, exchange, EngineId::HOME, Said::Settled(order, standing));
    }

    /// Returns a request as another engine can take it: with who asked in words.
    pub(super) fn sendable(&self, exchange: &Exchange, asked: &Asked) -> Asked {
        let mut asked = asked.clone();
        if asked.client.is_none() && exchange.shards() > 1 {
            asked.client = exchange.describe_client(asked.origin).map(Arc::new);
            asked.origin = crate::delivery::NOBODY;
        }
        asked
    }

    /// Takes what another engine says.
    pub(crate) fn hear(&mut self, now: Now, exchange: &mut Exchange, said: Said) {
        match said {
            Said::Opened { from, streams } => self.hear_opened(now, exchange, from, streams),
            Said::Used { from, account, used } => self.hear_used(from, account, used),
            Said::Settled(order, standing) => self.settled(now, exchange, &order, standing),
            Said::Listed { id, streams } => self.listed(now, exchange, id, streams),
            Said::Counted { id, count } => self.counted(now, exchange, id, count),
            // What is in the journal is read first.
            said if !self.running => self.held_said.push_back(said),
            Said::Request(asked) if self.id == EngineId::HOME => self.request(now, exchange, asked),
            Said::Request(asked) => self.request_here(now, exchange, asked),
            Said::Create(order, asked, config) => self.hear_create(now, exchange, order, &asked, config),
            Said::Again(asked, name) => match self.find_stream(asked.account, &name) {
                Ok(key) => self.do_task(now, exchange, key, Task::Created(asked)),
                Err(error) => self.respond_error::<StreamCreateBody>(now, exchange, &asked, error),
            },
            Said::Update(order, asked, config) => self.hear_update(now, exchange, order, asked, config),
            Said::Delete(order, asked) => self.hear_delete(now, exchange, order, asked),
            Said::Restore(order, asked, config, admission) => {
                self.begin_restore(now, exchange, order, &asked, config, admission);
            }
            Said::List { id, account, names } => self.list_streams(now, exchange, id, account, names),
            Said::Count { id, account } => {
                let count = self.count(account);
                self.say(now, exchange, EngineId::HOME, Said::Counted { id, count });
            }
        }
    }

    fn hear_create(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        order: Order,
        asked: &Asked,
        config: Arc<StreamConfig>,
    ) {
        let created = self.create_stream(now, exchange, order.clone(), config, asked.clone());
        if let Err(error) = created {
            self.settle(now, exchange, order, Standing::Gone);
            self.respond_error::<StreamCreateBody>(now, exchange, asked, error);
        }
    }

    fn hear_update(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        order: Order,
        asked: Asked,
        config: Arc<StreamConfig>,
    ) {
        let key = match self.find_stream(order.account, &order.stream) {
            Ok(key) => key,
            Err(error) => {
                self.settle(now, exchange, order, Standing::Gone);
                return self.respond_error::<StreamUpdateBody>(now, exchange, &asked, error);
            }
        };
        match self.check_new_settings(key, &config) {
            Ok((settings, position)) => {
                self.resubscribe(exchange, key, &config);
                self.streams[key].config = Arc::clone(&config);
                self.retention_changed(key);
                match position {
                    Some(position) => self.settle_when_recorded(position, order, Standing::There(config)),
                    None => self.settle(now, exchange, order, Standing::There(config)),
                }
                let request = Request::Configure(Box::new(settings));
                self.change_stream(now, exchange, key, request, Ticketed::Update(asked, position));
            }
            Err(error) => {
                let before = Arc::clone(&self.streams[key].config);
                self.settle(now, exchange, order, Standing::There(before));
                self.respond_error::<StreamUpdateBody>(now, exchange, &asked, error);
            }
        }
    }

    /// Checks what the consumers of a stream say to its new settings, and tells the catalogue.
    fn check_new_settings(
        &mut self,
        key: usize,
        config: &StreamConfig,
    ) -> Result<(Settings, Option<crate::storage::Position>), ApiError> {
        let stream = &self.streams[key];
        let consumers = stream.consumers.values().map(|key| &self.consumers[*key]);
        let consumers = consumers.map(|consumer| (consumer.name.as_str(), &consumer.config));
        config.consumer_limits.check_change(&stream.config.consumer_limits, consumers)?;
        let settings =
            Settings::new(config, &self.domain).map_err(|error| ErrorKind::StreamUpdate.with(error))?;
        let (account, owner, created) = (stream.account, stream.owner, stream.created);
        let position = match stream.config.storage {
            StorageKind::File => Some(self.record_stream(account, owner, created, config)?),
            StorageKind::Memory => None,
        };
        Ok((settings, position))
    }

    fn hear_delete(&mut self, now: Now, exchange: &mut Exchange, order: Order, asked: Option<Asked>) {
        let Ok(key) = self.find_stream(order.account, &order.stream) else {
            self.settle(now, exchange, order, Standing::Gone);
            if let Some(asked) = asked {
                let error = ErrorKind::StreamNotFound.error();
                self.respond_error::<StreamDeleteBody>(now, exchange, &asked, error);
            }
            return;
        };
        if let Err(error) = self.delete_stream(now, exchange, key, order.clone(), asked.clone()) {
            let there = Arc::clone(&self.streams[key].config);
            self.settle(now, exchange, order, Standing::There(there));
            if let Some(asked) = asked {
                self.respond_error::<StreamDeleteBody>(now, exchange, &asked, error);
            }
        }
    }

    /// An engine has read its catalogue, and subscribed what its streams store.
    fn hear_opened(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        from: EngineId,
        streams: Vec<(u32, Arc<StreamConfig>)>,
    ) {
        let Some(directory) = &mut self.home else { return };
        for (account, config) in streams {
            let name = config.name.clone();
            if !directory.opened(from, account, config) {
                let account = &self.accounts[account as usize].name;
                let text = format!(
                    "JetStream stream '{account} > {name}' is in the folders of two shards; that of shard {} is left alone",
                    from.0
                );
                self.notices.push_back(Notice::Error(text));
            }
        }
        directory.unknown &= !from.bit();
        if self.knows_all() {
            for asked in std::mem::take(&mut self.held_requests) {
                self.request(now, exchange, asked);
            }
        }
    }

    /// Tells whether it can decide which streams there are, if that is what it does.
    pub(super) fn knows_all(&self) -> bool {
        let all_known = |directory: &Directory| directory.unknown == 0;
        self.home.as_ref().is_none_or(all_known) && self.engines != 0
    }

    /// Another engine's streams store so much.
    fn hear_used(&mut self, from: EngineId, account: u32, used: Used) {
        let before = self.theirs.insert((from, account), used).unwrap_or_default();
        for sum in [&mut self.elsewhere, &mut self.accounts[account as usize].elsewhere] {
            for kind in [StorageKind::Memory, StorageKind::File] {
                let of_kind = sum.of_mut(kind);
                *of_kind = of_kind.wrapping_add(used.of(kind)).wrapping_sub(before.of(kind));
            }
        }
    }

    /// Tells the other engines what an account's streams store here, if they are to know: the closer a limit is, the more
    /// exactly.
    pub(super) fn tell_used(&mut self, exchange: &mut Exchange, account: u32, left: u64) {
        if self.engines & !self.id.bit() == 0 || left == u64::MAX {
            return;
        }
        let assets = &mut self.accounts[account as usize];
        let (used, told) = (assets.used, assets.told);
        let changed = |kind| used.of(kind).abs_diff(told.of(kind));
        let changed = changed(StorageKind::Memory).max(changed(StorageKind::File));
        if changed <= left / USED_PART {
            return;
        }
        assets.told = used;
        for to in EngineId::all(self.engines & !self.id.bit()) {
            self.tell(exchange, to, Said::Used { from: self.id, account, used });
        }
    }

    /// Returns what it has of an account.
    fn count(&self, account: u32) -> Count {
        let assets = &self.accounts[account as usize];
        let mut count =
            Count { api_total: assets.api_total, api_errors: assets.api_errors, ..Count::default() };
        for key in assets.streams.values() {
            let stream = &self.streams[*key];
            count.consumers += stream.consumers.len() as u64;
            match stream.config.storage {
                StorageKind::Memory => count.memory += stream.bytes,
                StorageKind::File => count.store += stream.bytes,
            }
        }
        count
    }
}
