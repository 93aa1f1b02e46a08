//! Requests about consumers.
//!
//! Source: nats-server `server/jetstream_api.go`, the functions `jsConsumer*Request`; `server/consumer.go`,
//! `addConsumerWithAssignment`.

use super::{Asked, Exchange, JetStream, Task};
use crate::jetstream::api::consumer_config::{ConsumerAction, ConsumerConfig, ConsumerRequest};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits;
use crate::jetstream::api::read::unmarshal_request;
use crate::jetstream::api::request::{
    ConsumersRequest, PauseRequest, ResetRequest, UnpinRequest, expect_empty,
};
use crate::jetstream::api::response::{
    ConsumerCreateBody, ConsumerDeleteBody, ConsumerInfoBody, ConsumerListBody, ConsumerNamesBody,
    ConsumerPauseBody, ConsumerResetBody, ConsumerUnpinBody, LIST_LIMIT, NAMES_LIMIT, Page,
};
use crate::jetstream::api::subject::ConsumerCreateForm;
use crate::jetstream::context::{Answer, Context};
use crate::jetstream::engine::assets::Listeners;
use crate::jetstream::engine::turns::Turn;
use crate::storage::OwnerId;
use crate::time::Now;

/// What a subject says of the consumer to be created: form, stream, consumer, filter.
type Named<'a> = (ConsumerCreateForm, &'a str, &'a str, &'a str);

/// What a request to create a consumer leads to.
enum Create {
    New {
        stream: usize,
        name: String,
        config: Box<ConsumerConfig>,
    },
    /// It is there; these are its settings from now on.
    There {
        key: usize,
        config: Box<ConsumerConfig>,
    },
}

impl JetStream {
    pub(super) fn consumer_create(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        named: Named<'_>,
        asked: &Asked,
    ) {
        let result = match self.check_consumer(exchange, named, asked) {
            Ok(Create::New { stream, name, config }) => {
                self.create_consumer(now, exchange, stream, name, *config, asked.clone())
            }
            Ok(Create::There { key, config }) => self.change_consumer(now, exchange, key, *config, asked),
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.respond_error::<ConsumerCreateBody>(now, exchange, asked, error);
        }
    }

    fn check_consumer(
        &mut self,
        exchange: &Exchange,
        (form, stream, consumer, filter): Named<'_>,
        asked: &Asked,
    ) -> Result<Create, ApiError> {
        let mut request: ConsumerRequest = unmarshal_request(&asked.body, self.strict)?;
        self.admit(asked)?;
        request.prepare_create(form, stream, consumer, filter)?;
        if request.config.replicas > 1 {
            return Err(ErrorKind::StreamReplicasNotSupported.error());
        }
        let stream = self.find_stream(asked.account, stream)?;
        let limits = self.limits_of(asked.account);
        let action = request.action;
        let of_stream = &self.streams[stream].config;
        let named = [&request.config.durable, &request.config.name].into_iter().find(|name| !name.is_empty());
        if let Some(there) = named.and_then(|name| self.streams[stream].consumers.get(name)) {
            // A pause is changed by a request of its own.
            request.config.pause_until = self.consumers[*there].config.pause_until;
        }
        crate::jetstream::api::level::set_consumer_level(&mut request.config);
        let config = request.check(of_stream, &self.limits, &limits)?;
        let name = if config.durable.is_empty() { config.name.clone() } else { config.durable.clone() };
        let others = self.streams[stream].consumers.values().map(|key| &self.consumers[*key]);
        let others =
            others.filter(|other| other.name != name && !other.config.direct && !other.config.sourcing);
        let others: Vec<&ConsumerConfig> = others.map(|other| &other.config).collect();
        if let Some(&key) = self.streams[stream].consumers.get(&name) {
            let there = &self.consumers[key];
            if action == ConsumerAction::Create {
                // Settings from before servers noted their version in them stay as they are.
                return match there.config.is_same_request(&config) {
                    true => Ok(Create::There { key, config: Box::new(there.config.clone()) }),
                    false => Err(ErrorKind::ConsumerAlreadyExists.error()),
                };
            }
            if of_stream.retention == crate::storage::Retention::WorkQueue {
                config.check_unique(others.into_iter())?;
            }
            let (to, group) =
                (there.config.deliver_subject.as_bytes(), there.config.deliver_group.as_bytes());
            let bound = exchange.has_subscriber(asked.account, to, group);
            there.config.check_update(&config, there.config.is_push() && bound)?;
            let mut config = Box::new(config);
            if !there.config.is_durable() {
                config.fill_inactive_threshold();
            }
            return Ok(Create::There { key, config });
        }
        if action == ConsumerAction::Update {
            return Err(ErrorKind::ConsumerDoesNotExist.error());
        }
        let most = limits::max_consumers(of_stream, &self.limits, &limits);
        if most.is_some_and(|most| others.len() as u64 >= most) && !config.direct {
            return Err(ErrorKind::MaximumConsumersLimit.error());
        }
        config.check_work_queue(of_stream, others.into_iter())?;
        let name = match name.is_empty() {
            true => self.free_consumer_name(stream),
            false => name,
        };
        config.check_new_name(&name)?;
        let mut config = Box::new(config);
        config.fill_inactive_threshold();
        Ok(Create::New { stream, name, config })
    }

