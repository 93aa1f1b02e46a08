//! From a staged stream to one that is there, or back to nothing.

use super::staging::{RestoredConsumer, Staged};
use super::{Restore, Stage};
use std::sync::Arc;

use crate::config::format_duration;
use crate::jetstream::api::advisory::{Action, RestoreCompleted, Topic};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::response::{self, StreamCreateBody};
use crate::jetstream::api::write::to_json;
use crate::jetstream::backup::{BackupReader, Limits};
use crate::jetstream::catalogue::{Catalogue, CatalogueEntry, ConsumerEntry, StreamEntry};
use crate::jetstream::context::Outgoing;
use crate::jetstream::engine::assets::Backing;
use crate::jetstream::engine::consumers::request_of;
use crate::jetstream::engine::lifecycle::Recorded;
use crate::jetstream::engine::requests::Task;
use crate::jetstream::engine::said::Standing;
use crate::jetstream::engine::turns::Turn;
use crate::jetstream::engine::{Exchange, JetStream, Notice};
use crate::planted::{self, Bug};
use crate::storage::journal::Refused;
use crate::storage::{Position, StorageKind};
use crate::time::Now;

impl JetStream {
    /// Tells the catalogue of the next consumer, or, when it knows them all, of the stream. Returns whether there is more to be
    /// done now.
    pub(super) fn record_restored(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        next: usize,
    ) -> Result<bool, ApiError> {
        let restore = &self.restores[key];
        if restore.config.storage == StorageKind::Memory {
            self.stream_restored(now, exchange, key);
            return Ok(true);
        }
        let recorded = match restore.consumers.get(next) {
            Some(consumer) if !consumer.kept => {
                self.restores[key].stage = Stage::Recording(next + 1);
                return Ok(true);
            }
            Some(consumer) => self.stores.record(&CatalogueEntry::Consumer(ConsumerEntry {
                owner: consumer.owner,
                stream: restore.owner,
                name: consumer.name.clone(),
                config: request_of(&consumer.config),
                created: restore.started,
            })),
            None => self.record_restored_stream(key),
        };
        let restore = &self.restores[key];
        let (is_stream, owner) = (next >= restore.consumers.len(), restore.owner);
        match recorded {
            Ok(position) if is_stream => {
                self.recorded.push_back((position, Recorded::StreamRestored(owner)));
                self.restores[key].stage = Stage::Recorded;
                if planted::bug(Bug::JsRestoreAnsweredEarly) {
                    self.recorded.pop_back();
                    self.stream_restored(now, exchange, key);
                }
                Ok(true)
            }
            Ok(_) => {
                self.restores[key].stage = Stage::Recording(next + 1);
                Ok(true)
            }
            Err(Refused::Busy) => Ok(false),
            Err(Refused::Full) => Err(ErrorKind::InsufficientResources.error()),
            Err(refused) => Err(ErrorKind::StreamStoreFailed.with(refused)),
        }
    }

    /// Tells the catalogue of a stream that is restored.
    pub(super) fn record_restored_stream(&mut self, key: usize) -> Result<Position, Refused> {
        let restore = &self.restores[key];
        self.stores.record(&CatalogueEntry::Stream(StreamEntry {
            owner: restore.owner,
            account: self.accounts[restore.account as usize].name.to_string(),
            config: to_json(&*restore.config).into(),
            created: restore.started,
        }))
    }

    /// A restored stream is durably there, or is in memory: from now on it is a stream like any other.
    pub(in super::super) fn stream_restored(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Restore { account, owner, started, config, staged, consumers, bytes, finish, .. } =
            &mut self.restores[key];
        let (account, owner, started, config) = (*account, *owner, *started, config.clone());
        let (staged, consumers) = (std::mem::replace(staged, Staged::Nothing), std::mem::take(consumers));
        // What it takes of what there is, is the stream's now.
        let (bytes, finish) = (std::mem::take(bytes), finish.clone());
        let stream = self.add_stream(account, owner, started, config);
        if let Staged::Memory(store) = staged {
            self.streams[stream].backing = Backing::Memory(store);
        }
        self.streams[stream].bytes = bytes;
        for RestoredConsumer { owner, name, config, state, kept } in consumers {
            let consumer = self.add_consumer(stream, owner, name, started, config, kept);
            self.consumers[consumer].restored = (!kept).then(|| Box::new(state));
        }
        self.start_stream(now, exchange, stream);
        let name = self.streams[stream].config.name.clone();
        self.advise_stream(now, exchange, account, &name, Action::Create);
        self.end_restore(now, exchange, key);
        if let Some(reply) = finish {
            self.do_task(now, exchange, stream, Task::Restored(account, reply));
        }
    }

