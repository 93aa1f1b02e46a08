//! Messages for another shard: copied once from where they were read, large payloads shared.

use std::sync::Arc;

use super::Message;
use super::Payload;
use crate::connection::ClientDescription;
use crate::connection::chunk::Chunk;
use crate::ids::ConnId;

/// What a message costs the shard that gets it, beyond its bytes.
const MESSAGE_WEIGHT: usize = 64;

/// Bytes that a batch has room for at first: a few small messages.
const FIRST_ROOM: usize = 256;

/// Messages for one shard, oldest first.
#[derive(Debug, Default)]
pub struct Batch {
    /// Subjects, replies, queue names and small payloads, one after the other, as the entries' lengths cut them.
    bytes: Vec<u8>,
    entries: Vec<Entry>,
    weight: usize,
}

#[derive(Clone, Debug)]
struct Entry {
    head: Head,
    subject: u32,
    /// Zero for that no other subject is shown.
    shown: u32,
    reply: u32,
    queues: u32,
    header: u32,
    /// Length in `bytes`; zero if the payload is `large`.
    payload: u32,
    large: Option<Chunk>,
    client: Option<Arc<ClientDescription>>,
}

/// Who published a message of a [`Batch`], and whom it is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    /// The publisher, a connection of the shard that sent the batch.
    pub(crate) origin: ConnId,
    /// Index of the account in which to match.
    pub(crate) account: u32,
    /// Whether subscriptions without a queue get it.
    pub(crate) plain: bool,
    /// Shards that a queue message has been to in vain, one bit each.
    pub(crate) tried: u64,
    /// What the publisher is to be told if nobody is reached.
    pub(crate) request: Request,
}

/// Whether somebody waits to hear that nobody was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Request {
    /// Nobody does.
    #[default]
    No,
    /// The publisher does, and only this shard can have an answer.
    Sole,
    /// The publisher does; the number names its request, which went to several shards.
    Shared(u64),
}

/// One message of a [`Batch`].
#[derive(Debug)]
pub(crate) struct Delivery<'a> {
    pub(crate) head: Head,
    pub(crate) message: Message<'a>,
    /// The publisher in words, where somebody may want to tell who it was.
    pub(crate) client: Option<&'a Arc<ClientDescription>>,
    queues: &'a [u8],
}

impl<'a> Delivery<'a> {
    /// Returns the names of the queue groups to be served.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let mut rest = self.queues;
        std::iter::from_fn(move || {
            let (len, more) = rest.split_first_chunk::<4>()?;
            let (name, more) = more.split_at(u32::from_le_bytes(*len) as usize);
            rest = more;
            Some(name)
        })
    }
}

impl Batch {
    /// Adds a message for the plain subscriptions, if `head` says so, and for `queues`.
    pub(crate) fn push<'q>(
        &mut self,
        head: Head,
        message: &Message<'_>,
        queues: impl Iterator<Item = &'q [u8]>,
    ) {
        let len = |n: usize| u32::try_from(n).expect("a part of a message is shorter than 4 GiB");
        let small = match message.payload {
            Payload::Small(bytes) => bytes.len(),
            Payload::Large(_) => 0,
        };
        let shown = message.shown.unwrap_or_default();
        let room = message.subject.len() + shown.len() + message.reply.len() + small;
        self.bytes.reserve(if self.is_empty() { room.max(FIRST_ROOM) } else { room });
        self.bytes.extend_from_slice(message.subject);
        self.bytes.extend_from_slice(shown);
        self.bytes.extend_from_slice(message.reply);
        let names_at = self.bytes.len();
        for name in queues {
            self.bytes.extend_from_slice(&len(name.len()).to_le_bytes());
            self.bytes.extend_from_slice(name);
        }
        let names = self.bytes.len() - names_at;
        let (payload, large) = match message.payload {
            Payload::Small(bytes) => {
                self.bytes.extend_from_slice(bytes);
                (bytes.len(), None)
            }
            Payload::Large(chunk) => (0, Some(chunk.clone())),
        };
        self.weight += MESSAGE_WEIGHT + message.payload.bytes().len();
        self.entries.push(Entry {
            head,
            subject: len(message.subject.len()),
            shown: len(shown.len()),
            reply: len(message.reply.len()),
            queues: len(names),
            header: len(message.header_len),
            payload: len(payload),
            large,
            client: None,
        });
    }

    /// Says who published the last message.
    pub(crate) fn describe_last(&mut self, client: &Arc<ClientDescription>) {
        if let Some(entry) = self.entries.last_mut() {
            entry.client = Some(Arc::clone(client));
        }
    }

    /// Returns the bytes that the sender is owed for it.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    /// Returns the number of messages.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Tells whether there is no message.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns the messages, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Delivery<'_>> {
        let mut rest = &self.bytes[..];
        self.entries.iter().map(move |entry| {
            let mut cut = |n: u32| {
                let (part, more) = rest.split_at(n as usize);
                rest = more;
                part
            };
            let (subject, shown) = (cut(entry.subject), cut(entry.shown));
            let (reply, queues) = (cut(entry.reply), cut(entry.queues));
            let shown = (!shown.is_empty()).then_some(shown);
            let copied = cut(entry.payload);
            let payload = entry.large.as_ref().map_or(Payload::Small(copied), Payload::Large);
            let message = Message { subject, shown, reply, header_len: entry.header as usize, payload };
            Delivery { head: entry.head, message, client: entry.client.as_ref(), queues }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let head = Head {
            origin: ConnId { slot: 3, generation: 1 },
            account: 1,
            plain: true,
            tried: 0,
            request: Request::Shared(9),
        };
        let chunk = Chunk::new(Arc::new(b"..large\r\n".to_vec()), 2, 9);
        let small = Message {
            subject: b"a.b",
            shown: Some(b"x.y"),
            reply: b"r",
            header_len: 2,
            payload: Payload::Small(b"h.small\r\n"),
        };
        let large = Message {
            subject: b"c",
            shown: None,
            reply: b"",
            header_len: 0,
            payload: Payload::Large(&chunk),
        };
        let mut batch = Batch::default();
        batch.push(head, &small, [&b"q1"[..], b""].into_iter());
        batch.push(Head { plain: false, ..head }, &large, std::iter::empty());

        let all: Vec<_> = batch
            .iter()
            .map(|delivery| {
                let Message { subject, shown, reply, header_len, payload } = delivery.message;
                let subject = (subject, shown);
                let queues: Vec<_> = delivery.queues().collect();
                (subject, reply, header_len, payload.bytes(), queues, delivery.head.plain)
            })
            .collect();
        assert_eq!(
            all,
            [
                (
                    (&b"a.b"[..], Some(&b"x.y"[..])),
                    &b"r"[..],
                    2,
                    &b"h.small\r\n"[..],
                    vec![&b"q1"[..], b""],
                    true
                ),
                ((b"c", None), b"", 0, b"large\r\n", vec![], false),
            ]
        );
        assert_eq!(batch.weight(), 2 * MESSAGE_WEIGHT + 9 + 7);
    }
}
