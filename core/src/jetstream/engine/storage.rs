//! What the stores tell, and who is to hear of it.

use super::asset::AssetEvent;
use super::assets::{Backing, Phase};
use super::stores::StoresEvent;
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Owned};
use crate::jetstream::api::error::ErrorKind;
use crate::storage::OwnerId;
use crate::storage::file::store::StoreEvent;
use crate::storage::volume::VolumeEvent;
use crate::time::Now;

impl JetStream {
    /// Takes what the stores tell, until they tell nothing more.
    pub(super) fn hear_stores(&mut self, now: Now, exchange: &mut Exchange) {
        self.stores.advance(now.instant);
        while let Some(event) = self.stores.poll_event() {
            match event {
                StoresEvent::Catalogue => self.stores.all_opened(),
                StoresEvent::Ready => {
                    while let Some(message) = self.held.pop_front() {
                        self.arrived(now, exchange, message);
                    }
                }
                StoresEvent::Recorded(_) => {}
                StoresEvent::Volume(VolumeEvent::Store(owner, event)) => {
                    self.hear_asset(now, exchange, owner, event);
                }
                StoresEvent::Volume(_) => {}
                StoresEvent::Warning(text) => self.notices.push_back(Notice::Warning(text)),
                StoresEvent::Failed(text) => self.stores_failed(now, exchange, text),
            }
        }
    }

    fn hear_asset(&mut self, now: Now, exchange: &mut Exchange, owner: OwnerId, event: AssetEvent) {
        match (self.owners.get(&owner), event) {
            (Some(&Owned::Stream(key)), AssetEvent::Stream(event)) => {
                self.hear_stream(now, exchange, key, event);
            }
            // It was deleted meanwhile.
            _ => {}
        }
    }

    fn hear_stream(&mut self, now: Now, exchange: &mut Exchange, key: usize, event: StoreEvent) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        match event {
            StoreEvent::Applied(_, outcome) => {
                if let Some(machine) = &mut stream.machine {
                    machine.applied(&mut self.out, outcome);
                    self.line_up(Turn::Stream(key));
                    self.follow_up(now, exchange, key);
                }
            }
            StoreEvent::Ready => self.opened(now, exchange, key),
            StoreEvent::Removed(_) => {}
            StoreEvent::Loaded { .. } => self.line_up(Turn::Stream(key)),
            StoreEvent::Read(id, result) => {
                if let Backing::File(reads) = &mut stream.backing
                    && let Some(error) = reads.was_read(id, result)
                {
                    let name = &stream.config.name;
                    self.notices.push_back(Notice::Error(format!("JetStream stream {name:?}: {error}")));
                }
                self.line_up(Turn::Stream(key));
            }
            StoreEvent::Files(event) => self.hear_files(now, exchange, key, event),
        }
    }

    fn opened(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.phase = Phase::Running;
        let _ = (now, exchange);
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
            Event::Damaged { number, damage } => format!("{name}: block {number} is damaged: {damage:?}"),
            Event::Lost { first, last } => format!("{name}: messages {first} to {last} are lost"),
            Event::TornTail { number, bytes } => {
                let text = format!(
                    "{name}: block {number}: the last {bytes} bytes were being written; they are written again"
                );
                return self.notices.push_back(Notice::Info(text));
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
                format!("{name}: {failure}")
            }
            _ => return,
        };
        self.notices.push_back(Notice::Error(text));
    }

    /// Nothing more is stored: whoever waits is told so.
    fn stores_failed(&mut self, now: Now, exchange: &mut Exchange, reason: String) {
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
        self.notices.push_back(Notice::Fatal(reason));
    }
}
