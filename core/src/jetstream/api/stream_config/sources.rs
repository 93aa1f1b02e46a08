//! Whether a stream's mirror and sources make sense by themselves.
//!
//! What depends on the streams that are named (cycles, sizes of messages, direct gets) is asked by whoever has them.
//!
//! Source: nats-server `server/stream.go`, `checkStreamCfg`.

use std::collections::BTreeSet;

use super::check::invalid;
use super::{ExternalStream, StreamConfig, StreamConsumerSource, StreamSource, SubjectTransformConfig};
use crate::jetstream::api::error::{ApiError, ErrorKind};
use crate::jetstream::api::subject::is_valid_asset_name;
use crate::protocol::quote::quote;
use crate::subject::{
    is_literal, is_subset_match, is_valid_publish_subject, is_valid_subject, subjects_collide,
    validate_mapping,
};

pub(super) fn check(config: &StreamConfig) -> Result<(), ApiError> {
    if let Some(mirror) = &config.mirror {
        check_mirror(config, mirror)?;
    }
    if !config.sources.is_empty() && config.allow_message_schedules {
        return Err(ErrorKind::SourceWithMessageSchedules.error());
    }
    let (mut identities, mut consumers) = (BTreeSet::new(), BTreeSet::new());
    for source in &config.sources {
        if !is_valid_asset_name(&source.name) {
            return Err(ErrorKind::SourceInvalidStreamName.error());
        }
        if !identities.insert(Identity::of(source)) {
            return Err(ErrorKind::SourceDuplicateDetected.error());
        }
        check_source(source)?;
        let external = source.external.as_ref().map(|external| &external.api_prefix);
        let consumer = source.consumer.as_ref().map(|consumer| &consumer.name);
        if consumer.is_some() && !consumers.insert((&source.name, external, consumer)) {
            return Err(ErrorKind::SourceDurableConsumerDuplicateDetected.error());
        }
    }
    let streams = config.mirror.iter().chain(&config.sources);
    check_prefixes(streams.filter_map(|stream| stream.external.as_ref()))
}

fn check_mirror(config: &StreamConfig, mirror: &StreamSource) -> Result<(), ApiError> {
    let conflicts = [
        (config.first_sequence > 0, ErrorKind::MirrorWithFirstSequence),
        (!config.subjects.is_empty(), ErrorKind::MirrorWithSubjects),
        (!config.sources.is_empty(), ErrorKind::MirrorWithSources),
        (config.allow_message_counter, ErrorKind::MirrorWithCounters),
        (config.allow_atomic_publish, ErrorKind::MirrorWithAtomicPublish),
        (config.allow_batch_publish, ErrorKind::MirrorWithBatchPublish),
        (config.allow_message_schedules, ErrorKind::MirrorWithMessageSchedules),
    ];
    if let Some((_, kind)) = conflicts.iter().find(|(conflicts, _)| *conflicts) {
        return Err(kind.error());
    }
    if mirror.consumer.as_ref().is_some_and(|consumer| !is_valid_consumer(mirror, consumer)) {
        return Err(ErrorKind::MirrorDurableConsumerConfigInvalid.error());
    }
    if !mirror.filter_subject.is_empty() && !mirror.subject_transforms.is_empty() {
        return Err(ErrorKind::MirrorMultipleFiltersNotAllowed.error());
    }
    if !config.subject_delete_marker_ttl.is_zero() {
        return Err(invalid("subject delete markers forbidden on mirrors"));
    }
    for (place, transform) in mirror.subject_transforms.iter().enumerate() {
        let kinds = (ErrorKind::MirrorInvalidSubjectFilter, ErrorKind::MirrorInvalidTransformDestination);
        check_transform(transform, kinds)?;
        let mut others = others(&mirror.subject_transforms, place);
        if others.any(|other| subjects_collide(transform.source.as_bytes(), other.source.as_bytes())) {
            return Err(ErrorKind::MirrorOverlappingSubjectFilters.error());
        }
    }
    match mirror.external.is_none() && !is_valid_asset_name(&mirror.name) {
        true => Err(ErrorKind::MirrorInvalidStreamName.error()),
        false => Ok(()),
    }
}

