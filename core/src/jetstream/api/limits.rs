//! What a server and an account allow.

use serde::Serialize;

use super::error::{ApiError, ErrorKind};
use super::stream_config::StreamConfig;
use crate::storage::StorageKind;
use crate::time::Duration;

/// The longest description of a stream or consumer, in bytes.
pub const MAX_DESCRIPTION_LEN: usize = 4 * 1024;
/// The most bytes of keys and values of metadata together.
pub const MAX_METADATA_LEN: usize = 128 * 1024;
/// The most replicas.
pub const MAX_REPLICAS: i64 = 5;

/// What a server allows every stream and consumer, as `jetstream { limits {} }` says. Zero is no limit.
///
/// Source: nats-server `server/opts.go`, `JSLimitOpts`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerLimits {
    /// The most messages that a pull request may ask for.
    pub max_request_batch: i64,
    /// The most messages that may be delivered and not acknowledged.
    pub max_ack_pending: i64,
    /// The longest time in which message ids are remembered.
    pub duplicate_window: Duration,
    /// The most consumers of a stream that doesn't say so itself.
    pub default_max_consumers: i64,
}

/// What an account is allowed. Zero is no limit, but for storage: there it is -1.
///
/// Source: nats-server `server/jetstream.go`, `JetStreamAccountLimits`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLimits {
    /// Bytes of messages in memory.
    pub max_memory: i64,
    /// Bytes of messages in files.
    #[serde(rename = "max_storage")]
    pub max_store: i64,
    /// Streams.
    pub max_streams: i64,
    /// Consumers of a stream.
    pub max_consumers: i64,
    /// Messages that may be delivered and not acknowledged, for each consumer.
    pub max_ack_pending: i64,
    /// Bytes that a stream in memory may reserve.
    pub memory_max_stream_bytes: i64,
    /// Bytes that a stream in files may reserve.
    #[serde(rename = "storage_max_stream_bytes")]
    pub store_max_stream_bytes: i64,
    /// Whether a stream has to say how many bytes it wants.
    pub max_bytes_required: bool,
}

impl AccountLimits {
    /// What an account gets of which nothing is said: everything.
    pub const UNLIMITED: AccountLimits = AccountLimits {
        max_memory: -1,
        max_store: -1,
        max_streams: -1,
        max_consumers: -1,
        max_ack_pending: -1,
        memory_max_stream_bytes: -1,
        store_max_stream_bytes: -1,
        max_bytes_required: false,
    };

    /// The limits of an account that is given nothing, as answers show limits that don't apply.
    pub const NONE: AccountLimits = AccountLimits {
        max_memory: 0,
        max_store: 0,
        max_streams: 0,
        max_consumers: 0,
        max_ack_pending: 0,
        memory_max_stream_bytes: 0,
        store_max_stream_bytes: 0,
        max_bytes_required: false,
    };
}

/// What is reserved of one kind of storage, and what there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Bytes that other streams of the account have reserved.
    pub account: i64,
    /// Bytes that all streams of the server have reserved.
    pub server: i64,
    /// Bytes that the server has.
    pub server_max: i64,
}

/// Checks that an account and a server can take a stream that reserves `bytes`; less than zero is a stream that reserves
/// nothing, for which there has to be one byte.
///
/// Source: nats-server `server/jetstream.go`, `checkLimits` and `checkBytesLimits`.
///
/// # Errors
///
/// [`ErrorKind::MaximumConsumersLimit`], [`ErrorKind::MemoryResourcesExceeded`], [`ErrorKind::StorageResourcesExceeded`].
pub fn check_reservation(
    config: &StreamConfig,
    bytes: i64,
    limits: &AccountLimits,
    reserved: Reservation,
) -> Result<(), ApiError> {
    if config.max_consumers > 0 && limits.max_consumers > 0 && config.max_consumers > limits.max_consumers {
        return Err(ErrorKind::MaximumConsumersLimit.error());
    }
    let bytes = if bytes < 0 { 1 } else { bytes };
    let (account_max, kind) = match config.storage {
        StorageKind::Memory => (limits.max_memory, ErrorKind::MemoryResourcesExceeded),
        StorageKind::File => (limits.max_store, ErrorKind::StorageResourcesExceeded),
    };
    let account_bytes = bytes.saturating_mul(config.replicas.max(1));
    let fits = |used: i64, wanted: i64, max: i64| used <= max && wanted <= max - used;
    if account_max >= 0 && !fits(reserved.account, account_bytes, account_max) {
        return Err(kind.error());
    }
    match fits(reserved.server, bytes, reserved.server_max) {
        true => Ok(()),
        false => Err(kind.error()),
    }
}

