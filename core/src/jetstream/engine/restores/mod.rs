//! Restores under way: a backup comes in chunks, and becomes a stream when it is whole.
//!
//! Until then the stream is *staged*: its messages and its consumers' states are in the journal and in files under owners that the
//! catalogue doesn't have, so nobody sees anything of it, and a start after a crash removes it as a leftover. When the backup has
//! said that it is whole, its sender has said that there is no more, and everything is applied, the catalogue is told of the
//! consumers, then of the stream: with that entry, and not before, the stream is there.
//!
//! A restore that fails is taken apart at once, and its sender is told when he is done, as in the reference. Its name is taken
//! until then.
//!
//! Differs: the reference makes the stream when the backup begins, and leaves what it has of a backup that breaks off.
//!
//! ```text
//! mod      what comes from outside, and when it is over
//! staging  what a backup says, as entries of the staged stream
//! finish   from the staged stream to one that is there, or back to nothing
//! ```
//!
//! Source: nats-server `server/jetstream_api.go`, `jsStreamRestoreRequest` and `processStreamRestore`;
//! `server/stream_backup.go`, `RestoreStreamV2`.

mod finish;
mod staging;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::requests::Asked;
use super::said::{Admission, Order, Standing};
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Service};
use crate::delivery::Arrived;
use crate::jetstream::api::advisory::{ClientInfo, RestoreCreated, Topic};
use crate::jetstream::api::backup::BackupState;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::response::StreamRestoreBody;
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::backup::{BackupReader, Limits};
use crate::jetstream::context::Outgoing;
use crate::storage::{OwnerId, Position};
use crate::time::{Duration, Instant, Now, WallTime};
use staging::{Proposal, RestoredConsumer, Staged};

/// How long a sender may be silent.
const SILENCE: Duration = Duration::from_secs(5);
/// How many bytes of chunks wait for one restore: those of a sender who sends more without waiting for answers aren't taken.
///
/// Differs: in the reference they wait in the memory of the sender's connection.
const WAITING: usize = 64 << 20;
/// How many messages one step deals with.
const STEP: usize = 256;

/// A restore under way.
#[derive(Debug)]
pub(super) struct Restore {
    account: u32,
    name: String,
    order: Order,
    admission: Admission,
    client: Option<ClientInfo>,
    started: WallTime,
    /// The subscription to the chunks.
    service: u32,
    config: Arc<StreamConfig>,
    owner: OwnerId,
    staged: Staged,
    reader: BackupReader,
    stage: Stage,
    /// Chunks that weren't looked at yet, with where they are answered; and how many bytes they are.
    chunks: VecDeque<(Bytes, Bytes)>,
    waiting: usize,
    /// Where the chunk is answered that is being read, and how long it is.
    reading: Option<(Bytes, usize)>,
    /// How many bytes of the backup were taken.
    taken: u64,
    /// Where the end is answered, once it has come.
    finish: Option<Bytes>,
    state: BackupState,
    consumers: Vec<RestoredConsumer>,
    /// What is to be proposed, in this order.
    todo: VecDeque<Proposal>,
    /// The last sequence that was used.
    last: u64,
    /// How many bytes its messages take of what its account and the server have.
    bytes: u64,
    proposed: Position,
    applied: Position,
    /// When something came last, or was dealt with.
    active_at: Instant,
    pub(super) queued: bool,
    pub(super) deadline: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Stage {
    /// The backup is being read.
    Reading,
    /// It is whole: what was proposed is to be applied, and its sender to say that there is no more.
    Whole,
    /// The catalogue is told, of the consumers before this one so far.
    Recording(usize),
    /// The catalogue knows, but not durably.
    Recorded,
    /// It can't become a stream. Nothing of it is left.
    Failed(ApiError),
}

impl JetStream {
    /// Begins a restore that was decided, and says where the backup is to be sent.
    pub(super) fn begin_restore(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        order: Order,
        asked: &Asked,
        config: Arc<StreamConfig>,
        admission: Admission,
    ) {
        let begun = self.try_restore(now, exchange, &order, asked, config, admission);
        if begun.is_err() {
            self.settle(now, exchange, order, Standing::Gone);
        }
        self.respond(now, exchange, asked, &begun);
    }

