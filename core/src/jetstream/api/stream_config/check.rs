//! Whether a stream's configuration makes sense, and what it becomes by itself.
//!
//! The order of the checks is the reference's: of two faults, clients see the one that it would see first.
//!
//! Source: nats-server `server/stream.go`, `checkStreamCfg`; `server/jetstream_api.go`, `jsStreamCreateRequest`.

use super::read::StreamRequest;
use super::{PersistMode, Placement, StreamConfig, sources};
use crate::config::format_duration;
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::limits::{
    AccountLimits, MAX_DESCRIPTION_LEN, MAX_METADATA_LEN, MAX_REPLICAS, ServerLimits,
};
use crate::jetstream::api::subject::{MAX_NAME_LEN, check_stream_name, is_valid_asset_name};
use crate::jetstream::api::{level, write};
use crate::protocol::quote::quote;
use crate::storage::{Discard, Retention, StorageKind};
use crate::subject::{
    SubjectTransform, is_subset_match, is_valid_subject, subjects_collide, validate_mapping,
};
use crate::time::Duration;

/// The duplicate window of a stream that doesn't say.
const DEFAULT_DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The shortest duplicate window and the shortest age, unless there is none.
const SHORTEST: Duration = Duration::from_millis(100);

pub(super) fn invalid(text: impl std::fmt::Display) -> ApiError {
    ErrorKind::StreamInvalidConfig.with(text)
}

fn refuse(is_wrong: bool, text: &str) -> Result<(), ApiError> {
    if is_wrong { Err(invalid(text)) } else { Ok(()) }
}

impl StreamRequest {
    /// Checks what concerns the request to create the stream `name` alone, and says in its metadata which level it needs.
    ///
    /// # Errors
    ///
    /// The reference's, in its order.
    pub fn prepare_create(&mut self, name: &str) -> Result<(), ApiError> {
        level::set_stream_level(&mut self.config);
        check_stream_name(name, &self.config.name)?;
        refuse(self.config.sealed, "stream configuration for create can not be sealed")?;
        refuse(
            self.config.mirror_direct && self.config.mirror.is_none(),
            "stream has no mirror but does have mirror direct",
        )
    }

    /// Checks the configuration and fills in what it doesn't say.
    ///
    /// What depends on other streams is not asked here: whether subjects overlap, whether there is room.
    ///
    /// # Errors
    ///
    /// The reference's, in its order.
    pub fn check(self, server: &ServerLimits, account: &AccountLimits) -> Result<StreamConfig, ApiError> {
        let StreamRequest { mut config, pedantic, negatives } = self;
        check_names(&config)?;
        fill_replicas(&mut config)?;
        fill_limits(&mut config, pedantic)?;
        refuse(negatives.has("max_age"), "max age can not be negative")?;
        refuse(!config.max_age.is_zero() && config.max_age < SHORTEST, "max age needs to be >= 100ms")?;
        let window_is_negative = negatives.has("duplicate_window");
        fill_duplicate_window(&mut config, server, pedantic, window_is_negative)?;
        refuse(config.deny_purge && config.allow_rollup, "roll-ups require the purge permission")?;
        check_counter(&config)?;
        check_discard_new_per_subject(&config)?;
        fill_delete_markers(&mut config, pedantic)?;
        refuse(negatives.has("subject_delete_marker_ttl"), "subject delete marker TTL must not be negative")?;
        fill_schedules(&mut config, pedantic)?;
        check_persist_mode(&config)?;
        sources::check(&config)?;
        fill_subjects(&mut config)?;
        check_max_bytes(&config, account)?;
        check_transform(&config)?;
        fill_republish(&mut config, pedantic)?;
        config.placement = config.placement.filter(|placement| *placement != Placement::default());
        let has_preferred =
            config.placement.as_ref().is_some_and(|placement| !placement.preferred.is_empty());
        refuse(has_preferred, "preferred server not permitted in placement")?;
        Ok(config)
    }
}

impl StreamConfig {
    /// Says which feature of the configuration this server doesn't have yet, if one. A server that took the configuration without
    /// it would do something else than was asked for.
    ///
    /// Differs: the reference has them all.
    pub fn check_features(&self) -> Result<(), ApiError> {
        let features = [
            (self.mirror.is_some(), "mirror"),
            (!self.sources.is_empty(), "sources"),
            (self.allow_message_counter, "allow_msg_counter"),
            (self.allow_atomic_publish, "allow_atomic"),
            (self.allow_batch_publish, "allow_batched"),
        ];
        match features.iter().find(|(wanted, _)| *wanted) {
            Some((_, field)) => Err(invalid(format_args!("{field} is not supported by this server yet"))),
            None => Ok(()),
        }
    }

    /// Checks that one server alone can have the stream.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::StreamReplicasNotSupported`].
    pub fn check_single_server(&self) -> Result<(), ApiError> {
        match self.replicas > 1 {
            true => Err(ErrorKind::StreamReplicasNotSupported.error()),
            false => Ok(()),
        }
    }
}

