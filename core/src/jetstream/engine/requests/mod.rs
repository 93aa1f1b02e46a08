//! Requests of `$JS.API`: which they are, what comes before each, and how they are answered.
//!
//! A request is answered at once, or when what it changed is durable, or when what it asks was read. Until then it is an
//! [`Asked`] in somebody's hands, and in one hand only: so each is answered once.

mod account;
mod consumers;
mod home;
mod streams;
mod tasks;

use std::sync::Arc;

use bytes::Bytes;

pub(super) use tasks::{Listing, Task};

use super::said::{EngineId, Said};
use super::{Exchange, JetStream};
use crate::connection::ClientDescription;
use crate::delivery::Arrived;
use crate::ids::ConnId;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::level;
use crate::jetstream::api::request::MessageGetRequest;
use crate::jetstream::api::response::{
    self, Body, ConsumerDeleteBody, ConsumerLeaderStepDownBody, MessageGetBody, StreamCancelMoveBody,
    StreamDeleteBody, StreamEvacuatePeerBody, StreamLeaderStepDownBody, StreamRemovePeerBody, SystemBody,
};
use crate::jetstream::api::subject::ApiSubject;
use crate::jetstream::context::Outgoing;
use crate::jetstream::stream::DirectGet;
use crate::time::Now;

/// A request that is to be answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(super) account: u32,
    /// Who asked: a connection of this shard, or in words.
    pub(super) origin: ConnId,
    pub(super) client: Option<Arc<ClientDescription>>,
    pub(super) subject: Bytes,
    pub(super) reply: Bytes,
    pub(super) headers: Bytes,
    pub(super) body: Bytes,
}

impl From<Arrived> for Asked {
    fn from(message: Arrived) -> Self {
        let Arrived { account, origin, client, subject, reply, headers, payload, .. } = message;
        Asked { account, origin, client, subject, reply, headers, body: payload }
    }
}

/// What a direct get sends at most where it doesn't say: what a connection may have pending by default.
///
/// Differs: the reference takes the server's `max_pending`.
const DIRECT_BYTES: u64 = 64 << 20;

/// Says what a direct get asks for. The request was checked.
pub(super) fn direct(request: &MessageGetRequest, reply: Bytes) -> DirectGet {
    DirectGet::of(request, reply, DIRECT_BYTES)
}

/// Returns the stream that a request is about, if the stream's own engine deals with it.
fn stream_of<'a>(subject: &ApiSubject<'a>) -> Option<&'a str> {
    match *subject {
        ApiSubject::StreamInfo { stream }
        | ApiSubject::StreamPurge { stream }
        | ApiSubject::StreamSnapshot { stream }
        | ApiSubject::MessageGet { stream }
        | ApiSubject::MessageDelete { stream }
        | ApiSubject::ConsumerCreate { stream, .. }
        | ApiSubject::ConsumerNames { stream }
        | ApiSubject::ConsumerList { stream }
        | ApiSubject::ConsumerInfo { stream, .. }
        | ApiSubject::ConsumerDelete { stream, .. }
        | ApiSubject::ConsumerPause { stream, .. }
        | ApiSubject::ConsumerUnpin { stream, .. }
        | ApiSubject::ConsumerReset { stream, .. } => Some(stream),
        _ => None,
    }
}

impl JetStream {
    /// Says that something is no more.
    pub(super) fn answer_deleted(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked) {
        match ApiSubject::parse(&asked.subject) {
            Some(ApiSubject::ConsumerDelete { .. }) => {
                self.respond(now, exchange, asked, &Ok(ConsumerDeleteBody { success: true }));
            }
            _ => self.respond(now, exchange, asked, &Ok(StreamDeleteBody { success: true })),
        }
    }

