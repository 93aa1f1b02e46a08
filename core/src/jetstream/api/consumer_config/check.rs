//! Whether a consumer's configuration makes sense.
//!
//! The order of the checks is the reference's: of two faults, clients see the one that it would see first.
//!
//! Source: nats-server `server/consumer.go`, `checkConsumerCfg` and `addConsumerWithAssignment`.

use super::fill::FLOW_CONTROL_HEARTBEAT;
use super::read::ConsumerRequest;
use super::{AckPolicy, ConsumerConfig, DeliverPolicy, PriorityPolicy};
use crate::config::format_duration;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::{AccountLimits, MAX_DESCRIPTION_LEN, MAX_METADATA_LEN, ServerLimits};
use crate::jetstream::api::stream_config::StreamConfig;
use crate::jetstream::api::subject::{MAX_NAME_LEN, is_valid_asset_name};
use crate::jetstream::api::write;
use crate::protocol::quote::quote;
use crate::storage::Retention;
use crate::subject::{is_literal, is_subset_match, is_valid_subject, subjects_collide};
use crate::time::Duration;

fn refuse(is_wrong: bool, kind: ErrorKind) -> Result<(), ApiError> {
    if is_wrong { Err(kind.error()) } else { Ok(()) }
}

impl ConsumerRequest {
    /// Fills in what the configuration doesn't say, and checks it.
    ///
    /// What depends on other consumers is not asked here ([`ConsumerConfig::check_work_queue`]), nor whether the name is free.
    ///
    /// # Errors
    ///
    /// The reference's, in its order.
    pub fn check(
        mut self,
        stream: &StreamConfig,
        server: &ServerLimits,
        account: &AccountLimits,
    ) -> Result<ConsumerConfig, ApiError> {
        self.fill(stream, server, account)?;
        let (config, negatives) = (self.config, self.negatives);
        check_names(&config)?;
        check_replicas(&config, stream)?;
        refuse(negatives.has("backoff"), ErrorKind::ConsumerBackOffNegative)?;
        let wait_is_negative = negatives.has("ack_wait") && config.backoff.is_empty();
        refuse(wait_is_negative, ErrorKind::ConsumerAckWaitNegative)?;
        check_flow_control_acks(&config)?;
        refuse(has_too_few_deliveries(&config), ErrorKind::ConsumerMaxDeliverBackoff)?;
        if config.description.len() > MAX_DESCRIPTION_LEN {
            return Err(ErrorKind::ConsumerDescriptionTooLong.with(MAX_DESCRIPTION_LEN));
        }
        match config.is_push() {
            true => check_push(&config, stream)?,
            false => check_pull(&config, stream, server)?,
        }
        check_limits(&config, stream, server, account)?;
        if config.direct {
            refuse(!config.is_push(), ErrorKind::ConsumerDirectRequiresPush)?;
            refuse(config.is_durable(), ErrorKind::ConsumerDirectRequiresEphemeral)?;
        }
        check_filters(&config)?;
        check_start(&config)?;
        if let Err(error) = sample_percentage(&config.sample_frequency) {
            return Err(ErrorKind::ConsumerInvalidSampling.with(error));
        }
        refuse(
            config.flow_control && config.heartbeat.is_zero(),
            ErrorKind::ConsumerWithFlowControlNeedsHeartbeats,
        )?;
        let has_two_names = !config.durable.is_empty() && !config.name.is_empty();
        refuse(
            has_two_names && config.name != config.durable,
            ErrorKind::ConsumerCreateDurableAndNameMismatch,
        )?;
        if write::metadata_len(&config.metadata) > MAX_METADATA_LEN {
            let limit = format_args!("{}KB", MAX_METADATA_LEN / 1024);
            return Err(ErrorKind::ConsumerMetadataLength.with(limit));
        }
        check_groups(&config)?;
        Ok(config)
    }
}