fn check_names(config: &StreamConfig) -> Result<(), ApiError> {
    refuse(
        !is_valid_asset_name(&config.name),
        r"stream name is required and can not contain '.', '*', '>', '\', '/'",
    )?;
    if config.name.len() > MAX_NAME_LEN {
        return Err(invalid(format_args!("stream name is too long, maximum allowed is {MAX_NAME_LEN}")));
    }
    if config.description.len() > MAX_DESCRIPTION_LEN {
        let text = format_args!("stream description is too long, maximum allowed is {MAX_DESCRIPTION_LEN}");
        return Err(invalid(text));
    }
    if write::metadata_len(&config.metadata) > MAX_METADATA_LEN {
        let text = format_args!("stream metadata exceeds maximum size of {MAX_METADATA_LEN} bytes");
        return Err(invalid(text));
    }
    Ok(())
}

fn fill_replicas(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.replicas == 0 {
        config.replicas = 1;
    }
    if config.replicas > MAX_REPLICAS {
        return Err(invalid(format_args!("maximum replicas is {MAX_REPLICAS}")));
    }
    match config.replicas < 0 {
        true => Err(ErrorKind::ReplicasCountCannotBeNegative.error()),
        false => Ok(()),
    }
}

fn fill_limits(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let mut size = i64::from(config.max_message_size);
    let limits = [
        ("max_msgs", &mut config.max_messages),
        ("max_msgs_per_subject", &mut config.max_messages_per_subject),
        ("max_bytes", &mut config.max_bytes),
        ("max_msg_size", &mut size),
        ("max_consumers", &mut config.max_consumers),
    ];
    for (key, limit) in limits {
        if pedantic && *limit < -1 {
            return Err(ErrorKind::Pedantic.with(format_args!("{key} must be set to -1")));
        }
        if *limit <= 0 {
            *limit = -1;
        }
    }
    config.max_message_size = i32::try_from(size).unwrap_or(-1);
    Ok(())
}

fn fill_duplicate_window(
    config: &mut StreamConfig,
    server: &ServerLimits,
    pedantic: bool,
    is_negative: bool,
) -> Result<(), ApiError> {
    let says_nothing = config.duplicate_window.is_zero() && !is_negative;
    if says_nothing && config.mirror.is_none() && config.sources.is_empty() {
        let mut window = DEFAULT_DUPLICATE_WINDOW;
        if !server.duplicate_window.is_zero() && window > server.duplicate_window {
            if pedantic {
                let text = "duplicate window limits are higher than current limits";
                return Err(ErrorKind::Pedantic.with(text));
            }
            window = server.duplicate_window;
        }
        if !config.max_age.is_zero() && config.max_age < window {
            if pedantic {
                return Err(ErrorKind::Pedantic.with("duplicate window cannot be bigger than max age"));
            }
            window = config.max_age;
        }
        config.duplicate_window = window;
    }
    refuse(is_negative, "duplicates window can not be negative")?;
    refuse(
        !config.max_age.is_zero() && config.duplicate_window > config.max_age,
        "duplicates window can not be larger then max age",
    )?;
    let limit = server.duplicate_window;
    if !limit.is_zero() && config.duplicate_window > limit {
        let limit = format_duration(write::nanos(limit));
        let text = format_args!("duplicates window can not be larger then server limit of {limit}");
        return Err(invalid(text));
    }
    refuse(
        !config.duplicate_window.is_zero() && config.duplicate_window < SHORTEST,
        "duplicates window needs to be >= 100ms",
    )
}

fn check_counter(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.allow_message_counter {
        return Ok(());
    }
    refuse(config.discard == Discard::New, "counter stream cannot use discard new")?;
    refuse(config.allow_message_ttl, "counter stream cannot use message TTLs")?;
    refuse(config.allow_message_schedules, "counter stream cannot use message schedules")?;
    refuse(config.retention != Retention::Limits, "counter stream can only use limits retention")
}

pub(super) fn check_discard_new_per_subject(config: &StreamConfig) -> Result<(), ApiError> {
    if !config.discard_new_per_subject {
        return Ok(());
    }
    refuse(config.discard != Discard::New, "discard new per subject requires discard new policy to be set")?;
    refuse(config.max_messages_per_subject <= 0, "discard new per subject requires max msgs per subject > 0")
}

fn fill_delete_markers(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if config.subject_delete_marker_ttl.is_zero() {
        return Ok(());
    }
    refuse(
        config.subject_delete_marker_ttl < Duration::from_secs(1),
        "subject delete marker TTL must be at least 1 second",
    )?;
    if !config.allow_message_ttl {
        refuse(pedantic, "subject delete marker cannot be set if message TTLs are disabled")?;
        config.allow_message_ttl = true;
    }
    if !config.allow_rollup {
        refuse(pedantic, "subject delete marker cannot be set if roll-ups are disabled")?;
        config.allow_rollup = true;
        config.deny_purge = false;
    }
    Ok(())
}

fn fill_schedules(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    if !config.allow_message_schedules {
        return Ok(());
    }
    refuse(config.discard == Discard::New, "message scheduling cannot use discard new")?;
    if !config.allow_rollup {
        refuse(pedantic, "message scheduling cannot be set if roll-ups are disabled")?;
        config.allow_rollup = true;
        config.deny_purge = false;
    }
    Ok(())
}

