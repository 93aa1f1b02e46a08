//! Direct gets: messages sent as they are to who asked, one, several, or the last of many subjects.
//!
//! A get is a cursor that goes on where it was: it sends a bounded number of messages in one step, and waits for the disk in
//! between. What is sent of several subjects is what they had at one moment: all of it is read before any is sent, and
//! should one be gone before it is read, the whole is looked up again.
//!
//! Source: nats-server `server/stream.go`, `getDirectRequest` and `getDirectMulti`.

use std::collections::VecDeque;

use bytes::Bytes;

use super::super::api::request::MessageGetRequest;
use super::super::context::{Answer, Context, Messages, Outgoing};
use super::get::{Start, Which};
use super::publish::{Stop, ask};
use crate::protocol::headers;
use crate::storage::Message;
use crate::storage::ledger::{Filter, LedgerError};
use crate::subject::SubjectList;

/// The most subjects whose last messages are sent at once.
const MOST_SUBJECTS: usize = 1024;
/// How many messages are sent, or read, in one step.
const STEP: usize = 128;
/// How often the last messages of several subjects are looked up before it is given up that they hold still.
const TRIES: u32 = 16;

/// What to send.
#[derive(Debug)]
enum Selection {
    /// One message, or that and those behind it.
    From {
        /// The first.
        which: Which,
        /// How many; `None` for one, sent without saying what is behind it.
        batch: Option<u64>,
        /// Whether headers are left out.
        no_headers: bool,
    },
    /// The last message of each of several subjects.
    Last {
        /// The subjects, perhaps with wildcards.
        filters: Vec<Bytes>,
        /// Only those at or behind this sequence.
        from: u64,
        /// As it was at this sequence, or before this time; `None` for now.
        up_to: Option<Start>,
        /// The most messages; zero for no bound.
        batch: u64,
    },
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All was sent.
    Done,
    /// There is more to do at once.
    More,
    /// There is more to do when the disk has said something.
    Wait,
}

/// A direct get under way.
#[derive(Debug)]
pub struct DirectGet {
    reply: Bytes,
    max_bytes: u64,
    work: Work,
}

#[derive(Debug)]
enum Work {
    From(From),
    Last(Last),
}

/// Messages one behind the other.
#[derive(Debug)]
struct From {
    which: Which,
    batch: Option<u64>,
    no_headers: bool,
    /// The next sequence to look at, once it is known.
    next: Option<u64>,
    pending: u64,
    /// Through which sequence `pending` was counted.
    counted: u64,
    sent: u64,
    sent_bytes: u64,
    last: u64,
}

/// The last messages of several subjects.
#[derive(Debug)]
struct Last {
    filters: Vec<Bytes>,
    from: u64,
    up_to: Option<Start>,
    batch: u64,
    tries: u32,
    found: Option<Found>,
}

/// What was found, as it was at one moment.
#[derive(Debug)]
struct Found {
    /// The sequence that it was the last at.
    up_to: u64,
    /// What is to be read.
    sequences: VecDeque<u64>,
    messages: Vec<Message>,
    bytes: u64,
}

impl DirectGet {
    /// Begins to send `selection` to `reply`, no more than about `max_bytes`.
    fn new(selection: Selection, reply: Bytes, max_bytes: u64) -> Self {
        let work = match selection {
            Selection::From { which, batch, no_headers } => Work::From(From {
                which,
                batch,
                no_headers,
                next: None,
                pending: 0,
                counted: 0,
                sent: 0,
                sent_bytes: 0,
                last: 0,
            }),
            Selection::Last { filters, from, up_to, batch } => {
                Work::Last(Last { filters, from, up_to, batch, tries: 0, found: None })
            }
        };
        DirectGet { reply, max_bytes, work }
    }

    /// Begins what a request that makes sense asks for. Where it says nothing, no more than about `max_bytes` are sent.
    ///
    /// Source: nats-server `server/stream.go`: a negative batch is one without messages, a negative size one message.
    pub fn of(request: &MessageGetRequest, reply: Bytes, max_bytes: u64) -> Self {
        let most =
            if request.max_bytes == 0 { max_bytes } else { u64::try_from(request.max_bytes).unwrap_or(0) };
        let batch = u64::try_from(request.batch).unwrap_or(0);
        let selection = match request.multi_last.is_empty() {
            true => Selection::From {
                which: Which::of(request),
                batch: (request.batch != 0).then_some(batch),
                no_headers: request.no_headers,
            },
            false => Selection::Last {
                filters: request
                    .multi_last
                    .iter()
                    .map(|filter| Bytes::copy_from_slice(filter.as_bytes()))
                    .collect(),
                from: request.sequence,
                up_to: request.up_to_time.map(Start::Time).or(Some(Start::Sequence(request.up_to_sequence))),
                batch,
            },
        };
        DirectGet::new(selection, reply, most)
    }