fn check_source(source: &StreamSource) -> Result<(), ApiError> {
    if !source.filter_subject.is_empty() && !source.subject_transforms.is_empty() {
        return Err(ErrorKind::SourceMultipleFiltersNotAllowed.error());
    }
    for transform in &source.subject_transforms {
        let kinds = (ErrorKind::SourceInvalidSubjectFilter, ErrorKind::SourceInvalidTransformDestination);
        check_transform(transform, kinds)?;
    }
    for (place, transform) in source.subject_transforms.iter().enumerate() {
        let mut others = others(&source.subject_transforms, place);
        if others.any(|other| is_subset_match(transform.source.as_bytes(), other.source.as_bytes())) {
            return Err(ErrorKind::SourceOverlappingSubjectFilters.error());
        }
    }
    match source.consumer.as_ref().is_some_and(|consumer| !is_valid_consumer(source, consumer)) {
        true => Err(ErrorKind::SourceDurableConsumerConfigInvalid.error()),
        false => Ok(()),
    }
}

fn others(
    transforms: &[SubjectTransformConfig],
    place: usize,
) -> impl Iterator<Item = &SubjectTransformConfig> {
    let others = transforms.iter().enumerate().filter(move |(other, _)| *other != place);
    others.map(|(_, transform)| transform)
}

/// `kinds`: what to call a wrong source, and a wrong destination.
fn check_transform(
    transform: &SubjectTransformConfig,
    kinds: (ErrorKind, ErrorKind),
) -> Result<(), ApiError> {
    if !transform.source.is_empty() && !is_valid_subject(transform.source.as_bytes()) {
        return Err(kinds.0.with(format_args!("invalid subject {}", transform.source)));
    }
    validate_mapping(&transform.source, &transform.destination).map_err(|error| kinds.1.with(error))
}

/// A consumer that is given says itself where it starts and what it wants.
fn is_valid_consumer(source: &StreamSource, consumer: &StreamConsumerSource) -> bool {
    let deliver = consumer.deliver_subject.as_bytes();
    is_valid_asset_name(&consumer.name)
        && is_literal(deliver)
        && is_valid_subject(deliver)
        && source.start_sequence == 0
        && source.start_time.is_none()
        && source.filter_subject.is_empty()
}

/// What makes two sources the same one.
///
/// Source: nats-server `server/stream.go`, `composeIName`.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Identity<'a> {
    stream: &'a str,
    external: Option<&'a str>,
    consumer: Option<&'a str>,
    transforms: Vec<(&'a str, &'a str)>,
}

impl<'a> Identity<'a> {
    fn of(source: &'a StreamSource) -> Self {
        fn or_all(subject: &str) -> &str {
            if subject.is_empty() { ">" } else { subject }
        }
        let transforms = source.subject_transforms.iter();
        let mut transforms: Vec<_> =
            transforms.map(|transform| (or_all(&transform.source), or_all(&transform.destination))).collect();
        if transforms.is_empty() {
            transforms.push((or_all(&source.filter_subject), ">"));
        }
        Identity {
            stream: &source.name,
            external: source.external.as_ref().map(|external| external.api_prefix.as_str()),
            consumer: source.consumer.as_ref().map(|consumer| consumer.name.as_str()),
            transforms,
        }
    }
}

fn check_prefixes<'a>(externals: impl Iterator<Item = &'a ExternalStream> + Clone) -> Result<(), ApiError> {
    for external in externals.clone().filter(|external| !external.deliver_prefix.is_empty()) {
        if !is_valid_publish_subject(external.deliver_prefix.as_bytes()) {
            return Err(ErrorKind::StreamInvalidExternalDeliverySubject.with(&external.deliver_prefix));
        }
    }
    for prefix in externals.map(|external| &external.api_prefix).filter(|prefix| !prefix.is_empty()) {
        if !is_valid_publish_subject(prefix.as_bytes()) {
            let prefix = quote(prefix.as_bytes());
            let text =
                format_args!("stream external api prefix {prefix} must be a valid subject without wildcards");
            return Err(invalid(text));
        }
        if subjects_collide(prefix.as_bytes(), b"$JS.API") {
            return Err(ErrorKind::StreamExternalApiOverlap.with_all(&[prefix, &"$JS.API"]));
        }
    }
    Ok(())
}