fn check_persist_mode(config: &StreamConfig) -> Result<(), ApiError> {
    if config.persist_mode != PersistMode::Async {
        return Ok(());
    }
    refuse(config.storage != StorageKind::File, "async persist mode is only supported on file storage")?;
    refuse(config.replicas > 1, "async persist mode is not supported on replicated streams")?;
    refuse(config.allow_atomic_publish, "async persist mode is not supported with atomic batch publish")
}

fn fill_subjects(config: &mut StreamConfig) -> Result<(), ApiError> {
    if config.subjects.is_empty() {
        if config.mirror.is_none() && config.sources.is_empty() {
            config.subjects.push(config.name.clone());
        }
        return Ok(());
    }
    if config.mirror.is_some() {
        return Err(ErrorKind::MirrorWithSubjects.error());
    }
    for (place, subject) in config.subjects.iter().enumerate() {
        check_subject(subject.as_bytes())?;
        refuse(config.subjects[..place].contains(subject), "duplicate subjects detected")?;
        check_capture(config, subject)?;
        let mut others = config.subjects[place + 1..].iter();
        if let Some(other) = others.find(|other| subjects_collide(other.as_bytes(), subject.as_bytes())) {
            let (subject, other) = (quote(subject.as_bytes()), quote(other.as_bytes()));
            return Err(invalid(format_args!("subject {subject} overlaps with {other}")));
        }
    }
    Ok(())
}

fn check_subject(subject: &[u8]) -> Result<(), ApiError> {
    refuse(!is_valid_subject(subject), "invalid subject")
}

/// A stream that answers publishers must not store what it is asked and answers itself.
fn check_capture(config: &StreamConfig, subject: &str) -> Result<(), ApiError> {
    if subject == ">" {
        refuse(!config.no_ack, "capturing all subjects requires no-ack to be true")?;
        refuse(config.replicas != 1, "capturing all subjects requires replicas of 1")?;
    }
    if config.no_ack {
        return Ok(());
    }
    let subject = subject.as_bytes();
    let is_api = [&b"$JS.>"[..], b"$JSC.>", b"$NRG.>"].iter().any(|space| subjects_collide(subject, space));
    refuse(
        is_api && !is_subset_match(subject, b"$JS.EVENT.>"),
        "subjects that overlap with jetstream api require no-ack to be true",
    )?;
    refuse(
        subjects_collide(subject, b"$SYS.>") && !is_subset_match(subject, b"$SYS.ACCOUNT.>"),
        "subjects that overlap with system api require no-ack to be true",
    )
}

fn check_max_bytes(config: &StreamConfig, account: &AccountLimits) -> Result<(), ApiError> {
    let limit = match config.storage {
        StorageKind::Memory => account.memory_max_stream_bytes,
        StorageKind::File => account.store_max_stream_bytes,
    };
    if account.max_bytes_required && config.max_bytes <= 0 {
        return Err(ErrorKind::StreamMaxBytesRequired.error());
    }
    match limit > 0 && config.max_bytes > limit {
        true => Err(ErrorKind::StreamMaxStreamBytesExceeded.error()),
        false => Ok(()),
    }
}

fn check_transform(config: &StreamConfig) -> Result<(), ApiError> {
    let Some(transform) = &config.subject_transform else { return Ok(()) };
    if !transform.source.is_empty() && !is_valid_subject(transform.source.as_bytes()) {
        let text = format_args!("invalid subject {}", transform.source);
        return Err(ErrorKind::StreamTransformInvalidSource.with(text));
    }
    validate_mapping(&transform.source, &transform.destination)
        .map_err(|error| ErrorKind::StreamTransformInvalidDestination.with(error))
}

fn fill_republish(config: &mut StreamConfig, pedantic: bool) -> Result<(), ApiError> {
    let Some(republish) = &mut config.republish else { return Ok(()) };
    if republish.source.is_empty() {
        if pedantic {
            return Err(ErrorKind::Pedantic.with("republish source can not be empty"));
        }
        republish.source = ">".to_owned();
    }
    // From all to all would be a cycle, unless the stream changes its only subject to another one.
    if republish.source == ">"
        && republish.destination == ">"
        && let Some(transform) = &config.subject_transform
        && let [subject] = config.subjects.as_slice()
        && transform.source == *subject
    {
        if pedantic {
            return Err(ErrorKind::Pedantic.with("implicit republish based on subject transform"));
        }
        republish.source.clone_from(&transform.destination);
        republish.destination.clone_from(&transform.destination);
    }
    let destination = republish.destination.as_bytes();
    refuse(
        config.subjects.iter().any(|subject| subjects_collide(destination, subject.as_bytes())),
        "stream configuration for republish destination forms a cycle",
    )?;
    if SubjectTransform::new(&republish.source, &republish.destination).is_err() {
        return Err(invalid(format_args!(
            "stream configuration for republish with transform from '{}' to '{}' not valid",
            republish.source, republish.destination
        )));
    }
    Ok(())
}
