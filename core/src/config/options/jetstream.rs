//! Streams: what the server spends on them, and what an account may have of that.

use std::time::Duration;

use super::Secret;
use crate::storage::Cipher;

/// The settings of a server with streams.
///
/// Where they are stored is [`Options::store_dir`](super::Options::store_dir), their domain
/// [`Options::jetstream_domain`](super::Options::jetstream_domain).
#[derive(Clone, Debug, PartialEq)]
pub struct JetStreamOptions {
    /// The most bytes of streams in memory, 0 for none at all; `None` leaves it to the executable to ask the machine.
    pub max_memory: Option<u64>,
    /// The most bytes of streams in files, 0 for none at all; `None` leaves it to the executable to ask the disk.
    pub max_store: Option<u64>,
    /// When what was written is synced to the disk.
    pub sync: SyncPolicy,
    /// What stored bytes are encrypted with; `None` is plain.
    pub encryption_key: Option<Secret>,
    /// What was stored before may be encrypted with; it is written again with `encryption_key`.
    pub previous_encryption_key: Option<Secret>,
    /// How bytes are encrypted if there is a key; never [`Cipher::None`].
    pub cipher: Cipher,
    /// Refuses requests with fields that nobody knows or of wrong types, instead of ignoring those fields.
    pub strict: bool,
    /// The prefix of the server tag that no two replicas of a stream may share, in lower case.
    pub unique_tag: Option<String>,
    /// Whether a cluster behind a leaf node is part of the other side's: as written, checked only in clusters.
    pub extension_hint: Option<String>,
    /// The most bytes that may be under way to replicas that catch up.
    pub max_outstanding_catchup: u64,
    /// The most API requests that may wait.
    pub request_queue_limit: u64,
    /// The most API requests for information that may wait.
    pub info_queue_limit: u64,
    /// The most messages that may wait for one stream; `None` is no limit.
    pub max_buffered_msgs: Option<u64>,
    /// The most bytes of messages that may wait for one stream; `None` is no limit.
    pub max_buffered_size: Option<u64>,
    /// After how many entries the log of the catalogue is compacted; `None` leaves that to the server.
    pub meta_compact: Option<u64>,
    /// After how many bytes the log of the catalogue is compacted; `None` leaves that to the server.
    pub meta_compact_size: Option<u64>,
    /// Compacts the log of the catalogue without a thread of its own.
    pub meta_compact_sync: bool,
    /// How long after it began to read all blocks of all streams, to find damage, a shard begins again; `None` for never.
    pub scrub_interval: Option<Duration>,
    /// How many bytes a second a shard reads for that at most.
    pub scrub_rate: u64,
    /// How many operations on files may be under way at once.
    pub max_concurrent_io: u16,
    /// What no stream or consumer of the server may exceed.
    pub limits: JetStreamLimits,
}

impl JetStreamOptions {
    /// How many API requests may wait unless told otherwise.
    pub const DEFAULT_REQUEST_QUEUE_LIMIT: u64 = 10_000;

    /// How often the blocks of streams are read for damage unless told otherwise.
    pub const DEFAULT_SCRUB_INTERVAL: Duration = Duration::from_secs(24 * 60 * 60);

    /// How many bytes a second a shard reads for that unless told otherwise: 650 GB a day.
    pub const DEFAULT_SCRUB_RATE: u64 = 8 * 1024 * 1024;

    /// Returns how to encrypt: [`Cipher::None`] without a key.
    pub fn store_cipher(&self) -> Cipher {
        if self.encryption_key.is_some() { self.cipher } else { Cipher::None }
    }
}

