//! What the stores tell, and who is to hear of it.

use std::collections::BTreeSet;

use super::asset::AssetEvent;
use super::assets::{Backing, Listeners, Phase};
use super::lifecycle::Recorded;
use super::requests::{Asked, Task};
use super::said::{EngineId, Said};
use super::stores::StoresEvent;
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Owned, Ticketed};
use crate::config::format_duration;
use crate::jetstream::api::advisory::Action;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::request::MessageDeleteRequest;
use crate::jetstream::api::response::{MessageDeleteBody, StreamPurgeBody, StreamUpdateBody};
use crate::jetstream::catalogue::{Catalogue, CatalogueEntry};
use crate::jetstream::context::{Answer, Context, Messages};
use crate::jetstream::stream::Ticket;
use crate::storage::block::key::SealError;
use crate::storage::file::store::StoreEvent;
use crate::storage::kept::KeptEvent;
use crate::storage::volume::VolumeEvent;
use crate::storage::{OwnerId, Position};
use crate::time::Now;

impl JetStream {
    /// Takes what the stores tell, until they tell nothing more.
    pub(super) fn hear_stores(&mut self, now: Now, exchange: &mut Exchange) {
        self.stores.advance(now.instant);
        while let Some(event) = self.stores.poll_event() {
            match event {
                StoresEvent::Catalogue => self.open_catalogue(now, exchange),
                StoresEvent::Ready => self.stores_ready(now, exchange),
                StoresEvent::Recorded(position) => self.recorded(now, exchange, position),
                StoresEvent::Volume(VolumeEvent::Store(owner, event)) => {
                    self.hear_asset(now, exchange, owner, event);
                }
                StoresEvent::Volume(VolumeEvent::Applied(owner, position)) => {
                    self.applied(now, exchange, owner, position);
                    for key in std::mem::take(&mut self.busy) {
                        self.line_up(Turn::Stream(key));
                    }
                    self.wake_restores();
                }
                // What was deleted while the process ended is forgotten now.
                StoresEvent::Volume(VolumeEvent::Unclaimed(owner)) => self.unclaimed.push(owner),
                StoresEvent::Volume(VolumeEvent::Unopened(owner, position, error)) => {
                    self.unopened(now, exchange, owner, position, error);
                }
                StoresEvent::Volume(VolumeEvent::Journal(_)) => {}
                StoresEvent::Info(text) => self.notices.push_back(Notice::Info(text)),
                StoresEvent::Warning(text) => self.notices.push_back(Notice::Warning(text)),
                StoresEvent::Error(text) => self.notices.push_back(Notice::Error(text)),
                StoresEvent::Failed { reason, opening } => self.stores_failed(now, exchange, reason, opening),
            }
        }
    }

