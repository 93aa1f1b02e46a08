//! Requests that read: they wait for the disk where they must, and hold up only those behind them at the same stream.

use bytes::Bytes;

use super::{Asked, Exchange, JetStream};
use crate::jetstream::api::backup::SnapshotRequest;
use crate::jetstream::api::error::ErrorKind;
use crate::jetstream::api::request::{MessageGetRequest, StreamInfoRequest};
use crate::jetstream::api::response::{
    self, Body, ClusterInfo, ConsumerCreateBody, ConsumerInfo, ConsumerInfoBody, ConsumerListBody,
    ConsumerPauseBody, ConsumerResetBody, MessageGetBody, Page, StoredMessage, StreamCreateBody, StreamInfo,
    StreamInfoBody, StreamSnapshotBody, StreamUpdateBody,
};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::context::{Answer, Context, Outgoing};
use crate::jetstream::engine::Owned;
use crate::jetstream::engine::assets::{Listeners, Phase};
use crate::jetstream::engine::lifecycle::Recorded;
use crate::jetstream::engine::said::{EngineId, Said};
use crate::jetstream::engine::turns::Turn;
use crate::jetstream::stream::{self, DirectGet, Progress, Which};
use crate::storage::{OwnerId, Position};
use crate::time::{Now, WallTime};

/// Something to read of a stream.
#[derive(Debug)]
pub(in super::super) enum Task {
    /// It was created: say what it is.
    Created(Asked),
    /// It was updated: say what it is.
    Updated(Asked),
    /// Not before this position is applied.
    Info(Asked, StreamInfoRequest, Position),
    Get(Asked, MessageGetRequest),
    Direct(DirectGet),
    /// A consumer was created, or is there: say what it is.
    ConsumerCreated(Asked, OwnerId),
    ConsumerInfo(Asked, OwnerId),
    /// Consumers, the last first, and what is known of those before them.
    Consumers {
        asked: Asked,
        page: Page,
        left: Vec<OwnerId>,
        infos: Vec<ConsumerInfo>,
    },
    /// A consumer was paused until then.
    ConsumerPaused(Asked, Option<WallTime>),
    /// A consumer is to start again, at a sequence.
    Reset(Asked, OwnerId, u64),
    /// A consumer starts again at a sequence: say what it is.
    ConsumerReset(Asked, OwnerId, u64),
    /// It is to be backed up.
    Snapshot(Asked, SnapshotRequest),
    /// It was restored: say in an account, and on a subject, what it is.
    Restored(u32, Bytes),
}

/// What became of a step.
enum Did {
    Done,
    More,
    Wait,
}

/// Streams that are being described for a list.
#[derive(Debug)]
pub(in super::super) struct Listing {
    /// Names it to the home engine.
    id: u64,
    account: u32,
    names: Vec<String>,
    streams: Vec<StreamInfo>,
}

impl JetStream {
    /// Does something for a stream, behind what it does already.
    pub(in super::super) fn do_task(&mut self, now: Now, exchange: &mut Exchange, key: usize, task: Task) {
        self.streams[key].tasks.push_back(task);
        match self.streams[key].phase {
            Phase::Failed => self.fail_tasks(now, exchange, key),
            _ => self.run_tasks(now, exchange, key),
        }
    }

    /// Does something for a stream when the catalogue durably has what it is about; at once if it has nothing to be told.
    pub(in super::super) fn do_when_recorded(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        position: Option<Position>,
        key: usize,
        task: Task,
    ) {
        match position {
            Some(position) if position > self.last_recorded => {
                let owner = self.streams[key].owner;
                self.recorded.push_back((position, Recorded::Task(owner, Box::new(task))));
            }
            _ => self.do_task(now, exchange, key, task),
        }
    }