    /// Lets a restore fail: takes apart what there is of it. Its sender is told at the end.
    pub(super) fn fail_restore(&mut self, now: Now, exchange: &mut Exchange, key: usize, error: ApiError) {
        let Some(restore) = self.restores.get_mut(key) else { return };
        // What the catalogue may have already is no longer taken back: the next start knows what became of it.
        if matches!(restore.stage, Stage::Failed(_) | Stage::Recorded) {
            return;
        }
        let recorded = match std::mem::replace(&mut restore.stage, Stage::Failed(error)) {
            Stage::Recording(next) => next,
            _ => 0,
        };
        restore.reader = BackupReader::new(Limits { max_payload: 0, max_message_size: None });
        restore.todo.clear();
        let (account, kind, owner) = (restore.account, restore.config.storage, restore.owner);
        let order = restore.order.clone();
        let (bytes, consumers) = (std::mem::take(&mut restore.bytes), std::mem::take(&mut restore.consumers));
        let staged = std::mem::replace(&mut restore.staged, Staged::Nothing);
        for used in [&mut self.used, &mut self.accounts[account as usize].used] {
            *used.of_mut(kind) = used.of(kind).saturating_sub(bytes);
        }
        for (at, consumer) in consumers.into_iter().enumerate() {
            if consumer.kept {
                self.stores.remove(consumer.owner);
                if at < recorded {
                    // Should it not be taken, the next start finds a consumer without a stream, and does.
                    let _ = self.stores.record(&CatalogueEntry::Forget(consumer.owner));
                }
            }
        }
        if matches!(staged, Staged::File(_)) {
            self.owners.remove(&owner);
            self.stores.remove(owner);
        }
        self.tell_used(exchange, account, 0);
        self.settle(now, exchange, order, Standing::Failing);
        self.line_up(Turn::Restore(key));
    }

    /// Says that a restore is over, and tells its sender if it failed.
    pub(super) fn end_restore(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let restore = &self.restores[key];
        let (account, name, client) = (restore.account, restore.name.clone(), restore.client.clone());
        let (start, end, bytes) = (restore.started, now.wall, restore.taken);
        let error = match &restore.stage {
            Stage::Failed(error) => Some(error.clone()),
            _ => None,
        };
        let finish = restore.finish.clone();
        let standing = match &error {
            None => Standing::There(Arc::clone(&self.restores[key].config)),
            Some(_) => Standing::Gone,
        };
        self.drop_restore(now, exchange, key, standing);
        let domain = self.domain.clone();
        let event = RestoreCompleted { stream: &name, start, end, bytes, client: &client, domain: &domain };
        self.advise(now, exchange, (account, Topic::RestoreCompleted, &[&name]), &event);
        let took = format_duration(i64::try_from(end.since(start).as_nanos()).unwrap_or(i64::MAX));
        let place = format!("'{} > {name}'", self.accounts[account as usize].name);
        self.notices.push_back(match &error {
            None => Notice::Info(format!("Completed restore of {bytes} bytes for stream {place} in {took}")),
            Some(error) => Notice::Warning(format!(
                "Restore failed for {bytes} bytes for stream {place} in {took}: {error}"
            )),
        });
        if let (Some(error), Some(to)) = (error, finish) {
            let payload = response::refusal::<StreamCreateBody>(&error).into();
            let outgoing = Outgoing { to, payload, ..Outgoing::default() };
            exchange.publish_own(now.instant, account, &outgoing);
        }
    }

    /// Takes a restore out of the tables.
    pub(super) fn drop_restore(&mut self, now: Now, exchange: &mut Exchange, key: usize, standing: Standing) {
        let restore = self.restores.remove(key);
        if let Some(deadline) = restore.deadline {
            self.deadlines.remove(&(deadline, Turn::Restore(key)));
        }
        exchange.serve_no_more(restore.service);
        self.services.remove(&restore.service);
        self.settle(now, exchange, restore.order, standing);
    }

    /// Nothing more is stored: no restore in files comes to an end.
    pub(in super::super) fn fail_restores(&mut self, now: Now, exchange: &mut Exchange, reason: &str) {
        let in_files = |restore: &Restore| restore.config.storage == StorageKind::File;
        let keys: Vec<usize> =
            self.restores.iter().filter(|(_, it)| in_files(it)).map(|(key, _)| key).collect();
        for key in keys {
            self.fail_restore(now, exchange, key, ErrorKind::StreamStoreFailed.with(reason));
        }
    }

    /// Forgets consumers whose streams never came to be: a restore ended between them and its stream.
    pub(in super::super) fn forget_orphans(&mut self) {
        let orphans = self.stores.catalogue().map(Catalogue::orphans);
        for owner in orphans.unwrap_or_default() {
            let _ = self.stores.record(&CatalogueEntry::Forget(owner));
        }
    }
}
