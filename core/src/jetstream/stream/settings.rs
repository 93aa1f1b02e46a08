//! What of a stream's settings its machine acts on, worked out once.

use bytes::Bytes;

use super::super::api::pub_ack::PubAckTemplate;
use super::super::api::stream_config::StreamConfig;
use crate::storage::{Discard, Retention, StorageKind, StoreConfig};
use crate::subject::{SubjectTransform, TransformError};
use crate::time::Duration;

/// Where stored messages are published again.
#[derive(Clone, Debug)]
pub(super) struct Republish {
    /// What their subjects become; `None` for what they are.
    pub(super) transform: Option<SubjectTransform>,
    /// Whether payloads are left out.
    pub(super) headers_only: bool,
}

/// The settings that a stream's machine acts on.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) name: Bytes,
    /// What publishers are answered.
    pub(super) ack: PubAckTemplate,
    pub(super) kind: StorageKind,
    pub(super) store: StoreConfig,
    pub(super) transform: Option<SubjectTransform>,
    pub(super) republish: Option<Republish>,
    pub(super) max_message_size: Option<usize>,
    pub(super) duplicate_window: Duration,
    pub(super) no_ack: bool,
    pub(super) sealed: bool,
    pub(super) deny_delete: bool,
    pub(super) deny_purge: bool,
    pub(super) allow_rollup: bool,
    pub(super) allow_message_ttl: bool,
    /// What it listens to: schedules publish to these, too.
    pub(super) subjects: Vec<String>,
}

impl Settings {
    /// Works out the settings of a valid stream, in the server's JetStream domain (empty for none).
    ///
    /// # Errors
    ///
    /// [`TransformError`] if a subject transform makes no sense, which a valid stream hasn't got.
    pub fn new(config: &StreamConfig, domain: &str) -> Result<Self, TransformError> {
        let transform = config.subject_transform.as_ref();
        let transform = transform.map(|it| SubjectTransform::new(&it.source, &it.destination)).transpose()?;
        let republish = config.republish.as_ref().map(|it| {
            let transform = SubjectTransform::new(&it.source, &it.destination)?;
            Ok(Republish { transform, headers_only: it.headers_only })
        });
        Ok(Settings {
            name: Bytes::copy_from_slice(config.name.as_bytes()),
            ack: PubAckTemplate::new(&config.name, domain),
            kind: config.storage,
            store: store_config(config),
            transform: transform.flatten(),
            republish: republish.transpose()?,
            max_message_size: usize::try_from(config.max_message_size).ok().filter(|size| *size > 0),
            duplicate_window: config.duplicate_window,
            no_ack: config.no_ack,
            sealed: config.sealed,
            deny_delete: config.deny_delete,
            deny_purge: config.deny_purge,
            allow_rollup: config.allow_rollup && !config.deny_purge,
            allow_message_ttl: config.allow_message_ttl,
            subjects: config.subjects.clone(),
        })
    }

    /// Returns the stream's name.
    pub fn name(&self) -> &Bytes {
        &self.name
    }

    /// Returns what the stream's store is told to be.
    pub fn store(&self) -> &StoreConfig {
        &self.store
    }

    /// Tells whether messages go when consumers have them.
    pub(super) fn retains_by_interest(&self) -> bool {
        self.store.retention != Retention::Limits
    }

    /// Tells whether messages go by themselves when their time is over.
    pub(super) fn expires(&self) -> bool {
        !self.store.max_age.is_zero() || self.store.allow_message_ttl
    }

    /// Tells whether a decision may need to know how many messages a subject has, whatever a publisher asks for.
    pub(super) fn counts_subjects(&self) -> bool {
        let StoreConfig { discard, max_messages_per_subject, max_messages, max_bytes, .. } = self.store;
        let limited = self.store.discard_new_per_subject || max_messages > 0 || max_bytes > 0;
        discard == Discard::New && max_messages_per_subject > 0 && limited
    }

    /// Tells whether a stored message may push out the oldest of the stream.
    pub(super) fn evicts(&self) -> bool {
        self.store.discard == Discard::Old && (self.store.max_messages > 0 || self.store.max_bytes > 0)
    }
}

/// What a store is told of a stream: a limit of -1 or 0 is none.
fn store_config(config: &StreamConfig) -> StoreConfig {
    let limit = |value: i64| u64::try_from(value).unwrap_or(0);
    StoreConfig {
        retention: config.retention,
        max_messages: limit(config.max_messages),
        max_bytes: limit(config.max_bytes),
        max_age: config.max_age,
        max_messages_per_subject: limit(config.max_messages_per_subject),
        discard: config.discard,
        discard_new_per_subject: config.discard_new_per_subject,
        first_sequence: config.first_sequence,
        allow_message_ttl: config.allow_message_ttl,
        allow_schedules: config.allow_message_schedules,
        subject_delete_marker_ttl: config.subject_delete_marker_ttl,
        compression: config.compression,
        block_size: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_has_two_spellings() {
        let config =
            StreamConfig { max_messages: -1, max_bytes: 0, max_message_size: -1, ..StreamConfig::default() };
        let settings = Settings::new(&config, "").unwrap();
        assert_eq!((settings.store.max_messages, settings.store.max_bytes), (0, 0));
        assert_eq!(settings.max_message_size, None);
    }
}
