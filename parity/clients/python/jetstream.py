"""Checks of nats-py, unmodified, of streams, consumers, key-value and object stores and services.

How it talks to the test, `checks.py` says.
"""

import asyncio
import sys

import consumers
import services
import stores
import streams
from checks import jetstream, run

CHECKS = [
    streams.account_info,
    streams.stream_create_info,
    streams.stream_update,
    streams.stream_names_list,
    streams.stream_delete,
    streams.stream_errors,
    streams.stream_subjects,
    streams.publish_ack,
    streams.publish_async,
    streams.publish_no_stream,
    streams.publish_dedup,
    streams.publish_expected,
    streams.publish_discard_new,
    streams.message_ttl,
    streams.message_get,
    streams.message_delete,
    streams.direct_get,
    streams.purge,
    streams.limits,
    streams.work_queue,
    streams.interest,
    streams.transform_republish,
    consumers.consumer_create_info,
    consumers.consumer_update,
    consumers.consumer_names_list,
    consumers.consumer_delete,
    consumers.consumer_errors,
    consumers.pull_fetch,
    consumers.pull_expires,
    consumers.pull_consume,
    consumers.pull_max_bytes,
    consumers.pull_consumer_deleted,
    consumers.push_consumer,
    consumers.push_queue_group,
    consumers.push_flow_control,
    consumers.ordered_consumer,
    consumers.ordered_consumer_recreated,
    consumers.ack_double,
    consumers.ack_removes,
    consumers.ack_nak,
    consumers.ack_term,
    consumers.ack_in_progress,
    consumers.ack_wait,
    consumers.ack_none_all,
    consumers.max_deliver,
    consumers.backoff,
    consumers.max_ack_pending,
    consumers.filters,
    consumers.deliver_policies,
    consumers.headers_only,
    consumers.pause,
    consumers.inactive_threshold,
    stores.kv_put_get,
    stores.kv_create_update,
    stores.kv_delete_purge,
    stores.kv_history,
    stores.kv_keys,
    stores.kv_watch,
    stores.kv_ttl,
    stores.kv_limit_markers,
    stores.kv_status,
    stores.object_put_get,
    stores.object_list_delete,
    stores.object_replace,
    stores.object_links,
    stores.object_watch,
    stores.object_seal,
    services.service_endpoints,
    services.service_discovery,
    services.service_stats,
    services.restart_stop,
    services.restart_kill,
]

only = sys.argv[2:]
chosen = {each.__name__: jetstream(each) for each in CHECKS if not only or each.__name__ in only}
sys.exit(asyncio.run(run(chosen, limit=60)))