    /// Returns a name for a consumer that was given none: eight characters, as the reference's.
    fn free_consumer_name(&mut self, stream: usize) -> String {
        const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        loop {
            let letter = |_| char::from(LETTERS[self.rng.below(62) as usize]);
            let name: String = (0..8).map(letter).collect();
            if !self.streams[stream].consumers.contains_key(&name) {
                return name;
            }
        }
    }

    fn change_consumer(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        key: usize,
        config: ConsumerConfig,
        asked: &Asked,
    ) -> Result<(), ApiError> {
        if self.consumers[key].machine.is_none() {
            // It is being made at this moment: whoever asks for the same gets the same answer.
            if self.consumers[key].config != config {
                return Err(ErrorKind::ConsumerAlreadyExists.error());
            }
            self.consumers[key].also.push(asked.clone());
            return Ok(());
        }
        let (stream, owner) = (self.consumers[key].stream, self.consumers[key].owner);
        let mut position = None;
        if self.consumers[key].config != config {
            position = self.update_consumer(now, exchange, key, config)?;
        }
        let task = Task::ConsumerCreated(asked.clone(), owner);
        self.do_when_recorded(now, exchange, position, stream, task);
        Ok(())
    }

    pub(super) fn consumer_names(&mut self, now: Now, exchange: &mut Exchange, stream: &str, asked: &Asked) {
        let result = self.admit(asked).and_then(|()| {
            let request = ConsumersRequest::parse(&asked.body, self.strict)?;
            let stream = &self.streams[self.find_stream(asked.account, stream)?];
            let (page, range) = Page::new(stream.consumers.len(), request.offset, NAMES_LIMIT);
            let names = stream.consumers.keys().skip(range.start).take(range.len()).cloned();
            Ok(ConsumerNamesBody { page, consumers: names.collect() })
        });
        self.respond(now, exchange, asked, &result);
    }

    pub(super) fn consumer_list(&mut self, now: Now, exchange: &mut Exchange, stream: &str, asked: Asked) {
        let checked = self.admit(&asked).and_then(|()| {
            let request = ConsumersRequest::parse(&asked.body, self.strict)?;
            Ok((self.find_stream(asked.account, stream)?, request))
        });
        match checked {
            Ok((key, request)) => {
                let consumers = &self.streams[key].consumers;
                let (page, range) = Page::new(consumers.len(), request.offset, LIST_LIMIT);
                let left = consumers.values().skip(range.start).take(range.len());
                let mut left: Vec<OwnerId> = left.map(|key| self.consumers[*key].owner).collect();
                left.reverse();
                self.do_task(now, exchange, key, Task::Consumers { asked, page, left, infos: Vec::new() });
            }
            Err(error) => self.respond_error::<ConsumerListBody>(now, exchange, &asked, error),
        }
    }

    pub(super) fn consumer_info(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: &str,
        name: &str,
        asked: Asked,
    ) {
        let checked = self.admit(&asked).and_then(|()| {
            expect_empty(&asked.body)?;
            self.find_consumer(asked.account, stream, name)
        });
        match checked {
            Ok(key) => {
                let (stream, owner) = (self.consumers[key].stream, self.consumers[key].owner);
                self.do_task(now, exchange, stream, Task::ConsumerInfo(asked, owner));
            }
            Err(error) => self.respond_error::<ConsumerInfoBody>(now, exchange, &asked, error),
        }
    }