    /// Answers everything that waits at a stream whose files can't be used.
    pub(in super::super) fn fail_tasks(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        stream.tasks.extend(stream.creator.take().map(Task::Created));
        for task in std::mem::take(&mut stream.tasks) {
            let error = ErrorKind::StreamOffline.error();
            match task {
                Task::Created(asked) => self.respond_error::<StreamCreateBody>(now, exchange, &asked, error),
                Task::Updated(asked) => self.respond_error::<StreamUpdateBody>(now, exchange, &asked, error),
                Task::Info(asked, ..) => self.respond_error::<StreamInfoBody>(now, exchange, &asked, error),
                Task::Get(asked, _) => self.respond_error::<MessageGetBody>(now, exchange, &asked, error),
                // Who asked for messages themselves asks again, or elsewhere.
                Task::Direct(_) | Task::Restored(..) => {}
                Task::Snapshot(asked, _) => {
                    self.respond_error::<StreamSnapshotBody>(now, exchange, &asked, error);
                }
                Task::ConsumerCreated(asked, _) => {
                    self.respond_error::<ConsumerCreateBody>(now, exchange, &asked, error);
                }
                Task::ConsumerInfo(asked, _) => {
                    self.respond_error::<ConsumerInfoBody>(now, exchange, &asked, error);
                }
                Task::Consumers { asked, .. } => {
                    self.respond_error::<ConsumerListBody>(now, exchange, &asked, error);
                }
                Task::ConsumerPaused(asked, _) => {
                    self.respond_error::<ConsumerPauseBody>(now, exchange, &asked, error);
                }
                Task::Reset(asked, ..) | Task::ConsumerReset(asked, ..) => {
                    self.respond_error::<ConsumerResetBody>(now, exchange, &asked, error);
                }
            }
        }
    }

    /// Goes on with what a stream has to do.
    pub(in super::super) fn run_tasks(&mut self, now: Now, exchange: &mut Exchange, key: usize) {
        while let Some(stream) = self.streams.get_mut(key)
            && stream.phase == Phase::Running
            && let Some(task) = stream.tasks.pop_front()
        {
            let (did, task) = self.run_task(now, exchange, key, task);
            match did {
                Did::Done => {}
                Did::More | Did::Wait => {
                    if let Some(stream) = self.streams.get_mut(key) {
                        stream.tasks.push_front(task);
                    }
                    if matches!(did, Did::More) {
                        self.line_up(Turn::Stream(key));
                    }
                    return;
                }
            }
        }
    }