/// What `jetstream: enabled` means.
impl Default for JetStreamOptions {
    fn default() -> Self {
        JetStreamOptions {
            max_memory: None,
            max_store: None,
            sync: SyncPolicy::Always,
            encryption_key: None,
            previous_encryption_key: None,
            cipher: Cipher::ChaCha20Poly1305,
            strict: true,
            unique_tag: None,
            extension_hint: None,
            max_outstanding_catchup: 64 * 1024 * 1024,
            request_queue_limit: JetStreamOptions::DEFAULT_REQUEST_QUEUE_LIMIT,
            info_queue_limit: JetStreamOptions::DEFAULT_REQUEST_QUEUE_LIMIT,
            max_buffered_msgs: Some(100_000),
            max_buffered_size: Some(128 * 1024 * 1024),
            meta_compact: None,
            meta_compact_size: None,
            meta_compact_sync: false,
            scrub_interval: Some(JetStreamOptions::DEFAULT_SCRUB_INTERVAL),
            scrub_rate: JetStreamOptions::DEFAULT_SCRUB_RATE,
            max_concurrent_io: 4096,
            limits: JetStreamLimits::default(),
        }
    }
}

/// When what was written is synced to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Before it is acknowledged.
    ///
    /// Differs: the reference's default is an interval of [`SyncPolicy::REFERENCE_INTERVAL`], and what it
    /// acknowledged since the last sync is lost with the power.
    #[default]
    Always,
    /// This often; until then it is acknowledged, and lost with the power.
    Interval(Duration),
}

impl SyncPolicy {
    /// How often the reference syncs unless told otherwise, and what it reports beside `always`.
    pub const REFERENCE_INTERVAL: Duration = Duration::from_secs(120);

    /// Returns the interval that monitoring reports.
    pub fn interval(self) -> Duration {
        match self {
            SyncPolicy::Always => SyncPolicy::REFERENCE_INTERVAL,
            SyncPolicy::Interval(interval) => interval,
        }
    }
}

/// What no stream or consumer of the server may exceed; `None` is no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JetStreamLimits {
    /// The most messages of one pull request.
    pub max_request_batch: Option<u32>,
    /// The most messages of one consumer that may be delivered and not acknowledged.
    pub max_ack_pending: Option<u32>,
    /// The most streams and consumers with replicas.
    pub max_ha_assets: Option<u32>,
    /// The longest window for duplicates.
    pub duplicate_window: Option<Duration>,
    /// The most consumers of a stream that doesn't say how many.
    pub default_max_consumers: Option<u32>,
    /// The most batches that may be open on one stream; `None` leaves it to the server.
    pub max_batch_inflight_per_stream: Option<u32>,
    /// The most batches that may be open on the server; `None` leaves it to the server.
    pub max_batch_inflight_total: Option<u32>,
    /// The most messages of one batch; `None` leaves it to the server.
    pub max_batch_size: Option<u32>,
    /// How long a batch may stay open; `None` leaves it to the server.
    pub max_batch_timeout: Option<Duration>,
}

impl JetStreamLimits {
    /// How many consumers a stream may have unless told otherwise.
    pub const DEFAULT_MAX_CONSUMERS: u32 = 1000;
}

impl Default for JetStreamLimits {
    fn default() -> Self {
        JetStreamLimits {
            max_request_batch: None,
            max_ack_pending: None,
            max_ha_assets: None,
            duplicate_window: None,
            default_max_consumers: Some(JetStreamLimits::DEFAULT_MAX_CONSUMERS),
            max_batch_inflight_per_stream: None,
            max_batch_inflight_total: None,
            max_batch_size: None,
            max_batch_timeout: None,
        }
    }
}

/// What the streams of one account may take together; `None` is no limit but the server's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountJetStream {
    /// The most bytes in memory; 0 for none at all.
    pub max_memory: Option<u64>,
    /// The most bytes in files; 0 for none at all.
    pub max_store: Option<u64>,
    /// The most streams.
    pub max_streams: Option<u32>,
    /// The most consumers of one stream.
    pub max_consumers: Option<u32>,
    /// The most messages of one consumer that may be delivered and not acknowledged.
    pub max_ack_pending: Option<u32>,
    /// The most bytes of one stream in memory.
    pub memory_max_stream_bytes: Option<u64>,
    /// The most bytes of one stream in files.
    pub store_max_stream_bytes: Option<u64>,
    /// Refuses streams that don't say how many bytes they take at most.
    pub max_bytes_required: bool,
}
