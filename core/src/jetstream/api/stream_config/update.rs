//! What an update of a stream may change.
//!
//! Source: nats-server `server/stream.go`, `configUpdateCheck` and `updateWithAdvisory`.

use super::check::{check_discard_new_per_subject, invalid};
use super::read::StreamRequest;
use super::{StreamConfig, StreamConsumerLimits};
use crate::jetstream::api::consumer_config::ConsumerConfig;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::level;
use crate::jetstream::api::limits::{AccountLimits, ServerLimits};
use crate::storage::{Discard, Retention};
use crate::subject::SubjectTransform;
use crate::time::Duration;

impl StreamRequest {
    /// Checks a request to update the stream `name` by itself.
    ///
    /// # Errors
    ///
    /// Those of [`check`](Self::check), [`ErrorKind::StreamMismatch`].
    pub fn check_update(
        self,
        name: &str,
        server: &ServerLimits,
        account: &AccountLimits,
    ) -> Result<StreamConfig, ApiError> {
        let config = self.check(server, account)?;
        match config.name == name {
            true => Ok(config),
            false => Err(ErrorKind::StreamMismatch.error()),
        }
    }
}

impl StreamConfig {
    /// Checks that the stream may become what `new`, which [`StreamRequest::check_update`] has checked by itself, says, and
    /// returns what it becomes. Whether there is room for it is asked elsewhere
    /// ([`check_reservation_of_update`](crate::jetstream::api::limits::check_reservation_of_update)), and whether its subjects are free.
    ///
    /// # Errors
    ///
    /// The reference's, in its order.
    pub fn check_update(&self, mut new: StreamConfig) -> Result<StreamConfig, ApiError> {
        level::set_stream_level(&mut new);
        let refuse = |is_wrong: bool, text: &str| if is_wrong { Err(invalid(text)) } else { Ok(()) };
        refuse(new.name != self.name, "stream configuration name must match original")?;
        new.check_single_server()?;
        refuse(new.storage != self.storage, "stream configuration update can not change storage type")?;
        let is_work_queue = self.retention == Retention::WorkQueue || new.retention == Retention::WorkQueue;
        refuse(
            new.retention != self.retention && is_work_queue,
            "stream configuration update can not change retention policy to/from workqueue",
        )?;
        refuse(self.sealed && !new.sealed, "stream configuration update can not unseal a sealed stream")?;
        refuse(
            self.deny_delete && !new.deny_delete,
            "stream configuration update can not cancel deny message deletes",
        )?;
        refuse(self.deny_purge && !new.deny_purge, "stream configuration update can not cancel deny purge")?;
        if new.mirror.is_some() && new.mirror != self.mirror {
            return Err(ErrorKind::StreamMirrorNotUpdatable.error());
        }
        check_discard_new_per_subject(&new)?;
        refuse(self.allow_message_ttl && !new.allow_message_ttl, "message TTL status can not be disabled")?;
        refuse(
            new.allow_message_counter != self.allow_message_counter,
            "stream configuration update can not change message counter setting",
        )?;
        refuse(
            self.allow_message_schedules && !new.allow_message_schedules,
            "message schedules can not be disabled",
        )?;
        refuse(
            new.persist_mode != self.persist_mode,
            "stream configuration update can not change persist mode",
        )?;
        if new.sealed {
            new.seal();
        }
        new.check_republish_of_update()?;
        Ok(new)
    }

    /// A stream may be created with a republish to nowhere; an update takes nowhere for everywhere.
    ///
    /// Differs: the reference then republishes what it stores to where it stores it from.
    fn check_republish_of_update(&self) -> Result<(), ApiError> {
        let Some(republish) = self.republish.as_ref().filter(|republish| republish.destination.is_empty())
        else {
            return Ok(());
        };
        match SubjectTransform::new(&republish.source, ">") {
            Ok(_) => Err(invalid("stream configuration for republish destination forms a cycle")),
            Err(error) => {
                let source = &republish.source;
                let text = format_args!("stream configuration for republish from '{source}' to '>': {error}");
                Err(ErrorKind::StreamUpdate.with(text))
            }
        }
    }

    /// Makes of the settings what they are once nothing gets in or out any more.
    fn seal(&mut self) {
        self.max_age = Duration::ZERO;
        self.discard = Discard::New;
        self.deny_delete = true;
        self.deny_purge = true;
        self.allow_rollup = false;
    }

    /// Tells whether a request to create the stream asks for what is there already: then it is answered with it.
    pub fn is_same_request(&self, requested: &StreamConfig) -> bool {
        let mut requested = requested.clone();
        level::copy_level(&mut requested.metadata, &self.metadata);
        requested == *self
    }
}

impl StreamConsumerLimits {
    /// Checks that the consumers that are there are within limits that change.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StreamUpdate`], naming those that are not.
    pub fn check_change<'a>(
        &self,
        old: &StreamConsumerLimits,
        consumers: impl Iterator<Item = (&'a str, &'a ConsumerConfig)>,
    ) -> Result<(), ApiError> {
        let threshold = self.inactive_threshold();
        let changes = (!threshold.is_zero() && threshold != old.inactive_threshold())
            || (self.max_ack_pending > 0 && self.max_ack_pending != old.max_ack_pending);
        if !changes {
            return Ok(());
        }
        let exceeds = |config: &ConsumerConfig| {
            (!threshold.is_zero() && config.inactive_threshold > threshold)
                || (self.max_ack_pending > 0 && config.max_ack_pending > self.max_ack_pending)
        };
        let names: Vec<&str> =
            consumers.filter(|(_, config)| exceeds(config)).map(|(name, _)| name).collect();
        match names.is_empty() {
            true => Ok(()),
            false => {
                let names = names.join(", ");
                Err(ErrorKind::StreamUpdate
                    .with(format_args!("change to limits violates consumers: {names}")))
            }
        }
    }
}