    /// Goes on: `stream` is the name that messages are sent with.
    pub fn step<I>(
        &mut self,
        context: &mut Context<'_, I>,
        messages: &mut impl Messages,
        stream: &[u8],
    ) -> Progress {
        let mut sender = Sender { out: context.out, reply: &self.reply, stream };
        let done = match &mut self.work {
            Work::From(work) => work.step(messages, &mut sender, self.max_bytes),
            Work::Last(work) => {
                // Which subjects are asked for is made anew at each look-up: there is one, if nothing changes meanwhile.
                let keys = || context.rng.hash_keys();
                work.step(messages, keys, &mut sender, self.max_bytes)
            }
        };
        match done {
            Ok(true) => Progress::Done,
            Ok(false) => Progress::More,
            Err(_) => Progress::Wait,
        }
    }
}

impl From {
    fn step(
        &mut self,
        messages: &mut impl Messages,
        sender: &mut Sender<'_>,
        max_bytes: u64,
    ) -> Result<bool, Stop> {
        let mut next = match self.next {
            Some(next) => next,
            None => self.begin(messages)?,
        };
        let most = self.batch.unwrap_or(1);
        for _ in 0..STEP {
            if self.sent >= most || (self.sent > 0 && self.sent_bytes >= max_bytes) {
                return self.end(messages, sender).map(|()| true);
            }
            let filter = self.filter();
            let sequence = match (&self.which, self.batch) {
                (Which::At(_), None) => Some(next),
                (Which::Last(filter), _) => {
                    ask(messages, |ledger| ledger.previous(Filter::Subject(filter), u64::MAX - 1))?
                }
                _ => ask(messages, |ledger| ledger.next(Filter::Subject(&filter), next))?,
            };
            let message = match sequence.map(|sequence| messages.load(sequence)) {
                Some(Answer::Wait) => return Err(Stop::Disk),
                Some(Answer::Ready(message)) => message,
                None => None,
            };
            match (message, sequence) {
                (Some(message), _) => {
                    next = message.sequence + 1;
                    self.send(sender, message);
                }
                // One that is damaged is passed over where others follow.
                (None, Some(gone)) if self.batch.is_some() => next = gone + 1,
                (None, _) if self.sent > 0 => return self.end(messages, sender).map(|()| true),
                (None, _) => {
                    sender.status(404, "Message Not Found");
                    return Ok(true);
                }
            }
            self.next = Some(next);
        }
        Ok(false)
    }

    /// Finds out where to begin, and how much there is from there on.
    fn begin(&mut self, messages: &mut impl Messages) -> Result<u64, Stop> {
        let from = match &self.which {
            Which::At(start) | Which::Next { from: start, .. } => start.sequence(messages)?,
            Which::Last(_) => 0,
        };
        if self.batch.is_some() {
            let filter = self.filter();
            let pending = |ledger: &mut crate::storage::ledger::Ledger| {
                ledger.pending(Filter::Subject(&filter), from, false)
            };
            (self.pending, self.counted) = ask(messages, pending)?;
        }
        self.next = Some(from);
        Ok(from)
    }

    fn filter(&self) -> Bytes {
        if let Which::Next { filter, .. } = &self.which { filter.clone() } else { Bytes::new() }
    }

    fn send(&mut self, sender: &mut Sender<'_>, message: Message) {
        self.sent += 1;
        self.sent_bytes += size(&message);
        let sequence = message.sequence;
        if self.no_headers {
            sender.send(Bytes::new(), message.payload);
        } else {
            self.pending = self.pending.saturating_sub(1);
            let batch = self.batch.map(|_| (self.pending, self.last));
            sender.message(message, batch);
        }
        self.last = sequence;
    }

    fn end(&mut self, messages: &mut impl Messages, sender: &mut Sender<'_>) -> Result<(), Stop> {
        if self.batch.is_none() {
            return Ok(());
        }
        let (filter, next, counted) = (self.filter(), self.next.unwrap_or(0), self.counted);
        let recounted = ask(messages, |ledger| match ledger.last_sequence() > counted {
            true => ledger.pending(Filter::Subject(&filter), next, false).map(|(pending, _)| Some(pending)),
            false => Ok(None),
        })?;
        sender.end(recounted.unwrap_or(self.pending), self.last, None);
        Ok(())
    }
}

impl Last {
    fn step(
        &mut self,
        messages: &mut impl Messages,
        keys: impl FnMut() -> crate::rng::HashKeys,
        sender: &mut Sender<'_>,
        max_bytes: u64,
    ) -> Result<bool, Stop> {
        let mut found = match self.found.take() {
            Some(found) => found,
            None => match self.look_up(messages, keys)? {
                Ok(found) => found,
                Err((code, text)) => {
                    sender.status(code, text);
                    return Ok(true);
                }
            },
        };
        for _ in 0..STEP {
            let read = found.messages.len() as u64;
            let enough = (self.batch > 0 && read >= self.batch) || (read > 0 && found.bytes >= max_bytes);
            let Some(sequence) = found.sequences.front().copied().filter(|_| !enough) else {
                send_all(found, sender);
                return Ok(true);
            };
            match messages.load(sequence) {
                Answer::Wait => {
                    self.found = Some(found);
                    return Err(Stop::Disk);
                }
                Answer::Ready(Some(message)) => {
                    found.sequences.pop_front();
                    found.bytes += size(&message);
                    found.messages.push(message);
                }
                // Something else may be the last of its subject now.
                Answer::Ready(None) if self.tries < TRIES => {
                    self.tries += 1;
                    return Ok(false);
                }
                Answer::Ready(None) => {
                    sender.status(404, "Message Not Found");
                    return Ok(true);
                }
            }
        }
        self.found = Some(found);
        Ok(false)
    }