impl ConsumerConfig {
    /// Checks that a new consumer fits a stream that hands every message to one consumer. `others`: those that
    /// are there, but for [`direct`](Self::direct) and [`sourcing`](Self::sourcing) ones.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConsumerWorkQueueRequiresExplicitAck`] and the other three of work queues.
    pub fn check_work_queue<'a>(
        &self,
        stream: &StreamConfig,
        others: impl Iterator<Item = &'a ConsumerConfig>,
    ) -> Result<(), ApiError> {
        if stream.retention != Retention::WorkQueue || self.direct || self.sourcing {
            return Ok(());
        }
        let acknowledges_each = matches!(self.ack_policy, AckPolicy::Explicit | AckPolicy::FlowControl);
        refuse(!acknowledges_each, ErrorKind::ConsumerWorkQueueRequiresExplicitAck)?;
        refuse(self.deliver_policy != DeliverPolicy::All, ErrorKind::ConsumerWorkQueueConsumerNotDeliverAll)?;
        let mut others = others.peekable();
        if others.peek().is_none() {
            return Ok(());
        }
        refuse(self.filters().next().is_none(), ErrorKind::ConsumerWorkQueueMultipleUnfiltered)?;
        self.check_unique(others)
    }

    /// Checks that none of `others` wants a subject that this consumer wants too; for a work queue.
    ///
    /// Differs: the reference lets an update take away the filters of one of several consumers.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConsumerWorkQueueConsumerNotUnique`].
    pub fn check_unique<'a>(
        &self,
        mut others: impl Iterator<Item = &'a ConsumerConfig>,
    ) -> Result<(), ApiError> {
        let wants_all = |config: &ConsumerConfig| config.filters().next().is_none();
        let collides = |other: &ConsumerConfig| {
            wants_all(self)
                || wants_all(other)
                || self.filters().any(|own| {
                    other.filters().any(|filter| subjects_collide(own.as_bytes(), filter.as_bytes()))
                })
        };
        refuse(others.any(collides), ErrorKind::ConsumerWorkQueueConsumerNotUnique)
    }

    /// Checks the name that a new consumer gets.
    ///
    /// Differs: the reference lets the names of consumers that are not durable be as long as a file's name can be.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ConsumerNameTooLong`], [`ErrorKind::ConsumerBadDurableName`].
    pub fn check_new_name(&self, name: &str) -> Result<(), ApiError> {
        if name.len() > MAX_NAME_LEN {
            return Err(ErrorKind::ConsumerNameTooLong.with(MAX_NAME_LEN));
        }
        refuse(!is_valid_asset_name(name), ErrorKind::ConsumerBadDurableName)
    }
}

fn check_names(config: &ConsumerConfig) -> Result<(), ApiError> {
    for (name, what) in [(&config.name, "name"), (&config.durable, "durable name")] {
        if !name.is_empty() && !is_valid_asset_name(name) {
            let text = format_args!(r"consumer {what} can not contain '.', '*', '>', '\', '/'");
            return Err(ErrorKind::StreamInvalidConfig.with(text));
        }
    }
    Ok(())
}

fn check_replicas(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    refuse(
        config.replicas > 0 && config.replicas > stream.replicas,
        ErrorKind::ConsumerReplicasExceedsStream,
    )?;
    refuse(config.replicas < 0, ErrorKind::ReplicasCountCannotBeNegative)?;
    refuse(
        stream.retention != Retention::Limits && config.replicas != 0 && config.replicas != stream.replicas,
        ErrorKind::ConsumerReplicasShouldMatchStream,
    )
}

fn check_flow_control_acks(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.ack_policy != AckPolicy::FlowControl {
        return Ok(());
    }
    refuse(!config.is_push(), ErrorKind::ConsumerAckFlowControlRequiresPush)?;
    refuse(!config.flow_control, ErrorKind::ConsumerAckFlowControlRequiresFlowControl)?;
    if config.heartbeat != FLOW_CONTROL_HEARTBEAT {
        let text = "flow control ack policy heartbeat needs to be 1s";
        return Err(ErrorKind::StreamInvalidConfig.with(text));
    }
    refuse(config.max_ack_pending <= 0, ErrorKind::ConsumerAckFlowControlRequiresMaxAckPending)?;
    refuse(
        !config.ack_wait.is_zero() || !config.backoff.is_empty(),
        ErrorKind::ConsumerAckFlowControlRequiresNoAckWait,
    )?;
    refuse(config.max_deliver > 0, ErrorKind::ConsumerAckFlowControlRequiresNoMaxDeliver)
}

