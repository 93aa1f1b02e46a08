//! What a consumer's configuration doesn't say, or says in a way that means nothing.
//!
//! Source: nats-server `server/consumer.go`, `setConsumerConfigDefaults`; `server/jetstream_api.go`, `jsConsumerCreateRequest`.

use super::read::ConsumerRequest;
use super::{AckPolicy, ConsumerConfig, PriorityPolicy};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::{AccountLimits, ServerLimits};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::api::subject::{ConsumerCreateForm, has_path_separator};
use crate::time::Duration;

/// How many pull requests may wait at a consumer that doesn't say.
pub const DEFAULT_MAX_WAITING: i64 = 512;
/// How long an acknowledgement is waited for by a consumer that doesn't say.
pub const DEFAULT_ACK_WAIT: Duration = Duration::from_secs(30);
/// After how long without anybody a consumer goes away that is not durable and doesn't say.
pub const DEFAULT_INACTIVE_THRESHOLD: Duration = Duration::from_secs(5);
/// How many messages may be unacknowledged at a consumer that doesn't say.
pub const DEFAULT_MAX_ACK_PENDING: i64 = 1000;
/// How long a pinned client may be silent at a consumer that doesn't say.
pub const DEFAULT_PINNED_TTL: Duration = Duration::from_secs(120);
/// The heartbeat of a consumer that acknowledges by flow control.
pub(super) const FLOW_CONTROL_HEARTBEAT: Duration = Duration::from_secs(1);

fn pedantic_error(text: &str) -> ApiError {
    ErrorKind::Pedantic.with(text)
}

impl ConsumerRequest {
    /// Checks that the request is for what its subject names, and takes the consumer's name from there.
    ///
    /// # Errors
    ///
    /// The reference's, in its order.
    pub fn prepare_create(
        &mut self,
        form: ConsumerCreateForm,
        stream: &str,
        consumer: &str,
        filter: &str,
    ) -> Result<(), ApiError> {
        let config = &mut self.config;
        if stream != self.stream {
            return Err(ErrorKind::StreamMismatch.error());
        }
        let name = if form == ConsumerCreateForm::Ephemeral { config.name.as_str() } else { consumer };
        if has_path_separator(name) {
            return Err(ErrorKind::ConsumerNameContainsPathSeparators.error());
        }
        match form {
            ConsumerCreateForm::Durable if config.durable.is_empty() => {
                return Err(ErrorKind::ConsumerDurableNameNotSet.error());
            }
            ConsumerCreateForm::Durable | ConsumerCreateForm::Named
                if !config.durable.is_empty() && config.durable != consumer =>
            {
                return Err(ErrorKind::ConsumerDurableNameNotMatchSubject.error());
            }
            ConsumerCreateForm::Durable | ConsumerCreateForm::Named => consumer.clone_into(&mut config.name),
            ConsumerCreateForm::Ephemeral if !config.durable.is_empty() => {
                return Err(ErrorKind::ConsumerEphemeralWithDurableName.error());
            }
            ConsumerCreateForm::Ephemeral => {}
        }
        if !filter.is_empty() && !config.filter_subjects.is_empty() {
            return Err(ErrorKind::ConsumerMultipleFiltersNotAllowed.error());
        }
        if !filter.is_empty() && config.filter_subject != filter {
            return Err(ErrorKind::ConsumerCreateFilterSubjectMismatch.error());
        }
        match config.replicas > 1 {
            true => Err(ErrorKind::StreamReplicasNotSupported.error()),
            false => Ok(()),
        }
    }

