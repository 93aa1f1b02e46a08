//! Backups under way: a stream's consumers and messages are read, a bounded step at a time, and sent in chunks, of which only so
//! many are under way that their receiver hasn't answered.
//!
//! What the stream held when the backup began is in it, up to its last sequence then, without what is removed before the
//! backup gets there; what comes later isn't. A message that can't be read ends the backup with an error: it is never left out.
//!
//! Source: nats-server `server/jetstream_api.go`, `jsStreamSnapshotRequest` and `streamSnapshot`.

use bytes::Bytes;

use super::requests::{Asked, Task};
use super::turns::Turn;
use super::{Exchange, JetStream, Notice, Owned, Service};
use crate::config::format_duration;
use crate::jetstream::api::advisory::{ClientInfo, SnapshotCompleted, SnapshotCreated, Topic};
use crate::jetstream::api::backup::{ConsumerText, SnapshotRequest};
use crate::jetstream::api::error::ErrorKind;
use crate::jetstream::api::request::is_empty;
use crate::jetstream::api::response::{StreamInfo, StreamSnapshotBody, StreamState};
use crate::jetstream::api::write::to_json;
use crate::jetstream::backup::BackupWriter;
use crate::jetstream::context::{Answer, Messages, Outgoing};
use crate::protocol::headers;
use crate::storage::OwnerId;
use crate::storage::ledger::Filter;
use crate::subject::matches_literal;
use crate::time::{Duration, Instant, Now, WallTime};

/// How long a receiver may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long a backup waits for somebody to listen before it is sent all the same.
const INTEREST: Duration = Duration::from_secs(2);
/// How many backups one shard makes at a time. Each holds a chunk and what a block of the compression has, about 2 MiB.
///
/// Differs: the reference makes any number.
const MOST: usize = 64;
/// How many messages one step reads.
const STEP: usize = 32;
/// How many consumers one step reads.
const CONSUMERS: usize = 8;

/// A backup under way.
#[derive(Debug)]
pub(super) struct Snapshot {
    account: u32,
    stream: OwnerId,
    name: String,
    client: Option<ClientInfo>,
    deliver: Bytes,
    started: WallTime,
    state: StreamState,
    /// The consumers that are still to be read, the last first, and those that were.
    consumers: Vec<OwnerId>,
    collected: Vec<(String, Vec<u8>)>,
    stage: Stage,
    /// The next message, and the last one.
    next: u64,
    last: u64,
    writer: BackupWriter,
    chunk: usize,
    /// How many chunks may be sent before another is answered.
    window: usize,
    slots: usize,
    index: u64,
    /// What the subjects begin with on which chunks are answered, and the subscription to them.
    answers: String,
    service: u32,
    /// When it is given up, or sent without anybody who listens.
    due: Instant,
    /// Whether it waits for the disk.
    waits: bool,
    pub(super) queued: bool,
    pub(super) deadline: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nobody listens yet.
    Waiting,
    Consumers,
    Messages,
    /// Everything is in the writer.
    Written,
}

/// What came of reading on.
enum Read {
    More,
    Wait,
    Failed(String),
}

/// How a backup ends.
enum End {
    Whole,
    NoInterest,
    NoAnswer,
    Failed(String),
}

impl JetStream {
    pub(super) fn stream_snapshot(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let checked = self.admit(&asked).and_then(|()| {
            if is_empty(&asked.body) {
                return Err(ErrorKind::BadRequest.error());
            }
            let key = self.find_stream(asked.account, name)?;
            Ok((key, SnapshotRequest::parse(&asked.body, self.strict)?))
        });
        match checked {
            Ok((key, request)) => self.do_task(now, exchange, key, Task::Snapshot(asked, request)),
            Err(error) => self.respond_error::<StreamSnapshotBody>(now, exchange, &asked, error),
        }
    }

