//! Requests about streams: created, updated, named, listed, described, deleted, purged.
//!
//! Source: nats-server `server/jetstream_api.go`, the functions `jsStream*Request`.

use bytes::Bytes;

use super::{Asked, Exchange, JetStream, Task};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::{check_reservation, check_reservation_of_update};
use crate::jetstream::api::read::unmarshal_request;
use crate::jetstream::api::request::{
    MessageDeleteRequest, MessageGetRequest, PurgeRequest, StreamInfoRequest, StreamsRequest, expect_empty,
};
use crate::jetstream::api::response::{
    MessageDeleteBody, MessageGetBody, NAMES_LIMIT, Page, StreamCreateBody, StreamDeleteBody, StreamInfoBody,
    StreamListBody, StreamNamesBody, StreamPurgeBody, StreamUpdateBody,
};
use crate::jetstream::api::stream_config::{StreamConfig, StreamRequest};
use crate::jetstream::api::subject::subjects_overlap;
use crate::jetstream::engine::Ticketed;
use crate::jetstream::stream::{Request, Settings};
use crate::storage::{Position, Retention, StorageKind};
use crate::subject::subjects_collide;
use crate::time::Now;

impl JetStream {
    pub(super) fn stream_create(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let result = match self.check_create(name, &asked) {
            Ok(Create::There(key)) => {
                self.do_task(now, exchange, key, Task::Created(asked));
                return;
            }
            Ok(Create::New(config)) => {
                self.create_stream(now, exchange, asked.account, *config, asked.clone())
            }
            Err(error) => Err(error),
        };
        if let Err(error) = result {
            self.respond_error::<StreamCreateBody>(now, exchange, &asked, error);
        }
    }

    fn check_create(&self, name: &str, asked: &Asked) -> Result<Create, ApiError> {
        self.admit(asked)?;
        let mut request: StreamRequest = unmarshal_request(&asked.body, self.strict)?;
        request.prepare_create(name)?;
        let limits = self.limits_of(asked.account);
        // As in the reference, what was asked for counts here, before defaults are filled in.
        let count = self.accounts[asked.account as usize].streams.len();
        let most = usize::try_from(limits.max_streams).ok().filter(|most| *most > 0);
        if most.is_some_and(|most| count >= most) && self.find_stream(asked.account, name).is_err() {
            return Err(ErrorKind::MaximumStreamsLimit.error());
        }
        let there = self.find_stream(asked.account, name).ok();
        let reserved = self.reserved(asked.account, request.config.storage, there);
        check_reservation(&request.config, request.config.max_bytes, &limits, reserved)?;
        let config = request.check(&self.limits, &limits)?;
        config.check_single_server()?;
        if let Ok(key) = self.find_stream(asked.account, name) {
            return match self.streams[key].config.is_same_request(&config) {
                true => Ok(Create::There(key)),
                false => Err(ErrorKind::StreamNameExist.error()),
            };
        }
        if self.is_restoring(asked.account, name) {
            return Err(ErrorKind::StreamNameExist.error());
        }
        // A stream without a limit needs a byte, which an account that may have none hasn't got.
        check_reservation(&config, config.max_bytes, &limits, reserved)?;
        config.check_features()?;
        self.check_subjects(asked.account, &config, None)?;
        Ok(Create::New(Box::new(config)))
    }

    /// Checks that no other stream of the account stores the same, nor one that is being restored.
    pub(in super::super) fn check_subjects(
        &self,
        account: u32,
        config: &StreamConfig,
        but: Option<usize>,
    ) -> Result<(), ApiError> {
        let others = self.accounts[account as usize].streams.values().filter(|key| Some(**key) != but);
        let others = others.map(|key| &self.streams[*key].config).chain(self.staged_streams(account));
        for other in others {
            if subjects_overlap(&other.subjects, &config.subjects) {
                return Err(ErrorKind::StreamSubjectOverlap.error());
            }
        }
        Ok(())
    }

    pub(super) fn stream_update(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let checked = self.check_update(name, &asked);
        let result = checked.and_then(|(key, config)| {
            let settings =
                Settings::new(&config, &self.domain).map_err(|error| ErrorKind::StreamUpdate.with(error))?;
            let stream = &self.streams[key];
            let (account, owner, created) = (stream.account, stream.owner, stream.created);
            let mut position = None;
            if stream.config.storage == StorageKind::File {
                position = Some(self.record_stream(account, owner, created, &config)?);
            }
            Ok((key, config, settings, position))
        });
        match result {
            Ok((key, config, settings, position)) => {
                self.resubscribe(exchange, key, &config);
                self.streams[key].config = config;
                self.retention_changed(key);
                let request = Request::Configure(Box::new(settings));
                self.change_stream(now, exchange, key, request, Ticketed::Update(asked, position));
            }
            Err(error) => self.respond_error::<StreamUpdateBody>(now, exchange, &asked, error),
        }
    }