/// Tells whether there are more waits between deliveries than deliveries.
pub(super) fn has_too_few_deliveries(config: &ConsumerConfig) -> bool {
    let waits = i64::try_from(config.backoff.len()).unwrap_or(i64::MAX);
    waits > 0 && config.max_deliver != -1 && waits > config.max_deliver
}

fn check_push(config: &ConsumerConfig, stream: &StreamConfig) -> Result<(), ApiError> {
    let deliver = config.deliver_subject.as_bytes();
    refuse(!is_literal(deliver), ErrorKind::ConsumerDeliverToWildcards)?;
    refuse(!is_valid_subject(deliver), ErrorKind::ConsumerInvalidDeliverSubject)?;
    refuse(
        stream.subjects.iter().any(|subject| is_subset_match(deliver, subject.as_bytes())),
        ErrorKind::ConsumerDeliverCycle,
    )?;
    refuse(config.max_waiting != 0, ErrorKind::ConsumerPushMaxWaiting)?;
    refuse(
        config.max_ack_pending > 0 && config.ack_policy == AckPolicy::None,
        ErrorKind::ConsumerMaxPendingAckPolicyRequired,
    )?;
    refuse(
        !config.heartbeat.is_zero() && config.heartbeat < Duration::from_millis(100),
        ErrorKind::ConsumerSmallHeartbeat,
    )
}

fn check_pull(config: &ConsumerConfig, stream: &StreamConfig, server: &ServerLimits) -> Result<(), ApiError> {
    refuse(
        config.ack_policy == AckPolicy::None && stream.retention == Retention::WorkQueue,
        ErrorKind::ConsumerPullRequiresAck,
    )?;
    refuse(config.rate_limit > 0, ErrorKind::ConsumerPullWithRateLimit)?;
    refuse(!config.heartbeat.is_zero(), ErrorKind::ConsumerHeartbeatRequiresPush)?;
    refuse(config.flow_control, ErrorKind::ConsumerFlowControlRequiresPush)?;
    refuse(
        !config.max_request_expires.is_zero() && config.max_request_expires < Duration::from_millis(1),
        ErrorKind::ConsumerMaxRequestExpiresTooSmall,
    )?;
    if server.max_request_batch > 0 && config.max_request_batch > server.max_request_batch {
        return Err(ErrorKind::ConsumerMaxRequestBatchExceeded.with(server.max_request_batch));
    }
    Ok(())
}

fn check_limits(
    config: &ConsumerConfig,
    stream: &StreamConfig,
    server: &ServerLimits,
    account: &AccountLimits,
) -> Result<(), ApiError> {
    let limits = [server.max_ack_pending, account.max_ack_pending, stream.consumer_limits.max_ack_pending];
    if let Some(limit) = limits.iter().find(|limit| **limit > 0 && config.max_ack_pending > **limit) {
        return Err(ErrorKind::ConsumerMaxPendingAckExcess.with(limit));
    }
    let limit = stream.consumer_limits.inactive_threshold();
    if !limit.is_zero() && config.inactive_threshold > limit {
        let limit = format_duration(write::nanos(limit));
        return Err(ErrorKind::ConsumerInactiveThresholdExcess.with(limit));
    }
    Ok(())
}