    /// Begins a backup of a stream that was described.
    pub(super) fn begin_snapshot(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        (asked, request): (&Asked, &SnapshotRequest),
        info: StreamInfo,
    ) {
        let answers = format!("$JS.SNAPSHOT.ACK.{}.{}", info.config.name, self.nuid.next_string());
        let service = match self.snapshots.len() < MOST {
            true => exchange.serve(asked.account, format!("{answers}.>").as_bytes()).ok(),
            false => None,
        };
        let Some(service) = service else {
            let error = ErrorKind::InsufficientResources.error();
            return self.respond_error::<StreamSnapshotBody>(now, exchange, asked, error);
        };
        let StreamInfo { config, state, .. } = info;
        let name = config.name.clone();
        let body = StreamSnapshotBody { config: Some(config), state: Some(state.clone()) };
        self.respond(now, exchange, asked, &Ok(body));
        let place = format!("'{} > {name}'", self.accounts[asked.account as usize].name);
        self.notices.push_back(Notice::Info(format!("Starting snapshot for stream {place}")));
        let client = self.client_info(exchange, asked);
        let domain = self.domain.clone();
        let event = SnapshotCreated { stream: &name, state: &state, client: &client, domain: &domain };
        self.advise(now, exchange, (asked.account, Topic::SnapshotCreated, &[&name]), &event);
        let mut consumers: Vec<OwnerId> = Vec::new();
        if !request.no_consumers {
            let keys = self.streams[key].consumers.values().rev();
            consumers.extend(keys.map(|key| self.consumers[*key].owner));
        }
        let deliver = Bytes::copy_from_slice(request.deliver_subject.as_bytes());
        exchange.watch_interest(asked.account, true);
        let snapshot = self.snapshots.insert(Snapshot {
            account: asked.account,
            stream: self.streams[key].owner,
            name,
            client,
            deliver,
            started: now.wall,
            consumers,
            collected: Vec::new(),
            stage: Stage::Waiting,
            next: state.first_sequence,
            last: state.last_sequence,
            state,
            writer: BackupWriter::default(),
            chunk: request.chunk_size(),
            window: request.window(),
            slots: request.window(),
            index: 0,
            answers,
            service,
            due: now.instant + INTEREST,
            waits: false,
            queued: false,
            deadline: None,
        });
        self.services.insert(service, Service::SnapshotAck(snapshot));
        self.line_up(Turn::Snapshot(snapshot));
    }

    /// A chunk was answered.
    pub(super) fn snapshot_answered(&mut self, key: usize) {
        let Some(snapshot) = self.snapshots.get_mut(key) else { return };
        snapshot.slots = (snapshot.slots + 1).min(snapshot.window);
        self.line_up(Turn::Snapshot(key));
    }

    /// Interest in a subject, perhaps with wildcards, came or went.
    pub(super) fn snapshots_hear_interest(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        account: u32,
        subject: &[u8],
    ) {
        let concerned =
            |snapshot: &Snapshot| snapshot.account == account && matches_literal(&snapshot.deliver, subject);
        let keys: Vec<usize> =
            self.snapshots.iter().filter(|(_, it)| concerned(it)).map(|(key, _)| key).collect();
        for key in keys {
            let snapshot = &self.snapshots[key];
            let listened = exchange.has_interest(account, &snapshot.deliver);
            match snapshot.stage {
                Stage::Waiting => self.line_up(Turn::Snapshot(key)),
                _ if !listened => self.end_snapshot(now, exchange, key, &End::NoInterest),
                _ => {}
            }
        }
    }

    /// The disk said something at a stream.
    pub(super) fn wake_snapshots(&mut self, stream: OwnerId) {
        let waits =
            |snapshot: &mut Snapshot| snapshot.stream == stream && std::mem::take(&mut snapshot.waits);
        let keys: Vec<usize> =
            self.snapshots.iter_mut().filter_map(|(key, it)| waits(it).then_some(key)).collect();
        keys.into_iter().for_each(|key| self.line_up(Turn::Snapshot(key)));
    }

    pub(super) fn snapshot_turn(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(snapshot) = self.snapshots.get_mut(key) else { return };
        snapshot.queued = false;
        for _ in 0..STEP {
            let snapshot = &mut self.snapshots[key];
            if snapshot.stage == Stage::Waiting {
                let listened = exchange.has_interest(snapshot.account, &snapshot.deliver);
                if !listened && now.instant < snapshot.due {
                    return self.wait_until_due(key);
                }
                (snapshot.stage, snapshot.due) = (Stage::Consumers, now.instant + ANSWER);
            }
            self.send_chunks(now, exchange, key);
            let snapshot = &self.snapshots[key];
            let (ready, whole) = (snapshot.writer.ready(), snapshot.stage == Stage::Written);
            if snapshot.slots == 0 && (whole || ready >= snapshot.chunk) {
                match now.instant < snapshot.due {
                    true => self.wait_until_due(key),
                    false => self.end_snapshot(now, exchange, key, &End::NoAnswer),
                }
                return;
            }
            if whole {
                return self.end_snapshot(now, exchange, key, &End::Whole);
            }
            match self.read_on(now, key) {
                Read::More => {}
                Read::Wait => {
                    self.snapshots[key].waits = true;
                    return;
                }
                Read::Failed(reason) => return self.end_snapshot(now, exchange, key, &End::Failed(reason)),
            }
        }
        self.line_up(Turn::Snapshot(key));
    }

    fn wait_until_due(&mut self, key: usize) {
        let snapshot = &mut self.snapshots[key];
        let due = snapshot.due;
        if let Some(old) = snapshot.deadline.replace(due) {
            self.deadlines.remove(&(old, Turn::Snapshot(key)));
        }
        self.deadlines.insert((due, Turn::Snapshot(key)));
    }

