//! The checks of streams, consumers, key-value and object stores and services that each client has to pass.

use crate::clients_servers::{Servers, Suite};

/// The names of all checks, in the order in which clients do them.
pub(crate) const CHECKS: [&str; 72] = [
    "account_info",
    "stream_create_info",
    "stream_update",
    "stream_names_list",
    "stream_delete",
    "stream_errors",
    "stream_subjects",
    "publish_ack",
    "publish_async",
    "publish_no_stream",
    "publish_dedup",
    "publish_expected",
    "publish_discard_new",
    "message_ttl",
    "message_get",
    "message_delete",
    "direct_get",
    "purge",
    "limits",
    "work_queue",
    "interest",
    "transform_republish",
    "consumer_create_info",
    "consumer_update",
    "consumer_names_list",
    "consumer_delete",
    "consumer_errors",
    "pull_fetch",
    "pull_expires",
    "pull_consume",
    "pull_max_bytes",
    "pull_consumer_deleted",
    "push_consumer",
    "push_queue_group",
    "push_flow_control",
    "ordered_consumer",
    "ordered_consumer_recreated",
    "ack_double",
    "ack_removes",
    "ack_nak",
    "ack_term",
    "ack_in_progress",
    "ack_wait",
    "ack_none_all",
    "max_deliver",
    "backoff",
    "max_ack_pending",
    "filters",
    "deliver_policies",
    "headers_only",
    "pause",
    "inactive_threshold",
    "kv_put_get",
    "kv_create_update",
    "kv_delete_purge",
    "kv_history",
    "kv_keys",
    "kv_watch",
    "kv_ttl",
    "kv_limit_markers",
    "kv_status",
    "object_put_get",
    "object_list_delete",
    "object_replace",
    "object_links",
    "object_watch",
    "object_seal",
    "service_endpoints",
    "service_discovery",
    "service_stats",
    "restart_stop",
    "restart_kill",
];

const ACK_REMOVES: (&str, &str) =
    ("ack_removes", "a double ack is answered before the stream of a work queue has removed the message");

/// What natrix is known to fail with nats-py, and why.
const PYTHON_FAILURES: &[(&str, &str)] = &[ACK_REMOVES];
/// What natrix is known to fail with nats.js, and why.
const NODE_FAILURES: &[(&str, &str)] = &[ACK_REMOVES];
/// What natrix is known to fail with async-nats, and why.
const RUST_FAILURES: &[(&str, &str)] = &[ACK_REMOVES];

pub(crate) const PYTHON: Suite = suite(PYTHON_FAILURES);
pub(crate) const NODE: Suite = suite(NODE_FAILURES);
pub(crate) const RUST: Suite = suite(RUST_FAILURES);

const fn suite(known_failures: &'static [(&'static str, &'static str)]) -> Suite {
    Suite { checks: &CHECKS, known_failures, start: Servers::start_jetstream }
}