    fn try_restore(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        order: &Order,
        asked: &Asked,
        config: Arc<StreamConfig>,
        admission: Admission,
    ) -> Result<StreamRestoreBody, ApiError> {
        let (account, name) = (asked.account, config.name.clone());
        let deliver_subject = format!("$JS.SNAPSHOT.RESTORE.{name}.{}", self.nuid.next_string());
        let service = exchange.serve(account, deliver_subject.as_bytes()).map_err(|error| {
            ErrorKind::RestoreSubscribeFailed.with_all(&[&deliver_subject, &format_args!("{error}")])
        })?;
        let place = format!("'{} > {name}'", self.accounts[account as usize].name);
        self.notices.push_back(Notice::Info(format!("Starting restore for stream {place}")));
        let client = self.client_info(exchange, asked);
        let domain = self.domain.clone();
        let event = RestoreCreated { stream: &name, client: &client, domain: &domain };
        self.advise(now, exchange, (account, Topic::RestoreCreated, &[&name]), &event);
        let limits = Limits {
            max_payload: self.max_payload,
            max_message_size: u64::try_from(config.max_message_size).ok().filter(|size| *size > 0),
        };
        let owner = self.new_owner();
        let key = self.restores.insert(Restore {
            account,
            name,
            order: order.clone(),
            admission,
            client,
            started: now.wall,
            service,
            config,
            owner,
            staged: Staged::Nothing,
            reader: BackupReader::new(limits),
            stage: Stage::Reading,
            chunks: VecDeque::new(),
            waiting: 0,
            reading: None,
            taken: 0,
            finish: None,
            state: BackupState::default(),
            consumers: Vec::new(),
            todo: VecDeque::new(),
            last: 0,
            bytes: 0,
            proposed: Position::default(),
            applied: Position::default(),
            active_at: now.instant,
            queued: false,
            deadline: None,
        });
        self.services.insert(service, Service::Restore(key));
        self.line_up(Turn::Restore(key));
        Ok(StreamRestoreBody { deliver_subject })
    }

    /// Takes a chunk of a backup.
    pub(super) fn restore_chunk(&mut self, now: Now, exchange: &mut Exchange, key: usize, chunk: &Arrived) {
        let Some(restore) = self.restores.get_mut(key) else { return };
        let (reply, payload) = (chunk.reply.clone(), chunk.payload.clone());
        if restore.finish.is_some() {
            return;
        }
        if reply.is_empty() {
            // There is nobody to be told.
            let place = format!("'{} > {}'", self.accounts[restore.account as usize].name, restore.name);
            let text = format!("restore for stream {place} requires reply subject for each chunk");
            self.notices.push_back(Notice::Warning(text.clone()));
            self.fail_restore(now, exchange, key, ErrorKind::StreamRestore.with(text));
            return self.end_restore(now, exchange, key);
        }
        restore.active_at = now.instant;
        if payload.is_empty() {
            restore.finish = Some(reply);
        } else if restore.waiting + payload.len() <= WAITING {
            restore.waiting += payload.len();
            restore.chunks.push_back((reply, payload));
        } else {
            let text = "chunks came faster than they were answered";
            self.fail_restore(now, exchange, key, ErrorKind::StreamRestore.with(text));
        }
        self.line_up(Turn::Restore(key));
    }

    /// Restores that wait for the disk, or for the journal, look again.
    pub(super) fn wake_restores(&mut self) {
        let keys: Vec<usize> = self.restores.iter().map(|(key, _)| key).collect();
        keys.into_iter().for_each(|key| self.line_up(Turn::Restore(key)));
    }