    /// Finds the sequences, or the status that is answered with.
    fn look_up(
        &self,
        messages: &mut impl Messages,
        mut keys: impl FnMut() -> crate::rng::HashKeys,
    ) -> Result<Result<Found, (u16, &'static str)>, Stop> {
        let nothing = (404, "No Results");
        let up_to = match self.up_to {
            Some(Start::Time(time)) => {
                let (behind, first) =
                    ask(messages, |ledger| Ok((ledger.sequence_from_time(time)?, ledger.first_sequence())))?;
                if behind <= first {
                    return Ok(Err(nothing));
                }
                behind - 1
            }
            Some(Start::Sequence(sequence)) if sequence > 0 => sequence,
            _ => ask(messages, |ledger| Ok(ledger.last_sequence()))?,
        };
        let mut list = SubjectList::new(keys());
        for filter in &self.filters {
            // One that is no subject matches nothing.
            let _ = list.insert(filter, ());
        }
        if up_to == 0 {
            return Ok(Err(nothing));
        }
        let sequences =
            ask(messages, |ledger| ledger.last_sequences(Filter::Any(&list), up_to, MOST_SUBJECTS))?;
        Ok(match sequences {
            Err(LedgerError::TooManyResults) => Err((413, "Too Many Results")),
            Err(_) => Err((500, "Internal Error")),
            Ok(sequences) if sequences.is_empty() => Err(nothing),
            Ok(sequences) => {
                let sequences = sequences.into_iter().filter(|sequence| *sequence >= self.from).collect();
                Ok(Found { up_to, sequences, messages: Vec::new(), bytes: 0 })
            }
        })
    }
}

/// Sends what was found, and says what wasn't sent.
fn send_all(found: Found, sender: &mut Sender<'_>) {
    let mut pending = (found.messages.len() + found.sequences.len()) as u64;
    let mut last = 0;
    for message in found.messages {
        pending -= 1;
        let sequence = message.sequence;
        sender.message(message, Some((pending, last)));
        last = sequence;
    }
    sender.end(pending, last, Some(found.up_to));
}

/// Returns what a message counts for in what may be sent.
fn size(message: &Message) -> u64 {
    (message.subject.len() + message.headers.len() + message.payload.len()) as u64
}

/// Where messages go.
struct Sender<'a> {
    out: &'a mut Vec<Outgoing>,
    reply: &'a Bytes,
    stream: &'a [u8],
}

impl Sender<'_> {
    fn send(&mut self, headers: Bytes, payload: Bytes) {
        self.out.push(Outgoing { to: self.reply.clone(), headers, payload, ..Outgoing::default() });
    }

    fn status(&mut self, code: u16, text: &str) {
        let mut block = Vec::new();
        headers::status(&mut block, code, text);
        self.send(block.into(), Bytes::new());
    }

    /// Sends a message; `batch` has what is pending behind it, and what was sent before it.
    fn message(&mut self, message: Message, batch: Option<(u64, u64)>) {
        let mut block = Vec::with_capacity(message.headers.len() + 160);
        block.extend_from_slice(&message.headers);
        let mut number = itoa::Buffer::new();
        headers::add(&mut block, b"Nats-Stream", self.stream);
        headers::add(&mut block, b"Nats-Subject", &message.subject);
        headers::add(&mut block, b"Nats-Sequence", number.format(message.sequence).as_bytes());
        headers::add(&mut block, b"Nats-Time-Stamp", message.time.to_string().as_bytes());
        if let Some((pending, last)) = batch {
            headers::add(&mut block, b"Nats-Num-Pending", number.format(pending).as_bytes());
            headers::add(&mut block, b"Nats-Last-Sequence", number.format(last).as_bytes());
        }
        self.send(block.into(), message.payload);
    }

    /// Ends a batch.
    fn end(&mut self, pending: u64, last: u64, up_to: Option<u64>) {
        let mut block = Vec::new();
        headers::status(&mut block, 204, "EOB");
        let mut number = itoa::Buffer::new();
        headers::add(&mut block, b"Nats-Num-Pending", number.format(pending).as_bytes());
        headers::add(&mut block, b"Nats-Last-Sequence", number.format(last).as_bytes());
        if let Some(up_to) = up_to {
            headers::add(&mut block, b"Nats-UpTo-Sequence", number.format(up_to).as_bytes());
        }
        self.send(block.into(), Bytes::new());
    }
}
