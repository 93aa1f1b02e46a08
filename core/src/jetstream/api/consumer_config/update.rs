//! What an update of a consumer may change.
//!
//! Source: nats-server `server/consumer.go`, `checkNewConsumerConfig`.

use super::ConsumerConfig;
use super::check::has_too_few_deliveries;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::level;

impl ConsumerConfig {
    /// Checks that the consumer may become what `new`, which has been checked by itself, says. `is_bound`: whether somebody listens
    /// where it delivers to.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConsumerCreate`] with what can't be changed, [`ErrorKind::ConsumerNameExist`],
    /// [`ErrorKind::ConsumerMaxDeliverBackoff`].
    pub fn check_update(&self, new: &ConsumerConfig, is_bound: bool) -> Result<(), ApiError> {
        if self == new {
            return Ok(());
        }
        let unchangeable = [
            (self.deliver_policy != new.deliver_policy, "deliver policy can not be updated"),
            (self.memory_storage != new.memory_storage, "storage type can not be updated"),
            (self.direct != new.direct, "direct can not be updated"),
            (self.sourcing != new.sourcing, "sourcing can not be updated"),
            (self.start_sequence != new.start_sequence, "start sequence can not be updated"),
            (self.start_time != new.start_time, "start time can not be updated"),
            (self.ack_policy != new.ack_policy, "ack policy can not be updated"),
            (self.replay_policy != new.replay_policy, "replay policy can not be updated"),
            (self.heartbeat != new.heartbeat, "heart beats can not be updated"),
            (self.flow_control != new.flow_control, "flow control can not be updated"),
            (!self.is_push() && new.is_push(), "can not update pull consumer to push based"),
            (self.is_push() && !new.is_push(), "can not update push consumer to pull based"),
        ];
        if let Some((_, text)) = unchangeable.iter().find(|(changes, _)| *changes) {
            return Err(ErrorKind::ConsumerCreate.with(text));
        }
        if self.deliver_subject != new.deliver_subject && is_bound {
            return Err(ErrorKind::ConsumerNameExist.error());
        }
        if self.max_waiting != new.max_waiting {
            return Err(ErrorKind::ConsumerCreate.with("max waiting can not be updated"));
        }
        match has_too_few_deliveries(new) {
            true => Err(ErrorKind::ConsumerMaxDeliverBackoff.error()),
            false => Ok(()),
        }
    }

    /// Tells whether a request to create the consumer asks for what is there already: then it is answered with it.
    pub fn is_same_request(&self, requested: &ConsumerConfig) -> bool {
        let mut requested = requested.clone();
        level::copy_level(&mut requested.metadata, &self.metadata);
        requested == *self
    }
}