    /// Fills in what the configuration doesn't say.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Pedantic`], in pedantic requests, for what would be changed.
    pub(super) fn fill(
        &mut self,
        stream: &StreamConfig,
        server: &ServerLimits,
        account: &AccountLimits,
    ) -> Result<(), ApiError> {
        self.clear_negatives()?;
        let (config, pedantic) = (&mut self.config, self.pedantic);
        if !config.is_push() && config.max_waiting == 0 {
            config.max_waiting = DEFAULT_MAX_WAITING;
        }
        let wants_acks = matches!(config.ack_policy, AckPolicy::Explicit | AckPolicy::All);
        if config.ack_wait.is_zero() && !self.negatives.has("ack_wait") && wants_acks {
            config.ack_wait = DEFAULT_ACK_WAIT;
        }
        if let Some(first) = config.backoff.first().copied() {
            let first_is_negative = first.is_zero() && self.negatives.has("backoff");
            let differs = config.ack_wait != first || self.negatives.has("ack_wait") != first_is_negative;
            if pedantic && differs {
                return Err(pedantic_error("first backoff value has to equal batch AckWait"));
            }
            config.ack_wait = first;
        }
        fill_from_stream(config, stream, pedantic)?;
        if config.max_ack_pending == 0 && config.ack_policy != AckPolicy::None {
            let limits = [server.max_ack_pending, account.max_ack_pending].into_iter().filter(|max| *max > 0);
            config.max_ack_pending = limits.fold(DEFAULT_MAX_ACK_PENDING, i64::min);
        }
        if !config.is_push() && config.max_request_batch == 0 && server.max_request_batch > 0 {
            if pedantic {
                return Err(pedantic_error("max_request_batch must be set if it's JetStream limits are set"));
            }
            config.max_request_batch = server.max_request_batch;
        }
        if config.priority_policy == PriorityPolicy::PinnedClient && config.pinned_ttl.is_zero() {
            config.pinned_ttl = DEFAULT_PINNED_TTL;
        }
        if config.ack_policy == AckPolicy::FlowControl && !pedantic {
            config.flow_control = true;
            config.heartbeat = FLOW_CONTROL_HEARTBEAT;
        }
        Ok(())
    }

    /// Numbers below their range mean nothing, and become what means nothing. Durations are there already.
    fn clear_negatives(&mut self) -> Result<(), ApiError> {
        let (config, negatives) = (&mut self.config, &self.negatives);
        let refuse = |is_wrong: bool, text: &str| match is_wrong && self.pedantic {
            true => Err(pedantic_error(text)),
            false => Ok(()),
        };
        refuse(config.max_deliver < -1, "max_deliver must be set to -1")?;
        if config.max_deliver <= 0 {
            config.max_deliver = -1;
        }
        refuse(config.max_waiting < 0, "max_waiting must not be negative")?;
        config.max_waiting = config.max_waiting.max(0);
        refuse(config.max_ack_pending < -1, "max_ack_pending must be set to -1")?;
        config.max_ack_pending = config.max_ack_pending.max(-1);
        refuse(config.max_request_batch < 0, "max_batch must not be negative")?;
        config.max_request_batch = config.max_request_batch.max(0);
        refuse(negatives.has("max_expires"), "max_expires must not be negative")?;
        refuse(config.max_request_max_bytes < 0, "max_bytes must not be negative")?;
        config.max_request_max_bytes = config.max_request_max_bytes.max(0);
        refuse(negatives.has("idle_heartbeat"), "idle_heartbeat must not be negative")?;
        refuse(negatives.has("inactive_threshold"), "inactive_threshold must not be negative")?;
        refuse(negatives.has("priority_timeout"), "priority_timeout must not be negative")
    }
}

fn fill_from_stream(
    config: &mut ConsumerConfig,
    stream: &StreamConfig,
    pedantic: bool,
) -> Result<(), ApiError> {
    let limits = &stream.consumer_limits;
    if config.max_ack_pending == 0 {
        if pedantic && limits.max_ack_pending > 0 {
            return Err(pedantic_error("max_ack_pending must be set if it's configured in stream limits"));
        }
        config.max_ack_pending = limits.max_ack_pending;
    }
    if config.inactive_threshold.is_zero() {
        if pedantic && !limits.inactive_threshold().is_zero() {
            return Err(pedantic_error("inactive_threshold must be set if it's configured in stream limits"));
        }
        config.inactive_threshold = limits.inactive_threshold();
    }
    Ok(())
}