    pub(super) fn restore_turn(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(restore) = self.restores.get_mut(key) else { return };
        restore.queued = false;
        if restore.stage != Stage::Recorded
            && let Err(error) = self.note_staged(exchange, key)
        {
            self.fail_restore(now, exchange, key, error);
        }
        for _ in 0..STEP {
            match self.restore_step(now, exchange, key) {
                Ok(true) if self.restores.contains(key) => {}
                Ok(true) => return,
                Ok(false) => return self.watch_restore(now, exchange, key),
                Err(error) => self.fail_restore(now, exchange, key, error),
            }
        }
        self.line_up(Turn::Restore(key));
    }

    /// Does one thing of a restore. Returns whether there is more to be done now.
    fn restore_step(&mut self, now: Now, exchange: &mut Exchange, key: usize) -> Result<bool, ApiError> {
        let restore = &mut self.restores[key];
        if let Some(proposal) = restore.todo.pop_front() {
            return self.propose_restored(key, proposal);
        }
        let failed = |error: &dyn std::fmt::Display| ErrorKind::StreamRestore.with(error);
        match restore.stage {
            Stage::Reading => match restore.reader.poll().map_err(|error| failed(&error))? {
                Some(item) => self.restored_item(now, key, item).map(|()| true),
                None => {
                    self.answer_chunk(now, exchange, key);
                    let restore = &mut self.restores[key];
                    match restore.chunks.pop_front() {
                        Some((reply, chunk)) => {
                            restore.waiting -= chunk.len();
                            restore.reading = Some((reply, chunk.len()));
                            restore.reader.push(&chunk);
                            Ok(true)
                        }
                        None if restore.finish.is_some() => {
                            restore.reader.finish().map_err(|error| failed(&error))?;
                            Ok(true)
                        }
                        None => Ok(false),
                    }
                }
            },
            Stage::Whole | Stage::Failed(_) => {
                self.answer_chunk(now, exchange, key);
                let restore = &mut self.restores[key];
                if let Some((reply, chunk)) = restore.chunks.pop_front() {
                    // What comes behind the end is nobody's.
                    restore.waiting -= chunk.len();
                    restore.reading = Some((reply, chunk.len()));
                    return Ok(true);
                }
                match &restore.stage {
                    _ if restore.finish.is_none() => Ok(false),
                    Stage::Failed(_) => {
                        self.end_restore(now, exchange, key);
                        Ok(true)
                    }
                    _ if restore.applied < restore.proposed => Ok(false),
                    _ => {
                        restore.stage = Stage::Recording(0);
                        Ok(true)
                    }
                }
            }
            Stage::Recording(next) => self.record_restored(now, exchange, key, next),
            Stage::Recorded => Ok(false),
        }
    }

    /// Says that a chunk was taken.
    fn answer_chunk(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let restore = &mut self.restores[key];
        let Some((reply, length)) = restore.reading.take() else { return };
        restore.taken += length as u64;
        restore.active_at = now.instant;
        let outgoing = Outgoing { to: reply, ..Outgoing::default() };
        exchange.publish_own(now.instant, restore.account, &outgoing);
    }

    /// Gives a restore up whose sender is silent, or looks again when he has been for too long.
    fn watch_restore(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(restore) = self.restores.get_mut(key) else { return };
        let due = restore.active_at + SILENCE;
        let waits_for_sender =
            restore.finish.is_none() && restore.reading.is_none() && restore.todo.is_empty();
        if let Some(old) = restore.deadline.take() {
            self.deadlines.remove(&(old, Turn::Restore(key)));
        }
        if !waits_for_sender {
            return;
        }
        if now.instant < due {
            restore.deadline = Some(due);
            self.deadlines.insert((due, Turn::Restore(key)));
            return;
        }
        let place = format!("'{} > {}'", self.accounts[restore.account as usize].name, restore.name);
        self.notices.push_back(Notice::Warning(format!("restore for stream {place} is stalled")));
        self.fail_restore(now, exchange, key, ErrorKind::StreamRestore.with("stalled"));
        // As in the reference, nobody is told.
        self.drop_restore(now, exchange, key, Standing::Gone);
    }
}