fn check_filters(config: &ConsumerConfig) -> Result<(), ApiError> {
    let bad_subject = || ErrorKind::StreamInvalidConfig.with("invalid subject");
    refuse(
        !config.filter_subject.is_empty() && !config.filter_subjects.is_empty(),
        ErrorKind::ConsumerDuplicateFilterSubjects,
    )?;
    refuse(config.filter_subjects.iter().any(String::is_empty), ErrorKind::ConsumerEmptyFilter)?;
    let filters: Vec<&str> = config.filters().collect();
    for (place, filter) in filters.iter().enumerate() {
        if !is_valid_subject(filter.as_bytes()) {
            return Err(bad_subject());
        }
        let mut others = filters.iter().enumerate().filter(|(other, _)| *other != place);
        refuse(
            others.any(|(_, other)| is_subset_match(filter.as_bytes(), other.as_bytes())),
            ErrorKind::ConsumerOverlappingSubjectFilters,
        )?;
    }
    Ok(())
}

fn check_start(config: &ConsumerConfig) -> Result<(), ApiError> {
    let policy = match config.deliver_policy {
        DeliverPolicy::All => "all",
        DeliverPolicy::Last => "last",
        DeliverPolicy::LastPerSubject => "last per subject",
        DeliverPolicy::New => "new",
        DeliverPolicy::ByStartSequence => "by start sequence",
        DeliverPolicy::ByStartTime => "by start time",
    };
    let policy = format!("consumer delivery policy is deliver {policy}, but optional");
    let refuse = |is_wrong: bool, text: &str| match is_wrong {
        true => Err(ErrorKind::ConsumerInvalidPolicy.with(format_args!("{policy} {text}"))),
        false => Ok(()),
    };
    let (has_sequence, has_time) = (config.start_sequence > 0, config.start_time.is_some());
    match config.deliver_policy {
        DeliverPolicy::ByStartSequence => {
            refuse(!has_sequence, "start sequence is not set")?;
            refuse(has_time, "start time is also set")
        }
        DeliverPolicy::ByStartTime => {
            refuse(!has_time, "start time is not set")?;
            refuse(has_sequence, "start start sequence is also set")
        }
        _ => {
            refuse(has_sequence, "start sequence is also set")?;
            refuse(has_time, "start time is also set")?;
            let wants_all = config.filters().next().is_none();
            refuse(
                config.deliver_policy == DeliverPolicy::LastPerSubject && wants_all,
                "filter subject is not set",
            )
        }
    }
}

/// Reads how many in a hundred, with or without a percent sign; empty is none.
///
/// # Errors
///
/// What Go says of text that is no number; of a negative one it has nothing to say.
pub(super) fn sample_percentage(text: &str) -> Result<u64, String> {
    if text.is_empty() {
        return Ok(0);
    }
    let number = text.strip_suffix('%').unwrap_or(text);
    let digits = number.strip_prefix(['+', '-']).unwrap_or(number);
    let fault = match digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty() {
        true => "value out of range",
        false => "invalid syntax",
    };
    let fault = || format!("strconv.Atoi: parsing {}: {fault}", quote(number.as_bytes()));
    let percentage: i64 = number.parse().map_err(|_| fault())?;
    u64::try_from(percentage).map_err(|_| "<nil>".to_owned())
}

fn check_groups(config: &ConsumerConfig) -> Result<(), ApiError> {
    if config.priority_policy == PriorityPolicy::None {
        refuse(!config.priority_groups.is_empty(), ErrorKind::ConsumerPriorityGroupWithPolicyNone)?;
        return refuse(!config.pinned_ttl.is_zero(), ErrorKind::ConsumerPinnedTtlWithoutPriorityPolicyNone);
    }
    refuse(config.is_push(), ErrorKind::ConsumerPushWithPriorityGroup)?;
    refuse(config.priority_groups.is_empty(), ErrorKind::ConsumerPriorityPolicyWithoutGroup)?;
    for group in &config.priority_groups {
        refuse(group.is_empty(), ErrorKind::ConsumerEmptyGroupName)?;
        refuse(!is_valid_group_name(group), ErrorKind::ConsumerInvalidGroupName)?;
    }
    Ok(())
}

/// Tells whether a priority group may have this name.
pub fn is_valid_group_name(name: &str) -> bool {
    let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || b"/_=-".contains(&byte);
    (1..=16).contains(&name.len()) && name.bytes().all(is_valid)
}