    /// Deals with a request, or passes it on to the engine that can.
    pub(super) fn request(&mut self, now: Now, exchange: &mut Exchange, asked: Asked) {
        if !self.knows_all() {
            if self.held_requests.len() < self.request_queue_limit {
                self.held_requests.push_back(asked);
            }
            return;
        }
        let subject = asked.subject.clone();
        // What is no request is heard by nobody, as in the reference.
        let Some(subject) = ApiSubject::parse(&subject) else { return };
        let to = self.engine_for(&asked, &subject);
        if to == self.id {
            return self.request_here(now, exchange, asked);
        }
        let asked = self.sendable(exchange, &asked);
        self.say(now, exchange, to, Said::Request(asked));
    }

    /// Returns the engine that deals with a request: that of the stream it is about, the home engine with all others.
    fn engine_for(&self, asked: &Asked, subject: &ApiSubject<'_>) -> EngineId {
        let Some(stream) = stream_of(subject).filter(|_| Some(asked.account) != self.system) else {
            return EngineId::HOME;
        };
        if self.accounts[asked.account as usize].streams.contains_key(stream) {
            return self.id;
        }
        let found = self.home.as_ref().and_then(|directory| directory.find(asked.account, stream));
        found.map_or(EngineId::HOME, |entry| entry.engine)
    }

    /// Deals with a request that is this engine's, or about a stream that there isn't.
    pub(super) fn request_here(&mut self, now: Now, exchange: &mut Exchange, asked: Asked) {
        let subject = asked.subject.clone();
        let Some(subject) = ApiSubject::parse(&subject) else { return };
        if Some(asked.account) == self.system && subject != ApiSubject::AccountInfo {
            return self.system_request(now, exchange, subject, &asked);
        }
        match subject {
            ApiSubject::AccountInfo => self.account_info(now, exchange, &asked),
            ApiSubject::StreamCreate { stream } => self.stream_create(now, exchange, stream, &asked),
            ApiSubject::StreamUpdate { stream } => self.stream_update(now, exchange, stream, &asked),
            ApiSubject::StreamNames => self.stream_names(now, exchange, &asked),
            ApiSubject::StreamList => self.stream_list(now, exchange, &asked),
            ApiSubject::StreamInfo { stream } => self.stream_info(now, exchange, stream, asked),
            ApiSubject::StreamDelete { stream } => self.stream_delete(now, exchange, stream, &asked),
            ApiSubject::StreamPurge { stream } => self.stream_purge(now, exchange, stream, asked),
            ApiSubject::MessageDelete { stream } => self.message_delete(now, exchange, stream, asked),
            ApiSubject::MessageGet { stream } => self.message_get(now, exchange, stream, asked),
            ApiSubject::ConsumerCreate { form, stream, consumer, filter } => {
                self.consumer_create(now, exchange, (form, stream, consumer, filter), &asked);
            }
            ApiSubject::ConsumerNames { stream } => self.consumer_names(now, exchange, stream, &asked),
            ApiSubject::ConsumerList { stream } => self.consumer_list(now, exchange, stream, asked),
            ApiSubject::ConsumerInfo { stream, consumer } => {
                self.consumer_info(now, exchange, stream, consumer, asked);
            }
            ApiSubject::ConsumerDelete { stream, consumer } => {
                self.consumer_delete(now, exchange, stream, consumer, &asked);
            }
            ApiSubject::ConsumerPause { stream, consumer } => {
                self.consumer_pause(now, exchange, stream, consumer, &asked);
            }
            ApiSubject::ConsumerUnpin { stream, consumer } => {
                self.consumer_unpin(now, exchange, stream, consumer, &asked);
            }
            ApiSubject::ConsumerReset { stream, consumer } => {
                self.consumer_reset(now, exchange, stream, consumer, asked);
            }
            ApiSubject::StreamSnapshot { stream } => self.stream_snapshot(now, exchange, stream, asked),
            ApiSubject::StreamRestore { stream } => self.stream_restore(now, exchange, stream, &asked),
            // Each consumer listens for its own; these reach here where there is no such consumer.
            ApiSubject::MessageNext { .. } | ApiSubject::DirectGet { .. } => {}
            subject => self.refuse(now, exchange, subject, &asked),
        }
    }