    fn run_task(&mut self, now: Now, exchange: &mut Exchange, key: usize, mut task: Task) -> (Did, Task) {
        let did = match &mut task {
            Task::Created(asked) => match self.describe_stream(now, key, &StreamInfoRequest::default()) {
                Answer::Wait => Did::Wait,
                Answer::Ready((mut info, _)) => {
                    info.add_answerer(&self.version);
                    (info.domain, info.cluster) = (String::new(), None);
                    let body = StreamCreateBody { info: Some(info), did_create: true };
                    self.respond(now, exchange, asked, &Ok(body));
                    Did::Done
                }
            },
            Task::Updated(asked) => match self.describe_stream(now, key, &StreamInfoRequest::default()) {
                Answer::Wait => Did::Wait,
                Answer::Ready((mut info, _)) => {
                    info.add_answerer(&self.version);
                    info.cluster = None;
                    self.respond(now, exchange, asked, &Ok(StreamUpdateBody { info: Some(info) }));
                    Did::Done
                }
            },
            Task::Info(_, _, position) if self.streams[key].last_applied < *position => Did::Wait,
            Task::Info(asked, request, _) => match self.describe_stream(now, key, request) {
                Answer::Wait => Did::Wait,
                Answer::Ready((mut info, page)) => {
                    info.add_answerer(&self.version);
                    self.respond(now, exchange, asked, &Ok(StreamInfoBody { page, info: Some(info) }));
                    Did::Done
                }
            },
            Task::Get(asked, request) => self.get_message(now, exchange, key, asked, request),
            Task::Direct(get) => {
                let Some(stream) = self.streams.get_mut(key) else { return (Did::Done, task) };
                let account = stream.account;
                let name = stream.config.name.clone();
                let Some((_, mut view)) = stream.parts(&mut self.stores) else { return (Did::Wait, task) };
                let listeners = Listeners { exchange, account };
                let mut context =
                    Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
                let progress = get.step(&mut context, &mut view, name.as_bytes());
                self.publish_out(now, exchange, account);
                match progress {
                    Progress::Done => Did::Done,
                    Progress::More => Did::More,
                    Progress::Wait => Did::Wait,
                }
            }
            Task::ConsumerCreated(asked, owner) => {
                let body = |info| ConsumerCreateBody { info: Some(info) };
                self.tell_consumer(now, exchange, (asked, *owner), body)
            }
            Task::ConsumerInfo(asked, owner) => {
                let body = |info| ConsumerInfoBody { info: Some(info) };
                self.tell_consumer(now, exchange, (asked, *owner), body)
            }
            Task::ConsumerReset(_, owner, _) if !self.has_started(*owner) => Did::Wait,
            Task::ConsumerReset(asked, owner, reset_sequence) => {
                let reset_sequence = *reset_sequence;
                let body = |info| ConsumerResetBody { info: Some(info), reset_sequence };
                self.tell_consumer(now, exchange, (asked, *owner), body)
            }
            Task::ConsumerPaused(asked, until) => {
                self.respond(now, exchange, asked, &Ok(ConsumerPauseBody::new(*until, now.wall)));
                Did::Done
            }
            Task::Consumers { asked, page, left, infos } => {
                self.list_consumers(now, exchange, (asked, *page), left, infos)
            }
            Task::Snapshot(asked, request) => {
                match self.describe_stream(now, key, &StreamInfoRequest::default()) {
                    Answer::Wait => Did::Wait,
                    Answer::Ready((info, _)) => {
                        self.begin_snapshot(now, exchange, key, (asked, request), info);
                        Did::Done
                    }
                }
            }
            Task::Restored(account, to) => {
                match self.describe_stream(now, key, &StreamInfoRequest::default()) {
                    Answer::Wait => Did::Wait,
                    Answer::Ready((mut info, _)) => {
                        info.add_answerer(&self.version);
                        (info.domain, info.cluster) = (String::new(), None);
                        let body = StreamCreateBody { info: Some(info), did_create: false };
                        let payload = response::answer(&body).into();
                        let outgoing = Outgoing { to: to.clone(), payload, ..Outgoing::default() };
                        exchange.publish_own(now.instant, *account, &outgoing);
                        Did::Done
                    }
                }
            }
            Task::Reset(asked, owner, sequence) => {
                match self.try_reset(now, exchange, key, asked, *owner, *sequence) {
                    Answer::Wait => Did::Wait,
                    Answer::Ready(None) => Did::Done,
                    Answer::Ready(Some(at)) => {
                        task = Task::ConsumerReset(asked.clone(), *owner, at);
                        Did::More
                    }
                }
            }
        };
        (did, task)
    }

    fn get_message(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        asked: &Asked,
        request: &MessageGetRequest,
    ) -> Did {
        let which = Which::of(request);
        let Some((_, mut view)) = self.streams[key].parts(&mut self.stores) else { return Did::Wait };
        let Answer::Ready(message) = stream::get(&mut view, &which) else { return Did::Wait };
        let result = message.ok_or_else(|| ErrorKind::NoMessageFound.error()).map(|message| MessageGetBody {
            message: Some(StoredMessage {
                subject: String::from_utf8_lossy(&message.subject).into_owned(),
                sequence: message.sequence,
                headers: if request.no_headers { bytes::Bytes::new() } else { message.headers },
                payload: message.payload,
                time: message.time,
            }),
        });
        self.respond(now, exchange, asked, &result);
        Did::Done
    }

    /// Says what a stream is, and which of its subjects were asked for.
    pub(in super::super) fn describe_stream(
        &mut self,
        now: Now,
        key: usize,
        request: &StreamInfoRequest,
    ) -> Answer<(StreamInfo, Page)> {
        let domain = self.domain.clone();
        let cluster = Some(ClusterInfo { leader: self.server_name.clone(), ..ClusterInfo::default() });
        let stream = &mut self.streams[key];
        let consumers = stream.consumers.len() as u64;
        let Some((_, mut view)) = stream.parts(&mut self.stores) else { return Answer::Wait };
        let Answer::Ready((mut state, page)) = stream::info(&mut view, request, consumers) else {
            return Answer::Wait;
        };
        if state.last_sequence == 0 {
            // Nothing is the first of a stream that never had a message.
            state.first_sequence = 0;
        }
        let stream = &self.streams[key];
        let (config, created) = (StreamConfig::clone(&stream.config), stream.created);
        Answer::Ready((StreamInfo { config, created, state, domain, cluster, time: now.wall }, page))
    }

