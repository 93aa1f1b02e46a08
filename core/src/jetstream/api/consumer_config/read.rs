//! A consumer's configuration as requests say it.

use super::*;
use crate::jetstream::api::read::{Keys, Negatives, ReadJson, can_not_unmarshal, part, word};
use crate::protocol::json::{JsonError, Member};

/// A request to create or update a consumer.
///
/// Source: nats-server `server/consumer.go`, `CreateConsumerRequest`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumerRequest {
    /// The name of the stream.
    pub stream: String,
    /// What the consumer shall be.
    pub config: ConsumerConfig,
    /// Whether it may be there already, or must be.
    pub action: ConsumerAction,
    /// Whether to refuse what would be changed to something that makes sense.
    pub pedantic: bool,
    /// Which durations were negative.
    pub negatives: Negatives,
}

/// Whether a consumer may be there already, or must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ConsumerAction {
    /// It may.
    #[default]
    CreateOrUpdate,
    /// It must.
    Update,
    /// It must not, unless it is the same.
    Create,
}

impl ReadJson for ConsumerRequest {
    const GO_TYPE: &'static str = "server.CreateConsumerRequest";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        match member.key() {
            "stream_name" => member.string(&mut self.stream),
            "config" => {
                let mut reading =
                    Reading { config: std::mem::take(&mut self.config), negatives: self.negatives.clone() };
                part(&mut reading, member, keys)?;
                (self.config, self.negatives) = (reading.config, reading.negatives);
                Ok(())
            }
            "action" => {
                let words = [
                    ("", ConsumerAction::CreateOrUpdate),
                    ("create", ConsumerAction::Create),
                    ("update", ConsumerAction::Update),
                ];
                word(member, &words, &mut self.action, |raw| {
                    format!("unknown consumer action: {}", String::from_utf8_lossy(raw))
                })
            }
            "pedantic" => member.boolean(&mut self.pedantic),
            _ => keys.unknown(member),
        }
    }
}

impl ConsumerRequest {
    /// Takes what stands behind one key of a configuration alone.
    pub(in crate::jetstream::api) fn read_config(
        &mut self,
        member: &Member<'_>,
        keys: Keys,
    ) -> Result<(), JsonError> {
        let config = std::mem::take(&mut self.config);
        let mut reading = Reading { config, negatives: std::mem::take(&mut self.negatives) };
        let read = reading.read(member, keys);
        (self.config, self.negatives) = (reading.config, reading.negatives);
        read
    }
}

/// A configuration, and what its durations can't say.
#[derive(Default)]
struct Reading {
    config: ConsumerConfig,
    negatives: Negatives,
}

impl ReadJson for Reading {
    const GO_TYPE: &'static str = "server.ConsumerConfig";

    fn read(&mut self, member: &Member<'_>, keys: Keys) -> Result<(), JsonError> {
        let Reading { config, negatives } = self;
        match member.key() {
            "durable_name" => member.string(&mut config.durable),
            "name" => member.string(&mut config.name),
            "description" => member.string(&mut config.description),
            "deliver_policy" => read_deliver_policy(member, &mut config.deliver_policy),
            "opt_start_seq" => member.number(&mut config.start_sequence, "uint64"),
            "opt_start_time" => member.optional_time(&mut config.start_time),
            "ack_policy" => read_ack_policy(member, &mut config.ack_policy),
            "ack_wait" => negatives.duration(member, "ack_wait", &mut config.ack_wait),
            "max_deliver" => member.integer(&mut config.max_deliver),
            "backoff" => negatives.durations(member, "backoff", &mut config.backoff),
            "filter_subject" => member.string(&mut config.filter_subject),
            "filter_subjects" => member.strings(&mut config.filter_subjects),
            "replay_policy" => {
                let words = [("instant", ReplayPolicy::Instant), ("original", ReplayPolicy::Original)];
                word(member, &words, &mut config.replay_policy, can_not_unmarshal)
            }
            "rate_limit_bps" => member.number(&mut config.rate_limit, "uint64"),
            "sample_freq" => member.string(&mut config.sample_frequency),
            "max_waiting" => member.integer(&mut config.max_waiting),
            "max_ack_pending" => member.integer(&mut config.max_ack_pending),
            "flow_control" => member.boolean(&mut config.flow_control),
            "headers_only" => member.boolean(&mut config.headers_only),
            "max_batch" => member.integer(&mut config.max_request_batch),
            "max_expires" => negatives.duration(member, "max_expires", &mut config.max_request_expires),
            "max_bytes" => member.integer(&mut config.max_request_max_bytes),
            "deliver_subject" => member.string(&mut config.deliver_subject),
            "deliver_group" => member.string(&mut config.deliver_group),
            "idle_heartbeat" => negatives.duration(member, "idle_heartbeat", &mut config.heartbeat),
            "inactive_threshold" => {
                negatives.duration(member, "inactive_threshold", &mut config.inactive_threshold)
            }
            "num_replicas" => member.integer(&mut config.replicas),
            "mem_storage" => member.boolean(&mut config.memory_storage),
            "direct" => member.boolean(&mut config.direct),
            "sourcing" => member.boolean(&mut config.sourcing),
            "metadata" => member.texts(&mut config.metadata),
            "pause_until" => member.optional_time(&mut config.pause_until),
            "priority_groups" => member.strings(&mut config.priority_groups),
            "priority_policy" => read_priority_policy(member, &mut config.priority_policy),
            "priority_timeout" => negatives.duration(member, "priority_timeout", &mut config.pinned_ttl),
            _ => keys.unknown(member),
        }
    }
}

fn read_deliver_policy(member: &Member<'_>, field: &mut DeliverPolicy) -> Result<(), JsonError> {
    let words = [
        ("all", DeliverPolicy::All),
        ("undefined", DeliverPolicy::All),
        ("last", DeliverPolicy::Last),
        ("new", DeliverPolicy::New),
        ("by_start_sequence", DeliverPolicy::ByStartSequence),
        ("by_start_time", DeliverPolicy::ByStartTime),
        ("last_per_subject", DeliverPolicy::LastPerSubject),
    ];
    word(member, &words, field, can_not_unmarshal)
}

fn read_ack_policy(member: &Member<'_>, field: &mut AckPolicy) -> Result<(), JsonError> {
    let words = [
        ("none", AckPolicy::None),
        ("all", AckPolicy::All),
        ("explicit", AckPolicy::Explicit),
        ("flow_control", AckPolicy::FlowControl),
    ];
    word(member, &words, field, can_not_unmarshal)
}

fn read_priority_policy(member: &Member<'_>, field: &mut PriorityPolicy) -> Result<(), JsonError> {
    let words = [
        ("none", PriorityPolicy::None),
        ("overflow", PriorityPolicy::Overflow),
        ("pinned_client", PriorityPolicy::PinnedClient),
        ("prioritized", PriorityPolicy::Prioritized),
    ];
    word(member, &words, field, |raw| format!("unknown priority policy: {}", String::from_utf8_lossy(raw)))
}