    pub(super) fn consumer_delete(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: &str,
        name: &str,
        asked: &Asked,
    ) {
        let checked = self.admit(asked).and_then(|()| {
            expect_empty(&asked.body)?;
            self.find_consumer(asked.account, stream, name)
        });
        let result = checked.and_then(|key| self.delete_consumer(now, exchange, key, Some(asked.clone())));
        if let Err(error) = result {
            self.respond_error::<ConsumerDeleteBody>(now, exchange, asked, error);
        }
    }

    pub(super) fn consumer_pause(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: &str,
        name: &str,
        asked: &Asked,
    ) {
        let result = self.admit(asked).and_then(|()| {
            let request = PauseRequest::parse(&asked.body, self.strict)?;
            let key = self.find_consumer(asked.account, stream, name)?;
            let mut config = self.consumers[key].config.clone();
            config.pause_until = request.pause_until;
            crate::jetstream::api::level::set_consumer_level(&mut config);
            let position = self.update_consumer(now, exchange, key, config)?;
            Ok((self.consumers[key].stream, position, request.pause_until))
        });
        match result {
            Ok((stream, position, until)) => {
                let task = Task::ConsumerPaused(asked.clone(), until);
                self.do_when_recorded(now, exchange, position, stream, task);
            }
            Err(error) => self.respond_error::<ConsumerPauseBody>(now, exchange, asked, error),
        }
    }

    pub(super) fn consumer_unpin(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: &str,
        name: &str,
        asked: &Asked,
    ) {
        let result = UnpinRequest::parse(&asked.body).and_then(|request| {
            self.admit(asked)?;
            let key = self.find_consumer(asked.account, stream, name)?;
            let consumer = &mut self.consumers[key];
            if !consumer.config.priority_groups.contains(&request.group) {
                return Err(ErrorKind::ConsumerInvalidPriorityGroup.error());
            }
            let listeners = Listeners { exchange, account: consumer.account };
            let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
            if let Some(machine) = &mut consumer.machine {
                machine.unpin(&request.group, &mut context);
            }
            self.line_up(Turn::Consumer(key));
            self.consumer_follow_up(now, exchange, key);
            Ok(ConsumerUnpinBody {})
        });
        self.respond(now, exchange, asked, &result);
    }

    pub(super) fn consumer_reset(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: &str,
        name: &str,
        asked: Asked,
    ) {
        let checked = self.admit(&asked).and_then(|()| {
            let request = ResetRequest::parse(&asked.body)?;
            let key = self.find_consumer(asked.account, stream, name)?;
            Ok((key, request))
        });
        match checked {
            Ok((key, request)) => {
                let (stream, owner) = (self.consumers[key].stream, self.consumers[key].owner);
                self.do_task(now, exchange, stream, Task::Reset(asked, owner, request.sequence));
            }
            Err(error) => self.respond_error::<ConsumerResetBody>(now, exchange, &asked, error),
        }
    }

    /// Lets a consumer start again, and returns where.
    pub(super) fn try_reset(
        &mut self,
        now: Now,
        exchange: &mut Exchange,
        stream: usize,
        asked: &Asked,
        owner: OwnerId,
        sequence: u64,
    ) -> Answer<Option<u64>> {
        let found = self.streams[stream].consumers.values().copied();
        let key = found.into_iter().find(|key| self.consumers[*key].owner == owner);
        let Some(key) = key else {
            self.respond_error::<ConsumerResetBody>(
                now,
                exchange,
                asked,
                ErrorKind::ConsumerNotFound.error(),
            );
            return Answer::Ready(None);
        };
        let account = asked.account;
        let listeners = Listeners { exchange, account };
        let mut context = Context { now, rng: &mut self.rng, interest: &listeners, out: &mut self.out };
        let Some(machine) = &mut self.consumers[key].machine else { return Answer::Wait };
        let Some((_, mut view)) = self.streams[stream].parts(&mut self.stores) else { return Answer::Wait };
        let reset = machine.reset(sequence, &mut context, &mut view);
        let Answer::Ready(reset) = reset else { return Answer::Wait };
        self.line_up(Turn::Consumer(key));
        self.consumer_follow_up(now, exchange, key);
        match reset {
            Ok(at) => Answer::Ready(Some(at)),
            Err(error) => {
                let error = ErrorKind::ConsumerInvalidReset.with(error);
                self.respond_error::<ConsumerResetBody>(now, exchange, asked, error);
                Answer::Ready(None)
            }
        }
    }
}