    /// Sends the chunks that are there, as many as may be under way.
    fn send_chunks(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let snapshot = &mut self.snapshots[key];
        while snapshot.slots > 0 && snapshot.writer.ready() >= snapshot.chunk {
            let payload = snapshot.writer.chunk(snapshot.chunk);
            snapshot.slots -= 1;
            snapshot.index += 1;
            let reply = format!("{}.{}.{}", snapshot.answers, payload.len(), snapshot.index);
            let to = snapshot.deliver.clone();
            let outgoing = Outgoing { to, reply: reply.into(), payload, ..Outgoing::default() };
            exchange.publish_own(now.instant, snapshot.account, &outgoing);
            snapshot.due = now.instant + ANSWER;
        }
    }

    /// Reads what comes next into the writer.
    fn read_on(&mut self, now: Now, key: usize) -> Read {
        let snapshot = &mut self.snapshots[key];
        let Some(&Owned::Stream(stream)) = self.owners.get(&snapshot.stream) else {
            let text = format!("couldn't load next message after seq {}: store is closed", snapshot.next);
            return Read::Failed(text);
        };
        if snapshot.stage == Stage::Consumers {
            for _ in 0..CONSUMERS {
                let Some(owner) = snapshot.consumers.pop() else { break };
                // One that is gone by now is left out.
                let Some(&Owned::Consumer(consumer)) = self.owners.get(&owner) else { continue };
                let consumer = &self.consumers[consumer];
                let Some(machine) = &consumer.machine else { continue };
                let mut config = machine.config().clone();
                config.name.clone_from(&consumer.name);
                let text = to_json(&ConsumerText::new(&config, &machine.state(), snapshot.last));
                snapshot.collected.push((consumer.name.clone(), text));
            }
            if snapshot.consumers.is_empty() {
                let collected = std::mem::take(&mut snapshot.collected);
                snapshot.state.consumers = collected.len() as u64;
                snapshot.writer.state(&to_json(&snapshot.state), now.wall);
                for (name, text) in &collected {
                    snapshot.writer.consumer(name, text, now.wall);
                }
                snapshot.stage = Stage::Messages;
            }
            return Read::More;
        }
        let Some(mut view) = self.streams[stream].view(&mut self.stores) else { return Read::Wait };
        let next = snapshot.next;
        let Answer::Ready(found) = view.ask(|ledger| ledger.next(Filter::All, next)) else {
            return Read::Wait;
        };
        let Some(sequence) = found.filter(|sequence| *sequence <= snapshot.last) else {
            snapshot.writer.finish();
            snapshot.stage = Stage::Written;
            return Read::More;
        };
        match view.load(sequence) {
            Answer::Wait => Read::Wait,
            Answer::Ready(Some(message)) => {
                snapshot.writer.message(&message);
                snapshot.next = sequence + 1;
                Read::More
            }
            // It is there, and can't be read.
            Answer::Ready(None) => Read::Failed(format!(
                "couldn't load next message after seq {next}: message {sequence} is damaged"
            )),
        }
    }

    fn end_snapshot(&mut self, now: Now, exchange: &mut Exchange, key: usize, end: &End) {
        let mut snapshot = self.snapshots.remove(key);
        let whole = matches!(end, End::Whole);
        let rest = if whole { snapshot.writer.chunk(snapshot.chunk) } else { Bytes::new() };
        let Snapshot { account, name, deliver, started, client, .. } = &snapshot;
        if let Some(deadline) = snapshot.deadline {
            self.deadlines.remove(&(deadline, Turn::Snapshot(key)));
        }
        exchange.serve_no_more(snapshot.service);
        self.services.remove(&snapshot.service);
        exchange.watch_interest(*account, false);
        let mut block = Vec::new();
        let error = match end {
            End::Whole => {
                if snapshot.index > 0 {
                    headers::status(&mut block, 204, "");
                }
                String::new()
            }
            End::NoInterest => {
                headers::status(&mut block, 408, "No Interest");
                "no interest".to_owned()
            }
            End::NoAnswer => {
                headers::status(&mut block, 408, "No Flow Response");
                "no flow response".to_owned()
            }
            End::Failed(reason) => {
                headers::status(&mut block, 500, reason);
                reason.clone()
            }
        };
        if !rest.is_empty() {
            let rest = Outgoing { to: deliver.clone(), payload: rest, ..Outgoing::default() };
            exchange.publish_own(now.instant, *account, &rest);
        }
        let last = Outgoing { to: deliver.clone(), headers: block.into(), ..Outgoing::default() };
        exchange.publish_own(now.instant, *account, &last);
        let domain = self.domain.clone();
        let (start, end, error) = (*started, now.wall, &*error);
        let event = SnapshotCompleted { stream: name, start, end, client, domain: &domain, error };
        self.advise(now, exchange, (*account, Topic::SnapshotCompleted, &[name]), &event);
        let took = format_duration(i64::try_from(end.since(start).as_nanos()).unwrap_or(i64::MAX));
        let place = format!("'{} > {name}'", self.accounts[*account as usize].name);
        self.notices.push_back(match whole {
            true => Notice::Info(format!(
                "Completed snapshot of {} bytes for stream {place} in {took}",
                snapshot.state.bytes
            )),
            false => Notice::Warning(format!("Snapshot for stream {place} failed after {took}: {error}")),
        });
    }
}
