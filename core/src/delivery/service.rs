//! Subscriptions that belong to no connection: those of the shard's own machines.
//!
//! A machine subscribes like a connection does, so that other shards, and later other servers, reach it through
//! interest. What it gets waits in order until the shard hands it over, which is before its `handle` ends; what the machine
//! publishes goes the way of any message.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use slab::Slab;

use super::effects::Effect;
use super::publish::{Publication, Published};
use super::{Exchange, Message, Payload, Target};
use crate::connection::ClientDescription;
use crate::connection::chunk::Chunk;
use crate::ids::{ConnId, ShardId};
use crate::subject::SublistError;
use crate::time::Instant;

/// The publisher of what no connection published.
pub(crate) const NOBODY: ConnId = ConnId { slot: u32::MAX, generation: 0 };

/// How long the buffers are that messages share, in bytes.
const ROOM: usize = 64 << 10;

/// The queue group of the machines that share requests. No client can name it: it has a space.
pub(super) const SHARED: &[u8] = b" shared";

/// How many characters of each thing that a client says of itself are told of.
const MOST_SAID: usize = 256;

/// Tells whether a message is a request of which others are told who made it: one of the API, whether or
/// not it names a domain, but for those that only ask for messages, of which there are many.
pub(super) fn is_told_of(subject: &[u8]) -> bool {
    let Some(rest) = subject.strip_prefix(b"$JS.") else { return false };
    let domain = rest.iter().position(|byte| *byte == b'.').map(|at| &rest[at + 1..]);
    let named = domain.and_then(|rest| rest.strip_prefix(b"API."));
    let Some(request) = rest.strip_prefix(b"API.").or(named) else { return false };
    !request.starts_with(b"CONSUMER.MSG.NEXT.") && !request.starts_with(b"DIRECT.GET.")
}

/// A machine of this shard that has something to say to those of others, by a number of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Speaker(pub(crate) u16);

/// A subscription of a machine.
#[derive(Debug)]
struct Service {
    account: u32,
    subject: Box<[u8]>,
    /// What comes through it is soon forgotten.
    passing: bool,
    /// The group that it is a member of, if it is in one.
    queue: Option<&'static [u8]>,
}

/// A message for a machine of this shard.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    /// Through which subscription.
    pub(crate) service: u32,
    /// In which account.
    pub(crate) account: u32,
    /// Who published it, a connection of this shard, or [`NOBODY`].
    pub(crate) origin: ConnId,
    /// Who published it, if that was a client of another shard and it is a request that may be told of.
    pub(crate) client: Option<Arc<ClientDescription>>,
    pub(crate) subject: Bytes,
    /// Empty if there is none.
    pub(crate) reply: Bytes,
    /// Empty if there are none.
    pub(crate) headers: Bytes,
    pub(crate) payload: Bytes,
}

/// A message that a machine of this shard publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outgoing {
    /// The subject that subscriptions are matched with.
    pub to: Bytes,
    /// The subject that receivers are shown; empty for that they were matched with.
    pub subject: Bytes,
    /// Where answers go; empty for nowhere.
    pub reply: Bytes,
    /// A header block as it stands on the wire; empty for none.
    pub headers: Bytes,
    /// The payload.
    pub payload: Bytes,
}

/// The subscriptions of the shard's machines, and what has arrived for them.
#[derive(Debug, Default)]
pub(super) struct Services {
    subscriptions: Slab<Service>,
    arrived: VecDeque<Arrived>,
    /// Where messages that are soon forgotten stand one behind the other: memory of its own for each would be cold each time.
    room: BytesMut,
    /// In how many subjects of each account somebody wants to know whether there is interest.
    watched: Vec<u32>,
    /// Where interest came or went, in accounts that are watched.
    changed: Vec<(u32, Box<[u8]>)>,
    /// Who has something to say to a machine of this shard, oldest first.
    speakers: VecDeque<Speaker>,
}

impl Services {
    /// Notes that interest in a subject, perhaps with wildcards, came or went.
    pub(super) fn interest_changed(&mut self, account: u32, subject: &[u8]) {
        if self.watched.get(account as usize).is_some_and(|watched| *watched > 0) {
            self.changed.push((account, subject.into()));
        }
    }