    /// Begins to describe streams.
    pub(in super::super) fn list_streams(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        id: u64,
        account: u32,
        mut names: Vec<String>,
    ) {
        names.reverse();
        self.listings.push_back(Listing { id, account, names, streams: Vec::new() });
        self.go_on_listing(now, exchange);
    }

    /// Goes on with lists.
    pub(in super::super) fn go_on_listing(&mut self, now: Now, exchange: &mut Exchange) {
        while let Some(mut listing) = self.listings.pop_front() {
            while let Some(name) = listing.names.last() {
                let key = self.find_stream(listing.account, name).ok();
                // One that is gone by now is left out, one that can't be read is not waited for.
                let key = key.filter(|key| self.streams[*key].phase == Phase::Running);
                if let Some(key) = key {
                    let Answer::Ready((mut info, _)) =
                        self.describe_stream(now, key, &StreamInfoRequest::default())
                    else {
                        self.listings.push_front(listing);
                        return;
                    };
                    // Who leads it is told of one stream, not of many: the reference leaves it out here.
                    info.cluster = None;
                    listing.streams.push(info);
                }
                listing.names.pop();
            }
            let Listing { id, streams, .. } = listing;
            self.say(now, exchange, EngineId::HOME, Said::Listed { id, streams });
        }
    }

    /// Says what a consumer is; `None` if it is gone, or doesn't work yet.
    pub(in super::super) fn describe_consumer(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
    ) -> Answer<Option<ConsumerInfo>> {
        let Some(consumer) = self.consumers.get_mut(key) else { return Answer::Ready(None) };
        let Some(machine) = &mut consumer.machine else {
            // Its stream may have been read before it was.
            return if consumer.phase == Phase::Opening { Answer::Wait } else { Answer::Ready(None) };
        };
        let Some((_, mut view)) = self.streams[consumer.stream].parts(&mut self.stores) else {
            return Answer::Wait;
        };
        let listeners = Listeners { exchange, account: consumer.account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let info = machine.info(&mut context, &mut view);
        self.consumer_follow_up(now, exchange, key);
        info.map(Some)
    }

    /// Tells whether it is durable where a consumer starts; of one that is gone there is nothing to wait for.
    fn has_started(&self, owner: OwnerId) -> bool {
        let Some(&Owned::Consumer(key)) = self.owners.get(&owner) else { return true };
        self.consumers[key].machine.as_ref().is_none_or(|machine| machine.has_started())
    }

    /// Says what a consumer is to who asked, by the answer that `body` makes of it.
    fn tell_consumer<B: Body>(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        (asked, owner): (&Asked, OwnerId),
        body: impl FnOnce(ConsumerInfo) -> B,
    ) -> Did {
        let key = match self.owners.get(&owner) {
            Some(&Owned::Consumer(key)) => key,
            _ => usize::MAX,
        };
        let Answer::Ready(info) = self.describe_consumer(now, exchange, key) else { return Did::Wait };
        let result = match info {
            Some(mut info) => {
                info.add_answerer(&self.version);
                Ok(body(info))
            }
            None => Err(ErrorKind::ConsumerNotFound.error()),
        };
        self.respond(now, exchange, asked, &result);
        Did::Done
    }

    /// Tells a consumer's creator what it was when it began.
    pub(in super::super) fn answer_consumer_created(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        asked: &Asked,
        mut info: ConsumerInfo,
    ) {
        info.add_answerer(&self.version);
        self.respond(now, exchange, asked, &Ok(ConsumerCreateBody { info: Some(info) }));
    }

    fn list_consumers(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        (asked, page): (&Asked, Page),
        names: &mut Vec<OwnerId>,
        consumers: &mut Vec<ConsumerInfo>,
    ) -> Did {
        while let Some(owner) = names.last() {
            if let Some(&Owned::Consumer(key)) = self.owners.get(owner) {
                let Answer::Ready(info) = self.describe_consumer(now, exchange, key) else {
                    return Did::Wait;
                };
                consumers.extend(info);
            }
            names.pop();
        }
        let consumers = std::mem::take(consumers);
        self.respond(
            now,
            exchange,
            asked,
            &Ok(ConsumerListBody { page, consumers, ..ConsumerListBody::default() }),
        );
        Did::Done
    }
}
