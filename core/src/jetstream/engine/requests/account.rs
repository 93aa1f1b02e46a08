//! `$JS.API.INFO`: what an account has and may have.

use super::{Asked, Exchange, JetStream};
use crate::config::AccountJetStream;
use crate::jetstream::api::limits::{AccountLimits, Reservation};
use crate::jetstream::api::response::{AccountInfoBody, AccountStats, ApiStats, Tier};
use crate::storage::StorageKind;
use crate::time::Now;

impl JetStream {
    pub(super) fn account_info(&mut self, now: Now, exchange: &mut Exchange, asked: &Asked) {
        let result =
            self.admit(asked).map(|()| AccountInfoBody { stats: Some(self.account_stats(asked.account)) });
        self.respond(now, exchange, asked, &result);
    }

    fn account_stats(&self, account: u32) -> AccountStats {
        let assets = &self.accounts[account as usize];
        let mut total = Tier {
            memory: 0,
            store: 0,
            reserved_memory: 0,
            reserved_store: 0,
            streams: assets.streams.len() as u64,
            consumers: 0,
            limits: self.limits_of(account),
        };
        for key in assets.streams.values() {
            let stream = &self.streams[*key];
            let reserved = u64::try_from(stream.config.max_bytes).unwrap_or(0);
            total.consumers += stream.consumers.len() as u64;
            match stream.config.storage {
                StorageKind::Memory => {
                    total.memory += stream.bytes;
                    total.reserved_memory += reserved;
                }
                StorageKind::File => {
                    total.store += stream.bytes;
                    total.reserved_store += reserved;
                }
            }
        }
        AccountStats {
            total,
            domain: self.domain.clone(),
            // This request is one of them once it is answered.
            api: ApiStats::new(assets.api_total, assets.api_errors),
            tiers: std::collections::BTreeMap::new(),
        }
    }

    /// Returns what an account is allowed.
    pub(in super::super) fn limits_of(&self, account: u32) -> AccountLimits {
        let Some(limits) = self.accounts[account as usize].limits else { return AccountLimits::NONE };
        limits_of(&limits)
    }

    /// Returns what is reserved of a kind of storage, without what one stream has.
    pub(in super::super) fn reserved(
        &self,
        account: u32,
        kind: StorageKind,
        but: Option<usize>,
    ) -> Reservation {
        let mut reserved = Reservation { server_max: self.server_max(kind), ..Reservation::default() };
        for (key, stream) in &self.streams {
            if stream.config.storage != kind || Some(key) == but || stream.config.max_bytes <= 0 {
                continue;
            }
            reserved.server = reserved.server.saturating_add(stream.config.max_bytes);
            if stream.account == account {
                reserved.account = reserved.account.saturating_add(stream.config.max_bytes);
            }
        }
        reserved
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
