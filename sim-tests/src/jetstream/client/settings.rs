//! The settings of streams and consumers, as the admin asks for them.

use crate::jetstream::oracle::{stream_name, subject_name};
use crate::jetstream::plan::{Plan, Retention, StreamPlan};

/// The settings of streams that come and go.
pub(super) const PLAIN: StreamPlan = StreamPlan {
    retention: Retention::Limits,
    memory: false,
    max_messages: 0,
    per_subject: 0,
    discard_new: false,
    subjects: 1,
    values: false,
};

/// Returns the settings of a stream.
pub(super) fn stream_config(name: &str, subjects: &str, plan: &StreamPlan) -> String {
    let limit = |limit: u64| if limit == 0 { -1 } else { limit as i64 };
    format!(
        "{{\"name\":\"{name}\",\"subjects\":[\"{subjects}\"],\"retention\":\"{}\",\"storage\":\"{}\",\"discard\":\"{}\",\
         \"max_msgs\":{},\"max_msgs_per_subject\":{},\"max_bytes\":-1,\"max_age\":0,\"max_msg_size\":-1,\"max_consumers\":-1,\
         \"num_replicas\":1,\"allow_direct\":true,\"duplicate_window\":120000000000}}",
        match plan.retention {
            Retention::Limits => "limits",
            Retention::Interest => "interest",
            Retention::WorkQueue => "workqueue",
        },
        if plan.memory { "memory" } else { "file" },
        if plan.discard_new { "new" } else { "old" },
        limit(plan.max_messages),
        limit(plan.per_subject),
    )
}

/// Returns the request that makes a consumer.
pub(super) fn consumer_config(consumer: usize, plan: &Plan) -> String {
    let config = &plan.consumers[consumer];
    let mut fields = format!(
        "\"durable_name\":\"C{consumer}\",\"ack_policy\":\"{}\",\"deliver_policy\":\"{}\",\"replay_policy\":\"instant\",\
         \"ack_wait\":{},\"max_ack_pending\":{},\"max_deliver\":-1",
        if config.ack_all { "all" } else { "explicit" },
        if config.new { "new" } else { "all" },
        config.ack_wait,
        config.max_pending,
    );
    if let Some(filter) = config.filter {
        fields.push_str(&format!(",\"filter_subject\":\"{}\"", subject_name(config.stream, filter)));
    }
    if config.push {
        fields.push_str(&format!(",\"deliver_subject\":\"deliver.C{consumer}\""));
    }
    if config.memory {
        fields.push_str(",\"mem_storage\":true");
    }
    format!("{{\"stream_name\":\"{}\",\"config\":{{{fields}}}}}", stream_name(config.stream))
}
