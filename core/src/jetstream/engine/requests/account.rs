//! What an account is allowed.

use super::JetStream;
use crate::config::AccountJetStream;
use crate::jetstream::api::limits::AccountLimits;

impl JetStream {
    /// Returns what an account is allowed.
    pub(in super::super) fn limits_of(&self, account: u32) -> AccountLimits {
        let Some(limits) = self.accounts[account as usize].limits else { return AccountLimits::NONE };
        limits_of(&limits)
    }
}

/// Returns what an account is allowed, in the API's numbers: -1 is no limit.
fn limits_of(limits: &AccountJetStream) -> AccountLimits {
    let bytes = |limit: Option<u64>| limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    let count = |limit: Option<u32>| limit.map_or(-1, i64::from);
    AccountLimits {
        max_memory: bytes(limits.max_memory),
        max_store: bytes(limits.max_store),
        max_streams: count(limits.max_streams),
        max_consumers: count(limits.max_consumers),
        max_ack_pending: count(limits.max_ack_pending),
        memory_max_stream_bytes: bytes(limits.memory_max_stream_bytes),
        store_max_stream_bytes: bytes(limits.store_max_stream_bytes),
        max_bytes_required: limits.max_bytes_required,
    }
}