    /// Takes a message: its parts are copied into one buffer, a large payload is shared.
    pub(super) fn arrive(
        &mut self,
        key: u32,
        message: &Message<'_>,
        origin: ConnId,
        client: Option<&Arc<ClientDescription>>,
    ) -> bool {
        let Some(service) = self.subscriptions.get(key as usize) else { return false };
        let body = match message.payload {
            Payload::Small(bytes) => &bytes[..bytes.len() - 2],
            Payload::Large(_) => &[],
        };
        let (subject, reply) = (message.subject, message.reply);
        let parts = [subject, reply, body];
        let mut rest = match service.passing {
            true => {
                let len = parts.iter().map(|part| part.len()).sum();
                if self.room.capacity() < len {
                    self.room = BytesMut::with_capacity(ROOM.max(len));
                }
                parts.iter().for_each(|part| self.room.extend_from_slice(part));
                self.room.split().freeze()
            }
            false => Bytes::from(parts.concat()),
        };
        let (subject, reply) = (rest.split_to(subject.len()), rest.split_to(reply.len()));
        let mut payload = match message.payload {
            Payload::Small(_) => rest,
            Payload::Large(chunk) => Bytes::from_owner(chunk.clone()).slice(..chunk.len() - 2),
        };
        let headers = payload.split_to(message.header_len);
        let account = service.account;
        let client = client.cloned();
        self.arrived.push_back(Arrived {
            service: key,
            account,
            origin,
            client,
            subject,
            reply,
            headers,
            payload,
        });
        true
    }
}

impl AsRef<[u8]> for Chunk {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Exchange {
    /// Subscribes a machine of this shard.
    ///
    /// # Errors
    ///
    /// [`SublistError`] if `subject` isn't one; nothing has changed then.
    pub(crate) fn serve(&mut self, account: u32, subject: &[u8]) -> Result<u32, SublistError> {
        self.serve_in(account, subject, None, false)
    }

    /// Subscribes a machine that keeps nothing of a message for long: a slice of one keeps others in memory.
    ///
    /// # Errors
    ///
    /// As of [`Exchange::serve`].
    pub(crate) fn serve_passing(&mut self, account: u32, subject: &[u8]) -> Result<u32, SublistError> {
        self.serve_in(account, subject, None, true)
    }

    /// Subscribes a machine of this shard as one of those, on all shards, of which one gets each request.
    ///
    /// With one shard there is nobody to share with, and it is a subscription like any other.
    pub(crate) fn serve_shared(&mut self, account: u32, subject: &[u8]) -> Result<u32, SublistError> {
        let queue = (self.shards > 1).then_some(SHARED);
        self.serve_in(account, subject, queue, false)
    }

    fn serve_in(
        &mut self,
        account: u32,
        subject: &[u8],
        queue: Option<&'static [u8]>,
        passing: bool,
    ) -> Result<u32, SublistError> {
        let entry = self.services.subscriptions.vacant_entry();
        let key = u32::try_from(entry.key()).expect("a shard has fewer than 2^32 subscriptions");
        self.accounts[account as usize].sublist.insert(subject, queue, Target::Service(key), 1)?;
        entry.insert(Service { account, subject: subject.into(), passing, queue });
        self.tell(account, subject, queue, 1);
        Ok(key)
    }

    /// Ends a machine's subscription. What has arrived through it and wasn't taken stays.
    pub(crate) fn serve_no_more(&mut self, key: u32) {
        let Some(Service { account, subject, queue, .. }) =
            self.services.subscriptions.try_remove(key as usize)
        else {
            return;
        };
        let sublist = &mut self.accounts[account as usize].sublist;
        let removed = sublist.remove(&subject, queue, Target::Service(key));
        debug_assert!(removed.is_ok(), "a subscription is in its account's sublist");
        self.tell(account, &subject, queue, -1);
    }

    /// Has changes of interest in an account told from now on, once more, or (`false`) once less.
    pub(crate) fn watch_interest(&mut self, account: u32, more: bool) {
        let watched = &mut self.services.watched;
        if watched.len() <= account as usize {
            watched.resize(account as usize + 1, 0);
        }
        let count = &mut watched[account as usize];
        *count = if more { *count + 1 } else { count.saturating_sub(1) };
    }