    /// The journal is read.
    fn stores_ready(&mut self, now: Now, exchange: &mut Exchange) {
        self.running = true;
        if !self.says_opened_early() {
            let said = Said::Opened { from: self.id, streams: Vec::new() };
            self.say(now, exchange, EngineId::HOME, said);
        }
        let took = i64::try_from((now.instant - self.started).as_nanos()).unwrap_or(i64::MAX);
        let text = match self.id {
            EngineId::HOME => format!("Took {} to start JetStream", format_duration(took)),
            id => format!("Took {} to start JetStream on shard {}", format_duration(took), id.0),
        };
        self.notices.push_back(Notice::Info(text));
        self.settle_unnamed(now);
        let keys: Vec<usize> = self.streams.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.start_stream(now, exchange, key);
        }
        for said in std::mem::take(&mut self.held_said) {
            self.hear(now, exchange, said);
        }
        while let Some(message) = self.held.pop_front() {
            self.arrived(now, exchange, message);
        }
    }

    /// Deals with what is there and isn't in the catalogue: leftovers, which go, or what a damaged catalogue lost.
    fn settle_unnamed(&mut self, now: Now) {
        let mut unclaimed = std::mem::take(&mut self.unclaimed);
        let Some(catalogue) = self.stores.catalogue() else { return };
        unclaimed.retain(|owner| !catalogue.has(*owner));
        if catalogue.is_whole() {
            for owner in unclaimed {
                if let Some(volume) = self.stores.volume() {
                    let _ = volume.forget(owner);
                }
            }
            self.stores.remove_leftovers();
            self.forget_orphans();
            return self.report_strays();
        }
        let (streams, consumers) = self.stores.unnamed();
        let lost = catalogue.streams_of(&catalogue.orphans());
        let strays: BTreeSet<OwnerId> = [unclaimed, streams, consumers, lost]
            .into_iter()
            .flatten()
            .filter(|owner| !catalogue.has(*owner))
            .collect();
        let mut recorded = None;
        for owner in &strays {
            recorded = self.stores.record(&CatalogueEntry::Stray(*owner)).ok().or(recorded);
        }
        // Also where there is none: from here on it has everything.
        recorded = self.stores.begin_catalogue().or(recorded);
        match recorded {
            Some(position) => self.recorded.push_back((position, Recorded::Strays)),
            None => self.stores.note_strays(now.instant),
        }
        self.strays = strays;
        self.report_strays();
    }

    /// Tells of files and entries of which nothing says whose they are.
    fn report_strays(&mut self) {
        self.strays.extend(self.stores.catalogue().into_iter().flat_map(Catalogue::strays));
        self.stores.leave_strays(self.strays.len());
        let streams: Vec<usize> = self.streams.iter().map(|(key, _)| key).collect();
        streams.into_iter().for_each(|key| self.keep_for_strays(key));
        for owner in &self.strays {
            let text = format!(
                "JetStream store {:016x}: what said which stream or consumer it is was lost with a part of the catalogue; it is left as \
                 it is",
                owner.0
            );
            self.notices.push_back(Notice::Error(text));
        }
    }

    /// An entry of the journal can't be opened.
    fn unopened(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        owner: OwnerId,
        position: Position,
        error: SealError,
    ) {
        let text = match error {
            SealError::NoKey(_) => {
                let what = match self.owners.get(&owner) {
                    Some(&Owned::Stream(key)) => {
                        self.streams[key].phase = Phase::Failed;
                        self.fail_tasks(now, exchange, key);
                        format!("stream {:?}", self.streams[key].config.name)
                    }
                    Some(&Owned::Consumer(key)) => {
                        self.consumer_unknown(now, exchange, key);
                        format!("consumer {:?}", self.consumers[key].name)
                    }
                    Some(Owned::Restore(_)) | None => format!("{:016x}", owner.0),
                };
                format!(
                    "JetStream journal of streams: entries of {what}: {error}: it is left as it is; give the key that they were \
                     sealed with"
                )
            }
            SealError::Broken => format!(
                "JetStream journal of streams: entry {} of {:016x}: {error}: it is lost",
                position.0, owner.0
            ),
        };
        self.notices.push_back(Notice::Error(text));
    }

    fn hear_asset(&mut self, now: Now, exchange: &mut Exchange, owner: OwnerId, event: AssetEvent) {
        match (self.owners.get(&owner), event) {
            (Some(&Owned::Stream(key)), AssetEvent::Stream(event)) => {
                self.hear_stream(now, exchange, key, event);
            }
            (Some(&Owned::Consumer(key)), AssetEvent::Consumer(event)) => {
                let name = &self.consumers[key].name;
                match event {
                    KeptEvent::Ready => self.start_consumer(now, exchange, key),
                    KeptEvent::Damaged { path, reason } => {
                        let text = format!(
                            "JetStream consumer {name:?}: {path}: {reason}; what it may not have is delivered again"
                        );
                        self.notices.push_back(Notice::Error(text));
                    }
                    KeptEvent::Senseless { reason } => {
                        let text = format!("JetStream consumer {name:?}: {reason}");
                        self.notices.push_back(Notice::Error(text));
                    }
                    KeptEvent::Refused(error) => {
                        let text = format!(
                            "JetStream consumer {name:?}: {error}: what its file lacks stays in the journal; it is tried again"
                        );
                        self.notices.push_back(Notice::Warning(text));
                    }
                    KeptEvent::Failed(_) | KeptEvent::Locked { .. } => {
                        let text = match event {
                            KeptEvent::Failed(error) => format!("JetStream consumer {name:?}: {error}"),
                            _ => format!(
                                "JetStream consumer {name:?}: its file is sealed with another key, and is left as it is"
                            ),
                        };
                        self.notices.push_back(Notice::Error(text));
                        self.consumer_unknown(now, exchange, key);
                    }
                }
            }
            (Some(&Owned::Restore(key)), AssetEvent::Stream(event)) => {
                self.hear_staged(now, exchange, key, event);
            }
            (_, AssetEvent::Removal(_)) => self.stores.removed(owner),
            // It was deleted meanwhile.
            _ => {}
        }
    }

    /// Entries of an owner through `position` are applied.
    fn applied(&mut self, now: Now, exchange: &mut Exchange, owner: OwnerId, position: Position) {
        match self.owners.get(&owner) {
            Some(&Owned::Stream(key)) => self.start_stream(now, exchange, key),
            Some(&Owned::Consumer(key)) => {
                let consumer = &mut self.consumers[key];
                let Some(machine) = &mut consumer.machine else {
                    return self.start_consumer(now, exchange, key);
                };
                let listeners = Listeners { exchange, account: consumer.account };
                let mut context =
                    Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
                machine.committed(position, &mut context);
                let stream = consumer.stream;
                self.consumer_follow_up(now, exchange, key);
                if self.streams.get(stream).is_some_and(|stream| !stream.tasks.is_empty()) {
                    self.line_up(Turn::Stream(stream));
                }
            }
            Some(&Owned::Restore(_)) | None => {}
        }
    }

    fn hear_stream(&mut self, now: Now, exchange: &mut Exchange, key: usize, event: StoreEvent) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        match event {
            StoreEvent::Applied(position, outcome) => {
                // What the journal had from before the start may be told when the stream runs already.
                let live = stream.live_from.is_some_and(|from| position >= from);
                if !live {
                    stream.removed.clear();
                }
                stream.last_applied = position;
                if let Some(machine) = &mut stream.machine
                    && live
                {
                    machine.applied(&mut self.out, outcome);
                    self.line_up(Turn::Stream(key));
                    self.follow_up(now, exchange, key);
                }
            }
            StoreEvent::Ready => self.start_stream(now, exchange, key),
            StoreEvent::Removed(removed) => stream.removed.push(removed),
            StoreEvent::Loaded { .. } => self.disk_said_something(now, exchange, key),
            StoreEvent::Read(id, result) => {
                if let Backing::File(reads) = &mut stream.backing
                    && let Some(error) = reads.was_read(id, result)
                {
                    let name = &stream.config.name;
                    self.notices.push_back(Notice::Error(format!("JetStream stream {name:?}: {error}")));
                }
                self.disk_said_something(now, exchange, key);
            }
            StoreEvent::Files(event) => self.hear_files(now, exchange, key, event),
        }
    }

    /// Whoever waits for the disk at a stream asks again.
    fn disk_said_something(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        self.line_up(Turn::Stream(key));
        self.wake_snapshots(self.streams[key].owner);
        let consumers: Vec<usize> = self.streams[key].consumers.values().copied().collect();
        for consumer in consumers {
            if std::mem::take(&mut self.consumers[consumer].waits) {
                self.line_up(Turn::Consumer(consumer));
            }
        }
        self.go_on_listing(now, exchange);
    }

    /// Says of a message that can't be deleted what the reference says, which depends on where messages are kept.
    ///
    /// Source: nats-server `server/filestore.go`, `removeMsg`; `server/memstore.go`, `removeMsg`.
    fn not_deleted(&mut self, key: usize, asked: &Asked, error: ApiError) -> ApiError {
        let in_file = matches!(self.streams[key].backing, Backing::File(_));
        if !in_file || !error.is(ErrorKind::SequenceNotFound) {
            return error;
        }
        let wanted = MessageDeleteRequest::parse(&asked.body, false).map_or(0, |request| request.sequence);
        let range = self.streams[key]
            .view(&mut self.stores)
            .map(|mut view| view.ask(|ledger| Ok((ledger.first_sequence(), ledger.last_sequence()))));
        match range {
            // A gap, between messages that are there.
            Some(Answer::Ready((first, last))) if (first..=last).contains(&wanted) => error,
            Some(Answer::Ready((_, last))) if wanted > last => {
                ErrorKind::StreamMessageDeleteFailed.with("stream store EOF")
            }
            _ => ErrorKind::StreamMessageDeleteFailed.with("no message found"),
        }
    }

    /// A request that changed a stream is done.
    pub(super) fn done(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        ticket: Ticket,
        result: Result<u64, ApiError>,
    ) {
        match self.tickets.remove(&ticket.0) {
            Some(Ticketed::Purge(asked)) => {
                let result = result.map(|purged| StreamPurgeBody { success: true, purged });
                self.respond(now, exchange, &asked, &result);
            }
            Some(Ticketed::Remove(asked)) => {
                let result = result.map(|_| MessageDeleteBody { success: true });
                let result = result.map_err(|error| self.not_deleted(key, &asked, error));
                self.respond(now, exchange, &asked, &result);
            }
            Some(Ticketed::Update(asked, position)) => match result {
                Ok(_) => {
                    let (account, name) = (asked.account, self.streams[key].config.name.clone());
                    self.do_when_recorded(now, exchange, position, key, Task::Updated(asked));
                    self.advise_stream(now, exchange, account, &name, Action::Modify);
                }
                Err(error) => self.respond_error::<StreamUpdateBody>(now, exchange, &asked, error),
            },
            Some(Ticketed::Align) | None => {}
        }
    }

    fn hear_files(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        event: crate::storage::file::Event,
    ) {
        use crate::storage::file::Event;
        let Some(stream) = self.streams.get_mut(key) else { return };
        let name = format!(
            "JetStream stream '{} > {}'",
            self.accounts[stream.account as usize].name, stream.config.name
        );
        let text = match event {
            Event::Damaged { number, damage } => {
                let (offset, len) = (damage.offset, damage.len);
                let lost = match damage.sequences {
                    Some((first, last)) => format!("messages {first} to {last} are lost"),
                    None => "no message is lost".to_owned(),
                };
                format!("{name}: block {number} is damaged at byte {offset}, {len} bytes: {lost}")
            }
            Event::Unreadable { number, error } => {
                format!("{name}: block {number}: {error}; messages in it may be lost")
            }
            Event::Older { path } => format!("{name}: {path} is older than it was: what it has is lost"),
            Event::Lost { first, last } => format!("{name}: messages {first} to {last} are lost"),
            Event::TornTail { number, bytes } => {
                let text = format!(
                    "{name}: block {number}: the last {bytes} bytes were being written; they are written again"
                );
                return self.notices.push_back(Notice::Info(text));
            }
            Event::Refused(error) => {
                let text =
                    format!("{name}: {error}: what its files lack stays in the journal; it is tried again");
                return self.notices.push_back(Notice::Warning(text));
            }
            Event::Foreign { path } => format!("{name}: {path} isn't part of it, and is left alone"),
            Event::ManifestDamaged { path } => format!("{name}: {path} is damaged, and is made anew"),
            Event::Failed(failure) => {
                stream.phase = Phase::Failed;
                let error = ErrorKind::StreamStoreFailed.with(&failure);
                if let Some(machine) = &mut stream.machine {
                    machine.fail(&mut self.out, error);
                }
                self.follow_up(now, exchange, key);
                self.fail_tasks(now, exchange, key);
                format!("{name}: {failure}")
            }
            _ => return,
        };
        self.notices.push_back(Notice::Error(text));
    }

    /// Nothing more is stored: whoever waits is told so.
    fn stores_failed(&mut self, now: Now, exchange: &mut Exchange, reason: String, opening: bool) {
        let keys: Vec<usize> = self.streams.iter().map(|(key, _)| key).collect();
        for key in keys {
            let Some(stream) = self.streams.get_mut(key) else { continue };
            if matches!(stream.backing, Backing::File(_)) {
                stream.phase = Phase::Failed;
                if let Some(machine) = &mut stream.machine {
                    machine.fail(&mut self.out, ErrorKind::StreamStoreFailed.with(&reason));
                }
                self.follow_up(now, exchange, key);
            }
        }
        self.fail_restores(now, exchange, &reason);
        // A server that can't begin doesn't; one that can't go on storing still serves everything else, and what is stored.
        self.notices.push_back(match opening {
            true => Notice::Fatal(reason),
            false => Notice::Error(format!("JetStream: {reason}; nothing more is stored")),
        });
    }
}
