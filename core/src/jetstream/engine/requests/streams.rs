//! Requests about one stream that its own engine deals with: described, purged, its messages read and deleted.
//!
//! Source: nats-server `server/jetstream_api.go`, the functions `jsStream*Request`.

use bytes::Bytes;

use super::{Asked, Exchange, JetStream, Task};
use crate::jetstream::api::error::ErrorKind;
use crate::jetstream::api::request::{
    MessageDeleteRequest, MessageGetRequest, PurgeRequest, StreamInfoRequest,
};
use crate::jetstream::api::response::{MessageDeleteBody, MessageGetBody, StreamInfoBody, StreamPurgeBody};
use crate::jetstream::engine::Ticketed;
use crate::jetstream::stream::Request;
use crate::storage::{Position, Retention};
use crate::time::Now;

impl JetStream {
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