    /// Returns in which subjects, perhaps with wildcards, interest came or went since it was asked last.
    pub(crate) fn take_changed_interest(&mut self) -> Vec<(u32, Box<[u8]>)> {
        std::mem::take(&mut self.services.changed)
    }

    /// Returns the next message for a machine of this shard, oldest first.
    pub(crate) fn poll_arrived(&mut self) -> Option<Arrived> {
        self.services.arrived.pop_front()
    }

    /// Lets a machine say something to those of a shard, behind everything that was published and subscribed before.
    ///
    /// The machine keeps what it says until it is asked for it. When that is, is all that delivery knows of it.
    pub(crate) fn speak(&mut self, speaker: Speaker, to: ShardId) {
        match to == self.me {
            true => self.services.speakers.push_back(speaker),
            false => self.effects.elsewhere(Effect::Speak(to, speaker), false),
        }
    }

    /// Returns who is next to say something to a machine of this shard.
    pub(crate) fn poll_speaker(&mut self) -> Option<Speaker> {
        self.services.speakers.pop_front()
    }

    /// Returns the number of shards.
    pub(crate) fn shards(&self) -> u16 {
        self.shards
    }

    /// Tells whether something waits for a machine of this shard.
    pub(crate) fn has_arrived(&self) -> bool {
        !self.services.arrived.is_empty() || !self.services.speakers.is_empty()
    }

    /// Tells whether anybody would get a message published to `subject`.
    pub(crate) fn has_interest(&self, account: u32, subject: &[u8]) -> bool {
        self.accounts[account as usize].sublist.has_interest_uncached(subject)
    }

    /// Tells whether somebody subscribed to `subject` itself, as a member of `group` unless that is empty.
    pub(crate) fn has_subscriber(&self, account: u32, subject: &[u8], group: &[u8]) -> bool {
        let queue = Some(group).filter(|group| !group.is_empty());
        self.accounts[account as usize].sublist.is_subscribed(subject, queue)
    }

    /// Says in words who a connection of this shard is. Its own words are cut: they go with each of its requests.
    pub(crate) fn describe_client(&self, conn: ConnId) -> Option<ClientDescription> {
        let client = self.clients.get(conn)?;
        let cut = |text: &str| text.chars().take(MOST_SAID).collect();
        Some(ClientDescription {
            started: client.started,
            host: client.peer.ip().to_string(),
            id: client.cid,
            account: self.accounts[client.account as usize].name.to_string(),
            user: cut(&client.label.user),
            name: cut(&client.connect.name),
            language: cut(&client.connect.lang),
            version: cut(&client.connect.version),
            rtt: client.keepalive.as_ref().and_then(|keepalive| keepalive.round_trip()).unwrap_or_default(),
        })
    }

    /// Publishes what a machine of this shard says.
    pub(crate) fn publish_own(&mut self, now: Instant, account: u32, outgoing: &Outgoing) -> Published {
        self.publish_for(now, (account, NOBODY, None), outgoing)
    }

    /// Publishes what a machine of this shard says in the name of a client: a connection of this shard, or one in words.
    pub(crate) fn publish_for(
        &mut self,
        now: Instant,
        (account, conn, client): (u32, ConnId, Option<&Arc<ClientDescription>>),
        outgoing: &Outgoing,
    ) -> Published {
        let Outgoing { to, subject, reply, headers, payload } = outgoing;
        let mut body = Vec::with_capacity(headers.len() + payload.len() + 2);
        body.extend_from_slice(headers);
        body.extend_from_slice(payload);
        body.extend_from_slice(b"\r\n");
        let len = body.len();
        let chunk = (len >= crate::connection::outbound::SHARE_FROM)
            .then(|| Chunk::new(Arc::new(std::mem::take(&mut body)), 0, len));
        let message = Message {
            subject: to,
            shown: (!subject.is_empty()).then_some(&subject[..]),
            reply,
            header_len: headers.len(),
            payload: chunk.as_ref().map_or(Payload::Small(&body), Payload::Large),
        };
        let publication = Publication { conn, account, wants_no_responders: false };
        let published = self.publish_as(now, publication, client, &message);
        // Nobody is held: a consumer's own limits bound what waits for its client.
        self.hold = None;
        published
    }
}
