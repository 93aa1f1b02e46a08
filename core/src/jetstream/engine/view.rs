//! A stream's messages, as its machines read them: from memory, or from files that may have to be waited for.

use std::collections::{BTreeMap, VecDeque};

use super::asset::Asset;
use crate::jetstream::context::{Answer, Messages};
use crate::storage::file::{Fetch, ReadError, ReadId};
use crate::storage::ledger::Ledger;
use crate::storage::memory::MemoryStore;
use crate::storage::volume::Volume;
use crate::storage::{Lookup, Message, OwnerId};

/// How many messages that were read for somebody are kept until he asks again.
const ARRIVED: usize = 64;

/// The reads of one stream that are under way, and what came of those that weren't.
#[derive(Debug, Default)]
pub(super) struct Reads {
    /// By sequence, so that a message is read once however many ask for it.
    pending: BTreeMap<u64, ReadId>,
    /// Oldest first.
    arrived: VecDeque<(u64, Option<Message>)>,
}

impl Reads {
    /// Takes what came of a read; returns why the message can't be had, if it can't.
    pub(super) fn was_read(&mut self, id: ReadId, result: Result<Message, ReadError>) -> Option<ReadError> {
        let sequence =
            self.pending.iter().find(|(_, pending)| **pending == id).map(|(sequence, _)| *sequence)?;
        self.pending.remove(&sequence);
        if self.arrived.len() == ARRIVED {
            self.arrived.pop_front();
        }
        match result {
            Ok(message) => {
                self.arrived.push_back((sequence, Some(message)));
                None
            }
            Err(error) => {
                self.arrived.push_back((sequence, None));
                Some(error)
            }
        }
    }
}

/// The messages of a stream.
pub(super) enum View<'a> {
    Memory(&'a mut MemoryStore),
    File { volume: &'a mut Volume<Asset>, owner: OwnerId, reads: &'a mut Reads },
}

impl Messages for View<'_> {
    fn ask<T>(&mut self, mut question: impl FnMut(&mut Ledger) -> Lookup<T>) -> Answer<T> {
        match self {
            View::Memory(store) => Answer::Ready(store.ask(question)),
            View::File { volume, owner, .. } => {
                let asked = volume.with_store(*owner, |asset, disk| {
                    asset.stream().map(|store| store.ask(&mut question, disk))
                });
                match asked.flatten() {
                    Some(Ok(answer)) => Answer::Ready(answer),
                    Some(Err(_)) | None => Answer::Wait,
                }
            }
        }
    }

    fn load(&mut self, sequence: u64) -> Answer<Option<Message>> {
        let (volume, owner, reads) = match self {
            View::Memory(store) => return Answer::Ready(store.load(sequence)),
            View::File { volume, owner, reads } => (volume, *owner, reads),
        };
        if let Some(at) = reads.arrived.iter().position(|(arrived, _)| *arrived == sequence) {
            let message = reads.arrived.get(at).and_then(|(_, message)| message.clone());
            return Answer::Ready(message);
        }
        if reads.pending.contains_key(&sequence) {
            return Answer::Wait;
        }
        let loaded =
            volume.with_store(owner, |asset, disk| asset.stream().map(|store| store.load(sequence, disk)));
        match loaded.flatten() {
            Some(Ok(None)) => Answer::Ready(None),
            Some(Ok(Some(Fetch::Ready(result)))) => Answer::Ready(result.ok()),
            Some(Ok(Some(Fetch::Pending(id)))) => {
                reads.pending.insert(sequence, id);
                Answer::Wait
            }
            Some(Err(_)) | None => Answer::Wait,
        }
    }
}