    fn check_update(&self, name: &str, asked: &Asked) -> Result<(usize, StreamConfig), ApiError> {
        self.admit(asked)?;
        let request: StreamRequest = unmarshal_request(&asked.body, self.strict)?;
        let limits = self.limits_of(asked.account);
        let config = request.check_update(name, &self.limits, &limits)?;
        let key = self.find_stream(asked.account, name)?;
        let stream = &self.streams[key];
        let config = stream.config.check_update(config)?;
        config.check_features()?;
        let reserved = self.reserved(asked.account, config.storage, Some(key));
        check_reservation_of_update(&stream.config, &config, &limits, reserved)?;
        let consumers = stream.consumers.values().map(|key| &self.consumers[*key]);
        let consumers = consumers.map(|consumer| (consumer.name.as_str(), &consumer.config));
        config.consumer_limits.check_change(&stream.config.consumer_limits, consumers)?;
        self.check_subjects(asked.account, &config, Some(key))?;
        Ok((key, config))
    }

    pub(super) fn stream_names(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked) {
        let result = self.admit(asked).and_then(|()| {
            let request = StreamsRequest::parse_names(&asked.body, self.strict)?;
            let names = self.streams_with(asked.account, &request.subject);
            let (page, range) = Page::new(names.len(), request.offset, NAMES_LIMIT);
            Ok(StreamNamesBody { page, streams: names[range].to_vec() })
        });
        self.respond(now, exchange, asked, &result);
    }

    /// Returns the names of the account's streams that may have messages of a subject, in order; empty for all.
    pub(super) fn streams_with(&self, account: u32, subject: &str) -> Vec<String> {
        let streams = self.accounts[account as usize].streams.iter();
        let wanted = |key: usize| {
            let subjects = &self.streams[key].config.subjects;
            subject.is_empty()
                || subjects.iter().any(|own| subjects_collide(own.as_bytes(), subject.as_bytes()))
        };
        streams.filter(|(_, key)| wanted(**key)).map(|(name, _)| name.clone()).collect()
    }

    pub(super) fn stream_list(&mut self, now: Now, exchange: &mut Exchange, asked: Asked) {
        let request = self.admit(&asked).and_then(|()| StreamsRequest::parse_list(&asked.body, self.strict));
        match request {
            Ok(request) => self.list_streams(now, exchange, asked, &request),
            Err(error) => self.respond_error::<StreamListBody>(now, exchange, &asked, error),
        }
    }

    pub(super) fn stream_info(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let checked = self.admit(&asked).and_then(|()| {
            let request = StreamInfoRequest::parse(&asked.body, self.strict)?;
            Ok((self.find_stream(asked.account, name)?, request))
        });
        match checked {
            Ok((key, request)) => {
                // Who has acknowledged a message for good doesn't find it counted: its removal is on its way.
                let stream = &self.streams[key];
                let position = match stream.config.retention {
                    Retention::Limits => Position::default(),
                    Retention::Interest | Retention::WorkQueue => stream.last_proposed,
                };
                self.do_task(now, exchange, key, Task::Info(asked, request, position));
            }
            Err(error) => self.respond_error::<StreamInfoBody>(now, exchange, &asked, error),
        }
    }

    pub(super) fn stream_delete(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: &Asked) {
        let checked = self.admit(asked).and_then(|()| {
            expect_empty(&asked.body)?;
            self.find_stream(asked.account, name)
        });
        let result = checked.and_then(|key| self.delete_stream(now, exchange, key, Some(asked.clone())));
        if let Err(error) = result {
            self.respond_error::<StreamDeleteBody>(now, exchange, asked, error);
        }
    }

    pub(super) fn stream_purge(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let checked = self.admit(&asked).and_then(|()| {
            let request = PurgeRequest::parse(&asked.body, self.strict)?;
            let key = self.find_stream(asked.account, name)?;
            let config = &self.streams[key].config;
            if config.sealed {
                return Err(ErrorKind::StreamSealed.error());
            }
            if config.deny_purge {
                return Err(ErrorKind::StreamPurgeFailed.with("stream purge not permitted"));
            }
            Ok((key, request))
        });
        match checked {
            Ok((key, PurgeRequest { sequence, subject, keep })) => {
                let request = Request::Purge { subject: Bytes::from(subject), below: sequence, keep };
                self.change_stream(now, exchange, key, request, Ticketed::Purge(asked));
            }
            Err(error) => self.respond_error::<StreamPurgeBody>(now, exchange, &asked, error),
        }
    }

    pub(super) fn message_delete(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let checked = self.admit(&asked).and_then(|()| {
            let request = MessageDeleteRequest::parse(&asked.body, self.strict)?;
            Ok((self.find_stream(asked.account, name)?, request))
        });
        match checked {
            Ok((key, MessageDeleteRequest { sequence, no_erase })) => {
                let request = Request::Remove { sequence, erase: !no_erase };
                self.change_stream(now, exchange, key, request, Ticketed::Remove(asked));
            }
            Err(error) => self.respond_error::<MessageDeleteBody>(now, exchange, &asked, error),
        }
    }

    pub(super) fn message_get(&mut self, now: Now, exchange: &mut Exchange, name: &str, asked: Asked) {
        let checked = self.admit(&asked).and_then(|()| {
            let request = MessageGetRequest::parse(&asked.body, self.strict)?;
            Ok((self.find_stream(asked.account, name)?, request))
        });
        match checked {
            Ok((key, request)) => self.do_task(now, exchange, key, Task::Get(asked, request)),
            Err(error) => self.respond_error::<MessageGetBody>(now, exchange, &asked, error),
        }
    }
}

/// What a request to create a stream leads to.
enum Create {
    /// It is there already.
    There(usize),
    New(Box<StreamConfig>),
}