/// As [`check_reservation`], for a stream that has reserved bytes already: only what it wants more is asked of the server.
///
/// Source: nats-server `server/stream.go`, `configUpdateCheck`.
///
/// # Errors
///
/// As [`check_reservation`].
pub fn check_reservation_of_update(
    old: &StreamConfig,
    new: &StreamConfig,
    limits: &AccountLimits,
    reserved: Reservation,
) -> Result<(), ApiError> {
    let more = (new.max_bytes.max(0) - old.max_bytes.max(0)).max(0);
    let kept = new.max_bytes.saturating_sub(more).saturating_mul(new.replicas.max(1));
    let reserved = Reservation { account: reserved.account.saturating_add(kept), ..reserved };
    check_reservation(new, more, limits, reserved)
}

/// Returns how many consumers a stream may have; `None` for as many as it gets.
///
/// Source: nats-server `server/consumer.go`, `addConsumerWithAssignment`; the default is that of 2.15.1.
pub fn max_consumers(config: &StreamConfig, server: &ServerLimits, account: &AccountLimits) -> Option<u64> {
    let mut max = config.max_consumers;
    if max <= 0 || (account.max_consumers > 0 && account.max_consumers < max) {
        max = account.max_consumers;
    }
    if max <= 0 {
        max = server.default_max_consumers;
    }
    u64::try_from(max).ok().filter(|max| *max > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(storage: StorageKind, max_bytes: i64) -> StreamConfig {
        StreamConfig { storage, max_bytes, replicas: 1, max_consumers: -1, ..StreamConfig::default() }
    }

    fn outcome(result: Result<(), ApiError>) -> u16 {
        result.err().map_or(0, |error| error.err_code)
    }

    #[test]
    fn what_is_reserved_has_to_fit_the_account_and_the_server() {
        let limits = AccountLimits { max_memory: 100, max_store: 200, ..AccountLimits::UNLIMITED };
        let check = |storage, bytes, account, server| {
            let reserved = Reservation { account, server, server_max: 1000 };
            outcome(check_reservation(&config(storage, bytes), bytes, &limits, reserved))
        };
        use StorageKind::{File, Memory};
        assert_eq!(check(Memory, 100, 0, 0), 0);
        assert_eq!(check(Memory, 101, 0, 0), 10028);
        assert_eq!(check(Memory, -1, 99, 0), 0);
        assert_eq!(check(Memory, -1, 100, 0), 10028);
        assert_eq!(check(File, 200, 0, 0), 0);
        assert_eq!(check(File, 101, 100, 0), 10047);
        assert_eq!(check(File, 1, 0, 1000), 10047);
        assert_eq!(check(File, 0, 0, 1001), 10047);
        assert_eq!(check(File, i64::MAX, i64::MAX, i64::MAX), 10047);
    }

    #[test]
    fn an_update_asks_the_server_only_for_what_it_wants_more() {
        let limits = AccountLimits { max_store: 200, ..AccountLimits::UNLIMITED };
        let check = |old, new, account, server| {
            let reserved = Reservation { account, server, server_max: 1000 };
            let (old, new) = (config(StorageKind::File, old), config(StorageKind::File, new));
            outcome(check_reservation_of_update(&old, &new, &limits, reserved))
        };
        assert_eq!(check(100, 200, 0, 900), 0);
        assert_eq!(check(100, 200, 0, 901), 10047);
        assert_eq!(check(100, 201, 0, 100), 10047);
        assert_eq!(check(100, 50, 100, 1000), 0);
        assert_eq!(check(-1, 200, 1, 0), 10047);
    }

    #[test]
    fn the_stricter_limit_of_consumers_counts() {
        let max = |stream, server, account| {
            let config = StreamConfig { max_consumers: stream, ..StreamConfig::default() };
            let server = ServerLimits { default_max_consumers: server, ..ServerLimits::default() };
            max_consumers(&config, &server, &AccountLimits { max_consumers: account, ..AccountLimits::NONE })
        };
        assert_eq!(max(-1, 0, -1), None);
        assert_eq!(max(-1, 1000, 0), Some(1000));
        assert_eq!(max(5, 3, -1), Some(5));
        assert_eq!(max(5, 3, 4), Some(4));
        assert_eq!(max(-1, 3, 4), Some(4));
        let limited = AccountLimits { max_consumers: 2, ..AccountLimits::UNLIMITED };
        let config = StreamConfig { max_consumers: 3, ..StreamConfig::default() };
        let reserved = Reservation { server_max: 10, ..Reservation::default() };
        assert_eq!(outcome(check_reservation(&config, 1, &limited, reserved)), 10026);
    }
}
