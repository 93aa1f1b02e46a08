//! A stream's configuration as requests say it.

use super::*;
use crate::jetstream::api::read::{Keys, Negatives, ReadJson, can_not_unmarshal, list, optional, part, word};
use crate::protocol::json::{JsonError, Member};

/// A request to create or update a stream.
///
/// Source: nats-server `server/stream.go`, `StreamConfigRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamRequest {
    /// What the stream shall be.
    pub config: StreamConfig,
    /// Whether to refuse what would be changed to something that makes sense.
    pub pedantic: bool,
    /// Which durations were negative.
    pub negatives: Negatives,
}

impl From<StreamConfig> for StreamRequest {
    fn from(config: StreamConfig) -> Self {
        StreamRequest { config, ..StreamRequest::default() }
    }
}

impl ReadJson for StreamRequest {
    const GO_TYPE: &'static str = "server.StreamConfigRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        let (config, negatives) = (&mut self.config, &mut self.negatives);
        match member.key() {
            "name" => member.string(&mut config.name),
            "description" => member.string(&mut config.description),
            "subjects" => member.strings(&mut config.subjects),
            "retention" => read_retention(member, &mut config.retention),
            "max_consumers" => member.integer(&mut config.max_consumers),
            "max_msgs" => member.number(&mut config.max_messages, "int64"),
            "max_bytes" => member.number(&mut config.max_bytes, "int64"),
            "max_age" => negatives.duration(member, "max_age", &mut config.max_age),
            "max_msgs_per_subject" => member.number(&mut config.max_messages_per_subject, "int64"),
            "max_msg_size" => member.number(&mut config.max_message_size, "int32"),
            "discard" => read_discard(member, &mut config.discard),
            "storage" => {
                let words = [("file", StorageKind::File), ("memory", StorageKind::Memory)];
                word(member, &words, &mut config.storage, can_not_unmarshal)
            }
            "num_replicas" => member.integer(&mut config.replicas),
            "no_ack" => member.boolean(&mut config.no_ack),
            "duplicate_window" => {
                negatives.duration(member, "duplicate_window", &mut config.duplicate_window)
            }
            "placement" => optional(&mut config.placement, member, keys),
            "mirror" => optional(&mut config.mirror, member, keys),
            "sources" => list(&mut config.sources, member, "[]*server.StreamSource", keys),
            "compression" => read_compression(member, &mut config.compression),
            "first_seq" => member.number(&mut config.first_sequence, "uint64"),
            "subject_transform" => optional(&mut config.subject_transform, member, keys),
            "republish" => optional(&mut config.republish, member, keys),
            "allow_direct" => member.boolean(&mut config.allow_direct),
            "mirror_direct" => member.boolean(&mut config.mirror_direct),
            "discard_new_per_subject" => member.boolean(&mut config.discard_new_per_subject),
            "sealed" => member.boolean(&mut config.sealed),
            "deny_delete" => member.boolean(&mut config.deny_delete),
            "deny_purge" => member.boolean(&mut config.deny_purge),
            "allow_rollup_hdrs" => member.boolean(&mut config.allow_rollup),
            "consumer_limits" => part(&mut config.consumer_limits, member, keys),
            "allow_msg_ttl" => member.boolean(&mut config.allow_message_ttl),
            "subject_delete_marker_ttl" => {
                let field = &mut config.subject_delete_marker_ttl;
                negatives.duration(member, "subject_delete_marker_ttl", field)
            }
            "allow_msg_counter" => member.boolean(&mut config.allow_message_counter),
            "allow_atomic" => member.boolean(&mut config.allow_atomic_publish),
            "allow_msg_schedules" => member.boolean(&mut config.allow_message_schedules),
            "persist_mode" => {
                let words = [
                    ("default", PersistMode::Default),
                    ("", PersistMode::Default),
                    ("async", PersistMode::Async),
                ];
                word(member, &words, &mut config.persist_mode, can_not_unmarshal)
            }
            "allow_batched" => member.boolean(&mut config.allow_batch_publish),
            "metadata" => member.texts(&mut config.metadata),
            "pedantic" => member.boolean(&mut self.pedantic),
            _ => keys.unknown(member),
        }
    }
}

fn read_retention(member: &Member<'_>, field: &mut Retention) -> Result<(), JsonError> {
    let words = [
        ("limits", Retention::Limits),
        ("interest", Retention::Interest),
        ("workqueue", Retention::WorkQueue),
    ];
    word(member, &words, field, can_not_unmarshal)
}

/// The only one of these words that may be written in capitals.
fn read_discard(member: &Member<'_>, field: &mut Discard) -> Result<(), JsonError> {
    match member.raw().to_ascii_lowercase().as_slice() {
        b"\"old\"" => *field = Discard::Old,
        b"\"new\"" => *field = Discard::New,
        _ => return Err(JsonError::Value(can_not_unmarshal(member.raw()))),
    }
    Ok(())
}

/// The only one of these words that is read as a string first.
fn read_compression(member: &Member<'_>, field: &mut Compression) -> Result<(), JsonError> {
    let mut said = String::new();
    member.string(&mut said).map_err(|error| match error {
        JsonError::Member { found, .. } => {
            JsonError::Value(format!("json: cannot unmarshal {found} into Go value of type string"))
        }
        other => other,
    })?;
    match said.as_str() {
        "s2" => *field = Compression::S2,
        "none" => *field = Compression::None,
        _ => return Err(JsonError::Value("unknown compression algorithm".to_owned())),
    }
    Ok(())
}

impl ReadJson for Placement {
    const GO_TYPE: &'static str = "server.Placement";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "cluster" => member.string(&mut self.cluster),
            "tags" if member.raw() == b"null" => {
                self.tags = None;
                Ok(())
            }
            "tags" => member.strings(self.tags.get_or_insert_default()),
            "preferred" => member.string(&mut self.preferred),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for StreamSource {
    const GO_TYPE: &'static str = "server.StreamSource";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "name" => member.string(&mut self.name),
            "opt_start_seq" => member.number(&mut self.start_sequence, "uint64"),
            "opt_start_time" => member.optional_time(&mut self.start_time),
            "filter_subject" => member.string(&mut self.filter_subject),
            "subject_transforms" => {
                list(&mut self.subject_transforms, member, "[]server.SubjectTransformConfig", keys)
            }
            "external" => optional(&mut self.external, member, keys),
            "consumer" => optional(&mut self.consumer, member, keys),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for ExternalStream {
    const GO_TYPE: &'static str = "server.ExternalStream";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "api" => member.string(&mut self.api_prefix),
            "deliver" => member.string(&mut self.deliver_prefix),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for StreamConsumerSource {
    const GO_TYPE: &'static str = "server.StreamConsumerSource";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "name" => member.string(&mut self.name),
            "deliver_subject" => member.string(&mut self.deliver_subject),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for SubjectTransformConfig {
    const GO_TYPE: &'static str = "server.SubjectTransformConfig";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "src" => member.string(&mut self.source),
            "dest" => member.string(&mut self.destination),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for Republish {
    const GO_TYPE: &'static str = "server.RePublish";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "src" => member.string(&mut self.source),
            "dest" => member.string(&mut self.destination),
            "headers_only" => member.boolean(&mut self.headers_only),
            _ => keys.unknown(member),
        }
    }
}

impl ReadJson for StreamConsumerLimits {
    const GO_TYPE: &'static str = "server.StreamConsumerLimits";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "inactive_threshold" => member.number(&mut self.inactive_threshold_ns, "time.Duration"),
            "max_ack_pending" => member.integer(&mut self.max_ack_pending),
            _ => keys.unknown(member),
        }
    }
}