    /// Deals with a request of the system account.
    fn system_request(&mut self, now: Now, exchange: &mut Exchange, subject: ApiSubject<'_>, asked: &Asked) {
        match subject {
            ApiSubject::AccountPurge { account } => {
                self.account_purge(now, exchange, account, asked);
            }
            // Only servers of a cluster have anything to do there.
            subject if subject.is_for_system_account() => {}
            _ => {
                let error = ErrorKind::NotEnabledForAccount.error();
                self.respond_error::<SystemBody>(now, exchange, asked, error);
            }
        }
    }

    /// Refuses what only servers of a cluster can do.
    fn refuse(&mut self, now: Now, exchange: &mut Exchange, subject: ApiSubject<'_>, asked: &Asked) {
        let cluster = ErrorKind::ClusterRequired.error();
        match subject {
            ApiSubject::StreamPeerRemove { .. } => {
                self.respond_error::<StreamRemovePeerBody>(now, exchange, asked, cluster);
            }
            ApiSubject::StreamPeerEvacuate { .. } => {
                self.respond_error::<StreamEvacuatePeerBody>(now, exchange, asked, cluster);
            }
            ApiSubject::StreamCancelMove { .. } => {
                self.respond_error::<StreamCancelMoveBody>(now, exchange, asked, cluster);
            }
            ApiSubject::StreamLeaderStepDown { .. } => {
                self.respond_error::<StreamLeaderStepDownBody>(now, exchange, asked, cluster);
            }
            ApiSubject::ConsumerLeaderStepDown { .. } => {
                self.respond_error::<ConsumerLeaderStepDownBody>(now, exchange, asked, cluster);
            }
            // The rest is for the system account, which has no streams.
            _ => {}
        }
    }

    /// Checks what is checked of every request.
    pub(super) fn admit(&self, asked: &Asked) -> Result<(), ApiError> {
        if level::requires_too_much(&asked.headers) {
            return Err(ErrorKind::RequiredApiLevel.error());
        }
        match self.accounts[asked.account as usize].limits {
            Some(_) => Ok(()),
            None => Err(ErrorKind::NotEnabledForAccount.error()),
        }
    }

    /// Answers a request.
    pub(super) fn respond<B: Body>(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        asked: &Asked,
        result: &Result<B, ApiError>,
    ) {
        let json = match result {
            Ok(body) => response::answer(body),
            Err(error) => {
                self.accounts[asked.account as usize].api_errors += 1;
                response::refusal::<B>(error)
            }
        };
        // Who is given a message isn't told of, as in the reference.
        let silent = result.is_ok() && B::TYPE == MessageGetBody::TYPE;
        let json = Bytes::from(json);
        self.answer(now, exchange, asked, json.clone());
        if !silent {
            self.audit(now, exchange, asked, &json);
        }
    }

    /// Answers a request whose answer is refused if there is an error, and comes later if there is none.
    pub(super) fn respond_error<B: Body>(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        asked: &Asked,
        error: ApiError,
    ) {
        self.respond::<B>(now, exchange, asked, &Err(error));
    }

    /// Sends an answer that is written already.
    pub(super) fn answer(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked, json: Bytes) {
        let account = &mut self.accounts[asked.account as usize];
        account.api_total += 1;
        if asked.reply.is_empty() {
            return;
        }
        let outgoing = Outgoing { to: asked.reply.clone(), payload: json, ..Outgoing::default() };
        exchange.publish_own(now.instant, asked.account, &outgoing);
    }

    /// Returns the stream of a name, by its key.
    pub(super) fn find_stream(&self, account: u32, name: &str) -> Result<usize, ApiError> {
        let found = self.accounts[account as usize].streams.get(name).copied();
        found.ok_or_else(|| ErrorKind::StreamNotFound.error())
    }

    /// Returns the consumer of a name, by its key.
    pub(super) fn find_consumer(&self, account: u32, stream: &str, name: &str) -> Result<usize, ApiError> {
        let stream = self.find_stream(account, stream)?;
        let found = self.streams[stream].consumers.get(name).copied();
        found.ok_or_else(|| ErrorKind::ConsumerNotFound.error())
    }
}
